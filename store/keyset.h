/* A set of 64-bit keys, for imports by key: which rows of a file replace stored ones.
 *
 *     bool fresh;
 *     err = store_keyset_add(&set, key, &fresh);        fresh: it was not in the set
 *
 * Threads: one. Limits: STORE_KEYSET_MAX keys, 16 to 32 bytes of memory each. */
#ifndef CONCORDAT_STORE_KEYSET_H
#define CONCORDAT_STORE_KEYSET_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_KEYSET_MAX ((size_t)1 << 22)

/* Zero-initialised. */
struct store_keyset {
    uint64_t *slots; /* 0: free */
    size_t mask;
    size_t count;
    bool has_zero;
};

/* Errors: E_LIMIT, E_NO_MEMORY; the set is then as it was. */
MUST_CHECK enum err store_keyset_add(struct store_keyset *set, uint64_t key, bool *ret_fresh);
bool store_keyset_has(const struct store_keyset *set, uint64_t key);
void store_keyset_fini(struct store_keyset *set);

#endif
