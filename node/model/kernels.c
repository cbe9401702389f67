/* Compiled several times, with other instruction sets and another MODEL_KERNELS: see Local.mk. Nothing else stands here, so that
 * code for a processor that is not there is never reached. */
#include "config.h"
#include "node/model/kernels.h"

#include "node/model/vec.h"

#ifndef MODEL_KERNELS
#define MODEL_KERNELS      model_kernels_plain
#define MODEL_KERNELS_NAME "plain"
#endif
extern const struct model_kernels MODEL_KERNELS;

/* The last, short vector of N numbers. */
#define WHOLE(n) ((n) / VEC * VEC)

/* --- sums ---------------------------------------------------------------------------------------------- */

static void add(real *to, const real *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] += from[i];
    }
}

static void add_scaled(real *to, const real *from, real scale, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] += scale * from[i];
    }
}

static void multiply(real *restrict to, const real *restrict by, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] *= by[i];
    }
}

static void add_bias(real *y, size_t rows, size_t cols, const real *bias)
{
    for (size_t r = 0; r < rows; r++) {
        add(y + r * cols, bias, cols);
    }
}

/* By vectors of columns, so that a sum stays in a register over all rows. */
static void add_columns(const real *y, size_t rows, size_t cols, size_t ld, real *to)
{
    size_t c = 0;
    for (; c + 4 * VEC <= cols; c += 4 * VEC) {
        vec s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
        for (size_t r = 0; r < rows; r++) {
            const real *p = y + r * ld + c;
            s0 += vec_load(p);
            s1 += vec_load(p + VEC);
            s2 += vec_load(p + 2 * VEC);
            s3 += vec_load(p + 3 * VEC);
        }
        vec_store(to + c, vec_load(to + c) + s0);
        vec_store(to + c + VEC, vec_load(to + c + VEC) + s1);
        vec_store(to + c + 2 * VEC, vec_load(to + c + 2 * VEC) + s2);
        vec_store(to + c + 3 * VEC, vec_load(to + c + 3 * VEC) + s3);
    }
    for (; c < cols; c++) {
        real sum = 0;
        for (size_t r = 0; r < rows; r++) {
            sum += y[r * ld + c];
        }
        to[c] += sum;
    }
}

#define BLOCK (64 * VEC)

static double dot(const real *a, const real *b, size_t n)
{
    double all = 0;
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t end = n - at < BLOCK ? n : at + BLOCK, i = at;
        vec sum = {0};
        for (; i + VEC <= end; i += VEC) {
            sum += vec_load(a + i) * vec_load(b + i);
        }
        if (i < end) {
            sum += vec_load_part(a + i, end - i) * vec_load_part(b + i, end - i);
        }
        all += (double)vec_sum(sum);
    }
    return all;
}

static double square(const real *v, size_t n)
{
    return dot(v, v, n);
}

/* --- dropout ------------------------------------------------------------------------------------------- */

/* Two keys of a row from all 64 bits of the site's. */
struct row_key {
    uint32_t first, second;
};

INLINE struct row_key row_key(const struct model_drop *d, uint64_t row)
{
    uint64_t x = d->key + row * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;
    return (struct row_key){(uint32_t)x, (uint32_t)(x >> 32)};
}

/* Sixteen factors, 0 or scale, for numbers J, J + 1, .. : a 32-bit mix (lowbias32, Wellons) with the second key in between. */
INLINE vec factors(const struct model_drop *d, struct row_key key, uint32_t j)
{
    static const vec_u32 lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vec_u32 x = lanes + (key.first + j);
    x ^= x >> 16;
    x *= UINT32_C(0x7feb352d);
    x ^= x >> 15;
    x += key.second;
    x *= UINT32_C(0x846ca68b);
    x ^= x >> 16;
    /* A comparison gives 0 or -1. */
    return __builtin_convertvector((vec_i32)(x >= d->threshold), vec) * -d->scale;
}

static void drop_row(const struct model_drop *d, uint64_t row, const real *from, real *to, size_t n)
{
    struct row_key key = row_key(d, row);
    size_t j = 0;
    for (; j + VEC <= n; j += VEC) {
        vec_store(to + j, vec_load(from + j) * factors(d, key, (uint32_t)j));
    }
    if (j < n) {
        vec_store_part(to + j, vec_load_part(from + j, n - j) * factors(d, key, (uint32_t)j),
                       n - j);
    }
}

static void drop_rows(const struct model_drop *d, uint64_t first_row, size_t rows, size_t cols,
                      const real *from, real *to)
{
    if (d->threshold == 0) {
        if (from != to) {
            memcpy(to, from, rows * cols * sizeof *to);
        }
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        drop_row(d, first_row + r, from + r * cols, to + r * cols, cols);
    }
}

/* --- LayerNorm ----------------------------------------------------------------------------------------- */

/* x = drop(x + bias) + residual for sixteen columns from J. */
INLINE vec norm_input(const struct model_norm_rows *n, struct row_key key, const real *x,
                      const real *residual, size_t j, size_t part)
{
    vec v = vec_load_part(x + j, part);
    if (n->bias) {
        v += vec_load_part(n->bias + j, part);
    }
    if (n->drop && n->drop->threshold) {
        v *= factors(n->drop, key, (uint32_t)j);
    }
    return residual ? v + vec_load_part(residual + j, part) : v;
}

static void norm_row(const struct model_norm_rows *n, size_t r)
{
    size_t cols = n->cols, whole = WHOLE(cols), rest = cols - whole;
    real *x = n->out + r * cols, *xhat = n->xhat + r * cols;
    const real *residual = n->residual ? n->residual + r * cols : NULL;
    struct row_key key = {0, 0};
    vec sum = {0}, square_sum = {0};
    if (n->drop && n->drop->threshold) {
        key = row_key(n->drop, n->first_row + r);
    }
    for (size_t j = 0; j < whole; j += VEC) {
        vec v = norm_input(n, key, x, residual, j, VEC);
        vec_store(xhat + j, v);
        sum += v;
    }
    if (rest) {
        vec v = norm_input(n, key, x, residual, whole, rest);
        vec_store_part(xhat + whole, v, rest);
        sum += vec_load_part(xhat + whole, rest);
    }
    real mean = vec_sum(sum) / (real)cols;
    for (size_t j = 0; j < whole; j += VEC) {
        vec c = vec_load(xhat + j) - mean;
        square_sum += c * c;
    }
    real variance = vec_sum(square_sum);
    for (size_t j = whole; j < cols; j++) {
        variance += (xhat[j] - mean) * (xhat[j] - mean);
    }
    real rstd = 1 / real_sqrt(variance / (real)cols + (real)n->eps);
    n->rstd[r] = rstd;
    for (size_t j = 0; j < cols; j++) {
        xhat[j] = (xhat[j] - mean) * rstd;
        x[j] = n->gamma[j] * xhat[j] + n->beta[j];
    }
}

static void norm(const struct model_norm_rows *n)
{
    for (size_t r = 0; r < n->rows; r++) {
        norm_row(n, r);
    }
}

static void norm_backward_row(size_t cols, const real *d, const real *gamma, const real *x,
                              real rstd, real *dx)
{
    size_t whole = WHOLE(cols);
    vec sums = {0}, dots = {0};
    for (size_t j = 0; j < whole; j += VEC) {
        vec v = vec_load(d + j) * vec_load(gamma + j);
        sums += v;
        dots += v * vec_load(x + j);
    }
    real sum = vec_sum(sums), products = vec_sum(dots);
    for (size_t j = whole; j < cols; j++) {
        sum += d[j] * gamma[j];
        products += d[j] * gamma[j] * x[j];
    }
    sum /= (real)cols;
    products /= (real)cols;
    for (size_t j = 0; j < cols; j++) {
        dx[j] = rstd * (d[j] * gamma[j] - sum - x[j] * products);
    }
}

static void norm_columns(size_t rows, size_t cols, const real *dy, const real *xhat, real *dgamma,
                         real *dbeta)
{
    size_t whole = WHOLE(cols);
    for (size_t j = 0; j < whole; j += VEC) {
        vec gamma = vec_load(dgamma + j), beta = vec_load(dbeta + j);
        for (size_t r = 0; r < rows; r++) {
            vec d = vec_load(dy + r * cols + j);
            gamma += d * vec_load(xhat + r * cols + j);
            beta += d;
        }
        vec_store(dgamma + j, gamma);
        vec_store(dbeta + j, beta);
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t j = whole; j < cols; j++) {
            dgamma[j] += dy[r * cols + j] * xhat[r * cols + j];
            dbeta[j] += dy[r * cols + j];
        }
    }
}

/* A few rows at a time, so that they are still near when the columns are added up. DX may be DY. */
static void norm_backward(size_t rows, size_t cols, const real *dy, const real *gamma,
                          const real *xhat, const real *rstd, real *dx, real *dgamma, real *dbeta)
{
    for (size_t from = 0; from < rows; from += 32) {
        size_t to = rows - from < 32 ? rows : from + 32;
        if (dgamma) {
            norm_columns(to - from, cols, dy + from * cols, xhat + from * cols, dgamma, dbeta);
        }
        for (size_t r = from; r < to; r++) {
            norm_backward_row(cols, dy + r * cols, gamma, xhat + r * cols, rstd[r], dx + r * cols);
        }
    }
}

/* --- GELU ---------------------------------------------------------------------------------------------- */

#define SQRT_HALF        0.70710678118654752440
#define INVERSE_SQRT_2PI 0.39894228040143267794 /* 1 / sqrt(2 pi) */

/* The distribution function of the normal law at X, with E = exp(-x^2/2), which is the derivative's as well. In float, erf is
 * the rational form of Abramowitz and Stegun 7.1.26 (error below 2e-7). */
INLINE vec normal(vec x, vec e)
{
#ifdef MODEL_DOUBLE
    (void)e;
    vec y;
    for (size_t i = 0; i < VEC; i++) {
        y[i] = 0.5 * (1 + erf(x[i] * SQRT_HALF));
    }
    return y;
#else
    vec z = vec_choose(x < 0, -x, x) * (real)SQRT_HALF;
    vec t = 1 / (1 + 0.3275911f * z);
    vec tail = 0.5f * e * t *
               (0.254829592f +
                t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    return vec_choose(x < 0, tail, 1 - tail);
#endif
}

static void gelu(const real *bias, size_t rows, size_t cols, real *pre, real *act)
{
    for (size_t r = 0; r < rows; r++) {
        real *p = pre + r * cols, *a = act + r * cols;
        for (size_t j = 0; j < cols; j += VEC) {
            size_t part = cols - j < VEC ? cols - j : VEC;
            vec x = part == VEC ? vec_load(p + j) + vec_load(bias + j)
                                : vec_load_part(p + j, part) + vec_load_part(bias + j, part);
            vec e = vec_exp_negative((real)-0.5 * x * x);
            vec cdf = normal(x, e), slope = cdf + x * (real)INVERSE_SQRT_2PI * e;
            if (part == VEC) {
                vec_store(a + j, x * cdf);
                vec_store(p + j, slope);
            } else {
                vec_store_part(a + j, x * cdf, part);
                vec_store_part(p + j, slope, part);
            }
        }
    }
}

/* --- softmax ------------------------------------------------------------------------------------------- */

static real greatest(const real *p, size_t n)
{
    size_t whole = WHOLE(n);
    real max = p[0];
    if (whole) {
        vec m = vec_load(p);
        for (size_t j = VEC; j < whole; j += VEC) {
            vec v = vec_load(p + j);
            m = vec_choose(v > m, v, m);
        }
        max = vec_max(m);
    }
    for (size_t j = whole; j < n; j++) {
        max = p[j] > max ? p[j] : max;
    }
    return max;
}

/* to = e^(p - max); the sum. TO may be P. */
static real exponentials(const real *p, size_t n, real max, real *to)
{
    size_t whole = WHOLE(n);
    vec sum = {0};
    for (size_t j = 0; j < whole; j += VEC) {
        vec e = vec_exp_negative(vec_load(p + j) - max);
        vec_store(to + j, e);
        sum += e;
    }
    if (whole < n) {
        vec_store_part(to + whole, vec_exp_negative(vec_load_part(p + whole, n - whole) - max),
                       n - whole);
        sum += vec_load_part(to + whole, n - whole);
    }
    return vec_sum(sum);
}

static void softmax(real *p, size_t rows, size_t cols, const struct model_drop *drop,
                    uint64_t first_row, uint64_t step, real *dropped)
{
    for (size_t r = 0; r < rows; r++, p += cols) {
        real inverse = 1 / exponentials(p, cols, greatest(p, cols), p);
        for (size_t j = 0; j < cols; j++) {
            p[j] *= inverse;
        }
        if (dropped) {
            drop_row(drop, first_row + r * step, p, dropped + r * cols, cols);
        }
    }
}

static void softmax_backward(const real *p, size_t rows, size_t cols, const struct model_drop *drop,
                             uint64_t first_row, uint64_t step, real *d)
{
    size_t whole = WHOLE(cols);
    for (size_t r = 0; r < rows; r++, p += cols, d += cols) {
        if (drop->threshold) {
            drop_row(drop, first_row + r * step, d, d, cols);
        }
        vec products = {0};
        for (size_t j = 0; j < whole; j += VEC) {
            products += vec_load(p + j) * vec_load(d + j);
        }
        real sum = vec_sum(products);
        for (size_t j = whole; j < cols; j++) {
            sum += p[j] * d[j];
        }
        for (size_t j = 0; j < cols; j++) {
            d[j] = p[j] * (d[j] - sum);
        }
    }
}

static double cross_entropy(const real *logits, size_t n, size_t label, real scale, real *d)
{
    real max = greatest(logits, n), piece[BLOCK];
    double sum = 0;
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t count = n - at < BLOCK ? n - at : BLOCK;
        sum += (double)exponentials(logits + at, count, max, d ? d + at : piece);
    }
    real factor = (real)((double)scale / sum);
    for (size_t j = 0; d && j < n; j++) {
        d[j] *= factor;
    }
    if (d) {
        d[label] -= scale;
    }
    return (double)max + log(sum) - (double)logits[label];
}

/* --- AdamW --------------------------------------------------------------------------------------------- */

static void adamw(const struct model_adamw_rows *a)
{
    real *restrict p = a->p, *restrict m = a->m, *restrict v = a->v;
    const real *restrict g = a->g;
    real b1 = a->beta1, b2 = a->beta2;
    for (size_t i = 0; i < a->count; i++) {
        real gi = a->scale * g[i];
        m[i] = b1 * m[i] + (1 - b1) * gi;
        v[i] = b2 * v[i] + (1 - b2) * gi * gi;
        p[i] = a->keep * p[i] - a->rate * m[i] / (real_sqrt(v[i]) * a->root_inverse + a->eps);
    }
}

const struct model_kernels MODEL_KERNELS = {.name = MODEL_KERNELS_NAME,
                                            .add = add,
                                            .add_scaled = add_scaled,
                                            .multiply = multiply,
                                            .add_bias = add_bias,
                                            .add_columns = add_columns,
                                            .square = square,
                                            .dot = dot,
                                            .drop_rows = drop_rows,
                                            .norm = norm,
                                            .norm_backward = norm_backward,
                                            .gelu = gelu,
                                            .softmax = softmax,
                                            .softmax_backward = softmax_backward,
                                            .cross_entropy = cross_entropy,
                                            .adamw = adamw};
