/* Which reader gives the rows. */
#include "config.h"
#include "store/import_internal.h"

#include "store/reader_conll.h"
#include "store/reader_csv.h"
#include "store/reader_fhir.h"
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
    bool fhir = options->mapping && options->mapping->format == PROTO_MAPPING_FHIR;
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
    } else if (*ret == PROTO_FORMAT_NONE && fhir) {
        *ret = PROTO_FORMAT_FHIR;
    } else if (*ret == PROTO_FORMAT_NONE) {
        *ret = named_format(options->data_name ? options->data_name : options->data_path);
    }
    return E_OK;
}

/* JSON objects and notes have no header line: what the manifest asks for is their header. */
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

static enum err open_asked(struct import *import, enum proto_format format, struct err_info *reterr)
{
    size_t count;
    const char **names = ask_names(import, &count);
    const char *path = import->options->data_path;
    if (!names) {
        return proto_err_set(reterr, E_NO_MEMORY, "preparing the import");
    }
    return format == PROTO_FORMAT_CONLL
               ? store_reader_conll_open(path, names, count, &import->source, reterr)
               : store_reader_ndjson_open(path, names, count, &import->source, reterr);
}

static void tell_joining(void *user, uint64_t done, uint64_t total)
{
    const struct store_import_options *options = ((const struct import *)user)->options;
    if (options->progress) {
        options->progress(options->user, done, total, 0);
    }
}

static bool joining_cancelled(void *user)
{
    const struct store_import_options *options = ((const struct import *)user)->options;
    return options->cancelled && options->cancelled(options->user);
}

static enum err open_fhir(struct import *import, struct err_info *reterr)
{
    const struct store_import_options *options = import->options;
    if (!options->mapping || options->mapping->format != PROTO_MAPPING_FHIR) {
        return proto_err_set(reterr, E_INVALID,
                             "FHIR data needs mapping: in the manifest, a file or the name of a "
                             "ready one (`concordat dataset mapping` lists them)");
    }
    size_t count = options->more_count + 1;
    const char **paths = arena_alloc(&import->arena, count, sizeof *paths);
    struct buf folder = {.max = PATH_MAX};
    enum err err = paths ? buf_printf(&folder, "%s/partitions", import->store->home) : E_NO_MEMORY;
    const char *kept = err ? NULL : arena_strdup(&import->arena, buf_span(&folder));
    buf_fini(&folder);
    if (!kept) {
        return proto_err_set(reterr, E_NO_MEMORY, "preparing the import");
    }
    paths[0] = options->data_path;
    for (size_t i = 1; i < count; i++) {
        paths[i] = options->more_paths[i - 1];
    }
    struct store_reader_fhir_options fhir = {.paths = paths,
                                             .count = count,
                                             .folder = kept,
                                             .cancelled = joining_cancelled,
                                             .progress = tell_joining,
                                             .user = import};
    err = proto_mapping_fits(options->mapping, &import->manifest->schema, reterr);
    return err ? err : store_reader_fhir_open(options->mapping, &fhir, &import->source, reterr);
}

/* Every column and no row. */
static enum err open_nothing(struct import *import, struct err_info *reterr)
{
    size_t count;
    const char **names = ask_names(import, &count);
    return names ? store_reader_ndjson_bytes(SPAN_NONE, names, count, &import->source, reterr)
                 : proto_err_set(reterr, E_NO_MEMORY, "preparing the import");
}

static enum err csv_only(const struct import *import, struct err_info *reterr)
{
    return import->manifest->delimiter || import->manifest->decimal
               ? proto_err_set(reterr, E_INVALID,
                               "delimiter: and decimal: of the manifest belong to CSV")
               : E_OK;
}

enum err import_source_open(struct import *import, struct err_info *reterr)
{
    if (import->options->take_source) {
        import->source = import->options->take_source;
        return csv_only(import, reterr);
    }
    if (import->options->forget) {
        return open_nothing(import, reterr);
    }
    enum proto_format format;
    enum err err = choose_format(import, &format, reterr);
    if (!err && format != PROTO_FORMAT_CSV && format != PROTO_FORMAT_NONE) {
        err = csv_only(import, reterr);
    }
    if (err) {
        return err;
    }
    if (format == PROTO_FORMAT_POSTGRES) {
        return proto_err_set(reterr, E_INVALID, "the rows of a database come without --data");
    }
    if (format == PROTO_FORMAT_FHIR) {
        return open_fhir(import, reterr);
    }
    if (import->options->more_count) {
        return proto_err_set(reterr, E_USAGE, "several files are read of FHIR data only");
    }
    if (format == PROTO_FORMAT_CONLL || format == PROTO_FORMAT_NDJSON) {
        return open_asked(import, format, reterr);
    }
    static const char delimiters[] = {[PROTO_DELIMITER_COMMA] = ',',
                                      [PROTO_DELIMITER_SEMICOLON] = ';',
                                      [PROTO_DELIMITER_TAB] = '\t',
                                      [PROTO_DELIMITER_BAR] = '|'};
    return store_reader_csv_open(import->options->data_path,
                                 delimiters[import->manifest->delimiter], &import->source, reterr);
}
