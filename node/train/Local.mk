noinst_LIBRARIES += %D%/libtrain.a
%C%_libtrain_a_SOURCES = \
	%D%/coordinator.c \
	%D%/evaluate.c %D%/evaluate.h \
	%D%/internal.h \
	%D%/lineage.c %D%/lineage.h \
	%D%/message.c %D%/message.h \
	%D%/model.c \
	%D%/plan.c %D%/plan.h \
	%D%/service.c %D%/service.h \
	%D%/site.c \
	%D%/state.c %D%/state.h \
	%D%/table.c %D%/table.h
EXTRA_DIST += %D%/README.md
