/* The integer grid on which noise is added to clipped sums, and the noise.
 *
 *     err = model_grid_plan(clip, sigma, count, &grid);             // for vectors that are rounded one by one
 *     model_grid_add(&grid, clipped, count, sum);                   // exact integer sums, one unit after the other
 *
 *     err = model_grid_plan_sum(clip, sigma, count, &grid);         // for a float sum that is rounded once
 *     err = model_grid_release(&grid, sum, count, threads, noisy, reterr);     // NOISY may leave
 *
 * D2, the L2 sensitivity in grid steps, when one unit joins or leaves:
 *   one by one: each vector has norm <= CLIP and each coordinate is rounded by at most 1/2: CLIP/g + sqrt(count)/2.
 *   the sum:    two sums differ by at most CLIP, and rounding them moves the difference by at most 1 a coordinate:
 *               CLIP/g + sqrt(count). The unit's vector itself must have been clipped to CLIP (1 - MODEL_GRID_SLACK): the
 *               rest is for the rounding of float sums, which differs when another unit is added before. Adding B vectors
 *               in float costs each of the two sums at most B u |partial sum| with u = 2^-24, so B^2 2^-23 CLIP together even
 *               if every rounding had the same sign and all vectors the same direction: 2^-8 CLIP covers B = 181 in this worst
 *               case, and as rounding errors go (independent signs, B^1.5 2^-23) B = 1024 with room to spare. MODEL_GRID_UNITS_MAX.
 * The noise is the exact discrete Gaussian of deviation >= SIGMA D2 >= 2^20 steps. Discrete noise costs what continuous noise
 * does: the shift v is an integer vector, so E[e^{k<..>}] on the lattice equals its value on the reals, and A_a of every
 * integer order is equal; for other orders the lattice sum is a trapezoid rule whose error, about exp(-2 pi^2 sigma^2 D2),
 * is below 1e-300.
 * Threads: free of state. Limits: PRIVACY_NOISE_COUNT_MAX coordinates. */
#ifndef CONCORDAT_NODE_MODEL_GRID_H
#define CONCORDAT_NODE_MODEL_GRID_H

#include <stddef.h>
#include <stdint.h>

#include "proto/err.h"

#define MODEL_GRID_SLACK     0x1p-8
#define MODEL_GRID_UNITS_MAX 1024u

struct model_grid {
    int log2;             /* g = 2^log2 */
    uint64_t sensitivity; /* D2 */
    uint64_t sigma2;      /* variance of the noise in grid units, squared; >= (sigma D2)^2 */
};
/* Errors of both: E_INVALID clip or count; E_LIMIT sigma outside PROTO_PRIVACY_SIGMA_MIN .. 65536. */
MUST_CHECK enum err model_grid_plan(double clip, double sigma, size_t count,
                                    struct model_grid *ret);
MUST_CHECK enum err model_grid_plan_sum(double clip, double sigma, size_t count,
                                        struct model_grid *ret);
/* Rounds a clipped V and adds it to SUM; adds nothing if its integer norm exceeds D2, which clipping excludes. */
void model_grid_add(const struct model_grid *grid, const double *v, size_t count, int64_t *sum);
/* Rounds SUM (what is not finite counts as 0), adds noise drawn by THREADS threads, and gives it back as floats. NOISY may be SUM.
 * Errors: those of the random source; E_LIMIT too many numbers. On failure NOISY is all zero. */
MUST_CHECK enum err model_grid_release(const struct model_grid *grid, const float *sum,
                                       size_t count, unsigned threads, float *noisy,
                                       struct err_info *reterr);

#endif
