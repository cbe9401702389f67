/* What the writers of ONNX files share: a graph under construction and its file. onnx.c has the encoder's graph, onnx_table.c those of
 * tables; nobody else includes this. Protobuf by hand, streamed: constants are read where they lie when the file is written.
 *
 *     struct onnx_graph g = {.nodes = {.max = SIZE}, .ends = {.max = SIZE}};
 *     err = onnx_graph_init(&g, constants, name);
 *     onnx_input(&g, "x", ONNX_FLOAT, batch, 3);
 *     ONNX_NODE(&g, "MatMul", "y", "x", onnx_numbers(&g, "w", numbers, 3, 1));
 *     onnx_output(&g, "y", ONNX_FLOAT, batch, 1);
 *     err = g.err ? g.err : onnx_graph_write(&g, folder, file, reterr);
 *     onnx_graph_fini(&g);
 *
 * The first failure stays in `err` and stops the rest. Threads: one at a time for a graph. Limits: 2 GB, protobuf's. */
#ifndef CONCORDAT_NODE_MODEL_ONNX_GRAPH_H
#define CONCORDAT_NODE_MODEL_ONNX_GRAPH_H

#include "node/model/real.h"
#include "proto/alloc.h"

/* Numbers of TensorProto.DataType. */
enum onnx_type {
    ONNX_FLOAT = 1,
    ONNX_INT8 = 3,
    ONNX_INT64 = 7
};

/* A constant: numbers of a matrix as it stands, transposed, or in eight bits; or given integers. */
struct onnx_constant {
    char name[96];
    enum onnx_type type;
    size_t rows, cols; /* as they lie; rows 0: a vector of cols */
    bool transposed;
    const real *numbers;
    const int8_t *q; /* rows x cols */
    float single[1];
    int64_t integers[4];
    size_t dims, dim[2];
};

struct onnx_graph {
    struct buf nodes, ends;
    struct onnx_constant *constants;
    size_t count, cap;
    enum err err;
};

/* An attribute of a node; INTS are up to four. */
struct onnx_attribute {
    const char *name;
    bool list;
    int64_t ints[4];
    size_t count;
};

/* CAP constants at most. Errors: E_NO_MEMORY. */
MUST_CHECK enum err onnx_graph_init(struct onnx_graph *g, size_t cap, const char *name);
void onnx_graph_fini(struct onnx_graph *g);

/* NULL after a failure. */
struct onnx_constant *onnx_constant_add(struct onnx_graph *g, const char *name,
                                        enum onnx_type type);
/* These and onnx_node return the name of what they add. NUMBERS: rows x cols, borrowed until the file is written; ROWS 0: a vector. */
const char *onnx_numbers(struct onnx_graph *g, const char *name, const real *numbers, size_t rows,
                         size_t cols);
const char *onnx_integers(struct onnx_graph *g, const char *name, size_t count, ...);
const char *onnx_single(struct onnx_graph *g, const char *name, double v);
/* INPUTS end with NULL. */
const char *onnx_node(struct onnx_graph *g, const char *op, const char *output,
                      const struct onnx_attribute *attribute, const char *const *inputs);
#define ONNX_NODE(g, op, output, ...)                                                              \
    onnx_node(g, op, output, NULL, (const char *const[]){__VA_ARGS__, NULL})
#define ONNX_NODE_WITH(g, op, output, attribute, ...)                                              \
    onnx_node(g, op, output, attribute, (const char *const[]){__VA_ARGS__, NULL})
/* DIMS: names of dimensions, ending with NULL; LAST: one more, of that size; 0: none. */
void onnx_input(struct onnx_graph *g, const char *name, enum onnx_type type,
                const char *const *dims, size_t last);
void onnx_output(struct onnx_graph *g, const char *name, enum onnx_type type,
                 const char *const *dims, size_t last);

/* FOLDER/FILE, mode 0600, complete and on disk, or as it was before. Errors: g->err; E_LIMIT; E_NO_MEMORY; E_IO, E_DISK_FULL. */
MUST_CHECK enum err onnx_graph_write(const struct onnx_graph *g, const char *folder,
                                     const char *file, struct err_info *reterr);

#endif
