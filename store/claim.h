/* One change of a dataset at a time in this process: import, removal and key rotation claim its name first.
 *
 *     struct store_claim claim = {.store = store, .dataset = "flchain"};
 *     if (!store_claim_enter(&claim)) { return E_BUSY; }
 *     ...
 *     store_claim_leave(&claim);
 *
 * Threads: any. The structure belongs to the caller's stack; another process is kept out by env.h. */
#ifndef CONCORDAT_STORE_CLAIM_H
#define CONCORDAT_STORE_CLAIM_H

#include <stdbool.h>

struct store;

struct store_claim {
    struct store_claim *next;
    const struct store *store;
    const char *dataset;
};

bool store_claim_enter(struct store_claim *self);
/* Only after store_claim_enter returned true. */
void store_claim_leave(struct store_claim *self);

#endif
