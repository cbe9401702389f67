/* dataset import, list, show, update, remove. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/import.h"
#include "node/control/views.h"

#include "node/config/yaml.h"
#include "node/query/admission.h"
#include "node/query/damage.h"
#include "node/query/site.h"
#include "node/source/postgres.h"
#include "proto/privacy.h"
#include "proto/time.h"
#include "store/import.h"
#include "store/partition.h"
#include "store/records.h"
#include "store/rotate.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

static void show_progress(void *user, uint64_t done, uint64_t total, uint64_t rows)
{
    char text[64];
    snprintf(text, sizeof text, "importing, %llu rows, bytes", (unsigned long long)rows);
    control_progress(user, text, done, total);
}

static bool has_private_keys(const struct proto_schema *schema)
{
    for (size_t i = 0; i < schema->count; i++) {
        if (schema->columns[i].values_private) {
            return true;
        }
    }
    return false;
}

/* A licence whose budget comes back: its epsilon_total is what each window may take, and the declared budget of the domain is what
 * all of them together may take. Without one there would be no bound on what is lost over time. */
static enum err renew_budget(struct store *store, uint64_t window_s, bool thresholds,
                             struct store_budget *budget, struct err_info *reterr)
{
    struct store_account domain = {0};
    enum err err = store_ledger_domain_get(store, budget->domain, &domain, NULL);
    if (err && err != E_NOT_FOUND) {
        return err;
    }
    if (budget->window_s) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "the licence's budget has a window; budget.window cannot be another");
    }
    if (!domain.declared) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "a budget that comes back after a window needs a bound over all time: "
                             "declare the domain %s under budget: in node.yaml",
                             budget->domain[0] ? budget->domain : PROTO_DOMAIN_DEFAULT);
    }
    budget->window_s = window_s;
    budget->window_nano = budget->cap_nano;
    budget->cap_nano = domain.cap_nano;
    budget->order = domain.order;
    budget->delta_e12 = domain.delta_e12;
    budget->delta0_e18 = thresholds ? domain.delta0_e18 : 0;
    return E_OK;
}

/* The account that questions about the dataset are charged to. Once training was charged, or delta was split for thresholds,
 * its order and its split stay; a new epsilon_total is then what they allow. */
static enum err open_account(struct import *import, const struct proto_licence *licence,
                             struct err_info *reterr)
{
    uint64_t epsilon_u;
    uint64_t delta_e12;
    struct store *store = &import->call->node->store;
    const struct proto_manifest *manifest = &import->manifest;
    if (!proto_policy_budget(licence, &epsilon_u, &delta_e12)) {
        return E_OK;
    }
    struct store_account now = {0};
    enum err err = store_ledger_get(store, manifest->dataset, &now, NULL);
    if (err && err != E_NOT_FOUND) {
        return err;
    }
    double epsilon = (double)epsilon_u / 1e6;
    double order = now.train_nano > 0 ? now.order : 0;
    bool thresholds = has_private_keys(&import->published) || now.delta0_spent_e18 > 0;
    struct proto_privacy_budget caps = proto_privacy_budget(epsilon, delta_e12, thresholds, order);
    struct store_budget budget = {.domain = manifest->budget.domain,
                                  .cap_nano = caps.cap_nano,
                                  .delta_e12 = delta_e12,
                                  .delta0_e18 = caps.delta0_e18,
                                  .order = caps.order,
                                  .window_s = manifest->budget.window_ms / 1000};
    if (proto_policy_window(licence)) {
        err = renew_budget(store, proto_policy_window(licence), thresholds, &budget, reterr);
        if (err) {
            return err;
        }
    } else if (budget.window_s) {
        double window = fmin(manifest->budget.epsilon_per_window, epsilon);
        budget.window_nano = proto_privacy_budget(window, delta_e12, thresholds, 0).cap_nano;
    }
    err = store_ledger_account(store, manifest->dataset, &budget, query_now(), reterr);
    return err == E_EXISTS ? proto_err_set(reterr, E_UNSUPPORTED,
                                           "the dataset was charged in another domain of privacy "
                                           "units: budget.domain cannot change")
                           : err;
}

static enum err publish_dataset(struct import *import, struct err_info *reterr)
{
    struct proto_dataset body;
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    uint8_t id[16];
    enum err err = proto_manifest_dataset_body(&import->manifest, &import->published,
                                               import->schema_hash, &import->arena, &body, reterr);
    if (!err) {
        err = proto_dataset_encode(&body, &bytes, reterr);
    }
    if (!err) {
        err = peer_publish(import->call->node->peer, PROTO_RECORD_DATASET, import->manifest.dataset,
                           buf_span(&bytes), 0,
                           import->manifest.has_licence ? import->manifest.licence.expires
                                                        : query_now() + 365 * 86400,
                           id, reterr);
    }
    buf_fini(&bytes);
    return err;
}

/* Names the contents that the licence was given for, without a row in clear: schema and sealed partition. Data under a
 * new key are the same data. */
static enum err digest_contents(struct import *import, uint8_t ret[32], struct err_info *reterr)
{
    struct store_dataset row;
    struct store *store = &import->call->node->store;
    enum err err =
        store_catalogue_get(store, import->manifest.dataset, &import->arena, &row, reterr);
    err = err ? err : store_rotate_origin(store, row.partition_uuid, row.root, reterr);
    if (!err) {
        const struct span parts[] = {span_of("concordat1-content", 19),
                                     span_of(import->schema_hash, 32), span_of(row.root, 32)};
        crypto_sha256(parts, 3, ret);
    }
    return err;
}

static enum err publish_licence(struct import *import, uint8_t ret_id[16], struct err_info *reterr)
{
    struct proto_licence licence;
    uint8_t digest[32];
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    enum err err = proto_manifest_licence_body(&import->manifest, import->schema_hash, query_now(),
                                               &import->arena, &licence, reterr);
    err = err ? err : digest_contents(import, digest, reterr);
    licence.content_digest = span_of(digest, sizeof digest);
    if (!err) {
        err = open_account(import, &licence, reterr);
    }
    if (!err) {
        err = proto_licence_encode(&licence, &bytes, reterr);
    }
    if (!err) {
        err = peer_publish(import->call->node->peer, PROTO_RECORD_LICENCE, import->manifest.dataset,
                           buf_span(&bytes), 0, (int64_t)licence.expires, ret_id, reterr);
    }
    buf_fini(&bytes);
    return err;
}

/* Everything that could refuse the publication is tried before a row is read. */
static enum err rehearse(struct import *import, struct err_info *reterr)
{
    struct proto_licence licence;
    struct proto_dataset dataset;
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    enum err err =
        proto_manifest_dataset_body(&import->manifest, &import->published, import->schema_hash,
                                    &import->arena, &dataset, reterr);
    if (!err) {
        err = proto_dataset_encode(&dataset, &bytes, reterr);
    }
    bytes.len = 0;
    if (!err && import->manifest.has_licence) {
        err = proto_manifest_licence_body(&import->manifest, import->schema_hash, query_now(),
                                          &import->arena, &licence, reterr);
        if (!err) {
            licence.content_digest = span_of(import->schema_hash, 32); /* of the same length */
            err = proto_licence_valid(&licence, reterr);
        }
        if (!err) {
            err = proto_licence_encode(&licence, &bytes, reterr);
        }
    }
    buf_fini(&bytes);
    return err;
}

static json_t *rejects_view(const struct import *import)
{
    json_t *rejects = json_array();
    for (size_t i = 0; i < import->report->reject_count; i++) {
        json_t *reject = json_pack(
            "{s:I, s:s, s:s}", "line", (json_int_t)import->report->rejects[i].line, "column",
            import->report->rejects[i].column, "reason", import->report->rejects[i].reason);
        if (import->data_count > 1) {
            const char *name = import->data[import->report->rejects[i].file].name;
            json_object_set_new(reject, "file", json_string(name));
        }
        json_array_append_new(rejects, reject);
    }
    return rejects;
}

/* What the import did to values, by column: to this site's operator alone, as the counts are exact. */
static json_t *counts_view(const struct import *import,
                           uint64_t (*of)(const struct store_import_column *))
{
    json_t *view = json_object();
    for (size_t i = 0; i < import->report->column_count; i++) {
        const struct store_import_column *column = &import->report->columns[i];
        if (of(column)) {
            json_object_set_new(view, column->name, json_integer((json_int_t)of(column)));
        }
    }
    return view;
}

static uint64_t clamped_of(const struct store_import_column *column)
{
    return column->clamped;
}

static uint64_t blanked_of(const struct store_import_column *column)
{
    return column->blanked;
}

static uint64_t redacted_of(const struct store_import_column *column)
{
    return column->redacted;
}

/* Each declared column against the Safe Harbor list. It judges what was declared and claims nothing of what cells hold. */
static json_t *harbor_view(const struct import *import)
{
    json_t *view = json_object();
    for (size_t i = 0; i < import->manifest.schema.count; i++) {
        const struct proto_column *column = &import->manifest.schema.columns[i];
        bool is_unit = import->manifest.schema.unit[0] &&
                       strcmp(import->manifest.schema.unit, column->name) == 0;
        const char *why;
        const char *verdict = proto_column_safe_harbor(column, is_unit, &why);
        json_object_set_new(view, column->name,
                            json_pack("{s:s, s:s, s:s}", "operation",
                                      proto_deidentify_name(column->deidentify), "safe_harbor",
                                      verdict, "why", why));
    }
    return view;
}

static json_t *absent_view(const struct import *import)
{
    json_t *view = json_array();
    for (size_t i = 0; i < import->report->column_count; i++) {
        if (import->report->columns[i].absent) {
            json_array_append_new(view, json_string(import->report->columns[i].name));
        }
    }
    return view;
}

static json_t *report_view(const struct import *import)
{
    json_t *rejects = rejects_view(import);
    json_t *operations = json_object();
    for (size_t i = 0; i < import->manifest.schema.count; i++) {
        const struct proto_column *column = &import->manifest.schema.columns[i];
        if (column->deidentify != PROTO_DEID_NONE) {
            json_object_set_new(operations, column->name,
                                json_string(proto_deidentify_name(column->deidentify)));
        }
    }
    return json_pack(
        "{s:s, s:s, s:I, s:I, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:I, s:I, "
        "s:I, "
        "s:I}",
        "dataset", import->manifest.dataset, "version", import->manifest.version, "rows",
        (json_int_t)(import->report->rows - import->report->carried), "rejected",
        (json_int_t)import->report->rejected, "rejects", rejects, "bytes_raw",
        (json_int_t)import->report->bytes_raw, "bytes_stored",
        (json_int_t)import->report->bytes_stored, "deidentified", operations, "safe_harbor",
        harbor_view(import), "clamped", counts_view(import, clamped_of), "blanked",
        counts_view(import, blanked_of), "redacted", counts_view(import, redacted_of), "absent",
        absent_view(import), "tables", import->tables_hash, "mapping", import->mapping_hash,
        "unjoined", (json_int_t)import->report->unjoined, "total", (json_int_t)import->report->rows,
        "replaced", (json_int_t)import->report->replaced, "excluded",
        (json_int_t)import->report->excluded);
}

/* Everything of it is durable and told to the federation on return. */
static enum err publish_import(struct import *import, struct err_info *reterr)
{
    uint8_t id[16];
    enum err err =
        control_audit(import->call, "dataset.import", reterr, "dataset", import->manifest.dataset,
                      "version", import->manifest.version, "tables", import->tables_hash, "mapping",
                      import->mapping_hash, (const char *)NULL);
    err = err ? err : publish_dataset(import, reterr);
    return err || !import->manifest.has_licence ? err : publish_licence(import, id, reterr);
}

/* The rows of the mapping's query; *RET stays NULL where they come from files. */
static enum err open_database(struct import *import, struct store_source **ret,
                              struct err_info *reterr)
{
    struct source_postgres_options options = {
        .connection = import->manifest.connection,
        .schema = import->manifest.database_schema,
        .query = import->mapping.query,
        .cancelled = control_cancelled,
        .user = import->call,
    };
    if (!import_is_postgres(import)) {
        return E_OK;
    }
    return options.connection
               ? source_postgres_open(&options, ret, reterr)
               : proto_err_set(reterr, E_INVALID,
                               "the mapping reads PostgreSQL: the manifest needs database: "
                               "{connection: ...}");
}

static enum err import_run(struct import *import, json_t **ret, struct err_info *reterr)
{
    struct control_call *call = import->call;
    const char *more[STORE_FHIR_FILES];
    for (size_t i = 1; i < import->data_count; i++) {
        more[i - 1] = import->data[i].path;
    }
    struct store_import_options options = {
        .data_path = import->data_count ? import->data[0].path : NULL,
        .data_name = import->data_count ? import->data[0].name : NULL,
        .more_paths = more,
        .more_count = import->data_count ? import->data_count - 1 : 0,
        .mapping = import->has_mapping ? &import->mapping : NULL,
        .format = control_text(call, "--format"),
        .append = control_flag(call, "--append"),
        .key = control_text(call, "--key"),
        .dry_run = control_flag(call, "--dry-run"),
        .max_rejects = (uint64_t)control_number(call, "--max-rejects", 0),
        .now = query_now(),
        .manifest_yaml = buf_span(&import->yaml),
        .tables = import->table_spans,
        .exclude = buf_span(&import->exclude),
        .cancelled = control_cancelled,
        .progress = show_progress,
        .user = call,
    };
    enum err err = open_database(import, &options.take_source, reterr);
    err = err ? err
              : store_import_run(&call->node->store, &import->manifest, &options, import->report,
                                 reterr);
    if (err) {
        const struct import_data *at = &import->data[import->report->rejects[0].file];
        proto_err_frame(reterr, "importing %s",
                        import->data_count ? at->name : import->manifest.mapping);
        call->error_rejects = rejects_view(import);
    }
    err = err || options.dry_run ? err : publish_import(import, reterr);
    if (!err) {
        *ret = report_view(import);
    }
    return err;
}

enum err control_dataset_import(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct import import = {.call = call};
    import.report = arena_alloc(&call->arena, 1, sizeof *import.report);
    enum err err = import.report
                       ? import_load_manifest(&import, control_text(call, "MANIFEST"), reterr)
                       : E_NO_MEMORY;
    if (!err) {
        err = rehearse(&import, reterr);
    }
    err = err ? err : import_load_beside(&import, reterr);
    err = err ? err : import_open_data(&import, reterr);
    err = err ? err : import_run(&import, ret, reterr);
    import_free(&import);
    return err;
}

/* Peers bind questions to the published columns by number, so their order is part of what stays. */
static enum err same_order(struct import *import, struct err_info *reterr)
{
    struct query_admission *now = proto_alloc(1, sizeof *now);
    enum err err = now ? query_admission_load(&import->call->node->query, import->manifest.dataset,
                                              now, reterr)
                       : E_NO_MEMORY;
    for (size_t i = 0; !err && i < now->schema.count; i++) {
        if (strcmp(now->schema.columns[i].name, import->published.columns[i].name) != 0) {
            err = proto_err_set(
                reterr, E_SCHEMA,
                "the columns of %s stand in another order: keep it, or import the data again",
                import->manifest.dataset);
        }
    }
    if (now) {
        query_admission_fini(now);
    }
    proto_free(now);
    return err;
}

/* The row that answers take version and size from. */
static enum err update_row(struct import *import, struct store_dataset *row,
                           struct err_info *reterr)
{
    snprintf(row->version, sizeof row->version, "%s", import->manifest.version);
    row->size = import->manifest.size;
    row->manifest_yaml = buf_span(&import->yaml);
    return store_catalogue_put(&import->call->node->store, row, reterr);
}

enum err control_dataset_update(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct import import = {.call = call};
    struct store_dataset row;
    uint8_t id[16] = {0};
    enum err err = import_load_manifest(&import, control_text(call, "MANIFEST"), reterr);
    if (!err) {
        err = store_catalogue_get(&call->node->store, import.manifest.dataset, &import.arena, &row,
                                  reterr);
    }
    if (!err && memcmp(row.schema_hash, import.schema_hash, 32) != 0) {
        err = proto_err_set(reterr, E_SCHEMA, "the columns of %s changed: import the data again",
                            import.manifest.dataset);
    }
    if (!err) {
        err = same_order(&import, reterr);
    }
    if (!err) {
        err = rehearse(&import, reterr);
    }
    if (!err) {
        err = control_audit(call, "dataset.update", reterr, "dataset", import.manifest.dataset,
                            "version", import.manifest.version, (const char *)NULL);
    }
    if (!err) {
        err = update_row(&import, &row, reterr);
    }
    if (!err) {
        err = publish_dataset(&import, reterr);
    }
    if (!err && import.manifest.has_licence) {
        err = publish_licence(&import, id, reterr);
    }
    if (!err) {
        *ret = json_pack("{s:s, s:s, s:o}", "dataset", import.manifest.dataset, "version",
                         import.manifest.version, "licence", control_json_hex(id, 16));
    }
    import_free(&import);
    return err;
}

/* A question found its file damaged. Nothing is read for this. */
static bool met_damage(struct control_call *call, const struct store_dataset *row)
{
    return query_damage_met(call->node->query.damage, row->partition_uuid);
}

struct listing {
    struct control_call *call;
    json_t *array;
};

static enum err list_one(void *user, const struct store_dataset *row)
{
    struct listing *listing = user;
    struct query_admission *admission = proto_alloc(1, sizeof *admission);
    if (!admission) {
        return E_NO_MEMORY;
    }
    enum err err = query_admission_load(&listing->call->node->query, row->name, admission, NULL);
    struct proto_record record;
    struct proto_licence licence;
    bool readable;
    const char *state = control_licence_state(listing->call, listing->call->node->query.node_id,
                                              row->name, query_now(), &record, &licence, &readable);
    json_array_append_new(
        listing->array,
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:s, s:b}", "dataset", row->name, "version",
                  row->version, "columns", (json_int_t)(err ? 0 : admission->schema.count),
                  "bytes_raw", (json_int_t)row->bytes_raw, "bytes_stored",
                  (json_int_t)row->bytes_stored, "imported", control_json_time(row->imported_at),
                  "licence", state, "damaged", met_damage(listing->call, row)));
    query_admission_fini(admission);
    proto_free(admission);
    return E_OK;
}

enum err control_dataset_list(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct listing listing = {call, json_array()};
    enum err err = store_catalogue_each(&call->node->store, list_one, &listing, reterr);
    if (err) {
        json_decref(listing.array);
        return err;
    }
    *ret = listing.array;
    return E_OK;
}

/* Dates as manifests and answers write them. */
static json_t *bound_view(const struct proto_column *column, double bound)
{
    char text[PROTO_TIME_SIZE];
    if (!column->has_bounds) {
        return json_null();
    }
    return column->type == PROTO_COLUMN_DATE
               ? json_stringn(proto_time_format((int64_t)bound * 86400, text), 10)
               : json_real(bound);
}

static json_t *column_view(const struct proto_column *column)
{
    json_t *values = json_null();
    if (column->value_count && !column->values_private) {
        values = json_array();
        for (size_t i = 0; i < column->value_count; i++) {
            json_array_append_new(values, json_string(column->values[i]));
        }
    }
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", column->name, "type",
                     proto_column_type_name(column->type), "min", bound_view(column, column->min),
                     "max", bound_view(column, column->max), "values", values);
}

static void show_budget(struct control_call *call, const char *name, json_t *view)
{
    json_t *budget = NULL;
    if (control_budget_view(call, name, &budget, NULL) == E_OK) {
        json_object_set(view, "budget", json_array_get(budget, 0));
    }
    json_decref(budget);
}

/* This site's own row, when it has one. What the federation's records say of a dataset is not shown over a file that is
 * damaged or gone: the reader would take it for whole. */
static enum err show_own(struct control_call *call, const char *name, struct store_dataset *row,
                         bool *ret_here, struct err_info *reterr)
{
    struct store_partition *partition = NULL;
    enum err err = store_catalogue_get(&call->node->store, name, &call->arena, row, reterr);
    *ret_here = err == E_OK;
    if (err) {
        return err == E_NOT_FOUND ? E_OK : err;
    }
    err = store_partition_open(&call->node->store, name, &partition, reterr);
    store_partition_close(partition);
    if (err == E_NOT_FOUND) {
        return proto_err_set(reterr, E_CORRUPT, "dataset %s: its partition file is missing", name);
    }
    if (err) {
        proto_err_frame(reterr, "dataset %s", name);
    }
    return err;
}

enum err control_dataset_show(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *name = control_text(call, "NAME");
    struct query_publisher *publishers;
    size_t count;
    struct store_dataset row;
    bool here = false;
    enum err err = show_own(call, name, &row, &here, reterr);
    err =
        err ? err
            : query_publishers(&call->node->query, name, &call->arena, &publishers, &count, reterr);
    if (err) {
        return err;
    }
    const struct query_publisher *shown =
        &publishers[query_publishers_schema(&call->node->query, publishers, count)];
    json_t *columns = json_array();
    json_t *nodes = json_array();
    for (size_t i = 0; i < shown->schema.count; i++) {
        json_array_append_new(columns, column_view(&shown->schema.columns[i]));
    }
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(nodes, json_string(publishers[i].member.name));
    }
    *ret = json_pack(
        "{s:s, s:o, s:o, s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "dataset", name, "version",
        control_json_span(shown->dataset.version), "title", control_json_span(shown->dataset.title),
        "unit", shown->schema.unit[0] ? shown->schema.unit : "row", "max_rows_per_unit",
        (json_int_t)shown->schema.max_rows_per_unit, "size", (json_int_t)shown->dataset.size,
        "schema_hash", control_json_hex(shown->schema_hash, 32), "columns", columns, "nodes", nodes,
        "licence", shown->has_licence ? control_licence_view(&shown->licence) : json_null());
    if (here) {
        json_object_set_new(*ret, "damaged", json_boolean(met_damage(call, &row)));
    }
    bool is_operator = call->roles & PROTO_ROLE_OPERATOR;
    if (is_operator && here) {
        json_object_set_new(
            *ret, "rows", json_integer((json_int_t)row.rows)); /* for this site's operator alone */
        show_budget(call, name, *ret);
    }
    return E_OK;
}

static enum err withdraw(struct control_call *call, const char *name, uint64_t kind,
                         uint8_t ret_id[16], struct err_info *reterr)
{
    /* A final record keeps no body but must have one that decodes: the last version's own. */
    uint8_t key[16];
    struct span bytes;
    struct proto_record record;
    proto_record_key(&crypto_proto_hash, name, key);
    enum err err = store_records_get(&call->node->store, call->node->query.node_id, key, kind,
                                     &call->arena, &bytes, NULL);
    if (!err) {
        err = proto_record_decode(bytes, &crypto_proto_hash, &record, reterr);
    }
    if (!err && record.envelope.flags & PROTO_RECORD_FINAL) {
        memcpy(ret_id, record.id, 16);
        return E_OK;
    }
    return err ? err
               : peer_publish(call->node->peer, kind, name, record.envelope.body,
                              PROTO_RECORD_FINAL, (int64_t)record.envelope.expires, ret_id, reterr);
}

enum err control_dataset_remove(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *name = control_text(call, "NAME");
    struct store_dataset row;
    uint8_t id[16];
    enum err err = store_catalogue_get(&call->node->store, name, &call->arena, &row, reterr);
    if (!err) {
        err = control_audit(call, "dataset.remove", reterr, "dataset", name, (const char *)NULL);
    }
    if (!err) {
        err = withdraw(call, name, PROTO_RECORD_LICENCE, id, reterr);
        err = err == E_NOT_FOUND ? E_OK : err;
    }
    if (!err) {
        err = withdraw(call, name, PROTO_RECORD_DATASET, id, reterr);
        err = err == E_NOT_FOUND ? E_OK : err;
    }
    err = err ? err : train_heads_forget(call->node->train, name, reterr);
    if (!err) {
        err = store_import_remove(&call->node->store, name, reterr);
    }
    if (!err) {
        *ret = json_pack("{s:s, s:b}", "dataset", name, "removed", 1);
    }
    return err;
}

static void show_rewriting(void *user, uint64_t done, uint64_t total, const char *dataset)
{
    (void)dataset;
    control_progress(user, "writing under the new key, values", done, total);
}

/* Rows first, then the key. The rotation is begun before all of it, so that a crash in between is finished by the next start
 * and the old key does not stay. */
static enum err forget(struct import *import, struct err_info *reterr)
{
    struct control_call *call = import->call;
    const char *name = import->manifest.dataset;
    struct store_import_options options = {
        .forget = true,
        .exclude = buf_span(&import->exclude),
        .now = query_now(),
        .manifest_yaml = buf_span(&import->yaml),
        .cancelled = control_cancelled,
        .progress = show_progress,
        .user = call,
    };
    struct store_rotate_options rotate = {
        .cancelled = control_cancelled, .progress = show_rewriting, .user = call};
    enum err err =
        control_audit(call, "dataset.forget", reterr, "dataset", name, (const char *)NULL);
    err = err ? err : store_rotate_begin(&call->node->store, name, reterr);
    err = err ? err
              : store_import_run(&call->node->store, &import->manifest, &options, import->report,
                                 reterr);
    return err ? err : store_rotate_run(&call->node->store, name, &rotate, reterr);
}

enum err control_dataset_forget(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct import import = {.call = call, .yaml = {.max = CONFIG_YAML_BYTES_MAX}};
    const char *name = control_text(call, "NAME");
    struct store_dataset row;
    import.report = arena_alloc(&call->arena, 1, sizeof *import.report);
    enum err err = import.report
                       ? store_catalogue_get(&call->node->store, name, &call->arena, &row, reterr)
                       : E_NO_MEMORY;
    err = err ? err : buf_put(&import.yaml, row.manifest_yaml);
    err = err ? err
              : config_yaml_manifest_bytes(buf_span(&import.yaml), name, &import.manifest, reterr);
    err = err ? err
              : control_read(call, control_text(call, "--units"), IMPORT_TABLE_BYTES_MAX,
                             &import.exclude, reterr);
    err = err ? err : forget(&import, reterr);
    if (!err) {
        *ret = json_pack("{s:s, s:I, s:I}", "dataset", name, "rows",
                         (json_int_t)import.report->excluded, "total",
                         (json_int_t)import.report->rows);
    }
    import_free(&import);
    return err;
}

enum err control_licence_withdraw(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *name = control_text(call, "NAME");
    uint8_t id[16];
    enum err err = control_audit(call, "licence.withdraw", reterr, "dataset", name, "reason",
                                 control_text(call, "--reason"), (const char *)NULL);
    if (!err) {
        err = withdraw(call, name, PROTO_RECORD_LICENCE, id, reterr);
        if (err == E_NOT_FOUND) {
            err = proto_err_set(reterr, err, "this node publishes no licence for %s", name);
        }
    }
    err = err ? err : train_heads_forget(call->node->train, name, reterr);
    if (!err) {
        *ret = json_pack("{s:s, s:o, s:s}", "dataset", name, "record", control_json_hex(id, 16),
                         "state", "withdrawn");
    }
    return err;
}
