/* The laws of the decision on random licences with many grants, and every purpose with every permission and modifier
 * against a second reading of the specification (reference agreements, 2.2 and 2.3) that shares no code with the first. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "tests/lib/ontology.h"
#include "tests/lib/terms.h"

static void decide(const struct terms *t, struct proto_decision *ret)
{
    proto_policy_decide(&t->request, &t->record, &t->licence, t->forked, &ontology, ret);
}

/* --- The same on all nodes -------------------------------------------------------------------------------- */

/* What a node makes of the pair that reached it as bytes: its own memory, its own hierarchy. */
static void decide_elsewhere(const struct terms *t, struct span licence_bytes,
                             struct span purpose_bytes, struct buf *out)
{
    static struct proto_decision decision;
    struct proto_ontology own;
    struct arena arena = {0};
    struct proto_licence licence;
    struct proto_request request = t->request;
    assert_int_equal(proto_ontology_parse(proto_ontology_shipped(), &fake_hash, &own, NULL), E_OK);
    assert_int_equal(proto_licence_decode(licence_bytes, &arena, &licence, NULL), E_OK);
    assert_int_equal(
        proto_codec_decode(&proto_purpose_message, purpose_bytes, &arena, &request.purpose, NULL),
        E_OK);
    memset(&decision, 0xAA, sizeof decision);
    proto_policy_decide(&request, &t->record, &licence, t->forked, &own, &decision);
    assert_int_equal(proto_decision_encode(&licence, &decision, out, NULL), E_OK);
    arena_fini(&arena);
    proto_ontology_fini(&own);
}

static void test_same_on_all_nodes(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(11));
    struct terms *t = terms_new();
    size_t permits = 0, holds = 0;
    for (int i = 0; i < 10000; i++) {
        static struct proto_decision here;
        struct buf licence = {.max = 8192}, purpose = {.max = 8192};
        struct buf first = {.max = PROTO_DECISION_BYTES_MAX}, other = first;
        terms_random(t, &seed);
        assert_int_equal(proto_licence_encode(&t->licence, &licence, NULL), E_OK);
        assert_int_equal(
            proto_codec_encode(&proto_purpose_message, &t->request.purpose, &purpose, NULL), E_OK);
        decide(t, &here);
        assert_int_equal(proto_decision_encode(&t->licence, &here, &first, NULL), E_OK);
        for (int node = 0; node < 2; node++) {
            other.len = 0;
            decide_elsewhere(t, buf_span(&licence), buf_span(&purpose), &other);
            assert_true(span_equal(buf_span(&first), buf_span(&other)));
        }
        permits += here.verdict == PROTO_PERMIT;
        holds += here.verdict == PROTO_HOLD;
        buf_fini(&licence);
        buf_fini(&purpose);
        buf_fini(&first);
        buf_fini(&other);
    }
    print_message("# %zu of 10000 permitted, %zu held\n", permits, holds);
    assert_true(permits > 800 && permits < 9000 && holds > 50);
    terms_free(t);
}

/* --- Restrictions ------------------------------------------------------------------------------------------- */

static void test_restrictions_never_permit(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(12));
    struct terms *t = terms_new();
    static struct proto_decision before, after;
    size_t turned = 0;
    for (int i = 0; i < 30000; i++) {
        terms_random(t, &seed);
        decide(t, &before);
        for (int more = 0; more < 3; more++) {
            terms_restrict(t, &seed);
            decide(t, &after);
            assert_true(after.verdict >= before.verdict);
            turned += after.verdict != before.verdict;
            before = after;
        }
    }
    print_message("# %zu restrictions changed the verdict\n", turned);
    assert_true(turned > 1000);
    terms_free(t);
}

/* --- Purpose x permission x modifier ------------------------------------------------------------------------ */

/* A requester that has nothing, or everything that a modifier could ask for; and one who asked for what is excluded. */
enum stance {
    ABSENT,   /* says nothing of itself */
    MEETS,    /* satisfies every modifier */
    VIOLATES, /* says of everything the opposite */
    STANCES,
};

/* What the specification's table says of each modifier for each stance, A allow, D deny; written down by hand. */
static const struct {
    uint64_t code;
    const char *param;
    char meets[STANCES + 1]; /* ABSENT, MEETS, VIOLATES */
} modifier_table[] = {
    {PROTO_DUO_RS, "genetic", "DAD"},     {PROTO_DUO_NMDS, NULL, "DAD"},
    {PROTO_DUO_GSO, NULL, "DAD"},         {PROTO_DUO_NPUNCU, NULL, "DAD"},
    {PROTO_DUO_PUB, NULL, "DAD"},         {PROTO_DUO_COL, NULL, "DAD"},
    {PROTO_DUO_IRB, NULL, "DAD"},         {PROTO_DUO_GS, "DE", "DAD"},
    {PROTO_DUO_MOR, "2030-01-01", "AAA"}, {PROTO_DUO_TS, "2030-01-01", "AAA"},
    {PROTO_DUO_US, "ann", "DAD"},         {PROTO_DUO_PS, "p1", "DAD"},
    {PROTO_DUO_IS, "org-a", "DAD"},       {PROTO_DUO_RTN, NULL, "DAD"},
    {PROTO_DUO_CC, NULL, "AAA"},          {PROTO_DUO_NPOA, NULL, "DAD"},
    {PROTO_DUO_NPU, NULL, "DAD"},         {PROTO_DUO_NCU, NULL, "DAD"},
};
#define MODIFIERS (sizeof modifier_table / sizeof *modifier_table)

/* Rows: what is asked; columns NRES, GRU, HMB, DS(cancer), POA; as the table of purposes says, without a modifier. */
static const struct {
    uint64_t purpose;
    const char *disease;
    char cells[6];
    char with_cc[6]; /* the same, the grant also having the modifier CC */
} purpose_table[] = {
    {0, NULL, "ADDDD", "ADDDD"},
    {PROTO_DUO_GRU, NULL, "AADDD", "AADDD"},
    {PROTO_DUO_HMB, NULL, "AAADD", "AAADD"},
    {PROTO_DUO_DS, "MONDO:0005105", "AAAAD", "AAAAD"}, /* melanoma, below cancer */
    {PROTO_DUO_DS, "MONDO:0005148", "AAADD", "AAADD"}, /* diabetes, beside it */
    {PROTO_DUO_POA, NULL, "AADDA", "AADDA"},
    {PROTO_DUO_MDS, NULL, "AAAAD", "AAAAD"},
    {PROTO_DUO_CC, NULL, "ADDDD", "AAAAA"},
};
static const uint64_t permission_columns[] = {PROTO_DUO_NRES, PROTO_DUO_GRU, PROTO_DUO_HMB,
                                              PROTO_DUO_DS, PROTO_DUO_POA};

static struct proto_text promises[] = {{{(const uint8_t *)"publish", 7}},
                                       {{(const uint8_t *)"collaborate", 11}},
                                       {{(const uint8_t *)"return-results", 14}}};

static void take_stance(struct proto_request *r, struct proto_party *site, enum stance stance)
{
    r->requester = (struct proto_party){0};
    *site = (struct proto_party){0};
    if (stance == MEETS) {
        r->requester = (struct proto_party){span_str("n"), span_str("org-a"), span_str("nonprofit"),
                                            span_str("DE")};
        *site = r->requester;
        r->purpose.person = span_str("ann");
        r->purpose.project = span_str("p1");
        r->purpose.has_research = r->purpose.has_commercial = true;
        r->purpose.research = PROTO_RESEARCH_BIT(PROTO_RESEARCH_GENETIC);
        r->purpose.ethics_ref = span_str("EK");
        r->purpose.ethics_expires = 2000000000;
        r->purpose.accepted = (struct proto_list){promises, 3};
    } else if (stance == VIOLATES) {
        r->requester = (struct proto_party){span_str("n"), span_str("org-z"), span_str("forprofit"),
                                            span_str("US")};
        *site = r->requester;
        r->purpose.person = span_str("zoe");
        r->purpose.project = span_str("p9");
        r->purpose.has_research = r->purpose.has_commercial = r->purpose.commercial = true;
        r->purpose.research = PROTO_RESEARCH_BIT(PROTO_RESEARCH_METHODS) |
                              PROTO_RESEARCH_BIT(PROTO_RESEARCH_ANCESTRY);
        r->purpose.ethics_ref = span_str("EK");
        r->purpose.ethics_expires = 5;
    }
}

/* Where purpose and modifier depend on each other. */
static bool expected(size_t row, size_t column, size_t modifier, enum stance stance)
{
    uint64_t purpose = purpose_table[row].purpose, code = modifier_table[modifier].code;
    bool with_cc = code == PROTO_DUO_CC;
    bool permitted =
        (with_cc ? purpose_table[row].with_cc : purpose_table[row].cells)[column] == 'A';
    bool met = modifier_table[modifier].meets[stance] == 'A';
    if (code == PROTO_DUO_NPOA && purpose == PROTO_DUO_POA) {
        met = false; /* it asks for ancestry research by its purpose */
    }
    if (purpose == PROTO_DUO_MDS) { /* it says by its purpose that it is methods research */
        met = met && code != PROTO_DUO_NMDS && code != PROTO_DUO_RS;
    }
    if (code == PROTO_DUO_NMDS && permission_columns[column] == PROTO_DUO_DS &&
        purpose == PROTO_DUO_DS && permitted && stance == VIOLATES) {
        met = true; /* methods research inside the grant's own disease */
    }
    return permitted && met;
}

static void check_cell(size_t row, size_t column, size_t modifier, enum stance stance)
{
    static const uint8_t hash[32] = {1};
    static struct proto_decision decision;
    struct proto_text cancer = {span_str("MONDO:0004992")};
    struct proto_text asked = {span_str(purpose_table[row].disease)};
    struct proto_text param = {span_str(modifier_table[modifier].param)};
    struct proto_modifier one = {modifier_table[modifier].code, {&param, param.text.ptr ? 1 : 0}};
    struct proto_party site;
    struct proto_grant grant = {.permission = permission_columns[column],
                                .actions = PROTO_ACTION_BIT(PROTO_ACTION_COUNT),
                                .min_cohort = 11,
                                .min_sites = 1,
                                .modifiers = {&one, 1},
                                .diseases = {&cancer, permission_columns[column] == PROTO_DUO_DS},
                                .privacy = {.mechanism = PROTO_MECHANISM_GAUSSIAN,
                                            .epsilon_total_u = 8000000,
                                            .epsilon_per_query_u = 1000000,
                                            .delta_e12 = 1000000}};
    struct proto_licence licence = {.v = PROTO_LICENCE_VERSION,
                                    .dataset = span_str("d"),
                                    .version = span_str("1"),
                                    .schema_hash = span_of(hash, 32),
                                    .expires = 2000000000,
                                    .spdx = span_str("CC-BY-4.0"),
                                    .grants = {&grant, 1}};
    struct proto_record record = {
        .envelope = {.kind = PROTO_RECORD_LICENCE, .expires = 2000000000}};
    struct proto_request request = {.actions = PROTO_ACTION_BIT(PROTO_ACTION_COUNT),
                                    .purpose = {.permission = purpose_table[row].purpose,
                                                .diseases = {&asked, asked.text.ptr ? 1 : 0}},
                                    .epsilon_u = 500000,
                                    .institutions = 1,
                                    .sites = &site,
                                    .site_count = 1,
                                    .now = 1000000};
    take_stance(&request, &site, stance);
    proto_policy_decide(&request, &record, &licence, false, &ontology, &decision);
    bool permitted = decision.verdict == PROTO_PERMIT;
    if (permitted != expected(row, column, modifier, stance)) {
        print_message("# purpose row %zu, permission %llu, modifier %s, stance %d: %s %s\n", row,
                      (unsigned long long)permission_columns[column],
                      proto_duo_name(modifier_table[modifier].code), (int)stance,
                      proto_verdict_name(decision.verdict), proto_reason_name(decision.reason));
    }
    assert_int_equal(permitted, expected(row, column, modifier, stance));
}

static void test_every_cell(void **state)
{
    (void)state;
    size_t cells = 0;
    for (size_t row = 0; row < sizeof purpose_table / sizeof *purpose_table; row++) {
        for (size_t column = 0; column < 5; column++) {
            for (size_t modifier = 0; modifier < MODIFIERS; modifier++) {
                for (int stance = 0; stance < STANCES; stance++, cells++) {
                    check_cell(row, column, modifier, (enum stance)stance);
                }
            }
        }
    }
    print_message("# %zu cells\n", cells);
    assert_int_equal(cells, 8 * 5 * 18 * 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_on_all_nodes),
        cmocka_unit_test(test_restrictions_never_permit),
        cmocka_unit_test(test_every_cell),
    };
    return cmocka_run_group_tests_name("proto/terms", tests, ontology_setup, ontology_teardown);
}
