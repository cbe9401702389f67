#include "config.h"
#include "crypto/provider.h"

#ifdef HAVE_LIBCRYPTO

#include "crypto/memory.h"
#include "crypto/provider_mbedtls.h"
#include "proto/alloc.h"

#include <assert.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <pthread.h>

/* Fetched once, in a library context of our own: implicit fetching by every call is slow, and the host's default
 * context with its configuration file is neither used nor touched. They live as long as the process. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static OSSL_LIB_CTX *library;
static EVP_CIPHER *aes_gcm;
static EVP_CIPHER *chacha_poly;
static EVP_MD *sha256_md;
static bool ready;

static void fetch_all(void)
{
    library = OSSL_LIB_CTX_new();
    if (!library) {
        return;
    }
    aes_gcm = EVP_CIPHER_fetch(library, "AES-256-GCM", NULL);
    chacha_poly = EVP_CIPHER_fetch(library, "ChaCha20-Poly1305", NULL);
    sha256_md = EVP_MD_fetch(library, "SHA2-256", NULL);
    ready = aes_gcm && chacha_poly && sha256_md;
}

/* A context for each call, since a kept one would hold the last key's schedule; freeing wipes it. The cost is below a
 * microsecond, against 17 for a chunk of 64 KiB. */
static enum err seal(const EVP_CIPHER *cipher, const uint8_t key[32], const uint8_t nonce[12],
                     struct span aad, struct span plain, uint8_t *out_cipher, uint8_t out_tag[16])
{
    if (plain.len > CRYPTO_AEAD_MAX || aad.len > CRYPTO_AEAD_MAX) {
        return E_LIMIT;
    }
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (!ctx) {
        return E_NO_MEMORY;
    }
    int n = 0;
    uint8_t none[16];
    bool ok = EVP_EncryptInit_ex2(ctx, cipher, key, nonce, NULL) == 1 &&
              (aad.len == 0 || EVP_EncryptUpdate(ctx, NULL, &n, aad.ptr, (int)aad.len) == 1) &&
              (plain.len == 0 ||
               EVP_EncryptUpdate(ctx, out_cipher, &n, plain.ptr, (int)plain.len) == 1) &&
              EVP_EncryptFinal_ex(ctx, none, &n) == 1 && n == 0 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, out_tag) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return ok ? E_OK : E_INTERNAL;
}

static enum err unseal(const EVP_CIPHER *algorithm, const uint8_t key[32], const uint8_t nonce[12],
                       struct span aad, struct span cipher, const uint8_t tag[16],
                       uint8_t *out_plain)
{
    if (cipher.len > CRYPTO_AEAD_MAX || aad.len > CRYPTO_AEAD_MAX) {
        return E_LIMIT;
    }
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (!ctx) {
        return E_NO_MEMORY;
    }
    int n = 0;
    uint8_t none[16];
    uint8_t expected[16];
    memcpy(expected, tag, sizeof expected);
    bool ok = EVP_DecryptInit_ex2(ctx, algorithm, key, nonce, NULL) == 1 &&
              (aad.len == 0 || EVP_DecryptUpdate(ctx, NULL, &n, aad.ptr, (int)aad.len) == 1) &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, expected) == 1 &&
              (cipher.len == 0 ||
               EVP_DecryptUpdate(ctx, out_plain, &n, cipher.ptr, (int)cipher.len) == 1);
    enum err err = !ok ? E_INTERNAL : EVP_DecryptFinal_ex(ctx, none, &n) == 1 ? E_OK : E_AUTH;
    EVP_CIPHER_CTX_free(ctx);
    if (err) {
        crypto_wipe(out_plain, cipher.len);
    }
    return err;
}

static enum err gcm_seal(const uint8_t key[32], const uint8_t nonce[12], struct span aad,
                         struct span plain, uint8_t *out_cipher, uint8_t out_tag[16])
{
    return seal(aes_gcm, key, nonce, aad, plain, out_cipher, out_tag);
}

static enum err gcm_open(const uint8_t key[32], const uint8_t nonce[12], struct span aad,
                         struct span cipher, const uint8_t tag[16], uint8_t *out_plain)
{
    return unseal(aes_gcm, key, nonce, aad, cipher, tag, out_plain);
}

static enum err chacha_seal(const uint8_t key[32], const uint8_t nonce[12], struct span aad,
                            struct span plain, uint8_t *out_cipher, uint8_t out_tag[16])
{
    return seal(chacha_poly, key, nonce, aad, plain, out_cipher, out_tag);
}

static enum err chacha_open(const uint8_t key[32], const uint8_t nonce[12], struct span aad,
                            struct span cipher, const uint8_t tag[16], uint8_t *out_plain)
{
    return unseal(chacha_poly, key, nonce, aad, cipher, tag, out_plain);
}

static void sha256(const struct span *parts, size_t count, uint8_t out[32])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestInit_ex2(ctx, sha256_md, NULL) == 1;
    for (size_t i = 0; i < count && ok; i++) {
        ok = parts[i].len == 0 || EVP_DigestUpdate(ctx, parts[i].ptr, parts[i].len) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    if (!ok) {
        crypto_mbedtls_sha256(parts, count,
                              out); /* a hash must not fail: it needs no memory there */
    }
}

static struct crypto_hash *hash_new(void)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx && EVP_DigestInit_ex2(ctx, sha256_md, NULL) != 1) {
        EVP_MD_CTX_free(ctx);
        ctx = NULL;
    }
    return (struct crypto_hash *)ctx;
}

static void hash_add(struct crypto_hash *hash, struct span bytes)
{
    bool ok = bytes.len == 0 || EVP_DigestUpdate((EVP_MD_CTX *)hash, bytes.ptr, bytes.len) == 1;
    assert(ok); /* a block function on memory: it has no way to fail */
    (void)ok;
}

static void hash_end(struct crypto_hash *hash, uint8_t *out)
{
    bool ok = !out || EVP_DigestFinal_ex((EVP_MD_CTX *)hash, out, NULL) == 1;
    assert(ok);
    (void)ok;
    EVP_MD_CTX_free((EVP_MD_CTX *)hash);
}

/* A key from its parts; secret may be NULL. The library checks that the point lies on the curve. */
static EVP_PKEY *p256_key(const uint8_t public_point[65], const uint8_t *secret)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = NULL;
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *d = secret ? BN_secure_new() : NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(library, "EC", NULL);
    bool ok =
        build && ctx &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) == 1;
    if (public_point) {
        ok =
            ok && public_point[0] == 4 &&
            OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, public_point, 65) == 1;
    }
    if (secret) {
        ok = ok && d && BN_bin2bn(secret, 32, d) && !BN_is_zero(d) &&
             OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, d) == 1;
    }
    if (ok && (params = OSSL_PARAM_BLD_to_param(build)) && EVP_PKEY_fromdata_init(ctx) == 1 &&
        EVP_PKEY_fromdata(ctx, &key, secret ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, params) !=
            1) {
        key = NULL;
    }
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_clear_free(d);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* Members' points come again with every message, and making the object (curve check, tables) costs half a verification; a
 * context that stands ready saves the library's search for the method. Only public points are kept. A place holds one of
 * them; a newcomer with the same first bytes takes it over. */
#define KNOWN_POINTS 256

static struct known {
    uint8_t point[65];
    EVP_PKEY *key;
    EVP_PKEY_CTX *idle; /* of that key, ready to verify; NULL: in use, or not made yet */
} known[KNOWN_POINTS];
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER;

static struct known *place_of(const uint8_t public_point[65])
{
    return &known[public_point[1] % KNOWN_POINTS];
}

/* One's own reference to the object, to be freed. */
static EVP_PKEY *p256_known(const uint8_t public_point[65])
{
    struct known *place = place_of(public_point);
    EVP_PKEY *key = NULL;
    pthread_mutex_lock(&known_lock);
    if (place->key && memcmp(place->point, public_point, 65) == 0 &&
        EVP_PKEY_up_ref(place->key) == 1) {
        key = place->key;
    }
    pthread_mutex_unlock(&known_lock);
    if (key || !(key = p256_key(public_point, NULL)) || EVP_PKEY_up_ref(key) != 1) {
        return key;
    }
    pthread_mutex_lock(&known_lock);
    EVP_PKEY *old = place->key;
    EVP_PKEY_CTX *old_idle = place->idle;
    place->key = key;
    place->idle = NULL;
    memcpy(place->point, public_point, 65);
    pthread_mutex_unlock(&known_lock);
    EVP_PKEY_CTX_free(old_idle);
    EVP_PKEY_free(old);
    return key;
}

/* The caller's until verifier_leave, since a context serves one thread at a time. NULL: no such point, or no memory. */
static EVP_PKEY_CTX *verifier_take(const uint8_t public_point[65])
{
    struct known *place = place_of(public_point);
    EVP_PKEY_CTX *ctx = NULL;
    pthread_mutex_lock(&known_lock);
    if (place->idle && memcmp(place->point, public_point, 65) == 0) {
        ctx = place->idle;
        place->idle = NULL;
    }
    pthread_mutex_unlock(&known_lock);
    if (ctx) {
        return ctx;
    }
    EVP_PKEY *key = p256_known(public_point);
    ctx = key ? EVP_PKEY_CTX_new_from_pkey(library, key, NULL) : NULL;
    if (ctx && EVP_PKEY_verify_init(ctx) != 1) {
        EVP_PKEY_CTX_free(ctx);
        ctx = NULL;
    }
    EVP_PKEY_free(key);
    return ctx;
}

static void verifier_leave(const uint8_t public_point[65], EVP_PKEY_CTX *ctx)
{
    struct known *place = place_of(public_point);
    pthread_mutex_lock(&known_lock);
    if (ctx && !place->idle && place->key == EVP_PKEY_CTX_get0_pkey(ctx)) {
        place->idle = ctx;
        ctx = NULL;
    }
    pthread_mutex_unlock(&known_lock);
    EVP_PKEY_CTX_free(ctx);
}

static enum err p256_verify(const uint8_t public_point[65], const uint8_t digest[32],
                            const uint8_t sig[64])
{
    uint8_t der[CRYPTO_SIGNATURE_DER_MAX];
    size_t der_len = crypto_signature_to_der(sig, der);
    EVP_PKEY_CTX *ctx = verifier_take(public_point);
    bool ok = ctx && EVP_PKEY_verify(ctx, der, der_len, digest, 32) == 1;
    verifier_leave(public_point, ctx);
    return ok ? E_OK : E_AUTH;
}

/* --- signing ------------------------------------------------------------------------------------------------------ */

/* The key object lives as long as its identity, so its numbers must not lie in the ordinary heap: the library's secure
 * heap is locked, kept out of dumps, and wiped when freed. It is the process's one; where a host has made it already, or
 * memory cannot be locked, the library goes on with what there is, as it does for all its other users. */
#define SECURE_HEAP  ((size_t)64 << 10)
#define SECURE_BLOCK 32

static pthread_once_t heap_once = PTHREAD_ONCE_INIT;

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif

static void make_heap(void)
{
#ifndef UNDER_ASAN
    /* The leak detector does not look into that heap: it would report what the library's own generator keeps there. */
    if (!CRYPTO_secure_malloc_initialized()) {
        (void)CRYPTO_secure_malloc_init(SECURE_HEAP, SECURE_BLOCK);
    }
#endif
}

static bool scalar_valid(const uint8_t secret[32]);

/* The library's own key, and a context that stands ready to sign, as for known points. */
struct crypto_signer {
    EVP_PKEY *key;
    pthread_mutex_t lock;
    EVP_PKEY_CTX *idle; /* under lock; NULL: in use, or not made yet */
};

static void p256_signer_free(struct crypto_signer *signer)
{
    if (signer) {
        EVP_PKEY_CTX_free(signer->idle);
        EVP_PKEY_free(signer->key);
        pthread_mutex_destroy(&signer->lock);
        proto_free(signer);
    }
}

static enum err p256_signer_new(const uint8_t secret[32], const uint8_t public_point[65],
                                struct crypto_signer **ret)
{
    if (!scalar_valid(secret)) {
        return E_INVALID;
    }
    pthread_once(&heap_once, make_heap);
    struct crypto_signer *signer = proto_alloc(1, sizeof *signer);
    if (!signer || pthread_mutex_init(&signer->lock, NULL)) {
        proto_free(signer);
        return E_NO_MEMORY;
    }
    signer->key = p256_key(public_point, secret);
    if (!signer->key) {
        p256_signer_free(signer);
        return E_NO_MEMORY;
    }
    *ret = signer;
    return E_OK;
}

static EVP_PKEY_CTX *signer_take(struct crypto_signer *signer)
{
    pthread_mutex_lock(&signer->lock);
    EVP_PKEY_CTX *ctx = signer->idle;
    signer->idle = NULL;
    pthread_mutex_unlock(&signer->lock);
    if (!ctx) {
        ctx = EVP_PKEY_CTX_new_from_pkey(library, signer->key, NULL);
        if (ctx && EVP_PKEY_sign_init(ctx) != 1) {
            EVP_PKEY_CTX_free(ctx);
            ctx = NULL;
        }
    }
    return ctx;
}

static void signer_leave(struct crypto_signer *signer, EVP_PKEY_CTX *ctx)
{
    pthread_mutex_lock(&signer->lock);
    if (!signer->idle) {
        signer->idle = ctx;
        ctx = NULL;
    }
    pthread_mutex_unlock(&signer->lock);
    EVP_PKEY_CTX_free(ctx);
}

static enum err p256_sign(const struct crypto_signer *signer, const uint8_t digest[32],
                          uint8_t sig[64])
{
    /* To its users it never changes: only the context that stands ready comes and goes. */
    struct crypto_signer *own = (struct crypto_signer *)(uintptr_t)signer;
    uint8_t der[CRYPTO_SIGNATURE_DER_MAX];
    size_t len = sizeof der;
    EVP_PKEY_CTX *ctx = signer_take(own);
    bool ok = ctx && EVP_PKEY_sign(ctx, der, &len, digest, 32) == 1;
    signer_leave(own, ctx);
    return ok && crypto_signature_from_der(span_of(der, len), sig) == E_OK ? E_OK : E_INTERNAL;
}

static enum err derive(EVP_PKEY *own, EVP_PKEY *peer, uint8_t out[32])
{
    uint8_t shared[32];
    size_t len = sizeof shared;
    EVP_PKEY_CTX *ctx = own && peer ? EVP_PKEY_CTX_new_from_pkey(library, own, NULL) : NULL;
    bool ok = ctx && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, peer) == 1 &&
              EVP_PKEY_derive(ctx, shared, &len) == 1 && len == sizeof shared;
    if (ok) {
        memcpy(out, shared, sizeof shared);
    }
    crypto_wipe(shared, sizeof shared);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(own);
    EVP_PKEY_free(peer);
    return ok ? E_OK : E_AUTH;
}

/* 1 to n - 1; the library would reduce a larger one. The comparison leaves at the first byte in all but 2^-8 of cases and
 * tells no more than whether the secret is near the order. */
static bool scalar_valid(const uint8_t secret[32])
{
    static const uint8_t zero[32];
    static const uint8_t order[32] = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84,
                                      0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};
    return !crypto_equal(secret, zero, 32) && memcmp(secret, order, 32) < 0;
}

static enum err p256_ecdh(const uint8_t secret[32], const uint8_t public_point[65], uint8_t out[32])
{
    if (!scalar_valid(secret)) {
        return E_AUTH;
    }
    return derive(p256_key(NULL, secret), p256_key(public_point, NULL), out);
}

static enum err x25519(const uint8_t secret[32], const uint8_t public_u[32], uint8_t out[32])
{
    return derive(EVP_PKEY_new_raw_private_key_ex(library, "X25519", NULL, secret, 32),
                  EVP_PKEY_new_raw_public_key_ex(library, "X25519", NULL, public_u, 32), out);
}

const struct crypto_provider *crypto_provider_libcrypto(void)
{
    static const struct crypto_provider provider = {
        .name = "libcrypto",
        .aead_seal = gcm_seal,
        .aead_open = gcm_open,
        .chacha_seal = chacha_seal,
        .chacha_open = chacha_open,
        .sha256 = sha256,
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
    pthread_once(&once, fetch_all);
    return ready ? &provider : NULL;
}

#else

const struct crypto_provider *crypto_provider_libcrypto(void)
{
    return NULL;
}

#endif
