/* Two channels joined by pipes in memory: who gets through, who does not, and that both ends agree. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "crypto/channel_private.h"
#include "crypto/compat_mbedtls.h"
#include "crypto/identity_pk.h"
#include "tests/unit/crypto/common.h"

/* One direction. CHUNK bytes at most move in a call, so that every would-block path is walked. */
struct pipe {
    uint8_t bytes[1 << 17];
    size_t head;
    size_t tail;
    size_t chunk;
    bool broken;
    /* Flips a bit of the byte with this number from the start; 0: none. A record's header gives way to its body: the version there
     * is in no transcript, and mbedTLS 3.6 does not look at it. */
    uint64_t spoil_at;
    size_t header_len, record_len, body_left; /* of the record that goes through */
    uint64_t moved;
};

struct end {
    struct pipe *out;
    struct pipe *in;
    struct crypto_channel *channel;
};

static struct pipe pipes[2];

static int pipe_send(void *ctx, const uint8_t *bytes, size_t len)
{
    struct pipe *pipe = ((struct end *)ctx)->out;
    size_t room = sizeof pipe->bytes - pipe->tail;
    size_t n = len < pipe->chunk ? len : pipe->chunk;
    n = n < room ? n : room;
    if (pipe->broken) {
        return -1;
    }
    memcpy(pipe->bytes + pipe->tail, bytes, n);
    for (size_t i = 0; i < n; i++) {
        bool header = pipe->body_left == 0;
        if (pipe->spoil_at && pipe->spoil_at == pipe->moved + i) {
            pipe->bytes[pipe->tail + i] ^= !header;
            pipe->spoil_at += header;
        }
        if (!header) {
            pipe->body_left--;
        } else if (pipe->header_len++ >= 3) {
            pipe->record_len = pipe->record_len << 8 | bytes[i];
        }
        if (pipe->header_len == 5) {
            pipe->body_left = pipe->record_len;
            pipe->header_len = pipe->record_len = 0;
        }
    }
    pipe->tail += n;
    pipe->moved += n;
    return (int)n;
}

static int pipe_recv(void *ctx, uint8_t *bytes, size_t len)
{
    struct pipe *pipe = ((struct end *)ctx)->in;
    size_t n = pipe->tail - pipe->head;
    n = n < len ? n : len;
    n = n < pipe->chunk ? n : pipe->chunk;
    if (n == 0) {
        return pipe->broken ? -1 : 0;
    }
    memcpy(bytes, pipe->bytes + pipe->head, n);
    pipe->head += n;
    if (pipe->head == pipe->tail) {
        pipe->head = pipe->tail = 0;
    }
    return (int)n;
}

/* --- a federation in memory --------------------------------------------------------------------------------------------- */

struct member {
    struct crypto_identity *key;
    struct buf cert;
    uint8_t id[16];
    char hex[33];
};

static struct crypto_identity *root_key;
static struct crypto_identity *other_root_key;
static struct buf root = {.max = CRYPTO_CERTIFICATE_MAX};
static struct buf other_root = {.max = CRYPTO_CERTIFICATE_MAX};
static uint8_t root_pin[32];
static struct member alpha;
static struct member beta;
static struct member stranger; /* of the other root, with the same federation name */
static struct member expired;
/* What alpha speaks, and what all others speak. */
static const struct channel_library *libraries[2];
static int admit_calls;
static bool admit_answer;
static struct crypto_certificate_info admit_saw;

static bool admit(void *user, const struct crypto_certificate_info *peer)
{
    assert_ptr_equal(user, &admit_calls);
    admit_calls++;
    admit_saw = *peer;
    return admit_answer;
}

static enum err member_make(struct member *member, const struct crypto_identity *authority,
                            const struct buf *authority_der, uint8_t id, int64_t from,
                            int64_t until)
{
    struct buf csr = {.max = CRYPTO_CERTIFICATE_MAX};
    member->cert.max = CRYPTO_CERTIFICATE_MAX;
    memset(member->id, id, 16);
    span_to_hex(span_of(member->id, 16), member->hex);
    enum err err = crypto_identity_generate(&member->key);
    err = err ? err : crypto_certificate_request(member->key, &csr, NULL);
    err =
        err ? err
            : crypto_certificate_issue(authority, buf_span(authority_der), buf_span(&csr), "alpine",
                                       "clinic", member->id, from, until, &member->cert, NULL);
    buf_fini(&csr);
    return err;
}

static void member_fini(struct member *member)
{
    crypto_identity_free(member->key);
    buf_fini(&member->cert);
}

static const struct channel_library *library_of(const struct member *member)
{
    return libraries[member != &alpha];
}

static struct crypto_channel_profile *mesh(const struct member *member, const struct buf *trusted)
{
    struct crypto_channel_profile *profile = NULL;
    struct err_info info = {0};
    if (channel_profile_new(library_of(member), CRYPTO_CHANNEL_MESH, member->key,
                            buf_span(&member->cert), buf_span(trusted), "alpine", NULL, admit,
                            &admit_calls, &profile, &info) != E_OK) {
        fail_msg("%s", info.text);
    }
    return profile;
}

/* --- driving --------------------------------------------------------------------------------------------------------- */

static void open_end(struct end *end, int side, const struct crypto_channel_profile *profile,
                     const char *expected)
{
    end->out = &pipes[side];
    end->in = &pipes[1 - side];
    end->channel = calloc(1, crypto_channel_size());
    struct crypto_channel_io io = {pipe_send, pipe_recv, end};
    assert_int_equal(crypto_channel_init(end->channel, profile, side == 1, expected, io), E_OK);
}

static void close_end(struct end *end)
{
    crypto_channel_fini(end->channel);
    crypto_channel_fini(end->channel); /* harmless */
    free(end->channel);
}

static void reset_pipes(size_t chunk)
{
    memset(pipes, 0, sizeof pipes);
    pipes[0].chunk = pipes[1].chunk = chunk;
}

/* Runs both handshakes; an end that fails breaks its outgoing pipe, as a closed socket would. */
static void shake(struct end *client, struct end *server, enum err *ret_client,
                  enum err *ret_server)
{
    *ret_client = *ret_server = E_BUSY;
    for (int i = 0; i < 100000 && (*ret_client == E_BUSY || *ret_server == E_BUSY); i++) {
        if (*ret_client == E_BUSY) {
            *ret_client = crypto_channel_handshake(client->channel);
            client->out->broken = *ret_client != E_OK && *ret_client != E_BUSY;
        }
        if (*ret_server == E_BUSY) {
            *ret_server = crypto_channel_handshake(server->channel);
            server->out->broken = *ret_server != E_OK && *ret_server != E_BUSY;
        }
    }
}

static void carry(struct end *from, struct end *to, size_t len)
{
    uint8_t *sent = malloc(len);
    uint8_t *got = malloc(len);
    size_t out = 0;
    size_t in = 0;
    common_fill(sent, len);
    for (int i = 0; i < 1000000 && in < len; i++) {
        size_t n = len - out;
        if (out < len) {
            enum err err = crypto_channel_write(from->channel, sent + out, &n);
            assert_true(err == E_OK || err == E_BUSY);
            out += err ? 0 : n;
        }
        n = len - in;
        enum err err = crypto_channel_read(to->channel, got + in, &n);
        assert_true(err == E_OK || err == E_BUSY);
        in += err ? 0 : n;
    }
    assert_int_equal(in, len);
    assert_memory_equal(sent, got, len);
    free(sent);
    free(got);
}

/* --- tests ----------------------------------------------------------------------------------------------------------- */

static void test_mesh(void **state)
{
    (void)state;
    static const size_t chunks[] = {1 << 17, 1000, 7, 1};
    struct crypto_channel_profile *a = mesh(&alpha, &root);
    struct crypto_channel_profile *b = mesh(&beta, &root);
    uint8_t last[32] = {0};
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        struct end client;
        struct end server;
        enum err ec;
        enum err es;
        reset_pipes(chunks[i]);
        admit_calls = 0;
        admit_answer = true;
        open_end(&client, 0, a, beta.hex);
        open_end(&server, 1, b, NULL);
        assert_null(crypto_channel_peer(client.channel));
        assert_null(crypto_channel_exporter(client.channel));
        shake(&client, &server, &ec, &es);
        assert_int_equal(ec, E_OK);
        assert_int_equal(es, E_OK);
        assert_int_equal(admit_calls, 2);
        assert_memory_equal(crypto_channel_peer(client.channel)->node_id, beta.id, 16);
        assert_memory_equal(crypto_channel_peer(server.channel)->node_id, alpha.id, 16);
        assert_memory_equal(crypto_channel_peer(server.channel)->point,
                            crypto_identity_point(alpha.key), 65);
        assert_memory_equal(crypto_channel_exporter(client.channel),
                            crypto_channel_exporter(server.channel), 32);
        assert_memory_not_equal(crypto_channel_exporter(client.channel), last,
                                32); /* of this session alone */
        memcpy(last, crypto_channel_exporter(client.channel), 32);
        assert_string_equal(crypto_channel_suite(client.channel),
                            crypto_channel_suite(server.channel));
        /* One that does better with ChaCha20 gets it, whichever side it is. */
        if (libraries[0] == channel_mbedtls() || libraries[1] == channel_mbedtls()) {
            assert_string_equal(crypto_channel_suite(client.channel),
                                "TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256");
        }
        carry(&client, &server, chunks[i] == 1 ? 500 : 40000);
        carry(&server, &client, 3000);
        crypto_channel_close(client.channel);
        uint8_t byte;
        size_t one = 1;
        enum err err;
        for (int j = 0;
             j < 1000 && (err = crypto_channel_read(server.channel, &byte, &one)) == E_BUSY; j++) {
            one = 1;
        }
        assert_int_equal(err, E_IO);
        close_end(&client);
        close_end(&server);
    }
    crypto_channel_profile_free(a);
    crypto_channel_profile_free(b);
}

/* Both ends must fail or the failing one must be the one that the case names; no end ever reports a peer then. */
static void refused(const struct crypto_channel_profile *client_profile, const char *expected,
                    const struct crypto_channel_profile *server_profile)
{
    struct end client;
    struct end server;
    enum err ec;
    enum err es;
    reset_pipes(1 << 17);
    open_end(&client, 0, client_profile, expected);
    open_end(&server, 1, server_profile, NULL);
    shake(&client, &server, &ec, &es);
    assert_true(ec == E_AUTH || es == E_AUTH);
    assert_int_not_equal(
        es, E_OK); /* in TLS 1.2 the server finishes last: it has never let such a pair through */
    assert_null(crypto_channel_peer(server.channel));
    size_t len = 1;
    uint8_t byte = 0;
    assert_int_not_equal(crypto_channel_read(server.channel, &byte, &len), E_OK);
    close_end(&client);
    close_end(&server);
}

static void test_wrong_authority(void **state)
{
    (void)state;
    struct crypto_channel_profile *a = mesh(&alpha, &root);
    struct crypto_channel_profile *s = mesh(&stranger, &other_root);
    admit_calls = 0;
    admit_answer = true;
    refused(s, alpha.hex, a);
    refused(a, stranger.hex, s);
    assert_int_equal(admit_calls, 0); /* it is not even asked about strangers */
    crypto_channel_profile_free(a);
    crypto_channel_profile_free(s);
}

static void test_not_admitted(void **state)
{
    (void)state;
    struct crypto_channel_profile *a = mesh(&alpha, &root);
    struct crypto_channel_profile *b = mesh(&beta, &root);
    admit_calls = 0;
    admit_answer = false;
    refused(a, beta.hex, b);
    assert_true(admit_calls >= 1);
    assert_string_equal(admit_saw.federation, "alpine");
    crypto_channel_profile_free(a);
    crypto_channel_profile_free(b);
}

/* NNG ends the channels of a closed socket on a thread of its own, when it gets to it. Whoever had the profile is gone by
 * then and is asked nothing more. */
static void test_given_up(void **state)
{
    (void)state;
    struct end client;
    struct end server;
    enum err ec;
    enum err es;
    for (int late = 0; late < 2; late++) {
        struct crypto_channel_profile *a = mesh(&alpha, &root);
        struct crypto_channel_profile *b = mesh(&beta, &root);
        reset_pipes(1000);
        admit_calls = 0;
        admit_answer = true;
        open_end(&client, 0, a, beta.hex);
        open_end(&server, 1, b, NULL);
        if (late) {
            shake(&client, &server, &ec, &es);
            assert_int_equal(ec, E_OK);
            assert_int_equal(es, E_OK);
        } else {
            assert_int_equal(crypto_channel_handshake(client.channel), E_BUSY);
        }
        int asked = admit_calls;
        crypto_channel_profile_free(a);
        crypto_channel_profile_free(b);
        if (late) {
            carry(&client, &server, 5000); /* what was let in stays */
            carry(&server, &client, 5000);
        } else {
            shake(&client, &server, &ec, &es);
            assert_int_not_equal(ec, E_OK);
            assert_int_not_equal(es, E_OK);
            assert_null(crypto_channel_peer(client.channel));
            assert_null(crypto_channel_peer(server.channel));
        }
        assert_int_equal(admit_calls, asked);
        close_end(&client);
        close_end(&server);
    }
}

static void test_other_node(void **state)
{
    (void)state;
    struct crypto_channel_profile *a = mesh(&alpha, &root);
    struct crypto_channel_profile *b = mesh(&beta, &root);
    admit_answer = true;
    refused(a, "00000000000000000000000000000000", b);
    crypto_channel_profile_free(a);
    crypto_channel_profile_free(b);
}

static void test_expired(void **state)
{
    (void)state;
    struct crypto_channel_profile *a = mesh(&alpha, &root);
    struct crypto_channel_profile *e = mesh(&expired, &root);
    admit_answer = true;
    refused(e, alpha.hex, a);
    refused(a, expired.hex, e);
    crypto_channel_profile_free(a);
    crypto_channel_profile_free(e);
}

/* A client of another make (plain mbedTLS here): without a certificate, with another version, suite or without the
 * extended master secret. */
struct foreign {
    bool certificate;
    bool extended;
    int suite;
};

static int foreign_send(void *ctx, const unsigned char *bytes, size_t len)
{
    int n = pipe_send(ctx, bytes, len);
    return n > 0 ? n : n == 0 ? MBEDTLS_ERR_SSL_WANT_WRITE : MBEDTLS_ERR_SSL_CONN_EOF;
}

static int foreign_recv(void *ctx, unsigned char *bytes, size_t len)
{
    int n = pipe_recv(ctx, bytes, len);
    return n > 0 ? n : n == 0 ? MBEDTLS_ERR_SSL_WANT_READ : MBEDTLS_ERR_SSL_CONN_EOF;
}

static enum err foreign_client(const struct foreign *how)
{
    int suites[2] = {how->suite, 0};
    mbedtls_ssl_config conf;
    mbedtls_ssl_context ssl;
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
    struct end client = {&pipes[0], &pipes[1], NULL};
    struct end server;
    struct crypto_channel_profile *a = mesh(&alpha, &root);
    reset_pipes(1 << 17);
    admit_answer = true;
    mbedtls_ssl_config_init(&conf);
    mbedtls_ssl_init(&ssl);
    mbedtls_x509_crt_init(&chain);
    mbedtls_pk_init(&key);
    assert_int_equal(mbedtls_ssl_config_defaults(&conf, MBEDTLS_SSL_IS_CLIENT,
                                                 MBEDTLS_SSL_TRANSPORT_STREAM,
                                                 MBEDTLS_SSL_PRESET_DEFAULT),
                     0);
    compat_ssl_conf_tls12(&conf);
    mbedtls_ssl_conf_authmode(&conf, MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_rng(&conf, compat_rng, NULL);
    mbedtls_ssl_conf_ciphersuites(&conf, suites);
    mbedtls_ssl_conf_extended_master_secret(
        &conf, how->extended ? MBEDTLS_SSL_EXTENDED_MS_ENABLED : MBEDTLS_SSL_EXTENDED_MS_DISABLED);
    if (how->certificate) {
        assert_int_equal(crypto_identity_to_pk(beta.key, &key), E_OK);
        assert_int_equal(mbedtls_x509_crt_parse_der(&chain, beta.cert.ptr, beta.cert.len), 0);
        assert_int_equal(mbedtls_ssl_conf_own_cert(&conf, &chain, &key), 0);
    }
    assert_int_equal(mbedtls_ssl_setup(&ssl, &conf), 0);
    assert_int_equal(mbedtls_ssl_set_hostname(&ssl, alpha.hex), 0);
    mbedtls_ssl_set_bio(&ssl, &client, foreign_send, foreign_recv, NULL);
    open_end(&server, 1, a, NULL);
    enum err es = E_BUSY;
    int ret = MBEDTLS_ERR_SSL_WANT_READ;
    for (int i = 0; i < 1000 && es == E_BUSY; i++) {
        if (ret == MBEDTLS_ERR_SSL_WANT_READ || ret == MBEDTLS_ERR_SSL_WANT_WRITE) {
            ret = mbedtls_ssl_handshake(&ssl);
        }
        es = crypto_channel_handshake(server.channel);
    }
    if (es != E_OK) {
        assert_null(crypto_channel_peer(server.channel));
    }
    close_end(&server);
    mbedtls_ssl_free(&ssl);
    mbedtls_ssl_config_free(&conf);
    mbedtls_x509_crt_free(&chain);
    mbedtls_pk_free(&key);
    crypto_channel_profile_free(a);
    return es;
}

static void test_foreign_clients(void **state)
{
    (void)state;
    const int gcm = MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    assert_int_equal(foreign_client(&(struct foreign){true, true, gcm}),
                     E_OK); /* the harness itself works */
    assert_int_equal(foreign_client(&(struct foreign){false, true, gcm}), E_AUTH);
    assert_int_equal(foreign_client(&(struct foreign){true, false, gcm}), E_AUTH);
    assert_int_equal(foreign_client(&(struct foreign){
                         true, true, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}),
                     E_AUTH);
    assert_int_equal(foreign_client(&(struct foreign){
                         true, true, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384}),
                     E_AUTH);
}

/* Every byte of either direction spoiled once (a sample of them): the handshake or the first record fails. */
static void test_spoiled_bytes(void **state)
{
    (void)state;
    struct crypto_channel_profile *a = mesh(&alpha, &root);
    struct crypto_channel_profile *b = mesh(&beta, &root);
    admit_answer = true;
    for (int i = 0; i < 24; i++) {
        struct end client;
        struct end server;
        enum err ec;
        enum err es;
        reset_pipes(1 << 17);
        pipes[i % 2].spoil_at =
            5 + common_next() % 600; /* past the first record's header, within the first flights */
        open_end(&client, 0, a, beta.hex);
        open_end(&server, 1, b, NULL);
        shake(&client, &server, &ec, &es);
        assert_false(ec == E_OK && es == E_OK);
        close_end(&client);
        close_end(&server);
    }
    crypto_channel_profile_free(a);
    crypto_channel_profile_free(b);
}

static void test_forged_record(void **state)
{
    (void)state;
    struct crypto_channel_profile *a = mesh(&alpha, &root);
    struct crypto_channel_profile *b = mesh(&beta, &root);
    struct end client;
    struct end server;
    enum err ec;
    enum err es;
    uint8_t byte[64] = {1};
    size_t len = sizeof byte;
    admit_answer = true;
    reset_pipes(1 << 17);
    open_end(&client, 0, a, beta.hex);
    open_end(&server, 1, b, NULL);
    shake(&client, &server, &ec, &es);
    assert_int_equal(es, E_OK);
    pipes[0].spoil_at = pipes[0].moved + 20;
    assert_int_equal(crypto_channel_write(client.channel, byte, &len), E_OK);
    assert_int_equal(crypto_channel_read(server.channel, byte, &len), E_AUTH);
    close_end(&client);
    close_end(&server);
    crypto_channel_profile_free(a);
    crypto_channel_profile_free(b);
}

static enum err enrol(const uint8_t pin[32], const struct member *who, const struct buf *trusted,
                      const char *expected, bool client_admits)
{
    struct crypto_channel_profile *server_profile = NULL;
    struct crypto_channel_profile *client_profile = NULL;
    struct end client;
    struct end server;
    enum err ec;
    enum err es;
    assert_int_equal(channel_profile_new(library_of(who), CRYPTO_CHANNEL_ENROL_SERVER, who->key,
                                         buf_span(&who->cert), buf_span(trusted), "alpine", NULL,
                                         NULL, NULL, &server_profile, NULL),
                     E_OK);
    assert_int_equal(channel_profile_new(libraries[1], CRYPTO_CHANNEL_ENROL_CLIENT, NULL, SPAN_NONE,
                                         SPAN_NONE, NULL, pin, client_admits ? NULL : admit,
                                         &admit_calls, &client_profile, NULL),
                     E_OK);
    reset_pipes(1 << 17);
    admit_answer = client_admits;
    open_end(&client, 0, client_profile, expected);
    open_end(&server, 1, server_profile, NULL);
    shake(&client, &server, &ec, &es);
    if (ec == E_OK) {
        assert_int_equal(es, E_OK);
        assert_null(crypto_channel_peer(server.channel));
        assert_memory_equal(crypto_channel_peer(client.channel)->node_id, who->id, 16);
        assert_memory_equal(crypto_channel_exporter(client.channel),
                            crypto_channel_exporter(server.channel), 32);
        carry(&client, &server, 2000);
        carry(&server, &client, 2000);
    } else {
        assert_null(crypto_channel_peer(client.channel));
        size_t len = 1;
        assert_int_equal(crypto_channel_write(client.channel, pin, &len),
                         E_USAGE); /* no token leaves */
    }
    close_end(&client);
    close_end(&server);
    crypto_channel_profile_free(client_profile);
    crypto_channel_profile_free(server_profile);
    return ec;
}

static void test_enrol(void **state)
{
    (void)state;
    uint8_t wrong[32];
    assert_int_equal(enrol(root_pin, &alpha, &root, NULL, true), E_OK);
    assert_int_equal(enrol(root_pin, &alpha, &root, alpha.hex, true), E_OK);
    assert_int_equal(enrol(root_pin, &alpha, &root, beta.hex, true), E_AUTH);
    assert_int_equal(enrol(root_pin, &alpha, &root, NULL, false), E_AUTH);
    assert_int_equal(enrol(root_pin, &stranger, &other_root, NULL, true), E_AUTH);
    assert_int_equal(enrol(root_pin, &expired, &root, NULL, true), E_AUTH);
    memcpy(wrong, root_pin, sizeof wrong);
    wrong[31] ^= 1;
    assert_int_equal(enrol(wrong, &alpha, &root, NULL, true), E_AUTH);
}

static void test_profiles(void **state)
{
    (void)state;
    struct crypto_channel_profile *p = NULL;
    struct span cert = buf_span(&alpha.cert);
    struct span ca = buf_span(&root);
    assert_int_equal(crypto_channel_profile_new(CRYPTO_CHANNEL_MESH, alpha.key, cert, ca, "alpine",
                                                NULL, NULL, NULL, &p, NULL),
                     E_USAGE); /* nobody to ask about members */
    assert_int_equal(crypto_channel_profile_new(CRYPTO_CHANNEL_MESH, NULL, cert, ca, "alpine", NULL,
                                                admit, NULL, &p, NULL),
                     E_USAGE);
    assert_int_equal(crypto_channel_profile_new(CRYPTO_CHANNEL_MESH, alpha.key, cert, ca, NULL,
                                                NULL, admit, NULL, &p, NULL),
                     E_USAGE);
    assert_int_equal(crypto_channel_profile_new(CRYPTO_CHANNEL_MESH, beta.key, cert, ca, "alpine",
                                                NULL, admit, NULL, &p, NULL),
                     E_AUTH);
    assert_int_equal(crypto_channel_profile_new(CRYPTO_CHANNEL_MESH, alpha.key, cert,
                                                buf_span(&other_root), "alpine", NULL, admit, NULL,
                                                &p, NULL),
                     E_AUTH);
    assert_int_equal(crypto_channel_profile_new(CRYPTO_CHANNEL_MESH, alpha.key, cert, ca, "boreal",
                                                NULL, admit, NULL, &p, NULL),
                     E_AUTH);
    assert_int_equal(crypto_channel_profile_new(CRYPTO_CHANNEL_ENROL_CLIENT, NULL, SPAN_NONE,
                                                SPAN_NONE, NULL, NULL, NULL, NULL, &p, NULL),
                     E_USAGE);
    assert_null(p);
    p = mesh(&alpha, &root);
    struct crypto_channel *channel = calloc(1, crypto_channel_size());
    struct crypto_channel_io io = {pipe_send, pipe_recv, NULL};
    assert_int_equal(crypto_channel_init(channel, p, false, NULL, io),
                     E_USAGE); /* a mesh client names its peer */
    assert_int_equal(crypto_channel_init(channel, p, false, "nonsense", io), E_USAGE);
    crypto_channel_fini(channel);
    free(channel);
    crypto_channel_profile_free(p);
    crypto_channel_profile_free(NULL);
}

static int setup(void **state)
{
    (void)state;
    common_seed();
    int64_t now = (int64_t)time(NULL);
    uint8_t spki[CRYPTO_SPKI_SIZE];
    enum err err = crypto_init(NULL);
    err = err ? err : crypto_identity_generate(&root_key);
    err = err ? err : crypto_identity_generate(&other_root_key);
    err = err ? err
              : crypto_certificate_root(root_key, "alpine", now - 900, now + 86400, &root, NULL);
    err = err ? err
              : crypto_certificate_root(other_root_key, "alpine", now - 900, now + 86400,
                                        &other_root, NULL);
    err = err ? err : member_make(&alpha, root_key, &root, 0xa1, now - 60, now + 3600);
    err = err ? err : member_make(&beta, root_key, &root, 0xbe, now - 60, now + 3600);
    err =
        err ? err : member_make(&stranger, other_root_key, &other_root, 0xcc, now - 60, now + 3600);
    err = err ? err : member_make(&expired, root_key, &root, 0xee, now - 600, now - 300);
    if (!err) {
        crypto_identity_spki(crypto_identity_point(root_key), spki);
        crypto_sha256_one(span_of(spki, sizeof spki), root_pin);
    }
    return err ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    member_fini(&alpha);
    member_fini(&beta);
    member_fini(&stranger);
    member_fini(&expired);
    buf_fini(&root);
    buf_fini(&other_root);
    crypto_identity_free(root_key);
    crypto_identity_free(other_root_key);
    return 0;
}

/* --- every test with every pair of libraries ---------------------------------------------------------------------------- */

static int choose(void **state)
{
    const struct channel_library *const *pair = *state;
    libraries[0] = pair[0];
    libraries[1] = pair[1];
    return 0;
}

#define TESTS 11
#define PAIRS 4

int main(void)
{
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } tests[TESTS] = {
        {"mesh", test_mesh},
        {"wrong authority", test_wrong_authority},
        {"not admitted", test_not_admitted},
        {"given up", test_given_up},
        {"other node", test_other_node},
        {"expired", test_expired},
        {"foreign clients", test_foreign_clients},
        {"spoiled bytes", test_spoiled_bytes},
        {"forged record", test_forged_record},
        {"enrolment", test_enrol},
        {"profiles", test_profiles},
    };
    static const struct channel_library *pairs[PAIRS][2];
    static struct CMUnitTest all[PAIRS * TESTS];
    static char names[PAIRS * TESTS][64];
    const struct channel_library *kinds[2] = {channel_mbedtls(), channel_libssl()};
    size_t count = 0;
    for (size_t p = 0; p < (kinds[1] ? PAIRS : 1); p++) {
        pairs[p][0] = kinds[p / 2];
        pairs[p][1] = kinds[p % 2];
        for (size_t t = 0; t < TESTS; t++, count++) {
            snprintf(names[count], sizeof names[count], "%s: %s with %s", tests[t].name,
                     pairs[p][0]->name, pairs[p][1]->name);
            all[count] =
                (struct CMUnitTest){names[count], tests[t].run, choose, NULL, (void *)pairs[p]};
        }
    }
    return _cmocka_run_group_tests("channel", all, count, setup, teardown);
}
