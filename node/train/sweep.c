/* Blobs that a life of this node left behind: an update of a round that was cut off, weights that a site had fetched for it, a head
 * or control variate that nobody counted. None of them is named by a job's state or a part.
 *
 * Only vectors go, and only those whose tag says that they are of a job that is known here: the tag cannot be there by chance. Models,
 * statements, whatever else lies there stays, named or not; and if anything on disk cannot be read, all of it stays. */
#include "config.h"
#include "node/train/internal.h"

#include "node/query/clock.h"
#include "node/query/site.h"
#include "node/train/base.h"
#include "node/train/vector.h"
#include "proto/record.h"
#include "store/blob.h"
#include "store/job.h"
#include "store/records.h"

#include <stdio.h>
#include <stdlib.h>

#define PART_AGE_S 86400 /* nobody went on with it for so long */

struct found {
    uint8_t hash[32];
    uint64_t disk; /* bytes of its file */
    uint64_t size;
    uint8_t tag[TRAIN_VECTOR_TAG];
    bool named;  /* by something that stays */
    bool vector; /* of a job that is known here */
};

struct sweep {
    struct query_context *context;
    struct found *found; /* by hash; later by tag */
    size_t count, cap;
};

static int by_hash(const void *a, const void *b)
{
    return memcmp(((const struct found *)a)->hash, ((const struct found *)b)->hash, 32);
}

static int by_tag(const void *a, const void *b)
{
    return memcmp(((const struct found *)a)->tag, ((const struct found *)b)->tag, TRAIN_VECTOR_TAG);
}

static enum err add(void *user, const uint8_t hash[32], uint64_t disk)
{
    struct sweep *sweep = user;
    if (sweep->count == sweep->cap) {
        size_t cap = sweep->cap ? 2 * sweep->cap : 64;
        struct found *grown = proto_realloc(sweep->found, cap, sizeof *grown);
        if (!grown) {
            return E_NO_MEMORY;
        }
        sweep->found = grown;
        sweep->cap = cap;
    }
    struct found *one = &sweep->found[sweep->count++];
    *one = (struct found){.disk = disk};
    memcpy(one->hash, hash, 32);
    return E_OK;
}

/* --- what is named ----------------------------------------------------------------------------------------------------- */

static void mark(struct sweep *sweep, const uint8_t *hash)
{
    struct found key;
    if (hash && sweep->count) {
        memcpy(key.hash, hash, 32);
        struct found *one = bsearch(&key, sweep->found, sweep->count, sizeof key, by_hash);
        if (one) {
            one->named = true;
        }
    }
}

static void mark_span(struct sweep *sweep, struct span hash)
{
    mark(sweep, hash.len == 32 ? hash.ptr : NULL);
}

/* The row is of jobs, and its plan can be read: then FN gets it. STATE or PART is NULL. */
typedef void plan_fn(struct sweep *sweep, const struct train_plan *plan,
                     const struct train_job_state *state, const struct train_part *part);

struct rows {
    struct sweep *sweep;
    plan_fn *fn;
};

static enum err read_state(const struct rows *rows, struct span bytes)
{
    struct arena arena = {0};
    struct train_plan plan;
    struct train_job_state *state = proto_alloc(1, sizeof *state);
    enum err err = state ? train_job_state_decode(bytes, state, NULL) : E_NO_MEMORY;
    err = err ? err : proto_codec_decode(&train_plan_message, state->plan, &arena, &plan, NULL);
    if (!err) {
        rows->fn(rows->sweep, &plan, state, NULL);
    }
    if (state) {
        train_job_state_fini(state);
    }
    proto_free(state);
    arena_fini(&arena);
    return err;
}

static enum err read_part(const struct rows *rows, struct span bytes)
{
    struct arena arena = {0};
    struct train_part part;
    struct train_plan plan;
    enum err err = train_part_decode(bytes, &arena, &part);
    err = err ? err : proto_codec_decode(&train_plan_message, part.plan, &arena, &plan, NULL);
    if (!err) {
        rows->fn(rows->sweep, &plan, NULL, &part);
    }
    arena_fini(&arena);
    return err;
}

/* Those of another version are told apart by three letters, and are not understood. */
static enum err on_row(void *user, const uint8_t id[16], struct span bytes)
{
    (void)id;
    return bytes.len < 3                      ? E_OK
           : memcmp(bytes.ptr, "CTJ", 3) == 0 ? read_state(user, bytes)
           : memcmp(bytes.ptr, "CTP", 3) == 0 ? read_part(user, bytes)
                                              : E_OK;
}

static void name_of_job(struct sweep *sweep, const struct train_plan *plan,
                        const struct train_job_state *state, const struct train_part *part)
{
    mark_span(sweep, plan->model);
    mark_span(sweep, plan->model_base);
    if (part) {
        mark_span(sweep, part->update);
        mark_span(sweep, part->control);
        mark_span(sweep, part->pending);
        return;
    }
    mark_span(sweep, plan->start);
    mark(sweep, state->server.weights);
    mark(sweep, state->server.first);
    mark(sweep, state->server.second);
    for (size_t i = 0; i < state->history_count; i++) {
        mark(sweep, state->history[i].mean);
        mark(sweep, state->history[i].weights);
    }
}

static enum err name_of_record(void *user, struct span bytes, bool forked)
{
    struct arena arena = {0};
    struct proto_record record;
    struct proto_model model;
    (void)forked;
    if (proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK &&
        proto_model_decode(record.envelope.body, &arena, &model, NULL) == E_OK) {
        mark_span(user, model.weights);
        mark_span(user, model.lineage);
    }
    arena_fini(&arena);
    return E_OK;
}

static enum err name_of_base(void *user, const struct train_base *base)
{
    mark(user, base->hash);
    mark(user, base->under);
    return E_OK;
}

/* --- what is a vector -------------------------------------------------------------------------------------------------- */

static bool read_tag(struct store *store, struct found *one)
{
    struct store_blob_reader *reader;
    bool read = false;
    if (store_blob_open(store, one->hash, &reader, &one->size, NULL) == E_OK) {
        read = one->size > TRAIN_VECTOR_TAG && one->size % 4 == 0 &&
               store_blob_read(reader, one->size - TRAIN_VECTOR_TAG, TRAIN_VECTOR_TAG, one->tag,
                               NULL) == E_OK;
        store_blob_close(reader);
    }
    return read;
}

/* Those that nothing names, by their tags. */
static void keep_loose(struct sweep *sweep)
{
    size_t count = 0;
    for (size_t i = 0; i < sweep->count; i++) {
        struct found *one = &sweep->found[i];
        if (!one->named && read_tag(sweep->context->store, one)) {
            sweep->found[count++] = *one;
        }
    }
    sweep->count = count;
    if (count) {
        qsort(sweep->found, count, sizeof *sweep->found, by_tag);
    }
}

static void match(struct sweep *sweep, enum train_vector kind, const uint8_t job_id[16],
                  uint64_t round, const uint8_t *node)
{
    struct found key;
    train_vector_tag(kind, job_id, round, node, key.tag);
    const struct found *one = bsearch(&key, sweep->found, sweep->count, sizeof key, by_tag);
    if (!one) {
        return;
    }
    /* Of two with one tag, as a round that was computed twice leaves them, both. */
    size_t at = (size_t)(one - sweep->found);
    while (at > 0 && by_tag(&sweep->found[at - 1], &key) == 0) {
        at--;
    }
    for (; at < sweep->count && by_tag(&sweep->found[at], &key) == 0; at++) {
        sweep->found[at].vector = true;
    }
}

/* A personal head is shorter than the plan's vectors. */
static bool may_match(const struct sweep *sweep, const struct train_plan *plan)
{
    for (size_t i = 0; i < sweep->count; i++) {
        if (plan->personal_head || sweep->found[i].size == train_vector_size(plan->numbers)) {
            return true;
        }
    }
    return false;
}

static void match_job(struct sweep *sweep, const struct train_plan *plan,
                      const struct train_job_state *state, const struct train_part *part)
{
    const struct train_plan_site *sites = plan->sites.items;
    const uint8_t *self = sweep->context->node_id, *job = plan->job_id.ptr;
    (void)state;
    (void)part;
    if (!may_match(sweep, plan)) {
        return;
    }
    for (uint64_t round = 0; round <= plan->rounds + 1; round++) {
        match(sweep, TRAIN_VECTOR_WEIGHTS, job, round, NULL);
        match(sweep, TRAIN_VECTOR_FIRST, job, round, NULL);
        match(sweep, TRAIN_VECTOR_SECOND, job, round, NULL);
        match(sweep, TRAIN_VECTOR_MEAN, job, round, NULL);
        match(sweep, TRAIN_VECTOR_CONTROL, job, round, self);
        match(sweep, TRAIN_VECTOR_HEAD, job, round, self);
        for (size_t i = 0; i < plan->sites.count; i++) {
            match(sweep, TRAIN_VECTOR_UPDATE, job, round, sites[i].node.ptr);
        }
    }
}

/* --- the whole --------------------------------------------------------------------------------------------------------- */

static enum err find(struct sweep *sweep, struct err_info *reterr)
{
    struct store *store = sweep->context->store;
    struct rows naming = {sweep, name_of_job}, matching = {sweep, match_job};
    enum err err = store_blob_each(store, add, sweep, reterr);
    if (err || !sweep->count) {
        return err;
    }
    qsort(sweep->found, sweep->count, sizeof *sweep->found, by_hash);
    err = store_job_each(store, on_row, &naming, reterr);
    err = err ? err : store_records_each(store, PROTO_RECORD_MODEL, name_of_record, sweep);
    err = err ? err : train_base_each(store, name_of_base, sweep, reterr);
    if (!err) {
        keep_loose(sweep);
    }
    return err || !sweep->count ? err : store_job_each(store, on_row, &matching, reterr);
}

void train_sweep(struct query_context *context)
{
    struct sweep sweep = {.context = context};
    struct store_blob_left gone = {0, 0};
    struct err_info info = {0};
    char text[160];
    enum err err = store_blob_tidy(context->store, query_now() - PART_AGE_S, &gone, &info);
    err = err ? err : find(&sweep, &info);
    for (size_t i = 0; !err && i < sweep.count; i++) {
        const struct found *one = &sweep.found[i];
        if (one->vector && store_blob_remove(context->store, one->hash, NULL) == E_OK) {
            gone.files++;
            gone.bytes += one->disk;
        }
    }
    proto_free(sweep.found);
    if (err) {
        snprintf(text, sizeof text, "all vectors stay: %.100s",
                 info.text[0] ? info.text : proto_err_name(err));
        context->log(context->user, PEER_LOG_WARN, "train.sweep", text);
    }
    if (gone.files) {
        snprintf(text, sizeof text, "%llu files that nothing names any more, %llu bytes",
                 (unsigned long long)gone.files, (unsigned long long)gone.bytes);
        context->log(context->user, PEER_LOG_INFO, "train.sweep", text);
    }
}
