/* A 32-byte secret split into n printable shares of which any k give it back and k - 1 say nothing (Shamir 1979, bytewise
 * over GF(2^8) with the polynomial 0x11B, as in AES; share x is the value at x, the secret stands at 0).
 *
 *     char texts[5][CRYPTO_SHARE_TEXT];
 *     crypto_shares_split(secret, set, 3, 5, texts);
 *     crypto_shares_combine(lines, 3, secret, &info);
 *
 * A share as text: "ccr1" and then groups of five characters, each after a '-', in Crockford's base 32 (no i, l, o, u):
 *     u8 version 1 | set[4] | u8 k | u8 x | value[32] | SHA-256("concordat/share/1" | all before)[0:4]
 * Case, blanks and dashes do not matter when it is read. The checksum finds a typing error, not a forger; whether the
 * combined secret is the right one is told by what it opens.
 * Threads: pure but for the randomness. Limits: 2 <= k <= n <= CRYPTO_SHARES_MAX. */
#ifndef CONCORDAT_CRYPTO_SHARES_H
#define CONCORDAT_CRYPTO_SHARES_H

#include "crypto/memory.h"
#include "proto/err.h"
#include "proto/span.h"

#define CRYPTO_SHARES_MAX 32
#define CRYPTO_SHARE_TEXT 96 /* with the final zero */

/* SET tells sets of shares apart. The caller wipes RET once the shares were handed out.
 * Errors: E_USAGE k or n; E_IO no randomness. */
MUST_CHECK enum err crypto_shares_split(const struct crypto_key *secret, const uint8_t set[4],
                                        unsigned k, unsigned n, char (*ret)[CRYPTO_SHARE_TEXT]);
/* TEXTS may stand in any order; one that comes twice counts once, and more than k are fine.
 * Errors: E_INVALID one is mistyped (its place in TEXTS is told), or they are of two sets; E_USAGE fewer than k. */
MUST_CHECK enum err crypto_shares_combine(const char *const *texts, size_t count,
                                          struct crypto_key *ret, struct err_info *reterr);
/* The shape of one share alone: what the fuzzer drives. Errors: E_INVALID. */
MUST_CHECK enum err crypto_share_check(struct span text);

#endif
