/* De-identification while importing: age90 and year on values (others: transform.h, redact.h), and the pseudonym table, which gives each identifier a
 * dense number that later imports of the same dataset keep. No identifier is stored anywhere, only HMAC-SHA256[0:16] of
 * it under a key derived from the dataset's, in sealed blocks of node.mdb's table "pseudonym". The number says nothing
 * about the identifier (it is the order of first appearance) and never leaves the node. Shredding the dataset's key
 * forgets the table.
 *
 *     err = store_pseudonym_load(store, "flchain", "patient", dek, &table, reterr);
 *     err = store_pseudonym_get(table, span_str("P-0017"), &number);       adds it when it is new
 *     err = store_pseudonym_save(store, table, reterr);                    durable on return
 *     store_pseudonym_free(table);
 *
 * Threads: a table belongs to one thread; one import of a dataset at a time.
 * Limits: STORE_PSEUDONYM_MAX identifiers, 24 to 40 bytes of memory each while importing. */
#ifndef CONCORDAT_STORE_DEIDENTIFY_H
#define CONCORDAT_STORE_DEIDENTIFY_H

#include "store/store.h"

#define STORE_PSEUDONYM_MAX ((uint32_t)1 << 28)

/* 90 for 90 and over (HIPAA safe harbour, 45 CFR 164.514(b)(2)(i)(C)). */
double store_deidentify_age90(double age);
/* The year of a number of days since 1970-01-01. */
double store_deidentify_year(double days);

struct store_pseudonym;
MUST_CHECK enum err store_pseudonym_load(struct store *store, const char *dataset,
                                         const char *column, const struct crypto_key *dek,
                                         struct store_pseudonym **ret, struct err_info *reterr);
/* Errors: E_LIMIT, E_NO_MEMORY. */
MUST_CHECK enum err store_pseudonym_get(struct store_pseudonym *table, struct span identifier,
                                        uint32_t *ret);
/* Whether it is in the table; adds nothing. */
bool store_pseudonym_find(const struct store_pseudonym *table, struct span identifier,
                          uint32_t *ret);
/* The entry of NUMBER becomes random bytes, that fit no identifier: whoever comes back gets another number.
 * Errors: of the source of randomness. */
MUST_CHECK enum err store_pseudonym_forget(struct store_pseudonym *table, uint32_t number);
uint32_t store_pseudonym_count(const struct store_pseudonym *table);
/* The key that its identifiers are mapped by, which a rotation keeps; others are derived from it. */
const struct crypto_key *store_pseudonym_key(const struct store_pseudonym *table);
MUST_CHECK enum err store_pseudonym_save(struct store *store, struct store_pseudonym *table,
                                         struct err_info *reterr);
void store_pseudonym_free(struct store_pseudonym *table);
/* Removes every table of the dataset. */
MUST_CHECK enum err store_pseudonym_remove(struct store *store, const char *dataset,
                                           struct err_info *reterr);

/* Within a writer's transaction: all blocks of DATASET stand under the key TO, not FROM. The HMAC keys of its COLUMNS stay
 * what they were, now sealed with the rest, as identifiers are stored nowhere and could not be mapped anew. */
struct MDB_txn;
MUST_CHECK enum err store_pseudonym_rekey(struct store *store, struct MDB_txn *txn,
                                          const char *dataset, const char *const *columns,
                                          size_t count, const struct crypto_key *from,
                                          const struct crypto_key *to, struct err_info *reterr);

#endif
