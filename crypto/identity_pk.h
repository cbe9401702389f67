/* Private to crypto/: the way of a private key into mbedTLS and OpenSSL, for certificates and channels. */
#ifndef CONCORDAT_CRYPTO_IDENTITY_PK_H
#define CONCORDAT_CRYPTO_IDENTITY_PK_H

#include "crypto/identity.h"

#define CRYPTO_IDENTITY_DER_SIZE 121

struct mbedtls_pk_context;

/* ECPrivateKey (RFC 5915) with curve and point; the caller wipes it. */
void crypto_identity_to_der(const struct crypto_identity *identity,
                            uint8_t ret_der[CRYPTO_IDENTITY_DER_SIZE]);

/* PK is initialised and empty; the caller frees it, which wipes its copy of the key. */
MUST_CHECK enum err crypto_identity_to_pk(const struct crypto_identity *identity,
                                          struct mbedtls_pk_context *pk);

#endif
