/* Agreements of this node, as consumer or provider: one sealed row each, with every signed document that it came from.
 *
 *     err = store_agreement_put(store, &row, &info);
 *     err = store_agreement_each(store, each, user, &info);
 *
 * What a state means and which steps there are is proto/agreement's; signatures were checked by whoever puts a row.
 * Threads: any. */
#ifndef CONCORDAT_STORE_AGREEMENT_H
#define CONCORDAT_STORE_AGREEMENT_H

#include "store/store.h"

/* Spans point into the arena of the reading call; none: not there yet. */
struct store_agreement {
    uint8_t id[16];
    uint8_t peer[16]; /* node id of the other side */
    uint64_t side;    /* enum proto_agreement_side: what this node is in it */
    uint64_t state;   /* enum proto_agreement_state */
    struct span dataset;
    struct span request, request_signature;
    struct span offer, offer_signature;
    struct span document, consumer_signature, provider_signature;
    struct span end, end_signature; /* who ended it, and why */
    struct span reason;             /* for people */
    int64_t changed;
};

/* Adds or replaces; durable on return. Errors: E_LIMIT; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_agreement_put(struct store *store, const struct store_agreement *row,
                                        struct err_info *reterr);
/* Errors: E_NOT_FOUND; E_AUTH, E_CORRUPT. */
MUST_CHECK enum err store_agreement_get(struct store *store, const uint8_t id[16],
                                        struct arena *arena, struct store_agreement *ret,
                                        struct err_info *reterr);
typedef enum err store_agreement_fn(void *user, const struct store_agreement *row);
/* ROW is valid during the call. Stops at the first error and returns it. */
MUST_CHECK enum err store_agreement_each(struct store *store, store_agreement_fn *each, void *user,
                                         struct err_info *reterr);

#endif
