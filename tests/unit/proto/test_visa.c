/* Visas: what counts as one, what a grant asks for, what it means for licences, their versions and the models they teach. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "proto/compare.h"
#include "proto/derive.h"
#include "proto/explain.h"
#include "proto/policy.h"
#include "tests/lib/ontology.h"

#define GRANT_VALUE "https://dac.example/chain-study"

static const uint8_t id_n[16] = {1}, id_m[16] = {2}, hash32[32] = {7};

/* Data that want a controlled access grant of org-a or org-b, and a requester who holds it. */
struct fixture {
    struct proto_text issuers[2], by;
    struct proto_visa_wanted wanted[2];
    struct proto_grant grant;
    struct proto_licence licence;
    struct proto_record record;
    struct proto_visa_held held;
    struct proto_party site;
    struct proto_request request;
    struct proto_decision decision;
};

static void setup(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->issuers[0].text = span_str("org-a");
    f->issuers[1].text = span_str("org-b");
    f->by.text = span_str("dac");
    f->wanted[0] = (struct proto_visa_wanted){.type = span_str("ControlledAccessGrants"),
                                              .value = span_str(GRANT_VALUE),
                                              .issuers = {f->issuers, 2}};
    f->grant = (struct proto_grant){
        .permission = PROTO_DUO_GRU,
        .actions = PROTO_ACTION_ALL,
        .min_cohort = 11,
        .min_sites = 1,
        .privacy = {.mechanism = PROTO_MECHANISM_GAUSSIAN,
                    .epsilon_total_u = 8000000,
                    .epsilon_per_query_u = 1000000,
                    .epsilon_per_job_u = 4000000,
                    .delta_e12 = 1000000},
        .has_finetune = true,
        .finetune = {.max_rounds = 50, .release = PROTO_RELEASE_PUBLIC},
        .visas = {f->wanted, 1},
    };
    f->licence = (struct proto_licence){.v = PROTO_LICENCE_VERSION,
                                        .dataset = span_str("chain-study"),
                                        .version = span_str("1"),
                                        .schema_hash = span_of(hash32, 32),
                                        .not_before = 1000,
                                        .expires = 2000000000,
                                        .spdx = span_str("CC-BY-4.0"),
                                        .grants = {&f->grant, 1}};
    f->record.envelope =
        (struct proto_envelope){.kind = PROTO_RECORD_LICENCE, .expires = 2000000000};
    f->held = (struct proto_visa_held){.visa = {.v = 1,
                                                .id = span_of(id_m, 16),
                                                .node = span_of(id_n, 16),
                                                .person = span_str("ann"),
                                                .type = span_str("ControlledAccessGrants"),
                                                .value = span_str(GRANT_VALUE),
                                                .source = span_str("https://dac.example"),
                                                .by = span_str("dac"),
                                                .asserted = 900000},
                                       .institution = span_str("org-b"),
                                       .expires = 1000001};
    f->site = (struct proto_party){span_of(id_n, 16), span_str("org-c"), span_str("nonprofit"),
                                   span_str("DE")};
    f->request = (struct proto_request){
        .requester = f->site,
        .purpose = {.person = span_str("ann"),
                    .project = span_str("heart"),
                    .permission = PROTO_DUO_GRU},
        .actions = PROTO_ACTION_BIT(PROTO_ACTION_COUNT),
        .epsilon_u = 500000,
        .institutions = 1,
        .sites = &f->site,
        .site_count = 1,
        .now = 1000000,
        .visas = &f->held,
        .visa_count = 1,
    };
}

static enum proto_reason decide(struct fixture *f)
{
    proto_policy_decide(&f->request, &f->record, &f->licence, false, &ontology, &f->decision);
    assert_int_equal(f->decision.verdict == PROTO_PERMIT, f->decision.reason == PROTO_REASON_NONE);
    return f->decision.reason;
}

/* One thing changed, and the reason for which the request is then refused. */
#define WITH(reason_, ...)                                                                         \
    do {                                                                                           \
        setup(&f);                                                                                 \
        __VA_ARGS__;                                                                               \
        assert_string_equal(proto_reason_name(decide(&f)),                                         \
                            proto_reason_name(PROTO_REASON_##reason_));                            \
    } while (0)

static void test_decisions(void **state)
{
    (void)state;
    static struct fixture f;
    WITH(NONE, (void)0);
    WITH(MISSING_VISA, f.request.visa_count = 0);
    WITH(MISSING_VISA, f.request.purpose.person = span_str("bob"));
    WITH(MISSING_VISA, f.request.purpose.person = SPAN_NONE);
    WITH(MISSING_VISA, f.request.requester.node = span_of(id_m, 16)); /* ann of another node */
    WITH(MISSING_VISA, f.request.requester.node = SPAN_NONE);
    WITH(MISSING_VISA, f.held.institution = span_str("org-c")); /* what one says of oneself */
    WITH(MISSING_VISA, f.held.institution = SPAN_NONE);
    WITH(MISSING_VISA, f.held.visa.type = span_str("ResearcherStatus"));
    WITH(MISSING_VISA, f.held.visa.value = span_str("https://DAC.example/chain-study"));
    WITH(MISSING_VISA, f.held.visa.value = span_str(GRANT_VALUE "/"));
    WITH(MISSING_VISA, f.held.visa.asserted = 1000000 + PROTO_VISA_AHEAD_S + 1);
    WITH(NONE, f.held.visa.asserted = 1000000 + PROTO_VISA_AHEAD_S);
    WITH(VISA, f.held.expires = 1000000);
    WITH(VISA, f.request.now = 1000001);
    WITH(VISA, f.held.expires = 0);
    /* On whose word, where the grant says so. */
    WITH(NONE, f.wanted[0].by = (struct proto_list){&f.by, 1});
    WITH(MISSING_VISA, f.wanted[0].by = (struct proto_list){&f.by, 1};
         f.held.visa.by = span_str("self"));
    WITH(MISSING_VISA, f.wanted[0].by = (struct proto_list){&f.by, 1}; f.held.visa.by = SPAN_NONE);
    /* About a project: whoever of that node asks for it. */
    WITH(NONE, f.held.visa.person = SPAN_NONE; f.held.visa.project = span_str("heart");
         f.request.purpose.person = span_str("bob"));
    WITH(MISSING_VISA, f.held.visa.person = SPAN_NONE; f.held.visa.project = span_str("lung"));
    /* All that a grant asks for. */
    WITH(MISSING_VISA, f.wanted[1] = f.wanted[0]; f.wanted[1].type = span_str("ResearcherStatus");
         f.grant.visas.count = 2);
    /* What cannot be met is no licence. */
    WITH(LICENSE_INVALID, f.wanted[0].issuers.count = 0);
    WITH(LICENSE_INVALID, f.wanted[0].type = span_str("LinkedIdentities"));
    WITH(LICENSE_INVALID, f.licence.v = PROTO_LICENCE_VERSION_PLAIN);
}

/* Of GA4GH: all of one alternative, by visas about the same person that stand. */
static void test_conditions(void **state)
{
    (void)state;
    static struct fixture f;
    static struct proto_visa_held held[3];
    static struct proto_visa_condition conditions[2];
    static struct proto_visa_alternative any[2];
#define BESIDE(reason_, ...)                                                                       \
    do {                                                                                           \
        setup(&f);                                                                                 \
        held[0] = held[1] = held[2] = f.held;                                                      \
        held[1].visa.type = span_str("ResearcherStatus");                                          \
        held[1].visa.value = span_str("https://doi.org/10.1038/s41431-018-0219-y");                \
        held[1].visa.by = span_str("so");                                                          \
        held[2].visa.type = span_str("AffiliationAndRole");                                        \
        held[2].visa.value = span_str("faculty@charite.example");                                  \
        conditions[0] = (struct proto_visa_condition){                                             \
            .type = span_str("ResearcherStatus"),                                                  \
            .value = span_str("const:https://doi.org/10.1038/s41431-018-0219-y"),                  \
            .by = span_str("const:so")};                                                           \
        conditions[1] =                                                                            \
            (struct proto_visa_condition){.type = span_str("AffiliationAndRole"),                  \
                                          .value = span_str("pattern:faculty@*.example")};         \
        any[0].conditions = (struct proto_list){conditions, 2};                                    \
        any[1].conditions = (struct proto_list){&conditions[1], 1};                                \
        held[0].visa.conditions = (struct proto_list){any, 1};                                     \
        held[0].visa.v = PROTO_VISA_VERSION;                                                       \
        f.request.visas = held;                                                                    \
        f.request.visa_count = 3;                                                                  \
        __VA_ARGS__;                                                                               \
        assert_string_equal(proto_reason_name(decide(&f)),                                         \
                            proto_reason_name(PROTO_REASON_##reason_));                            \
    } while (0)
    BESIDE(NONE, (void)0);
    BESIDE(MISSING_VISA, f.request.visa_count = 2); /* one of two is not there */
    BESIDE(MISSING_VISA, held[1].visa.by = span_str("self"));
    BESIDE(MISSING_VISA, held[1].visa.by = SPAN_NONE);
    BESIDE(MISSING_VISA, held[1].expires = 1000000); /* it has ended */
    BESIDE(MISSING_VISA, held[1].visa.person = span_str("bob"));
    BESIDE(MISSING_VISA,
           held[1].institution = span_str("org-z")); /* whom the grant does not name */
    BESIDE(MISSING_VISA, held[1].visa.asserted = 1000000 + PROTO_VISA_AHEAD_S + 1);
    BESIDE(MISSING_VISA,
           held[1].visa.conditions = (struct proto_list){&any[1], 1}); /* depends itself */
    BESIDE(NONE, held[0].visa.conditions.count = 2;
           held[1].visa.by = span_str("self")); /* the other */
    BESIDE(VISA, held[0].expires = 1000000);
    BESIDE(MISSING_VISA, conditions[1].value = span_str("pattern:student@*"));
    BESIDE(NONE, conditions[1].value = span_str("pattern:*ulty?char*.exam*e"));
    BESIDE(MISSING_VISA, conditions[1].value = span_str("pattern:faculty@charite.example?"));
    /* What is not understood is never met. */
    BESIDE(MISSING_VISA, conditions[1].value = span_str("split_pattern:faculty@*"));
    BESIDE(MISSING_VISA, conditions[1].value = span_str("faculty@charite.example"));
    BESIDE(MISSING_VISA, conditions[1].value = span_str("const:"));
    BESIDE(MISSING_VISA, conditions[1].value = span_str("pattern:"));
    BESIDE(MISSING_VISA, conditions[1].type = span_str("LinkedIdentities"));
    BESIDE(MISSING_VISA, any[0].conditions.count = 0);
    /* In its bytes, which nodes of the version before do not count. */
    BESIDE(NONE, (void)0);
    struct buf out = {.max = 4096}, again = {.max = 4096};
    struct arena arena = {0};
    struct proto_visa back;
    assert_int_equal(proto_visa_encode(&held[0].visa, &out, NULL), E_OK);
    assert_int_equal(out.ptr[1], PROTO_VISA_VERSION);
    assert_int_equal(proto_visa_decode(buf_span(&out), &arena, &back, NULL), E_OK);
    assert_int_equal(proto_visa_encode(&back, &again, NULL), E_OK);
    assert_true(span_equal(buf_span(&out), buf_span(&again)));
    held[0].visa.v = 1;
    assert_int_equal(proto_visa_encode(&held[0].visa, &out, NULL), E_UNSUPPORTED);
    held[0].visa.v = PROTO_VISA_VERSION;
    conditions[1].value = SPAN_NONE; /* a type alone */
    assert_int_equal(proto_visa_encode(&held[0].visa, &out, NULL), E_INVALID);
    held[1].visa.v = PROTO_VISA_VERSION; /* nothing that the version is for */
    assert_int_equal(proto_visa_encode(&held[1].visa, &out, NULL), E_UNSUPPORTED);
    arena_fini(&arena);
    buf_fini(&again);
    buf_fini(&out);
}

static void test_best_of_several(void **state)
{
    (void)state;
    static struct fixture f;
    setup(&f);
    struct proto_visa_held held[3] = {f.held, f.held, f.held};
    held[0].expires = 5;
    held[1].institution = span_str("org-z");
    f.request.visas = held;
    f.request.visa_count = 2;
    assert_int_equal(decide(&f), PROTO_REASON_VISA);
    f.request.visa_count = 3; /* renewed: one that stands suffices */
    assert_int_equal(decide(&f), PROTO_REASON_NONE);
}

static void test_clauses(void **state)
{
    (void)state;
    static struct fixture f;
    char text[PROTO_CLAUSE_EXPECTED_SIZE];
    bool found = false;
    setup(&f);
    f.request.visa_count = 0;
    decide(&f);
    for (size_t i = 0; i < f.decision.clause_count; i++) {
        const struct proto_clause *clause = &f.decision.clauses[i];
        if (clause->id == PROTO_CLAUSE_ID_VISA) {
            found = true;
            assert_int_equal(clause->result, PROTO_CLAUSE_NEEDED);
            assert_string_equal(proto_clause_name(&f.licence, clause, text),
                                "visa ControlledAccessGrants");
            assert_string_equal(proto_clause_expected(&f.licence, clause, text),
                                "ControlledAccessGrants \"" GRANT_VALUE "\" of org-a or org-b");
        }
    }
    assert_true(found);
}

static void encode(const struct proto_licence *licence, uint64_t v)
{
    struct buf out = {.max = 8192}, again = {.max = 8192};
    struct arena arena = {0};
    struct proto_licence back;
    assert_int_equal(proto_licence_encode(licence, &out, NULL), E_OK);
    assert_int_equal(out.ptr[3], v); /* behind the array's head: 0xdc and a length of two bytes */
    assert_int_equal(proto_licence_decode(buf_span(&out), &arena, &back, NULL), E_OK);
    assert_int_equal(back.v, v);
    assert_int_equal(proto_licence_encode(&back, &again, NULL), E_OK);
    assert_true(span_equal(buf_span(&out), buf_span(&again)));
    buf_fini(&again);
    buf_fini(&out);
    arena_fini(&arena);
}

/* A licence without visas stays one that nodes of the version before can read; with visas they deny every use of it. */
static void test_versions(void **state)
{
    (void)state;
    static struct fixture f;
    setup(&f);
    f.licence.v = proto_licence_version(&f.licence);
    encode(&f.licence, PROTO_LICENCE_VERSION);
    f.grant.visas.count = 0;
    f.licence.v = proto_licence_version(&f.licence);
    encode(&f.licence, PROTO_LICENCE_VERSION_PLAIN);
}

static void test_bodies(void **state)
{
    (void)state;
    static struct fixture f;
    struct buf out = {.max = 4096};
    setup(&f);
    assert_int_equal(proto_visa_encode(&f.held.visa, &out, NULL), E_OK);
#define BAD(...)                                                                                   \
    do {                                                                                           \
        setup(&f);                                                                                 \
        __VA_ARGS__;                                                                               \
        assert_int_equal(proto_visa_encode(&f.held.visa, &out, NULL), E_INVALID);                  \
    } while (0)
    BAD(f.held.visa.project = span_str("heart"));
    BAD(f.held.visa.person = SPAN_NONE);
    BAD(f.held.visa.type = span_str("LinkedIdentities"));
    BAD(f.held.visa.by = span_str("me"));
    buf_fini(&out);
    assert_string_equal(proto_visa_type_nearest("ResearchStatus"), "ResearcherStatus");
    assert_string_equal(proto_visa_by_nearest("dca"), "dac");
}

static void test_models_and_comparisons(void **state)
{
    (void)state;
    static struct fixture a, b;
    static struct proto_comparison changes;
    static struct proto_explanation explained;
    struct proto_derivation d;
    struct arena arena = {0};
    const struct proto_derive_parent parents[] = {{&a.licence, id_n}, {&b.licence, id_m}};
    const struct proto_derive_terms terms = {.model = span_str("00ff"),
                                             .version = span_str("1"),
                                             .weights = span_of(hash32, 32),
                                             .private = true,
                                             .now = 5000};
    setup(&a);
    setup(&b);
    b.wanted[0].type = span_str("ResearcherStatus");
    b.wanted[1] = a.wanted[0];
    b.grant.visas.count = 2;
    assert_int_equal(proto_derive(parents, 2, &terms, &ontology, &arena, &d, NULL), E_OK);
    const struct proto_grant *grant = d.licence.grants.items;
    assert_int_equal(d.licence.v, PROTO_LICENCE_VERSION);
    assert_int_equal(grant->visas.count, 2); /* all, each once */

    assert_int_equal(proto_licence_compare(&a.licence, &b.licence, &ontology, &arena, &changes),
                     E_OK);
    assert_int_equal(changes.count, 1);
    assert_int_equal(changes.changes[0].change, PROTO_CHANGE_NARROWER);
    assert_int_equal(proto_licence_compare(&b.licence, &a.licence, &ontology, &arena, &changes),
                     E_OK);
    assert_int_equal(changes.changes[0].change, PROTO_CHANGE_WIDER);

    assert_int_equal(proto_licence_explain(&a.licence, &ontology, &arena, &explained), E_OK);
    bool said = false;
    for (size_t i = 0; i < explained.grants[0].needs.count; i++) {
        said = said || strstr(explained.grants[0].needs.items[i], "A visa that has not expired");
    }
    assert_true(said);

    /* Months count from an agreement, which nobody makes on a model. */
    struct proto_text months = {span_str("12")};
    struct proto_modifier limit = {PROTO_DUO_TS, {&months, 1}};
    a.grant.modifiers = (struct proto_list){&limit, 1};
    assert_int_equal(proto_derive(parents, 1, &terms, &ontology, &arena, &d, NULL), E_OK);
    assert_int_equal(proto_licence_explain(&d.licence, &ontology, &arena, &explained), E_OK);
    said = false;
    for (size_t i = 0; i < explained.grants[0].forbids.count; i++) {
        said = said || strstr(explained.grants[0].forbids.items[i], "nobody makes one on a model");
    }
    assert_true(said);
    a.request.actions = PROTO_ACTION_BIT(PROTO_ACTION_EVALUATE);
    a.request.epsilon_u = 0; /* the model's price was paid */
    a.request.now = 5001;
    a.held.visa.asserted = 0;
    struct proto_record record = {
        .envelope = {.kind = PROTO_RECORD_LICENCE, .expires = d.licence.expires}};
    proto_policy_decide(&a.request, &record, &d.licence, false, &ontology, &a.decision);
    assert_int_equal(a.decision.reason, PROTO_REASON_MISSING_AGREEMENT);
    a.request.agreement_start = 4000;
    proto_policy_decide(&a.request, &record, &d.licence, false, &ontology, &a.decision);
    assert_int_equal(a.decision.reason, PROTO_REASON_NONE);
    a.grant.modifiers.count = 0;

    /* More than a record holds: the alternative is dropped, and nothing is forgotten. */
    struct proto_visa_wanted many[PROTO_LICENCE_VISAS_MAX], more[PROTO_LICENCE_VISAS_MAX];
    static const char *const values[] = {"0", "1", "2", "3", "4", "5", "6", "7"};
    for (size_t i = 0; i < PROTO_LICENCE_VISAS_MAX; i++) {
        many[i] = more[i] = a.wanted[0];
        many[i].value = more[i].value = span_str(values[i]);
        more[i].type = span_str("ResearcherStatus");
    }
    a.grant.visas = (struct proto_list){many, PROTO_LICENCE_VISAS_MAX};
    b.grant.visas = (struct proto_list){more, PROTO_LICENCE_VISAS_MAX};
    assert_int_equal(proto_derive(parents, 2, &terms, &ontology, &arena, &d, NULL), E_OK);
    assert_int_equal(d.cap, PROTO_CAP_NOBODY);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_best_of_several),
        cmocka_unit_test(test_clauses),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_models_and_comparisons),
    };
    return cmocka_run_group_tests_name("proto/visa", tests, ontology_setup, ontology_teardown);
}
