#include "config.h"
#include "proto/request.h"
#include "proto/nearest.h"

#include <math.h>

/* Integers of bodies stay within 2^53, so that every JSON reader shows them right. */
#define SAFE (INT64_C(1) << 53)

static const struct proto_field purpose_agreement_fields[] = {
    PROTO_FIELD(struct proto_purpose_agreement, id, PROTO_BIN, 16, 16),
};
static const struct proto_message purpose_agreement_message =
    PROTO_MESSAGE("agreement", struct proto_purpose_agreement, purpose_agreement_fields);

static const struct proto_field purpose_fields[] = {
    PROTO_FIELD(struct proto_purpose, person, PROTO_STR, 1, 128),
    PROTO_FIELD(struct proto_purpose, project, PROTO_STR, 1, 128),
    PROTO_FIELD(struct proto_purpose, permission, PROTO_U64, 0, 9999999),
    PROTO_FIELD_LIST(struct proto_purpose, diseases, &proto_text_message, 0,
                     PROTO_REQUEST_DISEASES_MAX),
    PROTO_FIELD_PRESENT(struct proto_purpose, research, has_research, PROTO_U64, 0,
                        PROTO_RESEARCH_ALL),
    PROTO_FIELD_PRESENT(struct proto_purpose, commercial, has_commercial, PROTO_BOOL, 0, 1),
    PROTO_FIELD_OPTIONAL(struct proto_purpose, ethics_ref, PROTO_STR, 1, 128),
    PROTO_FIELD(struct proto_purpose, ethics_expires, PROTO_U64, 0, SAFE),
    PROTO_FIELD_LIST(struct proto_purpose, accepted, &proto_text_message, 0,
                     PROTO_REQUEST_ACCEPTED_MAX),
    PROTO_FIELD_LIST(struct proto_purpose, agreements, &purpose_agreement_message, 0,
                     PROTO_REQUEST_AGREEMENTS),
};
const struct proto_message proto_purpose_message =
    PROTO_MESSAGE("purpose", struct proto_purpose, purpose_fields);

static const char *const research_names[PROTO_RESEARCH_TOTAL] = {
#define X(name, text) text,
    PROTO_RESEARCH_TYPES(X)
#undef X
};

const char *proto_research_name(enum proto_research type)
{
    return (unsigned)type < PROTO_RESEARCH_TOTAL ? research_names[type] : "unknown";
}

bool proto_research_by_name(struct span name, enum proto_research *ret)
{
    for (int i = 0; i < PROTO_RESEARCH_TOTAL; i++) {
        if (span_is(name, research_names[i])) {
            *ret = (enum proto_research)i;
            return true;
        }
    }
    return false;
}

enum err proto_research_parse(const struct proto_list *names, uint64_t *ret,
                              struct err_info *reterr)
{
    const struct proto_text *items = names->items;
    *ret = 0;
    for (size_t i = 0; i < names->count; i++) {
        enum proto_research type;
        if (!proto_research_by_name(items[i].text, &type)) {
            struct proto_nearest nearest = proto_nearest_to(items[i].text);
            for (int j = 0; j < PROTO_RESEARCH_TOTAL; j++) {
                proto_nearest_try(&nearest, span_str(research_names[j]));
            }
            return proto_err_set(reterr, E_INVALID, "no kind of research is called %.*s%s%.*s",
                                 (int)(items[i].text.len < 64 ? items[i].text.len : 64),
                                 (const char *)items[i].text.ptr,
                                 nearest.best.len ? "; the nearest is " : "", (int)nearest.best.len,
                                 (const char *)nearest.best.ptr);
        }
        *ret |= PROTO_RESEARCH_BIT(type);
    }
    return E_OK;
}

/* UNIT per whole, rounded up, but for the noise of a decimal's last binary digit (1.1 * 1e6). */
static uint64_t units_above(double value, double unit)
{
    double scaled = value * unit;
    double whole = floor(scaled + 1e-3);
    return (uint64_t)(scaled - whole > 1e-3 ? whole + 1 : whole);
}

static uint64_t units_below(double value, double unit)
{
    return (uint64_t)floor(value * unit + 1e-3);
}

/* NaN fails every comparison, so it is outside too. */
static bool within(double value, double max)
{
    return value >= 0 && value <= max;
}

/* A site without an institution counts for nothing. */
static uint64_t count_institutions(const struct proto_party *sites, size_t count)
{
    uint64_t institutions = 0;
    for (size_t i = 0; i < count; i++) {
        bool counted = sites[i].org.len == 0;
        for (size_t j = 0; j < i && !counted; j++) {
            counted = span_equal(sites[j].org, sites[i].org);
        }
        institutions += !counted;
    }
    return institutions;
}

void proto_request_build(const struct proto_party *requester, const struct proto_purpose *purpose,
                         const struct proto_use *use, const struct proto_party *sites,
                         size_t site_count, int64_t now, struct proto_request *ret)
{
    *ret = (struct proto_request){
        .requester = *requester,
        .purpose = *purpose,
        .actions = use->actions,
        .columns = use->columns,
        .rounds = use->rounds,
        .secure = use->secure,
        .nonprivate = use->nonprivate,
        .institutions = count_institutions(sites, site_count),
        .sites = sites,
        .site_count = site_count,
        .now = now,
    };
    ret->malformed = !within(use->epsilon, 9e9) || !within(use->delta, 1) ||
                     !within(use->clip, 1e9) || !within(use->noise_multiplier, 1e9);
    if (!ret->malformed) {
        ret->epsilon_u = units_above(use->epsilon, 1e6);
        ret->delta_e12 = units_above(use->delta, 1e12);
        ret->clip_u = units_above(use->clip, 1e6);
        ret->noise_multiplier_u = units_below(use->noise_multiplier, 1e6);
    }
}
