/* model show, import, report. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/models.h"
#include "node/control/views.h"

#include "node/model/package.h"
#include "node/model/tuner.h"
#include "node/query/site.h"
#include "node/train/base.h"
#include "node/train/message.h"
#include "proto/spdx.h"
#include "store/blob.h"
#include "store/records.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* --- show ------------------------------------------------------------------------------------------------------------ */

static enum err match_model(void *user, struct span bytes, bool forked)
{
    struct control_model *search = user;
    struct arena *arena = &search->call->arena;
    struct proto_record record;
    struct proto_model model;
    size_t len = strlen(search->id);
    (void)forked;
    uint8_t *copy = arena_alloc(arena, bytes.len, 1);
    if (!copy) {
        return E_NO_MEMORY;
    }
    memcpy(copy, bytes.ptr, bytes.len);
    struct span kept = span_of(copy, bytes.len);
    if (proto_record_decode(kept, &crypto_proto_hash, &record, NULL) ||
        record.envelope.flags & PROTO_RECORD_FINAL ||
        proto_model_decode(record.envelope.body, arena, &model, NULL)) {
        return E_OK;
    }
    bool whole = span_is(model.name, search->id);
    if (whole ||
        (len >= 6 && len < model.name.len && memcmp(model.name.ptr, search->id, len) == 0)) {
        search->found++;
        search->bytes = kept;
        search->record = record;
        search->model = model;
    }
    return E_OK;
}

enum err control_model_find(struct control_call *call, struct control_model *search,
                            struct err_info *reterr)
{
    *search = (struct control_model){.call = call, .id = control_text(call, "ID")};
    enum err err = store_records_each(&call->node->store, PROTO_RECORD_MODEL, match_model, search);
    if (!err && search->found != 1) {
        err = proto_err_set(reterr, E_NOT_FOUND,
                            search->found ? "several models begin with %s"
                                          : "no model %s; `concordat model list` lists them",
                            search->id);
    }
    return err;
}

static json_t *participants_view(struct control_call *call, const struct proto_model *model)
{
    const struct proto_model_participant *participants = model->participants.items;
    json_t *array = json_array();
    for (size_t i = 0; i < model->participants.count; i++) {
        struct peer_member member;
        bool known = peer_member_by_id(call->node->peer, participants[i].node.ptr, &member);
        json_array_append_new(array,
                              json_pack("{s:o, s:o, s:f, s:I}", "node",
                                        known ? json_string(member.name)
                                              : control_json_hex(participants[i].node.ptr, 16),
                                        "org", control_json_span(participants[i].org), "epsilon",
                                        (double)participants[i].epsilon_u / 1e6, "rounds",
                                        (json_int_t)participants[i].rounds));
    }
    return array;
}

static bool show_obligation(const struct proto_licence *licence, struct span id, json_t *view)
{
    const struct proto_obligation *obligations = licence->obligations.items;
    for (size_t i = 0; i < licence->obligations.count; i++) {
        if (span_equal(obligations[i].id, id)) {
            json_object_set_new(view, "when", control_json_span(obligations[i].when));
            json_object_set_new(view, "text", control_json_span(obligations[i].text));
            return true;
        }
    }
    return false;
}

/* The record holds ids; their texts stand in the model's own licence, and of a model that has none in those of its
 * training sets. */
static json_t *obligation_view(struct control_call *call, const struct control_model *search,
                               struct span id)
{
    const struct proto_model *model = &search->model;
    const struct proto_model_licence *licences = model->licences.items;
    struct proto_record record;
    struct proto_licence licence;
    bool readable;
    json_t *view = json_pack("{s:o, s:n, s:n}", "id", control_json_span(id), "when", "text");
    const char *name = arena_strdup(&call->arena, model->name);
    if (!name) {
        return view;
    }
    (void)control_licence_state(call, search->record.envelope.issuer.ptr, name, query_now(),
                                &record, &licence, &readable);
    bool shown = readable && show_obligation(&licence, id, view);
    for (size_t i = 0; i < model->licences.count && !shown && !readable; i++) {
        struct span bytes;
        if (store_records_by_id(&call->node->store, licences[i].record_id.ptr, &call->arena,
                                &bytes) ||
            proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) ||
            proto_licence_decode(record.envelope.body, &call->arena, &licence, NULL)) {
            continue;
        }
        shown = show_obligation(&licence, id, view);
    }
    return view;
}

json_t *control_model_view(struct control_call *call, const struct control_model *search)
{
    const struct proto_model *model = &search->model;
    const struct proto_model_licence *licences = model->licences.items;
    const struct proto_text *obligations = model->obligations.items;
    json_t *licence_ids = json_array();
    json_t *duties = json_array();
    for (size_t i = 0; i < model->licences.count; i++) {
        json_array_append_new(licence_ids, control_json_hex(licences[i].record_id.ptr, 16));
    }
    for (size_t i = 0; i < model->obligations.count; i++) {
        json_array_append_new(duties, obligation_view(call, search, obligations[i].text));
    }
    json_t *metrics = json_loadb((const char *)model->metrics.ptr, model->metrics.len, 0, NULL);
    struct peer_member issuer;
    bool known = peer_member_by_id(call->node->peer, search->record.envelope.issuer.ptr, &issuer);
    json_t *view = json_pack(
        "{s:o, s:o, s:o, s:o, s:I, s:o, s:I, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o}",
        "model", control_json_span(model->name), "job", control_json_span(model->job), "task",
        control_json_span(model->task), "dataset", control_json_span(model->dataset), "round",
        (json_int_t)model->round, "weights", control_json_hex(model->weights.ptr, 32), "size",
        (json_int_t)model->size, "epsilon", (double)model->epsilon_u / 1e6, "delta",
        (double)model->delta_e12 / 1e12, "unit", control_json_span(model->unit), "participants",
        participants_view(call, model), "licences", licence_ids, "obligations", duties, "spdx",
        control_json_span(model->spdx), "release", proto_release_name(model->release), "metrics",
        metrics ? metrics : json_object(), "created", control_json_time((int64_t)model->created));
    json_object_set_new(view, "node", known ? json_string(issuer.name) : json_null());
    control_model_state(search, view);
    return view;
}

enum err control_model_show(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct control_model search;
    enum err err = control_model_find(call, &search, reterr);
    if (!err) {
        *ret = control_model_view(call, &search);
    }
    return err;
}

/* --- import ------------------------------------------------------------------------------------------------------------ */

/* UNDER: what its adapters belong to; size 0 for a whole model. */
static enum err keep_package(struct control_call *call, struct span blob, const char *name,
                             const char *spdx, const struct train_base *under, json_t **ret,
                             struct err_info *reterr)
{
    struct model_package *package = NULL;
    struct train_base base = {.size = blob.len, .time = query_now(), .under_size = under->size};
    if (under->size) {
        memcpy(base.under, under->hash, sizeof base.under);
    }
    snprintf(base.name, sizeof base.name, "%s", name);
    snprintf(base.spdx, sizeof base.spdx, "%s", spdx);
    enum err err = model_package_open(blob, &package, reterr);
    if (err) {
        return err;
    }
    uint64_t parameters = model_package_info(package)->parameters;
    model_package_close(package);
    err = store_blob_put(&call->node->store, blob, base.hash, reterr);
    if (!err) {
        err = control_audit(call, "model.import", reterr, "name", name, "licence", spdx,
                            (const char *)NULL);
    }
    if (!err) {
        err = train_base_put(&call->node->store, &base, reterr);
    }
    if (!err) {
        *ret = json_pack("{s:s, s:o, s:I, s:I, s:s}", "name", name, "hash",
                         control_json_hex(base.hash, 32), "size", (json_int_t)base.size,
                         "parameters", (json_int_t)parameters, "licence", spdx);
    }
    return err;
}

/* Adapters: over the base model that --base or their own configuration names, which must have been imported. */
static enum err import_adapter(struct control_call *call, const char *told,
                               struct train_base *under, struct buf *ret, struct err_info *reterr)
{
    const char *base = control_text(call, "--base") ? control_text(call, "--base") : told;
    struct buf blob = {.max = STORE_BLOB_MAX};
    struct model_package *package = NULL;
    enum err err = train_base_find(&call->node->store, base, under, NULL);
    if (err) {
        return proto_err_set(
            reterr, err,
            "the adapters belong to a base model \"%.80s\" that this node does not "
            "know; import it first, or name it by --base",
            base);
    }
    err = store_blob_get(&call->node->store, under->hash, &blob, reterr);
    err = err ? err : model_package_open(buf_span(&blob), &package, reterr);
    err = err ? err
              : model_package_import_adapter(control_text(call, "DIR"), package, under->hash,
                                             control_text(call, "--name"),
                                             control_text(call, "--licence"), ret, reterr);
    model_package_close(package);
    buf_fini(&blob);
    return err;
}

enum err control_model_import(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *name = control_text(call, "--name");
    const char *spdx = control_text(call, "--licence");
    char told[MODEL_PACKAGE_NAME_MAX + 1];
    struct buf blob = {.max = STORE_BLOB_MAX};
    struct train_base under = {.size = 0};
    struct proto_spdx_expression
        licence; /* one that nobody can read would only stop the jobs later */
    if (call->uid != 0 && call->uid != geteuid()) {
        return proto_err_set(reterr, E_ROLE,
                             "only the daemon's own user and root may let it read folders");
    }
    enum err err = proto_spdx_parse(span_str(spdx), &licence, reterr);
    if (err) {
        return err;
    }
    err = model_package_is_adapter(control_text(call, "DIR"), told)
              ? import_adapter(call, told, &under, &blob, reterr)
              : model_package_import(control_text(call, "DIR"), name, spdx, &blob, reterr);
    if (!err) {
        err = keep_package(call, buf_span(&blob), name, spdx, &under, ret, reterr);
    }
    buf_fini(&blob);
    return err;
}

/* --- report ------------------------------------------------------------------------------------------------------------ */

json_t *control_scores_view(const char *const *names, const double (*counts)[3], uint32_t types,
                            double sigma, struct buf *text)
{
    struct model_report report = {.strict = false};
    struct buf json = {.max = 1 << 20};
    double gold = 0;
    for (uint32_t i = 0; i < types; i++) {
        gold += counts[i][2];
    }
    /* Where the noise may be all there is, nothing is read from it. */
    bool known = types && gold > 1.96 * sigma * sqrt((double)types);
    enum err err = known ? model_evaluation_report(names, counts, types, &report) : E_NOT_FOUND;
    err = err ? err : model_report_json(&report, &json);
    if (!err && text) {
        err = model_report_text(&report, text);
    }
    json_t *view = err ? NULL : json_loadb((const char *)json.ptr, json.len, 0, NULL);
    buf_fini(&json);
    model_report_fini(&report);
    return view ? view : json_null();
}

/* The counts as the record has them. Returns how many types there are. */
static uint32_t read_counts(const json_t *metrics, const char *names[TRAIN_TYPES_MAX],
                            double counts[TRAIN_TYPES_MAX][3])
{
    uint32_t types = 0;
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(metrics, "types"), name, value)
    {
        if (types == TRAIN_TYPES_MAX || json_array_size(value) != 3) {
            return 0;
        }
        names[types] = name;
        for (size_t i = 0; i < 3; i++) {
            counts[types][i] = json_number_value(json_array_get(value, i));
        }
        types++;
    }
    return types;
}

json_t *control_metrics_view(const json_t *metrics, struct buf *text)
{
    const char *names[TRAIN_TYPES_MAX];
    double counts[TRAIN_TYPES_MAX][3];
    uint32_t types = read_counts(metrics, names, counts);
    return control_scores_view(names, (const double(*)[3])counts, types,
                               json_number_value(json_object_get(metrics, "sigma")), text);
}

enum err control_model_report(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct buf text = {.max = 1 << 20};
    json_t *model = NULL;
    enum err err = control_model_show(call, &model, reterr);
    if (err) {
        return err;
    }
    const json_t *metrics = json_object_get(model, "metrics");
    double sigma = json_number_value(json_object_get(metrics, "sigma"));
    bool counted = json_object_size(json_object_get(metrics, "types")) > 0;
    json_t *report = control_metrics_view(metrics, &text);
    if (json_is_null(report)) {
        json_decref(report);
        err = proto_err_set(reterr, E_NOT_FOUND, "%s",
                            counted
                                ? "the noise of the released counts leaves no report"
                                : "no counts of entities or classes were released for this model");
    } else {
        *ret = json_pack("{s:O, s:b, s:f, s:o, s:s#}", "model", json_object_get(model, "model"),
                         "exact", sigma == 0, "sigma", sigma, "report", report, "text",
                         (const char *)text.ptr, (int)text.len);
    }
    json_decref(model);
    buf_fini(&text);
    return err;
}
