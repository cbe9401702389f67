/* Heads of audit chains that others vouch for: theirs that we hold, and signatures of others on ours. A node that put
 * back an old file is found out by them.
 *
 *     store_witness_put(store, &head, point, &info);                     // after each answer, update or agreement
 *     store_witness_sign(store, &head, sig);                             // goes back to its owner, who keeps it:
 *     store_witness_endorse(store, by, point, &head, sig, &info);
 *
 * Threads: any. */
#ifndef CONCORDAT_STORE_WITNESS_H
#define CONCORDAT_STORE_WITNESS_H

#include "store/audit.h"

/* Keeps the highest head of its node. Checks the signature by POINT.
 * Errors: E_AUTH; E_EXISTS not higher than what we hold; E_FORKED the same seq with another hash:
 * both are kept, the node showed two histories; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_witness_put(struct store *store, const struct store_audit_head *head,
                                      const uint8_t point[65], struct err_info *reterr);
/* Errors: E_NOT_FOUND. */
MUST_CHECK enum err store_witness_get(struct store *store, const uint8_t node_id[16],
                                      struct store_audit_head *ret, struct err_info *reterr);
typedef enum err store_witness_fn(void *user, const struct store_audit_head *head, bool forked);
MUST_CHECK enum err store_witness_each(struct store *store, store_witness_fn *each, void *user,
                                       struct err_info *reterr);

/* Our signature on somebody's head, to be sent back to it. */
MUST_CHECK enum err store_witness_sign(struct store *store, const struct store_audit_head *head,
                                       uint8_t ret_sig[64]);
/* Keeps BY's signature (checked by POINT) on a head of our own; the highest per node.
 * Errors: E_AUTH; E_ROLLBACK they hold a head of ours that our chain does not have; E_EXISTS an
 * older one; E_IO. */
MUST_CHECK enum err store_witness_endorse(struct store *store, const uint8_t by[16],
                                          const uint8_t point[65],
                                          const struct store_audit_head *head,
                                          const uint8_t sig[64], struct err_info *reterr);
/* Compares our chain with the highest own head that another node showed us (at start).
 * Errors: E_AUTH not signed by us; E_ROLLBACK ours is older or another; E_OK ours contains it, or its loss was accepted. */
MUST_CHECK enum err store_witness_compare(struct store *store, const struct store_audit_head *shown,
                                          struct err_info *reterr);

/* Within a writer's transaction: heads of ours behind FROM, up to TO, were lost with the operator's knowledge, so that
 * store_witness_compare takes them for known. For store_ledger_accept. */
struct MDB_txn;
MUST_CHECK enum err store_witness_excuse_in(struct store *store, struct MDB_txn *txn, uint64_t from,
                                            uint64_t to, struct err_info *reterr);

#endif
