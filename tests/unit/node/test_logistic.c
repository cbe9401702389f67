/* Private logistic regression: gradient, clipping, grid and metrics exactly; training by what it must reach. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "node/model/logistic.h"
#include "node/model/metrics.h"
#include "proto/privacy.h"
#include "tests/lib/newton.h"
#include "tests/lib/numbers.h"

#define ROWS     6000
#define FEATURES 4
#define SITES    3

static uint64_t seed;

static double unit(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (double)(seed >> 11) / 9007199254740992.0;
}

static float x[ROWS * FEATURES];
static uint8_t y[ROWS];
static uint32_t patient[ROWS];

/* One well spread column, two squeezed into a corner of their public bounds as laboratory values are, one 0/1. */
static void make_rows(void)
{
    for (size_t i = 0; i < ROWS; i++) {
        float *row = x + i * FEATURES;
        row[0] = (float)(1.6 * unit() - 0.9);
        row[1] = (float)(-0.95 + 0.2 * unit() * unit());
        row[2] = (float)(-0.9 + 0.3 * unit() * unit());
        row[3] = (float)(unit() < 0.4);
        double score = 2.5 * (double)row[0] + 8 * ((double)row[1] + 0.88) +
                       5 * ((double)row[2] + 0.8) + 0.4 * (double)row[3] - 0.6;
        y[i] = unit() < 1 / (1 + exp(-score));
        patient[i] = (uint32_t)i;
    }
}

static struct model_table table_of(size_t from, size_t to)
{
    /* Patients are numbered from 0 in each table; every row is a patient of its own. */
    return (struct model_table){
        to - from, FEATURES, x + from * FEATURES, y + from, patient, to - from, NULL, NULL};
}

static void gradient_is_the_slope_of_the_loss(void **state)
{
    (void)state;
    struct model_table t = table_of(0, 50);
    for (int round = 0; round < 20; round++) {
        double w[FEATURES + 1];
        double gradient[FEATURES + 1] = {0};
        for (size_t j = 0; j <= FEATURES; j++) {
            w[j] = 6 * unit() - 3;
        }
        model_logistic_gradient(&t, 10, 50, w, gradient);
        for (size_t j = 0; j <= FEATURES; j++) {
            double loss[2] = {0, 0};
            for (int side = 0; side < 2; side++) {
                double moved[FEATURES + 1];
                memcpy(moved, w, sizeof w);
                moved[j] += side ? 1e-5 : -1e-5;
                for (size_t i = 10; i < 50; i++) {
                    loss[side] += model_logistic_loss(
                        model_logistic_score(moved, x + i * FEATURES, FEATURES), y[i]);
                }
            }
            assert_near(gradient[j], (loss[1] - loss[0]) / 2e-5, 1e-6);
        }
    }
}

static void clipping_bounds_every_patient(void **state)
{
    (void)state;
    for (int round = 0; round < 2000; round++) {
        size_t count = 1 + (size_t)(unit() * 60);
        double clip = exp(8 * unit() - 4);
        double sigma = exp(9 * unit() - 2.3);
        double v[60];
        double before[60];
        int64_t sum[60] = {0};
        struct model_grid grid;
        for (size_t j = 0; j < count; j++) {
            v[j] = before[j] = (unit() - 0.5) * exp(12 * unit() - 6);
        }
        model_clip(v, count, clip);
        double norm = 0;
        double norm_before = 0;
        for (size_t j = 0; j < count; j++) {
            norm += v[j] * v[j];
            norm_before += before[j] * before[j];
        }
        assert_true(sqrt(norm) <= clip);
        if (sqrt(norm_before) < 0.999 * clip) {
            assert_memory_equal(v, before, count * sizeof *v); /* short ones are left alone */
        } else {
            assert_true(sqrt(norm) > 0.998 * clip);
        }
        assert_int_equal(model_grid_plan(clip, sigma, count, &grid), E_OK);
        model_grid_add(&grid, v, count, sum);
        long double square = 0;
        for (size_t j = 0; j < count; j++) {
            square += (long double)sum[j] * (long double)sum[j];
            assert_near(ldexp((double)sum[j], grid.log2), v[j],
                        ldexp(0.5, grid.log2)); /* none was left out */
        }
        assert_true(square <= (long double)grid.sensitivity * (long double)grid.sensitivity);
        long double need = (long double)sigma * (long double)grid.sensitivity;
        assert_true((long double)grid.sigma2 >= need * need);
        assert_true((long double)grid.sigma2 <= need * need * 1.0000001L);
        assert_true(grid.sigma2 >= (uint64_t)1 << 40);
    }
    double bad[2] = {NAN, 1};
    model_clip(bad, 2, 1);
    assert_near(bad[1], 0, 0);
    /* A vector that somebody forgot to clip is not added. */
    struct model_grid grid;
    double large[2] = {1, 1};
    int64_t sum[2] = {0, 0};
    assert_int_equal(model_grid_plan(1, 1, 2, &grid), E_OK);
    model_grid_add(&grid, large, 2, sum);
    assert_int_equal(sum[0], 0);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct model_table t = table_of(0, 100);
    struct model_sgd good = {0.1, 1, 1, 2, 0.9, 10, 1, 0, NULL};
    double w[FEATURES + 1] = {0};
    uint32_t steps;
    struct model_sgd bad = good;
    bad.sigma = 0; /* there is no training without noise */
    assert_int_equal(model_logistic_train(&t, &bad, w, NULL, NULL, &steps, NULL), E_LIMIT);
    bad = good;
    bad.rate = 1.5;
    assert_int_equal(model_logistic_train(&t, &bad, w, NULL, NULL, &steps, NULL), E_INVALID);
    bad = good;
    bad.clip = NAN;
    assert_int_equal(model_logistic_train(&t, &bad, w, NULL, NULL, &steps, NULL), E_INVALID);
    bad = good;
    bad.momentum = 1;
    assert_int_equal(model_logistic_train(&t, &bad, w, NULL, NULL, &steps, NULL), E_INVALID);
    float wide[FEATURES] = {1.5f, 0, 0, 0};
    struct model_table one = {1, FEATURES, wide, y, patient, 1, NULL, NULL};
    assert_false(model_table_valid(&one));
    static const uint32_t gap[2] = {0, 2};
    one = (struct model_table){2, FEATURES, x, y, gap, 3, NULL, NULL};
    assert_false(model_table_valid(&one));
    assert_near(w[0], 0, 0);
    assert_near((double)model_standardise(50, 50, 110), -1, 0);
    assert_near((double)model_standardise(1e9, 50, 110), 1, 0);
    assert_near((double)model_standardise(80, 50, 110), 0, 0);
}

static bool cancel_third(void *user)
{
    return ++*(int *)user > 2;
}

/* Noise is there at any size: an empty table moves the weights by noise of the stated deviation alone. */
static void empty_batches_add_noise(void **state)
{
    (void)state;
    struct model_table empty = {0, FEATURES, x, y, patient, 0, NULL, NULL};
    struct model_sgd sgd = {0.1, 1, 2, 1, 0, 10, 400, 0, NULL};
    double squares = 0;
    size_t n = 0;
    uint32_t steps;
    for (int run = 0; run < 40; run++) {
        double w[FEATURES + 1] = {0};
        assert_int_equal(model_logistic_train(&empty, &sgd, w, NULL, NULL, &steps, NULL), E_OK);
        assert_int_equal(steps, 400);
        for (size_t j = 0; j <= FEATURES; j++, n++) {
            squares += w[j] * w[j] / (400 * pow(2 * 1 / 10.0, 2));
        }
    }
    /* Mean of 200 squares of standard normal values: 5 standard errors. */
    assert_near(squares / (double)n, 1, 5 * sqrt(2.0 / (double)n));
    int calls = 0;
    double w[FEATURES + 1] = {0};
    assert_int_equal(model_logistic_train(&empty, &sgd, w, cancel_third, &calls, &steps, NULL),
                     E_CANCELLED);
    assert_int_equal(steps, 2); /* two were drawn and are spent */
    assert_near(w[0], 0, 0);
}

/* One patient with very many rows moves the model no further than one clipped gradient a step. */
static void many_rows_of_one_patient_count_once(void **state)
{
    (void)state;
    static float same[1000 * FEATURES];
    static uint8_t ones[1000];
    static uint32_t zero[1000];
    for (size_t i = 0; i < 1000; i++) {
        ones[i] = 1;
        same[i * FEATURES] = 1;
    }
    struct model_table t = {1000, FEATURES, same, ones, zero, 1, NULL, NULL};
    struct model_sgd sgd = {1, 1, 0.1, 1, 0, 1000, 1, 0, NULL};
    double w[FEATURES + 1] = {0};
    uint32_t steps;
    assert_int_equal(model_logistic_train(&t, &sgd, w, NULL, NULL, &steps, NULL), E_OK);
    /* A clipped gradient of norm 1 over 1000, and noise of 1e-4 a coordinate: 7 deviations. */
    double norm = 0;
    for (size_t j = 0; j <= FEATURES; j++) {
        norm += w[j] * w[j];
    }
    assert_true(sqrt(norm) < 0.001 + 7e-4 * sqrt(FEATURES + 1));
}

static void federated(double epsilon, unsigned rounds, double epochs, double clip, double *global)
{
    double rate = 256.0 / (ROWS / SITES);
    uint32_t steps = (uint32_t)ceil(epochs / rate);
    double sigma = 0;
    assert_int_equal(
        proto_privacy_sgd_calibrate(epsilon, 1e-6, rate, (uint64_t)steps * rounds, 0, &sigma),
        E_OK);
    struct model_sgd sgd = {rate,  clip, sigma, MODEL_LEARNING_RATE, MODEL_MOMENTUM, 256,
                            steps, 0,    NULL};
    for (unsigned round = 0; round < rounds; round++) {
        double mean[FEATURES + 1] = {0};
        for (size_t site = 0; site < SITES; site++) {
            struct model_table t = table_of(site * ROWS / SITES, (site + 1) * ROWS / SITES);
            double local[FEATURES + 1];
            uint32_t done;
            memcpy(local, global, sizeof local);
            assert_int_equal(model_logistic_train(&t, &sgd, local, NULL, NULL, &done, NULL), E_OK);
            for (size_t j = 0; j <= FEATURES; j++) {
                mean[j] += local[j] / SITES;
            }
        }
        memcpy(global, mean, sizeof mean);
    }
}

static void federated_training_reaches_newton(void **state)
{
    (void)state;
    double best[FEATURES + 1];
    double w[FEATURES + 1] = {0};
    assert_true(newton_fit(x, y, ROWS, FEATURES, best));
    double auc = newton_auc(x, y, ROWS, FEATURES, best);
    assert_true(auc > 0.7);
    federated(1000, 20, 5, MODEL_CLIP, w);
    assert_true(newton_auc(x, y, ROWS, FEATURES, w) > auc - 0.005);
}

static void little_budget_still_lowers_the_loss(void **state)
{
    (void)state;
    double zero[FEATURES + 1] = {0};
    double before = newton_loss(x, y, ROWS, FEATURES, zero);
    int lower = 0;
    for (int run = 0; run < 10; run++) {
        double w[FEATURES + 1] = {0};
        federated(4, 10, 1, MODEL_CLIP, w);
        lower += newton_loss(x, y, ROWS, FEATURES, w) < before - 0.02;
    }
    assert_true(lower >= 9);
}

static void metrics_match_the_exact_ones(void **state)
{
    (void)state;
    struct model_table t = table_of(0, ROWS);
    double w[FEATURES + 1];
    assert_true(newton_fit(x, y, ROWS, FEATURES, w));
    struct model_metrics exact;
    struct model_metrics got;
    assert_int_equal(model_logistic_evaluate(&t, w, &exact), E_OK);
    assert_near(exact.loss, newton_loss(x, y, ROWS, FEATURES, w), 1e-3); /* clipping at 4 */
    assert_near(exact.auc, newton_auc(x, y, ROWS, FEATURES, w), 2e-3);   /* 64 bins */
    assert_near(exact.rows, ROWS, 0);

    static __int128 sums[MODEL_METRICS_VALUES];
    static int64_t values[MODEL_METRICS_VALUES];
    struct model_metrics_plan plan;
    struct model_scores scores = {0};
    assert_int_equal(model_metrics_plan_make(50000000, 1, &plan, NULL), E_OK);
    assert_int_equal(model_metrics_sum(&plan, &t, w, sums), E_OK);
    for (size_t i = 0; i < MODEL_METRICS_VALUES; i++) {
        values[i] = (int64_t)sums[i];
    }
    model_metrics_add(&plan, values, &scores);
    model_metrics_finish(&scores, &got);
    assert_near(got.loss, exact.loss, 1e-6);
    assert_near(got.accuracy, exact.accuracy, 1e-12);
    assert_near(got.auc, exact.auc, 1e-12);

    assert_int_equal(model_metrics_release(&plan, NULL, sums, values, NULL), E_OK);
    memset(&scores, 0, sizeof scores);
    model_metrics_add(&plan, values, &scores);
    model_metrics_finish(&scores, &got);
    assert_true(got.loss_margin > 0 && got.loss_margin < 0.02);
    assert_near(got.loss, exact.loss, 3 * got.loss_margin); /* 5.9 deviations */
    assert_near(got.accuracy, exact.accuracy, 3 * got.accuracy_margin);
    assert_near(got.auc, exact.auc, 0.05);
    assert_true(values[0] != ROWS || values[2] != (int64_t)sums[2] ||
                values[1] != (int64_t)sums[1]);
}

static void metrics_bound_a_patient(void **state)
{
    (void)state;
    static uint32_t one_patient[ROWS];
    struct model_table t = {ROWS, FEATURES, x, y, one_patient, 1, NULL, NULL};
    double w[FEATURES + 1] = {0};
    static __int128 sums[MODEL_METRICS_VALUES];
    struct model_metrics_plan plan;
    assert_int_equal(model_metrics_plan_make(50000000, 3, &plan, NULL), E_OK);
    assert_int_equal(model_metrics_sum(&plan, &t, w, sums), E_OK);
    assert_int_equal((int64_t)sums[0], 3);
    assert_true(sums[1] <= 3 * (__int128)plan.sums[1].sensitivity);
    /* An empty table is answered like any other. */
    t = (struct model_table){0, FEATURES, x, y, patient, 0, NULL, NULL};
    static int64_t values[MODEL_METRICS_VALUES];
    assert_int_equal(model_metrics_sum(&plan, &t, w, sums), E_OK);
    assert_int_equal(model_metrics_release(&plan, NULL, sums, values, NULL), E_OK);
    double none[MODEL_HISTOGRAM_BINS] = {0};
    assert_true(isnan(model_histogram_auc(none, none)));
    assert_int_equal(model_histogram_bin(NAN), 0);
    assert_int_equal(model_histogram_bin(1), MODEL_HISTOGRAM_BINS - 1);
}

int main(void)
{
    const char *given = getenv("SEED");
    seed = given ? strtoull(given, NULL, 10) : 20260731;
    printf("# SEED=%llu\n", (unsigned long long)seed);
    make_rows();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradient_is_the_slope_of_the_loss),
        cmocka_unit_test(clipping_bounds_every_patient),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(empty_batches_add_noise),
        cmocka_unit_test(many_rows_of_one_patient_count_once),
        cmocka_unit_test(federated_training_reaches_newton),
        cmocka_unit_test(little_budget_still_lowers_the_loss),
        cmocka_unit_test(metrics_match_the_exact_ones),
        cmocka_unit_test(metrics_bound_a_patient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
