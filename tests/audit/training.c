/* DP-SGD as a site runs it, by canaries: patients whose rows pull one weight of their own, with a gradient as long as clipping allows,
 * of whom each is in the table or not by a coin. All of them are looked at in one training, since they do not meet; what is seen is the
 * final weights. Besides the judge of the other cases, the bound of Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846) from one run:
 * guess the canaries with the most telling weights, and ask how many right guesses an (epsilon, delta) training would allow. */
#include "config.h"
#include "tests/audit/audit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/model/logistic.h"
#include "node/privacy/noise.h"
#include "proto/privacy.h"

#define CANARIES 400
/* Rows of a canary: twice (+e, 1) and (-e, 0), whose gradients add up to -2 e at weight 0. */
#define ROWS 4
/* The bound from one run is far below what is true, so that a chance this large does not call it broken. */
#define ONE_RUN_ERROR 1e-2

struct training {
    double rate, sigma;
    uint32_t steps;
    size_t canaries;
    /* of the last run */
    uint8_t *in;
    double *weights;
    size_t next[2]; /* canary that is given out next, by side */
};

static void build(const struct training *training, struct model_table *table)
{
    size_t units = 0;
    size_t features = training->canaries;
    for (size_t i = 0; i < features; i++) {
        units += training->in[i];
    }
    float *x = calloc(units * ROWS * features + 1, sizeof *x);
    uint8_t *y = calloc(units * ROWS + 1, sizeof *y);
    uint32_t *unit = calloc(units * ROWS + 1, sizeof *unit);
    if (!x || !y || !unit) {
        abort();
    }
    size_t row = 0;
    for (size_t i = 0; i < features; i++) {
        for (size_t j = 0; training->in[i] && j < ROWS; j++, row++) {
            x[row * features + i] = j % 2 ? -1 : 1;
            y[row] = j % 2 == 0;
            unit[row] = (uint32_t)(row / ROWS);
        }
    }
    *table = (struct model_table){
        .rows = row, .features = features, .x = x, .y = y, .unit = unit, .units = units};
}

/* Fresh coins, one training. */
static void train(struct training *training)
{
    struct privacy_random random = {.left = 0};
    struct model_table table;
    struct model_sgd sgd = {
        .rate = training->rate,
        .clip = 1,
        .sigma = training->sigma,
        .learning_rate = 1,
        .expected_batch = 1e4, /* so that weights stay near 0, where gradients are as planned */
        .steps = training->steps,
    };
    uint32_t done = 0;
    struct err_info info = {0};
    for (size_t i = 0; i < training->canaries; i++) {
        training->in[i] = privacy_random_bernoulli(&random, 1, 2);
    }
    privacy_random_fini(&random);
    build(training, &table);
    memset(training->weights, 0, (training->canaries + 1) * sizeof *training->weights);
    if (model_logistic_train(&table, &sgd, training->weights, NULL, NULL, &done, &info)) {
        fprintf(stderr, "%s\n", info.text);
        abort();
    }
    free((void *)(uintptr_t)table.x);
    free((void *)(uintptr_t)table.y);
    free((void *)(uintptr_t)table.unit);
    training->next[0] = training->next[1] = 0;
}

/* The next canary of this side: each is a run of its own, with the others as background. */
static void run_canary(void *user, int side, double *to, size_t runs)
{
    struct training *training = user;
    (void)runs;
    for (;;) {
        size_t *next = &training->next[side];
        while (*next < training->canaries && training->in[*next] != side) {
            ++*next;
        }
        if (*next < training->canaries) {
            to[0] = training->weights[(*next)++];
            return;
        }
        train(training);
    }
}

static void training_make(struct training *training, size_t canaries)
{
    training->canaries = canaries;
    training->in = calloc(canaries, sizeof *training->in);
    training->weights = calloc(canaries + 1, sizeof *training->weights);
    training->next[0] = training->next[1] = canaries;
    if (!training->in || !training->weights) {
        abort();
    }
}

static void training_free(struct training *training)
{
    free(training->in);
    free(training->weights);
}

/* --- one run ------------------------------------------------------------------------------------- */

static double log_choose(double n, double k)
{
    int sign;
    return lgamma_r(n + 1, &sign) - lgamma_r(k + 1, &sign) - lgamma_r(n - k + 1, &sign);
}

/* Bound on the probability that V or more of R guesses about M canaries are right (theorem 5.2 with its delta term). */
static double chance(size_t m, size_t r, size_t v, double epsilon, double delta)
{
    double q = 1 / (1 + exp(-epsilon));
    double tail = 0;
    double sum = 0;
    double alpha = 0;
    for (size_t k = v; k <= r; k++) {
        tail += exp(log_choose((double)r, (double)k) + (double)k * log(q) +
                    (double)(r - k) * log1p(-q));
    }
    for (size_t i = 1; i <= v; i++) {
        size_t k = v - i;
        sum += exp(log_choose((double)r, (double)k) + (double)k * log(q) +
                   (double)(r - k) * log1p(-q));
        alpha = fmax(alpha, sum / (double)i);
    }
    return fmin(tail + 2 * (double)m * delta * alpha, 1);
}

struct guess {
    double weight;
    uint8_t in;
};

static int by_weight(const void *a, const void *b)
{
    double x = ((const struct guess *)a)->weight;
    double y = ((const struct guess *)b)->weight;
    return (x > y) - (x < y);
}

/* The epsilon below which so many right guesses have a chance of less than ERROR. */
static double one_run_bound(const struct training *training, double delta, double error)
{
    size_t m = training->canaries;
    struct guess *guesses = calloc(m, sizeof *guesses);
    double best = 0;
    if (!guesses) {
        abort();
    }
    for (size_t i = 0; i < m; i++) {
        guesses[i] = (struct guess){training->weights[i], training->in[i]};
    }
    qsort(guesses, m, sizeof *guesses, by_weight);
    for (size_t divisor = 1; divisor <= 16;
         divisor *= 2) { /* five numbers of guesses share ERROR */
        size_t half = m / divisor / 2;
        size_t right = 0;
        for (size_t i = 0; i < half; i++) {
            right += (guesses[i].in ? 0u : 1u) + guesses[m - 1 - i].in;
        }
        double low = 0;
        double high = 20;
        for (int step = 0; step < 40; step++) {
            double epsilon = (low + high) / 2;
            if (chance(m, 2 * half, right, epsilon, delta) < error / 5) {
                low = epsilon;
            } else {
                high = epsilon;
            }
        }
        best = fmax(best, low);
    }
    free(guesses);
    return best;
}

static bool judge_one_run(void)
{
    struct training training = {.rate = 1, .sigma = 2, .steps = 4};
    const double delta = 1e-5;
    training_make(&training, 2000);
    train(&training);
    double most = proto_privacy_epsilon(
        (double)training.steps / (2 * training.sigma * training.sigma), delta);
    double least = one_run_bound(&training, delta, ONE_RUN_ERROR);
    bool kept = least <= most;
    printf("%s %zu - one run of DP-SGD with %zu canaries: epsilon at least %.4f, promised %.4f at "
           "delta %g%s\n",
           kept || audit_planted ? "ok" : "not ok", audit_next(), training.canaries, least, most,
           delta, kept ? "" : " BROKEN");
    fflush(stdout);
    training_free(&training);
    return kept;
}

size_t audit_trainings(double runs)
{
    struct training trainings[] = {{.rate = 1, .sigma = 4, .steps = 4},
                                   {.rate = 0.5, .sigma = 1, .steps = 3}};
    size_t broken = 0;
    for (size_t i = 0; i < sizeof trainings / sizeof *trainings; i++) {
        struct training *training = &trainings[i];
        char name[96];
        training_make(training, CANARIES);
        snprintf(name, sizeof name, "DP-SGD, %u steps of rate %g and noise %g, a canary in or not",
                 (unsigned)training->steps, training->rate, training->sigma);
        const struct audit_case audited = {
            .name = name,
            .promise = {.rate = training->rate, .sigma = training->sigma, .steps = training->steps},
            .dims = 1,
            .batch = 1,
            .pilots = JUDGE_PILOT,
            .least = 30000,
            .run = run_canary,
            .user = training,
            .most = runs,
        };
        broken += !audit_judge(&audited);
        training_free(training);
    }
    return broken + !judge_one_run();
}
