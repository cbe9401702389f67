/* How a pipe works: ciphertext comes into `in` by one receive at a time and leaves `out` by one send at a time; between them
 * stands the channel. pump() moves what can be moved, under the pipe's lock, until something has to be done without it:
 * asking whether the pipe may stay, or handing a message over.
 *
 *   GREETING --handshake--> ASKING --on_pipe says yes--> HEADER --8 octets of the other side--> OPEN
 *
 * A pipe that is `closed` submits nothing more. It is over when both operations have called back and no thread is `outside`,
 * which keeps `asked`, `up` and `down` in their order; then, once, its requests fail, `down` is told, and it waits among the
 * dead until nobody holds it. Its socket is not touched after that.
 * Locks: sp_internal.h. */
#include "config.h"
#include "node/peer/sp_internal.h"

#include <string.h>
#include <time.h>
#include <uv.h>

#include "proto/alloc.h"
#include "proto/span.h"

#define SP_STALL_MS 30000 /* nothing of what we send is taken for so long: the pipe is dead */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pipe *registry;
static uint32_t last_pipe;

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* --- life of a pipe --------------------------------------------------------------------------------------------------- */

void sp_pipe_hold(struct pipe *pipe)
{
    atomic_fetch_add(&pipe->refs, 1);
}

void sp_pipe_release(struct pipe *pipe)
{
    atomic_fetch_sub(&pipe->refs, 1);
}

void sp_pipe_free(struct pipe *pipe)
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
        proto_free(pipe->msg);
    }
    proto_free(pipe->in.bytes);
    proto_free(pipe->out.bytes);
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

/* --- buffers: lock held ------------------------------------------------------------------------------------------------- */

static bool buffer_make(struct sp_buffer *buffer, size_t size)
{
    uint8_t *bytes = proto_alloc_raw(size, 1);
    if (bytes) {
        proto_free(buffer->bytes);
        *buffer = (struct sp_buffer){.bytes = bytes, .size = size};
    }
    return bytes != NULL;
}

/* What was in it is through. When it was full there is more to come: fewer turns take less of both processors. */
static void buffer_next(struct sp_buffer *buffer)
{
    size_t used = buffer->len;
    buffer->at = buffer->len = 0;
    if (buffer->size == SP_BUFFER_SMALL) {
        if (used == buffer->size) {
            (void)buffer_make(buffer, SP_BUFFER_LARGE);
        }
        return;
    }
    buffer->quiet = used > SP_BUFFER_SMALL ? 0 : buffer->quiet + 1;
    if (buffer->quiet >= SP_BUFFER_QUIET) {
        (void)buffer_make(buffer, SP_BUFFER_SMALL);
    }
}

/* --- the channel's side of the buffers: lock held ----------------------------------------------------------------------- */

static int bio_send(void *user, const uint8_t *bytes, size_t len)
{
    struct pipe *pipe = user;
    size_t room = pipe->out.size - pipe->out.len;
    size_t moved = len < room ? len : room;
    memcpy(pipe->out.bytes + pipe->out.len, bytes, moved);
    pipe->out.len += moved;
    return (int)moved;
}

static int bio_recv(void *user, uint8_t *bytes, size_t len)
{
    struct pipe *pipe = user;
    size_t there = pipe->in.len - pipe->in.at;
    size_t moved = len < there ? len : there;
    memcpy(bytes, pipe->in.bytes + pipe->in.at, moved);
    pipe->in.at += moved;
    return (int)moved;
}

static int nng_error(enum err err)
{
    return err == E_IO ? NNG_ECLOSED : err == E_AUTH ? NNG_EPEERAUTH : NNG_ECRYPTO;
}

/* Lock held. */
static void submit_tx(struct pipe *pipe)
{
    if (!pipe->closed && !pipe->tx_busy && pipe->out.at < pipe->out.len) {
        nng_iov iov = {pipe->out.bytes + pipe->out.at, pipe->out.len - pipe->out.at};
        pipe->tx_busy = true;
        sp_pipe_hold(pipe);
        nng_aio_set_iov(pipe->tx, 1, &iov);
        nng_stream_send(pipe->stream, pipe->tx);
    }
}

/* Lock held. A deadline for the whole greeting, so that an octet a second does not hold a pipe for ever. */
static void submit_rx(struct pipe *pipe)
{
    if (!pipe->closed && !pipe->rx_busy && pipe->in.at == pipe->in.len) {
        uint64_t until = pipe->since_ms + SP_GREETING_MS, now = now_ms();
        buffer_next(&pipe->in);
        nng_iov iov = {pipe->in.bytes, pipe->in.size};
        pipe->rx_busy = true;
        sp_pipe_hold(pipe);
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
        size_t own = first->len - first->lent.len;
        bool lent = first->at >= own;
        const uint8_t *from = lent ? first->lent.ptr + (first->at - own) : first->bytes + first->at;
        size_t len = (lent ? first->len : own) - first->at;
        enum err err = crypto_channel_write(pipe->channel, from, &len);
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
            pipe->queued -= first->len;
            if (!pipe->queue) {
                pipe->queue_tail = &pipe->queue;
            }
            first->next = pipe->sent;
            pipe->sent = first;
        }
    }
}

/* Reads towards the WANT octets of TO, of which *AT are there; false: no more now. */
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

/* Not filled yet. */
static struct sp_message *message_new(size_t len)
{
    struct sp_message *msg = proto_alloc_raw(1, sizeof *msg + len);
    if (msg) {
        msg->bytes = span_of(msg->room, len);
    }
    return msg;
}

/* Lock held. true: a whole message stands in pipe->msg. */
static bool receive_some(struct pipe *pipe)
{
    while (!pipe->closed && !pipe->handing) {
        if (!pipe->msg) {
            size_t len;
            if (!read_some(pipe, pipe->head, PEER_FRAME_SP_HEAD, &pipe->head_len)) {
                return false;
            }
            if (pipe->head_len < PEER_FRAME_SP_HEAD) {
                continue;
            }
            pipe->head_len = 0;
            if (peer_frame_sp_length(pipe->head, pipe->socket->recv_max, &len)) {
                break_off(pipe, NNG_EMSGSIZE);
            } else if (!(pipe->msg = message_new(len))) {
                break_off(pipe, NNG_ENOMEM);
            }
            pipe->msg_at = 0;
        } else {
            if (!read_some(pipe, pipe->msg->room, pipe->msg->bytes.len, &pipe->msg_at)) {
                return false;
            }
            if (pipe->msg_at == pipe->msg->bytes.len) {
                pipe->handing = true;
                return true;
            }
        }
    }
    return false;
}

bool sp_pipe_put(struct pipe *pipe, struct outgoing *item)
{
    if (item->len > SP_QUEUE_MAX - pipe->queued) {
        break_off(pipe, NNG_ETIMEDOUT);
        return false;
    }
    item->next = NULL;
    *pipe->queue_tail = item;
    pipe->queue_tail = &item->next;
    pipe->queued += item->len;
    return true;
}

/* Lock held. The greeting of SP; it goes before every message. */
static void header_send(struct pipe *pipe)
{
    struct outgoing *item = proto_alloc(1, sizeof *item + PEER_FRAME_SP_HEAD);
    if (!item) {
        break_off(pipe, NNG_ENOMEM);
        return;
    }
    item->len = PEER_FRAME_SP_HEAD;
    peer_frame_sp_greeting(pipe->socket->kind == SP_REP, item->bytes);
    (void)sp_pipe_put(pipe, item); /* the first one: there is room */
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
        while (pipe->head_len < PEER_FRAME_SP_HEAD &&
               read_some(pipe, pipe->head, PEER_FRAME_SP_HEAD, &pipe->head_len)) {
            continue;
        }
        if (pipe->head_len == PEER_FRAME_SP_HEAD) {
            pipe->head_len = 0;
            if (peer_frame_sp_greeted(pipe->head, pipe->socket->kind == SP_REQ)) {
                pipe->stage = STAGE_OPEN;
                todo = TELL_UP;
            } else {
                break_off(pipe, NNG_EPROTO);
            }
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
        pipe->admitted = true;
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

void sp_pipe_handed(struct pipe *pipe)
{
    pthread_mutex_lock(&pipe->lock);
    pipe->msg = NULL;
    pipe->handing = false;
    pthread_mutex_unlock(&pipe->lock);
}

static void tell_all(struct outgoing *item, int rv)
{
    while (item) {
        struct outgoing *next = item->next;
        sp_tell(item->waiter, rv, NULL);
        proto_free(item);
        item = next;
    }
}

/* Nothing of the pipe runs and nothing more will be submitted. Once. */
static void bury(struct pipe *pipe)
{
    struct sp_socket *socket = pipe->socket;
    pthread_mutex_lock(&pipe->lock);
    struct outgoing *left = pipe->queue;
    pipe->queue = NULL;
    pipe->queue_tail = &pipe->queue;
    pthread_mutex_unlock(&pipe->lock);
    tell_all(left, NNG_ECONNRESET);
    pthread_mutex_lock(&registry_lock);
    for (struct pipe **at = &registry; *at; at = &(*at)->next_all) {
        if (*at == pipe) {
            *at = pipe->next_all;
            break;
        }
    }
    pthread_mutex_unlock(&registry_lock);
    sp_fail_exchanges(pipe);
    if (pipe->admitted) {
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
    sp_pipe_release(pipe); /* its socket's */
    pthread_cond_broadcast(&socket->changed);
    pthread_mutex_unlock(&socket->lock);
}

static void do_outside(struct pipe *pipe, enum todo todo)
{
    switch (todo) {
    case ASK:
        greeting_over(pipe);
        ask(pipe);
        break;
    case TELL_UP:
        tell_up(pipe);
        break;
    case HAND_OVER:
        sp_hand_over(pipe);
        break;
    default:
        break;
    }
}

void sp_pipe_run(struct pipe *pipe)
{
    pthread_mutex_lock(&pipe->lock);
    for (enum todo todo = pump(pipe); todo != NOTHING || pipe->sent; todo = pump(pipe)) {
        struct outgoing *sent = pipe->sent;
        pipe->sent = NULL;
        pipe->outside++;
        pthread_mutex_unlock(&pipe->lock);
        tell_all(sent, 0);
        do_outside(pipe, todo);
        pthread_mutex_lock(&pipe->lock);
        pipe->outside--;
    }
    bool close = pipe->closed && !pipe->stream_closed;
    bool over = pipe->closed && !pipe->tx_busy && !pipe->rx_busy && !pipe->outside && !pipe->over;
    bool greeting = pipe->stage == STAGE_GREETING;
    pipe->stream_closed |= close;
    pipe->over |= over;
    pthread_mutex_unlock(&pipe->lock);
    if (close) {
        nng_stream_close(pipe->stream);
    }
    if (over && greeting) {
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
        pipe->out.at += nng_aio_count(pipe->tx);
        if (pipe->out.at == pipe->out.len) {
            buffer_next(&pipe->out);
        }
    }
    pthread_mutex_unlock(&pipe->lock);
    sp_pipe_run(pipe);
    sp_pipe_release(pipe);
}

static void on_rx(void *arg)
{
    struct pipe *pipe = arg;
    int rv = nng_aio_result(pipe->rx);
    pthread_mutex_lock(&pipe->lock);
    pipe->rx_busy = false;
    if (rv) {
        break_off(pipe, rv);
    } else {
        pipe->in.at = 0;
        pipe->in.len = nng_aio_count(pipe->rx);
    }
    pthread_mutex_unlock(&pipe->lock);
    sp_pipe_run(pipe);
    sp_pipe_release(pipe);
}

void sp_pipe_end(struct pipe *pipe, int why)
{
    pthread_mutex_lock(&pipe->lock);
    break_off(pipe, why);
    pthread_mutex_unlock(&pipe->lock);
    sp_pipe_run(pipe);
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
    if (!pipe->channel || !buffer_make(&pipe->in, SP_BUFFER_SMALL) ||
        !buffer_make(&pipe->out, SP_BUFFER_SMALL) || nng_aio_alloc(&pipe->tx, on_tx, pipe) ||
        nng_aio_alloc(&pipe->rx, on_rx, pipe)) {
        sp_pipe_free(pipe);
        return NULL;
    }
    nng_aio_set_timeout(pipe->tx, SP_STALL_MS);
    return pipe;
}

/* Socket's lock held. What gives way to a newcomer: an honest handshake takes milliseconds, so whoever fills the places with
 * silent connections loses those first. Held for the caller. */
static struct pipe *oldest_greeting(struct sp_socket *socket)
{
    struct pipe *oldest = NULL;
    for (struct pipe *pipe = socket->pipes; pipe; pipe = pipe->next) {
        pthread_mutex_lock(&pipe->lock);
        if (pipe->stage == STAGE_GREETING && !pipe->closed && !pipe->who.outgoing) {
            oldest = pipe; /* the newest come first */
        }
        pthread_mutex_unlock(&pipe->lock);
    }
    if (oldest) {
        sp_pipe_hold(oldest);
    }
    return oldest;
}

struct pipe *sp_pipe_start(struct sp_socket *socket, nng_stream *stream,
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
    bool refused = socket->stopping;
    struct pipe *oldest = socket->greeting >= SP_GREETING_MAX ? oldest_greeting(socket) : NULL;
    pipe->next = socket->pipes;
    socket->pipes = pipe;
    socket->greeting++;
    pthread_mutex_unlock(&socket->lock);
    if (oldest) {
        sp_pipe_end(oldest, NNG_ECLOSED);
        sp_pipe_release(oldest);
    }
    if (refused) {
        sp_pipe_end(pipe, NNG_ECLOSED);
    } else {
        sp_pipe_run(pipe);
    }
    return pipe;
}

void sp_pipe_close(uint32_t id)
{
    struct pipe *pipe;
    pthread_mutex_lock(&registry_lock);
    pipe = registry;
    while (pipe && pipe->who.pipe != id) {
        pipe = pipe->next_all;
    }
    if (pipe) {
        sp_pipe_hold(pipe);
    }
    pthread_mutex_unlock(&registry_lock);
    if (pipe) {
        sp_pipe_end(pipe, NNG_ECLOSED);
        sp_pipe_release(pipe);
    }
}

bool sp_pipe_closed(struct pipe *pipe)
{
    pthread_mutex_lock(&pipe->lock);
    bool closed = pipe->closed;
    pthread_mutex_unlock(&pipe->lock);
    return closed;
}
