#include "config.h"
#include "node/train/aggregate.h"

#include "node/train/vector_writer.h"
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

/* --- the mean ---------------------------------------------------------------------------------------------------------- */

struct averaging {
    struct store *store;
    const struct train_updates *updates;
    float *blocks; /* one, or one for each update when they are trimmed */
    double *sum;
    float *mean;
    struct train_vector_writer *writer;
};

/* Here and below: the same bits on any processor, so that a replay elsewhere finds them. The folder is compiled without fused
 * multiplications for that. */
STORE_KERNEL static void add_weighted(double *restrict sum, double weight,
                                      const float *restrict numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sum[i] += weight * (double)numbers[i];
    }
}

struct adding {
    double *sum;
    double weight;
};

static void add_block(void *user, uint64_t at, const float *numbers, size_t count)
{
    const struct adding *adding = user;
    add_weighted(adding->sum + at, adding->weight, numbers, count);
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
        struct adding adding = {a->sum, updates->weight[u]};
        err = train_vector_each(a->store, updates->hash[u], at, count, add_block, &adding, reterr);
        all += updates->weight[u];
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

/* KIND: what is written. A is closed by averaging_close also on failure. */
static enum err averaging_open(struct averaging *a, struct store *store,
                               const struct train_updates *updates, enum train_vector kind,
                               struct err_info *reterr)
{
    uint8_t tag[TRAIN_VECTOR_TAG];
    *a = (struct averaging){.store = store, .updates = updates};
    if (updates->count == 0 || updates->count > TRAIN_SITES_MAX || updates->trim >= 0.5) {
        return proto_err_set(reterr, E_INVALID, "no update to take the mean of");
    }
    a->blocks = proto_alloc_raw((updates->trimmed ? updates->count : 1) * TRAIN_VECTOR_BLOCK, 4);
    a->sum = proto_alloc_raw(TRAIN_VECTOR_BLOCK, sizeof *a->sum);
    a->mean = proto_alloc_raw(TRAIN_VECTOR_BLOCK, sizeof *a->mean);
    train_vector_tag(kind, updates->job_id, updates->round, NULL, tag);
    return a->blocks && a->sum && a->mean
               ? train_vector_writer_open(store, updates->numbers, tag, &a->writer, reterr)
               : E_NO_MEMORY;
}

static enum err averaging_close(struct averaging *a, enum err err, uint8_t ret_hash[32],
                                struct err_info *reterr)
{
    err = train_vector_writer_close(a->writer, err, ret_hash, reterr);
    proto_free(a->blocks);
    proto_free(a->sum);
    proto_free(a->mean);
    return err;
}

/* A block into A->mean, and on its way to the disk. */
static enum err mean_at(struct averaging *a, uint64_t at, size_t count, struct err_info *reterr)
{
    enum err err =
        a->updates->trimmed ? trimmed(a, at, count, reterr) : weighted(a, at, count, reterr);
    return err ? err : train_vector_writer_put(a->writer, a->mean, count, reterr);
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
    struct averaging a;
    enum err err = averaging_open(&a, store, updates, TRAIN_VECTOR_FIRST, reterr);
    for (uint64_t at = 0; !err && at < updates->numbers; at += TRAIN_VECTOR_BLOCK) {
        size_t count = block_len(updates->numbers, at);
        err = control_at(&a, scale, all, from, at, count, reterr);
        err = err ? err : train_vector_writer_put(a.writer, a.mean, count, reterr);
    }
    return averaging_close(&a, err, ret, reterr);
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
    struct train_vector_writer *writer[PARTS];
    float *part[PARTS];
};

STORE_KERNEL static void plain_step(float *restrict w, const float *restrict mean, double rate,
                                    size_t count)
{
    for (size_t i = 0; i < count; i++) {
        w[i] = (float)((double)w[i] + rate * (double)mean[i]);
    }
}

static void step_block(struct stepping *s, const float *mean, size_t count)
{
    double rate = s->server->rate;
    double momentum = s->server->momentum;
    float *w = s->part[WEIGHTS];
    float *first = s->part[FIRST];
    float *second = s->part[SECOND];
    if (!s->used[FIRST]) {
        plain_step(w, mean, rate, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        double d = (double)mean[i];
        double step = d;
        if (s->used[SECOND]) {
            first[i] = (float)(momentum * (double)first[i] + (1 - momentum) * d);
            second[i] = (float)(BETA2 * (double)second[i] + (1 - BETA2) * d * d);
            step = (double)first[i] / (sqrt((double)second[i]) + TAU);
        } else {
            first[i] = (float)(momentum * (double)first[i] + d);
            step = (double)first[i];
        }
        w[i] = (float)((double)w[i] + rate * step);
    }
}

/* MEAN: of the block that begins at AT. */
static enum err step_at(struct stepping *s, uint64_t at, const float *mean, struct err_info *reterr)
{
    size_t count = block_len(s->numbers, at);
    enum err err = E_OK;
    for (size_t p = 0; !err && p < PARTS; p++) {
        if (s->used[p] && !train_hash_none(s->from[p])) {
            err = train_vector_part(s->store, s->from[p], at, s->part[p], count, reterr);
        } else if (s->used[p]) {
            memset(s->part[p], 0, count * sizeof *s->part[p]);
        }
    }
    if (!err) {
        step_block(s, mean, count);
    }
    for (size_t p = 0; !err && p < PARTS; p++) {
        err = s->used[p] ? train_vector_writer_put(s->writer[p], s->part[p], count, reterr) : E_OK;
    }
    return err;
}

/* S is closed by stepping_close also on failure. */
static enum err stepping_open(struct stepping *s, struct store *store,
                              const struct train_server *server, uint64_t round, uint64_t numbers,
                              const struct train_server_state *from, struct err_info *reterr)
{
    static const enum train_vector kinds[PARTS] = {TRAIN_VECTOR_WEIGHTS, TRAIN_VECTOR_FIRST,
                                                   TRAIN_VECTOR_SECOND};
    bool adam = server->method == PROTO_FEDADAM;
    enum err err = E_OK;
    *s = (struct stepping){
        .store = store,
        .server = server,
        .numbers = numbers,
        .used = {true, adam || server->momentum > 0, adam},
        .from = {from->weights, from->first, from->second},
    };
    for (size_t p = 0; !err && p < PARTS; p++) {
        uint8_t tag[TRAIN_VECTOR_TAG];
        if (s->used[p]) {
            train_vector_tag(kinds[p], server->job_id, round, NULL, tag);
            s->part[p] = proto_alloc_raw(TRAIN_VECTOR_BLOCK, sizeof *s->part[p]);
            err = s->part[p] ? train_vector_writer_open(store, numbers, tag, &s->writer[p], reterr)
                             : E_NO_MEMORY;
        }
    }
    return err;
}

static enum err stepping_close(struct stepping *s, enum err err, struct train_server_state *to,
                               struct err_info *reterr)
{
    struct train_server_state result = {.weights = {0}};
    uint8_t *const hashes[PARTS] = {result.weights, result.first, result.second};
    for (size_t p = 0; p < PARTS; p++) {
        err = train_vector_writer_close(s->writer[p], err, hashes[p], reterr);
        proto_free(s->part[p]);
    }
    if (!err) {
        *to = result;
    }
    return err;
}

enum err train_server_step(struct store *store, const struct train_server *server, uint64_t round,
                           uint64_t numbers, const uint8_t mean[32],
                           const struct train_server_state *from, struct train_server_state *to,
                           struct err_info *reterr)
{
    struct stepping s;
    enum err err = stepping_open(&s, store, server, round, numbers, from, reterr);
    float *block = proto_alloc_raw(TRAIN_VECTOR_BLOCK, sizeof *block);
    err = err || block ? err : E_NO_MEMORY;
    for (uint64_t at = 0; !err && at < numbers; at += TRAIN_VECTOR_BLOCK) {
        err = train_vector_part(store, mean, at, block, block_len(numbers, at), reterr);
        err = err ? err : step_at(&s, at, block, reterr);
    }
    proto_free(block);
    return stepping_close(&s, err, to, reterr);
}

enum err train_mean_step(struct store *store, const struct train_updates *updates,
                         const struct train_server *server, const struct train_server_state *from,
                         struct train_server_state *to, uint8_t ret_mean[32],
                         struct err_info *reterr)
{
    struct averaging a;
    struct stepping s;
    struct train_server_state next;
    enum err err = averaging_open(&a, store, updates, TRAIN_VECTOR_MEAN, reterr);
    if (err) {
        return averaging_close(&a, err, ret_mean, reterr);
    }
    err = stepping_open(&s, store, server, updates->round, updates->numbers, from, reterr);
    for (uint64_t at = 0; !err && at < updates->numbers; at += TRAIN_VECTOR_BLOCK) {
        err = mean_at(&a, at, block_len(updates->numbers, at), reterr);
        err = err ? err : step_at(&s, at, a.mean, reterr);
    }
    err = stepping_close(&s, err, &next, reterr);
    err = averaging_close(&a, err, ret_mean, reterr);
    if (!err) {
        *to = next;
    }
    return err;
}
