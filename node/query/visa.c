#include "config.h"
#include "node/query/visa.h"

#include "node/query/clock.h"
#include "crypto/provider.h"
#include "store/records.h"

/* The member whose word it is; false: nobody's any more. */
static bool issuer_of(struct query_context *context, const struct proto_record *record, int64_t now,
                      struct peer_member *ret)
{
    return peer_member_by_id(context->peer, record->envelope.issuer.ptr, ret) &&
           ret->state != PEER_REVOKED && now < ret->expires;
}

static bool is_taken_back(const struct proto_record *record, bool forked)
{
    return forked || (record->envelope.flags & (PROTO_RECORD_FINAL | PROTO_RECORD_TOMBSTONE));
}

const char *query_visa_state(struct query_context *context, const struct proto_record *record,
                             bool forked, int64_t now)
{
    struct peer_member issuer;
    return is_taken_back(record, forked)               ? "revoked"
           : !issuer_of(context, record, now, &issuer) ? "void"
           : now >= (int64_t)record->envelope.expires  ? "expired"
                                                       : "valid";
}

struct gathering {
    struct query_context *context;
    const uint8_t *requester;
    const struct proto_purpose *purpose;
    const struct proto_licence *licence;
    struct arena *arena;
    struct proto_visa_held *held;
    size_t count;
    size_t first; /* of the first look; above 0 in the second one, for what those depend on */
    int64_t now;
};

static bool is_asked_for(const struct proto_licence *licence, const struct proto_visa *visa)
{
    const struct proto_grant *grants = licence->grants.items;
    bool found = false;
    for (size_t i = 0; i < licence->grants.count && !found; i++) {
        const struct proto_visa_wanted *wanted = grants[i].visas.items;
        for (size_t j = 0; j < grants[i].visas.count && !found; j++) {
            found =
                span_equal(wanted[j].type, visa->type) && span_equal(wanted[j].value, visa->value);
        }
    }
    return found;
}

/* What a visa that was gathered depends on. */
static bool is_condition(const struct gathering *g, const struct proto_visa *visa)
{
    bool found = false;
    for (size_t i = 0; i < g->first && !found; i++) {
        const struct proto_visa_alternative *any = g->held[i].visa.conditions.items;
        for (size_t j = 0; j < g->held[i].visa.conditions.count && !found; j++) {
            const struct proto_visa_condition *all = any[j].conditions.items;
            for (size_t k = 0; k < any[j].conditions.count && !found; k++) {
                found = proto_visa_meets(&all[k], visa);
            }
        }
    }
    return found;
}

static enum err gather_one(void *user, struct span bytes, bool forked)
{
    struct gathering *g = user;
    struct arena scratch = {0};
    struct proto_record record;
    struct proto_visa visa;
    struct peer_member issuer;
    bool wanted = g->count < QUERY_VISAS_MAX &&
                  proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK &&
                  !is_taken_back(&record, forked) &&
                  proto_visa_decode(record.envelope.body, &scratch, &visa, NULL) == E_OK &&
                  memcmp(visa.node.ptr, g->requester, 16) == 0 &&
                  (visa.person.ptr ? span_equal(visa.person, g->purpose->person)
                                   : span_equal(visa.project, g->purpose->project)) &&
                  (g->first ? is_condition(g, &visa) : is_asked_for(g->licence, &visa)) &&
                  issuer_of(g->context, &record, g->now, &issuer);
    if (wanted) {
        /* The record's bytes are the store's, for this call only. */
        struct span body = record.envelope.body;
        void *copy = arena_alloc(g->arena, body.len, 1);
        const char *institution = arena_strdup(g->arena, span_str(issuer.org));
        struct proto_visa_held *one = &g->held[g->count];
        if (copy && institution) {
            memcpy(copy, body.ptr, body.len);
            if (proto_visa_decode(span_of(copy, body.len), g->arena, &one->visa, NULL) == E_OK) {
                one->institution = span_str(institution);
                one->expires = record.envelope.expires;
                g->count++;
            }
        }
    }
    arena_fini(&scratch);
    return E_OK;
}

void query_visas_gather(struct query_context *context, const uint8_t requester[16],
                        const struct proto_licence *licence, struct arena *arena,
                        struct proto_request *request)
{
    const struct proto_grant *grants = licence ? licence->grants.items : NULL;
    struct gathering g = {.context = context,
                          .requester = requester,
                          .purpose = &request->purpose,
                          .licence = licence,
                          .arena = arena,
                          .now = request->now};
    size_t asked = 0;
    for (size_t i = 0; licence && i < licence->grants.count; i++) {
        asked += grants[i].visas.count;
    }
    g.held = asked ? arena_alloc(arena, QUERY_VISAS_MAX, sizeof *g.held) : NULL;
    if (g.held && store_records_each(context->store, PROTO_RECORD_VISA, gather_one, &g) == E_OK) {
        bool depends = false;
        for (size_t i = 0; i < g.count; i++) {
            depends = depends || g.held[i].visa.conditions.count;
        }
        g.first = depends ? g.count : 0;
        if (depends && store_records_each(context->store, PROTO_RECORD_VISA, gather_one, &g)) {
            g.count = 0;
        }
        request->visas = g.held;
        request->visa_count = g.count;
    }
}
