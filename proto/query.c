#include "config.h"
#include "proto/query.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/nearest.h"
#include "proto/query_binder.h"
#include "proto/time.h"

/* Integers are exact in a double up to here; a literal beyond it cannot be compared with a column
 * of integers. */
#define INTEGER_MAX 9007199254740992.0

/* A condition on the way from the parsed to the bound tree: AND and OR have any number of children,
 * and each knows its canonical text, by which siblings are sorted and found equal. */
struct part {
    enum proto_op op;
    struct proto_predicate *leaf;
    struct part **children;
    size_t count;
    const char *text;
};

static struct part part_true = {.op = PROTO_OP_TRUE, .text = "TRUE"};
static struct part part_false = {.op = PROTO_OP_FALSE, .text = "FALSE"};

void *proto_binder_fail(struct proto_binder *binder, enum err err, size_t at, const char *format,
                        ...)
{
    if (!binder->err) {
        char text[400];
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        binder->err = proto_err_set(binder->info, err, "at character %zu: %s", at, text);
    }
    return NULL;
}

void proto_binder_warn(struct proto_binder *binder, size_t at, const char *format, ...)
{
    char text[320];
    int n = at ? snprintf(text, sizeof text, "at character %zu: ", at) : 0;
    if (!binder->query->warning) {
        va_list args;
        va_start(args, format);
        vsnprintf(text + n, sizeof text - (size_t)n, format, args);
        va_end(args);
        binder->query->warning = arena_strdup(binder->arena, span_str(text));
    }
}

static void *make(struct proto_binder *binder, size_t count, size_t size)
{
    void *ptr = arena_alloc(binder->arena, count + 1, size);
    return ptr ? ptr : proto_binder_fail(binder, E_NO_MEMORY, 1, "no memory for the query");
}

/* ---- columns ------------------------------------------------------------------------------- */

bool proto_binder_is_unit(const struct proto_binder *binder, int column)
{
    return binder->schema->unit[0] &&
           strcmp(binder->schema->columns[column].name, binder->schema->unit) == 0;
}

int proto_binder_column(struct proto_binder *binder, const char *name, size_t at)
{
    int column = proto_schema_find(binder->schema, name);
    if (column < 0) {
        const char *near = proto_schema_suggest(binder->schema, name);
        proto_binder_fail(binder, E_NOT_FOUND, at, "there is no column '%s'%s%s%s", name,
                          near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    return column;
}

/* A column that may be counted, grouped or filtered: text identifies people, and the privacy unit
 * only serves to count units. */
int proto_binder_usable(struct proto_binder *binder, const char *name, size_t at)
{
    int column = proto_binder_column(binder, name, at);
    if (column < 0) {
        return -1;
    }
    enum proto_column_type type = binder->schema->columns[column].type;
    if (proto_binder_is_unit(binder, column)) {
        proto_binder_fail(binder, E_UNSUPPORTED, at,
                          "'%s' is the privacy unit; it can only be used as COUNT(DISTINCT %s)",
                          name, name);
        return -1;
    }
    if (type == PROTO_COLUMN_TEXT || type == PROTO_COLUMN_TOKENS || type == PROTO_COLUMN_TAGS) {
        proto_binder_fail(binder, E_UNSUPPORTED, at,
                          "'%s' is %s, which can be neither selected, grouped nor filtered", name,
                          proto_column_type_name(type));
        return -1;
    }
    return column;
}

/* ---- numbers as text ----------------------------------------------------------------------- */

/* The shortest form that reads back as the same double. */
void proto_binder_number(double value, char to[32])
{
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(to, 32, "%.*g", precision, value);
        if (strtod(to, NULL) == value) {
            return;
        }
    }
}

static void format_days(double days, char to[32])
{
    int32_t year, month, day;
    proto_time_civil((int32_t)days, &year, &month, &day);
    snprintf(to, 32, "'%04u-%02u-%02u'", (unsigned)year % 10000u, (unsigned)month % 100u,
             (unsigned)day % 100u);
}

enum err proto_binder_quoted(struct buf *to, const char *text, char quote)
{
    enum err err = buf_put(to, span_of(&quote, 1));
    for (const char *c = text; *c && !err; c++) {
        err = buf_put(to, span_of(c, 1));
        if (!err && *c == quote) {
            err = buf_put(to, span_of(c, 1));
        }
    }
    return err ? err : buf_put(to, span_of(&quote, 1));
}

static const char *keep_text(struct proto_binder *binder, struct buf *buf, enum err err)
{
    const char *text = err ? NULL : arena_strdup(binder->arena, buf_span(buf));
    buf_fini(buf);
    if (!text) {
        proto_binder_fail(binder, err == E_LIMIT ? E_LIMIT : E_NO_MEMORY, 1,
                          err == E_LIMIT ? "the condition is too long" : "no memory for the query");
    }
    return text;
}

static enum err put_value(struct buf *to, const struct proto_column *column,
                          const struct proto_predicate *leaf, size_t i)
{
    char text[32];
    switch (column->type) {
    case PROTO_COLUMN_CATEGORY:
        return proto_binder_quoted(
            to, leaf->texts ? leaf->texts[i] : column->values[leaf->codes[i]], '\'');
    case PROTO_COLUMN_BOOLEAN:
        return buf_put(to, span_str(leaf->codes[i] ? "TRUE" : "FALSE"));
    case PROTO_COLUMN_DATE:
        format_days(leaf->numbers[i], text);
        return buf_put(to, span_str(text));
    default:
        proto_binder_number(leaf->numbers[i], text);
        return buf_put(to, span_str(text));
    }
}

static const char *const op_texts[] = {
    [PROTO_OP_EQ] = " = ",   [PROTO_OP_NE] = " <> ",          [PROTO_OP_LT] = " < ",
    [PROTO_OP_LE] = " <= ",  [PROTO_OP_GT] = " > ",           [PROTO_OP_GE] = " >= ",
    [PROTO_OP_IN] = " IN (", [PROTO_OP_NOT_IN] = " NOT IN (",
};

/* Text of a leaf with the operator OP and the values of LEAF, which for categories may be the
 * complement. */
static const char *leaf_text(struct proto_binder *binder, enum proto_op op,
                             const struct proto_predicate *leaf)
{
    const struct proto_column *column = &binder->schema->columns[leaf->column];
    struct buf buf = {.max = PROTO_QUERY_BYTES_MAX};
    enum err err = proto_binder_quoted(&buf, column->name, '"');
    if (op == PROTO_OP_IS_NULL || op == PROTO_OP_IS_NOT_NULL) {
        err = err ? err
                  : buf_put(&buf, span_str(op == PROTO_OP_IS_NULL ? " IS NULL" : " IS NOT NULL"));
        return keep_text(binder, &buf, err);
    }
    bool list = op == PROTO_OP_IN || op == PROTO_OP_NOT_IN;
    if (list && leaf->count == 1) {
        op = op == PROTO_OP_IN ? PROTO_OP_EQ : PROTO_OP_NE;
        list = false;
    }
    err = err ? err : buf_put(&buf, span_str(op_texts[op]));
    for (size_t i = 0; i < leaf->count && !err; i++) {
        err = i ? buf_put(&buf, span_str(", ")) : E_OK;
        err = err ? err : put_value(&buf, column, leaf, i);
    }
    err = !err && list ? buf_put(&buf, span_str(")")) : err;
    return keep_text(binder, &buf, err);
}

/* ---- leaves -------------------------------------------------------------------------------- */

static enum proto_op negated(enum proto_op op)
{
    switch (op) {
    case PROTO_OP_AND:
        return PROTO_OP_OR;
    case PROTO_OP_OR:
        return PROTO_OP_AND;
    case PROTO_OP_EQ:
        return PROTO_OP_NE;
    case PROTO_OP_NE:
        return PROTO_OP_EQ;
    case PROTO_OP_LT:
        return PROTO_OP_GE;
    case PROTO_OP_LE:
        return PROTO_OP_GT;
    case PROTO_OP_GT:
        return PROTO_OP_LE;
    case PROTO_OP_GE:
        return PROTO_OP_LT;
    case PROTO_OP_IN:
        return PROTO_OP_NOT_IN;
    case PROTO_OP_NOT_IN:
        return PROTO_OP_IN;
    case PROTO_OP_IS_NULL:
        return PROTO_OP_IS_NOT_NULL;
    case PROTO_OP_IS_NOT_NULL:
        return PROTO_OP_IS_NULL;
    case PROTO_OP_TRUE:
        return PROTO_OP_FALSE;
    case PROTO_OP_FALSE:
        return PROTO_OP_TRUE;
    default:
        return op;
    }
}

static struct part *leaf_part(struct proto_binder *binder, const struct proto_predicate *from,
                              int column, enum proto_op op, double *numbers, int32_t *codes,
                              size_t count)
{
    struct part *part = make(binder, 1, sizeof *part);
    struct proto_predicate *leaf = make(binder, 1, sizeof *leaf);
    if (!part || !leaf) {
        return NULL;
    }
    leaf->op = op;
    leaf->at = from->at;
    leaf->depth = 1;
    leaf->column = column;
    memcpy(leaf->column_name, binder->schema->columns[column].name, sizeof leaf->column_name);
    leaf->numbers = numbers;
    leaf->codes = codes;
    leaf->count = count;
    part->op = op;
    part->leaf = leaf;
    part->text = leaf_text(binder, op, leaf);
    return part->text ? part : NULL;
}

static struct part *null_part(struct proto_binder *binder, const struct proto_predicate *from,
                              int column, enum proto_op op)
{
    return leaf_part(binder, from, column, op, NULL, NULL, 0);
}

/* Value of a literal for a column of numbers or dates; false after an error. */
static bool number_of(struct proto_binder *binder, const struct proto_column *column,
                      const struct proto_literal *literal, double *ret)
{
    if (column->type == PROTO_COLUMN_DATE) {
        int32_t days;
        if (literal->kind != PROTO_LITERAL_TEXT || !proto_time_parse_date(literal->text, &days)) {
            proto_binder_fail(binder, E_QUERY, literal->at,
                              "'%s' holds dates; write 'YYYY-MM-DD' instead of %.60s", column->name,
                              literal->text);
            return false;
        }
        *ret = days;
        return true;
    }
    char *end = NULL;
    double value = literal->number;
    if (literal->kind == PROTO_LITERAL_TEXT) {
        value = strtod(literal->text, &end);
    }
    if (literal->kind == PROTO_LITERAL_BOOLEAN || (end && (*end || end == literal->text)) ||
        !isfinite(value)) {
        proto_binder_fail(binder, E_QUERY, literal->at, "'%s' holds numbers, and %.60s is none",
                          column->name, literal->text);
        return false;
    }
    if (column->type == PROTO_COLUMN_INTEGER && fabs(value) >= INTEGER_MAX) {
        proto_binder_fail(binder, E_QUERY, literal->at,
                          "'%s' holds integers, and %.60s is too large for one", column->name,
                          literal->text);
        return false;
    }
    *ret = value + 0.0;
    return true;
}

static bool boolean_of(struct proto_binder *binder, const struct proto_column *column,
                       const struct proto_literal *literal, int32_t *ret)
{
    static const char *const texts[] = {"0", "false", "FALSE", "1", "true", "TRUE"};
    if (literal->kind == PROTO_LITERAL_NUMBER && (literal->number == 0 || literal->number == 1)) {
        *ret = literal->number != 0;
        return true;
    }
    for (size_t i = 0; i < 6 && literal->kind != PROTO_LITERAL_NUMBER; i++) {
        if (strcmp(literal->text, texts[i]) == 0) {
            *ret = i >= 3;
            return true;
        }
    }
    proto_binder_fail(binder, E_QUERY, literal->at, "'%s' holds true and false, not %.60s",
                      column->name, literal->text);
    return false;
}

static int32_t category_of(const struct proto_column *column, const struct proto_literal *literal)
{
    int32_t code = proto_column_code(column, literal->text);
    char text[32];
    if (code < 0 && literal->kind == PROTO_LITERAL_NUMBER) {
        proto_binder_number(literal->number, text);
        code = proto_column_code(column, text);
    }
    return code;
}

static void warn_value(struct proto_binder *binder, const struct proto_column *column,
                       const struct proto_literal *literal)
{
    struct proto_nearest nearest = proto_nearest_to(span_str(literal->text));
    for (size_t i = 0; i < column->value_count; i++) {
        proto_nearest_try(&nearest, span_str(column->values[i]));
    }
    /* Of a letter or two another case alone is near. */
    bool near = nearest.best.ptr && (strlen(literal->text) > 2 || nearest.least <= 2);
    proto_binder_warn(binder, literal->at, "'%.60s' is not a value of '%s'%s%.*s%s", literal->text,
                      column->name, near ? "; did you mean '" : "",
                      near ? (int)nearest.best.len : 0, near ? (const char *)nearest.best.ptr : "",
                      near ? "'?" : "");
}

/* `column op value` with op LT, LE, GT, GE. Of whole numbers only LE and GE remain, so that < 50
 * and <= 49 are one question. */
static struct part *order_part(struct proto_binder *binder, const struct proto_predicate *from,
                               int column, enum proto_op op)
{
    const struct proto_column *type = &binder->schema->columns[column];
    double *number = make(binder, 1, sizeof *number);
    if (!number || !number_of(binder, type, &from->literals[0], number)) {
        return NULL;
    }
    if (type->type == PROTO_COLUMN_REAL) {
        return leaf_part(binder, from, column, op, number, NULL, 1);
    }
    bool upper = op == PROTO_OP_LT || op == PROTO_OP_LE;
    double whole = upper ? (op == PROTO_OP_LT ? ceil(*number) - 1 : floor(*number))
                         : (op == PROTO_OP_GT ? floor(*number) + 1 : ceil(*number));
    *number = whole + 0.0;
    if (type->type == PROTO_COLUMN_DATE &&
        (whole < proto_time_days(1, 1, 1) || whole > proto_time_days(9999, 12, 31))) {
        return &part_false; /* before the first or after the last date that there is */
    }
    return leaf_part(binder, from, column, upper ? PROTO_OP_LE : PROTO_OP_GE, number, NULL, 1);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Membership in a set of numbers; sorted, each once. What no integer can equal falls out. */
static struct part *number_set(struct proto_binder *binder, const struct proto_predicate *from,
                               int column, bool in)
{
    const struct proto_column *type = &binder->schema->columns[column];
    double *numbers = make(binder, from->literal_count, sizeof *numbers);
    size_t n = 0;
    for (size_t i = 0; numbers && i < from->literal_count; i++) {
        const struct proto_literal *literal = &from->literals[i];
        double value;
        if (literal->kind == PROTO_LITERAL_NULL) {
            continue;
        }
        if (!number_of(binder, type, literal, &value)) {
            return NULL;
        }
        if (type->type == PROTO_COLUMN_REAL || floor(value) == value) {
            numbers[n++] = value;
        }
    }
    if (!numbers) {
        return NULL;
    }
    qsort(numbers, n, sizeof *numbers, compare_doubles);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (!kept || numbers[kept - 1] != numbers[i]) {
            numbers[kept++] = numbers[i];
        }
    }
    if (kept == 0) {
        return in ? &part_false : null_part(binder, from, column, PROTO_OP_IS_NOT_NULL);
    }
    enum proto_op op =
        kept > 1 ? (in ? PROTO_OP_IN : PROTO_OP_NOT_IN) : (in ? PROTO_OP_EQ : PROTO_OP_NE);
    return leaf_part(binder, from, column, op, numbers, NULL, kept);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Membership in a set of texts that may or may not be values of a private category; sorted, each once. */
static struct part *text_set(struct proto_binder *binder, const struct proto_predicate *from,
                             int column, bool in)
{
    struct part *part = make(binder, 1, sizeof *part);
    struct proto_predicate *leaf = make(binder, 1, sizeof *leaf);
    const char **texts = make(binder, from->literal_count, sizeof *texts);
    size_t n = 0;
    for (size_t i = 0; texts && i < from->literal_count; i++) {
        if (from->literals[i].kind != PROTO_LITERAL_NULL) {
            texts[n++] = from->literals[i].text;
        }
    }
    if (!part || !leaf || !texts) {
        return NULL;
    }
    if (n == 0) {
        return in ? &part_false : null_part(binder, from, column, PROTO_OP_IS_NOT_NULL);
    }
    qsort(texts, n, sizeof *texts, compare_texts);
    size_t kept = 1;
    for (size_t i = 1; i < n; i++) {
        if (strcmp(texts[i], texts[kept - 1]) != 0) {
            texts[kept++] = texts[i];
        }
    }
    *leaf = (struct proto_predicate){.op = in ? PROTO_OP_IN : PROTO_OP_NOT_IN,
                                     .at = from->at,
                                     .depth = 1,
                                     .column = column,
                                     .texts = texts,
                                     .count = kept};
    memcpy(leaf->column_name, binder->schema->columns[column].name, sizeof leaf->column_name);
    *part = (struct part){.op = leaf->op, .leaf = leaf};
    part->text = leaf_text(binder, leaf->op, leaf);
    return part->text ? part : NULL;
}

/* Of SIZE codes those that CHOSEN marks as WANTED. */
static int32_t *pick_codes(struct proto_binder *binder, const bool *chosen, size_t size,
                           bool wanted, size_t *ret_count)
{
    int32_t *codes = make(binder, size, sizeof *codes);
    *ret_count = 0;
    for (size_t i = 0; codes && i < size; i++) {
        if (chosen[i] == wanted) {
            codes[(*ret_count)++] = (int32_t)i;
        }
    }
    return codes;
}

/* Membership in a set of codes. The bound leaf always lists what is in the set; its text is that of
 * the smaller of the set and its complement, so it is never longer than what a person wrote and
 * depends on the set alone. */
static struct part *code_set(struct proto_binder *binder, const struct proto_predicate *from,
                             int column, bool in)
{
    const struct proto_column *type = &binder->schema->columns[column];
    size_t size = type->type == PROTO_COLUMN_BOOLEAN ? 2 : type->value_count;
    bool *chosen = make(binder, size, sizeof *chosen);
    for (size_t i = 0; chosen && i < from->literal_count; i++) {
        const struct proto_literal *literal = &from->literals[i];
        int32_t code = -1;
        if (literal->kind == PROTO_LITERAL_NULL) {
            continue;
        }
        if (type->type == PROTO_COLUMN_CATEGORY) {
            code = category_of(type, literal);
            if (code < 0) {
                warn_value(binder, type, literal);
            }
        } else if (!boolean_of(binder, type, literal, &code)) {
            return NULL;
        }
        if (code >= 0) {
            chosen[code] = true;
        }
    }
    size_t count, rest;
    int32_t *codes = chosen ? pick_codes(binder, chosen, size, in, &count) : NULL;
    int32_t *others = codes ? pick_codes(binder, chosen, size, !in, &rest) : NULL;
    if (!others) {
        return NULL;
    }
    if (count == 0 || rest == 0) {
        return count ? null_part(binder, from, column, PROTO_OP_IS_NOT_NULL) : &part_false;
    }
    struct part *part = leaf_part(binder, from, column, PROTO_OP_IN, NULL, codes, count);
    if (part && rest < count) {
        struct proto_predicate complement = *part->leaf;
        complement.codes = others;
        complement.count = rest;
        part->text = leaf_text(binder, PROTO_OP_NOT_IN, &complement);
    }
    return part && part->text ? part : NULL;
}

/* Two constants compared: the condition is one itself. A comparison with NULL is unknown, and so is
 * its negation. */
static struct part *constant_part(struct proto_binder *binder, const struct proto_predicate *from,
                                  enum proto_op op)
{
    const struct proto_literal *a = &from->literals[0];
    const struct proto_literal *b = &from->literals[1];
    if (a->kind == PROTO_LITERAL_NULL || b->kind == PROTO_LITERAL_NULL) {
        return &part_false;
    }
    if (a->kind != b->kind) {
        return proto_binder_fail(binder, E_QUERY, b->at, "%.60s and %.60s cannot be compared",
                                 a->text, b->text);
    }
    int order = a->kind == PROTO_LITERAL_TEXT ? strcmp(a->text, b->text)
                                              : compare_doubles(&a->number, &b->number);
    bool holds = op == PROTO_OP_EQ   ? order == 0
                 : op == PROTO_OP_NE ? order != 0
                 : op == PROTO_OP_LT ? order < 0
                 : op == PROTO_OP_LE ? order <= 0
                 : op == PROTO_OP_GT ? order > 0
                                     : order >= 0;
    return holds ? &part_true : &part_false;
}

static bool any_null(const struct proto_predicate *leaf)
{
    for (size_t i = 0; i < leaf->literal_count; i++) {
        if (leaf->literals[i].kind == PROTO_LITERAL_NULL) {
            return true;
        }
    }
    return false;
}

/* IN and = are the same for one value, as are NOT IN and <>. */
static struct part *set_part(struct proto_binder *binder, const struct proto_predicate *from,
                             int column, enum proto_op op)
{
    const struct proto_column *type = &binder->schema->columns[column];
    bool in = op == PROTO_OP_EQ || op == PROTO_OP_IN;
    struct part *part = type->values_private ? text_set(binder, from, column, in)
                        : type->type == PROTO_COLUMN_CATEGORY || type->type == PROTO_COLUMN_BOOLEAN
                            ? code_set(binder, from, column, in)
                            : number_set(binder, from, column, in);
    /* x NOT IN (1, NULL) is never true: the comparison with NULL leaves it unknown. */
    return part && !in && any_null(from) ? &part_false : part;
}

static struct part *bind_leaf(struct proto_binder *binder, const struct proto_predicate *from,
                              bool negate)
{
    enum proto_op op = negate ? negated(from->op) : from->op;
    if (op == PROTO_OP_TRUE || op == PROTO_OP_FALSE) {
        return op == PROTO_OP_TRUE ? &part_true : &part_false;
    }
    if (!from->column_name[0]) {
        return constant_part(binder, from, op);
    }
    int column = proto_binder_usable(binder, from->column_name, from->at);
    if (column < 0) {
        return NULL;
    }
    const struct proto_column *type = &binder->schema->columns[column];
    bool coded = type->type == PROTO_COLUMN_CATEGORY || type->type == PROTO_COLUMN_BOOLEAN;
    switch (op) {
    case PROTO_OP_IS_NULL:
    case PROTO_OP_IS_NOT_NULL:
        return null_part(binder, from, column, op);
    case PROTO_OP_COLUMN: {
        if (type->type != PROTO_COLUMN_BOOLEAN) {
            return proto_binder_fail(binder, E_QUERY, from->at,
                                     "'%s' is %s, not a condition; compare it with a value",
                                     type->name, proto_column_type_name(type->type));
        }
        int32_t *code = make(binder, 1, sizeof *code);
        if (code) {
            *code = !negate;
        }
        return code ? leaf_part(binder, from, column, PROTO_OP_IN, NULL, code, 1) : NULL;
    }
    case PROTO_OP_LT:
    case PROTO_OP_LE:
    case PROTO_OP_GT:
    case PROTO_OP_GE:
        if (coded) {
            return proto_binder_fail(binder, E_QUERY, from->at,
                                     "'%s' is %s and has no order; use =, <> or IN", type->name,
                                     proto_column_type_name(type->type));
        }
        return from->literals[0].kind == PROTO_LITERAL_NULL ? &part_false
                                                            : order_part(binder, from, column, op);
    default:
        return set_part(binder, from, column, op);
    }
}

/* ---- AND and OR ---------------------------------------------------------------------------- */

struct parts {
    struct part **items;
    size_t count;
    size_t cap;
};

static bool add_part(struct proto_binder *binder, struct parts *parts, struct part *part)
{
    if (parts->count == parts->cap) {
        size_t cap = parts->cap ? 2 * parts->cap : 8;
        struct part **grown = make(binder, cap, sizeof(struct part *));
        if (!grown) {
            return false;
        }
        if (parts->count) {
            memcpy(grown, parts->items, parts->count * sizeof(struct part *));
        }
        parts->items = grown;
        parts->cap = cap;
    }
    parts->items[parts->count++] = part;
    return true;
}

static int compare_parts(const void *a, const void *b)
{
    return strcmp((*(struct part *const *)a)->text, (*(struct part *const *)b)->text);
}

static const char *join_text(struct proto_binder *binder, enum proto_op op,
                             const struct parts *parts)
{
    struct buf buf = {.max = PROTO_QUERY_BYTES_MAX};
    enum err err = E_OK;
    for (size_t i = 0; i < parts->count && !err; i++) {
        const struct part *part = parts->items[i];
        bool nested = part->op == PROTO_OP_AND || part->op == PROTO_OP_OR;
        err = buf_printf(&buf, "%s%s", i ? (op == PROTO_OP_AND ? " AND " : " OR ") : "",
                         nested ? "(" : "");
        err = err ? err : buf_put(&buf, span_str(part->text));
        err = err ? err : buf_put(&buf, span_str(nested ? ")" : ""));
    }
    return keep_text(binder, &buf, err);
}

/* Sorts the operands, drops repeated ones and makes one part of them. */
static struct part *join(struct proto_binder *binder, enum proto_op op, struct parts *parts)
{
    if (parts->count == 0) {
        return op == PROTO_OP_AND ? &part_true : &part_false;
    }
    qsort(parts->items, parts->count, sizeof *parts->items, compare_parts);
    size_t kept = 1;
    for (size_t i = 1; i < parts->count; i++) {
        if (strcmp(parts->items[i]->text, parts->items[kept - 1]->text) != 0) {
            parts->items[kept++] = parts->items[i];
        }
    }
    parts->count = kept;
    if (kept == 1) {
        return parts->items[0];
    }
    struct part *part = make(binder, 1, sizeof *part);
    const char *text = part ? join_text(binder, op, parts) : NULL;
    if (!text) {
        return NULL;
    }
    *part = (struct part){.op = op, .children = parts->items, .count = kept, .text = text};
    return part;
}

/* Takes one operand into PARTS: constants vanish or decide, parts of the same operator are merged.
 * Returns false when the whole is decided (the dominating constant was met) or an error happened.
 */
static bool absorb(struct proto_binder *binder, enum proto_op op, struct parts *parts,
                   struct part *part)
{
    if (!part || part->op == (op == PROTO_OP_AND ? PROTO_OP_FALSE : PROTO_OP_TRUE)) {
        return false;
    }
    if (part->op == PROTO_OP_TRUE || part->op == PROTO_OP_FALSE) {
        return true;
    }
    if (part->op != op) {
        return add_part(binder, parts, part);
    }
    for (size_t i = 0; i < part->count; i++) {
        if (!add_part(binder, parts, part->children[i])) {
            return false;
        }
    }
    return true;
}

/* The parser bounds the depth: chains of one operator lean left and are walked in the loop;
 * everything else counts. Every operand is bound even when the whole is decided, so that a misspelt
 * name never hides. */
static struct part *bind_condition(struct proto_binder *binder, const struct proto_predicate *node,
                                   bool negate)
{
    while (node->op == PROTO_OP_NOT) {
        node = node->left;
        negate = !negate;
    }
    if (node->op != PROTO_OP_AND && node->op != PROTO_OP_OR) {
        return bind_leaf(binder, node, negate);
    }
    enum proto_op written = node->op;
    enum proto_op op = negate ? negated(written) : written;
    struct parts parts = {0};
    bool open = true;
    while (node) {
        const struct proto_predicate *operand = node->op == written ? node->right : node;
        node = node->op == written ? node->left : NULL;
        struct part *part = bind_condition(binder, operand, negate);
        if (binder->err) {
            return NULL;
        }
        open = open && absorb(binder, op, &parts, part);
    }
    if (binder->err) {
        return NULL;
    }
    return open ? join(binder, op, &parts) : (op == PROTO_OP_AND ? &part_false : &part_true);
}

/* ---- the bound tree ------------------------------------------------------------------------ */

static struct proto_predicate *build(struct proto_binder *binder, const struct part *part);

static struct proto_predicate *build_range(struct proto_binder *binder, const struct part *part,
                                           size_t from, size_t count)
{
    if (count == 1) {
        return build(binder, part->children[from]);
    }
    struct proto_predicate *node = make(binder, 1, sizeof *node);
    if (!node) {
        return NULL;
    }
    node->op = part->op;
    node->column = -1;
    node->left = build_range(binder, part, from, count / 2);
    node->right = build_range(binder, part, from + count / 2, count - count / 2);
    if (!node->left || !node->right) {
        return NULL;
    }
    uint16_t depth =
        node->left->depth > node->right->depth ? node->left->depth : node->right->depth;
    node->depth = (uint16_t)(depth + 1);
    return node;
}

static struct proto_predicate *build(struct proto_binder *binder, const struct part *part)
{
    if (part->leaf) {
        return part->leaf;
    }
    if (part->op == PROTO_OP_AND || part->op == PROTO_OP_OR) {
        return build_range(binder, part, 0, part->count);
    }
    struct proto_predicate *node = make(binder, 1, sizeof *node);
    if (node) {
        node->op = part->op;
        node->column = -1;
        node->depth = 1;
    }
    return node;
}

/* The parser bounds the depth; chains of one operator lean left. */
static bool has_null(const struct proto_predicate *node)
{
    for (; node; node = node->left) {
        if (any_null(node) || (node->right && has_null(node->right))) {
            return true;
        }
    }
    return false;
}

static void bind_where(struct proto_binder *binder)
{
    struct proto_query *query = binder->query;
    struct part *part = bind_condition(binder, query->where, false);
    if (!part) {
        return;
    }
    if (part->op == PROTO_OP_FALSE) {
        proto_binder_warn(binder, 0, "no row can meet the condition%s",
                          has_null(query->where) ? ": nothing is equal to NULL, write IS NULL"
                                                 : "");
    }
    query->where_text = part->op == PROTO_OP_TRUE ? NULL : part->text;
    query->where = part->op == PROTO_OP_TRUE ? NULL : build(binder, part);
}

enum err proto_query_bind(struct proto_query *query, const struct proto_schema *schema,
                          struct err_info *reterr)
{
    if (query->bound) {
        return proto_err_set(reterr, E_INTERNAL, "the query is bound already");
    }
    struct proto_binder binder = {
        .query = query, .schema = schema, .arena = &query->arena, .info = reterr};
    query->actions = 0;
    proto_binder_groups(&binder);
    proto_binder_items(&binder);
    if (!binder.err && query->where) {
        bind_where(&binder);
    }
    if (!binder.err) {
        proto_binder_bounds(&binder);
    }
    query->schema = schema;
    query->bound = !binder.err;
    return binder.err;
}

/* ---- canonical form and cells -------------------------------------------------------------- */

enum err proto_query_canonical(const struct proto_query *query, struct buf *ret)
{
    enum err err = query->bound ? buf_put(ret, span_str("SELECT ")) : E_INTERNAL;
    for (size_t i = 0; i < query->item_count && !err; i++) {
        err = i ? buf_put(ret, span_str(", ")) : E_OK;
        err = err ? err : proto_binder_item_text(&query->items[i], ret);
    }
    err = err ? err : buf_printf(ret, " FROM %s", query->dataset);
    if (query->where_text) {
        err = err ? err : buf_put(ret, span_str(" WHERE "));
        err = err ? err : buf_put(ret, span_str(query->where_text));
    }
    for (size_t i = 0; i < query->group_count && !err; i++) {
        err = buf_put(ret, span_str(i ? ", " : " GROUP BY "));
        err = err ? err : proto_binder_quoted(ret, query->group_names[i], '"');
    }
    return err;
}

struct columns {
    int *to;
    size_t count;
};

static void add_column(struct columns *columns, int column)
{
    bool known = column < 0 || columns->count == PROTO_SCHEMA_COLUMNS_MAX;
    for (size_t i = 0; i < columns->count && !known; i++) {
        known = columns->to[i] == column;
    }
    if (!known) {
        columns->to[columns->count++] = column;
    }
}

/* The bound tree is balanced, so the recursion is shallow. */
static void add_condition(struct columns *columns, const struct proto_predicate *node)
{
    if (!node) {
        return;
    }
    if (node->op == PROTO_OP_AND || node->op == PROTO_OP_OR) {
        add_condition(columns, node->left);
        add_condition(columns, node->right);
    } else if (node->op != PROTO_OP_TRUE && node->op != PROTO_OP_FALSE) {
        add_column(columns, node->column);
    }
}

size_t proto_query_columns(const struct proto_query *query, int ret[PROTO_SCHEMA_COLUMNS_MAX])
{
    struct columns columns = {.to = ret};
    for (size_t i = 0; i < query->item_count; i++) {
        if (query->items[i].kind != PROTO_AGG_COUNT_UNITS) {
            const struct proto_query_item *item = &query->items[i];
            for (size_t j = 0; j < item->argument_count; j++) {
                add_column(&columns, item->arguments[j].column);
            }
        }
    }
    for (size_t i = 0; i < query->group_count; i++) {
        add_column(&columns, query->group_columns[i]);
    }
    add_condition(&columns, query->where);
    return columns.count;
}

int32_t proto_query_cell_code(const struct proto_query *query, size_t cell, size_t group)
{
    for (size_t i = query->group_count - 1; i > group; i--) {
        cell /= query->group_sizes[i];
    }
    return (int32_t)(cell % query->group_sizes[group]);
}

const char *proto_query_cell_value(const struct proto_query *query, size_t cell, size_t group)
{
    return query->group_values[group][proto_query_cell_code(query, cell, group)];
}

void proto_query_fini(struct proto_query *query)
{
    arena_fini(&query->arena);
    memset(query, 0, sizeof *query);
}
