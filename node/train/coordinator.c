/* The coordinator's side of a job: what to do next is decided by proto/round.h; here it is done. A thread asks the sites for
 * what the machine wants to be sent, tells it what came back, adds up the rounds that it closes, and keeps each result
 * before the next is asked for. */
#include "config.h"
#include "node/train/internal.h"

#include "crypto/provider.h"
#include "crypto/random.h"
#include "node/query/agreement.h"
#include "node/query/project.h"
#include "node/query/ask.h"
#include "node/query/site.h"
#include "node/query/witness.h"
#include "proto/duo.h"
#include "proto/policy.h"
#include "store/egress.h"
#include "store/job.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#define OFFER_TIMEOUT_MS 25000
#define LATE_OFFER_MS    5000  /* the same while a round is open, which waits for it */
#define GONE_MS          8000  /* how long a lost site is waited for within a round */
#define ABSENT_MS        1000  /* the same for one that was absent in the last round already */
#define BUSY_MS          20000 /* how long a site that says BUSY is asked again */
#define PAUSE_MS         500
#define ROUND_RETRIES    2
#define DELTA_UNIT       1e12

/* --- asking several sites at once -------------------------------------------------------------------------------------- */

/* Each call has a thread: a site that went away must not hold the others up until the deadline. */
struct asked {
    struct train_service *service;
    size_t site; /* index into the job's sites */
    struct peer_call call;
    struct buf request;
    uint64_t deadline_ms;
    bool (*cancelled)(void *user);
    void *user;
    uint64_t looked_ms;
    uint64_t patience_ms;
    uint64_t gone_ms; /* since when its link is down; 0: it is up */
    uint64_t busy_ms;
    bool returned; /* it went and came back: what was sent may be lost */
    bool given_up;
    bool joinable;
    pthread_t thread;
};

static bool asked_cancelled(void *user)
{
    struct asked *asked = user;
    struct peer_member member;
    uint64_t now = query_now_ms();
    if (asked->cancelled && asked->cancelled(asked->user)) {
        asked->given_up = true;
        return true;
    }
    if (now - asked->looked_ms < PAUSE_MS) {
        return false;
    }
    asked->looked_ms = now;
    bool known = peer_member_by_id(asked->service->context->peer, asked->call.to, &member);
    if (known && (member.state == PEER_UP || member.state == PEER_SELF)) {
        asked->returned = asked->gone_ms != 0;
        asked->gone_ms = 0;
        return asked->returned;
    }
    asked->gone_ms = asked->gone_ms ? asked->gone_ms : now;
    if (!known || member.state == PEER_REVOKED || now - asked->gone_ms > asked->patience_ms) {
        asked->given_up = true;
    }
    return asked->given_up;
}

static void pause_ms(uint64_t ms)
{
    struct timespec pause = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    while (nanosleep(&pause, &pause) != 0) {
    }
}

static bool ask_again(struct asked *asked)
{
    uint64_t now = query_now_ms();
    enum err status = asked->call.status;
    if (asked->given_up || now + PAUSE_MS >= asked->deadline_ms) {
        return false;
    }
    if (status == E_CANCELLED && asked->returned) {
        return true;
    }
    if (status == E_BUSY) {
        asked->busy_ms = asked->busy_ms ? asked->busy_ms : now;
        return now - asked->busy_ms < BUSY_MS;
    }
    return false;
}

static void *ask_one(void *user)
{
    struct asked *asked = user;
    for (;;) {
        uint64_t now = query_now_ms();
        uint64_t left = asked->deadline_ms > now ? asked->deadline_ms - now : 1;
        asked->returned = false;
        enum err err = peer_call_many(asked->service->context->peer, &asked->call, 1, left,
                                      asked_cancelled, asked);
        asked->call.status = err ? err : asked->call.status;
        if (!ask_again(asked)) {
            break;
        }
        buf_fini(&asked->call.reply);
        pause_ms(PAUSE_MS);
    }
    if (asked->call.status == E_CANCELLED) {
        asked->call.status = E_UNREACHABLE;
    }
    return NULL;
}

static void ask_all(struct asked *asked, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        asked[i].joinable = pthread_create(&asked[i].thread, NULL, ask_one, &asked[i]) == 0;
        if (!asked[i].joinable) {
            asked[i].call.status = E_NO_MEMORY;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (asked[i].joinable) {
            pthread_join(asked[i].thread, NULL);
        }
    }
}

static void asked_fini(struct asked *asked, size_t count)
{
    for (size_t i = 0; asked && i < count; i++) {
        buf_fini(&asked[i].call.reply);
        buf_fini(&asked[i].request);
    }
    proto_free(asked);
}

static void asked_init(struct asked *asked, struct train_service *service,
                       const struct train_site *site, size_t index, uint32_t type,
                       uint64_t timeout_ms, bool (*cancelled)(void *), void *user)
{
    *asked = (struct asked){
        .service = service,
        .site = index,
        .deadline_ms = query_now_ms() + timeout_ms,
        .patience_ms = strcmp(site->state, "absent") == 0 || strcmp(site->state, "unreachable") == 0
                           ? ABSENT_MS
                           : GONE_MS,
        .cancelled = cancelled,
        .user = user,
    };
    asked->request.max = PEER_MESSAGE_MAX;
    asked->call.type = type;
    memcpy(asked->call.to, site->id, 16);
}

/* --- the plan ---------------------------------------------------------------------------------------------------------- */

static bool site_wanted(const struct proto_job *job, const struct peer_member *member)
{
    for (size_t i = 0; i < job->sites.count; i++) {
        char id[33];
        span_to_hex(span_of(member->id, 16), id);
        if (strcmp(job->sites.items[i], member->name) == 0 ||
            strcmp(job->sites.items[i], id) == 0) {
            return true;
        }
    }
    return job->sites.count == 0;
}

static enum err choose_sites(struct train_service *service, const struct proto_job *job,
                             struct query_publisher *publishers, size_t *count,
                             struct err_info *reterr)
{
    size_t kept = 0;
    for (size_t i = 0; i < job->sites.count; i++) {
        struct peer_member member;
        if (!peer_member_by_name(service->context->peer, job->sites.items[i], &member)) {
            return proto_err_set(reterr, E_NOT_FOUND,
                                 "no member is called %s; `concordat peers` lists them",
                                 job->sites.items[i]);
        }
    }
    for (size_t i = 0; i < *count; i++) {
        if (site_wanted(job, &publishers[i].member)) {
            publishers[kept++] = publishers[i];
        }
    }
    *count = kept;
    if (kept > TRAIN_SITES_MAX) {
        return proto_err_set(reterr, E_LIMIT,
                             "a job has at most %d sites; name them under participation.sites",
                             TRAIN_SITES_MAX);
    }
    return kept ? E_OK
                : proto_err_set(reterr, E_NOT_FOUND,
                                "none of the named sites publishes the dataset");
}

/* What the format can say and this version cannot honour is refused, never dropped. */
static enum err check_supported(const struct proto_job *job, struct err_info *reterr)
{
    if (!job->has_privacy) {
        return proto_err_set(
            reterr, E_UNSUPPORTED,
            "privacy: this version trains only with noise; state epsilon and delta");
    }
    if (job->weight_decay != 0 || job->warmup != 0) {
        return proto_err_set(
            reterr, E_UNSUPPORTED,
            "local: this version has no weight_decay and no warmup for tabular jobs");
    }
    return E_OK;
}

static struct proto_list text_list(struct arena *arena, const char *const *texts, size_t count)
{
    struct proto_text *items = arena_alloc(arena, count, sizeof *items);
    for (size_t i = 0; items && i < count; i++) {
        items[i].text = span_str(texts[i]);
    }
    return (struct proto_list){items, items ? count : 0};
}

static void name_site(struct train_site *site, const struct query_publisher *publisher, bool same)
{
    memcpy(site->id, publisher->member.id, 16);
    snprintf(site->node, sizeof site->node, "%s", publisher->member.name);
    snprintf(site->org, sizeof site->org, "%s", publisher->member.org);
    site->size = publisher->dataset.size;
    snprintf(site->state, sizeof site->state, "%s", same ? "offered" : "refused");
    if (!same) {
        site->error = E_SCHEMA;
        snprintf(site->reason, sizeof site->reason, "%s", proto_reason_name(PROTO_REASON_SCHEMA));
        snprintf(site->detail, sizeof site->detail, "the site's schema of the dataset differs");
    }
}

static struct proto_list fill_sites(struct train_job_state *state,
                                    const struct query_publisher *publishers, size_t count,
                                    size_t model, double *ret_units)
{
    struct query_node_ref *refs = arena_alloc(&state->arena, count, sizeof *refs);
    size_t same = 0;
    *ret_units = 0;
    for (size_t i = 0; refs && i < count; i++) {
        bool fits = memcmp(publishers[i].schema_hash, publishers[model].schema_hash, 32) == 0;
        name_site(&state->sites[i], &publishers[i], fits);
        if (fits) {
            refs[same++].node = span_of(state->sites[i].id, 16);
            *ret_units += (double)publishers[i].dataset.size;
        }
    }
    state->site_count = count;
    return (struct proto_list){refs, same};
}

static enum err encode_plan(struct train_service *service, const struct proto_job *job,
                            struct train_job_state *state, const struct query_publisher *publishers,
                            size_t count, struct err_info *reterr)
{
    size_t model = query_publishers_schema(service->context, publishers, count);
    struct proto_purpose purpose;
    double units;
    enum err err =
        proto_job_purpose(job, state->person,
                          service->context->commercial_known ? &service->context->commercial : NULL,
                          &state->arena, &purpose, reterr);
    err = err ? err
              : query_project_fill(service->context, &state->arena, &purpose, query_now(), reterr);
    err =
        err ? err : query_agreement_name(service->context, state->dataset, &state->arena, &purpose);
    if (err) {
        return err;
    }
    struct proto_list sites = fill_sites(state, publishers, count, model, &units);
    uint64_t every = job->eval_split > 0 ? job->eval_every : 0;
    state->max_rows_per_unit = publishers[model].schema.max_rows_per_unit;
    struct train_plan plan = {
        .version = TRAIN_VERSION,
        .job_id = span_of(state->id, 16),
        .job = span_str(state->name),
        .dataset = span_str(state->dataset),
        .schema_hash = span_of(publishers[model].schema_hash, 32),
        .features =
            text_list(&state->arena, (const char *const *)job->features.items, job->features.count),
        .target = span_str(job->target),
        .midpoint = job->missing == PROTO_MISSING_MIDPOINT,
        .rounds = job->rounds,
        .epochs = job->epochs,
        .batch = job->batch,
        .learning_rate = job->learning_rate,
        .momentum = MODEL_MOMENTUM,
        .clip = job->clip,
        .epsilon = job->epsilon,
        .delta_e12 = (uint64_t)llround(job->delta * DELTA_UNIT),
        .eval_split = every ? job->eval_split : 0,
        .eval_every = every,
        .eval_share = every ? job->eval_share : 0,
        .purpose = purpose,
        .sites = sites,
        .time = query_now(),
    };
    if (every) {
        plan.bins = train_bins_choose(plan.epsilon, job->delta, plan.eval_share, plan.eval_split,
                                      units, sites.count, (uint32_t)state->max_rows_per_unit);
    }
    struct buf bytes = {.max = 262144};
    err = proto_codec_encode(&train_plan_message, &plan, &bytes, reterr);
    uint8_t *copy = err ? NULL : arena_alloc(&state->arena, bytes.len, 1);
    if (copy) {
        memcpy(copy, bytes.ptr, bytes.len);
        state->plan = span_of(copy, bytes.len);
        train_plan_hash(state->plan, state->plan_hash);
    } else if (!err) {
        err = E_NO_MEMORY;
    }
    buf_fini(&bytes);
    return err;
}

static enum err make_weights(const struct proto_job *job, struct train_job_state *state,
                             const struct proto_schema *schema, struct err_info *reterr)
{
    struct train_encoding *encoding = proto_alloc(1, sizeof *encoding);
    enum err err = encoding
                       ? train_encoding_plan(schema, (const char *const *)job->features.items,
                                             job->features.count, job->target, encoding, reterr)
                       : E_NO_MEMORY;
    if (!err) {
        state->weight_count = encoding->width + 1;
        state->weights = arena_alloc(&state->arena, state->weight_count, sizeof *state->weights);
        state->velocity = arena_alloc(&state->arena, state->weight_count, sizeof *state->velocity);
        err = state->weights && state->velocity ? E_OK : E_NO_MEMORY;
    }
    proto_free(encoding);
    return err;
}

enum err train_coordinator_prepare(struct train_service *service, const struct proto_job *job,
                                   const char *person, struct train_job_state *state,
                                   struct err_info *reterr)
{
    struct arena arena = {0};
    struct query_publisher *publishers;
    size_t count;
    enum err err = check_supported(job, reterr);
    if (!err) {
        err = query_clock_check(service->context->peer, reterr);
    }
    if (!err) {
        err = crypto_random(state->id, sizeof state->id);
    }
    snprintf(state->name, sizeof state->name, "%s", job->name);
    snprintf(state->dataset, sizeof state->dataset, "%s", job->dataset);
    snprintf(state->task, sizeof state->task, "%s", proto_task_name(job->task));
    snprintf(state->coordinator, sizeof state->coordinator, "%.32s", service->context->name);
    snprintf(state->person, sizeof state->person, "%s", person);
    state->state = TRAIN_RUNNING;
    state->min_sites = job->min_sites ? job->min_sites : 1;
    state->round_timeout_ms = job->round_timeout_ms ? job->round_timeout_ms : 600000;
    state->early_stop = job->early_stop;
    state->server_momentum = job->server_momentum;
    state->epsilon = job->epsilon;
    state->delta = job->delta;
    state->rounds = job->rounds;
    state->started = query_now();
    if (!err) {
        err = query_publishers(service->context, job->dataset, &arena, &publishers, &count, reterr);
    }
    if (!err) {
        err = choose_sites(service, job, publishers, &count, reterr);
    }
    if (!err) {
        err = make_weights(
            job, state,
            &publishers[query_publishers_schema(service->context, publishers, count)].schema,
            reterr);
    }
    if (!err) {
        err = encode_plan(service, job, state, publishers, count, reterr);
    }
    arena_fini(&arena);
    return err;
}

/* --- offers ------------------------------------------------------------------------------------------------------------ */

static enum err seal_offer(struct train_service *service, const struct train_job_state *state,
                           const struct train_site *site, bool explain, bool stop, struct buf *out,
                           struct err_info *reterr)
{
    struct train_offer offer = {
        .to = span_of(site->id, 16),
        .explain = explain,
        .stop = stop,
        .time = query_now(),
        .plan = state->plan,
    };
    return query_message_seal(&train_offer_message, &offer, TRAIN_PLAN_DOMAIN,
                              service->context->identity, service->context->federation_id, out,
                              reterr);
}

static void site_lost(struct train_site *site, enum err err, const char *detail)
{
    snprintf(site->state, sizeof site->state, "unreachable");
    site->error = err == E_BUSY ? E_BUSY : E_UNREACHABLE;
    snprintf(site->reason, sizeof site->reason, "%s", proto_err_name(err));
    snprintf(site->detail, sizeof site->detail, "%.250s",
             detail && detail[0] ? detail : proto_err_text(err));
}

static void keep_clauses(struct train_job_state *state, struct train_site *site,
                         const struct train_admit *admit)
{
    const struct query_clause *from = admit->clauses.items;
    struct query_clause *to = arena_alloc(&state->arena, admit->clauses.count, sizeof *to);
    for (size_t i = 0; to && i < admit->clauses.count; i++) {
        const struct span texts[] = {from[i].clause, from[i].expected, from[i].reason};
        struct span *into[] = {&to[i].clause, &to[i].expected, &to[i].reason};
        for (size_t j = 0; j < 3; j++) {
            *into[j] = span_str(arena_strdup(&state->arena, texts[j]));
        }
        to[i].result = from[i].result;
    }
    site->clauses = to;
    site->clause_count = to ? admit->clauses.count : 0;
}

static void keep_duties(struct train_site *site, const struct proto_list *duties)
{
    const struct proto_text *items = duties->items;
    size_t at = 0;
    site->duties[0] = '\0';
    for (size_t i = 0; i < duties->count && at + items[i].text.len + 2 < sizeof site->duties; i++) {
        at += (size_t)snprintf(site->duties + at, sizeof site->duties - at, "%s%.*s", at ? " " : "",
                               (int)items[i].text.len, (const char *)items[i].text.ptr);
    }
}

/* The noise that the site says it calibrated must be what our own arithmetic gives for the size that it declared. */
static enum err check_cost(const struct train_job_state *state, struct train_site *site,
                           const struct train_admit *admit)
{
    struct arena arena = {0};
    struct train_plan plan;
    enum err err = proto_codec_decode(&train_plan_message, state->plan, &arena, &plan, NULL);
    if (!err) {
        struct train_terms terms = train_plan_terms(&plan, admit->size);
        err = train_cost_plan(&terms, 2, &site->cost, NULL);
    }
    arena_fini(&arena);
    if (!err && (admit->steps != site->cost.steps ||
                 fabs(admit->sigma - site->cost.sigma) > 1e-9 * site->cost.sigma)) {
        err = E_INVALID;
    }
    return err;
}

static void read_admit(struct train_service *service, struct train_job_state *state,
                       struct asked *asked, bool explain)
{
    struct train_site *site = &state->sites[asked->site];
    struct query_context *context = service->context;
    struct arena arena = {0};
    struct peer_member member = {0};
    struct train_admit admit;
    struct err_info info = {0};
    enum err err = asked->call.status;
    if (!err && !peer_member_by_id(context->peer, site->id, &member)) {
        err = E_NOT_FOUND;
    }
    if (!err) {
        err = query_message_open(&train_admit_message, buf_span(&asked->call.reply),
                                 TRAIN_ADMIT_DOMAIN, member.point, context->federation_id, &arena,
                                 &admit, &info);
    }
    if (!err && (memcmp(admit.job_id.ptr, state->id, 16) != 0 ||
                 memcmp(admit.plan_hash.ptr, state->plan_hash, 32) != 0)) {
        err = E_AUTH;
    }
    if (err) {
        site_lost(site, err, info.text);
        arena_fini(&arena);
        return;
    }
    query_witness_keep(context, &member, admit.head);
    char error[65];
    site->error =
        span_to_cstr(admit.error, error, sizeof error) ? proto_err_by_name(error) : E_REFUSED;
    (void)span_to_cstr(admit.reason, site->reason, sizeof site->reason);
    snprintf(site->detail, sizeof site->detail, "%.*s",
             (int)(admit.detail.len < 250 ? admit.detail.len : 250),
             (const char *)admit.detail.ptr);
    site->cap_nano = admit.cap_nano;
    site->spent_nano = admit.spent_nano;
    site->account_delta_e12 = admit.account_delta_e12;
    site->cost_nano = admit.cost_nano;
    if (explain) {
        keep_clauses(state, site, &admit);
    }
    if (admit.admitted && check_cost(state, site, &admit)) {
        site_lost(site, E_INVALID, "the site's own calibration differs from the plan's");
    } else if (admit.admitted) {
        site->admitted = true;
        site->error = E_OK;
        site->size = admit.size;
        site->release = admit.release;
        memcpy(site->licence_id, admit.licence_id.ptr, 16);
        keep_duties(site, &admit.duties);
        snprintf(site->state, sizeof site->state, "admitted");
    } else {
        site->error = site->error ? site->error : E_REFUSED;
        snprintf(site->state, sizeof site->state,
                 site->error == E_APPROVAL ? "waiting" : "refused");
    }
    arena_fini(&arena);
}

static enum err ask_offer(struct train_service *service, struct train_job_state *state,
                          size_t index, bool explain, uint64_t timeout_ms,
                          bool (*cancelled)(void *), void *user, struct asked *asked,
                          struct err_info *reterr)
{
    struct train_site *site = &state->sites[index];
    asked_init(asked, service, site, index, PEER_MSG_TRAIN_PLAN, timeout_ms, cancelled, user);
    enum err err = seal_offer(service, state, site, explain, false, &asked->request, reterr);
    asked->call.body = buf_span(&asked->request);
    if (memcmp(site->id, service->context->node_id, 16) != 0) {
        store_egress_count(service->context->store, site->node, "train", asked->request.len);
    }
    return err;
}

enum err train_coordinator_explain(struct train_service *service, struct train_job_state *state,
                                   struct err_info *reterr)
{
    struct asked *asked = proto_alloc(state->site_count, sizeof *asked);
    size_t count = 0;
    enum err err = asked ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < state->site_count; i++) {
        if (state->sites[i].error != E_SCHEMA) {
            err = ask_offer(service, state, i, true, OFFER_TIMEOUT_MS, NULL, NULL, &asked[count++],
                            reterr);
        }
    }
    if (!err) {
        ask_all(asked, count);
        for (size_t i = 0; i < count; i++) {
            read_admit(service, state, &asked[i], true);
        }
    }
    asked_fini(asked, count);
    return err;
}

/* Distinct institutions among the sites whose bit is set. */
static size_t institutions(const struct train_job_state *state, uint64_t sites)
{
    size_t count = 0;
    for (size_t i = 0; i < state->site_count; i++) {
        bool seen = !(sites >> i & 1);
        for (size_t j = 0; j < i && !seen; j++) {
            seen = (sites >> j & 1) && strcmp(state->sites[j].org, state->sites[i].org) == 0;
        }
        count += !seen;
    }
    return count;
}

static uint64_t admitted_bits(const struct train_job_state *state)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < state->site_count; i++) {
        bits |= (uint64_t)state->sites[i].admitted << i;
    }
    return bits;
}

static enum err worst_site(const struct train_job_state *state, struct err_info *reterr)
{
    enum err worst = E_OK;
    const struct train_site *cause = NULL;
    for (size_t i = 0; i < state->site_count; i++) {
        enum err err = query_worst(worst, state->sites[i].error);
        cause = err != worst ? &state->sites[i] : cause;
        worst = err;
    }
    worst = worst ? worst : E_UNREACHABLE;
    return proto_err_set(reterr, worst, "%zu institutions take part, %llu wanted%s%s%s%s%s%s%s",
                         institutions(state, admitted_bits(state)),
                         (unsigned long long)state->min_sites, cause ? "; " : "",
                         cause ? cause->node : "", cause ? ": " : "", cause ? cause->detail : "",
                         cause ? " (" : "", cause ? cause->reason : "", cause ? ")" : "");
}

/* --- rounds ------------------------------------------------------------------------------------------------------------ */

static bool job_cancelled(void *user)
{
    const struct train_job *job = user;
    return job->stop || job->service->stopping;
}

static enum err save(struct train_job *job, struct err_info *reterr)
{
    struct buf out = {.max = STORE_JOB_MAX};
    enum err err = train_job_state_encode(&job->state, &out, reterr);
    if (!err) {
        err = store_job_put(job->service->context->store, job->state.id, buf_span(&out), reterr);
    }
    if (!err) {
        pthread_mutex_lock(&job->service->lock);
        job->state.saved = job->state.round;
        pthread_mutex_unlock(&job->service->lock);
    }
    buf_fini(&out);
    return err;
}

/* What one site gave: checked and unpacked, and not counted before the round is closed. */
struct heard {
    double *weights; /* NULL: none */
    double *bins;    /* of the histograms; NULL: none */
    bool evaluated;
    double count, loss, correct;
};

/* A round, or the last evaluation: what was asked and heard, and then the sums over those who took part. */
struct outcome {
    uint64_t number; /* of the round; 0: none is open */
    bool evaluate;
    uint64_t asked; /* bits of sites */
    struct heard heard[TRAIN_SITES_MAX];
    uint64_t bytes_up, bytes_down;
    struct train_row_absent absent[TRAIN_SITES_MAX];
    size_t absent_count;
    uint64_t started_ms;
    uint64_t updated;   /* bits of sites */
    uint64_t evaluated; /* bits of sites */
    double *average;    /* weights, weighted by declared size */
    double size;
    double sums[TRAIN_SUMS];
    double counts[TRAIN_SITES_MAX];
    double histograms[2 * TRAIN_BINS_MAX];
    uint64_t histogram_sites;
};

static void outcome_fini(struct outcome *outcome)
{
    for (size_t i = 0; i < TRAIN_SITES_MAX; i++) {
        proto_free(outcome->heard[i].weights);
        proto_free(outcome->heard[i].bins);
    }
    proto_free(outcome->average);
    memset(outcome, 0, sizeof *outcome);
}

static enum err outcome_open(struct outcome *outcome, const struct train_job_state *state,
                             const struct train_plan *plan, uint64_t number)
{
    outcome_fini(outcome);
    outcome->average = proto_alloc(state->weight_count, sizeof *outcome->average);
    outcome->number = number;
    outcome->started_ms = query_now_ms();
    outcome->evaluate =
        number > plan->rounds || train_plan_evaluates(state->rounds, plan->eval_every, number - 1);
    return outcome->average ? E_OK : E_NO_MEMORY;
}

/* One coordinator's life with a job. */
struct drive {
    struct train_job *job;
    struct arena arena;
    struct train_plan plan;
    struct outcome outcome;
    struct proto_round_actions out;
    /* What the machine wants: */
    uint64_t plans, rounds, stops; /* bits of sites */
    uint64_t save;                 /* number of the PERSIST; 0: none */
    uint64_t timer_ms;
    bool over;
    enum proto_round_state final;
    bool stop_told;
    enum err err; /* of an action */
};

static enum err unpack(struct span from, size_t count, double **ret)
{
    double *doubles = proto_alloc(count, sizeof *doubles);
    enum err err = doubles ? train_unpack_doubles(from, doubles, count) : E_NO_MEMORY;
    if (err) {
        proto_free(doubles);
        return err;
    }
    proto_free(*ret);
    *ret = doubles;
    return E_OK;
}

static enum err hear(const struct train_job_state *state, const struct train_plan *plan,
                     const struct train_update *update, struct heard *heard)
{
    const struct train_evaluation *evaluation = &update->evaluation;
    bool last = update->round > plan->rounds;
    if (update->updated == last) {
        return E_INVALID; /* a round is trained, the last request only evaluated */
    }
    enum err err =
        update->updated ? unpack(update->weights, state->weight_count, &heard->weights) : E_OK;
    if (!err && last && plan->bins && evaluation->histograms.len) {
        err = unpack(evaluation->histograms, 2 * plan->bins, &heard->bins);
    }
    if (!err) {
        heard->evaluated = evaluation->present;
        heard->count = evaluation->count;
        heard->loss = evaluation->loss;
        heard->correct = evaluation->correct;
    }
    return err;
}

static void note_refusal(struct train_site *site, const struct train_update *update)
{
    char name[65];
    if (!span_to_cstr(update->reason, site->reason, sizeof site->reason)) {
        snprintf(site->reason, sizeof site->reason, "REFUSED");
    }
    snprintf(site->detail, sizeof site->detail, "%.*s",
             (int)(update->detail.len < 250 ? update->detail.len : 250),
             (const char *)update->detail.ptr);
    site->error =
        span_to_cstr(update->error, name, sizeof name) ? proto_err_by_name(name) : E_REFUSED;
    snprintf(site->state, sizeof site->state, "refused");
}

/* Ours, signed, and an answer to what was asked. */
static enum err open_update(struct train_job *job, uint64_t number, const struct asked *asked,
                            struct arena *arena, struct train_update *ret)
{
    struct query_context *context = job->service->context;
    struct peer_member member = {0};
    enum err err = asked->call.status;
    if (!err && !peer_member_by_id(context->peer, job->state.sites[asked->site].id, &member)) {
        err = E_NOT_FOUND;
    }
    if (!err) {
        err = query_message_open(&train_update_message, buf_span(&asked->call.reply),
                                 TRAIN_UPDATE_DOMAIN, member.point, context->federation_id, arena,
                                 ret, NULL);
    }
    if (!err && (memcmp(ret->job_id.ptr, job->state.id, 16) != 0 || ret->round != number ||
                 memcmp(ret->plan_hash.ptr, job->state.plan_hash, 32) != 0)) {
        err = E_AUTH;
    }
    if (!err) {
        query_witness_keep(context, &member, ret->head);
    }
    return err;
}

static const char *reason_of(const struct train_site *site)
{
    bool good = site->reason[0] && proto_utf8_valid(span_str(site->reason));
    return good ? site->reason : proto_err_name(site->error ? site->error : E_REFUSED);
}

/* Notes what came from a site in OUTCOME and says in RET what the machine is to be told. The lock is held. */
static void read_update(struct drive *drive, const struct asked *asked,
                        struct proto_round_event *ret)
{
    struct train_job *job = drive->job;
    struct outcome *outcome = &drive->outcome;
    struct train_site *site = &job->state.sites[asked->site];
    struct arena arena = {0};
    struct train_update update;
    enum err err = open_update(job, outcome->number, asked, &arena, &update);
    *ret = (struct proto_round_event){.kind = PROTO_ROUND_SITE_FAILED,
                                      .site = asked->site,
                                      .round = outcome->number,
                                      .term = job->state.machine.term};
    outcome->bytes_up += asked->call.reply.len;
    if (!err && update.steps_started > site->steps_started) {
        site->steps_started = update.steps_started;
    }
    if (!err && !span_is(update.error, "OK")) {
        note_refusal(site, &update);
        ret->kind = PROTO_ROUND_SITE_REFUSED;
    } else {
        err = err ? err : hear(&job->state, &drive->plan, &update, &outcome->heard[asked->site]);
        snprintf(site->state, sizeof site->state, err ? "absent" : "admitted");
        err = err == E_AUTH ? E_INVALID : err;
        snprintf(site->reason, sizeof site->reason, "%s", err ? proto_err_name(err) : "");
        site->detail[0] = '\0';
        site->error = err && err != E_BUSY ? E_UNREACHABLE : err;
        if (!err) {
            /* The whole signed answer: a site keeps it, and gives the same bytes to whoever asks again. */
            const struct span bytes = buf_span(&asked->call.reply);
            ret->kind = PROTO_ROUND_SITE_UPDATED;
            crypto_sha256(&bytes, 1, ret->hash);
        }
    }
    ret->reason = reason_of(site);
    arena_fini(&arena);
}

/* Adds up what the sites of PARTICIPANTS gave, in the order of the sites. */
static void add_up(const struct train_job_state *state, const struct train_plan *plan,
                   uint64_t participants, struct outcome *outcome)
{
    for (size_t i = 0; i < state->site_count; i++) {
        const struct heard *heard = &outcome->heard[i];
        double size = (double)state->sites[i].size;
        if (!(participants >> i & 1)) {
            continue;
        }
        for (size_t j = 0; heard->weights && j < state->weight_count; j++) {
            outcome->average[j] += size * heard->weights[j];
        }
        outcome->size += heard->weights ? size : 0;
        outcome->updated |= (uint64_t)(heard->weights != NULL) << i;
        if (heard->evaluated) {
            outcome->evaluated |= UINT64_C(1) << i;
            outcome->counts[i] = heard->count;
            outcome->sums[TRAIN_SUM_LOSS] += heard->loss;
            outcome->sums[TRAIN_SUM_CORRECT] += heard->correct;
        }
        for (size_t j = 0; heard->bins && j < 2 * plan->bins; j++) {
            outcome->histograms[j] += heard->bins[j];
        }
        outcome->histogram_sites += heard->bins != NULL;
    }
}

static enum err seal_round(struct train_job *job, const struct train_site *site, uint64_t number,
                           bool evaluate, struct span weights, struct buf *out,
                           struct err_info *reterr)
{
    struct train_round round = {
        .version = TRAIN_VERSION,
        .to = span_of(site->id, 16),
        .job_id = span_of(job->state.id, 16),
        .plan_hash = span_of(job->state.plan_hash, 32),
        .round = number,
        .term = job->state.machine.term,
        .evaluate = evaluate,
        .weights = weights,
        .time = query_now(),
    };
    return query_message_seal(&train_round_message, &round, TRAIN_ROUND_DOMAIN,
                              job->service->context->identity, job->service->context->federation_id,
                              out, reterr);
}

static enum err ask_update(struct drive *drive, size_t index, uint64_t timeout_ms,
                           struct span weights, struct asked *asked, struct err_info *reterr)
{
    struct train_job *job = drive->job;
    struct outcome *outcome = &drive->outcome;
    const struct train_site *site = &job->state.sites[index];
    asked_init(asked, job->service, site, index, PEER_MSG_TRAIN_ROUND, timeout_ms, job_cancelled,
               job);
    enum err err =
        seal_round(job, site, outcome->number, outcome->evaluate, weights, &asked->request, reterr);
    asked->call.body = buf_span(&asked->request);
    outcome->asked |= UINT64_C(1) << index;
    outcome->bytes_down += asked->request.len;
    if (memcmp(site->id, job->service->context->node_id, 16) != 0) {
        store_egress_count(job->service->context->store, site->node, "weights", asked->request.len);
    }
    return err;
}

static double spent(const struct train_job_state *state, struct train_site *site)
{
    site->epsilon = train_cost_epsilon(&site->cost, site->steps_started, site->evaluations,
                                       site->histograms > 0, state->delta);
    return site->epsilon;
}

static double spent_most(struct train_job_state *state)
{
    double most = 0;
    for (size_t i = 0; i < state->site_count; i++) {
        if (state->sites[i].admitted) {
            most = fmax(most, spent(state, &state->sites[i]));
        }
    }
    return most;
}

/* Whoever was asked for figures is counted as having spent them, whether its answer arrived or not. */
static void count_evaluation(struct train_job_state *state, const struct outcome *outcome,
                             bool histogram)
{
    for (size_t i = 0; i < state->site_count; i++) {
        struct train_site *site = &state->sites[i];
        if (outcome->asked >> i & 1) {
            site->evaluations += outcome->evaluate && site->evaluations < site->cost.evaluations;
            site->histograms += histogram && site->histograms == 0 && site->cost.hist_nano;
        }
    }
}

static void read_figures(struct train_job_state *state, const struct train_plan *plan,
                         const struct outcome *outcome, struct train_round_row *row)
{
    struct privacy_coordinate coordinates[TRAIN_SUMS];
    double count = 0;
    double count_variance = 0;
    double variances[TRAIN_SUMS] = {0};
    uint64_t sums_nano = 0;
    uint64_t hist_nano = 0;
    for (size_t i = 0; i < state->site_count; i++) {
        struct train_site *site = &state->sites[i];
        sums_nano = site->admitted ? site->cost.sums_nano : sums_nano; /* the same at every site */
        hist_nano = site->admitted ? site->cost.hist_nano : hist_nano;
    }
    if (outcome->evaluated &&
        train_sums_plan(sums_nano, (uint32_t)state->max_rows_per_unit, coordinates) == E_OK) {
        for (size_t i = 0; i < state->site_count; i++) {
            struct train_site *site = &state->sites[i];
            if (!(outcome->evaluated >> i & 1)) {
                continue;
            }
            site->counts++;
            site->count_sum += outcome->counts[i];
            count += site->count_sum / (double)site->counts;
            double sigma = privacy_mechanism_sigma(&coordinates[TRAIN_SUM_COUNT]);
            count_variance += sigma * sigma / (double)site->counts;
            for (size_t j = 0; j < TRAIN_SUMS; j++) {
                double each = privacy_mechanism_sigma(&coordinates[j]);
                variances[j] += each * each;
            }
        }
        struct train_metrics metrics =
            train_metrics_read(count, count_variance, outcome->sums, variances);
        row->evaluated = true;
        row->loss = metrics.loss;
        row->loss_margin = metrics.loss_margin;
        row->accuracy = metrics.accuracy;
        row->accuracy_margin = metrics.accuracy_margin;
    }
    struct privacy_coordinate bin;
    if (outcome->histogram_sites &&
        train_histogram_plan(hist_nano, (uint32_t)state->max_rows_per_unit, &bin) == E_OK) {
        double sigma = privacy_mechanism_sigma(&bin);
        row->auc = train_metrics_auc(outcome->histograms, plan->bins,
                                     sigma * sigma * (double)outcome->histogram_sites);
    }
}

/* Evaluations are of the weights that were sent: the result of the round before. */
static void note_figures(struct train_job_state *state, const struct train_plan *plan,
                         const struct outcome *outcome)
{
    struct train_round_row *row =
        state->history_count ? &state->history[state->history_count - 1] : NULL;
    if (!row || (!outcome->evaluated && !outcome->histogram_sites)) {
        return;
    }
    read_figures(state, plan, outcome, row);
    if (!isfinite(row->loss)) {
        return;
    }
    if (state->best_loss == 0 || row->loss < state->best_loss) {
        state->best_loss = row->loss > 0 ? row->loss : 1e-12;
        state->stale = 0;
    } else {
        state->stale++;
    }
}

static double seconds_of(const struct train_job *job, const struct outcome *outcome)
{
    uint64_t tick =
        job->service->context->release_tick_ms ? job->service->context->release_tick_ms : 1;
    uint64_t ms = query_now_ms() - outcome->started_ms;
    return (double)((ms + tick - 1) / tick * tick) / 1000;
}

static enum err note_round(struct train_job *job, const struct train_plan *plan, uint64_t number,
                           const struct outcome *outcome)
{
    struct train_job_state *state = &job->state;
    struct train_round_row *row;
    note_figures(state, plan, outcome);
    enum err err = train_job_state_row(state, &row);
    if (err) {
        return err;
    }
    /* FedAvg; with server momentum the step towards the average is remembered. */
    for (size_t i = 0; i < state->weight_count; i++) {
        double step = outcome->average[i] / outcome->size - state->weights[i];
        state->velocity[i] = state->server_momentum * state->velocity[i] + step;
        state->weights[i] += state->velocity[i];
    }
    row->round = number;
    row->participants = outcome->updated;
    row->bytes_up = outcome->bytes_up;
    row->bytes_down = outcome->bytes_down;
    row->seconds = seconds_of(job, outcome);
    memcpy(row->absent, outcome->absent, sizeof row->absent);
    row->absent_count = outcome->absent_count;
    for (size_t i = 0; i < state->site_count; i++) {
        state->sites[i].rounds += outcome->updated >> i & 1;
    }
    row->epsilon = spent_most(state);
    state->round = number;
    return E_OK;
}

/* --- the machine ------------------------------------------------------------------------------------------------------- */

/* The round is closed: exactly the sites that the machine names are averaged. */
static enum err close_round(struct drive *drive, uint64_t number)
{
    struct train_job_state *state = &drive->job->state;
    struct outcome *outcome = &drive->outcome;
    uint64_t participants = 0;
    for (size_t i = 0; i < state->site_count; i++) {
        participants |= (uint64_t)proto_round_took_part(&drive->out, i) << i;
    }
    pthread_mutex_lock(&drive->job->service->lock);
    add_up(state, &drive->plan, participants, outcome);
    count_evaluation(state, outcome, false);
    enum err err = outcome->updated == participants && outcome->size > 0
                       ? note_round(drive->job, &drive->plan, number, outcome)
                       : E_INTERNAL;
    pthread_mutex_unlock(&drive->job->service->lock);
    return err;
}

static void name_absent(struct drive *drive, const struct proto_round_action *action)
{
    struct outcome *outcome = &drive->outcome;
    struct train_row_absent *to = &outcome->absent[outcome->absent_count++];
    to->site = action->site;
    snprintf(to->reason, sizeof to->reason, "%s", action->reason);
}

static void perform(struct drive *drive, const struct proto_round_action *action)
{
    uint64_t bit = UINT64_C(1) << action->site;
    enum err err = E_OK;
    switch (action->kind) {
    case PROTO_ROUND_SEND_PLAN:
        drive->plans |= bit;
        break;
    case PROTO_ROUND_SEND_ROUND:
        if (action->round != drive->outcome.number) {
            err = outcome_open(&drive->outcome, &drive->job->state, &drive->plan, action->round);
        }
        drive->rounds |= bit;
        break;
    case PROTO_ROUND_SET_TIMER:
        drive->timer_ms = action->at_ms;
        break;
    case PROTO_ROUND_NAME_ABSENT:
        name_absent(drive, action);
        break;
    case PROTO_ROUND_CLOSE_ROUND:
        err = close_round(drive, action->round);
        break;
    case PROTO_ROUND_PERSIST:
        drive->save = action->save;
        break;
    case PROTO_ROUND_SEND_STOP:
        drive->stops |= bit;
        break;
    case PROTO_ROUND_FINISH:
        drive->over = true;
        drive->final = action->state;
        break;
    }
    drive->err = drive->err ? drive->err : err;
}

static enum err step(struct drive *drive, struct proto_round_event event)
{
    event.now_ms = query_now_ms();
    enum err err = proto_round_step(&drive->job->state.machine, &event, &drive->out);
    for (size_t i = 0; i < drive->out.count; i++) {
        perform(drive, &drive->out.items[i]);
    }
    return err ? err : drive->err;
}

/* Which round comes next is decided from what is on disk alone, so that a second life decides the same. */
static enum err persist(struct drive *drive, struct err_info *reterr)
{
    struct train_job_state *state = &drive->job->state;
    bool enough = state->early_stop && state->stale >= state->early_stop && state->round > 0;
    uint64_t number = drive->save;
    drive->save = 0;
    state->term = state->machine.term;
    enum err err = save(drive->job, reterr);
    return err ? err
               : step(drive, (struct proto_round_event){.kind = PROTO_ROUND_PERSISTED,
                                                        .save = number,
                                                        .round = state->machine.round,
                                                        .next = enough ? state->rounds + 1 : 0});
}

static enum err tell_admit(struct drive *drive, size_t index)
{
    struct train_site *site = &drive->job->state.sites[index];
    struct proto_round_event event = {.kind = PROTO_ROUND_SITE_REFUSED,
                                      .site = index,
                                      .term = drive->job->state.machine.term,
                                      .weight = site->size,
                                      .reason = reason_of(site),
                                      .held = site->error == E_APPROVAL};
    if (site->admitted && site->size > 0 && site->size <= PROTO_ROUND_WEIGHT_MAX) {
        event.kind = PROTO_ROUND_SITE_ADMITTED;
    } else if (strcmp(site->state, "unreachable") == 0) {
        event.kind = PROTO_ROUND_SITE_FAILED;
    }
    return step(drive, event);
}

static enum err tell_update(struct drive *drive, const struct asked *asked)
{
    struct train_job *job = drive->job;
    struct train_site *site = &job->state.sites[asked->site];
    const struct proto_round_party *party = &job->state.machine.sites[asked->site];
    struct query_context *context = job->service->context;
    struct proto_round_event event;
    bool before = party->standing == PROTO_ROUND_EQUIVOCATED;
    pthread_mutex_lock(&job->service->lock);
    read_update(drive, asked, &event);
    pthread_mutex_unlock(&job->service->lock);
    enum err err = step(drive, event);
    if (!before && party->standing == PROTO_ROUND_EQUIVOCATED) {
        pthread_mutex_lock(&job->service->lock);
        snprintf(site->state, sizeof site->state, "refused");
        snprintf(site->reason, sizeof site->reason, "%s", PROTO_ROUND_REASON_EQUIVOCATED);
        snprintf(site->detail, sizeof site->detail, "it signed two updates for one round");
        site->error = E_AUTH;
        pthread_mutex_unlock(&job->service->lock);
        context->log(context->user, PEER_LOG_ALARM, "train.equivocated", site->node);
    }
    return err;
}

/* The plans come first in ASKED: who is admitted now is asked for the round that is open. */
static enum err make_requests(struct drive *drive, uint64_t plans, uint64_t rounds,
                              struct asked *asked, size_t *count, size_t *plan_count,
                              struct err_info *reterr)
{
    struct train_job *job = drive->job;
    struct train_job_state *state = &job->state;
    const struct proto_round *machine = &state->machine;
    struct arena arena = {0};
    struct span weights;
    uint64_t now = query_now_ms();
    uint64_t left = machine->deadline_ms > now ? machine->deadline_ms - now : 1;
    uint64_t patience = rounds ? LATE_OFFER_MS : OFFER_TIMEOUT_MS;
    enum err err = train_pack_doubles(state->weights, state->weight_count, &arena, &weights);
    for (size_t i = 0; !err && i < state->site_count; i++) {
        if ((plans >> i & 1) && state->sites[i].error != E_SCHEMA) {
            err = ask_offer(job->service, state, i, false, patience, job_cancelled, job,
                            &asked[(*count)++], reterr);
        }
    }
    *plan_count = *count;
    for (size_t i = 0; !err && i < state->site_count; i++) {
        if (rounds >> i & 1) {
            err = ask_update(drive, i, left, weights, &asked[(*count)++], reterr);
        }
    }
    arena_fini(&arena);
    return err;
}

/* Asks for all that the machine wants to be sent at this time, and tells it what came back. */
static enum err send_wanted(struct drive *drive, struct err_info *reterr)
{
    struct train_job *job = drive->job;
    struct asked *asked = proto_alloc(job->state.site_count, sizeof *asked);
    uint64_t plans = drive->plans;
    size_t count = 0;
    size_t plan_count = 0;
    enum err err =
        asked ? make_requests(drive, plans, drive->rounds, asked, &count, &plan_count, reterr)
              : E_NO_MEMORY;
    drive->plans = drive->rounds = 0;
    if (!err) {
        ask_all(asked, count);
    }
    if (err || job_cancelled(job)) {
        asked_fini(asked,
                   count); /* sites keep what they answered and give it again after a resume */
        return err;
    }
    pthread_mutex_lock(&job->service->lock);
    for (size_t i = 0; i < plan_count; i++) {
        read_admit(job->service, &job->state, &asked[i], false);
    }
    pthread_mutex_unlock(&job->service->lock);
    for (size_t i = 0; !err && i < job->state.site_count; i++) {
        err = plans >> i & 1 ? tell_admit(drive, i) : E_OK;
    }
    for (size_t i = plan_count; !err && i < count; i++) {
        err = tell_update(drive, &asked[i]);
    }
    asked_fini(asked, count);
    return err;
}

static enum err wait_timer(struct drive *drive)
{
    uint64_t now = query_now_ms();
    while (now < drive->timer_ms && !job_cancelled(drive->job)) {
        uint64_t left = drive->timer_ms - now;
        pause_ms(left < PAUSE_MS ? left : PAUSE_MS);
        now = query_now_ms();
    }
    return now < drive->timer_ms
               ? E_OK
               : step(drive, (struct proto_round_event){.kind = PROTO_ROUND_TIMER});
}

/* Whoever waits for the job looks again; `planned` once rounds are asked for. */
static void announce(struct drive *drive, bool planned)
{
    struct train_job *job = drive->job;
    pthread_mutex_lock(&job->service->lock);
    job->state.planned = job->state.planned || planned;
    job->planned = job->planned || planned;
    pthread_cond_broadcast(&job->service->changed);
    pthread_mutex_unlock(&job->service->lock);
}

static enum err start(struct drive *drive, struct err_info *reterr)
{
    struct train_job_state *state = &drive->job->state;
    uint64_t of_site[TRAIN_SITES_MAX];
    uint64_t all = 0;
    for (size_t i = 0; i < state->site_count; i++) {
        size_t first = 0;
        while (strcmp(state->sites[first].org, state->sites[i].org) != 0) {
            first++;
        }
        of_site[i] = first;
        all |= UINT64_C(1) << i;
    }
    uint64_t most = PROTO_ROUND_TIMEOUT_MAX;
    struct proto_round_event event = {
        .kind = PROTO_ROUND_START,
        .institutions = of_site,
        .site_count = state->site_count,
        .rounds = state->rounds,
        .min_sites = state->min_sites,
        .timeout_ms = state->round_timeout_ms < most ? state->round_timeout_ms : most,
        .retries = ROUND_RETRIES,
    };
    if (institutions(state, all) < state->min_sites) {
        return proto_err_set(reterr, E_UNREACHABLE,
                             "%zu institutions publish the dataset, %llu wanted",
                             institutions(state, all), (unsigned long long)state->min_sites);
    }
    proto_round_init(&state->machine);
    state->has_machine = true;
    return step(drive, event);
}

/* A new job, one from the disk, or one that waited. */
static enum err begin(struct drive *drive, struct err_info *reterr)
{
    struct train_job_state *state = &drive->job->state;
    bool stop = drive->job->stop;
    enum err err =
        proto_codec_decode(&train_plan_message, state->plan, &drive->arena, &drive->plan, reterr);
    if (err) {
        return err;
    }
    if (!state->has_machine && state->term == 0) {
        return start(drive, reterr);
    }
    if (!state->has_machine) { /* of an earlier version: only `train stop` comes here */
        drive->over = true;
        drive->final = PROTO_ROUND_STOPPED;
        drive->stops = admitted_bits(state);
        return stop ? E_OK : E_UNSUPPORTED;
    }
    if (state->machine.state == PROTO_ROUND_DONE) { /* cut off after the last round */
        drive->over = true;
        drive->final = PROTO_ROUND_DONE;
        drive->stops = admitted_bits(state);
        return E_OK;
    }
    drive->stop_told = stop;
    return step(drive,
                (struct proto_round_event){.kind = stop ? PROTO_ROUND_STOP : PROTO_ROUND_RESUME});
}

/* E_CANCELLED: the daemon stops. The machine is dropped; what is on disk is the job. */
static enum err drive_rounds(struct drive *drive, struct err_info *reterr)
{
    struct train_job *job = drive->job;
    const struct proto_round *machine = &job->state.machine;
    enum err err = begin(drive, reterr);
    while (!err && !drive->over) {
        if (drive->save) {
            err = persist(drive, reterr);
        } else if (job->service->stopping) {
            err = E_CANCELLED;
        } else if (job->stop && !drive->stop_told) {
            drive->stop_told = true;
            err = step(drive, (struct proto_round_event){.kind = PROTO_ROUND_STOP});
        } else if (drive->plans || drive->rounds) {
            err = send_wanted(drive, reterr);
        } else {
            err = wait_timer(drive);
        }
        announce(drive, machine->state == PROTO_ROUND_ASKING ||
                            machine->state == PROTO_ROUND_CLOSING ||
                            machine->state == PROTO_ROUND_DONE);
    }
    return err;
}

/* --- the end of a job -------------------------------------------------------------------------------------------------- */

/* The figures of the finished model. Too few answers leave them unknown; the model stands without. */
static enum err last_evaluation(struct drive *drive, struct err_info *reterr)
{
    struct train_job *job = drive->job;
    struct train_job_state *state = &job->state;
    struct outcome *outcome = &drive->outcome;
    struct arena arena = {0};
    struct span weights;
    size_t count = 0;
    uint64_t answered = 0;
    struct asked *asked = proto_alloc(state->site_count, sizeof *asked);
    enum err err =
        asked ? outcome_open(outcome, state, &drive->plan, drive->plan.rounds + 1) : E_NO_MEMORY;
    if (!err) {
        err = train_pack_doubles(state->weights, state->weight_count, &arena, &weights);
    }
    for (size_t i = 0; !err && i < state->site_count; i++) {
        if (state->machine.sites[i].standing == PROTO_ROUND_ADMITTED) {
            err = ask_update(drive, i, state->round_timeout_ms, weights, &asked[count++], reterr);
        }
    }
    if (!err) {
        ask_all(asked, count);
        err = job_cancelled(job) ? E_CANCELLED : E_OK;
    }
    pthread_mutex_lock(&job->service->lock);
    for (size_t i = 0; !err && i < count; i++) {
        struct proto_round_event event;
        read_update(drive, &asked[i], &event);
        answered |= (uint64_t)(event.kind == PROTO_ROUND_SITE_UPDATED) << asked[i].site;
    }
    if (!err) {
        struct train_round_row *row = &state->history[state->history_count - 1];
        add_up(state, &drive->plan, answered, outcome);
        count_evaluation(state, outcome, true);
        note_figures(state, &drive->plan, outcome);
        row->bytes_up += outcome->bytes_up;
        row->bytes_down += outcome->bytes_down;
        row->seconds += seconds_of(job, outcome);
        row->epsilon = spent_most(state);
    }
    pthread_mutex_unlock(&job->service->lock);
    asked_fini(asked, count);
    arena_fini(&arena);
    return err;
}

static enum err complete(struct drive *drive, struct err_info *reterr)
{
    struct train_job *job = drive->job;
    struct train_job_state *state = &job->state;
    enum err err = job_cancelled(job) ? E_CANCELLED : E_OK;
    announce(drive, true);
    if (!err && !state->finished) {
        err =
            drive->plan.eval_every && state->history_count ? last_evaluation(drive, reterr) : E_OK;
        if (!err) {
            pthread_mutex_lock(&job->service->lock);
            state->finished = true;
            pthread_mutex_unlock(&job->service->lock);
            err = save(job, reterr);
        }
    }
    if (!err && !state->model[0]) {
        err = train_model_publish(job->service, state, reterr);
    }
    return err;
}

/* Every site gives back what it did not start. One that is away keeps it reserved; it is told once. */
static void tell_end(struct train_job *job, uint64_t sites)
{
    struct train_job_state *state = &job->state;
    struct asked *asked = proto_alloc(state->site_count, sizeof *asked);
    size_t count = 0;
    for (size_t i = 0; asked && i < state->site_count; i++) {
        const struct train_site *site = &state->sites[i];
        bool refused = !site->admitted && strcmp(site->state, "refused") == 0;
        if (!(sites >> i & 1) || refused) {
            continue;
        }
        asked_init(&asked[count], job->service, site, i, PEER_MSG_TRAIN_STOP, OFFER_TIMEOUT_MS,
                   NULL, NULL);
        if (seal_offer(job->service, state, site, false, true, &asked[count].request, NULL) ==
            E_OK) {
            asked[count].call.body = buf_span(&asked[count].request);
            count++;
        } else {
            buf_fini(&asked[count].request);
        }
    }
    if (asked) {
        ask_all(asked, count);
    }
    asked_fini(asked, count);
}

static void set_state(struct train_job *job, enum train_state to, enum err err, const char *text)
{
    pthread_mutex_lock(&job->service->lock);
    job->state.state = to;
    job->state.error = err;
    snprintf(job->state.error_text, sizeof job->state.error_text, "%.500s", text ? text : "");
    job->planned = true;
    pthread_cond_broadcast(&job->service->changed);
    pthread_mutex_unlock(&job->service->lock);
}

/* Why the machine ended as it did. */
static enum err why(const struct drive *drive, struct err_info *reterr)
{
    const struct train_job_state *state = &drive->job->state;
    uint64_t number = drive->outcome.number;
    uint64_t heard = 0;
    if (drive->final == PROTO_ROUND_DONE || drive->final == PROTO_ROUND_STOPPED) {
        return E_OK;
    }
    if (number == 0 || number != state->machine.asked_round || number <= state->round) {
        return worst_site(state, reterr);
    }
    for (size_t i = 0; i < state->site_count && i < TRAIN_SITES_MAX; i++) {
        heard |= (uint64_t)(drive->outcome.heard[i].weights != NULL) << i;
    }
    return proto_err_set(reterr, E_TIMEOUT, "round %llu: %zu institutions took part, %llu wanted",
                         (unsigned long long)number, institutions(state, heard),
                         (unsigned long long)state->min_sites);
}

/* The machine was dropped in the middle: the job is what is on disk. */
static enum err reload(struct train_job *job)
{
    struct train_job_state *fresh = proto_alloc(1, sizeof *fresh);
    struct buf bytes = {.max = STORE_JOB_MAX};
    enum err err = fresh ? store_job_get(job->service->context->store, job->state.id, &bytes, NULL)
                         : E_NO_MEMORY;
    if (!err) {
        err = train_job_state_decode(buf_span(&bytes), fresh, NULL);
    }
    if (!err) {
        pthread_mutex_lock(&job->service->lock);
        train_job_state_fini(&job->state);
        job->state = *fresh;
        pthread_mutex_unlock(&job->service->lock);
    } else if (fresh) {
        train_job_state_fini(fresh);
    }
    proto_free(fresh);
    buf_fini(&bytes);
    return err;
}

static void keep_end(struct train_job *job)
{
    struct query_context *context = job->service->context;
    struct err_info info = {0};
    if (save(job, &info)) {
        context->log(context->user, PEER_LOG_WARN, "train.save", info.text);
    }
}

/* The machine said how the job ends. ERR is of what came after its last round. */
static void conclude(struct drive *drive, enum err err, const struct err_info *info)
{
    static const enum train_state ends[PROTO_ROUND_STATES] = {
        [PROTO_ROUND_WAITING] = TRAIN_WAITING,
        [PROTO_ROUND_FAILED] = TRAIN_FAILED,
        [PROTO_ROUND_STOPPED] = TRAIN_STOPPED,
        [PROTO_ROUND_DONE] = TRAIN_DONE,
    };
    struct train_job *job = drive->job;
    struct err_info reason = *info;
    enum train_state to = ends[drive->final];
    if (drive->final == PROTO_ROUND_DONE && err) {
        to = job->stop ? TRAIN_STOPPED
                       : (err == E_TIMEOUT || err == E_BUSY ? TRAIN_WAITING : TRAIN_FAILED);
    }
    err = to == TRAIN_STOPPED ? E_OK : (err ? err : why(drive, &reason));
    if (to != TRAIN_WAITING) {
        tell_end(job, drive->stops);
    }
    set_state(job, to, err, !err ? "" : (reason.text[0] ? reason.text : proto_err_text(err)));
    keep_end(job);
}

/* Nothing more can be said to the sites in the name of this machine. */
static void drop(struct drive *drive, enum err err, const struct err_info *info)
{
    struct train_job *job = drive->job;
    const char *text = info->text[0] ? info->text : proto_err_text(err);
    if (job->service->stopping) {
        set_state(job, TRAIN_WAITING, err, "the coordinator was interrupted");
    } else if (reload(job) == E_OK) {
        set_state(job, TRAIN_WAITING, err, text);
    } else {
        set_state(job, TRAIN_FAILED, err, text);
        keep_end(job);
    }
}

void *train_coordinator_run(void *user)
{
    struct train_job *job = user;
    struct err_info info = {0};
    struct drive *drive = proto_alloc(1, sizeof *drive);
    enum err err = E_NO_MEMORY;
    if (drive) {
        drive->job = job;
        err = drive_rounds(drive, &info);
    }
    if (!drive) {
        set_state(job, TRAIN_WAITING, err, proto_err_text(err));
    } else if (err) {
        drop(drive, err, &info);
    } else {
        err = drive->final == PROTO_ROUND_DONE ? complete(drive, &info) : E_OK;
        if (err && job->service->stopping && !job->stop) {
            drop(drive, err, &info);
        } else {
            conclude(drive, err, &info);
        }
    }
    if (drive) {
        outcome_fini(&drive->outcome);
        arena_fini(&drive->arena);
    }
    proto_free(drive);
    pthread_mutex_lock(&job->service->lock);
    job->running = false;
    pthread_cond_broadcast(&job->service->changed);
    pthread_mutex_unlock(&job->service->lock);
    return NULL;
}
