#include "config.h"
#include "crypto/envelope.h"

#include <string.h>

static enum err envelope_digest(const char *domain, const uint8_t fed_id[16], struct span bytes,
                                uint8_t digest[32])
{
    size_t len = strnlen(domain, CRYPTO_ENVELOPE_DOMAIN + 1);
    if (len == 0 || len > CRYPTO_ENVELOPE_DOMAIN) {
        return E_INVALID;
    }
    /* The domain's own terminating zero separates it from the federation id, which has a fixed length. */
    struct span parts[3] = {span_of(domain, len + 1), span_of(fed_id, 16), bytes};
    crypto_sha256(parts, 3, digest);
    return E_OK;
}

enum err crypto_envelope_sign(const struct crypto_identity *identity, const char *domain,
                              const uint8_t fed_id[16], struct span bytes, uint8_t ret_sig[64])
{
    uint8_t digest[32];
    enum err err = envelope_digest(domain, fed_id, bytes, digest);
    return err ? err : crypto_identity_sign(identity, digest, ret_sig);
}

/* s <= (n - 1) / 2, big-endian. Public bytes: no need for constant time. */
static bool low_s(const uint8_t s[32])
{
    static const uint8_t half[32] = {0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00,
                                     0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                     0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42,
                                     0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8};
    return memcmp(s, half, sizeof half) <= 0;
}

enum err crypto_envelope_verify(const uint8_t point[65], const char *domain,
                                const uint8_t fed_id[16], struct span bytes, const uint8_t sig[64])
{
    uint8_t digest[32];
    enum err err = envelope_digest(domain, fed_id, bytes, digest);
    if (err) {
        return err;
    }
    return low_s(sig + 32) ? crypto_provider()->p256_verify(point, digest, sig) : E_AUTH;
}
