/* Requests that wait for a person of this node, and what was decided on them. One row per request, sealed.
 *
 *     err = store_approval_ask(store, &limits, &row, now, &stands, &arena, &info);   pending now, or what was decided
 *     err = store_approval_decide(store, id, &verdict, now, &info);                  by a person
 *
 * The id is the caller's: the same request by the same people has the same one, so that asking again finds the decision.
 * A row that is pending past its time, or decided past its validity, counts as absent; asking again makes a new one.
 * An approval for a project is found under every request of that project (store_approval.project_key).
 * Threads: any. Limits: STORE_APPROVAL_TEXT bytes a text; the caller's limits on rows. */
#ifndef CONCORDAT_STORE_APPROVAL_H
#define CONCORDAT_STORE_APPROVAL_H

#include "store/store.h"

#define STORE_APPROVAL_TEXT 8192

enum store_approval_kind {
    STORE_APPROVAL_QUERY,
    STORE_APPROVAL_JOB,
    STORE_APPROVAL_AGREEMENT,
};

enum store_approval_state {
    STORE_APPROVAL_PENDING,
    STORE_APPROVAL_APPROVED,
    STORE_APPROVAL_DENIED,
    STORE_APPROVAL_EXPIRED, /* never stored: nobody decided in time, or what was decided is over */
};

/* Spans point into the arena of the reading call. */
struct store_approval {
    uint8_t id[16];
    uint8_t project_key[16]; /* of dataset, terms, institution, project and purpose */
    uint8_t request[16];     /* query or job that asked first */
    uint8_t node_id[16];     /* who asks */
    uint8_t licence[16];     /* record that held it */
    uint64_t kind;           /* enum store_approval_kind */
    uint64_t state;          /* enum store_approval_state */
    bool for_project;        /* an approval covers all that the project asks */
    struct span dataset, node, institution, person, project;
    struct span purpose;    /* code and diseases */
    struct span operations; /* actions and columns */
    struct span question;   /* SQL, or the job's plan in words */
    struct span shape;      /* of the result */
    struct span why;        /* reason code that holds it */
    uint64_t epsilon_u, delta_e12, cost_nano;
    int64_t requested, expires; /* expires: of what the state says; 0 never */
    int64_t decided;
    struct span decided_by, reason; /* none while it is pending */
};

struct store_approval_limits {
    int64_t pending_s;      /* how long a request waits at most */
    size_t pending;         /* of all requesters */
    size_t per_institution; /* pending ones */
};

/* RET is the row that stands: the given one, now pending, or one of that id or project that was there before.
 * Errors: E_LIMIT too many wait already; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_approval_ask(struct store *store,
                                       const struct store_approval_limits *limits,
                                       const struct store_approval *row, int64_t now,
                                       struct store_approval *ret, struct arena *arena,
                                       struct err_info *reterr);
/* What stands for this id or this project. Errors: E_NOT_FOUND; E_AUTH, E_CORRUPT. */
MUST_CHECK enum err store_approval_find(struct store *store, const uint8_t id[16],
                                        const uint8_t project_key[16], int64_t now,
                                        struct store_approval *ret, struct arena *arena,
                                        struct err_info *reterr);
/* By id alone, with its state at NOW. */
MUST_CHECK enum err store_approval_get(struct store *store, const uint8_t id[16], int64_t now,
                                       struct store_approval *ret, struct arena *arena,
                                       struct err_info *reterr);

struct store_approval_verdict {
    bool approve; /* else deny */
    bool for_project;
    const char *by;
    const char *reason; /* "" when none is given */
    int64_t expires;    /* how long the decision stands; 0 for good */
};
/* An approved one may still be denied, a denied one approved: the last decision counts.
 * Errors: E_NOT_FOUND; E_INVALID it waited too long, whoever wants it asks again; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_approval_decide(struct store *store, const uint8_t id[16],
                                          const struct store_approval_verdict *verdict, int64_t now,
                                          struct err_info *reterr);

typedef enum err store_approval_fn(void *user, const struct store_approval *row);
/* Every row with its state at NOW, in no order; ROW is valid during the call. */
MUST_CHECK enum err store_approval_each(struct store *store, int64_t now, store_approval_fn *each,
                                        void *user, struct err_info *reterr);

const char *store_approval_state_name(uint64_t state);
const char *store_approval_kind_name(uint64_t kind);

#endif
