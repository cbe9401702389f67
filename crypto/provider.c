#include "config.h"
#include "crypto/provider.h"

#include "crypto/memory.h"

#include <assert.h>
#include <stdatomic.h>

static _Atomic(const struct crypto_provider *) chosen;

const struct crypto_provider *crypto_provider(void)
{
    const struct crypto_provider *provider = atomic_load_explicit(&chosen, memory_order_acquire);
    assert(provider && "crypto_init was not called");
    return provider;
}

void crypto_sha256(const struct span *parts, size_t count, uint8_t out[32])
{
    crypto_provider()->sha256(parts, count, out);
}

void crypto_sha256_one(struct span bytes, uint8_t out[32])
{
    crypto_provider()->sha256(&bytes, 1, out);
}

const struct proto_hash crypto_proto_hash = {.sha256 = crypto_sha256};

/* Known answers. AES-256-GCM: test case 14 of the GCM specification. SHA-256: FIPS 180-4 "abc". P-256: RFC 6979 A.2.5,
 * "sample". X25519: RFC 7748 5.2. ChaCha20-Poly1305: zero key, nonce and 16 zero bytes; both libraries agree, and the
 * tests tie both to Wycheproof. */
static const uint8_t zeros[32];

static bool test_aead(enum err (*seal)(const uint8_t *, const uint8_t *, struct span, struct span,
                                       uint8_t *, uint8_t *),
                      enum err (*open)(const uint8_t *, const uint8_t *, struct span, struct span,
                                       const uint8_t *, uint8_t *),
                      const uint8_t cipher[16], const uint8_t tag[16])
{
    uint8_t got[16];
    uint8_t got_tag[16];
    if (seal(zeros, zeros, SPAN_NONE, span_of(zeros, 16), got, got_tag) != E_OK ||
        memcmp(got, cipher, 16) != 0 || memcmp(got_tag, tag, 16) != 0) {
        return false;
    }
    if (open(zeros, zeros, SPAN_NONE, span_of(cipher, 16), tag, got) != E_OK ||
        memcmp(got, zeros, 16) != 0) {
        return false;
    }
    got_tag[15] ^= 1;
    memset(got, 0xff, sizeof got);
    return open(zeros, zeros, SPAN_NONE, span_of(cipher, 16), got_tag, got) == E_AUTH &&
           memcmp(got, zeros, 16) == 0;
}

static bool test_sha256(const struct crypto_provider *provider)
{
    static const uint8_t expect[32] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
                                       0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
                                       0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
                                       0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    uint8_t got[32];
    struct span parts[2] = {span_str("a"), span_str("bc")};
    provider->sha256(parts, 2, got);
    if (memcmp(got, expect, sizeof got) != 0) {
        return false;
    }
    struct crypto_hash *hash = provider->hash_new();
    if (!hash) {
        return false;
    }
    memset(got, 0, sizeof got);
    provider->hash_add(hash, parts[0]);
    provider->hash_add(hash, parts[1]);
    provider->hash_end(hash, got);
    return memcmp(got, expect, sizeof got) == 0;
}

/* A signature has no known answer where the nonce is drawn, so it must be one that VERIFY takes for this digest only. */
static bool test_sign(const struct crypto_provider *provider, const uint8_t secret[32],
                      const uint8_t point[65])
{
    struct crypto_signer *signer = NULL;
    uint8_t sig[64] = {0};
    uint8_t digest[32] = {1, 2, 3};
    bool ok = provider->p256_signer_new(secret, point, &signer) == E_OK &&
              provider->p256_sign(signer, digest, sig) == E_OK &&
              provider->p256_verify(point, digest, sig) == E_OK;
    provider->p256_signer_free(signer);
    signer = NULL;
    digest[31] ^= 1;
    ok = ok && provider->p256_verify(point, digest, sig) == E_AUTH;
    return ok && provider->p256_signer_new(zeros, point, &signer) == E_INVALID;
}

static bool test_p256(const struct crypto_provider *provider)
{
    uint8_t secret[32];
    uint8_t point[65];
    uint8_t base[65];
    uint8_t sig[64];
    uint8_t digest[32];
    uint8_t got[32];
    bool ok = span_from_hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
                            secret, 32) &&
              span_from_hex("0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
                            "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
                            point, 65) &&
              span_from_hex("046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
                            "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
                            base, 65) &&
              span_from_hex("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
                            "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
                            sig, 64);
    struct span sample = span_str("sample");
    provider->sha256(&sample, 1, digest);
    ok = ok && provider->p256_verify(point, digest, sig) == E_OK;
    digest[0] ^= 1;
    ok = ok && provider->p256_verify(point, digest, sig) == E_AUTH;
    ok = ok && test_sign(provider, secret, point);
    return ok && provider->p256_ecdh(secret, base, got) == E_OK && memcmp(got, point + 1, 32) == 0;
}

static bool test_x25519(const struct crypto_provider *provider)
{
    uint8_t secret[32];
    uint8_t u[32];
    uint8_t expect[32];
    uint8_t got[32];
    return span_from_hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4", secret,
                         32) &&
           span_from_hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c", u,
                         32) &&
           span_from_hex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552", expect,
                         32) &&
           provider->x25519(secret, u, got) == E_OK && memcmp(got, expect, 32) == 0 &&
           provider->x25519(secret, zeros, got) == E_AUTH;
}

static bool test_gcm(const struct crypto_provider *provider)
{
    static const uint8_t gcm[16] = {0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e,
                                    0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18};
    static const uint8_t gcm_tag[16] = {0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0,
                                        0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19};
    return test_aead(provider->aead_seal, provider->aead_open, gcm, gcm_tag);
}

enum err crypto_provider_test(const struct crypto_provider *provider, struct err_info *reterr)
{
    static const uint8_t chacha[16] = {0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a,
                                       0x98, 0xba, 0x97, 0x7c, 0x73, 0x2d, 0x08, 0x0d};
    static const uint8_t chacha_tag[16] = {0xc3, 0x4a, 0x88, 0x04, 0x73, 0x20, 0xf5, 0x2a,
                                           0xa2, 0xc6, 0x68, 0x3e, 0xf8, 0x08, 0x4d, 0x2f};
    const char *failed = NULL;
    if (!test_gcm(provider)) {
        failed = "AES-256-GCM";
    } else if (!test_aead(provider->chacha_seal, provider->chacha_open, chacha, chacha_tag)) {
        failed = "ChaCha20-Poly1305";
    } else if (!test_sha256(provider)) {
        failed = "SHA-256";
    } else if (!test_p256(provider)) {
        failed = "P-256";
    } else if (!test_x25519(provider)) {
        failed = "X25519";
    }
    return failed ? proto_err_set(reterr, E_INTERNAL, "%s fails its known answer for %s",
                                  provider->name, failed)
                  : E_OK;
}

enum err crypto_init(struct err_info *reterr)
{
    if (atomic_load_explicit(&chosen, memory_order_acquire)) {
        return E_OK;
    }
    /* Only what will be called is tested whole: mbedTLS takes 12 ms for it, for which every command would wait. */
    const struct crypto_provider *fast = crypto_provider_libcrypto();
    const struct crypto_provider *best = fast ? fast : crypto_provider_mbedtls();
    enum err err = crypto_provider_test(best, reterr);
    if (!err && !test_gcm(crypto_provider_mbedtls())) {
        err = proto_err_set(reterr, E_INTERNAL, "mbedTLS fails its known answer for AES-256-GCM");
    }
    if (!err) {
        atomic_store_explicit(&chosen, best, memory_order_release);
    }
    return err;
}

/* --- DER form of signatures: SEQUENCE { INTEGER r, INTEGER s }, both below 2^256 --------------------------------------- */

/* Reads one positive, minimal INTEGER of at most 32 bytes from *pos on, right-aligned into TO. */
static bool integer_from_der(struct span der, size_t *pos, uint8_t to[32])
{
    if (der.len - *pos < 3 || der.ptr[*pos] != 2) {
        return false;
    }
    size_t len = der.ptr[*pos + 1];
    *pos += 2;
    if (len == 0 || len > 33 || len > der.len - *pos) {
        return false;
    }
    const uint8_t *p = der.ptr + *pos;
    *pos += len;
    if (p[0] & 0x80 || (len > 1 && p[0] == 0 && !(p[1] & 0x80))) {
        return false;
    }
    if (len == 33) {
        p++;
        len--;
        if (p[-1] != 0) {
            return false;
        }
    }
    memset(to, 0, 32);
    memcpy(to + 32 - len, p, len);
    return true;
}

enum err crypto_signature_from_der(struct span der, uint8_t ret_sig[64])
{
    uint8_t sig[64];
    size_t pos = 2;
    if (der.len < 8 || der.len > CRYPTO_SIGNATURE_DER_MAX || der.ptr[0] != 0x30 ||
        der.ptr[1] != der.len - 2 || !integer_from_der(der, &pos, sig) ||
        !integer_from_der(der, &pos, sig + 32) || pos != der.len) {
        return E_INVALID;
    }
    memcpy(ret_sig, sig, sizeof sig);
    return E_OK;
}

static size_t integer_to_der(const uint8_t from[32], uint8_t *to)
{
    size_t skip = 0;
    while (skip < 31 && from[skip] == 0) {
        skip++;
    }
    size_t pad = from[skip] & 0x80 ? 1 : 0;
    size_t len = 32 - skip;
    to[0] = 2;
    to[1] = (uint8_t)(len + pad);
    to[2] = 0;
    memcpy(to + 2 + pad, from + skip, len);
    return 2 + pad + len;
}

size_t crypto_signature_to_der(const uint8_t sig[64], uint8_t ret_der[CRYPTO_SIGNATURE_DER_MAX])
{
    size_t len = 2;
    len += integer_to_der(sig, ret_der + len);
    len += integer_to_der(sig + 32, ret_der + len);
    ret_der[0] = 0x30;
    ret_der[1] = (uint8_t)(len - 2);
    return len;
}
