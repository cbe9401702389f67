#include "config.h"
#include "node/peer/council.h"
#include "node/peer/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "crypto/envelope.h"
#include "crypto/random.h"
#include "proto/body.h"
#include "store/egress.h"

#define CHARTER_FILE_MAX 8192

/* --- small things ---------------------------------------------------------------------------------------------------- */

void peer_say(struct peer *peer, enum peer_log level, const char *format, ...)
{
    char text[512];
    va_list args;
    if (!peer->log) {
        return;
    }
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    peer->log(peer->log_user, level, text);
}

uint64_t peer_now_ms(void)
{
    return uv_hrtime() / 1000000;
}

uint64_t peer_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t peer_random_below(uint64_t n)
{
    uint64_t value;
    if (n == 0 || crypto_random(&value, sizeof value)) {
        return 0;
    }
    return value % n;
}

void peer_count(struct peer *peer, uint64_t *counter, uint64_t by)
{
    pthread_mutex_lock(&peer->lock);
    *counter += by;
    pthread_mutex_unlock(&peer->lock);
}

bool peer_url_split(const char *url, char host[128], uint16_t *ret_port)
{
    static const char scheme[] = "tls+tcp://";
    size_t n = sizeof scheme - 1;
    const char *colon = strncmp(url, scheme, n) == 0 ? strrchr(url + n, ':') : NULL;
    if (!colon || colon == url + n || (size_t)(colon - url) - n >= 128) {
        return false;
    }
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (end == colon + 1 || *end || port > 65535) {
        return false;
    }
    memcpy(host, url + n, (size_t)(colon - url) - n);
    host[(size_t)(colon - url) - n] = 0;
    *ret_port = (uint16_t)port;
    return true;
}

/* Not uv_async_send: the loop, awake at once on another processor, would spin until the sender is out of it. Written
 * without the lock, for which the loop asks first; whoever finds events waiting has been woken for already. */
void peer_post(struct peer *peer, struct peer_event *event)
{
    static const uint64_t one = 1;
    event->next = NULL;
    pthread_mutex_lock(&peer->lock);
    bool first = !peer->events;
    *peer->events_tail = event;
    peer->events_tail = &event->next;
    pthread_mutex_unlock(&peer->lock);
    if (first) {
        (void)!write(peer->wake_fd, &one, sizeof one);
    }
}

static void drain(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    struct peer_event *event = peer->events;
    peer->events = NULL;
    peer->events_tail = &peer->events;
    pthread_mutex_unlock(&peer->lock);
    while (event) {
        struct peer_event *next = event->next;
        event->run(peer, event);
        event = next;
    }
}

static void on_wake(uv_poll_t *poll, int status, int events)
{
    struct peer *peer = poll->data;
    uint64_t count;
    (void)status;
    (void)events;
    (void)!read(peer->wake_fd, &count, sizeof count);
    drain(peer);
}

const struct crypto_channel_profile *peer_profile(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    const struct crypto_channel_profile *profile = peer->profiles[peer->profile_count - 1];
    pthread_mutex_unlock(&peer->lock);
    return profile;
}

/* --- what leaves ----------------------------------------------------------------------------------------------------------- */

void peer_egress(struct peer *peer, size_t link, uint32_t type, size_t len)
{
    struct peer_member member;
    const char *kind = type == PEER_MSG_GOSSIP                              ? "gossip"
                       : type == PEER_MSG_HEAD                              ? "head"
                       : type == PEER_MSG_HELLO || type == PEER_MSG_REVERSE ? "hello"
                                                                            : NULL;
    if (kind && link < PEER_MEMBERS_MAX && peer_directory_get(peer->directory, link, &member)) {
        store_egress_count(peer->store, member.name, kind, len);
    }
}

/* --- the tick ----------------------------------------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer);

void peer_tick_at(struct peer *peer, uint64_t at_ms)
{
    uint64_t now = peer_now_ms();
    uint64_t wait = at_ms > now ? at_ms - now : 0;
    if (!uv_is_active((uv_handle_t *)&peer->tick) || uv_timer_get_due_in(&peer->tick) > wait) {
        uv_timer_start(&peer->tick, on_tick, wait + 1, 0);
    }
}

static void stop_begin(struct peer *peer);

static bool nothing_open(struct peer *peer)
{
    pthread_mutex_lock(&peer->guests_lock);
    bool nothing = peer->open_requests == 0;
    pthread_mutex_unlock(&peer->guests_lock);
    return nothing;
}

static void on_tick(uv_timer_t *timer)
{
    struct peer *peer = timer->data;
    uint64_t now = peer_now_ms();
    uint64_t next = UINT64_MAX;
    server_tick(peer, now, &next);
    if (peer->stopping) {
        if (!peer->torn_down && (nothing_open(peer) || now >= peer->stop_at_ms)) {
            stop_begin(peer);
        } else if (!peer->torn_down) {
            peer_tick_at(peer, now + 20);
        }
        return;
    }
    link_tick(peer, now, &next);
    pipe_close_silent(peer, now, &next);
    if (next != UINT64_MAX) {
        peer_tick_at(peer, next);
    }
}

/* --- making ------------------------------------------------------------------------------------------------------------- */

/* In the handshake, on NNG's threads. */
static bool admit(void *user, const struct crypto_certificate_info *who)
{
    struct peer *peer = user;
    bool ok = peer_directory_admits(peer->directory, who, (int64_t)time(NULL));
    if (!ok) {
        peer_count(peer, &peer->counters.unauthorised, 1);
    }
    return ok;
}

static enum err charter_load(struct peer *peer, const char *path, struct err_info *reterr)
{
    uint8_t bytes[CHARTER_FILE_MAX];
    FILE *file = fopen(path, "rb");
    if (!file) {
        return proto_err_set(reterr, E_NOT_FOUND, "no charter at %s", path);
    }
    size_t len = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    peer->charter.max = CHARTER_FILE_MAX;
    enum err err = peer_directory_charter(peer->directory, span_of(bytes, len), reterr);
    err = err ? err : buf_put(&peer->charter, span_of(bytes, len));
    if (err) {
        proto_err_frame(reterr, "reading %s", path);
    }
    return err;
}

static void limits_default(struct peer_limits *l)
{
    l->rate_per_s = l->rate_per_s ? l->rate_per_s : 400;
    l->burst = l->burst ? l->burst : 800;
    l->open_requests = l->open_requests ? l->open_requests : 40;
    l->handler_threads = l->handler_threads ? l->handler_threads : 16;
    l->redial_min_ms = l->redial_min_ms ? l->redial_min_ms : 500;
    l->redial_max_ms = l->redial_max_ms ? l->redial_max_ms : 60000;
}

static enum err copy_seeds(struct peer *peer, const struct peer_options *o, struct err_info *reterr)
{
    char host[128];
    uint16_t port;
    peer->seeds = proto_alloc(o->seed_count ? o->seed_count : 1, sizeof *peer->seeds);
    for (size_t i = 0; peer->seeds && i < o->seed_count; i++) {
        if (strlen(o->seeds[i]) >= sizeof peer->seeds[i] ||
            !peer_url_split(o->seeds[i], host, &port)) {
            return proto_err_set(reterr, E_INVALID, "seeds: tls+tcp://HOST:PORT");
        }
        snprintf(peer->seeds[i], sizeof peer->seeds[i], "%s", o->seeds[i]);
        peer->seed_count++;
    }
    return peer->seeds ? E_OK : E_NO_MEMORY;
}

static enum err copy_options(struct peer *peer, const struct peer_options *o,
                             struct err_info *reterr)
{
    char host[128];
    uint16_t port;
    if (!o->loop || !o->store || !o->identity || !o->tls_key || !o->federation || !o->listen ||
        !o->charter_path || strlen(o->federation) >= sizeof peer->federation ||
        strlen(o->listen) >= sizeof peer->listen) {
        return proto_err_set(reterr, E_INVALID, "an option of the transport is missing");
    }
    peer->dials_only = strcmp(o->listen, "none") == 0;
    if (!peer->dials_only && !peer_url_split(o->listen, host, &port)) {
        return proto_err_set(reterr, E_INVALID, "listen: tls+tcp://HOST:PORT or none");
    }
    if (o->reverse_port_to < o->reverse_port_from) {
        return proto_err_set(reterr, E_INVALID, "reverse_ports: the last is below the first");
    }
    peer->loop = o->loop;
    peer->store = o->store;
    peer->identity = o->identity;
    peer->tls_key = o->tls_key;
    peer->log = o->log;
    peer->log_user = o->log_user;
    peer->limits = o->limits;
    peer->reverse_from = o->reverse_port_from;
    peer->reverse_to = o->reverse_port_to;
    limits_default(&peer->limits);
    memcpy(peer->federation_id, o->federation_id, 16);
    memcpy(peer->node_id, o->node_id, 16);
    snprintf(peer->federation, sizeof peer->federation, "%s", o->federation);
    snprintf(peer->listen, sizeof peer->listen, "%s", o->listen);
    peer->root.max = peer->certificate.max = CRYPTO_CERTIFICATE_MAX;
    enum err err = buf_put(&peer->root, o->root);
    err = err ? err : buf_put(&peer->certificate, o->certificate);
    return err ? err : copy_seeds(peer, o, reterr);
}

static void handles_open(struct peer *peer)
{
    peer->wake.data = peer->tick.data = peer->gossip_timer.data = peer;
    if (uv_poll_init(peer->loop, &peer->wake, peer->wake_fd) == 0) {
        peer->handles = 3;
        uv_poll_start(&peer->wake, UV_READABLE, on_wake);
        uv_timer_init(peer->loop, &peer->tick);
        uv_timer_init(peer->loop, &peer->gossip_timer);
    }
}

static enum err locks_init(struct peer *peer)
{
    if (pthread_mutex_init(&peer->lock, NULL) || pthread_mutex_init(&peer->pipes_lock, NULL) ||
        pthread_mutex_init(&peer->publish_lock, NULL) ||
        pthread_mutex_init(&peer->guests_lock, NULL)) {
        return E_NO_MEMORY;
    }
    peer->events_tail = &peer->events;
    peer->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return peer->wake_fd >= 0 ? E_OK : E_IO;
}

enum err peer_renew(struct peer *peer, const struct crypto_identity *tls_key,
                    struct span certificate, struct err_info *reterr)
{
    struct crypto_channel_profile *profile = NULL;
    if (peer->profile_count == sizeof peer->profiles / sizeof *peer->profiles) {
        return proto_err_set(reterr, E_LIMIT, "renewed too often; restart the daemon");
    }
    enum err err =
        crypto_channel_profile_new(CRYPTO_CHANNEL_MESH, tls_key, certificate, buf_span(&peer->root),
                                   peer->federation, NULL, admit, peer, &profile, reterr);
    if (err) {
        return err;
    }
    pthread_mutex_lock(&peer->lock);
    peer->profiles[peer->profile_count++] = profile;
    pthread_mutex_unlock(&peer->lock);
    if (peer->listener) {
        sp_listener_renew(peer->listener, profile);
    }
    return E_OK;
}

enum err peer_new(const struct peer_options *options, struct peer **ret, struct err_info *reterr)
{
    struct peer *peer = proto_alloc(1, sizeof *peer);
    if (!peer) {
        return E_NO_MEMORY;
    }
    enum err err = locks_init(peer);
    if (err) {
        proto_free(peer);
        return err;
    }
    err = copy_options(peer, options, reterr);
    if (!err) {
        err = peer_directory_new(peer->federation_id, peer->node_id, &peer->directory);
    }
    if (!err) {
        err = charter_load(peer, options->charter_path, reterr);
    }
    if (!err) {
        err = peer_renew(peer, options->tls_key, options->certificate, reterr);
    }
    if (!err) {
        err = gossip_open(peer, reterr);
    }
    if (err) {
        peer_free(peer);
        return err;
    }
    *ret = peer;
    return E_OK;
}

enum err peer_start(struct peer *peer, struct err_info *reterr)
{
    handles_open(peer);
    if (!peer->handles) {
        return proto_err_set(reterr, E_IO, "the loop takes no more handles");
    }
    enum err err = pool_start(&peer->handlers, peer->limits.handler_threads);
    err = err ? err : pool_start(&peer->records, 1);
    err = err ? err : pool_start(&peer->dialers, 3);
    err = err ? err : server_start(peer, reterr);
    peer->started = true;
    if (err) {
        return err;
    }
    for (size_t i = 0; i < peer_directory_count(peer->directory); i++) {
        struct peer_directory_change change = {.member = (int)i, .added = true};
        link_member_changed(peer, &change);
    }
    return E_OK;
}

/* --- the end ------------------------------------------------------------------------------------------------------------- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct peer *peer = handle->data;
    pthread_mutex_lock(&peer->lock);
    bool last = --peer->handles == 0;
    pthread_mutex_unlock(&peer->lock);
    if (last && peer->stop_done) {
        peer->stop_done(peer->stop_user);
    }
}

static void on_stopped(struct peer *peer, struct peer_event *event)
{
    (void)event;
    pthread_join(peer->stopper, NULL);
    uv_timer_stop(&peer->tick);
    uv_timer_stop(&peer->gossip_timer);
    uv_close((uv_handle_t *)&peer->wake, on_handle_closed);
    uv_close((uv_handle_t *)&peer->tick, on_handle_closed);
    uv_close((uv_handle_t *)&peer->gossip_timer, on_handle_closed);
}

/* Handlers first, since their replies use the sockets; dials end when their socket stops; memory last, in peer_free. */
static void *stop_main(void *arg)
{
    struct peer *peer = arg;
    pool_stop(&peer->handlers);
    sp_stop(peer->rep);
    for (size_t i = 0; i < PEER_MEMBERS_MAX; i++) {
        if (peer->links[i]) {
            sp_stop(peer->links[i]->socket);
        }
    }
    pool_stop(&peer->dialers);
    pool_stop(&peer->records);
    for (size_t i = 0; i < PEER_MEMBERS_MAX; i++) {
        if (peer->links[i]) {
            link_stop(peer->links[i]);
        }
    }
    server_stop(peer);
    peer->stopped_event.run = on_stopped;
    peer_post(peer, &peer->stopped_event);
    return NULL;
}

static void stop_begin(struct peer *peer)
{
    peer->torn_down = true;
    server_drop_later(peer);
    for (size_t i = 0; i < PEER_MEMBERS_MAX; i++) {
        if (peer->links[i]) {
            link_fail_calls(peer->links[i], E_CANCELLED);
        }
    }
    if (pthread_create(&peer->stopper, NULL, stop_main, peer)) {
        peer->torn_down = false; /* no thread now: the tick tries again */
        peer_tick_at(peer, peer_now_ms() + 100);
    }
}

void peer_stop(struct peer *peer, uint64_t drain_ms, void (*done)(void *user), void *user)
{
    if (peer->stopping) {
        return;
    }
    peer->stop_done = done;
    peer->stop_user = user;
    peer->stopping = true;
    pthread_mutex_lock(&peer->guests_lock);
    peer->closed_to_guests = true;
    pthread_mutex_unlock(&peer->guests_lock);
    if (!peer->started) {
        done(user);
        return;
    }
    peer->stop_at_ms = peer_now_ms() + drain_ms;
    if (peer->listener) {
        sp_listener_close(peer->listener);
        peer->listener = NULL;
    }
    for (size_t i = 0; i < PEER_MEMBERS_MAX; i++) {
        if (peer->links[i]) {
            link_fail_calls(peer->links[i], E_CANCELLED);
        }
    }
    uv_timer_start(&peer->tick, on_tick, 1, 0);
}

void peer_free(struct peer *peer)
{
    if (!peer) {
        return;
    }
    drain(
        peer); /* events that came after the loop had ended only free themselves, since we are stopping */
    server_stop(peer); /* when the start failed */
    for (size_t i = 0; i < PEER_MEMBERS_MAX; i++) {
        link_free(peer->links[i]);
    }
    server_free(peer);
    gossip_close(peer);
    for (size_t i = 0; i < peer->profile_count; i++) {
        crypto_channel_profile_free(peer->profiles[i]);
    }
    peer_directory_free(peer->directory);
    proto_free(peer->seeds);
    buf_fini(&peer->root);
    buf_fini(&peer->charter);
    buf_fini(&peer->certificate);
    pthread_mutex_destroy(&peer->lock);
    pthread_mutex_destroy(&peer->pipes_lock);
    pthread_mutex_destroy(&peer->publish_lock);
    pthread_mutex_destroy(&peer->guests_lock);
    close(peer->wake_fd);
    proto_free(peer);
}

/* --- what others read ------------------------------------------------------------------------------------------------------ */

uint16_t peer_port(const struct peer *peer)
{
    return peer->port;
}

const char *peer_state_name(enum peer_state state)
{
    static const char *const names[] = {"self", "up", "connecting", "down", "revoked"};
    return names[state];
}

static int by_name(const void *a, const void *b)
{
    const struct peer_member *x = a, *y = b;
    if ((x->state == PEER_SELF) != (y->state == PEER_SELF)) {
        return x->state == PEER_SELF ? -1 : 1;
    }
    return strcmp(x->name, y->name);
}

size_t peer_members(struct peer *peer, struct peer_member *to, size_t cap)
{
    size_t known = 0, taken = 0;
    struct peer_member member;
    for (size_t i = 0; i < peer_directory_count(peer->directory); i++) {
        if (peer_directory_get(peer->directory, i, &member)) {
            known++;
            if (taken < cap) {
                to[taken++] = member;
            }
        }
    }
    qsort(to, taken, sizeof *to, by_name);
    return known;
}

size_t peer_clock(struct peer *peer, int64_t *ret_ahead_ms)
{
    return peer_directory_clocks(peer->directory, ret_ahead_ms);
}

bool peer_member_by_id(struct peer *peer, const uint8_t id[16], struct peer_member *ret)
{
    int at = peer_directory_find(peer->directory, id);
    return at >= 0 && peer_directory_get(peer->directory, (size_t)at, ret);
}

bool peer_member_by_name(struct peer *peer, const char *name, struct peer_member *ret)
{
    uint8_t id[16];
    for (size_t i = 0; i < peer_directory_count(peer->directory); i++) {
        if (peer_directory_get(peer->directory, i, ret) && strcmp(ret->name, name) == 0) {
            return true;
        }
    }
    return span_from_hex(name, id, 16) && peer_member_by_id(peer, id, ret);
}

uint64_t peer_root(struct peer *peer, uint8_t ret_root[16])
{
    pthread_mutex_lock(&peer->lock);
    uint64_t count = peer->root_count;
    memcpy(ret_root, peer->root_print, 16);
    pthread_mutex_unlock(&peer->lock);
    return count;
}

void peer_on_record(struct peer *peer,
                    void (*on_record)(void *user, struct span record, bool forked), void *user)
{
    peer->on_record = on_record;
    peer->on_record_user = user;
}

void peer_counters(struct peer *peer, struct peer_counters *ret)
{
    pthread_mutex_lock(&peer->lock);
    *ret = peer->counters;
    pthread_mutex_unlock(&peer->lock);
}

enum err peer_revoke(struct peer *peer, const uint8_t id[16], const char *reason,
                     uint8_t ret_id[16], struct err_info *reterr)
{
    static const uint8_t everything[16];
    struct peer_member member;
    if (!peer_member_by_id(peer, id, &member)) {
        return proto_err_set(reterr, E_NOT_FOUND, "no such member");
    }
    struct peer_council council;
    peer_council_now(peer, &council);
    if (council.seats == 1 && memcmp(id, council.seat[0].id, 16) == 0) {
        return proto_err_set(reterr, E_REFUSED,
                             "%s has the only seat of the council: without it nobody could admit "
                             "or expel any more; give another member a seat first (`concordat "
                             "federation council add`)",
                             member.name);
    }
    const struct proto_revoke body = {.v = PROTO_BODY_VERSION,
                                      .issuer = span_of(id, 16),
                                      .key = span_of(everything, 16),
                                      .reason = span_str(reason ? reason : ""),
                                      .effective_at = (uint64_t)time(NULL)};
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    enum err err = proto_revoke_signed(&body, &bytes, reterr);
    err = err ? err
              : peer_council_propose(peer, PROTO_RECORD_REVOKE, buf_span(&bytes), ret_id, reterr);
    buf_fini(&bytes);
    return err;
}
