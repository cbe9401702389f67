/* Domain-separated signatures over exact bytes: digest = SHA-256(domain | 0x00 | federation_id[16] | bytes).
 *
 *     crypto_envelope_sign(identity, "concordat/record/licence/1", fed_id, bytes, sig);
 *     crypto_envelope_verify(point, "concordat/record/licence/1", fed_id, bytes, sig);
 *
 * The domain names what the bytes are, so that a signature on one kind of thing never counts for another kind or for
 * another federation. Verification refuses high s: a signature has one encoding, and a record one hash.
 * Threads: any. Limits: a domain has 1 to CRYPTO_ENVELOPE_DOMAIN bytes. */
#ifndef CONCORDAT_CRYPTO_ENVELOPE_H
#define CONCORDAT_CRYPTO_ENVELOPE_H

#include "crypto/identity.h"

#define CRYPTO_ENVELOPE_DOMAIN 64

/* Errors: E_INVALID the domain; E_INTERNAL, E_NO_MEMORY. */
MUST_CHECK enum err crypto_envelope_sign(const struct crypto_identity *identity, const char *domain,
                                         const uint8_t fed_id[16], struct span bytes,
                                         uint8_t ret_sig[64]);
/* Errors: E_AUTH it is not a low-s signature of these bytes by this key; E_INVALID the domain. */
MUST_CHECK enum err crypto_envelope_verify(const uint8_t point[65], const char *domain,
                                           const uint8_t fed_id[16], struct span bytes,
                                           const uint8_t sig[64]);

#endif
