/* The pure arithmetic of a training plan: how many steps, how much noise, what it costs. What a column becomes: encoding.h.
 *
 *     struct train_terms terms = train_plan_terms(&plan, declared_size);
 *     err = train_cost_plan(&terms, order, &cost, reterr);        cost.sigma, cost.steps, train_cost_total(&cost)
 *
 * A site calibrates its own noise from its own declared size, since its sampling rate is batch / size. Everything here is
 * computed from public numbers, so coordinator and site come to the same figures.
 *
 * Evaluation: one release [count, loss, correct] (of a regression [count, loss, target, square], of Cox [count, loss]) and, where there are entities or classes, [matched, predicted, gold] of each
 * type, after every EVAL_EVERY rounds and after the last, and one score histogram at the end when BINS is not 0. Together they
 * have the zCDP of epsilon * eval_share at delta; half of it goes to the histogram. Weights before the first round are known to
 * everybody, so nothing is paid for their loss.
 *
 * An external trainer is not trusted to add anything up: its whole update is clipped and noised once a round, and everybody takes
 * part in it. Two updates of norm C at most differ by 2 C at most, so SIGMA is of 2 C: learner_trainer.c.
 *
 * A job without noise (its licences allow it: proto/policy) costs nothing, has sigma 0 and counts a round as one step.
 *
 * Accounting: proto/privacy.h. A step costs R(a*)/a* of the account's order; proto_privacy_sgd_calibrate makes steps and
 * evaluations together (epsilon, delta). Threads: pure. */
#ifndef CONCORDAT_NODE_TRAIN_PLAN_H
#define CONCORDAT_NODE_TRAIN_PLAN_H

#include "node/model/tabular.h"
#include "node/privacy/mechanism.h"
#include "node/train/message.h"

struct train_terms {
    bool noise;
    bool whole;    /* an external trainer: one release of everybody's data a round */
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
    double sigma;         /* noise multiplier; 0: a job without noise */
    uint64_t step_nano;   /* one step, at the order it was planned for */
    uint64_t evaluations; /* of sums */
    uint64_t sums_nano;   /* one evaluation's sums */
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
/* The same for the concordance of a survival model, from two histograms of (time, score), of the censored and of events: 512, 256,
 * 128 or 64 cells, or 0. One patient in four is taken to have the event: nothing is known before. */
uint64_t train_bins_choose_survival(double epsilon, double delta, double eval_share,
                                    double eval_split, double units, size_t sites, uint32_t m);
/* Whether BINS is a number of cells above, and how many parts the horizon and the range of scores have; a cell is
 * time * scores + score. */
bool train_concordance_shape(uint64_t bins, uint64_t *ret_times, uint64_t *ret_scores);

/* What a table's plan trains, with WIDTH encoded features. */
struct model_tabular train_plan_tabular(const struct train_plan *plan, size_t width);

/* --- evaluation: the public parameters of its noise ---------------------------------------------------------------- */

#define TRAIN_LOSS_CLIP 4.0 /* a row's loss counts as at most this, */
#define TRAIN_LOSS_CLIP_LINEAR                                                                     \
    0.5 /* a square's half as this: nobody is further from the middle of the bounds */
#define TRAIN_LOSS_LOW_COX                                                                         \
    (-2.0) /* a survival row's as at least this, since a density has no bound, */
#define TRAIN_LOSS_CLIP_COX 8.0 /* and as at most 8 more */
#define TRAIN_LOSS_CLIP_LM                                                                         \
    12.0 /* a masked piece's as this: any guess of 30,000 pieces has less than 10.4 */

/* The sums of one evaluation. For tables of rows; for texts of units (patients, documents), each of which counts once with the
 * means over its own labels. */
enum train_sum {
    TRAIN_SUM_COUNT,   /* held-out rows or units */
    TRAIN_SUM_LOSS,    /* of loss - sums.loss_clip / 2 */
    TRAIN_SUM_CORRECT, /* of correct - 1/2; correct: 0 or 1, or a share; where sums.correct */
    TRAIN_SUM_TARGET = TRAIN_SUM_CORRECT, /* of a standardised target t; where sums.moments, */
    TRAIN_SUM_SQUARE, /* and of t^2 - 1/2: for the share of variance explained */
};
/* What the sums of a plan's evaluation are. */
struct train_sums {
    size_t count;     /* at most TRAIN_SUMS_MAX */
    double loss_low;  /* 0, or that of Cox */
    double loss_clip; /* TRAIN_LOSS_CLIP, or that of a masked LM, a regression or Cox */
    bool correct;     /* not for tags, where entities tell more */
    bool moments;     /* of a regression's target */
    size_t types_at;  /* from here on, for each type: matched, predicted, gold */
    uint32_t types;   /* of entities or classes */
    double entities;  /* of one unit and type that count at most */
    uint32_t rows;    /* of one unit at most: max_rows_per_unit for tables, 1 for texts */
};
struct train_sums train_sums_of(const struct train_plan *plan, uint32_t max_rows_per_unit);
/* Types of the plan's labels, each once, in their order: X of B-X and I-X, or classes. Returns how many; with TO (may be NULL)
 * also which: spans into the plan. At most TRAIN_TYPES_MAX are told apart. */
uint32_t train_plan_types(const struct train_plan *plan, struct span *to);
MUST_CHECK enum err train_sums_plan(uint64_t nano, const struct train_sums *sums,
                                    struct privacy_coordinate ret[TRAIN_SUMS_MAX]);
MUST_CHECK enum err train_histogram_plan(uint64_t nano, uint32_t max_rows_per_unit,
                                         struct privacy_coordinate *ret);

#endif
