/* Answers that were given, kept under the hash of their question so that asking again costs nothing.
 *
 * A row of table answers: u32 length | note sealed under the node's key | answer sealed under the dataset's key. The note says
 * whose key that is, so that a shredded or replaced key is told from a damaged answer. store_ledger_answer (ledger.h) reads.
 * Nothing above store/ includes this. Threads: within a writer's transaction. */
#ifndef CONCORDAT_STORE_ANSWER_H
#define CONCORDAT_STORE_ANSWER_H

#include "store/table.h"

/* Keeps ANSWER under REPLAY_KEY, sealed under the dataset's key.
 * Errors: E_EXISTS a readable one is there; E_NOT_FOUND the dataset's key is gone. */
MUST_CHECK enum err store_answer_put(struct store *store, MDB_txn *txn,
                                     const uint8_t replay_key[32], struct span dataset,
                                     const uint8_t charge_id[16], struct span answer,
                                     struct err_info *reterr);

/* The two parts of a row; they point into VALUE. Errors: E_CORRUPT. */
MUST_CHECK enum err store_answer_split(struct span value, struct span *ret_note,
                                       struct span *ret_answer);

/* Every stored answer of DATASET under the key FROM stands under TO. */
MUST_CHECK enum err store_answer_rekey(struct store *store, MDB_txn *txn, const char *dataset,
                                       const struct crypto_key *from, const struct crypto_key *to,
                                       struct err_info *reterr);

#endif
