/* Logistic regression trained with differential privacy at one site, and its exact (never released) pieces.
 *
 *     struct model_sgd sgd = {.rate = 0.1, .clip = 1, .sigma = sigma, .learning_rate = 2, .momentum = 0.9,
 *                             .expected_batch = 0.1 * declared_size, .steps = 20};
 *     err = model_logistic_train(&table, &sgd, weights, NULL, NULL, &done, reterr);   // WEIGHTS may now leave the site
 *
 * Shapes: table.x is rows x features, row-major, each value within [-1, 1] by public bounds; weights are features + 1
 * doubles, the intercept last. score = w.x + b, probability = 1/(1 + e^-score), loss = -ln p(y).
 *
 * One step (DP-SGD, Abadi et al. 2016; add or remove one patient):
 *   1. each patient joins with probability RATE, by coins of the system's source: a real Poisson sample;
 *   2. the gradients of a joined patient's rows are added up and the sum is clipped to L2 norm CLIP;
 *   3. it is rounded to integers of a grid g, its squared integer norm is checked against D2^2, where
 *      D2 = ceil(CLIP/g + sqrt(features + 1)/2), and the integers are added up without rounding;
 *   4. exact discrete Gaussian noise of standard deviation >= SIGMA * D2 (at least 2^20) joins each coordinate, also
 *      when the batch is empty;
 *   5. the noisy sum is divided by the public EXPECTED_BATCH and moves the weights, with momentum, FedProx' pull to the
 *      first weights or SCAFFOLD's correction, all of which is post-processing of noisy values.
 * So a step is the subsampled Gaussian of noise multiplier SIGMA. Why discrete noise costs the same: grid.h.
 *
 * There is no way to train without noise: SIGMA below PROTO_PRIVACY_SIGMA_MIN is refused.
 * Threads: free of state; the table is only read. Limits: MODEL_FEATURES_MAX. */
#ifndef CONCORDAT_NODE_MODEL_LOGISTIC_H
#define CONCORDAT_NODE_MODEL_LOGISTIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/model/grid.h"
#include "proto/err.h"

#define MODEL_FEATURES_MAX 4096u
#define MODEL_STEPS_MAX    1000000u

/* Defaults that reach both ends: see doc of train jobs. They were found on public data, not on a site's. */
#define MODEL_LEARNING_RATE 2.0
#define MODEL_MOMENTUM      0.9
#define MODEL_CLIP          1.0

struct model_table {
    size_t rows, features;
    const float *x;       /* rows x features, within [-1, 1] */
    const uint8_t *y;     /* 0 or 1 */
    const uint32_t *unit; /* patient of each row: 0, 1, .. units - 1, not falling */
    size_t units;
    const float *target; /* linear models alone: within [-1, 1] */
    const float *time;   /* Cox alone: within (0, 1] of the horizon */
};

struct model_sgd {
    double rate, clip;
    double sigma; /* noise multiplier */
    double learning_rate;
    double momentum;       /* 0 <= momentum < 1 */
    double expected_batch; /* public: rate times the declared number of patients */
    uint32_t steps;
    double proximal; /* FedProx: adds PROXIMAL (w - w at the start) to each noisy gradient */
    const double *correction; /* SCAFFOLD: c - c_i, public, added to each; NULL: none */
};

/* Whether a table has the shape above; for asserts and for tables made from peers' or users' data. */
bool model_table_valid(const struct model_table *table);
/* The standardised value of x in [min, max]: -1 .. 1, clamped; min < max. */
float model_standardise(double x, double min, double max);

/* Runs SGD steps on WEIGHTS (features + 1, in and out). Calls CANCELLED (may be NULL) before each step.
 * ret_steps  set always: how many steps drew noise, which is what was spent.
 * Errors: E_INVALID table or settings; E_LIMIT sigma out of range; E_CANCELLED; those of the random source.
 * On failure WEIGHTS are as before the call. */
MUST_CHECK enum err model_logistic_train(const struct model_table *table,
                                         const struct model_sgd *sgd, double *weights,
                                         bool (*cancelled)(void *), void *user, uint32_t *ret_steps,
                                         struct err_info *reterr);

/* --- the pure parts, for training above, metrics and tests. Their results are exact: they must not leave the site ---- */

double model_logistic_score(const double *weights, const float *x, size_t features);
double model_logistic_loss(double score, uint8_t y);
/* Adds the gradient of rows [from, to) at WEIGHTS to GRADIENT (features + 1). */
void model_logistic_gradient(const struct model_table *table, size_t from, size_t to,
                             const double *weights, double *gradient);
/* Scales V to an L2 norm of at most CLIP; what is not finite becomes zero. */
void model_clip(double *v, size_t count, double clip);

#endif
