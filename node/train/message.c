#include "config.h"
#include "node/train/message.h"

#include "crypto/provider.h"
#include "store/audit.h"

#include <math.h>

static const struct proto_field plan_fields[] = {
    PROTO_FIELD(struct train_plan, version, PROTO_U64, TRAIN_VERSION, TRAIN_VERSION),
    PROTO_FIELD(struct train_plan, job_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_plan, job, PROTO_STR, 1, 64),
    PROTO_FIELD(struct train_plan, dataset, PROTO_STR, 1, 64),
    PROTO_FIELD(struct train_plan, schema_hash, PROTO_BIN, 32, 32),
    PROTO_FIELD_LIST(struct train_plan, features, &proto_text_message, 1, TRAIN_FEATURES_MAX),
    PROTO_FIELD(struct train_plan, target, PROTO_STR, 1, 64),
    PROTO_FIELD(struct train_plan, midpoint, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_plan, rounds, PROTO_U64, 1, 10000),
    PROTO_FIELD(struct train_plan, epochs, PROTO_U64, 1, 1000),
    PROTO_FIELD(struct train_plan, batch, PROTO_U64, 1, 10000000),
    PROTO_FIELD(struct train_plan, learning_rate, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, momentum, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, clip, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, epsilon, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, delta_e12, PROTO_U64, 1, 999999999999),
    PROTO_FIELD(struct train_plan, eval_split, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, eval_every, PROTO_U64, 0, 10000),
    PROTO_FIELD(struct train_plan, eval_share, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_plan, bins, PROTO_U64, 0, TRAIN_BINS_MAX),
    PROTO_FIELD_NESTED(struct train_plan, purpose, &proto_purpose_message),
    PROTO_FIELD_LIST(struct train_plan, sites, &query_node_ref_message, 1, QUERY_SITES_MAX),
    PROTO_FIELD(struct train_plan, time, PROTO_I64, 0, INT64_C(1) << 40),
};
const struct proto_message train_plan_message =
    PROTO_MESSAGE("training plan", struct train_plan, plan_fields);

static const struct proto_field offer_fields[] = {
    PROTO_FIELD(struct train_offer, to, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_offer, explain, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_offer, stop, PROTO_BOOL, 0, 1),
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

static const struct proto_field round_fields[] = {
    PROTO_FIELD(struct train_round, version, PROTO_U64, TRAIN_VERSION, TRAIN_VERSION),
    PROTO_FIELD(struct train_round, to, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_round, job_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_round, plan_hash, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct train_round, round, PROTO_U64, 1, 10001),
    PROTO_FIELD(struct train_round, term, PROTO_U64, 1, INT64_MAX),
    PROTO_FIELD(struct train_round, evaluate, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_round, weights, PROTO_BIN, 8, TRAIN_WEIGHTS_MAX * 8),
    PROTO_FIELD(struct train_round, time, PROTO_I64, 0, INT64_C(1) << 40),
};
const struct proto_message train_round_message =
    PROTO_MESSAGE("training round", struct train_round, round_fields);

static const struct proto_field evaluation_fields[] = {
    PROTO_FIELD(struct train_evaluation, present, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_evaluation, count, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_evaluation, loss, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_evaluation, correct, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_evaluation, histograms, PROTO_BIN, 0, 2 * TRAIN_BINS_MAX * 8),
};
static const struct proto_message evaluation_message =
    PROTO_MESSAGE("evaluation", struct train_evaluation, evaluation_fields);

static const struct proto_field update_fields[] = {
    PROTO_FIELD(struct train_update, version, PROTO_U64, TRAIN_VERSION, TRAIN_VERSION),
    PROTO_FIELD(struct train_update, job_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_update, plan_hash, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct train_update, round, PROTO_U64, 1, 10001),
    PROTO_FIELD(struct train_update, updated, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_update, error, PROTO_STR, 1, 64),
    PROTO_FIELD(struct train_update, reason, PROTO_STR, 0, 64),
    PROTO_FIELD(struct train_update, detail, PROTO_STR, 0, 512),
    PROTO_FIELD(struct train_update, weights, PROTO_BIN, 0, TRAIN_WEIGHTS_MAX * 8),
    PROTO_FIELD(struct train_update, steps_started, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD_NESTED(struct train_update, evaluation, &evaluation_message),
    PROTO_FIELD(struct train_update, head, PROTO_BIN, STORE_AUDIT_HEAD_SIZE, STORE_AUDIT_HEAD_SIZE),
};
const struct proto_message train_update_message =
    PROTO_MESSAGE("update", struct train_update, update_fields);

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
