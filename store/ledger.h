/* The privacy ledger: what has been spent of each budget, in whole nano-rho. It admits or refuses charges, keeps the
 * answers for replay, and knows no mechanism: costs are computed before (proto/privacy) and passed in.
 *
 *     // at import and when a budget changes
 *     store_ledger_account(store, "flchain", cap_nano, delta_e12, order, now, &info);
 *     // durable: from here on it is spent, whatever happens
 *     err = store_ledger_reserve(store, &charge, &after, &info);
 *     ... compute and add noise ...
 *     // durable: now send
 *     err = store_ledger_release(store, charge.id, answer, replay_key, body, now, &info);
 *
 * A training reserves all its steps at once, marks each as started before it touches data (store_ledger_steps_start),
 * and when it ends gets back the steps that were never started (store_ledger_finish). Nothing is ever given back for a
 * query.
 *
 * Scopes: the domain (all datasets of the node: they share one space of patients) and the dataset are always charged
 * and capped; institution, person and project within a dataset are always counted and capped when the charge says so.
 * Spent amounts are keyed by dataset name and survive removal, a new import and another licence. The domain's cap is
 * the largest cap of any of its datasets.
 *
 * A charge for training is the Renyi cost at one fixed order; so the order of an account cannot change once training
 * was charged to it: keep account.order and compute the new cap at that order. When the dataset's order is not the
 * domain's, nano_domain is the cost at the domain's order.
 *
 * Every change is one transaction with one audit entry and a newly signed head that covers all rows of the ledger.
 * Arithmetic: unsigned, bounded by STORE_NANO_MAX, checked; compared as integers.
 * Threads: any. Source of the rules: Whitehouse et al. 2023 (approximate zCDP filter), Feldman and Zrnic 2021 (RDP
 * filter). */
#ifndef CONCORDAT_STORE_LEDGER_H
#define CONCORDAT_STORE_LEDGER_H

#include "store/store.h"

#define STORE_NANO_MAX   ((uint64_t)INT64_MAX)
#define STORE_NAME_MAX   128 /* bytes of a person, project, institution or node name */
#define STORE_ANSWER_MAX ((size_t)16 << 20)

struct store_account {
    char dataset[65]; /* "" is the domain */
    uint64_t cap_nano;
    uint64_t spent_nano; /* reserved included */
    uint64_t left_nano;  /* what a charge may still take: the least remainder of dataset and domain;
                            after a reserve also of  that charge's institution, person and project */
    uint64_t train_nano; /* of spent_nano: training */
    uint64_t delta_e12;  /* units of 1e-12 */
    double order;        /* a* */
};

/* 0: no cap. They divide one dataset's cap and never widen it. */
struct store_caps {
    uint64_t institution_nano;
    uint64_t person_nano;
    uint64_t project_nano;
};

enum store_charge_kind {
    STORE_CHARGE_QUERY = 1,
    STORE_CHARGE_TRAIN = 2
};

struct store_charge {
    uint8_t id[16];
    const char *dataset, *person, *project, *institution,
        *node; /* who asks; person and project may be "" */
    enum store_charge_kind kind;
    uint64_t nano;        /* at least 1; of one step */
    uint64_t nano_domain; /* the same at the domain's order; 0: as nano */
    uint64_t steps;       /* 1 for a query */
    struct store_caps caps;
    int64_t now;
    struct span audit_body; /* JSON text; sealed */
};

enum store_charge_state {
    STORE_CHARGE_RESERVED = 1, /* spent; no answer left, or a training under way */
    STORE_CHARGE_RELEASED = 2,
    STORE_CHARGE_FINISHED = 3, /* training: steps is what was started */
    STORE_CHARGE_REPLAYED = 4, /* costs nothing */
};

/* One row of history. Strings are valid during the callback. */
struct store_ledger_row {
    uint8_t id[16];
    int64_t time;
    const char *dataset, *person, *project, *institution, *node;
    enum store_charge_kind kind;
    enum store_charge_state state;
    uint64_t nano;  /* charged in all */
    uint64_t steps; /* reserved */
    uint64_t started;
};

/* Opens the account of a dataset or changes its cap: raised, only the difference is new; lowered,
 * what is spent stays spent. A call that changes nothing writes nothing. Errors: E_INVALID the
 * order differs and training was charged (see above), or a value is out of bounds; E_IO,
 * E_DISK_FULL. */
MUST_CHECK enum err store_ledger_account(struct store *store, const char *dataset,
                                         uint64_t cap_nano, uint64_t delta_e12, double order,
                                         int64_t now, struct err_info *reterr);
/* DATASET NULL: the domain. Errors: E_NOT_FOUND. */
MUST_CHECK enum err store_ledger_get(struct store *store, const char *dataset,
                                     struct store_account *ret, struct err_info *reterr);
/* Durable on return. ret_after (may be NULL): the dataset's account after it.
 * Errors, after which nothing has changed: E_BUDGET_EXHAUSTED some cap does not cover it (the text
 * names which); E_EXISTS the id was reserved before; E_NOT_FOUND no account; E_INVALID a zero, an
 * overflow or a missing name; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_ledger_reserve(struct store *store, const struct store_charge *charge,
                                         struct store_account *ret_after, struct err_info *reterr);
/* Whether the caps would admit it now; changes nothing (--explain). Errors as reserve. */
MUST_CHECK enum err store_ledger_probe(struct store *store, const struct store_charge *charge,
                                       struct store_account *ret_after, struct err_info *reterr);
/* Stores the answer, sealed under the DEK "dataset/NAME", with an audit entry. The caller sends
 * only after E_OK. Errors: E_EXISTS another charge's answer stands under the replay key: the charge
 * is marked released, this answer is not stored; send the one that store_ledger_answer gives.
 * E_NOT_FOUND no such reservation, or the dataset's key is gone; E_INVALID it is a training or was
 * released before; E_IO, E_DISK_FULL: send nothing. */
MUST_CHECK enum err store_ledger_release(struct store *store, const uint8_t id[16],
                                         struct span answer, const uint8_t replay_key[32],
                                         struct span audit_body, int64_t now,
                                         struct err_info *reterr);
/* The stored bits. ret_id (may be NULL): the charge that paid. Whether the licence still allows it
 * is the caller's check. Errors: E_NOT_FOUND none, or its dataset's key was shredded or replaced;
 * E_AUTH, E_CORRUPT. */
MUST_CHECK enum err store_ledger_answer(struct store *store, const uint8_t replay_key[32],
                                        struct buf *ret_answer, uint8_t ret_id[16],
                                        struct err_info *reterr);
/* Adds a row of cost 0 and an audit entry for a replayed answer; of CHARGE nano, steps and caps are
 * ignored. */
MUST_CHECK enum err store_ledger_replayed(struct store *store, const struct store_charge *charge,
                                          struct err_info *reterr);
/* Steps 1 to UPTO_STEP are started; durable on return, before any data is touched for them. A
 * number that was started before is E_OK without a write. Errors: E_NOT_FOUND; E_INVALID not an
 * open training, or past its steps. */
MUST_CHECK enum err store_ledger_steps_start(struct store *store, const uint8_t id[16],
                                             uint64_t upto_step, int64_t now,
                                             struct err_info *reterr);
/* Ends a training and gives back what its never-started steps were charged.
 * Errors: E_NOT_FOUND; E_INVALID a query; E_EXISTS it was finished before (nothing changes). */
MUST_CHECK enum err store_ledger_finish(struct store *store, const uint8_t id[16],
                                        struct span audit_body, int64_t now, uint64_t *ret_started,
                                        struct err_info *reterr);
/* The row of one charge. Errors: E_NOT_FOUND. ROW's strings live in ARENA. */
MUST_CHECK enum err store_ledger_charge(struct store *store, const uint8_t id[16],
                                        struct arena *arena, struct store_ledger_row *ret,
                                        struct err_info *reterr);
/* History, oldest first, from time SINCE. Stops at the first error and returns it. */
typedef enum err store_ledger_fn(void *user, const struct store_ledger_row *row);
MUST_CHECK enum err store_ledger_each(struct store *store, int64_t since, store_ledger_fn *each,
                                      void *user, struct err_info *reterr);
typedef enum err store_ledger_account_fn(void *user, const struct store_account *account);
MUST_CHECK enum err store_ledger_accounts(struct store *store, store_ledger_account_fn *each,
                                          void *user, struct err_info *reterr);

/* Adds all rows up against accounts and against the audit head; store_open calls it.
 * Errors: E_ROLLBACK less is spent than the head says; E_CORRUPT, E_AUTH. */
MUST_CHECK enum err store_ledger_check(struct store *store, struct err_info *reterr);

/* What an older copy of this home lacks, as far as its witnesses know. */
struct store_lost {
    uint64_t from_seq; /* the last audit entry that is there */
    uint64_t entries;  /* how many are missing */
    uint64_t nano;     /* what they spent */
};
/* The operator goes on with an older copy of the home. SHOWN is the highest head of ours that anybody holds, NULL when nobody
 * could be asked. What was spent since is charged to every dataset, also to ones whose account opens later, as nobody knows
 * to which it belonged; the numbers of the missing entries are taken by entries that say so, so that the next one is above
 * what others witnessed; and the heads in between no longer count as proof of a rollback. All in one transaction.
 * Errors: E_AUTH SHOWN is not signed by us; E_LIMIT more than a million entries are missing; E_IO, E_DISK_FULL. */
struct store_audit_head;
MUST_CHECK enum err store_ledger_accept(struct store *store, const struct store_audit_head *shown,
                                        int64_t now, struct store_lost *ret,
                                        struct err_info *reterr);

#endif
