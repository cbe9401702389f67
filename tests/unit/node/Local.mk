# unit/node

check_PROGRAMS += %D%/test_noise
TESTS += %D%/test_noise
%C%_test_noise_SOURCES = %D%/test_noise.c tests/lib/numbers.h
%C%_test_noise_LDADD = node/privacy/libprivacy.a $(CRYPTO_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_mechanism
TESTS += %D%/test_mechanism
%C%_test_mechanism_SOURCES = %D%/test_mechanism.c tests/lib/numbers.h
%C%_test_mechanism_LDADD = node/privacy/libprivacy.a $(CRYPTO_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_config
TESTS += %D%/test_config
%C%_test_config_SOURCES = %D%/test_config.c tests/lib/fake_hash.h
%C%_test_config_LDADD = node/config/libconfig.a $(PROTO_LIBS) $(YAML_LIBS) $(CMOCKA_LIBS) -lm

check_PROGRAMS += %D%/test_inputs
TESTS += %D%/test_inputs
%C%_test_inputs_SOURCES = %D%/test_inputs.c
%C%_test_inputs_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm

check_PROGRAMS += %D%/test_logistic
TESTS += %D%/test_logistic
%C%_test_logistic_SOURCES = %D%/test_logistic.c tests/lib/newton.c tests/lib/newton.h tests/lib/numbers.h
%C%_test_logistic_LDADD = node/model/libmodel.a node/privacy/libprivacy.a $(CRYPTO_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_peer
TESTS += %D%/test_peer
%C%_test_peer_SOURCES = %D%/test_peer.c tests/lib/exchange.h
%C%_test_peer_LDADD = node/peer/libpeer.a $(STORE_LIBS) $(NNG_LIBS) $(UV_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_sp
TESTS += %D%/test_sp
%C%_test_sp_SOURCES = %D%/test_sp.c tests/lib/exchange.h
%C%_test_sp_LDADD = node/peer/libpeer.a $(STORE_LIBS) $(NNG_LIBS) $(UV_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_cli_table
TESTS += %D%/test_cli_table
%C%_test_cli_table_SOURCES = %D%/test_cli_table.c
%C%_test_cli_table_LDADD = node/cli/libcli.a $(PROTO_LIBS) $(JANSSON_LIBS) $(CMOCKA_LIBS) -lm
EXTRA_DIST += tests/vectors/cli

check_PROGRAMS += %D%/test_train_message
TESTS += %D%/test_train_message
%C%_test_train_message_SOURCES = %D%/test_train_message.c
%C%_test_train_message_LDADD = node/train/libtrain.a node/query/libquery.a node/peer/libpeer.a $(STORE_LIBS) $(MODEL_LIBS) $(NNG_LIBS) $(UV_LIBS) $(CMOCKA_LIBS) -lm -lpthread
check_PROGRAMS += %D%/test_seeds
TESTS += %D%/test_seeds
%C%_test_seeds_SOURCES = %D%/test_seeds.c
%C%_test_seeds_LDADD = node/train/libtrain.a node/query/libquery.a node/peer/libpeer.a $(STORE_LIBS) $(MODEL_LIBS) $(NNG_LIBS) $(UV_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_trainer_message
TESTS += %D%/test_trainer_message
%C%_test_trainer_message_SOURCES = %D%/test_trainer_message.c
%C%_test_trainer_message_LDADD = node/train/libtrain.a $(PROTO_LIBS) $(CMOCKA_LIBS) -lm

check_PROGRAMS += %D%/test_aggregate
TESTS += %D%/test_aggregate
%C%_test_aggregate_SOURCES = %D%/test_aggregate.c tests/lib/seed.h tests/unit/store/home.h
%C%_test_aggregate_LDADD = node/train/libtrain.a node/query/libquery.a node/peer/libpeer.a $(STORE_LIBS) $(MODEL_LIBS) $(NNG_LIBS) $(UV_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_damage
TESTS += %D%/test_damage
%C%_test_damage_SOURCES = %D%/test_damage.c
%C%_test_damage_LDADD = node/query/libquery.a $(PROTO_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_known
TESTS += %D%/test_known
%C%_test_known_SOURCES = %D%/test_known.c tests/unit/store/home.h
%C%_test_known_LDADD = node/query/libquery.a $(STORE_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_train_plan
TESTS += %D%/test_train_plan
%C%_test_train_plan_SOURCES = %D%/test_train_plan.c
%C%_test_train_plan_LDADD = node/train/libtrain.a node/query/libquery.a node/peer/libpeer.a $(STORE_LIBS) $(MODEL_LIBS) $(NNG_LIBS) $(UV_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_query_message %D%/test_bound %D%/test_coordinates %D%/test_execute
TESTS += %D%/test_query_message %D%/test_bound %D%/test_coordinates %D%/test_execute
%C%_test_query_message_SOURCES = %D%/test_query_message.c tests/lib/seed.h
%C%_test_query_message_LDADD = node/query/libquery.a $(STORE_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_bound_SOURCES = %D%/test_bound.c tests/lib/seed.h
%C%_test_bound_LDADD = node/query/libquery.a $(STORE_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_coordinates_SOURCES = %D%/test_coordinates.c tests/lib/numbers.h tests/lib/seed.h
%C%_test_coordinates_LDADD = node/query/libquery.a node/privacy/libprivacy.a $(STORE_LIBS) $(CMOCKA_LIBS) -lm -lpthread
%C%_test_execute_SOURCES = %D%/test_execute.c tests/lib/encounters.c tests/lib/encounters.h tests/lib/seed.h tests/unit/store/dataset.h
%C%_test_execute_LDADD = node/query/libquery.a node/privacy/libprivacy.a $(STORE_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_tree %D%/test_table %D%/test_partial
TESTS += %D%/test_tree %D%/test_table %D%/test_partial
%C%_test_partial_SOURCES = %D%/test_partial.c %D%/answering.h tests/lib/seed.h
%C%_test_partial_LDADD = node/query/libquery.a node/privacy/libprivacy.a $(STORE_LIBS) $(CMOCKA_LIBS) -lm -lpthread
%C%_test_tree_SOURCES = %D%/test_tree.c tests/lib/seed.h
%C%_test_tree_LDADD = node/query/libquery.a $(STORE_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_table_SOURCES = %D%/test_table.c %D%/answering.h tests/lib/seed.h
%C%_test_table_LDADD = node/query/libquery.a node/privacy/libprivacy.a $(STORE_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_safetensors %D%/test_notes %D%/test_report %D%/test_tokenizer
TESTS += %D%/test_safetensors %D%/test_notes %D%/test_report %D%/test_tokenizer
%C%_test_safetensors_SOURCES = %D%/test_safetensors.c
%C%_test_safetensors_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_notes_SOURCES = %D%/test_notes.c
%C%_test_notes_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_report_SOURCES = %D%/test_report.c tests/lib/vectors.h
%C%_test_report_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_tokenizer_SOURCES = %D%/test_tokenizer.c tests/lib/vectors.h
%C%_test_tokenizer_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm
EXTRA_DIST += tests/vectors/bert

# The encoder in float, as shipped, and the same sources in double for 1e-9 parity and central differences.
check_PROGRAMS += %D%/test_encoder %D%/test_encoder_double
TESTS += %D%/test_encoder %D%/test_encoder_double
%C%_test_encoder_SOURCES = %D%/test_encoder.c tests/lib/vectors.h
%C%_test_encoder_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_encoder_double_SOURCES = %D%/test_encoder.c tests/lib/vectors.h $(MODEL_ENCODER_SOURCES)
%C%_test_encoder_double_CPPFLAGS = $(AM_CPPFLAGS) -DMODEL_DOUBLE
%C%_test_encoder_double_CFLAGS = $(AM_CFLAGS) -Wno-psabi
%C%_test_encoder_double_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm

check_PROGRAMS += %D%/test_encoder_save
TESTS += %D%/test_encoder_save
%C%_test_encoder_save_SOURCES = %D%/test_encoder_save.c tests/lib/vectors.h
%C%_test_encoder_save_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm

check_PROGRAMS += %D%/test_price
TESTS += %D%/test_price
%C%_test_price_SOURCES = %D%/test_price.c
%C%_test_price_LDADD = node/query/libquery.a $(PROTO_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_tuner
TESTS += %D%/test_tuner
%C%_test_tuner_SOURCES = %D%/test_tuner.c tests/lib/seed.h tests/lib/vectors.h
%C%_test_tuner_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm
check_PROGRAMS += %D%/test_fhir
TESTS += %D%/test_fhir
%C%_test_fhir_SOURCES = %D%/test_fhir.c
%C%_test_fhir_LDADD = node/config/libconfig.a $(STORE_LIBS) $(YAML_LIBS) $(CMOCKA_LIBS) -lm

check_PROGRAMS += %D%/test_kernels %D%/test_gradient %D%/test_gradient_double
TESTS += %D%/test_kernels %D%/test_gradient %D%/test_gradient_double
%C%_test_kernels_SOURCES = %D%/test_kernels.c tests/lib/seed.h
%C%_test_kernels_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_gradient_SOURCES = %D%/test_gradient.c tests/lib/seed.h
%C%_test_gradient_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm
%C%_test_gradient_double_SOURCES = %D%/test_gradient.c tests/lib/seed.h $(MODEL_ENCODER_SOURCES)
%C%_test_gradient_double_CPPFLAGS = $(AM_CPPFLAGS) -DMODEL_DOUBLE
%C%_test_gradient_double_CFLAGS = $(AM_CFLAGS) -Wno-psabi
%C%_test_gradient_double_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm
# From a wanted error to its price.
check_PROGRAMS += %D%/test_wanted
TESTS += %D%/test_wanted
%C%_test_wanted_SOURCES = %D%/test_wanted.c %D%/answering.h
%C%_test_wanted_LDADD = node/query/libquery.a node/privacy/libprivacy.a $(STORE_LIBS) $(CMOCKA_LIBS) -lm -lpthread

# The table of errors beside other libraries' in doc/privacy.md.
check_PROGRAMS += %D%/test_rivals
TESTS += %D%/test_rivals
%C%_test_rivals_SOURCES = %D%/test_rivals.c %D%/answering.h tests/lib/numbers.h
%C%_test_rivals_LDADD = node/query/libquery.a node/privacy/libprivacy.a $(STORE_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_formats
TESTS += %D%/test_formats
%C%_test_formats_SOURCES = %D%/test_formats.c
%C%_test_formats_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm

check_PROGRAMS += %D%/test_tabular
TESTS += %D%/test_tabular
%C%_test_tabular_SOURCES = %D%/test_tabular.c tests/lib/seed.h tests/lib/vectors.h
%C%_test_tabular_LDADD = $(MODEL_LIBS) $(CMOCKA_LIBS) -lm
check_PROGRAMS += %D%/test_directory
TESTS += %D%/test_directory
%C%_test_directory_SOURCES = %D%/test_directory.c
%C%_test_directory_LDADD = node/peer/libpeer.a $(STORE_LIBS) $(NNG_LIBS) $(UV_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_heads
TESTS += %D%/test_heads
%C%_test_heads_SOURCES = %D%/test_heads.c tests/unit/store/home.h tests/lib/vectors.h
%C%_test_heads_LDADD = node/train/libtrain.a node/query/libquery.a node/peer/libpeer.a $(STORE_LIBS) $(MODEL_LIBS) $(NNG_LIBS) $(UV_LIBS) $(CMOCKA_LIBS) -lm -lpthread

check_PROGRAMS += %D%/test_sweep
TESTS += %D%/test_sweep
%C%_test_sweep_SOURCES = %D%/test_sweep.c tests/unit/store/home.h
%C%_test_sweep_LDADD = node/train/libtrain.a node/query/libquery.a node/peer/libpeer.a $(STORE_LIBS) $(MODEL_LIBS) $(NNG_LIBS) $(UV_LIBS) $(CMOCKA_LIBS) -lm -lpthread
