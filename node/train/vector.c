#include "config.h"
#include "node/train/vector.h"

#include "crypto/provider.h"

#include "store/kernel.h"

#include <math.h>

static void put_le32(uint8_t *to, uint32_t bits)
{
    to[0] = (uint8_t)bits;
    to[1] = (uint8_t)(bits >> 8);
    to[2] = (uint8_t)(bits >> 16);
    to[3] = (uint8_t)(bits >> 24);
}

static uint32_t get_le32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

STORE_KERNEL static void encode(const float *from, size_t count, uint8_t *to)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &from[i], 4);
        put_le32(to + 4 * i, bits);
    }
}

/* TO may stand where FROM does: each number is read before it is written, and over itself. */
STORE_KERNEL static void decode(const uint8_t *from, size_t count, float *to)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = get_le32(from + 4 * i);
        memcpy(&to[i], &bits, 4);
    }
}

STORE_KERNEL static bool finite_all(const float *numbers, size_t count)
{
    uint32_t spoiled = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &numbers[i], 4);
        spoiled |= (uint32_t)((bits & 0x7f800000) == 0x7f800000); /* infinite or no number */
    }
    return !spoiled;
}

void train_vector_encode(const float *from, size_t count, uint8_t *to)
{
    encode(from, count, to);
}

enum err train_vector_decode(const uint8_t *from, size_t count, float *to)
{
    decode(from, count, to);
    return finite_all(to, count) ? E_OK : E_INVALID;
}

bool train_vector_finite(const float *numbers, size_t count)
{
    return finite_all(numbers, count);
}

void train_vector_tag(enum train_vector kind, const uint8_t job_id[16], uint64_t round,
                      const uint8_t *node, uint8_t ret[TRAIN_VECTOR_TAG])
{
    uint8_t numbers[9] = {(uint8_t)kind};
    const struct span parts[] = {span_of("concordat1-vector", 18), span_of(numbers, 9),
                                 span_of(job_id, 16), span_of(node, node ? 16 : 0)};
    put_be64(numbers + 1, round);
    crypto_sha256(parts, 4, ret);
}

enum err train_vector_put(struct store *store, const float *from, size_t count,
                          const uint8_t tag[TRAIN_VECTOR_TAG], bool durable, uint8_t ret_hash[32],
                          struct err_info *reterr)
{
    struct store_blob_writer *writer;
    uint64_t offset;
    uint8_t *bytes = proto_alloc_raw(TRAIN_VECTOR_BLOCK, 4);
    if (!bytes) {
        return E_NO_MEMORY;
    }
    enum err err =
        store_blob_begin(store, NULL, train_vector_size(count), &writer, &offset, reterr);
    if (!err) {
        for (size_t at = 0; !err && at < count; at += TRAIN_VECTOR_BLOCK) {
            size_t n = count - at < TRAIN_VECTOR_BLOCK ? count - at : TRAIN_VECTOR_BLOCK;
            train_vector_encode(from + at, n, bytes);
            err = store_blob_append(writer, span_of(bytes, 4 * n), reterr);
        }
        if (!err) {
            err = store_blob_append(writer, span_of(tag, TRAIN_VECTOR_TAG), reterr);
        }
        if (err) {
            store_blob_leave(writer);
        } else {
            err = store_blob_commit(writer, durable, ret_hash, reterr);
        }
    }
    proto_free(bytes);
    return err;
}

/* Numbers go to TO where there is one; else only the sum of their squares is wanted. */
struct reading {
    float *to;
    double square;
};

static enum err read_numbers(struct store *store, const uint8_t hash[32], uint64_t from,
                             uint64_t count, bool whole, struct reading *reading,
                             struct err_info *reterr)
{
    struct store_blob_reader *reader;
    uint64_t size;
    enum err err = store_blob_open(store, hash, &reader, &size, reterr);
    if (err) {
        return err;
    }
    float *block = reading->to ? NULL : proto_alloc_raw(TRAIN_VECTOR_BLOCK, sizeof *block);
    if (!reading->to && !block) {
        err = E_NO_MEMORY;
    } else if (whole ? size != train_vector_size(count)
                     : size < TRAIN_VECTOR_TAG || (size - TRAIN_VECTOR_TAG) / 4 < from + count) {
        err = proto_err_set(reterr, E_SCHEMA, "a vector of %llu bytes, not of %llu numbers",
                            (unsigned long long)size, (unsigned long long)count);
    }
    for (uint64_t at = 0; !err && at < count;) {
        size_t n = (size_t)(TRAIN_VECTOR_BLOCK - (from + at) % TRAIN_VECTOR_BLOCK);
        n = count - at < n ? (size_t)(count - at) : n;
        float *to = reading->to ? reading->to + at : block;
        uint8_t *bytes = (uint8_t *)(void *)to;
        err = store_blob_read(reader, 4 * (from + at), 4 * n, bytes, reterr);
        if (!err && train_vector_decode(bytes, n, to)) {
            err = proto_err_set(reterr, E_INVALID, "a number of the vector is not finite");
        }
        for (size_t i = 0; i < n && !err && !reading->to; i++) {
            reading->square += (double)to[i] * (double)to[i];
        }
        at += n;
    }
    proto_free(block);
    store_blob_close(reader);
    return err;
}

enum err train_vector_get(struct store *store, const uint8_t hash[32], float *to, size_t count,
                          struct err_info *reterr)
{
    struct reading reading = {.to = to};
    return read_numbers(store, hash, 0, count, true, &reading, reterr);
}

enum err train_vector_part(struct store *store, const uint8_t hash[32], uint64_t from, float *to,
                           size_t count, struct err_info *reterr)
{
    struct reading reading = {.to = to};
    return read_numbers(store, hash, from, count, false, &reading, reterr);
}

enum err train_vector_check(struct store *store, const uint8_t hash[32], uint64_t count,
                            double *ret_norm, struct err_info *reterr)
{
    struct reading reading = {.to = NULL};
    enum err err = read_numbers(store, hash, 0, count, true, &reading, reterr);
    *ret_norm = sqrt(reading.square);
    return err;
}
