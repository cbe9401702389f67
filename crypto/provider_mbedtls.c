#include "config.h"
#include "crypto/provider.h"

#include "crypto/compat_mbedtls.h"
#include "crypto/memory.h"
#include "crypto/provider_mbedtls.h"
#include "proto/alloc.h"

#include <assert.h>

static enum err gcm_seal(const uint8_t key[32], const uint8_t nonce[12], struct span aad,
                         struct span plain, uint8_t *out_cipher, uint8_t out_tag[16])
{
    if (plain.len > CRYPTO_AEAD_MAX || aad.len > CRYPTO_AEAD_MAX) {
        return E_LIMIT;
    }
    mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    int ret = mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, key, 256);
    if (ret == 0) {
        ret = mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, plain.len, nonce, 12, aad.ptr,
                                        aad.len, plain.ptr, out_cipher, 16, out_tag);
    }
    mbedtls_gcm_free(&gcm);
    return ret == 0 ? E_OK : E_INTERNAL;
}

static enum err gcm_open(const uint8_t key[32], const uint8_t nonce[12], struct span aad,
                         struct span cipher, const uint8_t tag[16], uint8_t *out_plain)
{
    if (cipher.len > CRYPTO_AEAD_MAX || aad.len > CRYPTO_AEAD_MAX) {
        return E_LIMIT;
    }
    mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    int ret = mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, key, 256);
    if (ret == 0) {
        ret = mbedtls_gcm_auth_decrypt(&gcm, cipher.len, nonce, 12, aad.ptr, aad.len, tag, 16,
                                       cipher.ptr, out_plain);
    }
    mbedtls_gcm_free(&gcm);
    if (ret != 0) {
        crypto_wipe(out_plain, cipher.len);
    }
    return ret == 0 ? E_OK : ret == MBEDTLS_ERR_GCM_AUTH_FAILED ? E_AUTH : E_INTERNAL;
}

static enum err chacha_seal(const uint8_t key[32], const uint8_t nonce[12], struct span aad,
                            struct span plain, uint8_t *out_cipher, uint8_t out_tag[16])
{
    if (plain.len > CRYPTO_AEAD_MAX || aad.len > CRYPTO_AEAD_MAX) {
        return E_LIMIT;
    }
    mbedtls_chachapoly_context chacha;
    mbedtls_chachapoly_init(&chacha);
    int ret = mbedtls_chachapoly_setkey(&chacha, key);
    if (ret == 0) {
        ret = mbedtls_chachapoly_encrypt_and_tag(&chacha, plain.len, nonce, aad.ptr, aad.len,
                                                 plain.ptr, out_cipher, out_tag);
    }
    mbedtls_chachapoly_free(&chacha);
    return ret == 0 ? E_OK : E_INTERNAL;
}

static enum err chacha_open(const uint8_t key[32], const uint8_t nonce[12], struct span aad,
                            struct span cipher, const uint8_t tag[16], uint8_t *out_plain)
{
    if (cipher.len > CRYPTO_AEAD_MAX || aad.len > CRYPTO_AEAD_MAX) {
        return E_LIMIT;
    }
    mbedtls_chachapoly_context chacha;
    mbedtls_chachapoly_init(&chacha);
    int ret = mbedtls_chachapoly_setkey(&chacha, key);
    if (ret == 0) {
        ret = mbedtls_chachapoly_auth_decrypt(&chacha, cipher.len, nonce, aad.ptr, aad.len, tag,
                                              cipher.ptr, out_plain);
    }
    mbedtls_chachapoly_free(&chacha);
    if (ret != 0) {
        crypto_wipe(out_plain, cipher.len);
    }
    return ret == 0 ? E_OK : ret == MBEDTLS_ERR_CHACHAPOLY_AUTH_FAILED ? E_AUTH : E_INTERNAL;
}

/* The software hash works in its context alone and has nothing that could fail; the assertion says so. */
void crypto_mbedtls_sha256(const struct span *parts, size_t count, uint8_t out[32])
{
    mbedtls_sha256_context sha;
    mbedtls_sha256_init(&sha);
    int ret = compat_sha256_starts(&sha);
    for (size_t i = 0; i < count && ret == 0; i++) {
        if (parts[i].len) {
            ret = compat_sha256_update(&sha, parts[i].ptr, parts[i].len);
        }
    }
    if (ret == 0) {
        ret = compat_sha256_finish(&sha, out);
    }
    mbedtls_sha256_free(&sha);
    assert(ret == 0);
    (void)ret;
}

struct crypto_hash {
    mbedtls_sha256_context sha;
};

static struct crypto_hash *hash_new(void)
{
    struct crypto_hash *hash = proto_alloc(1, sizeof *hash);
    if (hash) {
        mbedtls_sha256_init(&hash->sha);
        int ret = compat_sha256_starts(&hash->sha);
        assert(ret == 0);
        (void)ret;
    }
    return hash;
}

static void hash_add(struct crypto_hash *hash, struct span bytes)
{
    int ret = bytes.len ? compat_sha256_update(&hash->sha, bytes.ptr, bytes.len) : 0;
    assert(ret == 0);
    (void)ret;
}

static void hash_end(struct crypto_hash *hash, uint8_t *out)
{
    int ret = out ? compat_sha256_finish(&hash->sha, out) : 0;
    assert(ret == 0);
    (void)ret;
    mbedtls_sha256_free(&hash->sha);
    proto_free(hash);
}

/* What both P-256 operations need: the group, and the peer's point checked to lie on the curve. */
struct p256 {
    mbedtls_ecp_group group;
    mbedtls_ecp_point point;
};

static void p256_fini(struct p256 *p)
{
    mbedtls_ecp_point_free(&p->point);
    mbedtls_ecp_group_free(&p->group);
}

static enum err p256_init(struct p256 *p, const uint8_t public_point[65])
{
    mbedtls_ecp_group_init(&p->group);
    mbedtls_ecp_point_init(&p->point);
    if (mbedtls_ecp_group_load(&p->group, MBEDTLS_ECP_DP_SECP256R1) != 0) {
        return E_NO_MEMORY;
    }
    if (public_point[0] != 4 ||
        mbedtls_ecp_point_read_binary(&p->group, &p->point, public_point, 65) != 0 ||
        mbedtls_ecp_check_pubkey(&p->group, &p->point) != 0) {
        return E_AUTH;
    }
    return E_OK;
}

static enum err p256_verify(const uint8_t public_point[65], const uint8_t digest[32],
                            const uint8_t sig[64])
{
    struct p256 p;
    mbedtls_mpi r;
    mbedtls_mpi s;
    mbedtls_mpi_init(&r);
    mbedtls_mpi_init(&s);
    enum err err = p256_init(&p, public_point);
    if (!err && (mbedtls_mpi_read_binary(&r, sig, 32) != 0 ||
                 mbedtls_mpi_read_binary(&s, sig + 32, 32) != 0)) {
        err = E_NO_MEMORY;
    }
    if (!err && mbedtls_ecdsa_verify(&p.group, digest, 32, &p.point, &r, &s) != 0) {
        err = E_AUTH;
    }
    mbedtls_mpi_free(&s);
    mbedtls_mpi_free(&r);
    p256_fini(&p);
    return err;
}

/* A struct crypto_signer is a key of the locked arena. */
static enum err p256_signer_new(const uint8_t secret[32], const uint8_t public_point[65],
                                struct crypto_signer **ret)
{
    (void)public_point;
    mbedtls_ecp_group group;
    mbedtls_mpi d;
    mbedtls_ecp_group_init(&group);
    mbedtls_mpi_init(&d);
    enum err err = E_NO_MEMORY;
    if (mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_SECP256R1) == 0 &&
        mbedtls_mpi_read_binary(&d, secret, 32) == 0) {
        err = mbedtls_ecp_check_privkey(&group, &d) == 0 ? E_OK : E_INVALID;
    }
    mbedtls_mpi_free(&d);
    mbedtls_ecp_group_free(&group);
    struct crypto_key *key = err ? NULL : crypto_key_new();
    if (key) {
        memcpy(key->bytes, secret, 32);
        *ret = (struct crypto_signer *)key;
    }
    return err || key ? err : E_NO_MEMORY;
}

static void p256_signer_free(struct crypto_signer *signer)
{
    crypto_key_free((struct crypto_key *)signer);
}

static enum err p256_sign(const struct crypto_signer *signer, const uint8_t digest[32],
                          uint8_t sig[64])
{
    /* The group is loaded for each call, because mbedTLS 2.28 caches tables in it without a lock. */
    const struct crypto_key *key = (const struct crypto_key *)signer;
    mbedtls_ecp_group group;
    mbedtls_mpi d;
    mbedtls_mpi r;
    mbedtls_mpi s;
    mbedtls_ecp_group_init(&group);
    mbedtls_mpi_init(&d);
    mbedtls_mpi_init(&r);
    mbedtls_mpi_init(&s);
    enum err err = E_INTERNAL;
    if (mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_SECP256R1) == 0 &&
        mbedtls_mpi_read_binary(&d, key->bytes, 32) == 0 &&
        mbedtls_ecdsa_sign_det_ext(&group, &r, &s, &d, digest, 32, MBEDTLS_MD_SHA256, compat_rng,
                                   NULL) == 0 &&
        mbedtls_mpi_write_binary(&r, sig, 32) == 0 &&
        mbedtls_mpi_write_binary(&s, sig + 32, 32) == 0) {
        err = E_OK;
    }
    mbedtls_mpi_free(&s);
    mbedtls_mpi_free(&r);
    mbedtls_mpi_free(&d);
    mbedtls_ecp_group_free(&group);
    return err;
}

static enum err p256_ecdh(const uint8_t secret[32], const uint8_t public_point[65], uint8_t out[32])
{
    struct p256 p;
    mbedtls_mpi d;
    mbedtls_ecp_point shared;
    uint8_t encoded[65];
    size_t len = 0;
    mbedtls_mpi_init(&d);
    mbedtls_ecp_point_init(&shared);
    enum err err = p256_init(&p, public_point);
    if (!err && mbedtls_mpi_read_binary(&d, secret, 32) != 0) {
        err = E_NO_MEMORY;
    }
    if (!err && (mbedtls_ecp_check_privkey(&p.group, &d) != 0 ||
                 mbedtls_ecp_mul(&p.group, &shared, &d, &p.point, compat_rng, NULL) != 0 ||
                 mbedtls_ecp_is_zero(&shared))) {
        err = E_AUTH;
    }
    if (!err && mbedtls_ecp_point_write_binary(&p.group, &shared, MBEDTLS_ECP_PF_UNCOMPRESSED, &len,
                                               encoded, sizeof encoded) != 0) {
        err = E_INTERNAL;
    }
    if (!err) {
        memcpy(out, encoded + 1, 32);
    }
    crypto_wipe(encoded, sizeof encoded);
    mbedtls_ecp_point_free(&shared);
    mbedtls_mpi_free(&d);
    p256_fini(&p);
    return err;
}

/* Clamping as in RFC 7748 section 5; the product checks for the zero result that low-order points give. */
static enum err x25519(const uint8_t secret[32], const uint8_t public_u[32], uint8_t out[32])
{
    static const uint8_t zero[32];
    uint8_t scalar[32];
    uint8_t shared[32] = {0};
    size_t len = 0;
    mbedtls_ecp_group group;
    mbedtls_ecp_point peer;
    mbedtls_ecp_point result;
    mbedtls_mpi d;
    mbedtls_ecp_group_init(&group);
    mbedtls_ecp_point_init(&peer);
    mbedtls_ecp_point_init(&result);
    mbedtls_mpi_init(&d);
    memcpy(scalar, secret, 32);
    scalar[0] &= 248;
    scalar[31] = (uint8_t)((scalar[31] & 127) | 64);
    enum err err = E_AUTH;
    if (mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_CURVE25519) == 0 &&
        mbedtls_mpi_read_binary_le(&d, scalar, 32) == 0 &&
        mbedtls_ecp_point_read_binary(&group, &peer, public_u, 32) == 0 &&
        mbedtls_ecp_mul(&group, &result, &d, &peer, compat_rng, NULL) == 0 &&
        mbedtls_ecp_point_write_binary(&group, &result, MBEDTLS_ECP_PF_UNCOMPRESSED, &len, shared,
                                       32) == 0 &&
        !crypto_equal(shared, zero, 32)) {
        memcpy(out, shared, 32);
        err = E_OK;
    }
    crypto_wipe(scalar, sizeof scalar);
    crypto_wipe(shared, sizeof shared);
    mbedtls_mpi_free(&d);
    mbedtls_ecp_point_free(&result);
    mbedtls_ecp_point_free(&peer);
    mbedtls_ecp_group_free(&group);
    return err;
}

const struct crypto_provider *crypto_provider_mbedtls(void)
{
    static const struct crypto_provider provider = {
        .name = "mbedtls",
        .aead_seal = gcm_seal,
        .aead_open = gcm_open,
        .chacha_seal = chacha_seal,
        .chacha_open = chacha_open,
        .sha256 = crypto_mbedtls_sha256,
        .hash_new = hash_new,
        .hash_add = hash_add,
        .hash_end = hash_end,
        .p256_verify = p256_verify,
        .p256_signer_new = p256_signer_new,
        .p256_signer_free = p256_signer_free,
        .p256_sign = p256_sign,
        .p256_ecdh = p256_ecdh,
        .x25519 = x25519,
    };
    return &provider;
}
