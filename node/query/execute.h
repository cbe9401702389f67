/* From a bound query and a partition to exact integer sums per cell, with each unit's contribution bounded.
 *
 * Of each unit at most max_rows_per_unit of the rows that pass WHERE are kept, those with the smallest keyed hash of
 * their row number; the key is fresh for each query. So which rows of a unit are kept does not depend on other units.
 * Values are snapped to the coordinate's grid one by one and added as integers: the order of rows cannot matter.
 * A row whose group column has no value belongs to no cell. What is returned is private; only privacy_mechanism may see it.
 *
 * Threads: one call per thread. */
#ifndef CONCORDAT_NODE_QUERY_EXECUTE_H
#define CONCORDAT_NODE_QUERY_EXECUTE_H

#include "node/query/coordinates.h"
#include "store/store.h"

/* ret_sums: query->cells * layout->count entries, cell by cell, zeroed by the caller.
 * Errors: those of store_scan; E_CANCELLED; E_NO_MEMORY. */
MUST_CHECK enum err query_execute(struct store *store, const char *dataset,
                                  const struct proto_query *query,
                                  const struct query_layout *layout, bool (*cancelled)(void *user),
                                  void *user, __int128 *ret_sums, struct err_info *reterr);

#endif
