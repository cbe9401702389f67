/* sandbox create, start, status, stop, remove: a federation of real nodes on this machine.
 * DIR/sandbox.json names the nodes; DIR/<name> are their homes. */
#include "config.h"
#include "node/cli/sandbox.h"

#include "node/cli/ask.h"
#include "node/cli/process.h"
#include "node/cli/provision.h"
#include "node/config/home.h"
#include "node/config/yaml.h"
#include "crypto/provider.h"
#include "proto/body.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SANDBOX_FILE     "sandbox.json"
#define SANDBOX_PARTS    "split.json"
#define SANDBOX_START_MS 60000u
#define SANDBOX_STOP_MS  30000u
#define SANDBOX_LISTEN   "tls+tcp://127.0.0.1:%u"

static const char *const greek[] = {"alpha", "beta",    "gamma",   "delta", "epsilon", "zeta",
                                    "eta",   "theta",   "iota",    "kappa", "lambda",  "mu",
                                    "nu",    "xi",      "omicron", "pi",    "rho",     "sigma",
                                    "tau",   "upsilon", "phi",     "chi",   "psi",     "omega"};
#define GREEK (sizeof greek / sizeof *greek)

/* --- the list of nodes ---------------------------------------------------------------------------- */

static enum err add_name(struct sandbox *box, struct span name, struct err_info *reterr)
{
    if (!proto_name_valid(name)) {
        return proto_err_set(reterr, E_USAGE,
                             "a node's name is [a-z0-9][a-z0-9-]{0,31}, not '%.*s'", (int)name.len,
                             (const char *)name.ptr);
    }
    for (size_t i = 0; i < box->count; i++) {
        if (span_is(name, box->names[i])) {
            return proto_err_set(reterr, E_USAGE, "'%s' is named twice", box->names[i]);
        }
    }
    if (box->count == SANDBOX_NODES_MAX) {
        return proto_err_set(reterr, E_USAGE, "a sandbox has at most %d nodes", SANDBOX_NODES_MAX);
    }
    (void)!span_to_cstr(name, box->names[box->count++], sizeof box->names[0]);
    return E_OK;
}

static enum err choose_names(const struct cli_call *call, struct sandbox *box,
                             struct err_info *reterr)
{
    const char *names = cli_text(call, "--names");
    double count = cli_number(call, "--nodes", 3);
    enum err err = E_OK;
    if (names && cli_text(call, "--nodes")) {
        return proto_err_set(reterr, E_USAGE, "give --nodes or --names, not both");
    }
    if (count < 1 || count > SANDBOX_NODES_MAX || count != (double)(size_t)count) {
        return proto_err_set(reterr, E_USAGE, "--nodes takes a whole number from 1 to %d",
                             SANDBOX_NODES_MAX);
    }
    for (; !err && names && *names;) {
        size_t len = strcspn(names, ",");
        err = add_name(box, span_of(names, len), reterr);
        names += len + (names[len] == ',');
    }
    for (size_t i = 0; !err && box->count < (size_t)count && !cli_text(call, "--names"); i++) {
        char name[33];
        snprintf(name, sizeof name, i < GREEK ? "%s" : "%s%zu", greek[i % GREEK], i / GREEK + 1);
        err = add_name(box, span_str(name), reterr);
    }
    return err;
}

enum err sandbox_home(const struct sandbox *box, size_t i, char to[HOME_PATH_MAX],
                      struct err_info *reterr)
{
    return config_home_path(box->dir, box->names[i], to)
               ? E_OK
               : proto_err_set(reterr, E_INVALID, "the sandbox's path is too long");
}

enum err sandbox_part(const struct sandbox *box, size_t i, char to[HOME_PATH_MAX],
                      struct err_info *reterr)
{
    int n = snprintf(to, HOME_PATH_MAX, "%s/%s.csv", box->dir, box->names[i]);
    return n > 0 && n < HOME_PATH_MAX ? E_OK : proto_err_set(reterr, E_INVALID, "too long a path");
}

enum err sandbox_open(const char *dir, struct sandbox *ret, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    *ret = (struct sandbox){.dir = dir};
    json_t *file = config_home_path(dir, SANDBOX_FILE, path) ? json_load_file(path, 0, NULL) : NULL;
    const json_t *nodes = json_object_get(file, "nodes");
    enum err err = E_OK;
    if (json_array_size(nodes) == 0) {
        err =
            proto_err_set(reterr, E_NOT_FOUND,
                          "%s is not a sandbox; `concordat sandbox create %s` makes one", dir, dir);
    }
    for (size_t i = 0; !err && i < json_array_size(nodes); i++) {
        const char *name = json_string_value(json_array_get(nodes, i));
        err = add_name(ret, span_str(name ? name : ""), reterr);
    }
    json_decref(file);
    return err;
}

static enum err save(const struct sandbox *box, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    json_t *nodes = json_array();
    for (size_t i = 0; i < box->count; i++) {
        json_array_append_new(nodes, json_string(box->names[i]));
    }
    json_t *file = json_pack("{s:s, s:o}", "founder", box->names[0], "nodes", nodes);
    bool ok = file && config_home_path(box->dir, SANDBOX_FILE, path) &&
              json_dump_file(file, path, JSON_INDENT(1)) == 0;
    json_decref(file);
    return ok ? E_OK
              : proto_err_set(reterr, E_IO, "%s/" SANDBOX_FILE " cannot be written", box->dir);
}

/* --- what split has written ----------------------------------------------------------------------- */

/* What tells a file from one that was put or changed there later; NULL: there is none. */
static json_t *file_view(const char *path)
{
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode)) {
        return NULL;
    }
    return json_pack("{s:I, s:I, s:I, s:I}", "inode", (json_int_t)st.st_ino, "bytes",
                     (json_int_t)st.st_size, "changed_s", (json_int_t)st.st_mtim.tv_sec,
                     "changed_ns", (json_int_t)st.st_mtim.tv_nsec);
}

enum err sandbox_parts_note(const struct sandbox *box, size_t count, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    json_t *parts = json_object();
    for (size_t i = 0; i < count; i++) {
        json_t *view = sandbox_part(box, i, path, NULL) ? NULL : file_view(path);
        if (view) {
            json_object_set_new(parts, box->names[i], view);
        }
    }
    bool ok = parts && config_home_path(box->dir, SANDBOX_PARTS, path) &&
              json_dump_file(parts, path, JSON_INDENT(1)) == 0;
    json_decref(parts);
    return ok ? E_OK
              : proto_err_set(reterr, E_IO, "%s/" SANDBOX_PARTS " cannot be written", box->dir);
}

/* What split.json tells; NULL: split has written nothing yet. */
static json_t *parts_load(const struct sandbox *box)
{
    char path[HOME_PATH_MAX];
    return config_home_path(box->dir, SANDBOX_PARTS, path) ? json_load_file(path, 0, NULL) : NULL;
}

/* Whether the file at PATH is the one that split has written for node I. */
static bool part_is_ours(const struct sandbox *box, const json_t *parts, size_t i, const char *path)
{
    json_t *now = file_view(path);
    bool ours = now && json_equal(now, json_object_get(parts, box->names[i]));
    json_decref(now);
    return ours;
}

enum err sandbox_parts_free(const struct sandbox *box, struct err_info *reterr)
{
    json_t *parts = parts_load(box);
    enum err err = E_OK;
    for (size_t i = 0; !err && i < box->count; i++) {
        char path[HOME_PATH_MAX];
        struct stat st;
        err = sandbox_part(box, i, path, reterr);
        if (!err && lstat(path, &st) == 0 && !part_is_ours(box, parts, i, path)) {
            err =
                proto_err_set(reterr, E_EXISTS,
                              "%s is there already, and not as split wrote it; move it away", path);
        }
    }
    json_decref(parts);
    return err;
}

/* --- create --------------------------------------------------------------------------------------- */

struct creation {
    struct sandbox *box;
    struct cli_provision_node nodes[SANDBOX_NODES_MAX];
    char homes[SANDBOX_NODES_MAX][HOME_PATH_MAX];
    int holds[SANDBOX_NODES_MAX][2];
    size_t held;
    struct cli_provision_federation federation;
};

static enum err check_empty(const char *dir, struct err_info *reterr)
{
    DIR *folder = opendir(dir);
    size_t count = 0;
    if (!folder) {
        return mkdir(dir, 0700) == 0 ? E_OK
                                     : proto_err_set(reterr, E_IO, "%s: %s", dir, strerror(errno));
    }
    while (count < 3 && readdir(folder)) {
        count++;
    }
    closedir(folder);
    return count > 2 ? proto_err_set(reterr, E_EXISTS, "%s is there already and not empty", dir)
                     : E_OK;
}

static enum err make_keys(struct creation *c, size_t i, bool passphrase, struct err_info *reterr)
{
    struct cli_provision_node *node = &c->nodes[i];
    uint16_t port = 0;
    enum err err = sandbox_home(c->box, i, c->homes[i], reterr);
    if (!err) {
        err = cli_provision_port(&port, c->holds[i], reterr);
    }
    if (err) {
        return err;
    }
    c->held = i + 1;
    node->home = c->homes[i];
    node->passphrase = getenv("CONCORDAT_PASSPHRASE");
    config_node_defaults(&node->config);
    snprintf(node->config.node, sizeof node->config.node, "%s", c->box->names[i]);
    snprintf(node->config.org, sizeof node->config.org, "%s", c->box->names[i]);
    snprintf(node->config.org_type, sizeof node->config.org_type, "nonprofit");
    snprintf(node->config.country, sizeof node->config.country, "DE");
    snprintf(node->config.federation, sizeof node->config.federation, "sandbox");
    snprintf(node->config.listen, sizeof node->config.listen, SANDBOX_LISTEN, port);
    snprintf(node->config.advertise, sizeof node->config.advertise, "%s", node->config.listen);
    snprintf(node->config.unlock, sizeof node->config.unlock, "%s",
             passphrase ? "passphrase" : CLI_UNLOCK_DEFAULT);
    node->config.has_commercial = true; /* a sandbox is nobody's business */
    return cli_provision_keys(node, reterr);
}

static enum err make_all(struct creation *c, bool passphrase, struct err_info *reterr)
{
    int64_t now = (int64_t)time(NULL);
    enum err err = crypto_init(reterr);
    for (size_t i = 0; !err && i < c->box->count; i++) {
        err = make_keys(c, i, passphrase, reterr);
    }
    if (!err) {
        err = cli_provision_found(&c->federation, "sandbox", &c->nodes[0], now, reterr);
    }
    for (size_t i = 0; !err && i < c->box->count; i++) {
        err = cli_provision_admit(&c->federation, &c->nodes[i], now, reterr);
    }
    for (size_t i = 0; !err && i < c->box->count; i++) {
        err = cli_provision_write(&c->nodes[i], buf_span(&c->federation.root_der),
                                  buf_span(&c->federation.charter),
                                  buf_span(&c->federation.records), reterr);
    }
    return err ? err : save(c->box, reterr);
}

enum err cli_sandbox_create(struct cli_call *call, json_t **ret, int *ret_exit,
                            struct err_info *reterr)
{
    (void)ret_exit;
    struct sandbox box = {.dir = cli_text(call, "DIR")};
    struct creation *c = proto_alloc(1, sizeof *c);
    enum err err = c ? choose_names(call, &box, reterr) : E_NO_MEMORY;
    if (!err) {
        err = check_empty(box.dir, reterr);
    }
    if (!err) {
        c->box = &box;
        err = make_all(c, cli_text(call, "--passphrase") != NULL, reterr);
        *ret = err ? NULL : json_array();
        for (size_t i = 0; !err && i < box.count; i++) {
            json_array_append_new(*ret,
                                  json_pack("{s:s, s:s, s:s}", "node", box.names[i], "home",
                                            c->homes[i], "listen", c->nodes[i].config.listen));
        }
        for (size_t i = 0; i < box.count; i++) {
            cli_provision_node_fini(&c->nodes[i]);
        }
        for (size_t i = 0; i < c->held; i++) {
            close(c->holds[i][0]);
            close(c->holds[i][1]);
        }
        cli_provision_federation_fini(&c->federation);
    }
    proto_free(c);
    return err;
}

/* --- status --------------------------------------------------------------------------------------- */

static void listen_of(const char *home, char to[256])
{
    char path[HOME_PATH_MAX];
    struct config_node config = {0};
    to[0] = 0;
    if (config_home_path(home, HOME_CONFIG, path) && !config_yaml_node(path, &config, NULL)) {
        snprintf(to, 256, "%s", config.listen);
    }
    config_node_fini(&config);
}

static bool sees_all(const json_t *status, size_t members)
{
    const json_t *peers = json_object_get(status, "peers");
    size_t seen = 0;
    for (size_t i = 0; i < json_array_size(peers); i++) {
        const char *state = json_string_value(json_object_get(json_array_get(peers, i), "state"));
        state = state ? state : "";
        seen +=
            strcmp(state, "up") == 0 || strcmp(state, "self") == 0 || strcmp(state, "revoked") == 0;
    }
    return seen >= members && seen == json_array_size(peers);
}

/* "down", "starting" or "up": serving. *ret_meshed: it also sees everybody. */
static const char *state_of(const struct sandbox *box, const char *home, bool *ret_meshed)
{
    json_t *status = NULL;
    int exit_code = 0;
    *ret_meshed = false;
    if (cli_process_find(home) == 0) {
        return "down";
    }
    enum err err = cli_ask_simple(home, PROTO_OP_STATUS, NULL, NULL, &status, &exit_code, NULL);
    const char *said = json_string_value(json_object_get(status, "state"));
    bool serving = !err && exit_code == 0 && said && strcmp(said, "serving") == 0;
    *ret_meshed = serving && sees_all(status, box->count);
    json_decref(status);
    return serving ? "up" : "starting";
}

static json_t *status_view(const struct sandbox *box)
{
    json_t *view = json_array();
    for (size_t i = 0; i < box->count; i++) {
        char home[HOME_PATH_MAX];
        char listen[256];
        bool meshed;
        if (sandbox_home(box, i, home, NULL)) {
            continue;
        }
        listen_of(home, listen);
        pid_t pid = cli_process_find(home);
        json_array_append_new(view,
                              json_pack("{s:s, s:o, s:s, s:s, s:s}", "node", box->names[i], "pid",
                                        pid ? json_integer(pid) : json_null(), "home", home,
                                        "listen", listen, "state", state_of(box, home, &meshed)));
    }
    return view;
}

enum err cli_sandbox_status(struct cli_call *call, json_t **ret, int *ret_exit,
                            struct err_info *reterr)
{
    (void)ret_exit;
    struct sandbox box;
    enum err err = sandbox_open(cli_text(call, "DIR"), &box, reterr);
    if (!err) {
        *ret = status_view(&box);
    }
    return err;
}

/* --- start and stop ------------------------------------------------------------------------------- */

static uint64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static enum err start_all(const struct sandbox *box, pid_t *pids, struct err_info *reterr)
{
    enum err err = E_OK;
    for (size_t i = 0; !err && i < box->count; i++) {
        char home[HOME_PATH_MAX];
        err = sandbox_home(box, i, home, reterr);
        if (!err && cli_process_find(home) == 0) {
            err = cli_process_start(home, &pids[i], reterr);
        }
    }
    return err;
}

/* Until each node serves and sees all; a daemon that ends at once is told with its last words. */
static enum err wait_mesh(const struct sandbox *box, const pid_t *pids, uint64_t timeout_ms,
                          struct err_info *reterr)
{
    bool done[SANDBOX_NODES_MAX] = {false};
    uint64_t deadline = monotonic_ms() + timeout_ms;
    size_t left = box->count;
    for (size_t i = 0; left > 0; i = (i + 1) % box->count) {
        char home[HOME_PATH_MAX];
        char words[256];
        bool meshed = false;
        enum err err = done[i] ? E_OK : sandbox_home(box, i, home, reterr);
        if (err) {
            return err;
        }
        if (!done[i] && pids[i] && cli_process_ended(pids[i])) {
            cli_process_last_words(home, words, sizeof words);
            return proto_err_set(reterr, E_UNREACHABLE, "%s ended at once: %s", box->names[i],
                                 *words ? words : "without a word");
        }
        if (!done[i]) {
            state_of(box, home, &meshed);
            done[i] = meshed;
            left -= meshed;
        }
        if (left > 0 && monotonic_ms() > deadline) {
            return proto_err_set(reterr, E_UNREACHABLE,
                                 "%zu of %zu nodes are not meshed after %llu s, among them %s; see "
                                 "log/concordatd.log in the homes",
                                 left, box->count, (unsigned long long)(timeout_ms / 1000),
                                 box->names[i]);
        }
        if (left > 0 && i + 1 == box->count) {
            cli_process_sleep_ms(100);
        }
    }
    return E_OK;
}

enum err cli_sandbox_start(struct cli_call *call, json_t **ret, int *ret_exit,
                           struct err_info *reterr)
{
    (void)ret_exit;
    struct sandbox box;
    pid_t pids[SANDBOX_NODES_MAX] = {0};
    uint64_t timeout_ms = SANDBOX_START_MS;
    const char *timeout = cli_text(call, "--timeout");
    if (timeout && !proto_duration_parse(span_str(timeout), &timeout_ms)) {
        return E_USAGE; /* the table has checked it */
    }
    enum err err = sandbox_open(cli_text(call, "DIR"), &box, reterr);
    if (!err) {
        err = start_all(&box, pids, reterr);
    }
    if (!err) {
        err = wait_mesh(&box, pids, timeout_ms, reterr);
    }
    if (!err) {
        *ret = status_view(&box);
    }
    return err;
}

static enum err kill_one(const struct sandbox *box, const char *name, struct err_info *reterr)
{
    for (size_t i = 0; i < box->count; i++) {
        char home[HOME_PATH_MAX];
        if (strcmp(box->names[i], name) == 0) {
            enum err err = sandbox_home(box, i, home, reterr);
            return err ? err : cli_process_end(home, SIGKILL, 5000, reterr);
        }
    }
    return proto_err_set(reterr, E_NOT_FOUND, "the sandbox has no node '%s'", name);
}

/* All get the signal before any is waited for. */
static enum err stop_all(const struct sandbox *box, struct err_info *reterr)
{
    char home[HOME_PATH_MAX];
    enum err err = E_OK;
    for (size_t i = 0; i < box->count; i++) {
        pid_t pid = sandbox_home(box, i, home, NULL) ? 0 : cli_process_find(home);
        if (pid > 0) {
            (void)kill(pid, SIGTERM);
        }
    }
    for (size_t i = 0; !err && i < box->count; i++) {
        err = sandbox_home(box, i, home, reterr);
        err = err ? err : cli_process_end(home, 0, SANDBOX_STOP_MS, reterr);
    }
    return err;
}

enum err cli_sandbox_stop(struct cli_call *call, json_t **ret, int *ret_exit,
                          struct err_info *reterr)
{
    (void)ret_exit;
    struct sandbox box;
    const char *name = cli_text(call, "--kill");
    enum err err = sandbox_open(cli_text(call, "DIR"), &box, reterr);
    if (!err) {
        err = name ? kill_one(&box, name, reterr) : stop_all(&box, reterr);
    }
    if (!err) {
        *ret = status_view(&box);
    }
    return err;
}

/* --- remove --------------------------------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

/* A home and the plain rows that were split off for it, which PARTS tells of. */
static enum err remove_node(const struct sandbox *box, const json_t *parts, size_t i,
                            struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    enum err err = sandbox_home(box, i, path, reterr);
    /* Physical: a link in a home is removed, never followed. */
    if (!err && nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        err = proto_err_set(reterr, E_IO, "%s: %s", path, strerror(errno));
    }
    err = err ? err : sandbox_part(box, i, path, reterr);
    if (!err && part_is_ours(box, parts, i, path) && unlink(path) != 0 && errno != ENOENT) {
        err = proto_err_set(reterr, E_IO, "%s: %s", path, strerror(errno));
    }
    return err;
}

static enum err remove_all(const struct sandbox *box, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    json_t *parts = parts_load(box);
    enum err err = E_OK;
    for (size_t i = 0; !err && i < box->count; i++) {
        err = remove_node(box, parts, i, reterr);
    }
    if (!err && parts && config_home_path(box->dir, SANDBOX_PARTS, path)) {
        unlink(path);
    }
    json_decref(parts);
    return err;
}

enum err cli_sandbox_remove(struct cli_call *call, json_t **ret, int *ret_exit,
                            struct err_info *reterr)
{
    (void)ret_exit;
    struct sandbox box;
    char path[HOME_PATH_MAX];
    enum err err = sandbox_open(cli_text(call, "DIR"), &box, reterr);
    for (size_t i = 0; !err && i < box.count; i++) {
        err = sandbox_home(&box, i, path, reterr);
        if (!err && cli_process_find(path) > 0) {
            err = proto_err_set(reterr, E_BUSY, "%s still runs; `concordat sandbox stop %s` first",
                                box.names[i], box.dir);
        }
    }
    err = err ? err : remove_all(&box, reterr);
    if (!err && config_home_path(box.dir, SANDBOX_FILE, path)) {
        unlink(path);
        if (rmdir(box.dir) != 0) {
            fprintf(stderr, "%s stays, for the other files in it\n", box.dir);
        }
        *ret = json_pack("{s:s}", "removed", box.dir);
    }
    return err;
}
