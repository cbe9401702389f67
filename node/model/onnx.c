#include "config.h"
#include "node/model/onnx.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "node/model/encoder_internal.h"
#include "node/model/folder.h"
#include "node/model/quantise.h"

/* --- protobuf ------------------------------------------------------------------------------------------ */

enum {
    VARINT = 0,
    BYTES = 2
};

static enum err put_varint(struct buf *b, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;
    for (; v > 127; v >>= 7) {
        bytes[n++] = (uint8_t)(v | 128);
    }
    bytes[n++] = (uint8_t)v;
    return buf_put(b, span_of(bytes, n));
}

static enum err put_int(struct buf *b, unsigned field, uint64_t v)
{
    enum err err = put_varint(b, field << 3 | VARINT);
    return err ? err : put_varint(b, v);
}

static enum err put_bytes(struct buf *b, unsigned field, struct span bytes)
{
    enum err err = put_varint(b, field << 3 | BYTES);
    err = err ? err : put_varint(b, bytes.len);
    return err ? err : buf_put(b, bytes);
}

static enum err put_text(struct buf *b, unsigned field, const char *text)
{
    return put_bytes(b, field, span_str(text));
}

/* --- the graph ----------------------------------------------------------------------------------------- */

/* Numbers of TensorProto.DataType. */
enum onnx_type {
    TYPE_FLOAT = 1,
    TYPE_INT8 = 3,
    TYPE_INT64 = 7
};

/* A constant: numbers of a matrix as it stands, transposed, or in eight bits; or given integers. */
struct constant {
    char name[96];
    enum onnx_type type;
    size_t rows, cols; /* as stored in the encoder; rows 0: a vector of cols */
    bool transposed;
    const real *numbers;
    const int8_t *q; /* rows x cols */
    float single[1];
    int64_t integers[4];
    size_t dims, dim[2];
};

struct graph {
    const struct model_encoder *e;
    enum model_onnx_kind kind;
    struct buf nodes;
    struct constant *constants;
    size_t count, cap;
    int8_t *quantised; /* of all matrices, one after the other */
    int8_t *zeros;     /* as many as a matrix has rows */
    float *scales;
    size_t quantised_at, scale_at;
    enum err err;
};

static struct constant *add_constant(struct graph *g, const char *name, enum onnx_type type)
{
    if (g->err || g->count == g->cap) {
        g->err = g->err ? g->err : E_LIMIT;
        return NULL;
    }
    struct constant *c = &g->constants[g->count++];
    *c = (struct constant){.type = type};
    snprintf(c->name, sizeof c->name, "%s", name);
    return c;
}

static const char *integers(struct graph *g, const char *name, size_t count, ...)
{
    struct constant *c = add_constant(g, name, TYPE_INT64);
    va_list list;
    va_start(list, count);
    for (size_t i = 0; c && i < count; i++) {
        c->integers[i] = va_arg(list, int);
    }
    va_end(list);
    if (c) {
        c->dims = 1;
        c->dim[0] = count;
    }
    return name;
}

static const char *single(struct graph *g, const char *name, double v)
{
    struct constant *c = add_constant(g, name, TYPE_FLOAT);
    if (c) {
        c->single[0] = (float)v;
    }
    return name;
}

/* An attribute of a node; INTS are up to four. */
struct attribute {
    const char *name;
    bool list;
    int64_t ints[4];
    size_t count;
};

static enum err put_attribute(struct buf *to, const struct attribute *a)
{
    struct buf b = {.max = 256};
    enum err err = put_text(&b, 1, a->name);
    for (size_t i = 0; !err && i < a->count; i++) {
        err = put_int(&b, a->list ? 8 : 3, (uint64_t)a->ints[i]);
    }
    err = err ? err : put_int(&b, 20, a->list ? 7 : 2);
    err = err ? err : put_bytes(to, 5, buf_span(&b));
    buf_fini(&b);
    return err;
}

/* One node; INPUTS end with NULL. Returns the output's name. */
static const char *node(struct graph *g, const char *op, const char *output,
                        const struct attribute *attribute, const char *const *inputs)
{
    struct buf b = {.max = 2048};
    enum err err = E_OK;
    for (; !err && *inputs; inputs++) {
        err = put_text(&b, 1, *inputs);
    }
    err = err ? err : put_text(&b, 2, output);
    err = err ? err : put_text(&b, 3, output);
    err = err ? err : put_text(&b, 4, op);
    err = err || !attribute ? err : put_attribute(&b, attribute);
    err = err ? err : put_bytes(&g->nodes, 1, buf_span(&b));
    buf_fini(&b);
    g->err = g->err ? g->err : err;
    return output;
}

#define NODE(g, op, output, ...) node(g, op, output, NULL, (const char *const[]){__VA_ARGS__, NULL})
#define NODE_WITH(g, op, output, attribute, ...)                                                   \
    node(g, op, output, attribute, (const char *const[]){__VA_ARGS__, NULL})

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
        struct constant *c = add_constant(g, t->name, TYPE_FLOAT);
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
    struct constant *c = add_constant(g, q_name, TYPE_INT8);
    if (c) {
        c->q = q;
        c->rows = t->rows;
        c->cols = t->cols;
        c->transposed = transposed;
    }
    c = add_constant(g, scale_name, TYPE_FLOAT);
    if (c) {
        c->numbers = scale;
        c->cols = t->rows;
    }
    /* Zeros, told though they are the default: some runtimes take what is not told for unsigned. */
    c = add_constant(g, zero_name, TYPE_INT8);
    if (c) {
        c->q = g->zeros;
        c->cols = t->rows;
    }
    /* One scale for each output row, which is a column once transposed. */
    struct attribute axis = {"axis", false, {transposed ? 1 : 0}, 1};
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
    struct attribute axes = {"axes", true, {-1}, 1};
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
    struct attribute first = {"axis", false, {0}, 1};
    NODE_WITH(g, "Gather", "words", &first, weight(g, EMBEDDING_WORD, false), "input_ids");
    NODE_WITH(g, "Gather", "types", &first, weight(g, EMBEDDING_TYPE, false), "token_type_ids");
    NODE(g, "Shape", "shape", "input_ids");
    NODE(g, "Slice", "length", "shape", integers(g, "int.1", 1, 1), integers(g, "int.2", 1, 2));
    NODE(g, "Slice", "positions", weight(g, EMBEDDING_POSITION, false), integers(g, "int.0", 1, 0),
         "length", "int.0");
    NODE(g, "Add", "words_types", "words", "types");
    NODE(g, "Add", "embedded", "words_types", "positions");
    /* 0 where a token counts, very negative where it is padding. */
    struct attribute to_float = {"to", false, {TYPE_FLOAT}, 1};
    NODE_WITH(g, "Cast", "mask", &to_float, "attention_mask");
    NODE(g, "Unsqueeze", "mask_wide", "mask", integers(g, "int.12", 2, 1, 2));
    NODE(g, "Sub", "mask_off", "one", "mask_wide");
    NODE(g, "Mul", "mask_add", "mask_off", single(g, "minus_large", -1e9));
    return layer_norm(g, "embeddings", "embedded", EMBEDDING_NORM_W);
}

static const char *split_heads(struct graph *g, const char *output, const char *x, bool keys)
{
    static const struct attribute values_order = {"perm", true, {0, 2, 1, 3}, 4},
                                  keys_order = {"perm", true, {0, 2, 3, 1}, 4};
    const char *apart = NAME(output, "apart");
    NODE(g, "Reshape", apart, x, "heads_shape");
    return NODE_WITH(g, "Transpose", output, keys ? &keys_order : &values_order, apart);
}

static void attention(struct graph *g, const char *prefix, const char *x, size_t t)
{
    static const struct attribute last = {"axis", false, {-1}, 1},
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
    struct attribute second = {"axis", false, {1}, 1};
    snprintf(hidden, sizeof hidden, "layer.%u.norm2", g->e->shape.layers - 1);
    if (g->e->shape.task == MODEL_TASK_TOKENS) {
        linear(g, "logits", hidden, h, h + 1);
    } else if (g->e->shape.task == MODEL_TASK_SEQUENCE) {
        add_constant(g, "zero", TYPE_INT64); /* a scalar: the axis goes */
        NODE_WITH(g, "Gather", "first", &second, hidden, "zero");
        linear(g, "pooler", "first", h, h + 1);
        NODE(g, "Tanh", "pooled", "pooler");
        linear(g, "logits", "pooled", h + 2, h + 3);
    } else {
        static const struct attribute turn = {"perm", true, {1, 0}, 2};
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
    single(g, "eps", s->layer_norm_eps);
    single(g, "one", 1);
    single(g, "half", 0.5);
    single(g, "sqrt_half", 0.70710678118654752440);
    single(g, "attention_scale", 1 / sqrt((double)s->hidden / s->heads));
    integers(g, "heads_shape", 4, 0, 0, (int)s->heads, (int)(s->hidden / s->heads));
    integers(g, "hidden_shape", 3, 0, 0, (int)s->hidden);
    embeddings(g);
    for (unsigned i = 0; i < s->layers; i++) {
        layer(g, i);
    }
    head(g);
}

/* --- the file ------------------------------------------------------------------------------------------ */

static size_t constant_bytes(const struct constant *c)
{
    size_t numbers = c->type == TYPE_INT64 ? (c->dims ? c->dim[0] : 1)
                     : c->numbers || c->q  ? (c->rows ? c->rows : 1) * c->cols
                                           : 1;
    return numbers * (c->type == TYPE_INT64 ? 8 : c->type == TYPE_INT8 ? 1 : 4);
}

/* TensorProto up to its raw data. */
static enum err constant_head(const struct constant *c, struct buf *b)
{
    enum err err = E_OK;
    size_t dim[2] = {c->dim[0], c->dim[1]}, dims = c->dims;
    if (c->numbers || c->q) {
        dims = c->rows ? 2 : 1;
        dim[0] = !c->rows ? c->cols : c->transposed ? c->cols : c->rows;
        dim[1] = c->transposed ? c->rows : c->cols;
    }
    for (size_t i = 0; !err && i < dims; i++) {
        err = put_int(b, 1, dim[i]);
    }
    err = err ? err : put_int(b, 2, (uint64_t)c->type);
    err = err ? err : put_text(b, 8, c->name);
    err = err ? err : put_varint(b, 9 << 3 | BYTES);
    return err ? err : put_varint(b, constant_bytes(c));
}

static void put_number(const struct constant *c, size_t at, uint8_t *to)
{
    uint64_t bits = 0;
    if (c->type == TYPE_INT64) {
        bits = (uint64_t)c->integers[at];
    } else if (c->q) {
        to[0] = (uint8_t)c->q[at];
        return;
    } else {
        float v = c->numbers ? (float)c->numbers[at] : c->single[0];
        uint32_t small;
        memcpy(&small, &v, sizeof small);
        bits = small;
    }
    for (size_t i = 0; i < (c->type == TYPE_INT64 ? 8 : 4); i++) {
        to[i] = (uint8_t)(bits >> 8 * i);
    }
}

static enum err put_data(const struct constant *c, struct model_folder_file *file,
                         struct err_info *reterr)
{
    uint8_t piece[8192];
    size_t size = c->type == TYPE_INT64 ? 8 : c->type == TYPE_INT8 ? 1 : 4, fill = 0;
    size_t count = constant_bytes(c) / size;
    enum err err = E_OK;
    for (size_t i = 0; !err && i < count; i++) {
        /* Transposed: number i of the file is row i % rows of column i / rows. */
        put_number(c, c->transposed ? i % c->rows * c->cols + i / c->rows : i, piece + fill);
        fill += size;
        if (fill + 8 > sizeof piece || i + 1 == count) {
            err = model_folder_put(file, span_of(piece, fill), reterr);
            fill = 0;
        }
    }
    return err;
}

/* ValueInfoProto of an input or output; DIMS end with NULL, names or numbers. */
static enum err put_value(struct buf *to, unsigned field, const char *name, enum onnx_type type,
                          const char *const *dims, size_t last)
{
    struct buf shape = {.max = 256}, tensor = {.max = 512}, kind = {.max = 512},
               value = {.max = 1024};
    enum err err = E_OK;
    for (; !err && *dims; dims++) {
        struct buf dim = {.max = 64};
        err = put_text(&dim, 2, *dims);
        err = err ? err : put_bytes(&shape, 1, buf_span(&dim));
        buf_fini(&dim);
    }
    if (!err && last) {
        struct buf dim = {.max = 64};
        err = put_int(&dim, 1, last);
        err = err ? err : put_bytes(&shape, 1, buf_span(&dim));
        buf_fini(&dim);
    }
    err = err ? err : put_int(&tensor, 1, (uint64_t)type);
    err = err ? err : put_bytes(&tensor, 2, buf_span(&shape));
    err = err ? err : put_bytes(&kind, 1, buf_span(&tensor));
    err = err ? err : put_text(&value, 1, name);
    err = err ? err : put_bytes(&value, 2, buf_span(&kind));
    err = err ? err : put_bytes(to, field, buf_span(&value));
    buf_fini(&shape);
    buf_fini(&tensor);
    buf_fini(&kind);
    buf_fini(&value);
    return err;
}

/* Name, inputs and outputs: the end of a GraphProto. */
static enum err put_ends(const struct graph *g, const char *name, struct buf *b)
{
    static const char *const both[] = {"batch", "sequence", NULL}, *const batch[] = {"batch", NULL};
    bool sequence = g->e->shape.task == MODEL_TASK_SEQUENCE;
    enum err err = put_text(b, 2, name);
    err = err ? err : put_value(b, 11, "input_ids", TYPE_INT64, both, 0);
    err = err ? err : put_value(b, 11, "attention_mask", TYPE_INT64, both, 0);
    err = err ? err : put_value(b, 11, "token_type_ids", TYPE_INT64, both, 0);
    return err ? err
               : put_value(b, 12, "logits", TYPE_FLOAT, sequence ? batch : both,
                           g->e->shape.labels);
}

static size_t varint_size(uint64_t v)
{
    size_t n = 1;
    for (; v > 127; v >>= 7) {
        n++;
    }
    return n;
}

/* Everything before the graph, with its length. */
static enum err put_model(uint64_t graph_bytes, struct buf *b)
{
    struct buf opset = {.max = 16};
    enum err err = put_int(b, 1, 8);
    err = err ? err : put_text(b, 2, "concordat");
    err = err ? err : put_int(&opset, 2, 14);
    err = err ? err : put_bytes(b, 8, buf_span(&opset));
    err = err ? err : put_varint(b, 7 << 3 | BYTES);
    buf_fini(&opset);
    return err ? err : put_varint(b, graph_bytes);
}

/* A constant as field 5 of the graph. RET_BYTES: its whole length; FILE NULL: only that. */
static enum err put_constant(const struct constant *c, struct model_folder_file *file,
                             uint64_t *ret_bytes, struct err_info *reterr)
{
    struct buf inner = {.max = 512}, outer = {.max = 64};
    enum err err = constant_head(c, &inner);
    uint64_t len = inner.len + constant_bytes(c);
    err = err ? err : put_varint(&outer, 5 << 3 | BYTES);
    err = err ? err : put_varint(&outer, len);
    *ret_bytes = outer.len + len;
    if (!err && file) {
        err = model_folder_put(file, buf_span(&outer), reterr);
        err = err ? err : model_folder_put(file, buf_span(&inner), reterr);
        err = err ? err : put_data(c, file, reterr);
    }
    buf_fini(&inner);
    buf_fini(&outer);
    return err;
}

static enum err write_graph(const struct graph *g, const char *name, const char *folder,
                            const char *file_name, struct err_info *reterr)
{
    struct buf ends = {.max = 4096}, model = {.max = 256};
    struct model_folder_file file = {.fd = -1};
    uint64_t bytes = g->nodes.len, one = 0;
    enum err err = put_ends(g, name, &ends);
    bytes += ends.len;
    for (size_t i = 0; !err && i < g->count; i++) {
        err = put_constant(&g->constants[i], NULL, &one, reterr);
        bytes += one;
    }
    if (!err && bytes + 64 + varint_size(bytes) > INT32_MAX) {
        err = proto_err_set(reterr, E_LIMIT, "onnx: a file of more than 2 GB");
    }
    err = err ? err : put_model(bytes, &model);
    err = err ? err : model_folder_create(&file, folder, file_name, reterr);
    err = err ? err : model_folder_put(&file, buf_span(&model), reterr);
    err = err ? err : model_folder_put(&file, buf_span(&g->nodes), reterr);
    for (size_t i = 0; !err && i < g->count; i++) {
        err = put_constant(&g->constants[i], &file, &one, reterr);
    }
    err = err ? err : model_folder_put(&file, buf_span(&ends), reterr);
    err = model_folder_end(&file, err, reterr);
    buf_fini(&ends);
    buf_fini(&model);
    return err;
}

enum err model_onnx_write(const struct model_encoder *e, const char *name,
                          enum model_onnx_kind kind, const char *folder, const char *file,
                          struct err_info *reterr)
{
    if (model_shape_adapted(&e->shape)) {
        return proto_err_set(reterr, E_USAGE, "onnx: merge the adapters first");
    }
    struct graph g = {.e = e, .kind = kind, .nodes = {.max = (size_t)16 << 20}};
    size_t numbers = 1, rows = 1, longest = 1;
    for (size_t i = 0; kind == MODEL_ONNX_INT8 && i < e->adapters; i++) {
        numbers += model_quantised(e, i) ? e->tensors[i].rows * e->tensors[i].cols : 0;
        rows += model_quantised(e, i) ? e->tensors[i].rows : 0;
        longest = e->tensors[i].rows > longest ? e->tensors[i].rows : longest;
    }
    g.cap = 3 * e->adapters + 32;
    g.constants = proto_alloc(g.cap, sizeof *g.constants);
    g.quantised = proto_alloc(numbers, 1);
    g.zeros = proto_alloc(longest, 1);
    g.scales = proto_alloc(rows, sizeof *g.scales);
    enum err err = g.constants && g.quantised && g.zeros && g.scales ? E_OK : E_NO_MEMORY;
    if (!err) {
        build(&g);
        err = g.err;
    }
    err = err ? proto_err_set(reterr, err, "onnx: the graph cannot be held")
              : write_graph(&g, name, folder, file, reterr);
    buf_fini(&g.nodes);
    proto_free(g.constants);
    proto_free(g.quantised);
    proto_free(g.zeros);
    proto_free(g.scales);
    return err;
}
