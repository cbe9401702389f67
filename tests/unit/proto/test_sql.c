/* Queries: what is accepted and refused, where and why; equal questions have equal bytes; and
 * random conditions select the same rows by SQL's three-valued logic as written and by the bound
 * tree without it. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "proto/licence.h"
#include "proto/sql.h"
#include "tests/lib/seed.h"

static const char *sexes[] = {"F", "M"};
static const char *codes[] = {"0", "1", "it's"};
static struct proto_column columns[] = {
    {.name = "patient", .type = PROTO_COLUMN_TEXT},
    {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 90},
    {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 2},
    {.name = "creatinine", .type = PROTO_COLUMN_REAL, .has_bounds = true, .max = 15},
    {.name = "mgus", .type = PROTO_COLUMN_BOOLEAN},
    {.name = "seen", .type = PROTO_COLUMN_DATE},
    {.name = "code", .type = PROTO_COLUMN_CATEGORY, .values = codes, .value_count = 3},
    {.name = "chapter", .type = PROTO_COLUMN_CATEGORY, .values_private = true},
    {.name = "kappa", .type = PROTO_COLUMN_REAL},
    {.name = "free light", .type = PROTO_COLUMN_REAL, .has_bounds = true, .max = 9},
};
static const struct proto_schema schema = {columns, 10, "patient", 4, 1};

static enum err run_on(const char *sql, const struct proto_schema *on, struct proto_query *query,
                       struct err_info *info)
{
    memset(query, 0, sizeof *query);
    memset(info, 0, sizeof *info);
    enum err err = proto_sql_parse(sql, query, info);
    return err ? err : proto_query_bind(query, on, info);
}

static enum err run(const char *sql, struct proto_query *query, struct err_info *info)
{
    return run_on(sql, &schema, query, info);
}

static char *canonical(const char *sql)
{
    struct proto_query query;
    struct err_info info;
    struct buf buf = {.max = 1 << 20};
    if (run(sql, &query, &info)) {
        fail_msg("%s: %s", sql, info.text);
    }
    assert_int_equal(proto_query_canonical(&query, &buf), E_OK);
    assert_int_equal(buf_put(&buf, span_of("", 1)), E_OK);
    proto_query_fini(&query);
    return (char *)buf.ptr;
}

#define W "SELECT COUNT(*) FROM d WHERE "

/* Accepted, and the canonical form. */
static const struct {
    const char *sql;
    const char *canonical;
} accepted[] = {
    {"SELECT COUNT(*) FROM chain-study", "SELECT COUNT(*) FROM chain-study"},
    {"select count ( * ) from 2024.visits_x-1 ;", "SELECT COUNT(*) FROM 2024.visits_x-1"},
    {"SELECT COUNT(*) FROM \"d\"", "SELECT COUNT(*) FROM d"},
    {"SELECT COUNT(DISTINCT patient) FROM d", "SELECT COUNT(DISTINCT \"patient\") FROM d"},
    {"select count(distinct unit) from d", "SELECT COUNT(DISTINCT \"patient\") FROM d"},
    {"SELECT COUNT(age) AS n, SUM(age), AVG(mgus) FROM d",
     "SELECT COUNT(\"age\"), SUM(\"age\"), AVG(\"mgus\") FROM d"},
    {"SELECT sex, COUNT(*), AVG(creatinine) FROM d WHERE age BETWEEN 50 AND 80 GROUP BY sex",
     "SELECT \"sex\", COUNT(*), AVG(\"creatinine\") FROM d WHERE \"age\" <= 80 AND \"age\" >= 50 "
     "GROUP BY \"sex\""},
    {"SELECT COUNT(*), sex, mgus FROM d GROUP BY sex, mgus",
     "SELECT COUNT(*), \"sex\", \"mgus\" FROM d GROUP BY \"sex\", \"mgus\""},
    {"SELECT VAR(age), STDDEV(mgus), corr(age, creatinine) AS r FROM d",
     "SELECT VAR(\"age\"), STDDEV(\"mgus\"), CORR(\"age\", \"creatinine\") FROM d"},
    {"SELECT SUM(\"free light\") FROM d", "SELECT SUM(\"free light\") FROM d"},
    {"SELECT COUNT(chapter) FROM d WHERE chapter IS NOT NULL",
     "SELECT COUNT(\"chapter\") FROM d WHERE \"chapter\" IS NOT NULL"},
    {W "age < 50", W "\"age\" <= 49"},
    {W "50 > age", W "\"age\" <= 49"},
    {W "age > 49.5", W "\"age\" >= 50"},
    {W "age = 1.5", W "FALSE"},
    {W "age <> 1.5", W "\"age\" IS NOT NULL"},
    {W "age = '7'", W "\"age\" = 7"},
    {W "creatinine < -1.50e1", W "\"creatinine\" < -15"},
    {W "creatinine != .1", W "\"creatinine\" <> 0.1"},
    {W "age IN (3, 1, 2, 3)", W "\"age\" IN (1, 2, 3)"},
    {W "age IN (3, NULL)", W "\"age\" = 3"},
    {W "age NOT IN (3, NULL)", W "FALSE"},
    {W "age = NULL", W "FALSE"},
    {W "NOT age = NULL", W "FALSE"},
    {W "NOT age BETWEEN NULL AND 5", W "\"age\" >= 6"},
    {W "sex = 'X'", W "FALSE"},
    {W "sex <> 'X'", W "\"sex\" IS NOT NULL"},
    {W "sex <> 'F'", W "\"sex\" = 'M'"},
    {W "sex IN ('F', 'M')", W "\"sex\" IS NOT NULL"},
    {W "code = 1", W "\"code\" = '1'"},
    {W "code IN (1, 0)", W "\"code\" <> 'it''s'"},
    {W "code = 'it''s'", W "\"code\" = 'it''s'"},
    {W "mgus", W "\"mgus\" = TRUE"},
    {W "NOT mgus", W "\"mgus\" = FALSE"},
    {W "mgus = 1", W "\"mgus\" = TRUE"},
    {W "mgus <> 'true'", W "\"mgus\" = FALSE"},
    {W "seen < '2020-03-01'", W "\"seen\" <= '2020-02-29'"},
    {W "seen >= DATE '2020-03-01'", W "\"seen\" >= '2020-03-01'"},
    {W "seen < '0001-01-01'", W "FALSE"},
    {W "1 = 1", "SELECT COUNT(*) FROM d"},
    {W "'a' < 'b' AND age = 1", W "\"age\" = 1"},
    {W "TRUE OR age = 1", "SELECT COUNT(*) FROM d"},
    {W "FALSE AND age = 1", W "FALSE"},
    {W "age IS NULL OR NOT (age IS NULL)", W "\"age\" IS NOT NULL OR \"age\" IS NULL"},
    {W "NOT (age = 1 AND (sex = 'F' OR mgus))",
     W "\"age\" <> 1 OR (\"mgus\" = FALSE AND \"sex\" = 'M')"},
    {W "NOT NOT age = 1", W "\"age\" = 1"},
};

static void test_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
        char *text = canonical(accepted[i].sql);
        assert_string_equal(text, accepted[i].canonical);
        char *again = canonical(text);
        assert_string_equal(again, text);
        proto_free(text);
        proto_free(again);
    }
}

/* Refused: the code, and what the text must say. */
static const struct {
    const char *sql;
    enum err err;
    const char *says;
} refused[] = {
    {"", E_QUERY, "at character 1: expected SELECT; found the end"},
    {"SELEC COUNT(*) FROM d", E_QUERY,
     "at character 1: expected SELECT; found 'SELEC'; did you mean SELECT?"},
    {"SELECT COUNT(*) FRM d", E_QUERY, "expected FROM, ','; found 'FRM'; did you mean FROM?"},
    {"SELECT COUNT(*) FROM d WEHRE age = 3", E_QUERY, "found 'WEHRE'; did you mean WHERE?"},
    {W "age = 3 ADN mgus", E_QUERY, "found 'ADN'; did you mean AND?"},
    {"SELECT COUNT(*) FROM d gruop by sex", E_QUERY, "found 'gruop'; did you mean GROUP?"},
    {"SELECT COUNT(*) FROM d LIMIT 3", E_QUERY, "found 'LIMIT'"},
    {"SELECT COUNT(*)", E_QUERY, "at character 16: expected"},
    {"SELECT COUNT(*) FROM", E_QUERY, "at character 21: expected a dataset's name; found the end"},
    {"SELECT COUNT(*) FROM Chain", E_QUERY, "at character 22: a dataset is named"},
    {"SELECT COUNT(*) FROM d WHERE", E_QUERY, "at character 29: expected"},
    {W "age", E_QUERY, "at character 30: 'age' is integer, not a condition"},
    {W "age = ", E_QUERY, "found the end"},
    {W "(age = 1", E_QUERY, "found the end"},
    {W "age = 1)", E_QUERY, "at character 37"},
    {W "age == 1", E_QUERY, "at character 35"},
    {W "age = 1 AND", E_QUERY, "found the end"},
    {W "age = 12abc", E_QUERY, "a letter follows the number"},
    {W "age = 1e999", E_QUERY, "too large"},
    {W "age = 1e17", E_QUERY, "too large"},
    {W "sex = 'F", E_QUERY, "never closed"},
    {W "sex = \"F\"", E_UNSUPPORTED, "compares a column with values only"},
    {W "age = creatinine", E_UNSUPPORTED, "at character 36"},
    {W "age = 'x'", E_QUERY, "holds numbers"},
    {W "age = TRUE", E_QUERY, "holds numbers"},
    {W "sex < 'M'", E_QUERY, "has no order"},
    {W "mgus > 0", E_QUERY, "has no order"},
    {W "mgus = 2", E_QUERY, "true and false"},
    {W "seen = 5", E_QUERY, "YYYY-MM-DD"},
    {W "seen = '2021-02-29'", E_QUERY, "YYYY-MM-DD"},
    {W "seen = DATE 'x'", E_QUERY, "YYYY-MM-DD"},
    {W "seen = TIME '2020-01-01'", E_QUERY, "only DATE"},
    {W "5", E_QUERY, "no condition"},
    {W "1 = 'a'", E_QUERY, "cannot be compared"},
    {W "5 IN (1)", E_QUERY, "a column must stand"},
    {W "age IN ()", E_QUERY, "expected"},
    {W "creatinin = 1", E_NOT_FOUND,
     "at character 30: there is no column 'creatinin'; did you mean 'creatinine'?"},
    {W "FALSE AND agee = 1", E_NOT_FOUND, "did you mean 'age'?"},
    {W "zzzzzz = 1", E_NOT_FOUND, "there is no column 'zzzzzz'"},
    {W "patient = 'p1'", E_UNSUPPORTED, "privacy unit"},
    {W "chapter < 'A'", E_QUERY, "has no order"},
    {"SELECT patient, COUNT(*) FROM d GROUP BY patient", E_UNSUPPORTED, "privacy unit"},
    {"SELECT COUNT(patient) FROM d", E_UNSUPPORTED, "COUNT(DISTINCT patient)"},
    {"SELECT COUNT(DISTINCT sex) FROM d", E_UNSUPPORTED, "privacy unit only"},
    {"SELECT sex FROM d GROUP BY sex", E_QUERY, "needs an aggregate"},
    {"SELECT sex, COUNT(*) FROM d", E_QUERY,
     "at character 8: a column in SELECT must be in GROUP BY"},
    {"SELECT * FROM d", E_QUERY, "at character 8: expected a name; found '*'"},
    {"SELECT COUNT(*) FROM d GROUP BY creatinine", E_UNSUPPORTED, "groups by categories, booleans"},
    {"SELECT COUNT(*) FROM d GROUP BY sex, sex", E_QUERY, "grouped twice"},
    {"SELECT SUM(kappa) FROM d", E_UNSUPPORTED, "declared bounds"},
    {"SELECT SUM(sex) FROM d", E_QUERY, "needs numbers"},
    {"SELECT SUM(*) FROM d", E_QUERY, "only COUNT"},
    {"SELECT SUM(age, age) FROM d", E_QUERY, "write SUM(column)"},
    {"SELECT SUM(DISTINCT age) FROM d", E_QUERY, "only COUNT"},
    {"SELECT AVGG(age) FROM d", E_QUERY, "did you mean AVG"},
    {"SELECT VAR(kappa) FROM d", E_UNSUPPORTED, "VAR needs declared bounds"},
    {"SELECT STDDEV(sex) FROM d", E_QUERY, "STDDEV needs numbers"},
    {"SELECT CORR(age) FROM d", E_QUERY, "write CORR(a, b)"},
    {"SELECT CORR(age, age) FROM d", E_QUERY, "needs different columns"},
    {"SELECT CORR(age, agee) FROM d", E_NOT_FOUND, "did you mean 'age'?"},
    {"SELECT CORR(age, sex) FROM d", E_QUERY, "CORR needs numbers, and 'sex' is"},
    {"SELECT CORR(age, patient) FROM d", E_UNSUPPORTED, "privacy unit"},
    {"SELECT MIN(sex) FROM d", E_QUERY, "at character 12: MIN needs numbers"},
    {"SELECT MEDIAN(kappa) FROM d", E_UNSUPPORTED, "'kappa' no min and max"},
    {"SELECT QUANTILE(age) FROM d", E_QUERY, "write QUANTILE(column, q)"},
    {"SELECT QUANTILE(age, 1.5) FROM d", E_QUERY, "a q from 0 to 1"},
    {"SELECT QUANTILE(age, -0.1) FROM d", E_QUERY, "a q from 0 to 1"},
    {"SELECT QUANTIL(age, 0.5) FROM d", E_QUERY, "did you mean QUANTILE"},
    {"SELECT MEDIAN(age), chapter FROM d GROUP BY chapter", E_UNSUPPORTED, "public values only"},
    {"SELECT HISTOGRAM(age, 10), COUNT(*) FROM d", E_QUERY, "rows of its own"},
    {"SELECT HISTOGRAM(age, 2.5) FROM d", E_QUERY, "whole number of bins from 1 to 1024"},
    {"SELECT HISTOGRAM(age, 1025) FROM d", E_QUERY, "from 1 to 1024"},
    {"SELECT HISTOGRAM(sex, 2) FROM d", E_QUERY, "HISTOGRAM needs numbers"},
    {"SELECT chapter, HISTOGRAM(age, 2) FROM d GROUP BY chapter", E_UNSUPPORTED, "public values"},
    {"SELECT CORR(age, kappa) FROM d", E_UNSUPPORTED, "'kappa' no min and max"},
    {"SELECT LINREG(age, kappa, creatinine, mgus) FROM d", E_UNSUPPORTED, "LINREG needs declared"},
    {"SELECT LINREG(age, creatinine, age) FROM d", E_QUERY,
     "at character 32: LINREG needs different"},
    {"SELECT LINREG(age) FROM d", E_QUERY, "write LINREG(y, x1, ...)"},
    {"SELECT LINREG(a, b, c, d, e, f, g, h, i, j) FROM d", E_LIMIT, "at most 9 columns"},
    {"SELECT SURVIVAL(age, sex, 10) FROM d", E_QUERY, "the event of SURVIVAL must be a boolean"},
    {"SELECT SURVIVAL(age, mgus, 0) FROM d", E_QUERY, "from 1 to 512"},
    {"SELECT SURVIVAL(age, mgus) FROM d", E_QUERY, "write SURVIVAL(time, event, bins)"},
    {"SELECT COUNT(*) AS a, COUNT(*) AS a FROM d", E_QUERY, "stands there twice"},
    {"SELECT COUNT(*) FROM d; DROP TABLE d", E_QUERY, "at character 25: expected the end"},
    {"SELECT COUNT(*) FROM d -- x", E_QUERY, "no place"},
    {"SELECT \xff FROM d", E_QUERY, "UTF-8"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct proto_query query;
        struct err_info info;
        enum err err = run(refused[i].sql, &query, &info);
        proto_query_fini(&query);
        if (err != refused[i].err || !strstr(info.text, refused[i].says) ||
            strncmp(info.text, "at character ", 13) != 0) {
            fail_msg("%s: %s, %s", refused[i].sql, proto_err_name(err), info.text);
        }
    }
}

/* Without a unit column each row is a unit: of any other word than that the cure is said. */
static void test_no_unit(void **state)
{
    static const struct proto_schema rows = {columns, 10, "", 1, 1};
    static const struct {
        const char *sql;
        enum err err;
        const char *says;
    } cases[] = {
        {"SELECT COUNT(DISTINCT sex) FROM d", E_UNSUPPORTED, "write COUNT(*)"},
        {"SELECT COUNT(DISTINCT sexx) FROM d", E_NOT_FOUND, "did you mean 'sex'?"},
        {"SELECT COUNT(*) FROM d", E_OK, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct proto_query query;
        struct err_info info;
        enum err err = run_on(cases[i].sql, &rows, &query, &info);
        proto_query_fini(&query);
        if (err != cases[i].err || !strstr(info.text, cases[i].says)) {
            fail_msg("%s: %s, %s", cases[i].sql, proto_err_name(err), info.text);
        }
    }
}

static const char *const equal[][2] = {
    {W "age = 1 AND sex = 'F'", W "sex = 'F' AND 1 = age"},
    {W "age BETWEEN 1 AND 5", W "NOT (age > 5 OR age < 1)"},
    {W "age IN (1, 2)", W "age IN (2, 1, 2)"},
    {W "(age = 1 OR mgus) OR sex = 'F'", W "sex = 'F' OR (mgus OR age = 1)"},
    {W "age = 1 AND age = 1", W "age = 1"},
    {W "age < 50", W "age <= 49"},
    {W "NOT (sex = 'F')", W "sex <> 'F'"},
    {"SELECT COUNT(*) AS n FROM d", "SELECT COUNT(*) FROM d"},
    {W "chapter IN ('B', 'A', 'B', NULL)", W "chapter IN ('A', 'B')"},
    {W "NOT chapter <> 'A'", W "chapter IN ('A')"},
    {W "chapter NOT IN ('A', NULL)", W "FALSE"},
    {W "chapter = 7", W "chapter = '7'"},
    {"SELECT MEDIAN(age) FROM d", "SELECT QUANTILE(age, 0.50) FROM d"},
    {"SELECT MIN(age) FROM d", "SELECT QUANTILE(age, 0) FROM d"},
    {"SELECT QUANTILE(age, 1e0) FROM d", "SELECT MAX(age) FROM d"},
    {"SELECT HISTOGRAM(age, 10) FROM d", "SELECT histogram(\"age\", 1e1) AS h FROM d"},
};

static void test_equal(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof equal / sizeof *equal; i++) {
        char *a = canonical(equal[i][0]);
        char *b = canonical(equal[i][1]);
        assert_string_equal(a, b);
        proto_free(a);
        proto_free(b);
    }
    char *a = canonical(W "age = 1 AND (mgus OR sex = 'F')");
    char *b = canonical(W "(age = 1 AND mgus) OR sex = 'F'");
    assert_string_not_equal(a, b);
    proto_free(a);
    proto_free(b);
}

static void test_bound_shape(void **state)
{
    (void)state;
    struct proto_query query;
    struct err_info info;
    assert_int_equal(
        run("SELECT sex, COUNT(*), COUNT(*), AVG(age) FROM d GROUP BY code, sex", &query, &info),
        E_OK);
    assert_int_equal(query.cells, 6);
    assert_int_equal(query.items[0].group, 1);
    assert_string_equal(query.items[1].label, "count");
    assert_string_equal(query.items[2].label, "count_2");
    assert_string_equal(query.items[3].label, "avg_age");
    assert_true(query.items[3].arguments[0].max == 90);
    assert_int_equal(query.actions,
                     PROTO_ACTION_BIT(PROTO_ACTION_COUNT) | PROTO_ACTION_BIT(PROTO_ACTION_MEAN));
    assert_string_equal(proto_query_cell_value(&query, 3, 0), "1");
    assert_string_equal(proto_query_cell_value(&query, 3, 1), "M");
    proto_query_fini(&query);
}

/* What the condition leaves of a column's declared range is its range; classes whose edges are answered stay. */
static void test_bounds_follow(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        double low,
            high; /* of the first argument of the first item; age has 0 to 90, creatinine 0 to 15 */
    } cases[] = {
        {"SELECT AVG(age) FROM d", 0, 90},
        {"SELECT AVG(age) FROM d WHERE sex = 'F'", 0, 90},
        {"SELECT AVG(age) FROM d WHERE age > 59 AND sex = 'F'", 60, 90},
        {"SELECT SUM(age) FROM d WHERE age BETWEEN 20 AND 40", 20, 40},
        {"SELECT VAR(age) FROM d WHERE NOT (age < 20 OR age > 200)", 20, 90},
        {"SELECT STDDEV(creatinine) FROM d WHERE (mgus AND creatinine < 3) AND age > 9", 0, 3},
        {"SELECT AVG(age) FROM d WHERE age < 40 OR age > 80", 0, 90},
        {"SELECT AVG(age) FROM d WHERE age < 40 OR mgus", 0, 90},
        {"SELECT AVG(age) FROM d WHERE (age < 40 OR mgus) AND age < 80", 0, 79},
        {"SELECT AVG(age) FROM d WHERE age IN (30, 10, 20)", 10, 30},
        {"SELECT AVG(age) FROM d WHERE age NOT IN (0, 90)", 0, 90},
        {"SELECT AVG(age) FROM d WHERE age <> 0", 0, 90},
        {"SELECT AVG(age) FROM d WHERE age IS NOT NULL", 0, 90},
        {"SELECT AVG(age) FROM d WHERE creatinine < 3", 0, 90},
        {"SELECT AVG(age) FROM d WHERE age < 200 AND age > -5", 0, 90},
        {"SELECT AVG(age) FROM d WHERE age = 50", 0, 90},              /* a point has no range */
        {"SELECT AVG(age) FROM d WHERE age > 60 AND age < 40", 0, 90}, /* nor has nobody */
        {"SELECT AVG(age) FROM d WHERE age > 100", 0, 90},
        {"SELECT AVG(creatinine) FROM d WHERE creatinine < 1e-300", 0, 15},
        {"SELECT MEDIAN(age) FROM d WHERE age >= 60", 60, 90},
        {"SELECT CORR(creatinine, age) FROM d WHERE creatinine > 2 AND creatinine <= 4", 2, 4},
        {"SELECT LINREG(creatinine, age) FROM d WHERE creatinine <= 4", 0, 4},
        {"SELECT HISTOGRAM(age, 9) FROM d WHERE age >= 60", 0, 90},
        {"SELECT SURVIVAL(age, mgus, 9) FROM d WHERE age >= 60", 0, 90},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct proto_query query;
        struct err_info info;
        assert_int_equal(run(cases[i].sql, &query, &info), E_OK);
        const struct proto_query_argument *argument = &query.items[0].arguments[0];
        if (argument->min != cases[i].low || argument->max != cases[i].high) {
            fail_msg("%s: %g to %g", cases[i].sql, argument->min, argument->max);
        }
        proto_query_fini(&query);
    }
}

/* Answered all the same, but said: it is paid for. */
static void test_warnings(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        const char *warning; /* NULL: none */
    } cases[] = {
        {W "sex = 'F' AND age > 3", NULL},
        {W "sex <> 'X'", "at character 37: 'X' is not a value of 'sex'"},
        {W "sex IN ('F', 'm', 'Y')",
         "at character 43: 'm' is not a value of 'sex'; did you mean 'M'?"},
        {W "code = 2 OR age > 3", "at character 37: '2' is not a value of 'code'"},
        {W "chapter = 'nowhere'", NULL}, /* its values are not public */
        {W "age = NULL", "no row can meet the condition: nothing is equal to NULL, write IS NULL"},
        {W "age IS NULL AND 1 = 2", "no row can meet the condition"},
        {W "FALSE", "no row can meet the condition"},
        {W "age > 200", NULL},
        {"SELECT sex, COUNT(*) FROM d GROUP BY sex", NULL},
        {"SELECT COUNT(*) FROM d GROUP BY sex",
         "at character 33: the rows do not say their group: 'sex' is not selected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct proto_query query;
        struct err_info info;
        assert_int_equal(run(cases[i].sql, &query, &info), E_OK);
        const char *want = cases[i].warning;
        bool same = want ? query.warning && strcmp(query.warning, want) == 0 : !query.warning;
        if (!same) {
            fail_msg("%s: %s", cases[i].sql, query.warning ? query.warning : "no warning");
        }
        proto_query_fini(&query);
    }
}

/* Without a unit column each row is a unit, and counting them is counting rows. */
static void test_rows_are_units(void **state)
{
    (void)state;
    const struct proto_schema rows = {columns, 10, "", 1, 1};
    struct proto_query query = {0};
    struct err_info info = {0};
    struct buf buf = {.max = 1 << 20};
    assert_int_equal(
        proto_sql_parse("SELECT sex, COUNT(DISTINCT unit) FROM d GROUP BY sex", &query, &info),
        E_OK);
    assert_int_equal(proto_query_bind(&query, &rows, &info), E_OK);
    assert_string_equal(query.items[1].label, "units");
    assert_int_equal(query.actions, PROTO_ACTION_BIT(PROTO_ACTION_COUNT));
    assert_int_equal(proto_query_canonical(&query, &buf), E_OK);
    assert_int_equal(buf_put(&buf, span_of("", 1)), E_OK);
    assert_string_equal((const char *)buf.ptr, "SELECT \"sex\", COUNT(*) FROM d GROUP BY \"sex\"");
    buf_fini(&buf);
    proto_query_fini(&query);

    assert_int_equal(proto_sql_parse("SELECT COUNT(DISTINCT sex) FROM d", &query, &info), E_OK);
    assert_int_equal(proto_query_bind(&query, &rows, &info), E_UNSUPPORTED);
    proto_query_fini(&query);
}

/* What a licence is asked about: no column may be read past it. */
static void test_columns_read(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        const char *columns;
    } cases[] = {
        {"SELECT COUNT(*) FROM d", ""},
        {"SELECT COUNT(DISTINCT patient) FROM d", ""},
        {"SELECT COUNT(age), AVG(age) FROM d", "age "},
        {"SELECT CORR(age, creatinine) FROM d", "age creatinine "},
        {"SELECT VAR(creatinine), CORR(mgus, age) FROM d WHERE sex = 'F'",
         "creatinine mgus age sex "},
        {"SELECT sex, STDDEV(age) FROM d WHERE (age > 3 OR mgus) AND creatinine IS NULL GROUP BY "
         "sex",
         "sex age mgus creatinine "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct proto_query query;
        struct err_info info;
        int read[PROTO_SCHEMA_COLUMNS_MAX];
        char text[400] = "";
        assert_int_equal(run(cases[i].sql, &query, &info), E_OK);
        size_t count = proto_query_columns(&query, read);
        for (size_t c = 0; c < count; c++) {
            strcat(text, query.schema->columns[read[c]].name);
            strcat(text, " ");
        }
        assert_string_equal(text, cases[i].columns);
        proto_query_fini(&query);
    }
}

/* HEAD, then ITEM as many times as is said, then TAIL: refused by a limit, whoever sent it, in memory that does not grow with it. */
static void refuse_flood(const char *head, const char *item, size_t times, const char *tail)
{
    size_t each = strlen(item);
    char *sql = malloc(strlen(head) + times * each + strlen(tail) + 1);
    assert_non_null(sql);
    char *at = sql + sprintf(sql, "%s", head);
    for (size_t i = 0; i < times; i++, at += each) {
        memcpy(at, item, each);
    }
    strcpy(at, tail);
    for (int peer = 0; peer < 2; peer++) {
        struct proto_query query = {0};
        struct err_info info = {0};
        enum err err = peer ? proto_sql_parse_span(span_str(sql), &query, &info)
                            : proto_sql_parse(sql, &query, &info);
        assert_int_equal(err, E_LIMIT);
        assert_memory_equal(info.text, "at character ", 13);
        assert_true(query.arena.used < 400000);
        proto_query_fini(&query);
    }
    free(sql);
}

static void test_floods(void **state)
{
    (void)state;
    refuse_flood(W "age = 1", " ", 1 << 20, "");
    refuse_flood(W, "(", 10000, "age = 1");
    refuse_flood(W, "NOT ", 3000, "mgus");
    refuse_flood(W "age IN (0", ", 1", 1000000, ")");
    refuse_flood(W "age IN (0", ",1", 6000, ")");
    refuse_flood(W "age = 1", " OR age=2", 1500, "");
    refuse_flood("SELECT COUNT(*)", ", COUNT(*)", 1000, " FROM d");
    refuse_flood("SELECT COUNT(*) FROM d GROUP BY sex", ", sex1, sex2, sex3, sex4, sex5", 1, "");
    refuse_flood("SELECT LINREG(age", ", age", 3000, ") FROM d");
}

static void test_limits(void **state)
{
    (void)state;
    struct proto_query query;
    struct err_info info;
    static char sql[200000];
    strcpy(sql, W);
    for (int i = 0; i < 400; i++) {
        strcat(sql, "(");
    }
    assert_int_equal(run(sql, &query, &info), E_LIMIT);
    proto_query_fini(&query);
    strcpy(sql, W);
    for (int i = 0; i < 70; i++) {
        strcat(sql, "NOT ");
    }
    strcat(sql, "mgus");
    assert_int_equal(run(sql, &query, &info), E_LIMIT);
    proto_query_fini(&query);
    strcpy(sql, W "age = 0");
    for (int i = 1; i < 600; i++) {
        sprintf(sql + strlen(sql), " OR age = %d", i);
    }
    assert_int_equal(run(sql, &query, &info), E_LIMIT); /* 1199 nodes */
    proto_query_fini(&query);
    strcpy(sql, W "age = 0");
    for (int i = 1; i < 500; i++) {
        sprintf(sql + strlen(sql), " OR age = %d", i);
    }
    assert_int_equal(run(sql, &query, &info), E_OK);
    assert_true(query.where->depth <= 10);
    proto_query_fini(&query);
    memset(sql, ' ', sizeof sql - 1);
    assert_int_equal(run(sql, &query, &info), E_LIMIT);
    proto_query_fini(&query);
}

/* ---- random conditions ---------------------------------------------------------------------- */

static struct seed random_seed;

static unsigned pick(unsigned n)
{
    return (unsigned)seed_below(&random_seed, n);
}

/* Writes a random condition and returns its truth for a row by three-valued logic: 0 false, 1 true,
 * 2 unknown. */
struct row {
    bool null[10];
    double value[10];
};

static int not3(int a)
{
    return a == 2 ? 2 : !a;
}

#define ROWS 12

static void leaf(char *to, const struct row *rows, int *truth)
{
    static const char *const ops[] = {"=", "<>", "<", "<=", ">", ">="};
    unsigned op = pick(6);
    int value = (int)pick(6);
    unsigned kind = pick(4);
    if (kind == 0) {
        sprintf(to, "age %s %d", ops[op], value);
    } else if (kind == 1) {
        op %= 2;
        sprintf(to, "sex %s '%s'", ops[op], value == 0 ? "F" : value == 1 ? "M" : "X");
    } else if (kind == 2) {
        strcpy(to, "mgus IS NULL");
    } else {
        sprintf(to, "creatinine %s IN (%d, %d.5, NULL)", pick(2) ? "NOT" : "", value, value);
    }
    bool negated = strstr(to, "NOT IN") != NULL;
    for (int r = 0; r < ROWS; r++) {
        unsigned column = kind == 0 ? 1 : kind == 1 ? 2 : kind == 2 ? 4 : 3;
        double x = rows[r].value[column];
        if (kind == 2) {
            truth[r] = rows[r].null[4];
        } else if (rows[r].null[column]) {
            truth[r] = 2;
        } else if (kind == 3) {
            truth[r] = x == value || x == value + 0.5 ? 1 : 2;
            truth[r] = negated ? not3(truth[r]) : truth[r];
        } else {
            double y = value;
            truth[r] = op == 0   ? x == y
                       : op == 1 ? x != y
                       : op == 2 ? x < y
                       : op == 3 ? x <= y
                       : op == 4 ? x > y
                                 : x >= y;
        }
    }
}

static void condition(char *to, const struct row *rows, int *truth, unsigned depth)
{
    unsigned kind = depth ? pick(4) : 0;
    if (kind == 0) {
        leaf(to, rows, truth);
        return;
    }
    static char scratch[8][2][8192];
    int other[ROWS];
    char *a = scratch[depth][0];
    char *b = scratch[depth][1];
    condition(a, rows, truth, depth - 1);
    if (kind == 1) {
        sprintf(to, "NOT (%s)", a);
        for (int r = 0; r < ROWS; r++) {
            truth[r] = not3(truth[r]);
        }
        return;
    }
    condition(b, rows, other, depth - 1);
    sprintf(to, "(%s) %s (%s)", a, kind == 2 ? "AND" : "OR", b);
    for (int r = 0; r < ROWS; r++) {
        int dominant = kind == 2 ? 0 : 1;
        truth[r] = truth[r] == dominant || other[r] == dominant ? dominant
                   : truth[r] == 2 || other[r] == 2             ? 2
                                                                : !dominant;
    }
}

static bool holds(const struct proto_predicate *node, const struct row *row)
{
    if (!node) {
        return true;
    }
    if (node->op == PROTO_OP_AND) {
        return holds(node->left, row) && holds(node->right, row);
    }
    if (node->op == PROTO_OP_OR) {
        return holds(node->left, row) || holds(node->right, row);
    }
    if (node->op == PROTO_OP_FALSE) {
        return false;
    }
    bool null = row->null[node->column];
    double x = row->value[node->column];
    if (null || node->op == PROTO_OP_IS_NULL) {
        return null && node->op == PROTO_OP_IS_NULL;
    }
    bool found = false;
    for (size_t i = 0; i < node->count; i++) {
        found |= node->codes ? x == node->codes[i] : x == node->numbers[i];
    }
    switch (node->op) {
    case PROTO_OP_IS_NOT_NULL:
        return true;
    case PROTO_OP_EQ:
    case PROTO_OP_IN:
        return found;
    case PROTO_OP_NE:
    case PROTO_OP_NOT_IN:
        return !found;
    case PROTO_OP_LT:
        return x < node->numbers[0];
    case PROTO_OP_LE:
        return x <= node->numbers[0];
    case PROTO_OP_GT:
        return x > node->numbers[0];
    case PROTO_OP_GE:
        return x >= node->numbers[0];
    default:
        fail_msg("operator %d in a bound tree", (int)node->op);
        return false;
    }
}

static void test_random(void **state)
{
    (void)state;
    random_seed = seed_of(seed_number(20261123));
    for (int round = 0; round < 2000; round++) {
        struct row rows[ROWS];
        for (int r = 0; r < ROWS; r++) {
            for (int c = 0; c < 10; c++) {
                rows[r].null[c] = pick(4) == 0;
                rows[r].value[c] = columns[c].type == PROTO_COLUMN_CATEGORY ||
                                           columns[c].type == PROTO_COLUMN_BOOLEAN
                                       ? pick(2)
                                   : columns[c].type == PROTO_COLUMN_REAL ? pick(12) * 0.5
                                                                          : pick(6);
            }
        }
        static char text[16384];
        static char sql[16384 + 64];
        int truth[ROWS];
        do {
            condition(text, rows, truth, 4);
            snprintf(sql, sizeof sql, W "%s", text);
        } while (strlen(sql) > 8000);
        char *first = canonical(sql);
        char *second = canonical(first);
        assert_string_equal(first, second);
        struct proto_query query;
        struct err_info info;
        assert_int_equal(run(first, &query, &info), E_OK);
        for (int r = 0; r < ROWS; r++) {
            if (holds(query.where, &rows[r]) != (truth[r] == 1)) {
                fail_msg("row %d: %s as %s", r, sql, first);
            }
        }
        proto_query_fini(&query);
        proto_free(first);
        proto_free(second);
    }
}

/* Every allocation may fail, and then the query says so and leaks nothing. */
static void test_no_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 200; n++) {
        struct proto_query query;
        struct err_info info;
        proto_alloc_fail_at(n);
        enum err err = run(W "age IN (1, 2) AND NOT (sex = 'F' OR mgus)", &query, &info);
        proto_alloc_fail_at(0);
        proto_query_fini(&query);
        if (!err) {
            return;
        }
        assert_int_equal(err, E_NO_MEMORY);
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_unit),        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_bound_shape),    cmocka_unit_test(test_columns_read),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_floods),
        cmocka_unit_test(test_random),         cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_rows_are_units), cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_bounds_follow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
