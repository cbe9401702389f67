#include "config.h"
#include "node/peer/frame.h"

#define FRAME_VERSION 1
#define BODY_MAX      ((size_t)1 << 20)

enum err peer_frame_decode_request(struct span bytes, struct peer_frame_request *ret)
{
    if (bytes.len < PEER_FRAME_REQUEST_HEAD) {
        return E_TRUNCATED;
    }
    if (bytes.ptr[0] != FRAME_VERSION) {
        return E_UNSUPPORTED;
    }
    if (bytes.len - PEER_FRAME_REQUEST_HEAD > BODY_MAX) {
        return E_LIMIT;
    }
    if (bytes.ptr[1] != 0) {
        return E_INVALID;
    }
    *ret = (struct peer_frame_request){
        .type = get_be16(bytes.ptr + 2),
        .deadline_ms = get_be32(bytes.ptr + 4),
        .body = span_of(bytes.ptr + PEER_FRAME_REQUEST_HEAD, bytes.len - PEER_FRAME_REQUEST_HEAD),
    };
    return E_OK;
}

enum err peer_frame_decode_reply(struct span bytes, struct peer_frame_reply *ret)
{
    if (bytes.len < 3) {
        return E_TRUNCATED;
    }
    if (bytes.ptr[0] != FRAME_VERSION) {
        return E_UNSUPPORTED;
    }
    size_t name_len = bytes.ptr[2];
    if (name_len > bytes.len - 3) {
        return E_TRUNCATED;
    }
    char name[32];
    if ((bytes.ptr[1] & ~PEER_FRAME_UNSEEN) != 0 || name_len == 0 ||
        !span_to_cstr(span_of(bytes.ptr + 3, name_len), name, sizeof name)) {
        return E_INVALID;
    }
    if (bytes.len - 3 - name_len > BODY_MAX) {
        return E_LIMIT;
    }
    *ret = (struct peer_frame_reply){
        .status = proto_err_by_name(name),
        .flags = bytes.ptr[1],
        .body = span_of(bytes.ptr + 3 + name_len, bytes.len - 3 - name_len),
    };
    return E_OK;
}

size_t peer_frame_encode_request(const struct peer_frame_request *request,
                                 uint8_t head[PEER_FRAME_REQUEST_HEAD])
{
    head[0] = FRAME_VERSION;
    head[1] = 0;
    put_be16(head + 2, (uint16_t)request->type);
    put_be32(head + 4, request->deadline_ms);
    return PEER_FRAME_REQUEST_HEAD;
}

size_t peer_frame_encode_reply(const struct peer_frame_reply *reply,
                               uint8_t head[PEER_FRAME_REPLY_HEAD])
{
    const char *name = proto_err_name(reply->status);
    size_t len = strlen(name);
    if (len > PEER_FRAME_REPLY_HEAD - 3) {
        len = PEER_FRAME_REPLY_HEAD - 3;
    }
    head[0] = FRAME_VERSION;
    head[1] = (uint8_t)reply->flags;
    head[2] = (uint8_t)len;
    memcpy(head + 3, name, len);
    return 3 + len;
}

#define SP_REQUEST_BIT 0x80000000u

void peer_frame_sp_greeting(bool reply, uint8_t head[PEER_FRAME_SP_HEAD])
{
    const uint8_t greeting[PEER_FRAME_SP_HEAD] = {0, 'S', 'P', 0, 0, reply ? 0x31 : 0x30};
    memcpy(head, greeting, sizeof greeting);
}

bool peer_frame_sp_greeted(const uint8_t head[PEER_FRAME_SP_HEAD], bool reply)
{
    uint8_t want[PEER_FRAME_SP_HEAD];
    peer_frame_sp_greeting(reply, want);
    return memcmp(head, want, sizeof want) == 0;
}

enum err peer_frame_sp_length(const uint8_t head[PEER_FRAME_SP_HEAD], size_t most, size_t *ret)
{
    uint64_t len = get_be64(head);
    if (len < PEER_FRAME_SP_ID) {
        return E_TRUNCATED;
    }
    if (len - PEER_FRAME_SP_ID > most) {
        return E_LIMIT;
    }
    *ret = (size_t)len;
    return E_OK;
}

enum err peer_frame_sp_id(const uint8_t *bytes, uint32_t *ret)
{
    *ret = get_be32(bytes);
    return *ret & SP_REQUEST_BIT ? E_OK : E_INVALID;
}
