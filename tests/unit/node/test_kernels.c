/* The encoder's loops, in every instruction set that this processor has, against plain formulas in double. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/model/gemm.h"
#include "node/model/kernels.h"
#include "tests/lib/seed.h"

#define MAX 300u

static struct seed seed;
static const struct model_kernels *k;

static void fill(real *v, size_t n, double span)
{
    for (size_t i = 0; i < n; i++) {
        v[i] = (real)(span * ((double)seed_below(&seed, 200001) / 100000 - 1));
    }
}

static void near(double got, double want, double size, const char *what)
{
    if (!(fabs(got - want) <= 2e-5 * size + 1e-6)) {
        fail_msg("%s %s: %.9g, expected %.9g", k->name, what, got, want);
    }
}

static void sums(size_t n)
{
    real a[MAX], b[MAX], c[MAX];
    double dot = 0, square = 0;
    fill(a, n, 2);
    fill(b, n, 2);
    memcpy(c, a, n * sizeof *c);
    for (size_t i = 0; i < n; i++) {
        dot += (double)a[i] * (double)b[i];
        square += (double)a[i] * (double)a[i];
    }
    near(k->dot(a, b, n), dot, sqrt((double)n), "dot");
    near(k->square(a, n), square, (double)n, "square");
    k->add(c, b, n);
    k->add_scaled(c, a, (real)-0.5, n);
    k->multiply(c, b, n);
    for (size_t i = 0; i < n; i++) {
        near((double)c[i], ((double)a[i] / 2 + (double)b[i]) * (double)b[i], 8, "add, multiply");
    }
}

static void columns(size_t rows, size_t cols)
{
    real y[MAX], to[MAX], bias[MAX], kept[MAX];
    fill(y, rows * cols, 1);
    fill(to, cols, 1);
    fill(bias, cols, 1);
    memcpy(kept, to, cols * sizeof *to);
    k->add_columns(y, rows, cols, cols, to);
    for (size_t c = 0; c < cols; c++) {
        double want = (double)kept[c];
        for (size_t r = 0; r < rows; r++) {
            want += (double)y[r * cols + c];
        }
        near((double)to[c], want, (double)rows, "add_columns");
    }
    memcpy(kept, y, rows * cols * sizeof *y);
    k->add_bias(y, rows, cols, bias);
    for (size_t i = 0; i < rows * cols; i++) {
        near((double)y[i], (double)kept[i] + (double)bias[i % cols], 2, "add_bias");
    }
}

/* Which numbers of a row are dropped; the plain kernels are asked, all others must agree. */
static void dropped(const struct model_drop *d, uint64_t row, size_t cols, real *factor)
{
    for (size_t j = 0; j < cols; j++) {
        factor[j] = 1;
    }
    model_kernels_at(0)->drop_rows(d, row, 1, cols, factor, factor);
}

static void norms(size_t rows, size_t cols, const struct model_drop *d)
{
    real out[MAX], in[MAX], bias[MAX], residual[MAX], gamma[MAX], beta[MAX], xhat[MAX], rstd[MAX],
        factor[MAX], dy[MAX], dx[MAX], dgamma[MAX] = {0}, dbeta[MAX] = {0};
    fill(in, rows * cols, 2);
    fill(bias, cols, 1);
    fill(residual, rows * cols, 1);
    fill(gamma, cols, 1);
    fill(beta, cols, 1);
    fill(dy, rows * cols, 1);
    memcpy(out, in, sizeof out);
    k->norm(&(struct model_norm_rows){rows, cols, d, 77, bias, residual, gamma, beta, 1e-3, out,
                                      xhat, rstd});
    k->norm_backward(rows, cols, dy, gamma, xhat, rstd, dx, dgamma, dbeta);
    double want_gamma[MAX] = {0}, want_beta[MAX] = {0};
    for (size_t r = 0; r < rows; r++) {
        double x[MAX], mean = 0, variance = 0, sum = 0, dot = 0;
        dropped(d, 77 + r, cols, factor);
        for (size_t j = 0; j < cols; j++) {
            x[j] = ((double)in[r * cols + j] + (double)bias[j]) * (double)factor[j] +
                   (double)residual[r * cols + j];
            mean += x[j] / (double)cols;
        }
        for (size_t j = 0; j < cols; j++) {
            variance += (x[j] - mean) * (x[j] - mean) / (double)cols;
        }
        double scale = 1 / sqrt(variance + 1e-3);
        for (size_t j = 0; j < cols; j++) {
            double h = (x[j] - mean) * scale, g = (double)dy[r * cols + j] * (double)gamma[j];
            near((double)out[r * cols + j], h * (double)gamma[j] + (double)beta[j], 10, "norm");
            sum += g / (double)cols;
            dot += g * h / (double)cols;
            want_gamma[j] += (double)dy[r * cols + j] * h;
            want_beta[j] += (double)dy[r * cols + j];
        }
        for (size_t j = 0; j < cols; j++) {
            double h = (x[j] - mean) * scale, g = (double)dy[r * cols + j] * (double)gamma[j];
            near((double)dx[r * cols + j], scale * (g - sum - h * dot), 10 * scale,
                 "norm_backward");
        }
    }
    for (size_t j = 0; j < cols; j++) {
        near((double)dgamma[j], want_gamma[j], 10 * (double)rows, "dgamma");
        near((double)dbeta[j], want_beta[j], (double)rows, "dbeta");
    }
}

static void gelus(size_t rows, size_t cols)
{
    real pre[MAX], act[MAX], bias[MAX], in[MAX];
    fill(in, rows * cols, 6);
    fill(bias, cols, 1);
    memcpy(pre, in, sizeof pre);
    k->gelu(bias, rows, cols, pre, act);
    for (size_t i = 0; i < rows * cols; i++) {
        double x = (double)in[i] + (double)bias[i % cols], cdf = 0.5 * erfc(-x / sqrt(2));
        near((double)act[i], x * cdf, 0.1, "gelu");
        near((double)pre[i], cdf + x * exp(-x * x / 2) / sqrt(2 * 3.14159265358979323846), 0.1,
             "gelu's slope");
    }
}

static void softmaxes(size_t rows, size_t cols, const struct model_drop *d)
{
    real p[MAX], in[MAX], used[MAX], g[MAX], kept[MAX], factor[MAX], logits[MAX];
    fill(in, rows * cols, 8);
    fill(g, rows * cols, 1);
    memcpy(p, in, sizeof p);
    memcpy(kept, g, sizeof g);
    k->softmax(p, rows, cols, d, 5, 3, used);
    k->softmax_backward(p, rows, cols, d, 5, 3, g);
    for (size_t r = 0; r < rows; r++) {
        double sum = 0, dot = 0, q[MAX];
        dropped(d, 5 + 3 * r, cols, factor);
        for (size_t j = 0; j < cols; j++) {
            sum += exp((double)in[r * cols + j]);
        }
        for (size_t j = 0; j < cols; j++) {
            q[j] = exp((double)in[r * cols + j]) / sum;
            near((double)p[r * cols + j], q[j], 1, "softmax");
            near((double)used[r * cols + j], q[j] * (double)factor[j], 1, "softmax dropped");
            dot += q[j] * (double)kept[r * cols + j] * (double)factor[j];
        }
        for (size_t j = 0; j < cols; j++) {
            near((double)g[r * cols + j],
                 q[j] * ((double)kept[r * cols + j] * (double)factor[j] - dot), 1,
                 "softmax_backward");
        }
        size_t label = seed_below(&seed, cols);
        double loss = log(sum) - (double)in[r * cols + label];
        near(k->cross_entropy(in + r * cols, cols, label, 3, logits), loss, 1, "cross_entropy");
        near(k->cross_entropy(in + r * cols, cols, label, 3, NULL), loss, 1, "cross_entropy");
        for (size_t j = 0; j < cols; j++) {
            near((double)logits[j], 3 * (q[j] - (j == label)), 3, "cross_entropy's gradient");
        }
    }
}

static void adamw(size_t n)
{
    real p[MAX], m[MAX], v[MAX], g[MAX], p0[MAX], m0[MAX], v0[MAX];
    fill(p, n, 1);
    fill(m, n, 1);
    fill(v, n, 1);
    fill(g, n, 1);
    for (size_t i = 0; i < n; i++) {
        v[i] = (real)fabs((double)v[i]);
    }
    memcpy(p0, p, sizeof p0);
    memcpy(m0, m, sizeof m0);
    memcpy(v0, v, sizeof v0);
    k->adamw(&(struct model_adamw_rows){n, p, m, v, g, (real)0.5, (real)0.9, (real)0.99, (real)1e-3,
                                        (real)0.98, (real)0.01, (real)1.5});
    for (size_t i = 0; i < n; i++) {
        double gi = 0.5 * (double)g[i], mi = 0.9 * (double)m0[i] + 0.1 * gi;
        double vi = 0.99 * (double)v0[i] + 0.01 * gi * gi;
        near((double)m[i], mi, 1, "adamw's m");
        near((double)v[i], vi, 1, "adamw's v");
        near((double)p[i], 0.98 * (double)p0[i] - 0.01 * mi / (sqrt(vi) * 1.5 + 1e-3), 10, "adamw");
    }
}

static void all_kernels(void **state)
{
    (void)state;
    seed = seed_of(seed_number(51));
    size_t sets = 0;
    for (; (k = model_kernels_at(sets)); sets++) {
        for (size_t n = 1; n <= 60; n++) {
            size_t rows = 1 + seed_below(&seed, MAX / n > 4 ? 4 : MAX / n);
            struct model_drop d = {.key = seed_next(&seed),
                                   .threshold = n % 3 ? 0x40000000u : 0,
                                   .scale = n % 3 ? (real)(4.0 / 3) : 1};
            sums(n * 5 % MAX);
            columns(rows, n);
            norms(rows, n, &d);
            gelus(rows, n);
            softmaxes(rows, n, &d);
            adamw(n);
        }
    }
    print_message("# %zu sets of kernels, the last is %s\n", sets, model_kernels()->name);
    assert_true(sets >= 1);
}

/* A quarter is dropped, whatever the row; rows and keys differ. Within 6 deviations but for 2e-9 of keys; the key is fixed. */
static void dropout_law(void **state)
{
    (void)state;
    enum {
        ROWS = 400,
        COLS = 250
    };
    static real ones[ROWS * COLS], a[ROWS * COLS], b[ROWS * COLS];
    struct model_drop d = {.key = 99, .threshold = 0x40000000u, .scale = (real)(4.0 / 3)};
    double zeros = 0, same = 0, pairs = 0;
    for (size_t i = 0; i < ROWS * COLS; i++) {
        ones[i] = 1;
    }
    model_kernels()->drop_rows(&d, 0, ROWS, COLS, ones, a);
    d.key = 100;
    model_kernels()->drop_rows(&d, 0, ROWS, COLS, ones, b);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        zeros += a[i] == 0;
        same += (a[i] == 0) == (b[i] == 0);
        pairs += i >= COLS && (a[i] == 0) == (a[i - COLS] == 0);
    }
    double n = ROWS * COLS;
    assert_true(fabs(zeros - 0.25 * n) < 6 * sqrt(0.1875 * n));
    assert_true(fabs(same - 0.625 * n) < 6 * sqrt(0.2344 * n));
    assert_true(fabs(pairs - 0.625 * (n - (double)COLS)) < 6 * sqrt(0.2344 * n));
    /* Part of a batch drops what the whole drops. */
    model_kernels()->drop_rows(&d, 7, 1, COLS, ones, a);
    assert_memory_equal(a, b + 7 * COLS, COLS * sizeof *a);
}

#define SET_MDWE         65 /* PR_SET_MDWE of Linux 6.3, which older headers lack */
#define REFUSE_EXEC_GAIN 1ul

/* A child that may make no code still multiplies, without oneDNN. */
static void without_new_code(void **state)
{
    (void)state;
    if (getenv("UNDER_VALGRIND")) {
        print_message("# valgrind itself makes code\n");
        return;
    }
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        float a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {1, 0, 2, 1, 3, 1}, c[4];
        if (prctl(SET_MDWE, REFUSE_EXEC_GAIN, 0ul, 0ul, 0ul)) {
            _exit(77);
        }
        model_gemm(false, false, 2, 2, 3, 1, a, 3, b, 2, 0, c, 2);
        bool right = c[0] == 14 && c[1] == 5 && c[2] == 32 && c[3] == 11;
        _exit(right && !strstr(model_gemm_name(), "dnnl") ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("# this kernel has no PR_SET_MDWE\n");
    } else {
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(without_new_code),
                                       cmocka_unit_test(all_kernels),
                                       cmocka_unit_test(dropout_law)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
