#include "config.h"
#include "node/model/onnx_graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "node/model/folder.h"

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

enum err onnx_graph_init(struct onnx_graph *g, size_t cap, const char *name)
{
    g->cap = cap;
    g->constants = proto_alloc(cap, sizeof *g->constants);
    return g->constants ? put_text(&g->ends, 2, name) : E_NO_MEMORY;
}

void onnx_graph_fini(struct onnx_graph *g)
{
    buf_fini(&g->nodes);
    buf_fini(&g->ends);
    proto_free(g->constants);
}

struct onnx_constant *onnx_constant_add(struct onnx_graph *g, const char *name, enum onnx_type type)
{
    if (g->err || g->count == g->cap) {
        g->err = g->err ? g->err : E_LIMIT;
        return NULL;
    }
    struct onnx_constant *c = &g->constants[g->count++];
    *c = (struct onnx_constant){.type = type};
    snprintf(c->name, sizeof c->name, "%s", name);
    return c;
}

const char *onnx_numbers(struct onnx_graph *g, const char *name, const real *numbers, size_t rows,
                         size_t cols)
{
    struct onnx_constant *c = onnx_constant_add(g, name, ONNX_FLOAT);
    if (c) {
        c->numbers = numbers;
        c->rows = rows;
        c->cols = cols;
    }
    return name;
}

const char *onnx_integers(struct onnx_graph *g, const char *name, size_t count, ...)
{
    struct onnx_constant *c = onnx_constant_add(g, name, ONNX_INT64);
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

const char *onnx_single(struct onnx_graph *g, const char *name, double v)
{
    struct onnx_constant *c = onnx_constant_add(g, name, ONNX_FLOAT);
    if (c) {
        c->single[0] = (float)v;
    }
    return name;
}

static enum err put_attribute(struct buf *to, const struct onnx_attribute *a)
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

const char *onnx_node(struct onnx_graph *g, const char *op, const char *output,
                      const struct onnx_attribute *attribute, const char *const *inputs)
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

/* --- the file ------------------------------------------------------------------------------------------ */

static size_t constant_bytes(const struct onnx_constant *c)
{
    size_t numbers = c->type == ONNX_INT64 ? (c->dims ? c->dim[0] : 1)
                     : c->numbers || c->q  ? (c->rows ? c->rows : 1) * c->cols
                                           : 1;
    return numbers * (c->type == ONNX_INT64 ? 8 : c->type == ONNX_INT8 ? 1 : 4);
}

/* TensorProto up to its raw data. */
static enum err constant_head(const struct onnx_constant *c, struct buf *b)
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

static void put_number(const struct onnx_constant *c, size_t at, uint8_t *to)
{
    uint64_t bits = 0;
    if (c->type == ONNX_INT64) {
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
    for (size_t i = 0; i < (c->type == ONNX_INT64 ? 8 : 4); i++) {
        to[i] = (uint8_t)(bits >> 8 * i);
    }
}

static enum err put_data(const struct onnx_constant *c, struct model_folder_file *file,
                         struct err_info *reterr)
{
    uint8_t piece[8192];
    size_t size = c->type == ONNX_INT64 ? 8 : c->type == ONNX_INT8 ? 1 : 4, fill = 0;
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

void onnx_input(struct onnx_graph *g, const char *name, enum onnx_type type,
                const char *const *dims, size_t last)
{
    g->err = g->err ? g->err : put_value(&g->ends, 11, name, type, dims, last);
}

void onnx_output(struct onnx_graph *g, const char *name, enum onnx_type type,
                 const char *const *dims, size_t last)
{
    g->err = g->err ? g->err : put_value(&g->ends, 12, name, type, dims, last);
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
static enum err put_constant(const struct onnx_constant *c, struct model_folder_file *file,
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

enum err onnx_graph_write(const struct onnx_graph *g, const char *folder, const char *file_name,
                          struct err_info *reterr)
{
    struct buf model = {.max = 256};
    struct model_folder_file file = {.fd = -1};
    uint64_t bytes = g->nodes.len + g->ends.len, one = 0;
    enum err err = g->err ? proto_err_set(reterr, g->err, "onnx: the graph cannot be held") : E_OK;
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
    err = err ? err : model_folder_put(&file, buf_span(&g->ends), reterr);
    err = model_folder_end(&file, err, reterr);
    buf_fini(&model);
    return err;
}
