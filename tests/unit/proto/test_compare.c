/* Two licences compared, and one explained: what is said agrees with what is decided. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "proto/compare.h"
#include "proto/explain.h"
#include "tests/lib/ontology.h"
#include "tests/lib/terms.h"

static enum proto_verdict verdict_of(const struct proto_licence *licence, const struct terms *asker)
{
    static struct proto_decision decision;
    struct proto_record record = {
        .envelope = {.kind = PROTO_RECORD_LICENCE, .expires = licence->expires}};
    proto_policy_decide(&asker->request, &record, licence, false, &ontology, &decision);
    return decision.verdict;
}

/* One restriction, seen both ways: narrower there, wider back, and the decision never says the opposite. */
static void test_restrictions_are_narrower(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(14));
    struct terms *t = terms_new(), *asker = terms_new();
    struct proto_comparison *there = calloc(1, sizeof *there), *back = calloc(1, sizeof *back);
    size_t seen = 0, turned = 0;
    for (int i = 0; i < 4000; i++) {
        struct arena arena = {0};
        struct buf bytes = {.max = 8192};
        struct proto_licence old;
        terms_random(t, &seed);
        assert_int_equal(proto_licence_encode(&t->licence, &bytes, NULL), E_OK);
        assert_int_equal(proto_licence_decode(buf_span(&bytes), &arena, &old, NULL), E_OK);
        assert_int_equal(proto_licence_compare(&old, &t->licence, &ontology, &arena, there), E_OK);
        assert_int_equal(there->count, 0);
        terms_restrict(t, &seed);
        assert_int_equal(proto_licence_compare(&old, &t->licence, &ontology, &arena, there), E_OK);
        assert_int_equal(proto_licence_compare(&t->licence, &old, &ontology, &arena, back), E_OK);
        if (there->wider || back->narrower) {
            fail_msg("%s: %s -> %s", there->changes[0].clause, there->changes[0].from,
                     there->changes[0].to);
        }
        assert_int_equal(there->narrower, back->wider);
        seen += there->narrower > 0;
        for (int ask = 0; ask < 5; ask++) {
            terms_random(asker, &seed);
            enum proto_verdict before = verdict_of(&old, asker);
            enum proto_verdict after = verdict_of(&t->licence, asker);
            turned += before != after;
            /* A change of verdict has a change of a clause behind it. */
            assert_true(before == after || there->count > 0);
            assert_true(after >= before);
        }
        buf_fini(&bytes);
        arena_fini(&arena);
    }
    print_message("# %zu restrictions seen, %zu verdicts turned\n", seen, turned);
    assert_true(seen > 2000 && turned > 500);
    free(there);
    free(back);
    terms_free(t);
    terms_free(asker);
}

static const struct proto_changed *change_of(const struct proto_comparison *c, const char *clause)
{
    for (size_t i = 0; i < c->count; i++) {
        if (strcmp(c->changes[i].clause, clause) == 0) {
            return &c->changes[i];
        }
    }
    return NULL;
}

static void test_clauses(void **state)
{
    (void)state;
    static const uint8_t hash[32] = {1};
    struct proto_text cancer = {span_str("MONDO:0004992")}, melanoma = {span_str("MONDO:0005105")};
    struct proto_modifier npu = {.code = PROTO_DUO_NPU}, cc = {.code = PROTO_DUO_CC};
    struct proto_grant before[2] = {{.permission = PROTO_DUO_DS,
                                     .diseases = {&cancer, 1},
                                     .modifiers = {&npu, 1},
                                     .actions = 3,
                                     .min_cohort = 11},
                                    {.permission = PROTO_DUO_GRU, .actions = 1, .min_cohort = 11}};
    struct proto_grant after[2] = {{.permission = PROTO_DUO_HMB, .actions = 1, .min_cohort = 11},
                                   {.permission = PROTO_DUO_DS,
                                    .diseases = {&melanoma, 1},
                                    .modifiers = {&cc, 1},
                                    .actions = 5,
                                    .min_cohort = 5}};
    struct proto_licence old = {.v = PROTO_LICENCE_VERSION,
                                .dataset = span_str("d"),
                                .schema_hash = span_of(hash, 32),
                                .expires = 1000,
                                .spdx = span_str("CC-BY-SA-4.0"),
                                .grants = {before, 2}};
    struct proto_licence new = old;
    struct arena arena = {0};
    struct proto_comparison *c = calloc(1, sizeof *c);
    new.spdx = span_str("CC-BY-4.0");
    new.grants.items = after;
    assert_int_equal(proto_licence_compare(&old, &new, &ontology, &arena, c), E_OK);
    static const struct {
        const char *clause;
        enum proto_change change;
    } wanted[] = {{"spdx", PROTO_CHANGE_WIDER},
                  {"grants[1].disease", PROTO_CHANGE_NARROWER},
                  {"grants[1].modifiers CC", PROTO_CHANGE_WIDER},
                  {"grants[1].modifiers NPU", PROTO_CHANGE_WIDER},
                  {"grants[1].min_cohort", PROTO_CHANGE_WIDER},
                  {"grants[0].permission", PROTO_CHANGE_NARROWER}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const struct proto_changed *change = change_of(c, wanted[i].clause);
        if (!change || change->change != wanted[i].change) {
            fail_msg("%s", wanted[i].clause);
        }
    }
    new.spdx = span_str("CC-BY-NC-4.0"); /* neither wider nor narrower than share-alike */
    assert_int_equal(proto_licence_compare(&old, &new, &ontology, &arena, c), E_OK);
    assert_int_equal(change_of(c, "spdx")->change, PROTO_CHANGE_OTHER);
    new.grants.count = 1;
    assert_int_equal(proto_licence_compare(&old, &new, &ontology, &arena, c), E_OK);
    assert_int_equal(change_of(c, "grants")->change, PROTO_CHANGE_NARROWER);
    free(c);
    arena_fini(&arena);
}

static bool says(const struct proto_sentences *sentences, const char *text)
{
    for (size_t i = 0; i < sentences->count; i++) {
        if (strstr(sentences->items[i], text)) {
            return true;
        }
    }
    return false;
}

static void test_explanations(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(15));
    struct terms *t = terms_new();
    struct proto_explanation *e = calloc(1, sizeof *e);
    for (int i = 0; i < 3000; i++) {
        struct arena arena = {0};
        terms_random(t, &seed);
        assert_int_equal(proto_licence_explain(&t->licence, &ontology, &arena, e), E_OK);
        assert_int_equal(e->grant_count, t->licence.grants.count);
        assert_true(says(&e->about, "until 2033"));
        assert_int_equal(says(&e->about, "approves each request"), t->licence.hold);
        assert_int_equal(says(&e->about, "countries") || says(&e->about, "must be in:"),
                         t->licence.has_geography);
        for (size_t g = 0; g < e->grant_count; g++) {
            assert_true(e->grants[g].title[0]);
            assert_true(e->grants[g].permits.count > 0 && e->grants[g].needs.count > 0);
            assert_int_equal(says(&e->grants[g].permits, "Training a model"),
                             t->grants[g].has_finetune);
            assert_int_equal(says(&e->grants[g].forbids, "Training a model"),
                             !t->grants[g].has_finetune);
        }
        arena_fini(&arena);
    }
    free(e);
    terms_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restrictions_are_narrower),
        cmocka_unit_test(test_clauses),
        cmocka_unit_test(test_explanations),
    };
    return cmocka_run_group_tests_name("proto/compare", tests, ontology_setup, ontology_teardown);
}
