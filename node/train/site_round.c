/* A site's rounds: mark, fetch, compute, store, send. In that order. The work of a round outlives the requests that ask for it:
 * a request waits a moment for the result, and says how far the work is when there is none yet. A link that was cut costs a
 * question, not the work. */
#include "config.h"
#include "node/train/site_internal.h"

#include "crypto/provider.h"
#include "node/query/damage.h"
#include "node/query/site.h"
#include "node/train/vector.h"
#include "store/egress.h"
#include "store/job.h"

#define LICENCE_CHECK_MS 500   /* how often a running round looks whether it is still allowed */
#define POLL_MS          1000  /* how long a request waits for a result */
#define FETCH_STALL_MS   60000 /* no byte for so long: the coordinator is asked again later */
#define PROGRESS_PARTS                                                                             \
    10 /* of a round with noise: finer steps would tell how large its batches were */

/* --- one at work for a job ---------------------------------------------------------------------------------------------- */

/* The lock is held by the callers of the next three. */
static struct train_effort *find_effort(struct train_service *service, const uint8_t job_id[16])
{
    struct train_effort *effort = service->efforts;
    while (effort && memcmp(effort->job_id, job_id, 16) != 0) {
        effort = effort->next;
    }
    return effort;
}

static void unlink_effort(struct train_service *service, struct train_effort *effort)
{
    struct train_effort **at = &service->efforts;
    while (*at && *at != effort) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = effort->next;
        effort->refs--;
    }
}

static void release_effort(struct train_effort *effort)
{
    if (effort->refs == 0) {
        buf_fini(&effort->bytes);
        proto_free(effort);
    }
}

static struct train_effort *add_effort(struct train_service *service, const uint8_t job_id[16])
{
    struct train_effort *effort = proto_alloc(1, sizeof *effort);
    if (effort) {
        memcpy(effort->job_id, job_id, 16);
        effort->bytes.max = PEER_MESSAGE_MAX;
        effort->refs = 1; /* of the list */
        effort->next = service->efforts;
        service->efforts = effort;
    }
    return effort;
}

enum err site_effort_close(struct train_service *service, const uint8_t job_id[16],
                           struct train_effort **ret)
{
    struct train_effort *other;
    enum err err = E_OK;
    pthread_mutex_lock(&service->lock);
    while (!service->stopping && (other = find_effort(service, job_id)) != NULL) {
        other->cancel = true;
        if (other->over) {
            unlink_effort(service, other);
            release_effort(other);
        } else {
            pthread_cond_wait(&service->changed, &service->lock);
        }
    }
    *ret = service->stopping ? NULL : add_effort(service, job_id);
    err = *ret ? E_OK : (service->stopping ? E_BUSY : E_NO_MEMORY);
    pthread_mutex_unlock(&service->lock);
    return err;
}

void site_effort_leave(struct train_service *service, struct train_effort *effort)
{
    pthread_mutex_lock(&service->lock);
    unlink_effort(service, effort);
    release_effort(effort);
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
}

/* --- may it go on? ------------------------------------------------------------------------------------------------------ */

static enum err check_limits(struct site_work *work)
{
    char why[128];
    return train_may_work(work->service, why, sizeof why)
               ? E_OK
               : site_refuse(work, PROTO_REASON_PAUSED, why);
}

/* Asked before each step and chunk: the daemon stops, the job was stopped, or the licence no longer permits it. */
static bool round_cancelled(void *user)
{
    struct site_work *work = user;
    if (work->withdrawn || work->service->stopping || work->effort->cancel ||
        site_refusing(work->context)) {
        return true;
    }
    uint64_t now = query_now_ms();
    if (now - work->checked_ms < LICENCE_CHECK_MS && !work->effort->look) {
        return false;
    }
    work->effort->look = false;
    work->checked_ms = now;
    struct query_admission *again = proto_alloc(1, sizeof *again);
    struct peer_member requester;
    enum err err =
        again ? query_admission_load(work->context, work->dataset, again, NULL) : E_NO_MEMORY;
    if (!err) {
        err = site_decide(work, again);
    }
    if (!err) {
        err = site_check_approval(work, again);
    }
    if (!err) {
        err = site_check_others(work);
    }
    if (!err) {
        err = check_limits(work);
    }
    if (again) {
        query_admission_fini(again);
    }
    proto_free(again);
    bool member = peer_member_by_id(work->context->peer, work->requester.id, &requester) &&
                  requester.state != PEER_REVOKED;
    if (!member) {
        (void)site_refuse(work, PROTO_REASON_RECIPIENT, "the coordinator is no longer a member");
    }
    work->withdrawn = err == E_REFUSED || !member;
    return err != E_OK || !member;
}

/* --- what the site has of the job --------------------------------------------------------------------------------------- */

static enum err open_round(struct site_work *work, struct err_info *reterr)
{
    enum err err = site_open(work, &train_round_message, TRAIN_ROUND_DOMAIN, &work->round, reterr);
    if (!err) {
        err = site_addressed(work, work->round.to, work->round.time, reterr);
    }
    if (!err) {
        work->job_id = work->round.job_id;
        memcpy(work->plan_hash, work->round.plan_hash.ptr, 32);
    }
    return err;
}

/* The plan that this site admitted; nothing of a round's message may change it. */
static enum err load_part(struct site_work *work, struct err_info *reterr)
{
    enum err err =
        train_part_load(work->service, work->job_id.ptr, &work->arena, &work->part, reterr);
    if (err == E_NOT_FOUND) {
        return site_refuse(work, PROTO_REASON_BAD_REQUEST, "no such job was admitted here");
    }
    if (err) {
        return err;
    }
    if (memcmp(work->part.plan_hash.ptr, work->plan_hash, 32) != 0) {
        return site_machine_refuses(work, "OTHER_PLAN");
    }
    if (work->part.end) {
        return site_machine_refuses(work, "ENDED");
    }
    work->cost = train_part_cost(&work->part);
    err =
        proto_codec_decode(&train_plan_message, work->part.plan, &work->arena, &work->plan, reterr);
    if (!err) {
        err = site_name_plan(work, reterr);
    }
    if (!err && !site_may_coordinate(work)) {
        err = site_refuse(work, PROTO_REASON_BAD_REQUEST, "another node coordinates this job");
    }
    if (!err && work->round.round > work->plan.rounds + 1) {
        err = site_refuse(work, PROTO_REASON_BAD_REQUEST, "the plan has no such round");
    }
    return err;
}

/* What this request may do: as many steps as are left of those reserved. A crash in a round has used its steps up. */
struct share {
    uint64_t steps;
    bool sums;
    bool histogram;
};

static enum err start_one(struct site_work *work, enum site_charge kind, uint64_t wanted,
                          uint64_t *ret_taken, struct err_info *reterr)
{
    uint8_t id[16];
    struct store_ledger_row row;
    *ret_taken = 0;
    site_charge_id(work, kind, id);
    if (!work->part.charged) {
        *ret_taken = wanted; /* nothing was reserved */
        return E_OK;
    }
    enum err err =
        wanted ? store_ledger_charge(work->context->store, id, &work->arena, &row, reterr) : E_OK;
    if (err || !wanted) {
        return err;
    }
    uint64_t left = row.steps > row.started ? row.steps - row.started : 0;
    *ret_taken = wanted < left ? wanted : left;
    if (*ret_taken == 0) {
        return E_OK;
    }
    err = store_ledger_steps_start(work->context->store, id, row.started + *ret_taken, query_now(),
                                   reterr);
    if (!err && kind == SITE_CHARGE_STEPS) {
        work->update.steps_started = row.started + *ret_taken;
    }
    return err;
}

static enum err start(struct site_work *work, struct share *ret, struct err_info *reterr)
{
    bool trains = work->round.round <= work->plan.rounds;
    uint64_t taken;
    enum err err =
        start_one(work, SITE_CHARGE_STEPS, trains ? work->granted : 0, &ret->steps, reterr);
    if (!err && trains && ret->steps == 0) {
        return site_machine_refuses(work, PROTO_ROUND_REASON_STEPS);
    }
    if (!err) {
        err = start_one(work, SITE_CHARGE_SUMS, work->round.evaluate ? 1 : 0, &taken, reterr);
        ret->sums = !err && taken;
    }
    if (!err) {
        err = start_one(work, SITE_CHARGE_HISTOGRAM, !trains && work->cost.hist_nano ? 1 : 0,
                        &taken, reterr);
        ret->histogram = !err && taken;
    }
    return err;
}

/* --- fetching ---------------------------------------------------------------------------------------------------------- */

static void count_fetched(void *user, uint64_t bytes)
{
    struct site_work *work = user;
    work->effort->fetched += bytes;
}

/* From whoever asked for the round. What cannot be had now is asked for again later. */
static enum err fetch(struct site_work *work, const struct peer_blob *blob,
                      enum store_blob_keep keep, bool *was_here, struct err_info *reterr)
{
    struct peer_fetch how = {
        .from = work->requester.id,
        .stall_ms = FETCH_STALL_MS,
        .keep = keep,
        .was_here = was_here,
        .cancelled = round_cancelled,
        .user = work,
        .progress = count_fetched,
    };
    enum err err = peer_blob_fetch(work->context->peer, work->context->store, blob, &how, reterr);
    if (err == E_AUTH || err == E_INVALID || err == E_LIMIT) {
        return site_refuse(work, PROTO_REASON_BAD_REQUEST,
                           "what the coordinator sent is not what it named");
    }
    return err == E_NOT_FOUND || err == E_TIMEOUT || err == E_REFUSED || err == E_UNREACHABLE
               ? E_BUSY
               : err;
}

/* What was here before is not this round's to remove, whoever names it. */
enum err site_fetch_passing(struct site_work *work, const struct peer_blob *blob,
                            struct err_info *reterr)
{
    bool was_here = true;
    enum err err = fetch(work, blob, STORE_BLOB_PASSING, &was_here, reterr);
    if (!err && !was_here && work->passing_count < sizeof work->passing / sizeof *work->passing) {
        memcpy(work->passing[work->passing_count++], blob->hash, 32);
    }
    return err;
}

static enum err fetch_model(struct site_work *work, struct span hash, uint64_t size,
                            struct err_info *reterr)
{
    struct peer_blob blob = {.size = size};
    if (hash.len != 32) {
        return E_OK;
    }
    memcpy(blob.hash, hash.ptr, 32);
    return fetch(work, &blob, STORE_BLOB_DURABLE, NULL, reterr);
}

/* The base model, if it is not here yet, and the weights of the round. */
static enum err fetch_all(struct site_work *work, float **ret_weights, struct err_info *reterr)
{
    const struct train_plan *plan = &work->plan;
    struct peer_blob blob;
    uint64_t count = plan->numbers;
    enum err err = E_OK;
    if (train_blob_open(&work->round.weights, &blob) || blob.size != train_vector_size(count) ||
        (work->round.round == 1 && memcmp(blob.hash, plan->start.ptr, 32) != 0)) {
        return site_refuse(work, PROTO_REASON_BAD_REQUEST, "the weights do not fit the plan");
    }
    err = fetch_model(work, plan->model, plan->model_size, reterr);
    err = err ? err : fetch_model(work, plan->model_base, plan->model_base_size, reterr);
    /* A base that nobody published says under which licence it stands only now. */
    err = err ? err : site_decide_base(work, &work->admission, true);
    err = err ? err : site_check_approval(work, &work->admission);
    err = err ? err : site_fetch_passing(work, &blob, reterr);
    err = err ? err : site_control_fetch(work, reterr);
    float *weights = err ? NULL : proto_alloc_raw(count, sizeof *weights);
    if (!err) {
        err = weights ? train_vector_get(work->context->store, blob.hash, weights, count, reterr)
                      : E_NO_MEMORY;
    }
    if (err == E_INVALID) {
        err = site_refuse(work, PROTO_REASON_BAD_REQUEST, "the weights do not fit the plan");
    }
    if (err) {
        proto_free(weights);
        return err;
    }
    *ret_weights = weights;
    return E_OK;
}

/* A site that coordinates the job, or stands by for it, needs what it names for that. */
static void forget_passing(struct site_work *work)
{
    for (size_t i = 0; i < work->passing_count; i++) {
        if (!train_job_names(work->service, work->passing[i])) {
            (void)!store_blob_remove(work->context->store, work->passing[i], NULL);
        }
    }
    work->passing_count = 0;
}

/* --- computing --------------------------------------------------------------------------------------------------------- */

static void note_progress(void *user, uint64_t done, uint64_t total)
{
    struct train_effort *effort = ((struct site_work *)user)->effort;
    effort->total = total;
    effort->done = done;
}

static enum err evaluate(struct site_work *work, const struct share *share, const float *weights,
                         struct err_info *reterr)
{
    struct train_figures figures;
    struct train_evaluation *out = &work->update.evaluation;
    struct train_figures_wish wish = {
        .spec = train_sums_of(&work->plan, work->admission.schema.max_rows_per_unit),
        .cost = &work->cost,
        .sums = share->sums,
        .bins = share->histogram ? work->plan.bins : 0,
    };
    if (!wish.sums && !wish.bins) {
        return E_OK;
    }
    enum err err = train_learner_evaluate(work->learner, weights, &wish, &figures, reterr);
    if (!err && wish.sums) {
        out->present = true;
        err = train_pack_doubles(figures.sums, figures.count, &work->arena, &out->sums);
    }
    if (!err && wish.bins && figures.has_histograms) {
        err = train_pack_doubles(figures.histograms, 2 * wish.bins, &work->arena, &out->histograms);
    }
    return err;
}

/* The change of the weights becomes a blob of ours, on disk before its name is signed. */
static enum err train(struct site_work *work, uint64_t steps, const float *weights,
                      struct err_info *reterr)
{
    struct train_local local = {
        .cost = &work->cost,
        .round = work->round.round,
        .steps = steps,
        .size = work->part.size,
        .job_id = work->job_id.ptr,
        .progress = note_progress,
        .user = work,
    };
    struct peer_blob blob;
    uint8_t hash[32];
    uint8_t tag[TRAIN_VECTOR_TAG];
    size_t count = work->plan.numbers;
    float *change = proto_alloc(count, sizeof *change), *control = NULL, *correction = NULL;
    enum err err = change ? site_control_open(work, &control, &correction, reterr) : E_NO_MEMORY;
    local.correction = correction;
    if (!err) {
        err = train_learner_train(work->learner, weights, &local, change, reterr);
    }
    if (!err && control) {
        err = site_control_next(work, control, change, reterr);
    }
    err = err ? err : site_head_next(work, reterr);
    proto_free(control);
    proto_free(correction);
    if (!err) {
        train_vector_tag(TRAIN_VECTOR_UPDATE, work->job_id.ptr, work->round.round,
                         work->context->node_id, tag);
        err = train_vector_put(work->context->store, change, count, tag, STORE_BLOB_DURABLE, hash,
                               reterr);
    }
    proto_free(change);
    if (!err) {
        err = peer_blob_describe(work->context->store, hash, &blob, reterr);
    }
    uint8_t *copy = err ? NULL : arena_alloc(&work->arena, 32, 1);
    if (copy) {
        memcpy(copy, hash, 32);
        work->update.update = (struct train_blob){span_of(copy, 32), blob.size};
        work->update.base = work->round.weights.hash;
        work->update.answer = TRAIN_UPDATED;
    }
    return err ? err : (copy ? E_OK : E_NO_MEMORY);
}

static void tell_operator(void *user, const char *what)
{
    site_log(user, "train.trainer.failed", what);
}

static enum err open_learner(struct site_work *work, struct err_info *reterr)
{
    struct err_info info = {0};
    struct train_learner_wish wish = {
        .store = work->context->store,
        .noise = work->context->noise,
        .plan = &work->plan,
        .schema = &work->admission.schema,
        .dataset = work->dataset,
        .trainers = work->context->trainers,
        .trainer_count = work->context->trainer_count,
        .key = work->part.key.ptr,
        .threads = train_threads(work->service),
        .cancelled = round_cancelled,
        .tell = tell_operator,
        .user = work,
    };
    enum err err = train_learner_open(&wish, &work->learner, &info);
    if (!err && train_learner_count(work->learner) != work->plan.numbers) {
        err = proto_err_set(&info, E_SCHEMA, "the plan has another number of weights");
    }
    if (err == E_SCHEMA || err == E_INVALID || err == E_UNSUPPORTED || err == E_USAGE) {
        return site_refuse(work, PROTO_REASON_BAD_REQUEST, info.text);
    }
    return err ? proto_err_set(reterr, err, "%s", info.text) : E_OK;
}

/* Rows come from our own files alone: whatever else was sent cannot make them look damaged. */
static enum err load(struct site_work *work, struct err_info *reterr)
{
    enum err err = train_learner_load(work->learner, reterr);
    if (err && proto_err_exit(err) == proto_err_exit(E_CORRUPT)) {
        work->context->damage_met++;
        query_damage_note(work->context->damage, work->admission.row.partition_uuid);
    }
    return err;
}

static enum err compute(struct site_work *work, struct err_info *reterr)
{
    struct share share = {0};
    float *weights = NULL;
    enum err err = fetch_all(work, &weights, reterr);
    if (!err) {
        err = open_learner(work, reterr);
    }
    err = err ? err : site_head_open(work, reterr);
    if (!err) {
        err = start(work, &share, reterr); /* on disk before a row is touched */
    }
    if (!err) {
        err = load(work, reterr);
    }
    if (!err) {
        work->update.answer = TRAIN_EVALUATED;
        err = evaluate(work, &share, weights, reterr);
    }
    if (!err && share.steps) {
        err = train(work, share.steps, weights, reterr);
        if (err && work->plan.trainer.len && err != E_CANCELLED && err != E_NO_MEMORY) {
            tell_operator(work, reterr ? reterr->text : "");
            err = site_machine_refuses(work, "TRAINER");
        }
    }
    forget_passing(work);
    proto_free(weights);
    return err == E_CANCELLED && work->withdrawn ? E_REFUSED : err;
}

/* --- answers ----------------------------------------------------------------------------------------------------------- */

static enum err seal_update(struct site_work *work, enum train_answer answer,
                            struct err_info *reterr)
{
    struct train_update *update = &work->update;
    bool refused = answer == TRAIN_REFUSED;
    enum err err = site_head(work, &update->head);
    update->version = TRAIN_VERSION;
    update->job_id = work->job_id;
    update->plan_hash = span_of(work->plan_hash, 32);
    update->round = work->round.round;
    update->answer = answer;
    update->error = span_str(proto_err_name(refused ? proto_reason_err(work->reason) : E_OK));
    update->reason = span_str(refused ? proto_reason_name(work->reason) : "");
    update->detail = span_str(work->detail);
    if (answer != TRAIN_UPDATED) {
        update->update = TRAIN_BLOB_NONE;
        update->base = span_str("");
    }
    if (answer == TRAIN_REFUSED || answer == TRAIN_WORKING) {
        update->evaluation = (struct train_evaluation){false, span_str(""), span_str("")};
    }
    work->bytes.len = 0;
    return err ? err
               : query_message_seal(&train_update_message, update, TRAIN_UPDATE_DOMAIN,
                                    work->context->identity, work->context->federation_id,
                                    &work->bytes, reterr);
}

/* Stored before it is sent; whoever asks again gets these bytes. */
static enum err keep_update(struct site_work *work, struct err_info *reterr)
{
    struct buf stored = {.max = PEER_MESSAGE_MAX};
    enum err err = store_job_once(work->context->store, work->job_id.ptr, work->round.round,
                                  work->plan_hash, buf_span(&work->bytes), &stored, reterr);
    if (err == E_EXISTS) {
        work->bytes.len = 0;
        err = buf_put(&work->bytes, buf_span(&stored));
    }
    buf_fini(&stored);
    return err;
}

/* The update of an earlier round goes when a later one is stored: nobody asks for it any more. */
static enum err remember_update(struct site_work *work, struct err_info *reterr)
{
    struct span before = work->part.update;
    struct span now = work->update.update.hash;
    if (now.len != 32 || span_equal(before, now)) {
        return E_OK;
    }
    work->part.update = now;
    enum err err = site_part_store(work, reterr);
    if (!err) {
        site_control_settled(work);
    }
    if (!err && before.len == 32) {
        train_share_drop(work->service, work->job_id.ptr, before.ptr);
        (void)!store_blob_remove(work->context->store, before.ptr, NULL);
    }
    return err;
}

static enum err store_settled(struct site_work *work, struct err_info *reterr)
{
    enum err err = site_part_store(work, reterr);
    if (!err) {
        site_control_settled(work);
    }
    return err;
}

/* May this round be computed, and with how many steps? The part is on disk before they are taken. E_EXISTS: it was answered. */
static enum err begin_round(struct site_work *work, struct err_info *reterr)
{
    uint8_t id[16];
    struct store_ledger_row row = {.steps = work->part.steps};
    struct proto_round_site site;
    struct proto_round_site_reply answer;
    site_charge_id(work, SITE_CHARGE_STEPS, id);
    enum err err = work->part.charged
                       ? store_ledger_charge(work->context->store, id, &work->arena, &row, reterr)
                       : E_OK;
    if (err) {
        return err;
    }
    train_part_machine(&work->part, row.steps > row.started ? row.steps - row.started : 0, &site);
    err = site_ask_machine(work, PROTO_ROUND_SITE_ROUND, &site, &answer);
    if (err) {
        return err;
    }
    if (answer.answer == PROTO_ROUND_SITE_RESEND) {
        return E_EXISTS;
    }
    if (answer.answer != PROTO_ROUND_SITE_COMPUTE) {
        return E_BUSY; /* one request of a job is served at a time, so that nobody else is at work */
    }
    work->granted = answer.steps;
    work->part.last_round = site.last_round;
    work->part.term = site.term;
    return store_settled(work, reterr);
}

static enum err serve_round(struct site_work *work, struct err_info *reterr)
{
    enum err err = load_part(work, reterr);
    if (!err) {
        err = site_understand(work, reterr);
    }
    if (!err) {
        err = site_decide(work, &work->admission);
    }
    if (!err) {
        err = site_check_approval(work, &work->admission);
    }
    if (!err) {
        err = site_check_others(work);
    }
    if (err) {
        return err;
    }
    work->checked_ms = query_now_ms();
    err = store_job_answered(work->context->store, work->job_id.ptr, work->round.round,
                             work->plan_hash, &work->bytes, reterr);
    if (err && err != E_NOT_FOUND) {
        return err;
    }
    work->stored = !err;
    if (!work->stored) {
        err = check_limits(work);
        if (err) {
            return err;
        }
    }
    bool settled = site_control_settle(work);
    /* What comes after the last round only evaluates: no round of the plan, and no steps. */
    err = work->round.round <= work->plan.rounds ? begin_round(work, reterr)
          : work->stored                         ? E_EXISTS
          : settled                              ? store_settled(work, reterr)
                                                 : E_OK;
    if (err) {
        return err == E_EXISTS ? E_OK : err;
    }
    work->bytes.len = 0;
    err = compute(work, reterr);
    if (!err) {
        err = remember_update(work, reterr);
    }
    if (!err) {
        err = seal_update(work, (enum train_answer)work->update.answer, reterr);
    }
    return err ? err : keep_update(work, reterr);
}

/* --- the work's thread ------------------------------------------------------------------------------------------------- */

static void worker_enter(struct train_service *service)
{
    pthread_mutex_lock(&service->lock);
    while (service->site_workers >= TRAIN_SITE_WORKERS && !service->stopping) {
        pthread_cond_wait(&service->changed, &service->lock);
    }
    service->site_workers++;
    pthread_mutex_unlock(&service->lock);
}

static void worker_leave(struct train_service *service)
{
    pthread_mutex_lock(&service->lock);
    service->site_workers--;
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
}

static enum err finish_round(struct site_work *work, enum err err, const struct err_info *info)
{
    struct err_info second = {0};
    if (err == E_REFUSED) {
        err = site_audit(work, "train.refused", proto_reason_name(work->reason), &second);
        return err ? E_IO : seal_update(work, TRAIN_REFUSED, NULL);
    }
    if (err) {
        site_log(work, "train.round.failed", info->text[0] ? info->text : proto_err_name(err));
        return err == E_CANCELLED || err == E_BUSY ? E_BUSY : E_INTERNAL;
    }
    return E_OK;
}

/* Whoever coordinates may fetch the vector that the stored answer names. Egress is on record before the name leaves. */
static enum err hand_out(struct site_work *work, struct err_info *reterr)
{
    struct arena arena = {0};
    struct train_update update;
    struct peer_blob blob;
    char id[33];
    uint64_t bytes = work->bytes.len;
    span_to_hex(work->job_id, id);
    enum err err =
        query_message_peek(&train_update_message, buf_span(&work->bytes), &arena, &update, reterr);
    if (!err && update.answer == TRAIN_UPDATED && train_blob_open(&update.update, &blob) == E_OK) {
        if (!store_blob_has(work->context->store, blob.hash)) {
            err = site_machine_refuses(work, "ROUND_PASSED");
        } else {
            bytes += blob.size;
            err = train_share_put(work->service, work->job_id.ptr, blob.hash, NULL,
                                  &work->plan.coordinators);
        }
    }
    arena_fini(&arena);
    if (!err && memcmp(work->requester.id, work->context->node_id, 16) != 0) {
        err = store_egress_add(work->context->store, work->requester.name, "update", id, bytes,
                               query_now(), reterr);
    }
    return err;
}

static void work_body(struct site_work *work)
{
    struct train_service *service = work->service;
    struct train_effort *effort = work->effort;
    struct err_info info = {0};
    worker_enter(service);
    enum err err = service->stopping ? E_BUSY : serve_round(work, &info);
    worker_leave(service);
    train_learner_close(work->learner);
    work->learner = NULL;
    if (!err) {
        err = hand_out(work, &info);
    }
    err = finish_round(work, err, &info);
    pthread_mutex_lock(&service->lock);
    /* Without noise its time tells nothing that the update does not. */
    effort->release_ms =
        work->plan.noise ? query_release_at(work->started_ms, work->context->release_tick_ms) : 0;
    effort->err = err;
    if (!err && buf_put(&effort->bytes, buf_span(&work->bytes))) {
        effort->err = E_NO_MEMORY;
    }
    effort->over = true;
    effort->refs--;
    release_effort(effort);
    pthread_mutex_unlock(&service->lock);
}

static void thread_over(struct train_service *service)
{
    pthread_mutex_lock(&service->lock);
    service->site_requests--;
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
}

static void *work_thread(void *user)
{
    struct site_work *work = user;
    struct train_service *service = work->service;
    work_body(work);
    site_work_free(work);
    thread_over(service);
    return NULL;
}

/* A copy of the request for the work that it starts: its spans point into bytes of its own. */
static struct site_work *copy_request(const struct site_work *from, struct train_effort *effort)
{
    struct site_work *work = site_work_new(from->service, NULL);
    struct span body = peer_request_body(from->incoming);
    uint8_t *copy = work ? arena_alloc(&work->arena, body.len, 1) : NULL;
    if (!copy) {
        if (work) {
            site_work_free(work);
        }
        return NULL;
    }
    memcpy(copy, body.ptr, body.len);
    work->requester = from->requester;
    work->effort = effort;
    if (query_message_peek(&train_round_message, span_of(copy, body.len), &work->arena,
                           &work->round, NULL)) {
        site_work_free(work);
        return NULL;
    }
    work->job_id = work->round.job_id;
    memcpy(work->plan_hash, work->round.plan_hash.ptr, 32);
    return work;
}

/* The lock is held. NULL: no room now. */
static struct train_effort *begin_effort(struct site_work *request)
{
    struct train_service *service = request->service;
    pthread_t thread;
    if (service->stopping || service->site_requests >= TRAIN_SITE_REQUESTS) {
        return NULL;
    }
    struct train_effort *effort = add_effort(service, request->job_id.ptr);
    struct site_work *work = effort ? copy_request(request, effort) : NULL;
    if (!work) {
        if (effort) {
            unlink_effort(service, effort);
            release_effort(effort);
        }
        return NULL;
    }
    effort->round = request->round.round;
    effort->term = request->round.term;
    memcpy(effort->requester, request->requester.id, 16);
    effort->refs++;
    service->site_requests++;
    if (pthread_create(&thread, NULL, work_thread, work)) {
        service->site_requests--;
        effort->refs--;
        unlink_effort(service, effort);
        release_effort(effort);
        site_work_free(work);
        return NULL;
    }
    pthread_detach(thread);
    return effort;
}

/* --- requests ---------------------------------------------------------------------------------------------------------- */

/* The effort that this request waits for, begun when there is none. The lock is held. NULL: not now. */
static struct train_effort *effort_for(struct site_work *work)
{
    struct train_service *service = work->service;
    struct train_effort *effort = find_effort(service, work->job_id.ptr);
    if (effort && effort->over &&
        (effort->round != work->round.round ||
         memcmp(effort->requester, work->requester.id, 16) != 0)) {
        unlink_effort(
            service, effort); /* a result that nobody asks for any more, or not for whom asks now */
        release_effort(effort);
        effort = NULL;
    }
    if (!effort) {
        return begin_effort(work);
    }
    bool newer = effort->term < work->round.term;
    if (effort->round < work->round.round || (newer && effort->total == 0)) {
        /* The coordinator went on without us, or is gone, and with it what is still wanted of it. */
        effort->cancel = true;
    }
    return effort->round == work->round.round ? effort : NULL;
}

static uint64_t coarse(uint64_t done, uint64_t total)
{
    uint64_t part = total / PROGRESS_PARTS ? total / PROGRESS_PARTS : 1;
    return done / part * part;
}

/* Fills work->bytes. E_BUSY: ask again. */
static enum err serve_request(struct site_work *work, uint64_t *ret_at_ms, struct err_info *reterr)
{
    struct train_service *service = work->service;
    uint64_t until = query_now_ms() + POLL_MS;
    enum err err = E_OK;
    pthread_mutex_lock(&service->lock);
    struct train_effort *effort = effort_for(work);
    if (!effort) {
        pthread_mutex_unlock(&service->lock);
        return E_BUSY;
    }
    effort->refs++;
    while (!effort->over && !service->stopping && query_now_ms() < until) {
        train_wait_locked(service, POLL_MS);
    }
    bool over = effort->over;
    *ret_at_ms = over ? effort->release_ms : 0;
    uint64_t total = effort->total;
    uint64_t done = coarse(effort->done, total);
    uint64_t fetched = effort->fetched;
    if (over) {
        bool ours = memcmp(effort->requester, work->requester.id, 16) == 0;
        /* Another coordinator asked for it first: the next question finds what was stored. */
        err = !ours         ? E_BUSY
              : effort->err ? effort->err
                            : buf_put(&work->bytes, buf_span(&effort->bytes));
        unlink_effort(service, effort);
    }
    effort->refs--;
    release_effort(effort);
    pthread_mutex_unlock(&service->lock);
    if (!over) {
        work->update.done = total ? done : fetched;
        work->update.total = total;
        err = seal_update(work, TRAIN_WORKING, reterr);
    }
    return err;
}

static void *request_thread(void *user)
{
    struct site_work *work = user;
    struct train_service *service = work->service;
    struct err_info info = {0};
    uint64_t at_ms = 0;
    enum err err = serve_request(work, &at_ms, &info);
    site_reply_at(work, at_ms, err);
    thread_over(service);
    return NULL;
}

static bool thread_enter(struct train_service *service)
{
    pthread_mutex_lock(&service->lock);
    bool room = !service->stopping && service->site_requests < TRAIN_SITE_REQUESTS;
    service->site_requests += room;
    pthread_mutex_unlock(&service->lock);
    return room;
}

/* A request may wait: it gets a thread of its own, so that peer's few handlers stay free. */
void train_site_round(struct peer_request *request, void *user)
{
    struct train_service *service = user;
    struct err_info info = {0};
    struct site_work *work = site_work_new(service, request);
    if (!work) {
        peer_reply(request, E_NO_MEMORY, SPAN_NONE);
        return;
    }
    enum err err = site_refusing(service->context) ? E_BUSY : open_round(work, &info);
    if (!err && !thread_enter(service)) {
        err = E_BUSY;
    }
    if (err) {
        site_reply(work, err);
        return;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, request_thread, work)) {
        thread_over(service);
        site_reply(work, E_NO_MEMORY);
        return;
    }
    pthread_detach(thread);
}
