/* Trees of noisy counts against least squares by dense matrices. */
#include "config.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "node/query/tree.h"
#include "tests/lib/seed.h"

#define LEAVES_MAX 40
#define NODES_MAX  100

static double unit(struct seed *seed)
{
    return (double)(seed_next(seed) >> 11) * 0x1p-53;
}

struct case_of {
    struct query_tree_shape shape;
    struct query_tree tree;
    double counts[NODES_MAX];
    size_t leaves;
};

static void make(struct case_of *of, struct seed *seed)
{
    memset(of, 0, sizeof *of);
    of->leaves = 1 + seed_below(seed, LEAVES_MAX);
    assert_true(query_tree_shape(of->leaves, seed_below(seed, 3) ? 2 : LEAVES_MAX, NODES_MAX, 10,
                                 &of->shape));
    of->tree.shape = &of->shape;
    double *at = of->counts;
    for (size_t level = 0; level < of->shape.height; level++) {
        of->tree.counts[level] = at;
        of->tree.variances[level] = 0.5 + 4 * unit(seed);
        for (size_t i = 0; i < of->shape.sizes[level]; i++) {
            *at++ = 100 * unit(seed) - 20;
        }
    }
    of->tree.has_total = seed_below(seed, 2);
    of->tree.total = 900 * unit(seed);
    of->tree.total_variance = 0.1 + unit(seed);
}

/* One more row of the regression of what was measured on the leaves: A += w x x', b += w x y. */
static void add_row(const double *x, double y, double variance, size_t n,
                    double a[LEAVES_MAX][2 * LEAVES_MAX], double *b)
{
    for (size_t i = 0; i < n; i++) {
        b[i] += x[i] * y / variance;
        for (size_t j = 0; j < n; j++) {
            a[i][j] += x[i] * x[j] / variance;
        }
    }
}

/* Gauss and Jordan on (A | I), with pivots. */
static void invert(double a[LEAVES_MAX][2 * LEAVES_MAX], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            a[i][n + j] = i == j;
        }
    }
    for (size_t c = 0; c < n; c++) {
        size_t best = c;
        for (size_t r = c; r < n; r++) {
            best = fabs(a[r][c]) > fabs(a[best][c]) ? r : best;
        }
        for (size_t k = 0; k < 2 * n; k++) {
            double swap = a[c][k];
            a[c][k] = a[best][k];
            a[best][k] = swap;
        }
        double pivot = a[c][c];
        for (size_t k = 0; k < 2 * n; k++) {
            a[c][k] /= pivot;
        }
        for (size_t r = 0; r < n; r++) {
            double factor = a[r][c];
            for (size_t k = 0; k < 2 * n && r != c; k++) {
                a[r][k] -= factor * a[c][k];
            }
        }
    }
}

static void fit_is_least_squares(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(1));
    static double a[LEAVES_MAX][2 * LEAVES_MAX];
    for (int turn = 0; turn < 200; turn++) {
        struct case_of of;
        double b[LEAVES_MAX] = {0};
        double x[LEAVES_MAX];
        double leaves[LEAVES_MAX];
        make(&of, &seed);
        size_t n = of.leaves;
        memset(a, 0, sizeof a);
        for (size_t level = 0; level < of.shape.height; level++) {
            for (size_t i = 0; i < of.shape.sizes[level]; i++) {
                for (size_t leaf = 0; leaf < n; leaf++) {
                    x[leaf] = leaf / of.shape.spans[level] == i;
                }
                add_row(x, of.tree.counts[level][i], of.tree.variances[level], n, a, b);
            }
        }
        for (size_t leaf = 0; leaf < n; leaf++) {
            x[leaf] = 1;
        }
        if (of.tree.has_total) {
            add_row(x, of.tree.total, of.tree.total_variance, n, a, b);
        }
        invert(a, n);
        assert_int_equal(query_tree_fit(&of.tree, leaves), 0);
        double g[LEAVES_MAX];
        double h[LEAVES_MAX];
        double want = 0;
        double got;
        for (size_t i = 0; i < n; i++) {
            double best = 0;
            for (size_t j = 0; j < n; j++) {
                best += a[i][n + j] * b[j];
            }
            assert_true(fabs(leaves[i] - best) < 1e-8);
            g[i] = unit(&seed) - 0.5;
            h[i] = unit(&seed);
        }
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j < n; j++) {
                want += g[i] * a[i][n + j] * h[j];
            }
        }
        assert_int_equal(query_tree_covariance(&of.tree, g, h, &got), 0);
        assert_true(fabs(got - want) < 1e-8);
    }
}

static void shapes_fit(void **state)
{
    (void)state;
    struct query_tree_shape shape;
    for (size_t leaves = 1; leaves < 9000; leaves += leaves < 100 ? 1 : 97) {
        size_t room = leaves * 4 / 3 + 16;
        assert_true(query_tree_shape(leaves, 2, room, 16, &shape));
        size_t nodes = 0;
        for (size_t level = 0; level < shape.height; level++) {
            size_t span = shape.spans[level];
            assert_int_equal(shape.sizes[level], (leaves + span - 1) / span);
            nodes += shape.sizes[level];
        }
        assert_true(nodes <= room && shape.sizes[0] <= shape.branch);
        assert_int_equal(shape.sizes[shape.height - 1], leaves);
    }
    assert_true(query_tree_shape(4096, 2, 65536, 16, &shape) && shape.branch == 2);
    assert_true(query_tree_shape(20, 20, 65536, 16, &shape) && shape.height == 1);
    assert_false(query_tree_shape(4096, 2, 4095, 16, &shape));
    assert_false(query_tree_shape(4096, 2, 65536, 2, &shape));
}

/* Robertson, Wright, Dykstra 1988, section 1.2: the value at i is max over s <= i of min over t >= i of the mean of s to t. */
static void monotone_is_the_min_max_formula(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(2));
    for (int turn = 0; turn < 100; turn++) {
        double sums[30];
        double got[30];
        size_t n = 1 + seed_below(&seed, 30);
        for (size_t i = 0; i < n; i++) {
            got[i] = sums[i] = (double)i + 20 * unit(&seed) - 8;
        }
        assert_int_equal(query_tree_monotone(got, n), 0);
        for (size_t i = 0; i < n; i++) {
            double most = -INFINITY;
            for (size_t s = 0; s <= i; s++) {
                double least = INFINITY;
                double sum = 0;
                for (size_t t = s; t < n; t++) {
                    sum += sums[t];
                    least = t >= i ? fmin(least, sum / (double)(t - s + 1)) : least;
                }
                most = fmax(most, least);
            }
            assert_true(fabs(got[i] - fmax(most, 0)) < 1e-9);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fit_is_least_squares),
        cmocka_unit_test(shapes_fit),
        cmocka_unit_test(monotone_is_the_min_max_formula),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
