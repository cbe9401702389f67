/* Accounting of differential privacy: how much noise, what a release costs, what was spent.
 *
 * It is pure arithmetic on doubles and integers, rounded so that a loss is never understated. It is not a sampler and
 * keeps no ledger: noise is made in node/privacy, spending is stored in store/ledger.
 *
 *     uint64_t cap = proto_privacy_rho_floor_nano(8.0, 1e-6);       // what a licence may spend in all
 *     uint64_t cost = proto_privacy_rho_ceil_nano(2.0, 1e-6);       // what one question costs
 *     double order = proto_privacy_order(8.0, 1e-6);                // fixed with the budget, never changed
 *     cost += 100 * proto_privacy_sgd_step_nano(0.05, 1.1, order);  // a hundred training steps, same ledger
 *
 * The currency is zero-concentrated DP (zCDP) in nano-rho, 1e-9, as uint64_t. Neighbours differ by one patient added or
 * removed. A training step has no finite zCDP, so at the one order a* of its budget it costs R(a*)/a*: the summed Renyi
 * divergence at a* stays below a* rho_max, which gives (epsilon, delta).
 *
 * Sources:
 *     zCDP to (epsilon, delta)    Canonne, Kamath, Steinke 2020 (arXiv 2004.00010), Prop. 12 and Cor. 13
 *     subsampled Gaussian         Mironov, Talwar, Zhang 2019 (arXiv 1908.10530)
 *     analytic Gaussian           Balle, Wang 2018 (arXiv 1805.06530), Thm. 8
 *     filter at a fixed order     Feldman, Zrnic 2021 (arXiv 2008.11193)
 *     filter of approximate zCDP  Whitehouse, Ramdas, Rogers, Wu 2023 (arXiv 2203.05481)
 * Tested against tests/vectors/privacy 01, 01b, 01c, 02, 02b, 02c, 10, 11 and 15.
 *
 * Threads: all functions are free of state.
 * Limits: 0 < delta < 1, 0 <= epsilon <= 1e6, orders 1.001 <= a <= 1e6, 0 <= rate <= 1, sigma within
 * [PROTO_PRIVACY_SIGMA_MIN, PROTO_PRIVACY_SIGMA_MAX]. Outside of them a loss is infinite (a cost UINT64_MAX) and a
 * budget is 0: nonsense buys nothing. */
#ifndef CONCORDAT_PROTO_PRIVACY_H
#define CONCORDAT_PROTO_PRIVACY_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/err.h"

#define PROTO_PRIVACY_NANO        1000000000u
#define PROTO_PRIVACY_EPSILON_MAX 1e6
#define PROTO_PRIVACY_ORDER_MAX   1e6
#define PROTO_PRIVACY_SIGMA_MIN   0.1
#define PROTO_PRIVACY_SIGMA_MAX   1e8

/* --- zCDP and (epsilon, delta) ---------------------------------------------------------------- */

/* ln of the smallest delta such that rho-zCDP implies (epsilon, delta); at most 0, rounded up. */
double proto_privacy_log_delta(double rho, double epsilon);
/* The smallest epsilon that rho-zCDP implies at DELTA, rounded up. */
double proto_privacy_epsilon(double rho, double delta);
/* The largest rho that implies (epsilon, delta), rounded down. */
double proto_privacy_rho(double epsilon, double delta);
/* The same in nano-rho. A budget is rounded down, a charge is rounded up and at least 1. */
uint64_t proto_privacy_rho_floor_nano(double epsilon, double delta);
uint64_t proto_privacy_rho_ceil_nano(double epsilon, double delta);
/* The order a* at which a budget of proto_privacy_rho_floor_nano(epsilon, delta) attains (epsilon,
 * delta): whatever has R(a*) <= a* rho is (epsilon, delta)-DP. 0 when the budget is empty. */
double proto_privacy_order(double epsilon, double delta);

/* --- budgets and prices -------------------------------------------------------------------------
 * A release with thresholds for keys that are not public is rho-zCDP but for a probability of delta0 (approximate zCDP, Bun
 * and Steinke 2016, section 8). The sums of rho and of delta0 are bounded apart: rho and the delta that is left of a budget's
 * after its delta0 give epsilon, and both deltas add up. */

/* One part in so many of a budget's delta is for thresholds, where a dataset has private keys. */
#define PROTO_PRIVACY_DELTA0_PART 10
/* A question with thresholds takes one part in so many of that. Thresholds grow only with sqrt(ln(1/delta0)). */
#define PROTO_PRIVACY_DELTA0_QUESTIONS 1000

struct proto_privacy_budget {
    uint64_t cap_nano;
    uint64_t delta0_e18; /* units of 1e-18 */
    double order;        /* a* */
};
/* (EPSILON, DELTA_E12 units of 1e-12) as caps. THRESHOLDS: the dataset has private keys, so delta is split. ORDER: 0, or the
 * order that the budget has kept since training was charged to it: the cap is then the most that R(ORDER) <= ORDER cap
 * allows, and as good as at the best order when they are close. cap 0: such a budget holds nothing. */
struct proto_privacy_budget proto_privacy_budget(double epsilon, uint64_t delta_e12,
                                                 bool thresholds, double order);

struct proto_privacy_price {
    uint64_t nano;
    uint64_t delta0_e18;
};
/* What one question of (EPSILON, DELTA_E12) costs; with THRESHOLDS the two deltas add up to its delta. */
struct proto_privacy_price proto_privacy_price(double epsilon, uint64_t delta_e12, bool thresholds);

/* --- DP-SGD ----------------------------------------------------------------------------------- */

/* Renyi divergence R(a) of one step: each patient joins with probability RATE on its own, the sum of vectors of L2
 * norm <= 1 gets Gaussian noise of standard deviation SIGMA. R = ln(A)/(a-1), where
 *     A - 1 = E_{z~N(0,s^2)}[(1+x)^a - 1 - a x],  x = q (e^{(2z-1)/(2 s^2)} - 1),  E x = 0
 * by the trapezoid rule, or for integer orders
 *     A - 1 = sum_{k>=2} C(a,k) (1-q)^{a-k} q^k (e^{(k^2-k)/(2 s^2)} - 1).
 * No term is negative, so there is no cancellation however small R is. Rounded up by 1e-10 relative. */
double proto_privacy_rdp_gaussian_subsampled(double rate, double sigma, double order);
/* The same by the trapezoid rule for every order; for tests that compare the two ways. */
double proto_privacy_rdp_gaussian_trapezoid(double rate, double sigma, double order);
/* R of one step at every order of the grid that reports and calibration use: 1.1 to 10.9 by tenths, all integers to 64, then
 * wider apart up to 1024. As exact as above, and all of it together in about a millisecond. INFINITY outside the limits. */
#define PROTO_PRIVACY_ORDERS 175
void proto_privacy_rdp_curve(double rate, double sigma, double orders[PROTO_PRIVACY_ORDERS],
                             double ret[PROTO_PRIVACY_ORDERS]);
/* What one step costs a budget of order a*: ceil(1e9 R(a)/a), at least 1 unless RATE is 0. */
uint64_t proto_privacy_sgd_step_nano(double rate, double sigma, double order);
/* Epsilon of STEPS steps and of releases of EXTRA_RHO zCDP together: the least over a fixed grid of
 * orders. */
double proto_privacy_sgd_epsilon(double rate, double sigma, uint64_t steps, double extra_rho,
                                 double delta);
/* The least SIGMA (within 1e-6) for which that epsilon does not exceed EPSILON; checked before it
 * returns. Errors: E_INVALID arguments outside the limits; E_LIMIT no sigma is enough (EXTRA_RHO
 * takes all). */
MUST_CHECK enum err proto_privacy_sgd_calibrate(double epsilon, double delta, double rate,
                                                uint64_t steps, double extra_rho,
                                                double *ret_sigma);
/* The least SIGMA (within 1e-6) for which STEPS steps cost a budget of order a* at most NANO. The order that suits a
 * job is not that of the budget, so a job that takes most of a budget can cost more than its epsilon suggests: its
 * sigma must satisfy both, the larger of the two results.
 * Errors: E_INVALID arguments outside the limits; E_LIMIT no sigma is enough. */
MUST_CHECK enum err proto_privacy_sgd_fit(uint64_t nano, double rate, uint64_t steps, double order,
                                          double *ret_sigma);
/* R at one order to epsilon: R + ln(1-1/a) - ln(delta a)/(a-1), never below 0. */
double proto_privacy_rdp_epsilon(double rdp, double order, double delta);

/* --- one Gaussian release, for reports ------------------------------------------------------- */

/* delta(epsilon) of noise SIGMA at sensitivity 1, its logarithm (delta underflows below 1e-300),
 * and back. */
double proto_privacy_analytic_gaussian_delta(double sigma, double epsilon);
double proto_privacy_analytic_gaussian_log_delta(double sigma, double epsilon);
double proto_privacy_analytic_gaussian_epsilon(double sigma, double delta);
/* The smallest sigma for (epsilon, delta) at this L2 sensitivity, rounded up. */
double proto_privacy_analytic_gaussian_sigma(double epsilon, double delta, double sensitivity);

/* Standard normal distribution: P[Z <= z], its logarithm without underflow, and its inverse for 0 < p < 1. */
double proto_privacy_normal_cdf(double z);
double proto_privacy_normal_log_cdf(double z);
double proto_privacy_normal_quantile(double p);

#endif
