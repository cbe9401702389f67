#include "config.h"
#include "tests/lib/terms.h"

#include <assert.h>
#include <stdlib.h>

/* Of the shipped hierarchy, and one that it does not know. */
static const char *const diseases[] = {"MONDO:0004992", "MONDO:0005105", "MONDO:0006486",
                                       "MONDO:0007254", "MONDO:0008903", "MONDO:0005148",
                                       "MONDO:0005015", "MONDO:0000001", "MONDO:9999999"};
static const char *const countries[] = {"DE", "FR", "DE-BY", "US", "AT"};
static const char *const orgs[] = {"org-a", "org-b", "org-c"};
static const char *const people[] = {"ann", "bob"};
static const char *const projects[] = {"p1", "p2"};
static const char *const columns[] = {"age", "sex", "creatinine"};
static const char *const types[] = {"nonprofit", "forprofit", "government"};
static const char *const accepted[] = {"publish", "collaborate", "return-results"};
static const char *const duties[] = {"attribution", "publish", "ethics-ref", "notify-breach",
                                     "no-reidentify"};
static const char *const licences[] = {"CC-BY-4.0",      "CC0-1.0",
                                       "CC-BY-SA-4.0",   "CC-BY-NC-4.0",
                                       "CC-BY-ND-4.0",   "NONE",
                                       "Zlib",           "CC-BY-4.0 AND (ODbL-1.0 OR MIT)",
                                       "LicenseRef-own", "GPL-2.0-or-later"};
static const uint64_t permissions[] = {4, 6, 7, 11, 42};
static const uint64_t purposes[] = {42, 42, 6, 7, 7, 11, 31, 43, 0};
static const uint64_t codes[] = {12, 15, 16, 18, 19, 20, 21, 22, 24,
                                 25, 26, 27, 28, 29, 43, 44, 45, 46};
#define COUNT_OF(array)   (sizeof(array) / sizeof *(array))
#define PICK(seed, array) ((array)[seed_below(seed, COUNT_OF(array))])

struct terms *terms_new(void)
{
    struct terms *terms = calloc(1, sizeof *terms);
    assert(terms);
    return terms;
}

void terms_free(struct terms *terms)
{
    free(terms);
}

static bool one_in(struct seed *seed, uint64_t n)
{
    return seed_below(seed, n) == 0;
}

/* COUNT different ones of FROM, or as many as there are. */
static struct proto_list some(struct terms *t, struct seed *seed, const char *const *from,
                              size_t room, uint64_t count)
{
    struct proto_text *items = &t->texts[t->text_count];
    size_t n = 0, start = seed_below(seed, room);
    for (; n < count && n < room; n++) {
        items[n].text = span_str(from[(start + n) % room]);
    }
    t->text_count += n;
    assert(t->text_count <= TERMS_TEXTS);
    return (struct proto_list){items, n};
}
#define SOME(t, seed, array, count) some(t, seed, array, COUNT_OF(array), count)

static struct proto_list params_of(struct terms *t, struct seed *seed, uint64_t code)
{
    static const char *const research[] = {"genetic", "methods", "control-set", "drugdev"};
    static const char *const dates[] = {"2030-01-01", "1999-12-31"};
    static const char *const limits[] = {"700", "1", "2040-01-01"};
    switch (code) {
    case PROTO_DUO_RS:
        return SOME(t, seed, research, 1 + seed_below(seed, 3));
    case PROTO_DUO_GS:
        return SOME(t, seed, countries, 1 + seed_below(seed, 4));
    case PROTO_DUO_MOR:
        return SOME(t, seed, dates, 1);
    case PROTO_DUO_TS:
        return SOME(t, seed, limits, 1);
    case PROTO_DUO_US:
        return SOME(t, seed, people, 1 + seed_below(seed, 2));
    case PROTO_DUO_PS:
        return SOME(t, seed, projects, 1 + seed_below(seed, 2));
    case PROTO_DUO_IS:
        return SOME(t, seed, orgs, 1 + seed_below(seed, 2));
    default:
        return (struct proto_list){0};
    }
}

static void random_grant(struct terms *t, struct seed *seed, size_t at)
{
    struct proto_grant *grant = &t->grants[at];
    size_t modifiers = seed_below(seed, 8);
    *grant = (struct proto_grant){
        .permission = PICK(seed, permissions),
        .actions = PROTO_ACTION_ALL,
        .min_cohort = 2 + seed_below(seed, 20),
        .min_sites = 1 + (one_in(seed, 10) ? 1 : 0),
        .privacy = {.mechanism = PROTO_MECHANISM_GAUSSIAN,
                    .epsilon_total_u = 8000000,
                    .epsilon_per_query_u = 100000 + seed_below(seed, 3000000),
                    .epsilon_per_job_u = 4000000,
                    .delta_e12 = 1000000,
                    .min_noise_u = one_in(seed, 6) ? 500000 : 0},
        .has_finetune = true,
        .finetune = {.max_rounds = 1 + seed_below(seed, 50),
                     .release = seed_below(seed, 3),
                     .clip_u = one_in(seed, 4) ? 1000000 : 0},
    };
    if (one_in(seed, 3)) {
        grant->actions = PROTO_ACTION_BIT(PROTO_ACTION_COUNT) | PROTO_ACTION_BIT(PROTO_ACTION_MEAN);
        grant->has_finetune = false;
        grant->finetune = (struct proto_licence_finetune){0};
    }
    if (grant->permission == PROTO_DUO_DS) {
        grant->diseases = SOME(t, seed, diseases, 1 + seed_below(seed, 3));
    }
    grant->has_columns = one_in(seed, 4);
    if (grant->has_columns) {
        grant->columns = SOME(t, seed, columns, 1 + seed_below(seed, 3));
    }
    for (size_t i = 0; i < modifiers && modifiers < 4; i++) { /* half of the grants have none */
        uint64_t code = codes[(at * 7 + i * 5 + seed_below(seed, 18)) % 18];
        t->modifiers[at][i] = (struct proto_modifier){code, params_of(t, seed, code)};
        grant->modifiers.count = i + 1;
    }
    grant->modifiers.items = t->modifiers[at];
}

static const char *const attested[] = {"ControlledAccessGrants", "ResearcherStatus"};
static const char *const words[] = {"dac", "so", "self"};

static struct proto_visa_wanted random_visa(struct terms *t, struct seed *seed)
{
    return (struct proto_visa_wanted){
        .type = span_str(PICK(seed, attested)),
        .value = span_str("x"),
        .by = one_in(seed, 3) ? SOME(t, seed, words, 2) : (struct proto_list){0},
        .issuers = SOME(t, seed, orgs, 1 + seed_below(seed, 2)),
    };
}

/* Every sixth grant asks for some. */
static void random_visas(struct terms *t, struct seed *seed, size_t at)
{
    size_t count = one_in(seed, 6) ? 1 + seed_below(seed, 2) : 0;
    for (size_t i = 0; i < count; i++) {
        t->visas[at][i] = random_visa(t, seed);
    }
    t->grants[at].visas = (struct proto_list){t->visas[at], count};
}

static void random_held(struct terms *t, struct seed *seed)
{
    size_t count = seed_below(seed, 5);
    for (size_t i = 0; i < count; i++) {
        bool person = !one_in(seed, 3);
        t->held[i] = (struct proto_visa_held){
            .visa = {.node = one_in(seed, 10) ? span_str("m") : span_str("n"),
                     .person = person ? span_str(PICK(seed, people)) : SPAN_NONE,
                     .project = person ? SPAN_NONE : span_str(PICK(seed, projects)),
                     .type = span_str(PICK(seed, attested)),
                     .value = one_in(seed, 10) ? span_str("X") : span_str("x"),
                     .by = one_in(seed, 4) ? SPAN_NONE : span_str(PICK(seed, words))},
            .institution = span_str(PICK(seed, orgs)),
            .expires = one_in(seed, 5) ? 5000 : 2000000000};
    }
    t->request.visas = t->held;
    t->request.visa_count = count;
}

static void random_licence(struct terms *t, struct seed *seed)
{
    static const uint8_t hash[32] = {7};
    size_t grants = one_in(seed, 2) ? 1 : 1 + seed_below(seed, PROTO_LICENCE_GRANTS_MAX);
    t->licence = (struct proto_licence){.v = PROTO_LICENCE_VERSION,
                                        .dataset = span_str("chain-study"),
                                        .version = span_str("1"),
                                        .schema_hash = span_of(hash, 32),
                                        .not_before = 1000,
                                        .expires = 2000000000,
                                        .spdx = span_str(PICK(seed, licences)),
                                        .hold = one_in(seed, 10),
                                        .grants = {t->grants, grants}};
    if (one_in(seed, 4)) {
        t->licence.recipients.has_institutions = true;
        t->licence.recipients.institutions = SOME(t, seed, orgs, seed_below(seed, 4));
    }
    if (one_in(seed, 8)) {
        t->licence.recipients.has_users = true;
        t->licence.recipients.users = SOME(t, seed, people, seed_below(seed, 3));
    }
    t->licence.has_geography = one_in(seed, 4);
    if (t->licence.has_geography) {
        t->licence.geography = SOME(t, seed, countries, 1 + seed_below(seed, 5));
    }
    size_t obligations = one_in(seed, 2) ? 0 : seed_below(seed, 4);
    for (size_t i = 0; i < obligations; i++) {
        t->obligations[i] = (struct proto_obligation){
            span_str(duties[(i + t->text_count) % COUNT_OF(duties)]), span_str("use"), SPAN_NONE};
    }
    t->licence.obligations = (struct proto_list){t->obligations, obligations};
    for (size_t i = 0; i < grants; i++) {
        random_grant(t, seed, i);
        random_visas(t, seed, i);
    }
    t->record.envelope =
        (struct proto_envelope){.version = 1,
                                .kind = PROTO_RECORD_LICENCE,
                                .seq = 1,
                                .expires = 2000000000,
                                .flags = one_in(seed, 30) ? PROTO_RECORD_FINAL : 0};
    t->forked = one_in(seed, 40);
}

static struct proto_party random_party(struct seed *seed)
{
    return (struct proto_party){
        .node = span_str("n"),
        .org = span_str(PICK(seed, orgs)),
        .org_type = one_in(seed, 12) ? SPAN_NONE : span_str(types[seed_below(seed, 5) % 3]),
        .country = one_in(seed, 20) ? SPAN_NONE : span_str(countries[seed_below(seed, 8) % 5])};
}

static void random_request(struct terms *t, struct seed *seed)
{
    size_t sites = 1 + seed_below(seed, 5);
    struct proto_party requester = random_party(seed);
    for (size_t i = 0; i < sites; i++) {
        t->sites[i] = random_party(seed);
    }
    struct proto_purpose purpose = {
        .person = span_str(PICK(seed, people)),
        .project = span_str(PICK(seed, projects)),
        .permission = PICK(seed, purposes),
        .diseases = SOME(t, seed, diseases, one_in(seed, 3) ? 0 : 1 + seed_below(seed, 2)),
        .has_research = !one_in(seed, 6),
        .research = one_in(seed, 3) ? seed_below(seed, PROTO_RESEARCH_ALL + 1) : 0,
        .has_commercial = !one_in(seed, 8),
        .commercial = one_in(seed, 5),
        .accepted = SOME(t, seed, accepted, one_in(seed, 2) ? 3 : seed_below(seed, 3)),
    };
    if (!one_in(seed, 3)) {
        purpose.ethics_ref = span_str("EK 1/26");
        purpose.ethics_expires = one_in(seed, 6) ? 5000 : 2000000000;
    }
    bool job = one_in(seed, 3);
    struct proto_use use = {
        .actions =
            job ? PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE) : PROTO_ACTION_BIT(seed_below(seed, 8)),
        .columns = SOME(t, seed, columns, seed_below(seed, 3)),
        .epsilon = one_in(seed, 4) && !job ? 0 : (double)(1 + seed_below(seed, 30)) / 10,
        .delta = one_in(seed, 2) ? 0 : 1e-6,
        .rounds = job ? 1 + seed_below(seed, 40) : 0,
        .clip = job ? 1 : 0,
        .noise_multiplier = one_in(seed, 8) ? 0 : 1,
        .secure = one_in(seed, 40),
    };
    proto_request_build(&requester, &purpose, &use, t->sites, sites,
                        one_in(seed, 20) ? 500 : 1000000000, &t->request);
}

void terms_random(struct terms *terms, struct seed *seed)
{
    terms->text_count = 0;
    random_licence(terms, seed);
    random_request(terms, seed);
    random_held(terms, seed);
}

/* --- Restrictions ----------------------------------------------------------------------------------------- */

static struct proto_text names[] = {{{(const uint8_t *)"org-b", 5}}, {{(const uint8_t *)"DE", 2}}};

static void restrict_grant(struct proto_grant *grant, struct seed *s)
{
    switch (seed_below(s, 8)) {
    case 0:
        grant->privacy.epsilon_per_query_u /= 2;
        break;
    case 1:
        grant->privacy.min_noise_u += 1500000;
        break;
    case 2:
        grant->min_sites += 1;
        break;
    case 3:
        grant->has_columns = true;
        grant->columns.count = grant->columns.count ? grant->columns.count - 1 : 0;
        break;
    case 4:
        grant->finetune.clip_u = 1;
        break;
    case 5:
        grant->diseases.count -= grant->diseases.count > 1;
        break;
    case 6:
        grant->actions &= seed_next(s);
        grant->has_finetune = (grant->actions & PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE)) != 0;
        break;
    default:
        grant->finetune.max_rounds = 1;
        break;
    }
}

void terms_restrict(struct terms *t, struct seed *s)
{
    static const uint64_t narrowing[] = {12, 15, 16, 18, 19, 20, 21, 22, 24,
                                         25, 26, 27, 28, 29, 44, 45, 46}; /* all but CC */
    struct proto_licence *l = &t->licence;
    struct proto_grant *grant = &t->grants[seed_below(s, l->grants.count)];
    struct proto_modifier *modifiers = grant->modifiers.items;
    switch (seed_below(s, 12)) {
    case 8: /* one more visa */
        if (grant->visas.count < PROTO_LICENCE_VISAS_MAX) {
            ((struct proto_visa_wanted *)grant->visas.items)[grant->visas.count++] =
                random_visa(t, s);
        }
        break;
    case 9: /* one institution less whose word counts */
        if (grant->visas.count) {
            struct proto_visa_wanted *first = grant->visas.items;
            first->issuers.count -= first->issuers.count > 0;
        }
        break;
    case 10: /* one that was held is taken back */
        t->request.visa_count -= t->request.visa_count > 0;
        break;
    case 0:
        l->grants.count -= l->grants.count > 1;
        break;
    case 1:
        l->hold = true;
        break;
    case 2:
        if (l->recipients.has_institutions) {
            l->recipients.institutions.count -= l->recipients.institutions.count > 0;
        } else {
            l->recipients.has_institutions = true;
            l->recipients.institutions = (struct proto_list){names, 1};
        }
        break;
    case 3:
        l->recipients.has_projects = true;
        l->recipients.projects.count = 0;
        break;
    case 4:
        l->has_geography = true;
        l->geography.count = l->geography.count > 1 ? l->geography.count - 1 : 0;
        break;
    case 5:
        l->expires = 900000000;
        t->record.envelope.expires = 900000000;
        break;
    case 6:
    case 7:
        if (grant->modifiers.count < PROTO_LICENCE_MODIFIERS_MAX) {
            modifiers[grant->modifiers.count++] =
                (struct proto_modifier){narrowing[seed_below(s, 17)], {&names[1], 1}};
        }
        break;
    default:
        restrict_grant(grant, s);
        break;
    }
}
