/* Signed public records, one current version per (issuer, key, kind), merged by proto_record_compare. Values are plain:
 * they are gossiped. This module checks no signature and no membership; the caller does before it puts.
 *
 *     err = store_records_put(store, record_bytes, &info);   // E_OK new, E_EXISTS nothing new, E_FORKED: below
 *     err = store_records_get(store, issuer, key, PROTO_RECORD_LICENCE, &arena, &bytes, &forked);
 *
 * Two versions of one (issuer, key, kind, seq) prove that the issuer signed two histories: the winner of the merge
 * order stands, the other is kept as proof, and the key stays flagged as forked for good, whatever follows.
 * Threads: any. Limits: PROTO_RECORD_MAX bytes a record. */
#ifndef CONCORDAT_STORE_RECORDS_H
#define CONCORDAT_STORE_RECORDS_H

#include "proto/record.h"
#include "store/store.h"

/* Durable on return. Errors: E_EXISTS it is known, or older than what is there; E_FORKED it loses
 * against another version of the same seq and was kept as the proof of it; decoding errors; E_IO,
 * E_DISK_FULL. */
MUST_CHECK enum err store_records_put(struct store *store, struct span record,
                                      struct err_info *reterr);
/* Errors: E_NOT_FOUND; E_CORRUPT. ret_forked may be NULL. */
MUST_CHECK enum err store_records_get(struct store *store, const uint8_t issuer[16],
                                      const uint8_t key[16], uint64_t kind, struct arena *arena,
                                      struct span *ret, bool *ret_forked);
MUST_CHECK enum err store_records_by_id(struct store *store, const uint8_t id[16],
                                        struct arena *arena, struct span *ret);
/* The version that lost against the current one of a forked key. Errors: E_NOT_FOUND. */
MUST_CHECK enum err store_records_fork(struct store *store, const uint8_t issuer[16],
                                       const uint8_t key[16], uint64_t kind, struct arena *arena,
                                       struct span *ret);
/* RECORD is valid during the call. KIND 0: all. Stops at the first error and returns it. */
typedef enum err store_records_fn(void *user, struct span record, bool forked);
MUST_CHECK enum err store_records_each(struct store *store, uint64_t kind, store_records_fn *each,
                                       void *user);
/* The seq that this node's next version of (key, kind) must carry, and the id of the version it
 * replaces. ret_prev may be NULL; all zero for the first. */
MUST_CHECK enum err store_records_next_seq(struct store *store, const uint8_t key[16],
                                           uint64_t kind, uint64_t *ret_seq, uint8_t ret_prev[16]);

#endif
