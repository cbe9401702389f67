/* What one site may do to the totals: honest answers pass, lies are named, and whatever passes keeps the totals finite; private
 * groups are merged by their texts; what leaves a site stands out of the noise. */
#include "config.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "node/query/partial.h"
#include "node/query/release.h"
#include "proto/body.h"
#include "tests/lib/seed.h"
#include "tests/unit/node/answering.h"

static const char *sexes[] = {"F", "M"};
static struct proto_column columns[] = {
    {.name = "patient", .type = PROTO_COLUMN_TEXT},
    {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .min = 20, .max = 80},
    {.name = "cost", .type = PROTO_COLUMN_REAL, .has_bounds = true, .min = -5, .max = 100},
    {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 2},
    {.name = "chapter", .type = PROTO_COLUMN_CATEGORY, .values_private = true},
};
static const struct proto_schema schema = {
    .columns = columns, .count = 5, .unit = "patient", .max_rows_per_unit = 3};

#define SIZE 1000

/* An answer whose numbers a test may write to. */
struct site {
    struct query_answer answer;
    uint8_t *values;
    uint8_t *withheld;
    struct query_coordinate coordinates[QUERY_COORDINATES_MAX];
    struct proto_text keys[16];
};

static void site_fini(struct site *site)
{
    free(site->values);
    free(site->withheld);
}

static void site_init(struct site *site, const struct planned *planned, size_t cells)
{
    memset(site, 0, sizeof *site);
    size_t count = planned->layout.count;
    site->values = calloc(cells * planned->layout.slots + 1, 8);
    site->withheld = calloc(cells + 1, 1);
    assert_true(site->values && site->withheld);
    for (size_t i = 0; i < count; i++) {
        const struct privacy_coordinate *from = &planned->layout.coordinates[i];
        site->coordinates[i] =
            (struct query_coordinate){from->grid_log2, from->sigma2_num, from->sigma2_den};
    }
    site->answer =
        (struct query_answer){.cells = cells,
                              .coordinates = {site->coordinates, count},
                              .values = span_of(site->values, cells * planned->layout.slots * 8),
                              .withheld = span_of(site->withheld, cells)};
}

static void put(struct site *site, const struct planned *planned, size_t cell, size_t slot,
                int64_t value)
{
    put_be64(site->values + 8 * (cell * planned->layout.slots + slot), (uint64_t)value);
}

/* A site of N patients with one row each, spread evenly, and the planned noise. */
static void honest(struct site *site, const struct planned *planned, double n)
{
    const struct query_layout *layout = &planned->layout;
    double *sums = calloc(layout->slots, sizeof *sums);
    assert_non_null(sums);
    query_estimate_even(layout, n, false, sums);
    for (size_t cell = 0; cell < site->answer.cells; cell++) {
        for (size_t part = 0; part < layout->count; part++) {
            const struct privacy_coordinate *c = &layout->coordinates[part];
            for (size_t i = 0; i < layout->parts[part].width; i++) {
                int64_t noise;
                double exact = sums[layout->offsets[part] + i];
                assert_int_equal(privacy_noise_gaussian(c->sigma2_num, c->sigma2_den, &noise, 1),
                                 E_OK);
                put(site, planned, cell, layout->offsets[part] + i,
                    (int64_t)rint(ldexp(exact, -c->grid_log2)) + noise);
            }
        }
    }
    free(sums);
}

static enum query_fault check(const struct planned *planned, const struct site *site)
{
    const char *why = NULL;
    enum query_fault fault =
        query_partial_check(&planned->query, &planned->layout, SIZE, &site->answer, &why);
    assert_true(fault == QUERY_FAULT_NONE || (why && *why));
    return fault;
}

static const char *const questions[] = {
    "SELECT COUNT(*), AVG(cost), SUM(age) FROM t",
    "SELECT sex, VAR(cost), CORR(age, cost) FROM t GROUP BY sex",
    "SELECT MEDIAN(cost), MAX(age) FROM t",
    "SELECT sex, HISTOGRAM(age, 7) FROM t GROUP BY sex",
    "SELECT LINREG(cost, age) FROM t",
};
#define QUESTIONS (sizeof questions / sizeof *questions)

static void honest_sites_pass(void **state)
{
    (void)state;
    static const double sizes[] = {0, 1, 40, 5000};
    static const double rhos[] = {0.0001, 0.5, 100};
    for (size_t q = 0; q < QUESTIONS; q++) {
        for (size_t i = 0; i < 12; i++) {
            struct planned planned;
            struct site site;
            planned_make(&planned, &schema, questions[q], rhos[i % 3]);
            site_init(&site, &planned, planned.query.cells);
            honest(&site, &planned, sizes[i / 3]);
            assert_int_equal(check(&planned, &site), QUERY_FAULT_NONE);
            site_fini(&site);
            proto_query_fini(&planned.query);
        }
    }
}

static void other_shapes_are_malformed(void **state)
{
    (void)state;
    struct planned planned;
    struct site site;
    planned_make(&planned, &schema, questions[1], 0.5);
    site_init(&site, &planned, 2);
    honest(&site, &planned, 100);
    struct query_answer good = site.answer;
    site.answer.cells = 1;
    assert_int_equal(check(&planned, &site), QUERY_FAULT_MALFORMED);
    site.answer = good;
    site.answer.values.len -= 8;
    assert_int_equal(check(&planned, &site), QUERY_FAULT_MALFORMED);
    site.answer = good;
    site.answer.withheld.len = 1;
    assert_int_equal(check(&planned, &site), QUERY_FAULT_MALFORMED);
    site.answer = good;
    site.answer.coordinates.count--;
    assert_int_equal(check(&planned, &site), QUERY_FAULT_MALFORMED);
    site.answer = good;
    site.answer.keys = (struct proto_list){site.keys, 2};
    assert_int_equal(check(&planned, &site), QUERY_FAULT_MALFORMED);
    site.answer = good;
    site.coordinates[2].sigma2_num++; /* less noise than planned is no better than more */
    assert_int_equal(check(&planned, &site), QUERY_FAULT_MALFORMED);
    site.coordinates[2].sigma2_num--;
    site.coordinates[1].grid_log2++;
    assert_int_equal(check(&planned, &site), QUERY_FAULT_MALFORMED);
    site.coordinates[1].grid_log2--;
    assert_int_equal(check(&planned, &site), QUERY_FAULT_NONE);
    site_fini(&site);
    proto_query_fini(&planned.query);
}

/* Any single number that is set to an extreme is found. */
static void extremes_are_out_of_range(void **state)
{
    (void)state;
    static const int64_t extremes[] = {INT64_MAX, INT64_MIN, INT64_MAX / 2, -INT64_MAX / 2};
    for (size_t q = 0; q < QUESTIONS; q++) {
        struct planned planned;
        struct site site;
        planned_make(&planned, &schema, questions[q], 0.5);
        site_init(&site, &planned, planned.query.cells);
        honest(&site, &planned, 300);
        size_t slots = planned.layout.slots;
        for (size_t slot = 0; slot < slots; slot += 1 + slot / 50) {
            uint8_t kept[8];
            size_t cell = slot % planned.query.cells;
            memcpy(kept, site.values + 8 * (cell * slots + slot), 8);
            for (size_t i = 0; i < 4; i++) {
                put(&site, &planned, cell, slot, extremes[i]);
                assert_int_equal(check(&planned, &site), QUERY_FAULT_OUT_OF_RANGE);
            }
            memcpy(site.values + 8 * (cell * slots + slot), kept, 8);
        }
        assert_int_equal(check(&planned, &site), QUERY_FAULT_NONE);
        site_fini(&site);
        proto_query_fini(&planned.query);
    }
}

/* Lies that are not extreme: a negative count, a sum that its rows cannot have, more rows in classes than there are. */
static void contradictions_are_out_of_range(void **state)
{
    (void)state;
    struct planned planned;
    struct site site;
    planned_make(&planned, &schema, "SELECT COUNT(DISTINCT patient), AVG(cost) FROM t", 0.5);
    site_init(&site, &planned, 1);
    honest(&site, &planned, 300);
    put(&site, &planned, 0, 0, -1000);
    assert_int_equal(check(&planned, &site), QUERY_FAULT_OUT_OF_RANGE);
    put(&site, &planned, 0, 0, (int64_t)SIZE * 2000000);
    assert_int_equal(check(&planned, &site), QUERY_FAULT_OUT_OF_RANGE);
    put(&site, &planned, 0, 0, 300);
    size_t sum = planned.layout.reads[1].sums[0];
    const struct privacy_coordinate *c = &planned.layout.coordinates[sum];
    double most = 300 * 3 * 52.5;
    put(&site, &planned, 0, sum, (int64_t)ldexp(most, -c->grid_log2));
    assert_int_equal(check(&planned, &site), QUERY_FAULT_NONE);
    put(&site, &planned, 0, sum, (int64_t)ldexp(-3 * most, -c->grid_log2));
    assert_int_equal(check(&planned, &site), QUERY_FAULT_OUT_OF_RANGE);
    site_fini(&site);
    proto_query_fini(&planned.query);
    planned_make(&planned, &schema, "SELECT HISTOGRAM(age, 10) FROM t", 0.5);
    site_init(&site, &planned, 1);
    honest(&site, &planned, 300);
    for (size_t i = 0; i < 10; i++) { /* each could be, together they cannot */
        put(&site, &planned, 0, 1 + i, 800);
    }
    assert_int_equal(check(&planned, &site), QUERY_FAULT_OUT_OF_RANGE);
    site_fini(&site);
    proto_query_fini(&planned.query);
}

/* Random bytes in place of numbers: refused, or harmless to every value of the table. */
static void what_passes_is_finite(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(1));
    for (size_t turn = 0; turn < 300; turn++) {
        struct planned planned;
        struct site site;
        struct arena arena = {0};
        planned_make(&planned, &schema, questions[turn % QUESTIONS], 0.5);
        site_init(&site, &planned, planned.query.cells);
        honest(&site, &planned, 100);
        for (int i = 0; i < 3; i++) {
            size_t at = seed_below(&seed, site.answer.values.len);
            site.values[at] = (uint8_t)seed_next(&seed);
        }
        if (check(&planned, &site) == QUERY_FAULT_NONE) {
            const struct query_answer *answers[2] = {&site.answer, &site.answer};
            struct query_cells cells;
            struct query_table table;
            size_t withheld[2] = {0};
            assert_int_equal(query_partial_add(&planned.query, &planned.layout, answers, 2, &arena,
                                               &cells, withheld),
                             E_OK);
            assert_int_equal(
                query_table_make(&planned.query, &planned.layout, &cells, &arena, &table), E_OK);
            for (size_t i = 0; i < table.row_count * table.column_count; i++) {
                const struct query_estimate *number = &table.values[i].number;
                assert_true(table.values[i].text || !number->known || isfinite(number->value));
            }
        }
        arena_fini(&arena);
        site_fini(&site);
        proto_query_fini(&planned.query);
    }
}

static void withheld_cells_lack_the_site(void **state)
{
    (void)state;
    struct planned planned;
    struct site sites[2];
    struct arena arena = {0};
    planned_make(&planned, &schema, "SELECT sex, COUNT(DISTINCT patient) FROM t GROUP BY sex", 0.5);
    for (int64_t i = 0; i < 2; i++) {
        site_init(&sites[i], &planned, 2);
        put(&sites[i], &planned, 0, 0, 100 + i);
        put(&sites[i], &planned, 1, 0, 200 + i);
    }
    sites[1].withheld[1] = 1;
    const struct query_answer *answers[2] = {&sites[0].answer, &sites[1].answer};
    struct query_cells cells;
    size_t withheld[2] = {0};
    assert_int_equal(
        query_partial_add(&planned.query, &planned.layout, answers, 2, &arena, &cells, withheld),
        E_OK);
    double sigma = privacy_mechanism_sigma(&planned.layout.coordinates[0]);
    assert_true(cells.sums[0] == 201 && cells.sums[1] == 200);
    assert_true(fabs(cells.variances[0] - 2 * sigma * sigma) < 1e-9);
    assert_true(fabs(cells.variances[1] - sigma * sigma) < 1e-9);
    assert_true(withheld[0] == 0 && withheld[1] == 1);
    assert_true(cells.contributors[0] == 2 && cells.contributors[1] == 1);
    for (int i = 0; i < 2; i++) {
        site_fini(&sites[i]);
    }
    arena_fini(&arena);
    proto_query_fini(&planned.query);
}

/* ---- private groups ------------------------------------------------------------------------ */

#define KEYED "SELECT chapter, sex, COUNT(DISTINCT patient) FROM t GROUP BY chapter, sex"

static void set_keys(struct site *site, size_t cells, const char *const *texts)
{
    for (size_t i = 0; i < 2 * cells; i++) {
        site->keys[i].text = span_str(texts[i]);
    }
    site->answer.keys = (struct proto_list){site->keys, 2 * cells};
}

static void keys_are_merged(void **state)
{
    (void)state;
    struct planned planned;
    struct site sites[3];
    struct arena arena = {0};
    static const char *const texts[3][6] = {
        {"A", "F", "B", "F", "B", "M"}, {"", "M", "B", "M", "C", "F"}, {NULL}};
    static const size_t sizes[3] = {3, 3, 0};
    planned_make(&planned, &schema, KEYED, 0.5);
    const struct query_answer *answers[3];
    for (size_t i = 0; i < 3; i++) {
        site_init(&sites[i], &planned, sizes[i]);
        set_keys(&sites[i], sizes[i], texts[i]);
        for (size_t cell = 0; cell < sizes[i]; cell++) {
            put(&sites[i], &planned, cell, 0, (int64_t)(100 * (i + 1) + cell));
        }
        assert_int_equal(check(&planned, &sites[i]), QUERY_FAULT_NONE);
        answers[i] = &sites[i].answer;
    }
    struct query_cells cells;
    struct query_table table;
    size_t withheld[3] = {0};
    assert_int_equal(
        query_partial_add(&planned.query, &planned.layout, answers, 3, &arena, &cells, withheld),
        E_OK);
    assert_int_equal(query_table_make(&planned.query, &planned.layout, &cells, &arena, &table),
                     E_OK);
    static const char *const want[] = {"", "M", "A", "F", "B", "F", "B", "M", "C", "F"};
    static const double counts[] = {200, 100, 101, 102 + 201, 202};
    assert_int_equal(table.row_count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(table.values[3 * i].text, want[2 * i]);
        assert_string_equal(table.values[3 * i + 1].text, want[2 * i + 1]);
        assert_true(table.values[3 * i + 2].number.value == counts[i]);
        assert_int_equal(cells.contributors[i], i == 3 ? 2 : 1);
    }
    for (size_t i = 0; i < 3; i++) {
        site_fini(&sites[i]);
    }
    arena_fini(&arena);
    proto_query_fini(&planned.query);
}

static void keys_must_ascend_and_be_declared(void **state)
{
    (void)state;
    static const char *const bad[][4] = {
        {"B", "F", "A", "F"}, {"A", "F", "A", "F"}, {"A", "M", "A", "F"}, {"A", "F", "B", "X"}};
    struct planned planned;
    planned_make(&planned, &schema, KEYED, 0.5);
    for (size_t i = 0; i < 4; i++) {
        struct site site;
        site_init(&site, &planned, 2);
        set_keys(&site, 2, bad[i]);
        assert_int_equal(check(&planned, &site), QUERY_FAULT_MALFORMED);
        site_fini(&site);
    }
    proto_query_fini(&planned.query);
}

/* Cells of exactly N units, through the noise. Returns how many of CELLS are told. */
static size_t told(const struct planned *planned, size_t cells, __int128 n, double delta0)
{
    struct arena arena = {0};
    struct query_answer answer = {0};
    struct query_sums sums = {.cells = cells, .slots = planned->layout.slots};
    sums.sizes[0] = cells / 2;
    sums.sizes[1] = 2;
    sums.sums = calloc(cells * sums.slots, sizeof *sums.sums);
    sums.values[0] = calloc(cells / 2, sizeof *sums.values[0]);
    assert_true(sums.sums && sums.values[0]);
    for (size_t i = 0; i < cells; i++) {
        char text[32];
        snprintf(text, sizeof text, "%06zu", cells - i / 2);
        sums.sums[i * sums.slots] = n;
        sums.values[0][i / 2] = arena_strdup(&arena, span_str(text));
    }
    const struct query_release_terms terms = {.min_cohort = 2,
                                              .delta0_e18 = (uint64_t)(delta0 * 1e18)};
    assert_int_equal(query_release(NULL, &planned->query, &planned->layout, &sums, &terms, &arena,
                                   &answer, NULL),
                     E_OK);
    struct site site = {.answer = answer};
    assert_int_equal(check(planned, &site), QUERY_FAULT_NONE);
    free(sums.sums);
    free((void *)(uintptr_t)sums.values[0]);
    arena_fini(&arena);
    return answer.cells;
}

/* A group of one patient is told with probability at most delta0 / g, and nearly that often: the threshold wastes one unit at
 * most. delta0 is large here so that it can be seen: of 4000 cells at 0.09 / 3 each, 120 are expected, standard deviation
 * 10.8, and with the wasted unit not below P[N >= T - 1 + 1], about 87 at sigma 3. Six deviations on both sides. */
static void lonely_groups_stay_hidden(void **state)
{
    (void)state;
    struct planned planned;
    planned_make(&planned, &schema, KEYED, 0.16);
    assert_int_equal(planned.layout.bounds.cells, 3);
    size_t count = told(&planned, 4000, 1, 0.09);
    assert_in_range(count, 20, 185);
    assert_int_equal(told(&planned, 4000, 0, 0.09), 0); /* nobody: never, whatever the noise says */
    assert_int_equal(told(&planned, 4000, 1, 1e-10), 0);
    assert_int_equal(told(&planned, 1000, 100000, 1e-10), 1000);
    double sigma = privacy_mechanism_sigma(&planned.layout.coordinates[0]);
    uint64_t threshold = query_release_threshold(&planned.layout, 300000000000);
    assert_true(fabs((double)threshold - (2 + 5.1993 * sigma)) < 1.001);
    proto_query_fini(&planned.query);
}

/* The numbers of units of CELLS cells of an answer that is stored: 3, 7, 20, 0 (withheld), 8, .. */
static const int64_t stored_units[] = {3, 7, 20, 0, 8, 7};

static void stored(struct site *site, const struct planned *planned, size_t cells)
{
    site_init(site, planned, cells);
    for (size_t cell = 0; cell < cells; cell++) {
        int32_t grid = planned->layout.coordinates[0].grid_log2;
        site->withheld[cell] = stored_units[cell] == 0;
        for (size_t slot = 0; slot < planned->layout.slots; slot++) {
            put(site, planned, cell, slot, (int64_t)ldexp((double)stored_units[cell], -grid));
        }
    }
}

static void expect_units(const struct planned *planned, const struct query_answer *answer,
                         size_t count, const int64_t *units)
{
    assert_int_equal(answer->cells, count);
    assert_int_equal(answer->values.len, count * planned->layout.slots * 8);
    assert_int_equal(answer->withheld.len, count);
    for (size_t cell = 0; cell < count; cell++) {
        const uint8_t *at = answer->values.ptr + 8 * cell * planned->layout.slots;
        assert_int_equal(answer->withheld.ptr[cell], units[cell] == 0);
        for (size_t slot = 0; slot < planned->layout.slots; slot++) {
            double got = ldexp((double)(int64_t)get_be64(at + 8 * slot),
                               planned->layout.coordinates[0].grid_log2);
            assert_true(got == (double)units[cell]);
        }
    }
}

/* An answer that was stored under a smaller cohort does not tell more than the present one lets it; what was withheld stays so. */
static void stored_answers_keep_the_cohort_of_now(void **state)
{
    (void)state;
    struct planned planned;
    struct site site;
    struct arena arena = {0};
    planned_make(&planned, &schema, "SELECT sex, COUNT(DISTINCT patient) FROM t GROUP BY sex", 0.5);
    static const struct {
        uint64_t cohort;
        int64_t want[2];
    } cases[] = {{2, {3, 7}}, {3, {3, 7}}, {4, {0, 7}}, {7, {0, 7}}, {8, {0, 0}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        stored(&site, &planned, 2);
        assert_int_equal(query_release_withhold(&planned.query, &planned.layout, cases[i].cohort,
                                                &arena, &site.answer),
                         E_OK);
        expect_units(&planned, &site.answer, 2, cases[i].want);
        assert_int_equal(check(&planned, &site), QUERY_FAULT_NONE);
        site_fini(&site);
    }
    stored(&site, &planned, 2);
    site.answer.values.len--;
    assert_int_equal(
        query_release_withhold(&planned.query, &planned.layout, 2, &arena, &site.answer),
        E_CORRUPT);
    site_fini(&site);
    proto_query_fini(&planned.query);
    arena_fini(&arena);
}

static void stored_groups_keep_the_cohort_of_now(void **state)
{
    (void)state;
    static const char *const texts[] = {"A", "F", "A", "M", "B", "F", "B", "M", "C", "F", "C", "M"};
    static const int64_t want[] = {20, 8};
    struct planned planned;
    struct site site;
    struct arena arena = {0};
    planned_make(&planned, &schema, KEYED, 0.5);
    stored(&site, &planned, 6);
    set_keys(&site, 6, texts);
    assert_int_equal(
        query_release_withhold(&planned.query, &planned.layout, 8, &arena, &site.answer), E_OK);
    expect_units(&planned, &site.answer, 2, want);
    const struct proto_text *keys = site.answer.keys.items;
    assert_int_equal(site.answer.keys.count, 4);
    assert_true(span_equal(keys[0].text, span_str("B")) &&
                span_equal(keys[1].text, span_str("F")) &&
                span_equal(keys[2].text, span_str("C")) && span_equal(keys[3].text, span_str("F")));
    site.answer.keys.count--;
    assert_int_equal(
        query_release_withhold(&planned.query, &planned.layout, 8, &arena, &site.answer),
        E_CORRUPT);
    site_fini(&site);
    proto_query_fini(&planned.query);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(honest_sites_pass),
        cmocka_unit_test(other_shapes_are_malformed),
        cmocka_unit_test(extremes_are_out_of_range),
        cmocka_unit_test(contradictions_are_out_of_range),
        cmocka_unit_test(what_passes_is_finite),
        cmocka_unit_test(withheld_cells_lack_the_site),
        cmocka_unit_test(keys_are_merged),
        cmocka_unit_test(keys_must_ascend_and_be_declared),
        cmocka_unit_test(lonely_groups_stay_hidden),
        cmocka_unit_test(stored_answers_keep_the_cohort_of_now),
        cmocka_unit_test(stored_groups_keep_the_cohort_of_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
