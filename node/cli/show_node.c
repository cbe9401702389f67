/* A node: its state, its data, its budgets, its audit chain. */
#include "config.h"
#include "node/cli/show.h"

#include "node/cli/grid.h"

#include <math.h>

static const struct cli_column reminder_columns[] = {
    {"FALLS DUE", "what"}, {"OF", "name"},         {"NODE", "node"}, {"ON", "due"},
    {"DAYS", "days"},      {"WHAT IT IS", "text"}, {NULL, NULL}};
static const struct cli_column schema_columns[] = {
    {"COLUMN", "name"}, {"TYPE", "type"},     {"MIN", "min"},
    {"MAX", "max"},     {"VALUES", "values"}, {"DE-IDENTIFIED", "deidentify"},
    {NULL, NULL}};

static const struct cli_column diversity_columns[] = {{"SENSITIVE", "column"},
                                                      {"L DISTINCT", "distinct_l"},
                                                      {"L ENTROPY", "entropy_l"},
                                                      {"C RECURSIVE", "recursive_c"},
                                                      {"ROWS BELOW L", "below_l.rows"},
                                                      {"OF L", "below_l.l"},
                                                      {"T-CLOSENESS", "t_closeness"},
                                                      {"ROWS ABOVE T", "above_t.rows"},
                                                      {"OF T", "above_t.t"},
                                                      {NULL, NULL}};

void cli_show_risk(const json_t *answer, FILE *to)
{
    const json_t *quasi = json_object_get(answer, "quasi");
    const json_t *suppression = json_object_get(answer, "suppression");
    cli_show_put(to, cli_show_text(answer, "dataset"));
    fputs(" by ", to);
    for (size_t i = 0; i < json_array_size(quasi); i++) {
        fputs(i ? ", " : "", to);
        cli_show_put(to, json_string_value(json_array_get(quasi, i)));
    }
    fprintf(to, ": %.0f rows in %.0f classes; k-anonymity %.0f, %.0f alone in their class\n",
            cli_show_number(answer, "rows"), cli_show_number(answer, "classes"),
            cli_show_number(answer, "k_anonymity"), cli_show_number(answer, "unique"));
    fprintf(to, "for k = %.0f there would have to go: %.0f rows (%.3g %%), of %.0f classes\n",
            cli_show_number(suppression, "k"), cli_show_number(suppression, "rows"),
            100 * cli_show_number(suppression, "share"), cli_show_number(suppression, "classes"));
    if (json_array_size(json_object_get(answer, "sensitive")) > 0) {
        cli_show_list(json_object_get(answer, "sensitive"), diversity_columns, "", to);
    }
}

void cli_show_status(const json_t *answer, FILE *to)
{
    fputs("node ", to);
    cli_show_put(to, cli_show_text(answer, "node"));
    fputs(" of ", to);
    cli_show_put(to, cli_show_text(answer, "org"));
    fputs(" in federation ", to);
    cli_show_put(to, cli_show_text(answer, "federation"));
    fputs(": ", to);
    cli_show_put(to, cli_show_text(answer, "state"));
    fputs(" since ", to);
    cli_show_put(to, cli_show_text(answer, "since"));
    fputs("\nlistens on ", to);
    cli_show_put(to, cli_show_text(answer, "listen"));
    fputs(", version ", to);
    cli_show_put(to, cli_show_text(answer, "version"));
    fputs("\nfingerprint ", to);
    cli_show_put(to, cli_show_text(answer, "fingerprint"));
    fputs("\n\n", to);
    cli_show_list(json_object_get(answer, "peers"), cli_peer_columns, "no members yet", to);
    fputc('\n', to);
    cli_show_list(json_object_get(answer, "datasets"), cli_dataset_columns, "no datasets here", to);
    fputc('\n', to);
    cli_show_list(json_object_get(answer, "jobs"), cli_job_columns, "no training jobs", to);
    fputc('\n', to);
    cli_show_budgets(json_object_get(answer, "budgets"), true, to);
    if (json_array_size(json_object_get(answer, "reminders")) > 0) {
        fputc('\n', to);
        cli_show_list(json_object_get(answer, "reminders"), reminder_columns, "", to);
    }
}

void cli_show_doctor(const json_t *answer, FILE *to)
{
    const json_t *checks = json_object_get(answer, "checks");
    for (size_t i = 0; i < json_array_size(checks); i++) {
        const json_t *check = json_array_get(checks, i);
        fprintf(to, "%-5s ", cli_show_text(check, "result"));
        cli_show_put(to, cli_show_text(check, "check"));
        fputs(": ", to);
        cli_show_put(to, cli_show_text(check, "text"));
        fputc('\n', to);
        if (strcmp(cli_show_text(check, "result"), "ok") != 0 && *cli_show_text(check, "cure")) {
            fputs("      cure: ", to);
            cli_show_put(to, cli_show_text(check, "cure"));
            fputc('\n', to);
        }
    }
}

/* "LABEL: age 3, weight 1"; nothing where no column has a count. */
static void print_counts(const json_t *counts, const char *label, FILE *to)
{
    const char *key;
    json_t *value;
    const char *before = label;
    json_object_foreach((json_t *)(uintptr_t)counts, key, value)
    {
        fprintf(to, "%s%s", before, before == label ? ": " : "");
        cli_show_put(to, key);
        fprintf(to, " %.0f", json_number_value(value));
        before = ", ";
    }
    if (before != label) {
        fputc('\n', to);
    }
}

/* Columns whose values may go beyond Safe Harbor, so that nobody has to ask for JSON to see it. */
static void print_harbor(const json_t *columns, FILE *to)
{
    const char *key;
    json_t *value;
    bool any = false;
    json_object_foreach((json_t *)(uintptr_t)columns, key, value)
    {
        if (strcmp(cli_show_text(value, "safe_harbor"), "no") == 0) {
            fputs(any ? ", " : "not Safe Harbor: ", to);
            cli_show_put(to, key);
            any = true;
        }
    }
    if (any) {
        fputc('\n', to);
    }
}

/* What happened to rows and values beyond being stored. */
static void print_changes(const json_t *answer, FILE *to)
{
    static const struct {
        const char *key;
        const char *text;
    } rows[] = {
        {"replaced", "stored rows gave way to new ones of the same key"},
        {"excluded", "rows of excluded people were left out"},
        {"unjoined", "references led to no resource; what was to come from there is missing"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (cli_show_number(answer, rows[i].key) > 0) {
            fprintf(to, "%.0f %s\n", cli_show_number(answer, rows[i].key), rows[i].text);
        }
    }
    print_counts(json_object_get(answer, "clamped"), "moved into their bounds", to);
    print_counts(json_object_get(answer, "blanked"), "dates made missing", to);
    print_counts(json_object_get(answer, "redacted"), "replaced in free text", to);
    const json_t *absent = json_object_get(answer, "absent");
    for (size_t i = 0; i < json_array_size(absent); i++) {
        fputs(i ? ", " : "in no row: ", to);
        cli_show_put(to, json_string_value(json_array_get(absent, i)));
        fputs(i + 1 == json_array_size(absent) ? "\n" : "", to);
    }
    print_harbor(json_object_get(answer, "safe_harbor"), to);
}

void cli_show_import(const json_t *answer, FILE *to)
{
    static const struct cli_column rejects[] = {
        {"LINE", "line"}, {"COLUMN", "column"}, {"REASON", "reason"}, {NULL, NULL}};
    static const struct cli_column rejects_of_files[] = {{"FILE", "file"},
                                                         {"LINE", "line"},
                                                         {"COLUMN", "column"},
                                                         {"REASON", "reason"},
                                                         {NULL, NULL}};
    cli_show_put(to, cli_show_text(answer, "dataset"));
    fprintf(to, ": %.0f rows, %.0f rejected; %.0f bytes read, %.0f stored\n",
            cli_show_number(answer, "rows"), cli_show_number(answer, "rejected"),
            cli_show_number(answer, "bytes_raw"), cli_show_number(answer, "bytes_stored"));
    const json_t *done = json_object_get(answer, "deidentified");
    if (json_object_size(done) > 0) {
        fputs("de-identified:", to);
        const char *key;
        json_t *value;
        const char *comma = " ";
        json_object_foreach((json_t *)(uintptr_t)done, key, value)
        {
            fputs(comma, to);
            cli_show_put(to, key);
            fputs(" (", to);
            cli_show_put(to, json_string_value(value) ? json_string_value(value) : "");
            fputc(')', to);
            comma = ", ";
        }
        fputc('\n', to);
    }
    print_changes(answer, to);
    const json_t *list = json_object_get(answer, "rejects");
    if (json_array_size(list) > 0) {
        bool files = json_object_get(json_array_get(list, 0), "file") != NULL;
        cli_show_list(list, files ? rejects_of_files : rejects, "", to);
    }
}

void cli_show_mapping(const json_t *answer, FILE *to)
{
    static const struct cli_column columns[] = {
        {"MAPPING", "mapping"}, {"GIVES", "title"}, {NULL, NULL}};
    if (json_is_array(answer)) {
        cli_show_list(answer, columns, "no mappings", to);
    } else {
        fputs(cli_show_text(answer, "text"), to); /* as it stands, to go into a file */
    }
}

/* Plain facts, then columns, then the terms and what is left of the budget. */
void cli_show_dataset(const json_t *answer, FILE *to)
{
    json_t *facts = json_copy((json_t *)(uintptr_t)answer);
    json_t *licence = json_copy(json_object_get(answer, "licence"));
    const json_t *budget = json_object_get(answer, "budget");
    json_object_del(facts, "licence");
    json_object_del(facts, "budget");
    cli_show_with_list(facts, "columns", schema_columns, to);
    if (json_is_true(json_object_get(answer, "damaged"))) {
        fputs("\nDAMAGED: a question met damaged data in its file; `concordat fsck` names what is "
              "damaged. Put the file back from a backup, or import the data again\n",
              to);
    }
    if (json_is_object(licence)) {
        fputs("\nterms of ", to);
        json_object_set_new(licence, "node", json_string("this node"));
        json_object_set_new(licence, "state", json_string("as published"));
        json_t *terms = json_pack("{s:[O]}", "licences", licence);
        cli_show_licence(terms, to);
        json_decref(terms);
    }
    if (json_is_object(budget)) {
        json_t *budgets = json_pack("[O]", budget);
        fputc('\n', to);
        cli_show_budgets(budgets, true, to);
        json_decref(budgets);
    }
    json_decref(facts);
    json_decref(licence);
}

void cli_show_verify(const json_t *answer, FILE *to)
{
    struct cli_grid scratch = {0};
    if (json_is_true(json_object_get(answer, "ok"))) {
        fprintf(to, "the audit chain is whole: %.0f entries, head %s\n",
                cli_show_number(answer, "entries"),
                cli_show_cell(&scratch, json_object_get(answer, "head")));
    } else {
        fprintf(to, "the audit chain is BROKEN at entry %s: %s\n",
                cli_show_cell(&scratch, json_object_get(answer, "first_bad")),
                cli_show_cell(&scratch, json_object_get(answer, "reason")));
    }
    const json_t *witnesses = json_object_get(answer, "witnessed_by");
    if (json_array_size(witnesses) > 0) {
        fprintf(to, "witnessed by %s\n", cli_show_cell(&scratch, witnesses));
    }
    fprintf(to, "signed by %s\n", cli_show_cell(&scratch, json_object_get(answer, "fingerprint")));
    cli_grid_fini(&scratch);
}

void cli_show_accountant(const json_t *answer, FILE *to)
{
    static const char *const ways[][2] = {
        {"rdp", "by Renyi orders (what the ledger goes by)"},
        {"pld", "by privacy-loss distributions (a plan that is fixed before)"}};
    fprintf(to, "%.0f steps at sampling rate %.6g, delta %.3g\n", cli_show_number(answer, "steps"),
            cli_show_number(answer, "rate"), cli_show_number(answer, "delta"));
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const json_t *way = json_object_get(answer, ways[i][0]);
        if (json_is_object(way)) {
            fprintf(to, "noise multiplier %.6g: epsilon %.6g %s\n", cli_show_number(way, "sigma"),
                    cli_show_number(way, "epsilon"), ways[i][1]);
        }
    }
}

void cli_show_budget(const json_t *answer, FILE *to)
{
    static const struct cli_column domains[] = {
        {"DOMAIN", "domain"}, {"EPSILON LEFT", "epsilon_left"}, {"OF", "epsilon_total"},
        {"DELTA", "delta"},   {"SPENT", "epsilon_spent"},       {"RHO LEFT", "rho_left"},
        {"OF", "rho_total"},  {"DECLARED", "declared"},         {NULL, NULL}};
    static const struct cli_column others[] = {{"NODE", "node"},
                                               {"DATASET", "dataset"},
                                               {"EPSILON LEFT", "epsilon_left"},
                                               {"OF", "epsilon_total"},
                                               {"RHO LEFT", "rho_left"},
                                               {"AS OF", "as_of"},
                                               {NULL, NULL}};
    static const struct cli_column history[] = {
        {"TIME", "time"},     {"KIND", "kind"},
        {"STATE", "state"},   {"INSTITUTION", "institution"},
        {"PERSON", "person"}, {"PROJECT", "project"},
        {"RHO", "rho"},       {"ID", "id"},
        {NULL, NULL}};
    const json_t *charges = json_object_get(answer, "history");
    const json_t *forecast = json_object_get(answer, "forecast");
    cli_show_budgets(json_object_get(answer, "budget"), true, to);
    if (json_array_size(json_object_get(answer, "domains")) > 0) {
        fputc('\n', to);
        cli_show_list(json_object_get(answer, "domains"), domains, "", to);
    }
    if (json_array_size(json_object_get(answer, "others")) > 0) {
        fputs("\nwhat other nodes said with their last answers\n", to);
        cli_show_list(json_object_get(answer, "others"), others, "", to);
    }
    if (json_is_array(charges)) {
        fputc('\n', to);
        cli_show_list(charges, history, "nothing was charged to it", to);
    }
    if (json_is_object(forecast)) {
        fprintf(to, "about %.0f more questions like the last one\n",
                cli_show_number(forecast, "questions"));
    }
}
