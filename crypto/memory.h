/* Memory for keys: wiping, comparing in constant time, and one arena for 32-byte keys that is locked into RAM,
 * left out of core dumps, emptied in a forked child and framed by guard pages. Not for data.
 *
 *     struct crypto_key *key = crypto_key_new();
 *     if (!key) { return E_NO_MEMORY; }
 *     ...
 *     crypto_key_free(key);
 *
 * A process that becomes a daemon must fork before it makes keys: the child finds zeros (MADV_WIPEONFORK).
 * Threads: any. Limits: CRYPTO_KEY_MAX live keys in a process (2 MiB, below Debian's RLIMIT_MEMLOCK of 8 MiB). */
#ifndef CONCORDAT_CRYPTO_MEMORY_H
#define CONCORDAT_CRYPTO_MEMORY_H

#include "proto/alloc.h"
#include "proto/err.h"
#include "proto/span.h"

#define CRYPTO_KEY_SIZE 32
#define CRYPTO_KEY_MAX  65536

struct crypto_key {
    uint8_t bytes[CRYPTO_KEY_SIZE];
};

/* A zeroed key in the arena; NULL when the arena is full or cannot be mapped. */
struct crypto_key *crypto_key_new(void);
/* Wipes and gives back; NULL is fine. */
void crypto_key_free(struct crypto_key *key);
/* Whether every page of the arena could be locked; false in a container with too small an RLIMIT_MEMLOCK.
 * Then keys can reach swap, which `doctor` should say. */
bool crypto_key_locked(void);

/* Overwrites with zeros in a way that the compiler keeps. */
void crypto_wipe(void *p, size_t len);
/* Frees a buffer whose bytes nobody should find again. */
void crypto_buf_fini(struct buf *buf);
/* Compares without a branch on the contents. */
bool crypto_equal(const void *a, const void *b, size_t len);

/* Once, at the start of a program that holds keys: no core files and no tracing by other processes of the user. */
MUST_CHECK enum err crypto_process_harden(void);

#endif
