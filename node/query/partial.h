/* One site's answer on the asking side: is it what the question asks for, and into the totals with it.
 *
 * A site that is careless or lies must not bring down a whole answer. What does not have the shape of the question, or
 * whose noise is not the planned one, is left out of the sums and named: MALFORMED. So is what no honest table and no likely
 * noise could give: OUT_OF_RANGE. That is judged with slack of 14 standard deviations of the noise, which an honest site
 * exceeds with a probability below 1e-40: a count below zero, more rows than a million times the declared size, a sum
 * beyond what its rows can add up to, a tree or histogram with more rows than there are. Everything is an integer on the
 * wire and finite afterwards. A lie that is consistent with itself cannot be seen from here.
 *
 * Threads: pure. */
#ifndef CONCORDAT_NODE_QUERY_PARTIAL_H
#define CONCORDAT_NODE_QUERY_PARTIAL_H

#include "node/query/message.h"
#include "node/query/table.h"

enum query_fault {
    QUERY_FAULT_NONE,
    QUERY_FAULT_MALFORMED,
    QUERY_FAULT_OUT_OF_RANGE,
};
const char *query_fault_name(enum query_fault fault);

/* SIZE: the declared number of units at the site. RET_WHY is set on a fault, a sentence without data. */
enum query_fault query_partial_check(const struct proto_query *query,
                                     const struct query_layout *layout, uint64_t size,
                                     const struct query_answer *answer, const char **ret_why);

/* Adds COUNT answers that passed the check. RET's memory is ARENA's. WITHHELD gets, by answer, how many cells it kept to
 * itself. Errors: E_NO_MEMORY; E_LIMIT the answers together have more groups than one answer may hold. */
MUST_CHECK enum err query_partial_add(const struct proto_query *query,
                                      const struct query_layout *layout,
                                      const struct query_answer *const *answers, size_t count,
                                      struct arena *arena, struct query_cells *ret,
                                      size_t *withheld);

#endif
