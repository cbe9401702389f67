#include "config.h"
#include "crypto/channel.h"

#include "crypto/certificate_private.h"
#include "crypto/compat_mbedtls.h"
#include "crypto/identity_pk.h"
#include "crypto/memory.h"

#include <limits.h>

#define EXPORTER_LABEL "EXPORTER-concordat-channel-v1"

/* Plain data only: every channel parses what it needs into objects of its own, because mbedTLS 2.28 caches curve tables
 * inside keys and certificates without a lock. */
struct crypto_channel_profile {
    enum crypto_channel_mode mode;
    struct crypto_identity *key; /* NULL at an enrolment client */
    struct buf cert;
    struct buf root;
    char federation[33]; /* empty: not compared */
    uint8_t root_pin[32];
    crypto_channel_admit *admit;
    void *user;
};

/* The first bytes that the server sends, in which the ServerHello stands in clear. mbedTLS has no switch that demands the
 * extended master secret (RFC 7627), without which an exporter value can be made equal in two sessions by a peer in the
 * middle (the triple handshake attack); so the server's agreement to it is read off the wire. */
#define HELLO_MAX 512
struct hello {
    uint8_t bytes[HELLO_MAX];
    size_t len;
};

struct crypto_channel {
    mbedtls_ssl_config conf;
    mbedtls_ssl_context ssl;
    mbedtls_x509_crt root;
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
    const struct crypto_channel_profile *profile;
    struct crypto_channel_io io;
    bool is_server;
    bool expects; /* a certain peer */
    bool done;
    bool has_peer;
    bool has_exporter;
    uint8_t expected_id[16];
    struct crypto_certificate_info peer;
    struct compat_exporter export;
    uint8_t exporter[CRYPTO_CHANNEL_EXPORTER_SIZE];
    struct hello hello;
};

/* --- profile --------------------------------------------------------------------------------------------------------- */

void crypto_channel_profile_free(struct crypto_channel_profile *profile)
{
    if (profile) {
        crypto_identity_free(profile->key);
        buf_fini(&profile->cert);
        buf_fini(&profile->root);
        proto_free(profile);
    }
}

/* Our own papers must be in order, or every peer would refuse us with less to say about it. Their dates are not judged:
 * no clock is read here, and peers judge them in each handshake. */
static enum err check_own(const struct crypto_channel_profile *profile, struct err_info *reterr)
{
    struct crypto_certificate_info info;
    enum err err = crypto_certificate_parse(buf_span(&profile->cert), &info, reterr);
    if (!err) {
        err = crypto_certificate_verify(buf_span(&profile->cert), buf_span(&profile->root),
                                        info.not_before, &info, reterr);
    }
    if (!err && memcmp(info.point, crypto_identity_point(profile->key), sizeof info.point) != 0) {
        err = proto_err_set(reterr, E_AUTH, "channel: the certificate is for another key");
    }
    if (!err && strcmp(info.federation, profile->federation) != 0) {
        err = proto_err_set(reterr, E_AUTH, "channel: the certificate is of federation %s",
                            info.federation);
    }
    return err;
}

static enum err fill_own(struct crypto_channel_profile *profile,
                         const struct crypto_identity *tls_key, struct span cert_der,
                         struct span root_der, struct err_info *reterr)
{
    enum err err = crypto_identity_clone(tls_key, &profile->key);
    profile->cert.max = profile->root.max = CRYPTO_CERTIFICATE_MAX;
    err = err ? err : buf_put(&profile->cert, cert_der);
    err = err ? err : buf_put(&profile->root, root_der);
    return err ? err : check_own(profile, reterr);
}

static bool complete(enum crypto_channel_mode mode, const struct crypto_identity *tls_key,
                     struct span cert_der, struct span root_der, const char *federation,
                     const uint8_t *root_pin, crypto_channel_admit *admit)
{
    switch (mode) {
    case CRYPTO_CHANNEL_MESH:
        return tls_key && cert_der.len && root_der.len && federation && admit;
    case CRYPTO_CHANNEL_ENROL_SERVER:
        return tls_key && cert_der.len && root_der.len && federation;
    case CRYPTO_CHANNEL_ENROL_CLIENT:
        return !tls_key && root_pin;
    }
    return false;
}

enum err crypto_channel_profile_new(enum crypto_channel_mode mode,
                                    const struct crypto_identity *tls_key, struct span cert_der,
                                    struct span root_der, const char *federation,
                                    const uint8_t root_pin[32], crypto_channel_admit *admit,
                                    void *user, struct crypto_channel_profile **ret,
                                    struct err_info *reterr)
{
    if (!complete(mode, tls_key, cert_der, root_der, federation, root_pin, admit) ||
        (federation && !crypto_certificate_federation_valid(federation))) {
        return proto_err_set(reterr, E_USAGE,
                             "channel: the profile lacks something that its mode needs");
    }
    struct crypto_channel_profile *profile = proto_alloc(1, sizeof *profile);
    if (!profile) {
        return proto_err_set(reterr, E_NO_MEMORY, "channel: out of memory");
    }
    profile->mode = mode;
    profile->admit = admit;
    profile->user = user;
    if (federation) {
        memcpy(profile->federation, federation, strlen(federation));
    }
    enum err err = E_OK;
    if (mode == CRYPTO_CHANNEL_ENROL_CLIENT) {
        memcpy(profile->root_pin, root_pin, sizeof profile->root_pin);
    } else {
        err = fill_own(profile, tls_key, cert_der, root_der, reterr);
    }
    if (err) {
        crypto_channel_profile_free(profile);
        return err;
    }
    *ret = profile;
    return E_OK;
}

/* --- the wire -------------------------------------------------------------------------------------------------------- */

static void hello_add(struct hello *hello, const uint8_t *bytes, int len)
{
    size_t room = sizeof hello->bytes - hello->len;
    if (len > 0 && room > 0) {
        size_t n = (size_t)len < room ? (size_t)len : room;
        memcpy(hello->bytes + hello->len, bytes, n);
        hello->len += n;
    }
}

/* Whether the ServerHello (RFC 5246 7.4.1.3) carries extension 23. Whatever does not parse counts as no. */
static bool hello_extended(const struct hello *hello)
{
    const uint8_t *b = hello->bytes;
    if (hello->len < 48 || b[0] != 22 || b[5] != 2) {
        return false; /* record type handshake, message type server_hello */
    }
    size_t end = 9 + ((size_t)b[6] << 16 | (size_t)b[7] << 8 | b[8]);
    size_t pos = 9 + 2 + 32;       /* version, random */
    pos += 1 + (size_t)b[pos] + 3; /* session id, suite, compression */
    if (end > hello->len || end > (size_t)5 + get_be16(b + 3) || pos + 2 > end) {
        return false;
    }
    end = pos + 2 + get_be16(b + pos) == end ? end : 0;
    for (pos += 2; pos + 4 <= end; pos += 4 + (size_t)get_be16(b + pos + 2)) {
        if (get_be16(b + pos) == 23) {
            return get_be16(b + pos + 2) == 0;
        }
    }
    return false;
}

static int bio_send(void *ctx, const unsigned char *bytes, size_t len)
{
    struct crypto_channel *channel = ctx;
    int n = channel->io.send(channel->io.ctx, bytes, len < INT_MAX ? len : INT_MAX);
    if (channel->is_server && !channel->done) {
        hello_add(&channel->hello, bytes, n);
    }
    return n > 0 ? n : n == 0 ? MBEDTLS_ERR_SSL_WANT_WRITE : MBEDTLS_ERR_SSL_CONN_EOF;
}

static int bio_recv(void *ctx, unsigned char *bytes, size_t len)
{
    struct crypto_channel *channel = ctx;
    int n = channel->io.recv(channel->io.ctx, bytes, len < INT_MAX ? len : INT_MAX);
    if (!channel->is_server && !channel->done) {
        hello_add(&channel->hello, bytes, n);
    }
    return n > 0 ? n : n == 0 ? MBEDTLS_ERR_SSL_WANT_READ : MBEDTLS_ERR_SSL_CONN_EOF;
}

/* --- judging the peer ------------------------------------------------------------------------------------------------ */

/* The rules that stand above the chain: shape, federation, the peer that we meant, and the caller's live word. */
static bool admitted(struct crypto_channel *channel, const mbedtls_x509_crt *crt)
{
    const struct crypto_channel_profile *profile = channel->profile;
    struct crypto_certificate_info info;
    if (crypto_certificate_read(crt, &info, NULL) != E_OK) {
        return false;
    }
    if (profile->federation[0] && strcmp(info.federation, profile->federation) != 0) {
        return false;
    }
    if (channel->expects && memcmp(info.node_id, channel->expected_id, sizeof info.node_id) != 0) {
        return false;
    }
    if (profile->admit && !profile->admit(profile->user, &info)) {
        return false;
    }
    channel->peer = info;
    channel->has_peer = true;
    return true;
}

/* mbedTLS calls this for each certificate, the root first, with what it found wrong so far. */
static int verify_mesh(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    struct crypto_channel *channel = ctx;
    if (depth > 1 || (depth == 0 && *flags == 0 && !admitted(channel, crt))) {
        *flags |= MBEDTLS_X509_BADCERT_OTHER;
    }
    return 0;
}

static bool pinned(const struct crypto_channel_profile *profile, const mbedtls_x509_crt *crt)
{
    uint8_t hash[32];
    crypto_sha256_one(span_of(crt->pk_raw.p, crt->pk_raw.len), hash);
    return crypto_equal(hash, profile->root_pin, sizeof hash);
}

/* An enrolling node knows no root, only its key's hash: the root is taken from what the server sent, and must be the
 * pinned one, of a root's shape, signed by itself, and the signer of the server's certificate. Nothing of ours has been
 * sent before this. */
static bool enrol_server_valid(struct crypto_channel *channel)
{
    const mbedtls_x509_crt *sent = mbedtls_ssl_get_peer_cert(&channel->ssl);
    if (!sent || !sent->next || sent->next->next || !pinned(channel->profile, sent->next)) {
        return false;
    }
    mbedtls_x509_crt leaf;
    mbedtls_x509_crt root;
    mbedtls_x509_crt_init(&leaf);
    mbedtls_x509_crt_init(&root);
    char federation[33];
    uint8_t point[65];
    uint32_t flags = 0;
    const mbedtls_x509_crt *next = sent->next;
    bool ok = mbedtls_x509_crt_parse_der(&leaf, sent->raw.p, sent->raw.len) == 0 &&
              mbedtls_x509_crt_parse_der(&root, next->raw.p, next->raw.len) == 0 &&
              crypto_certificate_root_parse(span_of(next->raw.p, next->raw.len), federation, point,
                                            NULL) == E_OK &&
              mbedtls_x509_crt_verify_with_profile(&leaf, &root, NULL, &crypto_certificate_profile,
                                                   NULL, &flags, NULL, NULL) == 0 &&
              flags == 0 && admitted(channel, &leaf) &&
              strcmp(channel->peer.federation, federation) == 0;
    mbedtls_x509_crt_free(&root);
    mbedtls_x509_crt_free(&leaf);
    return ok;
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

size_t crypto_channel_size(void)
{
    return sizeof(struct crypto_channel);
}

static void export_done(void *user, const unsigned char value[32])
{
    struct crypto_channel *channel = user;
    memcpy(channel->exporter, value, sizeof channel->exporter);
    channel->has_exporter = true;
}

static int authmode(const struct crypto_channel *channel)
{
    switch (channel->profile->mode) {
    case CRYPTO_CHANNEL_MESH:
        return MBEDTLS_SSL_VERIFY_REQUIRED;
    case CRYPTO_CHANNEL_ENROL_SERVER:
        return MBEDTLS_SSL_VERIFY_NONE; /* the client has no certificate yet: it brings a token */
    case CRYPTO_CHANNEL_ENROL_CLIENT:
        return MBEDTLS_SSL_VERIFY_OPTIONAL; /* there is no root to verify against: enrol_server_valid judges */
    }
    return MBEDTLS_SSL_VERIFY_REQUIRED;
}

static int configure(struct crypto_channel *channel)
{
    static const int suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                                 MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, 0};
    mbedtls_ssl_config *conf = &channel->conf;
    int ret = mbedtls_ssl_config_defaults(
        conf, channel->is_server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
        MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (ret != 0) {
        return ret;
    }
    compat_ssl_conf_tls12(conf);
    mbedtls_ssl_conf_authmode(conf, authmode(channel));
    mbedtls_ssl_conf_ciphersuites(conf, suites);
    mbedtls_ssl_conf_cert_profile(conf, &crypto_certificate_profile);
    mbedtls_ssl_conf_extended_master_secret(conf, MBEDTLS_SSL_EXTENDED_MS_ENABLED);
    mbedtls_ssl_conf_rng(conf, compat_rng, NULL);
#if defined(MBEDTLS_SSL_RENEGOTIATION)
    mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
#endif
#if defined(MBEDTLS_SSL_SESSION_TICKETS) && defined(MBEDTLS_SSL_CLI_C)
    mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
#endif
    return 0;
}

/* Our key, certificate and root, and who may be on the other side. */
static enum err equip(struct crypto_channel *channel)
{
    const struct crypto_channel_profile *profile = channel->profile;
    if (!profile->key) {
        return E_OK;
    }
    enum err err = crypto_identity_to_pk(profile->key, &channel->key);
    if (err) {
        return err;
    }
    bool send_root = profile->mode == CRYPTO_CHANNEL_ENROL_SERVER;
    if (mbedtls_x509_crt_parse_der(&channel->chain, profile->cert.ptr, profile->cert.len) != 0 ||
        (send_root &&
         mbedtls_x509_crt_parse_der(&channel->chain, profile->root.ptr, profile->root.len) != 0) ||
        mbedtls_x509_crt_parse_der(&channel->root, profile->root.ptr, profile->root.len) != 0 ||
        mbedtls_ssl_conf_own_cert(&channel->conf, &channel->chain, &channel->key) != 0) {
        return E_INTERNAL;
    }
    mbedtls_ssl_conf_ca_chain(&channel->conf, &channel->root, NULL);
    return E_OK;
}

static enum err start(struct crypto_channel *channel, const char *expected_node_id_hex)
{
    if (configure(channel) != 0) {
        return E_INTERNAL;
    }
    enum err err = equip(channel);
    if (err) {
        return err;
    }
    if (mbedtls_ssl_setup(&channel->ssl, &channel->conf) != 0) {
        return E_NO_MEMORY;
    }
    channel->export = (struct compat_exporter){EXPORTER_LABEL, export_done, channel};
    compat_ssl_export(&channel->conf, &channel->ssl, &channel->export);
    if (channel->profile->mode == CRYPTO_CHANNEL_MESH) {
        mbedtls_ssl_set_verify(&channel->ssl, verify_mesh, channel);
    }
    /* Always called, with NULL where no peer is named: newer libraries refuse a client that left it open. */
    if (!channel->is_server && mbedtls_ssl_set_hostname(&channel->ssl, expected_node_id_hex) != 0) {
        return E_NO_MEMORY;
    }
    mbedtls_ssl_set_bio(&channel->ssl, channel, bio_send, bio_recv, NULL);
    return E_OK;
}

enum err crypto_channel_init(struct crypto_channel *channel,
                             const struct crypto_channel_profile *profile, bool is_server,
                             const char *expected_node_id_hex, struct crypto_channel_io io)
{
    memset(channel, 0, sizeof *channel);
    mbedtls_ssl_config_init(&channel->conf);
    mbedtls_ssl_init(&channel->ssl);
    mbedtls_x509_crt_init(&channel->root);
    mbedtls_x509_crt_init(&channel->chain);
    mbedtls_pk_init(&channel->key);
    channel->profile = profile;
    channel->is_server = is_server;
    channel->io = io;
    bool mesh = profile->mode == CRYPTO_CHANNEL_MESH;
    enum err err = E_OK;
    if ((!mesh && is_server != (profile->mode == CRYPTO_CHANNEL_ENROL_SERVER)) ||
        (mesh && !is_server && !expected_node_id_hex)) {
        err = E_USAGE;
    } else if (expected_node_id_hex) {
        char canonical[33];
        channel->expects = true;
        if (!span_from_hex(expected_node_id_hex, channel->expected_id,
                           sizeof channel->expected_id)) {
            err = E_USAGE;
        } else {
            span_to_hex(span_of(channel->expected_id, sizeof channel->expected_id), canonical);
            err = start(channel, canonical);
        }
    } else {
        err = start(channel, NULL);
    }
    if (err) {
        crypto_channel_fini(channel);
    }
    return err;
}

void crypto_channel_fini(struct crypto_channel *channel)
{
    if (!channel || !channel->profile) {
        return;
    }
    mbedtls_ssl_free(&channel->ssl);
    mbedtls_ssl_config_free(&channel->conf);
    mbedtls_pk_free(&channel->key);
    mbedtls_x509_crt_free(&channel->chain);
    mbedtls_x509_crt_free(&channel->root);
    crypto_wipe(channel, sizeof *channel);
}

/* --- use ------------------------------------------------------------------------------------------------------------- */

static enum err map(int ret)
{
    switch (ret) {
    case MBEDTLS_ERR_SSL_WANT_READ:
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        return E_BUSY;
    case MBEDTLS_ERR_SSL_CONN_EOF:
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
        return E_IO;
    case MBEDTLS_ERR_SSL_ALLOC_FAILED:
        return E_NO_MEMORY;
    default:
        return E_AUTH;
    }
}

/* What the library does not promise by itself. */
static bool acceptable(struct crypto_channel *channel)
{
    if (!channel->has_exporter || !hello_extended(&channel->hello)) {
        return false;
    }
    switch (channel->profile->mode) {
    case CRYPTO_CHANNEL_MESH:
        return channel->has_peer && mbedtls_ssl_get_verify_result(&channel->ssl) == 0;
    case CRYPTO_CHANNEL_ENROL_SERVER:
        return true;
    case CRYPTO_CHANNEL_ENROL_CLIENT:
        return enrol_server_valid(channel);
    }
    return false;
}

enum err crypto_channel_handshake(struct crypto_channel *channel)
{
    if (channel->done) {
        return E_OK;
    }
    int ret = mbedtls_ssl_handshake(&channel->ssl);
    if (ret != 0) {
        return map(ret);
    }
    if (!acceptable(channel)) {
        (void)mbedtls_ssl_send_alert_message(&channel->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                             MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE);
        return E_AUTH;
    }
    channel->done = true;
    return E_OK;
}

enum err crypto_channel_read(struct crypto_channel *channel, uint8_t *to, size_t *inout_len)
{
    if (!channel->done) {
        return E_USAGE;
    }
    int ret = mbedtls_ssl_read(&channel->ssl, to, *inout_len);
    *inout_len = ret > 0 ? (size_t)ret : 0;
    return ret > 0 ? E_OK : ret == 0 ? E_IO : map(ret);
}

enum err crypto_channel_write(struct crypto_channel *channel, const uint8_t *from,
                              size_t *inout_len)
{
    if (!channel->done) {
        return E_USAGE;
    }
    int ret = mbedtls_ssl_write(&channel->ssl, from, *inout_len);
    *inout_len = ret > 0 ? (size_t)ret : 0;
    return ret >= 0 ? E_OK : map(ret);
}

void crypto_channel_close(struct crypto_channel *channel)
{
    if (channel->done) {
        (void)mbedtls_ssl_close_notify(&channel->ssl);
    }
}

const struct crypto_certificate_info *crypto_channel_peer(const struct crypto_channel *channel)
{
    return channel->done && channel->has_peer ? &channel->peer : NULL;
}

const uint8_t *crypto_channel_exporter(const struct crypto_channel *channel)
{
    return channel->done ? channel->exporter : NULL;
}

const char *crypto_channel_suite(const struct crypto_channel *channel)
{
    return channel->done ? mbedtls_ssl_get_ciphersuite(&channel->ssl) : NULL;
}
