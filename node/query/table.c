#include "config.h"
#include "node/query/table.h"

#include "node/query/regress.h"

#include <math.h>
#include <stdlib.h>

struct making {
    const struct proto_query *query;
    const struct query_layout *layout;
    const struct query_cells *cells;
    struct arena *arena;
    struct query_table *table;
    size_t cell;
    struct query_value *row; /* the next one */
};

static struct query_totals totals_of(const struct making *making, size_t cell)
{
    const struct query_layout *layout = making->layout;
    return (struct query_totals){making->cells->sums + cell * layout->slots,
                                 making->cells->variances + cell * layout->count};
}

static struct query_value text_value(const char *text)
{
    return (struct query_value){.text = text};
}

static struct query_value no_value(void)
{
    return (struct query_value){.number = {.value = NAN, .margin = NAN}};
}

static struct query_value exact(double value)
{
    return (struct query_value){.number = {.value = value, .margin = NAN, .known = true}};
}

static struct query_value with_margin(double value, double margin, bool known, bool whole)
{
    return (struct query_value){
        .number = {.value = value, .margin = margin, .known = known, .whole = whole}};
}

/* ---- columns ------------------------------------------------------------------------------- */

struct shape {
    const char *const *columns; /* of the table's own */
    size_t count;
    size_t rows; /* of one cell */
};

static struct shape shape_of(const struct proto_query_item *item)
{
    static const char *const histogram[] = {"low", "high", "count"};
    static const char *const survival[] = {"time", "at_risk", "survival", "lower", "upper"};
    static const char *const linreg[] = {"term", "coefficient", "std_error"};
    switch (item->kind) {
    case PROTO_AGG_HISTOGRAM:
        return (struct shape){histogram, 3, (size_t)item->number};
    case PROTO_AGG_SURVIVAL:
        return (struct shape){survival, 5, (size_t)item->number};
    default:
        return (struct shape){linreg, 3, item->argument_count};
    }
}

enum err query_table_columns(const struct proto_query *query, struct arena *arena,
                             struct query_table *ret)
{
    const struct shape shape =
        query->table < 0 ? (struct shape){NULL, 1, 1} : shape_of(&query->items[query->table]);
    ret->columns = arena_alloc(arena, query->item_count + shape.count, sizeof *ret->columns);
    ret->column_count = 0;
    for (size_t i = 0; ret->columns && i < query->item_count; i++) {
        if ((int)i != query->table) {
            ret->columns[ret->column_count++] = query->items[i].label;
            continue;
        }
        for (size_t c = 0; c < shape.count; c++) {
            ret->columns[ret->column_count++] = shape.columns[c];
        }
    }
    return ret->columns ? E_OK : E_NO_MEMORY;
}

/* ---- rows ---------------------------------------------------------------------------------- */

/* The cell's value of a group column; a whole number is one. */
static struct query_value group_value(const struct making *making,
                                      const struct proto_query_item *item)
{
    const struct proto_query *query = making->query;
    size_t group = (size_t)item->group;
    const char *text = making->cells->keys
                           ? making->cells->keys[making->cell * query->group_count + group]
                           : proto_query_cell_value(query, making->cell, group);
    if (query->schema->columns[query->group_columns[group]].type != PROTO_COLUMN_INTEGER) {
        return text_value(text);
    }
    struct query_value value = exact(strtod(text, NULL));
    value.number.whole = true;
    return value;
}

static bool withheld(const struct making *making)
{
    return making->cells->contributors[making->cell] == 0;
}

static void histogram_rows(const struct making *making, size_t r, struct query_value *to)
{
    const struct query_reads *reads = &making->layout->reads[making->query->table];
    const struct query_term *term = &making->layout->parts[reads->levels];
    struct query_totals totals = totals_of(making, making->cell);
    to[0] = exact(query_term_edge(term, r));
    to[1] = exact(query_term_edge(term, r + 1));
    to[2] = withheld(making)
                ? no_value()
                : with_margin(totals.sums[making->layout->offsets[reads->levels] + r],
                              QUERY_Z95 * sqrt(totals.variances[reads->levels]), true, true);
}

static void curve_row(const struct making *making, const struct query_curve *curve, size_t r,
                      struct query_value *to)
{
    const struct query_reads *reads = &making->layout->reads[making->query->table];
    const struct query_term *term = &making->layout->parts[reads->levels + reads->height - 1];
    to[0] = exact(query_term_edge(term, r + 1));
    to[1] = to[2] = to[3] = to[4] = no_value();
    if (!withheld(making)) {
        const struct query_curve_point *point = &curve->points[r];
        bool band = point->known && isfinite(point->lower);
        to[1] = with_margin(point->at_risk, point->risk_margin, true, true);
        to[2] = with_margin(point->survival, point->margin, point->known, false);
        to[3] = with_margin(point->lower, NAN, band, false);
        to[4] = with_margin(point->upper, NAN, band, false);
    }
}

static void fit_row(const struct making *making, const struct query_fit *fit, size_t r,
                    struct query_value *to)
{
    const struct proto_query_item *item = &making->query->items[making->query->table];
    to[0] = text_value(r ? item->arguments[r].name : "(intercept)");
    to[1] = to[2] = no_value();
    if (!withheld(making) && fit->known) {
        double error = sqrt(fit->noise[r] + fit->sampling[r]);
        to[1] = with_margin(fit->coefficient[r], QUERY_Z95 * sqrt(fit->noise[r]), true, false);
        to[2] = with_margin(error, NAN, isfinite(error), false);
    }
}

/* All rows of the cell at hand; CURVE and FIT as the table needs them. */
static void table_rows(struct making *making, const struct query_curve *curve,
                       const struct query_fit *fit)
{
    const struct proto_query *query = making->query;
    const struct shape shape = shape_of(&query->items[query->table]);
    for (size_t r = 0; r < shape.rows; r++) {
        for (size_t i = 0; i < query->item_count; i++) {
            if ((int)i != query->table) {
                *making->row++ = group_value(making, &query->items[i]);
                continue;
            }
            if (query->items[i].kind == PROTO_AGG_HISTOGRAM) {
                histogram_rows(making, r, making->row);
            } else if (query->items[i].kind == PROTO_AGG_SURVIVAL) {
                curve_row(making, curve, r, making->row);
            } else {
                fit_row(making, fit, r, making->row);
            }
            making->row += shape.count;
        }
    }
}

/* The comparison leaves out cells that every site withheld. */
static enum err compare(struct making *making, const struct query_curve *curves)
{
    const struct query_cells *cells = making->cells;
    const struct query_reads *reads = &making->layout->reads[making->query->table];
    struct query_totals *totals = arena_alloc(making->arena, cells->count, sizeof *totals);
    struct query_curve *kept = arena_alloc(making->arena, cells->count, sizeof *kept);
    size_t count = 0;
    for (size_t cell = 0; totals && kept && cell < cells->count; cell++) {
        if (cells->contributors[cell]) {
            totals[count] = totals_of(making, cell);
            kept[count++] = curves[cell];
        }
    }
    return totals && kept ? query_survival_logrank(making->layout, reads, totals, kept, count,
                                                   &making->table->logrank)
                          : E_NO_MEMORY;
}

static enum err survival_rows(struct making *making)
{
    size_t count = making->cells->count;
    const struct query_reads *reads = &making->layout->reads[making->query->table];
    struct query_curve *curves = arena_alloc(making->arena, count, sizeof *curves);
    enum err err = curves ? E_OK : E_NO_MEMORY;
    for (making->cell = 0; making->cell < count && !err; making->cell++) {
        const struct query_totals totals = totals_of(making, making->cell);
        err = query_survival_curve(making->layout, reads, &totals, making->arena,
                                   &curves[making->cell]);
        if (!err) {
            table_rows(making, &curves[making->cell], NULL);
        }
    }
    return err ? err : compare(making, curves);
}

static enum err other_rows(struct making *making)
{
    const struct proto_query *query = making->query;
    const struct proto_query_item *item = &query->items[query->table];
    for (making->cell = 0; making->cell < making->cells->count; making->cell++) {
        struct query_fit fit = {.known = false};
        if (item->kind == PROTO_AGG_LINREG && !withheld(making)) {
            const struct query_totals totals = totals_of(making, making->cell);
            query_regress(item, making->layout, &making->layout->reads[query->table], &totals,
                          &fit);
            if (making->cells->count == 1) {
                making->table->deviation = fit.deviation;
                making->table->rows = fit.rows;
            }
        }
        table_rows(making, NULL, &fit);
    }
    return E_OK;
}

static enum err single_rows(struct making *making)
{
    const struct proto_query *query = making->query;
    enum err err = E_OK;
    for (making->cell = 0; making->cell < making->cells->count; making->cell++) {
        const struct query_totals totals = totals_of(making, making->cell);
        for (size_t i = 0; i < query->item_count && !err; i++) {
            struct query_value *to = making->row++;
            *to = no_value();
            if (query->items[i].kind == PROTO_AGG_GROUP) {
                *to = group_value(making, &query->items[i]);
            } else if (!withheld(making)) {
                err = query_estimate_item(query, making->layout, i, &totals, &to->number);
            }
        }
    }
    return err;
}

enum err query_table_make(const struct proto_query *query, const struct query_layout *layout,
                          const struct query_cells *cells, struct arena *arena,
                          struct query_table *ret)
{
    *ret = (struct query_table){.deviation = NAN, .rows = NAN};
    struct making making = {
        .query = query, .layout = layout, .cells = cells, .arena = arena, .table = ret};
    const struct shape shape =
        query->table < 0 ? (struct shape){NULL, 1, 1} : shape_of(&query->items[query->table]);
    if (query_table_columns(query, arena, ret)) {
        return E_NO_MEMORY;
    }
    ret->row_count = cells->count * shape.rows;
    ret->values = arena_alloc(arena, ret->row_count * ret->column_count + 1, sizeof *ret->values);
    if (!ret->values) {
        return E_NO_MEMORY;
    }
    making.row = ret->values;
    if (query->table < 0) {
        return single_rows(&making);
    }
    return query->items[query->table].kind == PROTO_AGG_SURVIVAL ? survival_rows(&making)
                                                                 : other_rows(&making);
}

/* ---- expectation --------------------------------------------------------------------------- */

/* Margin of one number of a table as SITES sites' noise would make it for ROWS rows spread evenly: of a histogram's count, of
 * the survival in the middle, of a coefficient. */
static enum err table_margin(const struct proto_query *query, const struct query_layout *layout,
                             size_t term, double rows, size_t sites, double *ret)
{
    struct arena arena = {0};
    size_t one = 1;
    struct query_cells cells = {.count = 1, .contributors = &one};
    struct query_table table;
    cells.sums = arena_alloc(&arena, layout->slots, sizeof *cells.sums);
    cells.variances = arena_alloc(&arena, layout->count, sizeof *cells.variances);
    enum err err = cells.sums && cells.variances ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; i < layout->count && !err; i++) {
        double sigma = privacy_mechanism_sigma(&layout->coordinates[i]);
        cells.variances[i] = (double)sites * sigma * sigma;
    }
    if (!err) {
        query_estimate_even(layout, rows, false, cells.sums);
        err = query_table_make(query, layout, &cells, &arena, &table);
    }
    if (!err) {
        const struct proto_query_item *item = &query->items[query->table];
        size_t row = item->kind == PROTO_AGG_LINREG     ? term
                     : item->kind == PROTO_AGG_SURVIVAL ? (size_t)item->number / 2
                                                        : 0;
        size_t column = (size_t)query->table + (item->kind == PROTO_AGG_LINREG ? 1 : 2);
        const struct query_estimate *at = &table.values[row * table.column_count + column].number;
        *ret = at->known ? at->margin : NAN;
    }
    arena_fini(&arena);
    return err;
}

static double scale_of(const struct proto_query_item *item, double rows)
{
    const struct proto_query_argument *x = &item->arguments[0];
    double width = x->max - x->min;
    switch (item->kind) {
    case PROTO_AGG_SUM:
        return rows * fmax(fabs(x->min), fabs(x->max));
    case PROTO_AGG_AVG:
    case PROTO_AGG_MIN:
    case PROTO_AGG_MAX:
    case PROTO_AGG_MEDIAN:
    case PROTO_AGG_QUANTILE:
        return width;
    case PROTO_AGG_VAR: /* the largest there is */
        return width * width / 4;
    case PROTO_AGG_STDDEV:
        return width / 2;
    case PROTO_AGG_CORR:
    case PROTO_AGG_SURVIVAL:
        return 1;
    case PROTO_AGG_LINREG: /* what is explained */
        return width;
    default: /* counts */
        return rows;
    }
}

static enum err expect_table(const struct proto_query *query, const struct query_layout *layout,
                             double rows, size_t sites, struct query_expected *to,
                             size_t *ret_count)
{
    const struct proto_query_item *item = &query->items[query->table];
    size_t count = item->kind == PROTO_AGG_LINREG ? item->argument_count : 1;
    enum err err = E_OK;
    for (size_t i = 0; i < count && !err; i++) {
        to[i].scale = scale_of(item, rows);
        to[i].column = item->kind == PROTO_AGG_HISTOGRAM  ? "count"
                       : item->kind == PROTO_AGG_SURVIVAL ? "survival"
                       : i                                ? item->arguments[i].name
                                                          : "(intercept)";
        err = table_margin(query, layout, i, rows, sites, &to[i].margin);
        err = err ? err : table_margin(query, layout, i, rows / 10, sites, &to[i].margin_tenth);
    }
    *ret_count = count;
    return err;
}

enum err query_table_expected(const struct proto_query *query, const struct query_layout *layout,
                              double rows, size_t sites, struct arena *arena,
                              struct query_expected **ret, size_t *ret_count)
{
    struct query_expected *list =
        arena_alloc(arena, PROTO_QUERY_ITEMS_MAX + PROTO_QUERY_ARGUMENTS_MAX, sizeof *list);
    if (!list) {
        return E_NO_MEMORY;
    }
    *ret = list;
    *ret_count = 0;
    rows /= (double)query->cells;
    if (query->table >= 0) {
        return expect_table(query, layout, rows, sites, list, ret_count);
    }
    for (size_t item = 0; item < query->item_count; item++) {
        if (query->items[item].kind != PROTO_AGG_GROUP) {
            list[(*ret_count)++] = (struct query_expected){
                .column = query->items[item].label,
                .margin = query_estimate_expected(query, layout, item, rows, sites),
                .margin_tenth = query_estimate_expected(query, layout, item, rows / 10, sites),
                .scale = scale_of(&query->items[item], rows)};
        }
    }
    return E_OK;
}
