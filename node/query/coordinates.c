#include "config.h"
#include "node/query/coordinates.h"

#include <math.h>

/* Two-sided 95 % of the normal law; the discrete Gaussian's tails are no heavier (CKS20, proposition 25). */
#define Z95 1.959963984540054

static enum err add_part(struct query_layout *layout, enum query_part part, int column, double low, double high,
                         double centre, size_t *ret_index, struct err_info *reterr)
{
    if (layout->count == QUERY_COORDINATES_MAX) {
        return proto_err_set(reterr, E_LIMIT, "the query asks for more than %d sums at once", QUERY_COORDINATES_MAX);
    }
    size_t i = layout->count++;
    layout->parts[i].part = part;
    layout->parts[i].column = column;
    layout->parts[i].low = low;
    layout->parts[i].high = high;
    layout->parts[i].centre = centre;
    struct privacy_coordinate *coordinate = &layout->coordinates[i];
    *coordinate = (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 1, .integer = true};
    if (part == QUERY_PART_UNITS) {
        coordinate->kind = PRIVACY_UNITS;
    } else if (part == QUERY_PART_SUM) {
        coordinate->bound = fmax(fabs(low - centre), fabs(high - centre));
        coordinate->integer = false;
        if (coordinate->bound == 0) {
            coordinate->bound = 1; /* a column of one possible value: any positive bound is right */
        }
    }
    *ret_index = i;
    return E_OK;
}

static size_t find_part(const struct query_layout *layout, enum query_part part, int column, double centre)
{
    for (size_t i = 0; i < layout->count; i++) {
        if (layout->parts[i].part == part && layout->parts[i].column == column &&
            (part != QUERY_PART_SUM || layout->parts[i].centre == centre)) {
            return i;
        }
    }
    return SIZE_MAX;
}

static bool mean_asked(const struct proto_query *query, int column)
{
    for (size_t i = 0; i < query->item_count; i++) {
        if (query->items[i].kind == PROTO_AGG_AVG && query->items[i].column == column) {
            return true;
        }
    }
    return false;
}

static enum err plan_item(const struct proto_query *query, size_t item, struct query_layout *layout,
                          struct err_info *reterr)
{
    const struct proto_query_item *asked = &query->items[item];
    layout->values_part[item] = layout->sum_part[item] = SIZE_MAX;
    if (asked->kind != PROTO_AGG_COUNT && asked->kind != PROTO_AGG_SUM && asked->kind != PROTO_AGG_AVG) {
        return E_OK;
    }
    bool centred = mean_asked(query, asked->column);
    enum err err = E_OK;
    if (asked->kind != PROTO_AGG_SUM || centred) {
        size_t found = find_part(layout, QUERY_PART_VALUES, asked->column, 0);
        if (found == SIZE_MAX) {
            err = add_part(layout, QUERY_PART_VALUES, asked->column, 0, 1, 0, &found, reterr);
        }
        layout->values_part[item] = found;
    }
    if (!err && asked->kind != PROTO_AGG_COUNT) {
        double centre = centred ? asked->min + (asked->max - asked->min) / 2 : 0;
        size_t found = find_part(layout, QUERY_PART_SUM, asked->column, centre);
        if (found == SIZE_MAX) {
            err = add_part(layout, QUERY_PART_SUM, asked->column, asked->min, asked->max, centre, &found, reterr);
        }
        layout->sum_part[item] = found;
    }
    return err;
}

enum err query_layout_plan(const struct proto_query *query, struct query_layout *ret, struct err_info *reterr)
{
    memset(ret, 0, sizeof *ret);
    bool one_row = query->schema->max_rows_per_unit <= 1;
    size_t units;
    enum err err =
        add_part(ret, one_row ? QUERY_PART_ROWS : QUERY_PART_UNITS, -1, 0, 1, 0, &units, reterr);
    for (size_t i = 0; !err && i < query->item_count; i++) {
        if (query->items[i].kind == PROTO_AGG_COUNT_ROWS && !one_row &&
            find_part(ret, QUERY_PART_ROWS, -1, 0) == SIZE_MAX) {
            err = add_part(ret, QUERY_PART_ROWS, -1, 0, 1, 0, &ret->rows_part, reterr);
        }
        if (!err) {
            err = plan_item(query, i, ret, reterr);
        }
    }
    if (!err && query->cells * ret->count > 65536) {
        err = proto_err_set(reterr, E_LIMIT, "%zu cells of %zu sums each are more than one answer may hold",
                            query->cells, ret->count);
    }
    return err;
}

/* Mean over n noisy rows, and the Fieller half-width to first order: sqrt(var_s + mean^2 var_n) / n. */
static struct query_estimate mean_estimate(double centre, double low, double high, double sum, double rows,
                                           double var_sum, double var_rows)
{
    struct query_estimate estimate = {.value = NAN, .margin = NAN};
    if (rows >= 1) {
        double offset = sum / rows;
        estimate.known = true;
        estimate.value = fmin(fmax(centre + offset, low), high);
        estimate.margin = Z95 * sqrt(var_sum + offset * offset * var_rows) / rows;
    }
    return estimate;
}

struct query_estimate query_layout_estimate(const struct proto_query *query, const struct query_layout *layout, size_t item,
                                            const double *sums, const double *variances)
{
    const struct proto_query_item *asked = &query->items[item];
    size_t values = layout->values_part[item];
    size_t sum = layout->sum_part[item];
    struct query_estimate estimate = {.known = true, .whole = true};
    size_t plain = 0;
    switch (asked->kind) {
    case PROTO_AGG_COUNT_ROWS:
        plain = layout->rows_part;
        break;
    case PROTO_AGG_COUNT:
        plain = values;
        break;
    case PROTO_AGG_SUM:
        estimate.whole = false;
        estimate.value = sums[sum];
        estimate.margin = sqrt(variances[sum]);
        if (values != SIZE_MAX) { /* the centred sum serves a mean as well */
            double centre = layout->parts[sum].centre;
            estimate.value += centre * sums[values];
            estimate.margin = sqrt(variances[sum] + centre * centre * variances[values]);
        }
        estimate.margin *= Z95;
        return estimate;
    case PROTO_AGG_AVG:
        return mean_estimate(layout->parts[sum].centre, asked->min, asked->max, sums[sum], sums[values],
                             variances[sum], variances[values]);
    default: /* COUNT(DISTINCT unit) */
        break;
    }
    estimate.value = sums[plain];
    estimate.margin = Z95 * sqrt(variances[plain]);
    return estimate;
}

double query_layout_expected_margin(const struct proto_query *query, const struct query_layout *layout, size_t item,
                                    double rows, size_t sites)
{
    double sums[QUERY_COORDINATES_MAX] = {0};
    double variances[QUERY_COORDINATES_MAX];
    for (size_t i = 0; i < layout->count; i++) {
        double sigma = privacy_mechanism_sigma(&layout->coordinates[i]);
        variances[i] = (double)sites * sigma * sigma;
        if (layout->parts[i].part != QUERY_PART_SUM) {
            sums[i] = rows;
        } else { /* the worst mean, at a bound */
            double reach = fmax(fabs(layout->parts[i].low - layout->parts[i].centre),
                                fabs(layout->parts[i].high - layout->parts[i].centre));
            sums[i] = rows * reach;
        }
    }
    return query_layout_estimate(query, layout, item, sums, variances).margin;
}
