/* The head of every request and reply between peers. Pure.
 *
 *     request:  version 1 u8 | 0 u8 | type u16 | deadline ms u32 | body
 *     reply:    version 1 u8 | flags u8 | length u8 | name of the status, e.g. "REFUSED" | body
 *
 * Numbers are big-endian. The flag UNSEEN says that no handler has looked at the request (a limit stood in the way), so
 * that it may be sent again. A status travels by name, so that codes may be renumbered.
 * Below it, on the octets of a connection, stand the greeting and the frames of the Scalability Protocols (SP), which end
 * with the request id of the exchange:
 *
 *     greeting: 0 'S' 'P' 0 | protocol u16 (REQ 0x30, REP 0x31) | 0 0          once, in each direction
 *     frame:    length of what follows u64 | request id u32, its highest bit set | request or reply
 *
 * Limits: PEER_MESSAGE_MAX for the body. Threads: pure. */
#ifndef CONCORDAT_NODE_PEER_FRAME_H
#define CONCORDAT_NODE_PEER_FRAME_H

#include "proto/err.h"
#include "proto/span.h"

#define PEER_FRAME_REQUEST_HEAD 8
#define PEER_FRAME_REPLY_HEAD   35 /* at most */
#define PEER_FRAME_MAX          (((size_t)1 << 20) + 64)
#define PEER_FRAME_UNSEEN       1u
#define PEER_FRAME_SP_HEAD      8 /* of the greeting, and of a frame */
#define PEER_FRAME_SP_ID        4

struct peer_frame_request {
    uint32_t type;
    uint32_t deadline_ms;
    struct span body;
};

struct peer_frame_reply {
    enum err status;
    unsigned flags;
    struct span body;
};

/* Errors: E_TRUNCATED, E_INVALID, E_LIMIT, E_UNSUPPORTED another version. */
MUST_CHECK enum err peer_frame_decode_request(struct span bytes, struct peer_frame_request *ret);
MUST_CHECK enum err peer_frame_decode_reply(struct span bytes, struct peer_frame_reply *ret);
/* The head only; the body follows it. Returns its length. */
size_t peer_frame_encode_request(const struct peer_frame_request *request,
                                 uint8_t head[PEER_FRAME_REQUEST_HEAD]);
size_t peer_frame_encode_reply(const struct peer_frame_reply *reply,
                               uint8_t head[PEER_FRAME_REPLY_HEAD]);

void peer_frame_sp_greeting(bool reply, uint8_t head[PEER_FRAME_SP_HEAD]);
/* HEAD is the greeting of a REP (REPLY) or of a REQ. */
bool peer_frame_sp_greeted(const uint8_t head[PEER_FRAME_SP_HEAD], bool reply);
/* Octets that follow the head, the request id among them. Errors: E_TRUNCATED no room for the id; E_LIMIT beyond MOST and
 * the id. */
MUST_CHECK enum err peer_frame_sp_length(const uint8_t head[PEER_FRAME_SP_HEAD], size_t most,
                                         size_t *ret);
/* Of PEER_FRAME_SP_ID octets. E_INVALID: the highest bit is not set, so this came over more hops than one. */
MUST_CHECK enum err peer_frame_sp_id(const uint8_t *bytes, uint32_t *ret);

#endif
