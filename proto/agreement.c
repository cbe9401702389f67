#include "config.h"
#include "proto/agreement.h"

#include "proto/licence.h"

#define SAFE (INT64_C(1) << 53)

/* --- how one comes about ------------------------------------------------------------------------------ */

static const char *const state_names[PROTO_AGREEMENT_STATES] = {
    "NONE", "REQUESTED", "OFFERED", "ACCEPTED", "AGREED", "VERIFIED", "FINALIZED", "TERMINATED",
};

const char *proto_agreement_state_name(uint64_t state)
{
    return state < PROTO_AGREEMENT_STATES ? state_names[state] : "unknown";
}

/* Who may bring an event about. */
enum {
    C = 1, /* consumer */
    P = 2, /* provider */
};

struct rule {
    uint8_t by;
    uint8_t next;
};

/* The drawing in the header as a table; what is not in it is refused. */
static const struct rule rules[PROTO_AGREEMENT_STATES][PROTO_AGREEMENT_EVENTS] = {
    [PROTO_AGREEMENT_NONE] = {[PROTO_AGREEMENT_REQUEST] = {C, PROTO_AGREEMENT_REQUESTED}},
    [PROTO_AGREEMENT_REQUESTED] = {[PROTO_AGREEMENT_REQUEST] = {C, PROTO_AGREEMENT_REQUESTED},
                                   [PROTO_AGREEMENT_OFFER] = {P, PROTO_AGREEMENT_OFFERED},
                                   [PROTO_AGREEMENT_TERMINATE] = {C | P,
                                                                  PROTO_AGREEMENT_TERMINATED}},
    [PROTO_AGREEMENT_OFFERED] = {[PROTO_AGREEMENT_OFFER] = {P, PROTO_AGREEMENT_OFFERED},
                                 [PROTO_AGREEMENT_ACCEPT] = {C, PROTO_AGREEMENT_ACCEPTED},
                                 [PROTO_AGREEMENT_TERMINATE] = {C | P, PROTO_AGREEMENT_TERMINATED}},
    [PROTO_AGREEMENT_ACCEPTED] = {[PROTO_AGREEMENT_ACCEPT] = {C, PROTO_AGREEMENT_ACCEPTED},
                                  [PROTO_AGREEMENT_AGREE] = {P, PROTO_AGREEMENT_AGREED},
                                  [PROTO_AGREEMENT_TERMINATE] = {C | P,
                                                                 PROTO_AGREEMENT_TERMINATED}},
    [PROTO_AGREEMENT_AGREED] = {[PROTO_AGREEMENT_VERIFY] = {C, PROTO_AGREEMENT_VERIFIED},
                                [PROTO_AGREEMENT_TERMINATE] = {C | P, PROTO_AGREEMENT_TERMINATED}},
    [PROTO_AGREEMENT_VERIFIED] = {[PROTO_AGREEMENT_FINALIZE] = {P, PROTO_AGREEMENT_FINALIZED},
                                  [PROTO_AGREEMENT_TERMINATE] = {C | P,
                                                                 PROTO_AGREEMENT_TERMINATED}},
    [PROTO_AGREEMENT_FINALIZED] = {[PROTO_AGREEMENT_TERMINATE] = {C | P,
                                                                  PROTO_AGREEMENT_TERMINATED}},
};

enum err proto_agreement_step(enum proto_agreement_state *state, enum proto_agreement_event event,
                              enum proto_agreement_side by, struct err_info *reterr)
{
    static const char *const events[PROTO_AGREEMENT_EVENTS] = {
        "requested", "offered", "accepted", "agreed to", "verified", "finalized", "terminated",
    };
    if ((unsigned)*state >= PROTO_AGREEMENT_STATES || (unsigned)event >= PROTO_AGREEMENT_EVENTS) {
        return proto_err_set(reterr, E_INVALID, "no such state or step of an agreement");
    }
    const struct rule *rule = &rules[*state][event];
    if (!(rule->by & (by == PROTO_AGREEMENT_CONSUMER ? C : P))) {
        return proto_err_set(reterr, E_INVALID,
                             "an agreement in the state %s cannot be %s by its %s",
                             state_names[*state], events[event],
                             by == PROTO_AGREEMENT_CONSUMER ? "consumer" : "provider");
    }
    *state = (enum proto_agreement_state)rule->next;
    return E_OK;
}

/* --- documents ---------------------------------------------------------------------------------------- */

static const struct proto_field agreement_request_fields[] = {
    PROTO_FIELD(struct proto_agreement_request, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_agreement_request, id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_agreement_request, consumer, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_agreement_request, provider, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_agreement_request, dataset, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_agreement_request, institution, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_agreement_request, org_type, PROTO_STR, 9, 10),
    PROTO_FIELD(struct proto_agreement_request, actions, PROTO_U64, 1, PROTO_ACTION_ALL),
    PROTO_FIELD_NESTED(struct proto_agreement_request, purpose, &proto_purpose_message),
    PROTO_FIELD_LIST(struct proto_agreement_request, recipients, &proto_text_message, 0, 64),
    PROTO_FIELD(struct proto_agreement_request, time, PROTO_I64, 0, SAFE),
};

static const struct proto_field duty_fields[] = {
    PROTO_FIELD(struct proto_agreement_duty, id, PROTO_STR, 1, 32),
    PROTO_FIELD(struct proto_agreement_duty, when, PROTO_STR, 1, 16),
    PROTO_FIELD_OPTIONAL(struct proto_agreement_duty, text, PROTO_STR, 0, 512),
};
static const struct proto_message duty_message =
    PROTO_MESSAGE("duty", struct proto_agreement_duty, duty_fields);

static const struct proto_field agreement_offer_fields[] = {
    PROTO_FIELD(struct proto_agreement_offer, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_agreement_offer, id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_agreement_offer, request, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct proto_agreement_offer, licence, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_agreement_offer, actions, PROTO_U64, 1, PROTO_ACTION_ALL),
    PROTO_FIELD_LIST(struct proto_agreement_offer, duties, &duty_message, 0, 64),
    PROTO_FIELD(struct proto_agreement_offer, ends, PROTO_I64, 1, SAFE),
    PROTO_FIELD(struct proto_agreement_offer, time, PROTO_I64, 0, SAFE),
};

static const struct proto_field agreement_fields[] = {
    PROTO_FIELD(struct proto_agreement, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_agreement, id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_agreement, request, PROTO_BIN, 1, 8192),
    PROTO_FIELD(struct proto_agreement, offer, PROTO_BIN, 1, 40960),
    PROTO_FIELD_LIST(struct proto_agreement, accepted, &proto_text_message, 0, 64),
    PROTO_FIELD(struct proto_agreement, person, PROTO_STR, 1, 128),
    PROTO_FIELD(struct proto_agreement, time, PROTO_I64, 1, SAFE),
};

static const struct proto_field agreement_end_fields[] = {
    PROTO_FIELD(struct proto_agreement_end, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_agreement_end, id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_agreement_end, by, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_agreement_end, reason, PROTO_STR, 0, 512),
    PROTO_FIELD(struct proto_agreement_end, time, PROTO_I64, 0, SAFE),
};

static enum err version_known(uint64_t v, const char *what, struct err_info *reterr)
{
    return v == PROTO_BODY_VERSION
               ? E_OK
               : proto_err_set(reterr, E_UNSUPPORTED, "%s: version %llu is not known here", what,
                               (unsigned long long)v);
}

#define X(name)                                                                                    \
    static const struct proto_message name##_message =                                             \
        PROTO_MESSAGE(#name, struct proto_##name, name##_fields);                                  \
                                                                                                   \
    enum err proto_##name##_encode(const struct proto_##name *body, struct buf *out,               \
                                   struct err_info *reterr)                                        \
    {                                                                                              \
        enum err err = version_known(body->v, #name, reterr);                                      \
        return err ? err : proto_codec_encode(&name##_message, body, out, reterr);                 \
    }                                                                                              \
                                                                                                   \
    enum err proto_##name##_decode(struct span bytes, struct arena *arena,                         \
                                   struct proto_##name *ret, struct err_info *reterr)              \
    {                                                                                              \
        if (bytes.len > PROTO_AGREEMENT_MAX) {                                                     \
            return proto_err_set(reterr, E_LIMIT, "%s: longer than %zu bytes", #name,              \
                                 PROTO_AGREEMENT_MAX);                                             \
        }                                                                                          \
        enum err err =                                                                             \
            proto_body_decode(&name##_message, PROTO_BODY_VERSION, bytes, arena, ret, reterr);     \
        return err;                                                                                \
    }
PROTO_AGREEMENT_BODIES(X)
#undef X

static bool names_duty(const struct proto_agreement_offer *offer, struct span id)
{
    const struct proto_agreement_duty *duties = offer->duties.items;
    for (size_t i = 0; i < offer->duties.count; i++) {
        if (span_equal(duties[i].id, id)) {
            return true;
        }
    }
    return false;
}

static bool is_accepted(const struct proto_agreement *agreement, struct span id)
{
    const struct proto_text *items = agreement->accepted.items;
    for (size_t i = 0; i < agreement->accepted.count; i++) {
        if (span_equal(items[i].text, id)) {
            return true;
        }
    }
    return false;
}

/* Every duty of the offer that needs a promise was accepted, and nothing that it does not name. */
static enum err check_accepted(const struct proto_agreement_parts *parts, struct err_info *reterr)
{
    const struct proto_agreement_duty *duties = parts->offer.duties.items;
    const struct proto_text *accepted = parts->agreement.accepted.items;
    for (size_t i = 0; i < parts->offer.duties.count; i++) {
        bool commitment = false;
        (void)proto_obligation_known(duties[i].id, &commitment);
        if (commitment && !is_accepted(&parts->agreement, duties[i].id)) {
            return proto_err_set(reterr, E_INVALID, "the duty %.*s has not been accepted",
                                 (int)duties[i].id.len, (const char *)duties[i].id.ptr);
        }
    }
    for (size_t i = 0; i < parts->agreement.accepted.count; i++) {
        if (!names_duty(&parts->offer, accepted[i].text)) {
            return proto_err_set(reterr, E_INVALID, "the offer names no duty %.*s",
                                 (int)(accepted[i].text.len < 64 ? accepted[i].text.len : 64),
                                 (const char *)accepted[i].text.ptr);
        }
    }
    return E_OK;
}

enum err proto_agreement_open(struct span bytes, const struct proto_hash *hash, struct arena *arena,
                              struct proto_agreement_parts *ret, struct err_info *reterr)
{
    uint8_t digest[PROTO_HASH_SIZE];
    enum err err = proto_agreement_decode(bytes, arena, &ret->agreement, reterr);
    err =
        err ? err
            : proto_agreement_request_decode(ret->agreement.request, arena, &ret->request, reterr);
    err =
        err ? err : proto_agreement_offer_decode(ret->agreement.offer, arena, &ret->offer, reterr);
    if (err) {
        return err;
    }
    hash->sha256(&ret->agreement.request, 1, digest);
    if (!span_equal(ret->request.id, ret->agreement.id) ||
        !span_equal(ret->offer.id, ret->agreement.id) ||
        !span_equal(ret->offer.request, span_of(digest, sizeof digest)) ||
        (ret->offer.actions & ~ret->request.actions) || ret->agreement.time >= ret->offer.ends) {
        return proto_err_set(reterr, E_INVALID, "request, offer and agreement do not fit together");
    }
    return check_accepted(ret, reterr);
}
