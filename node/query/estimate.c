#include "config.h"
#include "node/query/estimate.h"

#include "node/query/tree.h"
#include "proto/privacy.h"

#include <math.h>

static const struct query_estimate unknown = {.value = NAN, .margin = NAN};

/* One number of the cell and its variance. */
struct number {
    double sum;
    double variance;
};

static struct number number_at(const struct query_layout *layout, const struct query_totals *totals,
                               size_t part)
{
    return (struct number){totals->sums[layout->offsets[part]], totals->variances[part]};
}

static struct query_estimate count_estimate(struct number count)
{
    return (struct query_estimate){.known = true,
                                   .whole = true,
                                   .value = count.sum,
                                   .margin = QUERY_Z95 * sqrt(count.variance)};
}

/* ---- means, variances, correlations -------------------------------------------------------- */

/* Mean over n noisy rows, and the Fieller half-width to first order: sqrt(var_s + mean^2 var_n) / n. */
static struct query_estimate mean_estimate(const struct query_term *term, struct number rows,
                                           struct number sum)
{
    struct query_estimate estimate = unknown;
    if (rows.sum >= 1) {
        double offset = sum.sum / rows.sum;
        estimate.known = true;
        estimate.value = fmin(fmax(term->centre + offset, term->low), term->high);
        estimate.margin =
            QUERY_Z95 * sqrt(sum.variance + offset * offset * rows.variance) / rows.sum;
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
static struct query_estimate variance_estimate(double shift, struct number rows, struct number sum,
                                               struct number square)
{
    if (rows.sum < 2) {
        return unknown;
    }
    struct spread spread = spread_of(rows.sum, sum.sum, square.sum, shift);
    double sample = rows.sum / (rows.sum - 1);
    double noise = spread.by_rows * spread.by_rows * rows.variance +
                   spread.by_sum * spread.by_sum * sum.variance +
                   spread.by_square * spread.by_square * square.variance;
    return (struct query_estimate){.known = true,
                                   .value = sample * fmin(fmax(spread.variance, 0), 2 * shift),
                                   .margin = sample * QUERY_Z95 * sqrt(noise)};
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
static struct query_estimate correlation_estimate(const struct query_layout *layout,
                                                  const struct query_reads *reads,
                                                  const struct query_totals *totals)
{
    const uint8_t at[6] = {reads->values,         reads->sums[0],        reads->sums[1],
                           reads->products[0][0], reads->products[1][1], reads->products[0][1]};
    struct number n[6];
    for (size_t i = 0; i < 6; i++) {
        n[i] = number_at(layout, totals, at[i]);
    }
    double rows = n[0].sum;
    if (rows < 2) {
        return unknown;
    }
    struct spread x = spread_of(rows, n[1].sum, n[3].sum, layout->parts[at[3]].shift);
    struct spread y = spread_of(rows, n[2].sum, n[4].sum, layout->parts[at[4]].shift);
    if (!(x.variance > 0) || !(y.variance > 0)) {
        return unknown;
    }
    double both = n[5].sum / rows;
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
        noise += by[i] * by[i] * n[i].variance;
    }
    return (struct query_estimate){
        .known = true,
        .value = fmin(fmax(r, -1), 1),
        .margin = fmin(QUERY_Z95 * sqrt(noise), 2)}; /* no two correlations are further apart */
}

/* ---- quantiles ----------------------------------------------------------------------------- */

void query_estimate_tree(const struct query_layout *layout, const struct query_reads *reads,
                         size_t half, const struct query_totals *totals,
                         struct query_tree_shape *ret_shape, struct query_tree *ret)
{
    const struct query_term *leaves = &layout->parts[reads->levels + reads->height - 1];
    size_t halves = leaves->factor >= 0 ? 2 : 1;
    *ret_shape = (struct query_tree_shape){.height = reads->height, .branch = leaves->bins};
    *ret = (struct query_tree){.shape = ret_shape};
    for (size_t level = 0; level < reads->height; level++) {
        size_t part = reads->levels + level;
        ret_shape->sizes[level] = layout->parts[part].width / halves;
        ret_shape->spans[level] = layout->parts[part].span ? layout->parts[part].span : 1;
        ret->counts[level] = totals->sums + layout->offsets[part] + half * ret_shape->sizes[level];
        ret->variances[level] = totals->variances[part];
    }
    if (reads->height > 1) {
        ret_shape->branch = ret_shape->spans[reads->height - 2];
    }
    /* COUNT or AVG of the same column in the same query measured how many they are in all. */
    for (size_t part = 0; part < layout->count && halves == 1; part++) {
        const struct query_term *term = &layout->parts[part];
        if (term->part == QUERY_PART_VALUES && term->need_count == 1 &&
            term->needs[0] == leaves->column) {
            ret->has_total = true;
            ret->total = totals->sums[layout->offsets[part]];
            ret->total_variance = totals->variances[part];
        }
    }
}

/* The rows up to each edge: edges from 0 to bins, never falling. */
struct ranks {
    const struct query_term *term;
    const struct query_tree *tree;
    double *below;
    double total;
    double *weights;
};

/* The class in which the running count reaches RANK. */
static size_t class_at(const struct ranks *ranks, double rank)
{
    size_t low = 0;
    size_t high = ranks->term->bins - 1;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (ranks->below[mid + 1] >= rank) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return low;
}

/* Whole numbers and dates have a class each, of which the lower edge is the value. */
static bool exact_classes(const struct query_term *term)
{
    return term->top > term->high && term->top - term->low == (double)term->bins;
}

static double value_in(const struct ranks *ranks, size_t class, double rank)
{
    double low = query_term_edge(ranks->term, class);
    if (exact_classes(ranks->term)) {
        return low;
    }
    double inside = ranks->below[class + 1] - ranks->below[class];
    double part = inside > 0 ? (rank - ranks->below[class]) / inside : 0.5;
    return low + (query_term_edge(ranks->term, class + 1) - low) * fmin(fmax(part, 0), 1);
}

/* Standard deviation of (rows below class CLASS, half of it included) - Q (all rows). */
static enum err rank_deviation(const struct ranks *ranks, size_t class, double q, double *ret)
{
    double variance;
    for (size_t i = 0; i < ranks->term->bins; i++) {
        ranks->weights[i] = (i < class ? 1 : i == class ? 0.5 : 0) - q;
    }
    enum err err = query_tree_covariance(ranks->tree, ranks->weights, ranks->weights, &variance);
    *ret = err ? 0 : sqrt(fmax(variance, 0));
    return err;
}

/* From which rank to which the interval reaches, and the rank of the value itself. Row i of n, from 0, fills the ranks from
 * i to i + 1. The least value is taken where rows stand out from the noise: of a single row nothing can be known. */
struct target {
    double rank;
    double low;
    double high;
};

static struct target target_of(enum proto_aggregate kind, double q, double total, double deviation,
                               size_t bins)
{
    bool end = kind == PROTO_AGG_MIN || kind == PROTO_AGG_MAX;
    /* Where rows end is sought at every edge at once: the interval must hold for all of them (Bonferroni). */
    double reach =
        deviation * (end ? -proto_privacy_normal_quantile(0.025 / (double)bins) : QUERY_Z95);
    struct target target;
    if (kind == PROTO_AGG_MIN) {
        target = (struct target){fmax(0.5, reach), 1 - reach, 1 + reach};
    } else if (kind == PROTO_AGG_MAX) { /* the last row begins behind the one before it */
        double last = total - 1 + 1e-6;
        target = (struct target){total - fmax(0.5, reach), last - reach, last + reach};
    } else {
        double at = q * (total - 1);
        target = (struct target){at + 0.5, floor(at) + 0.5 - reach, ceil(at) + 0.5 + reach};
    }
    return target;
}

/* Where the interval ends for a rank beyond all rows: at the declared bound. */
static double end_at(const struct ranks *ranks, double rank, bool upper)
{
    const struct query_term *term = ranks->term;
    if (rank <= 0) {
        return term->low;
    }
    if (rank > ranks->total) {
        return term->high;
    }
    size_t class = class_at(ranks, rank);
    bool whole = exact_classes(term);
    return fmin(query_term_edge(term, upper && !whole ? class + 1 : class), term->high);
}

static enum err quantile_of(const struct ranks *ranks, enum proto_aggregate kind, double q,
                            struct query_estimate *ret)
{
    struct target target = {.rank = q * (ranks->total - 1) + 0.5};
    enum err err = E_OK;
    /* A rank's deviation depends on where it is, which depends on the deviation: that of the ends grows inwards. */
    for (int turn = 0; turn < 3 && !err; turn++) {
        double deviation;
        size_t class = class_at(ranks, fmin(fmax(target.rank, 0), ranks->total));
        err = rank_deviation(ranks, class, q, &deviation);
        target = target_of(kind, q, ranks->total, deviation, ranks->term->bins);
    }
    target.rank = fmin(fmax(target.rank, 0), ranks->total);
    size_t class = class_at(ranks, target.rank);
    ret->known = !err;
    ret->value = fmin(value_in(ranks, class, target.rank), ranks->term->high);
    ret->margin = fmax(end_at(ranks, target.high, true) - ret->value,
                       ret->value - end_at(ranks, target.low, false));
    ret->margin = fmax(ret->margin, 0);
    return err;
}

static enum err quantile_estimate(const struct query_layout *layout,
                                  const struct query_reads *reads,
                                  const struct proto_query_item *asked,
                                  const struct query_totals *totals, struct query_estimate *ret)
{
    struct query_tree_shape shape;
    struct query_tree tree;
    query_estimate_tree(layout, reads, 0, totals, &shape, &tree);
    const struct query_term *leaves = &layout->parts[reads->levels + reads->height - 1];
    struct ranks ranks = {.term = leaves, .tree = &tree};
    ranks.below = proto_alloc(leaves->bins + 1, sizeof *ranks.below);
    ranks.weights = proto_alloc(leaves->bins, sizeof *ranks.weights);
    enum err err =
        ranks.below && ranks.weights ? query_tree_fit(&tree, ranks.below + 1) : E_NO_MEMORY;
    for (size_t i = 0; i < leaves->bins && !err; i++) {
        ranks.below[i + 1] += ranks.below[i];
    }
    err = err ? err : query_tree_monotone(ranks.below + 1, leaves->bins);
    ranks.total = err ? 0 : ranks.below[leaves->bins];
    if (ranks.total >= 1) {
        double q = asked->kind == PROTO_AGG_MIN   ? 0
                   : asked->kind == PROTO_AGG_MAX ? 1
                                                  : asked->number;
        err = quantile_of(&ranks, asked->kind, q, ret);
    }
    proto_free(ranks.below);
    proto_free(ranks.weights);
    return err;
}

/* ---- items --------------------------------------------------------------------------------- */

/* A centred sum serves a mean as well; the plain one then takes the number of values. */
static struct query_estimate sum_estimate(const struct query_layout *layout,
                                          const struct query_reads *reads,
                                          const struct query_totals *totals)
{
    struct number sum = number_at(layout, totals, reads->sums[0]);
    double variance = sum.variance;
    if (reads->values != QUERY_NO_PART) {
        double centre = layout->parts[reads->sums[0]].centre;
        struct number values = number_at(layout, totals, reads->values);
        sum.sum += centre * values.sum;
        variance += centre * centre * values.variance;
    }
    return (struct query_estimate){
        .known = true, .value = sum.sum, .margin = QUERY_Z95 * sqrt(variance)};
}

static struct query_estimate moments_estimate(const struct query_layout *layout,
                                              const struct query_reads *reads,
                                              enum proto_aggregate kind,
                                              const struct query_totals *totals)
{
    struct number rows = number_at(layout, totals, reads->values);
    struct number sum = number_at(layout, totals, reads->sums[0]);
    if (kind == PROTO_AGG_AVG) {
        return mean_estimate(&layout->parts[reads->sums[0]], rows, sum);
    }
    uint8_t square = reads->products[0][0];
    struct query_estimate variance = variance_estimate(layout->parts[square].shift, rows, sum,
                                                       number_at(layout, totals, square));
    return kind == PROTO_AGG_VAR || !variance.known ? variance : deviation_estimate(variance);
}

/* From which to which value the result can be, whatever the rows are; false: that depends on how many they are. */
static bool range_of(const struct query_layout *layout, const struct query_reads *reads,
                     enum proto_aggregate kind, double *ret_low, double *ret_high)
{
    const struct query_term *term;
    switch (kind) {
    case PROTO_AGG_AVG:
        term = &layout->parts[reads->sums[0]];
        break;
    case PROTO_AGG_MIN:
    case PROTO_AGG_MAX:
    case PROTO_AGG_QUANTILE:
        term = &layout->parts[reads->levels + reads->height - 1];
        break;
    case PROTO_AGG_VAR:
    case PROTO_AGG_STDDEV:
        *ret_low = 0;
        *ret_high = 2 * layout->parts[reads->products[0][0]].shift;
        *ret_high = kind == PROTO_AGG_VAR ? *ret_high : sqrt(*ret_high);
        return *ret_low < *ret_high;
    case PROTO_AGG_CORR:
        *ret_low = -1;
        *ret_high = 1;
        return true;
    default:
        return false;
    }
    *ret_low = term->low;
    *ret_high = term->high;
    return term->low < term->high; /* where the condition leaves one value, that is known */
}

static enum err estimate_item(const struct proto_query *query, const struct query_layout *layout,
                              size_t item, const struct query_totals *totals,
                              struct query_estimate *ret)
{
    const struct proto_query_item *asked = &query->items[item];
    const struct query_reads *reads = &layout->reads[item];
    *ret = unknown;
    switch (asked->kind) {
    case PROTO_AGG_COUNT_UNITS:
        *ret = count_estimate(number_at(layout, totals, 0));
        return E_OK;
    case PROTO_AGG_COUNT_ROWS:
        *ret = count_estimate(number_at(layout, totals, layout->rows_part));
        return E_OK;
    case PROTO_AGG_COUNT:
        *ret = count_estimate(number_at(layout, totals, reads->values));
        return E_OK;
    case PROTO_AGG_SUM:
        *ret = sum_estimate(layout, reads, totals);
        return E_OK;
    case PROTO_AGG_AVG:
    case PROTO_AGG_VAR:
    case PROTO_AGG_STDDEV:
        *ret = moments_estimate(layout, reads, asked->kind, totals);
        return E_OK;
    case PROTO_AGG_CORR:
        *ret = correlation_estimate(layout, reads, totals);
        return E_OK;
    case PROTO_AGG_MIN:
    case PROTO_AGG_MAX:
    case PROTO_AGG_QUANTILE: {
        enum err err = quantile_estimate(layout, reads, asked, totals, ret);
        const struct proto_column *column = &query->schema->columns[asked->arguments[0].column];
        ret->date = column->type == PROTO_COLUMN_DATE;
        return err;
    }
    default: /* groups and tables */
        return E_OK;
    }
}

enum err query_estimate_item(const struct proto_query *query, const struct query_layout *layout,
                             size_t item, const struct query_totals *totals,
                             struct query_estimate *ret)
{
    double low;
    double high;
    enum err err = estimate_item(query, layout, item, totals, ret);
    ret->hidden = !err && ret->known &&
                  range_of(layout, &layout->reads[item], query->items[item].kind, &low, &high) &&
                  ret->value - ret->margin <= low && ret->value + ret->margin >= high;
    return err;
}

/* ---- expectation --------------------------------------------------------------------------- */

static void even_classes(const struct query_layout *layout, size_t part, double rows, double *to)
{
    const struct query_term *term = &layout->parts[part];
    size_t halves = term->factor >= 0 ? 2 : 1;
    size_t size = term->width / halves;
    size_t span = term->span ? term->span : 1;
    for (size_t i = 0; i < term->width; i++) {
        size_t first = i % size * span;
        size_t last = first + span < term->bins ? first + span : term->bins;
        to[i] = rows * (double)(last - first) / (double)(term->bins * halves);
    }
}

void query_estimate_even(const struct query_layout *layout, double rows, bool worst,
                         double *ret_sums)
{
    for (size_t part = 0; part < layout->count; part++) {
        const struct query_term *term = &layout->parts[part];
        double *to = ret_sums + layout->offsets[part];
        double reach = fmax(fabs(term->low - term->centre), fabs(term->high - term->centre));
        switch (term->part) {
        case QUERY_PART_SUM:
            *to = worst ? rows * reach : 0;
            break;
        case QUERY_PART_PRODUCT: {
            double square = worst ? reach * reach : reach * reach / 3;
            *to = term->factor == term->column ? rows * (square - term->shift) : 0;
            break;
        }
        case QUERY_PART_BINS:
        case QUERY_PART_LEVEL:
            even_classes(layout, part, rows, to);
            break;
        default:
            *to = rows;
        }
    }
}

double query_estimate_expected(const struct proto_query *query, const struct query_layout *layout,
                               size_t item, double rows, size_t sites)
{
    enum proto_aggregate kind = query->items[item].kind;
    double variances[QUERY_COORDINATES_MAX];
    struct query_estimate estimate = unknown;
    double *sums = proto_alloc(layout->slots, sizeof *sums);
    if (!sums) {
        return NAN;
    }
    for (size_t i = 0; i < layout->count; i++) {
        double sigma = privacy_mechanism_sigma(&layout->coordinates[i]);
        variances[i] = (double)sites * sigma * sigma;
    }
    query_estimate_even(layout, rows, kind != PROTO_AGG_CORR && !proto_aggregate_is_quantile(kind),
                        sums);
    const struct query_totals totals = {sums, variances};
    enum err err = query_estimate_item(query, layout, item, &totals, &estimate);
    proto_free(sums);
    return err ? NAN : estimate.margin;
}
