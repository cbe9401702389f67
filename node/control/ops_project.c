/* project create, list, show, end: what this node's people publish that they do. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/views.h"

#include "node/config/yaml.h"
#include "node/query/project.h"
#include "node/query/site.h"
#include "proto/duo.h"
#include "store/records.h"

static struct proto_list texts_in(struct control_call *call, const struct config_texts *texts)
{
    struct proto_text *items = arena_alloc(&call->arena, texts->count + 1, sizeof *items);
    for (size_t i = 0; items && i < texts->count; i++) {
        items[i].text = span_str(texts->items[i]);
    }
    return (struct proto_list){items, items ? texts->count : 0};
}

static enum err fill_body(struct control_call *call, const struct config_project *from,
                          struct proto_project *ret, struct err_info *reterr)
{
    struct proto_list research = texts_in(call, &from->research);
    *ret = (struct proto_project){
        .v = PROTO_BODY_VERSION,
        .name = span_str(from->name),
        .diseases = texts_in(call, &from->diseases),
        .has_research = from->research.count > 0,
        .has_commercial = from->has_commercial,
        .commercial = from->commercial,
        .ethics_ref = from->ethics_ref[0] ? span_str(from->ethics_ref) : SPAN_NONE,
        .ethics_expires = (uint64_t)from->ethics_expires,
        .recipients = texts_in(call, &from->recipients),
        .obligations = texts_in(call, &from->accepted),
        .people = texts_in(call, &from->people),
        .ends = (uint64_t)from->ends,
    };
    enum err err = proto_duo_parse(from->purpose, &ret->permission, reterr);
    return err ? err : proto_research_parse(&research, &ret->research, reterr);
}

static json_t *research_view(const struct proto_project *project)
{
    json_t *array = project->has_research ? json_array() : json_null();
    for (int i = 0; project->has_research && i < PROTO_RESEARCH_TOTAL; i++) {
        if (project->research & PROTO_RESEARCH_BIT(i)) {
            json_array_append_new(array, json_string(proto_research_name((enum proto_research)i)));
        }
    }
    return array;
}

static json_t *project_view(const struct proto_project *project, const char *node,
                            const struct proto_record *record)
{
    char code[PROTO_DUO_SIZE];
    bool ended = record->envelope.flags & PROTO_RECORD_FINAL ||
                 (project->ends && query_now() >= (int64_t)project->ends);
    json_t *view = json_pack(
        "{s:o, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "project",
        control_json_span(project->name), "node", node, "state", ended ? "ended" : "open",
        "purpose", proto_duo_format(project->permission, code), "diseases",
        control_json_texts(&project->diseases), "research", research_view(project), "commercial",
        project->has_commercial ? json_boolean(project->commercial) : json_null(), "recipients",
        control_json_texts(&project->recipients), "obligations",
        control_json_texts(&project->obligations), "people", control_json_texts(&project->people),
        "ends", control_json_time((int64_t)project->ends), "record",
        control_json_hex(record->id, 16));
    json_object_set_new(view, "ethics",
                        project->ethics_ref.ptr
                            ? json_pack("{s:o, s:o}", "ref", control_json_span(project->ethics_ref),
                                        "expires",
                                        control_json_time((int64_t)project->ethics_expires))
                            : json_null());
    return view;
}

enum err control_project_create(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *path = control_text(call, "FILE");
    struct buf yaml = {0};
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    struct config_project config = {0};
    struct proto_project project;
    struct proto_record record = {0};
    uint8_t id[16];
    enum err err = query_clock_check(call->node->peer, reterr);
    err = err ? err : control_read(call, path, CONFIG_YAML_BYTES_MAX, &yaml, reterr);
    err = err ? err : config_yaml_project_bytes(buf_span(&yaml), path, &config, reterr);
    err = err ? err : fill_body(call, &config, &project, reterr);
    err = err ? err : proto_project_encode(&project, &body, reterr);
    err = err ? err
              : control_audit(call, "project.create", reterr, "project", config.name,
                              (const char *)NULL);
    err = err ? err
              : peer_publish(call->node->peer, PROTO_RECORD_PROJECT, config.name, buf_span(&body),
                             0, config.ends, id, reterr);
    if (!err) {
        memcpy(record.id, id, 16);
        *ret = project_view(&project, call->node->config.node, &record);
    }
    buf_fini(&body);
    buf_fini(&yaml);
    arena_fini(&config.arena);
    return err;
}

struct listing {
    struct control_call *call;
    json_t *array;
    const char *only; /* one name of this node, or NULL */
};

static enum err add_project(void *user, struct span bytes, bool forked)
{
    struct listing *listing = user;
    struct arena arena = {0};
    struct proto_record record;
    struct proto_project project;
    struct peer_member member;
    (void)forked;
    bool ours = false;
    if (proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK &&
        proto_project_decode(record.envelope.body, &arena, &project, NULL) == E_OK &&
        peer_member_by_id(listing->call->node->peer, record.envelope.issuer.ptr, &member)) {
        ours = member.state == PEER_SELF;
        if (!listing->only || (ours && span_is(project.name, listing->only))) {
            json_array_append_new(listing->array, project_view(&project, member.name, &record));
        }
    }
    arena_fini(&arena);
    return E_OK;
}

enum err control_project_list(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct listing listing = {call, json_array(), NULL};
    (void)reterr;
    enum err err =
        store_records_each(&call->node->store, PROTO_RECORD_PROJECT, add_project, &listing);
    *ret = listing.array;
    return err;
}

enum err control_project_show(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct listing listing = {call, json_array(), control_text(call, "NAME")};
    enum err err =
        store_records_each(&call->node->store, PROTO_RECORD_PROJECT, add_project, &listing);
    if (!err && json_array_size(listing.array) == 0) {
        err = proto_err_set(reterr, E_NOT_FOUND, "this node has published no project %s",
                            listing.only);
    }
    *ret = err ? NULL : json_incref(json_array_get(listing.array, 0));
    json_decref(listing.array);
    return err;
}

enum err control_project_end(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *name = control_text(call, "NAME");
    struct arena arena = {0};
    struct proto_project project;
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    uint8_t id[16];
    enum err err = query_project_get(&call->node->query, call->node->query.node_id, span_str(name),
                                     &arena, &project);
    if (err == E_NOT_FOUND) {
        err = proto_err_set(reterr, err, "this node has published no project %s", name);
    }
    err = err ? err : proto_project_encode(&project, &body, reterr);
    err = err ? err
              : control_audit(call, "project.end", reterr, "project", name, "reason",
                              control_text(call, "--reason"), (const char *)NULL);
    err = err ? err
              : peer_publish(call->node->peer, PROTO_RECORD_PROJECT, name, buf_span(&body),
                             PROTO_RECORD_FINAL, 0, id, reterr);
    if (!err) {
        *ret = json_pack("{s:s, s:s, s:o}", "project", name, "state", "ended", "record",
                         control_json_hex(id, 16));
    }
    buf_fini(&body);
    arena_fini(&arena);
    return err;
}
