#include "config.h"
#include "node/query/partial.h"

#include "proto/body.h"

#include <math.h>
#include <stdlib.h>

/* Standard deviations that noise never is away from 0: below 1e-43 each. */
#define SLACK 14
/* A declared size is an order of magnitude; a site with a million times as many units did not mean it. */
#define SIZE_SLACK 1e6

const char *query_fault_name(enum query_fault fault)
{
    static const char *const names[] = {"", "MALFORMED", "OUT_OF_RANGE"};
    return names[fault];
}

/* ---- shape --------------------------------------------------------------------------------- */

static bool noise_fits(const struct query_layout *layout, const struct query_answer *answer)
{
    const struct query_coordinate *coordinates = answer->coordinates.items;
    bool fits = answer->coordinates.count == layout->count;
    for (size_t i = 0; i < layout->count && fits; i++) {
        const struct privacy_coordinate *planned = &layout->coordinates[i];
        fits = coordinates[i].grid_log2 == planned->grid_log2 &&
               coordinates[i].sigma2_num == planned->sigma2_num &&
               coordinates[i].sigma2_den == planned->sigma2_den;
    }
    return fits;
}

static int compare_spans(struct span a, struct span b)
{
    size_t least = a.len < b.len ? a.len : b.len;
    int order = least ? memcmp(a.ptr, b.ptr, least) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_keys(const struct proto_text *a, const struct proto_text *b, size_t groups)
{
    int order = 0;
    for (size_t g = 0; g < groups && order == 0; g++) {
        order = compare_spans(a[g].text, b[g].text);
    }
    return order;
}

/* A declared value; of a private group any. */
static bool is_value(const struct proto_query *query, size_t group, struct span text)
{
    char value[PROTO_SCHEMA_VALUE_SIZE];
    bool found = span_to_cstr(text, value, sizeof value) && !query->group_values[group];
    for (size_t i = 0; query->group_values[group] && i < query->group_sizes[group] && !found; i++) {
        found = span_equal(text, span_str(query->group_values[group][i]));
    }
    return found;
}

/* Each once, ascending, and of public groups only declared values. */
static bool keys_fit(const struct proto_query *query, const struct query_answer *answer)
{
    size_t groups = query->group_count;
    const struct proto_text *keys = answer->keys.items;
    bool fits = answer->cells <= QUERY_CELLS_MAX && answer->keys.count == answer->cells * groups;
    for (size_t i = 0; i < answer->keys.count && fits; i++) {
        fits = is_value(query, i % groups, keys[i].text);
    }
    for (size_t cell = 1; cell < answer->cells && fits; cell++) {
        fits = compare_keys(keys + (cell - 1) * groups, keys + cell * groups, groups) < 0;
    }
    return fits;
}

static bool shape_fits(const struct proto_query *query, const struct query_layout *layout,
                       const struct query_answer *answer)
{
    bool cells = query->keyed ? keys_fit(query, answer)
                              : answer->cells == query->cells && answer->keys.count == 0;
    return cells && answer->values.len == answer->cells * layout->slots * 8 &&
           answer->withheld.len == answer->cells;
}

/* ---- range --------------------------------------------------------------------------------- */

static double value_at(const struct query_layout *layout, const struct query_answer *answer,
                       size_t cell, size_t part, size_t i)
{
    const uint8_t *at = answer->values.ptr + 8 * (cell * layout->slots + layout->offsets[part] + i);
    return privacy_mechanism_value(&layout->coordinates[part], (int64_t)get_be64(at));
}

static double slack_of(const struct query_layout *layout, size_t part)
{
    return SLACK * privacy_mechanism_sigma(&layout->coordinates[part]);
}

static bool is_sum(const struct query_term *term)
{
    return term->part == QUERY_PART_SUM || term->part == QUERY_PART_PRODUCT;
}

/* A cell in the light of its own numbers: how many rows it can have follows from how many units it says it has. */
static bool cell_fits(const struct query_layout *layout, const struct query_answer *answer,
                      size_t cell, double units_most)
{
    double units = value_at(layout, answer, cell, 0, 0) + slack_of(layout, 0);
    double rows = fmin(units, units_most) * layout->bounds.rows_per_cell;
    bool fits = units >= 0 && value_at(layout, answer, cell, 0, 0) <= units_most;
    for (size_t part = 1; part < layout->count && fits; part++) {
        const struct query_term *term = &layout->parts[part];
        const struct privacy_coordinate *coordinate = &layout->coordinates[part];
        double slack = slack_of(layout, part);
        double each =
            is_sum(term) ? ldexp((double)coordinate->sensitivity, coordinate->grid_log2) : 1;
        double total = 0;
        for (size_t i = 0; i < term->width && fits; i++) {
            double value = value_at(layout, answer, cell, part, i);
            total += value;
            fits = is_sum(term) || value >= -slack;
        }
        fits = fits && fabs(total) <= each * rows + slack * sqrt((double)term->width);
    }
    return fits;
}

enum query_fault query_partial_check(const struct proto_query *query,
                                     const struct query_layout *layout, uint64_t size,
                                     const struct query_answer *answer, const char **ret_why)
{
    if (!shape_fits(query, layout, answer)) {
        *ret_why = "the answer does not have the shape of the question";
        return QUERY_FAULT_MALFORMED;
    }
    if (!noise_fits(layout, answer)) {
        *ret_why = "the answer's noise is not what the question asks for";
        return QUERY_FAULT_MALFORMED;
    }
    double most = SIZE_SLACK * (double)(size ? size : 1) + slack_of(layout, 0);
    for (size_t cell = 0; cell < answer->cells; cell++) {
        if (!answer->withheld.ptr[cell] && !cell_fits(layout, answer, cell, most)) {
            *ret_why = "the answer holds numbers that no table could give";
            return QUERY_FAULT_OUT_OF_RANGE;
        }
    }
    return QUERY_FAULT_NONE;
}

/* ---- sums ---------------------------------------------------------------------------------- */

/* Where a site's cell goes. */
struct place {
    const struct proto_text *keys;
    size_t answer;
    size_t cell;
    size_t to;
};

struct adding {
    const struct proto_query *query;
    const struct query_layout *layout;
    const struct query_answer *const *answers;
    struct query_cells *cells;
    size_t *withheld;
};

static void add_cell(struct adding *adding, size_t answer, size_t cell, size_t to)
{
    const struct query_layout *layout = adding->layout;
    const struct query_answer *from = adding->answers[answer];
    if (from->withheld.ptr[cell]) {
        adding->withheld[answer]++;
        return;
    }
    adding->cells->contributors[to]++;
    for (size_t part = 0; part < layout->count; part++) {
        double sigma = privacy_mechanism_sigma(&layout->coordinates[part]);
        double *sums = adding->cells->sums + to * layout->slots + layout->offsets[part];
        adding->cells->variances[to * layout->count + part] += sigma * sigma;
        for (size_t i = 0; i < layout->parts[part].width; i++) {
            sums[i] += value_at(layout, from, cell, part, i);
        }
    }
}

static enum err room(const struct query_layout *layout, size_t count, struct arena *arena,
                     struct query_cells *ret)
{
    *ret = (struct query_cells){
        .count = count,
        .sums = arena_alloc(arena, count * layout->slots + 1, sizeof *ret->sums),
        .variances = arena_alloc(arena, count * layout->count + 1, sizeof *ret->variances),
        .contributors = arena_alloc(arena, count + 1, sizeof *ret->contributors)};
    return ret->sums && ret->variances && ret->contributors ? E_OK : E_NO_MEMORY;
}

/* One place for each cell of each site, and the number of different keys among them. */
static size_t merge(const struct adding *adding, size_t count, struct place *places)
{
    size_t groups = adding->query->group_count;
    size_t total = 0;
    size_t different = 0;
    size_t next[QUERY_SITES_MAX] = {0};
    for (;;) { /* each answer is in ascending order: the least key that is left comes next */
        const struct proto_text *least = NULL;
        for (size_t i = 0; i < count; i++) {
            const struct query_answer *answer = adding->answers[i];
            const struct proto_text *keys = answer->keys.items;
            if (next[i] < answer->cells &&
                (!least || compare_keys(keys + next[i] * groups, least, groups) < 0)) {
                least = keys + next[i] * groups;
            }
        }
        if (!least) {
            return total;
        }
        for (size_t i = 0; i < count; i++) {
            const struct query_answer *answer = adding->answers[i];
            const struct proto_text *keys = answer->keys.items;
            if (next[i] < answer->cells &&
                compare_keys(keys + next[i] * groups, least, groups) == 0) {
                places[total++] = (struct place){least, i, next[i]++, different};
            }
        }
        different++;
    }
}

static enum err keep_keys(const struct place *places, size_t total, size_t groups,
                          struct arena *arena, struct query_cells *cells)
{
    cells->keys = arena_alloc(arena, cells->count * groups + 1, sizeof *cells->keys);
    for (size_t i = 0; cells->keys && i < total; i++) {
        for (size_t g = 0; g < groups && (i == 0 || places[i].to != places[i - 1].to); g++) {
            const char *copy = arena_strdup(arena, places[i].keys[g].text);
            if (!copy) {
                return E_NO_MEMORY;
            }
            cells->keys[places[i].to * groups + g] = copy;
        }
    }
    return cells->keys ? E_OK : E_NO_MEMORY;
}

static enum err add_keyed(struct adding *adding, size_t count, struct arena *arena)
{
    size_t most = 0;
    for (size_t i = 0; i < count; i++) {
        most += adding->answers[i]->cells;
    }
    struct place *places = proto_alloc(most + 1, sizeof *places);
    if (!places) {
        return E_NO_MEMORY;
    }
    size_t total = merge(adding, count, places);
    size_t different = total ? places[total - 1].to + 1 : 0;
    enum err err = different > QUERY_CELLS_MAX
                       ? E_LIMIT
                       : room(adding->layout, different, arena, adding->cells);
    err = err ? err : keep_keys(places, total, adding->query->group_count, arena, adding->cells);
    for (size_t i = 0; i < total && !err; i++) {
        add_cell(adding, places[i].answer, places[i].cell, places[i].to);
    }
    proto_free(places);
    return err;
}

enum err query_partial_add(const struct proto_query *query, const struct query_layout *layout,
                           const struct query_answer *const *answers, size_t count,
                           struct arena *arena, struct query_cells *ret, size_t *withheld)
{
    struct adding adding = {query, layout, answers, ret, withheld};
    if (count > QUERY_SITES_MAX) {
        return E_LIMIT;
    }
    if (query->keyed) {
        return add_keyed(&adding, count, arena);
    }
    enum err err = room(layout, query->cells, arena, ret);
    for (size_t i = 0; i < count && !err; i++) {
        for (size_t cell = 0; cell < query->cells; cell++) {
            add_cell(&adding, i, cell, cell);
        }
    }
    return err;
}
