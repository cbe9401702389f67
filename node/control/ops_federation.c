/* federation invite, admit, council; revoke. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/views.h"

#include "node/query/site.h"
#include "store/records.h"

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

struct council {
    struct control_call *call;
    struct proto_charter charter;
    bool found;
};

static enum err take_charter(void *user, struct span record, bool forked)
{
    struct council *council = user;
    struct proto_record decoded;
    struct proto_charter charter;
    (void)forked;
    uint8_t *copy = arena_alloc(&council->call->arena, record.len, 1);
    if (!copy) {
        return E_NO_MEMORY;
    }
    memcpy(copy, record.ptr, record.len);
    if (proto_record_decode(span_of(copy, record.len), &crypto_proto_hash, &decoded, NULL) ==
            E_OK &&
        proto_charter_decode(decoded.envelope.body, &council->call->arena, &charter, NULL) ==
            E_OK &&
        (!council->found || charter.epoch > council->charter.epoch)) {
        council->charter = charter;
        council->found = true;
    }
    return E_OK;
}

enum err control_federation_council(struct control_call *call, json_t **ret,
                                    struct err_info *reterr)
{
    struct council council = {.call = call};
    enum err err =
        store_records_each(&call->node->store, PROTO_RECORD_CHARTER, take_charter, &council);
    if (!err && !council.found) {
        err = proto_err_set(reterr, E_NOT_FOUND, "this node holds no charter");
    }
    if (err) {
        return err;
    }
    json_t *seats = json_array();
    const struct proto_council_seat *items = council.charter.council.items;
    for (size_t i = 0; i < council.charter.council.count; i++) {
        struct peer_member member;
        bool known = peer_member_by_id(call->node->peer, items[i].node_id.ptr, &member);
        json_array_append_new(seats,
                              json_pack("{s:s, s:o}", "node", known ? member.name : "", "node_id",
                                        control_json_hex(items[i].node_id.ptr, 16)));
    }
    *ret = json_pack("{s:s, s:I, s:I, s:o}", "federation", call->node->federation, "threshold",
                     (json_int_t)council.charter.threshold, "epoch",
                     (json_int_t)council.charter.epoch, "council", seats);
    return E_OK;
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
    if (!err) {
        err = peer_revoke(call->node->peer, member.id, control_text(call, "--reason"), id, reterr);
    }
    if (!err) {
        *ret =
            json_pack("{s:s, s:o, s:s, s:i, s:i}", "node", name, "record", control_json_hex(id, 16),
                      "state", "revoked", "endorsed", 1, "threshold", 1);
    }
    return err;
}
