/* Contribution bounding alone: the hash, which rows are kept, and that they do not depend on other units. */
#include "config.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "node/query/bound.h"
#include "tests/lib/seed.h"

/* SipHash-2-4 of 00 01 .. 07 under the key 00 01 .. 0f: the ninth of the vectors published with its reference code. */
static void hash_known_answer(void **state)
{
    (void)state;
    uint8_t key[16];
    for (uint8_t i = 0; i < 16; i++) {
        key[i] = i;
    }
    assert_int_equal(query_bound_hash(key, UINT64_C(0x0706050403020100)),
                     UINT64_C(0x93f5f5799a932462));
}

/* Independent of the module: the definition for a message of any length, from the paper's section 2. It reproduces the
 * worked example of the paper's appendix A (15 bytes), which then lends credit to it for other 8-byte messages. */
static uint64_t siphash(const uint8_t key[16], const uint8_t *m, size_t len)
{
#define LE(p)                                                                                      \
    ((uint64_t)(p)[0] | (uint64_t)(p)[1] << 8 | (uint64_t)(p)[2] << 16 | (uint64_t)(p)[3] << 24 |  \
     (uint64_t)(p)[4] << 32 | (uint64_t)(p)[5] << 40 | (uint64_t)(p)[6] << 48 |                    \
     (uint64_t)(p)[7] << 56)
#define ROT(x, b) ((x) << (b) | (x) >> (64 - (b)))
    uint64_t a = LE(key) ^ UINT64_C(0x736f6d6570736575),
             b = LE(key + 8) ^ UINT64_C(0x646f72616e646f6d);
    uint64_t c = LE(key) ^ UINT64_C(0x6c7967656e657261),
             d = LE(key + 8) ^ UINT64_C(0x7465646279746573);
    for (size_t at = 0; at <= len / 8; at++) {
        uint8_t word[8] = {0};
        memcpy(word, m + at * 8, at < len / 8 ? 8 : len % 8);
        word[7] = at < len / 8 ? word[7] : (uint8_t)len;
        d ^= LE(word);
        for (int round = 0; round < 6; round++) {
            if (round == 2) { /* two for the word, and four more behind the last one */
                a ^= LE(word);
                if (at < len / 8) {
                    break;
                }
                c ^= 0xff;
            }
            a += b, c += d, b = ROT(b, 13) ^ a, d = ROT(d, 16) ^ c, a = ROT(a, 32);
            c += b, a += d, b = ROT(b, 17) ^ c, d = ROT(d, 21) ^ a, c = ROT(c, 32);
        }
    }
    return a ^ b ^ c ^ d;
}

static void hash_is_the_papers(void **state)
{
    (void)state;
    uint8_t key[16];
    uint8_t message[15];
    for (uint8_t i = 0; i < 16; i++) {
        key[i] = i;
        message[i < 15 ? i : 0] = i < 15 ? i : 0;
    }
    assert_int_equal(siphash(key, message, sizeof message), UINT64_C(0xa129ca6149be45e5));
    struct seed seed = seed_of(seed_number(1));
    for (int i = 0; i < 1000; i++) {
        uint64_t number = seed_next(&seed);
        uint8_t bytes[8];
        for (int j = 0; j < 8; j++) {
            bytes[j] = (uint8_t)(number >> 8 * j);
            key[j] = (uint8_t)seed_next(&seed);
        }
        assert_int_equal(query_bound_hash(key, number), siphash(key, bytes, 8));
    }
}

#define ROWS  6000
#define UNITS 300

/* Rows as batches of a scan, in pieces of 1,000 rows that carry their own row numbers. */
struct rows {
    size_t count;
    uint32_t unit[ROWS];
    uint64_t number[ROWS]; /* ascending by one */
    bool selected[ROWS];
    bool kept[ROWS];
};

enum step {
    COUNT,
    RANK,
    FILTER
};

static void walk(struct query_bound *bound, struct rows *rows, enum step step)
{
    for (size_t first = 0; first < rows->count; first += 1000) {
        uint64_t selected[16] = {0};
        struct store_batch batch = {.rows = rows->count - first < 1000 ? rows->count - first : 1000,
                                    .first_row = rows->number[first],
                                    .selected = selected,
                                    .unit = rows->unit + first};
        for (size_t i = 0; i < batch.rows; i++) {
            selected[i / 64] |= (uint64_t)rows->selected[first + i] << (i % 64);
        }
        if (step == COUNT) {
            query_bound_count(bound, &batch);
        } else if (step == RANK) {
            query_bound_rank(bound, &batch);
        } else {
            uint64_t keep[16];
            memcpy(keep, selected, sizeof keep);
            query_bound_filter(bound, &batch, keep);
            for (size_t i = 0; i < batch.rows; i++) {
                rows->kept[first + i] = keep[i / 64] >> (i % 64) & 1;
            }
        }
    }
}

static void bound_rows(struct query_bound *bound, struct rows *rows, uint32_t limit,
                       const uint8_t key[16])
{
    bool again;
    const struct privacy_bounds bounds = {limit, limit, 1};
    assert_int_equal(query_bound_init(bound, UNITS, &bounds, 1, ROWS), E_OK);
    if (key) {
        memcpy(bound->key, key, 16);
    }
    walk(bound, rows, COUNT);
    assert_int_equal(query_bound_counted(bound, &again), E_OK);
    if (again) {
        walk(bound, rows, RANK);
    }
    walk(bound, rows, FILTER);
}

/* A few units have many rows, most have some. */
static void make_rows(struct rows *rows, struct seed *seed)
{
    rows->count = ROWS;
    for (size_t i = 0; i < ROWS; i++) {
        rows->unit[i] =
            (uint32_t)(seed_below(seed, 4) ? seed_below(seed, UNITS) : seed_below(seed, 5));
        rows->number[i] = 123456 + i;
        rows->selected[i] = seed_below(seed, 10) < 8;
    }
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void keeps_the_smallest(void **state)
{
    (void)state;
    static struct rows rows;
    static uint64_t hashes[ROWS];
    static const uint32_t limits[] = {1, 2, 3, 8, 25, 100000};
    struct seed seed = seed_of(seed_number(2));
    for (size_t l = 0; l < sizeof limits / sizeof *limits; l++) {
        struct query_bound bound;
        make_rows(&rows, &seed);
        bound_rows(&bound, &rows, limits[l], NULL);
        for (uint32_t unit = 0; unit < UNITS; unit++) {
            size_t count = 0;
            for (size_t i = 0; i < ROWS; i++) {
                if (rows.selected[i] && rows.unit[i] == unit) {
                    hashes[count++] = query_bound_hash(bound.key, rows.number[i]);
                }
            }
            qsort(hashes, count, sizeof *hashes, by_number);
            size_t most = count < limits[l] ? count : limits[l];
            size_t kept = 0;
            for (size_t i = 0; i < ROWS; i++) {
                if (rows.unit[i] != unit) {
                    continue;
                }
                bool expected = rows.selected[i] &&
                                query_bound_hash(bound.key, rows.number[i]) <= hashes[most - 1];
                assert_int_equal(rows.kept[i], expected);
                kept += rows.kept[i];
            }
            assert_int_equal(kept, most);
        }
        query_bound_fini(&bound);
    }
}

/* Groups with the smallest hashes, in each the rows with the smallest hashes, until a bound is met; by the definition. */
static void keeps_the_smallest_groups(void **state)
{
    (void)state;
    static struct rows rows;
    static uint32_t cells[ROWS];
    struct seed seed = seed_of(seed_number(5));
    for (int turn = 0; turn < 30; turn++) {
        enum {
            CELLS = 7
        };
        struct query_bound bound;
        bool again;
        struct privacy_bounds limits = {1 + (uint32_t)seed_below(&seed, 30),
                                        1 + (uint32_t)seed_below(&seed, 6),
                                        1 + (uint32_t)seed_below(&seed, 4)};
        make_rows(&rows, &seed);
        for (size_t i = 0; i < ROWS; i++) {
            cells[i] = (uint32_t)seed_below(&seed, CELLS);
            rows.number[i] = i; /* as in a table */
        }
        assert_int_equal(query_bound_init(&bound, UNITS, &limits, CELLS, ROWS), E_OK);
        walk(&bound, &rows, COUNT);
        assert_int_equal(query_bound_counted(&bound, &again), E_OK);
        if (!bound.grouped) { /* the rows in all are the only bound */
            query_bound_fini(&bound);
            continue;
        }
        assert_true(again);
        for (size_t i = 0; i < ROWS; i++) {
            struct store_batch batch = {.rows = 1, .first_row = i, .unit = rows.unit + i};
            if (rows.selected[i]) {
                query_bound_gather(&bound, &batch, 0, cells[i], CELLS);
            }
        }
        assert_int_equal(query_bound_choose(&bound), E_OK);
        for (uint32_t unit = 0; unit < UNITS; unit++) {
            uint64_t order[CELLS];
            uint32_t left = limits.rows;
            for (uint32_t c = 0; c < CELLS; c++) {
                order[c] = query_bound_hash(bound.group_key, (uint64_t)unit * CELLS + c);
            }
            for (uint32_t taken = 0, cell = 0; taken < limits.cells && left > 0; taken++) {
                uint64_t hashes[ROWS];
                size_t count = 0;
                bool any = false;
                for (uint32_t c = 0; c < CELLS; c++) { /* the next group in which the unit is */
                    bool here = false;
                    for (size_t i = 0; i < ROWS && !here; i++) {
                        here = rows.selected[i] && rows.unit[i] == unit && cells[i] == c;
                    }
                    if (here && order[c] && (!any || order[c] < order[cell])) {
                        cell = c;
                        any = true;
                    }
                }
                if (!any) {
                    break;
                }
                order[cell] = 0;
                for (size_t i = 0; i < ROWS; i++) {
                    if (rows.selected[i] && rows.unit[i] == unit && cells[i] == cell) {
                        hashes[count++] = query_bound_hash(bound.key, i);
                    }
                }
                qsort(hashes, count, sizeof *hashes, by_number);
                size_t most = count < limits.rows_per_cell ? count : limits.rows_per_cell;
                most = most < left ? most : left;
                for (size_t i = 0; i < ROWS; i++) {
                    bool kept = !(bound.dropped[i / 64] >> (i % 64) & 1);
                    if (rows.selected[i] && rows.unit[i] == unit && cells[i] == cell) {
                        bool expected = query_bound_hash(bound.key, i) <= hashes[most - 1];
                        assert_int_equal(kept, expected);
                    }
                }
                left -= (uint32_t)most;
            }
            size_t kept = 0; /* and nothing beyond the bounds */
            for (size_t i = 0; i < ROWS; i++) {
                kept += rows.selected[i] && rows.unit[i] == unit &&
                        !(bound.dropped[i / 64] >> (i % 64) & 1);
            }
            assert_true(kept <= limits.rows);
            assert_true(kept <= (size_t)limits.cells * limits.rows_per_cell);
        }
        query_bound_fini(&bound);
    }
}

/* Rows of other units, whatever they are, change nothing for the rows that stay. */
static void units_are_independent(void **state)
{
    (void)state;
    static struct rows rows;
    static struct rows other;
    struct seed seed = seed_of(seed_number(3));
    uint8_t key[16];
    for (int turn = 0; turn < 20; turn++) {
        struct query_bound bound;
        uint32_t limit = 1 + (uint32_t)seed_below(&seed, 6);
        for (int i = 0; i < 16; i++) {
            key[i] = (uint8_t)seed_next(&seed);
        }
        make_rows(&rows, &seed);
        other = rows;
        uint32_t stays = (uint32_t)seed_below(&seed, 10);
        for (size_t i = 0; i < ROWS; i++) { /* other rows move to other units, come and go */
            if (rows.unit[i] != stays) {
                other.unit[i] = (uint32_t)(seed_below(&seed, 2) ? (stays + 1) % UNITS : UNITS - 1);
                other.selected[i] = seed_below(&seed, 2);
            }
        }
        bound_rows(&bound, &rows, limit, key);
        query_bound_fini(&bound);
        bound_rows(&bound, &other, limit, key);
        query_bound_fini(&bound);
        size_t kept = 0;
        for (size_t i = 0; i < ROWS; i++) {
            if (rows.unit[i] == stays) {
                assert_int_equal(rows.kept[i], other.kept[i]);
                kept += rows.kept[i];
            }
        }
        assert_true(kept > 0 && kept <= limit);
    }
}

/* A fresh key chooses fresh rows: over 400 keys each of a unit's four rows is the kept one about 100 times. */
static void keys_are_fresh(void **state)
{
    (void)state;
    static struct rows rows;
    memset(&rows, 0, sizeof rows);
    rows.count = 4;
    int chosen[4] = {0};
    for (size_t i = 0; i < 4; i++) {
        rows.number[i] = i;
        rows.selected[i] = true;
    }
    for (int turn = 0; turn < 400; turn++) {
        struct query_bound bound;
        bound_rows(&bound, &rows, 1, NULL);
        for (size_t i = 0; i < 4; i++) {
            chosen[i] += rows.kept[i];
        }
        query_bound_fini(&bound);
    }
    for (size_t i = 0; i < 4;
         i++) { /* 8 standard deviations of binomial(400, 1/4): chance below 1e-13 */
        assert_in_range(chosen[i], 31, 169);
    }
    assert_int_equal(chosen[0] + chosen[1] + chosen[2] + chosen[3], 400);
}

static void seen_set_counts(void **state)
{
    (void)state;
    struct query_bound bound;
    struct seed seed = seed_of(seed_number(4));
    static bool seen[200][64];
    assert_int_equal(query_bound_init(&bound, 200, &(struct privacy_bounds){3, 3, 3}, 3, 1), E_OK);
    size_t expected = 0;
    for (int i = 0; i < 60000; i++) {
        uint32_t unit = (uint32_t)seed_below(&seed, 200);
        uint64_t cell = seed_below(&seed, 64);
        bool first;
        assert_int_equal(query_bound_first(&bound, unit, cell, 64, &first), E_OK);
        assert_int_equal(first, !seen[unit][cell]);
        expected += first;
        seen[unit][cell] = true;
    }
    assert_int_equal(bound.seen_count, expected);
    assert_true(expected > 8000); /* so that the table grew */
    query_bound_fini(&bound);
}

/* No failed allocation leaks or crashes. */
static void memory_runs_out(void **state)
{
    (void)state;
    static struct rows rows;
    struct seed seed = seed_of(5);
    make_rows(&rows, &seed);
    for (uint64_t nth = 1; nth <= 3; nth++) {
        struct query_bound bound;
        bool again = false;
        proto_alloc_fail_at(nth);
        enum err err = query_bound_init(&bound, UNITS, &(struct privacy_bounds){2, 2, 1}, 1, 1);
        if (!err) {
            walk(&bound, &rows, COUNT);
            err = query_bound_counted(&bound, &again);
        }
        proto_alloc_fail_at(0);
        assert_int_equal(err, E_NO_MEMORY);
        query_bound_fini(&bound);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_known_answer),     cmocka_unit_test(hash_is_the_papers),
        cmocka_unit_test(keeps_the_smallest),    cmocka_unit_test(keeps_the_smallest_groups),
        cmocka_unit_test(units_are_independent), cmocka_unit_test(keys_are_fresh),
        cmocka_unit_test(seen_set_counts),       cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
