#include "config.h"
#include "node/console/api.h"

#include "node/control/dispatch.h"

#include <stdio.h>
#include <string.h>

/* They read, whoever asks. What writes, spends budget or signs is not here. */
static const enum proto_op_id reading[] = {
    PROTO_OP_STATUS,         PROTO_OP_DOCTOR,         PROTO_OP_PEERS,
    PROTO_OP_DATASET_LIST,   PROTO_OP_DATASET_SHOW,   PROTO_OP_CATALOG,
    PROTO_OP_LICENCE_SHOW,   PROTO_OP_LICENCE_CHECK,  PROTO_OP_QUERIES,
    PROTO_OP_QUERIES_SHOW,   PROTO_OP_BUDGET,         PROTO_OP_TRAIN_LIST,
    PROTO_OP_TRAIN_SHOW,     PROTO_OP_TRAIN_HISTORY,  PROTO_OP_MODEL_LIST,
    PROTO_OP_MODEL_SHOW,     PROTO_OP_MODEL_CARD,     PROTO_OP_MODEL_REPORT,
    PROTO_OP_PROJECT_LIST,   PROTO_OP_PROJECT_SHOW,   PROTO_OP_VISA_LIST,
    PROTO_OP_AGREEMENT_LIST, PROTO_OP_AGREEMENT_SHOW, PROTO_OP_FEDERATION_COUNCIL,
    PROTO_OP_APPROVALS,      PROTO_OP_AUDIT_LIST,     PROTO_OP_AUDIT_EGRESS,
    PROTO_OP_AUDIT_VERIFY,   PROTO_OP_KEY_LIST,
};

static bool only_reads(const struct proto_operation *operation)
{
    for (size_t i = 0; i < sizeof reading / sizeof *reading; i++) {
        if (reading[i] == operation->id) {
            return true;
        }
    }
    return false;
}

unsigned console_status(int exit_code)
{
    static const unsigned statuses[] = {200, 500, 400, 404, 403, 403, 503, 422, 500, 503};
    return exit_code >= 0 && (size_t)exit_code < sizeof statuses / sizeof *statuses
               ? statuses[exit_code]
               : 500;
}

/* The operation that the most words of PATH name; *ret_rest is what stands behind them. */
static const struct proto_operation *find(const char *path, const char **ret_rest)
{
    const struct proto_operation *best = NULL;
    char words[64] = "";
    size_t len = 0;
    for (const char *at = path; *at && len + 1 < sizeof words; at++) {
        words[len++] = *at == '/' ? ' ' : *at;
        if (at[1] == '/' || at[1] == 0) {
            const struct proto_operation *operation = proto_operation_by_path(span_of(words, len));
            if (operation) {
                best = operation;
                *ret_rest = at[1] ? at + 2 : at + 1;
            }
        }
    }
    return best;
}

/* Room for the arguments of one request, in the call's arena. */
struct request {
    struct proto_control_request control;
    struct proto_control_argument items[CONSOLE_ARGUMENTS_MAX];
};

static bool put(struct request *request, struct span name, struct span value)
{
    size_t count = request->control.arguments.count;
    if (count == CONSOLE_ARGUMENTS_MAX) {
        return false;
    }
    request->items[count] = (struct proto_control_argument){name, value};
    request->control.arguments.count++;
    return true;
}

static bool positionals(struct request *request, const struct proto_operation *operation,
                        const char *rest)
{
    for (const struct proto_argument *row = operation->arguments; *rest && row && row->name;
         row++) {
        size_t len = strcspn(rest, "/");
        if (row->name[0] == '-') {
            continue;
        }
        if (!put(request, span_str(row->name), span_of(rest, len))) {
            return false;
        }
        rest += len + (rest[len] == '/');
    }
    return *rest == 0;
}

/* "since" is --since, "NAME" is NAME. */
static bool named(struct request *request, const struct proto_operation *operation,
                  const struct console_argument *argument)
{
    for (const struct proto_argument *row = operation->arguments; row && row->name; row++) {
        const char *name = row->name[0] == '-' ? row->name + 2 : row->name;
        if (strcmp(name, argument->name) == 0) {
            return put(request, span_str(row->name),
                       span_str(argument->value ? argument->value : ""));
        }
    }
    return false;
}

static unsigned fail(enum err err, const char *text, char **ret_json)
{
    struct err_info info = {0};
    snprintf(info.text, sizeof info.text, "%s", text);
    *ret_json = control_error_text(err, &info, NULL, NULL);
    return console_status(proto_err_exit(err));
}

unsigned console_api(struct node *node, const char *path, const struct console_argument *arguments,
                     size_t count, char **ret_json)
{
    const char *rest = "";
    const struct proto_operation *operation = find(path, &rest);
    struct request request = {0};
    if (!operation) {
        return fail(E_NOT_FOUND, "no such operation", ret_json);
    }
    if (!only_reads(operation)) {
        return fail(E_ROLE, "the console only reads; use the command for it", ret_json);
    }
    request.control.operation = span_str(operation->path);
    request.control.arguments.items = request.items;
    bool good = positionals(&request, operation, rest);
    for (size_t i = 0; good && i < count; i++) {
        good = named(&request, operation, &arguments[i]);
    }
    if (!good) {
        return fail(E_USAGE, "an argument that the operation does not take", ret_json);
    }
    struct control_call call = {.node = node,
                                .request = &request.control,
                                .person = "console",
                                .roles = PROTO_ROLE_OPERATOR | PROTO_ROLE_AUDITOR,
                                .socket = -1};
    int exit_code = 1;
    control_dispatch(&call, ret_json, &exit_code);
    control_call_fini(&call);
    return console_status(exit_code);
}
