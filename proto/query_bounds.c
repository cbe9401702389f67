/* Bounds that follow from the condition: of rows with `creatinine < 3` no value is above 3, whatever the manifest allows.
 * Sensitivity and noise go by these. They are as public as the question, and values are clamped to them whatever a row
 * holds, so that a mistake here could make an answer biased but not less private. */
#include "config.h"
#include "proto/query_binder.h"

#include <math.h>

/* A range this much narrower than the declared one is left alone: it is a point, or the grid would have to be. */
#define NARROWEST 1e-6

struct range {
    double low, high;
};

static void cut(struct range *range, double low, double high)
{
    range->low = fmax(range->low, low);
    range->high = fmin(range->high, high);
}

/* Every operand of AND holds for the rows that count; of OR nothing is said. The bound tree is balanced, so the recursion is
 * shallow. */
static void cut_by(struct range *range, const struct proto_predicate *node, int column)
{
    if (node->op == PROTO_OP_AND) {
        cut_by(range, node->left, column);
        cut_by(range, node->right, column);
        return;
    }
    if (node->op == PROTO_OP_OR || node->column != column || !node->numbers) {
        return;
    }
    switch (node->op) {
    case PROTO_OP_LT:
    case PROTO_OP_LE:
        cut(range, -INFINITY, node->numbers[0]);
        break;
    case PROTO_OP_GT:
    case PROTO_OP_GE:
        cut(range, node->numbers[0], INFINITY);
        break;
    case PROTO_OP_IN: /* ascending */
        cut(range, node->numbers[0], node->numbers[node->count - 1]);
        break;
    default:
        break;
    }
}

/* Where the edges of classes are a part of the answer they stay as declared. */
static bool follows(enum proto_aggregate kind)
{
    switch (kind) {
    case PROTO_AGG_SUM:
    case PROTO_AGG_AVG:
    case PROTO_AGG_VAR:
    case PROTO_AGG_STDDEV:
    case PROTO_AGG_CORR:
    case PROTO_AGG_LINREG:
        return true;
    default:
        return proto_aggregate_is_quantile(kind);
    }
}

void proto_binder_bounds(struct proto_binder *binder)
{
    struct proto_query *query = binder->query;
    for (size_t i = 0; i < query->item_count && query->where; i++) {
        struct proto_query_item *item = &query->items[i];
        for (size_t j = 0; j < item->argument_count && follows(item->kind); j++) {
            struct proto_query_argument *argument = &item->arguments[j];
            struct range range = {argument->min, argument->max};
            cut_by(&range, query->where, argument->column);
            if (range.high - range.low > NARROWEST * (argument->max - argument->min)) {
                argument->min = range.low;
                argument->max = range.high;
            }
        }
    }
}
