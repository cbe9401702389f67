/* Our text of a document against the library's, on random trees. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "node/control/json_text.h"
#include "proto/alloc.h"
#include "tests/lib/seed.h"

#include <stdlib.h>
#include <string.h>

static const char *const texts[] = {"",
                                    "NONE",
                                    "one budget for the dataset's life",
                                    "\"",
                                    "\\",
                                    "a\nb\t\x01\x1f\x7f",
                                    "/",
                                    "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
                                    "{",
                                    "[,]:",
                                    "\xe2\x80\xa8",
                                    "quote at the end\""};
#define TEXTS (sizeof texts / sizeof *texts)

static struct seed seed;

/* Low bits choose. */
static uint64_t next_number(void)
{
    return seed_next(&seed) >> 11;
}

static json_t *random_number(void)
{
    static const double reals[] = {0.0,
                                   -0.0,
                                   1.0,
                                   1e-6,
                                   4.359e-6,
                                   992600.303862701,
                                   1e22,
                                   -1.5e300,
                                   0.1,
                                   1e15,
                                   123456789012345678.0,
                                   5e-324};
    uint64_t r = next_number();
    return r % 3 == 0   ? json_integer((json_int_t)next_number())
           : r % 3 == 1 ? json_integer((json_int_t)(next_number() % 100))
                        : json_real(reals[next_number() % (sizeof reals / sizeof *reals)]);
}

static json_t *random_value(unsigned depth);

static json_t *random_tree(unsigned depth)
{
    bool object = next_number() % 2;
    json_t *tree = object ? json_object() : json_array();
    for (uint64_t n = next_number() % 6; n > 0; n--) {
        if (object) {
            json_object_set_new(tree, texts[next_number() % TEXTS], random_value(depth + 1));
        } else {
            json_array_append_new(tree, random_value(depth + 1));
        }
    }
    return tree;
}

static json_t *random_value(unsigned depth)
{
    switch (depth > 6 ? next_number() % 4 : next_number() % 8) {
    case 0:
        return json_string(texts[next_number() % TEXTS]);
    case 1:
        return random_number();
    case 2:
        return next_number() % 2 ? json_boolean(next_number() % 2) : json_null();
    case 3:
        return json_stringn("a\0b", 3);
    default:
        return random_tree(depth);
    }
}

static void compare(json_t *document)
{
    char *ours = control_json_text(document);
    char *library = json_dumps(document, CONTROL_JSON_FORMAT);
    assert_non_null(ours);
    assert_string_equal(ours, library);
    free(library);
    free(ours);
    json_decref(document);
}

static void test_like_the_library(void **state)
{
    (void)state;
    for (size_t i = 0; i < TEXTS; i++) {
        compare(json_string(texts[i]));
    }
    for (int i = 0; i < 3000; i++) {
        compare(random_value(0));
    }
}

static void test_deep(void **state)
{
    (void)state;
    json_t *document = json_string("bottom");
    for (int i = 0; i < 500; i++) {
        document = i % 2 ? json_pack("[o]", document) : json_pack("{s:o}", "in", document);
    }
    compare(document);
}

static void test_no_memory(void **state)
{
    (void)state;
    json_t *document = json_array();
    for (int i = 0; i < 2000; i++) {
        json_array_append_new(document, json_pack("{s:s, s:f}", "clause", "budget", "at", 0.5));
    }
    assert_null(control_json_text(NULL));
    char *text = NULL;
    int failures = 0;
    for (uint64_t nth = 1; !text; nth++, failures++) {
        proto_alloc_fail_at(nth);
        text = control_json_text(document);
    }
    proto_alloc_fail_at(0);
    assert_true(failures > 2);
    char *library = json_dumps(document, CONTROL_JSON_FORMAT);
    assert_string_equal(text, library);
    free(library);
    free(text);
    json_decref(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_the_library),
        cmocka_unit_test(test_deep),
        cmocka_unit_test(test_no_memory),
    };
    seed = seed_of(seed_number(1));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
