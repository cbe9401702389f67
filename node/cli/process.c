#include "config.h"
#include "node/cli/process.h"

#include "node/config/home.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOG_NAME HOME_LOG "/concordatd.log"

extern char **environ;

void cli_process_sleep_ms(unsigned ms)
{
    struct timespec wait = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&wait, NULL);
}

/* /proc/PID/NAME into TO; the number of bytes, or -1. */
static ssize_t read_proc(pid_t pid, const char *name, char *to, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    ssize_t got = read(fd, to, size - 1);
    close(fd);
    to[got > 0 ? got : 0] = 0;
    return got;
}

/* Its program is concordatd (perhaps replaced on disk meanwhile) and HOME stands in its arguments. A
 * zombie has neither. */
static bool is_daemon_of(pid_t pid, const char *home)
{
    char path[64];
    char program[4096];
    char line[8192];
    snprintf(path, sizeof path, "/proc/%ld/exe", (long)pid);
    ssize_t len = readlink(path, program, sizeof program - 1);
    if (len <= 0) {
        return false;
    }
    program[len] = 0;
    const char *name = strrchr(program, '/');
    if (!name || strncmp(name + 1, "concordatd", 10) != 0) {
        return false;
    }
    ssize_t got = read_proc(pid, "cmdline", line, sizeof line);
    for (ssize_t at = 0; at < got; at += (ssize_t)strlen(line + at) + 1) {
        if (strcmp(line + at, home) == 0) {
            return true;
        }
    }
    return false;
}

pid_t cli_process_find(const char *home)
{
    char path[HOME_PATH_MAX];
    char text[32] = "";
    if (!config_home_path(home, HOME_PID, path)) {
        return 0;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    long pid = got > 0 ? strtol(text, NULL, 10) : 0;
    return pid > 1 && is_daemon_of((pid_t)pid, home) ? (pid_t)pid : 0;
}

/* Beside this command, in ../sbin, or where it was configured to be. */
static bool find_program(char to[HOME_PATH_MAX])
{
    char self[HOME_PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len > 0) {
        self[len] = 0;
        char *slash = strrchr(self, '/');
        if (slash) {
            *slash = 0;
        }
        static const char *const places[] = {"/concordatd", "/../sbin/concordatd"};
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            int n = snprintf(to, HOME_PATH_MAX, "%s%s", self, places[i]);
            if (n > 0 && n < HOME_PATH_MAX && access(to, X_OK) == 0) {
                return true;
            }
        }
    }
    snprintf(to, HOME_PATH_MAX, "%s/concordatd", CONCORDAT_SBINDIR);
    return access(to, X_OK) == 0;
}

enum err cli_process_start(const char *home, pid_t *ret, struct err_info *reterr)
{
    char program[HOME_PATH_MAX];
    char log[HOME_PATH_MAX];
    if (!find_program(program)) {
        return proto_err_set(reterr, E_NOT_FOUND,
                             "concordatd is neither beside this command nor in " CONCORDAT_SBINDIR);
    }
    if (!config_home_path(home, LOG_NAME, log)) {
        return proto_err_set(reterr, E_INVALID, "the home's path is too long");
    }
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
    char option[] = "--home";
    char foreground[] = "--foreground";
    char *home_copy = strdup(home);
    char *const arguments[] = {program, option, home_copy, foreground, NULL};
    int error =
        home_copy ? posix_spawn(ret, program, &files, &attributes, arguments, environ) : ENOMEM;
    free(home_copy);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return error ? proto_err_set(reterr, E_IO, "starting %s: %s", program, strerror(error)) : E_OK;
}

bool cli_process_ended(pid_t pid)
{
    int status;
    return waitpid(pid, &status, WNOHANG) == pid;
}

enum err cli_process_end(const char *home, int number, unsigned wait_ms, struct err_info *reterr)
{
    pid_t pid = cli_process_find(home);
    if (pid == 0) {
        return E_OK;
    }
    if (kill(pid, number) < 0 && errno != ESRCH) {
        return proto_err_set(reterr, E_ROLE, "process %ld of %s: %s", (long)pid, home,
                             strerror(errno));
    }
    for (unsigned waited = 0; is_daemon_of(pid, home); waited += 20) {
        if (waited >= wait_ms) {
            return proto_err_set(reterr, E_TIMEOUT,
                                 "process %ld of %s has not ended within %u s; its log says why",
                                 (long)pid, home, wait_ms / 1000);
        }
        cli_process_sleep_ms(20);
        (void)waitpid(pid, NULL, WNOHANG); /* in case it is a child of ours */
    }
    return E_OK;
}

void cli_process_last_words(const char *home, char *to, size_t size)
{
    char path[HOME_PATH_MAX];
    char tail[2049] = "";
    to[0] = 0;
    if (!config_home_path(home, LOG_NAME, path)) {
        return;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    off_t end = lseek(fd, 0, SEEK_END);
    off_t from = end > 2048 ? end - 2048 : 0;
    ssize_t got = pread(fd, tail, sizeof tail - 1, from);
    close(fd);
    while (got > 0 && (tail[got - 1] == '\n' || tail[got - 1] == '\r')) {
        tail[--got] = 0;
    }
    const char *line = strrchr(tail, '\n');
    snprintf(to, size, "%s", line ? line + 1 : tail);
}
