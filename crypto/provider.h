/* The table of bulk primitives, filled by OpenSSL 3 libcrypto (17 to 26 times faster) or by mbedTLS (always there, and
 * the oracle in the tests). One is chosen at start, after a known-answer test of every operation.
 *
 *     enum err err = crypto_init(&info);             // once, before any thread
 *     crypto_provider()->aead_seal(key, nonce, aad, plain, cipher, tag);
 *
 * It is not the place for key exchange in TLS, X.509 or the signatures in them: these are channel.h and certificate.h.
 * Threads: crypto_init once before threads; everything else from any thread.
 * Limits: one AEAD message is at most CRYPTO_AEAD_MAX bytes. Nonces are the caller's duty: see chunk.h. */
#ifndef CONCORDAT_CRYPTO_PROVIDER_H
#define CONCORDAT_CRYPTO_PROVIDER_H

#include "proto/err.h"
#include "proto/hash.h"
#include "proto/span.h"

#define CRYPTO_AEAD_MAX          ((size_t)64 << 20)
#define CRYPTO_SIGNATURE_SIZE    64
#define CRYPTO_POINT_SIZE        65 /* uncompressed P-256 */
#define CRYPTO_SIGNATURE_DER_MAX 72

struct crypto_signer; /* each provider has its own */
struct crypto_hash;   /* the same */

/* Seal and open: cipher and plain have the same length and may be the same memory. When open fails it returns E_AUTH
 * and out_plain is wiped. Other errors: E_LIMIT too long, E_INTERNAL the library failed. */
struct crypto_provider {
    const char *name;
    /* AES-256-GCM */
    enum err (*aead_seal)(const uint8_t key[32], const uint8_t nonce[12], struct span aad,
                          struct span plain, uint8_t *out_cipher, uint8_t out_tag[16]);
    enum err (*aead_open)(const uint8_t key[32], const uint8_t nonce[12], struct span aad,
                          struct span cipher, const uint8_t tag[16], uint8_t *out_plain);
    /* ChaCha20-Poly1305 (RFC 8439), same contract */
    enum err (*chacha_seal)(const uint8_t key[32], const uint8_t nonce[12], struct span aad,
                            struct span plain, uint8_t *out_cipher, uint8_t out_tag[16]);
    enum err (*chacha_open)(const uint8_t key[32], const uint8_t nonce[12], struct span aad,
                            struct span cipher, const uint8_t tag[16], uint8_t *out_plain);
    /* Over the concatenation of the parts. Cannot fail. */
    void (*sha256)(const struct span *parts, size_t count, uint8_t out[32]);
    /* The same for what comes piece by piece. new: NULL when out of memory. end frees; OUT may be NULL. */
    struct crypto_hash *(*hash_new)(void);
    void (*hash_add)(struct crypto_hash *hash, struct span bytes);
    void (*hash_end)(struct crypto_hash *hash, uint8_t *out);
    /* ECDSA P-256 over a SHA-256 digest, signature r||s. High s is accepted here; envelope.h refuses it.
     * E_AUTH when the signature or the point is not valid. */
    enum err (*p256_verify)(const uint8_t public_point[65], const uint8_t digest[32],
                            const uint8_t sig[64]);
    /* A secret made ready for signing, with its own point; many threads may sign with one at a time. The caller owns it,
     * and freeing wipes it. E_INVALID the secret is not in 1..n-1; E_NO_MEMORY. */
    enum err (*p256_signer_new)(const uint8_t secret[32], const uint8_t public_point[65],
                                struct crypto_signer **ret);
    void (*p256_signer_free)(struct crypto_signer *signer); /* NULL is allowed */
    /* r||s over a SHA-256 digest; s may be high. mbedTLS: RFC 6979. libcrypto: the nonce comes from the secret, the digest
     * and its own random generator together, so a weak generator does not betray the secret. E_INTERNAL, E_NO_MEMORY. */
    enum err (*p256_sign)(const struct crypto_signer *signer, const uint8_t digest[32],
                          uint8_t sig[64]);
    /* The x coordinate. E_AUTH: the point is not on the curve or the scalar is out of range. */
    enum err (*p256_ecdh)(const uint8_t secret[32], const uint8_t public_point[65],
                          uint8_t out[32]);
    /* RFC 7748. E_AUTH: the shared secret would be zero (low-order point). */
    enum err (*x25519)(const uint8_t secret[32], const uint8_t public_u[32], uint8_t out[32]);
};

/* NULL when not built in. */
const struct crypto_provider *crypto_provider_libcrypto(void);
const struct crypto_provider *crypto_provider_mbedtls(void);

/* Picks libcrypto when it is built in and tests every operation of what it picked with known answers. A second call
 * does nothing. It also runs mbedTLS's AES once before there are threads, which CVE-2025-52496 asks for.
 * Errors: E_INTERNAL a known answer failed: the program must not go on. */
MUST_CHECK enum err crypto_init(struct err_info *reterr);
/* The chosen one; a program that forgot crypto_init is stopped by an assertion. */
const struct crypto_provider *crypto_provider(void);
/* The known-answer test of one provider; crypto_init calls it. */
MUST_CHECK enum err crypto_provider_test(const struct crypto_provider *provider,
                                         struct err_info *reterr);

void crypto_sha256(const struct span *parts, size_t count, uint8_t out[32]);
void crypto_sha256_one(struct span bytes, uint8_t out[32]);
/* For pure code that takes a hash from its caller. */
extern const struct proto_hash crypto_proto_hash;

/* ECDSA signature forms. The DER reader is strict (minimal lengths, positive minimal integers, nothing behind).
 * Errors: E_INVALID. */
MUST_CHECK enum err crypto_signature_from_der(struct span der, uint8_t ret_sig[64]);
size_t crypto_signature_to_der(const uint8_t sig[64], uint8_t ret_der[CRYPTO_SIGNATURE_DER_MAX]);

#endif
