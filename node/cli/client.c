#include "config.h"
#include "node/cli/client.h"

#include "node/cli/progress.h"
#include "node/config/home.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CANCEL_WAIT_MS 10000u /* for the orderly end after Ctrl-C */

static volatile sig_atomic_t interrupts;

static void on_interrupt(int number)
{
    (void)number;
    interrupts = interrupts + 1;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static enum err connect_error(const char *home, int error, struct err_info *reterr)
{
    if (error == EACCES || error == EPERM) {
        return proto_err_set(reterr, E_ROLE,
                             "%s/" HOME_SOCKET " may not be opened by this user: ask the node's "
                             "operator for access",
                             home);
    }
    if (access(home, F_OK) != 0) {
        return proto_err_set(reterr, E_NO_DAEMON,
                             "%s does not exist; name the node's home with --home, or make one "
                             "with `concordat init` and start it with `concordatd --home %s`",
                             home, home);
    }
    return proto_err_set(reterr, E_NO_DAEMON,
                         "no daemon is running for %s; start it with `concordatd --home %s`", home,
                         home);
}

/* Through /proc/self/fd, because sun_path is shorter than paths may be. */
static enum err open_socket(const char *home, int *ret, struct err_info *reterr)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int directory = open(home, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) {
        return connect_error(home, errno, reterr);
    }
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" HOME_SOCKET, directory);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? errno : 0;
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        error = errno;
        close(fd);
        fd = -1;
    }
    close(directory);
    if (fd < 0) {
        return connect_error(home, error, reterr);
    }
    *ret = fd;
    return E_OK;
}

static enum err send_all(int fd, struct span bytes, struct err_info *reterr)
{
    while (bytes.len > 0) {
        ssize_t sent = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            return proto_err_set(reterr, E_IO, "the daemon closed the connection: %s",
                                 strerror(errno));
        }
        if (sent > 0) {
            bytes = span_of(bytes.ptr + sent, bytes.len - (size_t)sent);
        }
    }
    return E_OK;
}

static enum err send_request(int fd, const struct cli_question *question, struct err_info *reterr)
{
    struct buf out = {.max = PROTO_CONTROL_MAX + PROTO_CONTROL_HEAD};
    struct proto_control_request request = {
        .version = PROTO_CONTROL_VERSION,
        .operation = span_str(question->operation),
        .arguments = {(void *)(uintptr_t)question->arguments, question->argument_count},
    };
    enum err err = proto_control_encode_request(&request, &out, reterr);
    if (!err) {
        err = send_all(fd, buf_span(&out), reterr);
    }
    buf_fini(&out);
    return err;
}

struct session {
    int fd;
    const struct cli_question *question;
    struct buf in;
    struct cli_progress progress;
    bool cancelled;
    uint64_t last_ms; /* when the daemon was heard last, or CANCEL was sent */
};

/* Sends CANCEL once; E_CANCELLED when waiting any longer makes no sense. */
static enum err check_patience(struct session *s, struct err_info *reterr)
{
    uint64_t now = now_ms();
    if (interrupts > 0 && !s->cancelled) {
        struct buf out = {.max = 64};
        enum err err = proto_control_encode_cancel(&out, reterr);
        if (!err) {
            err = send_all(s->fd, buf_span(&out), reterr);
        }
        buf_fini(&out);
        s->cancelled = true;
        s->last_ms = now;
        return err;
    }
    if (s->cancelled && (interrupts > 1 || now - s->last_ms > CANCEL_WAIT_MS)) {
        return proto_err_set(reterr, E_CANCELLED, "cancelled; the daemon has not confirmed it");
    }
    if (!s->cancelled && s->question->timeout_ms && now - s->last_ms > s->question->timeout_ms) {
        return proto_err_set(reterr, E_TIMEOUT, "the daemon did not answer within %llu s",
                             (unsigned long long)(s->question->timeout_ms / 1000));
    }
    return E_OK;
}

static enum err receive(struct session *s, struct err_info *reterr)
{
    struct pollfd wait = {.fd = s->fd, .events = POLLIN};
    int ready = poll(&wait, 1, 200);
    if (ready <= 0) {
        return E_OK; /* a time-out or a signal: the caller looks at the clock */
    }
    enum err err = buf_reserve(&s->in, 65536);
    if (err) {
        return err;
    }
    ssize_t got = recv(s->fd, s->in.ptr + s->in.len, s->in.cap - s->in.len, 0);
    if (got == 0) {
        return proto_err_set(reterr, E_IO, "the daemon ended before it answered; its log says why");
    }
    if (got < 0) {
        return errno == EINTR
                   ? E_OK
                   : proto_err_set(reterr, E_IO, "the control socket: %s", strerror(errno));
    }
    s->in.len += (size_t)got;
    s->last_ms = now_ms();
    return E_OK;
}

static enum err take_result(struct span body, json_t **ret_json, int *ret_exit,
                            struct err_info *reterr)
{
    struct proto_control_result result;
    enum err err = proto_control_decode_result(body, &result, reterr);
    if (err) {
        return err;
    }
    json_error_t at;
    json_t *json = json_loadb((const char *)result.json.ptr, result.json.len, JSON_DECODE_ANY, &at);
    if (!json) {
        return proto_err_set(reterr, E_INVALID, "the daemon's answer is not JSON: %s", at.text);
    }
    *ret_json = json;
    *ret_exit = (int)result.exit_code;
    return E_OK;
}

/* Handles every whole frame that is there; *done once the RESULT came. */
static enum err take_frames(struct session *s, bool *done, json_t **ret_json, int *ret_exit,
                            struct err_info *reterr)
{
    enum err err = E_OK;
    while (!err && !*done) {
        struct proto_control_frame frame;
        struct proto_control_progress progress;
        size_t used = 0;
        err = proto_control_next(buf_span(&s->in), &frame, &used, reterr);
        if (err) {
            return err == E_TRUNCATED ? E_OK : err;
        }
        if (frame.kind == PROTO_CONTROL_RESULT) {
            *done = true;
            err = take_result(frame.body, ret_json, ret_exit, reterr);
        } else if (frame.kind == PROTO_CONTROL_PROGRESS) {
            err = proto_control_decode_progress(frame.body, &progress, reterr);
            if (!err) {
                cli_progress_show(&s->progress, &progress, now_ms());
            }
        } else {
            err = proto_err_set(reterr, E_INVALID, "the daemon sent a frame that only we may send");
        }
        memmove(s->in.ptr, s->in.ptr + used, s->in.len - used);
        s->in.len -= used;
    }
    return err;
}

enum err cli_client_ask(const char *home, const struct cli_question *question, json_t **ret_json,
                        int *ret_exit, struct err_info *reterr)
{
    struct session s = {.question = question,
                        .in = {.max = PROTO_CONTROL_MAX + PROTO_CONTROL_HEAD + 65536}};
    enum err err = open_socket(home, &s.fd, reterr);
    if (err) {
        return err;
    }
    struct sigaction old;
    struct sigaction action = {.sa_handler = on_interrupt}; /* no SA_RESTART: poll must end */
    interrupts = 0;
    sigaction(SIGINT, &action, &old);
    cli_progress_init(&s.progress, stderr, question->progress, question->lines, now_ms());
    s.last_ms = now_ms();
    bool done = false;
    err = send_request(s.fd, question, reterr);
    while (!err && !done) {
        err = receive(&s, reterr);
        err = err ? err : take_frames(&s, &done, ret_json, ret_exit, reterr);
        err = err || done ? err : check_patience(&s, reterr);
    }
    cli_progress_end(&s.progress);
    sigaction(SIGINT, &old, NULL);
    buf_fini(&s.in);
    close(s.fd);
    return err;
}
