/* From a job as declared to a plan: which sites, which columns or labels, which base model, which first weights. */
#include "config.h"
#include "node/train/coordinator_internal.h"

#include "crypto/random.h"
#include "node/model/encoder.h"
#include "node/model/logistic.h"
#include "node/query/agreement.h"
#include "node/query/ask.h"
#include "node/query/clock.h"
#include "node/query/project.h"
#include "node/query/site.h"
#include "node/train/base.h"
#include "node/train/encoding.h"
#include "node/train/learner.h"
#include "node/train/use.h"
#include "node/train/vector.h"

#include <math.h>
#include <stdio.h>

#define DELTA_UNIT 1e12

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
    memcpy(site->licence_id, publisher->licence_id, 16);
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
    struct train_plan_site *refs = arena_alloc(&state->arena, count, sizeof *refs);
    size_t same = 0;
    *ret_units = 0;
    for (size_t i = 0; refs && i < count; i++) {
        bool fits = memcmp(publishers[i].schema_hash, publishers[model].schema_hash, 32) == 0;
        name_site(&state->sites[i], &publishers[i], fits);
        if (fits) {
            refs[same++] = (struct train_plan_site){span_of(state->sites[i].id, 16),
                                                    span_of(state->sites[i].licence_id, 16)};
            *ret_units += (double)publishers[i].dataset.size;
        }
    }
    state->site_count = count;
    return (struct proto_list){refs, same};
}

/* This node and as many of the sites that are up, in an even number: an odd number of holders has a majority also when the
 * lesser half is away. */
static struct proto_list choose_holders(const struct query_context *context,
                                        const struct train_job_state *state, uint64_t wanted,
                                        struct query_node_ref *holders)
{
    size_t count = 1;
    holders[0].node = span_of(context->node_id, 16);
    for (size_t i = 0; i < state->site_count && count <= wanted && count <= TRAIN_STANDBYS_MAX;
         i++) {
        const struct train_site *site = &state->sites[i];
        struct peer_member member;
        if (strcmp(site->state, "offered") == 0 && memcmp(site->id, context->node_id, 16) != 0 &&
            peer_member_by_id(context->peer, site->id, &member) && member.state == PEER_UP) {
            holders[count++].node = span_of(site->id, 16);
        }
    }
    return (struct proto_list){holders, count % 2 ? count : count - 1};
}

/* --- labels and models -------------------------------------------------------------------------------------------------- */

static const struct proto_column *label_column(const struct proto_job *job,
                                               const struct proto_schema *schema)
{
    int found = job->target[0] ? proto_schema_find(schema, job->target) : -1;
    for (size_t i = 0; !job->target[0] && i < schema->count; i++) {
        found = schema->columns[i].type == PROTO_COLUMN_TAGS ? (int)i : found;
    }
    return found < 0 ? NULL : &schema->columns[found];
}

/* O, then B-X and I-X for each declared X; of classes the declared values. */
static enum err make_labels(const struct proto_job *job, const struct proto_schema *schema,
                            struct arena *arena, struct proto_list *ret, struct err_info *reterr)
{
    if (job->task == PROTO_TASK_MASKED_LM) {
        return E_OK; /* its labels are the vocabulary */
    }
    const struct proto_column *column = label_column(job, schema);
    bool tags = job->task == PROTO_TASK_TOKEN_CLASSIFICATION;
    size_t count = column ? (tags ? 2 * column->value_count + 1 : column->value_count) : 0;
    if (count < 2 || count > TRAIN_LABELS_MAX) {
        return proto_err_set(reterr, E_SCHEMA, "the dataset has no column with 1 to %d %s",
                             TRAIN_LABELS_MAX / 2, tags ? "declared labels of tags" : "classes");
    }
    struct proto_text *texts = arena_alloc(arena, count, sizeof *texts);
    for (size_t i = 0; texts && i < count; i++) {
        char label[PROTO_SCHEMA_VALUE_SIZE + 2];
        if (!tags) {
            snprintf(label, sizeof label, "%s", column->values[i]);
        } else if (i == 0) {
            snprintf(label, sizeof label, "O");
        } else {
            snprintf(label, sizeof label, "%c-%s", i % 2 ? 'B' : 'I', column->values[(i - 1) / 2]);
        }
        texts[i].text = span_str(arena_strdup(arena, span_str(label)));
        if (!texts[i].text.ptr) {
            return E_NO_MEMORY;
        }
    }
    *ret = (struct proto_list){texts, texts ? count : 0};
    return texts ? E_OK : E_NO_MEMORY;
}

static uint64_t target_set(const struct proto_job *job)
{
    static const char *const names[MODEL_TARGET_COUNT] = {
        [MODEL_TARGET_QUERY] = "query",
        [MODEL_TARGET_KEY] = "key",
        [MODEL_TARGET_VALUE] = "value",
        [MODEL_TARGET_ATTENTION_OUTPUT] = "attention.output.dense",
        [MODEL_TARGET_INTERMEDIATE] = "intermediate.dense",
        [MODEL_TARGET_OUTPUT] = "output.dense",
    };
    uint64_t set = 0;
    for (size_t i = 0; i < job->lora_targets.count; i++) {
        for (size_t j = 0; j < MODEL_TARGET_COUNT; j++) {
            bool all = strcmp(job->lora_targets.items[i], "all-linear") == 0;
            bool named = strcmp(job->lora_targets.items[i], names[j]) == 0;
            set |= (uint64_t)(all || named) << j;
        }
    }
    return set ? set : MODEL_TARGETS_QV;
}

/* What the schema says of the target and the time. */
static enum err fill_outcome(const struct proto_schema *schema, struct train_plan *plan,
                             struct err_info *reterr)
{
    struct train_encoding *encoding = proto_alloc(1, sizeof *encoding);
    enum err err = encoding ? train_table_encode(plan, schema, encoding, reterr) : E_NO_MEMORY;
    if (!err) {
        plan->horizon = encoding->horizon;
        plan->low = encoding->low;
        plan->high = encoding->high;
    }
    proto_free(encoding);
    return err;
}

/* The base's licence and the job's own purpose, before anybody is asked. Where a person must approve, each site's will. */
static enum err may_train_on(struct train_service *service, const struct train_plan *plan,
                             const struct train_base *base, struct err_info *reterr)
{
    enum proto_reason reason;
    bool hold;
    train_plan_base_decide(service, plan, NULL, base->spdx[0] ? base->spdx : NULL, true, &reason,
                           &hold);
    return reason == PROTO_REASON_NONE
               ? E_OK
               : proto_err_set(reterr, E_REFUSED,
                               "base model %s: %s (%s); `concordat licence check` and `model show` "
                               "say what it is for",
                               base->name, proto_reason_text(reason), proto_reason_name(reason));
}

static enum err fill_model(struct train_service *service, const struct proto_job *job,
                           const struct proto_schema *schema, struct train_job_state *state,
                           struct train_plan *plan, struct err_info *reterr)
{
    struct train_base base;
    uint64_t seed = job->seed;
    plan->model = plan->model_base = plan->model_name = span_str("");
    plan->hidden = job->hidden;
    plan->intervals = job->intervals;
    if (seed == 0 && (job->hidden || !proto_task_tabular(job->task))) {
        enum err drawn = crypto_random(&seed, sizeof seed);
        if (drawn) {
            return drawn;
        }
        seed = seed >> 1 | 1;
    }
    plan->dropout = job->dropout;
    plan->trainer = span_str(job->trainer);
    plan->trainer_ms = job->trainer[0] ? job->trainer_time_ms : 0;
    if (proto_task_tabular(job->task)) {
        plan->seed = job->hidden ? seed : 0;
        return fill_outcome(schema, plan, reterr);
    }
    enum err err = train_base_find(service->context->store, job->base, &base, reterr);
    uint8_t *hashes = err ? NULL : arena_alloc(&state->arena, 2, 32);
    if (err || !hashes) {
        return err ? err : E_NO_MEMORY;
    }
    memcpy(hashes, base.hash, 32);
    memcpy(hashes + 32, base.under, 32);
    plan->model = span_of(hashes, 32);
    plan->model_size = base.size;
    plan->model_name = span_str(arena_strdup(&state->arena, span_str(base.name)));
    if (!train_hash_none(base.under)) {
        plan->model_base = span_of(hashes + 32, 32);
        plan->model_base_size = base.under_size;
    }
    plan->tune = job->tune;
    plan->rank = job->tune == PROTO_TUNE_FULL ? 0 : job->lora_rank;
    plan->alpha = job->lora_alpha;
    plan->targets = job->tune == PROTO_TUNE_FULL ? 0 : target_set(job);
    plan->personal_head = job->personal_head;
    plan->max_length = job->max_length;
    plan->seed = seed;
    err = may_train_on(service, plan, &base, reterr);
    return err ? err : make_labels(job, schema, &state->arena, &plan->labels, reterr);
}

/* What all sites start from; its name stands in the plan. */
static enum err make_start(struct train_service *service, const struct proto_schema *schema,
                           struct train_job_state *state, struct train_plan *plan,
                           struct err_info *reterr)
{
    struct train_learner *learner = NULL;
    uint8_t tag[TRAIN_VECTOR_TAG];
    struct train_learner_wish wish = {
        .store = service->context->store,
        .plan = plan,
        .schema = schema,
        .trainers = service->context->trainers,
        .trainer_count = service->context->trainer_count,
        .threads = 1,
    };
    enum err err = train_learner_check(plan, schema, reterr);
    if (!err) {
        err = train_learner_open(&wish, &learner, reterr);
    }
    size_t count = err ? 0 : train_learner_count(learner);
    float *start = err ? NULL : proto_alloc(count, sizeof *start);
    if (!err) {
        err = start ? train_learner_start(learner, start, reterr) : E_NO_MEMORY;
    }
    if (!err) {
        train_vector_tag(TRAIN_VECTOR_WEIGHTS, state->id, 0, NULL, tag);
        err = train_vector_put(service->context->store, start, count, tag, STORE_BLOB_DURABLE,
                               state->server.weights, reterr);
    }
    proto_free(start);
    train_learner_close(learner);
    state->numbers = plan->numbers = count;
    plan->start = span_of(state->server.weights, 32);
    return err;
}

/* --- the plan ---------------------------------------------------------------------------------------------------------- */

static void fill_local(const struct proto_job *job, struct train_plan *plan)
{
    plan->epochs = job->epochs;
    plan->batch = job->batch;
    plan->learning_rate = job->learning_rate;
    bool plain = job->method == PROTO_SCAFFOLD || !proto_task_tabular(job->task);
    plan->momentum = plain ? 0 : MODEL_MOMENTUM;
    plan->warmup = job->warmup;
    plan->weight_decay = job->weight_decay;
    plan->clip = job->clip;
    plan->proximal = job->method == PROTO_FEDPROX ? job->proximal : 0;
    plan->method = job->method;
    plan->server_rate = job->server_rate;
    plan->server_momentum = job->server_momentum;
    plan->trim = job->method == PROTO_TRIMMED_MEAN ? job->trim : 0;
    plan->norm_bound = job->norm_bound;
    plan->uniform = job->weighting == PROTO_WEIGHT_UNIFORM;
}

static void fill_privacy(const struct proto_job *job, double units, uint64_t m,
                         struct train_plan *plan)
{
    bool tabular = proto_task_tabular(job->task);
    plan->noise = job->has_privacy;
    plan->epsilon = job->has_privacy ? job->epsilon : 0;
    plan->delta_e12 = job->has_privacy ? (uint64_t)llround(job->delta * DELTA_UNIT) : 0;
    plan->eval_every = job->eval_split > 0 ? job->eval_every : 0;
    plan->eval_split = plan->eval_every ? job->eval_split : 0;
    plan->eval_share = plan->eval_every && job->has_privacy ? job->eval_share : 0;
    plan->entities = job->eval_entities;
    if (plan->eval_every && tabular) {
        uint64_t (*choose)(double, double, double, double, double, size_t, uint32_t) =
            job->task == PROTO_TASK_TABULAR_SURVIVAL ? train_bins_choose_survival
                                                     : train_bins_choose;
        /* A regression has no classes to rank. */
        plan->bins = job->task == PROTO_TASK_TABULAR_REGRESSION
                         ? 0
                         : choose(plan->epsilon, job->delta, plan->eval_share, plan->eval_split,
                                  units, plan->sites.count, (uint32_t)m);
    }
}

static enum err encode_plan(const struct train_plan *plan, struct train_job_state *state,
                            struct err_info *reterr)
{
    struct buf bytes = {.max = 262144};
    enum err err = train_plan_check(plan, reterr);
    err = err ? err : proto_codec_encode(&train_plan_message, plan, &bytes, reterr);
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

static enum err make_plan(struct train_service *service, const struct proto_job *job,
                          struct train_job_state *state, const struct query_publisher *publishers,
                          size_t count, struct err_info *reterr)
{
    struct query_context *context = service->context;
    size_t model = query_publishers_schema(context, publishers, count);
    const struct proto_schema *schema = &publishers[model].schema;
    struct query_node_ref *holders =
        arena_alloc(&state->arena, TRAIN_STANDBYS_MAX + 1, sizeof *holders);
    double units;
    struct train_plan plan = {
        .version = TRAIN_VERSION,
        .job_id = span_of(state->id, 16),
        .job = span_str(state->name),
        .task = job->task,
        .dataset = span_str(state->dataset),
        .schema_hash = span_of(publishers[model].schema_hash, 32),
        .features =
            text_list(&state->arena, (const char *const *)job->features.items, job->features.count),
        .target = span_str(job->target),
        .event_time = span_str(job->time),
        .horizon = job->horizon,
        .midpoint = job->missing == PROTO_MISSING_MIDPOINT,
        .rounds = job->rounds,
        .time = query_now(),
    };
    enum err err = holders
                       ? proto_job_purpose(job, state->person,
                                           context->commercial_known ? &context->commercial : NULL,
                                           &state->arena, &plan.purpose, reterr)
                       : E_NO_MEMORY;
    err =
        err ? err : query_project_fill(context, &state->arena, &plan.purpose, query_now(), reterr);
    err = err ? err : query_agreement_name(context, state->dataset, &state->arena, &plan.purpose);
    if (err) {
        return err;
    }
    plan.sites = fill_sites(state, publishers, count, model, &units);
    plan.coordinators = choose_holders(context, state, job->standby, holders);
    state->max_rows_per_unit = schema->max_rows_per_unit;
    fill_local(job, &plan);
    fill_privacy(job, units, state->max_rows_per_unit, &plan);
    err = fill_model(service, job, schema, state, &plan, reterr);
    if (!err) {
        err = make_start(service, schema, state, &plan, reterr);
    }
    return err ? err : encode_plan(&plan, state, reterr);
}

enum err train_coordinator_prepare(struct train_service *service, const struct proto_job *job,
                                   const char *person, struct train_job_state *state,
                                   struct err_info *reterr)
{
    struct arena arena = {0};
    struct query_publisher *publishers;
    size_t count;
    enum err err = query_clock_check(service->context->peer, reterr);
    if (!err && proto_task_tabular(job->task) && !job->has_privacy && !job->trainer[0]) {
        err = proto_err_set(reterr, E_UNSUPPORTED,
                            "privacy: this version trains tables only with noise; state epsilon "
                            "and delta");
    }
    err = err ? err : crypto_random(state->id, sizeof state->id);
    snprintf(state->name, sizeof state->name, "%s", job->name);
    snprintf(state->dataset, sizeof state->dataset, "%s", job->dataset);
    snprintf(state->task, sizeof state->task, "%s", proto_task_name(job->task));
    snprintf(state->coordinator, sizeof state->coordinator, "%.32s", service->context->name);
    snprintf(state->person, sizeof state->person, "%s", person);
    state->state = TRAIN_RUNNING;
    state->min_sites = job->min_sites ? job->min_sites : 1;
    state->round_timeout_ms = job->round_timeout_ms ? job->round_timeout_ms : 600000;
    state->early_stop = job->early_stop;
    state->noise = job->has_privacy;
    state->epsilon = job->has_privacy ? job->epsilon : 0;
    state->delta = job->has_privacy ? job->delta : 0;
    state->rounds = job->rounds;
    state->started = query_now();
    if (!err) {
        err = query_publishers(service->context, job->dataset, &arena, &publishers, &count, reterr);
    }
    if (!err) {
        err = choose_sites(service, job, publishers, &count, reterr);
    }
    if (!err) {
        err = make_plan(service, job, state, publishers, count, reterr);
    }
    arena_fini(&arena);
    return err;
}
