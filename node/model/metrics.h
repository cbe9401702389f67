/* Held-out loss, accuracy and AUC of a binary model as integer sums that can be released with noise.
 *
 *     struct model_metrics_plan plan;
 *     err = model_metrics_plan_make(rho_nano, max_rows_per_unit, &plan, reterr);      // same bytes at every site
 *     err = model_metrics_sum(&plan, &table, weights, exact);                          // exact: stays at the site
 *     err = model_metrics_release(&plan, NULL, exact, noisy, reterr);                  // noisy[] may leave
 *     struct model_scores scores = {0};
 *     model_metrics_add(&plan, noisy_of_each_site, &scores);  model_metrics_finish(&scores, &result);
 *
 * Two vector releases of half the charge each: (rows, clipped loss, correct) as one cell of three coordinates, and
 * the 64-bin histogram of predicted probabilities of each class, whose 128 cells are one coordinate. AUC from the
 * histogram: a pair within one bin counts half, so it differs from the exact one by at most half the share of such
 * pairs. Only the first max_rows_per_unit rows of a patient count.
 *
 * Threads: free of state. The mechanism and its proof: node/privacy/mechanism.h. */
#ifndef CONCORDAT_NODE_MODEL_METRICS_H
#define CONCORDAT_NODE_MODEL_METRICS_H

#include "node/model/logistic.h"
#include "node/privacy/mechanism.h"

#define MODEL_LOSS_CLIP      4.0
#define MODEL_HISTOGRAM_BINS 64u
/* rows, loss, correct, then the bins of class 0 and those of class 1 */
#define MODEL_METRICS_VALUES (3 + 2 * MODEL_HISTOGRAM_BINS)

struct model_metrics_plan {
    uint32_t max_rows_per_unit;
    struct privacy_coordinate sums[3]; /* rows, loss, correct */
    struct privacy_coordinate bin;
};

/* Errors: those of privacy_mechanism_plan. RHO_NANO is the whole charge of one evaluation, at least 2. */
MUST_CHECK enum err model_metrics_plan_make(uint64_t rho_nano, uint32_t max_rows_per_unit,
                                            struct model_metrics_plan *ret,
                                            struct err_info *reterr);
/* The exact sums, MODEL_METRICS_VALUES of them. Errors: E_INVALID the table. */
MUST_CHECK enum err model_metrics_sum(const struct model_metrics_plan *plan,
                                      const struct model_table *table, const double *weights,
                                      __int128 *ret_exact);
/* Noise for all of them; POOL may be NULL. Errors: those of privacy_mechanism_release. */
MUST_CHECK enum err model_metrics_release(const struct model_metrics_plan *plan,
                                          struct privacy_pool *pool, const __int128 *exact,
                                          int64_t *ret_noisy, struct err_info *reterr);

/* Sums over sites, of noisy values or (in tests) of exact ones. */
struct model_scores {
    double rows, loss, correct, histogram[2][MODEL_HISTOGRAM_BINS];
    double loss_variance, rows_variance, correct_variance; /* of the noise */
};
void model_metrics_add(const struct model_metrics_plan *plan, const int64_t *values,
                       struct model_scores *scores);

/* Each is NAN when there are too few rows to say. Margins are 1.96 standard deviations of the noise alone. */
struct model_metrics {
    double rows, loss, accuracy, auc;
    double loss_margin, accuracy_margin;
};
void model_metrics_finish(const struct model_scores *scores, struct model_metrics *ret);

/* One row, for both ways of counting. */
double model_probability(const double *weights, const float *x, size_t features);
unsigned model_histogram_bin(double probability);
/* AUC of two histograms; negative bins, which noise makes, count as zero. NAN when a class is empty. */
double model_histogram_auc(const double *negatives, const double *positives);

/* Exact metrics in plain doubles, without bound or noise: for tests and for a figure that a site keeps for itself. */
MUST_CHECK enum err model_logistic_evaluate(const struct model_table *table, const double *weights,
                                            struct model_metrics *ret_exact);

#endif
