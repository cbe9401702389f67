#include "config.h"
#include "node/cli/table.h"

#include "node/cli/show.h"

void cli_table_sites(const json_t *answer, FILE *to)
{
    cli_show_sites(json_object_get(answer, "sites"), false, to);
}

const struct cli_column cli_peer_columns[] = {{"NODE", "node"},
                                              {"ORG", "org"},
                                              {"STATE", "state"},
                                              {"ADDRESS", "address"},
                                              {"LAST SEEN", "last_seen"},
                                              {"IN STEP", "root_equal"},
                                              {NULL, NULL}};
const struct cli_column cli_dataset_columns[] = {
    {"DATASET", "dataset"}, {"VERSION", "version"},           {"TITLE", "title"},
    {"COLUMNS", "columns"}, {"BYTES STORED", "bytes_stored"}, {"IMPORTED", "imported"},
    {"LICENCE", "licence"}, {"DAMAGED", "damaged"},           {NULL, NULL}};
static const struct cli_column catalog_columns[] = {{"DATASET", "dataset"},
                                                    {"NODE", "node"},
                                                    {"ORG", "org"},
                                                    {"VERSION", "version"},
                                                    {"SIZE", "size"},
                                                    {"LICENCE", "licence.spdx"},
                                                    {"STATE", "licence.state"},
                                                    {"PERMITS", "licence.permissions"},
                                                    {"EXPIRES", "licence.expires"},
                                                    {"EPSILON", "budget.epsilon_total"},
                                                    {NULL, NULL}};
static const struct cli_column model_columns[] = {
    {"MODEL", "model"},     {"JOB", "job"},   {"TASK", "task"},
    {"DATASET", "dataset"}, {"NODE", "node"}, {"EPSILON", "epsilon"},
    {"CREATED", "created"}, {"HERE", "here"}, {NULL, NULL}};
const struct cli_column cli_job_columns[] = {
    {"JOB", "job"},         {"NAME", "name"},       {"STATE", "state"},
    {"ROUND", "round"},     {"OF", "rounds"},       {"COORDINATOR", "coordinator"},
    {"DATASET", "dataset"}, {"STARTED", "started"}, {NULL, NULL}};
static const struct cli_column query_columns[] = {
    {"QUERY", "query_id"}, {"TIME", "time"},       {"PERSON", "person"}, {"PROJECT", "project"},
    {"STATE", "state"},    {"EPSILON", "epsilon"}, {"QUESTION", "sql"},  {NULL, NULL}};
static const struct cli_column project_columns[] = {
    {"PROJECT", "project"}, {"NODE", "node"},         {"STATE", "state"},
    {"PURPOSE", "purpose"}, {"DISEASES", "diseases"}, {"ETHICS", "ethics.ref"},
    {"PEOPLE", "people"},   {"ENDS", "ends"},         {NULL, NULL}};
static const struct cli_column visa_columns[] = {
    {"VISA", "visa"},     {"STATE", "state"},     {"ISSUER", "issuer"}, {"NODE", "node"},
    {"PERSON", "person"}, {"PROJECT", "project"}, {"TYPE", "type"},     {"VALUE", "value"},
    {"BY", "by"},         {"EXPIRES", "expires"}, {NULL, NULL}};
static const struct cli_column agreement_columns[] = {{"AGREEMENT", "agreement"},
                                                      {"STATE", "state"},
                                                      {"IN FORCE", "in_force"},
                                                      {"SIDE", "side"},
                                                      {"NODE", "node"},
                                                      {"DATASET", "dataset"},
                                                      {"PROJECT", "project"},
                                                      {"PURPOSE", "purpose"},
                                                      {"STARTS", "starts"},
                                                      {"ENDS", "ends"},
                                                      {NULL, NULL}};
static const struct cli_column duty_columns[] = {{"DUTY", "id"},
                                                 {"WHEN", "when"},
                                                 {"TO BE PROMISED", "promise"},
                                                 {"TEXT", "text"},
                                                 {NULL, NULL}};
static const struct cli_column approval_columns[] = {
    {"APPROVAL", "approval"},   {"STATE", "state"},     {"KIND", "kind"},
    {"DATASET", "dataset"},     {"NODE", "node"},       {"PERSON", "person"},
    {"PROJECT", "project"},     {"PURPOSE", "purpose"}, {"OPERATIONS", "operations"},
    {"RESULT", "shape"},        {"WHY", "why"},         {"EPSILON", "cost.epsilon"},
    {"REQUESTED", "requested"}, {"UNTIL", "expires"},   {NULL, NULL}};
static const struct cli_column audit_columns[] = {
    {"SEQ", "seq"}, {"TIME", "time"}, {"KIND", "kind"}, {"BODY", "body"}, {NULL, NULL}};
static const struct cli_column egress_columns[] = {{"TIME", "time"},   {"PEER", "peer"},
                                                   {"KIND", "kind"},   {"ID", "id"},
                                                   {"BYTES", "bytes"}, {NULL, NULL}};
static const struct cli_column sandbox_columns[] = {{"NODE", "node"}, {"STATE", "state"},
                                                    {"PID", "pid"},   {"LISTEN", "listen"},
                                                    {"HOME", "home"}, {NULL, NULL}};
static const struct cli_column part_columns[] = {
    {"NODE", "node"}, {"ROWS", "rows"}, {"FILE", "file"}, {NULL, NULL}};
static const struct cli_column slot_columns[] = {
    {"SLOT", "slot"},    {"KIND", "kind"},   {"OPENED", "opened"}, {"NEEDED", "shares.needed"},
    {"OF", "shares.of"}, {"TOKEN", "token"}, {"KEY", "key"},       {NULL, NULL}};
static const struct cli_column checked_columns[] = {
    {"WHAT", "what"}, {"GOOD", "ok"}, {"CODE", "code"}, {NULL, NULL}};
static const struct cli_column proposal_columns[] = {
    {"RECORD", "record"}, {"WHAT", "what"}, {"ENDORSED", "endorsed"},
    {"OF", "threshold"},  {"BY", "by"},     {NULL, NULL}};
static const struct cli_column council_columns[] = {
    {"NODE", "node"}, {"NODE ID", "node_id"}, {NULL, NULL}};
static const struct cli_column file_columns[] = {
    {"FILE", "file"}, {"BYTES", "bytes"}, {NULL, NULL}};
static const struct cli_column participant_columns[] = {
    {"PARTICIPANT", "node"}, {"ORG", "org"}, {"EPSILON", "epsilon"}, {NULL, NULL}};

static void answer_catalog(const json_t *answer, FILE *to)
{
    cli_show_list(json_object_get(answer, "datasets"), catalog_columns, "no datasets are published",
                  to);
    cli_show_yours(json_object_get(answer, "datasets"), to);
    if (json_array_size(json_object_get(answer, "models")) > 0) {
        fputc('\n', to);
        cli_show_list(json_object_get(answer, "models"), model_columns, "", to);
    }
}

static void answer_train(const json_t *answer, FILE *to)
{
    if (json_is_true(json_object_get(answer, "explain"))) {
        cli_show_train_start(answer, to);
    } else {
        cli_show_train(answer, to);
    }
}

static void answer_pause(const json_t *answer, FILE *to)
{
    fputs(json_is_true(json_object_get(answer, "paused"))
              ? "this site takes no part in training until `concordat train unpause`\n"
              : "this site trains again\n",
          to);
}

static void answer_train_verify(const json_t *answer, FILE *to)
{
    fprintf(to, "%.0f rounds computed again: each leads to the recorded weights\n",
            cli_show_number(answer, "rounds"));
}

static void answer_model_import(const json_t *answer, FILE *to)
{
    fputs("model ", to);
    cli_show_put(to, cli_show_text(answer, "name"));
    fprintf(to, ": %.0f parameters, %.0f bytes, ", cli_show_number(answer, "parameters"),
            cli_show_number(answer, "size"));
    cli_show_put(to, cli_show_text(answer, "hash"));
    fputc('\n', to);
}

static void answer_model_card(const json_t *answer, FILE *to)
{
    fputs(cli_show_text(answer, "card"), to);
}

static void answer_model_report(const json_t *answer, FILE *to)
{
    fputs(cli_show_text(answer, "text"), to);
}

static void answer_model_predict(const json_t *answer, FILE *to)
{
    cli_show_predictions(json_object_get(answer, "rows"), to);
}

static void answer_council(const json_t *answer, FILE *to)
{
    cli_show_with_list(answer, "council", council_columns, to);
    if (json_array_size(json_object_get(answer, "proposals"))) {
        cli_show_list(json_object_get(answer, "proposals"), proposal_columns, "", to);
    }
}

static void answer_keys(const json_t *answer, FILE *to)
{
    cli_show_list(json_object_get(answer, "slots"), slot_columns, "no slots", to);
    if (json_array_size(json_object_get(answer, "rotating")) > 0) {
        cli_show_object(answer, to);
    }
}

/* Shares stand alone on lines, so that they can be piped to a printer. */
static void answer_key_add(const json_t *answer, FILE *to)
{
    const json_t *shares = json_object_get(answer, "shares");
    for (size_t i = 0; i < json_array_size(shares); i++) {
        cli_show_put(to, json_string_value(json_array_get(shares, i)));
        fputc('\n', to);
    }
    if (!shares) {
        cli_show_list(json_object_get(answer, "slots"), slot_columns, "no slots", to);
    }
}

/* Alone, so that it can be piped. */
static void answer_invite(const json_t *answer, FILE *to)
{
    cli_show_put(to, cli_show_text(answer, "token"));
    fputc('\n', to);
}

/* How an answer is shown: by `print`, or as the list that it is or has under `list`, with `columns`. NOTHING is what an empty
 * one says; NULL: the answer's plain keys come first. What has no line here is shown as keys and values. */
static const struct shown {
    void (*print)(const json_t *answer, FILE *to);
    const char *list;
    const struct cli_column *columns;
    const char *nothing;
} shown[PROTO_OP_TOTAL] = {
    [PROTO_OP_QUERY] = {.print = cli_show_query},
    [PROTO_OP_QUERIES_SHOW] = {.print = cli_show_query},
    [PROTO_OP_QUERIES_COLLECT] = {.print = cli_show_query},
    [PROTO_OP_QUERIES] = {.columns = query_columns, .nothing = "no questions were asked here"},
    [PROTO_OP_STATUS] = {.print = cli_show_status},
    [PROTO_OP_DOCTOR] = {.print = cli_show_doctor},
    [PROTO_OP_PEERS] = {.columns = cli_peer_columns, .nothing = "no members yet"},
    [PROTO_OP_DATASET_IMPORT] = {.print = cli_show_import},
    [PROTO_OP_DATASET_MAPPING] = {.print = cli_show_mapping},
    [PROTO_OP_DATASET_LIST] = {.columns = cli_dataset_columns,
                               .nothing = "no datasets here; `concordat dataset import` adds one"},
    [PROTO_OP_DATASET_RISK] = {.print = cli_show_risk},
    [PROTO_OP_DATASET_SHOW] = {.print = cli_show_dataset},
    [PROTO_OP_CATALOG] = {.print = answer_catalog},
    [PROTO_OP_LICENCE_SHOW] = {.print = cli_show_licence},
    [PROTO_OP_LICENCE_CHECK] = {.print = cli_show_check},
    [PROTO_OP_LICENCE_EXPLAIN] = {.print = cli_show_explained},
    [PROTO_OP_LICENCE_DIFF] = {.print = cli_show_diff},
    [PROTO_OP_LICENCE_COMPAT] = {.print = cli_show_compat},
    [PROTO_OP_TOOL_LICENCE_DECIDE] = {.print = cli_show_decision},
    [PROTO_OP_TOOL_ACCOUNTANT] = {.print = cli_show_accountant},
    [PROTO_OP_BUDGET] = {.print = cli_show_budget},
    [PROTO_OP_TRAIN_START] = {.print = cli_show_train_start},
    [PROTO_OP_TRAIN_RUN] = {.print = answer_train},
    [PROTO_OP_TRAIN_WATCH] = {.print = answer_train},
    [PROTO_OP_TRAIN_SHOW] = {.print = answer_train},
    [PROTO_OP_TRAIN_COMPARE] = {.print = cli_show_compare},
    [PROTO_OP_TRAIN_HISTORY] = {.print = cli_show_history},
    [PROTO_OP_TRAIN_PAUSE] = {.print = answer_pause},
    [PROTO_OP_TRAIN_UNPAUSE] = {.print = answer_pause},
    [PROTO_OP_TRAIN_VERIFY] = {.print = answer_train_verify},
    [PROTO_OP_TRAIN_LIST] = {.columns = cli_job_columns, .nothing = "no training jobs"},
    [PROTO_OP_MODEL_LIST] = {.columns = model_columns, .nothing = "no models yet"},
    [PROTO_OP_MODEL_SHOW] = {.list = "participants", .columns = participant_columns},
    [PROTO_OP_MODEL_EXPORT] = {.list = "files", .columns = file_columns},
    [PROTO_OP_MODEL_IMPORT] = {.print = answer_model_import},
    [PROTO_OP_MODEL_CARD] = {.print = answer_model_card},
    [PROTO_OP_MODEL_PREDICT] = {.print = answer_model_predict},
    [PROTO_OP_MODEL_REPORT] = {.print = answer_model_report},
    [PROTO_OP_PROJECT_LIST] = {.columns = project_columns, .nothing = "no projects are published"},
    [PROTO_OP_VISA_LIST] = {.columns = visa_columns, .nothing = "no visas were issued"},
    [PROTO_OP_AGREEMENT_LIST] = {.columns = agreement_columns, .nothing = "no agreements"},
    [PROTO_OP_AGREEMENT_REQUEST] = {.list = "duties", .columns = duty_columns},
    [PROTO_OP_AGREEMENT_SHOW] = {.list = "duties", .columns = duty_columns},
    [PROTO_OP_AGREEMENT_ACCEPT] = {.list = "duties", .columns = duty_columns},
    [PROTO_OP_AGREEMENT_TERMINATE] = {.list = "duties", .columns = duty_columns},
    [PROTO_OP_APPROVALS] = {.columns = approval_columns, .nothing = "nothing waits for approval"},
    [PROTO_OP_AUDIT_LIST] = {.columns = audit_columns, .nothing = "nothing since then"},
    [PROTO_OP_AUDIT_EGRESS] = {.columns = egress_columns, .nothing = "nothing has left this node"},
    [PROTO_OP_AUDIT_VERIFY] = {.print = cli_show_verify},
    [PROTO_OP_SANDBOX_CREATE] = {.columns = sandbox_columns, .nothing = "no nodes here"},
    [PROTO_OP_SANDBOX_START] = {.columns = sandbox_columns, .nothing = "no nodes here"},
    [PROTO_OP_SANDBOX_STATUS] = {.columns = sandbox_columns, .nothing = "no nodes here"},
    [PROTO_OP_SANDBOX_STOP] = {.columns = sandbox_columns, .nothing = "no nodes here"},
    [PROTO_OP_SANDBOX_SPLIT] = {.list = "parts", .columns = part_columns, .nothing = "no rows"},
    [PROTO_OP_FEDERATION_COUNCIL] = {.print = answer_council},
    [PROTO_OP_FEDERATION_INVITE] = {.print = answer_invite},
    [PROTO_OP_KEY_ADD] = {.print = answer_key_add},
    [PROTO_OP_KEY_LIST] = {.print = answer_keys},
    [PROTO_OP_KEY_REMOVE] = {.print = answer_keys},
    [PROTO_OP_KEY_ROTATE] = {.print = answer_keys},
    [PROTO_OP_FSCK] = {.list = "checked", .columns = checked_columns, .nothing = "nothing is here"},
};

void cli_table_answer(enum proto_op_id id, const json_t *answer, FILE *to)
{
    const struct shown *how = &shown[id];
    if (how->print) {
        how->print(answer, to);
    } else if (how->columns && how->nothing) {
        const json_t *list = how->list ? json_object_get(answer, how->list) : answer;
        cli_show_list(list, how->columns, how->nothing, to);
    } else if (how->columns) {
        cli_show_with_list(answer, how->list, how->columns, to);
    } else {
        cli_show_object(answer, to);
    }
}

/* --- errors ------------------------------------------------------------------------------------------- */

/* What usually helps, by code. The texts of E_NO_DAEMON and of usage errors say it themselves. */
static const char *cure_of_code(const char *code)
{
    static const struct {
        const char *code;
        const char *cure;
    } cures[] = {
        {"BUDGET_EXHAUSTED", "ask with a smaller --epsilon; `concordat budget` shows what is left"},
        {"UNREACHABLE", "`concordat peers` shows who is up; --min-sites says how many must answer"},
        {"TIMEOUT", "try again with a longer --timeout; `concordat peers` shows who is up"},
        {"ROLE", "an operator can give you the role in node.yaml, people:"},
        {"DISK_FULL", "make room on the disk and try again; what was there before is intact"},
        {"BUSY", "try again in a moment"},
        {"CORRUPT", "do not go on with this home; restore a backup and keep the files as evidence"},
    };
    for (size_t i = 0; i < sizeof cures / sizeof *cures; i++) {
        if (strcmp(code, cures[i].code) == 0) {
            return cures[i].cure;
        }
    }
    return NULL;
}

void cli_table_error(const json_t *document, FILE *to)
{
    const json_t *error = json_object_get(document, "error");
    const char *detail = cli_show_text(error, "detail");
    const char *message = cli_show_text(error, "message");
    const json_t *sites = json_object_get(error, "sites");
    fputs("concordat: ", to);
    if (*message && strcmp(cli_show_text(error, "kind"), "usage") != 0 && *detail) {
        cli_show_put(to, message);
        fputs(": ", to);
    }
    cli_show_put(to, *detail ? detail : *message ? message : "unknown error");
    fputc('\n', to);
    const char *cure = cure_of_code(cli_show_text(error, "code"));
    if (json_array_size(sites) > 0) {
        cli_show_sites(sites, false, to);
    } else if (cure) {
        fprintf(to, "%s\n", cure);
    }
}
