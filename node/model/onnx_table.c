/* A tabular model as an ONNX graph: encoding of the features, the layers, and the link. */
#include "config.h"
#include "node/model/table_model_internal.h"

#include <stdio.h>
#include <string.h>

#include "node/model/onnx_graph.h"

#define INSIDE "concordat/" /* names within the graph begin with it; no feature's may */

static const char *const batch[] = {"batch", NULL};

struct table_graph {
    struct onnx_graph graph;
    const struct model_table_model *m;
    real *numbers; /* of all constants that are no single ones */
    size_t at;
    const char **pieces; /* names of encoded features, in their order, and NULL */
    char (*names)[48];
};

#define NODE(g, ...)      ONNX_NODE(&(g)->graph, __VA_ARGS__)
#define NODE_WITH(g, ...) ONNX_NODE_WITH(&(g)->graph, __VA_ARGS__)

/* Room for COUNT numbers. */
static real *room(struct table_graph *g, size_t count)
{
    real *to = g->numbers + g->at;
    g->at += count;
    return to;
}

/* 1 where the input is the number of the column's value; the first value has no column. */
static void one_hot(struct table_graph *g, size_t i, const char *prefix)
{
    static const struct onnx_attribute to_float = {"to", false, {ONNX_FLOAT}, 1};
    const struct table_feature *f = &g->m->features[i];
    char values[64], same[64];
    real *numbers = room(g, f->width);
    for (size_t k = 0; k < f->width; k++) {
        numbers[k] = (real)(k + 1);
    }
    snprintf(values, sizeof values, "%s.values", prefix);
    snprintf(same, sizeof same, "%s.same", prefix);
    NODE(g, "Equal", same, f->name, onnx_numbers(&g->graph, values, numbers, 0, f->width));
    NODE_WITH(g, "Cast", prefix, &to_float, same);
}

/* As model_standardise: clamped to the bounds, then from -1 to 1. */
static void standardised(struct table_graph *g, size_t i, const char *prefix)
{
    const struct table_feature *f = &g->m->features[i];
    double slope = 2 / (f->max - f->min);
    char low[64], high[64], clamped[64], factor[64], scaled[64], shift[64];
    snprintf(low, sizeof low, "%s.low", prefix);
    snprintf(high, sizeof high, "%s.high", prefix);
    snprintf(clamped, sizeof clamped, "%s.clamped", prefix);
    snprintf(factor, sizeof factor, "%s.factor", prefix);
    snprintf(scaled, sizeof scaled, "%s.scaled", prefix);
    snprintf(shift, sizeof shift, "%s.shift", prefix);
    NODE(g, "Clip", clamped, f->name, onnx_single(&g->graph, low, f->min),
         onnx_single(&g->graph, high, f->max));
    NODE(g, "Mul", scaled, clamped, onnx_single(&g->graph, factor, slope));
    NODE(g, "Add", prefix, scaled, onnx_single(&g->graph, shift, -1 - slope * f->min));
}

static void zero_one(struct table_graph *g, size_t i, const char *prefix)
{
    char size[64];
    snprintf(size, sizeof size, "%s.size", prefix);
    NODE(g, "Abs", size, g->m->features[i].name);
    NODE(g, "Sign", prefix, size);
}

/* Documents have their features in the order of their numbers. */
static enum err encode(struct table_graph *g, struct err_info *reterr)
{
    size_t at = 0, pieces = 0;
    for (size_t i = 0; i < g->m->feature_count; i++) {
        const struct table_feature *f = &g->m->features[i];
        if (f->at != at) {
            return proto_err_set(reterr, E_INVALID, "the model's document: features out of order");
        }
        if (strncmp(f->name, INSIDE, strlen(INSIDE)) == 0 || !f->name[0]) {
            return proto_err_set(reterr, E_UNSUPPORTED,
                                 "onnx: a feature cannot be called \"%.80s\"", f->name);
        }
        at += f->width;
        onnx_input(&g->graph, f->name, ONNX_FLOAT, batch, 1);
        if (f->width == 0) {
            continue;
        }
        char *prefix = g->names[i];
        snprintf(prefix, sizeof g->names[i], INSIDE "feature.%zu", i);
        g->pieces[pieces++] = prefix;
        if (f->encoding == TABLE_ONE_HOT) {
            one_hot(g, i, prefix);
        } else if (f->encoding == TABLE_ZERO_ONE) {
            zero_one(g, i, prefix);
        } else {
            standardised(g, i, prefix);
        }
    }
    if (at != g->m->width || pieces == 0) {
        return proto_err_set(reterr, E_INVALID, "the model's document: weights without features");
    }
    static const struct onnx_attribute columns = {"axis", false, {1}, 1};
    onnx_node(&g->graph, "Concat", INSIDE "x", &columns, g->pieces);
    return E_OK;
}

static const char *layers(struct table_graph *g)
{
    const struct model_table_model *m = g->m;
    const double *last = m->weights + m->hidden * (m->width + 1);
    size_t width = m->hidden ? m->hidden : m->width;
    real *weights = room(g, width);
    const char *x = INSIDE "x";
    if (m->hidden) {
        real *units = room(g, m->hidden * m->width), *intercepts = room(g, m->hidden);
        for (size_t i = 0; i < m->hidden; i++) {
            for (size_t k = 0; k < m->width; k++) {
                units[k * m->hidden + i] = (real)m->weights[i * (m->width + 1) + k];
            }
            intercepts[i] = (real)m->weights[i * (m->width + 1) + m->width];
        }
        NODE(g, "MatMul", INSIDE "units.product", x,
             onnx_numbers(&g->graph, INSIDE "units.weights", units, m->width, m->hidden));
        NODE(g, "Add", INSIDE "units.sum", INSIDE "units.product",
             onnx_numbers(&g->graph, INSIDE "units.intercepts", intercepts, 0, m->hidden));
        x = NODE(g, "Tanh", INSIDE "units", INSIDE "units.sum");
    }
    for (size_t i = 0; i < width; i++) {
        weights[i] = (real)last[i];
    }
    NODE(g, "MatMul", INSIDE "product", x,
         onnx_numbers(&g->graph, INSIDE "weights", weights, width, 1));
    return NODE(g, "Add", INSIDE "score", INSIDE "product",
                onnx_single(&g->graph, INSIDE "intercept", m->intercept));
}

static enum err link_out(struct table_graph *g, const char *score, struct err_info *reterr)
{
    static const char *const names[] = {
        [TABLE_LOGIT] = "probability", [TABLE_IDENTITY] = "value", [TABLE_LOG] = "hazard_ratio"};
    const char *name = names[g->m->link];
    for (size_t i = 0; i < g->m->feature_count; i++) {
        if (strcmp(g->m->features[i].name, name) == 0) {
            return proto_err_set(reterr, E_UNSUPPORTED,
                                 "onnx: a feature is called \"%s\", as the answer is", name);
        }
    }
    if (g->m->link == TABLE_IDENTITY) {
        NODE(g, "Mul", INSIDE "scaled", score, onnx_single(&g->graph, INSIDE "scale", g->m->scale));
        NODE(g, "Add", name, INSIDE "scaled",
             onnx_single(&g->graph, INSIDE "offset", g->m->offset));
    } else {
        NODE(g, g->m->link == TABLE_LOG ? "Exp" : "Sigmoid", name, score);
    }
    onnx_output(&g->graph, name, ONNX_FLOAT, batch, 1);
    return E_OK;
}

enum err model_table_model_onnx(const struct model_table_model *m, const char *name,
                                const char *folder, const char *file, struct err_info *reterr)
{
    struct table_graph g = {
        .m = m,
        .graph = {.nodes = {.max = (size_t)16 << 20}, .ends = {.max = (size_t)4 << 20}},
    };
    size_t most = m->feature_count + 1;
    g.numbers = proto_alloc(m->width + (m->hidden ? m->hidden * (m->width + 2) : m->width) + 1,
                            sizeof *g.numbers);
    g.pieces = proto_alloc(most, sizeof *g.pieces);
    g.names = proto_alloc(most, sizeof *g.names);
    enum err err = g.numbers && g.pieces && g.names ? E_OK : E_NO_MEMORY;
    err = err ? err : onnx_graph_init(&g.graph, 4 * most + 8, name);
    err = err ? err : encode(&g, reterr);
    err = err ? err : link_out(&g, layers(&g), reterr);
    err = err ? err : onnx_graph_write(&g.graph, folder, file, reterr);
    onnx_graph_fini(&g.graph);
    proto_free(g.numbers);
    proto_free(g.pieces);
    proto_free(g.names);
    return err;
}
