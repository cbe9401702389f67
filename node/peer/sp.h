/* Request/reply sockets of the Scalability Protocols (SP REQ 0x30, REP 0x31, one hop) over TLS over NNG's TCP streams.
 * They take the place of nng_req0 and nng_rep0, whose transport loses an operation when a connection breaks between two
 * steps of a send (doc/decisions/0012); a stock NNG socket over tls+tcp is a valid other end. TLS is crypto/channel's; this
 * file includes no header of the TLS library. What a message means is not its business.
 *
 *     sp_open(SP_REP, PEER_FRAME_MAX, on_pipe, user, &socket);
 *     sp_listen(socket, "tls+tcp://127.0.0.1:0", profile, NULL, &listener, &port);
 *     sp_ctx_open(socket, &ctx);  sp_ctx_receive(ctx, on_request, user);  ... sp_ctx_reply(ctx, parts, 2, SPAN_NONE, on_sent, user);
 *     sp_dial(request_socket, url, profile, node_id_hex, 10000);          // blocks; a worker thread
 *     sp_ctx_request(ctx, parts, 2, on_reply, user);
 *     sp_stop(socket);  sp_close(socket);
 *
 * A connection is called a pipe. It is `asked` about when its handshake is done and may be refused then; `up` follows when
 * the other end has said that it is the counterpart, and `down` after it when nothing of the pipe runs any more.
 * Threads: every function may be called from any thread, except that sp_dial, sp_wait, sp_close and sp_sweep must not be
 * called from a callback of this file or of NNG, and that nobody else may use the socket during sp_close. on_pipe and sp_done
 * run on NNG's threads, or inside a call of this file, with no lock held; they must not block.
 * Limits: recv_max per message; SP_GREETING_MS for handshake and greeting together; SP_GREETING_MAX pipes in the handshake at
 * one time, of which the oldest gives way; 16 MiB that wait to be sent on one pipe. */
#ifndef CONCORDAT_NODE_PEER_SP_H
#define CONCORDAT_NODE_PEER_SP_H

#include <nng/nng.h>

#include "crypto/channel.h"
#include "proto/span.h"

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
/* sp_stop and sp_wait, then gives all memory back, contexts too. NULL is allowed. */
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

/* What came in, without SP's head. Freed with proto_free. */
struct sp_message {
    struct span bytes; /* in ROOM */
    uint8_t room[];
};

/* How an operation of a context ended: RV is 0 or an NNG error number. MSG, if not NULL, is the callee's to free. Called once for
 * each operation, perhaps before the function that began it returns. */
typedef void sp_done(void *user, int rv, struct sp_message *msg);

/* A context has one operation at a time. It belongs to its socket. */
MUST_CHECK enum err sp_ctx_open(struct sp_socket *socket, struct sp_ctx **ret);
/* REQ: sends PARTS, which together are one message, over the newest pipe, and waits for the reply. They are copied.
 * Ends with NNG_ECLOSED when there is no pipe or the socket stops, NNG_ECONNRESET when the pipe breaks before. */
void sp_ctx_request(struct sp_ctx *ctx, const struct span *parts, size_t count, sp_done *done,
                    void *user);
/* REQ: ends the exchange under way with RV, if there is one; a reply that comes later is dropped. */
void sp_ctx_cancel(struct sp_ctx *ctx, int rv);
/* REP: waits for the next request of any pipe. NNG_ECLOSED when the socket stops. */
void sp_ctx_receive(struct sp_ctx *ctx, sp_done *done, void *user);
/* REP: replies to the request received last. Ends when the last octet has gone into the channel, or the pipe is gone;
 * NNG_ESTATE without a request. PARTS are copied; LENT, which comes behind them, must stay as it is until the end. */
void sp_ctx_reply(struct sp_ctx *ctx, const struct span *parts, size_t count, struct span lent,
                  sp_done *done, void *user);
/* REP: the pipe of the request received last. */
uint32_t sp_ctx_pipe(const struct sp_ctx *ctx);

#endif
