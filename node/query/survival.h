/* SURVIVAL: Kaplan and Meier's curve from noisy counts of events and of those who left, by bins of time, and the log-rank
 * comparison of several curves.
 *
 * In each bin events come before those who leave in it. At risk at a bin's start are all who are in this or a later bin.
 * The survival at a bin's end is the product of 1 - events / at risk. Counts are the least-squares leaves of two trees
 * (node/query/tree), made so that none of their running sums falls. The band takes Greenwood's variance and that of the
 * noise, both of log S, to first order; the log-rank statistic adds the noise's covariance to the hypergeometric one, so
 * that its p value holds under the noise.
 *
 * Threads: pure. Memory: arrays belong to the arena. */
#ifndef CONCORDAT_NODE_QUERY_SURVIVAL_H
#define CONCORDAT_NODE_QUERY_SURVIVAL_H

#include "node/query/estimate.h"
#include "proto/alloc.h"

struct query_curve_point {
    double at_risk; /* at the bin's start */
    double risk_margin;
    bool
        known; /* until here at least one person at risk, and more than the margin of how many they are */
    double survival; /* at the bin's end */
    double margin;   /* of the noise alone */
    double lower;    /* 95 % band by noise and by the choice of people */
    double upper;
};

struct query_curve {
    size_t bins;
    struct query_curve_point *points;
    double *events;        /* by bin, unbiased: may be negative */
    double *events_fitted; /* by bin, never negative */
    double *at_risk;       /* the same as in the points */
};

/* Errors: E_NO_MEMORY. */
MUST_CHECK enum err query_survival_curve(const struct query_layout *layout,
                                         const struct query_reads *reads,
                                         const struct query_totals *totals, struct arena *arena,
                                         struct query_curve *ret);

#define QUERY_LOGRANK_GROUPS 32
struct query_logrank {
    bool known;
    double chi2;
    size_t freedom; /* groups - 1 */
    double p;
};
/* Of GROUPS curves and the totals they come from. Not known for fewer than two groups, for more than
 * QUERY_LOGRANK_GROUPS, or without an event. Errors: E_NO_MEMORY. */
MUST_CHECK enum err query_survival_logrank(const struct query_layout *layout,
                                           const struct query_reads *reads,
                                           const struct query_totals *totals,
                                           const struct query_curve *curves, size_t groups,
                                           struct query_logrank *ret);

/* The chance that a chi-square variable of FREEDOM degrees exceeds X. */
double query_chi2_above(double x, size_t freedom);

#endif
