/* What left this node: to whom, what, how many bytes. Answers, updates and models one row each, small talk as counters.
 *
 *     store_egress_add(store, "beta", "answer", charge_id_hex, 412, now, &info);     before it is sent
 *     store_egress_count(store, "beta", "gossip", 96);     cheap; in memory until the next flush
 *     store_egress_flush(store, now, &info);               each few seconds and before store_close
 *
 * Counters since the last flush are lost with the process; rows are not. Threads: any. */
#ifndef CONCORDAT_STORE_EGRESS_H
#define CONCORDAT_STORE_EGRESS_H

#include "store/store.h"

#define STORE_EGRESS_TEXT 128
#define STORE_EGRESS_COUNTERS                                                                      \
    1024 /* distinct (peer, kind) between two flushes; more go under peer "other" */

struct store_egress {
    const char *peer, *kind, *id; /* id "": a counter */
    uint64_t bytes;
    int64_t time; /* of the row, or of the counter's last flush */
};

/* Durable on return. Errors: E_LIMIT a text is too long; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_egress_add(struct store *store, const char *peer, const char *kind,
                                     const char *id, uint64_t bytes, int64_t now,
                                     struct err_info *reterr);
/* The same inside a writer's transaction, for what becomes durable together with it. */
struct MDB_txn;
MUST_CHECK enum err store_egress_add_in(struct store *store, struct MDB_txn *txn,
                                        const struct store_egress *row, struct err_info *reterr);
void store_egress_count(struct store *store, const char *peer, const char *kind, uint64_t bytes);
/* On failure the counters stay in memory. */
MUST_CHECK enum err store_egress_flush(struct store *store, int64_t now, struct err_info *reterr);
/* Counters flushed since SINCE, then rows from SINCE in order (not those in memory). Texts are valid during the
 * call. */
typedef enum err store_egress_fn(void *user, const struct store_egress *row);
MUST_CHECK enum err store_egress_each(struct store *store, int64_t since, store_egress_fn *each,
                                      void *user, struct err_info *reterr);

/* For store_open and store_close. */
struct store_egress_counters;
struct store_egress_counters *store_egress_counters_new(void);
void store_egress_counters_free(struct store_egress_counters *counters);

#endif
