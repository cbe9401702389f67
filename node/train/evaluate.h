/* Federated evaluation: a site's noisy figures of a model on its held-out rows, and what the coordinator reads from them.
 *
 * The site releases [count, sum of (loss - TRAIN_LOSS_CLIP/2), sum of (correct - 1/2)] with discrete Gaussian noise, and at
 * the end a histogram of scores for each class. Centring halves the sensitivity. Rows of one unit are at most
 * max_rows_per_unit, all of them held out together; node/privacy/mechanism has the proof.
 * Threads: pure but for the noise. */
#ifndef CONCORDAT_NODE_TRAIN_EVALUATE_H
#define CONCORDAT_NODE_TRAIN_EVALUATE_H

#include "node/model/logistic.h"
#include "node/train/plan.h"

/* Values in units of the sums, as they travel. */
struct train_figures {
    double sums[TRAIN_SUMS];
    bool has_histograms;
    double histograms[2 * TRAIN_BINS_MAX];
};

/* BINS 0: sums only. Errors: those of the mechanism. */
MUST_CHECK enum err train_evaluate(struct privacy_pool *pool, const struct model_table *held,
                                   const double *weights, uint32_t max_rows_per_unit,
                                   const struct train_cost *cost, bool sums, uint64_t bins,
                                   struct train_figures *ret, struct err_info *reterr);

/* The coordinator's reading. NAN: not known. Margins are half-widths of the 95 % interval of the noise alone. */
struct train_metrics {
    double loss, loss_margin;
    double accuracy, accuracy_margin;
    double auc;
};
/* SUMS and VARIANCES over all sites; COUNT and its variance may come from several evaluations, since the held-out rows stay. */
struct train_metrics train_metrics_read(double count, double count_variance,
                                        const double sums[TRAIN_SUMS],
                                        const double variances[TRAIN_SUMS]);
/* NAN when the noise leaves no class or its 95 % interval is wider than 0.25 to either side. */
double train_metrics_auc(const double *histograms, uint64_t bins, double bin_variance);

#endif
