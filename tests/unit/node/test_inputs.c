/* Requests of the inference service: what they become, and what is refused where. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "node/model/inputs.h"

static void texts(void **state)
{
    struct model_inputs in;
    (void)state;
    assert_int_equal(
        model_inputs_read(span_str("{\"texts\": [\"a b\", \"\", \"c\\nd\\r\\n\\u00fc\"]}"), &in,
                          NULL),
        E_OK);
    assert_false(in.table);
    assert_int_equal(in.count, 3);
    assert_true(span_is(buf_span(&in.lines), "a b\n\nc d  \xc3\xbc\n"));
    model_inputs_fini(&in);
}

static void rows(void **state)
{
    struct model_inputs in;
    (void)state;
    assert_int_equal(
        model_inputs_read(
            span_str("{\"columns\": [\"age\", \"sex\"],"
                     " \"rows\": [[63, \"F\"], [0.1, null], [-9007199254740993, \"\"]]}"),
            &in, NULL),
        E_OK);
    assert_true(in.table && in.count == 3 && in.columns == 2);
    assert_true(span_is(in.names[0], "age") && span_is(in.names[1], "sex"));
    assert_true(span_is(in.cells[0], "63") && span_is(in.cells[1], "F"));
    assert_true(strtod((const char *)in.cells[2].ptr, NULL) == 0.1 && in.cells[3].len == 0);
    assert_true(span_is(in.cells[4], "-9007199254740993") && in.cells[5].len == 0);
    model_inputs_fini(&in);
}

static void refused(void **state)
{
    static const struct {
        const char *json, *words;
        enum err err;
    } cases[] = {
        {"", "no JSON", E_INVALID},
        {"[\"a\"]", "is wanted", E_INVALID},
        {"{}", "is wanted", E_INVALID},
        {"{\"texts\": [\"a\"], \"rows\": []}", "is wanted", E_INVALID},
        {"{\"texts\": [\"a\"], \"texts\": [\"b\"]}", "no JSON", E_INVALID},
        {"{\"texts\": [\"a\", 7]}", "texts[1]", E_INVALID},
        {"{\"texts\": [\"\\u0000\"]}", "no JSON", E_INVALID},
        {"{\"texts\": {}}", "texts", E_INVALID},
        {"{\"columns\": [], \"rows\": [[]]}", "columns", E_INVALID},
        {"{\"columns\": [1], \"rows\": [[1]]}", "columns[0]", E_INVALID},
        {"{\"columns\": [\"a\"], \"rows\": []}", "rows", E_INVALID},
        {"{\"columns\": [\"a\"], \"rows\": [[1], [1, 2]]}", "rows[1]", E_INVALID},
        {"{\"columns\": [\"a\"], \"rows\": [[true]]}", "rows[0][0]", E_INVALID},
        {"{\"columns\": [\"a\"], \"rows\": [[[]]]}", "rows[0][0]", E_INVALID},
        {"{\"columns\": [\"a\"], \"rows\": [[1e999]]}", "no JSON", E_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_inputs in;
        struct err_info info = {0};
        print_message("%s\n", cases[i].json);
        assert_int_equal(model_inputs_read(span_str(cases[i].json), &in, &info), cases[i].err);
        assert_non_null(strstr(info.text, cases[i].words));
    }
}

/* Exactly at a limit it is taken, one more is refused. */
static void limits(void **state)
{
    (void)state;
    for (size_t over = 0; over < 2; over++) {
        struct model_inputs in;
        struct buf many = {.max = 1 << 20}, one = {.max = 1 << 20};
        enum err err = buf_printf(&many, "{\"texts\": [\"\"");
        for (size_t i = 1; i < MODEL_INPUTS_MAX + over; i++) {
            err = err ? err : buf_printf(&many, ",\"a\"");
        }
        err = err ? err : buf_printf(&many, "]}");
        err = err ? err
                  : buf_printf(&one, "{\"texts\": [\"%0*d\"]}", (int)(MODEL_INPUTS_TEXT_MAX + over),
                               7);
        assert_int_equal(err, E_OK);
        const struct buf *both[] = {&many, &one};
        for (size_t i = 0; i < 2; i++) {
            err = model_inputs_read(buf_span(both[i]), &in, NULL);
            assert_int_equal(err, over ? E_LIMIT : E_OK);
            if (!err) {
                model_inputs_fini(&in);
            }
        }
        buf_fini(&many);
        buf_fini(&one);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(rows),
        cmocka_unit_test(refused),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
