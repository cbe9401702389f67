#include "config.h"
#include "store/import_internal.h"

#include "crypto/provider.h"
#include "proto/body.h"
#include "store/claim.h"

#include <math.h>
#include <stdio.h>

#define BODY_MAX ((size_t)2 << 20)

static enum err make_body(struct import *import, struct err_info *reterr)
{
    struct proto_dataset dataset;
    proto_schema_hash(&import->published, &crypto_proto_hash, import->place.schema_hash);
    enum err err =
        proto_manifest_dataset_body(import->manifest, &import->published, import->place.schema_hash,
                                    &import->arena, &dataset, reterr);
    import->body.max = BODY_MAX;
    return err ? err : proto_dataset_encode(&dataset, &import->body, reterr);
}

void import_reject(struct import *import, uint64_t line, const char *column, const char *reason)
{
    struct store_import_report *report = import->report;
    if (report->reject_count < STORE_IMPORT_REJECTS) {
        size_t i = report->reject_count++;
        report->rejects[i].line = line;
        report->rejects[i].file = import->file;
        snprintf(report->rejects[i].column, sizeof report->rejects[i].column, "%s", column);
        snprintf(report->rejects[i].reason, sizeof report->rejects[i].reason, "%s", reason);
    }
    report->rejected++;
    import->stopped = report->rejected > import->options->max_rejects;
}

static bool take_row(struct import *import, const struct store_row *row)
{
    if (row->fault) {
        import_reject(import, row->line, row->fault_column ? row->fault_column : "", row->fault);
        return false;
    }
    for (size_t i = 0; i < import->count; i++) {
        struct import_column *column = &import->columns[i];
        const char *fault = import_cell_parse(column, &row->fields[column->field]);
        if (fault) {
            import_reject(import, row->line, column->name, fault);
            return false;
        }
    }
    if (import->tokens && import->tags && !import_cells_match(import->tokens, import->tags)) {
        import_reject(import, row->line, import->tags->name,
                      "has another number of tags than there are tokens");
        return false;
    }
    if (import->has_relations && import_cells_relate(import, row)) {
        import_reject(import, row->line, "", "has too much text");
        return false;
    }
    return true;
}

void import_tell(const struct import *import)
{
    const struct store_import_options *options = import->options;
    if (options->progress) {
        options->progress(options->user, import->source->bytes_done, import->source->bytes_total,
                          import->report->rows);
    }
}

enum err import_check_cancelled(const struct import *import, struct err_info *reterr)
{
    const struct store_import_options *options = import->options;
    return options->cancelled && options->cancelled(options->user)
               ? proto_err_set(reterr, E_CANCELLED, "the import was cancelled")
               : E_OK;
}

static enum err read_rows(struct import *import, struct err_info *reterr)
{
    struct store_row row;
    for (uint64_t seen = 0;; seen++) {
        enum err err = import->source->next(import->source, &row, reterr);
        if (err || row.end) {
            return err;
        }
        import->file = row.file;
        bool take = take_row(import, &row) && !import_excluded(import);
        if (take && !import->stopped && import->key) {
            err = import_key_take(import, row.line, &take, reterr);
        }
        if (!err && take && !import->stopped) {
            err = import_row_append(import, row.line, reterr);
            err = err ? err : import_row_end(import, reterr);
        }
        if (!err && seen % STORE_CHUNK_ROWS == 0) {
            import_tell(import);
            err = import_check_cancelled(import, reterr);
        }
        if (err || (import->stopped && import->report->reject_count == STORE_IMPORT_REJECTS)) {
            return err;
        }
    }
}

static enum err judge_rejects(const struct import *import, struct err_info *reterr)
{
    const struct store_import_report *report = import->report;
    if (report->rejected > import->options->max_rejects) {
        bool row = !report->rejects[0].column[0];
        return proto_err_set(
            reterr, E_INVALID, "line %llu%s%s: %s (%s%llu rows rejected, %llu allowed)",
            (unsigned long long)report->rejects[0].line, row ? "" : ", column ",
            report->rejects[0].column, report->rejects[0].reason,
            report->reject_count == STORE_IMPORT_REJECTS ? "at least " : "",
            (unsigned long long)report->rejected, (unsigned long long)import->options->max_rejects);
    }
    if (import->options->forget) {
        return report->rows
                   ? E_OK
                   : proto_err_set(reterr, E_INVALID, "no row would be left: remove the dataset");
    }
    bool none = report->rows == report->carried;
    if (none && report->rejected) {
        return proto_err_set(
            reterr, E_INVALID, "all of the %llu rows were rejected, the first in line %llu%s%s: %s",
            (unsigned long long)report->rejected, (unsigned long long)report->rejects[0].line,
            report->rejects[0].column[0] ? ", column " : "", report->rejects[0].column,
            report->rejects[0].reason);
    }
    return none ? proto_err_set(reterr, E_INVALID, "the data has no rows") : E_OK;
}

static void note_absent(struct import *import)
{
    for (size_t i = 0; i < import->count && import->source->absent; i++) {
        import->columns[i].report->absent = import->source->absent[import->columns[i].field];
    }
}

static void close_import(struct import *import, enum err err)
{
    store_partition_writer_close(import->writer);
    if (err) {
        import_file_undo(import);
    }
    for (size_t i = 0; i < import->count; i++) {
        import_column_close(&import->columns[i]);
    }
    store_partition_close(import->earlier);
    store_keyset_fini(&import->keys);
    store_keyset_fini(&import->excluded);
    store_keyset_fini(&import->excluded_numbers);
    crypto_key_free(import->shift_key);
    proto_free(import->columns);
    if (import->unit_rows) { /* how many rows each person has is their business */
        crypto_wipe(import->unit_rows, import->unit_cap);
    }
    proto_free(import->unit_rows);
    crypto_buf_fini(&import->encoded);
    buf_fini(&import->body);
    arena_fini(&import->arena);
    if (import->source) {
        import->source->free(import->source);
    }
}

static enum err run(struct import *import, struct err_info *reterr)
{
    const struct store_import_options *options = import->options;
    enum err err = import_source_open(import, reterr);
    err = err ? err : import_columns_open(import, reterr);
    err = err ? err : make_body(import, reterr);
    err = err ? err : import_earlier_open(import, reterr);
    /* A rehearsal of append needs the pseudonyms, too, to know which keys are there; it saves none. */
    if (!err && (!options->dry_run || import->earlier)) {
        err = import_file_prepare(import, reterr);
    }
    err = err ? err : import_excluded_read(import, reterr);
    /* Without a key the stored rows come first, as they are older; with one the file must be known before. */
    if (!err && import->earlier && !import->key) {
        err = import_earlier_carry(import, reterr);
    }
    err = err ? err : read_rows(import, reterr);
    if (import->source) {
        import->report->bytes_raw = import->source->bytes_plain;
        import->report->unjoined = import->source->unjoined;
        note_absent(import);
    }
    err = err ? err : judge_rejects(import, reterr);
    if (!err && import->key) {
        err = import_earlier_carry(import, reterr);
    }
    err = err ? err : import_chunk_flush(import, reterr);
    return err || options->dry_run ? err : import_file_publish(import, reterr);
}

enum err store_import_run(struct store *store, const struct proto_manifest *manifest,
                          const struct store_import_options *options,
                          struct store_import_report *ret, struct err_info *reterr)
{
    memset(ret, 0, sizeof *ret);
    struct store_claim self = {.store = store, .dataset = manifest->dataset};
    if (!store_claim_enter(&self)) {
        if (options->take_source) {
            options->take_source->free(options->take_source);
        }
        return proto_err_set(reterr, E_BUSY, "dataset %s is being imported or given a new key",
                             manifest->dataset);
    }
    struct import import = {.store = store,
                            .manifest = manifest,
                            .options = options,
                            .report = ret,
                            .today = floor((double)options->now / 86400),
                            .encoded = {.max = STORE_CHUNK_BYTES_MAX}};
    enum err err = run(&import, reterr);
    close_import(&import, err);
    store_claim_leave(&self);
    return err;
}
