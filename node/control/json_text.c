#include "config.h"
#include "node/control/json_text.h"

#include "proto/alloc.h"

#include <stdint.h>

#define DEPTH_MAX 64 /* what lies deeper is written by the library */

/* Numbers, and texts with something to escape. */
static enum err put_by_library(struct buf *out, const json_t *value)
{
    enum err err = buf_reserve(out, 32);
    for (int i = 0; !err && i < 2; i++) {
        size_t room = out->cap - out->len;
        size_t len = json_dumpb(value, (char *)out->ptr + out->len, room, CONTROL_JSON_FORMAT);
        if (len && len <= room) {
            out->len += len;
            return E_OK;
        }
        err = len ? buf_reserve(out, len) : E_NO_MEMORY;
    }
    return err ? err : E_INTERNAL;
}

static bool is_plain(const char *text, size_t len)
{
    bool plain = true;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        plain = plain && c >= 0x20 && c != '"' && c != '\\';
    }
    return plain;
}

/* In quotes, and AFTER behind it unless that is 0. The text is valid UTF-8: the library let it in. */
static enum err put_plain(struct buf *out, const char *text, size_t len, char after)
{
    enum err err = buf_reserve(out, len + 3);
    if (!err) {
        uint8_t *at = out->ptr + out->len;
        at[0] = '"';
        memcpy(at + 1, text, len);
        at[len + 1] = '"';
        at[len + 2] = (uint8_t)after;
        out->len += len + 2 + (after != 0);
    }
    return err;
}

static enum err put_key(struct buf *out, const char *key)
{
    size_t len = strlen(key);
    if (is_plain(key, len)) {
        return put_plain(out, key, len, ':');
    }
    json_t *text = json_string(key);
    enum err err = text ? put_by_library(out, text) : E_NO_MEMORY;
    json_decref(text);
    return err ? err : buf_put(out, span_str(":"));
}

static enum err put_value(struct buf *out, const json_t *value, unsigned depth);

static enum err put_object(struct buf *out, const json_t *object, unsigned depth)
{
    json_t *whole = (json_t *)(uintptr_t)object; /* the library's iterators change nothing */
    enum err err = buf_put(out, span_str("{"));
    bool first = true;
    for (void *at = json_object_iter(whole); at && !err; at = json_object_iter_next(whole, at)) {
        err = first ? E_OK : buf_put(out, span_str(","));
        first = false;
        err = err ? err : put_key(out, json_object_iter_key(at));
        err = err ? err : put_value(out, json_object_iter_value(at), depth + 1);
    }
    return err ? err : buf_put(out, span_str("}"));
}

static enum err put_array(struct buf *out, const json_t *array, unsigned depth)
{
    size_t count = json_array_size(array);
    enum err err = buf_put(out, span_str("["));
    for (size_t i = 0; i < count && !err; i++) {
        err = i ? buf_put(out, span_str(",")) : E_OK;
        err = err ? err : put_value(out, json_array_get(array, i), depth + 1);
    }
    return err ? err : buf_put(out, span_str("]"));
}

static enum err put_value(struct buf *out, const json_t *value, unsigned depth)
{
    if (json_is_string(value) && is_plain(json_string_value(value), json_string_length(value))) {
        return put_plain(out, json_string_value(value), json_string_length(value), 0);
    }
    if (depth < DEPTH_MAX && json_is_object(value)) {
        return put_object(out, value, depth);
    }
    return depth < DEPTH_MAX && json_is_array(value) ? put_array(out, value, depth)
                                                     : put_by_library(out, value);
}

char *control_json_text(const json_t *document)
{
    struct buf out = {.max = SIZE_MAX};
    enum err err = document ? buf_reserve(&out, 4096) : E_INVALID;
    err = err ? err : put_value(&out, document, 0);
    err = err ? err : buf_put(&out, span_of("", 1));
    if (err) {
        buf_fini(&out);
    }
    return err ? NULL : (char *)out.ptr;
}
