/* approvals, approve, deny: requests that wait for a person of this node; and what others say of ours. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/views.h"

#include "node/query/approval.h"
#include "node/query/site.h"
#include "store/egress.h"
#include "store/job.h"

#include <stdlib.h>

#define TELL_TIMEOUT_MS 2000
#define PREFIX_MIN      6

static json_t *row_view(const struct store_approval *row)
{
    json_t *view = json_pack(
        "{s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "approval",
        control_json_hex(row->id, 16), "state", store_approval_state_name(row->state), "kind",
        store_approval_kind_name(row->kind), "dataset", control_json_span(row->dataset), "node",
        control_json_span(row->node), "institution", control_json_span(row->institution), "person",
        control_json_span(row->person), "project", control_json_span(row->project), "purpose",
        control_json_span(row->purpose), "operations", control_json_span(row->operations),
        "question", control_json_span(row->question), "shape", control_json_span(row->shape), "why",
        control_json_span(row->why), "licence", control_json_hex(row->licence, 16));
    json_object_set_new(view, "cost",
                        json_pack("{s:f, s:f, s:o}", "epsilon", (double)row->epsilon_u / 1e6,
                                  "delta", (double)row->delta_e12 / 1e12, "rho",
                                  control_json_nano(row->cost_nano)));
    json_object_set_new(view, "requested", control_json_time(row->requested));
    json_object_set_new(view, "expires", control_json_time(row->expires));
    json_object_set_new(view, "scope", json_string(row->for_project ? "project" : "request"));
    json_object_set_new(view, "decided", control_json_time(row->decided));
    json_object_set_new(view, "decided_by", control_json_span(row->decided_by));
    json_object_set_new(view, "reason", control_json_span(row->reason));
    return view;
}

struct listing {
    json_t *array;
    bool all;
};

static enum err add_row(void *user, const struct store_approval *row)
{
    struct listing *listing = user;
    if (!listing->all && row->state != STORE_APPROVAL_PENDING) {
        return E_OK;
    }
    return json_array_append_new(listing->array, row_view(row)) ? E_NO_MEMORY : E_OK;
}

enum err control_approvals(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct listing listing = {json_array(), control_flag(call, "--all")};
    enum err err = store_approval_each(&call->node->store, query_now(), add_row, &listing, reterr);
    *ret = listing.array;
    return err;
}

/* --- deciding -------------------------------------------------------------------------------------- */

struct wanted {
    const char *prefix;
    size_t found;
    uint8_t id[16];
};

static enum err look_at(void *user, const struct store_approval *row)
{
    struct wanted *wanted = user;
    char id[33];
    span_to_hex(span_of(row->id, 16), id);
    if (strncmp(id, wanted->prefix, strlen(wanted->prefix)) == 0) {
        memcpy(wanted->id, row->id, 16);
        wanted->found++;
    }
    return E_OK;
}

static enum err find_row(struct control_call *call, struct store_approval *ret,
                         struct err_info *reterr)
{
    struct wanted wanted = {.prefix = control_text(call, "ID")};
    if (!wanted.prefix || strlen(wanted.prefix) < PREFIX_MIN) {
        return proto_err_set(reterr, E_NOT_FOUND, "give at least %d digits of the approval's id",
                             PREFIX_MIN);
    }
    enum err err = store_approval_each(&call->node->store, query_now(), look_at, &wanted, reterr);
    if (!err && wanted.found != 1) {
        err = proto_err_set(reterr, E_NOT_FOUND,
                            wanted.found ? "more than one approval begins with %s"
                                         : "no request here has the approval id %s; `concordat "
                                           "approvals` lists them",
                            wanted.prefix);
    }
    return err ? err
               : store_approval_get(&call->node->store, wanted.id, query_now(), ret, &call->arena,
                                    reterr);
}

/* The requester's node learns that it may ask again; when it is away its people find out by asking. */
static bool tell_requester(struct control_call *call, const struct store_approval *row,
                           bool approved, const char *reason)
{
    struct query_notice notice = {span_of(row->request, 16), span_of(row->id, 16), approved,
                                  span_str(reason)};
    struct buf body = {.max = 1024};
    struct peer_call tell = {.type = PEER_MSG_NOTICE};
    bool told = false;
    memcpy(tell.to, row->node_id, 16);
    if (proto_codec_encode(&query_notice_message, &notice, &body, NULL) == E_OK) {
        tell.body = buf_span(&body);
        told = peer_call_many(call->node->peer, &tell, 1, TELL_TIMEOUT_MS, NULL, NULL) == E_OK &&
               tell.status == E_OK;
        if (memcmp(row->node_id, call->node->query.node_id, 16) != 0) {
            char *name = arena_strdup(&call->arena, row->node);
            store_egress_count(&call->node->store, name ? name : "", "notice", body.len);
        }
    }
    peer_reply_fini(&tell.reply);
    buf_fini(&body);
    return told;
}

static enum err audit_decision(struct control_call *call, const struct store_approval *row,
                               const struct store_approval_verdict *verdict,
                               struct err_info *reterr)
{
    char id[33];
    span_to_hex(span_of(row->id, 16), id);
    const char *dataset = arena_strdup(&call->arena, row->dataset);
    const char *node = arena_strdup(&call->arena, row->node);
    const char *asks = arena_strdup(&call->arena, row->person);
    const char *project = arena_strdup(&call->arena, row->project);
    const char *purpose = arena_strdup(&call->arena, row->purpose);
    return control_audit(call, verdict->approve ? "approval.approved" : "approval.denied", reterr,
                         "approval", id, "kind", store_approval_kind_name(row->kind), "dataset",
                         dataset, "node", node, "asks", asks, "project", project, "purpose",
                         purpose, "scope", verdict->for_project ? "project" : "request", "reason",
                         verdict->reason, (const char *)NULL);
}

static enum err decide(struct control_call *call, bool approve, json_t **ret,
                       struct err_info *reterr)
{
    const char *reason = control_text(call, "--reason");
    uint64_t usual_ms = (uint64_t)call->node->query.approval_valid_s * 1000;
    struct store_approval row;
    struct store_approval_verdict verdict = {
        .approve = approve,
        .for_project = approve && control_flag(call, "--project"),
        .by = call->person,
        .reason = reason ? reason : "",
        .expires = query_now() + (int64_t)(control_duration_ms(call, "--valid", usual_ms) / 1000),
    };
    if (strlen(verdict.reason) > 500) {
        return proto_err_set(reterr, E_USAGE, "--reason takes at most 500 bytes");
    }
    enum err err = find_row(call, &row, reterr);
    if (!err) {
        err = audit_decision(call, &row, &verdict, reterr); /* on record before it has an effect */
    }
    if (!err) {
        err = store_approval_decide(&call->node->store, row.id, &verdict, query_now(), reterr);
    }
    if (!err) {
        call->node->query.licence_changes++; /* running work looks again */
        *ret = json_pack("{s:o, s:s, s:s, s:o, s:b}", "approval", control_json_hex(row.id, 16),
                         "state", approve ? "approved" : "denied", "scope",
                         verdict.for_project ? "project" : "request", "expires",
                         control_json_time(verdict.expires), "told",
                         tell_requester(call, &row, approve, verdict.reason));
    }
    return err == E_INVALID ? E_USAGE : err;
}

enum err control_approve(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    return decide(call, true, ret, reterr);
}

enum err control_deny(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    return decide(call, false, ret, reterr);
}

/* --- what others decided on ours --------------------------------------------------------------------- */

/* Marks the site in a kept question; false: this node asked no such thing of that site. */
static bool mark_site(json_t *kept, const char *site, const char *approval, bool approved,
                      const char *reason)
{
    json_t *sites = json_object_get(kept, "sites");
    for (size_t i = 0; i < json_array_size(sites); i++) {
        json_t *view = json_array_get(sites, i);
        const char *node = json_string_value(json_object_get(view, "node"));
        const char *id = json_string_value(json_object_get(view, "approval"));
        if (node && id && strcmp(node, site) == 0 && strcmp(id, approval) == 0) {
            json_object_set_new(view, "decided", json_string(approved ? "approved" : "denied"));
            json_object_set_new(view, "detail", json_string(reason));
            json_object_set_new(kept, "state", json_string("decided"));
            return true;
        }
    }
    return false;
}

static enum err keep_notice(struct node *node, const struct query_notice *notice, const char *site)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER; /* it reads, then writes */
    struct buf state = {.max = STORE_JOB_MAX};
    char approval[33];
    char reason[513];
    span_to_hex(notice->approval, approval);
    enum err err = span_to_cstr(notice->reason, reason, sizeof reason) ? E_OK : E_INVALID;
    pthread_mutex_lock(&one_at_a_time);
    err = err ? err : store_job_get(&node->store, notice->request.ptr, &state, NULL);
    json_t *kept = err ? NULL : json_loadb((const char *)state.ptr, state.len, 0, NULL);
    if (!err && kept && !mark_site(kept, site, approval, notice->approved, reason)) {
        err = E_NOT_FOUND;
    }
    char *text = !err && kept ? json_dumps(kept, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    if (text) {
        err = store_job_put(&node->store, notice->request.ptr, span_str(text), NULL);
    }
    pthread_mutex_unlock(&one_at_a_time);
    free(text);
    json_decref(kept);
    buf_fini(&state);
    return err; /* a training job's state is no JSON: its people are told all the same */
}

void control_notice_handle(struct peer_request *request, void *user)
{
    struct node *node = user;
    struct query_notice notice;
    struct arena arena = {0};
    struct peer_member member;
    enum err err = proto_codec_decode(&query_notice_message, peer_request_body(request), &arena,
                                      &notice, NULL);
    if (!err && !peer_member_by_id(node->peer, peer_request_from(request), &member)) {
        err = E_REFUSED;
    }
    err = err ? err : keep_notice(node, &notice, member.name);
    if (!err) {
        char id[33];
        span_to_hex(notice.request, id);
        node->query.notify(node->query.user, "request.decided", id);
    }
    arena_fini(&arena);
    peer_reply(request, err, SPAN_NONE);
}
