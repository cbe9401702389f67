/* Privacy-loss distributions: the tight loss of a plan whose mechanisms are all fixed before the first of them runs.
 *
 * It is for reports and for choosing noise ahead. It is not for the ledger: an analyst who picks mechanisms as answers come in
 * can outspend a sum of these distributions, which zCDP's filter (proto/privacy.h) does not allow.
 *
 *     double epsilon;
 *     err = proto_pld_sgd_epsilon(0.01, 1.1, 10000, 1e-5, &epsilon);        // DP-SGD in one call
 *
 *     struct proto_pld a = {0}, b = {0};                                    // or step by step
 *     err = proto_pld_laplace(10, 1e-4, &a);
 *     err = proto_pld_repeat(&a, 5);
 *     err = proto_pld_gaussian_subsampled(1, 8, 1e-4, PROTO_PLD_REMOVE, &b);
 *     err = proto_pld_join(&a, &b);
 *     epsilon = proto_pld_epsilon(&a, 1e-5);
 *     proto_pld_fini(&a);  proto_pld_fini(&b);
 *
 * The loss is put on a grid by connecting the dots: mass of P and Q between two grid points goes to both so that P and Q keep
 * their sums, which gives the least curve delta(epsilon) over the grid that is nowhere below the true one (Doroshenko et al.
 * 2022, arXiv 2207.04380). It is computed from each interval's own masses, so that nothing cancels against the whole. Sums of
 * losses are powers of a discrete Fourier transform; what Chernoff's bound leaves outside of its window, below 1e-15 a side,
 * counts as infinite loss. Tested against tests/vectors/privacy 12, 13, 14 and 15.
 *
 * Neighbours differ by one unit, sensitivity 1; of subsampled mechanisms both directions must be computed.
 * Threads: no state. Limits: delta >= PROTO_PLD_DELTA_MIN (rounding of the transform), PROTO_PLD_POINTS_MAX grid points.
 * Memory: 8 bytes a point, and 32 bytes a point while composing. */
#ifndef CONCORDAT_PROTO_PLD_H
#define CONCORDAT_PROTO_PLD_H

#include <stddef.h>
#include <stdint.h>

#include "proto/err.h"

#define PROTO_PLD_DELTA_MIN  1e-10
#define PROTO_PLD_POINTS_MAX ((size_t)1 << 22)

enum proto_pld_direction {
    PROTO_PLD_REMOVE, /* a unit is taken away: the mixture against noise alone */
    PROTO_PLD_ADD,
};

struct proto_pld {
    double interval;
    int64_t first; /* mass[i] has loss (first + i) * interval */
    size_t count;
    double *mass;
    double infinity; /* mass of infinite loss */
    double slack;    /* what rounding may have taken from delta */
};

/* One release. ret is zeroed by the caller, and freed with proto_pld_fini in any case.
 * Errors: E_INVALID a parameter outside (0, 1e6], rate outside [0, 1]; E_LIMIT too many grid points; E_NO_MEMORY. */
MUST_CHECK enum err proto_pld_gaussian_subsampled(double rate, double sigma, double interval,
                                                  enum proto_pld_direction direction,
                                                  struct proto_pld *ret);
MUST_CHECK enum err proto_pld_laplace(double scale, double interval, struct proto_pld *ret);
MUST_CHECK enum err proto_pld_discrete_laplace(double scale, double interval,
                                               struct proto_pld *ret);
MUST_CHECK enum err proto_pld_discrete_gaussian(double sigma, double interval,
                                                struct proto_pld *ret);

/* PLD becomes that of TIMES independent runs, or of itself and OTHER, which must have the same interval. On failure it is
 * unchanged. Errors: E_INVALID; E_LIMIT; E_NO_MEMORY. */
MUST_CHECK enum err proto_pld_repeat(struct proto_pld *pld, uint64_t times);
MUST_CHECK enum err proto_pld_join(struct proto_pld *pld, const struct proto_pld *other);

/* delta at EPSILON >= 0, and the least epsilon for DELTA; INFINITY when there is none or DELTA is below the limit. */
double proto_pld_delta(const struct proto_pld *pld, double epsilon);
double proto_pld_epsilon(const struct proto_pld *pld, double delta);

/* STEPS steps of DP-SGD, the larger of both directions, on a grid as fine as the range of losses allows.
 * Errors: as above; E_LIMIT also for a DELTA below the limit. */
MUST_CHECK enum err proto_pld_sgd_epsilon(double rate, double sigma, uint64_t steps, double delta,
                                          double *ret_epsilon);

/* The same plan with Gaussian releases of EXTRA_RHO zCDP in all besides (evaluations, say). EXTRA_RHO 0: none. */
MUST_CHECK enum err proto_pld_plan_epsilon(double rate, double sigma, uint64_t steps,
                                           double extra_rho, double delta, double *ret_epsilon);
/* The least SIGMA, to a ten-thousandth of it or of epsilon, with which that plan is (EPSILON, DELTA); checked before it returns,
 * and not above what Renyi orders find. Errors: E_LIMIT no sigma is enough; as above. */
MUST_CHECK enum err proto_pld_plan_calibrate(double epsilon, double delta, double rate,
                                             uint64_t steps, double extra_rho, double *ret_sigma);

void proto_pld_fini(struct proto_pld *pld);

#endif
