#include "config.h"
#include "store/reader_ndjson.h"

#include "proto/alloc.h"
#include "store/json_text.h"
#include "store/lines.h"

struct reader {
    struct store_source base;
    struct store_lines lines;
    const char *const *names;
    struct store_field *header;
    struct store_field *fields;
    char (*numbers)[STORE_JSON_NUMBER]; /* what fields of numbers point into */
    bool *absent;
    json_t *row; /* fields of text point into it */
};

static bool is_blank(struct span line)
{
    for (size_t i = 0; i < line.len; i++) {
        if (line.ptr[i] != ' ' && line.ptr[i] != '\t' && line.ptr[i] != '\r') {
            return false;
        }
    }
    return true;
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

static const char *take_value(struct reader *reader, size_t i, const json_t *value)
{
    if (value) {
        reader->absent[i] = false;
    }
    return store_json_scalar(value, reader->numbers[i], &reader->fields[i]);
}

static void drop_row(struct reader *reader)
{
    json_decref(reader->row);
    reader->row = NULL;
}

static const char *parse(struct reader *reader, struct span line, const char **ret_column)
{
    const char *fault = store_json_parse(line, &reader->row);
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
    struct span line;
    bool too_long;
    do {
        drop_row(reader);
        ret->line = reader->lines.line;
        enum err err = store_lines_next(&reader->lines, &line, &too_long, &ret->end, reterr);
        store_lines_tell(&reader->lines, &reader->base);
        if (err || ret->end) {
            return err;
        }
    } while (!too_long && is_blank(line));
    ret->fault = too_long ? "is too long for one line" : parse(reader, line, &ret->fault_column);
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
    store_lines_close(&reader->lines);
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

/* PATH, or BYTES where it is NULL. */
static enum err open_reader(const char *path, struct span bytes, const char *const *names,
                            size_t count, struct store_source **ret, struct err_info *reterr)
{
    struct reader *reader = proto_alloc(1, sizeof *reader);
    enum err err = reader ? take_names(reader, names, count) : E_NO_MEMORY;
    if (err) {
        free_reader((struct store_source *)reader);
        return proto_err_set(reterr, err, "opening the data");
    }
    reader->base.next = next_row;
    reader->base.free = free_reader;
    reader->lines.max = STORE_JSON_TEXT_MAX;
    return store_lines_source(&reader->lines, path, bytes, &reader->base, ret, reterr);
}

enum err store_reader_ndjson_bytes(struct span bytes, const char *const *names, size_t count,
                                   struct store_source **ret, struct err_info *reterr)
{
    return open_reader(NULL, bytes, names, count, ret, reterr);
}

enum err store_reader_ndjson_open(const char *path, const char *const *names, size_t count,
                                  struct store_source **ret, struct err_info *reterr)
{
    return open_reader(path, SPAN_NONE, names, count, ret, reterr);
}
