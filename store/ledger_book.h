/* What the parts of the ledger share: one transaction's hands on accounts, charges and the audit head. Nothing above store/
 * includes this.
 *
 *     struct store_book book;
 *     err = store_book_open(store, txn, &book, reterr);                    in a writer's callback
 *     err = store_posting_load(&book, &who, &arena, &posting);             the accounts that a charge concerns
 *     ... posting.amounts, store_posting_save(&book, &posting, train) ...
 *     err = store_book_entry(&book, "query.reserve", body, now);           one audit entry for all of it
 *
 * A writer's callback that fails leaves no trace, so a book may be abandoned anywhere. Threads: belongs to one. */
#ifndef CONCORDAT_STORE_LEDGER_BOOK_H
#define CONCORDAT_STORE_LEDGER_BOOK_H

#include "store/audit_chain.h"
#include "store/ledger.h"
#include "store/ledger_row.h"

struct store_book {
    struct store *store;
    MDB_txn *txn;
    struct store_audit_head head; /* only for writing */
    struct err_info *reterr;
};

#define STORE_NOBODY span_of("", 0)

const char *store_scope_name(enum store_scope scope);

MUST_CHECK enum err store_book_open(struct store *store, MDB_txn *txn, struct store_book *ret,
                                    struct err_info *reterr);
MUST_CHECK enum err store_book_entry(struct store_book *book, const char *kind, struct span body,
                                     int64_t now);

/* --- accounts --- DATASET is empty of a domain, NAME of a dataset. */
void store_book_account_key(const struct store *store, enum store_scope scope, struct span dataset,
                            struct span name, uint8_t ret[STORE_BLIND_SIZE]);
/* E_NOT_FOUND leaves an empty account in RET. */
MUST_CHECK enum err store_book_account(struct store_book *book, enum store_scope scope,
                                       struct span dataset, struct span name, struct arena *arena,
                                       struct store_ledger_account *ret);
/* A domain's change moves what the head says is spent in all of them. */
MUST_CHECK enum err store_book_account_put(struct store_book *book,
                                           const struct store_ledger_account *account);
/* DOMAIN may be NULL for a domain's own account. */
void store_book_account_out(const struct store_ledger_account *account,
                            const struct store_ledger_account *domain, struct store_account *ret);
uint64_t store_left(uint64_t cap, uint64_t spent);
/* 1 to 64 printable characters that may stand in JSON as they are. */
bool store_ledger_name_plain(const char *name);

/* --- charges --- */
/* Errors: E_EXISTS the id was reserved before. */
MUST_CHECK enum err store_book_charge_add(struct store_book *book,
                                          const struct store_ledger_charge *row);
/* Errors: E_NOT_FOUND; E_CORRUPT. */
MUST_CHECK enum err store_book_charge(struct store_book *book, const uint8_t id[16],
                                      struct arena *arena, uint8_t ret_key[8],
                                      struct store_ledger_charge *ret);
MUST_CHECK enum err store_book_charge_put(struct store_book *book, const uint8_t key[8],
                                          const struct store_ledger_charge *row);

/* --- the accounts that one charge concerns, by scope --- */
struct store_posting {
    struct store_ledger_account accounts[STORE_SCOPE_COUNT];
    uint64_t amounts[STORE_SCOPE_COUNT]; /* nano-rho */
    uint64_t delta0;                     /* the same from each */
    bool used[STORE_SCOPE_COUNT];
};
/* The domain is the dataset's. Errors: E_NOT_FOUND no account of the dataset. */
MUST_CHECK enum err store_posting_load(struct store_book *book, struct span dataset,
                                       struct span institution, struct span person,
                                       struct span project, struct arena *arena,
                                       struct store_posting *ret);
/* Adds the amounts to the accounts and puts them. NOW says which window they belong to.
 * Errors: E_INVALID an account overflows. */
MUST_CHECK enum err store_posting_save(struct store_book *book, struct store_posting *posting,
                                       bool train, int64_t now);

#endif
