#include "config.h"
#include "proto/compare.h"
#include "proto/duo.h"
#include "proto/spdx_terms.h"
#include "proto/time.h"

#include <stdio.h>

struct compare {
    const struct proto_ontology *ontology;
    struct arena *arena;
    struct proto_comparison *out;
    char prefix[32]; /* "grants[0]." */
    bool counting;   /* only how many clauses differ */
    size_t counted;
    enum err err;
};

const char *proto_change_name(enum proto_change change)
{
    return change == PROTO_CHANGE_WIDER      ? "wider"
           : change == PROTO_CHANGE_NARROWER ? "narrower"
                                             : "changed";
}

static const char *keep(struct compare *c, const char *text)
{
    const char *copy = arena_strdup(c->arena, span_str(text));
    c->err = copy ? c->err : E_NO_MEMORY;
    return copy ? copy : "";
}

static void note(struct compare *c, enum proto_change change, const char *clause, const char *from,
                 const char *to)
{
    char name[96];
    if (c->counting) {
        c->counted++;
        return;
    }
    snprintf(name, sizeof name, "%s%s", c->prefix, clause);
    if (c->out->count == PROTO_CHANGES_MAX) {
        return;
    }
    c->out->changes[c->out->count++] =
        (struct proto_changed){change, keep(c, name), keep(c, from), keep(c, to)};
    c->out->wider += change == PROTO_CHANGE_WIDER;
    c->out->narrower += change == PROTO_CHANGE_NARROWER;
    c->out->other += change == PROTO_CHANGE_OTHER;
}

static void note_spans(struct compare *c, enum proto_change change, const char *clause,
                       struct span from, struct span to)
{
    if (c->counting) {
        c->counted++;
        return;
    }
    note(c, change, clause, keep(c, from.len ? arena_strdup(c->arena, from) : ""),
         keep(c, to.len ? arena_strdup(c->arena, to) : ""));
}

/* --- Numbers -------------------------------------------------------------------------------------------------- */

/* SCALE turns the stored integer into what people write. */
static void number(struct compare *c, const char *clause, uint64_t from, uint64_t to, double scale,
                   bool more_is_wider)
{
    char old[32], new[32];
    if (from == to) {
        return;
    }
    snprintf(old, sizeof old, "%.9g", (double)from * scale);
    snprintf(new, sizeof new, "%.9g", (double)to * scale);
    note(c, (to > from) == more_is_wider ? PROTO_CHANGE_WIDER : PROTO_CHANGE_NARROWER, clause, old,
         new);
}

/* A limit where 0 says that there is none. */
static void ceiling(struct compare *c, const char *clause, uint64_t from, uint64_t to)
{
    char old[32] = "", new[32] = "";
    if (from == to) {
        return;
    }
    if (from) {
        snprintf(old, sizeof old, "%.9g", (double)from / 1e6);
    }
    if (to) {
        snprintf(new, sizeof new, "%.9g", (double)to / 1e6);
    }
    bool wider = to == 0 || (from != 0 && to > from);
    note(c, wider ? PROTO_CHANGE_WIDER : PROTO_CHANGE_NARROWER, clause, old, new);
}

static void moment(struct compare *c, const char *clause, uint64_t from, uint64_t to,
                   bool later_is_wider)
{
    char old[PROTO_TIME_SIZE], new[PROTO_TIME_SIZE];
    if (from != to) {
        note(c, (to > from) == later_is_wider ? PROTO_CHANGE_WIDER : PROTO_CHANGE_NARROWER, clause,
             proto_time_format((int64_t)from, old), proto_time_format((int64_t)to, new));
    }
}

/* --- Lists ---------------------------------------------------------------------------------------------------- */

static bool has(const struct proto_list *list, struct span text)
{
    const struct proto_text *items = list->items;
    for (size_t i = 0; i < list->count; i++) {
        if (span_equal(items[i].text, text)) {
            return true;
        }
    }
    return false;
}

/* Who stands in the list may; a list that is not there restricts nothing. */
static void allowed(struct compare *c, const char *clause, bool has_from,
                    const struct proto_list *from, bool has_to, const struct proto_list *to)
{
    const struct proto_text *old = from->items, *new = to->items;
    if (has_from != has_to) {
        note(c, has_to ? PROTO_CHANGE_NARROWER : PROTO_CHANGE_WIDER, clause,
             has_from ? "those named" : "any", has_to ? "those named" : "any");
        return;
    }
    for (size_t i = 0; has_to && i < to->count; i++) {
        if (!has(from, new[i].text)) {
            note_spans(c, PROTO_CHANGE_WIDER, clause, SPAN_NONE, new[i].text);
        }
    }
    for (size_t i = 0; has_to && i < from->count; i++) {
        if (!has(to, old[i].text)) {
            note_spans(c, PROTO_CHANGE_NARROWER, clause, old[i].text, SPAN_NONE);
        }
    }
}

/* --- Grants --------------------------------------------------------------------------------------------------- */

static bool below(const struct compare *c, struct span term, const struct proto_list *list)
{
    const struct proto_text *items = list->items;
    bool found = has(list, term);
    for (size_t i = 0; i < list->count && !found; i++) {
        found = proto_ontology_is_a(c->ontology, term, items[i].text);
    }
    return found;
}

static void diseases(struct compare *c, const struct proto_grant *from,
                     const struct proto_grant *to)
{
    const struct proto_text *old = from->diseases.items, *new = to->diseases.items;
    for (size_t i = 0; i < to->diseases.count; i++) {
        if (!below(c, new[i].text, &from->diseases)) {
            note_spans(c, PROTO_CHANGE_WIDER, "disease", SPAN_NONE, new[i].text);
        }
    }
    for (size_t i = 0; i < from->diseases.count; i++) {
        if (!below(c, old[i].text, &to->diseases)) {
            note_spans(c, PROTO_CHANGE_NARROWER, "disease", old[i].text, SPAN_NONE);
        }
    }
}

/* NRES permits all, GRU all research, HMB and DS less and less; POA lies beside the last two. */
static enum proto_change permission_change(uint64_t from, uint64_t to)
{
    static const uint64_t line[] = {PROTO_DUO_DS, PROTO_DUO_HMB, PROTO_DUO_GRU, PROTO_DUO_NRES};
    int x = -1, y = -1;
    for (int i = 0; i < 4; i++) {
        x = line[i] == from ? i : x;
        y = line[i] == to ? i : y;
    }
    if (from == PROTO_DUO_POA || to == PROTO_DUO_POA) {
        int other = from == PROTO_DUO_POA ? y : x;
        return other < 2               ? PROTO_CHANGE_OTHER
               : from == PROTO_DUO_POA ? PROTO_CHANGE_WIDER
                                       : PROTO_CHANGE_NARROWER;
    }
    return y > x ? PROTO_CHANGE_WIDER : PROTO_CHANGE_NARROWER;
}

/* The counterpart of modifier AT of FROM: of the same code, and as many of that code before it. */
static const struct proto_modifier *counterpart(const struct proto_grant *from, size_t at,
                                                const struct proto_grant *to)
{
    const struct proto_modifier *own = from->modifiers.items, *items = to->modifiers.items;
    size_t before = 0;
    for (size_t i = 0; i < at; i++) {
        before += own[i].code == own[at].code;
    }
    for (size_t i = 0; i < to->modifiers.count; i++) {
        if (items[i].code == own[at].code && before-- == 0) {
            return &items[i];
        }
    }
    return NULL;
}

static bool date_of(const struct proto_modifier *modifier, int64_t *ret)
{
    const struct proto_text *params = modifier->params.items;
    char text[32];
    return modifier->params.count == 1 && span_to_cstr(params[0].text, text, sizeof text) &&
           proto_time_parse(text, ret);
}

static void params(struct compare *c, const struct proto_modifier *from,
                   const struct proto_modifier *to)
{
    char clause[48];
    int64_t old, new;
    snprintf(clause, sizeof clause, "modifiers %s", proto_duo_name(to->code));
    bool dates = date_of(from, &old) && date_of(to, &new);
    if (dates && old >= 0 && new >= 0 && (to->code == PROTO_DUO_MOR || to->code == PROTO_DUO_TS)) {
        moment(c, clause, (uint64_t)old, (uint64_t) new, to->code == PROTO_DUO_TS);
        return;
    }
    switch (to->code) {
    case PROTO_DUO_RS:
    case PROTO_DUO_GS:
    case PROTO_DUO_US:
    case PROTO_DUO_PS:
    case PROTO_DUO_IS:
        allowed(c, clause, true, &from->params, true, &to->params);
        break;
    default: {
        const struct proto_text *x = from->params.items, *y = to->params.items;
        bool same = from->params.count == to->params.count;
        for (size_t i = 0; same && i < to->params.count; i++) {
            same = span_equal(x[i].text, y[i].text);
        }
        if (!same) {
            note_spans(c, PROTO_CHANGE_OTHER, clause, from->params.count ? x[0].text : SPAN_NONE,
                       to->params.count ? y[0].text : SPAN_NONE);
        }
    }
    }
}

static void modifiers(struct compare *c, const struct proto_grant *from,
                      const struct proto_grant *to)
{
    const struct proto_modifier *old = from->modifiers.items, *new = to->modifiers.items;
    char clause[48];
    for (size_t i = 0; i < to->modifiers.count; i++) {
        const struct proto_modifier *before = counterpart(to, i, from);
        snprintf(clause, sizeof clause, "modifiers %s", proto_duo_name(new[i].code));
        if (before) {
            params(c, before, &new[i]);
        } else { /* clinical care is the one that adds */
            note(c, new[i].code == PROTO_DUO_CC ? PROTO_CHANGE_WIDER : PROTO_CHANGE_NARROWER,
                 clause, "", proto_duo_label(new[i].code));
        }
    }
    for (size_t i = 0; i < from->modifiers.count; i++) {
        snprintf(clause, sizeof clause, "modifiers %s", proto_duo_name(old[i].code));
        if (!counterpart(from, i, to)) {
            note(c, old[i].code == PROTO_DUO_CC ? PROTO_CHANGE_NARROWER : PROTO_CHANGE_WIDER,
                 clause, proto_duo_label(old[i].code), "");
        }
    }
}

/* What grant A asks for and B's visas do not imply. */
static void visas_beyond(struct compare *c, const struct proto_grant *a,
                         const struct proto_grant *b, enum proto_change change)
{
    const struct proto_visa_wanted *items = a->visas.items, *other = b->visas.items;
    bool wider = change == PROTO_CHANGE_WIDER;
    for (size_t i = 0; i < a->visas.count; i++) {
        char text[256];
        bool implied = false;
        for (size_t j = 0; j < b->visas.count && !implied; j++) {
            implied = proto_visa_wanted_implies(&other[j], &items[i]);
        }
        if (!implied) {
            proto_visa_wanted_text(&items[i], text, sizeof text);
            note(c, change, "visas", wider ? text : "", wider ? "" : text);
        }
    }
}

static void visas(struct compare *c, const struct proto_grant *from, const struct proto_grant *to)
{
    visas_beyond(c, to, from, PROTO_CHANGE_NARROWER);
    visas_beyond(c, from, to, PROTO_CHANGE_WIDER);
}

static void actions(struct compare *c, uint64_t from, uint64_t to)
{
    for (int i = 0; i < PROTO_ACTION_TOTAL; i++) {
        uint64_t bit = PROTO_ACTION_BIT(i);
        const char *name = proto_action_name((enum proto_action)i);
        if ((from ^ to) & bit) {
            bool added = to & bit;
            note(c, added ? PROTO_CHANGE_WIDER : PROTO_CHANGE_NARROWER, "actions",
                 added ? "" : name, added ? name : "");
        }
    }
}

static void finetune(struct compare *c, const struct proto_grant *from,
                     const struct proto_grant *to)
{
    if (from->has_finetune != to->has_finetune) {
        note(c, to->has_finetune ? PROTO_CHANGE_WIDER : PROTO_CHANGE_NARROWER, "finetune",
             from->has_finetune ? "allowed" : "", to->has_finetune ? "allowed" : "");
        return;
    }
    if (!to->has_finetune) {
        return;
    }
    number(c, "finetune.max_rounds", from->finetune.max_rounds, to->finetune.max_rounds, 1, true);
    if (from->finetune.release != to->finetune.release) {
        note(c,
             to->finetune.release > from->finetune.release ? PROTO_CHANGE_WIDER
                                                           : PROTO_CHANGE_NARROWER,
             "finetune.release", proto_release_name(from->finetune.release),
             proto_release_name(to->finetune.release));
    }
    ceiling(c, "finetune.clip", from->finetune.clip_u, to->finetune.clip_u);
    number(c, "finetune.noise_multiplier", from->finetune.noise_mult_u, to->finetune.noise_mult_u,
           1e-6, false);
}

static void privacy(struct compare *c, const struct proto_licence_privacy *from,
                    const struct proto_licence_privacy *to)
{
    if (from->mechanism != to->mechanism) {
        note(c, to->mechanism == PROTO_MECHANISM_NONE ? PROTO_CHANGE_WIDER : PROTO_CHANGE_NARROWER,
             "privacy.mechanism", from->mechanism == PROTO_MECHANISM_NONE ? "none" : "noise",
             to->mechanism == PROTO_MECHANISM_NONE ? "none" : "noise");
    }
    number(c, "privacy.epsilon_total", from->epsilon_total_u, to->epsilon_total_u, 1e-6, true);
    number(c, "privacy.epsilon_per_query", from->epsilon_per_query_u, to->epsilon_per_query_u, 1e-6,
           true);
    number(c, "privacy.epsilon_per_job", from->epsilon_per_job_u, to->epsilon_per_job_u, 1e-6,
           true);
    number(c, "privacy.delta", from->delta_e12, to->delta_e12, 1e-12, true);
    number(c, "privacy.min_noise", from->min_noise_u, to->min_noise_u, 1e-6, false);
    if (from->unit != to->unit) {
        note(c, to->unit == PROTO_UNIT_ROW ? PROTO_CHANGE_WIDER : PROTO_CHANGE_NARROWER,
             "privacy.unit", from->unit == PROTO_UNIT_ROW ? "row" : "patient",
             to->unit == PROTO_UNIT_ROW ? "row" : "patient");
    }
}

static void compare_grant(struct compare *c, const struct proto_grant *from,
                          const struct proto_grant *to)
{
    if (from->permission != to->permission) {
        note(c, permission_change(from->permission, to->permission), "permission",
             proto_duo_label(from->permission), proto_duo_label(to->permission));
    } else {
        diseases(c, from, to);
    }
    modifiers(c, from, to);
    visas(c, from, to);
    actions(c, from->actions, to->actions);
    allowed(c, "columns", from->has_columns, &from->columns, to->has_columns, &to->columns);
    number(c, "min_cohort", from->min_cohort, to->min_cohort, 1, false);
    number(c, "min_sites", from->min_sites, to->min_sites, 1, false);
    if (from->mode != to->mode) {
        note(c, to->mode == PROTO_MODE_SECURE ? PROTO_CHANGE_NARROWER : PROTO_CHANGE_WIDER, "mode",
             from->mode == PROTO_MODE_SECURE ? "secure" : "any",
             to->mode == PROTO_MODE_SECURE ? "secure" : "any");
    }
    if (from->visible_site != to->visible_site) {
        note(c, to->visible_site ? PROTO_CHANGE_WIDER : PROTO_CHANGE_NARROWER, "visible",
             from->visible_site ? "site" : "nobody", to->visible_site ? "site" : "nobody");
    }
    privacy(c, &from->privacy, &to->privacy);
    finetune(c, from, to);
}

/* In how many clauses they differ; another permission weighs more than all else. */
static size_t difference(struct compare *c, const struct proto_grant *a,
                         const struct proto_grant *b)
{
    c->counting = true;
    c->counted = a->permission == b->permission ? 0 : PROTO_CHANGES_MAX;
    compare_grant(c, a, b);
    c->counting = false;
    return c->counted;
}

/* Which of FROM each of TO comes from: the two that differ least, then the next two; SIZE_MAX none. */
static void match(struct compare *c, const struct proto_list *from, const struct proto_list *to,
                  size_t origin[PROTO_LICENCE_GRANTS_MAX])
{
    const struct proto_grant *old = from->items, *new = to->items;
    bool taken[PROTO_LICENCE_GRANTS_MAX] = {false};
    for (size_t j = 0; j < PROTO_LICENCE_GRANTS_MAX; j++) {
        origin[j] = SIZE_MAX;
    }
    for (size_t round = 0; round < from->count && round < to->count; round++) {
        size_t best = SIZE_MAX, best_i = 0, best_j = 0;
        for (size_t j = 0; j < to->count; j++) {
            for (size_t i = 0; i < from->count && origin[j] == SIZE_MAX; i++) {
                size_t cost = taken[i] ? SIZE_MAX : difference(c, &old[i], &new[j]);
                if (cost < best) {
                    best = cost;
                    best_i = i;
                    best_j = j;
                }
            }
        }
        taken[best_i] = true;
        origin[best_j] = best_i;
    }
}

static void grants(struct compare *c, const struct proto_list *from, const struct proto_list *to)
{
    const struct proto_grant *old = from->items, *new = to->items;
    size_t origin[PROTO_LICENCE_GRANTS_MAX];
    bool kept[PROTO_LICENCE_GRANTS_MAX] = {false};
    match(c, from, to, origin);
    for (size_t j = 0; j < to->count; j++) {
        if (origin[j] == SIZE_MAX) {
            note(c, PROTO_CHANGE_WIDER, "grants", "", proto_duo_label(new[j].permission));
            continue;
        }
        kept[origin[j]] = true;
        snprintf(c->prefix, sizeof c->prefix, "grants[%zu].", j);
        compare_grant(c, &old[origin[j]], &new[j]);
        c->prefix[0] = 0;
    }
    for (size_t i = 0; i < from->count; i++) {
        if (!kept[i]) {
            note(c, PROTO_CHANGE_NARROWER, "grants", proto_duo_label(old[i].permission), "");
        }
    }
}

/* --- Dataset-wide --------------------------------------------------------------------------------------------- */

static enum proto_change licence_change(struct span from, struct span to)
{
    struct proto_spdx_terms a, b;
    if (proto_spdx_terms_of(from, PROTO_READING_CONSERVATIVE, &a, NULL) ||
        proto_spdx_terms_of(to, PROTO_READING_CONSERVATIVE, &b, NULL)) {
        return PROTO_CHANGE_OTHER;
    }
    bool no_less = b.train <= a.train && b.share <= a.share && (b.duties & ~a.duties) == 0 &&
                   (a.outbound & ~b.outbound) == 0;
    bool no_more = b.train >= a.train && b.share >= a.share && (a.duties & ~b.duties) == 0 &&
                   (b.outbound & ~a.outbound) == 0;
    return no_less == no_more ? PROTO_CHANGE_OTHER
           : no_less          ? PROTO_CHANGE_WIDER
                              : PROTO_CHANGE_NARROWER;
}

static bool owes(const struct proto_licence *licence, const struct proto_obligation *duty)
{
    const struct proto_obligation *items = licence->obligations.items;
    for (size_t i = 0; i < licence->obligations.count; i++) {
        if (span_equal(items[i].id, duty->id) && span_equal(items[i].text, duty->text)) {
            return true;
        }
    }
    return false;
}

static void obligations(struct compare *c, const struct proto_licence *from,
                        const struct proto_licence *to)
{
    const struct proto_obligation *old = from->obligations.items, *new = to->obligations.items;
    for (size_t i = 0; i < to->obligations.count; i++) {
        if (!owes(from, &new[i])) {
            note_spans(c, PROTO_CHANGE_NARROWER, "obligations", SPAN_NONE, new[i].id);
        }
    }
    for (size_t i = 0; i < from->obligations.count; i++) {
        if (!owes(to, &old[i])) {
            note_spans(c, PROTO_CHANGE_WIDER, "obligations", old[i].id, SPAN_NONE);
        }
    }
}

static void whole(struct compare *c, const struct proto_licence *from,
                  const struct proto_licence *to)
{
    const struct proto_recipients *a = &from->recipients, *b = &to->recipients;
    if (!span_equal(from->spdx, to->spdx)) {
        note_spans(c, licence_change(from->spdx, to->spdx), "spdx", from->spdx, to->spdx);
    }
    moment(c, "not_before", from->not_before, to->not_before, false);
    moment(c, "expires", from->expires, to->expires, true);
    allowed(c, "recipients.institutions", a->has_institutions, &a->institutions,
            b->has_institutions, &b->institutions);
    allowed(c, "recipients.users", a->has_users, &a->users, b->has_users, &b->users);
    allowed(c, "recipients.projects", a->has_projects, &a->projects, b->has_projects, &b->projects);
    allowed(c, "geography", from->has_geography, &from->geography, to->has_geography,
            &to->geography);
    obligations(c, from, to);
    if (from->hold != to->hold) {
        note(c, to->hold ? PROTO_CHANGE_NARROWER : PROTO_CHANGE_WIDER, "approval",
             from->hold ? "manual" : "automatic", to->hold ? "manual" : "automatic");
    }
    if (from->survives_revocation != to->survives_revocation) {
        note(c, to->survives_revocation ? PROTO_CHANGE_WIDER : PROTO_CHANGE_NARROWER,
             "survives_revocation", from->survives_revocation ? "true" : "false",
             to->survives_revocation ? "true" : "false");
    }
    if (!span_equal(from->contact, to->contact)) {
        note_spans(c, PROTO_CHANGE_OTHER, "contact", from->contact, to->contact);
    }
}

enum err proto_licence_compare(const struct proto_licence *from, const struct proto_licence *to,
                               const struct proto_ontology *ontology, struct arena *arena,
                               struct proto_comparison *ret)
{
    struct compare c = {.ontology = ontology, .arena = arena, .out = ret};
    memset(ret, 0, sizeof *ret);
    if (from->grants.count > PROTO_LICENCE_GRANTS_MAX ||
        to->grants.count > PROTO_LICENCE_GRANTS_MAX) {
        return E_LIMIT;
    }
    whole(&c, from, to);
    grants(&c, &from->grants, &to->grants);
    return c.err;
}
