# unit/store
EXTRA_DIST += %D%/dataset.h
check_PROGRAMS += %D%/test_column %D%/test_reader_csv %D%/test_partition
TESTS += %D%/test_column %D%/test_reader_csv %D%/test_partition
%C%_test_column_SOURCES = %D%/test_column.c
%C%_test_column_LDADD = $(STORE_LIBS) $(CMOCKA_LIBS)
%C%_test_reader_csv_SOURCES = %D%/test_reader_csv.c
%C%_test_reader_csv_LDADD = $(STORE_LIBS) $(CMOCKA_LIBS)
%C%_test_partition_SOURCES = %D%/test_partition.c
%C%_test_partition_LDADD = $(STORE_LIBS) $(CMOCKA_LIBS) -lm
EXTRA_DIST += tests/vectors/data
