/* A finished job's model: the weights document, its MODEL record, and fetching weights from whoever holds them. */
#include "config.h"
#include "node/train/internal.h"
#include "node/train/lineage.h"
#include "node/train/statement.h"

#include "crypto/provider.h"
#include "node/peer/transfer.h"
#include "node/query/site.h"
#include "node/train/encoding.h"
#include "node/train/learner.h"
#include "node/train/use.h"
#include "node/train/vector.h"
#include "store/blob.h"
#include "store/records.h"

#include <math.h>
#include <stdio.h>

#define FETCH_STALL_MS 30000
#define DUTIES_MAX     64

/* --- the document ------------------------------------------------------------------------------------------------------ */

static enum err put_string(struct buf *out, struct span text)
{
    enum err err = buf_put(out, span_str("\""));
    for (size_t i = 0; !err && i < text.len; i++) {
        unsigned char c = text.ptr[i];
        if (c == '"' || c == '\\') {
            err = buf_printf(out, "\\%c", c);
        } else if (c < 0x20) {
            err = buf_printf(out, "\\u%04x", c);
        } else {
            err = buf_put(out, span_of(&text.ptr[i], 1));
        }
    }
    return err ? err : buf_put(out, span_str("\""));
}

/* PREFIX, then TEXT as a JSON string. */
static enum err put_member(struct buf *out, const char *prefix, struct span text)
{
    enum err err = buf_put(out, span_str(prefix));
    return err ? err : put_string(out, text);
}

static enum err put_values(struct buf *out, const struct proto_column *column)
{
    enum err err = buf_put(out, span_str(",\"values\":["));
    for (size_t i = 0; !err && i < column->value_count; i++) {
        err = put_member(out, i ? "," : "", span_str(column->values[i]));
    }
    return err ? err : buf_put(out, span_str("]"));
}

static enum err put_feature(struct buf *out, const struct train_column *column,
                            const struct proto_schema *schema)
{
    static const char *const encodings[] = {"standardised", "zero-one", "one-hot"};
    const struct proto_column *declared = &schema->columns[column->column];
    enum err err = put_member(out, "{\"name\":", span_str(declared->name));
    if (!err) {
        err = buf_printf(out, ",\"encoding\":\"%s\",\"at\":%zu,\"width\":%zu",
                         encodings[column->kind], column->at, column->width);
    }
    if (!err && column->kind == TRAIN_KIND_NUMBER) {
        err = buf_printf(out, ",\"min\":%.17g,\"max\":%.17g", column->low, column->high);
    }
    if (!err && column->kind == TRAIN_KIND_CATEGORY) {
        err = put_values(out, declared); /* the first has no weight of its own */
    }
    return err ? err : buf_put(out, span_str("}"));
}

static enum err put_target(struct buf *out, const struct proto_schema *schema,
                           const struct train_encoding *encoding)
{
    const struct proto_column *column = &schema->columns[encoding->target];
    enum err err = put_member(out, "],\"target\":{\"name\":", span_str(column->name));
    if (!err && encoding->outcome == TRAIN_OUTCOME_NUMBER) {
        return buf_printf(out, ",\"scale\":%.17g,\"offset\":%.17g}",
                          (encoding->high - encoding->low) / 2,
                          (encoding->high + encoding->low) / 2);
    }
    if (!err) {
        err = put_member(out, ",\"positive\":",
                         span_str(column->type == PROTO_COLUMN_CATEGORY
                                      ? column->values[1]
                                      : (column->type == PROTO_COLUMN_BOOLEAN ? "true" : "1")));
    }
    return err ? err : buf_put(out, span_str("}"));
}

static enum err put_numbers(struct buf *out, const char *prefix, const float *numbers, size_t count)
{
    enum err err = buf_printf(out, "%s[", prefix);
    for (size_t i = 0; !err && i < count; i++) {
        err = buf_printf(out, "%s%.9g", i ? "," : "", (double)numbers[i]);
    }
    return err ? err : buf_put(out, span_str("]"));
}

/* A network's first layer; *WEIGHTS moves on to the last. */
static enum err put_hidden(struct buf *out, const struct model_tabular *shape,
                           const float **weights)
{
    size_t row = shape->features + 1;
    enum err err = buf_put(out, span_str(",\"hidden\":["));
    for (size_t i = 0; !err && i < shape->hidden; i++) {
        const float *unit = *weights + i * row;
        err = put_numbers(out, i ? ",{\"weights\":" : "{\"weights\":", unit, shape->features);
        err = err ? err : buf_printf(out, ",\"intercept\":%.9g}", (double)unit[row - 1]);
    }
    *weights += shape->hidden * row;
    return err ? err : buf_put(out, span_str("]"));
}

/* Cox has no intercept: its baseline hazard stands beside, in events per horizon. */
static enum err put_baseline(struct buf *out, const struct train_plan *plan, const float *hazards)
{
    enum err err = put_member(out, ",\"intercept\":0,\"baseline\":{\"time\":", plan->event_time);
    err = err ? err : buf_printf(out, ",\"horizon\":%.17g", plan->horizon);
    err = err ? err : put_numbers(out, ",\"log_hazards\":", hazards, (size_t)plan->intervals);
    return err ? err : buf_put(out, span_str("}"));
}

static enum err put_weights(struct buf *out, const struct train_plan *plan,
                            const struct model_tabular *shape, const float *weights)
{
    size_t count = shape->hidden ? shape->hidden : shape->features;
    enum err err = shape->hidden ? put_hidden(out, shape, &weights) : E_OK;
    err = err ? err : put_numbers(out, ",\"weights\":", weights, count);
    if (!err) {
        err = shape->kind == MODEL_TABULAR_COX
                  ? put_baseline(out, plan, weights + count)
                  : buf_printf(out, ",\"intercept\":%.9g", (double)weights[count]);
    }
    return err ? err : buf_put(out, span_str("}\n"));
}

static enum err put_document(const struct train_job_state *state, const struct train_plan *plan,
                             const struct train_encoding *encoding,
                             const struct proto_schema *schema, const float *weights,
                             struct buf *out)
{
    static const char *const links[] = {[TRAIN_OUTCOME_CLASS] = "logit",
                                        [TRAIN_OUTCOME_NUMBER] = "identity",
                                        [TRAIN_OUTCOME_EVENT] = "log"};
    struct model_tabular shape = train_plan_tabular(plan, encoding->width);
    enum err err = buf_printf(
        out, "{\"format\":\"concordat-%s-1\",\"task\":\"%s\",\"link\":\"%s\",\"missing\":\"%s\"",
        shape.hidden ? "network" : "linear", state->task, links[encoding->outcome],
        plan->midpoint ? "midpoint" : "drop");
    if (!err) {
        err = buf_put(out, span_str(",\"features\":["));
    }
    for (size_t i = 0; !err && i < encoding->count; i++) {
        err = i ? buf_put(out, span_str(",")) : E_OK;
        err = err ? err : put_feature(out, &encoding->columns[i], schema);
    }
    if (!err) {
        err = put_target(out, schema, encoding);
    }
    return err ? err : put_weights(out, plan, &shape, weights);
}

/* The published schema that the plan was typed by: some site of the job publishes it. */
static enum err find_schema(struct train_service *service, const struct train_job_state *state,
                            const struct train_plan *plan, struct arena *arena,
                            struct proto_schema *ret, struct err_info *reterr)
{
    uint8_t key[16];
    proto_record_key(&crypto_proto_hash, state->dataset, key);
    for (size_t i = 0; i < state->site_count; i++) {
        struct span bytes;
        struct proto_record record;
        struct proto_dataset dataset;
        uint8_t hash[32];
        if (store_records_get(service->context->store, state->sites[i].id, key,
                              PROTO_RECORD_DATASET, arena, &bytes, NULL) ||
            proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) ||
            proto_dataset_decode(record.envelope.body, arena, &dataset, NULL) ||
            proto_dataset_schema(&dataset, arena, ret, NULL)) {
            continue;
        }
        proto_schema_hash(ret, &crypto_proto_hash, hash);
        if (memcmp(hash, plan->schema_hash.ptr, 32) == 0) {
            return E_OK;
        }
    }
    return proto_err_set(reterr, E_SCHEMA, "no site publishes the job's schema any more");
}

static enum err make_table_document(struct train_service *service,
                                    const struct train_job_state *state,
                                    const struct train_plan *plan,
                                    const struct proto_schema *schema, struct arena *arena,
                                    struct buf *out, struct err_info *reterr)
{
    struct train_encoding *encoding = arena_alloc(arena, 1, sizeof *encoding);
    float *weights = arena_alloc(arena, state->numbers, sizeof *weights);
    enum err err = encoding && weights ? E_OK : E_NO_MEMORY;
    if (!err) {
        err = train_table_encode(plan, schema, encoding, reterr);
    }
    struct model_tabular shape = {.features = 0};
    if (!err) {
        shape = train_plan_tabular(plan, encoding->width);
    }
    if (!err && model_tabular_count(&shape) != state->numbers) {
        err = proto_err_set(reterr, E_SCHEMA, "the weights do not fit the published schema");
    }
    if (!err) {
        err = train_vector_get(service->context->store, state->server.weights, weights,
                               state->numbers, reterr);
    }
    return err ? err : put_document(state, plan, encoding, schema, weights, out);
}

/* A trainer's model is what its trainer makes of the numbers. */
static enum err make_external_document(struct train_service *service,
                                       const struct train_job_state *state,
                                       const struct train_plan *plan, struct arena *arena,
                                       struct buf *out, struct err_info *reterr)
{
    const struct proto_text *texts = plan->features.items;
    float *weights = arena_alloc(arena, state->numbers, sizeof *weights);
    enum err err = weights ? train_vector_get(service->context->store, state->server.weights,
                                              weights, state->numbers, reterr)
                           : E_NO_MEMORY;
    if (!err) {
        err = buf_printf(out, "{\"format\":\"concordat-trainer-1\",\"task\":\"%s\"", state->task);
    }
    err = err ? err : put_member(out, ",\"trainer\":", plan->trainer);
    err = err ? err : put_member(out, ",\"target\":", plan->target);
    if (!err && plan->task == PROTO_TASK_TABULAR_REGRESSION) {
        err = buf_printf(out, ",\"scale\":%.17g,\"offset\":%.17g", (plan->high - plan->low) / 2,
                         (plan->high + plan->low) / 2);
    }
    if (!err && plan->task == PROTO_TASK_TABULAR_SURVIVAL) {
        err = put_member(out, ",\"time\":", plan->event_time);
        err = err ? err : buf_printf(out, ",\"horizon\":%.17g", plan->horizon);
    }
    err = err ? err : buf_put(out, span_str(",\"features\":["));
    for (size_t i = 0; !err && i < plan->features.count; i++) {
        err = put_member(out, i ? "," : "", texts[i].text);
    }
    err = err ? err : buf_put(out, span_str("],\"weights\":["));
    for (size_t i = 0; !err && i < state->numbers; i++) {
        err = buf_printf(out, "%s%.9g", i ? "," : "", (double)weights[i]);
    }
    return err ? err : buf_put(out, span_str("]}\n"));
}

static enum err make_document(struct train_service *service, const struct train_job_state *state,
                              const struct train_plan *plan, const char *name, const char *spdx,
                              struct arena *arena, struct proto_schema *schema, struct buf *out,
                              struct err_info *reterr)
{
    enum err err = find_schema(service, state, plan, arena, schema, reterr);
    if (err) {
        return err;
    }
    if (plan->trainer.len) {
        return make_external_document(service, state, plan, arena, out, reterr);
    }
    return proto_task_tabular((enum proto_task)plan->task)
               ? make_table_document(service, state, plan, schema, arena, out, reterr)
               : train_notes_document(service->context->store, plan, state->server.weights, name,
                                      spdx, out, reterr);
}

/* --- the record -------------------------------------------------------------------------------------------------------- */

static enum err put_metric(struct buf *out, const char *name, double value)
{
    return isfinite(value) ? buf_printf(out, "%s\"%s\":%.6g", out->len > 1 ? "," : "", name, value)
                           : E_OK;
}

/* {NAME:[matched,predicted,gold],..}: what `model report` prints. */
static enum err put_types(const struct train_plan *plan, const struct train_round_row *row,
                          struct buf *out)
{
    struct span types[TRAIN_TYPES_MAX];
    uint32_t count = train_plan_types(plan, types);
    enum err err =
        buf_printf(out, "%s\"sigma\":%.6g,\"types\":", out->len > 1 ? "," : "", row->type_sigma);
    for (uint32_t i = 0; !err && i < count && i < row->types; i++) {
        const double *counts = row->type_counts[i];
        err = put_member(out, i ? "," : "{", types[i]);
        err = err ? err : buf_printf(out, ":[%.1f,%.1f,%.1f]", counts[0], counts[1], counts[2]);
    }
    return err ? err : buf_put(out, span_str("}"));
}

static enum err put_metrics(const struct train_job_state *state, const struct train_plan *plan,
                            struct buf *out)
{
    const struct train_round_row *row =
        state->history_count ? &state->history[state->history_count - 1] : NULL;
    enum err err = buf_put(out, span_str("{"));
    if (row && row->evaluated) {
        const struct train_round_view figures = {.eval_loss = row->loss,
                                                 .eval_loss_margin = row->loss_margin,
                                                 .accuracy = row->accuracy,
                                                 .accuracy_margin = row->accuracy_margin,
                                                 .auc = row->auc};
        struct train_named named[TRAIN_NAMED_MAX];
        size_t count =
            train_figures_name(state->task, (plan->high - plan->low) / 2, &figures, named);
        err = put_metric(out, "eval_loss", row->loss);
        err = err ? err : put_metric(out, "eval_loss_margin95", row->loss_margin);
        for (size_t i = 0; !err && i < count; i++) {
            err = put_metric(out, named[i].name, named[i].value);
        }
    }
    if (!err && row && row->evaluated && row->types) {
        err = put_types(plan, row, out);
    }
    if (!err && plan->personal_head) {
        err = buf_printf(out, "%s\"personal_head\":true", out->len > 1 ? "," : "");
    }
    return err ? err : buf_put(out, span_str("}"));
}

static enum err publish(struct train_service *service, struct train_job_state *state,
                        const struct train_plan *plan, const struct train_lineage *lineage,
                        const char *name, const uint8_t hash[32], size_t size,
                        const struct proto_schema *schema, const struct train_statement *statement,
                        struct err_info *reterr)
{
    struct buf metrics = {.max = 1024};
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    uint8_t id[16];
    enum err err = put_metrics(state, plan, &metrics);
    struct proto_model model = {
        .v = PROTO_MODEL_VERSION,
        .name = span_str(name),
        .job = span_str(state->name),
        .dataset = span_str(state->dataset),
        .task = span_str(state->task),
        .round = state->round,
        .weights = span_of(hash, 32),
        .size = size,
        .licences = {(void *)lineage->licences, lineage->licence_count},
        .participants = {(void *)lineage->participants, lineage->participant_count},
        .epsilon_u = (uint64_t)ceil(lineage->epsilon * 1e6),
        .delta_e12 = (uint64_t)llround(state->delta * 1e12),
        .unit = span_str(schema->unit[0] ? schema->unit : "row"),
        .obligations = {(void *)lineage->duties, lineage->duty_count},
        .spdx = span_str(lineage->spdx),
        .release = lineage->release,
        .metrics = buf_span(&metrics),
        .created = (uint64_t)query_now(),
        .lineage = span_of(statement->hash, 32),
        .lineage_size = statement->size,
    };
    if (!err) {
        err = proto_model_encode(&model, &body, reterr);
    }
    if (!err) {
        err = peer_publish(service->context->peer, PROTO_RECORD_MODEL, name, buf_span(&body), 0, 0,
                           id, reterr);
    }
    buf_fini(&metrics);
    buf_fini(&body);
    return err;
}

/* An id that does not depend on the document, which holds it: of the plan and the last weights. */
static void model_name(const struct train_job_state *state, char ret[33])
{
    uint8_t hash[32];
    const struct span parts[] = {span_of("concordat1-model", 17), span_of(state->plan_hash, 32),
                                 span_of(state->server.weights, 32)};
    crypto_sha256(parts, 3, hash);
    span_to_hex(span_of(hash, 16), ret);
}

enum err train_model_publish(struct train_service *service, struct train_job_state *state,
                             struct err_info *reterr)
{
    struct arena arena = {0};
    struct train_plan plan;
    struct proto_schema schema;
    struct buf document = {.max = STORE_BLOB_MAX};
    struct train_statement statement = {.size = 0};
    uint8_t hash[32];
    char name[33];
    struct train_lineage *lineage = proto_alloc(1, sizeof *lineage);
    enum err err = lineage
                       ? proto_codec_decode(&train_plan_message, state->plan, &arena, &plan, reterr)
                       : E_NO_MEMORY;
    model_name(state, name);
    /* The document names the licence, and the licence the document: the terms are the same whatever the weights. */
    if (!err) {
        err = train_lineage_gather(service, state, name, state->server.weights, lineage, &arena,
                                   reterr);
    }
    if (!err) {
        err = make_document(service, state, &plan, name, lineage->spdx, &arena, &schema, &document,
                            reterr);
    }
    if (!err) {
        err = store_blob_put(service->context->store, buf_span(&document), hash, reterr);
    }
    if (!err) {
        err = train_lineage_gather(service, state, name, hash, lineage, &arena, reterr);
    }
    if (!err) {
        err = train_statement_make(service, state, lineage, name, hash, document.len,
                                   schema.unit[0] ? schema.unit : "row", &statement, reterr);
    }
    if (!err) {
        err = train_model_remember(service->context, hash, state->id);
    }
    /* The licence first: a model that others see without one would be used without one. */
    if (!err) {
        err = train_lineage_publish(service, name, lineage, reterr);
    }
    if (!err) {
        err = publish(service, state, &plan, lineage, name, hash, document.len, &schema, &statement,
                      reterr);
    }
    if (!err) {
        pthread_mutex_lock(&service->lock);
        snprintf(state->model, sizeof state->model, "%s", name);
        pthread_mutex_unlock(&service->lock);
    }
    buf_fini(&document);
    proto_free(lineage);
    arena_fini(&arena);
    return err;
}

/* --- weights of others' models ------------------------------------------------------------------------------------------ */

enum err train_model_fetch(struct train_service *service, const uint8_t issuer[16],
                           const uint8_t weights_hash[32], uint64_t size, struct buf *ret,
                           struct err_info *reterr)
{
    struct query_context *context = service->context;
    struct peer_blob blob = {.size = size};
    struct peer_fetch how = {.from = issuer, .stall_ms = FETCH_STALL_MS};
    memcpy(blob.hash, weights_hash, 32);
    enum err err = peer_blob_fetch(context->peer, context->store, &blob, &how, reterr);
    if (err) {
        proto_err_frame(reterr, "fetching the weights from their issuer");
        return err;
    }
    return store_blob_get(context->store, weights_hash, ret, reterr);
}
