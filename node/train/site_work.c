/* What every request of a coordinator begins and ends with at a site: who sent it, what the plan means here, what the licence
 * says to it, and what is signed and audited. */
#include "config.h"
#include "node/train/site_internal.h"

#include "crypto/memory.h"
#include "crypto/provider.h"
#include "node/query/approval.h"
#include "node/query/clock.h"
#include "node/query/site.h"
#include "node/train/base.h"
#include "node/train/use.h"
#include "store/audit.h"
#include "store/job.h"
#include "store/records.h"

#include <math.h>
#include <stdio.h>

#define LICENCE_LAG_S 5

static const char *const charge_kinds[SITE_CHARGES] = {"steps", "sums", "histogram"};

void site_charge_id(const struct site_work *work, enum site_charge kind, uint8_t ret[16])
{
    train_charge_id(charge_kinds[kind], work->job_id.ptr, work->plan_hash, ret);
}

void train_charge_id(const char *kind, const uint8_t job_id[16], const uint8_t plan_hash[32],
                     uint8_t ret[16])
{
    uint8_t hash[32];
    const struct span parts[] = {span_of("concordat1-train-charge", 24),
                                 span_of(kind, strlen(kind) + 1), span_of(job_id, 16),
                                 span_of(plan_hash, 32)};
    crypto_sha256(parts, 4, hash);
    memcpy(ret, hash, 16);
}

void train_part_id(const uint8_t job_id[16], uint8_t ret[16])
{
    uint8_t hash[32];
    const struct span parts[] = {span_of("concordat1-train-part", 22), span_of(job_id, 16)};
    crypto_sha256(parts, 2, hash);
    memcpy(ret, hash, 16);
}

enum err train_part_load(struct train_service *service, const uint8_t job_id[16],
                         struct arena *arena, struct train_part *ret, struct err_info *reterr)
{
    uint8_t id[16];
    struct buf stored = {.max = STORE_JOB_MAX};
    train_part_id(job_id, id);
    enum err err = store_job_get(service->context->store, id, &stored, reterr);
    uint8_t *copy = err ? NULL : arena_alloc(arena, stored.len, 1);
    if (copy) {
        memcpy(copy, stored.ptr, stored.len);
        err = train_part_decode(span_of(copy, stored.len), arena, ret);
    } else if (!err) {
        err = E_NO_MEMORY;
    }
    buf_fini(&stored);
    return err;
}

enum err site_part_store(struct site_work *work, struct err_info *reterr)
{
    uint8_t id[16];
    struct buf out = {.max = STORE_JOB_MAX};
    train_part_id(work->part.job_id.ptr, id);
    enum err err = train_part_encode(&work->part, &out);
    if (!err) {
        err = store_job_put(work->context->store, id, buf_span(&out), reterr);
    }
    buf_fini(&out);
    return err;
}

enum err site_refuse(struct site_work *work, enum proto_reason reason, const char *detail)
{
    work->reason = reason;
    snprintf(work->detail, sizeof work->detail, "%s",
             detail && detail[0] ? detail : proto_reason_text(reason));
    return E_REFUSED;
}

void site_log(const struct site_work *work, const char *event, const char *detail)
{
    work->context->log(work->context->user, PEER_LOG_WARN, event, detail);
}

/* --- opening ----------------------------------------------------------------------------------------------------------- */

enum err site_open(struct site_work *work, const struct proto_message *message, const char *domain,
                   void *object, struct err_info *reterr)
{
    if (!peer_member_by_id(work->context->peer, peer_request_from(work->incoming),
                           &work->requester) ||
        work->requester.state == PEER_REVOKED) {
        return proto_err_set(reterr, E_REFUSED, "the sender is not a member");
    }
    return query_message_open(message, peer_request_body(work->incoming), domain,
                              work->requester.point, work->context->federation_id, &work->arena,
                              object, reterr);
}

enum err site_addressed(const struct site_work *work, struct span to, int64_t time,
                        struct err_info *reterr)
{
    if (memcmp(to.ptr, work->context->node_id, 16) != 0) {
        return proto_err_set(reterr, E_AUTH, "the message is meant for another node");
    }
    int64_t off = query_now() - time;
    if (off > TRAIN_CLOCK_TOLERANCE_S || off < -TRAIN_CLOCK_TOLERANCE_S) {
        return proto_err_set(reterr, E_REFUSED,
                             "the message's time is %llds off: check both clocks", (long long)off);
    }
    return E_OK;
}

/* Columns that the job uses: features, target and the time of an event; of notes all that are tokens or tags. */
static enum err name_columns(struct site_work *work)
{
    const struct proto_text *features = work->plan.features.items;
    work->columns = arena_alloc(&work->arena, work->plan.features.count + 2, sizeof *work->columns);
    work->column_count = 0;
    if (!work->columns) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < work->plan.features.count; i++) {
        work->columns[work->column_count] = arena_strdup(&work->arena, features[i].text);
        if (!work->columns[work->column_count++]) {
            return E_NO_MEMORY;
        }
    }
    const struct span others[] = {work->plan.target, work->plan.event_time};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const char *name = others[i].len ? arena_strdup(&work->arena, others[i]) : "";
        if (!name) {
            return E_NO_MEMORY;
        }
        if (name[0]) {
            work->columns[work->column_count++] = name;
        }
    }
    return E_OK;
}

/* Those of a notes' job stand in the schema. */
static enum err name_note_columns(struct site_work *work)
{
    const struct proto_schema *schema = &work->admission.schema;
    if (work->column_count) {
        return E_OK;
    }
    work->columns = arena_alloc(&work->arena, schema->count + 1, sizeof *work->columns);
    for (size_t i = 0; work->columns && i < schema->count; i++) {
        const struct proto_column *column = &schema->columns[i];
        if (column->type == PROTO_COLUMN_TOKENS || column->type == PROTO_COLUMN_TAGS) {
            work->columns[work->column_count++] = column->name;
        }
    }
    return work->columns ? E_OK : E_NO_MEMORY;
}

enum err site_name_plan(struct site_work *work, struct err_info *reterr)
{
    work->job_id = work->plan.job_id;
    bool fits = span_to_cstr(work->plan.purpose.person, work->person, sizeof work->person) &&
                span_to_cstr(work->plan.purpose.project, work->project, sizeof work->project) &&
                span_to_cstr(work->plan.dataset, work->dataset, sizeof work->dataset);
    enum err err = fits ? train_plan_check(&work->plan, reterr)
                        : proto_err_set(reterr, E_INVALID, "a name is too long");
    return err ? err : name_columns(work);
}

bool site_may_coordinate(const struct site_work *work)
{
    const struct query_node_ref *nodes = work->plan.coordinators.items;
    for (size_t i = 0; i < work->plan.coordinators.count; i++) {
        if (memcmp(nodes[i].node.ptr, work->requester.id, 16) == 0) {
            return true;
        }
    }
    return false;
}

/* --- deciding ---------------------------------------------------------------------------------------------------------- */

/* The noise multiplier that this site would add, where a grant states a least one; 0 elsewhere, where nobody asks. */
static double stated_noise(struct site_work *work, const struct query_admission *admission)
{
    const struct proto_grant *grants = admission->licence.grants.items;
    struct store_account account;
    struct train_cost cost;
    bool wanted = false;
    for (size_t i = 0; admission->has_licence && i < admission->licence.grants.count; i++) {
        wanted = wanted || grants[i].privacy.min_noise_u || grants[i].finetune.noise_mult_u;
    }
    if (!wanted || store_ledger_get(work->context->store, work->dataset, &account, NULL)) {
        return 0;
    }
    struct train_terms terms =
        train_plan_terms(&work->plan, admission->row.size ? admission->row.size : 1);
    return train_cost_plan(&terms, account.order, &cost, NULL) ? 0 : cost.sigma;
}

enum err site_decide_base(struct site_work *work, struct query_admission *admission,
                          bool look_inside)
{
    enum proto_reason reason;
    char detail[160];
    bool hold;
    train_plan_base_decide(work->service, &work->plan, &work->requester, NULL, look_inside, &reason,
                           &hold);
    if (hold && admission->decision.verdict == PROTO_PERMIT) {
        admission->decision.verdict = PROTO_HOLD;
        admission->decision.reason = PROTO_REASON_LICENSE_UNKNOWN;
    }
    if (reason == PROTO_REASON_NONE) {
        return E_OK;
    }
    snprintf(detail, sizeof detail, "base model %.*s: %s",
             (int)(work->plan.model_name.len < 64 ? work->plan.model_name.len : 64),
             work->plan.model_name.len ? (const char *)work->plan.model_name.ptr : "",
             proto_reason_text(reason));
    return site_refuse(work, reason, detail);
}

/* The verdict on this plan now: the licence's of the data, and of the model that it begins with. ADMISSION is loaded. */
enum err site_decide(struct site_work *work, struct query_admission *admission)
{
    const struct train_plan_site *sites = work->plan.sites.items;
    struct query_node_ref *nodes =
        arena_alloc(&admission->arena, work->plan.sites.count, sizeof *nodes);
    struct proto_text *columns =
        arena_alloc(&admission->arena, work->column_count, sizeof *columns);
    if (!columns || !nodes) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < work->column_count; i++) {
        columns[i].text = span_str(work->columns[i]);
    }
    for (size_t i = 0; i < work->plan.sites.count; i++) {
        nodes[i].node = sites[i].node;
    }
    struct proto_use use = {
        .actions = PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE) |
                   (work->plan.eval_every ? PROTO_ACTION_BIT(PROTO_ACTION_EVALUATE) : 0),
        .columns = {columns, work->column_count},
        .epsilon = work->plan.epsilon,
        .delta = (double)work->plan.delta_e12 / 1e12,
        .rounds = work->plan.rounds,
        .clip = work->plan.noise ? work->plan.clip : 0,
        .noise_multiplier = work->plan.noise ? stated_noise(work, admission) : 0,
        .nonprivate = !work->plan.noise,
    };
    query_admission_decide(work->context, admission, &work->requester, &work->plan.purpose, &use,
                           nodes, work->plan.sites.count, query_now());
    const struct proto_decision *decision = &admission->decision;
    if (decision->verdict != PROTO_DENY) {
        return site_decide_base(work, admission, false);
    }
    char why[PROTO_DECISION_TEXT_SIZE];
    const struct proto_licence *licence = admission->has_licence ? &admission->licence : NULL;
    return site_refuse(work, decision->reason, proto_decision_text(licence, decision, why));
}

/* What the person who approves a job sees of it. TEXT holds what HOLD points to. */
struct hold_texts {
    struct buf operations, question;
};

static enum err describe_hold(struct site_work *work, struct hold_texts *to, struct query_hold *ret)
{
    to->operations.max = to->question.max = STORE_APPROVAL_TEXT;
    enum err err =
        buf_printf(&to->operations, "finetune%s over ", work->plan.eval_every ? ", evaluate" : "");
    for (size_t i = 0; !err && i < work->column_count; i++) {
        err = buf_printf(&to->operations, "%s%s", i ? ", " : "", work->columns[i]);
    }
    err = err ? err
              : buf_printf(&to->question, "job %.*s: %llu rounds, %zu sites",
                           (int)work->plan.job.len, (const char *)work->plan.job.ptr,
                           (unsigned long long)work->plan.rounds, work->plan.sites.count);
    *ret = (struct query_hold){
        .kind = STORE_APPROVAL_JOB,
        .request = work->job_id.ptr,
        .subject = work->plan_hash,
        .person = work->person,
        .project = work->project,
        .purpose = &work->plan.purpose,
        .operations = arena_strdup(&work->arena, buf_span(&to->operations)),
        .question = arena_strdup(&work->arena, buf_span(&to->question)),
        .shape = work->plan.noise ? "a model, each round one clipped and noised update"
                                  : "a model, each round one update without noise",
        .epsilon_u = (uint64_t)llround(work->plan.epsilon * 1e6),
        .delta_e12 = work->plan.delta_e12,
        .cost_nano = work->admit.cost_nano,
    };
    buf_fini(&to->operations);
    buf_fini(&to->question);
    return err ? err : (ret->operations && ret->question ? E_OK : E_NO_MEMORY);
}

/* A verdict of HOLD is a permission once a person has approved the job; an approval that was taken back ends it. */
enum err site_check_approval(struct site_work *work, struct query_admission *admission)
{
    struct hold_texts texts = {0};
    struct query_hold hold;
    if (admission->decision.verdict != PROTO_HOLD) {
        return E_OK;
    }
    enum err err = describe_hold(work, &texts, &hold);
    if (!err && !query_approval_stands(work->context, admission, &work->requester, &hold)) {
        err = site_refuse(work, admission->decision.reason, NULL);
    }
    return err;
}

/* The same for an offer: where nobody has decided yet, it is put before a person. */
enum err site_wait_for_person(struct site_work *work, struct err_info *reterr)
{
    struct hold_texts texts = {0};
    struct query_hold hold;
    struct query_held held;
    if (work->admission.decision.verdict != PROTO_HOLD || work->offer.explain) {
        return site_check_approval(work, &work->admission);
    }
    enum err err = describe_hold(work, &texts, &hold);
    if (!err) {
        err = query_approval_ask(work->context, &work->admission, &work->requester, &hold, &held,
                                 reterr);
    }
    switch (err) {
    case E_APPROVAL:
        return site_refuse(work, work->admission.decision.reason, held.detail);
    case E_REFUSED:
        return site_refuse(work, PROTO_REASON_DENIED, held.detail);
    case E_LIMIT:
        return site_refuse(work, PROTO_REASON_RATE, "too many requests wait for a person already");
    default:
        return err;
    }
}

/* The base model of this name that we know is the one that the plan means. */
static enum err check_model(struct site_work *work)
{
    char name[65];
    struct train_base base;
    if (!work->plan.model_name.len || !span_to_cstr(work->plan.model_name, name, sizeof name) ||
        train_base_find(work->context->store, name, &base, NULL)) {
        return E_OK; /* none of that name: it comes from the coordinator, by its hash */
    }
    return memcmp(base.hash, work->plan.model.ptr, 32) == 0
               ? E_OK
               : site_refuse(work, PROTO_REASON_MODEL, NULL);
}

/* The plan relies on one licence record of each site: on ours as it stands, and on no other of the others' than we know. */
enum err site_check_licences(struct site_work *work)
{
    const struct train_plan_site *sites = work->plan.sites.items;
    bool named = false;
    for (size_t i = 0; i < work->plan.sites.count; i++) {
        uint8_t id[16];
        bool ours = memcmp(sites[i].node.ptr, work->context->node_id, 16) == 0;
        enum err err = train_licence_id(work->context, sites[i].node.ptr, work->dataset, id);
        named = named || ours;
        if (err == E_NOT_FOUND) {
            return E_BUSY; /* it is still under way to us */
        }
        if (err) {
            return err;
        }
        if (memcmp(id, sites[i].licence.ptr, 16) != 0) {
            /* A record may still be under way, to us or to the coordinator. */
            return query_now() - work->plan.time < LICENCE_LAG_S
                       ? E_BUSY
                       : site_refuse(work, PROTO_REASON_LICENSE_SET, NULL);
        }
    }
    return named ? E_OK : site_refuse(work, PROTO_REASON_BAD_REQUEST, "the plan does not name us");
}

/* Since the plan was made. */
static bool site_withdrew(struct site_work *work, const struct train_plan_site *site,
                          const uint8_t key[16])
{
    static const uint8_t none[16];
    struct arena arena = {0};
    struct peer_member member;
    struct span bytes;
    struct proto_record record;
    bool forked = false;
    if (memcmp(site->licence.ptr, none, sizeof none) == 0) {
        return false; /* it had no licence in force then, so that it is not of the job */
    }
    bool gone = peer_member_by_id(work->context->peer, site->node.ptr, &member) &&
                member.state == PEER_REVOKED;
    if (!gone && store_records_get(work->context->store, site->node.ptr, key, PROTO_RECORD_LICENCE,
                                   &arena, &bytes, &forked) == E_OK) {
        bool readable = proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK;
        gone = forked || !readable || (record.envelope.flags & PROTO_RECORD_FINAL);
    }
    arena_fini(&arena);
    return gone;
}

enum err site_check_others(struct site_work *work)
{
    const struct train_plan_site *sites = work->plan.sites.items;
    uint8_t key[16];
    proto_record_key(&crypto_proto_hash, work->dataset, key);
    for (size_t i = 0; i < work->plan.sites.count; i++) {
        if (site_withdrew(work, &sites[i], key)) {
            return site_refuse(work, PROTO_REASON_REVOKED,
                               "a site of the plan no longer permits the use of its data");
        }
    }
    return E_OK;
}

enum err site_understand(struct site_work *work, struct err_info *reterr)
{
    struct err_info clock = {0};
    if (query_clock_check(work->context->peer, &clock)) {
        return site_refuse(work, PROTO_REASON_CLOCK, NULL);
    }
    enum err err = query_admission_load(work->context, work->dataset, &work->admission, reterr);
    if (err == E_NOT_FOUND) {
        return site_refuse(work, PROTO_REASON_NO_LICENSE, "this node holds no such dataset");
    }
    if (err) {
        return err;
    }
    if (memcmp(work->admission.schema_hash, work->plan.schema_hash.ptr, 32) != 0) {
        return site_refuse(work, PROTO_REASON_SCHEMA, "this site's schema of the dataset differs");
    }
    struct err_info info = {0};
    err = train_learner_check(&work->plan, &work->admission.schema, &info);
    if (err == E_UNSUPPORTED) {
        return site_refuse(work, PROTO_REASON_UNSUPPORTED, info.text);
    }
    if (err) {
        return err == E_NO_MEMORY ? err : site_refuse(work, PROTO_REASON_BAD_REQUEST, info.text);
    }
    if (work->plan.trainer.len &&
        !train_trainer_find(work->context->trainers, work->context->trainer_count,
                            work->plan.trainer)) {
        return site_refuse(work, PROTO_REASON_UNSUPPORTED,
                           "this site has no such trainer; its operator names one under "
                           "`trainers:` in node.yaml");
    }
    err = name_note_columns(work);
    return err ? err : check_model(work);
}

/* --- records ----------------------------------------------------------------------------------------------------------- */

enum err site_audit_body(struct site_work *work, const char *verdict, struct buf *out)
{
    char id[33];
    char hash[65];
    char epsilon[32];
    char record[33] = "";
    span_to_hex(work->job_id, id);
    span_to_hex(span_of(work->plan_hash, 32), hash);
    snprintf(epsilon, sizeof epsilon, "%.6f", work->plan.epsilon);
    if (work->admission.has_record) {
        span_to_hex(span_of(work->admission.record.id, 16), record);
    }
    char agreement[33] = "";
    if (work->admission.agreed) {
        span_to_hex(span_of(work->admission.agreement, 16), agreement);
    }
    char decision[65];
    query_admission_digest(work->context, &work->admission, decision);
    return query_audit_text(out, "job", id, "plan", hash, "dataset", work->dataset, "node",
                            work->requester.name, "institution", work->requester.org, "person",
                            work->person, "project", work->project, "epsilon", epsilon, "licence",
                            record, "agreement", agreement, "verdict", verdict, "decision",
                            decision, (const char *)NULL);
}

enum err site_audit(struct site_work *work, const char *kind, const char *verdict,
                    struct err_info *reterr)
{
    struct buf body = {.max = STORE_AUDIT_BODY};
    enum err err = site_audit_body(work, verdict, &body);
    if (!err) {
        err = store_audit_append(work->context->store, kind, buf_span(&body), query_now(), reterr);
    }
    buf_fini(&body);
    return err;
}

enum err site_head(struct site_work *work, struct span *ret)
{
    struct store_audit_head head;
    uint8_t *bytes = arena_alloc(&work->arena, STORE_AUDIT_HEAD_SIZE, 1);
    if (!bytes) {
        return E_NO_MEMORY;
    }
    enum err err = store_audit_head(work->context->store, &head);
    if (!err) {
        store_audit_head_encode(&head, bytes);
        *ret = span_of(bytes, STORE_AUDIT_HEAD_SIZE);
    }
    return err;
}

/* --- the machine -------------------------------------------------------------------------------------------------------- */

/* What the machine of proto/round_site.h says no with, in words. */
enum err site_machine_refuses(struct site_work *work, const char *reason)
{
    static const struct {
        const char *reason, *text;
    } texts[] = {
        {"NO_PLAN", "no such job was admitted here"},
        {"OTHER_PLAN", "another plan was admitted under this job's id"},
        {"ENDED", "the job has ended at this site"},
        {"NO_SUCH_ROUND", "the plan has no such round"},
        {"OLD_TERM", "a later life of the coordinator has asked already"},
        {"ROUND_PASSED", "a later round was begun already"},
        {"TRAINER", "the site's trainer did not do its work; its operator's log says more"},
    };
    if (strcmp(reason, PROTO_ROUND_REASON_STEPS) == 0) {
        return site_refuse(work, PROTO_REASON_STEPS_USED_UP,
                           "a round that a crash cuts off uses its steps up");
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(reason, texts[i].reason) == 0) {
            return site_refuse(work, PROTO_REASON_BAD_REQUEST, texts[i].text);
        }
    }
    return site_refuse(work, PROTO_REASON_BAD_REQUEST, reason);
}

/* Asks the machine about the part as it is on disk. */
enum err site_ask_machine(struct site_work *work, enum proto_round_site_event_kind kind,
                          struct proto_round_site *site, struct proto_round_site_reply *ret)
{
    bool plan = kind == PROTO_ROUND_SITE_PLAN;
    struct proto_round_site_event event = {
        .kind = kind,
        .rounds = plan ? work->plan.rounds : 0,
        .steps_per_round = plan ? work->cost.steps : 0,
        .steps = plan ? work->cost.steps * work->cost.rounds : 0,
        .round = kind == PROTO_ROUND_SITE_ROUND ? work->round.round : 0,
        .term = kind == PROTO_ROUND_SITE_ROUND ? work->round.term : work->offer.term,
        .reopened = plan && work->part.end == TRAIN_END_STOPPED,
        .stored = work->stored,
        .permitted = true, /* the licence was asked before */
    };
    memcpy(event.plan_hash, work->plan_hash, sizeof event.plan_hash);
    proto_round_site_step(site, &event, ret);
    return ret->answer == PROTO_ROUND_SITE_REFUSE ? site_machine_refuses(work, ret->reason) : E_OK;
}

/* --- life -------------------------------------------------------------------------------------------------------------- */

struct site_work *site_work_new(struct train_service *service, struct peer_request *request)
{
    struct site_work *work = proto_alloc(1, sizeof *work);
    if (work) {
        work->service = service;
        work->context = service->context;
        work->incoming = request;
        work->started_ms = query_now_ms();
        work->bytes.max = PEER_MESSAGE_MAX;
        work->update.update = TRAIN_BLOB_NONE;
        work->update.base = span_str("");
        work->update.evaluation.sums = work->update.evaluation.histograms = span_str("");
    }
    return work;
}

void site_work_free(struct site_work *work)
{
    query_admission_fini(&work->admission);
    train_learner_close(work->learner);
    buf_fini(&work->bytes);
    arena_fini(&work->arena);
    crypto_wipe(work, sizeof *work);
    proto_free(work);
}

void site_reply_at(struct site_work *work, uint64_t at_ms, enum err err)
{
    if (work->incoming) {
        peer_reply_at(work->incoming, at_ms, err, err ? SPAN_NONE : buf_span(&work->bytes));
    }
    site_work_free(work);
}

void site_reply(struct site_work *work, enum err err)
{
    site_reply_at(work, 0, err);
}

bool site_refusing(const struct query_context *context)
{
    return context->refusing && context->refusing(context->user);
}
