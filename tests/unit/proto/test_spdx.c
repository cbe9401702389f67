/* SPDX expressions and what they mean for a model; DUO names; disease hierarchies. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "proto/duo.h"
#include "proto/ontology.h"
#include "proto/spdx.h"
#include "tests/lib/fake_hash.h"

static struct proto_spdx eval(const char *text)
{
    struct proto_spdx value;
    assert_int_equal(proto_spdx_eval(span_str(text), &value, NULL), E_OK);
    return value;
}

static void test_table(void **state)
{
    (void)state;
    assert_int_equal(eval("CC0-1.0").duties, 0);
    assert_int_equal(eval("CC-BY-4.0").duties, PROTO_DUTY_ATTRIBUTION);
    assert_int_equal(eval("CC-BY-ND-4.0").release, PROTO_RELEASE_FEDERATION);
    assert_int_equal(eval("CC-BY-ND-4.0").train, PROTO_SPDX_YES);
    assert_int_equal(eval("NONE").train, PROTO_SPDX_NO);
    assert_int_equal(eval("NOASSERTION").train, PROTO_SPDX_NO);
    assert_int_equal(eval("LicenseRef-mine").train, PROTO_SPDX_NO);
    assert_int_equal(eval("LicenseRef-gemma").train, PROTO_SPDX_HOLD);
    assert_int_equal(eval("Some-Licence-1.0").train, PROTO_SPDX_HOLD);
    assert_int_equal(eval("cc-by-4.0").train, PROTO_SPDX_HOLD); /* ids are case-sensitive */
    assert_true(eval("ODbL-1.0").duties & PROTO_DUTY_METHOD);
}

static void test_expressions(void **state)
{
    (void)state;
    struct proto_spdx value = eval("CC-BY-4.0 AND ODbL-1.0");
    assert_int_equal(value.duties, PROTO_DUTY_ATTRIBUTION | PROTO_DUTY_NOTICE | PROTO_DUTY_METHOD);
    value = eval("NONE OR CC0-1.0");
    assert_int_equal(value.train, PROTO_SPDX_YES);
    assert_string_equal(value.elected, "CC0-1.0");
    /* AND binds tighter: NONE AND MIT is one refused alternative. */
    assert_int_equal(eval("CC0-1.0 OR NONE AND MIT").train, PROTO_SPDX_YES);
    assert_int_equal(eval("(CC0-1.0 OR NONE) AND NONE").train, PROTO_SPDX_NO);
    assert_int_equal(eval("MIT WITH Some-exception").duties, PROTO_DUTY_NOTICE);
    assert_int_equal(eval("GPL-2.0+").train, PROTO_SPDX_YES);
    assert_true(eval("GPL-2.0+").outbound & PROTO_OUTBOUND_GPL3);
    assert_int_equal(eval("((((MIT))))").train, PROTO_SPDX_YES);
}

static void test_syntax_faults(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",         "AND",      "MIT AND",    "MIT MIT", "(MIT",           "MIT)", "()",
        "MIT OR )", "MIT WITH", "MIT WITH (", "MIT,X",   "MIT AND OR MIT", "+",    "MIT ++"};
    struct proto_spdx value;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(proto_spdx_eval(span_str(bad[i]), &value, NULL), E_INVALID);
    }
    char deep[201];
    memset(deep, '(', 200);
    deep[200] = 0;
    assert_int_equal(proto_spdx_eval(span_str(deep), &value, NULL), E_INVALID);
    char longer[PROTO_SPDX_MAX + 2];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(proto_spdx_eval(span_str(longer), &value, NULL), E_LIMIT);
}

static void test_clashes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool clash;
    } table[] = {
        {"CC-BY-SA-4.0 AND CC-BY-NC-SA-4.0", true},
        {"CC-BY-SA-4.0 AND LicenseRef-OpenRAIL-M", true},
        {"CC-BY-SA-4.0 AND LicenseRef-llama3.1", true},
        {"CC-BY-SA-4.0 AND GPL-2.0-only", true},
        {"GPL-2.0-only AND Apache-2.0", true},
        {"CC-BY-SA-4.0 AND GPL-3.0-only", false},
        {"ODbL-1.0 AND CC-BY-SA-4.0", false},
        {"MIT AND GPL-3.0-or-later", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct proto_spdx value = eval(table[i].text);
        assert_int_equal(value.outbound == 0, table[i].clash);
        assert_int_equal(value.release == PROTO_RELEASE_FEDERATION, table[i].clash);
    }
    assert_string_equal(eval("CC-BY-SA-4.0 AND GPL-2.0-only").clash, "CC-BY-SA-4.0 x GPL-2.0-only");
    /* Across data sets the same join. */
    struct proto_spdx all = proto_spdx_any(), one = eval("CC-BY-4.0"), two = eval("CC-BY-ND-4.0");
    proto_spdx_join(&all, &one);
    assert_int_equal(all.release, PROTO_RELEASE_PUBLIC);
    proto_spdx_join(&all, &two);
    assert_int_equal(all.release, PROTO_RELEASE_FEDERATION);
    assert_int_equal(all.duties, PROTO_DUTY_ATTRIBUTION | PROTO_DUTY_NO_SHARE);
}

static void test_duo(void **state)
{
    (void)state;
    uint64_t code;
    char text[PROTO_DUO_SIZE];
    assert_int_equal(proto_duo_parse("DUO:0000042", &code, NULL), E_OK);
    assert_int_equal(code, 42);
    assert_int_equal(proto_duo_parse("GRU", &code, NULL), E_OK);
    assert_int_equal(proto_duo_parse("DUO:00000044", &code, NULL), E_OK);
    assert_string_equal(proto_duo_format(code, text), "DUO:0000044");
    assert_string_equal(proto_duo_name(code), "NPOA");
    static const char *const obsolete[] = {"DUO:0000002", "DUO:0000003", "DUO:0000005",
                                           "DUO:0000014"};
    for (size_t i = 0; i < 4; i++) {
        struct err_info info = {0};
        assert_int_equal(proto_duo_parse(obsolete[i], &code, &info), E_UNSUPPORTED);
        assert_non_null(strstr(info.text, "DUO:00000"));
    }
    static const char *const bad[] = {
        "", "DUO:42", "duo:0000042", "DUO:0000099", "DUO:000004x", "DUO:10000042", "gru"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(proto_duo_parse(bad[i], &code, NULL), E_INVALID);
    }
    assert_true(proto_duo_is_permission(4) && !proto_duo_is_purpose(4));
    assert_true(proto_duo_is_modifier(43) && proto_duo_is_purpose(43));
}

static void test_ontology(void **state)
{
    (void)state;
    struct proto_ontology ontology;
    static const char tsv[] = "# pairs\nlung\tcancer\nmelanoma\tcancer\r\nuveal\tmelanoma\n\n"
                              "loop-a\tloop-b\nloop-b\tloop-a\ncancer\tdisease\nuveal\teye";
    assert_int_equal(proto_ontology_parse(span_str(tsv), &fake_hash, &ontology, NULL), E_OK);
    assert_true(proto_ontology_is_a(&ontology, span_str("uveal"), span_str("disease")));
    assert_true(proto_ontology_is_a(&ontology, span_str("uveal"), span_str("eye")));
    assert_true(proto_ontology_is_a(&ontology, span_str("lung"), span_str("lung")));
    assert_false(proto_ontology_is_a(&ontology, span_str("cancer"), span_str("lung")));
    assert_false(proto_ontology_is_a(&ontology, span_str("melano"), span_str("melanoma")));
    assert_true(proto_ontology_is_a(&ontology, span_str("loop-a"), span_str("loop-b")));
    assert_false(proto_ontology_is_a(&ontology, span_str("loop-a"), span_str("cancer")));
    assert_true(proto_ontology_knows(&ontology, span_str("eye")));
    assert_false(proto_ontology_knows(&ontology, span_str("x")));
    assert_false(proto_ontology_knows(NULL, span_str("eye")));
    proto_ontology_fini(&ontology);
    assert_int_equal(proto_ontology_parse(span_str("a b\n"), &fake_hash, &ontology, NULL),
                     E_INVALID);
    assert_int_equal(proto_ontology_parse(span_str("a\t\n"), &fake_hash, &ontology, NULL),
                     E_INVALID);
    assert_int_equal(proto_ontology_parse(span_str("a\tb\tletter a\nc,b,letter c\n"), &fake_hash,
                                          &ontology, NULL),
                     E_OK);
    assert_true(proto_ontology_is_a(&ontology, span_str("c"), span_str("b")));
    assert_true(span_is(proto_ontology_label(&ontology, span_str("a")), "letter a"));
    proto_ontology_fini(&ontology);
    assert_int_equal(proto_ontology_parse(span_str("a b\tc\n"), &fake_hash, &ontology, NULL),
                     E_INVALID);
    assert_int_equal(proto_ontology_parse(SPAN_NONE, &fake_hash, &ontology, NULL), E_OK);
    assert_false(proto_ontology_knows(&ontology, span_str("a")));
    proto_ontology_fini(&ontology);
    for (uint64_t n = 1; n < 40; n++) {
        proto_alloc_fail_at(n);
        enum err err = proto_ontology_parse(span_str(tsv), &fake_hash, &ontology, NULL);
        proto_alloc_fail_at(0);
        assert_true(err == E_OK || err == E_NO_MEMORY);
        proto_ontology_fini(&ontology);
    }
}

static void test_obo(void **state)
{
    (void)state;
    static const char obo[] = "format-version: 1.2\nontology: mondo\n\n[Term]\nid: MONDO:0000001\n"
                              "name: disease\n\n[Term]\nid: MONDO:0004992 {source=\"x\"}\n"
                              "name: cancer\nis_a: MONDO:0000001 ! disease\n\n[Term]\n"
                              "id: MONDO:0005105\r\nis_a: MONDO:0004992 {a=\"b\"} ! cancer\n"
                              "relationship: part_of MONDO:0000009 ! no\n\n[Term]\n"
                              "id: MONDO:0000003\nis_a: MONDO:0004992\nis_obsolete: true\n\n"
                              "[Typedef]\nid: part_of\nis_a: x\n\n[Term]\nid: MONDO:0000077\n";
    struct proto_ontology o;
    assert_int_equal(proto_ontology_parse(span_str(obo), &fake_hash, &o, NULL), E_OK);
    assert_int_equal(o.term_count, 4);
    assert_true(proto_ontology_is_a(&o, span_str("MONDO:0005105"), span_str("MONDO:0000001")));
    assert_false(proto_ontology_knows(&o, span_str("MONDO:0000003")));
    assert_true(proto_ontology_knows(&o, span_str("MONDO:0000077")));
    assert_false(proto_ontology_knows(&o, span_str("part_of")));
    assert_true(span_is(proto_ontology_label(&o, span_str("MONDO:0004992")), "cancer"));
    assert_true(span_is(proto_ontology_nearest(&o, span_str("MONDO:0004929")), "MONDO:0004992"));
    assert_null(proto_ontology_nearest(&o, span_str("HP:1")).ptr);
    proto_ontology_fini(&o);
    struct err_info why = {0};
    assert_int_equal(proto_ontology_parse(span_str("[Term]\nis_a: A\n"), &fake_hash, &o, &why),
                     E_INVALID);
    assert_non_null(strstr(why.text, "line 2"));
    assert_int_equal(proto_ontology_parse(proto_ontology_shipped(), &fake_hash, &o, NULL), E_OK);
    assert_true(proto_ontology_is_a(&o, span_str("MONDO:0006486"), span_str("MONDO:0004992")));
    assert_false(proto_ontology_is_a(&o, span_str("MONDO:0005148"), span_str("MONDO:0004992")));
    for (uint32_t i = 0; i < o.term_count; i++) { /* each shipped id is well-formed and labelled */
        assert_int_equal(proto_curie_check(o.terms[i], NULL), E_OK);
        assert_true(o.labels[i].len > 0);
    }
    proto_ontology_fini(&o);
}

static void test_curies(void **state)
{
    (void)state;
    static const char *const good[] = {"MONDO:0004992", "DOID:162",      "EFO:0000311",
                                       "ICD10:C50",     "ICD10:C50.9",   "ICD10:U07.1",
                                       "ICD10:C00-C97", "ICD10:M1A.0110"};
    static const char *const bad[] = {"",
                                      "cancer",
                                      "MONDO:499",
                                      "MONDO:00049922",
                                      "MONDO:",
                                      "mondo:0004992",
                                      "MONDO:000499x",
                                      "DOID:",
                                      "ICD10:50",
                                      "ICD10:C5",
                                      "ICD10:C50.",
                                      "MONDO 0004992",
                                      "MONDO:0004992 ",
                                      "OMIM:114500",
                                      "EFO:311",
                                      ":0004992"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(proto_curie_check(span_str(good[i]), NULL), E_OK);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err_info why = {0};
        assert_int_equal(proto_curie_check(span_str(bad[i]), &why), E_INVALID);
        assert_true(why.text[0]);
    }
    struct err_info why = {0};
    (void)!proto_curie_check(span_str("MONOD:0004992"), &why);
    assert_non_null(strstr(why.text, "MONDO"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),   cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_clashes), cmocka_unit_test(test_syntax_faults),
        cmocka_unit_test(test_duo),     cmocka_unit_test(test_ontology),
        cmocka_unit_test(test_obo),     cmocka_unit_test(test_curies),
    };
    return cmocka_run_group_tests_name("proto/spdx", tests, NULL, NULL);
}
