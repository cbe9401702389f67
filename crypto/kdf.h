/* Derivation of keys: HMAC-SHA256 (RFC 2104), HKDF-SHA256 (RFC 5869), Argon2id (RFC 9106, version 0x13).
 *
 *     crypto_hkdf_expand(dek->bytes, span_str("concordat/index/1"), key->bytes, 32);
 *
 * Every info string in the product starts with "concordat/" and ends its label with a version, so that no two uses
 * of one key can meet. The functions ending in _by take the provider and exist for the tests of both.
 * Threads: any. Limits: HKDF at most 255 * 32 bytes; HMAC at most CRYPTO_HMAC_PARTS parts. */
#ifndef CONCORDAT_CRYPTO_KDF_H
#define CONCORDAT_CRYPTO_KDF_H

#include "crypto/provider.h"

#define CRYPTO_HMAC_PARTS        15
#define CRYPTO_HKDF_MAX          ((size_t)255 * 32)
#define CRYPTO_ARGON2_MEMORY_KIB ((uint32_t)256 << 10) /* the default cost of a passphrase slot */
#define CRYPTO_ARGON2_PASSES     3

/* Extract and expand. Errors: E_LIMIT LEN is above CRYPTO_HKDF_MAX. */
MUST_CHECK enum err crypto_hkdf(struct span salt, struct span ikm, struct span info, uint8_t *out,
                                size_t len);
/* Expand alone, for a PRK that is uniformly random already. */
MUST_CHECK enum err crypto_hkdf_expand(const uint8_t prk[32], struct span info, uint8_t *out,
                                       size_t len);
void crypto_hmac(struct span key, const struct span *parts, size_t count, uint8_t out[32]);

MUST_CHECK enum err crypto_hkdf_by(const struct crypto_provider *provider, struct span salt,
                                   struct span ikm, struct span info, uint8_t *out, size_t len);
void crypto_hmac_by(const struct crypto_provider *provider, struct span key,
                    const struct span *parts, size_t count, uint8_t out[32]);

/* One lane. Errors: E_LIMIT parameters outside Argon2's own range; E_NO_MEMORY. */
MUST_CHECK enum err crypto_argon2id(struct span passphrase, const uint8_t salt[16],
                                    uint32_t memory_kib, uint32_t passes, uint8_t out[32]);

#endif
