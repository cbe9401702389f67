/* Private to crypto/: what the channel shares with certificate.c. */
#ifndef CONCORDAT_CRYPTO_CERTIFICATE_PRIVATE_H
#define CONCORDAT_CRYPTO_CERTIFICATE_PRIVATE_H

#include "crypto/certificate.h"

#include <mbedtls/x509_crt.h>

/* ECDSA P-256 with SHA-256 and nothing else, in chains and in handshakes. */
extern const mbedtls_x509_crt_profile crypto_certificate_profile;

/* As crypto_certificate_parse, for one that mbedTLS has parsed already. */
MUST_CHECK enum err crypto_certificate_read(const mbedtls_x509_crt *crt,
                                            struct crypto_certificate_info *ret,
                                            struct err_info *reterr);
/* A root of our shape; does not check its signature. */
MUST_CHECK enum err crypto_certificate_root_read(const mbedtls_x509_crt *crt,
                                                 char ret_federation[33], uint8_t ret_point[65],
                                                 struct err_info *reterr);
bool crypto_certificate_federation_valid(const char *federation);

#endif
