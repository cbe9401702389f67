/* Nodes that stand by for a job: they keep its state and its vectors, and one of them goes on when the leader is gone. The
 * decisions are proto/lease.h's; the leader's side of the messages is keeping.c. */
#include "config.h"
#include "node/train/internal.h"

#include "node/query/clock.h"
#include "node/query/site.h"
#include "node/train/vector.h"
#include "store/blob.h"
#include "store/egress.h"
#include "store/job.h"

#include <stdio.h>

#define FETCH_STALL_MS  20000
#define PREPARE_MS      5000
#define STAND_DOWN_MS   30000
#define FOLLOWED_MAX    32 /* running jobs of others that this node stands by for */
#define WATCH_MS        500
#define MEANS_BYTES_MAX (UINT64_C(512) << 20)

bool train_keeps_means(const struct train_job_state *state)
{
    return 4 * state->numbers * state->rounds <= MEANS_BYTES_MAX;
}

/* --- holders ----------------------------------------------------------------------------------------------------------- */

enum err train_job_holders(struct train_job *job)
{
    struct arena arena = {0};
    struct train_plan plan;
    const uint8_t *self = job->service->context->node_id;
    enum err err = proto_codec_decode(&train_plan_message, job->state.plan, &arena, &plan, NULL);
    if (!err) {
        const struct query_node_ref *nodes = plan.coordinators.items;
        bool found = false;
        job->lease = (struct proto_lease){.holders = plan.coordinators.count,
                                          .heard_ms = query_now_ms(),
                                          .promised = job->state.promised};
        for (size_t i = 0; i < plan.coordinators.count; i++) {
            memcpy(job->holders[i], nodes[i].node.ptr, 16);
            if (memcmp(nodes[i].node.ptr, self, 16) == 0) {
                job->lease.self = i;
                found = true;
            }
        }
        if (job->state.has_machine) {
            job->lease.term = job->state.machine.term;
            job->lease.save = job->state.save;
        }
        if (job->lease.promised < job->lease.term) {
            job->lease.promised = job->lease.term;
        }
        err = found ? E_OK : E_INVALID;
    }
    arena_fini(&arena);
    return err;
}

static bool is_holder(const struct train_job *job, const uint8_t node[16])
{
    for (size_t i = 0; i < job->lease.holders; i++) {
        if (memcmp(job->holders[i], node, 16) == 0) {
            return true;
        }
    }
    return false;
}

/* The lock is held. */
static bool names(const struct train_job *job, const uint8_t hash[32])
{
    const struct train_job_state *state = &job->state;
    bool named = memcmp(state->server.weights, hash, 32) == 0 ||
                 memcmp(state->server.first, hash, 32) == 0 ||
                 memcmp(state->server.second, hash, 32) == 0 || memcmp(job->start, hash, 32) == 0 ||
                 memcmp(job->model, hash, 32) == 0 || memcmp(job->model_base, hash, 32) == 0;
    for (size_t i = 0; !named && i < state->history_count; i++) {
        named = memcmp(state->history[i].mean, hash, 32) == 0;
    }
    return named;
}

bool train_job_names(struct train_service *service, const uint8_t hash[32])
{
    bool found = false;
    pthread_mutex_lock(&service->lock);
    for (const struct train_job *job = service->jobs; job && !found; job = job->next) {
        found = names(job, hash);
    }
    pthread_mutex_unlock(&service->lock);
    return found;
}

bool train_job_lends(struct train_service *service, const uint8_t hash[32], const uint8_t node[16])
{
    bool found = false;
    pthread_mutex_lock(&service->lock);
    for (const struct train_job *job = service->jobs; job && !found; job = job->next) {
        found = job->lease.holders > 1 && is_holder(job, node) && names(job, hash);
    }
    pthread_mutex_unlock(&service->lock);
    return found;
}

/* --- taking a state in ------------------------------------------------------------------------------------------------- */

static bool stopping(void *user)
{
    const struct train_service *service = user;
    return service->stopping;
}

static enum err fetch_blob(struct train_service *service, const uint8_t from[16],
                           const uint8_t hash[32], uint64_t size, struct err_info *reterr)
{
    struct peer_blob blob = {.size = size};
    struct peer_fetch how = {
        .from = from,
        .stall_ms = FETCH_STALL_MS,
        .cancelled = stopping,
        .user = service,
    };
    if (train_hash_none(hash)) {
        return E_OK;
    }
    memcpy(blob.hash, hash, 32);
    return peer_blob_fetch(service->context->peer, service->context->store, &blob, &how, reterr);
}

static void copy_hash(struct span from, uint8_t to[32])
{
    memset(to, 0, 32);
    if (from.len == 32) {
        memcpy(to, from.ptr, 32);
    }
}

/* What a job needs to go on: its vectors, its model, and the means for `train verify`. */
static enum err fetch_all(struct train_service *service, const uint8_t from[16],
                          const struct train_job *job, const struct train_plan *plan,
                          struct err_info *reterr)
{
    const struct train_job_state *state = &job->state;
    uint64_t size = train_vector_size(state->numbers);
    bool means = train_keeps_means(state);
    enum err err = fetch_blob(service, from, job->model, plan->model_size, reterr);
    err = err ? err : fetch_blob(service, from, job->model_base, plan->model_base_size, reterr);
    err = err ? err : fetch_blob(service, from, job->start, size, reterr);
    err = err ? err : fetch_blob(service, from, state->server.weights, size, reterr);
    err = err ? err : fetch_blob(service, from, state->server.first, size, reterr);
    err = err ? err : fetch_blob(service, from, state->server.second, size, reterr);
    for (size_t i = 0; !err && means && i < state->history_count; i++) {
        err = fetch_blob(service, from, state->history[i].mean, size, reterr);
    }
    return err;
}

static enum err check_plan(struct train_job *job, const uint8_t from[16], struct train_plan *plan,
                           struct arena *arena)
{
    const uint8_t *self = job->service->context->node_id;
    bool site = false;
    enum err err = proto_codec_decode(&train_plan_message, job->state.plan, arena, plan, NULL);
    err = err ? err : train_plan_check(plan, NULL);
    err = err ? err : train_job_holders(job);
    if (err) {
        return err;
    }
    for (size_t i = 0; i < plan->sites.count; i++) {
        const struct train_plan_site *sites = plan->sites.items;
        site = site || memcmp(sites[i].node.ptr, self, 16) == 0;
    }
    train_job_blobs(job, plan);
    bool fits = (site || job->lease.self == 0) && is_holder(job, from) &&
                span_equal(plan->job_id, span_of(job->state.id, 16)) &&
                plan->numbers == job->state.numbers && plan->rounds == job->state.rounds &&
                job->state.has_machine && job->lease.holders > 1;
    return fits ? E_OK : E_INVALID;
}

void train_job_blobs(struct train_job *job, const struct train_plan *plan)
{
    copy_hash(plan->start, job->start);
    copy_hash(plan->model, job->model);
    copy_hash(plan->model_base, job->model_base);
}

static enum err store_state(struct train_job *job, struct err_info *reterr)
{
    struct train_service *service = job->service;
    struct buf out = {.max = STORE_JOB_MAX};
    pthread_mutex_lock(&service->lock);
    job->state.promised = job->lease.promised;
    enum err err = train_job_state_encode(&job->state, &out, reterr);
    pthread_mutex_unlock(&service->lock);
    err = err ? err : store_job_put(service->context->store, job->state.id, buf_span(&out), reterr);
    buf_fini(&out);
    return err;
}

/* Of the state before, what the new one does not name. */
static void drop_old(struct train_service *service, const struct train_job_state *old)
{
    const uint8_t *hashes[] = {old->server.weights, old->server.first, old->server.second};
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++) {
        if (!train_hash_none(hashes[i]) && !train_job_names(service, hashes[i])) {
            (void)!store_blob_remove(service->context->store, hashes[i], NULL);
        }
    }
}

static struct train_job *find_job(struct train_service *service, const uint8_t id[16])
{
    struct train_job *job = service->jobs;
    while (job && memcmp(job->state.id, id, 16) != 0) {
        job = job->next;
    }
    return job;
}

static void note_lost(struct train_service *service, const struct train_job *job, enum err err,
                      const struct err_info *info)
{
    char text[160];
    char id[33];
    span_to_hex(span_of(job->state.id, 16), id);
    snprintf(text, sizeof text, "%s round %llu: %.90s", id, (unsigned long long)job->state.round,
             info->text[0] ? info->text : proto_err_name(err));
    service->context->log(service->context->user, PEER_LOG_INFO, "train.standby", text);
}

static struct train_job *new_job(struct train_service *service, struct span state,
                                 const uint8_t from[16], struct err_info *reterr)
{
    struct train_job *job = proto_alloc(1, sizeof *job);
    struct train_plan plan;
    struct arena arena = {0};
    if (!job) {
        return NULL;
    }
    job->service = service;
    job->planned = true;
    enum err err = train_job_state_decode(state, &job->state, reterr);
    err = err ? err : check_plan(job, from, &plan, &arena);
    err = err ? err : fetch_all(service, from, job, &plan, reterr);
    arena_fini(&arena);
    if (err) {
        note_lost(service, job, err, reterr);
        train_job_state_fini(&job->state);
        proto_free(job);
        return NULL;
    }
    return job;
}

/* JOB, not running and held by us, takes the place that FRESH describes. FRESH is used up. */
static enum err replace(struct train_job *job, struct train_job *fresh, struct err_info *reterr)
{
    struct train_service *service = job->service;
    pthread_mutex_lock(&service->lock);
    struct train_job_state old = job->state;
    job->state = fresh->state;
    job->state.saved = job->state.round;
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
    proto_free(fresh);
    enum err err = store_state(job, reterr);
    if (!err) {
        drop_old(service, &old);
    }
    train_job_state_fini(&old);
    return err;
}

/* --- answers ----------------------------------------------------------------------------------------------------------- */

struct request {
    struct train_service *service;
    struct peer_request *incoming;
    struct peer_member member;
    struct arena arena;
    struct train_lease lease;
    struct train_lease_reply reply;
    struct buf state;
};

/* The lock is held: one at a time works on a job's state here. */
static enum err enter(struct train_job *job)
{
    uint64_t until = query_now_ms() + PREPARE_MS;
    while (job->taking && query_now_ms() < until && !job->service->stopping) {
        train_wait_locked(job->service, 200);
    }
    if (job->taking || job->service->stopping) {
        return E_BUSY;
    }
    job->taking = true;
    return E_OK;
}

static void leave(struct train_job *job)
{
    job->taking = false;
    pthread_cond_broadcast(&job->service->changed);
}

/* The lock is held: our own thread of the job leaves off, since another node leads. */
static enum err stand_down(struct train_job *job)
{
    uint64_t until = query_now_ms() + STAND_DOWN_MS;
    job->deposed = job->running;
    pthread_cond_broadcast(&job->service->changed);
    while (job->running && query_now_ms() < until) {
        train_wait_locked(job->service, 200);
    }
    return job->running ? E_BUSY : E_OK;
}

static bool would_yield(const struct train_job *job, const struct train_lease *lease)
{
    return lease->term > job->lease.promised &&
           (lease->kind == TRAIN_LEASE_KEEP ||
            (lease->kind == TRAIN_LEASE_PREPARE && lease->force));
}

static enum err keep(struct request *r, struct train_job *job)
{
    bool newer;
    struct err_info info = {0};
    struct train_job *fresh = new_job(r->service, r->lease.state, r->member.id, &info);
    if (!fresh) {
        return E_BUSY; /* what it names could not be had now */
    }
    pthread_mutex_lock(&r->service->lock);
    bool fits = fresh->state.machine.term == r->lease.term && fresh->state.save == r->lease.save &&
                memcmp(fresh->state.id, job->state.id, 16) == 0 &&
                memcmp(fresh->state.plan_hash, job->state.plan_hash, 32) == 0;
    if (fits) {
        r->reply.answer =
            proto_lease_keep(&job->lease, r->lease.term, r->lease.save, query_now_ms(), &newer);
    }
    pthread_mutex_unlock(&r->service->lock);
    bool wanted = fits && r->reply.answer == PROTO_LEASE_YES;
    if (!wanted) {
        train_job_state_fini(&fresh->state);
        proto_free(fresh);
        return fits ? E_OK : E_INVALID;
    }
    return replace(job, fresh, NULL);
}

/* The first state of a job that we had not heard of. */
static enum err keep_first(struct request *r)
{
    struct train_service *service = r->service;
    size_t followed = 0;
    if (r->lease.kind != TRAIN_LEASE_KEEP) {
        r->reply.answer = PROTO_LEASE_NOTHING;
        return E_OK;
    }
    struct err_info info = {0};
    struct train_job *job = new_job(service, r->lease.state, r->member.id, &info);
    if (!job) {
        return E_BUSY;
    }
    enum err err = E_OK;
    pthread_mutex_lock(&service->lock);
    for (const struct train_job *other = service->jobs; other; other = other->next) {
        followed += !other->running && other->state.state == TRAIN_RUNNING;
    }
    if (memcmp(job->state.id, r->lease.job_id.ptr, 16) != 0 || find_job(service, job->state.id) ||
        followed >= FOLLOWED_MAX) {
        err = E_BUSY;
    } else {
        job->taking = true;
        job->lease.heard_ms = query_now_ms();
        job->next = service->jobs;
        service->jobs = job;
    }
    pthread_mutex_unlock(&service->lock);
    if (err) {
        train_job_state_fini(&job->state);
        proto_free(job);
        return err;
    }
    r->reply.answer = PROTO_LEASE_YES;
    err = store_state(job, NULL);
    pthread_mutex_lock(&service->lock);
    leave(job);
    pthread_mutex_unlock(&service->lock);
    return err;
}

static enum err give_state(struct request *r, struct train_job *job)
{
    enum err err = store_state(job, NULL);
    pthread_mutex_lock(&r->service->lock);
    r->reply.term = job->lease.term;
    r->reply.save = job->lease.save;
    err = err ? err : train_job_state_encode(&job->state, &r->state, NULL);
    pthread_mutex_unlock(&r->service->lock);
    r->reply.state = buf_span(&r->state);
    return err;
}

/* JOB is ours alone for now. */
static enum err serve_job(struct request *r, struct train_job *job)
{
    struct train_service *service = r->service;
    const struct train_lease *lease = &r->lease;
    uint64_t now = query_now_ms();
    pthread_mutex_lock(&service->lock);
    bool yield = would_yield(job, lease) || (job->running && !job->lease.leading);
    enum err err = yield ? stand_down(job) : E_OK;
    if (!err && lease->kind == TRAIN_LEASE_RENEW) {
        r->reply.answer = proto_lease_renew(&job->lease, lease->term, now);
    } else if (!err && lease->kind == TRAIN_LEASE_PREPARE) {
        r->reply.answer = proto_lease_prepare(&job->lease, lease->term, lease->force, now);
    }
    pthread_mutex_unlock(&service->lock);
    if (!err && lease->kind == TRAIN_LEASE_KEEP) {
        err = keep(r, job);
    } else if (!err && lease->kind == TRAIN_LEASE_PREPARE && r->reply.answer == PROTO_LEASE_YES) {
        err = give_state(r, job);
    }
    return err;
}

static enum err serve(struct request *r)
{
    struct train_service *service = r->service;
    pthread_mutex_lock(&service->lock);
    struct train_job *job = find_job(service, r->lease.job_id.ptr);
    enum err err = job ? (is_holder(job, r->member.id) ? enter(job) : E_REFUSED) : E_OK;
    pthread_mutex_unlock(&service->lock);
    if (!job) {
        return keep_first(r);
    }
    if (err) {
        return err;
    }
    err = serve_job(r, job);
    pthread_mutex_lock(&service->lock);
    r->reply.promised = job->lease.promised;
    leave(job);
    pthread_mutex_unlock(&service->lock);
    return err;
}

static enum err open_request(struct request *r)
{
    struct query_context *context = r->service->context;
    if (!peer_member_by_id(context->peer, peer_request_from(r->incoming), &r->member) ||
        r->member.state == PEER_REVOKED) {
        return E_REFUSED;
    }
    enum err err =
        query_message_open(&train_lease_message, peer_request_body(r->incoming), TRAIN_LEASE_DOMAIN,
                           r->member.point, context->federation_id, &r->arena, &r->lease, NULL);
    int64_t age = err ? 0 : query_now() - r->lease.time;
    bool fresh = age <= TRAIN_CLOCK_TOLERANCE_S && age >= -TRAIN_CLOCK_TOLERANCE_S;
    bool ours = !err && memcmp(r->lease.to.ptr, context->node_id, 16) == 0;
    return err ? err : (fresh && ours ? E_OK : E_REFUSED);
}

static enum err seal_reply(struct request *r, struct buf *out)
{
    struct query_context *context = r->service->context;
    r->reply.version = TRAIN_VERSION;
    r->reply.job_id = r->lease.job_id;
    r->reply.state = r->reply.state.ptr ? r->reply.state : span_str("");
    return query_message_seal(&train_lease_reply_message, &r->reply, TRAIN_LEASE_DOMAIN,
                              context->identity, context->federation_id, out, NULL);
}

static void *request_thread(void *user)
{
    struct request *r = user;
    struct train_service *service = r->service;
    struct buf out = {.max = PEER_MESSAGE_MAX};
    enum err err = open_request(r);
    err = err ? err : serve(r);
    err = err ? err : seal_reply(r, &out);
    if (!err && r->reply.state.len) {
        store_egress_count(service->context->store, r->member.name, "train", out.len);
    }
    peer_reply(r->incoming, err, buf_span(&out));
    buf_fini(&out);
    buf_fini(&r->state);
    arena_fini(&r->arena);
    proto_free(r);
    pthread_mutex_lock(&service->lock);
    service->site_requests--;
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
    return NULL;
}

void train_lease(struct peer_request *request, void *user)
{
    struct train_service *service = user;
    struct request *r = proto_alloc(1, sizeof *r);
    pthread_t thread;
    pthread_mutex_lock(&service->lock);
    bool room = r && !service->stopping && service->site_requests < TRAIN_SITE_REQUESTS;
    service->site_requests += room;
    pthread_mutex_unlock(&service->lock);
    if (room) {
        r->service = service;
        r->incoming = request;
        r->state.max = TRAIN_STATE_MAX;
        if (pthread_create(&thread, NULL, request_thread, r) == 0) {
            pthread_detach(thread);
            return;
        }
        pthread_mutex_lock(&service->lock);
        service->site_requests--;
        pthread_mutex_unlock(&service->lock);
    }
    proto_free(r);
    peer_reply(request, E_BUSY, SPAN_NONE);
}

/* --- becoming the leader ----------------------------------------------------------------------------------------------- */

struct votes {
    struct train_job *job;
    struct peer_call calls[PROTO_LEASE_HOLDERS];
    struct buf bodies[PROTO_LEASE_HOLDERS];
    struct arena arena;
    size_t count;
    uint64_t yes, highest;
    uint64_t empty; /* bits of calls: it has nothing of the job */
    bool alive;
    struct train_lease_reply best; /* the newest state, if it is newer than ours */
    uint8_t best_from[16];
};

static void count_vote(struct train_job *job, const struct peer_call *call, struct votes *votes)
{
    struct query_context *context = job->service->context;
    struct peer_member member;
    struct train_lease_reply reply;
    if (call->status || !peer_member_by_id(context->peer, call->to, &member) ||
        query_message_open(&train_lease_reply_message, call->reply.bytes, TRAIN_LEASE_DOMAIN,
                           member.point, context->federation_id, &votes->arena, &reply, NULL) ||
        !span_equal(reply.job_id, span_of(job->state.id, 16))) {
        return;
    }
    votes->alive = votes->alive || reply.answer == PROTO_LEASE_ALIVE;
    if (reply.promised > votes->highest) {
        votes->highest = reply.promised;
    }
    for (size_t i = 0; reply.answer == PROTO_LEASE_NOTHING && i < job->lease.holders; i++) {
        votes->empty |= (uint64_t)(memcmp(job->holders[i], call->to, 16) == 0) << i;
    }
    if (reply.answer != PROTO_LEASE_YES) {
        return;
    }
    const uint64_t term = votes->best.term ? votes->best.term : job->lease.term;
    const uint64_t save = votes->best.term ? votes->best.save : job->lease.save;
    votes->yes++;
    if (reply.term > term || (reply.term == term && reply.save > save)) {
        votes->best = reply;
        memcpy(votes->best_from, call->to, 16);
    }
}

/* As soon as an answer is in: whoever is away must not hold up those who agree. */
static void vote_came(void *user, size_t at)
{
    struct votes *votes = user;
    count_vote(votes->job, &votes->calls[at], votes);
}

static bool enough_votes(void *user)
{
    const struct votes *votes = user;
    return votes->job->service->stopping ||
           1 + votes->yes >= proto_lease_quorum(votes->job->lease.holders);
}

/* To those holders whose bit is set. */
static enum err ask_votes(struct train_job *job, const struct train_lease *lease, uint64_t wanted,
                          uint64_t ms, struct votes *votes)
{
    struct query_context *context = job->service->context;
    enum err err = E_OK;
    votes->job = job;
    votes->count = 0;
    for (size_t i = 0; !err && i < job->lease.holders; i++) {
        struct train_lease one = *lease;
        if (!(wanted >> i & 1)) {
            continue;
        }
        struct buf *body = &votes->bodies[votes->count];
        struct peer_call *call = &votes->calls[votes->count++];
        one.to = span_of(job->holders[i], 16);
        *body = (struct buf){.max = PEER_MESSAGE_MAX};
        err = query_message_seal(&train_lease_message, &one, TRAIN_LEASE_DOMAIN, context->identity,
                                 context->federation_id, body, NULL);
        *call = (struct peer_call){.type = PEER_MSG_TRAIN_LEASE, .body = buf_span(body)};
        memcpy(call->to, job->holders[i], 16);
    }
    return err ? err
               : peer_call_each(context->peer, votes->calls, votes->count, ms, vote_came,
                                enough_votes, votes);
}

static void votes_clear(struct votes *votes)
{
    for (size_t i = 0; i < votes->count; i++) {
        peer_reply_fini(&votes->calls[i].reply);
        buf_fini(&votes->bodies[i]);
    }
    votes->count = 0;
}

/* The newest state that a majority knows of becomes ours. */
static enum err adopt(struct train_job *job, const struct votes *votes, struct err_info *reterr)
{
    if (!votes->best.term) {
        return E_OK;
    }
    struct train_job *fresh = new_job(job->service, votes->best.state, votes->best_from, reterr);
    if (!fresh) {
        return E_UNREACHABLE;
    }
    if (memcmp(fresh->state.plan_hash, job->state.plan_hash, 32) != 0) {
        train_job_state_fini(&fresh->state);
        proto_free(fresh);
        return E_AUTH;
    }
    pthread_mutex_lock(&job->service->lock);
    job->lease.term = votes->best.term;
    job->lease.save = votes->best.save;
    pthread_mutex_unlock(&job->service->lock);
    return replace(job, fresh, reterr);
}

static enum err judge(struct train_job *job, uint64_t term, const struct votes *votes,
                      struct err_info *reterr)
{
    uint64_t quorum = proto_lease_quorum(job->lease.holders);
    if (votes->highest > term) {
        pthread_mutex_lock(&job->service->lock);
        proto_lease_yield(&job->lease, votes->highest, query_now_ms());
        pthread_mutex_unlock(&job->service->lock);
    }
    if (votes->highest > term || 1 + votes->yes < quorum) {
        return proto_err_set(reterr, votes->alive ? E_BUSY : E_UNREACHABLE,
                             "%llu of the %llu nodes that may coordinate the job are needed, %llu "
                             "agreed%s",
                             (unsigned long long)quorum, (unsigned long long)job->lease.holders,
                             (unsigned long long)(1 + votes->yes),
                             votes->alive ? "; its coordinator is alive" : "");
    }
    return adopt(job, votes, reterr);
}

/* Replies stay until the votes are cleared: the best state points into one. */
static enum err hold_votes(struct train_job *job, uint64_t term, bool force, struct votes *votes)
{
    struct train_lease lease = {
        .version = TRAIN_VERSION,
        .job_id = span_of(job->state.id, 16),
        .kind = TRAIN_LEASE_PREPARE,
        .term = term,
        .force = force,
        .state = span_str(""),
        .time = query_now(),
    };
    uint64_t ms = force ? STAND_DOWN_MS : PREPARE_MS;
    uint64_t all = (UINT64_C(1) << job->lease.holders) - 1;
    return ask_votes(job, &lease, all & ~(UINT64_C(1) << job->lease.self), ms, votes);
}

/* Whoever has nothing of the job gets our state, so that it can promise something the next time. */
static void give_empty(struct train_job *job, uint64_t empty)
{
    struct votes *votes = empty ? proto_alloc(1, sizeof *votes) : NULL;
    struct buf state = {.max = TRAIN_STATE_MAX};
    struct train_lease lease = {
        .version = TRAIN_VERSION,
        .job_id = span_of(job->state.id, 16),
        .kind = TRAIN_LEASE_KEEP,
        .term = job->lease.term,
        .save = job->lease.save,
        .time = query_now(),
    };
    if (votes && train_job_state_encode(&job->state, &state, NULL) == E_OK) {
        lease.state = buf_span(&state);
        (void)!ask_votes(job, &lease, empty, STAND_DOWN_MS, votes);
        votes_clear(votes);
        arena_fini(&votes->arena);
    }
    buf_fini(&state);
    proto_free(votes);
}

/* JOB is ours alone, and not running. */
static enum err campaign(struct train_job *job, bool force, struct err_info *reterr)
{
    struct train_service *service = job->service;
    struct votes *votes = proto_alloc(1, sizeof *votes);
    if (!votes) {
        return E_NO_MEMORY;
    }
    pthread_mutex_lock(&service->lock);
    uint64_t now = query_now_ms();
    uint64_t term = proto_lease_ballot(&job->lease);
    job->lease.tried_ms = now;
    enum err err =
        proto_lease_prepare(&job->lease, term, true, now) == PROTO_LEASE_YES ? E_OK : E_INTERNAL;
    pthread_mutex_unlock(&service->lock);
    err = err ? err : store_state(job, reterr);
    err = err ? err : hold_votes(job, term, force, votes);
    if (!err && 1 + votes->yes < proto_lease_quorum(job->lease.holders) && votes->empty) {
        give_empty(job, votes->empty);
        votes_clear(votes);
        arena_fini(&votes->arena);
        memset(votes, 0, sizeof *votes);
        err = hold_votes(job, term, force, votes);
    }
    err = err ? err : judge(job, term, votes, reterr);
    if (!err) {
        pthread_mutex_lock(&service->lock);
        err = job->lease.promised == term ? E_OK : E_BUSY;
        if (!err) {
            proto_lease_lead(&job->lease, term);
            snprintf(job->state.coordinator, sizeof job->state.coordinator, "%.32s",
                     service->context->name);
        }
        pthread_mutex_unlock(&service->lock);
    }
    votes_clear(votes);
    arena_fini(&votes->arena);
    proto_free(votes);
    return err;
}

enum err train_lease_take(struct train_job *job, bool force, struct err_info *reterr)
{
    struct train_service *service = job->service;
    if (job->lease.holders < 2) {
        job->lease.leading = true;
        return E_OK;
    }
    enum err err = enter(job);
    if (err || job->running) {
        if (!err) {
            leave(job);
        }
        return proto_err_set(reterr, E_BUSY, "the job is changing hands; try again in a moment");
    }
    pthread_mutex_unlock(&service->lock);
    err = campaign(job, force, reterr);
    pthread_mutex_lock(&service->lock);
    leave(job);
    return err;
}

/* --- looking after the leaders ----------------------------------------------------------------------------------------- */

/* The lock is held. */
static struct train_job *due_job(struct train_service *service)
{
    uint64_t now = query_now_ms();
    for (struct train_job *job = service->jobs; job; job = job->next) {
        if (job->lease.holders > 1 && !job->running && !job->taking &&
            job->state.state == TRAIN_RUNNING && proto_lease_due(&job->lease, now)) {
            return job;
        }
    }
    return NULL;
}

static void succeed(struct train_job *job)
{
    struct query_context *context = job->service->context;
    struct err_info info = {0};
    char text[160];
    char id[33];
    span_to_hex(span_of(job->state.id, 16), id);
    enum err err = train_lease_take(job, false, &info);
    if (!err && job->state.state == TRAIN_RUNNING) {
        err = train_job_launch(job, &info);
    }
    snprintf(text, sizeof text, "%s %.120s", id, err ? info.text : "this node coordinates it now");
    context->log(context->user, err ? PEER_LOG_INFO : PEER_LOG_WARN, "train.lease", text);
}

static void *watch_thread(void *user)
{
    struct train_service *service = user;
    pthread_mutex_lock(&service->lock);
    while (!service->stopping) {
        train_wait_locked(service, WATCH_MS);
        bool ready =
            !service->context->refusing || !service->context->refusing(service->context->user);
        struct train_job *job = ready && !service->stopping ? due_job(service) : NULL;
        if (job) {
            succeed(job);
        }
    }
    pthread_mutex_unlock(&service->lock);
    return NULL;
}

enum err train_lease_watch(struct train_service *service)
{
    service->watching = pthread_create(&service->watch, NULL, watch_thread, service) == 0;
    return service->watching ? E_OK : E_NO_MEMORY;
}

void train_lease_watch_end(struct train_service *service)
{
    if (service->watching) {
        pthread_join(service->watch, NULL);
        service->watching = false;
    }
}
