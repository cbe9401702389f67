#include "config.h"
#include "node/query/resolve.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The list as codes in ascending order. Without any, `in` is never true and `not in` asks for a value alone. */
static enum err resolve_leaf(const struct proto_predicate *from,
                             const struct store_partition *partition, struct arena *arena,
                             struct proto_predicate *to)
{
    uint32_t values = store_partition_values(partition, from->column);
    int32_t *codes = arena_alloc(arena, from->count, sizeof *codes);
    *to = *from;
    to->texts = NULL;
    to->codes = codes;
    to->count = 0;
    if (!codes) {
        return E_NO_MEMORY;
    }
    for (uint32_t code = 0; code < values; code++) {
        const char *text = store_partition_value(partition, from->column, code);
        if (text && to->count < from->count &&
            bsearch(&text, from->texts, from->count, sizeof *from->texts, compare)) {
            codes[to->count++] = (int32_t)code;
        }
    }
    if (to->count == 0) {
        to->op = from->op == PROTO_OP_IN ? PROTO_OP_FALSE : PROTO_OP_IS_NOT_NULL;
        to->codes = NULL;
    }
    return E_OK;
}

static bool names_private(const struct proto_predicate *where)
{
    if (where->op == PROTO_OP_AND || where->op == PROTO_OP_OR) {
        return names_private(where->left) || names_private(where->right);
    }
    return where->texts;
}

/* The bound tree is balanced, so the recursion is shallow. */
static enum err copy(const struct proto_predicate *from, const struct store_partition *partition,
                     struct arena *arena, struct proto_predicate **ret)
{
    struct proto_predicate *to = arena_alloc(arena, 1, sizeof *to);
    *ret = to;
    if (!to) {
        return E_NO_MEMORY;
    }
    if (from->op != PROTO_OP_AND && from->op != PROTO_OP_OR) {
        *to = *from;
        return from->texts ? resolve_leaf(from, partition, arena, to) : E_OK;
    }
    *to = *from;
    enum err err = copy(from->left, partition, arena, &to->left);
    return err ? err : copy(from->right, partition, arena, &to->right);
}

enum err query_resolve(const struct proto_predicate *where, const struct store_partition *partition,
                       struct arena *arena, const struct proto_predicate **ret)
{
    *ret = where;
    if (!where || !names_private(where)) {
        return E_OK;
    }
    struct proto_predicate *copied;
    enum err err = copy(where, partition, arena, &copied);
    *ret = copied;
    return err;
}
