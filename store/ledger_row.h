/* How rows of the ledger are written, and where answers are kept. Nothing above store/ includes this. */
#ifndef CONCORDAT_STORE_LEDGER_ROW_H
#define CONCORDAT_STORE_LEDGER_ROW_H

#include "proto/codec.h"
#include "store/table.h"

#define STORE_LEDGER_ROW_MAX 4096

struct store_ledger_account {
    uint64_t scope;
    struct span dataset;
    struct span name;
    uint64_t cap; /* domain and dataset; other scopes are capped by each charge */
    uint64_t spent;
    uint64_t train;
    uint64_t delta_e12;
    double order;
};
extern const struct proto_message store_ledger_account_message;

struct store_ledger_charge {
    struct span id;
    int64_t time;
    struct span dataset, person, project, institution, node;
    uint64_t kind;
    uint64_t state;
    uint64_t nano;
    uint64_t nano_domain;
    uint64_t steps;
    uint64_t started;
};
extern const struct proto_message store_ledger_charge_message;

/* Decoding errors come back as E_CORRUPT, naming TABLE. */
MUST_CHECK enum err store_ledger_row_decode(const struct proto_message *message, struct span plain,
                                            struct arena *arena, void *ret, enum store_table table,
                                            struct err_info *reterr);
/* Opens and decodes a stored value of TABLE (ACCOUNTS or CHARGES); spans in RET live in ARENA. */
MUST_CHECK enum err store_ledger_row_open(const struct store *store, enum store_table table,
                                          struct span key, struct span value, struct arena *arena,
                                          void *ret, struct err_info *reterr);

/* Keeps ANSWER under REPLAY_KEY, sealed under the dataset's key.
 * Errors: E_EXISTS a readable one is there; E_NOT_FOUND the dataset's key is gone. */
MUST_CHECK enum err store_answer_put(struct store *store, MDB_txn *txn,
                                     const uint8_t replay_key[32], struct span dataset,
                                     const uint8_t charge_id[16], struct span answer,
                                     struct err_info *reterr);

/* Within a writer's transaction: every stored answer of DATASET under the key FROM stands under TO. */
MUST_CHECK enum err store_answer_rekey(struct store *store, MDB_txn *txn, const char *dataset,
                                       const struct crypto_key *from, const struct crypto_key *to,
                                       struct err_info *reterr);

#endif
