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
    if (terms->size == 0 || terms->batch == 0 || terms->rounds == 0 || terms->epochs == 0) {
        return proto_err_set(reterr, E_INVALID,
                             "size, batch, rounds and epochs must be at least 1");
    }
    /* A site smaller than the batch takes everybody into each step: no subsampling, and accounted as such. */
    cost.rate = terms->batch >= terms->size ? 1.0 : (double)terms->batch / (double)terms->size;
    double steps =
        fmax(1, ceil((double)terms->epochs * (double)terms->size / (double)terms->batch));
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
    for (uint64_t bins = TRAIN_BINS_MAX; bins >= 8; bins /= 2) {
        /* AUC = sum over bins of h1 C0 / (n1 n0): its noise is that of each bin times a cumulative share, which is uniform. */
        if (sqrt(2 * (double)bins / 3) * bin / side <= AUC_SD_MOST) {
            return bins;
        }
    }
    return 0;
}

enum err train_sums_plan(uint64_t nano, uint32_t max_rows_per_unit,
                         struct privacy_coordinate ret[TRAIN_SUMS])
{
    ret[TRAIN_SUM_COUNT] =
        (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 1, .integer = true};
    ret[TRAIN_SUM_LOSS] =
        (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = TRAIN_LOSS_CLIP / 2};
    ret[TRAIN_SUM_CORRECT] = (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 0.5};
    return privacy_mechanism_plan(nano, max_rows_per_unit, ret, TRAIN_SUMS, NULL);
}

enum err train_histogram_plan(uint64_t nano, uint32_t max_rows_per_unit,
                              struct privacy_coordinate *ret)
{
    *ret = (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 1, .integer = true};
    return privacy_mechanism_plan(nano, max_rows_per_unit, ret, 1, NULL);
}

static enum err find_column(const struct proto_schema *schema, const char *name, int *ret,
                            struct err_info *reterr)
{
    *ret = proto_schema_find(schema, name);
    if (*ret >= 0) {
        return E_OK;
    }
    const char *near = proto_schema_suggest(schema, name);
    return proto_err_set(reterr, E_SCHEMA, "the dataset has no column %s%s%s", name,
                         near ? "; did you mean " : "", near ? near : "");
}

static enum err plan_feature(const struct proto_schema *schema, const char *name,
                             struct train_column *to, struct err_info *reterr)
{
    enum err err = find_column(schema, name, &to->column, reterr);
    if (err) {
        return err;
    }
    const struct proto_column *column = &schema->columns[to->column];
    to->width = 1;
    if (strcmp(name, schema->unit) == 0) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "%s is the privacy unit and cannot be a feature", name);
    }
    switch (column->type) {
    case PROTO_COLUMN_BOOLEAN:
        to->kind = TRAIN_KIND_BOOLEAN;
        return E_OK;
    case PROTO_COLUMN_INTEGER:
    case PROTO_COLUMN_REAL:
        to->kind = TRAIN_KIND_NUMBER;
        to->low = column->min;
        to->high = column->max;
        if (!column->has_bounds || !(column->max > column->min)) {
            return proto_err_set(reterr, E_UNSUPPORTED, "column %s has no bounds to scale it by",
                                 name);
        }
        return E_OK;
    case PROTO_COLUMN_CATEGORY:
        to->kind = TRAIN_KIND_CATEGORY;
        to->width = column->value_count - 1;
        if (column->values_private || column->value_count < 2) {
            return proto_err_set(reterr, E_UNSUPPORTED,
                                 "column %s has no public list of at least two values", name);
        }
        return E_OK;
    default:
        return proto_err_set(reterr, E_UNSUPPORTED, "column %s of type %s cannot be a feature",
                             name, proto_column_type_name(column->type));
    }
}

static enum err plan_target(const struct proto_schema *schema, const char *name,
                            struct train_encoding *ret, struct err_info *reterr)
{
    enum err err = find_column(schema, name, &ret->target, reterr);
    if (err) {
        return err;
    }
    const struct proto_column *column = &schema->columns[ret->target];
    bool two = column->type == PROTO_COLUMN_CATEGORY && !column->values_private &&
               column->value_count == 2;
    bool bit = column->type == PROTO_COLUMN_INTEGER && column->has_bounds && column->min == 0 &&
               column->max == 1;
    return column->type == PROTO_COLUMN_BOOLEAN || two || bit
               ? E_OK
               : proto_err_set(reterr, E_UNSUPPORTED,
                               "target %s must be a boolean, a public category of two values or an "
                               "integer from 0 to 1",
                               name);
}

enum err train_encoding_plan(const struct proto_schema *schema, const char *const *features,
                             size_t feature_count, const char *target, struct train_encoding *ret,
                             struct err_info *reterr)
{
    if (feature_count == 0 || feature_count > TRAIN_FEATURES_MAX) {
        return proto_err_set(reterr, E_LIMIT, "1 to %d features", TRAIN_FEATURES_MAX);
    }
    memset(ret, 0, sizeof *ret);
    enum err err = plan_target(schema, target, ret, reterr);
    for (size_t i = 0; !err && i < feature_count; i++) {
        struct train_column *column = &ret->columns[i];
        err = plan_feature(schema, features[i], column, reterr);
        if (!err && column->column == ret->target) {
            err = proto_err_set(reterr, E_UNSUPPORTED, "the target cannot be a feature");
        }
        column->at = ret->width;
        ret->width += column->width;
    }
    ret->count = feature_count;
    if (!err && ret->width > MODEL_FEATURES_MAX) {
        err = proto_err_set(reterr, E_LIMIT, "the features become %zu values, more than %u",
                            ret->width, MODEL_FEATURES_MAX);
    }
    return err;
}

void train_encoding_put(const struct train_column *column, double value, bool missing, float *to)
{
    float *at = to + column->at;
    switch (column->kind) {
    case TRAIN_KIND_NUMBER:
        at[0] = missing || isnan(value) ? 0 : model_standardise(value, column->low, column->high);
        return;
    case TRAIN_KIND_BOOLEAN:
        at[0] = missing ? 0.5F : (value != 0 ? 1.0F : 0.0F);
        return;
    case TRAIN_KIND_CATEGORY:
        for (size_t i = 0; i < column->width; i++) {
            at[i] = missing ? 1.0F / (float)(column->width + 1)
                            : (value == (double)(i + 1) ? 1.0F : 0.0F);
        }
        return;
    }
}
