/* SCAFFOLD at a site (aggregate.h has the arithmetic): c_i on disk, and what it becomes once the coordinator has counted the update that
 * it belongs to. A round whose update came too late has moved neither c nor c_i. */
#include "config.h"
#include "node/train/site_internal.h"

#include "node/train/vector.h"

static bool used(const struct site_work *work)
{
    return work->plan.method == PROTO_SCAFFOLD;
}

static void remove_one(struct site_work *work, struct span hash)
{
    if (hash.len == 32) {
        (void)!store_blob_remove(work->context->store, hash.ptr, NULL);
    }
}

void site_control_settle(struct site_work *work)
{
    struct train_part *part = &work->part;
    work->replaced = span_str("");
    if (!used(work) || part->pending.len != 32 || part->pending_round >= work->round.round) {
        return; /* nothing waits, or this very round is asked for again */
    }
    if (work->round.counted == part->pending_round) {
        work->replaced = part->control;
        part->control = part->pending;
    } else {
        work->replaced = part->pending;
    }
    part->pending = span_str("");
}

void site_control_settled(struct site_work *work)
{
    remove_one(work, work->replaced);
    work->replaced = span_str("");
}

void site_control_forget(struct site_work *work)
{
    remove_one(work, work->part.control);
    remove_one(work, work->part.pending);
    work->part.control = work->part.pending = span_str("");
}

/* Numbers of a vector; zeros where HASH is NULL. */
static enum err get(struct site_work *work, const uint8_t *hash, float **ret,
                    struct err_info *reterr)
{
    size_t count = work->plan.numbers;
    *ret = proto_alloc(count, sizeof **ret);
    if (!*ret || !hash) {
        return *ret ? E_OK : E_NO_MEMORY;
    }
    return train_vector_get(work->context->store, hash, *ret, count, reterr);
}

enum err site_control_fetch(struct site_work *work, struct err_info *reterr)
{
    struct peer_blob blob;
    double norm;
    if (!used(work) || work->round.control.hash.len == 0) {
        return E_OK;
    }
    enum err err = train_blob_open(&work->round.control, &blob) ||
                           blob.size != train_vector_size(work->plan.numbers)
                       ? E_INVALID
                       : site_fetch(work, &blob, reterr);
    err = err ? err
              : train_vector_check(work->context->store, blob.hash, work->plan.numbers, &norm,
                                   reterr);
    return err == E_INVALID || err == E_SCHEMA
               ? site_refuse(work, PROTO_REASON_BAD_REQUEST,
                             "the control variate does not fit the plan")
               : err;
}

enum err site_control_open(struct site_work *work, float **ret_control, float **ret_correction,
                           struct err_info *reterr)
{
    const struct span own = work->part.control, all = work->round.control.hash;
    float *control = NULL, *correction = NULL;
    *ret_control = *ret_correction = NULL;
    if (!used(work)) {
        return E_OK;
    }
    enum err err = get(work, all.len == 32 ? all.ptr : NULL, &control, reterr);
    err = err ? err : get(work, own.len == 32 ? own.ptr : NULL, &correction, reterr);
    for (size_t i = 0; !err && i < work->plan.numbers; i++) {
        correction[i] = control[i] - correction[i];
    }
    if (err) {
        proto_free(control);
        proto_free(correction);
        return err;
    }
    *ret_control = control;
    *ret_correction = correction;
    return E_OK;
}

enum err site_control_next(struct site_work *work, const float *control, const float *change,
                           struct err_info *reterr)
{
    const struct span before = work->part.pending, own_hash = work->part.control;
    uint8_t tag[TRAIN_VECTOR_TAG];
    uint8_t *hash = arena_alloc(&work->arena, 32, 1);
    size_t count = work->plan.numbers;
    float *own = NULL;
    enum err err =
        hash ? get(work, own_hash.len == 32 ? own_hash.ptr : NULL, &own, reterr) : E_NO_MEMORY;
    if (!err) {
        train_control_own(own, control, change, count,
                          (double)work->part.steps * work->plan.learning_rate);
        train_vector_tag(TRAIN_VECTOR_CONTROL, work->job_id.ptr, work->round.round,
                         work->context->node_id, tag);
        err = train_vector_put(work->context->store, own, count, tag, true, hash, reterr);
    }
    proto_free(own);
    if (!err) {
        work->part.pending = span_of(hash, 32); /* stored with the update's name */
        work->part.pending_round = work->round.round;
    }
    if (!err && !span_equal(before, work->part.pending)) {
        work->replaced = before; /* of a life that ended in this round */
    }
    return err;
}
