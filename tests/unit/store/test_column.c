/* Round trips of each encoding on random data, and damaged bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "store/column.h"
#include "store/pack.h"
#include "tests/lib/seed.h"

static struct seed seed;

static double last_number;

static double random_number(unsigned kind)
{
    switch (kind) {
    case 0:
        return 7;
    case 1:
        return (double)seed_below(&seed, 111);
    case 2:
        return (double)seed_below(&seed, 100000) / 100 - 300;
    case 3:
        return ((double)seed_next(&seed) - 9e18) / 3;
    case 6: /* few values far apart */
        return (double)seed_below(&seed, 20) * 98765;
    case 7: /* few values that are no short decimals */
        return 1 / (3 + (double)seed_below(&seed, 20));
    case 8: /* long runs */
        return seed_below(&seed, 50) ? last_number : (double)seed_below(&seed, 1000);
    case 4:
        return (double)(int64_t)(seed_next(&seed) >> 12) - (double)((uint64_t)1 << 51);
    default:
        return (double)seed_below(&seed, UINT32_MAX) + 1e6;
    }
}

static void fill_nulls(uint64_t *null, size_t rows, unsigned percent)
{
    memset(null, 0, STORE_CHUNK_WORDS * 8);
    for (size_t i = 0; i < rows; i++) {
        if (seed_below(&seed, 100) < percent) {
            null[i / 64] |= (uint64_t)1 << i % 64;
        }
    }
}

static void numbers_come_back(void **state)
{
    (void)state;
    static double values[STORE_CHUNK_ROWS];
    static uint64_t null[STORE_CHUNK_WORDS];
    struct store_chunk chunk = {0};
    unsigned seen[STORE_ENCODING_COUNT] = {0};
    for (unsigned round = 0; round < 90; round++) {
        size_t rows = 1 + seed_below(&seed, round % 10 ? 700 : STORE_CHUNK_ROWS);
        static const unsigned percents[] = {0, 20, 100};
        unsigned percent = percents[round / 9 % 3];
        fill_nulls(null, rows, percent);
        size_t nulls = 0;
        for (size_t i = 0; i < rows; i++) {
            last_number = values[i] = random_number(round % 9);
            nulls += null[i / 64] >> i % 64 & 1;
        }
        struct buf out = {.max = STORE_CHUNK_BYTES_MAX};
        struct store_zone zone;
        struct store_column_input input = {.form = STORE_FORM_NUMBER,
                                           .rows = rows,
                                           .numbers = values,
                                           .null = percent ? null : NULL};
        assert_int_equal(store_column_encode(&input, &out, &zone), E_OK);
        assert_int_equal(store_column_decode(buf_span(&out), STORE_FORM_NUMBER, rows, &chunk),
                         E_OK);
        seen[chunk.encoding]++;
        assert_int_equal(zone.nulls, nulls);
        double min = INFINITY, max = -INFINITY;
        for (size_t i = 0; i < rows; i++) {
            bool missing = null[i / 64] >> i % 64 & 1;
            assert_int_equal(missing, chunk.null && (chunk.null[i / 64] >> i % 64 & 1));
            if (!missing) {
                assert_true(store_column_number(&chunk, i) == values[i]);
                min = fmin(min, values[i]);
                max = fmax(max, values[i]);
            }
        }
        if (nulls < rows) {
            assert_true(zone.min == min && zone.max == max);
        }
        /* Another number of rows or another form is refused. */
        assert_int_equal(store_column_decode(buf_span(&out), STORE_FORM_NUMBER, rows + 1, &chunk),
                         E_CORRUPT);
        assert_int_equal(store_column_decode(buf_span(&out), STORE_FORM_CODE, rows, &chunk),
                         E_CORRUPT);
        buf_fini(&out);
    }
    for (unsigned encoding = 0; encoding < STORE_ENCODING_COUNT; encoding++) {
        assert_true(seen[encoding] || encoding == STORE_ENCODING_TEXT);
    }
    store_chunk_fini(&chunk);
}

/* Bit by bit as doc/format.md says, on its own. */
static uint32_t packed_code(const uint8_t *from, size_t count, unsigned bits, size_t i)
{
    size_t blocks = count / 1024;
    uint64_t code = 0;
    for (unsigned b = 0; b < bits; b++) {
        size_t bit = (i - blocks * 1024) * bits + b; /* behind the blocks */
        const uint8_t *base = from + blocks * 128 * bits;
        if (i < blocks * 1024) {
            size_t in_lane = i % 1024 / 32 * bits + b;
            bit = (in_lane / 32 * 32 + i % 32) * 32 + in_lane % 32;
            base = from + i / 1024 * 128 * bits;
        }
        code |= (uint64_t)(base[bit / 8] >> bit % 8 & 1) << b;
    }
    return (uint32_t)code;
}

static void packing_is_what_the_format_says(void **state)
{
    (void)state;
    static uint32_t codes[5 * 1024 + 1], back[5 * 1024 + 1];
    for (unsigned bits = 0; bits <= 32; bits++) {
        size_t count = bits % 3 == 0 ? 5 * 1024 : 1 + seed_below(&seed, 5 * 1024);
        for (size_t i = 0; i < count; i++) {
            codes[i] = (uint32_t)(seed_next(&seed) & (((uint64_t)1 << bits) - 1));
        }
        size_t size = store_pack_size(count, bits);
        uint8_t *bytes = malloc(size);
        assert_non_null(bytes);
        store_pack(codes, count, bits, bytes);
        store_unpack(bytes, count, bits, 7, back);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(packed_code(bytes, count, bits, i), codes[i]);
            assert_int_equal(back[i], (uint32_t)(codes[i] + 7));
        }
        free(bytes);
    }
}

/* What store_chunk_range finds in packed and in unpacked codes, against a look at each. */
static void ranges_agree(struct span bytes, const struct store_column_input *input)
{
    static uint64_t packed[STORE_CHUNK_WORDS], plain[STORE_CHUNK_WORDS];
    struct store_chunk chunk = {0};
    for (unsigned round = 0; round < 6; round++) {
        assert_int_equal(store_column_open(bytes, STORE_FORM_CODE, input->rows, &chunk), E_OK);
        uint32_t a = input->codes[seed_below(&seed, input->rows)];
        uint32_t b = round % 2 ? a : input->codes[seed_below(&seed, input->rows)];
        uint32_t first = round == 5 ? 0 : a < b ? a : b;
        uint32_t last = round == 4 ? UINT32_MAX : a < b ? b : a;
        store_chunk_range(&chunk, first, last, packed);
        assert_int_equal(store_chunk_unpack(&chunk), E_OK);
        store_chunk_range(&chunk, first, last, plain);
        for (size_t i = 0; i < input->rows; i++) {
            bool in = chunk.code[i] >= first && chunk.code[i] <= last;
            assert_int_equal(packed[i / 64] >> i % 64 & 1, in);
            assert_int_equal(plain[i / 64] >> i % 64 & 1, in);
        }
    }
    store_chunk_fini(&chunk);
}

static void codes_of_every_width_come_back(void **state)
{
    (void)state;
    static uint32_t codes[3001];
    static uint64_t null[STORE_CHUNK_WORDS];
    struct store_chunk chunk = {0};
    for (unsigned bits = 0; bits <= 32; bits++) {
        for (unsigned with_nulls = 0; with_nulls < 2; with_nulls++) {
            size_t rows = 1 + seed_below(&seed, 3000);
            uint32_t base = (uint32_t)seed_below(&seed, 3) * 1000;
            uint64_t top = ((uint64_t)1 << bits) - 1;
            fill_nulls(null, rows, with_nulls ? 30 : 0);
            for (size_t i = 0; i < rows; i++) {
                uint64_t code = (seed_next(&seed) & top) + base;
                codes[i] = code > UINT32_MAX ? UINT32_MAX : (uint32_t)code;
            }
            struct buf out = {.max = STORE_CHUNK_BYTES_MAX};
            struct store_zone zone;
            struct store_column_input input = {.form = STORE_FORM_CODE,
                                               .rows = rows,
                                               .codes = codes,
                                               .null = with_nulls ? null : NULL};
            assert_int_equal(store_column_encode(&input, &out, &zone), E_OK);
            assert_int_equal(store_column_decode(buf_span(&out), STORE_FORM_CODE, rows, &chunk),
                             E_OK);
            assert_int_equal(chunk.base, 0);
            for (size_t i = 0; i < rows; i++) {
                bool missing = null[i / 64] >> i % 64 & 1;
                assert_int_equal(chunk.code[i], missing ? 0 : codes[i]);
                assert_true((uint64_t)chunk.code[i] < (uint64_t)1 << chunk.bits ||
                            chunk.code[i] == 0 || chunk.encoding == STORE_ENCODING_CONSTANT);
            }
            ranges_agree(buf_span(&out), &input);
            buf_fini(&out);
        }
    }
    store_chunk_fini(&chunk);
}

/* Each in its own encoding, with and without missing values and an offset, and no larger than packed would be. */
static void codes_choose_the_smallest(void **state)
{
    (void)state;
    static uint32_t codes[STORE_CHUNK_ROWS];
    static uint64_t null[STORE_CHUNK_WORDS];
    static const enum store_encoding want[] = {STORE_ENCODING_PACKED, STORE_ENCODING_RUNS,
                                               STORE_ENCODING_INDEXES};
    struct store_chunk chunk = {0};
    for (unsigned round = 0; round < 24; round++) {
        unsigned kind = round % 3;
        bool with_nulls = round / 3 % 2;
        uint32_t base = round / 6 % 2 ? 5000000 : 0;
        size_t rows = round < 12 ? STORE_CHUNK_ROWS : 40000;
        fill_nulls(null, rows, 0);
        for (size_t i = 0; i < rows; i++) {
            uint32_t code = (uint32_t)seed_below(&seed, 1 << 20);
            code = kind == 1 ? (uint32_t)(i / 300 * 17) : kind == 2 ? code % 100 * 10007 : code;
            codes[i] = code + base;
        }
        for (size_t i = 1000; with_nulls && i < 2000; i++) { /* in a row, so that runs stay runs */
            null[i / 64] |= (uint64_t)1 << i % 64;
        }
        struct buf out = {.max = STORE_CHUNK_BYTES_MAX};
        struct store_zone zone;
        struct store_column_input input = {.form = STORE_FORM_CODE,
                                           .rows = rows,
                                           .codes = codes,
                                           .null = with_nulls ? null : NULL};
        assert_int_equal(store_column_encode(&input, &out, &zone), E_OK);
        assert_int_equal(zone.encoding, want[kind]);
        assert_true(out.len <= 24 + STORE_CHUNK_WORDS * 8 + store_pack_size(rows, zone.bits));
        assert_int_equal(store_column_decode(buf_span(&out), STORE_FORM_CODE, rows, &chunk), E_OK);
        for (size_t i = 0; i < rows; i++) {
            bool missing = null[i / 64] >> i % 64 & 1;
            assert_int_equal(chunk.code[i], missing ? 0 : codes[i]);
            assert_true((uint64_t)chunk.code[i] < (uint64_t)1 << chunk.bits);
        }
        for (size_t i = rows; i < (rows + 63) / 64 * 64; i++) {
            assert_int_equal(chunk.code[i], 0);
        }
        ranges_agree(buf_span(&out), &input);
        out.ptr[0]++; /* a later version is named, not guessed at */
        assert_int_equal(store_column_decode(buf_span(&out), STORE_FORM_CODE, rows, &chunk),
                         E_UNSUPPORTED);
        buf_fini(&out);
    }
    store_chunk_fini(&chunk);
}

static void text_comes_back(void **state)
{
    (void)state;
    static uint32_t start[501];
    static char text[500 * 40];
    struct store_segment segment = {0};
    for (unsigned round = 0; round < 10; round++) {
        size_t rows = 1 + seed_below(&seed, 500);
        start[0] = 0;
        for (size_t i = 0; i < rows; i++) {
            start[i + 1] = start[i] + (uint32_t)seed_below(&seed, 40);
        }
        for (size_t i = 0; i < start[rows]; i++) {
            text[i] = (char)('a' + seed_below(&seed, 26));
        }
        struct buf out = {.max = STORE_CHUNK_BYTES_MAX};
        assert_int_equal(store_segment_encode(text, start, rows, &out), E_OK);
        assert_int_equal(store_segment_decode(buf_span(&out), rows, &segment), E_OK);
        assert_memory_equal(segment.text_start, start, (rows + 1) * sizeof *start);
        assert_memory_equal(segment.text, text, start[rows]);
        assert_int_equal(store_segment_decode(buf_span(&out), rows + 1, &segment), E_CORRUPT);
        for (unsigned i = 0; i < 200; i++) { /* sanitizers look on */
            size_t at = seed_below(&seed, out.len);
            uint8_t flip = (uint8_t)(1 + seed_below(&seed, 255));
            out.ptr[at] ^= flip;
            (void)!store_segment_decode(buf_span(&out), rows, &segment);
            out.ptr[at] ^= flip;
        }
        buf_fini(&out);
    }
    store_segment_fini(&segment);
}

static void lists_of_segments_come_back(void **state)
{
    (void)state;
    static uint32_t segments[500];
    struct store_chunk chunk = {0};
    for (unsigned round = 0; round < 20; round++) {
        size_t rows = 0;
        size_t count = 1 + seed_below(&seed, 500);
        for (size_t i = 0; i < count; i++) {
            segments[i] = 1 + (uint32_t)seed_below(&seed, 100);
            rows += segments[i];
        }
        struct buf out = {.max = STORE_CHUNK_BYTES_MAX};
        struct store_zone zone;
        struct store_column_input input = {
            .form = STORE_FORM_TEXT, .rows = rows, .segments = segments, .segment_count = count};
        assert_int_equal(store_column_encode(&input, &out, &zone), E_OK);
        assert_int_equal(store_column_decode(buf_span(&out), STORE_FORM_TEXT, rows, &chunk), E_OK);
        assert_int_equal(chunk.segment_count, count);
        assert_memory_equal(chunk.segments, segments, count * sizeof *segments);
        out.ptr[out.len - 1] ^= 1; /* they no longer add up */
        assert_int_equal(store_column_decode(buf_span(&out), STORE_FORM_TEXT, rows, &chunk),
                         E_CORRUPT);
        buf_fini(&out);
    }
    store_chunk_fini(&chunk);
}

/* Sanitizers look on: whatever the bytes, nothing outside is touched. */
static void damaged_bytes_are_harmless(void **state)
{
    (void)state;
    static double values[2100];
    struct store_chunk chunk = {0};
    unsigned refused = 0;
    for (unsigned round = 0; round < 2000; round++) {
        size_t rows = round % 8 ? 300 : 2100;
        for (size_t i = 0; i < rows; i++) {
            last_number = values[i] = random_number(round % 9);
        }
        struct buf out = {.max = STORE_CHUNK_BYTES_MAX};
        struct store_zone zone;
        struct store_column_input input = {
            .form = STORE_FORM_NUMBER, .rows = rows, .numbers = values};
        assert_int_equal(store_column_encode(&input, &out, &zone), E_OK);
        out.ptr[seed_below(&seed, round % 2 ? 24 : out.len)] ^=
            (uint8_t)(1 + seed_below(&seed, 255));
        uint8_t *exact = malloc(out.len);
        assert_non_null(exact);
        memcpy(exact, out.ptr, out.len);
        refused += store_column_decode(span_of(exact, out.len - seed_below(&seed, 2)),
                                       STORE_FORM_NUMBER, rows, &chunk) != E_OK;
        free(exact);
        buf_fini(&out);
    }
    assert_true(refused > 100);
    store_chunk_fini(&chunk);
}

int main(void)
{
    seed = seed_of(seed_number(11));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_is_what_the_format_says),
        cmocka_unit_test(numbers_come_back),
        cmocka_unit_test(codes_of_every_width_come_back),
        cmocka_unit_test(codes_choose_the_smallest),
        cmocka_unit_test(text_comes_back),
        cmocka_unit_test(lists_of_segments_come_back),
        cmocka_unit_test(damaged_bytes_are_harmless),
    };
    return cmocka_run_group_tests_name("column", tests, NULL, NULL);
}
