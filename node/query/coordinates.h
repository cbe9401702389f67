/* From a bound query to the integer vector that is released for each cell, and back from noisy vectors to aggregates.
 *
 * Both sides derive it from the query and the published schema alone, so it is public: the site fills and noises it,
 * the asking node reads it. Coordinate 0 counts privacy units (the minimum cohort is tested on it). With one row a unit
 * it is the row count as well. Per column: rows with a value, and a sum, centred on the middle of the declared bounds
 * when a mean is asked (half the sensitivity), plain when only SUM is asked. A variance adds the sum of squares of the
 * centred values; the middle of its range h^2 (h: half the width) is taken off each, which halves its sensitivity too.
 * A correlation takes six numbers over the rows in which both columns have a value: rows, two sums, two sums of squares
 * and one of products, which is at most h1 h2 a row. All of a cell's numbers share the charge as the mechanism says.
 *
 * Threads: pure. */
#ifndef CONCORDAT_NODE_QUERY_COORDINATES_H
#define CONCORDAT_NODE_QUERY_COORDINATES_H

#include "node/privacy/mechanism.h"
#include "node/query/message.h"
#include "proto/query.h"

enum query_part {
    QUERY_PART_UNITS,  /* units in the cell */
    QUERY_PART_ROWS,   /* rows of the cell after contribution bounding */
    QUERY_PART_VALUES, /* rows in which the column has a value */
    QUERY_PART_SUM,    /* sum over those of (value - centre) */
    QUERY_PART_PRODUCT, /* sum over those of (value - centre) (factor's value - its centre) - shift */
};

struct query_term {
    enum query_part part;
    int column; /* -1 for units and rows */
    int factor; /* of a product; may be the column itself; else -1 */
    int also;   /* a column that must have a value too; -1: none */
    double centre;
    double low; /* declared bounds; values are clamped to them */
    double high;
    double factor_centre;
    double factor_low;
    double factor_high;
    double shift;
};

struct query_layout {
    struct query_term parts[QUERY_COORDINATES_MAX];
    struct privacy_coordinate coordinates[QUERY_COORDINATES_MAX];
    size_t count;
    bool thresholds;  /* cells of private keys are kept by a threshold: delta0 */
    size_t rows_part; /* index that COUNT(*) reads */
    size_t values_part[PROTO_QUERY_ITEMS_MAX]; /* by select item; SIZE_MAX when it has none */
    size_t sum_part[PROTO_QUERY_ITEMS_MAX];
    size_t square_part[PROTO_QUERY_ITEMS_MAX];
    size_t second_sum_part[PROTO_QUERY_ITEMS_MAX]; /* these three: of CORR */
    size_t second_square_part[PROTO_QUERY_ITEMS_MAX];
    size_t product_part[PROTO_QUERY_ITEMS_MAX];
};

/* Bounds and kinds are set; privacy_mechanism_plan fills grids and noise.
 * Errors: E_LIMIT too many coordinates for one answer. */
MUST_CHECK enum err query_layout_plan(const struct proto_query *query, struct query_layout *ret,
                                      struct err_info *reterr);

/* One aggregate of one cell, from sums over sites in value units. */
struct query_estimate {
    double value;
    double margin; /* half-width of the 95 % interval of the noise alone; NaN: not defined */
    bool
        known; /* false: withheld, a mean over no rows, a variance over one, a correlation with what does not vary */
    bool whole; /* a count: print it as an integer */
};

/* sums and variances: layout->count entries in value units, over SITES that contributed. ITEM indexes query->items. */
struct query_estimate query_layout_estimate(const struct proto_query *query,
                                            const struct query_layout *layout, size_t item,
                                            const double *sums, const double *variances);

/* The margin that one site's noise gives to ITEM if ROWS rows had a value: for --explain, never from the data. For the worst
 * possible values, but a correlation's for two unrelated columns that are spread evenly over their bounds. */
double query_layout_expected_margin(const struct proto_query *query,
                                    const struct query_layout *layout, size_t item, double rows,
                                    size_t sites);

#endif
