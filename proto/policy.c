#include "config.h"
#include "proto/policy.h"
#include "proto/time.h"

/* --- Clauses -------------------------------------------------------------------------------------------- */

struct policy {
    const struct proto_request *request;
    const struct proto_licence *licence;
    const struct proto_ontology *ontology;
    struct proto_decision *decision;
    int grant;     /* that is being evaluated; -1 dataset-wide */
    bool job;      /* the request is for training or evaluation */
    size_t faults; /* in this grant, or dataset-wide */
    enum proto_reason first_fault;
    bool hold;
    enum proto_reason hold_reason;
    uint64_t epsilon_u; /* what the grant at hand would charge */
    uint64_t delta_e12;
};

static bool is_needed(enum proto_reason reason)
{
    return reason == PROTO_REASON_HOLD || reason == PROTO_REASON_LICENSE_UNKNOWN ||
           reason == PROTO_REASON_MISSING_VISA ||
           (reason >= PROTO_REASON_MISSING_INSTITUTION && reason <= PROTO_REASON_MISSING_AGREEMENT);
}

static void add_clause(struct policy *p, enum proto_clause_id id, size_t modifier,
                       enum proto_reason reason)
{
    struct proto_decision *d = p->decision;
    /* The limits of a licence keep the count below the array; were they broken, the last entry would say so. */
    size_t at = d->clause_count < PROTO_POLICY_CLAUSES ? d->clause_count++ : d->clause_count - 1;
    d->clauses[at] = (struct proto_clause){
        .id = (uint8_t)id,
        .result = reason == PROTO_REASON_NONE ? PROTO_CLAUSE_PASS
                  : is_needed(reason)         ? PROTO_CLAUSE_NEEDED
                                              : PROTO_CLAUSE_FAIL,
        .reason = (uint8_t)reason,
        .grant = (int8_t)p->grant,
        .modifier = (uint8_t)modifier,
        .job = p->job,
    };
}

static void judge_at(struct policy *p, enum proto_clause_id id, size_t modifier,
                     enum proto_reason reason)
{
    add_clause(p, id, modifier, reason);
    if (reason != PROTO_REASON_NONE) {
        p->first_fault = p->faults ? p->first_fault : reason;
        p->faults++;
    }
}

/* Reports one clause: NONE passes, anything else refutes the grant (or, dataset-wide, the request). */
static void judge(struct policy *p, enum proto_clause_id id, enum proto_reason reason)
{
    judge_at(p, id, 0, reason);
}

/* A clause that a person may satisfy: it does not refute, it makes the verdict HOLD. */
static void judge_hold(struct policy *p, enum proto_clause_id id, enum proto_reason reason)
{
    add_clause(p, id, 0, reason);
    if (reason != PROTO_REASON_NONE) {
        p->hold_reason = p->hold ? p->hold_reason : reason;
        p->hold = true;
    }
}

static void add_duty(struct policy *p, struct span id, struct span when, struct span text)
{
    struct proto_decision *d = p->decision;
    for (size_t i = 0; i < d->duty_count; i++) {
        if (span_equal(d->duties[i].id, id) && span_equal(d->duties[i].text, text)) {
            return;
        }
    }
    if (d->duty_count < PROTO_POLICY_DUTIES) {
        d->duties[d->duty_count++] = (struct proto_duty){id, when, text};
    }
}

/* --- Small questions -------------------------------------------------------------------------------------- */

static bool in_list(const struct proto_list *list, struct span text)
{
    const struct proto_text *items = list->items;
    for (size_t i = 0; i < list->count; i++) {
        if (span_equal(items[i].text, text)) {
            return true;
        }
    }
    return false;
}

/* A country covers its subdivisions ("DE" holds "DE-BY"), not the reverse. */
static bool place_in(const struct proto_list *list, struct span code)
{
    const struct proto_text *items = list->items;
    bool inside = false;
    for (size_t i = 0; i < list->count && !inside; i++) {
        inside = proto_geography_within(code, items[i].text);
    }
    return inside;
}

#define JOB_ACTIONS                                                                                \
    (PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE) | PROTO_ACTION_BIT(PROTO_ACTION_EVALUATE))

/* The research types of a request; asking for method development says "methods" by itself. */
static uint64_t research_of(const struct proto_purpose *purpose)
{
    return (purpose->has_research ? purpose->research : 0) |
           (purpose->permission == PROTO_DUO_MDS ? PROTO_RESEARCH_BIT(PROTO_RESEARCH_METHODS) : 0);
}

static enum proto_reason when(bool pass, enum proto_reason otherwise)
{
    return pass ? PROTO_REASON_NONE : otherwise;
}

static bool has_modifier(const struct proto_grant *grant, uint64_t code)
{
    const struct proto_modifier *modifiers = grant->modifiers.items;
    for (size_t i = 0; i < grant->modifiers.count && i < PROTO_LICENCE_MODIFIERS_MAX; i++) {
        if (modifiers[i].code == code) {
            return true;
        }
    }
    return false;
}

/* --- Purpose ---------------------------------------------------------------------------------------------- */

/* Every disease asked for must be one of the grant's or lie below one: a question about cancer does not reach data
 * that were given for lung cancer only. An id that is neither the grant's own nor in the ontology denies. */
static enum proto_reason disease_fault(const struct policy *p, const struct proto_grant *grant)
{
    const struct proto_list *wanted = &p->request->purpose.diseases;
    const struct proto_text *items = wanted->items;
    const struct proto_text *given = grant->diseases.items;
    enum proto_reason fault = wanted->count ? PROTO_REASON_NONE : PROTO_REASON_MISSING_DISEASE;
    for (size_t i = 0; i < wanted->count; i++) {
        struct span asked = items[i].text;
        bool match = false;
        for (size_t j = 0; !match && asked.len && j < grant->diseases.count; j++) {
            match = span_equal(asked, given[j].text) ||
                    proto_ontology_is_a(p->ontology, asked, given[j].text);
        }
        if (!match && !proto_ontology_knows(p->ontology, asked)) {
            return PROTO_REASON_UNKNOWN_TERM;
        }
        fault = match ? fault : PROTO_REASON_PURPOSE;
    }
    return fault;
}

/* The published matrix (reference agreements, 2.3). A question is asked at its most specific level. */
static enum proto_reason purpose_fault(const struct policy *p, const struct proto_grant *grant)
{
    uint64_t asked = p->request->purpose.permission;
    if (grant->permission == PROTO_DUO_NRES) {
        return PROTO_REASON_NONE;
    }
    if (asked == 0) {
        return PROTO_REASON_MISSING_PURPOSE;
    }
    if (asked == PROTO_DUO_CC) {
        return when(has_modifier(grant, PROTO_DUO_CC), PROTO_REASON_PURPOSE);
    }
    bool health = asked == PROTO_DUO_HMB || asked == PROTO_DUO_DS || asked == PROTO_DUO_MDS;
    switch (grant->permission) {
    case PROTO_DUO_GRU:
        return when(health || asked == PROTO_DUO_GRU || asked == PROTO_DUO_POA,
                    PROTO_REASON_PURPOSE);
    case PROTO_DUO_HMB:
        return when(health, PROTO_REASON_PURPOSE);
    case PROTO_DUO_DS:
        return asked == PROTO_DUO_DS ? disease_fault(p, grant)
                                     : when(asked == PROTO_DUO_MDS, PROTO_REASON_PURPOSE);
    case PROTO_DUO_POA:
        return when(asked == PROTO_DUO_POA, PROTO_REASON_PURPOSE);
    default:
        return PROTO_REASON_PURPOSE;
    }
}

/* --- Modifiers -------------------------------------------------------------------------------------------- */

static enum proto_reason org_type_fault(const struct proto_request *r, bool nonprofit_only,
                                        enum proto_reason otherwise)
{
    struct span type = r->requester.org_type;
    bool nonprofit = span_is(type, "nonprofit");
    bool government = span_is(type, "government");
    if (!nonprofit && !government && !span_is(type, "forprofit")) {
        return PROTO_REASON_MISSING_ORG_TYPE;
    }
    return when(nonprofit || (government && !nonprofit_only), otherwise);
}

static enum proto_reason commercial_fault(const struct proto_request *r,
                                          enum proto_reason otherwise)
{
    return !r->purpose.has_commercial ? PROTO_REASON_MISSING_COMMERCIAL
                                      : when(!r->purpose.commercial, otherwise);
}

static enum proto_reason research_fault(const struct proto_request *r,
                                        const struct proto_modifier *modifier)
{
    const struct proto_text *params = modifier->params.items;
    uint64_t allowed = 0, asked = research_of(&r->purpose);
    for (size_t i = 0; i < modifier->params.count; i++) {
        enum proto_research type;
        if (!proto_research_by_name(params[i].text, &type)) {
            return PROTO_REASON_MODIFIER_UNKNOWN;
        }
        allowed |= PROTO_RESEARCH_BIT(type);
    }
    if (!r->purpose.has_research || asked == 0) {
        return PROTO_REASON_MISSING_RESEARCH;
    }
    return when((asked & ~allowed) == 0, PROTO_REASON_MODIFIER_RS);
}

/* Methods research is refused, unless the request also matches the grant's own diseases. */
static enum proto_reason methods_fault(const struct policy *p, const struct proto_grant *grant,
                                       const struct proto_modifier *modifier)
{
    const struct proto_purpose *purpose = &p->request->purpose;
    if (!purpose->has_research && purpose->permission != PROTO_DUO_MDS) {
        return PROTO_REASON_MISSING_RESEARCH;
    }
    if (!(research_of(purpose) & PROTO_RESEARCH_BIT(PROTO_RESEARCH_METHODS))) {
        return PROTO_REASON_NONE;
    }
    bool inside = modifier->params.count == 0 && grant->permission == PROTO_DUO_DS &&
                  purpose->permission == PROTO_DUO_DS &&
                  disease_fault(p, grant) == PROTO_REASON_NONE;
    return when(inside, PROTO_REASON_MODIFIER_NMDS);
}

static enum proto_reason ethics_fault(const struct proto_request *r)
{
    if (r->purpose.ethics_ref.len == 0 || r->purpose.ethics_expires == 0) {
        return PROTO_REASON_MISSING_ETHICS;
    }
    return when((uint64_t)r->now < r->purpose.ethics_expires, PROTO_REASON_MODIFIER_IRB);
}

/* The requester's country and every site's: an answer combines what all of them sent. */
static enum proto_reason places_fault(const struct proto_request *r, const struct proto_list *list,
                                      bool with_sites, enum proto_reason otherwise)
{
    if (r->requester.country.len == 0 || (with_sites && r->site_count == 0)) {
        return PROTO_REASON_MISSING_COUNTRY;
    }
    bool inside = place_in(list, r->requester.country);
    for (size_t i = 0; with_sites && i < r->site_count; i++) {
        if (r->sites[i].country.len == 0) {
            return PROTO_REASON_MISSING_COUNTRY;
        }
        inside = inside && place_in(list, r->sites[i].country);
    }
    return when(inside, otherwise);
}

static enum proto_reason limit_fault(const struct policy *p, struct span text)
{
    char copy[32];
    int64_t end;
    int32_t months;
    bool whole = span_to_cstr(text, copy, sizeof copy);
    if (whole && proto_time_parse_months(copy, &months)) {
        /* Beyond the year 9999 the calendar functions end; no agreement lives that long. */
        int64_t start = p->request->agreement_start;
        if (start <= 0) {
            return PROTO_REASON_MISSING_AGREEMENT;
        }
        end = start < INT64_C(200000000000) ? proto_time_add_months(start, months) : 0;
    } else if (!whole || !proto_time_parse(copy, &end)) {
        return PROTO_REASON_MODIFIER_UNKNOWN;
    }
    return when(p->request->now < end, PROTO_REASON_MODIFIER_TS);
}

/* A model of several datasets may have two limits, months and a date. */
static enum proto_reason time_limit_fault(const struct policy *p,
                                          const struct proto_modifier *modifier)
{
    const struct proto_text *params = modifier->params.items;
    enum proto_reason reason = PROTO_REASON_NONE;
    if (modifier->params.count < 1 || modifier->params.count > 2) {
        return PROTO_REASON_MODIFIER_UNKNOWN;
    }
    for (size_t i = 0; i < modifier->params.count && !reason; i++) {
        reason = limit_fault(p, params[i].text);
    }
    return reason;
}

static enum proto_reason name_fault(const struct proto_modifier *modifier, struct span name,
                                    enum proto_reason missing, enum proto_reason otherwise)
{
    return name.len ? when(in_list(&modifier->params, name), otherwise) : missing;
}

static enum proto_reason accepted_fault(const struct policy *p, const char *obligation,
                                        enum proto_reason otherwise)
{
    return when(in_list(&p->request->purpose.accepted, span_str(obligation)), otherwise);
}

static enum proto_reason modifier_fault(const struct policy *p, const struct proto_grant *grant,
                                        const struct proto_modifier *modifier)
{
    const struct proto_request *r = p->request;
    uint64_t research = research_of(&r->purpose);
    enum proto_reason fault;
    const struct proto_text *params = modifier->params.items;
    char text[32];
    int64_t date;
    switch (modifier->code) {
    case PROTO_DUO_RS:
        return research_fault(r, modifier);
    case PROTO_DUO_NMDS:
        return methods_fault(p, grant, modifier);
    case PROTO_DUO_GSO:
        return !r->purpose.has_research
                   ? PROTO_REASON_MISSING_RESEARCH
                   : when(research & PROTO_RESEARCH_BIT(PROTO_RESEARCH_GENETIC),
                          PROTO_REASON_MODIFIER_GSO);
    case PROTO_DUO_NPUNCU:
        fault = org_type_fault(r, true, PROTO_REASON_MODIFIER_NPUNCU);
        return fault ? fault : commercial_fault(r, PROTO_REASON_MODIFIER_NPUNCU);
    case PROTO_DUO_NPU:
        return org_type_fault(r, false, PROTO_REASON_MODIFIER_NPU);
    case PROTO_DUO_NCU:
        return commercial_fault(r, PROTO_REASON_MODIFIER_NCU);
    case PROTO_DUO_NPOA:
        return !r->purpose.has_research
                   ? PROTO_REASON_MISSING_RESEARCH
                   : when(!(research & PROTO_RESEARCH_BIT(PROTO_RESEARCH_ANCESTRY)) &&
                              r->purpose.permission != PROTO_DUO_POA,
                          PROTO_REASON_MODIFIER_NPOA);
    case PROTO_DUO_CC: /* it widens the purposes; see purpose_fault */
        return PROTO_REASON_NONE;
    case PROTO_DUO_IRB:
        return ethics_fault(r);
    case PROTO_DUO_COL:
        return accepted_fault(p, "collaborate", PROTO_REASON_MODIFIER_COL);
    case PROTO_DUO_PUB:
        return accepted_fault(p, "publish", PROTO_REASON_MODIFIER_PUB);
    case PROTO_DUO_RTN:
        return accepted_fault(p, "return-results", PROTO_REASON_MODIFIER_RTN);
    case PROTO_DUO_MOR: /* it binds what is published, not the question; but its date must be readable */
        return when(modifier->params.count == 1 &&
                        span_to_cstr(params[0].text, text, sizeof text) &&
                        proto_time_parse(text, &date),
                    PROTO_REASON_MODIFIER_MOR);
    case PROTO_DUO_TS:
        return time_limit_fault(p, modifier);
    case PROTO_DUO_GS:
        return places_fault(r, &modifier->params, true, PROTO_REASON_MODIFIER_GS);
    case PROTO_DUO_US:
        return name_fault(modifier, r->purpose.person, PROTO_REASON_MISSING_PERSON,
                          PROTO_REASON_MODIFIER_US);
    case PROTO_DUO_PS:
        return name_fault(modifier, r->purpose.project, PROTO_REASON_MISSING_PROJECT,
                          PROTO_REASON_MODIFIER_PS);
    case PROTO_DUO_IS:
        return name_fault(modifier, r->requester.org, PROTO_REASON_MISSING_INSTITUTION,
                          PROTO_REASON_MODIFIER_IS);
    default:
        return PROTO_REASON_MODIFIER_UNKNOWN;
    }
}

static void judge_modifiers(struct policy *p, const struct proto_grant *grant)
{
    const struct proto_modifier *modifiers = grant->modifiers.items;
    for (size_t i = 0; i < grant->modifiers.count && i < PROTO_LICENCE_MODIFIERS_MAX; i++) {
        judge_at(p, PROTO_CLAUSE_ID_MODIFIER, i, modifier_fault(p, grant, &modifiers[i]));
    }
}

/* What others attest about the person or project that asks. */
static void judge_visas(struct policy *p, const struct proto_grant *grant)
{
    static const enum proto_reason reasons[] = {[PROTO_VISA_MISSING] = PROTO_REASON_MISSING_VISA,
                                                [PROTO_VISA_EXPIRED] = PROTO_REASON_VISA,
                                                [PROTO_VISA_STANDS] = PROTO_REASON_NONE};
    const struct proto_request *r = p->request;
    const struct proto_visa_wanted *wanted = grant->visas.items;
    if (grant->visas.count == 0) {
        return;
    }
    const struct proto_visa_subject of = {r->requester.node, r->purpose.person, r->purpose.project};
    for (size_t i = 0; i < grant->visas.count && i < PROTO_LICENCE_VISAS_MAX; i++) {
        judge_at(p, PROTO_CLAUSE_ID_VISA, i,
                 reasons[proto_visa_standing(&wanted[i], r->visas, r->visa_count, &of, r->now)]);
    }
}

/* What the modifiers of the chosen grant oblige to. */
static void add_modifier_duties(struct policy *p, const struct proto_grant *grant)
{
    static const struct {
        uint64_t code;
        const char *duty;
        const char *when;
    } table[] = {
        {PROTO_DUO_IRB, "ethics-ref", "use"},  {PROTO_DUO_COL, "collaborate", "use"},
        {PROTO_DUO_PUB, "publish", "publish"}, {PROTO_DUO_MOR, "embargo-until", "publish"},
        {PROTO_DUO_TS, "delete-by", "use"},    {PROTO_DUO_RTN, "return-results", "use"},
    };
    const struct proto_modifier *modifiers = grant->modifiers.items;
    for (size_t i = 0; i < grant->modifiers.count; i++) {
        for (size_t t = 0; t < sizeof table / sizeof *table; t++) {
            if (modifiers[i].code == table[t].code) {
                const struct proto_text *params = modifiers[i].params.items;
                add_duty(p, span_str(table[t].duty), span_str(table[t].when),
                         modifiers[i].params.count ? params[0].text : SPAN_NONE);
            }
        }
    }
}

/* --- The rest of a grant ------------------------------------------------------------------------------------ */

static enum proto_reason columns_fault(const struct proto_request *r,
                                       const struct proto_grant *grant)
{
    const struct proto_text *columns = r->columns.items;
    bool covered = true;
    for (size_t i = 0; grant->has_columns && i < r->columns.count; i++) {
        covered = covered && columns[i].text.len && in_list(&grant->columns, columns[i].text);
    }
    return when(covered, PROTO_REASON_COLUMNS);
}

/* Secure aggregation does not exist in this version, so a grant that needs it is refused, never weakened. */
static enum proto_reason mode_fault(const struct proto_grant *grant)
{
    return when(grant->mode == PROTO_MODE_ANY && grant->min_sites <= 1, PROTO_REASON_UNSUPPORTED);
}

/* Only noise may be seen by others, unless the site agreed to show its own update and the data are unrestricted. */
static enum proto_reason visibility_fault(const struct proto_request *r,
                                          const struct proto_grant *grant, bool model)
{
    if (grant->privacy.mechanism == PROTO_MECHANISM_LAPLACE) {
        return PROTO_REASON_UNSUPPORTED;
    }
    if (!r->nonprivate || model) {
        return PROTO_REASON_NONE;
    }
    return when(grant->visible_site && grant->privacy.mechanism == PROTO_MECHANISM_NONE &&
                    grant->permission == PROTO_DUO_NRES,
                PROTO_REASON_NOISE);
}

static enum proto_reason finetune_fault(const struct proto_request *r,
                                        const struct proto_grant *grant)
{
    if (!(r->actions & PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE))) {
        return PROTO_REASON_NONE;
    }
    const struct proto_licence_finetune *terms = &grant->finetune;
    if (!grant->has_finetune || r->rounds < 1 || r->rounds > terms->max_rounds) {
        return PROTO_REASON_FINETUNE;
    }
    if (terms->clip_u && r->clip_u == 0) {
        return PROTO_REASON_MISSING_CLIP;
    }
    return when(!terms->clip_u || r->clip_u <= terms->clip_u, PROTO_REASON_FINETUNE);
}

/* The least noise that the grant states: of an answer in multiples of its sensitivity, of training as multiplier. */
static enum proto_reason noise_fault(const struct proto_request *r, const struct proto_grant *grant)
{
    uint64_t least = grant->privacy.min_noise_u;
    if ((r->actions & JOB_ACTIONS) && grant->has_finetune && grant->finetune.noise_mult_u > least) {
        least = grant->finetune.noise_mult_u;
    }
    if (least == 0) {
        return PROTO_REASON_NONE;
    }
    return r->noise_multiplier_u == 0 && !r->nonprivate
               ? PROTO_REASON_MISSING_NOISE
               : when(r->noise_multiplier_u >= least, PROTO_REASON_NOISE);
}

/* A budget that becomes whole again, or one for each requester, would weaken the dataset's one budget; this version's
 * ledger has neither, so a grant that states them is refused, not read as something else. */
static enum proto_reason budget_terms_fault(const struct proto_licence_privacy *privacy)
{
    return when(privacy->scope == PROTO_SCOPE_DATASET, PROTO_REASON_UNSUPPORTED);
}

static uint64_t cap_of(const struct proto_request *r, const struct proto_licence_privacy *privacy)
{
    uint64_t cap = UINT64_MAX;
    if (r->actions & JOB_ACTIONS) {
        cap = privacy->epsilon_per_job_u;
    }
    if ((r->actions & ~JOB_ACTIONS) && privacy->epsilon_per_query_u < cap) {
        cap = privacy->epsilon_per_query_u;
    }
    return cap;
}

#define EPSILON_DEFAULT_U 500000

/* Epsilon and delta are compared as integers: rho grows with both, so two integers suffice and no node's mathematics
 * library can change a verdict. The charge in nano-rho is the caller's. */
static void judge_privacy(struct policy *p, const struct proto_grant *grant)
{
    const struct proto_request *r = p->request;
    const struct proto_licence_privacy *privacy = &grant->privacy;
    bool noisy = privacy->mechanism != PROTO_MECHANISM_NONE;
    uint64_t cap = cap_of(r, privacy);
    uint64_t asked = r->epsilon_u;
    enum proto_reason fault = PROTO_REASON_NONE;
    bool model = p->licence->derived_from.count > 0; /* whose price was paid when it was trained */
    if (asked == 0 && p->job && !r->nonprivate && !model) {
        fault = PROTO_REASON_MISSING_EPSILON;
    } else if (asked == 0) {
        asked = noisy && cap < EPSILON_DEFAULT_U ? cap : EPSILON_DEFAULT_U;
    }
    p->epsilon_u = r->nonprivate ? 0 : asked;
    p->delta_e12 = r->delta_e12 ? r->delta_e12 : privacy->delta_e12;
    judge(p, PROTO_CLAUSE_ID_BUDGET_TERMS, budget_terms_fault(privacy));
    judge(p, PROTO_CLAUSE_ID_BUDGET,
          when(!noisy || asked <= privacy->epsilon_total_u, PROTO_REASON_BUDGET));
    if (fault == PROTO_REASON_NONE && noisy &&
        (asked > cap || cap == 0 || p->delta_e12 > privacy->delta_e12)) {
        fault = PROTO_REASON_NOISE;
    }
    judge(p, PROTO_CLAUSE_ID_NOISE, fault ? fault : noise_fault(r, grant));
}

static void judge_grant(struct policy *p, const struct proto_grant *grant)
{
    const struct proto_request *r = p->request;
    p->faults = 0;
    judge(p, PROTO_CLAUSE_ID_PERMISSION, purpose_fault(p, grant));
    judge_modifiers(p, grant);
    judge_visas(p, grant);
    judge(p, PROTO_CLAUSE_ID_ACTION,
          when((r->actions & ~grant->actions) == 0, PROTO_REASON_ACTION));
    judge(p, PROTO_CLAUSE_ID_COLUMNS, columns_fault(r, grant));
    judge(p, PROTO_CLAUSE_ID_SITES, when(r->institutions >= grant->min_sites, PROTO_REASON_SITES));
    judge(p, PROTO_CLAUSE_ID_MODE, mode_fault(grant));
    judge(p, PROTO_CLAUSE_ID_VISIBILITY,
          visibility_fault(r, grant, p->licence->derived_from.count > 0));
    judge(p, PROTO_CLAUSE_ID_FINETUNE, finetune_fault(r, grant));
    judge_privacy(p, grant);
}

/* --- Dataset-wide ------------------------------------------------------------------------------------------- */

static enum proto_reason request_fault(const struct proto_request *r)
{
    bool actions = r->actions && (r->actions & ~PROTO_ACTION_ALL) == 0;
    /* A job without noise has no epsilon; one that states both contradicts itself. */
    bool private = !r->nonprivate || r->epsilon_u == 0;
    return when(!r->malformed && actions && private && r->now >= 0, PROTO_REASON_BAD_REQUEST);
}

static enum proto_reason window_fault(const struct policy *p)
{
    uint64_t now = (uint64_t)p->request->now;
    return now < p->licence->not_before ? PROTO_REASON_NOT_YET
                                        : when(now < p->licence->expires, PROTO_REASON_EXPIRED);
}

static enum proto_reason obligation_fault(const struct policy *p)
{
    const struct proto_obligation *items = p->licence->obligations.items;
    for (size_t i = 0; i < p->licence->obligations.count; i++) {
        bool commitment;
        if (!proto_obligation_known(items[i].id, &commitment)) {
            return PROTO_REASON_OBLIGATIONS;
        }
        if (span_is(items[i].id, "ethics-ref")) {
            enum proto_reason fault = ethics_fault(p->request);
            if (fault) {
                return fault;
            }
        } else if (commitment && !in_list(&p->request->purpose.accepted, items[i].id)) {
            return PROTO_REASON_OBLIGATIONS;
        }
    }
    return PROTO_REASON_NONE;
}

static enum proto_reason named_fault(bool stated, const struct proto_list *list, struct span name,
                                     enum proto_reason missing)
{
    return !stated         ? PROTO_REASON_NONE
           : name.len == 0 ? missing
                           : when(in_list(list, name), PROTO_REASON_RECIPIENT);
}

static enum proto_reason recipient_fault(const struct policy *p)
{
    const struct proto_request *r = p->request;
    const struct proto_recipients *to = &p->licence->recipients;
    enum proto_reason fault = named_fault(to->has_institutions, &to->institutions, r->requester.org,
                                          PROTO_REASON_MISSING_INSTITUTION);
    fault = fault ? fault
                  : named_fault(to->has_users, &to->users, r->purpose.person,
                                PROTO_REASON_MISSING_PERSON);
    return fault ? fault
                 : named_fault(to->has_projects, &to->projects, r->purpose.project,
                               PROTO_REASON_MISSING_PROJECT);
}

static void judge_terms(struct policy *p)
{
    const struct proto_request *r = p->request;
    const struct proto_licence *l = p->licence;
    enum proto_reason geography = PROTO_REASON_NONE;
    if (l->has_geography) {
        /* An answer goes to the requester alone; a model's weights go to every site. */
        geography = places_fault(r, &l->geography, p->job, PROTO_REASON_GEOGRAPHY);
    }
    judge(p, PROTO_CLAUSE_ID_VALIDITY, window_fault(p));
    judge(p, PROTO_CLAUSE_ID_CONSISTENCY,
          when(!proto_licence_valid(l, NULL), PROTO_REASON_LICENSE_INVALID));
    judge(p, PROTO_CLAUSE_ID_RECIPIENTS, recipient_fault(p));
    judge(p, PROTO_CLAUSE_ID_GEOGRAPHY, geography);
    judge(p, PROTO_CLAUSE_ID_SECURE, when(!r->secure, PROTO_REASON_UNSUPPORTED));
    judge(p, PROTO_CLAUSE_ID_OBLIGATIONS, obligation_fault(p));
}

/* What the data licence (SPDX) says about training; it has no say over questions. */
static void judge_data_licence(struct policy *p, struct proto_spdx_terms *spdx)
{
    const struct proto_request *r = p->request;
    proto_spdx_terms_any(spdx);
    if (!(r->actions & PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE))) {
        return;
    }
    enum proto_reason fault = PROTO_REASON_NONE;
    if (proto_spdx_terms_of(p->licence->spdx, PROTO_READING_CONSERVATIVE, spdx, NULL)) {
        fault = PROTO_REASON_LICENSE_SYNTAX;
        proto_spdx_terms_any(spdx);
    } else if (spdx->train == PROTO_SPDX_NO) {
        fault = PROTO_REASON_LICENSE_NONE;
    } else if (spdx->duties & PROTO_DUTY_NONCOMMERCIAL) {
        fault = commercial_fault(r, PROTO_REASON_LICENSE_NONCOMMERCIAL);
    }
    if (fault == PROTO_REASON_NONE && (spdx->duties & PROTO_DUTY_DP_RESULTS) && r->nonprivate) {
        fault = PROTO_REASON_LICENSE_NONPRIVATE;
    }
    judge(p, PROTO_CLAUSE_ID_DATA_LICENCE, fault);
    if (spdx->train == PROTO_SPDX_HOLD) {
        judge_hold(p, PROTO_CLAUSE_ID_DATA_LICENCE_READ, PROTO_REASON_LICENSE_UNKNOWN);
    }
}

static void judge_approval(struct policy *p)
{
    bool sensitive =
        research_of(&p->request->purpose) & PROTO_RESEARCH_BIT(PROTO_RESEARCH_SENSITIVE);
    bool wanted = p->licence->hold || sensitive;
    judge_hold(p, PROTO_CLAUSE_ID_APPROVAL, when(!wanted, PROTO_REASON_HOLD));
}

/* --- Verdict ------------------------------------------------------------------------------------------------ */

struct choice {
    int grant; /* -1: none passes */
    uint64_t cost_u;
    uint64_t epsilon_u;
    uint64_t delta_e12;
    size_t least_faults; /* of the grant that came nearest */
    enum proto_reason reason;
};

/* The least charge wins, ties the lower index, so that every peer finds the same one. */
static struct choice choose_grant(struct policy *p)
{
    const struct proto_grant *grants = p->licence->grants.items;
    struct choice best = {.grant = -1, .least_faults = SIZE_MAX, .reason = PROTO_REASON_NO_LICENSE};
    for (size_t i = 0; i < p->licence->grants.count && i < PROTO_LICENCE_GRANTS_MAX; i++) {
        p->grant = (int)i;
        judge_grant(p, &grants[i]);
        uint64_t cost = grants[i].privacy.mechanism == PROTO_MECHANISM_NONE ? 0 : p->epsilon_u;
        if (p->faults == 0 && (best.grant < 0 || cost < best.cost_u)) {
            best.grant = (int)i;
            best.cost_u = cost;
            best.epsilon_u = p->epsilon_u;
            best.delta_e12 = p->delta_e12;
        }
        if (p->faults < best.least_faults) {
            best.least_faults = p->faults;
            best.reason = p->first_fault;
        }
    }
    p->grant = -1;
    return best;
}

static void add_duties(struct policy *p, const struct proto_grant *grant,
                       const struct proto_spdx_terms *spdx)
{
    const struct proto_obligation *items = p->licence->obligations.items;
    for (size_t i = 0; i < p->licence->obligations.count; i++) {
        add_duty(p, items[i].id, items[i].when, items[i].text);
    }
    add_modifier_duties(p, grant);
    /* DUO has no codes for these two; they hold whether or not a licence names them. */
    static const char *const always[] = {"no-reidentify", "no-relink"};
    for (size_t i = 0; i < 2; i++) {
        bool named = false;
        for (size_t j = 0; j < p->decision->duty_count; j++) {
            named = named || span_is(p->decision->duties[j].id, always[i]);
        }
        if (!named) {
            add_duty(p, span_str(always[i]), span_str("use"), SPAN_NONE);
        }
    }
    for (int bit = 0; bit < PROTO_DUTY_TOTAL; bit++) {
        if (spdx->duties & (UINT32_C(1) << bit)) {
            add_duty(p, span_str(proto_duty_name((enum proto_duty_bit)bit)),
                     span_str("release-model"), SPAN_NONE);
        }
    }
}

static void grant_terms(struct policy *p, const struct choice *choice,
                        const struct proto_spdx_terms *spdx)
{
    struct proto_decision *d = p->decision;
    const struct proto_grant *grant =
        (const struct proto_grant *)p->licence->grants.items + choice->grant;
    d->grant = choice->grant;
    d->epsilon_u = choice->epsilon_u;
    d->delta_e12 = choice->delta_e12;
    d->charged = grant->privacy.mechanism != PROTO_MECHANISM_NONE;
    d->min_cohort = grant->min_cohort;
    proto_policy_budget(p->licence, &d->epsilon_total_u, &d->budget_delta_e12);
    d->release = PROTO_RELEASE_FEDERATION;
    /* A model trained without a guarantee stays with its participants. */
    bool model = p->licence->derived_from.count > 0;
    if (grant->has_finetune && (!p->request->nonprivate || model)) {
        d->release = grant->finetune.release < spdx->release
                         ? (enum proto_release)grant->finetune.release
                         : spdx->release;
    }
    add_duties(p, grant, spdx);
}

/* Everything that can be said before a body is looked at. */
static bool judge_record(struct policy *p, const struct proto_record *record, bool forked)
{
    judge(p, PROTO_CLAUSE_ID_REQUEST, request_fault(p->request));
    judge(p, PROTO_CLAUSE_ID_FORK, when(!forked, PROTO_REASON_FORKED));
    judge(p, PROTO_CLAUSE_ID_RECORD, when(record != NULL, PROTO_REASON_NO_LICENSE));
    if (!record) {
        return false;
    }
    uint64_t gone = record->envelope.flags & (PROTO_RECORD_FINAL | PROTO_RECORD_TOMBSTONE);
    judge(p, PROTO_CLAUSE_ID_REVOCATION, when(!gone, PROTO_REASON_REVOKED));
    bool known = p->licence && record->envelope.kind == PROTO_RECORD_LICENCE;
    judge(p, PROTO_CLAUSE_ID_VERSION, when(known, PROTO_REASON_UNSUPPORTED_VERSION));
    if (known) {
        judge(p, PROTO_CLAUSE_ID_ENVELOPE,
              when(record->envelope.expires == p->licence->expires, PROTO_REASON_LICENSE_INVALID));
    }
    return known;
}

void proto_policy_decide(const struct proto_request *request, const struct proto_record *record,
                         const struct proto_licence *licence, bool forked,
                         const struct proto_ontology *ontology, struct proto_decision *ret)
{
    memset(ret, 0, sizeof *ret); /* equal inputs give equal bytes, padding included */
    struct policy p = {.request = request,
                       .licence = licence,
                       .ontology = ontology,
                       .decision = ret,
                       .grant = -1,
                       .job = (request->actions & JOB_ACTIONS) != 0};
    ret->verdict = PROTO_DENY;
    ret->grant = -1;
    bool readable = judge_record(&p, record, forked);
    bool well_formed = request_fault(request) == PROTO_REASON_NONE;
    if (!readable || !well_formed) {
        ret->reason = p.first_fault;
        return;
    }
    judge_terms(&p);
    struct proto_spdx_terms spdx;
    judge_data_licence(&p, &spdx);
    judge_approval(&p);
    size_t faults = p.faults;
    enum proto_reason reason = p.first_fault;
    struct choice choice = choose_grant(&p);
    if (faults || choice.grant < 0) {
        ret->reason = faults ? reason : choice.reason;
        return;
    }
    grant_terms(&p, &choice, &spdx);
    ret->verdict = p.hold ? PROTO_HOLD : PROTO_PERMIT;
    ret->reason = p.hold ? p.hold_reason : PROTO_REASON_NONE;
}

/* By what is known of the requester, not for want of a word that the request could still say. */
static bool refutes(const struct proto_clause *clause)
{
    switch ((enum proto_reason)clause->reason) {
    case PROTO_REASON_MODIFIER_COL: /* promises, which a request makes or does not */
    case PROTO_REASON_MODIFIER_PUB:
    case PROTO_REASON_MODIFIER_RTN:
    case PROTO_REASON_OBLIGATIONS:
        return false;
    default:
        return clause->result == PROTO_CLAUSE_FAIL;
    }
}

enum proto_reason proto_policy_refuted(const struct proto_licence *licence,
                                       const struct proto_decision *decision)
{
    enum proto_reason faults[PROTO_LICENCE_GRANTS_MAX] = {PROTO_REASON_NONE};
    size_t grants = licence ? licence->grants.count : 0;
    bool open = false;
    for (size_t i = 0; i < decision->clause_count; i++) {
        const struct proto_clause *clause = &decision->clauses[i];
        if (refutes(clause) && clause->grant < 0) {
            return (enum proto_reason)clause->reason;
        }
        if (refutes(clause) && clause->grant < PROTO_LICENCE_GRANTS_MAX &&
            faults[clause->grant] == PROTO_REASON_NONE) {
            faults[clause->grant] = (enum proto_reason)clause->reason;
        }
    }
    for (size_t i = 0; i < grants && i < PROTO_LICENCE_GRANTS_MAX; i++) {
        open = open || faults[i] == PROTO_REASON_NONE;
    }
    return open ? PROTO_REASON_NONE : grants ? faults[0] : decision->reason;
}

bool proto_policy_budget(const struct proto_licence *licence, uint64_t *ret_epsilon_total_u,
                         uint64_t *ret_delta_e12)
{
    const struct proto_grant *grants = licence->grants.items;
    for (size_t i = 0; i < licence->grants.count; i++) {
        if (grants[i].privacy.mechanism != PROTO_MECHANISM_NONE) {
            *ret_epsilon_total_u = grants[i].privacy.epsilon_total_u;
            *ret_delta_e12 = grants[i].privacy.delta_e12;
            return true;
        }
    }
    *ret_epsilon_total_u = *ret_delta_e12 = 0;
    return false;
}

uint64_t proto_policy_window(const struct proto_licence *licence)
{
    const struct proto_grant *grants = licence->grants.items;
    for (size_t i = 0; i < licence->grants.count; i++) {
        if (grants[i].privacy.mechanism != PROTO_MECHANISM_NONE) {
            return grants[i].privacy.window_s;
        }
    }
    return 0;
}

_Static_assert(PROTO_POLICY_CLAUSES >=
                   PROTO_CLAUSE_ID_TOTAL +
                       PROTO_LICENCE_GRANTS_MAX *
                           (10 + PROTO_LICENCE_MODIFIERS_MAX + PROTO_LICENCE_VISAS_MAX),
               "every clause of the largest licence finds room");
