#include "config.h"
#include "node/model/safetensors_write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "node/model/folder.h"

#define PIECE ((size_t)4096) /* numbers converted at once */

/* Where bytes go: exactly one is set. */
struct sink {
    struct buf *buf;
    struct model_folder_file *file;
};

static enum err put(const struct sink *sink, struct span bytes, struct err_info *reterr)
{
    if (sink->file) {
        return model_folder_put(sink->file, bytes, reterr);
    }
    enum err err = buf_put(sink->buf, bytes);
    return err ? proto_err_set(reterr, err, "safetensors: the file has no room in memory") : E_OK;
}

static enum err bad(struct err_info *reterr, const struct model_tensor_source *t, const char *why)
{
    return proto_err_set(reterr, E_INVALID, "safetensors: tensor \"%.80s\": %s", t->name, why);
}

static enum model_dtype dtype_of(const struct model_tensor_source *t)
{
    return t->file ? t->entry->dtype : t->bytes ? t->dtype : MODEL_DTYPE_F32;
}

/* Numbers in a row, and what the rows of another file must have. */
static uint64_t row_numbers(const struct model_tensor_source *t)
{
    return t->dims == 2 ? t->shape[1] : 1;
}

static bool source_valid(const struct model_tensor_source *t)
{
    int kinds = (t->floats != NULL) + (t->doubles != NULL) + (t->file != NULL) + (t->bytes != NULL);
    if (t->dims < 1 || t->dims > 2 || kinds != 1) {
        return false;
    }
    if (!t->file) {
        return true;
    }
    uint64_t end;
    return !__builtin_add_overflow(t->first_row, t->shape[0], &end) &&
           !__builtin_mul_overflow(end, row_numbers(t), &end) && end <= t->entry->count;
}

static enum err count_bytes(const struct model_tensor_source *t, uint64_t *ret,
                            struct err_info *reterr)
{
    *ret = model_dtype_size(dtype_of(t));
    for (size_t i = 0; i < t->dims; i++) {
        if (__builtin_mul_overflow(*ret, t->shape[i], ret)) {
            return bad(reterr, t, "its size overflows");
        }
    }
    return E_OK;
}

/* Adds T, whose data starts at *AT, to ROOT and moves *AT behind it. */
static enum err add_entry(json_t *root, const struct model_tensor_source *t, uint64_t *at,
                          struct err_info *reterr)
{
    uint64_t bytes = 0, end;
    size_t len = strlen(t->name);
    if (len == 0 || len > MODEL_SAFETENSORS_NAME_MAX) {
        return proto_err_set(reterr, E_LIMIT,
                             "safetensors: a tensor's name is empty or longer than %u bytes",
                             MODEL_SAFETENSORS_NAME_MAX);
    }
    if (json_object_get(root, t->name)) {
        return bad(reterr, t, "the name stands twice");
    }
    if (!source_valid(t)) {
        return bad(reterr, t, "it needs one or two dimensions and one kind of numbers");
    }
    enum err err = count_bytes(t, &bytes, reterr);
    if (err) {
        return err;
    }
    if (__builtin_add_overflow(*at, bytes, &end) || end > INT64_MAX) {
        return bad(reterr, t, "the file overflows");
    }
    json_t *shape = json_array();
    for (size_t i = 0; i < t->dims; i++) {
        json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
    }
    json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", model_dtype_name(dtype_of(t)),
                              "shape", shape, "data_offsets", (json_int_t)*at, (json_int_t)end);
    if (json_object_set_new(root, t->name, entry)) {
        return bad(reterr, t, "the name is no UTF-8, or there is no memory");
    }
    *at = end;
    return E_OK;
}

static enum err put_text(const char *text, const struct sink *sink, struct err_info *reterr)
{
    static const char spaces[] = "        ";
    uint8_t first[8];
    size_t len = strlen(text), padding = (8 - len % 8) % 8;
    if (len + padding > MODEL_SAFETENSORS_HEADER_MAX) {
        return proto_err_set(reterr, E_LIMIT, "safetensors: the header is longer than %zu bytes",
                             MODEL_SAFETENSORS_HEADER_MAX);
    }
    for (size_t i = 0; i < 8; i++) {
        first[i] = (uint8_t)((uint64_t)(len + padding) >> 8 * i);
    }
    enum err err = put(sink, span_of(first, sizeof first), reterr);
    err = err ? err : put(sink, span_str(text), reterr);
    return err ? err : put(sink, span_of((const uint8_t *)spaces, padding), reterr);
}

static enum err put_header(const struct model_tensor_source *tensors, size_t count,
                           const struct model_safetensors_note *notes, size_t note_count,
                           const struct sink *sink, struct err_info *reterr)
{
    if (count > MODEL_SAFETENSORS_TENSORS_MAX - 1) { /* the reader counts __metadata__ */
        return proto_err_set(reterr, E_LIMIT, "safetensors: more than %u tensors",
                             MODEL_SAFETENSORS_TENSORS_MAX - 1);
    }
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    uint64_t at = 0;
    enum err err = root ? E_OK : E_NO_MEMORY;
    json_t *texts = json_object_get(root, "__metadata__");
    for (size_t i = 0; !err && i < note_count; i++) {
        if (json_object_set_new(texts, notes[i].key, json_string(notes[i].text))) {
            err = proto_err_set(reterr, E_INVALID, "safetensors: %.40s is no UTF-8", notes[i].key);
        }
    }
    for (size_t i = 0; !err && i < count; i++) {
        err = add_entry(root, &tensors[i], &at, reterr);
    }
    char *text = err ? NULL : json_dumps(root, JSON_COMPACT);
    if (!err) {
        err = text ? put_text(text, sink, reterr) : E_NO_MEMORY;
    }
    free(text);
    json_decref(root);
    return err;
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
/* As they stand in memory, so they stand in the file. */
static enum err put_as_they_are(const struct model_tensor_source *t, uint64_t count,
                                const struct sink *sink, struct err_info *reterr)
{
    enum err err = E_OK;
    for (uint64_t done = 0; !err && done < count;) {
        size_t n = count - done < PIECE ? (size_t)(count - done) : PIECE;
        const float *numbers = t->floats + done;
        err = model_floats_finite(numbers, n)
                  ? put(sink, span_of((const uint8_t *)numbers, 4 * n), reterr)
                  : bad(reterr, t, "a number is not finite");
        done += n;
    }
    return err;
}
#endif

static enum err put_floats(const struct model_tensor_source *t, uint64_t count,
                           const struct sink *sink, struct err_info *reterr)
{
    uint8_t bytes[PIECE * 4];
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (t->floats) {
        return put_as_they_are(t, count, sink, reterr);
    }
#endif
    enum err err = E_OK;
    for (uint64_t done = 0; !err && done < count;) {
        size_t n = count - done < PIECE ? (size_t)(count - done) : PIECE;
        for (size_t i = 0; i < n; i++) {
            float v = t->floats ? t->floats[done + i] : (float)t->doubles[done + i];
            uint32_t bits;
            if (!isfinite(v)) {
                return bad(reterr, t, "a number is not finite");
            }
            memcpy(&bits, &v, sizeof bits);
            for (size_t j = 0; j < 4; j++) {
                bytes[4 * i + j] = (uint8_t)(bits >> 8 * j);
            }
        }
        err = put(sink, span_of(bytes, 4 * n), reterr);
        done += n;
    }
    return err;
}

/* From another file, byte by byte. */
static enum err put_copy(const struct model_tensor_source *t, uint64_t count,
                         const struct sink *sink, struct err_info *reterr)
{
    uint8_t bytes[PIECE * 4];
    size_t size = model_dtype_size(t->entry->dtype);
    uint64_t first = t->first_row * row_numbers(t) * size, left = count * size;
    enum err err = E_OK;
    while (!err && left > 0) {
        size_t n = left < sizeof bytes ? (size_t)left : sizeof bytes;
        err = model_safetensors_raw(t->file, t->entry, first, bytes, n, reterr);
        err = err ? err : put(sink, span_of(bytes, n), reterr);
        first += n;
        left -= n;
    }
    return err;
}

static enum err put_numbers(const struct model_tensor_source *t, const struct sink *sink,
                            struct err_info *reterr)
{
    uint64_t count = t->shape[0] * row_numbers(t);
    if (t->bytes) {
        return put(sink, span_of(t->bytes, (size_t)count * model_dtype_size(t->dtype)), reterr);
    }
    return t->file ? put_copy(t, count, sink, reterr) : put_floats(t, count, sink, reterr);
}

static enum err put_file(const struct model_tensor_source *tensors, size_t count,
                         const struct model_safetensors_note *notes, size_t note_count,
                         const struct sink *sink, struct err_info *reterr)
{
    enum err err = put_header(tensors, count, notes, note_count, sink, reterr);
    for (size_t i = 0; !err && i < count; i++) {
        err = put_numbers(&tensors[i], sink, reterr);
    }
    return err;
}

enum err model_safetensors_encode(const struct model_tensor_source *tensors, size_t count,
                                  struct buf *ret, struct err_info *reterr)
{
    return put_file(tensors, count, NULL, 0, &(struct sink){.buf = ret}, reterr);
}

enum err model_safetensors_encode_notes(const struct model_tensor_source *tensors, size_t count,
                                        const struct model_safetensors_note *notes,
                                        size_t note_count, struct buf *ret, struct err_info *reterr)
{
    return put_file(tensors, count, notes, note_count, &(struct sink){.buf = ret}, reterr);
}

enum err model_safetensors_write(const struct model_tensor_source *tensors, size_t count,
                                 const char *folder, const char *name, struct err_info *reterr)
{
    struct model_folder_file file;
    enum err err = model_folder_create(&file, folder, name, reterr);
    err = err ? err : put_file(tensors, count, NULL, 0, &(struct sink){.file = &file}, reterr);
    return model_folder_end(&file, err, reterr);
}
