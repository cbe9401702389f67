#include "config.h"
#include "proto/manifest.h"

#include <math.h>

#include "proto/codec.h"
#include "proto/duo.h"
#include "proto/ontology.h"
#include "proto/request.h"
#include "proto/spdx_terms.h"
#include "proto/time.h"

static const char *const when_names[] = {"use", "publish", "release-model"};

/* ---- checks -------------------------------------------------------------------------------- */

static bool label_valid(const char *text, size_t max)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return false;
        }
    }
    return len <= max && proto_utf8_valid(span_str(text));
}

/* Types that an operation takes, and what is said otherwise. */
static const struct {
    unsigned types; /* bits of enum proto_column_type */
    const char *needs;
} operations[PROTO_DEID_COUNT] = {
#define TYPE(t) (1U << PROTO_COLUMN_##t)
    [PROTO_DEID_PSEUDONYM] = {TYPE(TEXT), "a pseudonym is text; declare type: text"},
    [PROTO_DEID_PSEUDONYM_HMAC] = {TYPE(TEXT), "a pseudonym is text; declare type: text"},
    [PROTO_DEID_AGE90] = {TYPE(INTEGER), "age90 needs an integer with min below 90"},
    [PROTO_DEID_YEAR] = {TYPE(DATE), "year needs a date"},
    [PROTO_DEID_DATESHIFT] = {TYPE(DATE), "dateshift needs a date"},
    [PROTO_DEID_ZIP3] = {TYPE(TEXT) | TYPE(CATEGORY),
                         "zip3 needs text or a category (numbers lose leading zeros)"},
    [PROTO_DEID_BIN] = {TYPE(INTEGER) | TYPE(REAL), "bin needs an integer or a real"},
    [PROTO_DEID_TOP] = {TYPE(INTEGER) | TYPE(REAL), "top needs an integer or a real"},
    [PROTO_DEID_BOTTOM] = {TYPE(INTEGER) | TYPE(REAL), "bottom needs an integer or a real"},
    [PROTO_DEID_GENERALISE] = {TYPE(TEXT) | TYPE(CATEGORY), "generalise needs text or a category"},
    [PROTO_DEID_REDACT] = {TYPE(TEXT), "redact needs text"},
#undef TYPE
};

static const char *check_bin(const struct proto_column *column)
{
    const struct proto_deidentify_by *by = &column->by;
    bool whole = column->type == PROTO_COLUMN_INTEGER;
    if ((by->width != 0) == (by->cut_count != 0)) {
        return "bin needs width: or cuts:, one of them";
    }
    if (by->width != 0 &&
        !(by->width > 0 && by->width <= 1e15 && (!whole || floor(by->width) == by->width))) {
        return "width must be above 0 (of an integer column a whole number)";
    }
    for (size_t i = 0; i < by->cut_count; i++) {
        if (!(fabs(by->cuts[i]) <= 1e15) || (i && !(by->cuts[i - 1] < by->cuts[i])) ||
            (whole && floor(by->cuts[i]) != by->cuts[i])) {
            return "cuts must ascend (of an integer column whole numbers)";
        }
    }
    if (by->cut_count && !column->has_bounds) {
        return "cuts need min and max: what lies below the first becomes min";
    }
    if (by->cut_count && (by->cuts[0] < column->min || by->cuts[by->cut_count - 1] > column->max)) {
        return "cuts must lie between min and max";
    }
    bool one = column->has_bounds &&
               proto_column_bin(column, column->min) >= proto_column_bin(column, column->max);
    return one ? "all values would fall into one class" : NULL;
}

/* NULL, or what the operation's own keys lack. */
static const char *check_by(const struct proto_column *column)
{
    const struct proto_deidentify_by *by = &column->by;
    enum proto_deidentify op = column->deidentify;
    if (op != PROTO_DEID_BIN && (by->width != 0 || by->cut_count)) {
        return "width and cuts belong to bin";
    }
    if (op != PROTO_DEID_TOP && op != PROTO_DEID_BOTTOM && by->has_at) {
        return "at belongs to top and bottom";
    }
    if (op != PROTO_DEID_GENERALISE && (by->level || (by->table && op != PROTO_DEID_ZIP3))) {
        return "table belongs to generalise and zip3, level to generalise";
    }
    switch (op) {
    case PROTO_DEID_AGE90:
        return column->has_bounds && column->min >= 90 ? operations[op].needs : NULL;
    case PROTO_DEID_BIN:
        return check_bin(column);
    case PROTO_DEID_TOP:
    case PROTO_DEID_BOTTOM:
        if (!by->has_at || !(fabs(by->at) <= 1e15) ||
            (column->type == PROTO_COLUMN_INTEGER && floor(by->at) != by->at)) {
            return "top and bottom need at: NUMBER (of an integer column a whole one)";
        }
        return column->has_bounds && !(column->min < by->at && by->at < column->max)
                   ? "at must lie between min and max"
                   : NULL;
    case PROTO_DEID_GENERALISE:
        return by->table ? NULL : "generalise needs table: FILE";
    default:
        return NULL;
    }
}

/* Which operation fits which type and place. */
static enum err check_deidentify(const struct proto_schema *schema, size_t i,
                                 struct err_info *reterr)
{
    const struct proto_column *column = &schema->columns[i];
    enum proto_deidentify op = column->deidentify;
    bool is_unit = strcmp(column->name, schema->unit) == 0 && schema->unit[0];
    if (is_unit && op != PROTO_DEID_NONE && op != PROTO_DEID_PSEUDONYM &&
        op != PROTO_DEID_PSEUDONYM_HMAC) {
        return proto_err_set(reterr, E_INVALID,
                             "columns[%zu].deidentify: the unit column cannot be '%s'; patients "
                             "could not be told apart",
                             i, proto_deidentify_name(op));
    }
    if ((unsigned)op < PROTO_DEID_COUNT && operations[op].types &&
        !(operations[op].types & 1U << column->type)) {
        return proto_err_set(reterr, E_INVALID, "columns[%zu].deidentify: %s", i,
                             operations[op].needs);
    }
    if (op == PROTO_DEID_DATESHIFT && !schema->unit[0]) {
        return proto_err_set(
            reterr, E_INVALID,
            "columns[%zu].deidentify: dateshift needs unit:, as all dates of a patient move alike",
            i);
    }
    if (column->birth && op != PROTO_DEID_YEAR && op != PROTO_DEID_DATESHIFT &&
        op != PROTO_DEID_DROP) {
        return proto_err_set(
            reterr, E_INVALID,
            "columns[%zu].birth: a date of birth needs deidentify: year, dateshift or drop", i);
    }
    const char *lacks = check_by(column);
    return lacks ? proto_err_set(reterr, E_INVALID, "columns[%zu].deidentify: %s", i, lacks) : E_OK;
}

static enum err check_columns(struct proto_schema *schema, struct err_info *reterr)
{
    size_t kept = 0;
    for (size_t i = 0; i < schema->count; i++) {
        struct proto_column *column = &schema->columns[i];
        if (!column->source[0]) {
            memcpy(column->source, column->name, sizeof column->name);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(schema->columns[j].source, column->source) == 0) {
                return proto_err_set(
                    reterr, E_INVALID,
                    "columns[%zu]: columns[%zu] takes the same column '%s' of the file", i, j,
                    column->source);
            }
        }
        if (column->missing_count > PROTO_SCHEMA_MISSING_MAX) {
            return proto_err_set(reterr, E_INVALID, "columns[%zu].missing: more than %d", i,
                                 PROTO_SCHEMA_MISSING_MAX);
        }
        enum err err = check_deidentify(schema, i, reterr);
        if (err) {
            return err;
        }
        kept += column->deidentify != PROTO_DEID_DROP;
    }
    return kept ? E_OK
                : proto_err_set(reterr, E_INVALID,
                                "columns: all are dropped, nothing would be stored");
}

static enum err check_privacy(struct proto_manifest_grant *grant, uint64_t permission, size_t i,
                              struct err_info *reterr)
{
    if (grant->mechanism == PROTO_MECHANISM_LAPLACE) {
        return proto_err_set(
            reterr, E_UNSUPPORTED,
            "licence.grants[%zu].privacy.mechanism: this version adds Gaussian noise only", i);
    }
    if (grant->mechanism == PROTO_MECHANISM_NONE &&
        (permission != PROTO_DUO_NRES || !grant->visible_site)) {
        return proto_err_set(reterr, E_INVALID,
                             "licence.grants[%zu].privacy.mechanism: none needs permission "
                             "DUO:0000004 and visible: site",
                             i);
    }
    if (grant->mechanism == PROTO_MECHANISM_NONE) {
        grant->delta = 0; /* the default of a key that means nothing here */
        return grant->epsilon_total == 0 && grant->epsilon_per_query == 0 &&
                       grant->epsilon_per_job == 0
                   ? E_OK
                   : proto_err_set(reterr, E_INVALID,
                                   "licence.grants[%zu].privacy: mechanism none has no epsilon", i);
    }
    if (!(grant->epsilon_total >= 1e-6 && grant->epsilon_total <= PROTO_EPSILON_MAX)) {
        return proto_err_set(reterr, E_INVALID,
                             "licence.grants[%zu].privacy.epsilon_total: must be 1e-6 to %g", i,
                             PROTO_EPSILON_MAX);
    }
    if (grant->epsilon_per_query == 0) {
        grant->epsilon_per_query = grant->epsilon_total;
    }
    if (grant->epsilon_per_job == 0 && grant->has_finetune) {
        grant->epsilon_per_job = grant->epsilon_total;
    }
    if (!(grant->epsilon_per_query >= 1e-6 && grant->epsilon_per_query <= grant->epsilon_total)) {
        return proto_err_set(
            reterr, E_INVALID,
            "licence.grants[%zu].privacy.epsilon_per_query: must be 1e-6 to epsilon_total", i);
    }
    if (grant->epsilon_per_job != 0 &&
        !(grant->epsilon_per_job >= 1e-6 && grant->epsilon_per_job <= grant->epsilon_total)) {
        return proto_err_set(
            reterr, E_INVALID,
            "licence.grants[%zu].privacy.epsilon_per_job: must be 1e-6 to epsilon_total", i);
    }
    if (!(grant->delta >= PROTO_DELTA_MIN && grant->delta <= PROTO_DELTA_MAX)) {
        return proto_err_set(reterr, E_INVALID,
                             "licence.grants[%zu].privacy.delta: must be %g to %g", i,
                             PROTO_DELTA_MIN, PROTO_DELTA_MAX);
    }
    return E_OK;
}

/* What only some grants state. */
static enum err check_terms(const struct proto_schema *schema, struct proto_manifest_grant *grant,
                            size_t i, struct err_info *reterr)
{
    enum proto_unit unit = schema->unit[0] ? PROTO_UNIT_PATIENT : PROTO_UNIT_ROW;
    if (schema->count == 0) { /* the table is not known */
        unit = grant->has_unit ? grant->unit : PROTO_UNIT_PATIENT;
    }
    if (grant->has_unit && grant->unit != unit) {
        return proto_err_set(reterr, E_INVALID, "licence.grants[%zu].privacy.unit: the manifest %s",
                             i,
                             schema->unit[0] ? "names a unit column, so it is patient"
                                             : "names no `unit:` column, so it is row");
    }
    grant->unit = unit;
    if (grant->window_ms != 0 && (grant->window_ms < 60000 || grant->window_ms % 1000 != 0 ||
                                  grant->window_ms > UINT64_C(3660) * 86400000)) {
        return proto_err_set(
            reterr, E_INVALID,
            "licence.grants[%zu].privacy.window: must be whole seconds, 60s to 3660d", i);
    }
    if (grant->scope != PROTO_SCOPE_DATASET) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "licence.grants[%zu].privacy.scope: this version keeps one budget for "
                             "the whole dataset",
                             i);
    }
    if (!(grant->min_noise >= 0 && grant->min_noise <= 1e6)) {
        return proto_err_set(reterr, E_INVALID,
                             "licence.grants[%zu].privacy.min_noise: must be 0 to 1000000", i);
    }
    if (!(grant->clip >= 0 && grant->clip <= 1e6) ||
        !(grant->noise_multiplier >= 0 && grant->noise_multiplier <= 1e6)) {
        return proto_err_set(
            reterr, E_INVALID,
            "licence.grants[%zu].finetune: clip and noise_multiplier must be 0 to 1000000", i);
    }
    return E_OK;
}

static enum err check_actions(const struct proto_manifest_grant *grant, size_t i,
                              struct err_info *reterr)
{
    bool finetune = false;
    for (size_t j = 0; j < grant->actions.count; j++) {
        enum proto_action action;
        if (!proto_action_by_name(grant->actions.items[j], &action)) {
            const char *near = proto_action_nearest(grant->actions.items[j]);
            return proto_err_set(reterr, E_INVALID,
                                 "licence.grants[%zu].actions[%zu]: no action is named '%.32s'%s%s",
                                 i, j, grant->actions.items[j], near ? "; the nearest is " : "",
                                 near ? near : "");
        }
        finetune |= action == PROTO_ACTION_FINETUNE;
    }
    if (!grant->actions.count) {
        return proto_err_set(reterr, E_INVALID, "licence.grants[%zu].actions: at least one", i);
    }
    if (finetune != grant->has_finetune) {
        return proto_err_set(
            reterr, E_INVALID,
            "licence.grants[%zu].actions: finetune and the block `finetune:` need each other", i);
    }
    return E_OK;
}

static bool is_date(const char *text)
{
    int64_t time;
    return proto_time_parse(text, &time);
}

/* How many parameters a modifier takes, and of which sort. */
enum param_kind {
    PARAM_NONE,
    PARAM_NAME,
    PARAM_PLACE,
    PARAM_RESEARCH,
    PARAM_DATE,
    PARAM_LIMIT, /* months or a date */
};
static const struct {
    uint64_t code;
    enum param_kind kind;
    size_t least;
    size_t most;
} params[] = {
    {PROTO_DUO_RS, PARAM_RESEARCH, 1, PROTO_MANIFEST_LIST_MAX},
    {PROTO_DUO_GS, PARAM_PLACE, 1, PROTO_MANIFEST_LIST_MAX},
    {PROTO_DUO_MOR, PARAM_DATE, 1, 1},
    {PROTO_DUO_TS, PARAM_LIMIT, 1, 1},
    {PROTO_DUO_US, PARAM_NAME, 1, PROTO_MANIFEST_LIST_MAX},
    {PROTO_DUO_PS, PARAM_NAME, 1, PROTO_MANIFEST_LIST_MAX},
    {PROTO_DUO_IS, PARAM_NAME, 1, PROTO_MANIFEST_LIST_MAX},
    {PROTO_DUO_COL, PARAM_NAME, 0, PROTO_MANIFEST_LIST_MAX},
    {PROTO_DUO_RTN, PARAM_NAME, 0, PROTO_MANIFEST_LIST_MAX},
};

static bool is_months(const char *text)
{
    int32_t months;
    return proto_time_parse_months(text, &months) && months > 0;
}

static enum err check_param(enum param_kind kind, const char *text, struct err_info *reterr)
{
    struct proto_text one = {span_str(text)};
    struct proto_list list = {&one, 1};
    uint64_t research;
    switch (kind) {
    case PARAM_PLACE:
        return proto_geography_check(one.text, reterr);
    case PARAM_RESEARCH:
        return proto_research_parse(&list, &research, reterr);
    case PARAM_DATE:
    case PARAM_LIMIT:
        return is_date(text) || (kind == PARAM_LIMIT && is_months(text))
                   ? E_OK
                   : proto_err_set(reterr, E_INVALID, "not a date%s; write YYYY-MM-DD%s",
                                   kind == PARAM_LIMIT ? " or a number of months" : "",
                                   kind == PARAM_LIMIT ? " or 1 to 999" : "");
    case PARAM_NAME:
        return E_OK;
    case PARAM_NONE:
        break;
    }
    return proto_err_set(reterr, E_INVALID, "it takes no parameters");
}

static enum err check_params(const struct proto_manifest_modifier *modifier, uint64_t code,
                             size_t i, size_t j, struct err_info *reterr)
{
    enum param_kind kind = PARAM_NONE;
    size_t least = 0, most = 0;
    struct err_info why = {0};
    for (size_t k = 0; k < sizeof params / sizeof *params; k++) {
        if (params[k].code == code) {
            kind = params[k].kind;
            least = params[k].least;
            most = params[k].most;
        }
    }
    if (modifier->params.count < least || modifier->params.count > most) {
        return proto_err_set(reterr, E_INVALID,
                             "licence.grants[%zu].modifiers[%zu].params: %s (%s) takes %s", i, j,
                             proto_duo_name(code), proto_duo_label(code),
                             most == 0    ? "none"
                             : most == 1  ? "exactly one"
                             : least == 0 ? "at most 64"
                                          : "at least one");
    }
    for (size_t k = 0; k < modifier->params.count; k++) {
        if (check_param(kind, modifier->params.items[k], &why)) {
            return proto_err_set(reterr, E_INVALID,
                                 "licence.grants[%zu].modifiers[%zu].params[%zu]: '%.32s': %.300s",
                                 i, j, k, modifier->params.items[k], why.text);
        }
    }
    return E_OK;
}

static enum err check_modifiers(const struct proto_manifest_grant *grant, size_t i,
                                struct err_info *reterr)
{
    for (size_t j = 0; j < grant->modifier_count; j++) {
        uint64_t code = 0;
        struct err_info why = {0};
        enum err err = proto_duo_parse(grant->modifiers[j].code, &code, &why);
        if (err) {
            return proto_err_set(reterr, E_INVALID,
                                 "licence.grants[%zu].modifiers[%zu].code: %.200s", i, j, why.text);
        }
        if (!proto_duo_is_modifier(code)) {
            return proto_err_set(reterr, E_INVALID,
                                 "licence.grants[%zu].modifiers[%zu].code: %s is no modifier", i, j,
                                 proto_duo_name(code));
        }
        err = check_params(&grant->modifiers[j], code, i, j, reterr);
        if (err) {
            return err;
        }
    }
    return E_OK;
}

static enum err check_visas(const struct proto_manifest_grant *grant, size_t i,
                            struct err_info *reterr)
{
    for (size_t j = 0; j < grant->visa_count; j++) {
        const struct proto_manifest_visa *visa = &grant->visas[j];
        if (!proto_visa_type_known(span_str(visa->type))) {
            const char *near = proto_visa_type_nearest(visa->type);
            return proto_err_set(reterr, E_INVALID,
                                 "licence.grants[%zu].visas[%zu].type: no visa is a '%.64s'%s%s", i,
                                 j, visa->type, near ? "; the nearest is " : "", near ? near : "");
        }
        for (size_t k = 0; k < visa->by.count; k++) {
            if (!proto_visa_by_known(span_str(visa->by.items[k]))) {
                const char *near = proto_visa_by_nearest(visa->by.items[k]);
                return proto_err_set(reterr, E_INVALID,
                                     "licence.grants[%zu].visas[%zu].by[%zu]: '%.64s' is none of "
                                     "self, peer, system, so, dac%s%s",
                                     i, j, k, visa->by.items[k], near ? "; the nearest is " : "",
                                     near ? near : "");
            }
        }
    }
    return E_OK;
}

static enum err check_grant(const struct proto_schema *schema, struct proto_manifest_grant *grant,
                            size_t i, struct err_info *reterr)
{
    uint64_t permission = 0;
    struct err_info why = {0};
    if (proto_duo_parse(grant->permission, &permission, &why)) {
        return proto_err_set(reterr, E_INVALID, "licence.grants[%zu].permission: %.200s", i,
                             why.text);
    }
    if (!proto_duo_is_permission(permission)) {
        return proto_err_set(reterr, E_INVALID,
                             "licence.grants[%zu].permission: %s is no permission", i,
                             proto_duo_name(permission));
    }
    if ((permission == PROTO_DUO_DS) != (grant->diseases.count > 0)) {
        return proto_err_set(
            reterr, E_INVALID,
            "licence.grants[%zu].permission: DUO:0000007 and `disease:` need each other", i);
    }
    for (size_t j = 0; j < grant->diseases.count; j++) {
        if (proto_curie_check(span_str(grant->diseases.items[j]), &why)) {
            return proto_err_set(reterr, E_INVALID,
                                 "licence.grants[%zu].disease[%zu]: '%.64s': %.200s", i, j,
                                 grant->diseases.items[j], why.text);
        }
    }
    for (size_t j = 0; schema->count && j < grant->columns.count; j++) {
        int at = proto_schema_find(schema, grant->columns.items[j]);
        if (at < 0 || schema->columns[at].deidentify == PROTO_DEID_DROP) {
            const char *near =
                at < 0 ? proto_schema_suggest(schema, grant->columns.items[j]) : NULL;
            return proto_err_set(reterr, E_INVALID,
                                 "licence.grants[%zu].columns[%zu]: there is no column '%.63s'%s%s",
                                 i, j, grant->columns.items[j], near ? "; the nearest is " : "",
                                 near ? near : "");
        }
    }
    enum err err = check_modifiers(grant, i, reterr);
    err = err ? err : check_visas(grant, i, reterr);
    if (!err) {
        err = check_actions(grant, i, reterr);
    }
    err = err ? err : check_privacy(grant, permission, i, reterr);
    return err ? err : check_terms(schema, grant, i, reterr);
}

static enum err check_obligations(const struct proto_manifest_licence *licence,
                                  struct err_info *reterr)
{
    for (size_t i = 0; i < licence->obligation_count; i++) {
        const struct proto_manifest_obligation *obligation = &licence->obligations[i];
        bool commitment;
        if (!proto_obligation_known(span_str(obligation->id), &commitment)) {
            struct span near = proto_obligation_nearest(span_str(obligation->id));
            return proto_err_set(reterr, E_INVALID,
                                 "licence.obligations[%zu].id: unknown obligation '%.64s'%s%.*s", i,
                                 obligation->id, near.len ? "; the nearest is " : "", (int)near.len,
                                 near.len ? (const char *)near.ptr : "");
        }
        bool dated = strcmp(obligation->id, "embargo-until") == 0 ||
                     strcmp(obligation->id, "delete-by") == 0;
        if (dated && !is_date(obligation->text)) {
            return proto_err_set(reterr, E_INVALID,
                                 "licence.obligations[%zu].text: '%.32s' is not a date; write "
                                 "YYYY-MM-DD, such as 2030-12-31",
                                 i, obligation->text);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(licence->obligations[j].id, obligation->id) == 0) {
                return proto_err_set(reterr, E_INVALID,
                                     "licence.obligations[%zu].id: stands there twice", i);
            }
        }
    }
    return E_OK;
}

static enum err check_licence(struct proto_manifest *manifest, struct err_info *reterr)
{
    struct proto_manifest_licence *licence = &manifest->licence;
    struct err_info why = {0};
    struct proto_spdx_terms spdx;
    if (proto_spdx_terms_of(span_str(licence->spdx), PROTO_READING_CONSERVATIVE, &spdx, &why)) {
        return proto_err_set(reterr, E_INVALID, "licence.spdx: %.300s", why.text);
    }
    if (licence->expires <= licence->not_before) {
        return proto_err_set(reterr, E_INVALID, "licence.expires: must be after not_before");
    }
    for (size_t i = 0; i < licence->geography.count; i++) {
        if (proto_geography_check(span_str(licence->geography.items[i]), &why)) {
            return proto_err_set(reterr, E_INVALID, "licence.geography[%zu]: '%.16s' is %.300s", i,
                                 licence->geography.items[i], why.text);
        }
    }
    if (licence->grant_count < 1) {
        return proto_err_set(reterr, E_INVALID, "licence.grants: at least one");
    }
    enum err err = check_obligations(licence, reterr);
    for (size_t i = 0; !err && i < licence->grant_count; i++) {
        err = check_grant(&manifest->schema, &licence->grants[i], i, reterr);
    }
    return err;
}

/* "default" is the name that people give to the domain without a name. */
static enum err check_budget(struct proto_manifest_budget *budget, struct err_info *reterr)
{
    if (strcmp(budget->domain, PROTO_DOMAIN_DEFAULT) == 0) {
        budget->domain[0] = '\0';
    }
    if (budget->domain[0] && !proto_dataset_name_valid(span_str(budget->domain))) {
        return proto_err_set(reterr, E_INVALID,
                             "budget.domain: must match [a-z0-9][a-z0-9._-]{0,63}");
    }
    if ((budget->window_ms > 0) != (budget->epsilon_per_window != 0)) {
        return proto_err_set(reterr, E_INVALID,
                             "budget.window: a window and its epsilon_per_window need each other");
    }
    if (budget->window_ms > 0 &&
        !(budget->epsilon_per_window >= 1e-6 && budget->epsilon_per_window <= PROTO_EPSILON_MAX)) {
        return proto_err_set(reterr, E_INVALID, "budget.epsilon_per_window: must be 1e-6 to %g",
                             PROTO_EPSILON_MAX);
    }
    return E_OK;
}

/* Which keys belong to which format; what the format is may be known from the mapping or the file only. */
static enum err check_format(const struct proto_manifest *manifest, struct err_info *reterr)
{
    enum proto_format format = manifest->format;
    bool mapped = format == PROTO_FORMAT_FHIR || format == PROTO_FORMAT_POSTGRES;
    if (mapped && !manifest->mapping) {
        return proto_err_set(reterr, E_INVALID,
                             "format: fhir and postgres need mapping:, a file or the name of a "
                             "ready one (`concordat dataset mapping` lists them)");
    }
    if (manifest->mapping && !mapped && format != PROTO_FORMAT_NONE) {
        return proto_err_set(reterr, E_INVALID, "mapping: belongs to fhir and postgres");
    }
    bool database = format == PROTO_FORMAT_POSTGRES || format == PROTO_FORMAT_NONE;
    return manifest->connection && !database
               ? proto_err_set(reterr, E_INVALID, "database: belongs to format: postgres")
               : E_OK;
}

enum err proto_manifest_check_terms(struct proto_manifest *manifest, struct err_info *reterr)
{
    return manifest->has_licence
               ? check_licence(manifest, reterr)
               : proto_err_set(reterr, E_INVALID, "licence: is needed, and nothing else");
}

enum err proto_manifest_check(struct proto_manifest *manifest, struct err_info *reterr)
{
    if (!proto_dataset_name_valid(span_str(manifest->dataset))) {
        return proto_err_set(reterr, E_INVALID, "dataset: must match [a-z0-9][a-z0-9._-]{0,63}");
    }
    if (!manifest->version[0] || !label_valid(manifest->version, 32)) {
        return proto_err_set(reterr, E_INVALID, "version: must be 1 to 32 printable bytes");
    }
    if (!label_valid(manifest->title, 256)) {
        return proto_err_set(reterr, E_INVALID, "title: must be printable UTF-8");
    }
    if (manifest->size < 1 || manifest->size > UINT64_C(1000000000)) {
        return proto_err_set(reterr, E_INVALID, "size: must be 1 to 1000000000");
    }
    if (manifest->schema.max_rows_per_unit == 0) {
        manifest->schema.max_rows_per_unit = 1;
    }
    if (manifest->exclude && !manifest->schema.unit[0]) {
        return proto_err_set(reterr, E_INVALID, "exclude: needs unit:, as it names units");
    }
    enum err err = check_budget(&manifest->budget, reterr);
    err = err ? err : check_format(manifest, reterr);
    err = err ? err : proto_schema_check(&manifest->schema, reterr);
    if (!err) {
        err = check_columns(&manifest->schema, reterr);
    }
    return err || !manifest->has_licence ? err : check_licence(manifest, reterr);
}

/* ---- into records -------------------------------------------------------------------------- */

static struct span none_if_empty(const char *text)
{
    return text && text[0] ? span_str(text) : SPAN_NONE;
}

static enum err put_list(const struct proto_text_list *from, struct arena *arena,
                         struct proto_list *ret)
{
    struct proto_text *items = arena_alloc(arena, from->count + 1, sizeof *items);
    if (!items) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < from->count; i++) {
        items[i].text = span_str(from->items[i]);
    }
    *ret = (struct proto_list){items, from->count};
    return E_OK;
}

static bool list_has(const struct proto_list *list, const char *text)
{
    const struct proto_text *items = list->items;
    for (size_t i = 0; i < list->count; i++) {
        if (span_is(items[i].text, text)) {
            return true;
        }
    }
    return false;
}

static void add_place(struct proto_list *list, const char *code)
{
    struct proto_text *items = list->items;
    if (!list_has(list, code)) {
        items[list->count++].text = span_str(code);
    }
}

/* A macro stands for its members, a plain code for itself. */
static enum err put_geography(const struct proto_text_list *from, struct arena *arena,
                              struct proto_list *ret)
{
    const char *const *codes;
    size_t count, total = 0;
    for (size_t i = 0; i < from->count; i++) {
        if (!proto_geography_expand(from->items[i], &codes, &count)) {
            return E_INVALID;
        }
        total += count ? count : 1;
    }
    *ret = (struct proto_list){arena_alloc(arena, total + 1, sizeof(struct proto_text)), 0};
    if (!ret->items) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < from->count; i++) {
        (void)proto_geography_expand(from->items[i], &codes, &count);
        for (size_t j = 0; j < count; j++) {
            add_place(ret, codes[j]);
        }
        if (count == 0) {
            add_place(ret, from->items[i]);
        }
    }
    return E_OK;
}

/* no-reidentify and no-relink hold unless said otherwise, and nothing can say otherwise: DUO has no
 * code for them. */
static enum err put_obligations(const struct proto_manifest_licence *from, struct arena *arena,
                                struct proto_list *ret)
{
    static const char *const always[] = {"no-reidentify", "no-relink"};
    struct proto_obligation *items = arena_alloc(arena, from->obligation_count + 2, sizeof *items);
    if (!items) {
        return E_NO_MEMORY;
    }
    size_t count = 0;
    bool has[2] = {false, false};
    for (size_t i = 0; i < from->obligation_count; i++) {
        const struct proto_manifest_obligation *one = &from->obligations[i];
        items[count++] = (struct proto_obligation){
            span_str(one->id), span_str(when_names[one->when]), none_if_empty(one->text)};
        has[0] |= strcmp(one->id, always[0]) == 0;
        has[1] |= strcmp(one->id, always[1]) == 0;
    }
    for (size_t i = 0; i < 2; i++) {
        if (!has[i]) {
            items[count++] =
                (struct proto_obligation){span_str(always[i]), span_str("use"), SPAN_NONE};
        }
    }
    *ret = (struct proto_list){items, count};
    return E_OK;
}

static enum err put_modifiers(const struct proto_manifest_grant *from, struct arena *arena,
                              struct proto_list *ret, struct err_info *reterr)
{
    struct proto_modifier *items = arena_alloc(arena, from->modifier_count + 1, sizeof *items);
    enum err err = items ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < from->modifier_count; i++) {
        err = proto_duo_parse(from->modifiers[i].code, &items[i].code, reterr);
        if (!err) {
            err = put_list(&from->modifiers[i].params, arena, &items[i].params);
        }
    }
    *ret = (struct proto_list){items, from->modifier_count};
    return err;
}

static enum err put_visas(const struct proto_manifest_grant *from, struct arena *arena,
                          struct proto_list *ret)
{
    struct proto_visa_wanted *items = arena_alloc(arena, from->visa_count + 1, sizeof *items);
    enum err err = items ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < from->visa_count; i++) {
        items[i].type = span_str(from->visas[i].type);
        items[i].value = span_str(from->visas[i].value);
        err = put_list(&from->visas[i].by, arena, &items[i].by);
        err = err ? err : put_list(&from->visas[i].issuers, arena, &items[i].issuers);
    }
    *ret = (struct proto_list){items, from->visa_count};
    return err;
}

/* To the nearest unit: 0.1 is stored as 100000, although its double lies a little above. */
static uint64_t in_units(double value, double per_one)
{
    return (uint64_t)llround(value * per_one);
}

static enum err put_grant(const struct proto_manifest_grant *from, struct arena *arena,
                          struct proto_grant *ret, struct err_info *reterr)
{
    enum err err = proto_duo_parse(from->permission, &ret->permission, reterr);
    for (size_t i = 0; !err && i < from->actions.count; i++) {
        enum proto_action action;
        if (proto_action_by_name(from->actions.items[i], &action)) {
            ret->actions |= PROTO_ACTION_BIT(action);
        }
    }
    err = err ? err : put_list(&from->diseases, arena, &ret->diseases);
    err = err ? err : put_modifiers(from, arena, &ret->modifiers, reterr);
    err = err ? err : put_visas(from, arena, &ret->visas);
    err = err ? err : put_list(&from->columns, arena, &ret->columns);
    ret->has_columns = from->columns.count > 0;
    ret->min_cohort = from->min_cohort;
    ret->min_sites = from->min_sites;
    ret->mode = from->mode;
    ret->visible_site = from->visible_site;
    ret->privacy.mechanism = from->mechanism;
    ret->privacy.epsilon_total_u = in_units(from->epsilon_total, 1e6);
    ret->privacy.epsilon_per_query_u = in_units(from->epsilon_per_query, 1e6);
    ret->privacy.epsilon_per_job_u = in_units(from->epsilon_per_job, 1e6);
    ret->privacy.delta_e12 = in_units(from->delta, 1e12);
    ret->has_finetune = from->has_finetune;
    ret->finetune.max_rounds = from->max_rounds;
    ret->finetune.release = from->release;
    ret->finetune.clip_u = in_units(from->clip, 1e6);
    ret->finetune.noise_mult_u = in_units(from->noise_multiplier, 1e6);
    ret->privacy.min_noise_u = in_units(from->min_noise, 1e6);
    ret->privacy.unit = from->unit;
    ret->privacy.window_s = from->window_ms / 1000;
    ret->privacy.scope = from->scope;
    return err;
}

/* By operation and not by column: the names of dropped columns are nobody's business, and records are short. */
static enum err put_deidentified(const struct proto_schema *schema, struct arena *arena,
                                 struct proto_list *ret)
{
    const char *verdicts[PROTO_DEID_COUNT] = {NULL};
    for (size_t i = 0; i < schema->count; i++) {
        const struct proto_column *column = &schema->columns[i];
        bool is_unit = schema->unit[0] && strcmp(schema->unit, column->name) == 0;
        const char *why;
        const char *verdict = proto_column_safe_harbor(column, is_unit, &why);
        if (column->deidentify != PROTO_DEID_NONE || strcmp(verdict, "no") == 0) {
            verdicts[column->deidentify] = verdict;
        }
    }
    struct proto_text *items = arena_alloc(arena, PROTO_DEID_COUNT, sizeof *items);
    if (!items) {
        return E_NO_MEMORY;
    }
    *ret = (struct proto_list){items, 0};
    for (unsigned op = 0; op < PROTO_DEID_COUNT; op++) {
        if (verdicts[op]) {
            struct buf text = {.max = 64};
            enum err err = buf_printf(
                &text, "%s: %s", proto_deidentify_name((enum proto_deidentify)op), verdicts[op]);
            const char *copy = err ? NULL : arena_strdup(arena, buf_span(&text));
            buf_fini(&text);
            if (!copy) {
                return E_NO_MEMORY;
            }
            items[ret->count++].text = span_str(copy);
        }
    }
    return E_OK;
}

enum err proto_manifest_licence_body(const struct proto_manifest *manifest,
                                     const uint8_t schema_hash[PROTO_HASH_SIZE], int64_t now,
                                     struct arena *arena, struct proto_licence *ret,
                                     struct err_info *reterr)
{
    const struct proto_manifest_licence *from = &manifest->licence;
    if (!manifest->has_licence) {
        return proto_err_set(reterr, E_INVALID, "licence: the manifest of %s grants nothing",
                             manifest->dataset);
    }
    if (from->expires <= now) {
        return proto_err_set(reterr, E_INVALID, "licence.expires: this time has passed");
    }
    struct proto_licence to = {.dataset = span_str(manifest->dataset),
                               .version = span_str(manifest->version),
                               .not_before =
                                   (uint64_t)(from->not_before > 0 ? from->not_before : now),
                               .expires = (uint64_t)from->expires,
                               .spdx = span_str(from->spdx),
                               .recipients = {.has_institutions = from->has_institutions,
                                              .has_users = from->has_users,
                                              .has_projects = from->has_projects},
                               .contact = none_if_empty(from->contact),
                               .survives_revocation = from->survives_revocation,
                               .has_geography = from->geography.count > 0,
                               .hold = from->hold};
    uint8_t *hash = arena_alloc(arena, PROTO_HASH_SIZE, 1);
    struct proto_grant *grants = arena_alloc(arena, from->grant_count + 1, sizeof *grants);
    if (!hash || !grants) {
        return E_NO_MEMORY;
    }
    memcpy(hash, schema_hash, PROTO_HASH_SIZE);
    to.schema_hash = span_of(hash, PROTO_HASH_SIZE);
    enum err err = put_list(&from->institutions, arena, &to.recipients.institutions);
    err = err ? err : put_list(&from->users, arena, &to.recipients.users);
    err = err ? err : put_list(&from->projects, arena, &to.recipients.projects);
    err = err ? err : put_geography(&from->geography, arena, &to.geography);
    err = err ? err : put_obligations(from, arena, &to.obligations);
    for (size_t i = 0; !err && i < from->grant_count; i++) {
        err = put_grant(&from->grants[i], arena, &grants[i], reterr);
    }
    to.grants = (struct proto_list){grants, from->grant_count};
    err = err ? err : put_deidentified(&manifest->schema, arena, &to.deidentified);
    to.has_deidentified = true;
    to.v = proto_licence_version(&to);
    err = err ? err : proto_licence_valid(&to, reterr);
    if (!err) {
        *ret = to;
    }
    return err;
}

static enum err put_column(const struct proto_column *from, struct arena *arena,
                           struct proto_dataset_column *ret)
{
    struct proto_text_list values = {from->values, from->value_count};
    *ret = (struct proto_dataset_column){.name = span_str(from->name),
                                         .type = from->type,
                                         .has_bounds = from->has_bounds,
                                         .ucum = none_if_empty(from->ucum),
                                         .code = none_if_empty(from->code),
                                         .public_values = !from->values_private};
    if (from->has_bounds) {
        ret->min = from->min + 0.0; /* the codec refuses -0 */
        ret->max = from->max + 0.0;
    }
    return put_list(&values, arena, &ret->values);
}

enum err proto_manifest_dataset_body(const struct proto_manifest *manifest,
                                     const struct proto_schema *published,
                                     const uint8_t schema_hash[PROTO_HASH_SIZE],
                                     struct arena *arena, struct proto_dataset *ret,
                                     struct err_info *reterr)
{
    uint8_t *hash = arena_alloc(arena, PROTO_HASH_SIZE, 1);
    struct proto_dataset_column *columns =
        arena_alloc(arena, published->count + 1, sizeof *columns);
    if (!hash || !columns) {
        return proto_err_set(reterr, E_NO_MEMORY, "no memory for the record of %s",
                             manifest->dataset);
    }
    memcpy(hash, schema_hash, PROTO_HASH_SIZE);
    for (size_t i = 0; i < published->count; i++) {
        enum err err = put_column(&published->columns[i], arena, &columns[i]);
        if (err) {
            return err;
        }
    }
    *ret = (struct proto_dataset){
        .v = 1,
        .name = span_str(manifest->dataset),
        .version = span_str(manifest->version),
        .title = span_str(manifest->title),
        .unit = none_if_empty(published->unit),
        .max_rows_per_unit = published->max_rows_per_unit,
        .max_nodes_per_unit = published->max_nodes_per_unit > 1 ? published->max_nodes_per_unit : 1,
        .size = manifest->size,
        .schema_hash = span_of(hash, PROTO_HASH_SIZE),
        .columns = {columns, published->count}};
    return E_OK;
}

static enum err get_column(const struct proto_dataset_column *from, struct arena *arena,
                           struct proto_column *ret)
{
    if (from->type >= PROTO_COLUMN_TYPE_COUNT || from->values.count > PROTO_SCHEMA_VALUES_MAX ||
        !span_to_cstr(from->name, ret->name, sizeof ret->name) ||
        !span_to_cstr(from->ucum, ret->ucum, sizeof ret->ucum) ||
        !span_to_cstr(from->code, ret->code, sizeof ret->code)) {
        return E_INVALID;
    }
    ret->type = (enum proto_column_type)from->type;
    ret->has_bounds = from->has_bounds;
    ret->min = from->has_bounds ? from->min : 0;
    ret->max = from->has_bounds ? from->max : 0;
    ret->values_private = ret->type == PROTO_COLUMN_CATEGORY && !from->public_values;
    ret->value_count = from->values.count;
    ret->values = arena_alloc(arena, from->values.count + 1, sizeof *ret->values);
    const struct proto_text *values = from->values.items;
    for (size_t i = 0; ret->values && i < ret->value_count; i++) {
        ret->values[i] = arena_strdup(arena, values[i].text);
        if (!ret->values[i]) {
            return E_NO_MEMORY;
        }
    }
    return ret->values ? E_OK : E_NO_MEMORY;
}

enum err proto_dataset_schema(const struct proto_dataset *dataset, struct arena *arena,
                              struct proto_schema *ret, struct err_info *reterr)
{
    struct proto_schema to = {.count = dataset->columns.count};
    if (to.count > PROTO_SCHEMA_COLUMNS_MAX || dataset->max_rows_per_unit < 1 ||
        dataset->max_rows_per_unit > PROTO_SCHEMA_ROWS_MAX ||
        !span_to_cstr(dataset->unit, to.unit, sizeof to.unit)) {
        return proto_err_set(reterr, E_INVALID, "columns: the published schema is not valid");
    }
    to.max_rows_per_unit = (uint32_t)dataset->max_rows_per_unit;
    to.max_nodes_per_unit = (uint32_t)dataset->max_nodes_per_unit;
    to.columns = arena_alloc(arena, to.count + 1, sizeof *to.columns);
    if (!to.columns) {
        return E_NO_MEMORY;
    }
    const struct proto_dataset_column *columns = dataset->columns.items;
    for (size_t i = 0; i < to.count; i++) {
        enum err err = get_column(&columns[i], arena, &to.columns[i]);
        if (err) {
            return proto_err_set(reterr, err, "columns[%zu]: %s", i,
                                 err == E_INVALID ? "not a column" : "no memory");
        }
    }
    enum err err = proto_schema_check(&to, reterr);
    if (!err) {
        *ret = to;
    }
    return err;
}

void proto_manifest_fini(struct proto_manifest *manifest)
{
    arena_fini(&manifest->arena);
    memset(manifest, 0, sizeof *manifest);
}
