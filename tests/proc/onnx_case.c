/* Writes small models as ONNX files, with inputs and the answers of the project's own engine, for export_onnx.py.
 *
 *     onnx_case FOLDER            cases.json and one file for each case */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "node/model/onnx.h"
#include "node/model/quantise.h"
#include "node/model/table_model.h"
#include "proto/alloc.h"
#include "tests/lib/seed.h"

static void must(enum err err, const char *what)
{
    if (err) {
        fprintf(stderr, "onnx_case: %s: %s\n", what, proto_err_name(err));
        exit(1);
    }
}

/* Sequences of 7, 3 and 5 pieces. */
static const uint32_t start[] = {0, 7, 10, 15};

static json_t *answers(const struct model_encoder *e, const struct model_batch *b)
{
    struct model_run *run = model_run_new(e);
    json_t *list = json_array();
    must(run ? model_run_forward(run, b, NULL) : E_NO_MEMORY, "forward");
    size_t rows = e->shape.task == MODEL_TASK_SEQUENCE ? b->sequences : start[3];
    for (size_t i = 0; i < rows * e->shape.labels; i++) {
        json_array_append_new(list, json_real((double)model_run_logits(run)[i]));
    }
    model_run_free(run);
    return list;
}

static json_t *write_case(const char *folder, enum model_task task, enum model_onnx_kind kind)
{
    static const char *const names[] = {"tokens", "sequence", "masked"};
    struct model_shape shape = {.vocabulary = 40,
                                .hidden = 24,
                                .layers = 2,
                                .heads = 3,
                                .inner = 36,
                                .positions = 16,
                                .types = 2,
                                .layer_norm_eps = 1e-12,
                                .task = task,
                                .labels = task == MODEL_TASK_MASKED ? 40 : 5};
    struct model_encoder *e = NULL;
    struct seed random = seed_of(6);
    uint32_t ids[15];
    uint8_t types[15];
    char file[64];
    must(model_encoder_new(&shape, 1, &e, NULL), "encoder");
    for (size_t i = 0; i < e->weight_count; i++) {
        e->weights[i] += (real)seed_below(&random, 2001) / 2000 - (real)0.5;
    }
    json_t *id_list = json_array(), *type_list = json_array();
    for (size_t i = 0; i < 15; i++) {
        ids[i] = (uint32_t)seed_below(&random, 40);
        types[i] = (uint8_t)(i % 2);
        json_array_append_new(id_list, json_integer(ids[i]));
        json_array_append_new(type_list, json_integer(types[i]));
    }
    snprintf(file, sizeof file, "%s%s.onnx", names[task], kind == MODEL_ONNX_INT8 ? "-int8" : "");
    must(model_onnx_write(e, names[task], kind, folder, file, NULL), file);
    if (kind == MODEL_ONNX_INT8) {
        must(model_encoder_quantise(e, NULL), "quantise");
    }
    struct model_batch b = {
        .sequences = 3, .start = start, .ids = ids, .types = types, .groups = 1};
    json_t *view =
        json_pack("{s:s, s:i, s:[iii], s:o, s:o, s:o}", "file", file, "labels", (int)shape.labels,
                  "lengths", 7, 3, 5, "ids", id_list, "types", type_list, "logits", answers(e, &b));
    model_encoder_close(e);
    return view;
}

/* Documents as node/train writes them, rows as people have them, and what the engine answers. */
#define FEATURES                                                                                   \
    "\"features\":[{\"name\":\"age\",\"at\":0,\"width\":1,\"encoding\":\"standardised\",\"min\":"  \
    "50,\"max\":90},"                                                                              \
    "{\"name\":\"seen first\",\"at\":1,\"width\":1,\"encoding\":\"zero-one\"},"                    \
    "{\"name\":\"site\",\"at\":2,\"width\":2,\"encoding\":\"one-hot\",\"values\":[\"a\",\"b\","    \
    "\"c\"]}]"
static const struct table_case {
    const char *file, *output, *document;
} tables[] = {
    {"logistic.onnx", "probability",
     "{\"format\":\"concordat-linear-1\",\"link\":\"logit\",\"missing\":\"drop\"," FEATURES
     ",\"target\":{\"name\":\"y\"},\"weights\":[0.7,-1.1,0.4,2.5],\"intercept\":-0.3}"},
    {"linear.onnx", "value",
     "{\"format\":\"concordat-linear-1\",\"link\":\"identity\",\"missing\":\"drop\"," FEATURES
     ",\"target\":{\"name\":\"y\",\"scale\":5,\"offset\":4},\"weights\":[0.7,-1.1,0.4,2.5],"
     "\"intercept\":-0.3}"},
    {"cox.onnx", "hazard_ratio",
     "{\"format\":\"concordat-linear-1\",\"link\":\"log\",\"missing\":\"midpoint\"," FEATURES
     ",\"target\":{\"name\":\"y\"},\"weights\":[0.7,-1.1,0.4,2.5],\"intercept\":-0.3}"},
    {"network.onnx", "probability",
     "{\"format\":\"concordat-network-1\",\"link\":\"logit\",\"missing\":\"drop\"," FEATURES
     ",\"target\":{\"name\":\"y\"},\"hidden\":[{\"weights\":[0.7,-1.1,0.4,2.5],\"intercept\":0.2},"
     "{\"weights\":[-0.2,0.9,1.4,-0.6],\"intercept\":-0.5},{\"weights\":[0.1,0.3,-2,0.8],"
     "\"intercept\":1}],"
     "\"weights\":[1.5,-0.8,0.6],\"intercept\":0.1}"},
};

static json_t *write_table(const char *folder, const struct table_case *t)
{
    static const char *const rows[][3] = {{"50", "0", "a"},
                                          {"71.5", "1", "b"},
                                          {"90", "true", "c"},
                                          {"20", "0", "b"},
                                          {"200", "1", "a"}};
    static const double sites[] = {0, 1, 2, 1, 0}, first[] = {0, 1, 1, 0, 1};
    const struct span names[] = {span_str("age"), span_str("seen first"), span_str("site")};
    struct model_table_model *m = NULL;
    json_t *age = json_array(), *seen = json_array(), *site = json_array(), *want = json_array();
    must(model_table_model_read(span_str(t->document), &m, NULL), t->file);
    must(model_table_model_onnx(m, "table", folder, t->file, NULL), t->file);
    must(model_table_model_header(m, names, 3, NULL), "header");
    for (size_t i = 0; i < 5; i++) {
        const struct span fields[] = {span_str(rows[i][0]), span_str(rows[i][1]),
                                      span_str(rows[i][2])};
        json_array_append_new(want, json_real(model_table_model_answer(m, fields, 3)));
        json_array_append_new(age, json_real(strtod(rows[i][0], NULL)));
        json_array_append_new(seen, json_real(first[i]));
        json_array_append_new(site, json_real(sites[i]));
    }
    model_table_model_free(m);
    return json_pack("{s:s, s:s, s:o, s:{s:o, s:o, s:o}}", "file", t->file, "output", t->output,
                     "answers", want, "columns", "age", age, "seen first", seen, "site", site);
}

int main(int argc, char **argv)
{
    char path[4096];
    json_t *cases = json_array();
    if (argc != 2) {
        fputs("usage: onnx_case FOLDER\n", stderr);
        return 2;
    }
    for (enum model_task task = MODEL_TASK_TOKENS; task <= MODEL_TASK_MASKED; task++) {
        json_array_append_new(cases, write_case(argv[1], task, MODEL_ONNX_FLOAT));
        json_array_append_new(cases, write_case(argv[1], task, MODEL_ONNX_INT8));
    }
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        json_array_append_new(cases, write_table(argv[1], &tables[i]));
    }
    snprintf(path, sizeof path, "%s/cases.json", argv[1]);
    int failed = json_dump_file(cases, path, JSON_REAL_PRECISION(12));
    json_decref(cases);
    return failed ? 1 : 0;
}
