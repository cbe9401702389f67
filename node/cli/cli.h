/* One run of the command `concordat`: what was typed, and the handlers of what the command does by
 * itself. It keeps no state of a node: everything else is asked of the daemon (client.h) and shown by
 * table.h.
 *
 *     struct cli_call call;
 *     err = cli_parse(argc, argv, &call, &info);
 *     err = cli_client_ask(&call, ...) or a handler of CLI_HANDLERS
 *
 * Threads: one. Memory: a call points into argv and its arena. */
#ifndef CONCORDAT_NODE_CLI_CLI_H
#define CONCORDAT_NODE_CLI_CLI_H

#include <jansson.h>

#include "proto/alloc.h"
#include "proto/operation.h"

#define CLI_VALUES_MAX   96
#define CLI_HOME_DEFAULT "/var/lib/concordat"

struct cli_value {
    const struct proto_argument *argument;
    const char *value;
};

struct cli_call {
    const char *self; /* argv[0] */
    const char *home; /* absolute */
    bool home_given;
    bool json;
    bool help;
    bool version;
    const struct proto_operation *operation; /* NULL with help and version alone */
    const char *group;                       /* "dataset" when help was asked for a group */
    struct cli_value values[CLI_VALUES_MAX];
    size_t value_count;
    struct arena arena;
};

/* Fills CALL from what was typed, checked against the table; the caller ends it with cli_call_fini,
 * also on failure (then json is right nevertheless). Errors: E_USAGE with a text for people. */
MUST_CHECK enum err cli_parse(int argc, char **argv, struct cli_call *ret, struct err_info *reterr);
void cli_call_fini(struct cli_call *call);
/* The first value of that name, or NULL. */
const char *cli_text(const struct cli_call *call, const char *name);
double cli_number(const struct cli_call *call, const char *name, double fallback);
/* PATH made absolute by the working directory, in the call's arena; NULL when out of memory. */
const char *cli_absolute(struct cli_call *call, const char *path);

/* Puts the question's text in place of "-" (standard input) and "@FILE"; no SQL begins like that. Errors: E_USAGE it is empty or has
 * more than PROTO_QUERY_SENT_MAX bytes; E_NOT_FOUND, E_INVALID the file. */
MUST_CHECK enum err cli_question_text(struct cli_call *call, struct err_info *reterr);

/* Whether what the command itself will write can be written, before it asks anybody: --svg, --tensorboard, and --out, whose file must
 * not exist. Nothing is made or changed. Errors: E_INVALID it cannot; E_EXISTS. */
MUST_CHECK enum err cli_check_outputs(const struct cli_call *call, struct err_info *reterr);
/* Writes the file PATH, which must not exist. Errors: E_EXISTS, E_IO. */
MUST_CHECK enum err cli_write_new(const char *path, struct span text, struct err_info *reterr);

/* What the command does by itself. *ret_json stays NULL when the handler printed its text.
 * *ret_exit is the exit code when E_OK is returned and it is not 0. */
typedef enum err cli_handler(struct cli_call *call, json_t **ret_json, int *ret_exit,
                             struct err_info *reterr);
#define CLI_HANDLERS(X)                                                                            \
    X(SANDBOX_CREATE, cli_sandbox_create)                                                          \
    X(SANDBOX_START, cli_sandbox_start)                                                            \
    X(SANDBOX_STATUS, cli_sandbox_status)                                                          \
    X(SANDBOX_STOP, cli_sandbox_stop)                                                              \
    X(SANDBOX_REMOVE, cli_sandbox_remove)                                                          \
    X(SANDBOX_SPLIT, cli_sandbox_split)                                                            \
    X(INIT, cli_init)                                                                              \
    X(DOCTOR, cli_doctor)                                                                          \
    X(TRAIN_RUN, cli_train_run)                                                                    \
    X(TRAIN_COMPARE, cli_train_compare)                                                            \
    X(AUDIT_VERIFY, cli_audit_verify)                                                              \
    X(KEY_RECOVER, cli_key_recover)                                                                \
    X(RESTORE, cli_restore)                                                                        \
    X(DATASET_DRAFT, cli_dataset_draft)                                                            \
    X(FSCK, cli_fsck)                                                                              \
    X(DATASET_MAPPING, cli_dataset_mapping)                                                        \
    X(LICENCE_EXPLAIN, cli_licence_explain)                                                        \
    X(LICENCE_NEW, cli_licence_new)                                                                \
    X(LICENCE_DIFF, cli_licence_diff)                                                              \
    X(LICENCE_COMPAT, cli_licence_compat)                                                          \
    X(TOOL_TOKENIZE, cli_tool_tokenize)                                                            \
    X(TOOL_REPORT, cli_tool_report)                                                                \
    X(TOOL_ACCOUNTANT, cli_tool_accountant)                                                        \
    X(TOOL_LICENCE_DECIDE, cli_tool_licence_decide)                                                \
    X(COMPLETION, cli_completion)                                                                  \
    X(MAN, cli_man)                                                                                \
    X(HELP, cli_help)
#define X(id, name) cli_handler name;
CLI_HANDLERS(X)
#undef X

/* Help on the call's operation, group, or everything; printed, or with --json {"text"}. */
MUST_CHECK enum err cli_help_print(const struct cli_call *call, json_t **ret);

/* {"error": ...} of the contract. */
json_t *cli_error_json(enum err err, const struct err_info *info);

#endif
