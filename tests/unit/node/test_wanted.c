/* From a wanted error to its price: the least epsilon that buys it, and what is said where it may not be bought. */
#include "config.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "node/query/price.h"
#include "node/query/wanted.h"
#include "tests/lib/numbers.h"
#include "tests/unit/node/answering.h"

static const char *sexes[] = {"F", "M"};
static struct proto_column columns[] = {
    {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 110},
    {.name = "x", .type = PROTO_COLUMN_REAL, .has_bounds = true, .min = -5, .max = 15},
    {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 2},
};
static const struct proto_schema schema = {.columns = columns, .count = 3, .max_rows_per_unit = 1};

#define DELTA UINT64_C(1000000)

/* The largest expected margin, or relative error, at a price. */
static double error_at(struct planned *planned, uint64_t epsilon_u, double rows, size_t sites,
                       bool relative)
{
    struct arena arena = {0};
    struct query_expected *list;
    size_t count;
    double most = 0;
    struct query_layout *layout = &planned->layout;
    assert_int_equal(privacy_mechanism_plan_bounded(query_price(epsilon_u, DELTA, false).nano,
                                                    &layout->bounds, layout->coordinates,
                                                    layout->count, NULL),
                     E_OK);
    assert_int_equal(
        query_table_expected(&planned->query, layout, rows, sites, &arena, &list, &count), E_OK);
    for (size_t i = 0; i < count; i++) {
        most = fmax(most, list[i].margin / (relative ? list[i].scale : 1));
    }
    arena_fini(&arena);
    return most;
}

static void the_least_price(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        struct query_wanted wanted;
        size_t sites;
    } cases[] = {
        {"SELECT COUNT(*) FROM t", {50, false, 0}, 1},
        {"SELECT COUNT(*) FROM t", {3, false, 0}, 5},
        {"SELECT COUNT(*) FROM t", {0.05, true, 2000}, 1},
        {"SELECT COUNT(*), AVG(x) FROM t", {0.02, true, 3000}, 3},
        {"SELECT sex, SUM(age) FROM t GROUP BY sex", {0.01, true, 4000}, 2},
        {"SELECT AVG(age) FROM t", {0.5, false, 0}, 2},
        {"SELECT MEDIAN(age) FROM t", {0.03, true, 5000}, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct planned planned;
        uint64_t epsilon_u;
        struct err_info info = {0};
        planned_make(&planned, &schema, cases[i].sql, 0.1);
        enum err err =
            query_wanted_epsilon(&planned.query, &planned.layout, &cases[i].wanted, 10000,
                                 cases[i].sites, DELTA, UINT64_C(1000000000), &epsilon_u, &info);
        if (err) {
            fail_msg("%s: %s", cases[i].sql, info.text);
        }
        double rows =
            cases[i].wanted.rows > 0 ? cases[i].wanted.rows * (double)planned.query.cells : 10000;
        double got = error_at(&planned, epsilon_u, rows, cases[i].sites, cases[i].wanted.relative);
        double less = error_at(&planned, epsilon_u - 1 - epsilon_u / 1000, rows, cases[i].sites,
                               cases[i].wanted.relative);
        if (!(got <= cases[i].wanted.error && less > cases[i].wanted.error)) {
            fail_msg("%s: epsilon %g gives %g, a little less %g", cases[i].sql,
                     (double)epsilon_u / 1e6, got, less);
        }
        proto_query_fini(&planned.query);
    }
}

/* COUNT(*) needs sigma = error / 1.96, so rho = 1/(2 sigma^2): the price is that of this rho. */
static void a_count_by_its_formula(void **state)
{
    (void)state;
    struct planned planned;
    uint64_t epsilon_u;
    planned_make(&planned, &schema, "SELECT COUNT(*) FROM t", 0.1);
    const struct query_wanted wanted = {.error = 20};
    assert_int_equal(query_wanted_epsilon(&planned.query, &planned.layout, &wanted, 1000, 1, DELTA,
                                          UINT64_C(1000000000), &epsilon_u, NULL),
                     E_OK);
    double rho = 1.959963984540054 * 1.959963984540054 / (2 * 20.0 * 20.0);
    assert_near((double)epsilon_u / 1e6, proto_privacy_epsilon(rho, 1e-6), 1e-4);
    proto_query_fini(&planned.query);
}

/* What the refusal offers in place of it is what the allowed epsilon buys. */
static void a_cap_is_named_with_what_it_buys(void **state)
{
    (void)state;
    struct planned planned;
    uint64_t epsilon_u;
    struct err_info info = {0};
    double offered;
    struct query_wanted wanted = {.error = 2};
    planned_make(&planned, &schema, "SELECT COUNT(*) FROM t", 0.1);
    assert_int_equal(query_wanted_epsilon(&planned.query, &planned.layout, &wanted, 1000, 1, DELTA,
                                          500000, &epsilon_u, &info),
                     E_REFUSED);
    const char *at = strstr(info.text, "--error ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "--error %lf", &offered), 1);
    wanted.error = offered;
    assert_int_equal(query_wanted_epsilon(&planned.query, &planned.layout, &wanted, 1000, 1, DELTA,
                                          500000, &epsilon_u, &info),
                     E_OK);
    assert_true(epsilon_u <= 500000 && epsilon_u > 400000);
    proto_query_fini(&planned.query);
    /* A quantile is no finer than its classes, whatever is paid. */
    planned_make(&planned, &schema, "SELECT MEDIAN(x) FROM t", 0.1);
    wanted.error = 1e-9;
    assert_int_equal(query_wanted_epsilon(&planned.query, &planned.layout, &wanted, 1000, 1, DELTA,
                                          500000, &epsilon_u, &info),
                     E_LIMIT);
    proto_query_fini(&planned.query);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_price),
        cmocka_unit_test(a_count_by_its_formula),
        cmocka_unit_test(a_cap_is_named_with_what_it_buys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
