/* Agreements: each state under each event of each side, documents that fit and that do not; projects that cover. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "proto/agreement.h"
#include "proto/duo.h"
#include "proto/licence.h"
#include "proto/project.h"
#include "tests/lib/fake_hash.h"

/* The drawing of agreement.h once more, written by hand: state, event, who, next. Everything else is refused. */
static const struct {
    enum proto_agreement_state from;
    enum proto_agreement_event event;
    enum proto_agreement_side by;
    enum proto_agreement_state to;
} allowed[] = {
    {PROTO_AGREEMENT_NONE, PROTO_AGREEMENT_REQUEST, PROTO_AGREEMENT_CONSUMER,
     PROTO_AGREEMENT_REQUESTED},
    {PROTO_AGREEMENT_REQUESTED, PROTO_AGREEMENT_REQUEST, PROTO_AGREEMENT_CONSUMER,
     PROTO_AGREEMENT_REQUESTED},
    {PROTO_AGREEMENT_REQUESTED, PROTO_AGREEMENT_OFFER, PROTO_AGREEMENT_PROVIDER,
     PROTO_AGREEMENT_OFFERED},
    {PROTO_AGREEMENT_OFFERED, PROTO_AGREEMENT_OFFER, PROTO_AGREEMENT_PROVIDER,
     PROTO_AGREEMENT_OFFERED},
    {PROTO_AGREEMENT_OFFERED, PROTO_AGREEMENT_ACCEPT, PROTO_AGREEMENT_CONSUMER,
     PROTO_AGREEMENT_ACCEPTED},
    {PROTO_AGREEMENT_ACCEPTED, PROTO_AGREEMENT_ACCEPT, PROTO_AGREEMENT_CONSUMER,
     PROTO_AGREEMENT_ACCEPTED},
    {PROTO_AGREEMENT_ACCEPTED, PROTO_AGREEMENT_AGREE, PROTO_AGREEMENT_PROVIDER,
     PROTO_AGREEMENT_AGREED},
    {PROTO_AGREEMENT_AGREED, PROTO_AGREEMENT_VERIFY, PROTO_AGREEMENT_CONSUMER,
     PROTO_AGREEMENT_VERIFIED},
    {PROTO_AGREEMENT_VERIFIED, PROTO_AGREEMENT_FINALIZE, PROTO_AGREEMENT_PROVIDER,
     PROTO_AGREEMENT_FINALIZED},
};

static bool expected(enum proto_agreement_state from, enum proto_agreement_event event,
                     enum proto_agreement_side by, enum proto_agreement_state *ret)
{
    if (event == PROTO_AGREEMENT_TERMINATE) {
        *ret = PROTO_AGREEMENT_TERMINATED;
        return from != PROTO_AGREEMENT_NONE && from != PROTO_AGREEMENT_TERMINATED;
    }
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        if (allowed[i].from == from && allowed[i].event == event && allowed[i].by == by) {
            *ret = allowed[i].to;
            return true;
        }
    }
    return false;
}

static void test_every_step(void **unused)
{
    (void)unused;
    for (int from = 0; from <= PROTO_AGREEMENT_STATES; from++) {
        for (int event = 0; event <= PROTO_AGREEMENT_EVENTS; event++) {
            for (int by = 0; by < 2; by++) {
                enum proto_agreement_state state = (enum proto_agreement_state)from;
                enum proto_agreement_state next = state;
                bool may = from < PROTO_AGREEMENT_STATES && event < PROTO_AGREEMENT_EVENTS &&
                           expected(state, (enum proto_agreement_event)event,
                                    (enum proto_agreement_side)by, &next);
                enum err err = proto_agreement_step(&state, (enum proto_agreement_event)event,
                                                    (enum proto_agreement_side)by, NULL);
                assert_int_equal(err, may ? E_OK : E_INVALID);
                assert_int_equal(state, may ? next : (enum proto_agreement_state)from);
            }
        }
    }
    assert_string_equal(proto_agreement_state_name(PROTO_AGREEMENT_FINALIZED), "FINALIZED");
    assert_string_equal(proto_agreement_state_name(99), "unknown");
}

/* --- documents ---------------------------------------------------------------------------------------- */

static const uint8_t id[16] = {7};
static const uint8_t alpha[16] = {1};
static const uint8_t beta[16] = {2};

struct made {
    struct buf request, offer, document;
    struct proto_agreement_request r;
    struct proto_agreement_offer o;
    struct proto_agreement a;
    uint8_t digest[32];
};

static struct proto_agreement_duty duties[2];
static struct proto_text promises[2];

static void prepare(struct made *m)
{
    memset(m, 0, sizeof *m);
    m->request.max = m->offer.max = m->document.max = PROTO_AGREEMENT_MAX;
    duties[0] = (struct proto_agreement_duty){span_str("publish"), span_str("publish"), SPAN_NONE};
    duties[1] = (struct proto_agreement_duty){span_str("no-relink"), span_str("use"), SPAN_NONE};
    promises[0].text = span_str("publish");
    promises[1].text = span_str("attribution");
    m->r = (struct proto_agreement_request){.v = 1,
                                            .id = span_of(id, 16),
                                            .consumer = span_of(beta, 16),
                                            .provider = span_of(alpha, 16),
                                            .dataset = span_str("flchain"),
                                            .institution = span_str("hospital-b"),
                                            .org_type = span_str("nonprofit"),
                                            .actions = PROTO_ACTION_BIT(PROTO_ACTION_COUNT) |
                                                       PROTO_ACTION_BIT(PROTO_ACTION_MEAN),
                                            .purpose = {.person = span_str("ada"),
                                                        .project = span_str("heart"),
                                                        .permission = PROTO_DUO_HMB},
                                            .time = 1000};
    m->o = (struct proto_agreement_offer){.v = 1,
                                          .id = span_of(id, 16),
                                          .request = span_of(m->digest, 32),
                                          .licence = span_of(alpha, 16),
                                          .actions = PROTO_ACTION_BIT(PROTO_ACTION_COUNT),
                                          .duties = {duties, 2},
                                          .ends = 9000,
                                          .time = 1001};
    m->a = (struct proto_agreement){.v = 1,
                                    .id = span_of(id, 16),
                                    .accepted = {promises, 1},
                                    .person = span_str("ada"),
                                    .time = 1002};
}

static enum err finish(struct made *m)
{
    struct arena arena = {0};
    struct proto_agreement_parts parts;
    assert_int_equal(proto_agreement_request_encode(&m->r, &m->request, NULL), E_OK);
    struct span bytes = buf_span(&m->request);
    fake_hash.sha256(&bytes, 1, m->digest);
    assert_int_equal(proto_agreement_offer_encode(&m->o, &m->offer, NULL), E_OK);
    m->a.request = buf_span(&m->request);
    m->a.offer = buf_span(&m->offer);
    assert_int_equal(proto_agreement_encode(&m->a, &m->document, NULL), E_OK);
    enum err err = proto_agreement_open(buf_span(&m->document), &fake_hash, &arena, &parts, NULL);
    if (!err) {
        assert_true(span_is(parts.request.purpose.project, "heart"));
        assert_int_equal(parts.offer.ends, 9000);
        assert_int_equal(parts.agreement.time, 1002);
    }
    buf_fini(&m->request);
    buf_fini(&m->offer);
    buf_fini(&m->document);
    arena_fini(&arena);
    return err;
}

static void test_documents_fit(void **unused)
{
    (void)unused;
    struct made m;
    prepare(&m);
    assert_int_equal(finish(&m), E_OK);
    prepare(&m);
    m.a.accepted.count = 0; /* `publish` needs a promise */
    assert_int_equal(finish(&m), E_INVALID);
    prepare(&m);
    m.a.accepted.count = 2; /* the offer asks for no attribution */
    assert_int_equal(finish(&m), E_INVALID);
    prepare(&m);
    m.o.actions |= PROTO_ACTION_BIT(PROTO_ACTION_SUM); /* more than was asked for */
    assert_int_equal(finish(&m), E_INVALID);
    prepare(&m);
    m.a.id = span_of(beta, 16);
    assert_int_equal(finish(&m), E_INVALID);
    prepare(&m);
    m.o.id = span_of(beta, 16);
    assert_int_equal(finish(&m), E_INVALID);
    prepare(&m);
    m.o.request = span_of(duties, 32); /* of another request */
    assert_int_equal(finish(&m), E_INVALID);
    prepare(&m);
    m.a.time = 9000; /* it begins when it is over */
    assert_int_equal(finish(&m), E_INVALID);
}

/* --- projects ------------------------------------------------------------------------------------------ */

static enum proto_project_fault fault(const struct proto_project *project, uint64_t permission,
                                      const char *person, int64_t now)
{
    struct proto_purpose purpose;
    proto_project_purpose(project, span_str(person), &purpose);
    purpose.permission = permission;
    return proto_project_fault(project, &purpose, now, NULL);
}

static void test_projects(void **unused)
{
    (void)unused;
    static const uint64_t codes[] = {PROTO_DUO_GRU, PROTO_DUO_HMB, PROTO_DUO_DS,
                                     PROTO_DUO_POA, PROTO_DUO_MDS, PROTO_DUO_CC};
    /* Row: what the project is for; column: what is stated. */
    static const bool covered[6][6] = {
        {1, 1, 1, 1, 1, 0}, {0, 1, 1, 0, 0, 0}, {0, 0, 1, 0, 0, 0},
        {0, 0, 0, 1, 0, 0}, {0, 0, 0, 0, 1, 0}, {0, 0, 0, 0, 0, 1},
    };
    struct proto_text ada = {span_str("ada")};
    struct proto_project project = {
        .v = 1, .name = span_str("heart"), .people = {&ada, 1}, .ends = 2000};
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < 6; j++) {
            project.permission = codes[i];
            assert_int_equal(fault(&project, codes[j], "ada", 1999),
                             covered[i][j] ? PROTO_PROJECT_NONE : PROTO_PROJECT_PURPOSE);
        }
    }
    project.permission = PROTO_DUO_GRU;
    assert_int_equal(fault(&project, PROTO_DUO_GRU, "eve", 1999), PROTO_PROJECT_PERSON);
    assert_int_equal(fault(&project, PROTO_DUO_GRU, "ada", 2000), PROTO_PROJECT_ENDED);
}

static void test_narrowing(void **unused)
{
    (void)unused;
    static const char pairs[] = "D:1\tD:0\nD:2\tD:1\n";
    struct proto_ontology ontology = {0};
    struct proto_text cancer = {span_str("D:1")}, lung = {span_str("D:2")}, all = {span_str("D:0")};
    struct proto_purpose outer = {.person = span_str("ada"),
                                  .project = span_str("heart"),
                                  .permission = PROTO_DUO_DS,
                                  .diseases = {&cancer, 1},
                                  .has_research = true,
                                  .research = PROTO_RESEARCH_BIT(PROTO_RESEARCH_GENETIC),
                                  .has_commercial = true,
                                  .commercial = false,
                                  .ethics_ref = span_str("EK 1"),
                                  .ethics_expires = 5000};
    struct proto_purpose inner = outer;
    assert_int_equal(proto_ontology_parse(span_str(pairs), &fake_hash, &ontology, NULL), E_OK);
    assert_int_equal(proto_purpose_fault(&outer, &inner, &ontology), PROTO_PROJECT_NONE);
    inner.diseases = (struct proto_list){&lung, 1};
    assert_int_equal(proto_purpose_fault(&outer, &inner, &ontology), PROTO_PROJECT_NONE);
    assert_int_equal(proto_purpose_fault(&outer, &inner, NULL), PROTO_PROJECT_DISEASE);
    inner.diseases = (struct proto_list){&all, 1};
    assert_int_equal(proto_purpose_fault(&outer, &inner, &ontology), PROTO_PROJECT_DISEASE);
    inner.diseases = (struct proto_list){NULL, 0}; /* leaving them out would widen it */
    assert_int_equal(proto_purpose_fault(&outer, &inner, &ontology), PROTO_PROJECT_DISEASE);
    inner = outer;
    inner.research |= PROTO_RESEARCH_BIT(PROTO_RESEARCH_ANCESTRY);
    assert_int_equal(proto_purpose_fault(&outer, &inner, &ontology), PROTO_PROJECT_RESEARCH);
    inner = outer;
    inner.has_research = false;
    assert_int_equal(proto_purpose_fault(&outer, &inner, &ontology), PROTO_PROJECT_RESEARCH);
    inner = outer;
    inner.commercial = true;
    assert_int_equal(proto_purpose_fault(&outer, &inner, &ontology), PROTO_PROJECT_COMMERCIAL);
    inner = outer;
    inner.ethics_ref = span_str("EK 2");
    assert_int_equal(proto_purpose_fault(&outer, &inner, &ontology), PROTO_PROJECT_ETHICS);
    inner = outer;
    inner.ethics_expires = 5001;
    assert_int_equal(proto_purpose_fault(&outer, &inner, &ontology), PROTO_PROJECT_ETHICS);
    proto_ontology_fini(&ontology);
}

static void test_filling(void **unused)
{
    (void)unused;
    struct arena arena = {0};
    struct proto_text mine[] = {{span_str("publish")}, {span_str("attribution")}};
    struct proto_text more[] = {{span_str("publish")}, {span_str("collaborate")}};
    struct proto_purpose outer = {.person = span_str("ada"),
                                  .project = span_str("heart"),
                                  .permission = PROTO_DUO_GRU,
                                  .has_commercial = true,
                                  .commercial = true,
                                  .ethics_ref = span_str("EK 1"),
                                  .ethics_expires = 5000,
                                  .accepted = {mine, 2}};
    struct proto_purpose stated = {.person = span_str("eve"),
                                   .project = span_str("heart"),
                                   .permission = PROTO_DUO_HMB,
                                   .has_commercial = true,
                                   .commercial = false,
                                   .accepted = {more, 2}};
    struct proto_purpose filled;
    assert_int_equal(proto_purpose_fill(&outer, &stated, &arena, &filled), E_OK);
    assert_true(span_is(filled.person, "eve"));
    assert_int_equal(filled.permission, PROTO_DUO_HMB);
    assert_false(filled.commercial);
    assert_true(span_is(filled.ethics_ref, "EK 1"));
    assert_int_equal(filled.accepted.count, 3);
    assert_int_equal(proto_purpose_fault(&outer, &filled, NULL), PROTO_PROJECT_NONE);
    /* node.yaml says commercial, the project does not: the project's word stands. */
    outer.commercial = false;
    stated.commercial = true;
    assert_int_equal(proto_purpose_fill(&outer, &stated, &arena, &filled), E_OK);
    assert_false(filled.commercial);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_step), cmocka_unit_test(test_documents_fit),
        cmocka_unit_test(test_projects),   cmocka_unit_test(test_narrowing),
        cmocka_unit_test(test_filling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
