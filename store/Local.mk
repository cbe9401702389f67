noinst_LIBRARIES += %D%/libstore.a
%C%_libstore_a_SOURCES = \
	%D%/answer.c %D%/answer.h \
	%D%/agreement.c %D%/agreement.h \
	%D%/approval.c %D%/approval.h \
	%D%/audit.c %D%/audit.h %D%/audit_chain.h \
	%D%/audit_verify.c \
	%D%/audit_view.c %D%/audit_view.h \
	%D%/blob.c %D%/blob.h \
	%D%/blob_list.c \
	%D%/blob_memory.c %D%/blob_memory.h \
	%D%/catalogue.c %D%/catalogue.h \
	%D%/clock.c %D%/clock.h \
	%D%/egress.c %D%/egress.h \
	%D%/env.c %D%/env.h \
	%D%/file.c %D%/file.h \
	%D%/job.c %D%/job.h \
	%D%/ledger.c %D%/ledger.h \
	%D%/ledger_account.c \
	%D%/ledger_book.c %D%/ledger_book.h \
	%D%/ledger_check.c \
	%D%/ledger_lost.c %D%/ledger_lost.h \
	%D%/ledger_row.c %D%/ledger_row.h \
	%D%/ledger_train.c \
	%D%/records.c %D%/records.h \
	%D%/store.c %D%/store.h \
	%D%/table.c %D%/table.h \
	%D%/witness.c %D%/witness.h
%C%_libstore_a_SOURCES += \
	%D%/backup.c %D%/backup.h \
	%D%/check.c %D%/check.h \
	%D%/claim.c %D%/claim.h \
	%D%/column.c %D%/column.h %D%/column_layout.h \
	%D%/column_encode.c \
	%D%/crew.c %D%/crew.h \
	%D%/deidentify.c %D%/deidentify.h \
	%D%/fhir_join.c %D%/fhir_join.h \
	%D%/fhir_path.c %D%/fhir_path.h \
	%D%/import.c %D%/import.h %D%/import_internal.h \
	%D%/import_cell.c %D%/import_chunk.c %D%/import_column.c \
	%D%/import_earlier.c %D%/import_file.c %D%/import_remove.c \
	%D%/import_source.c \
	%D%/join.c %D%/join.h \
	%D%/json_split.c %D%/json_split.h \
	%D%/json_text.c %D%/json_text.h \
	%D%/kernel.h \
	%D%/lines.c %D%/lines.h \
	%D%/keyset.c %D%/keyset.h \
	%D%/pack.c %D%/pack.h \
	%D%/pages.c %D%/pages.h \
	%D%/parse.c %D%/parse.h \
	%D%/partition.c %D%/partition.h \
	%D%/partition_cache.c %D%/partition_cache.h \
	%D%/partition_file.c %D%/partition_file.h \
	%D%/partition_trailer.c %D%/partition_trailer.h \
	%D%/reader_conll.c %D%/reader_conll.h \
	%D%/reader_fhir.c %D%/reader_fhir.h \
	%D%/reader_csv.c %D%/reader_csv.h \
	%D%/reader_ndjson.c %D%/reader_ndjson.h \
	%D%/redact.c %D%/redact.h \
	%D%/risk.c %D%/risk.h \
	%D%/rotate.c %D%/rotate.h \
	%D%/scan.c %D%/scan.h %D%/scan_file.h %D%/scan_filter.c \
	%D%/source.h \
	%D%/stream.c %D%/stream.h \
	%D%/transform.c %D%/transform.h \
	%D%/values.c %D%/values.h
EXTRA_DIST += %D%/README.md
