#include "config.h"
#include "node/query/project.h"

#include "crypto/provider.h"
#include "store/records.h"

enum err query_project_get(struct query_context *context, const uint8_t issuer[16],
                           struct span name, struct arena *arena, struct proto_project *ret)
{
    uint8_t key[16];
    char text[129];
    struct span bytes;
    struct proto_record record;
    if (!span_to_cstr(name, text, sizeof text)) {
        return E_NOT_FOUND;
    }
    proto_record_key(&crypto_proto_hash, text, key);
    enum err err =
        store_records_get(context->store, issuer, key, PROTO_RECORD_PROJECT, arena, &bytes, NULL);
    if (!err && (proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) ||
                 (record.envelope.flags & PROTO_RECORD_FINAL) ||
                 proto_project_decode(record.envelope.body, arena, ret, NULL))) {
        err = E_NOT_FOUND;
    }
    return err;
}

enum err query_project_fill(struct query_context *context, struct arena *arena,
                            struct proto_purpose *purpose, int64_t now, struct err_info *reterr)
{
    struct proto_project project;
    struct proto_purpose outer;
    struct proto_purpose stated = *purpose;
    int len = (int)(purpose->project.len < 64 ? purpose->project.len : 64);
    const char *name = (const char *)purpose->project.ptr;
    if (span_equal(purpose->project, purpose->person)) {
        return E_OK;
    }
    enum err err = query_project_get(context, context->node_id, purpose->project, arena, &project);
    if (err == E_NOT_FOUND) {
        return proto_err_set(reterr, err,
                             "this node has published no project %.*s; `concordat project create` "
                             "does",
                             len, name);
    }
    if (!err) {
        proto_project_purpose(&project, purpose->person, &outer);
        err = proto_purpose_fill(&outer, &stated, arena, purpose);
        purpose->project = project.name;
    }
    enum proto_project_fault fault =
        err ? PROTO_PROJECT_NONE : proto_project_fault(&project, purpose, now, context->ontology);
    if (fault) {
        err = proto_err_set(reterr, fault == PROTO_PROJECT_PERSON ? E_ROLE : E_USAGE,
                            "project %.*s: %s", len, name, proto_project_fault_text(fault));
    }
    return err;
}

bool query_project_covers(struct query_context *context, const uint8_t requester[16],
                          const struct proto_purpose *purpose, int64_t now)
{
    struct arena arena = {0};
    struct proto_project project;
    if (span_equal(purpose->project, purpose->person)) {
        return true;
    }
    bool covered =
        query_project_get(context, requester, purpose->project, &arena, &project) == E_OK &&
        proto_project_fault(&project, purpose, now, context->ontology) == PROTO_PROJECT_NONE;
    arena_fini(&arena);
    return covered;
}
