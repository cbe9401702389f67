/* From what was typed to a question for the daemon. */
#ifndef CONCORDAT_NODE_CLI_ASK_H
#define CONCORDAT_NODE_CLI_ASK_H

#include "node/cli/cli.h"

/* Asks the daemon of the call's home for OPERATION with the call's arguments.
 * Errors: those of cli_client_ask. */
MUST_CHECK enum err cli_ask(struct cli_call *call, const struct proto_operation *operation,
                            json_t **ret, int *ret_exit, struct err_info *reterr);
/* The same for an operation that takes one argument or none (NAME is NULL), in another home. */
MUST_CHECK enum err cli_ask_simple(const char *home, enum proto_op_id id, const char *name,
                                   const char *value, json_t **ret, int *ret_exit,
                                   struct err_info *reterr);

#endif
