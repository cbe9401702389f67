#include "config.h"
#include "node/cli/table.h"

#include "node/cli/grid.h"

#include <math.h>
#include <stdlib.h>

/* --- pieces ------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* To a stream, with control characters replaced. */
static void put(FILE *to, const char *text)
{
    struct cli_grid scratch = {0};
    fputs(cli_grid_text(&scratch, text), to);
    cli_grid_fini(&scratch);
}

void cli_table_number(double value, double margin, char *to, size_t size)
{
    if (!isfinite(margin) || margin <= 0) {
        bool whole = value == round(value) && fabs(value) < 1e15;
        snprintf(to, size, whole ? "%.0f" : "%.6g", value);
        return;
    }
    /* Two significant digits of the margin; more of the value would be noise. */
    int decimals = 1 - (int)floor(log10(margin));
    decimals = decimals < 0 ? 0 : decimals > 9 ? 9 : decimals;
    snprintf(to, size, "%.*f ± %.*f", decimals, value, decimals, margin);
}

/* Any JSON value in a cell; lists with commas, objects as compact JSON. */
static const char *cell_of(struct cli_grid *grid, const json_t *value)
{
    char text[64];
    if (!value || json_is_null(value)) {
        return "";
    }
    if (json_is_string(value)) {
        return cli_grid_text(grid, json_string_value(value));
    }
    if (json_is_boolean(value)) {
        return json_is_true(value) ? "yes" : "no";
    }
    if (json_is_integer(value)) {
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return cli_grid_text(grid, text);
    }
    if (json_is_real(value)) {
        snprintf(text, sizeof text, "%.6g", json_real_value(value));
        return cli_grid_text(grid, text);
    }
    if (json_is_array(value)) {
        struct buf joined = {.max = 4096};
        for (size_t i = 0; i < json_array_size(value); i++) {
            const json_t *item = json_array_get(value, i);
            if (buf_printf(&joined, "%s%s", i ? ", " : "", cell_of(grid, item))) {
                break;
            }
        }
        char *copy = arena_strdup(&grid->arena, buf_span(&joined));
        buf_fini(&joined);
        return copy ? copy : "";
    }
    char *dump = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    const char *copy = dump ? cli_grid_text(grid, dump) : "";
    free(dump);
    return copy;
}

/* "licence.state" walks into objects. */
static const json_t *walk(const json_t *object, const char *path)
{
    while (object && *path) {
        char key[64];
        size_t len = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)len, path);
        object = json_object_get(object, key);
        path += len + (path[len] == '.');
    }
    return object;
}

/* One column of a list: the head and the path of its value. */
struct column {
    const char *head;
    const char *path;
};

static void print_list(const json_t *list, const struct column *columns, const char *nothing,
                       FILE *to)
{
    struct cli_grid grid = {0};
    const char *cells[CLI_GRID_COLUMNS];
    size_t count = 0;
    for (; columns[count].head; count++) {
        cells[count] = columns[count].head;
    }
    if (json_array_size(list) == 0) {
        fprintf(to, "%s\n", nothing);
        return;
    }
    cli_grid_start(&grid, count, cells);
    for (size_t c = 0; c < count; c++) {
        bool numbers = false;
        bool others = false;
        for (size_t r = 0; r < json_array_size(list); r++) {
            const json_t *value = walk(json_array_get(list, r), columns[c].path);
            numbers = numbers || json_is_number(value);
            others = others || json_is_string(value) || json_is_array(value);
        }
        grid.right[c] = numbers && !others;
    }
    for (size_t r = 0; r < json_array_size(list); r++) {
        for (size_t c = 0; c < count; c++) {
            cells[c] = cell_of(&grid, walk(json_array_get(list, r), columns[c].path));
        }
        cli_grid_row(&grid, cells);
    }
    cli_grid_print(&grid, to);
    cli_grid_fini(&grid);
}

/* "key: value" lines, keys aligned; nested lists of objects are left to the caller. */
static void print_object(const json_t *object, FILE *to)
{
    struct cli_grid scratch = {0};
    const char *key;
    json_t *value;
    size_t width = 0;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        size_t w = cli_grid_width(key);
        width = w > width && !json_is_null(value) ? w : width;
    }
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool table = json_is_array(value) && json_is_object(json_array_get(value, 0));
        if (!json_is_null(value) && !table) {
            const char *text = cell_of(&scratch, value);
            fprintf(to, "%s%*s  %s\n", cli_grid_text(&scratch, key),
                    (int)(width - cli_grid_width(key)), "", text);
        }
    }
    cli_grid_fini(&scratch);
}

/* --- sites, budgets, clauses ---------------------------------------------------------------------- */

static void print_clause(const json_t *clause, FILE *to)
{
    const char *result = text_of(clause, "result");
    fprintf(to, "    %-6s ", *result ? result : "fail");
    put(to, text_of(clause, "clause"));
    const char *expected = text_of(clause, "expected");
    if (*expected) {
        fputs(": ", to);
        put(to, expected);
    }
    fputc('\n', to);
}

/* What a person can do about a reason code; NULL: nothing that we know. */
static const char *cure_of(const char *reason)
{
    static const struct {
        const char *reason;
        const char *cure;
    } cures[] = {
        {"PURPOSE", "ask under a permitted purpose; `concordat licence show NAME` lists them"},
        {"MISSING_PURPOSE", "state a purpose with --purpose, such as DUO:0000042"},
        {"MISSING_DISEASE", "name the disease with --disease"},
        {"BUDGET", "a smaller --epsilon costs less; `concordat budget` shows what is left"},
        {"NOISE", "ask with a smaller --epsilon, in a job privacy: {epsilon: ..}"},
        {"ACTION", "the licence names the permitted actions: `concordat licence show NAME`"},
        {"COLUMNS", "leave out the columns that the licence does not name"},
        {"RECIPIENT", "ask the data holder to name your institution in the licence"},
        {"EXPIRED", "ask the data holder to renew the licence"},
        {"REVOKED", "ask the data holder; the licence was withdrawn"},
        {"NO_LICENSE", "ask the data holder to publish a licence"},
        {"SCHEMA", "the site's columns differ; compare `concordat catalog`"},
        {"HOLD", "a person at the site must approve it"},
        {"LICENSE_UNKNOWN", "a person at the site must approve it"},
        {"MISSING_AGREEMENT", "make one: `concordat agreement request DATASET`, then `agreement "
                              "accept`"},
        {"AGREEMENT", "`concordat agreement list` says which is in force"},
        {"MISSING_VISA", "`concordat licence explain NAME` names the visa and who issues it"},
        {"VISA", "ask its issuer to renew it; `concordat visa list` shows it"},
        {"PROJECT", "`concordat project show NAME` says what it covers"},
        {"CLOCK", "the site's operator must set its clock"},
        {"DENIED", "speak with the data holder; an operator there can still approve it"},
        {"RATE", "wait a minute and ask again"},
        {"OBLIGATIONS", "accept the licence's duties in a project"},
        {"MISSING_COMMERCIAL", "say `commercial:` in node.yaml"},
        {"COHORT", "ask for larger groups"},
        {"UNSUPPORTED", "this version cannot do it; see `concordat help query`"},
    };
    for (size_t i = 0; i < sizeof cures / sizeof *cures; i++) {
        if (strcmp(reason, cures[i].reason) == 0) {
            return cures[i].cure;
        }
    }
    return NULL;
}

/* A line for each site that did not answer, with the clause that failed and what would help. */
static void print_sites(const json_t *sites, bool all, FILE *to)
{
    for (size_t i = 0; i < json_array_size(sites); i++) {
        const json_t *site = json_array_get(sites, i);
        const char *status = text_of(site, "status");
        const char *reason = text_of(site, "reason");
        if (strcmp(status, "answered") == 0 && !all) {
            continue;
        }
        fputs("site ", to);
        put(to, text_of(site, "node"));
        fputs(": ", to);
        put(to, all && *text_of(site, "verdict") ? text_of(site, "verdict") : status);
        if (*reason) {
            fputs(", ", to);
            put(to, reason);
        }
        if (*text_of(site, "detail")) {
            fputs(": ", to);
            put(to, text_of(site, "detail"));
        }
        const char *cure = *text_of(site, "cure") ? text_of(site, "cure") : cure_of(reason);
        if (cure && *reason) {
            fputs(" (", to);
            put(to, cure);
            fputc(')', to);
        }
        fputc('\n', to);
        const json_t *clauses = json_object_get(site, "clauses");
        for (size_t c = 0; c < json_array_size(clauses); c++) {
            const json_t *clause = json_array_get(clauses, c);
            if (strcmp(text_of(clause, "result"), "pass") != 0) {
                print_clause(clause, to);
            }
        }
    }
}

void cli_table_sites(const json_t *answer, FILE *to)
{
    print_sites(json_object_get(answer, "sites"), false, to);
}

static void print_budgets(const json_t *budgets, bool datasets, FILE *to)
{
    static const struct column with[] = {{"NODE", "node"},
                                         {"DATASET", "dataset"},
                                         {"EPSILON LEFT", "epsilon_left"},
                                         {"OF", "epsilon_total"},
                                         {"DELTA", "delta"},
                                         {"RHO LEFT", "rho_left"},
                                         {"OF", "rho_total"},
                                         {"QUESTIONS LEFT", "questions_left.count"},
                                         {"AT EPSILON", "questions_left.epsilon"},
                                         {"COUNT +-", "questions_left.margin95"},
                                         {NULL, NULL}};
    if (datasets) {
        print_list(budgets, with, "no budgets yet: no dataset with a licence is here", to);
        return;
    }
    for (size_t i = 0; i < json_array_size(budgets); i++) {
        const json_t *budget = json_array_get(budgets, i);
        fputs(i ? ", " : "epsilon left: ", to);
        put(to, text_of(budget, "node"));
        fprintf(to, " %.4g of %.4g", number_of(budget, "epsilon_left"),
                number_of(budget, "epsilon_total"));
    }
    if (json_array_size(budgets) > 0) {
        fputc('\n', to);
    }
}

/* --- query ---------------------------------------------------------------------------------------- */

static const char *query_cell(struct cli_grid *grid, const json_t *value, const json_t *margin,
                              const char *nothing)
{
    char text[96];
    if (json_is_number(value)) {
        cli_table_number(json_number_value(value),
                         json_is_number(margin) ? json_number_value(margin) : NAN, text,
                         sizeof text);
        return cli_grid_text(grid, text);
    }
    return json_is_null(value) ? nothing : cell_of(grid, value);
}

/* Some site kept cells to itself. */
static bool any_withheld(const json_t *answer)
{
    const json_t *sites = json_object_get(answer, "sites");
    for (size_t i = 0; i < json_array_size(sites); i++) {
        if (json_object_get(json_array_get(sites, i), "withheld")) {
            return true;
        }
    }
    return false;
}

/* Sites that told each group of a private category, where not all did. */
static size_t row_sites(const json_t *answer)
{
    const json_t *sites = json_object_get(answer, "sites");
    const json_t *told = json_object_get(answer, "row_sites");
    json_int_t answered = 0;
    for (size_t i = 0; i < json_array_size(sites); i++) {
        answered += strcmp(text_of(json_array_get(sites, i), "status"), "answered") == 0;
    }
    size_t fewer = 0;
    for (size_t i = 0; i < json_array_size(told); i++) {
        fewer += json_integer_value(json_array_get(told, i)) < answered;
    }
    return fewer;
}

/* What an aggregate says beside its rows. */
static void print_extras(const json_t *answer, FILE *to)
{
    const json_t *comparison = json_object_get(answer, "comparison");
    const json_t *fit = json_object_get(answer, "fit");
    size_t fewer = row_sites(answer);
    if (comparison) {
        double p = number_of(comparison, "p");
        fprintf(to, "log-rank test of the groups: chi-square %.4g on %.0f df, p %s %.2g\n",
                number_of(comparison, "chi2"), number_of(comparison, "freedom"),
                p < 1e-15 ? "<" : "=", fmax(p, 1e-15));
    }
    if (fit) {
        fprintf(to, "about %.0f rows", number_of(fit, "rows"));
        if (isfinite(number_of(fit, "residual_deviation"))) {
            fprintf(to, ", residual standard deviation %.3g", number_of(fit, "residual_deviation"));
        }
        fputs("; std_error is of sampling and noise\n", to);
    }
    if (json_object_get(answer, "threshold")) {
        fprintf(to, "a site tells a group when its noisy number of people reaches %.0f",
                number_of(answer, "threshold"));
        if (fewer) {
            fprintf(to, "; %zu of these groups lack some site", fewer);
        }
        fputc('\n', to);
    }
}

static void print_rows(const json_t *answer, FILE *to)
{
    const json_t *columns = json_object_get(answer, "columns");
    const json_t *rows = json_object_get(answer, "rows");
    const json_t *margins = json_object_get(answer, "margin95");
    struct cli_grid grid = {0};
    const char *cells[CLI_GRID_COLUMNS] = {NULL};
    size_t count = json_array_size(columns);
    count = count < CLI_GRID_COLUMNS ? count : CLI_GRID_COLUMNS;
    bool missing = false;
    const char *nothing = any_withheld(answer) ? "withheld" : "not known";
    for (size_t c = 0; c < count; c++) {
        cells[c] = cell_of(&grid, json_array_get(columns, c));
        for (size_t r = 0; r < json_array_size(rows); r++) {
            grid.right[c] =
                grid.right[c] || json_is_number(json_array_get(json_array_get(rows, r), c));
        }
    }
    cli_grid_start(&grid, count, cells);
    for (size_t r = 0; r < json_array_size(rows); r++) {
        const json_t *row = json_array_get(rows, r);
        const json_t *margin = json_array_get(margins, r);
        for (size_t c = 0; c < count; c++) {
            cells[c] =
                query_cell(&grid, json_array_get(row, c), json_array_get(margin, c), nothing);
            missing = missing || json_is_null(json_array_get(row, c));
        }
        cli_grid_row(&grid, cells);
    }
    cli_grid_print(&grid, to);
    cli_grid_fini(&grid);
    fputs("± is the 95 % interval of the noise\n", to);
    print_extras(answer, to);
    if (missing) {
        fputs(any_withheld(answer)
                  ? "withheld: too few people in the cell for the licence's min_cohort\n"
                  : "not known: too few values, or the noise hides it\n",
              to);
    }
}

static void print_expected(const json_t *answer, FILE *to)
{
    static const struct column columns[] = {{"COLUMN", "column"},
                                            {"EXPECTED ±", "margin95"},
                                            {"IN A TENTH", "margin95_tenth"},
                                            {NULL, NULL}};
    const json_t *expected = json_object_get(answer, "expected");
    if (json_array_size(expected) > 0) {
        print_list(expected, columns, "", to);
    }
}

static void print_cost(const json_t *answer, FILE *to)
{
    const json_t *cost = json_object_get(answer, "cost");
    if (json_is_true(json_object_get(answer, "replayed"))) {
        fputs("cost: nothing, the same question was answered before\n", to);
    } else if (json_is_true(json_object_get(answer, "explain")) &&
               number_of(cost, "epsilon") <= 0) {
        fputs("it would take nothing from any budget\n", to);
    } else if (json_is_true(json_object_get(answer, "explain"))) {
        fprintf(to, "it would cost epsilon %.4g at delta %.3g, rho %.4g; nothing was spent\n",
                number_of(cost, "epsilon"), number_of(cost, "delta"), number_of(cost, "rho"));
    } else if (cost) {
        fprintf(to, "cost: epsilon %.4g at delta %.3g, rho %.4g at each site\n",
                number_of(cost, "epsilon"), number_of(cost, "delta"), number_of(cost, "rho"));
    }
}

static void answer_query(const json_t *answer, FILE *to)
{
    const json_t *sites = json_object_get(answer, "sites");
    bool explain = json_is_true(json_object_get(answer, "explain"));
    if (json_array_size(json_object_get(answer, "rows")) > 0) {
        print_rows(answer, to);
    }
    if (explain) {
        print_expected(answer, to);
        print_extras(answer, to);
    }
    print_sites(sites, explain, to);
    size_t answered = 0;
    for (size_t i = 0; i < json_array_size(sites); i++) {
        answered += strcmp(text_of(json_array_get(sites, i), "status"), "answered") == 0;
    }
    if (!explain) {
        fprintf(to, "sites: %zu of %zu answered; query ", answered, json_array_size(sites));
        put(to, text_of(answer, "query_id"));
        fputc('\n', to);
    }
    print_cost(answer, to);
    const json_t *orgs = json_object_get(json_object_get(answer, "privacy"), "several_nodes_of");
    for (size_t i = 0; i < json_array_size(orgs); i++) {
        fputs("several nodes of ", to);
        put(to, json_string_value(json_array_get(orgs, i)));
        fputs(" answered: who stands in more than one of their tables pays for each\n", to);
    }
    print_budgets(json_object_get(answer, "budget"), false, to);
    const json_t *forecast = json_object_get(answer, "forecast");
    if (json_is_object(forecast)) {
        fprintf(to, "about %.0f more questions like this\n", number_of(forecast, "questions"));
    }
}

/* --- training and models ---------------------------------------------------------------------------- */

static const char *text_at(const json_t *array, size_t i)
{
    const char *text = json_string_value(json_array_get(array, i));
    return text ? text : "";
}

/* Words with their tags and an empty line after each sentence; a class with its probability; or a number. */
static void print_predictions(const json_t *rows, FILE *to)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i), *words = json_object_get(row, "words");
        for (size_t w = 0; w < json_array_size(words); w++) {
            put(to, text_at(words, w));
            fputc('\t', to);
            put(to, text_at(json_object_get(row, "tags"), w));
            fputc('\n', to);
        }
        const char *label = json_string_value(json_object_get(row, "label"));
        if (label) {
            const json_t *all = json_object_get(row, "probabilities");
            put(to, label);
            fprintf(to, "\t%.4f", json_number_value(json_object_get(all, label)));
        } else if (json_is_number(row)) {
            fprintf(to, "%.6g", json_number_value(row));
        }
        fputc('\n', to);
    }
}

static void answer_train(const json_t *answer, FILE *to)
{
    static const struct column rounds[] = {{"ROUND", "round"},
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
    static const struct column regression_rounds[] = {
        {"ROUND", "round"},   {"EVAL LOSS", "eval_loss"}, {"RMSE", "metrics.rmse"},
        {"R2", "metrics.r2"}, {"EPSILON", "epsilon"},     {"SITES", "participants"},
        {"UP", "bytes_up"},   {"DOWN", "bytes_down"},     {"SECONDS", "seconds"},
        {NULL, NULL}};
    static const struct column survival_rounds[] = {
        {"ROUND", "round"},     {"EVAL LOSS", "eval_loss"}, {"CONCORDANCE", "metrics.concordance"},
        {"EPSILON", "epsilon"}, {"SITES", "participants"},  {"UP", "bytes_up"},
        {"DOWN", "bytes_down"}, {"SECONDS", "seconds"},     {NULL, NULL}};
    static const struct column note_rounds[] = {{"ROUND", "round"},
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
    static const struct column sites[] = {
        {"SITE", "node"}, {"STATE", "state"}, {"REASON", "reason"}, {NULL, NULL}};
    const char *task = text_of(answer, "task");
    const struct column *shown = strcmp(task, "tabular-regression") == 0 ? regression_rounds
                                 : strcmp(task, "tabular-survival") == 0 ? survival_rounds
                                 : strncmp(task, "tabular", 7) == 0      ? rounds
                                                                         : note_rounds;
    fputs("job ", to);
    put(to, text_of(answer, "job"));
    fputs(": ", to);
    put(to, text_of(answer, "state"));
    fprintf(to, ", round %.0f of %.0f", fmax(0, number_of(answer, "round")),
            fmax(0, number_of(answer, "rounds")));
    if (*text_of(answer, "coordinator")) {
        fputs(", coordinator ", to);
        put(to, text_of(answer, "coordinator"));
    }
    fputc('\n', to);
    if (*text_of(answer, "reason")) {
        put(to, text_of(answer, "reason"));
        fputc('\n', to);
    }
    print_list(json_object_get(answer, "history"), shown, "no round has ended yet", to);
    if (json_array_size(json_object_get(answer, "sites")) > 0) {
        print_list(json_object_get(answer, "sites"), sites, "", to);
    }
    if (*text_of(answer, "model")) {
        fputs("model ", to);
        put(to, text_of(answer, "model"));
        fputc('\n', to);
    }
}

/* The rounds, and in words who was missing in which and why. */
static void answer_history(const json_t *answer, FILE *to)
{
    const json_t *history = json_object_get(answer, "history");
    answer_train(answer, to);
    for (size_t i = 0; i < json_array_size(history); i++) {
        const json_t *round = json_array_get(history, i);
        const json_t *absent = json_object_get(round, "absent");
        for (size_t j = 0; j < json_array_size(absent); j++) {
            if (j) {
                fputs(", ", to);
            } else {
                fprintf(to, "round %.0f without ", number_of(round, "round"));
            }
            put(to, text_of(json_array_get(absent, j), "node"));
            fputs(" (", to);
            put(to, text_of(json_array_get(absent, j), "reason"));
            fputs(")", to);
        }
        if (json_array_size(absent)) {
            fputc('\n', to);
        }
    }
}

static void answer_train_start(const json_t *answer, FILE *to)
{
    if (!json_is_true(json_object_get(answer, "explain"))) {
        const char *job = text_of(answer, "job");
        bool waits = strcmp(text_of(answer, "state"), "waiting") == 0;
        fputs("job ", to);
        put(to, job);
        fputs(waits
                  ? " waits for people at its sites to approve it; ask them again with `concordat "
                    "train resume "
                  : " started; follow it with `concordat train watch ",
              to);
        put(to, job);
        fputs("`\n", to);
        return;
    }
    if (number_of(answer, "sigma") > 0) {
        fprintf(to, "noise multiplier %.4g over %.0f steps at sampling rate %.4g\n",
                number_of(answer, "sigma"), number_of(answer, "steps"), number_of(answer, "rate"));
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
    print_sites(json_object_get(answer, "sites"), true, to);
    print_cost(answer, to);
}

/* --- the rest ----------------------------------------------------------------------------------------- */

static const struct column peer_columns[] = {{"NODE", "node"},
                                             {"ORG", "org"},
                                             {"STATE", "state"},
                                             {"ADDRESS", "address"},
                                             {"LAST SEEN", "last_seen"},
                                             {"IN STEP", "root_equal"},
                                             {NULL, NULL}};
static const struct column dataset_columns[] = {{"DATASET", "dataset"},
                                                {"VERSION", "version"},
                                                {"TITLE", "title"},
                                                {"COLUMNS", "columns"},
                                                {"BYTES STORED", "bytes_stored"},
                                                {"IMPORTED", "imported"},
                                                {"LICENCE", "licence"},
                                                {NULL, NULL}};
static const struct column catalog_columns[] = {{"DATASET", "dataset"},
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
static const struct column model_columns[] = {
    {"MODEL", "model"},     {"JOB", "job"},   {"TASK", "task"},
    {"DATASET", "dataset"}, {"NODE", "node"}, {"EPSILON", "epsilon"},
    {"CREATED", "created"}, {"HERE", "here"}, {NULL, NULL}};
static const struct column job_columns[] = {
    {"JOB", "job"},         {"NAME", "name"},       {"STATE", "state"},
    {"ROUND", "round"},     {"OF", "rounds"},       {"COORDINATOR", "coordinator"},
    {"DATASET", "dataset"}, {"STARTED", "started"}, {NULL, NULL}};
static const struct column query_columns[] = {
    {"QUERY", "query_id"}, {"TIME", "time"},       {"PERSON", "person"}, {"PROJECT", "project"},
    {"STATE", "state"},    {"EPSILON", "epsilon"}, {"QUESTION", "sql"},  {NULL, NULL}};
static const struct column project_columns[] = {
    {"PROJECT", "project"}, {"NODE", "node"},         {"STATE", "state"},
    {"PURPOSE", "purpose"}, {"DISEASES", "diseases"}, {"ETHICS", "ethics.ref"},
    {"PEOPLE", "people"},   {"ENDS", "ends"},         {NULL, NULL}};
static const struct column visa_columns[] = {
    {"VISA", "visa"},     {"STATE", "state"},     {"ISSUER", "issuer"}, {"NODE", "node"},
    {"PERSON", "person"}, {"PROJECT", "project"}, {"TYPE", "type"},     {"VALUE", "value"},
    {"BY", "by"},         {"EXPIRES", "expires"}, {NULL, NULL}};
static const struct column agreement_columns[] = {{"AGREEMENT", "agreement"},
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
static const struct column duty_columns[] = {{"DUTY", "id"},
                                             {"WHEN", "when"},
                                             {"TO BE PROMISED", "promise"},
                                             {"TEXT", "text"},
                                             {NULL, NULL}};
static const struct column approval_columns[] = {
    {"APPROVAL", "approval"},   {"STATE", "state"},     {"KIND", "kind"},
    {"DATASET", "dataset"},     {"NODE", "node"},       {"PERSON", "person"},
    {"PROJECT", "project"},     {"PURPOSE", "purpose"}, {"OPERATIONS", "operations"},
    {"RESULT", "shape"},        {"WHY", "why"},         {"EPSILON", "cost.epsilon"},
    {"REQUESTED", "requested"}, {"UNTIL", "expires"},   {NULL, NULL}};
static const struct column audit_columns[] = {
    {"SEQ", "seq"}, {"TIME", "time"}, {"KIND", "kind"}, {"BODY", "body"}, {NULL, NULL}};
static const struct column egress_columns[] = {{"TIME", "time"},   {"PEER", "peer"},
                                               {"KIND", "kind"},   {"ID", "id"},
                                               {"BYTES", "bytes"}, {NULL, NULL}};
static const struct column sandbox_columns[] = {{"NODE", "node"}, {"STATE", "state"},
                                                {"PID", "pid"},   {"LISTEN", "listen"},
                                                {"HOME", "home"}, {NULL, NULL}};
static const struct column part_columns[] = {
    {"NODE", "node"}, {"ROWS", "rows"}, {"FILE", "file"}, {NULL, NULL}};
static const struct column schema_columns[] = {
    {"COLUMN", "name"}, {"TYPE", "type"},     {"MIN", "min"},
    {"MAX", "max"},     {"VALUES", "values"}, {"DE-IDENTIFIED", "deidentify"},
    {NULL, NULL}};
static const struct column slot_columns[] = {
    {"SLOT", "slot"},    {"KIND", "kind"},   {"OPENED", "opened"}, {"NEEDED", "shares.needed"},
    {"OF", "shares.of"}, {"TOKEN", "token"}, {"KEY", "key"},       {NULL, NULL}};
static const struct column checked_columns[] = {
    {"WHAT", "what"}, {"GOOD", "ok"}, {"CODE", "code"}, {NULL, NULL}};
static const struct column proposal_columns[] = {
    {"RECORD", "record"}, {"WHAT", "what"}, {"ENDORSED", "endorsed"},
    {"OF", "threshold"},  {"BY", "by"},     {NULL, NULL}};
static const struct column council_columns[] = {
    {"NODE", "node"}, {"NODE ID", "node_id"}, {NULL, NULL}};
static const struct column file_columns[] = {{"FILE", "file"}, {"BYTES", "bytes"}, {NULL, NULL}};
static const struct column participant_columns[] = {
    {"PARTICIPANT", "node"}, {"ORG", "org"}, {"EPSILON", "epsilon"}, {NULL, NULL}};

static const struct column reminder_columns[] = {
    {"FALLS DUE", "what"}, {"OF", "name"},         {"NODE", "node"}, {"ON", "due"},
    {"DAYS", "days"},      {"WHAT IT IS", "text"}, {NULL, NULL}};

static void answer_status(const json_t *answer, FILE *to)
{
    fputs("node ", to);
    put(to, text_of(answer, "node"));
    fputs(" of ", to);
    put(to, text_of(answer, "org"));
    fputs(" in federation ", to);
    put(to, text_of(answer, "federation"));
    fputs(": ", to);
    put(to, text_of(answer, "state"));
    fputs(" since ", to);
    put(to, text_of(answer, "since"));
    fputs("\nlistens on ", to);
    put(to, text_of(answer, "listen"));
    fputs(", version ", to);
    put(to, text_of(answer, "version"));
    fputs("\nfingerprint ", to);
    put(to, text_of(answer, "fingerprint"));
    fputs("\n\n", to);
    print_list(json_object_get(answer, "peers"), peer_columns, "no members yet", to);
    fputc('\n', to);
    print_list(json_object_get(answer, "datasets"), dataset_columns, "no datasets here", to);
    fputc('\n', to);
    print_list(json_object_get(answer, "jobs"), job_columns, "no training jobs", to);
    fputc('\n', to);
    print_budgets(json_object_get(answer, "budgets"), true, to);
    if (json_array_size(json_object_get(answer, "reminders")) > 0) {
        fputc('\n', to);
        print_list(json_object_get(answer, "reminders"), reminder_columns, "", to);
    }
}

static void answer_doctor(const json_t *answer, FILE *to)
{
    const json_t *checks = json_object_get(answer, "checks");
    for (size_t i = 0; i < json_array_size(checks); i++) {
        const json_t *check = json_array_get(checks, i);
        fprintf(to, "%-5s ", text_of(check, "result"));
        put(to, text_of(check, "check"));
        fputs(": ", to);
        put(to, text_of(check, "text"));
        fputc('\n', to);
        if (strcmp(text_of(check, "result"), "ok") != 0 && *text_of(check, "cure")) {
            fputs("      cure: ", to);
            put(to, text_of(check, "cure"));
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
        put(to, key);
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
        if (strcmp(text_of(value, "safe_harbor"), "no") == 0) {
            fputs(any ? ", " : "not Safe Harbor: ", to);
            put(to, key);
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
        if (number_of(answer, rows[i].key) > 0) {
            fprintf(to, "%.0f %s\n", number_of(answer, rows[i].key), rows[i].text);
        }
    }
    print_counts(json_object_get(answer, "clamped"), "moved into their bounds", to);
    print_counts(json_object_get(answer, "blanked"), "dates made missing", to);
    print_counts(json_object_get(answer, "redacted"), "replaced in free text", to);
    const json_t *absent = json_object_get(answer, "absent");
    for (size_t i = 0; i < json_array_size(absent); i++) {
        fputs(i ? ", " : "in no row: ", to);
        put(to, json_string_value(json_array_get(absent, i)));
        fputs(i + 1 == json_array_size(absent) ? "\n" : "", to);
    }
    print_harbor(json_object_get(answer, "safe_harbor"), to);
}

static void answer_import(const json_t *answer, FILE *to)
{
    static const struct column rejects[] = {
        {"LINE", "line"}, {"COLUMN", "column"}, {"REASON", "reason"}, {NULL, NULL}};
    static const struct column rejects_of_files[] = {{"FILE", "file"},
                                                     {"LINE", "line"},
                                                     {"COLUMN", "column"},
                                                     {"REASON", "reason"},
                                                     {NULL, NULL}};
    put(to, text_of(answer, "dataset"));
    fprintf(to, ": %.0f rows, %.0f rejected; %.0f bytes read, %.0f stored\n",
            number_of(answer, "rows"), number_of(answer, "rejected"),
            number_of(answer, "bytes_raw"), number_of(answer, "bytes_stored"));
    const json_t *done = json_object_get(answer, "deidentified");
    if (json_object_size(done) > 0) {
        fputs("de-identified:", to);
        const char *key;
        json_t *value;
        const char *comma = " ";
        json_object_foreach((json_t *)(uintptr_t)done, key, value)
        {
            fputs(comma, to);
            put(to, key);
            fputs(" (", to);
            put(to, json_string_value(value) ? json_string_value(value) : "");
            fputc(')', to);
            comma = ", ";
        }
        fputc('\n', to);
    }
    print_changes(answer, to);
    const json_t *list = json_object_get(answer, "rejects");
    if (json_array_size(list) > 0) {
        bool files = json_object_get(json_array_get(list, 0), "file") != NULL;
        print_list(list, files ? rejects_of_files : rejects, "", to);
    }
}

static void answer_mapping(const json_t *answer, FILE *to)
{
    static const struct column columns[] = {
        {"MAPPING", "mapping"}, {"GIVES", "title"}, {NULL, NULL}};
    if (json_is_array(answer)) {
        print_list(answer, columns, "no mappings", to);
    } else {
        fputs(text_of(answer, "text"), to); /* as it stands, to go into a file */
    }
}

static void answer_check(const json_t *answer, FILE *to)
{
    const json_t *sites = json_object_get(answer, "sites");
    for (size_t i = 0; i < json_array_size(sites); i++) {
        const json_t *site = json_array_get(sites, i);
        put(to, text_of(site, "node"));
        fputs(": ", to);
        put(to, text_of(site, "verdict"));
        const char *reason = text_of(site, "reason");
        if (*reason && strcmp(reason, "NONE") != 0) {
            fputs(", ", to);
            put(to, reason);
            fputs(": ", to);
            put(to, text_of(site, "text"));
            if (cure_of(reason)) {
                fprintf(to, " (%s)", cure_of(reason));
            }
        }
        fputc('\n', to);
        const json_t *clauses = json_object_get(site, "clauses");
        for (size_t c = 0; c < json_array_size(clauses); c++) {
            print_clause(json_array_get(clauses, c), to);
        }
    }
}

static void answer_decide(const json_t *answer, FILE *to)
{
    put(to, text_of(answer, "verdict"));
    if (strcmp(text_of(answer, "reason"), "NONE") != 0) {
        fputs(", ", to);
        put(to, text_of(answer, "reason"));
        fputs(": ", to);
        put(to, text_of(answer, "text"));
    }
    fputc('\n', to);
    const json_t *clauses = json_object_get(answer, "clauses");
    for (size_t c = 0; c < json_array_size(clauses); c++) {
        print_clause(json_array_get(clauses, c), to);
    }
}

static void print_grant(const json_t *grant, FILE *to)
{
    struct cli_grid scratch = {0};
    fputs("  grant ", to);
    put(to, text_of(grant, "permission"));
    fputs(" ", to);
    put(to, text_of(grant, "name"));
    fprintf(to, ": %s", cell_of(&scratch, json_object_get(grant, "actions")));
    const json_t *modifiers = json_object_get(grant, "modifiers");
    for (size_t i = 0; i < json_array_size(modifiers); i++) {
        fputs(i ? ", " : "; only if ", to);
        put(to, text_of(json_array_get(modifiers, i), "name"));
    }
    const json_t *visas = json_object_get(grant, "visas");
    for (size_t i = 0; i < json_array_size(visas); i++) {
        fputs(i || json_array_size(modifiers) ? ", " : "; only if ", to);
        fputs("visa ", to);
        put(to, text_of(json_array_get(visas, i), "type"));
        fputs(" ", to);
        put(to, text_of(json_array_get(visas, i), "value"));
    }
    const json_t *privacy = json_object_get(grant, "privacy");
    fprintf(to, "\n    min_cohort %s, min_sites %s, epsilon %s in all, %s a query, %s a job\n",
            cell_of(&scratch, json_object_get(grant, "min_cohort")),
            cell_of(&scratch, json_object_get(grant, "min_sites")),
            cell_of(&scratch, json_object_get(privacy, "epsilon_total")),
            cell_of(&scratch, json_object_get(privacy, "epsilon_per_query")),
            cell_of(&scratch, json_object_get(privacy, "epsilon_per_job")));
    cli_grid_fini(&scratch);
}

static void answer_licence(const json_t *answer, FILE *to)
{
    const json_t *licences = json_object_get(answer, "licences");
    if (!licences) {
        print_object(answer, to); /* another vocabulary: as it is */
        return;
    }
    for (size_t i = 0; i < json_array_size(licences); i++) {
        const json_t *licence = json_array_get(licences, i);
        struct cli_grid scratch = {0};
        put(to, text_of(licence, "node"));
        fputs(": ", to);
        put(to, text_of(licence, "spdx"));
        fputs(", ", to);
        put(to, text_of(licence, "state"));
        fputs(", until ", to);
        put(to, text_of(licence, "expires"));
        fprintf(to, "\n  countries: %s\n  recipients: %s\n",
                json_is_array(json_object_get(licence, "geography"))
                    ? cell_of(&scratch, json_object_get(licence, "geography"))
                    : "any",
                json_is_array(json_object_get(licence, "recipients"))
                    ? cell_of(&scratch, json_object_get(licence, "recipients"))
                    : "any member that satisfies the rest");
        const json_t *duties = json_object_get(licence, "obligations");
        for (size_t d = 0; d < json_array_size(duties); d++) {
            const json_t *duty = json_array_get(duties, d);
            fprintf(to, "  duty %s", cell_of(&scratch, json_object_get(duty, "id")));
            fprintf(to, *text_of(duty, "text") ? ": %s\n" : "%s\n",
                    cell_of(&scratch, json_object_get(duty, "text")));
        }
        const json_t *grants = json_object_get(licence, "grants");
        for (size_t g = 0; g < json_array_size(grants); g++) {
            print_grant(json_array_get(grants, g), to);
        }
        cli_grid_fini(&scratch);
    }
}

static void print_sentences(const json_t *sentences, const char *head, FILE *to)
{
    for (size_t i = 0; i < json_array_size(sentences); i++) {
        fprintf(to, "    %s ", head);
        put(to, json_string_value(json_array_get(sentences, i)));
        fputc('\n', to);
    }
}

static void answer_explain(const json_t *answer, FILE *to)
{
    const json_t *licences = json_object_get(answer, "licences");
    for (size_t i = 0; i < json_array_size(licences); i++) {
        const json_t *licence = json_array_get(licences, i);
        const json_t *about = json_object_get(licence, "about");
        const json_t *grants = json_object_get(licence, "grants");
        fputs(i ? "\n" : "", to);
        put(to, text_of(licence, "source"));
        if (strcmp(text_of(licence, "state"), "file") != 0) {
            fputs(" (", to);
            put(to, text_of(licence, "state"));
            fputc(')', to);
        }
        fputc('\n', to);
        for (size_t j = 0; j < json_array_size(about); j++) {
            fputs("  ", to);
            put(to, json_string_value(json_array_get(about, j)));
            fputc('\n', to);
        }
        for (size_t j = 0; j < json_array_size(grants); j++) {
            const json_t *grant = json_array_get(grants, j);
            fprintf(to, json_array_size(grants) > 1 ? "  Alternative %zu: " : "  ", j + 1);
            put(to, text_of(grant, "title"));
            fputc('\n', to);
            print_sentences(json_object_get(grant, "permits"), "may     ", to);
            print_sentences(json_object_get(grant, "forbids"), "may not ", to);
            print_sentences(json_object_get(grant, "needs"), "needs   ", to);
        }
    }
}

static void answer_diff(const json_t *answer, FILE *to)
{
    static const struct column columns[] = {
        {"CHANGE", "change"}, {"CLAUSE", "clause"}, {"OLD", "from"}, {"NEW", "to"}, {NULL, NULL}};
    const char *summary = text_of(answer, "summary");
    print_list(json_object_get(answer, "changes"), columns, "", to);
    fputs(strcmp(summary, "same") == 0       ? "the two say the same\n"
          : strcmp(summary, "wider") == 0    ? "the new one permits more\n"
          : strcmp(summary, "narrower") == 0 ? "the new one permits less\n"
                                             : "wider in some clauses, narrower in others\n",
          to);
}

static void print_decider(const json_t *decider, FILE *to)
{
    if (json_is_object(decider)) {
        fputs(" (", to);
        put(to, text_of(decider, "licence"));
        fputs(", ", to);
        put(to, text_of(decider, "clause"));
        fputc(')', to);
    }
    fputc('\n', to);
}

static void answer_compat(const json_t *answer, FILE *to)
{
    const json_t *readings = json_object_get(answer, "readings");
    for (size_t i = 0; i < json_array_size(readings); i++) {
        const json_t *reading = json_array_get(readings, i);
        const json_t *duties = json_object_get(reading, "duties");
        put(to, text_of(reading, "reading"));
        fputs(" reading\n  train: ", to);
        put(to, text_of(reading, "train"));
        print_decider(json_object_get(reading, "train_decides"), to);
        if (json_is_string(json_object_get(answer, "release"))) {
            fputs("  release under ", to);
            put(to, text_of(answer, "release"));
            fputs(": ", to);
            put(to, text_of(reading, "release"));
            print_decider(json_object_get(reading, "release_decides"), to);
        }
        fputs("  it may be released under: ", to);
        put(to, text_of(reading, "outbound"));
        if (*text_of(reading, "clash")) {
            fputs("; these clash: ", to);
            put(to, text_of(reading, "clash"));
        }
        fputc('\n', to);
        for (size_t d = 0; d < json_array_size(duties); d++) {
            const json_t *duty = json_array_get(duties, d);
            struct cli_grid scratch = {0};
            fputs("  duty ", to);
            put(to, text_of(duty, "id"));
            fputs(": ", to);
            put(to, text_of(duty, "meaning"));
            fprintf(to, " (%s)\n", cell_of(&scratch, json_object_get(duty, "from")));
            cli_grid_fini(&scratch);
        }
    }
    if (json_is_string(json_object_get(answer, "model_refused"))) {
        fputs("no model may come of it: ", to);
        put(to, text_of(answer, "model_refused"));
        fputc('\n', to);
    }
    if (json_object_get(answer, "licences")) {
        fputs("release: ", to);
        put(to, text_of(answer, "model_release"));
        if (*text_of(answer, "model_capped")) {
            fputs(", because ", to);
            put(to, text_of(answer, "model_capped"));
        }
        fputs("\nuse of ", to);
        answer_explain(answer, to);
    }
}

/* "  for DUO:0000006 you may count, mean; not finetune (ACTION: ...)" */
static void print_yours(const json_t *yours, FILE *to)
{
    struct cli_grid scratch = {0};
    for (size_t i = 0; i < json_array_size(yours); i++) {
        const json_t *one = json_array_get(yours, i);
        const json_t *permit = json_object_get(one, "permit");
        const json_t *hold = json_object_get(one, "hold");
        const json_t *deny = json_object_get(one, "deny");
        const json_t *first = json_array_get(deny, 0);
        const char *purpose = text_of(one, "purpose");
        fprintf(to, "  for %s: ",
                *purpose ? cell_of(&scratch, json_object_get(one, "purpose"))
                         : "no stated purpose");
        if (json_array_size(permit)) {
            fprintf(to, "%s", cell_of(&scratch, permit));
        }
        if (json_array_size(hold)) {
            fprintf(to, "%safter approval %s", json_array_size(permit) ? "; " : "",
                    cell_of(&scratch, hold));
        }
        if (first) {
            bool some = json_array_size(permit) || json_array_size(hold);
            fprintf(to, "%s", some ? "; not " : "nothing: ");
            for (size_t d = 0; some && d < json_array_size(deny); d++) {
                fputs(d ? ", " : "", to);
                put(to, text_of(json_array_get(deny, d), "action"));
            }
            fputs(some ? " (" : "", to);
            put(to, text_of(first, "text"));
            fputs(some ? ")" : "", to);
        }
        fputc('\n', to);
    }
    cli_grid_fini(&scratch);
}

static void print_all_yours(const json_t *datasets, FILE *to)
{
    for (size_t i = 0; i < json_array_size(datasets); i++) {
        const json_t *dataset = json_array_get(datasets, i);
        if (json_object_get(dataset, "you")) {
            fputc('\n', to);
            put(to, text_of(dataset, "dataset"));
            fputs(" at ", to);
            put(to, text_of(dataset, "node"));
            fputs(", what you could do with it:\n", to);
            print_yours(json_object_get(dataset, "you"), to);
        }
    }
}

static void answer_catalog(const json_t *answer, FILE *to)
{
    print_list(json_object_get(answer, "datasets"), catalog_columns, "no datasets are published",
               to);
    print_all_yours(json_object_get(answer, "datasets"), to);
    if (json_array_size(json_object_get(answer, "models")) > 0) {
        fputc('\n', to);
        print_list(json_object_get(answer, "models"), model_columns, "", to);
    }
}

static void answer_verify(const json_t *answer, FILE *to)
{
    struct cli_grid scratch = {0};
    if (json_is_true(json_object_get(answer, "ok"))) {
        fprintf(to, "the audit chain is whole: %.0f entries, head %s\n",
                number_of(answer, "entries"), cell_of(&scratch, json_object_get(answer, "head")));
    } else {
        fprintf(to, "the audit chain is BROKEN at entry %s: %s\n",
                cell_of(&scratch, json_object_get(answer, "first_bad")),
                cell_of(&scratch, json_object_get(answer, "reason")));
    }
    const json_t *witnesses = json_object_get(answer, "witnessed_by");
    if (json_array_size(witnesses) > 0) {
        fprintf(to, "witnessed by %s\n", cell_of(&scratch, witnesses));
    }
    fprintf(to, "signed by %s\n", cell_of(&scratch, json_object_get(answer, "fingerprint")));
    cli_grid_fini(&scratch);
}

/* An object's plain keys, then one of its lists as a table. */
static void answer_with_list(const json_t *answer, const char *list, const struct column *columns,
                             FILE *to)
{
    print_object(answer, to);
    if (json_array_size(json_object_get(answer, list)) > 0) {
        fputc('\n', to);
        print_list(json_object_get(answer, list), columns, "", to);
    }
}

/* Plain facts, then columns, then the terms and what is left of the budget. */
static void answer_dataset(const json_t *answer, FILE *to)
{
    json_t *facts = json_copy((json_t *)(uintptr_t)answer);
    json_t *licence = json_copy(json_object_get(answer, "licence"));
    const json_t *budget = json_object_get(answer, "budget");
    json_object_del(facts, "licence");
    json_object_del(facts, "budget");
    answer_with_list(facts, "columns", schema_columns, to);
    if (json_is_object(licence)) {
        fputs("\nterms of ", to);
        json_object_set_new(licence, "node", json_string("this node"));
        json_object_set_new(licence, "state", json_string("as published"));
        json_t *terms = json_pack("{s:[O]}", "licences", licence);
        answer_licence(terms, to);
        json_decref(terms);
    }
    if (json_is_object(budget)) {
        json_t *budgets = json_pack("[O]", budget);
        fputc('\n', to);
        print_budgets(budgets, true, to);
        json_decref(budgets);
    }
    json_decref(facts);
    json_decref(licence);
}

static void answer_accountant(const json_t *answer, FILE *to)
{
    static const char *const ways[][2] = {
        {"rdp", "by Renyi orders (what the ledger goes by)"},
        {"pld", "by privacy-loss distributions (a plan that is fixed before)"}};
    fprintf(to, "%.0f steps at sampling rate %.6g, delta %.3g\n", number_of(answer, "steps"),
            number_of(answer, "rate"), number_of(answer, "delta"));
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const json_t *way = json_object_get(answer, ways[i][0]);
        if (json_is_object(way)) {
            fprintf(to, "noise multiplier %.6g: epsilon %.6g %s\n", number_of(way, "sigma"),
                    number_of(way, "epsilon"), ways[i][1]);
        }
    }
}

static void answer_budget(const json_t *answer, FILE *to)
{
    static const struct column domains[] = {
        {"DOMAIN", "domain"}, {"EPSILON LEFT", "epsilon_left"}, {"OF", "epsilon_total"},
        {"DELTA", "delta"},   {"SPENT", "epsilon_spent"},       {"RHO LEFT", "rho_left"},
        {"OF", "rho_total"},  {"DECLARED", "declared"},         {NULL, NULL}};
    static const struct column others[] = {{"NODE", "node"},
                                           {"DATASET", "dataset"},
                                           {"EPSILON LEFT", "epsilon_left"},
                                           {"OF", "epsilon_total"},
                                           {"RHO LEFT", "rho_left"},
                                           {"AS OF", "as_of"},
                                           {NULL, NULL}};
    static const struct column history[] = {{"TIME", "time"},     {"KIND", "kind"},
                                            {"STATE", "state"},   {"INSTITUTION", "institution"},
                                            {"PERSON", "person"}, {"PROJECT", "project"},
                                            {"RHO", "rho"},       {"ID", "id"},
                                            {NULL, NULL}};
    const json_t *charges = json_object_get(answer, "history");
    const json_t *forecast = json_object_get(answer, "forecast");
    print_budgets(json_object_get(answer, "budget"), true, to);
    if (json_array_size(json_object_get(answer, "domains")) > 0) {
        fputc('\n', to);
        print_list(json_object_get(answer, "domains"), domains, "", to);
    }
    if (json_array_size(json_object_get(answer, "others")) > 0) {
        fputs("\nwhat other nodes said with their last answers\n", to);
        print_list(json_object_get(answer, "others"), others, "", to);
    }
    if (json_is_array(charges)) {
        fputc('\n', to);
        print_list(charges, history, "nothing was charged to it", to);
    }
    if (json_is_object(forecast)) {
        fprintf(to, "about %.0f more questions like the last one\n",
                number_of(forecast, "questions"));
    }
}

void cli_table_answer(enum proto_op_id id, const json_t *answer, FILE *to)
{
    switch (id) {
    case PROTO_OP_QUERY:
    case PROTO_OP_QUERIES_SHOW:
    case PROTO_OP_QUERIES_COLLECT:
        answer_query(answer, to);
        break;
    case PROTO_OP_STATUS:
        answer_status(answer, to);
        break;
    case PROTO_OP_DOCTOR:
        answer_doctor(answer, to);
        break;
    case PROTO_OP_PEERS:
        print_list(answer, peer_columns, "no members yet", to);
        break;
    case PROTO_OP_DATASET_IMPORT:
        answer_import(answer, to);
        break;
    case PROTO_OP_DATASET_MAPPING:
        answer_mapping(answer, to);
        break;
    case PROTO_OP_DATASET_LIST:
        print_list(answer, dataset_columns, "no datasets here; `concordat dataset import` adds one",
                   to);
        break;
    case PROTO_OP_DATASET_SHOW:
        answer_dataset(answer, to);
        break;
    case PROTO_OP_CATALOG:
        answer_catalog(answer, to);
        break;
    case PROTO_OP_LICENCE_SHOW:
        answer_licence(answer, to);
        break;
    case PROTO_OP_LICENCE_CHECK:
        answer_check(answer, to);
        break;
    case PROTO_OP_LICENCE_EXPLAIN:
        answer_explain(answer, to);
        break;
    case PROTO_OP_LICENCE_DIFF:
        answer_diff(answer, to);
        break;
    case PROTO_OP_LICENCE_COMPAT:
        answer_compat(answer, to);
        break;
    case PROTO_OP_TOOL_LICENCE_DECIDE:
        answer_decide(answer, to);
        break;
    case PROTO_OP_QUERIES:
        print_list(answer, query_columns, "no questions were asked here", to);
        break;
    case PROTO_OP_TOOL_ACCOUNTANT:
        answer_accountant(answer, to);
        break;
    case PROTO_OP_BUDGET:
        answer_budget(answer, to);
        break;
    case PROTO_OP_TRAIN_START:
        answer_train_start(answer, to);
        break;
    case PROTO_OP_TRAIN_RUN:
    case PROTO_OP_TRAIN_WATCH:
    case PROTO_OP_TRAIN_SHOW:
        if (json_is_true(json_object_get(answer, "explain"))) {
            answer_train_start(answer, to);
        } else {
            answer_train(answer, to);
        }
        break;
    case PROTO_OP_TRAIN_HISTORY:
        answer_history(answer, to);
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
                number_of(answer, "rounds"));
        break;
    case PROTO_OP_TRAIN_LIST:
        print_list(answer, job_columns, "no training jobs", to);
        break;
    case PROTO_OP_MODEL_LIST:
        print_list(answer, model_columns, "no models yet", to);
        break;
    case PROTO_OP_MODEL_SHOW:
        answer_with_list(answer, "participants", participant_columns, to);
        break;
    case PROTO_OP_MODEL_EXPORT:
        answer_with_list(answer, "files", file_columns, to);
        break;
    case PROTO_OP_PROJECT_LIST:
        print_list(answer, project_columns, "no projects are published", to);
        break;
    case PROTO_OP_VISA_LIST:
        print_list(answer, visa_columns, "no visas were issued", to);
        break;
    case PROTO_OP_AGREEMENT_LIST:
        print_list(answer, agreement_columns, "no agreements", to);
        break;
    case PROTO_OP_AGREEMENT_REQUEST:
    case PROTO_OP_AGREEMENT_SHOW:
    case PROTO_OP_AGREEMENT_ACCEPT:
    case PROTO_OP_AGREEMENT_TERMINATE:
        answer_with_list(answer, "duties", duty_columns, to);
        break;
    case PROTO_OP_MODEL_IMPORT:
        fputs("model ", to);
        put(to, text_of(answer, "name"));
        fprintf(to, ": %.0f parameters, %.0f bytes, ", number_of(answer, "parameters"),
                number_of(answer, "size"));
        put(to, text_of(answer, "hash"));
        fputc('\n', to);
        break;
    case PROTO_OP_MODEL_CARD:
        fputs(text_of(answer, "card"), to);
        break;
    case PROTO_OP_MODEL_PREDICT:
        print_predictions(json_object_get(answer, "rows"), to);
        break;
    case PROTO_OP_MODEL_REPORT:
        fputs(text_of(answer, "text"), to);
        break;
    case PROTO_OP_APPROVALS:
        print_list(answer, approval_columns, "nothing waits for approval", to);
        break;
    case PROTO_OP_AUDIT_LIST:
        print_list(answer, audit_columns, "nothing since then", to);
        break;
    case PROTO_OP_AUDIT_EGRESS:
        print_list(answer, egress_columns, "nothing has left this node", to);
        break;
    case PROTO_OP_AUDIT_VERIFY:
        answer_verify(answer, to);
        break;
    case PROTO_OP_SANDBOX_CREATE:
    case PROTO_OP_SANDBOX_START:
    case PROTO_OP_SANDBOX_STATUS:
    case PROTO_OP_SANDBOX_STOP:
        print_list(answer, sandbox_columns, "no nodes here", to);
        break;
    case PROTO_OP_SANDBOX_SPLIT:
        print_list(json_object_get(answer, "parts"), part_columns, "no rows", to);
        break;
    case PROTO_OP_FEDERATION_COUNCIL:
        answer_with_list(answer, "council", council_columns, to);
        if (json_array_size(json_object_get(answer, "proposals"))) {
            print_list(json_object_get(answer, "proposals"), proposal_columns, "", to);
        }
        break;
    case PROTO_OP_KEY_ADD:
        for (size_t i = 0; i < json_array_size(json_object_get(answer, "shares")); i++) {
            put(to, json_string_value(json_array_get(json_object_get(answer, "shares"), i)));
            fputc('\n', to); /* alone on lines, so that they can be piped to a printer */
        }
        if (!json_object_get(answer, "shares")) {
            print_list(json_object_get(answer, "slots"), slot_columns, "no slots", to);
        }
        break;
    case PROTO_OP_KEY_LIST:
    case PROTO_OP_KEY_REMOVE:
    case PROTO_OP_KEY_ROTATE:
        print_list(json_object_get(answer, "slots"), slot_columns, "no slots", to);
        if (json_array_size(json_object_get(answer, "rotating")) > 0) {
            print_object(answer, to);
        }
        break;
    case PROTO_OP_FSCK:
        print_list(json_object_get(answer, "checked"), checked_columns, "nothing is here", to);
        break;
    case PROTO_OP_FEDERATION_INVITE:
        put(to, text_of(answer, "token")); /* alone, so that it can be piped */
        fputc('\n', to);
        break;
    default:
        print_object(answer, to);
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
    const char *detail = text_of(error, "detail");
    const char *message = text_of(error, "message");
    const json_t *sites = json_object_get(error, "sites");
    fputs("concordat: ", to);
    if (*message && strcmp(text_of(error, "kind"), "usage") != 0 && *detail) {
        put(to, message);
        fputs(": ", to);
    }
    put(to, *detail ? detail : *message ? message : "unknown error");
    fputc('\n', to);
    const char *cure = cure_of_code(text_of(error, "code"));
    if (json_array_size(sites) > 0) {
        print_sites(sites, false, to);
    } else if (cure) {
        fprintf(to, "%s\n", cure);
    }
}
