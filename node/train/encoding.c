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
    bool number = column->type == PROTO_COLUMN_INTEGER || column->type == PROTO_COLUMN_REAL;
    if (ret->outcome == TRAIN_OUTCOME_NUMBER) {
        ret->low = column->min;
        ret->high = column->max;
        return number && column->has_bounds && column->max > column->min
                   ? E_OK
                   : proto_err_set(reterr, E_UNSUPPORTED,
                                   "target %s must be an integer or real with bounds", name);
    }
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

static enum err plan_time(const struct proto_schema *schema, const struct train_columns *columns,
                          struct train_encoding *ret, struct err_info *reterr)
{
    enum err err = find_column(schema, columns->time, &ret->time, reterr);
    if (err) {
        return err;
    }
    const struct proto_column *column = &schema->columns[ret->time];
    bool number = column->type == PROTO_COLUMN_INTEGER || column->type == PROTO_COLUMN_REAL;
    ret->horizon = columns->horizon > 0 ? columns->horizon : column->has_bounds ? column->max : 0;
    return number && ret->horizon > 0 && ret->time != ret->target
               ? E_OK
               : proto_err_set(reterr, E_UNSUPPORTED,
                               "time %s must be an integer or real with a max above 0, or the job "
                               "must state a horizon",
                               columns->time);
}

enum err train_encoding_plan(const struct proto_schema *schema, const struct train_columns *columns,
                             struct train_encoding *ret, struct err_info *reterr)
{
    if (columns->feature_count == 0 || columns->feature_count > TRAIN_FEATURES_MAX) {
        return proto_err_set(reterr, E_LIMIT, "1 to %d features", TRAIN_FEATURES_MAX);
    }
    memset(ret, 0, sizeof *ret);
    ret->outcome = columns->outcome;
    ret->time = -1;
    enum err err = plan_target(schema, columns->target, ret, reterr);
    if (!err && ret->outcome == TRAIN_OUTCOME_EVENT) {
        err = plan_time(schema, columns, ret, reterr);
    }
    for (size_t i = 0; !err && i < columns->feature_count; i++) {
        struct train_column *column = &ret->columns[i];
        err = plan_feature(schema, columns->features[i], column, reterr);
        if (!err && (column->column == ret->target || column->column == ret->time)) {
            err = proto_err_set(reterr, E_UNSUPPORTED, "the %s cannot be a feature",
                                column->column == ret->time ? "time" : "target");
        }
        column->at = ret->width;
        ret->width += column->width;
    }
    ret->count = columns->feature_count;
    if (!err && ret->width > MODEL_FEATURES_MAX) {
        err = proto_err_set(reterr, E_LIMIT, "the features become %zu values, more than %u",
                            ret->width, MODEL_FEATURES_MAX);
    }
    return err;
}

void train_encoding_range(const struct train_encoding *encoding, const double *weights,
                          double *ret_low, double *ret_high)
{
    *ret_low = *ret_high = 0;
    for (size_t i = 0; i < encoding->count; i++) {
        const struct train_column *column = &encoding->columns[i];
        double low = column->kind == TRAIN_KIND_NUMBER ? -fabs(weights[column->at]) : 0;
        double high = column->kind == TRAIN_KIND_NUMBER ? -low : 0;
        for (size_t j = 0; column->kind != TRAIN_KIND_NUMBER && j < column->width; j++) {
            low = fmin(low, weights[column->at + j]);
            high = fmax(high, weights[column->at + j]);
        }
        *ret_low += low;
        *ret_high += high;
    }
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
