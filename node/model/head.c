/* The heads: labels of rows, labels of sequences (pooler), and masked LM with the word embeddings as decoder. */
#include "config.h"
#include "node/model/run.h"

#include <string.h>

/* Tensors after e->head. */
enum {
    TOKENS_CLASSIFIER_W,
    TOKENS_CLASSIFIER_B
};
enum {
    SEQUENCE_POOLER_W,
    SEQUENCE_POOLER_B,
    SEQUENCE_CLASSIFIER_W,
    SEQUENCE_CLASSIFIER_B
};
enum {
    MASKED_DENSE_W,
    MASKED_DENSE_B,
    MASKED_NORM_W,
    MASKED_NORM_B,
    MASKED_BIAS
};

static enum rows_kind kind_of(const struct model_run *run)
{
    enum model_task task = run->e->shape.task;
    return task == MODEL_TASK_TOKENS     ? ROWS_BATCH
           : task == MODEL_TASK_SEQUENCE ? ROWS_SEQUENCES
                                         : ROWS_PICKED;
}

/* The weights that make logits of head_in: labels x H, and their bias. */
static size_t decoder_of(const struct model_run *run, size_t *ret_bias)
{
    enum model_task task = run->e->shape.task;
    *ret_bias = run->e->head + (task == MODEL_TASK_TOKENS     ? TOKENS_CLASSIFIER_B
                                : task == MODEL_TASK_SEQUENCE ? SEQUENCE_CLASSIFIER_B
                                                              : MASKED_BIAS);
    return task == MODEL_TASK_MASKED ? EMBEDDING_WORD : *ret_bias - 1;
}

/* --- forward ------------------------------------------------------------------------------------------- */

/* The row of the batch that head row I looks at. */
static size_t row_of(const struct model_run *run, const struct model_batch *b, size_t i)
{
    return run->e->shape.task == MODEL_TASK_SEQUENCE ? b->start[i] : run->picked[i];
}

/* first = the rows looked at; pooled = first W^T, without its bias. */
static void dense(struct model_run *run, const struct model_batch *b, const real *hidden)
{
    size_t h = run->e->shape.hidden, n = run->head_rows;
    for (size_t i = 0; i < n; i++) {
        memcpy(run->first + i * h, hidden + row_of(run, b, i) * h, h * sizeof(real));
    }
    model_gemm(false, true, n, h, h, 1, run->first, h, run_weight(run, run->e->head), h, 0,
               run->pooled, h);
}

static void pool(struct model_run *run, const struct model_batch *b, const real *hidden)
{
    size_t h = run->e->shape.hidden, n = run->head_rows;
    dense(run, b, hidden);
    run->k->add_bias(run->pooled, n, h, run_weight(run, run->e->head + SEQUENCE_POOLER_B));
    for (size_t i = 0; i < n * h; i++) {
        run->pooled[i] = real_tanh(run->pooled[i]);
    }
}

static void transform(struct model_run *run, const struct model_batch *b, const real *hidden)
{
    size_t h = run->e->shape.hidden, n = run->head_rows, head = run->e->head;
    dense(run, b, hidden);
    memcpy(run->slope, run->pooled, n * h * sizeof(real));
    run->k->gelu(run_weight(run, head + MASKED_DENSE_B), n, h, run->slope, run->head_in);
    run->k->norm(&(struct model_norm_rows){.rows = n,
                                           .cols = h,
                                           .gamma = run_weight(run, head + MASKED_NORM_W),
                                           .beta = run_weight(run, head + MASKED_NORM_B),
                                           .eps = run->e->shape.layer_norm_eps,
                                           .out = run->head_in,
                                           .xhat = run->hxhat,
                                           .rstd = run->hrstd});
}

void head_forward(struct model_run *run, const struct model_batch *b)
{
    const struct model_shape *s = &run->e->shape;
    size_t h = s->hidden, n = run->head_rows, bias, decoder = decoder_of(run, &bias);
    const real *hidden = layer_input(run, s->layers);
    struct model_drop drop = run_drop(run, s->layers + 1, SITE_OTHER, s->dropout);
    if (s->task == MODEL_TASK_MASKED) {
        transform(run, b, hidden);
    } else if (s->task == MODEL_TASK_SEQUENCE) {
        pool(run, b, hidden);
        for (size_t i = 0; i < n; i++) {
            /* By the number of the sequence's first row, which does not depend on how a batch is cut. */
            run->k->drop_rows(&drop, run->first_row + b->start[i], 1, h, run->pooled + i * h,
                              run->head_in + i * h);
        }
    } else {
        run->k->drop_rows(&drop, run->first_row, n, h, hidden, run->head_in);
    }
    model_gemm(false, true, n, s->labels, h, 1, run->head_in, h, run_weight(run, decoder), h, 0,
               run->logits, s->labels);
    run->k->add_bias(run->logits, n, s->labels, run_weight(run, bias));
}

/* --- loss ---------------------------------------------------------------------------------------------- */

int32_t head_label(const struct model_run *run, const struct model_batch *b, size_t r)
{
    return b->labels[run->e->shape.task == MODEL_TASK_MASKED ? run->picked[r] : r];
}

void head_loss(const struct model_run *run, const struct model_batch *b, double *ret_sums,
               uint64_t *ret_labelled)
{
    struct sink s = {.run = (struct model_run *)(uintptr_t)run, .batch = b};
    size_t labels = run->e->shape.labels;
    for (size_t group = 0; group < b->groups; group++) {
        size_t from, to;
        sink_rows(&s, group, kind_of(run), &from, &to);
        ret_sums[group] = 0;
        ret_labelled[group] = 0;
        for (size_t r = from; b->labels && r < to; r++) {
            int32_t label = head_label(run, b, r);
            if (label >= 0) {
                ret_sums[group] +=
                    run->k->cross_entropy(run->logits + r * labels, labels, (size_t)label, 0, NULL);
                ret_labelled[group]++;
            }
        }
    }
}

static void loss_backward(struct model_run *run, struct sink *s, const real *scale)
{
    size_t labels = run->e->shape.labels;
    for (size_t group = 0; group < s->batch->groups; group++) {
        size_t from, to;
        sink_rows(s, group, kind_of(run), &from, &to);
        for (size_t r = from; r < to; r++) {
            int32_t label = head_label(run, s->batch, r);
            real *d = run->dlogits + r * labels;
            if (label < 0) {
                memset(d, 0, labels * sizeof *d);
            } else {
                run->k->cross_entropy(run->logits + r * labels, labels, (size_t)label, scale[group],
                                      d);
            }
        }
    }
}

/* --- backward ------------------------------------------------------------------------------------------ */

/* From the gradient of what `dense` gave, in DHEAD, to da. */
static void dense_backward(struct model_run *run, struct sink *s, size_t bias)
{
    size_t h = run->e->shape.hidden, n = run->head_rows;
    enum rows_kind kind = kind_of(run);
    sink_matrix(s, run->e->head, kind, n, h, h, run->first, run->dhead);
    sink_bias(s, bias, kind, run->dhead, h);
    memset(run->da, 0, run->rows * h * sizeof(real));
    if (run->e->shape.training == MODEL_TRAIN_HEAD) {
        return;
    }
    /* pooled is no longer needed. */
    model_gemm(false, false, n, h, h, 1, run->dhead, h, run_weight(run, run->e->head), h, 0,
               run->pooled, h);
    for (size_t i = 0; i < n; i++) {
        memcpy(run->da + row_of(run, s->batch, i) * h, run->pooled + i * h, h * sizeof(real));
    }
}

static void pool_backward(struct model_run *run, struct sink *s)
{
    size_t h = run->e->shape.hidden;
    struct model_drop drop =
        run_drop(run, run->e->shape.layers + 1, SITE_OTHER, run->e->shape.dropout);
    for (size_t i = 0; i < run->head_rows; i++) {
        real *d = run->dhead + i * h, *pooled = run->pooled + i * h;
        run->k->drop_rows(&drop, run->first_row + s->batch->start[i], 1, h, d, d);
        for (size_t j = 0; j < h; j++) {
            d[j] *= 1 - pooled[j] * pooled[j];
        }
    }
    dense_backward(run, s, run->e->head + SEQUENCE_POOLER_B);
}

static void transform_backward(struct model_run *run, struct sink *s)
{
    size_t h = run->e->shape.hidden, norm = run->e->head + MASKED_NORM_W;
    for (size_t group = 0; group < s->batch->groups; group++) {
        size_t from, to;
        sink_rows(s, group, ROWS_PICKED, &from, &to);
        run->k->norm_backward(to - from, h, run->dhead + from * h, run_weight(run, norm),
                              run->hxhat + from * h, run->hrstd + from, run->dhead + from * h,
                              sink_at(s, norm, group), sink_at(s, norm + 1, group));
    }
    run->k->multiply(run->dhead, run->slope, run->head_rows * h);
    dense_backward(run, s, run->e->head + MASKED_DENSE_B);
}

void head_backward(struct model_run *run, struct sink *s, const real *scale)
{
    const struct model_shape *shape = &run->e->shape;
    size_t h = shape->hidden, n = run->head_rows, bias, decoder = decoder_of(run, &bias);
    enum rows_kind kind = kind_of(run);
    loss_backward(run, s, scale);
    sink_matrix(s, decoder, kind, n, shape->labels, h, run->head_in, run->dlogits);
    sink_bias(s, bias, kind, run->dlogits, shape->labels);
    if (shape->task == MODEL_TASK_TOKENS && shape->training == MODEL_TRAIN_HEAD) {
        return;
    }
    real *dx = shape->task == MODEL_TASK_TOKENS ? run->da : run->dhead;
    model_gemm(false, false, n, h, shape->labels, 1, run->dlogits, shape->labels,
               run_weight(run, decoder), h, 0, dx, h);
    if (shape->task == MODEL_TASK_SEQUENCE) {
        pool_backward(run, s);
    } else if (shape->task == MODEL_TASK_MASKED) {
        transform_backward(run, s);
    } else {
        struct model_drop drop = run_drop(run, shape->layers + 1, SITE_OTHER, shape->dropout);
        run->k->drop_rows(&drop, run->first_row, n, h, dx, dx);
    }
}
