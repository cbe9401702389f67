/* What table, ledger and witness need of the audit chain inside a transaction. Nothing above store/ includes this. */
#ifndef CONCORDAT_STORE_AUDIT_CHAIN_H
#define CONCORDAT_STORE_AUDIT_CHAIN_H

#include "store/audit.h"
#include "store/table.h"

/* The head as it stands in this transaction; a fresh one (seq 0) when nothing was written yet. Errors: E_CORRUPT. */
MUST_CHECK enum err store_audit_load(struct store *store, MDB_txn *txn,
                                     struct store_audit_head *ret, struct err_info *reterr);
/* Writes an entry behind HEAD, updates HEAD and stores it unsigned; the writer signs it before it commits. */
MUST_CHECK enum err store_audit_append_in(struct store *store, MDB_txn *txn,
                                          struct store_audit_head *head, const char *kind,
                                          struct span body, int64_t now, struct err_info *reterr);
/* Called by the writer once before each commit: signs the head when an entry was written. */
MUST_CHECK enum err store_audit_seal_head(struct store *store, MDB_txn *txn,
                                          struct err_info *reterr);

/* The place of one row in ledger_root: adds (or takes away) SHA-256 of it modulo 2^256. */
void store_audit_root_add(uint8_t root[32], const char *table, struct span key, struct span value);
void store_audit_root_sub(uint8_t root[32], const char *table, struct span key, struct span value);

void store_audit_hash(struct span entry, uint8_t ret[32]);
struct store_audit_raw {
    uint64_t seq;
    int64_t time;
    struct span kind;
    struct span prev; /* 32 */
    struct span sealed;
};
/* Errors: E_CORRUPT. */
MUST_CHECK enum err store_audit_parse(struct span entry, struct store_audit_raw *ret);
/* The entry at SEQ has this hash. Errors: E_NOT_FOUND no such entry; E_ROLLBACK another hash. */
MUST_CHECK enum err store_audit_at(struct store *store, MDB_txn *txn, uint64_t seq,
                                   const uint8_t hash[32], struct err_info *reterr);
/* What a witness signs: the head's body under STORE_WITNESS_DOMAIN. */
void store_audit_head_body(const struct store_audit_head *head, uint8_t ret[STORE_AUDIT_HEAD_BODY]);
/* Chain, head and ledger root, without the signature; store_open calls it before an identity is known. */
MUST_CHECK enum err store_audit_check_chain(struct store *store, struct err_info *reterr);

#define STORE_META_HEAD        "audit-head"
#define STORE_META_IDS         "ids" /* node_id[16] | federation_id[16] */
#define STORE_ENDORSEMENT_SIZE (64 + STORE_AUDIT_HEAD_BODY)

#endif
