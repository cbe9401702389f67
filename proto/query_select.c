/* The select list and its groups: names to columns, types and bounds, one row of a table for each aggregate. */
#include "config.h"
#include "proto/query_binder.h"

#include <math.h>
#include <stdio.h>

#include "proto/licence.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* ---- groups -------------------------------------------------------------------------------- */

/* A declared range of whole numbers is as public as a list of categories. */
static const char *const *numbers_of(struct proto_binder *binder, const struct proto_column *column,
                                     size_t at, size_t *ret_count)
{
    double count = column->max - column->min + 1;
    if (!column->has_bounds || floor(column->min) != column->min ||
        floor(column->max) != column->max || count > PROTO_SCHEMA_VALUES_MAX) {
        return proto_binder_fail(
            binder, E_UNSUPPORTED, at,
            "'%s' has no declared range of at most %d whole numbers to group by", column->name,
            PROTO_SCHEMA_VALUES_MAX);
    }
    *ret_count = (size_t)count;
    const char **values = arena_alloc(binder->arena, *ret_count, sizeof *values);
    bool kept = values;
    for (size_t i = 0; kept && i < *ret_count; i++) {
        char text[32];
        proto_binder_number(column->min + (double)i, text);
        values[i] = arena_strdup(binder->arena, span_str(text));
        kept = values[i];
    }
    return kept ? values : proto_binder_fail(binder, E_NO_MEMORY, 1, "no memory for the query");
}

static const char *const *values_of(struct proto_binder *binder, const struct proto_column *column,
                                    size_t at, size_t *ret_count)
{
    static const char *const booleans[] = {"false", "true"};
    switch (column->type) {
    case PROTO_COLUMN_BOOLEAN:
        *ret_count = 2;
        return booleans;
    case PROTO_COLUMN_CATEGORY:
        *ret_count = column->value_count;
        return column->values;
    case PROTO_COLUMN_INTEGER:
        return numbers_of(binder, column, at, ret_count);
    default:
        return proto_binder_fail(
            binder, E_UNSUPPORTED, at,
            "'%s' is %s; this version groups by categories, booleans and whole numbers in a range",
            column->name, proto_column_type_name(column->type));
    }
}

static void bind_group(struct proto_binder *binder, size_t i)
{
    struct proto_query *query = binder->query;
    size_t at = query->group_at[i];
    int index = proto_binder_usable(binder, query->group_names[i], at);
    if (index < 0) {
        return;
    }
    const struct proto_column *column = &binder->schema->columns[index];
    query->group_columns[i] = index;
    if (column->values_private) { /* its values come with the answers */
        query->keyed = true;
        query->group_sizes[i] = 1;
        return;
    }
    query->group_values[i] = values_of(binder, column, at, &query->group_sizes[i]);
    if (!query->group_values[i]) {
        return;
    }
    query->cells *= query->group_sizes[i]; /* at most 4096 * 1024 before the check */
    if (query->cells > PROTO_QUERY_CELLS_MAX) {
        proto_binder_fail(binder, E_LIMIT, at, "GROUP BY makes more than %d cells",
                          PROTO_QUERY_CELLS_MAX);
    }
}

void proto_binder_groups(struct proto_binder *binder)
{
    binder->query->cells = 1;
    binder->query->keyed = false;
    for (size_t i = 0; i < binder->query->group_count && !binder->err; i++) {
        bind_group(binder, i);
    }
}

static void bind_group_item(struct proto_binder *binder, struct proto_query_item *item)
{
    const struct proto_query *query = binder->query;
    for (size_t i = 0; i < query->group_count; i++) {
        if (strcmp(query->group_names[i], item->arguments[0].name) == 0) {
            item->group = (int)i;
            item->arguments[0].column = query->group_columns[i];
        }
    }
}

/* ---- aggregates ---------------------------------------------------------------------------- */

/* Where no column is called so, the word unit stands for the privacy unit, whatever each dataset calls
 * it. The canonical form has the column's own name. */
static void name_unit(const struct proto_schema *schema, struct proto_query_argument *argument)
{
    if (schema->unit[0] && strcmp(argument->name, "unit") == 0 &&
        proto_schema_find(schema, argument->name) < 0) {
        snprintf(argument->name, sizeof argument->name, "%s", schema->unit);
    }
}

static void bind_units(struct proto_binder *binder, struct proto_query_item *item)
{
    const struct proto_schema *schema = binder->schema;
    struct proto_query_argument *argument = &item->arguments[0];
    if (!schema->unit[0] && strcmp(argument->name, "unit") == 0 &&
        proto_schema_find(schema, "unit") < 0) {
        item->kind = PROTO_AGG_COUNT_ROWS; /* each row is a unit */
        item->argument_count = 0;
        return;
    }
    name_unit(schema, argument);
    if (!schema->unit[0] && proto_schema_find(schema, argument->name) >= 0) {
        proto_binder_fail(binder, E_UNSUPPORTED, argument->at,
                          "DISTINCT counts privacy units, and the manifest names no unit column: "
                          "each row is a unit here, so write COUNT(*)");
        return;
    }
    int column = proto_binder_column(binder, argument->name, argument->at);
    if (column >= 0 && !proto_binder_is_unit(binder, column)) {
        proto_binder_fail(binder, E_UNSUPPORTED, item->at,
                          "DISTINCT counts the privacy unit only: COUNT(DISTINCT %s)",
                          schema->unit);
    }
    argument->column = column;
}

/* What a column must be for an argument. */
enum need {
    NEED_VALUE,  /* anything that may be counted */
    NEED_NUMBER, /* between declared bounds; a boolean is 0 or 1 */
    NEED_ORDER,  /* the same, or a date between declared bounds */
    NEED_EVENT,  /* a boolean, or an integer from 0 to 1 */
};

static const char *type_of(const struct proto_column *column)
{
    return proto_column_type_name(column->type);
}

static void bind_argument(struct proto_binder *binder, const struct proto_query_item *item,
                          enum need need, struct proto_query_argument *argument)
{
    argument->column = proto_binder_usable(binder, argument->name, argument->at);
    if (argument->column < 0 || need == NEED_VALUE) {
        return;
    }
    const char *what = proto_aggregate_name(item->kind);
    const struct proto_column *column = &binder->schema->columns[argument->column];
    bool boolean = column->type == PROTO_COLUMN_BOOLEAN;
    argument->min = 0;
    argument->max = 1;
    if (need == NEED_EVENT) {
        bool bit = column->type == PROTO_COLUMN_INTEGER && column->has_bounds && column->min == 0 &&
                   column->max == 1;
        if (!boolean && !bit) {
            proto_binder_fail(binder, E_QUERY, argument->at,
                              "the event of %s must be a boolean, and '%s' is %s", what,
                              column->name, type_of(column));
        }
        return;
    }
    bool number = column->type == PROTO_COLUMN_INTEGER || column->type == PROTO_COLUMN_REAL ||
                  (need == NEED_ORDER && column->type == PROTO_COLUMN_DATE);
    if (boolean) {
        return;
    }
    if (!number) {
        proto_binder_fail(binder, E_QUERY, argument->at, "%s needs numbers, and '%s' is %s", what,
                          column->name, type_of(column));
    } else if (!column->has_bounds) {
        proto_binder_fail(binder, E_UNSUPPORTED, argument->at,
                          "%s needs declared bounds, and the manifest gives '%s' no min and max",
                          what, column->name);
    } else {
        argument->min = column->min;
        argument->max = column->max;
    }
}

static void distinct_arguments(struct proto_binder *binder, const struct proto_query_item *item)
{
    for (size_t i = 1; i < item->argument_count; i++) {
        for (size_t j = 0; j < i && !binder->err; j++) {
            if (item->arguments[i].column == item->arguments[j].column) {
                proto_binder_fail(binder, E_QUERY, item->arguments[i].at,
                                  "%s needs different columns", proto_aggregate_name(item->kind));
            }
        }
    }
}

static void whole_number(struct proto_binder *binder, const struct proto_query_item *item, int max)
{
    if (!(item->number >= 1 && item->number <= max && floor(item->number) == item->number)) {
        proto_binder_fail(binder, E_QUERY, item->at, "%s takes a whole number of bins from 1 to %d",
                          proto_aggregate_name(item->kind), max);
    }
}

/* One row for each aggregate: what its columns must be, which permission it needs, and whether its answer is rows of its
 * own. */
static const struct {
    enum proto_aggregate kind;
    enum need need[2]; /* of the first column, and of the others */
    enum proto_action action;
    bool table;
} rules[] = {
    {PROTO_AGG_COUNT_ROWS, {NEED_VALUE, NEED_VALUE}, PROTO_ACTION_COUNT, false},
    {PROTO_AGG_COUNT_UNITS, {NEED_VALUE, NEED_VALUE}, PROTO_ACTION_COUNT, false},
    {PROTO_AGG_COUNT, {NEED_VALUE, NEED_VALUE}, PROTO_ACTION_COUNT, false},
    {PROTO_AGG_SUM, {NEED_NUMBER, NEED_NUMBER}, PROTO_ACTION_SUM, false},
    {PROTO_AGG_AVG, {NEED_NUMBER, NEED_NUMBER}, PROTO_ACTION_MEAN, false},
    {PROTO_AGG_VAR, {NEED_NUMBER, NEED_NUMBER}, PROTO_ACTION_VARIANCE, false},
    {PROTO_AGG_STDDEV, {NEED_NUMBER, NEED_NUMBER}, PROTO_ACTION_VARIANCE, false},
    {PROTO_AGG_CORR, {NEED_NUMBER, NEED_NUMBER}, PROTO_ACTION_REGRESSION, false},
    {PROTO_AGG_MIN, {NEED_ORDER, NEED_ORDER}, PROTO_ACTION_QUANTILE, false},
    {PROTO_AGG_MAX, {NEED_ORDER, NEED_ORDER}, PROTO_ACTION_QUANTILE, false},
    {PROTO_AGG_MEDIAN, {NEED_ORDER, NEED_ORDER}, PROTO_ACTION_QUANTILE, false},
    {PROTO_AGG_QUANTILE, {NEED_ORDER, NEED_ORDER}, PROTO_ACTION_QUANTILE, false},
    {PROTO_AGG_HISTOGRAM, {NEED_NUMBER, NEED_NUMBER}, PROTO_ACTION_HISTOGRAM, true},
    {PROTO_AGG_LINREG, {NEED_NUMBER, NEED_NUMBER}, PROTO_ACTION_REGRESSION, true},
    {PROTO_AGG_SURVIVAL, {NEED_NUMBER, NEED_EVENT}, PROTO_ACTION_SURVIVAL, true},
};

bool proto_aggregate_is_table(enum proto_aggregate kind)
{
    for (size_t i = 0; i < COUNT_OF(rules); i++) {
        if (rules[i].kind == kind) {
            return rules[i].table;
        }
    }
    return false;
}

bool proto_aggregate_is_quantile(enum proto_aggregate kind)
{
    return kind == PROTO_AGG_MIN || kind == PROTO_AGG_MAX || kind == PROTO_AGG_MEDIAN ||
           kind == PROTO_AGG_QUANTILE;
}

/* What depends on the number behind the columns. The ends and the middle have names of their own. */
static void bind_number(struct proto_binder *binder, struct proto_query_item *item)
{
    switch (item->kind) {
    case PROTO_AGG_QUANTILE:
        if (!(item->number >= 0 && item->number <= 1)) {
            proto_binder_fail(binder, E_QUERY, item->at,
                              "QUANTILE(column, q) takes a q from 0 to 1");
        }
        item->kind = item->number == 0   ? PROTO_AGG_MIN
                     : item->number == 1 ? PROTO_AGG_MAX
                                         : PROTO_AGG_QUANTILE;
        return;
    case PROTO_AGG_MEDIAN:
        item->kind = PROTO_AGG_QUANTILE;
        item->number = 0.5;
        return;
    case PROTO_AGG_HISTOGRAM:
        whole_number(binder, item, PROTO_QUERY_BINS_MAX);
        return;
    case PROTO_AGG_SURVIVAL:
        whole_number(binder, item, PROTO_QUERY_TIMES_MAX);
        return;
    default:
        return;
    }
}

static void bind_aggregate(struct proto_binder *binder, struct proto_query_item *item)
{
    for (size_t i = 0; i < COUNT_OF(rules); i++) {
        if (rules[i].kind != item->kind) {
            continue;
        }
        binder->query->actions |= PROTO_ACTION_BIT(rules[i].action);
        for (size_t j = 0; j < item->argument_count && !binder->err; j++) {
            bind_argument(binder, item, rules[i].need[j > 0], &item->arguments[j]);
        }
        if (!binder->err) {
            distinct_arguments(binder, item);
            bind_number(binder, item);
        }
        return;
    }
    proto_binder_fail(binder, E_UNSUPPORTED, item->at, "this version cannot compute %s",
                      proto_aggregate_name(item->kind));
}

/* Rows of its own cannot stand beside another aggregate's single number. */
static void find_table(struct proto_binder *binder)
{
    struct proto_query *query = binder->query;
    size_t aggregates = 0;
    query->table = -1;
    for (size_t i = 0; i < query->item_count; i++) {
        aggregates += query->items[i].kind != PROTO_AGG_GROUP;
        if (proto_aggregate_is_table(query->items[i].kind)) {
            query->table = (int)i;
        }
    }
    if (query->table < 0) {
        return;
    }
    const struct proto_query_item *item = &query->items[query->table];
    if (aggregates > 1) {
        proto_binder_fail(binder, E_QUERY, item->at,
                          "%s answers with rows of its own; ask it alone, or with group columns",
                          proto_aggregate_name(item->kind));
    } else if (query->keyed) {
        proto_binder_fail(binder, E_UNSUPPORTED, item->at,
                          "%s can be grouped by public values only",
                          proto_aggregate_name(item->kind));
    }
}

/* Its rows cannot be told apart. */
static void warn_unnamed(struct proto_binder *binder)
{
    const struct proto_query *query = binder->query;
    for (size_t g = 0; g < query->group_count; g++) {
        bool named = false;
        for (size_t i = 0; i < query->item_count && !named; i++) {
            named = query->items[i].group == (int)g;
        }
        if (!named) {
            proto_binder_warn(binder, query->group_at[g],
                              "the rows do not say their group: '%s' is not selected",
                              query->group_names[g]);
        }
    }
}

void proto_binder_items(struct proto_binder *binder)
{
    struct proto_query *query = binder->query;
    for (size_t i = 0; i < query->item_count && !binder->err; i++) {
        struct proto_query_item *item = &query->items[i];
        if (item->kind == PROTO_AGG_GROUP) {
            bind_group_item(binder, item);
        } else if (item->kind == PROTO_AGG_COUNT_UNITS) {
            bind_units(binder, item);
            query->actions |= PROTO_ACTION_BIT(PROTO_ACTION_COUNT);
        } else {
            bind_aggregate(binder, item);
        }
        if (query->keyed && !binder->err && proto_aggregate_is_quantile(item->kind)) {
            proto_binder_fail(binder, E_UNSUPPORTED, item->at,
                              "quantiles can be grouped by public values only");
        }
    }
    if (!binder->err) {
        find_table(binder);
        warn_unnamed(binder);
    }
}

/* ---- canonical form ------------------------------------------------------------------------ */

enum err proto_binder_item_text(const struct proto_query_item *item, struct buf *to)
{
    if (item->kind == PROTO_AGG_COUNT_ROWS) {
        return buf_put(to, span_str("COUNT(*)"));
    }
    if (item->kind == PROTO_AGG_GROUP) {
        return proto_binder_quoted(to, item->arguments[0].name, '"');
    }
    enum err err = buf_printf(to, "%s(%s", proto_aggregate_name(item->kind),
                              item->kind == PROTO_AGG_COUNT_UNITS ? "DISTINCT " : "");
    for (size_t i = 0; i < item->argument_count && !err; i++) {
        err = i ? buf_put(to, span_str(", ")) : E_OK;
        err = err ? err : proto_binder_quoted(to, item->arguments[i].name, '"');
    }
    if (item->kind == PROTO_AGG_QUANTILE || item->kind == PROTO_AGG_HISTOGRAM ||
        item->kind == PROTO_AGG_SURVIVAL) {
        char number[32];
        proto_binder_number(item->number, number);
        err = err ? err : buf_printf(to, ", %s", number);
    }
    return err ? err : buf_put(to, span_str(")"));
}
