/* What one release of a single mechanism loses: Renyi divergences and exact deltas, in closed form or as sums without
 * cancellation. For reports, tests and plans; the ledger's currency is in privacy.h, composition of a whole plan in pld.h.
 *
 *     double r = proto_loss_discrete_laplace_rdp(2, 1, 8);              // scale 2, counts that move by 1, order 8
 *     double delta = proto_loss_discrete_gaussian_delta(25, 1, 0.5);    // variance 25
 *
 * Sources:
 *     Laplace                        Mironov 2017 (arXiv 1702.07476), Table II
 *     discrete Gaussian              Canonne, Kamath, Steinke 2020 (arXiv 2004.00010), Thm. 7
 *     sums of discrete Gaussians     Kairouz, Liu, Steinke 2021 (arXiv 2102.06387), Prop. 14
 *     Skellam                        Agarwal, Kairouz, Liu 2021 (arXiv 2110.04995), Thm. 3.5
 * Tested against tests/vectors/privacy 03c, 05, 05b, 05c, 06, 06b and 14. Losses are rounded up by 1e-11 relative.
 *
 * On a coarse grid the discrete laws lose more than the continuous ones of the same scale: never use the latter for integers.
 * Threads: pure. Limits: scales, variances within (0, 1e10], orders within [1, 1e6], shifts up to 1e6; beyond them a loss is
 * INFINITY, a delta 1. */
#ifndef CONCORDAT_PROTO_LOSS_H
#define CONCORDAT_PROTO_LOSS_H

#include <stdint.h>

/* Continuous Laplace noise of scale B (standard deviation sqrt 2 B), sensitivity 1. Order 1 is the Kullback-Leibler divergence. */
double proto_loss_laplace_rdp(double b, double order);
double proto_loss_laplace_delta(double b, double epsilon);

/* Integer noise, P[x] proportional to exp(-|x|/b), and integers that move by SHIFT. Order above 1. */
double proto_loss_discrete_laplace_rdp(double b, uint64_t shift, double order);
double proto_loss_discrete_laplace_delta(double b, uint64_t shift, double epsilon);

/* Integer noise, P[x] proportional to exp(-x^2/(2 VARIANCE)). */
double proto_loss_discrete_gaussian_delta(double variance, uint64_t shift, double epsilon);

/* The sum of PARTIES' discrete Gaussians of VARIANCE each, on DIMENSION integers that move by at most L2 and L1: what masked sums
 * with noise from each party release. It is not quite a discrete Gaussian of the summed variance; tau bounds the difference. */
struct proto_loss_shared {
    double parties;
    double variance;
    double l2;
    double l1;
    double dimension;
};
double proto_loss_shared_tau(const struct proto_loss_shared *shared);
double proto_loss_shared_rho(const struct proto_loss_shared *shared);
double proto_loss_shared_rdp(const struct proto_loss_shared *shared, double order);

/* Skellam noise of VARIANCE in all, an upper bound for integer ORDER above 1. */
double proto_loss_skellam_rdp(double variance, double l2, double l1, double order);

#endif
