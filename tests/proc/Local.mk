# Real daemons through the command. Each script prints TAP; CONCORDAT_PROC=no leaves them out (sanitizer runs).
PROC_TESTS = \
	%D%/agreements.py \
	%D%/approvals.py \
	%D%/bad_input.py \
	%D%/budget.py \
	%D%/catalogue.py \
	%D%/channels.py \
	%D%/change.py \
	%D%/chaos.py \
	%D%/clock.py \
	%D%/console.py \
	%D%/contracts.py \
	%D%/visas.py \
	%D%/uses.py \
	%D%/core.py \
	%D%/council.py \
	%D%/crashes.py \
	%D%/damage.py \
	%D%/derived.py \
	%D%/disk_full.py \
	%D%/enrolment.py \
	%D%/faults.py \
	%D%/federation.py \
	%D%/heads.py \
	%D%/imports.py \
	%D%/keys.py \
	%D%/liars.py \
	%D%/library.py \
	%D%/licence_tools.py \
	%D%/kills.py \
	%D%/large.py \
	%D%/mesh.py \
	%D%/models.py \
	%D%/notes.py \
	%D%/planted.py \
	%D%/predict.py \
	%D%/questions.py \
	%D%/scaffold.py \
	%D%/sources.py \
	%D%/tables.py \
	%D%/takeover.py \
	%D%/tokens.py \
	%D%/trainer.py \
	%D%/training.py
TESTS += $(PROC_TESTS)
EXTRA_DIST += $(PROC_TESTS) %D%/survival.py %D%/hostile_trainer.py %D%/harness.py %D%/postgres.py %D%/records.py %D%/plaintext.c %D%/fault.c %D%/record.c

check_PROGRAMS += %D%/dump
%C%_dump_SOURCES = %D%/dump.c
%C%_dump_LDADD = $(CRYPTO_LIBS)

check_PROGRAMS += %D%/act
%C%_act_SOURCES = %D%/act.c
%C%_act_LDADD = $(STORE_LIBS) -lm

# Changes live rows of a node.mdb, for bad_input.py.
check_PROGRAMS += %D%/tamper
%C%_tamper_SOURCES = %D%/tamper.c
%C%_tamper_LDADD = $(LMDB_LIBS)

# A daemon that lies in its answers, for liars.py.
check_PROGRAMS += %D%/concordatd_liar
%C%_concordatd_liar_SOURCES = $(concordatd_SOURCES) %D%/liar.c
%C%_concordatd_liar_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=query_answer_put,--wrap=query_message_seal,--wrap=train_vector_put,--wrap=store_blob_has,--wrap=proto_model_encode
%C%_concordatd_liar_LDADD = $(concordatd_LDADD)

# Files for other tools, judged by them.
TESTS += %D%/export_onnx.py
EXTRA_DIST += %D%/export_onnx.py %D%/export_onnx_web.cjs
check_PROGRAMS += %D%/onnx_case
%C%_onnx_case_SOURCES = %D%/onnx_case.c tests/lib/seed.h
%C%_onnx_case_LDADD = $(MODEL_LIBS) -lm

# The command alone, without any daemon.
TESTS += %D%/cli_usage.sh %D%/cli_client.py
EXTRA_DIST += %D%/cli_usage.sh %D%/cli_client.py

.PHONY: chaos
# kill -9 at random moments of a federation (at least 200) and of everything that changes a home (1,000), and disks after crashes of the machine,
# and a training job whose coordinators and sites die.
chaos: all tests/proc/act
	top_builddir=$(abs_top_builddir) top_srcdir=$(abs_top_srcdir) KILLS=$(if $(KILLS),$(KILLS),200) MINUTES=$(if $(MINUTES),$(MINUTES),0) \
		python3 $(srcdir)/tests/proc/chaos.py
	top_builddir=$(abs_top_builddir) top_srcdir=$(abs_top_srcdir) POINTS=$(if $(POINTS),$(POINTS),1000) python3 $(srcdir)/tests/proc/kills.py
	top_builddir=$(abs_top_builddir) top_srcdir=$(abs_top_srcdir) IMAGES=$(if $(IMAGES),$(IMAGES),150) python3 $(srcdir)/tests/proc/crashes.py
	top_builddir=$(abs_top_builddir) top_srcdir=$(abs_top_srcdir) python3 $(srcdir)/tests/proc/survival.py
