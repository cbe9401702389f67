/* What the columns of a dataset are: types, public bounds and categories, the privacy unit, and the
 * hash that says whether two sites mean the same thing. A schema knows no rows. It is either
 * *declared* (as a manifest states it, with source names and de-identification) or *published* (as
 * rows are stored and as others see it); queries bind to the published one.
 *
 *     struct proto_schema published;
 *     enum err err = proto_schema_publish(&manifest.schema, &arena, &published);
 *     proto_schema_hash(&published, &crypto_proto_hash, hash);
 *     int column = proto_schema_find(&published, "creatinine");
 *
 * Limits: PROTO_SCHEMA_*. Threads: a schema is read-only once filled. Memory: arrays and strings
 * belong to an arena. */
#ifndef CONCORDAT_PROTO_SCHEMA_H
#define CONCORDAT_PROTO_SCHEMA_H

#include "proto/alloc.h"
#include "proto/err.h"
#include "proto/hash.h"

#define PROTO_SCHEMA_COLUMNS_MAX 512
#define PROTO_SCHEMA_VALUES_MAX  1024 /* declared values of one category */
#define PROTO_SCHEMA_VALUE_SIZE  128  /* bytes of one value, with its zero */
#define PROTO_SCHEMA_MISSING_MAX 32
#define PROTO_SCHEMA_ROWS_MAX    1000000 /* the largest max_rows_per_unit */
#define PROTO_SCHEMA_NODES_MAX   256     /* the largest max_nodes_per_unit */
#define PROTO_NAME_SIZE          64      /* a column name with its zero */

enum proto_column_type {
    PROTO_COLUMN_INTEGER,
    PROTO_COLUMN_REAL,
    PROTO_COLUMN_CATEGORY,
    PROTO_COLUMN_BOOLEAN,
    PROTO_COLUMN_DATE, /* days since 1970-01-01 */
    PROTO_COLUMN_TEXT,
    PROTO_COLUMN_TOKENS,
    PROTO_COLUMN_TAGS, /* `labels` stand in values */
    PROTO_COLUMN_TYPE_COUNT
};

enum proto_deidentify {
    PROTO_DEID_NONE,
    PROTO_DEID_DROP,
    PROTO_DEID_PSEUDONYM, /* random, by a sealed table of the node */
    PROTO_DEID_AGE90,     /* 90 and over is stored as 90 */
    PROTO_DEID_YEAR,      /* the date becomes an integer, its year */
    PROTO_DEID_PSEUDONYM_HMAC, /* 16 letters of a keyed hash; of the unit column a number, as pseudonym */
    PROTO_DEID_DATESHIFT,  /* all dates of a unit move by the same -50 to 50 days */
    PROTO_DEID_ZIP3,       /* three digits, 000 where few people live */
    PROTO_DEID_BIN,        /* the lower edge of the class that the number falls into */
    PROTO_DEID_TOP,        /* numbers above `at` become it */
    PROTO_DEID_BOTTOM,     /* numbers below `at` become it */
    PROTO_DEID_GENERALISE, /* what a table of the operator's says at `level` */
    PROTO_DEID_REDACT,     /* patterns and names in free text are replaced */
    PROTO_DEID_COUNT
};

#define PROTO_SHIFT_DAYS_MAX 50  /* a shifted date lies at most as far from the true one */
#define PROTO_CUTS_MAX       256 /* edges of a bin column */

/* What an operation needs to know beside its name. */
struct proto_deidentify_by {
    double width; /* of bin; 0: by cuts */
    double *cuts; /* ascending */
    size_t cut_count;
    bool has_at; /* of top and bottom */
    double at;
    const char *table; /* a file: the hierarchy of generalise, the list of zip3; NULL: none */
    uint32_t level;    /* of generalise: 1 is the column behind the value */
};

/* How a column could tell who somebody is; for `dataset risk` alone. */
enum proto_risk {
    PROTO_RISK_NONE,
    PROTO_RISK_QUASI,     /* known to others, too: age, sex, region */
    PROTO_RISK_SENSITIVE, /* what must not be learnt of somebody: diagnosis */
};

struct proto_column {
    char name[PROTO_NAME_SIZE];
    char source[128]; /* the file's header; the name when the manifest gives none; "" in a published
                         schema */
    enum proto_column_type type;
    bool has_bounds;
    double min; /* of a date: days since 1970-01-01 */
    double max;
    const char *
        *values; /* of a category, in declared order: the index is the code; labels of tags */
    size_t value_count;
    bool values_private;
    enum proto_deidentify
        deidentify; /* PROTO_DEID_NONE in a published schema, and so for the next three */
    struct proto_deidentify_by by;
    bool birth; /* a date of birth: it goes where somebody is over 89 */
    enum proto_risk risk;
    const char **missing; /* texts that mean "no value"; none given: the empty text alone */
    size_t missing_count;
    char ucum[32];
    char code[64];
};

struct proto_schema {
    struct proto_column *columns;
    size_t count;
    char unit[PROTO_NAME_SIZE];  /* the privacy-unit column; "": each row is a unit */
    uint32_t max_rows_per_unit;  /* at least 1; 1 when each row is a unit */
    uint32_t max_nodes_per_unit; /* that may know the same person; 0 and 1: none knows another's */
};

const char *proto_column_type_name(enum proto_column_type type);
/* PROTO_COLUMN_TYPE_COUNT when no type has this name. */
enum proto_column_type proto_column_type_by_name(const char *name);
const char *proto_deidentify_name(enum proto_deidentify operation);
/* Whether what is left of COLUMN after its operation keeps to the Safe Harbor list of 45 CFR 164.514(b)(2)(i): "yes",
 * "no" or "depends", and why in a few words. It judges the declaration, never the contents. */
const char *proto_column_safe_harbor(const struct proto_column *column, bool is_unit,
                                     const char **ret_why);

/* What a bin column stores for VALUE: the lower edge of its class; below the first cut the declared least value. */
double proto_column_bin(const struct proto_column *column, double value);

/* 1 to 63 bytes of UTF-8 without control characters, double quotes, or blanks at either end. */
bool proto_column_name_valid(const char *name);

/* The schema as rows are stored: dropped columns are left out, `year` makes an integer, `age90` and `top`
 * lower max, `bottom` raises min, `bin` moves both to edges, `dateshift` widens them by 50 days, text that zip3 or
 * generalise made short becomes a private category, and source, missing and deidentify are cleared. Value lists are shared with
 * FROM, columns are allocated from ARENA. Errors: E_NO_MEMORY. */
MUST_CHECK enum err proto_schema_publish(const struct proto_schema *from, struct arena *arena,
                                         struct proto_schema *ret);

/* Of a published schema: SHA-256 chain over names, types, bounds, values in their order, ucum, unit
 * and contribution bound. The order of columns, titles and codes are not part of it. Never
 * allocates, never fails. */
void proto_schema_hash(const struct proto_schema *schema, const struct proto_hash *hash,
                       uint8_t ret[PROTO_HASH_SIZE]);

/* Index of the column, or -1. Names are compared exactly. */
int proto_schema_find(const struct proto_schema *schema, const char *name);
/* Code of the declared value, or -1. */
int32_t proto_column_code(const struct proto_column *column, const char *value);
/* The nearest column name (proto/nearest.h), or NULL. */
const char *proto_schema_suggest(const struct proto_schema *schema, const char *name);

/* Whether a published schema keeps every rule above; what is decoded from a peer's record is
 * checked with it. Errors: E_INVALID, with the text "columns[2].min: ...". */
MUST_CHECK enum err proto_schema_check(const struct proto_schema *schema, struct err_info *reterr);

#endif
