#include "config.h"
#include "node/train/vector.h"

#include "crypto/provider.h"

#include "store/kernel.h"

#include <math.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
static void swap(const uint8_t *from, size_t count, uint8_t *to)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, from + 4 * i, 4);
        bits = __builtin_bswap32(bits);
        memcpy(to + 4 * i, &bits, 4);
    }
}
#endif

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

enum err train_vector_append(struct store_blob_writer *writer, const float *from, size_t count,
                             struct err_info *reterr)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return store_blob_append(writer, span_of((const uint8_t *)from, 4 * count), reterr);
#else
    uint8_t bytes[4096];
    enum err err = E_OK;
    for (size_t at = 0; !err && at < count;) {
        size_t n = count - at < sizeof bytes / 4 ? count - at : sizeof bytes / 4;
        swap((const uint8_t *)(from + at), n, bytes);
        err = store_blob_append(writer, span_of(bytes, 4 * n), reterr);
        at += n;
    }
    return err;
#endif
}

enum err train_vector_put(struct store *store, const float *from, size_t count,
                          const uint8_t tag[TRAIN_VECTOR_TAG], enum store_blob_keep keep,
                          uint8_t ret_hash[32], struct err_info *reterr)
{
    struct store_blob_writer *writer;
    uint64_t offset;
    enum err err =
        store_blob_begin(store, NULL, train_vector_size(count), keep, &writer, &offset, reterr);
    if (err) {
        return err;
    }
    err = train_vector_append(writer, from, count, reterr);
    err = err ? err : store_blob_append(writer, span_of(tag, TRAIN_VECTOR_TAG), reterr);
    if (err) {
        store_blob_leave(writer);
        return err;
    }
    return store_blob_commit(writer, ret_hash, reterr);
}

/* --- reading ----------------------------------------------------------------------------------------------------------- */

/* The numbers that stand in BYTES, at BYTES itself where the machine's are alike; else in ROOM. */
static const float *numbers_in(struct span bytes, float *room)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    (void)room;
    return (const float *)(const void *)bytes.ptr;
#else
    swap(bytes.ptr, bytes.len / sizeof *room, (uint8_t *)room);
    return room;
#endif
}

static enum err check_size(uint64_t size, uint64_t from, uint64_t count, bool whole,
                           struct err_info *reterr)
{
    bool fits = whole ? size == train_vector_size(count)
                      : size >= TRAIN_VECTOR_TAG && (size - TRAIN_VECTOR_TAG) / 4 >= from + count;
    return fits ? E_OK
                : proto_err_set(reterr, E_SCHEMA, "a vector of %llu bytes, not of %llu numbers",
                                (unsigned long long)size, (unsigned long long)count);
}

static enum err each_run(struct store_blob_reader *reader, uint64_t from, uint64_t count,
                         float *room, train_vector_fn *each, void *user, struct err_info *reterr)
{
    enum err err = E_OK;
    for (uint64_t at = 0; !err && at < count;) {
        uint64_t block = (from + at) / TRAIN_VECTOR_BLOCK;
        size_t skip = (size_t)((from + at) % TRAIN_VECTOR_BLOCK);
        size_t n = TRAIN_VECTOR_BLOCK - skip;
        struct span chunk;
        n = count - at < n ? (size_t)(count - at) : n;
        err = store_blob_view(reader, block, &chunk, reterr);
        if (!err) {
            const float *numbers = numbers_in(span_of(chunk.ptr + 4 * skip, 4 * n), room);
            err = finite_all(numbers, n)
                      ? E_OK
                      : proto_err_set(reterr, E_INVALID, "a number of the vector is not finite");
            if (!err) {
                each(user, at, numbers, n);
            }
        }
        at += n;
    }
    return err;
}

static enum err read_numbers(struct store *store, const uint8_t hash[32], uint64_t from,
                             uint64_t count, bool whole, train_vector_fn *each, void *user,
                             struct err_info *reterr)
{
    struct store_blob_reader *reader;
    uint64_t size;
    float *room = NULL;
    enum err err = store_blob_open(store, hash, &reader, &size, reterr);
    if (err) {
        return err;
    }
    err = check_size(size, from, count, whole, reterr);
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    room = proto_alloc_raw(TRAIN_VECTOR_BLOCK, sizeof *room);
    err = room ? err : E_NO_MEMORY;
#endif
    err = err ? err : each_run(reader, from, count, room, each, user, reterr);
    proto_free(room);
    store_blob_close(reader);
    return err;
}

static void copy_to(void *user, uint64_t at, const float *numbers, size_t count)
{
    memcpy((float *)user + at, numbers, count * sizeof *numbers);
}

enum err train_vector_get(struct store *store, const uint8_t hash[32], float *to, size_t count,
                          struct err_info *reterr)
{
    return read_numbers(store, hash, 0, count, true, copy_to, to, reterr);
}

enum err train_vector_part(struct store *store, const uint8_t hash[32], uint64_t from, float *to,
                           size_t count, struct err_info *reterr)
{
    return read_numbers(store, hash, from, count, false, copy_to, to, reterr);
}

enum err train_vector_each(struct store *store, const uint8_t hash[32], uint64_t from,
                           uint64_t count, train_vector_fn *each, void *user,
                           struct err_info *reterr)
{
    return read_numbers(store, hash, from, count, false, each, user, reterr);
}

#define LANES 8

STORE_KERNEL static double squares(const float *numbers, size_t count)
{
    double sums[LANES] = {0}, all = 0;
    size_t whole = count / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t k = 0; k < LANES; k++) {
            sums[k] += (double)numbers[i + k] * (double)numbers[i + k];
        }
    }
    for (size_t i = whole; i < count; i++) {
        all += (double)numbers[i] * (double)numbers[i];
    }
    for (size_t k = 0; k < LANES; k++) {
        all += sums[k];
    }
    return all;
}

static void add_squares(void *user, uint64_t at, const float *numbers, size_t count)
{
    (void)at;
    *(double *)user += squares(numbers, count);
}

static enum err check_tag(struct store *store, const uint8_t hash[32], const uint8_t *tag,
                          struct err_info *reterr)
{
    struct store_blob_reader *reader;
    uint8_t found[TRAIN_VECTOR_TAG];
    uint64_t size;
    enum err err = store_blob_open(store, hash, &reader, &size, reterr);
    if (err) {
        return err;
    }
    err = size < sizeof found
              ? E_SCHEMA
              : store_blob_read(reader, size - sizeof found, sizeof found, found, reterr);
    store_blob_close(reader);
    return err || memcmp(found, tag, sizeof found) == 0
               ? err
               : proto_err_set(reterr, E_AUTH, "it is another vector than was named");
}

enum err train_vector_check(struct store *store, const uint8_t hash[32], uint64_t count,
                            const uint8_t *tag, double *ret_norm, struct err_info *reterr)
{
    double square = 0;
    enum err err = tag ? check_tag(store, hash, tag, reterr) : E_OK;
    err = err ? err : read_numbers(store, hash, 0, count, true, add_squares, &square, reterr);
    *ret_norm = sqrt(square);
    return err;
}
