/* LINREG: least squares from noisy sums and products of centred columns.
 *
 * With A the matrix of sums of products of (1, x1, ...) and b that of them with y, the coefficients are A^-1 b. Their noise
 * follows to first order from d(A^-1 b) = A^-1 (db - dA A^-1 b), one released number after the other, exactly; sampling adds
 * s^2 A^-1. A fit is not known when the noise could move A, in A's own scale, by more than a quarter: the columns then vary
 * too little beside it, and no honest coefficient exists. There is no ridge: a shrunken coefficient with a small margin
 * would mislead.
 *
 * Threads: pure. */
#ifndef CONCORDAT_NODE_QUERY_REGRESS_H
#define CONCORDAT_NODE_QUERY_REGRESS_H

#include "node/query/estimate.h"

struct query_fit {
    bool known;
    size_t terms; /* the intercept, then the columns in their order */
    double rows;
    double deviation; /* of the residuals; NaN when fewer rows than terms */
    double coefficient[PROTO_QUERY_ARGUMENTS_MAX];
    double noise[PROTO_QUERY_ARGUMENTS_MAX];    /* variance by the noise */
    double sampling[PROTO_QUERY_ARGUMENTS_MAX]; /* variance by the choice of people */
};

void query_regress(const struct proto_query_item *item, const struct query_layout *layout,
                   const struct query_reads *reads, const struct query_totals *totals,
                   struct query_fit *ret);

#endif
