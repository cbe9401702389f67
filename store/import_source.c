/* Which reader gives the rows. */
#include "config.h"
#include "store/import_internal.h"

#include "store/reader_conll.h"
#include "store/reader_csv.h"
#include "store/reader_ndjson.h"

#include <stdio.h>

static bool ends_with(const char *name, const char *end)
{
    size_t a = strlen(name);
    size_t b = strlen(end);
    return a >= b && strcmp(name + a - b, end) == 0;
}

/* The format that the end of a file's name tells. */
static enum proto_format named_format(const char *name)
{
    static const struct {
        const char *end;
        enum proto_format format;
    } ends[] = {{".ndjson", PROTO_FORMAT_NDJSON},
                {".jsonl", PROTO_FORMAT_NDJSON},
                {".conll", PROTO_FORMAT_CONLL},
                {".iob", PROTO_FORMAT_CONLL}};
    static const char *const packed[] = {"", ".gz", ".zst"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        for (size_t j = 0; j < 3; j++) {
            char end[16];
            snprintf(end, sizeof end, "%s%s", ends[i].end, packed[j]);
            if (ends_with(name, end)) {
                return ends[i].format;
            }
        }
    }
    return PROTO_FORMAT_CSV;
}

/* The option wins over the manifest, and that over the file's name. */
static enum err choose_format(const struct import *import, enum proto_format *ret,
                              struct err_info *reterr)
{
    const struct store_import_options *options = import->options;
    *ret = import->manifest->format;
    static const char *const names[] = {"", "csv", "ndjson", "conll", "fhir"};
    if (options->format) {
        unsigned format = PROTO_FORMAT_CSV;
        while (format <= PROTO_FORMAT_FHIR && strcmp(options->format, names[format]) != 0) {
            format++;
        }
        if (format > PROTO_FORMAT_FHIR) {
            return proto_err_set(reterr, E_UNSUPPORTED,
                                 "this version reads csv, ndjson, conll and fhir");
        }
        *ret = (enum proto_format)format;
    } else if (*ret == PROTO_FORMAT_NONE) {
        *ret = named_format(options->data_name ? options->data_name : options->data_path);
    }
    return E_OK;
}

/* A JSON object has no header line: what the manifest asks for is its header. */
static const char **ask_names(struct import *import, size_t *ret_count)
{
    const struct proto_schema *declared = &import->manifest->schema;
    const char **names = arena_alloc(&import->arena, declared->count, sizeof *names);
    size_t count = 0;
    bool redacts = false;
    for (size_t i = 0; i < declared->count; i++) {
        redacts = redacts || declared->columns[i].deidentify == PROTO_DEID_REDACT;
    }
    for (size_t i = 0; names && i < declared->count; i++) {
        const struct proto_column *column = &declared->columns[i];
        bool names_people = redacts && column->type == PROTO_COLUMN_TEXT;
        if (column->deidentify != PROTO_DEID_DROP || names_people) {
            names[count++] = column->source[0] ? column->source : column->name;
        }
    }
    *ret_count = count;
    return names;
}

static enum err open_ndjson(struct import *import, struct err_info *reterr)
{
    size_t count;
    const char **names = ask_names(import, &count);
    return names ? store_reader_ndjson_open(import->options->data_path, names, count,
                                            &import->source, reterr)
                 : proto_err_set(reterr, E_NO_MEMORY, "preparing the import");
}

/* The manifest is the mapping: `resource:` says which resources are rows, each column's `source:` where its value lies. */
static enum err open_fhir(struct import *import, struct err_info *reterr)
{
    if (!import->manifest->resource) {
        return proto_err_set(
            reterr, E_INVALID,
            "FHIR data needs resource: in the manifest, such as resource: Observation");
    }
    enum err err = open_ndjson(import, reterr);
    if (!err) {
        store_reader_ndjson_fhir(import->source, import->manifest->resource);
    }
    return err;
}

/* Every column and no row. */
static enum err open_nothing(struct import *import, struct err_info *reterr)
{
    size_t count;
    const char **names = ask_names(import, &count);
    return names ? store_reader_ndjson_bytes(SPAN_NONE, names, count, &import->source, reterr)
                 : proto_err_set(reterr, E_NO_MEMORY, "preparing the import");
}

enum err import_source_open(struct import *import, struct err_info *reterr)
{
    if (import->options->forget) {
        return open_nothing(import, reterr);
    }
    enum proto_format format;
    enum err err = choose_format(import, &format, reterr);
    if (err) {
        return err;
    }
    if (format == PROTO_FORMAT_FHIR) {
        return open_fhir(import, reterr);
    }
    if (format == PROTO_FORMAT_CONLL) {
        return store_reader_conll_open(import->options->data_path, &import->source, reterr);
    }
    return format == PROTO_FORMAT_NDJSON
               ? open_ndjson(import, reterr)
               : store_reader_csv_open(import->options->data_path, &import->source, reterr);
}
