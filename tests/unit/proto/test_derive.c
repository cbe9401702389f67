/* The licence of a model: the specification's cases by hand, and the law that it permits nothing that a parent denies. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "proto/derive.h"
#include "tests/lib/ontology.h"
#include "tests/lib/terms.h"

static const uint8_t id_a[16] = {1}, id_b[16] = {2}, weights[32] = {9};

/* A parent with one grant that allows training; tests change what they are about. */
struct parent {
    struct proto_licence licence;
    struct proto_grant grant;
    struct proto_modifier modifiers[4];
    struct proto_text params[4];
    struct proto_text diseases[4];
    struct proto_text places[4];
    struct proto_text names[4];
    struct proto_obligation obligations[4];
};

static void parent_init(struct parent *p, const char *spdx)
{
    static const uint8_t hash[32] = {1};
    memset(p, 0, sizeof *p);
    p->grant =
        (struct proto_grant){.permission = PROTO_DUO_GRU,
                             .actions = PROTO_ACTION_ALL,
                             .min_cohort = 11,
                             .min_sites = 1,
                             .privacy = {.mechanism = PROTO_MECHANISM_GAUSSIAN,
                                         .epsilon_total_u = 8000000,
                                         .epsilon_per_query_u = 1000000,
                                         .epsilon_per_job_u = 8000000,
                                         .delta_e12 = 1000000},
                             .has_finetune = true,
                             .finetune = {.max_rounds = 50, .release = PROTO_RELEASE_PUBLIC}};
    p->licence = (struct proto_licence){.v = PROTO_LICENCE_VERSION,
                                        .dataset = span_str("data"),
                                        .version = span_str("1"),
                                        .schema_hash = span_of(hash, 32),
                                        .not_before = 1000,
                                        .expires = 2000000000,
                                        .spdx = span_str(spdx),
                                        .survives_revocation = true,
                                        .grants = {&p->grant, 1}};
}

static void add_modifier(struct parent *p, uint64_t code, const char *param)
{
    size_t at = p->grant.modifiers.count++;
    p->params[at].text = span_str(param);
    p->modifiers[at] = (struct proto_modifier){code, {&p->params[at], param ? 1 : 0}};
    p->grant.modifiers.items = p->modifiers;
}

static void for_diseases(struct parent *p, const char *one, const char *two)
{
    p->grant.permission = PROTO_DUO_DS;
    p->diseases[0].text = span_str(one);
    p->diseases[1].text = span_str(two);
    p->grant.diseases = (struct proto_list){p->diseases, two ? 2 : 1};
}

static enum err derive(const struct parent *a, const struct parent *b, bool private,
                       struct arena *arena, struct proto_derivation *ret)
{
    const struct proto_derive_parent parents[] = {{&a->licence, id_a}, {&b->licence, id_b}};
    const struct proto_derive_terms terms = {.model = span_str("00ff"),
                                             .version = span_str("1"),
                                             .weights = span_of(weights, 32),
                                             .private = private,
                                             .now = 5000};
    enum err err = proto_derive(parents, 2, &terms, &ontology, arena, ret, NULL);
    if (!err) {
        struct buf bytes = {.max = 8192};
        struct arena own = {0};
        struct proto_licence back;
        assert_int_equal(proto_licence_encode(&ret->licence, &bytes, NULL), E_OK);
        assert_int_equal(proto_licence_decode(buf_span(&bytes), &own, &back, NULL), E_OK);
        assert_int_equal(back.derived_from.count, 2);
        arena_fini(&own);
        buf_fini(&bytes);
    }
    return err;
}

static bool owes(const struct proto_derivation *d, const char *id)
{
    const struct proto_obligation *items = d->licence.obligations.items;
    for (size_t i = 0; i < d->licence.obligations.count; i++) {
        if (span_is(items[i].id, id)) {
            return true;
        }
    }
    return false;
}

static const struct proto_grant *only_grant(const struct proto_derivation *d)
{
    assert_int_equal(d->licence.grants.count, 1);
    return d->licence.grants.items;
}

static const struct proto_modifier *modifier_of(const struct proto_derivation *d, uint64_t code)
{
    const struct proto_grant *grant = only_grant(d);
    const struct proto_modifier *items = grant->modifiers.items;
    for (size_t i = 0; i < grant->modifiers.count; i++) {
        if (items[i].code == code) {
            return &items[i];
        }
    }
    return NULL;
}

static const struct proto_text *texts(const struct proto_list *list)
{
    return list->items;
}

#define WITH(spdx_a, spdx_b)                                                                       \
    struct parent a, b;                                                                            \
    struct proto_derivation d;                                                                     \
    struct arena arena = {0};                                                                      \
    parent_init(&a, spdx_a);                                                                       \
    parent_init(&b, spdx_b)

static void test_share_alike_and_noncommercial(void **state)
{
    (void)state;
    WITH("CC-BY-SA-4.0", "CC-BY-NC-4.0");
    assert_int_equal(derive(&a, &b, true, &arena, &d), E_OK);
    assert_true(owes(&d, "share-alike") && owes(&d, "non-commercial") && owes(&d, "attribution"));
    assert_true(span_is(d.licence.spdx, "CC-BY-SA-4.0 AND CC-BY-NC-4.0"));
    assert_int_equal(d.release, PROTO_RELEASE_FEDERATION);
    assert_int_equal(d.cap, PROTO_CAP_CLASH);
    assert_string_equal(d.clash, "CC-BY-SA-4.0 x CC-BY-NC-4.0");
    assert_non_null(modifier_of(&d, PROTO_DUO_NCU)); /* it binds whoever uses the model */
    assert_int_equal(only_grant(&d)->finetune.release, PROTO_RELEASE_FEDERATION);
    arena_fini(&arena);
}

static void test_data_licences(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        enum err err;
        enum proto_cap cap;
        const char *clash;
    } table[] = {
        {"CC0-1.0", "MIT", E_OK, PROTO_CAP_NONE, ""},
        {"CC-BY-SA-4.0", "GPL-3.0-only", E_OK, PROTO_CAP_NONE, ""},
        {"CC-BY-SA-4.0", "GPL-2.0-only", E_OK, PROTO_CAP_CLASH, "CC-BY-SA-4.0 x GPL-2.0-only"},
        {"GPL-2.0-only", "Apache-2.0", E_OK, PROTO_CAP_CLASH, "GPL-2.0-only x Apache-2.0"},
        {"CC-BY-4.0", "CC-BY-ND-4.0", E_OK, PROTO_CAP_NO_SHARE, "CC-BY-ND-4.0"},
        {"CC-BY-4.0", "Zlib", E_OK, PROTO_CAP_NO_SHARE, "Zlib"},
        {"CC-BY-4.0", "NOASSERTION", E_REFUSED, PROTO_CAP_NONE, ""},
        {"LicenseRef-own", "CC0-1.0", E_REFUSED, PROTO_CAP_NONE, ""},
        {"CC-BY-NC-SA-4.0", "CC-BY-SA-4.0 OR CC-BY-4.0", E_OK, PROTO_CAP_NONE, ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        WITH(table[i].a, table[i].b);
        assert_int_equal(derive(&a, &b, true, &arena, &d), table[i].err);
        if (!table[i].err) {
            assert_int_equal(d.cap, table[i].cap);
            assert_string_equal(d.clash, table[i].clash);
            assert_int_equal(d.release == PROTO_RELEASE_PUBLIC, table[i].cap == PROTO_CAP_NONE);
        }
        arena_fini(&arena);
    }
    WITH("CC-BY-NC-SA-4.0", "CC-BY-SA-4.0 OR CC-BY-4.0");
    assert_int_equal(derive(&a, &b, true, &arena, &d), E_OK);
    assert_true(span_is(d.licence.spdx, "CC-BY-NC-SA-4.0 AND CC-BY-4.0")); /* what was elected */
    assert_int_equal(derive(&a, &b, false, &arena, &d), E_OK);
    assert_int_equal(d.cap, PROTO_CAP_NONPRIVATE);
    assert_int_equal(d.release, PROTO_RELEASE_FEDERATION);
    arena_fini(&arena);
}

static void test_purposes(void **state)
{
    (void)state;
    /* one and other; 0 nobody. Rows and columns NRES, GRU, HMB, DS, POA */
    static const uint64_t codes[] = {4, 42, 6, 7, 11};
    static const uint64_t meets[5][5] = {{4, 42, 6, 7, 11},
                                         {42, 42, 6, 7, 11},
                                         {6, 6, 6, 7, 0},
                                         {7, 7, 7, 7, 0},
                                         {11, 11, 0, 0, 11}};
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = 0; j < 5; j++) {
            WITH("CC0-1.0", "CC0-1.0");
            a.grant.permission = codes[i];
            b.grant.permission = codes[j];
            if (codes[i] == PROTO_DUO_DS) {
                for_diseases(&a, "MONDO:0004992", NULL);
            }
            if (codes[j] == PROTO_DUO_DS) {
                for_diseases(&b, "MONDO:0004992", NULL);
            }
            assert_int_equal(derive(&a, &b, true, &arena, &d), E_OK);
            if (meets[i][j]) {
                assert_int_equal(only_grant(&d)->permission, meets[i][j]);
                assert_int_equal(d.cap, PROTO_CAP_NONE);
            } else {
                assert_int_equal(d.cap, PROTO_CAP_NOBODY);
                assert_true(d.licence.recipients.has_institutions);
                assert_int_equal(d.licence.recipients.institutions.count, 0);
            }
            arena_fini(&arena);
        }
    }
}

static void test_diseases(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *meet;
    } table[] = {
        {"MONDO:0004992", "MONDO:0005105", "MONDO:0005105"}, /* cancer, melanoma */
        {"MONDO:0006486", "MONDO:0004992", "MONDO:0006486"},
        {"MONDO:0004992", "MONDO:0005087", "MONDO:0008903"}, /* cancer, lungs: lung cancer */
        {"MONDO:0005066", "MONDO:0005151", "MONDO:0005015"}, /* metabolic, endocrine: diabetes */
        {"MONDO:0004992", "MONDO:0005148", NULL},            /* cancer, diabetes */
        {"MONDO:9999999", "MONDO:0004992", NULL},            /* nobody knows it */
        {"MONDO:9999999", "MONDO:9999999", "MONDO:9999999"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        WITH("CC0-1.0", "CC0-1.0");
        for_diseases(&a, table[i].a, NULL);
        for_diseases(&b, table[i].b, NULL);
        assert_int_equal(derive(&a, &b, true, &arena, &d), E_OK);
        if (table[i].meet) {
            const struct proto_grant *grant = only_grant(&d);
            assert_int_equal(grant->diseases.count, 1);
            assert_true(span_is(texts(&grant->diseases)[0].text, table[i].meet));
        } else {
            assert_int_equal(d.cap, PROTO_CAP_NOBODY);
        }
        arena_fini(&arena);
    }
    WITH("CC0-1.0", "CC0-1.0");
    for_diseases(&a, "MONDO:0004992", "MONDO:0005015");
    for_diseases(&b, "MONDO:0005105", "MONDO:0005148");
    assert_int_equal(derive(&a, &b, true, &arena, &d), E_OK);
    assert_int_equal(only_grant(&d)->diseases.count, 2); /* melanoma and type 2 diabetes */
    arena_fini(&arena);
}

static void test_times_and_duties(void **state)
{
    (void)state;
    WITH("CC0-1.0", "CC0-1.0");
    a.licence.expires = 1900000000;
    b.licence.not_before = 7000;
    b.licence.survives_revocation = false;
    b.licence.hold = true;
    add_modifier(&a, PROTO_DUO_MOR, "2027-01-01");
    add_modifier(&b, PROTO_DUO_MOR, "2028-01-01");
    add_modifier(&a, PROTO_DUO_TS, "12"); /* from the agreement's beginning on */
    add_modifier(&b, PROTO_DUO_TS, "2029-01-01");
    a.obligations[0] = (struct proto_obligation){span_str("embargo-until"), span_str("publish"),
                                                 span_str("2027-05-01")};
    b.obligations[0] = (struct proto_obligation){span_str("embargo-until"), span_str("publish"),
                                                 span_str("2026-05-01")};
    a.obligations[1] =
        (struct proto_obligation){span_str("delete-by"), span_str("use"), span_str("2030-01-01")};
    b.obligations[1] =
        (struct proto_obligation){span_str("delete-by"), span_str("use"), span_str("2029-01-01")};
    a.obligations[2] =
        (struct proto_obligation){span_str("attribution"), span_str("publish"), span_str("A")};
    b.obligations[2] =
        (struct proto_obligation){span_str("attribution"), span_str("publish"), span_str("B")};
    a.licence.obligations = (struct proto_list){a.obligations, 3};
    b.licence.obligations = (struct proto_list){b.obligations, 3};
    assert_int_equal(derive(&a, &b, true, &arena, &d), E_OK);
    assert_int_equal(d.licence.expires, 1900000000);
    assert_int_equal(d.licence.not_before, 7000);
    assert_true(d.licence.hold && !d.licence.survives_revocation);
    assert_true(span_is(texts(&modifier_of(&d, PROTO_DUO_MOR)->params)[0].text, "2028-01-01"));
    const struct proto_list *limits = &modifier_of(&d, PROTO_DUO_TS)->params;
    assert_int_equal(limits->count, 2);
    assert_true(span_is(texts(limits)[0].text, "12"));
    assert_true(span_is(texts(limits)[1].text, "2029-01-01"));
    const struct proto_obligation *duties = d.licence.obligations.items;
    assert_int_equal(d.licence.obligations.count, 4);
    assert_true(span_is(duties[0].text, "2027-05-01"));
    assert_true(span_is(duties[1].text, "2029-01-01"));
    a.licence.expires = 6000; /* before the other one begins */
    assert_int_equal(derive(&a, &b, true, &arena, &d), E_INVALID);
    arena_fini(&arena);
}

static void test_people_and_places(void **state)
{
    (void)state;
    WITH("CC0-1.0", "CC0-1.0");
    a.names[0].text = span_str("org-a");
    a.names[1].text = span_str("org-b");
    b.names[0].text = span_str("org-b");
    a.licence.recipients.has_institutions = b.licence.recipients.has_institutions = true;
    a.licence.recipients.institutions = (struct proto_list){a.names, 2};
    b.licence.recipients.institutions = (struct proto_list){b.names, 1};
    a.places[0].text = span_str("DE");
    a.places[1].text = span_str("FR");
    b.places[0].text = span_str("DE-BY");
    b.places[1].text = span_str("US");
    a.licence.has_geography = b.licence.has_geography = true;
    a.licence.geography = (struct proto_list){a.places, 2};
    b.licence.geography = (struct proto_list){b.places, 2};
    add_modifier(&a, PROTO_DUO_US, "ann");
    add_modifier(&b, PROTO_DUO_US, "ann");
    add_modifier(&a, PROTO_DUO_NPU, NULL);
    add_modifier(&b, PROTO_DUO_NCU, NULL);
    assert_int_equal(derive(&a, &b, true, &arena, &d), E_OK);
    assert_int_equal(d.licence.recipients.institutions.count, 1);
    assert_int_equal(d.licence.geography.count, 1);
    assert_true(span_is(texts(&d.licence.geography)[0].text, "DE-BY"));
    assert_true(modifier_of(&d, PROTO_DUO_NPU) && modifier_of(&d, PROTO_DUO_NCU));
    b.params[0].text = span_str("bob"); /* nobody is both */
    assert_int_equal(derive(&a, &b, true, &arena, &d), E_OK);
    assert_int_equal(d.cap, PROTO_CAP_NOBODY);
    arena_fini(&arena);
}

/* --- The law -------------------------------------------------------------------------------------------------- */

/* What is about data and price, not about purpose or people, is out of the way. */
static void ease(struct terms *t)
{
    t->forked = false;
    t->record.envelope.flags = 0;
    for (size_t i = 0; i < t->licence.grants.count; i++) {
        struct proto_grant *grant = &t->grants[i];
        grant->privacy.min_noise_u = 0;
        grant->min_sites = 1;
        grant->has_columns = false;
        if (grant->has_finetune) {
            grant->finetune.max_rounds = 1000;
            grant->finetune.clip_u = 0;
        }
    }
}

static enum proto_verdict verdict_of(const struct proto_licence *licence,
                                     const struct proto_request *request)
{
    static struct proto_decision decision;
    struct proto_record record = {
        .envelope = {.kind = PROTO_RECORD_LICENCE, .expires = licence->expires}};
    proto_policy_decide(request, &record, licence, false, &ontology, &decision);
    return decision.verdict;
}

static void test_permits_nothing_that_a_parent_denies(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(13));
    struct terms *parents[3], *asker = terms_new();
    size_t derived = 0, permitted = 0, same = 0;
    for (size_t i = 0; i < 3; i++) {
        parents[i] = terms_new();
    }
    for (int round = 0; round < 6000; round++) {
        struct proto_derive_parent list[3], turned[3];
        struct proto_derivation d, e;
        struct arena arena = {0};
        size_t count = 1 + seed_below(&seed, 3), product = 1;
        for (size_t i = 0; i < count; i++) {
            terms_random(parents[i], &seed);
            ease(parents[i]);
            list[i] = (struct proto_derive_parent){&parents[i]->licence, i ? id_b : id_a};
            turned[count - 1 - i] = list[i];
            product *= parents[i]->licence.grants.count;
        }
        const struct proto_derive_terms terms = {.model = span_str("m"),
                                                 .version = span_str("1"),
                                                 .weights = span_of(weights, 32),
                                                 .private = true,
                                                 .now = 2000};
        enum err err = proto_derive(list, count, &terms, &ontology, &arena, &d, NULL);
        assert_int_equal(err, proto_derive(turned, count, &terms, &ontology, &arena, &e, NULL));
        for (int ask = 0; !err && ask < 20; ask++) {
            terms_random(asker, &seed);
            asker->request.actions = PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE);
            asker->request.secure = false;
            asker->request.epsilon_u = 100000;
            asker->request.delta_e12 = 0;
            asker->request.rounds = 1;
            enum proto_verdict model = verdict_of(&d.licence, &asker->request);
            derived++;
            permitted += model != PROTO_DENY;
            for (size_t i = 0; i < count && model != PROTO_DENY; i++) {
                enum proto_verdict parent = verdict_of(list[i].licence, &asker->request);
                assert_true(parent <= model); /* HOLD stays HOLD */
            }
            if (product <= PROTO_LICENCE_GRANTS_MAX) { /* no alternative was left out */
                assert_int_equal(verdict_of(&e.licence, &asker->request), model);
                same++;
            }
        }
        arena_fini(&arena);
    }
    print_message("# %zu requests, %zu permitted; %zu in either order\n", derived, permitted, same);
    assert_true(permitted > 1000 && same > 20000);
    for (size_t i = 0; i < 3; i++) {
        terms_free(parents[i]);
    }
    terms_free(asker);
}

/* --- uses of a model --- */

/* A requester of an institution in Germany, not for profit, that says all that DUO can ask for. */
static struct proto_request request_of(uint64_t action, uint64_t permission,
                                       struct proto_text *disease)
{
    static struct proto_party party;
    party = (struct proto_party){.node = span_of(id_a, 16),
                                 .org = span_str("charite"),
                                 .org_type = span_str("nonprofit"),
                                 .country = span_str("DE")};
    return (struct proto_request){.requester = party,
                                  .purpose = {.person = span_str("ada"),
                                              .project = span_str("ada"),
                                              .permission = permission,
                                              .diseases = {disease, disease ? 1 : 0},
                                              .has_research = true,
                                              .has_commercial = true},
                                  .actions = action,
                                  .rounds =
                                      action == PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE) ? 3 : 0,
                                  .institutions = 1,
                                  .sites = &party,
                                  .site_count = 1,
                                  .now = 6000};
}

/* Applying a model and training on it, for each purpose; data that allow training alone make a model that may be applied. */
static void test_each_use(void **state)
{
    (void)state;
    static const struct {
        uint64_t permission;
        const char *disease;
        enum proto_reason reason;
    } table[] = {
        {PROTO_DUO_DS, "MONDO:0008903", PROTO_REASON_NONE},
        {PROTO_DUO_DS, "MONDO:0004992", PROTO_REASON_PURPOSE},
        {PROTO_DUO_DS, "MONDO:0004995", PROTO_REASON_PURPOSE},
        {PROTO_DUO_DS, "MONDO:9999999", PROTO_REASON_UNKNOWN_TERM},
        {PROTO_DUO_DS, NULL, PROTO_REASON_MISSING_DISEASE},
        {PROTO_DUO_HMB, NULL, PROTO_REASON_PURPOSE},
        {PROTO_DUO_GRU, NULL, PROTO_REASON_PURPOSE},
        {PROTO_DUO_POA, NULL, PROTO_REASON_PURPOSE},
        {PROTO_DUO_MDS, NULL, PROTO_REASON_NONE},
        {PROTO_DUO_CC, NULL, PROTO_REASON_PURPOSE},
        {0, NULL, PROTO_REASON_MISSING_PURPOSE},
    };
    static const uint64_t uses[] = {PROTO_ACTION_BIT(PROTO_ACTION_EVALUATE),
                                    PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE)};
    WITH("CC-BY-4.0", "CC-BY-4.0");
    for_diseases(&a, "MONDO:0004992", NULL);
    for_diseases(&b, "MONDO:0008903", NULL);
    a.grant.actions = b.grant.actions = PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE);
    assert_int_equal(derive(&a, &b, true, &arena, &d), E_OK);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (size_t u = 0; u < 2; u++) {
            struct proto_text disease = {span_str(table[i].disease ? table[i].disease : "")};
            struct proto_request request =
                request_of(uses[u], table[i].permission, table[i].disease ? &disease : NULL);
            struct proto_record record = {
                .envelope = {.kind = PROTO_RECORD_LICENCE, .expires = d.licence.expires}};
            struct proto_decision decision;
            proto_policy_decide(&request, &record, &d.licence, false, &ontology, &decision);
            assert_int_equal(decision.reason, table[i].reason);
            assert_int_equal(decision.verdict, table[i].reason ? PROTO_DENY : PROTO_PERMIT);
            request.now = 2000000000; /* its end */
            proto_policy_decide(&request, &record, &d.licence, false, &ontology, &decision);
            assert_int_equal(decision.reason, PROTO_REASON_EXPIRED);
            request.now = 6000;
            record.envelope.flags = PROTO_RECORD_FINAL;
            proto_policy_decide(&request, &record, &d.licence, false, &ontology, &decision);
            assert_int_equal(decision.reason, PROTO_REASON_REVOKED);
            request.actions =
                PROTO_ACTION_BIT(PROTO_ACTION_COUNT); /* a model answers no questions */
            record.envelope.flags = 0;
            proto_policy_decide(&request, &record, &d.licence, false, &ontology, &decision);
            assert_int_equal(decision.verdict, PROTO_DENY);
        }
    }
    arena_fini(&arena);
}

/* A model from outside has its data licence alone. */
static void test_imported(void **state)
{
    (void)state;
    enum {
        APPLY = PROTO_ACTION_BIT(PROTO_ACTION_EVALUATE),
        BASE = PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE)
    };
    static const struct {
        const char *spdx;
        int commercial; /* -1: not said */
        uint64_t action;
        enum proto_verdict verdict;
        enum proto_reason reason;
    } table[] = {
        {"CC0-1.0", -1, APPLY, PROTO_PERMIT, PROTO_REASON_NONE},
        {"CC0-1.0", 1, BASE, PROTO_PERMIT, PROTO_REASON_NONE},
        {"Apache-2.0", 1, BASE, PROTO_PERMIT, PROTO_REASON_NONE},
        {"CC-BY-NC-4.0", 0, APPLY, PROTO_PERMIT, PROTO_REASON_NONE},
        {"CC-BY-NC-4.0", 1, APPLY, PROTO_DENY, PROTO_REASON_MODIFIER_NCU},
        {"CC-BY-NC-4.0", -1, APPLY, PROTO_DENY, PROTO_REASON_MISSING_COMMERCIAL},
        {"CC-BY-NC-4.0", 0, BASE, PROTO_PERMIT, PROTO_REASON_NONE},
        {"CC-BY-NC-4.0", 1, BASE, PROTO_DENY, PROTO_REASON_LICENSE_NONCOMMERCIAL},
        {"NOASSERTION", 0, BASE, PROTO_DENY, PROTO_REASON_LICENSE_NONE},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct arena arena = {0};
        struct proto_licence licence;
        struct proto_decision decision;
        struct proto_request request = request_of(table[i].action, 0, NULL);
        request.purpose.has_commercial = table[i].commercial >= 0;
        request.purpose.commercial = table[i].commercial > 0;
        assert_int_equal(proto_derive_imported(span_str("tiny"), span_str(table[i].spdx),
                                               span_of(weights, 32), span_of(id_a, 16), &arena,
                                               &licence, NULL),
                         E_OK);
        const struct proto_record record = {
            .envelope = {.kind = PROTO_RECORD_LICENCE, .expires = licence.expires}};
        proto_policy_decide(&request, &record, &licence, false, &ontology, &decision);
        assert_int_equal(decision.reason, table[i].reason);
        assert_int_equal(decision.verdict, table[i].verdict);
        arena_fini(&arena);
    }
    struct arena arena = {0};
    struct proto_licence licence;
    assert_int_equal(proto_derive_imported(span_str("tiny"), span_str("CC-BY-5000"),
                                           span_of(weights, 32), span_of(id_a, 16), &arena,
                                           &licence, NULL),
                     E_INVALID);
    arena_fini(&arena);
}

/* What is refuted before anybody has stated a purpose, every purpose refutes. */
static void test_refuted_without_a_purpose(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(17));
    struct terms *terms = terms_new();
    size_t refuted = 0, open = 0, permitted = 0;
    for (int round = 0; round < 20000; round++) {
        struct proto_decision bare, full;
        terms_random(terms, &seed);
        if (round % 2) {
            ease(terms);
        }
        const struct proto_record record = {
            .envelope = {.kind = PROTO_RECORD_LICENCE, .expires = terms->licence.expires}};
        struct proto_request silent = terms->request;
        silent.purpose = (struct proto_purpose){.permission = 0};
        silent.agreement_start = 0;
        silent.visas = NULL;
        silent.visa_count = 0;
        proto_policy_decide(&silent, &record, &terms->licence, false, &ontology, &bare);
        proto_policy_decide(&terms->request, &record, &terms->licence, false, &ontology, &full);
        bool is_refuted = proto_policy_refuted(&terms->licence, &bare) != PROTO_REASON_NONE;
        assert_true(!is_refuted || full.verdict == PROTO_DENY);
        refuted += is_refuted;
        open += !is_refuted;
        permitted += full.verdict != PROTO_DENY;
    }
    print_message("# %zu refuted, %zu open, %zu permitted\n", refuted, open, permitted);
    assert_true(refuted > 100 && open > 100 && permitted > 100);
    terms_free(terms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share_alike_and_noncommercial),
        cmocka_unit_test(test_data_licences),
        cmocka_unit_test(test_purposes),
        cmocka_unit_test(test_diseases),
        cmocka_unit_test(test_times_and_duties),
        cmocka_unit_test(test_people_and_places),
        cmocka_unit_test(test_permits_nothing_that_a_parent_denies),
        cmocka_unit_test(test_each_use),
        cmocka_unit_test(test_imported),
        cmocka_unit_test(test_refuted_without_a_purpose),
    };
    return cmocka_run_group_tests_name("proto/derive", tests, ontology_setup, ontology_teardown);
}
