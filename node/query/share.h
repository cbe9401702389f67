/* How a query's charge is split over the numbers that it releases.
 *
 * With weights a_j of sum 1 the variance of number j is D_j^2 / a_j, up to a factor that all share. An aggregate i then
 * has to first order the variance V_i = sum_j c_ij / a_j, c_ij = (df_i/dj)^2 D_j^2, which alone could be brought down to
 * (sum_j sqrt(c_ij))^2. The weights minimise the sum over aggregates of V_i over what it could have alone:
 *     a_j proportional to sqrt(sum_i c_ij / (sum_k sqrt(c_ik))^2).
 * The derivatives are taken at public reference values (means halfway between middle and bound, on either side in several
 * patterns, values else as if spread evenly), never at the data. Levels of one tree count alike. The number of units, when nobody asks for it, still decides
 * min_cohort: it gets a tenth of the standard weight, and where private groups must stand out from noise, as much as an
 * aggregate. Weights are whole numbers from 1 to 1000, so that sites and asking node agree on every bit.
 *
 * Threads: pure. */
#ifndef CONCORDAT_NODE_QUERY_SHARE_H
#define CONCORDAT_NODE_QUERY_SHARE_H

#include "node/query/coordinates.h"

/* Sets the weight of every coordinate of LAYOUT, whose parts are planned. Errors: E_NO_MEMORY. */
MUST_CHECK enum err query_share(const struct proto_query *query, struct query_layout *layout);

#endif
