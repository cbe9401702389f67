noinst_LIBRARIES += %D%/libproto.a
%C%_libproto_a_SOURCES = \
	%D%/alloc.c %D%/alloc.h \
	%D%/body.c %D%/body.h \
	%D%/codec.c %D%/codec.h \
	%D%/derive.c %D%/derive.h \
	%D%/diseases.c \
	%D%/duo.c %D%/duo.h \
	%D%/err.c %D%/err.h \
	%D%/compare.c %D%/compare.h \
	%D%/countries.h \
	%D%/explain.c %D%/explain.h \
	%D%/geography.c %D%/geography.h \
	%D%/gossip.c %D%/gossip.h \
	%D%/hash.h \
	%D%/licence.c %D%/licence.h \
	%D%/nearest.c %D%/nearest.h \
	%D%/ontology.c %D%/ontology.h \
	%D%/policy.c %D%/policy_text.c %D%/policy.h \
	%D%/record.c %D%/record.h \
	%D%/request.c %D%/request.h \
	%D%/span.c %D%/span.h \
	%D%/spdx.c %D%/spdx.h %D%/spdx_ids.h \
	%D%/spdx_terms.c %D%/spdx_terms.h \
	%D%/time.c %D%/time.h
EXTRA_DIST += %D%/README.md

# Schema, manifest, job and query.
%C%_libproto_a_SOURCES += \
	%D%/job.c %D%/job.h \
	%D%/manifest.c %D%/manifest.h \
	%D%/mapping.c %D%/mapping.h \
	%D%/query.c %D%/query.h \
	%D%/query_bounds.c %D%/query_select.c %D%/query_binder.h \
	%D%/schema.c %D%/schema.h \
	%D%/sql.c %D%/sql.h

# lemon's parser is included by sql.c; made in the build tree and distributed, so that a release needs no lemon.
EXTRA_DIST += %D%/sql_grammar.y %D%/sql_grammar.c %D%/sql_grammar.h
MAINTAINERCLEANFILES += %D%/sql_grammar.c %D%/sql_grammar.h
%D%/sql.$(OBJEXT): %D%/sql_grammar.c %D%/sql_grammar.h
%D%/sql_grammar.c: %D%/sql_grammar.y
	$(AM_V_GEN)$(MKDIR_P) %D% && $(LEMON) -q -l -d%D% $< && touch %D%/sql_grammar.h
%D%/sql_grammar.h: %D%/sql_grammar.c ;

# Accounting of differential privacy.
%C%_libproto_a_SOURCES += \
	%D%/loss.c %D%/loss.h \
	%D%/privacy.c %D%/privacy.h \
	%D%/selection.c %D%/selection.h
%C%_libproto_a_SOURCES += %D%/pld.c %D%/pld.h

# The table of operations and the frames of the control socket.
%C%_libproto_a_SOURCES += \
	%D%/control.c %D%/control.h \
	%D%/operation.c %D%/operation.h

# Training rounds.
%C%_libproto_a_SOURCES += \
	%D%/lease.c %D%/lease.h \
	%D%/round.c %D%/round.h \
	%D%/round_site.c %D%/round_site.h

# Projects and agreements.
%C%_libproto_a_SOURCES += \
	%D%/agreement.c %D%/agreement.h \
	%D%/base64.c %D%/base64.h \
	%D%/lineage.c %D%/lineage.h \
	%D%/project.c %D%/project.h \
	%D%/visa.c %D%/visa.h
