#include "config.h"
#include "store/reader_fhir.h"

#include "crypto/memory.h"
#include "store/fhir_join.h"
#include "store/json_split.h"
#include "store/json_text.h"
#include "store/transform.h"

#include <stdio.h>

#define LOOK_EVERY 4096 /* objects */

struct reader {
    struct store_source base;
    const struct proto_mapping *mapping;
    struct store_reader_fhir_options options;
    struct span bytes; /* in place of files */
    struct store_json_split *split;
    uint32_t file; /* the one that split reads */
    uint64_t plain_before;
    uint64_t done_before;
    struct store_fhir_joins *joins;
    struct store_field *header;
    struct store_field *fields;
    char (*numbers)[STORE_JSON_NUMBER];
    char (*names)[STORE_FHIR_NAME]; /* of references */
    json_t *object;                 /* what fields of text point into */
    const json_t *row;              /* the resource in it */
    char row_id[STORE_FHIR_NAME];   /* of a resource that has none but a fullUrl */
    char quoted_rows[80];           /* the type of rows as JSON writes it */
};

/* --- objects --------------------------------------------------------------------------------- */

static void drop_row(struct reader *reader)
{
    json_decref(reader->object);
    reader->object = NULL;
    reader->row = NULL;
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static enum err check_bundle(const char *type, uint64_t line, struct err_info *reterr)
{
    static const char *const read[] = {"transaction", "batch",    "collection",
                                       "searchset",   "document", NULL};
    for (size_t i = 0; type && read[i]; i++) {
        if (strcmp(type, read[i]) == 0) {
            return E_OK;
        }
    }
    return proto_err_set(reterr, E_UNSUPPORTED,
                         "line %llu: a Bundle whose type is none of transaction, batch, "
                         "collection, searchset, document",
                         (unsigned long long)line);
}

/* The resource of PIECE, or NULL where it is none: an entry without one, or the rest of a Bundle. *RET_FAULT: it cannot be
 * used. */
static enum err open_piece(struct reader *reader, const struct store_json_piece *piece,
                           const char **ret_fault, struct err_info *reterr)
{
    *ret_fault = store_json_parse(piece->text, &reader->object);
    if (*ret_fault) {
        return E_OK;
    }
    const json_t *resource =
        piece->entry ? json_object_get(reader->object, "resource") : reader->object;
    const char *type = text_of(resource, "resourceType");
    if (!resource) {
        return E_OK;
    }
    if (!type) {
        *ret_fault = "is no FHIR resource";
        return E_OK;
    }
    if (strcmp(type, "Bundle") == 0) {
        *ret_fault = piece->entry ? "is a Bundle in a Bundle" : NULL;
        return piece->entry ? E_OK : check_bundle(text_of(resource, "type"), piece->line, reterr);
    }
    reader->row = resource;
    return E_OK;
}

/* Whether the beginning of an object that is too long says that its type is one that is not wanted. */
static bool is_other(const struct reader *reader, struct span text)
{
    static const char key[] = "\"resourceType\"";
    const uint8_t *at = memmem(text.ptr, text.len, key, sizeof key - 1);
    if (!at) {
        return false;
    }
    struct span rest = span_of(at, text.len - (size_t)(at - text.ptr));
    const uint8_t *open = rest.len > sizeof key
                              ? memchr(rest.ptr + sizeof key - 1, '"', rest.len - sizeof key)
                              : NULL;
    size_t len = strlen(reader->mapping->rows);
    size_t left = open ? rest.len - (size_t)(open + 1 - rest.ptr) : 0;
    return left > len &&
           (memcmp(open + 1, reader->mapping->rows, len) != 0 || open[1 + len] != '"');
}

static bool has(struct span text, const char *word)
{
    return memmem(text.ptr, text.len, word, strlen(word)) != NULL;
}

/* Whether a resource can be a row, or the rest of a Bundle: parsing costs most, and an export holds much else. What names no
 * type at all is looked at, as it is to be told; \u may spell anything. */
static bool may_be_row(const struct reader *reader, struct span text)
{
    return has(text, reader->quoted_rows) || has(text, "\"Bundle\"") ||
           !has(text, "\"resourceType\"") || has(text, "\\u");
}

/* --- files ----------------------------------------------------------------------------------- */

static enum err open_file(struct reader *reader, uint32_t file, struct err_info *reterr)
{
    reader->file = file;
    return reader->options.count == 0
               ? store_json_split_bytes(reader->bytes, &reader->split, reterr)
               : store_json_split_open(reader->options.paths[file], &reader->split, reterr);
}

/* What was read of the file at hand and of those before it. */
static void tell(struct reader *reader)
{
    struct store_source now = {0};
    if (reader->split) {
        store_json_split_tell(reader->split, &now);
    }
    reader->base.bytes_done = reader->done_before + now.bytes_done;
    reader->base.bytes_plain = reader->plain_before + now.bytes_plain;
}

static void close_file(struct reader *reader)
{
    tell(reader);
    reader->done_before = reader->base.bytes_done;
    reader->plain_before = reader->base.bytes_plain;
    store_json_split_close(reader->split);
    reader->split = NULL;
}

/* The next object of all files. */
static enum err next_piece(struct reader *reader, struct store_json_piece *ret,
                           struct err_info *reterr)
{
    for (;;) {
        enum err err = reader->split ? E_OK : open_file(reader, reader->file, reterr);
        err = err ? err : store_json_split_next(reader->split, ret, reterr);
        if (err || !ret->end || reader->file + 1 >= reader->options.count) {
            tell(reader);
            return err;
        }
        close_file(reader);
        reader->file++;
    }
}

static void rewind_files(struct reader *reader)
{
    close_file(reader);
    reader->file = 0;
    reader->plain_before = 0;
}

/* --- what rows refer to ---------------------------------------------------------------------- */

static enum err collect_piece(struct reader *reader, const struct store_json_piece *piece,
                              struct err_info *reterr)
{
    const char *fault = piece->fault; /* reported when the rows are read */
    if (fault || !store_fhir_joins_may(reader->joins, piece->text)) {
        return E_OK;
    }
    enum err err = open_piece(reader, piece, &fault, reterr);
    if (!err && !fault && reader->row) {
        err = store_fhir_joins_keep(reader->joins, reader->row, text_of(reader->object, "fullUrl"),
                                    piece->line, reterr);
    }
    drop_row(reader);
    return err;
}

static enum err look_up_from_work(const struct reader *reader, struct err_info *reterr)
{
    const struct store_reader_fhir_options *options = &reader->options;
    if (options->progress) {
        options->progress(options->user, reader->base.bytes_done, reader->base.bytes_total);
    }
    return options->cancelled && options->cancelled(options->user)
               ? proto_err_set(reterr, E_CANCELLED, "the import was cancelled")
               : E_OK;
}

/* The first reading. */
static enum err collect(struct reader *reader, struct err_info *reterr)
{
    struct store_json_piece piece = {0};
    enum err err = E_OK;
    for (uint64_t seen = 1; !err && !piece.end; seen++) {
        err = next_piece(reader, &piece, reterr);
        err = err || piece.end ? err : collect_piece(reader, &piece, reterr);
        if (!err && seen % LOOK_EVERY == 0) {
            err = look_up_from_work(reader, reterr);
        }
    }
    err = err ? err : store_fhir_joins_finish(reader->joins, reterr);
    rewind_files(reader);
    return err;
}

/* --- fields ---------------------------------------------------------------------------------- */

/* The first value at PATHS of field I, in the row or in what it refers to. */
static const char *first_value(struct reader *reader, size_t i, struct store_field *ret)
{
    const struct proto_mapping_field *field = &reader->mapping->fields[i];
    const char *fault = NULL;
    *ret = (struct store_field){.text = "", .null = true};
    for (size_t j = 0; j < field->path_count && ret->null && !fault; j++) {
        const struct proto_mapping_path *path = &field->paths[j];
        if (path->join < 0) {
            fault = store_fhir_value(reader->row, field, path, reader->numbers[i], ret);
        } else {
            *ret = store_fhir_joins_value(reader->joins, i, j);
        }
    }
    return fault;
}

/* The id of what a Reference names: that of the resource itself where it was joined. */
static void refer(struct reader *reader, size_t i, struct store_field *field)
{
    const struct proto_mapping_field *mapped = &reader->mapping->fields[i];
    char *name = reader->names[i];
    if (!store_fhir_reference(field->text, "", name)) {
        *field = (struct store_field){.text = "", .null = true};
        return;
    }
    *field = store_fhir_joins_id(reader->joins, mapped->path_texts[0]);
    if (field->null) {
        const char *id = store_fhir_id(name);
        *field = (struct store_field){.text = id, .len = strlen(id)};
    }
}

static bool read_day(const struct store_field *field, double *ret)
{
    bool partial;
    return !field->null &&
           !store_parse_record_date(span_of(field->text, field->len), ret, &partial);
}

static void put_number(struct reader *reader, size_t i, long number, struct store_field *ret)
{
    int len = snprintf(reader->numbers[i], STORE_JSON_NUMBER, "%ld", number);
    *ret = (struct store_field){.text = reader->numbers[i], .len = (size_t)len};
}

/* Years from the birth, whose day may be missing: then the first one is taken. */
static const char *age(struct reader *reader, size_t i, struct store_field *field)
{
    struct store_field born = store_fhir_joins_birth(reader->joins);
    char number[STORE_JSON_NUMBER];
    if (born.null && strcmp(reader->mapping->rows, "Patient") == 0) {
        const json_t *date = json_object_get(reader->row, "birthDate");
        const char *fault = store_json_scalar(date, number, &born);
        if (fault) {
            return fault;
        }
    }
    double from, to;
    if (field->null || born.null) {
        *field = (struct store_field){.text = "", .null = true};
        return NULL;
    }
    if (!read_day(field, &to)) {
        return "is not a date";
    }
    if (!read_day(&born, &from)) {
        return "needs a date of birth, which is none";
    }
    put_number(reader, i, store_years_between(from, to), field);
    return NULL;
}

static const char *days(struct reader *reader, size_t i, struct store_field *field)
{
    const struct proto_mapping_field *mapped = &reader->mapping->fields[i];
    struct store_field until = {.text = "", .null = true};
    char number[STORE_JSON_NUMBER];
    const char *fault = NULL;
    for (size_t j = 0; j < mapped->until_count && until.null && !fault; j++) {
        fault = store_fhir_text(reader->row, &mapped->until[j], number, &until);
    }
    if (fault) {
        return fault;
    }
    double from, to;
    if (field->null || until.null) {
        *field = (struct store_field){.text = "", .null = true};
        return NULL;
    }
    if (!read_day(field, &from) || !read_day(&until, &to)) {
        return "is not a date";
    }
    put_number(reader, i, (long)(to - from), field);
    return NULL;
}

/* Whether what the paths lead from is there: nothing is said of a patient who was not found. */
static bool is_known(const struct reader *reader, const struct proto_mapping_field *mapped)
{
    bool known = false;
    for (size_t i = 0; i < mapped->path_count; i++) {
        int join = mapped->paths[i].join;
        known = known || join < 0 || store_fhir_joins_found(reader->joins, join);
    }
    return known;
}

static void map_value(const struct proto_mapping_field *mapped, struct store_field *field)
{
    for (size_t i = 0; i < mapped->map_count && !field->null; i++) {
        if (strcmp(mapped->map[i].from, field->text) == 0) {
            field->text = mapped->map[i].to;
            field->len = strlen(field->text);
            return;
        }
    }
}

static const char *take_field(struct reader *reader, size_t i)
{
    const struct proto_mapping_field *mapped = &reader->mapping->fields[i];
    struct store_field *field = &reader->fields[i];
    const char *fault = first_value(reader, i, field);
    if (fault) {
        return fault;
    }
    switch (mapped->as) {
    case PROTO_MAPPING_REFERENCE:
        if (!field->null) {
            refer(reader, i, field);
        }
        break;
    case PROTO_MAPPING_AGE:
        fault = age(reader, i, field);
        break;
    case PROTO_MAPPING_DAYS:
        fault = days(reader, i, field);
        break;
    case PROTO_MAPPING_FLAG:
        if (field->null && is_known(reader, mapped)) {
            *field = (struct store_field){.text = "false", .len = strlen("false")};
        }
        break;
    default:
        break;
    }
    map_value(mapped, field);
    return fault;
}

/* --- rows ------------------------------------------------------------------------------------ */

/* A resource in a Bundle that is to be made somewhere has no id yet; what refers to it does so by its fullUrl. */
static void name_row(struct reader *reader)
{
    const char *full_url = text_of(reader->object, "fullUrl");
    json_t *resource = json_object_get(reader->object, "resource");
    if (resource && resource == reader->row && full_url && !json_object_get(resource, "id") &&
        store_fhir_reference(full_url, reader->mapping->rows, reader->row_id)) {
        /* Out of memory, the row has no id, and is refused for it. */
        (void)json_object_set_new(resource, "id", json_string(store_fhir_id(reader->row_id)));
    }
}

/* *RET_PASSED: the piece is no row. */
static enum err take_piece(struct reader *reader, const struct store_json_piece *piece,
                           struct store_row *row, bool *ret_passed, struct err_info *reterr)
{
    *ret_passed = piece->too_long && is_other(reader, piece->text);
    row->fault = piece->fault;
    *ret_passed = *ret_passed || (!piece->fault && !may_be_row(reader, piece->text));
    if (*ret_passed || piece->fault) {
        return E_OK;
    }
    enum err err = open_piece(reader, piece, &row->fault, reterr);
    if (err || row->fault) {
        return err;
    }
    *ret_passed = !reader->row ||
                  strcmp(text_of(reader->row, "resourceType"), reader->mapping->rows) != 0 ||
                  !store_fhir_wanted(reader->row, reader->mapping);
    if (*ret_passed) {
        return E_OK;
    }
    name_row(reader);
    err = store_fhir_joins_find(reader->joins, reader->row, &reader->base.unjoined, reterr);
    for (size_t i = 0; i < reader->mapping->field_count && !err && !row->fault; i++) {
        row->fault = take_field(reader, i);
        row->fault_column = row->fault ? reader->mapping->fields[i].name : NULL;
    }
    return err;
}

static enum err next_row(struct store_source *source, struct store_row *ret,
                         struct err_info *reterr)
{
    struct reader *reader = (struct reader *)source;
    bool passed;
    do {
        struct store_json_piece piece;
        memset(ret, 0, sizeof *ret);
        drop_row(reader);
        enum err err = next_piece(reader, &piece, reterr);
        ret->end = piece.end;
        if (err || piece.end) {
            return err;
        }
        ret->line = piece.line;
        ret->file = reader->file;
        err = take_piece(reader, &piece, ret, &passed, reterr);
        if (err) {
            return err;
        }
    } while (passed);
    ret->fields = reader->fields;
    ret->count = reader->base.header_count;
    return E_OK;
}

/* --- opening --------------------------------------------------------------------------------- */

static void free_reader(struct store_source *source)
{
    struct reader *reader = (struct reader *)source;
    if (!reader) {
        return;
    }
    drop_row(reader);
    store_json_split_close(reader->split);
    store_fhir_joins_close(reader->joins);
    crypto_wipe(reader->numbers, reader->base.header_count * sizeof *reader->numbers);
    crypto_wipe(reader->names, reader->base.header_count * sizeof *reader->names);
    proto_free(reader->header);
    proto_free(reader->fields);
    proto_free(reader->numbers);
    proto_free(reader->names);
    proto_free(reader);
}

static enum err take_fields(struct reader *reader)
{
    const struct proto_mapping *mapping = reader->mapping;
    size_t count = mapping->field_count;
    reader->header = proto_alloc(count, sizeof *reader->header);
    reader->fields = proto_alloc(count, sizeof *reader->fields);
    reader->numbers = proto_alloc(count, sizeof *reader->numbers);
    reader->names = proto_alloc(count, sizeof *reader->names);
    if (!reader->header || !reader->fields || !reader->numbers || !reader->names) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = mapping->fields[i].name;
        reader->header[i] = (struct store_field){.text = name, .len = strlen(name)};
    }
    reader->base.header = reader->header;
    reader->base.header_count = count;
    return E_OK;
}

static enum err open_joins(struct reader *reader, struct err_info *reterr)
{
    size_t memory = reader->options.memory_bytes ? reader->options.memory_bytes : STORE_FHIR_MEMORY;
    bool joins = reader->mapping->join_count > 0;
    enum err err = store_fhir_joins_open(reader->mapping, reader->options.folder, memory,
                                         &reader->joins, reterr);
    reader->base.bytes_total *= joins ? 2 : 1;
    return err || !joins ? err : collect(reader, reterr);
}

/* All files are opened once, so that one that is missing is found before any is read. */
static enum err measure_files(struct reader *reader, struct err_info *reterr)
{
    uint64_t total = 0;
    enum err err = E_OK;
    for (uint32_t i = 0; i < reader->options.count && !err; i++) {
        struct store_source file = {0};
        err = open_file(reader, i, reterr);
        if (!err) {
            store_json_split_tell(reader->split, &file);
            store_json_split_close(reader->split);
            reader->split = NULL;
        }
        total += file.bytes_total;
        reader->base.packed = reader->base.packed || file.packed;
    }
    reader->base.bytes_total = total;
    reader->file = 0;
    return err;
}

static enum err open_reader(const struct proto_mapping *mapping,
                            const struct store_reader_fhir_options *options, struct span bytes,
                            struct store_source **ret, struct err_info *reterr)
{
    struct reader *reader = proto_alloc(1, sizeof *reader);
    if (!reader) {
        return proto_err_set(reterr, E_NO_MEMORY, "opening the data");
    }
    snprintf(reader->quoted_rows, sizeof reader->quoted_rows, "\"%s\"", mapping->rows);
    reader->base.next = next_row;
    reader->base.free = free_reader;
    reader->mapping = mapping;
    reader->options = *options;
    reader->bytes = bytes;
    enum err err = take_fields(reader);
    err = err ? proto_err_set(reterr, err, "opening the data") : measure_files(reader, reterr);
    err = err ? err : open_joins(reader, reterr);
    if (err) {
        free_reader(&reader->base);
        return err;
    }
    *ret = &reader->base;
    return E_OK;
}

enum err store_reader_fhir_open(const struct proto_mapping *mapping,
                                const struct store_reader_fhir_options *options,
                                struct store_source **ret, struct err_info *reterr)
{
    if (options->count == 0 || options->count > STORE_FHIR_FILES) {
        return proto_err_set(reterr, E_LIMIT, "1 to %d files are read at a time", STORE_FHIR_FILES);
    }
    return open_reader(mapping, options, SPAN_NONE, ret, reterr);
}

enum err store_reader_fhir_bytes(const struct proto_mapping *mapping,
                                 const struct store_reader_fhir_options *options, struct span bytes,
                                 struct store_source **ret, struct err_info *reterr)
{
    struct store_reader_fhir_options own = *options;
    own.count = 0;
    return open_reader(mapping, &own, bytes, ret, reterr);
}
