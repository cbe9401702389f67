/* model import, model report. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/views.h"

#include "node/model/package.h"
#include "node/model/tuner.h"
#include "node/query/site.h"
#include "node/train/base.h"
#include "node/train/message.h"
#include "store/blob.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* --- import ------------------------------------------------------------------------------------------------------------ */

static enum err keep_package(struct control_call *call, struct span blob, const char *name,
                             const char *spdx, json_t **ret, struct err_info *reterr)
{
    struct model_package *package = NULL;
    struct train_base base = {.size = blob.len, .time = query_now()};
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

enum err control_model_import(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *name = control_text(call, "--name");
    const char *spdx = control_text(call, "--licence");
    struct buf blob = {.max = STORE_BLOB_MAX};
    if (call->uid != 0 && call->uid != geteuid()) {
        return proto_err_set(reterr, E_ROLE,
                             "only the daemon's own user and root may let it read folders");
    }
    enum err err = model_package_import(control_text(call, "DIR"), name, spdx, &blob, reterr);
    if (!err) {
        err = keep_package(call, buf_span(&blob), name, spdx, ret, reterr);
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

enum err control_model_report(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *names[TRAIN_TYPES_MAX];
    double counts[TRAIN_TYPES_MAX][3];
    struct buf text = {.max = 1 << 20};
    json_t *model = NULL;
    enum err err = control_model_show(call, &model, reterr);
    if (err) {
        return err;
    }
    const json_t *metrics = json_object_get(model, "metrics");
    double sigma = json_number_value(json_object_get(metrics, "sigma"));
    uint32_t types = read_counts(metrics, names, counts);
    json_t *report = control_scores_view(names, (const double(*)[3])counts, types, sigma, &text);
    if (json_is_null(report)) {
        json_decref(report);
        err =
            proto_err_set(reterr, E_NOT_FOUND, "%s",
                          types ? "the noise of the released counts leaves no report"
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
