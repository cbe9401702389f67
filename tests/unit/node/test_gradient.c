/* Gradients of a small random model, for every task and way of training. Compiled twice: with MODEL_DOUBLE every parameter is checked
 * by central differences, with dropout; in both, clipped sums against a loop over single patients, and batches cut in any way. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "node/model/encoder.h"
#include "node/model/team.h"
#include "proto/alloc.h"
#include "tests/lib/seed.h"

#ifdef MODEL_DOUBLE
#define TOLERANCE 1e-11
#else
#define TOLERANCE 2e-5
#endif

#define SEQUENCES 9u
#define GROUPS    5u
#define ROWS_MAX  128u

struct data {
    uint32_t start[SEQUENCES + 1], ids[ROWS_MAX], group_at[GROUPS + 1];
    uint8_t types[ROWS_MAX];
    int32_t labels[ROWS_MAX];
    struct model_batch batch, grouped;
};

static struct model_encoder *small_model(enum model_task task, enum model_training training)
{
    struct model_shape shape = {.vocabulary = 23,
                                .hidden = 12,
                                .layers = 2,
                                .heads = 3,
                                .inner = 20,
                                .positions = 14,
                                .types = 2,
                                .layer_norm_eps = 1e-12,
                                .dropout = 0.2,
                                .attention_dropout = 0.3,
                                .task = task,
                                .labels = task == MODEL_TASK_MASKED ? 23 : 3,
                                .training = training,
                                .targets = MODEL_TARGETS_ALL,
                                .rank = 2,
                                .alpha = 3};
    struct model_encoder *e = NULL;
    struct seed random = seed_of(4);
    assert_int_equal(model_encoder_new(&shape, 1, &e, NULL), E_OK);
    for (size_t i = 0; i < e->weight_count; i++) {
        /* All of them, so that no gradient is zero because a factor is. */
        e->weights[i] += (real)seed_below(&random, 2001) / 2000 - (real)0.5;
    }
    return e;
}

/* Patients of 3, 1, 0, 4 and 1 sequences; pieces repeat within and between them; one patient has no label. */
static void make_data(struct data *d, const struct model_shape *shape, struct seed *random)
{
    static const uint32_t groups[GROUPS + 1] = {0, 3, 4, 4, 8, 9};
    memset(d, 0, sizeof *d);
    memcpy(d->group_at, groups, sizeof groups);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        d->start[s + 1] = d->start[s] + 1 + (uint32_t)seed_below(random, 14);
    }
    uint32_t rows = d->start[SEQUENCES];
    for (uint32_t r = 0; r < rows; r++) {
        d->ids[r] = (uint32_t)seed_below(random, shape->vocabulary / 2);
        d->types[r] = (uint8_t)seed_below(random, 2);
    }
    bool sequence = shape->task == MODEL_TASK_SEQUENCE;
    for (uint32_t i = 0; i < (sequence ? SEQUENCES : rows); i++) {
        bool silent = sequence ? i == 3 : i >= d->start[3] && i < d->start[4];
        d->labels[i] = silent || seed_below(random, 3) == 0
                           ? -100
                           : (int32_t)seed_below(random, shape->labels);
    }
    d->labels[sequence ? 0 : d->start[0]] = 1;
    d->batch = (struct model_batch){.sequences = SEQUENCES,
                                    .start = d->start,
                                    .ids = d->ids,
                                    .types = d->types,
                                    .labels = d->labels,
                                    .groups = 1,
                                    .dropout_seed = 7};
    d->grouped = d->batch;
    d->grouped.groups = GROUPS;
    d->grouped.group_at = d->group_at;
}

static real *zeros(size_t count)
{
    real *v = proto_alloc(count + 1, sizeof *v);
    assert_non_null(v);
    return v;
}

static double difference(const real *a, const real *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    return sqrt(sum);
}

#ifdef MODEL_DOUBLE
static double loss_of(struct model_run *run, const struct model_batch *b)
{
    double sum = 0;
    uint64_t labelled = 0;
    assert_int_equal(model_run_forward(run, b, NULL), E_OK);
    model_run_loss(run, b, &sum, &labelled);
    assert_true(labelled > 0);
    return sum;
}

static void every_parameter(enum model_task task, enum model_training training)
{
    struct model_encoder *e = small_model(task, training);
    struct model_run *run = model_run_new(e);
    struct data d;
    struct seed random = seed_of(21);
    make_data(&d, &e->shape, &random);
    real *gradient = zeros(e->trained_count), one = 1;
    loss_of(run, &d.batch);
    model_run_backward(run, &d.batch, &one, gradient);
    double largest = 0, eps = 1e-5;
    for (size_t i = 0; i < e->trained_count; i++) {
        largest = fmax(largest, fabs(gradient[i]));
    }
    for (size_t t = 0; t < e->tensor_count; t++) {
        const struct model_tensor *tensor = &e->tensors[t];
        for (size_t i = 0; tensor->trained_at != MODEL_FROZEN && i < tensor->rows * tensor->cols;
             i++) {
            real *p = &e->weights[tensor->at + i], kept = *p;
            *p = kept + eps;
            double above = loss_of(run, &d.batch);
            *p = kept - eps;
            double below = loss_of(run, &d.batch);
            *p = kept;
            double want = (above - below) / (2 * eps), got = gradient[tensor->trained_at + i];
            if (!(fabs(want - got) <= 1e-6 * fabs(want) + 1e-8 * largest)) {
                fail_msg("task %d, training %d, %s[%zu]: %.10g, differences give %.10g", task,
                         training, tensor->name, i, got, want);
            }
        }
    }
    proto_free(gradient);
    model_run_free(run);
    model_encoder_close(e);
}

static void central_differences(void **state)
{
    (void)state;
    for (enum model_task task = MODEL_TASK_TOKENS; task <= MODEL_TASK_MASKED; task++) {
        for (enum model_training t = MODEL_TRAIN_FULL; t <= MODEL_TRAIN_HEAD; t++) {
            every_parameter(task, t);
        }
    }
}
#endif

/* The gradient of each patient's own mean loss, by a run that sees nobody else. */
static double patient_gradient(const struct model_encoder *e, struct model_run *run,
                               const struct data *d, size_t group, real *gradient)
{
    uint32_t start[SEQUENCES + 1], from = d->group_at[group], to = d->group_at[group + 1];
    memset(gradient, 0, e->trained_count * sizeof *gradient);
    if (from == to) {
        return 0;
    }
    struct model_batch b = d->batch;
    for (uint32_t i = from; i <= to; i++) {
        start[i - from] = d->start[i] - d->start[from];
    }
    b.start = start;
    b.sequences = to - from;
    b.ids += d->start[from];
    b.types += d->start[from];
    b.labels += e->shape.task == MODEL_TASK_SEQUENCE ? from : d->start[from];
    b.first_row = d->start[from];
    double sum = 0;
    uint64_t labelled = 0;
    assert_int_equal(model_run_forward(run, &b, NULL), E_OK);
    model_run_loss(run, &b, &sum, &labelled);
    real scale = labelled ? 1 / (real)labelled : 0;
    model_run_backward(run, &b, &scale, gradient);
    return model_norm(gradient, e->trained_count);
}

/* Norms and clipped sum against the loop, for any number of threads and any length of a pass. */
static void clipped_against_loop(enum model_task task, enum model_training training,
                                 struct seed *random)
{
    struct model_encoder *e = small_model(task, training);
    struct model_run *run = model_run_new(e);
    struct data d;
    size_t n = e->trained_count;
    make_data(&d, &e->shape, random);
    real *one = zeros(n), *want = zeros(n), *got = zeros(n);
    double alone[GROUPS], norms[GROUPS], clip = 0;
    for (size_t g = 0; g < GROUPS; g++) {
        alone[g] = patient_gradient(e, run, &d, g, one);
        clip = fmax(clip, 0.6 * alone[g]); /* some are clipped, some are not */
    }
    for (size_t g = 0; g < GROUPS; g++) {
        patient_gradient(e, run, &d, g, one);
        model_clip_add(one, n, clip, want);
    }
    for (unsigned threads = 1; threads <= 3; threads++) {
        for (size_t rows = 1; rows <= 256; rows *= 4) {
            struct model_team *team = NULL;
            double loss;
            uint64_t labelled;
            assert_int_equal(model_team_new(e, threads, &team), E_OK);
            model_team_passes(team, rows, rows == 16);
            assert_int_equal(
                model_team_gradient(team, &d.grouped, clip, got, norms, &loss, &labelled, NULL),
                E_OK);
            for (size_t g = 0; g < GROUPS; g++) {
                if (!(fabs(norms[g] - alone[g]) <= TOLERANCE * (clip + alone[g]))) {
                    fail_msg("task %d, training %d, patient %zu: norm %.12g, alone %.12g", task,
                             training, g, norms[g], alone[g]);
                }
            }
            assert_true(difference(got, want, n) <= TOLERANCE * model_norm(want, n));
            model_team_free(team);
        }
    }
    proto_free(one);
    proto_free(want);
    proto_free(got);
    model_run_free(run);
    model_encoder_close(e);
}

static void clipped_sums(void **state)
{
    (void)state;
    struct seed random = seed_of(seed_number(31));
    for (unsigned again = 0; again < 3; again++) {
        for (enum model_task task = MODEL_TASK_TOKENS; task <= MODEL_TASK_MASKED; task++) {
            for (enum model_training t = MODEL_TRAIN_FULL; t <= MODEL_TRAIN_HEAD; t++) {
                clipped_against_loop(task, t, &random);
            }
        }
    }
}

/* The batch's gradient is the sum of the patients', however it is cut; layers computed again change no bit. */
static void any_cut(void **state)
{
    (void)state;
    struct seed random = seed_of(seed_number(41));
    for (enum model_task task = MODEL_TASK_TOKENS; task <= MODEL_TASK_MASKED; task++) {
        for (enum model_training t = MODEL_TRAIN_FULL; t <= MODEL_TRAIN_HEAD; t++) {
            struct model_encoder *e = small_model(task, t);
            struct model_run *run = model_run_new(e);
            struct data d;
            size_t n = e->trained_count;
            make_data(&d, &e->shape, &random);
            real *want = zeros(n), *got = zeros(n), *groups = zeros((size_t)GROUPS * n);
            real scale[GROUPS];
            double loss, sum = 0;
            uint64_t labelled = 0;
            assert_int_equal(model_run_forward(run, &d.batch, NULL), E_OK);
            model_run_loss(run, &d.batch, &sum, &labelled);
            for (size_t g = 0; g < GROUPS; g++) {
                scale[g] = 1 / (real)labelled;
            }
            model_run_backward(run, &d.batch, scale, want);
            model_run_mode(run, true, false);
            assert_int_equal(model_run_forward(run, &d.batch, NULL), E_OK);
            model_run_backward(run, &d.batch, scale, got);
            assert_memory_equal(got, want, n * sizeof *got);
            model_run_mode(run, false, false);
            assert_int_equal(model_run_forward(run, &d.grouped, NULL), E_OK);
            model_run_backward(run, &d.grouped, scale, groups);
            memset(got, 0, n * sizeof *got);
            for (size_t g = 0; g < GROUPS; g++) {
                for (size_t i = 0; i < n; i++) {
                    got[i] += groups[g * n + i];
                }
            }
            assert_true(difference(got, want, n) <= TOLERANCE * model_norm(want, n));
            for (unsigned threads = 1; threads <= 3; threads++) {
                struct model_team *team = NULL;
                assert_int_equal(model_team_new(e, threads, &team), E_OK);
                model_team_passes(team, (size_t)threads * 7, threads == 2);
                assert_int_equal(
                    model_team_gradient(team, &d.batch, 0, got, NULL, &loss, &labelled, NULL),
                    E_OK);
                assert_true(fabs(loss - sum) <= TOLERANCE * sum);
                assert_true(difference(got, want, n) <= TOLERANCE * model_norm(want, n));
                model_team_free(team);
            }
            proto_free(want);
            proto_free(got);
            proto_free(groups);
            model_run_free(run);
            model_encoder_close(e);
        }
    }
}

/* A patient whose gradient is not finite adds nothing, and harms nobody else. */
static void not_finite(void **state)
{
    (void)state;
    struct seed random = seed_of(5);
    for (enum model_training t = MODEL_TRAIN_FULL; t <= MODEL_TRAIN_LORA; t++) {
        struct model_encoder *e = small_model(MODEL_TASK_TOKENS, t);
        struct model_team *team = NULL;
        struct data d;
        size_t n = e->trained_count;
        make_data(&d, &e->shape, &random);
        /* A piece that the last patient alone has. */
        for (uint32_t r = d.start[8]; r < d.start[9]; r++) {
            d.ids[r] = 22;
            d.labels[r] = 1;
        }
        real *with = zeros(n), *without = zeros(n);
        double norms[GROUPS], loss;
        uint64_t labelled;
        assert_int_equal(model_team_new(e, 1, &team), E_OK);
        for (uint32_t r = d.start[8]; r < d.start[9]; r++) {
            d.labels[r] = -100;
        }
        assert_int_equal(
            model_team_gradient(team, &d.grouped, 0.5, without, norms, &loss, &labelled, NULL),
            E_OK);
        for (uint32_t r = d.start[8]; r < d.start[9]; r++) {
            d.labels[r] = 1;
        }
        e->weights[e->tensors[0].at + 22 * 12] = (real)INFINITY;
        assert_int_equal(
            model_team_gradient(team, &d.grouped, 0.5, with, norms, &loss, &labelled, NULL), E_OK);
        bool finite = isfinite(norms[4]);
        assert_false(finite);
        assert_true(model_norm(without, n) > 0.1);
        assert_true(difference(with, without, n) <= TOLERANCE * model_norm(without, n));
        proto_free(with);
        proto_free(without);
        model_team_free(team);
        model_encoder_close(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef MODEL_DOUBLE
        cmocka_unit_test(central_differences),
#endif
        cmocka_unit_test(clipped_sums),
        cmocka_unit_test(any_cut),
        cmocka_unit_test(not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
