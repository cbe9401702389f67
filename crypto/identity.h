/* P-256 key pairs of a node, and the names derived from them.
 *
 *     crypto_identity_generate(&identity);
 *     crypto_identity_node_id(crypto_identity_point(identity), id);
 *     crypto_identity_save(identity, "home/identity/identity.key", dek, &info);
 *
 * File: "CID1" | point[65] | sealed chunk (chunk.h) of the 32-byte secret, context "concordat/identity/1", AAD = the 69
 * bytes before it. Signatures are r||s, low s; two of the same bytes may differ (provider.h), so
 * nothing is named by its signature.
 * Threads: an identity may be used from many threads at once. Limits: one curve. */
#ifndef CONCORDAT_CRYPTO_IDENTITY_H
#define CONCORDAT_CRYPTO_IDENTITY_H

#include "crypto/memory.h"
#include "crypto/provider.h"
#include "proto/err.h"

#define CRYPTO_SPKI_SIZE 91 /* DER SubjectPublicKeyInfo of an uncompressed P-256 point */

struct crypto_identity;

MUST_CHECK enum err crypto_identity_generate(struct crypto_identity **ret);
/* Errors: E_NOT_FOUND; E_CORRUPT not such a file; E_AUTH the key does not fit or bytes were changed; E_IO. */
MUST_CHECK enum err crypto_identity_load(const char *path, const struct crypto_key *dek,
                                         struct crypto_identity **ret, struct err_info *reterr);
/* Writes mode 0600, durable on return; replaces an old file at once. */
MUST_CHECK enum err crypto_identity_save(const struct crypto_identity *identity, const char *path,
                                         const struct crypto_key *dek, struct err_info *reterr);
void crypto_identity_free(struct crypto_identity *identity);
MUST_CHECK enum err crypto_identity_clone(const struct crypto_identity *identity,
                                          struct crypto_identity **ret);

/* 65 bytes, uncompressed. */
const uint8_t *crypto_identity_point(const struct crypto_identity *identity);
/* SHA-256(SPKI DER)[0:16]. */
void crypto_identity_node_id(const uint8_t point[65], uint8_t ret_id[16]);
/* SHA-256(SPKI DER) in hexadecimal, for people to compare. */
void crypto_identity_fingerprint(const uint8_t point[65], char ret[65]);
void crypto_identity_spki(const uint8_t point[65], uint8_t ret_spki[CRYPTO_SPKI_SIZE]);
/* The point lies on the curve. Errors: E_INVALID. */
MUST_CHECK enum err crypto_identity_check_point(const uint8_t point[65]);

/* Low-s signature over a SHA-256 digest. Errors: E_INTERNAL, E_NO_MEMORY. */
MUST_CHECK enum err crypto_identity_sign(const struct crypto_identity *identity,
                                         const uint8_t digest[32], uint8_t ret_sig[64]);

#endif
