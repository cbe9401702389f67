/* From a wanted error to its price: the least epsilon at which every number of an answer is expected to have a 95 % margin of
 * at most so much. From public numbers alone: declared sizes or a stated number of rows, never from the data.
 *
 *     struct query_wanted wanted = {.error = 0.05, .relative = true, .rows = 2000};      --error 5% --assume-n 2000
 *     err = query_wanted_epsilon(query, &layout, &wanted, size, sites, delta_e12, most_u, &epsilon_u, reterr);
 *
 * An absolute error is in the unit of each number. A relative one is of what a number can be: of a count all rows, of a sum the
 * largest that so many rows give, of a mean or quantile the width of the column's bounds (struct query_expected).
 * Threads: pure, but for the prices that are remembered. */
#ifndef CONCORDAT_NODE_QUERY_WANTED_H
#define CONCORDAT_NODE_QUERY_WANTED_H

#include "node/query/table.h"

struct query_wanted {
    double error; /* 0: nothing is wanted */
    bool relative;
    double rows; /* of a cell; 0: as declared */
};

/* SIZE: declared rows of the SITES that are asked together. MOST_U: what a question may cost at every one of them. LAYOUT's noise
 * is planned anew by each try. Errors: E_REFUSED it would cost more than MOST_U, the text says how much, and which error MOST_U
 * buys; E_LIMIT no price buys it; E_NO_MEMORY. */
MUST_CHECK enum err query_wanted_epsilon(const struct proto_query *query,
                                         struct query_layout *layout,
                                         const struct query_wanted *wanted, double size,
                                         size_t sites, uint64_t delta_e12, uint64_t most_u,
                                         uint64_t *ret_epsilon_u, struct err_info *reterr);

#endif
