/* SPDX expressions and what they mean for a model; DUO names; disease hierarchies. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/duo.h"
#include "proto/ontology.h"
#include "proto/spdx_terms.h"
#include "tests/lib/fake_hash.h"

static struct proto_spdx_terms terms_of(const char *text)
{
    struct proto_spdx_terms value;
    assert_int_equal(proto_spdx_terms_of(span_str(text), PROTO_READING_CONSERVATIVE, &value, NULL),
                     E_OK);
    return value;
}

/* --- The grammar ------------------------------------------------------------------------------------------- */

static size_t unescape(char *text)
{
    size_t to = 0;
    for (size_t i = 0; text[i]; i++) {
        bool tab = text[i] == '\\' && text[i + 1] == 't';
        text[to++] = tab ? '\t' : text[i];
        i += tab;
    }
    text[to] = 0;
    return to;
}

static void check_good(const char *text, const char *wanted)
{
    struct proto_spdx_expression e, again;
    struct err_info why = {0};
    struct buf out = {.max = 1024};
    if (proto_spdx_parse(span_str(text), &e, &why)) {
        fail_msg("'%s' is refused: %s", text, why.text);
    }
    assert_int_equal(proto_spdx_print(&e, &out), E_OK);
    if (!span_is(buf_span(&out), wanted)) {
        fail_msg("'%s' prints as %.*s", text, (int)out.len, (const char *)out.ptr);
    }
    /* What was printed means the same. */
    assert_int_equal(proto_spdx_parse(buf_span(&out), &again, NULL), E_OK);
    assert_int_equal(again.count, e.count);
    for (size_t i = 0; i < e.count; i++) {
        assert_int_equal(again.nodes[i].kind, e.nodes[i].kind);
        assert_true(span_equal(again.nodes[i].id, e.nodes[i].id));
    }
    buf_fini(&out);
}

static void check_bad(const char *text, const char *column)
{
    struct proto_spdx_expression e;
    struct err_info why = {0};
    char place[32];
    enum err err = proto_spdx_parse(span_str(text), &e, &why);
    snprintf(place, sizeof place, "column %s:", column);
    if (err != E_INVALID && err != E_LIMIT) {
        fail_msg("'%s' is taken", text);
    }
    if (!strstr(why.text, place)) {
        fail_msg("'%s': %s, not %s", text, why.text, place);
    }
}

static void test_grammar(void **state)
{
    (void)state;
    char path[1024], line[1024];
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/tests/vectors/spdx/expressions.tsv", top ? top : ".");
    FILE *file = fopen(path, "r");
    size_t count = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#') {
            continue;
        }
        line[strcspn(line, "\n")] = 0;
        char *text = strchr(line, '\t');
        char *wanted = text ? strrchr(line, '\t') : NULL;
        assert_true(text && wanted && wanted > text);
        *text++ = 0;
        *wanted++ = 0;
        unescape(text);
        if (strcmp(line, "ok") == 0) {
            check_good(text, wanted);
        } else {
            check_bad(text, wanted);
        }
        count++;
    }
    fclose(file);
    print_message("# %zu expressions\n", count);
    assert_true(count >= 300);
}

static void test_whole_list(void **state)
{
    (void)state;
    struct proto_spdx_expression e;
    char text[160];
    bool deprecated;
    size_t licences = 0, exceptions = 0, old = 0;
    for (const char *id; (id = proto_spdx_id_at(licences)) != NULL; licences++) {
        check_good(id, id);
        snprintf(text, sizeof text, "(%s+ OR MIT) AND %s", id, id);
        assert_int_equal(proto_spdx_parse(span_str(text), &e, NULL), E_OK);
        assert_true(proto_spdx_id_known(span_str(id), &deprecated));
        old += deprecated;
        assert_true(licences == 0 || strcmp(proto_spdx_id_at(licences - 1), id) < 0);
    }
    for (const char *id; (id = proto_spdx_exception_at(exceptions)) != NULL; exceptions++) {
        snprintf(text, sizeof text, "GPL-2.0-only WITH %s", id);
        check_good(text, text);
    }
    print_message("# %s: %zu licences (%zu deprecated), %zu exceptions\n", proto_spdx_source(),
                  licences, old, exceptions);
    assert_true(licences > 700 && exceptions > 60 && old > 20);
}

static void expect_nearest(const char *text, const char *wanted)
{
    struct proto_spdx_expression e;
    struct err_info why = {0};
    assert_int_equal(proto_spdx_parse(span_str(text), &e, &why), E_INVALID);
    if (!strstr(why.text, wanted)) {
        fail_msg("%s: %s", text, why.text);
    }
}

static void test_nearest(void **state)
{
    (void)state;
    static const char *const slips[][2] = {
        {"mit", "nearest is MIT"},
        {"cc-by-4.0", "nearest is CC-BY-4.0"},
        {"CC-BY-4", "nearest is CC-BY-4.0"},
        {"CC-BY-SA", "nearest is CC-BY-SA-4.0"},
        {"Apache2", "nearest is Apache-2.0"},
        {"GPLv3", "nearest is GPL-3.0-only"},
        {"gpl-2.0-or-later", "nearest is GPL-2.0-or-later"},
        {"ODBL-1.0", "nearest is ODbL-1.0"},
        {"MIT AND Apache-License-2.0", "column 9: 'Apache-License-2.0'"},
        {"GPL-2.0-only WITH Classpath-exception", "nearest is Classpath-exception-2.0"},
    };
    for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
        expect_nearest(slips[i][0], slips[i][1]);
    }
    struct proto_spdx_expression e;
    char longer[PROTO_SPDX_MAX + 2];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(proto_spdx_parse(span_str(longer), &e, NULL), E_LIMIT);
}

/* --- What they mean for a model ------------------------------------------------------------------------------ */

static void test_table(void **state)
{
    (void)state;
    assert_int_equal(terms_of("CC0-1.0").duties, 0);
    assert_int_equal(terms_of("CC-BY-4.0").duties, PROTO_DUTY_ATTRIBUTION);
    assert_int_equal(terms_of("CC-BY-ND-4.0").release, PROTO_RELEASE_FEDERATION);
    assert_int_equal(terms_of("CC-BY-ND-4.0").train, PROTO_SPDX_YES);
    assert_int_equal(terms_of("NONE").train, PROTO_SPDX_NO);
    assert_int_equal(terms_of("NOASSERTION").train, PROTO_SPDX_NO);
    assert_int_equal(terms_of("LicenseRef-mine").train, PROTO_SPDX_NO);
    assert_int_equal(terms_of("DocumentRef-x:LicenseRef-mine").train, PROTO_SPDX_NO);
    assert_int_equal(terms_of("LicenseRef-gemma").train, PROTO_SPDX_HOLD);
    assert_int_equal(terms_of("Zlib").train, PROTO_SPDX_HOLD);
    assert_true(terms_of("ODbL-1.0").duties & PROTO_DUTY_METHOD);
    struct proto_spdx_leaf leaf;
    bool deprecated;
    for (size_t i = 0; proto_spdx_table_at(i, PROTO_READING_CONSERVATIVE, &leaf); i++) {
        bool own = leaf.id.len > 11 && memcmp(leaf.id.ptr, "LicenseRef-", 11) == 0;
        bool none = span_is(leaf.id, "NONE") || span_is(leaf.id, "NOASSERTION");
        assert_true(own || none || proto_spdx_id_known(leaf.id, &deprecated));
        /* A licence of a class may be released under itself, unless it may not be shared at all. */
        assert_true(!leaf.as || (leaf.outbound & leaf.as) == leaf.as);
        struct proto_spdx_leaf text;
        assert_true(proto_spdx_table_at(i, PROTO_READING_TEXT, &text));
        assert_int_equal(text.train, leaf.train);
        assert_int_equal(leaf.outbound & ~text.outbound, 0); /* the text is never the narrower */
    }
}

static void test_expressions(void **state)
{
    (void)state;
    struct proto_spdx_terms value = terms_of("CC-BY-4.0 AND ODbL-1.0");
    assert_int_equal(value.duties, PROTO_DUTY_ATTRIBUTION | PROTO_DUTY_NOTICE | PROTO_DUTY_METHOD);
    value = terms_of("CC-BY-ND-4.0 OR CC0-1.0");
    assert_int_equal(value.release, PROTO_RELEASE_PUBLIC);
    assert_true(value.elected && value.leaf_count == 1 && span_is(value.leaves[0].id, "CC0-1.0"));
    /* AND binds tighter: ND and MIT together are one alternative. */
    assert_int_equal(terms_of("CC0-1.0 OR CC-BY-ND-4.0 AND MIT").release, PROTO_RELEASE_PUBLIC);
    assert_int_equal(terms_of("(CC0-1.0 OR MIT) AND CC-BY-ND-4.0").release,
                     PROTO_RELEASE_FEDERATION);
    assert_int_equal(terms_of("MIT WITH Font-exception-2.0").duties, PROTO_DUTY_NOTICE);
    assert_int_equal(terms_of("GPL-2.0+").train, PROTO_SPDX_YES);
    assert_true(terms_of("GPL-2.0+").outbound & PROTO_OUTBOUND_GPL3);
    assert_false(terms_of("GPL-2.0").outbound & PROTO_OUTBOUND_GPL3);
    assert_true(terms_of("GPL-2.0-only+").outbound & PROTO_OUTBOUND_GPL3);
    assert_int_equal(terms_of("((((MIT))))").train, PROTO_SPDX_YES);
    /* 32 alternatives are weighed, more are refused. */
    struct err_info why = {0};
    struct proto_spdx_terms none;
    char many[PROTO_SPDX_MAX + 1] = "";
    for (int i = 0; i < 6; i++) {
        strcat(many, i ? " AND (MIT OR ISC)" : "(MIT OR ISC)");
        assert_int_equal(
            proto_spdx_terms_of(span_str(many), PROTO_READING_CONSERVATIVE, &none, &why),
            i < 5 ? E_OK : E_LIMIT);
    }
}

static void test_clashes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *clash; /* "" none */
    } table[] = {
        {"CC-BY-SA-4.0 AND CC-BY-NC-SA-4.0", "CC-BY-SA-4.0 x CC-BY-NC-SA-4.0"},
        {"CC-BY-SA-4.0 AND LicenseRef-OpenRAIL-M", "CC-BY-SA-4.0 x LicenseRef-OpenRAIL-M"},
        {"CC-BY-SA-4.0 AND LicenseRef-llama3.1", "CC-BY-SA-4.0 x LicenseRef-llama3.1"},
        {"CC-BY-SA-4.0 AND GPL-2.0-only", "CC-BY-SA-4.0 x GPL-2.0-only"},
        {"GPL-2.0-only AND Apache-2.0", "GPL-2.0-only x Apache-2.0"},
        {"MIT AND CC-BY-4.0 AND CC-BY-SA-4.0 AND CC-BY-NC-4.0", "CC-BY-SA-4.0 x CC-BY-NC-4.0"},
        {"CC-BY-ND-4.0 AND MIT", "CC-BY-ND-4.0"},
        {"CC-BY-SA-4.0 AND GPL-3.0-only", ""},
        {"ODbL-1.0 AND CC-BY-SA-4.0", ""},
        {"MIT AND GPL-3.0-or-later", ""},
        {"Apache-2.0 AND GPL-3.0-or-later", ""},
        {"BSD-2-Clause AND GPL-3.0-or-later", ""},
    };
    char clash[PROTO_SPDX_CLASH_SIZE];
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct proto_spdx_terms value = terms_of(table[i].text);
        assert_string_equal(proto_spdx_clash(&value, clash), table[i].clash);
        assert_int_equal(value.release == PROTO_RELEASE_FEDERATION, table[i].clash[0] != 0);
    }
    /* Across data sets the same join, and every OR is elected with all of them in view. */
    const struct span sets[] = {span_str("CC-BY-SA-4.0 OR CC-BY-NC-SA-4.0"),
                                span_str("CC-BY-NC-SA-4.0"), span_str("MIT")};
    struct proto_spdx_terms all;
    assert_int_equal(proto_spdx_terms_combine(sets, 3, PROTO_READING_CONSERVATIVE, &all, NULL),
                     E_OK);
    assert_int_equal(all.outbound, PROTO_OUTBOUND_NC_SA);
    assert_true(all.elected && all.leaf_count == 2);
    struct proto_spdx_terms one = terms_of("CC-BY-4.0"), two = terms_of("CC-BY-ND-4.0");
    proto_spdx_terms_any(&all);
    proto_spdx_terms_join(&all, &one);
    assert_int_equal(all.release, PROTO_RELEASE_PUBLIC);
    proto_spdx_terms_join(&all, &two);
    assert_int_equal(all.release, PROTO_RELEASE_FEDERATION);
    assert_int_equal(all.duties, PROTO_DUTY_ATTRIBUTION | PROTO_DUTY_NO_SHARE);
}

/* Data under one licence, the model under another: the specification's pairs, conservative and by the text. */
static void test_release(void **state)
{
    (void)state;
    static const struct {
        const char *data, *model;
        enum proto_spdx_verdict conservative, text;
    } table[] = {
        {"CC-BY-SA-4.0", "CC-BY-SA-4.0", PROTO_SPDX_YES, PROTO_SPDX_YES},
        {"CC-BY-SA-4.0", "GPL-3.0-only", PROTO_SPDX_YES, PROTO_SPDX_YES},
        {"CC-BY-SA-4.0", "GPL-3.0-or-later", PROTO_SPDX_NO, PROTO_SPDX_YES},
        {"CC-BY-SA-4.0", "MIT", PROTO_SPDX_NO, PROTO_SPDX_YES},
        {"GPL-3.0-only", "CC-BY-SA-4.0", PROTO_SPDX_NO, PROTO_SPDX_HOLD},
        {"CC-BY-NC-4.0", "CC-BY-4.0", PROTO_SPDX_NO, PROTO_SPDX_NO},
        {"CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", PROTO_SPDX_YES, PROTO_SPDX_YES},
        {"CC-BY-ND-4.0", "CC-BY-4.0", PROTO_SPDX_NO, PROTO_SPDX_HOLD},
        {"CC-BY-4.0", "MIT", PROTO_SPDX_YES, PROTO_SPDX_YES},
        {"ODbL-1.0", "CC0-1.0", PROTO_SPDX_YES, PROTO_SPDX_YES},
        {"ODbL-1.0", "ODbL-1.0", PROTO_SPDX_YES, PROTO_SPDX_YES},
        {"Apache-2.0", "GPL-2.0-only", PROTO_SPDX_NO, PROTO_SPDX_NO},
        {"Apache-2.0", "GPL-3.0-or-later", PROTO_SPDX_YES, PROTO_SPDX_YES},
        {"Apache-2.0", "MPL-2.0", PROTO_SPDX_YES, PROTO_SPDX_YES},
        {"MIT", "GPL-3.0-or-later", PROTO_SPDX_YES, PROTO_SPDX_YES},
        {"GPL-2.0-only", "MIT", PROTO_SPDX_NO, PROTO_SPDX_HOLD},
        {"GPL-2.0-or-later", "GPL-3.0-or-later", PROTO_SPDX_YES, PROTO_SPDX_HOLD},
        {"GPL-3.0-only", "GPL-3.0-or-later", PROTO_SPDX_NO, PROTO_SPDX_HOLD},
        {"CDLA-Permissive-2.0", "Apache-2.0", PROTO_SPDX_YES, PROTO_SPDX_YES},
        {"LicenseRef-OpenRAIL-M", "MIT", PROTO_SPDX_NO, PROTO_SPDX_NO},
        {"LicenseRef-OpenRAIL-M", "LicenseRef-OpenRAIL-M", PROTO_SPDX_YES, PROTO_SPDX_YES},
        {"LicenseRef-gemma", "MIT", PROTO_SPDX_NO, PROTO_SPDX_NO},
        {"NOASSERTION", "MIT", PROTO_SPDX_NO, PROTO_SPDX_NO},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (int reading = 0; reading < 2; reading++) {
            struct proto_spdx_terms data;
            const struct proto_spdx_leaf *why;
            assert_int_equal(proto_spdx_terms_of(span_str(table[i].data),
                                                 (enum proto_reading)reading, &data, NULL),
                             E_OK);
            enum proto_spdx_verdict got = proto_spdx_release_under(
                &data, span_str(table[i].model), (enum proto_reading)reading, &why);
            enum proto_spdx_verdict wanted = reading ? table[i].text : table[i].conservative;
            if (got != wanted) {
                fail_msg("%s under %s, %s: %d", table[i].data, table[i].model,
                         proto_reading_name((enum proto_reading)reading), (int)got);
            }
            assert_true((got == PROTO_SPDX_YES) == (why == NULL));
        }
    }
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
        cmocka_unit_test(test_grammar),     cmocka_unit_test(test_whole_list),
        cmocka_unit_test(test_nearest),     cmocka_unit_test(test_table),
        cmocka_unit_test(test_expressions), cmocka_unit_test(test_clashes),
        cmocka_unit_test(test_release),     cmocka_unit_test(test_duo),
        cmocka_unit_test(test_ontology),    cmocka_unit_test(test_obo),
        cmocka_unit_test(test_curies),
    };
    return cmocka_run_group_tests_name("proto/spdx", tests, NULL, NULL);
}
