/* One request: who asks (anybody, or who has the token), from where (Host, Origin), and then by path. All answers are made whole in memory;
 * none is longer than what an operation of the command line may answer. Only predict.h takes a body, and only from who may ask. */
#include "config.h"
#include "node/console/console.h"

#include "crypto/memory.h"
#include "node/config/home.h"
#include "node/console/api.h"
#include "node/console/library.h"
#include "node/console/metrics.h"
#include "node/console/page.h"
#include "node/console/predict.h"
#include "node/console/token.h"
#include "node/model/inputs.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METRICS_MAX ((size_t)4 << 20)
#define POOL        4

struct console {
    struct node *node;
    const struct console_library *http;
    struct MHD_Daemon *daemon;
    char host[64]; /* of the address that node.yaml names, as it stands in Host */
    uint16_t port;
    char token[CONSOLE_TOKEN_SIZE + 1];
    struct console_predict *predict; /* NULL: off */
};

/* --- answers --------------------------------------------------------------------------------------------------------- */

struct answer {
    unsigned status;
    const char *type;
    void *bytes;
    size_t len;
    bool ours; /* BYTES is for free(); else it is constant */
};

static struct answer text_answer(unsigned status, const char *text)
{
    return (struct answer){.status = status,
                           .type = "text/plain; charset=utf-8",
                           .bytes = (void *)(uintptr_t)text,
                           .len = strlen(text)};
}

/* Nothing is kept by the browser, framed by another page, or loaded from elsewhere. */
static const char *const headers[][2] = {
    {"Cache-Control", "no-store"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
};

static enum MHD_Result send_answer(const struct console *console, struct MHD_Connection *connection,
                                   struct answer answer)
{
    const struct console_library *http = console->http;
    struct MHD_Response *response = http->response_from_buffer(
        answer.len, answer.bytes, answer.ours ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!response) {
        if (answer.ours) {
            free(answer.bytes);
        }
        return MHD_NO;
    }
    http->add_header(response, "Content-Type", answer.type);
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        http->add_header(response, headers[i][0], headers[i][1]);
    }
    if (answer.status == 401) {
        http->add_header(response, "WWW-Authenticate", "Bearer realm=\"concordat\"");
    }
    if (answer.status == 405) {
        http->add_header(response, "Allow", "GET, HEAD");
    }
    if (answer.status == 429 || answer.status == 503) {
        http->add_header(response, "Retry-After", "1");
    }
    enum MHD_Result queued = http->queue_response(connection, answer.status, response);
    http->destroy_response(response);
    return queued;
}

/* --- who asks, from where ---------------------------------------------------------------------------------------------- */

/* "HOST[:PORT]" is ours: the address that we listen on, or the name that this machine gives itself. */
static bool host_is_ours(const struct console *console, const char *host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    char own[96];
    for (size_t i = 0; host && i < sizeof names / sizeof *names; i++) {
        snprintf(own, sizeof own, "%s:%u", names[i], (unsigned)console->port);
        if (strcmp(host, own) == 0) {
            return true;
        }
    }
    snprintf(own, sizeof own, "%s:%u", console->host, (unsigned)console->port);
    return host && strcmp(host, own) == 0;
}

static bool origin_is_ours(const struct console *console, const char *origin)
{
    static const char scheme[] = "http://";
    return !origin || (strncmp(origin, scheme, sizeof scheme - 1) == 0 &&
                       host_is_ours(console, origin + sizeof scheme - 1));
}

static bool has_token(const struct console *console, struct MHD_Connection *connection)
{
    return console_token_shown(console->token,
                               console->http->lookup(connection, MHD_HEADER_KIND, "Authorization"));
}

/* --- paths --------------------------------------------------------------------------------------------------------------- */

static struct answer metrics(const struct console *console)
{
    struct buf out = {.max = METRICS_MAX};
    enum err err = console_metrics(console->node, &out, NULL);
    void *copy = err ? NULL : malloc(out.len);
    if (copy) {
        memcpy(copy, out.ptr, out.len);
    }
    struct answer answer = copy ? (struct answer){200, CONSOLE_METRICS_TYPE, copy, out.len, true}
                                : text_answer(500, "the metrics cannot be made\n");
    buf_fini(&out);
    return answer;
}

struct arguments {
    struct console_argument items[CONSOLE_ARGUMENTS_MAX];
    size_t count;
    bool many;
};

static enum MHD_Result take_argument(void *user, enum MHD_ValueKind kind, const char *name,
                                     const char *value)
{
    struct arguments *arguments = user;
    (void)kind;
    if (arguments->count == CONSOLE_ARGUMENTS_MAX) {
        arguments->many = true;
        return MHD_NO;
    }
    arguments->items[arguments->count++] = (struct console_argument){name, value};
    return MHD_YES;
}

static struct answer api(const struct console *console, struct MHD_Connection *connection,
                         const char *path)
{
    struct arguments arguments = {.count = 0};
    char *json = NULL;
    console->http->each_value(connection, MHD_GET_ARGUMENT_KIND, take_argument, &arguments);
    if (arguments.many) {
        return text_answer(400, "too many arguments\n");
    }
    unsigned status = console_api(console->node, path, arguments.items, arguments.count, &json);
    return json ? (struct answer){status, "application/json", json, strlen(json), true}
                : text_answer(500, "out of memory\n");
}

static struct answer page(const char *name, const char *type, unsigned status)
{
    for (size_t i = 0; i < console_page_count; i++) {
        if (strcmp(console_pages[i].name, name) == 0) {
            return (struct answer){status, type, (void *)(uintptr_t)console_pages[i].bytes,
                                   console_pages[i].len, false};
        }
    }
    return text_answer(404, "no such page\n");
}

/* What needs no token: it carries nothing of the data and nothing that was asked. */
static bool open_path(const struct console *console, const char *path, struct answer *ret)
{
    const struct node *node = console->node;
    if (strcmp(path, "/healthz") == 0) {
        *ret = text_answer(200, "ok\n");
    } else if (strcmp(path, "/readyz") == 0) {
        *ret = node->ready && !node->stopping ? text_answer(200, "ready\n")
                                              : text_answer(503, "not ready\n");
    } else if (strcmp(path, "/metrics") == 0) {
        *ret = metrics(console);
    } else if (strcmp(path, "/console.js") == 0) {
        *ret = page("console.js", "text/javascript; charset=utf-8", 200);
    } else if (strcmp(path, "/console.css") == 0) {
        *ret = page("console.css", "text/css; charset=utf-8", 200);
    } else {
        return false;
    }
    return true;
}

static struct answer answer_to(const struct console *console, struct MHD_Connection *connection,
                               const char *path)
{
    static const char prefix[] = "/api/v1/";
    struct answer answer;
    if (open_path(console, path, &answer)) {
        return answer;
    }
    bool known = has_token(console, connection);
    if (strcmp(path, "/") == 0) { /* without the token: the page that asks for it */
        return page(known ? "index.html" : "login.html", "text/html; charset=utf-8",
                    known ? 200 : 401);
    }
    if (!known) {
        return text_answer(401, "the token of HOME/console.token is needed: "
                                "Authorization: Bearer TOKEN\n");
    }
    return strncmp(path, prefix, sizeof prefix - 1) == 0
               ? api(console, connection, path + sizeof prefix - 1)
               : text_answer(404, "no such path\n");
}

/* --- the inference service ------------------------------------------------------------------------------------------------- */

static const char predict_path[] = "/api/v1/model/predict/";

/* A request's body while it arrives; belongs to the connection until on_completed. */
struct upload {
    struct buf body;
    bool too_long;
};

static void on_completed(void *user, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode why)
{
    struct upload *upload = *state;
    (void)user, (void)connection, (void)why;
    if (upload) {
        if (upload->body.ptr) {
            crypto_wipe(upload->body.ptr, upload->body.cap);
        }
        buf_fini(&upload->body);
        proto_free(upload);
        *state = NULL;
    }
}

static struct answer too_long(void)
{
    return text_answer(413, "the texts are too long: send fewer at a time\n");
}

/* What is wrong with a request by its head alone, before a byte of its body is kept; status 0: nothing. */
static struct answer head_of_predict(const struct console *console,
                                     struct MHD_Connection *connection)
{
    const struct console_library *http = console->http;
    const char *type = http->lookup(connection, MHD_HEADER_KIND, "Content-Type"),
               *length = http->lookup(connection, MHD_HEADER_KIND, "Content-Length");
    static const char json[] = "application/json";
    if (!console->predict) {
        return text_answer(403, "the inference service is off: console: {predict: true} in "
                                "node.yaml turns it on\n");
    }
    if (!console_predict_token(console->predict,
                               http->lookup(connection, MHD_HEADER_KIND, "Authorization"))) {
        return text_answer(401, "the token of HOME/predict.token is needed: "
                                "Authorization: Bearer TOKEN\n");
    }
    if (!type || strncmp(type, json, sizeof json - 1) != 0) {
        return text_answer(415, "Content-Type: application/json is wanted\n");
    }
    if (length && strtoull(length, NULL, 10) > MODEL_INPUTS_BYTES_MAX) {
        return too_long();
    }
    return (struct answer){0};
}

static struct answer predict(const struct console *console, const char *path,
                             const struct upload *upload)
{
    char *json = NULL;
    if (upload->too_long) {
        return too_long();
    }
    unsigned status = console_predict_answer(console->predict, path + sizeof predict_path - 1,
                                             buf_span(&upload->body), &json);
    return json ? (struct answer){status, "application/json", json, strlen(json), true}
                : text_answer(500, "out of memory\n");
}

/* Called first with the head, then with pieces of the body, then once more. */
static enum MHD_Result on_predict(const struct console *console, struct MHD_Connection *connection,
                                  const char *path, const char *bytes, size_t *size, void **state)
{
    struct upload *upload = *state;
    if (!upload) {
        struct answer refused = head_of_predict(console, connection);
        if (refused.status) {
            return send_answer(console, connection, refused);
        }
        upload = proto_alloc(1, sizeof *upload);
        if (!upload) {
            return MHD_NO;
        }
        upload->body.max = MODEL_INPUTS_BYTES_MAX;
        console->http->set_option(connection, MHD_CONNECTION_OPTION_TIMEOUT,
                                  (unsigned)(CONSOLE_TIMEOUT_S + CONTROL_PREDICT_S));
        *state = upload;
        return MHD_YES;
    }
    if (*size) {
        upload->too_long =
            upload->too_long || buf_put(&upload->body, span_of(bytes, *size)) != E_OK;
        *size = 0;
        return MHD_YES;
    }
    return send_answer(console, connection, predict(console, path, upload));
}

/* --- requests ---------------------------------------------------------------------------------------------------------------- */

static bool is_ours(const struct console *console, struct MHD_Connection *connection)
{
    const struct console_library *http = console->http;
    return host_is_ours(console, http->lookup(connection, MHD_HEADER_KIND, "Host")) &&
           origin_is_ours(console, http->lookup(connection, MHD_HEADER_KIND, "Origin"));
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    const struct console *console = user;
    (void)version;
    if (strcmp(method, "POST") == 0 && is_ours(console, connection) &&
        strncmp(path, predict_path, sizeof predict_path - 1) == 0) {
        return on_predict(console, connection, path, upload, upload_size, state);
    }
    if (*upload_size) { /* nothing else that we answer has a body */
        *upload_size = 0;
        return MHD_YES;
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        return send_answer(console, connection, text_answer(405, "the console only reads\n"));
    }
    if (!is_ours(console, connection)) {
        return send_answer(console, connection,
                           text_answer(403, "this console is asked by another name or page\n"));
    }
    return send_answer(console, connection, answer_to(console, connection, path));
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */

/* "ADDRESS:PORT", ADDRESS numeric and of this machine alone. */
static enum err parse_listen(struct console *console, const char *listen,
                             struct sockaddr_storage *ret, struct err_info *reterr)
{
    const char *colon = strrchr(listen, ':');
    size_t len = colon ? (size_t)(colon - listen) : 0;
    char *end = NULL;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!len || len >= sizeof console->host || end == colon + 1 || *end || port > 65535) {
        return proto_err_set(reterr, E_INVALID, "console.listen: ADDRESS:PORT is wanted");
    }
    memcpy(console->host, listen, len);
    console->port = (uint16_t)port;
    struct sockaddr_in *four = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret;
    *ret = (struct sockaddr_storage){.ss_family = AF_INET};
    if (inet_pton(AF_INET, console->host, &four->sin_addr) == 1 &&
        ntohl(four->sin_addr.s_addr) >> 24 == 127) {
        four->sin_port = htons(console->port);
        return E_OK;
    }
    if (strcmp(console->host, "[::1]") == 0) {
        *six = (struct sockaddr_in6){.sin6_family = AF_INET6,
                                     .sin6_port = htons(console->port),
                                     .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        return E_OK;
    }
    return proto_err_set(reterr, E_UNSUPPORTED,
                         "console.listen: only addresses of this machine (127.0.0.1, [::1]), as "
                         "HTTP is not encrypted; put a reverse proxy with TLS before it");
}

static enum err listen_on(struct console *console, const struct sockaddr_storage *address,
                          struct err_info *reterr)
{
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL |
                     (address->ss_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    console->daemon = console->http->start_daemon(
        flags, console->port, NULL, NULL, on_request, console, MHD_OPTION_SOCK_ADDR, address,
        MHD_OPTION_THREAD_POOL_SIZE, (unsigned)POOL, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)CONSOLE_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CONSOLE_TIMEOUT_S,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, console, MHD_OPTION_END);
    if (!console->daemon) {
        return proto_err_set(reterr, E_IO, "console: cannot listen on %s:%u", console->host,
                             (unsigned)console->port);
    }
    if (console->port == 0) { /* any free one */
        const union MHD_DaemonInfo *info =
            console->http->get_daemon_info(console->daemon, MHD_DAEMON_INFO_BIND_PORT);
        console->port = info ? info->port : 0;
    }
    return E_OK;
}

enum err console_open(struct node *node, struct console **ret, struct err_info *reterr)
{
    struct sockaddr_storage address;
    if (!node->config.console[0]) {
        *ret = NULL;
        return E_OK;
    }
    struct console *console = proto_alloc(1, sizeof *console);
    if (!console) {
        return E_NO_MEMORY;
    }
    console->node = node;
    enum err err = parse_listen(console, node->config.console, &address, reterr);
    err = err ? err : console_library_load(&console->http, reterr);
    err = err ? err : console_token_make(node->home, HOME_CONSOLE_TOKEN, console->token, reterr);
    err = err ? err : console_predict_open(node, &console->predict, reterr);
    err = err ? err : listen_on(console, &address, reterr);
    if (err) {
        console_close(console);
        return err;
    }
    char text[160];
    snprintf(text, sizeof text, "http://%s:%u/ with the token of HOME/" HOME_CONSOLE_TOKEN,
             console->host, (unsigned)console->port);
    node->query.log(node->query.user, PEER_LOG_INFO, "console", text);
    *ret = console;
    return E_OK;
}

void console_close(struct console *console)
{
    if (!console) {
        return;
    }
    if (console->daemon) {
        console->http->stop_daemon(console->daemon);
    }
    console_predict_close(console->predict);
    crypto_wipe(console->token, sizeof console->token);
    proto_free(console);
}
