#include "config.h"
#include "node/train/statement.h"

#include "crypto/provider.h"
#include "node/query/site.h"
#include "node/train/use.h"
#include "store/blob.h"
#include "store/egress.h"
#include "store/ledger.h"

#include <math.h>

#define ASK_MS 10000

/* DER of a signature, on the wire. */
struct countersignature {
    uint64_t version;
    struct span der;
};
static const struct proto_field countersignature_fields[] = {
    PROTO_FIELD(struct countersignature, version, PROTO_U64, 1, 1),
    PROTO_FIELD(struct countersignature, der, PROTO_BIN, 8, CRYPTO_SIGNATURE_DER_MAX),
};
static const struct proto_message countersignature_message =
    PROTO_MESSAGE("countersignature", struct countersignature, countersignature_fields);

static enum err digest_of(const struct proto_lineage *lineage, struct buf *statement,
                          uint8_t ret[32])
{
    struct buf to_sign = {.max = PROTO_LINEAGE_MAX + 64};
    enum err err = proto_lineage_statement(lineage, statement);
    err = err ? err : proto_lineage_signed(buf_span(statement), &to_sign);
    if (!err) {
        struct span bytes = buf_span(&to_sign);
        crypto_sha256(&bytes, 1, ret);
    }
    buf_fini(&to_sign);
    return err;
}

static enum err sign(struct query_context *context, const uint8_t digest[32],
                     uint8_t der[CRYPTO_SIGNATURE_DER_MAX], size_t *ret_len)
{
    uint8_t signature[64];
    enum err err = crypto_identity_sign(context->identity, digest, signature);
    *ret_len = err ? 0 : crypto_signature_to_der(signature, der);
    return err;
}

/* --- a site's side ----------------------------------------------------------------------------------------- */

static uint64_t started(struct train_service *service, const char *kind,
                        const struct train_part *part, struct arena *arena)
{
    uint8_t id[16];
    struct store_ledger_row row;
    train_charge_id(kind, part->job_id.ptr, part->plan_hash.ptr, id);
    return store_ledger_charge(service->context->store, id, arena, &row, NULL) == E_OK ? row.started
                                                                                       : 0;
}

/* Epsilon that this site spent on the job, by its own ledger; millionths, rounded up. */
static uint64_t spent_u(struct train_service *service, const struct train_part *part,
                        const struct train_plan *plan, struct arena *arena)
{
    if (!plan->noise) {
        return 0;
    }
    struct train_cost cost = train_part_cost(part);
    double epsilon = train_cost_epsilon(
        &cost, started(service, "steps", part, arena), started(service, "sums", part, arena),
        started(service, "histogram", part, arena) > 0, (double)plan->delta_e12 / 1e12);
    return isfinite(epsilon) ? (uint64_t)ceil(epsilon * 1e6) : UINT64_MAX;
}

static bool may_coordinate(const struct train_plan *plan, const struct train_part *part,
                           const uint8_t node[16])
{
    const struct query_node_ref *refs = plan->coordinators.items;
    bool may = memcmp(part->coordinator.ptr, node, 16) == 0;
    for (size_t i = 0; i < plan->coordinators.count && !may; i++) {
        may = memcmp(refs[i].node.ptr, node, 16) == 0;
    }
    return may;
}

/* What the statement says of this node; NULL: nothing. */
static const struct proto_lineage_node *our_entry(const struct train_service *service,
                                                  const struct proto_lineage *lineage)
{
    const struct proto_lineage_node *nodes = lineage->nodes.items;
    for (size_t i = 0; i < lineage->nodes.count; i++) {
        if (memcmp(nodes[i].node.ptr, service->context->node_id, 16) == 0) {
            return &nodes[i];
        }
    }
    return NULL;
}

static bool our_licence(const struct train_service *service, const struct train_plan *plan,
                        struct span licence)
{
    const struct train_plan_site *sites = plan->sites.items;
    for (size_t i = 0; i < plan->sites.count; i++) {
        if (memcmp(sites[i].node.ptr, service->context->node_id, 16) == 0) {
            return span_equal(sites[i].licence, licence);
        }
    }
    return false;
}

static bool is_so(struct train_service *service, const uint8_t from[16],
                  const struct proto_lineage *lineage, struct arena *arena)
{
    struct train_part part;
    struct train_plan plan;
    const struct proto_lineage_node *entry = our_entry(service, lineage);
    if (!entry || !span_equal(lineage->federation, span_of(service->context->federation_id, 16)) ||
        train_part_load(service, lineage->job.ptr, arena, &part, NULL) ||
        !span_equal(part.plan_hash, lineage->plan) ||
        proto_codec_decode(&train_plan_message, part.plan, arena, &plan, NULL)) {
        return false;
    }
    return may_coordinate(&plan, &part, from) && our_licence(service, &plan, entry->licence) &&
           span_equal(plan.dataset, lineage->dataset) && plan.delta_e12 == lineage->delta_e12 &&
           entry->rounds <= part.last_round && lineage->rounds <= plan.rounds &&
           entry->epsilon_u + 1 >= spent_u(service, &part, &plan, arena);
}

static enum err countersign(struct train_service *service, struct peer_request *request,
                            struct buf *out)
{
    struct arena arena = {0};
    struct proto_lineage lineage;
    struct buf statement = {.max = PROTO_LINEAGE_MAX};
    struct peer_member member;
    uint8_t digest[32];
    uint8_t der[CRYPTO_SIGNATURE_DER_MAX];
    size_t len = 0;
    enum err err = proto_codec_decode(&proto_lineage_message, peer_request_body(request), &arena,
                                      &lineage, NULL);
    if (!err && (!peer_member_by_id(service->context->peer, peer_request_from(request), &member) ||
                 member.state == PEER_REVOKED || !is_so(service, member.id, &lineage, &arena))) {
        err = E_REFUSED;
    }
    err = err ? err : digest_of(&lineage, &statement, digest);
    err = err ? err : sign(service->context, digest, der, &len);
    err = err ? err : train_model_remember(service->context, lineage.weights.ptr, lineage.job.ptr);
    if (!err) {
        const struct countersignature answer = {1, span_of(der, len)};
        err = proto_codec_encode(&countersignature_message, &answer, out, NULL);
        if (memcmp(member.id, service->context->node_id, 16) != 0) {
            store_egress_count(service->context->store, member.name, "train", out->len);
        }
    }
    buf_fini(&statement);
    arena_fini(&arena);
    return err;
}

void train_statement_handle(struct peer_request *request, void *user)
{
    struct buf out = {.max = PEER_MESSAGE_MAX};
    enum err err = countersign(user, request, &out);
    peer_reply(request, err, err ? SPAN_NONE : buf_span(&out));
    buf_fini(&out);
}

/* --- the coordinator's side --------------------------------------------------------------------------------- */

static enum err describe(struct train_service *service, const struct train_job_state *state,
                         const struct train_lineage *lineage, struct arena *arena,
                         struct proto_lineage *ret)
{
    struct proto_lineage_node *nodes = arena_alloc(arena, TRAIN_SITES_MAX, sizeof *nodes);
    size_t count = 0;
    (void)lineage;
    if (!nodes) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < state->site_count; i++) {
        const struct train_site *site = &state->sites[i];
        if (site->admitted && site->rounds) {
            nodes[count++] = (struct proto_lineage_node){
                .node = span_of(site->id, 16),
                .name = span_str(site->node),
                .org = span_str(site->org),
                .licence = span_of(site->licence_id, 16),
                .rounds = site->rounds,
                .epsilon_u = (uint64_t)ceil(site->epsilon * 1e6),
            };
        }
    }
    ret->v = PROTO_LINEAGE_VERSION;
    ret->federation = span_of(service->context->federation_id, 16);
    ret->job = span_of(state->id, 16);
    ret->job_name = span_str(state->name);
    ret->plan = span_of(state->plan_hash, 32);
    ret->dataset = span_str(state->dataset);
    ret->task = span_str(state->task);
    ret->rounds = state->round;
    ret->coordinator = span_str(service->context->name);
    ret->nodes = (struct proto_list){nodes, count};
    ret->created = query_now();
    return E_OK;
}

/* Signatures of the sites that answered and whose signature is right, ours first. */
struct collected {
    struct proto_lineage_signature signatures[TRAIN_SITES_MAX + 1];
    uint8_t der[TRAIN_SITES_MAX + 1][CRYPTO_SIGNATURE_DER_MAX];
    size_t count;
};

static void take(struct collected *all, const uint8_t node[16], struct span der)
{
    if (der.len <= CRYPTO_SIGNATURE_DER_MAX) {
        memcpy(all->der[all->count], der.ptr, der.len);
        memcpy(all->signatures[all->count].node, node, 16);
        all->signatures[all->count].der = span_of(all->der[all->count], der.len);
        all->count++;
    }
}

static void take_reply(struct train_service *service, const struct peer_call *call,
                       const uint8_t digest[32], struct collected *all)
{
    struct arena arena = {0};
    struct peer_member member;
    struct countersignature answer;
    uint8_t signature[64];
    if (call->status == E_OK && peer_member_by_id(service->context->peer, call->to, &member) &&
        proto_codec_decode(&countersignature_message, call->reply.bytes, &arena, &answer, NULL) ==
            E_OK &&
        crypto_signature_from_der(answer.der, signature) == E_OK &&
        crypto_provider()->p256_verify(member.point, digest, signature) == E_OK) {
        take(all, member.id, answer.der);
    }
    arena_fini(&arena);
}

static enum err collect(struct train_service *service, const struct proto_lineage *lineage,
                        const uint8_t digest[32], struct collected *all)
{
    const struct proto_lineage_node *nodes = lineage->nodes.items;
    struct buf body = {.max = PEER_MESSAGE_MAX};
    struct peer_call *calls = proto_alloc(lineage->nodes.count + 1, sizeof *calls);
    size_t count = 0;
    enum err err =
        calls ? proto_codec_encode(&proto_lineage_message, lineage, &body, NULL) : E_NO_MEMORY;
    for (size_t i = 0; !err && i < lineage->nodes.count; i++) {
        struct peer_member member;
        if (memcmp(nodes[i].node.ptr, service->context->node_id, 16) == 0 ||
            !peer_member_by_id(service->context->peer, nodes[i].node.ptr, &member)) {
            continue; /* our own signature stands first in any case */
        }
        memcpy(calls[count].to, nodes[i].node.ptr, 16);
        calls[count].type = PEER_MSG_LINEAGE;
        calls[count++].body = buf_span(&body);
        store_egress_count(service->context->store, member.name, "train", body.len);
    }
    if (!err && count) {
        err = peer_call_many(service->context->peer, calls, count, ASK_MS, NULL, NULL);
    }
    for (size_t i = 0; i < count; i++) {
        if (!err) {
            take_reply(service, &calls[i], digest, all);
        }
        peer_reply_fini(&calls[i].reply);
    }
    proto_free(calls);
    buf_fini(&body);
    return err;
}

enum err train_statement_make(struct train_service *service, const struct train_job_state *state,
                              const struct train_lineage *lineage, const char *model,
                              const uint8_t weights[32], uint64_t size, const char *unit,
                              struct train_statement *ret, struct err_info *reterr)
{
    struct arena arena = {0};
    struct buf statement = {.max = PROTO_LINEAGE_MAX};
    struct buf document = {.max = TRAIN_STATEMENT_MAX};
    struct collected *all = proto_alloc(1, sizeof *all);
    struct proto_lineage described = {.model = span_str(model),
                                      .weights = span_of(weights, 32),
                                      .size = size,
                                      .delta_e12 = (uint64_t)llround(state->delta * 1e12),
                                      .unit = span_str(unit)};
    uint8_t digest[32];
    uint8_t der[CRYPTO_SIGNATURE_DER_MAX];
    size_t len = 0;
    enum err err = all ? describe(service, state, lineage, &arena, &described) : E_NO_MEMORY;
    err = err ? err : digest_of(&described, &statement, digest);
    err = err ? err : sign(service->context, digest, der, &len);
    if (!err) {
        take(all, service->context->node_id, span_of(der, len));
        err = collect(service, &described, digest, all);
    }
    err =
        err ? err
            : proto_lineage_envelope(buf_span(&statement), all->signatures, all->count, &document);
    err =
        err ? err : store_blob_put(service->context->store, buf_span(&document), ret->hash, reterr);
    ret->size = document.len;
    proto_free(all);
    buf_fini(&statement);
    buf_fini(&document);
    arena_fini(&arena);
    return err;
}
