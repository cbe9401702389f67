/* Private to the encoder: what a run keeps between forward and backward, and where gradients go.
 *
 * encoder_pass.c is the public face; run.c carves buffers; layer.c has embeddings and layers, head.c the three heads, gradient.c
 * what becomes of x and dy: gradients of tensors, or norms and a second pass.
 * R rows, H hidden, I inner, L rows of a sequence, d = H / heads. */
#ifndef CONCORDAT_NODE_MODEL_RUN_H
#define CONCORDAT_NODE_MODEL_RUN_H

#include "node/model/encoder_internal.h"
#include "node/model/gemm.h"
#include "node/model/kernels.h"

struct layer_state {
    real *qkv;                     /* R x 3H: query, key, value side by side */
    real *probs;                   /* sum over sequences and heads of L x L, before dropout */
    real *context;                 /* R x H */
    real *xhat1, *rstd1, *out1;    /* first LayerNorm: R x H, R, R x H */
    real *slope, *act;             /* R x I: GELU's derivative and value */
    real *xhat2, *rstd2, *out2;    /* second LayerNorm */
    real *low[MODEL_TARGET_COUNT]; /* R x rank: A x of each adapter */
    /* Gradients of the products' results; shared by all layers but for clipped gradients. */
    real *dqkv, *dattention, *dinner, *doutput; /* R x 3H, R x H, R x I, R x H */
};

struct model_run {
    const struct model_encoder *e;
    const struct model_kernels *k;
    bool recompute, clipped; /* model_run_mode */
    real *block;
    size_t block_count;
    size_t rows, longest, probs;
    uint64_t dropout_seed, first_row;
    real *xhat, *rstd, *out; /* embeddings */
    struct layer_state layers[MODEL_LAYERS_MAX];
    /* Head: one row for each row, sequence or labelled row of the batch. */
    uint32_t *picked;    /* masked LM: the rows */
    uint32_t *picked_at; /* groups + 1 */
    size_t picked_cap, picked_groups_cap;
    size_t head_rows;
    real *first;                 /* head_rows x H: input of the dense layer */
    real *pooled;                /* its value after tanh, or after GELU */
    real *slope, *hxhat, *hrstd; /* masked LM: GELU's derivative, LayerNorm */
    real *head_in;               /* input of the classifier or decoder */
    real *logits, *dlogits, *dhead;
    /* scratch */
    real *da, *db; /* R x H */
    real *square;  /* longest x longest */
    real *dlow;    /* R x rank */
};

static inline const real *run_weight(const struct model_run *run, size_t tensor)
{
    return run->e->weights + run->e->tensors[tensor].at;
}

static inline const real *layer_input(const struct model_run *run, size_t layer)
{
    return layer ? run->layers[layer - 1].out2 : run->out;
}

/* Checks the batch and places the buffers. */
MUST_CHECK enum err run_prepare(struct model_run *run, const struct model_batch *b,
                                struct err_info *reterr);

/* Sites of dropout in a layer; the embeddings and the head use the layer numbers after the last. */
enum site {
    SITE_ATTENTION,
    SITE_ATTENTION_OUTPUT,
    SITE_OUTPUT,
    SITE_OTHER,
    SITE_COUNT
};
struct model_drop run_drop(const struct model_run *run, size_t layer, enum site site, double p);

/* --- gradients (gradient.c) ----------------------------------------------------------------------------- */

/* What rows of x and dy are: rows of the batch, sequences, or the head's own. */
enum rows_kind {
    ROWS_BATCH,
    ROWS_SEQUENCES,
    ROWS_PICKED
};

/* A matrix whose gradient the second pass adds: dW += (c dy)^T x. */
struct product {
    size_t tensor;
    enum rows_kind kind;
    size_t rows, out, in, ldy;
    real *x, *dy;
};
#define PRODUCTS_MAX (MODEL_LAYERS_MAX * 4u + 4u)

/* Where gradients go. Plain: each group has a vector of all trained numbers. Clipped: each group has a vector of the small tensors
 * (direct_at) and a sum of squares for the large ones, whose x and dy are kept as products. */
struct sink {
    struct model_run *run;
    const struct model_batch *batch;
    bool clipped;
    real *all; /* groups x stride */
    size_t stride;
    double *squares; /* groups */
    struct product products[PRODUCTS_MAX];
    size_t product_count;
    struct clip_scratch *scratch;
    enum err err;
};
/* First and last row of a group. */
void sink_rows(const struct sink *s, size_t group, enum rows_kind kind, size_t *ret_from,
               size_t *ret_to);
/* The place of a tensor in a group's vector; NULL when frozen, or kept as a product. */
real *sink_at(const struct sink *s, size_t tensor, size_t group);
/* dW of a matrix out x in; in clipped mode x and dy must stay until the second pass. */
void sink_matrix(struct sink *s, size_t tensor, enum rows_kind kind, size_t rows, size_t out,
                 size_t in, real *x, real *dy);
/* db += sum of rows of dy. */
void sink_bias(struct sink *s, size_t tensor, enum rows_kind kind, const real *dy, size_t out);
/* Rows of DB to the embeddings of word, position and type. */
void sink_embeddings(struct sink *s, const real *db);

/* --- passes (layer.c, head.c) ----------------------------------------------------------------------------- */

void embed_forward(struct model_run *run, const struct model_batch *b);
void embed_backward(struct model_run *run, struct sink *s); /* from run->da */
void layer_forward(struct model_run *run, const struct model_batch *b, size_t layer);
/* From run->da, the gradient of the layer's output, to run->da, that of its input unless nothing below is trained. */
void layer_backward(struct model_run *run, struct sink *s, size_t layer);

void head_forward(struct model_run *run, const struct model_batch *b);
/* scale[g] for each group; leaves run->da. */
void head_backward(struct model_run *run, struct sink *s, const real *scale);
/* Decoder of masked LM: a matrix kept twice, as embeddings and as decoder; called by sink_embeddings' owner. */
void head_loss(const struct model_run *run, const struct model_batch *b, double *ret_sums,
               uint64_t *ret_labelled);
/* The label of head row R, negative: none. */
int32_t head_label(const struct model_run *run, const struct model_batch *b, size_t r);

#endif
