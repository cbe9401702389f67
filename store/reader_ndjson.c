#include "config.h"
#include "store/reader_ndjson.h"

#include "crypto/memory.h"
#include "proto/alloc.h"
#include "store/json_text.h"
#include "store/stream.h"

#define BLOCK ((size_t)256 << 10)

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
    char (*numbers)[STORE_JSON_NUMBER]; /* what fields of numbers point into */
    bool *absent;
    json_t *row; /* fields of text point into it */
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
        *ret_long = *ret_long || reader->text.len + piece.len > STORE_JSON_TEXT_MAX;
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
        enum err err = next_line(reader, &line, &too_long, &ret->end, reterr);
        if (err || ret->end) {
            return err;
        }
        ret->line = reader->line++;
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
    reader->text.max = STORE_JSON_TEXT_MAX;
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
