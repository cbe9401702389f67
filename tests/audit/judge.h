/* How private is a program, by its outputs alone? From many runs on two neighbouring inputs, a lower bound on epsilon that is wrong
 * with a stated probability.
 *
 *     struct judge judge;
 *     judge_init(&judge, dims);
 *     judge_pilot(&judge, side, outputs);  ... a few hundred of each side ...      finds what to look at
 *     judge_ready(&judge);
 *     judge_add(&judge, side, outputs);    ... as many as there is time for ...
 *     epsilon = judge_bound(&judge, delta, error);
 *
 * What it looks at is one number, the outputs weighted by how far their means lie apart over their variances (the best there is for
 * noise of Gaussian kind), and for it every half-line of a grid: P[x > t] and P[x < t], in both directions. If the program is
 * (epsilon, delta)-private then P <= e^epsilon P' + delta for each of these events, so ln((P - delta)/P') bounds epsilon from
 * below; P from below and P' from above by Clopper and Pearson 1934. Every event and both bounds share ERROR (Bonferroni). Looked at
 * are runs that the pilot has not seen.
 *
 * It cannot prove privacy: what shows only with tiny probability is not seen. Threads: one. */
#ifndef CONCORDAT_TESTS_AUDIT_JUDGE_H
#define CONCORDAT_TESTS_AUDIT_JUDGE_H

#include <stddef.h>
#include <stdint.h>

#define JUDGE_DIMS  64
#define JUDGE_PILOT 2048 /* runs of each side */
#define JUDGE_BINS  400

struct judge {
    size_t dims;
    size_t pilots[2];
    double *pilot[2]; /* runs x dims */
    double weights[JUDGE_DIMS];
    double low, width;
    uint64_t runs[2];
    uint64_t counts[2][JUDGE_BINS]; /* the outer ones hold all beyond */
};

void judge_init(struct judge *judge, size_t dims);
void judge_pilot(struct judge *judge, int side, const double *outputs);
void judge_ready(struct judge *judge);
void judge_add(struct judge *judge, int side, const double *outputs);
double judge_bound(const struct judge *judge, double delta, double error);
void judge_fini(struct judge *judge);

/* Bounds of a probability from K of N, each wrong with probability ERROR. */
double judge_at_least(uint64_t k, uint64_t n, double error);
double judge_at_most(uint64_t k, uint64_t n, double error);

#endif
