/* The heads of requests and replies between peers, and the greeting and frames below them: any bytes, and what decodes
 * encodes to the same. */
#include <assert.h>

#include "node/peer/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sp(const uint8_t *data, size_t size)
{
    uint8_t greeting[PEER_FRAME_SP_HEAD];
    uint32_t id;
    size_t len;
    if (size < PEER_FRAME_SP_HEAD) {
        return;
    }
    for (int reply = 0; reply < 2; reply++) {
        peer_frame_sp_greeting(reply, greeting);
        assert(peer_frame_sp_greeted(data, reply) ==
               (memcmp(data, greeting, PEER_FRAME_SP_HEAD) == 0));
    }
    if (peer_frame_sp_length(data, PEER_FRAME_MAX, &len) == E_OK) {
        assert(len >= PEER_FRAME_SP_ID && len <= PEER_FRAME_MAX + PEER_FRAME_SP_ID);
        assert(get_be64(data) == len);
    }
    if (size >= PEER_FRAME_SP_HEAD + PEER_FRAME_SP_ID &&
        peer_frame_sp_id(data + PEER_FRAME_SP_HEAD, &id) == E_OK) {
        assert(id >> 31 == 1 && id == get_be32(data + PEER_FRAME_SP_HEAD));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peer_frame_request request;
    struct peer_frame_reply reply;
    uint8_t head[PEER_FRAME_REPLY_HEAD];
    sp(data, size);
    if (peer_frame_decode_request(span_of(data, size), &request) == E_OK) {
        size_t len = peer_frame_encode_request(&request, head);
        assert(len + request.body.len == size && memcmp(head, data, len) == 0);
    }
    if (peer_frame_decode_reply(span_of(data, size), &reply) == E_OK) {
        size_t len = peer_frame_encode_reply(&reply, head);
        /* a status that this version does not know reads as an internal fault */
        assert(reply.status == E_INTERNAL ||
               (len + reply.body.len == size && memcmp(head, data, len) == 0));
    }
    return 0;
}
