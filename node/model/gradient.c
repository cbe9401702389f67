/* What becomes of x and dy of a product y = x W^T: the gradient dW = dy^T x of each group, or its norm now and the weighted sum of
 * all groups later.
 *
 * Norms of a group with T rows (mixed ghost norm, Li et al. 2022, arXiv 2110.05679; Bu et al. 2022, arXiv 2205.10683):
 *     ||dy^T x||^2 = sum_ij <x_i, x_j> <dy_i, dy_j>     2 T^2 (in + out) operations, or
 *     the matrix itself in a scratch place              2 T in out operations
 * whichever is less; memory never holds a gradient of a large tensor for each group. The second pass by book-keeping (Bu et
 * al. 2023, arXiv 2210.00038): x and dy of all products stay where forward and backward put them, rows of dy are scaled by the
 * group's factor, and one product over all rows adds the clipped sum: nothing is computed backward twice.
 * Embeddings: rows of equal piece, position or type are added up first. A decoder that is tied to the word embeddings adds
 * the cross term 2 <dE, dD> = 2 sum_tr dlogit_r[id_t] <db_t, h_r>.
 * Norms are exact to the rounding of floats, about 1e-6 of themselves. */
#include "config.h"
#include "node/model/run.h"

#include <stdlib.h>
#include <string.h>

/* --- places -------------------------------------------------------------------------------------------- */

void sink_rows(const struct sink *s, size_t group, enum rows_kind kind, size_t *ret_from,
               size_t *ret_to)
{
    const struct model_batch *b = s->batch;
    size_t from = b->group_at ? b->group_at[group] : 0;
    size_t to = b->group_at ? b->group_at[group + 1] : b->sequences;
    if (kind == ROWS_PICKED) {
        from = s->run->picked_at[group];
        to = s->run->picked_at[group + 1];
    } else if (kind == ROWS_BATCH) {
        from = b->start[from];
        to = b->start[to];
    }
    *ret_from = from;
    *ret_to = to;
}

real *sink_at(const struct sink *s, size_t tensor, size_t group)
{
    const struct model_tensor *t = &s->run->e->tensors[tensor];
    size_t at = s->clipped ? t->small_at : t->trained_at;
    return at == MODEL_FROZEN ? NULL : s->all + group * s->stride + at;
}

/* --- scratch of norms ---------------------------------------------------------------------------------- */

struct clip_scratch {
    real *numbers;
    uint64_t *keys;
    size_t numbers_cap, keys_cap;
};

static real *scratch_numbers(struct sink *s, size_t count)
{
    struct clip_scratch *c = s->scratch;
    if (count > c->numbers_cap) {
        proto_free(c->numbers);
        c->numbers = proto_alloc(count, sizeof *c->numbers);
        c->numbers_cap = c->numbers ? count : 0;
        s->err = c->numbers ? s->err : E_NO_MEMORY;
    }
    return c->numbers;
}

static uint64_t *scratch_keys(struct sink *s, size_t count)
{
    struct clip_scratch *c = s->scratch;
    if (count > c->keys_cap) {
        proto_free(c->keys);
        c->keys = proto_alloc(count, sizeof *c->keys);
        c->keys_cap = c->keys ? count : 0;
        s->err = c->keys ? s->err : E_NO_MEMORY;
    }
    return c->keys;
}

static void scratch_fini(struct clip_scratch *c)
{
    proto_free(c->numbers);
    proto_free(c->keys);
}

/* --- matrices ------------------------------------------------------------------------------------------ */

static double square_by_rows(struct sink *s, size_t rows, size_t out, size_t in, const real *x,
                             const real *dy)
{
    real *a = scratch_numbers(s, 2 * rows * rows);
    if (!a) {
        return 0;
    }
    real *b = a + rows * rows;
    model_gemm(false, true, rows, rows, in, 1, x, in, x, in, 0, a, rows);
    model_gemm(false, true, rows, rows, out, 1, dy, out, dy, out, 0, b, rows);
    double square = s->run->k->dot(a, b, rows * rows);
    return square > 0 || !isfinite(square) ? square : 0;
}

static double square_by_matrix(struct sink *s, size_t rows, size_t out, size_t in, const real *x,
                               const real *dy)
{
    real *w = scratch_numbers(s, out * in);
    if (!w) {
        return 0;
    }
    model_gemm(true, false, out, in, rows, 1, dy, out, x, in, 0, w, in);
    return s->run->k->square(w, out * in);
}

void sink_matrix(struct sink *s, size_t tensor, enum rows_kind kind, size_t rows, size_t out,
                 size_t in, real *x, real *dy)
{
    const struct model_tensor *t = &s->run->e->tensors[tensor];
    if (t->trained_at == MODEL_FROZEN) {
        return;
    }
    bool kept = s->clipped && t->small_at == MODEL_FROZEN;
    for (size_t group = 0; group < s->batch->groups; group++) {
        size_t from, to;
        sink_rows(s, group, kind, &from, &to);
        const real *gx = x + from * in, *gdy = dy + from * out;
        if (from == to) {
            continue;
        }
        if (kept) {
            s->squares[group] += (to - from) * (in + out) < in * out
                                     ? square_by_rows(s, to - from, out, in, gx, gdy)
                                     : square_by_matrix(s, to - from, out, in, gx, gdy);
        } else {
            model_gemm(true, false, out, in, to - from, 1, gdy, out, gx, in, 1,
                       sink_at(s, tensor, group), in);
        }
    }
    if (kept) {
        s->products[s->product_count++] = (struct product){
            .tensor = tensor, .kind = kind, .rows = rows, .out = out, .in = in, .x = x, .dy = dy};
    }
}

void sink_bias(struct sink *s, size_t tensor, enum rows_kind kind, const real *dy, size_t out)
{
    for (size_t group = 0; group < s->batch->groups; group++) {
        real *d = sink_at(s, tensor, group);
        size_t from, to;
        sink_rows(s, group, kind, &from, &to);
        if (d) {
            s->run->k->add_columns(dy + from * out, to - from, out, out, d);
        }
    }
}

/* --- embeddings ---------------------------------------------------------------------------------------- */

/* The three tables, as what row r of a batch looks up. */
static size_t looked_up(const struct model_batch *b, size_t table, size_t sequence, size_t row)
{
    return table == EMBEDDING_WORD       ? b->ids[row]
           : table == EMBEDDING_POSITION ? row - b->start[sequence]
                                         : (b->types ? b->types[row] : 0);
}

/* to[looked up] += factor[group] * row, for all three tables; FACTOR NULL: 1, each group to its own vector. */
static void add_rows(const struct sink *s, const real *db, const real *factor, real *sum)
{
    const struct model_run *run = s->run;
    size_t h = run->e->shape.hidden;
    for (size_t group = 0; group < s->batch->groups; group++) {
        size_t from, to;
        sink_rows(s, group, ROWS_SEQUENCES, &from, &to);
        real *base = factor ? sum : s->all + group * s->stride;
        for (size_t i = from; i < to && (!factor || factor[group] != 0); i++) {
            for (size_t r = s->batch->start[i]; r < s->batch->start[i + 1]; r++) {
                for (size_t table = EMBEDDING_WORD; table <= EMBEDDING_TYPE; table++) {
                    run->k->add_scaled(base + run->e->tensors[table].trained_at +
                                           looked_up(s->batch, table, i, r) * h,
                                       db + r * h, factor ? factor[group] : 1, h);
                }
            }
        }
    }
}

static int by_key(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

/* Rows of a group that look up the same are added before their square is taken. */
static double square_of_table(struct sink *s, size_t group, size_t table, const real *db)
{
    const struct model_batch *b = s->batch;
    size_t h = s->run->e->shape.hidden, from, to, count = 0;
    sink_rows(s, group, ROWS_SEQUENCES, &from, &to);
    uint64_t *keys = scratch_keys(s, b->start[to] - b->start[from]);
    real *sum = scratch_numbers(s, h);
    double square = 0;
    for (size_t i = from; keys && sum && i < to; i++) {
        for (size_t r = b->start[i]; r < b->start[i + 1]; r++) {
            keys[count++] = (uint64_t)looked_up(b, table, i, r) << 32 | r;
        }
    }
    if (count) {
        qsort(keys, count, sizeof *keys, by_key);
    }
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || keys[i] >> 32 != keys[i - 1] >> 32) {
            square += i ? s->run->k->square(sum, h) : 0;
            memset(sum, 0, h * sizeof *sum);
        }
        s->run->k->add(sum, db + (keys[i] & UINT32_MAX) * h, h);
    }
    return square + (count ? s->run->k->square(sum, h) : 0);
}

/* 2 <dE, dD> of a group: gradients of the word embeddings as a table and as a decoder. */
static double cross_term(struct sink *s, size_t group, const real *db)
{
    const struct model_run *run = s->run;
    size_t h = run->e->shape.hidden, labels = run->e->shape.labels, from, to, low, high;
    sink_rows(s, group, ROWS_BATCH, &from, &to);
    sink_rows(s, group, ROWS_PICKED, &low, &high);
    size_t rows = to - from, picked = high - low;
    real *m = rows && picked ? scratch_numbers(s, rows * picked) : NULL;
    double sum = 0;
    if (!m) {
        return 0;
    }
    model_gemm(false, true, rows, picked, h, 1, db + from * h, h, run->head_in + low * h, h, 0, m,
               picked);
    for (size_t t = 0; t < rows; t++) {
        for (size_t r = 0; r < picked; r++) {
            sum += (double)run->dlogits[(low + r) * labels + s->batch->ids[from + t]] *
                   (double)m[t * picked + r];
        }
    }
    return 2 * sum;
}

void sink_embeddings(struct sink *s, const real *db)
{
    if (!s->clipped) {
        add_rows(s, db, NULL, NULL);
        return;
    }
    bool tied = s->run->e->shape.task == MODEL_TASK_MASKED;
    for (size_t group = 0; group < s->batch->groups; group++) {
        for (size_t table = EMBEDDING_WORD; table <= EMBEDDING_TYPE; table++) {
            s->squares[group] += square_of_table(s, group, table, db);
        }
        s->squares[group] += tied ? cross_term(s, group, db) : 0;
    }
}

/* --- two passes ---------------------------------------------------------------------------------------- */

/* What backward of the whole model does, into S. */
static void backward(struct model_run *run, struct sink *s, const real *scale)
{
    size_t layers = run->e->shape.layers;
    head_backward(run, s, scale);
    if (run->e->shape.training == MODEL_TRAIN_HEAD) {
        return;
    }
    for (size_t layer = layers; layer > 0; layer--) {
        if (run->recompute && layer < layers) {
            layer_forward(run, s->batch, layer - 1);
        }
        layer_backward(run, s, layer - 1);
    }
    if (run->e->shape.training == MODEL_TRAIN_FULL) {
        embed_backward(run, s);
    }
}

void model_run_backward(struct model_run *run, const struct model_batch *batch, const real *scale,
                        real *gradients)
{
    struct sink s = {.run = run, .batch = batch, .all = gradients, .stride = run->e->trained_count};
    backward(run, &s, scale);
}

/* Rows of dy times their group's factor. A group that adds nothing has its x cleared too: 0 times what is not finite is not 0. */
static void scale_rows(const struct sink *s, const struct product *p, const real *factor)
{
    for (size_t group = 0; group < s->batch->groups; group++) {
        size_t from, to;
        sink_rows(s, group, p->kind, &from, &to);
        real *dy = p->dy + from * p->out, *x = p->x + from * p->in;
        if (factor[group] == 0) {
            memset(dy, 0, (to - from) * p->out * sizeof *dy);
            memset(x, 0, (to - from) * p->in * sizeof *x);
        } else if (factor[group] != 1) {
            for (size_t i = 0; i < (to - from) * p->out; i++) {
                dy[i] *= factor[group];
            }
        }
    }
}

/* sum += factor[g] * small tensors of each group. */
static void add_small(const struct sink *s, const real *factor, real *sum)
{
    const struct model_encoder *e = s->run->e;
    for (size_t group = 0; group < s->batch->groups; group++) {
        for (size_t i = 0; i < e->tensor_count && factor[group] != 0; i++) {
            const struct model_tensor *t = &e->tensors[i];
            if (t->small_at != MODEL_FROZEN) {
                s->run->k->add_scaled(sum + t->trained_at, sink_at(s, i, group), factor[group],
                                      t->rows * t->cols);
            }
        }
    }
}

static void second_pass(struct sink *s, const real *factor, real *sum)
{
    struct model_run *run = s->run;
    add_small(s, factor, sum);
    /* The embeddings' rows first: the tied decoder's product clears what groups without a part hold. */
    if (run->e->shape.training == MODEL_TRAIN_FULL) {
        add_rows(s, run->db, factor, sum);
    }
    for (size_t i = 0; i < s->product_count; i++) {
        const struct product *p = &s->products[i];
        scale_rows(s, p, factor);
        model_gemm(true, false, p->out, p->in, p->rows, 1, p->dy, p->out, p->x, p->in, 1,
                   sum + run->e->tensors[p->tensor].trained_at, p->in);
    }
}

static real factor_of(double norm, double clip)
{
    if (!isfinite(norm)) {
        return 0;
    }
    /* Rounded down, so that the clipped norm is not above CLIP. */
    return norm > clip ? (real)(clip / norm * (1 - 16 * REAL_EPSILON)) : 1;
}

enum err model_run_backward_clipped(struct model_run *run, const struct model_batch *batch,
                                    const real *scale, double clip, double *ret_norms, real *sum,
                                    struct err_info *reterr)
{
    struct clip_scratch scratch = {0};
    struct sink s = {.run = run,
                     .batch = batch,
                     .clipped = true,
                     .stride = run->e->small_count,
                     .scratch = &scratch};
    s.all = proto_alloc(batch->groups * s.stride + 1, sizeof *s.all);
    s.squares = proto_alloc(batch->groups, sizeof *s.squares);
    real *factor = proto_alloc(batch->groups, sizeof *factor);
    s.err = s.all && s.squares && factor ? E_OK : E_NO_MEMORY;
    if (!s.err) {
        backward(run, &s, scale);
    }
    for (size_t group = 0; !s.err && group < batch->groups; group++) {
        double square = s.squares[group] + run->k->square(s.all + group * s.stride, s.stride);
        ret_norms[group] = sqrt(square > 0 || isnan(square) ? square : 0);
        factor[group] = factor_of(ret_norms[group], clip);
    }
    if (!s.err) {
        second_pass(&s, factor, sum);
    }
    proto_free(s.all);
    proto_free(s.squares);
    proto_free(factor);
    scratch_fini(&scratch);
    return s.err ? proto_err_set(reterr, s.err, "model: no memory for norms of %zu groups",
                                 batch->groups)
                 : E_OK;
}
