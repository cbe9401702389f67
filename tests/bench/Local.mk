# Benchmarks: `make bench [BENCH=scan|query|idle] [ROWS=n]`. Nothing here is built or run by `make check`.
EXTRA_PROGRAMS = %D%/scan_bench %D%/encounters_csv
%C%_scan_bench_SOURCES = %D%/scan_bench.c tests/lib/encounters.c tests/lib/encounters.h tests/unit/store/dataset.h
%C%_scan_bench_LDADD = node/query/libquery.a node/privacy/libprivacy.a $(STORE_LIBS) -lm -lpthread
%C%_encounters_csv_SOURCES = %D%/encounters_csv.c tests/lib/encounters.c tests/lib/encounters.h
%C%_encounters_csv_LDADD = -lm
