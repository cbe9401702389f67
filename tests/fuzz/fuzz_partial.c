/* Any bytes as one site's answer: the first byte chooses the question, the rest is the answer's encoding, or, with the top
 * bit set, numbers that are laid over an answer of the right shape. What passes the check must leave every number of the
 * table finite, added to itself as well. */
#include "config.h"

#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>

#include "node/query/partial.h"
#include "proto/sql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *sexes[] = {"F", "M"};
static struct proto_column columns[] = {
    {.name = "patient", .type = PROTO_COLUMN_TEXT},
    {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .min = 20, .max = 60},
    {.name = "cost", .type = PROTO_COLUMN_REAL, .has_bounds = true, .min = -5, .max = 100},
    {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 2},
    {.name = "chapter", .type = PROTO_COLUMN_CATEGORY, .values_private = true},
    {.name = "dead", .type = PROTO_COLUMN_BOOLEAN},
};
static const struct proto_schema schema = {columns, 6, "patient", 3, 1};

static const char *const questions[] = {
    "SELECT COUNT(*), AVG(cost), SUM(age), STDDEV(cost) FROM t",
    "SELECT sex, CORR(age, cost) FROM t GROUP BY sex",
    "SELECT MEDIAN(age), MAX(age) FROM t",
    "SELECT sex, HISTOGRAM(cost, 7) FROM t GROUP BY sex",
    "SELECT LINREG(cost, age, dead) FROM t",
    "SELECT sex, SURVIVAL(age, dead, 9) FROM t GROUP BY sex",
    "SELECT chapter, sex, COUNT(DISTINCT patient), AVG(cost) FROM t GROUP BY chapter, sex",
};
#define QUESTIONS (sizeof questions / sizeof *questions)

struct question {
    struct proto_query query;
    struct query_layout layout;
    struct query_coordinate coordinates[QUERY_COORDINATES_MAX];
};

static const struct question *question_of(size_t i)
{
    static struct question made[QUESTIONS];
    struct question *at = &made[i];
    if (at->layout.count) {
        return at;
    }
    const struct query_limits limits = {0, 0};
    if (proto_sql_parse(questions[i], &at->query, NULL) ||
        proto_query_bind(&at->query, &schema, NULL) ||
        query_layout_plan(&at->query, &limits, &at->layout, NULL) ||
        privacy_mechanism_plan_bounded(500000000, &at->layout.bounds, at->layout.coordinates,
                                       at->layout.count, NULL)) {
        abort();
    }
    for (size_t j = 0; j < at->layout.count; j++) {
        const struct privacy_coordinate *c = &at->layout.coordinates[j];
        at->coordinates[j] = (struct query_coordinate){c->grid_log2, c->sigma2_num, c->sigma2_den};
    }
    return at;
}

/* Little by little: each pair of bytes is added to a number of an answer of zeros. */
static bool overlay(const struct question *question, struct span bytes, struct arena *arena,
                    struct query_answer *ret)
{
    size_t cells = question->query.keyed ? 0 : question->query.cells;
    size_t numbers = cells * question->layout.slots;
    uint8_t *values = arena_alloc(arena, numbers + 1, 8);
    uint8_t *withheld = arena_alloc(arena, cells + 1, 1);
    if (!values || !withheld) {
        return false;
    }
    for (size_t i = 0; i + 1 < bytes.len && numbers; i += 2) {
        int64_t value = (int8_t)bytes.ptr[i] * ((int64_t)1 << bytes.ptr[i + 1] % 56);
        put_be64(values + 8 * (i / 2 % numbers), (uint64_t)value);
    }
    *ret = (struct query_answer){
        .cells = cells,
        .coordinates = {(void *)(uintptr_t)question->coordinates, question->layout.count},
        .values = span_of(values, numbers * 8),
        .withheld = span_of(withheld, cells)};
    return true;
}

static void read_table(const struct question *question, const struct query_answer *answer,
                       struct arena *arena)
{
    const struct query_answer *answers[2] = {answer, answer};
    struct query_cells cells;
    struct query_table table;
    size_t withheld[2] = {0};
    if (query_partial_add(&question->query, &question->layout, answers, 2, arena, &cells,
                          withheld) ||
        query_table_make(&question->query, &question->layout, &cells, arena, &table)) {
        abort();
    }
    for (size_t i = 0; i < table.row_count * table.column_count; i++) {
        const struct query_estimate *number = &table.values[i].number;
        if (!table.values[i].text && number->known && !isfinite(number->value)) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct query_answer answer;
    if (size < 1) {
        return 0;
    }
    const struct question *question = question_of(data[0] % 128 % QUESTIONS);
    struct span bytes = span_of(data + 1, size - 1);
    bool read = data[0] & 0x80 ? overlay(question, bytes, &arena, &answer)
                               : proto_codec_decode(&query_answer_message, bytes, &arena, &answer,
                                                    NULL) == E_OK;
    const char *why;
    if (read && query_partial_check(&question->query, &question->layout, 1000, &answer, &why) ==
                    QUERY_FAULT_NONE) {
        read_table(question, &answer, &arena);
    }
    arena_fini(&arena);
    return 0;
}
