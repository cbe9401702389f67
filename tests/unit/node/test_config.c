/* Files that people write: the contract's examples load, malformed ones are refused at the right
 * line and column with the reason, a manifest becomes valid record bodies, and node.yaml reads back
 * as it was written. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/config/unlock.h"
#include "node/config/yaml.h"
#include "tests/lib/fake_hash.h"

#define NOW INT64_C(1764000000) /* November 2025 */

static enum err manifest_of(const char *text, struct proto_manifest *manifest,
                            struct err_info *info)
{
    memset(manifest, 0, sizeof *manifest);
    memset(info, 0, sizeof *info);
    return config_yaml_manifest_bytes(span_str(text), "m.yaml", manifest, info);
}

static void load_contract(struct proto_manifest *manifest)
{
    char path[512];
    struct err_info info = {0};
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/tests/fuzz/corpus/manifest/contract.yaml", top ? top : ".");
    memset(manifest, 0, sizeof *manifest);
    if (config_yaml_manifest(path, manifest, &info)) {
        fail_msg("%s", info.text);
    }
}

/* A licence of June holds on the 1st and on the 30th. */
static void test_bare_dates_are_whole_days(void **state)
{
    (void)state;
    static const char text[] =
        "licence:\n  spdx: CC0-1.0\n  not_before: 2027-06-01\n  expires: 2027-06-30\n"
        "  grants: [{permission: GRU, actions: count, privacy: {epsilon_total: 1, "
        "epsilon_per_query: 1}}]\n";
    struct proto_manifest manifest = {0};
    assert_int_equal(config_yaml_licence_bytes(span_str(text), "l", &manifest, NULL), E_OK);
    assert_int_equal(manifest.licence.not_before, 1811808000); /* 2027-06-01T00:00:00Z */
    assert_int_equal(manifest.licence.expires, 1814400000);    /* 2027-07-01T00:00:00Z */
    proto_manifest_fini(&manifest);
}

static void test_contract_manifest(void **state)
{
    (void)state;
    struct proto_manifest manifest;
    load_contract(&manifest);
    assert_string_equal(manifest.dataset, "chain-study");
    assert_int_equal(manifest.size, 10000);
    assert_int_equal(manifest.schema.count, 7);
    assert_int_equal(manifest.schema.max_rows_per_unit, 4);
    assert_string_equal(manifest.schema.columns[3].source, "creatinine ");
    assert_string_equal(manifest.schema.columns[3].ucum, "mg/dL");
    assert_int_equal(manifest.schema.columns[3].missing_count, 2);
    assert_string_equal(manifest.schema.columns[3].missing[0], "");
    assert_string_equal(manifest.schema.columns[2].values[1], "M");
    assert_true(manifest.schema.columns[6].values_private);
    assert_int_equal(manifest.licence.expires,
                     1830297600); /* 2028-01-01T00:00:00Z: the end of 31 December */
    assert_true(manifest.licence.grants[0].visible_site);
    assert_true(manifest.licence.grants[0].epsilon_per_job == 4);
    proto_manifest_fini(&manifest);
}

static void test_bodies(void **state)
{
    (void)state;
    struct proto_manifest manifest;
    load_contract(&manifest);
    struct arena arena = {0};
    struct err_info info = {0};
    struct proto_schema schema, back;
    uint8_t hash[PROTO_HASH_SIZE], again[PROTO_HASH_SIZE];
    assert_int_equal(proto_schema_publish(&manifest.schema, &arena, &schema), E_OK);
    assert_int_equal(schema.count, 6);
    assert_true(schema.columns[1].max == 90);
    assert_int_equal(schema.columns[4].type, PROTO_COLUMN_INTEGER);
    proto_schema_hash(&schema, &fake_hash, hash);

    struct proto_dataset dataset, decoded;
    struct buf bytes = {.max = 65536};
    assert_int_equal(proto_manifest_dataset_body(&manifest, &schema, hash, &arena, &dataset, &info),
                     E_OK);
    if (proto_dataset_encode(&dataset, &bytes, &info) ||
        proto_dataset_decode(buf_span(&bytes), &arena, &decoded, &info) ||
        proto_dataset_schema(&decoded, &arena, &back, &info)) {
        fail_msg("%s", info.text);
    }
    proto_schema_hash(&back, &fake_hash, again);
    assert_memory_equal(hash, again, sizeof hash);

    struct proto_licence licence;
    bytes.len = 0;
    if (proto_manifest_licence_body(&manifest, hash, NOW, &arena, &licence, &info) ||
        proto_licence_encode(&licence, &bytes, &info)) {
        fail_msg("%s", info.text);
    }
    const struct proto_grant *grant = licence.grants.items;
    assert_int_equal(licence.geography.count, 27);
    assert_int_equal(licence.obligations.count, 3); /* no-relink was added */
    assert_int_equal(grant->privacy.epsilon_total_u, 8000000);
    assert_int_equal(grant->privacy.delta_e12, 1000000);
    assert_int_equal(grant->actions, PROTO_ACTION_ALL);
    assert_int_equal(
        proto_manifest_licence_body(&manifest, hash, INT64_C(1830297600), &arena, &licence, &info),
        E_INVALID);
    buf_fini(&bytes);
    arena_fini(&arena);
    proto_manifest_fini(&manifest);
}

#define HEAD "dataset: d\nversion: \"1\"\n"

static uint64_t hash_of(const char *text)
{
    struct proto_manifest manifest;
    struct err_info info;
    struct proto_schema schema;
    uint8_t hash[PROTO_HASH_SIZE];
    if (manifest_of(text, &manifest, &info) ||
        proto_schema_publish(&manifest.schema, &manifest.arena, &schema)) {
        fail_msg("%s", info.text);
    }
    proto_schema_hash(&schema, &fake_hash, hash);
    proto_manifest_fini(&manifest);
    return get_be64(hash);
}

static void test_schema_hash(void **state)
{
    (void)state;
    const char *base = HEAD "columns:\n- {name: a, type: integer, min: 0, max: 5}\n- {name: b, "
                            "type: category, values: [x, y]}\n";
    uint64_t hash = hash_of(base);
    assert_true(hash == hash_of(HEAD
                                "title: other\ncolumns:\n- {name: b, type: category, values: [x, "
                                "y], source: B, code: c}\n"
                                "- {name: a, type: integer, min: 0, max: 5, missing: [NA]}\n"));
    static const char *const differ[] = {
        HEAD "columns:\n- {name: a, type: integer, min: 0, max: 6}\n- {name: b, type: category, "
             "values: [x, y]}\n",
        HEAD "columns:\n- {name: a, type: real, min: 0, max: 5}\n- {name: b, type: category, "
             "values: [x, y]}\n",
        HEAD "columns:\n- {name: a, type: integer}\n- {name: b, type: category, values: [x, y]}\n",
        HEAD "columns:\n- {name: a, type: integer, min: 0, max: 5}\n- {name: b, type: category, "
             "values: [y, x]}\n",
        HEAD "columns:\n- {name: a, type: integer, min: 0, max: 5}\n- {name: b, type: category, "
             "values: private}\n",
        HEAD "columns:\n- {name: a, type: integer, min: 0, max: 5, ucum: kg}\n- {name: b, type: "
             "category, values: [x, y]}\n",
        HEAD "columns:\n- {name: a, type: integer, min: 0, max: 5}\n- {name: c, type: category, "
             "values: [x, y]}\n",
        HEAD "columns:\n- {name: a, type: integer, min: 0, max: 5}\n",
    };
    for (size_t i = 0; i < sizeof differ / sizeof *differ; i++) {
        assert_true(hash != hash_of(differ[i]));
    }
    /* What sites agreed on must not change with a release. */
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    assert_string_equal(text, "209482b9eab7dc1f");
}

#define COLS HEAD "columns: [{name: a, type: integer}]\n"
#define LIC  COLS "licence:\n  spdx: CC0-1.0\n  expires: 2027-12-31\n"
#define GRANT(rest)                                                                                \
    LIC "  grants:\n    - permission: GRU\n      actions: [count]\n      privacy: "                \
        "{epsilon_total: 1}\n" rest

static const struct {
    const char *text;
    enum err err;
    const char *place;
    const char *says;
} malformed[] = {
    {"", E_INVALID, "m.yaml:1:1:", "empty"},
    {"- a\n", E_INVALID, "m.yaml:1:1:", "keys with values"},
    {"dataset: d\n", E_INVALID, "m.yaml:1:1:", "'version' is missing"},
    {"dataset: d\nversion: 1\nversion: 2\n", E_INVALID, "m.yaml:3:1:", "twice"},
    {"dataset: d\nverison: 1\n", E_INVALID, "m.yaml:2:1:", "did you mean 'version'?"},
    {"dataset: [d\n", E_INVALID, "m.yaml:2:1:", "not YAML"},
    {"dataset: &a d\nversion: 1\n", E_INVALID, "m.yaml:1:10:", "anchors"},
    {"dataset: d\nversion: *a\n", E_INVALID, "m.yaml:2:10:", "aliases"},
    {"dataset: !!str d\n", E_INVALID, "m.yaml:1:10:", "tags"},
    {"dataset: d\n---\ndataset: e\n", E_INVALID, "m.yaml:2:1:", "second document"},
    {"dataset: [[[[[[[[[[[[[[[[[[a]]]]]]]]]]]]]]]]]]\n", E_INVALID, "m.yaml:1:", "too deep"},
    {"dataset: Big\nversion: 1\ncolumns: [{name: a, type: integer}]\n", E_INVALID,
     "m.yaml:1:10:", "must match"},
    {HEAD "size: 0\n", E_INVALID, "m.yaml:3:7:", "must be 1 to"},
    {HEAD "size: 1.5\n", E_INVALID, "m.yaml:3:7:", "whole number"},
    {HEAD "columns: []\n", E_INVALID, "m.yaml:3:10:", "1 to 512"},
    {HEAD "columns: {a: b}\n", E_INVALID, "m.yaml:3:10:", "a list"},
    {HEAD "columns:\n  - {name: a}\n", E_INVALID, "m.yaml:4:5:", "'type' is missing"},
    {HEAD "columns:\n  - {name: a, type: int}\n", E_INVALID,
     "m.yaml:4:21:", "one of integer, real"},
    {HEAD "columns:\n  - {name: a, type: integer, min: 5, max: 1}\n", E_INVALID,
     "m.yaml:4:35:", "below max"},
    {HEAD "columns:\n  - {name: a, type: integer, min: 5}\n", E_INVALID,
     "m.yaml:4:5:", "need each other"},
    {HEAD "columns:\n  - {name: a, type: integer, min: x, max: 5}\n", E_INVALID,
     "m.yaml:4:35:", "must be a number"},
    {HEAD "columns:\n  - {name: a, type: integer, min: 0.5, max: 5}\n", E_INVALID,
     "m.yaml:4:35:", "integers"},
    {HEAD "columns:\n  - {name: a, type: integer, min: 2020-01-01, max: 5}\n", E_INVALID,
     "m.yaml:4:35:", "bounds dates only"},
    {HEAD "columns:\n  - {name: a, type: text, min: 1, max: 5}\n", E_INVALID,
     "m.yaml:4:32:", "have bounds"},
    {HEAD "columns:\n  - {name: a, type: category}\n", E_INVALID, "m.yaml:4:5:", "needs values"},
    {HEAD "columns:\n  - {name: a, type: category, values: [x, x]}\n", E_INVALID,
     "m.yaml:4:43:", "twice"},
    {HEAD "columns:\n  - {name: a, type: category, values: public}\n", E_INVALID,
     "m.yaml:4:39:", "private"},
    {HEAD "columns:\n  - {name: a, type: integer, values: [x]}\n", E_INVALID,
     "m.yaml:4:38:", "only a category"},
    {HEAD "columns:\n  - {name: a, type: integer}\n  - {name: a, type: real}\n", E_INVALID,
     "m.yaml:5:12:", "twice"},
    {HEAD "columns:\n  - {name: a, type: text, deidentify: hash}\n", E_INVALID,
     "m.yaml:4:39:", "one of none, drop"},
    {HEAD "columns:\n  - {name: a, type: integer, deidentify: zip3}\n", E_INVALID,
     "m.yaml:4:42:", "lose leading zeros"},
    {HEAD "columns:\n  - {name: a, type: integer, deidentify: bin}\n", E_INVALID,
     "m.yaml:4:42:", "one of them"},
    {HEAD "columns:\n  - {name: a, type: integer, min: 0, max: 9, deidentify: top, at: 10}\n",
     E_INVALID, "m.yaml:4:58:", "between min and max"},
    {HEAD "columns:\n  - {name: a, type: date, deidentify: dateshift}\n", E_INVALID,
     "m.yaml:4:39:", "needs unit"},
    {HEAD "columns:\n  - {name: a, type: text, deidentify: generalise}\n", E_INVALID,
     "m.yaml:4:39:", "table: FILE"},
    {HEAD "columns:\n  - {name: a, type: integer, deidentify: bin, cuts: [1, x], min: 0, max: 9}\n",
     E_INVALID, "m.yaml:4:", "must be numbers"},
    {HEAD "columns:\n  - {name: a, type: integer, quasi: true, sensitive: true}\n", E_INVALID,
     "m.yaml:4:", "not both"},
    {HEAD "columns:\n  - {name: a, type: text, deidentify: year}\n", E_INVALID,
     "m.yaml:4:39:", "needs a date"},
    {HEAD "columns:\n  - {name: a, type: text, deidentify: drop}\n", E_INVALID,
     "m.yaml:4:3:", "all are dropped"},
    {HEAD "unit: patent\ncolumns: [{name: patient, type: text}]\n", E_INVALID,
     "m.yaml:3:7:", "did you mean 'patient'?"},
    {HEAD "max_rows_per_unit: 4\ncolumns: [{name: a, type: text}]\n", E_INVALID,
     "m.yaml:3:20:", "each row is a unit"},
    {COLS "licence:\n  spdx: CC0-1.0\n", E_INVALID, "m.yaml:5:3:", "'expires' is missing"},
    {COLS "licence:\n  spdx: CC0-1.0\n  expires: tomorrow\n", E_INVALID,
     "m.yaml:6:12:", "YYYY-MM-DD"},
    {COLS "licence:\n  spdx: AND\n  expires: 2027-12-31\n  grants: [{permission: GRU, actions: "
          "[count], privacy: {epsilon_total: 1}}]\n",
     E_INVALID, "m.yaml:5:9:", "licence.spdx"},
    {LIC "  geography: [Mars]\n  grants: [{permission: GRU, actions: [count], privacy: "
         "{epsilon_total: 1}}]\n",
     E_INVALID, "m.yaml:7:15:", "ISO 3166"},
    {LIC "  obligations: [{id: dance}]\n  grants: [{permission: GRU, actions: [count], privacy: "
         "{epsilon_total: 1}}]\n",
     E_INVALID, "m.yaml:7:22:", "unknown obligation"},
    {LIC "  grants:\n    - {permission: NOPE, actions: [count], privacy: {epsilon_total: 1}}\n",
     E_INVALID, "m.yaml:8:20:", "permission"},
    {LIC "  grants:\n    - {permission: GRU, actions: [steal], privacy: {epsilon_total: 1}}\n",
     E_INVALID, "m.yaml:8:35:", "no action is named 'steal'"},
    {LIC "  grants:\n    - {permission: GRU, actions: [finetune], privacy: {epsilon_total: 1}}\n",
     E_INVALID, "m.yaml:8:34:", "need each other"},
    {LIC "  grants:\n    - {permission: GRU, actions: [count]}\n", E_INVALID,
     "m.yaml:8:7:", "'privacy' is missing"},
    {LIC "  grants:\n    - {permission: GRU, actions: [count], privacy: {epsilon_total: -1}}\n",
     E_INVALID, "m.yaml:8:68:", "epsilon_total"},
    {GRANT("      mode: secret\n"), E_INVALID, "m.yaml:11:13:", "one of any, secure"},
    {GRANT("      visible: all\n"), E_INVALID, "m.yaml:11:16:", "the word site"},
    {GRANT("      min_cohort: 1\n"), E_INVALID, "m.yaml:11:19:", "must be 2 to"},
    {GRANT("      columns: [b]\n"), E_INVALID, "m.yaml:11:17:", "no column 'b'"},
    {GRANT("      modifiers: [{code: GRU}]\n"), E_INVALID, "m.yaml:11:", "no modifier"},
    {COLS "budget: {window: 30d}\n", E_INVALID, "m.yaml:4:", "need each other"},
    {COLS "budget: {window: 30d, epsilon_per_window: -1}\n", E_INVALID, "m.yaml:4:", "1e-6 to"},
    {COLS "budget: {window: 5y, epsilon_per_window: 1}\n", E_INVALID,
     "m.yaml:4:18:", "such as 500ms"},
    {COLS "budget: {domain: Staff}\n", E_INVALID, "m.yaml:4:18:", "must match"},
    {GRANT("      disease: [MONDO:1]\n"), E_INVALID, "m.yaml:8:19:", "need each other"},
};

static void test_malformed(void **state)
{
    (void)state;
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        struct proto_manifest manifest;
        struct err_info info;
        enum err err = manifest_of(malformed[i].text, &manifest, &info);
        proto_manifest_fini(&manifest);
        if (err != malformed[i].err ||
            strncmp(info.text, malformed[i].place, strlen(malformed[i].place)) != 0 ||
            !strstr(info.text, malformed[i].says)) {
            print_error("# %zu: wanted %s %s, got %s %s\n", i, malformed[i].place,
                        malformed[i].says, proto_err_name(err), info.text);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

/* How the ledger keeps a dataset stands in the manifest and is nobody else's business. */
static void test_budget(void **state)
{
    (void)state;
    struct proto_manifest manifest;
    struct err_info info;
    assert_int_equal(manifest_of(COLS
                                 "budget: {domain: staff, window: 30d, epsilon_per_window: 2}\n",
                                 &manifest, &info),
                     E_OK);
    assert_string_equal(manifest.budget.domain, "staff");
    assert_int_equal(manifest.budget.window_ms, UINT64_C(30) * 86400 * 1000);
    assert_true(manifest.budget.epsilon_per_window >= 2);
    proto_manifest_fini(&manifest);
    assert_int_equal(manifest_of(COLS "budget: {domain: default}\n", &manifest, &info), E_OK);
    assert_string_equal(manifest.budget.domain, "");
    proto_manifest_fini(&manifest);
}

#define JOB "job: j\ntask: tabular-classification\ndataset: d\nfeatures: [a, b]\ntarget: y\n"

static enum err job_of(const char *text, struct proto_job *job, struct err_info *info)
{
    memset(job, 0, sizeof *job);
    memset(info, 0, sizeof *info);
    return config_yaml_job_bytes(span_str(text), "j.yaml", job, info);
}

static void test_job(void **state)
{
    (void)state;
    struct proto_job job;
    struct err_info info;
    assert_int_equal(
        job_of(JOB "privacy: {epsilon: 4}\nparticipation: {round_timeout: 2m}\n", &job, &info),
        E_OK);
    assert_true(job.learning_rate == 2.0 && job.eval_share == 0.1 && job.clip == 1.0);
    assert_int_equal(job.round_timeout_ms, 120000);
    assert_int_equal(job.min_sites, 1);
    proto_job_fini(&job);
    assert_int_equal(job_of(JOB "model: {hidden: 8}\n", &job, &info), E_OK);
    assert_true(job.learning_rate == 0.5 && job.hidden == 8);
    proto_job_fini(&job);
#define SURVIVAL "job: j\ntask: tabular-survival\ndataset: d\nfeatures: [a, b]\ntarget: y\n"
    assert_int_equal(job_of(SURVIVAL "time: t\n", &job, &info), E_OK);
    assert_true(job.intervals == 10 && job.horizon == 0 && job.learning_rate == 0.5);
    proto_job_fini(&job);
    assert_int_equal(job_of(SURVIVAL "time: t\nmodel: {trainer: x}\n", &job, &info), E_OK);
    assert_true(job.trainer_time_ms == 60000 && job.eval_every == 0);
    proto_job_fini(&job);
    static const struct {
        const char *text;
        enum err err;
        const char *says;
    } wrong[] = {
        {SURVIVAL, E_INVALID, "time: must name the column"},
        {SURVIVAL "time: y\n", E_INVALID, "time: must name the column"},
        {SURVIVAL "time: a\n", E_INVALID, "features[0]: 'a' is the time"},
        {SURVIVAL "time: t\nhorizon: -1\n", E_INVALID, "horizon"},
        {SURVIVAL "time: t\nmodel: {hidden: 8}\n", E_UNSUPPORTED, "model.hidden"},
        {"job: j\ntask: masked-lm\ndataset: d\nmodel: {trainer: x}\n", E_UNSUPPORTED,
         "model.trainer"},
        {JOB "time: t\n", E_INVALID, "tabular-survival alone"},
        {JOB "model: {hidden: 65}\n", E_INVALID, "hidden"},
        {JOB "model: {hidden: 8, base: b}\n", E_INVALID, "has no base model"},
        {JOB "model: {tune: full}\n", E_INVALID, "has no base model"},
        {"job: j\ntask: masked-lm\ndataset: d\nmodel: {base: b, hidden: 8}\n", E_INVALID,
         "model.hidden"},
        {JOB "secure_aggregation: true\n", E_UNSUPPORTED, "j.yaml:6:21: secure_aggregation"},
        {JOB "aggregate: {method: scaffold, server_momentum: 0.9}\n", E_INVALID,
         "aggregate.server_momentum"},
        {"job: j\ntask: masked-lm\ndataset: d\nmodel: {base: b}\naggregate: {method: scaffold}\n",
         E_UNSUPPORTED, "j.yaml:5:21: aggregate.method"},
        {JOB "rounds: 0\n", E_INVALID, "j.yaml:6:9: rounds"},
        {JOB "privacy: {}\n", E_INVALID, "j.yaml:6:10: the key 'epsilon' is missing"},
        {JOB "participation: {round_timeout: soon}\n", E_INVALID, "j.yaml:6:32: round_timeout"},
        {JOB "evaluate: {every: 0, early_stop: 2}\n", E_INVALID,
         "j.yaml:6:34: evaluate.early_stop"},
        {"job: j\ntask: masked-lm\ndataset: d\nmodel: {base: b}\ntarget: y\n", E_INVALID,
         "features: must be one column of text"},
        {"job: j\ntask: masked-lm\ndataset: d\nmodel: {base: b}\nfeatures: [a, b]\n", E_INVALID,
         "j.yaml:5:11: features: must be one column of text"},
        {"job: j\ntask: tabular-classification\ndataset: d\ntarget: y\n", E_INVALID, "features"},
        {"job: j\ntask: tabular-classification\ndataset: d\nfeatures: [a, y]\ntarget: y\n",
         E_INVALID, "j.yaml:4:15: features[1]"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        enum err err = job_of(wrong[i].text, &job, &info);
        proto_job_fini(&job);
        if (err != wrong[i].err || !strstr(info.text, wrong[i].says)) {
            fail_msg("%zu: %s", i, info.text);
        }
    }
}

static void test_node_round_trip(void **state)
{
    (void)state;
    char directory[] = "/tmp/concordat-config-XXXXXX";
    assert_non_null(mkdtemp(directory));
    char path[64];
    snprintf(path, sizeof path, "%s/node.yaml", directory);
    struct config_node node, back;
    struct err_info info = {0};
    const char *seeds[] = {"tls+tcp://127.0.0.1:7102", "tls+tcp://[::1]:7103"};
    struct config_person people[] = {
        {.user = "root", .id = "operator", .roles = CONFIG_ROLE_OPERATOR | CONFIG_ROLE_ANALYST},
        {.has_uid = true, .uid = 1000, .id = "ada", .roles = CONFIG_ROLE_ANALYST}};
    config_node_defaults(&node);
    strcpy(node.node, "alpha");
    strcpy(node.org, "alpha");
    strcpy(node.org_type, "nonprofit");
    strcpy(node.country, "DE");
    strcpy(node.federation, "demo");
    strcpy(node.listen, "tls+tcp://127.0.0.1:7101");
    strcpy(node.unlock, "keyfile:it's: #odd");
    node.has_commercial = true;
    node.seeds = (struct config_seeds){seeds, 2};
    node.people = people;
    struct config_domain domains[] = {{"default", 10, 1e-6}, {"staff", 0.3, 1e-9}};
    node.shares.person = 0.1;
    node.domains = domains;
    node.domain_count = 2;
    node.person_count = 2;
    if (config_node_write(path, &node, &info) || config_yaml_node(path, &back, &info)) {
        fail_msg("%s", info.text);
    }
    struct buf a = {.max = 65536};
    struct buf b = {.max = 65536};
    assert_int_equal(config_node_format(&node, &a), E_OK);
    assert_int_equal(config_node_format(&back, &b), E_OK);
    assert_true(span_equal(buf_span(&a), buf_span(&b)));
    assert_string_equal(back.unlock, node.unlock);
    assert_int_equal(back.people[0].roles, people[0].roles);
    assert_int_equal(back.people[1].uid, 1000);
    assert_true(back.shares.person <= 0.1 && back.shares.person >= 0.1);
    assert_int_equal(back.domain_count, 2);
    assert_true(back.domains[1].delta <= 1e-9 && back.domains[1].delta >= 1e-9);
    domains[1].name = "default";
    assert_int_equal(config_node_check(&node, &info), E_INVALID);
    domains[1].name = "staff";
    node.shares.project = 0;
    assert_int_equal(config_node_check(&node, &info), E_INVALID);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    config_node_fini(&back);
    strcpy(node.listen, "tcp://x");
    assert_int_equal(config_node_write(path, &node, &info), E_INVALID);
    assert_int_equal(config_yaml_node(path, &back, &info), E_OK); /* the old file is intact */
    config_node_fini(&back);
    buf_fini(&a);
    buf_fini(&b);
    unlink(path);
    assert_int_equal(rmdir(directory), 0);
}

#define TOKEN "pkcs11:token=ward;object=kek?module-path=/m.so"

/* What names a key in a token, by RFC 7512. */
static void test_unlock(void **state)
{
    (void)state;
    static const char *const good[] = {
        "passphrase", "keyfile:a b", "credential:c", TOKEN,
        "pkcs11:object=k;token=%E2%82%AC?pin-source=credential:pin&module-path=/a%20b"};
    static const char *const bad[] = {
        "",
        "keyfile:",
        "passphrase:x",
        "keyfile:a\nb",
        "pkcs11:",
        "pkcs11:token=ward;object=kek",
        "pkcs11:token=ward;object=kek?module-path=m.so",
        "pkcs11:token=ward?module-path=/m.so",
        "pkcs11:token=;object=kek?module-path=/m.so",
        TOKEN "&module-path=/n.so",
        TOKEN "&pin-value=1234",
        TOKEN "&pin-source=1234",
        TOKEN "&pin-source=file:",
        TOKEN "&token=ward",

        "pkcs11:token=w%0;object=k?module-path=/m",
        "pkcs11:token=w%00;object=k?module-path=/m",
        "pkcs11:token=w%;object=k?module-path=/m",
        "pkcs11:token=w%xy;object=k?module-path=/m",
        "pkcs11:token=123456789012345678901234567890123;object=k?module-path=/m"};
    static struct config_unlock unlock;
    struct err_info info = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(config_unlock_check(good[i], &info), E_OK);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(&info, 0, sizeof info);
        assert_int_equal(config_unlock_check(bad[i], &info), E_INVALID);
        assert_null(strstr(info.text, "1234"));
    }
    assert_int_equal(config_unlock_read("/home",
                                        "pkcs11:token=ward%2012;object=%6bek?module-path="
                                        "/m.so&pin-source=file:pin",
                                        span_str("unused"), &unlock, &info),
                     E_OK);
    assert_string_equal(unlock.how.pkcs11.token, "ward 12");
    assert_string_equal(unlock.how.pkcs11.key, "kek");
    assert_string_equal(unlock.how.pkcs11.module, "/m.so");
    assert_string_equal(unlock.how.pin_path, "/home/pin");
    assert_int_equal(
        config_unlock_read("/home", TOKEN "&pin-source=file:///p", SPAN_NONE, &unlock, &info),
        E_OK);
    assert_string_equal(unlock.how.pin_path, "/p");
    assert_int_equal(config_unlock_read("/home", TOKEN, span_str("314"), &unlock, &info), E_OK);
    assert_null(unlock.how.pin_path);
    assert_true(span_equal(unlock.how.pkcs11.pin, span_str("314")));
}

static void test_url(void **state)
{
    (void)state;
    char host[254];
    uint16_t port;
    assert_true(config_url_split("tls+tcp://[::1]:80", host, &port));
    assert_string_equal(host, "::1");
    assert_int_equal(port, 80);
    static const char *const bad[] = {"",
                                      "tcp://a:1",
                                      "tls+tcp://a",
                                      "tls+tcp://:1",
                                      "tls+tcp://a:0",
                                      "tls+tcp://a:65536",
                                      "tls+tcp://a:1x",
                                      "tls+tcp://::1:5",
                                      "tls+tcp://[]:5",
                                      "tls+tcp://[::1:5",
                                      "tls+tcp://a/b:5"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(config_url_split(bad[i], host, &port));
    }
}

/* What the rows come from, and which keys belong to it. */
static void test_manifest_sources(void **state)
{
    (void)state;
#define SOURCE(keys) "dataset: d\nversion: \"1\"\n" keys "columns: [{name: a, type: text}]\n"
    static const struct {
        const char *text, *said; /* NULL: fine */
    } cases[] = {
        {SOURCE("mapping: fhir-patient\n"), NULL},
        {SOURCE("format: fhir\nmapping: mine.yaml\n"), NULL},
        {SOURCE("mapping: omop-person\ndatabase: {connection: service=x, schema: cdm}\n"), NULL},
        {SOURCE("format: fhir\n"), "need mapping:"},
        {SOURCE("format: postgres\n"), "need mapping:"},
        {SOURCE("format: csv\nmapping: fhir-patient\n"), "mapping: belongs to fhir and postgres"},
        {SOURCE("format: fhir\nmapping: m\ndatabase: {connection: service=x}\n"),
         "database: belongs to format: postgres"},
        {SOURCE("mapping: m\ndatabase: {schema: cdm}\n"), "connection"},
        {SOURCE("mapping: m\ndatabase: {connection: x, password: y}\n"), "unknown key 'password'"},
        {SOURCE("delimiter: \";\"\ndecimal: \",\"\n"), NULL},
        {SOURCE("format: csv\ndelimiter: tab\n"), NULL},
        {SOURCE("delimiter: \":\"\n"), "delimiter"},
        {SOURCE("decimal: \";\"\n"), "decimal"},
        {SOURCE("resource: Patient\n"), "unknown key 'resource'"},
    };
#undef SOURCE
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct proto_manifest manifest;
        struct err_info info;
        enum err err = manifest_of(cases[i].text, &manifest, &info);
        if (err != (cases[i].said ? E_INVALID : E_OK) ||
            (cases[i].said && !strstr(info.text, cases[i].said))) {
            fail_msg("case %zu: %s", i, info.text);
        }
        if (i == 2) {
            assert_string_equal(manifest.connection, "service=x");
            assert_string_equal(manifest.database_schema, "cdm");
        }
        proto_manifest_fini(&manifest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bare_dates_are_whole_days),
        cmocka_unit_test(test_contract_manifest),
        cmocka_unit_test(test_manifest_sources),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_schema_hash),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_job),
        cmocka_unit_test(test_node_round_trip),
        cmocka_unit_test(test_unlock),
        cmocka_unit_test(test_url),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
