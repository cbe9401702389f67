#include "config.h"
#include "proto/schema.h"
#include "proto/nearest.h"

#include <math.h>
#include <stdio.h>

#include "proto/codec.h"
#include "proto/time.h"

static const char *const type_names[PROTO_COLUMN_TYPE_COUNT] = {
    "integer", "real", "category", "boolean", "date", "text", "tokens", "tags"};

static const char *const deidentify_names[PROTO_DEID_COUNT] = {
    "none", "drop", "pseudonym", "age90",  "year",       "pseudonym-hmac", "dateshift",
    "zip3", "bin",  "top",       "bottom", "generalise", "redact"};

const char *proto_column_type_name(enum proto_column_type type)
{
    return (unsigned)type < PROTO_COLUMN_TYPE_COUNT ? type_names[type] : "unknown";
}

enum proto_column_type proto_column_type_by_name(const char *name)
{
    unsigned type = 0;
    while (type < PROTO_COLUMN_TYPE_COUNT && strcmp(type_names[type], name) != 0) {
        type++;
    }
    return (enum proto_column_type)type;
}

const char *proto_deidentify_name(enum proto_deidentify operation)
{
    return (unsigned)operation < PROTO_DEID_COUNT ? deidentify_names[operation] : "unknown";
}

bool proto_column_name_valid(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len >= PROTO_NAME_SIZE || name[0] == ' ' || name[len - 1] == ' ' ||
        !proto_utf8_valid(span_str(name))) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f || name[i] == '"') {
            return false;
        }
    }
    return true;
}

/* A year column keeps the bounds of its date as years. */
static double year_of(double days)
{
    int32_t year, month, day;
    proto_time_civil((int32_t)days, &year, &month, &day);
    return year;
}

/* The lower edge of the class of VALUE. Below the first cut it is the declared least value. */
double proto_column_bin(const struct proto_column *column, double value)
{
    const struct proto_deidentify_by *by = &column->by;
    if (by->width > 0) {
        return floor(value / by->width) * by->width + 0.0;
    }
    double edge = column->has_bounds ? column->min : by->cuts[0];
    for (size_t i = 0; i < by->cut_count && by->cuts[i] <= value; i++) {
        edge = by->cuts[i];
    }
    return edge;
}

static void publish_bin(struct proto_column *column)
{
    if (column->has_bounds) {
        double max = proto_column_bin(column, column->max);
        column->min = proto_column_bin(column, column->min);
        column->max = max;
    }
}

static void publish_column(struct proto_column *column)
{
    switch (column->deidentify) {
    case PROTO_DEID_AGE90:
        column->max = column->max > 90 ? 90 : column->max;
        break;
    case PROTO_DEID_YEAR:
        column->type = PROTO_COLUMN_INTEGER;
        if (column->has_bounds) {
            column->min = year_of(column->min);
            column->max = year_of(column->max);
        }
        break;
    case PROTO_DEID_DATESHIFT:
        column->min -= column->has_bounds ? PROTO_SHIFT_DAYS_MAX : 0;
        column->max += column->has_bounds ? PROTO_SHIFT_DAYS_MAX : 0;
        break;
    case PROTO_DEID_BIN:
        publish_bin(column);
        break;
    case PROTO_DEID_TOP:
        column->max = column->max > column->by.at ? column->by.at : column->max;
        break;
    case PROTO_DEID_BOTTOM:
        column->min = column->min < column->by.at ? column->by.at : column->min;
        break;
    case PROTO_DEID_ZIP3:
    case PROTO_DEID_GENERALISE:
        if (column->type == PROTO_COLUMN_TEXT) {
            column->type = PROTO_COLUMN_CATEGORY;
            column->values_private = true;
        }
        break;
    default:
        break;
    }
    column->source[0] = '\0';
    column->deidentify = PROTO_DEID_NONE;
    column->by = (struct proto_deidentify_by){0};
    column->birth = false;
    column->risk = PROTO_RISK_NONE;
    column->missing = NULL;
    column->missing_count = 0;
}

enum err proto_schema_publish(const struct proto_schema *from, struct arena *arena,
                              struct proto_schema *ret)
{
    struct proto_schema to = *from;
    to.count = 0;
    to.columns = arena_alloc(arena, from->count + 1, sizeof *to.columns);
    if (!to.columns) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < from->count; i++) {
        if (from->columns[i].deidentify != PROTO_DEID_DROP) {
            to.columns[to.count] = from->columns[i];
            publish_column(&to.columns[to.count++]);
        }
    }
    *ret = to;
    return E_OK;
}

const char *proto_column_safe_harbor(const struct proto_column *column, bool is_unit,
                                     const char **ret_why)
{
    static const struct {
        const char *verdict;
        const char *why;
    } table[PROTO_DEID_COUNT] = {
        [PROTO_DEID_DROP] = {"yes", "removed"},
        [PROTO_DEID_PSEUDONYM] = {"yes", "a number that is not derived from the identifier"},
        [PROTO_DEID_AGE90] = {"yes", "ages over 89 are one class"},
        [PROTO_DEID_YEAR] = {"yes", "the year alone; a year of birth needs birth: true"},
        [PROTO_DEID_PSEUDONYM_HMAC] = {"no", "derived from the identifier"},
        [PROTO_DEID_DATESHIFT] =
            {"no", "exact dates remain, shifted: expert determination or limited data set"},
        [PROTO_DEID_ZIP3] = {"yes", "three digits, 000 where 20,000 people or fewer live"},
        [PROTO_DEID_BIN] = {"depends", "classes; whether they are wide enough is not judged"},
        [PROTO_DEID_TOP] = {"depends", "coded at the top; the values below stay"},
        [PROTO_DEID_BOTTOM] = {"depends", "coded at the bottom; the values above stay"},
        [PROTO_DEID_GENERALISE] = {"depends", "as coarse as the operator's table"},
        [PROTO_DEID_REDACT] =
            {"no", "free text: patterns and known names are replaced, never all there is"},
    };
    bool date = column->type == PROTO_COLUMN_DATE;
    bool text = column->type >= PROTO_COLUMN_TEXT;
    if (column->deidentify == PROTO_DEID_YEAR && column->birth) {
        *ret_why = "the year alone, and none of people over 89";
        return "yes";
    }
    if ((unsigned)column->deidentify < PROTO_DEID_COUNT && column->deidentify != PROTO_DEID_NONE) {
        *ret_why = table[column->deidentify].why;
        return table[column->deidentify].verdict;
    }
    *ret_why = is_unit ? "stored as a number that is not derived from the identifier"
               : date  ? "a full date"
               : text  ? "text as it stands"
                       : "kept as it is; whether it identifies is not judged";
    return is_unit ? "yes" : date || text ? "no" : "depends";
}

/* ---- the hash ------------------------------------------------------------------------------
 * state = H(domain), then state = H(state | H(part)) for each part in turn. Chaining by fixed-size
 * digests needs no buffer, so hashing cannot fail, and it leaves no two schemas with the same byte
 * string. */

static void absorb(const struct proto_hash *hash, uint8_t state[PROTO_HASH_SIZE], struct span part)
{
    uint8_t digest[PROTO_HASH_SIZE];
    hash->sha256(&part, 1, digest);
    struct span parts[2] = {span_of(state, PROTO_HASH_SIZE), span_of(digest, sizeof digest)};
    uint8_t next[PROTO_HASH_SIZE];
    hash->sha256(parts, 2, next);
    memcpy(state, next, sizeof next);
}

static void put_double(uint8_t to[8], double value)
{
    double positive_zero = value + 0.0; /* -0 and 0 are one bound */
    uint64_t bits;
    memcpy(&bits, &positive_zero, sizeof bits);
    put_be64(to, bits);
}

static void absorb_column(const struct proto_hash *hash, uint8_t state[PROTO_HASH_SIZE],
                          const struct proto_column *column)
{
    uint8_t fixed[23] = {0};
    fixed[0] = (uint8_t)column->type;
    fixed[1] = column->has_bounds;
    fixed[2] = column->values_private;
    if (column->has_bounds) {
        put_double(fixed + 3, column->min);
        put_double(fixed + 11, column->max);
    }
    put_be32(fixed + 19, (uint32_t)column->value_count);
    absorb(hash, state, span_str(column->name));
    absorb(hash, state, span_of(fixed, sizeof fixed));
    for (size_t i = 0; i < column->value_count; i++) {
        absorb(hash, state, span_str(column->values[i]));
    }
    absorb(hash, state, span_str(column->ucum));
}

void proto_schema_hash(const struct proto_schema *schema, const struct proto_hash *hash,
                       uint8_t ret[PROTO_HASH_SIZE])
{
    struct span domain = span_str("concordat1-schema");
    uint8_t state[PROTO_HASH_SIZE];
    hash->sha256(&domain, 1, state);
    uint8_t rule[8];
    put_be32(rule, (uint32_t)schema->count);
    put_be32(rule + 4, schema->max_rows_per_unit);
    absorb(hash, state, span_of(rule, sizeof rule));
    absorb(hash, state, span_str(schema->unit));
    if (schema->max_nodes_per_unit > 1) {
        put_be32(rule, schema->max_nodes_per_unit);
        absorb(hash, state, span_of(rule, 4));
    }
    /* Columns in the order of their names: each round takes the least name that is above the last
     * one. */
    const char *last = "";
    for (size_t round = 0; round < schema->count; round++) {
        const struct proto_column *least = NULL;
        for (size_t i = 0; i < schema->count; i++) {
            const struct proto_column *column = &schema->columns[i];
            if (strcmp(column->name, last) > 0 &&
                (!least || strcmp(column->name, least->name) < 0)) {
                least = column;
            }
        }
        if (!least) {
            break; /* repeated names, which the check refuses */
        }
        absorb_column(hash, state, least);
        last = least->name;
    }
    memcpy(ret, state, sizeof state);
}

/* ---- finding and suggesting ---------------------------------------------------------------- */

int proto_schema_find(const struct proto_schema *schema, const char *name)
{
    for (size_t i = 0; i < schema->count; i++) {
        if (strcmp(schema->columns[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

int32_t proto_column_code(const struct proto_column *column, const char *value)
{
    for (size_t i = 0; i < column->value_count; i++) {
        if (strcmp(column->values[i], value) == 0) {
            return (int32_t)i;
        }
    }
    return -1;
}

const char *proto_schema_suggest(const struct proto_schema *schema, const char *name)
{
    struct proto_nearest nearest = proto_nearest_to(span_str(name));
    for (size_t i = 0; i < schema->count; i++) {
        proto_nearest_try(&nearest, span_str(schema->columns[i].name));
    }
    return (const char *)nearest.best.ptr;
}

/* ---- checks -------------------------------------------------------------------------------- */

static bool value_valid(const char *value)
{
    return strlen(value) < PROTO_SCHEMA_VALUE_SIZE && proto_utf8_valid(span_str(value));
}

/* Value NUMBER into TABLE of 2 * PROTO_SCHEMA_VALUES_MAX places, each 0 or an index + 1; false when its text is there already.
 * FNV-1a; it costs less than comparing all pairs, which is what a chosen list of values can still bring about. */
static bool value_is_new(const struct proto_column *column, size_t number, uint16_t *table)
{
    uint32_t hash = 2166136261u;
    for (const char *c = column->values[number]; *c; c++) {
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    }
    size_t at = (hash ^ hash >> 16) % (2 * PROTO_SCHEMA_VALUES_MAX);
    while (table[at]) {
        if (strcmp(column->values[table[at] - 1], column->values[number]) == 0) {
            return false;
        }
        at = (at + 1) % (2 * PROTO_SCHEMA_VALUES_MAX);
    }
    table[at] = (uint16_t)(number + 1);
    return true;
}

static enum err check_values(const struct proto_column *column, size_t i, struct err_info *reterr)
{
    bool category = column->type == PROTO_COLUMN_CATEGORY;
    bool tags = column->type == PROTO_COLUMN_TAGS;
    const char *key = tags ? "labels" : "values";
    if (column->values_private && (!category || column->value_count)) {
        return proto_err_set(reterr, E_INVALID,
                             "columns[%zu].values: private is a choice of categories alone", i);
    }
    if (column->value_count && !category && !tags) {
        return proto_err_set(reterr, E_INVALID, "columns[%zu].values: only a category has values",
                             i);
    }
    if (!column->value_count && !column->values_private && (category || tags)) {
        return proto_err_set(reterr, E_INVALID, "columns[%zu]: a %s needs %s", i,
                             type_names[column->type],
                             tags ? "labels: a list" : "values: a list, or private");
    }
    if (column->value_count > PROTO_SCHEMA_VALUES_MAX) {
        return proto_err_set(reterr, E_INVALID, "columns[%zu].%s: more than %d", i, key,
                             PROTO_SCHEMA_VALUES_MAX);
    }
    uint16_t table[2 * PROTO_SCHEMA_VALUES_MAX] = {0};
    for (size_t j = 0; j < column->value_count; j++) {
        if (!value_valid(column->values[j]) || !column->values[j][0]) {
            return proto_err_set(reterr, E_INVALID,
                                 "columns[%zu].%s[%zu]: must be 1 to %d bytes of UTF-8", i, key, j,
                                 PROTO_SCHEMA_VALUE_SIZE - 1);
        }
        if (!value_is_new(column, j, table)) {
            return proto_err_set(reterr, E_INVALID, "columns[%zu].%s[%zu]: stands there twice", i,
                                 key, j);
        }
    }
    return E_OK;
}

static enum err check_bounds(const struct proto_column *column, size_t i, struct err_info *reterr)
{
    if (!column->has_bounds) {
        return E_OK;
    }
    if (column->type != PROTO_COLUMN_INTEGER && column->type != PROTO_COLUMN_REAL &&
        column->type != PROTO_COLUMN_DATE) {
        return proto_err_set(reterr, E_INVALID,
                             "columns[%zu].min: only integer, real and date have bounds", i);
    }
    if (!isfinite(column->min) || !isfinite(column->max) || fabs(column->min) > 1e15 ||
        fabs(column->max) > 1e15) {
        return proto_err_set(reterr, E_INVALID, "columns[%zu].max: bounds lie within 1e15", i);
    }
    if (column->type != PROTO_COLUMN_REAL &&
        (floor(column->min) != column->min || floor(column->max) != column->max)) {
        return proto_err_set(reterr, E_INVALID,
                             "columns[%zu].min: bounds of an integer are integers", i);
    }
    if (column->min >= column->max) {
        return proto_err_set(reterr, E_INVALID, "columns[%zu].min: must be below max", i);
    }
    return E_OK;
}

static enum err check_unit(const struct proto_schema *schema, struct err_info *reterr)
{
    if (schema->max_nodes_per_unit > PROTO_SCHEMA_NODES_MAX) {
        return proto_err_set(reterr, E_INVALID, "max_nodes_per_unit: must be 1 to %d",
                             PROTO_SCHEMA_NODES_MAX);
    }
    if (!schema->unit[0]) {
        return schema->max_rows_per_unit == 1
                   ? E_OK
                   : proto_err_set(reterr, E_INVALID,
                                   "max_rows_per_unit: without a unit each row is a unit of its "
                                   "own, so it is 1");
    }
    int at = proto_schema_find(schema, schema->unit);
    if (at < 0) {
        const char *near = proto_schema_suggest(schema, schema->unit);
        return proto_err_set(reterr, E_INVALID, "unit: there is no column '%s'%s%s%s", schema->unit,
                             near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    enum proto_column_type type = schema->columns[at].type;
    if (type != PROTO_COLUMN_TEXT && type != PROTO_COLUMN_INTEGER) {
        return proto_err_set(reterr, E_INVALID, "unit: its column is text or integer, not %s",
                             type_names[type]);
    }
    if (schema->columns[at].has_bounds) {
        return proto_err_set(reterr, E_INVALID,
                             "unit: its column is an identifier and has no bounds");
    }
    if (schema->max_rows_per_unit < 1 || schema->max_rows_per_unit > PROTO_SCHEMA_ROWS_MAX) {
        return proto_err_set(reterr, E_INVALID, "max_rows_per_unit: must be 1 to %d",
                             PROTO_SCHEMA_ROWS_MAX);
    }
    return E_OK;
}

enum err proto_schema_check(const struct proto_schema *schema, struct err_info *reterr)
{
    if (schema->count < 1 || schema->count > PROTO_SCHEMA_COLUMNS_MAX) {
        return proto_err_set(reterr, E_INVALID, "columns: must be 1 to %d",
                             PROTO_SCHEMA_COLUMNS_MAX);
    }
    for (size_t i = 0; i < schema->count; i++) {
        const struct proto_column *column = &schema->columns[i];
        if (!proto_column_name_valid(column->name)) {
            return proto_err_set(reterr, E_INVALID,
                                 "columns[%zu].name: must be 1 to %d bytes without quotes, control "
                                 "characters or blanks at its ends",
                                 i, PROTO_NAME_SIZE - 1);
        }
        if (proto_schema_find(schema, column->name) != (int)i) {
            return proto_err_set(reterr, E_INVALID, "columns[%zu].name: '%s' stands there twice", i,
                                 column->name);
        }
        if ((unsigned)column->type >= PROTO_COLUMN_TYPE_COUNT) {
            return proto_err_set(reterr, E_INVALID, "columns[%zu].type: unknown", i);
        }
        enum err err = check_values(column, i, reterr);
        if (!err) {
            err = check_bounds(column, i, reterr);
        }
        if (err) {
            return err;
        }
    }
    return check_unit(schema, reterr);
}
