#include "node/model/logistic.h"

#include <math.h>
#include <string.h>

#include "crypto/memory.h"
#include "node/privacy/noise.h"
#include "proto/alloc.h"

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

/* --- training --------------------------------------------------------------------------------- */

/* What a training run allocates, all of features + 1. */
struct work {
    double *gradient, *velocity, *weights;
    int64_t *sum, *noise;
};

/* Coins for patients: probability rate rounded to 2^-53, which the accountant's slack covers when rate is rounded down. */
static bool joins(struct privacy_random *random, uint64_t threshold)
{
    return (uint64_t)privacy_random_below(random, (unsigned __int128)1 << 53) < threshold;
}

static enum err batch_sum(const struct model_table *table, const struct model_sgd *sgd,
                          const struct model_grid *grid, struct privacy_random *random,
                          struct work *w)
{
    size_t count = table->features + 1;
    uint64_t threshold = (uint64_t)floor(ldexp(sgd->rate, 53));
    memset(w->sum, 0, count * sizeof *w->sum);
    for (size_t from = 0; from < table->rows;) {
        size_t to = from + 1;
        while (to < table->rows && table->unit[to] == table->unit[from]) {
            to++;
        }
        if (joins(random, threshold)) {
            memset(w->gradient, 0, count * sizeof *w->gradient);
            model_logistic_gradient(table, from, to, w->weights, w->gradient);
            model_clip(w->gradient, count, sgd->clip);
            model_grid_add(grid, w->gradient, count, w->sum);
        }
        from = to;
    }
    return random->err;
}

static enum err step(const struct model_table *table, const struct model_sgd *sgd,
                     const struct model_grid *grid, struct privacy_random *random, struct work *w)
{
    size_t count = table->features + 1;
    enum err err = batch_sum(table, sgd, grid, random, w);
    if (err == E_OK) {
        err = privacy_noise_gaussian(grid->sigma2, 1, w->noise, count);
    }
    if (err != E_OK) {
        return err;
    }
    for (size_t j = 0; j < count; j++) {
        /* |sum| < 2^32 patients * 2^28 and |noise| < 2^43, so this stays within 2^61. */
        double noisy = ldexp((double)(w->sum[j] + w->noise[j]), grid->log2) / sgd->expected_batch;
        w->velocity[j] = sgd->momentum * w->velocity[j] + noisy;
        w->weights[j] -= sgd->learning_rate * w->velocity[j];
    }
    return E_OK;
}

static bool settings_valid(const struct model_sgd *sgd)
{
    return sgd->rate > 0 && sgd->rate <= 1 && sgd->learning_rate > 0 && sgd->learning_rate <= 1e6 &&
           sgd->momentum >= 0 && sgd->momentum < 1 && sgd->expected_batch > 0 &&
           sgd->expected_batch <= 1e12 && sgd->steps <= MODEL_STEPS_MAX;
}

static enum err train(const struct model_table *table, const struct model_sgd *sgd,
                      const struct model_grid *grid, struct work *w, bool (*cancelled)(void *),
                      void *user, uint32_t *ret_steps)
{
    struct privacy_random random = {.left = 0};
    enum err err = E_OK;
    for (uint32_t i = 0; i < sgd->steps && err == E_OK; i++) {
        if (cancelled && cancelled(user)) {
            err = E_CANCELLED;
        } else {
            err = step(table, sgd, grid, &random, w);
            *ret_steps += err == E_OK;
        }
    }
    privacy_random_fini(&random);
    return err;
}

enum err model_logistic_train(const struct model_table *table, const struct model_sgd *sgd,
                              double *weights, bool (*cancelled)(void *), void *user,
                              uint32_t *ret_steps, struct err_info *reterr)
{
    size_t count = table->features + 1;
    struct model_grid grid;
    *ret_steps = 0;
    if (!model_table_valid(table) || !settings_valid(sgd)) {
        return proto_err_set(reterr, E_INVALID,
                             "the table or the settings of training are not valid");
    }
    enum err err = model_grid_plan(sgd->clip, sgd->sigma, count, &grid);
    if (err != E_OK) {
        return proto_err_set(reterr, err, "clip %g with noise multiplier %g cannot be trained",
                             sgd->clip, sgd->sigma);
    }
    double *block = proto_alloc(5 * count, sizeof *block);
    if (!block) {
        return proto_err_set(reterr, E_NO_MEMORY, "no memory for %zu weights", count);
    }
    struct work w = {.gradient = block,
                     .velocity = block + count,
                     .weights = block + 2 * count,
                     .sum = (int64_t *)(block + 3 * count),
                     .noise = (int64_t *)(block + 4 * count)};
    memcpy(w.weights, weights, count * sizeof *weights);
    err = train(table, sgd, &grid, &w, cancelled, user, ret_steps);
    if (err == E_OK) {
        memcpy(weights, w.weights, count * sizeof *weights);
    }
    crypto_wipe(block, 5 * count * sizeof *block);
    proto_free(block);
    return err == E_OK ? E_OK
                       : proto_err_set(reterr, err, "training stopped after %u steps", *ret_steps);
}
