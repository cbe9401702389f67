#include "config.h"
#include "node/model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "proto/alloc.h"

#define PIECE ((size_t)64 << 10) /* bytes read at once; a multiple of every element size */

struct model_safetensors {
    struct model_tensor_entry *entries;
    size_t count;
    json_t *texts;    /* __metadata__, or NULL */
    int fd;           /* -1: the data is in memory */
    struct span data; /* when in memory */
    uint64_t data_at; /* when in a file */
    uint64_t data_len;
};

static const struct dtype {
    const char *name;
    size_t size;
} dtypes[MODEL_DTYPE_COUNT] = {
    [MODEL_DTYPE_F64] = {"F64", 8}, [MODEL_DTYPE_F32] = {"F32", 4},
    [MODEL_DTYPE_F16] = {"F16", 2}, [MODEL_DTYPE_BF16] = {"BF16", 2},
    [MODEL_DTYPE_I64] = {"I64", 8}, [MODEL_DTYPE_I32] = {"I32", 4},
    [MODEL_DTYPE_I16] = {"I16", 2}, [MODEL_DTYPE_I8] = {"I8", 1},
    [MODEL_DTYPE_U8] = {"U8", 1},   [MODEL_DTYPE_BOOL] = {"BOOL", 1},
};

static uint64_t get_le(const uint8_t *p, size_t size)
{
    uint64_t v = 0;
    for (size_t i = size; i > 0; i--) {
        v = v << 8 | p[i - 1];
    }
    return v;
}

static float float_of_bits(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

float model_float_of_bfloat(uint16_t bits)
{
    return float_of_bits((uint32_t)bits << 16);
}

float model_float_of_half(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t exponent = (bits >> 10) & 0x1fu;
    uint32_t fraction = bits & 0x3ffu;
    if (exponent == 0x1f) {
        return float_of_bits(sign | 0x7f800000u | fraction << 13);
    }
    if (exponent == 0) {
        /* A subnormal half is fraction * 2^-24, which float holds exactly. */
        float v = (float)fraction * 0x1p-24f;
        return sign ? -v : v;
    }
    return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static enum err bad(struct err_info *reterr, const char *name, const char *why)
{
    return proto_err_set(reterr, E_INVALID, "safetensors: tensor \"%.80s\": %s", name, why);
}

static enum err parse_shape(const json_t *shape, struct model_tensor_entry *entry,
                            struct err_info *reterr)
{
    if (!json_is_array(shape)) {
        return bad(reterr, entry->name, "its shape is no list");
    }
    if (json_array_size(shape) > MODEL_SAFETENSORS_DIMS_MAX) {
        return proto_err_set(reterr, E_LIMIT,
                             "safetensors: tensor \"%.80s\" has more than %u dimensions",
                             entry->name, MODEL_SAFETENSORS_DIMS_MAX);
    }
    entry->dims = json_array_size(shape);
    entry->count = 1;
    for (size_t i = 0; i < entry->dims; i++) {
        const json_t *dim = json_array_get(shape, i);
        json_int_t n = json_is_integer(dim) ? json_integer_value(dim) : -1;
        if (n < 0) {
            return bad(reterr, entry->name, "a dimension is no whole number");
        }
        entry->shape[i] = (uint64_t)n;
        if (__builtin_mul_overflow(entry->count, entry->shape[i], &entry->count)) {
            return bad(reterr, entry->name, "its size overflows");
        }
    }
    return E_OK;
}

static enum err parse_entry(const char *name, const json_t *value, uint64_t data_len,
                            struct model_tensor_entry *entry, struct err_info *reterr)
{
    if (!span_to_cstr(span_str(name), entry->name, sizeof entry->name) || name[0] == 0) {
        return proto_err_set(reterr, E_LIMIT,
                             "safetensors: a tensor's name is empty or longer than %u bytes",
                             MODEL_SAFETENSORS_NAME_MAX);
    }
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    const json_t *offsets = json_object_get(value, "data_offsets");
    if (!dtype || json_object_size(value) != 3) {
        return bad(reterr, name, "it needs dtype, shape and data_offsets, and nothing else");
    }
    entry->dtype = MODEL_DTYPE_F64;
    while (entry->dtype < MODEL_DTYPE_COUNT && strcmp(dtypes[entry->dtype].name, dtype) != 0) {
        entry->dtype++;
    }
    if (entry->dtype == MODEL_DTYPE_COUNT) {
        return bad(reterr, name, "its dtype is unknown");
    }
    enum err err = parse_shape(json_object_get(value, "shape"), entry, reterr);
    if (err) {
        return err;
    }
    if (json_array_size(offsets) != 2 || !json_is_integer(json_array_get(offsets, 0)) ||
        !json_is_integer(json_array_get(offsets, 1)) ||
        json_integer_value(json_array_get(offsets, 0)) < 0 ||
        json_integer_value(json_array_get(offsets, 1)) < 0) {
        return bad(reterr, name, "data_offsets must be two whole numbers");
    }
    entry->begin = (uint64_t)json_integer_value(json_array_get(offsets, 0));
    entry->end = (uint64_t)json_integer_value(json_array_get(offsets, 1));
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(entry->count, (uint64_t)dtypes[entry->dtype].size, &bytes) ||
        entry->end < entry->begin || entry->end - entry->begin != bytes) {
        return bad(reterr, name, "its bytes do not fit its dtype and shape");
    }
    if (entry->end > data_len) {
        return proto_err_set(reterr, E_TRUNCATED,
                             "safetensors: tensor \"%.80s\" ends after the file", name);
    }
    return E_OK;
}

static int by_place(const void *left, const void *right)
{
    const struct model_tensor_entry *a = left, *b = right;
    if (a->begin != b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    return a->end != b->end ? (a->end < b->end ? -1 : 1) : strcmp(a->name, b->name);
}

static enum err parse_metadata(struct model_safetensors *file, json_t *value,
                               struct err_info *reterr)
{
    const char *key;
    json_t *text;
    if (!json_is_object(value)) {
        return proto_err_set(reterr, E_INVALID, "safetensors: __metadata__ is no map");
    }
    file->texts = json_incref(value);
    json_object_foreach(value, key, text)
    {
        if (!json_is_string(text)) {
            return proto_err_set(reterr, E_INVALID,
                                 "safetensors: __metadata__ maps to something else than text");
        }
    }
    return E_OK;
}

static enum err parse_entries(struct model_safetensors *file, json_t *root, struct err_info *reterr)
{
    const char *name;
    json_t *value;
    if (json_object_size(root) > MODEL_SAFETENSORS_TENSORS_MAX) {
        return proto_err_set(reterr, E_LIMIT, "safetensors: more than %u tensors",
                             MODEL_SAFETENSORS_TENSORS_MAX);
    }
    file->entries = proto_alloc(json_object_size(root) + 1, sizeof *file->entries);
    if (!file->entries) {
        return proto_err_set(reterr, E_NO_MEMORY, "safetensors: no memory for the header");
    }
    json_object_foreach(root, name, value)
    {
        enum err err =
            strcmp(name, "__metadata__") == 0
                ? parse_metadata(file, value, reterr)
                : parse_entry(name, value, file->data_len, &file->entries[file->count++], reterr);
        if (err) {
            return err;
        }
    }
    qsort(file->entries, file->count, sizeof *file->entries, by_place);
    uint64_t at = 0;
    for (size_t i = 0; i < file->count; i++) {
        if (file->entries[i].begin != at) {
            return bad(reterr, file->entries[i].name,
                       "there is a hole or an overlap before its data");
        }
        at = file->entries[i].end;
    }
    if (at != file->data_len) {
        return proto_err_set(reterr, E_INVALID, "safetensors: bytes after the last tensor");
    }
    return E_OK;
}

static enum err parse_header(struct model_safetensors *file, struct span header,
                             struct err_info *reterr)
{
    if (header.len == 0 || header.ptr[0] != '{') {
        return proto_err_set(reterr, E_INVALID, "safetensors: the header does not start with {");
    }
    json_error_t why;
    json_t *root = json_loadb((const char *)header.ptr, header.len, JSON_REJECT_DUPLICATES, &why);
    if (!root || !json_is_object(root)) {
        json_decref(root);
        return proto_err_set(reterr, E_INVALID, "safetensors: the header is no JSON object: %.100s",
                             root ? "" : why.text);
    }
    enum err err = parse_entries(file, root, reterr);
    json_decref(root);
    return err;
}

/* LENGTH from the first eight bytes of a file of TOTAL bytes. */
static enum err header_length(const uint8_t *first, uint64_t total, size_t *ret_length,
                              struct err_info *reterr)
{
    uint64_t length = get_le(first, 8);
    if (length > MODEL_SAFETENSORS_HEADER_MAX) {
        return proto_err_set(reterr, E_LIMIT, "safetensors: the header is longer than %zu bytes",
                             MODEL_SAFETENSORS_HEADER_MAX);
    }
    if (length > total - 8) {
        return proto_err_set(reterr, E_TRUNCATED, "safetensors: the file ends inside its header");
    }
    *ret_length = (size_t)length;
    return E_OK;
}

enum err model_safetensors_bytes(struct span bytes, struct model_safetensors **ret_file,
                                 struct err_info *reterr)
{
    size_t length = 0;
    if (bytes.len < 8) {
        return proto_err_set(reterr, E_TRUNCATED, "safetensors: shorter than 8 bytes");
    }
    enum err err = header_length(bytes.ptr, bytes.len, &length, reterr);
    if (err) {
        return err;
    }
    struct model_safetensors *file = proto_alloc(1, sizeof *file);
    if (!file) {
        return proto_err_set(reterr, E_NO_MEMORY, "safetensors: no memory");
    }
    file->fd = -1;
    file->data = span_of(bytes.ptr + 8 + length, bytes.len - 8 - length);
    file->data_len = file->data.len;
    err = parse_header(file, span_of(bytes.ptr + 8, length), reterr);
    if (err) {
        model_safetensors_close(file);
        return err;
    }
    *ret_file = file;
    return E_OK;
}

static enum err read_at(int fd, uint64_t at, uint8_t *to, size_t len, struct err_info *reterr)
{
    while (len > 0) {
        ssize_t n = pread(fd, to, len, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return proto_err_set(reterr, E_IO, "safetensors: reading: %s", strerror(errno));
        }
        if (n == 0) {
            return proto_err_set(reterr, E_TRUNCATED, "safetensors: the file ends too early");
        }
        to += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return E_OK;
}

static enum err open_parse(struct model_safetensors *file, struct err_info *reterr)
{
    struct stat stat;
    if (fstat(file->fd, &stat)) {
        return proto_err_set(reterr, E_IO, "safetensors: %s", strerror(errno));
    }
    if (!S_ISREG(stat.st_mode)) {
        return proto_err_set(reterr, E_INVALID, "safetensors: not a regular file");
    }
    uint8_t first[8];
    size_t length = 0;
    if (stat.st_size < 8) {
        return proto_err_set(reterr, E_TRUNCATED, "safetensors: shorter than 8 bytes");
    }
    enum err err = read_at(file->fd, 0, first, sizeof first, reterr);
    err = err ? err : header_length(first, (uint64_t)stat.st_size, &length, reterr);
    if (err) {
        return err;
    }
    uint8_t *header = proto_alloc(length + 1, 1);
    if (!header) {
        return proto_err_set(reterr, E_NO_MEMORY, "safetensors: no memory for the header");
    }
    file->data_at = 8 + length;
    file->data_len = (uint64_t)stat.st_size - file->data_at;
    err = read_at(file->fd, 8, header, length, reterr);
    err = err ? err : parse_header(file, span_of(header, length), reterr);
    proto_free(header);
    return err;
}

enum err model_safetensors_open(const char *path, struct model_safetensors **ret_file,
                                struct err_info *reterr)
{
    struct model_safetensors *file = proto_alloc(1, sizeof *file);
    if (!file) {
        return proto_err_set(reterr, E_NO_MEMORY, "safetensors: no memory");
    }
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    enum err err = E_OK;
    if (file->fd < 0) {
        err = proto_err_set(reterr, errno == ENOENT ? E_NOT_FOUND : E_IO, "%s: %s", path,
                            strerror(errno));
    } else {
        err = open_parse(file, reterr);
        if (err) {
            proto_err_frame(reterr, "reading %s", path);
        }
    }
    if (err) {
        model_safetensors_close(file);
        return err;
    }
    *ret_file = file;
    return E_OK;
}

void model_safetensors_close(struct model_safetensors *file)
{
    if (file) {
        if (file->fd >= 0) {
            close(file->fd);
        }
        json_decref(file->texts);
        proto_free(file->entries);
        proto_free(file);
    }
}

const char *model_safetensors_text(const struct model_safetensors *file, const char *key)
{
    return json_string_value(json_object_get(file->texts, key));
}

const char *model_dtype_name(enum model_dtype dtype)
{
    return dtypes[dtype].name;
}

size_t model_dtype_size(enum model_dtype dtype)
{
    return dtypes[dtype].size;
}

enum err model_safetensors_raw(const struct model_safetensors *file,
                               const struct model_tensor_entry *entry, uint64_t first, uint8_t *to,
                               size_t len, struct err_info *reterr)
{
    if (first > entry->end - entry->begin || len > entry->end - entry->begin - first) {
        return proto_err_set(reterr, E_LIMIT, "safetensors: bytes outside of a tensor");
    }
    if (file->fd < 0) {
        memcpy(to, file->data.ptr + entry->begin + first, len);
        return E_OK;
    }
    return read_at(file->fd, file->data_at + entry->begin + first, to, len, reterr);
}

size_t model_safetensors_count(const struct model_safetensors *file)
{
    return file->count;
}

const struct model_tensor_entry *model_safetensors_entry(const struct model_safetensors *file,
                                                         size_t index)
{
    return index < file->count ? &file->entries[index] : NULL;
}

const struct model_tensor_entry *model_safetensors_find(const struct model_safetensors *file,
                                                        const char *name)
{
    for (size_t i = 0; i < file->count; i++) {
        if (strcmp(file->entries[i].name, name) == 0) {
            return &file->entries[i];
        }
    }
    return NULL;
}

/* One element of a floating dtype, exactly. */
static double number_at(enum model_dtype dtype, const uint8_t *p)
{
    switch (dtype) {
    case MODEL_DTYPE_F32:
        return (double)float_of_bits((uint32_t)get_le(p, 4));
    case MODEL_DTYPE_F16:
        return (double)model_float_of_half((uint16_t)get_le(p, 2));
    case MODEL_DTYPE_BF16:
        return (double)model_float_of_bfloat((uint16_t)get_le(p, 2));
    default: {
        uint64_t bits = get_le(p, 8);
        double v;
        memcpy(&v, &bits, sizeof v);
        return v;
    }
    }
}

static uint32_t spoiled(float number)
{
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return (uint32_t)((bits & 0x7f800000) == 0x7f800000); /* infinite or no number */
}

bool model_floats_finite(const float *numbers, size_t count)
{
    enum {
        LANES = 16 /* a fixed number becomes vector code */
    };
    uint32_t any[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (size_t k = 0; k < LANES; k++) {
            any[k] |= spoiled(numbers[i + k]);
        }
    }
    for (; i < count; i++) {
        any[0] |= spoiled(numbers[i]);
    }
    for (size_t k = 1; k < LANES; k++) {
        any[0] |= any[k];
    }
    return !any[0];
}

/* The common case. false: one of them is not finite. */
static bool floats_of_f32(const uint8_t *from, size_t count, float *to)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(to, from, 4 * count);
#else
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)get_le(from + 4 * i, 4);
        memcpy(&to[i], &bits, 4);
    }
#endif
    return model_floats_finite(to, count);
}

/* Where converted numbers go: exactly one pointer is set. */
struct sink {
    float *floats;
    double *doubles;
    int64_t *integers;
};

static enum err convert(const struct model_tensor_entry *entry, const uint8_t *from, size_t first,
                        size_t count, const struct sink *sink, struct err_info *reterr)
{
    size_t size = dtypes[entry->dtype].size;
    if (sink->floats && entry->dtype == MODEL_DTYPE_F32) {
        return floats_of_f32(from, count, sink->floats + first)
                   ? E_OK
                   : bad(reterr, entry->name, "a number is not finite");
    }
    for (size_t i = 0; i < count; i++, from += size) {
        if (sink->integers) {
            sink->integers[first + i] = (int64_t)get_le(from, 8);
            continue;
        }
        double v = number_at(entry->dtype, from);
        if (sink->doubles) {
            sink->doubles[first + i] = v;
        } else {
            v = (double)(sink->floats[first + i] = (float)v);
        }
        if (!isfinite(v)) {
            return bad(reterr, entry->name, "a number is not finite");
        }
    }
    return E_OK;
}

static enum err read_numbers(const struct model_safetensors *file,
                             const struct model_tensor_entry *entry, const struct sink *sink,
                             size_t count, struct err_info *reterr)
{
    bool wanted =
        sink->integers ? entry->dtype == MODEL_DTYPE_I64 : entry->dtype <= MODEL_DTYPE_BF16;
    if (!wanted || entry->count != count) {
        return proto_err_set(
            reterr, E_SCHEMA,
            "safetensors: tensor \"%.80s\" has %llu numbers of type %s, expected %zu %s",
            entry->name, (unsigned long long)entry->count, dtypes[entry->dtype].name, count,
            sink->integers ? "of I64" : "of a floating type");
    }
    if (file->fd < 0) {
        return convert(entry, file->data.ptr + entry->begin, 0, count, sink, reterr);
    }
    uint8_t *piece = proto_alloc(PIECE, 1);
    if (!piece) {
        return proto_err_set(reterr, E_NO_MEMORY, "safetensors: no memory");
    }
    size_t size = dtypes[entry->dtype].size;
    enum err err = E_OK;
    for (size_t done = 0; !err && done < count;) {
        size_t n = count - done < PIECE / size ? count - done : PIECE / size;
        err =
            read_at(file->fd, file->data_at + entry->begin + done * size, piece, n * size, reterr);
        err = err ? err : convert(entry, piece, done, n, sink, reterr);
        done += n;
    }
    proto_free(piece);
    return err;
}

enum err model_safetensors_floats(const struct model_safetensors *file,
                                  const struct model_tensor_entry *entry, float *to, size_t count,
                                  struct err_info *reterr)
{
    return read_numbers(file, entry, &(struct sink){.floats = to}, count, reterr);
}

enum err model_safetensors_doubles(const struct model_safetensors *file,
                                   const struct model_tensor_entry *entry, double *to, size_t count,
                                   struct err_info *reterr)
{
    return read_numbers(file, entry, &(struct sink){.doubles = to}, count, reterr);
}

enum err model_safetensors_integers(const struct model_safetensors *file,
                                    const struct model_tensor_entry *entry, int64_t *to,
                                    size_t count, struct err_info *reterr)
{
    return read_numbers(file, entry, &(struct sink){.integers = to}, count, reterr);
}
