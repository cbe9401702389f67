/* Answers to questions. */
#include "config.h"
#include "node/cli/show.h"

#include "node/cli/grid.h"
#include "node/cli/table.h"

#include <math.h>

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
    if (json_is_string(value) && json_number_value(margin) > 0) { /* a date */
        snprintf(text, sizeof text, "%s ± %.0f d", json_string_value(value),
                 ceil(json_number_value(margin)));
        return cli_grid_text(grid, text);
    }
    return json_is_null(value) ? nothing : cli_show_cell(grid, value);
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
        answered += strcmp(cli_show_text(json_array_get(sites, i), "status"), "answered") == 0;
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
        double p = cli_show_number(comparison, "p");
        fprintf(to, "log-rank test of the groups: chi-square %.4g on %.0f df, p %s %.2g\n",
                cli_show_number(comparison, "chi2"), cli_show_number(comparison, "freedom"),
                p < 1e-15 ? "<" : "=", fmax(p, 1e-15));
    }
    if (fit) {
        fprintf(to, "about %.0f rows", cli_show_number(fit, "rows"));
        if (isfinite(cli_show_number(fit, "residual_deviation"))) {
            fprintf(to, ", residual standard deviation %.3g",
                    cli_show_number(fit, "residual_deviation"));
        }
        fputs("; std_error is of sampling and noise\n", to);
    }
    if (json_object_get(answer, "threshold")) {
        fprintf(to, "a site tells a group when its noisy number of people reaches %.0f",
                cli_show_number(answer, "threshold"));
        if (fewer) {
            fprintf(to, "; %zu of these groups lack some site", fewer);
        }
        fputc('\n', to);
    }
}

/* Its interval says no more than the column's bounds do. */
static bool is_hidden(const json_t *answer, size_t row, size_t column)
{
    const json_t *hidden = json_object_get(answer, "hidden");
    for (size_t i = 0; i < json_array_size(hidden); i++) {
        const json_t *pair = json_array_get(hidden, i);
        if (json_array_size(pair) == 2 &&
            json_integer_value(json_array_get(pair, 0)) == (json_int_t)row &&
            json_integer_value(json_array_get(pair, 1)) == (json_int_t)column) {
            return true;
        }
    }
    return false;
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
    bool withheld = false;
    bool unknown = false;
    bool kept = any_withheld(answer);
    for (size_t c = 0; c < count; c++) {
        cells[c] = cli_show_cell(&grid, json_array_get(columns, c));
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
            const json_t *value = json_array_get(row, c);
            bool hidden = is_hidden(answer, r, c);
            cells[c] = hidden ? "not known"
                              : query_cell(&grid, value, json_array_get(margin, c),
                                           kept ? "withheld" : "not known");
            withheld = withheld || (kept && json_is_null(value));
            unknown = unknown || hidden || (!kept && json_is_null(value));
        }
        cli_grid_row(&grid, cells);
    }
    cli_grid_print(&grid, to);
    cli_grid_fini(&grid);
    fputs("± is the 95 % interval of the noise\n", to);
    print_extras(answer, to);
    if (withheld) {
        fputs("withheld: too few people in the cell for the licence's min_cohort\n", to);
    }
    if (unknown) {
        fputs("not known: too few values, or the noise hides it; a condition such as x < 3 narrows "
              "x's bounds, and so the noise\n",
              to);
    }
}

static void print_expected(const json_t *answer, FILE *to)
{
    static const struct cli_column columns[] = {{"COLUMN", "column"},
                                                {"EXPECTED ±", "margin95"},
                                                {"IN A TENTH", "margin95_tenth"},
                                                {NULL, NULL}};
    const json_t *expected = json_object_get(answer, "expected");
    if (json_array_size(expected) > 0) {
        cli_show_list(expected, columns, "", to);
    }
}

void cli_show_cost(const json_t *answer, FILE *to)
{
    const json_t *cost = json_object_get(answer, "cost");
    if (json_is_true(json_object_get(answer, "replayed"))) {
        fputs("cost: nothing, the same question was answered before\n", to);
    } else if (json_is_true(json_object_get(answer, "explain")) &&
               cli_show_number(cost, "epsilon") <= 0) {
        fputs("it would take nothing from any budget\n", to);
    } else if (json_is_true(json_object_get(answer, "explain"))) {
        fprintf(to, "it would cost epsilon %.4g at delta %.3g, rho %.4g; nothing was spent\n",
                cli_show_number(cost, "epsilon"), cli_show_number(cost, "delta"),
                cli_show_number(cost, "rho"));
    } else if (cost) {
        fprintf(to, "cost: epsilon %.4g at delta %.3g, rho %.4g at each site\n",
                cli_show_number(cost, "epsilon"), cli_show_number(cost, "delta"),
                cli_show_number(cost, "rho"));
    }
}

/* Whom the noise protects: every answer says so. */
static void print_privacy(const json_t *privacy, FILE *to)
{
    const char *scope = cli_show_text(privacy, "scope");
    double rows = cli_show_number(privacy, "rows_per_unit");
    if (strcmp(cli_show_text(privacy, "relation"), "add-remove-one") != 0) {
        return;
    }
    fputs("protects: each ", to);
    cli_show_put(to, cli_show_text(privacy, "unit"));
    fprintf(to, ", added or removed, %s",
            strcmp(scope, "per person") == 0 ? "at all sites together" : "at each site");
    if (rows > 1) {
        fprintf(to, "; at most %.0f rows of one count", rows);
    }
    fputc('\n', to);
}

void cli_show_query(const json_t *answer, FILE *to)
{
    const json_t *sites = json_object_get(answer, "sites");
    bool explain = json_is_true(json_object_get(answer, "explain"));
    if (json_array_size(json_object_get(answer, "rows")) > 0) {
        print_rows(answer, to);
    }
    const json_t *warnings = json_object_get(answer, "warnings");
    for (size_t i = 0; i < json_array_size(warnings); i++) {
        fputs("warning: ", to);
        cli_show_put(to, json_string_value(json_array_get(warnings, i)));
        fputc('\n', to);
    }
    if (explain) {
        print_expected(answer, to);
        print_extras(answer, to);
    }
    cli_show_sites(sites, explain, to);
    size_t answered = 0;
    for (size_t i = 0; i < json_array_size(sites); i++) {
        answered += strcmp(cli_show_text(json_array_get(sites, i), "status"), "answered") == 0;
    }
    if (!explain) {
        fprintf(to, "sites: %zu of %zu answered; query ", answered, json_array_size(sites));
        cli_show_put(to, cli_show_text(answer, "query_id"));
        fputc('\n', to);
    }
    cli_show_cost(answer, to);
    print_privacy(json_object_get(answer, "privacy"), to);
    const json_t *orgs = json_object_get(json_object_get(answer, "privacy"), "several_nodes_of");
    for (size_t i = 0; i < json_array_size(orgs); i++) {
        fputs("several nodes of ", to);
        cli_show_put(to, json_string_value(json_array_get(orgs, i)));
        fputs(" answered: who stands in more than one of their tables pays for each\n", to);
    }
    cli_show_budgets(json_object_get(answer, "budget"), false, to);
    const json_t *forecast = json_object_get(answer, "forecast");
    if (json_is_object(forecast)) {
        fprintf(to, "about %.0f more questions like this\n",
                cli_show_number(forecast, "questions"));
    }
}
