/* Which integers a query releases, and what is read from them. */
#include "config.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "node/query/estimate.h"
#include "proto/sql.h"
#include "tests/lib/numbers.h"
#include "tests/lib/seed.h"

#define Z95 1.959963984540054

static const char *sexes[] = {"F", "M"};
static struct proto_column columns[] = {
    {.name = "patient", .type = PROTO_COLUMN_TEXT},
    {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .min = 20, .max = 80},
    {.name = "cost", .type = PROTO_COLUMN_REAL, .has_bounds = true, .min = -5, .max = 100},
    {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 2},
    {.name = "fixed", .type = PROTO_COLUMN_REAL, .has_bounds = true, .min = 3, .max = 3},
};

static struct proto_schema schema_of(uint32_t max_rows)
{
    return (struct proto_schema){
        .columns = columns, .count = 5, .unit = "patient", .max_rows_per_unit = max_rows};
}

static struct query_estimate estimated(const struct proto_query *query,
                                       const struct query_layout *layout, size_t item,
                                       const double *sums, const double *variances)
{
    struct query_estimate estimate;
    const struct query_totals totals = {sums, variances};
    assert_int_equal(query_estimate_item(query, layout, item, &totals, &estimate), E_OK);
    return estimate;
}

struct planned {
    struct proto_schema schema;
    struct proto_query query;
    struct query_layout layout;
};

static void plan(struct planned *to, const char *sql, uint32_t max_rows)
{
    struct err_info info = {0};
    memset(to, 0, sizeof *to);
    to->schema = schema_of(max_rows);
    if (proto_sql_parse(sql, &to->query, &info) ||
        proto_query_bind(&to->query, &to->schema, &info) ||
        query_layout_plan(&to->query, &(struct query_limits){0, 0}, &to->layout, &info)) {
        fail_msg("%s: %s", sql, info.text);
    }
}

static void expect_parts(const char *sql, uint32_t max_rows, size_t count,
                         const enum query_part *parts, const int *of)
{
    struct planned planned;
    plan(&planned, sql, max_rows);
    assert_int_equal(planned.layout.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(planned.layout.parts[i].part, parts[i]);
        const struct query_term *term = &planned.layout.parts[i];
        assert_int_equal(term->part == QUERY_PART_VALUES ? term->needs[0] : term->column, of[i]);
        assert_int_equal(planned.layout.coordinates[i].kind,
                         parts[i] == QUERY_PART_UNITS ? PRIVACY_UNITS : PRIVACY_ROWS);
        assert_int_equal(planned.layout.coordinates[i].integer,
                         parts[i] != QUERY_PART_SUM && parts[i] != QUERY_PART_PRODUCT);
    }
    proto_query_fini(&planned.query);
}

#define U QUERY_PART_UNITS
#define R QUERY_PART_ROWS
#define V QUERY_PART_VALUES
#define S QUERY_PART_SUM
#define P QUERY_PART_PRODUCT
#define EXPECT(sql, max_rows, ...)                                                                 \
    do {                                                                                           \
        const int list[][2] = {__VA_ARGS__};                                                       \
        enum query_part parts[8];                                                                  \
        int of[8];                                                                                 \
        size_t count = sizeof list / sizeof *list;                                                 \
        for (size_t i = 0; i < count; i++) {                                                       \
            parts[i] = (enum query_part)list[i][0];                                                \
            of[i] = list[i][1];                                                                    \
        }                                                                                          \
        expect_parts(sql, max_rows, count, parts, of);                                             \
    } while (0)

static void nothing_is_released_twice(void **state)
{
    (void)state;
    /* One row a unit: rows are units. */
    EXPECT("SELECT COUNT(*) FROM t", 1, {R, -1});
    EXPECT("SELECT COUNT(DISTINCT patient) FROM t", 1, {R, -1});
    EXPECT("SELECT COUNT(*), COUNT(DISTINCT patient) FROM t", 1, {R, -1});
    EXPECT("SELECT COUNT(age) FROM t", 1, {R, -1}, {V, 1});
    EXPECT("SELECT SUM(age) FROM t", 1, {R, -1}, {S, 1});
    EXPECT("SELECT AVG(age) FROM t", 1, {R, -1}, {V, 1}, {S, 1});
    EXPECT("SELECT SUM(age), AVG(age), COUNT(age) FROM t", 1, {R, -1}, {V, 1}, {S, 1});
    EXPECT("SELECT AVG(age), AVG(cost), SUM(age) FROM t", 1, {R, -1}, {V, 1}, {S, 1}, {V, 2},
           {S, 2});
    EXPECT("SELECT VAR(age), STDDEV(age), AVG(age), SUM(age) FROM t", 1, {R, -1}, {V, 1}, {S, 1},
           {P, 1});
    EXPECT("SELECT VAR(age) FROM t", 3, {U, -1}, {V, 1}, {S, 1}, {P, 1});
    EXPECT("SELECT CORR(age, cost) FROM t", 1, {R, -1}, {V, 1}, {S, 1}, {S, 2}, {P, 1}, {P, 1},
           {P, 2});
    EXPECT("SELECT CORR(age, cost), CORR(cost, age) FROM t", 1, {R, -1}, {V, 1}, {S, 1}, {S, 2},
           {P, 1}, {P, 1}, {P, 2});
    EXPECT("SELECT LINREG(age, cost) FROM t", 1, {R, -1}, {V, 1}, {S, 1}, {S, 2}, {P, 1}, {P, 1},
           {P, 2});
    /* Many: units are counted apart, rows only when they are asked for. */
    EXPECT("SELECT COUNT(*) FROM t", 3, {U, -1}, {R, -1});
    EXPECT("SELECT COUNT(DISTINCT patient) FROM t", 3, {U, -1});
    EXPECT("SELECT COUNT(*), COUNT(*) AS again FROM t", 3, {U, -1}, {R, -1});
    EXPECT("SELECT SUM(cost) FROM t", 3, {U, -1}, {S, 2});
    EXPECT("SELECT sex, COUNT(*), AVG(cost) FROM t GROUP BY sex", 3, {U, -1}, {R, -1}, {V, 2},
           {S, 2});
}

static void sums_are_centred_for_means_alone(void **state)
{
    (void)state;
    struct planned planned;
    plan(&planned, "SELECT SUM(cost) FROM t", 1);
    assert_near(planned.layout.parts[1].centre, 0, 0);
    assert_near(planned.layout.coordinates[1].bound, 100, 0);
    proto_query_fini(&planned.query);
    plan(&planned, "SELECT SUM(cost), AVG(cost) FROM t", 1);
    size_t sum = planned.layout.reads[0].sums[0];
    assert_int_equal(sum, planned.layout.reads[1].sums[0]);
    assert_near(planned.layout.parts[sum].centre, 47.5, 0);
    assert_near(planned.layout.coordinates[sum].bound, 52.5, 0);
    proto_query_fini(&planned.query);
    /* Noise goes by what the condition leaves of the declared range. */
    plan(&planned, "SELECT AVG(cost) FROM t WHERE cost >= 10 AND cost < 20 AND sex = 'F'", 1);
    assert_true(planned.layout.parts[2].centre == 15);
    assert_true(planned.layout.parts[2].low == 10 && planned.layout.parts[2].high == 20);
    assert_true(planned.layout.coordinates[2].bound == 5);
    proto_query_fini(&planned.query);
    plan(&planned, "SELECT AVG(fixed) FROM t", 1); /* no width at all is still a bound */
    assert_true(planned.layout.coordinates[planned.layout.reads[0].sums[0]].bound > 0);
    proto_query_fini(&planned.query);
}

/* Against the arithmetic that a reader would do with the answer in hand. */
static void estimates_are_the_arithmetic(void **state)
{
    (void)state;
    struct planned planned;
    plan(&planned,
         "SELECT COUNT(*), COUNT(cost), SUM(cost), AVG(cost), SUM(age), COUNT(DISTINCT patient) "
         "FROM t",
         3);
    const struct query_layout *layout = &planned.layout;
    double sums[QUERY_COORDINATES_MAX] = {0};
    double variances[QUERY_COORDINATES_MAX] = {0};
    for (size_t i = 0; i < layout->count; i++) {
        sums[i] = 0;
        variances[i] = (double)(i + 1) * 4;
    }
    size_t v = layout->reads[3].values;
    size_t s = layout->reads[3].sums[0];
    size_t a = layout->reads[4].sums[0];
    sums[0] = 700;
    sums[layout->rows_part] = 1000;
    sums[v] = 900;
    sums[s] = -4500; /* of value - 47.5 */
    sums[a] = 50000;
    struct query_estimate e = estimated(&planned.query, layout, 0, sums, variances);
    assert_true(e.known && e.whole);
    assert_near(e.value, 1000, 0);
    assert_near(e.margin, Z95 * sqrt(variances[layout->rows_part]), 1e-12);
    e = estimated(&planned.query, layout, 1, sums, variances);
    assert_near(e.value, 900, 0);
    e = estimated(&planned.query, layout, 2, sums, variances);
    assert_true(e.known && !e.whole);
    assert_near(e.value, -4500 + 47.5 * 900, 1e-9);
    assert_near(e.margin, Z95 * sqrt(variances[s] + 47.5 * 47.5 * variances[v]), 1e-9);
    e = estimated(&planned.query, layout, 3, sums, variances);
    assert_near(e.value, 47.5 - 5, 1e-12);
    assert_near(e.margin, Z95 * sqrt(variances[s] + 25 * variances[v]) / 900, 1e-12);
    e = estimated(&planned.query, layout, 4, sums, variances);
    assert_near(e.value, 50000, 0);
    e = estimated(&planned.query, layout, 5, sums, variances);
    assert_near(e.value, 700, 0);
    /* A mean stays within its bounds, and over no rows there is none. */
    sums[s] = 1e9;
    e = estimated(&planned.query, layout, 3, sums, variances);
    assert_near(e.value, 100, 0);
    sums[v] = 0.2;
    e = estimated(&planned.query, layout, 3, sums, variances);
    assert_false(e.known);
    proto_query_fini(&planned.query);
}

/* Anscombe 1973, the first of his four sets. He prints 0.816 for r; the rest follows from his sums: mean of x 9, sum of
 * squares 110; mean of y 7.5009, sum of squares 41.2727. */
static const double anscombe[11][2] = {{10, 8.04},  {8, 6.95},  {13, 7.58}, {9, 8.81},
                                       {11, 8.33},  {14, 9.96}, {6, 7.24},  {4, 4.26},
                                       {12, 10.84}, {7, 4.82},  {5, 5.68}};

/* What an exact site would send for those rows, by the definition of each part. */
static void sums_of(const struct query_layout *layout, int x_column, double *sums)
{
    for (size_t i = 0; i < layout->count; i++) {
        const struct query_term *term = &layout->parts[i];
        sums[i] = 0;
        for (size_t row = 0; row < 11; row++) {
            double first = anscombe[row][term->column == x_column ? 0 : 1] - term->centre;
            double second = anscombe[row][term->factor == x_column ? 0 : 1] - term->factor_centre;
            sums[i] += term->part == P ? first * second - term->shift : term->part == S ? first : 1;
        }
    }
}

static void moments_are_anscombes(void **state)
{
    (void)state;
    static const double none[QUERY_COORDINATES_MAX];
    struct planned planned;
    double sums[QUERY_COORDINATES_MAX];
    plan(&planned,
         "SELECT VAR(age), STDDEV(age), VAR(cost), CORR(age, cost), CORR(cost, age) FROM t", 1);
    sums_of(&planned.layout, 1, sums);
    static const double want[] = {11, 3.3166247903554, 4.12726909, 0.81642051634484,
                                  0.81642051634484};
    for (size_t item = 0; item < 5; item++) {
        struct query_estimate e = estimated(&planned.query, &planned.layout, item, sums, none);
        assert_true(e.known && !e.whole);
        assert_near(e.value, want[item], 1e-8);
        assert_near(e.margin, 0, 0);
    }
    /* One row has no variance, and nothing correlates with what does not vary. */
    sums[planned.layout.reads[0].values] = 1;
    assert_false(estimated(&planned.query, &planned.layout, 0, sums, none).known);
    assert_false(estimated(&planned.query, &planned.layout, 1, sums, none).known);
    sums[planned.layout.reads[3].products[0][0]] = -1e9;
    assert_false(estimated(&planned.query, &planned.layout, 3, sums, none).known);
    proto_query_fini(&planned.query);
}

/* A standard normal value by Box and Muller. */
static double normal(struct seed *seed)
{
    double u = ((double)(seed_next(seed) >> 11) + 1) * 0x1p-53;
    double v = (double)(seed_next(seed) >> 11) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* Noise of small variance moves the estimate beyond its margin in 5 % of 4000 draws: 200, standard deviation 13.8. The
 * bounds are 6 of those away, so that a right margin fails once in 5e8 runs. */
static void margins_cover_the_noise(void **state)
{
    (void)state;
    static const double none[QUERY_COORDINATES_MAX];
    struct seed seed = seed_of(seed_number(1));
    struct planned planned;
    double sums[QUERY_COORDINATES_MAX];
    plan(&planned, "SELECT VAR(age), STDDEV(age), CORR(age, cost) FROM t", 1);
    sums_of(&planned.layout, 1, sums);
    for (size_t i = 0; i < planned.layout.count; i++) {
        sums[i] *= 1000;
    }
    for (size_t item = 0; item < 3; item++) {
        double variances[QUERY_COORDINATES_MAX];
        for (size_t i = 0; i < planned.layout.count; i++) {
            const struct privacy_coordinate *c = &planned.layout.coordinates[i];
            variances[i] = c->bound * c->bound;
        }
        double truth = estimated(&planned.query, &planned.layout, item, sums, none).value;
        int beyond = 0;
        for (int draw = 0; draw < 4000; draw++) {
            double noisy[QUERY_COORDINATES_MAX];
            for (size_t i = 0; i < planned.layout.count; i++) {
                noisy[i] = sums[i] + sqrt(variances[i]) * normal(&seed);
            }
            struct query_estimate e =
                estimated(&planned.query, &planned.layout, item, noisy, variances);
            assert_true(e.known);
            beyond += fabs(e.value - truth) > e.margin;
        }
        assert_in_range(beyond, item == 1 ? 60 : 117,
                        283); /* a deviation's margin is the wider side */
    }
    proto_query_fini(&planned.query);
}

/* A row can add at most the bound, whichever corner of the declared ranges it lies in. */
static void bounds_hold_in_every_corner(void **state)
{
    (void)state;
    struct planned planned;
    plan(&planned, "SELECT VAR(cost), CORR(age, cost) FROM t", 1);
    for (size_t i = 0; i < planned.layout.count; i++) {
        const struct query_term *term = &planned.layout.parts[i];
        if (term->part != P) {
            continue;
        }
        double most = 0;
        for (int step = 0; step <= 100 * 100; step++) {
            double a = term->low + (term->high - term->low) * (step % 101) / 100;
            double b =
                term->factor_low + (term->factor_high - term->factor_low) * (step / 101) / 100;
            b = term->factor == term->column ? a : b;
            double added = (a - term->centre) * (b - term->factor_centre) - term->shift;
            most = fmax(most, fabs(added));
        }
        double bound = planned.layout.coordinates[i].bound;
        assert_true(most <= bound * (1 + 1e-12) && most >= bound * 0.98);
    }
    proto_query_fini(&planned.query);
}

/* Variance of the first aggregate for a mean halfway to the bound and squares as if spread evenly. */
static double noise_of(const struct planned *planned, struct query_layout *layout, size_t item)
{
    double sums[QUERY_COORDINATES_MAX];
    double variances[QUERY_COORDINATES_MAX];
    assert_int_equal(privacy_mechanism_plan_bounded(20000000, &layout->bounds, layout->coordinates,
                                                    layout->count, NULL),
                     E_OK);
    for (size_t i = 0; i < layout->count; i++) {
        const struct query_term *term = &layout->parts[i];
        double reach = (term->high - term->low) / 2;
        double other = (term->factor_high - term->factor_low) / 2;
        double sigma = privacy_mechanism_sigma(&layout->coordinates[i]);
        variances[i] = sigma * sigma;
        sums[i] = 1e6 * (term->part == S                ? reach / 2
                         : term->part != P              ? 1
                         : term->factor == term->column ? reach * reach / 3 - term->shift
                                                        : reach * other * 7 / 24);
    }
    double margin = estimated(&planned->query, layout, item, sums, variances).margin;
    return margin * margin;
}

/* The figures of doc/privacy.md, "Split of a question's charge". */
static void shares_are_as_documented(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        size_t item;
        double of_equal;
    } cases[] = {
        {"SELECT COUNT(age) FROM t", 0, 0.55},
        {"SELECT AVG(cost) FROM t", 0, 0.66},
        {"SELECT COUNT(*), AVG(cost) FROM t", 0, 0.67},
        {"SELECT COUNT(*), AVG(cost) FROM t", 1, 1.2},
        {"SELECT AVG(cost), STDDEV(cost) FROM t", 0, 0.57},
        {"SELECT AVG(cost), STDDEV(cost) FROM t", 1, 0.78},
        {"SELECT CORR(age, cost) FROM t", 0, 0.57},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct planned planned;
        plan(&planned, cases[i].sql, 1);
        struct query_layout equal = planned.layout;
        for (size_t j = 0; j < equal.count; j++) {
            equal.coordinates[j].weight = 1;
        }
        double ratio = noise_of(&planned, &planned.layout, cases[i].item) /
                       noise_of(&planned, &equal, cases[i].item);
        if (fabs(ratio - cases[i].of_equal) > 0.006) {
            fail_msg("%s, item %zu: %.3f", cases[i].sql, cases[i].item, ratio);
        }
        proto_query_fini(&planned.query);
    }
}

/* One aggregate alone: no other split gives it less noise, the tenth for units apart. */
static void no_other_split_is_better(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(2));
    static const char *const sql[] = {"SELECT AVG(cost) FROM t", "SELECT VAR(cost) FROM t"};
    for (size_t q = 0; q < 2; q++) {
        struct planned planned;
        plan(&planned, sql[q], 1);
        double best = noise_of(&planned, &planned.layout, 0);
        for (int turn = 0; turn < 200; turn++) {
            struct query_layout other = planned.layout;
            double before = 0;
            double after = 0;
            for (size_t j = 1; j < other.count; j++) {
                before += other.coordinates[j].weight;
                other.coordinates[j].weight = 1 + (uint32_t)seed_below(&seed, 1000);
                after += other.coordinates[j].weight;
            }
            other.coordinates[0].weight =
                (uint32_t)(planned.layout.coordinates[0].weight * after / before + 0.5);
            assert_true(noise_of(&planned, &other, 0) > best * 0.995);
        }
        proto_query_fini(&planned.query);
    }
}

/* A person known to four sites: each adds twice the deviation, so that four answers about this person cost one charge. */
static void people_of_several_nodes_cost_one_charge(void **state)
{
    (void)state;
    struct planned planned;
    plan(&planned, "SELECT COUNT(*), AVG(cost) FROM t", 1);
    assert_int_equal(query_layout_noise(&planned.layout, 40000000, NULL), E_OK);
    struct query_layout of_four = planned.layout;
    of_four.nodes = 4;
    assert_int_equal(query_layout_noise(&of_four, 40000000, NULL), E_OK);
    for (size_t i = 0; i < of_four.count; i++) {
        assert_near(privacy_mechanism_sigma(&of_four.coordinates[i]),
                    2 * privacy_mechanism_sigma(&planned.layout.coordinates[i]),
                    1e-6 * privacy_mechanism_sigma(&of_four.coordinates[i]));
    }
    proto_query_fini(&planned.query);
}

static void expected_margins_are_public(void **state)
{
    (void)state;
    struct planned planned;
    plan(&planned, "SELECT COUNT(*), SUM(cost) FROM t", 1);
    assert_int_equal(privacy_mechanism_plan_bounded(500000000, &planned.layout.bounds,
                                                    planned.layout.coordinates,
                                                    planned.layout.count, NULL),
                     E_OK);
    double sigma = privacy_mechanism_sigma(&planned.layout.coordinates[0]);
    assert_near(query_estimate_expected(&planned.query, &planned.layout, 0, 100, 4),
                Z95 * 2 * sigma, 1e-9);
    sigma = privacy_mechanism_sigma(&planned.layout.coordinates[1]);
    assert_near(query_estimate_expected(&planned.query, &planned.layout, 1, 100, 1), Z95 * sigma,
                1e-6);
    proto_query_fini(&planned.query);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_are_anscombes),
        cmocka_unit_test(margins_cover_the_noise),
        cmocka_unit_test(bounds_hold_in_every_corner),
        cmocka_unit_test(nothing_is_released_twice),
        cmocka_unit_test(sums_are_centred_for_means_alone),
        cmocka_unit_test(estimates_are_the_arithmetic),
        cmocka_unit_test(people_of_several_nodes_cost_one_charge),
        cmocka_unit_test(shares_are_as_documented),
        cmocka_unit_test(no_other_split_is_better),
        cmocka_unit_test(expected_margins_are_public),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
