/* peer_call_each: the blocking side of calls, for worker threads. */
#include "config.h"
#include "node/peer/internal.h"

#include <time.h>

#define ASK_MS 50 /* how often `cancelled` is asked */

struct batch;

struct batch_call {
    struct call call;
    struct pool_job job; /* when a thread of `openers` is asked to help */
    struct peer_call *told;
    struct batch *batch;
    struct batch_call *next;
};

/* A call goes from `ended` by watch->open to `opened`, and by watch->ended out of the batch. The caller's thread does both;
 * threads of `openers` help with the first as long as more calls have ended than it has in its hands. */
struct batch {
    struct peer_event start;
    struct peer_event cancel;
    struct peer *peer;
    const struct peer_call_watch *watch;
    struct batch_call *calls;
    size_t count;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t wake;
    struct batch_call *ended, *opened; /* the newest first */
    size_t left;
    size_t events; /* posted and not run yet */
    size_t helpers;
    bool waits; /* the caller's thread has nothing to do and has not been woken */
};

static struct batch_call *take(struct batch_call **list)
{
    struct batch_call *first = *list;
    if (first) {
        *list = first->next;
    }
    return first;
}

static void put(struct batch_call **list, struct batch_call *b)
{
    b->next = *list;
    *list = b;
}

static size_t index_of(const struct batch_call *b)
{
    return (size_t)(b - b->batch->calls);
}

/* Lock held, but not while opening. */
static void open_one(struct batch *batch, struct batch_call *b)
{
    if (batch->watch->open) {
        pthread_mutex_unlock(&batch->lock);
        batch->watch->open(batch->watch->user, index_of(b));
        pthread_mutex_lock(&batch->lock);
    }
    put(&batch->opened, b);
}

static void help(struct pool_job *job)
{
    struct batch_call *own = (struct batch_call *)((char *)job - offsetof(struct batch_call, job));
    struct batch *batch = own->batch;
    pthread_mutex_lock(&batch->lock);
    for (struct batch_call *b; (b = take(&batch->ended));) {
        open_one(batch, b);
        pthread_cond_signal(&batch->wake);
    }
    batch->helpers--; /* from the unlocking on, the batch may be gone */
    pthread_cond_signal(&batch->wake);
    pthread_mutex_unlock(&batch->lock);
}

/* On the loop. */
static void finish(struct call *call, enum err status, struct span reply)
{
    struct batch_call *b = call->user;
    struct batch *batch = b->batch;
    struct peer *peer = call->peer;
    b->told->status = status;
    b->told->elapsed_ms = peer_now_ms() - call->started_ms;
    b->told->reply = (struct buf){.max = PEER_MESSAGE_MAX};
    if (reply.len && buf_put(&b->told->reply, reply)) {
        b->told->status = E_NO_MEMORY;
    }
    pthread_mutex_lock(&batch->lock);
    /* Not while we stop: nobody may put anything into the pool then. */
    bool to_help = batch->watch->open && !b->told->status && !batch->waits && !peer->stopping;
    put(&batch->ended, b);
    batch->left--;
    batch->helpers += to_help;
    batch->waits = false;
    pthread_cond_signal(&batch->wake);
    pthread_mutex_unlock(&batch->lock);
    if (to_help) {
        pool_put(&peer->openers, &b->job); /* the helper that we have counted keeps the batch */
    }
}

static void fail(struct call *call, enum err status)
{
    call->done = true;
    call->finish(call, status, SPAN_NONE);
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

/* Lock held, but not while working. true: something was done. */
static bool work(struct batch *batch)
{
    struct batch_call *b = take(&batch->opened);
    if (b && batch->watch->ended) {
        pthread_mutex_unlock(&batch->lock);
        batch->watch->ended(batch->watch->user, index_of(b));
        pthread_mutex_lock(&batch->lock);
    }
    if (b) {
        return true;
    }
    b = take(&batch->ended);
    if (b) {
        open_one(batch, b);
    }
    return b != NULL;
}

static void wait_once(struct batch *batch)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ASK_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    batch->waits = true;
    pthread_cond_timedwait(&batch->wake, &batch->lock, &until);
    batch->waits = false;
}

/* Calls to ourselves are waited for beyond the deadline, since their handler still reads the caller's body. */
static void batch_wait(struct batch *batch)
{
    const struct peer_call_watch *watch = batch->watch;
    bool asked = false;
    pthread_mutex_lock(&batch->lock);
    for (;;) {
        if (work(batch)) {
            continue;
        }
        if (!batch->left && !batch->events && !batch->helpers) {
            break;
        }
        wait_once(batch);
        if (!asked && watch->cancelled && batch->left) {
            pthread_mutex_unlock(&batch->lock);
            if (watch->cancelled(watch->user)) {
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
    const struct peer_call_watch watch = {.cancelled = cancelled, .user = user};
    return peer_call_each(peer, calls, count, deadline_ms, &watch);
}

enum err peer_call_each(struct peer *peer, struct peer_call *calls, size_t count,
                        uint64_t deadline_ms, const struct peer_call_watch *watch)
{
    if (count > PEER_CALLS_MAX) {
        return E_LIMIT;
    }
    if (count == 0) {
        return E_OK;
    }
    struct batch batch = {.peer = peer, .watch = watch, .count = count, .left = count};
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
        b->job.run = help;
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
    batch_wait(&batch);
    pthread_cond_destroy(&batch.wake);
    pthread_mutex_destroy(&batch.lock);
    proto_free(batch.calls);
    return E_OK;
}
