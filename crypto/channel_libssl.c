/* A channel by OpenSSL 3's libssl, whose record layer is an order of magnitude faster than that of mbedTLS. The peer's
 * certificate is judged by the same code as under mbedTLS (certificate.h), not by OpenSSL's chain builder. */
#include "config.h"
#include "crypto/channel_private.h"

#ifdef HAVE_LIBCRYPTO

#include "crypto/identity_pk.h"
#include "crypto/memory.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <time.h>

/* AES first where the processor has it; a client without such instructions, or of a library that does better with ChaCha20,
 * names that first and gets it (SSL_OP_PRIORITIZE_CHACHA). */
#define AES    "ECDHE-ECDSA-AES256-GCM-SHA384"
#define CHACHA "ECDHE-ECDSA-CHACHA20-POLY1305"

/* A library context of our own: the host's default one with its configuration file is neither used nor touched. They live
 * as long as the process. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static OSSL_LIB_CTX *library;
static BIO_METHOD *method;

/* --- the wire -------------------------------------------------------------------------------------------------------- */

static int bio_write(BIO *bio, const char *bytes, int len)
{
    struct crypto_channel *channel = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    int n = channel->io.send(channel->io.ctx, (const uint8_t *)bytes, (size_t)len);
    if (n == 0) {
        BIO_set_retry_write(bio);
    }
    return n > 0 ? n : -1;
}

static int bio_read(BIO *bio, char *bytes, int len)
{
    struct crypto_channel *channel = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    int n = channel->io.recv(channel->io.ctx, (uint8_t *)bytes, (size_t)len);
    if (n == 0) {
        BIO_set_retry_read(bio);
    }
    return n > 0 ? n : -1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static void make_library(void)
{
    library = OSSL_LIB_CTX_new();
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "concordat channel");
    if (!library || !method || !BIO_meth_set_write(method, bio_write) ||
        !BIO_meth_set_read(method, bio_read) || !BIO_meth_set_ctrl(method, bio_ctrl) ||
        !BIO_meth_set_create(method, bio_create)) {
        OSSL_LIB_CTX_free(library);
        library = NULL;
    }
}

/* --- judging the peer ------------------------------------------------------------------------------------------------ */

static bool to_der(X509 *certificate, struct buf *out)
{
    int len = certificate ? i2d_X509(certificate, NULL) : 0;
    uint8_t *to;
    if (len <= 0 || (size_t)len > out->max || buf_reserve(out, (size_t)len)) {
        return false;
    }
    to = out->ptr;
    out->len = (size_t)i2d_X509(certificate, &to);
    return true;
}

static bool good(struct crypto_channel *channel, X509 *leaf, STACK_OF(X509) * sent)
{
    const struct crypto_channel_profile *profile = channel->profile;
    struct crypto_certificate_info info;
    struct buf der = {.max = CRYPTO_CERTIFICATE_MAX};
    struct buf root = {.max = CRYPTO_CERTIFICATE_MAX};
    int64_t now = (int64_t)time(NULL);
    bool ok = to_der(leaf, &der);
    if (profile->mode == CRYPTO_CHANNEL_ENROL_CLIENT) {
        ok = ok && sk_X509_num(sent) == 2 && to_der(sk_X509_value(sent, 1), &root) &&
             channel_enrol_admitted(channel, buf_span(&der), buf_span(&root), now);
    } else {
        ok = ok &&
             crypto_certificate_verify(buf_span(&der), buf_span(&profile->root), now, &info,
                                       NULL) == E_OK &&
             channel_admitted(channel, &info);
    }
    buf_fini(&der);
    buf_fini(&root);
    return ok;
}

/* In place of OpenSSL's own verification, inside the handshake. */
static int judge(X509_STORE_CTX *store, void *unused)
{
    (void)unused;
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct crypto_channel *channel = SSL_get_app_data(ssl);
    bool ok = good(channel, X509_STORE_CTX_get0_cert(store), X509_STORE_CTX_get0_untrusted(store));
    X509_STORE_CTX_set_error(store, ok ? X509_V_OK : X509_V_ERR_APPLICATION_VERIFICATION);
    return ok;
}

/* --- profiles -------------------------------------------------------------------------------------------------------- */

static bool has_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes");
#elif defined(__aarch64__)
    return true; /* nearly all; one without is correct, only slower */
#else
    return false;
#endif
}

static bool rules(SSL_CTX *ctx, enum crypto_channel_mode mode)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(
        ctx,
        mode == CRYPTO_CHANNEL_ENROL_SERVER
            ? SSL_VERIFY_NONE /* the client has no certificate yet: it brings a token */
            : SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
        NULL);
    SSL_CTX_set_cert_verify_callback(ctx, judge, NULL);
    SSL_CTX_set_max_cert_list(ctx, (long)(2 * CRYPTO_CERTIFICATE_MAX + 64));
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ctx, has_aes() ? AES ":" CHACHA : CHACHA ":" AES) == 1 &&
           SSL_CTX_set1_groups_list(ctx, "X25519:P-256") == 1 &&
           SSL_CTX_set1_sigalgs_list(ctx, "ECDSA+SHA256:ECDSA+SHA384") == 1;
}

static X509 *from_der(struct span der)
{
    const uint8_t *at = der.ptr;
    X509 *certificate = X509_new_ex(library, NULL);
    if (certificate && !d2i_X509(&certificate, &at, (long)der.len)) {
        return NULL; /* freed by the failed call */
    }
    return certificate;
}

/* Our key and certificate; in an enrolment the root goes along. */
static enum err equip(SSL_CTX *ctx, const struct crypto_channel_profile *profile)
{
    uint8_t der[CRYPTO_IDENTITY_DER_SIZE];
    const uint8_t *at = der;
    crypto_identity_to_der(profile->key, der);
    EVP_PKEY *key = d2i_PrivateKey_ex(EVP_PKEY_EC, NULL, &at, sizeof der, library, NULL);
    crypto_wipe(der, sizeof der);
    X509 *own = from_der(buf_span(&profile->cert));
    X509 *root =
        profile->mode == CRYPTO_CHANNEL_ENROL_SERVER ? from_der(buf_span(&profile->root)) : NULL;
    bool ok = key && own && SSL_CTX_use_certificate(ctx, own) == 1 &&
              SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1 &&
              (profile->mode != CRYPTO_CHANNEL_ENROL_SERVER ||
               (root && SSL_CTX_add1_chain_cert(ctx, root) == 1));
    EVP_PKEY_free(key);
    X509_free(own);
    X509_free(root);
    return ok ? E_OK : E_INTERNAL;
}

static enum err prepare(struct crypto_channel_profile *profile)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new_ex(library, NULL, TLS_method());
    if (!ctx) {
        return E_NO_MEMORY;
    }
    enum err err = rules(ctx, profile->mode) ? E_OK : E_INTERNAL;
    if (!err && profile->key) {
        err = equip(ctx, profile);
    }
    ERR_clear_error();
    if (err) {
        SSL_CTX_free(ctx);
        return err;
    }
    profile->shared = ctx;
    return E_OK;
}

static void unprepare(void *shared)
{
    SSL_CTX_free(shared);
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

static enum err start(struct crypto_channel *channel, const char *name)
{
    SSL *ssl = SSL_new(channel->profile->shared);
    BIO *bio = ssl ? BIO_new(method) : NULL;
    channel->session = ssl;
    if (!bio) {
        return E_NO_MEMORY;
    }
    BIO_set_data(bio, channel);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_app_data(ssl, channel);
    if (channel->is_server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
        if (name && SSL_set_tlsext_host_name(ssl, name) != 1) {
            return E_NO_MEMORY;
        }
    }
    return E_OK;
}

static void end(void *session)
{
    SSL_free(session);
}

/* --- use ------------------------------------------------------------------------------------------------------------- */

static enum err map(const SSL *ssl, int ret)
{
    switch (SSL_get_error(ssl, ret)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return E_BUSY;
    case SSL_ERROR_ZERO_RETURN:
    case SSL_ERROR_SYSCALL:
        return E_IO;
    default:
        return E_AUTH;
    }
}

static enum err handshake(struct crypto_channel *channel)
{
    SSL *ssl = channel->session;
    ERR_clear_error();
    int ret = SSL_do_handshake(ssl);
    if (ret != 1) {
        return map(ssl, ret);
    }
    bool known = channel->has_peer || channel->profile->mode == CRYPTO_CHANNEL_ENROL_SERVER;
    /* Without the extended master secret (RFC 7627) an exporter value can be made equal in two sessions by a peer in the
     * middle (the triple handshake attack). */
    if (!known || SSL_get_extms_support(ssl) != 1 ||
        SSL_export_keying_material(ssl, channel->exporter, sizeof channel->exporter,
                                   CHANNEL_EXPORTER_LABEL, sizeof CHANNEL_EXPORTER_LABEL - 1, NULL,
                                   0, 0) != 1) {
        (void)SSL_shutdown(ssl);
        return E_AUTH;
    }
    return E_OK;
}

static enum err read_some(void *session, uint8_t *to, size_t *inout_len)
{
    size_t moved = 0;
    ERR_clear_error();
    int ret = SSL_read_ex(session, to, *inout_len, &moved);
    *inout_len = ret == 1 ? moved : 0;
    return ret == 1 ? E_OK : map(session, ret);
}

static enum err write_some(void *session, const uint8_t *from, size_t *inout_len)
{
    size_t moved = 0;
    ERR_clear_error();
    int ret = SSL_write_ex(session, from, *inout_len, &moved);
    *inout_len = ret == 1 ? moved : 0;
    return ret == 1 ? E_OK : map(session, ret);
}

static void say_goodbye(void *session)
{
    ERR_clear_error();
    (void)SSL_shutdown(session);
}

static const char *suite(const void *session)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(session);
    return SSL_CIPHER_get_cipher_nid(cipher) == NID_aes_256_gcm
               ? "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384"
               : "TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256";
}

const struct channel_library *channel_libssl(void)
{
    static const struct channel_library table = {
        .name = "libssl",
        .prepare = prepare,
        .unprepare = unprepare,
        .start = start,
        .end = end,
        .handshake = handshake,
        .read = read_some,
        .write = write_some,
        .close = say_goodbye,
        .suite = suite,
    };
    pthread_once(&once, make_library);
    return library ? &table : NULL;
}

#else

const struct channel_library *channel_libssl(void)
{
    return NULL;
}

#endif
