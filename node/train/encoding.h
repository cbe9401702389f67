/* What the columns of a table become for a model: numbers between -1 and 1, by public bounds and values alone.
 *
 *     err = train_encoding_plan(&schema, &columns, &encoding, reterr);
 *     train_encoding_put(&encoding.columns[i], value, missing, x);
 *
 * Threads: pure. */
#ifndef CONCORDAT_NODE_TRAIN_ENCODING_H
#define CONCORDAT_NODE_TRAIN_ENCODING_H

#include "node/train/message.h"
#include "proto/schema.h"

enum train_kind {
    TRAIN_KIND_NUMBER,   /* one value: standardised to -1 .. 1 by its bounds */
    TRAIN_KIND_BOOLEAN,  /* one value: 0 or 1 */
    TRAIN_KIND_CATEGORY, /* one 0-or-1 value for each declared value but the first */
};

struct train_column {
    int column; /* of the schema */
    enum train_kind kind;
    double low, high;
    size_t at;    /* first of its encoded values */
    size_t width; /* how many */
};

/* What a row's outcome is. */
enum train_outcome {
    TRAIN_OUTCOME_CLASS,  /* 0 or 1 */
    TRAIN_OUTCOME_NUMBER, /* standardised to -1 .. 1 by the declared bounds */
    TRAIN_OUTCOME_EVENT,  /* 0 or 1, and a time as a part of the horizon, above 0 and at most 1 */
};

struct train_encoding {
    struct train_column columns[TRAIN_FEATURES_MAX];
    size_t count;
    size_t width; /* encoded values in all */
    enum train_outcome outcome;
    int target;       /* column; unless a number its value or code is 0 or 1 */
    double low, high; /* of a number */
    int time;         /* column of an event's time; else -1 */
    double horizon;   /* in its units */
};

/* Columns by name. */
struct train_columns {
    enum train_outcome outcome;
    const char *const *features;
    size_t feature_count;
    const char *target;
    const char *time; /* of an event alone */
    double horizon;   /* 0: the largest value that is declared */
};

/* Errors: E_SCHEMA a column is missing; E_UNSUPPORTED its type cannot be used, it has no bounds or its values are private;
 * E_LIMIT more than MODEL_FEATURES_MAX encoded values. */
MUST_CHECK enum err train_encoding_plan(const struct proto_schema *schema,
                                        const struct train_columns *columns,
                                        struct train_encoding *ret, struct err_info *reterr);
/* What any weights can make of a row: the range of w.x over all rows, from public bounds alone. WEIGHTS: width of them. */
void train_encoding_range(const struct train_encoding *encoding, const double *weights,
                          double *ret_low, double *ret_high);
/* VALUE (a category's code) or, when MISSING, the middle of what may stand there, into TO[column->at ...]. */
void train_encoding_put(const struct train_column *column, double value, bool missing, float *to);

#endif
