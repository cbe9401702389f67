#include "config.h"
#include "node/train/encoding.h"

#include "node/model/logistic.h"

#include <math.h>

static enum err find_column(const struct proto_schema *schema, const char *name, int *ret,
                            struct err_info *reterr)
{
    *ret = proto_schema_find(schema, name);
    if (*ret >= 0) {
        return E_OK;
    }
    const char *near = proto_schema_suggest(schema, name);
    return proto_err_set(reterr, E_SCHEMA, "the dataset has no column %s%s%s", name,
                         near ? "; did you mean " : "", near ? near : "");
}

static enum err plan_feature(const struct proto_schema *schema, const char *name,
                             struct train_column *to, struct err_info *reterr)
{
    enum err err = find_column(schema, name, &to->column, reterr);
    if (err) {
        return err;
    }
    const struct proto_column *column = &schema->columns[to->column];
    to->width = 1;
    if (strcmp(name, schema->unit) == 0) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "%s is the privacy unit and cannot be a feature", name);
    }
    switch (column->type) {
    case PROTO_COLUMN_BOOLEAN:
        to->kind = TRAIN_KIND_BOOLEAN;
        return E_OK;
    case PROTO_COLUMN_INTEGER:
    case PROTO_COLUMN_REAL:
        to->kind = TRAIN_KIND_NUMBER;
        to->low = column->min;
        to->high = column->max;
        if (!column->has_bounds || !(column->max > column->min)) {
            return proto_err_set(reterr, E_UNSUPPORTED, "column %s has no bounds to scale it by",
                                 name);
        }
        return E_OK;
    case PROTO_COLUMN_CATEGORY:
        to->kind = TRAIN_KIND_CATEGORY;
        to->width = column->value_count - 1;
        if (column->values_private || column->value_count < 2) {
            return proto_err_set(reterr, E_UNSUPPORTED,
                                 "column %s has no public list of at least two values", name);
        }
        return E_OK;
    default:
        return proto_err_set(reterr, E_UNSUPPORTED, "column %s of type %s cannot be a feature",
                             name, proto_column_type_name(column->type));
    }
}

static enum err plan_target(const struct proto_schema *schema, const char *name,
                            struct train_encoding *ret, struct err_info *reterr)
{
    enum err err = find_column(schema, name, &ret->target, reterr);
    if (err) {
        return err;
    }
    const struct proto_column *column = &schema->columns[ret->target];
    bool two = column->type == PROTO_COLUMN_CATEGORY && !column->values_private &&
               column->value_count == 2;
    bool bit = column->type == PROTO_COLUMN_INTEGER && column->has_bounds && column->min == 0 &&
               column->max == 1;
    return column->type == PROTO_COLUMN_BOOLEAN || two || bit
               ? E_OK
               : proto_err_set(reterr, E_UNSUPPORTED,
                               "target %s must be a boolean, a public category of two values or an "
                               "integer from 0 to 1",
                               name);
}

enum err train_encoding_plan(const struct proto_schema *schema, const char *const *features,
                             size_t feature_count, const char *target, struct train_encoding *ret,
                             struct err_info *reterr)
{
    if (feature_count == 0 || feature_count > TRAIN_FEATURES_MAX) {
        return proto_err_set(reterr, E_LIMIT, "1 to %d features", TRAIN_FEATURES_MAX);
    }
    memset(ret, 0, sizeof *ret);
    enum err err = plan_target(schema, target, ret, reterr);
    for (size_t i = 0; !err && i < feature_count; i++) {
        struct train_column *column = &ret->columns[i];
        err = plan_feature(schema, features[i], column, reterr);
        if (!err && column->column == ret->target) {
            err = proto_err_set(reterr, E_UNSUPPORTED, "the target cannot be a feature");
        }
        column->at = ret->width;
        ret->width += column->width;
    }
    ret->count = feature_count;
    if (!err && ret->width > MODEL_FEATURES_MAX) {
        err = proto_err_set(reterr, E_LIMIT, "the features become %zu values, more than %u",
                            ret->width, MODEL_FEATURES_MAX);
    }
    return err;
}

void train_encoding_put(const struct train_column *column, double value, bool missing, float *to)
{
    float *at = to + column->at;
    switch (column->kind) {
    case TRAIN_KIND_NUMBER:
        at[0] = missing || isnan(value) ? 0 : model_standardise(value, column->low, column->high);
        return;
    case TRAIN_KIND_BOOLEAN:
        at[0] = missing ? 0.5F : (value != 0 ? 1.0F : 0.0F);
        return;
    case TRAIN_KIND_CATEGORY:
        for (size_t i = 0; i < column->width; i++) {
            at[i] = missing ? 1.0F / (float)(column->width + 1)
                            : (value == (double)(i + 1) ? 1.0F : 0.0F);
        }
        return;
    }
}
