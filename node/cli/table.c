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
const struct cli_column cli_dataset_columns[] = {{"DATASET", "dataset"},
                                                 {"VERSION", "version"},
                                                 {"TITLE", "title"},
                                                 {"COLUMNS", "columns"},
                                                 {"BYTES STORED", "bytes_stored"},
                                                 {"IMPORTED", "imported"},
                                                 {"LICENCE", "licence"},
                                                 {NULL, NULL}};
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

void cli_table_answer(enum proto_op_id id, const json_t *answer, FILE *to)
{
    switch (id) {
    case PROTO_OP_QUERY:
    case PROTO_OP_QUERIES_SHOW:
    case PROTO_OP_QUERIES_COLLECT:
        cli_show_query(answer, to);
        break;
    case PROTO_OP_STATUS:
        cli_show_status(answer, to);
        break;
    case PROTO_OP_DOCTOR:
        cli_show_doctor(answer, to);
        break;
    case PROTO_OP_PEERS:
        cli_show_list(answer, cli_peer_columns, "no members yet", to);
        break;
    case PROTO_OP_DATASET_IMPORT:
        cli_show_import(answer, to);
        break;
    case PROTO_OP_DATASET_MAPPING:
        cli_show_mapping(answer, to);
        break;
    case PROTO_OP_DATASET_LIST:
        cli_show_list(answer, cli_dataset_columns,
                      "no datasets here; `concordat dataset import` adds one", to);
        break;
    case PROTO_OP_DATASET_SHOW:
        cli_show_dataset(answer, to);
        break;
    case PROTO_OP_CATALOG:
        answer_catalog(answer, to);
        break;
    case PROTO_OP_LICENCE_SHOW:
        cli_show_licence(answer, to);
        break;
    case PROTO_OP_LICENCE_CHECK:
        cli_show_check(answer, to);
        break;
    case PROTO_OP_LICENCE_EXPLAIN:
        cli_show_explained(answer, to);
        break;
    case PROTO_OP_LICENCE_DIFF:
        cli_show_diff(answer, to);
        break;
    case PROTO_OP_LICENCE_COMPAT:
        cli_show_compat(answer, to);
        break;
    case PROTO_OP_TOOL_LICENCE_DECIDE:
        cli_show_decision(answer, to);
        break;
    case PROTO_OP_QUERIES:
        cli_show_list(answer, query_columns, "no questions were asked here", to);
        break;
    case PROTO_OP_TOOL_ACCOUNTANT:
        cli_show_accountant(answer, to);
        break;
    case PROTO_OP_BUDGET:
        cli_show_budget(answer, to);
        break;
    case PROTO_OP_TRAIN_START:
        cli_show_train_start(answer, to);
        break;
    case PROTO_OP_TRAIN_RUN:
    case PROTO_OP_TRAIN_WATCH:
    case PROTO_OP_TRAIN_SHOW:
        if (json_is_true(json_object_get(answer, "explain"))) {
            cli_show_train_start(answer, to);
        } else {
            cli_show_train(answer, to);
        }
        break;
    case PROTO_OP_TRAIN_HISTORY:
        cli_show_history(answer, to);
        break;
    case PROTO_OP_TRAIN_PAUSE:
    case PROTO_OP_TRAIN_UNPAUSE:
        fputs(json_is_true(json_object_get(answer, "paused"))
                  ? "this site takes no part in training until `concordat train unpause`\n"
                  : "this site trains again\n",
              to);
        break;
    case PROTO_OP_TRAIN_VERIFY:
        fprintf(to, "%.0f rounds computed again: each leads to the recorded weights\n",
                cli_show_number(answer, "rounds"));
        break;
    case PROTO_OP_TRAIN_LIST:
        cli_show_list(answer, cli_job_columns, "no training jobs", to);
        break;
    case PROTO_OP_MODEL_LIST:
        cli_show_list(answer, model_columns, "no models yet", to);
        break;
    case PROTO_OP_MODEL_SHOW:
        cli_show_with_list(answer, "participants", participant_columns, to);
        break;
    case PROTO_OP_MODEL_EXPORT:
        cli_show_with_list(answer, "files", file_columns, to);
        break;
    case PROTO_OP_PROJECT_LIST:
        cli_show_list(answer, project_columns, "no projects are published", to);
        break;
    case PROTO_OP_VISA_LIST:
        cli_show_list(answer, visa_columns, "no visas were issued", to);
        break;
    case PROTO_OP_AGREEMENT_LIST:
        cli_show_list(answer, agreement_columns, "no agreements", to);
        break;
    case PROTO_OP_AGREEMENT_REQUEST:
    case PROTO_OP_AGREEMENT_SHOW:
    case PROTO_OP_AGREEMENT_ACCEPT:
    case PROTO_OP_AGREEMENT_TERMINATE:
        cli_show_with_list(answer, "duties", duty_columns, to);
        break;
    case PROTO_OP_MODEL_IMPORT:
        fputs("model ", to);
        cli_show_put(to, cli_show_text(answer, "name"));
        fprintf(to, ": %.0f parameters, %.0f bytes, ", cli_show_number(answer, "parameters"),
                cli_show_number(answer, "size"));
        cli_show_put(to, cli_show_text(answer, "hash"));
        fputc('\n', to);
        break;
    case PROTO_OP_MODEL_CARD:
        fputs(cli_show_text(answer, "card"), to);
        break;
    case PROTO_OP_MODEL_PREDICT:
        cli_show_predictions(json_object_get(answer, "rows"), to);
        break;
    case PROTO_OP_MODEL_REPORT:
        fputs(cli_show_text(answer, "text"), to);
        break;
    case PROTO_OP_APPROVALS:
        cli_show_list(answer, approval_columns, "nothing waits for approval", to);
        break;
    case PROTO_OP_AUDIT_LIST:
        cli_show_list(answer, audit_columns, "nothing since then", to);
        break;
    case PROTO_OP_AUDIT_EGRESS:
        cli_show_list(answer, egress_columns, "nothing has left this node", to);
        break;
    case PROTO_OP_AUDIT_VERIFY:
        cli_show_verify(answer, to);
        break;
    case PROTO_OP_SANDBOX_CREATE:
    case PROTO_OP_SANDBOX_START:
    case PROTO_OP_SANDBOX_STATUS:
    case PROTO_OP_SANDBOX_STOP:
        cli_show_list(answer, sandbox_columns, "no nodes here", to);
        break;
    case PROTO_OP_SANDBOX_SPLIT:
        cli_show_list(json_object_get(answer, "parts"), part_columns, "no rows", to);
        break;
    case PROTO_OP_FEDERATION_COUNCIL:
        cli_show_with_list(answer, "council", council_columns, to);
        if (json_array_size(json_object_get(answer, "proposals"))) {
            cli_show_list(json_object_get(answer, "proposals"), proposal_columns, "", to);
        }
        break;
    case PROTO_OP_KEY_ADD:
        for (size_t i = 0; i < json_array_size(json_object_get(answer, "shares")); i++) {
            cli_show_put(to,
                         json_string_value(json_array_get(json_object_get(answer, "shares"), i)));
            fputc('\n', to); /* alone on lines, so that they can be piped to a printer */
        }
        if (!json_object_get(answer, "shares")) {
            cli_show_list(json_object_get(answer, "slots"), slot_columns, "no slots", to);
        }
        break;
    case PROTO_OP_KEY_LIST:
    case PROTO_OP_KEY_REMOVE:
    case PROTO_OP_KEY_ROTATE:
        cli_show_list(json_object_get(answer, "slots"), slot_columns, "no slots", to);
        if (json_array_size(json_object_get(answer, "rotating")) > 0) {
            cli_show_object(answer, to);
        }
        break;
    case PROTO_OP_FSCK:
        cli_show_list(json_object_get(answer, "checked"), checked_columns, "nothing is here", to);
        break;
    case PROTO_OP_FEDERATION_INVITE:
        cli_show_put(to, cli_show_text(answer, "token")); /* alone, so that it can be piped */
        fputc('\n', to);
        break;
    default:
        cli_show_object(answer, to);
        break;
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
