/* The tables of doc/agreements.md, made by the decision itself: they must be what the code does. `make decision-matrix`
 * (CONCORDAT_GOLDEN=write) writes them anew between their marks, to be read by a person before they are kept. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/policy.h"
#include "tests/lib/ontology.h"

#define DOC_MAX (1 << 20)

static const uint8_t hash32[32] = {1};

/* --- One licence, one request -------------------------------------------------------------------------------- */

struct pair {
    struct proto_licence licence;
    struct proto_grant grant;
    struct proto_modifier modifier;
    struct proto_text param;
    struct proto_text disease;
    struct proto_record record;
    struct proto_request request;
    struct proto_text asked;
    struct proto_party site;
};

/* A licence for general research, and a request that says nothing of itself. */
static void setup(struct pair *p)
{
    *p = (struct pair){0};
    p->grant = (struct proto_grant){.permission = PROTO_DUO_GRU,
                                    .actions = PROTO_ACTION_BIT(PROTO_ACTION_COUNT),
                                    .min_cohort = 11,
                                    .min_sites = 1,
                                    .privacy = {.mechanism = PROTO_MECHANISM_GAUSSIAN,
                                                .epsilon_total_u = 8000000,
                                                .epsilon_per_query_u = 1000000,
                                                .delta_e12 = 1000000}};
    p->licence = (struct proto_licence){.v = PROTO_LICENCE_VERSION,
                                        .dataset = span_str("d"),
                                        .version = span_str("1"),
                                        .schema_hash = span_of(hash32, 32),
                                        .expires = 2000000000,
                                        .spdx = span_str("CC-BY-4.0"),
                                        .grants = {&p->grant, 1}};
    p->record.envelope =
        (struct proto_envelope){.kind = PROTO_RECORD_LICENCE, .expires = 2000000000};
    p->request = (struct proto_request){.purpose.permission = PROTO_DUO_GRU,
                                        .actions = PROTO_ACTION_BIT(PROTO_ACTION_COUNT),
                                        .epsilon_u = 500000,
                                        .institutions = 1,
                                        .sites = &p->site,
                                        .site_count = 1,
                                        .now = 1000000};
}

static void grant(struct pair *p, uint64_t permission, const char *disease)
{
    p->disease.text = span_str(disease);
    p->grant.permission = permission;
    p->grant.diseases = (struct proto_list){&p->disease, disease ? 1 : 0};
}

static void modify(struct pair *p, uint64_t code, const char *param)
{
    p->param.text = span_str(param);
    p->modifier = (struct proto_modifier){code, {&p->param, param ? 1 : 0}};
    p->grant.modifiers = (struct proto_list){&p->modifier, 1};
}

static void ask(struct pair *p, uint64_t purpose, const char *disease)
{
    p->asked.text = span_str(disease);
    p->request.purpose.permission = purpose;
    p->request.purpose.diseases = (struct proto_list){&p->asked, disease ? 1 : 0};
}

static const char *verdict(const struct pair *p, bool untagged)
{
    static struct proto_decision decision;
    proto_policy_decide(&p->request, untagged ? NULL : &p->record, untagged ? NULL : &p->licence,
                        false, &ontology, &decision);
    return decision.verdict == PROTO_PERMIT ? "permit" : proto_reason_name(decision.reason);
}

/* --- Purposes ------------------------------------------------------------------------------------------------- */

static const char cancer[] = "MONDO:0004992", melanoma[] = "MONDO:0005105",
                  uveal[] = "MONDO:0006486", diabetes[] = "MONDO:0005015";

static const struct {
    const char *title;
    uint64_t permission;
    const char *disease;
    uint64_t modifier;
} data[] = {
    {"NRES", PROTO_DUO_NRES, NULL, 0},
    {"GRU", PROTO_DUO_GRU, NULL, 0},
    {"HMB", PROTO_DUO_HMB, NULL, 0},
    {"DS cancer", PROTO_DUO_DS, cancer, 0},
    {"DS melanoma", PROTO_DUO_DS, melanoma, 0},
    {"DS uveal melanoma", PROTO_DUO_DS, uveal, 0},
    {"DS diabetes", PROTO_DUO_DS, diabetes, 0},
    {"POA", PROTO_DUO_POA, NULL, 0},
    {"GRU + CC", PROTO_DUO_GRU, NULL, PROTO_DUO_CC},
    {"GRU + NPU", PROTO_DUO_GRU, NULL, PROTO_DUO_NPU},
};
#define DATA (sizeof data / sizeof *data)

static const struct {
    const char *title;
    uint64_t purpose;
    const char *disease;
    bool methods;
} purposes[] = {
    {"none stated", 0, NULL, false},
    {"GRU", PROTO_DUO_GRU, NULL, false},
    {"HMB", PROTO_DUO_HMB, NULL, false},
    {"DS cancer", PROTO_DUO_DS, cancer, false},
    {"DS melanoma", PROTO_DUO_DS, melanoma, false},
    {"DS, an unknown disease", PROTO_DUO_DS, "MONDO:9999999", false},
    {"POA", PROTO_DUO_POA, NULL, false},
    {"MDS alone", PROTO_DUO_MDS, NULL, true},
    {"DS melanoma, methods", PROTO_DUO_DS, melanoma, true},
    {"CC", PROTO_DUO_CC, NULL, false},
};

static void print_purposes(FILE *to)
{
    fputs("| purpose \\ data |", to);
    for (size_t d = 0; d < DATA; d++) {
        fprintf(to, " %s |", data[d].title);
    }
    fputs(" untagged |\n|---|", to);
    for (size_t d = 0; d <= DATA; d++) {
        fputs("---|", to);
    }
    fputc('\n', to);
    for (size_t r = 0; r < sizeof purposes / sizeof *purposes; r++) {
        fprintf(to, "| %s |", purposes[r].title);
        for (size_t d = 0; d <= DATA; d++) {
            struct pair p;
            setup(&p);
            if (d < DATA) {
                grant(&p, data[d].permission, data[d].disease);
            }
            if (d < DATA && data[d].modifier) {
                modify(&p, data[d].modifier, NULL);
            }
            ask(&p, purposes[r].purpose, purposes[r].disease);
            p.request.purpose.has_research = purposes[r].methods;
            p.request.purpose.research =
                purposes[r].methods ? PROTO_RESEARCH_BIT(PROTO_RESEARCH_METHODS) : 0;
            fprintf(to, " %s |", verdict(&p, d == DATA));
        }
        fputc('\n', to);
    }
    fputc('\n', to);
}

/* --- Modifiers -------------------------------------------------------------------------------------------------- */

static const struct {
    uint64_t code;
    const char *param;
    const char *title;
} modifiers[] = {
    {PROTO_DUO_RS, "genetic", "genetic"},
    {PROTO_DUO_NMDS, NULL, ""},
    {PROTO_DUO_GSO, NULL, ""},
    {PROTO_DUO_NPUNCU, NULL, ""},
    {PROTO_DUO_NPU, NULL, ""},
    {PROTO_DUO_NCU, NULL, ""},
    {PROTO_DUO_PUB, NULL, ""},
    {PROTO_DUO_COL, NULL, ""},
    {PROTO_DUO_RTN, NULL, ""},
    {PROTO_DUO_IRB, NULL, ""},
    {PROTO_DUO_GS, "DE", "DE"},
    {PROTO_DUO_MOR, "2030-01-01", "a date to come"},
    {PROTO_DUO_TS, "2030-01-01", "a date to come"},
    {PROTO_DUO_TS, "1970-01-02", "a date gone by"},
    {PROTO_DUO_TS, "12", "12 months, no agreement"},
    {PROTO_DUO_US, "ann", "ann"},
    {PROTO_DUO_PS, "p1", "p1"},
    {PROTO_DUO_IS, "org-a", "org-a"},
    {PROTO_DUO_CC, NULL, ""},
    {PROTO_DUO_NPOA, NULL, ""},
    {999, NULL, "a code that this version does not know"},
};

static struct proto_text promises[] = {{{(const uint8_t *)"publish", 7}},
                                       {{(const uint8_t *)"collaborate", 11}},
                                       {{(const uint8_t *)"return-results", 14}}};

/* 0: it says nothing of itself; 1: what every modifier asks for; 2: the opposite. */
static void take_stance(struct pair *p, int stance)
{
    struct proto_purpose *purpose = &p->request.purpose;
    if (stance == 0) {
        return;
    }
    bool meets = stance == 1;
    p->site = (struct proto_party){span_str("n"), span_str(meets ? "org-a" : "org-z"),
                                   span_str(meets ? "nonprofit" : "forprofit"),
                                   span_str(meets ? "DE" : "US")};
    p->request.requester = p->site;
    purpose->person = span_str(meets ? "ann" : "zoe");
    purpose->project = span_str(meets ? "p1" : "p9");
    purpose->has_research = purpose->has_commercial = true;
    purpose->commercial = !meets;
    purpose->research = meets ? PROTO_RESEARCH_BIT(PROTO_RESEARCH_GENETIC)
                              : PROTO_RESEARCH_BIT(PROTO_RESEARCH_METHODS) |
                                    PROTO_RESEARCH_BIT(PROTO_RESEARCH_ANCESTRY);
    purpose->ethics_ref = span_str("EK");
    purpose->ethics_expires = meets ? 2000000000 : 5;
    purpose->accepted = (struct proto_list){promises, meets ? 3 : 0};
}

static void print_modifiers(FILE *to)
{
    fputs("| modifier | parameter | the request says nothing | it meets every condition | it says "
          "the opposite |\n|---|---|---|---|---|\n",
          to);
    for (size_t m = 0; m < sizeof modifiers / sizeof *modifiers; m++) {
        fprintf(to, "| %s | %s |", proto_duo_name(modifiers[m].code), modifiers[m].title);
        for (int stance = 0; stance < 3; stance++) {
            struct pair p;
            setup(&p);
            modify(&p, modifiers[m].code, modifiers[m].param);
            take_stance(&p, stance);
            fprintf(to, " %s |", verdict(&p, false));
        }
        fputc('\n', to);
    }
    fputc('\n', to);
}

/* --- Visas ------------------------------------------------------------------------------------------------------ */

/* What is known about ann of node n, who asks; the grant wants "x" of org-a by a data access committee. */
static const struct {
    const char *title, *node, *person, *project, *value, *by, *institution;
    uint64_t expires;
} known[] = {
    {"nothing", "", "", "", "", "", "", 0},
    {"as asked", "n", "ann", NULL, "x", "dac", "org-a", 2000000000},
    {"of the project, not the person", "n", NULL, "p1", "x", "dac", "org-a", 2000000000},
    {"expired", "n", "ann", NULL, "x", "dac", "org-a", 1000000},
    {"of another person", "n", "zoe", NULL, "x", "dac", "org-a", 2000000000},
    {"of that name at another node", "m", "ann", NULL, "x", "dac", "org-a", 2000000000},
    {"issued by another institution", "n", "ann", NULL, "x", "dac", "org-z", 2000000000},
    {"with another value (X)", "n", "ann", NULL, "X", "dac", "org-a", 2000000000},
    {"on nobody's word", "n", "ann", NULL, "x", NULL, "org-a", 2000000000},
};

static void print_visas(FILE *to)
{
    static const char type[] = "ControlledAccessGrants";
    struct proto_text issuer = {span_str("org-a")}, by = {span_str("dac")};
    struct proto_visa_wanted wanted = {span_str(type), span_str("x"), {&by, 1}, {&issuer, 1}};
    fputs("| the requester holds | verdict |\n|---|---|\n", to);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct proto_visa_held held = {.visa = {.node = span_str(known[i].node),
                                                .person = span_str(known[i].person),
                                                .project = span_str(known[i].project),
                                                .type = span_str(type),
                                                .value = span_str(known[i].value),
                                                .by = span_str(known[i].by)},
                                       .institution = span_str(known[i].institution),
                                       .expires = known[i].expires};
        struct pair p;
        setup(&p);
        take_stance(&p, 1);
        p.grant.visas = (struct proto_list){&wanted, 1};
        p.request.visas = &held;
        p.request.visa_count = i > 0;
        fprintf(to, "| %s | %s |\n", known[i].title, verdict(&p, false));
    }
    fputc('\n', to);
}

/* --- Lists ------------------------------------------------------------------------------------------------------- */

static void print_codes(FILE *to)
{
    static const uint64_t codes[] = {
#define X(number, name, kind, label) number,
        PROTO_DUO_CODES(X)
#undef X
    };
    static const char *const obsolete[] = {"DUO:0000002", "DUO:0000003", "DUO:0000005",
                                           "DUO:0000014"};
    fputs("| code | short | means | as |\n|---|---|---|---|\n", to);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        char text[PROTO_DUO_SIZE];
        fprintf(to, "| %s | %s | %s | %s%s |\n", proto_duo_format(codes[i], text),
                proto_duo_name(codes[i]), proto_duo_label(codes[i]),
                proto_duo_is_permission(codes[i]) ? "permission"
                : proto_duo_is_modifier(codes[i]) ? "modifier"
                                                  : "",
                !proto_duo_is_purpose(codes[i])     ? ""
                : proto_duo_is_permission(codes[i]) ? ", purpose"
                : proto_duo_is_modifier(codes[i])   ? ", purpose"
                                                    : "purpose");
    }
    for (size_t i = 0; i < 4; i++) {
        struct err_info why = {0};
        uint64_t code;
        assert_int_equal(proto_duo_parse(obsolete[i], &code, &why), E_UNSUPPORTED);
        fprintf(to, "| %s | | %s | refused |\n", obsolete[i], why.text);
    }
    fputc('\n', to);
}

static void print_reasons(FILE *to)
{
    fputs("| reason | says | exit |\n|---|---|---|\n", to);
    for (int i = 1; i < PROTO_REASON_TOTAL; i++) {
        enum proto_reason reason = (enum proto_reason)i;
        fprintf(to, "| %s | %s | %d |\n", proto_reason_name(reason), proto_reason_text(reason),
                proto_err_exit(proto_reason_err(reason)));
    }
    fputc('\n', to);
}

static const char *share_text(enum proto_spdx_verdict share)
{
    return share == PROTO_SPDX_YES ? "yes" : share == PROTO_SPDX_HOLD ? "a person decides" : "no";
}

static void print_duties(FILE *to, uint32_t duties)
{
    bool first = true;
    for (int i = 0; i < PROTO_DUTY_TOTAL; i++) {
        if (duties >> i & 1) {
            fprintf(to, "%s%s", first ? "" : ", ", proto_duty_name((enum proto_duty_bit)i));
            first = false;
        }
    }
    fputs(first ? "none" : "", to);
}

static void print_data_licences(FILE *to)
{
    struct proto_spdx_leaf leaf, text;
    char under[160];
    fputs("| licence | train | model leaves the federation | under | duties | clause |\n"
          "|---|---|---|---|---|---|\n",
          to);
    for (size_t i = 0; proto_spdx_table_at(i, PROTO_READING_CONSERVATIVE, &leaf); i++) {
        assert_true(proto_spdx_table_at(i, PROTO_READING_TEXT, &text));
        fprintf(to, "| %.*s | %s | %s | %s | ", (int)leaf.id.len, (const char *)leaf.id.ptr,
                share_text(leaf.train), share_text(leaf.share),
                proto_outbound_text(leaf.outbound, under));
        print_duties(to, leaf.duties);
        fprintf(to, " | %s |\n", leaf.clause);
        if (text.share != leaf.share || text.duties != leaf.duties ||
            text.outbound != leaf.outbound) {
            fprintf(to, "| … by its text alone | %s | %s | %s | ", share_text(text.train),
                    share_text(text.share), proto_outbound_text(text.outbound, under));
            print_duties(to, text.duties);
            fputs(" | |\n", to);
        }
    }
    fputc('\n', to);
}

/* --- The manual ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*print)(FILE *to);
} tables[] = {
    {"purposes", print_purposes}, {"modifiers", print_modifiers},
    {"visas", print_visas},       {"codes", print_codes},
    {"reasons", print_reasons},   {"data-licences", print_data_licences},
};

static char *render(size_t table)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    assert_non_null(to);
    fputc('\n', to);
    tables[table].print(to);
    fclose(to);
    return text;
}

static char *read_manual(const char *path)
{
    char *text = calloc(1, DOC_MAX);
    FILE *from = fopen(path, "r");
    if (!from || !text) {
        fail_msg("%s is missing", path);
        return NULL;
    }
    assert_true(fread(text, 1, DOC_MAX - 1, from) < DOC_MAX - 1);
    fclose(from);
    return text;
}

static void write_manual(const char *path, const char *head, const char *table, const char *tail)
{
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    fputs(head, to);
    fputs(table, to);
    fputs(tail, to);
    fclose(to);
}

static void test_manual_is_what_is_decided(void **state)
{
    (void)state;
    char path[1024], mark[64];
    const char *top = getenv("top_srcdir"), *mode = getenv("CONCORDAT_GOLDEN");
    snprintf(path, sizeof path, "%s/doc/agreements.md", top ? top : ".");
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char *manual = read_manual(path);
        char *table = render(i);
        snprintf(mark, sizeof mark, "<!-- table %s -->\n", tables[i].name);
        char *at = strstr(manual, mark);
        assert_non_null(at);
        at += strlen(mark);
        char *end = strstr(at, "<!-- end -->");
        assert_non_null(end);
        if (mode && strcmp(mode, "write") == 0) {
            char *tail = strdup(end);
            *at = 0;
            write_manual(path, manual, table, tail);
            free(tail);
        } else {
            *end = 0;
            if (strcmp(at, table) != 0) {
                fail_msg("doc/agreements.md, table %s: not what is decided; `make decision-matrix` "
                         "writes it anew, then look at the difference",
                         tables[i].name);
            }
        }
        free(table);
        free(manual);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_manual_is_what_is_decided)};
    return cmocka_run_group_tests_name("proto/matrix", tests, ontology_setup, ontology_teardown);
}
