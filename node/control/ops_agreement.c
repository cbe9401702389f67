/* agreement request, list, show, accept, terminate. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/views.h"

#include "node/query/agreement.h"
#include "node/query/site.h"
#include "proto/duo.h"

#define PREFIX_MIN 6

static json_t *actions_view(uint64_t actions)
{
    json_t *array = json_array();
    for (int i = 0; i < PROTO_ACTION_TOTAL; i++) {
        if (actions & PROTO_ACTION_BIT(i)) {
            json_array_append_new(array, json_string(proto_action_name((enum proto_action)i)));
        }
    }
    return array;
}

static json_t *duties_view(const struct proto_agreement_offer *offer)
{
    json_t *array = json_array();
    const struct proto_agreement_duty *duties = offer->duties.items;
    for (size_t i = 0; i < offer->duties.count; i++) {
        bool promise = false;
        (void)proto_obligation_known(duties[i].id, &promise);
        json_array_append_new(
            array, json_pack("{s:o, s:o, s:o, s:b}", "id", control_json_span(duties[i].id), "when",
                             control_json_span(duties[i].when), "text",
                             control_json_span(duties[i].text), "promise", promise));
    }
    return array;
}

static void add_offer(const struct proto_agreement_offer *offer, json_t *view)
{
    json_object_set_new(view, "licence", control_json_hex(offer->licence.ptr, 16));
    json_object_set_new(view, "actions", actions_view(offer->actions));
    json_object_set_new(view, "duties", duties_view(offer));
    json_object_set_new(view, "ends", control_json_time(offer->ends));
}

/* What is agreed, and whether it still holds. */
static void add_document(struct control_call *call, const struct store_agreement *row,
                         struct arena *arena, json_t *view)
{
    struct proto_agreement_parts parts;
    if (proto_agreement_open(row->document, &crypto_proto_hash, arena, &parts, NULL)) {
        return;
    }
    const char *lapsed = query_agreement_lapsed(&call->node->query, &parts, query_now());
    bool made = row->state == PROTO_AGREEMENT_FINALIZED;
    json_object_set_new(view, "accepted", control_json_texts(&parts.agreement.accepted));
    json_object_set_new(view, "starts", control_json_time(parts.agreement.time));
    json_object_set_new(view, "in_force", json_boolean(made && !lapsed));
    if (made && lapsed) {
        json_object_set_new(view, "reason", json_string(lapsed));
    }
}

static json_t *row_view(struct control_call *call, const struct store_agreement *row)
{
    struct arena arena = {0};
    struct proto_agreement_request request;
    struct proto_agreement_offer offer;
    struct peer_member peer = {0};
    char code[PROTO_DUO_SIZE];
    bool known = peer_member_by_id(call->node->peer, row->peer, &peer);
    json_t *view = json_pack(
        "{s:o, s:s, s:s, s:s, s:o, s:b, s:o, s:o}", "agreement", control_json_hex(row->id, 16),
        "state", proto_agreement_state_name(row->state), "side",
        row->side == PROTO_AGREEMENT_CONSUMER ? "consumer" : "provider", "node",
        known ? peer.name : "", "dataset", control_json_span(row->dataset), "in_force", false,
        "reason", control_json_span(row->reason), "changed", control_json_time(row->changed));
    if (proto_agreement_request_decode(row->request, &arena, &request, NULL) == E_OK) {
        json_object_set_new(view, "institution", control_json_span(request.institution));
        json_object_set_new(view, "org_type", control_json_span(request.org_type));
        json_object_set_new(view, "person", control_json_span(request.purpose.person));
        json_object_set_new(view, "project", control_json_span(request.purpose.project));
        json_object_set_new(view, "purpose",
                            json_string(proto_duo_format(request.purpose.permission, code)));
        json_object_set_new(view, "diseases", control_json_texts(&request.purpose.diseases));
        json_object_set_new(view, "ethics", control_json_span(request.purpose.ethics_ref));
        json_object_set_new(view, "recipients", control_json_texts(&request.recipients));
        json_object_set_new(view, "requested", control_json_time(request.time));
    }
    if (row->offer.ptr && !proto_agreement_offer_decode(row->offer, &arena, &offer, NULL)) {
        add_offer(&offer, view);
    }
    if (row->document.ptr) {
        add_document(call, row, &arena, view);
    }
    arena_fini(&arena);
    return view;
}

struct listing {
    struct control_call *call;
    json_t *array;
    const char *prefix; /* NULL: all */
    size_t found;
    uint8_t id[16];
};

static enum err add_row(void *user, const struct store_agreement *row)
{
    struct listing *listing = user;
    char id[33];
    span_to_hex(span_of(row->id, 16), id);
    if (!listing->prefix) {
        return json_array_append_new(listing->array, row_view(listing->call, row)) ? E_NO_MEMORY
                                                                                   : E_OK;
    }
    if (strncmp(id, listing->prefix, strlen(listing->prefix)) == 0) {
        memcpy(listing->id, row->id, 16);
        listing->found++;
    }
    return E_OK;
}

enum err control_agreement_list(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct listing listing = {.call = call, .array = json_array()};
    enum err err = store_agreement_each(&call->node->store, add_row, &listing, reterr);
    *ret = listing.array;
    return err;
}

static enum err find(struct control_call *call, uint8_t ret_id[16], struct err_info *reterr)
{
    struct listing listing = {.call = call, .prefix = control_text(call, "ID")};
    if (!listing.prefix || strlen(listing.prefix) < PREFIX_MIN) {
        return proto_err_set(reterr, E_NOT_FOUND, "give at least %d digits of the agreement's id",
                             PREFIX_MIN);
    }
    enum err err = store_agreement_each(&call->node->store, add_row, &listing, reterr);
    if (!err && listing.found != 1) {
        err = proto_err_set(reterr, E_NOT_FOUND,
                            listing.found ? "more than one agreement begins with %s"
                                          : "no agreement here has the id %s; `concordat agreement "
                                            "list` lists them",
                            listing.prefix);
    }
    memcpy(ret_id, listing.id, 16);
    return err;
}

static enum err show(struct control_call *call, const uint8_t id[16], json_t **ret,
                     struct err_info *reterr)
{
    struct store_agreement row;
    enum err err = store_agreement_get(&call->node->store, id, &call->arena, &row, reterr);
    if (!err) {
        *ret = row_view(call, &row);
    }
    return err;
}

/* One that waits for a person there is asked about first. */
enum err control_agreement_show(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    uint8_t id[16];
    struct err_info waits = {0};
    enum err err = find(call, id, reterr);
    enum err asked = err ? err : query_agreement_again(&call->node->query, id, &waits);
    err = err ? err : show(call, id, ret, reterr);
    if (!err && asked && asked != E_REFUSED) {
        json_object_set_new(*ret, "waits", json_string(waits.text));
    }
    return err;
}

static enum err parse_actions(struct control_call *call, uint64_t *ret, struct err_info *reterr)
{
    const char *names[PROTO_ACTION_TOTAL];
    size_t count;
    enum err err = control_list(call, "--action", names, PROTO_ACTION_TOTAL, &count, reterr);
    if (err) {
        return err;
    }
    *ret = count ? 0 : PROTO_ACTION_ALL;
    for (size_t i = 0; i < count; i++) {
        enum proto_action action;
        if (!proto_action_by_name(names[i], &action)) {
            return proto_err_set(reterr, E_USAGE, "there is no action %s", names[i]);
        }
        *ret |= PROTO_ACTION_BIT(action);
    }
    return E_OK;
}

/* The one publisher of the dataset or model, or the one that --node names. */
static enum err find_provider(struct control_call *call, const char *dataset,
                              struct peer_member *ret, struct err_info *reterr)
{
    const char *node = control_text(call, "--node");
    struct query_publisher *publishers;
    size_t count;
    size_t found = 0;
    enum err err =
        query_publishers(&call->node->query, dataset, &call->arena, &publishers, &count, reterr);
    if (err == E_NOT_FOUND) {
        enum err other = control_model_publishers(call, dataset, &publishers, &count);
        err = other == E_NOT_FOUND ? err : other;
    }
    for (size_t i = 0; !err && i < count; i++) {
        const struct peer_member *member = &publishers[i].member;
        if (node ? strcmp(member->name, node) == 0 : member->state != PEER_SELF) {
            *ret = *member;
            found++;
        }
    }
    if (!err && found != 1) {
        err = proto_err_set(reterr, found ? E_USAGE : E_NOT_FOUND,
                            found ? "%s is published by several nodes; name one with --node"
                                  : "no other node publishes %s",
                            dataset);
    }
    return err;
}

enum err control_agreement_request(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *dataset = control_text(call, "DATASET");
    struct peer_member provider;
    struct proto_purpose purpose;
    struct query_agreement_wish wish = {
        .provider = &provider, .dataset = dataset, .purpose = &purpose};
    uint8_t id[16] = {0};
    struct err_info waits = {0};
    enum err err = control_purpose(call, &purpose, reterr);
    err = err ? err : parse_actions(call, &wish.actions, reterr);
    err = err ? err : control_text_list(call, "--recipient", 64, &wish.recipients, reterr);
    err = err ? err : find_provider(call, dataset, &provider, reterr);
    if (!err) {
        err = query_agreement_request(&call->node->query, &wish, id, &waits);
    }
    if (err == E_APPROVAL) {
        err = show(call, id, ret, reterr);
        if (!err) {
            json_object_set_new(*ret, "waits", json_string(waits.text));
        }
        return err;
    }
    if (err && waits.text[0]) {
        return proto_err_set(reterr, err, "%s", waits.text);
    }
    return err ? err : show(call, id, ret, reterr);
}

enum err control_agreement_accept(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    uint8_t id[16];
    struct proto_list accepted;
    enum err err = control_text_list(call, "--accept", 64, &accepted, reterr);
    err = err ? err : find(call, id, reterr);
    err =
        err ? err
            : control_audit(call, "agreement.accept", reterr, "agreement", control_text(call, "ID"),
                            "accept", control_text(call, "--accept"), (const char *)NULL);
    err =
        err ? err : query_agreement_accept(&call->node->query, id, call->person, &accepted, reterr);
    err = err == E_INVALID ? E_USAGE : err;
    return err ? err : show(call, id, ret, reterr);
}

enum err control_agreement_terminate(struct control_call *call, json_t **ret,
                                     struct err_info *reterr)
{
    uint8_t id[16];
    const char *reason = control_text(call, "--reason");
    if (strlen(reason) > 500) {
        return proto_err_set(reterr, E_USAGE, "--reason takes at most 500 bytes");
    }
    enum err err = find(call, id, reterr);
    err = err ? err
              : control_audit(call, "agreement.terminate", reterr, "agreement",
                              control_text(call, "ID"), "reason", reason, (const char *)NULL);
    err = err ? err : query_agreement_terminate(&call->node->query, id, reason, reterr);
    err = err == E_INVALID ? E_USAGE : err;
    return err ? err : show(call, id, ret, reterr);
}
