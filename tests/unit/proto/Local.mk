# unit/proto

check_PROGRAMS += %D%/test_privacy
TESTS += %D%/test_privacy
%C%_test_privacy_SOURCES = %D%/test_privacy.c tests/lib/numbers.h
%C%_test_privacy_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
EXTRA_DIST += tests/vectors/privacy

check_PROGRAMS += %D%/test_operation %D%/test_control
TESTS += %D%/test_operation %D%/test_control
%C%_test_operation_SOURCES = %D%/test_operation.c
%C%_test_operation_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_control_SOURCES = %D%/test_control.c
%C%_test_control_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
