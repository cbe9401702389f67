#include "config.h"
#include "node/model/run.h"

#include <string.h>

/* A `run` carves its buffers from one block, which grows to the largest batch seen. */
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

static void carve_gradients(struct model_run *run, struct layer_state *s, struct carve *c)
{
    const struct model_shape *shape = &run->e->shape;
    s->dqkv = take(c, run->rows * 3 * shape->hidden);
    s->dattention = take(c, run->rows * shape->hidden);
    s->dinner = take(c, run->rows * shape->inner);
    s->doutput = take(c, run->rows * shape->hidden);
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
    s->slope = take(c, rows * shape->inner);
    s->act = take(c, rows * shape->inner);
    s->xhat2 = take(c, rows * h);
    s->rstd2 = take(c, rows);
    for (size_t t = 0; t < MODEL_TARGET_COUNT; t++) {
        bool adapted = run->e->adapter[layer * MODEL_TARGET_COUNT + t] != MODEL_FROZEN;
        s->low[t] = take(c, adapted ? rows * shape->rank : 0);
    }
}

static void carve_layers(struct model_run *run, struct carve *c)
{
    const struct model_shape *shape = &run->e->shape;
    for (size_t layer = 0; layer < shape->layers; layer++) {
        struct layer_state *s = &run->layers[layer];
        if (layer > 0 && run->recompute) {
            *s = run->layers[0];
        } else {
            carve_layer(run, s, layer, c);
        }
        s->out2 = take(c, run->rows * shape->hidden);
        if (layer == 0 || (run->clipped && shape->training == MODEL_TRAIN_FULL)) {
            carve_gradients(run, s, c);
        } else {
            s->dqkv = run->layers[0].dqkv;
            s->dattention = run->layers[0].dattention;
            s->dinner = run->layers[0].dinner;
            s->doutput = run->layers[0].doutput;
        }
    }
}

static void carve_all(struct model_run *run, struct carve *c)
{
    const struct model_shape *s = &run->e->shape;
    size_t rows = run->rows, h = s->hidden, n = run->head_rows;
    bool masked = s->task == MODEL_TASK_MASKED, dense = s->task != MODEL_TASK_TOKENS;
    run->xhat = take(c, rows * h);
    run->rstd = take(c, rows);
    run->out = take(c, rows * h);
    carve_layers(run, c);
    run->first = take(c, dense ? n * h : 0);
    run->pooled = take(c, dense ? n * h : 0);
    run->slope = take(c, masked ? n * h : 0);
    run->hxhat = take(c, masked ? n * h : 0);
    run->hrstd = take(c, masked ? n : 0);
    run->head_in = take(c, n * h);
    run->dhead = take(c, n * h);
    run->logits = take(c, n * s->labels);
    run->dlogits = take(c, n * s->labels);
    run->da = take(c, rows * h);
    run->db = take(c, rows * h);
    run->square = take(c, run->longest * run->longest);
    run->dlow = take(c, model_shape_adapted(s) ? rows * s->rank : 0);
}

struct model_run *model_run_new(const struct model_encoder *encoder)
{
    struct model_run *run = proto_alloc(1, sizeof *run);
    if (run) {
        run->e = encoder;
        run->k = model_kernels();
    }
    return run;
}

void model_run_free(struct model_run *run)
{
    if (run) {
        proto_free(run->block);
        proto_free(run->picked);
        proto_free(run->picked_at);
        proto_free(run);
    }
}

void model_run_mode(struct model_run *run, bool recompute, bool clipped)
{
    run->recompute = recompute && !(clipped && run->e->shape.training == MODEL_TRAIN_FULL);
    run->clipped = clipped;
}

/* --- batches ------------------------------------------------------------------------------------------- */

static enum err check_rows(const struct model_shape *s, const struct model_batch *b, size_t rows,
                           struct err_info *reterr)
{
    size_t labels = s->task == MODEL_TASK_SEQUENCE ? b->sequences : rows;
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

/* Masked LM: the head looks at labelled rows only, or at all when nothing is labelled. */
static enum err pick_rows(struct model_run *run, const struct model_batch *b)
{
    if (run->picked_cap < run->rows || run->picked_groups_cap < b->groups + 1) {
        proto_free(run->picked);
        proto_free(run->picked_at);
        run->picked = proto_alloc(run->rows, sizeof *run->picked);
        run->picked_at = proto_alloc(b->groups + 1, sizeof *run->picked_at);
        bool both = run->picked && run->picked_at;
        run->picked_cap = both ? run->rows : 0;
        run->picked_groups_cap = both ? b->groups + 1 : 0;
        if (!both) {
            return E_NO_MEMORY;
        }
    }
    run->head_rows = 0;
    for (size_t g = 0; g < b->groups; g++) {
        size_t from = b->start[b->group_at ? b->group_at[g] : 0];
        size_t to = b->start[b->group_at ? b->group_at[g + 1] : b->sequences];
        run->picked_at[g] = (uint32_t)run->head_rows;
        for (size_t r = from; r < to; r++) {
            if (!b->labels || b->labels[r] >= 0) {
                run->picked[run->head_rows++] = (uint32_t)r;
            }
        }
    }
    run->picked_at[b->groups] = (uint32_t)run->head_rows;
    return E_OK;
}

enum err run_prepare(struct model_run *run, const struct model_batch *b, struct err_info *reterr)
{
    enum model_task task = run->e->shape.task;
    enum err err = check_batch(&run->e->shape, b, reterr);
    if (err) {
        return err;
    }
    run->rows = b->start[b->sequences];
    run->longest = 0;
    run->probs = 0;
    run->dropout_seed = b->dropout_seed;
    run->first_row = b->first_row;
    for (size_t i = 0; i < b->sequences; i++) {
        size_t len = b->start[i + 1] - b->start[i];
        run->longest = len > run->longest ? len : run->longest;
        run->probs += len * len * run->e->shape.heads;
    }
    run->head_rows = task == MODEL_TASK_SEQUENCE ? b->sequences : run->rows;
    struct carve count = {0};
    err = task == MODEL_TASK_MASKED ? pick_rows(run, b) : E_OK;
    carve_all(run, &count);
    if (!err && count.at > run->block_count) {
        proto_free(run->block);
        run->block = proto_alloc(count.at, sizeof *run->block);
        run->block_count = run->block ? count.at : 0;
        err = run->block ? E_OK : E_NO_MEMORY;
    }
    if (err) {
        return proto_err_set(reterr, err, "model: no memory for a batch of %zu rows", run->rows);
    }
    struct carve place = {.base = run->block};
    carve_all(run, &place);
    return E_OK;
}

struct model_drop run_drop(const struct model_run *run, size_t layer, enum site site, double p)
{
    struct model_drop d = {.scale = 1};
    if (run->dropout_seed == 0 || !(p > 0)) {
        return d;
    }
    d.key = model_mix(run->dropout_seed + model_mix(layer * SITE_COUNT + site + 1));
    d.threshold = (uint32_t)llrint(p * 0x1p32);
    d.scale = (real)(1 / (1 - (double)d.threshold * 0x1p-32));
    return d;
}
