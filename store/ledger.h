/* The privacy ledger: what has been spent of each budget, in whole nano-rho and whole units of 1e-18 delta. It admits or
 * refuses charges, keeps the answers for replay, and knows no mechanism: costs are computed before (proto/privacy) and
 * passed in.
 *
 *     // at import and when a budget changes
 *     struct store_budget budget = {.cap_nano = cap, .delta_e12 = 1000000, .order = order};
 *     store_ledger_account(store, "flchain", &budget, now, &info);
 *     // durable: from here on it is spent, whatever happens
 *     err = store_ledger_reserve(store, &charge, &after, &info);
 *     ... compute and add noise ...
 *     // durable: now send
 *     err = store_ledger_release(store, &release, &info);
 *
 * A training reserves all its steps at once, marks each as started before it touches data (store_ledger_steps_start),
 * and when it ends gets back the steps that were never started (store_ledger_finish). Nothing is ever given back for a
 * query.
 *
 * Scopes: a domain is a set of datasets that may hold the same people; unless a dataset names one it is in the node's
 * default domain, "". Domain and dataset are always charged and capped; project, institution and person within a dataset
 * are always counted, and capped when the charge says so. Spent amounts are keyed by domain and dataset name and survive
 * removal, a new import and another licence. A dataset cannot change its domain once anything was charged to it, since
 * the people of the new one would have been asked for nothing. The budget of a domain is declared (store_ledger_domain);
 * until then its cap is the largest of its datasets' caps, and its delta that one's plus the most that thresholds may take
 * of any of them.
 *
 * Two sums are kept and each must stay within its cap: rho, and delta0 of releases that hold only but for a probability of
 * delta0 (thresholds of private keys). A window, where a dataset has one, also limits the rho of each span of window_s
 * seconds from the epoch on; it divides the cap and never widens it.
 *
 * A charge for training is the Renyi cost at one fixed order; so the order of an account cannot change once training
 * was charged to it: keep account.order and compute the new cap at that order. When the dataset's order is not the
 * domain's, nano_domain is the cost at the domain's order.
 *
 * Every change is one transaction with one audit entry and a newly signed head that covers all rows of the ledger.
 * Arithmetic: unsigned, bounded by STORE_NANO_MAX, checked; compared as integers.
 * Threads: any. Source of the rules: Whitehouse et al. 2023 (approximate zCDP filter), Feldman and Zrnic 2021 (RDP
 * filter): both hold when each charge is chosen with the answers to those before it. */
#ifndef CONCORDAT_STORE_LEDGER_H
#define CONCORDAT_STORE_LEDGER_H

#include "store/store.h"

#define STORE_NANO_MAX   ((uint64_t)INT64_MAX)
#define STORE_NAME_MAX   128 /* bytes of a person, project, institution or node name */
#define STORE_DOMAIN_MAX 64
#define STORE_ANSWER_MAX ((size_t)16 << 20)

/* In the order in which they are asked: the first that does not cover a charge is the one that is told. */
enum store_scope {
    STORE_SCOPE_DOMAIN,
    STORE_SCOPE_DATASET,
    STORE_SCOPE_INSTITUTION,
    STORE_SCOPE_PERSON,
    STORE_SCOPE_PROJECT,
    STORE_SCOPE_COUNT
};

/* What an account may spend. All of it is public. */
struct store_budget {
    const char *domain; /* of a dataset; NULL: the default one */
    uint64_t cap_nano;
    uint64_t delta_e12;   /* units of 1e-12, in all */
    uint64_t delta0_e18;  /* of it, units of 1e-18: what thresholds of private keys may take */
    double order;         /* a* */
    uint64_t window_s;    /* of a dataset; 0: none */
    uint64_t window_nano; /* what one window may take */
};

struct store_account {
    char dataset[65]; /* "" is a domain */
    char domain[STORE_DOMAIN_MAX + 1];
    uint64_t cap_nano;
    uint64_t spent_nano; /* reserved included */
    uint64_t left_nano;  /* what a charge may still take: the least remainder of dataset and domain;
                            after a reserve also of  that charge's institution, person and project */
    uint64_t train_nano; /* of spent_nano: training */
    uint64_t delta_e12;  /* units of 1e-12 */
    uint64_t delta0_e18; /* of it: for thresholds */
    uint64_t delta0_spent_e18;
    double order;  /* a* */
    bool declared; /* a domain's budget was set; it does not follow its datasets */
    uint64_t window_s;
    uint64_t window_nano;
    uint64_t window_number; /* time / window_s of the last charge */
    uint64_t window_spent_nano;
};

/* The delta at which the rho of this account becomes epsilon: what thresholds do not take. Units of 1e-12. */
uint64_t store_account_conversion_e12(const struct store_account *account);
/* What this window may still take at NOW; STORE_NANO_MAX without a window. ret_opens: when the next one begins. */
uint64_t store_account_window_left(const struct store_account *account, int64_t now,
                                   int64_t *ret_opens);

/* The part of a dataset's budget that somebody may take. It divides the dataset's cap and never widens it. */
struct store_cap {
    bool capped; /* false: only counted */
    uint64_t nano;
    uint64_t delta0_e18;
};
struct store_caps {
    struct store_cap institution;
    struct store_cap person;
    struct store_cap project;
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
    uint64_t delta0_e18;  /* in all: 0 but for releases with thresholds */
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
    const char *domain;
    uint64_t nano; /* charged in all */
    uint64_t delta0_e18;
    uint64_t steps; /* reserved */
    uint64_t started;
};

/* Opens the account of a dataset or changes its budget: raised, only the difference is new; lowered, what is spent stays
 * spent. A call that changes nothing writes nothing.
 * Errors: E_INVALID the order differs and training was charged (see above), or a value is out of bounds; E_EXISTS another
 * domain, though something was charged; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_ledger_account(struct store *store, const char *dataset,
                                         const struct store_budget *budget, int64_t now,
                                         struct err_info *reterr);
/* Declares the budget of the domain NAME ("": the default one), or with BUDGET NULL lets it follow its datasets again.
 * Errors: as above; E_NOT_FOUND it is to follow, but there is no such domain. */
MUST_CHECK enum err store_ledger_domain(struct store *store, const char *name,
                                        const struct store_budget *budget, int64_t now,
                                        struct err_info *reterr);
/* Errors: E_NOT_FOUND. */
MUST_CHECK enum err store_ledger_get(struct store *store, const char *dataset,
                                     struct store_account *ret, struct err_info *reterr);
/* NAME "": the default domain. Errors: E_NOT_FOUND. */
MUST_CHECK enum err store_ledger_domain_get(struct store *store, const char *name,
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
struct store_release {
    const uint8_t *id; /* of the charge */
    struct span answer;
    const uint8_t *replay_key; /* 32 bytes */
    struct span audit_body;
    const char *
        leaves_to; /* a peer's name: who gets the answer, for the list of what left; NULL: it stays here */
    int64_t now;
};
/* Stores the answer, sealed under the DEK "dataset/NAME", with an audit entry and its row of store/egress.h. The caller sends
 * only after E_OK. Errors: E_EXISTS another charge's answer stands under the replay key: the charge
 * is marked released, this answer is not stored; send the one that store_ledger_answer gives.
 * E_NOT_FOUND no such reservation, or the dataset's key is gone; E_INVALID it is a training or was
 * released before; E_IO, E_DISK_FULL: send nothing. */
MUST_CHECK enum err store_ledger_release(struct store *store, const struct store_release *release,
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
/* A training that was finished goes on: what its never-started steps cost is taken again, and they may be started. CHARGE is what
 * was reserved at first, so that all its lives together take no more than that; its institution and node are ignored, the row
 * keeps those that it has.
 * Errors, after which nothing has changed: E_BUDGET_EXHAUSTED as reserve; E_NOT_FOUND; E_INVALID it was not this charge; E_EXISTS
 * it is not finished; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_ledger_reopen(struct store *store, const struct store_charge *charge,
                                        struct store_account *ret_after, struct err_info *reterr);
/* The row of one charge. Errors: E_NOT_FOUND. ROW's strings live in ARENA. */
MUST_CHECK enum err store_ledger_charge(struct store *store, const uint8_t id[16],
                                        struct arena *arena, struct store_ledger_row *ret,
                                        struct err_info *reterr);
/* History, oldest first, from time SINCE. Stops at the first error and returns it. */
typedef enum err store_ledger_fn(void *user, const struct store_ledger_row *row);
MUST_CHECK enum err store_ledger_each(struct store *store, int64_t since, store_ledger_fn *each,
                                      void *user, struct err_info *reterr);
/* Datasets, and domains with an empty dataset. */
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
