#include "config.h"
#include "node/train/library.h"

#include "crypto/provider.h"
#include "node/query/site.h"
#include "node/train/internal.h"
#include "node/train/statement.h"
#include "proto/licence.h"
#include "store/records.h"

#include <stdio.h>

#define STALL_MS         30000
#define LINEAGE_STALL_MS 2000

/* Whether NODE's licence of the dataset was withdrawn. */
static bool is_withdrawn(struct query_context *context, const uint8_t node[16],
                         const uint8_t key[16])
{
    struct arena arena = {0};
    struct span bytes;
    struct proto_record record;
    bool gone = store_records_get(context->store, node, key, PROTO_RECORD_LICENCE, &arena, &bytes,
                                  NULL) == E_OK &&
                proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK &&
                (record.envelope.flags & PROTO_RECORD_FINAL);
    arena_fini(&arena);
    return gone;
}

/* A participant that withdrew; NULL: none. */
static const struct proto_model_participant *withdrawn_parent(struct query_context *context,
                                                              const struct proto_model *model)
{
    const struct proto_model_participant *participants = model->participants.items;
    char dataset[65];
    uint8_t key[16];
    if (!span_to_cstr(model->dataset, dataset, sizeof dataset)) {
        return NULL;
    }
    proto_record_key(&crypto_proto_hash, dataset, key);
    for (size_t i = 0; i < model->participants.count; i++) {
        if (participants[i].rounds && is_withdrawn(context, participants[i].node.ptr, key)) {
            return &participants[i];
        }
    }
    return NULL;
}

/* The model's own licence; false: it has none that we can read. *RET_GONE: it was withdrawn. */
static bool own_licence(struct query_context *context, const struct proto_record *model_record,
                        const struct proto_model *model, struct arena *arena,
                        struct proto_licence *ret, bool *ret_gone)
{
    char name[65];
    uint8_t key[16];
    struct span bytes;
    struct proto_record record;
    *ret_gone = false;
    if (!span_to_cstr(model->name, name, sizeof name)) {
        return false;
    }
    proto_record_key(&crypto_proto_hash, name, key);
    if (store_records_get(context->store, model_record->envelope.issuer.ptr, key,
                          PROTO_RECORD_LICENCE, arena, &bytes, NULL) ||
        proto_record_decode(bytes, &crypto_proto_hash, &record, NULL)) {
        return false;
    }
    *ret_gone = record.envelope.flags & PROTO_RECORD_FINAL;
    return !*ret_gone && proto_licence_decode(record.envelope.body, arena, ret, NULL) == E_OK;
}

static bool took_part(struct query_context *context, const struct proto_record *record,
                      const struct proto_model *model, const struct peer_member *member)
{
    const struct proto_model_participant *participants = model->participants.items;
    struct peer_member issuer;
    bool issued = peer_member_by_id(context->peer, record->envelope.issuer.ptr, &issuer) &&
                  strcmp(issuer.org, member->org) == 0;
    for (size_t i = 0; i < model->participants.count && !issued; i++) {
        issued = span_is(participants[i].org, member->org);
    }
    return issued;
}

static bool is_recipient(const struct proto_licence *licence, const struct peer_member *member)
{
    const struct proto_list *institutions = &licence->recipients.institutions;
    const struct proto_text *items = institutions->items;
    for (size_t i = 0; i < institutions->count; i++) {
        if (span_is(items[i].text, member->org)) {
            return true;
        }
    }
    return !licence->recipients.has_institutions;
}

void train_model_reason(struct query_context *context, const struct proto_record *record,
                        const struct proto_model *model, const struct peer_member *member,
                        enum proto_reason *ret, char tainted_by[33])
{
    struct arena arena = {0};
    struct proto_licence *licence = arena_alloc(&arena, 1, sizeof *licence);
    bool gone = false;
    bool has = licence && own_licence(context, record, model, &arena, licence, &gone);
    const struct proto_model_participant *parent = withdrawn_parent(context, model);
    struct peer_member site = {0};
    if (tainted_by) {
        bool known = parent && peer_member_by_id(context->peer, parent->node.ptr, &site);
        snprintf(tainted_by, 33, "%s", known ? site.name : parent ? "a former member" : "");
    }
    bool inside = took_part(context, record, model, member);
    if (gone) {
        *ret = PROTO_REASON_REVOKED;
    } else if (parent && !(has && licence->survives_revocation)) {
        *ret = PROTO_REASON_LICENSE_TAINTED;
    } else if (model->participants.count && model->epsilon_u == 0 && !inside) {
        *ret = PROTO_REASON_LICENSE_NONPRIVATE;
    } else if (has && query_now() >= (int64_t)licence->expires) {
        *ret = PROTO_REASON_EXPIRED;
    } else {
        *ret = has && !inside && !is_recipient(licence, member) ? PROTO_REASON_RECIPIENT
                                                                : PROTO_REASON_NONE;
    }
    arena_fini(&arena);
}

enum err train_model_may(struct query_context *context, const struct proto_record *record,
                         const struct proto_model *model, const struct peer_member *member,
                         struct err_info *reterr)
{
    enum proto_reason reason;
    char by[33];
    train_model_reason(context, record, model, member, &reason, by);
    if (reason == PROTO_REASON_NONE) {
        return E_OK;
    }
    return proto_err_set(reterr, E_REFUSED, "model %.*s: %s%s%s (%s)",
                         (int)(model->name.len < 40 ? model->name.len : 40),
                         (const char *)model->name.ptr, proto_reason_text(reason),
                         reason == PROTO_REASON_LICENSE_TAINTED ? "; it was withdrawn by " : "",
                         reason == PROTO_REASON_LICENSE_TAINTED ? by : "",
                         proto_reason_name(reason));
}

/* --- who may have a blob ---------------------------------------------------------------------------------- */

struct wanted {
    struct query_context *context;
    const struct peer_member *member;
    const uint8_t *hash;
    enum err err;
};

/* A model may stand in several records; any that lets the member have it suffices. */
static enum err look_for(void *user, struct span bytes, bool forked)
{
    struct wanted *wanted = user;
    struct arena arena = {0};
    struct proto_record record;
    struct proto_model model;
    (void)forked;
    if (proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK &&
        !(record.envelope.flags & PROTO_RECORD_FINAL) &&
        proto_model_decode(record.envelope.body, &arena, &model, NULL) == E_OK &&
        wanted->err != E_OK) {
        if (model.lineage.ptr && memcmp(model.lineage.ptr, wanted->hash, 32) == 0) {
            wanted->err = E_OK; /* where a model comes from is nobody's secret in the federation */
        } else if (memcmp(model.weights.ptr, wanted->hash, 32) == 0) {
            wanted->err = train_model_may(wanted->context, &record, &model, wanted->member, NULL);
        }
    }
    arena_fini(&arena);
    return E_OK;
}

enum err train_library_may_have(struct query_context *context, const struct peer_member *member,
                                const uint8_t hash[32])
{
    struct wanted wanted = {context, member, hash, E_NOT_FOUND};
    enum err err = store_records_each(context->store, PROTO_RECORD_MODEL, look_for, &wanted);
    return err ? err : wanted.err;
}

/* --- fetching -------------------------------------------------------------------------------------------- */

static enum err fetch_from(struct query_context *context, const struct proto_model *model,
                           const uint8_t *from, const struct peer_fetch *how,
                           struct err_info *reterr)
{
    struct peer_blob blob = {.size = model->size};
    struct peer_fetch fetch = *how;
    fetch.from = from;
    memcpy(blob.hash, model->weights.ptr, 32);
    return peer_blob_fetch(context->peer, context->store, &blob, &fetch, reterr);
}

static void fetch_lineage(struct query_context *context, const struct proto_model *model,
                          const uint8_t *from)
{
    struct peer_blob blob = {.size = model->lineage_size};
    struct peer_fetch how = {.from = from, .stall_ms = LINEAGE_STALL_MS, .durable = true};
    if (model->lineage.ptr && model->lineage_size <= TRAIN_STATEMENT_MAX &&
        memcmp(from, context->node_id, 16) != 0 &&
        !store_blob_has(context->store, model->lineage.ptr)) {
        memcpy(blob.hash, model->lineage.ptr, 32);
        (void)!peer_blob_fetch(context->peer, context->store, &blob, &how, NULL);
    }
}

void train_library_lineage(struct query_context *context, const struct proto_record *record,
                           const struct proto_model *model)
{
    fetch_lineage(context, model, record->envelope.issuer.ptr);
}

enum err train_library_fetch(struct train_service *service, const struct proto_record *record,
                             const struct proto_model *model, const uint8_t *from,
                             bool (*cancelled)(void *user),
                             void (*progress)(void *user, uint64_t bytes), void *user,
                             struct err_info *reterr)
{
    struct query_context *context = service->context;
    const struct proto_model_participant *participants = model->participants.items;
    const struct peer_fetch how = {.stall_ms = STALL_MS,
                                   .durable = true,
                                   .cancelled = cancelled,
                                   .progress = progress,
                                   .user = user};
    struct peer_member self;
    enum err err = peer_member_by_id(context->peer, context->node_id, &self)
                       ? train_model_may(context, record, model, &self, reterr)
                       : E_NOT_FOUND;
    if (err) {
        return err;
    }
    const uint8_t *source = from ? from : record->envelope.issuer.ptr;
    err = fetch_from(context, model, source, &how, reterr);
    for (size_t i = 0; !from && err && err != E_CANCELLED && i < model->participants.count; i++) {
        if (memcmp(participants[i].node.ptr, context->node_id, 16) != 0) {
            source = participants[i].node.ptr;
            err = fetch_from(context, model, source, &how, reterr);
        }
    }
    if (!err) {
        fetch_lineage(context, model, record->envelope.issuer.ptr);
        fetch_lineage(context, model, source);
    }
    return err;
}
