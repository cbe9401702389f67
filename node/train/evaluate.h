/* Federated evaluation: a site's noisy figures of a model on its held-out rows, and what the coordinator reads from them.
 *
 * The site releases [count, sum of (loss - loss_clip/2), sum of (correct - 1/2), then matched, predicted, gold of each
 * type] with discrete Gaussian noise, and of a table at the end a histogram of scores for each class. Centring halves the
 * sensitivity. A regression's sums are [count, loss, t, t^2 - 1/2] of targets t standardised to -1 .. 1, with loss (score - t)^2 / 2
 * counted as 1/2 at most; a survival model's are [count, loss], with the loss bounded to both sides, and its histograms are of
 * (time, score), of the censored and of events: a row is in one cell of one of them, so their sensitivity is that of the others. Rows of one unit are at most max_rows_per_unit, all of them held out together; of texts each unit is one row,
 * with its counts clamped to train_sums.entities. node/privacy/mechanism has the proof. A job without noise (sigma 0) has the
 * exact sums, unclamped but for the loss.
 * Threads: pure but for the noise. */
#ifndef CONCORDAT_NODE_TRAIN_EVALUATE_H
#define CONCORDAT_NODE_TRAIN_EVALUATE_H

#include "node/train/plan.h"

/* Values in units of the sums, as they travel. */
struct train_figures {
    size_t count;
    double sums[TRAIN_SUMS_MAX];
    bool has_histograms;
    double histograms[2 * TRAIN_BINS_MAX];
};
/* What is asked for. */
struct train_figures_wish {
    struct train_sums spec;
    const struct train_cost *cost;
    bool sums;
    uint64_t bins; /* 0: no histograms */
};
/* A table's model, and for Cox the range that its scores can have by public bounds (train_encoding_range). */
struct train_table_model {
    struct model_tabular shape;
    const double *weights;
    double low, high;
};

/* Rows of a table. Errors: those of the mechanism. */
MUST_CHECK enum err train_evaluate_table(struct privacy_pool *pool, const struct model_table *held,
                                         const struct train_table_model *model,
                                         const struct train_figures_wish *wish,
                                         struct train_figures *ret, struct err_info *reterr);
/* One unit's part in the sums of texts, exact: it must not leave the site. */
struct train_unit_figures {
    double loss, correct;             /* means over its labels */
    double types[TRAIN_TYPES_MAX][3]; /* matched, predicted, gold */
};
/* Adds up units: NEXT fills one and returns false behind the last. With noise each part is bounded first. */
MUST_CHECK enum err train_evaluate_units(struct privacy_pool *pool,
                                         bool (*next)(void *user, struct train_unit_figures *ret),
                                         void *user, const struct train_figures_wish *wish,
                                         struct train_figures *ret, struct err_info *reterr);

/* The coordinator's reading. NAN: not known. Margins are half-widths of the 95 % interval of the noise alone. */
struct train_metrics {
    double loss, loss_margin;
    double accuracy, accuracy_margin; /* of a regression: R^2, the share of variance explained */
    double auc;
};
/* SUMS and VARIANCES over all sites (count, loss, correct; NAN where there is no such sum); COUNT and its variance may come from several evaluations,
 * since the held-out rows stay. */
struct train_metrics train_metrics_read(const struct train_sums *spec, double count,
                                        double count_variance, const double *sums,
                                        const double *variances);
/* Of a survival model: of pairs in which the earlier has the event, in different parts of the horizon, the share in which his score
 * is in the higher part, ties half. Harrell's concordance up to the parts: pairs that are near in time, which are harder to tell
 * apart, are left out, so it can be a little higher. NAN as below. */
double train_metrics_concordance(const double *histograms, uint64_t bins, double bin_variance);
/* NAN when the noise leaves no class or its 95 % interval is wider than 0.25 to either side. */
double train_metrics_auc(const double *histograms, uint64_t bins, double bin_variance);

#endif
