/* The dataset manifest: what a site declares about a table before any row is read, and the licence
 * that it gives to it. YAML is only its syntax (node/config/yaml.h); this is the value, its checks,
 * and its way into DATASET and LICENCE records.
 *
 *     struct proto_manifest manifest = {0};
 *     enum err err = config_yaml_manifest(path, &manifest, reterr);      // fills and checks
 *     ...
 *     proto_manifest_fini(&manifest);
 *
 * Threads: read-only once checked. Memory: all lists and strings belong to manifest.arena. */
#ifndef CONCORDAT_PROTO_MANIFEST_H
#define CONCORDAT_PROTO_MANIFEST_H

#include "proto/licence.h"
#include "proto/schema.h"

#define PROTO_MANIFEST_LIST_MAX 64 /* institutions, countries, diseases, parameters */
#define PROTO_EPSILON_MAX       1e6
#define PROTO_DELTA_MIN         1e-12 /* the unit in which records store it */
#define PROTO_DELTA_MAX         0.1
#define PROTO_DOMAIN_DEFAULT    "default"

enum proto_when {
    PROTO_WHEN_USE,
    PROTO_WHEN_PUBLISH,
    PROTO_WHEN_RELEASE_MODEL,
};

/* How the rows are written; NONE: as the name of their file says, else csv. */
enum proto_format {
    PROTO_FORMAT_NONE,
    PROTO_FORMAT_CSV,
    PROTO_FORMAT_NDJSON,
    PROTO_FORMAT_CONLL,
    PROTO_FORMAT_FHIR,     /* resources, flattened by a mapping */
    PROTO_FORMAT_POSTGRES, /* the rows of a database, by the query of a mapping */
};

/* What stands between the fields of CSV, and in its real numbers before the fraction. */
enum proto_delimiter {
    PROTO_DELIMITER_COMMA,
    PROTO_DELIMITER_SEMICOLON,
    PROTO_DELIMITER_TAB,
    PROTO_DELIMITER_BAR,
};
enum proto_decimal {
    PROTO_DECIMAL_POINT,
    PROTO_DECIMAL_COMMA
};

struct proto_text_list {
    const char **items;
    size_t count;
};

struct proto_manifest_obligation {
    const char *id;
    const char *text; /* "" when absent */
    enum proto_when when;
};

struct proto_manifest_modifier {
    const char *code; /* as written: "DUO:0000018" or "NPUNCU" */
    struct proto_text_list params;
};

struct proto_manifest_visa {
    const char *type;
    const char *value;
    struct proto_text_list by;
    struct proto_text_list issuers;
};

struct proto_manifest_grant {
    const char *permission; /* as written: "DUO:0000042" or "GRU" */
    struct proto_text_list diseases;
    struct proto_manifest_modifier *modifiers;
    size_t modifier_count;
    struct proto_manifest_visa *visas;
    size_t visa_count;
    struct proto_text_list actions; /* names, at least one */
    struct proto_text_list columns; /* empty: all */
    uint64_t min_cohort;
    uint64_t min_sites;
    enum proto_mode mode;
    bool visible_site;
    enum proto_mechanism mechanism;
    double epsilon_total;
    double epsilon_per_query;
    double epsilon_per_job;
    double delta;
    double min_noise; /* multiples of the sensitivity; 0: none stated */
    bool has_unit;
    enum proto_unit unit; /* absent: patient where the schema names a unit column, else row */
    uint64_t window_ms;
    enum proto_scope scope;
    bool has_finetune;
    uint64_t max_rounds;
    enum proto_release release;
    double clip;             /* 0: none stated */
    double noise_multiplier; /* 0: none stated */
};

struct proto_manifest_licence {
    const char *spdx;
    int64_t not_before; /* 0: from the moment of issue */
    int64_t expires;    /* unix seconds */
    bool has_institutions;
    bool has_users;
    bool has_projects;
    struct proto_text_list institutions;
    struct proto_text_list users;
    struct proto_text_list projects;
    struct proto_text_list geography; /* ISO 3166-1 codes, EU, EEA as written */
    struct proto_manifest_obligation *obligations;
    size_t obligation_count;
    bool hold;           /* approval: manual */
    const char *contact; /* NULL: none */
    bool survives_revocation;
    struct proto_manifest_grant *grants;
    size_t grant_count;
};

/* How this node's ledger keeps the dataset; other nodes are not told. */
struct proto_manifest_budget {
    char domain[65];           /* of privacy units; "": the node's default one */
    uint64_t window_ms;        /* 0: none */
    double epsilon_per_window; /* what a window may take of epsilon_total */
};

struct proto_manifest {
    char dataset[65];
    char version[33];
    char title[257];
    uint64_t size; /* declared order of magnitude of the number of units */
    enum proto_format format;
    enum proto_delimiter delimiter;
    enum proto_decimal decimal;
    const char
        *mapping; /* of FHIR data and databases: a file, or the name of a ready one; NULL: none */
    const char *connection;      /* of a database: libpq's, without a password; NULL: none */
    const char *database_schema; /* where its tables stand; NULL: the search path of the role */
    const char *exclude;         /* a file of units that have opted out, one a line; NULL: none */
    struct proto_schema schema;  /* declared */
    bool has_licence;
    struct proto_manifest_licence licence;
    struct proto_manifest_budget budget;
    struct arena arena;
};

/* Names, ranges, unit, bounds, categories, de-identification and every part of the licence. Fills
 * what has a default: an absent source becomes the name, max_rows_per_unit 0 becomes 1, per-query
 * and per-job epsilon 0 become the total. Errors: E_INVALID with the text "columns[2].min: reason"
 * (the path names the manifest's field); E_UNSUPPORTED likewise for a de-identification or clause
 * that this version cannot honour. */
MUST_CHECK enum err proto_manifest_check(struct proto_manifest *manifest, struct err_info *reterr);

/* The licence alone, where the table is not known: columns that grants name are taken as they are. Texts and errors as
 * above. */
MUST_CHECK enum err proto_manifest_check_terms(struct proto_manifest *manifest,
                                               struct err_info *reterr);

/* Body of the LICENCE record of a checked manifest. Country macros are expanded and no-reidentify
 * and no-relink are added here. Spans and lists point into the manifest and ARENA: both outlive
 * RET. Errors: E_INVALID (no licence, or it has expired at NOW), E_NO_MEMORY. */
MUST_CHECK enum err proto_manifest_licence_body(const struct proto_manifest *manifest,
                                                const uint8_t schema_hash[PROTO_HASH_SIZE],
                                                int64_t now, struct arena *arena,
                                                struct proto_licence *ret, struct err_info *reterr);
/* Body of the DATASET record: the published schema. PUBLISHED is proto_schema_publish() of the
 * manifest's. */
MUST_CHECK enum err proto_manifest_dataset_body(const struct proto_manifest *manifest,
                                                const struct proto_schema *published,
                                                const uint8_t schema_hash[PROTO_HASH_SIZE],
                                                struct arena *arena, struct proto_dataset *ret,
                                                struct err_info *reterr);
/* The published schema back from a record, checked: a peer's record is input. Strings are copied
 * into ARENA. Errors: E_INVALID, E_LIMIT, E_NO_MEMORY. */
MUST_CHECK enum err proto_dataset_schema(const struct proto_dataset *dataset, struct arena *arena,
                                         struct proto_schema *ret, struct err_info *reterr);

void proto_manifest_fini(struct proto_manifest *manifest);

#endif
