/* What sp.c (sockets, contexts, listeners, dialling) and sp_pipe.c (one connection) share; nobody else includes it.
 * Locks: socket->lock may be held when pipe->lock is taken, never the other way; the registry's lock is held alone. */
#ifndef CONCORDAT_NODE_PEER_SP_INTERNAL_H
#define CONCORDAT_NODE_PEER_SP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "node/peer/frame.h"
#include "node/peer/sp.h"

#define SP_BUFFER_SMALL ((size_t)16 << 10)  /* what a pipe has for each direction */
#define SP_BUFFER_LARGE ((size_t)256 << 10) /* while much comes through */
#define SP_BUFFER_QUIET 16 /* turns in a row that a small one would do for: it is small again */
#define SP_QUEUE_MAX                                                                               \
    ((size_t)16 << 20) /* octets that wait to be sent; beyond it the other side does not read */

enum stage {
    STAGE_GREETING,
    STAGE_ASKING,
    STAGE_HEADER,
    STAGE_OPEN,
};

/* Who is told how an operation ended; `done` NULL: nobody. Taken under a lock, told without one. */
struct sp_waiter {
    sp_done *done;
    void *user;
};

static inline void sp_tell(struct sp_waiter waiter, int rv, struct sp_message *msg)
{
    if (waiter.done) {
        waiter.done(waiter.user, rv, msg);
    } else if (msg) {
        proto_free(msg);
    }
}

/* Ciphertext on its way. */
struct sp_buffer {
    uint8_t *bytes;
    size_t size;
    size_t at, len; /* what is in it */
    unsigned quiet;
};

struct outgoing {
    struct outgoing *next;
    struct sp_waiter waiter; /* for the last octet */
    size_t len, at;          /* of both: what stands in BYTES, and behind it LENT */
    struct span lent;        /* there until the waiter is told */
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

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    nng_stream *stream;
    nng_aio *tx, *rx;
    bool tx_busy, rx_busy;
    bool closed, stream_closed;
    unsigned
        outside; /* threads that do something of this pipe's without its lock: it is not over before they are back */
    bool over;     /* once */
    bool admitted; /* on_pipe said yes: it is told of the end */
    int why;
    enum stage stage;
    struct crypto_channel *channel;
    struct sp_buffer in, out;
    struct outgoing *queue, **queue_tail;
    size_t queued;         /* octets in it */
    struct outgoing *sent; /* whole in the channel, and their waiters not told */
    uint8_t head[PEER_FRAME_SP_HEAD];
    size_t head_len;
    struct sp_message *msg; /* being received */
    size_t msg_at;
    bool handing; /* msg is whole and on its way to a context */
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

/* --- sp_pipe.c --- */

/* Takes STREAM, whatever happens. The caller gets a hold on the pipe, or NULL. */
struct pipe *sp_pipe_start(struct sp_socket *socket, nng_stream *stream,
                           const struct crypto_channel_profile *profile, bool outgoing,
                           const char *expected);
/* Moves on whatever can be moved. The caller holds the pipe, and no lock. */
void sp_pipe_run(struct pipe *pipe);
void sp_pipe_end(struct pipe *pipe, int why);
bool sp_pipe_closed(struct pipe *pipe);
void sp_pipe_hold(struct pipe *pipe);
/* Never frees: that is sp_sweep's, since an aio must not be freed from its own callback. */
void sp_pipe_release(struct pipe *pipe);
void sp_pipe_free(struct pipe *pipe);
/* pipe->msg has found its way: the next one may come. */
void sp_pipe_handed(struct pipe *pipe);
/* Lock held. Takes ITEM; false, and the pipe is closed, when too much waits already. */
bool sp_pipe_put(struct pipe *pipe, struct outgoing *item);

/* --- sp.c: called by a pipe, with no lock held --- */

/* pipe->msg is whole. */
void sp_hand_over(struct pipe *pipe);
/* Its exchanges break, and later ones do at once. */
void sp_fail_exchanges(struct pipe *pipe);

#endif
