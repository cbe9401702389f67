/* The table of operations: one row per command of this version. It is data only. The command line parses and helps by
 * it, the daemon dispatches by it, completion and man pages are printed from it, and tests walk it.
 *
 *     size_t words;
 *     const struct proto_operation *op = proto_operation_find(argc, argv, &words);
 *     if (op && op->where == PROTO_WHERE_DAEMON) { send op->path and the arguments; }
 *
 * In the daemon, by the path that came in the request:
 *
 *     const struct proto_operation *op = proto_operation_by_path(request.operation);
 *     switch (op->id) { case PROTO_OP_QUERY: ... }
 *
 * Arguments travel by the `name` of their row: "SQL" for a positional, "--epsilon" for an option; a flag that is set
 * has the value "". An argument that is not `repeated` comes at most once. The command has checked the form (numbers,
 * durations, required ones), the daemon checks it again with proto_operation_check.
 * Threads: constants. */
#ifndef CONCORDAT_PROTO_OPERATION_H
#define CONCORDAT_PROTO_OPERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/err.h"
#include "proto/span.h"

/* id, path as it is typed */
#define PROTO_OPERATIONS(X)                                                                        \
    X(SANDBOX_CREATE, "sandbox create")                                                            \
    X(SANDBOX_START, "sandbox start")                                                              \
    X(SANDBOX_STATUS, "sandbox status")                                                            \
    X(SANDBOX_STOP, "sandbox stop")                                                                \
    X(SANDBOX_REMOVE, "sandbox remove")                                                            \
    X(SANDBOX_SPLIT, "sandbox split")                                                              \
    X(INIT, "init")                                                                                \
    X(DOCTOR, "doctor")                                                                            \
    X(CLOCK_ACCEPT, "clock accept")                                                                \
    X(STATUS, "status")                                                                            \
    X(PEERS, "peers")                                                                              \
    X(FEDERATION_INVITE, "federation invite")                                                      \
    X(FEDERATION_ADMIT, "federation admit")                                                        \
    X(FEDERATION_COUNCIL, "federation council")                                                    \
    X(FEDERATION_COUNCIL_ADD, "federation council add")                                            \
    X(FEDERATION_COUNCIL_REMOVE, "federation council remove")                                      \
    X(ENDORSE, "endorse")                                                                          \
    X(REVOKE, "revoke")                                                                            \
    X(DATASET_IMPORT, "dataset import")                                                            \
    X(DATASET_DRAFT, "dataset draft")                                                              \
    X(DATASET_MAPPING, "dataset mapping")                                                          \
    X(DATASET_LIST, "dataset list")                                                                \
    X(DATASET_SHOW, "dataset show")                                                                \
    X(DATASET_RISK, "dataset risk")                                                                \
    X(DATASET_UPDATE, "dataset update")                                                            \
    X(DATASET_FORGET, "dataset forget")                                                            \
    X(DATASET_REMOVE, "dataset remove")                                                            \
    X(CATALOG, "catalog")                                                                          \
    X(LICENCE_SHOW, "licence show")                                                                \
    X(LICENCE_CHECK, "licence check")                                                              \
    X(LICENCE_EXPLAIN, "licence explain")                                                          \
    X(LICENCE_NEW, "licence new")                                                                  \
    X(LICENCE_DIFF, "licence diff")                                                                \
    X(LICENCE_COMPAT, "licence compat")                                                            \
    X(LICENCE_WITHDRAW, "licence withdraw")                                                        \
    X(QUERY, "query")                                                                              \
    X(QUERIES, "queries")                                                                          \
    X(QUERIES_SHOW, "queries show")                                                                \
    X(QUERIES_COLLECT, "queries collect")                                                          \
    X(BUDGET, "budget")                                                                            \
    X(TRAIN_START, "train start")                                                                  \
    X(TRAIN_WATCH, "train watch")                                                                  \
    X(TRAIN_RUN, "train run")                                                                      \
    X(TRAIN_COMPARE, "train compare")                                                              \
    X(TRAIN_LIST, "train list")                                                                    \
    X(TRAIN_SHOW, "train show")                                                                    \
    X(TRAIN_STOP, "train stop")                                                                    \
    X(TRAIN_RESUME, "train resume")                                                                \
    X(TRAIN_VERIFY, "train verify")                                                                \
    X(TRAIN_HISTORY, "train history")                                                              \
    X(TRAIN_PAUSE, "train pause")                                                                  \
    X(TRAIN_UNPAUSE, "train unpause")                                                              \
    X(MODEL_LIST, "model list")                                                                    \
    X(MODEL_SHOW, "model show")                                                                    \
    X(MODEL_FETCH, "model fetch")                                                                  \
    X(MODEL_PUBLISH, "model publish")                                                              \
    X(MODEL_EXPORT, "model export")                                                                \
    X(MODEL_IMPORT, "model import")                                                                \
    X(MODEL_CARD, "model card")                                                                    \
    X(MODEL_PREDICT, "model predict")                                                              \
    X(MODEL_REPORT, "model report")                                                                \
    X(PROJECT_CREATE, "project create")                                                            \
    X(PROJECT_LIST, "project list")                                                                \
    X(PROJECT_SHOW, "project show")                                                                \
    X(PROJECT_END, "project end")                                                                  \
    X(VISA_ISSUE, "visa issue")                                                                    \
    X(VISA_LIST, "visa list")                                                                      \
    X(VISA_REVOKE, "visa revoke")                                                                  \
    X(AGREEMENT_REQUEST, "agreement request")                                                      \
    X(AGREEMENT_LIST, "agreement list")                                                            \
    X(AGREEMENT_SHOW, "agreement show")                                                            \
    X(AGREEMENT_ACCEPT, "agreement accept")                                                        \
    X(AGREEMENT_TERMINATE, "agreement terminate")                                                  \
    X(APPROVALS, "approvals")                                                                      \
    X(APPROVE, "approve")                                                                          \
    X(DENY, "deny")                                                                                \
    X(AUDIT_LIST, "audit list")                                                                    \
    X(AUDIT_EGRESS, "audit egress")                                                                \
    X(AUDIT_VERIFY, "audit verify")                                                                \
    X(AUDIT_EXPORT, "audit export")                                                                \
    X(KEY_LIST, "key list")                                                                        \
    X(KEY_ADD, "key add")                                                                          \
    X(KEY_REMOVE, "key remove")                                                                    \
    X(KEY_ROTATE, "key rotate")                                                                    \
    X(KEY_RECOVER, "key recover")                                                                  \
    X(BACKUP, "backup")                                                                            \
    X(RESTORE, "restore")                                                                          \
    X(RESTORE_ACCEPT, "restore accept")                                                            \
    X(FSCK, "fsck")                                                                                \
    X(TOOL_TOKENIZE, "tool tokenize")                                                              \
    X(TOOL_REPORT, "tool report")                                                                  \
    X(TOOL_ACCOUNTANT, "tool accountant")                                                          \
    X(TOOL_LICENCE_DECIDE, "tool licence-decide")                                                  \
    X(COMPLETION, "completion")                                                                    \
    X(MAN, "man")                                                                                  \
    X(HELP, "help")

enum proto_op_id {
#define X(id, path) PROTO_OP_##id,
    PROTO_OPERATIONS(X)
#undef X
    PROTO_OP_TOTAL
};

enum proto_argument_type {
    PROTO_ARG_TEXT,
    PROTO_ARG_NUMBER,   /* a finite decimal number, at least 0 */
    PROTO_ARG_WHOLE,    /* such a number without a fraction, at most 1e15 */
    PROTO_ARG_LIST,     /* texts with commas between them, none empty */
    PROTO_ARG_FLAG,     /* takes no value */
    PROTO_ARG_FILE_IN,  /* a path that is read; absolute when it travels ("-" only where local) */
    PROTO_ARG_FILE_OUT, /* a path that is written; absolute when it travels */
    PROTO_ARG_DURATION, /* "500ms", "30s", "10m", "24h", "7d", more than nothing; travels as typed */
    PROTO_ARG_TIME,     /* RFC 3339 or a date; travels as typed */
};

struct proto_argument {
    const char *name; /* "NAME": positional, "--epsilon": option; NULL ends the list */
    enum proto_argument_type type;
    bool required;
    bool repeated;          /* may come more than once; a repeated positional is the last one */
    const char *value_name; /* what stands for the value in help; choices as "a|b" are enforced */
    const char *help;
};

/* Who may ask the daemon for it: any of these suffices; 0: everybody whom `people:` names. The bits
 * are those of enum config_role in node/config/node.h. */
enum {
    PROTO_ROLE_OPERATOR = 1,
    PROTO_ROLE_COORDINATOR = 2,
    PROTO_ROLE_ANALYST = 4,
    PROTO_ROLE_AUDITOR = 8,
};

enum proto_where {
    PROTO_WHERE_DAEMON, /* the command sends it as it is and renders the answer */
    PROTO_WHERE_LOCAL,  /* the command does it, perhaps by asking the daemon for other operations */
    PROTO_WHERE_BOTH,   /* the command does a part, and the daemon answers it too */
};

struct proto_operation {
    enum proto_op_id id;
    const char *path;
    enum proto_where where;
    unsigned roles;
    bool long_running; /* PROGRESS frames may come; no time-out of the command's own */
    const struct proto_argument *arguments; /* ended by a row whose name is NULL */
    const char *summary;                    /* one line without a full stop */
    const char *help;                       /* paragraphs, wrapped at 80 columns */
    const char *answer; /* shape of the JSON answer, for help and the man page */
};

/* Whether one who has ROLES may ask for it: nobody without a role, and one of the row's roles where it names some. */
bool proto_operation_permits(const struct proto_operation *op, unsigned roles);

extern const struct proto_operation proto_operations[];
extern const size_t proto_operation_count;

/* The row whose path begins ARGV, the longest one; *ret_words is the number of words it took.
 * NULL: no such command. */
const struct proto_operation *proto_operation_find(int argc, char **argv, int *ret_words);
const struct proto_operation *proto_operation_by_path(struct span path);
/* The operation's argument of that exact name, or NULL. */
const struct proto_argument *proto_operation_argument(const struct proto_operation *op,
                                                      struct span name);
/* The form of one value. Errors: E_USAGE, the text names the argument. */
MUST_CHECK enum err proto_operation_check(const struct proto_argument *argument, struct span value,
                                          struct err_info *reterr);
/* A finite decimal number of at least 0, and nothing before or behind it. */
bool proto_number_parse(struct span text, double *ret);
/* "30s" to 30000; units ms, s, m, h, d; at most 3650 days. */
bool proto_duration_parse(struct span text, uint64_t *ret_ms);
/* The path of the table that is closest to TEXT, or NULL when none is close. */
const char *proto_operation_suggest(const char *text);

#endif
