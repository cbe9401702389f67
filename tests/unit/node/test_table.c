/* Answers as rows: quantiles against sorting, a published survival curve and its log-rank test, certified regressions, and
 * how often margins and bands hold what they promise. */
#include "config.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "node/query/regress.h"
#include "node/query/table.h"
#include "tests/lib/seed.h"
#include "tests/unit/node/answering.h"

enum {
    WEEKS,
    EVENT,
    ARM,
    X,
    Y,
    Z,
    COLUMNS
};
static const char *arms[] = {"6-MP", "placebo"};
static struct proto_column columns[COLUMNS] = {
    {.name = "weeks", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 36},
    {.name = "event", .type = PROTO_COLUMN_BOOLEAN},
    {.name = "arm", .type = PROTO_COLUMN_CATEGORY, .values = arms, .value_count = 2},
    {.name = "x", .type = PROTO_COLUMN_REAL, .has_bounds = true, .max = 1000},
    {.name = "y", .type = PROTO_COLUMN_REAL, .has_bounds = true, .max = 1000},
    {.name = "z", .type = PROTO_COLUMN_REAL, .has_bounds = true, .min = -1, .max = 1},
};
static const struct proto_schema schema = {
    .columns = columns, .count = COLUMNS, .max_rows_per_unit = 1};

/* A standard normal value by Box and Muller. */
static double normal(struct seed *seed)
{
    double u = ((double)(seed_next(seed) >> 11) + 1) * 0x1p-53;
    double v = (double)(seed_next(seed) >> 11) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

struct asked {
    struct planned planned;
    struct query_cells cells;
    struct query_table table;
    struct arena arena;
};

static void ask(struct asked *asked, const char *sql, double rho)
{
    memset(asked, 0, sizeof *asked);
    planned_make(&asked->planned, &schema, sql, rho);
    size_t cells = asked->planned.query.cells;
    asked->cells = (struct query_cells){
        .count = cells,
        .sums = calloc(cells * asked->planned.layout.slots, sizeof(double)),
        .variances = calloc(cells * asked->planned.layout.count, sizeof(double)),
        .contributors = calloc(cells, sizeof(size_t))};
    for (size_t cell = 0; cell < cells; cell++) {
        asked->cells.contributors[cell] = 1;
    }
}

static void add(struct asked *asked, size_t cell, const double *row)
{
    planned_add(&asked->planned, row, asked->cells.sums + cell * asked->planned.layout.slots);
}

static void answer(struct asked *asked)
{
    assert_int_equal(query_table_make(&asked->planned.query, &asked->planned.layout, &asked->cells,
                                      &asked->arena, &asked->table),
                     E_OK);
}

static void forget(struct asked *asked)
{
    free(asked->cells.sums);
    free(asked->cells.variances);
    free(asked->cells.contributors);
    arena_fini(&asked->arena);
    proto_query_fini(&asked->planned.query);
}

static const struct query_estimate *at(const struct asked *asked, size_t row, size_t column)
{
    return &asked->table.values[row * asked->table.column_count + column].number;
}

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("%.17g instead of %.17g", got, want);
    }
}

/* ---- hidden -------------------------------------------------------------------------------- */

/* What is hidden has an interval from one bound of the result to the other; with less noise the same rows show. */
static void hidden_is_what_no_bound_narrows(void **state)
{
    (void)state;
    static const char *const sql =
        "SELECT COUNT(*), SUM(x), AVG(x), VAR(x), STDDEV(x), MEDIAN(x), CORR(x, z), AVG(z) FROM t";
    for (int loud = 0; loud < 2; loud++) {
        struct asked asked;
        ask(&asked, sql, 1);
        for (size_t i = 0; i < 20; i++) {
            const double row[COLUMNS] = {
                [X] = 480 + (double)(i % 5) * 10, [Z] = (double)(i % 2) * 0.2 - 0.1};
            add(&asked, 0, row);
        }
        for (size_t part = 0; part < asked.planned.layout.count; part++) {
            /* half as wide as the part's own scale times all rows, or a ten-thousandth of it */
            const struct query_term *term = &asked.planned.layout.parts[part];
            double scale =
                term->part == QUERY_PART_PRODUCT
                    ? 20 * (term->high - term->low) * (term->factor_high - term->factor_low)
                : term->part == QUERY_PART_SUM ? 20 * (term->high - term->low)
                                               : 20;
            double sigma = scale * (loud ? 0.5 : 0.0001);
            asked.cells.variances[part] = sigma * sigma;
        }
        answer(&asked);
        for (size_t c = 0; c < asked.table.column_count; c++) {
            assert_true(at(&asked, 0, c)->known);
            if (at(&asked, 0, c)->hidden != (loud && c > 1)) {
                fail_msg("column %zu, loud %d: %.17g +- %.17g", c, loud, at(&asked, 0, c)->value,
                         at(&asked, 0, c)->margin);
            }
        }
        near(at(&asked, 0, 2)->value, 500, 1e-9); /* value and margin are told as they are */
        if (loud) {
            assert_true(at(&asked, 0, 2)->margin > 500);
        }
        forget(&asked);
    }
    struct asked asked; /* one value is left: it is known, whatever the noise */
    ask(&asked, "SELECT AVG(x) FROM t WHERE x = 500", 1);
    const double row[COLUMNS] = {[X] = 500};
    for (size_t i = 0; i < 20; i++) {
        add(&asked, 0, row);
    }
    for (size_t part = 0; part < asked.planned.layout.count; part++) {
        asked.cells.variances[part] = 400;
    }
    answer(&asked);
    assert_false(at(&asked, 0, 0)->hidden);
    forget(&asked);
}

/* ---- survival ------------------------------------------------------------------------------ */

/* Remission in weeks of 42 children (Freireich and others 1963, as given by Cox 1972); a negative time is a child who left. */
static const int remission[2][21] = {
    {6, 6, 6, -6, 7, -9, 10, -10, -11, 13, 16, -17, -19, -20, 22, 23, -25, -32, -32, -34, -35},
    {1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23},
};

static void add_remission(struct asked *asked, size_t times)
{
    for (size_t arm = 0; arm < 2; arm++) {
        for (size_t i = 0; i < 21 * times; i++) {
            int weeks = remission[arm][i % 21];
            const double row[COLUMNS] = {abs(weeks), weeks > 0, (double)arm};
            add(asked, arm, row);
        }
    }
}

/* Curve and 95 % limits of the first arm as R's survfit prints them; chi-square by its survdiff. */
static void curve_is_published(void **state)
{
    (void)state;
    static const double want[][5] = {
        {6, 21, 0.857, 0.7198, 1},      {7, 17, 0.807, 0.6531, 0.996},
        {10, 15, 0.753, 0.5859, 0.968}, {13, 12, 0.690, 0.5096, 0.935},
        {16, 11, 0.627, 0.4394, 0.896}, {22, 7, 0.538, 0.3370, 0.858},
        {23, 6, 0.448, 0.2487, 0.807},
    };
    struct asked asked;
    ask(&asked, "SELECT arm, SURVIVAL(weeks, event, 36) FROM t GROUP BY arm", 1);
    assert_true(asked.planned.layout.reads[1].height > 3); /* a tree, not bins alone */
    add_remission(&asked, 1);
    answer(&asked);
    assert_int_equal(asked.table.row_count, 72);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        size_t row = (size_t)want[i][0];
        near(at(&asked, row, 1)->value, want[i][0] + 1, 0);
        near(at(&asked, row, 2)->value, want[i][1], 1e-9);
        near(at(&asked, row, 3)->value, want[i][2], 0.0005);
        near(at(&asked, row, 3)->margin, 0, 1e-9);
        near(at(&asked, row, 4)->value, want[i][3], 0.0005);
        near(at(&asked, row, 5)->value, want[i][4], 0.0006);
    }
    assert_string_equal(asked.table.values[0].text, "6-MP");
    assert_true(asked.table.logrank.known);
    near(asked.table.logrank.chi2, 16.8, 0.05);
    assert_int_equal(asked.table.logrank.freedom, 1);
    near(asked.table.logrank.p, 4.17e-5, 1e-6);
    forget(&asked);
}

/* Quantiles of the chi-square law as every table prints them. */
static void chi_square_is_the_tables(void **state)
{
    (void)state;
    near(query_chi2_above(3.841458820694124, 1), 0.05, 1e-12);
    near(query_chi2_above(5.991464547107979, 2), 0.05, 1e-12);
    near(query_chi2_above(7.814727903251179, 3), 0.05, 1e-12);
    near(query_chi2_above(18.307038053275146, 10), 0.05, 1e-12);
    near(query_chi2_above(24.724970311318277, 11), 0.01, 1e-12);
    near(query_chi2_above(0, 3), 1, 0);
}

/* Adds the planned noise, of a normal law, to the sums of a question without any. */
static void add_noise(struct asked *asked, const double *exact, struct seed *seed)
{
    const struct query_layout *layout = &asked->planned.layout;
    for (size_t cell = 0; cell < asked->cells.count; cell++) {
        planned_noise(&asked->planned, asked->cells.variances + cell * layout->count);
        for (size_t part = 0; part < layout->count; part++) {
            double sigma = sqrt(asked->cells.variances[cell * layout->count + part]);
            for (size_t i = 0; i < layout->parts[part].width; i++) {
                size_t slot = cell * layout->slots + layout->offsets[part] + i;
                asked->cells.sums[slot] = exact[slot] + sigma * normal(seed);
            }
        }
    }
}

/* 600 draws of noise around one table: a margin that is right is exceeded 30 times, with standard deviation 5.3. Every check
 * below leaves six of those, so each fails by chance less than once in 1e8 runs. Few counts are allowed to be missed less
 * often: a margin may be the wider of two sides. */
#define DRAWS 600

static void in_margin(const char *what, int beyond, int least)
{
    if (beyond < least || beyond > 62) {
        fail_msg("%s: %d of %d draws beyond the margin", what, beyond, DRAWS);
    }
}

static double *copy_of(const struct asked *asked)
{
    size_t size = asked->cells.count * asked->planned.layout.slots * sizeof(double);
    double *copy = malloc(size);
    assert_non_null(copy);
    return memcpy(copy, asked->cells.sums, size);
}

static void curve_margins_hold(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(3));
    struct asked asked;
    ask(&asked, "SELECT arm, SURVIVAL(weeks, event, 36) FROM t GROUP BY arm", 0.5);
    add_remission(&asked, 200);
    double *exact = copy_of(&asked);
    answer(&asked);
    double survival = at(&asked, 16, 3)->value;
    double risk = at(&asked, 16, 2)->value;
    int beyond[2] = {0};
    for (int draw = 0; draw < DRAWS; draw++) {
        add_noise(&asked, exact, &seed);
        answer(&asked);
        beyond[0] += fabs(at(&asked, 16, 3)->value - survival) > at(&asked, 16, 3)->margin;
        beyond[1] += fabs(at(&asked, 16, 2)->value - risk) > at(&asked, 16, 2)->margin;
    }
    in_margin("survival", beyond[0], 5);
    in_margin("at risk", beyond[1], 5);
    free(exact);
    forget(&asked);
}

/* Two arms from one law, 300 children each: the test must not find a difference more often than 5 % of the time, though the
 * noise is of the size of the sampling. */
static void logrank_keeps_its_level(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(4));
    int rejected = 0;
    for (int draw = 0; draw < DRAWS; draw++) {
        struct asked asked;
        ask(&asked, "SELECT arm, SURVIVAL(weeks, event, 12) FROM t GROUP BY arm", 0.02);
        for (size_t i = 0; i < 600; i++) {
            double time = -15 * log(((double)(seed_next(&seed) >> 11) + 1) * 0x1p-53);
            double left = 36 * (double)(seed_next(&seed) >> 11) * 0x1p-53;
            const double row[COLUMNS] = {fmin(fmin(time, left), 36), time <= left, (double)(i % 2)};
            add(&asked, i % 2, row);
        }
        double *exact = copy_of(&asked);
        add_noise(&asked, exact, &seed);
        answer(&asked);
        rejected += asked.table.logrank.known && asked.table.logrank.p < 0.05;
        free(exact);
        forget(&asked);
    }
    in_margin("log-rank", rejected, 5);
}

/* ---- regression ---------------------------------------------------------------------------- */

/* NIST, Statistical Reference Datasets, Norris: y, x. */
static const double norris[36][2] = {
    {0.1, 0.2},     {338.8, 337.4}, {118.1, 118.2}, {888.0, 884.6}, {9.2, 10.1},    {228.1, 226.5},
    {668.5, 666.3}, {998.5, 996.3}, {449.1, 448.6}, {778.9, 777.0}, {559.2, 558.2}, {0.3, 0.4},
    {0.1, 0.6},     {778.1, 775.5}, {668.8, 666.9}, {339.3, 338.0}, {448.9, 447.5}, {10.8, 11.6},
    {557.7, 556.0}, {228.3, 228.1}, {998.0, 995.8}, {888.8, 887.6}, {119.6, 120.2}, {0.3, 0.3},
    {0.6, 0.3},     {557.6, 556.8}, {339.3, 339.1}, {888.0, 887.2}, {998.5, 999.0}, {778.9, 779.0},
    {10.2, 11.1},   {117.6, 118.3}, {228.9, 229.2}, {668.4, 669.1}, {449.2, 448.9}, {0.2, 0.5},
};

static void regression_is_certified(void **state)
{
    (void)state;
    struct asked asked;
    ask(&asked, "SELECT LINREG(y, x) FROM t", 1);
    for (size_t i = 0; i < 36; i++) {
        const double row[COLUMNS] = {[Y] = norris[i][0], [X] = norris[i][1]};
        add(&asked, 0, row);
    }
    answer(&asked);
    assert_int_equal(asked.table.row_count, 2);
    assert_string_equal(asked.table.values[0].text, "(intercept)");
    assert_string_equal(asked.table.values[3].text, "x");
    near(at(&asked, 0, 1)->value, -0.262323073774029, 1e-9);
    near(at(&asked, 1, 1)->value, 1.00211681802045, 1e-12);
    near(at(&asked, 0, 2)->value, 0.232818234301152, 1e-8);
    near(at(&asked, 1, 2)->value, 4.29796848199937e-04, 1e-11);
    near(asked.table.deviation, 0.884796396144373, 1e-7);
    near(asked.table.rows, 36, 0);
    forget(&asked);
}

static void coefficient_margins_hold(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(5));
    struct asked asked;
    ask(&asked, "SELECT LINREG(y, x, z) FROM t", 0.5);
    for (int i = 0; i < 20000; i++) {
        double x = 200 + 600 * (double)(seed_next(&seed) >> 11) * 0x1p-53;
        double z = fmin(fmax(0.3 * normal(&seed) + x / 2000, -1), 1);
        const double row[COLUMNS] = {
            [Y] = fmin(fmax(100 + 0.5 * x + 90 * z + 20 * normal(&seed), 0), 1000),
            [X] = x,
            [Z] = z};
        add(&asked, 0, row);
    }
    double *exact = copy_of(&asked);
    answer(&asked);
    double truth[3];
    int beyond[3] = {0};
    for (size_t k = 0; k < 3; k++) {
        truth[k] = at(&asked, k, 1)->value;
    }
    near(truth[1], 0.5, 0.02);
    near(truth[2], 90, 5);
    for (int draw = 0; draw < DRAWS; draw++) {
        add_noise(&asked, exact, &seed);
        answer(&asked);
        for (size_t k = 0; k < 3; k++) {
            beyond[k] += fabs(at(&asked, k, 1)->value - truth[k]) > at(&asked, k, 1)->margin;
        }
    }
    in_margin("intercept", beyond[0], 5);
    in_margin("first coefficient", beyond[1], 5);
    in_margin("second coefficient", beyond[2], 5);
    free(exact);
    forget(&asked);
}

/* Where the noise hides whether a column varies at all there is no coefficient, not a wild one. */
static void no_coefficient_without_variation(void **state)
{
    (void)state;
    struct asked asked;
    ask(&asked, "SELECT LINREG(y, x, z) FROM t", 0.01);
    for (int i = 0; i < 500; i++) {
        const double row[COLUMNS] = {[Y] = i, [X] = i, [Z] = 0.25};
        add(&asked, 0, row);
    }
    planned_noise(&asked.planned, asked.cells.variances);
    answer(&asked);
    for (size_t row = 0; row < 3; row++) {
        assert_false(at(&asked, row, 1)->known);
        assert_false(at(&asked, row, 2)->known);
    }
    forget(&asked);
}

/* ---- quantiles and histograms -------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

#define QUANTILES                                                                                  \
    "SELECT MIN(x), QUANTILE(x, 0.1), MEDIAN(x), QUANTILE(x, 0.95), MAX(x), MEDIAN(weeks) FROM t"

/* Without noise the value lies within its margin of the definition by sorting, which is the class's width and no more. */
static void quantiles_are_those_of_sorting(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(6));
    for (int turn = 0; turn < 40; turn++) {
        struct asked asked;
        static double values[2][3000];
        size_t n = 1 + seed_below(&seed, turn < 20 ? 5 : 3000);
        ask(&asked, QUANTILES, 1);
        for (size_t i = 0; i < n; i++) {
            values[0][i] = fmin(1000, -100 * log(((double)(seed_next(&seed) >> 11) + 1) * 0x1p-53));
            values[1][i] = (double)seed_below(&seed, 37);
            const double row[COLUMNS] = {[X] = values[0][i], [WEEKS] = values[1][i]};
            add(&asked, 0, row);
        }
        answer(&asked);
        qsort(values[0], n, sizeof(double), by_value);
        qsort(values[1], n, sizeof(double), by_value);
        static const double q[] = {0, 0.1, 0.5, 0.95, 1, 0.5};
        for (size_t i = 0; i < 6; i++) {
            const double *sorted = values[i == 5];
            double rank = q[i] * (double)(n - 1);
            size_t low = (size_t)rank;
            size_t high = low + 1 < n ? low + 1 : low;
            double want = sorted[low] + (rank - (double)low) * (sorted[high] - sorted[low]);
            const struct query_estimate *got = at(&asked, 0, i);
            assert_true(got->known);
            near(got->value, want, got->margin + 1e-9);
            double gap = sorted[high] - sorted[low];
            assert_true(got->margin <= (i == 5 ? gap : gap + 2 * 1000.0 / 4096) + 1e-9);
        }
        forget(&asked);
    }
}

static void quantile_margins_hold(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(7));
    struct asked asked;
    double x[1];
    int beyond[6] = {0};
    ask(&asked, QUANTILES, 0.05);
    for (int i = 0; i < 8000; i++) {
        x[0] = fmin(1000, -100 * log(((double)(seed_next(&seed) >> 11) + 1) * 0x1p-53));
        const double row[COLUMNS] = {[X] = x[0], [WEEKS] = (double)seed_below(&seed, 37)};
        add(&asked, 0, row);
    }
    double *exact = copy_of(&asked);
    answer(&asked);
    double truth[6];
    for (size_t i = 0; i < 6; i++) {
        truth[i] = at(&asked, 0, i)->value;
    }
    for (int draw = 0; draw < DRAWS; draw++) {
        add_noise(&asked, exact, &seed);
        answer(&asked);
        for (size_t i = 0; i < 6; i++) {
            beyond[i] += fabs(at(&asked, 0, i)->value - truth[i]) > at(&asked, 0, i)->margin;
        }
    }
    for (size_t i = 0; i < 6;
         i++) { /* the class's width comes on top: rather too wide than too narrow */
        in_margin("quantile", beyond[i], 0);
    }
    assert_true(at(&asked, 0, 2)->margin < 15); /* and not useless: the median of 8000 is 69 */
    free(exact);
    forget(&asked);
}

static void histogram_rows_are_counts(void **state)
{
    (void)state;
    struct asked asked;
    ask(&asked, "SELECT HISTOGRAM(z, 8), arm FROM t GROUP BY arm", 1);
    static const double values[] = {-1, -0.75, -0.7500001, 0, 0.999, 1, NAN};
    for (size_t i = 0; i < 7; i++) {
        const double row[COLUMNS] = {[Z] = values[i]};
        add(&asked, 1, row);
    }
    asked.cells.contributors[0] = 0;
    answer(&asked);
    static const double want[] = {2, 1, 0, 0, 1, 0, 0, 2};
    assert_int_equal(asked.table.row_count, 16);
    assert_int_equal(asked.table.column_count, 4);
    for (size_t i = 0; i < 8; i++) {
        near(at(&asked, i, 0)->value, -1 + 0.25 * (double)i, 0);
        near(at(&asked, i, 1)->value, -0.75 + 0.25 * (double)i, 0);
        assert_false(at(&asked, i, 2)->known); /* withheld, but its edges are public */
        near(at(&asked, 8 + i, 2)->value, want[i], 0);
        assert_string_equal(asked.table.values[4 * (8 + i) + 3].text, "placebo");
    }
    forget(&asked);
}

static void expected_margins_are_those_of_the_noise(void **state)
{
    (void)state;
    static const char *const sql[] = {
        "SELECT HISTOGRAM(z, 8) FROM t", "SELECT LINREG(y, x, z) FROM t",
        "SELECT SURVIVAL(weeks, event, 12) FROM t", "SELECT MEDIAN(x), COUNT(*) FROM t"};
    static const size_t counts[] = {1, 3, 1, 2};
    for (size_t i = 0; i < 4; i++) {
        struct asked asked;
        struct query_expected *list;
        size_t count;
        ask(&asked, sql[i], 1);
        assert_int_equal(query_table_expected(&asked.planned.query, &asked.planned.layout, 100000,
                                              4, &asked.arena, &list, &count),
                         E_OK);
        assert_int_equal(count, counts[i]);
        for (size_t j = 0; j < count; j++) {
            assert_true(list[j].margin > 0 && list[j].margin <= list[j].margin_tenth);
        }
        forget(&asked);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden_is_what_no_bound_narrows),
        cmocka_unit_test(curve_is_published),
        cmocka_unit_test(chi_square_is_the_tables),
        cmocka_unit_test(curve_margins_hold),
        cmocka_unit_test(logrank_keeps_its_level),
        cmocka_unit_test(regression_is_certified),
        cmocka_unit_test(coefficient_margins_hold),
        cmocka_unit_test(no_coefficient_without_variation),
        cmocka_unit_test(quantiles_are_those_of_sorting),
        cmocka_unit_test(quantile_margins_hold),
        cmocka_unit_test(histogram_rows_are_counts),
        cmocka_unit_test(expected_margins_are_those_of_the_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
