#include "config.h"
#include "proto/sql.h"
#include "proto/nearest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/body.h"
#include "proto/codec.h"
#include "proto/sql_grammar.h"
#include "proto/time.h"

#define EXPECTED_SIZE 160

struct token {
    size_t at; /* character, from 1 */
    struct span text;
};

struct operand {
    bool is_column;
    struct token name;
    struct proto_literal literal;
    size_t at;
};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static const struct {
    const char *word;
    int token;
} keywords[] = {
    {"SELECT", SQL_SELECT}, {"FROM", SQL_FROM}, {"WHERE", SQL_WHERE},       {"GROUP", SQL_GROUP},
    {"BY", SQL_BY},         {"AS", SQL_AS},     {"DISTINCT", SQL_DISTINCT}, {"AND", SQL_AND},
    {"OR", SQL_OR},         {"NOT", SQL_NOT},   {"BETWEEN", SQL_BETWEEN},   {"IN", SQL_IN},
    {"IS", SQL_IS},         {"NULL", SQL_NULL}, {"TRUE", SQL_TRUE},         {"FALSE", SQL_FALSE},
};

/* Where the lexer stands, and what the grammar's actions build. The first error is kept, what
 * follows it is ignored. */
struct parser {
    struct span sql;
    size_t offset;
    size_t characters; /* before offset */
    bool after_from;
    struct proto_query *query;
    struct proto_query_item item;                  /* the one being read */
    char arguments[PROTO_QUERY_ARGUMENTS_MAX + 2]; /* 'c' a column, 'n' a number */
    struct proto_literal *list;
    size_t list_count;
    char expected[EXPECTED_SIZE];
    /* Which of these; all where the end may be: by then the parser has given up WHERE, AND and what else could have followed. */
    bool expects[COUNT_OF(keywords)];
    enum err err;
    struct err_info *info;
};

static void fail(struct parser *parser, enum err err, size_t at, const char *what, struct span name)
{
    if (parser->err) {
        return;
    }
    int shown = name.len > 40 ? 40 : (int)name.len;
    parser->err = proto_err_set(parser->info, err, "at character %zu: %s%s%.*s%s", at, what,
                                name.len ? " '" : "", shown, name.len ? (const char *)name.ptr : "",
                                name.len ? "'" : "");
}

/* ---- lexer --------------------------------------------------------------------------------- */

static const struct {
    const char *sign;
    int token;
    const char *shown;
} signs[] = {
    {"<>", SQL_NE, "'<>'"},  {"!=", SQL_NE, "'!='"}, {"<=", SQL_LE, "'<='"},
    {">=", SQL_GE, "'>='"},  {"<", SQL_LT, "'<'"},   {">", SQL_GT, "'>'"},
    {"=", SQL_EQ, "'='"},    {"(", SQL_LP, "'('"},   {")", SQL_RP, "')'"},
    {",", SQL_COMMA, "','"}, {"*", SQL_STAR, "'*'"}, {";", SQL_SEMICOLON, "';'"},
};

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool same_word(struct span text, const char *word)
{
    size_t i = 0;
    for (; i < text.len && word[i]; i++) {
        uint8_t c = text.ptr[i];
        if ((c >= 'a' && c <= 'z' ? c - 32 : c) != word[i]) {
            return false;
        }
    }
    return i == text.len && !word[i];
}

static uint8_t peek(const struct parser *parser, size_t ahead)
{
    size_t at = parser->offset + ahead;
    return at < parser->sql.len ? parser->sql.ptr[at] : 0;
}

/* Takes N bytes as the token's text. */
static void take(struct parser *parser, size_t n, struct token *ret)
{
    ret->at = parser->characters + 1;
    ret->text = span_of(parser->sql.ptr + parser->offset, n);
    for (size_t i = 0; i < n; i++) {
        parser->characters += (parser->sql.ptr[parser->offset + i] & 0xc0) != 0x80;
    }
    parser->offset += n;
}

static size_t digits(const struct parser *parser, size_t from)
{
    size_t n = from;
    while (is_digit(peek(parser, n))) {
        n++;
    }
    return n - from;
}

/* Length of the number that starts here, 0 when none does. */
static size_t number_length(const struct parser *parser)
{
    size_t n = peek(parser, 0) == '-' || peek(parser, 0) == '+';
    size_t whole = digits(parser, n);
    size_t fraction = peek(parser, n + whole) == '.' ? digits(parser, n + whole + 1) : 0;
    if (whole + fraction == 0) {
        return 0;
    }
    n += whole + (peek(parser, n + whole) == '.') + fraction;
    if (peek(parser, n) == 'e' || peek(parser, n) == 'E') {
        size_t sign = peek(parser, n + 1) == '-' || peek(parser, n + 1) == '+';
        size_t exponent = digits(parser, n + 1 + sign);
        n += exponent ? 1 + sign + exponent : 0;
    }
    return n;
}

/* 'text' or "name"; a doubled quote stands for itself. */
static int lex_quoted(struct parser *parser, struct token *ret)
{
    uint8_t quote = peek(parser, 0);
    size_t n = 1;
    while (parser->offset + n < parser->sql.len) {
        if (peek(parser, n) == quote && peek(parser, n + 1) != quote) {
            take(parser, n + 1, ret);
            return quote == '\'' ? SQL_STRING : SQL_QUOTED;
        }
        n += peek(parser, n) == quote ? 2 : 1;
    }
    fail(parser, E_QUERY, parser->characters + 1, "a quote is opened here and never closed",
         SPAN_NONE);
    return 0;
}

static int lex_word(struct parser *parser, struct token *ret)
{
    size_t n = 1;
    while (is_letter(peek(parser, n)) || is_digit(peek(parser, n))) {
        n++;
    }
    take(parser, n, ret);
    for (size_t i = 0; i < COUNT_OF(keywords); i++) {
        if (same_word(ret->text, keywords[i].word)) {
            return keywords[i].token;
        }
    }
    return SQL_ID;
}

/* After FROM a name has its own alphabet: chain-study, 2024.visits. */
static int lex_dataset(struct parser *parser, struct token *ret)
{
    size_t n = 0;
    bool quoted = peek(parser, 0) == '"';
    if (quoted) {
        int token = lex_quoted(parser, ret);
        ret->text = token ? span_of(ret->text.ptr + 1, ret->text.len - 2) : SPAN_NONE;
    } else {
        uint8_t c;
        while ((c = peek(parser, n)) != 0 &&
               (is_letter(c) || is_digit(c) || c == '.' || c == '-')) {
            n++;
        }
        if (n == 0) {
            return -1;
        }
        take(parser, n, ret);
    }
    if (!parser->err && !proto_dataset_name_valid(ret->text)) {
        fail(parser, E_QUERY, ret->at, "a dataset is named [a-z0-9][a-z0-9._-]*, not", ret->text);
    }
    return parser->err ? 0 : SQL_DATASET;
}

static int lex_sign(struct parser *parser, struct token *ret)
{
    for (size_t i = 0; i < COUNT_OF(signs); i++) {
        size_t n = strlen(signs[i].sign);
        if (parser->sql.len - parser->offset >= n &&
            memcmp(parser->sql.ptr + parser->offset, signs[i].sign, n) == 0) {
            take(parser, n, ret);
            return signs[i].token;
        }
    }
    take(parser, 1, ret);
    bool printable = ret->text.ptr[0] > 0x20 && ret->text.ptr[0] < 0x7f;
    fail(parser, E_QUERY, ret->at, "a character that has no place in a query",
         printable ? ret->text : SPAN_NONE);
    return 0;
}

/* The next token; 0 at the end and on an error. */
static int lex(struct parser *parser, struct token *ret)
{
    struct token blank;
    while (peek(parser, 0) == ' ' || (peek(parser, 0) >= '\t' && peek(parser, 0) <= '\r')) {
        take(parser, 1, &blank);
    }
    *ret = (struct token){parser->characters + 1, SPAN_NONE};
    if (parser->offset >= parser->sql.len) {
        return 0;
    }
    if (parser->after_from) {
        parser->after_from = false;
        int token = lex_dataset(parser, ret);
        if (token >= 0) {
            return token;
        }
    }
    uint8_t c = peek(parser, 0);
    size_t number = number_length(parser);
    if (number) {
        take(parser, number, ret);
        if (is_letter(peek(parser, 0))) {
            fail(parser, E_QUERY, ret->at, "a letter follows the number", ret->text);
            return 0;
        }
        return SQL_NUMBER;
    }
    if (c == '\'' || c == '"') {
        return lex_quoted(parser, ret);
    }
    int token = is_letter(c) ? lex_word(parser, ret) : lex_sign(parser, ret);
    parser->after_from = token == SQL_FROM;
    return token;
}

/* ---- what the grammar's actions build ------------------------------------------------------ */

static void parse_too_deep(struct parser *parser)
{
    fail(parser, E_LIMIT, parser->characters, "the query is nested too deep", SPAN_NONE);
}

static const char *token_text(int token)
{
    switch (token) {
    case 0:
        return "the end";
    case SQL_ID:
    case SQL_QUOTED:
        return "a name";
    case SQL_DATASET:
        return "a dataset's name";
    case SQL_NUMBER:
    case SQL_STRING:
    case SQL_TRUE:
    case SQL_FALSE:
    case SQL_NULL:
        return "a value";
    case SQL_EQ:
    case SQL_NE:
    case SQL_LT:
    case SQL_LE:
    case SQL_GT:
    case SQL_GE:
        return "a comparison";
    default:
        break;
    }
    for (size_t i = 0; i < COUNT_OF(keywords); i++) {
        if (keywords[i].token == token) {
            return keywords[i].word;
        }
    }
    for (size_t i = 0; i < COUNT_OF(signs); i++) {
        if (signs[i].token == token) {
            return signs[i].shown;
        }
    }
    return "something else";
}

/* Collects each alternative once, until the text is full. */
static void parse_expected(struct parser *parser, int token)
{
    for (size_t i = 0; i < COUNT_OF(keywords); i++) {
        parser->expects[i] = parser->expects[i] || keywords[i].token == token || token == 0;
    }
    const char *text = token_text(token);
    const char *known = strstr(parser->expected, text);
    size_t used = strlen(parser->expected);
    if (known && (known[strlen(text)] == ',' || !known[strlen(text)])) {
        return;
    }
    if (used + strlen(text) + 3 < sizeof parser->expected) {
        snprintf(parser->expected + used, sizeof parser->expected - used, "%s%s", used ? ", " : "",
                 text);
    }
}

/* The keyword that may stand here and is spelled almost like it; NULL: none. */
static const char *meant(const struct parser *parser, struct span found)
{
    char upper[16];
    if (found.len < 3 || found.len > sizeof upper) {
        return NULL;
    }
    for (size_t i = 0; i < found.len; i++) {
        uint8_t c = found.ptr[i];
        upper[i] = (char)(c >= 'a' && c <= 'z' ? c - 32 : c);
    }
    struct proto_nearest nearest = proto_nearest_to(span_of(upper, found.len));
    for (size_t i = 0; i < COUNT_OF(keywords); i++) {
        if (parser->expects[i]) {
            proto_nearest_try(&nearest, span_str(keywords[i].word));
        }
    }
    return (const char *)nearest.best.ptr;
}

static void parse_unexpected(struct parser *parser, const struct token *found)
{
    if (parser->err) {
        return;
    }
    int shown = found->text.len > 40 ? 40 : (int)found->text.len;
    const char *near = meant(parser, found->text);
    parser->err = proto_err_set(
        parser->info, E_QUERY, "at character %zu: expected %s; found %s%.*s%s%s%s%s", found->at,
        parser->expected[0] ? parser->expected : "nothing more", shown ? "'" : "the end", shown,
        shown ? (const char *)found->text.ptr : "", shown ? "'" : "", near ? "; did you mean " : "",
        near ? near : "", near ? "?" : "");
}

/* Copies TEXT without its outer quotes, inner ones undoubled. */
static const char *unquoted(struct parser *parser, struct span text)
{
    char *copy = arena_alloc(&parser->query->arena, text.len + 1, 1);
    if (!copy) {
        fail(parser, E_NO_MEMORY, 1, "no memory for the query", SPAN_NONE);
        return "";
    }
    uint8_t quote = text.len ? text.ptr[0] : 0;
    bool quoted = quote == '\'' || quote == '"';
    size_t n = 0;
    for (size_t i = quoted; i + quoted < text.len; i++) {
        copy[n++] = (char)text.ptr[i];
        i += quoted && text.ptr[i] == quote;
    }
    return copy;
}

static void copy_name(struct parser *parser, const struct token *token, char to[PROTO_NAME_SIZE])
{
    const char *name = unquoted(parser, token->text);
    if (!parser->err && !proto_column_name_valid(name)) {
        fail(parser, E_QUERY, token->at, "this is no name of a column:", token->text);
    }
    if (!parser->err) {
        memcpy(to, name, strlen(name) + 1);
    }
}

static void parse_dataset(struct parser *parser, const struct token *name)
{
    if (!span_to_cstr(name->text, parser->query->dataset, sizeof parser->query->dataset)) {
        fail(parser, E_QUERY, name->at, "this is no name of a dataset:", name->text);
    }
}

/* -- the select list -- */

static struct proto_literal parse_number(struct parser *parser, const struct token *token);

static const struct {
    const char *name;
    enum proto_aggregate kind;
    const char *arguments; /* 'c' column, 'n' number, '+' the last one any number of times */
    const char *usage;
} aggregates[] = {
    {"COUNT", PROTO_AGG_COUNT, "c", "COUNT(*), COUNT(DISTINCT unit) or COUNT(column)"},
    {"SUM", PROTO_AGG_SUM, "c", "SUM(column)"},
    {"AVG", PROTO_AGG_AVG, "c", "AVG(column)"},
    {"VAR", PROTO_AGG_VAR, "c", "VAR(column)"},
    {"STDDEV", PROTO_AGG_STDDEV, "c", "STDDEV(column)"},
    {"MIN", PROTO_AGG_MIN, "c", "MIN(column)"},
    {"MAX", PROTO_AGG_MAX, "c", "MAX(column)"},
    {"MEDIAN", PROTO_AGG_MEDIAN, "c", "MEDIAN(column)"},
    {"QUANTILE", PROTO_AGG_QUANTILE, "cn", "QUANTILE(column, q)"},
    {"HISTOGRAM", PROTO_AGG_HISTOGRAM, "cn", "HISTOGRAM(column, n)"},
    {"CORR", PROTO_AGG_CORR, "cc", "CORR(a, b)"},
    {"LINREG", PROTO_AGG_LINREG, "cc+", "LINREG(y, x1, ...)"},
    {"SURVIVAL", PROTO_AGG_SURVIVAL, "ccn", "SURVIVAL(time, event, bins)"},
};

const char *proto_aggregate_name(enum proto_aggregate kind)
{
    if (kind == PROTO_AGG_COUNT_ROWS || kind == PROTO_AGG_COUNT_UNITS) {
        return "COUNT";
    }
    for (size_t i = 0; i < COUNT_OF(aggregates); i++) {
        if (aggregates[i].kind == kind) {
            return aggregates[i].name;
        }
    }
    return "GROUP";
}

const char *proto_aggregate_usage(enum proto_aggregate kind)
{
    for (size_t i = 0; i < COUNT_OF(aggregates); i++) {
        if (aggregates[i].kind == kind) {
            return aggregates[i].usage;
        }
    }
    return kind == PROTO_AGG_GROUP ? NULL : aggregates[0].usage;
}

static void start_item(struct parser *parser, enum proto_aggregate kind, size_t at)
{
    parser->item = (struct proto_query_item){.kind = kind, .at = at, .group = -1};
    for (size_t i = 0; i < PROTO_QUERY_ARGUMENTS_MAX; i++) {
        parser->item.arguments[i].column = -1;
    }
    parser->arguments[0] = '\0';
}

static void add_column_argument(struct parser *parser, const struct token *name)
{
    struct proto_query_item *item = &parser->item;
    if (item->argument_count == PROTO_QUERY_ARGUMENTS_MAX) {
        fail(parser, E_LIMIT, name->at, "an aggregate takes at most 9 columns", SPAN_NONE);
        return;
    }
    item->arguments[item->argument_count].at = name->at;
    copy_name(parser, name, item->arguments[item->argument_count++].name);
}

static void parse_item_column(struct parser *parser, const struct token *name)
{
    start_item(parser, PROTO_AGG_GROUP, name->at);
    add_column_argument(parser, name);
    memcpy(parser->item.label, parser->item.arguments[0].name, PROTO_NAME_SIZE);
}

static void parse_call(struct parser *parser, const struct token *name)
{
    start_item(parser, PROTO_AGG_GROUP, name->at);
    for (size_t i = 0; i < COUNT_OF(aggregates); i++) {
        if (same_word(name->text, aggregates[i].name)) {
            parser->item.kind = aggregates[i].kind;
            return;
        }
    }
    char text[PROTO_NAME_SIZE];
    const char *names[COUNT_OF(aggregates)];
    for (size_t i = 0; i < COUNT_OF(aggregates); i++) {
        names[i] = aggregates[i].name;
    }
    const char *near = span_to_cstr(name->text, text, sizeof text)
                           ? proto_suggest(names, COUNT_OF(aggregates), text)
                           : NULL;
    char why[80];
    snprintf(why, sizeof why, "%s%s%sthere is no aggregate", near ? "did you mean " : "",
             near ? near : "", near ? "? " : "");
    fail(parser, E_QUERY, name->at, why, name->text);
}

static void parse_call_star(struct parser *parser)
{
    if (parser->item.kind != PROTO_AGG_COUNT) {
        fail(parser, E_QUERY, parser->item.at, "only COUNT takes a star", SPAN_NONE);
    }
    parser->item.kind = PROTO_AGG_COUNT_ROWS;
}

static void parse_call_distinct(struct parser *parser, const struct token *name)
{
    if (parser->item.kind != PROTO_AGG_COUNT) {
        fail(parser, E_QUERY, parser->item.at, "only COUNT takes DISTINCT", SPAN_NONE);
    }
    parser->item.kind = PROTO_AGG_COUNT_UNITS;
    add_column_argument(parser, name);
}

static void parse_argument(struct parser *parser, const struct token *token)
{
    size_t n = strlen(parser->arguments);
    if (n + 1 >= sizeof parser->arguments) {
        fail(parser, E_LIMIT, token->at, "an aggregate takes at most 10 arguments", SPAN_NONE);
        return;
    }
    parser->arguments[n] = 'c';
    parser->arguments[n + 1] = '\0';
    add_column_argument(parser, token);
}

static void parse_argument_number(struct parser *parser, const struct token *token)
{
    size_t n = strlen(parser->arguments);
    struct proto_literal literal = parse_number(parser, token);
    if (n + 1 >= sizeof parser->arguments) {
        fail(parser, E_LIMIT, token->at, "an aggregate takes at most 10 arguments", SPAN_NONE);
        return;
    }
    parser->arguments[n] = 'n';
    parser->arguments[n + 1] = '\0';
    parser->item.number = literal.number + 0.0;
}

static bool arguments_fit(const char *pattern, const char *arguments)
{
    size_t n = strlen(pattern);
    bool more = n && pattern[n - 1] == '+';
    n -= more;
    size_t given = strlen(arguments);
    for (size_t i = 0; i < given; i++) {
        if (arguments[i] != pattern[i < n ? i : n - 1]) {
            return false;
        }
    }
    return given == n || (more && given > n);
}

static void parse_call_end(struct parser *parser)
{
    struct proto_query_item *item = &parser->item;
    if (item->kind == PROTO_AGG_COUNT_ROWS) {
        memcpy(item->label, "count", 6);
        return;
    }
    if (item->kind == PROTO_AGG_COUNT_UNITS) {
        memcpy(item->label, "units", 6);
        return;
    }
    for (size_t i = 0; i < COUNT_OF(aggregates) && !parser->err; i++) {
        if (aggregates[i].kind != item->kind) {
            continue;
        }
        if (!arguments_fit(aggregates[i].arguments, parser->arguments)) {
            char why[80];
            snprintf(why, sizeof why, "write %s", aggregates[i].usage);
            fail(parser, E_QUERY, item->at, why, SPAN_NONE);
            return;
        }
        size_t n = 0;
        for (const char *c = aggregates[i].name; *c; c++) {
            item->label[n++] = (char)(*c + 32);
        }
        item->label[n] = '_';
        memcpy(item->label + n + 1, item->arguments[0].name, PROTO_NAME_SIZE);
    }
}

static void parse_label(struct parser *parser, const struct token *name)
{
    char label[PROTO_NAME_SIZE] = "";
    copy_name(parser, name, label);
    memcpy(parser->item.label, label, sizeof label);
    parser->item.has_label = true;
}

/* A label that stands there already gets _2, _3, ...; one that a person gave twice is a mistake. */
static void unique_label(struct parser *parser, struct proto_query_item *item)
{
    char base[sizeof item->label];
    memcpy(base, item->label, sizeof base);
    for (unsigned n = 2;; n++) {
        bool taken = false;
        for (size_t i = 0; i < parser->query->item_count; i++) {
            taken |= strcmp(parser->query->items[i].label, item->label) == 0;
        }
        if (!taken) {
            return;
        }
        if (item->has_label) {
            fail(parser, E_QUERY, item->at,
                 "this label stands there twice:", span_str(item->label));
            return;
        }
        snprintf(item->label, sizeof item->label, "%.74s_%u", base, n % 1000);
    }
}

static void parse_item_end(struct parser *parser)
{
    struct proto_query *query = parser->query;
    if (query->item_count == PROTO_QUERY_ITEMS_MAX) {
        fail(parser, E_LIMIT, parser->item.at, "more than 16 items in SELECT", SPAN_NONE);
    }
    if (!parser->err) {
        unique_label(parser, &parser->item);
    }
    if (!parser->err) {
        query->items[query->item_count++] = parser->item;
    }
}

static void parse_group(struct parser *parser, const struct token *name)
{
    struct proto_query *query = parser->query;
    char text[PROTO_NAME_SIZE] = "";
    copy_name(parser, name, text);
    for (size_t i = 0; i < query->group_count; i++) {
        if (strcmp(query->group_names[i], text) == 0) {
            fail(parser, E_QUERY, name->at, "this column is grouped twice:", name->text);
        }
    }
    if (query->group_count == PROTO_QUERY_GROUPS_MAX) {
        fail(parser, E_LIMIT, name->at, "more than 4 columns in GROUP BY", SPAN_NONE);
    }
    if (!parser->err) {
        memcpy(query->group_names[query->group_count], text, sizeof text);
        query->group_at[query->group_count++] = name->at;
    }
}

/* -- literals -- */

static struct proto_literal parse_number(struct parser *parser, const struct token *token)
{
    struct proto_literal literal = {
        .kind = PROTO_LITERAL_NUMBER, .text = unquoted(parser, token->text), .at = token->at};
    literal.number = strtod(literal.text, NULL);
    if (!isfinite(literal.number)) {
        fail(parser, E_QUERY, token->at, "the number is too large:", token->text);
    }
    return literal;
}

static struct proto_literal parse_string(struct parser *parser, const struct token *token)
{
    return (struct proto_literal){
        .kind = PROTO_LITERAL_TEXT, .text = unquoted(parser, token->text), .at = token->at};
}

static struct proto_literal parse_date(struct parser *parser, const struct token *word,
                                       const struct token *token)
{
    int32_t days;
    struct proto_literal literal = parse_string(parser, token);
    if (!same_word(word->text, "DATE")) {
        fail(parser, E_QUERY, word->at, "only DATE may stand before a text, not", word->text);
    } else if (!proto_time_parse_date(literal.text, &days)) {
        fail(parser, E_QUERY, token->at, "a date is 'YYYY-MM-DD', not", token->text);
    }
    return literal;
}

static struct proto_literal parse_boolean(const struct token *token, bool value)
{
    return (struct proto_literal){.kind = PROTO_LITERAL_BOOLEAN,
                                  .number = value,
                                  .text = value ? "true" : "false",
                                  .at = token->at};
}

static void parse_list_start(struct parser *parser)
{
    parser->list_count = 0;
    parser->list = NULL;
}

static void parse_list_add(struct parser *parser, const struct proto_literal *literal)
{
    if (++parser->query->literals > PROTO_QUERY_LITERALS_MAX) {
        fail(parser, E_LIMIT, literal->at, "more than 2048 values in the query", SPAN_NONE);
    }
    if (parser->err) {
        return;
    }
    /* Doubled when full: sizes 8, 16, 32, ... */
    size_t count = parser->list_count;
    if (count == 0 || (count >= 8 && (count & (count - 1)) == 0)) {
        struct proto_literal *grown =
            arena_alloc(&parser->query->arena, count ? 2 * count : 8, sizeof *grown);
        if (!grown) {
            fail(parser, E_NO_MEMORY, 1, "no memory for the query", SPAN_NONE);
            return;
        }
        if (count) {
            memcpy(grown, parser->list, count * sizeof *grown);
        }
        parser->list = grown;
    }
    parser->list[parser->list_count++] = *literal;
}

/* -- conditions -- */

static struct proto_predicate *new_node(struct parser *parser, enum proto_op op, size_t at)
{
    if (++parser->query->nodes > PROTO_QUERY_NODES_MAX) {
        fail(parser, E_LIMIT, at, "more than 1024 conditions", SPAN_NONE);
    }
    struct proto_predicate *node =
        parser->err ? NULL : arena_alloc(&parser->query->arena, 1, sizeof *node);
    if (!node) {
        fail(parser, E_NO_MEMORY, at, "no memory for the query", SPAN_NONE);
        return NULL;
    }
    node->op = op;
    node->at = at;
    node->depth = 1;
    node->column = -1;
    return node;
}

/* Depth is that of the walk that follows: chains of one operator are walked in a loop and count
 * once. */
static struct proto_predicate *deeper(struct parser *parser, struct proto_predicate *node,
                                      unsigned depth)
{
    if (depth > PROTO_QUERY_DEPTH_MAX) {
        parse_too_deep(parser);
    }
    node->depth = (uint16_t)depth;
    return node;
}

static struct proto_predicate *parse_join(struct parser *parser, enum proto_op op,
                                          struct proto_predicate *left,
                                          struct proto_predicate *right)
{
    struct proto_predicate *node = left && right ? new_node(parser, op, left->at) : NULL;
    if (!node) {
        return NULL;
    }
    node->left = left;
    node->right = right;
    unsigned from_left = left->op == op ? left->depth : left->depth + 1u;
    unsigned from_right = right->depth + 1u;
    return deeper(parser, node, from_left > from_right ? from_left : from_right);
}

static struct proto_predicate *parse_not(struct parser *parser, struct proto_predicate *operand)
{
    struct proto_predicate *node = operand ? new_node(parser, PROTO_OP_NOT, operand->at) : NULL;
    if (!node) {
        return NULL;
    }
    node->left = operand;
    return deeper(parser, node, operand->depth + 1u);
}

/* A leaf over a column, with COUNT literals copied. */
static struct proto_predicate *new_leaf(struct parser *parser, enum proto_op op,
                                        const struct operand *operand,
                                        const struct proto_literal *literals, size_t count)
{
    struct proto_predicate *node = new_node(parser, op, operand->at);
    if (!node) {
        return NULL;
    }
    node->literals = arena_alloc(&parser->query->arena, count + 1, sizeof *node->literals);
    if (!node->literals) {
        fail(parser, E_NO_MEMORY, 1, "no memory for the query", SPAN_NONE);
        return NULL;
    }
    if (count) {
        memcpy(node->literals, literals, count * sizeof *literals);
    }
    node->literal_count = count;
    if (operand->is_column) {
        copy_name(parser, &operand->name, node->column_name);
    }
    return node;
}

static bool need_column(struct parser *parser, const struct operand *operand)
{
    if (!operand->is_column) {
        fail(parser, E_QUERY, operand->at, "a column must stand before IN, BETWEEN and IS",
             SPAN_NONE);
    }
    return operand->is_column;
}

static struct proto_predicate *parse_bare(struct parser *parser, const struct operand *operand)
{
    const struct proto_literal *literal = &operand->literal;
    if (operand->is_column) {
        return new_leaf(parser, PROTO_OP_COLUMN, operand, NULL, 0);
    }
    if (literal->kind == PROTO_LITERAL_BOOLEAN) {
        return new_node(parser, literal->number != 0 ? PROTO_OP_TRUE : PROTO_OP_FALSE, operand->at);
    }
    if (literal->kind == PROTO_LITERAL_NULL) {
        struct proto_literal both[2] = {*literal, *literal};
        return new_leaf(parser, PROTO_OP_EQ, operand, both, 2);
    }
    fail(parser, E_QUERY, operand->at, "a value alone is no condition; compare it with a column",
         SPAN_NONE);
    return NULL;
}

static enum proto_op mirrored(enum proto_op op)
{
    switch (op) {
    case PROTO_OP_LT:
        return PROTO_OP_GT;
    case PROTO_OP_LE:
        return PROTO_OP_GE;
    case PROTO_OP_GT:
        return PROTO_OP_LT;
    case PROTO_OP_GE:
        return PROTO_OP_LE;
    default:
        return op;
    }
}

static struct proto_predicate *parse_compare(struct parser *parser, enum proto_op op,
                                             const struct operand *a, const struct operand *b)
{
    if (a->is_column && b->is_column) {
        fail(parser, E_UNSUPPORTED, b->at,
             "this version compares a column with values only, not with the column", b->name.text);
        return NULL;
    }
    if (a->is_column) {
        return new_leaf(parser, op, a, &b->literal, 1);
    }
    if (b->is_column) {
        return new_leaf(parser, mirrored(op), b, &a->literal, 1);
    }
    struct proto_literal both[2] = {a->literal, b->literal};
    return new_leaf(parser, op, a, both, 2);
}

static struct proto_predicate *parse_between(struct parser *parser, const struct operand *a,
                                             const struct proto_literal *low,
                                             const struct proto_literal *high)
{
    if (!need_column(parser, a)) {
        return NULL;
    }
    struct proto_predicate *left = new_leaf(parser, PROTO_OP_GE, a, low, 1);
    struct proto_predicate *right = new_leaf(parser, PROTO_OP_LE, a, high, 1);
    return parse_join(parser, PROTO_OP_AND, left, right);
}

static struct proto_predicate *parse_in(struct parser *parser, const struct operand *a,
                                        enum proto_op op)
{
    return need_column(parser, a) ? new_leaf(parser, op, a, parser->list, parser->list_count)
                                  : NULL;
}

static struct proto_predicate *parse_is_null(struct parser *parser, const struct operand *a,
                                             enum proto_op op)
{
    return need_column(parser, a) ? new_leaf(parser, op, a, NULL, 0) : NULL;
}

/* The generated parser. Its code is lemon's, so that our warnings do not apply to it; its functions
 * are made static here. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wtype-limits"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#include "proto/sql_grammar.c"
#pragma GCC diagnostic pop

/* ---- driving ------------------------------------------------------------------------------- */

static void check_select(struct parser *parser)
{
    const struct proto_query *query = parser->query;
    bool any = false;
    for (size_t i = 0; i < query->item_count; i++) {
        const struct proto_query_item *item = &query->items[i];
        any |= item->kind != PROTO_AGG_GROUP;
        bool grouped = item->kind != PROTO_AGG_GROUP;
        for (size_t j = 0; j < query->group_count; j++) {
            grouped |= strcmp(query->group_names[j], item->arguments[0].name) == 0;
        }
        if (!grouped) {
            fail(parser, E_QUERY, item->at,
                 "a column in SELECT must be in GROUP BY or inside an aggregate:",
                 span_str(item->arguments[0].name));
        }
    }
    if (!any) {
        fail(parser, E_QUERY, 1,
             "SELECT needs an aggregate, such as COUNT(*); rows are never shown", SPAN_NONE);
    }
}

static enum err parse(struct span sql, size_t max, struct proto_query *ret, struct err_info *reterr)
{
    struct parser parser = {.sql = sql, .query = ret, .info = reterr};
    if (sql.len > max) {
        return proto_err_set(reterr, E_LIMIT, "at character %zu: a query has at most %zu bytes",
                             max, max);
    }
    if (!proto_utf8_valid(sql) || (sql.len && memchr(sql.ptr, 0, sql.len))) {
        return proto_err_set(reterr, E_QUERY, "at character 1: the query is not UTF-8 text");
    }
    yyParser *machine = proto_alloc(1, sizeof *machine);
    if (!machine) {
        return proto_err_set(reterr, E_NO_MEMORY, "no memory for the query");
    }
    proto_sql_lemonInit(machine);
    struct token token;
    int kind;
    do {
        kind = lex(&parser, &token);
        if (!parser.err) {
            proto_sql_lemon(machine, kind, token, &parser);
        }
    } while (kind && !parser.err);
    proto_sql_lemonFinalize(machine);
    proto_free(machine);
    if (!parser.err) {
        check_select(&parser);
    }
    return parser.err;
}

enum err proto_sql_parse(const char *sql, struct proto_query *ret, struct err_info *reterr)
{
    return parse(span_str(sql), PROTO_QUERY_TEXT_MAX, ret, reterr);
}

enum err proto_sql_parse_span(struct span sql, struct proto_query *ret, struct err_info *reterr)
{
    return parse(sql, PROTO_QUERY_BYTES_MAX, ret, reterr);
}
