/* dataset risk: how well the stored rows hide a person, for this node's operator alone. */
#include "config.h"
#include "node/control/dispatch.h"

#include "node/config/yaml.h"
#include "store/catalogue.h"
#include "store/risk.h"

#include <math.h>

struct risk {
    struct control_call *call;
    const char *dataset;
    struct arena arena;
    struct proto_manifest manifest;
    struct store_partition *partition;
    int quasi[STORE_RISK_COLUMNS];
    size_t quasi_count;
    int sensitive[STORE_RISK_COLUMNS];
    size_t sensitive_count;
    uint64_t k;
    uint64_t l;
    double t;
};

/* Columns that the option names, or that the manifest declares as OF. */
static enum err choose(struct risk *risk, const char *option, enum proto_risk of, int *to,
                       size_t *ret_count, struct err_info *reterr)
{
    const char *names[STORE_RISK_COLUMNS];
    size_t count;
    enum err err = control_list(risk->call, option, names, STORE_RISK_COLUMNS, &count, reterr);
    if (err) {
        return err;
    }
    const struct proto_schema *declared = &risk->manifest.schema;
    for (size_t i = 0; !control_text(risk->call, option) && i < declared->count; i++) {
        if (declared->columns[i].risk != of || declared->columns[i].deidentify == PROTO_DEID_DROP) {
            continue;
        }
        if (count == STORE_RISK_COLUMNS) {
            return proto_err_set(reterr, E_LIMIT,
                                 "the manifest declares more than %d such columns; choose by %s",
                                 STORE_RISK_COLUMNS, option);
        }
        names[count++] = declared->columns[i].name;
    }
    for (size_t i = 0; i < count; i++) {
        to[i] = proto_schema_find(store_partition_schema(risk->partition), names[i]);
        if (to[i] < 0) {
            return proto_err_set(reterr, E_USAGE, "%s: %s stores no column %s", option,
                                 risk->dataset, names[i]);
        }
    }
    *ret_count = count;
    return E_OK;
}

static enum err prepare(struct risk *risk, struct err_info *reterr)
{
    struct store_dataset row;
    struct store *store = &risk->call->node->store;
    enum err err = store_catalogue_get(store, risk->dataset, &risk->arena, &row, reterr);
    err =
        err ? err
            : config_yaml_manifest_bytes(row.manifest_yaml, risk->dataset, &risk->manifest, reterr);
    err = err ? err : store_partition_open(store, risk->dataset, &risk->partition, reterr);
    err = err ? err
              : choose(risk, "--quasi", PROTO_RISK_QUASI, risk->quasi, &risk->quasi_count, reterr);
    err = err ? err
              : choose(risk, "--sensitive", PROTO_RISK_SENSITIVE, risk->sensitive,
                       &risk->sensitive_count, reterr);
    if (!err && risk->quasi_count == 0) {
        err = proto_err_set(reterr, E_USAGE,
                            "name quasi-identifiers with --quasi age,sex, or mark columns in the "
                            "manifest with quasi: true");
    }
    return err;
}

static json_t *names_view(const struct risk *risk, const int *columns, size_t count)
{
    json_t *view = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(
            view, json_string(store_partition_schema(risk->partition)->columns[columns[i]].name));
    }
    return view;
}

static enum err add_diversity(struct risk *risk, int column, json_t *to, struct err_info *reterr)
{
    struct store_diversity diversity;
    enum err err =
        store_risk_diversity(risk->partition, risk->quasi, risk->quasi_count, column, risk->l,
                             risk->t, control_cancelled, risk->call, &diversity, reterr);
    if (!err) {
        json_array_append_new(
            to,
            json_pack("{s:s, s:I, s:f, s:o, s:{s:I, s:I, s:I}, s:f, s:{s:f, s:I, s:I}}", "column",
                      store_partition_schema(risk->partition)->columns[column].name, "distinct_l",
                      (json_int_t)diversity.distinct, "entropy_l", diversity.entropy, "recursive_c",
                      isfinite(diversity.recursive) ? json_real(diversity.recursive) : json_null(),
                      "below_l", "l", (json_int_t)risk->l, "classes",
                      (json_int_t)diversity.below_classes, "rows", (json_int_t)diversity.below_rows,
                      "t_closeness", diversity.closeness, "above_t", "t", risk->t, "classes",
                      (json_int_t)diversity.far_classes, "rows", (json_int_t)diversity.far_rows));
    }
    return err;
}

static enum err measure(struct risk *risk, json_t **ret, struct err_info *reterr)
{
    struct store_risk measured;
    json_t *sensitive = json_array();
    enum err err = store_risk_measure(risk->partition, risk->quasi, risk->quasi_count, risk->k,
                                      control_cancelled, risk->call, &measured, reterr);
    for (size_t i = 0; i < risk->sensitive_count && !err; i++) {
        err = add_diversity(risk, risk->sensitive[i], sensitive, reterr);
    }
    if (err) {
        json_decref(sensitive);
        return err;
    }
    double share = measured.rows ? (double)measured.below_rows / (double)measured.rows : 0;
    *ret = json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I, s:f}, s:o}", "dataset",
                     risk->dataset, "quasi", names_view(risk, risk->quasi, risk->quasi_count),
                     "k_anonymity", (json_int_t)measured.smallest, "classes",
                     (json_int_t)measured.classes, "unique", (json_int_t)measured.unique, "rows",
                     (json_int_t)measured.rows, "suppression", "k", (json_int_t)risk->k, "classes",
                     (json_int_t)measured.below_classes, "rows", (json_int_t)measured.below_rows,
                     "share", share, "sensitive", sensitive);
    return E_OK;
}

enum err control_dataset_risk(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct risk risk = {.call = call, .dataset = control_text(call, "NAME")};
    double k = control_number(call, "--k", 5);
    double l = control_number(call, "--l", 2);
    if (!(k >= 2 && k <= 1e6 && floor(k) == k && l >= 2 && l <= 1e6 && floor(l) == l)) {
        return proto_err_set(reterr, E_USAGE, "--k and --l are whole numbers of at least 2");
    }
    risk.t = control_number(call, "--t", 0.2);
    if (!(risk.t >= 0 && risk.t <= 1)) {
        return proto_err_set(reterr, E_USAGE, "--t lies in 0 to 1");
    }
    risk.k = (uint64_t)k;
    risk.l = (uint64_t)l;
    enum err err = prepare(&risk, reterr);
    err = err ? err
              : control_audit(call, "dataset.risk", reterr, "dataset", risk.dataset,
                              (const char *)NULL);
    err = err ? err : measure(&risk, ret, reterr);
    store_partition_close(risk.partition);
    proto_manifest_fini(&risk.manifest);
    arena_fini(&risk.arena);
    return err;
}
