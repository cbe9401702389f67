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
    nng_aio *aio;   /* that waits for a message */
    nng_msg *reply; /* came before anybody waited */
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

static void finish_with(nng_aio *aio, nng_msg *msg)
{
    nng_aio_set_msg(aio, msg);
    nng_aio_finish(aio, 0);
}

/* Socket's lock held: CTX takes the message of PIPE. */
static void take_request(struct sp_ctx *ctx, struct pipe *pipe, nng_msg *msg)
{
    struct pipe *old = ctx->pipe;
    ctx->pipe = pipe;
    sp_pipe_hold(pipe);
    (void)!peer_frame_sp_id(nng_msg_body(msg), &ctx->request); /* hand_over_request has looked */
    nng_msg_trim(msg, PEER_FRAME_SP_ID);
    atomic_store(&ctx->pipe_id, pipe->who.pipe);
    if (old) {
        sp_pipe_release(old);
    }
    nng_aio *aio = ctx->aio;
    ctx->aio = NULL;
    finish_with(aio, msg);
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

static bool waiting_remove(struct sp_socket *socket, struct sp_ctx *ctx)
{
    for (struct sp_ctx **at = &socket->waiting; *at; at = &(*at)->next_waiting) {
        if (*at == ctx) {
            *at = ctx->next_waiting;
            if (!*at) {
                socket->waiting_tail = at;
            }
            return true;
        }
    }
    return false;
}

static void hand_over_request(struct pipe *pipe)
{
    struct sp_socket *socket = pipe->socket;
    uint32_t id;
    if (peer_frame_sp_id(nng_msg_body(pipe->msg), &id)) {
        sp_pipe_end(pipe, NNG_EPROTO);
        return;
    }
    pthread_mutex_lock(&socket->lock);
    struct sp_ctx *ctx = waiting_pop(socket);
    if (ctx) {
        take_request(ctx, pipe, pipe->msg);
    } else {
        pipe->parked = true;
    }
    pthread_mutex_unlock(&socket->lock);
    if (ctx) {
        sp_pipe_handed(pipe);
    }
}

static void hand_over_reply(struct pipe *pipe)
{
    struct sp_socket *socket = pipe->socket;
    nng_msg *msg = pipe->msg;
    uint32_t id;
    bool known = !peer_frame_sp_id(nng_msg_body(msg), &id);
    nng_msg_trim(msg, PEER_FRAME_SP_ID);
    pthread_mutex_lock(&socket->lock);
    for (struct sp_ctx *ctx = socket->contexts; ctx && msg && known; ctx = ctx->next) {
        if (ctx->pipe != pipe || ctx->request != id || ctx->reply) {
            continue;
        }
        if (ctx->aio) {
            ctx->pipe = NULL;
            sp_pipe_release(pipe);
            nng_aio *aio = ctx->aio;
            ctx->aio = NULL;
            finish_with(aio, msg);
        } else {
            ctx->reply = msg;
        }
        msg = NULL;
    }
    pthread_mutex_unlock(&socket->lock);
    if (msg) {
        nng_msg_free(msg); /* its caller gave up, or there never was one */
    }
    sp_pipe_handed(pipe);
}

void sp_hand_over(struct pipe *pipe)
{
    if (pipe->socket->kind == SP_REP) {
        hand_over_request(pipe);
    } else {
        hand_over_reply(pipe);
    }
}

void sp_fail_exchanges(struct pipe *pipe)
{
    struct sp_socket *socket = pipe->socket;
    pthread_mutex_lock(&socket->lock);
    pipe->parked = false;
    pipe->failed = true;
    for (struct sp_ctx *ctx = socket->contexts; ctx; ctx = ctx->next) {
        if (socket->kind == SP_REQ && ctx->pipe == pipe && ctx->aio) {
            nng_aio *aio = ctx->aio;
            ctx->aio = NULL;
            ctx->pipe = NULL;
            sp_pipe_release(pipe);
            nng_aio_finish(aio, NNG_ECONNRESET);
        }
    }
    pthread_mutex_unlock(&socket->lock);
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

/* NNG calls it when the aio's time is over or it was cancelled, with no lock held. */
static void cancel_send(nng_aio *aio, void *arg, int rv)
{
    struct pipe *pipe = arg;
    bool found = false;
    pthread_mutex_lock(&pipe->lock);
    for (struct outgoing *item = pipe->queue; item && !found; item = item->next) {
        if (item->aio == aio) {
            item->aio =
                NULL; /* the octets go on: the other side could not make sense of half a message */
            found = true;
        }
    }
    pthread_mutex_unlock(&pipe->lock);
    if (found) {
        nng_aio_finish(aio, rv);
    }
}

static void cancel_recv(nng_aio *aio, void *arg, int rv)
{
    struct sp_ctx *ctx = arg;
    pthread_mutex_lock(&ctx->socket->lock);
    bool found = ctx->aio == aio;
    if (found) {
        ctx->aio = NULL;
        waiting_remove(ctx->socket, ctx);
    }
    pthread_mutex_unlock(&ctx->socket->lock);
    if (found) {
        nng_aio_finish(aio, rv);
    }
}

/* PIPE is held by the caller. cancel_send finds nothing once the item has left the queue. */
static void send_on(struct pipe *pipe, uint32_t request, nng_aio *aio)
{
    nng_msg *msg = nng_aio_get_msg(aio);
    size_t len = nng_msg_len(msg);
    struct outgoing *item =
        proto_alloc(1, sizeof *item + PEER_FRAME_SP_HEAD + PEER_FRAME_SP_ID + len);
    if (!item) {
        nng_aio_finish(aio, NNG_ENOMEM);
        return;
    }
    item->len = PEER_FRAME_SP_HEAD + PEER_FRAME_SP_ID + len;
    put_be64(item->bytes, PEER_FRAME_SP_ID + len);
    put_be32(item->bytes + PEER_FRAME_SP_HEAD, request);
    memcpy(item->bytes + PEER_FRAME_SP_HEAD + PEER_FRAME_SP_ID, nng_msg_body(msg), len);
    item->aio = aio;
    pthread_mutex_lock(&pipe->lock);
    bool taken = !pipe->closed && sp_pipe_put(pipe, item);
    if (taken) {
        nng_aio_defer(aio, cancel_send, pipe);
    }
    pthread_mutex_unlock(&pipe->lock);
    if (!taken) {
        proto_free(item);
        nng_aio_finish(aio, NNG_ECONNRESET);
    }
    sp_pipe_run(pipe);
}

/* The pipe of the reply is gone: nobody waits for it. */
static void drop_reply(nng_aio *aio)
{
    nng_msg_free(nng_aio_get_msg(aio));
    nng_aio_set_msg(aio, NULL);
    nng_aio_finish(aio, 0);
}

static void reply_send(struct sp_ctx *ctx, nng_aio *aio)
{
    struct sp_socket *socket = ctx->socket;
    pthread_mutex_lock(&socket->lock);
    struct pipe *pipe = ctx->pipe; /* our hold on it is the context's now */
    ctx->pipe = NULL;
    pthread_mutex_unlock(&socket->lock);
    if (!pipe) {
        nng_aio_finish(aio, NNG_ESTATE);
        return;
    }
    if (sp_pipe_closed(pipe)) {
        drop_reply(aio);
    } else {
        send_on(pipe, ctx->request, aio);
    }
    sp_pipe_release(pipe);
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

static void request_send(struct sp_ctx *ctx, nng_aio *aio)
{
    struct sp_socket *socket = ctx->socket;
    pthread_mutex_lock(&socket->lock);
    struct pipe *old = ctx->pipe;
    nng_msg *unread = ctx->reply;
    struct pipe *pipe = socket->stopping ? NULL : pipe_for_request(socket);
    ctx->reply = NULL;
    ctx->pipe = pipe;
    if (pipe) {
        sp_pipe_hold(pipe); /* the context's */
        sp_pipe_hold(pipe); /* ours */
        ctx->request = REQUEST_BIT | ++socket->request;
    }
    uint32_t request = ctx->request;
    pthread_mutex_unlock(&socket->lock);
    if (old) {
        sp_pipe_release(old);
    }
    if (unread) {
        nng_msg_free(unread);
    }
    if (!pipe) {
        nng_aio_finish(aio, NNG_ECLOSED);
        return;
    }
    send_on(pipe, request, aio);
    sp_pipe_release(pipe);
}

void sp_ctx_send(struct sp_ctx *ctx, nng_aio *aio)
{
    if (!nng_aio_begin(aio)) {
        return;
    }
    if (ctx->socket->kind == SP_REP) {
        reply_send(ctx, aio);
    } else {
        request_send(ctx, aio);
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

static void request_recv(struct sp_ctx *ctx, nng_aio *aio)
{
    struct sp_socket *socket = ctx->socket;
    struct pipe *parked = NULL;
    pthread_mutex_lock(&socket->lock);
    bool stopping = socket->stopping;
    if (!stopping) {
        nng_aio_defer(aio, cancel_recv, ctx);
        ctx->aio = aio;
        parked = parked_take(socket);
        if (parked) {
            take_request(ctx, parked, parked->msg);
        } else {
            ctx->next_waiting = NULL;
            *socket->waiting_tail = ctx;
            socket->waiting_tail = &ctx->next_waiting;
        }
    }
    pthread_mutex_unlock(&socket->lock);
    if (stopping) {
        nng_aio_finish(aio, NNG_ECLOSED);
    } else if (parked) {
        sp_pipe_handed(parked);
        sp_pipe_run(parked);
        sp_pipe_release(parked);
    }
}

static void reply_recv(struct sp_ctx *ctx, nng_aio *aio)
{
    struct sp_socket *socket = ctx->socket;
    pthread_mutex_lock(&socket->lock);
    struct pipe *pipe = ctx->pipe;
    nng_msg *reply = ctx->reply;
    bool wait = pipe && !reply && !pipe->failed && !socket->stopping;
    if (wait) {
        nng_aio_defer(aio, cancel_recv, ctx);
        ctx->aio = aio;
    } else {
        ctx->reply = NULL;
        ctx->pipe = NULL;
    }
    bool stopping = socket->stopping;
    pthread_mutex_unlock(&socket->lock);
    if (wait) {
        return;
    }
    if (pipe) {
        sp_pipe_release(pipe);
    }
    if (reply) {
        finish_with(aio, reply);
    } else {
        nng_aio_finish(aio, stopping ? NNG_ECLOSED : pipe ? NNG_ECONNRESET : NNG_ESTATE);
    }
}

void sp_ctx_recv(struct sp_ctx *ctx, nng_aio *aio)
{
    if (!nng_aio_begin(aio)) {
        return;
    }
    if (ctx->socket->kind == SP_REP) {
        request_recv(ctx, aio);
    } else {
        reply_recv(ctx, aio);
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
    pthread_mutex_lock(&socket->lock);
    for (struct sp_ctx *ctx = socket->contexts; ctx; ctx = ctx->next) {
        if (ctx->aio) {
            nng_aio *aio = ctx->aio;
            ctx->aio = NULL;
            waiting_remove(socket, ctx);
            nng_aio_finish(aio, NNG_ECLOSED);
        }
    }
    pthread_mutex_unlock(&socket->lock);
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
        if (ctx->reply) {
            nng_msg_free(ctx->reply);
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
