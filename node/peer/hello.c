/* HELLO: the first request on every connection. The certificate says which node this is; HELLO proves that the same
 * node's identity key, which signs its records, is at this end of exactly this connection (the exporter value is signed). */
#include "config.h"
#include "node/peer/internal.h"

#include "crypto/envelope.h"

#define VERSION_MIN 1
#define VERSION_MAX 1

/* version_min u8 | version_max u8 | features u64 | from 16 | to 16 | then the signature. */
#define SIGNED_PART (HELLO_SIZE - 64)

static void signed_bytes(const uint8_t part[SIGNED_PART], const uint8_t exporter[32], bool reply,
                         uint8_t out[SIGNED_PART + 33])
{
    memcpy(out, part, SIGNED_PART);
    memcpy(out + SIGNED_PART, exporter, 32);
    out[SIGNED_PART + 32] = reply ? 1 : 0; /* a greeting cannot be sent back as its answer */
}

void hello_make(struct peer *peer, const uint8_t to[16], const uint8_t exporter[32], bool reply,
                uint8_t out[HELLO_SIZE])
{
    uint8_t bytes[SIGNED_PART + 33];
    out[0] = VERSION_MIN;
    out[1] = VERSION_MAX;
    put_be64(out + 2, 0);
    memcpy(out + 10, peer->node_id, 16);
    memcpy(out + 26, to, 16);
    signed_bytes(out, exporter, reply, bytes);
    if (crypto_envelope_sign(peer->identity, HELLO_DOMAIN, peer->federation_id,
                             span_of(bytes, sizeof bytes), out + SIGNED_PART)) {
        memset(out + SIGNED_PART, 0,
               64); /* will be refused, and tried again with the next connection */
    }
}

enum err hello_check(struct peer *peer, const uint8_t from[16], const uint8_t exporter[32],
                     bool reply, struct span body)
{
    if (body.len != HELLO_SIZE || memcmp(body.ptr + 10, from, 16) != 0 ||
        memcmp(body.ptr + 26, peer->node_id, 16) != 0) {
        return E_INVALID;
    }
    if (body.ptr[0] > VERSION_MAX || body.ptr[1] < VERSION_MIN) {
        return E_UNSUPPORTED;
    }
    struct peer_member member;
    int at = peer_directory_find(peer->directory, from);
    if (at < 0 || !peer_directory_get(peer->directory, (size_t)at, &member)) {
        return E_AUTH;
    }
    uint8_t bytes[SIGNED_PART + 33];
    signed_bytes(body.ptr, exporter, reply, bytes);
    return crypto_envelope_verify(member.point, HELLO_DOMAIN, peer->federation_id,
                                  span_of(bytes, sizeof bytes), body.ptr + SIGNED_PART);
}
