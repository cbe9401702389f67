/* Requests that a licence leaves to a person (verdict HOLD): kept in the site's queue until somebody decides, and found
 * again when the same people ask the same thing again.
 *
 *     struct query_hold hold = {.kind = STORE_APPROVAL_QUERY, ...};
 *     err = query_approval_ask(context, &admission, &requester, &hold, &found, reterr);
 *     E_OK: a person approved it, go on; E_APPROVAL: it waits; E_REFUSED: a person said no
 *
 * The person who decides sees who asks, for what purpose, which operations, the shape of the result and its cost. An
 * approval is for this very request, or for the whole project; another version of the licence needs another one.
 * Threads: any. */
#ifndef CONCORDAT_NODE_QUERY_APPROVAL_H
#define CONCORDAT_NODE_QUERY_APPROVAL_H

#include "node/query/admission.h"
#include "store/approval.h"

#define QUERY_APPROVALS_PENDING         1024
#define QUERY_APPROVALS_PER_INSTITUTION 128

struct query_hold {
    enum store_approval_kind kind;
    const uint8_t *request; /* 16: query or job id */
    const uint8_t *subject; /* 32: hash of what exactly is asked */
    const char *person;
    const char *project;
    const struct proto_purpose *purpose;
    const char *operations;
    const char *question;
    const char *shape;
    uint64_t epsilon_u, delta_e12, cost_nano;
};

struct query_held {
    uint8_t id[16];
    char detail[512]; /* for the requester */
};

/* Errors: E_APPROVAL it waits; E_REFUSED it was denied; E_LIMIT too many wait; those of the store. RET is filled for the
 * first two. */
MUST_CHECK enum err query_approval_ask(struct query_context *context,
                                       const struct query_admission *admission,
                                       const struct peer_member *requester,
                                       const struct query_hold *hold, struct query_held *ret,
                                       struct err_info *reterr);
/* Whether it is approved now; for work that is under way. Nothing is queued. */
bool query_approval_stands(struct query_context *context, const struct query_admission *admission,
                           const struct peer_member *requester, const struct query_hold *hold);

/* What the requester's node is told when a person has decided; signed by nobody, since it decides nothing: the requester
 * asks again and sees. */
struct query_notice {
    struct span request;  /* 16 */
    struct span approval; /* 16 */
    bool approved;
    struct span reason;
};
extern const struct proto_message query_notice_message;

#endif
