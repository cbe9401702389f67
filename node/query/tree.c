#include "config.h"
#include "node/query/tree.h"

#include "proto/alloc.h"

#include <math.h>
#include <string.h>

static bool shape_with(size_t leaves, size_t branch, size_t nodes, size_t height_max,
                       struct query_tree_shape *ret)
{
    size_t height = 1;
    size_t size = leaves;
    size_t total = leaves;
    while (size > branch) {
        size = (size + branch - 1) / branch;
        total += size;
        height++;
    }
    if (height > height_max || height > QUERY_TREE_HEIGHT_MAX || total > nodes) {
        return false;
    }
    ret->height = height;
    ret->branch = branch;
    size_t span = 1;
    size = leaves;
    for (size_t level = height; level-- > 0;) {
        ret->sizes[level] = size;
        ret->spans[level] = span;
        size = (size + branch - 1) / branch;
        span *= branch;
    }
    return true;
}

bool query_tree_shape(size_t leaves, size_t flat, size_t nodes, size_t height_max,
                      struct query_tree_shape *ret)
{
    memset(ret, 0, sizeof *ret);
    if (leaves <= flat) {
        return shape_with(leaves, leaves > 2 ? leaves : 2, nodes, height_max, ret);
    }
    for (size_t branch = 2; branch <= 16; branch *= 2) {
        if (shape_with(leaves, branch, nodes, height_max, ret)) {
            return true;
        }
    }
    return false;
}

/* Estimates from below and their variances, by level; the root is a node of its own above level 0. */
struct work {
    double *value[QUERY_TREE_HEIGHT_MAX];
    double *variance[QUERY_TREE_HEIGHT_MAX];
    double *all; /* one allocation */
};

static enum err work_init(struct work *work, const struct query_tree_shape *shape)
{
    size_t nodes = 0;
    for (size_t level = 0; level < shape->height; level++) {
        nodes += shape->sizes[level];
    }
    work->all = proto_alloc(2 * nodes, sizeof *work->all);
    double *at = work->all;
    for (size_t level = 0; at && level < shape->height; level++) {
        work->value[level] = at;
        work->variance[level] = at + shape->sizes[level];
        at += 2 * shape->sizes[level];
    }
    return work->all ? E_OK : E_NO_MEMORY;
}

/* Two independent estimates of one number, each weighed by the other's variance. */
static void combine(double *value, double *variance, double other, double other_variance)
{
    double both = *variance + other_variance;
    if (both > 0) {
        *value = (*value * other_variance + other * *variance) / both;
        *variance = *variance * other_variance / both;
    }
}

struct family {
    double value;
    double variance;
};

static struct family children(const struct query_tree_shape *shape, const struct work *work,
                              size_t level, size_t first, size_t last)
{
    struct family sum = {0, 0};
    last = last < shape->sizes[level] ? last : shape->sizes[level];
    for (size_t i = first; i < last; i++) {
        sum.value += work->value[level][i];
        sum.variance += work->variance[level][i];
    }
    return sum;
}

static void go_up(const struct query_tree *tree, struct work *work)
{
    const struct query_tree_shape *shape = tree->shape;
    for (size_t level = shape->height; level-- > 0;) {
        for (size_t i = 0; i < shape->sizes[level]; i++) {
            work->value[level][i] = tree->counts[level] ? tree->counts[level][i] : 0;
            work->variance[level][i] = tree->variances[level];
            if (level + 1 < shape->height) {
                struct family below =
                    children(shape, work, level + 1, i * shape->branch, (i + 1) * shape->branch);
                combine(&work->value[level][i], &work->variance[level][i], below.value,
                        below.variance);
            }
        }
    }
}

/* What the parent gained over the sum of its children is theirs, by their variances. */
static void share_out(const struct query_tree_shape *shape, struct work *work, size_t level,
                      size_t first, size_t last, double parent)
{
    struct family family = children(shape, work, level, first, last);
    last = last < shape->sizes[level] ? last : shape->sizes[level];
    for (size_t i = first; i < last && family.variance > 0; i++) {
        work->value[level][i] +=
            (parent - family.value) * (work->variance[level][i] / family.variance);
    }
}

static void go_down(const struct query_tree *tree, struct work *work)
{
    const struct query_tree_shape *shape = tree->shape;
    if (tree->has_total) {
        struct family all = children(shape, work, 0, 0, shape->sizes[0]);
        combine(&all.value, &all.variance, tree->total, tree->total_variance);
        share_out(shape, work, 0, 0, shape->sizes[0], all.value);
    }
    for (size_t level = 1; level < shape->height; level++) {
        for (size_t i = 0; i < shape->sizes[level - 1]; i++) {
            share_out(shape, work, level, i * shape->branch, (i + 1) * shape->branch,
                      work->value[level - 1][i]);
        }
    }
}

enum err query_tree_fit(const struct query_tree *tree, double *ret_leaves)
{
    struct work work = {0};
    enum err err = work_init(&work, tree->shape);
    if (!err) {
        size_t leaf = tree->shape->height - 1;
        go_up(tree, &work);
        go_down(tree, &work);
        memcpy(ret_leaves, work.value[leaf], tree->shape->sizes[leaf] * sizeof *ret_leaves);
    }
    proto_free(work.all);
    return err;
}

enum err query_tree_covariance(const struct query_tree *tree, const double *a, const double *b,
                               double *ret)
{
    size_t leaf = tree->shape->height - 1;
    size_t count = tree->shape->sizes[leaf];
    double *scaled = proto_alloc(count, sizeof *scaled);
    if (!scaled) {
        return E_NO_MEMORY;
    }
    struct query_tree as_if = *tree;
    for (size_t level = 0; level < leaf; level++) {
        as_if.counts[level] = NULL; /* zeros */
    }
    for (size_t i = 0; i < count; i++) {
        scaled[i] = a[i] * tree->variances[leaf];
    }
    as_if.counts[leaf] = scaled;
    as_if.total = 0;
    enum err err = query_tree_fit(&as_if, scaled);
    *ret = 0;
    for (size_t i = 0; i < count && !err; i++) {
        *ret += scaled[i] * b[i];
    }
    proto_free(scaled);
    return err;
}

enum err query_tree_monotone(double *sums, size_t count)
{
    /* A block of equal values: their mean and how many they are. */
    struct block {
        double mean;
        size_t size;
    } *blocks = proto_alloc(count, sizeof *blocks);
    if (!blocks) {
        return E_NO_MEMORY;
    }
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        blocks[n++] = (struct block){sums[i], 1};
        while (n > 1 && blocks[n - 2].mean > blocks[n - 1].mean) {
            struct block *into = &blocks[n - 2];
            const struct block *from = &blocks[n - 1];
            double size = (double)(into->size + from->size);
            into->mean = (into->mean * (double)into->size + from->mean * (double)from->size) / size;
            into->size += from->size;
            n--;
        }
    }
    size_t at = 0;
    for (size_t b = 0; b < n; b++) {
        for (size_t i = 0; i < blocks[b].size; i++) {
            sums[at++] = fmax(blocks[b].mean, 0);
        }
    }
    proto_free(blocks);
    return E_OK;
}
