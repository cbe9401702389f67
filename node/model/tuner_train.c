/* The two ways of training: without noise, and DP-SGD. */
#include "config.h"
#include "node/model/tuner.h"

#include <math.h>
#include <string.h>

#include "crypto/memory.h"
#include "node/model/encoder_internal.h"
#include "node/model/grid.h"
#include "node/model/tuner_internal.h"
#include "node/privacy/noise.h"

/* Rows of a pass of a private step: what is over is computed in further passes. */
#define PASS_ROWS 16384u

static uint32_t unit_of(const uint32_t *units, size_t i)
{
    return units ? units[i] : (uint32_t)i;
}

/* --- without noise ------------------------------------------------------------------------------------- */

/* The windows of the units that have a label, in the order of units. */
static enum err list_windows(const struct model_tuner *t, const struct model_corpus *corpus,
                             const uint32_t *units, size_t count, uint32_t **ret,
                             uint32_t *ret_count, uint64_t *ret_labelled)
{
    const struct model_corpus_view *v = model_corpus_view(corpus);
    uint32_t *list = proto_alloc((size_t)v->windows + 1, sizeof *list), n = 0;
    if (!list) {
        return E_NO_MEMORY;
    }
    *ret_labelled = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t unit = unit_of(units, i);
        for (uint32_t w = v->window_at[unit]; w < v->window_at[unit + 1]; w++) {
            bool per_window = t->tuning.task == MODEL_TASK_SEQUENCE;
            uint32_t labelled = 0;
            for (uint32_t r = v->row_at[w]; v->labels && !per_window && r < v->row_at[w + 1]; r++) {
                labelled += v->labels[r] >= 0;
            }
            labelled += per_window && v->labels[w] >= 0;
            *ret_labelled += labelled;
            if (labelled > 0 || !v->labels) {
                list[n++] = w;
            }
        }
    }
    *ret = list;
    *ret_count = n;
    return E_OK;
}

static bool units_valid(const struct model_corpus *corpus, const uint32_t *units, size_t count)
{
    for (size_t i = 0; units && i < count; i++) {
        if (units[i] >= model_corpus_units(corpus) || (i > 0 && units[i] <= units[i - 1])) {
            return false;
        }
    }
    return true;
}

static bool schedule_valid(const struct model_schedule *s)
{
    return s->peak > 0 && s->peak <= 1e3 && (s->total == 0 || s->warm_up <= s->total);
}

static bool local_valid(const struct model_local *l)
{
    return schedule_valid(&l->schedule) && l->epochs > 0 && l->epochs <= 10000 && l->batch > 0 &&
           l->batch <= MODEL_TUNER_BATCH_MAX && l->decay >= 0 && l->decay < 1 && l->clip >= 0 &&
           l->proximal >= 0 && l->proximal <= 1e3 && (!l->correction || l->plain);
}

static uint32_t steps_of(uint32_t windows, const struct model_local *l)
{
    uint64_t steps = (uint64_t)l->epochs * ((windows + l->batch - 1) / l->batch);
    steps = l->steps_max && steps > l->steps_max ? l->steps_max : steps;
    return steps > UINT32_MAX ? UINT32_MAX : (uint32_t)steps;
}

uint32_t model_tuner_steps(const struct model_corpus *corpus, const uint32_t *units, size_t count,
                           const struct model_local *local)
{
    /* Windows without any label are few; the exact number is known only when training begins. */
    const struct model_corpus_view *v = model_corpus_view(corpus);
    uint32_t windows = 0;
    count = units ? count : v->units;
    for (size_t i = 0; i < count; i++) {
        windows += v->window_at[unit_of(units, i) + 1] - v->window_at[unit_of(units, i)];
    }
    return local->batch ? steps_of(windows, local) : 0;
}

/* What a run of _train holds. */
struct course {
    struct model_tuner *t;
    const struct model_corpus_view *v;
    const struct model_local *local;
    struct model_packed packed;
    struct model_descent descent;
    uint32_t *windows, count;
    uint32_t steps, done;
    double loss; /* of the epoch */
    uint64_t labelled;
};

static void shuffle(uint32_t *list, uint32_t count, uint64_t seed)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = (uint32_t)(((model_mix(seed + i) >> 32) * i) >> 32);
        uint32_t kept = list[i - 1];
        list[i - 1] = list[j];
        list[j] = kept;
    }
}

static enum err local_step(struct course *c, uint32_t from, uint64_t seed, struct err_info *reterr)
{
    uint32_t to = c->count - from < c->local->batch ? c->count : from + c->local->batch;
    size_t rows = 0;
    for (uint32_t i = from; i < to; i++) {
        rows += c->v->row_at[c->windows[i] + 1] - c->v->row_at[c->windows[i]];
    }
    enum err err = model_packed_reserve(&c->packed, to - from, rows, 1);
    if (err) {
        return proto_err_set(reterr, err, "model: no memory for a batch");
    }
    model_packed_begin(&c->packed);
    for (uint32_t i = from; i < to; i++) {
        model_packed_window(&c->packed, c->t, c->v, c->windows[i], seed);
    }
    model_packed_end_group(&c->packed);
    c->packed.batch.dropout_seed = seed | 1;
    double loss = 0;
    uint64_t labelled = 0;
    err = model_team_gradient(c->t->team, &c->packed.batch, 0, c->descent.gradient, NULL, &loss,
                              &labelled, reterr);
    c->loss += loss;
    c->labelled += labelled;
    double rate = model_schedule_at(&c->local->schedule, c->done);
    err = err ? err : model_descent_step(&c->descent, c->t, rate, reterr);
    c->done += !err;
    return err;
}

static enum err epochs(struct course *c, model_tuner_tick *tick, void *user,
                       struct err_info *reterr)
{
    enum err err = E_OK;
    double loss = NAN;
    for (uint32_t epoch = 0; !err && epoch < c->local->epochs && c->done < c->steps; epoch++) {
        uint64_t seed = model_mix(c->local->seed + model_mix(c->local->schedule.first + epoch + 1));
        shuffle(c->windows, c->count, seed);
        c->loss = 0;
        c->labelled = 0;
        for (uint32_t at = 0; !err && at < c->count && c->done < c->steps; at += c->local->batch) {
            if (tick && !tick(user, c->done, c->steps, loss)) {
                err = proto_err_set(reterr, E_CANCELLED, "model: training was stopped");
                break;
            }
            err = local_step(c, at, model_mix(seed + at + 1), reterr);
            loss = c->labelled ? c->loss / (double)c->labelled : NAN;
        }
    }
    return err;
}

enum err model_tuner_train(struct model_tuner *tuner, const struct model_corpus *corpus,
                           const uint32_t *units, size_t count, const struct model_local *local,
                           model_tuner_tick *tick, void *user, struct model_trained *ret,
                           struct err_info *reterr)
{
    struct course c = {.t = tuner, .v = model_corpus_view(corpus), .local = local};
    uint64_t labelled = 0;
    if (!local_valid(local) || !units_valid(corpus, units, count)) {
        return proto_err_set(reterr, E_INVALID, "model: the settings of training are not valid");
    }
    c.descent = (struct model_descent){.plain = local->plain,
                                       .decay = local->decay,
                                       .clip = local->clip,
                                       .proximal = local->proximal,
                                       .correction = local->correction,
                                       .frozen = local->frozen};
    enum err err = list_windows(tuner, corpus, units, units ? count : c.v->units, &c.windows,
                                &c.count, &labelled);
    err = err ? err : model_descent_init(&c.descent, tuner);
    if (err) {
        proto_err_set(reterr, err, "model: no memory for training");
    } else {
        c.steps = steps_of(c.count, local);
        err = epochs(&c, tick, user, reterr);
    }
    err = model_descent_end(&c.descent, tuner, err, reterr);
    if (!err) {
        *ret = (struct model_trained){.steps = c.done,
                                      .labelled = labelled,
                                      .loss = c.labelled ? c.loss / (double)c.labelled : NAN};
    }
    model_packed_fini(&c.packed);
    proto_free(c.windows);
    return err;
}

/* --- DP-SGD -------------------------------------------------------------------------------------------- */

struct sampler {
    struct model_tuner *t;
    const struct model_corpus_view *v;
    const struct model_private *sgd;
    struct model_grid grid;
    struct model_packed packed;
    struct model_descent descent;
    struct privacy_random random;
    uint32_t *joined; /* units of a step */
    float *sum;
};

static bool private_valid(const struct model_private *p)
{
    return schedule_valid(&p->schedule) && p->rate > 0 && p->rate <= 1 && p->steps <= 1000000 &&
           p->expected_batch > 0 && p->expected_batch <= MODEL_GRID_UNITS_MAX / 2 &&
           p->momentum >= 0 && p->momentum < 1 && p->decay >= 0 && p->decay < 1 &&
           p->proximal >= 0 && p->proximal <= 1e3;
}

/* Coins for units: probability rate rounded down to 2^-53, which the accountant's slack covers. */
static size_t draw(struct sampler *s, const uint32_t *units, size_t count)
{
    uint64_t threshold = (uint64_t)floor(ldexp(s->sgd->rate, 53));
    size_t joined = 0;
    for (size_t i = 0; i < count; i++) {
        if ((uint64_t)privacy_random_below(&s->random, (unsigned __int128)1 << 53) < threshold) {
            s->joined[joined++] = unit_of(units, i);
        }
    }
    return joined;
}

/* Rows of a unit that fit one batch; the rest of a very long record is left out. */
static uint32_t windows_end(const struct model_corpus_view *v, uint32_t unit)
{
    uint32_t from = v->window_at[unit], to = from;
    while (to < v->window_at[unit + 1] && v->row_at[to + 1] - v->row_at[from] <= MODEL_ROWS_MAX) {
        to++;
    }
    return to;
}

/* Adds the clipped gradients of joined[from ..) to the sum, as many units as a pass takes; *RET_TO is the first that it left. */
static enum err clipped_pass(struct sampler *s, size_t from, size_t joined, uint64_t seed,
                             size_t *ret_to, struct err_info *reterr)
{
    size_t rows = 0, windows = 0, to = from;
    while (to < joined) {
        uint32_t first = s->v->window_at[s->joined[to]], end = windows_end(s->v, s->joined[to]);
        size_t more = s->v->row_at[end] - s->v->row_at[first];
        if (to > from && rows + more > PASS_ROWS) {
            break;
        }
        rows += more;
        windows += end - first;
        to++;
    }
    *ret_to = to;
    enum err err = model_packed_reserve(&s->packed, windows, rows, to - from);
    if (err) {
        return proto_err_set(reterr, err, "model: no memory for a batch");
    }
    model_packed_begin(&s->packed);
    for (size_t i = from; i < to; i++) {
        uint32_t end = windows_end(s->v, s->joined[i]);
        for (uint32_t w = s->v->window_at[s->joined[i]]; w < end; w++) {
            model_packed_window(&s->packed, s->t, s->v, w, seed);
        }
        model_packed_end_group(&s->packed);
    }
    if (model_packed_labelled(s->t, &s->packed.batch) == 0) {
        return E_OK;
    }
    double loss = 0, clip = s->sgd->clip * (1 - MODEL_GRID_SLACK);
    uint64_t labelled = 0;
    s->packed.batch.dropout_seed = model_mix(seed + from + 1) | 1;
    err = model_team_gradient(s->t->team, &s->packed.batch, clip, s->descent.gradient, NULL, &loss,
                              &labelled, reterr);
    for (size_t j = 0; !err && j < s->t->encoder->trained_count; j++) {
        s->sum[j] += s->descent.gradient[j];
    }
    return err;
}

static enum err private_step(struct sampler *s, uint32_t step, const uint32_t *units, size_t count,
                             struct err_info *reterr)
{
    size_t trained = s->t->encoder->trained_count;
    uint64_t seed = model_mix(s->sgd->seed + model_mix(s->sgd->schedule.first + step + 1));
    memset(s->sum, 0, trained * sizeof *s->sum);
    size_t joined = draw(s, units, count);
    enum err err = s->random.err;
    if (!err && joined > MODEL_GRID_UNITS_MAX) {
        /* Twice what is expected at most: this has a chance below 10^-60. */
        err = proto_err_set(reterr, E_LIMIT, "model: more units joined a step than can be added");
    }
    for (size_t at = 0; !err && at < joined;) {
        err = clipped_pass(s, at, joined, seed, &at, reterr);
    }
    err = err ? err
              : model_grid_release(&s->grid, s->sum, trained, s->t->threads, s->descent.gradient,
                                   reterr);
    for (size_t j = 0; !err && j < trained; j++) {
        s->descent.gradient[j] /= (float)s->sgd->expected_batch;
    }
    return err ? err
               : model_descent_step(&s->descent, s->t, model_schedule_at(&s->sgd->schedule, step),
                                    reterr);
}

static enum err private_steps(struct sampler *s, const uint32_t *units, size_t count,
                              model_tuner_tick *tick, void *user, uint32_t *ret_steps,
                              struct err_info *reterr)
{
    enum err err = E_OK;
    for (uint32_t i = 0; !err && i < s->sgd->steps; i++) {
        if (tick && !tick(user, i, s->sgd->steps, NAN)) {
            return proto_err_set(reterr, E_CANCELLED, "model: training was stopped");
        }
        err = private_step(s, i, units, count, reterr);
        *ret_steps += !err;
    }
    return err;
}

enum err model_tuner_train_private(struct model_tuner *tuner, const struct model_corpus *corpus,
                                   const uint32_t *units, size_t count,
                                   const struct model_private *sgd, model_tuner_tick *tick,
                                   void *user, uint32_t *ret_steps, struct err_info *reterr)
{
    struct sampler s = {.t = tuner, .v = model_corpus_view(corpus), .sgd = sgd};
    size_t trained = tuner->encoder->trained_count;
    *ret_steps = 0;
    if (!private_valid(sgd) || !units_valid(corpus, units, count)) {
        return proto_err_set(reterr, E_INVALID, "model: the settings of training are not valid");
    }
    enum err err = model_grid_plan_sum(sgd->clip, sgd->sigma, trained, &s.grid);
    if (err) {
        return proto_err_set(reterr, err, "clip %g with noise multiplier %g cannot be trained",
                             sgd->clip, sgd->sigma);
    }
    count = units ? count : s.v->units;
    if (sgd->rate * (double)count > MODEL_GRID_UNITS_MAX / 2) {
        return proto_err_set(
            reterr, E_LIMIT,
            "the declared size of the dataset is far below what it holds: more than %u "
            "patients would join a step; raise `size` in its manifest",
            MODEL_GRID_UNITS_MAX / 2);
    }
    s.descent = (struct model_descent){.plain = sgd->plain,
                                       .momentum = sgd->momentum,
                                       .decay = sgd->decay,
                                       .proximal = sgd->proximal,
                                       .frozen = sgd->frozen};
    s.joined = proto_alloc(count + 1, sizeof *s.joined);
    s.sum = proto_alloc(trained + 1, sizeof *s.sum);
    err = model_descent_init(&s.descent, tuner);
    err = err ? err : s.joined && s.sum ? E_OK : E_NO_MEMORY;
    if (err) {
        proto_err_set(reterr, err, "model: no memory for training");
    } else {
        err = private_steps(&s, units, count, tick, user, ret_steps, reterr);
    }
    if (s.descent.gradient) {
        crypto_wipe(s.descent.gradient, trained * sizeof *s.descent.gradient);
    }
    err = model_descent_end(&s.descent, tuner, err, reterr);
    if (s.sum) {
        crypto_wipe(s.sum, trained * sizeof *s.sum);
    }
    model_packed_fini(&s.packed);
    privacy_random_fini(&s.random);
    proto_free(s.joined);
    proto_free(s.sum);
    return err;
}
