/* concordatd: one node of a federation. Wiring and life cycle only. */
#include "config.h"

#include "node/config/home.h"
#include "node/control/dispatch.h"
#include "node/console/console.h"
#include "node/control/server.h"
#include "node/daemon/log.h"
#include "node/daemon/start.h"
#include "node/peer/council.h"
#include "node/query/site.h"
#include "node/train/confine.h"
#include "store/egress.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define DRAIN_MS      10000
#define CONFIRM_S     1  /* until the node serves */
#define WITNESS_S     60 /* afterwards: have our head countersigned */
#define EXIT_WATCHDOG 75 /* closing hung: leave rather than stay half alive */

struct daemon {
    struct node node;
    uv_loop_t loop;
    struct control_server *control;
    struct console *console;
    uv_signal_t terminate, interrupt, reload;
    uv_timer_t second;
    uv_timer_t drain;
    uint64_t seconds;
    _Atomic bool confirming;
    bool peer_done;
    int exit_code;
};

/* sd_notify: one datagram to $NOTIFY_SOCKET. */
static void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;
    if (len < 2 || len >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    memcpy(address.sun_path, path, len);
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
        close(fd);
    }
}

static void close_handle(uv_handle_t *handle, void *user)
{
    (void)user;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void begin_stop(struct daemon *daemon);

/* Once when it goes wrong and once when it is right again. */
static void warn_of_clock(struct node *node)
{
    static bool was_off;
    struct err_info info = {0};
    bool off = query_clock_check(node->peer, &info) != E_OK;
    if (off && !was_off) {
        daemon_log(DAEMON_ERROR, "clock.off", "%s; until then nothing that depends on time is done",
                   info.text);
        node->query.notify(node->query.user, "clock.off", node->config.node);
    } else if (!off && was_off) {
        daemon_log(DAEMON_INFO, "clock.right", "the clock agrees with the others again");
    }
    was_off = off;
}

/* On a thread of its own, since asking peers blocks. */
static void *confirm_main(void *arg)
{
    struct daemon *daemon = arg;
    struct err_info info = {0};
    bool before = daemon->node.ready;
    struct err_info clock = {0};
    if (query_clock_keep(&daemon->node.store, daemon->node.peer, &clock)) {
        daemon_log(DAEMON_WARN, "clock", "%s", clock.text);
    }
    warn_of_clock(&daemon->node);
    if (daemon->node.ready) {
        daemon_remind(&daemon->node);
    }
    daemon->node.council_news = false;
    if (peer_council_settle(daemon->node.peer, &clock)) {
        daemon_log(DAEMON_WARN, "council", "%s", clock.text);
    }
    enum err err = daemon_confirm(&daemon->node, &info);
    if (err == E_ROLLBACK) {
        daemon->node.ready = false;
        daemon_log(DAEMON_ERROR, "rollback",
                   "%s (%s): this home is older than what others saw of it; it does not serve. "
                   "Bring back the right one, or decide with `concordat restore accept`",
                   info.text, proto_err_name(err));
        daemon->node.rolled_back = true;
    } else if (!before && daemon->node.ready) {
        daemon_log(DAEMON_INFO, "serving", "the node's state is the newest known");
        notify("READY=1");
    }
    daemon->confirming = false;
    return NULL;
}

static void confirm(struct daemon *daemon)
{
    pthread_t thread;
    pthread_attr_t attributes;
    if (daemon->confirming || daemon->node.stopping || daemon->node.rolled_back) {
        return;
    }
    daemon->confirming = true;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, confirm_main, daemon) != 0) {
        daemon->confirming = false;
    }
    pthread_attr_destroy(&attributes);
}

static void on_second(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;
    struct err_info info = {0};
    daemon->seconds++;
    if (daemon->seconds % (daemon->node.ready ? WITNESS_S : CONFIRM_S) == 0) {
        confirm(daemon);
    } else if (daemon->node.council_news) {
        confirm(daemon);
    }
    if (daemon->seconds % 10 == 0) {
        if (store_egress_flush(&daemon->node.store, query_now(), &info)) {
            daemon_log(DAEMON_WARN, "egress", "%s", info.text);
        }
        notify("WATCHDOG=1");
    }
}

static void on_peer_done(void *user)
{
    struct daemon *daemon = user;
    daemon->peer_done = true;
    uv_walk(&daemon->loop, close_handle, NULL);
}

/* Waits for operations and the confirming thread, then takes the peer down; past the limit it goes on regardless. */
static void on_drain(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;
    static unsigned waited_ms;
    waited_ms += 50;
    bool idle = control_server_calls(daemon->control) == 0 && !daemon->confirming &&
                !daemon->node.rotating && train_service_busy(daemon->node.train) == 0;
    if (waited_ms > DRAIN_MS + 10000) {
        daemon_log(DAEMON_ERROR, "stop", "closing took too long");
        _exit(EXIT_WATCHDOG);
    }
    if (daemon->node.train) {
        train_service_stop(daemon->node.train);
    }
    if (!idle && waited_ms < DRAIN_MS) {
        return;
    }
    uv_timer_stop(&daemon->drain);
    peer_enrol_free(daemon->node.enrol);
    daemon->node.enrol = NULL;
    peer_stop(daemon->node.peer, 2000, on_peer_done, daemon);
}

static void begin_stop(struct daemon *daemon)
{
    if (daemon->node.stopping) {
        return;
    }
    daemon->node.stopping = true;
    daemon_log(DAEMON_INFO, "stopping", "draining for at most %d s", DRAIN_MS / 1000);
    notify("STOPPING=1");
    control_server_stop(daemon->control);
    uv_timer_stop(&daemon->second);
    uv_timer_init(&daemon->loop, &daemon->drain);
    daemon->drain.data = daemon;
    uv_timer_start(&daemon->drain, on_drain, 10, 50);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *daemon = handle->data;
    struct err_info info = {0};
    if (number != SIGHUP) {
        begin_stop(daemon);
    } else if (daemon_reload(&daemon->node, &info)) {
        daemon_log(DAEMON_ERROR, "reload", "%s; the old configuration stays", info.text);
    } else {
        daemon_log(DAEMON_INFO, "reload", "node.yaml was read again");
        confirm(daemon); /* and what it does every minute, now */
    }
}

/* No core files, no ptrace: both would show keys. Signals are blocked before threads are made, so that they inherit it. */
static void harden(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a full disk is an error to report, not a reason to die */
    umask(0077);
}

static void block_signals(bool block)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static void watch_signal(struct daemon *daemon, uv_signal_t *handle, int number)
{
    uv_signal_init(&daemon->loop, handle);
    handle->data = daemon;
    uv_signal_start(handle, on_signal, number);
}

static void write_pid(const char *home)
{
    char path[HOME_PATH_MAX];
    if (!config_home_path(home, HOME_PID, path)) {
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd >= 0) {
        dprintf(fd, "%ld\n", (long)getpid());
        close(fd);
    }
}

static void remove_pid(const char *home)
{
    char path[HOME_PATH_MAX];
    if (config_home_path(home, HOME_PID, path)) {
        unlink(path);
    }
}

static enum err open_console(struct daemon *daemon, struct err_info *reterr)
{
#ifdef HAVE_MICROHTTPD
    return console_open(&daemon->node, &daemon->console, reterr);
#else
    return daemon->node.config.console[0]
               ? proto_err_set(reterr, E_UNSUPPORTED,
                               "console: this daemon was built without libmicrohttpd; take it out "
                               "of node.yaml")
               : E_OK;
#endif
}

static enum err run(struct daemon *daemon, struct err_info *reterr)
{
    struct node *node = &daemon->node;
    enum err err = daemon_open(node, reterr);
    if (!err) {
        err = daemon_connect(node, reterr);
    }
    if (!err) {
        err = control_server_open(node, &daemon->control, reterr);
    }
    if (!err) {
        err = open_console(daemon, reterr);
    }
    if (err) {
        return err;
    }
    node->started = query_now();
    write_pid(node->home);
    block_signals(false);
    watch_signal(daemon, &daemon->terminate, SIGTERM);
    watch_signal(daemon, &daemon->interrupt, SIGINT);
    watch_signal(daemon, &daemon->reload, SIGHUP);
    uv_timer_init(&daemon->loop, &daemon->second);
    daemon->second.data = daemon;
    uv_timer_start(&daemon->second, on_second, 200, 1000);
    daemon_log(DAEMON_INFO, "started", "%s listens on %s, version %s, cryptography by %s",
               node->config.node, node->config.listen, PACKAGE_VERSION, crypto_provider()->name);
    control_rotate_pending(node);
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    remove_pid(node->home);
#ifdef HAVE_MICROHTTPD
    console_close(daemon->console);
#endif
    peer_free(node->peer);
    control_server_free(daemon->control);
    struct err_info info = {0};
    if (store_egress_flush(&node->store, query_now(), &info)) {
        daemon_log(DAEMON_WARN, "egress", "%s", info.text);
    }
    daemon_close(node);
    return E_OK;
}

static int usage(FILE *to, int code)
{
    fprintf(to, "usage: concordatd --home DIR [--foreground]\n"
                "One node of a Concordat federation. Logs JSON lines to standard error; SIGTERM "
                "drains and ends it,\n"
                "SIGHUP reads node.yaml again. The home comes from --home, CONCORDAT_HOME or "
                "/var/lib/concordat.\n"
                "Make one with `concordat init` or `concordat sandbox create`.\n");
    return code;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"home", required_argument, NULL, 'h'},
        {"foreground", no_argument, NULL, 'f'},
        {"help", no_argument, NULL, '?'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    static struct daemon daemon;
    const char *home = getenv("CONCORDAT_HOME");
    struct err_info info = {0};
    if (argc > 1 && strcmp(argv[1], "--confine") == 0) {
        return train_confine_main(argc - 2, argv + 2);
    }
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'h') {
            home = optarg;
        } else if (c == 'v') {
            printf("concordatd %s\n", PACKAGE_VERSION);
            return 0;
        } else if (c != 'f') { /* it never leaves the foreground: a supervisor does that better */
            bool asked = optind > 1 && strcmp(argv[optind - 1], "--help") == 0;
            return usage(asked ? stdout : stderr, asked ? 0 : 2);
        }
    }
    if (optind != argc) {
        return usage(stderr, 2);
    }
    harden();
    block_signals(true);
    daemon.node.home = home ? home : "/var/lib/concordat";
    daemon.node.loop = &daemon.loop;
    uv_loop_init(&daemon.loop);
    enum err err = crypto_init(&info);
    err = err ? err : run(&daemon, &info);
    if (err) {
        daemon_log(DAEMON_ERROR, "failed", "%s (%s)",
                   info.text[0] ? info.text : proto_err_text(err), proto_err_name(err));
    }
    return proto_err_exit(err);
}
