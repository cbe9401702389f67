#include "proto/privacy.h"

#include <math.h>
#include <stddef.h>

/* A relative slack that covers the rounding of a few dozen double operations; it always makes a loss larger. */
#define SLACK_CONVERSION 1e-12
#define SLACK_RDP        1e-10
#define SLACK_RDP_LARGE  1e-6
/* Above this order R is taken at the next integer (R does not decrease in a), where the sum is quick. */
#define ORDER_TRAPEZOID_MAX 2048.0
/* Closer to 1 the cancellation in (1+x)^a - 1 - a x would eat into SLACK_RDP. */
#define ORDER_MIN 1.001

static bool delta_valid(double delta)
{
    return delta > 0 && delta < 1;
}

static bool epsilon_valid(double epsilon)
{
    return epsilon >= 0 && epsilon <= PROTO_PRIVACY_EPSILON_MAX;
}

/* --- zCDP ------------------------------------------------------------------------------------- */

/* b = a - 1 for the order that minimises ln delta, not below FLOOR: the derivative (2a-1) rho - epsilon + ln(1-1/a)
 * increases in a. Any order is valid, so an imprecise root costs only utility. */
static double zcdp_order_excess(double rho, double epsilon, double floor_excess)
{
    double lo = floor_excess;
    double hi = (epsilon + 1) / (2 * rho) + 1;
    for (int i = 0; i < 300 && hi - lo > 1e-13 * hi; i++) {
        double b = lo + (hi - lo) / 2;
        if ((2 * b + 1) * rho - epsilon + log(b / (1 + b)) < 0) {
            lo = b;
        } else {
            hi = b;
        }
    }
    return lo + (hi - lo) / 2;
}

/* (a-1)(a rho - epsilon) - ln(a-1) + a ln(1-1/a), written in b so that nothing cancels when a is close to 1. */
static double zcdp_log_delta_at(double rho, double epsilon, double b)
{
    double v = b * ((1 + b) * rho - epsilon) + b * log(b) - (1 + b) * log1p(b);
    v += SLACK_CONVERSION * fmax(1, fabs(v));
    return fmin(v, 0);
}

double proto_privacy_log_delta(double rho, double epsilon)
{
    if (!(rho >= 0) || !epsilon_valid(epsilon) || isinf(rho)) {
        return 0;
    }
    if (rho == 0) {
        return -INFINITY;
    }
    return zcdp_log_delta_at(rho, epsilon, zcdp_order_excess(rho, epsilon, 1e-12));
}

/* As proto_privacy_log_delta, but at an order that proto_privacy_order can name. */
static double budget_log_delta(double rho, double epsilon)
{
    return zcdp_log_delta_at(rho, epsilon, zcdp_order_excess(rho, epsilon, ORDER_MIN - 1));
}

double proto_privacy_epsilon(double rho, double delta)
{
    if (!(rho >= 0) || isinf(rho) || !delta_valid(delta)) {
        return INFINITY;
    }
    double target = log(delta);
    double lo = 0;
    double hi = rho + 2 * sqrt(rho * -target) * (1 + 1e-9);
    if (hi > PROTO_PRIVACY_EPSILON_MAX) {
        return INFINITY;
    }
    if (proto_privacy_log_delta(rho, 0) <= target) {
        return 0;
    }
    for (int i = 0; i < 200 && hi - lo > 1e-14 * hi; i++) {
        double mid = lo + (hi - lo) / 2;
        if (proto_privacy_log_delta(rho, mid) <= target) {
            hi = mid;
        } else {
            lo = mid;
        }
    }
    return hi;
}

double proto_privacy_rho(double epsilon, double delta)
{
    if (!epsilon_valid(epsilon) || !delta_valid(delta)) {
        return 0;
    }
    double target = log(delta);
    /* lo is always a rho that was checked. */
    double lo = 0;
    double hi = 1e-12;
    while (budget_log_delta(hi, epsilon) <= target && hi < 1e12) {
        lo = hi;
        hi *= 2;
    }
    for (int i = 0; i < 300 && hi - lo > 1e-14 * hi; i++) {
        double mid = lo + (hi - lo) / 2;
        if (budget_log_delta(mid, epsilon) <= target) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return lo;
}

uint64_t proto_privacy_rho_floor_nano(double epsilon, double delta)
{
    return (uint64_t)floor(proto_privacy_rho(epsilon, delta) * 1e9 * (1 - 1e-15));
}

uint64_t proto_privacy_rho_ceil_nano(double epsilon, double delta)
{
    if (!epsilon_valid(epsilon) || !delta_valid(delta)) {
        return UINT64_MAX;
    }
    uint64_t nano = (uint64_t)ceil(proto_privacy_rho(epsilon, delta) * 1e9 * (1 + 1e-12));
    return nano > 0 ? nano : 1;
}

double proto_privacy_order(double epsilon, double delta)
{
    uint64_t nano = proto_privacy_rho_floor_nano(epsilon, delta);
    return nano == 0 ? 0 : 1 + zcdp_order_excess((double)nano / 1e9, epsilon, ORDER_MIN - 1);
}

/* --- budgets and prices ------------------------------------------------------------------------- */

#define E18_IN_E12 1000000u

/* The most nano-rho whose a rho at ORDER is (epsilon, delta): epsilon >= a rho + ln(1-1/a) - ln(delta a)/(a-1). */
static uint64_t cap_at_order(double epsilon, double delta, double order)
{
    if (!epsilon_valid(epsilon) || !delta_valid(delta) || !(order >= ORDER_MIN) ||
        !(order <= PROTO_PRIVACY_ORDER_MAX)) {
        return 0;
    }
    double rdp = epsilon - log1p(-1 / order) + log(delta * order) / (order - 1);
    rdp -= 4 * SLACK_CONVERSION * fmax(1, fabs(epsilon) + fabs(rdp));
    return rdp > 0 ? (uint64_t)floor(rdp / order * 1e9 * (1 - 1e-15)) : 0;
}

struct proto_privacy_budget proto_privacy_budget(double epsilon, uint64_t delta_e12,
                                                 bool thresholds, double order)
{
    uint64_t delta0_e12 = thresholds ? delta_e12 / PROTO_PRIVACY_DELTA0_PART : 0;
    double conversion = (double)(delta_e12 - delta0_e12) / 1e12;
    struct proto_privacy_budget budget = {.delta0_e18 = delta0_e12 * E18_IN_E12,
                                          .order = proto_privacy_order(epsilon, conversion)};
    if (order <= 0 || (budget.order <= order && budget.order >= order)) {
        budget.cap_nano = proto_privacy_rho_floor_nano(epsilon, conversion);
    } else {
        budget.cap_nano = cap_at_order(epsilon, conversion, order);
        budget.order = order;
    }
    return budget;
}

struct proto_privacy_price proto_privacy_price(double epsilon, uint64_t delta_e12, bool thresholds)
{
    const uint64_t questions = PROTO_PRIVACY_DELTA0_PART * PROTO_PRIVACY_DELTA0_QUESTIONS;
    if (delta_e12 >= UINT64_C(1000000000000)) {
        return (struct proto_privacy_price){UINT64_MAX, UINT64_MAX};
    }
    uint64_t delta_e18 = delta_e12 * E18_IN_E12;
    uint64_t delta0_e18 = thresholds ? delta_e18 / questions : 0;
    return (struct proto_privacy_price){
        proto_privacy_rho_ceil_nano(epsilon, (double)(delta_e18 - delta0_e18) / 1e18), delta0_e18};
}

/* --- Renyi divergence of the subsampled Gaussian ----------------------------------------------- */

/* A sum of positive terms given by their logarithms, without overflow. */
struct log_sum {
    double max, sum;
};

static void log_sum_add(struct log_sum *s, double term)
{
    if (!(term > -INFINITY)) {
        return;
    }
    if (s->sum == 0) {
        *s = (struct log_sum){term, 1};
    } else if (term <= s->max) {
        s->sum += exp(term - s->max);
    } else {
        s->sum = s->sum * exp(s->max - term) + 1;
        s->max = term;
    }
}

static double log_sum_value(const struct log_sum *s)
{
    return s->sum > 0 ? s->max + log(s->sum) : -INFINITY;
}

/* ln(1 + e^v) */
static double log_one_plus(double v)
{
    return v > 0 ? v + log1p(exp(-v)) : log1p(exp(v));
}

/* ln(A - 1) for an integer order: the terms k = 0 and 1 of the binomial sum cancel against the 1. */
static double log_excess_integer(double q, double sigma, unsigned order)
{
    struct log_sum sum = {0, 0};
    double log_q = log(q);
    double log_p = log1p(-q);
    double choose = log((double)order);
    for (unsigned k = 2; k <= order; k++) {
        choose += log((double)(order - k + 1) / k);
        double w = (double)k * (k - 1) / (2 * sigma * sigma);
        double log_w = w > 30 ? w + log1p(-exp(-w)) : log(expm1(w));
        log_sum_add(&sum, choose + (order - k) * log_p + k * log_q + log_w);
    }
    return log_sum_value(&sum);
}

/* ln((1+x)^a - 1 - a x), x = q (e^u - 1); not negative by Bernoulli's inequality. */
static double log_bernoulli_gap(double q, double u, double a)
{
    double x = u > 600 ? INFINITY : q * expm1(u);
    double log_1x = u > 600 ? log(q) + u : log1p(x);
    if (fabs(a * x) < 1e-3) {
        double tail = 1 + (a - 2) * x / 3 * (1 + (a - 3) * x / 4 * (1 + (a - 4) * x / 5));
        return log(a * (a - 1) / 2 * x * x * tail);
    }
    double power = a * log_1x;
    if (power > 30) {
        /* 1 + a x = a (1 + x) - (a - 1), and the latter part is below the rounding here. */
        return power + log1p(-exp(log(a) + log_1x - power));
    }
    return log(expm1(power) - a * x);
}

/* ln(A - 1) by the trapezoid rule. The nearest singularity of the integrand is at Im z = pi s^2, so the error of
 * step h is about exp(-2 pi^2 s^2 / h), and that of the Gaussian factor exp(-2 pi^2 s^2 / h^2): both below 1e-30. */
static double log_excess_trapezoid(double q, double sigma, double order)
{
    struct log_sum sum = {0, 0};
    double h = fmin(sigma / 12, sigma * sigma / 4);
    double from = -14 * sigma - 1;
    size_t steps = (size_t)ceil((order + 28 * sigma + 2) / h);
    double inverse = 1 / (2 * sigma * sigma);
    for (size_t i = 0; i <= steps; i++) {
        double z = from + (double)i * h;
        log_sum_add(&sum, log_bernoulli_gap(q, (2 * z - 1) * inverse, order) - z * z * inverse);
    }
    return log_sum_value(&sum) + log(h / sigma) - 0.91893853320467274178; /* ln sqrt(2 pi) */
}

static bool rdp_valid(double rate, double sigma, double order)
{
    return rate >= 0 && rate <= 1 && sigma >= PROTO_PRIVACY_SIGMA_MIN &&
           sigma <= PROTO_PRIVACY_SIGMA_MAX && order >= ORDER_MIN &&
           order <= PROTO_PRIVACY_ORDER_MAX;
}

double proto_privacy_rdp_gaussian_trapezoid(double rate, double sigma, double order)
{
    if (!rdp_valid(rate, sigma, order) || order > ORDER_TRAPEZOID_MAX) {
        return INFINITY;
    }
    if (rate == 0 || rate == 1) {
        return rate * order / (2 * sigma * sigma) * (1 + SLACK_RDP);
    }
    return log_one_plus(log_excess_trapezoid(rate, sigma, order)) / (order - 1) * (1 + SLACK_RDP);
}

double proto_privacy_rdp_gaussian_subsampled(double rate, double sigma, double order)
{
    if (!rdp_valid(rate, sigma, order)) {
        return INFINITY;
    }
    if (rate == 0 || rate == 1) {
        return rate * order / (2 * sigma * sigma) * (1 + SLACK_RDP);
    }
    double slack = SLACK_RDP;
    if (order > ORDER_TRAPEZOID_MAX) {
        order = ceil(order);
        slack = SLACK_RDP_LARGE;
    }
    if (order != floor(order)) {
        return proto_privacy_rdp_gaussian_trapezoid(rate, sigma, order);
    }
    return log_one_plus(log_excess_integer(rate, sigma, (unsigned)order)) / (order - 1) *
           (1 + slack);
}

uint64_t proto_privacy_sgd_step_nano(double rate, double sigma, double order)
{
    double cost = 1e9 * proto_privacy_rdp_gaussian_subsampled(rate, sigma, order) / order;
    if (!(cost < 1e18)) {
        return UINT64_MAX;
    }
    return (uint64_t)ceil(cost);
}

/* --- DP-SGD over the order grid ----------------------------------------------------------------- */

/* 1.1 to 10.9 by tenths, all integers to 64, 72 to 128 by 8, 160 to 512 by 32, 768, 1024. The upper gaps of the usual
 * grid cost up to 8 % of epsilon at small rates, hence the fillers. */
#define ORDERS_TENTHS   99
#define ORDERS_INTEGERS 54
#define ORDERS_EIGHTS   8
#define ORDERS_LARGE    12
#define ORDER_COUNT     PROTO_PRIVACY_ORDERS
#define ORDER_MOST      1024
_Static_assert(ORDER_COUNT == ORDERS_TENTHS + ORDERS_INTEGERS + ORDERS_EIGHTS + ORDERS_LARGE + 2,
               "the grid of orders");

static double order_at(unsigned i)
{
    if (i < ORDERS_TENTHS) {
        return (i + 11) / 10.0;
    }
    i -= ORDERS_TENTHS;
    if (i < ORDERS_INTEGERS) {
        return i + 11;
    }
    i -= ORDERS_INTEGERS;
    if (i < ORDERS_EIGHTS) {
        return 72 + 8 * i;
    }
    i -= ORDERS_EIGHTS;
    if (i < ORDERS_LARGE) {
        return 160 + 32 * i;
    }
    return i == ORDERS_LARGE ? 768 : 1024;
}

double proto_privacy_rdp_epsilon(double rdp, double order, double delta)
{
    if (!(rdp >= 0) || !(order >= ORDER_MIN) || !delta_valid(delta)) {
        return INFINITY;
    }
    /* Bretagnolle-Huber: the total variation distance is at most sqrt(1 - e^-R). */
    if (delta * delta + expm1(-rdp) > 0) {
        return 0;
    }
    double epsilon = rdp + log1p(-1 / order) - log(delta * order) / (order - 1);
    return fmax(epsilon + SLACK_CONVERSION * fmax(1, fabs(epsilon)), 0);
}

/* The grid's fractional orders at once: what depends on z alone is computed once, and for each order there is one
 * exponential. Terms are scaled by e^-M with M = (a^2 - a)/(2 s^2), which is no less than ln A (rate 1), so that none overflows
 * and those that underflow do not count. */
static void rdp_tenths(double q, double sigma, double *ret)
{
    double scale[ORDERS_TENTHS];
    double unscale[ORDERS_TENTHS];
    double inverse = 1 / (2 * sigma * sigma);
    double most = order_at(ORDERS_TENTHS - 1);
    double h = fmin(sigma / 12, sigma * sigma / 4);
    double from = -14 * sigma - 1;
    size_t steps = (size_t)ceil((most + 28 * sigma + 2) / h);
    for (unsigned i = 0; i < ORDERS_TENTHS; i++) {
        double a = order_at(i);
        scale[i] = (a * a - a) * inverse;
        unscale[i] = exp(-scale[i]);
        ret[i] = 0;
    }
    for (size_t j = 0; j <= steps; j++) {
        double z = from + (double)j * h;
        double u = (2 * z - 1) * inverse;
        double x = u > 600 ? INFINITY : q * expm1(u);
        double log_1x = u > 600 ? log(q) + u : log1p(x);
        double weight = exp(-z * z * inverse);
        double linear = exp(log_1x - z * z * inverse); /* (1 + x) weight, at most about 1 */
        for (unsigned i = 0; i < ORDERS_TENTHS; i++) {
            double a = (i + 11) / 10.0;
            if (a * log_1x > 40) { /* here 1 + a x is a (1 + x), to all digits */
                ret[i] += exp(a * log_1x - z * z * inverse - scale[i]) - a * linear * unscale[i];
            } else if (fabs(a * x) < 1e-3) {
                double tail = 1 + (a - 2) * x / 3 * (1 + (a - 3) * x / 4 * (1 + (a - 4) * x / 5));
                ret[i] += a * (a - 1) / 2 * x * x * tail * weight * unscale[i];
            } else {
                ret[i] += (expm1(a * log_1x) - a * x) * weight * unscale[i];
            }
        }
    }
    for (unsigned i = 0; i < ORDERS_TENTHS; i++) {
        double log_excess = scale[i] + log(ret[i] * h / sigma) - 0.91893853320467274178;
        ret[i] = log_one_plus(log_excess) / (order_at(i) - 1);
    }
}

/* The grid's integers above them: the sums of log_excess_integer from tables of ln k! and of ln(e^w(k) - 1). */
static void rdp_integers(double q, double sigma, double *ret)
{
    double log_factorial[ORDER_MOST + 1];
    double log_gain[ORDER_MOST + 1];
    double terms[ORDER_MOST + 1];
    log_factorial[0] = log_factorial[1] = 0;
    for (unsigned k = 2; k <= ORDER_MOST; k++) {
        double w = (double)k * (k - 1) / (2 * sigma * sigma);
        log_factorial[k] = log_factorial[k - 1] + log((double)k);
        log_gain[k] = w > 30 ? w + log1p(-exp(-w)) : log(expm1(w));
    }
    double log_q = log(q);
    double log_p = log1p(-q);
    for (unsigned i = 0; i < ORDER_COUNT - ORDERS_TENTHS; i++) {
        unsigned order = (unsigned)order_at(ORDERS_TENTHS + i);
        double max = -INFINITY;
        for (unsigned k = 2; k <= order; k++) {
            terms[k] = log_factorial[order] - log_factorial[k] - log_factorial[order - k] +
                       (order - k) * log_p + k * log_q + log_gain[k];
            max = fmax(max, terms[k]);
        }
        double sum = 0;
        for (unsigned k = 2; k <= order; k++) {
            sum += terms[k] > max - 45 ? exp(terms[k] - max) : 0;
        }
        ret[i] = log_one_plus(max + log(sum)) / (order - 1);
    }
}

void proto_privacy_rdp_curve(double rate, double sigma, double orders[PROTO_PRIVACY_ORDERS],
                             double ret[PROTO_PRIVACY_ORDERS])
{
    bool valid = rdp_valid(rate, sigma, ORDER_MIN);
    bool mixed = valid && rate > 0 && rate < 1;
    if (mixed) {
        rdp_tenths(rate, sigma, ret);
        rdp_integers(rate, sigma, ret + ORDERS_TENTHS);
    }
    for (unsigned i = 0; i < ORDER_COUNT; i++) {
        orders[i] = order_at(i);
        ret[i] = mixed   ? ret[i] * (1 + SLACK_RDP)
                 : valid ? rate * orders[i] / (2 * sigma * sigma) * (1 + SLACK_RDP)
                         : INFINITY;
    }
}

double proto_privacy_sgd_epsilon(double rate, double sigma, uint64_t steps, double extra_rho,
                                 double delta)
{
    double best = INFINITY;
    double orders[ORDER_COUNT];
    double one_step[ORDER_COUNT];
    if (!(extra_rho >= 0) || !delta_valid(delta)) {
        return best;
    }
    proto_privacy_rdp_curve(steps > 0 ? rate : 0, steps > 0 ? sigma : 1, orders, one_step);
    for (unsigned i = 0; i < ORDER_COUNT; i++) {
        double rdp = orders[i] * extra_rho + (double)steps * one_step[i];
        best = fmin(best, proto_privacy_rdp_epsilon(rdp, orders[i], delta));
    }
    return best;
}

enum err proto_privacy_sgd_calibrate(double epsilon, double delta, double rate, uint64_t steps,
                                     double extra_rho, double *ret_sigma)
{
    if (!epsilon_valid(epsilon) || !delta_valid(delta) || !(rate >= 0 && rate <= 1) ||
        !(extra_rho >= 0)) {
        return E_INVALID;
    }
    double hi = 1;
    while (proto_privacy_sgd_epsilon(rate, hi, steps, extra_rho, delta) > epsilon) {
        if (hi >= PROTO_PRIVACY_SIGMA_MAX) {
            return E_LIMIT;
        }
        hi = fmin(hi * 4, PROTO_PRIVACY_SIGMA_MAX);
    }
    double lo = hi > 1 ? hi / 4 : PROTO_PRIVACY_SIGMA_MIN;
    if (proto_privacy_sgd_epsilon(rate, lo, steps, extra_rho, delta) <= epsilon) {
        hi = lo;
    }
    /* hi always satisfies the target, which makes the result right even where the curve is not monotone. */
    while (hi - lo > 1e-7 * hi) {
        double mid = sqrt(lo * hi);
        if (proto_privacy_sgd_epsilon(rate, mid, steps, extra_rho, delta) <= epsilon) {
            hi = mid;
        } else {
            lo = mid;
        }
    }
    *ret_sigma = hi;
    return E_OK;
}

static bool steps_fit(uint64_t nano, double rate, double sigma, uint64_t steps, double order)
{
    return steps == 0 || proto_privacy_sgd_step_nano(rate, sigma, order) <= nano / steps;
}

enum err proto_privacy_sgd_fit(uint64_t nano, double rate, uint64_t steps, double order,
                               double *ret_sigma)
{
    if (!rdp_valid(rate, 1, order)) {
        return E_INVALID;
    }
    double lo = PROTO_PRIVACY_SIGMA_MIN;
    double hi = lo;
    while (!steps_fit(nano, rate, hi, steps, order)) {
        if (hi >= PROTO_PRIVACY_SIGMA_MAX) {
            return E_LIMIT;
        }
        lo = hi;
        hi = fmin(hi * 4, PROTO_PRIVACY_SIGMA_MAX);
    }
    while (hi - lo > 1e-7 * hi) {
        double mid = sqrt(lo * hi);
        if (steps_fit(nano, rate, mid, steps, order)) {
            hi = mid;
        } else {
            lo = mid;
        }
    }
    *ret_sigma = hi;
    return E_OK;
}

/* --- normal distribution and the analytic Gaussian ---------------------------------------------- */

double proto_privacy_normal_cdf(double z)
{
    return erfc(-z * 0.70710678118654752440) / 2;
}

/* e^(x^2) erfc(x) for x > 3 by its continued fraction, from the far end. */
static double erfcx_large(double x)
{
    double tail = x;
    for (int n = 80; n >= 1; n--) {
        tail = x + n / 2.0 / tail;
    }
    return 0.56418958354775628695 / tail;
}

double proto_privacy_normal_log_cdf(double z)
{
    if (z > 0) {
        return log1p(-erfc(z * 0.70710678118654752440) / 2);
    }
    if (z > -5) {
        return log(erfc(-z * 0.70710678118654752440) / 2);
    }
    return log(erfcx_large(-z * 0.70710678118654752440) / 2) - z * z / 2;
}

double proto_privacy_normal_quantile(double p)
{
    if (!(p > 0 && p < 1)) {
        return p <= 0 ? -INFINITY : INFINITY;
    }
    if (p > 0.5) {
        return -proto_privacy_normal_quantile(1 - p);
    }
    double target = log(p);
    double lo = -40;
    double hi = 0.5;
    for (int i = 0; i < 100; i++) {
        double mid = lo + (hi - lo) / 2;
        if (proto_privacy_normal_log_cdf(mid) < target) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return hi;
}

double proto_privacy_analytic_gaussian_log_delta(double sigma, double epsilon)
{
    if (!(sigma > 0) || !(epsilon >= 0)) {
        return 0;
    }
    double x = proto_privacy_normal_log_cdf(1 / (2 * sigma) - epsilon * sigma);
    double y = epsilon + proto_privacy_normal_log_cdf(-1 / (2 * sigma) - epsilon * sigma);
    return y < x ? x + log1p(-exp(y - x)) : -INFINITY;
}

double proto_privacy_analytic_gaussian_delta(double sigma, double epsilon)
{
    return exp(proto_privacy_analytic_gaussian_log_delta(sigma, epsilon));
}

double proto_privacy_analytic_gaussian_epsilon(double sigma, double delta)
{
    if (!(sigma > 0) || !delta_valid(delta)) {
        return INFINITY;
    }
    double target = log(delta);
    double lo = 0;
    double hi = 1;
    while (proto_privacy_analytic_gaussian_log_delta(sigma, hi) > target) {
        if (hi > PROTO_PRIVACY_EPSILON_MAX) {
            return INFINITY;
        }
        lo = hi;
        hi *= 2;
    }
    for (int i = 0; i < 200 && hi - lo > 1e-14 * hi; i++) {
        double mid = lo + (hi - lo) / 2;
        if (proto_privacy_analytic_gaussian_log_delta(sigma, mid) <= target) {
            hi = mid;
        } else {
            lo = mid;
        }
    }
    return hi * (1 + SLACK_RDP);
}

double proto_privacy_analytic_gaussian_sigma(double epsilon, double delta, double sensitivity)
{
    if (!epsilon_valid(epsilon) || !delta_valid(delta) || !(sensitivity > 0)) {
        return INFINITY;
    }
    double target = log(delta);
    double lo = 0;
    double hi = 1;
    while (proto_privacy_analytic_gaussian_log_delta(hi, epsilon) > target) {
        lo = hi;
        hi *= 10;
        if (hi > 1e30) {
            return INFINITY;
        }
    }
    for (int i = 0; i < 200 && hi - lo > 1e-14 * hi; i++) {
        double mid = lo + (hi - lo) / 2;
        if (proto_privacy_analytic_gaussian_log_delta(mid, epsilon) <= target) {
            hi = mid;
        } else {
            lo = mid;
        }
    }
    return nextafter(hi * sensitivity * (1 + SLACK_RDP), INFINITY);
}
