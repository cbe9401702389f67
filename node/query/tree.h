/* Trees of noisy counts: the best estimate of every leaf, and the variance of what is computed from leaves.
 *
 * A quantile's column is cut into leaves. Level 0 counts rows in groups of many leaves, the next level in groups of fewer,
 * the last level in single leaves; each count has its own noise. The counts contradict each other a little, and least
 * squares settles it: of all sets of leaf counts, take the one that is nearest to what was measured, each squared
 * difference over its variance (Hay, Rastogi, Miklau, Suciu 2010, generalised to unequal families and variances). That is
 * the unbiased linear estimate of least variance. It needs one pass up and one pass down.
 *
 *     query_tree_fit(&tree, leaves);                       leaves[i]: best count of leaf i; may be negative
 *     query_tree_covariance(&tree, weights, weights, &variance);      of sum weights[i] leaves[i]
 *
 * The second is the same fit: the estimate is (M'WM)^-1 M'Wy, so the variance g' (M'WM)^-1 g of a combination g is g
 * times the fit of the y with M'Wy = g, which is g times the variance on the leaves and zero above.
 *
 * Threads: pure. */
#ifndef CONCORDAT_NODE_QUERY_TREE_H
#define CONCORDAT_NODE_QUERY_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/err.h"

#define QUERY_TREE_HEIGHT_MAX 16

struct query_tree_shape {
    size_t height;                       /* levels; 1: only leaves */
    size_t branch;                       /* children of a node, the last one of a level excepted */
    size_t sizes[QUERY_TREE_HEIGHT_MAX]; /* nodes of a level; the last one: leaves */
    size_t spans[QUERY_TREE_HEIGHT_MAX]; /* leaves under a node of the level; the last one: 1 */
};

/* The tree over LEAVES leaves with the fewest children to a node (2, 4, 8 or 16: with noise of equal cost on each level,
 * fewer make ranks more exact) that has at most NODES nodes and HEIGHT_MAX levels. Up to FLAT leaves stay alone. False:
 * no tree fits. */
bool query_tree_shape(size_t leaves, size_t flat, size_t nodes, size_t height_max,
                      struct query_tree_shape *ret);

struct query_tree {
    const struct query_tree_shape *shape;
    const double *counts[QUERY_TREE_HEIGHT_MAX]; /* by level: sizes[level] noisy counts */
    double variances
        [QUERY_TREE_HEIGHT_MAX]; /* by level: of each count; positive, or all zero for exact ones */
    bool has_total;              /* the number of all rows was measured as well */
    double total;
    double total_variance;
};

MUST_CHECK enum err query_tree_fit(const struct query_tree *tree, double *ret_leaves);
/* Covariance of two combinations of leaves, A and B; the counts do not matter. */
MUST_CHECK enum err query_tree_covariance(const struct query_tree *tree, const double *a,
                                          const double *b, double *ret);

/* Makes partial sums never fall (least squares; pool adjacent violators): COUNT values, first one at least 0. */
MUST_CHECK enum err query_tree_monotone(double *sums, size_t count);

#endif
