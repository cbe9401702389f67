/* catalog, model list: what the federation offers, found by words, columns, terms, size and age, and what we could do
 * with each. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/models.h"
#include "node/control/views.h"

#include "node/query/admission.h"
#include "node/query/site.h"
#include "proto/policy.h"
#include "proto/spdx.h"
#include "store/records.h"

#include <strings.h>

struct catalog {
    struct control_call *call;
    json_t *datasets;
    json_t *models;
    const char *term;
    const char *node;
    struct proto_list columns; /* all must be there */
    const char *licence;
    uint64_t permission;
    struct span disease;
    double size;
    int64_t since;
    bool mine;
    struct proto_purpose purpose; /* of --mine */
};

/* One dataset and what is known of its terms. */
struct offer {
    struct proto_record record; /* of the dataset */
    struct proto_dataset dataset;
    struct peer_member member;
    const char *name;
    const char *state; /* of the licence */
    struct proto_record licence_record;
    struct proto_licence licence;
    bool readable;
};

/* --- What is looked for --------------------------------------------------------------------------------------------- */

static bool contains(struct control_call *call, struct span text, const char *word)
{
    size_t n = strlen(word);
    const char *copy = text.len ? arena_strdup(&call->arena, text) : NULL;
    for (const char *at = copy; at && *at; at++) {
        if (strncasecmp(at, word, n) == 0) {
            return true;
        }
    }
    return false;
}

/* Name, title, columns, data licence, diseases and their labels: every word must be somewhere. */
static bool has_word(const struct catalog *catalog, const struct offer *offer, const char *word)
{
    struct control_call *call = catalog->call;
    const struct proto_dataset_column *columns = offer->dataset.columns.items;
    const struct proto_ontology *ontology = call->node->query.ontology;
    bool found = contains(call, offer->dataset.name, word) ||
                 contains(call, offer->dataset.title, word) ||
                 (offer->readable && contains(call, offer->licence.spdx, word));
    for (size_t i = 0; i < offer->dataset.columns.count && !found; i++) {
        found = contains(call, columns[i].name, word) || contains(call, columns[i].code, word);
    }
    const struct proto_grant *grants = offer->licence.grants.items;
    for (size_t i = 0; offer->readable && i < offer->licence.grants.count && !found; i++) {
        const struct proto_text *diseases = grants[i].diseases.items;
        for (size_t j = 0; j < grants[i].diseases.count && !found; j++) {
            found = contains(call, diseases[j].text, word) ||
                    contains(call, proto_ontology_label(ontology, diseases[j].text), word);
        }
    }
    return found;
}

static bool has_words(const struct catalog *catalog, const struct offer *offer)
{
    char word[128];
    const char *at = catalog->term ? catalog->term : "";
    while (*(at += strspn(at, " "))) {
        size_t len = strcspn(at, " ");
        snprintf(word, sizeof word, "%.*s", (int)len, at);
        if (!has_word(catalog, offer, word)) {
            return false;
        }
        at += len;
    }
    return true;
}

static bool has_columns(const struct catalog *catalog, const struct proto_dataset *dataset)
{
    const struct proto_text *wanted = catalog->columns.items;
    const struct proto_dataset_column *columns = dataset->columns.items;
    for (size_t i = 0; i < catalog->columns.count; i++) {
        bool found = false;
        for (size_t j = 0; j < dataset->columns.count && !found; j++) {
            found = span_equal(columns[j].name, wanted[i].text);
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

static bool has_licence(const struct catalog *catalog, const struct offer *offer)
{
    struct proto_spdx_expression e;
    if (!catalog->licence) {
        return true;
    }
    if (!offer->readable || proto_spdx_parse(offer->licence.spdx, &e, NULL)) {
        return false;
    }
    for (size_t i = 0; i < e.count; i++) {
        if (span_is(e.nodes[i].id, catalog->licence)) {
            return true;
        }
    }
    return span_is(offer->licence.spdx, catalog->licence);
}

/* The disease may be studied with it, as far as the purpose goes. */
static bool serves_disease(const struct catalog *catalog, const struct proto_grant *grant)
{
    const struct proto_text *given = grant->diseases.items;
    bool serves = grant->permission == PROTO_DUO_NRES || grant->permission == PROTO_DUO_GRU ||
                  grant->permission == PROTO_DUO_HMB;
    for (size_t i = 0; i < grant->diseases.count && !serves; i++) {
        serves = span_equal(given[i].text, catalog->disease) ||
                 proto_ontology_is_a(catalog->call->node->query.ontology, catalog->disease,
                                     given[i].text);
    }
    return serves;
}

static bool has_terms(const struct catalog *catalog, const struct offer *offer)
{
    const struct proto_grant *grants = offer->licence.grants.items;
    bool permission = catalog->permission == 0, disease = catalog->disease.len == 0;
    for (size_t i = 0; offer->readable && i < offer->licence.grants.count; i++) {
        permission = permission || grants[i].permission == catalog->permission;
        disease = disease || serves_disease(catalog, &grants[i]);
    }
    return permission && disease && has_licence(catalog, offer);
}

static int64_t published_at(const struct proto_record *record)
{
    return (int64_t)(record->envelope.hlc >> 16) / 1000;
}

static bool matches(const struct catalog *catalog, const struct offer *offer)
{
    return (!catalog->node || strcmp(catalog->node, offer->member.name) == 0) &&
           (double)offer->dataset.size >= catalog->size &&
           published_at(&offer->record) >= catalog->since &&
           has_columns(catalog, &offer->dataset) && has_terms(catalog, offer) &&
           has_words(catalog, offer);
}

/* --- What we could do ----------------------------------------------------------------------------------------------- */

/* One action's verdict on a request of ours, as its site would decide. */
static const struct proto_decision *decide(const struct catalog *catalog, const struct offer *offer,
                                           const struct proto_purpose *purpose, int action,
                                           struct proto_decision *decision)
{
    struct proto_party site = query_party(&offer->member);
    struct proto_use use = {.actions = PROTO_ACTION_BIT(action),
                            .epsilon = action == PROTO_ACTION_FINETUNE ? 1e-6 : 0,
                            .rounds = action == PROTO_ACTION_FINETUNE ? 1 : 0};
    if (action == PROTO_ACTION_EVALUATE) { /* of a model, by itself: the least that can be asked */
        use.epsilon = 1e-6;
    }
    const struct query_foreseen what = {
        .site = &offer->member,
        .dataset = offer->name,
        .record = strcmp(offer->state, "none") == 0 ? NULL : &offer->licence_record,
        .licence = offer->readable ? &offer->licence : NULL,
        .forked = strcmp(offer->state, "forked") == 0,
        .purpose = purpose,
        .use = &use,
        .sites = &site,
        .site_count = 1,
        .now = query_now(),
    };
    query_admission_foresee(&catalog->call->node->query, &what, &catalog->call->arena, decision);
    return decision;
}

/* {"purpose", "permit": [actions], "hold": [actions], "deny": [{"action", "reason", "text"}]} */
static json_t *purpose_view(const struct catalog *catalog, const struct offer *offer,
                            const struct proto_purpose *purpose, struct proto_decision *decision)
{
    json_t *permit = json_array(), *hold = json_array(), *deny = json_array();
    for (int action = 0; action < PROTO_ACTION_TOTAL; action++) {
        const char *name = proto_action_name((enum proto_action)action);
        const struct proto_decision *d = decide(catalog, offer, purpose, action, decision);
        if (d->verdict == PROTO_DENY) {
            json_array_append_new(deny, json_pack("{s:s, s:s, s:s}", "action", name, "reason",
                                                  proto_reason_name(d->reason), "text",
                                                  proto_reason_text(d->reason)));
        } else {
            json_array_append_new(d->verdict == PROTO_HOLD ? hold : permit, json_string(name));
        }
    }
    return json_pack("{s:o, s:O, s:o, s:o, s:o}", "purpose",
                     purpose->permission ? control_duo_view(purpose->permission) : json_null(),
                     "diseases", control_json_texts(&purpose->diseases), "permit", permit, "hold",
                     hold, "deny", deny);
}

/* The stated purpose; where none is, each that a person could state, diseases being those of the licence. */
static json_t *yours_view(const struct catalog *catalog, const struct offer *offer)
{
    static const uint64_t purposes[] = {PROTO_DUO_GRU, PROTO_DUO_HMB, PROTO_DUO_DS, PROTO_DUO_POA,
                                        PROTO_DUO_CC};
    struct proto_decision *decision = arena_alloc(&catalog->call->arena, 1, sizeof *decision);
    const struct proto_grant *grants = offer->licence.grants.items;
    json_t *array = json_array();
    if (!decision || catalog->purpose.permission) {
        if (decision) {
            json_array_append_new(array, purpose_view(catalog, offer, &catalog->purpose, decision));
        }
        return array;
    }
    for (size_t i = 0; i < sizeof purposes / sizeof *purposes; i++) {
        struct proto_purpose purpose = catalog->purpose;
        purpose.permission = purposes[i];
        for (size_t g = 0; purposes[i] == PROTO_DUO_DS && offer->readable &&
                           !purpose.diseases.count && g < offer->licence.grants.count;
             g++) {
            purpose.diseases = grants[g].diseases;
        }
        json_array_append_new(array, purpose_view(catalog, offer, &purpose, decision));
    }
    return array;
}

/* --- Views ---------------------------------------------------------------------------------------------------------- */

/* "1k-10k": of an order of magnitude that a person declared. */
static json_t *size_class(uint64_t size)
{
    static const char *const classes[] = {"1-10",    "10-100", "100-1k",   "1k-10k", "10k-100k",
                                          "100k-1M", "1M-10M", "10M-100M", "100M-1G"};
    size_t class = 0;
    for (; size >= 10 && class + 1 < sizeof classes / sizeof *classes; class ++) {
        size /= 10;
    }
    return json_string(classes[class]);
}

static json_t *budget_view(const struct proto_licence *licence)
{
    const struct proto_grant *grants = licence->grants.items;
    return json_pack("{s:f, s:f, s:f, s:f}", "epsilon_total",
                     (double)grants[0].privacy.epsilon_total_u / 1e6, "epsilon_per_query",
                     (double)grants[0].privacy.epsilon_per_query_u / 1e6, "epsilon_per_job",
                     (double)grants[0].privacy.epsilon_per_job_u / 1e6, "delta",
                     (double)grants[0].privacy.delta_e12 / 1e12);
}

static json_t *terms_view(const struct offer *offer)
{
    const struct proto_licence *licence = &offer->licence;
    const struct proto_grant *grants = licence->grants.items;
    json_t *permissions = json_array(), *diseases = json_array();
    uint64_t actions = 0;
    if (!offer->readable) {
        json_decref(permissions);
        json_decref(diseases);
        return json_pack("{s:n, s:n, s:n, s:s, s:[], s:[], s:[]}", "id", "spdx", "expires", "state",
                         offer->state, "permissions", "diseases", "actions");
    }
    for (size_t i = 0; i < licence->grants.count; i++) {
        const struct proto_text *items = grants[i].diseases.items;
        json_array_append_new(permissions, control_duo_view(grants[i].permission));
        for (size_t j = 0; j < grants[i].diseases.count; j++) {
            json_array_append_new(diseases, control_json_span(items[j].text));
        }
        actions |= grants[i].actions;
    }
    return json_pack(
        "{s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "id", control_json_hex(offer->licence_record.id, 16),
        "spdx", control_json_span(licence->spdx), "expires",
        control_json_time((int64_t)licence->expires), "state", offer->state, "permissions",
        permissions, "diseases", diseases, "actions", control_actions_view(actions));
}

static json_t *dataset_view(const struct catalog *catalog, const struct offer *offer)
{
    const struct proto_dataset *dataset = &offer->dataset;
    const struct proto_dataset_column *columns = dataset->columns.items;
    json_t *names = json_array();
    for (size_t i = 0; i < dataset->columns.count; i++) {
        json_array_append_new(names, control_json_span(columns[i].name));
    }
    json_t *view = json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:I, s:o, s:I, s:o, s:o, s:o, s:o, s:o}", "dataset", offer->name,
        "node", offer->member.name, "org", offer->member.org, "version",
        control_json_span(dataset->version), "title", control_json_span(dataset->title), "size",
        (json_int_t)dataset->size, "size_class", size_class(dataset->size), "columns",
        (json_int_t)dataset->columns.count, "column_names", names, "schema_hash",
        control_json_hex(dataset->schema_hash.ptr, 32), "published",
        control_json_time(published_at(&offer->record)), "licence", terms_view(offer), "budget",
        offer->readable && offer->licence.grants.count ? budget_view(&offer->licence)
                                                       : json_null());
    if (catalog->mine) {
        json_object_set_new(view, "you", yours_view(catalog, offer));
    }
    return view;
}

/* --- Gathering ------------------------------------------------------------------------------------------------------ */

static struct span keep(struct control_call *call, struct span bytes)
{
    uint8_t *copy = arena_alloc(&call->arena, bytes.len, 1);
    if (!copy) {
        return SPAN_NONE;
    }
    memcpy(copy, bytes.ptr, bytes.len);
    return span_of(copy, bytes.len);
}

static enum err add_dataset(void *user, struct span bytes, bool forked)
{
    struct catalog *catalog = user;
    struct control_call *call = catalog->call;
    struct offer *offer = arena_alloc(&call->arena, 1, sizeof *offer);
    struct span copy = keep(call, bytes);
    (void)forked;
    if (!offer || !copy.ptr) {
        return E_NO_MEMORY;
    }
    if (proto_record_decode(copy, &crypto_proto_hash, &offer->record, NULL) ||
        offer->record.envelope.flags & PROTO_RECORD_FINAL ||
        proto_dataset_decode(offer->record.envelope.body, &call->arena, &offer->dataset, NULL) ||
        !peer_member_by_id(call->node->peer, offer->record.envelope.issuer.ptr, &offer->member)) {
        return E_OK;
    }
    offer->name = arena_strdup(&call->arena, offer->dataset.name);
    if (!offer->name) {
        return E_NO_MEMORY;
    }
    offer->state = control_licence_state(call, offer->member.id, offer->name, query_now(),
                                         &offer->licence_record, &offer->licence, &offer->readable);
    if (matches(catalog, offer)) {
        json_array_append_new(catalog->datasets, dataset_view(catalog, offer));
    }
    return E_OK;
}

/* What only datasets have is not asked of models. */
static bool wants_models(const struct catalog *catalog)
{
    return !catalog->columns.count && catalog->size <= 0;
}

static bool model_matches(const struct catalog *catalog, const struct proto_record *record,
                          const struct proto_model *model, const struct peer_member *member)
{
    char word[128];
    const char *at = catalog->term ? catalog->term : "";
    bool found = (!catalog->node || strcmp(catalog->node, member->name) == 0) &&
                 published_at(record) >= catalog->since && wants_models(catalog) &&
                 (!catalog->licence || contains(catalog->call, model->spdx, catalog->licence));
    while (found && *(at += strspn(at, " "))) {
        size_t len = strcspn(at, " ");
        snprintf(word, sizeof word, "%.*s", (int)len, at);
        found = contains(catalog->call, model->name, word) ||
                contains(catalog->call, model->job, word) ||
                contains(catalog->call, model->dataset, word) ||
                contains(catalog->call, model->spdx, word);
        at += len;
    }
    return found;
}

static enum err add_model(void *user, struct span bytes, bool forked)
{
    struct catalog *catalog = user;
    struct proto_record record;
    struct proto_model model;
    struct peer_member member;
    (void)forked;
    struct span copy = keep(catalog->call, bytes);
    if (proto_record_decode(copy, &crypto_proto_hash, &record, NULL) ||
        record.envelope.flags & PROTO_RECORD_FINAL ||
        proto_model_decode(record.envelope.body, &catalog->call->arena, &model, NULL) ||
        !peer_member_by_id(catalog->call->node->peer, record.envelope.issuer.ptr, &member) ||
        !model_matches(catalog, &record, &model, &member)) {
        return E_OK;
    }
    json_t *view = json_pack(
        "{s:o, s:o, s:o, s:o, s:s, s:f, s:f, s:o, s:o, s:s}", "model",
        control_json_span(model.name), "job", control_json_span(model.job), "task",
        control_json_span(model.task), "dataset", control_json_span(model.dataset), "node",
        member.name, "epsilon", (double)model.epsilon_u / 1e6, "delta",
        (double)model.delta_e12 / 1e12, "created", control_json_time((int64_t)model.created),
        "spdx", control_json_span(model.spdx), "release", proto_release_name(model.release));
    control_model_use(catalog->call, &record, &model, view);
    json_array_append_new(catalog->models, view);
    return E_OK;
}

static enum err read_filters(struct control_call *call, struct catalog *to, struct err_info *reterr)
{
    const char *permission = control_text(call, "--permission");
    enum err err = permission ? proto_duo_parse(permission, &to->permission, reterr) : E_OK;
    if (!err && permission && !proto_duo_is_permission(to->permission)) {
        err = proto_err_set(reterr, E_USAGE, "%s is no permission of a licence", permission);
    }
    if (err) {
        return E_USAGE;
    }
    to->term = control_text(call, "TERM");
    to->node = control_text(call, "--node");
    to->licence = control_text(call, "--licence");
    to->size = control_number(call, "--size", 0);
    to->since = control_since(call);
    to->mine = control_flag(call, "--mine");
    err = control_text_list(call, "--column", PROTO_SCHEMA_COLUMNS_MAX, &to->columns, reterr);
    err = err ? err : control_purpose(call, &to->purpose, reterr);
    if (!err && to->purpose.diseases.count && !to->mine) {
        to->disease = ((const struct proto_text *)to->purpose.diseases.items)[0].text;
    }
    return err;
}

static enum err gather(struct control_call *call, struct catalog *catalog)
{
    catalog->call = call;
    catalog->datasets = json_array();
    catalog->models = json_array();
    enum err err =
        store_records_each(&call->node->store, PROTO_RECORD_DATASET, add_dataset, catalog);
    return err ? err
               : store_records_each(&call->node->store, PROTO_RECORD_MODEL, add_model, catalog);
}

enum err control_catalog(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct catalog *catalog = arena_alloc(&call->arena, 1, sizeof *catalog);
    enum err err = catalog ? read_filters(call, catalog, reterr) : E_NO_MEMORY;
    err = err ? err : gather(call, catalog);
    if (!err || (catalog && catalog->datasets)) {
        *ret = json_pack("{s:o, s:o}", "datasets", catalog->datasets, "models", catalog->models);
    }
    return err;
}

enum err control_model_list(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    (void)reterr;
    struct catalog *catalog = arena_alloc(&call->arena, 1, sizeof *catalog);
    enum err err = catalog ? gather(call, catalog) : E_NO_MEMORY;
    if (catalog) {
        *ret = catalog->models;
        json_decref(catalog->datasets);
    }
    return err;
}
