/* Forward and backward, side by side for each kernel. R rows, H hidden, I inner, L rows of a sequence, d = H / heads.
 * A `run` carves its buffers from one block, which grows to the largest batch seen. */
#include "config.h"
#include "node/model/encoder_internal.h"

#include <string.h>

#include "node/model/gemm.h"

/* Sites of dropout in a layer; the embeddings and the head use the layer numbers after the last. */
enum site {
    SITE_ATTENTION,
    SITE_ATTENTION_OUTPUT,
    SITE_OUTPUT,
    SITE_OTHER,
    SITE_COUNT
};

struct layer_state {
    real *qkv;                     /* R x 3H: query, key, value side by side */
    real *probs;                   /* sum over sequences and heads of L x L, before dropout */
    real *context;                 /* R x H */
    real *xhat1, *rstd1, *out1;    /* first LayerNorm: R x H, R, R x H */
    real *pre, *act;               /* R x I: before and after GELU */
    real *xhat2, *rstd2, *out2;    /* second LayerNorm */
    real *low[MODEL_TARGET_COUNT]; /* R x rank: A x of each adapter */
};

struct model_run {
    const struct model_encoder *e;
    real *block;
    size_t block_count;
    size_t rows, longest, probs;
    uint64_t dropout_seed;
    real *xhat, *rstd, *out; /* embeddings */
    struct layer_state layers[MODEL_LAYERS_MAX];
    real *first, *pooled; /* sequences x H */
    real *head_in;        /* R (or sequences) x H: input of the classifier after dropout */
    real *logits, *dlogits;
    /* scratch */
    real *da, *db, *dc; /* R x H */
    real *dqkv, *dinner;
    real *square1, *square2; /* longest x longest */
    real *dlow;              /* R x rank */
};

struct carve {
    real *base; /* NULL while counting */
    size_t at;
};

static real *take(struct carve *c, size_t count)
{
    real *p = c->base ? c->base + c->at : NULL;
    c->at += (count + 15) & ~(size_t)15;
    return p;
}

static void carve_layer(struct model_run *run, struct layer_state *s, size_t layer, struct carve *c)
{
    const struct model_shape *shape = &run->e->shape;
    size_t rows = run->rows, h = shape->hidden;
    s->qkv = take(c, rows * 3 * h);
    s->probs = take(c, run->probs);
    s->context = take(c, rows * h);
    s->xhat1 = take(c, rows * h);
    s->rstd1 = take(c, rows);
    s->out1 = take(c, rows * h);
    s->pre = take(c, rows * shape->inner);
    s->act = take(c, rows * shape->inner);
    s->xhat2 = take(c, rows * h);
    s->rstd2 = take(c, rows);
    s->out2 = take(c, rows * h);
    for (size_t t = 0; t < MODEL_TARGET_COUNT; t++) {
        bool adapted = run->e->adapter[layer * MODEL_TARGET_COUNT + t] != MODEL_FROZEN;
        s->low[t] = take(c, adapted ? rows * shape->rank : 0);
    }
}

static void carve_all(struct model_run *run, struct carve *c)
{
    const struct model_shape *s = &run->e->shape;
    size_t rows = run->rows, h = s->hidden;
    run->xhat = take(c, rows * h);
    run->rstd = take(c, rows);
    run->out = take(c, rows * h);
    for (size_t layer = 0; layer < s->layers; layer++) {
        carve_layer(run, &run->layers[layer], layer, c);
    }
    run->first = take(c, rows * h);
    run->pooled = take(c, rows * h);
    run->head_in = take(c, rows * h);
    run->logits = take(c, rows * s->labels);
    run->dlogits = take(c, rows * s->labels);
    run->da = take(c, rows * h);
    run->db = take(c, rows * h);
    run->dc = take(c, rows * h);
    run->dqkv = take(c, rows * 3 * h);
    run->dinner = take(c, rows * s->inner);
    run->square1 = take(c, run->longest * run->longest);
    run->square2 = take(c, run->longest * run->longest);
    run->dlow = take(c, model_shape_adapted(s) ? rows * s->rank : 0);
}

struct model_run *model_run_new(const struct model_encoder *encoder)
{
    struct model_run *run = proto_alloc(1, sizeof *run);
    if (run) {
        run->e = encoder;
    }
    return run;
}

void model_run_free(struct model_run *run)
{
    if (run) {
        proto_free(run->block);
        proto_free(run);
    }
}

/* --- batches ------------------------------------------------------------------------------------------- */

static enum err check_rows(const struct model_shape *s, const struct model_batch *b, size_t rows,
                           struct err_info *reterr)
{
    size_t labels = s->task == MODEL_TASK_TOKENS ? rows : b->sequences;
    for (size_t i = 0; i < rows; i++) {
        if (b->ids[i] >= s->vocabulary || (b->types && b->types[i] >= s->types)) {
            return proto_err_set(reterr, E_INVALID,
                                 "model: row %zu has a piece or type outside the vocabulary", i);
        }
    }
    for (size_t i = 0; b->labels && i < labels; i++) {
        if (b->labels[i] >= (int32_t)s->labels) {
            return proto_err_set(reterr, E_INVALID, "model: label %zu is outside the label set", i);
        }
    }
    return E_OK;
}

static enum err check_batch(const struct model_shape *s, const struct model_batch *b,
                            struct err_info *reterr)
{
    if (b->sequences == 0 || b->start[0] != 0 || b->groups == 0 ||
        (!b->group_at && b->groups != 1) ||
        (b->group_at && (b->group_at[0] != 0 || b->group_at[b->groups] != b->sequences))) {
        return proto_err_set(reterr, E_INVALID,
                             "model: a batch needs sequences, and groups of all of them");
    }
    for (size_t g = 0; b->group_at && g < b->groups; g++) {
        if (b->group_at[g] > b->group_at[g + 1]) {
            return proto_err_set(reterr, E_INVALID, "model: the groups are not in order");
        }
    }
    for (size_t i = 0; i < b->sequences; i++) {
        if (b->start[i + 1] <= b->start[i] || b->start[i + 1] - b->start[i] > s->positions) {
            return proto_err_set(reterr, E_INVALID,
                                 "model: sequence %zu is empty or longer than %u", i, s->positions);
        }
        if (b->start[i + 1] > MODEL_ROWS_MAX) {
            return proto_err_set(reterr, E_LIMIT, "model: more than %u rows in a batch",
                                 MODEL_ROWS_MAX);
        }
    }
    return check_rows(s, b, b->start[b->sequences], reterr);
}

static enum err prepare(struct model_run *run, const struct model_batch *b, struct err_info *reterr)
{
    enum err err = check_batch(&run->e->shape, b, reterr);
    if (err) {
        return err;
    }
    run->rows = b->start[b->sequences];
    run->longest = 0;
    run->probs = 0;
    run->dropout_seed = b->dropout_seed;
    for (size_t i = 0; i < b->sequences; i++) {
        size_t len = b->start[i + 1] - b->start[i];
        run->longest = len > run->longest ? len : run->longest;
        run->probs += len * len * run->e->shape.heads;
    }
    struct carve count = {0};
    carve_all(run, &count);
    if (count.at > run->block_count) {
        proto_free(run->block);
        run->block = proto_alloc(count.at, sizeof *run->block);
        run->block_count = run->block ? count.at : 0;
        if (!run->block) {
            return proto_err_set(reterr, E_NO_MEMORY, "model: no memory for a batch of %zu rows",
                                 run->rows);
        }
    }
    struct carve place = {.base = run->block};
    carve_all(run, &place);
    return E_OK;
}

/* First and last row of a group: rows of tokens, or one for each sequence. */
static void group_rows(const struct model_batch *b, size_t group, bool per_sequence,
                       size_t *ret_from, size_t *ret_to)
{
    size_t from = b->group_at ? b->group_at[group] : 0;
    size_t to = b->group_at ? b->group_at[group + 1] : b->sequences;
    *ret_from = per_sequence ? from : b->start[from];
    *ret_to = per_sequence ? to : b->start[to];
}

static const real *weight(const struct model_run *run, size_t tensor)
{
    return run->e->weights + run->e->tensors[tensor].at;
}

/* Gradients of all groups: one vector of trained numbers after the other. */
struct grads {
    const struct model_run *run;
    const struct model_batch *batch;
    real *all;
    bool per_sequence; /* rows are sequences */
};

/* NULL for a frozen tensor. */
static real *grad(const struct grads *g, size_t tensor, size_t group)
{
    size_t at = g->run->e->tensors[tensor].trained_at;
    return at == MODEL_FROZEN ? NULL : g->all + group * g->run->e->trained_count + at;
}

/* --- dropout ------------------------------------------------------------------------------------------- */

struct drop {
    uint64_t key;
    uint32_t threshold; /* of 65536; 0 keeps all */
    real scale;
};

static struct drop drop_at(const struct model_run *run, size_t layer, enum site site, double p)
{
    struct drop d = {0};
    if (run->dropout_seed == 0 || !(p > 0)) {
        return d;
    }
    d.key = model_mix(run->dropout_seed + model_mix(layer * SITE_COUNT + site + 1));
    d.threshold = (uint32_t)lrint(p * 65536);
    d.scale = (real)(65536.0 / (65536.0 - d.threshold));
    return d;
}

/* Drops elements FIRST, FIRST + 1, .. of the site; FROM and TO may be the same. */
static void drop_apply(const struct drop *d, size_t first, const real *from, real *to, size_t count)
{
    if (d->threshold == 0) {
        if (from != to) {
            memcpy(to, from, count * sizeof *to);
        }
        return;
    }
    uint64_t bits = 0;
    for (size_t i = 0; i < count; i++) {
        size_t at = first + i;
        if (i == 0 || (at & 3) == 0) {
            bits = model_mix(d->key + (at >> 2) * UINT64_C(0x9e3779b97f4a7c15)) >> 16 * (at & 3);
        }
        to[i] = (bits & 0xffff) < d->threshold ? 0 : from[i] * d->scale;
        bits >>= 16;
    }
}

/* --- linear layers ------------------------------------------------------------------------------------- */

static void add_bias(real *y, size_t rows, size_t out, const real *bias)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t j = 0; j < out; j++) {
            y[r * out + j] += bias[j];
        }
    }
}

/* db += sum of rows of dy. */
static void bias_backward(const struct grads *g, size_t tensor, const real *dy, size_t out)
{
    for (size_t group = 0; group < g->batch->groups; group++) {
        real *d = grad(g, tensor, group);
        size_t from, to;
        group_rows(g->batch, group, g->per_sequence, &from, &to);
        for (size_t r = from; d && r < to; r++) {
            for (size_t j = 0; j < out; j++) {
                d[j] += dy[r * out + j];
            }
        }
    }
}

/* dW += dy^T x, for each group its own rows; dx = dy W unless NULL. W is out x in. */
static void linear_backward(const struct grads *g, size_t tensor, size_t rows, size_t out,
                            size_t in, const real *x, const real *dy, real *dx)
{
    for (size_t group = 0; group < g->batch->groups; group++) {
        real *d = grad(g, tensor, group);
        size_t from, to;
        group_rows(g->batch, group, g->per_sequence, &from, &to);
        if (d && to > from) {
            model_gemm(true, false, out, in, to - from, 1, dy + from * out, out, x + from * in, in,
                       1, d, in);
        }
    }
    if (dx) {
        model_gemm(false, false, rows, in, out, 1, dy, out, weight(g->run, tensor), in, 0, dx, in);
    }
}

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
    model_gemm(false, true, run->rows, rank, in, 1, x, in, weight(run, a), in, 0, low, rank);
    model_gemm(false, true, run->rows, out, rank, scale, low, rank, weight(run, a + 1), rank, 1, y,
               ldy);
}

/* Adds to the gradients of A and B and, unless NULL, to dx. */
static void adapter_backward(struct model_run *run, const struct grads *g, size_t layer,
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
        model_gemm(false, false, run->rows, rank, out, scale, dy, ldy, weight(run, a + 1), rank, 0,
                   run->dlow, rank);
    }
    for (size_t group = 0; group < g->batch->groups; group++) {
        real *da = grad(g, a, group), *db = grad(g, a + 1, group);
        size_t from, to;
        group_rows(g->batch, group, false, &from, &to);
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
        model_gemm(false, false, run->rows, in, rank, 1, run->dlow, rank, weight(run, a), in, 1, dx,
                   in);
    }
}

/* --- LayerNorm ----------------------------------------------------------------------------------------- */

/* out = gamma xhat + beta with xhat = (x - mean) / sqrt(var + eps); x is given in OUT and replaced. */
static void norm_row(const real *gamma, const real *beta, size_t h, double eps, real *out,
                     real *xhat, real *rstd)
{
    real sum = 0, square = 0;
    for (size_t j = 0; j < h; j++) {
        sum += out[j];
    }
    real mean = sum / (real)h;
    for (size_t j = 0; j < h; j++) {
        real c = out[j] - mean;
        square += c * c;
    }
    *rstd = 1 / real_sqrt(square / (real)h + (real)eps);
    for (size_t j = 0; j < h; j++) {
        xhat[j] = (out[j] - mean) * *rstd;
        out[j] = gamma[j] * xhat[j] + beta[j];
    }
}

/* OUT (a product without its bias) becomes LayerNorm(drop(OUT + bias) + residual). */
static void residual_norm(const struct model_run *run, const struct drop *drop, const real *bias,
                          const real *residual, size_t norm, real *out, real *xhat, real *rstd)
{
    size_t h = run->e->shape.hidden;
    for (size_t r = 0; r < run->rows; r++) {
        real *row = out + r * h;
        for (size_t j = 0; j < h; j++) {
            row[j] += bias[j];
        }
        drop_apply(drop, r * h, row, row, h);
        for (size_t j = 0; j < h; j++) {
            row[j] += residual[r * h + j];
        }
        norm_row(weight(run, norm), weight(run, norm + 1), h, run->e->shape.layer_norm_eps, row,
                 xhat + r * h, rstd + r);
    }
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy gamma; adds to the gradients of gamma and beta. */
static void norm_backward(const struct grads *g, size_t norm, const real *dy, const real *xhat,
                          const real *rstd, real *dx)
{
    const struct model_run *run = g->run;
    size_t h = run->e->shape.hidden;
    const real *gamma = weight(run, norm);
    for (size_t r = 0; r < run->rows; r++) {
        const real *d = dy + r * h, *x = xhat + r * h;
        real sum = 0, dot = 0;
        for (size_t j = 0; j < h; j++) {
            real v = d[j] * gamma[j];
            sum += v;
            dot += v * x[j];
        }
        sum /= (real)h;
        dot /= (real)h;
        for (size_t j = 0; j < h; j++) {
            dx[r * h + j] = rstd[r] * (d[j] * gamma[j] - sum - x[j] * dot);
        }
    }
    for (size_t group = 0; group < g->batch->groups; group++) {
        real *dgamma = grad(g, norm, group), *dbeta = grad(g, norm + 1, group);
        size_t from, to;
        group_rows(g->batch, group, false, &from, &to);
        for (size_t r = from; dgamma && r < to; r++) {
            for (size_t j = 0; j < h; j++) {
                dgamma[j] += dy[r * h + j] * xhat[r * h + j];
                dbeta[j] += dy[r * h + j];
            }
        }
    }
}

/* --- embeddings ---------------------------------------------------------------------------------------- */

static void embed(struct model_run *run, const struct model_batch *b)
{
    const struct model_shape *s = &run->e->shape;
    size_t h = s->hidden;
    struct drop drop = drop_at(run, s->layers, SITE_OTHER, s->dropout);
    for (size_t i = 0; i < b->sequences; i++) {
        for (size_t r = b->start[i]; r < b->start[i + 1]; r++) {
            const real *word = weight(run, EMBEDDING_WORD) + (size_t)b->ids[r] * h;
            const real *position = weight(run, EMBEDDING_POSITION) + (r - b->start[i]) * h;
            const real *type = weight(run, EMBEDDING_TYPE) + (b->types ? b->types[r] : 0) * h;
            real *out = run->out + r * h;
            for (size_t j = 0; j < h; j++) {
                out[j] = word[j] + position[j] + type[j];
            }
            norm_row(weight(run, EMBEDDING_NORM_W), weight(run, EMBEDDING_NORM_B), h,
                     s->layer_norm_eps, out, run->xhat + r * h, run->rstd + r);
            drop_apply(&drop, r * h, out, out, h);
        }
    }
}

static void add_row(real *to, const real *from, size_t h)
{
    for (size_t j = 0; j < h; j++) {
        to[j] += from[j];
    }
}

/* From da, the gradient of the embeddings' output. */
static void embed_backward(struct model_run *run, const struct grads *g)
{
    const struct model_shape *s = &run->e->shape;
    const struct model_batch *b = g->batch;
    size_t h = s->hidden;
    struct drop drop = drop_at(run, s->layers, SITE_OTHER, s->dropout);
    drop_apply(&drop, 0, run->da, run->da, run->rows * h);
    norm_backward(g, EMBEDDING_NORM_W, run->da, run->xhat, run->rstd, run->db);
    for (size_t group = 0; group < b->groups; group++) {
        size_t from, to;
        group_rows(b, group, true, &from, &to);
        for (size_t i = from; i < to; i++) {
            for (size_t r = b->start[i]; r < b->start[i + 1]; r++) {
                const real *d = run->db + r * h;
                add_row(grad(g, EMBEDDING_WORD, group) + (size_t)b->ids[r] * h, d, h);
                add_row(grad(g, EMBEDDING_POSITION, group) + (r - b->start[i]) * h, d, h);
                add_row(grad(g, EMBEDDING_TYPE, group) + (b->types ? b->types[r] : 0) * h, d, h);
            }
        }
    }
}

/* --- attention ----------------------------------------------------------------------------------------- */

static void softmax_rows(real *p, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++, p += cols) {
        real max = p[0], sum = 0;
        for (size_t j = 1; j < cols; j++) {
            max = p[j] > max ? p[j] : max;
        }
        for (size_t j = 0; j < cols; j++) {
            p[j] = real_exp_negative(p[j] - max);
            sum += p[j];
        }
        real inverse = 1 / sum;
        for (size_t j = 0; j < cols; j++) {
            p[j] *= inverse;
        }
    }
}

/* One head of one sequence: where its parts start. */
struct head {
    size_t len, dim, h, probs_at;
    size_t qkv_at, context_at;
    real scale;
};

static void head_forward(struct model_run *run, struct layer_state *s, const struct drop *drop,
                         const struct head *a)
{
    const real *q = s->qkv + a->qkv_at, *k = q + a->h, *v = k + a->h;
    real *p = s->probs + a->probs_at, *used = p;
    model_gemm(false, true, a->len, a->len, a->dim, a->scale, q, 3 * a->h, k, 3 * a->h, 0, p,
               a->len);
    softmax_rows(p, a->len, a->len);
    if (drop->threshold > 0) {
        used = run->square1;
        drop_apply(drop, a->probs_at, p, used, a->len * a->len);
    }
    model_gemm(false, false, a->len, a->dim, a->len, 1, used, a->len, v, 3 * a->h, 0,
               s->context + a->context_at, a->h);
}

/* From dcontext (R x H) to dqkv. */
static void head_backward(struct model_run *run, struct layer_state *s, const struct drop *drop,
                          const struct head *a, const real *dcontext)
{
    const real *q = s->qkv + a->qkv_at, *k = q + a->h, *v = k + a->h;
    real *dq = run->dqkv + a->qkv_at, *dk = dq + a->h, *dv = dk + a->h;
    const real *p = s->probs + a->probs_at, *d = dcontext + a->context_at;
    real *ds = run->square2;
    drop_apply(drop, a->probs_at, p, run->square1, a->len * a->len);
    model_gemm(true, false, a->len, a->dim, a->len, 1, run->square1, a->len, d, a->h, 0, dv,
               3 * a->h);
    model_gemm(false, true, a->len, a->len, a->dim, 1, d, a->h, v, 3 * a->h, 0, ds, a->len);
    drop_apply(drop, a->probs_at, ds, ds, a->len * a->len);
    for (size_t r = 0; r < a->len; r++) {
        const real *pr = p + r * a->len;
        real *dr = ds + r * a->len, dot = 0;
        for (size_t j = 0; j < a->len; j++) {
            dot += pr[j] * dr[j];
        }
        for (size_t j = 0; j < a->len; j++) {
            dr[j] = pr[j] * (dr[j] - dot);
        }
    }
    model_gemm(false, false, a->len, a->dim, a->len, a->scale, ds, a->len, k, 3 * a->h, 0, dq,
               3 * a->h);
    model_gemm(true, false, a->len, a->dim, a->len, a->scale, ds, a->len, q, 3 * a->h, 0, dk,
               3 * a->h);
}

/* DCONTEXT NULL: forward. */
static void attention(struct model_run *run, const struct model_batch *b, size_t layer,
                      const real *dcontext)
{
    const struct model_shape *s = &run->e->shape;
    struct drop drop = drop_at(run, layer, SITE_ATTENTION, s->attention_dropout);
    struct head a = {.h = s->hidden, .dim = s->hidden / s->heads};
    a.scale = (real)(1 / sqrt((double)a.dim));
    for (size_t i = 0; i < b->sequences; i++) {
        a.len = b->start[i + 1] - b->start[i];
        for (size_t head = 0; head < s->heads; head++) {
            a.qkv_at = b->start[i] * 3 * a.h + head * a.dim;
            a.context_at = b->start[i] * a.h + head * a.dim;
            if (dcontext) {
                head_backward(run, &run->layers[layer], &drop, &a, dcontext);
            } else {
                head_forward(run, &run->layers[layer], &drop, &a);
            }
            a.probs_at += a.len * a.len;
        }
    }
}

/* --- layers -------------------------------------------------------------------------------------------- */

#define SQRT_HALF        0.70710678118654752440
#define INVERSE_SQRT_2PI 0.39894228040143267794 /* 1 / sqrt(2 pi) */

/* PRE becomes GELU's derivative at PRE + bias, which is all that backward needs. In float, erf is the rational form of
 * Abramowitz and Stegun 7.1.26 (error below 2e-7), since its exponential is the derivative's as well. */
static void gelu(const real *bias, size_t rows, size_t cols, real *pre, real *act)
{
    for (size_t r = 0; r < rows; r++) {
        real *restrict p = pre + r * cols, *restrict a = act + r * cols;
        const real *restrict b = bias;
        for (size_t j = 0; j < cols; j++) {
            real x = p[j] + b[j];
            real e = real_exp_negative((real)-0.5 * x * x);
#ifdef MODEL_DOUBLE
            real cdf = 0.5 * (1 + erf(x * SQRT_HALF));
#else
            float z = fabsf(x) * (real)SQRT_HALF;
            float t = 1 / (1 + 0.3275911f * z);
            float tail =
                t *
                (0.254829592f +
                 t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
            real cdf = x < 0 ? 0.5f * tail * e : 1 - 0.5f * tail * e;
#endif
            a[j] = x * cdf;
            p[j] = cdf + x * (real)INVERSE_SQRT_2PI * e;
        }
    }
}

static void gelu_backward(const real *derivative, size_t count, real *d)
{
    for (size_t i = 0; i < count; i++) {
        d[i] *= derivative[i];
    }
}

static const real *layer_input(const struct model_run *run, size_t layer)
{
    return layer ? run->layers[layer - 1].out2 : run->out;
}

static void layer_forward(struct model_run *run, const struct model_batch *b, size_t layer)
{
    const struct model_shape *shape = &run->e->shape;
    size_t rows = run->rows, h = shape->hidden, inner = shape->inner;
    struct layer_state *s = &run->layers[layer];
    const real *x = layer_input(run, layer);
    struct drop drop1 = drop_at(run, layer, SITE_ATTENTION_OUTPUT, shape->dropout);
    struct drop drop2 = drop_at(run, layer, SITE_OUTPUT, shape->dropout);
    size_t t = layer_tensor(layer, 0);
    model_gemm(false, true, rows, 3 * h, h, 1, x, h, weight(run, t + LAYER_QUERY_W), h, 0, s->qkv,
               3 * h);
    add_bias(s->qkv, rows, 3 * h, weight(run, t + LAYER_QUERY_B));
    adapter_forward(run, layer, MODEL_TARGET_QUERY, x, s->qkv, 3 * h);
    adapter_forward(run, layer, MODEL_TARGET_KEY, x, s->qkv + h, 3 * h);
    adapter_forward(run, layer, MODEL_TARGET_VALUE, x, s->qkv + 2 * h, 3 * h);
    attention(run, b, layer, NULL);
    model_gemm(false, true, rows, h, h, 1, s->context, h, weight(run, t + LAYER_ATTENTION_W), h, 0,
               s->out1, h);
    adapter_forward(run, layer, MODEL_TARGET_ATTENTION_OUTPUT, s->context, s->out1, h);
    residual_norm(run, &drop1, weight(run, t + LAYER_ATTENTION_B), x, t + LAYER_NORM1_W, s->out1,
                  s->xhat1, s->rstd1);
    model_gemm(false, true, rows, inner, h, 1, s->out1, h, weight(run, t + LAYER_INNER_W), h, 0,
               s->pre, inner);
    adapter_forward(run, layer, MODEL_TARGET_INTERMEDIATE, s->out1, s->pre, inner);
    gelu(weight(run, t + LAYER_INNER_B), rows, inner, s->pre, s->act);
    model_gemm(false, true, rows, h, inner, 1, s->act, inner, weight(run, t + LAYER_OUTPUT_W),
               inner, 0, s->out2, h);
    adapter_forward(run, layer, MODEL_TARGET_OUTPUT, s->act, s->out2, h);
    residual_norm(run, &drop2, weight(run, t + LAYER_OUTPUT_B), s->out1, t + LAYER_NORM2_W, s->out2,
                  s->xhat2, s->rstd2);
}

/* The three products of query, key and value as one: their weights and gradients stand together. */
static void qkv_backward(struct model_run *run, const struct grads *g, size_t layer, real *dx)
{
    size_t h = run->e->shape.hidden, t = layer_tensor(layer, 0);
    const real *x = layer_input(run, layer);
    linear_backward(g, t + LAYER_QUERY_W, run->rows, 3 * h, h, x, run->dqkv, dx);
    bias_backward(g, t + LAYER_QUERY_B, run->dqkv, 3 * h);
    adapter_backward(run, g, layer, MODEL_TARGET_QUERY, x, run->dqkv, 3 * h, dx);
    adapter_backward(run, g, layer, MODEL_TARGET_KEY, x, run->dqkv + h, 3 * h, dx);
    adapter_backward(run, g, layer, MODEL_TARGET_VALUE, x, run->dqkv + 2 * h, 3 * h, dx);
}

/* From da, the gradient of the layer's output, to da, that of its input (not computed where nothing below is trained). */
static void layer_backward(struct model_run *run, const struct grads *g, size_t layer)
{
    const struct model_shape *shape = &run->e->shape;
    size_t rows = run->rows, h = shape->hidden, inner = shape->inner, t = layer_tensor(layer, 0);
    struct layer_state *s = &run->layers[layer];
    struct drop drop1 = drop_at(run, layer, SITE_ATTENTION_OUTPUT, shape->dropout);
    struct drop drop2 = drop_at(run, layer, SITE_OUTPUT, shape->dropout);
    norm_backward(g, t + LAYER_NORM2_W, run->da, s->xhat2, s->rstd2, run->db);
    drop_apply(&drop2, 0, run->db, run->dc, rows * h);
    linear_backward(g, t + LAYER_OUTPUT_W, rows, h, inner, s->act, run->dc, run->dinner);
    bias_backward(g, t + LAYER_OUTPUT_B, run->dc, h);
    adapter_backward(run, g, layer, MODEL_TARGET_OUTPUT, s->act, run->dc, h, run->dinner);
    gelu_backward(s->pre, rows * inner, run->dinner);
    linear_backward(g, t + LAYER_INNER_W, rows, inner, h, s->out1, run->dinner, run->da);
    bias_backward(g, t + LAYER_INNER_B, run->dinner, inner);
    adapter_backward(run, g, layer, MODEL_TARGET_INTERMEDIATE, s->out1, run->dinner, inner,
                     run->da);
    add_row(run->da, run->db, rows * h);
    norm_backward(g, t + LAYER_NORM1_W, run->da, s->xhat1, s->rstd1, run->db);
    drop_apply(&drop1, 0, run->db, run->dc, rows * h);
    linear_backward(g, t + LAYER_ATTENTION_W, rows, h, h, s->context, run->dc, run->da);
    bias_backward(g, t + LAYER_ATTENTION_B, run->dc, h);
    adapter_backward(run, g, layer, MODEL_TARGET_ATTENTION_OUTPUT, s->context, run->dc, h, run->da);
    attention(run, g->batch, layer, run->da);
    bool below = layer > 0 || shape->training == MODEL_TRAIN_FULL;
    qkv_backward(run, g, layer, below ? run->da : NULL);
    if (below) {
        add_row(run->da, run->db, rows * h);
    }
}

/* --- heads --------------------------------------------------------------------------------------------- */

static size_t head_rows(const struct model_run *run, const struct model_batch *b)
{
    return run->e->shape.task == MODEL_TASK_TOKENS ? run->rows : b->sequences;
}

static void pool(struct model_run *run, const struct model_batch *b, const real *hidden)
{
    size_t h = run->e->shape.hidden;
    for (size_t i = 0; i < b->sequences; i++) {
        memcpy(run->first + i * h, hidden + (size_t)b->start[i] * h, h * sizeof(real));
    }
    model_gemm(false, true, b->sequences, h, h, 1, run->first, h, weight(run, run->e->head), h, 0,
               run->pooled, h);
    add_bias(run->pooled, b->sequences, h, weight(run, run->e->head + 1));
    for (size_t i = 0; i < b->sequences * h; i++) {
        run->pooled[i] = real_tanh(run->pooled[i]);
    }
}

static void classify(struct model_run *run, const struct model_batch *b)
{
    const struct model_shape *s = &run->e->shape;
    size_t h = s->hidden, rows = head_rows(run, b);
    const real *hidden = layer_input(run, s->layers);
    bool sequence = s->task == MODEL_TASK_SEQUENCE;
    size_t classifier = run->e->head + (sequence ? 2 : 0);
    struct drop drop = drop_at(run, s->layers + 1, SITE_OTHER, s->dropout);
    if (sequence) {
        pool(run, b, hidden);
    }
    drop_apply(&drop, 0, sequence ? run->pooled : hidden, run->head_in, rows * h);
    model_gemm(false, true, rows, s->labels, h, 1, run->head_in, h, weight(run, classifier), h, 0,
               run->logits, s->labels);
    add_bias(run->logits, rows, s->labels, weight(run, classifier + 1));
}

/* From dlogits to da. */
static void classify_backward(struct model_run *run, struct grads *g)
{
    const struct model_shape *s = &run->e->shape;
    size_t h = s->hidden, rows = head_rows(run, g->batch);
    bool sequence = s->task == MODEL_TASK_SEQUENCE;
    size_t classifier = run->e->head + (sequence ? 2 : 0);
    struct drop drop = drop_at(run, s->layers + 1, SITE_OTHER, s->dropout);
    real *dx = sequence ? run->db : run->da;
    g->per_sequence = sequence;
    linear_backward(g, classifier, rows, s->labels, h, run->head_in, run->dlogits, dx);
    bias_backward(g, classifier + 1, run->dlogits, s->labels);
    drop_apply(&drop, 0, dx, dx, rows * h);
    if (sequence) {
        for (size_t i = 0; i < rows * h; i++) {
            dx[i] *= 1 - run->pooled[i] * run->pooled[i];
        }
        linear_backward(g, run->e->head, rows, h, h, run->first, dx, run->dc);
        bias_backward(g, run->e->head + 1, dx, h);
        memset(run->da, 0, run->rows * h * sizeof(real));
        for (size_t i = 0; i < rows; i++) {
            memcpy(run->da + (size_t)g->batch->start[i] * h, run->dc + i * h, h * sizeof(real));
        }
    }
    g->per_sequence = false;
}

/* --- the whole ----------------------------------------------------------------------------------------- */

enum err model_run_forward(struct model_run *run, const struct model_batch *batch,
                           struct err_info *reterr)
{
    enum err err = prepare(run, batch, reterr);
    if (err) {
        return err;
    }
    embed(run, batch);
    for (size_t layer = 0; layer < run->e->shape.layers; layer++) {
        layer_forward(run, batch, layer);
    }
    classify(run, batch);
    return E_OK;
}

const real *model_run_logits(const struct model_run *run)
{
    return run->logits;
}

const real *model_run_hidden(const struct model_run *run, size_t level)
{
    return level <= run->e->shape.layers ? layer_input(run, level) : NULL;
}

/* ln sum exp of a row of logits, and its maximum. */
static double log_sum(const real *row, size_t count)
{
    double max = (double)row[0], sum = 0;
    for (size_t j = 1; j < count; j++) {
        max = (double)row[j] > max ? (double)row[j] : max;
    }
    for (size_t j = 0; j < count; j++) {
        sum += exp((double)row[j] - max);
    }
    return max + log(sum);
}

uint64_t model_run_hits(const struct model_run *run, const struct model_batch *batch)
{
    uint64_t hits = 0;
    for (size_t r = 0; batch->labels && r < head_rows(run, batch); r++) {
        const real *row = run->logits + r * run->e->shape.labels;
        uint32_t best = 0;
        for (uint32_t j = 1; j < run->e->shape.labels; j++) {
            best = row[j] > row[best] ? j : best;
        }
        hits += batch->labels[r] >= 0 && (uint32_t)batch->labels[r] == best;
    }
    return hits;
}

void model_run_loss(const struct model_run *run, const struct model_batch *batch, double *ret_sums,
                    uint64_t *ret_labelled)
{
    size_t labels = run->e->shape.labels;
    for (size_t group = 0; group < batch->groups; group++) {
        size_t from, to;
        group_rows(batch, group, run->e->shape.task == MODEL_TASK_SEQUENCE, &from, &to);
        ret_sums[group] = 0;
        ret_labelled[group] = 0;
        for (size_t r = from; batch->labels && r < to; r++) {
            if (batch->labels[r] >= 0) {
                const real *row = run->logits + r * labels;
                ret_sums[group] += log_sum(row, labels) - (double)row[batch->labels[r]];
                ret_labelled[group]++;
            }
        }
    }
}

static void loss_backward(struct model_run *run, const struct model_batch *batch, const real *scale)
{
    size_t labels = run->e->shape.labels;
    memset(run->dlogits, 0, head_rows(run, batch) * labels * sizeof(real));
    for (size_t group = 0; group < batch->groups; group++) {
        size_t from, to;
        group_rows(batch, group, run->e->shape.task == MODEL_TASK_SEQUENCE, &from, &to);
        for (size_t r = from; r < to; r++) {
            if (batch->labels[r] < 0) {
                continue;
            }
            const real *row = run->logits + r * labels;
            double total = log_sum(row, labels);
            for (size_t j = 0; j < labels; j++) {
                double p = exp((double)row[j] - total) - (j == (size_t)batch->labels[r] ? 1 : 0);
                run->dlogits[r * labels + j] = scale[group] * (real)p;
            }
        }
    }
}

void model_run_backward(struct model_run *run, const struct model_batch *batch, const real *scale,
                        real *gradients)
{
    struct grads g = {.run = run, .batch = batch, .all = gradients};
    loss_backward(run, batch, scale);
    classify_backward(run, &g);
    bool below = run->e->shape.training != MODEL_TRAIN_HEAD;
    for (size_t layer = run->e->shape.layers; below && layer > 0; layer--) {
        layer_backward(run, &g, layer - 1);
    }
    if (run->e->shape.training == MODEL_TRAIN_FULL) {
        embed_backward(run, &g);
    }
}
