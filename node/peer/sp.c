/* Sockets, their contexts, listeners and dialling. One connection is sp_pipe.c's. */
#include "config.h"
#include "node/peer/sp_internal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "proto/alloc.h"
#include "proto/span.h"

#define REQUEST_BIT 0x80000000u /* of the ids that we give */

struct sp_ctx {
    struct sp_ctx *next;         /* of the socket */
    struct sp_ctx *next_waiting; /* REP: for a request */
    struct sp_socket *socket;
    struct pipe *pipe; /* of the exchange, held */
    uint32_t request;
    struct sp_waiter waiter; /* for a request or a reply */
    atomic_uint pipe_id;
};

struct sp_listener {
    struct sp_listener *next;
    struct sp_socket *socket;
    nng_stream_listener *listener;
    nng_aio *aio;
    const struct crypto_channel_profile *profile; /* under socket->lock */
    char expected[33];
    bool closed;  /* under socket->lock */
    bool resting; /* the aio sleeps after an error; its own thread only */
};

struct dialling {
    struct dialling *next;
    nng_aio *aio;
};

/* --- exchanges ------------------------------------------------------------------------------------------------------------ */

/* Socket's lock held: CTX is left as if nothing had been begun, and its waiter is the caller's to tell. */
static struct sp_waiter take_waiter(struct sp_ctx *ctx)
{
    struct sp_waiter waiter = ctx->waiter;
    ctx->waiter = (struct sp_waiter){0};
    return waiter;
}

static void drop_pipe(struct sp_ctx *ctx)
{
    if (ctx->pipe) {
        sp_pipe_release(ctx->pipe);
        ctx->pipe = NULL;
    }
}

/* Socket's lock held: CTX takes the message of PIPE, which hand_over_request has looked at. */
static struct sp_waiter take_request(struct sp_ctx *ctx, struct pipe *pipe, struct sp_message *msg)
{
    drop_pipe(ctx);
    ctx->pipe = pipe;
    sp_pipe_hold(pipe);
    (void)!peer_frame_sp_id(msg->bytes.ptr, &ctx->request);
    msg->bytes = span_of(msg->bytes.ptr + PEER_FRAME_SP_ID, msg->bytes.len - PEER_FRAME_SP_ID);
    atomic_store(&ctx->pipe_id, pipe->who.pipe);
    return take_waiter(ctx);
}

static struct sp_ctx *waiting_pop(struct sp_socket *socket)
{
    struct sp_ctx *ctx = socket->waiting;
    if (ctx) {
        socket->waiting = ctx->next_waiting;
        if (!socket->waiting) {
            socket->waiting_tail = &socket->waiting;
        }
    }
    return ctx;
}

static void hand_over_request(struct pipe *pipe)
{
    struct sp_socket *socket = pipe->socket;
    struct sp_message *msg = pipe->msg;
    struct sp_waiter waiter = {0};
    uint32_t id;
    if (peer_frame_sp_id(msg->bytes.ptr, &id)) {
        sp_pipe_end(pipe, NNG_EPROTO);
        return;
    }
    pthread_mutex_lock(&socket->lock);
    struct sp_ctx *ctx = waiting_pop(socket);
    if (ctx) {
        waiter = take_request(ctx, pipe, msg);
    } else {
        pipe->parked = true;
    }
    pthread_mutex_unlock(&socket->lock);
    if (ctx) {
        sp_pipe_handed(pipe);
        sp_tell(waiter, 0, msg);
    }
}

static void hand_over_reply(struct pipe *pipe)
{
    struct sp_socket *socket = pipe->socket;
    struct sp_message *msg = pipe->msg;
    struct sp_waiter waiter = {0};
    uint32_t id;
    bool known = !peer_frame_sp_id(msg->bytes.ptr, &id);
    msg->bytes = span_of(msg->bytes.ptr + PEER_FRAME_SP_ID, msg->bytes.len - PEER_FRAME_SP_ID);
    sp_pipe_handed(pipe);
    pthread_mutex_lock(&socket->lock);
    for (struct sp_ctx *ctx = socket->contexts; ctx && known; ctx = ctx->next) {
        if (ctx->pipe == pipe && ctx->request == id && ctx->waiter.done) {
            waiter = take_waiter(ctx);
            drop_pipe(ctx); /* our caller holds it too */
            break;
        }
    }
    pthread_mutex_unlock(&socket->lock);
    sp_tell(waiter, 0, msg); /* nobody: its caller gave up, or there never was one */
}

void sp_hand_over(struct pipe *pipe)
{
    if (pipe->socket->kind == SP_REP) {
        hand_over_request(pipe);
    } else {
        hand_over_reply(pipe);
    }
}

/* One that waits for a reply over PIPE, or for anything when PIPE is NULL. */
static struct sp_waiter next_to_fail(struct sp_socket *socket, const struct pipe *pipe)
{
    struct sp_waiter waiter = {0};
    pthread_mutex_lock(&socket->lock);
    for (struct sp_ctx *ctx = socket->contexts; ctx && !waiter.done; ctx = ctx->next) {
        if (ctx->waiter.done && (!pipe || ctx->pipe == pipe)) {
            waiter = take_waiter(ctx);
            drop_pipe(ctx);
        }
    }
    if (!pipe) {
        socket->waiting = NULL;
        socket->waiting_tail = &socket->waiting;
    }
    pthread_mutex_unlock(&socket->lock);
    return waiter;
}

void sp_fail_exchanges(struct pipe *pipe)
{
    struct sp_socket *socket = pipe->socket;
    pthread_mutex_lock(&socket->lock);
    pipe->parked = false;
    pthread_mutex_unlock(&socket->lock);
    if (socket->kind == SP_REQ) {
        for (struct sp_waiter w; (w = next_to_fail(socket, pipe)).done;) {
            sp_tell(w, NNG_ECONNRESET, NULL);
        }
    }
}

/* --- contexts ----------------------------------------------------------------------------------------------------------------- */

enum err sp_ctx_open(struct sp_socket *socket, struct sp_ctx **ret)
{
    struct sp_ctx *ctx = proto_alloc(1, sizeof *ctx);
    if (!ctx) {
        return E_NO_MEMORY;
    }
    ctx->socket = socket;
    pthread_mutex_lock(&socket->lock);
    ctx->next = socket->contexts;
    socket->contexts = ctx;
    pthread_mutex_unlock(&socket->lock);
    *ret = ctx;
    return E_OK;
}

uint32_t sp_ctx_pipe(const struct sp_ctx *ctx)
{
    return atomic_load(&ctx->pipe_id);
}

/* PARTS and LENT behind SP's length and number. NULL: no memory. */
static struct outgoing *outgoing_make(uint32_t request, const struct span *parts, size_t count,
                                      struct span lent)
{
    size_t len = PEER_FRAME_SP_ID;
    for (size_t i = 0; i < count; i++) {
        len += parts[i].len;
    }
    struct outgoing *item = proto_alloc_raw(1, sizeof *item + PEER_FRAME_SP_HEAD + len);
    if (!item) {
        return NULL;
    }
    *item = (struct outgoing){.lent = lent};
    put_be64(item->bytes, len + lent.len);
    put_be32(item->bytes + PEER_FRAME_SP_HEAD, request);
    item->len = PEER_FRAME_SP_HEAD + PEER_FRAME_SP_ID;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len) {
            memcpy(item->bytes + item->len, parts[i].ptr, parts[i].len);
        }
        item->len += parts[i].len;
    }
    item->len += lent.len;
    return item;
}

/* Takes ITEM. false: the pipe is closed, and nobody is told. The caller holds the pipe. */
static bool send_on(struct pipe *pipe, struct outgoing *item)
{
    pthread_mutex_lock(&pipe->lock);
    bool taken = !pipe->closed && sp_pipe_put(pipe, item);
    pthread_mutex_unlock(&pipe->lock);
    if (!taken) {
        proto_free(item);
    }
    sp_pipe_run(pipe);
    return taken;
}

/* Socket's lock held. The newest pipe that is open. */
static struct pipe *pipe_for_request(struct sp_socket *socket)
{
    for (struct pipe *pipe = socket->pipes; pipe; pipe = pipe->next) {
        pthread_mutex_lock(&pipe->lock);
        bool open = pipe->stage == STAGE_OPEN && !pipe->closed;
        pthread_mutex_unlock(&pipe->lock);
        if (open) {
            return pipe;
        }
    }
    return NULL;
}

/* A pipe that breaks from here on finds the waiter, since it is closed before its exchanges fail. */
void sp_ctx_request(struct sp_ctx *ctx, const struct span *parts, size_t count, sp_done *done,
                    void *user)
{
    struct sp_socket *socket = ctx->socket;
    pthread_mutex_lock(&socket->lock);
    struct pipe *pipe = socket->stopping ? NULL : pipe_for_request(socket);
    uint32_t request = REQUEST_BIT | ++socket->request;
    drop_pipe(ctx);
    if (pipe) {
        sp_pipe_hold(pipe); /* the context's */
        sp_pipe_hold(pipe); /* ours */
        ctx->pipe = pipe;
        ctx->request = request;
        ctx->waiter = (struct sp_waiter){done, user};
    }
    pthread_mutex_unlock(&socket->lock);
    if (!pipe) {
        done(user, NNG_ECLOSED, NULL);
        return;
    }
    struct outgoing *item = outgoing_make(request, parts, count, SPAN_NONE);
    if (item) {
        (void)send_on(pipe, item);
    } else {
        sp_ctx_cancel(ctx, NNG_ENOMEM);
    }
    sp_pipe_release(pipe);
}

void sp_ctx_cancel(struct sp_ctx *ctx, int rv)
{
    pthread_mutex_lock(&ctx->socket->lock);
    struct sp_waiter waiter = take_waiter(ctx);
    drop_pipe(ctx);
    pthread_mutex_unlock(&ctx->socket->lock);
    sp_tell(waiter, rv, NULL);
}

void sp_ctx_reply(struct sp_ctx *ctx, const struct span *parts, size_t count, struct span lent,
                  sp_done *done, void *user)
{
    pthread_mutex_lock(&ctx->socket->lock);
    struct pipe *pipe = ctx->pipe; /* the context's hold on it is ours now */
    ctx->pipe = NULL;
    pthread_mutex_unlock(&ctx->socket->lock);
    struct outgoing *item = pipe ? outgoing_make(ctx->request, parts, count, lent) : NULL;
    int rv = !pipe ? NNG_ESTATE : item ? 0 : NNG_ENOMEM;
    if (item) {
        item->waiter = (struct sp_waiter){done, user};
        rv = send_on(pipe, item) ? 0 : NNG_ECONNRESET;
    }
    if (pipe) {
        sp_pipe_release(pipe);
    }
    if (rv) {
        done(user, rv, NULL);
    }
}

/* Socket's lock held. */
static struct pipe *parked_take(struct sp_socket *socket)
{
    for (struct pipe *pipe = socket->pipes; pipe; pipe = pipe->next) {
        if (pipe->parked) {
            pipe->parked = false;
            sp_pipe_hold(pipe);
            return pipe;
        }
    }
    return NULL;
}

void sp_ctx_receive(struct sp_ctx *ctx, sp_done *done, void *user)
{
    struct sp_socket *socket = ctx->socket;
    struct pipe *parked = NULL;
    struct sp_message *msg = NULL;
    pthread_mutex_lock(&socket->lock);
    bool stopping = socket->stopping;
    if (!stopping) {
        ctx->waiter = (struct sp_waiter){done, user};
        parked = parked_take(socket);
        if (parked) {
            msg = parked->msg;
            (void)take_request(ctx, parked, msg);
        } else {
            ctx->next_waiting = NULL;
            *socket->waiting_tail = ctx;
            socket->waiting_tail = &ctx->next_waiting;
        }
    }
    pthread_mutex_unlock(&socket->lock);
    if (stopping) {
        done(user, NNG_ECLOSED, NULL);
    } else if (parked) {
        sp_pipe_handed(parked);
        done(user, 0, msg);
        sp_pipe_run(parked);
        sp_pipe_release(parked);
    }
}

/* --- listeners and dialling --------------------------------------------------------------------------------------------------------- */

static bool tcp_url(const char *url, char to[192])
{
    static const char scheme[] = "tls+tcp://";
    size_t n = sizeof scheme - 1;
    int len = strncmp(url, scheme, n) == 0 ? snprintf(to, 192, "tcp://%s", url + n) : -1;
    return len > 0 && len < 192;
}

static void on_accept(void *arg)
{
    struct sp_listener *l = arg;
    int rv = nng_aio_result(l->aio);
    bool rested = l->resting;
    l->resting = false;
    pthread_mutex_lock(&l->socket->lock);
    const struct crypto_channel_profile *profile = l->profile;
    pthread_mutex_unlock(&l->socket->lock);
    if (rv == 0 && !rested) {
        struct pipe *pipe = sp_pipe_start(l->socket, nng_aio_get_output(l->aio, 0), profile, false,
                                          l->expected[0] ? l->expected : NULL);
        if (pipe) {
            sp_pipe_release(pipe);
        }
    }
    pthread_mutex_lock(&l->socket->lock);
    bool closed = l->closed;
    pthread_mutex_unlock(&l->socket->lock);
    if (closed) {
        return;
    }
    if (rv && rv != NNG_ECONNABORTED) {
        l->resting = true; /* no files left, perhaps: not at once again */
        nng_sleep_aio(100, l->aio);
    } else {
        nng_stream_listener_accept(l->listener, l->aio);
    }
}

static void listener_free(struct sp_listener *l)
{
    if (l->aio) {
        nng_aio_stop(l->aio);
        nng_aio_free(l->aio);
    }
    if (l->listener) {
        nng_stream_listener_free(l->listener);
    }
    proto_free(l);
}

int sp_listen(struct sp_socket *socket, const char *url,
              const struct crypto_channel_profile *profile, const char *expected,
              struct sp_listener **ret, uint16_t *ret_port)
{
    char tcp[192];
    int port = 0;
    struct sp_listener *l = tcp_url(url, tcp) ? proto_alloc(1, sizeof *l) : NULL;
    if (!l) {
        return NNG_EADDRINVAL;
    }
    l->socket = socket;
    l->profile = profile;
    snprintf(l->expected, sizeof l->expected, "%s", expected ? expected : "");
    int rv = nng_stream_listener_alloc(&l->listener, tcp);
    rv = rv ? rv : nng_aio_alloc(&l->aio, on_accept, l);
    rv = rv ? rv : nng_stream_listener_listen(l->listener);
    rv = rv ? rv : nng_stream_listener_get_int(l->listener, NNG_OPT_TCP_BOUND_PORT, &port);
    if (rv) {
        listener_free(l);
        return rv;
    }
    pthread_mutex_lock(&socket->lock);
    bool stopping = socket->stopping;
    if (!stopping) {
        l->next = socket->listeners;
        socket->listeners = l;
    }
    pthread_mutex_unlock(&socket->lock);
    if (stopping) {
        listener_free(l);
        return NNG_ECLOSED;
    }
    nng_aio_set_timeout(l->aio, NNG_DURATION_INFINITE);
    nng_stream_listener_accept(l->listener, l->aio);
    *ret = l;
    *ret_port = (uint16_t)port;
    return 0;
}

void sp_listener_renew(struct sp_listener *listener, const struct crypto_channel_profile *profile)
{
    pthread_mutex_lock(&listener->socket->lock);
    listener->profile = profile;
    pthread_mutex_unlock(&listener->socket->lock);
}

/* Its memory goes with the socket's. */
void sp_listener_close(struct sp_listener *l)
{
    pthread_mutex_lock(&l->socket->lock);
    l->closed = true;
    pthread_mutex_unlock(&l->socket->lock);
    nng_stream_listener_close(l->listener);
    nng_aio_cancel(l->aio);
}

static void dial_add(struct sp_socket *socket, struct dialling *d)
{
    pthread_mutex_lock(&socket->lock);
    d->next = socket->dials;
    socket->dials = d;
    if (socket->stopping) {
        nng_aio_cancel(d->aio);
    }
    pthread_mutex_unlock(&socket->lock);
}

static void dial_remove(struct sp_socket *socket, struct dialling *d)
{
    pthread_mutex_lock(&socket->lock);
    for (struct dialling **at = &socket->dials; *at; at = &(*at)->next) {
        if (*at == d) {
            *at = d->next;
            break;
        }
    }
    pthread_cond_broadcast(&socket->changed);
    pthread_mutex_unlock(&socket->lock);
}

/* The greeting has its own limit, so this ends. */
static int wait_up(struct pipe *pipe)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += SP_GREETING_MS / 1000 + 1;
    pthread_mutex_lock(&pipe->lock);
    int late = 0;
    while (!late && !pipe->closed && pipe->stage != STAGE_OPEN) {
        late = pthread_cond_timedwait(&pipe->changed, &pipe->lock, &until);
    }
    int rv = pipe->closed ? pipe->why : pipe->stage == STAGE_OPEN ? 0 : NNG_ETIMEDOUT;
    pthread_mutex_unlock(&pipe->lock);
    if (rv == NNG_ETIMEDOUT) {
        sp_pipe_end(pipe, rv);
    }
    return rv;
}

int sp_dial(struct sp_socket *socket, const char *url, const struct crypto_channel_profile *profile,
            const char *expected, uint32_t limit_ms)
{
    char tcp[192];
    nng_stream_dialer *dialer = NULL;
    struct dialling d = {NULL, NULL};
    int rv = tcp_url(url, tcp) ? nng_stream_dialer_alloc(&dialer, tcp) : NNG_EADDRINVAL;
    if (rv) {
        return rv;
    }
    rv = nng_aio_alloc(&d.aio, NULL, NULL);
    if (rv) {
        nng_stream_dialer_free(dialer);
        return rv;
    }
    nng_aio_set_timeout(d.aio, (nng_duration)limit_ms);
    nng_stream_dialer_dial(dialer, d.aio);
    dial_add(socket, &d);
    nng_aio_wait(d.aio);
    rv = nng_aio_result(d.aio);
    if (rv == 0) {
        struct pipe *pipe =
            sp_pipe_start(socket, nng_aio_get_output(d.aio, 0), profile, true, expected);
        rv = pipe ? wait_up(pipe) : NNG_ENOMEM;
        if (pipe) {
            sp_pipe_release(pipe);
        }
    }
    dial_remove(socket, &d);
    nng_aio_free(d.aio);
    nng_stream_dialer_close(dialer);
    nng_stream_dialer_free(dialer);
    return rv == NNG_ECANCELED ? NNG_ECLOSED : rv;
}

/* --- sockets ------------------------------------------------------------------------------------------------------------------------- */

enum err sp_open(enum sp_kind kind, size_t recv_max, sp_on_pipe *on_pipe, void *user,
                 struct sp_socket **ret)
{
    struct sp_socket *socket = proto_alloc(1, sizeof *socket);
    if (!socket) {
        return E_NO_MEMORY;
    }
    if (pthread_mutex_init(&socket->lock, NULL)) {
        proto_free(socket);
        return E_NO_MEMORY;
    }
    if (pthread_cond_init(&socket->changed, NULL)) {
        pthread_mutex_destroy(&socket->lock);
        proto_free(socket);
        return E_NO_MEMORY;
    }
    socket->kind = kind;
    socket->recv_max = recv_max;
    socket->on_pipe = on_pipe;
    socket->user = user;
    socket->waiting_tail = &socket->waiting;
    *ret = socket;
    return E_OK;
}

/* One pipe at a time, since ending it takes its own lock and may tell that it is down. */
static struct pipe *next_to_end(struct sp_socket *socket)
{
    struct pipe *found = NULL;
    pthread_mutex_lock(&socket->lock);
    for (struct pipe *pipe = socket->pipes; pipe && !found; pipe = pipe->next) {
        if (!sp_pipe_closed(pipe)) {
            sp_pipe_hold(pipe);
            found = pipe;
        }
    }
    pthread_mutex_unlock(&socket->lock);
    return found;
}

void sp_stop(struct sp_socket *socket)
{
    if (!socket) {
        return;
    }
    pthread_mutex_lock(&socket->lock);
    socket->stopping = true;
    for (struct dialling *d = socket->dials; d; d = d->next) {
        nng_aio_cancel(d->aio);
    }
    struct sp_listener *listeners = socket->listeners;
    pthread_mutex_unlock(&socket->lock);
    for (struct sp_listener *l = listeners; l; l = l->next) {
        sp_listener_close(l); /* the list only grows before `stopping` */
    }
    for (struct pipe *pipe; (pipe = next_to_end(socket));) {
        sp_pipe_end(pipe, NNG_ECLOSED);
        sp_pipe_release(pipe);
    }
    for (struct sp_waiter w; (w = next_to_fail(socket, NULL)).done;) {
        sp_tell(w, NNG_ECLOSED, NULL);
    }
}

void sp_sweep(struct sp_socket *socket)
{
    struct pipe *unused = NULL;
    if (!socket) {
        return;
    }
    pthread_mutex_lock(&socket->lock);
    for (struct pipe **at = &socket->dead; *at;) {
        struct pipe *pipe = *at;
        if (atomic_load(&pipe->refs) == 0) {
            *at = pipe->next;
            pipe->next = unused;
            unused = pipe;
        } else {
            at = &pipe->next;
        }
    }
    pthread_mutex_unlock(&socket->lock);
    while (unused) {
        struct pipe *next = unused->next;
        sp_pipe_free(unused);
        unused = next;
    }
}

static void contexts_free(struct sp_socket *socket)
{
    while (socket->contexts) {
        struct sp_ctx *ctx = socket->contexts;
        socket->contexts = ctx->next;
        if (ctx->pipe) {
            sp_pipe_release(ctx->pipe);
        }
        proto_free(ctx);
    }
}

void sp_wait(struct sp_socket *socket)
{
    if (!socket) {
        return;
    }
    while (socket->listeners) { /* nobody accepts after this, so no pipe comes */
        struct sp_listener *l = socket->listeners;
        socket->listeners = l->next;
        listener_free(l);
    }
    pthread_mutex_lock(&socket->lock);
    while (socket->dials || socket->pipes) {
        pthread_cond_wait(&socket->changed, &socket->lock);
    }
    pthread_mutex_unlock(&socket->lock);
}

void sp_close(struct sp_socket *socket)
{
    if (!socket) {
        return;
    }
    sp_stop(socket);
    sp_wait(socket);
    contexts_free(socket);
    while (socket->dead) { /* a callback may still be on its way out */
        sp_sweep(socket);
        if (socket->dead) {
            uv_sleep(1);
        }
    }
    pthread_cond_destroy(&socket->changed);
    pthread_mutex_destroy(&socket->lock);
    proto_free(socket);
}
