noinst_LIBRARIES += %D%/libquery.a
%C%_libquery_a_SOURCES = \
	%D%/admission.c %D%/admission.h \
	%D%/agreement.c %D%/agreement.h %D%/agreement_internal.h \
	%D%/agreement_consumer.c \
	%D%/agreement_provider.c \
	%D%/approval.c %D%/approval.h \
	%D%/ask.c %D%/ask.h \
	%D%/bound.c %D%/bound.h \
	%D%/clock.c %D%/clock.h \
	%D%/context.h \
	%D%/coordinates.c %D%/coordinates.h \
	%D%/damage.c %D%/damage.h \
	%D%/estimate.c %D%/estimate.h \
	%D%/execute.c %D%/execute.h \
	%D%/known.c %D%/known.h \
	%D%/message.c %D%/message.h \
	%D%/partial.c %D%/partial.h \
	%D%/project.c %D%/project.h \
	%D%/price.c %D%/price.h \
	%D%/publishers.c \
	%D%/regress.c %D%/regress.h \
	%D%/reminder.c %D%/reminder.h \
	%D%/release.c %D%/release.h \
	%D%/resolve.c %D%/resolve.h \
	%D%/share.c %D%/share.h \
	%D%/site.c %D%/site.h \
	%D%/survival.c %D%/survival.h \
	%D%/table.c %D%/table.h \
	%D%/tree.c %D%/tree.h \
	%D%/visa.c %D%/visa.h \
	%D%/wanted.c %D%/wanted.h \
	%D%/witness.c %D%/witness.h
