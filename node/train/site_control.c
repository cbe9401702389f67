/* What a site keeps of a job from round to round: SCAFFOLD's c_i (aggregate.h has the arithmetic) or a personal head, on disk, and what
 * it becomes once the coordinator has counted the update that it belongs to. A round whose update came too late has moved neither the
 * job's weights nor this. No job has both: c_i is of tables, heads are of encoders. */
#include "config.h"
#include "node/train/site_internal.h"

#include "node/train/use.h"
#include "node/train/vector.h"
#include "store/job.h"

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

bool site_control_settle(struct site_work *work)
{
    struct train_part *part = &work->part;
    bool keeps = used(work) || work->plan.personal_head;
    work->replaced = span_str("");
    if (!keeps || part->pending.len != 32 || part->pending_round >= work->round.round) {
        return false; /* nothing waits, or this very round is asked for again */
    }
    if (work->round.counted == part->pending_round) {
        work->replaced = part->control;
        part->control = part->pending;
    } else {
        work->replaced = part->pending;
    }
    part->pending = span_str("");
    return true;
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
                       : site_fetch_passing(work, &blob, reterr);
    err = err ? err
              : train_vector_check(work->context->store, blob.hash, work->plan.numbers, NULL, &norm,
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

/* The blob of NUMBERS is what ours becomes; the part names it, and is stored with the update's name. */
static enum err keep_next(struct site_work *work, enum train_vector kind, const float *numbers,
                          size_t count, struct err_info *reterr)
{
    const struct span before = work->part.pending;
    uint8_t tag[TRAIN_VECTOR_TAG];
    uint8_t *hash = arena_alloc(&work->arena, 32, 1);
    if (!hash) {
        return E_NO_MEMORY;
    }
    train_vector_tag(kind, work->job_id.ptr, work->round.round, work->context->node_id, tag);
    enum err err = train_vector_put(work->context->store, numbers, count, tag, STORE_BLOB_DURABLE,
                                    hash, reterr);
    if (!err) {
        work->part.pending = span_of(hash, 32);
        work->part.pending_round = work->round.round;
    }
    if (!err && !span_equal(before, work->part.pending)) {
        work->replaced = before; /* of a life that ended in this round */
    }
    return err;
}

enum err site_control_next(struct site_work *work, const float *control, const float *change,
                           struct err_info *reterr)
{
    const struct span own_hash = work->part.control;
    size_t count = work->plan.numbers;
    float *own = NULL;
    enum err err = get(work, own_hash.len == 32 ? own_hash.ptr : NULL, &own, reterr);
    if (!err) {
        train_control_own(own, control, change, count,
                          (double)work->part.steps * work->plan.learning_rate);
        err = keep_next(work, TRAIN_VECTOR_CONTROL, own, count, reterr);
    }
    proto_free(own);
    return err;
}

/* --- personal heads ---------------------------------------------------------------------------------------------------- */

enum err site_head_open(struct site_work *work, struct err_info *reterr)
{
    size_t count;
    float *home = train_learner_home(work->learner, &count);
    return home && work->part.control.len == 32
               ? train_vector_get(work->context->store, work->part.control.ptr, home, count, reterr)
               : E_OK;
}

enum err site_head_next(struct site_work *work, struct err_info *reterr)
{
    size_t count;
    const float *home = train_learner_home(work->learner, &count);
    return home ? keep_next(work, TRAIN_VECTOR_HEAD, home, count, reterr) : E_OK;
}

/* By the plan that this site admitted, whatever the message holds. */
static bool has_head(struct site_work *work)
{
    struct train_plan *plan = arena_alloc(&work->arena, 1, sizeof *plan);
    return plan &&
           proto_codec_decode(&train_plan_message, work->part.plan, &work->arena, plan, NULL) ==
               E_OK &&
           plan->personal_head;
}

void site_control_end(struct site_work *work)
{
    struct train_part *part = &work->part;
    if (!has_head(work)) {
        site_control_forget(work);
    } else if (part->pending.len == 32) { /* no last evaluation has settled it */
        work->replaced = part->control;
        part->control = part->pending;
        part->pending = span_str("");
    }
}

/* Jobs whose parts are on disk. */
struct jobs {
    struct arena arena;
    struct job_id {
        uint8_t id[16];
        struct job_id *next;
    } * first;
};

static enum err add_job(void *user, const uint8_t key[16], struct span bytes)
{
    struct jobs *jobs = user;
    struct arena arena = {0};
    struct train_part part;
    enum err err = E_OK;
    (void)key;
    if (train_part_decode(bytes, &arena, &part) == E_OK &&
        (part.control.len == 32 || part.pending.len == 32)) {
        struct job_id *job = arena_alloc(&jobs->arena, 1, sizeof *job);
        if (job) {
            memcpy(job->id, part.job_id.ptr, 16);
            job->next = jobs->first;
            jobs->first = job;
        } else {
            err = E_NO_MEMORY;
        }
    }
    arena_fini(&arena);
    return err;
}

static enum err forget_head(struct train_service *service, const uint8_t job_id[16],
                            const char *dataset, struct err_info *reterr)
{
    struct train_effort *alone;
    struct site_work *work = site_work_new(service, NULL);
    if (!work) {
        return E_NO_MEMORY;
    }
    enum err err = site_effort_close(service, job_id, &alone);
    if (!err) {
        err = train_part_load(service, job_id, &work->arena, &work->part, reterr);
        err = err ? err
                  : proto_codec_decode(&train_plan_message, work->part.plan, &work->arena,
                                       &work->plan, reterr);
        if (!err && work->plan.personal_head && span_is(work->plan.dataset, dataset)) {
            site_control_forget(work);
            err = site_part_store(work, reterr);
        }
        site_effort_leave(service, alone);
    }
    site_work_free(work);
    return err;
}

enum err train_heads_forget(struct train_service *service, const char *dataset,
                            struct err_info *reterr)
{
    struct jobs jobs = {0};
    enum err err = store_job_each(service->context->store, add_job, &jobs, reterr);
    for (const struct job_id *job = jobs.first; !err && job; job = job->next) {
        err = forget_head(service, job->id, dataset, reterr);
    }
    arena_fini(&jobs.arena);
    return err;
}

enum err train_head_attach(struct train_service *service, const uint8_t weights[32],
                           struct span document, struct buf *ret, struct err_info *reterr)
{
    struct arena arena = {0};
    struct train_part part;
    struct train_plan plan;
    uint8_t job[16];
    enum err err = train_model_job(service->context, weights, job);
    err = err ? err : train_part_load(service, job, &arena, &part, NULL);
    if (!err && part.control.len != 32) {
        err = E_NOT_FOUND;
    }
    if (err == E_NOT_FOUND) {
        err =
            proto_err_set(reterr, E_UNSUPPORTED,
                          "the model's heads are personal: each site of its job keeps its own, and "
                          "this node has none. Use it at a site that took part, or train a head "
                          "by a job that names it as `model.base`");
    }
    err = err ? err : proto_codec_decode(&train_plan_message, part.plan, &arena, &plan, reterr);
    err = err ? err
              : train_notes_with_head(service->context->store, &plan, document, part.control.ptr,
                                      ret, reterr);
    arena_fini(&arena);
    return err;
}
