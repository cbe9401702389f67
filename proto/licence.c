#include "config.h"
#include "proto/duo.h"
#include "proto/licence.h"
#include "proto/nearest.h"
#include "proto/time.h"

#define SAFE (INT64_C(1) << 53)

static const struct proto_field modifier_fields[] = {
    PROTO_FIELD(struct proto_modifier, code, PROTO_U64, 1, 9999999),
    PROTO_FIELD_LIST(struct proto_modifier, params, &proto_text_message, 0, 64),
};
static const struct proto_message modifier_message =
    PROTO_MESSAGE("modifier", struct proto_modifier, modifier_fields);

static const struct proto_field privacy_fields[] = {
    PROTO_FIELD(struct proto_licence_privacy, mechanism, PROTO_U64, 0, PROTO_MECHANISM_LAPLACE),
    PROTO_FIELD(struct proto_licence_privacy, unit, PROTO_U64, 0, PROTO_UNIT_ROW),
    PROTO_FIELD(struct proto_licence_privacy, epsilon_total_u, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_licence_privacy, epsilon_per_query_u, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_licence_privacy, epsilon_per_job_u, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_licence_privacy, delta_e12, PROTO_U64, 0, INT64_C(1000000000000)),
    PROTO_FIELD(struct proto_licence_privacy, min_noise_u, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_licence_privacy, window_s, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_licence_privacy, scope, PROTO_U64, 0, PROTO_SCOPE_REQUESTER),
};
static const struct proto_message privacy_message =
    PROTO_MESSAGE("privacy", struct proto_licence_privacy, privacy_fields);

static const struct proto_field finetune_fields[] = {
    PROTO_FIELD(struct proto_licence_finetune, max_rounds, PROTO_U64, 1, 1000000),
    PROTO_FIELD(struct proto_licence_finetune, release, PROTO_U64, 0, PROTO_RELEASE_PUBLIC),
    PROTO_FIELD(struct proto_licence_finetune, clip_u, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_licence_finetune, noise_mult_u, PROTO_U64, 0, SAFE),
};
static const struct proto_message finetune_message =
    PROTO_MESSAGE("finetune", struct proto_licence_finetune, finetune_fields);

#define GRANT_FIELDS                                                                               \
    PROTO_FIELD(struct proto_grant, permission, PROTO_U64, 1, 9999999),                            \
        PROTO_FIELD_LIST(struct proto_grant, diseases, &proto_text_message, 0, 64),                \
        PROTO_FIELD_LIST(struct proto_grant, modifiers, &modifier_message, 0,                      \
                         PROTO_LICENCE_MODIFIERS_MAX),                                             \
        PROTO_FIELD(struct proto_grant, actions, PROTO_U64, 0, PROTO_ACTION_ALL),                  \
        PROTO_FIELD_LIST_PRESENT(struct proto_grant, columns, has_columns, &proto_text_message, 0, \
                                 256),                                                             \
        PROTO_FIELD(struct proto_grant, min_cohort, PROTO_U64, 2, INT32_MAX),                      \
        PROTO_FIELD(struct proto_grant, min_sites, PROTO_U64, 1, 10000),                           \
        PROTO_FIELD(struct proto_grant, mode, PROTO_U64, 0, PROTO_MODE_SECURE),                    \
        PROTO_FIELD(struct proto_grant, visible_site, PROTO_BOOL, 0, 0),                           \
        PROTO_FIELD_NESTED(struct proto_grant, privacy, &privacy_message),                         \
        PROTO_FIELD_NESTED_PRESENT(struct proto_grant, finetune, has_finetune, &finetune_message)

static const struct proto_field plain_grant_fields[] = {GRANT_FIELDS};
static const struct proto_message plain_grant_message =
    PROTO_MESSAGE("grant", struct proto_grant, plain_grant_fields);

static const struct proto_field grant_fields[] = {
    GRANT_FIELDS,
    PROTO_FIELD_LIST(struct proto_grant, visas, &proto_visa_wanted_message, 0,
                     PROTO_LICENCE_VISAS_MAX),
};
static const struct proto_message grant_message =
    PROTO_MESSAGE("grant", struct proto_grant, grant_fields);

static const struct proto_field obligation_fields[] = {
    PROTO_FIELD(struct proto_obligation, id, PROTO_STR, 1, 32),
    PROTO_FIELD(struct proto_obligation, when, PROTO_STR, 3, 13),
    PROTO_FIELD_OPTIONAL(struct proto_obligation, text, PROTO_STR, 1, 512),
};
static const struct proto_message obligation_message =
    PROTO_MESSAGE("obligation", struct proto_obligation, obligation_fields);

static const struct proto_field recipients_fields[] = {
    PROTO_FIELD_LIST_PRESENT(struct proto_recipients, institutions, has_institutions,
                             &proto_text_message, 0, 64),
    PROTO_FIELD_LIST_PRESENT(struct proto_recipients, users, has_users, &proto_text_message, 0, 64),
    PROTO_FIELD_LIST_PRESENT(struct proto_recipients, projects, has_projects, &proto_text_message,
                             0, 64),
};
static const struct proto_message recipients_message =
    PROTO_MESSAGE("recipients", struct proto_recipients, recipients_fields);

static const struct proto_field parent_fields[] = {
    PROTO_FIELD(struct proto_parent, record_id, PROTO_BIN, 16, 16),
};
static const struct proto_message parent_message =
    PROTO_MESSAGE("derived_from", struct proto_parent, parent_fields);

#define LICENCE_FIELDS(grants_)                                                                    \
    PROTO_FIELD(struct proto_licence, v, PROTO_U64, 1, SAFE),                                      \
        PROTO_FIELD(struct proto_licence, dataset, PROTO_STR, 1, 64),                              \
        PROTO_FIELD(struct proto_licence, version, PROTO_STR, 1, 32),                              \
        PROTO_FIELD_OPTIONAL(struct proto_licence, content_digest, PROTO_BIN, 32, 32),             \
        PROTO_FIELD(struct proto_licence, schema_hash, PROTO_BIN, 32, 32),                         \
        PROTO_FIELD(struct proto_licence, not_before, PROTO_U64, 0, SAFE),                         \
        PROTO_FIELD(struct proto_licence, expires, PROTO_U64, 1, SAFE),                            \
        PROTO_FIELD(struct proto_licence, spdx, PROTO_STR, 1, 256),                                \
        PROTO_FIELD_NESTED(struct proto_licence, recipients, &recipients_message),                 \
        PROTO_FIELD_LIST_PRESENT(struct proto_licence, geography, has_geography,                   \
                                 &proto_text_message, 0, 64),                                      \
        PROTO_FIELD_LIST(struct proto_licence, obligations, &obligation_message, 0,                \
                         PROTO_LICENCE_OBLIGATIONS_MAX),                                           \
        PROTO_FIELD(struct proto_licence, hold, PROTO_BOOL, 0, 0),                                 \
        PROTO_FIELD_OPTIONAL(struct proto_licence, contact, PROTO_STR, 1, 256),                    \
        PROTO_FIELD(struct proto_licence, survives_revocation, PROTO_BOOL, 0, 0),                  \
        PROTO_FIELD_LIST(struct proto_licence, derived_from, &parent_message, 0,                   \
                         PROTO_LICENCE_PARENTS_MAX),                                               \
        PROTO_FIELD_LIST(struct proto_licence, grants, grants_, 1, PROTO_LICENCE_GRANTS_MAX),      \
        PROTO_FIELD_LIST_PRESENT(struct proto_licence, deidentified, has_deidentified,             \
                                 &proto_text_message, 0, 16)

static const struct proto_field plain_licence_fields[] = {LICENCE_FIELDS(&plain_grant_message)};
static const struct proto_message plain_licence_message =
    PROTO_MESSAGE("licence", struct proto_licence, plain_licence_fields);

static const struct proto_field licence_fields[] = {LICENCE_FIELDS(&grant_message)};
static const struct proto_message licence_message =
    PROTO_MESSAGE("licence", struct proto_licence, licence_fields);

/* --- Names -------------------------------------------------------------------------------------------- */

static const char *const action_names[PROTO_ACTION_TOTAL] = {
#define X(name, text) text,
    PROTO_ACTIONS(X)
#undef X
};

const char *proto_action_name(enum proto_action action)
{
    return (unsigned)action < PROTO_ACTION_TOTAL ? action_names[action] : "unknown";
}

bool proto_action_by_name(const char *name, enum proto_action *ret)
{
    for (int i = 0; i < PROTO_ACTION_TOTAL; i++) {
        if (strcmp(action_names[i], name) == 0) {
            *ret = (enum proto_action)i;
            return true;
        }
    }
    return false;
}

const char *proto_action_nearest(const char *name)
{
    return proto_suggest(action_names, PROTO_ACTION_TOTAL, name);
}

const char *proto_release_name(uint64_t release)
{
    static const char *const names[] = {"federation", "recipients", "public"};
    return release <= PROTO_RELEASE_PUBLIC ? names[release] : "unknown";
}

static const struct {
    const char *id;
    bool commitment;
} known_obligations[] = {
    {"attribution", false},
    {"share-alike", false},
    {"no-reidentify", false},
    {"no-relink", false},
    {"delete-by", false},
    {"notify-breach", false},
    {"embargo-until", false},
    {"collaborate", true},
    {"publish", true},
    {"return-results", true},
    {"ethics-ref", true},
    /* What data licences ask of a model; spdx_terms.h. */
    {"notice", false},
    {"state-changes", false},
    {"publish-method", false},
    {"non-commercial", false},
    {"no-share", false},
    {"use-restrictions", false},
    {"name-prefix", false},
    {"display-notice", false},
    {"private-training", false},
    {"unknown-terms", false},
};
#define OBLIGATIONS_KNOWN (sizeof known_obligations / sizeof *known_obligations)

bool proto_obligation_known(struct span id, bool *ret_commitment)
{
    for (size_t i = 0; i < OBLIGATIONS_KNOWN; i++) {
        if (span_is(id, known_obligations[i].id)) {
            *ret_commitment = known_obligations[i].commitment;
            return true;
        }
    }
    return false;
}

struct span proto_obligation_nearest(struct span id)
{
    struct proto_nearest nearest = proto_nearest_to(id);
    for (size_t i = 0; i < OBLIGATIONS_KNOWN; i++) {
        proto_nearest_try(&nearest, span_str(known_obligations[i].id));
    }
    return nearest.best;
}

/* --- Validity ----------------------------------------------------------------------------------------- */

static enum err invalid(struct err_info *reterr, size_t grant, const char *why)
{
    return proto_err_set(reterr, E_INVALID, "grants[%zu]: %s", grant, why);
}

/* Of a model the privacy was spent when it was trained; of data, no noise is for unrestricted data only. */
static const char *privacy_fault(const struct proto_grant *grant, bool model)
{
    const struct proto_licence_privacy *p = &grant->privacy;
    if (model && p->mechanism != PROTO_MECHANISM_NONE) {
        return "privacy: a model's licence asks for none";
    }
    if (p->mechanism == PROTO_MECHANISM_NONE) {
        if (!model && (grant->permission != PROTO_DUO_NRES || !grant->visible_site)) {
            return "privacy: mechanism none needs DUO:0000004 and visible: site";
        }
        bool zero = !p->epsilon_total_u && !p->epsilon_per_query_u && !p->epsilon_per_job_u &&
                    !p->delta_e12;
        return zero ? NULL : "privacy: mechanism none has no epsilon and no delta";
    }
    if (p->epsilon_total_u == 0 || p->delta_e12 == 0) {
        return "privacy: epsilon_total and delta must be above 0";
    }
    if (p->epsilon_per_query_u > p->epsilon_total_u || p->epsilon_per_job_u > p->epsilon_total_u) {
        return "privacy: a question or job may not cost more than epsilon_total";
    }
    return NULL;
}

static const char *grant_fault(const struct proto_grant *grant, bool model)
{
    const struct proto_modifier *modifiers = grant->modifiers.items;
    if (!proto_duo_is_permission(grant->permission)) {
        return "permission: not a DUO permission";
    }
    if ((grant->permission == PROTO_DUO_DS) != (grant->diseases.count > 0)) {
        return "diseases: needed by DUO:0000007 and by no other permission";
    }
    for (size_t i = 0; i < grant->modifiers.count; i++) {
        if (!proto_duo_is_modifier(modifiers[i].code)) {
            return "modifiers: not a DUO modifier";
        }
    }
    const struct proto_visa_wanted *visas = grant->visas.items;
    for (size_t i = 0; i < grant->visas.count; i++) {
        const char *fault = proto_visa_wanted_fault(&visas[i]);
        if (fault) {
            return fault;
        }
    }
    bool finetune = grant->actions & PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE);
    if (finetune && !grant->has_finetune) {
        return "finetune: the action finetune needs its block";
    }
    return privacy_fault(grant, model);
}

/* Several grants draw on the dataset's one budget, whose order is fixed when it is created; so all must agree on it. */
static const char *budget_fault(const struct proto_grant *grants, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        const struct proto_licence_privacy *a = &grants[i].privacy, *b = &grants[j].privacy;
        bool noisy = a->mechanism != PROTO_MECHANISM_NONE && b->mechanism != PROTO_MECHANISM_NONE;
        if (noisy && (a->epsilon_total_u != b->epsilon_total_u || a->delta_e12 != b->delta_e12)) {
            return "privacy: all grants share one epsilon_total and delta";
        }
        if (noisy && a->window_s != b->window_s) {
            return "privacy: all grants share one window";
        }
    }
    return NULL;
}

static bool is_date(struct span text)
{
    char copy[32];
    int64_t time;
    return text.len && span_to_cstr(text, copy, sizeof copy) && proto_time_parse(copy, &time);
}

static enum err obligations_valid(const struct proto_licence *licence, struct err_info *reterr)
{
    const struct proto_obligation *items = licence->obligations.items;
    for (size_t i = 0; i < licence->obligations.count; i++) {
        bool commitment;
        if (!proto_obligation_known(items[i].id, &commitment)) {
            return proto_err_set(reterr, E_INVALID, "obligations[%zu].id: not known", i);
        }
        bool dated = span_is(items[i].id, "embargo-until") || span_is(items[i].id, "delete-by");
        if (dated && !is_date(items[i].text)) {
            return proto_err_set(reterr, E_INVALID, "obligations[%zu].text: must be a date", i);
        }
        if (!span_is(items[i].when, "use") && !span_is(items[i].when, "publish") &&
            !span_is(items[i].when, "release-model")) {
            return proto_err_set(reterr, E_INVALID,
                                 "obligations[%zu].when: use, publish or release-model", i);
        }
    }
    return E_OK;
}

static enum err geography_valid(const struct proto_licence *licence, struct err_info *reterr)
{
    const struct proto_text *items = licence->geography.items;
    for (size_t i = 0; i < licence->geography.count; i++) {
        if (!proto_geography_valid(items[i].text) || span_is(items[i].text, "EU")) {
            return proto_err_set(reterr, E_INVALID, "geography[%zu]: not an ISO 3166 code", i);
        }
    }
    return E_OK;
}

enum err proto_licence_valid(const struct proto_licence *licence, struct err_info *reterr)
{
    const struct proto_grant *grants = licence->grants.items;
    if (licence->v != PROTO_LICENCE_VERSION && licence->v != PROTO_LICENCE_VERSION_PLAIN) {
        return proto_err_set(reterr, E_UNSUPPORTED, "licence: a version that is not known here");
    }
    if (!proto_dataset_name_valid(licence->dataset)) {
        return proto_err_set(reterr, E_INVALID, "dataset: a-z, 0-9, '.', '_' and '-' only");
    }
    if (licence->not_before >= licence->expires) {
        return proto_err_set(reterr, E_INVALID, "expires: it ends before it begins");
    }
    if (licence->grants.count < 1 || licence->grants.count > PROTO_LICENCE_GRANTS_MAX) {
        return proto_err_set(reterr, E_INVALID, "grants: between 1 and %d",
                             PROTO_LICENCE_GRANTS_MAX);
    }
    for (size_t i = 0; i < licence->grants.count; i++) {
        const char *fault = grant_fault(&grants[i], licence->derived_from.count > 0);
        if (!fault && grants[i].visas.count && licence->v == PROTO_LICENCE_VERSION_PLAIN) {
            fault = "visas: not in this version of the licence";
        }
        fault = fault ? fault : budget_fault(grants, i);
        if (fault) {
            return invalid(reterr, i, fault);
        }
    }
    enum err err = obligations_valid(licence, reterr);
    return err ? err : geography_valid(licence, reterr);
}

uint64_t proto_licence_version(const struct proto_licence *licence)
{
    const struct proto_grant *grants = licence->grants.items;
    bool plain = true;
    for (size_t i = 0; i < licence->grants.count; i++) {
        plain = plain && grants[i].visas.count == 0;
    }
    return plain ? PROTO_LICENCE_VERSION_PLAIN : PROTO_LICENCE_VERSION;
}

enum err proto_licence_encode(const struct proto_licence *licence, struct buf *out,
                              struct err_info *reterr)
{
    size_t start = out->len;
    bool plain = licence->v == PROTO_LICENCE_VERSION_PLAIN;
    enum err err =
        proto_codec_encode(plain ? &plain_licence_message : &licence_message, licence, out, reterr);
    if (!err) {
        err = proto_licence_valid(licence, reterr);
    }
    if (!err && out->len - start > PROTO_RECORD_BODY_MAX) {
        err = proto_err_set(reterr, E_LIMIT, "licence: larger than the %d bytes of a record",
                            PROTO_RECORD_BODY_MAX);
    }
    if (err) {
        out->len = start;
    }
    return err;
}

enum err proto_licence_decode(struct span bytes, struct arena *arena, struct proto_licence *ret,
                              struct err_info *reterr)
{
    struct err_info why = {0};
    enum err err =
        proto_body_decode(&licence_message, PROTO_LICENCE_VERSION, bytes, arena, ret, &why);
    if (err == E_UNSUPPORTED) {
        why = (struct err_info){0};
        err = proto_body_decode(&plain_licence_message, PROTO_LICENCE_VERSION_PLAIN, bytes, arena,
                                ret, &why);
    }
    err = err ? err : proto_licence_valid(ret, &why);
    if (err && reterr) {
        *reterr = why;
    }
    return err;
}
