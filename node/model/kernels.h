/* Private to the encoder: loops over rows of numbers that are no matrix product. Compiled once for any processor and, on x86-64, for
 * two levels of vector instructions; model_kernels gives the best that this processor has. All compute the same to rounding.
 *
 *     const struct model_kernels *k = model_kernels();
 *     k->gelu(bias, rows, cols, pre, act);
 *
 * Shapes: row-major, rows of COLS (or N) numbers without gaps unless a stride LD is named. Sums run in sixteen lanes and are then
 * added pairwise. Tested against plain loops in tests/unit/node/test_kernels.c. Threads: free of state. */
#ifndef CONCORDAT_NODE_MODEL_KERNELS_H
#define CONCORDAT_NODE_MODEL_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "node/model/real.h"

/* Dropout by counter: whether number J of row ROW is dropped follows from KEY, ROW and J alone. */
struct model_drop {
    uint64_t key;
    uint32_t threshold; /* dropped with probability threshold / 2^32; 0 keeps all */
    real scale;         /* 1 / (1 - probability) */
};

/* out = LayerNorm(drop(out + bias) + residual): xhat = (x - mean) / sqrt(variance + eps), out = gamma xhat + beta. */
struct model_norm_rows {
    size_t rows, cols;
    const struct model_drop *drop; /* of the input; rows count from first_row */
    uint64_t first_row;
    const real *bias, *residual; /* NULL: none */
    const real *gamma, *beta;
    double eps;
    real *out, *xhat, *rstd; /* rows x cols, rows x cols, rows */
};

struct model_adamw_rows {
    size_t count;
    real *p, *m, *v;
    const real *g;
    real scale; /* of g */
    real beta1, beta2, eps;
    real keep;               /* 1 - rate decay */
    real rate, root_inverse; /* rate / (1 - beta1^t), 1 / sqrt(1 - beta2^t) */
};

struct model_kernels {
    const char *name;
    /* to[i] += from[i] */
    void (*add)(real *to, const real *from, size_t n);
    /* to[i] += scale from[i] */
    void (*add_scaled)(real *to, const real *from, real scale, size_t n);
    /* to[i] *= by[i] */
    void (*multiply)(real *to, const real *by, size_t n);
    /* each row of y += bias */
    void (*add_bias)(real *y, size_t rows, size_t cols, const real *bias);
    /* to[c] += sum over rows */
    void (*add_columns)(const real *y, size_t rows, size_t cols, size_t ld, real *to);
    /* sums of squares and of products; lanes are emptied into a double every 64 vectors */
    double (*square)(const real *v, size_t n);
    double (*dot)(const real *a, const real *b, size_t n);
    /* to = dropped from; may be the same */
    void (*drop_rows)(const struct model_drop *drop, uint64_t first_row, size_t rows, size_t cols,
                      const real *from, real *to);
    void (*norm)(const struct model_norm_rows *n);
    /* dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy gamma; adds to dgamma and dbeta unless NULL */
    void (*norm_backward)(size_t rows, size_t cols, const real *dy, const real *gamma,
                          const real *xhat, const real *rstd, real *dx, real *dgamma, real *dbeta);
    /* act = GELU(pre + bias); pre becomes GELU's derivative there */
    void (*gelu)(const real *bias, size_t rows, size_t cols, real *pre, real *act);
    /* p = softmax(p) by rows; dropped = drop(p) unless NULL; rows of dropout are first_row, first_row + step, .. */
    void (*softmax)(real *p, size_t rows, size_t cols, const struct model_drop *drop,
                    uint64_t first_row, uint64_t step, real *dropped);
    /* From d, the gradient of the dropped probabilities, to that of the scores, in place */
    void (*softmax_backward)(const real *p, size_t rows, size_t cols, const struct model_drop *drop,
                             uint64_t first_row, uint64_t step, real *d);
    /* Cross entropy of a row of logits; d (may be NULL) becomes scale (softmax - one of the label) */
    double (*cross_entropy)(const real *logits, size_t n, size_t label, real scale, real *d);
    void (*adamw)(const struct model_adamw_rows *a);
};

/* The best for this processor. */
const struct model_kernels *model_kernels(void);
/* All that this processor can run, from the plainest on; NULL after the last. For tests. */
const struct model_kernels *model_kernels_at(size_t index);

#endif
