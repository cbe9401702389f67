/* Models of tables, trained with differential privacy at one site: logistic and linear regression, a small neural network, and Cox
 * regression. They share one private step (logistic.h says what it does and why it is private); a model is what it adds for a row.
 *
 *     struct model_tabular m = {.kind = MODEL_TABULAR_COX, .features = 12, .bins = 10};
 *     double *w = calloc(model_tabular_count(&m), sizeof *w);
 *     model_tabular_start(&m, seed, w);                                  // public, equal at all sites
 *     err = model_tabular_train(&m, &table, &sgd, w, NULL, NULL, &done, reterr);
 *     model_tabular_score(&m, w, x)                                      // of a row
 *
 * Rows: x within [-1, 1] by public bounds. What is learned:
 *   LOGISTIC   y is 0 or 1; score = w.x + b, loss -ln p(y). Weights: features, then b.
 *   LINEAR     target within [-1, 1] by public bounds; score = w.x + b, loss (score - target)^2 / 2.
 *   MLP_LOGISTIC, MLP_LINEAR   score = v.tanh(W x + c) + b with HIDDEN units; loss as above. Weights: for each unit its features and c,
 *              then v, then b.
 *   COX        y: the event was seen; time within (0, 1] of a public horizon. Hazard exp(a_bin + w.x) in BINS equal parts of the
 *              horizon. Weights: features, then a of each bin. score = w.x, the log of the hazard ratio.
 *
 * Cox and Breslow. The partial likelihood is no sum over patients: a patient stands in the risk sets of others, so that neither a norm
 * of his own nor a sum over sites would exist. The likelihood of the piecewise exponential model is
 *     sum_i [ y_i (a_bin(i) + w.x_i) - sum_b e_ib exp(a_b + w.x_i) ],   e_ib the time of i at risk in bin b,
 * a sum over patients. Its maximum over a is a_b = ln(events in b / sum_i e_ib exp(w.x_i)), which is Breslow's estimate of the baseline
 * hazard, and what remains is his partial likelihood with bins for event times (Holford 1976; Laird, Olivier 1981): with bins as fine as
 * the event times both have the same w. model_cox_breslow is the exact one, for tests and for a figure that a site keeps for itself.
 * Tested against central differences, normal equations, and R's survival::coxph(ties = "breslow").
 * Threads: free of state; the table is only read. Limits: MODEL_FEATURES_MAX, MODEL_HIDDEN_UNITS_MAX, MODEL_BINS_MAX. */
#ifndef CONCORDAT_NODE_MODEL_TABULAR_H
#define CONCORDAT_NODE_MODEL_TABULAR_H

#include "node/model/logistic.h"

#define MODEL_HIDDEN_UNITS_MAX 64u
#define MODEL_BINS_MAX         256u

enum model_tabular_kind {
    MODEL_TABULAR_LOGISTIC,
    MODEL_TABULAR_LINEAR,
    MODEL_TABULAR_MLP_LOGISTIC,
    MODEL_TABULAR_MLP_LINEAR,
    MODEL_TABULAR_COX
};
struct model_tabular {
    enum model_tabular_kind kind;
    size_t features;
    size_t hidden; /* units of an MLP */
    size_t bins;   /* of Cox */
};
/* Inside the limits. */
bool model_tabular_valid(const struct model_tabular *m);
size_t model_tabular_count(const struct model_tabular *m);
/* Zeros; an MLP's first layer is uniform in +-1/sqrt(features), its last in +-1/sqrt(hidden), from SEED. */
void model_tabular_start(const struct model_tabular *m, uint64_t seed, double *weights);
/* Whether a table has what the model needs: model_table_valid, and targets or times in their range. */
bool model_tabular_table_valid(const struct model_tabular *m, const struct model_table *table);

/* As model_logistic_train. */
MUST_CHECK enum err model_tabular_train(const struct model_tabular *m,
                                        const struct model_table *table,
                                        const struct model_sgd *sgd, double *weights,
                                        bool (*cancelled)(void *), void *user, uint32_t *ret_steps,
                                        struct err_info *reterr);

/* --- pure parts; exact: they must not leave the site --------------------------------------------------- */

double model_tabular_score(const struct model_tabular *m, const double *weights, const float *x);
/* Probability of y = 1, the target, or the hazard ratio exp(score). */
double model_tabular_answer(const struct model_tabular *m, const double *weights, const float *x);
/* The loss of ROW. Adds its gradient to GRADIENT (may be NULL). */
double model_tabular_row(const struct model_tabular *m, const struct model_table *table, size_t row,
                         const double *weights, double *gradient);
/* -ln of Breslow's partial likelihood of all rows at w (features numbers), with its gradient (may be NULL), and Harrell's concordance
 * (may be NULL; NAN without comparable pairs). Order of rows does not matter. Errors: E_NO_MEMORY. */
MUST_CHECK enum err model_cox_breslow(const struct model_table *table, const double *weights,
                                      double *ret_loss, double *gradient, double *ret_concordance);

#endif
