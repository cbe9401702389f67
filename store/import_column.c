/* The columns of an import: what the manifest declares, bound to the fields of the data. */
#include "config.h"
#include "store/import_internal.h"

#include "crypto/memory.h"
#include "store/parse.h"

#define TEXT_START ((size_t)64 << 10)

static int find_header(const struct store_source *source, const char *name, bool trimmed)
{
    int found = -1;
    struct span want = trimmed ? store_parse_trim(span_str(name)) : span_str(name);
    for (size_t i = 0; i < source->header_count; i++) {
        struct span text = span_of(source->header[i].text, source->header[i].len);
        if (span_equal(trimmed ? store_parse_trim(text) : text, want)) {
            if (found >= 0) {
                return -2;
            }
            found = (int)i;
        }
    }
    return found;
}

/* A head line in one piece that holds another delimiter was most likely meant to be cut there. */
static const char *likely_delimiter(const struct store_source *source)
{
    const char *head = source->header_count == 1 ? source->header[0].text : "";
    return strchr(head, ';')    ? "; is it delimiter: \";\" in the manifest?"
           : strchr(head, '\t') ? "; is it delimiter: tab in the manifest?"
           : strchr(head, '|')  ? "; is it delimiter: \"|\" in the manifest?"
           : strchr(head, ',')  ? "; is it delimiter: \",\" in the manifest?"
                                : "";
}

static enum err bind_field(struct import *import, struct import_column *column,
                           struct err_info *reterr)
{
    const char *source = column->declared->source[0] ? column->declared->source : column->name;
    int found = find_header(import->source, source, false);
    if (found == -1) {
        found = find_header(import->source, source, true);
    }
    if (found < 0) {
        return proto_err_set(reterr, E_SCHEMA, "line 1: %s column is headed '%s'%s",
                             found == -2 ? "more than one" : "no", source,
                             likely_delimiter(import->source));
    }
    column->field = (size_t)found;
    return E_OK;
}

static enum err alloc_column(struct import_column *column)
{
    size_t rows = STORE_CHUNK_ROWS;
    column->null = proto_alloc(STORE_CHUNK_WORDS, sizeof *column->null);
    column->zones.max = STORE_CHUNK_BYTES_MAX;
    column->text.max = STORE_SEGMENT_TEXT_MAX;
    bool ok = column->null != NULL;
    if (column->form == STORE_FORM_NUMBER) {
        column->numbers = proto_alloc(rows, sizeof *column->numbers);
        ok = ok && column->numbers;
    } else if (column->form == STORE_FORM_CODE) {
        column->codes = proto_alloc(rows, sizeof *column->codes);
        ok = ok && column->codes;
    } else {
        column->text_start = proto_alloc(rows + 1, sizeof *column->text_start);
        column->segments = proto_alloc(rows, sizeof *column->segments);
        ok =
            ok && column->text_start && column->segments && !buf_reserve(&column->text, TEXT_START);
    }
    return ok ? E_OK : E_NO_MEMORY;
}

/* The table of an operation, and which operations need more than their own cell. */
static enum err open_operation(struct import *import, struct import_column *column,
                               struct err_info *reterr)
{
    const struct proto_column *declared = column->declared;
    size_t number = (size_t)(declared - import->manifest->schema.columns);
    struct span table = import->options->tables ? import->options->tables[number] : SPAN_NONE;
    enum err err = E_OK;
    if (import->options->forget) {
        /* Stored values went through it already. */
    } else if (declared->by.table && !table.len) {
        err = proto_err_set(reterr, E_INVALID, "its table %s is empty or was not given",
                            declared->by.table);
    } else if (declared->deidentify == PROTO_DEID_ZIP3) {
        err = store_zips_open(table, &column->zips, reterr);
    } else if (declared->deidentify == PROTO_DEID_GENERALISE) {
        err = store_hierarchy_open(table, declared->by.level, &column->hierarchy, reterr);
    }
    if (err) {
        proto_err_frame(reterr, "column %s", column->name);
        return err;
    }
    column->clean.max = STORE_SEGMENT_TEXT_MAX;
    bool redacts = declared->deidentify == PROTO_DEID_REDACT;
    import->redacts = import->redacts || redacts;
    import->has_relations = import->has_relations || redacts || declared->birth ||
                            declared->deidentify == PROTO_DEID_DATESHIFT;
    import->unit = column->is_unit ? column : import->unit;
    import->tokens = declared->type == PROTO_COLUMN_TOKENS ? column : import->tokens;
    import->tags = declared->type == PROTO_COLUMN_TAGS ? column : import->tags;
    return E_OK;
}

static enum err open_column(struct import *import, struct import_column *column, size_t published,
                            struct err_info *reterr)
{
    const struct proto_column *declared = column->declared;
    column->name = declared->name;
    column->published = &import->published.columns[published];
    column->report = &import->report->columns[published];
    memcpy(column->report->name, declared->name, sizeof column->report->name);
    import->report->column_count = published + 1;
    column->is_unit =
        import->published.unit[0] && strcmp(import->published.unit, declared->name) == 0;
    column->form =
        store_form_of(&import->published, published, declared->deidentify == PROTO_DEID_PSEUDONYM);
    enum err err = alloc_column(column);
    if (!err && column->published->type == PROTO_COLUMN_CATEGORY) {
        err = store_values_open(&column->values, column->published);
    }
    uint32_t codes = declared->type == PROTO_COLUMN_BOOLEAN ? 2 : (uint32_t)declared->value_count;
    if (!err && column->form == STORE_FORM_CODE && codes && codes <= STORE_HISTOGRAM_MAX) {
        column->histogram_codes = codes;
        column->histogram = proto_alloc(codes, sizeof *column->histogram);
        err = column->histogram ? E_OK : E_NO_MEMORY;
    }
    if (err) {
        return proto_err_set(reterr, err, "column %s: %s", column->name, proto_err_text(err));
    }
    err = open_operation(import, column, reterr);
    return err ? err : bind_field(import, column, reterr);
}

/* Columns of text that are dropped mostly hold names; what stands in them is taken out of the row's free text. */
static void find_names(struct import *import)
{
    const struct proto_schema *declared = &import->manifest->schema;
    for (size_t i = 0;
         i < declared->count && import->redacts && import->name_count < IMPORT_NAME_FIELDS_MAX;
         i++) {
        const struct proto_column *column = &declared->columns[i];
        if (column->deidentify == PROTO_DEID_DROP && column->type == PROTO_COLUMN_TEXT) {
            int found = find_header(import->source,
                                    column->source[0] ? column->source : column->name, true);
            if (found >= 0) {
                import->name_fields[import->name_count++] = (size_t)found;
            }
        }
    }
}

enum err import_columns_open(struct import *import, struct err_info *reterr)
{
    const struct proto_schema *declared = &import->manifest->schema;
    enum err err = proto_schema_publish(declared, &import->arena, &import->published);
    import->columns = err ? NULL : proto_alloc(import->published.count, sizeof *import->columns);
    if (!import->columns) {
        return proto_err_set(reterr, E_NO_MEMORY, "preparing the import");
    }
    for (size_t i = 0; i < declared->count && !err; i++) {
        if (declared->columns[i].deidentify != PROTO_DEID_DROP) {
            struct import_column *column = &import->columns[import->count++];
            column->declared = &declared->columns[i];
            column->decimal_comma = import->manifest->decimal == PROTO_DECIMAL_COMMA;
            err = open_column(import, column, import->count - 1, reterr);
        }
    }
    find_names(import);
    return err;
}

void import_column_close(struct import_column *column)
{
    if (column->numbers) {
        crypto_wipe(column->numbers, STORE_CHUNK_ROWS * sizeof *column->numbers);
    }
    if (column->codes) {
        crypto_wipe(column->codes, STORE_CHUNK_ROWS * sizeof *column->codes);
    }
    proto_free(column->numbers);
    proto_free(column->codes);
    proto_free(column->text_start);
    proto_free(column->segments);
    proto_free(column->null);
    proto_free(column->histogram);
    crypto_buf_fini(&column->text);
    crypto_buf_fini(&column->zones);
    crypto_buf_fini(&column->clean);
    store_values_close(&column->values);
    store_pseudonym_free(column->pseudonyms);
    store_zips_free(column->zips);
    store_hierarchy_free(column->hierarchy);
    crypto_key_free(column->key);
}
