#include "config.h"
#include "node/train/message.h"

#include "crypto/provider.h"
#include "node/model/tabular.h"
#include "store/audit.h"

#include "node/train/plan.h"

#include <math.h>

static const struct proto_field plan_site_fields[] = {
    PROTO_FIELD(struct train_plan_site, node, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_plan_site, licence, PROTO_BIN, 16, 16),
};
static const struct proto_message plan_site_message =
    PROTO_MESSAGE("site of a plan", struct train_plan_site, plan_site_fields);

static const struct proto_field plan_fields[] = {
    PROTO_FIELD(struct train_plan, version, PROTO_U64, TRAIN_VERSION, TRAIN_VERSION),
    PROTO_FIELD(struct train_plan, job_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_plan, job, PROTO_STR, 1, 64),
    PROTO_FIELD(struct train_plan, task, PROTO_U64, 0, PROTO_TASK_COUNT - 1),
    PROTO_FIELD(struct train_plan, dataset, PROTO_STR, 1, 64),
    PROTO_FIELD(struct train_plan, schema_hash, PROTO_BIN, 32, 32),
    PROTO_FIELD_LIST(struct train_plan, features, &proto_text_message, 0, TRAIN_FEATURES_MAX),
    PROTO_FIELD(struct train_plan, target, PROTO_STR, 0, 64),
    PROTO_FIELD(struct train_plan, hidden, PROTO_U64, 0, MODEL_HIDDEN_UNITS_MAX),
    PROTO_FIELD(struct train_plan, event_time, PROTO_STR, 0, 64),
    PROTO_FIELD(struct train_plan, horizon, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, intervals, PROTO_U64, 0, MODEL_BINS_MAX),
    PROTO_FIELD(struct train_plan, low, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, high, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, midpoint, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_plan, model, PROTO_BIN, 0, 32),
    PROTO_FIELD(struct train_plan, model_size, PROTO_U64, 0, STORE_BLOB_MAX),
    PROTO_FIELD(struct train_plan, model_name, PROTO_STR, 0, 64),
    PROTO_FIELD(struct train_plan, model_base, PROTO_BIN, 0, 32),
    PROTO_FIELD(struct train_plan, model_base_size, PROTO_U64, 0, STORE_BLOB_MAX),
    PROTO_FIELD(struct train_plan, tune, PROTO_U64, 0, PROTO_TUNE_COUNT - 1),
    PROTO_FIELD(struct train_plan, rank, PROTO_U64, 0, 256),
    PROTO_FIELD(struct train_plan, alpha, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, targets, PROTO_U64, 0, 63),
    PROTO_FIELD_LIST(struct train_plan, labels, &proto_text_message, 0, TRAIN_LABELS_MAX),
    PROTO_FIELD(struct train_plan, max_length, PROTO_U64, 0, 8192),
    PROTO_FIELD(struct train_plan, dropout, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, seed, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_plan, personal_head, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_plan, trainer, PROTO_STR, 0, 64),
    PROTO_FIELD(struct train_plan, trainer_ms, PROTO_U64, 0, INT64_C(1) << 40),
    PROTO_FIELD(struct train_plan, numbers, PROTO_U64, 1, TRAIN_NUMBERS_MAX),
    PROTO_FIELD(struct train_plan, start, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct train_plan, rounds, PROTO_U64, 1, 10000),
    PROTO_FIELD(struct train_plan, epochs, PROTO_U64, 1, 1000),
    PROTO_FIELD(struct train_plan, batch, PROTO_U64, 1, 10000000),
    PROTO_FIELD(struct train_plan, learning_rate, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, momentum, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, warmup, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, weight_decay, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, method, PROTO_U64, 0, PROTO_AGGREGATION_COUNT - 1),
    PROTO_FIELD(struct train_plan, server_rate, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, server_momentum, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, proximal, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, trim, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, norm_bound, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, uniform, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_plan, noise, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_plan, clip, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, epsilon, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, delta_e12, PROTO_U64, 0, 999999999999),
    PROTO_FIELD(struct train_plan, eval_split, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, eval_every, PROTO_U64, 0, 10000),
    PROTO_FIELD(struct train_plan, eval_share, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, entities, PROTO_U64, 0, 10000),
    PROTO_FIELD(struct train_plan, bins, PROTO_U64, 0, TRAIN_BINS_MAX),
    PROTO_FIELD_NESTED(struct train_plan, purpose, &proto_purpose_message),
    PROTO_FIELD_LIST(struct train_plan, sites, &plan_site_message, 1, TRAIN_SITES_MAX),
    PROTO_FIELD_LIST(struct train_plan, coordinators, &query_node_ref_message, 1,
                     TRAIN_STANDBYS_MAX + 1),
    PROTO_FIELD(struct train_plan, time, PROTO_I64, 0, INT64_C(1) << 40),
};
const struct proto_message train_plan_message =
    PROTO_MESSAGE("training plan", struct train_plan, plan_fields);

static bool within(double value, double low, double high)
{
    return value >= low && value <= high;
}

/* What a table's task needs beside its columns, and nothing of another's. */
static bool table_fits(const struct train_plan *plan)
{
    bool tabular = proto_task_tabular((enum proto_task)plan->task);
    bool survival = plan->task == PROTO_TASK_TABULAR_SURVIVAL;
    bool regression = plan->task == PROTO_TASK_TABULAR_REGRESSION;
    bool time =
        survival ? plan->event_time.len > 0 && within(plan->horizon, 1e-9, 1e12) && plan->intervals
                 : plan->event_time.len == 0 && plan->horizon == 0 && plan->intervals == 0;
    bool target = regression ? within(plan->high - plan->low, 1e-300, 1e300)
                             : plan->low == 0 && plan->high == 0;
    bool own = plan->trainer.len == 0 || tabular;
    bool network = plan->hidden == 0 || (tabular && !survival && plan->trainer.len == 0);
    uint64_t times, scores;
    bool bins = survival ? plan->bins == 0 || train_concordance_shape(plan->bins, &times, &scores)
                         : plan->bins <= 64;
    return time && target && own && network && bins;
}

enum err train_plan_check(const struct train_plan *plan, struct err_info *reterr)
{
    bool tabular = proto_task_tabular((enum proto_task)plan->task);
    bool base = plan->model_base.len == 0 || (plan->model_base.len == 32 && plan->model_base_size);
    bool model = plan->model.len == 32 && plan->model_size > 0 && base;
    bool shape = tabular ? plan->model.len == 0 && plan->features.count > 0 && plan->target.len > 0
                         : model && plan->max_length >= 8;
    bool labels = plan->task != PROTO_TASK_MASKED_LM ||
                  (plan->labels.count == 0 && plan->target.len == 0 && plan->features.count <= 1);
    bool adapters = plan->tune == PROTO_TUNE_FULL ||
                    (plan->rank > 0 && plan->targets > 0 && within(plan->alpha, 1e-3, 1e4));
    bool local = within(plan->learning_rate, 1e-9, 1e3) && within(plan->momentum, 0, 0.9999) &&
                 within(plan->warmup, 0, 1) && within(plan->weight_decay, 0, 100) &&
                 within(plan->clip, 0, 1e6) && within(plan->proximal, 0, 100) && plan->dropout < 1;
    bool server = within(plan->server_rate, 0, 10) && within(plan->server_momentum, 0, 0.9999) &&
                  within(plan->trim, 0, 0.49) && within(plan->norm_bound, 0, 1e9);
    bool privacy = plan->noise ? plan->epsilon > 0 && plan->delta_e12 > 0 && plan->clip > 0
                               : plan->epsilon == 0;
    bool evaluation = within(plan->eval_split, 0, 0.9) && within(plan->eval_share, 0, 0.9);
    /* Nobody checks a trainer's figures, and its local steps are its own. */
    bool external = plan->trainer.len == 0 ||
                    (tabular && plan->trainer_ms > 0 && plan->eval_every == 0 &&
                     plan->proximal == 0 && plan->method != PROTO_SCAFFOLD && !plan->personal_head);
    bool head = !plan->personal_head || (!tabular && plan->task != PROTO_TASK_MASKED_LM);
    /* Control variates correct plain steps of one rate. */
    bool control = plan->method != PROTO_SCAFFOLD ||
                   (tabular && plan->momentum == 0 && plan->server_momentum == 0);
    bool still = plan->tune != PROTO_TUNE_ALTERNATING_LORA ||
                 (plan->method != PROTO_FEDADAM && plan->server_momentum == 0);
    server = server && still && control;
    evaluation = evaluation && external && head;
    shape = shape && table_fits(plan);
    if (!shape || !labels || !adapters || !local || !server || !privacy || !evaluation) {
        return proto_err_set(reterr, E_INVALID, "the plan's %s cannot be",
                             !shape      ? "task and model"
                             : !labels   ? "labels"
                             : !adapters ? "adapters"
                             : !local    ? "local training"
                             : !server   ? "aggregation"
                             : !privacy  ? "privacy"
                                         : "evaluation");
    }
    return E_OK;
}

static const struct proto_field offer_fields[] = {
    PROTO_FIELD(struct train_offer, to, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_offer, explain, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_offer, end, PROTO_U64, 0, TRAIN_ENDS - 1),
    PROTO_FIELD(struct train_offer, term, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_offer, time, PROTO_I64, 0, INT64_C(1) << 40),
    PROTO_FIELD(struct train_offer, plan, PROTO_BIN, 1, 262144),
};
const struct proto_message train_offer_message =
    PROTO_MESSAGE("training offer", struct train_offer, offer_fields);

static const struct proto_field admit_fields[] = {
    PROTO_FIELD(struct train_admit, version, PROTO_U64, TRAIN_VERSION, TRAIN_VERSION),
    PROTO_FIELD(struct train_admit, job_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_admit, plan_hash, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct train_admit, admitted, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_admit, error, PROTO_STR, 1, 64),
    PROTO_FIELD(struct train_admit, reason, PROTO_STR, 0, 64),
    PROTO_FIELD(struct train_admit, detail, PROTO_STR, 0, 512),
    PROTO_FIELD_LIST(struct train_admit, clauses, &query_clause_message, 0, QUERY_CLAUSES_MAX),
    PROTO_FIELD(struct train_admit, size, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_admit, sigma, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_admit, steps, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_admit, cost_nano, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_admit, cap_nano, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_admit, spent_nano, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_admit, account_delta_e12, PROTO_U64, 0, 999999999999),
    PROTO_FIELD(struct train_admit, licence_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_admit, release, PROTO_U64, 0, 2),
    PROTO_FIELD_LIST(struct train_admit, duties, &proto_text_message, 0, 64),
    PROTO_FIELD(struct train_admit, head, PROTO_BIN, STORE_AUDIT_HEAD_SIZE, STORE_AUDIT_HEAD_SIZE),
};
const struct proto_message train_admit_message =
    PROTO_MESSAGE("admission", struct train_admit, admit_fields);

static const struct proto_field blob_fields[] = {
    PROTO_FIELD(struct train_blob, hash, PROTO_BIN, 0, 32),
    PROTO_FIELD(struct train_blob, size, PROTO_U64, 0, STORE_BLOB_MAX),
};
const struct proto_message train_blob_message =
    PROTO_MESSAGE("blob", struct train_blob, blob_fields);

enum err train_blob_open(const struct train_blob *blob, struct peer_blob *ret)
{
    if (blob->hash.len != 32) {
        return E_INVALID;
    }
    memcpy(ret->hash, blob->hash.ptr, 32);
    ret->size = blob->size;
    return E_OK;
}

struct train_blob train_blob_of(const struct peer_blob *blob)
{
    return (struct train_blob){span_of(blob->hash, 32), blob->size};
}

static const struct proto_field round_fields[] = {
    PROTO_FIELD(struct train_round, version, PROTO_U64, TRAIN_VERSION, TRAIN_VERSION),
    PROTO_FIELD(struct train_round, to, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_round, job_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_round, plan_hash, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct train_round, round, PROTO_U64, 1, 10001),
    PROTO_FIELD(struct train_round, term, PROTO_U64, 1, INT64_MAX),
    PROTO_FIELD(struct train_round, evaluate, PROTO_BOOL, 0, 1),
    PROTO_FIELD_NESTED(struct train_round, weights, &train_blob_message),
    PROTO_FIELD_NESTED(struct train_round, control, &train_blob_message),
    PROTO_FIELD(struct train_round, counted, PROTO_U64, 0, 10000),
    PROTO_FIELD(struct train_round, time, PROTO_I64, 0, INT64_C(1) << 40),
};
const struct proto_message train_round_message =
    PROTO_MESSAGE("training round", struct train_round, round_fields);

static const struct proto_field evaluation_fields[] = {
    PROTO_FIELD(struct train_evaluation, present, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_evaluation, sums, PROTO_BIN, 0, TRAIN_SUMS_MAX * 8),
    PROTO_FIELD(struct train_evaluation, histograms, PROTO_BIN, 0, 2 * TRAIN_BINS_MAX * 8),
};
static const struct proto_message evaluation_message =
    PROTO_MESSAGE("evaluation", struct train_evaluation, evaluation_fields);

static const struct proto_field update_fields[] = {
    PROTO_FIELD(struct train_update, version, PROTO_U64, TRAIN_VERSION, TRAIN_VERSION),
    PROTO_FIELD(struct train_update, job_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_update, plan_hash, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct train_update, round, PROTO_U64, 1, 10001),
    PROTO_FIELD(struct train_update, answer, PROTO_U64, 0, TRAIN_ANSWERS - 1),
    PROTO_FIELD(struct train_update, error, PROTO_STR, 1, 64),
    PROTO_FIELD(struct train_update, reason, PROTO_STR, 0, 64),
    PROTO_FIELD(struct train_update, detail, PROTO_STR, 0, 512),
    PROTO_FIELD(struct train_update, base, PROTO_BIN, 0, 32),
    PROTO_FIELD_NESTED(struct train_update, update, &train_blob_message),
    PROTO_FIELD(struct train_update, done, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_update, total, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_update, steps_started, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD_NESTED(struct train_update, evaluation, &evaluation_message),
    PROTO_FIELD(struct train_update, head, PROTO_BIN, STORE_AUDIT_HEAD_SIZE, STORE_AUDIT_HEAD_SIZE),
};
const struct proto_message train_update_message =
    PROTO_MESSAGE("update", struct train_update, update_fields);

static const struct proto_field lease_fields[] = {
    PROTO_FIELD(struct train_lease, version, PROTO_U64, TRAIN_VERSION, TRAIN_VERSION),
    PROTO_FIELD(struct train_lease, to, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_lease, job_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_lease, kind, PROTO_U64, 0, TRAIN_LEASE_KINDS - 1),
    PROTO_FIELD(struct train_lease, term, PROTO_U64, 1, INT64_MAX),
    PROTO_FIELD(struct train_lease, save, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_lease, force, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_lease, state, PROTO_BIN, 0, TRAIN_STATE_MAX),
    PROTO_FIELD(struct train_lease, time, PROTO_I64, 0, INT64_C(1) << 40),
};
const struct proto_message train_lease_message =
    PROTO_MESSAGE("lease of a job", struct train_lease, lease_fields);

static const struct proto_field lease_reply_fields[] = {
    PROTO_FIELD(struct train_lease_reply, version, PROTO_U64, TRAIN_VERSION, TRAIN_VERSION),
    PROTO_FIELD(struct train_lease_reply, job_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_lease_reply, answer, PROTO_U64, 0, PROTO_LEASE_ANSWERS - 1),
    PROTO_FIELD(struct train_lease_reply, promised, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_lease_reply, term, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_lease_reply, save, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_lease_reply, state, PROTO_BIN, 0, TRAIN_STATE_MAX),
};
const struct proto_message train_lease_reply_message =
    PROTO_MESSAGE("answer about a lease", struct train_lease_reply, lease_reply_fields);

void train_plan_hash(struct span plan, uint8_t ret[32])
{
    const struct span parts[] = {span_of(TRAIN_PLAN_DOMAIN, sizeof TRAIN_PLAN_DOMAIN), plan};
    crypto_sha256(parts, 2, ret);
}

enum err train_pack_doubles(const double *from, size_t count, struct arena *arena, struct span *ret)
{
    uint8_t *bytes = arena_alloc(arena, count, 8);
    if (!bytes) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t bits;
        memcpy(&bits, &from[i], 8);
        put_be64(bytes + 8 * i, bits);
    }
    *ret = span_of(bytes, count * 8);
    return E_OK;
}

enum err train_unpack_doubles(struct span from, double *to, size_t count)
{
    if (from.len != count * 8) {
        return E_INVALID;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = get_be64(from.ptr + 8 * i);
        memcpy(&to[i], &bits, 8);
        if (!isfinite(to[i])) {
            return E_INVALID;
        }
    }
    return E_OK;
}
