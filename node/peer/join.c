/* The joining side of enrolment: one blocking function without a loop. */
#include "config.h"
#include "node/peer/enrol_internal.h"
#include "node/peer/internal.h"
#include "node/peer/tls_engine.h"

#include <nng/protocol/reqrep0/req.h>
#include <stdlib.h>
#include <time.h>

#include "crypto/envelope.h"

#define POLL_MS 500

struct joining {
    const struct peer_enrol_join_options *options;
    struct peer_token token;
    uint8_t node_id[16];
    struct buf address_record;
    struct buf request;
    struct crypto_channel_profile *profile;
    nng_socket socket;
    bool socket_open;
    bool said_trying;
    uint64_t until_ms;
};

static void pause_ms(long ms)
{
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static enum err request_make(struct joining *j, struct err_info *reterr)
{
    const struct peer_enrol_join_options *o = j->options;
    uint8_t sig[64];
    struct buf csr = {.max = CRYPTO_CERTIFICATE_MAX}, bytes = {.max = 16384};
    enum err err = crypto_certificate_request(o->tls_key, &csr, reterr);
    err =
        err ? err
            /* The same bytes in every attempt with one token: two first versions would be an equivocation. */
            : enrol_address_record(o->identity, j->token.federation_id, o->listen,
                                   j->token.expires - ENROL_MEMBER_S, &j->address_record, reterr);
    struct enrol_request request = {.v = 1,
                                    .token = span_str(o->token),
                                    .point = span_of(crypto_identity_point(o->identity), 65),
                                    .csr = buf_span(&csr),
                                    .address_record = buf_span(&j->address_record),
                                    .signature = span_of(sig, 64)};
    err = err ? err : enrol_signed(&request, &bytes);
    err = err ? err
              : crypto_envelope_sign(o->identity, ENROL_DOMAIN, j->token.federation_id,
                                     buf_span(&bytes), sig);
    uint8_t head[PEER_FRAME_REQUEST_HEAD];
    struct peer_frame_request frame = {.type = PEER_MSG_ENROL, .deadline_ms = 10000};
    size_t head_len = peer_frame_encode_request(&frame, head);
    err = err ? err : buf_put(&j->request, span_of(head, head_len));
    err = err ? err : proto_codec_encode(&enrol_request_message, &request, &j->request, reterr);
    buf_fini(&csr);
    buf_fini(&bytes);
    return err;
}

static void say_trying(struct joining *j)
{
    if (!j->said_trying && j->options->trying) {
        j->options->trying(j->options->user, j->token.address);
    }
    j->said_trying = true;
}

static enum err connect_open(struct joining *j, struct err_info *reterr)
{
    nng_tls_config *config = NULL;
    nng_dialer dialer;
    if (nng_req0_open(&j->socket)) {
        return proto_err_set(reterr, E_IO, "NNG opens no socket");
    }
    j->socket_open = true;
    nng_socket_set_size(j->socket, NNG_OPT_RECVMAXSZ, PEER_FRAME_MAX);
    nng_socket_set_ms(j->socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    nng_socket_set_ms(j->socket, NNG_OPT_RECONNMINT, 200);
    nng_socket_set_ms(j->socket, NNG_OPT_RECONNMAXT, 2000);
    enum err err = peer_tls_register(reterr);
    err = err ? err
              : crypto_channel_profile_new(CRYPTO_CHANNEL_ENROL_CLIENT, NULL, SPAN_NONE, SPAN_NONE,
                                           j->token.federation, j->token.root_pin, NULL, NULL,
                                           &j->profile, reterr);
    err = err ? err : peer_tls_config(j->profile, false, NULL, &config, reterr);
    if (err) {
        return err;
    }
    int rv = nng_dialer_create(&dialer, j->socket, j->token.address);
    rv = rv ? rv : nng_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, config);
    nng_tls_config_free(config);
    while (!rv) {
        rv = nng_dialer_start(dialer, 0);
        if (rv == 0) {
            return E_OK;
        }
        if (rv == NNG_EPEERAUTH || rv == NNG_ECRYPTO) {
            return proto_err_set(reterr, E_AUTH, "%s is not the federation of this token",
                                 j->token.address);
        }
        if (peer_now_ms() + POLL_MS > j->until_ms) {
            break;
        }
        say_trying(j);
        pause_ms(POLL_MS);
        rv = 0;
    }
    return proto_err_set(reterr, E_UNREACHABLE, "nobody answers at %s: %s", j->token.address,
                         nng_strerror(rv));
}

static enum err ask_once(struct joining *j, struct buf *body, struct err_info *reterr)
{
    nng_msg *msg = NULL;
    struct peer_frame_reply reply;
    if (nng_msg_alloc(&msg, 0)) {
        return E_NO_MEMORY;
    }
    if (nng_msg_append(msg, j->request.ptr, j->request.len)) {
        nng_msg_free(msg);
        return E_NO_MEMORY;
    }
    int rv = nng_sendmsg(j->socket, msg, 0);
    if (rv) {
        nng_msg_free(msg);
    } else {
        rv = nng_recvmsg(j->socket, &msg, 0);
    }
    if (rv) {
        return proto_err_set(reterr, rv == NNG_ETIMEDOUT ? E_TIMEOUT : E_UNREACHABLE,
                             "no answer from %s: %s", j->token.address, nng_strerror(rv));
    }
    enum err err = peer_frame_decode_reply(span_of(nng_msg_body(msg), nng_msg_len(msg)), &reply);
    if (!err) {
        body->len = 0;
        err = buf_put(body, reply.body);
        if (!err && reply.status) {
            err = proto_err_set(reterr, reply.status, "the inviter answers: %.*s",
                                (int)(reply.body.len < 300 ? reply.body.len : 300),
                                (const char *)reply.body.ptr);
        }
    }
    nng_msg_free(msg);
    return err;
}

/* Asks until there is a certificate, a refusal, or no time left. A refused TLS session shows as no answer here. */
static enum err ask(struct joining *j, struct buf *body, struct err_info *reterr)
{
    bool told = false;
    for (;;) {
        uint64_t now = peer_now_ms();
        uint64_t left = j->until_ms > now ? j->until_ms - now : 1;
        nng_duration limit = left > 10000 ? 10000 : (nng_duration)left;
        nng_socket_set_ms(j->socket, NNG_OPT_SENDTIMEO, limit);
        nng_socket_set_ms(j->socket, NNG_OPT_RECVTIMEO, limit);
        enum err err = ask_once(j, body, reterr);
        bool again = err == E_APPROVAL || err == E_BUSY || err == E_UNREACHABLE || err == E_TIMEOUT;
        if (err == E_APPROVAL && !told && j->options->waiting) {
            char fingerprint[65];
            told = true;
            crypto_identity_fingerprint(crypto_identity_point(j->options->identity), fingerprint);
            j->options->waiting(j->options->user, fingerprint);
        }
        if (!again || peer_now_ms() + POLL_MS >= j->until_ms) {
            return err;
        }
        if (err == E_UNREACHABLE || err == E_TIMEOUT) {
            say_trying(j);
        }
        pause_ms(POLL_MS);
    }
}

/* --- what came must fit the token --------------------------------------------------------------------------------------------------- */

static enum err check_root(const struct joining *j, struct span root, struct err_info *reterr)
{
    uint8_t point[65], spki[CRYPTO_SPKI_SIZE], pin[32];
    char federation[33];
    enum err err = crypto_certificate_root_parse(root, federation, point, reterr);
    if (err) {
        return err;
    }
    crypto_identity_spki(point, spki);
    crypto_sha256_one(span_of(spki, sizeof spki), pin);
    if (memcmp(pin, j->token.root_pin, 32) != 0 || strcmp(federation, j->token.federation) != 0) {
        return proto_err_set(reterr, E_AUTH, "the root is not the one that the token names");
    }
    return E_OK;
}

static enum err check_certificate(const struct joining *j, struct span der, struct span root,
                                  struct err_info *reterr)
{
    struct crypto_certificate_info info;
    enum err err = crypto_certificate_verify(der, root, (int64_t)time(NULL), &info, reterr);
    if (err) {
        return err;
    }
    if (memcmp(info.node_id, j->node_id, 16) != 0 || strcmp(info.org, j->token.org) != 0 ||
        memcmp(info.point, crypto_identity_point(j->options->tls_key), 65) != 0) {
        return proto_err_set(reterr, E_AUTH, "the certificate is not for this node");
    }
    return E_OK;
}

static enum err check_charter(const struct joining *j, struct span record, struct buf *ret_root,
                              struct err_info *reterr)
{
    struct peer_directory *directory = NULL;
    struct arena arena = {0};
    struct proto_record decoded;
    struct proto_charter charter;
    enum err err = peer_directory_new(j->token.federation_id, j->node_id, &directory);
    err = err ? err : peer_directory_charter(directory, record, reterr);
    err = err ? err : proto_record_decode(record, &crypto_proto_hash, &decoded, reterr);
    err = err ? err : proto_charter_decode(decoded.envelope.body, &arena, &charter, reterr);
    err = err ? err : buf_put(ret_root, charter.root_der);
    err = err ? err : check_root(j, buf_span(ret_root), reterr);
    arena_fini(&arena);
    peer_directory_free(directory);
    return err;
}

/* An earlier attempt may have published another address of ours, which then stands. */
static bool address_among(const struct joining *j, const struct peer_enrol_result *result)
{
    struct span bytes;
    struct proto_record record;
    size_t offset = 0;
    while (peer_enrol_result_next(result, &offset, &bytes)) {
        if (!proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) &&
            record.envelope.kind == PROTO_RECORD_ADDRESS &&
            span_equal(record.envelope.issuer, span_of(j->node_id, 16))) {
            return true;
        }
    }
    return false;
}

static enum err result_make(struct joining *j, struct span body, struct peer_enrol_result *result,
                            struct err_info *reterr)
{
    struct arena unused = {0};
    struct enrol_reply reply;
    enum err err = proto_codec_decode(&enrol_reply_message, body, &unused, &reply, reterr);
    err = err ? err : check_charter(j, reply.charter, &result->root, reterr);
    err = err ? err : check_certificate(j, reply.certificate, buf_span(&result->root), reterr);
    err = err ? err : buf_put(&result->certificate, reply.certificate);
    err = err ? err : buf_put(&result->charter, reply.charter);
    err = err ? err : buf_put(&result->records, reply.records);
    if (!err && !address_among(j, result)) {
        err = enrol_records_add(&result->records, buf_span(&j->address_record));
    }
    memcpy(result->federation, j->token.federation, sizeof result->federation);
    memcpy(result->federation_id, j->token.federation_id, 16);
    return err;
}

static enum err join(struct joining *j, struct peer_enrol_result *result, struct err_info *reterr)
{
    struct buf body = {.max = PEER_MESSAGE_MAX};
    enum err err = request_make(j, reterr);
    err = err ? err : connect_open(j, reterr);
    err = err ? err : ask(j, &body, reterr);
    err = err ? err : result_make(j, buf_span(&body), result, reterr);
    buf_fini(&body);
    return err;
}

enum err peer_enrol_join(const struct peer_enrol_join_options *options,
                         struct peer_enrol_result *ret, struct err_info *reterr)
{
    struct joining j = {.options = options,
                        .address_record.max = PROTO_RECORD_MAX,
                        .request.max = 32768,
                        .until_ms = peer_now_ms() + options->deadline_ms};
    struct peer_enrol_result result = {.root.max = CRYPTO_CERTIFICATE_MAX,
                                       .certificate.max = CRYPTO_CERTIFICATE_MAX,
                                       .charter.max = PROTO_RECORD_MAX,
                                       .records.max = ENROL_RECORDS_MAX + PROTO_RECORD_MAX + 8};
    enum err err = peer_token_decode(options->token, strlen(options->token), &j.token, reterr);
    if (!err && strcmp(options->name, j.token.name) != 0) {
        err = proto_err_set(reterr, E_INVALID, "the token is for a node named %s", j.token.name);
    }
    if (!err && j.token.expires <= (int64_t)time(NULL)) {
        err = proto_err_set(reterr, E_REFUSED, "the invitation has expired");
    }
    crypto_identity_node_id(crypto_identity_point(options->identity), j.node_id);
    err = err ? err : join(&j, &result, reterr);
    if (j.socket_open) {
        nng_close(j.socket);
    }
    if (j.profile) {
        peer_tls_forget(j.profile);
        crypto_channel_profile_free(j.profile);
    }
    buf_fini(&j.address_record);
    buf_fini(&j.request);
    if (err) {
        peer_enrol_result_fini(&result);
        return err;
    }
    *ret = result;
    return E_OK;
}
