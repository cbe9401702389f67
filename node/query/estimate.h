/* From the sums of what sites released to aggregates and their margins.
 *
 *     err = query_estimate_item(query, layout, item, &totals, &estimate);
 *
 * A margin is the half-width of the 95 % interval of the noise alone: what another draw of the noise might have given. It
 * is first order in the noise for ratios. Of a quantile it covers the width of its class as well.
 *
 * Threads: pure. */
#ifndef CONCORDAT_NODE_QUERY_ESTIMATE_H
#define CONCORDAT_NODE_QUERY_ESTIMATE_H

#include "node/query/coordinates.h"

/* Two-sided 95 % of the normal law; the discrete Gaussian's tails are no heavier (CKS20, proposition 25). */
#define QUERY_Z95 1.959963984540054

/* One cell, summed over sites, in value units. */
struct query_totals {
    const double *sums;      /* layout->slots */
    const double *variances; /* layout->count: of each number of a part */
};

struct query_estimate {
    double value;
    double margin; /* NaN: not defined */
    bool
        known; /* false: withheld, a mean over no rows, a variance over one, a correlation with what does not vary */
    bool whole;  /* a count: print it as an integer */
    bool hidden; /* the interval holds all that the column's bounds allow: nothing was learned */
    bool date;   /* days since 1970-01-01; the margin is in days */
};

/* ITEM is no group and no table. Errors: E_NO_MEMORY. */
MUST_CHECK enum err query_estimate_item(const struct proto_query *query,
                                        const struct query_layout *layout, size_t item,
                                        const struct query_totals *totals,
                                        struct query_estimate *ret);

/* The margin that the noise of SITES sites gives to ITEM if ROWS rows had a value: for --explain, never from the data. For
 * the worst possible values, but a correlation's and a quantile's for values spread evenly over their bounds. NaN where
 * there is none. */
double query_estimate_expected(const struct proto_query *query, const struct query_layout *layout,
                               size_t item, double rows, size_t sites);

/* Sums as ROWS rows would give them whose values are spread evenly: of products of different columns 0. WORST: as if all
 * values of sums lay at a bound. Fills layout->slots numbers. */
void query_estimate_even(const struct query_layout *layout, double rows, bool worst,
                         double *ret_sums);

/* The tree that item's levels form in the numbers of one cell; HALF 1 of SURVIVAL are the rows without the event. */
struct query_tree;
struct query_tree_shape;
void query_estimate_tree(const struct query_layout *layout, const struct query_reads *reads,
                         size_t half, const struct query_totals *totals,
                         struct query_tree_shape *ret_shape, struct query_tree *ret);

#endif
