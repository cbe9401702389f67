/* Embeddings and layers, forward and backward side by side. */
#include "config.h"
#include "node/model/run.h"

#include <string.h>

/* --- linear layers ------------------------------------------------------------------------------------- */

static size_t adapter_of(const struct model_run *run, size_t layer, enum model_target target)
{
    return run->e->adapter[layer * MODEL_TARGET_COUNT + target];
}

/* y += alpha/rank B (A x); y has rows of ldy. */
static void adapter_forward(struct model_run *run, size_t layer, enum model_target target,
                            const real *x, real *y, size_t ldy)
{
    size_t a = adapter_of(run, layer, target), rank = run->e->shape.rank;
    if (a == MODEL_FROZEN) {
        return;
    }
    size_t in = run->e->tensors[a].cols, out = run->e->tensors[a + 1].rows;
    real *low = run->layers[layer].low[target];
    real scale = (real)(run->e->shape.alpha / run->e->shape.rank);
    model_gemm(false, true, run->rows, rank, in, 1, x, in, run_weight(run, a), in, 0, low, rank);
    model_gemm(false, true, run->rows, out, rank, scale, low, rank, run_weight(run, a + 1), rank, 1,
               y, ldy);
}

/* Adds to the gradients of A and B and, unless NULL, to dx. */
static void adapter_backward(struct model_run *run, struct sink *s, size_t layer,
                             enum model_target target, const real *x, const real *dy, size_t ldy,
                             real *dx)
{
    size_t a = adapter_of(run, layer, target), rank = run->e->shape.rank;
    if (a == MODEL_FROZEN) {
        return;
    }
    size_t in = run->e->tensors[a].cols, out = run->e->tensors[a + 1].rows;
    const real *low = run->layers[layer].low[target];
    real scale = (real)(run->e->shape.alpha / run->e->shape.rank);
    if (dx || run->e->tensors[a].trained_at != MODEL_FROZEN) {
        model_gemm(false, false, run->rows, rank, out, scale, dy, ldy, run_weight(run, a + 1), rank,
                   0, run->dlow, rank);
    }
    for (size_t group = 0; group < s->batch->groups; group++) {
        real *da = sink_at(s, a, group), *db = sink_at(s, a + 1, group);
        size_t from, to;
        sink_rows(s, group, ROWS_BATCH, &from, &to);
        if (to == from) {
            continue;
        }
        model_gemm(true, false, out, rank, to - from, scale, dy + from * ldy, ldy,
                   low + from * rank, rank, 1, db, rank);
        if (da) {
            model_gemm(true, false, rank, in, to - from, 1, run->dlow + from * rank, rank,
                       x + from * in, in, 1, da, in);
        }
    }
    if (dx) {
        model_gemm(false, false, run->rows, in, rank, 1, run->dlow, rank, run_weight(run, a), in, 1,
                   dx, in);
    }
}

/* y = x W^T with W out x in. */
static void linear(const struct model_run *run, size_t tensor, size_t out, size_t in, const real *x,
                   real *y)
{
    model_gemm(false, true, run->rows, out, in, 1, x, in, run_weight(run, tensor), in, 0, y, out);
}

/* dW and db go to the sink; dx = dy W unless NULL. */
static void linear_backward(struct sink *s, size_t weight, size_t bias, size_t out, size_t in,
                            real *x, real *dy, real *dx)
{
    struct model_run *run = s->run;
    sink_matrix(s, weight, ROWS_BATCH, run->rows, out, in, x, dy);
    sink_bias(s, bias, ROWS_BATCH, dy, out);
    if (dx) {
        model_gemm(false, false, run->rows, in, out, 1, dy, out, run_weight(run, weight), in, 0, dx,
                   in);
    }
}

/* --- LayerNorm ----------------------------------------------------------------------------------------- */

/* OUT (a product without its bias) becomes LayerNorm(drop(OUT + bias) + residual). */
static void residual_norm(const struct model_run *run, const struct model_drop *drop, size_t bias,
                          const real *residual, size_t norm, real *out, real *xhat, real *rstd)
{
    run->k->norm(&(struct model_norm_rows){.rows = run->rows,
                                           .cols = run->e->shape.hidden,
                                           .drop = drop,
                                           .first_row = run->first_row,
                                           .bias = run_weight(run, bias),
                                           .residual = residual,
                                           .gamma = run_weight(run, norm),
                                           .beta = run_weight(run, norm + 1),
                                           .eps = run->e->shape.layer_norm_eps,
                                           .out = out,
                                           .xhat = xhat,
                                           .rstd = rstd});
}

/* DX may be DY. */
static void norm_backward(struct sink *s, size_t norm, const real *dy, const real *xhat,
                          const real *rstd, real *dx)
{
    const struct model_run *run = s->run;
    size_t h = run->e->shape.hidden;
    for (size_t group = 0; group < s->batch->groups; group++) {
        size_t from, to;
        sink_rows(s, group, ROWS_BATCH, &from, &to);
        run->k->norm_backward(to - from, h, dy + from * h, run_weight(run, norm), xhat + from * h,
                              rstd + from, dx + from * h, sink_at(s, norm, group),
                              sink_at(s, norm + 1, group));
    }
}

/* --- embeddings ---------------------------------------------------------------------------------------- */

void embed_forward(struct model_run *run, const struct model_batch *b)
{
    const struct model_shape *s = &run->e->shape;
    size_t h = s->hidden;
    struct model_drop drop = run_drop(run, s->layers, SITE_OTHER, s->dropout);
    for (size_t i = 0; i < b->sequences; i++) {
        for (size_t r = b->start[i]; r < b->start[i + 1]; r++) {
            const real *word = run_weight(run, EMBEDDING_WORD) + (size_t)b->ids[r] * h;
            const real *position = run_weight(run, EMBEDDING_POSITION) + (r - b->start[i]) * h;
            const real *type = run_weight(run, EMBEDDING_TYPE) + (b->types ? b->types[r] : 0) * h;
            real *out = run->out + r * h;
            for (size_t j = 0; j < h; j++) {
                out[j] = word[j] + position[j] + type[j];
            }
        }
    }
    run->k->norm(&(struct model_norm_rows){.rows = run->rows,
                                           .cols = h,
                                           .gamma = run_weight(run, EMBEDDING_NORM_W),
                                           .beta = run_weight(run, EMBEDDING_NORM_B),
                                           .eps = s->layer_norm_eps,
                                           .out = run->out,
                                           .xhat = run->xhat,
                                           .rstd = run->rstd});
    run->k->drop_rows(&drop, run->first_row, run->rows, h, run->out, run->out);
}

void embed_backward(struct model_run *run, struct sink *s)
{
    const struct model_shape *shape = &run->e->shape;
    struct model_drop drop = run_drop(run, shape->layers, SITE_OTHER, shape->dropout);
    run->k->drop_rows(&drop, run->first_row, run->rows, shape->hidden, run->da, run->da);
    norm_backward(s, EMBEDDING_NORM_W, run->da, run->xhat, run->rstd, run->db);
    sink_embeddings(s, run->db);
}

/* --- attention ----------------------------------------------------------------------------------------- */

/* One head of one sequence: where its parts start. */
struct head {
    size_t len, dim, h, probs_at;
    size_t qkv_at, context_at;
    uint64_t row, step; /* dropout: number of its first row, and to the next */
    real scale;
};

static void attend(struct model_run *run, struct layer_state *s, const struct model_drop *drop,
                   const struct head *a)
{
    const real *q = s->qkv + a->qkv_at, *k = q + a->h, *v = k + a->h;
    real *p = s->probs + a->probs_at, *used = drop->threshold ? run->square : p;
    model_gemm(false, true, a->len, a->len, a->dim, a->scale, q, 3 * a->h, k, 3 * a->h, 0, p,
               a->len);
    run->k->softmax(p, a->len, a->len, drop, a->row, a->step, used == p ? NULL : used);
    model_gemm(false, false, a->len, a->dim, a->len, 1, used, a->len, v, 3 * a->h, 0,
               s->context + a->context_at, a->h);
}

/* From dcontext (R x H) to dqkv. */
static void attend_backward(struct model_run *run, struct layer_state *s,
                            const struct model_drop *drop, const struct head *a,
                            const real *dcontext)
{
    const real *q = s->qkv + a->qkv_at, *k = q + a->h, *v = k + a->h;
    real *dq = s->dqkv + a->qkv_at, *dk = dq + a->h, *dv = dk + a->h;
    const real *p = s->probs + a->probs_at, *d = dcontext + a->context_at, *used = p;
    for (size_t r = 0; drop->threshold && r < a->len; r++) {
        run->k->drop_rows(drop, a->row + r * a->step, 1, a->len, p + r * a->len,
                          run->square + r * a->len);
        used = run->square;
    }
    model_gemm(true, false, a->len, a->dim, a->len, 1, used, a->len, d, a->h, 0, dv, 3 * a->h);
    model_gemm(false, true, a->len, a->len, a->dim, 1, d, a->h, v, 3 * a->h, 0, run->square,
               a->len);
    run->k->softmax_backward(p, a->len, a->len, drop, a->row, a->step, run->square);
    model_gemm(false, false, a->len, a->dim, a->len, a->scale, run->square, a->len, k, 3 * a->h, 0,
               dq, 3 * a->h);
    model_gemm(true, false, a->len, a->dim, a->len, a->scale, run->square, a->len, q, 3 * a->h, 0,
               dk, 3 * a->h);
}

/* DCONTEXT NULL: forward. */
static void attention(struct model_run *run, const struct model_batch *b, size_t layer,
                      const real *dcontext)
{
    const struct model_shape *s = &run->e->shape;
    struct model_drop drop = run_drop(run, layer, SITE_ATTENTION, s->attention_dropout);
    struct head a = {.h = s->hidden, .dim = s->hidden / s->heads, .step = s->heads};
    a.scale = (real)(1 / sqrt((double)a.dim));
    for (size_t i = 0; i < b->sequences; i++) {
        a.len = b->start[i + 1] - b->start[i];
        for (size_t head = 0; head < s->heads; head++) {
            a.qkv_at = b->start[i] * 3 * a.h + head * a.dim;
            a.context_at = b->start[i] * a.h + head * a.dim;
            a.row = (run->first_row + b->start[i]) * s->heads + head;
            if (dcontext) {
                attend_backward(run, &run->layers[layer], &drop, &a, dcontext);
            } else {
                attend(run, &run->layers[layer], &drop, &a);
            }
            a.probs_at += a.len * a.len;
        }
    }
}

/* --- layers -------------------------------------------------------------------------------------------- */

void layer_forward(struct model_run *run, const struct model_batch *b, size_t layer)
{
    const struct model_shape *shape = &run->e->shape;
    size_t rows = run->rows, h = shape->hidden, inner = shape->inner, t = layer_tensor(layer, 0);
    struct layer_state *s = &run->layers[layer];
    const real *x = layer_input(run, layer);
    struct model_drop drop1 = run_drop(run, layer, SITE_ATTENTION_OUTPUT, shape->dropout);
    struct model_drop drop2 = run_drop(run, layer, SITE_OUTPUT, shape->dropout);
    linear(run, t + LAYER_QUERY_W, 3 * h, h, x, s->qkv);
    run->k->add_bias(s->qkv, rows, 3 * h, run_weight(run, t + LAYER_QUERY_B));
    adapter_forward(run, layer, MODEL_TARGET_QUERY, x, s->qkv, 3 * h);
    adapter_forward(run, layer, MODEL_TARGET_KEY, x, s->qkv + h, 3 * h);
    adapter_forward(run, layer, MODEL_TARGET_VALUE, x, s->qkv + 2 * h, 3 * h);
    attention(run, b, layer, NULL);
    linear(run, t + LAYER_ATTENTION_W, h, h, s->context, s->out1);
    adapter_forward(run, layer, MODEL_TARGET_ATTENTION_OUTPUT, s->context, s->out1, h);
    residual_norm(run, &drop1, t + LAYER_ATTENTION_B, x, t + LAYER_NORM1_W, s->out1, s->xhat1,
                  s->rstd1);
    linear(run, t + LAYER_INNER_W, inner, h, s->out1, s->slope);
    adapter_forward(run, layer, MODEL_TARGET_INTERMEDIATE, s->out1, s->slope, inner);
    run->k->gelu(run_weight(run, t + LAYER_INNER_B), rows, inner, s->slope, s->act);
    linear(run, t + LAYER_OUTPUT_W, h, inner, s->act, s->out2);
    adapter_forward(run, layer, MODEL_TARGET_OUTPUT, s->act, s->out2, h);
    residual_norm(run, &drop2, t + LAYER_OUTPUT_B, s->out1, t + LAYER_NORM2_W, s->out2, s->xhat2,
                  s->rstd2);
}

/* The three products of query, key and value as one: their weights and gradients stand together. */
static void qkv_backward(struct model_run *run, struct sink *s, size_t layer, real *dx)
{
    size_t h = run->e->shape.hidden, t = layer_tensor(layer, 0);
    real *x = (real *)(uintptr_t)layer_input(run, layer), *dqkv = run->layers[layer].dqkv;
    linear_backward(s, t + LAYER_QUERY_W, t + LAYER_QUERY_B, 3 * h, h, x, dqkv, dx);
    adapter_backward(run, s, layer, MODEL_TARGET_QUERY, x, dqkv, 3 * h, dx);
    adapter_backward(run, s, layer, MODEL_TARGET_KEY, x, dqkv + h, 3 * h, dx);
    adapter_backward(run, s, layer, MODEL_TARGET_VALUE, x, dqkv + 2 * h, 3 * h, dx);
}

void layer_backward(struct model_run *run, struct sink *s, size_t layer)
{
    const struct model_shape *shape = &run->e->shape;
    size_t rows = run->rows, h = shape->hidden, inner = shape->inner, t = layer_tensor(layer, 0);
    struct layer_state *l = &run->layers[layer];
    struct model_drop drop1 = run_drop(run, layer, SITE_ATTENTION_OUTPUT, shape->dropout);
    struct model_drop drop2 = run_drop(run, layer, SITE_OUTPUT, shape->dropout);
    norm_backward(s, t + LAYER_NORM2_W, run->da, l->xhat2, l->rstd2, run->db);
    run->k->drop_rows(&drop2, run->first_row, rows, h, run->db, l->doutput);
    linear_backward(s, t + LAYER_OUTPUT_W, t + LAYER_OUTPUT_B, h, inner, l->act, l->doutput,
                    l->dinner);
    adapter_backward(run, s, layer, MODEL_TARGET_OUTPUT, l->act, l->doutput, h, l->dinner);
    run->k->multiply(l->dinner, l->slope, rows * inner);
    linear_backward(s, t + LAYER_INNER_W, t + LAYER_INNER_B, inner, h, l->out1, l->dinner, run->da);
    adapter_backward(run, s, layer, MODEL_TARGET_INTERMEDIATE, l->out1, l->dinner, inner, run->da);
    run->k->add(run->da, run->db, rows * h);
    norm_backward(s, t + LAYER_NORM1_W, run->da, l->xhat1, l->rstd1, run->db);
    run->k->drop_rows(&drop1, run->first_row, rows, h, run->db, l->dattention);
    linear_backward(s, t + LAYER_ATTENTION_W, t + LAYER_ATTENTION_B, h, h, l->context,
                    l->dattention, run->da);
    adapter_backward(run, s, layer, MODEL_TARGET_ATTENTION_OUTPUT, l->context, l->dattention, h,
                     run->da);
    attention(run, s->batch, layer, run->da);
    bool below = layer > 0 || shape->training == MODEL_TRAIN_FULL;
    qkv_backward(run, s, layer, below ? run->da : NULL);
    if (below) {
        run->k->add(run->da, run->db, rows * h);
    }
}
