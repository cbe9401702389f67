#include "config.h"
#include "node/train/evaluate.h"

#include "crypto/memory.h"

#include <math.h>

#define Z95 1.959963984540054

/* Sums as they are added up: on the grids of their noise, or as doubles without noise. */
struct adding {
    bool noise;
    const struct train_sums *spec;
    struct privacy_coordinate coordinates[TRAIN_SUMS_MAX];
    __int128 exact[TRAIN_SUMS_MAX];
    double plain[TRAIN_SUMS_MAX];
};

static enum err adding_init(struct adding *adding, const struct train_figures_wish *wish)
{
    *adding = (struct adding){.noise = wish->cost->sigma > 0, .spec = &wish->spec};
    return adding->noise ? train_sums_plan(wish->cost->sums_nano, adding->spec, adding->coordinates)
                         : E_OK;
}

static void add(struct adding *adding, size_t at, double value)
{
    if (adding->noise) {
        adding->exact[at] += privacy_mechanism_quantise(&adding->coordinates[at], value);
    } else {
        adding->plain[at] += value;
    }
}

static enum err release_sums(struct adding *adding, struct privacy_pool *pool,
                             struct train_figures *ret, struct err_info *reterr)
{
    int64_t noisy[TRAIN_SUMS_MAX] = {0};
    size_t count = adding->spec->count;
    enum err err = adding->noise
                       ? privacy_mechanism_release_pooled(pool, adding->coordinates, count,
                                                          adding->exact, 1, noisy, reterr)
                       : E_OK;
    for (size_t i = 0; !err && i < count; i++) {
        ret->sums[i] = adding->noise ? privacy_mechanism_value(&adding->coordinates[i], noisy[i])
                                     : adding->plain[i];
    }
    ret->count = err ? 0 : count;
    crypto_wipe(adding, sizeof *adding);
    return err;
}

static double bounded_loss(const struct adding *adding, double loss)
{
    double most = adding->spec->loss_clip;
    return (isfinite(loss) ? fmin(loss, most) : most) - most / 2;
}

static enum err release_table(struct privacy_pool *pool, const struct model_table *held,
                              const double *weights, const struct train_figures_wish *wish,
                              struct train_figures *ret, struct err_info *reterr)
{
    struct adding adding;
    enum err err = adding_init(&adding, wish);
    for (size_t row = 0; !err && row < held->rows; row++) {
        double score =
            model_logistic_score(weights, held->x + row * held->features, held->features);
        bool correct = (score > 0) == (held->y[row] == 1);
        add(&adding, TRAIN_SUM_COUNT, 1);
        add(&adding, TRAIN_SUM_LOSS,
            bounded_loss(&adding, model_logistic_loss(score, held->y[row])));
        add(&adding, TRAIN_SUM_CORRECT, correct ? 0.5 : -0.5);
    }
    return err ? err : release_sums(&adding, pool, ret, reterr);
}

static enum err release_histograms(struct privacy_pool *pool, const struct model_table *held,
                                   const double *weights, const struct train_figures_wish *wish,
                                   struct train_figures *ret, struct err_info *reterr)
{
    struct privacy_coordinate coordinate;
    __int128 exact[2 * TRAIN_BINS_MAX] = {0};
    int64_t noisy[2 * TRAIN_BINS_MAX];
    uint64_t bins = wish->bins;
    enum err err = train_histogram_plan(wish->cost->hist_nano, wish->spec.rows, &coordinate);
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

enum err train_evaluate_table(struct privacy_pool *pool, const struct model_table *held,
                              const double *weights, const struct train_figures_wish *wish,
                              struct train_figures *ret, struct err_info *reterr)
{
    enum err err = wish->sums ? release_table(pool, held, weights, wish, ret, reterr) : E_OK;
    return err || !wish->bins ? err : release_histograms(pool, held, weights, wish, ret, reterr);
}

enum err train_evaluate_units(struct privacy_pool *pool,
                              bool (*next)(void *user, struct train_unit_figures *ret), void *user,
                              const struct train_figures_wish *wish, struct train_figures *ret,
                              struct err_info *reterr)
{
    struct train_unit_figures unit;
    struct adding adding;
    enum err err = adding_init(&adding, wish);
    while (!err && next(user, &unit)) {
        add(&adding, TRAIN_SUM_COUNT, 1);
        add(&adding, TRAIN_SUM_LOSS, bounded_loss(&adding, unit.loss));
        if (wish->spec.correct) {
            add(&adding, TRAIN_SUM_CORRECT, fmin(fmax(unit.correct, 0), 1) - 0.5);
        }
        for (size_t i = 0; i < 3 * (size_t)wish->spec.types; i++) {
            add(&adding, wish->spec.types_at + i, unit.types[i / 3][i % 3]);
        }
    }
    crypto_wipe(&unit, sizeof unit);
    return err ? err : release_sums(&adding, pool, ret, reterr);
}

static double clamp(double value, double low, double high)
{
    return value < low ? low : (value > high ? high : value);
}

struct train_metrics train_metrics_read(const struct train_sums *spec, double count,
                                        double count_variance, const double *sums,
                                        const double *variances)
{
    struct train_metrics metrics = {NAN, NAN, NAN, NAN, NAN};
    if (!(count >= 1) || count < Z95 * sqrt(count_variance)) {
        return metrics; /* the noise may be all there is */
    }
    double loss = sums[TRAIN_SUM_LOSS] / count;
    double correct = sums[TRAIN_SUM_CORRECT] / count;
    metrics.loss = clamp(loss + spec->loss_clip / 2, 0, spec->loss_clip);
    metrics.loss_margin =
        Z95 * sqrt(variances[TRAIN_SUM_LOSS] + loss * loss * count_variance) / count;
    if (isfinite(correct)) {
        metrics.accuracy = clamp(correct + 0.5, 0, 1);
        metrics.accuracy_margin =
            Z95 * sqrt(variances[TRAIN_SUM_CORRECT] + correct * correct * count_variance) / count;
    }
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
