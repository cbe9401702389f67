/* Exact samplers of the discrete Gaussian and the discrete Laplace distribution, and a pool of ready samples.
 *
 * Algorithms 1 to 3 of Canonne, Kamath, Steinke 2020 (arXiv 2004.00010): only integers, only coins from the system's
 * random source, no floating point. This is not the place that decides how much noise is needed
 * (node/privacy/mechanism), and there is no seed: tests judge the distribution.
 *
 *     int64_t noise[16];
 *     err = privacy_noise_gaussian(25, 1, noise, 16);     // standard deviation 5
 *
 * Timing. The time of one draw tells something about its size (Jin et al., S&P 2022). So a daemon keeps a pool: it
 * calls privacy_pool_prepare when the plan of a query is known, reads the data, then takes the samples, which another
 * thread has made in the meantime. Answers also go out on a fixed tick, which is the caller's part.
 *
 * Threads: the direct samplers are free of state; a struct privacy_random belongs to one thread; a pool is safe for all
 * threads. The process must not fork without exec, since a child would hold the same buffered coins.
 * Limits: numerator and denominator of sigma^2 up to PRIVACY_NOISE_MAX = 2^54; t and s of Laplace up to 2^40. Within
 * them every product of the algorithms fits 128 bits except for events of probability below e^-64, and those are
 * decided exactly too, by splitting the product (see privacy_noise_bernoulli_exp_product); nothing is redrawn. */
#ifndef CONCORDAT_NODE_PRIVACY_NOISE_H
#define CONCORDAT_NODE_PRIVACY_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/err.h"

#define PRIVACY_NOISE_MAX         ((uint64_t)1 << 54)
#define PRIVACY_NOISE_LAPLACE_MAX ((uint64_t)1 << 40)
#define PRIVACY_NOISE_COUNT_MAX   ((size_t)1 << 26)

/* COUNT independent samples, P[x] proportional to exp(-x^2 / (2 sigma^2)), sigma^2 = num / den.
 * Errors: E_LIMIT outside the widths; else the error of the random source. On failure TO is all
 * zero. */
MUST_CHECK enum err privacy_noise_gaussian(uint64_t sigma2_num, uint64_t sigma2_den, int64_t *to,
                                           size_t count);
/* P[x] proportional to exp(-|x| s / t). */
MUST_CHECK enum err privacy_noise_laplace(uint64_t t, uint64_t s, int64_t *to, size_t count);

/* --- coins: a buffer of system randomness, for samplers here and for Poisson sampling in node/model --- */

/* Zero-initialise. Any failure of the source is kept in ERR; draws then give 0 and the caller must
 * look at ERR. */
struct privacy_random {
    uint8_t bytes[4096];
    size_t left;
    enum err err;
};
/* Uniform in [0, limit), limit >= 1, by rejection: no modulo bias. */
unsigned __int128 privacy_random_below(struct privacy_random *random, unsigned __int128 limit);
/* True with probability numerator / denominator (at most 1). */
bool privacy_random_bernoulli(struct privacy_random *random, unsigned __int128 numerator,
                              unsigned __int128 denominator);
/* Wipes what is left. */
void privacy_random_fini(struct privacy_random *random);

/* True with probability exp(-x y / d), exactly, for any x and y. When x y needs more than BITS (at
 * most 126) bits, it uses exp(-x y / d) = exp(-x y1 / d)^(2^w) exp(-x y0 / d) with y = 2^w y1 + y0.
 * Production has BITS = 126; tests ask for less, to see the split. d < 2^112. */
bool privacy_noise_bernoulli_exp_product(struct privacy_random *random, unsigned __int128 x,
                                         unsigned __int128 y, unsigned __int128 d, unsigned bits);

/* --- pool --- */

struct privacy_pool;
/* Starts the thread. Errors: E_NO_MEMORY; E_INTERNAL no thread could be made. */
MUST_CHECK enum err privacy_pool_new(struct privacy_pool **ret);
/* Stops the thread and wipes everything; NULL is allowed. No other call may be running. */
void privacy_pool_free(struct privacy_pool *pool);
/* Says that COUNT samples of this distribution will be wanted soon; returns at once. The pool keeps
 * up to PRIVACY_POOL_KEYS distributions and drops the one that was used longest ago. Errors:
 * E_LIMIT as above. */
#define PRIVACY_POOL_KEYS 32
#define PRIVACY_POOL_DEEP 4096 /* samples kept ready of one distribution, at most */
#define PRIVACY_POOL_FILL 256  /* made at a time, always */
MUST_CHECK enum err privacy_pool_prepare(struct privacy_pool *pool, uint64_t sigma2_num,
                                         uint64_t sigma2_den, size_t count);
/* Takes COUNT samples; each is given out once. If fewer are ready, the rest is drawn directly, in
 * batches of PRIVACY_POOL_BATCH whatever the count, the surplus of which is thrown away: the time
 * is then that of a sum over a batch. The distribution is then kept ready for the next time. POOL
 * may be NULL: all is drawn directly. */
#define PRIVACY_POOL_BATCH 64
MUST_CHECK enum err privacy_pool_draw(struct privacy_pool *pool, uint64_t sigma2_num,
                                      uint64_t sigma2_den, int64_t *to, size_t count);
/* How many are ready now, for tests and status. */
size_t privacy_pool_ready(struct privacy_pool *pool, uint64_t sigma2_num, uint64_t sigma2_den);

#endif
