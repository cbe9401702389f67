/* JSON lines: what becomes a field, and what makes a line unusable. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "store/json_text.h"
#include "store/reader_ndjson.h"

static const char *const names[] = {"a", "b.c", "x.y", "list.1"};

static struct store_source *open_bytes(const char *text, size_t len)
{
    struct store_source *source = NULL;
    assert_int_equal(store_reader_ndjson_bytes(span_of(text, len), names, 4, &source, NULL), E_OK);
    return source;
}

static struct store_row next(struct store_source *source)
{
    struct store_row row;
    assert_int_equal(source->next(source, &row, NULL), E_OK);
    return row;
}

/* A field's text; NULL: it has no value. */
static void expect(const struct store_row *row, size_t field, const char *text)
{
    assert_null(row->fault);
    assert_int_equal(row->fields[field].null, text == NULL);
    assert_string_equal(row->fields[field].text, text ? text : "");
    assert_int_equal(row->fields[field].len, text ? strlen(text) : 0);
}

static void values_become_fields(void **state)
{
    (void)state;
    static const char text[] =
        "\xef\xbb\xbf{\"b.c\": 2, \"a\": \"x \\u00e9\", \"other\": [1, {}]}\n"
        "\r\n"
        "{\"a\": 0.1, \"b\": {\"c\": true}, \"x\": {\"y\": null}, \"list\": [7, -3]}\n"
        "{\"a\": \"\", \"x\": {\"y\": 1e300}, \"list\": []}\n"
        "{}";
    struct store_source *source = open_bytes(text, sizeof text - 1);
    assert_int_equal(source->header_count, 4);
    struct store_row row = next(source);
    assert_int_equal(row.line, 1);
    expect(&row, 0, "x \xc3\xa9");
    expect(&row, 1, "2");
    expect(&row, 2, NULL);
    row = next(source);
    assert_int_equal(row.line, 3);
    expect(&row, 0, "0.1");
    expect(&row, 1, "true");
    expect(&row, 2, NULL);
    expect(&row, 3, "-3");
    row = next(source);
    expect(&row, 0, "");
    expect(&row, 1, NULL);
    assert_true(strtod(row.fields[2].text, NULL) == 1e300);
    row = next(source);
    assert_int_equal(row.line, 5);
    expect(&row, 0, NULL);
    assert_true(next(source).end);
    assert_true(next(source).end);
    for (size_t i = 0; i < 4; i++) {
        assert_false(source->absent[i]);
    }
    source->free(source);
    source = open_bytes("{\"a\":1}\n", 8);
    row = next(source);
    assert_true(next(source).end);
    assert_false(source->absent[0]);
    assert_true(source->absent[1]);
    source->free(source);
}

static void unusable_lines_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        const char *word;
    } cases[] = {
        {"{\"a\": 1", 7, "not valid JSON"},
        {"[1]", 3, "not a JSON object"},
        {"{\"a\": 1, \"a\": 2}", 16, "twice"},
        {"{\"a\": \"\xff\"}", 10, "UTF-8"},
        {"{\"a\": \"x\0y\"}", 12, "zero byte"},
        {"{\"a\": \"x\\u0000y\"}", 17, "zero byte"},
        {"{\"a\": {\"z\": 1}}", 15, "list or object"},
        {"{\"a\": 123456789012345678901234567890}", 37, "too large"},
        {"{\"a\": 1} {\"a\": 2}", 17, "not valid JSON"},
        {"{\"a\": NaN}", 10, "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[128];
        memcpy(text, cases[i].text, cases[i].len);
        memcpy(text + cases[i].len, "\n{\"a\": 1}\n", 10);
        struct store_source *source = open_bytes(text, cases[i].len + 10);
        struct store_row row = next(source);
        assert_int_equal(row.line, 1);
        assert_non_null(row.fault);
        assert_non_null(strstr(row.fault, cases[i].word));
        row = next(source); /* and the next line is read as if nothing had been */
        assert_int_equal(row.line, 2);
        expect(&row, 0, "1");
        source->free(source);
    }
}

static void depth_and_length_have_limits(void **state)
{
    (void)state;
    size_t len = STORE_JSON_TEXT_MAX + 1000;
    char *text = malloc(len + 20);
    assert_non_null(text);
    memset(text, '[', len);
    memcpy(text, "{\"a\":", 5);
    memcpy(text + len, "\n{\"a\": 1}\n", 11);
    struct store_source *source = open_bytes(text, len + 10);
    assert_non_null(strstr(next(source).fault, "too long"));
    struct store_row row = next(source);
    expect(&row, 0, "1");
    source->free(source);
    memcpy(text + 1000, "\n{\"a\": 1}\n", 11);
    source = open_bytes(text, 1010);
    assert_non_null(strstr(next(source).fault, "deeply"));
    row = next(source);
    expect(&row, 0, "1");
    source->free(source);
    memset(text, 'y', STORE_JSON_FIELD_MAX + 100);
    memcpy(text, "{\"a\":\"", 6);
    memcpy(text + STORE_JSON_FIELD_MAX + 50, "\"}\n", 3);
    source = open_bytes(text, STORE_JSON_FIELD_MAX + 53);
    row = next(source);
    assert_non_null(strstr(row.fault, "too long"));
    assert_string_equal(row.fault_column, "a");
    source->free(source);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_become_fields),
        cmocka_unit_test(unusable_lines_are_named),
        cmocka_unit_test(depth_and_length_have_limits),
    };
    return cmocka_run_group_tests_name("reader_ndjson", tests, NULL, NULL);
}
