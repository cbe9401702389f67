/* The corners of CSV: quotes, line ends, marks, and what makes a row unusable. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "store/parse.h"
#include "store/reader_csv.h"
#include "tests/lib/seed.h"

static struct store_source *open_text(const char *text)
{
    struct store_source *source = NULL;
    struct err_info info = {0};
    assert_int_equal(store_reader_csv_bytes(span_str(text), ',', &source, &info), E_OK);
    return source;
}

static struct store_row next(struct store_source *source)
{
    struct store_row row;
    struct err_info info = {0};
    assert_int_equal(source->next(source, &row, &info), E_OK);
    return row;
}

static void expect(struct store_source *source, uint64_t line, const char *a, const char *b)
{
    struct store_row row = next(source);
    assert_false(row.end);
    assert_null(row.fault);
    assert_int_equal(row.line, line);
    assert_int_equal(row.count, 2);
    assert_string_equal(row.fields[0].text, a);
    assert_string_equal(row.fields[1].text, b);
    assert_int_equal(row.fields[1].len, strlen(b));
}

static void expect_fault(struct store_source *source, uint64_t line, const char *word)
{
    struct store_row row = next(source);
    assert_int_equal(row.line, line);
    assert_non_null(row.fault);
    assert_non_null(strstr(row.fault, word));
}

static void plain_quotes_and_line_ends(void **state)
{
    (void)state;
    struct store_source *source =
        open_text("\xef\xbb\xbf"
                  "a,creatinine \r\n1,2\r\n\r\n\"x, \"\"y\"\"\",\"two\nlines\"\n"
                  " 3 ,\n4,last");
    assert_int_equal(source->header_count, 2);
    assert_string_equal(source->header[0].text, "a");
    assert_string_equal(source->header[1].text, "creatinine ");
    expect(source, 2, "1", "2");
    expect(source, 4, "x, \"y\"", "two\nlines");
    expect(source, 6, " 3 ", "");
    expect(source, 7, "4", "last");
    assert_true(next(source).end);
    assert_true(next(source).end);
    source->free(source);
}

static void old_line_ends(void **state)
{
    (void)state;
    struct store_source *source = open_text("a,b\r1,2\r3,4\r");
    expect(source, 2, "1", "2");
    expect(source, 3, "3", "4");
    assert_true(next(source).end);
    source->free(source);
}

static void unusable_rows_are_named_by_line(void **state)
{
    (void)state;
    struct store_source *source =
        open_text("a,b\n1\n1,2,3\n\"q\"x,2\n5,6\nbad\"quote,1\n\xff,1\n7,8\n\"open,1\n9,9\n");
    expect_fault(source, 2, "fewer");
    expect_fault(source, 3, "more");
    expect_fault(source, 4, "quote");
    expect(source, 5, "5", "6");
    expect_fault(source, 6, "quote");
    expect_fault(source, 7, "UTF-8");
    expect(source, 8, "7", "8");
    expect_fault(source, 9, "unterminated");
    assert_true(next(source).end);
    source->free(source);
}

static void zero_bytes_are_refused(void **state)
{
    (void)state;
    static const char bytes[] = "a,b\n1\0,2\n3,4\n";
    struct store_source *source = NULL;
    assert_int_equal(store_reader_csv_bytes(span_of(bytes, sizeof bytes - 1), ',', &source, NULL),
                     E_OK);
    expect_fault(source, 2, "zero byte");
    expect(source, 3, "3", "4");
    source->free(source);
}

/* With a quote that nobody closes, and without any. */
static void long_fields_end_the_reading(void **state)
{
    (void)state;
    size_t len = STORE_CSV_FIELD_MAX + 5000;
    char *text = malloc(len + 32);
    assert_non_null(text);
    for (unsigned quoted = 0; quoted < 2; quoted++) {
        memcpy(text, quoted ? "a,b\n\"x" : "a,b\nxx", 6);
        memset(text + 6, 'x', len);
        memcpy(text + 6 + len, ",1\n2,3\n", 8);
        struct store_source *source = open_text(text);
        struct store_row row;
        struct err_info info = {0};
        assert_int_equal(source->next(source, &row, &info), E_LIMIT);
        assert_non_null(strstr(info.text, "line 2"));
        source->free(source);
    }
    /* A row may be longer than a field. */
    memcpy(text, "a,b\n", 4);
    memset(text + 4, 'x', len);
    text[4 + len / 2] = ',';
    memcpy(text + 4 + len, "\n", 2);
    struct store_source *source = open_text(text);
    struct store_row row = next(source);
    assert_null(row.fault);
    assert_int_equal(row.fields[0].len, len / 2);
    assert_int_equal(row.fields[1].len, len - len / 2 - 1);
    source->free(source);
    free(text);
}

/* --- plain rows against libcsv's ------------------------------------------------------------- */

static struct seed seed;

static void put(char *to, size_t *len, const char *bytes, size_t count)
{
    memcpy(to + *len, bytes, count);
    *len += count;
}

/* A field of few characters, some of which make the row unusable. */
static void put_field(char *to, size_t *len)
{
    static const struct {
        const char *bytes;
        size_t len;
    } pieces[] = {{"a", 1}, {"bc", 2}, {" ", 1},  {"\t", 1},   {"\xc3\xa9", 2}, {"-1.5", 4},
                  {"", 0},  {"'", 1},  {"\0", 1}, {"\xff", 1}, {"\xc3", 1}};
    for (uint64_t n = seed_below(&seed, 5); n; n--) {
        size_t i = seed_below(&seed, seed_below(&seed, 30) ? 8 : 11);
        put(to, len, pieces[i].bytes, pieces[i].len);
    }
}

/* The same rows with and without quotes round the first field, which send them through libcsv. */
static void make_pair(char *plain, size_t *plain_len, char *quoted, size_t *quoted_len)
{
    static const char *const ends[] = {"\n", "\r\n", "\n", "\r"};
    *plain_len = *quoted_len = 0;
    put(plain, plain_len, "x,y,z\n", 6);
    put(quoted, quoted_len, "x,y,z\n", 6);
    for (unsigned row = 0; row < 60; row++) {
        char rest[256], first[64];
        size_t rest_len = 0, first_len = 0;
        put_field(first, &first_len);
        for (uint64_t n = seed_below(&seed, 8) ? 2 : 1 + seed_below(&seed, 3); n; n--) {
            put(rest, &rest_len, ",", 1);
            put_field(rest, &rest_len);
        }
        const char *end = ends[seed_below(&seed, row < 40 ? 3 : 4)];
        put(rest, &rest_len, end, row < 59 ? strlen(end) : seed_below(&seed, 2));
        put(plain, plain_len, first, first_len);
        put(quoted, quoted_len, "\"", 1);
        put(quoted, quoted_len, first, first_len);
        put(quoted, quoted_len, "\"", 1);
        put(plain, plain_len, rest, rest_len);
        put(quoted, quoted_len, rest, rest_len);
        if (seed_below(&seed, 9) == 0) { /* a blank line */
            put(plain, plain_len, "\n", 1);
            put(quoted, quoted_len, "\n", 1);
        }
    }
}

static void plain_rows_are_what_libcsv_makes_of_them(void **state)
{
    (void)state;
    static char plain[32768], quoted[32768];
    seed = seed_of(seed_number(21));
    unsigned faults = 0, rows = 0;
    for (unsigned round = 0; round < 300; round++) {
        size_t plain_len, quoted_len;
        struct store_source *a = NULL, *b = NULL;
        struct err_info info = {0};
        make_pair(plain, &plain_len, quoted, &quoted_len);
        assert_int_equal(store_reader_csv_bytes(span_of(plain, plain_len), ',', &a, &info), E_OK);
        assert_int_equal(store_reader_csv_bytes(span_of(quoted, quoted_len), ',', &b, &info), E_OK);
        for (struct store_row x = next(a), y = next(b);; x = next(a), y = next(b)) {
            assert_int_equal(x.end, y.end);
            if (x.end) {
                break;
            }
            assert_int_equal(x.line, y.line);
            assert_int_equal(x.fault != NULL, y.fault != NULL);
            faults += x.fault != NULL;
            rows++;
            if (x.fault) {
                assert_string_equal(x.fault, y.fault);
                continue;
            }
            assert_int_equal(x.count, y.count);
            for (size_t i = 0; i < x.count; i++) {
                assert_int_equal(x.fields[i].len, y.fields[i].len);
                assert_string_equal(x.fields[i].text, y.fields[i].text);
            }
        }
        a->free(a);
        b->free(b);
    }
    assert_true(faults > 500 && rows > 10000);
}

static void no_header_no_source(void **state)
{
    (void)state;
    struct store_source *source = NULL;
    struct err_info info = {0};
    assert_int_equal(store_reader_csv_bytes(span_str(""), ',', &source, &info), E_INVALID);
    assert_int_equal(store_reader_csv_bytes(span_str("\"a"), ',', &source, &info), E_INVALID);
    assert_int_equal(store_reader_csv_open("/nonexistent/x.csv", ',', &source, &info), E_NOT_FOUND);
}

static void other_delimiters(void **state)
{
    (void)state;
    static const char delimiters[] = {';', '\t', '|'};
    for (size_t i = 0; i < sizeof delimiters; i++) {
        char text[] = "a#b\r\n1,5#2\n\"x#y\"#\"two\nlines\"\n#,\n1\n1#2#3\n";
        for (char *at = text; *at; at++) {
            *at = *at == '#' ? delimiters[i] : *at;
        }
        char quoted[] = {'x', delimiters[i], 'y', 0};
        struct store_source *source = NULL;
        assert_int_equal(store_reader_csv_bytes(span_str(text), delimiters[i], &source, NULL),
                         E_OK);
        assert_int_equal(source->header_count, 2);
        expect(source, 2, "1,5", "2");
        expect(source, 3, quoted, "two\nlines");
        expect(source, 5, "", ",");
        expect_fault(source, 6, "fewer");
        expect_fault(source, 7, "more");
        assert_true(next(source).end);
        source->free(source);
    }
}

static void numbers_parse(void **state)
{
    (void)state;
    double x;
    assert_null(store_parse_integer(span_str(" -17 "), &x));
    assert_true(x == -17);
    assert_null(store_parse_integer(span_str("9007199254740992"), &x));
    assert_non_null(store_parse_integer(span_str("9007199254740993"), &x));
    assert_non_null(store_parse_integer(span_str("12.0"), &x));
    assert_non_null(store_parse_integer(span_str("-"), &x));
    assert_non_null(store_parse_integer(span_str(""), &x));
    static const char *const reals[] = {"0.1",
                                        "-0.683",
                                        "1e-3",
                                        "123456789.123456789",
                                        "5.",
                                        ".5",
                                        "+2E+2",
                                        "0.30000000000000004",
                                        "999999999999999"};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        assert_null(store_parse_real(span_str(reals[i]), &x));
        assert_true(x == strtod(reals[i], NULL));
    }
    static const char *const bad[] = {"nan", "inf",   "0x1p3", "1e", ".",
                                      "1 2", "1e999", "--1",   "1,2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_non_null(store_parse_real(span_str(bad[i]), &x));
    }
    assert_null(store_parse_real_comma(span_str(" -0,683 "), &x));
    assert_true(x == -0.683);
    assert_null(store_parse_real_comma(span_str("12"), &x));
    assert_true(x == 12);
    static const char *const not_comma[] = {"1.5", "1.234,5", "1,2,3", ",", "", "1,5x", "1,e"};
    for (size_t i = 0; i < sizeof not_comma / sizeof *not_comma; i++) {
        assert_non_null(store_parse_real_comma(span_str(not_comma[i]), &x));
    }
    uint32_t code;
    assert_null(store_parse_boolean(span_str("Yes"), &code));
    assert_int_equal(code, 1);
    assert_non_null(store_parse_boolean(span_str("2"), &code));
    assert_null(store_parse_date(span_str("1970-01-02"), &x));
    assert_true(x == 1);
    assert_non_null(store_parse_date(span_str("2026-02-30"), &x));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_quotes_and_line_ends),
        cmocka_unit_test(old_line_ends),
        cmocka_unit_test(unusable_rows_are_named_by_line),
        cmocka_unit_test(zero_bytes_are_refused),
        cmocka_unit_test(long_fields_end_the_reading),
        cmocka_unit_test(other_delimiters),
        cmocka_unit_test(plain_rows_are_what_libcsv_makes_of_them),
        cmocka_unit_test(no_header_no_source),
        cmocka_unit_test(numbers_parse),
    };
    return cmocka_run_group_tests_name("reader_csv", tests, NULL, NULL);
}
