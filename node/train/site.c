/* A site's side of training: decide, reserve all steps, and in each round mark, compute, store, send. In that order. */
#include "config.h"
#include "node/train/internal.h"

#include "crypto/memory.h"
#include "crypto/provider.h"
#include "crypto/random.h"
#include "node/query/admission.h"
#include "node/query/approval.h"
#include "node/query/site.h"
#include "node/train/table.h"
#include "proto/privacy.h"
#include "store/audit.h"
#include "store/egress.h"
#include "store/job.h"

#include <math.h>
#include <stdio.h>

#define LICENCE_CHECK_MS 500 /* how often a running round looks whether it is still allowed */

/* Everything about one request of a coordinator. */
struct work {
    struct train_service *service;
    struct query_context *context;
    struct peer_request *incoming;
    uint64_t started_ms;
    struct arena arena;
    struct peer_member requester;
    struct span job_id;
    uint8_t plan_hash[32];
    struct train_plan plan;
    char person[129], project[129], dataset[65], target[64];
    const char **columns; /* features, then the target */
    size_t column_count;
    struct query_admission admission;
    struct train_encoding encoding;
    enum proto_reason reason;
    char detail[512];
    struct train_cost cost;
    struct store_account account;
    uint64_t domain_step_nano;
    /* of an offer */
    struct train_offer offer;
    struct train_admit admit;
    /* of a round */
    struct train_round round;
    struct train_update update;
    struct train_part part;
    bool stored;      /* this round was answered, and the answer is in bytes */
    uint64_t granted; /* steps of this round */
    struct train_busy *busy;
    struct train_tables tables;
    uint64_t checked_ms;
    bool withdrawn;
    struct buf bytes; /* what leaves */
};

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

static enum err part_store(struct work *work, struct err_info *reterr)
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

static enum err refuse(struct work *work, enum proto_reason reason, const char *detail)
{
    work->reason = reason;
    snprintf(work->detail, sizeof work->detail, "%s",
             detail && detail[0] ? detail : proto_reason_text(reason));
    return E_REFUSED;
}

static void log_event(const struct work *work, const char *event, const char *detail)
{
    work->context->log(work->context->user, PEER_LOG_WARN, event, detail);
}

/* --- what both kinds of request begin with ------------------------------------------------------------------------- */

static enum err open_message(struct work *work, const struct proto_message *message,
                             const char *domain, void *object, struct err_info *reterr)
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

static enum err check_addressed(const struct work *work, struct span to, int64_t time,
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

/* Names of the plan as C strings. */
static enum err name_plan(struct work *work, struct err_info *reterr)
{
    const struct proto_text *features = work->plan.features.items;
    work->job_id = work->plan.job_id;
    work->column_count = work->plan.features.count + 1;
    work->columns = arena_alloc(&work->arena, work->column_count, sizeof *work->columns);
    bool fits = span_to_cstr(work->plan.purpose.person, work->person, sizeof work->person) &&
                span_to_cstr(work->plan.purpose.project, work->project, sizeof work->project) &&
                span_to_cstr(work->plan.dataset, work->dataset, sizeof work->dataset) &&
                span_to_cstr(work->plan.target, work->target, sizeof work->target);
    if (!fits) {
        return proto_err_set(reterr, E_INVALID, "a name is too long");
    }
    for (size_t i = 0; work->columns && i < work->plan.features.count; i++) {
        work->columns[i] = arena_strdup(&work->arena, features[i].text);
        if (!work->columns[i]) {
            return E_NO_MEMORY;
        }
    }
    if (!work->columns) {
        return E_NO_MEMORY;
    }
    work->columns[work->column_count - 1] = work->target;
    return E_OK;
}

/* The noise multiplier that this site would add, where a grant states a least one; 0 elsewhere, where nobody asks. */
static double stated_noise(struct work *work, const struct query_admission *admission)
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

/* The licence's verdict on this plan now. ADMISSION is loaded. */
static enum err decide(struct work *work, struct query_admission *admission)
{
    struct proto_text *columns =
        arena_alloc(&admission->arena, work->column_count, sizeof *columns);
    if (!columns) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < work->column_count; i++) {
        columns[i].text = span_str(work->columns[i]);
    }
    struct proto_use use = {
        .actions = PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE) |
                   (work->plan.eval_every ? PROTO_ACTION_BIT(PROTO_ACTION_EVALUATE) : 0),
        .columns = {columns, work->column_count},
        .epsilon = work->plan.epsilon,
        .delta = (double)work->plan.delta_e12 / 1e12,
        .rounds = work->plan.rounds,
        .clip = work->plan.clip,
        .noise_multiplier = stated_noise(work, admission),
    };
    query_admission_decide(work->context, admission, &work->requester, &work->plan.purpose, &use,
                           work->plan.sites.items, work->plan.sites.count, query_now());
    const struct proto_decision *decision = &admission->decision;
    return decision->verdict == PROTO_DENY ? refuse(work, decision->reason, NULL) : E_OK;
}

/* What the person who approves a job sees of it. TEXT holds what HOLD points to. */
struct hold_texts {
    struct buf operations, question;
};

static enum err describe_hold(struct work *work, struct hold_texts *to, struct query_hold *ret)
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
        .shape = "a model, each round one clipped and noised update",
        .epsilon_u = (uint64_t)llround(work->plan.epsilon * 1e6),
        .delta_e12 = work->plan.delta_e12,
        .cost_nano = work->admit.cost_nano,
    };
    buf_fini(&to->operations);
    buf_fini(&to->question);
    return err ? err : (ret->operations && ret->question ? E_OK : E_NO_MEMORY);
}

/* A verdict of HOLD is a permission once a person has approved the job; an approval that was taken back ends it. */
static enum err check_approval(struct work *work, struct query_admission *admission)
{
    struct hold_texts texts = {0};
    struct query_hold hold;
    if (admission->decision.verdict != PROTO_HOLD) {
        return E_OK;
    }
    enum err err = describe_hold(work, &texts, &hold);
    if (!err && !query_approval_stands(work->context, admission, &work->requester, &hold)) {
        err = refuse(work, admission->decision.reason, NULL);
    }
    return err;
}

/* The same for an offer: where nobody has decided yet, it is put before a person. */
static enum err wait_for_person(struct work *work, struct err_info *reterr)
{
    struct hold_texts texts = {0};
    struct query_hold hold;
    struct query_held held;
    if (work->admission.decision.verdict != PROTO_HOLD || work->offer.explain) {
        return check_approval(work, &work->admission);
    }
    enum err err = describe_hold(work, &texts, &hold);
    if (!err) {
        err = query_approval_ask(work->context, &work->admission, &work->requester, &hold, &held,
                                 reterr);
    }
    switch (err) {
    case E_APPROVAL:
        return refuse(work, work->admission.decision.reason, held.detail);
    case E_REFUSED:
        return refuse(work, PROTO_REASON_DENIED, held.detail);
    case E_LIMIT:
        return refuse(work, PROTO_REASON_RATE, "too many requests wait for a person already");
    default:
        return err;
    }
}

/* Our own schema decides what the plan means. */
static enum err understand(struct work *work, struct err_info *reterr)
{
    struct err_info clock = {0};
    if (query_clock_check(work->context->peer, &clock)) {
        return refuse(work, PROTO_REASON_CLOCK, NULL);
    }
    enum err err = query_admission_load(work->context, work->dataset, &work->admission, reterr);
    if (err == E_NOT_FOUND) {
        return refuse(work, PROTO_REASON_NO_LICENSE, "this node holds no such dataset");
    }
    if (err) {
        return err;
    }
    if (memcmp(work->admission.schema_hash, work->plan.schema_hash.ptr, 32) != 0) {
        return refuse(work, PROTO_REASON_SCHEMA, "this site's schema of the dataset differs");
    }
    struct err_info info = {0};
    err = train_encoding_plan(&work->admission.schema, work->columns, work->column_count - 1,
                              work->target, &work->encoding, &info);
    if (err == E_UNSUPPORTED) {
        return refuse(work, PROTO_REASON_UNSUPPORTED, info.text);
    }
    return err ? refuse(work, PROTO_REASON_BAD_REQUEST, info.text) : E_OK;
}

/* --- offers -------------------------------------------------------------------------------------------------------- */

/* What the model owes travels with the admission. */
static enum err terms_out(struct work *work)
{
    const struct proto_decision *decision = &work->admission.decision;
    struct proto_text *duties = arena_alloc(&work->arena, decision->duty_count, sizeof *duties);
    if (!duties) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < decision->duty_count; i++) {
        duties[i].text = decision->duties[i].id;
    }
    work->admit.duties = (struct proto_list){duties, decision->duty_count};
    work->admit.release = decision->release;
    work->admit.licence_id = span_of(work->admission.record.id, 16);
    return E_OK;
}

static enum err price(struct work *work, struct err_info *reterr)
{
    struct store_account domain;
    enum err err = store_ledger_get(work->context->store, work->dataset, &work->account, reterr);
    if (!err) {
        err = store_ledger_domain_get(work->context->store, work->account.domain, &domain, reterr);
    }
    if (err) {
        return err;
    }
    struct err_info info = {0};
    /* The size that the world knows of; the true number of units is nobody's business. */
    struct train_terms terms =
        train_plan_terms(&work->plan, work->admission.row.size ? work->admission.row.size : 1);
    err = train_cost_plan(&terms, work->account.order, &work->cost, &info);
    if (err) {
        return err == E_NO_MEMORY ? err : refuse(work, PROTO_REASON_BAD_REQUEST, info.text);
    }
    work->domain_step_nano =
        proto_privacy_sgd_step_nano(work->cost.rate, work->cost.sigma, domain.order);
    work->admit.size = terms.size;
    work->admit.sigma = work->cost.sigma;
    work->admit.steps = work->cost.steps;
    work->admit.cost_nano = train_cost_total(&work->cost);
    if (work->cost.step_nano == UINT64_MAX || work->domain_step_nano == UINT64_MAX ||
        work->admit.cost_nano > INT64_MAX) {
        return refuse(work, PROTO_REASON_BUDGET, "a step costs more than any budget");
    }
    return E_OK;
}

static void fill_budget(struct work *work)
{
    work->admit.cap_nano = work->account.cap_nano;
    work->admit.spent_nano = work->account.spent_nano;
    work->admit.account_delta_e12 = store_account_conversion_e12(&work->account);
}

static struct store_charge charge_of(struct work *work, const char *kind, uint64_t nano,
                                     uint64_t nano_domain, uint64_t steps)
{
    struct store_charge charge = {
        .dataset = work->dataset,
        .person = work->person,
        .project = work->project,
        .institution = work->requester.org,
        .node = work->requester.name,
        .kind = STORE_CHARGE_TRAIN,
        .nano = nano,
        .nano_domain = nano_domain,
        .steps = steps,
        .caps = query_admission_caps(work->context, &work->account),
        .now = query_now(),
    };
    train_charge_id(kind, work->job_id.ptr, work->plan_hash, charge.id);
    return charge;
}

static enum err audit_body(struct work *work, const char *verdict, struct buf *out)
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

static enum err audit_append(struct work *work, const char *kind, const char *verdict,
                             struct err_info *reterr)
{
    struct buf body = {.max = STORE_AUDIT_BODY};
    enum err err = audit_body(work, verdict, &body);
    if (!err) {
        err = store_audit_append(work->context->store, kind, buf_span(&body), query_now(), reterr);
    }
    buf_fini(&body);
    return err;
}

static const char *const charge_kinds[] = {"steps", "sums", "histogram"};

static struct store_charge charge_number(struct work *work, size_t i)
{
    const struct train_cost *cost = &work->cost;
    if (i == 0) {
        return charge_of(work, charge_kinds[0], cost->step_nano, work->domain_step_nano,
                         cost->steps * cost->rounds);
    }
    return i == 1 ? charge_of(work, charge_kinds[1], cost->sums_nano, cost->sums_nano,
                              cost->evaluations)
                  : charge_of(work, charge_kinds[2], cost->hist_nano, cost->hist_nano,
                              cost->hist_nano ? 1 : 0);
}

/* Gives back what never started. What was never reserved, or was finished before, is fine. */
static enum err finish_charges(struct work *work, struct err_info *reterr)
{
    enum err result = E_OK;
    struct buf body = {.max = STORE_AUDIT_BODY};
    enum err err = audit_body(work, "FINISHED", &body);
    for (size_t i = 0; !err && i < sizeof charge_kinds / sizeof *charge_kinds; i++) {
        uint8_t id[16];
        uint64_t started;
        train_charge_id(charge_kinds[i], work->job_id.ptr, work->plan_hash, id);
        enum err one = store_ledger_finish(work->context->store, id, buf_span(&body), query_now(),
                                           &started, reterr);
        result = one == E_NOT_FOUND || one == E_EXISTS ? result : (one ? one : result);
    }
    buf_fini(&body);
    return err ? err : result;
}

/* All or nothing. A reservation that is there already is ours from before a crash: its id holds the plan's hash. */
static enum err reserve(struct work *work, struct err_info *reterr)
{
    struct buf body = {.max = STORE_AUDIT_BODY};
    struct err_info info = {0};
    enum err err = audit_body(work, "PERMIT", &body);
    for (size_t i = 0; !err && i < sizeof charge_kinds / sizeof *charge_kinds; i++) {
        struct store_charge charge = charge_number(work, i);
        charge.audit_body = buf_span(&body);
        if (charge.steps == 0) {
            continue;
        }
        err = store_ledger_reserve(work->context->store, &charge, &work->account, &info);
        err = err == E_EXISTS ? E_OK : err;
    }
    buf_fini(&body);
    if (err == E_BUDGET_EXHAUSTED) {
        enum err back = finish_charges(work, reterr);
        return back ? back : refuse(work, PROTO_REASON_BUDGET, info.text);
    }
    return err ? proto_err_set(reterr, err, "%s", info.text) : E_OK;
}

/* What --explain asks: would the ledger admit the whole of it? */
static enum err probe(struct work *work, struct err_info *reterr)
{
    uint64_t domain = work->admit.cost_nano;
    uint64_t steps = work->cost.steps * work->cost.rounds;
    domain = domain - steps * work->cost.step_nano + steps * work->domain_step_nano;
    struct store_charge charge = charge_of(work, "explain", work->admit.cost_nano, domain, 1);
    enum err err = store_ledger_probe(work->context->store, &charge, NULL, reterr);
    return err == E_BUDGET_EXHAUSTED
               ? refuse(work, PROTO_REASON_BUDGET, reterr ? reterr->text : NULL)
               : err;
}

static enum err head_out(struct work *work, struct span *ret)
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

static enum err seal_admit(struct work *work, bool admitted, struct err_info *reterr)
{
    struct train_admit *admit = &work->admit;
    enum err err = head_out(work, &admit->head);
    admit->version = TRAIN_VERSION;
    admit->job_id = work->job_id;
    admit->plan_hash = span_of(work->plan_hash, 32);
    admit->admitted = admitted;
    admit->error = span_str(proto_err_name(admitted ? E_OK : proto_reason_err(work->reason)));
    admit->reason = span_str(admitted ? "" : proto_reason_name(work->reason));
    admit->detail = span_str(work->detail);
    if (!admit->licence_id.ptr) {
        static const uint8_t none[16];
        admit->licence_id = span_of(none, sizeof none);
    }
    fill_budget(work);
    work->bytes.len = 0;
    return err ? err
               : query_message_seal(&train_admit_message, admit, TRAIN_ADMIT_DOMAIN,
                                    work->context->identity, work->context->federation_id,
                                    &work->bytes, reterr);
}

/* What the machine of proto/round_site.h says no with, in words. */
static enum err machine_refuses(struct work *work, const char *reason)
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
    };
    if (strcmp(reason, "STEPS_USED_UP") == 0) {
        return refuse(work, PROTO_REASON_BUDGET,
                      "the steps that were reserved for this job are used up");
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(reason, texts[i].reason) == 0) {
            return refuse(work, PROTO_REASON_BAD_REQUEST, texts[i].text);
        }
    }
    return refuse(work, PROTO_REASON_BAD_REQUEST, reason);
}

/* Asks the machine about the part as it is on disk. */
static enum err ask_machine(struct work *work, enum proto_round_site_event_kind kind,
                            struct proto_round_site *site, struct proto_round_site_reply *ret)
{
    bool plan = kind == PROTO_ROUND_SITE_PLAN;
    struct proto_round_site_event event = {
        .kind = kind,
        .rounds = plan ? work->plan.rounds : 0,
        .steps_per_round = plan ? work->cost.steps : 0,
        .steps = plan ? work->cost.steps * work->cost.rounds : 0,
        .round = kind == PROTO_ROUND_SITE_ROUND ? work->round.round : 0,
        .term = kind == PROTO_ROUND_SITE_ROUND ? work->round.term : 0,
        .stored = work->stored,
        .permitted = true, /* the licence was asked before */
    };
    memcpy(event.plan_hash, work->plan_hash, sizeof event.plan_hash);
    proto_round_site_step(site, &event, ret);
    return ret->answer == PROTO_ROUND_SITE_REFUSE ? machine_refuses(work, ret->reason) : E_OK;
}

/* E_EXISTS: the same plan was admitted before and its answer is in bytes. */
static enum err known(struct work *work, struct err_info *reterr)
{
    enum err err =
        train_part_load(work->service, work->job_id.ptr, &work->arena, &work->part, reterr);
    if (err) {
        return err == E_NOT_FOUND ? E_OK : err;
    }
    if (memcmp(work->part.coordinator.ptr, work->requester.id, 16) != 0) {
        return refuse(work, PROTO_REASON_BAD_REQUEST, "another node coordinates this job");
    }
    struct proto_round_site site;
    struct proto_round_site_reply answer;
    train_part_machine(&work->part, 0, &site);
    err = ask_machine(work, PROTO_ROUND_SITE_PLAN, &site, &answer);
    if (err) {
        return err;
    }
    err = buf_put(&work->bytes, work->part.admit);
    return err ? err : E_EXISTS;
}

static enum err keep_part(struct work *work, struct err_info *reterr)
{
    struct proto_round_site site = {.state = PROTO_ROUND_SITE_NONE};
    struct proto_round_site_reply answer;
    uint8_t *key = arena_alloc(&work->arena, 16, 1);
    enum err err = key ? crypto_random(key, 16) : E_NO_MEMORY;
    if (!err) {
        err = ask_machine(work, PROTO_ROUND_SITE_PLAN, &site, &answer);
    }
    if (err) {
        return err;
    }
    work->part = (struct train_part){
        .version = TRAIN_VERSION,
        .job_id = work->job_id,
        .plan_hash = span_of(work->plan_hash, 32),
        .coordinator = span_of(work->requester.id, 16),
        .key = span_of(key, 16),
        .plan = work->offer.plan,
        .admit = buf_span(&work->bytes),
        .rate = work->cost.rate,
        .sigma = work->cost.sigma,
        .size = work->admit.size,
        .steps = work->cost.steps,
        .rounds = work->cost.rounds,
        .evaluations = work->cost.evaluations,
        .sums_nano = work->cost.sums_nano,
        .hist_nano = work->cost.hist_nano,
        .time = query_now(),
    };
    return part_store(work, reterr);
}

static enum err admit(struct work *work, struct err_info *reterr)
{
    enum err err = understand(work, reterr);
    if (!err) {
        err = decide(work, &work->admission);
        enum err out = work->offer.explain ? query_admission_clauses(&work->admission, &work->arena,
                                                                     &work->admit.clauses)
                                           : E_OK;
        err = out ? out : err;
    }
    if (!err && !work->offer.explain) {
        err = known(work, reterr);
    }
    if (!err) {
        err = terms_out(work);
    }
    if (!err) {
        err = price(work, reterr);
    }
    if (!err) {
        err = wait_for_person(work, reterr);
    }
    if (!err) {
        err = work->offer.explain ? probe(work, reterr) : reserve(work, reterr);
    }
    if (!err) {
        err = seal_admit(work, true, reterr);
    }
    if (!err && !work->offer.explain) {
        err = keep_part(work, reterr);
    }
    return err == E_EXISTS ? E_OK : err;
}

static enum err open_offer(struct work *work, struct err_info *reterr)
{
    enum err err =
        open_message(work, &train_offer_message, TRAIN_PLAN_DOMAIN, &work->offer, reterr);
    if (!err) {
        err = check_addressed(work, work->offer.to, work->offer.time, reterr);
    }
    if (!err) {
        err = proto_codec_decode(&train_plan_message, work->offer.plan, &work->arena, &work->plan,
                                 reterr);
    }
    if (!err) {
        train_plan_hash(work->offer.plan, work->plan_hash);
        err = name_plan(work, reterr);
    }
    return err;
}

/* A refusal is an answer: signed, audited, sent. Anything else that went wrong is told without its cause. */
static enum err finish_offer(struct work *work, enum err err, const struct err_info *info)
{
    struct err_info second = {0};
    if (!err) {
        return E_OK;
    }
    if (err != E_REFUSED) {
        log_event(work, "train.failed", info->text[0] ? info->text : proto_err_name(err));
        (void)refuse(work, PROTO_REASON_SUSPENDED, "the site cannot answer now");
    }
    if (!work->offer.explain &&
        audit_append(work, "train.refused", proto_reason_name(work->reason), &second)) {
        log_event(work, "audit.failed", second.text);
        return E_IO;
    }
    return seal_admit(work, false, NULL);
}

static struct work *work_new(struct train_service *service, struct peer_request *request)
{
    struct work *work = proto_alloc(1, sizeof *work);
    if (work) {
        work->service = service;
        work->context = service->context;
        work->incoming = request;
        work->started_ms = query_now_ms();
        work->bytes.max = PEER_MESSAGE_MAX;
        work->update.weights = work->update.evaluation.histograms = span_str("");
    }
    return work;
}

static void work_free(struct work *work)
{
    query_admission_fini(&work->admission);
    train_tables_fini(&work->tables);
    buf_fini(&work->bytes);
    arena_fini(&work->arena);
    crypto_wipe(work, sizeof *work);
    proto_free(work);
}

static void reply_at(struct work *work, uint64_t at_ms, enum err err)
{
    struct peer_request *incoming = work->incoming;
    peer_reply_at(incoming, at_ms, err, err ? SPAN_NONE : buf_span(&work->bytes));
    work_free(work);
}

static void reply(struct work *work, enum err err)
{
    reply_at(work, 0, err);
}

static bool refusing(const struct query_context *context)
{
    return context->refusing && context->refusing(context->user);
}

void train_site_plan(struct peer_request *request, void *user)
{
    struct train_service *service = user;
    struct err_info info = {0};
    struct work *work = work_new(service, request);
    if (!work || refusing(service->context) || service->stopping) {
        enum err err = work ? E_BUSY : E_NO_MEMORY;
        if (work) {
            work_free(work);
        }
        peer_reply(request, err, SPAN_NONE);
        return;
    }
    enum err err = open_offer(work, &info);
    if (err || work->offer.stop) {
        reply(work, err ? err : E_INVALID);
        return;
    }
    pthread_mutex_lock(&service->offers);
    err = admit(work, &info);
    pthread_mutex_unlock(&service->offers);
    err = finish_offer(work, err, &info);
    if (!err && memcmp(work->requester.id, service->context->node_id, 16) != 0) {
        store_egress_count(service->context->store, work->requester.name, "train", work->bytes.len);
    }
    reply(work, err);
}

/* --- one job at a time at one site ----------------------------------------------------------------------------------- */

static struct train_busy *find_busy(struct train_service *service, const uint8_t job_id[16])
{
    struct train_busy *busy = service->busy;
    while (busy && memcmp(busy->job_id, job_id, 16) != 0) {
        busy = busy->next;
    }
    return busy;
}

/* Waits until nobody else works for this job. STOP: whoever does is told to leave off. */
static enum err enter(struct train_service *service, struct train_busy *busy, bool stop)
{
    enum err err = E_OK;
    pthread_mutex_lock(&service->lock);
    struct train_busy *other;
    while (!service->stopping && (other = find_busy(service, busy->job_id)) != NULL) {
        if (stop) {
            other->cancel = true;
        }
        pthread_cond_wait(&service->changed, &service->lock);
    }
    if (service->stopping) {
        err = E_BUSY;
    } else {
        busy->next = service->busy;
        service->busy = busy;
    }
    pthread_mutex_unlock(&service->lock);
    return err;
}

static void leave(struct train_service *service, struct train_busy *busy)
{
    pthread_mutex_lock(&service->lock);
    struct train_busy **at = &service->busy;
    while (*at != busy) {
        at = &(*at)->next;
    }
    *at = busy->next;
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
}

static enum err stop_part(struct work *work, struct err_info *reterr)
{
    struct proto_round_site site = {.state = PROTO_ROUND_SITE_NONE};
    struct proto_round_site_reply answer;
    struct train_busy busy = {.next = NULL};
    memcpy(busy.job_id, work->job_id.ptr, 16);
    enum err err = enter(work->service, &busy, true);
    if (err) {
        return err;
    }
    err = train_part_load(work->service, work->job_id.ptr, &work->arena, &work->part, reterr);
    if (!err && memcmp(work->part.coordinator.ptr, work->requester.id, 16) != 0) {
        err = refuse(work, PROTO_REASON_BAD_REQUEST, "another node coordinates this job");
    } else if (!err || err == E_NOT_FOUND) {
        if (!err) {
            train_part_machine(&work->part, 0, &site);
        }
        err = ask_machine(work, PROTO_ROUND_SITE_STOP, &site, &answer);
    }
    if (!err) {
        err = finish_charges(work, reterr);
    }
    if (!err && !work->part.ended) {
        work->part.ended = true;
        err = part_store(work, reterr);
    }
    leave(work->service, &busy);
    return err ? err : seal_admit(work, true, reterr);
}

void train_site_stop(struct peer_request *request, void *user)
{
    struct train_service *service = user;
    struct err_info info = {0};
    struct work *work = work_new(service, request);
    if (!work) {
        peer_reply(request, E_NO_MEMORY, SPAN_NONE);
        return;
    }
    enum err err = open_offer(work, &info);
    if (err || !work->offer.stop) {
        reply(work, err ? err : E_INVALID);
        return;
    }
    reply(work, finish_offer(work, stop_part(work, &info), &info));
}

/* --- rounds ---------------------------------------------------------------------------------------------------------- */

/* Asked before each step and chunk: the daemon stops, the job was stopped, or the licence no longer permits it. */
static bool round_cancelled(void *user)
{
    struct work *work = user;
    if (work->withdrawn || work->service->stopping || work->busy->cancel ||
        refusing(work->context)) {
        return true;
    }
    uint64_t now = query_now_ms();
    if (now - work->checked_ms < LICENCE_CHECK_MS) {
        return false;
    }
    work->checked_ms = now;
    struct query_admission *again = proto_alloc(1, sizeof *again);
    struct peer_member requester;
    enum err err =
        again ? query_admission_load(work->context, work->dataset, again, NULL) : E_NO_MEMORY;
    if (!err) {
        err = decide(work, again);
    }
    if (!err) {
        err = check_approval(work, again);
    }
    if (again) {
        query_admission_fini(again);
    }
    proto_free(again);
    bool member = peer_member_by_id(work->context->peer, work->requester.id, &requester) &&
                  requester.state != PEER_REVOKED;
    if (!member) {
        (void)refuse(work, PROTO_REASON_RECIPIENT, "the coordinator is no longer a member");
    }
    work->withdrawn = err == E_REFUSED || !member;
    return err != E_OK || !member;
}

static enum err open_round(struct work *work, struct err_info *reterr)
{
    enum err err =
        open_message(work, &train_round_message, TRAIN_ROUND_DOMAIN, &work->round, reterr);
    if (!err) {
        err = check_addressed(work, work->round.to, work->round.time, reterr);
    }
    if (!err) {
        work->job_id = work->round.job_id;
        memcpy(work->plan_hash, work->round.plan_hash.ptr, 32);
    }
    return err;
}

/* The plan that this site admitted; nothing of a round's message may change it. */
static enum err load_part(struct work *work, struct err_info *reterr)
{
    enum err err =
        train_part_load(work->service, work->job_id.ptr, &work->arena, &work->part, reterr);
    if (err == E_NOT_FOUND) {
        return refuse(work, PROTO_REASON_BAD_REQUEST, "no such job was admitted here");
    }
    if (err) {
        return err;
    }
    if (memcmp(work->part.coordinator.ptr, work->requester.id, 16) != 0) {
        return refuse(work, PROTO_REASON_BAD_REQUEST, "another node coordinates this job");
    }
    if (memcmp(work->part.plan_hash.ptr, work->plan_hash, 32) != 0) {
        return machine_refuses(work, "OTHER_PLAN");
    }
    if (work->part.ended) {
        return machine_refuses(work, "ENDED");
    }
    work->cost = train_part_cost(&work->part);
    err =
        proto_codec_decode(&train_plan_message, work->part.plan, &work->arena, &work->plan, reterr);
    if (!err) {
        err = name_plan(work, reterr);
    }
    if (!err && work->round.round > work->plan.rounds + 1) {
        err = refuse(work, PROTO_REASON_BAD_REQUEST, "the plan has no such round");
    }
    return err;
}

/* What this request may do: as many steps as are left of those reserved. A crash in a round has used its steps up. */
struct share {
    uint64_t steps;
    bool sums;
    bool histogram;
};

static enum err start_one(struct work *work, const char *kind, uint64_t wanted, uint64_t *ret_taken,
                          struct err_info *reterr)
{
    uint8_t id[16];
    struct store_ledger_row row;
    *ret_taken = 0;
    train_charge_id(kind, work->job_id.ptr, work->plan_hash, id);
    enum err err =
        wanted ? store_ledger_charge(work->context->store, id, &work->arena, &row, reterr) : E_OK;
    if (err || !wanted) {
        return err;
    }
    uint64_t left = row.steps > row.started ? row.steps - row.started : 0;
    *ret_taken = wanted < left ? wanted : left;
    if (*ret_taken == 0) {
        return E_OK;
    }
    err = store_ledger_steps_start(work->context->store, id, row.started + *ret_taken, query_now(),
                                   reterr);
    if (!err && strcmp(kind, charge_kinds[0]) == 0) {
        work->update.steps_started = row.started + *ret_taken;
    }
    return err;
}

static enum err start(struct work *work, struct share *ret, struct err_info *reterr)
{
    bool trains = work->round.round <= work->plan.rounds;
    uint64_t taken;
    enum err err =
        start_one(work, charge_kinds[0], trains ? work->granted : 0, &ret->steps, reterr);
    if (!err && trains && ret->steps == 0) {
        return machine_refuses(work, "STEPS_USED_UP");
    }
    if (!err) {
        err = start_one(work, charge_kinds[1], work->round.evaluate ? 1 : 0, &taken, reterr);
        ret->sums = !err && taken;
    }
    if (!err) {
        err = start_one(work, charge_kinds[2], !trains && work->cost.hist_nano ? 1 : 0, &taken,
                        reterr);
        ret->histogram = !err && taken;
    }
    return err;
}

static enum err evaluate(struct work *work, const struct share *share, const double *weights,
                         struct err_info *reterr)
{
    struct train_figures figures;
    uint64_t bins = share->histogram ? work->plan.bins : 0;
    if (!share->sums && !share->histogram) {
        return E_OK;
    }
    enum err err = train_evaluate(work->context->noise, &work->tables.held, weights,
                                  work->admission.schema.max_rows_per_unit, &work->cost,
                                  share->sums, bins, &figures, reterr);
    struct train_evaluation *out = &work->update.evaluation;
    if (!err && share->sums) {
        out->present = true;
        out->count = figures.sums[TRAIN_SUM_COUNT];
        out->loss = figures.sums[TRAIN_SUM_LOSS];
        out->correct = figures.sums[TRAIN_SUM_CORRECT];
    }
    if (!err && bins) {
        err = train_pack_doubles(figures.histograms, 2 * bins, &work->arena, &out->histograms);
    }
    return err;
}

static enum err train(struct work *work, uint64_t steps, double *weights, struct err_info *reterr)
{
    struct model_sgd sgd = {
        .rate = work->cost.rate,
        .clip = work->plan.clip,
        .sigma = work->cost.sigma,
        .learning_rate = work->plan.learning_rate,
        .momentum = work->plan.momentum,
        .expected_batch = work->cost.rate * (double)work->part.size,
        .steps = (uint32_t)steps,
    };
    uint32_t done;
    enum err err = model_logistic_train(&work->tables.train, &sgd, weights, round_cancelled, work,
                                        &done, reterr);
    if (!err) {
        err = train_pack_doubles(weights, work->encoding.width + 1, &work->arena,
                                 &work->update.weights);
        work->update.updated = !err;
    }
    return err;
}

static enum err compute(struct work *work, struct err_info *reterr)
{
    size_t count = work->encoding.width + 1;
    struct share share = {0};
    double *weights = arena_alloc(&work->arena, count, sizeof *weights);
    if (!weights) {
        return E_NO_MEMORY;
    }
    if (train_unpack_doubles(work->round.weights, weights, count)) {
        return refuse(work, PROTO_REASON_BAD_REQUEST, "the weights do not fit the plan");
    }
    struct train_table_wish wish = {
        .dataset = work->dataset,
        .schema = &work->admission.schema,
        .encoding = &work->encoding,
        .midpoint = work->plan.midpoint,
        .eval_split = work->plan.eval_every ? work->plan.eval_split : 0,
        .key = work->part.key.ptr,
        .cancelled = round_cancelled,
        .user = work,
    };
    enum err err = start(work, &share, reterr); /* on disk before a row is touched */
    if (!err) {
        err = train_tables_load(work->context->store, &wish, &work->tables, reterr);
    }
    if (!err) {
        err = evaluate(work, &share, weights, reterr);
    }
    if (!err && share.steps) {
        err = train(work, share.steps, weights, reterr);
    }
    return err == E_CANCELLED && work->withdrawn ? E_REFUSED : err;
}

static enum err seal_update(struct work *work, bool refused, struct err_info *reterr)
{
    struct train_update *update = &work->update;
    enum err err = head_out(work, &update->head);
    update->version = TRAIN_VERSION;
    update->job_id = work->job_id;
    update->plan_hash = span_of(work->plan_hash, 32);
    update->round = work->round.round;
    update->error = span_str(proto_err_name(refused ? proto_reason_err(work->reason) : E_OK));
    update->reason = span_str(refused ? proto_reason_name(work->reason) : "");
    update->detail = span_str(work->detail);
    if (refused) {
        update->updated = false;
        update->weights = update->evaluation.histograms = span_str("");
        update->evaluation.present = false;
        update->evaluation.count = update->evaluation.loss = update->evaluation.correct = 0;
    }
    work->bytes.len = 0;
    return err ? err
               : query_message_seal(&train_update_message, update, TRAIN_UPDATE_DOMAIN,
                                    work->context->identity, work->context->federation_id,
                                    &work->bytes, reterr);
}

/* Stored before it is sent; whoever asks again gets these bytes. */
static enum err keep_update(struct work *work, struct err_info *reterr)
{
    struct buf stored = {.max = PEER_MESSAGE_MAX};
    enum err err = store_job_once(work->context->store, work->job_id.ptr, work->round.round,
                                  work->plan_hash, buf_span(&work->bytes), &stored, reterr);
    if (err == E_EXISTS) {
        work->bytes.len = 0;
        err = buf_put(&work->bytes, buf_span(&stored));
    }
    buf_fini(&stored);
    return err;
}

/* May this round be computed, and with how many steps? The part is on disk before they are taken. E_EXISTS: it was answered. */
static enum err begin_round(struct work *work, struct err_info *reterr)
{
    uint8_t id[16];
    struct store_ledger_row row;
    struct proto_round_site site;
    struct proto_round_site_reply answer;
    train_charge_id(charge_kinds[0], work->job_id.ptr, work->plan_hash, id);
    enum err err = store_ledger_charge(work->context->store, id, &work->arena, &row, reterr);
    if (err) {
        return err;
    }
    train_part_machine(&work->part, row.steps > row.started ? row.steps - row.started : 0, &site);
    err = ask_machine(work, PROTO_ROUND_SITE_ROUND, &site, &answer);
    if (err) {
        return err;
    }
    if (answer.answer == PROTO_ROUND_SITE_RESEND) {
        return E_EXISTS;
    }
    if (answer.answer != PROTO_ROUND_SITE_COMPUTE) {
        return E_BUSY; /* one request of a job is served at a time, so that nobody else is at work */
    }
    work->granted = answer.steps;
    work->part.last_round = site.last_round;
    work->part.term = site.term;
    return part_store(work, reterr);
}

static enum err serve_round(struct work *work, struct err_info *reterr)
{
    enum err err = load_part(work, reterr);
    if (!err) {
        err = understand(work, reterr);
    }
    if (!err) {
        err = decide(work, &work->admission);
    }
    if (!err) {
        err = check_approval(work, &work->admission);
    }
    if (err) {
        return err;
    }
    work->checked_ms = query_now_ms();
    err = store_job_answered(work->context->store, work->job_id.ptr, work->round.round,
                             work->plan_hash, &work->bytes, reterr);
    if (err && err != E_NOT_FOUND) {
        return err;
    }
    work->stored = !err;
    /* What comes after the last round only evaluates: no round of the plan, and no steps. */
    err = work->round.round <= work->plan.rounds ? begin_round(work, reterr)
                                                 : (work->stored ? E_EXISTS : E_OK);
    if (err) {
        return err == E_EXISTS ? E_OK : err;
    }
    work->bytes.len = 0;
    err = compute(work, reterr);
    if (!err) {
        err = seal_update(work, false, reterr);
    }
    return err ? err : keep_update(work, reterr);
}

static void worker_enter(struct train_service *service)
{
    pthread_mutex_lock(&service->lock);
    while (service->site_workers >= TRAIN_SITE_WORKERS && !service->stopping) {
        pthread_cond_wait(&service->changed, &service->lock);
    }
    service->site_workers++;
    pthread_mutex_unlock(&service->lock);
}

static void worker_leave(struct train_service *service)
{
    pthread_mutex_lock(&service->lock);
    service->site_workers--;
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
}

static enum err finish_round(struct work *work, enum err err, const struct err_info *info)
{
    struct err_info second = {0};
    if (err == E_REFUSED) {
        err = audit_append(work, "train.refused", proto_reason_name(work->reason), &second);
        return err ? E_IO : seal_update(work, true, NULL);
    }
    if (err) {
        log_event(work, "train.round.failed", info->text[0] ? info->text : proto_err_name(err));
        return err == E_CANCELLED || err == E_BUSY ? E_BUSY : E_INTERNAL;
    }
    return E_OK;
}

static void round_thread_body(struct work *work)
{
    struct train_service *service = work->service;
    struct err_info info = {0};
    struct train_busy busy = {.next = NULL};
    memcpy(busy.job_id, work->job_id.ptr, 16);
    work->busy = &busy;
    enum err err = enter(service, &busy, false);
    bool entered = err == E_OK;
    if (!err) {
        worker_enter(service);
        err = serve_round(work, &info);
        worker_leave(service);
        leave(service, &busy);
    }
    err = entered ? finish_round(work, err, &info) : err;
    train_tables_fini(&work->tables);
    if (!err && memcmp(work->requester.id, work->context->node_id, 16) != 0) {
        char id[33];
        span_to_hex(work->job_id, id);
        err = store_egress_add(work->context->store, work->requester.name, "update", id,
                               work->bytes.len, query_now(), &info);
    }
    reply_at(work, query_release_at(work->started_ms, work->context->release_tick_ms), err);
}

static void request_over(struct train_service *service)
{
    pthread_mutex_lock(&service->lock);
    service->site_requests--;
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
}

static void *round_thread(void *user)
{
    struct work *work = user;
    struct train_service *service = work->service;
    round_thread_body(work);
    request_over(service);
    return NULL;
}

static bool request_enter(struct train_service *service)
{
    pthread_mutex_lock(&service->lock);
    bool room = !service->stopping && service->site_requests < TRAIN_SITE_REQUESTS;
    service->site_requests += room;
    pthread_mutex_unlock(&service->lock);
    return room;
}

/* A round may take minutes: it gets a thread of its own, so that peer's few handlers stay free. */
void train_site_round(struct peer_request *request, void *user)
{
    struct train_service *service = user;
    struct err_info info = {0};
    struct work *work = work_new(service, request);
    if (!work) {
        peer_reply(request, E_NO_MEMORY, SPAN_NONE);
        return;
    }
    enum err err = refusing(service->context) ? E_BUSY : open_round(work, &info);
    if (!err && !request_enter(service)) {
        err = E_BUSY;
    }
    if (err) {
        reply(work, err);
        return;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, round_thread, work)) {
        request_over(service);
        reply(work, E_NO_MEMORY);
        return;
    }
    pthread_detach(thread);
}
