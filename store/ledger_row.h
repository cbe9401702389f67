/* How rows of the ledger are written. Nothing above store/ includes this. */
#ifndef CONCORDAT_STORE_LEDGER_ROW_H
#define CONCORDAT_STORE_LEDGER_ROW_H

#include "proto/codec.h"
#include "store/ledger.h"
#include "store/table.h"

#define STORE_LEDGER_ROW_MAX 4096

struct store_ledger_account {
    uint64_t scope; /* enum store_scope */
    struct span dataset;
    struct span name; /* of the domain, institution, person or project */
    uint64_t cap;     /* domain and dataset; other scopes are capped by each charge */
    uint64_t spent;
    uint64_t train;
    uint64_t delta_e12;
    double order;
    struct span domain; /* of a dataset: the name of its domain */
    bool declared;      /* of a domain: its budget was set, it does not follow its datasets */
    uint64_t delta0;    /* domain and dataset: what thresholds may take of delta, units of 1e-18 */
    uint64_t delta0_spent;
    uint64_t window_s; /* of a dataset; 0: no window */
    uint64_t window_cap;
    uint64_t window_number; /* which window window_spent belongs to: time / window_s */
    uint64_t window_spent;
};

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
    struct span domain; /* the one that was charged */
    uint64_t delta0;    /* in all, units of 1e-18 */
};

/* Writing; reading also takes the rows of format 1, which had neither domains, windows nor delta0. */
extern const struct proto_message store_ledger_account_message;
extern const struct proto_message store_ledger_charge_message;

/* Decodes the plain bytes of a row of TABLE (ACCOUNTS or CHARGES); spans in RET point into PLAIN.
 * Errors: E_CORRUPT, naming TABLE; E_NO_MEMORY. */
MUST_CHECK enum err store_ledger_row_decode(enum store_table table, struct span plain,
                                            struct arena *arena, void *ret,
                                            struct err_info *reterr);
/* Opens and decodes a stored value; spans in RET live in ARENA. */
MUST_CHECK enum err store_ledger_row_open(const struct store *store, enum store_table table,
                                          struct span key, struct span value, struct arena *arena,
                                          void *ret, struct err_info *reterr);

#endif
