#include "config.h"
#include "node/query/coordinates.h"

#include "node/query/share.h"
#include "node/query/tree.h"

#include <math.h>

/* Classes below a quantile of a real column; the declared range is cut that fine unless many cells leave no room. */
#define LEAVES_REAL 4096
/* Numbers in one answer. */
#define SLOTS_MAX 65536
/* Fewer time bins than this need no levels above them. */
#define TIMES_FLAT 8

/* ---- terms --------------------------------------------------------------------------------- */

/* What one row can add at most, which is the coordinate's bound. */
static double term_bound(const struct query_term *term)
{
    double reach = fmax(fabs(term->low - term->centre), fabs(term->high - term->centre));
    if (term->part == QUERY_PART_PRODUCT) {
        /* Of a square in [0, h^2] less its middle half of it remains; a product lies within -+ h1 h2. */
        reach *= fmax(fabs(term->factor_low - term->factor_centre),
                      fabs(term->factor_high - term->factor_centre));
        reach = term->shift > 0 ? fmax(term->shift, reach - term->shift) : reach;
    }
    return reach > 0 ? reach : 1; /* a column of one possible value: any positive bound is right */
}

static bool terms_equal(const struct query_term *a, const struct query_term *b)
{
    return a->part == b->part && a->column == b->column && a->factor == b->factor &&
           a->need_count == b->need_count &&
           memcmp(a->needs, b->needs, a->need_count * sizeof *a->needs) == 0 &&
           a->centre == b->centre && a->factor_centre == b->factor_centre && a->bins == b->bins &&
           a->leaf == b->leaf && a->span == b->span;
}

/* The index of TERM, which is added when it is new. */
static enum err need_term(struct query_layout *layout, const struct query_term *term,
                          uint8_t *ret_index, struct err_info *reterr)
{
    for (size_t i = 0; i < layout->count; i++) {
        if (terms_equal(&layout->parts[i], term)) {
            *ret_index = (uint8_t)i;
            return E_OK;
        }
    }
    if (layout->count == QUERY_COORDINATES_MAX) {
        return proto_err_set(reterr, E_LIMIT, "the query asks for more than %d sums at once",
                             QUERY_COORDINATES_MAX);
    }
    size_t i = layout->count++;
    layout->parts[i] = *term;
    layout->coordinates[i] =
        (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 1, .integer = true};
    if (term->part == QUERY_PART_UNITS) {
        layout->coordinates[i].kind = PRIVACY_UNITS;
    } else if (term->part == QUERY_PART_SUM || term->part == QUERY_PART_PRODUCT) {
        layout->coordinates[i].bound = term_bound(term);
        layout->coordinates[i].integer = false;
    }
    layout->offsets[i] = layout->slots;
    layout->slots += term->width;
    *ret_index = (uint8_t)i;
    return E_OK;
}

static const struct query_term blank = {
    .column = -1, .factor = -1, .high = 1, .width = 1, .leaf = SIZE_MAX};

static enum err need_count(struct query_layout *layout, enum query_part part, uint8_t *ret_index,
                           struct err_info *reterr)
{
    struct query_term term = blank;
    term.part = part;
    return need_term(layout, &term, ret_index, reterr);
}

/* ---- sums and products --------------------------------------------------------------------- */

/* An aggregate's columns as they enter sums: all of them must have a value. */
struct operands {
    const struct proto_query_item *item;
    double centre[PROTO_QUERY_ARGUMENTS_MAX];
};

static double middle(double low, double high)
{
    return low + (high - low) / 2;
}

static struct operands centred(const struct proto_query_item *item)
{
    struct operands of = {.item = item};
    for (size_t i = 0; i < item->argument_count; i++) {
        of.centre[i] = middle(item->arguments[i].min, item->arguments[i].max);
    }
    return of;
}

static void set_needs(struct query_term *term, const struct proto_query_item *item)
{
    for (size_t i = 0; i < item->argument_count; i++) { /* by insertion; there are at most nine */
        size_t at = term->need_count++;
        for (; at > 0 && term->needs[at - 1] > item->arguments[i].column; at--) {
            term->needs[at] = term->needs[at - 1];
        }
        term->needs[at] = item->arguments[i].column;
    }
}

static enum err need_values(struct query_layout *layout, const struct proto_query_item *item,
                            uint8_t *ret_index, struct err_info *reterr)
{
    struct query_term term = blank;
    term.part = QUERY_PART_VALUES;
    set_needs(&term, item);
    return need_term(layout, &term, ret_index, reterr);
}

static enum err need_sum(struct query_layout *layout, const struct operands *of, size_t i,
                         uint8_t *ret_index, struct err_info *reterr)
{
    const struct proto_query_argument *x = &of->item->arguments[i];
    struct query_term term = blank;
    term.part = QUERY_PART_SUM;
    term.column = x->column;
    term.centre = of->centre[i];
    term.low = x->min;
    term.high = x->max;
    set_needs(&term, of->item);
    return need_term(layout, &term, ret_index, reterr);
}

static enum err need_product(struct query_layout *layout, const struct operands *of, size_t i,
                             size_t j, uint8_t *ret_index, struct err_info *reterr)
{
    /* The same whichever is named first. */
    bool swap = of->item->arguments[i].column > of->item->arguments[j].column;
    const struct proto_query_argument *x = &of->item->arguments[swap ? j : i];
    const struct proto_query_argument *y = &of->item->arguments[swap ? i : j];
    struct query_term term = blank;
    term.part = QUERY_PART_PRODUCT;
    term.column = x->column;
    term.factor = y->column;
    term.centre = of->centre[swap ? j : i];
    term.low = x->min;
    term.high = x->max;
    term.factor_centre = of->centre[swap ? i : j];
    term.factor_low = y->min;
    term.factor_high = y->max;
    if (i == j) {
        double reach = fmax(fabs(term.low - term.centre), fabs(term.high - term.centre));
        term.shift = reach * reach / 2;
    }
    set_needs(&term, of->item);
    return need_term(layout, &term, ret_index, reterr);
}

/* A mean or a variance of the column is asked: its sum is centred, also for those who want the plain one. */
static bool centre_asked(const struct proto_query *query, int column)
{
    for (size_t i = 0; i < query->item_count; i++) {
        enum proto_aggregate kind = query->items[i].kind;
        if ((kind == PROTO_AGG_AVG || kind == PROTO_AGG_VAR || kind == PROTO_AGG_STDDEV) &&
            query->items[i].arguments[0].column == column) {
            return true;
        }
    }
    return false;
}

static enum err plan_moments(const struct proto_query *query, size_t item,
                             struct query_layout *layout, struct err_info *reterr)
{
    const struct proto_query_item *asked = &query->items[item];
    struct query_reads *reads = &layout->reads[item];
    bool centre = centre_asked(query, asked->arguments[0].column);
    struct operands of = {.item = asked};
    if (centre) {
        of = centred(asked);
    }
    enum err err = E_OK;
    if (asked->kind != PROTO_AGG_SUM || centre) {
        err = need_values(layout, asked, &reads->values, reterr);
    }
    if (!err && asked->kind != PROTO_AGG_COUNT) {
        err = need_sum(layout, &of, 0, &reads->sums[0], reterr);
    }
    if (!err && (asked->kind == PROTO_AGG_VAR || asked->kind == PROTO_AGG_STDDEV)) {
        err = need_product(layout, &of, 0, 0, &reads->products[0][0], reterr);
    }
    return err;
}

/* All first and second moments of the item's columns: CORR and LINREG. */
static enum err plan_moments_of_all(const struct proto_query_item *asked,
                                    struct query_layout *layout, struct query_reads *reads,
                                    struct err_info *reterr)
{
    const struct operands of = centred(asked);
    enum err err = need_values(layout, asked, &reads->values, reterr);
    for (size_t i = 0; i < asked->argument_count && !err; i++) {
        err = need_sum(layout, &of, i, &reads->sums[i], reterr);
    }
    for (size_t i = 0; i < asked->argument_count && !err; i++) {
        for (size_t j = i; j < asked->argument_count && !err; j++) {
            err = need_product(layout, &of, i, j, &reads->products[i][j], reterr);
        }
    }
    return err;
}

/* ---- classes ------------------------------------------------------------------------------- */

double query_term_edge(const struct query_term *term, size_t i)
{
    double width = term->top - term->low;
    if (i >= term->bins) {
        return term->top;
    }
    /* Classes of width one are whole numbers, exactly. */
    return term->low +
           (width == (double)term->bins ? (double)i : width * ((double)i / (double)term->bins));
}

size_t query_term_class(const struct query_term *term, double value)
{
    double at = (value - term->low) / (term->top - term->low) * (double)term->bins;
    size_t i = at > 0 ? (size_t)fmin(at, (double)term->bins - 1) : 0;
    /* The division may be off by one step in the last place; the printed edges decide. */
    while (i > 0 && value < query_term_edge(term, i)) {
        i--;
    }
    while (i + 1 < term->bins && value >= query_term_edge(term, i + 1)) {
        i++;
    }
    return i;
}

static struct query_term classes_of(const struct proto_query_item *asked, size_t bins)
{
    const struct proto_query_argument *x = &asked->arguments[0];
    struct query_term term = blank;
    term.part = QUERY_PART_BINS;
    term.column = x->column;
    term.low = x->min;
    term.high = x->max;
    term.top = x->max > x->min ? x->max : x->min + 1;
    term.bins = term.width = bins;
    set_needs(&term, asked);
    return term;
}

/* What one tree may take of a cell's numbers and of the parts, when TREES of them share the answer with single numbers. */
struct room {
    size_t slots;
    size_t parts;
};

static struct room room_of(const struct proto_query *query, size_t trees)
{
    size_t each = SLOTS_MAX / query->cells;
    size_t singles = each / 4 < QUERY_COORDINATES_MAX ? each / 4 : QUERY_COORDINATES_MAX;
    return (struct room){(each - singles) / trees, (QUERY_COORDINATES_MAX - 16) / trees};
}

/* Adds the levels over LEAVES, coarsest first, then the leaves themselves: the parts of one tree are neighbours. */
static enum err plan_levels(const struct query_term *leaves, const struct room *room,
                            struct query_layout *layout, struct query_reads *reads,
                            struct err_info *reterr)
{
    size_t halves = leaves->factor >= 0 ? 2 : 1;
    for (size_t i = 0; i < layout->count; i++) { /* the tree may be there for another quantile */
        if (terms_equal(&layout->parts[i], leaves)) {
            size_t height = 1;
            while (height <= i && layout->parts[i - height].part == QUERY_PART_LEVEL &&
                   layout->parts[i - height].leaf == i) {
                height++;
            }
            reads->levels = (uint8_t)(i - height + 1);
            reads->height = (uint8_t)height;
            return E_OK;
        }
    }
    struct query_tree_shape shape;
    size_t flat = halves == 2 ? TIMES_FLAT : 2;
    if (!query_tree_shape(leaves->bins, flat, room->slots / halves, room->parts, &shape)) {
        return proto_err_set(reterr, E_LIMIT, "the query asks for more than one answer may hold");
    }
    size_t leaf = layout->count + shape.height - 1;
    enum err err = E_OK;
    for (size_t level = 0; level < shape.height && !err; level++) {
        struct query_term term = *leaves;
        uint8_t index;
        if (level + 1 < shape.height) {
            term.part = QUERY_PART_LEVEL;
            term.leaf = leaf;
            term.span = shape.spans[level];
            term.width = halves * shape.sizes[level];
        }
        err = need_term(layout, &term, &index, reterr);
        reads->levels = level ? reads->levels : index;
    }
    reads->height = (uint8_t)shape.height;
    return err;
}

/* How fine a quantile's column is cut: each whole number on its own where they are few enough. */
static struct query_term leaves_of(const struct proto_query *query,
                                   const struct proto_query_item *asked, size_t most)
{
    const struct proto_query_argument *x = &asked->arguments[0];
    const struct proto_column *column = &query->schema->columns[x->column];
    double whole = x->max - x->min + 1;
    if (column->type != PROTO_COLUMN_REAL && floor(x->min) == x->min && floor(x->max) == x->max &&
        whole <= (double)(most < QUERY_LEAVES_MAX ? most : QUERY_LEAVES_MAX)) {
        struct query_term term = classes_of(asked, (size_t)whole);
        term.top = x->max + 1;
        return term;
    }
    size_t bins = LEAVES_REAL;
    while (bins > most && bins > 1) {
        bins /= 2;
    }
    return classes_of(asked, bins);
}

/* Columns of which quantiles are asked. */
static size_t trees_of(const struct proto_query *query)
{
    size_t trees = 0;
    for (size_t i = 0; i < query->item_count; i++) {
        bool first = proto_aggregate_is_quantile(query->items[i].kind);
        for (size_t j = 0; j < i && first; j++) {
            first = !proto_aggregate_is_quantile(query->items[j].kind) ||
                    query->items[j].arguments[0].column != query->items[i].arguments[0].column;
        }
        trees += first;
    }
    return trees;
}

static enum err plan_quantile(const struct proto_query *query, size_t item,
                              struct query_layout *layout, struct err_info *reterr)
{
    const struct proto_query_item *asked = &query->items[item];
    struct room room = room_of(query, trees_of(query));
    /* With four children to a node a tree has a third more numbers than leaves. */
    size_t most = room.slots * 3 / 4;
    if (most < 4) {
        return proto_err_set(reterr, E_LIMIT, "%zu cells leave no room for quantiles",
                             query->cells);
    }
    const struct query_term leaves = leaves_of(query, asked, most);
    return plan_levels(&leaves, &room, layout, &layout->reads[item], reterr);
}

static enum err plan_survival(const struct proto_query *query, size_t item,
                              struct query_layout *layout, struct err_info *reterr)
{
    const struct proto_query_item *asked = &query->items[item];
    struct query_term leaves = classes_of(asked, (size_t)asked->number);
    leaves.factor = asked->arguments[1].column;
    leaves.width = 2 * leaves.bins;
    const struct room room = room_of(query, 1);
    return plan_levels(&leaves, &room, layout, &layout->reads[item], reterr);
}

/* ---- the whole ----------------------------------------------------------------------------- */

static enum err plan_item(const struct proto_query *query, size_t item, struct query_layout *layout,
                          struct err_info *reterr)
{
    const struct proto_query_item *asked = &query->items[item];
    struct query_reads *reads = &layout->reads[item];
    memset(reads, QUERY_NO_PART, sizeof *reads);
    switch (asked->kind) {
    case PROTO_AGG_COUNT:
    case PROTO_AGG_SUM:
    case PROTO_AGG_AVG:
    case PROTO_AGG_VAR:
    case PROTO_AGG_STDDEV:
        return plan_moments(query, item, layout, reterr);
    case PROTO_AGG_CORR:
    case PROTO_AGG_LINREG:
        return plan_moments_of_all(asked, layout, reads, reterr);
    case PROTO_AGG_MIN:
    case PROTO_AGG_MAX:
    case PROTO_AGG_QUANTILE:
        return plan_quantile(query, item, layout, reterr);
    case PROTO_AGG_SURVIVAL:
        return plan_survival(query, item, layout, reterr);
    case PROTO_AGG_HISTOGRAM: {
        const struct query_term classes = classes_of(asked, (size_t)asked->number);
        reads->height = 1;
        return need_term(layout, &classes, &reads->levels, reterr);
    }
    default: /* units, rows and groups */
        return E_OK;
    }
}

static uint32_t least(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}

/* m, l and g of the mechanism's proof. A survival time belongs to a person: one row of each counts. */
static struct privacy_bounds bounds_of(const struct proto_query *query,
                                       const struct query_limits *limits)
{
    uint32_t declared = query->schema->max_rows_per_unit;
    bool survival = query->table >= 0 && query->items[query->table].kind == PROTO_AGG_SURVIVAL;
    uint32_t rows = survival ? 1 : declared;
    rows = limits->rows ? least(limits->rows, rows) : rows;
    uint64_t groups = query->keyed ? UINT32_MAX : query->cells;
    groups = limits->groups ? least(limits->groups, groups) : groups;
    uint32_t all = least(survival ? 1 : declared, groups * rows);
    return (struct privacy_bounds){
        .rows = all, .rows_per_cell = least(rows, all), .cells = least(groups, all)};
}

enum err query_layout_plan(const struct proto_query *query, const struct query_limits *limits,
                           struct query_layout *ret, struct err_info *reterr)
{
    memset(ret, 0, sizeof *ret);
    ret->bounds = bounds_of(query, limits);
    ret->thresholds = query->keyed;
    ret->nodes = query->schema->max_nodes_per_unit > 1 ? query->schema->max_nodes_per_unit : 1;
    uint8_t index = 0;
    enum err err = need_count(
        ret, ret->bounds.rows_per_cell <= 1 ? QUERY_PART_ROWS : QUERY_PART_UNITS, &index, reterr);
    for (size_t i = 0; !err && i < query->item_count; i++) {
        if (query->items[i].kind == PROTO_AGG_COUNT_ROWS) {
            err = need_count(ret, QUERY_PART_ROWS, &index, reterr);
            ret->rows_part = index;
        }
        if (!err) {
            err = plan_item(query, i, ret, reterr);
        }
    }
    if (!err && query->cells * ret->slots > SLOTS_MAX) {
        err = proto_err_set(reterr, E_LIMIT,
                            "%zu cells of %zu numbers each are more than one answer may hold",
                            query->cells, ret->slots);
    }
    return err ? err : query_share(query, ret);
}

enum err query_layout_noise(struct query_layout *layout, uint64_t nano, struct err_info *reterr)
{
    return privacy_mechanism_plan_bounded(nano / layout->nodes, &layout->bounds,
                                          layout->coordinates, layout->count, reterr);
}
