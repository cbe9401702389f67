/* model export, card: a model out of the house. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/models.h"
#include "node/control/views.h"

#include "node/model/card.h"
#include "node/model/deploy.h"
#include "node/model/folder.h"
#include "node/model/table_model.h"
#include "node/train/base.h"
#include "store/blob.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the bytes of a model ------------------------------------------------------------------------------------------------ */

void control_opened_fini(struct control_opened *o)
{
    model_package_close(o->package);
    model_package_close(o->base);
    buf_fini(&o->blob);
    buf_fini(&o->under);
}

/* A model that was imported here and published by nobody, as its record would say. */
static enum err may_use_base(struct control_call *call, const struct train_base *base,
                             struct control_use *ret, struct err_info *reterr)
{
    const struct control_model model = {
        .call = call,
        .record = {.envelope = {.issuer = span_of(call->node->query.node_id, 16)}},
        .model = {.name = span_str(base->name),
                  .dataset = span_str("none"),
                  .task = span_str(TRAIN_MODEL_IMPORTED),
                  .weights = span_of(base->hash, 32),
                  .spdx = span_str(base->spdx)}};
    return control_model_may(&model, ret, reterr);
}

enum err control_model_locate(struct control_call *call, struct control_opened *o, bool use,
                              struct err_info *reterr)
{
    struct train_base base;
    enum err err = control_model_find(call, &o->search, reterr);
    if (!err) {
        snprintf(o->name, sizeof o->name, "%.*s", (int)o->search.model.name.len,
                 (const char *)o->search.model.name.ptr);
        memcpy(o->hash, o->search.model.weights.ptr, sizeof o->hash);
        return use ? control_model_may(&o->search, &o->use, reterr) : E_OK;
    }
    if (o->search.found > 0 ||
        train_base_find(&call->node->store, control_text(call, "ID"), &base, NULL)) {
        return err;
    }
    o->search.found = 0;
    snprintf(o->name, sizeof o->name, "%s", base.name);
    memcpy(o->hash, base.hash, sizeof o->hash);
    return use ? may_use_base(call, &base, &o->use, reterr) : E_OK;
}

static enum err fetch(struct control_call *call, struct control_opened *o, struct err_info *reterr)
{
    o->blob.max = STORE_BLOB_MAX;
    return o->search.found
               ? train_model_fetch(call->node->train, o->search.record.envelope.issuer.ptr, o->hash,
                                   o->search.model.size, &o->blob, reterr)
               : store_blob_get(&call->node->store, o->hash, &o->blob, reterr);
}

/* What is applied is the shared encoder under our own head. */
static enum err take_own_head(struct control_call *call, struct control_opened *o,
                              struct err_info *reterr)
{
    struct buf blob = {.max = STORE_BLOB_MAX};
    enum err err = train_head_attach(call->node->train, o->hash, buf_span(&o->blob), &blob, reterr);
    model_package_close(o->package);
    o->package = NULL;
    buf_fini(&o->blob);
    o->blob = blob;
    o->own_head = true;
    return err ? err : model_package_open(buf_span(&o->blob), &o->package, reterr);
}

enum err control_model_load(struct control_call *call, struct control_opened *o,
                            struct err_info *reterr)
{
    enum err err = fetch(call, o, reterr);
    if (err || (o->blob.len && o->blob.ptr[0] == '{')) {
        return err;
    }
    err = model_package_open(buf_span(&o->blob), &o->package, reterr);
    if (!err && model_package_info(o->package)->personal_head && !o->bare) {
        err = take_own_head(call, o, reterr);
    }
    if (err || !model_package_info(o->package)->has_base) {
        return err;
    }
    const uint8_t *hash = model_package_info(o->package)->base;
    o->under.max = STORE_BLOB_MAX;
    if (store_blob_get(&call->node->store, hash, &o->under, reterr)) {
        char hex[65];
        span_to_hex(span_of(hash, 32), hex);
        return proto_err_set(
            reterr, E_NOT_FOUND,
            "the base model of its adapters, %.16s.., is not at this node; `concordat "
            "model import` brings it in",
            hex);
    }
    return model_package_open(buf_span(&o->under), &o->base, reterr);
}

static enum err open_model(struct control_call *call, struct control_opened *o, bool use,
                           struct err_info *reterr)
{
    enum err err = control_model_locate(call, o, use, reterr);
    o->bare = !use;
    return err ? err : control_model_load(call, o, reterr);
}

/* --- card ---------------------------------------------------------------------------------------------------------------- */

#define METRICS_MAX 200u

/* What a card points into. */
struct card_room {
    struct model_card card;
    struct model_card_metric metrics[METRICS_MAX];
    struct model_card_site *sites;
    const char **labels, **duties;
    struct buf report;
    json_t *view; /* of the record */
    char tuning[240];
    struct arena *arena;
};

static const char *text_in(const json_t *view, const char *key)
{
    return json_string_value(json_object_get(view, key));
}

static void add_metric(struct card_room *r, const char *name, const char *type, double value,
                       double margin)
{
    if (r->card.metric_count < METRICS_MAX && isfinite(value)) {
        r->metrics[r->card.metric_count++] = (struct model_card_metric){name, type, value, margin};
    }
}

/* F1 of each type and over all, from the released counts; else what a tabular model has. */
static void card_metrics(struct card_room *r)
{
    const json_t *metrics = json_object_get(r->view, "metrics"), *score;
    json_t *scores = control_metrics_view(metrics, &r->report);
    const char *name;
    json_object_foreach(json_object_get(scores, "types"), name, score)
    {
        struct buf label = {.max = 300};
        if (!buf_printf(&label, "%s F1", name)) {
            add_metric(r, arena_strdup(r->arena, buf_span(&label)), "f1",
                       json_number_value(json_object_get(score, "f1")), 0);
        }
        buf_fini(&label);
    }
    static const char *const sums[] = {"micro", "macro", "weighted"}, *const names[] = {
                                                                          "micro F1", "macro F1",
                                                                          "weighted F1"};
    for (size_t i = 0; json_is_object(scores) && i < 3; i++) {
        add_metric(r, names[i], "f1",
                   json_number_value(json_object_get(json_object_get(scores, sums[i]), "f1")), 0);
    }
    json_decref(scores);
    static const char *const plain[][3] = {{"accuracy", "accuracy", "accuracy_margin95"},
                                           {"auc", "roc_auc", "auc_margin95"},
                                           {"rmse", "rmse", "rmse_margin95"},
                                           {"r2", "r2", "r2_margin95"},
                                           {"concordance", "concordance", "concordance_margin95"},
                                           {"eval_loss", "loss", "eval_loss_margin95"}};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        const json_t *value = json_object_get(metrics, plain[i][0]);
        if (json_is_number(value)) {
            add_metric(r, plain[i][0], plain[i][1], json_number_value(value),
                       json_number_value(json_object_get(metrics, plain[i][2])));
        }
    }
}

static void card_people(struct card_room *r)
{
    const json_t *sites = json_object_get(r->view, "participants"),
                 *duties = json_object_get(r->view, "obligations");
    r->sites = arena_alloc(r->arena, json_array_size(sites) + 1, sizeof *r->sites);
    r->duties = arena_alloc(r->arena, json_array_size(duties) + 1, sizeof *r->duties);
    for (size_t i = 0; r->sites && i < json_array_size(sites); i++) {
        const json_t *site = json_array_get(sites, i);
        double epsilon = json_number_value(json_object_get(site, "epsilon"));
        r->sites[r->card.site_count++] = (struct model_card_site){
            .institution = text_in(site, "org"),
            .epsilon = epsilon > 0 ? epsilon : NAN,
            .rounds = (uint64_t)json_integer_value(json_object_get(site, "rounds"))};
    }
    for (size_t i = 0; r->duties && i < json_array_size(duties); i++) {
        const json_t *duty = json_array_get(duties, i);
        struct buf line = {.max = 4096};
        const char *text = text_in(duty, "text");
        if (!buf_printf(&line, "%s%s%.2000s", text_in(duty, "id"), text ? ": " : "",
                        text ? text : "")) {
            r->duties[r->card.obligation_count++] = arena_strdup(r->arena, buf_span(&line));
        }
        buf_fini(&line);
    }
    r->card.sites = r->sites;
    r->card.obligations = r->duties;
}

static void card_package(struct card_room *r, const struct control_opened *o)
{
    const struct model_package_info *info = model_package_info(o->package);
    const struct model_shape *s = &info->shape;
    r->labels = arena_alloc(r->arena, (size_t)info->labels->count + 1, sizeof *r->labels);
    for (uint32_t i = 0; r->labels && i < info->labels->count; i++) {
        r->labels[r->card.label_count++] = model_words_get(info->labels, i);
    }
    r->card.labels = r->labels;
    r->card.parameters = info->parameters + (o->base ? model_package_info(o->base)->parameters : 0);
    r->card.trained = info->parameters;
    if (o->base) {
        r->card.base = model_package_info(o->base)->name;
        r->card.base_licence = model_package_info(o->base)->licence;
        snprintf(r->tuning, sizeof r->tuning, "LoRA, rank %u, alpha %g", s->rank, s->alpha);
    } else {
        snprintf(r->tuning, sizeof r->tuning, "all weights");
    }
    if (info->personal_head || o->own_head) {
        size_t len = strlen(r->tuning);
        snprintf(r->tuning + len, sizeof r->tuning - len, "%s",
                 o->own_head ? "; heads are personal: this copy has this node's own head"
                             : "; heads are personal: each site keeps its own, here is none");
    }
    r->card.tuning = o->search.found ? r->tuning : NULL;
    if (!o->search.found) {
        r->card.licence = info->licence;
    }
}

/* VARIANT: what an export changed of the model, NULL: nothing. */
static enum err write_card(struct control_call *call, const struct control_opened *o,
                           const char *variant, struct buf *to)
{
    struct card_room *r = arena_alloc(&call->arena, 1, sizeof *r);
    if (!r) {
        return E_NO_MEMORY;
    }
    r->arena = &call->arena;
    r->report.max = 1 << 20;
    r->card = (struct model_card){
        .name = o->name, .variant = variant, .epsilon = NAN, .metrics = r->metrics};
    if (o->search.found) {
        r->view = control_model_view(call, &o->search);
        double epsilon = json_number_value(json_object_get(r->view, "epsilon"));
        r->card.id = text_in(r->view, "model");
        r->card.name = text_in(r->view, "job");
        r->card.created = text_in(r->view, "created");
        r->card.licence = text_in(r->view, "spdx");
        r->card.task = text_in(r->view, "task");
        r->card.dataset = text_in(r->view, "dataset");
        r->card.rounds = (uint64_t)json_integer_value(json_object_get(r->view, "round"));
        r->card.epsilon = epsilon > 0 ? epsilon : NAN;
        r->card.delta = json_number_value(json_object_get(r->view, "delta"));
        r->card.unit = text_in(r->view, "unit");
        r->card.split = "On held-out patients of all sites, from released sums.";
        card_metrics(r);
        card_people(r);
    }
    if (o->package) {
        card_package(r, o);
    }
    bool told = r->report.len > 0 && !buf_put(&r->report, span_of((const uint8_t *)"", 1));
    r->card.report = told ? (const char *)r->report.ptr : NULL;
    enum err err = model_card_write(&r->card, to);
    json_decref(r->view);
    buf_fini(&r->report);
    return err;
}

enum err control_model_card(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct control_opened o = {0};
    struct buf card = {.max = 1 << 20};
    enum err err = open_model(call, &o, false, reterr);
    err = err ? err : write_card(call, &o, NULL, &card);
    if (!err) {
        *ret = json_pack("{s:s, s:s%}", "model", o.name, "card", (const char *)card.ptr, card.len);
    }
    buf_fini(&card);
    control_opened_fini(&o);
    return err;
}

/* --- export -------------------------------------------------------------------------------------------------------------- */

/* A folder of our own: new, or there and empty, so that nothing of another model stands beside. */
static enum err make_folder(const char *dir, bool *ret_made, struct err_info *reterr)
{
    *ret_made = mkdir(dir, 0700) == 0;
    if (*ret_made) {
        return E_OK;
    }
    if (errno != EEXIST) {
        return proto_err_set(reterr, E_IO, "%s: %s", dir, strerror(errno));
    }
    DIR *open = opendir(dir);
    if (!open) {
        return proto_err_set(reterr, E_IO, "%s: %s", dir, strerror(errno));
    }
    bool empty = true;
    for (const struct dirent *entry; empty && (entry = readdir(open));) {
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    }
    closedir(open);
    return empty ? E_OK
                 : proto_err_set(reterr, E_EXISTS, "%s is not empty: name a new folder", dir);
}

static json_t *list_files(const char *dir)
{
    json_t *files = json_array();
    DIR *open = opendir(dir);
    for (const struct dirent *entry; open && (entry = readdir(open));) {
        char path[PATH_MAX];
        struct stat stat_of;
        int n = snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (n > 0 && (size_t)n < sizeof path && stat(path, &stat_of) == 0 &&
            S_ISREG(stat_of.st_mode)) {
            json_array_append_new(
                files, json_pack("{s:s, s:I}", "file", path, "bytes", (json_int_t)stat_of.st_size));
        }
    }
    if (open) {
        closedir(open);
    }
    return files;
}

/* README.md, and when there is a record: record.json, ATTRIBUTION.md and the signed lineage.json. */
static enum err write_papers(struct control_call *call, const struct control_opened *o,
                             const char *variant, const char *dir, struct err_info *reterr)
{
    struct buf card = {.max = 1 << 20};
    enum err err = write_card(call, o, variant, &card);
    err = err ? err : model_folder_write(dir, "README.md", buf_span(&card), reterr);
    buf_fini(&card);
    if (err || !o->search.found) {
        return err;
    }
    json_t *view = control_model_view(call, &o->search);
    char *text = view ? json_dumps(view, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    err = text ? model_folder_write(dir, "record.json", span_str(text), reterr) : E_NO_MEMORY;
    err = err ? err : control_model_papers(&o->search, view, dir, reterr);
    free(text);
    json_decref(view);
    return err;
}

/* The kind of files that AS names; tabular models are documents. */
static enum err choose_kind(const struct control_opened *o, const char *as, double prune,
                            enum model_deploy *ret, struct err_info *reterr)
{
    if (!o->package && prune > 0) {
        return proto_err_set(reterr, E_UNSUPPORTED, "only language models are pruned");
    }
    if (!o->package && strcmp(as, "json") != 0 && strcmp(as, "onnx") != 0) {
        return proto_err_set(reterr, E_UNSUPPORTED, "a tabular model is exported as json or onnx");
    }
    if (o->package && !model_deploy_by_name(as, ret)) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "a language model is exported as safetensors, peft, onnx or int8");
    }
    return E_OK;
}

/* For the card: what KIND and PRUNE made of the weights; "" when they are as they were. */
static void tell_variant(enum model_deploy kind, double prune,
                         const struct model_deployed *deployed, char *to, size_t size)
{
    int n = 0;
    if (prune > 0) {
        n = snprintf(to, size,
                     "pruned by magnitude, %.1f %% of the numbers in the layers' matrices are zero "
                     "(%llu of %llu)",
                     100 * (double)deployed->zeros / (double)deployed->numbers,
                     (unsigned long long)deployed->zeros, (unsigned long long)deployed->numbers);
    }
    if (kind == MODEL_DEPLOY_INT8 && n >= 0 && (size_t)n < size) {
        snprintf(to + n, size - (size_t)n, "%smatrices in eight bits, one scale a row",
                 n ? "; " : "");
    }
}

static json_t *exported(const struct control_opened *o, const char *as, const char *dir,
                        const struct model_deployed *deployed)
{
    json_t *files = list_files(dir), *view = json_object();
    json_int_t bytes = 0;
    for (size_t i = 0; i < json_array_size(files); i++) {
        bytes += json_integer_value(json_object_get(json_array_get(files, i), "bytes"));
    }
    json_object_set_new(view, "model", json_string(o->name));
    json_object_set_new(view, "format", json_string(as));
    json_object_set_new(view, "bytes", json_integer(bytes));
    if (deployed->zeros) {
        json_object_set_new(view, "sparsity",
                            json_real((double)deployed->zeros / (double)deployed->numbers));
    }
    json_object_set_new(view, "files", files);
    return view;
}

/* The document, and on request the graph beside it: what its inputs are stands in the document. */
static enum err write_table(const struct control_opened *o, const char *as, const char *dir,
                            struct err_info *reterr)
{
    struct model_table_model *model = NULL;
    enum err err = model_folder_write(dir, "model.json", buf_span(&o->blob), reterr);
    if (!err && strcmp(as, "onnx") == 0) {
        err = model_table_model_read(buf_span(&o->blob), &model, reterr);
        err = err ? err : model_table_model_onnx(model, o->name, dir, "model.onnx", reterr);
        model_table_model_free(model);
    }
    return err;
}

enum err control_model_export(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct model_deployed deployed = {0};
    char variant[240] = "";
    const char *dir = control_text(call, "--out"), *as = control_text(call, "--as");
    double prune = control_number(call, "--prune", 0);
    enum model_deploy kind = MODEL_DEPLOY_SAFETENSORS;
    struct control_opened o = {0};
    bool made = false;
    if (call->uid != 0 && call->uid != geteuid()) {
        return proto_err_set(reterr, E_ROLE,
                             "only the daemon's own user and root may let it write files");
    }
    enum err err = open_model(call, &o, true, reterr);
    as = as ? as : o.package ? "safetensors" : "json";
    err = err ? err : choose_kind(&o, as, prune, &kind, reterr);
    err = err ? err : make_folder(dir, &made, reterr);
    if (!err) {
        err = control_audit(call, "model.export", reterr, "model", o.name, "as", as, "out", dir,
                            "purpose", o.use.purpose, "project", o.use.project, (const char *)NULL);
    }
    if (!err) {
        err = o.package ? model_deploy_write(o.package, o.base, kind, prune, dir, &deployed, reterr)
                        : write_table(&o, as, dir, reterr);
    }
    tell_variant(kind, prune, &deployed, variant, sizeof variant);
    err = err ? err : write_papers(call, &o, *variant ? variant : NULL, dir, reterr);
    if (!err) {
        *ret = exported(&o, as, dir, &deployed);
    } else if (made) {
        (void)rmdir(dir); /* unless something was written */
    }
    control_opened_fini(&o);
    return err;
}
