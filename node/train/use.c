#include "config.h"
#include "node/train/use.h"

#include "crypto/provider.h"
#include "node/model/package.h"
#include "node/query/admission.h"
#include "node/query/agreement.h"
#include "node/query/clock.h"
#include "node/query/site.h"
#include "node/train/internal.h"
#include "node/train/statement.h"
#include "proto/derive.h"
#include "proto/project.h"
#include "store/blob.h"
#include "store/job.h"
#include "store/records.h"

#include <stdio.h>

/* --- what no single licence says --------------------------------------------------------------------------------------- */

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

bool train_model_took_part(struct query_context *context, const struct proto_record *record,
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

static enum proto_reason history_fault(struct query_context *context,
                                       const struct train_model_case *what,
                                       const struct peer_member *member,
                                       const struct proto_licence *licence, char tainted_by[33])
{
    const struct proto_model *model = what->model;
    const struct proto_model_participant *parent = withdrawn_parent(context, model);
    struct peer_member site;
    bool known = parent && peer_member_by_id(context->peer, parent->node.ptr, &site);
    snprintf(tainted_by, 33, "%s", known ? site.name : parent ? "a former member" : "");
    if (parent && !(licence && licence->survives_revocation)) {
        return PROTO_REASON_LICENSE_TAINTED;
    }
    bool bare = model->participants.count && model->epsilon_u == 0;
    return bare && !(member && train_model_took_part(context, what->record, model, member))
               ? PROTO_REASON_LICENSE_NONPRIVATE
               : PROTO_REASON_NONE;
}

/* --- its licence ------------------------------------------------------------------------------------------------------- */

static bool is_imported(const struct proto_model *model)
{
    return span_is(model->task, TRAIN_MODEL_IMPORTED) && model->participants.count == 0 &&
           model->licences.count == 0;
}

struct own_licence {
    struct proto_record record;
    struct proto_licence licence;
    bool has_record, readable, forked;
};

static void stored_licence(struct query_context *context, const struct train_model_case *what,
                           struct arena *arena, struct own_licence *ret)
{
    char name[65];
    uint8_t key[16];
    struct span bytes;
    if (!span_to_cstr(what->model->name, name, sizeof name)) {
        return;
    }
    proto_record_key(&crypto_proto_hash, name, key);
    ret->has_record =
        store_records_get(context->store, what->record->envelope.issuer.ptr, key,
                          PROTO_RECORD_LICENCE, arena, &bytes, &ret->forked) == E_OK &&
        proto_record_decode(bytes, &crypto_proto_hash, &ret->record, NULL) == E_OK;
    /* A dataset of that name has nothing to say about the model. */
    ret->readable =
        ret->has_record &&
        proto_licence_decode(ret->record.envelope.body, arena, &ret->licence, NULL) == E_OK &&
        ret->licence.derived_from.count > 0;
}

/* The MODEL record is what its issuer signed of the data licence; it stands until it is replaced or withdrawn. */
static void imported_licence(const struct train_model_case *what, struct arena *arena,
                             struct own_licence *ret)
{
    const struct proto_model *model = what->model;
    ret->readable =
        proto_derive_imported(model->name, model->spdx, model->weights,
                              span_of(what->record->id, 16), arena, &ret->licence, NULL) == E_OK;
    ret->has_record = ret->readable;
    ret->record = *what->record;
    ret->record.envelope.kind = PROTO_RECORD_LICENCE;
    ret->record.envelope.expires = ret->licence.expires;
}

/* --- deciding ---------------------------------------------------------------------------------------------------------- */

static void deny(struct proto_decision *decision, enum proto_reason reason)
{
    decision->verdict = PROTO_DENY;
    decision->reason = reason;
}

/* A person at each site approved the job for its purpose, and by that its model for this purpose. */
static bool approved_before(struct query_context *context, const struct train_model_case *what,
                            const struct proto_decision *decision)
{
    /* Research of a kind that nobody told those people of is none that they approved. */
    return decision->verdict == PROTO_HOLD && what->approved &&
           what->use->actions == TRAIN_USE_APPLY &&
           (!what->purpose->has_research || what->approved->has_research) &&
           proto_purpose_fault(what->approved, what->purpose, context->ontology) ==
               PROTO_PROJECT_NONE;
}

/* Whoever issued the model is not asked by itself for an agreement: those that it made with the sites about the data, for
 * training under this purpose, limit it. 0: one of them is missing. */
static int64_t first_agreement(struct query_context *context, const struct train_model_case *what,
                               struct arena *arena)
{
    const struct proto_model_participant *participants = what->model->participants.items;
    char dataset[65];
    int64_t first = INT64_MAX;
    bool ours = !what->requester &&
                memcmp(what->record->envelope.issuer.ptr, context->node_id, 16) == 0 &&
                span_to_cstr(what->model->dataset, dataset, sizeof dataset);
    for (size_t i = 0; ours && first && i < what->model->participants.count; i++) {
        struct query_agreed agreed;
        query_agreement_held(context, participants[i].node.ptr, dataset, what->purpose,
                             TRAIN_USE_BASE, what->now, arena, &agreed);
        first = !agreed.found ? 0 : agreed.start < first ? agreed.start : first;
    }
    return first == INT64_MAX ? 0 : first;
}

void train_model_decide(struct train_service *service, const struct train_model_case *what,
                        struct arena *arena, struct train_model_verdict *ret)
{
    struct query_context *context = service->context;
    const uint8_t *issuer = what->record->envelope.issuer.ptr;
    struct peer_member self, maker;
    const struct peer_member *member = what->requester;
    struct own_licence *own = arena_alloc(arena, 1, sizeof *own);
    char name[65] = "";
    memset(ret, 0, sizeof *ret);
    deny(&ret->decision, PROTO_REASON_NO_LICENSE);
    ret->decision.grant = -1;
    if (!own || !span_to_cstr(what->model->name, name, sizeof name)) {
        return;
    }
    if (!member && peer_member_by_id(context->peer, context->node_id, &self)) {
        member = &self;
    }
    if (!peer_member_by_id(context->peer, issuer, &maker)) {
        maker = (struct peer_member){0};
        memcpy(maker.id, issuer, 16);
    }
    if (is_imported(what->model)) {
        imported_licence(what, arena, own);
    } else {
        stored_licence(context, what, arena, own);
    }
    const struct proto_party issued = query_party(&maker);
    const struct query_foreseen foreseen = {.requester = what->requester,
                                            .site = &maker,
                                            .dataset = name,
                                            .record = own->has_record ? &own->record : NULL,
                                            .licence = own->readable ? &own->licence : NULL,
                                            .forked = own->forked,
                                            .model = true,
                                            .agreement_start =
                                                first_agreement(context, what, arena),
                                            .purpose = what->purpose,
                                            .use = what->use,
                                            .sites = what->sites ? what->sites : &issued,
                                            .site_count = what->sites ? what->site_count : 1,
                                            .now = what->now};
    ret->licence = foreseen.licence;
    query_admission_foresee(context, &foreseen, arena, &ret->decision);
    if (approved_before(context, what, &ret->decision)) {
        ret->decision.verdict = PROTO_PERMIT;
        ret->decision.reason = PROTO_REASON_NONE;
    }
    enum proto_reason history = history_fault(context, what, member, ret->licence, ret->tainted_by);
    if (history && ret->decision.reason != PROTO_REASON_REVOKED) {
        deny(&ret->decision, history);
    }
}

static enum err refusal(const struct proto_model *model, enum proto_reason reason,
                        const char *tainted_by, struct err_info *reterr)
{
    enum err err = proto_reason_err(reason);
    bool tainted = reason == PROTO_REASON_LICENSE_TAINTED;
    return proto_err_set(reterr, err == E_OK ? E_REFUSED : err, "model %.*s: %s%s%s (%s)",
                         (int)(model->name.len < 40 ? model->name.len : 40),
                         (const char *)model->name.ptr, proto_reason_text(reason),
                         tainted ? "; it was withdrawn by " : "", tainted ? tainted_by : "",
                         proto_reason_name(reason));
}

enum err train_model_error(const struct train_model_case *what,
                           const struct train_model_verdict *verdict, struct err_info *reterr)
{
    return verdict->decision.verdict == PROTO_PERMIT
               ? E_OK
               : refusal(what->model, verdict->decision.reason, verdict->tainted_by, reterr);
}

/* --- without a purpose ------------------------------------------------------------------------------------------------- */

enum proto_reason train_model_standing(struct train_service *service,
                                       const struct proto_record *record,
                                       const struct proto_model *model,
                                       const struct peer_member *member, char tainted_by[33])
{
    static const struct proto_purpose none;
    static const struct proto_use apply = {.actions = TRAIN_USE_APPLY};
    struct arena arena = {0};
    const struct train_model_case what = {.record = record,
                                          .model = model,
                                          .requester = member,
                                          .purpose = &none,
                                          .use = &apply,
                                          .now = query_now()};
    struct train_model_verdict *verdict = arena_alloc(&arena, 1, sizeof *verdict);
    enum proto_reason reason = PROTO_REASON_NO_LICENSE;
    if (tainted_by) {
        tainted_by[0] = '\0';
    }
    if (verdict) {
        train_model_decide(service, &what, &arena, verdict);
        reason = verdict->decision.reason;
        bool history =
            reason == PROTO_REASON_LICENSE_TAINTED || reason == PROTO_REASON_LICENSE_NONPRIVATE;
        reason = history ? reason : proto_policy_refuted(verdict->licence, &verdict->decision);
        if (tainted_by) {
            memcpy(tainted_by, verdict->tainted_by, 33);
        }
    }
    arena_fini(&arena);
    return reason;
}

enum err train_model_may(struct train_service *service, const struct proto_record *record,
                         const struct proto_model *model, const struct peer_member *member,
                         struct err_info *reterr)
{
    char by[33];
    enum proto_reason reason = train_model_standing(service, record, model, member, by);
    return reason == PROTO_REASON_NONE ? E_OK : refusal(model, reason, by, reterr);
}

/* --- by its bytes ------------------------------------------------------------------------------------------------------ */

/* Every record in force that names the blob as weights. A record is its issuer's word: those of trained models must all agree,
 * so that nobody makes another one's model free by publishing its hash again as an imported one. */
struct by_hash {
    struct train_service *service;
    const uint8_t *hash;
    void (*judge)(struct by_hash *, const struct proto_record *, const struct proto_model *,
                  enum proto_reason *ret, bool *ret_hold);
    const void *user;
    bool trained, imported, lineage;
    enum proto_reason of_trained, of_imported; /* the worst of the one, the best of the other */
    bool trained_holds, imported_holds;
};

static enum err look_for(void *user, struct span bytes, bool forked)
{
    struct by_hash *all = user;
    struct arena arena = {0};
    struct proto_record record;
    struct proto_model model;
    (void)forked;
    if (proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK &&
        !(record.envelope.flags & PROTO_RECORD_FINAL) &&
        proto_model_decode(record.envelope.body, &arena, &model, NULL) == E_OK) {
        all->lineage =
            all->lineage || (model.lineage.ptr && memcmp(model.lineage.ptr, all->hash, 32) == 0);
        if (memcmp(model.weights.ptr, all->hash, 32) == 0) {
            enum proto_reason reason = PROTO_REASON_NONE;
            bool hold = false;
            all->judge(all, &record, &model, &reason, &hold);
            if (!is_imported(&model)) {
                all->of_trained = all->trained && all->of_trained ? all->of_trained : reason;
                all->trained_holds = all->trained_holds || hold;
                all->trained = true;
            } else if (!all->imported || (all->of_imported && !reason)) {
                all->of_imported = reason;
                all->imported_holds = hold;
                all->imported = true;
            }
        }
    }
    arena_fini(&arena);
    return E_OK;
}

static void judge_standing(struct by_hash *all, const struct proto_record *record,
                           const struct proto_model *model, enum proto_reason *ret, bool *ret_hold)
{
    (void)ret_hold;
    *ret = train_model_standing(all->service, record, model, all->user, NULL);
}

/* Where a model comes from is nobody's secret in the federation. But a member may publish a record about any hash that it has
 * seen: what a blob is, its bytes tell. So neither are weights freed by a record that names them as its statement, nor is a
 * statement locked away by one that names it as its weights. */
static bool is_statement(struct store *store, const uint8_t hash[32])
{
    struct buf document = {.max = TRAIN_STATEMENT_MAX};
    bool is = store_blob_get(store, hash, &document, NULL) == E_OK &&
              proto_lineage_is_envelope(buf_span(&document));
    buf_fini(&document);
    return is;
}

enum err train_model_may_have(struct train_service *service, const struct peer_member *member,
                              const uint8_t hash[32])
{
    struct by_hash all = {
        .service = service, .hash = hash, .judge = judge_standing, .user = member};
    enum err err = store_records_each(service->context->store, PROTO_RECORD_MODEL, look_for, &all);
    if (err || (all.lineage && is_statement(service->context->store, hash))) {
        return err;
    }
    enum proto_reason reason = all.trained ? all.of_trained : all.of_imported;
    return !all.trained && !all.imported ? E_NOT_FOUND
           : reason == PROTO_REASON_NONE ? E_OK
                                         : E_REFUSED;
}

static void judge_base(struct by_hash *all, const struct proto_record *record,
                       const struct proto_model *model, enum proto_reason *ret, bool *ret_hold)
{
    const struct train_base_case *base = all->user;
    struct arena arena = {0};
    const struct train_model_case what = {.record = record,
                                          .model = model,
                                          .requester = base->requester,
                                          .purpose = base->purpose,
                                          .use = base->use,
                                          .sites = base->sites,
                                          .site_count = base->site_count,
                                          .now = query_now()};
    struct train_model_verdict *verdict = arena_alloc(&arena, 1, sizeof *verdict);
    *ret = PROTO_REASON_NO_LICENSE;
    if (verdict) {
        train_model_decide(all->service, &what, &arena, verdict);
        *ret_hold = verdict->decision.verdict == PROTO_HOLD;
        *ret =
            verdict->decision.verdict == PROTO_DENY ? verdict->decision.reason : PROTO_REASON_NONE;
    }
    arena_fini(&arena);
}

/* Nobody published it: as its own record would say. */
static void judge_unpublished(struct by_hash *all, const struct train_base_case *base,
                              const char *spdx)
{
    const uint8_t *node = base->requester ? base->requester->id : all->service->context->node_id;
    struct proto_record record = {.envelope = {.issuer = span_of(node, 16)}};
    const struct proto_model model = {.name = span_str(base->name),
                                      .task = span_str(TRAIN_MODEL_IMPORTED),
                                      .weights = span_of(base->hash, 32),
                                      .dataset = span_str("none"),
                                      .spdx = span_str(spdx)};
    judge_base(all, &record, &model, &all->of_imported, &all->imported_holds);
    all->imported = true;
}

/* What the package says of itself. */
static void judge_package(struct by_hash *all, const struct train_base_case *base)
{
    struct buf blob = {.max = STORE_BLOB_MAX};
    struct model_package *package = NULL;
    if (store_blob_get(all->service->context->store, base->hash, &blob, NULL) == E_OK &&
        model_package_open(buf_span(&blob), &package, NULL) == E_OK) {
        judge_unpublished(all, base, model_package_info(package)->licence);
    }
    model_package_close(package);
    buf_fini(&blob);
}

void train_base_decide(struct train_service *service, const struct train_base_case *what,
                       enum proto_reason *ret, bool *ret_hold)
{
    struct by_hash all = {
        .service = service, .hash = what->hash, .judge = judge_base, .user = what};
    *ret_hold = false;
    if (store_records_each(service->context->store, PROTO_RECORD_MODEL, look_for, &all)) {
        *ret = PROTO_REASON_NO_LICENSE;
        return;
    }
    if (!all.trained && !all.imported && what->spdx) {
        judge_unpublished(&all, what, what->spdx);
    } else if (!all.trained && !all.imported && what->look_inside) {
        judge_package(&all, what);
    }
    *ret = all.trained ? all.of_trained : all.of_imported;
    *ret_hold = *ret == PROTO_REASON_NONE && (all.trained ? all.trained_holds : all.imported_holds);
}

void train_plan_base_decide(struct train_service *service, const struct train_plan *plan,
                            const struct peer_member *requester, const char *spdx, bool look_inside,
                            enum proto_reason *ret, bool *ret_hold)
{
    const struct train_plan_site *sites = plan->sites.items;
    const struct span hashes[] = {plan->model, plan->model_base};
    struct peer_member *members = proto_alloc(plan->sites.count + 1, sizeof *members);
    struct proto_party *parties = proto_alloc(plan->sites.count + 1, sizeof *parties);
    const struct proto_use use = {.actions = TRAIN_USE_BASE,
                                  .rounds = plan->rounds,
                                  .clip = plan->noise ? plan->clip : 0,
                                  .nonprivate = !plan->noise};
    char name[65];
    *ret = members && parties ? PROTO_REASON_NONE : PROTO_REASON_NO_LICENSE;
    *ret_hold = false;
    for (size_t i = 0; !*ret && i < plan->sites.count; i++) {
        bool known = peer_member_by_id(service->context->peer, sites[i].node.ptr, &members[i]);
        parties[i] = known ? query_party(&members[i]) : (struct proto_party){0};
    }
    for (size_t i = 0; !*ret && i < 2; i++) {
        const struct train_base_case what = {
            .hash = hashes[i].ptr,
            .name = span_to_cstr(plan->model_name, name, sizeof name) ? name : "",
            .spdx = i == 0 ? spdx : NULL,
            .requester = requester,
            .purpose = &plan->purpose,
            .use = &use,
            .sites = parties,
            .site_count = plan->sites.count,
            .look_inside = look_inside};
        bool hold = false;
        if (hashes[i].len == 32) {
            train_base_decide(service, &what, ret, &hold);
            *ret_hold = *ret_hold || hold;
        }
    }
    proto_free(members);
    proto_free(parties);
}

/* --- the job's own purpose --------------------------------------------------------------------------------------------- */

static bool may_coordinate(const struct train_plan *plan, const uint8_t node[16])
{
    const struct query_node_ref *refs = plan->coordinators.items;
    bool may = false;
    for (size_t i = 0; i < plan->coordinators.count && !may; i++) {
        may = memcmp(refs[i].node.ptr, node, 16) == 0;
    }
    return may;
}

/* A copy of the plan of a job that this node leads or stands by for; SPAN_NONE: none. */
static struct span plan_of_job(struct train_service *service, const uint8_t job_id[16],
                               struct arena *arena)
{
    struct span copy = SPAN_NONE;
    pthread_mutex_lock(&service->lock);
    for (const struct train_job *job = service->jobs; job && !copy.ptr; job = job->next) {
        uint8_t *bytes = memcmp(job->state.id, job_id, 16) == 0 && job->state.plan.len
                             ? arena_alloc(arena, job->state.plan.len, 1)
                             : NULL;
        if (bytes) {
            memcpy(bytes, job->state.plan.ptr, job->state.plan.len);
            copy = span_of(bytes, job->state.plan.len);
        }
    }
    pthread_mutex_unlock(&service->lock);
    return copy;
}

#define MAGIC "CTM1" /* a row of the jobs' table: these letters, then the job's id */

static void row_id(const uint8_t weights[32], uint8_t ret[16])
{
    uint8_t hash[32];
    const struct span parts[] = {span_of("concordat1-train-model", 23), span_of(weights, 32)};
    crypto_sha256(parts, 2, hash);
    memcpy(ret, hash, 16);
}

enum err train_model_remember(struct query_context *context, const uint8_t weights[32],
                              const uint8_t job_id[16])
{
    uint8_t id[16], row[4 + 16];
    row_id(weights, id);
    memcpy(row, MAGIC, 4);
    memcpy(row + 4, job_id, 16);
    return store_job_put(context->store, id, span_of(row, sizeof row), NULL);
}

enum err train_model_job(struct query_context *context, const uint8_t weights[32], uint8_t ret[16])
{
    struct buf row = {.max = STORE_JOB_MAX};
    uint8_t id[16];
    row_id(weights, id);
    enum err err = store_job_get(context->store, id, &row, NULL);
    if (!err && (row.len != 4 + 16 || memcmp(row.ptr, MAGIC, 4) != 0)) {
        err = E_NOT_FOUND;
    }
    if (!err) {
        memcpy(ret, row.ptr + 4, 16);
    }
    buf_fini(&row);
    return err;
}

enum err train_model_approved(struct train_service *service, const struct proto_record *record,
                              const struct proto_model *model, struct arena *arena,
                              struct proto_purpose *ret)
{
    struct train_part part;
    struct train_plan *plan = arena_alloc(arena, 1, sizeof *plan);
    uint8_t job[16];
    if (!plan) {
        return E_NO_MEMORY;
    }
    if (train_model_job(service->context, model->weights.ptr, job)) {
        return E_NOT_FOUND;
    }
    struct span bytes = plan_of_job(service, job, arena);
    if (!bytes.ptr && train_part_load(service, job, arena, &part, NULL) == E_OK) {
        bytes = part.plan;
    }
    if (!bytes.ptr || proto_codec_decode(&train_plan_message, bytes, arena, plan, NULL) ||
        memcmp(plan->job_id.ptr, job, 16) != 0 ||
        !may_coordinate(plan, record->envelope.issuer.ptr)) {
        return E_NOT_FOUND;
    }
    *ret = plan->purpose;
    return E_OK;
}
