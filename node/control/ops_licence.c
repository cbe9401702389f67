/* licence show, licence check: the terms under which a dataset or model is offered, and what they say of a request. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/models.h"
#include "node/control/views.h"
#include "node/control/vocabulary.h"

#include "node/query/admission.h"
#include "node/query/price.h"
#include "node/query/site.h"
#include "proto/policy.h"
#include "store/records.h"

#include <math.h>

const char *control_licence_state(struct control_call *call, const uint8_t issuer[16],
                                  const char *dataset, int64_t now, struct proto_record *ret_record,
                                  struct proto_licence *ret_licence, bool *ret_readable)
{
    uint8_t key[16];
    struct span bytes;
    bool forked = false;
    *ret_readable = false;
    proto_record_key(&crypto_proto_hash, dataset, key);
    if (store_records_get(&call->node->store, issuer, key, PROTO_RECORD_LICENCE, &call->arena,
                          &bytes, &forked) ||
        proto_record_decode(bytes, &crypto_proto_hash, ret_record, NULL)) {
        return "none";
    }
    *ret_readable =
        proto_licence_decode(ret_record->envelope.body, &call->arena, ret_licence, NULL) == E_OK;
    if (forked) {
        return "forked";
    }
    if (ret_record->envelope.flags & PROTO_RECORD_FINAL) {
        return "withdrawn";
    }
    return ret_record->envelope.expires && (int64_t)ret_record->envelope.expires < now ? "expired"
                                                                                       : "valid";
}

bool control_dataset(struct control_call *call, const uint8_t issuer[16], const char *name,
                     struct proto_dataset *ret)
{
    uint8_t key[16];
    struct span bytes;
    struct proto_record record;
    proto_record_key(&crypto_proto_hash, name, key);
    return !store_records_get(&call->node->store, issuer, key, PROTO_RECORD_DATASET, &call->arena,
                              &bytes, NULL) &&
           !proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) &&
           !proto_dataset_decode(record.envelope.body, &call->arena, ret, NULL);
}

json_t *control_actions_view(uint64_t actions)
{
    json_t *array = json_array();
    for (int i = 0; i < PROTO_ACTION_TOTAL; i++) {
        if (actions & PROTO_ACTION_BIT(i)) {
            json_array_append_new(array, json_string(proto_action_name((enum proto_action)i)));
        }
    }
    return array;
}

json_t *control_duo_view(uint64_t code)
{
    char text[PROTO_DUO_SIZE];
    return json_string(proto_duo_format(code, text));
}

static json_t *visas_view(const struct proto_grant *grant)
{
    json_t *visas = json_array();
    const struct proto_visa_wanted *items = grant->visas.items;
    for (size_t i = 0; i < grant->visas.count; i++) {
        json_array_append_new(visas, json_pack("{s:o, s:o, s:o, s:o}", "type",
                                               control_json_span(items[i].type), "value",
                                               control_json_span(items[i].value), "by",
                                               control_json_texts(&items[i].by), "issuers",
                                               control_json_texts(&items[i].issuers)));
    }
    return visas;
}

static json_t *grant_view(const struct proto_grant *grant)
{
    json_t *modifiers = json_array();
    const struct proto_modifier *items = grant->modifiers.items;
    for (size_t i = 0; i < grant->modifiers.count; i++) {
        json_array_append_new(modifiers,
                              json_pack("{s:o, s:s, s:o}", "code", control_duo_view(items[i].code),
                                        "name", proto_duo_name(items[i].code), "params",
                                        control_json_texts(&items[i].params)));
    }
    json_t *view =
        json_pack("{s:o, s:s, s:o, s:o, s:o, s:I, s:I, s:s, s:s}", "permission",
                  control_duo_view(grant->permission), "name", proto_duo_name(grant->permission),
                  "diseases", control_json_texts(&grant->diseases), "modifiers", modifiers,
                  "actions", control_actions_view(grant->actions), "min_cohort",
                  (json_int_t)grant->min_cohort, "min_sites", (json_int_t)grant->min_sites, "mode",
                  grant->mode == PROTO_MODE_SECURE ? "secure" : "any", "visible",
                  grant->visible_site ? "site" : "nobody");
    json_object_set_new(view, "columns",
                        grant->has_columns ? control_json_texts(&grant->columns) : json_null());
    json_object_set_new(
        view, "privacy",
        json_pack("{s:f, s:f, s:f, s:f, s:s, s:s, s:f}", "epsilon_total",
                  (double)grant->privacy.epsilon_total_u / 1e6, "epsilon_per_query",
                  (double)grant->privacy.epsilon_per_query_u / 1e6, "epsilon_per_job",
                  (double)grant->privacy.epsilon_per_job_u / 1e6, "delta",
                  (double)grant->privacy.delta_e12 / 1e12, "mechanism",
                  grant->privacy.mechanism == PROTO_MECHANISM_NONE ? "none" : "gaussian", "unit",
                  grant->privacy.unit == PROTO_UNIT_ROW ? "row" : "patient", "min_noise",
                  (double)grant->privacy.min_noise_u / 1e6));
    json_object_set_new(view, "visas", visas_view(grant));
    json_object_set_new(view, "finetune",
                        grant->has_finetune
                            ? json_pack("{s:I, s:s, s:f, s:f}", "max_rounds",
                                        (json_int_t)grant->finetune.max_rounds, "release",
                                        proto_release_name(grant->finetune.release), "clip",
                                        (double)grant->finetune.clip_u / 1e6, "noise_multiplier",
                                        (double)grant->finetune.noise_mult_u / 1e6)
                            : json_null());
    return view;
}

/* null where a list restricts nothing; [] permits nobody. */
static json_t *recipients_view(const struct proto_recipients *to)
{
    if (!to->has_institutions && !to->has_users && !to->has_projects) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:o}", "institutions",
                     to->has_institutions ? control_json_texts(&to->institutions) : json_null(),
                     "users", to->has_users ? control_json_texts(&to->users) : json_null(),
                     "projects",
                     to->has_projects ? control_json_texts(&to->projects) : json_null());
}

json_t *control_licence_view(const struct proto_licence *licence)
{
    json_t *grants = json_array();
    json_t *obligations = json_array();
    const struct proto_grant *grant = licence->grants.items;
    const struct proto_obligation *obligation = licence->obligations.items;
    for (size_t i = 0; i < licence->grants.count; i++) {
        json_array_append_new(grants, grant_view(&grant[i]));
    }
    for (size_t i = 0; i < licence->obligations.count; i++) {
        json_array_append_new(obligations, json_pack("{s:o, s:o, s:o}", "id",
                                                     control_json_span(obligation[i].id), "when",
                                                     control_json_span(obligation[i].when), "text",
                                                     control_json_span(obligation[i].text)));
    }
    json_t *parents = json_array();
    const struct proto_parent *parent = licence->derived_from.items;
    for (size_t i = 0; i < licence->derived_from.count; i++) {
        json_array_append_new(parents, control_json_hex(parent[i].record_id.ptr, 16));
    }
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:b, s:o}", "spdx",
        control_json_span(licence->spdx), "version", control_json_span(licence->version),
        "not_before", control_json_time((int64_t)licence->not_before), "expires",
        control_json_time((int64_t)licence->expires), "geography",
        licence->has_geography ? control_json_texts(&licence->geography) : json_null(),
        "recipients", recipients_view(&licence->recipients), "obligations", obligations, "hold",
        licence->hold, "grants", grants, "deidentified",
        licence->has_deidentified ? control_json_texts(&licence->deidentified) : json_null(),
        "contact", licence->contact.len ? control_json_span(licence->contact) : json_null(),
        "survives_revocation", licence->survives_revocation, "derived_from", parents);
}

/* All bytes of a record's body, longer than what control_json_hex shows. */
static json_t *body_view(struct control_call *call, struct span body)
{
    char *text = arena_alloc(&call->arena, 2 * body.len + 1, 1);
    if (text) {
        span_to_hex(body, text);
    }
    return text ? json_string(text) : json_null();
}

/* One document in another vocabulary: of the node that --node names, else of the first that publishes it, ours before
 * others. */
static enum err show_as(struct control_call *call, const char *as, const char *name,
                        const struct peer_member *member, const struct proto_record *record,
                        const struct proto_licence *licence, json_t **ret, struct err_info *reterr)
{
    static const struct {
        const char *name;
        json_t *(*view)(const struct control_vocabulary_source *source);
    } vocabularies[] = {{"odrl", control_vocabulary_odrl},
                        {"croissant", control_vocabulary_croissant},
                        {"dcat", control_vocabulary_dcat}};
    struct proto_dataset dataset;
    struct control_vocabulary_source source = {
        .licence = licence,
        .record = record,
        .dataset = control_dataset(call, member->id, name, &dataset) ? &dataset : NULL,
        .member = member,
        .ontology = call->node->query.ontology};
    for (size_t i = 0; i < sizeof vocabularies / sizeof *vocabularies; i++) {
        if (strcmp(as, vocabularies[i].name) == 0) {
            *ret = vocabularies[i].view(&source);
            return *ret ? E_OK : E_NO_MEMORY;
        }
    }
    return proto_err_set(reterr, E_USAGE, "no vocabulary is called %s", as);
}

static json_t *licence_entry(struct control_call *call, const struct peer_member *member,
                             const struct proto_record *record, const struct proto_licence *licence,
                             bool raw, const char *state)
{
    json_t *view = licence && !raw ? control_licence_view(licence) : json_object();
    if (raw) {
        json_object_set_new(view, "body", body_view(call, record->envelope.body));
    }
    json_object_set_new(view, "node", json_string(member->name));
    json_object_set_new(view, "id", control_json_hex(record->id, 16));
    json_object_set_new(view, "seq", json_integer((json_int_t)record->envelope.seq));
    json_object_set_new(view, "state", json_string(state));
    return view;
}

enum err control_licence_show(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *name = control_text(call, "NAME");
    const char *as = control_text(call, "--as");
    const char *only = control_text(call, "--node");
    size_t count;
    struct peer_member *members = control_members(call, &count);
    bool raw = as && strcmp(as, "record") == 0;
    bool foreign = as && !raw && strcmp(as, "json") != 0;
    json_t *licences = json_array();
    for (size_t i = 0; members && i < count; i++) {
        struct proto_record record;
        struct proto_licence licence;
        bool readable;
        if (only && strcmp(only, members[i].name) != 0) {
            continue;
        }
        const char *state = control_licence_state(call, members[i].id, name, query_now(), &record,
                                                  &licence, &readable);
        if (strcmp(state, "none") == 0) {
            continue;
        }
        if (foreign && readable) {
            json_decref(licences);
            return show_as(call, as, name, &members[i], &record, &licence, ret, reterr);
        }
        json_array_append_new(licences, licence_entry(call, &members[i], &record,
                                                      readable ? &licence : NULL, raw, state));
    }
    if (foreign || json_array_size(licences) == 0) {
        json_decref(licences);
        return proto_err_set(reterr, E_NOT_FOUND, "no licence is known for a dataset %s", name);
    }
    *ret = json_pack("{s:s, s:o}", "dataset", name, raw ? "records" : "licences", licences);
    return E_OK;
}

static json_t *clauses_view(const struct proto_licence *licence,
                            const struct proto_decision *decision)
{
    json_t *array = json_array();
    for (size_t i = 0; i < decision->clause_count; i++) {
        const struct proto_clause *clause = &decision->clauses[i];
        char name[PROTO_CLAUSE_NAME_SIZE], expected[PROTO_CLAUSE_EXPECTED_SIZE];
        json_array_append_new(array,
                              json_pack("{s:s, s:s, s:s, s:s, s:i}", "clause",
                                        proto_clause_name(licence, clause, name), "expected",
                                        proto_clause_expected(licence, clause, expected), "result",
                                        proto_clause_result_name(clause->result), "reason",
                                        proto_reason_name((enum proto_reason)clause->reason),
                                        "grant", (int)clause->grant));
    }
    return array;
}

static enum err parse_actions(struct control_call *call, uint64_t *ret, struct err_info *reterr)
{
    const char *names[PROTO_ACTION_TOTAL];
    size_t count;
    enum err err = control_list(call, "--action", names, PROTO_ACTION_TOTAL, &count, reterr);
    if (err) {
        return err;
    }
    *ret = 0;
    for (size_t i = 0; i < count; i++) {
        enum proto_action action;
        if (!proto_action_by_name(names[i], &action)) {
            return proto_err_set(reterr, E_USAGE,
                                 "there is no action %s: count, sum, mean, variance, quantile, "
                                 "histogram, regression, survival, finetune, evaluate",
                                 names[i]);
        }
        *ret |= PROTO_ACTION_BIT(action);
    }
    return E_OK;
}

static json_t *decision_view(const char *node, const struct proto_licence *licence,
                             const struct proto_decision *decision)
{
    static const char *const verdicts[] = {"permit", "hold", "deny"};
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:o}", "node", node, "verdict",
                     verdicts[decision->verdict % 3], "reason", proto_reason_name(decision->reason),
                     "text", proto_reason_text(decision->reason), "grant", decision->grant,
                     "clauses", clauses_view(licence, decision));
}

/* The licence verdict of each publisher on a request of this node: the same function on the same values as there. */
static json_t *check_site(struct control_call *call, const struct query_publisher *publisher,
                          struct query_foreseen what)
{
    struct proto_decision *decision = arena_alloc(&call->arena, 1, sizeof *decision);
    struct proto_record record;
    struct proto_licence licence;
    bool readable;
    char *name = arena_strdup(&call->arena, publisher->dataset.name);
    if (!decision || !name) {
        return json_null();
    }
    const char *state = control_licence_state(call, publisher->member.id, name, what.now, &record,
                                              &licence, &readable);
    what.site = &publisher->member;
    what.dataset = name;
    what.record = strcmp(state, "none") == 0 ? NULL : &record;
    what.licence = readable ? &licence : NULL;
    what.forked = strcmp(state, "forked") == 0;
    query_admission_foresee(&call->node->query, &what, &call->arena, decision);
    return decision_view(publisher->member.name, readable ? &licence : NULL, decision);
}

/* The same of a model: what each use of it comes to here. */
static json_t *check_model(struct control_call *call, const struct peer_member *issuer,
                           const char *name, const struct query_foreseen *what)
{
    struct train_model_verdict *verdict = arena_alloc(&call->arena, 1, sizeof *verdict);
    struct proto_record record;
    struct proto_model model;
    struct span bytes;
    uint8_t key[16];
    proto_record_key(&crypto_proto_hash, name, key);
    if (!verdict ||
        store_records_get(&call->node->store, issuer->id, key, PROTO_RECORD_MODEL, &call->arena,
                          &bytes, NULL) ||
        proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) ||
        proto_model_decode(record.envelope.body, &call->arena, &model, NULL)) {
        return json_null();
    }
    control_model_decide(call, &record, &model, what->purpose, what->use, verdict);
    return decision_view(issuer->name, verdict->licence, &verdict->decision);
}

static enum err check_use(struct control_call *call, struct proto_use *ret, struct err_info *reterr)
{
    *ret = (struct proto_use){
        .epsilon = control_number(call, "--epsilon", 0),
        .delta = control_number(call, "--delta", 0),
        .rounds = (uint64_t)control_number(call, "--rounds", 0),
        .nonprivate = control_flag(call, "--without-privacy"),
    };
    /* Of a question, as a site computes it; of training each site calibrates its own. */
    ret->noise_multiplier =
        ret->rounds
            ? 0
            : query_price_noise((uint64_t)fmin(ceil(ret->epsilon * 1e6), 1e15),
                                ret->delta > 0 ? (uint64_t)(fmin(ret->delta, 1) * 1e12) : 1000000);
    enum err err =
        control_text_list(call, "--columns", PROTO_SCHEMA_COLUMNS_MAX, &ret->columns, reterr);
    return err ? err : parse_actions(call, &ret->actions, reterr);
}

/* The members that published a model of that name. */
enum err control_model_publishers(struct control_call *call, const char *name,
                                  struct query_publisher **ret, size_t *ret_count)
{
    size_t count;
    struct peer_member *members = control_members(call, &count);
    struct query_publisher *found = arena_alloc(&call->arena, count + 1, sizeof *found);
    uint8_t key[16];
    struct span bytes;
    *ret_count = 0;
    *ret = found;
    proto_record_key(&crypto_proto_hash, name, key);
    for (size_t i = 0; found && i < count; i++) {
        if (store_records_get(&call->node->store, members[i].id, key, PROTO_RECORD_MODEL,
                              &call->arena, &bytes, NULL) == E_OK) {
            found[*ret_count].member = members[i];
            found[*ret_count].dataset.name = span_str(name);
            (*ret_count)++;
        }
    }
    return !found ? E_NO_MEMORY : *ret_count ? E_OK : E_NOT_FOUND;
}

enum err control_licence_check(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *name = control_text(call, "NAME");
    struct query_publisher *publishers;
    size_t count;
    bool of_model = false;
    struct proto_purpose purpose;
    struct proto_use use;
    enum err err = control_purpose(call, &purpose, reterr);
    err = err ? err : check_use(call, &use, reterr);
    if (!err) {
        err = query_publishers(&call->node->query, name, &call->arena, &publishers, &count, reterr);
    }
    if (err == E_NOT_FOUND) {
        enum err other = control_model_publishers(call, name, &publishers, &count);
        err = other == E_NOT_FOUND ? err : other;
        of_model = !err;
    }
    if (err) {
        return err;
    }
    struct proto_party *parties = arena_alloc(&call->arena, count, sizeof *parties);
    if (!parties) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        parties[i] = query_party(&publishers[i].member);
    }
    const struct query_foreseen what = {.purpose = &purpose,
                                        .use = &use,
                                        .sites = parties,
                                        .site_count = count,
                                        .now = query_now()};
    json_t *sites = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(sites, of_model
                                         ? check_model(call, &publishers[i].member, name, &what)
                                         : check_site(call, &publishers[i], what));
    }
    *ret = json_pack("{s:s, s:o}", "dataset", name, "sites", sites);
    return E_OK;
}
