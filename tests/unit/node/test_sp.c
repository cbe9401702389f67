/* Request and reply sockets: what comes through, what is refused, and above all that they end when connections break in the
 * middle of sends (doc/decisions/0012). The other end of one test is a stock NNG socket. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "crypto/provider.h"
#include "node/peer/sp.h"
#include "node/peer/tls_engine.h"
#include "proto/alloc.h"
#include "tests/lib/exchange.h"

#define OK(call) assert_int_equal((call), E_OK)

struct member {
    struct crypto_identity *key;
    struct buf cert;
    uint8_t id[16];
    char hex[33];
    struct crypto_channel_profile *profile;
};

static struct crypto_identity *root_key;
static struct buf root = {.max = CRYPTO_CERTIFICATE_MAX};
static struct member alpha, beta;
static struct err_info info;

static bool admit(void *user, const struct crypto_certificate_info *who)
{
    (void)user;
    (void)who;
    return true;
}

static void member_make(struct member *member, uint8_t id)
{
    struct buf csr = {.max = CRYPTO_CERTIFICATE_MAX};
    int64_t now = (int64_t)time(NULL);
    member->cert.max = CRYPTO_CERTIFICATE_MAX;
    memset(member->id, id, 16);
    span_to_hex(span_of(member->id, 16), member->hex);
    OK(crypto_identity_generate(&member->key));
    OK(crypto_certificate_request(member->key, &csr, &info));
    OK(crypto_certificate_issue(root_key, buf_span(&root), buf_span(&csr), "alpine", "clinic",
                                member->id, now - 300, now + 86400, &member->cert, &info));
    OK(crypto_channel_profile_new(CRYPTO_CHANNEL_MESH, member->key, buf_span(&member->cert),
                                  buf_span(&root), "alpine", NULL, admit, NULL, &member->profile,
                                  &info));
    buf_fini(&csr);
}

static int make_all(void **state)
{
    int64_t now = (int64_t)time(NULL);
    (void)state;
    OK(crypto_init(&info));
    alarm(380); /* a hang is what this looks for */
    OK(crypto_identity_generate(&root_key));
    OK(crypto_certificate_root(root_key, "alpine", now - 300, now + 86400, &root, &info));
    member_make(&alpha, 1);
    member_make(&beta, 2);
    return 0;
}

static int free_all(void **state)
{
    (void)state;
    crypto_channel_profile_free(alpha.profile);
    crypto_channel_profile_free(beta.profile);
    crypto_identity_free(alpha.key);
    crypto_identity_free(beta.key);
    crypto_identity_free(root_key);
    buf_fini(&alpha.cert);
    buf_fini(&beta.cert);
    buf_fini(&root);
    return 0;
}

/* --- a server that echoes --------------------------------------------------------------------------------------------- */

struct echo {
    struct sp_ctx *ctx;
};

#define ECHOES 4

struct server {
    struct sp_socket *socket;
    struct sp_listener *listener;
    char url[64];
    struct echo echoes[ECHOES];
    atomic_int up, down;
    atomic_uint last; /* pipe */
    atomic_bool refuses;
};

static bool server_pipe(void *user, const struct sp_identity *who, enum sp_event event)
{
    struct server *server = user;
    if (event == SP_ASKED) {
        return !atomic_load(&server->refuses);
    }
    if (event == SP_UP) {
        atomic_store(&server->last, who->pipe);
    }
    atomic_fetch_add(event == SP_UP ? &server->up : &server->down, 1);
    return true;
}

static bool client_pipe(void *user, const struct sp_identity *who, enum sp_event event)
{
    (void)event;
    if (user) {
        memcpy(user, who->certificate.node_id, 16);
    }
    return true;
}

static void echo_sent(void *user, int rv, struct sp_message *msg);

static void echo_request(void *user, int rv, struct sp_message *msg)
{
    struct echo *echo = user;
    if (!rv) {
        struct span part = msg->bytes;
        sp_ctx_reply(echo->ctx, &part, 1, SPAN_NONE, echo_sent, echo);
        proto_free(msg);
    }
}

static void echo_sent(void *user, int rv, struct sp_message *msg)
{
    struct echo *echo = user;
    (void)rv, (void)msg;
    sp_ctx_receive(echo->ctx, echo_request, echo);
}

static void echo_open(struct server *server, size_t i)
{
    struct echo *echo = &server->echoes[i];
    OK(sp_ctx_open(server->socket, &echo->ctx));
    sp_ctx_receive(echo->ctx, echo_request, echo);
}

static void server_open(struct server *server, size_t echoes)
{
    uint16_t port;
    *server = (struct server){.socket = NULL};
    OK(sp_open(SP_REP, 1 << 20, server_pipe, server, &server->socket));
    assert_int_equal(sp_listen(server->socket, "tls+tcp://127.0.0.1:0", alpha.profile, NULL,
                               &server->listener, &port),
                     0);
    snprintf(server->url, sizeof server->url, "tls+tcp://127.0.0.1:%u", (unsigned)port);
    for (size_t i = 0; i < echoes; i++) {
        echo_open(server, i);
    }
}

static void server_close(struct server *server)
{
    sp_close(server->socket);
}

static void begin(struct sp_ctx *ctx, struct exchange *x, const void *bytes, size_t len)
{
    struct span parts[] = {span_of(bytes, len / 3),
                           span_of((const uint8_t *)bytes + len / 3, len - len / 3)};
    sp_ctx_request(ctx, parts, 2, exchange_done, x);
}

/* 0 and *ret, or NNG's error. */
static int ask(struct sp_ctx *ctx, struct exchange *x, const void *bytes, size_t len,
               struct sp_message **ret)
{
    begin(ctx, x, bytes, len);
    return exchange_wait(x, 10000, ret);
}

static void until(const atomic_int *what, int least)
{
    for (int i = 0; i < 500 && atomic_load(what) < least; i++) {
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    assert_true(atomic_load(what) >= least);
}

/* --- the tests ------------------------------------------------------------------------------------------------------------- */

static void exchanges(void **state)
{
    static const size_t sizes[] = {0, 1, 16383, 16384, 70000, 1 << 20};
    static uint8_t bytes[1 << 20];
    struct server server;
    struct sp_socket *socket = NULL;
    struct sp_ctx *ctx = NULL;
    struct exchange x;
    uint8_t seen[16] = {0};
    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 251);
    }
    server_open(&server, 1);
    OK(sp_open(SP_REQ, 1 << 20, client_pipe, seen, &socket));
    assert_int_equal(sp_dial(socket, server.url, beta.profile, alpha.hex, 5000), 0);
    assert_memory_equal(seen, alpha.id, 16);
    OK(sp_ctx_open(socket, &ctx));
    exchange_init(&x);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct sp_message *msg = NULL;
        assert_int_equal(ask(ctx, &x, bytes, sizes[i], &msg), 0);
        assert_int_equal(msg->bytes.len, sizes[i]);
        assert_memory_equal(msg->bytes.ptr, bytes, sizes[i]);
        proto_free(msg);
    }
    sp_close(socket);
    until(&server.down, 1);
    server_close(&server);
}

/* One context serves eight requests of eight pipes: the others wait in their pipes and are not lost. */
static void requests_wait_for_a_context(void **state)
{
    struct server server;
    struct sp_socket *sockets[8];
    struct sp_ctx *ctx[8];
    struct exchange x[8];
    struct sp_message *msg;
    (void)state;
    server_open(&server, 0);
    for (int i = 0; i < 8; i++) {
        uint8_t number = (uint8_t)i;
        OK(sp_open(SP_REQ, 1 << 20, client_pipe, NULL, &sockets[i]));
        assert_int_equal(sp_dial(sockets[i], server.url, beta.profile, alpha.hex, 5000), 0);
        OK(sp_ctx_open(sockets[i], &ctx[i]));
        exchange_init(&x[i]);
        begin(ctx[i], &x[i], &number, 1);
    }
    until(&server.up, 8);
    assert_int_equal(exchange_wait(&x[0], 50, &msg), NNG_EAGAIN);
    sp_close(sockets[7]); /* its request waits, or never came: nobody is disturbed */
    assert_int_not_equal(exchange_wait(&x[7], 0, &msg), 0);
    echo_open(&server, 0);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(exchange_wait(&x[i], 5000, &msg), 0);
        assert_int_equal(msg->bytes.len, 1);
        assert_int_equal(msg->bytes.ptr[0], i);
        proto_free(msg);
        sp_close(sockets[i]);
    }
    server_close(&server);
}

static void stock_socket_understands(void **state)
{
    struct server server;
    nng_socket socket;
    nng_dialer dialer;
    nng_tls_config *config = NULL;
    nng_msg *msg;
    (void)state;
    server_open(&server, 2);
    assert_int_equal(nng_req0_open(&socket), 0);
    OK(peer_tls_register(&info));
    OK(peer_tls_config(beta.profile, false, alpha.hex, &config, &info));
    assert_int_equal(nng_dialer_create(&dialer, socket, server.url), 0);
    assert_int_equal(nng_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, config), 0);
    nng_tls_config_free(config);
    assert_int_equal(nng_dialer_start(dialer, 0), 0);
    nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, 5000);
    nng_socket_set_ms(socket, NNG_OPT_SENDTIMEO, 5000);
    for (uint32_t i = 0; i < 20; i++) {
        uint32_t number = 0;
        assert_int_equal(nng_msg_alloc(&msg, i * 3000), 0);
        assert_int_equal(nng_msg_append_u32(msg, i), 0);
        assert_int_equal(nng_sendmsg(socket, msg, 0), 0);
        assert_int_equal(nng_recvmsg(socket, &msg, 0), 0);
        assert_int_equal(nng_msg_len(msg), i * 3000 + 4);
        assert_int_equal(nng_msg_chop_u32(msg, &number), 0);
        assert_int_equal(number, i);
        nng_msg_free(msg);
    }
    nng_close(socket); /* nothing is under way, so it ends */
    until(&server.down, 1);
    peer_tls_forget(beta.profile);
    server_close(&server);
}

static void refusals(void **state)
{
    struct server server;
    struct sp_socket *socket = NULL, *other = NULL;
    struct sp_listener *listener;
    struct sp_ctx *ctx = NULL;
    struct exchange x;
    struct sp_message *msg = NULL;
    char url[64];
    uint16_t port;
    (void)state;
    server_open(&server, 1);
    OK(sp_open(SP_REQ, 1 << 20, client_pipe, NULL, &socket));
    OK(sp_ctx_open(socket, &ctx));
    exchange_init(&x);
    assert_int_equal(ask(ctx, &x, "x", 1, &msg), NNG_ECLOSED); /* nobody there yet */
    sp_ctx_reply(server.echoes[0].ctx, NULL, 0, SPAN_NONE, exchange_done, &x); /* to no request */
    assert_int_equal(exchange_wait(&x, 1000, &msg), NNG_ESTATE);
    /* the wrong node, a refusal, the wrong kind, nobody, not an address */
    assert_int_equal(sp_dial(socket, server.url, beta.profile, beta.hex, 5000), NNG_EPEERAUTH);
    atomic_store(&server.refuses, true);
    assert_int_not_equal(sp_dial(socket, server.url, beta.profile, alpha.hex, 5000), 0);
    atomic_store(&server.refuses, false);
    OK(sp_open(SP_REQ, 1 << 20, client_pipe, NULL, &other));
    assert_int_equal(
        sp_listen(other, "tls+tcp://127.0.0.1:0", alpha.profile, beta.hex, &listener, &port), 0);
    snprintf(url, sizeof url, "tls+tcp://127.0.0.1:%u", (unsigned)port);
    assert_int_not_equal(sp_dial(socket, url, beta.profile, alpha.hex, 5000), 0);
    sp_close(other);
    assert_int_equal(sp_dial(socket, url, beta.profile, alpha.hex, 5000), NNG_ECONNREFUSED);
    assert_int_equal(sp_dial(socket, "http://127.0.0.1:1", beta.profile, alpha.hex, 5000),
                     NNG_EADDRINVAL);
    assert_int_equal(atomic_load(&server.up), 0);
    sp_close(socket);
    server_close(&server);
}

/* A deadline ends a call; what comes later belongs to nobody; a broken pipe is told. */
static void deadline_and_break(void **state)
{
    struct server server;
    struct sp_socket *socket = NULL;
    struct sp_ctx *ctx = NULL;
    struct exchange x;
    struct sp_message *msg = NULL;
    (void)state;
    server_open(&server, 0);
    OK(sp_open(SP_REQ, 1 << 20, client_pipe, NULL, &socket));
    assert_int_equal(sp_dial(socket, server.url, beta.profile, alpha.hex, 5000), 0);
    OK(sp_ctx_open(socket, &ctx));
    exchange_init(&x);
    begin(ctx, &x, "a", 1);
    assert_int_equal(exchange_wait(&x, 100, &msg), NNG_EAGAIN);
    sp_ctx_cancel(ctx, NNG_ETIMEDOUT);
    assert_int_equal(exchange_wait(&x, 0, &msg), NNG_ETIMEDOUT);
    sp_ctx_cancel(ctx, NNG_ETIMEDOUT); /* once more: nobody is told */
    assert_int_equal(exchange_wait(&x, 0, &msg), NNG_EAGAIN);
    echo_open(&server, 0); /* answers the first one now */
    assert_int_equal(ask(ctx, &x, "b", 1, &msg), 0);
    assert_memory_equal(msg->bytes.ptr, "b", 1);
    proto_free(msg);
    until(&server.up, 1);
    sp_pipe_close(atomic_load(&server.last));
    until(&server.down, 1);
    int rv = ask(ctx, &x, "c", 1, &msg);
    assert_true(rv == NNG_ECONNRESET || rv == NNG_ECLOSED);
    sp_close(socket);
    server_close(&server);
}

struct caller {
    struct server *server;
    atomic_bool *enough;
    int answered;
    pthread_t thread;
};

static void *call_main(void *arg)
{
    struct caller *caller = arg;
    static uint8_t bytes[40000];
    while (!atomic_load(caller->enough)) {
        struct sp_socket *socket = NULL;
        struct sp_ctx *ctx = NULL;
        struct exchange x;
        struct sp_message *msg = NULL;
        exchange_init(&x);
        if (sp_open(SP_REQ, 1 << 20, client_pipe, NULL, &socket)) {
            break;
        }
        if (!sp_dial(socket, caller->server->url, beta.profile, alpha.hex, 5000) &&
            !sp_ctx_open(socket, &ctx)) {
            while (!atomic_load(caller->enough) && !ask(ctx, &x, bytes, sizeof bytes, &msg)) {
                caller->answered++;
                proto_free(msg);
            }
        }
        sp_close(socket);
    }
    return NULL;
}

/* Connections are broken from the server's side under full load, a hundred and fifty times; then all of it must end. */
static void broken_under_load(void **state)
{
    struct server server;
    struct caller callers[4];
    atomic_bool enough = false;
    int answered = 0;
    (void)state;
    server_open(&server, ECHOES);
    for (int i = 0; i < 4; i++) {
        callers[i] = (struct caller){.server = &server, .enough = &enough};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_main, &callers[i]), 0);
    }
    for (int broken = 0, at = 0; broken < 150 && at < 1500; at++) {
        unsigned last = atomic_exchange(&server.last, 0);
        nanosleep(&(struct timespec){0, 1000000 + at % 7 * 300000}, NULL);
        if (last) {
            sp_pipe_close(last);
            broken++;
        }
        sp_sweep(server.socket);
    }
    atomic_store(&enough, true);
    for (int i = 0; i < 4; i++) {
        pthread_join(callers[i].thread, NULL);
        answered += callers[i].answered;
    }
    assert_true(answered > 0);
    until(&server.down, atomic_load(&server.up));
    server_close(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchanges),
        cmocka_unit_test(requests_wait_for_a_context),
        cmocka_unit_test(stock_socket_understands),
        cmocka_unit_test(refusals),
        cmocka_unit_test(deadline_and_break),
        cmocka_unit_test(broken_under_load),
    };
    return cmocka_run_group_tests(tests, make_all, free_all);
}
