/* The pure arithmetic of a training plan: how many steps, how much noise, what it costs, and what a column becomes.
 *
 *     struct train_terms terms = train_plan_terms(&plan, declared_size);
 *     err = train_cost_plan(&terms, order, &cost, reterr);        cost.sigma, cost.steps, train_cost_total(&cost)
 *     err = train_encoding_plan(&schema, &plan, &encoding, reterr);
 *
 * A site calibrates its own noise from its own declared size, since its sampling rate is batch / size. Everything here is
 * computed from public numbers, so coordinator and site come to the same figures.
 *
 * Evaluation: one release [count, loss, correct] after every EVAL_EVERY rounds and after the last, and one score histogram
 * at the end when BINS is not 0. Together they have the zCDP of epsilon * eval_share at delta; half of it goes to the
 * histogram. Weights before the first round are zero and known to everybody, so nothing is paid for their loss (ln 2).
 *
 * Accounting: proto/privacy.h. A step costs R(a*)/a* of the account's order; proto_privacy_sgd_calibrate makes steps and
 * evaluations together (epsilon, delta). Threads: pure. */
#ifndef CONCORDAT_NODE_TRAIN_PLAN_H
#define CONCORDAT_NODE_TRAIN_PLAN_H

#include "node/privacy/mechanism.h"
#include "node/train/message.h"
#include "proto/schema.h"

struct train_terms {
    uint64_t size; /* declared units of the site */
    uint64_t batch;
    uint64_t rounds;
    uint64_t epochs;
    uint64_t eval_every;
    uint64_t bins;
    double eval_share;
    double epsilon;
    double delta;
};

struct train_cost {
    double rate;    /* q: each unit joins a step with this probability */
    uint64_t steps; /* of one round */
    uint64_t rounds;
    double sigma;         /* noise multiplier */
    uint64_t step_nano;   /* one step, at the order it was planned for */
    uint64_t evaluations; /* of sums */
    uint64_t sums_nano;   /* one evaluation's [count, loss, correct] */
    uint64_t hist_nano;   /* the histogram at the end; 0: none */
};

struct train_terms train_plan_terms(const struct train_plan *plan, uint64_t size);
/* Whether the sums are released with the result of ROUND (1 to rounds). */
bool train_plan_evaluates(uint64_t rounds, uint64_t eval_every, uint64_t round);
/* Errors: E_INVALID sizes or shares that make no plan; E_LIMIT no noise is enough, or the steps are too many. */
MUST_CHECK enum err train_cost_plan(const struct train_terms *terms, double order,
                                    struct train_cost *ret, struct err_info *reterr);
/* All of it in nano-rho; UINT64_MAX when it does not fit. */
uint64_t train_cost_total(const struct train_cost *cost);
/* Epsilon at DELTA of what has been started. */
double train_cost_epsilon(const struct train_cost *cost, uint64_t steps, uint64_t evaluations,
                          bool histogram, double delta);

/* How many histogram bins are worth their noise: 64, 32, 16, 8, or 0 when even 8 would leave the AUC with a standard
 * deviation above 0.06, by declared sizes alone. UNITS: declared units of all sites; M: rows a unit. */
uint64_t train_bins_choose(double epsilon, double delta, double eval_share, double eval_split,
                           double units, size_t sites, uint32_t m);

/* --- evaluation: the public parameters of its noise ---------------------------------------------------------------- */

#define TRAIN_LOSS_CLIP 4.0 /* a row's loss counts as at most this */

enum train_sum {
    TRAIN_SUM_COUNT,   /* held-out rows */
    TRAIN_SUM_LOSS,    /* of loss - TRAIN_LOSS_CLIP / 2 */
    TRAIN_SUM_CORRECT, /* of correct - 1/2 */
    TRAIN_SUMS
};
MUST_CHECK enum err train_sums_plan(uint64_t nano, uint32_t max_rows_per_unit,
                                    struct privacy_coordinate ret[TRAIN_SUMS]);
MUST_CHECK enum err train_histogram_plan(uint64_t nano, uint32_t max_rows_per_unit,
                                         struct privacy_coordinate *ret);

/* --- columns ------------------------------------------------------------------------------------------------------- */

enum train_kind {
    TRAIN_KIND_NUMBER,   /* one value: standardised to -1 .. 1 by its bounds */
    TRAIN_KIND_BOOLEAN,  /* one value: 0 or 1 */
    TRAIN_KIND_CATEGORY, /* one 0-or-1 value for each declared value but the first */
};

struct train_column {
    int column; /* of the schema */
    enum train_kind kind;
    double low, high;
    size_t at;    /* first of its encoded values */
    size_t width; /* how many */
};

struct train_encoding {
    struct train_column columns[TRAIN_FEATURES_MAX];
    size_t count;
    size_t width; /* encoded values in all; weights are one more */
    int target;   /* its value or code is 0 or 1 */
};

/* Errors: E_SCHEMA a column is missing; E_UNSUPPORTED its type cannot be used, it has no bounds or its values are private;
 * E_LIMIT more than MODEL_FEATURES_MAX encoded values. */
MUST_CHECK enum err train_encoding_plan(const struct proto_schema *schema,
                                        const char *const *features, size_t feature_count,
                                        const char *target, struct train_encoding *ret,
                                        struct err_info *reterr);
/* VALUE (a category's code) or, when MISSING, the middle of what may stand there, into TO[column->at ...]. */
void train_encoding_put(const struct train_column *column, double value, bool missing, float *to);

#endif
