/* Vectors of a job: weights and changes of weights, as blobs of little-endian float32, one number after the other in the order
 * that the model gives them, and behind them a tag of 32 bytes. The tag tells apart what the blob is (of which job and round, and
 * whose): so two of them never share a name, and each can be deleted on its own, also where a coordinator and a site share a store.
 *
 *     train_vector_tag(TRAIN_VECTOR_UPDATE, job_id, round, node_id, tag);
 *     err = train_vector_put(store, numbers, count, tag, STORE_BLOB_DURABLE, hash, reterr);
 *     err = train_vector_get(store, hash, numbers, count, reterr);          // refuses what is not finite
 *     err = train_vector_check(store, hash, count, tag, &norm, reterr);     // what came from a site
 *
 * Threads: any. Memory: TRAIN_VECTOR_BLOCK numbers beside what the caller gives. */
#ifndef CONCORDAT_NODE_TRAIN_VECTOR_H
#define CONCORDAT_NODE_TRAIN_VECTOR_H

#include "store/blob.h"

#define TRAIN_VECTOR_BLOCK (STORE_BLOB_CHUNK / sizeof(float)) /* numbers in a chunk of a blob */

#define TRAIN_VECTOR_TAG 32
/* Bytes of a vector's blob. */
static inline uint64_t train_vector_size(uint64_t numbers)
{
    return 4 * numbers + TRAIN_VECTOR_TAG;
}

enum train_vector {
    TRAIN_VECTOR_WEIGHTS, /* after round; 0: those that the job starts from */
    TRAIN_VECTOR_FIRST,   /* moments of the server */
    TRAIN_VECTOR_SECOND,
    TRAIN_VECTOR_MEAN,
    TRAIN_VECTOR_UPDATE,  /* of a site */
    TRAIN_VECTOR_CONTROL, /* SCAFFOLD: a site's control variate behind the round */
    TRAIN_VECTOR_HEAD,    /* a site's own head behind the round; never leaves it */
};
/* NODE: 16 bytes; NULL unless of a site. */
void train_vector_tag(enum train_vector kind, const uint8_t job_id[16], uint64_t round,
                      const uint8_t *node, uint8_t ret[TRAIN_VECTOR_TAG]);

bool train_vector_finite(const float *numbers, size_t count);

/* COUNT numbers more of a vector that is being written as a blob. Errors: those of store_blob_append. */
MUST_CHECK enum err train_vector_append(struct store_blob_writer *writer, const float *from,
                                        size_t count, struct err_info *reterr);

MUST_CHECK enum err train_vector_put(struct store *store, const float *from, size_t count,
                                     const uint8_t tag[TRAIN_VECTOR_TAG], enum store_blob_keep keep,
                                     uint8_t ret_hash[32], struct err_info *reterr);
/* Errors: E_SCHEMA it has another length; E_INVALID a number is not finite; those of reading. On failure TO is anything. */
MUST_CHECK enum err train_vector_get(struct store *store, const uint8_t hash[32], float *to,
                                     size_t count, struct err_info *reterr);
/* COUNT numbers from number FROM on. */
MUST_CHECK enum err train_vector_part(struct store *store, const uint8_t hash[32], uint64_t from,
                                      float *to, size_t count, struct err_info *reterr);
/* The same, block by block where they stand: AT counts from FROM on; NUMBERS are finite, and there until it returns. */
typedef void train_vector_fn(void *user, uint64_t at, const float *numbers, size_t count);
MUST_CHECK enum err train_vector_each(struct store *store, const uint8_t hash[32], uint64_t from,
                                      uint64_t count, train_vector_fn *each, void *user,
                                      struct err_info *reterr);
/* Reads all of it. TAG: what it must be; NULL: any. Errors: E_AUTH it is another vector; as get. */
MUST_CHECK enum err train_vector_check(struct store *store, const uint8_t hash[32], uint64_t count,
                                       const uint8_t *tag, double *ret_norm,
                                       struct err_info *reterr);

#endif
