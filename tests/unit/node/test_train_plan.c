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
    assert_int_equal(train_encoding_plan(&schema, features, 3, "sex", &encoding, NULL), E_OK);
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
        assert_int_equal(
            train_encoding_plan(&schema, &cases[i].feature, 1, cases[i].target, &encoding, &info),
            cases[i].want);
        assert_true(info.text[0] != '\0');
    }
    columns[1].values_private = true;
    const char *feature = "colour";
    assert_int_equal(train_encoding_plan(&schema, &feature, 1, "flag", &encoding, &info),
                     E_UNSUPPORTED);
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
    assert_int_equal(train_evaluate_table(NULL, &table, weights, &wish, &figures, NULL), E_OK);
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
        cmocka_unit_test(no_noise_costs_nothing),
        cmocka_unit_test(sums_follow_the_labels),
        cmocka_unit_test(units_are_bounded),
    };
    assert_int_equal(crypto_init(NULL), E_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
