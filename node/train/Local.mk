noinst_LIBRARIES += %D%/libtrain.a
%C%_libtrain_a_SOURCES = \
	%D%/aggregate.c %D%/aggregate.h \
	%D%/ask.c \
	%D%/base.c %D%/base.h \
	%D%/confine.c %D%/confine.h \
	%D%/coordinator.c %D%/coordinator_internal.h \
	%D%/encoding.c %D%/encoding.h \
	%D%/evaluate.c %D%/evaluate.h \
	%D%/figures.c \
	%D%/internal.h \
	%D%/learner.c %D%/learner.h \
	%D%/learner_external.c \
	%D%/learner_notes.c \
	%D%/learner_table.c \
	%D%/library.c %D%/library.h \
	%D%/lineage.c %D%/lineage.h \
	%D%/message.c %D%/message.h \
	%D%/model.c \
	%D%/offers.c \
	%D%/plan.c %D%/plan.h \
	%D%/prepare.c \
	%D%/rows.c %D%/rows.h \
	%D%/service.c %D%/service.h \
	%D%/share.c \
	%D%/site_internal.h \
	%D%/site_offer.c \
	%D%/keeping.c \
	%D%/lease.c \
	%D%/limits.c \
	%D%/site_round.c \
	%D%/site_control.c \
	%D%/site_work.c \
	%D%/statement.c %D%/statement.h \
	%D%/sweep.c \
	%D%/state.c %D%/state.h \
	%D%/table.c %D%/table.h \
	%D%/trainer.c %D%/trainer.h \
	%D%/trainer_message.c %D%/trainer_message.h \
	%D%/use.c %D%/use.h \
	%D%/vector.c %D%/vector.h \
	%D%/vector_writer.c %D%/vector_writer.h \
	%D%/verify.c
EXTRA_DIST += %D%/README.md
# The same bits for a replay on any processor: no fused multiplications.
%C%_libtrain_a_CFLAGS = $(AM_CFLAGS) -ffp-contract=off
