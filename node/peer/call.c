/* peer_call_each: the blocking side of calls, for worker threads. */
#include "config.h"
#include "node/peer/internal.h"

#include <time.h>

#define ASK_MS 50 /* how often `cancelled` is asked */

struct batch;

struct batch_call {
    struct call call;
    struct peer_call *told;
    struct batch *batch;
    struct batch_call *next;
};

struct batch {
    struct peer_event start;
    struct peer_event cancel;
    struct peer *peer;
    struct batch_call *calls;
    size_t count;
    struct batch_call *ended; /* under lock: ended and not told yet, the newest first */
    size_t left;              /* under lock */
    size_t events;            /* posted and not run yet; under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

void peer_reply_fini(struct peer_reply *reply)
{
    proto_free(reply->memory);
    *reply = (struct peer_reply){.bytes = SPAN_NONE};
}

static void finish(struct call *call, enum err status, struct peer_reply *reply)
{
    struct batch_call *b = call->user;
    b->told->status = status;
    b->told->elapsed_ms = peer_now_ms() - call->started_ms;
    b->told->reply = *reply;
    *reply = (struct peer_reply){.bytes = SPAN_NONE};
    pthread_mutex_lock(&b->batch->lock);
    b->next = b->batch->ended;
    b->batch->ended = b;
    b->batch->left--;
    pthread_cond_signal(&b->batch->wake);
    pthread_mutex_unlock(&b->batch->lock);
}

static void fail(struct call *call, enum err status)
{
    struct peer_reply none = {.bytes = SPAN_NONE};
    call->done = true;
    call->finish(call, status, &none);
}

static void event_over(struct batch *batch)
{
    pthread_mutex_lock(&batch->lock);
    batch->events--;
    pthread_cond_signal(&batch->wake);
    pthread_mutex_unlock(&batch->lock);
}

static void start_one(struct peer *peer, struct batch_call *b)
{
    struct call *call = &b->call;
    if (peer->stopping || !peer->started) {
        fail(call, E_CANCELLED);
    } else if (call->body.len > PEER_MESSAGE_MAX) {
        fail(call, E_LIMIT);
    } else if (memcmp(b->told->to, peer->node_id, 16) == 0) {
        if (server_local(peer, call)) {
            fail(call, E_NO_MEMORY);
        }
    } else {
        int at = peer_directory_find(peer->directory, b->told->to);
        struct link *link = at < 0 ? NULL : link_get(peer, (size_t)at);
        if (link) {
            link_call(link, call);
        } else {
            fail(call, E_NOT_FOUND);
        }
    }
}

static void batch_start(struct peer *peer, struct peer_event *event)
{
    struct batch *batch = (struct batch *)event;
    for (size_t i = 0; i < batch->count; i++) {
        start_one(peer, &batch->calls[i]);
    }
    event_over(batch);
}

static void batch_cancel(struct peer *peer, struct peer_event *event)
{
    struct batch *batch = (struct batch *)((char *)event - offsetof(struct batch, cancel));
    (void)peer;
    for (size_t i = 0; i < batch->count; i++) {
        struct call *call = &batch->calls[i].call;
        if (!call->done && call->link) {
            link_give_up(call, E_CANCELLED);
        }
    }
    event_over(batch);
}

static void post(struct batch *batch, struct peer_event *event)
{
    pthread_mutex_lock(&batch->lock);
    batch->events++;
    pthread_mutex_unlock(&batch->lock);
    peer_post(batch->peer, event);
}

/* Lock held, but not while telling. true: something was told. */
static bool tell_ended(struct batch *batch, void (*ended)(void *, size_t), void *user)
{
    struct batch_call *first = batch->ended;
    batch->ended = NULL;
    if (!first || !ended) {
        return false;
    }
    pthread_mutex_unlock(&batch->lock);
    for (struct batch_call *b = first; b; b = b->next) {
        ended(user, (size_t)(b - batch->calls));
    }
    pthread_mutex_lock(&batch->lock);
    return true;
}

/* Calls to ourselves are waited for beyond the deadline, since their handler still reads the caller's body. */
static void batch_wait(struct batch *batch, void (*ended)(void *, size_t),
                       bool (*cancelled)(void *), void *user)
{
    bool asked = false;
    pthread_mutex_lock(&batch->lock);
    for (;;) {
        struct timespec until;
        if (tell_ended(batch, ended, user)) {
            continue;
        }
        if (!batch->left && !batch->events) {
            break;
        }
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += ASK_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000L;
        }
        pthread_cond_timedwait(&batch->wake, &batch->lock, &until);
        if (!asked && cancelled && batch->left) {
            pthread_mutex_unlock(&batch->lock);
            if (cancelled(user)) {
                asked = true;
                batch->cancel.run = batch_cancel;
                post(batch, &batch->cancel);
            }
            pthread_mutex_lock(&batch->lock);
        }
    }
    pthread_mutex_unlock(&batch->lock);
}

enum err peer_call_many(struct peer *peer, struct peer_call *calls, size_t count,
                        uint64_t deadline_ms, bool (*cancelled)(void *user), void *user)
{
    return peer_call_each(peer, calls, count, deadline_ms, NULL, cancelled, user);
}

enum err peer_call_each(struct peer *peer, struct peer_call *calls, size_t count,
                        uint64_t deadline_ms, void (*ended)(void *user, size_t at),
                        bool (*cancelled)(void *user), void *user)
{
    if (count > PEER_CALLS_MAX) {
        return E_LIMIT;
    }
    if (count == 0) {
        return E_OK;
    }
    struct batch batch = {.peer = peer, .count = count, .left = count};
    batch.calls = proto_alloc(count, sizeof *batch.calls);
    if (!batch.calls) {
        return E_NO_MEMORY;
    }
    if (pthread_mutex_init(&batch.lock, NULL)) {
        proto_free(batch.calls);
        return E_NO_MEMORY;
    }
    if (pthread_cond_init(&batch.wake, NULL)) {
        pthread_mutex_destroy(&batch.lock);
        proto_free(batch.calls);
        return E_NO_MEMORY;
    }
    uint64_t now = peer_now_ms();
    for (size_t i = 0; i < count; i++) {
        struct batch_call *b = &batch.calls[i];
        b->told = &calls[i];
        b->batch = &batch;
        b->call = (struct call){.peer = peer,
                                .type = calls[i].type,
                                .body = calls[i].body,
                                .started_ms = now,
                                .deadline_ms = now + deadline_ms,
                                .slot = -1,
                                .finish = finish,
                                .user = b};
    }
    batch.start.run = batch_start;
    post(&batch, &batch.start);
    batch_wait(&batch, ended, cancelled, user);
    pthread_cond_destroy(&batch.wake);
    pthread_mutex_destroy(&batch.lock);
    proto_free(batch.calls);
    return E_OK;
}
