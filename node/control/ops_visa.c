/* visa issue, list, revoke: what this node attests about people and projects of members, and what others do. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/views.h"

#include "crypto/provider.h"
#include "crypto/random.h"
#include "node/query/clock.h"
#include "node/query/visa.h"
#include "proto/time.h"
#include "store/records.h"

static json_t *conditions_view(const struct proto_visa *visa)
{
    json_t *any = json_array();
    const struct proto_visa_alternative *alternatives = visa->conditions.items;
    for (size_t i = 0; i < visa->conditions.count; i++) {
        const struct proto_visa_condition *conditions = alternatives[i].conditions.items;
        json_t *all = json_array();
        for (size_t j = 0; j < alternatives[i].conditions.count; j++) {
            const struct {
                const char *name;
                struct span text;
            } members[] = {{"type", conditions[j].type},
                           {"value", conditions[j].value},
                           {"source", conditions[j].source},
                           {"by", conditions[j].by}};
            json_t *one = json_object();
            for (size_t m = 0; m < sizeof members / sizeof *members; m++) {
                if (members[m].text.ptr) {
                    json_object_set_new(one, members[m].name, control_json_span(members[m].text));
                }
            }
            json_array_append_new(all, one);
        }
        json_array_append_new(any, all);
    }
    return any;
}

static json_t *visa_view(struct control_call *call, const struct proto_visa *visa,
                         const struct proto_record *record, const char *state)
{
    struct peer_member issuer = {0}, subject = {0};
    (void)peer_member_by_id(call->node->peer, record->envelope.issuer.ptr, &issuer);
    (void)peer_member_by_id(call->node->peer, visa->node.ptr, &subject);
    return json_pack("{s:o, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "visa", control_json_hex(visa->id.ptr, 16), "state", state, "issuer",
                     issuer.name, "institution", issuer.org, "node", subject.name, "person",
                     control_json_span(visa->person), "project", control_json_span(visa->project),
                     "type", control_json_span(visa->type), "value", control_json_span(visa->value),
                     "source", control_json_span(visa->source), "by", control_json_span(visa->by),
                     "asserted", control_json_time((int64_t)visa->asserted), "expires",
                     control_json_time((int64_t)record->envelope.expires), "record",
                     control_json_hex(record->id, 16), "conditions", conditions_view(visa));
}

static enum err no_such(struct err_info *reterr, const char *what, const char *text,
                        const char *nearest)
{
    return proto_err_set(reterr, E_USAGE, "%s: there is no '%.64s'%s%s", what, text,
                         nearest ? "; the nearest is " : "", nearest ? nearest : "");
}

static enum err read_condition(struct control_call *call, const json_t *from,
                               struct proto_visa_condition *ret)
{
    const char *key;
    const json_t *value;
    *ret = (struct proto_visa_condition){.by = SPAN_NONE};
    const struct {
        const char *name;
        struct span *to;
    } members[] = {
        {"type", &ret->type}, {"value", &ret->value}, {"source", &ret->source}, {"by", &ret->by}};
    size_t known = 0;
    for (size_t m = 0; m < sizeof members / sizeof *members; m++) {
        key = members[m].name;
        value = json_object_get(from, key);
        const char *text =
            value ? arena_strdup(&call->arena, span_str(json_string_value(value))) : NULL;
        if (value && (!json_is_string(value) || !text)) {
            return E_USAGE;
        }
        known += value != NULL;
        *members[m].to = span_str(text);
    }
    return json_is_object(from) && known == json_object_size(from) && ret->type.ptr ? E_OK
                                                                                    : E_USAGE;
}

/* [[{"type","value","source","by"}]] as in a passport: any of the outer list, all of an inner one. */
static enum err read_alternatives(struct control_call *call, const json_t *any,
                                  struct proto_visa *ret)
{
    size_t count = json_array_size(any);
    struct proto_visa_alternative *alternatives =
        arena_alloc(&call->arena, count + 1, sizeof *alternatives);
    enum err err = alternatives && count && count <= PROTO_VISA_ALTERNATIVES_MAX ? E_OK : E_USAGE;
    for (size_t i = 0; i < count && !err; i++) {
        const json_t *all = json_array_get(any, i);
        size_t conditions = json_array_size(all);
        struct proto_visa_condition *items =
            arena_alloc(&call->arena, conditions + 1, sizeof *items);
        err = items && conditions && conditions <= PROTO_VISA_CONDITIONS_MAX ? E_OK : E_USAGE;
        for (size_t j = 0; j < conditions && !err; j++) {
            err = read_condition(call, json_array_get(all, j), &items[j]);
        }
        alternatives[i].conditions = (struct proto_list){items, conditions};
    }
    ret->v = PROTO_VISA_VERSION;
    ret->conditions = (struct proto_list){alternatives, count};
    return err;
}

static enum err read_conditions(struct control_call *call, struct proto_visa *ret,
                                struct err_info *reterr)
{
    const char *text = control_text(call, "--conditions");
    json_t *any = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    enum err err = text ? read_alternatives(call, any, ret) : E_OK;
    json_decref(any);
    err = err ? err : text ? proto_visa_valid(ret, reterr) : E_OK;
    return err ? proto_err_set(
                     reterr, E_USAGE,
                     "--conditions: JSON as in a GA4GH passport, any of the outer list and "
                     "all of an inner one: [[{\"type\": \"ResearcherStatus\", \"value\": "
                     "\"const:https://...\", \"by\": \"const:so\"}]]")
               : E_OK;
}

/* What is asked for, as a body without id and time. */
static enum err read_visa(struct control_call *call, struct peer_member *subject,
                          struct peer_member *self, struct proto_visa *ret, int64_t *ret_expires,
                          struct err_info *reterr)
{
    const char *node = control_text(call, "--node"), *type = control_text(call, "TYPE");
    const char *by = control_text(call, "--by"), *until = control_text(call, "--expires");
    *ret = (struct proto_visa){
        .v = PROTO_BODY_VERSION,
        .person = span_str(control_text(call, "--person")),
        .project = span_str(control_text(call, "--project")),
        .type = span_str(type),
        .value = span_str(control_text(call, "VALUE")),
        .source = span_str(control_text(call, "--source")),
        .by = span_str(by),
    };
    if (!peer_member_by_id(call->node->peer, call->node->query.node_id, self)) {
        return proto_err_set(reterr, E_REFUSED, "this node is no member of a federation");
    }
    if (!peer_member_by_name(call->node->peer, node, subject) || subject->state == PEER_REVOKED) {
        return proto_err_set(reterr, E_NOT_FOUND,
                             "no member is called %.64s; `concordat peers` lists them", node);
    }
    if ((ret->person.ptr != NULL) == (ret->project.ptr != NULL)) {
        return proto_err_set(reterr, E_USAGE, "say --person or --project, one of them");
    }
    if (!proto_visa_type_known(ret->type)) {
        return no_such(reterr, "TYPE", type, proto_visa_type_nearest(type));
    }
    if (by && !proto_visa_by_known(ret->by)) {
        return no_such(reterr, "--by", by, proto_visa_by_nearest(by));
    }
    if (!proto_time_parse(until, ret_expires) || *ret_expires <= query_now()) {
        return proto_err_set(reterr, E_USAGE, "--expires: a time to come, such as 2027-12-31");
    }
    if (!ret->source.ptr) {
        ret->source = span_str(self->org);
    }
    ret->node = span_of(subject->id, 16);
    return read_conditions(call, ret, reterr);
}

enum err control_visa_issue(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    struct peer_member subject, self;
    struct proto_visa visa;
    uint8_t id[16], record_id[16];
    char name[33];
    int64_t expires = 0;
    enum err err = query_clock_check(call->node->peer, reterr);
    err = err ? err : read_visa(call, &subject, &self, &visa, &expires, reterr);
    err = err ? err : crypto_random(id, sizeof id);
    if (!err) {
        visa.id = span_of(id, sizeof id);
        visa.asserted = (uint64_t)query_now();
        span_to_hex(visa.id, name);
        err = proto_visa_encode(&visa, &body, reterr);
    }
    err = err ? err
              : control_audit(call, "visa.issue", reterr, "visa", name, "node", subject.name,
                              "type", control_text(call, "TYPE"), "value",
                              control_text(call, "VALUE"), (const char *)NULL);
    /* A node of the version before does not know the kind, and passes it on nevertheless. */
    err = err ? err
              : peer_publish(call->node->peer, PROTO_RECORD_VISA, name, buf_span(&body),
                             PROTO_RECORD_RELAY_UNKNOWN, expires, record_id, reterr);
    if (!err) {
        struct proto_record record = {
            .envelope = {.issuer = span_of(self.id, 16), .expires = (uint64_t)expires}};
        memcpy(record.id, record_id, sizeof record.id);
        *ret = visa_view(call, &visa, &record, "valid");
    }
    buf_fini(&body);
    return err;
}

struct listing {
    struct control_call *call;
    json_t *array;
    const char *node, *issuer, *person; /* only of these; NULL: all */
    int64_t now;
};

static bool is_shown(const struct listing *listing, json_t *view)
{
    const char *const wanted[][2] = {
        {"node", listing->node}, {"issuer", listing->issuer}, {"person", listing->person}};
    bool shown = true;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const char *is = json_string_value(json_object_get(view, wanted[i][0]));
        shown = shown && (!wanted[i][1] || (is && strcmp(is, wanted[i][1]) == 0));
    }
    return shown;
}

static enum err add_visa(void *user, struct span bytes, bool forked)
{
    struct listing *listing = user;
    struct arena arena = {0};
    struct proto_record record;
    struct proto_visa visa;
    if (proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK &&
        proto_visa_decode(record.envelope.body, &arena, &visa, NULL) == E_OK) {
        json_t *view =
            visa_view(listing->call, &visa, &record,
                      query_visa_state(&listing->call->node->query, &record, forked, listing->now));
        if (is_shown(listing, view)) {
            json_array_append(listing->array, view);
        }
        json_decref(view);
    }
    arena_fini(&arena);
    return E_OK;
}

enum err control_visa_list(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct listing listing = {.call = call,
                              .array = json_array(),
                              .node = control_text(call, "--node"),
                              .issuer = control_text(call, "--issuer"),
                              .person = control_text(call, "--person"),
                              .now = query_now()};
    (void)reterr;
    enum err err = store_records_each(&call->node->store, PROTO_RECORD_VISA, add_visa, &listing);
    *ret = listing.array;
    return err;
}

enum err control_visa_revoke(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *name = control_text(call, "ID");
    struct arena arena = {0};
    struct proto_record record;
    struct span bytes;
    uint8_t key[16], id[16];
    proto_record_key(&crypto_proto_hash, name, key);
    enum err err = store_records_get(&call->node->store, call->node->query.node_id, key,
                                     PROTO_RECORD_VISA, &arena, &bytes, NULL);
    if (err == E_NOT_FOUND) {
        err = proto_err_set(reterr, err,
                            "this node has issued no visa %.64s; `concordat visa list` shows them",
                            name);
    }
    err = err ? err : proto_record_decode(bytes, &crypto_proto_hash, &record, reterr);
    err = err ? err
              : control_audit(call, "visa.revoke", reterr, "visa", name, "reason",
                              control_text(call, "--reason"), (const char *)NULL);
    err = err ? err
              : peer_publish(call->node->peer, PROTO_RECORD_VISA, name, record.envelope.body,
                             PROTO_RECORD_RELAY_UNKNOWN | PROTO_RECORD_FINAL,
                             (int64_t)record.envelope.expires, id, reterr);
    if (!err) {
        *ret = json_pack("{s:s, s:s, s:o}", "visa", name, "state", "revoked", "record",
                         control_json_hex(id, 16));
    }
    arena_fini(&arena);
    return err;
}
