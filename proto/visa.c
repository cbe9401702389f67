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

enum proto_visa_standing proto_visa_standing(const struct proto_visa_wanted *wanted,
                                             const struct proto_visa_held *held, size_t count,
                                             const struct proto_visa_subject *of, int64_t now)
{
    enum proto_visa_standing best = PROTO_VISA_MISSING;
    for (size_t i = 0; i < count && best != PROTO_VISA_STANDS; i++) {
        bool begun = now >= 0 && held[i].visa.asserted <= (uint64_t)now + PROTO_VISA_AHEAD_S;
        if (begun && speaks_of(&held[i].visa, of) && answers(wanted, &held[i])) {
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
