#include "config.h"
#include "node/query/coordinates.h"

#include <math.h>

/* Two-sided 95 % of the normal law; the discrete Gaussian's tails are no heavier (CKS20, proposition 25). */
#define Z95 1.959963984540054

/* What one row can add at most, which is the coordinate's bound. */
static double term_bound(const struct query_term *term)
{
    double reach = fmax(fabs(term->low - term->centre), fabs(term->high - term->centre));
    if (term->part == QUERY_PART_PRODUCT) {
        /* Of a square in [0, h^2] less its middle half of it remains; a product lies within -+ h1 h2. */
        reach *= fmax(fabs(term->factor_low - term->factor_centre),
                      fabs(term->factor_high - term->factor_centre));
        reach = term->shift > 0 ? fmax(term->shift, reach - term->shift) : reach;
    }
    return reach > 0 ? reach : 1; /* a column of one possible value: any positive bound is right */
}

static bool terms_equal(const struct query_term *a, const struct query_term *b)
{
    return a->part == b->part && a->column == b->column && a->factor == b->factor &&
           a->also == b->also && a->centre == b->centre && a->factor_centre == b->factor_centre;
}

/* The index of TERM, which is added when it is new. */
static enum err need_term(struct query_layout *layout, const struct query_term *term,
                          size_t *ret_index, struct err_info *reterr)
{
    for (size_t i = 0; i < layout->count; i++) {
        if (terms_equal(&layout->parts[i], term)) {
            *ret_index = i;
            return E_OK;
        }
    }
    if (layout->count == QUERY_COORDINATES_MAX) {
        return proto_err_set(reterr, E_LIMIT, "the query asks for more than %d sums at once",
                             QUERY_COORDINATES_MAX);
    }
    size_t i = layout->count++;
    layout->parts[i] = *term;
    layout->coordinates[i] =
        (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 1, .integer = true};
    if (term->part == QUERY_PART_UNITS) {
        layout->coordinates[i].kind = PRIVACY_UNITS;
    } else if (term->part == QUERY_PART_SUM || term->part == QUERY_PART_PRODUCT) {
        layout->coordinates[i].bound = term_bound(term);
        layout->coordinates[i].integer = false;
    }
    *ret_index = i;
    return E_OK;
}

static enum err need_count(struct query_layout *layout, enum query_part part, size_t *ret_index,
                           struct err_info *reterr)
{
    const struct query_term term = {
        .part = part, .column = -1, .factor = -1, .also = -1, .high = 1};
    return need_term(layout, &term, ret_index, reterr);
}

/* One of an aggregate's columns. */
struct operand {
    int column;
    int also;
    double low;
    double high;
    double centre;
};

static double middle(double low, double high)
{
    return low + (high - low) / 2;
}

static enum err need_values(struct query_layout *layout, const struct operand *of,
                            size_t *ret_index, struct err_info *reterr)
{
    /* "both have a value" is the same whichever is named first */
    bool swap = of->also >= 0 && of->also < of->column;
    const struct query_term term = {.part = QUERY_PART_VALUES,
                                    .column = swap ? of->also : of->column,
                                    .factor = -1,
                                    .also = swap ? of->column : of->also,
                                    .high = 1};
    return need_term(layout, &term, ret_index, reterr);
}

static enum err need_sum(struct query_layout *layout, const struct operand *of, size_t *ret_index,
                         struct err_info *reterr)
{
    const struct query_term term = {.part = QUERY_PART_SUM,
                                    .column = of->column,
                                    .factor = -1,
                                    .also = of->also,
                                    .centre = of->centre,
                                    .low = of->low,
                                    .high = of->high};
    return need_term(layout, &term, ret_index, reterr);
}

static enum err need_product(struct query_layout *layout, const struct operand *a,
                             const struct operand *b, size_t *ret_index, struct err_info *reterr)
{
    struct query_term term = {.part = QUERY_PART_PRODUCT,
                              .column = a->column,
                              .factor = b->column,
                              .also = a->also,
                              .centre = a->centre,
                              .low = a->low,
                              .high = a->high,
                              .factor_centre = b->centre,
                              .factor_low = b->low,
                              .factor_high = b->high};
    if (a->column == b->column) {
        double reach = fmax(fabs(a->low - a->centre), fabs(a->high - a->centre));
        term.shift = reach * reach / 2;
    }
    return need_term(layout, &term, ret_index, reterr);
}

/* A mean or a variance of the column is asked: its sum is centred, also for those who want the plain one. */
static bool centre_asked(const struct proto_query *query, int column)
{
    for (size_t i = 0; i < query->item_count; i++) {
        enum proto_aggregate kind = query->items[i].kind;
        if ((kind == PROTO_AGG_AVG || kind == PROTO_AGG_VAR || kind == PROTO_AGG_STDDEV) &&
            query->items[i].column == column) {
            return true;
        }
    }
    return false;
}

static enum err plan_moments(const struct proto_query *query, size_t item,
                             struct query_layout *layout, struct err_info *reterr)
{
    const struct proto_query_item *asked = &query->items[item];
    bool centred = centre_asked(query, asked->column);
    const struct operand x = {asked->column, -1, asked->min, asked->max,
                              centred ? middle(asked->min, asked->max) : 0};
    enum err err = E_OK;
    if (asked->kind != PROTO_AGG_SUM || centred) {
        err = need_values(layout, &x, &layout->values_part[item], reterr);
    }
    if (!err && asked->kind != PROTO_AGG_COUNT) {
        err = need_sum(layout, &x, &layout->sum_part[item], reterr);
    }
    if (!err && (asked->kind == PROTO_AGG_VAR || asked->kind == PROTO_AGG_STDDEV)) {
        err = need_product(layout, &x, &x, &layout->square_part[item], reterr);
    }
    return err;
}

static enum err plan_pair(const struct proto_query *query, size_t item, struct query_layout *layout,
                          struct err_info *reterr)
{
    const struct proto_query_item *asked = &query->items[item];
    const struct operand x = {asked->column, asked->second, asked->min, asked->max,
                              middle(asked->min, asked->max)};
    const struct operand y = {asked->second, asked->column, asked->second_min, asked->second_max,
                              middle(asked->second_min, asked->second_max)};
    /* A product of two columns needs both of them anyway, and is the same whichever is named first. */
    struct operand low = x.column < y.column ? x : y;
    const struct operand *high = x.column < y.column ? &y : &x;
    low.also = -1;
    enum err err = need_values(layout, &x, &layout->values_part[item], reterr);
    err = err ? err : need_sum(layout, &x, &layout->sum_part[item], reterr);
    err = err ? err : need_sum(layout, &y, &layout->second_sum_part[item], reterr);
    err = err ? err : need_product(layout, &x, &x, &layout->square_part[item], reterr);
    err = err ? err : need_product(layout, &y, &y, &layout->second_square_part[item], reterr);
    return err ? err : need_product(layout, &low, high, &layout->product_part[item], reterr);
}

static enum err plan_item(const struct proto_query *query, size_t item, struct query_layout *layout,
                          struct err_info *reterr)
{
    layout->values_part[item] = layout->sum_part[item] = layout->square_part[item] = SIZE_MAX;
    layout->second_sum_part[item] = layout->second_square_part[item] = layout->product_part[item] =
        SIZE_MAX;
    switch (query->items[item].kind) {
    case PROTO_AGG_COUNT:
    case PROTO_AGG_SUM:
    case PROTO_AGG_AVG:
    case PROTO_AGG_VAR:
    case PROTO_AGG_STDDEV:
        return plan_moments(query, item, layout, reterr);
    case PROTO_AGG_CORR:
        return plan_pair(query, item, layout, reterr);
    default: /* units, rows and groups */
        return E_OK;
    }
}

enum err query_layout_plan(const struct proto_query *query, struct query_layout *ret,
                           struct err_info *reterr)
{
    memset(ret, 0, sizeof *ret);
    bool one_row = query->schema->max_rows_per_unit <= 1;
    size_t units;
    enum err err = need_count(ret, one_row ? QUERY_PART_ROWS : QUERY_PART_UNITS, &units, reterr);
    for (size_t i = 0; !err && i < query->item_count; i++) {
        if (query->items[i].kind == PROTO_AGG_COUNT_ROWS) {
            err = need_count(ret, QUERY_PART_ROWS, &ret->rows_part, reterr);
        }
        if (!err) {
            err = plan_item(query, i, ret, reterr);
        }
    }
    if (!err && query->cells * ret->count > 65536) {
        err = proto_err_set(reterr, E_LIMIT,
                            "%zu cells of %zu sums each are more than one answer may hold",
                            query->cells, ret->count);
    }
    return err;
}

/* Mean over n noisy rows, and the Fieller half-width to first order: sqrt(var_s + mean^2 var_n) / n. */
static struct query_estimate mean_estimate(double centre, double low, double high, double sum,
                                           double rows, double var_sum, double var_rows)
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

/* Mean and variance of centred values from noisy sums, and how the variance moves with each of the three. */
struct spread {
    double mean;
    double variance; /* over n; may be beyond its bounds */
    double by_rows;
    double by_sum;
    double by_square;
};

static struct spread spread_of(double rows, double sum, double square, double shift)
{
    double mean = sum / rows;
    double mean_square = square / rows; /* less the shift, which has no noise */
    return (struct spread){.mean = mean,
                           .variance = mean_square + shift - mean * mean,
                           .by_rows = (2 * mean * mean - mean_square) / rows,
                           .by_sum = -2 * mean / rows,
                           .by_square = 1 / rows};
}

/* Variance of a sample and its margin, to first order in the noise. A range of width 2 h has a variance of at most h^2. */
static struct query_estimate variance_estimate(const struct query_layout *layout, size_t rows_at,
                                               size_t sum_at, size_t square_at, const double *sums,
                                               const double *variances)
{
    struct query_estimate estimate = {.value = NAN, .margin = NAN};
    double rows = sums[rows_at];
    if (rows < 2) {
        return estimate;
    }
    double shift = layout->parts[square_at].shift;
    struct spread spread = spread_of(rows, sums[sum_at], sums[square_at], shift);
    double sample = rows / (rows - 1);
    double noise = spread.by_rows * spread.by_rows * variances[rows_at] +
                   spread.by_sum * spread.by_sum * variances[sum_at] +
                   spread.by_square * spread.by_square * variances[square_at];
    estimate.known = true;
    estimate.value = sample * fmin(fmax(spread.variance, 0), 2 * shift);
    estimate.margin = sample * Z95 * sqrt(noise);
    return estimate;
}

/* The margin reaches the further end of what the square root makes of the variance's interval; near 0 it is wide. */
static struct query_estimate deviation_estimate(struct query_estimate variance)
{
    double deviation = sqrt(variance.value);
    double above = sqrt(variance.value + variance.margin) - deviation;
    double below = deviation - sqrt(fmax(variance.value - variance.margin, 0));
    variance.value = deviation;
    variance.margin = fmax(above, below);
    return variance;
}

/* r = c / sqrt(a b), with dr = dc / sqrt(a b) - r / 2 (da / a + db / b) by each of the six sums. */
static struct query_estimate correlation_estimate(const struct query_layout *layout, size_t item,
                                                  const double *sums, const double *variances)
{
    struct query_estimate estimate = {.value = NAN, .margin = NAN};
    const size_t at[6] = {layout->values_part[item],        layout->sum_part[item],
                          layout->second_sum_part[item],    layout->square_part[item],
                          layout->second_square_part[item], layout->product_part[item]};
    double rows = sums[at[0]];
    if (rows < 2) {
        return estimate;
    }
    struct spread x = spread_of(rows, sums[at[1]], sums[at[3]], layout->parts[at[3]].shift);
    struct spread y = spread_of(rows, sums[at[2]], sums[at[4]], layout->parts[at[4]].shift);
    if (!(x.variance > 0) || !(y.variance > 0)) {
        return estimate;
    }
    double both = sums[at[5]] / rows;
    double scale = 1 / sqrt(x.variance * y.variance);
    double r = (both - x.mean * y.mean) * scale;
    double a = r / (2 * x.variance);
    double b = r / (2 * y.variance);
    const double by[6] = {
        scale * (2 * x.mean * y.mean - both) / rows - a * x.by_rows - b * y.by_rows,
        -scale * y.mean / rows - a * x.by_sum,
        -scale * x.mean / rows - b * y.by_sum,
        -a * x.by_square,
        -b * y.by_square,
        scale / rows,
    };
    double noise = 0;
    for (size_t i = 0; i < 6; i++) {
        noise += by[i] * by[i] * variances[at[i]];
    }
    estimate.known = true;
    estimate.value = fmin(fmax(r, -1), 1);
    estimate.margin = fmin(Z95 * sqrt(noise), 2); /* no two correlations are further apart */
    return estimate;
}

struct query_estimate query_layout_estimate(const struct proto_query *query,
                                            const struct query_layout *layout, size_t item,
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
        return mean_estimate(layout->parts[sum].centre, asked->min, asked->max, sums[sum],
                             sums[values], variances[sum], variances[values]);
    case PROTO_AGG_VAR:
    case PROTO_AGG_STDDEV: {
        struct query_estimate variance =
            variance_estimate(layout, values, sum, layout->square_part[item], sums, variances);
        return asked->kind == PROTO_AGG_VAR || !variance.known ? variance
                                                               : deviation_estimate(variance);
    }
    case PROTO_AGG_CORR:
        return correlation_estimate(layout, item, sums, variances);
    default: /* COUNT(DISTINCT unit) */
        break;
    }
    estimate.value = sums[plain];
    estimate.margin = Z95 * sqrt(variances[plain]);
    return estimate;
}

double query_layout_expected_margin(const struct proto_query *query,
                                    const struct query_layout *layout, size_t item, double rows,
                                    size_t sites)
{
    double sums[QUERY_COORDINATES_MAX] = {0};
    double variances[QUERY_COORDINATES_MAX];
    for (size_t i = 0; i < layout->count; i++) {
        double sigma = privacy_mechanism_sigma(&layout->coordinates[i]);
        variances[i] = (double)sites * sigma * sigma;
        const struct query_term *term = &layout->parts[i];
        double reach = fmax(fabs(term->low - term->centre), fabs(term->high - term->centre));
        bool even = query->items[item].kind == PROTO_AGG_CORR;
        if (term->part == QUERY_PART_SUM) { /* the worst mean, at a bound */
            sums[i] = even ? 0 : rows * reach;
        } else if (term->part == QUERY_PART_PRODUCT) {
            double square = even ? reach * reach / 3 : reach * reach;
            sums[i] = term->factor == term->column ? rows * (square - term->shift) : 0;
        } else {
            sums[i] = rows;
        }
    }
    return query_layout_estimate(query, layout, item, sums, variances).margin;
}
