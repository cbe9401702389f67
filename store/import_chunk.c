/* Values fill the chunk of each column; a full one is encoded, sealed and written. */
#include "config.h"
#include "store/import_internal.h"

#include <stdio.h>
#include <sys/stat.h>

static enum err see_unit(struct import *import, uint32_t code)
{
    if (code >= import->unit_cap) {
        size_t grown = ((size_t)code + 1) * 2 < 65536 ? 65536 : ((size_t)code + 1) * 2;
        uint8_t *rows = proto_realloc(import->unit_rows, grown, 1);
        if (!rows) {
            return E_NO_MEMORY;
        }
        memset(rows + import->unit_cap, 0, grown - import->unit_cap);
        import->unit_rows = rows;
        import->unit_cap = grown;
    }
    uint8_t *rows = &import->unit_rows[code];
    import->report->units += *rows == 0;
    *rows = (uint8_t)(*rows + (*rows < STORE_UNIT_ROWS_MAX));
    import->unit_most = *rows > import->unit_most ? *rows : import->unit_most;
    if (code >= import->unit_limit) {
        import->unit_limit = (uint64_t)code + 1;
    }
    return E_OK;
}

enum err import_code_assign(struct import_column *column)
{
    if (column->missing) {
        return E_OK;
    }
    enum err err = E_OK;
    if (column->pseudonyms) {
        err = store_pseudonym_get(column->pseudonyms, column->cell, &column->code);
    } else if (column->values.grows) {
        uint32_t slot = store_values_find(&column->values, column->cell);
        if (column->values.slots[slot]) {
            column->code = column->values.slots[slot] - 1;
        } else {
            column->code = column->values.count;
            err = store_values_add(&column->values, column->cell, slot);
        }
    }
    return err;
}

static size_t map_bytes(const struct import *import)
{
    uint64_t raw = import->source->bytes_total;
    if (raw == 0 || import->source->packed) {
        return STORE_MAP_BYTES; /* not a plain file: its size is not known, and a map costs nothing but addresses */
    }
    struct stat earlier = {
        0}; /* what is carried over may need a little more room in its new chunks */
    char path[PATH_MAX];
    if (import->earlier &&
        store_partition_path(import->store->home, import->earlier->place.uuid, "", path,
                             sizeof path) &&
        stat(path, &earlier) == 0) {
        raw += (uint64_t)earlier.st_size;
    }
    /* A field of one byte and its comma may become a double of eight. */
    return (size_t)(raw * 8 + import->count * ((uint64_t)2 << 20) + ((uint64_t)64 << 20));
}

static enum err open_writer(struct import *import, struct err_info *reterr)
{
    if (import->writer) {
        return E_OK;
    }
    import->file_made = true;
    return store_partition_writer_open(import->new_path, import->dek, &import->place,
                                       map_bytes(import), &import->writer, reterr);
}

static bool writes(const struct import *import)
{
    return !import->options->dry_run && !import->stopped;
}

static enum err end_segment(struct import *import, struct import_column *column,
                            struct err_info *reterr)
{
    enum err err = E_OK;
    if (writes(import)) {
        uint32_t number = import->chunks << STORE_SEGMENT_BITS | (uint32_t)column->segment_count;
        import->encoded.len = 0;
        err = open_writer(import, reterr);
        err = err ? err
                  : store_segment_encode((const char *)column->text.ptr, column->text_start,
                                         column->segment_rows, &import->encoded);
        err = err ? err
                  : store_partition_writer_put(import->writer, STORE_PARTITION_SEGMENT,
                                               column->name, number, (uint32_t)column->segment_rows,
                                               buf_span(&import->encoded), reterr);
    }
    column->segments[column->segment_count++] = (uint32_t)column->segment_rows;
    column->segment_rows = 0;
    column->text.len = 0;
    return err;
}

/* Text is written as soon as there is enough of it, so that a chunk of long notes needs no more memory than one of codes. */
static enum err append_text(struct import *import, struct import_column *column)
{
    struct span text = column->missing ? SPAN_NONE : column->cell;
    enum err err = buf_put(&column->text, text);
    if (!err) {
        column->text_start[++column->segment_rows] = (uint32_t)column->text.len;
    }
    return !err && column->text.len >= STORE_SEGMENT_TEXT ? end_segment(import, column, NULL) : err;
}

enum err import_values_put(struct import *import, struct import_column *column)
{
    size_t row = import->rows;
    enum err err = column->form == STORE_FORM_TEXT ? append_text(import, column) : E_OK;
    if (!err && column->is_unit) {
        err = see_unit(import, column->code);
    }
    if (column->missing) {
        column->null[row / 64] |= (uint64_t)1 << row % 64;
        column->any_null = true;
    }
    if (column->form == STORE_FORM_NUMBER) {
        column->numbers[row] = column->number;
    } else if (column->form == STORE_FORM_CODE) {
        column->codes[row] = column->code;
    }
    if (column->histogram && !column->missing) {
        column->histogram[column->code]++;
    }
    return err;
}

enum err import_row_append(struct import *import, uint64_t line, struct err_info *reterr)
{
    for (size_t i = 0; i < import->count; i++) {
        struct import_column *column = &import->columns[i];
        enum err err = import_code_assign(column);
        err = err ? err : import_values_put(import, column);
        if (err) {
            return proto_err_set(reterr, err, "line %llu, column %s: %s", (unsigned long long)line,
                                 column->name,
                                 err == E_LIMIT ? "too many distinct values or too long a text"
                                                : proto_err_text(err));
        }
        column->report->clamped += column->clamped;
        column->report->blanked += column->blanked;
        column->report->redacted += column->redacted;
    }
    import->rows++;
    import->report->rows++;
    return E_OK;
}

enum err import_zones_flush(struct import *import, struct import_column *column, uint32_t block,
                            struct err_info *reterr)
{
    enum err err = store_partition_writer_put(import->writer, STORE_PARTITION_ZONE, column->name,
                                              block, 0, buf_span(&column->zones), reterr);
    column->zones.len = 0;
    return err;
}

static enum err flush_column(struct import *import, struct import_column *column,
                             struct err_info *reterr)
{
    struct store_column_input input = {.form = column->form,
                                       .rows = import->rows,
                                       .numbers = column->numbers,
                                       .codes = column->codes,
                                       .segments = column->segments,
                                       .segment_count = column->segment_count,
                                       .null = column->any_null ? column->null : NULL};
    struct store_zone zone;
    enum err err = E_OK;
    if (column->form == STORE_FORM_TEXT && column->segment_rows) {
        err = end_segment(import, column, reterr);
        input.segment_count = column->segment_count;
    }
    import->encoded.len = 0;
    err = err ? err : store_column_encode(&input, &import->encoded, &zone);
    err = err ? err
              : store_zones_put(&zone, column->histogram, column->histogram_codes, &column->zones);
    if (err) {
        return proto_err_set(reterr, err, "column %s: %s", column->name,
                             err == E_LIMIT ? "too long a text" : proto_err_text(err));
    }
    err = store_partition_writer_put(import->writer, STORE_PARTITION_CHUNK, column->name,
                                     import->chunks, (uint32_t)import->rows,
                                     buf_span(&import->encoded), reterr);
    if (!err && (import->chunks + 1) % STORE_ZONE_CHUNKS == 0) {
        err = import_zones_flush(import, column, import->chunks / STORE_ZONE_CHUNKS, reterr);
    }
    return err;
}

static void empty_column(struct import_column *column)
{
    memset(column->null, 0, STORE_CHUNK_WORDS * sizeof *column->null);
    if (column->histogram) {
        memset(column->histogram, 0, column->histogram_codes * sizeof *column->histogram);
    }
    column->any_null = false;
    column->text.len = 0;
    column->segment_count = 0;
    column->segment_rows = 0;
}

enum err import_chunk_flush(struct import *import, struct err_info *reterr)
{
    bool full = import->rows && writes(import);
    enum err err = full ? open_writer(import, reterr) : E_OK;
    for (size_t i = 0; i < import->count && !err; i++) {
        err = full ? flush_column(import, &import->columns[i], reterr) : E_OK;
        empty_column(&import->columns[i]);
    }
    import->chunks += full;
    import->rows = 0;
    return err;
}

enum err import_row_end(struct import *import, struct err_info *reterr)
{
    if (import->report->rows > UINT32_MAX) {
        return proto_err_set(reterr, E_LIMIT, "more than 4294967295 rows");
    }
    return import->rows == STORE_CHUNK_ROWS ? import_chunk_flush(import, reterr) : E_OK;
}
