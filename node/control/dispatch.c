#include "config.h"
#include "node/control/dispatch.h"

#include <stdlib.h>

static control_handler *const handlers[PROTO_OP_TOTAL] = {
#define X(id, name) [PROTO_OP_##id] = name,
    CONTROL_HANDLERS(X)
#undef X
};

/* Reals as people wrote them: 15 digits are exact for every sum of nano-units that we print. */
#define JSON_FORMAT (JSON_COMPACT | JSON_REAL_PRECISION(15))

char *control_error_text(enum err err, const struct err_info *info, json_t *sites, json_t *rejects)
{
    json_t *error = json_pack("{s:s, s:s, s:i, s:s, s:s}", "code", proto_err_name(err), "kind",
                              proto_err_kind_name(proto_err_kind(err)), "exit", proto_err_exit(err),
                              "message", proto_err_text(err), "detail", info ? info->text : "");
    if (error && sites) {
        json_object_set(error, "sites", sites);
    }
    if (error && rejects) {
        json_object_set(error, "rejects", rejects);
    }
    json_t *document = json_pack("{s:o}", "error", error);
    char *text = document ? json_dumps(document, JSON_FORMAT) : NULL;
    json_decref(document);
    return text;
}

static enum err check_arguments(const struct control_call *call, struct err_info *reterr)
{
    const struct proto_control_argument *arguments = call->request->arguments.items;
    for (size_t i = 0; i < call->request->arguments.count; i++) {
        const struct proto_argument *row =
            proto_operation_argument(call->operation, arguments[i].name);
        if (!row) {
            return proto_err_set(reterr, E_USAGE, "%s takes no such argument",
                                 call->operation->path);
        }
        enum err err = proto_operation_check(row, arguments[i].value, reterr);
        if (err) {
            return err;
        }
        for (size_t j = 0; j < i && !row->repeated; j++) {
            if (span_equal(arguments[i].name, arguments[j].name)) {
                return proto_err_set(reterr, E_USAGE, "%s comes twice", row->name);
            }
        }
    }
    for (const struct proto_argument *row = call->operation->arguments; row && row->name; row++) {
        bool sent = call->kept && row->type == PROTO_ARG_FILE_IN;
        if (row->required && !sent && !proto_control_value(call->request, row->name).ptr) {
            return proto_err_set(reterr, E_USAGE, "%s is missing", row->name);
        }
    }
    return E_OK;
}

static enum err run(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    call->operation = proto_operation_by_path(call->request->operation);
    if (!call->operation || !handlers[call->operation->id]) {
        return proto_err_set(
            reterr, E_USAGE,
            "the daemon has no such operation; are command and daemon of one version?");
    }
    if (!proto_operation_permits(call->operation, call->roles)) {
        return proto_err_set(
            reterr, E_ROLE,
            "%s may not use `%s`; an operator can add a role under people: in node.yaml",
            call->person[0] ? call->person : "this user", call->operation->path);
    }
    enum err err = check_arguments(call, reterr);
    if (!err && call->node->stopping) {
        err = proto_err_set(reterr, E_BUSY, "the daemon is stopping");
    }
    return err ? err : handlers[call->operation->id](call, ret, reterr);
}

void control_dispatch(struct control_call *call, char **ret_json, int *ret_exit)
{
    struct err_info info = {0};
    json_t *answer = NULL;
    enum err err = run(call, &answer, &info);
    if (!err && !answer) {
        err = E_NO_MEMORY;
    }
    if (err) {
        *ret_json = control_error_text(err, &info, call->error_sites, call->error_rejects);
    } else {
        *ret_json = json_dumps(answer, JSON_FORMAT);
    }
    *ret_exit = proto_err_exit(*ret_json ? err : E_NO_MEMORY);
    call->answer = answer;
}

void control_call_fini(struct control_call *call)
{
    json_decref(call->answer);
    json_decref(call->error_sites);
    json_decref(call->error_rejects);
    arena_fini(&call->arena);
}
