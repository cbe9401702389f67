#include "config.h"
#include "node/cli/ask.h"

#include "node/cli/client.h"

#include <stdlib.h>

/* A query waits for its sites, so the command waits somewhat longer than they may take. */
static uint64_t patience_ms(const struct cli_call *call, const struct proto_operation *operation)
{
    uint64_t ms = 0;
    const char *timeout = cli_text(call, "--timeout");
    if (timeout && proto_duration_parse(span_str(timeout), &ms)) {
        return ms + CLI_CLIENT_TIMEOUT_MS;
    }
    return operation->long_running ? 0 : CLI_CLIENT_TIMEOUT_MS;
}

static bool stays_here(const struct proto_argument *argument)
{
    return strcmp(argument->name, "--plot") == 0 || strcmp(argument->name, "--svg") == 0 ||
           strcmp(argument->name, "--csv") == 0 || strcmp(argument->name, "--tensorboard") == 0;
}

enum err cli_ask(struct cli_call *call, const struct proto_operation *operation, json_t **ret,
                 int *ret_exit, struct err_info *reterr)
{
    struct proto_control_argument arguments[CLI_VALUES_MAX];
    struct cli_question question = {
        .operation = operation->path,
        .arguments = arguments,
        .timeout_ms = patience_ms(call, operation),
        .progress = true,
        .lines = operation->id == PROTO_OP_TRAIN_WATCH && !call->json,
    };
    for (size_t i = 0; i < call->value_count; i++) {
        if (!stays_here(call->values[i].argument)) {
            arguments[question.argument_count++] = (struct proto_control_argument){
                span_str(call->values[i].argument->name), span_str(call->values[i].value)};
        }
    }
    return cli_client_ask(call->home, &question, ret, ret_exit, reterr);
}

enum err cli_ask_simple(const char *home, enum proto_op_id id, const char *name, const char *value,
                        json_t **ret, int *ret_exit, struct err_info *reterr)
{
    struct proto_control_argument argument = {span_str(name), span_str(value)};
    struct cli_question question = {
        .operation = proto_operations[id].path,
        .arguments = &argument,
        .argument_count = name ? 1 : 0,
        .timeout_ms = proto_operations[id].long_running ? 0 : CLI_CLIENT_TIMEOUT_MS,
        .lines = id == PROTO_OP_TRAIN_WATCH,
    };
    return cli_client_ask(home, &question, ret, ret_exit, reterr);
}

/* Follows the job that *RET tells of, if it tells of one; then *RET is what `train watch` answers. */
static enum err watch(struct cli_call *call, json_t **ret, int *ret_exit, struct err_info *reterr)
{
    const char *job = json_string_value(json_object_get(*ret, "job"));
    if (!job || *ret_exit != 0) {
        return E_OK;
    }
    json_t *started = *ret;
    *ret = NULL;
    if (!call->json) {
        fprintf(stderr, "job %s\n", job);
    }
    struct proto_control_argument argument = {span_str("ID"), span_str(job)};
    struct cli_question question = {.operation = proto_operations[PROTO_OP_TRAIN_WATCH].path,
                                    .arguments = &argument,
                                    .argument_count = 1,
                                    .lines = !call->json};
    enum err err = cli_client_ask(call->home, &question, ret, ret_exit, reterr);
    json_decref(started);
    return err;
}

/* `train run` is `train start` and `train watch`: the job belongs to the daemon, so that Ctrl-C ends
 * the watching only. */
enum err cli_train_run(struct cli_call *call, json_t **ret, int *ret_exit, struct err_info *reterr)
{
    enum err err = cli_ask(call, &proto_operations[PROTO_OP_TRAIN_START], ret, ret_exit, reterr);
    return err || cli_text(call, "--explain") ? err : watch(call, ret, ret_exit, reterr);
}

/* What `train start` takes, and --local if the call has room for it. */
static enum err add_local(struct cli_call *call)
{
    const struct proto_argument *local =
        proto_operation_argument(&proto_operations[PROTO_OP_TRAIN_START], span_str("--local"));
    if (!local || call->value_count == CLI_VALUES_MAX) {
        return E_LIMIT;
    }
    call->values[call->value_count++] = (struct cli_value){local, ""};
    return E_OK;
}

/* One after the other, so that neither waits for the other's processors. The first that does not end well is the answer. */
enum err cli_train_compare(struct cli_call *call, json_t **ret, int *ret_exit,
                           struct err_info *reterr)
{
    size_t given = call->value_count;
    json_t *local = NULL;
    enum err err = add_local(call);
    err = err ? err : cli_train_run(call, &local, ret_exit, reterr);
    call->value_count = given;
    if (err || *ret_exit != 0) {
        *ret = local;
        return err;
    }
    err = cli_train_run(call, ret, ret_exit, reterr);
    if (!err && *ret_exit == 0) {
        *ret = json_pack("{s:O, s:o}", "local", local, "federated", *ret);
    }
    json_decref(local);
    return err;
}
