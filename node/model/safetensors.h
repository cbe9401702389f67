/* Reads safetensors files: named tensors of numbers. It does not write them (safetensors_write.h), and it runs nothing: the format has no code.
 *
 *     struct model_safetensors *file = NULL;
 *     err = model_safetensors_open("model.safetensors", &file, reterr);
 *     const struct model_tensor_entry *entry = model_safetensors_find(file, "classifier.bias");
 *     err = model_safetensors_floats(file, entry, bias, 3, reterr);      // F16, BF16, F32 and F64 become float
 *     model_safetensors_close(file);
 *
 * Format (huggingface/safetensors): u64 little endian length of the header | JSON object, which may be padded with spaces |
 * data. Each entry has dtype, shape and data_offsets [begin, end) from the start of the data; `__metadata__` maps text to
 * text. Refused: duplicate keys, holes, overlaps, bytes after the last tensor, sizes that do not follow from dtype and
 * shape, unknown dtypes, numbers that are not finite (when they are read).
 * Tensor data is read from disk in pieces, so that a file larger than memory can be looked at and one that shrinks while it
 * is read gives an error rather than a signal.
 * Threads: after open, any number may read. Limits: below. */
#ifndef CONCORDAT_NODE_MODEL_SAFETENSORS_H
#define CONCORDAT_NODE_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/err.h"
#include "proto/span.h"

#define MODEL_SAFETENSORS_HEADER_MAX  ((size_t)8 << 20)
#define MODEL_SAFETENSORS_TENSORS_MAX 8192u
#define MODEL_SAFETENSORS_NAME_MAX    255u
#define MODEL_SAFETENSORS_DIMS_MAX    8u

enum model_dtype {
    MODEL_DTYPE_F64,
    MODEL_DTYPE_F32,
    MODEL_DTYPE_F16,
    MODEL_DTYPE_BF16,
    MODEL_DTYPE_I64,
    MODEL_DTYPE_I32,
    MODEL_DTYPE_I16,
    MODEL_DTYPE_I8,
    MODEL_DTYPE_U8,
    MODEL_DTYPE_BOOL,
    MODEL_DTYPE_COUNT
};

struct model_tensor_entry {
    char name[MODEL_SAFETENSORS_NAME_MAX + 1];
    enum model_dtype dtype;
    size_t dims;
    uint64_t shape[MODEL_SAFETENSORS_DIMS_MAX];
    uint64_t count;      /* product of the shape; 1 for a scalar */
    uint64_t begin, end; /* bytes from the start of the data */
};

struct model_safetensors;

/* Errors of both: E_NOT_FOUND, E_IO; E_INVALID or E_TRUNCATED with what is wrong and the tensor's name; E_LIMIT; E_NO_MEMORY.
 * ret_file  set on success only; model_safetensors_close. The bytes of _bytes are borrowed until then. */
MUST_CHECK enum err model_safetensors_open(const char *path, struct model_safetensors **ret_file,
                                           struct err_info *reterr);
MUST_CHECK enum err model_safetensors_bytes(struct span bytes, struct model_safetensors **ret_file,
                                            struct err_info *reterr);
void model_safetensors_close(struct model_safetensors *file);

size_t model_safetensors_count(const struct model_safetensors *file);
/* The text of KEY in __metadata__, NULL when there is none. Borrowed until close. */
const char *model_safetensors_text(const struct model_safetensors *file, const char *key);
/* In order of the data. Borrowed until close. */
const struct model_tensor_entry *model_safetensors_entry(const struct model_safetensors *file,
                                                         size_t index);
/* NULL when there is none. */
const struct model_tensor_entry *model_safetensors_find(const struct model_safetensors *file,
                                                        const char *name);

/* None of them is infinite or no number. */
bool model_floats_finite(const float *numbers, size_t count);

/* Converts the whole tensor to COUNT numbers at TO, row-major.
 * Errors: E_SCHEMA a count other than the tensor's, or an integer dtype; E_INVALID not finite; E_IO, E_TRUNCATED.
 * On failure TO holds anything. */
MUST_CHECK enum err model_safetensors_floats(const struct model_safetensors *file,
                                             const struct model_tensor_entry *entry, float *to,
                                             size_t count, struct err_info *reterr);
MUST_CHECK enum err model_safetensors_doubles(const struct model_safetensors *file,
                                              const struct model_tensor_entry *entry, double *to,
                                              size_t count, struct err_info *reterr);
/* LEN bytes of the tensor as they stand in the file, from byte FIRST of its data. Errors: E_LIMIT outside of it; E_IO,
 * E_TRUNCATED. */
MUST_CHECK enum err model_safetensors_raw(const struct model_safetensors *file,
                                          const struct model_tensor_entry *entry, uint64_t first,
                                          uint8_t *to, size_t len, struct err_info *reterr);
const char *model_dtype_name(enum model_dtype dtype);
size_t model_dtype_size(enum model_dtype dtype);
/* I64 only. */
MUST_CHECK enum err model_safetensors_integers(const struct model_safetensors *file,
                                               const struct model_tensor_entry *entry, int64_t *to,
                                               size_t count, struct err_info *reterr);

/* The single conversions, for tests. */
float model_float_of_half(uint16_t bits);
float model_float_of_bfloat(uint16_t bits);

#endif
