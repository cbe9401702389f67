/* Classification reports against the golden cases, which agree with the seqeval package. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "node/model/report.h"
#include "tests/lib/vectors.h"

static const char **tags_of(const json_t *list)
{
    size_t count = json_array_size(list);
    const char **tags = proto_alloc(count + 1, sizeof *tags);
    assert_non_null(tags);
    for (size_t i = 0; i < count; i++) {
        tags[i] = json_string_value(json_array_get(list, i));
    }
    return tags;
}

static void add_all(struct model_report *report, const json_t *test)
{
    const json_t *gold = json_object_get(test, "gold"),
                 *predicted = json_object_get(test, "predicted");
    assert_int_equal(json_array_size(gold), json_array_size(predicted));
    for (size_t s = 0; s < json_array_size(gold); s++) {
        const char **a = tags_of(json_array_get(gold, s)),
                   **b = tags_of(json_array_get(predicted, s));
        assert_int_equal(model_report_add(report, a, b, json_array_size(json_array_get(gold, s))),
                         E_OK);
        proto_free(a);
        proto_free(b);
    }
}

/* Both trees have the same keys, and numbers equal to 1e-12. */
static void same(const char *name, const json_t *want, const json_t *got)
{
    if (json_is_object(want)) {
        const char *key;
        json_t *value;
        assert_int_equal(json_object_size(want), json_object_size(got));
        json_object_foreach((json_t *)want, key, value)
        {
            same(name, value, json_object_get(got, key));
        }
        return;
    }
    assert_true(json_is_number(want) && json_is_number(got));
    if (fabs(json_number_value(want) - json_number_value(got)) > 1e-12) {
        fail_msg("%s: %.17g, expected %.17g", name, json_number_value(got),
                 json_number_value(want));
    }
}

static unsigned check(const json_t *test, const char *mode)
{
    const json_t *want = json_object_get(test, mode);
    if (!want) {
        return 0;
    }
    struct model_report report = {.strict = strcmp(mode, "default") != 0};
    struct buf json = {.max = 1 << 20};
    json_error_t why;
    add_all(&report, test);
    assert_int_equal(model_report_json(&report, &json), E_OK);
    json_t *got = json_loadb((const char *)json.ptr, json.len, 0, &why);
    assert_non_null(got);
    same(json_string_value(json_object_get(test, "name")), want, got);
    json_decref(got);
    buf_fini(&json);
    model_report_fini(&report);
    return 1;
}

static void golden_cases(void **state)
{
    (void)state;
    json_t *all = vectors_json("bert/seqeval.json");
    unsigned plain = 0, strict = 0;
    for (size_t i = 0; i < json_array_size(all); i++) {
        plain += check(json_array_get(all, i), "default");
        strict += check(json_array_get(all, i), "strict_iob2");
    }
    assert_int_equal(plain, 40);
    assert_in_range(strict, 20, 40);
    json_decref(all);
}

static void text_is_a_table(void **state)
{
    (void)state;
    const char *gold[] = {"B-Disease", "I-Disease", "O", "B-Drug"};
    const char *predicted[] = {"B-Disease", "I-Disease", "O", "O"};
    struct model_report report = {0};
    struct buf text = {.max = 4096};
    assert_int_equal(model_report_add(&report, gold, predicted, 4), E_OK);
    assert_int_equal(model_report_text(&report, &text), E_OK);
    assert_int_equal(buf_put(&text, span_of("", 1)), E_OK);
    assert_string_equal((const char *)text.ptr,
                        "type          precision     recall         f1    support\n"
                        "Disease            1.00       1.00       1.00          1\n"
                        "Drug               0.00       0.00       0.00          1\n"
                        "micro avg          1.00       0.50       0.67          2\n"
                        "macro avg          0.50       0.50       0.50          2\n"
                        "weighted avg       0.50       0.50       0.50          2\n");
    buf_fini(&text);
    model_report_fini(&report);
}

static void refuses(void **state)
{
    (void)state;
    const char *gold[] = {""};
    struct model_report report = {0};
    assert_int_equal(model_report_add(&report, gold, gold, 1), E_INVALID);
    assert_int_equal(model_report_micro(&report).support, 0);
    for (uint64_t n = 1; n <= 5; n++) {
        const char *tags[] = {"B-A", "B-B"};
        struct model_report failing = {0};
        proto_alloc_fail_at(n);
        assert_int_equal(model_report_add(&failing, tags, tags, 2), E_NO_MEMORY);
        proto_alloc_fail_at(0);
        model_report_fini(&failing);
    }
    model_report_fini(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_cases),
        cmocka_unit_test(text_is_a_table),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
