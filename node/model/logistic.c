#include "node/model/logistic.h"

#include <math.h>
#include <string.h>

#include "node/model/tabular.h"

bool model_table_valid(const struct model_table *t)
{
    if (t->features == 0 || t->features > MODEL_FEATURES_MAX || t->units > t->rows ||
        t->rows > UINT32_MAX) {
        return false;
    }
    for (size_t i = 0; i < t->rows; i++) {
        uint32_t before = i > 0 ? t->unit[i - 1] : 0;
        if (t->unit[i] >= t->units || t->unit[i] < before || t->unit[i] - before > 1 ||
            t->y[i] > 1) {
            return false;
        }
    }
    for (size_t i = 0; i < t->rows * t->features; i++) {
        if (!(t->x[i] >= -1 && t->x[i] <= 1)) {
            return false;
        }
    }
    return t->rows == 0 || (t->unit[0] == 0 && t->unit[t->rows - 1] + 1 == t->units);
}

float model_standardise(double x, double min, double max)
{
    double z = 2 * (x - min) / (max - min) - 1;
    return (float)fmin(fmax(z, -1), 1);
}

double model_logistic_score(const double *weights, const float *x, size_t features)
{
    double score = weights[features];
    for (size_t j = 0; j < features; j++) {
        score += weights[j] * (double)x[j];
    }
    return score;
}

double model_logistic_loss(double score, uint8_t y)
{
    double wrong = y ? -score : score;
    return wrong > 0 ? wrong + log1p(exp(-wrong)) : log1p(exp(wrong));
}

void model_logistic_gradient(const struct model_table *table, size_t from, size_t to,
                             const double *weights, double *gradient)
{
    for (size_t i = from; i < to; i++) {
        const float *x = table->x + i * table->features;
        double error =
            1 / (1 + exp(-model_logistic_score(weights, x, table->features))) - table->y[i];
        for (size_t j = 0; j < table->features; j++) {
            gradient[j] += error * (double)x[j];
        }
        gradient[table->features] += error;
    }
}

void model_clip(double *v, size_t count, double clip)
{
    double square = 0;
    for (size_t j = 0; j < count; j++) {
        square += v[j] * v[j];
    }
    if (!isfinite(square)) {
        memset(v, 0, count * sizeof *v);
        return;
    }
    /* A hair below, so that rounding of the scale cannot leave the ball. */
    double scale = clip * (1 - 1e-12) / sqrt(square);
    for (size_t j = 0; j < count && scale < 1; j++) {
        v[j] *= scale;
    }
}

enum err model_logistic_train(const struct model_table *table, const struct model_sgd *sgd,
                              double *weights, bool (*cancelled)(void *), void *user,
                              uint32_t *ret_steps, struct err_info *reterr)
{
    struct model_tabular m = {.kind = MODEL_TABULAR_LOGISTIC, .features = table->features};
    return model_tabular_train(&m, table, sgd, weights, cancelled, user, ret_steps, reterr);
}
