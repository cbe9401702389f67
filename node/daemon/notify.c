#include "config.h"
#include "node/daemon/notify.h"

#include "node/daemon/log.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 20

struct told {
    char event[32];
    char id[72];
};

struct daemon_notifier {
    struct node *node;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct told queue[NOTIFY_QUEUE_MAX];
    size_t first, count;
    bool stopping;
};

/* The configured command, copied, since a reload may replace it meanwhile. Freed with free(); NULL: none. */
struct command {
    char *argv[CONFIG_NODE_NOTIFY_MAX + 3];
    size_t count;
    uint64_t timeout_ms;
    char node[96];
    char home[512];
};

static void command_fini(struct command *command)
{
    for (size_t i = 0; i < command->count; i++) {
        free(command->argv[i]);
    }
}

static bool command_take(struct node *node, const struct told *told, struct command *ret)
{
    bool whole = true;
    memset(ret, 0, sizeof *ret);
    pthread_mutex_lock(&node->config_lock);
    const struct config_notify *notify = &node->config.notify;
    for (size_t i = 0; i < notify->count && i < CONFIG_NODE_NOTIFY_MAX; i++) {
        ret->argv[ret->count++] = strdup(notify->command[i]);
    }
    ret->timeout_ms = notify->timeout_ms;
    snprintf(ret->node, sizeof ret->node, "CONCORDAT_NODE=%s", node->config.node);
    pthread_mutex_unlock(&node->config_lock);
    snprintf(ret->home, sizeof ret->home, "CONCORDAT_HOME=%s", node->home);
    if (ret->count == 0) {
        return false;
    }
    ret->argv[ret->count++] = strdup(told->event);
    ret->argv[ret->count++] = strdup(told->id);
    for (size_t i = 0; i < ret->count; i++) {
        whole = whole && ret->argv[i];
    }
    return whole;
}

/* A group of its own, no descriptor of ours, the signals as a new program expects them. */
static int spawn(struct command *command, pid_t *ret)
{
    static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    char *environment[] = {path, command->node, command->home, NULL};
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t files;
    sigset_t none, usual;
    sigemptyset(&none);
    sigfillset(&usual);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &usual);
    for (int fd = 0; fd < 3; fd++) {
        posix_spawn_file_actions_addopen(&files, fd, "/dev/null", fd ? O_WRONLY : O_RDONLY, 0);
    }
    posix_spawn_file_actions_addclosefrom_np(&files, 3);
    int rc = posix_spawn(ret, command->argv[0], &files, &attributes, command->argv, environment);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return rc;
}

static bool stopping(struct daemon_notifier *notifier)
{
    pthread_mutex_lock(&notifier->lock);
    bool stop = notifier->stopping;
    pthread_mutex_unlock(&notifier->lock);
    return stop;
}

static void run(struct daemon_notifier *notifier, struct command *command, const struct told *told)
{
    pid_t child;
    int status = 0;
    int rc = spawn(command, &child);
    if (rc) {
        daemon_log(DAEMON_WARN, "notify", "%s: %s", command->argv[0], strerror(rc));
        return;
    }
    uint64_t waited = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        const struct timespec pause = {0, POLL_MS * 1000000L};
        if (waited >= command->timeout_ms || stopping(notifier)) {
            kill(-child, SIGKILL);
            waitpid(child, &status, 0);
            daemon_log(DAEMON_WARN, "notify", "%s did not end within %llu ms and was killed",
                       command->argv[0], (unsigned long long)command->timeout_ms);
            return;
        }
        nanosleep(&pause, NULL);
        waited += POLL_MS;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        daemon_log(DAEMON_WARN, "notify", "%s %s failed (status %d)", command->argv[0], told->event,
                   WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    }
}

static bool next(struct daemon_notifier *notifier, struct told *ret)
{
    pthread_mutex_lock(&notifier->lock);
    while (!notifier->stopping && notifier->count == 0) {
        pthread_cond_wait(&notifier->wake, &notifier->lock);
    }
    bool more = !notifier->stopping;
    if (more) {
        *ret = notifier->queue[notifier->first];
        notifier->first = (notifier->first + 1) % NOTIFY_QUEUE_MAX;
        notifier->count--;
    }
    pthread_mutex_unlock(&notifier->lock);
    return more;
}

static void *notifier_main(void *user)
{
    struct daemon_notifier *notifier = user;
    struct told told;
    while (next(notifier, &told)) {
        struct command command;
        if (command_take(notifier->node, &told, &command)) {
            run(notifier, &command, &told);
        }
        command_fini(&command);
    }
    return NULL;
}

enum err daemon_notifier_new(struct node *node, struct daemon_notifier **ret)
{
    struct daemon_notifier *notifier = proto_alloc(1, sizeof *notifier);
    if (!notifier) {
        return E_NO_MEMORY;
    }
    notifier->node = node;
    pthread_mutex_init(&notifier->lock, NULL);
    pthread_cond_init(&notifier->wake, NULL);
    if (pthread_create(&notifier->thread, NULL, notifier_main, notifier) != 0) {
        proto_free(notifier);
        return E_NO_MEMORY;
    }
    *ret = notifier;
    return E_OK;
}

void daemon_notify(struct daemon_notifier *notifier, const char *event, const char *id)
{
    daemon_log(DAEMON_INFO, event, "%s", id);
    pthread_mutex_lock(&notifier->lock);
    bool room = notifier->count < NOTIFY_QUEUE_MAX;
    if (room) {
        struct told *told =
            &notifier->queue[(notifier->first + notifier->count++) % NOTIFY_QUEUE_MAX];
        snprintf(told->event, sizeof told->event, "%s", event);
        snprintf(told->id, sizeof told->id, "%s", id);
        pthread_cond_signal(&notifier->wake);
    }
    pthread_mutex_unlock(&notifier->lock);
    if (!room) {
        daemon_log(DAEMON_WARN, "notify", "the program of notify: is too slow; %s was only logged",
                   event);
    }
}

void daemon_notifier_free(struct daemon_notifier *notifier)
{
    if (!notifier) {
        return;
    }
    pthread_mutex_lock(&notifier->lock);
    notifier->stopping = true;
    pthread_cond_signal(&notifier->wake);
    pthread_mutex_unlock(&notifier->lock);
    pthread_join(notifier->thread, NULL);
    pthread_cond_destroy(&notifier->wake);
    pthread_mutex_destroy(&notifier->lock);
    proto_free(notifier);
}
