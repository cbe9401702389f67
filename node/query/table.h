/* An answer as people read it: named columns and rows of values with margins.
 *
 * A row for each cell; of HISTOGRAM (low, high, count), SURVIVAL (time, at_risk, survival, lower, upper) and LINREG (term,
 * coefficient, std_error) as many as the aggregate has, behind the cell's group columns. What is withheld is unknown in
 * every row of its cell.
 *
 * Threads: pure. Memory: everything belongs to the arena, but texts of groups, which are the query's or the cells'. */
#ifndef CONCORDAT_NODE_QUERY_TABLE_H
#define CONCORDAT_NODE_QUERY_TABLE_H

#include "node/query/estimate.h"
#include "node/query/survival.h"
#include "proto/alloc.h"

/* Sums over sites of every cell. */
struct query_cells {
    size_t count;
    double *sums;         /* by cell: layout->slots */
    double *variances;    /* by cell: layout->count */
    size_t *contributors; /* by cell: sites that did not withhold it */
    const char **keys;    /* by cell: the query's group columns; NULL: the query's own cells */
};

struct query_value {
    const char *text; /* NULL: a number */
    struct query_estimate number;
};

struct query_table {
    const char **columns;
    size_t column_count;
    struct query_value *values; /* row by row */
    size_t row_count;
    struct query_logrank logrank; /* of SURVIVAL with groups */
    double deviation;             /* of LINREG's residuals without groups; else NaN */
    double rows;                  /* that LINREG used; NaN */
};

/* Errors: E_NO_MEMORY. */
MUST_CHECK enum err query_table_make(const struct proto_query *query,
                                     const struct query_layout *layout,
                                     const struct query_cells *cells, struct arena *arena,
                                     struct query_table *ret);

/* The columns alone, before there are rows. Errors: E_NO_MEMORY. */
MUST_CHECK enum err query_table_columns(const struct proto_query *query, struct arena *arena,
                                        struct query_table *ret);

/* What --explain shows of one number: its expected margin for ROWS rows, and for a tenth of them. */
struct query_expected {
    const char *column;
    double margin;
    double margin_tenth;
    double
        scale; /* what a relative error is relative to: all rows of a count, the largest sum, the width of a column's bounds */
};
/* Errors: E_NO_MEMORY. */
MUST_CHECK enum err query_table_expected(const struct proto_query *query,
                                         const struct query_layout *layout, double rows,
                                         size_t sites, struct arena *arena,
                                         struct query_expected **ret, size_t *ret_count);

#endif
