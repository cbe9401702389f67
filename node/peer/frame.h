/* The head of every request and reply between peers. Pure.
 *
 *     request:  version 1 u8 | 0 u8 | type u16 | deadline ms u32 | body
 *     reply:    version 1 u8 | flags u8 | length u8 | name of the status, e.g. "REFUSED" | body
 *
 * Numbers are big-endian. The flag UNSEEN says that no handler has looked at the request (a limit stood in the way), so
 * that it may be sent again. A status travels by name, so that codes may be renumbered.
 * Limits: PEER_MESSAGE_MAX for the body. Threads: pure. */
#ifndef CONCORDAT_NODE_PEER_FRAME_H
#define CONCORDAT_NODE_PEER_FRAME_H

#include "proto/err.h"
#include "proto/span.h"

#define PEER_FRAME_REQUEST_HEAD 8
#define PEER_FRAME_REPLY_HEAD   35 /* at most */
#define PEER_FRAME_MAX          (((size_t)1 << 20) + 64)
#define PEER_FRAME_UNSEEN       1u

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

#endif
