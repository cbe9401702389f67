/* audit verify, dataset mapping, tool accountant, tool licence-decide: what needs neither daemon nor keys. */
#include "config.h"
#include "node/cli/cli.h"
#include "node/cli/licence_file.h"

#include "crypto/provider.h"
#include "node/config/home.h"
#include "node/config/yaml.h"
#include "proto/policy.h"
#include "proto/pld.h"
#include "proto/privacy.h"
#include "proto/time.h"
#include "store/audit_view.h"
#include "store/file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* --- audit verify --------------------------------------------------------------------------------- */

enum err cli_audit_verify(struct cli_call *call, json_t **ret, int *ret_exit,
                          struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    const char *file = cli_text(call, "--file");
    struct store_audit_report *report = proto_alloc(1, sizeof *report);
    enum err err = report ? crypto_init(reterr) : E_NO_MEMORY;
    if (!err && !file) {
        if (!config_home_path(call->home, "node.mdb", path)) {
            err = proto_err_set(reterr, E_INVALID, "the home's path is too long");
        }
        file = path;
    }
    if (!err) {
        err = store_audit_verify(file, NULL, report, reterr);
        bool broken = err && proto_err_kind(err) == ERR_KIND_INTEGRITY && !report->newer;
        if (!err || broken) {
            *ret = store_audit_view(report);
            *ret_exit = proto_err_exit(err);
            err = E_OK;
        }
    }
    proto_free(report);
    return err;
}

/* --- dataset mapping ------------------------------------------------------------------------------ */

static enum err mapping_view(const char *name, json_t **ret, struct err_info *reterr)
{
    struct proto_mapping mapping = {0};
    enum err err = config_yaml_mapping_bytes(config_mapping_text(name), name, &mapping, reterr);
    *ret =
        err ? NULL
            : json_pack("{s:s, s:s}", "mapping", name, "title", mapping.title ? mapping.title : "");
    proto_mapping_fini(&mapping);
    return err;
}

enum err cli_dataset_mapping(struct cli_call *call, json_t **ret, int *ret_exit,
                             struct err_info *reterr)
{
    (void)ret_exit;
    const char *name = cli_text(call, "NAME");
    struct span text = name ? config_mapping_text(name) : SPAN_NONE;
    if (name && !text.ptr) {
        return proto_err_set(reterr, E_NOT_FOUND, "no ready mapping is called %.64s", name);
    }
    if (name) {
        *ret = json_pack("{s:s, s:s#}", "mapping", name, "text", (const char *)text.ptr,
                         (int)text.len);
        return E_OK;
    }
    json_t *list = json_array();
    enum err err = E_OK;
    for (size_t i = 0; i < config_mapping_count() && !err; i++) {
        json_t *one;
        err = mapping_view(config_mapping_name(i), &one, reterr);
        json_array_append_new(list, one);
    }
    *ret = list;
    return err;
}

/* --- tool accountant ------------------------------------------------------------------------------ */

/* The tight accountant: what SIGMA costs or, when EPSILON is not 0, the least sigma that reaches it; null where it cannot tell. */
static json_t *tight_view(double rate, double sigma, uint64_t steps, double delta, double epsilon)
{
    double tight;
    enum err err =
        epsilon > 0 ? proto_pld_plan_calibrate(epsilon, delta, rate, steps, 0, &sigma) : E_OK;
    err = err ? err : proto_pld_sgd_epsilon(rate, sigma, steps, delta, &tight);
    return err ? json_null() : json_pack("{s:f, s:f}", "sigma", sigma, "epsilon", tight);
}

enum err cli_tool_accountant(struct cli_call *call, json_t **ret, int *ret_exit,
                             struct err_info *reterr)
{
    (void)ret_exit;
    double rate = cli_number(call, "--rate", 0);
    double steps = cli_number(call, "--steps", 0);
    double delta = cli_number(call, "--delta", 0);
    double sigma = cli_number(call, "--sigma", 0);
    bool calibrate = cli_text(call, "--epsilon") != NULL;
    if (calibrate == (cli_text(call, "--sigma") != NULL)) {
        return proto_err_set(reterr, E_USAGE, "give one of --sigma and --epsilon");
    }
    if (rate > 1 || steps < 1 || steps != floor(steps) || steps > 1e12 || delta <= 0 ||
        delta >= 1) {
        return proto_err_set(reterr, E_USAGE,
                             "--rate lies in 0 to 1, --steps is a whole number from "
                             "1, --delta lies between 0 and 1");
    }
    enum err err = calibrate ? proto_privacy_sgd_calibrate(cli_number(call, "--epsilon", 0), delta,
                                                           rate, (uint64_t)steps, 0, &sigma)
                             : E_OK;
    if (err) {
        return proto_err_set(reterr, E_INVALID, "no noise multiplier reaches that epsilon");
    }
    double epsilon = proto_privacy_sgd_epsilon(rate, sigma, (uint64_t)steps, 0, delta);
    if (!isfinite(epsilon)) {
        return proto_err_set(reterr, E_INVALID, "--sigma is outside %g to %g",
                             PROTO_PRIVACY_SIGMA_MIN, PROTO_PRIVACY_SIGMA_MAX);
    }
    *ret = json_pack("{s:f, s:f, s:I, s:f, s:{s:f, s:f}, s:o, s:f}", "sigma", sigma, "rate", rate,
                     "steps", (json_int_t)steps, "delta", delta, "rdp", "sigma", sigma, "epsilon",
                     epsilon, "pld",
                     tight_view(rate, sigma, (uint64_t)steps, delta,
                                calibrate ? cli_number(call, "--epsilon", 0) : 0),
                     "epsilon", epsilon);
    return E_OK;
}

/* --- tool licence-decide -------------------------------------------------------------------------- */

static enum err load_json(const char *path, json_t **ret, struct err_info *reterr)
{
    json_error_t at;
    bool standard = strcmp(path, "-") == 0;
    if (!standard && access(path, F_OK) != 0) {
        return proto_err_set(reterr, E_NOT_FOUND, "%s: %s", path, strerror(errno));
    }
    *ret = standard ? json_loadf(stdin, 0, &at) : json_load_file(path, 0, &at);
    if (!*ret || !json_is_object(*ret)) {
        json_decref(*ret);
        *ret = NULL;
        return proto_err_set(reterr, E_INVALID, "%s:%d:%d: %s", path, at.line, at.column,
                             *at.text ? at.text : "not a JSON object");
    }
    return E_OK;
}

/* JSON is YAML: the licence goes through the one reader and checker of licences. */
static enum err read_licence(json_t *licence, struct proto_manifest *manifest, struct arena *arena,
                             struct proto_licence *ret, struct err_info *reterr)
{
    static const uint8_t no_hash[32];
    json_t *document = json_pack("{s:O}", "licence", licence);
    char *text = document ? json_dumps(document, JSON_ENSURE_ASCII) : NULL;
    enum err err =
        text ? config_yaml_licence_bytes(span_str(text), "record", manifest, reterr) : E_NO_MEMORY;
    if (!err) {
        /* At second 1, so that an expired licence is judged, not refused here. */
        err = proto_manifest_licence_body(manifest, no_hash, 1, arena, ret, reterr);
    }
    free(text);
    json_decref(document);
    return err;
}

#define SITES_MAX 10000

struct request_reader {
    const json_t *json;
    struct arena *arena;
    enum err err;
    struct err_info *reterr;
};

static void bad(struct request_reader *r, const char *key, const char *want)
{
    if (!r->err) {
        r->err = proto_err_set(r->reterr, E_INVALID, "request.%s: must be %s", key, want);
    }
}

static const char *get_text(struct request_reader *r, const char *key)
{
    const json_t *value = json_object_get(r->json, key);
    if (value && !json_is_null(value) && !json_is_string(value)) {
        bad(r, key, "a text");
    }
    return json_string_value(value);
}

static bool get_bool(struct request_reader *r, const char *key, bool *ret_known)
{
    const json_t *value = json_object_get(r->json, key);
    if (value && !json_is_null(value) && !json_is_boolean(value)) {
        bad(r, key, "true or false");
    }
    *ret_known = json_is_boolean(value);
    return json_is_true(value);
}

static double get_number(struct request_reader *r, const char *key)
{
    const json_t *value = json_object_get(r->json, key);
    if (value && !json_is_null(value) && (!json_is_number(value) || json_number_value(value) < 0)) {
        bad(r, key, "a number, at least 0");
    }
    return json_is_number(value) ? json_number_value(value) : 0;
}

static int64_t get_time(struct request_reader *r, const char *key, int64_t fallback)
{
    const json_t *value = json_object_get(r->json, key);
    int64_t time = fallback;
    if (json_is_integer(value)) {
        return json_integer_value(value);
    }
    if (value && !json_is_null(value) &&
        (!json_is_string(value) || !proto_time_parse(json_string_value(value), &time))) {
        bad(r, key, "a time (RFC 3339)");
    }
    return time;
}

static struct proto_list get_list(struct request_reader *r, const char *key)
{
    const json_t *value = json_object_get(r->json, key);
    size_t count = json_array_size(value);
    struct proto_text *list = arena_alloc(r->arena, count + 1, sizeof *list);
    if ((value && !json_is_null(value) && !json_is_array(value)) || !list) {
        bad(r, key, "a list of texts");
        return (struct proto_list){0};
    }
    for (size_t i = 0; i < count; i++) {
        list[i].text = span_str(json_string_value(json_array_get(value, i)));
        if (!list[i].text.ptr) {
            bad(r, key, "a list of texts");
        }
    }
    return (struct proto_list){list, count};
}

static uint64_t get_actions(struct request_reader *r)
{
    struct proto_list list = get_list(r, "actions");
    const struct proto_text *items = list.items;
    uint64_t actions = 0;
    for (size_t i = 0; i < list.count; i++) {
        enum proto_action action;
        if (items[i].text.ptr && proto_action_by_name((const char *)items[i].text.ptr, &action)) {
            actions |= PROTO_ACTION_BIT(action);
        } else {
            bad(r, "actions", "known actions");
        }
    }
    return actions;
}

static uint64_t get_research(struct request_reader *r)
{
    struct proto_list list = get_list(r, "research");
    struct err_info why = {0};
    uint64_t research = 0;
    if (!r->err && proto_research_parse(&list, &research, &why)) {
        r->err = proto_err_set(r->reterr, E_INVALID, "request.research: %.300s", why.text);
    }
    return research;
}

static void check_keys(struct request_reader *r)
{
    static const char *const known[] = {"node",
                                        "institution",
                                        "org_type",
                                        "commercial",
                                        "country",
                                        "person",
                                        "project",
                                        "purpose",
                                        "diseases",
                                        "research",
                                        "ethics_ref",
                                        "ethics_expires",
                                        "accepted",
                                        "actions",
                                        "columns",
                                        "epsilon",
                                        "delta",
                                        "sites",
                                        "site_countries",
                                        "secure",
                                        "nonprivate",
                                        "now",
                                        "rounds",
                                        "clip",
                                        "noise_multiplier",
                                        "visas"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)r->json, key, value)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            found = found || strcmp(key, known[i]) == 0;
        }
        if (!found && !r->err) {
            r->err = proto_err_set(r->reterr, E_INVALID, "request.%s: no such key", key);
        }
    }
}

/* The sites of a request are told by number and countries; each counts as an institution of its own. */
static struct proto_party *get_sites(struct request_reader *r, size_t *ret_count)
{
    struct proto_list countries = get_list(r, "site_countries");
    const struct proto_text *items = countries.items;
    double stated = json_object_get(r->json, "sites") ? get_number(r, "sites") : 1;
    if (stated > SITES_MAX) {
        bad(r, "sites", "a number of sites, at most 10000");
        stated = 0;
    }
    size_t count = (size_t)stated;
    struct proto_party *sites = arena_alloc(r->arena, count + 1, sizeof *sites);
    for (size_t i = 0; sites && i < count; i++) {
        char *org = arena_alloc(r->arena, 24, 1);
        if (!org) {
            r->err = E_NO_MEMORY;
            break;
        }
        snprintf(org, 24, "site %zu", i + 1);
        sites[i].org = span_str(org);
        sites[i].country = i < countries.count ? items[i].text : SPAN_NONE;
    }
    if (countries.count > count) {
        bad(r, "site_countries", "no longer than sites says");
    }
    *ret_count = sites ? count : 0;
    return sites;
}

/* What the requester holds: [{type, value, institution, by, person or project, asserted, expires}], of its node. */
static const struct proto_visa_held *get_visas(struct request_reader *r, struct span node,
                                               size_t *ret_count)
{
    const json_t *value = json_object_get(r->json, "visas");
    size_t count = json_array_size(value);
    struct proto_visa_held *held = arena_alloc(r->arena, count + 1, sizeof *held);
    *ret_count = 0;
    if (!held || (value && !json_is_array(value))) {
        bad(r, "visas", "a list of visas");
        return NULL;
    }
    if (count && node.len == 0) {
        bad(r, "node", "the member whose visas they are");
    }
    for (size_t i = 0; i < count; i++) {
        struct request_reader one = {json_array_get(value, i), r->arena, r->err, r->reterr};
        int64_t asserted = get_time(&one, "asserted", 0), expires = get_time(&one, "expires", 0);
        held[i].visa = (struct proto_visa){.node = node,
                                           .person = span_str(get_text(&one, "person")),
                                           .project = span_str(get_text(&one, "project")),
                                           .type = span_str(get_text(&one, "type")),
                                           .value = span_str(get_text(&one, "value")),
                                           .by = span_str(get_text(&one, "by")),
                                           .asserted = asserted > 0 ? (uint64_t)asserted : 0};
        held[i].institution = span_str(get_text(&one, "institution"));
        held[i].expires = expires > 0 ? (uint64_t)expires : 0;
        r->err = one.err;
        if (!r->err) {
            r->err = proto_visa_valid(&held[i].visa, r->reterr);
        }
    }
    *ret_count = count;
    return held;
}

static struct proto_purpose get_purpose(struct request_reader *r)
{
    struct proto_purpose purpose = {
        .person = span_str(get_text(r, "person")),
        .project = span_str(get_text(r, "project")),
        .diseases = get_list(r, "diseases"),
        .has_research = json_is_array(json_object_get(r->json, "research")),
        .research = get_research(r),
        .ethics_ref = span_str(get_text(r, "ethics_ref")),
        .accepted = get_list(r, "accepted"),
    };
    const char *code = get_text(r, "purpose");
    int64_t until = get_time(r, "ethics_expires", 0);
    purpose.commercial = get_bool(r, "commercial", &purpose.has_commercial);
    purpose.ethics_expires = until > 0 ? (uint64_t)until : 0;
    if (!r->err && code) {
        r->err = proto_duo_parse(code, &purpose.permission, r->reterr);
    }
    return purpose;
}

/* The same builder as everywhere else; only its parts come from JSON. */
static enum err read_request(const json_t *json, struct arena *arena, struct proto_request *ret,
                             struct err_info *reterr)
{
    struct request_reader r = {json, arena, E_OK, reterr};
    bool known;
    size_t site_count;
    check_keys(&r);
    struct proto_party requester = {.node = span_str(get_text(&r, "node")),
                                    .org = span_str(get_text(&r, "institution")),
                                    .org_type = span_str(get_text(&r, "org_type")),
                                    .country = span_str(get_text(&r, "country"))};
    struct proto_purpose purpose = get_purpose(&r);
    struct proto_use use = {.actions = get_actions(&r),
                            .columns = get_list(&r, "columns"),
                            .epsilon = get_number(&r, "epsilon"),
                            .delta = get_number(&r, "delta"),
                            .rounds = (uint64_t)fmin(get_number(&r, "rounds"), 1e9),
                            .clip = get_number(&r, "clip"),
                            .noise_multiplier = get_number(&r, "noise_multiplier"),
                            .secure = get_bool(&r, "secure", &known),
                            .nonprivate = get_bool(&r, "nonprivate", &known)};
    const struct proto_party *sites = get_sites(&r, &site_count);
    int64_t now = get_time(&r, "now", (int64_t)time(NULL));
    size_t visa_count;
    const struct proto_visa_held *visas = get_visas(&r, requester.node, &visa_count);
    if (!r.err) {
        proto_request_build(&requester, &purpose, &use, sites, site_count, now, ret);
        ret->visas = visas;
        ret->visa_count = visa_count;
    }
    return r.err;
}

static json_t *decision_view(const struct proto_licence *licence, const struct proto_decision *d)
{
    static const char *const verdicts[] = {"permit", "hold", "deny"};
    json_t *clauses = json_array();
    json_t *duties = json_array();
    for (size_t i = 0; i < d->clause_count; i++) {
        const struct proto_clause *c = &d->clauses[i];
        char name[PROTO_CLAUSE_NAME_SIZE], expected[PROTO_CLAUSE_EXPECTED_SIZE];
        json_array_append_new(
            clauses,
            json_pack("{s:s, s:s, s:s, s:s, s:i}", "clause", proto_clause_name(licence, c, name),
                      "expected", proto_clause_expected(licence, c, expected), "result",
                      proto_clause_result_name(c->result), "reason",
                      proto_reason_name((enum proto_reason)c->reason), "grant", (int)c->grant));
    }
    for (size_t i = 0; i < d->duty_count; i++) {
        json_array_append_new(duties, json_pack("{s:s%, s:s%}", "id", d->duties[i].id.ptr,
                                                d->duties[i].id.len, "when", d->duties[i].when.ptr,
                                                d->duties[i].when.len));
    }
    uint64_t rho = d->charged ? proto_privacy_rho_ceil_nano((double)d->epsilon_u / 1e6,
                                                            (double)d->delta_e12 / 1e12)
                              : 0;
    return json_pack("{s:s, s:s, s:s, s:i, s:o, s:o, s:I, s:f, s:f}", "verdict",
                     verdicts[d->verdict], "reason", proto_reason_name(d->reason), "text",
                     proto_reason_text(d->reason), "grant", d->grant, "clauses", clauses,
                     "obligations", duties, "min_cohort", (json_int_t)d->min_cohort, "epsilon",
                     (double)d->epsilon_u / 1e6, "charge_rho", (double)rho / 1e9);
}

/* FILE is the licence itself, or {"licence": {...}, "revoked": true, "forked": true}. */
static enum err decide(json_t *file, const json_t *asked, const struct proto_ontology *ontology,
                       json_t **ret, struct err_info *reterr)
{
    json_t *inner = json_object_get(file, "licence");
    struct proto_manifest manifest = {0};
    struct proto_licence licence = {0};
    struct proto_request request;
    struct arena arena = {0};
    bool revoked = inner && json_is_true(json_object_get(file, "revoked"));
    struct proto_record record = {.envelope = {.version = 1,
                                               .kind = PROTO_RECORD_LICENCE,
                                               .flags = revoked ? PROTO_RECORD_FINAL : 0}};
    struct proto_decision *decision = proto_alloc(1, sizeof *decision);
    enum err err = decision
                       ? read_licence(inner ? inner : file, &manifest, &arena, &licence, reterr)
                       : E_NO_MEMORY;
    if (!err) {
        err = read_request(asked, &arena, &request, reterr);
    }
    if (!err) {
        record.envelope.expires = licence.expires;
        proto_policy_decide(&request, &record, &licence,
                            inner && json_is_true(json_object_get(file, "forked")), ontology,
                            decision);
        *ret = decision_view(&licence, decision);
    }
    arena_fini(&arena);
    proto_manifest_fini(&manifest);
    proto_free(decision);
    return err;
}

enum err cli_tool_licence_decide(struct cli_call *call, json_t **ret, int *ret_exit,
                                 struct err_info *reterr)
{
    (void)ret_exit;
    json_t *file = NULL;
    json_t *asked = NULL;
    struct proto_ontology ontology = {0};
    enum err err = crypto_init(reterr);
    err = err ? err : load_json(cli_text(call, "--record"), &file, reterr);
    err = err ? err : load_json(cli_text(call, "--request"), &asked, reterr);
    err = err ? err : cli_ontology_load(call, &ontology, reterr);
    err = err ? err : decide(file, asked, &ontology, ret, reterr);
    proto_ontology_fini(&ontology);
    json_decref(file);
    json_decref(asked);
    return err;
}
