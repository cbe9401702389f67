#include "config.h"
#include "proto/body.h"
#include "proto/visa.h"

/* Integers of bodies stay within 2^53, so that every JSON reader shows them right. */
#define SAFE (INT64_C(1) << 53)

/* --- Tables ----------------------------------------------------------------------------------------- */

static const struct proto_field signature_fields[] = {
    PROTO_FIELD(struct proto_signature, signer, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_signature, signature, PROTO_BIN, 64, 64),
};
static const struct proto_message signature_message =
    PROTO_MESSAGE("signature", struct proto_signature, signature_fields);

static const struct proto_field member_fields[] = {
    PROTO_FIELD(struct proto_member, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_member, node_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_member, name, PROTO_STR, 1, 32),
    PROTO_FIELD(struct proto_member, identity_point, PROTO_BIN, 65, 65),
    PROTO_FIELD(struct proto_member, tls_spki, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct proto_member, org, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_member, org_type, PROTO_STR, 9, 10),
    PROTO_FIELD(struct proto_member, country, PROTO_STR, 2, 2),
    PROTO_FIELD_LIST(struct proto_member, roles, &proto_text_message, 0, 8),
    PROTO_FIELD(struct proto_member, not_before, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_member, expires, PROTO_U64, 1, SAFE),
    PROTO_FIELD_LIST(struct proto_member, signatures, &signature_message, 0, 16),
};

static const struct proto_field address_fields[] = {
    PROTO_FIELD(struct proto_address, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_address, url, PROTO_STR, 4, 256),
    PROTO_FIELD(struct proto_address, reverse, PROTO_BOOL, 0, 0),
};

static const struct proto_field seat_fields[] = {
    PROTO_FIELD(struct proto_council_seat, node_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_council_seat, point, PROTO_BIN, 65, 65),
};
static const struct proto_message seat_message =
    PROTO_MESSAGE("council", struct proto_council_seat, seat_fields);

static const struct proto_field charter_fields[] = {
    PROTO_FIELD(struct proto_charter, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_charter, federation, PROTO_STR, 1, 32),
    PROTO_FIELD(struct proto_charter, federation_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_charter, root_der, PROTO_BIN, 1, 1024),
    PROTO_FIELD_LIST(struct proto_charter, council, &seat_message, 1, 16),
    PROTO_FIELD(struct proto_charter, threshold, PROTO_U64, 1, 16),
    PROTO_FIELD(struct proto_charter, epoch, PROTO_U64, 0, SAFE),
    PROTO_FIELD_OPTIONAL(struct proto_charter, prev, PROTO_BIN, 16, 16),
    PROTO_FIELD_LIST(struct proto_charter, signatures, &signature_message, 0, 16),
};

static const struct proto_field column_fields[] = {
    PROTO_FIELD(struct proto_dataset_column, name, PROTO_STR, 1, 63),
    PROTO_FIELD(struct proto_dataset_column, type, PROTO_U64, 0, 31),
    PROTO_FIELD_PRESENT(struct proto_dataset_column, min, has_bounds, PROTO_F64, 0, 0),
    /* Both or neither: a lone bound would not re-encode to itself, so the codec refuses it. */
    PROTO_FIELD_PRESENT(struct proto_dataset_column, max, has_bounds, PROTO_F64, 0, 0),
    PROTO_FIELD_LIST(struct proto_dataset_column, values, &proto_text_message, 0, 1024),
    PROTO_FIELD_OPTIONAL(struct proto_dataset_column, ucum, PROTO_STR, 1, 31),
    PROTO_FIELD_OPTIONAL(struct proto_dataset_column, code, PROTO_STR, 1, 63),
    PROTO_FIELD(struct proto_dataset_column, public_values, PROTO_BOOL, 0, 0),
};
static const struct proto_message column_message =
    PROTO_MESSAGE("column", struct proto_dataset_column, column_fields);

static const struct proto_field dataset_fields[] = {
    PROTO_FIELD(struct proto_dataset, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_dataset, name, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_dataset, version, PROTO_STR, 1, 32),
    PROTO_FIELD(struct proto_dataset, title, PROTO_STR, 0, 256),
    PROTO_FIELD_OPTIONAL(struct proto_dataset, unit, PROTO_STR, 1, 63),
    PROTO_FIELD(struct proto_dataset, max_rows_per_unit, PROTO_U64, 1, INT32_MAX),
    PROTO_FIELD(struct proto_dataset, max_nodes_per_unit, PROTO_U64, 1, 256),
    PROTO_FIELD(struct proto_dataset, size, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_dataset, schema_hash, PROTO_BIN, 32, 32),
    PROTO_FIELD_LIST(struct proto_dataset, columns, &column_message, 1, 512),
};

static const struct proto_field participant_fields[] = {
    PROTO_FIELD(struct proto_model_participant, node, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_model_participant, org, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_model_participant, epsilon_u, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_model_participant, rounds, PROTO_U64, 0, SAFE),
};
static const struct proto_message participant_message =
    PROTO_MESSAGE("participant", struct proto_model_participant, participant_fields);

static const struct proto_field model_licence_fields[] = {
    PROTO_FIELD(struct proto_model_licence, record_id, PROTO_BIN, 16, 16),
};
static const struct proto_message model_licence_message =
    PROTO_MESSAGE("licence", struct proto_model_licence, model_licence_fields);

static const struct proto_field model_fields[] = {
    PROTO_FIELD(struct proto_model, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_model, name, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_model, job, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_model, dataset, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_model, task, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_model, round, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_model, weights, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct proto_model, size, PROTO_U64, 0, SAFE),
    PROTO_FIELD_LIST(struct proto_model, licences, &model_licence_message, 0, 64),
    PROTO_FIELD_LIST(struct proto_model, participants, &participant_message, 0, 64),
    PROTO_FIELD(struct proto_model, epsilon_u, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_model, delta_e12, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_model, unit, PROTO_STR, 1, 64),
    PROTO_FIELD_LIST(struct proto_model, obligations, &proto_text_message, 0, 64),
    PROTO_FIELD(struct proto_model, spdx, PROTO_STR, 1, 256),
    PROTO_FIELD(struct proto_model, release, PROTO_U64, 0, 2),
    PROTO_FIELD(struct proto_model, metrics, PROTO_STR, 0, 1024),
    PROTO_FIELD(struct proto_model, created, PROTO_U64, 0, SAFE),
    PROTO_FIELD_OPTIONAL(struct proto_model, lineage, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct proto_model, lineage_size, PROTO_U64, 0, SAFE),
};

static const struct proto_field revoke_fields[] = {
    PROTO_FIELD(struct proto_revoke, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_revoke, issuer, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_revoke, key, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_revoke, reason, PROTO_STR, 0, 256),
    PROTO_FIELD(struct proto_revoke, effective_at, PROTO_U64, 0, SAFE),
    PROTO_FIELD_LIST(struct proto_revoke, signatures, &signature_message, 0, 16),
};

static const struct proto_field endorse_fields[] = {
    PROTO_FIELD(struct proto_endorse, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_endorse, kind, PROTO_U64, 0, 255),
    PROTO_FIELD(struct proto_endorse, subject, PROTO_BIN, 1, 3584),
    PROTO_FIELD(struct proto_endorse, signature, PROTO_BIN, 64, 64),
};

static const struct proto_field head_fields[] = {
    PROTO_FIELD(struct proto_head, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_head, stream, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_head, seq, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_head, hash, PROTO_BIN, 32, 32),
};

static const struct proto_field project_fields[] = {
    PROTO_FIELD(struct proto_project, v, PROTO_U64, 1, SAFE),
    PROTO_FIELD(struct proto_project, name, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_project, permission, PROTO_U64, 1, 9999999),
    PROTO_FIELD_LIST(struct proto_project, diseases, &proto_text_message, 0, 16),
    PROTO_FIELD_PRESENT(struct proto_project, research, has_research, PROTO_U64, 0, 65535),
    PROTO_FIELD_PRESENT(struct proto_project, commercial, has_commercial, PROTO_BOOL, 0, 0),
    PROTO_FIELD_OPTIONAL(struct proto_project, ethics_ref, PROTO_STR, 1, 128),
    PROTO_FIELD(struct proto_project, ethics_expires, PROTO_U64, 0, SAFE),
    PROTO_FIELD_LIST(struct proto_project, recipients, &proto_text_message, 0, 64),
    PROTO_FIELD_LIST(struct proto_project, obligations, &proto_text_message, 0, 16),
    PROTO_FIELD_LIST(struct proto_project, people, &proto_text_message, 0, 64),
    PROTO_FIELD(struct proto_project, ends, PROTO_U64, 0, SAFE),
};

static const struct proto_field condition_fields[] = {
    PROTO_FIELD(struct proto_visa_condition, type, PROTO_STR, 1, 32),
    PROTO_FIELD_OPTIONAL(struct proto_visa_condition, value, PROTO_STR, 1, PROTO_VISA_VALUE_MAX),
    PROTO_FIELD_OPTIONAL(struct proto_visa_condition, source, PROTO_STR, 1, PROTO_VISA_SOURCE_MAX),
    PROTO_FIELD_OPTIONAL(struct proto_visa_condition, by, PROTO_STR, 1, 32),
};
static const struct proto_message condition_message =
    PROTO_MESSAGE("condition", struct proto_visa_condition, condition_fields);
static const struct proto_field alternative_fields[] = {
    PROTO_FIELD_LIST(struct proto_visa_alternative, conditions, &condition_message, 1,
                     PROTO_VISA_CONDITIONS_MAX),
};
static const struct proto_message alternative_message =
    PROTO_MESSAGE("conditions", struct proto_visa_alternative, alternative_fields);
#define VISA_FIELDS                                                                                \
    PROTO_FIELD(struct proto_visa, v, PROTO_U64, 1, SAFE),                                         \
        PROTO_FIELD(struct proto_visa, id, PROTO_BIN, 16, 16),                                     \
        PROTO_FIELD(struct proto_visa, node, PROTO_BIN, 16, 16),                                   \
        PROTO_FIELD_OPTIONAL(struct proto_visa, person, PROTO_STR, 1, 128),                        \
        PROTO_FIELD_OPTIONAL(struct proto_visa, project, PROTO_STR, 1, 128),                       \
        PROTO_FIELD(struct proto_visa, type, PROTO_STR, 1, 32),                                    \
        PROTO_FIELD(struct proto_visa, value, PROTO_STR, 1, PROTO_VISA_VALUE_MAX),                 \
        PROTO_FIELD(struct proto_visa, source, PROTO_STR, 1, PROTO_VISA_SOURCE_MAX),               \
        PROTO_FIELD_OPTIONAL(struct proto_visa, by, PROTO_STR, 1, 16),                             \
        PROTO_FIELD(struct proto_visa, asserted, PROTO_U64, 0, SAFE)
static const struct proto_field plain_visa_fields[] = {VISA_FIELDS};
static const struct proto_message plain_visa_message =
    PROTO_MESSAGE("visa", struct proto_visa, plain_visa_fields);
static const struct proto_field visa_fields[] = {
    VISA_FIELDS,
    PROTO_FIELD_LIST(struct proto_visa, conditions, &alternative_message, 1,
                     PROTO_VISA_ALTERNATIVES_MAX),
};
static const struct proto_message visa_message =
    PROTO_MESSAGE("visa", struct proto_visa, visa_fields);

/* --- Rules that no single field can state ------------------------------------------------------------ */

static bool name_valid(struct span name, size_t max, const char *further)
{
    if (name.len < 1 || name.len > max) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = (char)name.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!plain && (i == 0 || !strchr(further, c))) {
            return false;
        }
    }
    return memchr(name.ptr, 0, name.len) == NULL;
}

bool proto_name_valid(struct span name)
{
    return name_valid(name, 32, "-");
}

bool proto_dataset_name_valid(struct span name)
{
    return name_valid(name, 64, "._-");
}

uint64_t proto_charter_threshold(size_t council)
{
    return council <= 1 ? council : council <= 3 ? 2 : council * 2 / 3 + 1;
}

static enum err invalid(struct err_info *reterr, const char *what)
{
    return proto_err_set(reterr, E_INVALID, "%s", what);
}

/* One voice each: a signer that stands twice would be counted twice by a careless reader. */
static bool signers_differ(const struct proto_list *list)
{
    const struct proto_signature *items = list->items;
    for (size_t i = 0; i < list->count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (span_equal(items[i].signer, items[j].signer)) {
                return false;
            }
        }
    }
    return true;
}

static enum err member_valid(const struct proto_member *body, struct err_info *reterr)
{
    if (!proto_name_valid(body->name)) {
        return invalid(reterr, "member.name: a-z, 0-9 and '-' only");
    }
    if (!span_is(body->org_type, "nonprofit") && !span_is(body->org_type, "forprofit") &&
        !span_is(body->org_type, "government")) {
        return invalid(reterr, "member.org_type: nonprofit, forprofit or government");
    }
    for (size_t i = 0; i < 2; i++) {
        if (body->country.ptr[i] < 'A' || body->country.ptr[i] > 'Z') {
            return invalid(reterr, "member.country: two capital letters");
        }
    }
    if (body->identity_point.ptr[0] != 4) {
        return invalid(reterr, "member.identity_point: not an uncompressed point");
    }
    if (body->not_before >= body->expires) {
        return invalid(reterr, "member.expires: it ends before it begins");
    }
    return signers_differ(&body->signatures) ? E_OK
                                             : invalid(reterr, "member.signatures: signed twice");
}

static enum err address_valid(const struct proto_address *body, struct err_info *reterr)
{
    static const char scheme[] = "tls+tcp://";
    size_t n = sizeof scheme - 1;
    if (span_is(body->url, "none")) {
        return body->reverse ? E_OK : invalid(reterr, "address.url: none needs reverse");
    }
    if (body->url.len <= n || memcmp(body->url.ptr, scheme, n) != 0) {
        return invalid(reterr, "address.url: tls+tcp://host:port or none");
    }
    return E_OK;
}

static enum err charter_valid(const struct proto_charter *body, struct err_info *reterr)
{
    const struct proto_council_seat *seats = body->council.items;
    for (size_t i = 0; i < body->council.count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (span_equal(seats[i].node_id, seats[j].node_id)) {
                return invalid(reterr, "charter.council: a node sits twice");
            }
        }
    }
    if (body->threshold != proto_charter_threshold(body->council.count)) {
        return invalid(reterr, "charter.threshold: it does not fit the council's size");
    }
    if ((body->epoch == 0) != (body->prev.ptr == NULL)) {
        return invalid(reterr, "charter.prev: the genesis has none, all others have one");
    }
    return signers_differ(&body->signatures) ? E_OK
                                             : invalid(reterr, "charter.signatures: signed twice");
}

static enum err dataset_valid(const struct proto_dataset *body, struct err_info *reterr)
{
    const struct proto_dataset_column *columns = body->columns.items;
    if (!proto_dataset_name_valid(body->name)) {
        return invalid(reterr, "dataset.name: a-z, 0-9, '.', '_' and '-' only");
    }
    if (!body->unit.ptr && body->max_rows_per_unit != 1) {
        return invalid(reterr, "dataset.max_rows_per_unit: 1 where each row is a unit");
    }
    for (size_t i = 0; i < body->columns.count; i++) {
        if (columns[i].has_bounds && !(columns[i].min <= columns[i].max)) {
            return invalid(reterr, "column.max: below min");
        }
        for (size_t j = 0; j < i; j++) {
            if (span_equal(columns[i].name, columns[j].name)) {
                return invalid(reterr, "dataset.columns: a name stands twice");
            }
        }
    }
    return E_OK;
}

static enum err model_valid(const struct proto_model *body, struct err_info *reterr)
{
    bool private = body->epsilon_u != 0;
    if ((body->lineage.ptr != NULL) != (body->lineage_size != 0)) {
        return invalid(reterr, "model.lineage: hash and size need each other");
    }
    return private == (body->delta_e12 != 0)
               ? E_OK
               : invalid(reterr, "model.delta_e12: epsilon and delta are both there or both 0");
}

static enum err revoke_valid(const struct proto_revoke *body, struct err_info *reterr)
{
    return signers_differ(&body->signatures) ? E_OK
                                             : invalid(reterr, "revoke.signatures: signed twice");
}

static enum err endorse_valid(const struct proto_endorse *body, struct err_info *reterr)
{
    return proto_endorse_domain(body->kind)
               ? E_OK
               : invalid(reterr, "endorse.kind: nothing that a council signs");
}

static enum err head_valid(const struct proto_head *body, struct err_info *reterr)
{
    (void)body;
    (void)reterr;
    return E_OK;
}

static enum err project_valid(const struct proto_project *body, struct err_info *reterr)
{
    if (!proto_dataset_name_valid(body->name)) {
        return invalid(reterr, "project.name: a-z, 0-9, '.', '_' and '-' only");
    }
    return (body->ethics_ref.ptr != NULL) == (body->ethics_expires != 0)
               ? E_OK
               : invalid(reterr, "project.ethics: reference and end need each other");
}

/* --- Readers and writers ------------------------------------------------------------------------------ */

enum {
#define X(name) version_##name = PROTO_BODY_VERSION,
    PROTO_PLAIN_BODIES(X)
#undef X
    version_model = PROTO_MODEL_VERSION,
};

static enum err version_known(uint64_t v, uint64_t known, const char *what, struct err_info *reterr)
{
    return v == known ? E_OK
                      : proto_err_set(reterr, E_UNSUPPORTED, "%s: version %llu is not known here",
                                      what, (unsigned long long)v);
}

/* A version with other fields fails on their count before its number is seen; the number is looked at first, so that
 * another version's body is E_UNSUPPORTED (kept and relayed) rather than E_INVALID. */
static bool is_other(struct span bytes, uint64_t version)
{
    size_t at = bytes.len && (bytes.ptr[0] & 0xF0) == 0x90 ? 1
                : bytes.len > 3 && bytes.ptr[0] == 0xDC    ? 3
                                                           : SIZE_MAX;
    return at < bytes.len && bytes.ptr[at] != version && bytes.ptr[at] <= 0x7F;
}

enum err proto_body_decode(const struct proto_message *message, uint64_t version, struct span bytes,
                           struct arena *arena, void *ret, struct err_info *reterr)
{
    if (is_other(bytes, version)) {
        return proto_err_set(reterr, E_UNSUPPORTED, "%s: another version than is known here",
                             message->name);
    }
    return proto_codec_decode(message, bytes, arena, ret, reterr);
}

static enum err fits(struct buf *out, size_t start, const char *what, struct err_info *reterr)
{
    if (out->len - start <= PROTO_RECORD_BODY_MAX) {
        return E_OK;
    }
    out->len = start;
    return proto_err_set(reterr, E_LIMIT, "%s: larger than the %d bytes of a record", what,
                         PROTO_RECORD_BODY_MAX);
}

#define X(name)                                                                                    \
    static const struct proto_message name##_message =                                             \
        PROTO_MESSAGE(#name, struct proto_##name, name##_fields);                                  \
                                                                                                   \
    enum err proto_##name##_encode(const struct proto_##name *body, struct buf *out,               \
                                   struct err_info *reterr)                                        \
    {                                                                                              \
        size_t start = out->len;                                                                   \
        enum err err = version_known(body->v, version_##name, #name, reterr);                      \
        if (!err) {                                                                                \
            err = proto_codec_encode(&name##_message, body, out, reterr);                          \
        }                                                                                          \
        if (!err) {                                                                                \
            err = name##_valid(body, reterr);                                                      \
        }                                                                                          \
        if (!err) {                                                                                \
            err = fits(out, start, #name, reterr);                                                 \
        }                                                                                          \
        if (err) {                                                                                 \
            out->len = start;                                                                      \
        }                                                                                          \
        return err;                                                                                \
    }                                                                                              \
                                                                                                   \
    enum err proto_##name##_decode(struct span bytes, struct arena *arena,                         \
                                   struct proto_##name *ret, struct err_info *reterr)              \
    {                                                                                              \
        enum err err =                                                                             \
            proto_body_decode(&name##_message, version_##name, bytes, arena, ret, reterr);         \
        if (!err) {                                                                                \
            err = version_known(ret->v, version_##name, #name, reterr);                            \
        }                                                                                          \
        return err ? err : name##_valid(ret, reterr);                                              \
    }
PROTO_PLAIN_BODIES(X)
X(model)
#undef X

/* One that asks for nothing beside it stays readable for nodes of the version before. */
enum err proto_visa_encode(const struct proto_visa *body, struct buf *out, struct err_info *reterr)
{
    size_t start = out->len;
    bool plain = body->conditions.count == 0;
    enum err err =
        version_known(body->v, plain ? PROTO_BODY_VERSION : PROTO_VISA_VERSION, "visa", reterr);
    err = err ? err
              : proto_codec_encode(plain ? &plain_visa_message : &visa_message, body, out, reterr);
    err = err ? err : proto_visa_valid(body, reterr);
    err = err ? err : fits(out, start, "visa", reterr);
    if (err) {
        out->len = start;
    }
    return err;
}

enum err proto_visa_decode(struct span bytes, struct arena *arena, struct proto_visa *ret,
                           struct err_info *reterr)
{
    struct err_info plain = {0};
    memset(ret, 0, sizeof *ret);
    enum err err =
        proto_body_decode(&plain_visa_message, PROTO_BODY_VERSION, bytes, arena, ret, &plain);
    if (err == E_UNSUPPORTED) {
        err = proto_body_decode(&visa_message, PROTO_VISA_VERSION, bytes, arena, ret, reterr);
    } else if (err && reterr) {
        *reterr = plain;
    }
    uint64_t version =
        err == E_OK && ret->conditions.count ? PROTO_VISA_VERSION : PROTO_BODY_VERSION;
    err = err ? err : version_known(ret->v, version, "visa", reterr);
    return err ? err : proto_visa_valid(ret, reterr);
}

#define SIGNED_BYTES(name)                                                                         \
    enum err proto_##name##_signed(const struct proto_##name *body, struct buf *out,               \
                                   struct err_info *reterr)                                        \
    {                                                                                              \
        struct proto_##name bare = *body;                                                          \
        bare.signatures = (struct proto_list){0};                                                  \
        return proto_##name##_encode(&bare, out, reterr);                                          \
    }
const char *proto_endorse_domain(uint64_t kind)
{
    return kind == PROTO_RECORD_MEMBER    ? PROTO_MEMBER_DOMAIN
           : kind == PROTO_RECORD_CHARTER ? PROTO_CHARTER_DOMAIN
           : kind == PROTO_RECORD_REVOKE  ? PROTO_REVOKE_DOMAIN
                                          : NULL;
}

SIGNED_BYTES(member)
SIGNED_BYTES(charter)
SIGNED_BYTES(revoke)
