/* proto/privacy against the vectors: each interval is the one that the file's header states. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "proto/privacy.h"
#include "tests/lib/numbers.h"

static void within(const struct numbers *t, const char *what, double got, double lo, double hi)
{
    if (!(got >= lo && got <= hi)) {
        fail_msg("row %zu: %s is %.17g, outside [%.17g, %.17g]", t->rows, what, got, lo, hi);
    }
}

static void analytic_gaussian_matches(void **state)
{
    (void)state;
    struct numbers t;
    numbers_open(&t, "privacy", "01_analytic_gaussian_sigma.csv");
    while (numbers_next(&t)) {
        double want = numbers_get(&t, "sigma");
        double got = proto_privacy_analytic_gaussian_sigma(
            numbers_get(&t, "eps"), numbers_get(&t, "delta"), numbers_get(&t, "l2_sensitivity"));
        within(&t, "sigma", got, want * (1 - 1e-12), want * (1 + 1e-6));
    }
    numbers_enough(&t, 90);
    numbers_open(&t, "privacy", "01b_gaussian_eps_from_sigma.csv");
    while (numbers_next(&t)) {
        double want = numbers_get(&t, "eps");
        double got = proto_privacy_analytic_gaussian_epsilon(numbers_get(&t, "sigma"),
                                                             numbers_get(&t, "delta"));
        within(&t, "epsilon", got, want - 1e-12, want * (1 + 1e-9));
    }
    numbers_enough(&t, 25);
    numbers_open(&t, "privacy", "01c_gaussian_delta.csv");
    while (numbers_next(&t)) {
        /* A relative 1e-8 of delta, on the logarithm, since some values are below DBL_MIN: 0.8e-300 and less. */
        double want = log(numbers_get(&t, "delta"));
        double got = proto_privacy_analytic_gaussian_log_delta(numbers_get(&t, "sigma"),
                                                               numbers_get(&t, "eps"));
        if (want > -700) {
            within(&t, "ln delta", got, want - 1e-8, want + 1e-8);
        } else {
            assert_true(got < -690);
        }
    }
    numbers_enough(&t, 50);
}

static void zcdp_matches(void **state)
{
    (void)state;
    struct numbers t;
    numbers_open(&t, "privacy", "02_zcdp_to_eps.csv");
    while (numbers_next(&t)) {
        double want = numbers_get(&t, "eps_tight");
        double got = proto_privacy_epsilon(numbers_get(&t, "rho"), numbers_get(&t, "delta"));
        within(&t, "epsilon", got, want * (1 - 1e-10), want * (1 + 1e-6));
    }
    numbers_enough(&t, 40);
    numbers_open(&t, "privacy", "02b_eps_delta_to_rho.csv");
    while (numbers_next(&t)) {
        double epsilon = numbers_get(&t, "eps");
        double delta = numbers_get(&t, "delta");
        double want = numbers_get(&t, "rho_tight");
        within(&t, "rho", proto_privacy_rho(epsilon, delta), want * (1 - 1e-6), want * (1 + 1e-10));
        uint64_t nano = proto_privacy_rho_floor_nano(epsilon, delta);
        within(&t, "budget", (double)nano, want * 1e9 * (1 - 1e-6) - 1, want * 1e9);
        within(&t, "charge", (double)proto_privacy_rho_ceil_nano(epsilon, delta), (double)nano,
               (double)nano + 1);
        assert_true(proto_privacy_epsilon((double)nano / 1e9, delta) <= epsilon * (1 + 1e-12));
    }
    numbers_enough(&t, 20);
    numbers_open(&t, "privacy", "02c_zcdp_log_delta.csv");
    while (numbers_next(&t)) {
        double want = numbers_get(&t, "ln_delta");
        double got = proto_privacy_log_delta(numbers_get(&t, "rho"), numbers_get(&t, "eps"));
        within(&t, "ln delta", got, want, want + 1e-9 * fmax(1, fabs(want)));
    }
    numbers_enough(&t, 50);
}

static void order_attains_its_budget(void **state)
{
    (void)state;
    assert_near(proto_privacy_order(8, 1e-6), 4.4228, 1e-4);
    assert_int_equal(proto_privacy_rho_floor_nano(8, 1e-6) / 1000, 1052358);
    static const double epsilons[] = {0.1, 0.5, 1, 2, 4, 8, 20, 1000};
    for (size_t i = 0; i < sizeof epsilons / sizeof *epsilons; i++) {
        double a = proto_privacy_order(epsilons[i], 1e-6);
        double rho = (double)proto_privacy_rho_floor_nano(epsilons[i], 1e-6) / 1e9;
        double epsilon = proto_privacy_rdp_epsilon(a * rho, a, 1e-6);
        assert_true(epsilon <= epsilons[i] * (1 + 1e-8));
        assert_true(epsilon >= epsilons[i] * (1 - 1e-4));
    }
}

/* delta is split once: what thresholds do not take converts rho, and both together are the budget's delta. */
static void delta_is_split_once(void **state)
{
    (void)state;
    struct proto_privacy_budget whole = proto_privacy_budget(8, 1000000, false, 0);
    struct proto_privacy_budget split = proto_privacy_budget(8, 1000000, true, 0);
    assert_int_equal(whole.cap_nano, proto_privacy_rho_floor_nano(8, 1e-6));
    assert_int_equal(whole.delta0_e18, 0);
    assert_int_equal(split.cap_nano, proto_privacy_rho_floor_nano(8, 0.9e-6));
    assert_int_equal(split.delta0_e18, UINT64_C(100000000000));
    assert_true(split.cap_nano < whole.cap_nano);
    assert_true(proto_privacy_epsilon((double)split.cap_nano / 1e9, 0.9e-6) <= 8 * (1 + 1e-12));
    /* A thousand questions with thresholds of the same delta, and not one more. */
    struct proto_privacy_price price = proto_privacy_price(0.1, 1000000, true);
    assert_int_equal(split.delta0_e18 / price.delta0_e18, PROTO_PRIVACY_DELTA0_QUESTIONS);
    assert_true(price.nano <= proto_privacy_price(0.1, 1000000, false).nano);
    assert_true(proto_privacy_epsilon((double)price.nano / 1e9,
                                      (1e12 - (double)price.delta0_e18) / 1e18) >= 0.1);
    assert_int_equal(proto_privacy_price(0.1, 0, true).nano, UINT64_MAX);
    assert_int_equal(proto_privacy_price(NAN, 1000000, true).nano, UINT64_MAX);
}

/* A budget that keeps its order while epsilon changes holds no more than that epsilon allows at that order. */
static void kept_order_keeps_its_promise(void **state)
{
    (void)state;
    double order = proto_privacy_order(8, 1e-6);
    static const double epsilons[] = {0.5, 3, 7.9, 8.1, 12, 50};
    for (size_t i = 0; i < sizeof epsilons / sizeof *epsilons; i++) {
        double epsilon = epsilons[i];
        struct proto_privacy_budget kept = proto_privacy_budget(epsilon, 1000000, false, order);
        uint64_t best = proto_privacy_rho_floor_nano(epsilon, 1e-6);
        assert_true(kept.order <= order && kept.order >= order);
        assert_true(kept.cap_nano <= best);
        if (epsilon > 7 && epsilon < 9) {
            assert_true((double)kept.cap_nano >= 0.9999 * (double)best);
        }
        double rho = (double)kept.cap_nano / 1e9;
        assert_true(kept.cap_nano == 0 ||
                    proto_privacy_rdp_epsilon(order * rho, order, 1e-6) <= epsilon);
    }
    /* So little that the order alone would exceed it. */
    assert_int_equal(proto_privacy_budget(0.5, 1000000, false, order).cap_nano, 0);
    assert_int_equal(proto_privacy_budget(8, 1000000, false, INFINITY).cap_nano, 0);
}

static void subsampled_gaussian_matches(void **state)
{
    (void)state;
    struct numbers t;
    numbers_open(&t, "privacy", "10_rdp_subsampled_gaussian_orders.csv");
    while (numbers_next(&t)) {
        double q = numbers_get(&t, "q");
        double sigma = numbers_get(&t, "sigma");
        double order = numbers_get(&t, "alpha");
        double exact = numbers_get(&t, "rdp_exact");
        double hi = fmax(exact, numbers_get(&t, "rdp_google_upper")) * (1 + 1e-9);
        within(&t, "R", proto_privacy_rdp_gaussian_subsampled(q, sigma, order), exact * (1 - 1e-9),
               hi);
        /* Ours claims more than the interval: exact or a little above, both ways. */
        within(&t, "R, tight", proto_privacy_rdp_gaussian_subsampled(q, sigma, order),
               exact * (1 - 1e-11), exact * (1 + 2e-10));
        within(&t, "R, trapezoid", proto_privacy_rdp_gaussian_trapezoid(q, sigma, order),
               exact * (1 - 1e-11), exact * (1 + 2e-10));
        uint64_t nano = proto_privacy_sgd_step_nano(q, sigma, order);
        if (exact / order * 1e9 < 1e15) {
            within(&t, "step", (double)nano, exact / order * 1e9,
                   exact / order * 1e9 * (1 + 3e-10) + 1);
        }
    }
    numbers_enough(&t, 90);
}

/* All orders at once are what each is alone, however small the noise or the rate. */
static void curve_is_the_orders(void **state)
{
    (void)state;
    static const double rates[] = {0, 1e-6, 0.001, 0.01, 0.3, 0.97, 1};
    static const double sigmas[] = {0.1, 0.3, 0.5, 1.1, 5, 80, 3000};
    double orders[PROTO_PRIVACY_ORDERS];
    double curve[PROTO_PRIVACY_ORDERS];
    for (size_t i = 0; i < 49; i++) {
        double rate = rates[i / 7];
        double sigma = sigmas[i % 7];
        proto_privacy_rdp_curve(rate, sigma, orders, curve);
        for (size_t j = 0; j < PROTO_PRIVACY_ORDERS; j++) {
            double alone = proto_privacy_rdp_gaussian_subsampled(rate, sigma, orders[j]);
            assert_true(j == 0 || orders[j] > orders[j - 1]);
            if (!(fabs(curve[j] - alone) <= 2e-10 * alone)) {
                fail_msg("rate %g sigma %g order %g: %.17g and alone %.17g", rate, sigma, orders[j],
                         curve[j], alone);
            }
        }
    }
    proto_privacy_rdp_curve(0.1, 0, orders, curve);
    assert_true(isinf(curve[0]) && isinf(curve[PROTO_PRIVACY_ORDERS - 1]));
}

static void sgd_epsilon_matches(void **state)
{
    (void)state;
    struct numbers t;
    numbers_open(&t, "privacy", "11_rdp_eps_subsampled_gaussian.csv");
    while (numbers_next(&t)) {
        double got = proto_privacy_sgd_epsilon(numbers_get(&t, "q"), numbers_get(&t, "sigma"),
                                               (uint64_t)numbers_get(&t, "steps"), 0,
                                               numbers_get(&t, "delta"));
        within(&t, "epsilon", got, numbers_get(&t, "eps_exact_opt") * (1 - 1e-6),
               numbers_get(&t, "eps_exact_int") * (1 + 1e-6));
    }
    numbers_enough(&t, 85);
}

static void sgd_calibration_matches(void **state)
{
    (void)state;
    struct numbers t;
    numbers_open(&t, "privacy", "15_dpsgd_sigma_calibration.csv");
    while (numbers_next(&t)) {
        double epsilon = numbers_get(&t, "eps");
        double delta = numbers_get(&t, "delta");
        double q = numbers_get(&t, "q");
        uint64_t steps = (uint64_t)numbers_get(&t, "steps");
        double sigma = 0;
        assert_int_equal(proto_privacy_sgd_calibrate(epsilon, delta, q, steps, 0, &sigma), E_OK);
        within(&t, "sigma", sigma, numbers_get(&t, "sigma_rdp_opt") * (1 - 1e-5),
               numbers_get(&t, "sigma_rdp_int") * (1 + 1e-4));
        assert_true(proto_privacy_sgd_epsilon(q, sigma, steps, 0, delta) <= epsilon);
    }
    numbers_enough(&t, 9);
}

static void extra_releases_are_counted(void **state)
{
    (void)state;
    double without = 0;
    double with = 0;
    assert_int_equal(proto_privacy_sgd_calibrate(4, 1e-6, 0.1, 100, 0, &without), E_OK);
    assert_int_equal(proto_privacy_sgd_calibrate(4, 1e-6, 0.1, 100, 0.05, &with), E_OK);
    assert_true(with > without);
    double rho = proto_privacy_rho(4, 1e-6);
    assert_int_equal(proto_privacy_sgd_calibrate(4, 1e-6, 0.1, 100, rho * 1.1, &with), E_LIMIT);
    /* Nothing but zCDP releases: the same as the conversion, apart from the grid of orders. */
    assert_near(proto_privacy_sgd_epsilon(0.1, 1, 0, 0.3, 1e-6), proto_privacy_epsilon(0.3, 1e-6),
                1e-3);
    /* A large epsilon needs next to no noise and still never exceeds its target. */
    assert_int_equal(proto_privacy_sgd_calibrate(1000, 1e-6, 0.2, 500, 0, &with), E_OK);
    assert_true(proto_privacy_sgd_epsilon(0.2, with, 500, 0, 1e-6) <= 1000);
}

static void steps_fit_a_budget(void **state)
{
    (void)state;
    static const double epsilons[] = {0.5, 4, 8, 1000};
    for (size_t i = 0; i < sizeof epsilons / sizeof *epsilons; i++) {
        uint64_t nano = proto_privacy_rho_floor_nano(epsilons[i], 1e-6);
        double order = proto_privacy_order(epsilons[i], 1e-6);
        double sigma = 0;
        assert_int_equal(proto_privacy_sgd_fit(nano, 0.1, 500, order, &sigma), E_OK);
        uint64_t cost = 500 * proto_privacy_sgd_step_nano(0.1, sigma, order);
        assert_true(cost <= nano);
        assert_true((double)cost >= (double)nano * 0.9999);
        /* Spending a budget to the end at its own order keeps its promise. */
        assert_true(proto_privacy_rdp_epsilon((double)cost / 1e9 * order, order, 1e-6) <=
                    epsilons[i] * (1 + 1e-8));
    }
    double sigma;
    assert_int_equal(proto_privacy_sgd_fit(99, 0.1, 100, 4, &sigma), E_LIMIT);
    assert_int_equal(proto_privacy_sgd_fit(99, 2, 100, 4, &sigma), E_INVALID);
}

static void nonsense_buys_nothing(void **state)
{
    (void)state;
    assert_int_equal(proto_privacy_rho_floor_nano(NAN, 1e-6), 0);
    assert_int_equal(proto_privacy_rho_floor_nano(-1, 1e-6), 0);
    assert_int_equal(proto_privacy_rho_floor_nano(1, 0), 0);
    assert_int_equal(proto_privacy_rho_floor_nano(1, 1), 0);
    assert_int_equal(proto_privacy_rho_ceil_nano(NAN, 1e-6), UINT64_MAX);
    assert_int_equal(proto_privacy_rho_ceil_nano(0, 1e-6), 1);
    assert_int_equal(proto_privacy_sgd_step_nano(0.1, 0, 4), UINT64_MAX);
    assert_int_equal(proto_privacy_sgd_step_nano(1.1, 1, 4), UINT64_MAX);
    assert_int_equal(proto_privacy_sgd_step_nano(0.1, 1, 1), UINT64_MAX);
    assert_int_equal(proto_privacy_sgd_step_nano(0, 1, 4), 0);
    assert_int_equal(proto_privacy_sgd_step_nano(1e-9, 100, 4), 1);
    assert_true(isinf(proto_privacy_epsilon(NAN, 1e-6)));
    assert_true(isinf(proto_privacy_sgd_epsilon(0.1, 1, 1, -1, 1e-6)));
    double sigma;
    assert_int_equal(proto_privacy_sgd_calibrate(NAN, 1e-6, 0.1, 10, 0, &sigma), E_INVALID);
    /* Large orders are rounded up to the next integer, so they cost no less. */
    assert_true(proto_privacy_rdp_gaussian_subsampled(0.01, 5, 3000.5) >=
                proto_privacy_rdp_gaussian_subsampled(0.01, 5, 2048));
}

static void normal_quantile_inverts(void **state)
{
    (void)state;
    assert_near(proto_privacy_normal_quantile(0.975), 1.959963984540054, 1e-12);
    for (double p = 1e-12; p < 1; p = p < 0.1 ? p * 7 : p + 0.05) {
        assert_near(proto_privacy_normal_cdf(proto_privacy_normal_quantile(p)) / p, 1, 1e-11);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(analytic_gaussian_matches),
        cmocka_unit_test(zcdp_matches),
        cmocka_unit_test(order_attains_its_budget),
        cmocka_unit_test(subsampled_gaussian_matches),
        cmocka_unit_test(sgd_epsilon_matches),
        cmocka_unit_test(sgd_calibration_matches),
        cmocka_unit_test(extra_releases_are_counted),
        cmocka_unit_test(steps_fit_a_budget),
        cmocka_unit_test(delta_is_split_once),
        cmocka_unit_test(kept_order_keeps_its_promise),
        cmocka_unit_test(nonsense_buys_nothing),
        cmocka_unit_test(normal_quantile_inverts),
        cmocka_unit_test(curve_is_the_orders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
