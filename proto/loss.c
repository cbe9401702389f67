#include "proto/loss.h"

#include <math.h>
#include <stdbool.h>

/* Small divergences are what is left of a sum close to 1. */
#define SLACK     (1 + 1e-11)
#define SCALE_MAX 1e10
#define SHIFT_MAX 1000000u
#define ORDER_MAX 1e6

static bool scale_valid(double scale)
{
    return scale > 0 && scale <= SCALE_MAX;
}

static bool order_valid(double order)
{
    return order >= 1 && order <= ORDER_MAX;
}

/* ln(e^a + e^b) */
static double log_add(double a, double b)
{
    double most = fmax(a, b);
    return most + log1p(exp(fmin(a, b) - most));
}

/* --- Laplace ------------------------------------------------------------------------------------ */

double proto_loss_laplace_rdp(double b, double order)
{
    if (!scale_valid(b) || !order_valid(order)) {
        return INFINITY;
    }
    if (order <= 1) {
        return (1 / b + expm1(-1 / b)) * SLACK;
    }
    double up = log(order / (2 * order - 1)) + (order - 1) / b;
    double down = log((order - 1) / (2 * order - 1)) - order / b;
    return fmax(log_add(up, down), 0) / (order - 1) * SLACK;
}

double proto_loss_laplace_delta(double b, double epsilon)
{
    if (!scale_valid(b) || !(epsilon >= 0)) {
        return 1;
    }
    return fmax(-expm1((epsilon - 1 / b) / 2), 0);
}

/* The loss is SHIFT/b below the first of the two centres, -SHIFT/b above the second, and falls by 2/b a step between. */
double proto_loss_discrete_laplace_rdp(double b, uint64_t shift, double order)
{
    if (!scale_valid(b) || !(order > 1) || !order_valid(order) || shift > SHIFT_MAX) {
        return INFINITY;
    }
    double most = (double)shift / b;
    double log_edge = -log1p(exp(-1 / b)); /* ln P[x <= 0] */
    double log_step = log(-expm1(-1 / b)) + log_edge;
    double sum = log_add(log_edge + (order - 1) * most, log_edge - most - (order - 1) * most);
    for (uint64_t x = 1; x < shift; x++) {
        double loss = ((double)shift - 2 * (double)x) / b;
        sum = log_add(sum, log_step - (double)x / b + (order - 1) * loss);
    }
    return fmax(sum, 0) / (order - 1) * SLACK;
}

double proto_loss_discrete_laplace_delta(double b, uint64_t shift, double epsilon)
{
    if (!scale_valid(b) || !(epsilon >= 0) || shift > SHIFT_MAX) {
        return 1;
    }
    double edge = 1 / (1 + exp(-1 / b));
    double most = (double)shift / b;
    double sum = edge * fmax(-expm1(epsilon - most), 0);
    for (uint64_t x = 1; x < shift; x++) {
        double loss = ((double)shift - 2 * (double)x) / b;
        if (loss <= epsilon) {
            break;
        }
        sum += -expm1(-1 / b) * edge * exp(-(double)x / b) * -expm1(epsilon - loss);
    }
    return fmin(sum * SLACK, 1);
}

/* --- Gaussian ----------------------------------------------------------------------------------- */

/* sum over all integers of exp(-x^2/(2 v)); by Poisson's formula it is sqrt(2 pi v) but for 2 e^(-2 pi^2 v). */
static double normaliser(double variance)
{
    double whole = 1;
    if (variance > 16) {
        return sqrt(2 * M_PI * variance);
    }
    for (int x = 1; x * x < 1600 * variance + 2; x++) {
        whole += 2 * exp(-(double)x * x / (2 * variance));
    }
    return whole;
}

/* P[Y > e v/D - D/2] - e^e P[Y > e v/D + D/2] term by term: the x-th is P[x] (1 - e^(e - loss of x)), above 0 from there on. */
double proto_loss_discrete_gaussian_delta(double variance, uint64_t shift, double epsilon)
{
    if (!scale_valid(variance) || !(epsilon >= 0) || shift > SHIFT_MAX) {
        return 1;
    }
    if (shift == 0) {
        return 0;
    }
    double d = (double)shift;
    double first = floor(epsilon * variance / d - d / 2) + 1;
    double last = fmax(first, 0) + 40 * sqrt(variance) + 2; /* beyond: below e^-800 of the first */
    first = fmax(first, -40 * sqrt(variance) - 2);
    double sum = 0;
    for (double x = first; x <= last; x++) {
        double loss = (x * d + d * d / 2) / variance;
        sum += exp(-x * x / (2 * variance)) * -expm1(epsilon - loss);
    }
    return fmin(sum / normaliser(variance) * SLACK, 1);
}

/* --- sums of discrete noise --------------------------------------------------------------------- */

static bool shared_valid(const struct proto_loss_shared *s)
{
    return s->parties >= 1 && s->parties <= 1e6 && scale_valid(s->variance) && s->l2 >= 0 &&
           s->l1 >= 0 && s->dimension >= 1;
}

double proto_loss_shared_tau(const struct proto_loss_shared *s)
{
    if (!shared_valid(s)) {
        return INFINITY;
    }
    double sum = 0;
    for (double k = s->parties - 1; k >= 1; k--) { /* the small ones first */
        sum += exp(-2 * M_PI * M_PI * s->variance * k / (k + 1));
    }
    return 10 * sum * SLACK;
}

/* The least of the three bounds of Prop. 14, times a/2 but for the first one's tau d. */
static double shared_loss(const struct proto_loss_shared *s, double half_order)
{
    double tau = proto_loss_shared_tau(s);
    double scale = sqrt(s->parties * s->variance);
    double l2 = s->l2 / scale;
    double l1 = s->l1 / scale;
    double d = s->dimension;
    double apart = half_order * l2 * l2 + tau * d;
    double crossed = half_order * (l2 * l2 + 2 * l1 * tau + tau * tau * d);
    double joined = half_order * (l2 + sqrt(d) * tau) * (l2 + sqrt(d) * tau);
    return fmin(apart, fmin(crossed, joined)) * SLACK;
}

double proto_loss_shared_rho(const struct proto_loss_shared *s)
{
    return shared_valid(s) ? shared_loss(s, 0.5) : INFINITY;
}

double proto_loss_shared_rdp(const struct proto_loss_shared *s, double order)
{
    return shared_valid(s) && order_valid(order) ? shared_loss(s, order / 2) : INFINITY;
}

double proto_loss_skellam_rdp(double variance, double l2, double l1, double order)
{
    bool whole = order > 1 && order_valid(order) && floor(order) >= order;
    if (!scale_valid(variance) || !(l2 >= 0) || !(l1 >= 0) || !whole) {
        return INFINITY;
    }
    double close = ((2 * order - 1) * l2 * l2 + 6 * l1) / (4 * variance * variance);
    double far = 3 * l1 / (2 * variance);
    return (order * l2 * l2 / (2 * variance) + fmin(close, far)) * SLACK;
}
