/* A channel by mbedTLS. */
#include "config.h"
#include "crypto/certificate_private.h"
#include "crypto/channel_private.h"
#include "crypto/compat_mbedtls.h"
#include "crypto/identity_pk.h"
#include "crypto/memory.h"

#include <limits.h>
#include <time.h>

/* The first bytes that the server sends, in which the ServerHello stands in clear. mbedTLS has no switch that demands the
 * extended master secret (RFC 7627), without which an exporter value can be made equal in two sessions by a peer in the
 * middle (the triple handshake attack); so the server's agreement to it is read off the wire. */
#define HELLO_MAX 512
struct hello {
    uint8_t bytes[HELLO_MAX];
    size_t len;
};

/* Each session parses what it needs into objects of its own, because mbedTLS 2.28 caches curve tables inside keys and
 * certificates without a lock. */
struct session {
    mbedtls_ssl_config conf;
    mbedtls_ssl_context ssl;
    mbedtls_x509_crt root;
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
    struct crypto_channel *channel;
    struct compat_exporter export;
    bool has_exporter;
    struct hello hello;
};

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
    struct session *session = ctx;
    struct crypto_channel *channel = session->channel;
    int n = channel->io.send(channel->io.ctx, bytes, len < INT_MAX ? len : INT_MAX);
    if (channel->is_server && !channel->done) {
        hello_add(&session->hello, bytes, n);
    }
    return n > 0 ? n : n == 0 ? MBEDTLS_ERR_SSL_WANT_WRITE : MBEDTLS_ERR_SSL_CONN_EOF;
}

static int bio_recv(void *ctx, unsigned char *bytes, size_t len)
{
    struct session *session = ctx;
    struct crypto_channel *channel = session->channel;
    int n = channel->io.recv(channel->io.ctx, bytes, len < INT_MAX ? len : INT_MAX);
    if (!channel->is_server && !channel->done) {
        hello_add(&session->hello, bytes, n);
    }
    return n > 0 ? n : n == 0 ? MBEDTLS_ERR_SSL_WANT_READ : MBEDTLS_ERR_SSL_CONN_EOF;
}

/* --- judging the peer ------------------------------------------------------------------------------------------------ */

static bool admitted(struct crypto_channel *channel, const mbedtls_x509_crt *crt)
{
    struct crypto_certificate_info info;
    return crypto_certificate_read(crt, &info, NULL) == E_OK && channel_admitted(channel, &info);
}

/* mbedTLS calls this for each certificate, the root first, with what it found wrong so far. */
static int verify_mesh(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    struct session *session = ctx;
    if (depth > 1 || (depth == 0 && *flags == 0 && !admitted(session->channel, crt))) {
        *flags |= MBEDTLS_X509_BADCERT_OTHER;
    }
    return 0;
}

static bool enrol_server_valid(struct session *session)
{
    const mbedtls_x509_crt *sent = mbedtls_ssl_get_peer_cert(&session->ssl);
    return sent && sent->next && !sent->next->next &&
           channel_enrol_admitted(session->channel, span_of(sent->raw.p, sent->raw.len),
                                  span_of(sent->next->raw.p, sent->next->raw.len), time(NULL));
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

static void export_done(void *user, const unsigned char value[32])
{
    struct session *session = user;
    memcpy(session->channel->exporter, value, sizeof session->channel->exporter);
    session->has_exporter = true;
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

static int configure(struct session *session)
{
    static const int suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                                 MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, 0};
    mbedtls_ssl_config *conf = &session->conf;
    const struct crypto_channel *channel = session->channel;
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
static enum err equip(struct session *session)
{
    const struct crypto_channel_profile *profile = session->channel->profile;
    if (!profile->key) {
        return E_OK;
    }
    enum err err = crypto_identity_to_pk(profile->key, &session->key);
    if (err) {
        return err;
    }
    bool send_root = profile->mode == CRYPTO_CHANNEL_ENROL_SERVER;
    if (mbedtls_x509_crt_parse_der(&session->chain, profile->cert.ptr, profile->cert.len) != 0 ||
        (send_root &&
         mbedtls_x509_crt_parse_der(&session->chain, profile->root.ptr, profile->root.len) != 0) ||
        mbedtls_x509_crt_parse_der(&session->root, profile->root.ptr, profile->root.len) != 0 ||
        mbedtls_ssl_conf_own_cert(&session->conf, &session->chain, &session->key) != 0) {
        return E_INTERNAL;
    }
    mbedtls_ssl_conf_ca_chain(&session->conf, &session->root, NULL);
    return E_OK;
}

static enum err start(struct crypto_channel *channel, const char *name)
{
    struct session *session = proto_alloc(1, sizeof *session);
    if (!session) {
        return E_NO_MEMORY;
    }
    channel->session = session;
    session->channel = channel;
    mbedtls_ssl_config_init(&session->conf);
    mbedtls_ssl_init(&session->ssl);
    mbedtls_x509_crt_init(&session->root);
    mbedtls_x509_crt_init(&session->chain);
    mbedtls_pk_init(&session->key);
    if (configure(session) != 0) {
        return E_INTERNAL;
    }
    enum err err = equip(session);
    if (err) {
        return err;
    }
    if (mbedtls_ssl_setup(&session->ssl, &session->conf) != 0) {
        return E_NO_MEMORY;
    }
    session->export = (struct compat_exporter){CHANNEL_EXPORTER_LABEL, export_done, session};
    compat_ssl_export(&session->conf, &session->ssl, &session->export);
    if (channel->profile->mode == CRYPTO_CHANNEL_MESH) {
        mbedtls_ssl_set_verify(&session->ssl, verify_mesh, session);
    }
    /* Always called, with NULL where no peer is named: newer libraries refuse a client that left it open. */
    if (!channel->is_server && mbedtls_ssl_set_hostname(&session->ssl, name) != 0) {
        return E_NO_MEMORY;
    }
    mbedtls_ssl_set_bio(&session->ssl, session, bio_send, bio_recv, NULL);
    return E_OK;
}

static void end(void *user)
{
    struct session *session = user;
    if (session) {
        mbedtls_ssl_free(&session->ssl);
        mbedtls_ssl_config_free(&session->conf);
        mbedtls_pk_free(&session->key);
        mbedtls_x509_crt_free(&session->chain);
        mbedtls_x509_crt_free(&session->root);
        crypto_wipe(session, sizeof *session);
        proto_free(session);
    }
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
static bool acceptable(struct session *session)
{
    if (!session->has_exporter || !hello_extended(&session->hello)) {
        return false;
    }
    switch (session->channel->profile->mode) {
    case CRYPTO_CHANNEL_MESH:
        return session->channel->has_peer && mbedtls_ssl_get_verify_result(&session->ssl) == 0;
    case CRYPTO_CHANNEL_ENROL_SERVER:
        return true;
    case CRYPTO_CHANNEL_ENROL_CLIENT:
        return enrol_server_valid(session);
    }
    return false;
}

static enum err handshake(struct crypto_channel *channel)
{
    struct session *session = channel->session;
    int ret = mbedtls_ssl_handshake(&session->ssl);
    if (ret != 0) {
        return map(ret);
    }
    if (!acceptable(session)) {
        (void)mbedtls_ssl_send_alert_message(&session->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                             MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE);
        return E_AUTH;
    }
    return E_OK;
}

static enum err read_some(void *user, uint8_t *to, size_t *inout_len)
{
    struct session *session = user;
    int ret = mbedtls_ssl_read(&session->ssl, to, *inout_len);
    *inout_len = ret > 0 ? (size_t)ret : 0;
    return ret > 0 ? E_OK : ret == 0 ? E_IO : map(ret);
}

static enum err write_some(void *user, const uint8_t *from, size_t *inout_len)
{
    struct session *session = user;
    int ret = mbedtls_ssl_write(&session->ssl, from, *inout_len);
    *inout_len = ret > 0 ? (size_t)ret : 0;
    return ret >= 0 ? E_OK : map(ret);
}

static void say_goodbye(void *user)
{
    struct session *session = user;
    (void)mbedtls_ssl_close_notify(&session->ssl);
}

static const char *suite(const void *user)
{
    const struct session *session = user;
    return mbedtls_ssl_get_ciphersuite(&session->ssl);
}

const struct channel_library *channel_mbedtls(void)
{
    static const struct channel_library library = {
        .name = "mbedtls",
        .start = start,
        .end = end,
        .handshake = handshake,
        .read = read_some,
        .write = write_some,
        .close = say_goodbye,
        .suite = suite,
    };
    return &library;
}
