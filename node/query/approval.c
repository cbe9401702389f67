#include "config.h"
#include "node/query/approval.h"

#include "crypto/provider.h"
#include "node/query/site.h"

#include <stdio.h>

static const struct proto_field notice_fields[] = {
    PROTO_FIELD(struct query_notice, request, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct query_notice, approval, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct query_notice, approved, PROTO_BOOL, 0, 0),
    PROTO_FIELD(struct query_notice, reason, PROTO_STR, 0, 512),
};
const struct proto_message query_notice_message =
    PROTO_MESSAGE("notice", struct query_notice, notice_fields);

/* "DUO:0000007 MONDO:0005148" */
static enum err purpose_text(const struct query_hold *hold, struct buf *out)
{
    char code[PROTO_DUO_SIZE];
    const struct proto_purpose *purpose = hold->purpose;
    const struct proto_text *diseases = purpose->diseases.items;
    enum err err = purpose->permission
                       ? buf_put(out, span_str(proto_duo_format(purpose->permission, code)))
                       : E_OK;
    for (size_t i = 0; !err && i < purpose->diseases.count; i++) {
        err =
            buf_printf(out, " %.*s", (int)diseases[i].text.len, (const char *)diseases[i].text.ptr);
    }
    return err;
}

/* Every part with its length, so that no two lists of parts read alike. */
static void id_of(const char *tag, const struct span *parts, size_t count, uint8_t ret[16])
{
    struct span pieces[24];
    uint8_t lengths[12][8];
    uint8_t digest[32];
    pieces[0] = span_of(tag, strlen(tag) + 1);
    for (size_t i = 0; i < count; i++) {
        put_be64(lengths[i], parts[i].len);
        pieces[1 + 2 * i] = span_of(lengths[i], 8);
        pieces[2 + 2 * i] = parts[i];
    }
    crypto_sha256(pieces, 1 + 2 * count, digest);
    memcpy(ret, digest, 16);
}

/* The whole purpose, research types, ethics approval and promises too: what a person approved is not what another one
 * promises. Who asks is a part of its own, since a project's approval is for all its people. */
static enum err identify(const struct query_admission *admission,
                         const struct peer_member *requester, const struct query_hold *hold,
                         struct store_approval *row)
{
    uint8_t kind = (uint8_t)hold->kind;
    struct proto_purpose stated = *hold->purpose;
    struct buf purpose = {.max = QUERY_PURPOSE_MAX};
    stated.person = span_str("-");
    enum err err = proto_codec_encode(&proto_purpose_message, &stated, &purpose, NULL);
    const struct span parts[] = {
        span_of(&kind, 1),          span_str(admission->dataset), span_of(admission->record.id, 16),
        span_of(requester->id, 16), span_str(hold->project),      buf_span(&purpose),
        span_str(hold->person),     span_of(hold->subject, 32)};
    id_of("concordat1-approval", parts, 8, row->id);
    id_of("concordat1-approval-project", parts, 6, row->project_key);
    buf_fini(&purpose);
    return err;
}

static enum err make_row(const struct query_admission *admission,
                         const struct peer_member *requester, const struct query_hold *hold,
                         struct buf *purpose, struct store_approval *ret)
{
    enum err err = purpose_text(hold, purpose);
    *ret = (struct store_approval){
        .kind = hold->kind,
        .dataset = span_str(admission->dataset),
        .node = span_str(requester->name),
        .institution = span_str(requester->org),
        .person = span_str(hold->person),
        .project = span_str(hold->project),
        .purpose = purpose->len ? buf_span(purpose) : span_str(""),
        .operations = span_str(hold->operations),
        .question = span_str(hold->question),
        .shape = span_str(hold->shape),
        .why = span_str(proto_reason_name(admission->decision.reason)),
        .epsilon_u = hold->epsilon_u,
        .delta_e12 = hold->delta_e12,
        .cost_nano = hold->cost_nano,
    };
    memcpy(ret->request, hold->request, 16);
    memcpy(ret->node_id, requester->id, 16);
    memcpy(ret->licence, admission->record.id, 16);
    return err ? err : identify(admission, requester, hold, ret);
}

static enum err answer_of(struct query_context *context, const struct store_approval *row,
                          bool fresh, struct query_held *ret)
{
    static const char *const again[] = {"concordat queries collect", "concordat train resume",
                                        "concordat agreement show"};
    char id[33];
    memcpy(ret->id, row->id, 16);
    span_to_hex(span_of(row->id, 16), id);
    if (row->state == STORE_APPROVAL_APPROVED) {
        return E_OK;
    }
    if (row->state == STORE_APPROVAL_DENIED) {
        snprintf(ret->detail, sizeof ret->detail, "a person at %s said no%s%.*s", context->name,
                 row->reason.len ? ": " : "", (int)row->reason.len,
                 row->reason.len ? (const char *)row->reason.ptr : "");
        return E_REFUSED;
    }
    snprintf(ret->detail, sizeof ret->detail,
             "it waits for a person at %s (approval %s); `%s` asks again", context->name, id,
             again[row->kind % 3]);
    if (fresh && context->notify) {
        context->notify(context->user, "approval.waiting", id);
    }
    return E_APPROVAL;
}

enum err query_approval_ask(struct query_context *context, const struct query_admission *admission,
                            const struct peer_member *requester, const struct query_hold *hold,
                            struct query_held *ret, struct err_info *reterr)
{
    const struct store_approval_limits limits = {
        .pending_s = context->approval_pending_s,
        .pending = QUERY_APPROVALS_PENDING,
        .per_institution = QUERY_APPROVALS_PER_INSTITUTION,
    };
    struct buf purpose = {.max = STORE_APPROVAL_TEXT};
    struct arena arena = {0};
    struct store_approval row;
    struct store_approval stands;
    enum err err = make_row(admission, requester, hold, &purpose, &row);
    if (!err) {
        err =
            store_approval_ask(context->store, &limits, &row, query_now(), &stands, &arena, reterr);
    }
    if (!err) {
        bool fresh = memcmp(stands.request, hold->request, 16) == 0;
        err = answer_of(context, &stands, fresh, ret);
    }
    buf_fini(&purpose);
    arena_fini(&arena);
    return err;
}

bool query_approval_stands(struct query_context *context, const struct query_admission *admission,
                           const struct peer_member *requester, const struct query_hold *hold)
{
    struct buf purpose = {.max = STORE_APPROVAL_TEXT};
    struct arena arena = {0};
    struct store_approval row;
    struct store_approval stands;
    bool good = make_row(admission, requester, hold, &purpose, &row) == E_OK &&
                store_approval_find(context->store, row.id, row.project_key, query_now(), &stands,
                                    &arena, NULL) == E_OK &&
                stands.state == STORE_APPROVAL_APPROVED;
    buf_fini(&purpose);
    arena_fini(&arena);
    return good;
}
