/* The query tree: what a SQL text means, first as parsed (names and literals), then as bound to a
 * published schema (columns, numbers, category codes), and its canonical form, the same for every
 * wording of the same question. It reads no rows.
 *
 *     struct proto_query query = {0};
 *     enum err err = proto_sql_parse(text, &query, reterr);
 *     if (!err) { err = proto_query_bind(&query, &schema, reterr); }
 *     if (!err) { err = proto_query_canonical(&query, &bytes); }       // hash these, sign these
 *     ...
 *     proto_query_fini(&query);
 *
 * The bound WHERE is in negation normal form without NOT: SQL's three-valued logic then needs no
 * third value, because AND and OR are monotone and only TRUE selects a row. So a leaf on a missing
 * value is simply false, except IS NULL. Operators of a bound tree, by the leaf's column:
 *
 *     AND, OR             left and right; balanced, so its depth is logarithmic in the number of
 *                         operands, plus the nesting
 *     FALSE               only as the whole tree (TRUE as the whole tree is where = NULL)
 *     EQ NE LT LE GT GE   numbers[0]; integer, real, date (in days since 1970-01-01); of integers
 *                         and dates only EQ NE LE GE, with integral numbers
 *     IN, NOT_IN          numbers[count], ascending, count >= 2; integer, real, date
 *     IN                  codes[count], ascending, count >= 1; category (index of the value) and
 *                         boolean (0, 1); no other comparison of these remains
 *     IN, NOT_IN          texts[count], ascending, count >= 1; category with private values. Which codes they have, if
 *                         any, is each site's to find out
 *     IS_NULL, IS_NOT_NULL    every column but text and the privacy unit
 *
 * A literal that is no declared value of a category is folded away: `=` to FALSE, `<>` to
 * IS NOT NULL.
 *
 * Limits: PROTO_QUERY_*. Threads: a bound query is read-only. Memory: all of it belongs to
 * query.arena. */
#ifndef CONCORDAT_PROTO_QUERY_H
#define CONCORDAT_PROTO_QUERY_H

#include "proto/schema.h"

#define PROTO_QUERY_TEXT_MAX      16384  /* bytes of SQL from people */
#define PROTO_QUERY_SENT_MAX      8192   /* of it that a question to sites may have */
#define PROTO_QUERY_BYTES_MAX     131072 /* of a canonical form, which may be longer */
#define PROTO_QUERY_ITEMS_MAX     16
#define PROTO_QUERY_GROUPS_MAX    4
#define PROTO_QUERY_CELLS_MAX     4096
#define PROTO_QUERY_NODES_MAX     1024
#define PROTO_QUERY_LITERALS_MAX  2048
#define PROTO_QUERY_DEPTH_MAX     64
#define PROTO_QUERY_ARGUMENTS_MAX 9 /* columns of one aggregate */
#define PROTO_QUERY_BINS_MAX      1024
#define PROTO_QUERY_TIMES_MAX     512

enum proto_aggregate {
    PROTO_AGG_GROUP, /* not an aggregate: a group column in the select list */
    PROTO_AGG_COUNT_ROWS,
    PROTO_AGG_COUNT_UNITS, /* COUNT(DISTINCT unit) */
    PROTO_AGG_COUNT,       /* COUNT(column): rows with a value */
    PROTO_AGG_SUM,
    PROTO_AGG_AVG,
    PROTO_AGG_VAR, /* of a sample: over n - 1 */
    PROTO_AGG_STDDEV,
    PROTO_AGG_CORR, /* Pearson's, over rows in which both columns have a value */
    PROTO_AGG_MIN,
    PROTO_AGG_MAX,
    PROTO_AGG_MEDIAN,   /* bound: QUANTILE(column, 0.5) */
    PROTO_AGG_QUANTILE, /* bound: strictly between MIN and MAX, which q = 0 and q = 1 become */
    /* Tables: their answer is rows, so each stands alone but for group columns. */
    PROTO_AGG_HISTOGRAM,
    PROTO_AGG_LINREG, /* of the first column on the others, over rows in which all have a value */
    PROTO_AGG_SURVIVAL,
    PROTO_AGG_KINDS
};

enum proto_op {
    PROTO_OP_TRUE,
    PROTO_OP_FALSE,
    PROTO_OP_AND,
    PROTO_OP_OR,
    PROTO_OP_NOT,
    PROTO_OP_EQ,
    PROTO_OP_NE,
    PROTO_OP_LT,
    PROTO_OP_LE,
    PROTO_OP_GT,
    PROTO_OP_GE,
    PROTO_OP_IN,
    PROTO_OP_NOT_IN,
    PROTO_OP_IS_NULL,
    PROTO_OP_IS_NOT_NULL,
    PROTO_OP_COLUMN, /* a bare boolean column; parsed trees only */
};

enum proto_literal_kind {
    PROTO_LITERAL_NULL,
    PROTO_LITERAL_NUMBER,
    PROTO_LITERAL_TEXT,
    PROTO_LITERAL_BOOLEAN,
};

struct proto_literal {
    enum proto_literal_kind kind;
    double number;    /* also 0 and 1 of a boolean */
    const char *text; /* a number as it was written, a string without quotes, "true", "false" */
    size_t at;        /* its character in the SQL, from 1 */
};

struct proto_predicate {
    enum proto_op op;
    uint16_t depth;
    size_t at; /* its character in the SQL, from 1; 0 where folding made the node */
    struct proto_predicate *left;
    struct proto_predicate *right;
    /* Leaf as parsed. */
    char column_name[PROTO_NAME_SIZE];
    struct proto_literal *literals;
    size_t literal_count;
    /* Leaf as bound. */
    int column;
    double *numbers;
    int32_t *codes;
    const char **texts; /* of a private category, whose codes only the site knows */
    size_t count;
};

struct proto_query_argument {
    char name[PROTO_NAME_SIZE];
    size_t at;
    int column; /* bound; else -1 */
    double min; /* bound; where numbers are needed: the declared bounds, or narrower ones that the
                   condition leaves; 0 and 1 of a boolean */
    double max;
};

struct proto_query_item {
    enum proto_aggregate kind;
    size_t at;
    struct proto_query_argument arguments[PROTO_QUERY_ARGUMENTS_MAX]; /* its columns */
    size_t argument_count; /* 0 of COUNT(*); 1 of a group column */
    double number;         /* q of QUANTILE, bins of HISTOGRAM and SURVIVAL */
    int group;             /* bound; of PROTO_AGG_GROUP: index into group_columns; else -1 */
    char label[80];        /* AS name, else sex, count, count_age, units, sum_age, avg_age */
    bool has_label;        /* the label was given */
};

struct proto_query {
    char dataset[65];
    struct proto_query_item
        items[PROTO_QUERY_ITEMS_MAX]; /* the select list in its order, group columns among them */
    size_t item_count;
    char group_names[PROTO_QUERY_GROUPS_MAX][PROTO_NAME_SIZE];
    size_t group_at[PROTO_QUERY_GROUPS_MAX];
    int group_columns[PROTO_QUERY_GROUPS_MAX]; /* bound; categories, booleans, whole numbers */
    size_t group_sizes
        [PROTO_QUERY_GROUPS_MAX]; /* bound; number of values of each, 1 of a private one */
    size_t group_count;
    /* bound; texts by code; NULL of a private one */
    const char *const *group_values[PROTO_QUERY_GROUPS_MAX];
    bool keyed; /* bound; values of a group are private: which cells there are comes with answers */
    int table;  /* bound; the item whose answer is rows of its own; else -1 */
    struct proto_predicate *where; /* NULL: every row */
    const char *where_text;        /* bound; its canonical form, NULL with where */
    size_t
        cells; /* bound; product of the sizes of public groups, 1 without any; the last group column
                     varies fastest */
    /* Bound; what looks like a mistake and is none of grammar or types: a value that the column does not have, a condition
     * that no row meets. NULL: nothing. */
    const char *warning;
    uint64_t actions; /* bound; bits 1 << PROTO_ACTION_* of proto/licence.h */
    bool bound;
    const struct proto_schema *schema; /* bound; borrowed, must outlive the query */
    struct arena arena;
    size_t nodes; /* counted while parsing */
    size_t literals;
};

/* Binds names and literals to the published SCHEMA, which must outlive QUERY. For a misspelt column
 * the text proposes the nearest name.
 * Errors, all "at character N: ...": E_NOT_FOUND no such column; E_QUERY a type or shape that cannot be;
 * E_UNSUPPORTED an aggregate, grouping or filter that this version cannot honour; E_LIMIT too many
 * cells; E_NO_MEMORY. On failure QUERY may only be freed. */
MUST_CHECK enum err proto_query_bind(struct proto_query *query, const struct proto_schema *schema,
                                     struct err_info *reterr);

/* Appends the canonical form of a bound query, itself SQL that parses and binds to the same
 * canonical form: AND and OR flattened, their operands sorted and unrepeated, BETWEEN as >= and <=,
 * IN sorted and unrepeated, NOT pushed to the leaves and away. Labels are not part. Errors: E_LIMIT
 * (RET is full), E_NO_MEMORY. */
MUST_CHECK enum err proto_query_canonical(const struct proto_query *query, struct buf *ret);

/* Every column that answering a bound query reads, each once: of aggregates, groups and filters; COUNT(DISTINCT unit)
 * reads no column's values. This is what a licence is asked about. Returns how many were written. */
size_t proto_query_columns(const struct proto_query *query, int ret[PROTO_SCHEMA_COLUMNS_MAX]);

/* Value of group column GROUP (index into group_columns) in cell CELL, as it is printed: a
 * category's value, "false", "true", "2020". */
const char *proto_query_cell_value(const struct proto_query *query, size_t cell, size_t group);
/* Its code: index of the category's value; 0 or 1 of a boolean; a whole number less its column's min. */
int32_t proto_query_cell_code(const struct proto_query *query, size_t cell, size_t group);

const char *proto_aggregate_name(enum proto_aggregate kind);
/* How its arguments are written: "QUANTILE(column, q)". NULL of a group column. */
const char *proto_aggregate_usage(enum proto_aggregate kind);
bool proto_aggregate_is_table(enum proto_aggregate kind);
/* MIN, MAX, MEDIAN, QUANTILE. */
bool proto_aggregate_is_quantile(enum proto_aggregate kind);

/* Frees what the query holds; of a zeroed or half-parsed one as well. */
void proto_query_fini(struct proto_query *query);

#endif
