/* From the table of operations to the daemon's handlers, and the error document when one fails.
 * Threads: any. */
#ifndef CONCORDAT_NODE_CONTROL_DISPATCH_H
#define CONCORDAT_NODE_CONTROL_DISPATCH_H

#include "node/control/call.h"

/* Checks role and arguments, runs the handler; *ret_json is a text for free(), *ret_exit its exit code. Never fails. */
void control_dispatch(struct control_call *call, char **ret_json, int *ret_exit);
/* Frees what the call holds, when its answer has gone out: nobody waits for that. */
void control_call_fini(struct control_call *call);
/* {"error": ...} of contract. */
char *control_error_text(enum err err, const struct err_info *info, json_t *sites, json_t *rejects);

/* Handlers, by file. */
#define CONTROL_HANDLERS(X)                                                                        \
    X(STATUS, control_status)                                                                      \
    X(DOCTOR, control_doctor)                                                                      \
    X(CLOCK_ACCEPT, control_clock_accept)                                                          \
    X(PEERS, control_peers)                                                                        \
    X(FEDERATION_INVITE, control_federation_invite)                                                \
    X(FEDERATION_ADMIT, control_federation_admit)                                                  \
    X(FEDERATION_COUNCIL, control_federation_council)                                              \
    X(FEDERATION_COUNCIL_ADD, control_federation_council_add)                                      \
    X(FEDERATION_COUNCIL_REMOVE, control_federation_council_remove)                                \
    X(ENDORSE, control_endorse)                                                                    \
    X(REVOKE, control_revoke)                                                                      \
    X(DATASET_IMPORT, control_dataset_import)                                                      \
    X(DATASET_LIST, control_dataset_list)                                                          \
    X(DATASET_SHOW, control_dataset_show)                                                          \
    X(DATASET_RISK, control_dataset_risk)                                                          \
    X(DATASET_UPDATE, control_dataset_update)                                                      \
    X(DATASET_FORGET, control_dataset_forget)                                                      \
    X(DATASET_REMOVE, control_dataset_remove)                                                      \
    X(CATALOG, control_catalog)                                                                    \
    X(LICENCE_SHOW, control_licence_show)                                                          \
    X(LICENCE_CHECK, control_licence_check)                                                        \
    X(LICENCE_WITHDRAW, control_licence_withdraw)                                                  \
    X(QUERY, control_query)                                                                        \
    X(QUERIES, control_queries)                                                                    \
    X(QUERIES_SHOW, control_queries_show)                                                          \
    X(QUERIES_COLLECT, control_queries_collect)                                                    \
    X(BUDGET, control_budget)                                                                      \
    X(TRAIN_START, control_train_start)                                                            \
    X(TRAIN_WATCH, control_train_watch)                                                            \
    X(TRAIN_LIST, control_train_list)                                                              \
    X(TRAIN_SHOW, control_train_show)                                                              \
    X(TRAIN_STOP, control_train_stop)                                                              \
    X(TRAIN_RESUME, control_train_resume)                                                          \
    X(TRAIN_VERIFY, control_train_verify)                                                          \
    X(TRAIN_HISTORY, control_train_show)                                                           \
    X(TRAIN_PAUSE, control_train_pause)                                                            \
    X(TRAIN_UNPAUSE, control_train_unpause)                                                        \
    X(MODEL_LIST, control_model_list)                                                              \
    X(MODEL_SHOW, control_model_show)                                                              \
    X(MODEL_FETCH, control_model_fetch)                                                            \
    X(MODEL_PUBLISH, control_model_publish)                                                        \
    X(MODEL_EXPORT, control_model_export)                                                          \
    X(MODEL_IMPORT, control_model_import)                                                          \
    X(MODEL_CARD, control_model_card)                                                              \
    X(MODEL_PREDICT, control_model_predict)                                                        \
    X(MODEL_REPORT, control_model_report)                                                          \
    X(PROJECT_CREATE, control_project_create)                                                      \
    X(PROJECT_LIST, control_project_list)                                                          \
    X(PROJECT_SHOW, control_project_show)                                                          \
    X(PROJECT_END, control_project_end)                                                            \
    X(VISA_ISSUE, control_visa_issue)                                                              \
    X(VISA_LIST, control_visa_list)                                                                \
    X(VISA_REVOKE, control_visa_revoke)                                                            \
    X(AGREEMENT_REQUEST, control_agreement_request)                                                \
    X(AGREEMENT_LIST, control_agreement_list)                                                      \
    X(AGREEMENT_SHOW, control_agreement_show)                                                      \
    X(AGREEMENT_ACCEPT, control_agreement_accept)                                                  \
    X(AGREEMENT_TERMINATE, control_agreement_terminate)                                            \
    X(APPROVALS, control_approvals)                                                                \
    X(APPROVE, control_approve)                                                                    \
    X(DENY, control_deny)                                                                          \
    X(AUDIT_LIST, control_audit_list)                                                              \
    X(AUDIT_EGRESS, control_audit_egress)                                                          \
    X(AUDIT_VERIFY, control_audit_verify)                                                          \
    X(AUDIT_EXPORT, control_audit_export)                                                          \
    X(KEY_LIST, control_key_list)                                                                  \
    X(KEY_ADD, control_key_add)                                                                    \
    X(KEY_REMOVE, control_key_remove)                                                              \
    X(KEY_ROTATE, control_key_rotate)                                                              \
    X(BACKUP, control_backup)                                                                      \
    X(RESTORE_ACCEPT, control_restore_accept)                                                      \
    X(FSCK, control_fsck)
#define X(id, name) control_handler name;
CONTROL_HANDLERS(X)
#undef X

/* Handler of PEER_MSG_NOTICE: a person elsewhere decided on a request of this node; user: struct node. */
void control_notice_handle(struct peer_request *request, void *user);

/* Starts the thread that goes on with begun rotations of datasets' keys; once at start and after `key rotate --dek`. */
void control_rotate_pending(struct node *node);

#endif
