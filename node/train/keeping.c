/* The leader's side of a job with several coordinators: a thread for each of the others gives it each new state, and a sign of
 * life in between. What they answer is proto/lease.h. */
#include "config.h"
#include "node/train/internal.h"

#include "node/query/site.h"
#include "store/egress.h"
#include "store/job.h"

#include <stdio.h>

#define CALL_MS  120000 /* a standby fetches vectors before it answers */
#define RENEW_MS 4000
#define PAUSE_MS 500

struct keeper {
    struct train_keeping *all;
    uint8_t id[16];
    uint64_t acked; /* number of the last put that it has on disk */
    bool joinable;
    pthread_t thread;
};

struct train_keeping {
    struct train_job *job;
    struct buf state; /* the last put; all of this under the service's lock */
    uint64_t number, term, save;
    _Atomic bool quit;
    struct keeper keepers[PROTO_LEASE_HOLDERS];
    size_t count;
};

static bool keeper_cancelled(void *user)
{
    const struct train_keeping *all = user;
    return all->quit || all->job->deposed;
}

/* The lock is held: until there is something to say, or the time for a sign of life. */
static void wait_for_work(struct keeper *keeper)
{
    struct train_keeping *all = keeper->all;
    uint64_t until = query_now_ms() + PROTO_LEASE_RENEW_MS;
    while (!keeper_cancelled(all) && keeper->acked == all->number && query_now_ms() < until) {
        train_wait_locked(all->job->service, 500);
    }
}

static enum err make_message(struct keeper *keeper, bool renew, struct buf *out)
{
    struct train_keeping *all = keeper->all;
    struct query_context *context = all->job->service->context;
    struct train_lease lease = {
        .version = TRAIN_VERSION,
        .to = span_of(keeper->id, 16),
        .job_id = span_of(all->job->state.id, 16),
        .kind = renew ? TRAIN_LEASE_RENEW : TRAIN_LEASE_KEEP,
        .term = all->term,
        .save = all->save,
        .state = renew ? span_str("") : buf_span(&all->state),
        .time = query_now(),
    };
    return query_message_seal(&train_lease_message, &lease, TRAIN_LEASE_DOMAIN, context->identity,
                              context->federation_id, out, NULL);
}

/* The lock is held. NUMBER: what was sent. */
static void take_reply(struct keeper *keeper, const struct train_lease_reply *reply,
                       uint64_t number)
{
    struct train_job *job = keeper->all->job;
    if (reply->answer == PROTO_LEASE_YES) {
        keeper->acked = number > keeper->acked ? number : keeper->acked;
    } else if (reply->answer == PROTO_LEASE_NOTHING) {
        keeper->acked = 0;
    } else if (reply->answer == PROTO_LEASE_OLD && reply->promised > job->lease.promised) {
        proto_lease_yield(&job->lease, reply->promised, query_now_ms());
        job->deposed = true;
    }
    pthread_cond_broadcast(&job->service->changed);
}

/* One message and its answer. False: try again soon. */
static bool tell(struct keeper *keeper)
{
    struct train_keeping *all = keeper->all;
    struct train_service *service = all->job->service;
    struct peer_member member = {0};
    struct arena arena = {0};
    struct train_lease_reply reply;
    struct buf body = {.max = PEER_MESSAGE_MAX};
    struct peer_call call = {.type = PEER_MSG_TRAIN_LEASE};
    memcpy(call.to, keeper->id, 16);
    pthread_mutex_lock(&service->lock);
    uint64_t number = all->number;
    bool renew = keeper->acked == number;
    enum err err = make_message(keeper, renew, &body);
    pthread_mutex_unlock(&service->lock);
    call.body = buf_span(&body);
    if (!err && peer_member_by_id(service->context->peer, keeper->id, &member)) {
        if (!renew) {
            store_egress_count(service->context->store, member.name, "train", body.len);
        }
        err = peer_call_many(service->context->peer, &call, 1, renew ? RENEW_MS : CALL_MS,
                             keeper_cancelled, all);
        err = err ? err : call.status;
        err = err ? err
                  : query_message_open(&train_lease_reply_message, call.reply.bytes,
                                       TRAIN_LEASE_DOMAIN, member.point,
                                       service->context->federation_id, &arena, &reply, NULL);
    } else {
        err = err ? err : E_NOT_FOUND;
    }
    if (!err) {
        pthread_mutex_lock(&service->lock);
        take_reply(keeper, &reply, number);
        pthread_mutex_unlock(&service->lock);
    }
    arena_fini(&arena);
    peer_reply_fini(&call.reply);
    buf_fini(&body);
    return err == E_OK && reply.answer == PROTO_LEASE_YES;
}

static void *keeper_thread(void *user)
{
    struct keeper *keeper = user;
    struct train_keeping *all = keeper->all;
    struct train_service *service = all->job->service;
    while (!keeper_cancelled(all)) {
        pthread_mutex_lock(&service->lock);
        wait_for_work(keeper);
        bool idle = all->number == 0;
        pthread_mutex_unlock(&service->lock);
        if (!idle && !keeper_cancelled(all) && !tell(keeper)) {
            pthread_mutex_lock(&service->lock);
            train_wait_locked(service, PAUSE_MS);
            pthread_mutex_unlock(&service->lock);
        }
    }
    return NULL;
}

enum err train_keeping_open(struct train_job *job, struct train_keeping **ret)
{
    struct train_keeping *all = proto_alloc(1, sizeof *all);
    if (!all) {
        return E_NO_MEMORY;
    }
    all->job = job;
    all->state.max = STORE_JOB_MAX;
    for (size_t i = 0; i < job->lease.holders; i++) {
        if (i != job->lease.self) {
            struct keeper *keeper = &all->keepers[all->count++];
            keeper->all = all;
            memcpy(keeper->id, job->holders[i], 16);
        }
    }
    *ret = all;
    for (size_t i = 0; i < all->count; i++) {
        all->keepers[i].joinable =
            pthread_create(&all->keepers[i].thread, NULL, keeper_thread, &all->keepers[i]) == 0;
        if (!all->keepers[i].joinable) {
            return E_NO_MEMORY;
        }
    }
    return E_OK;
}

enum err train_keeping_put(struct train_keeping *all, struct span state, uint64_t term,
                           uint64_t save)
{
    struct train_service *service = all->job->service;
    pthread_mutex_lock(&service->lock);
    all->state.len = 0;
    enum err err = state.len > TRAIN_STATE_MAX ? E_LIMIT : buf_put(&all->state, state);
    if (!err) {
        all->term = term;
        all->save = save;
        all->number++;
    }
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
    return err;
}

static bool kept(const struct train_keeping *all)
{
    uint64_t have = 1;
    for (size_t i = 0; i < all->count; i++) {
        have += all->keepers[i].acked == all->number;
    }
    return have >= proto_lease_quorum(all->job->lease.holders);
}

enum err train_keeping_wait(struct train_keeping *all, uint64_t ms, bool (*cancelled)(void *),
                            void *user)
{
    struct train_job *job = all->job;
    struct train_service *service = job->service;
    uint64_t start = query_now_ms();
    bool told = false;
    enum err err = E_OK;
    pthread_mutex_lock(&service->lock);
    while (!kept(all) && !err) {
        uint64_t passed = query_now_ms() - start;
        if (job->deposed || cancelled(user)) {
            err = E_CANCELLED;
        } else if (ms && passed >= ms) {
            err = E_TIMEOUT;
        } else {
            if (!told && passed > 5000) {
                told = true;
                snprintf(job->state.error_text, sizeof job->state.error_text,
                         "waits for the nodes that stand by as coordinators: a majority must have "
                         "each round on disk");
            }
            train_wait_locked(service, 200);
        }
    }
    if (told) {
        job->state.error_text[0] = '\0';
    }
    pthread_mutex_unlock(&service->lock);
    return err;
}

void train_keeping_close(struct train_keeping *all)
{
    if (!all) {
        return;
    }
    struct train_service *service = all->job->service;
    all->quit = true;
    pthread_mutex_lock(&service->lock);
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
    for (size_t i = 0; i < all->count; i++) {
        if (all->keepers[i].joinable) {
            pthread_join(all->keepers[i].thread, NULL);
        }
    }
    buf_fini(&all->state);
    proto_free(all);
}
