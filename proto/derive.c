#include "config.h"
#include "proto/derive.h"
#include "proto/duo.h"
#include "proto/request.h"
#include "proto/time.h"

#include <stdio.h>
#include <stdlib.h>

#define TRAINING (PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE) | PROTO_ACTION_BIT(PROTO_ACTION_EVALUATE))
#define LIST_MAX 64 /* of a record's lists */

struct derive {
    const struct proto_ontology *ontology;
    struct arena *arena;
    enum err err; /* E_NO_MEMORY once an allocation failed; all functions then do nothing harmful */
};

const char *proto_cap_text(enum proto_cap cap)
{
    static const char *const texts[PROTO_CAP_TOTAL] = {
        [PROTO_CAP_NONE] = "",
        [PROTO_CAP_GRANT] = "a training set's licence says how far a model of it may go",
        [PROTO_CAP_CLASH] = "the data licences leave no licence for the model",
        [PROTO_CAP_NO_SHARE] = "a data licence does not let the model be shared",
        [PROTO_CAP_NONPRIVATE] = "a model trained without privacy stays with its participants",
        [PROTO_CAP_NOBODY] = "no purpose is left that all training sets permit",
    };
    return (unsigned)cap < PROTO_CAP_TOTAL ? texts[cap] : "unknown";
}

static void *take(struct derive *d, size_t count, size_t size)
{
    void *memory = d->err ? NULL : arena_alloc(d->arena, count + 1, size);
    d->err = memory ? d->err : E_NO_MEMORY;
    return memory;
}

/* --- Lists of texts ----------------------------------------------------------------------------------------- */

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

static int compare_texts(const void *a, const void *b)
{
    struct span x = ((const struct proto_text *)a)->text, y = ((const struct proto_text *)b)->text;
    int order = memcmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len);
    return order ? order : (x.len > y.len) - (x.len < y.len);
}

static void sort(struct proto_list *list)
{
    if (list->count > 1) {
        qsort(list->items, list->count, sizeof(struct proto_text), compare_texts);
    }
}

static void add(struct proto_list *list, struct span text)
{
    struct proto_text *items = list->items;
    if (!has(list, text)) {
        items[list->count++].text = text;
    }
}

static struct proto_list intersect(struct derive *d, const struct proto_list *a,
                                   const struct proto_list *b)
{
    const struct proto_text *items = a->items;
    struct proto_list both = {take(d, a->count, sizeof(struct proto_text)), 0};
    for (size_t i = 0; !d->err && i < a->count; i++) {
        if (has(b, items[i].text)) {
            add(&both, items[i].text);
        }
    }
    sort(&both);
    return both;
}

static struct proto_list unite(struct derive *d, const struct proto_list *a,
                               const struct proto_list *b)
{
    struct proto_list all = {take(d, a->count + b->count, sizeof(struct proto_text)), 0};
    const struct proto_list *lists[] = {a, b};
    for (size_t l = 0; !d->err && l < 2; l++) {
        const struct proto_text *items = lists[l]->items;
        for (size_t i = 0; i < lists[l]->count; i++) {
            add(&all, items[i].text);
        }
    }
    sort(&all);
    return all;
}

/* The smaller of each two places of which one holds the other. */
static struct proto_list intersect_places(struct derive *d, const struct proto_list *a,
                                          const struct proto_list *b)
{
    const struct proto_text *x = a->items, *y = b->items;
    struct proto_list both = {take(d, a->count + b->count, sizeof(struct proto_text)), 0};
    for (size_t i = 0; !d->err && i < a->count; i++) {
        for (size_t j = 0; j < b->count; j++) {
            if (proto_geography_within(x[i].text, y[j].text)) {
                add(&both, x[i].text);
            } else if (proto_geography_within(y[j].text, x[i].text)) {
                add(&both, y[j].text);
            }
        }
    }
    sort(&both);
    return both;
}

/* --- Diseases ------------------------------------------------------------------------------------------------- */

/* The terms below both A and B that lie below no other such term. */
static void common_below(struct derive *d, struct span a, struct span b, struct proto_list *to)
{
    const struct proto_ontology *o = d->ontology;
    uint32_t x = proto_ontology_find(o, a), y = proto_ontology_find(o, b);
    if (x == PROTO_ONTOLOGY_NONE || y == PROTO_ONTOLOGY_NONE) {
        return;
    }
    for (uint32_t term = 0; term < o->term_count && to->count < LIST_MAX; term++) {
        bool top = proto_ontology_below(o, term, x) && proto_ontology_below(o, term, y);
        for (uint32_t i = o->first[term]; top && i < o->first[term + 1]; i++) {
            uint32_t above = o->ancestors[i];
            /* A cycle's terms are one another's ancestors; of these the first stands for all. */
            bool cycle = proto_ontology_below(o, above, term) && term < above;
            top = cycle || !proto_ontology_below(o, above, x) || !proto_ontology_below(o, above, y);
        }
        if (top) {
            add(to, o->terms[term]);
        }
    }
}

static struct proto_list meet_diseases(struct derive *d, const struct proto_list *a,
                                       const struct proto_list *b)
{
    const struct proto_text *x = a->items, *y = b->items;
    struct proto_list both = {take(d, LIST_MAX, sizeof(struct proto_text)), 0};
    for (size_t i = 0; !d->err && i < a->count; i++) {
        for (size_t j = 0; j < b->count && both.count < LIST_MAX; j++) {
            if (span_equal(x[i].text, y[j].text) ||
                proto_ontology_is_a(d->ontology, x[i].text, y[j].text)) {
                add(&both, x[i].text);
            } else if (proto_ontology_is_a(d->ontology, y[j].text, x[i].text)) {
                add(&both, y[j].text);
            } else {
                common_below(d, x[i].text, y[j].text, &both);
            }
        }
    }
    sort(&both);
    return both;
}

/* --- Purposes ------------------------------------------------------------------------------------------------- */

/* Greater permits less: NRES, GRU, HMB, DS in one line; POA beside HMB, below GRU. false: no purpose is left. */
static bool meet_permission(uint64_t a, uint64_t b, uint64_t *ret)
{
    static const struct {
        uint64_t code;
        int rank;
    } line[] = {{PROTO_DUO_NRES, 0},
                {PROTO_DUO_GRU, 1},
                {PROTO_DUO_HMB, 2},
                {PROTO_DUO_DS, 3},
                {PROTO_DUO_POA, 4}};
    int x = 0, y = 0;
    for (size_t i = 0; i < sizeof line / sizeof *line; i++) {
        x = line[i].code == a ? line[i].rank : x;
        y = line[i].code == b ? line[i].rank : y;
    }
    *ret = x > y ? a : b;
    bool beside = (x == 4 || y == 4) && x != y;
    return !beside || (x < y ? x : y) <= 1;
}

/* --- Modifiers ------------------------------------------------------------------------------------------------ */

static const struct proto_modifier *find(const struct proto_grant *grant, uint64_t code)
{
    const struct proto_modifier *items = grant->modifiers.items;
    for (size_t i = 0; i < grant->modifiers.count; i++) {
        if (items[i].code == code) {
            return &items[i];
        }
    }
    return NULL;
}

/* INT64_MIN where TEXT is none. */
static int64_t moment_of(struct span text)
{
    char copy[32];
    int64_t moment;
    return span_to_cstr(text, copy, sizeof copy) && proto_time_parse(copy, &moment) ? moment
                                                                                    : INT64_MIN;
}

static const struct proto_modifier *latest(const struct proto_modifier *a,
                                           const struct proto_modifier *b)
{
    const struct proto_text *x = a->params.items, *y = b->params.items;
    int64_t p = a->params.count == 1 ? moment_of(x->text) : INT64_MIN;
    int64_t q = b->params.count == 1 ? moment_of(y->text) : INT64_MIN;
    /* What is no date denies by itself, so it stays whatever the other says. */
    return p == INT64_MIN || (q != INT64_MIN && p >= q) ? a : b;
}

/* A number of months, which run from each agreement's beginning; -1 where TEXT is none. */
static int32_t months_of(struct span text)
{
    char copy[4];
    int32_t months;
    return span_to_cstr(text, copy, sizeof copy) && proto_time_parse_months(copy, &months) ? months
                                                                                           : -1;
}

/* Whether limit A makes B needless: both are dates, or both are months. */
static bool ends_before(struct span a, struct span b)
{
    int64_t x = months_of(a), y = months_of(b);
    if (x >= 0 || y >= 0) {
        return x >= 0 && y >= 0 && x < y;
    }
    x = moment_of(a);
    y = moment_of(b);
    return x != INT64_MIN && y != INT64_MIN && x < y;
}

/* The least number of months and the first date, of which neither replaces the other; what is neither denies, and stays. */
static struct proto_list earliest(struct derive *d, const struct proto_list *a,
                                  const struct proto_list *b)
{
    struct proto_list all = unite(d, a, b);
    struct proto_text *items = all.items;
    size_t kept = 0;
    for (size_t i = 0; i < all.count; i++) {
        bool needless = false;
        for (size_t j = 0; j < all.count; j++) {
            needless = needless || ends_before(items[j].text, items[i].text);
        }
        items[i].text = needless ? (struct span){0} : items[i].text;
    }
    for (size_t i = 0; i < all.count; i++) {
        if (items[i].text.ptr) {
            items[kept++] = items[i];
        }
    }
    all.count = kept;
    return all;
}

/* One code of both grants. false: nobody can satisfy both, the alternative is dropped. */
static bool merge(struct derive *d, const struct proto_modifier *a, const struct proto_modifier *b,
                  struct proto_modifier *ret)
{
    const struct proto_modifier first = *a; /* RET may be A */
    a = &first;
    *ret = *a;
    switch (a->code) {
    case PROTO_DUO_RS:
    case PROTO_DUO_US:
    case PROTO_DUO_PS:
    case PROTO_DUO_IS:
        ret->params = intersect(d, &a->params, &b->params);
        return ret->params.count > 0;
    case PROTO_DUO_GS:
        ret->params = intersect_places(d, &a->params, &b->params);
        return ret->params.count > 0;
    case PROTO_DUO_MOR:
        *ret = *latest(a, b);
        return true;
    case PROTO_DUO_TS:
        ret->params = earliest(d, &a->params, &b->params);
        return true;
    case PROTO_DUO_CC:
        return true;
    default: /* COL, RTN name whom to collaborate with or return to; the others name nobody */
        ret->params = unite(d, &a->params, &b->params);
        return true;
    }
}

static int compare_modifiers(const void *a, const void *b)
{
    uint64_t x = ((const struct proto_modifier *)a)->code,
             y = ((const struct proto_modifier *)b)->code;
    return (x > y) - (x < y);
}

/* CC widens: it stays where both have it, or where the other permits everything anyhow. */
static bool keeps_alone(const struct proto_modifier *modifier, const struct proto_grant *other)
{
    return modifier->code != PROTO_DUO_CC || other->permission == PROTO_DUO_NRES;
}

static bool meet_modifiers(struct derive *d, const struct proto_grant *a,
                           const struct proto_grant *b, struct proto_list *ret)
{
    struct proto_modifier *out = take(d, a->modifiers.count + b->modifiers.count, sizeof *out);
    const struct proto_modifier *x = a->modifiers.items, *y = b->modifiers.items;
    size_t count = 0;
    for (size_t i = 0; !d->err && i < a->modifiers.count; i++) {
        const struct proto_modifier *other = find(b, x[i].code);
        if (other && !merge(d, &x[i], other, &out[count])) {
            return false;
        }
        if (other) {
            count++;
        } else if (keeps_alone(&x[i], b)) {
            out[count++] = x[i];
        }
    }
    for (size_t i = 0; !d->err && i < b->modifiers.count; i++) {
        if (!find(a, y[i].code) && keeps_alone(&y[i], a)) {
            out[count++] = y[i];
        }
    }
    if (!d->err && count > 1) {
        qsort(out, count, sizeof *out, compare_modifiers);
    }
    *ret = (struct proto_list){out, count};
    return count <= PROTO_LICENCE_MODIFIERS_MAX;
}

/* --- Visas --- all that any parent asks for -------------------------------------------------------------------- */

static bool is_wanted(const struct proto_list *list, const struct proto_visa_wanted *one)
{
    const struct proto_visa_wanted *items = list->items;
    bool found = false;
    for (size_t i = 0; i < list->count && !found; i++) {
        found = proto_visa_wanted_equal(&items[i], one);
    }
    return found;
}

/* false: more than a record holds; the alternative is dropped. */
static bool meet_visas(struct derive *d, const struct proto_list *a, const struct proto_list *b,
                       struct proto_list *ret)
{
    struct proto_visa_wanted *out = take(d, a->count + b->count, sizeof *out);
    struct proto_list all = {out, 0};
    const struct proto_list *lists[] = {a, b};
    for (size_t l = 0; !d->err && l < 2; l++) {
        const struct proto_visa_wanted *items = lists[l]->items;
        for (size_t i = 0; i < lists[l]->count; i++) {
            if (!is_wanted(&all, &items[i])) {
                out[all.count++] = items[i];
            }
        }
    }
    *ret = all;
    return all.count <= PROTO_LICENCE_VISAS_MAX;
}

static bool same_visas(const struct proto_list *a, const struct proto_list *b)
{
    const struct proto_visa_wanted *items = a->items;
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        same = is_wanted(b, &items[i]);
    }
    return same;
}

/* --- Grants --------------------------------------------------------------------------------------------------- */

/* false: the two leave no purpose or person. */
static bool meet(struct derive *d, const struct proto_grant *a, const struct proto_grant *b,
                 struct proto_grant *ret)
{
    *ret = *a;
    ret->actions = a->actions & b->actions;
    if (b->finetune.release < ret->finetune.release) {
        ret->finetune.release = b->finetune.release;
    }
    if (b->finetune.max_rounds < ret->finetune.max_rounds) {
        ret->finetune.max_rounds = b->finetune.max_rounds;
    }
    if (!meet_permission(a->permission, b->permission, &ret->permission)) {
        return false;
    }
    if (ret->permission == PROTO_DUO_DS) {
        ret->diseases = a->permission != PROTO_DUO_DS ? b->diseases
                        : b->permission != PROTO_DUO_DS
                            ? a->diseases
                            : meet_diseases(d, &a->diseases, &b->diseases);
        if (ret->diseases.count == 0) {
            return false;
        }
    }
    return meet_visas(d, &a->visas, &b->visas, &ret->visas) &&
           meet_modifiers(d, a, b, &ret->modifiers);
}

/* Methods research inside the diseases of a grant is no exception where the grant names none. */
static void settle_methods(struct derive *d, const struct proto_grant *grant,
                           struct proto_modifier *modifier)
{
    struct proto_text *always = take(d, 1, sizeof *always);
    if (!d->err && modifier->code == PROTO_DUO_NMDS && grant->permission != PROTO_DUO_DS) {
        always->text = span_str(PROTO_NMDS_ALWAYS);
        modifier->params = (struct proto_list){always, 1};
    }
}

/* A grant of data that allows training, as a grant of what was trained: the price was paid, cells and columns are gone. Who
 * may train a model may apply it; `evaluate` over data is something else, the release of figures about them.
 * Each code stands once. false: nobody can satisfy the grant. */
static bool as_model(struct derive *d, const struct proto_grant *from, struct proto_grant *ret)
{
    const struct proto_modifier *items = from->modifiers.items;
    struct proto_modifier *modifiers = take(d, from->modifiers.count, sizeof *modifiers);
    *ret = (struct proto_grant){
        .permission = from->permission,
        .diseases = from->diseases,
        .actions = TRAINING,
        .min_cohort = 2,
        .min_sites = 1,
        .has_finetune = true,
        .finetune = {.max_rounds = 1000000, .release = from->finetune.release},
        .visas = from->visas,
    };
    ret->modifiers.items = modifiers;
    for (size_t i = 0; !d->err && i < from->modifiers.count; i++) {
        struct proto_modifier one = items[i];
        settle_methods(d, from, &one);
        struct proto_modifier *old = (struct proto_modifier *)(uintptr_t)find(ret, one.code);
        if (!old) {
            modifiers[ret->modifiers.count++] = one;
        } else if (!merge(d, old, &one, old)) {
            return false;
        }
    }
    if (!d->err && ret->modifiers.count > 1) {
        qsort(modifiers, ret->modifiers.count, sizeof *modifiers, compare_modifiers);
    }
    return true;
}

static bool same_texts(const struct proto_list *a, const struct proto_list *b)
{
    const struct proto_text *x = a->items, *y = b->items;
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        same = span_equal(x[i].text, y[i].text);
    }
    return same;
}

static bool same_grant(const struct proto_grant *a, const struct proto_grant *b)
{
    const struct proto_modifier *x = a->modifiers.items, *y = b->modifiers.items;
    bool same = a->permission == b->permission && a->actions == b->actions &&
                a->finetune.release == b->finetune.release &&
                a->modifiers.count == b->modifiers.count && same_visas(&a->visas, &b->visas) &&
                same_texts(&a->diseases, &b->diseases);
    for (size_t i = 0; same && i < a->modifiers.count; i++) {
        same = x[i].code == y[i].code && same_texts(&x[i].params, &y[i].params);
    }
    return same;
}

struct grants {
    struct proto_grant items[PROTO_LICENCE_GRANTS_MAX];
    size_t count;
};

static void add_grant(struct grants *grants, const struct proto_grant *grant)
{
    for (size_t i = 0; i < grants->count; i++) {
        if (same_grant(&grants->items[i], grant)) {
            return;
        }
    }
    if (grants->count < PROTO_LICENCE_GRANTS_MAX) {
        grants->items[grants->count++] = *grant;
    }
}

/* Alternatives of the model so far, met with each alternative of one more parent. */
static void fold(struct derive *d, const struct proto_licence *licence, bool first,
                 struct grants *grants)
{
    const struct proto_grant *items = licence->grants.items;
    struct grants out = {.count = 0};
    for (size_t i = 0; i < licence->grants.count; i++) {
        struct proto_grant own, both;
        if (!items[i].has_finetune ||
            !(items[i].actions & PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE))) {
            continue;
        }
        if (!as_model(d, &items[i], &own)) {
            continue;
        }
        if (first) {
            add_grant(&out, &own);
        }
        for (size_t j = 0; !first && j < grants->count; j++) {
            if (meet(d, &grants->items[j], &own, &both)) {
                add_grant(&out, &both);
            }
        }
    }
    *grants = out;
}

/* --- Dataset-wide --------------------------------------------------------------------------------------------- */

static void narrow(struct derive *d, const struct proto_list *from, bool stated,
                   struct proto_list *list, bool *has_list)
{
    if (stated) {
        *list = *has_list ? intersect(d, list, from) : *from;
        *has_list = true;
    }
}

static void narrow_recipients(struct derive *d, const struct proto_recipients *from,
                              struct proto_recipients *to)
{
    narrow(d, &from->institutions, from->has_institutions, &to->institutions,
           &to->has_institutions);
    narrow(d, &from->users, from->has_users, &to->users, &to->has_users);
    narrow(d, &from->projects, from->has_projects, &to->projects, &to->has_projects);
}

static bool is_later(struct span a, struct span b)
{
    char x[32], y[32];
    int64_t s = 0, t = 0;
    return span_to_cstr(a, x, sizeof x) && span_to_cstr(b, y, sizeof y) &&
           proto_time_parse(x, &s) && proto_time_parse(y, &t) && s > t;
}

struct duties {
    struct proto_obligation items[PROTO_LICENCE_OBLIGATIONS_MAX];
    size_t count;
};

/* An embargo takes the latest date, a deletion the earliest; all else stands once for each text. */
static enum err add_duty(struct duties *duties, const struct proto_obligation *duty)
{
    bool embargo = span_is(duty->id, "embargo-until"), deletion = span_is(duty->id, "delete-by");
    for (size_t i = 0; i < duties->count; i++) {
        struct proto_obligation *old = &duties->items[i];
        if (!span_equal(old->id, duty->id)) {
            continue;
        }
        if (embargo || deletion) {
            bool later = is_later(duty->text, old->text);
            old->text = embargo == later ? duty->text : old->text;
            return E_OK;
        }
        if (span_equal(old->text, duty->text) && span_equal(old->when, duty->when)) {
            return E_OK;
        }
    }
    if (duties->count == PROTO_LICENCE_OBLIGATIONS_MAX) {
        return E_LIMIT;
    }
    duties->items[duties->count++] = *duty;
    return E_OK;
}

static enum err unite_duties(const struct proto_licence *licence, struct duties *duties)
{
    const struct proto_obligation *items = licence->obligations.items;
    enum err err = E_OK;
    for (size_t i = 0; !err && i < licence->obligations.count; i++) {
        err = add_duty(duties, &items[i]);
    }
    return err;
}

/* What the data licences ask of the model; where a licence names the duty itself, that text stays the only one. */
static enum err licence_duties(uint32_t bits, struct duties *duties)
{
    enum err err = E_OK;
    for (int bit = 0; !err && bit < PROTO_DUTY_TOTAL; bit++) {
        struct proto_obligation duty = {span_str(proto_duty_name((enum proto_duty_bit)bit)),
                                        span_str("release-model"), SPAN_NONE};
        bool named = false;
        for (size_t i = 0; i < duties->count; i++) {
            named = named || span_equal(duties->items[i].id, duty.id);
        }
        err = (bits & UINT32_C(1) << bit) && !named ? add_duty(duties, &duty) : E_OK;
    }
    return err;
}

static enum err join_parent(struct derive *d, const struct proto_licence *from,
                            struct proto_licence *to, struct duties *duties)
{
    to->not_before = from->not_before > to->not_before ? from->not_before : to->not_before;
    to->expires = from->expires < to->expires ? from->expires : to->expires;
    to->hold |= from->hold;
    to->survives_revocation &= from->survives_revocation;
    to->contact = to->contact.ptr ? to->contact : from->contact;
    narrow_recipients(d, &from->recipients, &to->recipients);
    if (from->has_geography) {
        to->geography = to->has_geography ? intersect_places(d, &to->geography, &from->geography)
                                          : from->geography;
        to->has_geography = true;
    }
    return unite_duties(from, duties);
}

/* --- Data licences -------------------------------------------------------------------------------------------- */

/* Every licence that applies, once, joined by AND: what the model stands under. One that does not fit says so. */
static struct span expression_of(struct derive *d, struct proto_spdx_terms *data)
{
    char *text = take(d, PROTO_SPDX_MAX, 1);
    size_t at = 0;
    for (size_t i = 0; !d->err && i < data->leaf_count; i++) {
        struct span id = data->leaves[i].id;
        int n = snprintf(text + at, PROTO_SPDX_MAX + 1 - at, "%s%.*s", i ? " AND " : "",
                         (int)id.len, (const char *)id.ptr);
        at += (size_t)n;
        if (at > PROTO_SPDX_MAX) {
            data->overflow = true;
            break;
        }
    }
    return d->err           ? SPAN_NONE
           : data->overflow ? span_str("LicenseRef-concordat-see-lineage")
                            : span_of(text, at);
}

static enum err join_data(struct derive *d, const struct proto_derive_parent *parents, size_t count,
                          struct proto_derivation *ret, struct err_info *reterr)
{
    struct span *texts = take(d, count, sizeof *texts);
    size_t unique = 0;
    for (size_t i = 0; !d->err && i < count; i++) {
        bool seen = false;
        for (size_t j = 0; j < unique && !seen; j++) {
            seen = span_equal(texts[j], parents[i].licence->spdx);
        }
        texts[unique] = parents[i].licence->spdx;
        unique += !seen;
    }
    enum err err = d->err;
    err = err ? err
              : proto_spdx_terms_combine(texts, unique, PROTO_READING_CONSERVATIVE, &ret->data,
                                         reterr);
    if (!err && ret->data.train == PROTO_SPDX_NO) {
        err =
            proto_err_set(reterr, E_REFUSED, "a training set has no licence that allows training");
    }
    return err;
}

/* --- All of it ------------------------------------------------------------------------------------------------ */

static void cap(struct proto_derivation *ret, bool private, bool nobody)
{
    const struct proto_grant *grants = ret->licence.grants.items;
    enum proto_release widest = PROTO_RELEASE_FEDERATION;
    for (size_t i = 0; i < ret->licence.grants.count; i++) {
        widest = grants[i].finetune.release > widest
                     ? (enum proto_release)grants[i].finetune.release
                     : widest;
    }
    proto_spdx_clash(&ret->data, ret->clash);
    ret->release = widest < ret->data.release ? widest : ret->data.release;
    ret->cap = nobody                                     ? PROTO_CAP_NOBODY
               : !private                                 ? PROTO_CAP_NONPRIVATE
               : ret->data.share != PROTO_SPDX_YES        ? PROTO_CAP_NO_SHARE
               : ret->data.release < PROTO_RELEASE_PUBLIC ? PROTO_CAP_CLASH
               : widest < PROTO_RELEASE_PUBLIC            ? PROTO_CAP_GRANT
                                                          : PROTO_CAP_NONE;
    if (ret->cap != PROTO_CAP_NONE && ret->cap != PROTO_CAP_GRANT) {
        ret->release = PROTO_RELEASE_FEDERATION;
    }
}

/* Every alternative is released as far as the whole allows, and carries what a non-commercial data licence asks. */
static void finish_grants(struct derive *d, struct proto_derivation *ret, struct grants *grants)
{
    struct proto_grant *items = take(d, grants->count + 1, sizeof *items);
    static const struct proto_modifier ncu = {.code = PROTO_DUO_NCU};
    const struct proto_grant commercial = {
        .permission = PROTO_DUO_NRES,
        .actions = TRAINING,
        .finetune = {.max_rounds = 1000000, .release = PROTO_RELEASE_PUBLIC},
        .modifiers = {(void *)(uintptr_t)&ncu, 1}};
    bool noncommercial = ret->data.duties & PROTO_DUTY_NONCOMMERCIAL;
    for (size_t i = 0; !d->err && i < grants->count; i++) {
        items[i] = grants->items[i];
        if (noncommercial && !meet(d, &grants->items[i], &commercial, &items[i])) {
            d->err = d->err ? d->err : E_LIMIT;
        }
    }
    ret->licence.grants = (struct proto_list){items, grants->count};
}

/* Where nothing is left the licence says so in its own words: a grant, and nobody who may use it. */
static void nobody(struct proto_licence *licence, struct grants *grants)
{
    grants->items[0] = (struct proto_grant){
        .permission = PROTO_DUO_NRES,
        .actions = TRAINING,
        .min_cohort = 2,
        .min_sites = 1,
        .has_finetune = true,
        .finetune = {.max_rounds = 1, .release = PROTO_RELEASE_FEDERATION},
    };
    grants->count = 1;
    licence->recipients.has_institutions = true;
    licence->recipients.institutions.count = 0;
}

static void cap_grants(struct proto_derivation *ret)
{
    struct proto_grant *grants = ret->licence.grants.items;
    for (size_t i = 0; i < ret->licence.grants.count; i++) {
        if (grants[i].finetune.release > ret->release) {
            grants[i].finetune.release = ret->release;
        }
    }
}

static void name_parents(struct derive *d, const struct proto_derive_parent *parents, size_t count,
                         struct proto_licence *licence)
{
    struct proto_parent *ids = take(d, count, sizeof *ids);
    size_t unique = 0;
    for (size_t i = 0; !d->err && i < count; i++) {
        struct span id = span_of(parents[i].record_id, 16);
        bool seen = false;
        for (size_t j = 0; j < unique && !seen; j++) {
            seen = span_equal(ids[j].record_id, id);
        }
        ids[unique].record_id = id;
        unique += !seen;
    }
    licence->derived_from = (struct proto_list){ids, unique};
}

static enum err assemble(struct derive *d, const struct proto_derive_parent *parents, size_t count,
                         const struct proto_derive_terms *terms, struct proto_derivation *ret,
                         struct err_info *reterr)
{
    struct proto_licence *to = &ret->licence;
    struct duties *duties = take(d, 1, sizeof *duties);
    struct grants *grants = take(d, 1, sizeof *grants);
    enum err err = d->err;
    for (size_t i = 0; !err && i < count; i++) {
        err = join_parent(d, parents[i].licence, to, duties);
        fold(d, parents[i].licence, i == 0, grants);
        err = err ? err : d->err;
    }
    err = err ? err : licence_duties(ret->data.duties, duties);
    if (err) {
        return err == E_LIMIT ? proto_err_set(reterr, err,
                                              "the training sets' obligations do not fit in one "
                                              "record")
                              : err;
    }
    if (to->not_before >= to->expires) {
        return proto_err_set(reterr, E_INVALID,
                             "the training sets' licences never hold at one time");
    }
    bool none = grants->count == 0;
    if (none) {
        nobody(to, grants);
    }
    to->obligations = (struct proto_list){duties->items, duties->count};
    name_parents(d, parents, count, to);
    to->spdx = expression_of(d, &ret->data);
    if (ret->data.overflow) {
        ret->data.release = PROTO_RELEASE_FEDERATION;
    }
    finish_grants(d, ret, grants);
    if (d->err) {
        return d->err;
    }
    cap(ret, terms->private, none);
    cap_grants(ret);
    to->v = proto_licence_version(to);
    return proto_licence_valid(to, reterr);
}

enum err proto_derive(const struct proto_derive_parent *parents, size_t count,
                      const struct proto_derive_terms *terms, const struct proto_ontology *ontology,
                      struct arena *arena, struct proto_derivation *ret, struct err_info *reterr)
{
    struct derive d = {.ontology = ontology, .arena = arena};
    if (count == 0 || count > PROTO_LICENCE_PARENTS_MAX) {
        return proto_err_set(reterr, E_INVALID, "a model has 1 to %d training sets",
                             PROTO_LICENCE_PARENTS_MAX);
    }
    memset(ret, 0, sizeof *ret);
    ret->licence = (struct proto_licence){
        .dataset = terms->model,
        .version = terms->version,
        .content_digest = terms->weights,
        .schema_hash = parents[0].licence->schema_hash,
        .not_before = terms->now > 0 ? (uint64_t)terms->now : 0,
        .expires = UINT64_MAX,
        .survives_revocation = true,
    };
    enum err err = join_data(&d, parents, count, ret, reterr);
    err = err ? err : assemble(&d, parents, count, terms, ret, reterr);
    return err == E_NO_MEMORY ? proto_err_set(reterr, err, "no memory for the model's licence")
                              : err;
}

/* --- Models that came from outside ---------------------------------------------------------------------------- */

enum err proto_derive_imported(struct span name, struct span spdx, struct span weights,
                               struct span record_id, struct arena *arena,
                               struct proto_licence *ret, struct err_info *reterr)
{
    struct proto_spdx_terms terms;
    struct proto_grant *grant = arena_alloc(arena, 1, sizeof *grant);
    struct proto_modifier *modifier = arena_alloc(arena, 1, sizeof *modifier);
    struct proto_parent *parent = arena_alloc(arena, 1, sizeof *parent);
    if (!grant || !modifier || !parent) {
        return proto_err_set(reterr, E_NO_MEMORY, "no memory for the model's licence");
    }
    enum err err = proto_spdx_terms_of(spdx, PROTO_READING_CONSERVATIVE, &terms, reterr);
    if (err) {
        return err;
    }
    modifier->code = PROTO_DUO_NCU;
    parent->record_id = record_id;
    *grant = (struct proto_grant){
        .permission = PROTO_DUO_NRES,
        .modifiers = {modifier, terms.duties & PROTO_DUTY_NONCOMMERCIAL ? 1 : 0},
        .actions = TRAINING,
        .min_cohort = 2,
        .min_sites = 1,
        .has_finetune = true,
        .finetune = {.max_rounds = 1000000, .release = PROTO_RELEASE_FEDERATION},
    };
    *ret = (struct proto_licence){
        .dataset = name,
        .version = span_str("1"),
        .content_digest = weights,
        .schema_hash = weights,
        .expires = INT64_MAX,
        .spdx = spdx,
        .survives_revocation = true,
        .derived_from = {parent, 1},
        .grants = {grant, 1},
    };
    ret->v = proto_licence_version(ret);
    return proto_licence_valid(ret, reterr);
}
