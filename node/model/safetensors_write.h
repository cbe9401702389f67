/* Writes safetensors files, for safetensors.h and the field's own readers: float numbers as F32, numbers of another file as they
 * stand there, in the order given.
 *
 *     struct model_tensor_source tensors[] = {{.name = "a", .dims = 2, .shape = {3, 4}, .floats = a}};
 *     err = model_safetensors_encode(tensors, 1, &buf, reterr);             // into memory, or
 *     err = model_safetensors_write(tensors, 1, folder, "model.safetensors", reterr);
 *
 * The header is padded with spaces to a multiple of 8 bytes, so that the data is aligned; its __metadata__ is
 * {"format":"pt"}, without which some readers refuse a file. The same tensors give the same bytes.
 * Refused: what the reader refuses, so that what was written can be read. Threads: any. Limits: those of safetensors.h. */
#ifndef CONCORDAT_NODE_MODEL_SAFETENSORS_WRITE_H
#define CONCORDAT_NODE_MODEL_SAFETENSORS_WRITE_H

#include "node/model/safetensors.h"
#include "proto/alloc.h"

struct model_tensor_source {
    const char *name;
    size_t dims;
    uint64_t shape[2];     /* one or two dimensions */
    const float *floats;   /* row-major; or */
    const double *doubles; /* rounded to float; or */
    const struct model_safetensors
        *file; /* rows [first_row, first_row + shape[0]) of ENTRY, with its dtype */
    const struct model_tensor_entry *entry;
    uint64_t first_row;
    const uint8_t *bytes; /* or numbers of DTYPE, little-endian */
    enum model_dtype dtype;
};
/* Of __metadata__, beside "format". */
struct model_safetensors_note {
    const char *key, *text;
};

/* Appends the file to RET, whose max is the limit.
 * Errors of both: E_INVALID a name twice, empty or no UTF-8, or a number that is not finite as a float; E_LIMIT; E_NO_MEMORY.
 * On failure RET holds anything. */
MUST_CHECK enum err model_safetensors_encode(const struct model_tensor_source *tensors,
                                             size_t count, struct buf *ret,
                                             struct err_info *reterr);
/* With NOTES in __metadata__. */
MUST_CHECK enum err model_safetensors_encode_notes(const struct model_tensor_source *tensors,
                                                   size_t count,
                                                   const struct model_safetensors_note *notes,
                                                   size_t note_count, struct buf *ret,
                                                   struct err_info *reterr);
/* FOLDER/NAME, mode 0600, complete and on disk, or as it was before. Errors also: E_IO, E_DISK_FULL. */
MUST_CHECK enum err model_safetensors_write(const struct model_tensor_source *tensors, size_t count,
                                            const char *folder, const char *name,
                                            struct err_info *reterr);

#endif
