#include "config.h"
#include "node/query/admission.h"

#include "node/query/message.h"
#include "proto/manifest.h"
#include "store/records.h"

static enum err load_record(struct query_context *context, const char *dataset, uint64_t kind,
                            struct arena *arena, struct proto_record *ret, bool *ret_forked,
                            struct err_info *reterr)
{
    uint8_t key[16];
    struct span bytes;
    proto_record_key(&crypto_proto_hash, dataset, key);
    enum err err =
        store_records_get(context->store, context->node_id, key, kind, arena, &bytes, ret_forked);
    return err ? err : proto_record_decode(bytes, &crypto_proto_hash, ret, reterr);
}

static enum err load_schema(struct query_context *context, struct query_admission *admission,
                            struct err_info *reterr)
{
    struct proto_record record;
    struct proto_dataset body;
    bool forked;
    enum err err = load_record(context, admission->dataset, PROTO_RECORD_DATASET, &admission->arena,
                               &record, &forked, reterr);
    if (!err) {
        err = proto_dataset_decode(record.envelope.body, &admission->arena, &body, reterr);
    }
    if (!err) {
        err = proto_dataset_schema(&body, &admission->arena, &admission->schema, reterr);
    }
    if (!err) {
        proto_schema_hash(&admission->schema, &crypto_proto_hash, admission->schema_hash);
    }
    return err;
}

enum err query_admission_load(struct query_context *context, const char *dataset,
                              struct query_admission *ret, struct err_info *reterr)
{
    memset(ret, 0, sizeof *ret);
    if (!span_to_cstr(span_str(dataset), ret->dataset, sizeof ret->dataset)) {
        return proto_err_set(reterr, E_NOT_FOUND, "no dataset has such a name");
    }
    enum err err = store_catalogue_get(context->store, dataset, &ret->arena, &ret->row, reterr);
    if (err) {
        return err == E_NOT_FOUND
                   ? proto_err_set(reterr, err, "this node holds no dataset %s", dataset)
                   : err;
    }
    err = load_schema(context, ret, reterr);
    if (err) {
        return err;
    }
    err = load_record(context, dataset, PROTO_RECORD_LICENCE, &ret->arena, &ret->record,
                      &ret->forked, reterr);
    ret->has_record = err == E_OK;
    if (err == E_OK && !(ret->record.envelope.flags & PROTO_RECORD_FINAL)) {
        /* A body that is not understood denies; it is not a failure of ours. */
        ret->has_licence = proto_licence_decode(ret->record.envelope.body, &ret->arena,
                                                &ret->licence, NULL) == E_OK;
    }
    return err == E_NOT_FOUND ? E_OK : err;
}

/* Distinct institutions and the countries of all nodes. An unknown node counts for nothing. */
static size_t gather(struct query_context *context, const uint8_t (*nodes)[16], size_t count,
                     struct peer_member *members, const char **countries, size_t *ret_countries)
{
    size_t institutions = 0;
    size_t known = 0;
    for (size_t i = 0; i < count && i < QUERY_SITES_MAX; i++) {
        if (!peer_member_by_id(context->peer, nodes[i], &members[known])) {
            continue;
        }
        bool seen = false;
        for (size_t j = 0; j < known && !seen; j++) {
            seen = strcmp(members[j].org, members[known].org) == 0;
        }
        institutions += !seen;
        countries[known] = members[known].country;
        known++;
    }
    *ret_countries = known;
    return institutions;
}

size_t query_admission_institutions(struct query_context *context, const uint8_t (*nodes)[16],
                                    size_t count)
{
    const char *countries[QUERY_SITES_MAX];
    size_t known;
    struct peer_member *members =
        proto_alloc(count < QUERY_SITES_MAX ? count + 1 : QUERY_SITES_MAX, sizeof *members);
    if (!members) {
        return 0;
    }
    size_t institutions = gather(context, nodes, count, members, countries, &known);
    proto_free(members);
    return institutions;
}

void query_admission_decide(struct query_context *context, struct query_admission *admission,
                            const struct peer_member *requester, const struct query_wish *wish)
{
    const char *countries[QUERY_SITES_MAX];
    size_t country_count = 0;
    size_t institutions = 0;
    size_t room = wish->site_count < QUERY_SITES_MAX ? wish->site_count + 1 : QUERY_SITES_MAX;
    struct peer_member *members = proto_alloc(room, sizeof *members);
    if (members) {
        institutions =
            gather(context, wish->sites, wish->site_count, members, countries, &country_count);
    }
    char node[33];
    span_to_hex(span_of(requester->id, 16), node);
    struct proto_request request = {
        .requester_node = node,
        .institution = requester->org,
        .org_type = requester->org_type,
        .commercial_known = wish->commercial_known,
        .commercial = wish->commercial,
        .country = requester->country,
        .person = wish->person,
        .project = wish->project,
        .permission = wish->permission,
        .diseases = wish->diseases,
        .disease_count = wish->disease_count,
        .accepted = wish->accepted,
        .accepted_count = wish->accepted_count,
        .actions = wish->actions,
        .columns = wish->columns,
        .column_count = wish->column_count,
        .epsilon = wish->epsilon,
        .delta = wish->delta,
        .sites = institutions,
        .site_countries = countries,
        .site_country_count = country_count,
        .secure = wish->secure,
        .nonprivate = wish->nonprivate,
        .rounds = wish->rounds,
        .now = wish->now,
    };
    proto_policy_decide(&request, admission->has_record ? &admission->record : NULL,
                        admission->has_licence ? &admission->licence : NULL, admission->forked,
                        context->ontology, &admission->decision);
    proto_free(members);
}

struct store_caps query_admission_caps(struct query_context *context,
                                       const struct store_account *account)
{
    struct peer_member none;
    size_t room = peer_members(context->peer, &none, 0) + 1; /* for one that joins meanwhile */
    struct peer_member *members = proto_alloc(room, sizeof *members);
    struct store_caps caps = {.institution_nano = account->cap_nano / 2};
    size_t count = members ? peer_members(context->peer, members, room) : 0;
    count = count < room ? count : room;
    bool alone = count > 0;
    for (size_t i = 1; i < count && alone; i++) {
        alone = strcmp(members[i].org, members[0].org) == 0;
    }
    if (alone) {
        caps.institution_nano = 0;
    }
    proto_free(members);
    return caps;
}

void query_admission_fini(struct query_admission *admission)
{
    arena_fini(&admission->arena);
}

static enum err put_json_string(struct buf *out, const char *text)
{
    enum err err = buf_put(out, span_str("\""));
    for (; !err && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            err = buf_printf(out, "\\%c", c);
        } else if (c < 0x20) {
            err = buf_printf(out, "\\u%04x", c);
        } else {
            err = buf_put(out, span_of(text, 1));
        }
    }
    return err ? err : buf_put(out, span_str("\""));
}

enum err query_audit_text(struct buf *out, ...)
{
    va_list args;
    va_start(args, out);
    enum err err = buf_put(out, span_str("{"));
    const char *key;
    for (size_t i = 0; !err && (key = va_arg(args, const char *)) != NULL; i++) {
        const char *value = va_arg(args, const char *);
        err = i ? buf_put(out, span_str(",")) : E_OK;
        if (!err) {
            err = put_json_string(out, key);
        }
        if (!err) {
            err = buf_put(out, span_str(":"));
        }
        if (!err) {
            err = put_json_string(out, value ? value : "");
        }
    }
    va_end(args);
    return err ? err : buf_put(out, span_str("}"));
}
