/* What this node holds, what its documents are signed with, and what an agreement means in a decision. */
#include "config.h"
#include "node/query/agreement_internal.h"

#include "crypto/envelope.h"
#include "crypto/provider.h"
#include "node/query/site.h"
#include "store/audit.h"
#include "store/records.h"

#define NAMED_MAX PROTO_REQUEST_AGREEMENTS

/* --- the index ----------------------------------------------------------------------------------------- */

static enum err add_entry(void *user, const struct store_agreement *row)
{
    struct query_agreements *all = user;
    struct arena arena = {0};
    struct proto_agreement_request request;
    struct proto_agreement_offer offer = {0};
    if (all->count == all->cap) {
        size_t cap = all->cap ? 2 * all->cap : 16;
        struct agreement_entry *more = proto_realloc(all->entries, cap, sizeof *more);
        if (!more) {
            return E_NO_MEMORY;
        }
        all->entries = more;
        all->cap = cap;
    }
    if (proto_agreement_request_decode(row->request, &arena, &request, NULL) == E_OK) {
        struct agreement_entry *entry = &all->entries[all->count++];
        *entry = (struct agreement_entry){.side = row->side, .state = row->state};
        memcpy(entry->id, row->id, 16);
        memcpy(entry->peer, row->peer, 16);
        (void)span_to_cstr(row->dataset, entry->dataset, sizeof entry->dataset);
        (void)span_to_cstr(request.purpose.project, entry->project, sizeof entry->project);
        if (row->offer.ptr && !proto_agreement_offer_decode(row->offer, &arena, &offer, NULL)) {
            entry->ends = offer.ends;
            memcpy(entry->licence, offer.licence.ptr, 16);
        }
    }
    arena_fini(&arena);
    return E_OK;
}

static enum err reload(struct query_context *context, struct err_info *reterr)
{
    context->agreements->count = 0;
    return store_agreement_each(context->store, add_entry, context->agreements, reterr);
}

enum err query_agreement_open(struct query_context *context, struct err_info *reterr)
{
    context->agreements = proto_alloc(1, sizeof *context->agreements);
    if (!context->agreements) {
        return E_NO_MEMORY;
    }
    pthread_mutex_init(&context->agreements->lock, NULL);
    return reload(context, reterr);
}

void query_agreement_close(struct query_context *context)
{
    if (context->agreements) {
        pthread_mutex_destroy(&context->agreements->lock);
        proto_free(context->agreements->entries);
        proto_free(context->agreements);
        context->agreements = NULL;
    }
}

enum err agreement_save(struct query_context *context, struct store_agreement *row,
                        struct err_info *reterr)
{
    row->changed = query_now();
    enum err err = store_agreement_put(context->store, row, reterr);
    return err ? err : reload(context, reterr);
}

/* --- messages ------------------------------------------------------------------------------------------ */

static const struct proto_field message_fields[] = {
    PROTO_FIELD(struct agreement_message, version, PROTO_U64, 1, 1),
    PROTO_FIELD(struct agreement_message, step, PROTO_U64, 0, PROTO_AGREEMENT_EVENTS - 1),
    PROTO_FIELD(struct agreement_message, id, PROTO_BIN, 16, 16),
    PROTO_FIELD_OPTIONAL(struct agreement_message, body, PROTO_BIN, 1, PROTO_AGREEMENT_MAX),
    PROTO_FIELD_OPTIONAL(struct agreement_message, signature, PROTO_BIN, 64, 64),
    PROTO_FIELD_OPTIONAL(struct agreement_message, approval, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct agreement_message, detail, PROTO_STR, 0, 512),
};
const struct proto_message agreement_message_table =
    PROTO_MESSAGE("agreement message", struct agreement_message, message_fields);

enum err agreement_copy(struct arena *arena, struct span bytes, struct span *ret)
{
    uint8_t *copy = arena_alloc(arena, bytes.len + 1, 1);
    if (!copy) {
        return E_NO_MEMORY;
    }
    memcpy(copy, bytes.ptr, bytes.len);
    *ret = span_of(copy, bytes.len);
    return E_OK;
}

/* Signs BYTES and keeps both in ARENA. */
enum err agreement_sign(struct query_context *context, const char *domain, struct span bytes,
                        struct arena *arena, struct span *ret_signature)
{
    uint8_t *signature = arena_alloc(arena, 64, 1);
    if (!signature) {
        return E_NO_MEMORY;
    }
    *ret_signature = span_of(signature, 64);
    return crypto_envelope_sign(context->identity, domain, context->federation_id, bytes,
                                signature);
}

enum err agreement_verify(struct query_context *context, const struct peer_member *by,
                          const char *domain, struct span bytes, struct span signature,
                          struct err_info *reterr)
{
    if (!bytes.ptr || !signature.ptr ||
        crypto_envelope_verify(by->point, domain, context->federation_id, bytes, signature.ptr)) {
        return proto_err_set(reterr, E_AUTH, "%s did not sign this", by->name);
    }
    return E_OK;
}

/* What the provider countersigns: the document and the consumer's signature on it. */
enum err agreement_countersigned(struct span document, struct span signature, struct arena *arena,
                                 struct span *ret)
{
    uint8_t *bytes = arena_alloc(arena, document.len + signature.len, 1);
    if (!bytes) {
        return E_NO_MEMORY;
    }
    memcpy(bytes, document.ptr, document.len);
    memcpy(bytes + document.len, signature.ptr, signature.len);
    *ret = span_of(bytes, document.len + signature.len);
    return E_OK;
}

enum err agreement_audit(struct query_context *context, const struct store_agreement *row,
                         const char *kind, const char *detail)
{
    char id[33];
    char dataset[65];
    struct peer_member peer = {0};
    struct buf body = {.max = STORE_AUDIT_BODY};
    struct err_info info = {0};
    span_to_hex(span_of(row->id, 16), id);
    (void)span_to_cstr(row->dataset, dataset, sizeof dataset);
    (void)peer_member_by_id(context->peer, row->peer, &peer);
    enum err err =
        query_audit_text(&body, "agreement", id, "dataset", dataset, "node", peer.name, "side",
                         row->side == PROTO_AGREEMENT_CONSUMER ? "consumer" : "provider", "detail",
                         detail, (const char *)NULL);
    err = err ? err : store_audit_append(context->store, kind, buf_span(&body), query_now(), &info);
    buf_fini(&body);
    return err;
}

enum err agreement_step(struct store_agreement *row, enum proto_agreement_event event,
                        enum proto_agreement_side by, struct err_info *reterr)
{
    enum proto_agreement_state state = (enum proto_agreement_state)row->state;
    enum err err = proto_agreement_step(&state, event, by, reterr);
    row->state = err ? row->state : (uint64_t)state;
    return err;
}

/* --- in a decision ---------------------------------------------------------------------------------------- */

/* Why terms that PROVIDER's licence record LICENCE stated are not in force; NULL: they are. */
static const char *terms_lapsed(struct query_context *context, const uint8_t provider[16],
                                const char *dataset, const uint8_t licence[16], int64_t ends,
                                int64_t now)
{
    uint8_t key[16];
    struct arena arena = {0};
    struct span bytes;
    struct proto_record record;
    bool forked = false;
    const char *why = NULL;
    proto_record_key(&crypto_proto_hash, dataset, key);
    if (now >= ends) {
        why = "it has ended";
    } else if (store_records_get(context->store, provider, key, PROTO_RECORD_LICENCE, &arena,
                                 &bytes, &forked) ||
               proto_record_decode(bytes, &crypto_proto_hash, &record, NULL)) {
        why = "the dataset has no licence any more";
    } else if (forked) {
        why = "the data holder signed two versions of the licence";
    } else if (record.envelope.flags & PROTO_RECORD_FINAL) {
        why = "the licence was withdrawn";
    } else if (memcmp(licence, record.id, 16) != 0) {
        why = "the licence was replaced by another version";
    }
    arena_fini(&arena);
    return why;
}

const char *query_agreement_lapsed(struct query_context *context,
                                   const struct proto_agreement_parts *parts, int64_t now)
{
    char dataset[65];
    (void)span_to_cstr(parts->request.dataset, dataset, sizeof dataset);
    return terms_lapsed(context, parts->request.provider.ptr, dataset, parts->offer.licence.ptr,
                        parts->offer.ends, now);
}

static bool is_named(const struct proto_purpose *purpose, const uint8_t id[16])
{
    const struct proto_purpose_agreement *items = purpose->agreements.items;
    for (size_t i = 0; i < purpose->agreements.count; i++) {
        if (memcmp(items[i].id.ptr, id, 16) == 0) {
            return true;
        }
    }
    return false;
}

/* Ours with this member that the purpose names; false: none. */
static bool find_named(struct query_context *context, const struct peer_member *requester,
                       const struct proto_purpose *purpose, const char *dataset,
                       struct agreement_entry *ret)
{
    struct query_agreements *all = context->agreements;
    bool found = false;
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < all->count && !found; i++) {
        const struct agreement_entry *entry = &all->entries[i];
        found = entry->side == PROTO_AGREEMENT_PROVIDER &&
                memcmp(entry->peer, requester->id, 16) == 0 &&
                strcmp(entry->dataset, dataset) == 0 && is_named(purpose, entry->id);
        if (found) {
            *ret = *entry;
        }
    }
    pthread_mutex_unlock(&all->lock);
    return found;
}

static bool covers(struct query_context *context, const struct proto_agreement_parts *parts,
                   const struct proto_purpose *purpose, uint64_t actions, int64_t now)
{
    return span_equal(parts->request.purpose.project, purpose->project) &&
           (actions & ~parts->offer.actions) == 0 && !query_agreement_lapsed(context, parts, now) &&
           proto_purpose_fault(&parts->request.purpose, purpose, context->ontology) ==
               PROTO_PROJECT_NONE;
}

enum err query_agreement_find(struct query_context *context, struct query_admission *admission,
                              const struct peer_member *requester,
                              const struct proto_purpose *purpose, uint64_t actions, int64_t now,
                              struct query_agreed *ret)
{
    struct agreement_entry entry;
    struct store_agreement row;
    struct proto_agreement_parts parts;
    *ret = (struct query_agreed){0};
    if (!purpose->agreements.count || !context->agreements ||
        !find_named(context, requester, purpose, admission->dataset, &entry)) {
        return E_OK;
    }
    /* VERIFIED counts as well: our FINALIZE may not have reached the consumer, its VERIFY did reach us. */
    enum err err = store_agreement_get(context->store, entry.id, &admission->arena, &row, NULL);
    bool made =
        !err && (row.state == PROTO_AGREEMENT_FINALIZED || row.state == PROTO_AGREEMENT_VERIFIED);
    if (err || !made ||
        proto_agreement_open(row.document, &crypto_proto_hash, &admission->arena, &parts, NULL) ||
        !covers(context, &parts, purpose, actions, now)) {
        return err == E_NO_MEMORY ? err : E_REFUSED;
    }
    ret->found = true;
    memcpy(ret->id, entry.id, 16);
    ret->start = parts.agreement.time;
    ret->accepted = parts.agreement.accepted;
    return E_OK;
}

/* Ours as consumer; false: none that is finalized. */
static bool find_held(struct query_context *context, const uint8_t provider[16],
                      const char *dataset, const struct proto_purpose *purpose, uint8_t ret_id[16])
{
    struct query_agreements *all = context->agreements;
    bool found = false;
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < all->count && !found; i++) {
        const struct agreement_entry *entry = &all->entries[i];
        found = entry->side == PROTO_AGREEMENT_CONSUMER &&
                entry->state == PROTO_AGREEMENT_FINALIZED &&
                memcmp(entry->peer, provider, 16) == 0 && strcmp(entry->dataset, dataset) == 0 &&
                span_is(purpose->project, entry->project);
        if (found) {
            memcpy(ret_id, entry->id, 16);
        }
    }
    pthread_mutex_unlock(&all->lock);
    return found;
}

void query_agreement_held(struct query_context *context, const uint8_t provider[16],
                          const char *dataset, const struct proto_purpose *purpose,
                          uint64_t actions, int64_t now, struct arena *arena,
                          struct query_agreed *ret)
{
    struct store_agreement row;
    struct proto_agreement_parts parts;
    uint8_t id[16];
    *ret = (struct query_agreed){0};
    ret->found =
        context->agreements && find_held(context, provider, dataset, purpose, id) &&
        store_agreement_get(context->store, id, arena, &row, NULL) == E_OK &&
        proto_agreement_open(row.document, &crypto_proto_hash, arena, &parts, NULL) == E_OK &&
        covers(context, &parts, purpose, actions, now);
    if (ret->found) {
        memcpy(ret->id, id, 16);
        ret->start = parts.agreement.time;
        ret->accepted = parts.agreement.accepted;
    }
}

enum err query_agreement_name(struct query_context *context, const char *dataset,
                              struct arena *arena, struct proto_purpose *purpose)
{
    struct query_agreements *all = context->agreements;
    struct proto_purpose_agreement *items = arena_alloc(arena, NAMED_MAX, sizeof *items);
    uint8_t(*ids)[16] = arena_alloc(arena, NAMED_MAX, 16);
    size_t count = 0;
    if (!items || !ids) {
        return E_NO_MEMORY;
    }
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < all->count && count < NAMED_MAX; i++) {
        const struct agreement_entry *entry = &all->entries[i];
        if (entry->side == PROTO_AGREEMENT_CONSUMER && entry->state == PROTO_AGREEMENT_FINALIZED &&
            strcmp(entry->dataset, dataset) == 0 && span_is(purpose->project, entry->project) &&
            !terms_lapsed(context, entry->peer, dataset, entry->licence, entry->ends,
                          query_now())) {
            memcpy(ids[count], entry->id, 16);
            items[count].id = span_of(ids[count], 16);
            count++;
        }
    }
    pthread_mutex_unlock(&all->lock);
    purpose->agreements = (struct proto_list){items, count};
    return E_OK;
}
