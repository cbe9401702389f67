/* The rows of a dataset manifest. What they mean is checked by proto/manifest. */
#include "config.h"
#include "node/config/bind.h"
#include "node/config/yaml.h"

#include <math.h>
#include <stdlib.h>

#include "proto/time.h"

#define COLUMN(m)  offsetof(struct proto_column, m)
#define GRANT(m)   offsetof(struct proto_manifest_grant, m)
#define LICENCE(m) offsetof(struct proto_manifest_licence, m)
#define TOP(m)     offsetof(struct proto_manifest, m)

static const char *const type_names[] = {"integer", "real",   "category", "boolean", "date",
                                         "text",    "tokens", "tags",     NULL};
static const char *const deidentify_names[] = {
    "none", "drop", "pseudonym", "age90",  "year",       "pseudonym-hmac", "dateshift",
    "zip3", "bin",  "top",       "bottom", "generalise", "redact",         NULL};
static const char *const format_names[] = {"auto", "csv",      "ndjson", "conll",
                                           "fhir", "postgres", NULL};
static const char *const delimiter_names[] = {",", ";", "tab", "|", NULL};
static const char *const decimal_names[] = {".", ",", NULL};
static const char *const mode_names[] = {"any", "secure", NULL};
static const char *const mechanism_names[] = {"none", "gaussian", "laplace", NULL};
static const char *const release_names[] = {"federation", "recipients", "public", NULL};
static const char *const when_names[] = {"use", "publish", "release-model", NULL};
static const char *const approval_names[] = {"automatic", "manual", NULL};

/* `values: private` or a list. */
static const char *read_values(void *object, const char *text, struct arena *arena)
{
    (void)arena;
    struct proto_column *column = object;
    column->values_private = strcmp(text, "private") == 0;
    return column->values_private ? NULL : "must be a list, or the word private";
}

/* A column as the file states it: what min and max mean is only known after all its keys. */
struct column_row {
    struct proto_column column;
    bool has_min;
    bool has_max;
    bool min_is_date;
    bool max_is_date;
    bool quasi;
    bool sensitive;
    const char **cuts;
    size_t cut_count;
};

static const char *read_bound(const char *text, double *to, bool *ret_is_date)
{
    int32_t days;
    char *end;
    double value = strtod(text, &end);
    *ret_is_date = proto_time_parse_date(text, &days);
    if (*ret_is_date) {
        value = days;
    } else if (!text[0] || *end || strspn(text, "0123456789+-.eE") != strlen(text) ||
               !isfinite(value)) {
        return "must be a number (of a date: YYYY-MM-DD)";
    }
    *to = value;
    return NULL;
}

static const char *read_min(void *object, const char *text, struct arena *arena)
{
    (void)arena;
    struct column_row *row = object;
    return read_bound(text, &row->column.min, &row->min_is_date);
}

static const char *read_max(void *object, const char *text, struct arena *arena)
{
    (void)arena;
    struct column_row *row = object;
    return read_bound(text, &row->column.max, &row->max_is_date);
}

static const char *read_visible(void *object, const char *text, struct arena *arena)
{
    (void)arena;
    ((struct proto_manifest_grant *)object)->visible_site = strcmp(text, "site") == 0;
    return strcmp(text, "site") == 0 ? NULL : "must be the word site";
}

static const char *read_approval(void *object, const char *text, struct arena *arena)
{
    (void)arena;
    ((struct proto_manifest_licence *)object)->hold = strcmp(text, approval_names[1]) == 0;
    return strcmp(text, approval_names[0]) == 0 || strcmp(text, approval_names[1]) == 0
               ? NULL
               : "must be manual or automatic";
}

static const struct config_row column_rows[] = {
    {.name = "name",
     .type = CONFIG_CHARS,
     .required = true,
     .offset = COLUMN(name),
     .max = PROTO_NAME_SIZE},
    {.name = "type",
     .type = CONFIG_ENUM,
     .required = true,
     .offset = COLUMN(type),
     .names = type_names},
    {.name = "min",
     .type = CONFIG_CUSTOM,
     .present = offsetof(struct column_row, has_min),
     .custom = read_min},
    {.name = "max",
     .type = CONFIG_CUSTOM,
     .present = offsetof(struct column_row, has_max),
     .custom = read_max},
    {.name = "values",
     .type = CONFIG_CUSTOM,
     .offset = COLUMN(values),
     .count_offset = COLUMN(value_count),
     .min = 1,
     .max = PROTO_SCHEMA_VALUE_SIZE - 1,
     .custom = read_values,
     .or_texts = true},
    {.name = "labels",
     .type = CONFIG_TEXTS,
     .offset = COLUMN(values),
     .count_offset = COLUMN(value_count),
     .min = 1,
     .max = PROTO_SCHEMA_VALUE_SIZE - 1},
    {.name = "deidentify",
     .type = CONFIG_ENUM,
     .offset = COLUMN(deidentify),
     .names = deidentify_names},
    {.name = "width", .type = CONFIG_NUMBER, .offset = COLUMN(by.width)},
    {.name = "cuts",
     .type = CONFIG_TEXTS,
     .offset = offsetof(struct column_row, cuts),
     .count_offset = offsetof(struct column_row, cut_count),
     .min = 1,
     .max = 32},
    {.name = "at", .type = CONFIG_NUMBER, .offset = COLUMN(by.at), .present = COLUMN(by.has_at)},
    {.name = "table", .type = CONFIG_TEXT, .offset = COLUMN(by.table), .min = 1, .max = 1024},
    {.name = "level", .type = CONFIG_U32, .offset = COLUMN(by.level), .min = 1, .max = 16},
    {.name = "birth", .type = CONFIG_BOOL, .offset = COLUMN(birth)},
    {.name = "quasi", .type = CONFIG_BOOL, .offset = offsetof(struct column_row, quasi)},
    {.name = "sensitive", .type = CONFIG_BOOL, .offset = offsetof(struct column_row, sensitive)},
    {.name = "source", .type = CONFIG_CHARS, .offset = COLUMN(source), .max = 128},
    {.name = "missing",
     .type = CONFIG_TEXTS,
     .offset = COLUMN(missing),
     .count_offset = COLUMN(missing_count),
     .min = 0,
     .max = PROTO_SCHEMA_VALUE_SIZE - 1},
    {.name = "ucum", .type = CONFIG_CHARS, .offset = COLUMN(ucum), .max = 32},
    {.name = "code", .type = CONFIG_CHARS, .offset = COLUMN(code), .max = 64},
    CONFIG_ROWS_END,
};

static const char *const unit_names[] = {"patient", "row", NULL};
static const char *const scope_names[] = {"dataset", "purpose", "requester", NULL};

static const struct config_row modifier_rows[] = {
    {.name = "code",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = offsetof(struct proto_manifest_modifier, code),
     .min = 1,
     .max = 32},
    {.name = "params",
     .type = CONFIG_TEXTS,
     .offset = offsetof(struct proto_manifest_modifier, params.items),
     .count_offset = offsetof(struct proto_manifest_modifier, params.count),
     .min = 1,
     .max = 256},
    CONFIG_ROWS_END,
};

#define VISA(m) offsetof(struct proto_manifest_visa, m)

static const struct config_row visa_rows[] = {
    {.name = "type",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = VISA(type),
     .min = 1,
     .max = 64},
    {.name = "value",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = VISA(value),
     .min = 1,
     .max = PROTO_VISA_VALUE_MAX},
    {.name = "by",
     .type = CONFIG_TEXTS,
     .offset = VISA(by.items),
     .count_offset = VISA(by.count),
     .min = 1,
     .max = 16},
    {.name = "issuers",
     .type = CONFIG_TEXTS,
     .required = true,
     .offset = VISA(issuers.items),
     .count_offset = VISA(issuers.count),
     .min = 1,
     .max = 64},
    CONFIG_ROWS_END,
};

static const struct config_row privacy_rows[] = {
    {.name = "mechanism",
     .type = CONFIG_ENUM,
     .offset = GRANT(mechanism),
     .names = mechanism_names},
    {.name = "epsilon_total",
     .type = CONFIG_NUMBER,
     .offset = GRANT(epsilon_total),
     .min = 1e-6,
     .max = PROTO_EPSILON_MAX},
    {.name = "epsilon_per_query",
     .type = CONFIG_NUMBER,
     .offset = GRANT(epsilon_per_query),
     .min = 1e-6,
     .max = PROTO_EPSILON_MAX},
    {.name = "epsilon_per_job",
     .type = CONFIG_NUMBER,
     .offset = GRANT(epsilon_per_job),
     .min = 1e-6,
     .max = PROTO_EPSILON_MAX},
    {.name = "delta",
     .type = CONFIG_NUMBER,
     .offset = GRANT(delta),
     .min = PROTO_DELTA_MIN,
     .max = PROTO_DELTA_MAX},
    {.name = "min_noise", .type = CONFIG_NUMBER, .offset = GRANT(min_noise)},
    {.name = "unit",
     .type = CONFIG_ENUM,
     .offset = GRANT(unit),
     .present = GRANT(has_unit),
     .names = unit_names},
    {.name = "window",
     .type = CONFIG_DURATION,
     .offset = GRANT(window_ms),
     .min = 60e3,
     .max = 3660 * 86400e3},
    {.name = "scope", .type = CONFIG_ENUM, .offset = GRANT(scope), .names = scope_names},
    CONFIG_ROWS_END,
};

static const struct config_row finetune_rows[] = {
    {.name = "max_rounds",
     .type = CONFIG_U64,
     .required = true,
     .offset = GRANT(max_rounds),
     .min = 1,
     .max = 10000},
    {.name = "release", .type = CONFIG_ENUM, .offset = GRANT(release), .names = release_names},
    {.name = "clip", .type = CONFIG_NUMBER, .offset = GRANT(clip)},
    {.name = "noise_multiplier", .type = CONFIG_NUMBER, .offset = GRANT(noise_multiplier)},
    CONFIG_ROWS_END,
};

#define TEXTS(m)                                                                                   \
    .type = CONFIG_TEXTS, .offset = GRANT(m.items), .count_offset = GRANT(m.count), .min = 1,      \
    .max = 256

static const struct config_row grant_rows[] = {
    {.name = "permission",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = GRANT(permission),
     .min = 1,
     .max = 32},
    {.name = "disease", TEXTS(diseases)},
    {.name = "modifiers",
     .type = CONFIG_LIST,
     .offset = GRANT(modifiers),
     .count_offset = GRANT(modifier_count),
     .max = PROTO_LICENCE_MODIFIERS_MAX,
     .rows = modifier_rows,
     .element_size = sizeof(struct proto_manifest_modifier)},
    {.name = "visas",
     .type = CONFIG_LIST,
     .offset = GRANT(visas),
     .count_offset = GRANT(visa_count),
     .max = PROTO_LICENCE_VISAS_MAX,
     .rows = visa_rows,
     .element_size = sizeof(struct proto_manifest_visa)},
    {.name = "actions", .required = true, TEXTS(actions)},
    {.name = "columns", TEXTS(columns)},
    {.name = "min_cohort",
     .type = CONFIG_U64,
     .offset = GRANT(min_cohort),
     .min = 2,
     .max = 1000000},
    {.name = "min_sites", .type = CONFIG_U64, .offset = GRANT(min_sites), .min = 1, .max = 1000},
    {.name = "mode", .type = CONFIG_ENUM, .offset = GRANT(mode), .names = mode_names},
    {.name = "visible", .type = CONFIG_CUSTOM, .custom = read_visible},
    {.name = "privacy", .type = CONFIG_MAP, .required = true, .rows = privacy_rows},
    {.name = "finetune", .type = CONFIG_MAP, .present = GRANT(has_finetune), .rows = finetune_rows},
    CONFIG_ROWS_END,
};

static void grant_defaults(void *element)
{
    struct proto_manifest_grant *grant = element;
    grant->min_cohort = 11;
    grant->min_sites = 1;
    grant->mechanism = PROTO_MECHANISM_GAUSSIAN;
    grant->delta = 1e-6;
}

#define RECIPIENTS(name_, most)                                                                    \
    {                                                                                              \
        .name = #name_, .type = CONFIG_TEXTS, .offset = LICENCE(name_.items),                      \
        .count_offset = LICENCE(name_.count), .present = LICENCE(has_##name_), .min = 1,           \
        .max = most                                                                                \
    }

static const struct config_row recipient_rows[] = {
    RECIPIENTS(institutions, 64),
    RECIPIENTS(users, 128),
    RECIPIENTS(projects, 128),
    CONFIG_ROWS_END,
};

#define OBLIGATION(m) offsetof(struct proto_manifest_obligation, m)

static const struct config_row obligation_rows[] = {
    {.name = "id",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = OBLIGATION(id),
     .min = 1,
     .max = 64},
    {.name = "text", .type = CONFIG_TEXT, .offset = OBLIGATION(text), .max = 256},
    {.name = "when", .type = CONFIG_ENUM, .offset = OBLIGATION(when), .names = when_names},
    CONFIG_ROWS_END,
};

static void obligation_defaults(void *element)
{
    ((struct proto_manifest_obligation *)element)->text = "";
}

static const struct config_row licence_rows[] = {
    {.name = "spdx",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = LICENCE(spdx),
     .min = 1,
     .max = 256},
    {.name = "not_before", .type = CONFIG_TIME_FROM, .offset = LICENCE(not_before)},
    {.name = "expires", .type = CONFIG_TIME, .required = true, .offset = LICENCE(expires)},
    {.name = "geography",
     .type = CONFIG_TEXTS,
     .offset = LICENCE(geography.items),
     .count_offset = LICENCE(geography.count),
     .min = 2,
     .max = 8},
    {.name = "recipients", .type = CONFIG_MAP, .rows = recipient_rows},
    {.name = "obligations",
     .type = CONFIG_LIST,
     .offset = LICENCE(obligations),
     .count_offset = LICENCE(obligation_count),
     .max = PROTO_LICENCE_OBLIGATIONS_MAX - 2,
     .rows = obligation_rows,
     .element_size = sizeof(struct proto_manifest_obligation),
     .defaults = obligation_defaults},
    {.name = "approval", .type = CONFIG_CUSTOM, .custom = read_approval},
    {.name = "contact", .type = CONFIG_TEXT, .offset = LICENCE(contact), .min = 1, .max = 256},
    {.name = "survives_revocation", .type = CONFIG_BOOL, .offset = LICENCE(survives_revocation)},
    {.name = "grants",
     .type = CONFIG_LIST,
     .required = true,
     .offset = LICENCE(grants),
     .count_offset = LICENCE(grant_count),
     .min = 1,
     .max = PROTO_LICENCE_GRANTS_MAX,
     .rows = grant_rows,
     .element_size = sizeof(struct proto_manifest_grant),
     .defaults = grant_defaults},
    CONFIG_ROWS_END,
};

static const struct config_row database_rows[] = {
    {.name = "connection",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = TOP(connection),
     .min = 1,
     .max = 1024},
    {.name = "schema", .type = CONFIG_TEXT, .offset = TOP(database_schema), .min = 1, .max = 63},
    CONFIG_ROWS_END,
};

/* The manifest, and its columns before their bounds are settled. */
struct manifest_file {
    struct proto_manifest manifest;
    struct column_row *columns;
    size_t column_count;
};

static const struct config_row budget_rows[] = {
    {.name = "domain", .type = CONFIG_CHARS, .offset = TOP(budget.domain), .max = 65},
    {.name = "window",
     .type = CONFIG_DURATION,
     .offset = TOP(budget.window_ms),
     .min = 60e3,
     .max = 3660 * 86400e3},
    {.name = "epsilon_per_window", .type = CONFIG_NUMBER, .offset = TOP(budget.epsilon_per_window)},
    CONFIG_ROWS_END,
};

static const struct config_row manifest_rows[] = {
    {.name = "dataset", .type = CONFIG_CHARS, .required = true, .offset = TOP(dataset), .max = 65},
    {.name = "version", .type = CONFIG_CHARS, .required = true, .offset = TOP(version), .max = 33},
    {.name = "title", .type = CONFIG_CHARS, .offset = TOP(title), .max = 257},
    {.name = "unit", .type = CONFIG_CHARS, .offset = TOP(schema.unit), .max = PROTO_NAME_SIZE},
    {.name = "max_rows_per_unit",
     .type = CONFIG_U32,
     .offset = TOP(schema.max_rows_per_unit),
     .min = 1,
     .max = PROTO_SCHEMA_ROWS_MAX},
    {.name = "max_nodes_per_unit",
     .type = CONFIG_U32,
     .offset = TOP(schema.max_nodes_per_unit),
     .min = 1,
     .max = PROTO_SCHEMA_NODES_MAX},
    {.name = "size", .type = CONFIG_U64, .offset = TOP(size), .min = 1, .max = 1e9},
    {.name = "exclude", .type = CONFIG_TEXT, .offset = TOP(exclude), .min = 1, .max = 1024},
    {.name = "mapping", .type = CONFIG_TEXT, .offset = TOP(mapping), .min = 1, .max = 1024},
    {.name = "database", .type = CONFIG_MAP, .rows = database_rows},
    {.name = "format", .type = CONFIG_ENUM, .offset = TOP(format), .names = format_names},
    {.name = "delimiter", .type = CONFIG_ENUM, .offset = TOP(delimiter), .names = delimiter_names},
    {.name = "decimal", .type = CONFIG_ENUM, .offset = TOP(decimal), .names = decimal_names},
    {.name = "columns",
     .type = CONFIG_LIST,
     .required = true,
     .offset = offsetof(struct manifest_file, columns),
     .count_offset = offsetof(struct manifest_file, column_count),
     .min = 1,
     .max = PROTO_SCHEMA_COLUMNS_MAX,
     .rows = column_rows,
     .element_size = sizeof(struct column_row)},
    {.name = "licence",
     .type = CONFIG_MAP,
     .present = TOP(has_licence),
     .offset = TOP(licence),
     .rows = licence_rows},
    {.name = "budget", .type = CONFIG_MAP, .rows = budget_rows},
    CONFIG_ROWS_END,
};

/* A date is bounded by dates, or by years: then the first and the last day of these are meant. */
static const char *settle_bound(enum proto_column_type type, bool is_date, bool upper,
                                double *bound)
{
    if (type != PROTO_COLUMN_DATE || is_date) {
        return is_date && type != PROTO_COLUMN_DATE ? "a date bounds dates only" : NULL;
    }
    if (!(*bound >= 1 && *bound <= 9999 && floor(*bound) == *bound)) {
        return "a date is bounded by YYYY-MM-DD or by a year";
    }
    *bound =
        upper ? proto_time_days((int32_t)*bound, 12, 31) : proto_time_days((int32_t)*bound, 1, 1);
    return NULL;
}

static enum err settle_bounds(struct column_row *row, size_t i, struct err_info *reterr)
{
    struct proto_column *column = &row->column;
    if (row->has_min != row->has_max) {
        return proto_err_set(reterr, E_INVALID, "columns[%zu]: min and max need each other", i);
    }
    column->has_bounds = row->has_min;
    if (!row->has_min) {
        return E_OK;
    }
    const char *why = settle_bound(column->type, row->min_is_date, false, &column->min);
    if (why) {
        return proto_err_set(reterr, E_INVALID, "columns[%zu].min: %s", i, why);
    }
    why = settle_bound(column->type, row->max_is_date, true, &column->max);
    return why ? proto_err_set(reterr, E_INVALID, "columns[%zu].max: %s", i, why) : E_OK;
}

static enum err settle_cuts(struct column_row *row, size_t i, struct arena *arena,
                            struct err_info *reterr)
{
    struct proto_deidentify_by *by = &row->column.by;
    if (row->cut_count > PROTO_CUTS_MAX) {
        return proto_err_set(reterr, E_INVALID, "columns[%zu].cuts: more than %d", i,
                             PROTO_CUTS_MAX);
    }
    by->cuts = arena_alloc(arena, row->cut_count + 1, sizeof *by->cuts);
    if (!by->cuts) {
        return E_NO_MEMORY;
    }
    for (size_t j = 0; j < row->cut_count; j++) {
        bool is_date;
        if (read_bound(row->cuts[j], &by->cuts[j], &is_date) || is_date) {
            return proto_err_set(reterr, E_INVALID, "columns[%zu].cuts: must be numbers", i);
        }
    }
    by->cut_count = row->cut_count;
    return E_OK;
}

static enum err check_manifest(void *object, struct err_info *reterr)
{
    struct manifest_file *file = object;
    struct proto_manifest *manifest = &file->manifest;
    manifest->schema.columns =
        arena_alloc(&manifest->arena, file->column_count, sizeof *manifest->schema.columns);
    if (!manifest->schema.columns) {
        return E_NO_MEMORY;
    }
    manifest->schema.count = file->column_count;
    for (size_t i = 0; i < file->column_count; i++) {
        struct column_row *row = &file->columns[i];
        enum err err = settle_bounds(row, i, reterr);
        err = err ? err : settle_cuts(row, i, &manifest->arena, reterr);
        if (!err && row->quasi && row->sensitive) {
            err = proto_err_set(reterr, E_INVALID,
                                "columns[%zu].sensitive: a column is quasi or sensitive, not both",
                                i);
        }
        if (err) {
            return err;
        }
        row->column.risk = row->quasi       ? PROTO_RISK_QUASI
                           : row->sensitive ? PROTO_RISK_SENSITIVE
                                            : PROTO_RISK_NONE;
        manifest->schema.columns[i] = row->column;
    }
    return proto_manifest_check(manifest, reterr);
}

static const struct config_row terms_rows[] = {
    {.name = "licence",
     .type = CONFIG_MAP,
     .required = true,
     .present = TOP(has_licence),
     .offset = TOP(licence),
     .rows = licence_rows},
    CONFIG_ROWS_END,
};

static enum err check_terms(void *object, struct err_info *reterr)
{
    return proto_manifest_check_terms(object, reterr);
}

enum err config_yaml_licence_bytes(struct span bytes, const char *name, struct proto_manifest *ret,
                                   struct err_info *reterr)
{
    struct proto_manifest manifest = {.dataset = "dataset", .version = "1", .size = 1000};
    enum err err =
        config_bind(bytes, name, terms_rows, &manifest, &manifest.arena, check_terms, reterr);
    *ret = manifest;
    return err;
}

enum err config_yaml_manifest_bytes(struct span bytes, const char *name, struct proto_manifest *ret,
                                    struct err_info *reterr)
{
    struct manifest_file file = {.manifest.size = 1000, .manifest.schema.max_rows_per_unit = 1};
    enum err err = config_bind(bytes, name, manifest_rows, &file, &file.manifest.arena,
                               check_manifest, reterr);
    *ret = file.manifest;
    return err;
}

enum err config_yaml_manifest(const char *path, struct proto_manifest *ret, struct err_info *reterr)
{
    struct buf bytes = {0};
    enum err err = config_read_file(path, &bytes, reterr);
    err = err ? err : config_yaml_manifest_bytes(buf_span(&bytes), path, ret, reterr);
    buf_fini(&bytes);
    return err;
}
