#include "config.h"
#include "node/peer/enrol.h"

#include <string.h>

#include "crypto/envelope.h"
#include "proto/base64.h"
#include "proto/codec.h"
#include "proto/record.h"

#define TOKEN_DOMAIN "concordat1-token"
#define TOKEN_BYTES  1400 /* so that the text stays below PEER_TOKEN_TEXT */

struct token_body {
    uint64_t v;
    struct span federation;
    struct span federation_id;
    struct span address;
    struct span root_pin;
    struct span name;
    struct span org;
    struct span org_type;
    struct span country;
    struct span role;
    uint64_t expires;
    struct span nonce;
    struct span key;
};
static const struct proto_field body_fields[] = {
    PROTO_FIELD(struct token_body, v, PROTO_U64, 1, 1),
    PROTO_FIELD(struct token_body, federation, PROTO_STR, 1, 32),
    PROTO_FIELD(struct token_body, federation_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct token_body, address, PROTO_STR, 12, 127),
    PROTO_FIELD(struct token_body, root_pin, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct token_body, name, PROTO_STR, 1, 32),
    PROTO_FIELD(struct token_body, org, PROTO_STR, 1, 64),
    PROTO_FIELD(struct token_body, org_type, PROTO_STR, 9, 10),
    PROTO_FIELD(struct token_body, country, PROTO_STR, 2, 2),
    PROTO_FIELD(struct token_body, role, PROTO_STR, 1, 16),
    PROTO_FIELD(struct token_body, expires, PROTO_U64, 1, INT64_C(1) << 40),
    PROTO_FIELD(struct token_body, nonce, PROTO_BIN, 16, 16),
    PROTO_FIELD_OPTIONAL(struct token_body, key, PROTO_BIN, 32, 32),
};
static const struct proto_message body_message =
    PROTO_MESSAGE("token", struct token_body, body_fields);

struct token_signed {
    struct span body;
    struct span signature;
};
static const struct proto_field signed_fields[] = {
    PROTO_FIELD(struct token_signed, body, PROTO_BIN, 1, 1024),
    PROTO_FIELD(struct token_signed, signature, PROTO_BIN, 64, 64),
};
static const struct proto_message signed_message =
    PROTO_MESSAGE("token", struct token_signed, signed_fields);

/* --- tokens ---------------------------------------------------------------------------------------------------------------- */

static bool blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static enum err token_open(const char *text, size_t len, uint8_t bytes[TOKEN_BYTES],
                           struct token_signed *ret_signed, struct token_body *ret_body,
                           struct err_info *reterr)
{
    struct arena unused = {0};
    struct buf decoded = {.max = TOKEN_BYTES};
    while (len && blank(text[len - 1])) {
        len--;
    }
    while (len && blank(*text)) {
        text++;
        len--;
    }
    if (len >= PEER_TOKEN_TEXT ||
        proto_base64_decode(PROTO_BASE64_URL, span_of(text, len), &decoded)) {
        buf_fini(&decoded);
        return proto_err_set(reterr, E_INVALID, "this is not an invitation token");
    }
    size_t bytes_len = decoded.len;
    if (bytes_len) {
        memcpy(bytes, decoded.ptr, bytes_len);
    }
    buf_fini(&decoded);
    enum err err =
        proto_codec_decode(&signed_message, span_of(bytes, bytes_len), &unused, ret_signed, reterr);
    return err ? err
               : proto_codec_decode(&body_message, ret_signed->body, &unused, ret_body, reterr);
}

static enum err token_fill(const struct token_body *body, struct peer_token *ret,
                           struct err_info *reterr)
{
    struct peer_token token = {.expires = (int64_t)body->expires, .has_key = body->key.ptr != NULL};
    if (!span_to_cstr(body->federation, token.federation, sizeof token.federation) ||
        !span_to_cstr(body->address, token.address, sizeof token.address) ||
        !span_to_cstr(body->name, token.name, sizeof token.name) ||
        !span_to_cstr(body->org, token.org, sizeof token.org) ||
        !span_to_cstr(body->org_type, token.org_type, sizeof token.org_type) ||
        !span_to_cstr(body->country, token.country, sizeof token.country) ||
        !span_to_cstr(body->role, token.role, sizeof token.role)) {
        return proto_err_set(reterr, E_INVALID, "the token holds a bad name");
    }
    memcpy(token.federation_id, body->federation_id.ptr, 16);
    memcpy(token.root_pin, body->root_pin.ptr, 32);
    memcpy(token.nonce, body->nonce.ptr, 16);
    if (token.has_key) {
        memcpy(token.key, body->key.ptr, 32);
    }
    *ret = token;
    return E_OK;
}

enum err peer_token_decode(const char *text, size_t len, struct peer_token *ret,
                           struct err_info *reterr)
{
    uint8_t bytes[TOKEN_BYTES];
    struct token_signed sealed;
    struct token_body body;
    enum err err = token_open(text, len, bytes, &sealed, &body, reterr);
    return err ? err : token_fill(&body, ret, reterr);
}

enum err peer_token_verify(const char *text, size_t len, const uint8_t root_point[65],
                           struct peer_token *ret, struct err_info *reterr)
{
    uint8_t bytes[TOKEN_BYTES];
    struct token_signed sealed;
    struct token_body body;
    enum err err = token_open(text, len, bytes, &sealed, &body, reterr);
    if (!err && crypto_envelope_verify(root_point, TOKEN_DOMAIN, body.federation_id.ptr,
                                       sealed.body, sealed.signature.ptr)) {
        err = proto_err_set(reterr, E_AUTH, "the token is not signed by this federation's root");
    }
    return err ? err : token_fill(&body, ret, reterr);
}

enum err peer_token_encode(const struct peer_token *token, const struct crypto_identity *root,
                           char *text, size_t cap, struct err_info *reterr)
{
    struct token_body body = {
        .v = 1,
        .federation = span_str(token->federation),
        .federation_id = span_of(token->federation_id, 16),
        .address = span_str(token->address),
        .root_pin = span_of(token->root_pin, 32),
        .name = span_str(token->name),
        .org = span_str(token->org),
        .org_type = span_str(token->org_type),
        .country = span_str(token->country),
        .role = span_str(token->role),
        .expires = (uint64_t)token->expires,
        .nonce = span_of(token->nonce, 16),
        .key = token->has_key ? span_of(token->key, 32) : SPAN_NONE,
    };
    uint8_t sig[64];
    struct buf inner = {.max = 1024}, outer = {.max = TOKEN_BYTES};
    struct buf encoded = {.max = 2 * TOKEN_BYTES};
    enum err err = proto_codec_encode(&body_message, &body, &inner, reterr);
    if (!err) {
        err = crypto_envelope_sign(root, TOKEN_DOMAIN, token->federation_id, buf_span(&inner), sig);
    }
    if (!err) {
        struct token_signed sealed = {buf_span(&inner), span_of(sig, 64)};
        err = proto_codec_encode(&signed_message, &sealed, &outer, reterr);
    }
    if (!err) {
        err = proto_base64_encode(PROTO_BASE64_URL, buf_span(&outer), &encoded);
    }
    if (!err && !span_to_cstr(buf_span(&encoded), text, cap)) {
        err = proto_err_set(reterr, E_LIMIT, "the token does not fit its buffer");
    }
    buf_fini(&encoded);
    buf_fini(&inner);
    buf_fini(&outer);
    return err;
}
