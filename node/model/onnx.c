#include "config.h"
#include "node/model/onnx.h"

#include <stdio.h>
#include <string.h>

#include "node/model/encoder_internal.h"
#include "node/model/onnx_graph.h"
#include "node/model/quantise.h"

struct graph {
    struct onnx_graph graph;
    const struct model_encoder *e;
    enum model_onnx_kind kind;
    int8_t *quantised; /* of all matrices, one after the other */
    int8_t *zeros;     /* as many as a matrix has rows */
    float *scales;
    size_t quantised_at, scale_at;
};

#define NODE(g, ...)      ONNX_NODE(&(g)->graph, __VA_ARGS__)
#define NODE_WITH(g, ...) ONNX_NODE_WITH(&(g)->graph, __VA_ARGS__)

/* A name below PREFIX, in the caller's room. */
struct name {
    char text[96];
};
#define NAME(prefix, end) (name_of((struct name[1]){{{0}}}, prefix, end))
static const char *name_of(struct name *room, const char *prefix, const char *end)
{
    snprintf(room->text, sizeof room->text, "%s%s%s", prefix, *prefix ? "." : "", end);
    return room->text;
}

/* --- weights ------------------------------------------------------------------------------------------- */

/* Tensor I of the encoder as a constant, transposed for a product from the right, or through DequantizeLinear. */
static const char *weight(struct graph *g, size_t i, bool transposed)
{
    const struct model_tensor *t = &g->e->tensors[i];
    const real *numbers = g->e->weights + t->at;
    if (g->kind != MODEL_ONNX_INT8 || !model_quantised(g->e, i)) {
        struct onnx_constant *c = onnx_constant_add(&g->graph, t->name, ONNX_FLOAT);
        if (c) {
            bool vector = t->rows == 1 && !transposed && i > EMBEDDING_TYPE;
            c->numbers = numbers;
            c->rows = vector ? 0 : t->rows;
            c->cols = t->cols;
            c->transposed = transposed;
        }
        return t->name;
    }
    char q_name[96], scale_name[96], zero_name[96];
    snprintf(q_name, sizeof q_name, "%.80s.int8", t->name);
    snprintf(scale_name, sizeof scale_name, "%.80s.scale", t->name);
    snprintf(zero_name, sizeof zero_name, "%.80s.zero", t->name);
    int8_t *q = g->quantised + g->quantised_at;
    float *scale = g->scales + g->scale_at;
    model_quantise_rows(numbers, t->rows, t->cols, q, scale);
    g->quantised_at += t->rows * t->cols;
    g->scale_at += t->rows;
    struct onnx_constant *c = onnx_constant_add(&g->graph, q_name, ONNX_INT8);
    if (c) {
        c->q = q;
        c->rows = t->rows;
        c->cols = t->cols;
        c->transposed = transposed;
    }
    c = onnx_constant_add(&g->graph, scale_name, ONNX_FLOAT);
    if (c) {
        c->numbers = scale;
        c->cols = t->rows;
    }
    /* Zeros, told though they are the default: some runtimes take what is not told for unsigned. */
    c = onnx_constant_add(&g->graph, zero_name, ONNX_INT8);
    if (c) {
        c->q = g->zeros;
        c->cols = t->rows;
    }
    /* One scale for each output row, which is a column once transposed. */
    struct onnx_attribute axis = {"axis", false, {transposed ? 1 : 0}, 1};
    return NODE_WITH(g, "DequantizeLinear", t->name, &axis, q_name, scale_name, zero_name);
}

/* y = x W^T + b. */
static const char *linear(struct graph *g, const char *output, const char *x, size_t w, size_t b)
{
    const char *product = NAME(output, "product");
    NODE(g, "MatMul", product, x, weight(g, w, true));
    return NODE(g, "Add", output, product, weight(g, b, false));
}

static const char *layer_norm(struct graph *g, const char *output, const char *x, size_t w)
{
    struct onnx_attribute axes = {"axes", true, {-1}, 1};
    const char *mean = NAME(output, "mean"), *centred = NAME(output, "centred");
    const char *square = NAME(output, "square"), *variance = NAME(output, "variance");
    const char *shifted = NAME(output, "shifted"), *root = NAME(output, "root");
    const char *xhat = NAME(output, "xhat"), *scaled = NAME(output, "scaled");
    NODE_WITH(g, "ReduceMean", mean, &axes, x);
    NODE(g, "Sub", centred, x, mean);
    NODE(g, "Mul", square, centred, centred);
    NODE_WITH(g, "ReduceMean", variance, &axes, square);
    NODE(g, "Add", shifted, variance, "eps");
    NODE(g, "Sqrt", root, shifted);
    NODE(g, "Div", xhat, centred, root);
    NODE(g, "Mul", scaled, xhat, weight(g, w, false));
    return NODE(g, "Add", output, scaled, weight(g, w + 1, false));
}

static const char *gelu(struct graph *g, const char *output, const char *x)
{
    const char *z = NAME(output, "z"), *erf = NAME(output, "erf"), *one = NAME(output, "one");
    const char *half = NAME(output, "half");
    NODE(g, "Mul", z, x, "sqrt_half");
    NODE(g, "Erf", erf, z);
    NODE(g, "Add", one, erf, "one");
    NODE(g, "Mul", half, x, "half");
    return NODE(g, "Mul", output, half, one);
}

/* --- the model ----------------------------------------------------------------------------------------- */

static const char *embeddings(struct graph *g)
{
    struct onnx_attribute first = {"axis", false, {0}, 1};
    NODE_WITH(g, "Gather", "words", &first, weight(g, EMBEDDING_WORD, false), "input_ids");
    NODE_WITH(g, "Gather", "types", &first, weight(g, EMBEDDING_TYPE, false), "token_type_ids");
    NODE(g, "Shape", "shape", "input_ids");
    NODE(g, "Slice", "length", "shape", onnx_integers(&g->graph, "int.1", 1, 1),
         onnx_integers(&g->graph, "int.2", 1, 2));
    NODE(g, "Slice", "positions", weight(g, EMBEDDING_POSITION, false),
         onnx_integers(&g->graph, "int.0", 1, 0), "length", "int.0");
    NODE(g, "Add", "words_types", "words", "types");
    NODE(g, "Add", "embedded", "words_types", "positions");
    /* 0 where a token counts, very negative where it is padding. */
    struct onnx_attribute to_float = {"to", false, {ONNX_FLOAT}, 1};
    NODE_WITH(g, "Cast", "mask", &to_float, "attention_mask");
    NODE(g, "Unsqueeze", "mask_wide", "mask", onnx_integers(&g->graph, "int.12", 2, 1, 2));
    NODE(g, "Sub", "mask_off", "one", "mask_wide");
    NODE(g, "Mul", "mask_add", "mask_off", onnx_single(&g->graph, "minus_large", -1e9));
    return layer_norm(g, "embeddings", "embedded", EMBEDDING_NORM_W);
}

static const char *split_heads(struct graph *g, const char *output, const char *x, bool keys)
{
    static const struct onnx_attribute values_order = {"perm", true, {0, 2, 1, 3}, 4},
                                       keys_order = {"perm", true, {0, 2, 3, 1}, 4};
    const char *apart = NAME(output, "apart");
    NODE(g, "Reshape", apart, x, "heads_shape");
    return NODE_WITH(g, "Transpose", output, keys ? &keys_order : &values_order, apart);
}

static void attention(struct graph *g, const char *prefix, const char *x, size_t t)
{
    static const struct onnx_attribute last = {"axis", false, {-1}, 1},
                                       order = {"perm", true, {0, 2, 1, 3}, 4};
    const char *query = NAME(prefix, "query"), *key = NAME(prefix, "key");
    const char *value = NAME(prefix, "value"), *q = NAME(prefix, "q"), *k = NAME(prefix, "k");
    const char *v = NAME(prefix, "v"), *scores = NAME(prefix, "scores");
    const char *scaled = NAME(prefix, "scaled"), *masked = NAME(prefix, "masked");
    const char *probs = NAME(prefix, "probs"), *mixed = NAME(prefix, "mixed");
    const char *together = NAME(prefix, "together");
    split_heads(g, q, linear(g, query, x, t + LAYER_QUERY_W, t + LAYER_QUERY_B), false);
    split_heads(g, k, linear(g, key, x, t + LAYER_KEY_W, t + LAYER_KEY_B), true);
    split_heads(g, v, linear(g, value, x, t + LAYER_VALUE_W, t + LAYER_VALUE_B), false);
    NODE(g, "MatMul", scores, q, k);
    NODE(g, "Mul", scaled, scores, "attention_scale");
    NODE(g, "Add", masked, scaled, "mask_add");
    NODE_WITH(g, "Softmax", probs, &last, masked);
    NODE(g, "MatMul", mixed, probs, v);
    NODE_WITH(g, "Transpose", together, &order, mixed);
    const char *context = NAME(prefix, "context"), *out = NAME(prefix, "attention");
    NODE(g, "Reshape", context, together, "hidden_shape");
    linear(g, out, context, t + LAYER_ATTENTION_W, t + LAYER_ATTENTION_B);
    const char *sum = NAME(prefix, "sum1"), *norm = NAME(prefix, "norm1");
    NODE(g, "Add", sum, out, x);
    layer_norm(g, norm, sum, t + LAYER_NORM1_W);
}

static void layer(struct graph *g, unsigned number)
{
    char prefix[32], input[48];
    size_t t = layer_tensor(number, 0);
    snprintf(prefix, sizeof prefix, "layer.%u", number);
    if (number == 0) {
        snprintf(input, sizeof input, "embeddings");
    } else {
        snprintf(input, sizeof input, "layer.%u.norm2", number - 1);
    }
    attention(g, prefix, input, t);
    const char *norm1 = NAME(prefix, "norm1"), *inner = NAME(prefix, "inner");
    const char *act = NAME(prefix, "act"), *out = NAME(prefix, "out"), *sum = NAME(prefix, "sum2");
    linear(g, inner, norm1, t + LAYER_INNER_W, t + LAYER_INNER_B);
    gelu(g, act, inner);
    linear(g, out, act, t + LAYER_OUTPUT_W, t + LAYER_OUTPUT_B);
    NODE(g, "Add", sum, out, norm1);
    layer_norm(g, NAME(prefix, "norm2"), sum, t + LAYER_NORM2_W);
}

static void head(struct graph *g)
{
    char hidden[48];
    size_t h = g->e->head;
    struct onnx_attribute second = {"axis", false, {1}, 1};
    snprintf(hidden, sizeof hidden, "layer.%u.norm2", g->e->shape.layers - 1);
    if (g->e->shape.task == MODEL_TASK_TOKENS) {
        linear(g, "logits", hidden, h, h + 1);
    } else if (g->e->shape.task == MODEL_TASK_SEQUENCE) {
        onnx_constant_add(&g->graph, "zero", ONNX_INT64); /* a scalar: the axis goes */
        NODE_WITH(g, "Gather", "first", &second, hidden, "zero");
        linear(g, "pooler", "first", h, h + 1);
        NODE(g, "Tanh", "pooled", "pooler");
        linear(g, "logits", "pooled", h + 2, h + 3);
    } else {
        static const struct onnx_attribute turn = {"perm", true, {1, 0}, 2};
        linear(g, "dense", hidden, h, h + 1);
        gelu(g, "dense_act", "dense");
        layer_norm(g, "transform", "dense_act", h + 2);
        NODE_WITH(g, "Transpose", "decoder", &turn, g->e->tensors[EMBEDDING_WORD].name);
        NODE(g, "MatMul", "decoded", "transform", "decoder");
        NODE(g, "Add", "logits", "decoded", weight(g, h + 4, false));
    }
}

static void build(struct graph *g)
{
    const struct model_shape *s = &g->e->shape;
    onnx_single(&g->graph, "eps", s->layer_norm_eps);
    onnx_single(&g->graph, "one", 1);
    onnx_single(&g->graph, "half", 0.5);
    onnx_single(&g->graph, "sqrt_half", 0.70710678118654752440);
    onnx_single(&g->graph, "attention_scale", 1 / sqrt((double)s->hidden / s->heads));
    onnx_integers(&g->graph, "heads_shape", 4, 0, 0, (int)s->heads, (int)(s->hidden / s->heads));
    onnx_integers(&g->graph, "hidden_shape", 3, 0, 0, (int)s->hidden);
    embeddings(g);
    for (unsigned i = 0; i < s->layers; i++) {
        layer(g, i);
    }
    head(g);
}

/* Name, inputs and outputs. */
static void ends(struct graph *g)
{
    static const char *const both[] = {"batch", "sequence", NULL}, *const batch[] = {"batch", NULL};
    bool sequence = g->e->shape.task == MODEL_TASK_SEQUENCE;
    onnx_input(&g->graph, "input_ids", ONNX_INT64, both, 0);
    onnx_input(&g->graph, "attention_mask", ONNX_INT64, both, 0);
    onnx_input(&g->graph, "token_type_ids", ONNX_INT64, both, 0);
    onnx_output(&g->graph, "logits", ONNX_FLOAT, sequence ? batch : both, g->e->shape.labels);
}

enum err model_onnx_write(const struct model_encoder *e, const char *name,
                          enum model_onnx_kind kind, const char *folder, const char *file,
                          struct err_info *reterr)
{
    if (model_shape_adapted(&e->shape)) {
        return proto_err_set(reterr, E_USAGE, "onnx: merge the adapters first");
    }
    struct graph g = {
        .e = e,
        .kind = kind,
        .graph = {.nodes = {.max = (size_t)16 << 20}, .ends = {.max = 4096}},
    };
    size_t numbers = 1, rows = 1, longest = 1;
    for (size_t i = 0; kind == MODEL_ONNX_INT8 && i < e->adapters; i++) {
        numbers += model_quantised(e, i) ? e->tensors[i].rows * e->tensors[i].cols : 0;
        rows += model_quantised(e, i) ? e->tensors[i].rows : 0;
        longest = e->tensors[i].rows > longest ? e->tensors[i].rows : longest;
    }
    g.quantised = proto_alloc(numbers, 1);
    g.zeros = proto_alloc(longest, 1);
    g.scales = proto_alloc(rows, sizeof *g.scales);
    enum err err = g.quantised && g.zeros && g.scales ? E_OK : E_NO_MEMORY;
    err = err ? err : onnx_graph_init(&g.graph, 3 * e->adapters + 32, name);
    if (!err) {
        build(&g);
        ends(&g);
    }
    err = err ? proto_err_set(reterr, err, "onnx: the graph cannot be held")
              : onnx_graph_write(&g.graph, folder, file, reterr);
    onnx_graph_fini(&g.graph);
    proto_free(g.quantised);
    proto_free(g.zeros);
    proto_free(g.scales);
    return err;
}
