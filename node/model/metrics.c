#include "node/model/metrics.h"

#include <math.h>
#include <string.h>

#define Z95 1.959963984540054

enum err model_metrics_plan_make(uint64_t rho_nano, uint32_t max_rows_per_unit,
                                 struct model_metrics_plan *ret, struct err_info *reterr)
{
    memset(ret, 0, sizeof *ret);
    ret->max_rows_per_unit = max_rows_per_unit;
    ret->sums[0] = (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 1, .integer = true};
    ret->sums[1] = (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = MODEL_LOSS_CLIP};
    ret->sums[2] = ret->sums[0];
    ret->bin = ret->sums[0];
    /* Both halves are rounded down, so together they cost at most the whole. */
    enum err err = privacy_mechanism_plan(rho_nano / 2, max_rows_per_unit, ret->sums, 3, reterr);
    return err != E_OK
               ? err
               : privacy_mechanism_plan(rho_nano / 2, max_rows_per_unit, &ret->bin, 1, reterr);
}

double model_probability(const double *weights, const float *x, size_t features)
{
    return 1 / (1 + exp(-model_logistic_score(weights, x, features)));
}

unsigned model_histogram_bin(double probability)
{
    if (!(probability > 0)) {
        return 0; /* NaN as well */
    }
    return probability < 1 ? (unsigned)(probability * MODEL_HISTOGRAM_BINS)
                           : MODEL_HISTOGRAM_BINS - 1;
}

enum err model_metrics_sum(const struct model_metrics_plan *plan, const struct model_table *table,
                           const double *weights, __int128 *ret_exact)
{
    if (!model_table_valid(table)) {
        return E_INVALID;
    }
    memset(ret_exact, 0, MODEL_METRICS_VALUES * sizeof *ret_exact);
    uint32_t of_unit = 0;
    for (size_t i = 0; i < table->rows; i++) {
        of_unit = i > 0 && table->unit[i] == table->unit[i - 1] ? of_unit + 1 : 0;
        if (of_unit >= plan->max_rows_per_unit) {
            continue;
        }
        const float *x = table->x + i * table->features;
        uint8_t y = table->y[i];
        double p = model_probability(weights, x, table->features);
        double loss = model_logistic_loss(model_logistic_score(weights, x, table->features), y);
        ret_exact[0] += 1;
        ret_exact[1] += privacy_mechanism_quantise(&plan->sums[1], loss);
        ret_exact[2] += (p > 0.5) == (y == 1);
        ret_exact[3 + (y ? MODEL_HISTOGRAM_BINS : 0) + model_histogram_bin(p)] += 1;
    }
    return E_OK;
}

enum err model_metrics_release(const struct model_metrics_plan *plan, struct privacy_pool *pool,
                               const __int128 *exact, int64_t *ret_noisy, struct err_info *reterr)
{
    enum err err =
        privacy_mechanism_release_pooled(pool, plan->sums, 3, exact, 1, ret_noisy, reterr);
    if (err == E_OK) {
        err = privacy_mechanism_release_pooled(pool, &plan->bin, 1, exact + 3,
                                               2 * MODEL_HISTOGRAM_BINS, ret_noisy + 3, reterr);
    }
    if (err != E_OK) {
        memset(ret_noisy, 0, MODEL_METRICS_VALUES * sizeof *ret_noisy);
    }
    return err;
}

void model_metrics_add(const struct model_metrics_plan *plan, const int64_t *values,
                       struct model_scores *scores)
{
    scores->rows += privacy_mechanism_value(&plan->sums[0], values[0]);
    scores->loss += privacy_mechanism_value(&plan->sums[1], values[1]);
    scores->correct += privacy_mechanism_value(&plan->sums[2], values[2]);
    scores->rows_variance += pow(privacy_mechanism_sigma(&plan->sums[0]), 2);
    scores->loss_variance += pow(privacy_mechanism_sigma(&plan->sums[1]), 2);
    scores->correct_variance += pow(privacy_mechanism_sigma(&plan->sums[2]), 2);
    for (size_t i = 0; i < MODEL_HISTOGRAM_BINS; i++) {
        scores->histogram[0][i] += privacy_mechanism_value(&plan->bin, values[3 + i]);
        scores->histogram[1][i] +=
            privacy_mechanism_value(&plan->bin, values[3 + MODEL_HISTOGRAM_BINS + i]);
    }
}

double model_histogram_auc(const double *negatives, const double *positives)
{
    double below = 0;
    double pairs = 0;
    double positive = 0;
    for (size_t i = 0; i < MODEL_HISTOGRAM_BINS; i++) {
        double n = fmax(negatives[i], 0);
        double p = fmax(positives[i], 0);
        pairs += p * (below + n / 2);
        below += n;
        positive += p;
    }
    return below > 0 && positive > 0 ? pairs / (below * positive) : NAN;
}

/* Standard deviation of sum / rows by the first-order rule. */
static double ratio_margin(double ratio, double rows, double sum_variance, double rows_variance)
{
    return Z95 * sqrt(sum_variance + ratio * ratio * rows_variance) / rows;
}

void model_metrics_finish(const struct model_scores *s, struct model_metrics *ret)
{
    *ret = (struct model_metrics){s->rows, NAN, NAN, NAN, NAN, NAN};
    ret->auc = model_histogram_auc(s->histogram[0], s->histogram[1]);
    if (!(s->rows >= 1)) {
        return;
    }
    ret->loss = fmin(fmax(s->loss / s->rows, 0), MODEL_LOSS_CLIP);
    ret->accuracy = fmin(fmax(s->correct / s->rows, 0), 1);
    ret->loss_margin = ratio_margin(ret->loss, s->rows, s->loss_variance, s->rows_variance);
    ret->accuracy_margin =
        ratio_margin(ret->accuracy, s->rows, s->correct_variance, s->rows_variance);
}

enum err model_logistic_evaluate(const struct model_table *table, const double *weights,
                                 struct model_metrics *ret_exact)
{
    struct model_scores s;
    if (!model_table_valid(table)) {
        return E_INVALID;
    }
    memset(&s, 0, sizeof s);
    for (size_t i = 0; i < table->rows; i++) {
        const float *x = table->x + i * table->features;
        double p = model_probability(weights, x, table->features);
        double loss =
            model_logistic_loss(model_logistic_score(weights, x, table->features), table->y[i]);
        s.rows += 1;
        s.loss += fmin(loss, MODEL_LOSS_CLIP);
        s.correct += (p > 0.5) == (table->y[i] == 1);
        s.histogram[table->y[i]][model_histogram_bin(p)] += 1;
    }
    model_metrics_finish(&s, ret_exact);
    return E_OK;
}
