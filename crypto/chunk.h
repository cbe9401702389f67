/* Sealed chunks: how every piece of data at rest is encrypted.
 *
 *     crypto_sealer_open(dek, span_str("flchain/age"), &sealer);
 *     crypto_sealer_seal(sealer, aad, plain, out, sizeof out, &len);
 *     crypto_chunk_open(dek, span_str("flchain/age"), aad, span_of(out, len), plain, sizeof plain, &plain_len);
 *
 * Bytes (big-endian): "CCK1" | u8 version 1 | u8 algorithm 1 (AES-256-GCM) | u16 key version 1 | epoch[8] | nonce[12] |
 * u32 plain_len | cipher | tag[16]. The 32 header bytes and then the caller's AAD are authenticated.
 * Key = HKDF-Expand(DEK, "concordat/chunk/1\0" | context | epoch). The epoch is 64 fresh random bits for each opening of a
 * sealer, the nonce is 0^32 | u64 counter of that sealer: it never goes back in a process, an aborted transaction burns
 * its numbers, and a restored backup or cloned machine gets another key, so that (key, nonce) never repeats.
 * The AAD should hold the chunk's full coordinates (node, partition, table, column, number, rows, schema): this stops
 * swapping and cutting; it does not stop the return of an older whole file.
 * Threads: a sealer or opener belongs to one thread at a time; crypto_chunk_open from any.
 * Limits: plain at most CRYPTO_CHUNK_PLAIN_MAX, AAD at most CRYPTO_CHUNK_AAD_MAX, context at most CRYPTO_CHUNK_CONTEXT_MAX. */
#ifndef CONCORDAT_CRYPTO_CHUNK_H
#define CONCORDAT_CRYPTO_CHUNK_H

#include "crypto/memory.h"
#include "proto/err.h"
#include "proto/span.h"

#define CRYPTO_CHUNK_HEADER      32
#define CRYPTO_CHUNK_OVERHEAD    48
#define CRYPTO_CHUNK_PLAIN_MAX   ((size_t)4 << 20)
#define CRYPTO_CHUNK_AAD_MAX     1024
#define CRYPTO_CHUNK_CONTEXT_MAX 512

struct crypto_sealer;
/* Errors: E_LIMIT context too long; E_NO_MEMORY; E_IO no randomness. */
MUST_CHECK enum err crypto_sealer_open(const struct crypto_key *dek, struct span context,
                                       struct crypto_sealer **ret);
/* OUT must not overlap PLAIN. Errors: E_LIMIT out_cap or an input is out of bounds, or the counter is used up. */
MUST_CHECK enum err crypto_sealer_seal(struct crypto_sealer *sealer, struct span aad,
                                       struct span plain, uint8_t *out, size_t out_cap,
                                       size_t *ret_len);
void crypto_sealer_close(struct crypto_sealer *sealer);

/* Opens one chunk; derives the epoch's key each time.
 * Errors: E_CORRUPT not the shape of a chunk; E_LIMIT out_cap is too small; E_AUTH key, context, AAD or bytes differ.
 * On failure nothing of the plaintext is in OUT. */
MUST_CHECK enum err crypto_chunk_open(const struct crypto_key *dek, struct span context,
                                      struct span aad, struct span chunk, uint8_t *out,
                                      size_t out_cap, size_t *ret_len);
/* The plain length that the header claims (not authenticated), for sizing a buffer. Errors: E_CORRUPT. */
MUST_CHECK enum err crypto_chunk_plain_len(struct span chunk, size_t *ret_len);

/* The same with a small cache of epoch keys, for scans. DEK is copied. */
struct crypto_opener;
MUST_CHECK enum err crypto_opener_new(const struct crypto_key *dek, struct span context,
                                      struct crypto_opener **ret);
MUST_CHECK enum err crypto_opener_open(struct crypto_opener *opener, struct span aad,
                                       struct span chunk, uint8_t *out, size_t out_cap,
                                       size_t *ret_len);
void crypto_opener_free(struct crypto_opener *opener);

#endif
