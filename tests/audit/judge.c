#include "tests/audit/judge.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* --- Clopper and Pearson ------------------------------------------------------------------------- */

static double log_gamma(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}

/* The continued fraction of the incomplete beta function by Lentz's method (DLMF 8.17.22). */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1;
    double d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double h = d;
    for (int m = 1; m <= 20000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1 + even * d;
        c = 1 + even / c;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = fabs(c) < tiny ? tiny : c;
        h *= d * c;
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 + odd * d;
        c = 1 + odd / c;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = fabs(c) < tiny ? tiny : c;
        h *= d * c;
        if (fabs(d * c - 1) < 1e-14) {
            break;
        }
    }
    return h;
}

/* I_x(a, b), the regularised incomplete beta function. */
static double beta(double a, double b, double x)
{
    if (x <= 0 || x >= 1) {
        return x >= 1;
    }
    double front = exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                     : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double judge_at_least(uint64_t k, uint64_t n, double error)
{
    if (k == 0) {
        return 0;
    }
    double low = 0;
    double high = (double)k / (double)n;
    for (int i = 0; i < 60 && high - low > 1e-9 * high; i++) {
        double p = (low + high) / 2; /* P[at least k of n] = I_p(k, n - k + 1) */
        if (beta((double)k, (double)(n - k) + 1, p) < error) {
            low = p;
        } else {
            high = p;
        }
    }
    return low;
}

double judge_at_most(uint64_t k, uint64_t n, double error)
{
    if (k == n) {
        return 1;
    }
    double low = (double)k / (double)n;
    double high = 1;
    for (int i = 0; i < 80 && high - low > 1e-9 * high; i++) {
        double p = (low + high) / 2; /* P[at most k of n] = 1 - I_p(k + 1, n - k) */
        if (1 - beta((double)k + 1, (double)(n - k), p) < error) {
            high = p;
        } else {
            low = p;
        }
    }
    return high;
}

/* --- what to look at ----------------------------------------------------------------------------- */

void judge_init(struct judge *judge, size_t dims)
{
    memset(judge, 0, sizeof *judge);
    judge->dims = dims < JUDGE_DIMS ? dims : JUDGE_DIMS;
    for (int side = 0; side < 2; side++) {
        judge->pilot[side] = calloc(JUDGE_PILOT * judge->dims, sizeof(double));
        if (!judge->pilot[side]) {
            abort();
        }
    }
}

void judge_fini(struct judge *judge)
{
    free(judge->pilot[0]);
    free(judge->pilot[1]);
}

void judge_pilot(struct judge *judge, int side, const double *outputs)
{
    if (judge->pilots[side] < JUDGE_PILOT) {
        memcpy(judge->pilot[side] + judge->pilots[side]++ * judge->dims, outputs,
               judge->dims * sizeof *outputs);
    }
}

static void moments(const struct judge *judge, int side, size_t dim, double *ret_mean,
                    double *ret_variance)
{
    double n = (double)judge->pilots[side];
    double sum = 0;
    double squares = 0;
    for (size_t i = 0; i < judge->pilots[side]; i++) {
        sum += judge->pilot[side][i * judge->dims + dim];
    }
    for (size_t i = 0; i < judge->pilots[side]; i++) {
        double off = judge->pilot[side][i * judge->dims + dim] - sum / n;
        squares += off * off;
    }
    *ret_mean = sum / n;
    *ret_variance = squares / (n - 1);
}

static double statistic(const struct judge *judge, const double *outputs)
{
    double sum = 0;
    for (size_t i = 0; i < judge->dims; i++) {
        sum += judge->weights[i] * outputs[i];
    }
    return sum;
}

void judge_ready(struct judge *judge)
{
    bool any = false;
    for (int pass = 0; pass < 2 && !any; pass++) {
        for (size_t i = 0; i < judge->dims; i++) {
            double mean[2];
            double variance[2];
            moments(judge, 0, i, &mean[0], &variance[0]);
            moments(judge, 1, i, &mean[1], &variance[1]);
            double v = (variance[0] + variance[1]) / 2 + 1e-30;
            double apart = fabs(mean[1] - mean[0]) / sqrt(2 * v / (double)judge->pilots[0]);
            /* Where no mean stands out, all that varies is taken. */
            judge->weights[i] = pass == 0 ? (apart > 3 ? (mean[1] - mean[0]) / v : 0)
                                          : (v > 1e-29 ? 1 / sqrt(v) : 0);
            any = any || judge->weights[i] != 0;
        }
    }
    if (!any && judge->dims == 1) {
        judge->weights[0] = 1; /* too rare for the pilot */
    }
    double low = INFINITY;
    double high = -INFINITY;
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < judge->pilots[side]; i++) {
            double x = statistic(judge, judge->pilot[side] + i * judge->dims);
            low = fmin(low, x);
            high = fmax(high, x);
        }
    }
    double margin = (high - low) * 0.25 + 1e-9;
    judge->low = low - margin;
    judge->width = (high - low + 2 * margin) / (JUDGE_BINS - 2);
}

void judge_add(struct judge *judge, int side, const double *outputs)
{
    double at = floor((statistic(judge, outputs) - judge->low) / judge->width) + 1;
    judge->counts[side][(size_t)fmin(fmax(at, 0), JUDGE_BINS - 1)]++;
    judge->runs[side]++;
}

/* --- verdict ------------------------------------------------------------------------------------- */

/* Of an event that K[side] of the runs hit. */
static double event_bound(const struct judge *judge, const uint64_t k[2], double delta,
                          double error)
{
    double best = 0;
    for (int side = 0; side < 2; side++) {
        double seen = (double)k[side] / (double)judge->runs[side];
        if (k[side] == 0 || seen <= delta) {
            continue;
        }
        double more = judge_at_least(k[side], judge->runs[side], error) - delta;
        double less = judge_at_most(k[1 - side], judge->runs[1 - side], error);
        best = more > 0 ? fmax(best, log(more / less)) : best;
    }
    return best;
}

double judge_bound(const struct judge *judge, double delta, double error)
{
    double each = error / (2.0 * 2 * 2 * JUDGE_BINS); /* two bounds, two directions, two sides */
    double best = 0;
    uint64_t above[2] = {judge->runs[0], judge->runs[1]};
    uint64_t below[2] = {0, 0};
    for (size_t i = 0; i < JUDGE_BINS; i++) {
        for (int side = 0; side < 2; side++) {
            above[side] -= judge->counts[side][i];
            below[side] += judge->counts[side][i];
        }
        best = fmax(best, event_bound(judge, above, delta, each));
        best = fmax(best, event_bound(judge, below, delta, each));
    }
    return best;
}
