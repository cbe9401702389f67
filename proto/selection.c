#include "proto/selection.h"

#include <math.h>
#include <stdbool.h>

#include "proto/privacy.h"

static bool valid(double epsilon, double delta, uint64_t groups)
{
    return epsilon > 0 && epsilon <= PROTO_PRIVACY_EPSILON_MAX && delta > 0 && delta < 1 &&
           groups >= 1;
}

static double share(double delta, uint64_t groups)
{
    return -expm1(log1p(-delta) / (double)groups);
}

double proto_selection_keep(double epsilon, double delta, uint64_t groups, uint64_t people)
{
    if (!valid(epsilon, delta, groups) || people == 0) {
        return 0;
    }
    double e = epsilon / (double)groups;
    double d = share(delta, groups);
    double n = (double)people;
    double turn = 1 + floor(log1p(tanh(e / 2) * (1 / d - 1)) / e);
    if (n <= turn) {
        return fmin(d * expm1(n * e) / expm1(e), 1);
    }
    double at_turn = fmin(d * expm1(turn * e) / expm1(e), 1);
    return fmin(at_turn - (1 - at_turn + d / expm1(e)) * expm1(-(n - turn) * e), 1);
}

double proto_selection_threshold_laplace(double epsilon, double delta, uint64_t groups)
{
    if (!valid(epsilon, delta, groups)) {
        return INFINITY;
    }
    return 1 - log(2 * share(delta, groups)) * (double)groups / epsilon;
}

uint64_t proto_selection_threshold_laplace_whole(double epsilon, double delta, uint64_t groups)
{
    if (!valid(epsilon, delta, groups)) {
        return UINT64_MAX;
    }
    double e = epsilon / (double)groups;
    double d = share(delta, groups);
    /* P[noise >= k] = e^(-k e)/(1 + e^-e) for k >= 1, and for k = 0 as well. */
    double k = fmax(ceil(-(log(d) + log1p(exp(-e))) / e - 1e-9), 0);
    while (exp(-k * e) / (1 + exp(-e)) > d * (1 - 1e-13)) {
        k++;
    }
    return k < 1e15 ? 1 + (uint64_t)k : UINT64_MAX;
}

/* Phi^-1((1 - delta)^(1/l0)), from the side on which nothing cancels. */
static double deviations(double delta, uint64_t groups)
{
    return -proto_privacy_normal_quantile(share(delta, groups));
}

double proto_selection_threshold_gaussian(double sigma, double delta, uint64_t groups)
{
    if (!valid(1, delta, groups) || !(sigma > 0)) {
        return INFINITY;
    }
    return 1 + sigma * deviations(delta, groups);
}

uint64_t proto_selection_threshold_gaussian_whole(double sigma, double delta, uint64_t groups)
{
    double t = proto_selection_threshold_gaussian(sigma, delta, groups) * (1 + 1e-12) + 1;
    return t < 1e15 ? (uint64_t)fmax(ceil(t), 1) : UINT64_MAX;
}
