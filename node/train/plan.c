#include "config.h"
#include "node/train/plan.h"

#include "node/model/logistic.h"
#include "proto/privacy.h"

#include <math.h>

#define STEPS_MAX   UINT64_C(10000000)
#define AUC_SD_MOST 0.06

struct train_terms train_plan_terms(const struct train_plan *plan, uint64_t size)
{
    return (struct train_terms){
        .noise = plan->noise,
        .whole = plan->trainer.len > 0,
        .size = size,
        .batch = plan->batch,
        .rounds = plan->rounds,
        .epochs = plan->epochs,
        .eval_every = plan->eval_every,
        .bins = plan->bins,
        .eval_share = plan->eval_share,
        .epsilon = plan->epsilon,
        .delta = (double)plan->delta_e12 / 1e12,
    };
}

bool train_plan_evaluates(uint64_t rounds, uint64_t eval_every, uint64_t round)
{
    return eval_every > 0 && round > 0 && (round % eval_every == 0 || round == rounds);
}

/* Splits the zCDP of the evaluation's share; rounding down leaves a little unused. */
static enum err split_evaluation(const struct train_terms *terms, struct train_cost *cost,
                                 struct err_info *reterr)
{
    cost->evaluations = 0;
    cost->sums_nano = 0;
    cost->hist_nano = 0;
    if (terms->eval_every == 0) {
        return E_OK;
    }
    if (!(terms->eval_share > 0 && terms->eval_share < 1)) {
        return proto_err_set(reterr, E_INVALID, "evaluate.share must lie between 0 and 1");
    }
    uint64_t nano = proto_privacy_rho_floor_nano(terms->epsilon * terms->eval_share, terms->delta);
    cost->evaluations = (terms->rounds + terms->eval_every - 1) / terms->eval_every;
    cost->hist_nano = terms->bins ? nano / 2 : 0;
    cost->sums_nano = (nano - cost->hist_nano) / cost->evaluations;
    if (cost->sums_nano == 0 || (terms->bins && cost->hist_nano == 0)) {
        return proto_err_set(reterr, E_LIMIT,
                             "evaluate.share of epsilon is too small for %llu evaluations",
                             (unsigned long long)cost->evaluations);
    }
    return E_OK;
}

static double evaluation_rho(const struct train_cost *cost, uint64_t evaluations, bool histogram)
{
    return ((double)cost->sums_nano * (double)evaluations +
            (histogram ? (double)cost->hist_nano : 0)) /
           1e9;
}

enum err train_cost_plan(const struct train_terms *terms, double order, struct train_cost *ret,
                         struct err_info *reterr)
{
    struct train_cost cost = {.rounds = terms->rounds};
    if (!terms->noise && terms->rounds) {
        cost.rate = 1;
        cost.steps = 1;
        cost.evaluations =
            terms->eval_every ? (terms->rounds + terms->eval_every - 1) / terms->eval_every : 0;
        *ret = cost;
        return E_OK;
    }
    if (terms->size == 0 || terms->batch == 0 || terms->rounds == 0 || terms->epochs == 0) {
        return proto_err_set(reterr, E_INVALID,
                             "size, batch, rounds and epochs must be at least 1");
    }
    /* A site smaller than the batch takes everybody into each step: no subsampling, and accounted as such. */
    cost.rate = terms->whole || terms->batch >= terms->size
                    ? 1.0
                    : (double)terms->batch / (double)terms->size;
    double steps =
        fmax(1, ceil((double)terms->epochs * (double)terms->size / (double)terms->batch));
    steps = terms->whole ? 1 : steps;
    if (steps > MODEL_STEPS_MAX || steps * (double)terms->rounds > (double)STEPS_MAX) {
        return proto_err_set(reterr, E_LIMIT, "more than %llu steps: raise batch or lower epochs",
                             (unsigned long long)STEPS_MAX);
    }
    cost.steps = (uint64_t)steps;
    enum err err = split_evaluation(terms, &cost, reterr);
    if (!err) {
        double extra = evaluation_rho(&cost, cost.evaluations, cost.hist_nano > 0);
        err = proto_privacy_sgd_calibrate(terms->epsilon, terms->delta, cost.rate,
                                          cost.steps * cost.rounds, extra, &cost.sigma);
        if (err) {
            return proto_err_set(
                reterr, err, "no noise gives epsilon %g at delta %g over %llu steps",
                terms->epsilon, terms->delta, (unsigned long long)(cost.steps * cost.rounds));
        }
    }
    if (!err) {
        cost.step_nano = proto_privacy_sgd_step_nano(cost.rate, cost.sigma, order);
        *ret = cost;
    }
    return err;
}

static bool add_product(uint64_t a, uint64_t b, uint64_t *sum)
{
    uint64_t product;
    return !__builtin_mul_overflow(a, b, &product) && !__builtin_add_overflow(*sum, product, sum);
}

uint64_t train_cost_total(const struct train_cost *cost)
{
    uint64_t sum = 0;
    bool fits = add_product(cost->steps * cost->rounds, cost->step_nano, &sum) &&
                add_product(cost->evaluations, cost->sums_nano, &sum) &&
                add_product(1, cost->hist_nano, &sum);
    return fits ? sum : UINT64_MAX;
}

double train_cost_epsilon(const struct train_cost *cost, uint64_t steps, uint64_t evaluations,
                          bool histogram, double delta)
{
    double extra = evaluation_rho(cost, evaluations, histogram);
    if (cost->sigma == 0) {
        return NAN; /* nobody is protected */
    }
    if (steps == 0) {
        return extra > 0 ? proto_privacy_epsilon(extra, delta) : 0;
    }
    return proto_privacy_sgd_epsilon(cost->rate, cost->sigma, steps, extra, delta);
}

uint64_t train_bins_choose(double epsilon, double delta, double eval_share, double eval_split,
                           double units, size_t sites, uint32_t m)
{
    double rho = proto_privacy_rho(epsilon * eval_share, delta) / 2;
    double side = eval_split * units / 2; /* balanced classes: nothing else is known before */
    if (!(rho > 0 && side > 0)) {
        return 0;
    }
    double bin = (double)m * sqrt((double)sites / (2 * rho));
    for (uint64_t bins = 64; bins >= 8; bins /= 2) {
        /* AUC = sum over bins of h1 C0 / (n1 n0): its noise is that of each bin times a cumulative share, which is uniform. */
        if (sqrt(2 * (double)bins / 3) * bin / side <= AUC_SD_MOST) {
            return bins;
        }
    }
    return 0;
}

uint64_t train_bins_choose_survival(double epsilon, double delta, double eval_share,
                                    double eval_split, double units, size_t sites, uint32_t m)
{
    double rho = proto_privacy_rho(epsilon * eval_share, delta) / 2;
    double rows = eval_split * units;
    if (!(rho > 0 && rows > 0)) {
        return 0;
    }
    double cell = (double)m * sqrt((double)sites / (2 * rho));
    for (uint64_t bins = TRAIN_BINS_MAX; bins >= 64; bins /= 2) {
        /* Pairs are about rows^2 / 8; a cell's coefficient is of the size of 0.3 of the rows that it is paired with. */
        if (sqrt((double)bins) * cell * 0.3 * rows / (rows * rows / 8) <= AUC_SD_MOST) {
            return bins;
        }
    }
    return 0;
}

bool train_concordance_shape(uint64_t bins, uint64_t *ret_times, uint64_t *ret_scores)
{
    *ret_times = bins >= 256 ? 16 : 8;
    *ret_scores = bins / *ret_times;
    return bins == 64 || bins == 128 || bins == 256 || bins == TRAIN_BINS_MAX;
}

struct model_tabular train_plan_tabular(const struct train_plan *plan, size_t width)
{
    bool number = plan->task == PROTO_TASK_TABULAR_REGRESSION;
    bool network = plan->hidden > 0;
    return (struct model_tabular){
        .kind = plan->task == PROTO_TASK_TABULAR_SURVIVAL ? MODEL_TABULAR_COX
                : number ? (network ? MODEL_TABULAR_MLP_LINEAR : MODEL_TABULAR_LINEAR)
                         : (network ? MODEL_TABULAR_MLP_LOGISTIC : MODEL_TABULAR_LOGISTIC),
        .features = width,
        .hidden = plan->hidden,
        .bins = plan->intervals,
    };
}

static bool known_type(const struct span *types, uint32_t count, struct span type)
{
    for (uint32_t i = 0; i < count; i++) {
        if (span_equal(types[i], type)) {
            return true;
        }
    }
    return false;
}

uint32_t train_plan_types(const struct train_plan *plan, struct span *to)
{
    const struct proto_text *labels = plan->labels.items;
    bool tags = plan->task == PROTO_TASK_TOKEN_CLASSIFICATION;
    struct span types[TRAIN_TYPES_MAX];
    uint32_t count = 0;
    for (size_t i = 0; i < plan->labels.count && count < TRAIN_TYPES_MAX; i++) {
        struct span type = labels[i].text;
        if (tags && (type.len < 3 || type.ptr[1] != '-')) {
            continue; /* O */
        }
        type = tags ? span_of(type.ptr + 2, type.len - 2) : type;
        if (!known_type(types, count, type)) {
            types[count++] = type;
        }
    }
    if (to) {
        memcpy(to, types, count * sizeof *types);
    }
    return count;
}

struct train_sums train_sums_of(const struct train_plan *plan, uint32_t max_rows_per_unit)
{
    bool tabular = proto_task_tabular((enum proto_task)plan->task);
    uint32_t types = train_plan_types(plan, NULL);
    double entities = (double)plan->entities;
    if (plan->task != PROTO_TASK_TOKEN_CLASSIFICATION && max_rows_per_unit < plan->entities) {
        entities = max_rows_per_unit; /* a text has one class */
    }
    bool regression = plan->task == PROTO_TASK_TABULAR_REGRESSION;
    bool survival = plan->task == PROTO_TASK_TABULAR_SURVIVAL;
    bool correct = plan->task != PROTO_TASK_TOKEN_CLASSIFICATION && !regression && !survival;
    size_t types_at = regression ? TRAIN_SUM_SQUARE + 1 : TRAIN_SUM_CORRECT + (size_t)correct;
    return (struct train_sums){
        .count = types_at + 3 * (size_t)types,
        .loss_low = survival ? TRAIN_LOSS_LOW_COX : 0,
        .loss_clip = plan->task == PROTO_TASK_MASKED_LM ? TRAIN_LOSS_CLIP_LM
                     : regression                       ? TRAIN_LOSS_CLIP_LINEAR
                     : survival                         ? TRAIN_LOSS_CLIP_COX
                                                        : TRAIN_LOSS_CLIP,
        .correct = correct,
        .moments = regression,
        .types_at = types_at,
        .types = types,
        .entities = entities,
        .rows = tabular ? max_rows_per_unit : 1,
    };
}

enum err train_sums_plan(uint64_t nano, const struct train_sums *sums,
                         struct privacy_coordinate ret[TRAIN_SUMS_MAX])
{
    ret[TRAIN_SUM_COUNT] =
        (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 1, .integer = true};
    ret[TRAIN_SUM_LOSS] =
        (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = sums->loss_clip / 2};
    if (sums->correct) {
        ret[TRAIN_SUM_CORRECT] = (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 0.5};
    }
    if (sums->moments) {
        ret[TRAIN_SUM_TARGET] = (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 1};
        ret[TRAIN_SUM_SQUARE] = (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 0.5};
    }
    for (size_t i = sums->types_at; i < sums->count; i++) {
        ret[i] = (struct privacy_coordinate){
            .kind = PRIVACY_ROWS, .bound = sums->entities, .integer = true};
    }
    return privacy_mechanism_plan(nano, sums->rows, ret, sums->count, NULL);
}

enum err train_histogram_plan(uint64_t nano, uint32_t max_rows_per_unit,
                              struct privacy_coordinate *ret)
{
    *ret = (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 1, .integer = true};
    return privacy_mechanism_plan(nano, max_rows_per_unit, ret, 1, NULL);
}
