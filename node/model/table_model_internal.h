/* A tabular model's document as it was read: for table_model.c, which applies it, and onnx_table.c, which writes it as a graph. */
#ifndef CONCORDAT_NODE_MODEL_TABLE_MODEL_INTERNAL_H
#define CONCORDAT_NODE_MODEL_TABLE_MODEL_INTERNAL_H

#include "node/model/table_model.h"

#include <jansson.h>

enum table_encoding {
    TABLE_STANDARDISED,
    TABLE_ZERO_ONE,
    TABLE_ONE_HOT
};
enum table_link {
    TABLE_LOGIT,
    TABLE_IDENTITY,
    TABLE_LOG
};

struct table_feature {
    const char *name;
    enum table_encoding encoding;
    size_t at, width;
    double min, max;
    const json_t *values;
    size_t column;
};

struct model_table_model {
    json_t *root; /* names and values are borrowed from it */
    struct table_feature *features;
    size_t feature_count, width;
    double *weights, intercept, scale,
        offset; /* weights as model_tabular has them, without the last intercept */
    size_t hidden;
    enum table_link link;
    bool midpoint;
};

#endif
