noinst_LIBRARIES += %D%/libproto.a
%C%_libproto_a_SOURCES = \
	%D%/alloc.c %D%/alloc.h \
	%D%/body.c %D%/body.h \
	%D%/codec.c %D%/codec.h \
	%D%/duo.c %D%/duo.h \
	%D%/err.c %D%/err.h \
	%D%/gossip.c %D%/gossip.h \
	%D%/hash.h \
	%D%/licence.c %D%/licence.h \
	%D%/ontology.c %D%/ontology.h \
	%D%/policy.c %D%/policy.h \
	%D%/record.c %D%/record.h \
	%D%/span.c %D%/span.h \
	%D%/spdx.c %D%/spdx.h \
	%D%/time.c %D%/time.h
EXTRA_DIST += %D%/README.md

# Schema, manifest, job and query.
%C%_libproto_a_SOURCES += \
	%D%/job.c %D%/job.h \
	%D%/manifest.c %D%/manifest.h \
	%D%/query.h \
	%D%/schema.c %D%/schema.h \
	%D%/sql.h

# Accounting of differential privacy.
%C%_libproto_a_SOURCES += %D%/privacy.c %D%/privacy.h
