/* JSON views that more than one operation shows. */
#ifndef CONCORDAT_NODE_CONTROL_VIEWS_H
#define CONCORDAT_NODE_CONTROL_VIEWS_H

#include "node/control/call.h"
#include "node/query/ask.h"

/* The member list in the call's arena. */
struct peer_member *control_members(struct control_call *call, size_t *ret_count);
json_t *control_peers_view(struct control_call *call);
json_t *control_jobs_view(struct control_call *call);
/* [{"node","dataset","epsilon_total",...}] of this node's accounts; DATASET NULL: all. */
MUST_CHECK enum err control_budget_view(struct control_call *call, const char *dataset,
                                        json_t **ret, struct err_info *reterr);
/* One account: epsilon_left = eps(rho_max - rho_spent, delta), for people. */
json_t *control_account_view(const char *node, const char *dataset, double epsilon_total,
                             double delta, uint64_t cap_nano, uint64_t spent_nano);
/* {"types","micro","macro","weighted"} of counts of matched, predicted and gold; null where noise of deviation SIGMA may be all
 * there is. TEXT (may be NULL) gets the same as a table. */
json_t *control_scores_view(const char *const *names, const double (*counts)[3], uint32_t types,
                            double sigma, struct buf *text);
json_t *control_licence_view(const struct proto_licence *licence);
json_t *control_actions_view(uint64_t actions); /* ["count", ...] */
json_t *control_duo_view(uint64_t code);        /* "DUO:0000042" */
/* The DATASET record that ISSUER publishes under NAME; false: none that can be read. */
bool control_dataset(struct control_call *call, const uint8_t issuer[16], const char *name,
                     struct proto_dataset *ret);
const char *control_licence_state(struct control_call *call, const uint8_t issuer[16],
                                  const char *dataset, int64_t now, struct proto_record *ret_record,
                                  struct proto_licence *ret_licence, bool *ret_readable);
/* The members that published a model of that name; of each, member and name are set. Errors: E_NOT_FOUND, E_NO_MEMORY. */
MUST_CHECK enum err control_model_publishers(struct control_call *call, const char *name,
                                             struct query_publisher **ret, size_t *ret_count);
/* What --purpose, --disease, --project, --research, --ethics and --accept say; borrows from the call.
 * Errors: E_USAGE, the text names the option and what comes nearest. */
MUST_CHECK enum err control_purpose(struct control_call *call, struct proto_purpose *ret,
                                    struct err_info *reterr);
/* "a,b,c" as a list of struct proto_text in the call's arena. Errors: as control_list. */
MUST_CHECK enum err control_text_list(struct control_call *call, const char *name, size_t max,
                                      struct proto_list *ret, struct err_info *reterr);

#endif
