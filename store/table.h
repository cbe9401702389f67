/* Tables of node.mdb for the modules of this folder: transactions, sealed values, blinded keys. Nothing above store/
 * includes this.
 *
 *     static enum err put(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr) { ... }
 *     err = store_write(store, put, &ctx, reterr);    // E_OK: it is on disk
 *
 * A writer callback that fails leaves no trace; it must have no other effect than through its transaction and CTX, and
 * must not call store_write. It may run on the thread of another caller. Callbacks of concurrent callers run one after
 * the other, each sees the writes of those before it, and one sync makes all of them durable.
 * Reading: store_read gives a snapshot; what it shows is borrowed until store_read_end.
 * Threads: any; one transaction belongs to one thread. */
#ifndef CONCORDAT_STORE_TABLE_H
#define CONCORDAT_STORE_TABLE_H

#include "store/store.h"

#include <lmdb.h>

#define STORE_BLIND_SIZE 16

typedef enum err store_write_fn(struct store *store, MDB_txn *txn, void *ctx,
                                struct err_info *reterr);
MUST_CHECK enum err store_write(struct store *store, store_write_fn *fn, void *ctx,
                                struct err_info *reterr);
MUST_CHECK enum err store_read(struct store *store, MDB_txn **ret, struct err_info *reterr);
void store_read_end(MDB_txn *txn);

MUST_CHECK enum err store_writer_new(struct store_writer **ret);
void store_writer_free(struct store_writer *writer);

const char *store_table_name(enum store_table table);
/* HMAC(blind key, table name 0 part 0 part ...)[0:16]: names of people and data do not stand in
 * LMDB's plain keys. */
void store_blind(const struct store *store, enum store_table table, const struct span *parts,
                 size_t count, uint8_t ret[STORE_BLIND_SIZE]);

/* Plain values. get: E_NOT_FOUND; borrowed until the transaction ends or is next written to. */
MUST_CHECK enum err store_raw_put(struct store *store, MDB_txn *txn, enum store_table table,
                                  struct span key, struct span value, struct err_info *reterr);
MUST_CHECK enum err store_raw_get(struct store *store, MDB_txn *txn, enum store_table table,
                                  struct span key, struct span *ret, struct err_info *reterr);
/* E_NOT_FOUND when there was none. */
MUST_CHECK enum err store_raw_del(struct store *store, MDB_txn *txn, enum store_table table,
                                  struct span key, struct err_info *reterr);
/* The last number in a table whose keys are be64 numbers; 0 when it is empty. */
MUST_CHECK enum err store_raw_last(struct store *store, MDB_txn *txn, enum store_table table,
                                   uint64_t *ret, struct err_info *reterr);
typedef enum err store_raw_fn(void *user, struct span key, struct span value,
                              struct err_info *reterr);
/* In key order from FROM (SPAN_NONE: the first); stops at the first error and returns it. */
MUST_CHECK enum err store_raw_each(struct store *store, MDB_txn *txn, enum store_table table,
                                   struct span from, store_raw_fn *each, void *user,
                                   struct err_info *reterr);

/* Values sealed under the DEK "node", AAD = table name 0 key 0 part number and part count.
 * seal: inside a writer callback. open: appends the plain bytes to RET.
 * Errors: E_AUTH, E_CORRUPT (both name the table); E_LIMIT. */
MUST_CHECK enum err store_seal(struct store *store, enum store_table table, struct span key,
                               struct span plain, struct buf *ret, struct err_info *reterr);
MUST_CHECK enum err store_unseal(const struct store *store, enum store_table table, struct span key,
                                 struct span sealed, struct buf *ret, struct err_info *reterr);
/* The same under another key; fresh sealer, so it may be called anywhere. AREA stands for the table
 * name. */
MUST_CHECK enum err store_seal_under(const struct crypto_key *dek, const char *area,
                                     struct span key, struct span plain, struct buf *ret,
                                     struct err_info *reterr);
MUST_CHECK enum err store_unseal_under(const struct crypto_key *dek, const char *area,
                                       struct span key, struct span sealed, struct buf *ret,
                                       struct err_info *reterr);
MUST_CHECK enum err store_sealed_put(struct store *store, MDB_txn *txn, enum store_table table,
                                     struct span key, struct span plain, struct err_info *reterr);
MUST_CHECK enum err store_sealed_get(struct store *store, MDB_txn *txn, enum store_table table,
                                     struct span key, struct buf *ret, struct err_info *reterr);

#define STORE_VALUE_MAX ((size_t)1 << 30) /* plain bytes of one sealed value */

#endif
