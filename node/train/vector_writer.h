/* Writes a vector (vector.h) on a thread of its own, while the caller computes the next block: hashing, sealing and syncing take as
 * long as what a coordinator computes of a round, and two vectors are written at once then.
 *
 *     err = train_vector_writer_open(store, count, tag, &writer, reterr);
 *     while (there is more) { err = train_vector_writer_put(writer, block, n, reterr); }
 *     err = train_vector_writer_close(writer, err, hash, reterr);
 *
 * Threads: one caller at a time. Memory: TRAIN_VECTOR_BLOCK numbers, and what a blob's writer takes. Without a thread to be had the
 * caller's does the work. */
#ifndef CONCORDAT_NODE_TRAIN_VECTOR_WRITER_H
#define CONCORDAT_NODE_TRAIN_VECTOR_WRITER_H

#include "node/train/vector.h"

struct train_vector_writer;
/* Of COUNT numbers; durable once it is closed. */
MUST_CHECK enum err train_vector_writer_open(struct store *store, uint64_t count,
                                             const uint8_t tag[TRAIN_VECTOR_TAG],
                                             struct train_vector_writer **ret,
                                             struct err_info *reterr);
/* The next N numbers, at most TRAIN_VECTOR_BLOCK, copied. Errors, also of earlier blocks: E_INVALID one of them is not finite; those of
 * writing a blob. */
MUST_CHECK enum err train_vector_writer_put(struct train_vector_writer *writer,
                                            const float *numbers, size_t n,
                                            struct err_info *reterr);
/* Waits and frees WRITER in any case; NULL is allowed. ERR: what the caller met; nothing is left behind when that, or what comes
 * back, is an error, but for a vector that was complete. */
MUST_CHECK enum err train_vector_writer_close(struct train_vector_writer *writer, enum err err,
                                              uint8_t ret_hash[32], struct err_info *reterr);

#endif
