/* Private to crypto/: the hash that cannot fail, for the other provider to fall back on when it is out of memory. */
#ifndef CONCORDAT_CRYPTO_PROVIDER_MBEDTLS_H
#define CONCORDAT_CRYPTO_PROVIDER_MBEDTLS_H

#include "crypto/provider.h"

void crypto_mbedtls_sha256(const struct span *parts, size_t count, uint8_t out[32]);

#endif
