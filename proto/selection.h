/* Which keys of a group may be shown when the keys themselves are not public: a key that one person alone brings must stay
 * hidden but for a probability of delta.
 *
 *     uint64_t t = proto_selection_threshold_gaussian_whole(sigma, delta0, groups);
 *     shown if noisy count of people >= t
 *
 * GROUPS is how many groups one person may be in (l0): delta' = 1 - (1 - delta)^(1/l0), epsilon' = epsilon/l0. Counts are of
 * people, not of rows.
 *
 * Sources: Desfontaines, Voss, Gipson, Mandayam 2020 (arXiv 2006.03684) for the best one; Google's library for the thresholds of
 * its noises. Tested against tests/vectors/privacy 04, 04b and 04c. Threads: pure.
 * Limits: 0 < delta < 1, epsilon within (0, 1e6], groups from 1; beyond them nothing is shown: probability 0, threshold INFINITY
 * or UINT64_MAX. */
#ifndef CONCORDAT_PROTO_SELECTION_H
#define CONCORDAT_PROTO_SELECTION_H

#include <stdint.h>

/* The highest probability with which (epsilon, delta) allows to show a key that PEOPLE bring, when its number is not shown. */
double proto_selection_keep(double epsilon, double delta, uint64_t groups, uint64_t people);

/* Thresholds of a noisy count: of continuous Laplace noise of scale l0/epsilon; the same for integer noise, the smallest T with
 * P[1 + noise >= T] <= delta'; of Gaussian noise of deviation SIGMA. */
double proto_selection_threshold_laplace(double epsilon, double delta, uint64_t groups);
uint64_t proto_selection_threshold_laplace_whole(double epsilon, double delta, uint64_t groups);
double proto_selection_threshold_gaussian(double sigma, double delta, uint64_t groups);
/* For discrete Gaussian noise of that sigma, whose tails are P[Y >= k] <= P[N >= k - 1] (Canonne, Kamath, Steinke 2020). */
uint64_t proto_selection_threshold_gaussian_whole(double sigma, double delta, uint64_t groups);

#endif
