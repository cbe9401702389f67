#include "config.h"
#include "node/query/site.h"

#include "crypto/random.h"
#include "node/query/admission.h"
#include "node/query/approval.h"
#include "node/query/coordinates.h"
#include "node/query/damage.h"
#include "node/query/execute.h"
#include "node/query/price.h"
#include "node/query/release.h"
#include "proto/sql.h"
#include "store/audit.h"
#include "store/egress.h"
#include "store/rotate.h"

#include <stdio.h>
#include <time.h>

/* A request signed longer ago, or further in the future, is not answered: it may be a replay of an old one. */
#define CLOCK_TOLERANCE_S 300

/* Microseconds of the steps whose length is not the question's: for this site's operator, in the log at level debug. */
struct times {
    uint64_t begun, reserve, scan, release;
};

/* Everything about one request, so that each step is one short function. */
struct job {
    struct query_context *context;
    struct query_request request;
    struct peer_member requester;
    struct query_admission admission;
    struct proto_query query;
    struct query_layout layout;
    struct arena arena;
    struct buf canonical;
    char person[129];
    char project[129];
    char dataset[65];
    uint8_t replay_key[32];
    struct store_account account;
    struct proto_privacy_price price;
    struct query_answer answer;
    char detail[512];
    enum proto_reason reason;
    uint64_t licence_changes; /* as counted before the decision */
    bool withdrawn;           /* a newer licence no longer permits it */
    uint64_t scan_until_us;   /* 0: as long as it takes */
    bool late;
    bool held; /* a person must approve it, or has */
    struct query_held wait;
    bool stored; /* answer_bytes holds what leaves */
    struct times times;
    bool listed; /* and stands in the list of what left */
    struct buf answer_bytes;
};

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t query_release_at(uint64_t started_ms, uint64_t tick_ms)
{
    uint64_t spent = query_now_ms() - started_ms;
    return tick_ms ? started_ms + tick_ms * (spent / tick_ms + 1) : started_ms;
}

static enum err refuse(struct job *job, enum proto_reason reason, const char *detail)
{
    job->reason = reason;
    job->answer.status = QUERY_REFUSED;
    snprintf(job->detail, sizeof job->detail, "%s", detail ? detail : proto_reason_text(reason));
    return E_REFUSED;
}

static bool asks_us(const struct job *job)
{
    const struct query_node_ref *sites = job->request.sites.items;
    for (size_t i = 0; i < job->request.sites.count; i++) {
        if (memcmp(sites[i].node.ptr, job->context->node_id, 16) == 0) {
            return true;
        }
    }
    return false;
}

/* Signature, addressees, clock: what makes bytes a request of this member to this node. */
static enum err authenticate(struct job *job, const struct peer_request *incoming,
                             struct err_info *reterr)
{
    if (!peer_member_by_id(job->context->peer, peer_request_from(incoming), &job->requester)) {
        return proto_err_set(reterr, E_REFUSED, "the sender is not a member");
    }
    enum err err = query_message_open(
        &query_request_message, peer_request_body(incoming), QUERY_REQUEST_DOMAIN,
        job->requester.point, job->context->federation_id, &job->arena, &job->request, reterr);
    if (err) {
        return err;
    }
    if (!asks_us(job)) {
        return proto_err_set(reterr, E_AUTH, "the request is meant for other nodes");
    }
    bool clock_off = query_clock_check(job->context->peer, NULL) != E_OK;
    int64_t off = clock_off ? 0 : query_now() - job->request.time;
    if (off > CLOCK_TOLERANCE_S || off < -CLOCK_TOLERANCE_S) {
        return proto_err_set(reterr, E_REFUSED,
                             "the request's time is %llds off: check both clocks", (long long)off);
    }
    if (!span_to_cstr(job->request.purpose.person, job->person, sizeof job->person) ||
        !span_to_cstr(job->request.purpose.project, job->project, sizeof job->project) ||
        !span_to_cstr(job->request.dataset, job->dataset, sizeof job->dataset)) {
        return proto_err_set(reterr, E_INVALID, "a name is too long");
    }
    job->answer.query_id = job->request.query_id;
    return clock_off ? refuse(job, PROTO_REASON_CLOCK, NULL) : E_OK;
}

/* Our own schema decides what the text means; the asking node's must be the same one. */
static enum err understand(struct job *job, struct err_info *reterr)
{
    enum err err = query_admission_load(job->context, job->dataset, &job->admission, reterr);
    if (err == E_NOT_FOUND) {
        return refuse(job, PROTO_REASON_NO_LICENSE, "this node holds no such dataset");
    }
    if (err) {
        return err;
    }
    if (memcmp(job->admission.schema_hash, job->request.schema_hash.ptr, 32) != 0) {
        return refuse(job, PROTO_REASON_SCHEMA, "this site's schema of the dataset differs");
    }
    job->answer.dataset_version = span_str(job->admission.row.version);
    struct err_info info = {0};
    err = proto_sql_parse_span(job->request.sql, &job->query, &info);
    if (!err && strcmp(job->query.dataset, job->dataset) != 0) {
        err = proto_err_set(&info, E_QUERY, "the query names another dataset");
    }
    if (!err) {
        err = proto_query_bind(&job->query, &job->admission.schema, &info);
    }
    if (!err) {
        const struct query_limits limits = {(uint32_t)job->request.rows_limit,
                                            (uint32_t)job->request.groups_limit};
        err = query_layout_plan(&job->query, &limits, &job->layout, &info);
    }
    if (!err) {
        err = proto_query_canonical(&job->query, &job->canonical);
    }
    if (err == E_UNSUPPORTED) {
        return refuse(job, PROTO_REASON_UNSUPPORTED, info.text);
    }
    return err && err != E_NO_MEMORY ? refuse(job, PROTO_REASON_BAD_REQUEST, info.text) : err;
}

/* Fills decision of ADMISSION for this request. */
static enum err decide_with(struct job *job, struct query_admission *admission)
{
    struct proto_text *columns =
        arena_alloc(&job->arena, PROTO_SCHEMA_COLUMNS_MAX, sizeof *columns);
    int *read = arena_alloc(&job->arena, PROTO_SCHEMA_COLUMNS_MAX, sizeof *read);
    if (!columns || !read) {
        return E_NO_MEMORY;
    }
    size_t column_count = proto_query_columns(&job->query, read);
    for (size_t i = 0; i < column_count; i++) {
        columns[i].text = span_str(job->admission.schema.columns[read[i]].name);
    }
    double epsilon = (double)job->request.epsilon_u / 1e6;
    double delta = (double)job->request.delta_e12 / 1e12;
    struct proto_use use = {
        .actions = job->query.actions,
        .columns = {columns, column_count},
        .epsilon = epsilon,
        .delta = delta,
        .noise_multiplier = query_price_noise(job->request.epsilon_u, job->request.delta_e12),
        .secure = job->request.secure,
    };
    query_admission_decide(job->context, admission, &job->requester, &job->request.purpose, &use,
                           job->request.sites.items, job->request.sites.count, query_now());
    return E_OK;
}

static enum err decide(struct job *job)
{
    job->licence_changes = job->context->licence_changes;
    enum err err = decide_with(job, &job->admission);
    const struct proto_decision *decision = &job->admission.decision;
    job->held = !err && decision->verdict == PROTO_HOLD;
    if (err || decision->verdict != PROTO_DENY) {
        return err;
    }
    char why[PROTO_DECISION_TEXT_SIZE];
    const struct proto_licence *licence =
        job->admission.has_licence ? &job->admission.licence : NULL;
    return refuse(job, decision->reason, proto_decision_text(licence, decision, why));
}

static void hash_request(struct job *job, uint8_t ret[32]);

/* The result as the person who decides sees it: "2 rows of sex, count". */
static enum err shape_text(const struct job *job, struct buf *out)
{
    enum err err =
        buf_printf(out, "%zu row%s of ", job->query.cells, job->query.cells == 1 ? "" : "s");
    for (size_t i = 0; !err && i < job->query.item_count; i++) {
        err = buf_printf(out, "%s%s", i ? ", " : "", job->query.items[i].label);
    }
    return err;
}

/* Actions, then the columns that are read. */
static enum err operations_text(const struct job *job, struct buf *out)
{
    int read[PROTO_SCHEMA_COLUMNS_MAX];
    size_t count = proto_query_columns(&job->query, read);
    enum err err = E_OK;
    for (int i = 0; !err && i < PROTO_ACTION_TOTAL; i++) {
        if (job->query.actions & PROTO_ACTION_BIT(i)) {
            err = buf_printf(out, "%s%s", out->len ? ", " : "",
                             proto_action_name((enum proto_action)i));
        }
    }
    for (size_t i = 0; !err && i < count; i++) {
        err = buf_printf(out, "%s%s", i ? ", " : " over ",
                         job->admission.schema.columns[read[i]].name);
    }
    return err;
}

struct hold_texts {
    uint8_t subject[32];
    struct buf operations, shape;
};

static enum err describe_hold(struct job *job, struct hold_texts *texts, struct query_hold *ret)
{
    texts->operations.max = texts->shape.max = STORE_APPROVAL_TEXT;
    hash_request(job, texts->subject);
    enum err err = operations_text(job, &texts->operations);
    err = err ? err : shape_text(job, &texts->shape);
    *ret = (struct query_hold){
        .kind = STORE_APPROVAL_QUERY,
        .request = job->request.query_id.ptr,
        .subject = texts->subject,
        .person = job->person,
        .project = job->project,
        .purpose = &job->request.purpose,
        .operations = arena_strdup(&job->arena, buf_span(&texts->operations)),
        .question = arena_strdup(&job->arena, job->request.sql),
        .shape = arena_strdup(&job->arena, buf_span(&texts->shape)),
        .epsilon_u = job->request.epsilon_u,
        .delta_e12 = job->request.delta_e12,
        .cost_nano = job->answer.cost_nano,
    };
    buf_fini(&texts->operations);
    buf_fini(&texts->shape);
    return err ? err : (ret->operations && ret->question && ret->shape ? E_OK : E_NO_MEMORY);
}

static bool approval_stands(struct job *job, const struct query_admission *admission)
{
    struct hold_texts texts = {0};
    struct query_hold hold;
    return describe_hold(job, &texts, &hold) == E_OK &&
           query_approval_stands(job->context, admission, &job->requester, &hold);
}

/* The verdict was HOLD: what does the person say, or has nobody said anything yet? */
static enum err wait_for_person(struct job *job, struct err_info *reterr)
{
    struct hold_texts texts = {0};
    struct query_hold hold;
    enum err err = describe_hold(job, &texts, &hold);
    if (!err && job->request.explain) {
        return query_approval_stands(job->context, &job->admission, &job->requester, &hold)
                   ? E_OK
                   : refuse(job, job->admission.decision.reason, NULL);
    }
    if (!err) {
        err = query_approval_ask(job->context, &job->admission, &job->requester, &hold, &job->wait,
                                 reterr);
    }
    if (err == E_APPROVAL) {
        err = refuse(job, job->admission.decision.reason, job->wait.detail);
        job->answer.status = QUERY_WAITING;
        job->answer.approval = span_of(job->wait.id, sizeof job->wait.id);
    } else if (err == E_REFUSED) {
        err = refuse(job, PROTO_REASON_DENIED, job->wait.detail);
    } else if (err == E_LIMIT) {
        err = refuse(job, PROTO_REASON_RATE, "too many requests wait for a person already");
    }
    return err;
}

static bool still_permitted(struct job *job)
{
    struct query_admission *now = proto_alloc(1, sizeof *now);
    bool permitted = now && query_admission_load(job->context, job->dataset, now, NULL) == E_OK &&
                     decide_with(job, now) == E_OK &&
                     (now->decision.verdict == PROTO_PERMIT ||
                      (now->decision.verdict == PROTO_HOLD && approval_stands(job, now)));
    if (now) {
        query_admission_fini(now);
    }
    proto_free(now);
    return permitted;
}

/* What a person approves: this question at this price, whatever version of the data answers it. */
static void hash_request(struct job *job, uint8_t ret[32])
{
    uint8_t numbers[17];
    put_be64(numbers, job->request.epsilon_u);
    put_be64(numbers + 8, job->request.delta_e12);
    numbers[16] = job->request.secure;
    const struct span parts[] = {span_of(job->admission.schema_hash, 32),
                                 span_of(numbers, sizeof numbers), buf_span(&job->canonical)};
    crypto_sha256(parts, sizeof parts / sizeof *parts, ret);
}

/* The same canonical question on the same version at the same price has the same answer, bit for bit. */
static void replay_key(struct job *job)
{
    uint8_t numbers[42];
    uint8_t uuid[16];
    uint8_t root[32];
    memcpy(uuid, job->admission.row.partition_uuid, sizeof uuid);
    memcpy(root, job->admission.row.root, sizeof root);
    /* Data under a new key is the same data. When this fails the question costs again, which is safe. */
    (void)!store_rotate_origin(job->context->store, uuid, root, NULL);
    put_be64(numbers, job->request.epsilon_u);
    put_be64(numbers + 8, job->request.delta_e12);
    put_be64(numbers + 16, job->admission.schema.max_rows_per_unit);
    put_be64(numbers + 24, job->layout.bounds.rows);
    put_be64(numbers + 32,
             (uint64_t)job->layout.bounds.rows_per_cell << 32 | job->layout.bounds.cells);
    numbers[40] = job->request.secure;
    numbers[41] = QUERY_VERSION; /* an answer that an older version stored cannot be read */
    const struct span parts[] = {
        span_of("concordat1-replay", 18), span_of(uuid, sizeof uuid),
        span_of(root, sizeof root),       span_of(job->admission.schema_hash, 32),
        span_of(numbers, sizeof numbers), buf_span(&job->canonical),
    };
    crypto_sha256(parts, sizeof parts / sizeof *parts, job->replay_key);
}

static enum err audit(struct job *job, const char *verdict, struct buf *out)
{
    char id[33];
    span_to_hex(job->request.query_id, id);
    char epsilon[32];
    snprintf(epsilon, sizeof epsilon, "%.6f", (double)job->request.epsilon_u / 1e6);
    char record[33] = "";
    if (job->admission.has_record) {
        span_to_hex(span_of(job->admission.record.id, 16), record);
    }
    char agreement[33] = "";
    if (job->admission.agreed) {
        span_to_hex(span_of(job->admission.agreement, 16), agreement);
    }
    char decision[65];
    query_admission_digest(job->context, &job->admission, decision);
    return query_audit_text(out, "query", id, "dataset", job->dataset, "node", job->requester.name,
                            "institution", job->requester.org, "person", job->person, "project",
                            job->project, "epsilon", epsilon, "licence", record, "agreement",
                            agreement, "verdict", verdict, "decision", decision,
                            (const char *)NULL);
}

static enum err audit_append(struct job *job, const char *kind, const char *verdict,
                             struct err_info *reterr)
{
    struct buf body = {.max = STORE_AUDIT_BODY};
    enum err err = audit(job, verdict, &body);
    if (!err) {
        err = store_audit_append(job->context->store, kind, buf_span(&body), query_now(), reterr);
    }
    buf_fini(&body);
    return err;
}

static void fill_budget(struct job *job)
{
    const struct proto_licence *licence = &job->admission.licence;
    job->answer.cap_nano = job->account.cap_nano;
    job->answer.spent_nano = job->account.spent_nano;
    job->answer.left_nano = job->account.left_nano;
    job->answer.account_delta_e12 = store_account_conversion_e12(&job->account);
    if (job->admission.has_licence) {
        uint64_t delta;
        (void)proto_policy_budget(licence, &job->answer.epsilon_total_u, &delta);
        if (licence->grants.count) {
            const struct proto_grant *grants = licence->grants.items;
            int grant = proto_decision_nearest(&job->admission.decision);
            job->answer.epsilon_per_query_u =
                grants[grant >= 0 ? grant : 0].privacy.epsilon_per_query_u;
        }
    }
}

static struct store_charge charge_of(struct job *job)
{
    struct store_charge charge = {
        .dataset = job->dataset,
        .person = job->person,
        .project = job->project,
        .institution = job->requester.org,
        .node = job->requester.name,
        .kind = STORE_CHARGE_QUERY,
        .nano = job->price.nano,
        .steps = 1,
        .delta0_e18 = job->price.delta0_e18,
        .caps = query_admission_caps(job->context, &job->account),
        .now = query_now(),
    };
    memcpy(charge.id, job->request.query_id.ptr, 16);
    return charge;
}

/* What we ask ourselves does not leave. */
static bool leaves(const struct job *job)
{
    return memcmp(job->requester.id, job->context->node_id, 16) != 0;
}

/* Encodes the finished answer. Its head is the newest: whoever gets the answer witnesses what it was charged. */
static enum err encode(struct job *job, struct buf *out, struct err_info *reterr)
{
    struct store_audit_head head;
    uint8_t *bytes = arena_alloc(&job->arena, STORE_AUDIT_HEAD_SIZE, 1);
    if (!bytes) {
        return E_NO_MEMORY;
    }
    enum err err = store_audit_head(job->context->store, &head);
    if (err) {
        return err;
    }
    store_audit_head_encode(&head, bytes);
    job->answer.version = QUERY_VERSION;
    job->answer.head = span_of(bytes, STORE_AUDIT_HEAD_SIZE);
    bool answered = job->answer.status == QUERY_ANSWERED;
    job->answer.reason = answered ? span_str("") : span_str(proto_reason_name(job->reason));
    job->answer.error = span_str(proto_err_name(answered ? E_OK : proto_reason_err(job->reason)));
    job->answer.detail = span_str(job->detail);
    return query_answer_put(&job->answer, out, reterr);
}

/* What was stored with the first answer stays, but for what today's licence withholds from this asker; the message around it is made
 * anew, with today's budget and head. */
static enum err replay(struct job *job, struct err_info *reterr)
{
    struct buf stored = {.max = PROTO_CODEC_MAX};
    struct query_answer old;
    enum err err = store_ledger_answer(job->context->store, job->replay_key, &stored, NULL, reterr);
    if (!err) {
        uint8_t *copy = arena_alloc(&job->arena, stored.len, 1);
        if (copy) {
            memcpy(copy, stored.ptr, stored.len);
            err = query_answer_take(span_of(copy, stored.len), &job->arena, &old, reterr);
        } else {
            err = E_NO_MEMORY;
        }
    }
    buf_fini(&stored);
    if (!err) { /* it may have been asked first under a grant with a smaller cohort */
        err = query_release_withhold(&job->query, &job->layout, job->admission.decision.min_cohort,
                                     &job->arena, &old);
    }
    if (err) {
        return err;
    }
    struct store_charge charge = charge_of(job);
    err = store_ledger_replayed(job->context->store, &charge, reterr);
    struct store_account after;
    if (!err) {
        enum err left = store_ledger_probe(job->context->store, &charge, &after, NULL);
        job->account.left_nano = left ? 0 : after.left_nano + charge.nano;
        job->answer.cells = old.cells;
        job->answer.keys = old.keys;
        job->answer.coordinates = old.coordinates;
        job->answer.values = old.values;
        job->answer.withheld = old.withheld;
        job->answer.replayed = true;
        job->answer.cost_nano = 0;
        fill_budget(job);
    }
    return err;
}

/* Asked at every chunk: a licence that changed while the scan runs is decided again, so that a withdrawal stops it at once. The
 * scan's own limit is the site's and not the asker's: with a deadline of his choice he would learn how long it takes. */
static bool must_stop(void *user)
{
    struct job *job = user;
    uint64_t changes = job->context->licence_changes;
    if (changes != job->licence_changes && !job->withdrawn) {
        job->licence_changes = changes;
        job->withdrawn = !still_permitted(job);
    }
    job->late = job->late || (job->scan_until_us && now_us() > job->scan_until_us);
    return job->withdrawn || job->late ||
           (job->context->refusing && job->context->refusing(job->context->user));
}

static enum err compute(struct job *job, struct err_info *reterr)
{
    struct query_sums sums;
    uint64_t began = now_us();
    job->scan_until_us =
        job->context->scan_limit_ms ? began + job->context->scan_limit_ms * 1000 : 0;
    enum err err = query_execute(job->context->store, job->dataset, &job->query, &job->layout,
                                 must_stop, job, &sums, reterr);
    if (!err) {
        const struct query_release_terms terms = {.min_cohort = job->admission.decision.min_cohort,
                                                  .delta0_e18 = job->price.delta0_e18};
        err = query_release(job->context->noise, &job->query, &job->layout, &sums, &terms,
                            &job->arena, &job->answer, reterr);
        query_sums_fini(&sums);
    }
    job->times.scan = now_us() - began;
    if ((!err || err == E_CANCELLED) && must_stop(job) && job->withdrawn) {
        err = refuse(job, PROTO_REASON_REVOKED,
                     "the licence changed while the question was being answered");
    } else if (err == E_CANCELLED && job->late) {
        err = proto_err_set(reterr, E_TIMEOUT,
                            "%s: the scan took longer than limits.scan_limit_ms of node.yaml; the "
                            "charge stays",
                            job->dataset);
    }
    return err;
}

/* Reserve on disk, compute, store on disk: only then may anything leave. */
static enum err charge_and_compute(struct job *job, struct err_info *reterr)
{
    struct buf body = {.max = STORE_AUDIT_BODY};
    struct store_charge charge = charge_of(job);
    enum err err = audit(job, "PERMIT", &body);
    charge.audit_body = buf_span(&body);
    if (!err) {
        uint64_t began = now_us();
        err = store_ledger_reserve(job->context->store, &charge, &job->account, reterr);
        job->times.reserve = now_us() - began;
    }
    if (err == E_BUDGET_EXHAUSTED) {
        err = refuse(job, PROTO_REASON_BUDGET, reterr ? reterr->text : NULL);
    } else if (err == E_EXISTS) {
        err = refuse(job, PROTO_REASON_BAD_REQUEST, "this request was charged before; ask anew");
    }
    if (!err) {
        err = compute(job, reterr);
    }
    if (!err) {
        fill_budget(job);
        err = encode(job, &job->answer_bytes, reterr);
    }
    if (!err) {
        struct store_release release = {.id = charge.id,
                                        .answer = buf_span(&job->answer_bytes),
                                        .replay_key = job->replay_key,
                                        .audit_body = buf_span(&body),
                                        .leaves_to = leaves(job) ? job->requester.name : NULL,
                                        .now = query_now()};
        uint64_t began = now_us();
        err = store_ledger_release(job->context->store, &release, reterr);
        job->times.release = now_us() - began;
        job->stored = job->listed = err == E_OK;
    }
    buf_fini(&body);
    if (err ==
        E_EXISTS) { /* the same question was answered at the same time: there is one answer to it */
        job->answer.coordinates = job->answer.keys = (struct proto_list){0};
        job->answer_bytes.len = 0;
        err = replay(job, reterr);
    }
    return err;
}

/* What --explain shows: the verdict, the price, the noise, what is left. Nothing is charged, no row is read. */
static enum err explain(struct job *job, struct err_info *reterr)
{
    struct store_charge charge = charge_of(job);
    struct store_account after;
    enum err err = store_ledger_probe(job->context->store, &charge, &after, reterr);
    if (err == E_BUDGET_EXHAUSTED) {
        return refuse(job, PROTO_REASON_BUDGET, reterr ? reterr->text : NULL);
    }
    if (!err) {
        job->answer.left_nano = after.left_nano + charge.nano;
    }
    return err ? err : query_release_shape(&job->query, &job->layout, &job->arena, &job->answer);
}

static enum err price(struct job *job, struct err_info *reterr)
{
    enum err err = store_ledger_get(job->context->store, job->dataset, &job->account, reterr);
    if (err) {
        return err;
    }
    fill_budget(job);
    job->price =
        query_price(job->request.epsilon_u, job->request.delta_e12, job->layout.thresholds);
    job->answer.cost_nano = job->price.nano;
    err = query_layout_noise(&job->layout, job->answer.cost_nano, reterr);
    if (err == E_LIMIT) {
        return refuse(job, PROTO_REASON_BAD_REQUEST, "epsilon is too small for any answer");
    }
    return err;
}

static enum err serve(struct job *job, const struct peer_request *incoming, struct err_info *reterr)
{
    enum err err = authenticate(job, incoming, reterr);
    if (err) {
        return err;
    }
    err = understand(job, reterr);
    if (!err) {
        err = decide(job);
        enum err out = job->request.explain ? query_admission_clauses(&job->admission, &job->arena,
                                                                      &job->answer.clauses)
                                            : E_OK;
        err = out ? out : err;
    }
    if (err == E_REFUSED) {
        fill_budget(job);
    }
    if (!err) {
        err = price(job, reterr);
    }
    if (!err && job->held) {
        err = wait_for_person(job, reterr);
    }
    if (!err && job->request.explain) {
        return explain(job, reterr);
    }
    if (!err) {
        replay_key(job);
        err = replay(job, reterr);
        if (err == E_NOT_FOUND) {
            err = charge_and_compute(job, reterr);
        }
    }
    return err;
}

/* A fault of ours is `unavailable` to others; its cause is for this site's operator alone. */
static enum err finish(struct job *job, enum err err, const struct err_info *info)
{
    if (err && err != E_REFUSED) {
        job->answer.status = QUERY_UNAVAILABLE;
        job->reason = PROTO_REASON_SUSPENDED;
        snprintf(job->detail, sizeof job->detail, "the site cannot answer now");
        if (proto_err_exit(err) == proto_err_exit(E_CORRUPT)) {
            job->context->damage_met++;
            query_damage_note(job->context->damage, job->admission.row.partition_uuid);
        }
        job->context->log(job->context->user, PEER_LOG_WARN, "query.failed",
                          info->text[0] ? info->text : proto_err_name(err));
        job->answer.coordinates = (struct proto_list){0};
        job->answer.keys = (struct proto_list){0};
        job->answer.cells = 0;
        job->answer.values = job->answer.withheld = span_str("");
    }
    if (err == E_REFUSED && !job->request.explain) {
        struct err_info second = {0};
        if (audit_append(job, "query.refused", proto_reason_name(job->reason), &second)) {
            job->context->log(job->context->user, PEER_LOG_WARN, "audit.failed", second.text);
            return E_IO;
        }
    }
    if (!job->stored) {
        job->answer_bytes.len = 0;
        return encode(job, &job->answer_bytes, NULL);
    }
    return E_OK;
}

/* What leaves is on record before it waits for its tick. */
static void reply(struct job *job, struct peer_request *incoming, enum err err, uint64_t at_ms)
{
    if (err || job->listed || !leaves(job)) {
        /* nothing more to list */
    } else if (job->answer.status == QUERY_UNAVAILABLE) {
        /* It tells nothing but that; where the disk is full it must still get out. */
        store_egress_count(job->context->store, job->requester.name, "unavailable",
                           job->answer_bytes.len);
    } else if (job->request.explain) {
        /* Nothing of the data is in it and nothing was charged: a durable row would cost a disk sync and protect nobody. */
        store_egress_count(job->context->store, job->requester.name, "explain",
                           job->answer_bytes.len);
    } else {
        char id[33];
        span_to_hex(job->request.query_id, id);
        struct err_info info = {0};
        err = store_egress_add(job->context->store, job->requester.name, "answer", id,
                               job->answer_bytes.len, query_now(), &info);
        if (err) {
            job->context->log(job->context->user, PEER_LOG_WARN, "egress.failed", info.text);
            err = E_BUSY;
        }
    }
    peer_reply_at(incoming, at_ms, err, err ? SPAN_NONE : buf_span(&job->answer_bytes));
}

/* Public cost of a cell of the unpruned scan, generous on slow machines: decrypt, unpack, filter, bound, add. */
#define SCAN_NS_PER_VALUE 40

uint64_t query_release_ms(const struct proto_query *query, const struct query_layout *layout,
                          uint64_t size, uint64_t tick_ms)
{
    uint64_t rows = size * query->schema->max_rows_per_unit;
    uint64_t columns = 2 + query->group_count + query->nodes;
    for (size_t i = 0; i < layout->count; i++) {
        columns +=
            layout->parts[i].part != QUERY_PART_LEVEL; /* these are made of what was scanned */
    }
    uint64_t most = 60000; /* past a minute the tick alone decides */
    uint64_t scan_ms = rows / 1000 * columns * SCAN_NS_PER_VALUE / 1000;
    scan_ms = scan_ms < most ? scan_ms : most;
    return tick_ms ? tick_ms * (scan_ms / tick_ms + 1) : scan_ms;
}

static uint64_t release_of(const struct job *job)
{
    uint64_t tick = job->context->release_tick_ms;
    /* A request that was not understood scanned nothing. */
    return job->query.bound
               ? query_release_ms(&job->query, &job->layout, job->admission.row.size, tick)
               : tick;
}

static void say_times(const struct job *job, uint64_t at_ms)
{
    char id[33];
    char text[200];
    uint64_t now = now_us();
    span_to_hex(job->request.query_id, id);
    snprintf(text, sizeof text,
             "%s all %llu reserve %llu scan %llu release %llu wait %llu microseconds", id,
             (unsigned long long)(now - job->times.begun), (unsigned long long)job->times.reserve,
             (unsigned long long)job->times.scan, (unsigned long long)job->times.release,
             (unsigned long long)(at_ms * 1000 > now ? at_ms * 1000 - now : 0));
    job->context->log(job->context->user, PEER_LOG_DEBUG, "query.times", text);
}

void query_site_handle(struct peer_request *request, void *user)
{
    uint64_t started = query_now_ms();
    struct job *job = proto_alloc(1, sizeof *job);
    struct err_info info = {0};
    if (!job) {
        peer_reply(request, E_NO_MEMORY, SPAN_NONE);
        return;
    }
    job->context = user;
    job->times.begun = now_us();
    job->canonical.max = PROTO_QUERY_TEXT_MAX * 8;
    job->answer_bytes.max = PEER_MESSAGE_MAX;
    job->answer.dataset_version = job->answer.values = job->answer.withheld = span_str("");
    bool refusing = job->context->refusing && job->context->refusing(job->context->user);
    enum err err = refusing                                 ? E_BUSY
                   : peer_request_deadline_ms(request) == 0 ? E_TIMEOUT /* nobody waits any more */
                                                            : serve(job, request, &info);
    bool ours =
        job->answer.query_id.len == 16; /* authenticated: it gets an answer, also when that is no */
    err = ours ? finish(job, err, &info) : err;
    uint64_t at_ms = ours && !job->request.explain ? query_release_at(started, release_of(job)) : 0;
    reply(job, request, ours || err ? err : E_INTERNAL, at_ms);
    if (job->stored) {
        say_times(job, at_ms);
    }
    buf_fini(&job->answer_bytes);
    buf_fini(&job->canonical);
    query_admission_fini(&job->admission);
    proto_query_fini(&job->query);
    arena_fini(&job->arena);
    proto_free(job);
}
