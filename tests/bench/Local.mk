# Benchmarks: `make bench [BENCH=scan|import|query|round|gossip|idle|accountant|train|ner|decision] [ROWS=n LARGE=n]`. Nothing here is built or run by `make check`.
BENCH_TOOLS = %D%/bench_encoder %D%/bench_ner %D%/bench_accountant %D%/bench_decision %D%/scan_bench %D%/encounters_csv %D%/nng_fanout %D%/bench_trainer
EXTRA_PROGRAMS = $(BENCH_TOOLS)
%C%_scan_bench_SOURCES = %D%/scan_bench.c tests/lib/encounters.c tests/lib/encounters.h tests/unit/store/dataset.h
%C%_scan_bench_LDADD = node/query/libquery.a node/privacy/libprivacy.a $(STORE_LIBS) -lm -lpthread
%C%_encounters_csv_SOURCES = %D%/encounters_csv.c tests/lib/encounters.c tests/lib/encounters.h
%C%_encounters_csv_LDADD = -lm
%C%_nng_fanout_SOURCES = %D%/nng_fanout.c
%C%_nng_fanout_LDADD = $(NNG_LIBS) -lpthread
%C%_bench_encoder_SOURCES = %D%/bench_encoder.c
%C%_bench_encoder_LDADD = $(MODEL_LIBS) -lm
%C%_bench_ner_SOURCES = %D%/bench_ner.c tests/lib/seed.h
%C%_bench_ner_LDADD = $(MODEL_LIBS) -lm
%C%_bench_accountant_SOURCES = %D%/bench_accountant.c
%C%_bench_accountant_LDADD = $(PROTO_LIBS) -lm
%C%_bench_decision_SOURCES = %D%/bench_decision.c tests/lib/terms.c tests/lib/terms.h
%C%_bench_decision_LDADD = $(PROTO_LIBS) -lm
%C%_bench_trainer_SOURCES = %D%/bench_trainer.c
%C%_bench_trainer_LDADD = node/train/libtrain.a $(MODEL_LIBS) $(PROTO_LIBS) -lm
EXTRA_DIST += %D%/grpc_rounds.py %D%/bench.py %D%/ner_rounds.py %D%/report.py %D%/scan.py %D%/torch_encoder.py %D%/duckdb_bench.mjs
CLEANFILES += $(BENCH_TOOLS)

.PHONY: bench
bench: all $(BENCH_TOOLS)
	top_builddir=$(abs_top_builddir) top_srcdir=$(abs_top_srcdir) ROWS=$(ROWS) LARGE=$(LARGE) \
		python3 -B $(srcdir)/tests/bench/bench.py $(BENCH)
clean-local: clean-bench
.PHONY: clean-bench
clean-bench:
	rm -rf %D%/duckdb
