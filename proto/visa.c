#include "config.h"
#include "proto/visa.h"
#include "proto/nearest.h"

#include <stdio.h>

static const struct proto_field wanted_fields[] = {
    PROTO_FIELD(struct proto_visa_wanted, type, PROTO_STR, 1, 32),
    PROTO_FIELD(struct proto_visa_wanted, value, PROTO_STR, 1, PROTO_VISA_VALUE_MAX),
    PROTO_FIELD_LIST(struct proto_visa_wanted, by, &proto_text_message, 0, 5),
    PROTO_FIELD_LIST(struct proto_visa_wanted, issuers, &proto_text_message, 1, 16),
};
const struct proto_message proto_visa_wanted_message =
    PROTO_MESSAGE("visa", struct proto_visa_wanted, wanted_fields);

#define X(name, text) text,
static const char *const types[] = {PROTO_VISA_TYPES(X)};
static const char *const bys[] = {PROTO_VISA_BYS(X)};
#undef X
/* With their lengths, for decisions. */
#define X(name, text) {(const uint8_t *)text, sizeof text - 1},
static const struct span type_spans[] = {PROTO_VISA_TYPES(X)};
static const struct span by_spans[] = {PROTO_VISA_BYS(X)};
#undef X
#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static bool among(const struct span *names, size_t count, struct span text)
{
    bool found = false;
    for (size_t i = 0; i < count && !found; i++) {
        found = span_equal(text, names[i]);
    }
    return found;
}

bool proto_visa_type_known(struct span type)
{
    return among(type_spans, COUNT_OF(type_spans), type);
}

bool proto_visa_by_known(struct span by)
{
    return among(by_spans, COUNT_OF(by_spans), by);
}

const char *proto_visa_type_nearest(const char *type)
{
    return proto_suggest(types, COUNT_OF(types), type);
}

const char *proto_visa_by_nearest(const char *by)
{
    return proto_suggest(bys, COUNT_OF(bys), by);
}

enum err proto_visa_valid(const struct proto_visa *visa, struct err_info *reterr)
{
    const char *why = NULL;
    if (!proto_visa_type_known(visa->type)) {
        why = "type: not one that is known here";
    } else if ((visa->person.ptr != NULL) == (visa->project.ptr != NULL)) {
        why = "person, project: it speaks of exactly one";
    } else if (visa->by.ptr && !proto_visa_by_known(visa->by)) {
        why = "by: self, peer, system, so or dac";
    }
    const struct proto_visa_alternative *any = visa->conditions.items;
    for (size_t i = 0; i < visa->conditions.count && !why; i++) {
        const struct proto_visa_condition *all = any[i].conditions.items;
        for (size_t j = 0; j < any[i].conditions.count && !why; j++) {
            /* As GA4GH has it: a type alone would be met by anything of that type. */
            why = all[j].value.ptr || all[j].source.ptr || all[j].by.ptr
                      ? NULL
                      : "conditions: each names value, source or by";
        }
    }
    return why ? proto_err_set(reterr, E_INVALID, "visa.%s", why) : E_OK;
}

static bool in_list(const struct proto_list *list, struct span text)
{
    const struct proto_text *items = list->items;
    bool found = false;
    for (size_t i = 0; i < list->count && !found; i++) {
        found = text.len && span_equal(items[i].text, text);
    }
    return found;
}

const char *proto_visa_wanted_fault(const struct proto_visa_wanted *wanted)
{
    const struct proto_text *by = wanted->by.items;
    if (!proto_visa_type_known(wanted->type)) {
        return "visas: a type that is not known here";
    }
    if (wanted->value.len == 0 || wanted->issuers.count == 0) {
        return "visas: a value and the institutions whose word counts";
    }
    for (size_t i = 0; i < wanted->by.count; i++) {
        if (!proto_visa_by_known(by[i].text)) {
            return "visas: by is self, peer, system, so or dac";
        }
    }
    return NULL;
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

bool proto_visa_wanted_equal(const struct proto_visa_wanted *a, const struct proto_visa_wanted *b)
{
    return span_equal(a->type, b->type) && span_equal(a->value, b->value) &&
           same_texts(&a->by, &b->by) && same_texts(&a->issuers, &b->issuers);
}

static bool is_subset(const struct proto_list *of, const struct proto_list *list)
{
    const struct proto_text *items = list->items;
    bool inside = true;
    for (size_t i = 0; i < list->count && inside; i++) {
        inside = in_list(of, items[i].text);
    }
    return inside;
}

bool proto_visa_wanted_implies(const struct proto_visa_wanted *a, const struct proto_visa_wanted *b)
{
    return span_equal(a->type, b->type) && span_equal(a->value, b->value) &&
           (b->by.count == 0 || (a->by.count > 0 && is_subset(&b->by, &a->by))) &&
           is_subset(&b->issuers, &a->issuers);
}

static bool speaks_of(const struct proto_visa *visa, const struct proto_visa_subject *of)
{
    struct span said = visa->person.ptr ? visa->person : visa->project;
    struct span asks = visa->person.ptr ? of->person : of->project;
    return of->node.len && span_equal(visa->node, of->node) && asks.len && span_equal(said, asks);
}

static bool answers(const struct proto_visa_wanted *wanted, const struct proto_visa_held *held)
{
    return span_equal(held->visa.type, wanted->type) &&
           span_equal(held->visa.value, wanted->value) &&
           (wanted->by.count == 0 || in_list(&wanted->by, held->visa.by)) &&
           in_list(&wanted->issuers, held->institution);
}

/* "*" any bytes, "?" one. Goes back to the last star only, so that its steps are bounded by the product of the lengths. */
static bool is_like(struct span pattern, struct span text)
{
    size_t p = 0, t = 0, star = SIZE_MAX, from = 0;
    while (t < text.len) {
        if (p < pattern.len && pattern.ptr[p] == '*') {
            star = p++;
            from = t;
        } else if (p < pattern.len && (pattern.ptr[p] == '?' || pattern.ptr[p] == text.ptr[t])) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++from;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*') {
        p++;
    }
    return p == pattern.len;
}

/* Of a condition, where it says something: "const:..." and "pattern:...". What is not understood is met by nothing. */
static bool says(struct span wanted, struct span text)
{
    static const char exactly[] = "const:", like[] = "pattern:";
    size_t e = sizeof exactly - 1, l = sizeof like - 1;
    if (!wanted.ptr) {
        return true;
    }
    if (wanted.len > e && memcmp(wanted.ptr, exactly, e) == 0) {
        return span_equal(span_of(wanted.ptr + e, wanted.len - e), text);
    }
    return wanted.len > l && memcmp(wanted.ptr, like, l) == 0 && text.len > 0 &&
           is_like(span_of(wanted.ptr + l, wanted.len - l), text);
}

bool proto_visa_meets(const struct proto_visa_condition *condition, const struct proto_visa *visa)
{
    return visa->conditions.count == 0 && span_equal(condition->type, visa->type) &&
           says(condition->value, visa->value) && says(condition->source, visa->source) &&
           says(condition->by, visa->by);
}

struct standing {
    const struct proto_visa_wanted *wanted;
    const struct proto_visa_held *held;
    size_t count;
    const struct proto_visa_subject *of;
    int64_t now;
};

static bool has_begun(const struct standing *s, const struct proto_visa_held *one)
{
    return s->now >= 0 && one->visa.asserted <= (uint64_t)s->now + PROTO_VISA_AHEAD_S &&
           speaks_of(&one->visa, s->of);
}

static bool is_met(const struct standing *s, const struct proto_visa_condition *condition)
{
    bool met = false;
    for (size_t i = 0; i < s->count && !met; i++) {
        const struct proto_visa_held *one = &s->held[i];
        met = has_begun(s, one) && (uint64_t)s->now < one->expires &&
              in_list(&s->wanted->issuers, one->institution) &&
              proto_visa_meets(condition, &one->visa);
    }
    return met;
}

/* All of one alternative; without any nothing is asked for. */
static bool conditions_met(const struct standing *s, const struct proto_visa *visa)
{
    const struct proto_visa_alternative *any = visa->conditions.items;
    bool met = visa->conditions.count == 0;
    for (size_t i = 0; i < visa->conditions.count && !met; i++) {
        const struct proto_visa_condition *all = any[i].conditions.items;
        met = any[i].conditions.count > 0;
        for (size_t j = 0; j < any[i].conditions.count && met; j++) {
            met = is_met(s, &all[j]);
        }
    }
    return met;
}

enum proto_visa_standing proto_visa_standing(const struct proto_visa_wanted *wanted,
                                             const struct proto_visa_held *held, size_t count,
                                             const struct proto_visa_subject *of, int64_t now)
{
    const struct standing s = {wanted, held, count, of, now};
    enum proto_visa_standing best = PROTO_VISA_MISSING;
    for (size_t i = 0; i < count && best != PROTO_VISA_STANDS; i++) {
        if (has_begun(&s, &held[i]) && answers(wanted, &held[i]) &&
            conditions_met(&s, &held[i].visa)) {
            best = (uint64_t)now < held[i].expires ? PROTO_VISA_STANDS : PROTO_VISA_EXPIRED;
        }
    }
    return best;
}

const char *proto_visa_wanted_text(const struct proto_visa_wanted *wanted, char *ret, size_t size)
{
    const struct proto_text *issuers = wanted->issuers.items, *by = wanted->by.items;
    int value = (int)(wanted->value.len < 80 ? wanted->value.len : 80);
    size_t at = (size_t)snprintf(
        ret, size, "%.*s \"%.*s%s\"", (int)wanted->type.len, (const char *)wanted->type.ptr, value,
        (const char *)wanted->value.ptr, wanted->value.len > 80 ? "..." : "");
    for (size_t i = 0; i < wanted->issuers.count && at < size; i++) {
        at += (size_t)snprintf(ret + at, size - at, "%s%.*s", i ? " or " : " of ",
                               (int)issuers[i].text.len, (const char *)issuers[i].text.ptr);
    }
    for (size_t i = 0; i < wanted->by.count && at < size; i++) {
        at += (size_t)snprintf(ret + at, size - at, "%s%.*s", i ? " or " : ", by ",
                               (int)by[i].text.len, (const char *)by[i].text.ptr);
    }
    return ret;
}
