#include "config.h"
#include "node/control/server.h"

#include "node/control/dispatch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* One thread leads: it waits in accept, makes another one lead, and answers what it accepted itself, so that a command waits for
 * no wake but its own. Those that have answered stay a while to lead again: making a thread, its stack and the library's random
 * generator in it costs more than a small operation does. */
#define THREADS_KEPT 4
#define KEPT_S       20
#define REST_MS      100 /* after an accept that failed: no files left, perhaps */
#define OWN_USERS    2
#define NAME_SIZE    128 /* a longer name is no name */

struct control_server {
    struct node *node;
    int socket;
    uv_poll_t poll; /* until the first connection */
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path];
    struct {
        uid_t uid;
        char name[NAME_SIZE];
    } own[OWN_USERS];
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t wake;  /* nobody leads, or the server has closed */
    pthread_cond_t gone;  /* a thread has ended */
    bool closed;
    bool led;
    size_t calls;
    size_t threads;
    size_t idle; /* that wait to lead */
};

/* Looking a name up reads files or asks a server. Those of root and of the daemon's own user, who ask most, are read once. */
static bool user_name(const struct control_server *server, uid_t uid, char ret[NAME_SIZE])
{
    struct passwd entry;
    struct passwd *found = NULL;
    char space[4096];
    for (size_t i = 0; i < OWN_USERS; i++) {
        if (uid == server->own[i].uid && server->own[i].name[0]) {
            snprintf(ret, NAME_SIZE, "%s", server->own[i].name);
            return true;
        }
    }
    getpwuid_r(uid, &entry, space, sizeof space, &found);
    snprintf(ret, NAME_SIZE, "%s",
             found && strlen(found->pw_name) < NAME_SIZE ? found->pw_name : "");
    return ret[0];
}

/* Whom node.yaml names for this uid. Root and the daemon's own user are operators unless it says otherwise. */
static void who(const struct control_server *server, struct control_call *call)
{
    struct node *node = call->node;
    char name[NAME_SIZE];
    bool found = user_name(server, call->uid, name);
    pthread_mutex_lock(&node->config_lock);
    for (size_t i = 0; i < node->config.person_count; i++) {
        const struct config_person *person = &node->config.people[i];
        bool same = person->has_uid ? person->uid == call->uid
                                    : found && person->user && strcmp(person->user, name) == 0;
        if (same) {
            snprintf(call->person, sizeof call->person, "%s", person->id);
            call->roles = person->roles;
            pthread_mutex_unlock(&node->config_lock);
            return;
        }
    }
    pthread_mutex_unlock(&node->config_lock);
    if (call->uid == 0 || call->uid == geteuid()) {
        snprintf(call->person, sizeof call->person, "%s", found ? name : "operator");
        call->roles =
            PROTO_ROLE_OPERATOR | PROTO_ROLE_COORDINATOR | PROTO_ROLE_ANALYST | PROTO_ROLE_AUDITOR;
    }
}

static enum err read_request(int socket, struct buf *in, struct span *ret_body)
{
    for (;;) {
        struct proto_control_frame frame;
        size_t used;
        enum err err = proto_control_next(buf_span(in), &frame, &used, NULL);
        if (err != E_TRUNCATED) {
            *ret_body = frame.body;
            return err ? err : (frame.kind == PROTO_CONTROL_REQUEST ? E_OK : E_INVALID);
        }
        err = buf_reserve(in, 4096);
        if (err) {
            return err;
        }
        ssize_t got = recv(socket, in->ptr + in->len, in->cap - in->len, 0);
        if (got <= 0) {
            return got < 0 && errno == EINTR ? E_TRUNCATED : E_IO;
        }
        in->len += (size_t)got;
    }
}

static void write_all(int socket, struct span bytes)
{
    while (bytes.len) {
        ssize_t sent = send(socket, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            return;
        }
        if (sent > 0) {
            bytes.ptr += sent;
            bytes.len -= (size_t)sent;
        }
    }
}

static void answer(int socket, const char *json, int exit_code)
{
    struct buf frame = {.max = PROTO_CONTROL_MAX + PROTO_CONTROL_HEAD};
    struct proto_control_result result = {(uint64_t)exit_code, span_str(json ? json : "{}")};
    if (proto_control_encode_result(&result, &frame, NULL) != E_OK) {
        char *text = control_error_text(
            E_LIMIT, &(struct err_info){.text = "the answer is too long for one frame"}, NULL,
            NULL);
        result = (struct proto_control_result){(uint64_t)proto_err_exit(E_LIMIT),
                                               span_str(text ? text : "{}")};
        frame.len = 0;
        if (proto_control_encode_result(&result, &frame, NULL) != E_OK) {
            frame.len = 0;
        }
        free(text);
    }
    write_all(socket, buf_span(&frame));
    buf_fini(&frame);
}

static void serve(const struct control_server *server, struct control_call *call)
{
    struct ucred credentials;
    socklen_t size = sizeof credentials;
    struct buf in = {.max = PROTO_CONTROL_MAX + PROTO_CONTROL_HEAD};
    struct proto_control_request request;
    struct span body;
    struct err_info info = {0};
    char *json = NULL;
    int exit_code = 0;
    enum err err =
        getsockopt(call->socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) ? E_IO : E_OK;
    if (!err) {
        call->uid = credentials.uid;
        call->gid = credentials.gid;
        who(server, call);
        err = read_request(call->socket, &in, &body);
    }
    if (!err) {
        err = proto_control_decode_request(body, &call->arena, &request, &info);
    }
    if (err) {
        json = control_error_text(err, &info, NULL, NULL);
        exit_code = proto_err_exit(err);
    } else {
        call->request = &request;
        control_dispatch(call, &json, &exit_code);
    }
    answer(call->socket, json, exit_code);
    free(json);
    buf_fini(&in);
}

static void serve_one(struct control_server *server, int socket)
{
    struct control_call call = {.node = server->node, .socket = socket};
    struct timeval patience = {.tv_sec = 10};
    setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    serve(server, &call);
    close(socket);
    control_call_fini(&call);
}

static void refuse_one(int socket)
{
    char *text = control_error_text(E_BUSY, &(struct err_info){.text = "too many commands at once"},
                                    NULL, NULL);
    answer(socket, text, proto_err_exit(E_BUSY));
    free(text);
    close(socket);
}

static void *thread_main(void *arg);

/* Lock held. */
static bool start_thread(struct control_server *server)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    bool started = pthread_create(&thread, &attributes, thread_main, server) == 0;
    pthread_attr_destroy(&attributes);
    server->threads += started;
    return started;
}

/* Lock held. false: another one leads, and enough wait to follow it or none was needed for KEPT_S; or the server has closed. */
static bool wait_to_lead(struct control_server *server)
{
    struct timespec until;
    bool kept = server->idle < THREADS_KEPT;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += KEPT_S;
    server->idle += kept;
    for (int late = 0; kept && !late && server->led && !server->closed;) {
        late = pthread_cond_timedwait(&server->wake, &server->lock, &until);
    }
    server->idle -= kept;
    return !server->led && !server->closed;
}

/* -1: none this time. What waits when the server has closed is closed too. */
static int accept_one(struct control_server *server)
{
    for (;;) {
        int socket = accept4(server->socket, NULL, NULL, SOCK_CLOEXEC);
        int why = errno;
        pthread_mutex_lock(&server->lock);
        bool closed = server->closed;
        pthread_mutex_unlock(&server->lock);
        if (!closed && socket < 0 && why != EINTR && why != ECONNABORTED) {
            uv_sleep(REST_MS);
        }
        if (!closed || socket < 0) {
            return socket;
        }
        close(socket);
    }
}

/* Lock held, but not while waiting. -1: none this time. */
static int lead(struct control_server *server, bool *ret_room)
{
    server->led = true;
    pthread_mutex_unlock(&server->lock);
    int socket = accept_one(server);
    pthread_mutex_lock(&server->lock);
    server->led = false;
    if (socket >= 0) {
        *ret_room = server->calls < CONTROL_CALLS_MAX;
        server->calls += *ret_room;
        if (server->idle) {
            pthread_cond_signal(&server->wake);
        } else {
            (void)start_thread(server); /* else whoever has answered leads again */
        }
    }
    return socket;
}

static void *thread_main(void *arg)
{
    struct control_server *server = arg;
    pthread_mutex_lock(&server->lock);
    while (wait_to_lead(server)) {
        bool room;
        int socket = lead(server, &room);
        if (socket < 0) {
            continue;
        }
        pthread_mutex_unlock(&server->lock);
        if (room) {
            serve_one(server, socket);
        } else {
            refuse_one(socket);
        }
        pthread_mutex_lock(&server->lock);
        server->calls -= room;
    }
    server->threads--;
    pthread_cond_signal(&server->gone);
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

/* The first connection: from here on there is always a thread. Not before, since the loop runs when all else is ready. */
static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct control_server *server = poll->data;
    (void)events;
    (void)fcntl(server->socket, F_SETFL, 0); /* a thread may wait in accept */
    pthread_mutex_lock(&server->lock);
    bool started = status >= 0 && start_thread(server);
    pthread_mutex_unlock(&server->lock);
    if (started) {
        uv_poll_stop(poll);
    }
}

/* A socket file that nobody answers on is what a killed daemon left behind. */
static enum err remove_stale(const struct sockaddr_un *address, struct err_info *reterr)
{
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool alive =
        probe >= 0 && connect(probe, (const struct sockaddr *)address, sizeof *address) == 0;
    if (probe >= 0) {
        close(probe);
    }
    if (alive) {
        return proto_err_set(reterr, E_BUSY, "another daemon serves %s", address->sun_path);
    }
    unlink(address->sun_path);
    return E_OK;
}

static bool make_locks(struct control_server *server)
{
    pthread_condattr_t monotonic;
    if (pthread_condattr_init(&monotonic)) {
        return false;
    }
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    bool made = !pthread_mutex_init(&server->lock, NULL);
    if (made && pthread_cond_init(&server->wake, &monotonic)) {
        pthread_mutex_destroy(&server->lock);
        made = false;
    }
    if (made && pthread_cond_init(&server->gone, NULL)) {
        pthread_cond_destroy(&server->wake);
        pthread_mutex_destroy(&server->lock);
        made = false;
    }
    pthread_condattr_destroy(&monotonic);
    return made;
}

static void destroy(struct control_server *server)
{
    pthread_cond_destroy(&server->gone);
    pthread_cond_destroy(&server->wake);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

enum err control_server_open(struct node *node, struct control_server **ret,
                             struct err_info *reterr)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof address.sun_path, "%s/control.sock", node->home);
    if (n < 0 || (size_t)n >= sizeof address.sun_path) {
        return proto_err_set(reterr, E_INVALID,
                             "the home's path is too long for a socket (at most %zu bytes)",
                             sizeof address.sun_path - 15);
    }
    enum err err = remove_stale(&address, reterr);
    if (err) {
        return err;
    }
    struct control_server *server = calloc(1, sizeof *server);
    if (!server || !make_locks(server)) {
        free(server);
        return E_NO_MEMORY;
    }
    server->node = node;
    server->own[1].uid = geteuid();
    for (size_t i = 0; i < OWN_USERS; i++) {
        (void)user_name(server, server->own[i].uid, server->own[i].name);
    }
    snprintf(server->path, sizeof server->path, "%s", address.sun_path);
    server->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Others of the group may connect; what they may do is decided by people: in node.yaml. */
    if (server->socket < 0 ||
        bind(server->socket, (struct sockaddr *)&address, sizeof address) != 0 ||
        chmod(address.sun_path, 0660) != 0 || listen(server->socket, 64) != 0 ||
        uv_poll_init(node->loop, &server->poll, server->socket) != 0) {
        err = proto_err_set(reterr, E_IO, "%s: %s", address.sun_path, strerror(errno));
        close(server->socket);
        destroy(server);
        return err;
    }
    server->poll.data = server;
    uv_poll_start(&server->poll, UV_READABLE, on_readable);
    *ret = server;
    return E_OK;
}

void control_server_stop(struct control_server *server)
{
    if (!server) {
        return;
    }
    pthread_mutex_lock(&server->lock);
    bool open = !server->closed;
    server->closed = true;
    pthread_cond_broadcast(&server->wake);
    pthread_mutex_unlock(&server->lock);
    if (open) {
        uv_poll_stop(&server->poll);
        uv_close((uv_handle_t *)&server->poll, NULL);
        unlink(server->path);
        shutdown(server->socket, SHUT_RDWR); /* ends the accept */
    }
}

size_t control_server_calls(struct control_server *server)
{
    if (!server) {
        return 0;
    }
    pthread_mutex_lock(&server->lock);
    size_t calls = server->calls;
    pthread_mutex_unlock(&server->lock);
    return calls;
}

/* Idle threads end by themselves once it has closed. An operation that outlives the drain keeps the server's memory. */
void control_server_free(struct control_server *server)
{
    if (!server) {
        return;
    }
    pthread_mutex_lock(&server->lock);
    while (server->threads > server->calls) {
        pthread_cond_wait(&server->gone, &server->lock);
    }
    bool last = server->threads == 0;
    pthread_mutex_unlock(&server->lock);
    if (last) {
        close(server->socket);
        destroy(server);
    }
}
