/* Request/reply sockets of the Scalability Protocols (SP REQ 0x30, REP 0x31, one hop) over TLS over NNG's TCP streams.
 * They take the place of nng_req0 and nng_rep0, whose transport loses an operation when a connection breaks between two
 * steps of a send (doc/decisions/0012); a stock NNG socket over tls+tcp is a valid other end. TLS is crypto/channel's; this
 * file includes no header of the TLS library. What a message means is not its business.
 *
 *     sp_open(SP_REP, PEER_FRAME_MAX, on_pipe, user, &socket);
 *     sp_listen(socket, "tls+tcp://127.0.0.1:0", profile, NULL, &listener, &port);
 *     sp_ctx_open(socket, &ctx);  sp_ctx_recv(ctx, aio);  ... nng_aio_get_msg(aio) ...  sp_ctx_send(ctx, aio);
 *     sp_dial(request_socket, url, profile, node_id_hex, 10000);          // blocks; a worker thread
 *     sp_stop(socket);  nng_aio_free(aio);  sp_close(socket);
 *
 * A connection is called a pipe. It is `asked` about when its handshake is done and may be refused then; `up` follows when
 * the other end has said that it is the counterpart, and `down` after it when nothing of the pipe runs any more.
 * Threads: every function may be called from any thread, except that sp_dial, sp_wait, sp_close and sp_sweep must not be
 * called from an NNG callback, and that nobody else may use the socket during sp_close. on_pipe runs on NNG's threads with no lock held. An aio ends on NNG's threads.
 * Limits: recv_max per message; SP_GREETING_MS for handshake and greeting together; SP_GREETING_MAX pipes in the handshake at
 * one time, of which the oldest gives way; 16 MiB that wait to be sent on one pipe. */
#ifndef CONCORDAT_NODE_PEER_SP_H
#define CONCORDAT_NODE_PEER_SP_H

#include <nng/nng.h>

#include "crypto/channel.h"

#define SP_GREETING_MS  10000
#define SP_GREETING_MAX 128

struct sp_socket;
struct sp_ctx;
struct sp_listener;

enum sp_kind {
    SP_REQ,
    SP_REP,
};

enum sp_event {
    SP_ASKED,
    SP_UP,
    SP_DOWN,
};

struct sp_identity {
    uint32_t pipe;  /* never 0, never used again in this process */
    bool outgoing;  /* we dialled */
    bool enrolling; /* no certificate of the other side, or the root holder's: enrolment */
    struct crypto_certificate_info certificate;
    uint8_t exporter[CRYPTO_CHANNEL_EXPORTER_SIZE];
};

/* The result counts for SP_ASKED only: false refuses the pipe, and then nothing more is told about it; after true SP_DOWN
 * follows in any case, and SP_UP before it unless the pipe breaks in between. */
typedef bool sp_on_pipe(void *user, const struct sp_identity *who, enum sp_event event);

MUST_CHECK enum err sp_open(enum sp_kind kind, size_t recv_max, sp_on_pipe *on_pipe, void *user,
                            struct sp_socket **ret);
/* Ends listeners, dials and pipes, and every operation under way with NNG_ECLOSED. Returns at once; may be repeated. */
void sp_stop(struct sp_socket *socket);
/* After sp_stop: waits until every pipe is down. Listeners are gone then. */
void sp_wait(struct sp_socket *socket);
/* sp_stop and sp_wait, then gives all memory back, contexts too. Each aio that was given to a context must have been freed
 * before, since NNG may still be calling for one whose time is over. NULL is allowed. */
void sp_close(struct sp_socket *socket);
/* Gives back the memory of pipes that are down. */
void sp_sweep(struct sp_socket *socket);

/* URL is tls+tcp://HOST:PORT. PROFILE must outlive the socket. EXPECTED (32 hexadecimal digits or NULL) is the only node that
 * may connect. Returns 0 or an NNG error number. */
MUST_CHECK int sp_listen(struct sp_socket *socket, const char *url,
                         const struct crypto_channel_profile *profile, const char *expected,
                         struct sp_listener **ret, uint16_t *ret_port);
/* New connections use PROFILE, which must outlive the socket too. */
void sp_listener_renew(struct sp_listener *listener, const struct crypto_channel_profile *profile);
/* Accepts nothing more; its pipes live on. Once. */
void sp_listener_close(struct sp_listener *listener);
/* Connects and waits until the pipe is up. Returns 0 or an NNG error number: NNG_EPEERAUTH when one side refused the other,
 * NNG_ETIMEDOUT, NNG_ECLOSED after sp_stop, NNG_ECONNREFUSED, ... */
MUST_CHECK int sp_dial(struct sp_socket *socket, const char *url,
                       const struct crypto_channel_profile *profile, const char *expected,
                       uint32_t limit_ms);
/* Closes one pipe of any socket; an unknown number is ignored. */
void sp_pipe_close(uint32_t pipe);

/* A context has one exchange at a time. It belongs to its socket. */
MUST_CHECK enum err sp_ctx_open(struct sp_socket *socket, struct sp_ctx **ret);
/* REP: the reply to the request received last, NNG_ESTATE without one; it is dropped when its pipe is gone. REQ: a request, over
 * the newest pipe; NNG_ECLOSED without one. The message is the aio's again when the result is not 0. */
void sp_ctx_send(struct sp_ctx *ctx, nng_aio *aio);
/* REP: the next request of any pipe. REQ: the reply; NNG_ECONNRESET when the pipe broke before. */
void sp_ctx_recv(struct sp_ctx *ctx, nng_aio *aio);
/* REP: the pipe of the request received last. */
uint32_t sp_ctx_pipe(const struct sp_ctx *ctx);

#endif
