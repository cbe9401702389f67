/* Private to crypto/: the way of a private key into mbedTLS, for certificates and channels. */
#ifndef CONCORDAT_CRYPTO_IDENTITY_PK_H
#define CONCORDAT_CRYPTO_IDENTITY_PK_H

#include "crypto/identity.h"

struct mbedtls_pk_context;

/* PK is initialised and empty; the caller frees it, which wipes its copy of the key. */
MUST_CHECK enum err crypto_identity_to_pk(const struct crypto_identity *identity,
                                          struct mbedtls_pk_context *pk);

#endif
