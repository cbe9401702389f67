/* Training jobs and predictions. */
#include "config.h"
#include "node/cli/show.h"

#include "node/cli/grid.h"

#include <math.h>

static const char *text_at(const json_t *array, size_t i)
{
    const char *text = json_string_value(json_array_get(array, i));
    return text ? text : "";
}

/* Words with their tags and an empty line after each sentence; a class with its probability; or a number. */
void cli_show_predictions(const json_t *rows, FILE *to)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i), *words = json_object_get(row, "words");
        for (size_t w = 0; w < json_array_size(words); w++) {
            cli_show_put(to, text_at(words, w));
            fputc('\t', to);
            cli_show_put(to, text_at(json_object_get(row, "tags"), w));
            fputc('\n', to);
        }
        const char *label = json_string_value(json_object_get(row, "label"));
        if (label) {
            const json_t *all = json_object_get(row, "probabilities");
            cli_show_put(to, label);
            fprintf(to, "\t%.4f", json_number_value(json_object_get(all, label)));
        } else if (json_is_number(row)) {
            fprintf(to, "%.6g", json_number_value(row));
        }
        fputc('\n', to);
    }
}

void cli_show_train(const json_t *answer, FILE *to)
{
    static const struct cli_column rounds[] = {{"ROUND", "round"},
                                               {"TRAIN LOSS", "train_loss"},
                                               {"EVAL LOSS", "eval_loss"},
                                               {"ACCURACY", "metrics.accuracy"},
                                               {"AUC", "metrics.auc"},
                                               {"EPSILON", "epsilon"},
                                               {"SITES", "participants"},
                                               {"UP", "bytes_up"},
                                               {"DOWN", "bytes_down"},
                                               {"SECONDS", "seconds"},
                                               {NULL, NULL}};
    static const struct cli_column regression_rounds[] = {
        {"ROUND", "round"},   {"EVAL LOSS", "eval_loss"}, {"RMSE", "metrics.rmse"},
        {"R2", "metrics.r2"}, {"EPSILON", "epsilon"},     {"SITES", "participants"},
        {"UP", "bytes_up"},   {"DOWN", "bytes_down"},     {"SECONDS", "seconds"},
        {NULL, NULL}};
    static const struct cli_column survival_rounds[] = {
        {"ROUND", "round"},     {"EVAL LOSS", "eval_loss"}, {"CONCORDANCE", "metrics.concordance"},
        {"EPSILON", "epsilon"}, {"SITES", "participants"},  {"UP", "bytes_up"},
        {"DOWN", "bytes_down"}, {"SECONDS", "seconds"},     {NULL, NULL}};
    static const struct cli_column note_rounds[] = {{"ROUND", "round"},
                                                    {"EVAL LOSS", "eval_loss"},
                                                    {"PRECISION", "metrics.precision"},
                                                    {"RECALL", "metrics.recall"},
                                                    {"F1", "metrics.f1"},
                                                    {"EPSILON", "epsilon"},
                                                    {"SITES", "participants"},
                                                    {"UP", "bytes_up"},
                                                    {"DOWN", "bytes_down"},
                                                    {"SECONDS", "seconds"},
                                                    {NULL, NULL}};
    static const struct cli_column sites[] = {
        {"SITE", "node"}, {"STATE", "state"}, {"REASON", "reason"}, {NULL, NULL}};
    const char *task = cli_show_text(answer, "task");
    const struct cli_column *shown = strcmp(task, "tabular-regression") == 0 ? regression_rounds
                                     : strcmp(task, "tabular-survival") == 0 ? survival_rounds
                                     : strncmp(task, "tabular", 7) == 0      ? rounds
                                                                             : note_rounds;
    fputs("job ", to);
    cli_show_put(to, cli_show_text(answer, "job"));
    fputs(": ", to);
    cli_show_put(to, cli_show_text(answer, "state"));
    fprintf(to, ", round %.0f of %.0f", fmax(0, cli_show_number(answer, "round")),
            fmax(0, cli_show_number(answer, "rounds")));
    if (*cli_show_text(answer, "coordinator")) {
        fputs(", coordinator ", to);
        cli_show_put(to, cli_show_text(answer, "coordinator"));
    }
    fputc('\n', to);
    if (*cli_show_text(answer, "reason")) {
        cli_show_put(to, cli_show_text(answer, "reason"));
        fputc('\n', to);
    }
    cli_show_list(json_object_get(answer, "history"), shown, "no round has ended yet", to);
    if (json_array_size(json_object_get(answer, "sites")) > 0) {
        cli_show_list(json_object_get(answer, "sites"), sites, "", to);
    }
    if (*cli_show_text(answer, "model")) {
        fputs("model ", to);
        cli_show_put(to, cli_show_text(answer, "model"));
        fputc('\n', to);
    }
}

/* The rounds, and in words who was missing in which and why. */
void cli_show_history(const json_t *answer, FILE *to)
{
    const json_t *history = json_object_get(answer, "history");
    cli_show_train(answer, to);
    for (size_t i = 0; i < json_array_size(history); i++) {
        const json_t *round = json_array_get(history, i);
        const json_t *absent = json_object_get(round, "absent");
        for (size_t j = 0; j < json_array_size(absent); j++) {
            if (j) {
                fputs(", ", to);
            } else {
                fprintf(to, "round %.0f without ", cli_show_number(round, "round"));
            }
            cli_show_put(to, cli_show_text(json_array_get(absent, j), "node"));
            fputs(" (", to);
            cli_show_put(to, cli_show_text(json_array_get(absent, j), "reason"));
            fputs(")", to);
        }
        if (json_array_size(absent)) {
            fputc('\n', to);
        }
    }
}

/* Per round what both jobs have: {"round","local":ROUND,"federated":ROUND}. */
static json_t *pair_rounds(const json_t *answer)
{
    const json_t *local = json_object_get(json_object_get(answer, "local"), "history");
    const json_t *federated = json_object_get(json_object_get(answer, "federated"), "history");
    size_t count = json_array_size(local);
    json_t *pairs = json_array();
    count = json_array_size(federated) > count ? json_array_size(federated) : count;
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(pairs, json_pack("{s:I, s:O*, s:O*}", "round", (json_int_t)i + 1,
                                               "local", json_array_get(local, i), "federated",
                                               json_array_get(federated, i)));
    }
    return pairs;
}

/* The figure that the task is judged by, of both jobs. */
void cli_show_compare(const json_t *answer, FILE *to)
{
#define SIDES(title, key)                                                                          \
    {                                                                                              \
        {"ROUND", "round"}, {"LOSS: LOCAL", "local.eval_loss"},                                    \
            {"FEDERATED", "federated.eval_loss"}, {title ": LOCAL", "local.metrics." key},         \
            {"FEDERATED", "federated.metrics." key}, {"SITES", "federated.participants"},          \
        {                                                                                          \
            NULL, NULL                                                                             \
        }                                                                                          \
    }
    static const struct cli_column classes[] = SIDES("ACCURACY", "accuracy");
    static const struct cli_column numbers[] = SIDES("RMSE", "rmse");
    static const struct cli_column times[] = SIDES("CONCORDANCE", "concordance");
    static const struct cli_column notes[] = SIDES("F1", "f1");
#undef SIDES
    const json_t *federated = json_object_get(answer, "federated");
    const char *task = cli_show_text(federated, "task");
    const struct cli_column *shown = strcmp(task, "tabular-regression") == 0 ? numbers
                                     : strcmp(task, "tabular-survival") == 0 ? times
                                     : strncmp(task, "tabular", 7) == 0      ? classes
                                                                             : notes;
    json_t *pairs = pair_rounds(answer);
    cli_show_list(pairs, shown, "no round has ended", to);
    json_decref(pairs);
    static const char *const sides[] = {"local", "federated"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *job = json_object_get(answer, sides[i]);
        fprintf(to, "%s: job ", sides[i]);
        cli_show_put(to, cli_show_text(job, "job"));
        fputs(", model ", to);
        cli_show_put(to, cli_show_text(job, "model"));
        fputc('\n', to);
    }
}

/* The id alone goes to TO, for scripts that take it from there. */
static void show_started(const json_t *answer, FILE *to)
{
    const char *job = cli_show_text(answer, "job");
    bool waits = strcmp(cli_show_text(answer, "state"), "waiting") == 0;
    cli_show_put(to, job);
    fputc('\n', to);
    fflush(to);
    fputs(waits ? "it waits for people at its sites to approve it; ask them again with `concordat "
                  "train resume "
                : "started; follow it with `concordat train watch ",
          stderr);
    cli_show_put(stderr, job);
    fputs("`\n", stderr);
}

void cli_show_train_start(const json_t *answer, FILE *to)
{
    if (!json_is_true(json_object_get(answer, "explain"))) {
        show_started(answer, to);
        return;
    }
    if (cli_show_number(answer, "sigma") > 0) {
        fprintf(to, "noise multiplier %.4g over %.0f steps at sampling rate %.4g\n",
                cli_show_number(answer, "sigma"), cli_show_number(answer, "steps"),
                cli_show_number(answer, "rate"));
        const json_t *tight = json_object_get(json_object_get(answer, "cost"), "epsilon_tight");
        if (json_is_number(tight)) {
            fprintf(to,
                    "as a plan that is fixed before it runs it loses epsilon %.4g; the ledger is "
                    "charged by rho\n",
                    json_number_value(tight));
        }
    } else {
        fputs("no noise: it runs only where every licence allows that\n", to);
    }
    cli_show_sites(json_object_get(answer, "sites"), true, to);
    cli_show_cost(answer, to);
}
