/* The arithmetic of plans: steps, costs, noise within epsilon, what columns become, and figures read from noisy sums. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "crypto/provider.h"
#include "node/train/encoding.h"
#include "node/train/evaluate.h"
#include "node/train/service.h"
#include "proto/privacy.h"

static struct train_terms usual(void)
{
    return (struct train_terms){.noise = true,
                                .size = 2500,
                                .batch = 256,
                                .rounds = 10,
                                .epochs = 1,
                                .eval_every = 1,
                                .bins = 0,
                                .eval_share = 0.1,
                                .epsilon = 4,
                                .delta = 1e-6};
}

static void steps_follow_the_declared_size(void **state)
{
    struct train_cost cost;
    struct train_terms terms = usual();
    (void)state;
    assert_int_equal(train_cost_plan(&terms, 4.4, &cost, NULL), E_OK);
    assert_int_equal(cost.steps, 10);
    assert_true(fabs(cost.rate - 256.0 / 2500) < 1e-15);
    assert_int_equal(cost.evaluations, 10);
    terms.size = 100; /* smaller than the batch: everybody joins each step */
    assert_int_equal(train_cost_plan(&terms, 4.4, &cost, NULL), E_OK);
    assert_int_equal(cost.steps, 1);
    assert_true(cost.rate == 1);
    terms.size = 0;
    assert_int_equal(train_cost_plan(&terms, 4.4, &cost, NULL), E_INVALID);
    terms = usual();
    terms.batch = 1;
    terms.epochs = 1000;
    terms.size = 100000000;
    assert_int_equal(train_cost_plan(&terms, 4.4, &cost, NULL), E_LIMIT);
}

static void evaluations_are_those_that_the_rounds_ask_for(void **state)
{
    (void)state;
    for (uint64_t rounds = 1; rounds < 30; rounds++) {
        for (uint64_t every = 1; every < 12; every++) {
            struct train_terms terms = usual();
            struct train_cost cost;
            uint64_t count = 0;
            for (uint64_t round = 0; round <= rounds; round++) {
                count += train_plan_evaluates(rounds, every, round);
            }
            terms.rounds = rounds;
            terms.eval_every = every;
            if (rounds == 15 && every % 5 == 1) { /* calibration is the slow part */
                assert_int_equal(train_cost_plan(&terms, 4.4, &cost, NULL), E_OK);
                assert_int_equal(cost.evaluations, count);
            }
            assert_int_equal((rounds + every - 1) / every, count);
            assert_true(train_plan_evaluates(rounds, every, rounds));
        }
    }
    assert_false(train_plan_evaluates(5, 0, 5));
    assert_false(train_plan_evaluates(5, 1, 0));
}

/* Whatever the plan, all steps and evaluations together stay within epsilon, and most of it is used. */
static void noise_keeps_within_epsilon(void **state)
{
    static const uint64_t sizes[] = {50, 300, 2500, 100000};
    static const double epsilons[] = {0.5, 4, 10};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        for (size_t j = 0; j < 3; j++) {
            struct train_terms terms = usual();
            struct train_cost cost;
            terms.size = sizes[i];
            terms.epsilon = epsilons[j];
            terms.bins = i % 2 ? 64 : 0;
            assert_int_equal(train_cost_plan(&terms, 4.4, &cost, NULL), E_OK);
            double whole = train_cost_epsilon(&cost, cost.steps * cost.rounds, cost.evaluations,
                                              cost.hist_nano > 0, terms.delta);
            assert_true(whole <= terms.epsilon);
            assert_true(whole > 0.98 * terms.epsilon);
            double half = train_cost_epsilon(&cost, cost.steps * cost.rounds / 2,
                                             cost.evaluations / 2, false, terms.delta);
            assert_true(half < whole && half > 0);
            double figures = (double)(cost.sums_nano * cost.evaluations + cost.hist_nano) / 1e9;
            assert_true(proto_privacy_epsilon(figures, terms.delta) <=
                        terms.epsilon * terms.eval_share * (1 + 1e-9));
        }
    }
    struct train_terms terms = usual();
    struct train_cost cost;
    terms.eval_every = 0;
    assert_int_equal(train_cost_plan(&terms, 4.4, &cost, NULL), E_OK);
    assert_int_equal(cost.sums_nano + cost.hist_nano + cost.evaluations, 0);
}

static void the_whole_is_the_sum_of_its_parts(void **state)
{
    struct train_terms terms = usual();
    struct train_cost cost;
    (void)state;
    terms.bins = 64;
    assert_int_equal(train_cost_plan(&terms, 4.4, &cost, NULL), E_OK);
    assert_int_equal(cost.step_nano, proto_privacy_sgd_step_nano(cost.rate, cost.sigma, 4.4));
    assert_int_equal(train_cost_total(&cost),
                     100 * cost.step_nano + 10 * cost.sums_nano + cost.hist_nano);
    cost.step_nano = UINT64_MAX;
    assert_true(train_cost_total(&cost) == UINT64_MAX);
}

static void histograms_only_where_they_say_something(void **state)
{
    (void)state;
    assert_int_equal(train_bins_choose(4, 1e-6, 0.1, 0.1, 7500, 3, 1), 0);
    assert_int_equal(train_bins_choose(4, 1e-6, 0.1, 0.1, 1e7, 3, 1), 64);
    assert_int_equal(train_bins_choose(4, 1e-6, 0.1, 0, 1e7, 3, 1), 0);
    uint64_t last = 0;
    for (double units = 1e3; units < 1e7; units *= 2) {
        uint64_t bins = train_bins_choose(4, 1e-6, 0.1, 0.1, units, 3, 1);
        assert_true(bins >= last);
        last = bins;
    }
}

static const char *colours[] = {"red", "green", "blue"};
static const char *sexes[] = {"F", "M"};
static struct proto_column columns[] = {
    {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .min = 0, .max = 100},
    {.name = "colour", .type = PROTO_COLUMN_CATEGORY, .values = NULL, .value_count = 3},
    {.name = "flag", .type = PROTO_COLUMN_BOOLEAN},
    {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = NULL, .value_count = 2},
    {.name = "free", .type = PROTO_COLUMN_REAL},
    {.name = "note", .type = PROTO_COLUMN_TEXT},
    {.name = "who", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .min = 0, .max = 9},
};
static const struct proto_schema schema = {
    .columns = columns, .count = 7, .unit = "who", .max_rows_per_unit = 2};

static void columns_become_numbers(void **state)
{
    struct train_encoding encoding;
    const char *features[] = {"age", "colour", "flag"};
    float x[4] = {9, 9, 9, 9};
    (void)state;
    columns[1].values = colours;
    columns[3].values = sexes;
    struct train_columns by = {.features = features, .feature_count = 3, .target = "sex"};
    assert_int_equal(train_encoding_plan(&schema, &by, &encoding, NULL), E_OK);
    assert_int_equal(encoding.width, 4);
    train_encoding_put(&encoding.columns[0], 100, false, x);
    train_encoding_put(&encoding.columns[1], 2, false, x);
    train_encoding_put(&encoding.columns[2], 1, false, x);
    assert_true(x[0] == 1 && x[1] == 0 && x[2] == 1 && x[3] == 1);
    train_encoding_put(&encoding.columns[0], -1e9, false, x);
    train_encoding_put(&encoding.columns[1], 0, false, x);
    assert_true(x[0] == -1 && x[1] == 0 && x[2] == 0);
    for (size_t i = 0; i < 3; i++) {
        train_encoding_put(&encoding.columns[i], 0, true, x);
    }
    assert_true(x[0] == 0 && x[1] == 1.0F / 3 && x[2] == 1.0F / 3 && x[3] == 0.5F);
}

static void columns_that_cannot_be_used_are_refused(void **state)
{
    struct train_encoding encoding;
    struct err_info info = {0};
    (void)state;
    const struct {
        const char *feature;
        const char *target;
        enum err want;
    } cases[] = {
        {"agee", "flag", E_SCHEMA},       {"free", "flag", E_UNSUPPORTED},
        {"note", "flag", E_UNSUPPORTED},  {"who", "flag", E_UNSUPPORTED},
        {"age", "colour", E_UNSUPPORTED}, {"age", "age", E_UNSUPPORTED},
        {"flag", "flag", E_UNSUPPORTED},  {"age", "nobody", E_SCHEMA},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct train_columns by = {
            .features = &cases[i].feature, .feature_count = 1, .target = cases[i].target};
        assert_int_equal(train_encoding_plan(&schema, &by, &encoding, &info), cases[i].want);
        assert_true(info.text[0] != '\0');
    }
    columns[1].values_private = true;
    const char *feature = "colour";
    struct train_columns by = {.features = &feature, .feature_count = 1, .target = "flag"};
    assert_int_equal(train_encoding_plan(&schema, &by, &encoding, &info), E_UNSUPPORTED);
    columns[1].values_private = false;
}

/* A table whose figures are known: noise of a huge budget is too small to matter. */
static void figures_come_back(void **state)
{
    enum {
        ROWS = 4000
    };
    static float x[ROWS];
    static uint8_t y[ROWS];
    static uint32_t unit[ROWS];
    const double weights[2] = {2, 0};
    const struct train_cost cost = {
        .sigma = 1, .sums_nano = 500000000000, .hist_nano = 500000000000};
    const struct train_figures_wish wish = {.spec = {.count = 3,
                                                     .loss_clip = TRAIN_LOSS_CLIP,
                                                     .correct = true,
                                                     .types_at = 3,
                                                     .rows = 1},
                                            .cost = &cost,
                                            .sums = true,
                                            .bins = 64};
    struct train_figures figures;
    double loss = 0;
    size_t correct = 0;
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        x[i] = (float)i / (float)ROWS * 2 - 1;
        y[i] = i % 4 ? x[i] > 0 : x[i] <= 0; /* a quarter is wrong */
        unit[i] = (uint32_t)i;
        loss += fmin(model_logistic_loss(2 * (double)x[i], y[i]), TRAIN_LOSS_CLIP);
        correct += (x[i] > 0) == y[i];
    }
    struct model_table table = {
        .rows = ROWS, .features = 1, .x = x, .y = y, .unit = unit, .units = ROWS};
    struct train_table_model model = {.shape = {.kind = MODEL_TABULAR_LOGISTIC, .features = 1},
                                      .weights = weights};
    assert_int_equal(train_evaluate_table(NULL, &table, &model, &wish, &figures, NULL), E_OK);
    double variances[3] = {0};
    struct train_metrics metrics =
        train_metrics_read(&wish.spec, figures.sums[TRAIN_SUM_COUNT], 0, figures.sums, variances);
    assert_true(fabs(figures.sums[TRAIN_SUM_COUNT] - (double)ROWS) < 3);
    assert_true(fabs(metrics.loss - loss / (double)ROWS) < 0.01);
    assert_true(fabs(metrics.accuracy - (double)correct / (double)ROWS) < 0.01);
    double pairs = 0;
    double won = 0;
    for (size_t i = 0; i < ROWS; i += 7) {
        for (size_t j = 0; j < ROWS; j += 7) {
            if (y[i] == 1 && y[j] == 0) {
                pairs++;
                won += x[i] > x[j];
            }
        }
    }
    assert_true(figures.has_histograms);
    assert_true(fabs(train_metrics_auc(figures.histograms, 64, 0) - won / pairs) < 0.02);
    assert_true(isnan(train_metrics_auc(figures.histograms, 64, 1e9))); /* all noise: not shown */
    metrics = train_metrics_read(&wish.spec, 10, 1e6, figures.sums, variances);
    assert_true(isnan(metrics.loss) && isnan(metrics.accuracy));
}

/* What a regression and a survival model read from a table: numbers by bounds, times by a horizon. */
static void outcomes_become_numbers(void **state)
{
    struct train_encoding encoding;
    const char *features[] = {"colour", "flag"};
    (void)state;
    columns[1].values = colours;
    struct train_columns by = {
        .outcome = TRAIN_OUTCOME_NUMBER, .features = features, .feature_count = 2, .target = "age"};
    assert_int_equal(train_encoding_plan(&schema, &by, &encoding, NULL), E_OK);
    assert_true(encoding.low == 0 && encoding.high == 100 && encoding.time == -1);
    by.target = "free"; /* has no bounds */
    assert_int_equal(train_encoding_plan(&schema, &by, &encoding, NULL), E_UNSUPPORTED);
    by.target = "flag";
    assert_int_equal(train_encoding_plan(&schema, &by, &encoding, NULL), E_UNSUPPORTED);
    by = (struct train_columns){.outcome = TRAIN_OUTCOME_EVENT,
                                .features = features,
                                .feature_count = 1,
                                .target = "flag",
                                .time = "age"};
    assert_int_equal(train_encoding_plan(&schema, &by, &encoding, NULL), E_OK);
    assert_true(encoding.horizon == 100 && encoding.time == 0);
    by.time = "free"; /* bounds or a horizon */
    assert_int_equal(train_encoding_plan(&schema, &by, &encoding, NULL), E_UNSUPPORTED);
    by.horizon = 7;
    assert_int_equal(train_encoding_plan(&schema, &by, &encoding, NULL), E_OK);
    assert_true(encoding.horizon == 7);
    by.time = "colour";
    assert_int_equal(train_encoding_plan(&schema, &by, &encoding, NULL), E_UNSUPPORTED);
    by.time = "flag"; /* both */
    assert_int_equal(train_encoding_plan(&schema, &by, &encoding, NULL), E_UNSUPPORTED);
    by.time = "nobody";
    assert_int_equal(train_encoding_plan(&schema, &by, &encoding, NULL), E_SCHEMA);
    /* A category's values exclude each other, a number reaches both ways. */
    const char *all[] = {"age", "colour", "flag"};
    by = (struct train_columns){.features = all, .feature_count = 3, .target = "sex"};
    columns[3].values = sexes;
    assert_int_equal(train_encoding_plan(&schema, &by, &encoding, NULL), E_OK);
    const double weights[] = {-2, 1, 3, -0.5};
    double low, high;
    train_encoding_range(&encoding, weights, &low, &high);
    assert_true(low == -2.5 && high == 5);
}

#define MANY 3000
static struct {
    float x[2 * MANY], target[MANY], time[MANY];
    uint8_t y[MANY];
    uint32_t unit[MANY];
} many;

/* x0 decides, x1 does not; times fall where the score is high. */
static struct model_table many_rows(void)
{
    uint32_t seed = 1;
    for (uint32_t i = 0; i < MANY; i++) {
        double u[4];
        for (size_t j = 0; j < 4; j++) {
            seed = seed * 1664525 + 1013904223;
            u[j] = ((seed >> 8) + 0.5) / 16777216.0;
        }
        many.x[2 * i] = (float)(2 * u[0] - 1);
        many.x[2 * i + 1] = (float)(2 * u[1] - 1);
        many.target[i] = (float)(0.5 * (2 * u[0] - 1) + 0.4 * (u[2] - 0.5));
        double event = -log(u[2]) / (0.5 * exp(2 * u[0] - 1)), last = 0.5 + u[3];
        many.y[i] = event < last && event <= 1;
        many.time[i] = (float)fmax(fmin(fmin(event, last), 1), 1e-6);
        many.unit[i] = i;
    }
    return (struct model_table){.rows = MANY,
                                .features = 2,
                                .x = many.x,
                                .y = many.y,
                                .unit = many.unit,
                                .units = MANY,
                                .target = many.target,
                                .time = many.time};
}

/* RMSE and R^2 against the textbook's sums in doubles. */
static void a_regression_is_measured(void **state)
{
    (void)state;
    struct model_table table = many_rows();
    const double weights[] = {0.45, 0.1, 0.02};
    const struct train_plan plan = {.task = PROTO_TASK_TABULAR_REGRESSION};
    const struct train_cost cost = {.sigma = 1, .sums_nano = 500000000000};
    struct train_figures_wish wish = {.spec = train_sums_of(&plan, 1), .cost = &cost, .sums = true};
    struct train_table_model model = {.shape = train_plan_tabular(&plan, 2), .weights = weights};
    struct train_figures figures;
    assert_int_equal(wish.spec.count, 4);
    assert_int_equal(train_evaluate_table(NULL, &table, &model, &wish, &figures, NULL), E_OK);
    double mean = 0, errors = 0, spread = 0;
    for (size_t i = 0; i < MANY; i++) {
        mean += (double)many.target[i] / MANY;
    }
    for (size_t i = 0; i < MANY; i++) {
        double off = 0.45 * (double)many.x[2 * i] + 0.1 * (double)many.x[2 * i + 1] + 0.02 -
                     (double)many.target[i];
        errors += off * off;
        spread += ((double)many.target[i] - mean) * ((double)many.target[i] - mean);
    }
    struct privacy_coordinate noise[TRAIN_SUMS_MAX];
    double variances[4];
    assert_int_equal(train_sums_plan(cost.sums_nano, &wish.spec, noise), E_OK);
    for (size_t i = 0; i < 4; i++) {
        variances[i] = pow(privacy_mechanism_sigma(&noise[i]), 2);
    }
    struct train_metrics metrics =
        train_metrics_read(&wish.spec, figures.sums[0], variances[0], figures.sums, variances);
    struct train_round_view round = {.eval_loss = metrics.loss,
                                     .eval_loss_margin = metrics.loss_margin,
                                     .accuracy = metrics.accuracy,
                                     .accuracy_margin = metrics.accuracy_margin};
    struct train_named named[TRAIN_NAMED_MAX];
    assert_int_equal(train_figures_name("tabular-regression", 50, &round, named), 4);
    assert_true(fabs(named[0].value - 50 * sqrt(errors / MANY)) < 3 * named[1].value);
    assert_true(fabs(named[2].value - (1 - errors / spread)) < 3 * named[3].value);
    assert_true(named[1].value < 0.5 && named[3].value < 0.02);
    const double huge[] = {1e9, 1e9, 1e9, 1e9};
    metrics = train_metrics_read(&wish.spec, MANY, 0, figures.sums, huge);
    assert_true(isnan(metrics.accuracy)); /* all noise: not shown */
}

/* Against Harrell's count over all pairs. */
static void concordance_comes_from_two_histograms(void **state)
{
    (void)state;
    struct model_table table = many_rows();
    const double weights[] = {1.5, 0.4, -1, -1, 0, 0};
    const struct train_plan plan = {
        .task = PROTO_TASK_TABULAR_SURVIVAL, .intervals = 4, .bins = TRAIN_BINS_MAX};
    const struct train_cost cost = {
        .sigma = 1, .sums_nano = 500000000000, .hist_nano = 500000000000};
    struct train_figures_wish wish = {
        .spec = train_sums_of(&plan, 1), .cost = &cost, .sums = true, .bins = plan.bins};
    struct train_table_model model = {
        .shape = train_plan_tabular(&plan, 2), .weights = weights, .low = -1.9, .high = 1.9};
    struct train_figures figures;
    double loss, exact, sum = 0;
    assert_int_equal(wish.spec.count, 2);
    assert_int_equal(train_evaluate_table(NULL, &table, &model, &wish, &figures, NULL), E_OK);
    assert_int_equal(model_cox_breslow(&table, weights, &loss, NULL, &exact), E_OK);
    struct privacy_coordinate bin;
    assert_int_equal(train_histogram_plan(cost.hist_nano, 1, &bin), E_OK);
    double variance = pow(privacy_mechanism_sigma(&bin), 2);
    double got = train_metrics_concordance(figures.histograms, plan.bins, variance);
    print_message("# concordance %.4f, Harrell's %.4f\n", got, exact);
    assert_true(fabs(got - exact) < 0.02 && exact > 0.6);
    assert_true(isnan(train_metrics_concordance(figures.histograms, plan.bins, 1e6)));
    assert_true(isnan(train_metrics_concordance(figures.histograms, 100, 0)));
    for (size_t i = 0; i < MANY; i++) {
        sum += fmin(
            fmax(model_tabular_row(&model.shape, &table, i, weights, NULL), TRAIN_LOSS_LOW_COX),
            TRAIN_LOSS_LOW_COX + TRAIN_LOSS_CLIP_COX);
    }
    const double variances[4] = {0};
    struct train_metrics metrics =
        train_metrics_read(&wish.spec, figures.sums[0], 0, figures.sums, variances);
    assert_true(fabs(metrics.loss - sum / MANY) < 0.02 && isnan(metrics.accuracy));
    assert_int_equal(train_bins_choose_survival(4, 1e-6, 0.1, 0.1, 7500, 3, 1), 0);
    assert_int_equal(train_bins_choose_survival(4, 1e-6, 0.1, 0.1, 1e7, 3, 1), TRAIN_BINS_MAX);
}

/* Without noise a plan costs nothing, and a round is one step. */
static void no_noise_costs_nothing(void **state)
{
    struct train_terms terms = usual();
    struct train_cost cost;
    (void)state;
    terms.noise = false;
    terms.epsilon = 0;
    assert_int_equal(train_cost_plan(&terms, 4.4, &cost, NULL), E_OK);
    assert_true(cost.sigma == 0 && cost.steps == 1 && cost.evaluations == 10);
    assert_int_equal(train_cost_total(&cost), 0);
    assert_true(isnan(train_cost_epsilon(&cost, 5, 5, false, 1e-6)));
}

static struct proto_text tags[] = {{{NULL, 0}}, {{NULL, 0}}, {{NULL, 0}}, {{NULL, 0}}, {{NULL, 0}}};

static struct train_plan notes_plan(void)
{
    static const char *const names[] = {"O", "B-Drug", "I-Drug", "B-Disease", "I-Disease"};
    for (size_t i = 0; i < 5; i++) {
        tags[i].text = span_str(names[i]);
    }
    return (struct train_plan){
        .task = PROTO_TASK_TOKEN_CLASSIFICATION, .labels = {tags, 5}, .noise = true, .entities = 4};
}

static void sums_follow_the_labels(void **state)
{
    struct train_plan plan = notes_plan();
    struct span types[TRAIN_TYPES_MAX];
    (void)state;
    assert_int_equal(train_plan_types(&plan, types), 2);
    assert_true(span_is(types[0], "Drug") && span_is(types[1], "Disease"));
    struct train_sums sums = train_sums_of(&plan, 30);
    assert_true(!sums.correct && sums.types_at == 2 && sums.count == 8 && sums.rows == 1 &&
                sums.entities == 4);
    plan.task = PROTO_TASK_SEQUENCE_CLASSIFICATION;
    sums = train_sums_of(&plan, 2);
    assert_true(sums.correct && sums.types == 5 && sums.count == 18 && sums.entities == 2);
    plan.task = PROTO_TASK_TABULAR_CLASSIFICATION;
    plan.labels.count = 0;
    sums = train_sums_of(&plan, 3);
    assert_true(sums.correct && sums.count == 3 && sums.rows == 3 &&
                sums.loss_clip == TRAIN_LOSS_CLIP);
    plan.task = PROTO_TASK_MASKED_LM;
    sums = train_sums_of(&plan, 3);
    assert_true(sums.correct && sums.count == 3 && sums.types == 0 && sums.rows == 1 &&
                sums.loss_clip == TRAIN_LOSS_CLIP_LM);
}

struct units {
    size_t left;
};

/* A unit with far more entities than may count. */
static bool next(void *user, struct train_unit_figures *ret)
{
    struct units *units = user;
    *ret = (struct train_unit_figures){.loss = 100, .types = {{50, 60, 3}, {1, 0, 2}}};
    return units->left-- > 0;
}

/* With noise each unit's part is bounded: the noise is fitted to that. Without, it is exact. */
static void units_are_bounded(void **state)
{
    struct train_plan plan = notes_plan();
    struct train_cost cost = {.sigma = 1, .sums_nano = 4000000000000000};
    struct train_figures figures;
    struct train_figures_wish wish = {.spec = train_sums_of(&plan, 1), .cost = &cost, .sums = true};
    struct units units = {1000};
    (void)state;
    assert_int_equal(train_evaluate_units(NULL, next, &units, &wish, &figures, NULL), E_OK);
    const double bounded[] = {1000, 2000, 4000, 4000, 3000, 1000, 0, 2000};
    for (size_t i = 0; i < 8; i++) {
        assert_true(fabs(figures.sums[i] - bounded[i]) < 2); /* sigma is below 0.1: 20 of them */
    }
    cost = (struct train_cost){.sigma = 0};
    units.left = 1000;
    assert_int_equal(train_evaluate_units(NULL, next, &units, &wish, &figures, NULL), E_OK);
    const double exact[] = {1000, 2000, 50000, 60000, 3000, 1000, 0, 2000};
    for (size_t i = 0; i < 8; i++) {
        assert_true(figures.sums[i] == exact[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_follow_the_declared_size),
        cmocka_unit_test(evaluations_are_those_that_the_rounds_ask_for),
        cmocka_unit_test(noise_keeps_within_epsilon),
        cmocka_unit_test(the_whole_is_the_sum_of_its_parts),
        cmocka_unit_test(histograms_only_where_they_say_something),
        cmocka_unit_test(columns_become_numbers),
        cmocka_unit_test(columns_that_cannot_be_used_are_refused),
        cmocka_unit_test(figures_come_back),
        cmocka_unit_test(outcomes_become_numbers),
        cmocka_unit_test(a_regression_is_measured),
        cmocka_unit_test(concordance_comes_from_two_histograms),
        cmocka_unit_test(no_noise_costs_nothing),
        cmocka_unit_test(sums_follow_the_labels),
        cmocka_unit_test(units_are_bounded),
    };
    assert_int_equal(crypto_init(NULL), E_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
