/* federation invite, admit, council; revoke, endorse. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/views.h"

#include "node/peer/council.h"
#include "node/query/site.h"

static enum err may_invite(struct control_call *call, struct err_info *reterr)
{
    return call->node->enrol ? E_OK
                             : proto_err_set(reterr, E_ROLE,
                                             "this node does not hold the federation's root key: "
                                             "ask the node that founded it");
}

enum err control_federation_invite(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    char token[PEER_TOKEN_TEXT];
    int64_t valid_s = (int64_t)(control_duration_ms(call, "--valid", 86400000) / 1000);
    struct peer_enrol_invitation invitation = {
        .name = control_text(call, "--node"),
        .org = control_text(call, "--org"),
        .role = control_text(call, "--role"),
        .org_type = control_text(call, "--org-type"),
        .country = control_text(call, "--country"),
        .valid_s = valid_s,
        .key_fingerprint = control_text(call, "--key"),
    };
    enum err err = may_invite(call, reterr);
    if (!err) {
        err = peer_enrol_invite(call->node->enrol, &invitation, token, sizeof token, reterr);
    }
    struct peer_token decoded = {0};
    if (!err) {
        err = peer_token_decode(token, strlen(token), &decoded, reterr);
    }
    if (!err) {
        *ret = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:o}", "token", token, "node",
                         decoded.name, "org", decoded.org, "org_type", decoded.org_type, "country",
                         decoded.country, "role", decoded.role, "expires",
                         control_json_time(decoded.expires), "address", decoded.address, "key",
                         decoded.has_key ? control_json_hex(decoded.key, 32) : json_null());
    }
    return err;
}

enum err control_federation_admit(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *name = control_text(call, "NODE");
    enum err err = may_invite(call, reterr);
    if (!err) {
        err = peer_enrol_admit(call->node->enrol, name, control_text(call, "--key"), reterr);
    }
    if (!err) {
        err = control_audit(call, "federation.admit", reterr, "node", name, (const char *)NULL);
    }
    if (!err) {
        struct peer_member member;
        bool known = peer_member_by_name(call->node->peer, name, &member);
        *ret = json_pack("{s:s, s:o, s:s}", "node", name, "node_id",
                         known ? control_json_hex(member.id, 16) : json_null(), "state",
                         known ? "member" : "admitted");
    }
    return err;
}

/* --- the council ------------------------------------------------------------------------------------------- */

static json_t *proposal_what(struct control_call *call, const struct peer_proposal *proposal)
{
    struct arena *arena = &call->arena;
    struct proto_member member;
    struct proto_charter charter;
    struct proto_revoke revoke;
    struct peer_member known;
    struct buf text = {.max = 4096};
    enum err err = E_OK;
    if (proposal->kind == PROTO_RECORD_MEMBER &&
        !proto_member_decode(proposal->subject, arena, &member, NULL)) {
        char fingerprint[65];
        crypto_identity_fingerprint(member.identity_point.ptr, fingerprint);
        err = buf_printf(&text, "admit %.*s of %.*s (%.*s, %.*s), key %s", (int)member.name.len,
                         (const char *)member.name.ptr, (int)member.org.len,
                         (const char *)member.org.ptr, (int)member.org_type.len,
                         (const char *)member.org_type.ptr, (int)member.country.len,
                         (const char *)member.country.ptr, fingerprint);
    } else if (proposal->kind == PROTO_RECORD_REVOKE &&
               !proto_revoke_decode(proposal->subject, arena, &revoke, NULL) &&
               peer_member_by_id(call->node->peer, revoke.issuer.ptr, &known)) {
        err = buf_printf(&text, "expel %s: %.*s", known.name, (int)revoke.reason.len,
                         (const char *)revoke.reason.ptr);
    } else if (!proto_charter_decode(proposal->subject, arena, &charter, NULL)) {
        const struct proto_council_seat *seats = charter.council.items;
        err = buf_printf(&text, "council of");
        for (size_t i = 0; i < charter.council.count && !err; i++) {
            bool found = peer_member_by_id(call->node->peer, seats[i].node_id.ptr, &known);
            err = buf_printf(&text, " %s", found ? known.name : "(unknown)");
        }
        err = err ? err : buf_printf(&text, ", %u of them sign", (unsigned)charter.threshold);
    }
    json_t *what = err ? json_string("") : control_json_span(buf_span(&text));
    buf_fini(&text);
    return what;
}

struct listing {
    struct control_call *call;
    json_t *list;
};

static json_t *signers_view(struct control_call *call, const struct peer_proposal *proposal)
{
    const struct proto_signature *signatures = proposal->signatures.items;
    json_t *names = json_array();
    for (size_t i = 0; i < proposal->signatures.count; i++) {
        struct peer_member member;
        if (peer_member_by_id(call->node->peer, signatures[i].signer.ptr, &member)) {
            json_array_append_new(names, json_string(member.name));
        }
    }
    return names;
}

static enum err add_proposal(void *user, const struct peer_proposal *proposal)
{
    struct listing *listing = user;
    json_array_append_new(
        listing->list,
        json_pack("{s:o, s:o, s:I, s:I, s:o, s:b}", "record", control_json_hex(proposal->id, 16),
                  "what", proposal_what(listing->call, proposal), "endorsed",
                  (json_int_t)proposal->endorsed, "threshold", (json_int_t)proposal->threshold,
                  "by", signers_view(listing->call, proposal), "ours", proposal->ours));
    return E_OK;
}

enum err control_federation_council(struct control_call *call, json_t **ret,
                                    struct err_info *reterr)
{
    struct peer_council council;
    peer_council_now(call->node->peer, &council);
    json_t *seats = json_array();
    for (size_t i = 0; i < council.seats; i++) {
        struct peer_member member;
        bool known = peer_member_by_id(call->node->peer, council.seat[i].id, &member);
        json_array_append_new(seats,
                              json_pack("{s:s, s:o}", "node", known ? member.name : "", "node_id",
                                        control_json_hex(council.seat[i].id, 16)));
    }
    struct listing listing = {call, json_array()};
    enum err err = peer_council_each(call->node->peer, add_proposal, &listing, reterr);
    if (err) {
        json_decref(seats);
        json_decref(listing.list);
        return err;
    }
    *ret = json_pack("{s:s, s:I, s:I, s:o, s:o}", "federation", call->node->federation, "threshold",
                     (json_int_t)council.threshold, "epoch", (json_int_t)council.epoch, "council",
                     seats, "proposals", listing.list);
    return E_OK;
}

struct outcome {
    const uint8_t *id;
    bool open;
    uint64_t endorsed, threshold;
};

static enum err look_at(void *user, const struct peer_proposal *proposal)
{
    struct outcome *outcome = user;
    if (memcmp(outcome->id, proposal->id, 16) == 0) {
        outcome->open = true;
        outcome->endorsed = proposal->endorsed;
        outcome->threshold = proposal->threshold;
    }
    return E_OK;
}

/* DONE: the state's name once there are enough signatures. */
static enum err outcome_view(struct control_call *call, const uint8_t id[16], const char *done,
                             json_t **ret, struct err_info *reterr)
{
    struct peer_council council;
    peer_council_now(call->node->peer, &council);
    struct outcome outcome = {.id = id};
    enum err err = peer_council_each(call->node->peer, look_at, &outcome, reterr);
    if (!err) {
        *ret = json_pack("{s:o, s:s, s:I, s:I}", "record", control_json_hex(id, 16), "state",
                         outcome.open ? "endorsing" : done, "endorsed",
                         (json_int_t)(outcome.open ? outcome.endorsed : council.threshold),
                         "threshold",
                         (json_int_t)(outcome.open ? outcome.threshold : council.threshold));
    }
    return err;
}

enum err control_revoke(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *name = control_text(call, "NODE");
    struct peer_member member;
    uint8_t id[16];
    if (!peer_member_by_name(call->node->peer, name, &member)) {
        return proto_err_set(reterr, E_NOT_FOUND, "no member is called %s", name);
    }
    /* The act is on record before it has an effect. */
    enum err err = control_audit(call, "federation.revoke", reterr, "node", name, "reason",
                                 control_text(call, "--reason"), (const char *)NULL);
    err =
        err ? err
            : peer_revoke(call->node->peer, member.id, control_text(call, "--reason"), id, reterr);
    err = err ? err : outcome_view(call, id, "revoked", ret, reterr);
    if (!err) {
        json_object_set_new(*ret, "node", json_string(member.name));
    }
    return err;
}

static enum err change_council(struct control_call *call, bool add, json_t **ret,
                               struct err_info *reterr)
{
    const char *name = control_text(call, "NODE");
    struct peer_member member;
    uint8_t id[16];
    if (!peer_member_by_name(call->node->peer, name, &member)) {
        return proto_err_set(reterr, E_NOT_FOUND, "no member is called %s", name);
    }
    enum err err = control_audit(call, add ? "federation.council.add" : "federation.council.remove",
                                 reterr, "node", name, (const char *)NULL);
    err = err ? err : peer_council_change(call->node->peer, member.id, add, id, reterr);
    err = err ? err : outcome_view(call, id, "in force", ret, reterr);
    if (!err) {
        json_object_set_new(*ret, "node", json_string(member.name));
    }
    return err;
}

enum err control_federation_council_add(struct control_call *call, json_t **ret,
                                        struct err_info *reterr)
{
    return change_council(call, true, ret, reterr);
}

enum err control_federation_council_remove(struct control_call *call, json_t **ret,
                                           struct err_info *reterr)
{
    return change_council(call, false, ret, reterr);
}

enum err control_endorse(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *record = control_text(call, "RECORD");
    uint8_t id[16];
    enum err err =
        control_audit(call, "federation.endorse", reterr, "record", record, (const char *)NULL);
    err = err ? err : peer_council_endorse(call->node->peer, record, id, reterr);
    return err ? err : outcome_view(call, id, "in force", ret, reterr);
}
