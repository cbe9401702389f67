/* Founding a federation, and what the inviting and the joining side share. */
#include "config.h"
#include "node/peer/enrol_internal.h"

#include <stdio.h>
#include <string.h>

#include "crypto/envelope.h"

static const struct proto_field request_fields[] = {
    PROTO_FIELD(struct enrol_request, v, PROTO_U64, 1, 1),
    PROTO_FIELD(struct enrol_request, token, PROTO_STR, 1, PEER_TOKEN_TEXT),
    PROTO_FIELD(struct enrol_request, point, PROTO_BIN, 65, 65),
    PROTO_FIELD(struct enrol_request, csr, PROTO_BIN, 1, 4096),
    PROTO_FIELD(struct enrol_request, address_record, PROTO_BIN, 1, PROTO_RECORD_MAX),
    PROTO_FIELD(struct enrol_request, signature, PROTO_BIN, 64, 64),
};
const struct proto_message enrol_request_message =
    PROTO_MESSAGE("enrolment", struct enrol_request, request_fields);

static const struct proto_field reply_fields[] = {
    PROTO_FIELD(struct enrol_reply, v, PROTO_U64, 1, 1),
    PROTO_FIELD(struct enrol_reply, certificate, PROTO_BIN, 1, 4096),
    PROTO_FIELD(struct enrol_reply, charter, PROTO_BIN, 1, PROTO_RECORD_MAX),
    PROTO_FIELD(struct enrol_reply, records, PROTO_BIN, 0, ENROL_RECORDS_MAX),
};
const struct proto_message enrol_reply_message =
    PROTO_MESSAGE("enrolment answer", struct enrol_reply, reply_fields);

enum err enrol_records_add(struct buf *records, struct span record)
{
    uint8_t head[4];
    size_t before = records->len;
    put_be32(head, (uint32_t)record.len);
    enum err err = buf_put(records, span_of(head, 4));
    err = err ? err : buf_put(records, record);
    if (err) {
        records->len = before;
    }
    return err;
}

bool peer_enrol_result_next(const struct peer_enrol_result *result, size_t *offset,
                            struct span *ret)
{
    const struct buf *records = &result->records;
    if (records->len < 4 || *offset > records->len - 4) {
        return false;
    }
    size_t len = get_be32(records->ptr + *offset);
    if (len > records->len - 4 - *offset) {
        return false;
    }
    *ret = span_of(records->ptr + *offset + 4, len);
    *offset += 4 + len;
    return true;
}

void peer_enrol_result_fini(struct peer_enrol_result *result)
{
    buf_fini(&result->root);
    buf_fini(&result->certificate);
    buf_fini(&result->charter);
    buf_fini(&result->records);
}

enum err enrol_signed(const struct enrol_request *request, struct buf *out)
{
    const struct span parts[] = {request->token, request->csr, request->address_record};
    enum err err = E_OK;
    for (size_t i = 0; !err && i < sizeof parts / sizeof *parts; i++) {
        err = enrol_records_add(out, parts[i]);
    }
    return err;
}

enum err enrol_member_body(const struct enrol_names *names, const struct crypto_identity *council,
                           const uint8_t federation_id[16], int64_t now, struct buf *out,
                           struct err_info *reterr)
{
    uint8_t id[16], signer[16], sig[64];
    struct proto_text role = {span_str(names->role ? names->role : "node")};
    struct proto_signature signature = {span_of(signer, 16), span_of(sig, 64)};
    crypto_identity_node_id(names->point, id);
    crypto_identity_node_id(crypto_identity_point(council), signer);
    struct proto_member body = {.v = PROTO_BODY_VERSION,
                                .node_id = span_of(id, 16),
                                .name = span_str(names->name),
                                .identity_point = span_of(names->point, 65),
                                .tls_spki = span_of(names->tls_spki, 32),
                                .org = span_str(names->org),
                                .org_type = span_str(names->org_type),
                                .country = span_str(names->country),
                                .roles = {&role, 1},
                                .not_before = (uint64_t)(now - ENROL_CLOCK_S),
                                .expires = (uint64_t)(now + ENROL_MEMBER_S)};
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    enum err err = proto_member_signed(&body, &bytes, reterr);
    if (!err) {
        err = crypto_envelope_sign(council, PROTO_MEMBER_DOMAIN, federation_id, buf_span(&bytes),
                                   sig);
    }
    body.signatures = (struct proto_list){&signature, 1};
    if (!err) {
        err = proto_member_encode(&body, out, reterr);
    }
    buf_fini(&bytes);
    return err;
}

enum err enrol_record(const struct crypto_identity *issuer, const uint8_t federation_id[16],
                      uint64_t kind, const char *key_name, struct span body, int64_t now,
                      struct buf *out, struct err_info *reterr)
{
    uint8_t id[16], key[16], sig[64];
    struct buf bytes = {.max = PROTO_RECORD_MAX};
    crypto_identity_node_id(crypto_identity_point(issuer), id);
    proto_record_key(&crypto_proto_hash, key_name, key);
    struct proto_envelope envelope = {.version = 1,
                                      .kind = kind,
                                      .issuer = span_of(id, 16),
                                      .key = span_of(key, 16),
                                      .seq = 1,
                                      .hlc = (uint64_t)now * 1000 << 16,
                                      .body = body};
    enum err err = proto_record_encode(&envelope, &bytes, reterr);
    if (!err) {
        err =
            crypto_envelope_sign(issuer, PROTO_RECORD_DOMAIN, federation_id, buf_span(&bytes), sig);
    }
    if (!err) {
        err = proto_record_seal(buf_span(&bytes), sig, out);
    }
    buf_fini(&bytes);
    return err;
}

enum err enrol_address_record(const struct crypto_identity *issuer, const uint8_t federation_id[16],
                              const char *listen, int64_t now, struct buf *out,
                              struct err_info *reterr)
{
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    struct proto_address address = {
        .v = PROTO_BODY_VERSION, .url = span_str(listen), .reverse = strcmp(listen, "none") == 0};
    enum err err = proto_address_encode(&address, &body, reterr);
    if (!err) {
        err = enrol_record(issuer, federation_id, PROTO_RECORD_ADDRESS, ENROL_ADDRESS_KEY,
                           buf_span(&body), now, out, reterr);
    }
    buf_fini(&body);
    return err;
}

/* --- founding --------------------------------------------------------------------------------------------------------------- */

static enum err found_charter(const struct peer_enrol_found_options *o,
                              struct peer_enrol_result *result, struct err_info *reterr)
{
    uint8_t id[16];
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    crypto_identity_node_id(crypto_identity_point(o->identity), id);
    struct proto_council_seat seat = {span_of(id, 16),
                                      span_of(crypto_identity_point(o->identity), 65)};
    struct proto_charter charter = {.v = PROTO_BODY_VERSION,
                                    .federation = span_str(o->federation),
                                    .federation_id = span_of(result->federation_id, 16),
                                    .root_der = buf_span(&result->root),
                                    .council = {&seat, 1},
                                    .threshold = proto_charter_threshold(1)};
    enum err err = proto_charter_encode(&charter, &body, reterr);
    if (!err) {
        err = enrol_record(o->identity, result->federation_id, PROTO_RECORD_CHARTER,
                           ENROL_CHARTER_KEY, buf_span(&body), o->now, &result->charter, reterr);
    }
    buf_fini(&body);
    return err;
}

static enum err found_certificate(const struct peer_enrol_found_options *o,
                                  struct peer_enrol_result *result, struct err_info *reterr)
{
    uint8_t id[16];
    struct buf csr = {.max = CRYPTO_CERTIFICATE_MAX};
    crypto_identity_node_id(crypto_identity_point(o->identity), id);
    enum err err = crypto_certificate_root(o->root, o->federation, o->now - ENROL_CLOCK_S,
                                           o->now + ENROL_ROOT_S, &result->root, reterr);
    if (!err) {
        err = crypto_certificate_request(o->tls_key, &csr, reterr);
    }
    if (!err) {
        err = crypto_certificate_issue(o->root, buf_span(&result->root), buf_span(&csr),
                                       o->federation, o->org, id, o->now - ENROL_CLOCK_S,
                                       o->now + ENROL_CERTIFICATE_S, &result->certificate, reterr);
    }
    buf_fini(&csr);
    return err;
}

static enum err found_records(const struct peer_enrol_found_options *o,
                              struct peer_enrol_result *result, struct err_info *reterr)
{
    struct crypto_certificate_info info;
    struct buf body = {.max = PROTO_RECORD_BODY_MAX}, member = {.max = PROTO_RECORD_MAX},
               address = {.max = PROTO_RECORD_MAX};
    enum err err = crypto_certificate_parse(buf_span(&result->certificate), &info, reterr);
    if (!err) {
        struct enrol_names names = {o->name,       o->org,  o->org_type,
                                    o->country,    o->role, crypto_identity_point(o->identity),
                                    info.spki_hash};
        err = enrol_member_body(&names, o->identity, result->federation_id, o->now, &body, reterr);
    }
    if (!err) {
        err = enrol_record(o->identity, result->federation_id, PROTO_RECORD_MEMBER, o->name,
                           buf_span(&body), o->now, &member, reterr);
    }
    if (!err) {
        err = enrol_address_record(o->identity, result->federation_id, o->listen, o->now, &address,
                                   reterr);
    }
    err = err ? err : enrol_records_add(&result->records, buf_span(&result->charter));
    err = err ? err : enrol_records_add(&result->records, buf_span(&member));
    err = err ? err : enrol_records_add(&result->records, buf_span(&address));
    buf_fini(&body);
    buf_fini(&member);
    buf_fini(&address);
    return err;
}

enum err peer_enrol_found(const struct peer_enrol_found_options *o, struct peer_enrol_result *ret,
                          struct err_info *reterr)
{
    struct peer_enrol_result result = {.root.max = CRYPTO_CERTIFICATE_MAX,
                                       .certificate.max = CRYPTO_CERTIFICATE_MAX,
                                       .charter.max = PROTO_RECORD_MAX,
                                       .records.max = ENROL_RECORDS_MAX};
    if (!proto_name_valid(span_str(o->name)) || !proto_name_valid(span_str(o->federation))) {
        return proto_err_set(reterr, E_INVALID,
                             "names have 1 to 32 of a-z, 0-9 and '-', and begin with no '-'");
    }
    snprintf(result.federation, sizeof result.federation, "%s", o->federation);
    crypto_identity_node_id(crypto_identity_point(o->root), result.federation_id);
    enum err err = found_certificate(o, &result, reterr);
    err = err ? err : found_charter(o, &result, reterr);
    err = err ? err : found_records(o, &result, reterr);
    if (err) {
        peer_enrol_result_fini(&result);
        return err;
    }
    *ret = result;
    return E_OK;
}
