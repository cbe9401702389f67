/* How a pipe works: ciphertext comes into `in` by one receive at a time and leaves `out` by one send at a time; between them
 * stands the channel. pump() moves what can be moved, under the pipe's lock, until something has to be done without it:
 * asking whether the pipe may stay, or handing a message over.
 *
 *   GREETING --handshake--> ASKING --on_pipe says yes--> HEADER --8 octets of the other side--> OPEN
 *
 * A pipe that is `closed` submits nothing more. It is over when both operations have called back; then, once, its requests
 * fail, `down` is told, and it waits among the dead until nobody holds it.
 * Locks: socket->lock may be held when pipe->lock is taken, never the other way; registry_lock is held alone. */
#include "config.h"
#include "node/peer/sp.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "proto/alloc.h"
#include "proto/span.h"

#define IN_SIZE     ((size_t)32 << 10)
#define OUT_SIZE    ((size_t)64 << 10)
#define SP_HEADER   8 /* octets: 0 'S' 'P' 0, protocol u16, 0 0 */
#define FRAME_HEAD  8 /* octets: the length that follows, u64 */
#define REQUEST_BIT 0x80000000u
#define SP_STALL_MS 30000 /* nothing of what we send is taken for so long: the pipe is dead */

enum stage {
    STAGE_GREETING,
    STAGE_ASKING,
    STAGE_HEADER,
    STAGE_OPEN,
};

struct outgoing {
    struct outgoing *next;
    nng_aio *aio; /* ends when the last octet went into the channel; NULL: nobody waits */
    size_t len, at;
    uint8_t bytes[];
};

struct pipe {
    struct pipe *next;     /* in its socket */
    struct pipe *next_all; /* in the registry */
    struct sp_socket *socket;
    struct sp_identity who;
    atomic_uint refs; /* its socket's, each operation's, and those of whoever uses it just now */
    uint64_t since_ms;
    bool parked; /* under socket->lock: a message waits for a context */
    bool buried; /* under socket->lock */

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    nng_stream *stream;
    nng_aio *tx, *rx;
    bool tx_busy, rx_busy;
    bool closed, stream_closed;
    bool told_up;
    bool over;
    int why;
    enum stage stage;
    struct crypto_channel *channel;
    bool eof;
    uint8_t in[IN_SIZE];
    size_t in_at, in_len;
    uint8_t out[OUT_SIZE];
    size_t out_at, out_len;
    struct outgoing *queue, **queue_tail;
    uint8_t head[FRAME_HEAD];
    size_t head_len;
    nng_msg *msg; /* being received */
    size_t msg_at;
    bool handing; /* msg is whole and on its way to a context */
};

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

struct sp_socket {
    enum sp_kind kind;
    size_t recv_max;
    sp_on_pipe *on_pipe;
    void *user;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping;
    struct pipe *pipes; /* the newest first */
    struct pipe *dead;
    size_t greeting;
    struct sp_ctx *contexts;
    struct sp_ctx *waiting, **waiting_tail;
    struct sp_listener *listeners;
    struct dialling *dials;
    uint32_t request;
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pipe *registry;
static uint32_t last_pipe;

static void run(struct pipe *pipe);

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* --- life of a pipe --------------------------------------------------------------------------------------------------- */

static void hold(struct pipe *pipe)
{
    atomic_fetch_add(&pipe->refs, 1);
}

/* Never frees: that is sp_sweep's, since an aio must not be freed from its own callback. */
static void release(struct pipe *pipe)
{
    atomic_fetch_sub(&pipe->refs, 1);
}

static void pipe_free(struct pipe *pipe)
{
    if (pipe->tx) {
        nng_aio_free(pipe->tx);
    }
    if (pipe->rx) {
        nng_aio_free(pipe->rx);
    }
    if (pipe->stream) {
        nng_stream_free(pipe->stream);
    }
    if (pipe->channel) {
        crypto_channel_fini(pipe->channel);
        proto_free(pipe->channel);
    }
    if (pipe->msg) {
        nng_msg_free(pipe->msg);
    }
    pthread_cond_destroy(&pipe->changed);
    pthread_mutex_destroy(&pipe->lock);
    proto_free(pipe);
}

/* Lock held. The first reason stands. */
static void break_off(struct pipe *pipe, int why)
{
    if (!pipe->closed) {
        pipe->closed = true;
        pipe->why = why;
        pthread_cond_broadcast(&pipe->changed);
    }
}

/* --- the channel's side of the buffers: lock held ----------------------------------------------------------------------- */

static int bio_send(void *user, const uint8_t *bytes, size_t len)
{
    struct pipe *pipe = user;
    size_t room = OUT_SIZE - pipe->out_len;
    size_t moved = len < room ? len : room;
    memcpy(pipe->out + pipe->out_len, bytes, moved);
    pipe->out_len += moved;
    return (int)moved;
}

static int bio_recv(void *user, uint8_t *bytes, size_t len)
{
    struct pipe *pipe = user;
    size_t there = pipe->in_len - pipe->in_at;
    size_t moved = len < there ? len : there;
    if (moved == 0) {
        return pipe->eof ? -1 : 0;
    }
    memcpy(bytes, pipe->in + pipe->in_at, moved);
    pipe->in_at += moved;
    return (int)moved;
}

static int nng_error(enum err err)
{
    return err == E_IO ? NNG_ECLOSED : err == E_AUTH ? NNG_EPEERAUTH : NNG_ECRYPTO;
}

/* Lock held. */
static void submit_tx(struct pipe *pipe)
{
    if (!pipe->closed && !pipe->tx_busy && pipe->out_at < pipe->out_len) {
        nng_iov iov = {pipe->out + pipe->out_at, pipe->out_len - pipe->out_at};
        pipe->tx_busy = true;
        hold(pipe);
        nng_aio_set_iov(pipe->tx, 1, &iov);
        nng_stream_send(pipe->stream, pipe->tx);
    }
}

/* Lock held. A deadline for the whole greeting, so that an octet a second does not hold a pipe for ever. */
static void submit_rx(struct pipe *pipe)
{
    if (!pipe->closed && !pipe->rx_busy && pipe->in_at == pipe->in_len) {
        nng_iov iov = {pipe->in, IN_SIZE};
        uint64_t until = pipe->since_ms + SP_GREETING_MS, now = now_ms();
        pipe->in_at = pipe->in_len = 0;
        pipe->rx_busy = true;
        hold(pipe);
        nng_aio_set_iov(pipe->rx, 1, &iov);
        nng_aio_set_timeout(pipe->rx, pipe->stage == STAGE_OPEN ? NNG_DURATION_INFINITE
                                      : until > now             ? (nng_duration)(until - now)
                                                                : 1);
        nng_stream_recv(pipe->stream, pipe->rx);
    }
}

static void send_some(struct pipe *pipe)
{
    while (pipe->queue && !pipe->closed) {
        struct outgoing *first = pipe->queue;
        size_t len = first->len - first->at;
        enum err err = crypto_channel_write(pipe->channel, first->bytes + first->at, &len);
        if (err == E_BUSY) {
            return;
        }
        if (err) {
            break_off(pipe, nng_error(err));
            return;
        }
        first->at += len;
        if (first->at == first->len) {
            pipe->queue = first->next;
            if (!pipe->queue) {
                pipe->queue_tail = &pipe->queue;
            }
            if (first->aio) {
                nng_msg_free(nng_aio_get_msg(first->aio));
                nng_aio_set_msg(first->aio, NULL);
                nng_aio_finish(first->aio, 0);
            }
            proto_free(first);
        }
    }
}

/* Reads up to LEN octets to TO; false: no more now. */
static bool read_some(struct pipe *pipe, uint8_t *to, size_t want, size_t *at)
{
    size_t len = want - *at;
    enum err err = crypto_channel_read(pipe->channel, to + *at, &len);
    if (err == E_BUSY) {
        return false;
    }
    if (err) {
        break_off(pipe, nng_error(err));
        return false;
    }
    *at += len;
    return true;
}

static bool header_ok(const struct pipe *pipe)
{
    const uint8_t want[SP_HEADER] = {0, 'S', 'P', 0, 0, pipe->socket->kind == SP_REQ ? 0x31 : 0x30};
    return memcmp(pipe->head, want, SP_HEADER) == 0;
}

/* Lock held. true: a whole message stands in pipe->msg. */
static bool receive_some(struct pipe *pipe)
{
    while (!pipe->closed && !pipe->handing) {
        if (!pipe->msg) {
            if (!read_some(pipe, pipe->head, FRAME_HEAD, &pipe->head_len)) {
                return false;
            }
            if (pipe->head_len < FRAME_HEAD) {
                continue;
            }
            uint64_t len = get_be64(pipe->head);
            pipe->head_len = 0;
            if (len < 4 || len > pipe->socket->recv_max + 4) {
                break_off(pipe, NNG_EMSGSIZE);
            } else if (nng_msg_alloc(&pipe->msg, (size_t)len)) {
                break_off(pipe, NNG_ENOMEM);
            }
            pipe->msg_at = 0;
        } else {
            if (!read_some(pipe, nng_msg_body(pipe->msg), nng_msg_len(pipe->msg), &pipe->msg_at)) {
                return false;
            }
            if (pipe->msg_at == nng_msg_len(pipe->msg)) {
                pipe->handing = true;
                return true;
            }
        }
    }
    return false;
}

static void queue_put(struct pipe *pipe, struct outgoing *item)
{
    item->next = NULL;
    *pipe->queue_tail = item;
    pipe->queue_tail = &item->next;
}

/* Lock held. The greeting of SP; it goes before every message. */
static void header_send(struct pipe *pipe)
{
    struct outgoing *item = proto_alloc(1, sizeof *item + SP_HEADER);
    if (!item) {
        break_off(pipe, NNG_ENOMEM);
        return;
    }
    const uint8_t bytes[SP_HEADER] = {0, 'S', 'P',
                                      0, 0,   pipe->socket->kind == SP_REQ ? 0x30 : 0x31};
    item->len = SP_HEADER;
    memcpy(item->bytes, bytes, SP_HEADER);
    queue_put(pipe, item);
}

enum todo {
    NOTHING,
    ASK,
    TELL_UP,
    HAND_OVER,
};

/* Lock held. */
static enum todo pump(struct pipe *pipe)
{
    enum todo todo = NOTHING;
    if (!pipe->closed && pipe->stage == STAGE_GREETING) {
        enum err err = crypto_channel_handshake(pipe->channel);
        if (!err) {
            pipe->stage = STAGE_ASKING;
            todo = ASK;
        } else if (err != E_BUSY) {
            submit_tx(pipe); /* the alert, if the network takes it at once */
            break_off(pipe, nng_error(err));
        }
    }
    if (!pipe->closed && pipe->stage == STAGE_HEADER) {
        while (pipe->head_len < SP_HEADER &&
               read_some(pipe, pipe->head, SP_HEADER, &pipe->head_len)) {
            continue;
        }
        if (pipe->head_len == SP_HEADER && !header_ok(pipe)) {
            break_off(pipe, NNG_EPROTO);
        } else if (pipe->head_len == SP_HEADER && !pipe->closed) {
            pipe->head_len = 0;
            pipe->stage = STAGE_OPEN;
            pipe->told_up = true;
            todo = TELL_UP;
        }
    } else if (pipe->stage == STAGE_OPEN && receive_some(pipe)) {
        todo = HAND_OVER;
    }
    if (pipe->stage == STAGE_HEADER || pipe->stage == STAGE_OPEN) {
        send_some(pipe);
    }
    submit_tx(pipe);
    submit_rx(pipe);
    return todo;
}

/* --- what is done without the pipe's lock --------------------------------------------------------------------------------- */

static void greeting_over(struct pipe *pipe)
{
    pthread_mutex_lock(&pipe->socket->lock);
    pipe->socket->greeting--;
    pthread_mutex_unlock(&pipe->socket->lock);
}

static void ask(struct pipe *pipe)
{
    const struct crypto_certificate_info *who = crypto_channel_peer(pipe->channel);
    const uint8_t *exporter = crypto_channel_exporter(pipe->channel);
    pipe->who.enrolling = !who;
    if (who) {
        pipe->who.certificate = *who;
    }
    if (exporter) {
        memcpy(pipe->who.exporter, exporter, sizeof pipe->who.exporter);
    }
    bool stays = exporter && pipe->socket->on_pipe(pipe->socket->user, &pipe->who, SP_ASKED);
    pthread_mutex_lock(&pipe->lock);
    if (stays) {
        pipe->stage = STAGE_HEADER;
        pipe->told_up = true; /* whoever said yes is told of the end */
        header_send(pipe);
    } else {
        break_off(pipe, NNG_EPEERAUTH);
    }
    pthread_mutex_unlock(&pipe->lock);
}

static void tell_up(struct pipe *pipe)
{
    pipe->socket->on_pipe(pipe->socket->user, &pipe->who, SP_UP);
    pthread_mutex_lock(&pipe->lock);
    pthread_cond_broadcast(&pipe->changed);
    pthread_mutex_unlock(&pipe->lock);
}

/* The message has found its way: the next one may come. */
static void handed(struct pipe *pipe)
{
    pthread_mutex_lock(&pipe->lock);
    pipe->msg = NULL;
    pipe->handing = false;
    pthread_mutex_unlock(&pipe->lock);
}

static void finish_with(nng_aio *aio, nng_msg *msg)
{
    nng_aio_set_msg(aio, msg);
    nng_aio_finish(aio, 0);
}

static uint32_t take_request_id(nng_msg *msg)
{
    uint32_t id = get_be32(nng_msg_body(msg));
    nng_msg_trim(msg, 4);
    return id;
}

/* Socket's lock held: CTX takes the message of PIPE. */
static void take_request(struct sp_ctx *ctx, struct pipe *pipe, nng_msg *msg)
{
    struct pipe *old = ctx->pipe;
    ctx->pipe = pipe;
    hold(pipe);
    ctx->request = take_request_id(msg);
    atomic_store(&ctx->pipe_id, pipe->who.pipe);
    if (old) {
        release(old);
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
    if (!(get_be32(nng_msg_body(pipe->msg)) & REQUEST_BIT)) {
        pthread_mutex_lock(&pipe->lock);
        break_off(pipe, NNG_EPROTO); /* more hops than one: nobody of ours sends that */
        pthread_mutex_unlock(&pipe->lock);
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
        handed(pipe);
    }
}

static void hand_over_reply(struct pipe *pipe)
{
    struct sp_socket *socket = pipe->socket;
    nng_msg *msg = pipe->msg;
    uint32_t id = take_request_id(msg);
    pthread_mutex_lock(&socket->lock);
    for (struct sp_ctx *ctx = socket->contexts; ctx && msg; ctx = ctx->next) {
        if (ctx->pipe != pipe || ctx->request != id || ctx->reply) {
            continue;
        }
        if (ctx->aio) {
            ctx->pipe = NULL;
            release(pipe);
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
        nng_msg_free(msg); /* its caller gave up */
    }
    handed(pipe);
}

/* Both operations have called back and nothing more will be submitted. Once. */
static void bury(struct pipe *pipe)
{
    struct sp_socket *socket = pipe->socket;
    pthread_mutex_lock(&pipe->lock);
    struct outgoing *left = pipe->queue; /* now cancel_send finds nothing any more */
    pipe->queue = NULL;
    pipe->queue_tail = &pipe->queue;
    pthread_mutex_unlock(&pipe->lock);
    while (left) {
        struct outgoing *next = left->next;
        if (left->aio) {
            nng_aio_finish(left->aio, NNG_ECONNRESET);
        }
        proto_free(left);
        left = next;
    }
    pthread_mutex_lock(&registry_lock);
    for (struct pipe **at = &registry; *at; at = &(*at)->next_all) {
        if (*at == pipe) {
            *at = pipe->next_all;
            break;
        }
    }
    pthread_mutex_unlock(&registry_lock);
    pthread_mutex_lock(&socket->lock);
    pipe->parked = false;
    for (struct sp_ctx *ctx = socket->contexts; ctx; ctx = ctx->next) {
        if (socket->kind == SP_REQ && ctx->pipe == pipe && ctx->aio) {
            nng_aio *aio = ctx->aio;
            ctx->aio = NULL;
            ctx->pipe = NULL;
            release(pipe);
            nng_aio_finish(aio, NNG_ECONNRESET);
        }
    }
    pthread_mutex_unlock(&socket->lock);
    if (pipe->told_up) {
        socket->on_pipe(socket->user, &pipe->who, SP_DOWN);
    }
    pthread_mutex_lock(&socket->lock);
    for (struct pipe **at = &socket->pipes; *at; at = &(*at)->next) {
        if (*at == pipe) {
            *at = pipe->next;
            break;
        }
    }
    pipe->next = socket->dead;
    socket->dead = pipe;
    pipe->buried = true;
    release(pipe); /* its socket's */
    pthread_cond_broadcast(&socket->changed);
    pthread_mutex_unlock(&socket->lock);
}

/* Moves on whatever can be moved. The caller holds the pipe. */
static void run(struct pipe *pipe)
{
    bool greeted = false, over = false;
    pthread_mutex_lock(&pipe->lock);
    for (;;) {
        enum todo todo = pump(pipe);
        if (todo == NOTHING) {
            break;
        }
        pthread_mutex_unlock(&pipe->lock);
        if (todo == ASK) {
            greeted = true;
            ask(pipe);
        } else if (todo == TELL_UP) {
            tell_up(pipe);
        } else if (pipe->socket->kind == SP_REP) {
            hand_over_request(pipe);
        } else {
            hand_over_reply(pipe);
        }
        pthread_mutex_lock(&pipe->lock);
    }
    bool close = pipe->closed && !pipe->stream_closed;
    pipe->stream_closed |= close;
    if (pipe->closed && !pipe->tx_busy && !pipe->rx_busy && !pipe->over) {
        over = pipe->over = true;
        greeted |= pipe->stage == STAGE_GREETING;
    }
    pthread_mutex_unlock(&pipe->lock);
    if (close) {
        nng_stream_close(pipe->stream);
    }
    if (greeted) {
        greeting_over(pipe);
    }
    if (over) {
        bury(pipe);
    }
}

static void on_tx(void *arg)
{
    struct pipe *pipe = arg;
    int rv = nng_aio_result(pipe->tx);
    pthread_mutex_lock(&pipe->lock);
    pipe->tx_busy = false;
    if (rv) {
        break_off(pipe, rv);
    } else {
        pipe->out_at += nng_aio_count(pipe->tx);
        if (pipe->out_at == pipe->out_len) {
            pipe->out_at = pipe->out_len = 0;
        }
    }
    pthread_mutex_unlock(&pipe->lock);
    run(pipe);
    release(pipe);
}

static void on_rx(void *arg)
{
    struct pipe *pipe = arg;
    int rv = nng_aio_result(pipe->rx);
    pthread_mutex_lock(&pipe->lock);
    pipe->rx_busy = false;
    if (rv) {
        pipe->eof = true;
        break_off(pipe, rv);
    } else {
        pipe->in_at = 0;
        pipe->in_len = nng_aio_count(pipe->rx);
    }
    pthread_mutex_unlock(&pipe->lock);
    run(pipe);
    release(pipe);
}

static void pipe_end(struct pipe *pipe, int why)
{
    pthread_mutex_lock(&pipe->lock);
    break_off(pipe, why);
    pthread_mutex_unlock(&pipe->lock);
    run(pipe);
}

static struct pipe *pipe_make(const struct crypto_channel_profile *profile, bool outgoing,
                              const char *expected)
{
    struct pipe *pipe = proto_alloc(1, sizeof *pipe);
    if (!pipe) {
        return NULL;
    }
    pthread_mutex_init(&pipe->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pipe->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pipe->queue_tail = &pipe->queue;
    pipe->who.outgoing = outgoing;
    pipe->since_ms = now_ms();
    pipe->channel = proto_alloc(1, crypto_channel_size());
    struct crypto_channel_io io = {bio_send, bio_recv, pipe};
    if (pipe->channel && crypto_channel_init(pipe->channel, profile, !outgoing, expected, io)) {
        proto_free(pipe->channel);
        pipe->channel = NULL;
    }
    if (!pipe->channel || nng_aio_alloc(&pipe->tx, on_tx, pipe) ||
        nng_aio_alloc(&pipe->rx, on_rx, pipe)) {
        pipe_free(pipe);
        return NULL;
    }
    nng_aio_set_timeout(pipe->tx, SP_STALL_MS);
    return pipe;
}

/* Takes STREAM, whatever happens. The caller gets a hold on the pipe, or NULL. */
static struct pipe *pipe_start(struct sp_socket *socket, nng_stream *stream,
                               const struct crypto_channel_profile *profile, bool outgoing,
                               const char *expected)
{
    struct pipe *pipe = pipe_make(profile, outgoing, expected);
    if (!pipe) {
        nng_stream_close(stream);
        nng_stream_free(stream);
        return NULL;
    }
    pipe->stream = stream;
    pipe->socket = socket;
    nng_stream_set_bool(stream, NNG_OPT_TCP_NODELAY, true);
    nng_stream_set_bool(stream, NNG_OPT_TCP_KEEPALIVE, true);
    atomic_store(&pipe->refs, 2);
    pthread_mutex_lock(&registry_lock);
    pipe->who.pipe = ++last_pipe;
    pipe->next_all = registry;
    registry = pipe;
    pthread_mutex_unlock(&registry_lock);
    pthread_mutex_lock(&socket->lock);
    bool refused = socket->stopping || socket->greeting >= SP_GREETING_MAX;
    pipe->next = socket->pipes;
    socket->pipes = pipe;
    socket->greeting++;
    pthread_mutex_unlock(&socket->lock);
    if (refused) {
        pipe_end(pipe, NNG_ECLOSED);
    } else {
        run(pipe);
    }
    return pipe;
}

void sp_pipe_close(uint32_t id)
{
    struct pipe *pipe;
    pthread_mutex_lock(&registry_lock);
    for (pipe = registry; pipe && pipe->who.pipe != id; pipe = pipe->next_all) {
    }
    if (pipe) {
        hold(pipe);
    }
    pthread_mutex_unlock(&registry_lock);
    if (pipe) {
        pipe_end(pipe, NNG_ECLOSED);
        release(pipe);
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

/* PIPE is held by the caller, and again by nobody: cancel_send runs only while the aio is in its queue. */
static void send_on(struct pipe *pipe, uint32_t request, nng_aio *aio)
{
    nng_msg *msg = nng_aio_get_msg(aio);
    size_t len = nng_msg_len(msg);
    struct outgoing *item = proto_alloc(1, sizeof *item + FRAME_HEAD + 4 + len);
    if (!item) {
        nng_aio_finish(aio, NNG_ENOMEM);
        return;
    }
    item->len = FRAME_HEAD + 4 + len;
    put_be64(item->bytes, 4 + len);
    put_be32(item->bytes + FRAME_HEAD, request);
    memcpy(item->bytes + FRAME_HEAD + 4, nng_msg_body(msg), len);
    item->aio = aio;
    pthread_mutex_lock(&pipe->lock);
    bool closed = pipe->closed;
    if (!closed) {
        nng_aio_defer(aio, cancel_send, pipe);
        queue_put(pipe, item);
    }
    pthread_mutex_unlock(&pipe->lock);
    if (closed) {
        proto_free(item);
        nng_aio_finish(aio, NNG_ECONNRESET);
        return;
    }
    run(pipe);
}

/* The pipe of the reply is gone: nobody waits for it. */
static void drop_reply(nng_aio *aio)
{
    nng_msg_free(nng_aio_get_msg(aio));
    nng_aio_set_msg(aio, NULL);
    nng_aio_finish(aio, 0);
}

static bool is_over(struct pipe *pipe)
{
    pthread_mutex_lock(&pipe->lock);
    bool closed = pipe->closed;
    pthread_mutex_unlock(&pipe->lock);
    return closed;
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
    if (is_over(pipe)) {
        drop_reply(aio);
    } else {
        send_on(pipe, ctx->request, aio);
    }
    release(pipe);
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
        hold(pipe); /* the context's */
        hold(pipe); /* ours */
        ctx->request = REQUEST_BIT | ++socket->request;
    }
    uint32_t request = ctx->request;
    pthread_mutex_unlock(&socket->lock);
    if (old) {
        release(old);
    }
    if (unread) {
        nng_msg_free(unread);
    }
    if (!pipe) {
        nng_aio_finish(aio, NNG_ECLOSED);
        return;
    }
    send_on(pipe, request, aio);
    release(pipe);
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
            hold(pipe);
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
        handed(parked);
        run(parked);
        release(parked);
    }
}

static void reply_recv(struct sp_ctx *ctx, nng_aio *aio)
{
    struct sp_socket *socket = ctx->socket;
    pthread_mutex_lock(&socket->lock);
    struct pipe *pipe = ctx->pipe;
    nng_msg *reply = ctx->reply;
    bool wait = pipe && !reply && !pipe->buried && !socket->stopping;
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
        release(pipe);
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
        struct pipe *pipe = pipe_start(l->socket, nng_aio_get_output(l->aio, 0), profile, false,
                                       l->expected[0] ? l->expected : NULL);
        if (pipe) {
            release(pipe);
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

static void listener_end(struct sp_listener *l)
{
    pthread_mutex_lock(&l->socket->lock);
    l->closed = true;
    pthread_mutex_unlock(&l->socket->lock);
    nng_stream_listener_close(l->listener);
    nng_aio_cancel(l->aio);
}

/* Its memory goes with the socket's. */
void sp_listener_close(struct sp_listener *listener)
{
    listener_end(listener);
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
        pipe_end(pipe, rv);
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
            pipe_start(socket, nng_aio_get_output(d.aio, 0), profile, true, expected);
        rv = pipe ? wait_up(pipe) : NNG_ENOMEM;
        if (pipe) {
            release(pipe);
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
        if (!is_over(pipe)) {
            hold(pipe);
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
        listener_end(l); /* the list only grows before `stopping` */
    }
    for (struct pipe *pipe; (pipe = next_to_end(socket));) {
        pipe_end(pipe, NNG_ECLOSED);
        release(pipe);
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
        pipe_free(unused);
        unused = next;
    }
}

static void contexts_free(struct sp_socket *socket)
{
    while (socket->contexts) {
        struct sp_ctx *ctx = socket->contexts;
        socket->contexts = ctx->next;
        if (ctx->pipe) {
            release(ctx->pipe);
        }
        if (ctx->reply) {
            nng_msg_free(ctx->reply);
        }
        proto_free(ctx);
    }
}

void sp_close(struct sp_socket *socket)
{
    if (!socket) {
        return;
    }
    sp_stop(socket);
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
