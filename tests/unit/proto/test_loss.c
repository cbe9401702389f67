/* proto/loss and proto/selection against the vectors, within the intervals that the files state; where a file states none, 1e-9
 * relative, and never below what is true. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "proto/loss.h"
#include "proto/privacy.h"
#include "proto/selection.h"
#include "tests/lib/numbers.h"

static void within(const struct numbers *t, const char *what, double got, double lo, double hi)
{
    if (!(got >= lo && got <= hi)) {
        fail_msg("row %zu: %s is %.17g, outside [%.17g, %.17g]", t->rows, what, got, lo, hi);
    }
}

/* A loss that must not be understated. */
static void loss_is(const struct numbers *t, const char *what, double got, double want)
{
    within(t, what, got, want * (1 - 1e-13) - 1e-40, want * (1 + 1e-9) + 1e-15);
}

static void laplace_matches(void **state)
{
    (void)state;
    struct numbers t;
    numbers_open(&t, "privacy", "05_laplace_rdp.csv");
    while (numbers_next(&t)) {
        loss_is(&t, "R",
                proto_loss_laplace_rdp(numbers_get(&t, "scale_b"), numbers_get(&t, "alpha")),
                numbers_get(&t, "rdp"));
    }
    numbers_enough(&t, 40);
    numbers_open(&t, "privacy", "05b_laplace_delta.csv");
    while (numbers_next(&t)) {
        double want = numbers_get(&t, "delta");
        double got = proto_loss_laplace_delta(numbers_get(&t, "scale_b"), numbers_get(&t, "eps"));
        within(&t, "delta", got, want * (1 - 1e-9), want * (1 + 1e-9) + 1e-16);
    }
    numbers_enough(&t, 30);
    numbers_open(&t, "privacy", "05c_discrete_laplace_rdp_delta.csv");
    while (numbers_next(&t)) {
        double b = numbers_get(&t, "scale_b");
        uint64_t shift = (uint64_t)numbers_get(&t, "D");
        double at = numbers_get(&t, "arg");
        double got = strcmp(t.values[2], "rdp") == 0
                         ? proto_loss_discrete_laplace_rdp(b, shift, at)
                         : proto_loss_discrete_laplace_delta(b, shift, at);
        loss_is(&t, t.values[2], got, numbers_get(&t, "value"));
    }
    numbers_enough(&t, 130);
}

static void discrete_gaussian_matches(void **state)
{
    (void)state;
    struct numbers t;
    numbers_open(&t, "privacy", "03c_discrete_gaussian_delta.csv");
    while (numbers_next(&t)) {
        double variance = numbers_get(&t, "sigma2");
        uint64_t shift = (uint64_t)numbers_get(&t, "D");
        double epsilon = numbers_get(&t, "eps");
        loss_is(&t, "delta", proto_loss_discrete_gaussian_delta(variance, shift, epsilon),
                numbers_get(&t, "delta"));
        double continuous =
            proto_privacy_analytic_gaussian_delta(sqrt(variance) / numbers_get(&t, "D"), epsilon);
        double want = numbers_get(&t, "delta_continuous");
        within(&t, "continuous", continuous, want * (1 - 1e-8), want * (1 + 1e-8));
    }
    numbers_enough(&t, 100);
}

static void sums_of_noise_match(void **state)
{
    (void)state;
    struct numbers t;
    numbers_open(&t, "privacy", "06_distributed_discrete_gaussian.csv");
    while (numbers_next(&t)) {
        struct proto_loss_shared shared = {
            .parties = numbers_get(&t, "n"),
            .variance = numbers_get(&t, "sigma2"),
            .l2 = numbers_get(&t, "D2"),
            .l1 = numbers_get(&t, "D1"),
            .dimension = numbers_get(&t, "d"),
        };
        loss_is(&t, "tau", proto_loss_shared_tau(&shared), numbers_get(&t, "tau"));
        loss_is(&t, "rho", proto_loss_shared_rho(&shared), numbers_get(&t, "rho"));
        loss_is(&t, "R(2)", proto_loss_shared_rdp(&shared, 2), numbers_get(&t, "rdp_a2"));
        loss_is(&t, "R(8)", proto_loss_shared_rdp(&shared, 8), numbers_get(&t, "rdp_a8"));
        loss_is(&t, "R(32)", proto_loss_shared_rdp(&shared, 32), numbers_get(&t, "rdp_a32"));
    }
    numbers_enough(&t, 70);
    numbers_open(&t, "privacy", "06b_skellam_rdp.csv");
    while (numbers_next(&t)) {
        loss_is(&t, "R",
                proto_loss_skellam_rdp(numbers_get(&t, "mu_variance"), numbers_get(&t, "D2"),
                                       numbers_get(&t, "D1"), numbers_get(&t, "alpha")),
                numbers_get(&t, "rdp"));
    }
    numbers_enough(&t, 40);
}

/* R at ORDER of one event of a ledger of file 14, such as "dgauss:30x20" or "sgauss:1.1@0.01x1000"; adds its rho. */
static double event_rdp(const char *event, double order, double *rho)
{
    char kind[32];
    double parameter;
    double rate = 1;
    unsigned long long times;
    if (sscanf(event, "%31[a-z]:%lf@%lfx%llu", kind, &parameter, &rate, &times) != 4) {
        assert_int_equal(sscanf(event, "%31[a-z]:%lfx%llu", kind, &parameter, &times), 3);
    }
    double rdp;
    if (strcmp(kind, "lap") == 0 || strcmp(kind, "dlap") == 0) {
        *rho += (double)times / (2 * parameter * parameter);
        rdp = kind[0] == 'l' ? proto_loss_laplace_rdp(parameter, order)
                             : proto_loss_discrete_laplace_rdp(parameter, 1, order);
    } else {
        *rho += (double)times / (2 * parameter * parameter);
        rdp = proto_privacy_rdp_gaussian_subsampled(rate, parameter, order);
    }
    return (double)times * rdp;
}

static double ledger_rdp(const char *ledger, double order, double *rho)
{
    char text[256];
    char *rest = NULL;
    double sum = 0;
    *rho = 0;
    snprintf(text, sizeof text, "%s", ledger);
    for (char *event = strtok_r(text, ";", &rest); event; event = strtok_r(NULL, ";", &rest)) {
        sum += event_rdp(event, order, rho);
    }
    return sum;
}

/* Sums over mechanisms of several kinds, on the orders that the file names: 1.1 to 10.9, 11 to 63, 128 to 1024. */
static void mixed_ledgers_match(void **state)
{
    (void)state;
    struct numbers t;
    numbers_open(&t, "privacy", "14_mixed_ledger.csv");
    while (numbers_next(&t)) {
        double best = INFINITY;
        double rho = 0;
        for (int i = 0; i < 99 + 53 + 4; i++) {
            double order = i < 99 ? (i + 11) / 10.0 : i < 152 ? i - 88 : 128 << (i - 152);
            double rdp = ledger_rdp(t.values[1], order, &rho);
            best = fmin(best, proto_privacy_rdp_epsilon(rdp, order, numbers_get(&t, "delta")));
        }
        double want = numbers_get(&t, "rdp_eps");
        within(&t, t.values[1], best, want * (1 - 1e-9), want * (1 + 1e-6));
        if (t.values[t.columns - 1][0]) { /* every event is zCDP */
            assert_near(rho, numbers_get(&t, "rho"), 1e-12);
        }
    }
    numbers_enough(&t, 8);
}

/* A probability that keeps too much would be a leak: not above what is true but for rounding. */
static void selection_matches(void **state)
{
    (void)state;
    struct numbers t;
    numbers_open(&t, "privacy", "04_partition_selection_optimal.csv");
    while (numbers_next(&t)) {
        double epsilon = numbers_get(&t, "eps");
        double delta = numbers_get(&t, "delta");
        uint64_t groups = (uint64_t)numbers_get(&t, "l0");
        uint64_t half = (uint64_t)numbers_get(&t, "n_half");
        uint64_t one = (uint64_t)numbers_get(&t, "n_one");
        double want = numbers_get(&t, "keep_prob");
        within(&t, "probability",
               proto_selection_keep(epsilon, delta, groups, (uint64_t)numbers_get(&t, "n")),
               want * (1 - 1e-9), want * (1 + 1e-11));
        assert_true(proto_selection_keep(epsilon, delta, groups, half) >= 0.5 * (1 - 1e-11));
        assert_true(proto_selection_keep(epsilon, delta, groups, half - 1) < 0.5);
        assert_true(proto_selection_keep(epsilon, delta, groups, one) >= 1 - 1e-11);
        assert_true(proto_selection_keep(epsilon, delta, groups, one - 1) < 1);
    }
    numbers_enough(&t, 320);
    assert_true(proto_selection_keep(1, 1e-6, 1, 0) <= 0);
    assert_true(proto_selection_keep(1, 0, 1, 5) <= 0);
}

static void thresholds_match(void **state)
{
    (void)state;
    struct numbers t;
    numbers_open(&t, "privacy", "04b_partition_threshold_laplace.csv");
    while (numbers_next(&t)) {
        double epsilon = numbers_get(&t, "eps");
        double delta = numbers_get(&t, "delta");
        uint64_t groups = (uint64_t)numbers_get(&t, "l0");
        double want = numbers_get(&t, "laplace_threshold");
        within(&t, "threshold", proto_selection_threshold_laplace(epsilon, delta, groups),
               want * (1 - 1e-11), want * (1 + 1e-9));
        assert_int_equal(proto_selection_threshold_laplace_whole(epsilon, delta, groups),
                         (uint64_t)numbers_get(&t, "discrete_T"));
    }
    numbers_enough(&t, 36);
    numbers_open(&t, "privacy", "04c_partition_threshold_gaussian.csv");
    while (numbers_next(&t)) {
        double delta = numbers_get(&t, "delta") / 2;
        uint64_t groups = (uint64_t)numbers_get(&t, "l0");
        double sigma = proto_privacy_analytic_gaussian_sigma(numbers_get(&t, "eps"), delta,
                                                             sqrt((double)groups));
        double want = numbers_get(&t, "threshold");
        within(&t, "sigma", sigma, numbers_get(&t, "sigma") * (1 - 1e-12),
               numbers_get(&t, "sigma") * (1 + 1e-6));
        within(&t, "threshold", proto_selection_threshold_gaussian(sigma, delta, groups),
               want * (1 - 1e-11), want * (1 + 1e-6));
        uint64_t whole = proto_selection_threshold_gaussian_whole(sigma, delta, groups);
        within(&t, "whole threshold", (double)whole, want + 1, want + 2.001);
    }
    numbers_enough(&t, 36);
    assert_true(isinf(proto_selection_threshold_gaussian(1, 0, 1)));
    assert_true(proto_selection_threshold_gaussian_whole(1, 2, 1) == UINT64_MAX);
    assert_true(proto_selection_threshold_laplace_whole(0, 1e-6, 1) == UINT64_MAX);
}

/* The threshold is as promised for the very noise that is drawn: one person alone is shown with a probability of at most delta. */
static void discrete_gaussian_hides_one(void **state)
{
    (void)state;
    static const double sigmas[] = {0.7, 3, 25};
    static const double deltas[] = {1e-3, 1e-6, 1e-10};
    for (size_t i = 0; i < 9; i++) {
        double sigma = sigmas[i / 3];
        double delta = deltas[i % 3];
        uint64_t threshold = proto_selection_threshold_gaussian_whole(sigma, delta, 1);
        double whole = 0;
        double above = 0;
        for (double x = -50 * sigma - 50; x <= 50 * sigma + 50; x++) {
            double p = exp(-floor(x) * floor(x) / (2 * sigma * sigma));
            whole += p;
            above += 1 + floor(x) >= (double)threshold ? p : 0;
        }
        assert_true(above / whole <= delta);
        assert_true(above / whole >= delta * 1e-2 || sigma < 1); /* and not far too high */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(laplace_matches),
        cmocka_unit_test(discrete_gaussian_matches),
        cmocka_unit_test(sums_of_noise_match),
        cmocka_unit_test(selection_matches),
        cmocka_unit_test(mixed_ledgers_match),
        cmocka_unit_test(thresholds_match),
        cmocka_unit_test(discrete_gaussian_hides_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
