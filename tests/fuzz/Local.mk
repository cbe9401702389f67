# One target per decoder. `make check` replays the corpora (replay_NAME); with --enable-fuzzers (clang) the same sources
# become libFuzzer programs (fuzz_NAME), which `make fuzz SECONDS=n [TARGET=NAME]` builds in a tree of its own and runs.
FUZZ_TARGETS = adapter audit_export certificate chunk codec column conll control copy_row croissant csv fhir frame gossip inputs keyring ledger licence manifest mapping model_config names ndjson notes ontology package pages partial record round safetensors share spdx sql table_model token tokenizer trailer train trainer
EXTRA_DIST += $(FUZZ_TARGETS:%=%D%/corpus/%)

check_PROGRAMS += %D%/replay_certificate
TESTS += %D%/replay_certificate
%C%_replay_certificate_SOURCES = %D%/fuzz_certificate.c %D%/replay.c
%C%_replay_certificate_LDADD = $(CRYPTO_LIBS) -lm

check_PROGRAMS += %D%/replay_chunk
TESTS += %D%/replay_chunk
%C%_replay_chunk_SOURCES = %D%/fuzz_chunk.c %D%/replay.c
%C%_replay_chunk_LDADD = $(CRYPTO_LIBS) -lm

check_PROGRAMS += %D%/replay_control
TESTS += %D%/replay_control
%C%_replay_control_SOURCES = %D%/fuzz_control.c %D%/replay.c
%C%_replay_control_LDADD = $(PROTO_LIBS) -lm

check_PROGRAMS += %D%/replay_keyring
TESTS += %D%/replay_keyring
%C%_replay_keyring_SOURCES = %D%/fuzz_keyring.c %D%/replay.c
%C%_replay_keyring_LDADD = $(CRYPTO_LIBS) -lm

check_PROGRAMS += %D%/replay_ledger
TESTS += %D%/replay_ledger
%C%_replay_ledger_SOURCES = %D%/fuzz_ledger.c %D%/replay.c
%C%_replay_ledger_LDADD = $(STORE_LIBS) -lm

check_PROGRAMS += %D%/replay_manifest
TESTS += %D%/replay_manifest
%C%_replay_manifest_SOURCES = %D%/fuzz_manifest.c %D%/replay.c
%C%_replay_manifest_LDADD = node/config/libconfig.a $(STORE_LIBS) $(YAML_LIBS) -lm

check_PROGRAMS += %D%/replay_sql
TESTS += %D%/replay_sql
%C%_replay_sql_SOURCES = %D%/fuzz_sql.c %D%/replay.c
%C%_replay_sql_LDADD = $(PROTO_LIBS) -lm

check_PROGRAMS += %D%/replay_partial
TESTS += %D%/replay_partial
%C%_replay_partial_SOURCES = %D%/fuzz_partial.c %D%/replay.c
%C%_replay_partial_LDADD = node/query/libquery.a node/privacy/libprivacy.a $(STORE_LIBS) -lm -lpthread

check_PROGRAMS += %D%/replay_codec
TESTS += %D%/replay_codec
%C%_replay_codec_SOURCES = %D%/fuzz_codec.c %D%/replay.c
%C%_replay_codec_LDADD = $(PROTO_LIBS) -lm

check_PROGRAMS += %D%/replay_licence
TESTS += %D%/replay_licence
%C%_replay_licence_SOURCES = %D%/fuzz_licence.c %D%/replay.c
%C%_replay_licence_LDADD = $(PROTO_LIBS) -lm

check_PROGRAMS += %D%/replay_spdx
TESTS += %D%/replay_spdx
%C%_replay_spdx_SOURCES = %D%/fuzz_spdx.c %D%/replay.c
%C%_replay_spdx_LDADD = $(PROTO_LIBS) -lm

check_PROGRAMS += %D%/replay_croissant
TESTS += %D%/replay_croissant
%C%_replay_croissant_SOURCES = %D%/fuzz_croissant.c %D%/replay.c
%C%_replay_croissant_LDADD = node/cli/libcli.a node/config/libconfig.a $(STORE_LIBS) $(JANSSON_LIBS) $(YAML_LIBS) -lm

check_PROGRAMS += %D%/replay_names
TESTS += %D%/replay_names
%C%_replay_names_SOURCES = %D%/fuzz_names.c %D%/replay.c
%C%_replay_names_LDADD = $(PROTO_LIBS) -lm

check_PROGRAMS += %D%/replay_trailer
TESTS += %D%/replay_trailer
%C%_replay_trailer_SOURCES = %D%/fuzz_trailer.c %D%/replay.c
%C%_replay_trailer_LDADD = $(STORE_LIBS) -lm
check_PROGRAMS += %D%/replay_pages
TESTS += %D%/replay_pages
%C%_replay_pages_SOURCES = %D%/fuzz_pages.c %D%/replay.c
%C%_replay_pages_LDADD = $(STORE_LIBS) -lm
check_PROGRAMS += %D%/replay_record
TESTS += %D%/replay_record
%C%_replay_record_SOURCES = %D%/fuzz_record.c %D%/replay.c tests/lib/fake_hash.h
%C%_replay_record_LDADD = $(PROTO_LIBS) -lm

check_PROGRAMS += %D%/replay_csv
TESTS += %D%/replay_csv
%C%_replay_csv_SOURCES = %D%/fuzz_csv.c %D%/replay.c
%C%_replay_csv_LDADD = $(STORE_LIBS) -lm

check_PROGRAMS += %D%/replay_conll
TESTS += %D%/replay_conll
%C%_replay_conll_SOURCES = %D%/fuzz_conll.c %D%/replay.c
%C%_replay_conll_LDADD = $(STORE_LIBS) -lm

check_PROGRAMS += %D%/replay_ndjson
TESTS += %D%/replay_ndjson
%C%_replay_ndjson_SOURCES = %D%/fuzz_ndjson.c %D%/replay.c
%C%_replay_ndjson_LDADD = $(STORE_LIBS) -lm

check_PROGRAMS += %D%/replay_column
TESTS += %D%/replay_column
%C%_replay_column_SOURCES = %D%/fuzz_column.c %D%/replay.c
%C%_replay_column_LDADD = $(STORE_LIBS) -lm

check_PROGRAMS += %D%/replay_audit_export
TESTS += %D%/replay_audit_export
%C%_replay_audit_export_SOURCES = %D%/fuzz_audit_export.c %D%/replay.c
%C%_replay_audit_export_LDADD = $(STORE_LIBS) -lm

check_PROGRAMS += %D%/replay_frame
TESTS += %D%/replay_frame
%C%_replay_frame_SOURCES = %D%/fuzz_frame.c %D%/replay.c
%C%_replay_frame_LDADD = node/peer/libpeer.a $(STORE_LIBS) $(NNG_LIBS) $(UV_LIBS) -lm -lpthread

check_PROGRAMS += %D%/replay_gossip
TESTS += %D%/replay_gossip
%C%_replay_gossip_SOURCES = %D%/fuzz_gossip.c %D%/replay.c
%C%_replay_gossip_LDADD = $(PROTO_LIBS) -lm -lpthread

check_PROGRAMS += %D%/replay_token
TESTS += %D%/replay_token
%C%_replay_token_SOURCES = %D%/fuzz_token.c %D%/replay.c
%C%_replay_token_LDADD = node/peer/libpeer.a $(STORE_LIBS) $(NNG_LIBS) $(UV_LIBS) -lm -lpthread

check_PROGRAMS += %D%/replay_train
TESTS += %D%/replay_train
%C%_replay_train_SOURCES = %D%/fuzz_train.c %D%/replay.c
%C%_replay_train_LDADD = node/train/libtrain.a node/query/libquery.a node/peer/libpeer.a $(STORE_LIBS) $(MODEL_LIBS) $(NNG_LIBS) $(UV_LIBS) -lm -lpthread

check_PROGRAMS += %D%/replay_trainer
TESTS += %D%/replay_trainer
%C%_replay_trainer_SOURCES = %D%/fuzz_trainer.c %D%/replay.c
%C%_replay_trainer_LDADD = node/train/libtrain.a $(MODEL_LIBS) $(PROTO_LIBS) -lm

check_PROGRAMS += %D%/replay_round
TESTS += %D%/replay_round
%C%_replay_round_SOURCES = %D%/fuzz_round.c %D%/replay.c
%C%_replay_round_LDADD = $(PROTO_LIBS) -lm

check_PROGRAMS += %D%/replay_share
TESTS += %D%/replay_share
%C%_replay_share_SOURCES = %D%/fuzz_share.c %D%/replay.c
%C%_replay_share_LDADD = $(CRYPTO_LIBS) -lm

check_PROGRAMS += %D%/replay_notes
TESTS += %D%/replay_notes
%C%_replay_notes_SOURCES = %D%/fuzz_notes.c %D%/replay.c
%C%_replay_notes_LDADD = $(MODEL_LIBS) -lm

check_PROGRAMS += %D%/replay_safetensors
TESTS += %D%/replay_safetensors
%C%_replay_safetensors_SOURCES = %D%/fuzz_safetensors.c %D%/replay.c
%C%_replay_safetensors_LDADD = $(MODEL_LIBS) -lm

check_PROGRAMS += %D%/replay_tokenizer
TESTS += %D%/replay_tokenizer
%C%_replay_tokenizer_SOURCES = %D%/fuzz_tokenizer.c %D%/replay.c
%C%_replay_tokenizer_LDADD = $(MODEL_LIBS) -lm

check_PROGRAMS += %D%/replay_package
TESTS += %D%/replay_package
%C%_replay_package_SOURCES = %D%/fuzz_package.c %D%/replay.c
%C%_replay_package_LDADD = $(MODEL_LIBS) -lm

check_PROGRAMS += %D%/replay_adapter
TESTS += %D%/replay_adapter
%C%_replay_adapter_SOURCES = %D%/fuzz_adapter.c %D%/replay.c
%C%_replay_adapter_LDADD = $(MODEL_LIBS) -lm

check_PROGRAMS += %D%/replay_inputs
TESTS += %D%/replay_inputs
%C%_replay_inputs_SOURCES = %D%/fuzz_inputs.c %D%/replay.c
%C%_replay_inputs_LDADD = $(MODEL_LIBS) -lm

check_PROGRAMS += %D%/replay_table_model
TESTS += %D%/replay_table_model
%C%_replay_table_model_SOURCES = %D%/fuzz_table_model.c %D%/replay.c
%C%_replay_table_model_LDADD = $(MODEL_LIBS) -lm

check_PROGRAMS += %D%/replay_model_config
TESTS += %D%/replay_model_config
%C%_replay_model_config_SOURCES = %D%/fuzz_model_config.c %D%/replay.c
%C%_replay_model_config_LDADD = $(MODEL_LIBS) -lm

check_PROGRAMS += %D%/replay_ontology
TESTS += %D%/replay_ontology
%C%_replay_ontology_SOURCES = %D%/fuzz_ontology.c %D%/replay.c tests/lib/fake_hash.h
%C%_replay_ontology_LDADD = $(PROTO_LIBS) -lm

check_PROGRAMS += %D%/replay_fhir
TESTS += %D%/replay_fhir
%C%_replay_fhir_SOURCES = %D%/fuzz_fhir.c %D%/replay.c
%C%_replay_fhir_LDADD = node/config/libconfig.a $(STORE_LIBS) $(YAML_LIBS) -lm

check_PROGRAMS += %D%/replay_mapping
TESTS += %D%/replay_mapping
%C%_replay_mapping_SOURCES = %D%/fuzz_mapping.c %D%/replay.c
%C%_replay_mapping_LDADD = node/config/libconfig.a $(STORE_LIBS) $(YAML_LIBS) -lm

check_PROGRAMS += %D%/replay_copy_row
TESTS += %D%/replay_copy_row
%C%_replay_copy_row_SOURCES = %D%/fuzz_copy_row.c %D%/replay.c
%C%_replay_copy_row_LDADD = node/source/libsource.a $(PROTO_LIBS) -lm

if FUZZERS
noinst_PROGRAMS += %D%/fuzz_copy_row
%C%_fuzz_copy_row_SOURCES = %D%/fuzz_copy_row.c
%C%_fuzz_copy_row_LDADD = node/source/libsource.a $(PROTO_LIBS) -lm
%C%_fuzz_copy_row_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_mapping
%C%_fuzz_mapping_SOURCES = %D%/fuzz_mapping.c
%C%_fuzz_mapping_LDADD = node/config/libconfig.a $(STORE_LIBS) $(YAML_LIBS) -lm
%C%_fuzz_mapping_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_fhir
%C%_fuzz_fhir_SOURCES = %D%/fuzz_fhir.c
%C%_fuzz_fhir_LDADD = node/config/libconfig.a $(STORE_LIBS) $(YAML_LIBS) -lm
%C%_fuzz_fhir_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_ontology
%C%_fuzz_ontology_SOURCES = %D%/fuzz_ontology.c tests/lib/fake_hash.h
%C%_fuzz_ontology_LDADD = $(PROTO_LIBS) -lm
%C%_fuzz_ontology_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_package
%C%_fuzz_package_SOURCES = %D%/fuzz_package.c
%C%_fuzz_package_LDADD = $(MODEL_LIBS) -lm
%C%_fuzz_package_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_adapter
%C%_fuzz_adapter_SOURCES = %D%/fuzz_adapter.c
%C%_fuzz_adapter_LDADD = $(MODEL_LIBS) -lm
%C%_fuzz_adapter_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_inputs
%C%_fuzz_inputs_SOURCES = %D%/fuzz_inputs.c
%C%_fuzz_inputs_LDADD = $(MODEL_LIBS) -lm
%C%_fuzz_inputs_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_table_model
%C%_fuzz_table_model_SOURCES = %D%/fuzz_table_model.c
%C%_fuzz_table_model_LDADD = $(MODEL_LIBS) -lm
%C%_fuzz_table_model_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_model_config
%C%_fuzz_model_config_SOURCES = %D%/fuzz_model_config.c
%C%_fuzz_model_config_LDADD = $(MODEL_LIBS) -lm
%C%_fuzz_model_config_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_conll
%C%_fuzz_conll_SOURCES = %D%/fuzz_conll.c
%C%_fuzz_conll_LDADD = $(STORE_LIBS) -lm
%C%_fuzz_conll_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_notes
%C%_fuzz_notes_SOURCES = %D%/fuzz_notes.c
%C%_fuzz_notes_LDADD = $(MODEL_LIBS) -lm
%C%_fuzz_notes_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_safetensors
%C%_fuzz_safetensors_SOURCES = %D%/fuzz_safetensors.c
%C%_fuzz_safetensors_LDADD = $(MODEL_LIBS) -lm
%C%_fuzz_safetensors_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_tokenizer
%C%_fuzz_tokenizer_SOURCES = %D%/fuzz_tokenizer.c
%C%_fuzz_tokenizer_LDADD = $(MODEL_LIBS) -lm
%C%_fuzz_tokenizer_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_share
%C%_fuzz_share_SOURCES = %D%/fuzz_share.c
%C%_fuzz_share_LDADD = $(CRYPTO_LIBS) -lm
%C%_fuzz_share_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_ndjson
%C%_fuzz_ndjson_SOURCES = %D%/fuzz_ndjson.c
%C%_fuzz_ndjson_LDADD = $(STORE_LIBS) -lm
%C%_fuzz_ndjson_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_round
%C%_fuzz_round_SOURCES = %D%/fuzz_round.c
%C%_fuzz_round_LDADD = $(PROTO_LIBS) -lm
%C%_fuzz_round_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_train
%C%_fuzz_train_SOURCES = %D%/fuzz_train.c
%C%_fuzz_train_LDADD = node/train/libtrain.a node/query/libquery.a node/peer/libpeer.a $(STORE_LIBS) $(MODEL_LIBS) $(NNG_LIBS) $(UV_LIBS) -lm -lpthread
%C%_fuzz_train_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_frame
%C%_fuzz_frame_SOURCES = %D%/fuzz_frame.c
%C%_fuzz_frame_LDADD = node/peer/libpeer.a $(STORE_LIBS) $(NNG_LIBS) $(UV_LIBS) -lm -lpthread
%C%_fuzz_frame_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_gossip
%C%_fuzz_gossip_SOURCES = %D%/fuzz_gossip.c
%C%_fuzz_gossip_LDADD = $(PROTO_LIBS) -lm -lpthread
%C%_fuzz_gossip_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_token
%C%_fuzz_token_SOURCES = %D%/fuzz_token.c
%C%_fuzz_token_LDADD = node/peer/libpeer.a $(STORE_LIBS) $(NNG_LIBS) $(UV_LIBS) -lm -lpthread
%C%_fuzz_token_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_audit_export
%C%_fuzz_audit_export_SOURCES = %D%/fuzz_audit_export.c
%C%_fuzz_audit_export_LDADD = $(STORE_LIBS) -lm
%C%_fuzz_audit_export_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_trainer
%C%_fuzz_trainer_SOURCES = %D%/fuzz_trainer.c
%C%_fuzz_trainer_LDADD = node/train/libtrain.a $(MODEL_LIBS) $(PROTO_LIBS) -lm
%C%_fuzz_trainer_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_csv
%C%_fuzz_csv_SOURCES = %D%/fuzz_csv.c
%C%_fuzz_csv_LDADD = $(STORE_LIBS) -lm
%C%_fuzz_csv_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_column
%C%_fuzz_column_SOURCES = %D%/fuzz_column.c
%C%_fuzz_column_LDADD = $(STORE_LIBS) -lm
%C%_fuzz_column_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_codec
%C%_fuzz_codec_SOURCES = %D%/fuzz_codec.c
%C%_fuzz_codec_LDADD = $(PROTO_LIBS) -lm
%C%_fuzz_codec_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_spdx
%C%_fuzz_spdx_SOURCES = %D%/fuzz_spdx.c
%C%_fuzz_spdx_LDADD = $(PROTO_LIBS) -lm
%C%_fuzz_spdx_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_croissant
%C%_fuzz_croissant_SOURCES = %D%/fuzz_croissant.c
%C%_fuzz_croissant_LDADD = node/cli/libcli.a node/config/libconfig.a $(STORE_LIBS) $(JANSSON_LIBS) $(YAML_LIBS) -lm
%C%_fuzz_croissant_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_names
%C%_fuzz_names_SOURCES = %D%/fuzz_names.c
%C%_fuzz_names_LDADD = $(PROTO_LIBS) -lm
%C%_fuzz_names_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_licence
%C%_fuzz_licence_SOURCES = %D%/fuzz_licence.c
%C%_fuzz_licence_LDADD = $(PROTO_LIBS) -lm
%C%_fuzz_licence_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_trailer
%C%_fuzz_trailer_SOURCES = %D%/fuzz_trailer.c
%C%_fuzz_trailer_LDADD = $(STORE_LIBS) -lm
%C%_fuzz_trailer_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_pages
%C%_fuzz_pages_SOURCES = %D%/fuzz_pages.c
%C%_fuzz_pages_LDADD = $(STORE_LIBS) -lm
%C%_fuzz_pages_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_record
%C%_fuzz_record_SOURCES = %D%/fuzz_record.c tests/lib/fake_hash.h
%C%_fuzz_record_LDADD = $(PROTO_LIBS) -lm
%C%_fuzz_record_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_certificate
%C%_fuzz_certificate_SOURCES = %D%/fuzz_certificate.c
%C%_fuzz_certificate_LDADD = $(CRYPTO_LIBS) -lm
%C%_fuzz_certificate_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_chunk
%C%_fuzz_chunk_SOURCES = %D%/fuzz_chunk.c
%C%_fuzz_chunk_LDADD = $(CRYPTO_LIBS) -lm
%C%_fuzz_chunk_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_control
%C%_fuzz_control_SOURCES = %D%/fuzz_control.c
%C%_fuzz_control_LDADD = $(PROTO_LIBS) -lm
%C%_fuzz_control_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_keyring
%C%_fuzz_keyring_SOURCES = %D%/fuzz_keyring.c
%C%_fuzz_keyring_LDADD = $(CRYPTO_LIBS) -lm
%C%_fuzz_keyring_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_ledger
%C%_fuzz_ledger_SOURCES = %D%/fuzz_ledger.c
%C%_fuzz_ledger_LDADD = $(STORE_LIBS) -lm
%C%_fuzz_ledger_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_manifest
%C%_fuzz_manifest_SOURCES = %D%/fuzz_manifest.c
%C%_fuzz_manifest_LDADD = node/config/libconfig.a $(STORE_LIBS) $(YAML_LIBS) -lm
%C%_fuzz_manifest_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_partial
%C%_fuzz_partial_SOURCES = %D%/fuzz_partial.c
%C%_fuzz_partial_LDADD = node/query/libquery.a node/privacy/libprivacy.a $(STORE_LIBS) -lm -lpthread
%C%_fuzz_partial_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += %D%/fuzz_sql
%C%_fuzz_sql_SOURCES = %D%/fuzz_sql.c
%C%_fuzz_sql_LDADD = $(PROTO_LIBS) -lm
%C%_fuzz_sql_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
endif

SECONDS = 60
TARGET = $(FUZZ_TARGETS)
.PHONY: fuzz
fuzz:
	mkdir -p fuzz-build
	test -f fuzz-build/Makefile || (cd fuzz-build && $(abs_top_srcdir)/configure -q CC=clang CFLAGS="-O1 -g" --enable-fuzzers --with-sanitizer)
	$(MAKE) -s -C fuzz-build $(patsubst %,tests/fuzz/fuzz_%,$(TARGET))
	set -e; for target in $(TARGET); do \
		mkdir -p fuzz-build/corpus/$$target; \
		echo "fuzz $$target for $(SECONDS) s"; \
		fuzz-build/tests/fuzz/fuzz_$$target -max_total_time=$(SECONDS) -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 -verbosity=0 \
			fuzz-build/corpus/$$target $(abs_top_srcdir)/tests/fuzz/corpus/$$target; \
	done
