/* The system's random bytes: getrandom(2), and the only source of randomness in the product.
 *
 *     uint8_t nonce[12];
 *     enum err err = crypto_random(nonce, sizeof nonce);
 *
 * No generator of our own stands between the kernel and the caller, so nothing can be seeded, forked or replayed.
 * Threads: any. Limits: none; a call for N bytes costs about N / 400 microseconds. */
#ifndef CONCORDAT_CRYPTO_RANDOM_H
#define CONCORDAT_CRYPTO_RANDOM_H

#include "proto/err.h"
#include "proto/span.h"

/* Fills LEN bytes at TO.
 * Errors: E_IO the kernel has no getrandom; TO is then wiped and must not be used. */
MUST_CHECK enum err crypto_random(void *to, size_t len);

#endif
