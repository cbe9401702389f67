#include "config.h"
#include "node/train/aggregate.h"

#include "node/train/vector.h"
#include "store/kernel.h"

#include <math.h>
#include <stdlib.h>

#define BETA2 0.99
#define TAU   1e-3

bool train_hash_none(const uint8_t hash[32])
{
    static const uint8_t zeros[32];
    return memcmp(hash, zeros, 32) == 0;
}

/* Numbers in the block that begins at AT. */
static size_t block_len(uint64_t numbers, uint64_t at)
{
    return numbers - at < TRAIN_VECTOR_BLOCK ? (size_t)(numbers - at) : TRAIN_VECTOR_BLOCK;
}

static enum err put_block(struct store_blob_writer *writer, const float *numbers, size_t count,
                          uint8_t *bytes, struct err_info *reterr)
{
    if (!train_vector_finite(numbers, count)) {
        return proto_err_set(reterr, E_INVALID, "a number became not finite");
    }
    train_vector_encode(numbers, count, bytes);
    return store_blob_append(writer, span_of(bytes, 4 * count), reterr);
}

/* --- the mean ---------------------------------------------------------------------------------------------------------- */

struct averaging {
    struct store *store;
    const struct train_updates *updates;
    float *blocks; /* one, or one for each update when they are trimmed */
    double *sum;
    float *mean;
    uint8_t *bytes;
};

/* For any processor alike, without fused steps: a replay elsewhere must find the same bits. */
static void add_weighted(double *restrict sum, double weight, const float *restrict numbers,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sum[i] += weight * (double)numbers[i];
    }
}

STORE_KERNEL static void divide(const double *restrict sum, double by, size_t count,
                                float *restrict to)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = (float)(sum[i] / by);
    }
}

static enum err weighted(struct averaging *a, uint64_t at, size_t count, struct err_info *reterr)
{
    const struct train_updates *updates = a->updates;
    double all = 0;
    enum err err = E_OK;
    memset(a->sum, 0, count * sizeof *a->sum);
    for (size_t u = 0; !err && u < updates->count; u++) {
        err = train_vector_part(a->store, updates->hash[u], at, a->blocks, count, reterr);
        all += updates->weight[u];
        if (!err) {
            add_weighted(a->sum, updates->weight[u], a->blocks, count);
        }
    }
    divide(a->sum, all, count, a->mean);
    return err;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return (x > y) - (x < y);
}

static enum err trimmed(struct averaging *a, uint64_t at, size_t count, struct err_info *reterr)
{
    const struct train_updates *updates = a->updates;
    size_t n = updates->count;
    size_t cut = (size_t)(updates->trim * (double)n);
    float column[TRAIN_SITES_MAX];
    enum err err = E_OK;
    for (size_t u = 0; !err && u < n; u++) {
        err = train_vector_part(a->store, updates->hash[u], at, a->blocks + u * TRAIN_VECTOR_BLOCK,
                                count, reterr);
    }
    for (size_t i = 0; !err && i < count; i++) {
        double sum = 0;
        for (size_t u = 0; u < n; u++) {
            column[u] = a->blocks[u * TRAIN_VECTOR_BLOCK + i];
        }
        qsort(column, n, sizeof *column, by_value);
        for (size_t u = cut; u < n - cut; u++) {
            sum += (double)column[u];
        }
        a->mean[i] = (float)(sum / (double)(n - 2 * cut));
    }
    return err;
}

static enum err averaging_open(struct averaging *a, struct store *store,
                               const struct train_updates *updates,
                               struct store_blob_writer **ret_writer, struct err_info *reterr)
{
    uint64_t offset;
    *a = (struct averaging){.store = store, .updates = updates};
    if (updates->count == 0 || updates->count > TRAIN_SITES_MAX || updates->trim >= 0.5) {
        return proto_err_set(reterr, E_INVALID, "no update to take the mean of");
    }
    a->blocks = proto_alloc_raw((updates->trimmed ? updates->count : 1) * TRAIN_VECTOR_BLOCK, 4);
    a->sum = proto_alloc_raw(TRAIN_VECTOR_BLOCK, sizeof *a->sum);
    a->mean = proto_alloc_raw(TRAIN_VECTOR_BLOCK, sizeof *a->mean);
    a->bytes = proto_alloc_raw(TRAIN_VECTOR_BLOCK, 4);
    return a->blocks && a->sum && a->mean && a->bytes
               ? store_blob_begin(store, NULL, train_vector_size(updates->numbers), ret_writer,
                                  &offset, reterr)
               : E_NO_MEMORY;
}

/* ERR: of what was written. The blob with its tag becomes durable, or is left. */
static enum err averaging_close(struct averaging *a, struct store_blob_writer *writer,
                                const uint8_t tag[TRAIN_VECTOR_TAG], enum err err,
                                uint8_t ret_hash[32], struct err_info *reterr)
{
    if (!err) {
        err = store_blob_append(writer, span_of(tag, TRAIN_VECTOR_TAG), reterr);
    }
    if (err) {
        store_blob_leave(writer);
    } else {
        err = store_blob_commit(writer, true, ret_hash, reterr);
    }
    proto_free(a->blocks);
    proto_free(a->sum);
    proto_free(a->mean);
    proto_free(a->bytes);
    return err;
}

enum err train_mean(struct store *store, const struct train_updates *updates, uint8_t ret_mean[32],
                    struct err_info *reterr)
{
    struct store_blob_writer *writer = NULL;
    struct averaging a;
    uint8_t tag[TRAIN_VECTOR_TAG];
    enum err err = averaging_open(&a, store, updates, &writer, reterr);
    for (uint64_t at = 0; !err && at < updates->numbers; at += TRAIN_VECTOR_BLOCK) {
        size_t count = block_len(updates->numbers, at);
        err = updates->trimmed ? trimmed(&a, at, count, reterr) : weighted(&a, at, count, reterr);
        err = err ? err : put_block(writer, a.mean, count, a.bytes, reterr);
    }
    train_vector_tag(TRAIN_VECTOR_MEAN, updates->job_id, updates->round, NULL, tag);
    return averaging_close(&a, writer, tag, err, ret_mean, reterr);
}

/* --- SCAFFOLD ---------------------------------------------------------------------------------------------------------- */

void train_control_own(float *own, const float *control, const float *change, size_t count,
                       double scale)
{
    for (size_t i = 0; i < count; i++) {
        own[i] = (float)((double)own[i] - (double)control[i] - (double)change[i] / scale);
    }
}

/* A block of c into A->mean; A->blocks has room for one update. */
static enum err control_at(struct averaging *a, const double *scale, double all,
                           const uint8_t from[32], uint64_t at, size_t count,
                           struct err_info *reterr)
{
    const struct train_updates *updates = a->updates;
    double some = 0;
    enum err err = E_OK;
    memset(a->mean, 0, count * sizeof *a->mean);
    memset(a->sum, 0, count * sizeof *a->sum);
    if (!train_hash_none(from)) {
        err = train_vector_part(a->store, from, at, a->mean, count, reterr);
    }
    for (size_t u = 0; !err && u < updates->count; u++) {
        err = train_vector_part(a->store, updates->hash[u], at, a->blocks, count, reterr);
        some += updates->weight[u];
        for (size_t i = 0; !err && i < count; i++) {
            a->sum[i] += updates->weight[u] * (double)a->blocks[i] / scale[u];
        }
    }
    for (size_t i = 0; i < count; i++) {
        double c = (double)a->mean[i];
        a->mean[i] = (float)(c - (some * c + a->sum[i]) / all);
    }
    return err;
}

enum err train_control_step(struct store *store, const struct train_updates *updates,
                            const double *scale, double all, const uint8_t from[32],
                            uint8_t ret[32], struct err_info *reterr)
{
    struct store_blob_writer *writer = NULL;
    struct averaging a;
    uint8_t tag[TRAIN_VECTOR_TAG];
    enum err err = averaging_open(&a, store, updates, &writer, reterr);
    for (uint64_t at = 0; !err && at < updates->numbers; at += TRAIN_VECTOR_BLOCK) {
        size_t count = block_len(updates->numbers, at);
        err = control_at(&a, scale, all, from, at, count, reterr);
        err = err ? err : put_block(writer, a.mean, count, a.bytes, reterr);
    }
    train_vector_tag(TRAIN_VECTOR_FIRST, updates->job_id, updates->round, NULL, tag);
    return averaging_close(&a, writer, tag, err, ret, reterr);
}

/* --- the server's step ------------------------------------------------------------------------------------------------- */

enum part {
    WEIGHTS,
    FIRST,
    SECOND,
    PARTS
};

struct stepping {
    struct store *store;
    const struct train_server *server;
    uint64_t numbers;
    bool used[PARTS];
    const uint8_t *from[PARTS];
    uint8_t *to[PARTS];
    struct store_blob_writer *writer[PARTS];
    float *part[PARTS];
    float *mean;
    uint8_t *bytes;
};

static void step_block(struct stepping *s, size_t count)
{
    double rate = s->server->rate;
    double momentum = s->server->momentum;
    float *w = s->part[WEIGHTS];
    float *first = s->part[FIRST];
    float *second = s->part[SECOND];
    for (size_t i = 0; i < count; i++) {
        double d = (double)s->mean[i];
        double step = d;
        if (s->used[SECOND]) {
            first[i] = (float)(momentum * (double)first[i] + (1 - momentum) * d);
            second[i] = (float)(BETA2 * (double)second[i] + (1 - BETA2) * d * d);
            step = (double)first[i] / (sqrt((double)second[i]) + TAU);
        } else if (s->used[FIRST]) {
            first[i] = (float)(momentum * (double)first[i] + d);
            step = (double)first[i];
        }
        w[i] = (float)((double)w[i] + rate * step);
    }
}

static enum err step_at(struct stepping *s, uint64_t at, const uint8_t mean[32],
                        struct err_info *reterr)
{
    size_t count = block_len(s->numbers, at);
    enum err err = train_vector_part(s->store, mean, at, s->mean, count, reterr);
    for (size_t p = 0; !err && p < PARTS; p++) {
        if (s->used[p] && !train_hash_none(s->from[p])) {
            err = train_vector_part(s->store, s->from[p], at, s->part[p], count, reterr);
        } else if (s->used[p]) {
            memset(s->part[p], 0, count * sizeof *s->part[p]);
        }
    }
    if (!err) {
        step_block(s, count);
    }
    for (size_t p = 0; !err && p < PARTS; p++) {
        err = s->used[p] ? put_block(s->writer[p], s->part[p], count, s->bytes, reterr) : E_OK;
    }
    return err;
}

static enum err open_parts(struct stepping *s, struct err_info *reterr)
{
    uint64_t offset;
    s->mean = proto_alloc_raw(TRAIN_VECTOR_BLOCK, sizeof *s->mean);
    s->bytes = proto_alloc_raw(TRAIN_VECTOR_BLOCK, 4);
    enum err err = s->mean && s->bytes ? E_OK : E_NO_MEMORY;
    for (size_t p = 0; !err && p < PARTS; p++) {
        if (s->used[p]) {
            s->part[p] = proto_alloc_raw(TRAIN_VECTOR_BLOCK, sizeof *s->part[p]);
            err = s->part[p] ? store_blob_begin(s->store, NULL, train_vector_size(s->numbers),
                                                &s->writer[p], &offset, reterr)
                             : E_NO_MEMORY;
        }
    }
    return err;
}

static enum err put_tag(struct stepping *s, enum part part, uint64_t round, struct err_info *reterr)
{
    static const enum train_vector kinds[PARTS] = {TRAIN_VECTOR_WEIGHTS, TRAIN_VECTOR_FIRST,
                                                   TRAIN_VECTOR_SECOND};
    uint8_t tag[TRAIN_VECTOR_TAG];
    train_vector_tag(kinds[part], s->server->job_id, round, NULL, tag);
    return store_blob_append(s->writer[part], span_of(tag, sizeof tag), reterr);
}

enum err train_server_step(struct store *store, const struct train_server *server, uint64_t round,
                           uint64_t numbers, const uint8_t mean[32],
                           const struct train_server_state *from, struct train_server_state *to,
                           struct err_info *reterr)
{
    bool adam = server->method == PROTO_FEDADAM;
    struct train_server_state result = {.weights = {0}};
    struct stepping s = {
        .store = store,
        .server = server,
        .numbers = numbers,
        .used = {true, adam || server->momentum > 0, adam},
        .from = {from->weights, from->first, from->second},
        .to = {result.weights, result.first, result.second},
    };
    enum err err = open_parts(&s, reterr);
    for (uint64_t at = 0; !err && at < numbers; at += TRAIN_VECTOR_BLOCK) {
        err = step_at(&s, at, mean, reterr);
    }
    for (size_t p = 0; !err && p < PARTS; p++) {
        err = s.used[p] ? put_tag(&s, (enum part)p, round, reterr) : E_OK;
    }
    for (size_t p = 0; p < PARTS; p++) {
        if (err) {
            store_blob_leave(s.writer[p]);
        } else if (s.used[p]) {
            err = store_blob_commit(s.writer[p], true, s.to[p], reterr);
        }
        proto_free(s.part[p]);
    }
    proto_free(s.mean);
    proto_free(s.bytes);
    if (!err) {
        *to = result;
    }
    return err;
}
