/* Linear regression, a small network and Cox regression: gradients by central differences; optima against the normal equations and R's
 * survival; private training by what it must reach and by the noise that it must add. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "crypto/provider.h"
#include "node/model/table_model.h"
#include "node/model/tabular.h"
#include "proto/privacy.h"
#include "tests/lib/seed.h"
#include "tests/lib/vectors.h"

#define ROWS_MAX 8000u
#define FEATURES 4u

static struct {
    float x[ROWS_MAX * FEATURES], target[ROWS_MAX], time[ROWS_MAX];
    uint8_t y[ROWS_MAX];
    uint32_t unit[ROWS_MAX];
    struct model_table table;
} data;

static float within(double v)
{
    return (float)fmin(fmax(v, -1), 1);
}

/* flchain of R's survival: age, sex, kappa, lambda; the year of the sample as a target; death within 5215 days. */
static int read_table(void **state)
{
    (void)state;
    char path[PATH_MAX], line[256], sex;
    snprintf(path, sizeof path, "%s", vectors_path("data/flchain.csv"));
    FILE *file = fopen(path, "r");
    size_t n = 0;
    if (!file || crypto_init(NULL) || !fgets(line, sizeof line, file)) {
        return -1;
    }
    while (n < ROWS_MAX && fgets(line, sizeof line, file)) {
        double age, year, kappa, lambda, time;
        char rest[128];
        int death = 0;
        if (sscanf(line, "%lf,%c,%lf,%lf,%lf,%127s", &age, &sex, &year, &kappa, &lambda, rest) !=
            6) {
            return -1;
        }
        /* flc.grp, creatinine (may be missing), mgus, futime, death */
        char *at = rest;
        for (unsigned skip = 0; skip < 3; skip++) {
            at = strchr(at, ',') + 1;
        }
        if (sscanf(at, "%lf,%d", &time, &death) != 2 || !(time > 0)) {
            continue;
        }
        float *x = data.x + n * FEATURES;
        x[0] = within(2 * (age - 40) / 70 - 1);
        x[1] = sex == 'M' ? 1 : 0;
        x[2] = within(2 * kappa / 25 - 1);
        x[3] = within(2 * lambda / 30 - 1);
        data.target[n] = within((2 * year - 1995 - 2003) / 8);
        data.time[n] = (float)(time / 5215);
        data.y[n] = (uint8_t)death;
        data.unit[n] = (uint32_t)n;
        n++;
    }
    fclose(file);
    data.table =
        (struct model_table){n, FEATURES, data.x, data.y, data.unit, n, data.target, data.time};
    return n == 7871 ? 0 : -1;
}

static double loss_at(const struct model_tabular *m, const struct model_table *t, const double *w,
                      double *gradient)
{
    double loss = 0;
    for (size_t i = 0; i < t->rows; i++) {
        loss += model_tabular_row(m, t, i, w, gradient);
    }
    return loss;
}

static void differences(void **state)
{
    (void)state;
    struct seed random = seed_of(seed_number(61));
    for (enum model_tabular_kind kind = MODEL_TABULAR_LOGISTIC; kind <= MODEL_TABULAR_COX; kind++) {
        struct model_tabular m = {.kind = kind, .features = FEATURES, .hidden = 3, .bins = 6};
        size_t count = model_tabular_count(&m);
        double w[64], gradient[64] = {0};
        assert_in_range(count, 1, 64);
        for (size_t i = 0; i < count; i++) {
            w[i] = (double)seed_below(&random, 2001) / 1000 - 1;
        }
        struct model_table t = data.table;
        t.rows = t.units = 200;
        loss_at(&m, &t, w, gradient);
        for (size_t i = 0; i < count; i++) {
            double kept = w[i], eps = 1e-5;
            w[i] = kept + eps;
            double above = loss_at(&m, &t, w, NULL);
            w[i] = kept - eps;
            double below = loss_at(&m, &t, w, NULL);
            w[i] = kept;
            double want = (above - below) / (2 * eps);
            if (!(fabs(gradient[i] - want) <= 1e-6 * (1 + fabs(want)))) {
                fail_msg("kind %d, weight %zu: %.9g, differences give %.9g", kind, i, gradient[i],
                         want);
            }
        }
    }
}

/* Solves a x = b in place; n small, a positive definite. */
static void solve(size_t n, double *a, double *b)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t r = i + 1; r < n; r++) {
            double f = a[r * n + i] / a[i * n + i];
            for (size_t c = i; c < n; c++) {
                a[r * n + c] -= f * a[i * n + c];
            }
            b[r] -= f * b[i];
        }
    }
    for (size_t i = n; i > 0; i--) {
        for (size_t c = i; c < n; c++) {
            b[i - 1] -= a[(i - 1) * n + c] * b[c];
        }
        b[i - 1] /= a[(i - 1) * n + i - 1];
    }
}

/* Newton's steps with second derivatives from differences of exact gradients, halved until the loss falls. */
static void minimise(const struct model_tabular *m, const struct model_table *t, double *w)
{
    size_t n = model_tabular_count(m);
    static double hessian[128 * 128], step[128], up[128], down[128], tried[128];
    assert_in_range(n, 1, 128);
    for (unsigned round = 0; round < 40; round++) {
        double before = loss_at(m, t, w, NULL), size = 0;
        memset(step, 0, sizeof step);
        loss_at(m, t, w, step);
        for (size_t i = 0; i < n; i++) {
            double kept = w[i], eps = 1e-5;
            memset(up, 0, sizeof up);
            memset(down, 0, sizeof down);
            w[i] = kept + eps;
            loss_at(m, t, w, up);
            w[i] = kept - eps;
            loss_at(m, t, w, down);
            w[i] = kept;
            for (size_t j = 0; j < n; j++) {
                hessian[i * n + j] = (up[j] - down[j]) / (2 * eps) + (i == j ? 1e-6 : 0);
            }
        }
        solve(n, hessian, step);
        for (double part = 1; part > 1e-4; part /= 2) {
            for (size_t i = 0; i < n; i++) {
                tried[i] = w[i] - part * step[i];
            }
            if (loss_at(m, t, tried, NULL) <= before) {
                for (size_t i = 0; i < n; i++) {
                    size = fmax(size, fabs(tried[i] - w[i]));
                }
                memcpy(w, tried, n * sizeof *w);
                break;
            }
        }
        if (size < 1e-6) {
            return;
        }
    }
}

static void is_near(double got, double want, double by)
{
    if (!(fabs(got - want) <= by)) {
        fail_msg("%.9g, expected %.9g", got, want);
    }
}

/* R 4.2: lm((2 year - 1995 - 2003)/8 ~ x1 + x2 + x3 + x4). */
static void linear_regression(void **state)
{
    (void)state;
    static const double want[] = {-0.28739625815287, 0.00643908402121, 1.71703615720305,
                                  -1.16662866009337, -0.15699941139945};
    struct model_tabular m = {.kind = MODEL_TABULAR_LINEAR, .features = FEATURES};
    double w[5] = {0};
    minimise(&m, &data.table, w);
    for (size_t i = 0; i < 5; i++) {
        is_near(w[i], want[i], 2e-5);
    }
}

/* R's survival 3.5-3: coxph(Surv(futime, death) ~ x1 + x2 + x3 + x4, ties = "breslow") on the same 7,871 rows. */
static const double cox_want[] = {3.752210273932, 0.336703825473, 0.828921616643, 2.725182606184};

static void breslow(void **state)
{
    (void)state;
    static const double at[] = {1, 0.5, 0.25, -0.5}, zero[FEATURES] = {0};
    double loss, gradient[FEATURES] = {0}, c;
    assert_int_equal(model_cox_breslow(&data.table, zero, &loss, NULL, NULL), E_OK);
    is_near(loss, 18841.6174732, 2e-3);
    assert_int_equal(model_cox_breslow(&data.table, at, &loss, NULL, NULL), E_OK);
    is_near(loss, 18308.8772613, 2e-3);
    assert_int_equal(model_cox_breslow(&data.table, cox_want, &loss, gradient, &c), E_OK);
    is_near(loss, 17420.9880904, 2e-3);
    is_near(c, 0.793946859842, 2e-5);
    for (size_t i = 0; i < FEATURES; i++) {
        is_near(gradient[i], 0, 0.05); /* of 7,871 rows; x are floats */
    }
}

/* What federates is the piecewise model: with more bins it comes to Cox's coefficients. */
static void piecewise_becomes_cox(void **state)
{
    (void)state;
    double off[2] = {0};
    for (unsigned i = 0; i < 2; i++) {
        struct model_tabular m = {
            .kind = MODEL_TABULAR_COX, .features = FEATURES, .bins = i ? 20 : 5};
        double w[FEATURES + 20] = {0};
        struct model_table t = data.table;
        minimise(&m, &t, w);
        for (size_t j = 0; j < FEATURES; j++) {
            off[i] = fmax(off[i], fabs(w[j] - cox_want[j]));
        }
    }
    print_message("# from Cox's coefficients: %.4f with 5 bins, %.4f with 20\n", off[0], off[1]);
    assert_true(off[0] < 0.15 && off[1] < 0.05 && off[1] < off[0]);
}

/* Two rings that no line parts: the network learns what logistic regression cannot. */
static void network_learns(void **state)
{
    (void)state;
    enum {
        N = 400
    };
    static float x[N * 2], target[N];
    static uint8_t y[N];
    static uint32_t unit[N];
    struct seed random = seed_of(7);
    for (uint32_t i = 0; i < N; i++) {
        double angle = (double)seed_below(&random, 6283) / 1000, r = i % 2 ? 0.3 : 0.9;
        x[2 * i] = (float)(r * cos(angle));
        x[2 * i + 1] = (float)(r * sin(angle));
        y[i] = i % 2;
        target[i] = i % 2 ? 1 : -1;
        unit[i] = i;
    }
    struct model_table t = {N, 2, x, y, unit, N, target, NULL};
    for (enum model_tabular_kind kind = MODEL_TABULAR_MLP_LOGISTIC;
         kind <= MODEL_TABULAR_MLP_LINEAR; kind++) {
        struct model_tabular m = {.kind = kind, .features = 2, .hidden = 8};
        double w[64];
        uint32_t steps;
        model_tabular_start(&m, 3, w);
        assert_true(w[0] != w[3]);
        struct model_sgd sgd = {.rate = 1,
                                .clip = 1,
                                .sigma = PROTO_PRIVACY_SIGMA_MIN,
                                .learning_rate = 0.5,
                                .momentum = 0.9,
                                .expected_batch = N,
                                .steps = 300};
        assert_int_equal(model_tabular_train(&m, &t, &sgd, w, NULL, NULL, &steps, NULL), E_OK);
        unsigned right = 0;
        for (uint32_t i = 0; i < N; i++) {
            double answer = model_tabular_answer(&m, w, x + 2 * i);
            right += (answer > (kind == MODEL_TABULAR_MLP_LOGISTIC ? 0.5 : 0)) == (y[i] == 1);
        }
        print_message("# kind %d: %u of %d\n", kind, right, N);
        assert_true(right > 0.9 * (double)N);
    }
}

/* Little noise: near the optimum. Cox keeps its order, linear its residual. */
static void private_training(void **state)
{
    (void)state;
    struct model_tabular cox = {.kind = MODEL_TABULAR_COX, .features = FEATURES, .bins = 5},
                         linear = {.kind = MODEL_TABULAR_LINEAR, .features = FEATURES};
    struct model_sgd sgd = {.rate = 0.2,
                            .clip = 1,
                            .sigma = 1,
                            .learning_rate = 0.5,
                            .momentum = 0.9,
                            .expected_batch = 1574,
                            .steps = 150};
    double w[FEATURES + 5], loss, c, best[FEATURES + 1] = {0};
    uint32_t steps;
    model_tabular_start(&cox, 1, w);
    assert_int_equal(model_tabular_train(&cox, &data.table, &sgd, w, NULL, NULL, &steps, NULL),
                     E_OK);
    assert_int_equal(steps, 150);
    assert_int_equal(model_cox_breslow(&data.table, w, &loss, NULL, &c), E_OK);
    print_message("# Cox: concordance %.4f with noise, 0.7939 without\n", c);
    assert_true(c > 0.77);
    double v[FEATURES + 1] = {0};
    assert_int_equal(model_tabular_train(&linear, &data.table, &sgd, v, NULL, NULL, &steps, NULL),
                     E_OK);
    minimise(&linear, &data.table, best);
    double noisy = loss_at(&linear, &data.table, v, NULL),
           exact = loss_at(&linear, &data.table, best, NULL);
    print_message("# linear: loss %.2f with noise, %.2f without\n", noisy, exact);
    assert_true(noisy >= exact && noisy < 1.2 * exact);
}

/* A network's document against its formula by hand, and what a missing value counts as: the middle, as in training. */
static void documents_answer(void **state)
{
    (void)state;
    static const char document[] =
        "{\"format\":\"concordat-network-1\",\"link\":\"identity\",\"missing\":\"midpoint\","
        "\"features\":["
        "{\"name\":\"age\",\"encoding\":\"standardised\",\"at\":0,\"width\":1,\"min\":0,\"max\":"
        "100},"
        "{\"name\":\"sex\",\"encoding\":\"one-hot\",\"at\":1,\"width\":1,\"values\":[\"F\",\"M\"]},"
        "{\"name\":\"ill\",\"encoding\":\"zero-one\",\"at\":2,\"width\":1}],"
        "\"target\":{\"name\":\"y\",\"scale\":2,\"offset\":10},"
        "\"hidden\":[{\"weights\":[0.5,-1,2],\"intercept\":0.25},{\"weights\":[1,2,0],"
        "\"intercept\":0}],"
        "\"weights\":[1.5,-0.5],\"intercept\":-1}";
    const struct span names[] = {span_str("ill"), span_str("age"), span_str("sex")};
    const struct {
        const char *ill, *age, *sex;
        double x[3];
    } rows[] = {{"1", "75", "M", {0.5, 1, 1}},
                {"false", "200", "F", {1, 0, 0}},
                {"", "", "", {0, 0.5, 0.5}},
                {"1", "old", "X", {0, 0.5, 1}}};
    struct model_table_model *model = NULL;
    assert_int_equal(model_table_model_read(span_str(document), &model, NULL), E_OK);
    assert_int_equal(model_table_model_header(model, names, 3, NULL), E_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double *x = rows[i].x;
        const struct span fields[] = {span_str(rows[i].ill), span_str(rows[i].age),
                                      span_str(rows[i].sex)};
        double want = 10 + 2 * (-1 + 1.5 * tanh(0.5 * x[0] - x[1] + 2 * x[2] + 0.25) -
                                0.5 * tanh(x[0] + 2 * x[1]));
        is_near(model_table_model_answer(model, fields, 3), want, 1e-6);
    }
    model_table_model_free(model);
    /* A linear one with hidden units, a network without, units of another width. */
    static const char *const wrong[] = {
        "{\"format\":\"concordat-linear-1\",\"link\":\"log\",\"features\":[],\"hidden\":[],"
        "\"weights\":[],"
        "\"intercept\":0}",
        "{\"format\":\"concordat-network-1\",\"link\":\"log\",\"features\":[],\"weights\":[],"
        "\"intercept\":0}",
        "{\"format\":\"concordat-network-1\",\"link\":\"log\",\"features\":[],\"hidden\":[{"
        "\"weights\":[1],"
        "\"intercept\":0},{\"weights\":[1,2],\"intercept\":0}],\"weights\":[1,2],\"intercept\":0}"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(model_table_model_read(span_str(wrong[i]), &model, NULL), E_INVALID);
    }
}

static void refuses(void **state)
{
    (void)state;
    struct model_tabular m = {.kind = MODEL_TABULAR_COX, .features = FEATURES, .bins = 5};
    struct model_table t = data.table;
    assert_true(model_tabular_table_valid(&m, &t));
    t.time = NULL;
    assert_false(model_tabular_table_valid(&m, &t));
    t = data.table;
    m.bins = 0;
    assert_false(model_tabular_valid(&m));
    m.bins = MODEL_BINS_MAX + 1;
    assert_false(model_tabular_valid(&m));
    m = (struct model_tabular){.kind = MODEL_TABULAR_LINEAR, .features = FEATURES};
    t.target = NULL;
    assert_false(model_tabular_table_valid(&m, &t));
    m = (struct model_tabular){.kind = MODEL_TABULAR_MLP_LINEAR, .features = FEATURES};
    assert_false(model_tabular_valid(&m));
    double w[8] = {0};
    uint32_t steps = 3;
    struct model_sgd sgd = {
        .rate = 0.1, .clip = 1, .sigma = 1, .learning_rate = 1, .expected_batch = 10, .steps = 1};
    assert_int_equal(model_tabular_train(&m, &data.table, &sgd, w, NULL, NULL, &steps, NULL),
                     E_INVALID);
    assert_int_equal(steps, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(differences),      cmocka_unit_test(linear_regression),
        cmocka_unit_test(breslow),          cmocka_unit_test(piecewise_becomes_cox),
        cmocka_unit_test(network_learns),   cmocka_unit_test(private_training),
        cmocka_unit_test(documents_answer), cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, read_table, NULL);
}
