#include "config.h"
#include "node/query/message.h"

#include "crypto/envelope.h"
#include "proto/licence.h"
#include "proto/query.h"
#include "store/audit.h"

static const struct proto_field node_ref_fields[] = {
    PROTO_FIELD(struct query_node_ref, node, PROTO_BIN, 16, 16),
};
const struct proto_message query_node_ref_message =
    PROTO_MESSAGE("node", struct query_node_ref, node_ref_fields);

static const struct proto_field request_fields[] = {
    PROTO_FIELD(struct query_request, version, PROTO_U64, QUERY_VERSION, QUERY_VERSION),
    PROTO_FIELD(struct query_request, query_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct query_request, dataset, PROTO_STR, 1, 64),
    PROTO_FIELD(struct query_request, schema_hash, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct query_request, sql, PROTO_STR, 1, QUERY_SQL_MAX),
    PROTO_FIELD(struct query_request, epsilon_u, PROTO_U64, 1, 1000000000000),
    PROTO_FIELD(struct query_request, delta_e12, PROTO_U64, 1, 999999999999),
    PROTO_FIELD(struct query_request, secure, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct query_request, explain, PROTO_BOOL, 0, 1),
    PROTO_FIELD_NESTED(struct query_request, purpose, &proto_purpose_message),
    PROTO_FIELD_LIST(struct query_request, sites, &query_node_ref_message, 1, QUERY_SITES_MAX),
    PROTO_FIELD(struct query_request, rows_limit, PROTO_U64, 0, UINT32_MAX),
    PROTO_FIELD(struct query_request, groups_limit, PROTO_U64, 0, UINT32_MAX),
    PROTO_FIELD(struct query_request, time, PROTO_I64, 0, INT64_C(1) << 40),
};
const struct proto_message query_request_message =
    PROTO_MESSAGE("query request", struct query_request, request_fields);

static const struct proto_field coordinate_fields[] = {
    PROTO_FIELD(struct query_coordinate, grid_log2, PROTO_I64, -1100, 1100),
    PROTO_FIELD(struct query_coordinate, sigma2_num, PROTO_U64, 1, INT64_MAX),
    PROTO_FIELD(struct query_coordinate, sigma2_den, PROTO_U64, 1, INT64_MAX),
};
static const struct proto_message coordinate_message =
    PROTO_MESSAGE("coordinate", struct query_coordinate, coordinate_fields);

static const struct proto_field clause_fields[] = {
    PROTO_FIELD(struct query_clause, clause, PROTO_STR, 1, 64),
    PROTO_FIELD(struct query_clause, expected, PROTO_STR, 0, 256),
    PROTO_FIELD(struct query_clause, result, PROTO_U64, 0, 3),
    PROTO_FIELD(struct query_clause, reason, PROTO_STR, 0, 64),
    PROTO_FIELD(struct query_clause, grant, PROTO_I64, -1, PROTO_LICENCE_GRANTS_MAX),
};
const struct proto_message query_clause_message =
    PROTO_MESSAGE("clause", struct query_clause, clause_fields);

static const struct proto_field answer_fields[] = {
    PROTO_FIELD(struct query_answer, version, PROTO_U64, QUERY_VERSION, QUERY_VERSION),
    PROTO_FIELD(struct query_answer, query_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct query_answer, status, PROTO_U64, QUERY_ANSWERED, QUERY_WAITING),
    PROTO_FIELD(struct query_answer, error, PROTO_STR, 1, 64),
    PROTO_FIELD(struct query_answer, reason, PROTO_STR, 0, 64),
    PROTO_FIELD(struct query_answer, detail, PROTO_STR, 0, 512),
    PROTO_FIELD_LIST(struct query_answer, clauses, &query_clause_message, 0, QUERY_CLAUSES_MAX),
    PROTO_FIELD(struct query_answer, dataset_version, PROTO_STR, 0, 64),
    PROTO_FIELD(struct query_answer, cells, PROTO_U64, 0, QUERY_CELLS_MAX),
    PROTO_FIELD_LIST(struct query_answer, coordinates, &coordinate_message, 0,
                     QUERY_COORDINATES_MAX),
    PROTO_FIELD_LIST(struct query_answer, keys, &proto_text_message, 0,
                     QUERY_CELLS_MAX *PROTO_QUERY_GROUPS_MAX),
    PROTO_FIELD(struct query_answer, values, PROTO_BIN, 0, QUERY_NUMBERS_MAX * 8),
    PROTO_FIELD(struct query_answer, withheld, PROTO_BIN, 0, QUERY_CELLS_MAX),
    PROTO_FIELD(struct query_answer, replayed, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct query_answer, cost_nano, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct query_answer, cap_nano, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct query_answer, spent_nano, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct query_answer, left_nano, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct query_answer, account_delta_e12, PROTO_U64, 0, 999999999999),
    PROTO_FIELD(struct query_answer, epsilon_total_u, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct query_answer, epsilon_per_query_u, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD_OPTIONAL(struct query_answer, approval, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct query_answer, head, PROTO_BIN, STORE_AUDIT_HEAD_SIZE, STORE_AUDIT_HEAD_SIZE),
};
const struct proto_message query_answer_message =
    PROTO_MESSAGE("query answer", struct query_answer, answer_fields);

enum err query_answer_put(const struct query_answer *answer, struct buf *out,
                          struct err_info *reterr)
{
    return proto_codec_encode(&query_answer_message, answer, out, reterr);
}

enum err query_answer_take(struct span bytes, struct arena *arena, struct query_answer *ret,
                           struct err_info *reterr)
{
    return proto_codec_decode(&query_answer_message, bytes, arena, ret, reterr);
}

/* The outer layer of every signed message. */
struct sealed {
    struct span body;
    struct span signature;
};
static const struct proto_field sealed_fields[] = {
    PROTO_FIELD(struct sealed, body, PROTO_BIN, 1, PROTO_CODEC_MAX),
    PROTO_FIELD(struct sealed, signature, PROTO_BIN, 64, 64),
};
static const struct proto_message sealed_message =
    PROTO_MESSAGE("signed message", struct sealed, sealed_fields);

enum err query_message_seal(const struct proto_message *message, const void *object,
                            const char *domain, const struct crypto_identity *identity,
                            const uint8_t federation_id[16], struct buf *out,
                            struct err_info *reterr)
{
    struct buf body = {.max = PROTO_CODEC_MAX};
    uint8_t signature[64];
    enum err err = proto_codec_encode(message, object, &body, reterr);
    if (!err) {
        err = crypto_envelope_sign(identity, domain, federation_id, buf_span(&body), signature);
    }
    if (!err) {
        struct sealed sealed = {buf_span(&body), span_of(signature, sizeof signature)};
        err = proto_codec_encode(&sealed_message, &sealed, out, reterr);
    }
    buf_fini(&body);
    return err;
}

enum err query_message_open(const struct proto_message *message, struct span bytes,
                            const char *domain, const uint8_t point[65],
                            const uint8_t federation_id[16], struct arena *arena, void *object,
                            struct err_info *reterr)
{
    struct sealed sealed;
    enum err err = proto_codec_decode(&sealed_message, bytes, arena, &sealed, reterr);
    if (err) {
        return err;
    }
    err = crypto_envelope_verify(point, domain, federation_id, sealed.body, sealed.signature.ptr);
    if (err) {
        return proto_err_set(reterr, err, "the signature of the %s does not fit", message->name);
    }
    return proto_codec_decode(message, sealed.body, arena, object, reterr);
}

enum err query_message_peek(const struct proto_message *message, struct span bytes,
                            struct arena *arena, void *object, struct err_info *reterr)
{
    struct sealed sealed;
    enum err err = proto_codec_decode(&sealed_message, bytes, arena, &sealed, reterr);
    return err ? err : proto_codec_decode(message, sealed.body, arena, object, reterr);
}
