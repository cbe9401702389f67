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
    double low = adding->spec->loss_low, high = low + adding->spec->loss_clip;
    return (isfinite(loss) ? fmin(fmax(loss, low), high) : high) - (low + high) / 2;
}

static enum err release_table(struct privacy_pool *pool, const struct model_table *held,
                              const struct train_table_model *model,
                              const struct train_figures_wish *wish, struct train_figures *ret,
                              struct err_info *reterr)
{
    struct adding adding;
    enum err err = adding_init(&adding, wish);
    for (size_t row = 0; !err && row < held->rows; row++) {
        double loss = model_tabular_row(&model->shape, held, row, model->weights, NULL);
        add(&adding, TRAIN_SUM_COUNT, 1);
        add(&adding, TRAIN_SUM_LOSS, bounded_loss(&adding, loss));
        if (wish->spec.correct) {
            double score =
                model_tabular_score(&model->shape, model->weights, held->x + row * held->features);
            add(&adding, TRAIN_SUM_CORRECT, (score > 0) == (held->y[row] == 1) ? 0.5 : -0.5);
        }
        if (wish->spec.moments) {
            double target = (double)held->target[row];
            add(&adding, TRAIN_SUM_TARGET, target);
            add(&adding, TRAIN_SUM_SQUARE, target * target - 0.5);
        }
    }
    return err ? err : release_sums(&adding, pool, ret, reterr);
}

/* Which of PARTS equal ones a value of 0 to 1 is in. */
static uint64_t part_of(double value, uint64_t parts)
{
    double part = floor(value * (double)parts);
    return part >= (double)parts ? parts - 1 : (uint64_t)fmax(part, 0);
}

static uint64_t cell_of(const struct model_table *held, size_t row,
                        const struct train_table_model *model, uint64_t bins)
{
    const float *x = held->x + row * held->features;
    double score = model_tabular_score(&model->shape, model->weights, x);
    uint64_t times, scores;
    if (model->shape.kind != MODEL_TABULAR_COX || !train_concordance_shape(bins, &times, &scores)) {
        return part_of(1 / (1 + exp(-score)), bins);
    }
    double range = model->high - model->low;
    return part_of((double)held->time[row], times) * scores +
           (range > 0 ? part_of((score - model->low) / range, scores) : 0);
}

static enum err release_histograms(struct privacy_pool *pool, const struct model_table *held,
                                   const struct train_table_model *model,
                                   const struct train_figures_wish *wish, struct train_figures *ret,
                                   struct err_info *reterr)
{
    struct privacy_coordinate coordinate;
    __int128 exact[2 * TRAIN_BINS_MAX] = {0};
    int64_t noisy[2 * TRAIN_BINS_MAX];
    uint64_t bins = wish->bins;
    enum err err = train_histogram_plan(wish->cost->hist_nano, wish->spec.rows, &coordinate);
    for (size_t row = 0; !err && row < held->rows; row++) {
        exact[(held->y[row] ? bins : 0) + cell_of(held, row, model, bins)]++;
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
                              const struct train_table_model *model,
                              const struct train_figures_wish *wish, struct train_figures *ret,
                              struct err_info *reterr)
{
    enum err err = wish->sums ? release_table(pool, held, model, wish, ret, reterr) : E_OK;
    return err || !wish->bins ? err : release_histograms(pool, held, model, wish, ret, reterr);
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

/* R^2 = 1 - SSE / SST from noisy sums; its margin by first derivatives. */
static void read_moments(const struct train_sums *spec, double count, double count_variance,
                         const double *sums, const double *variances, struct train_metrics *to)
{
    double middle = spec->loss_low + spec->loss_clip / 2;
    double mean = sums[TRAIN_SUM_TARGET] / count;
    double errors = 2 * (sums[TRAIN_SUM_LOSS] + count * middle);
    double spread = sums[TRAIN_SUM_SQUARE] + count * (0.5 - mean * mean);
    double slope = 0.5 + mean * mean; /* of the spread by the count */
    double spread_variance = variances[TRAIN_SUM_SQUARE] +
                             4 * mean * mean * variances[TRAIN_SUM_TARGET] +
                             slope * slope * count_variance;
    if (!(spread > Z95 * sqrt(spread_variance)) || !(spread > 0)) {
        return; /* the noise may be all there is */
    }
    double share = errors / spread;
    double errors_variance = 4 * (variances[TRAIN_SUM_LOSS] + middle * middle * count_variance);
    to->accuracy = fmin(1 - share, 1);
    to->accuracy_margin = Z95 * sqrt(errors_variance + share * share * spread_variance) / spread;
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
    double low = spec->loss_low, high = low + spec->loss_clip;
    metrics.loss = clamp(loss + (low + high) / 2, low, high);
    metrics.loss_margin =
        Z95 * sqrt(variances[TRAIN_SUM_LOSS] + loss * loss * count_variance) / count;
    if (spec->moments) {
        read_moments(spec, count, count_variance, sums, variances, &metrics);
    } else if (spec->correct && isfinite(correct)) {
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

/* What is added to concordant pairs, less C times those added to all, by one more event at (time, score), or by one more patient
 * there whom earlier events are compared with. */
struct pairs {
    double right, all;
};

static struct pairs paired(const double *with, uint64_t from, uint64_t to, uint64_t scores,
                           uint64_t score, bool above)
{
    struct pairs sum = {0, 0};
    for (uint64_t t = from; t < to; t++) {
        for (uint64_t s = 0; s < scores; s++) {
            double n = with[t * scores + s];
            sum.all += n;
            sum.right += s == score ? n / 2 : (s < score) == above ? n : 0;
        }
    }
    return sum;
}

double train_metrics_concordance(const double *histograms, uint64_t bins, double bin_variance)
{
    const double *events = histograms + bins;
    double everybody[TRAIN_BINS_MAX], right = 0, all = 0, noise = 0;
    uint64_t times, scores;
    if (!train_concordance_shape(bins, &times, &scores)) {
        return NAN;
    }
    for (uint64_t i = 0; i < bins; i++) {
        everybody[i] = histograms[i] + events[i];
    }
    for (uint64_t i = 0; i < bins; i++) {
        struct pairs p = paired(everybody, i / scores + 1, times, scores, i % scores, true);
        right += events[i] * p.right;
        all += events[i] * p.all;
    }
    if (!(all > 1)) {
        return NAN;
    }
    double c = right / all;
    for (uint64_t i = 0; i < bins; i++) {
        struct pairs later = paired(everybody, i / scores + 1, times, scores, i % scores, true);
        struct pairs before = paired(events, 0, i / scores, scores, i % scores, false);
        double by_patient = before.right - c * before.all;
        double by_event = by_patient + later.right - c * later.all;
        noise += by_patient * by_patient + by_event * by_event;
    }
    double margin = Z95 * sqrt(bin_variance * noise) / all;
    return margin > 0.25 ? NAN : clamp(c, 0, 1);
}
