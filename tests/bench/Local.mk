# bench
# Rates of import and scan over an encounter table; `make tests/bench/scan_bench` builds it.
EXTRA_PROGRAMS = %D%/scan_bench
%C%_scan_bench_SOURCES = %D%/scan_bench.c tests/unit/store/dataset.h
%C%_scan_bench_LDADD = $(STORE_LIBS)
