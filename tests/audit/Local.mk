# Statistical audits of privacy. make check runs them for some seconds each; make audit-privacy MINUTES=n for long, also against a daemon.
AUDIT_SOURCES = %D%/audit.c %D%/audit.h %D%/case.c %D%/judge.c %D%/judge.h %D%/mechanisms.c %D%/paths.c %D%/training.c tests/unit/store/dataset.h
AUDIT_LIBS = $(MODEL_LIBS) node/query/libquery.a node/privacy/libprivacy.a $(STORE_LIBS) -lm -lpthread
AUDITS = %D%/audit_privacy %D%/audit_halved %D%/audit_unbounded
check_PROGRAMS += $(AUDITS)
TESTS += $(AUDITS)
%C%_audit_privacy_SOURCES = $(AUDIT_SOURCES) %D%/plain.c
%C%_audit_privacy_LDADD = $(AUDIT_LIBS)
# The same with a bug that is planted by the linker.
%C%_audit_halved_SOURCES = $(AUDIT_SOURCES) %D%/halved.c
%C%_audit_halved_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=privacy_noise_gaussian
%C%_audit_halved_LDADD = $(AUDIT_LIBS)
%C%_audit_unbounded_SOURCES = $(AUDIT_SOURCES) %D%/unbounded.c
%C%_audit_unbounded_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=query_bound_filter
%C%_audit_unbounded_LDADD = $(AUDIT_LIBS)
# What audit_daemon.py collected.
EXTRA_PROGRAMS += %D%/audit_stream
CLEANFILES += %D%/audit_stream
%C%_audit_stream_SOURCES = %D%/stream.c %D%/audit.h %D%/case.c %D%/judge.c %D%/judge.h
%C%_audit_stream_LDADD = $(PROTO_LIBS) -lm
EXTRA_DIST += %D%/audit_daemon.py

.PHONY: audit-privacy
audit-privacy: all $(AUDITS) %D%/audit_stream
	MINUTES=$(MINUTES) %D%/audit_privacy
	MINUTES= %D%/audit_halved
	MINUTES= %D%/audit_unbounded
	top_builddir=$(abs_top_builddir) top_srcdir=$(abs_top_srcdir) MINUTES=$(MINUTES) python3 -B $(srcdir)/%D%/audit_daemon.py
