/* For tests of the asking side: a planned question, and the sums that rows in memory give for it, part by part from the
 * definitions in node/query/coordinates.h. */
#ifndef CONCORDAT_TESTS_UNIT_NODE_ANSWERING_H
#define CONCORDAT_TESTS_UNIT_NODE_ANSWERING_H

#include <math.h>
#include <string.h>

#include "node/query/estimate.h"
#include "proto/sql.h"

struct planned {
    struct proto_query query;
    struct query_layout layout;
};

static inline void planned_make(struct planned *to, const struct proto_schema *schema,
                                const char *sql, double rho)
{
    struct err_info info = {0};
    memset(to, 0, sizeof *to);
    if (proto_sql_parse(sql, &to->query, &info) || proto_query_bind(&to->query, schema, &info) ||
        query_layout_plan(&to->query, &(struct query_limits){0, 0}, &to->layout, &info) ||
        privacy_mechanism_plan_bounded((uint64_t)(rho * 1e9), &to->layout.bounds,
                                       to->layout.coordinates, to->layout.count, &info)) {
        fail_msg("%s: %s", sql, info.text);
    }
}

/* Adds one row that is a unit of its own to the numbers of its cell. ROW: by column; NaN: missing. */
static inline void planned_add(const struct planned *planned, const double *row, double *sums)
{
    const struct query_layout *layout = &planned->layout;
    for (size_t part = 0; part < layout->count; part++) {
        const struct query_term *term = &layout->parts[part];
        const struct query_term *classes =
            term->part == QUERY_PART_LEVEL ? &layout->parts[term->leaf] : term;
        double *to = sums + layout->offsets[part];
        bool missing = false;
        for (size_t i = 0; i < term->need_count; i++) {
            missing = missing || isnan(row[term->needs[i]]);
        }
        if (missing) {
            continue;
        }
        if (term->part == QUERY_PART_SUM) {
            *to += row[term->column] - term->centre;
        } else if (term->part == QUERY_PART_PRODUCT) {
            *to += (row[term->column] - term->centre) * (row[term->factor] - term->factor_centre) -
                   term->shift;
        } else if (term->part == QUERY_PART_BINS || term->part == QUERY_PART_LEVEL) {
            size_t half = classes->factor >= 0 && row[classes->factor] == 0;
            size_t size = term->width / (classes->factor >= 0 ? 2 : 1);
            size_t class = 0;
            while (class + 1 < classes->bins &&
                   row[classes->column] >= query_term_edge(classes, class + 1)) {
                class ++;
            }
            to[half * size + class / (term->span ? term->span : 1)] += 1;
        } else {
            *to += 1;
        }
    }
}

/* Variances of the planned noise. */
static inline void planned_noise(const struct planned *planned, double *variances)
{
    for (size_t part = 0; part < planned->layout.count; part++) {
        double sigma = privacy_mechanism_sigma(&planned->layout.coordinates[part]);
        variances[part] = sigma * sigma;
    }
}

#endif
