#include "config.h"
#include "node/query/share.h"

#include "node/query/estimate.h"
#include "node/query/regress.h"

#include <math.h>

#define WEIGHT_MOST 1000
/* Of the number of units nobody asks for, beside an aggregate's 1. */
#define UNITS_ROOT 0.1

/* At one point derivatives may cancel by chance: means lie above the middle or below it in these many patterns. */
#define REFERENCES 4

static double side(int column, unsigned turn)
{
    unsigned bits = (unsigned)column;
    bool below = (turn & 1 && bits & 1) != (turn & 2 && bits & 2);
    return below ? -0.5 : 0.5;
}

/* Public values at which the derivatives are taken: a mean halfway from the middle to the bound, squares as if spread
 * evenly, pairs correlated by one half. */
static void reference(const struct query_layout *layout, double rows, unsigned turn, double *sums)
{
    for (size_t part = 0; part < layout->count; part++) {
        const struct query_term *term = &layout->parts[part];
        double reach = fmax(fabs(term->low - term->centre), fabs(term->high - term->centre));
        double other = fmax(fabs(term->factor_low - term->factor_centre),
                            fabs(term->factor_high - term->factor_centre));
        double *to = sums + layout->offsets[part];
        if (term->part == QUERY_PART_SUM) {
            *to = rows * reach * side(term->column, turn);
        } else if (term->part == QUERY_PART_PRODUCT && term->factor == term->column) {
            *to = rows * (reach * reach / 3 - term->shift);
        } else if (term->part == QUERY_PART_PRODUCT) {
            double means = side(term->column, turn) * side(term->factor, turn);
            *to = rows * reach * other * (means + 0.5 / 12);
        } else if (term->width == 1) {
            *to = rows;
        }
    }
}

/* Variance of ITEM when part J alone is noisy, as much as one row moves it. */
static double variance_by(const struct proto_query *query, const struct query_layout *layout,
                          size_t item, size_t j, const double *sums)
{
    double variances[QUERY_COORDINATES_MAX] = {0};
    const struct query_totals totals = {sums, variances};
    const struct proto_query_item *asked = &query->items[item];
    variances[j] = layout->coordinates[j].bound * layout->coordinates[j].bound;
    if (asked->kind == PROTO_AGG_LINREG) {
        struct query_fit fit;
        double sum = 0;
        query_regress(asked, layout, &layout->reads[item], &totals, &fit);
        for (size_t i = 1; fit.known && i < fit.terms; i++) {
            double width = asked->arguments[i].max - asked->arguments[i].min;
            sum += fit.noise[i] * width * width;
        }
        return sum;
    }
    struct query_estimate estimate;
    if (query_estimate_item(query, layout, item, &totals, &estimate) || !estimate.known) {
        return 0;
    }
    return estimate.margin * estimate.margin;
}

/* A quarter of the largest root goes to part AT. Returns the new sum of roots. */
static double residual_part(size_t count, size_t at, double *by)
{
    double most = 0;
    double roots = 0;
    for (size_t j = 0; j < count; j++) {
        most = fmax(most, by[j]);
    }
    by[at] = most / 16;
    for (size_t j = 0; j < count; j++) {
        roots += sqrt(by[j]);
    }
    return roots;
}

/* What ITEM's variance owes to each part, on average over the references. SUMS is scratch. */
static void owed(const struct proto_query *query, const struct query_layout *layout, size_t item,
                 double *sums, double *by)
{
    const struct query_reads *reads = &layout->reads[item];
    enum proto_aggregate kind = query->items[item].kind;
    if (proto_aggregate_is_quantile(kind) || kind == PROTO_AGG_HISTOGRAM ||
        kind == PROTO_AGG_SURVIVAL) {
        for (size_t level = 0; level < reads->height; level++) {
            by[reads->levels + level] = 1;
        }
        return;
    }
    for (unsigned turn = 0; turn < REFERENCES && kind != PROTO_AGG_GROUP; turn++) {
        reference(layout, 1e6, turn, sums);
        for (size_t j = 0; j < layout->count; j++) {
            by[j] += variance_by(query, layout, item, j, sums) / REFERENCES;
        }
    }
}

/* Adds what ITEM wants of each part, relative to what it could have alone. */
static void add_item(const struct proto_query *query, const struct query_layout *layout,
                     size_t item, double *sums, double *wanted)
{
    double by[QUERY_COORDINATES_MAX] = {0};
    double roots = 0;
    owed(query, layout, item, sums, by);
    for (size_t j = 0; j < layout->count; j++) {
        roots += sqrt(by[j]);
    }
    if (query->items[item].kind == PROTO_AGG_LINREG) {
        /* The squares of y: no coefficient reads them, but every std_error. */
        roots = residual_part(layout->count, layout->reads[item].products[0][0], by);
    }
    for (size_t j = 0; j < layout->count && roots > 0; j++) {
        wanted[j] += by[j] / (roots * roots);
    }
}

enum err query_share(const struct proto_query *query, struct query_layout *layout)
{
    double wanted[QUERY_COORDINATES_MAX] = {0};
    double *sums = proto_alloc(layout->slots, sizeof *sums);
    if (!sums) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < query->item_count; i++) {
        add_item(query, layout, i, sums, wanted);
    }
    proto_free(sums);
    double units = query->keyed ? 1 : UNITS_ROOT * UNITS_ROOT;
    wanted[0] = fmax(wanted[0], units);
    double most = 0;
    for (size_t j = 0; j < layout->count; j++) {
        most = fmax(most, sqrt(wanted[j]));
    }
    for (size_t j = 0; j < layout->count; j++) {
        double weight = floor(WEIGHT_MOST * sqrt(wanted[j]) / most + 0.5);
        layout->coordinates[j].weight = weight < 1 ? 1 : (uint32_t)weight;
    }
    return E_OK;
}
