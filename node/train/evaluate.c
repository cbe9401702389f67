#include "config.h"
#include "node/train/evaluate.h"

#include "crypto/memory.h"

#include <math.h>

#define Z95 1.959963984540054

static void add_sums(const struct model_table *held, const double *weights,
                     const struct privacy_coordinate *coordinates, __int128 *exact)
{
    for (size_t row = 0; row < held->rows; row++) {
        double score =
            model_logistic_score(weights, held->x + row * held->features, held->features);
        double loss = fmin(model_logistic_loss(score, held->y[row]), TRAIN_LOSS_CLIP);
        bool correct = (score > 0) == (held->y[row] == 1);
        exact[TRAIN_SUM_COUNT] += 1;
        exact[TRAIN_SUM_LOSS] +=
            privacy_mechanism_quantise(&coordinates[TRAIN_SUM_LOSS], loss - TRAIN_LOSS_CLIP / 2);
        exact[TRAIN_SUM_CORRECT] +=
            privacy_mechanism_quantise(&coordinates[TRAIN_SUM_CORRECT], correct ? 0.5 : -0.5);
    }
}

static enum err release_sums(struct privacy_pool *pool, const struct model_table *held,
                             const double *weights, uint32_t m, uint64_t nano,
                             struct train_figures *ret, struct err_info *reterr)
{
    struct privacy_coordinate coordinates[TRAIN_SUMS];
    __int128 exact[TRAIN_SUMS] = {0};
    int64_t noisy[TRAIN_SUMS];
    enum err err = train_sums_plan(nano, m, coordinates);
    if (!err) {
        add_sums(held, weights, coordinates, exact);
        err = privacy_mechanism_release_pooled(pool, coordinates, TRAIN_SUMS, exact, 1, noisy,
                                               reterr);
    }
    for (size_t i = 0; !err && i < TRAIN_SUMS; i++) {
        ret->sums[i] = privacy_mechanism_value(&coordinates[i], noisy[i]);
    }
    crypto_wipe(exact, sizeof exact);
    return err;
}

static enum err release_histograms(struct privacy_pool *pool, const struct model_table *held,
                                   const double *weights, uint32_t m, uint64_t nano, uint64_t bins,
                                   struct train_figures *ret, struct err_info *reterr)
{
    struct privacy_coordinate coordinate;
    __int128 exact[2 * TRAIN_BINS_MAX] = {0};
    int64_t noisy[2 * TRAIN_BINS_MAX];
    enum err err = train_histogram_plan(nano, m, &coordinate);
    for (size_t row = 0; !err && row < held->rows; row++) {
        double score =
            model_logistic_score(weights, held->x + row * held->features, held->features);
        double bin = floor((double)bins / (1 + exp(-score)));
        uint64_t at = bin >= (double)bins ? bins - 1 : (uint64_t)fmax(bin, 0);
        exact[(held->y[row] ? bins : 0) + at]++;
    }
    if (!err) {
        err =
            privacy_mechanism_release_pooled(pool, &coordinate, 1, exact, 2 * bins, noisy, reterr);
    }
    for (size_t i = 0; !err && i < 2 * bins; i++) {
        ret->histograms[i] = privacy_mechanism_value(&coordinate, noisy[i]);
    }
    ret->has_histograms = !err;
    crypto_wipe(exact, sizeof exact);
    return err;
}

enum err train_evaluate(struct privacy_pool *pool, const struct model_table *held,
                        const double *weights, uint32_t max_rows_per_unit,
                        const struct train_cost *cost, bool sums, uint64_t bins,
                        struct train_figures *ret, struct err_info *reterr)
{
    *ret = (struct train_figures){.has_histograms = false};
    enum err err =
        sums ? release_sums(pool, held, weights, max_rows_per_unit, cost->sums_nano, ret, reterr)
             : E_OK;
    if (!err && bins) {
        err = release_histograms(pool, held, weights, max_rows_per_unit, cost->hist_nano, bins, ret,
                                 reterr);
    }
    return err;
}

static double clamp(double value, double low, double high)
{
    return value < low ? low : (value > high ? high : value);
}

struct train_metrics train_metrics_read(double count, double count_variance,
                                        const double sums[TRAIN_SUMS],
                                        const double variances[TRAIN_SUMS])
{
    struct train_metrics metrics = {NAN, NAN, NAN, NAN, NAN};
    if (!(count >= 1) || count < Z95 * sqrt(count_variance)) {
        return metrics; /* the noise may be all there is */
    }
    double loss = sums[TRAIN_SUM_LOSS] / count;
    double correct = sums[TRAIN_SUM_CORRECT] / count;
    metrics.loss = clamp(loss + TRAIN_LOSS_CLIP / 2, 0, TRAIN_LOSS_CLIP);
    metrics.accuracy = clamp(correct + 0.5, 0, 1);
    metrics.loss_margin =
        Z95 * sqrt(variances[TRAIN_SUM_LOSS] + loss * loss * count_variance) / count;
    metrics.accuracy_margin =
        Z95 * sqrt(variances[TRAIN_SUM_CORRECT] + correct * correct * count_variance) / count;
    return metrics;
}

double train_metrics_auc(const double *histograms, uint64_t bins, double bin_variance)
{
    const double *negative = histograms;
    const double *positive = histograms + bins;
    double negatives = 0;
    double positives = 0;
    double area = 0;
    for (uint64_t bin = 0; bin < bins; bin++) {
        area += positive[bin] * (negatives + negative[bin] / 2);
        negatives += negative[bin];
        positives += positive[bin];
    }
    if (!(negatives > 1 && positives > 1)) {
        return NAN;
    }
    double noise = bin_variance * (double)bins / 3;
    double margin = Z95 * sqrt(noise / (positives * positives) + noise / (negatives * negatives));
    return margin > 0.25 ? NAN : clamp(area / (positives * negatives), 0, 1);
}
