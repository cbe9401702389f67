/* The decision: the published purpose matrix cell by cell, every modifier and clause, and its laws on random pairs. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "proto/policy.h"
#include "tests/lib/fake_hash.h"
#include "tests/lib/seed.h"

static const char tsv[] = "melanoma\tcancer\nuveal\tmelanoma\ndiabetes\tdisease\ncancer\tdisease\n";
static struct proto_ontology ontology;
#define NODES 5
static const uint8_t hash32[32] = {1};
static const struct proto_party sites_de[] = {
    {.org = {(const uint8_t *)"org-a", 5}, .country = {(const uint8_t *)"DE", 2}},
    {.org = {(const uint8_t *)"org-b", 5}, .country = {(const uint8_t *)"FR", 2}}};

/* A licence with room to be changed, and a request that it permits. */
struct fixture {
    struct proto_licence licence;
    struct proto_grant grants[2];
    struct proto_modifier modifiers[8];
    struct proto_text texts[8];
    struct proto_text disease[1];
    struct proto_obligation obligations[2];
    struct proto_record record;
    struct proto_request request;
    struct proto_text diseases[1];
    struct proto_text columns[1];
    struct proto_text accepted[4];
    bool forked;
    struct proto_decision decision;
};

static void setup(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->grants[0] = (struct proto_grant){
        .permission = PROTO_DUO_GRU,
        .actions = PROTO_ACTION_ALL,
        .min_cohort = 11,
        .min_sites = 1,
        .privacy = {.mechanism = PROTO_MECHANISM_GAUSSIAN,
                    .epsilon_total_u = 8000000,
                    .epsilon_per_query_u = 2000000,
                    .epsilon_per_job_u = 4000000,
                    .delta_e12 = 1000000},
        .has_finetune = true,
        .finetune = {.max_rounds = 50, .release = PROTO_RELEASE_RECIPIENTS},
    };
    f->licence = (struct proto_licence){.v = PROTO_LICENCE_VERSION,
                                        .dataset = span_str("chain-study"),
                                        .version = span_str("1"),
                                        .schema_hash = span_of(hash32, 32),
                                        .not_before = 1000,
                                        .expires = 2000000000,
                                        .spdx = span_str("CC-BY-4.0"),
                                        .grants = {f->grants, 1}};
    f->record.envelope = (struct proto_envelope){
        .version = 1, .kind = PROTO_RECORD_LICENCE, .seq = 1, .expires = 2000000000};
    f->request = (struct proto_request){
        .requester = {span_str("n"), span_str("org-a"), span_str("nonprofit"), span_str("DE")},
        .purpose = {.person = span_str("ann"),
                    .project = span_str("p1"),
                    .permission = PROTO_DUO_GRU,
                    .has_research = true,
                    .has_commercial = true},
        .actions = PROTO_ACTION_BIT(PROTO_ACTION_COUNT),
        .epsilon_u = 500000,
        .delta_e12 = 1000000,
        .institutions = 2,
        .sites = sites_de,
        .site_count = 2,
        .now = 1000000};
}

static struct proto_decision *decide(struct fixture *f)
{
    proto_policy_decide(&f->request, &f->record, &f->licence, f->forked, &ontology, &f->decision);
    return &f->decision;
}

static void expect(struct fixture *f, enum proto_reason reason)
{
    decide(f);
    assert_string_equal(proto_reason_name(f->decision.reason), proto_reason_name(reason));
    assert_int_equal(f->decision.verdict,
                     reason == PROTO_REASON_NONE ? PROTO_PERMIT
                     : reason == PROTO_REASON_HOLD || reason == PROTO_REASON_LICENSE_UNKNOWN
                         ? PROTO_HOLD
                         : PROTO_DENY);
}

static void modifier(struct fixture *f, uint64_t code, const char *param)
{
    size_t i = f->grants[0].modifiers.count++;
    f->grants[0].modifiers.items = f->modifiers;
    f->modifiers[i] = (struct proto_modifier){.code = code};
    if (param) {
        f->texts[i].text = span_str(param);
        f->modifiers[i].params = (struct proto_list){&f->texts[i], 1};
    }
}

/* --- The published matrix ---------------------------------------------------------------------------------- */

static void grant_disease(struct fixture *f, const char *disease)
{
    f->disease[0].text = span_str(disease);
    f->grants[0].permission = PROTO_DUO_DS;
    f->grants[0].diseases = (struct proto_list){f->disease, 1};
}

static void ask(struct fixture *f, uint64_t permission, const char *disease, bool methods)
{
    f->request.purpose.permission = permission;
    f->diseases[0].text = span_str(disease);
    f->request.purpose.diseases = (struct proto_list){f->diseases, disease ? 1 : 0};
    f->request.purpose.research = methods ? PROTO_RESEARCH_BIT(PROTO_RESEARCH_METHODS) : 0;
}

static void data(struct fixture *f, int column)
{
    static const char *const diseases[] = {"cancer", "melanoma", "uveal", "diabetes"};
    if (column == 1) {
        f->grants[0].permission = PROTO_DUO_HMB;
    } else if (column >= 2 && column <= 5) {
        grant_disease(f, diseases[column - 2]);
    } else if (column == 6) {
        f->grants[0].permission = PROTO_DUO_POA;
    } else if (column == 7) {
        modifier(f, PROTO_DUO_NPU, NULL);
        f->request.requester.org_type = SPAN_NONE;
    }
}

static void test_matrix(void **state)
{
    (void)state;
    /* columns: GRU, HMB, DS-cancer, DS-melanoma, DS-uveal, DS-diabetes, POA, GRU+NPU, untagged */
    static const struct {
        uint64_t permission;
        const char *disease;
        bool methods;
        const char *cells;
    } rows[] = {
        {PROTO_DUO_GRU, NULL, false, "ADDDDDDDD"},
        {PROTO_DUO_HMB, NULL, false, "AADDDDDDD"},
        {PROTO_DUO_DS, "cancer", false, "AAADDDDDD"},
        {PROTO_DUO_DS, "melanoma", false, "AAAADDDDD"},
        {PROTO_DUO_POA, NULL, false, "ADDDDDADD"},
        {PROTO_DUO_MDS, NULL, true, "AAAAAADDD"},
        {PROTO_DUO_DS, "melanoma", true, "AAAADDDDD"},
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        for (int c = 0; c < 9; c++) {
            struct fixture f;
            setup(&f);
            ask(&f, rows[r].permission, rows[r].disease, rows[r].methods);
            data(&f, c);
            proto_policy_decide(&f.request, c == 8 ? NULL : &f.record, c == 8 ? NULL : &f.licence,
                                false, &ontology, &f.decision);
            assert_int_equal(f.decision.verdict,
                             rows[r].cells[c] == 'A' ? PROTO_PERMIT : PROTO_DENY);
            if (c == 8) {
                assert_int_equal(f.decision.reason, PROTO_REASON_NO_LICENSE);
            }
        }
    }
}

static void test_purpose_edges(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    ask(&f, 0, NULL, false);
    expect(&f, PROTO_REASON_MISSING_PURPOSE);
    f.grants[0].permission = PROTO_DUO_NRES;
    expect(&f, PROTO_REASON_NONE);
    setup(&f);
    grant_disease(&f, "cancer");
    ask(&f, PROTO_DUO_DS, NULL, false);
    expect(&f, PROTO_REASON_MISSING_DISEASE);
    ask(&f, PROTO_DUO_DS, "melanom", false); /* a prefix is not the term */
    expect(&f, PROTO_REASON_UNKNOWN_TERM);
    ask(&f, PROTO_DUO_DS, "", false);
    expect(&f, PROTO_REASON_UNKNOWN_TERM);
    setup(&f);
    ask(&f, PROTO_DUO_CC, NULL, false);
    expect(&f, PROTO_REASON_PURPOSE);
    modifier(&f, PROTO_DUO_CC, NULL);
    expect(&f, PROTO_REASON_NONE);
}

/* --- Modifiers --------------------------------------------------------------------------------------------- */

static void test_modifiers_of_research(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    modifier(&f, PROTO_DUO_NMDS, NULL);
    expect(&f, PROTO_REASON_NONE);
    ask(&f, PROTO_DUO_MDS, NULL, false);
    expect(&f, PROTO_REASON_MODIFIER_NMDS);
    grant_disease(&f, "cancer");
    ask(&f, PROTO_DUO_DS, "melanoma", true); /* inside the grant's own disease */
    expect(&f, PROTO_REASON_NONE);
    f.request.purpose.has_research = false;
    expect(&f, PROTO_REASON_MISSING_RESEARCH);
    setup(&f);
    modifier(&f, PROTO_DUO_GSO, NULL);
    expect(&f, PROTO_REASON_MODIFIER_GSO);
    f.request.purpose.research = PROTO_RESEARCH_BIT(PROTO_RESEARCH_GENETIC);
    expect(&f, PROTO_REASON_NONE);
    setup(&f);
    modifier(&f, PROTO_DUO_RS, "genetic");
    expect(&f, PROTO_REASON_MISSING_RESEARCH);
    f.request.purpose.research = PROTO_RESEARCH_BIT(PROTO_RESEARCH_GENETIC);
    expect(&f, PROTO_REASON_NONE);
    f.request.purpose.research |= PROTO_RESEARCH_BIT(PROTO_RESEARCH_DRUGDEV);
    expect(&f, PROTO_REASON_MODIFIER_RS);
    f.texts[0].text = span_str("alchemy");
    expect(&f, PROTO_REASON_MODIFIER_UNKNOWN);
    setup(&f);
    modifier(&f, PROTO_DUO_NPOA, NULL);
    expect(&f, PROTO_REASON_NONE);
    f.request.purpose.permission = PROTO_DUO_POA;
    expect(&f, PROTO_REASON_MODIFIER_NPOA);
    f.request.purpose.permission = PROTO_DUO_GRU;
    f.request.purpose.research = PROTO_RESEARCH_BIT(PROTO_RESEARCH_ANCESTRY);
    expect(&f, PROTO_REASON_MODIFIER_NPOA);
}

static void test_modifiers_of_requester(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    modifier(&f, PROTO_DUO_NPUNCU, NULL);
    expect(&f, PROTO_REASON_NONE);
    f.request.requester.org_type = span_str("government");
    expect(&f, PROTO_REASON_MODIFIER_NPUNCU);
    f.request.requester.org_type = span_str("nonprofit");
    f.request.purpose.commercial = true;
    expect(&f, PROTO_REASON_MODIFIER_NPUNCU);
    f.request.purpose.has_commercial = false;
    expect(&f, PROTO_REASON_MISSING_COMMERCIAL);
    setup(&f);
    modifier(&f, PROTO_DUO_NPU, NULL);
    f.request.requester.org_type = span_str("government");
    expect(&f, PROTO_REASON_NONE);
    f.request.requester.org_type = span_str("forprofit");
    expect(&f, PROTO_REASON_MODIFIER_NPU);
    f.request.requester.org_type = span_str("charity");
    expect(&f, PROTO_REASON_MISSING_ORG_TYPE);
    setup(&f);
    modifier(&f, PROTO_DUO_NCU, NULL);
    expect(&f, PROTO_REASON_NONE);
    f.request.purpose.commercial = true;
    expect(&f, PROTO_REASON_MODIFIER_NCU);
    setup(&f);
    modifier(&f, PROTO_DUO_US, "ann");
    expect(&f, PROTO_REASON_NONE);
    f.request.purpose.person = span_str("Ann");
    expect(&f, PROTO_REASON_MODIFIER_US);
    f.request.purpose.person = SPAN_NONE;
    expect(&f, PROTO_REASON_MISSING_PERSON);
    setup(&f);
    modifier(&f, PROTO_DUO_PS, "p2");
    expect(&f, PROTO_REASON_MODIFIER_PS);
    f.request.purpose.project = SPAN_NONE;
    expect(&f, PROTO_REASON_MISSING_PROJECT);
    setup(&f);
    modifier(&f, PROTO_DUO_IS, "org-b");
    expect(&f, PROTO_REASON_MODIFIER_IS);
    setup(&f);
    modifier(&f, PROTO_DUO_GS, "DE");
    expect(&f, PROTO_REASON_MODIFIER_GS); /* a site in FR */
    f.request.site_count = 1;
    expect(&f, PROTO_REASON_NONE);
    f.request.requester.country = span_str("DE-BY");
    expect(&f, PROTO_REASON_NONE);
    f.request.site_count = 0;
    expect(&f, PROTO_REASON_MISSING_COUNTRY);
}

static void test_modifiers_of_duty(void **state)
{
    (void)state;
    static const struct {
        uint64_t code;
        const char *duty;
        enum proto_reason reason;
    } duties[] = {{PROTO_DUO_COL, "collaborate", PROTO_REASON_MODIFIER_COL},
                  {PROTO_DUO_PUB, "publish", PROTO_REASON_MODIFIER_PUB},
                  {PROTO_DUO_RTN, "return-results", PROTO_REASON_MODIFIER_RTN}};
    struct fixture f;
    for (size_t i = 0; i < 3; i++) {
        setup(&f);
        modifier(&f, duties[i].code, NULL);
        expect(&f, duties[i].reason);
        f.accepted[0].text = span_str(duties[i].duty);
        f.request.purpose.accepted = (struct proto_list){f.accepted, 1};
        expect(&f, PROTO_REASON_NONE);
        assert_true(span_is(f.decision.duties[0].id, duties[i].duty));
    }
    setup(&f);
    modifier(&f, PROTO_DUO_IRB, NULL);
    expect(&f, PROTO_REASON_MISSING_ETHICS);
    f.request.purpose.ethics_ref = span_str("EK-1");
    f.request.purpose.ethics_expires = (uint64_t)f.request.now;
    expect(&f, PROTO_REASON_MODIFIER_IRB);
    f.request.purpose.ethics_expires++;
    expect(&f, PROTO_REASON_NONE);
    setup(&f);
    modifier(&f, PROTO_DUO_MOR, "2030-01-01");
    expect(&f, PROTO_REASON_NONE);
    f.texts[0].text = span_str("soon");
    expect(&f, PROTO_REASON_MODIFIER_MOR);
    setup(&f);
    modifier(&f, PROTO_DUO_TS, "1");
    expect(&f, PROTO_REASON_MISSING_AGREEMENT); /* months count from an agreement's start */
    f.request.agreement_start = 1000;           /* a month from 1970-01-01T00:16:40 */
    f.request.now = 31 * 86400 + 999;
    expect(&f, PROTO_REASON_NONE);
    f.request.now = 31 * 86400 + 1000;
    expect(&f, PROTO_REASON_MODIFIER_TS);
    f.request.agreement_start = 30 * 86400; /* 31 January and a month: 28 February */
    f.request.now = 58 * 86400 - 1;
    expect(&f, PROTO_REASON_NONE);
    f.request.now = 58 * 86400;
    expect(&f, PROTO_REASON_MODIFIER_TS);
    f.texts[0].text = span_str("later");
    expect(&f, PROTO_REASON_MODIFIER_UNKNOWN);
    static const char *const no_months[] = {"", "1000", "1m", " 1", "-1"};
    for (size_t i = 0; i < sizeof no_months / sizeof *no_months; i++) {
        f.texts[0].text = span_str(no_months[i]);
        expect(&f, PROTO_REASON_MODIFIER_UNKNOWN);
    }
    f.texts[0].text = span_str("2"); /* a model may have both limits: each holds */
    f.texts[1].text = span_str("1970-02-28");
    f.modifiers[0].params.count = 2;
    expect(&f, PROTO_REASON_NONE);
    f.texts[1].text = span_str("1970-02-27");
    expect(&f, PROTO_REASON_MODIFIER_TS);
    f.modifiers[0].params.count = 0;
    expect(&f, PROTO_REASON_MODIFIER_UNKNOWN);
    setup(&f);
    modifier(&f, 99, NULL);
    expect(&f, PROTO_REASON_LICENSE_INVALID);
}

/* --- Dataset-wide ------------------------------------------------------------------------------------------- */

static void test_validity(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.request.now = 1000;
    expect(&f, PROTO_REASON_NONE);
    f.request.now = 999;
    expect(&f, PROTO_REASON_NOT_YET);
    f.request.now = 1999999999;
    expect(&f, PROTO_REASON_NONE);
    f.request.now = 2000000000;
    expect(&f, PROTO_REASON_EXPIRED);
    setup(&f);
    f.forked = true;
    expect(&f, PROTO_REASON_FORKED);
    setup(&f);
    f.record.envelope.flags = PROTO_RECORD_FINAL;
    expect(&f, PROTO_REASON_REVOKED);
    proto_policy_decide(&f.request, &f.record, NULL, false, NULL, &f.decision);
    assert_int_equal(f.decision.reason, PROTO_REASON_REVOKED);
    setup(&f);
    f.record.envelope.expires--;
    expect(&f, PROTO_REASON_LICENSE_INVALID);
    setup(&f);
    proto_policy_decide(&f.request, &f.record, NULL, false, NULL, &f.decision);
    assert_int_equal(f.decision.reason, PROTO_REASON_UNSUPPORTED_VERSION);
}

static void test_recipients_and_places(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.licence.recipients.has_institutions = true; /* nobody */
    expect(&f, PROTO_REASON_RECIPIENT);
    f.texts[7].text = span_str("org-a");
    f.licence.recipients.institutions = (struct proto_list){&f.texts[7], 1};
    expect(&f, PROTO_REASON_NONE);
    f.request.requester.org = span_str("org-ab");
    expect(&f, PROTO_REASON_RECIPIENT);
    f.request.requester.org = SPAN_NONE;
    expect(&f, PROTO_REASON_MISSING_INSTITUTION);
    setup(&f);
    f.texts[7].text = span_str("DE");
    f.licence.has_geography = true;
    f.licence.geography = (struct proto_list){&f.texts[7], 1};
    expect(&f, PROTO_REASON_NONE);
    f.request.requester.country = span_str("US");
    expect(&f, PROTO_REASON_GEOGRAPHY);
    f.request.requester.country = span_str("DE");
    f.request.actions = PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE);
    f.request.rounds = 1;
    expect(&f, PROTO_REASON_GEOGRAPHY); /* weights would go to a site in FR */
    setup(&f);
    f.obligations[0] =
        (struct proto_obligation){span_str("attribution"), span_str("use"), SPAN_NONE};
    f.obligations[1] = (struct proto_obligation){span_str("publish"), span_str("use"), SPAN_NONE};
    f.licence.obligations = (struct proto_list){f.obligations, 1};
    expect(&f, PROTO_REASON_NONE);
    assert_int_equal(f.decision.duty_count, 3); /* with no-reidentify and no-relink */
    f.licence.obligations.count = 2;
    expect(&f, PROTO_REASON_OBLIGATIONS);
    setup(&f);
    f.licence.hold = true;
    expect(&f, PROTO_REASON_HOLD);
    setup(&f);
    f.request.purpose.research = PROTO_RESEARCH_BIT(PROTO_RESEARCH_SENSITIVE);
    expect(&f, PROTO_REASON_HOLD);
    f.request.purpose.permission = 0; /* DENY beats HOLD */
    expect(&f, PROTO_REASON_MISSING_PURPOSE);
}

static void test_grant_clauses(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.grants[0].actions &= ~PROTO_ACTION_BIT(PROTO_ACTION_COUNT);
    expect(&f, PROTO_REASON_ACTION);
    setup(&f);
    f.columns[0].text = span_str("age");
    f.request.columns = (struct proto_list){f.columns, 1};
    f.grants[0].has_columns = true;
    expect(&f, PROTO_REASON_COLUMNS);
    f.texts[7].text = span_str("age");
    f.grants[0].columns = (struct proto_list){&f.texts[7], 1};
    expect(&f, PROTO_REASON_NONE);
    setup(&f);
    f.grants[0].min_sites = 3;
    expect(&f, PROTO_REASON_SITES);
    f.request.institutions = 3; /* enough, yet never answered per node */
    expect(&f, PROTO_REASON_UNSUPPORTED);
    setup(&f);
    f.grants[0].mode = PROTO_MODE_SECURE;
    expect(&f, PROTO_REASON_UNSUPPORTED);
    setup(&f);
    f.request.secure = true;
    expect(&f, PROTO_REASON_UNSUPPORTED);
    setup(&f);
    f.request.institutions = 0;
    expect(&f, PROTO_REASON_SITES);
    setup(&f);
    f.request.actions = 0;
    expect(&f, PROTO_REASON_BAD_REQUEST);
    f.request.actions = PROTO_ACTION_ALL + 1;
    expect(&f, PROTO_REASON_BAD_REQUEST);
    setup(&f);
    f.request.malformed = true;
    expect(&f, PROTO_REASON_BAD_REQUEST);
}

/* A refusal tells the most that the nearest grant lets one question, or one job, take. */
static void test_refusal_tells_the_cap(void **state)
{
    (void)state;
    struct fixture f;
    char text[PROTO_DECISION_TEXT_SIZE];
    setup(&f);
    f.grants[0].privacy.epsilon_per_query_u = 1234567;
    f.request.epsilon_u = 2000001;
    expect(&f, PROTO_REASON_NOISE);
    assert_int_equal(proto_decision_nearest(&f.decision), 0);
    assert_string_equal(proto_decision_text(&f.licence, &f.decision, text),
                        "the request asks for less noise than the licence demands: epsilon at most "
                        "1.234567 and delta at most 1e-06 a question");
    f.request.epsilon_u = 1234567; /* what was told is enough */
    expect(&f, PROTO_REASON_NONE);
    f.request.epsilon_u = 8000001; /* above the whole budget: the cap is what helps */
    expect(&f, PROTO_REASON_BUDGET);
    assert_string_equal(proto_decision_text(&f.licence, &f.decision, text),
                        "the privacy budget does not cover it: epsilon at most 1.234567 and delta "
                        "at most 1e-06 a question");
    setup(&f);
    f.request.actions = PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE);
    f.request.rounds = 50;
    f.request.epsilon_u = 4000001;
    expect(&f, PROTO_REASON_NOISE);
    assert_string_equal(proto_decision_text(&f.licence, &f.decision, text),
                        "the request asks for less noise than the licence demands: epsilon at most "
                        "4 and delta at most 1e-06 a job");
    setup(&f); /* a refusal for another reason has no number */
    f.request.now = INT64_MAX / 2;
    expect(&f, PROTO_REASON_EXPIRED);
    assert_string_equal(proto_decision_text(&f.licence, &f.decision, text),
                        proto_reason_text(PROTO_REASON_EXPIRED));
    assert_string_equal(proto_decision_text(NULL, &f.decision, text),
                        proto_reason_text(PROTO_REASON_EXPIRED));
}

static void test_privacy_clauses(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.request.epsilon_u = 2000000;
    expect(&f, PROTO_REASON_NONE);
    assert_true(f.decision.charged);
    f.request.epsilon_u = 2000001;
    expect(&f, PROTO_REASON_NOISE);
    f.request.epsilon_u = 8000001;
    expect(&f, PROTO_REASON_BUDGET);
    assert_int_equal(proto_err_exit(proto_reason_err(f.decision.reason)), 5);
    f.request.epsilon_u = 0; /* the smaller of 0.5 and the cap */
    expect(&f, PROTO_REASON_NONE);
    assert_int_equal(f.decision.epsilon_u, 500000);
    f.grants[0].privacy.epsilon_per_query_u = 300000;
    expect(&f, PROTO_REASON_NONE);
    assert_int_equal(f.decision.epsilon_u, 300000);
    f.request.delta_e12 = 1100000;
    expect(&f, PROTO_REASON_NOISE);
    setup(&f);
    f.request.actions = PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE);
    f.request.rounds = 50;
    f.request.epsilon_u = 4000000;
    expect(&f, PROTO_REASON_NONE);
    assert_int_equal(f.decision.release, PROTO_RELEASE_RECIPIENTS);
    f.request.epsilon_u = 0;
    expect(&f, PROTO_REASON_MISSING_EPSILON);
    f.request.epsilon_u = 4000000;
    f.request.rounds = 51;
    expect(&f, PROTO_REASON_FINETUNE);
    f.request.rounds = 0;
    expect(&f, PROTO_REASON_FINETUNE);
    setup(&f); /* un-noised updates: only where the site shows them and the data are unrestricted */
    f.request.actions = PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE);
    f.request.rounds = 1;
    f.request.epsilon_u = 0;
    f.request.nonprivate = true;
    expect(&f, PROTO_REASON_NOISE);
    f.grants[0].visible_site = true;
    expect(&f, PROTO_REASON_NOISE);
    f.grants[0].permission = PROTO_DUO_NRES;
    f.grants[0].privacy = (struct proto_licence_privacy){0};
    expect(&f, PROTO_REASON_NONE);
    assert_false(f.decision.charged);
    assert_int_equal(f.decision.release, PROTO_RELEASE_FEDERATION);
}

static void test_recipients_of_people(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.licence.recipients.has_users = true;
    expect(&f, PROTO_REASON_RECIPIENT);
    f.texts[7].text = span_str("ann");
    f.licence.recipients.users = (struct proto_list){&f.texts[7], 1};
    expect(&f, PROTO_REASON_NONE);
    f.licence.recipients.has_projects = true; /* all lists that are there must hold */
    expect(&f, PROTO_REASON_RECIPIENT);
    f.texts[6].text = span_str("p1");
    f.licence.recipients.projects = (struct proto_list){&f.texts[6], 1};
    expect(&f, PROTO_REASON_NONE);
    f.request.purpose.project = SPAN_NONE;
    expect(&f, PROTO_REASON_MISSING_PROJECT);
    f.request.purpose.person = SPAN_NONE;
    expect(&f, PROTO_REASON_MISSING_PERSON);
}

static void test_noise_clauses(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.grants[0].privacy.min_noise_u = 2000000;
    expect(&f, PROTO_REASON_MISSING_NOISE);
    f.request.noise_multiplier_u = 1999999;
    expect(&f, PROTO_REASON_NOISE);
    f.request.noise_multiplier_u = 2000000;
    expect(&f, PROTO_REASON_NONE);
    f.grants[0].finetune.noise_mult_u = 3000000; /* of training only */
    expect(&f, PROTO_REASON_NONE);
    f.request.actions = PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE);
    f.request.rounds = 1;
    expect(&f, PROTO_REASON_NOISE);
    f.request.noise_multiplier_u = 3000000;
    expect(&f, PROTO_REASON_NONE);
    f.grants[0].finetune.clip_u = 1000000;
    expect(&f, PROTO_REASON_MISSING_CLIP);
    f.request.clip_u = 1000001;
    expect(&f, PROTO_REASON_FINETUNE);
    f.request.clip_u = 1000000;
    expect(&f, PROTO_REASON_NONE);
    f.grants[0].privacy.window_s = 86400; /* the site's ledger sees to it */
    expect(&f, PROTO_REASON_NONE);
    f.grants[0].privacy.window_s = 0;
    f.grants[0].privacy.scope = PROTO_SCOPE_REQUESTER;
    expect(&f, PROTO_REASON_UNSUPPORTED);
}

static void test_data_licence(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.licence.spdx = span_str("NONE");
    expect(&f, PROTO_REASON_NONE); /* it has no say over questions */
    f.request.actions = PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE);
    f.request.rounds = 1;
    expect(&f, PROTO_REASON_LICENSE_NONE);
    f.licence.spdx = span_str("((");
    expect(&f, PROTO_REASON_LICENSE_SYNTAX);
    f.licence.spdx = span_str("Not-On-The-List");
    expect(&f, PROTO_REASON_LICENSE_SYNTAX);
    f.licence.spdx = span_str("Zlib"); /* on the list, not in our table */
    expect(&f, PROTO_REASON_LICENSE_UNKNOWN);
    f.licence.spdx = span_str("CC-BY-NC-4.0");
    expect(&f, PROTO_REASON_NONE);
    f.request.purpose.commercial = true;
    expect(&f, PROTO_REASON_LICENSE_NONCOMMERCIAL);
    f.request.purpose.has_commercial = false;
    expect(&f, PROTO_REASON_MISSING_COMMERCIAL);
    f.licence.spdx = span_str("CC-BY-ND-4.0");
    expect(&f, PROTO_REASON_NONE);
    assert_int_equal(f.decision.release, PROTO_RELEASE_FEDERATION);
}

static void test_alternatives(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.grants[1] = f.grants[0];
    f.licence.grants.count = 2;
    f.grants[0].permission = PROTO_DUO_POA;
    f.grants[1].min_cohort = 20;
    expect(&f, PROTO_REASON_NONE);
    assert_int_equal(f.decision.grant, 1);
    assert_int_equal(f.decision.min_cohort, 20);
    f.grants[0] = f.grants[1];
    f.request.epsilon_u = 0;
    f.grants[1].privacy.epsilon_per_query_u = 100000; /* the cheaper one is taken */
    expect(&f, PROTO_REASON_NONE);
    assert_int_equal(f.decision.grant, 1);
    f.grants[1].privacy.epsilon_total_u--; /* one budget */
    expect(&f, PROTO_REASON_LICENSE_INVALID);
}

/* --- Laws --------------------------------------------------------------------------------------------------- */

static void randomise(struct fixture *f, struct seed *s)
{
    static const uint64_t purposes[] = {0, 4, 6, 7, 11, 42, 31, 43};
    static const uint64_t permissions[] = {4, 6, 7, 11, 42};
    static const uint64_t codes[] = {12, 15, 16, 18, 19, 20, 21, 22, 24,
                                     25, 26, 27, 28, 29, 44, 45, 46};
    static const char *const params[] = {"DE",         "ann",     "p1",  "org-a",
                                         "2030-01-01", "genetic", "700", "x"};
    static const char *const diseases[] = {"cancer", "melanoma", "uveal", "diabetes", "nonsense"};
    static const char *const types[] = {"nonprofit", "forprofit", "government", NULL};
    setup(f);
    f->grants[0].permission = permissions[seed_below(s, 5)];
    if (f->grants[0].permission == PROTO_DUO_DS) {
        grant_disease(f, diseases[seed_below(s, 4)]);
    }
    bool methods = seed_below(s, 3) == 0;
    ask(f, purposes[seed_below(s, 8)], seed_below(s, 4) ? diseases[seed_below(s, 5)] : NULL,
        methods);
    for (uint64_t n = seed_below(s, 4); n > 1; n--) {
        modifier(f, codes[seed_below(s, 17)], params[seed_below(s, 8)]);
    }
    f->request.requester.org_type = span_str(types[seed_below(s, 4)]);
    f->request.purpose.has_commercial = seed_below(s, 5) != 0;
    f->request.purpose.commercial = seed_below(s, 4) == 0;
    f->request.purpose.has_research = seed_below(s, 5) != 0;
    f->request.actions = 1 + seed_below(s, seed_below(s, 2) ? 3 : PROTO_ACTION_ALL);
    f->request.rounds = seed_below(s, 60);
    f->request.epsilon_u = 100000 * seed_below(s, 30);
    f->request.institutions = seed_below(s, 4);
    f->grants[0].has_columns = seed_below(s, 4) == 0;
    f->columns[0].text = span_str("age");
    f->request.columns = (struct proto_list){f->columns, seed_below(s, 2)};
    f->licence.hold = seed_below(s, 8) == 0;
}

/* One more restriction, of any sort. */
static void restrict_it(struct fixture *f, struct seed *s)
{
    static const uint64_t codes[] = {12, 15, 16, 18, 19, 20, 21, 22, 24,
                                     25, 26, 27, 28, 29, 44, 45, 46, 99};
    struct proto_grant *grant = &f->grants[0];
    switch (seed_below(s, 11)) {
    case 0:
        grant->actions &= seed_next(s);
        grant->has_finetune = grant->has_finetune || grant->actions;
        break;
    case 1:
        grant->min_sites += 1;
        break;
    case 2:
        grant->privacy.epsilon_per_query_u /= 4;
        break;
    case 3:
        grant->privacy.epsilon_per_job_u /= 4;
        break;
    case 4:
        f->licence.recipients.has_institutions = true;
        break;
    case 5:
        f->licence.not_before = seed_below(s, 2000000);
        break;
    case 6:
        f->licence.hold = true;
        break;
    case 7:
        grant->has_columns = true;
        break;
    case 8:
        grant->finetune.max_rounds = 1 + seed_below(s, 50); /* it was 50 */
        break;
    case 9:
        grant->mode = PROTO_MODE_SECURE;
        break;
    default:
        modifier(f, codes[seed_below(s, 18)], "DE");
        break;
    }
}

static void test_restrictions_never_permit(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(7));
    struct fixture *f = malloc(sizeof *f);
    size_t permits = 0, denies = 0, turned = 0;
    for (int i = 0; i < 30000; i++) {
        randomise(f, &seed);
        enum proto_verdict before = decide(f)->verdict;
        restrict_it(f, &seed);
        enum proto_verdict after = decide(f)->verdict;
        assert_true(after >= before);
        permits += before != PROTO_DENY;
        denies += before == PROTO_DENY;
        turned += after != before;
    }
    /* The generator reaches both verdicts and both outcomes, or the law would say nothing. */
    assert_true(permits > 500 && denies > 500 && turned > 200);
    free(f);
}

static void test_deterministic_and_explained(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(8));
    struct fixture *f = malloc(sizeof *f);
    struct proto_decision *again = malloc(sizeof *again);
    for (int i = 0; i < 20000; i++) {
        randomise(f, &seed);
        decide(f);
        memset(again, 0xAA, sizeof *again);
        proto_policy_decide(&f->request, &f->record, &f->licence, false, &ontology, again);
        assert_memory_equal(&f->decision, again, sizeof *again);
        bool refuted = false;
        for (size_t c = 0; c < f->decision.clause_count; c++) {
            const struct proto_clause *clause = &f->decision.clauses[c];
            refuted = refuted || (clause->reason == f->decision.reason);
            assert_int_equal(clause->result == PROTO_CLAUSE_PASS,
                             clause->reason == PROTO_REASON_NONE);
        }
        assert_true(refuted);
        assert_int_equal(f->decision.verdict == PROTO_PERMIT,
                         f->decision.reason == PROTO_REASON_NONE);
        assert_true(f->decision.verdict != PROTO_DENY || f->decision.grant == -1);
    }
    free(again);
    free(f);
}

static void assert_alike(struct proto_decision *a, struct proto_decision *b)
{
    assert_int_equal(a->duty_count, b->duty_count);
    for (size_t i = 0; i < a->duty_count; i++) {
        assert_true(span_equal(a->duties[i].id, b->duties[i].id) &&
                    span_equal(a->duties[i].when, b->duties[i].when) &&
                    span_equal(a->duties[i].text, b->duties[i].text));
        a->duties[i] = b->duties[i]; /* spans of another copy */
    }
    assert_memory_equal(a, b, sizeof *a);
}

/* What nodes have in common is bytes. Each decodes the record and reads the hierarchy for itself, and all must decide alike. */
static void test_alike_on_all_nodes(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(9));
    struct fixture *f = malloc(sizeof *f);
    struct proto_decision *there = malloc(sizeof *there);
    struct proto_ontology ontologies[NODES];
    int pairs = 0, verdicts[3] = {0};
    for (int n = 0; n < NODES; n++) {
        assert_int_equal(proto_ontology_parse(span_str(tsv), &fake_hash, &ontologies[n], NULL),
                         E_OK);
    }
    while (pairs < 10000) {
        struct buf body = {.max = 8192};
        randomise(f, &seed);
        bool publishable = proto_licence_encode(&f->licence, &body, NULL) == E_OK;
        for (int n = 0; publishable && n < NODES; n++) {
            struct arena arena = {0};
            struct proto_licence licence;
            assert_int_equal(proto_licence_decode(buf_span(&body), &arena, &licence, NULL), E_OK);
            memset(there, n, sizeof *there);
            proto_policy_decide(&f->request, &f->record, &licence, false, &ontologies[n], there);
            decide(f); /* as it was before it was bytes */
            assert_alike(there, &f->decision);
            arena_fini(&arena);
        }
        if (publishable) {
            verdicts[f->decision.verdict]++;
            pairs++;
        }
        buf_fini(&body);
    }
    assert_true(verdicts[PROTO_PERMIT] && verdicts[PROTO_HOLD] && verdicts[PROTO_DENY]);
    for (int n = 0; n < NODES; n++) {
        proto_ontology_fini(&ontologies[n]);
    }
    free(there);
    free(f);
}

static void test_builder(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    static const struct proto_party sites[] = {
        {.org = {(const uint8_t *)"org-a", 5}, .country = {(const uint8_t *)"DE", 2}},
        {.org = {(const uint8_t *)"org-a", 5}, .country = {(const uint8_t *)"DE", 2}},
        {.org = {(const uint8_t *)"org-b", 5}, .country = {(const uint8_t *)"FR", 2}},
        {.org = {NULL, 0}, .country = {NULL, 0}}};
    struct proto_use use = {.actions = 1, .epsilon = 1.1, .delta = 1e-6, .noise_multiplier = 0.7};
    struct proto_request r;
    proto_request_build(&f.request.requester, &f.request.purpose, &use, sites, 4, 5, &r);
    assert_int_equal(r.institutions, 2); /* two nodes of one, and one that nobody knows */
    assert_int_equal(r.epsilon_u, 1100000);
    assert_int_equal(r.delta_e12, 1000000);
    assert_int_equal(r.noise_multiplier_u, 700000);
    assert_false(r.malformed);
    const double odd[] = {NAN, -1, INFINITY, 1e300};
    for (size_t i = 0; i < 4; i++) {
        use.epsilon = odd[i];
        proto_request_build(&f.request.requester, &f.request.purpose, &use, sites, 4, 5, &r);
        assert_true(r.malformed);
        f.request.malformed = true;
        expect(&f, PROTO_REASON_BAD_REQUEST);
    }
}

static void test_clause_texts(void **state)
{
    (void)state;
    struct fixture f;
    char text[PROTO_CLAUSE_EXPECTED_SIZE];
    setup(&f);
    grant_disease(&f, "cancer");
    modifier(&f, PROTO_DUO_GS, "DE");
    ask(&f, PROTO_DUO_DS, "melanoma", false);
    decide(&f);
    bool found = false;
    for (size_t i = 0; i < f.decision.clause_count; i++) {
        const struct proto_clause *clause = &f.decision.clauses[i];
        assert_true(proto_clause_name(&f.licence, clause, text)[0]);
        if (strcmp(text, "modifier GS") == 0) {
            found = true;
            assert_string_equal(proto_clause_expected(&f.licence, clause, text),
                                "geographical restriction: DE");
        }
        assert_true(proto_clause_expected(&f.licence, clause, text)[0]);
    }
    assert_true(found);
}

static void test_names(void **state)
{
    (void)state;
    for (int i = 0; i < PROTO_REASON_TOTAL; i++) {
        enum proto_reason reason;
        assert_true(proto_reason_by_name(proto_reason_name((enum proto_reason)i), &reason));
        assert_int_equal(reason, i);
        assert_true(i == 0 || proto_reason_err((enum proto_reason)i) != E_OK);
    }
    assert_string_equal(proto_reason_name(PROTO_REASON_PURPOSE), "PURPOSE");
}

/* --- The licence as one object ------------------------------------------------------------------------------ */

static enum err pass(struct fixture *f)
{
    struct buf first = {.max = 8192}, second = {.max = 8192};
    struct arena arena = {0};
    struct proto_licence back;
    enum err err = proto_licence_encode(&f->licence, &first, NULL);
    if (!err) {
        assert_int_equal(proto_licence_decode(buf_span(&first), &arena, &back, NULL), E_OK);
        assert_int_equal(proto_licence_encode(&back, &second, NULL), E_OK);
        assert_true(span_equal(buf_span(&first), buf_span(&second)));
        first.ptr[3] = PROTO_LICENCE_VERSION + 1;
        assert_int_equal(proto_licence_decode(buf_span(&first), &arena, &back, NULL),
                         E_UNSUPPORTED);
    }
    arena_fini(&arena);
    buf_fini(&first);
    buf_fini(&second);
    return err;
}

static void test_licence_body(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    modifier(&f, PROTO_DUO_NPUNCU, NULL);
    assert_int_equal(pass(&f), E_OK);
    f.licence.recipients.has_institutions = true; /* the empty list is not the absent one */
    assert_int_equal(pass(&f), E_OK);
#define BAD(...)                                                                                   \
    do {                                                                                           \
        setup(&f);                                                                                 \
        __VA_ARGS__;                                                                               \
        assert_int_equal(pass(&f), E_INVALID);                                                     \
    } while (0)
    BAD(f.grants[0].permission = 17);
    BAD(f.grants[0].permission = PROTO_DUO_DS);
    BAD(grant_disease(&f, "cancer"); f.grants[0].permission = PROTO_DUO_GRU);
    BAD(modifier(&f, 42, NULL));
    BAD(f.grants[0].has_finetune = false);
    BAD(f.grants[0].privacy.epsilon_total_u = 0);
    BAD(f.grants[0].privacy.delta_e12 = 0);
    BAD(f.grants[0].privacy.epsilon_per_query_u = 9000000);
    BAD(f.grants[0].privacy = (struct proto_licence_privacy){0});
    BAD(f.licence.not_before = 2000000000);
    BAD(f.licence.dataset = span_str("Chain"));
    BAD(f.texts[7].text = span_str("EU"); f.licence.geography = (struct proto_list){&f.texts[7], 1};
        f.licence.has_geography = true);
    BAD(f.obligations[0].id = span_str("embargo-until"); f.obligations[0].when = span_str("use");
        f.obligations[0].text = span_str("soon");
        f.licence.obligations = (struct proto_list){f.obligations, 1});
    BAD(f.obligations[0].id = span_str("dance"); f.obligations[0].when = span_str("use");
        f.licence.obligations = (struct proto_list){f.obligations, 1});
    setup(&f);
    f.licence.grants.count = 0;
    assert_int_equal(pass(&f), E_LIMIT);
    setup(&f);
    f.grants[0].min_cohort = 1;
    assert_int_equal(pass(&f), E_LIMIT);
    const char *const *codes;
    size_t count;
    assert_true(proto_geography_expand("EU", &codes, &count) && count == 27);
    assert_true(proto_geography_expand("EEA", &codes, &count) && count == 30);
    assert_true(proto_geography_expand("DE-BY", &codes, &count) && count == 0);
    assert_false(proto_geography_expand("Germany", &codes, &count));
}

static int group_setup(void **state)
{
    (void)state;
    return proto_ontology_parse(span_str(tsv), &fake_hash, &ontology, NULL) != E_OK;
}

static int group_teardown(void **state)
{
    (void)state;
    proto_ontology_fini(&ontology);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_purpose_edges),
        cmocka_unit_test(test_modifiers_of_research),
        cmocka_unit_test(test_modifiers_of_requester),
        cmocka_unit_test(test_modifiers_of_duty),
        cmocka_unit_test(test_validity),
        cmocka_unit_test(test_recipients_and_places),
        cmocka_unit_test(test_grant_clauses),
        cmocka_unit_test(test_privacy_clauses),
        cmocka_unit_test(test_refusal_tells_the_cap),
        cmocka_unit_test(test_recipients_of_people),
        cmocka_unit_test(test_noise_clauses),
        cmocka_unit_test(test_data_licence),
        cmocka_unit_test(test_alternatives),
        cmocka_unit_test(test_restrictions_never_permit),
        cmocka_unit_test(test_deterministic_and_explained),
        cmocka_unit_test(test_alike_on_all_nodes),
        cmocka_unit_test(test_builder),
        cmocka_unit_test(test_clause_texts),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_licence_body),
    };
    return cmocka_run_group_tests_name("proto/policy", tests, group_setup, group_teardown);
}
