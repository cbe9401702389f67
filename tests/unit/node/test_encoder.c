/* The encoder against the known answers of tests/vectors/bert. Compiled twice: in float, as shipped, and with MODEL_DOUBLE,
 * where the tolerances are 1e-9; central differences stand in test_gradient.c.
 * The folders: bert/small; and with VECTORS and BERT_MODEL set, bert/bert-tiny-biomed as well (float only). */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "node/model/encoder.h"
#include "node/model/gemm.h"
#include "node/model/safetensors.h"
#include "node/model/team.h"
#include "proto/alloc.h"
#include "tests/lib/seed.h"
#include "tests/lib/vectors.h"

#ifdef MODEL_DOUBLE
#define TOLERANCE          1e-9
#define GRADIENT_TOLERANCE 1e-9
#define ABSOLUTE           1e-12
#define ADAMW_TOLERANCE    1e-7
#else
#define TOLERANCE          1e-4
#define GRADIENT_TOLERANCE 1e-4
#define ABSOLUTE           1e-6
#define ADAMW_TOLERANCE    1e-2
#endif

#define ROWS 256

struct golden {
    struct model_safetensors *file;
    uint32_t start[7], ids[ROWS], each[7];
    uint8_t types[ROWS];
    int32_t labels[ROWS], sequence_labels[6];
    struct model_batch batch;
};

static struct model_safetensors *open_file(const char *folder, const char *name)
{
    char path[200];
    struct model_safetensors *file = NULL;
    struct err_info info = {0};
    snprintf(path, sizeof path, "bert/%s/%s", folder, name);
    if (model_safetensors_open(vectors_path(path), &file, &info)) {
        fail_msg("%s", info.text);
    }
    return file;
}

static size_t integers(const struct model_safetensors *file, const char *name, int64_t *to)
{
    const struct model_tensor_entry *entry = model_safetensors_find(file, name);
    assert_non_null(entry);
    assert_in_range(entry->count, 1, ROWS);
    assert_int_equal(model_safetensors_integers(file, entry, to, (size_t)entry->count, NULL), E_OK);
    return (size_t)entry->count;
}

static void open_golden(struct golden *g, const char *folder, const char *name)
{
    int64_t v[ROWS];
    struct model_safetensors *batch = open_file(folder, "batch.safetensors");
    memset(g, 0, sizeof *g);
    size_t rows = integers(batch, "input_ids", v);
    for (size_t i = 0; i < rows; i++) {
        g->ids[i] = (uint32_t)v[i];
    }
    integers(batch, "token_type_ids", v);
    for (size_t i = 0; i < rows; i++) {
        g->types[i] = (uint8_t)v[i];
    }
    integers(batch, "labels", v);
    for (size_t i = 0; i < rows; i++) {
        g->labels[i] = (int32_t)v[i];
    }
    assert_int_equal(integers(batch, "lengths", v), 6);
    for (uint32_t i = 0; i < 6; i++) {
        g->start[i + 1] = g->start[i] + (uint32_t)v[i];
        g->each[i + 1] = i + 1;
    }
    assert_int_equal(g->start[6], rows);
    integers(batch, "sequence_labels", v);
    for (size_t i = 0; i < 6; i++) {
        g->sequence_labels[i] = (int32_t)v[i];
    }
    model_safetensors_close(batch);
    g->file = open_file(folder, name);
    g->batch = (struct model_batch){.sequences = 6,
                                    .start = g->start,
                                    .ids = g->ids,
                                    .types = g->types,
                                    .labels = g->labels,
                                    .groups = 1};
}

/* The caller frees. NULL when absent. */
static double *numbers(const struct model_safetensors *file, const char *prefix, const char *name,
                       size_t *ret_count)
{
    char key[256];
    snprintf(key, sizeof key, "%s%s", prefix, name);
    const struct model_tensor_entry *entry = model_safetensors_find(file, key);
    if (!entry) {
        return NULL;
    }
    double *v = proto_alloc((size_t)entry->count + 1, sizeof *v);
    assert_non_null(v);
    assert_int_equal(model_safetensors_doubles(file, entry, v, (size_t)entry->count, NULL), E_OK);
    *ret_count = (size_t)entry->count;
    return v;
}

static void close_to(const struct golden *g, const char *name, const real *got)
{
    size_t count = 0;
    double *want = numbers(g->file, "", name, &count), largest = 0, worst = 0;
    assert_non_null(want);
    for (size_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs(want[i]));
        worst = fmax(worst, fabs(want[i] - (double)got[i]));
    }
    if (!(worst <= TOLERANCE * largest + ABSOLUTE * 1e-2)) {
        fail_msg("%s: off by %g of %g", name, worst, largest);
    }
    proto_free(want);
}

static void number_is(const struct golden *g, const char *name, size_t index, double got)
{
    size_t count = 0;
    double *want = numbers(g->file, "", name, &count);
    assert_non_null(want);
    assert_in_range(index, 0, count - 1);
    if (!(fabs(got - want[index]) <= TOLERANCE * fabs(want[index]) + 1e-12)) {
        fail_msg("%s[%zu]: %.12g, expected %.12g", name, index, got, want[index]);
    }
    proto_free(want);
}

/* Gradient of one tensor: whole, or the rows that the file keeps. Returns 1 when the file has it. */
static unsigned gradient_is(const struct golden *g, const struct model_tensor *t,
                            const real *gradient)
{
    size_t count = 0, size = t->rows * t->cols;
    double *want = numbers(g->file, "grad.", t->name, &count), error = 0, norm = 0;
    if (!want) {
        return 0;
    }
    assert_int_equal(count, size);
    for (size_t i = 0; i < count; i++) {
        double d = want[i] - (double)gradient[t->trained_at + i];
        error += d * d;
        norm += want[i] * want[i];
    }
    /* The key bias' gradient is rounding noise around zero. */
    double limit = strstr(t->name, "key.bias") ? ABSOLUTE : GRADIENT_TOLERANCE * sqrt(norm) + 1e-12;
    if (!(sqrt(error) <= limit)) {
        fail_msg("gradient of %s: off by %g of %g", t->name, sqrt(error), sqrt(norm));
    }
    proto_free(want);
    return 1;
}

static void take_tensor(struct model_encoder *e, const struct model_safetensors *file,
                        const char *prefix, const char *name)
{
    const struct model_tensor *t = model_encoder_tensor(e, name);
    size_t count = 0;
    assert_non_null(t);
    double *v = numbers(file, prefix, name, &count);
    assert_non_null(v);
    assert_int_equal(count, t->rows * t->cols);
    for (size_t i = 0; i < count; i++) {
        e->weights[t->at + i] = (real)v[i];
    }
    proto_free(v);
}

/* The model of FOLDER with its head, and adapters from g->file when they are trained. */
static struct model_encoder *open_model(const struct golden *g, const char *folder,
                                        enum model_task task, enum model_training training,
                                        uint32_t targets)
{
    struct model_shape shape = {
        .task = task, .training = training, .targets = targets, .rank = 4, .alpha = 8};
    struct model_encoder *e = NULL;
    struct err_info info = {0};
    char path[200];
    bool small = strcmp(folder, "small") == 0;
    snprintf(path, sizeof path, "bert/%s", folder);
    const char *at = small ? vectors_path(path) : getenv("BERT_MODEL");
    assert_non_null(at);
    if (model_shape_read(at, &shape, &info)) {
        fail_msg("%s", info.text);
    }
    shape.labels = task == MODEL_TASK_MASKED     ? shape.vocabulary
                   : task == MODEL_TASK_SEQUENCE ? 3
                   : small                       ? 5
                                                 : 3;
    if (model_encoder_open(at, &shape, 1, &e, &info)) {
        fail_msg("%s", info.text);
    }
    if (task != MODEL_TASK_MASKED && (task == MODEL_TASK_SEQUENCE || !small)) {
        struct model_safetensors *heads =
            open_file(folder, task == MODEL_TASK_SEQUENCE ? "sequence_head.safetensors"
                                                          : "heads.safetensors");
        for (size_t i = e->head; i < e->tensor_count && !strstr(e->tensors[i].name, "lora_"); i++) {
            take_tensor(e, heads, "", e->tensors[i].name);
        }
        model_safetensors_close(heads);
    }
    for (size_t i = e->head; i < e->tensor_count; i++) {
        if (strstr(e->tensors[i].name, "lora_")) {
            take_tensor(e, g->file, "init.", e->tensors[i].name);
        }
    }
    return e;
}

static real *zeros(size_t count)
{
    real *v = proto_alloc(count + 1, sizeof *v);
    assert_non_null(v);
    return v;
}

/* Forward and backward of the mean loss; returns it. */
static double mean_step(const struct model_encoder *e, struct model_run *run,
                        const struct model_batch *batch, real *gradient)
{
    double sum = 0;
    uint64_t labelled = 0;
    assert_int_equal(model_run_forward(run, batch, NULL), E_OK);
    model_run_loss(run, batch, &sum, &labelled);
    assert_true(labelled > 0);
    if (gradient) {
        real scale = 1 / (real)labelled;
        memset(gradient, 0, e->trained_count * sizeof *gradient);
        model_run_backward(run, batch, &scale, gradient);
    }
    return sum / (double)labelled;
}

/* Each sequence a group: losses and both norms, and the sum of the groups' gradients is that of the batch. */
static void check_examples(const struct golden *g, const struct model_encoder *e,
                           struct model_run *run, const real *whole)
{
    struct model_batch each = g->batch;
    double sums[6];
    uint64_t labelled[6], all = 0;
    real scale[6];
    each.groups = 6;
    each.group_at = g->each;
    real *gradients = zeros(6 * e->trained_count);
    assert_int_equal(model_run_forward(run, &each, NULL), E_OK);
    model_run_loss(run, &each, sums, labelled);
    for (size_t i = 0; i < 6; i++) {
        all += labelled[i];
    }
    for (size_t i = 0; i < 6; i++) {
        scale[i] = 1 / (real)all;
    }
    model_run_backward(run, &each, scale, gradients);
    real *sum = zeros(e->trained_count);
    for (size_t i = 0; i < 6; i++) {
        double share = model_norm(gradients + i * e->trained_count, e->trained_count);
        double own = labelled[i] ? (double)labelled[i] : 1;
        number_is(g, "per_example.loss", i, sums[i] / own);
        number_is(g, "per_example.grad_norm_share", i, share);
        number_is(g, "per_example.grad_norm_mean", i, share * (double)all / own);
        assert_true(model_clip_add(gradients + i * e->trained_count, e->trained_count, 1e9, sum) ==
                    share);
    }
    double norm = model_norm(whole, e->trained_count);
    for (size_t i = 0; i < e->trained_count; i++) {
        sum[i] -= whole[i];
    }
    assert_true(model_norm(sum, e->trained_count) <= GRADIENT_TOLERANCE * norm);
    proto_free(sum);
    proto_free(gradients);
}

static void check_adamw(const struct golden *g, struct model_encoder *e, struct model_run *run,
                        real *gradient)
{
    struct model_adamw adamw = MODEL_ADAMW_DEFAULT;
    assert_int_equal(model_adamw_init(&adamw, e), E_OK);
    real *before = zeros(e->weight_count);
    memcpy(before, e->weights, e->weight_count * sizeof *before);
    for (size_t step = 0; step < 3; step++) {
        number_is(g, "adamw.losses", step, mean_step(e, run, &g->batch, gradient));
        assert_true(model_adamw_step(&adamw, e, gradient, 1e-3) > 0);
    }
    number_is(g, "adamw.losses", 3, mean_step(e, run, &g->batch, NULL));
    unsigned seen = 0;
    for (size_t t = 0; t < e->tensor_count; t++) {
        const struct model_tensor *tensor = &e->tensors[t];
        size_t count = 0;
        double *want = numbers(g->file, "adamw3.", tensor->name, &count), error = 0, norm = 0;
        if (!want || strstr(tensor->name, "key.bias")) {
            proto_free(want);
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            double p0 = (double)before[tensor->at + i];
            double d = (double)e->weights[tensor->at + i] - want[i];
            error += d * d;
            norm += (want[i] - p0) * (want[i] - p0);
        }
        if (!(sqrt(error) <= ADAMW_TOLERANCE * sqrt(norm))) {
            fail_msg("AdamW of %s: off by %g of %g", tensor->name, sqrt(error), sqrt(norm));
        }
        proto_free(want);
        seen++;
    }
    assert_in_range(seen, 4, 100);
    proto_free(before);
    model_adamw_fini(&adamw);
}

static void check_tokens(const char *folder, const char *name, enum model_training training,
                         uint32_t targets)
{
    struct golden g;
    open_golden(&g, folder, name);
    struct model_encoder *e = open_model(&g, folder, MODEL_TASK_TOKENS, training, targets);
    struct model_run *run = model_run_new(e);
    real *gradient = zeros(e->trained_count);
    number_is(&g, "loss", 0, mean_step(e, run, &g.batch, gradient));
    close_to(&g, "hidden.embeddings", model_run_hidden(run, 0));
    close_to(&g, "hidden.layer.0", model_run_hidden(run, 1));
    close_to(&g, "hidden.layer.1", model_run_hidden(run, 2));
    close_to(&g, "logits", model_run_logits(run));
    unsigned seen = 0, trained = 0;
    for (size_t t = 0; t < e->tensor_count; t++) {
        if (e->tensors[t].trained_at != MODEL_FROZEN) {
            trained++;
            seen += gradient_is(&g, &e->tensors[t], gradient);
        }
    }
    /* The tiny model's file leaves out the embeddings' whole gradients. */
    assert_in_range(
        seen, trained - (training == MODEL_TRAIN_FULL && strcmp(folder, "small") ? 2 : 0), trained);
    number_is(&g, "grad_norm", 0, model_norm(gradient, e->trained_count));
    check_examples(&g, e, run, gradient);
    check_adamw(&g, e, run, gradient);
    proto_free(gradient);
    model_run_free(run);
    model_encoder_close(e);
    model_safetensors_close(g.file);
}

static void tokens_full(void **state)
{
    (void)state;
    check_tokens("small", "tokcls_full.safetensors", MODEL_TRAIN_FULL, 0);
}

static void tokens_lora(void **state)
{
    (void)state;
    check_tokens("small", "tokcls_lora_qv.safetensors", MODEL_TRAIN_LORA, MODEL_TARGETS_QV);
    check_tokens("small", "tokcls_lora_all.safetensors", MODEL_TRAIN_LORA, MODEL_TARGETS_ALL);
}

static void check_sequence(const char *folder)
{
    struct golden g;
    open_golden(&g, folder, "seqcls.safetensors");
    g.batch.labels = g.sequence_labels;
    struct model_encoder *e = open_model(&g, folder, MODEL_TASK_SEQUENCE, MODEL_TRAIN_FULL, 0);
    struct model_run *run = model_run_new(e);
    real *gradient = zeros(e->trained_count);
    number_is(&g, "loss", 0, mean_step(e, run, &g.batch, gradient));
    close_to(&g, "logits", model_run_logits(run));
    unsigned seen = 0;
    for (size_t t = 0; t < e->tensor_count; t++) {
        seen += gradient_is(&g, &e->tensors[t], gradient);
    }
    assert_in_range(seen, strcmp(folder, "small") ? 4 : e->tensor_count, e->tensor_count);
    proto_free(gradient);
    model_run_free(run);
    model_encoder_close(e);
    model_safetensors_close(g.file);
}

static void sequence_head(void **state)
{
    (void)state;
    check_sequence("small");
}

/* Masked LM: logits of labelled rows, or what the larger file keeps of them, and every gradient that it has. */
static void check_masked(const char *folder)
{
    struct golden g;
    int64_t v[ROWS];
    open_golden(&g, folder, "mlm.safetensors");
    struct model_safetensors *batch = open_file(folder, "batch.safetensors");
    size_t rows = integers(batch, "mlm_labels", v);
    for (size_t i = 0; i < rows; i++) {
        g.labels[i] = (int32_t)v[i];
    }
    model_safetensors_close(batch);
    struct model_encoder *e = open_model(&g, folder, MODEL_TASK_MASKED, MODEL_TRAIN_FULL, 0);
    struct model_run *run = model_run_new(e);
    real *gradient = zeros(e->trained_count);
    number_is(&g, "loss", 0, mean_step(e, run, &g.batch, gradient));
    close_to(&g, "transform", model_run_pooled(run));
    if (model_safetensors_find(g.file, "logits")) {
        close_to(&g, "logits", model_run_logits(run));
    }
    unsigned seen = 0;
    for (size_t t = 0; t < e->tensor_count; t++) {
        seen += gradient_is(&g, &e->tensors[t], gradient);
    }
    assert_in_range(seen, strcmp(folder, "small") ? 4 : e->tensor_count, e->tensor_count);
    proto_free(gradient);
    model_run_free(run);
    model_encoder_close(e);
    model_safetensors_close(g.file);
}

static void masked_head(void **state)
{
    (void)state;
    check_masked("small");
}

#ifndef MODEL_DOUBLE
static void tiny_biomed(void **state)
{
    (void)state;
    check_tokens("bert-tiny-biomed", "tokcls_full.safetensors", MODEL_TRAIN_FULL, 0);
    check_tokens("bert-tiny-biomed", "tokcls_lora_qv.safetensors", MODEL_TRAIN_LORA,
                 MODEL_TARGETS_QV);
    check_tokens("bert-tiny-biomed", "tokcls_lora_all.safetensors", MODEL_TRAIN_LORA,
                 MODEL_TARGETS_ALL);
    check_sequence("bert-tiny-biomed");
    check_masked("bert-tiny-biomed");
}
#endif

/* Six sequences together give what each gives alone. */
static void packed_equals_alone(void **state)
{
    (void)state;
    struct golden g;
    open_golden(&g, "small", "tokcls_full.safetensors");
    struct model_encoder *e = open_model(&g, "small", MODEL_TASK_TOKENS, MODEL_TRAIN_FULL, 0);
    struct model_run *together = model_run_new(e), *alone = model_run_new(e);
    assert_int_equal(model_run_forward(together, &g.batch, NULL), E_OK);
    for (size_t i = 0; i < 6; i++) {
        uint32_t start[2] = {0, g.start[i + 1] - g.start[i]};
        struct model_batch one = {.sequences = 1,
                                  .start = start,
                                  .ids = g.ids + g.start[i],
                                  .types = g.types + g.start[i],
                                  .groups = 1};
        assert_int_equal(model_run_forward(alone, &one, NULL), E_OK);
        for (size_t j = 0; j < start[1] * 5; j++) {
            double a = (double)model_run_logits(together)[g.start[i] * 5 + j];
            assert_true(fabs(a - (double)model_run_logits(alone)[j]) <=
                        TOLERANCE * 1e-1 * fmax(1, fabs(a)));
        }
    }
    model_run_free(together);
    model_run_free(alone);
    model_encoder_close(e);
    model_safetensors_close(g.file);
}

/* FFA trains B and the head alone, with the gradients that LoRA has for them. */
static void frozen_a(void **state)
{
    (void)state;
    struct golden g;
    open_golden(&g, "small", "tokcls_lora_all.safetensors");
    struct model_encoder *e =
        open_model(&g, "small", MODEL_TASK_TOKENS, MODEL_TRAIN_FFA, MODEL_TARGETS_ALL);
    struct model_run *run = model_run_new(e);
    real *gradient = zeros(e->trained_count);
    mean_step(e, run, &g.batch, gradient);
    unsigned seen = 0;
    for (size_t t = 0; t < e->tensor_count; t++) {
        bool trained = e->tensors[t].trained_at != MODEL_FROZEN;
        assert_int_equal(trained, strstr(e->tensors[t].name, "lora_B") ||
                                      strncmp(e->tensors[t].name, "classifier", 10) == 0);
        seen += trained ? gradient_is(&g, &e->tensors[t], gradient) : 0;
    }
    assert_int_equal(seen, 2 * 6 + 2);
    proto_free(gradient);
    model_run_free(run);
    model_encoder_close(e);
    model_safetensors_close(g.file);
}

/* Any number of threads gives the gradient of one; a clipped sum is that of a loop over single examples. */
static void teams(void **state)
{
    (void)state;
    struct golden g;
    open_golden(&g, "small", "tokcls_lora_qv.safetensors");
    struct model_encoder *e =
        open_model(&g, "small", MODEL_TASK_TOKENS, MODEL_TRAIN_LORA, MODEL_TARGETS_QV);
    struct model_run *run = model_run_new(e);
    size_t trained = e->trained_count;
    real *want = zeros(trained), *got = zeros(trained), *sum = zeros(trained),
         *one = zeros(trained), *again = zeros(trained);
    double loss = mean_step(e, run, &g.batch, want), norms[6], alone[6];
    struct model_batch each = g.batch;
    each.groups = 6;
    each.group_at = g.each;
    for (size_t i = 0; i < 6; i++) {
        uint32_t start[2] = {0, g.start[i + 1] - g.start[i]};
        struct model_batch single = {.sequences = 1,
                                     .start = start,
                                     .ids = g.ids + g.start[i],
                                     .types = g.types + g.start[i],
                                     .labels = g.labels + g.start[i],
                                     .groups = 1};
        double cross = 0;
        uint64_t labelled = 0;
        assert_int_equal(model_run_forward(run, &single, NULL), E_OK);
        model_run_loss(run, &single, &cross, &labelled);
        real scale = labelled ? 1 / (real)labelled : 0;
        memset(one, 0, trained * sizeof *one);
        model_run_backward(run, &single, &scale, one);
        alone[i] = model_clip_add(one, trained, 0.5, sum);
        number_is(&g, "per_example.grad_norm_mean", i, alone[i]);
    }
    for (unsigned threads = 1; threads <= 9; threads += 2) {
        struct model_team *team = NULL;
        double cross = 0;
        uint64_t labelled = 0;
        assert_int_equal(model_team_new(e, threads, &team), E_OK);
        assert_int_equal(model_team_gradient(team, &g.batch, 0, got, NULL, &cross, &labelled, NULL),
                         E_OK);
        assert_true(fabs(cross / (double)labelled - loss) <= TOLERANCE * 0.1 * loss);
        for (size_t i = 0; i < trained; i++) {
            got[i] -= want[i];
        }
        assert_true(model_norm(got, trained) <= GRADIENT_TOLERANCE * model_norm(want, trained));
        assert_int_equal(model_team_gradient(team, &each, 0.5, got, norms, &cross, &labelled, NULL),
                         E_OK);
        assert_int_equal(
            model_team_gradient(team, &each, 0.5, again, NULL, &cross, &labelled, NULL), E_OK);
        assert_memory_equal(got, again, trained * sizeof *got);
        for (size_t i = 0; i < trained; i++) {
            got[i] -= sum[i];
        }
        assert_true(model_norm(got, trained) <= GRADIENT_TOLERANCE * model_norm(sum, trained));
        for (size_t i = 0; i < 6; i++) {
            assert_true(fabs(norms[i] - alone[i]) <= TOLERANCE * (alone[i] + 1e-12));
        }
        each.labels = NULL;
        assert_int_equal(model_team_gradient(team, &each, 0.5, got, norms, &cross, &labelled, NULL),
                         E_USAGE);
        each.labels = g.labels;
        uint32_t kept = g.ids[3];
        g.ids[3] = 200;
        assert_int_equal(model_team_gradient(team, &each, 0.5, got, norms, &cross, &labelled, NULL),
                         E_INVALID);
        g.ids[3] = kept;
        model_team_free(team);
    }
    struct model_team *none = NULL;
    assert_int_equal(model_team_new(e, 0, &none), E_LIMIT);
    proto_free(want);
    proto_free(got);
    proto_free(sum);
    proto_free(one);
    proto_free(again);
    model_run_free(run);
    model_encoder_close(e);
    model_safetensors_close(g.file);
}

static void dropout_repeats_and_drops(void **state)
{
    (void)state;
    struct golden g;
    open_golden(&g, "small", "tokcls_full.safetensors");
    struct model_encoder *e = open_model(&g, "small", MODEL_TASK_TOKENS, MODEL_TRAIN_FULL, 0);
    struct model_run *run = model_run_new(e);
    e->shape.dropout = 0.25;
    double plain = mean_step(e, run, &g.batch, NULL);
    g.batch.dropout_seed = 1;
    double one = mean_step(e, run, &g.batch, NULL);
    const real *hidden = model_run_hidden(run, 0);
    size_t count = g.start[6] * (size_t)e->shape.hidden, zero = 0;
    for (size_t i = 0; i < count; i++) {
        zero += hidden[i] == 0;
    }
    /* Binomial(count, 1/4) stays within 6 standard deviations but for 2e-9 of seeds; this seed is fixed. */
    double deviation = fabs((double)zero - 0.25 * (double)count) / sqrt((double)count * 0.1875);
    assert_true(deviation < 6);
    assert_true(mean_step(e, run, &g.batch, NULL) == one);
    g.batch.dropout_seed = 2;
    double two = mean_step(e, run, &g.batch, NULL);
    assert_true(one != two && one != plain);
    g.batch.dropout_seed = 0;
    assert_true(mean_step(e, run, &g.batch, NULL) == plain);
    model_run_free(run);
    model_encoder_close(e);
    model_safetensors_close(g.file);
}

static void products(void **state)
{
    (void)state;
    struct seed random = seed_of(seed_number(5));
    for (unsigned n = 0; n < 60; n++) {
        size_t dim[3];
        for (size_t i = 0; i < 3; i++) {
            dim[i] = 1 + seed_below(&random, n % 5 ? 40 : 150);
        }
        size_t m = dim[0], cols = dim[1], k = dim[2], pad = seed_below(&random, 3);
        bool ta = n & 1, tb = n & 2;
        size_t lda = (ta ? m : k) + pad, ldb = (tb ? k : cols) + pad, ldc = cols + pad;
        real *a = zeros(lda * (ta ? k : m)), *b = zeros(ldb * (tb ? cols : k)), *c = zeros(ldc * m),
             *d = zeros(ldc * m);
        for (size_t i = 0; i < lda * (ta ? k : m); i++) {
            a[i] = (real)seed_below(&random, 2000) / 1000 - 1;
        }
        for (size_t i = 0; i < ldb * (tb ? cols : k); i++) {
            b[i] = (real)seed_below(&random, 2000) / 1000 - 1;
        }
        real beta = n % 3 == 0 ? 0 : (real)0.5;
        for (size_t i = 0; i < ldc * m; i++) {
            c[i] = d[i] = beta == 0 ? (real)NAN : 1;
        }
        model_gemm(ta, tb, m, cols, k, 2, a, lda, b, ldb, beta, c, ldc);
        model_gemm_plain(ta, tb, m, cols, k, 2, a, lda, b, ldb, beta, d, ldc);
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < cols; j++) {
                assert_true(fabs((double)(c[i * ldc + j] - d[i * ldc + j])) <= 1e-5 * (double)k);
            }
        }
        proto_free(a);
        proto_free(b);
        proto_free(c);
        proto_free(d);
    }
}

static void exponential(void **state)
{
    (void)state;
    for (double x = 0; x > -86; x -= 0.0137) {
        double want = exp((double)(real)x);
        if (!(fabs((double)real_exp_negative((real)x) - want) <=
              (sizeof(real) == 4 ? 5e-7 : 1e-15) * want)) {
            fail_msg("exp(%g): %g", x, (double)real_exp_negative((real)x) / want - 1);
        }
    }
    assert_true(real_exp_negative(0) == 1 && real_exp_negative(-1000) < 1e-37 &&
                real_exp_negative(-1000) >= 0);
}

static void schedule_and_clip(void **state)
{
    (void)state;
    assert_true(model_rate_at(2, 0, 4, 12) == 0);
    assert_true(model_rate_at(2, 2, 4, 12) == 1);
    assert_true(model_rate_at(2, 4, 4, 12) == 2);
    assert_true(model_rate_at(2, 8, 4, 12) == 1);
    assert_true(model_rate_at(2, 12, 4, 12) == 0 && model_rate_at(2, 99, 4, 12) == 0);
    assert_true(model_rate_at(2, 0, 0, 10) == 2);
    real v[2] = {3, 4}, sum[2] = {1, 1}, nan[2] = {1, (real)NAN};
    assert_true(model_clip_add(v, 2, 1, sum) == 5);
    assert_true(fabs((double)sum[0] - 1.6) < 1e-6 && fabs((double)sum[1] - 1.8) < 1e-6);
    assert_true(isnan(model_clip_add(nan, 2, 1, sum)));
    assert_true(fabs((double)sum[0] - 1.6) < 1e-6);
}

static void clipped_step(void **state)
{
    (void)state;
    struct model_shape shape = {.vocabulary = 5,
                                .hidden = 4,
                                .layers = 1,
                                .heads = 2,
                                .inner = 4,
                                .positions = 4,
                                .types = 1,
                                .layer_norm_eps = 1e-12,
                                .labels = 2};
    struct model_encoder *e = NULL, *twin = NULL;
    struct model_adamw a = MODEL_ADAMW_DEFAULT;
    assert_int_equal(model_encoder_new(&shape, 3, &e, NULL), E_OK);
    assert_int_equal(model_encoder_new(&shape, 3, &twin, NULL), E_OK);
    assert_memory_equal(e->weights, twin->weights, e->weight_count * sizeof(real));
    assert_int_equal(model_adamw_init(&a, e), E_OK);
    a.clip = 1;
    real *gradient = zeros(e->trained_count);
    gradient[0] = 3;
    gradient[1] = 4;
    assert_true(model_adamw_step(&a, e, gradient, 0.01) == 5);
    assert_true(fabs((double)a.m[0] - 0.1 * 0.6) < 1e-6 && fabs((double)a.m[1] - 0.1 * 0.8) < 1e-6);
    /* A gradient that is not finite changes nothing. */
    memcpy(twin->weights, e->weights, e->weight_count * sizeof(real));
    gradient[2] = (real)INFINITY;
    assert_true(!isfinite(model_adamw_step(&a, e, gradient, 0.01)));
    assert_memory_equal(e->weights, twin->weights, e->weight_count * sizeof(real));
    assert_int_equal(a.step, 1);
    proto_free(gradient);
    model_adamw_fini(&a);
    model_encoder_close(e);
    model_encoder_close(twin);
}

static void refuses_batches(void **state)
{
    (void)state;
    struct model_shape shape = {.vocabulary = 5,
                                .hidden = 4,
                                .layers = 1,
                                .heads = 2,
                                .inner = 4,
                                .positions = 4,
                                .types = 1,
                                .layer_norm_eps = 1e-12,
                                .labels = 2};
    struct model_encoder *e = NULL;
    assert_int_equal(model_encoder_new(&shape, 3, &e, NULL), E_OK);
    struct model_run *run = model_run_new(e);
    uint32_t start[3] = {0, 2, 3}, ids[8] = {1, 2, 4}, groups[3] = {0, 1, 2};
    uint8_t types[3] = {0};
    int32_t labels[3] = {0, 1, -100};
    struct model_batch good = {.sequences = 2,
                               .start = start,
                               .ids = ids,
                               .types = types,
                               .labels = labels,
                               .groups = 2,
                               .group_at = groups};
    assert_int_equal(model_run_forward(run, &good, NULL), E_OK);
    ids[2] = 5;
    assert_int_equal(model_run_forward(run, &good, NULL), E_INVALID);
    ids[2] = 4;
    types[1] = 1;
    assert_int_equal(model_run_forward(run, &good, NULL), E_INVALID);
    types[1] = 0;
    labels[1] = 2;
    assert_int_equal(model_run_forward(run, &good, NULL), E_INVALID);
    labels[1] = 1;
    start[2] = 2;
    assert_int_equal(model_run_forward(run, &good, NULL), E_INVALID);
    start[2] = 7;
    assert_int_equal(model_run_forward(run, &good, NULL), E_INVALID);
    start[2] = 3;
    groups[2] = 1;
    assert_int_equal(model_run_forward(run, &good, NULL), E_INVALID);
    groups[2] = 2;
    groups[1] = 3;
    assert_int_equal(model_run_forward(run, &good, NULL), E_INVALID);
    groups[1] = 1;
    good.group_at = NULL;
    assert_int_equal(model_run_forward(run, &good, NULL), E_INVALID);
    proto_alloc_fail_at(1);
    good.group_at = groups;
    struct model_run *fresh = NULL;
    assert_null(model_run_new(e));
    fresh = model_run_new(e);
    proto_alloc_fail_at(1);
    assert_int_equal(model_run_forward(fresh, &good, NULL), E_NO_MEMORY);
    proto_alloc_fail_at(0);
    assert_int_equal(model_run_forward(fresh, &good, NULL), E_OK);
    model_run_free(fresh);
    model_run_free(run);
    model_encoder_close(e);
}

static enum err config_with(const char *change, const char *to)
{
    static const char good[] =
        "{\"model_type\":\"bert\",\"vocab_size\":200,\"hidden_size\":32,\"num_hidden_layers\":2,"
        "\"num_attention_heads\":2,\"intermediate_size\":64,\"max_position_embeddings\":64,\"type_"
        "vocab_size\":2}";
    char text[512];
    const char *at = strstr(good, change);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(change));
    struct model_shape shape = {0}, before = {0};
    enum err err = model_shape_json(text, strlen(text), &shape, NULL);
    if (err) {
        assert_memory_equal(&shape, &before, sizeof shape);
    }
    return err;
}

static void reads_config(void **state)
{
    (void)state;
    assert_int_equal(config_with("64", "64"), E_OK);
    assert_int_equal(config_with("\"bert\"", "\"gpt2\""), E_UNSUPPORTED);
    assert_int_equal(config_with("}", ",\"hidden_act\":\"relu\"}"), E_UNSUPPORTED);
    assert_int_equal(config_with("}", ",\"position_embedding_type\":\"relative_key\"}"),
                     E_UNSUPPORTED);
    assert_int_equal(config_with("32", "\"32\""), E_INVALID);
    assert_int_equal(config_with("32", "-32"), E_INVALID);
    assert_int_equal(config_with("32", "33"), E_LIMIT);
    assert_int_equal(config_with("32", "4098"), E_LIMIT);
    assert_int_equal(config_with("layers\":2", "layers\":200"), E_LIMIT);
    assert_int_equal(config_with("}", ",\"hidden_dropout_prob\":1}"), E_LIMIT);
    assert_int_equal(config_with("}", ",\"id2label\":{}}"), E_INVALID);
    assert_int_equal(config_with("}", ",\"hidden_size\":32}"), E_INVALID);
    assert_int_equal(config_with("}", ""), E_INVALID);
}

static void refuses_models(void **state)
{
    (void)state;
    struct golden g;
    struct err_info info = {0};
    struct model_encoder *e = NULL;
    open_golden(&g, "small", "tokcls_full.safetensors");
    struct model_shape shape = {.labels = 5};
    assert_int_equal(model_shape_read(vectors_path("bert/small"), &shape, NULL), E_OK);
    shape.inner = 63;
    assert_int_equal(model_encoder_open(vectors_path("bert/small"), &shape, 1, &e, &info),
                     E_SCHEMA);
    assert_non_null(strstr(info.text, "intermediate.dense.weight"));
    shape.inner = 64;
    shape.layers = 3;
    assert_int_equal(model_encoder_open(vectors_path("bert/small"), &shape, 1, &e, &info),
                     E_SCHEMA);
    assert_non_null(strstr(info.text, "layer.2.attention.self.query.weight\" is missing"));
    shape.layers = 2;
    assert_int_equal(model_encoder_open("/nonexistent", &shape, 1, &e, &info), E_NOT_FOUND);
    shape.training = MODEL_TRAIN_LORA;
    assert_int_equal(model_encoder_new(&shape, 1, &e, &info), E_LIMIT);
    assert_null(e);
    model_safetensors_close(g.file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_full),
        cmocka_unit_test(tokens_lora),
        cmocka_unit_test(sequence_head),
        cmocka_unit_test(masked_head),
        cmocka_unit_test(packed_equals_alone),
        cmocka_unit_test(frozen_a),
        cmocka_unit_test(teams),
        cmocka_unit_test(dropout_repeats_and_drops),
        cmocka_unit_test(products),
        cmocka_unit_test(exponential),
        cmocka_unit_test(schedule_and_clip),
        cmocka_unit_test(clipped_step),
        cmocka_unit_test(refuses_batches),
        cmocka_unit_test(reads_config),
        cmocka_unit_test(refuses_models),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
#ifndef MODEL_DOUBLE
    const struct CMUnitTest larger[] = {cmocka_unit_test(tiny_biomed)};
    if (getenv("BERT_MODEL")) {
        failed += cmocka_run_group_tests(larger, NULL, NULL);
    }
#endif
    return failed;
}
