# unit/proto

check_PROGRAMS += %D%/test_privacy
TESTS += %D%/test_privacy
%C%_test_privacy_SOURCES = %D%/test_privacy.c tests/lib/numbers.h
%C%_test_privacy_LDADD = $(PROTO_LIBS) $(CMOCKA_LIBS) -lm
EXTRA_DIST += tests/vectors/privacy
