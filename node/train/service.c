/* The jobs of this node: their list, their threads, and snapshots for people. */
#include "config.h"
#include "node/train/internal.h"

#include "node/query/site.h"
#include "store/blob.h"
#include "store/job.h"
#include "store/records.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#define STOP_WAIT_MS 40000

static const char *const state_names[] = {"running", "done", "failed", "stopped", "waiting"};

const char *train_state_name(enum train_state state)
{
    return (unsigned)state < sizeof state_names / sizeof *state_names ? state_names[state]
                                                                      : "unknown";
}

static void job_free(struct train_job *job)
{
    if (job) {
        train_job_state_fini(&job->state);
    }
    proto_free(job);
}

/* --- life -------------------------------------------------------------------------------------------------------------- */

static enum err prepare_loaded(struct train_job *job)
{
    struct arena arena = {0};
    struct train_plan plan;
    enum err err = proto_codec_decode(&train_plan_message, job->state.plan, &arena, &plan, NULL);
    err = err ? err : train_job_holders(job);
    if (!err) {
        train_job_blobs(job, &plan);
    }
    if (!err && job->state.state == TRAIN_RUNNING && job->lease.holders == 1) {
        job->state.state = TRAIN_WAITING;
        snprintf(job->state.error_text, sizeof job->state.error_text,
                 "the coordinator was interrupted");
    }
    arena_fini(&arena);
    return err;
}

/* A job that was running when the process ended waits for a person; one with several coordinators for the next of them. */
static enum err load_job(void *user, const uint8_t id[16], struct span bytes)
{
    struct train_service *service = user;
    struct err_info info = {0};
    struct train_job *job = proto_alloc(1, sizeof *job);
    if (!job) {
        return E_NO_MEMORY;
    }
    enum err err = train_job_state_decode(bytes, &job->state, &info);
    if (err) {
        job_free(job);
        if (bytes.len >= 3 && memcmp(bytes.ptr, "CTJ", 3) == 0) {
            char text[33];
            span_to_hex(span_of(id, 16), text);
            service->context->log(service->context->user, PEER_LOG_WARN, "train.unreadable", text);
        }
        return E_OK; /* something else of this table */
    }
    job->service = service;
    err = prepare_loaded(job);
    if (err) {
        job_free(job);
        return E_OK;
    }
    job->planned = true;
    job->next = service->jobs;
    service->jobs = job;
    return E_OK;
}

enum err train_service_new(struct query_context *context, struct train_service **ret,
                           struct err_info *reterr)
{
    struct train_service *service = proto_alloc(1, sizeof *service);
    if (!service || pthread_mutex_init(&service->lock, NULL)) {
        proto_free(service);
        return E_NO_MEMORY;
    }
    pthread_condattr_t monotonic;
    service->context = context;
    pthread_mutex_init(&service->offers, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&service->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    enum err err = store_job_each(context->store, load_job, service, reterr);
    err = err ? err : train_limits_load(service);
    if (!err) {
        train_sweep(context);
    }
    err = err ? err : train_lease_watch(service);
    if (err) {
        train_service_free(service);
        return err;
    }
    *ret = service;
    return E_OK;
}

void train_service_stop(struct train_service *service)
{
    if (!service) {
        return;
    }
    service->stopping = true;
    pthread_mutex_lock(&service->lock);
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
}

static size_t busy_locked(const struct train_service *service)
{
    size_t count = service->site_requests;
    for (const struct train_job *job = service->jobs; job; job = job->next) {
        count += job->running;
    }
    return count;
}

size_t train_service_busy(struct train_service *service)
{
    if (!service) {
        return 0;
    }
    pthread_mutex_lock(&service->lock);
    size_t count = busy_locked(service);
    pthread_mutex_unlock(&service->lock);
    return count;
}

void train_wait_locked(struct train_service *service, uint64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&service->changed, &service->lock, &until);
}

void train_wait(struct train_service *service, uint64_t ms)
{
    pthread_mutex_lock(&service->lock);
    train_wait_locked(service, ms);
    pthread_mutex_unlock(&service->lock);
}

void train_service_free(struct train_service *service)
{
    if (!service) {
        return;
    }
    train_service_stop(service);
    pthread_mutex_lock(&service->lock);
    while (busy_locked(service)) {
        train_wait_locked(service, 100);
    }
    pthread_mutex_unlock(&service->lock);
    train_lease_watch_end(service);
    train_share_fini(service);
    for (struct train_effort *effort = service->efforts, *next; effort; effort = next) {
        next = effort->next;
        buf_fini(&effort->bytes);
        proto_free(effort);
    }
    for (struct train_job *job = service->jobs, *next; job; job = next) {
        next = job->next;
        if (job->joinable) {
            pthread_join(job->thread, NULL);
        }
        job_free(job);
    }
    pthread_cond_destroy(&service->changed);
    pthread_mutex_destroy(&service->offers);
    pthread_mutex_destroy(&service->lock);
    proto_free(service);
}

/* --- starting ---------------------------------------------------------------------------------------------------------- */

/* The lock is held; the job's thread is not running. */
enum err train_job_launch(struct train_job *job, struct err_info *reterr)
{
    size_t running = 0;
    for (const struct train_job *other = job->service->jobs; other; other = other->next) {
        running += other->running;
    }
    if (running >= TRAIN_JOBS_MAX) {
        return proto_err_set(reterr, E_LIMIT, "%d jobs are running here already", TRAIN_JOBS_MAX);
    }
    if (job->service->stopping) {
        return proto_err_set(reterr, E_BUSY, "the daemon is stopping");
    }
    if (job->joinable) {
        pthread_join(job->thread, NULL); /* it has said that it is done */
        job->joinable = false;
    }
    job->state.state = TRAIN_RUNNING;
    job->state.error = E_OK;
    job->state.error_text[0] = '\0';
    job->planned = false;
    job->running = true;
    job->deposed = false;
    if (pthread_create(&job->thread, NULL, train_coordinator_run, job)) {
        job->running = false;
        job->planned = true;
        job->state.state = TRAIN_WAITING;
        return proto_err_set(reterr, E_NO_MEMORY, "no thread for the job");
    }
    job->joinable = true;
    return E_OK;
}

/* Until the sites have answered the plan, or the job has ended. */
static enum err wait_planned(struct train_job *job, struct err_info *reterr)
{
    while (!job->planned) {
        train_wait_locked(job->service, 1000);
    }
    bool held = job->state.state == TRAIN_WAITING && job->state.error == E_APPROVAL;
    if (held || (job->state.state != TRAIN_FAILED && job->state.state != TRAIN_WAITING)) {
        return E_OK;
    }
    enum err err = job->state.error ? job->state.error : E_UNREACHABLE;
    return proto_err_set(reterr, err, "%.470s", job->state.error_text);
}

/* A job that does not come about leaves no weights: their tag is of this job alone, so that nothing else names them. */
static void drop_start(struct train_service *service, const struct train_job_state *state)
{
    if (!train_hash_none(state->server.weights)) {
        (void)!store_blob_remove(service->context->store, state->server.weights, NULL);
    }
}

enum err train_start(struct train_service *service, const struct proto_job *job, struct span yaml,
                     const char *person, uint8_t ret_id[16], struct err_info *reterr)
{
    struct train_job *fresh = proto_alloc(1, sizeof *fresh);
    if (!fresh) {
        return E_NO_MEMORY;
    }
    fresh->service = service;
    enum err err = train_coordinator_prepare(service, job, person, &fresh->state, reterr);
    uint8_t *copy = err ? NULL : arena_alloc(&fresh->state.arena, yaml.len + 1, 1);
    if (!err && (!copy || yaml.len > TRAIN_YAML_MAX)) {
        err = copy ? E_LIMIT : E_NO_MEMORY;
    }
    if (err) {
        drop_start(service, &fresh->state);
        job_free(fresh);
        return err;
    }
    if (yaml.len) {
        memcpy(copy, yaml.ptr, yaml.len);
    }
    fresh->state.yaml = span_of(copy, yaml.len);
    err = prepare_loaded(fresh);
    if (err) {
        drop_start(service, &fresh->state);
        job_free(fresh);
        return err;
    }
    fresh->lease.promised = 1;
    proto_lease_lead(&fresh->lease, 1);
    pthread_mutex_lock(&service->lock);
    fresh->next = service->jobs;
    service->jobs = fresh;
    err = train_job_launch(fresh, reterr);
    if (err) {
        service->jobs = fresh->next;
        pthread_mutex_unlock(&service->lock);
        drop_start(service, &fresh->state);
        job_free(fresh);
        return err;
    }
    memcpy(ret_id, fresh->state.id, 16);
    err = wait_planned(fresh, reterr);
    pthread_mutex_unlock(&service->lock);
    return err;
}

static struct train_job *find_job(struct train_service *service, const uint8_t id[16])
{
    struct train_job *job = service->jobs;
    while (job && memcmp(job->state.id, id, 16) != 0) {
        job = job->next;
    }
    return job;
}

/* The lock is held. What came with the lease may say that it has ended. One that somebody stopped may go on; one that had to stop,
 * since a site withdrew, has an error. */
static bool may_launch(const struct train_job *job)
{
    return job->state.state == TRAIN_WAITING ||
           (job->state.state == TRAIN_STOPPED && job->state.error == E_OK) ||
           (job->state.state == TRAIN_RUNNING && job->lease.holders > 1);
}

static enum err not_coordinated(struct err_info *reterr)
{
    return proto_err_set(
        reterr, E_NOT_FOUND,
        "this node coordinates no such job; `concordat train list` lists what it knows");
}

/* A call to oneself cannot be taken back: our own site is told directly. */
static void cancel_own_part(struct train_service *service, const uint8_t id[16])
{
    for (struct train_effort *effort = service->efforts; effort; effort = effort->next) {
        if (memcmp(effort->job_id, id, 16) == 0) {
            effort->cancel = true;
        }
    }
}

enum err train_stop(struct train_service *service, const uint8_t id[16], struct err_info *reterr)
{
    enum err err = E_OK;
    pthread_mutex_lock(&service->lock);
    struct train_job *job = find_job(service, id);
    if (!job) {
        err = not_coordinated(reterr);
    } else if (job->running) {
        job->stop = true;
        cancel_own_part(service, id);
    } else if (job->state.state == TRAIN_WAITING || job->state.state == TRAIN_RUNNING) {
        err = train_lease_take(job, true, reterr);
        if (!err && may_launch(job)) {
            job->stop = true;
            err = train_job_launch(job, reterr); /* its thread tells the sites */
        }
    } else {
        err = proto_err_set(reterr, E_INVALID, "the job has ended: %s",
                            train_state_name((enum train_state)job->state.state));
    }
    uint64_t until = query_now_ms() + STOP_WAIT_MS;
    while (!err && job->running && query_now_ms() < until) {
        train_wait_locked(service, 500);
    }
    pthread_mutex_unlock(&service->lock);
    return err;
}

/* Whether JOB trains on ISSUER's dataset of this key; zeros stand for whatever ISSUER holds. */
static bool trains_on(const struct train_job *job, const uint8_t issuer[16], const uint8_t key[16],
                      const char **ret_node)
{
    static const uint8_t everything[16];
    uint8_t own[16];
    proto_record_key(&crypto_proto_hash, job->state.dataset, own);
    if (memcmp(key, everything, 16) != 0 && memcmp(key, own, 16) != 0) {
        return false;
    }
    for (size_t i = 0; i < job->state.site_count; i++) {
        const struct train_site *site = &job->state.sites[i];
        if (site->admitted && memcmp(site->id, issuer, 16) == 0) {
            *ret_node = site->node;
            return true;
        }
    }
    return false;
}

void train_withdrawn(struct train_service *service, const uint8_t issuer[16], const uint8_t key[16])
{
    pthread_mutex_lock(&service->lock);
    for (struct train_job *job = service->jobs; job; job = job->next) {
        const char *node = "";
        bool open = job->running || job->state.state == TRAIN_WAITING;
        if (open && !job->stop && trains_on(job, issuer, key, &node)) {
            snprintf(job->withdrawn, sizeof job->withdrawn,
                     "%s no longer permits it: licence withdrawn or forked, or membership ended "
                     "(REVOKED)",
                     node);
            job->stop = true;
            cancel_own_part(service, job->state.id);
            if (!job->running && job->lease.holders == 1) {
                job->lease.leading = true;
                (void)!train_job_launch(
                    job,
                    NULL); /* its thread tells the sites; else the next start does not resume it */
            }
        }
    }
    /* Rounds that are under way here look at once whether all their sites still permit them. */
    for (struct train_effort *effort = service->efforts; effort; effort = effort->next) {
        effort->look = true;
    }
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
}

enum err train_resume(struct train_service *service, const uint8_t id[16], struct err_info *reterr)
{
    enum err err;
    pthread_mutex_lock(&service->lock);
    struct train_job *job = find_job(service, id);
    if (!job) {
        err = not_coordinated(reterr);
    } else if (job->running || !may_launch(job)) {
        err = proto_err_set(reterr, E_INVALID,
                            "only a waiting or stopped job can be resumed; this one is %s%s%.300s",
                            train_state_name((enum train_state)job->state.state),
                            job->state.error_text[0] ? ": " : "", job->state.error_text);
    } else {
        err = train_lease_take(job, job->state.state != TRAIN_RUNNING, reterr);
        job->stop = job->stop && err; /* of the stop that is over */
        err = err || !may_launch(job) ? err : train_job_launch(job, reterr);
        err = err ? err : wait_planned(job, reterr);
    }
    pthread_mutex_unlock(&service->lock);
    return err;
}

/* --- views ------------------------------------------------------------------------------------------------------------- */

/* Of a site that was with the job to its end: how that was. Others keep why they were not. */
static const char *site_state(const struct train_job_state *job, const struct train_site *site)
{
    bool with = strcmp(site->state, "admitted") == 0;
    return with && job->state == TRAIN_DONE      ? "done"
           : with && job->state == TRAIN_STOPPED ? "stopped"
           : with && job->state == TRAIN_FAILED  ? "left"
                                                 : site->state;
}

static void view_site(const struct train_job_state *job, const struct train_site *site,
                      struct train_site_view *to)
{
    *to = (struct train_site_view){
        .sigma = site->cost.sigma,
        .rate = site->cost.rate,
        .size = site->size,
        .steps = site->cost.steps,
        .cost_nano = site->cost_nano,
        .cap_nano = site->cap_nano,
        .spent_nano = site->spent_nano,
        .account_delta_e12 = site->account_delta_e12,
        .epsilon = site->epsilon,
        .done = site->done,
        .total = site->total,
        .clauses = site->clauses,
        .clause_count = site->clause_count,
    };
    memcpy(to->node, site->node, sizeof to->node);
    to->admitted = strcmp(site->state, "admitted") == 0;
    snprintf(to->state, sizeof to->state, "%s", site_state(job, site));
    memcpy(to->reason, site->reason, sizeof to->reason);
    memcpy(to->detail, site->detail, sizeof to->detail);
}

static enum err view_round(const struct train_job_state *state, const struct train_round_row *row,
                           struct arena *arena, struct train_round_view *to)
{
    *to = (struct train_round_view){
        .round = row->round,
        .evaluated = row->evaluated,
        .eval_loss = row->loss,
        .eval_loss_margin = row->loss_margin,
        .accuracy = row->accuracy,
        .accuracy_margin = row->accuracy_margin,
        .auc = row->auc,
        .types = row->types,
        .type_sigma = row->type_sigma,
        .term = row->term,
        .epsilon = row->epsilon,
        .bytes_up = row->bytes_up,
        .bytes_down = row->bytes_down,
        .seconds = row->seconds,
    };
    memcpy(to->type_counts, row->type_counts, sizeof to->type_counts);
    memcpy(to->mean, row->mean, 32);
    memcpy(to->weights, row->weights, 32);
    to->participants = arena_alloc(arena, state->site_count, sizeof *to->participants);
    to->absent = arena_alloc(arena, row->absent_count, sizeof *to->absent);
    if (!to->participants || !to->absent) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < state->site_count; i++) {
        if (row->participants >> i & 1) {
            memcpy(to->participants[to->participant_count++], state->sites[i].node,
                   sizeof state->sites[i].node);
        }
    }
    for (size_t i = 0; i < row->absent_count; i++) {
        struct train_absent *absent = &to->absent[to->absent_count++];
        memcpy(absent->node, state->sites[row->absent[i].site % TRAIN_SITES_MAX].node,
               sizeof absent->node);
        snprintf(absent->reason, sizeof absent->reason, "%s", row->absent[i].reason);
    }
    return E_OK;
}

/* Of entities or classes, as the plan has them, and the scale of a target. */
static void name_types(const struct train_job_state *state, struct train_view *to)
{
    struct arena arena = {0};
    struct train_plan plan;
    struct span types[TRAIN_TYPES_MAX];
    if (proto_codec_decode(&train_plan_message, state->plan, &arena, &plan, NULL) == E_OK) {
        to->scale = (plan.high - plan.low) / 2;
        to->type_count = train_plan_types(&plan, types);
        for (uint32_t i = 0; i < to->type_count; i++) {
            const char *name = arena_strdup(&to->arena, types[i]);
            to->types[i] = name ? name : "";
        }
    }
    arena_fini(&arena);
}

static enum err view_job(const struct train_job_state *state, struct train_view *to)
{
    memset(to, 0, sizeof *to);
    memcpy(to->id, state->id, 16);
    memcpy(to->name, state->name, sizeof to->name);
    memcpy(to->dataset, state->dataset, sizeof to->dataset);
    memcpy(to->task, state->task, sizeof to->task);
    memcpy(to->coordinator, state->coordinator, sizeof to->coordinator);
    memcpy(to->person, state->person, sizeof to->person);
    memcpy(to->error, state->error_text, sizeof to->error);
    memcpy(to->model, state->model, sizeof to->model);
    to->state = (enum train_state)state->state;
    to->error_code = state->error;
    to->round = state->saved;
    to->rounds = state->rounds;
    to->started = state->started;
    to->epsilon = state->epsilon;
    to->delta = state->delta;
    to->noise = state->noise;
    name_types(state, to);
    to->sites = arena_alloc(&to->arena, state->site_count, sizeof *to->sites);
    to->history = arena_alloc(&to->arena, state->history_count, sizeof *to->history);
    enum err err = to->sites && to->history ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < state->site_count; i++) {
        view_site(state, &state->sites[i], &to->sites[to->site_count++]);
    }
    for (size_t i = 0; !err && i < state->history_count && state->history[i].round <= state->saved;
         i++) {
        err = view_round(state, &state->history[i], &to->arena, &to->history[to->history_count++]);
    }
    if (err) {
        train_view_fini(to);
    }
    return err;
}

/* What the coordinator said of the end. */
static enum train_state ended_as(uint64_t end)
{
    static const enum train_state states[TRAIN_ENDS] = {
        [TRAIN_END_NONE] = TRAIN_RUNNING,      [TRAIN_END_DONE] = TRAIN_DONE,
        [TRAIN_END_STOPPED] = TRAIN_STOPPED,   [TRAIN_END_FAILED] = TRAIN_FAILED,
        [TRAIN_END_WITHDRAWN] = TRAIN_STOPPED,
    };
    return end < TRAIN_ENDS ? states[end] : TRAIN_STOPPED;
}

/* A job of which this node is a site: what it knows of it. */
static enum err view_part(struct train_service *service, const struct train_part *part,
                          struct train_view *to)
{
    struct arena arena = {0};
    struct train_plan plan;
    struct peer_member member;
    memset(to, 0, sizeof *to);
    enum err err = proto_codec_decode(&train_plan_message, part->plan, &arena, &plan, NULL);
    if (!err) {
        memcpy(to->id, part->job_id.ptr, 16);
        (void)span_to_cstr(plan.job, to->name, sizeof to->name);
        (void)span_to_cstr(plan.dataset, to->dataset, sizeof to->dataset);
        (void)span_to_cstr(plan.purpose.person, to->person, sizeof to->person);
        snprintf(to->task, sizeof to->task, "%s", proto_task_name((enum proto_task)plan.task));
        to->noise = plan.noise;
        if (peer_member_by_id(service->context->peer, part->coordinator.ptr, &member)) {
            memcpy(to->coordinator, member.name, sizeof to->coordinator);
        }
        to->state = ended_as(part->end);
        to->rounds = plan.rounds;
        to->round = part->last_round < plan.rounds ? part->last_round : plan.rounds;
        to->started = part->time;
        to->epsilon = plan.epsilon;
        to->delta = (double)plan.delta_e12 / 1e12;
    }
    arena_fini(&arena);
    return err;
}

void train_view_fini(struct train_view *view)
{
    arena_fini(&view->arena);
    memset(view, 0, sizeof *view);
}

enum err train_show(struct train_service *service, const uint8_t id[16], struct train_view *ret,
                    struct err_info *reterr)
{
    struct arena arena = {0};
    struct train_part part;
    pthread_mutex_lock(&service->lock);
    const struct train_job *job = find_job(service, id);
    enum err err = job ? view_job(&job->state, ret) : E_NOT_FOUND;
    pthread_mutex_unlock(&service->lock);
    if (!job) {
        err = train_part_load(service, id, &arena, &part, reterr);
        err = err ? err : view_part(service, &part, ret);
    }
    arena_fini(&arena);
    return err;
}

/* Ids of all jobs, each once. */
struct ids {
    struct train_service *service;
    uint8_t (*id)[16];
    int64_t *started;
    size_t count, cap;
};

static enum err add_id(struct ids *ids, const uint8_t id[16], int64_t started)
{
    if (ids->count == ids->cap) {
        size_t cap = ids->cap ? ids->cap * 2 : 32;
        void *grown = proto_realloc(ids->id, cap, 16);
        ids->id = grown ? grown : ids->id;
        void *times = grown ? proto_realloc(ids->started, cap, sizeof *ids->started) : NULL;
        ids->started = times ? times : ids->started;
        if (!grown || !times) {
            return E_NO_MEMORY;
        }
        ids->cap = cap;
    }
    memcpy(ids->id[ids->count], id, 16);
    ids->started[ids->count++] = started;
    return E_OK;
}

static enum err add_part(void *user, const uint8_t key[16], struct span bytes)
{
    struct ids *ids = user;
    struct arena arena = {0};
    struct train_part part;
    enum err err = E_OK;
    (void)key;
    if (train_part_decode(bytes, &arena, &part) == E_OK) {
        pthread_mutex_lock(&ids->service->lock);
        bool ours = find_job(ids->service, part.job_id.ptr) != NULL;
        pthread_mutex_unlock(&ids->service->lock);
        err = ours ? E_OK : add_id(ids, part.job_id.ptr, part.time);
    }
    arena_fini(&arena);
    return err;
}

static void newest_first(struct ids *ids, size_t from)
{
    for (size_t i = from + 1; i < ids->count; i++) {
        for (size_t j = i; j > from && ids->started[j] > ids->started[j - 1]; j--) {
            uint8_t id[16];
            int64_t started = ids->started[j];
            memcpy(id, ids->id[j], 16);
            memcpy(ids->id[j], ids->id[j - 1], 16);
            memcpy(ids->id[j - 1], id, 16);
            ids->started[j] = ids->started[j - 1];
            ids->started[j - 1] = started;
        }
    }
}

static enum err all_ids(struct train_service *service, struct ids *ids, struct err_info *reterr)
{
    *ids = (struct ids){.service = service};
    enum err err = E_OK;
    pthread_mutex_lock(&service->lock);
    for (const struct train_job *job = service->jobs; !err && job; job = job->next) {
        err = add_id(ids, job->state.id, job->state.started);
    }
    pthread_mutex_unlock(&service->lock);
    newest_first(ids, 0);
    size_t own = ids->count;
    if (!err) {
        err = store_job_each(service->context->store, add_part, ids, reterr);
    }
    newest_first(ids, own);
    return err;
}

static void ids_fini(struct ids *ids)
{
    proto_free(ids->id);
    proto_free(ids->started);
}

enum err train_each(struct train_service *service, train_fn *each, void *user,
                    struct err_info *reterr)
{
    struct ids ids;
    enum err err = all_ids(service, &ids, reterr);
    for (size_t i = 0; !err && i < ids.count; i++) {
        struct train_view view;
        err = train_show(service, ids.id[i], &view, reterr);
        if (!err) {
            err = each(user, &view);
            train_view_fini(&view);
        }
    }
    ids_fini(&ids);
    return err;
}

enum err train_find(struct train_service *service, const char *id, uint8_t ret_id[16],
                    struct err_info *reterr)
{
    struct ids ids;
    size_t len = strlen(id);
    size_t found = 0;
    enum err err = all_ids(service, &ids, reterr);
    for (size_t i = 0; !err && len >= 6 && i < ids.count; i++) {
        char text[33];
        span_to_hex(span_of(ids.id[i], 16), text);
        if (len <= 32 && memcmp(text, id, len) == 0) {
            memcpy(ret_id, ids.id[i], 16);
            found++;
        }
    }
    ids_fini(&ids);
    if (!err && found != 1) {
        err = proto_err_set(reterr, E_NOT_FOUND,
                            found ? "several jobs begin with %s"
                                  : "no job %s; `concordat train list` lists them",
                            id);
    }
    return err;
}

/* The texts move with the view. */
static void keep_clauses(struct train_view *view, size_t index, const struct train_site *site)
{
    struct query_clause *to = arena_alloc(&view->arena, site->clause_count, sizeof *to);
    for (size_t i = 0; to && i < site->clause_count; i++) {
        to[i] = site->clauses[i];
        to[i].clause = span_str(arena_strdup(&view->arena, site->clauses[i].clause));
        to[i].expected = span_str(arena_strdup(&view->arena, site->clauses[i].expected));
        to[i].reason = span_str(arena_strdup(&view->arena, site->clauses[i].reason));
    }
    view->sites[index].clauses = to;
    view->sites[index].clause_count = to ? site->clause_count : 0;
}

enum err train_explain(struct train_service *service, const struct proto_job *job,
                       const char *person, struct train_view *ret, struct err_info *reterr)
{
    struct train_job_state *state = proto_alloc(1, sizeof *state);
    if (!state) {
        return E_NO_MEMORY;
    }
    enum err err = train_coordinator_prepare(service, job, person, state, reterr);
    if (!err) {
        err = train_coordinator_explain(service, state, reterr);
    }
    if (!err) {
        err = view_job(state, ret);
    }
    for (size_t i = 0; !err && i < state->site_count; i++) {
        keep_clauses(ret, i, &state->sites[i]);
    }
    drop_start(service, state);
    train_job_state_fini(state);
    proto_free(state);
    return err;
}
