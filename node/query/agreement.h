/* Agreements with other institutions: asking for one, answering who asks, and what one in force means for a question.
 *
 * As consumer (commands of this node's people):
 *     err = query_agreement_request(context, &wish, id, reterr);      REQUESTED, OFFERED or TERMINATED afterwards
 *     err = query_agreement_accept(context, id, &accept, reterr);     FINALIZED: both sides hold it
 * As provider: query_agreement_handle answers, by the licence as it stands; where that leaves it to a person, the request
 * waits in the queue of approval.h, and the consumer asks again with query_agreement_again.
 * In a decision:
 *     err = query_agreement_find(context, &admission, requester, purpose, actions, now, &found);
 *
 * An agreement is in force while it is FINALIZED, its end has not come, and the dataset's licence is still the record that
 * it names: withdrawn or superseded terms end it. Threads: any; one lock orders the changes of this node. */
#ifndef CONCORDAT_NODE_QUERY_AGREEMENT_H
#define CONCORDAT_NODE_QUERY_AGREEMENT_H

#include "node/query/admission.h"
#include "proto/agreement.h"
#include "proto/project.h"
#include "store/agreement.h"

/* Loads what the node holds; once, before anything else here. */
MUST_CHECK enum err query_agreement_open(struct query_context *context, struct err_info *reterr);
void query_agreement_close(struct query_context *context);

/* Handler of PEER_MSG_AGREEMENT; user: struct query_context. */
void query_agreement_handle(struct peer_request *request, void *user);

struct query_agreement_wish {
    const struct peer_member *provider;
    const char *dataset;
    const struct proto_purpose *purpose;
    uint64_t actions;
    struct proto_list recipients; /* struct proto_text */
};
/* Errors: E_UNREACHABLE, E_TIMEOUT; E_APPROVAL a person at the provider decides: ask again later (RET_ID is set); E_REFUSED
 * with the provider's reason, and the row is kept as TERMINATED; E_AUTH its answer is not signed as it must be. */
MUST_CHECK enum err query_agreement_request(struct query_context *context,
                                            const struct query_agreement_wish *wish,
                                            uint8_t ret_id[16], struct err_info *reterr);
/* Sends the same request once more: a person may have decided, or an answer was lost. */
MUST_CHECK enum err query_agreement_again(struct query_context *context, const uint8_t id[16],
                                          struct err_info *reterr);
/* ACCEPTED: ids of duties (struct proto_text); none: those that the request promised. Errors: E_INVALID a duty that needs a promise is missing, or there is no
 * offer; as above. */
MUST_CHECK enum err query_agreement_accept(struct query_context *context, const uint8_t id[16],
                                           const char *person, const struct proto_list *accepted,
                                           struct err_info *reterr);
/* By either side. The other one is told, now or when it next asks. Errors: E_INVALID it has ended. */
MUST_CHECK enum err query_agreement_terminate(struct query_context *context, const uint8_t id[16],
                                              const char *reason, struct err_info *reterr);

/* Why a row that is FINALIZED is not in force; NULL: it is. */
const char *query_agreement_lapsed(struct query_context *context,
                                   const struct proto_agreement_parts *parts, int64_t now);

struct query_agreed {
    bool found;
    uint8_t id[16];
    int64_t start;
    struct proto_list accepted; /* struct proto_text, in the admission's arena */
};
/* Provider: the agreement, of those that PURPOSE names, that covers this use.
 * Errors: E_REFUSED one of ours is named that is not in force or does not cover it. */
MUST_CHECK enum err query_agreement_find(struct query_context *context,
                                         struct query_admission *admission,
                                         const struct peer_member *requester,
                                         const struct proto_purpose *purpose, uint64_t actions,
                                         int64_t now, struct query_agreed *ret);
/* Consumer: this node's agreement with PROVIDER about DATASET that covers this use; what the provider will find. Total. */
void query_agreement_held(struct query_context *context, const uint8_t provider[16],
                          const char *dataset, const struct proto_purpose *purpose,
                          uint64_t actions, int64_t now, struct arena *arena,
                          struct query_agreed *ret);
/* Consumer: sets PURPOSE's list to this node's agreements about DATASET for its project and person. */
MUST_CHECK enum err query_agreement_name(struct query_context *context, const char *dataset,
                                         struct arena *arena, struct proto_purpose *purpose);

#endif
