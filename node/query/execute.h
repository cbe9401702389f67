/* From a bound query and a partition to exact integer sums per cell, with each unit's contribution bounded.
 *
 * Of each unit rows are kept within the layout's bounds (in all, in a group, and groups), chosen by keyed hashes
 * (node/query/bound). So which rows of a unit are kept does not depend on other units.
 * Values are snapped to the coordinate's grid one by one and added as integers: the order of rows cannot matter.
 * A row whose group column has no value belongs to no cell. What is returned is private; only privacy_mechanism may see it.
 *
 * Threads: one call per thread. */
#ifndef CONCORDAT_NODE_QUERY_EXECUTE_H
#define CONCORDAT_NODE_QUERY_EXECUTE_H

#include "node/query/coordinates.h"
#include "store/store.h"

/* Cells of a query with private groups that one site can keep apart: where the values of its groups could be combined in more ways
 * than QUERY_KEYS_DENSE, these are combinations that rows have. Whether it has more tells that site's operator alone: others see a
 * site that cannot answer. */
#define QUERY_KEYS_MAX   ((size_t)1 << 22)
#define QUERY_KEYS_DENSE ((size_t)1 << 16)

struct query_sums {
    size_t cells;
    uint64_t *
        keys; /* by cell, ascending: its combination of values; NULL: the cell's own number is it */
    size_t slots;
    __int128 *sums; /* by cell: layout->slots */
    size_t
        sizes[PROTO_QUERY_GROUPS_MAX]; /* of combinations; the last group column varies fastest */
    const char **values[PROTO_QUERY_GROUPS_MAX]; /* of a private group: its texts; else NULL */
    struct arena arena;
};

/* Errors: those of store_scan; E_CANCELLED; E_LIMIT; E_NO_MEMORY. RET is freed by query_sums_fini, which wipes it. */
MUST_CHECK enum err query_execute(struct store *store, const char *dataset,
                                  const struct proto_query *query,
                                  const struct query_layout *layout, bool (*cancelled)(void *user),
                                  void *user, struct query_sums *ret, struct err_info *reterr);
void query_sums_fini(struct query_sums *sums);

#endif
