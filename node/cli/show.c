/* What the printers of answers share: texts, cells, lists, sites, budgets. */
#include "config.h"
#include "node/cli/show.h"

#include "node/cli/grid.h"
#include "node/cli/table.h"

#include <math.h>
#include <stdlib.h>

const char *cli_show_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

double cli_show_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* To a stream, with control characters replaced. */
void cli_show_put(FILE *to, const char *text)
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
const char *cli_show_cell(struct cli_grid *grid, const json_t *value)
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
            if (buf_printf(&joined, "%s%s", i ? ", " : "", cli_show_cell(grid, item))) {
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

void cli_show_list(const json_t *list, const struct cli_column *columns, const char *nothing,
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
            cells[c] = cli_show_cell(&grid, walk(json_array_get(list, r), columns[c].path));
        }
        cli_grid_row(&grid, cells);
    }
    cli_grid_print(&grid, to);
    cli_grid_fini(&grid);
}

/* "key: value" lines, keys aligned; nested lists of objects are left to the caller. */
void cli_show_object(const json_t *object, FILE *to)
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
            const char *text = cli_show_cell(&scratch, value);
            fprintf(to, "%s%*s  %s\n", cli_grid_text(&scratch, key),
                    (int)(width - cli_grid_width(key)), "", text);
        }
    }
    cli_grid_fini(&scratch);
}

/* An object's plain keys, then one of its lists as a table. */
void cli_show_with_list(const json_t *answer, const char *list, const struct cli_column *columns,
                        FILE *to)
{
    cli_show_object(answer, to);
    if (json_array_size(json_object_get(answer, list)) > 0) {
        fputc('\n', to);
        cli_show_list(json_object_get(answer, list), columns, "", to);
    }
}

void cli_show_clause(const json_t *clause, FILE *to)
{
    const char *result = cli_show_text(clause, "result");
    fprintf(to, "    %-6s ", *result ? result : "fail");
    cli_show_put(to, cli_show_text(clause, "clause"));
    const char *expected = cli_show_text(clause, "expected");
    if (*expected) {
        fputs(": ", to);
        cli_show_put(to, expected);
    }
    fputc('\n', to);
}

/* What a person can do about a reason code; NULL: nothing that we know. */
const char *cli_show_cure(const char *reason)
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
void cli_show_sites(const json_t *sites, bool all, FILE *to)
{
    for (size_t i = 0; i < json_array_size(sites); i++) {
        const json_t *site = json_array_get(sites, i);
        const char *status = cli_show_text(site, "status");
        const char *reason = cli_show_text(site, "reason");
        if (strcmp(status, "answered") == 0 && !all) {
            continue;
        }
        fputs("site ", to);
        cli_show_put(to, cli_show_text(site, "node"));
        fputs(": ", to);
        cli_show_put(to, all && *cli_show_text(site, "verdict") ? cli_show_text(site, "verdict")
                                                                : status);
        if (*reason) {
            fputs(", ", to);
            cli_show_put(to, reason);
        }
        if (*cli_show_text(site, "detail")) {
            fputs(": ", to);
            cli_show_put(to, cli_show_text(site, "detail"));
        }
        const char *cure =
            *cli_show_text(site, "cure") ? cli_show_text(site, "cure") : cli_show_cure(reason);
        if (cure && *reason) {
            fputs(" (", to);
            cli_show_put(to, cure);
            fputc(')', to);
        }
        fputc('\n', to);
        const json_t *clauses = json_object_get(site, "clauses");
        for (size_t c = 0; c < json_array_size(clauses); c++) {
            const json_t *clause = json_array_get(clauses, c);
            if (strcmp(cli_show_text(clause, "result"), "pass") != 0) {
                cli_show_clause(clause, to);
            }
        }
    }
}

void cli_show_budgets(const json_t *budgets, bool datasets, FILE *to)
{
    static const struct cli_column with[] = {{"NODE", "node"},
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
        cli_show_list(budgets, with, "no budgets yet: no dataset with a licence is here", to);
        return;
    }
    for (size_t i = 0; i < json_array_size(budgets); i++) {
        const json_t *budget = json_array_get(budgets, i);
        fputs(i ? ", " : "epsilon left: ", to);
        cli_show_put(to, cli_show_text(budget, "node"));
        fprintf(to, " %.4g of %.4g", cli_show_number(budget, "epsilon_left"),
                cli_show_number(budget, "epsilon_total"));
    }
    if (json_array_size(budgets) > 0) {
        fputc('\n', to);
    }
}
