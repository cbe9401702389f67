#include "tests/lib/newton.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SIDE (NEWTON_MAX + 1)

static double score(const double *weights, const float *x, size_t features)
{
    double s = weights[features];
    for (size_t j = 0; j < features; j++) {
        s += weights[j] * (double)x[j];
    }
    return s;
}

/* Solves A d = g in place for a symmetric positive definite A (Cholesky); false when it is not. */
static bool solve(double a[SIDE][SIDE], double *g, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j <= i; j++) {
            double sum = a[i][j];
            for (size_t k = 0; k < j; k++) {
                sum -= a[i][k] * a[j][k];
            }
            if (i == j && !(sum > 0)) {
                return false;
            }
            a[i][j] = i == j ? sqrt(sum) : sum / a[j][j];
        }
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) {
            g[i] -= a[i][k] * g[k];
        }
        g[i] /= a[i][i];
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; k++) {
            g[i] -= a[k][i] * g[k];
        }
        g[i] /= a[i][i];
    }
    return true;
}

bool newton_fit(const float *x, const uint8_t *y, size_t rows, size_t features, double *weights)
{
    size_t n = features + 1;
    if (features > NEWTON_MAX || rows == 0) {
        return false;
    }
    memset(weights, 0, n * sizeof *weights);
    for (int round = 0; round < 50; round++) {
        double hessian[SIDE][SIDE] = {{0}};
        double gradient[SIDE] = {0};
        for (size_t r = 0; r < rows; r++) {
            const float *row = x + r * features;
            double p = 1 / (1 + exp(-score(weights, row, features)));
            for (size_t i = 0; i < n; i++) {
                double xi = i < features ? (double)row[i] : 1;
                gradient[i] += (p - y[r]) * xi;
                for (size_t j = 0; j <= i; j++) {
                    hessian[i][j] += p * (1 - p) * xi * (j < features ? (double)row[j] : 1);
                }
            }
        }
        double change = 0;
        for (size_t i = 0; i < n; i++) {
            hessian[i][i] += 1e-9 * (double)rows;
            gradient[i] += 1e-9 * (double)rows * weights[i];
        }
        if (!solve(hessian, gradient, n)) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            weights[i] -= gradient[i];
            change = fmax(change, fabs(gradient[i]));
        }
        if (change < 1e-8) {
            return true;
        }
    }
    return false;
}

double newton_loss(const float *x, const uint8_t *y, size_t rows, size_t features,
                   const double *weights)
{
    double sum = 0;
    for (size_t r = 0; r < rows; r++) {
        double s = score(weights, x + r * features, features);
        double wrong = y[r] ? -s : s;
        sum += wrong > 0 ? wrong + log1p(exp(-wrong)) : log1p(exp(wrong));
    }
    return sum / (double)rows;
}

struct scored {
    double score;
    uint8_t y;
};

static int compare(const void *a, const void *b)
{
    const struct scored *l = a;
    const struct scored *r = b;
    return (l->score > r->score) - (l->score < r->score);
}

double newton_auc(const float *x, const uint8_t *y, size_t rows, size_t features,
                  const double *weights)
{
    struct scored *all = calloc(rows + 1, sizeof *all);
    if (!all) {
        return -1;
    }
    for (size_t r = 0; r < rows; r++) {
        all[r] = (struct scored){score(weights, x + r * features, features), y[r]};
    }
    qsort(all, rows, sizeof *all, compare);
    double below = 0;
    double pairs = 0;
    double positive = 0;
    for (size_t i = 0; i < rows;) {
        double classes[2] = {0, 0};
        size_t to = i;
        for (; to < rows && all[to].score == all[i].score; to++) {
            classes[all[to].y]++;
        }
        pairs += classes[1] * (below + classes[0] / 2);
        below += classes[0];
        positive += classes[1];
        i = to;
    }
    free(all);
    return below > 0 && positive > 0 ? pairs / (below * positive) : -1;
}
