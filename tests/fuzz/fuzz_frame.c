/* The heads of requests and replies between peers: any bytes, and what decodes encodes to the same. */
#include <assert.h>

#include "node/peer/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peer_frame_request request;
    struct peer_frame_reply reply;
    uint8_t head[PEER_FRAME_REPLY_HEAD];
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
