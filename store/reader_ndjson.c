#include "config.h"
#include "store/reader_ndjson.h"

#include "crypto/memory.h"
#include "proto/alloc.h"
#include "proto/codec.h"
#include "store/stream.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK       ((size_t)256 << 10)
#define NUMBER_SIZE 32 /* a long long, or a double of 17 digits */

struct reader {
    struct store_source base;
    struct store_stream *stream;
    uint8_t *block;
    const uint8_t *at;
    size_t left;
    bool last;
    uint64_t line;   /* of the next byte */
    struct buf text; /* a line that does not lie in one block */
    const char *const *names;
    struct store_field *header;
    struct store_field *fields;
    char (*numbers)[NUMBER_SIZE]; /* what fields of numbers point into */
    bool *absent;
    json_t *row;          /* fields of text point into it */
    const char *resource; /* the FHIR resource that is wanted; NULL: any object */
    bool passed;          /* the line at hand holds another one */
};

/* --- lines --------------------------------------------------------------------------------- */

static enum err fill(struct reader *reader, struct err_info *reterr)
{
    if (reader->left || reader->last) {
        return E_OK;
    }
    size_t got;
    enum err err = store_stream_read(reader->stream, reader->block, BLOCK, &got, reterr);
    if (err) {
        proto_err_frame(reterr, "reading line %llu", (unsigned long long)reader->line);
        return err;
    }
    reader->last = got == 0;
    reader->at = reader->block;
    reader->left = got;
    reader->base.bytes_done = store_stream_done(reader->stream);
    reader->base.bytes_plain += got;
    return E_OK;
}

/* The next line without its end. Too long a one is passed over; then RET_LONG is set. *RET_END: there is none. */
static enum err next_line(struct reader *reader, struct span *ret, bool *ret_long, bool *ret_end,
                          struct err_info *reterr)
{
    reader->text.len = 0;
    *ret_long = false;
    *ret_end = false;
    for (bool any = false;; any = true) {
        enum err err = fill(reader, reterr);
        if (err) {
            return err;
        }
        if (reader->left == 0) {
            *ret = buf_span(&reader->text);
            *ret_end = !any;
            return E_OK;
        }
        const uint8_t *end = memchr(reader->at, '\n', reader->left);
        struct span piece = span_of(reader->at, end ? (size_t)(end - reader->at) : reader->left);
        size_t taken = piece.len + (end != NULL);
        reader->at += taken;
        reader->left -= taken;
        *ret_long = *ret_long || reader->text.len + piece.len > STORE_NDJSON_LINE_MAX;
        if (end && reader->text.len == 0) {
            *ret = piece;
            return E_OK;
        }
        if (!*ret_long && buf_put(&reader->text, piece)) {
            return proto_err_set(reterr, E_NO_MEMORY, "line %llu: out of memory",
                                 (unsigned long long)reader->line);
        }
        if (end) {
            *ret = buf_span(&reader->text);
            return E_OK;
        }
    }
}

static bool is_blank(struct span line)
{
    for (size_t i = 0; i < line.len; i++) {
        if (line.ptr[i] != ' ' && line.ptr[i] != '\t' && line.ptr[i] != '\r') {
            return false;
        }
    }
    return true;
}

/* The parser recurses into what it reads, so the depth is looked at first. */
static bool too_deep(struct span line)
{
    unsigned depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < line.len; i++) {
        uint8_t c = line.ptr[i];
        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > STORE_NDJSON_DEPTH_MAX) {
                return true;
            }
        } else if (depth && (c == '}' || c == ']')) {
            depth--;
        }
    }
    return false;
}

/* --- objects ------------------------------------------------------------------------------- */

/* One step of a path, LEN bytes of KEY, into an object or list. */
static const json_t *step(const json_t *from, const char *key, size_t len)
{
    if (json_is_object(from)) {
        char name[129];
        if (len >= sizeof name) {
            return NULL;
        }
        memcpy(name, key, len);
        name[len] = '\0';
        return json_object_get(from, name);
    }
    size_t index = 0;
    for (size_t i = 0; i < len; i++) {
        if (key[i] < '0' || key[i] > '9' || len > 6) {
            return NULL;
        }
        index = index * 10 + (size_t)(key[i] - '0');
    }
    return len ? json_array_get(from, index) : NULL;
}

static const json_t *find(const json_t *row, const char *name)
{
    const json_t *value = json_object_get(row, name);
    if (value || !strchr(name, '.')) {
        return value;
    }
    value = row;
    while (value && *name) {
        size_t len = strcspn(name, ".");
        value = step(value, name, len);
        name += len + (name[len] == '.');
    }
    return value;
}

static void cut_reference(const char *name, struct store_field *field)
{
    size_t len = strlen(name);
    const char *slash = strrchr(field->text, '/');
    if (slash && len >= 9 && strcmp(name + len - 9, "reference") == 0) {
        field->len -= (size_t)(slash + 1 - field->text);
        field->text = slash + 1;
    }
}

static const char *take_value(struct reader *reader, size_t i, const json_t *value)
{
    struct store_field *field = &reader->fields[i];
    char *number = reader->numbers[i];
    *field = (struct store_field){.text = ""};
    if (value) {
        reader->absent[i] = false;
    }
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_NULL:
        field->null = true;
        return NULL;
    case JSON_STRING:
        field->text = json_string_value(value);
        field->len = json_string_length(value);
        if (reader->resource) {
            cut_reference(reader->names[i], field);
        }
        return field->len > STORE_NDJSON_FIELD_MAX ? "is too long" : NULL;
    case JSON_INTEGER:
        field->len =
            (size_t)snprintf(number, NUMBER_SIZE, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL: {
        /* The shortest of the two that reads back the same, so that 0.1 stays a short decimal. */
        double real = json_real_value(value);
        field->len = (size_t)snprintf(number, NUMBER_SIZE, "%.15g", real);
        if (strtod(number, NULL) != real) {
            field->len = (size_t)snprintf(number, NUMBER_SIZE, "%.17g", real);
        }
        break;
    }
    case JSON_TRUE:
    case JSON_FALSE:
        field->text = json_is_true(value) ? "true" : "false";
        field->len = strlen(field->text);
        return NULL;
    default:
        return "has a list or object where a value belongs";
    }
    field->text = number;
    return NULL;
}

static void drop_row(struct reader *reader)
{
    json_decref(reader->row);
    reader->row = NULL;
}

static const char *parse(struct reader *reader, struct span line, const char **ret_column)
{
    if (line.len && memchr(line.ptr, 0, line.len)) {
        return "holds a zero byte";
    }
    if (!proto_utf8_valid(line)) {
        return "is not valid UTF-8";
    }
    if (too_deep(line)) {
        return "is nested too deeply";
    }
    json_error_t error;
    reader->row = json_loadb((const char *)line.ptr, line.len, JSON_REJECT_DUPLICATES, &error);
    if (!reader->row) {
        return json_error_code(&error) == json_error_duplicate_key      ? "has a key twice"
               : json_error_code(&error) == json_error_numeric_overflow ? "has a number too large"
               : json_error_code(&error) == json_error_null_character   ? "holds a zero byte"
                                                                        : "is not valid JSON";
    }
    if (!json_is_object(reader->row)) {
        return "is not a JSON object";
    }
    if (reader->resource) {
        const char *type = json_string_value(json_object_get(reader->row, "resourceType"));
        reader->passed = type && strcmp(type, reader->resource) != 0;
        if (!type || reader->passed) {
            return type ? NULL : "is no FHIR resource";
        }
    }
    const char *fault = NULL;
    for (size_t i = 0; i < reader->base.header_count && !fault; i++) {
        fault = take_value(reader, i, find(reader->row, reader->names[i]));
        *ret_column = fault ? reader->names[i] : NULL;
    }
    return fault;
}

static enum err next_row(struct store_source *source, struct store_row *ret,
                         struct err_info *reterr)
{
    struct reader *reader = (struct reader *)source;
    memset(ret, 0, sizeof *ret);
    do {
        struct span line;
        bool too_long;
        drop_row(reader);
        enum err err = next_line(reader, &line, &too_long, &ret->end, reterr);
        if (err || ret->end) {
            return err;
        }
        ret->line = reader->line++;
        reader->passed = !too_long && is_blank(line);
        if (!reader->passed) {
            ret->fault =
                too_long ? "is too long for one line" : parse(reader, line, &ret->fault_column);
        }
    } while (reader->passed);
    ret->fields = reader->fields;
    ret->count = reader->base.header_count;
    return E_OK;
}

/* --- opening ------------------------------------------------------------------------------- */

static void free_reader(struct store_source *source)
{
    struct reader *reader = (struct reader *)source;
    if (!reader) {
        return;
    }
    drop_row(reader);
    store_stream_close(reader->stream);
    if (reader->block) {
        crypto_wipe(reader->block, BLOCK);
    }
    if (reader->text.ptr) {
        crypto_wipe(reader->text.ptr, reader->text.cap);
    }
    buf_fini(&reader->text);
    proto_free(reader->block);
    proto_free(reader->header);
    proto_free(reader->fields);
    proto_free(reader->numbers);
    proto_free(reader->absent);
    proto_free(reader);
}

static enum err take_names(struct reader *reader, const char *const *names, size_t count)
{
    reader->names = names;
    reader->header = proto_alloc(count + 1, sizeof *reader->header);
    reader->fields = proto_alloc(count + 1, sizeof *reader->fields);
    reader->numbers = proto_alloc(count + 1, sizeof *reader->numbers);
    reader->absent = proto_alloc(count + 1, sizeof *reader->absent);
    if (!reader->header || !reader->fields || !reader->numbers || !reader->absent) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        reader->header[i] = (struct store_field){.text = names[i], .len = strlen(names[i])};
        reader->absent[i] = true;
    }
    reader->base.header = reader->header;
    reader->base.header_count = count;
    reader->base.absent = reader->absent;
    return E_OK;
}

static enum err start(struct reader *reader, const char *const *names, size_t count,
                      struct store_source **ret, struct err_info *reterr)
{
    reader->base.next = next_row;
    reader->base.free = free_reader;
    reader->line = 1;
    reader->text.max = STORE_NDJSON_LINE_MAX;
    enum err err = take_names(reader, names, count);
    if (err) {
        (void)proto_err_set(reterr, err, "opening the data");
    }
    err = err ? err : fill(reader, reterr);
    if (err) {
        free_reader(&reader->base);
        return err;
    }
    if (reader->left >= 3 && memcmp(reader->at, "\xef\xbb\xbf", 3) == 0) {
        reader->at += 3;
        reader->left -= 3;
    }
    *ret = &reader->base;
    return E_OK;
}

enum err store_reader_ndjson_bytes(struct span bytes, const char *const *names, size_t count,
                                   struct store_source **ret, struct err_info *reterr)
{
    struct reader *reader = proto_alloc(1, sizeof *reader);
    if (!reader) {
        return proto_err_set(reterr, E_NO_MEMORY, "opening the data");
    }
    reader->at = bytes.ptr;
    reader->left = bytes.len;
    reader->last = true;
    reader->base.bytes_total = bytes.len;
    reader->base.bytes_done = bytes.len;
    reader->base.bytes_plain = bytes.len;
    return start(reader, names, count, ret, reterr);
}

enum err store_reader_ndjson_open(const char *path, const char *const *names, size_t count,
                                  struct store_source **ret, struct err_info *reterr)
{
    struct store_stream *stream;
    enum err err = store_stream_open(path, &stream, reterr);
    if (err) {
        return err;
    }
    struct reader *reader = proto_alloc(1, sizeof *reader);
    uint8_t *block = reader ? proto_alloc(BLOCK, 1) : NULL;
    if (!block) {
        proto_free(reader);
        store_stream_close(stream);
        return proto_err_set(reterr, E_NO_MEMORY, "opening the data");
    }
    reader->stream = stream;
    reader->block = block;
    reader->base.bytes_total = store_stream_total(stream);
    reader->base.packed = store_stream_is_packed(stream);
    return start(reader, names, count, ret, reterr);
}

void store_reader_ndjson_fhir(struct store_source *source, const char *resource)
{
    ((struct reader *)source)->resource = resource;
}
