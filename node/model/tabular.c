#include "node/model/tabular.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/memory.h"
#include "node/privacy/noise.h"
#include "proto/alloc.h"

#define HAZARD_MAX                                                                                 \
    30.0 /* |log hazard|, so that exp stays a number whatever noise makes of weights */

static bool is_mlp(const struct model_tabular *m)
{
    return m->kind == MODEL_TABULAR_MLP_LOGISTIC || m->kind == MODEL_TABULAR_MLP_LINEAR;
}

static bool is_linear(const struct model_tabular *m)
{
    return m->kind == MODEL_TABULAR_LINEAR || m->kind == MODEL_TABULAR_MLP_LINEAR;
}

bool model_tabular_valid(const struct model_tabular *m)
{
    bool shaped = m->features > 0 && m->features <= MODEL_FEATURES_MAX;
    if (is_mlp(m)) {
        shaped = shaped && m->hidden > 0 && m->hidden <= MODEL_HIDDEN_UNITS_MAX;
    }
    if (m->kind == MODEL_TABULAR_COX) {
        shaped = shaped && m->bins > 0 && m->bins <= MODEL_BINS_MAX;
    }
    return shaped && m->kind <= MODEL_TABULAR_COX;
}

size_t model_tabular_count(const struct model_tabular *m)
{
    return is_mlp(m)                      ? m->hidden * (m->features + 1) + m->hidden + 1
           : m->kind == MODEL_TABULAR_COX ? m->features + m->bins
                                          : m->features + 1;
}

/* SplitMix64, for public starting values alone. */
static double uniform(uint64_t seed, uint64_t counter)
{
    uint64_t x = seed + (counter + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return ((double)((x ^ x >> 31) >> 11) + 0.5) * 0x1p-52 - 1;
}

void model_tabular_start(const struct model_tabular *m, uint64_t seed, double *weights)
{
    size_t row = m->features + 1;
    memset(weights, 0, model_tabular_count(m) * sizeof *weights);
    for (size_t i = 0; is_mlp(m) && i < m->hidden; i++) {
        for (size_t j = 0; j < m->features; j++) {
            weights[i * row + j] = uniform(seed, i * row + j) / sqrt((double)m->features);
        }
        weights[m->hidden * row + i] = uniform(seed, m->hidden * row + i) / sqrt((double)m->hidden);
    }
}

bool model_tabular_table_valid(const struct model_tabular *m, const struct model_table *t)
{
    if (!model_tabular_valid(m) || t->features != m->features || !model_table_valid(t)) {
        return false;
    }
    for (size_t i = 0; i < t->rows; i++) {
        if ((is_linear(m) && !(t->target && t->target[i] >= -1 && t->target[i] <= 1)) ||
            (m->kind == MODEL_TABULAR_COX && !(t->time && t->time[i] > 0 && t->time[i] <= 1))) {
            return false;
        }
    }
    return true;
}

/* --- rows ---------------------------------------------------------------------------------------------- */

static double product(const double *w, const float *x, size_t n)
{
    double sum = 0;
    for (size_t j = 0; j < n; j++) {
        sum += w[j] * (double)x[j];
    }
    return sum;
}

/* Values of the hidden units into UNITS, and the score. */
static double mlp_forward(const struct model_tabular *m, const double *w, const float *x,
                          double *units)
{
    size_t row = m->features + 1;
    const double *v = w + m->hidden * row;
    double score = v[m->hidden];
    for (size_t i = 0; i < m->hidden; i++) {
        units[i] = tanh(product(w + i * row, x, m->features) + w[i * row + m->features]);
        score += v[i] * units[i];
    }
    return score;
}

double model_tabular_score(const struct model_tabular *m, const double *weights, const float *x)
{
    double units[MODEL_HIDDEN_UNITS_MAX];
    if (is_mlp(m)) {
        return mlp_forward(m, weights, x, units);
    }
    double score = product(weights, x, m->features);
    return m->kind == MODEL_TABULAR_COX ? score : score + weights[m->features];
}

double model_tabular_answer(const struct model_tabular *m, const double *weights, const float *x)
{
    double score = model_tabular_score(m, weights, x);
    return is_linear(m)                   ? score
           : m->kind == MODEL_TABULAR_COX ? exp(fmin(fmax(score, -HAZARD_MAX), HAZARD_MAX))
                                          : 1 / (1 + exp(-score));
}

/* Of a row whose score is known: loss, and its derivative by the score. */
static double score_loss(const struct model_tabular *m, const struct model_table *t, size_t row,
                         double score, double *ret_slope)
{
    if (is_linear(m)) {
        double off = score - (double)t->target[row];
        *ret_slope = off;
        return off * off / 2;
    }
    *ret_slope = 1 / (1 + exp(-score)) - t->y[row];
    return model_logistic_loss(score, t->y[row]);
}

/* gradient += slope d(score)/d(weights). */
static void add_score_gradient(const struct model_tabular *m, const double *w, const float *x,
                               const double *units, double slope, double *gradient)
{
    if (!is_mlp(m)) {
        for (size_t j = 0; j < m->features; j++) {
            gradient[j] += slope * (double)x[j];
        }
        gradient[m->features] += slope;
        return;
    }
    size_t row = m->features + 1;
    const double *v = w + m->hidden * row;
    double *dv = gradient + m->hidden * row;
    for (size_t i = 0; i < m->hidden; i++) {
        double inner = slope * v[i] * (1 - units[i] * units[i]);
        for (size_t j = 0; j < m->features; j++) {
            gradient[i * row + j] += inner * (double)x[j];
        }
        gradient[i * row + m->features] += inner;
        dv[i] += slope * units[i];
    }
    dv[m->hidden] += slope;
}

/* The piecewise exponential model: time at risk in each bin, and the event in the last. */
static double cox_row(const struct model_tabular *m, const struct model_table *t, size_t row,
                      const double *w, double *gradient)
{
    const float *x = t->x + row * t->features;
    const double *a = w + m->features;
    double score = product(w, x, m->features), time = (double)t->time[row] * (double)m->bins;
    double loss = 0, slope = 0;
    for (size_t b = 0; b < m->bins && time > (double)b; b++) {
        bool last = time <= (double)(b + 1);
        /* In parts of the horizon; a bin's length is 1 / bins. */
        double risk = (last ? time - (double)b : 1) / (double)m->bins;
        double hazard = fmin(fmax(a[b] + score, -HAZARD_MAX), HAZARD_MAX);
        double expected = risk * exp(hazard), seen = last && t->y[row] ? 1 : 0;
        loss += expected - seen * hazard;
        slope += expected - seen;
        if (gradient) {
            gradient[m->features + b] += expected - seen;
        }
    }
    for (size_t j = 0; gradient && j < m->features; j++) {
        gradient[j] += slope * (double)x[j];
    }
    return loss;
}

double model_tabular_row(const struct model_tabular *m, const struct model_table *t, size_t row,
                         const double *weights, double *gradient)
{
    const float *x = t->x + row * t->features;
    double units[MODEL_HIDDEN_UNITS_MAX], slope = 0;
    if (m->kind == MODEL_TABULAR_COX) {
        return cox_row(m, t, row, weights, gradient);
    }
    double score =
        is_mlp(m) ? mlp_forward(m, weights, x, units) : model_tabular_score(m, weights, x);
    double loss = score_loss(m, t, row, score, &slope);
    if (gradient) {
        add_score_gradient(m, weights, x, units, slope, gradient);
    }
    return loss;
}

/* --- Breslow ------------------------------------------------------------------------------------------- */

struct subject {
    double time, score, hazard;
    size_t row;
};

static int latest_first(const void *left, const void *right)
{
    const struct subject *a = left, *b = right;
    return a->time > b->time ? -1 : a->time < b->time;
}

/* Over pairs in which the earlier has the event: the share in which his score is the greater, ties in score half. */
static double concordance(const struct subject *s, const struct model_table *t)
{
    double pairs = 0, right = 0;
    for (size_t i = 0; i < t->rows; i++) {
        for (size_t j = 0; t->y[s[i].row] && j < i && s[j].time > s[i].time; j++) {
            pairs++;
            right += s[i].score > s[j].score ? 1 : s[i].score < s[j].score ? 0 : 0.5;
        }
    }
    return pairs > 0 ? right / pairs : NAN;
}

enum err model_cox_breslow(const struct model_table *t, const double *weights, double *ret_loss,
                           double *gradient, double *ret_concordance)
{
    struct subject *s = proto_alloc(t->rows + 1, sizeof *s);
    double *mean = proto_alloc(t->features + 1, sizeof *mean), total = 0;
    if (!s || !mean) {
        proto_free(s);
        proto_free(mean);
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < t->rows; i++) {
        double score = product(weights, t->x + i * t->features, t->features);
        s[i] = (struct subject){(double)t->time[i], score, exp(score), i};
    }
    qsort(s, t->rows, sizeof *s, latest_first);
    *ret_loss = 0;
    /* From the latest on: all of one time enter the risk set before its events are counted. */
    for (size_t i = 0, end; i < t->rows; i = end) {
        for (end = i; end < t->rows && !(s[end].time < s[i].time); end++) {
            const float *x = t->x + s[end].row * t->features;
            total += s[end].hazard;
            for (size_t j = 0; j < t->features; j++) {
                mean[j] += s[end].hazard * (double)x[j];
            }
        }
        for (size_t k = i; k < end; k++) {
            const float *x = t->x + s[k].row * t->features;
            if (!t->y[s[k].row]) {
                continue;
            }
            *ret_loss += log(total) - s[k].score;
            for (size_t j = 0; gradient && j < t->features; j++) {
                gradient[j] += mean[j] / total - (double)x[j];
            }
        }
    }
    if (ret_concordance) {
        *ret_concordance = concordance(s, t);
    }
    proto_free(s);
    proto_free(mean);
    return E_OK;
}

/* --- training ------------------------------------------------------------------------------------------ */

/* What a training run allocates, all of model_tabular_count. */
struct work {
    const struct model_tabular *m;
    size_t count;
    double *gradient, *velocity, *weights;
    const double *start; /* before the first step */
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
    uint64_t threshold = (uint64_t)floor(ldexp(sgd->rate, 53));
    memset(w->sum, 0, w->count * sizeof *w->sum);
    for (size_t from = 0; from < table->rows;) {
        size_t to = from + 1;
        while (to < table->rows && table->unit[to] == table->unit[from]) {
            to++;
        }
        if (joins(random, threshold)) {
            memset(w->gradient, 0, w->count * sizeof *w->gradient);
            for (size_t row = from; row < to; row++) {
                (void)model_tabular_row(w->m, table, row, w->weights, w->gradient);
            }
            model_clip(w->gradient, w->count, sgd->clip);
            model_grid_add(grid, w->gradient, w->count, w->sum);
        }
        from = to;
    }
    return random->err;
}

static enum err step(const struct model_table *table, const struct model_sgd *sgd,
                     const struct model_grid *grid, struct privacy_random *random, struct work *w)
{
    enum err err = batch_sum(table, sgd, grid, random, w);
    if (err == E_OK) {
        err = privacy_noise_gaussian(grid->sigma2, 1, w->noise, w->count);
    }
    if (err != E_OK) {
        return err;
    }
    for (size_t j = 0; j < w->count; j++) {
        /* |sum| < 2^32 patients * 2^28 and |noise| < 2^43, so this stays within 2^61. */
        double noisy = ldexp((double)(w->sum[j] + w->noise[j]), grid->log2) / sgd->expected_batch;
        noisy += sgd->proximal * (w->weights[j] - w->start[j]);
        noisy += sgd->correction ? sgd->correction[j] : 0;
        w->velocity[j] = sgd->momentum * w->velocity[j] + noisy;
        w->weights[j] -= sgd->learning_rate * w->velocity[j];
    }
    return E_OK;
}

static bool settings_valid(const struct model_sgd *sgd)
{
    return sgd->rate > 0 && sgd->rate <= 1 && sgd->learning_rate > 0 && sgd->learning_rate <= 1e6 &&
           sgd->momentum >= 0 && sgd->momentum < 1 && sgd->expected_batch > 0 &&
           sgd->proximal >= 0 && sgd->proximal <= 1e6 && sgd->expected_batch <= 1e12 &&
           sgd->steps <= MODEL_STEPS_MAX;
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

enum err model_tabular_train(const struct model_tabular *m, const struct model_table *table,
                             const struct model_sgd *sgd, double *weights,
                             bool (*cancelled)(void *), void *user, uint32_t *ret_steps,
                             struct err_info *reterr)
{
    struct model_grid grid;
    *ret_steps = 0;
    if (!model_tabular_table_valid(m, table) || !settings_valid(sgd)) {
        return proto_err_set(reterr, E_INVALID,
                             "the table or the settings of training are not valid");
    }
    size_t count = model_tabular_count(m);
    enum err err = model_grid_plan(sgd->clip, sgd->sigma, count, &grid);
    if (err != E_OK) {
        return proto_err_set(reterr, err, "clip %g with noise multiplier %g cannot be trained",
                             sgd->clip, sgd->sigma);
    }
    double *block = proto_alloc(5 * count, sizeof *block);
    if (!block) {
        return proto_err_set(reterr, E_NO_MEMORY, "no memory for %zu weights", count);
    }
    struct work w = {.m = m,
                     .count = count,
                     .gradient = block,
                     .velocity = block + count,
                     .weights = block + 2 * count,
                     .start = weights,
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
