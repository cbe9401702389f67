/* The vector release: charge, grid and rounding, by brute force over what one patient can change. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "node/privacy/mechanism.h"
#include "tests/lib/numbers.h"

static uint64_t seed;

static uint64_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static double unit(void)
{
    return (double)(next() >> 11) / 9007199254740992.0;
}

/* 2 rho of one coordinate that moves by SHIFT. */
static long double loss(const struct privacy_coordinate *c, long double shift)
{
    return shift * shift * (long double)c->sigma2_den / (long double)c->sigma2_num;
}

/* rho of a patient whose rows fall into cells[i] cells as given, each row at its most extreme. */
static long double patient_rho(const struct privacy_coordinate *coords, size_t count,
                               const uint32_t *rows, size_t cells)
{
    long double sum = 0;
    for (size_t i = 0; i < cells; i++) {
        for (size_t j = 0; j < count && rows[i] > 0; j++) {
            bool units = coords[j].kind == PRIVACY_UNITS;
            sum += loss(&coords[j],
                        units ? 1 : (long double)rows[i] * (long double)coords[j].sensitivity);
        }
    }
    return sum / 2;
}

/* The worst over all ways to spread at most BOUNDS->rows rows over cells, in falling order (partitions of each number). */
static long double worst_rho(const struct privacy_coordinate *coords, size_t count, uint32_t *rows,
                             size_t at, struct privacy_bounds bounds)
{
    long double worst = patient_rho(coords, count, rows, at);
    uint32_t most = bounds.rows < bounds.rows_per_cell ? bounds.rows : bounds.rows_per_cell;
    most = at > 0 && rows[at - 1] < most ? rows[at - 1] : most;
    for (uint32_t r = most; r >= 1 && bounds.cells > 0; r--) {
        rows[at] = r;
        long double rho = worst_rho(
            coords, count, rows, at + 1,
            (struct privacy_bounds){bounds.rows - r, bounds.rows_per_cell, bounds.cells - 1});
        worst = rho > worst ? rho : worst;
    }
    return worst;
}

static size_t random_coordinates(struct privacy_coordinate *coords)
{
    size_t count = 1 + next() % 5;
    bool units = false;
    memset(coords, 0, 8 * sizeof *coords);
    for (size_t j = 0; j < count; j++) {
        coords[j] =
            (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = exp(20 * unit() - 10)};
        if (next() % 3 == 0) {
            coords[j].bound = (double)(1 + next() % 300);
            coords[j].integer = true;
        }
        if (!units && next() % 3 == 0) {
            coords[j] =
                (struct privacy_coordinate){.kind = PRIVACY_UNITS, .bound = 1, .integer = true};
            units = true;
        }
        coords[j].weight = next() % 2 ? (uint32_t)(next() % PRIVACY_WEIGHT_MAX) : 0;
    }
    return count;
}

/* Half of the time rows are bounded in all only. */
static struct privacy_bounds random_bounds(void)
{
    uint32_t m = 1 + (uint32_t)(next() % 14);
    struct privacy_bounds bounds = {m, m, m};
    if (next() % 2) {
        bounds.rows_per_cell = 1 + (uint32_t)(next() % 14);
        bounds.cells = 1 + (uint32_t)(next() % 14);
    }
    return bounds;
}

static void no_patient_costs_more_than_the_charge(void **state)
{
    (void)state;
    struct privacy_coordinate coords[8];
    uint32_t rows[64];
    for (int round = 0; round < 400; round++) {
        size_t count = random_coordinates(coords);
        struct privacy_bounds bounds = random_bounds();
        uint64_t nano = 1 + (uint64_t)exp(27 * unit()); /* up to rho 532 */
        nano = nano < 100000 ? nano + 100000 : nano;
        assert_int_equal(privacy_mechanism_plan_bounded(nano, &bounds, coords, count, NULL), E_OK);
        long double rho = (long double)nano / 1e9L;
        long double worst = worst_rho(coords, count, rows, 0, bounds);
        if (worst > rho * (1 + 1e-17L)) {
            fail_msg("round %d: a patient costs %.20Lg of %.20Lg", round, worst, rho);
        }
        /* The worst patient uses the whole charge, up to the rounding of sigma^2: no budget is wasted. */
        assert_true(worst > rho * 0.97L);
    }
}

/* The difference of real sums over neighbouring tables, rows quantised one by one, in random order. */
static void neighbours_differ_by_what_was_planned(void **state)
{
    (void)state;
    struct privacy_coordinate coords[8];
    enum {
        CELLS = 5
    };
    for (int round = 0; round < 300; round++) {
        size_t count = random_coordinates(coords);
        uint32_t m = 1 + (uint32_t)(next() % 9);
        assert_int_equal(privacy_mechanism_plan(50000000, m, coords, count, NULL), E_OK);
        __int128 sums[2][CELLS][8] = {{{0}}};
        bool touched[CELLS] = {false};
        for (uint32_t r = 0; r < 200 + m; r++) {
            size_t cell = next() % CELLS;
            bool patient = r >= 200;
            for (size_t j = 0; j < count; j++) {
                double value = coords[j].bound * (4 * unit() - 2);
                value = next() % 20 == 0 ? (next() % 2 ? INFINITY : -INFINITY) : value;
                __int128 q = coords[j].kind == PRIVACY_UNITS
                                 ? (patient && touched[cell] ? 0 : 1)
                                 : privacy_mechanism_quantise(&coords[j], value);
                sums[1][cell][j] += q;
                sums[0][cell][j] += patient ? 0 : q;
            }
            touched[cell] = touched[cell] || patient;
        }
        long double rho = 0;
        for (size_t i = 0; i < CELLS; i++) {
            for (size_t j = 0; j < count; j++) {
                rho += loss(&coords[j], (long double)(sums[1][i][j] - sums[0][i][j])) / 2;
            }
        }
        assert_true(rho <= 0.05L * (1 + 1e-17L));
    }
}

static void rounding_stays_within_half_a_grid_step(void **state)
{
    (void)state;
    struct privacy_coordinate coords[8];
    for (int round = 0; round < 300; round++) {
        size_t count = random_coordinates(coords);
        assert_int_equal(privacy_mechanism_plan(100000 + next() % 2000000000,
                                                1 + (uint32_t)(next() % 50), coords, count, NULL),
                         E_OK);
        for (size_t j = 0; j < count; j++) {
            double g = ldexp(1, coords[j].grid_log2);
            double sigma = privacy_mechanism_sigma(&coords[j]);
            if (coords[j].integer) {
                assert_true(coords[j].grid_log2 >= 0);
            }
            assert_true(g <= coords[j].bound || coords[j].integer);
            if (!coords[j].integer && g < coords[j].bound / 2) {
                assert_true(sigma / g >= 0.99 * (1 << 25) && sigma / g <= 1.6 * (1 << 26));
            }
            for (int i = 0; i < 20; i++) {
                double value = coords[j].bound * (2 * unit() - 1);
                int64_t q = privacy_mechanism_quantise(&coords[j], value);
                assert_near(privacy_mechanism_value(&coords[j], q), value, g / 2);
                assert_true((uint64_t)(q < 0 ? -q : q) <= coords[j].sensitivity);
            }
            assert_int_equal(privacy_mechanism_quantise(&coords[j], NAN), 0);
            assert_int_equal(privacy_mechanism_quantise(&coords[j], -INFINITY),
                             -privacy_mechanism_quantise(&coords[j], 1e300));
            assert_true((uint64_t)privacy_mechanism_quantise(&coords[j], INFINITY) <=
                        coords[j].sensitivity);
        }
    }
}

static void release_adds_the_planned_noise(void **state)
{
    (void)state;
    enum {
        CELLS = 4000
    };
    struct privacy_coordinate coords[2] = {{.kind = PRIVACY_ROWS, .bound = 1, .integer = true},
                                           {.kind = PRIVACY_ROWS, .bound = 15}};
    static __int128 exact[CELLS * 2];
    static int64_t noisy[CELLS * 2];
    assert_int_equal(privacy_mechanism_plan(20000000, 3, coords, 2, NULL), E_OK);
    for (size_t i = 0; i < CELLS; i++) {
        exact[2 * i] = 1000;
        exact[2 * i + 1] = -(__int128)77 * (1 << 20);
    }
    struct privacy_pool *pool = NULL;
    assert_int_equal(privacy_pool_new(&pool), E_OK);
    assert_int_equal(privacy_mechanism_prepare(pool, coords, 2, 100), E_OK);
    assert_int_equal(privacy_mechanism_release_pooled(pool, coords, 2, exact, CELLS, noisy, NULL),
                     E_OK);
    privacy_pool_free(pool);
    for (size_t j = 0; j < 2; j++) {
        double sum = 0;
        double squares = 0;
        for (size_t i = 0; i < CELLS; i++) {
            double d =
                privacy_mechanism_value(&coords[j], noisy[2 * i + j] - (int64_t)exact[2 * i + j]) /
                privacy_mechanism_sigma(&coords[j]);
            sum += d;
            squares += d * d;
        }
        /* Mean and variance of 4,000 standard normal values: 5 standard errors, 1e-6 each. */
        const double cells = (double)CELLS;
        assert_near(sum / cells, 0, 5 / sqrt(cells));
        assert_near(squares / cells, 1, 5 * sqrt(2.0 / cells));
    }
}

static void overflow_is_refused(void **state)
{
    (void)state;
    struct privacy_coordinate c = {.kind = PRIVACY_ROWS, .bound = 1, .integer = true};
    assert_int_equal(privacy_mechanism_plan(1000000000, 1, &c, 1, NULL), E_OK);
    __int128 exact[2] = {5, (__int128)INT64_MAX + 1000};
    int64_t noisy[2] = {1, 1};
    struct err_info info = {0};
    assert_int_equal(privacy_mechanism_release(&c, 1, exact, 2, noisy, &info), E_LIMIT);
    assert_int_equal(noisy[0], 0);
    assert_int_equal(noisy[1], 0);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct privacy_coordinate c[3] = {{.kind = PRIVACY_ROWS, .bound = 1, .integer = true}};
    assert_int_equal(privacy_mechanism_plan(0, 1, c, 1, NULL), E_LIMIT);
    assert_int_equal(privacy_mechanism_plan(1000, 0, c, 1, NULL), E_LIMIT);
    assert_int_equal(privacy_mechanism_plan(1000, PRIVACY_ROWS_MAX + 1, c, 1, NULL), E_LIMIT);
    assert_int_equal(privacy_mechanism_plan(1000, 1, c, 0, NULL), E_INVALID);
    assert_int_equal(privacy_mechanism_plan(1000, 1, c, PRIVACY_COORDINATES_MAX + 1, NULL),
                     E_LIMIT);
    c[0].bound = NAN;
    assert_int_equal(privacy_mechanism_plan(1000, 1, c, 1, NULL), E_INVALID);
    c[0].bound = 0;
    assert_int_equal(privacy_mechanism_plan(1000, 1, c, 1, NULL), E_INVALID);
    c[0] = c[1] = (struct privacy_coordinate){.kind = PRIVACY_UNITS, .bound = 1};
    assert_int_equal(privacy_mechanism_plan(1000, 1, c, 2, NULL), E_INVALID);
    /* A billionth of rho with a million rows a patient: more noise than the sampler is proven for. */
    c[0] = (struct privacy_coordinate){.kind = PRIVACY_ROWS, .bound = 1, .integer = true};
    assert_int_equal(privacy_mechanism_plan(1, PRIVACY_ROWS_MAX, c, 1, NULL), E_LIMIT);
}

int main(void)
{
    const char *given = getenv("SEED");
    seed = given ? strtoull(given, NULL, 10) : 20260731;
    printf("# SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_patient_costs_more_than_the_charge),
        cmocka_unit_test(neighbours_differ_by_what_was_planned),
        cmocka_unit_test(rounding_stays_within_half_a_grid_step),
        cmocka_unit_test(release_adds_the_planned_noise),
        cmocka_unit_test(overflow_is_refused),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
