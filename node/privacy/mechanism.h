/* One noisy release: exact integer sums of a query's cells, plus exact discrete Gaussian noise, for one charge rho.
 *
 *     struct privacy_coordinate c[2] = {
 *         {.kind = PRIVACY_ROWS, .bound = 1, .integer = true},     // COUNT(*)
 *         {.kind = PRIVACY_ROWS, .bound = 15.0},                   // SUM(creatinine)
 *     };
 *     err = privacy_mechanism_plan(rho_nano, max_rows_per_unit, c, 2, reterr);     // before any data is read
 *     sums[1] += privacy_mechanism_quantise(&c[1], value);                         // for each row that counts
 *     err = privacy_mechanism_release(c, 2, sums, cells, noisy, reterr);           // value = noisy * 2^grid_log2
 *
 * It is the only place that turns exact sums into an answer. It neither bounds how many rows a patient adds (the scan
 * must keep at most max_rows_per_unit of each patient over all cells together) nor charges the ledger.
 *
 * Proof. Neighbours differ by the rows of one patient. Of these the scan keeps at most m over all cells, at most l in one
 * cell, and rows of at most g cells (struct privacy_bounds). With r_i of them in cell i and c cells touched, row coordinate
 * j moves in cell i by at most r_i D_j in L2, where D_j is the largest |quantised value| of a row and an integer: each row
 * adds to one number, or, where the coordinate is a vector of counters (a histogram, a level of a tree), to one of them.
 * The coordinate that counts patients moves by 1 in each touched cell. Let f(c) be the largest sum of r_i^2 with c cells,
 * F its maximum over c, G = min(g, m). With weights w_j, their sum W_r over row coordinates and w_u of the patients' one,
 *     N = max over c of (W_r f(c) G + w_u c F)
 *     sigma_j^2 = D_j^2 N/(w_j G) 1e9 / (2 rho_nano)
 *     sigma_u^2 =       N/(w_u F) 1e9 / (2 rho_nano)
 * are exact rationals, and whatever the patient's rows are
 *     sum (shift/sigma)^2 <= (2 rho/N) (W_r f(c) G + w_u c F) <= 2 rho,
 * attained for some patient: nothing is wasted. Without a bound per cell f(c) = (m-c+1)^2 + c-1; else rows fill one cell
 * after the other, since a sum of squares is greatest when it is uneven. Each variance is then rounded up to num/2^k.
 * That discrete Gaussian noise of those variances is rho-zCDP: Canonne, Kamath, Steinke 2020, Thm. 14 (independent
 * coordinates). Grid, clamp and rounding act on one row at a time, before the sum.
 *
 * Grid of reals: g = 2^(floor(log2 sigma) - 25), but not coarser than the bound; integers: the same, not finer than 1.
 * The rounding of a row is at most g/2. The answer is a multiple of g whatever the data, so no low bits leak.
 *
 * Threads: free of state. Limits: PRIVACY_COORDINATES_MAX coordinates, PRIVACY_ROWS_MAX rows a patient. */
#ifndef CONCORDAT_NODE_PRIVACY_MECHANISM_H
#define CONCORDAT_NODE_PRIVACY_MECHANISM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/privacy/noise.h"
#include "proto/err.h"

#define PRIVACY_COORDINATES_MAX 64u
#define PRIVACY_ROWS_MAX        ((uint32_t)1 << 20)
#define PRIVACY_WEIGHT_MAX      1024u
#define PRIVACY_CELLS_MAX       ((size_t)1 << 20)

enum privacy_coordinate_kind {
    PRIVACY_UNITS, /* counts patients: 1 for each cell in which a patient has a row; at most one
                      such coordinate */
    PRIVACY_ROWS, /* adds up a value of each row; or counts rows in classes, of which each is in one */
};

/* What the rows of one patient may touch: each at least 1. */
struct privacy_bounds {
    uint32_t rows;          /* m: in all */
    uint32_t rows_per_cell; /* l; m or more: no bound of its own */
    uint32_t cells;         /* g */
};

struct privacy_coordinate {
    enum privacy_coordinate_kind kind;
    double bound;    /* of |value| of a row, public; 1 for counts */
    bool integer;    /* values are integers */
    uint32_t weight; /* share of the charge, over the sum of weights; 0 counts as 1 */
    /* Set by the plan: */
    int grid_log2;                   /* values are counted in units of 2^grid_log2 */
    uint64_t sensitivity;            /* D: largest |quantised value| of a row, at least 1 */
    uint64_t sigma2_num, sigma2_den; /* variance in grid units, squared */
};

/* Fixes grid, sensitivity and noise of each coordinate. Looks at nothing but its arguments; the short form bounds rows
 * in all only.
 * Errors: E_INVALID a bound is not finite or not positive, two PRIVACY_UNITS, no coordinate;
 * E_LIMIT rho is 0 or so small that the noise would leave the sampler's widths, too many
 * coordinates or rows. */
MUST_CHECK enum err privacy_mechanism_plan(uint64_t rho_nano, uint32_t max_rows_per_unit,
                                           struct privacy_coordinate *coords, size_t count,
                                           struct err_info *reterr);
MUST_CHECK enum err privacy_mechanism_plan_bounded(uint64_t rho_nano,
                                                   const struct privacy_bounds *bounds,
                                                   struct privacy_coordinate *coords, size_t count,
                                                   struct err_info *reterr);
/* Snaps a row's value to the grid. Total: values beyond the bound are clamped to it, NaN gives 0
 * (leave such rows out by a public rule before). |result| <= sensitivity. */
int64_t privacy_mechanism_quantise(const struct privacy_coordinate *coord, double value);
/* Adds fresh noise to each coordinate of each cell. exact and ret_noisy are cells x count, cell by
 * cell. Errors: E_LIMIT a noisy value does not fit int64 (judged on the noisy value, so that
 * refusing tells no more than the answer would); errors of the random source. On failure ret_noisy
 * is all zero. */
MUST_CHECK enum err privacy_mechanism_release(const struct privacy_coordinate *coords, size_t count,
                                              const __int128 *exact, size_t cells,
                                              int64_t *ret_noisy, struct err_info *reterr);
/* The same with samples from a pool, and the call that makes the pool ready for it. POOL may be
 * NULL. */
MUST_CHECK enum err privacy_mechanism_release_pooled(struct privacy_pool *pool,
                                                     const struct privacy_coordinate *coords,
                                                     size_t count, const __int128 *exact,
                                                     size_t cells, int64_t *ret_noisy,
                                                     struct err_info *reterr);
MUST_CHECK enum err privacy_mechanism_prepare(struct privacy_pool *pool,
                                              const struct privacy_coordinate *coords, size_t count,
                                              size_t cells);
/* Standard deviation of the noise in value units. */
double privacy_mechanism_sigma(const struct privacy_coordinate *coord);
/* A noisy result in value units. */
double privacy_mechanism_value(const struct privacy_coordinate *coord, int64_t noisy);

#endif
