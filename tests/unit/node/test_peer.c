/* Nodes of one process, each with its own home and store, on one loop and over real TLS on the loopback. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crypto/certificate.h"
#include "node/peer/enrol.h"
#include "node/peer/enrol_internal.h"
#include "node/peer/internal.h"
#include "node/peer/transfer.h"
#include "store/records.h"
#include "tests/lib/exchange.h"

#define NODES    5
#define LATER_MS 200

struct node {
    char home[64];
    char charter[96];
    struct crypto_keyring *keyring;
    struct store store;
    struct crypto_identity *identity, *tls_key;
    struct peer_enrol_result joined;
    struct peer *peer;
    uint8_t id[16];
    bool stopped;
    int records_seen;
};

static uv_loop_t loop;
static struct node nodes[NODES];
static struct crypto_identity *root;
static struct peer_enrol_result founded;
static struct err_info info;
static int64_t certificate_from, certificate_until; /* of the next issue(); 0: the usual */
static atomic_int alarms;

#define OK(call) assert_int_equal((call), E_OK)

/* --- making nodes ----------------------------------------------------------------------------------------------------- */

static void home_make(struct node *n)
{
    char path[128];
    snprintf(n->home, sizeof n->home, "/tmp/concordat-test-XXXXXX");
    assert_non_null(mkdtemp(n->home));
    snprintf(path, sizeof path, "%s/key", n->home);
    struct crypto_unlock unlock = {.how = CRYPTO_UNLOCK_KEYFILE, .path = path};
    OK(crypto_identity_generate(&n->identity));
    OK(crypto_identity_generate(&n->tls_key));
    crypto_identity_node_id(crypto_identity_point(n->identity), n->id);
    char keyring[128];
    snprintf(keyring, sizeof keyring, "%s/keyring", n->home);
    OK(crypto_keyring_create(keyring, &unlock, n->id, &n->keyring, &info));
    OK(store_open(n->home, n->keyring, n->id, &n->store, &info));
    snprintf(n->charter, sizeof n->charter, "%s/charter", n->home);
}

static void federation_join_store(struct node *n, const struct peer_enrol_result *result)
{
    struct span record;
    size_t offset = 0;
    FILE *file = fopen(n->charter, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(result->charter.ptr, 1, result->charter.len, file),
                     result->charter.len);
    fclose(file);
    OK(store_identity(&n->store, n->identity, result->federation_id, NULL, &info));
    while (peer_enrol_result_next(result, &offset, &record)) {
        enum err err = store_records_put(&n->store, record, &info);
        assert_true(err == E_OK || err == E_EXISTS);
    }
}

static void found(struct node *n)
{
    home_make(n);
    OK(crypto_identity_generate(&root));
    struct peer_enrol_found_options options = {.federation = "alpine",
                                               .name = "node-0",
                                               .org = "clinic-0",
                                               .org_type = "nonprofit",
                                               .country = "CH",
                                               .listen = "tls+tcp://127.0.0.1:1",
                                               .root = root,
                                               .identity = n->identity,
                                               .tls_key = n->tls_key,
                                               .now = time(NULL)};
    OK(peer_enrol_found(&options, &founded, &info));
    OK(buf_put(&n->joined.certificate, SPAN_NONE));
    federation_join_store(n, &founded);
}

/* A certificate and a MEMBER record, as the enrolment server makes them. */
static void issue(struct node *n, int number, bool member, struct buf *certificate,
                  struct buf *record)
{
    struct crypto_certificate_info who;
    struct buf csr = {.max = 4096}, body = {.max = 4096};
    char name[16], org[16];
    int64_t now = time(NULL);
    snprintf(name, sizeof name, "node-%d", number);
    snprintf(org, sizeof org, "clinic-%d", number);
    OK(crypto_certificate_request(n->tls_key, &csr, &info));
    OK(crypto_certificate_issue(root, buf_span(&founded.root), buf_span(&csr), "alpine", org, n->id,
                                certificate_from ? certificate_from : now - 300,
                                certificate_until ? certificate_until : now + 86400, certificate,
                                &info));
    OK(crypto_certificate_parse(buf_span(certificate), &who, &info));
    struct enrol_names names = {
        name, org, "nonprofit", "CH", "node", crypto_identity_point(n->identity), who.spki_hash};
    OK(enrol_member_body(&names, nodes[0].identity, founded.federation_id, now, &body, &info));
    if (member) {
        OK(enrol_record(nodes[0].identity, founded.federation_id, PROTO_RECORD_MEMBER, name,
                        buf_span(&body), now, record, &info));
    }
    buf_fini(&csr);
    buf_fini(&body);
}

static void on_log(void *user, enum peer_log level, const char *text)
{
    (void)user;
    if (getenv("VERBOSE")) {
        fprintf(stderr, "# %d %s\n", (int)level, text);
    }
}

static void on_record(void *user, struct span record, bool forked)
{
    struct node *n = user;
    (void)record;
    (void)forked;
    n->records_seen++;
}

static void echo(struct peer_request *request, void *user)
{
    (void)user;
    peer_reply(request, E_OK, peer_request_body(request));
}

static void sleepy(struct peer_request *request, void *user)
{
    struct timespec pause = {0, 800000000};
    (void)user;
    nanosleep(&pause, NULL);
    peer_reply(request, E_OK, SPAN_NONE);
}

/* Answers at once, for later. */
static void patient(struct peer_request *request, void *user)
{
    (void)user;
    peer_reply_at(request, peer_now_ms() + LATER_MS, E_OK, peer_request_body(request));
}

static void refusing(struct peer_request *request, void *user)
{
    (void)user;
    peer_reply(request, E_BUDGET_EXHAUSTED, span_str("no"));
}

static atomic_int chunks_served, chunks_most; /* refuses after so many; 0: never */
static atomic_bool chunks_denied;

static enum err may_fetch(void *user, const struct peer_member *member, const uint8_t hash[32],
                          uint64_t offset, size_t bytes)
{
    (void)user;
    (void)member;
    (void)hash;
    (void)offset;
    (void)bytes;
    if (chunks_denied) {
        return E_REFUSED;
    }
    if (chunks_most && chunks_served >= chunks_most) {
        return E_BUSY;
    }
    chunks_served++;
    return E_OK;
}

static void on_blob(struct peer_request *request, void *user)
{
    struct node *n = user;
    peer_transfer_serve(n->peer, &n->store, request, may_fetch, n);
}

static void start_with(struct node *n, const char *listen, struct span certificate,
                       const struct crypto_identity *tls_key)
{
    struct peer_options options = {
        .loop = &loop,
        .store = &n->store,
        .identity = n->identity,
        .tls_key = tls_key,
        .certificate = certificate,
        .root = buf_span(&founded.root),
        .federation = "alpine",
        .listen = listen,
        .charter_path = n->charter,
        .limits = {.rate_per_s = 1000, .burst = 2000, .gossip_ping_ms = 1000},
        .log = on_log};
    memcpy(options.federation_id, founded.federation_id, 16);
    memcpy(options.node_id, n->id, 16);
    OK(peer_new(&options, &n->peer, &info));
    n->stopped = false;
    peer_handle(n->peer, PEER_MSG_QUERY, 0, echo, n);
    peer_handle(n->peer, PEER_MSG_TRAIN_PLAN, 0, sleepy, n);
    peer_handle(n->peer, PEER_MSG_TRAIN_STOP, PEER_ON_LOOP, refusing, n);
    peer_handle(n->peer, PEER_MSG_BLOB_GET, 0, on_blob, n);
    peer_handle(n->peer, PEER_MSG_TRAIN_ROUND, 0, patient, n);
    peer_on_record(n->peer, on_record, n);
    enum err err = peer_start(n->peer, &info);
    if (err) {
        fail_msg("%s", info.text);
    }
}

static void start(struct node *n, const char *listen)
{
    start_with(n, listen,
               n == nodes ? buf_span(&founded.certificate) : buf_span(&n->joined.certificate),
               n->tls_key);
}

static bool port_free(unsigned port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

/* Enrolment listens on the next port too, so both must be free; below 32768 the system gives none to others by itself. */
static void start_with_room(struct node *n)
{
    for (int tries = 0; tries < 200; tries++) {
        unsigned port = 20000 + 2 * (unsigned)peer_random_below(6000);
        if (port_free(port) && port_free(port + 1)) {
            char url[64];
            snprintf(url, sizeof url, "tls+tcp://127.0.0.1:%u", port);
            start(n, url);
            return;
        }
    }
    fail_msg("no two ports beside each other are free");
}

static void publish_address(struct node *n, const char *url)
{
    struct proto_address address = {
        .v = 1, .url = span_str(url), .reverse = strcmp(url, "none") == 0};
    struct buf body = {.max = 512};
    OK(proto_address_encode(&address, &body, &info));
    OK(peer_publish(n->peer, PROTO_RECORD_ADDRESS, ENROL_ADDRESS_KEY, buf_span(&body), 0, 0, NULL,
                    &info));
    buf_fini(&body);
}

static void publish_own_address(struct node *n)
{
    char url[64];
    snprintf(url, sizeof url, "tls+tcp://127.0.0.1:%u", peer_port(n->peer));
    publish_address(n, url);
}

static void on_stopped(void *user)
{
    ((struct node *)user)->stopped = true;
}

static void stop(struct node *n)
{
    if (!n->peer) {
        return;
    }
    peer_stop(n->peer, 2000, on_stopped, n);
    while (!n->stopped) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    peer_free(n->peer);
    n->peer = NULL;
}

/* --- running the loop until something holds ------------------------------------------------------------------------------ */

static void on_beat(uv_timer_t *timer)
{
    (void)timer;
}

static bool run_until(bool (*holds)(void *), void *user, uint64_t limit_ms)
{
    uv_timer_t beat;
    uint64_t until = peer_now_ms() + limit_ms;
    bool ok = false;
    uv_timer_init(&loop, &beat);
    uv_timer_start(&beat, on_beat, 5, 5);
    while (!(ok = holds(user)) && peer_now_ms() < until) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&beat, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
    return ok;
}

struct pair {
    struct node *from, *to;
};

static bool sees(struct node *from, struct node *to, enum peer_state state)
{
    struct peer_member member;
    return peer_member_by_id(from->peer, to->id, &member) && member.state == state;
}

static bool pair_up(void *user)
{
    struct pair *pair = user;
    return sees(pair->from, pair->to, PEER_UP) && sees(pair->to, pair->from, PEER_UP);
}

static bool pair_down(void *user)
{
    struct pair *pair = user;
    return !sees(pair->to, pair->from, PEER_UP) && sees(pair->from, pair->to, PEER_REVOKED);
}

static bool never(void *user)
{
    (void)user;
    return false;
}

static bool roots_equal(void *user)
{
    int count = *(int *)user;
    uint8_t first[16], other[16];
    peer_root(nodes[0].peer, first);
    for (int i = 1; i < count; i++) {
        peer_root(nodes[i].peer, other);
        if (memcmp(first, other, 16) != 0) {
            return false;
        }
    }
    return true;
}

struct calling {
    struct peer *peer;
    struct peer_call *calls;
    size_t count;
    uint64_t deadline_ms;
    void (*ended)(void *user, size_t at);
    void *user;
    pthread_t thread;
    _Atomic bool over;
    enum err err;
};

static void *calling_main(void *arg)
{
    struct calling *c = arg;
    c->err = peer_call_each(c->peer, c->calls, c->count, c->deadline_ms, c->ended, NULL, c->user);
    c->over = true;
    return NULL;
}

static bool calling_over(void *user)
{
    return ((struct calling *)user)->over;
}

static void call_watched(struct node *from, struct peer_call *calls, size_t count,
                         uint64_t deadline_ms, void (*ended)(void *user, size_t at), void *user)
{
    struct calling c = {.peer = from->peer,
                        .calls = calls,
                        .count = count,
                        .deadline_ms = deadline_ms,
                        .ended = ended,
                        .user = user};
    assert_int_equal(pthread_create(&c.thread, NULL, calling_main, &c), 0);
    assert_true(run_until(calling_over, &c, deadline_ms + 5000));
    pthread_join(c.thread, NULL);
    OK(c.err);
}

static void call(struct node *from, struct peer_call *calls, size_t count, uint64_t deadline_ms)
{
    call_watched(from, calls, count, deadline_ms, NULL, NULL);
}

static enum err call_one(struct node *from, struct node *to, uint32_t type, struct span body,
                         uint64_t deadline_ms)
{
    struct peer_call one = {.type = type, .body = body};
    memcpy(one.to, to->id, 16);
    call(from, &one, 1, deadline_ms);
    if (one.status == E_OK && type == PEER_MSG_QUERY) {
        assert_true(span_equal(one.reply.bytes, body));
    }
    peer_reply_fini(&one.reply);
    return one.status;
}

/* --- the tests, in this order: later ones use the nodes of earlier ones ---------------------------------------------------- */

static void test_mutual_identity(void **state)
{
    (void)state;
    found(&nodes[0]);
    start_with_room(&nodes[0]);
    publish_own_address(&nodes[0]);
    home_make(&nodes[1]);
    struct buf member = {.max = 4400};
    nodes[1].joined.certificate.max = 4096;
    issue(&nodes[1], 1, true, &nodes[1].joined.certificate, &member);
    federation_join_store(&nodes[1], &founded);
    OK(store_records_put(&nodes[1].store, buf_span(&member), &info));
    OK(peer_publish_other(nodes[0].peer, buf_span(&member), &info));
    /* the founder's own address reaches node 1 by hand, as enrolment would bring it */
    uint8_t key[16];
    struct arena arena = {0};
    struct span record;
    proto_record_key(&crypto_proto_hash, ENROL_ADDRESS_KEY, key);
    OK(store_records_get(&nodes[0].store, nodes[0].id, key, PROTO_RECORD_ADDRESS, &arena, &record,
                         NULL));
    OK(store_records_put(&nodes[1].store, record, &info));
    arena_fini(&arena);
    buf_fini(&member);
    start(&nodes[1], "tls+tcp://127.0.0.1:0");
    publish_own_address(&nodes[1]);
    struct pair pair = {&nodes[0], &nodes[1]};
    assert_true(run_until(pair_up, &pair, 10000));
    assert_int_equal(call_one(&nodes[0], &nodes[1], PEER_MSG_QUERY, span_str("grüezi"), 3000),
                     E_OK);
    assert_int_equal(call_one(&nodes[1], &nodes[0], PEER_MSG_QUERY, span_str("salut"), 3000), E_OK);
    assert_int_equal(call_one(&nodes[1], &nodes[1], PEER_MSG_QUERY, span_str("self"), 3000), E_OK);
    assert_int_equal(call_one(&nodes[0], &nodes[1], PEER_MSG_TRAIN_STOP, SPAN_NONE, 3000),
                     E_BUDGET_EXHAUSTED);
    assert_int_equal(call_one(&nodes[0], &nodes[1], PEER_MSG_HEAD, SPAN_NONE, 3000), E_UNSUPPORTED);
    int two = 2;
    assert_true(run_until(roots_equal, &two, 10000));
}

static void test_parallel_and_deadline(void **state)
{
    (void)state;
    static struct peer_call calls[100];
    static char text[100][2000];
    for (int i = 0; i < 100; i++) {
        memset(text[i], 'a' + i % 26, sizeof text[i]);
        calls[i] =
            (struct peer_call){.type = PEER_MSG_QUERY, .body = span_of(text[i], sizeof text[i])};
        memcpy(calls[i].to, nodes[1].id, 16);
    }
    call(&nodes[0], calls, 100, 10000);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(calls[i].status, E_OK);
        assert_true(span_equal(calls[i].reply.bytes, calls[i].body));
        peer_reply_fini(&calls[i].reply);
    }
    uint64_t began = peer_now_ms();
    assert_int_equal(call_one(&nodes[0], &nodes[1], PEER_MSG_TRAIN_PLAN, SPAN_NONE, 200),
                     E_TIMEOUT);
    assert_true(peer_now_ms() - began < 600);
    run_until(never, NULL, 900); /* the late answer finds nobody and harms nobody */
    assert_int_equal(call_one(&nodes[0], &nodes[1], PEER_MSG_QUERY, span_str("after"), 3000), E_OK);
}

struct watched {
    const struct peer_call *calls;
    int ended[40], told;
    pthread_t caller;
    bool wrong;
};

static void watch_ended(void *user, size_t at)
{
    struct watched *w = user;
    const struct peer_call *call = &w->calls[at];
    w->wrong |= call->status == E_OK && !span_equal(call->reply.bytes, call->body);
    w->wrong |= w->told++ && !pthread_equal(w->caller, pthread_self());
    w->caller = pthread_self();
    w->ended[at]++;
}

/* Each call is told once, when its reply is there, and all in one thread. */
static void test_watched(void **state)
{
    (void)state;
    static struct peer_call calls[40];
    static char text[40];
    static struct watched w = {.calls = calls};
    for (int i = 0; i < 40; i++) {
        text[i] = (char)('!' + i);
        calls[i] = (struct peer_call){.type = PEER_MSG_QUERY, .body = span_of(&text[i], 1)};
        memcpy(calls[i].to, nodes[i % 8 == 0 ? 0 : 1].id, 16);
        calls[i].to[0] ^= i == 39; /* nobody */
    }
    call_watched(&nodes[0], calls, 40, 20000, watch_ended, &w);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(calls[i].status, i == 39 ? E_NOT_FOUND : E_OK);
        assert_int_equal(w.ended[i], 1);
        peer_reply_fini(&calls[i].reply);
    }
    assert_false(w.wrong);
}

/* No thread waits with an answer that has its time: more of them than threads and slots are under way at once. */
static void test_replies_that_wait(void **state)
{
    (void)state;
    static struct peer_call calls[90];
    static char text[90];
    for (int round = 0; round < 2; round++) { /* the second time to itself */
        uint64_t began = peer_now_ms();
        for (int i = 0; i < 90; i++) {
            text[i] = (char)('!' + i);
            calls[i] =
                (struct peer_call){.type = PEER_MSG_TRAIN_ROUND, .body = span_of(&text[i], 1)};
            memcpy(calls[i].to, nodes[1].id, 16);
        }
        call(&nodes[round], calls, 90, 10000);
        for (int i = 0; i < 90; i++) {
            assert_int_equal(calls[i].status, E_OK);
            assert_true(span_equal(calls[i].reply.bytes, calls[i].body));
            assert_true(calls[i].elapsed_ms >= LATER_MS);
            peer_reply_fini(&calls[i].reply);
        }
        assert_true(peer_now_ms() - began < 10 * LATER_MS);
    }
}

static void test_big_messages(void **state)
{
    (void)state;
    static uint8_t big[PEER_MESSAGE_MAX + 1];
    memset(big, 7, sizeof big);
    assert_int_equal(
        call_one(&nodes[0], &nodes[1], PEER_MSG_QUERY, span_of(big, PEER_MESSAGE_MAX), 8000), E_OK);
    assert_int_equal(call_one(&nodes[0], &nodes[1], PEER_MSG_QUERY, span_of(big, sizeof big), 3000),
                     E_LIMIT);
    assert_int_equal(call_one(&nodes[0], &nodes[1], PEER_MSG_QUERY, span_str("still"), 3000), E_OK);
}

/* Garbage on the port: connect and close, junk, half a TLS record, and a plain NNG greeting; fifteen times. */
struct fetching {
    struct node *to, *from;
    struct peer_blob blob;
    uint64_t stall_ms;
    enum store_blob_keep keep;
    bool was_here;
    pthread_t thread;
    _Atomic bool over;
    enum err err;
};

static void *fetching_main(void *arg)
{
    struct fetching *f = arg;
    struct peer_fetch how = {
        .from = f->from->id, .stall_ms = f->stall_ms, .keep = f->keep, .was_here = &f->was_here};
    f->err = peer_blob_fetch(f->to->peer, &f->to->store, &f->blob, &how, NULL);
    f->over = true;
    return NULL;
}

static bool fetching_over(void *user)
{
    return ((struct fetching *)user)->over;
}

static bool some_served(void *user)
{
    (void)user;
    return chunks_served >= chunks_most;
}

static enum err fetch(struct fetching *f)
{
    f->over = false;
    assert_int_equal(pthread_create(&f->thread, NULL, fetching_main, f), 0);
    assert_true(run_until(fetching_over, f, f->stall_ms + 10000));
    pthread_join(f->thread, NULL);
    return f->err;
}

/* Node 1 fetches what node 0 has: refused, spoiled, cut off and gone on with. */
static void transfer(enum store_blob_keep keep)
{
    enum {
        SIZE = 11 * STORE_BLOB_CHUNK / 2
    };
    struct fetching f = {.to = &nodes[1], .from = &nodes[0], .stall_ms = 3000, .keep = keep};
    struct buf got = {.max = SIZE};
    uint8_t *bytes = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (uint8_t)(i * 2654435761u >> (20 + keep));
    }
    uint8_t hash[32];
    OK(store_blob_put(&nodes[0].store, span_of(bytes, SIZE), hash, &info));
    OK(peer_blob_describe(&nodes[0].store, hash, &f.blob, &info));
    chunks_denied = true;
    assert_int_equal(fetch(&f), E_REFUSED);
    chunks_denied = false;
    struct peer_blob right = f.blob;
    f.blob.hash[0] ^= 1;
    assert_int_equal(fetch(&f), E_NOT_FOUND);
    f.blob = right;
    f.blob.size--;
    assert_int_equal(fetch(&f), E_AUTH); /* nothing is left of it */
    f.blob = right;
    chunks_served = 0;
    chunks_most = 2;
    f.stall_ms = 1000;
    assert_int_equal(fetch(&f), E_TIMEOUT); /* two came, then no progress */
    assert_int_equal(chunks_served, 2);
    /* The link dies in the middle; only what is missing is fetched again. */
    f.stall_ms = 20000;
    f.over = false;
    assert_int_equal(pthread_create(&f.thread, NULL, fetching_main, &f), 0);
    chunks_most = 3;
    assert_true(run_until(some_served, &f, 5000));
    pipe_close_all(nodes[0].peer, nodes[1].id, 0);
    chunks_most = 0;
    assert_true(run_until(fetching_over, &f, 20000));
    pthread_join(f.thread, NULL);
    OK(f.err);
    /* A window that was under way when the link died comes twice, on a slow machine the one behind it, too. */
    assert_in_range(chunks_served, 6, 6 + 2 * PEER_FETCH_WINDOW);
    OK(store_blob_get(&nodes[1].store, hash, &got, &info));
    assert_true(span_equal(buf_span(&got), span_of(bytes, SIZE)));
    assert_false(f.was_here);
    OK(fetch(&f));
    assert_true(f.was_here);
    free(bytes);
    buf_fini(&got);
}

static void test_transfer(void **state)
{
    (void)state;
    transfer(STORE_BLOB_DURABLE);
    transfer(STORE_BLOB_PASSING);
}

static void test_garbage_on_the_port(void **state)
{
    (void)state;
    static const uint8_t half[] = {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00};
    static const uint8_t nng_greeting[] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    uint8_t junk[256];
    for (size_t i = 0; i < sizeof junk; i++) {
        junk[i] = (uint8_t)(i * 37 + 11);
    }
    for (int i = 0; i < 15; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons(peer_port(nodes[1].peer))};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
        struct span what = i % 4 == 0   ? SPAN_NONE
                           : i % 4 == 1 ? span_of(junk, sizeof junk)
                           : i % 4 == 2 ? span_of(half, sizeof half)
                                        : span_of(nng_greeting, sizeof nng_greeting);
        if (what.len) {
            assert_int_equal(send(fd, what.ptr, what.len, MSG_NOSIGNAL), (ssize_t)what.len);
        }
        close(fd);
        run_until(never, NULL, 10);
    }
    assert_int_equal(call_one(&nodes[0], &nodes[1], PEER_MSG_QUERY, span_str("fine"), 3000), E_OK);
}

static bool admit_all(void *user, const struct crypto_certificate_info *who)
{
    (void)user;
    (void)who;
    return true;
}

static bool all_pipes(void *user, const struct sp_identity *who, enum sp_event event)
{
    (void)user;
    (void)who;
    (void)event;
    return true;
}

/* A node that presents CERTIFICATE gets no further than the handshake with node 0. */
static void refused_at_the_door(struct span certificate, struct span root_der,
                                const char *federation, const struct crypto_identity *tls_key)
{
    struct crypto_channel_profile *profile = NULL;
    struct sp_socket *socket = NULL;
    char url[64], hex[33];
    struct peer_counters before, after;

    peer_counters(nodes[0].peer, &before);
    OK(crypto_channel_profile_new(CRYPTO_CHANNEL_MESH, tls_key, certificate, root_der, federation,
                                  NULL, admit_all, NULL, &profile, &info));
    span_to_hex(span_of(nodes[0].id, 16), hex);
    snprintf(url, sizeof url, "tls+tcp://127.0.0.1:%u", peer_port(nodes[0].peer));
    OK(sp_open(SP_REQ, PEER_FRAME_MAX, all_pipes, NULL, &socket));
    assert_int_not_equal(sp_dial(socket, url, profile, hex, 3000), 0);
    sp_close(socket);
    crypto_channel_profile_free(profile);
    run_until(never, NULL, 50);
    peer_counters(nodes[0].peer, &after);
    assert_int_equal(after.requests_in - before.requests_in > 20, 0); /* gossip only */
}

/* One exchange of a raw client. The caller frees what came. */
static int raw_call(struct sp_ctx *ctx, const struct span *parts, size_t count,
                    struct sp_message **ret)
{
    struct exchange x;
    exchange_init(&x);
    sp_ctx_request(ctx, parts, count, exchange_done, &x);
    for (int i = 0; i < 100; i++) {
        int rv = exchange_wait(&x, 20, ret);
        if (rv != NNG_EAGAIN) {
            return rv;
        }
        run_until(never, NULL, 20); /* our own loop answers */
    }
    return NNG_ETIMEDOUT;
}

/* A raw connection with a member's papers: without HELLO nothing is answered but the refusal, and a message over the
 * limit costs the connection, not the listener. */
static void test_no_hello_and_oversize(void **state)
{
    (void)state;
    struct crypto_channel_profile *profile = NULL;
    struct sp_socket *socket = NULL;
    struct sp_ctx *ctx = NULL;
    static const uint8_t large[3 << 20];
    struct sp_message *answer = NULL;
    char url[64], hex[33];
    uint8_t head[PEER_FRAME_REQUEST_HEAD];
    struct peer_frame_reply reply;
    struct peer_frame_request frame = {.type = PEER_MSG_QUERY, .deadline_ms = 1000};
    OK(crypto_channel_profile_new(CRYPTO_CHANNEL_MESH, nodes[1].tls_key,
                                  buf_span(&nodes[1].joined.certificate), buf_span(&founded.root),
                                  "alpine", NULL, admit_all, NULL, &profile, &info));
    span_to_hex(span_of(nodes[0].id, 16), hex);
    snprintf(url, sizeof url, "tls+tcp://127.0.0.1:%u", peer_port(nodes[0].peer));
    OK(sp_open(SP_REQ, PEER_FRAME_MAX, all_pipes, NULL, &socket));
    assert_int_equal(sp_dial(socket, url, profile, hex, 3000), 0);
    OK(sp_ctx_open(socket, &ctx));
    struct span part = span_of(head, peer_frame_encode_request(&frame, head));
    assert_int_equal(raw_call(ctx, &part, 1, &answer), 0);
    OK(peer_frame_decode_reply(answer->bytes, &reply));
    assert_int_equal(reply.status, E_AUTH);
    proto_free(answer);
    /* too large */
    part = span_of(large, sizeof large);
    assert_int_equal(raw_call(ctx, &part, 1, &answer), NNG_ECONNRESET);
    sp_close(socket);
    crypto_channel_profile_free(profile);
    assert_int_equal(call_one(&nodes[1], &nodes[0], PEER_MSG_QUERY, span_str("fine"), 3000), E_OK);
    assert_int_equal(call_one(&nodes[0], &nodes[1], PEER_MSG_QUERY, span_str("fine"), 3000), E_OK);
}

static void test_strangers_are_refused(void **state)
{
    (void)state;
    struct node *n = &nodes[2];
    struct buf certificate = {.max = 4096}, unused = {.max = 4400};
    home_make(n);
    /* a certificate of our root without a MEMBER record */
    issue(n, 2, false, &certificate, &unused);
    refused_at_the_door(buf_span(&certificate), buf_span(&founded.root), "alpine", n->tls_key);
    /* an expired one of a member */
    certificate.len = 0;
    certificate_from = time(NULL) - 280; /* the root is not much older */
    certificate_until = time(NULL) - 100;
    struct node expired = nodes[1];
    issue(&expired, 1, false, &certificate, &unused);
    certificate_from = certificate_until = 0;
    refused_at_the_door(buf_span(&certificate), buf_span(&founded.root), "alpine",
                        nodes[1].tls_key);
    /* a member's id with another TLS key */
    certificate.len = 0;
    expired.tls_key = n->tls_key;
    issue(&expired, 1, false, &certificate, &unused);
    refused_at_the_door(buf_span(&certificate), buf_span(&founded.root), "alpine", n->tls_key);
    /* another federation of the same name */
    struct crypto_identity *other = NULL;
    struct peer_enrol_result theirs;
    OK(crypto_identity_generate(&other));
    struct peer_enrol_found_options options = {.federation = "alpine",
                                               .name = "node-1",
                                               .org = "clinic-1",
                                               .org_type = "nonprofit",
                                               .country = "CH",
                                               .listen = "none",
                                               .root = other,
                                               .identity = nodes[1].identity,
                                               .tls_key = nodes[1].tls_key,
                                               .now = time(NULL)};
    OK(peer_enrol_found(&options, &theirs, &info));
    refused_at_the_door(buf_span(&theirs.certificate), buf_span(&theirs.root), "alpine",
                        nodes[1].tls_key);
    peer_enrol_result_fini(&theirs);
    crypto_identity_free(other);
    buf_fini(&certificate);
    buf_fini(&unused);
    assert_int_equal(call_one(&nodes[0], &nodes[1], PEER_MSG_QUERY, span_str("fine"), 3000), E_OK);
}

/* Enrolment end to end: the third node joins with a token and only dials out. */
struct joining {
    struct peer_enrol_join_options options;
    struct peer_enrol_result *result;
    struct err_info info;
    enum err err;
    _Atomic bool over, waits;
    pthread_t thread;
};

static void *joining_main(void *arg)
{
    struct joining *j = arg;
    j->err = peer_enrol_join(&j->options, j->result, &j->info);
    j->over = true;
    return NULL;
}

static bool joining_over(void *user)
{
    return ((struct joining *)user)->over;
}

static bool joining_waits(void *user)
{
    return ((struct joining *)user)->waits;
}

static void on_waiting(void *user, const char *fingerprint)
{
    struct joining *j = user;
    assert_int_equal(strlen(fingerprint), 64);
    j->waits = true;
}

static void on_audit(void *user, const char *kind, const char *text)
{
    (void)user;
    (void)text;
    alarms += strcmp(kind, "enrol.alarm") == 0;
}

static void joining_start(struct joining *j, struct node *n, const char *token, const char *listen)
{
    j->options = (struct peer_enrol_join_options){.token = token,
                                                  .name = "node-2",
                                                  .listen = listen,
                                                  .identity = n->identity,
                                                  .tls_key = n->tls_key,
                                                  .deadline_ms = 8000,
                                                  .waiting = on_waiting,
                                                  .user = j};
    assert_int_equal(pthread_create(&j->thread, NULL, joining_main, j), 0);
}

static void test_enrolment(void **state)
{
    (void)state;
    struct peer_enrol *enrol = NULL;
    char token[PEER_TOKEN_TEXT], fingerprint[65];
    struct peer_enrol_options options = {
        .root = root, .root_der = buf_span(&founded.root), .audit = on_audit};
    OK(peer_enrol_new(nodes[0].peer, &options, &enrol, &info));
    struct peer_enrol_invitation invitation = {
        .name = "node-2", .org = "clinic-2", .org_type = "charity"};
    assert_int_equal(peer_enrol_invite(enrol, &invitation, token, sizeof token, &info), E_INVALID);
    invitation.org_type = "government";
    invitation.country = "at";
    assert_int_equal(peer_enrol_invite(enrol, &invitation, token, sizeof token, &info), E_INVALID);
    invitation.country = NULL; /* the inviter's */
    enum err err = peer_enrol_invite(enrol, &invitation, token, sizeof token, &info);
    if (err) {
        fail_msg("%s", info.text);
    }
    struct joining j = {.result = &nodes[2].joined};
    joining_start(&j, &nodes[2], token, "none");
    assert_true(run_until(joining_waits, &j, 6000));
    crypto_identity_fingerprint(crypto_identity_point(nodes[1].identity), fingerprint);
    assert_int_equal(peer_enrol_admit(enrol, "node-2", fingerprint, &info), E_AUTH);
    crypto_identity_fingerprint(crypto_identity_point(nodes[2].identity), fingerprint);
    OK(peer_enrol_admit(enrol, "node-2", fingerprint, &info));
    assert_true(run_until(joining_over, &j, 9000));
    pthread_join(j.thread, NULL);
    if (j.err) {
        fail_msg("%s", j.info.text);
    }
    /* what the inviter said stands in the record, not what the new node says of itself */
    struct peer_member attested;
    assert_true(peer_member_by_name(nodes[0].peer, "node-2", &attested));
    assert_string_equal(attested.org, "clinic-2");
    assert_string_equal(attested.org_type, "government");
    assert_string_equal(attested.country, "CH");
    /* the same token with another key: refused, and somebody is told */
    struct peer_enrol_result stolen;
    struct joining thief = {.result = &stolen};
    int before = alarms;
    joining_start(&thief, &nodes[1], token, "none");
    assert_true(run_until(joining_over, &thief, 9000));
    pthread_join(thief.thread, NULL);
    assert_int_equal(thief.err, E_REFUSED);
    assert_int_equal(alarms, before + 1);
    /* the same key again gets the same certificate: its answer may have been lost */
    struct peer_enrol_result again;
    struct joining repeat = {.result = &again};
    joining_start(&repeat, &nodes[2], token, "none");
    assert_true(run_until(joining_over, &repeat, 9000));
    pthread_join(repeat.thread, NULL);
    OK(repeat.err);
    assert_true(span_equal(buf_span(&again.certificate), buf_span(&nodes[2].joined.certificate)));
    peer_enrol_result_fini(&again);
    peer_enrol_free(enrol);
}

static void test_reverse_links(void **state)
{
    (void)state;
    federation_join_store(&nodes[2], &nodes[2].joined);
    start(&nodes[2], "none");
    struct pair a = {&nodes[2], &nodes[0]}, b = {&nodes[2], &nodes[1]};
    assert_true(run_until(pair_up, &a, 15000));
    assert_true(run_until(pair_up, &b, 15000));
    assert_int_equal(call_one(&nodes[2], &nodes[0], PEER_MSG_QUERY, span_str("out"), 3000), E_OK);
    assert_int_equal(call_one(&nodes[0], &nodes[2], PEER_MSG_QUERY, span_str("in"), 3000), E_OK);
    assert_int_equal(call_one(&nodes[1], &nodes[2], PEER_MSG_QUERY, span_str("in"), 3000), E_OK);
}

static bool node2_has_record(void *user)
{
    return nodes[2].records_seen > *(int *)user;
}

static void test_push_and_catch_up(void **state)
{
    (void)state;
    int three = 3, seen = nodes[2].records_seen;
    assert_true(run_until(roots_equal, &three, 10000));
    seen = nodes[2].records_seen;
    OK(peer_publish(nodes[1].peer, PROTO_RECORD_HEAD, "x", span_str("body"), 0, 0, NULL, &info));
    uint64_t began = peer_now_ms();
    assert_true(run_until(node2_has_record, &seen, 5000));
    assert_true(peer_now_ms() - began < 1000);
    stop(&nodes[2]);
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "r%d", i);
        OK(peer_publish(nodes[i % 2].peer, PROTO_RECORD_HEAD, name, span_str("body"), 0, 0, NULL,
                        &info));
    }
    start(&nodes[2], "none");
    assert_true(run_until(roots_equal, &three, 10000));
}

/* Two histories of one record, each shown to another node, end up side by side everywhere, also after a restart. */
static void test_equivocation_is_known_everywhere(void **state)
{
    (void)state;
    int three = 3;
    struct buf first = {.max = 4400}, second = {.max = 4400};
    OK(enrol_record(nodes[1].identity, founded.federation_id, PROTO_RECORD_LICENCE, "two-faced",
                    span_str("yes"), time(NULL), &first, &info));
    OK(enrol_record(nodes[1].identity, founded.federation_id, PROTO_RECORD_LICENCE, "two-faced",
                    span_str("no"), time(NULL), &second, &info));
    OK(peer_publish_other(nodes[0].peer, buf_span(&first), &info));
    OK(peer_publish_other(nodes[2].peer, buf_span(&second), &info));
    run_until(never, NULL, 300);
    assert_true(run_until(roots_equal, &three, 10000));
    for (int i = 0; i < 3; i++) {
        struct proto_record a, b;
        OK(proto_record_decode(buf_span(&first), &crypto_proto_hash, &a, NULL));
        OK(proto_record_decode(buf_span(&second), &crypto_proto_hash, &b, NULL));
        assert_true(proto_gossip_has(nodes[i].peer->gossip, a.id));
        assert_true(proto_gossip_has(nodes[i].peer->gossip, b.id));
    }
    stop(&nodes[2]);
    start(&nodes[2], "none");
    assert_true(run_until(roots_equal, &three, 10000));
    buf_fini(&first);
    buf_fini(&second);
}

static bool expelled_at_the_third(void *user)
{
    struct peer_member member;
    (void)user;
    return peer_member_by_id(nodes[2].peer, nodes[1].id, &member) && member.state == PEER_REVOKED;
}

static void test_expelled_link_dies(void **state)
{
    (void)state;
    struct pair pair = {&nodes[0], &nodes[1]};
    assert_true(run_until(pair_up, &pair, 5000));
    uint64_t began = peer_now_ms();
    OK(peer_revoke(nodes[0].peer, nodes[1].id, "key lost", NULL, &info));
    assert_true(run_until(pair_down, &pair, 3000));
    assert_true(peer_now_ms() - began < 1000);
    assert_int_equal(call_one(&nodes[0], &nodes[1], PEER_MSG_QUERY, SPAN_NONE, 1000), E_REFUSED);
    assert_true(run_until(expelled_at_the_third, NULL, 5000)); /* by gossip */
    assert_int_equal(call_one(&nodes[1], &nodes[0], PEER_MSG_QUERY, SPAN_NONE, 1000),
                     E_UNREACHABLE);
}

static int setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&loop);
    return crypto_init(&info) != E_OK;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < NODES; i++) {
        stop(&nodes[i]);
    }
    while (uv_run(&loop, UV_RUN_NOWAIT)) {
    }
    int rc = uv_loop_close(&loop);
    for (int i = 0; i < NODES; i++) {
        struct node *n = &nodes[i];
        if (!n->identity) {
            continue;
        }
        char command[4096];
        store_close(&n->store);
        crypto_keyring_close(n->keyring);
        crypto_identity_free(n->identity);
        crypto_identity_free(n->tls_key);
        peer_enrol_result_fini(&n->joined);
        snprintf(command, sizeof command, "rm -rf %s", n->home);
        rc |= system(command);
    }
    peer_enrol_result_fini(&founded);
    crypto_identity_free(root);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutual_identity),
        cmocka_unit_test(test_parallel_and_deadline),
        cmocka_unit_test(test_watched),
        cmocka_unit_test(test_replies_that_wait),
        cmocka_unit_test(test_big_messages),
        cmocka_unit_test(test_transfer),
        cmocka_unit_test(test_garbage_on_the_port),
        cmocka_unit_test(test_no_hello_and_oversize),
        cmocka_unit_test(test_strangers_are_refused),
        cmocka_unit_test(test_enrolment),
        cmocka_unit_test(test_reverse_links),
        cmocka_unit_test(test_push_and_catch_up),
        cmocka_unit_test(test_equivocation_is_known_everywhere),
        cmocka_unit_test(test_expelled_link_dies),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
