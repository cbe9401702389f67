# unit/proto

check_PROGRAMS += %D%/test_privacy
TESTS += %D%/test_privacy
%C%_test_privacy_SOURCES = %D%/test_privacy.c tests/lib/numbers.h
%C%_test_privacy_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
EXTRA_DIST += tests/vectors/privacy tests/vectors/spdx

check_PROGRAMS += %D%/test_pld
TESTS += %D%/test_pld
%C%_test_pld_SOURCES = %D%/test_pld.c tests/lib/numbers.h
%C%_test_pld_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm

check_PROGRAMS += %D%/test_operation %D%/test_control
TESTS += %D%/test_operation %D%/test_control
%C%_test_operation_SOURCES = %D%/test_operation.c
%C%_test_operation_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_control_SOURCES = %D%/test_control.c
%C%_test_control_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm

# Codec, records, licences and the decision.
check_PROGRAMS += %D%/test_codec %D%/test_record %D%/test_spdx %D%/test_policy %D%/test_terms %D%/test_derive %D%/test_compare %D%/test_matrix %D%/test_visa
TESTS += %D%/test_codec %D%/test_record %D%/test_spdx %D%/test_policy %D%/test_terms %D%/test_derive %D%/test_compare %D%/test_matrix %D%/test_visa
%C%_test_matrix_SOURCES = %D%/test_matrix.c tests/lib/fake_hash.h tests/lib/ontology.h
%C%_test_matrix_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS)
%C%_test_visa_SOURCES = %D%/test_visa.c tests/lib/fake_hash.h tests/lib/ontology.h
%C%_test_visa_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_compare_SOURCES = %D%/test_compare.c tests/lib/terms.c tests/lib/terms.h tests/lib/fake_hash.h tests/lib/ontology.h tests/lib/seed.h
%C%_test_compare_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_derive_SOURCES = %D%/test_derive.c tests/lib/terms.c tests/lib/terms.h tests/lib/fake_hash.h tests/lib/ontology.h tests/lib/seed.h
%C%_test_derive_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_terms_SOURCES = %D%/test_terms.c tests/lib/terms.c tests/lib/terms.h tests/lib/fake_hash.h tests/lib/ontology.h tests/lib/seed.h
%C%_test_terms_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_codec_SOURCES = %D%/test_codec.c
%C%_test_codec_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS)
%C%_test_record_SOURCES = %D%/test_record.c tests/lib/fake_hash.h tests/lib/seed.h
%C%_test_record_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS)
%C%_test_spdx_SOURCES = %D%/test_spdx.c tests/lib/fake_hash.h
%C%_test_spdx_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS)
%C%_test_policy_SOURCES = %D%/test_policy.c tests/lib/fake_hash.h tests/lib/seed.h
%C%_test_policy_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm

check_PROGRAMS += %D%/test_sql
TESTS += %D%/test_sql
%C%_test_sql_SOURCES = %D%/test_sql.c tests/lib/seed.h
%C%_test_sql_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm

check_PROGRAMS += %D%/test_gossip
TESTS += %D%/test_gossip
%C%_test_gossip_SOURCES = %D%/test_gossip.c tests/lib/fake_hash.h
%C%_test_gossip_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += %D%/test_round
TESTS += %D%/test_round
%C%_test_round_SOURCES = %D%/test_round.c
%C%_test_round_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += %D%/test_loss
TESTS += %D%/test_loss
%C%_test_loss_SOURCES = %D%/test_loss.c tests/lib/numbers.h
%C%_test_loss_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
check_PROGRAMS += %D%/test_agreement
TESTS += %D%/test_agreement
%C%_test_agreement_SOURCES = %D%/test_agreement.c tests/lib/fake_hash.h
%C%_test_agreement_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
check_PROGRAMS += %D%/test_lineage
TESTS += %D%/test_lineage
%C%_test_lineage_SOURCES = %D%/test_lineage.c
%C%_test_lineage_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
