#include "config.h"
#include "node/train/trainer.h"

#include "crypto/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS     50
#define END_MS      2000 /* a launcher needs a moment; a kernel that pages, some more */
#define END_LOOK_NS 2000000
#define START_MS                                                                                   \
    2000 /* until it greets, or as long as the task may take: loading a framework takes its time */
#define MEMORY        ((uint64_t)4 << 30)
#define CPU_MARGIN_S  5
#define FILE_BYTES    ((uint64_t)64 << 20) /* of its scratch */
#define ARGUMENTS_MAX (16 + CONFIG_NODE_TRAINER_ARGUMENTS + CONFIG_NODE_TRAINER_READ)

enum descriptor {
    CONTROL,
    DATA,
    WEIGHTS,
    OUTPUT,
    DESCRIPTORS
};
#define FIRST 3 /* its number in the child */

struct run {
    const struct train_trainer_wish *wish;
    struct train_trainer_result *result;
    int ours;                /* our end of the control channel */
    int theirs[DESCRIPTORS]; /* -1: not open */
    pid_t pid;               /* 0: not running */
    uint64_t deadline_ms;
    size_t said;
    struct buf in;
    struct arena arena;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- making it --------------------------------------------------------------------------------------------------------- */

static enum err open_descriptors(struct run *run, struct err_info *reterr)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        return proto_err_set(reterr, E_IO, "socketpair: %s", strerror(errno));
    }
    run->ours = pair[0];
    run->theirs[CONTROL] = pair[1];
    for (size_t i = DATA; i < DESCRIPTORS; i++) {
        run->theirs[i] = memfd_create("concordat-trainer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (run->theirs[i] < 0) {
            return proto_err_set(reterr, E_IO, "memfd_create: %s", strerror(errno));
        }
    }
    int output = run->theirs[OUTPUT];
    bool good = fcntl(run->ours, F_SETFL, O_NONBLOCK) == 0 &&
                ftruncate(output, (off_t)run->wish->output_max) == 0 &&
                fcntl(output, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0;
    return good ? E_OK : proto_err_set(reterr, E_IO, "a memory file: %s", strerror(errno));
}

/* Above the numbers that they get in the child, so that one does not cover another. */
static enum err move_up(struct run *run, struct err_info *reterr)
{
    for (size_t i = 0; i < DESCRIPTORS; i++) {
        int fresh = fcntl(run->theirs[i], F_DUPFD_CLOEXEC, FIRST + DESCRIPTORS);
        if (fresh < 0) {
            return proto_err_set(reterr, E_IO, "too many open files");
        }
        close(run->theirs[i]);
        run->theirs[i] = fresh;
    }
    return E_OK;
}

struct arguments {
    char numbers[4][24];
    char *list[ARGUMENTS_MAX];
    size_t count;
};

static void add(struct arguments *to, const char *text)
{
    to->list[to->count++] = (char *)(uintptr_t)text; /* posix_spawn's type; it writes to none */
}

static void fill_arguments(const struct run *run, struct arguments *to)
{
    const struct config_trainer *trainer = run->wish->trainer;
    const struct train_trainer_task *task = run->wish->task;
    uint64_t cpu = (task->time_ms / 1000 + CPU_MARGIN_S) * task->threads + CPU_MARGIN_S;
    uint64_t file = run->wish->output_max > FILE_BYTES ? run->wish->output_max : FILE_BYTES;
    const uint64_t values[4] = {trainer->memory_mb ? trainer->memory_mb << 20 : MEMORY, cpu, file,
                                task->threads};
    add(to, "concordatd");
    add(to, "--confine");
    for (size_t i = 0; i < 4; i++) {
        snprintf(to->numbers[i], sizeof to->numbers[i], "%llu", (unsigned long long)values[i]);
        add(to, to->numbers[i]);
    }
    add(to, trainer->jit ? "1" : "0");
    for (size_t i = 0; i < trainer->read_count; i++) {
        add(to, trainer->read[i]);
    }
    add(to, "--");
    for (size_t i = 0; i < trainer->program_count; i++) {
        add(to, trainer->program[i]);
    }
}

static enum err spawn(struct run *run, struct err_info *reterr)
{
    char self[4096];
    char *const nothing[] = {NULL};
    struct arguments arguments = {.count = 0};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len <= 0) {
        return proto_err_set(reterr, E_IO, "/proc/self/exe cannot be read");
    }
    self[len] = '\0';
    fill_arguments(run, &arguments);
    sigemptyset(&none);
    sigfillset(&all);
    int bad = posix_spawn_file_actions_init(&actions);
    if (!bad) {
        bad = posix_spawnattr_init(&attributes);
    }
    if (bad) {
        return proto_err_set(reterr, E_NO_MEMORY, "no memory to start a program");
    }
    for (int i = 0; i < FIRST; i++) {
        bad |= posix_spawn_file_actions_addopen(&actions, i, "/dev/null", O_RDWR, 0);
    }
    for (int i = 0; i < DESCRIPTORS; i++) {
        bad |= posix_spawn_file_actions_adddup2(&actions, run->theirs[i], FIRST + i);
    }
    bad |= posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    bad |= posix_spawnattr_setsigmask(&attributes, &none);
    bad |= posix_spawnattr_setsigdefault(&attributes, &all);
    bad = bad ? bad : posix_spawn(&run->pid, self, &actions, &attributes, arguments.list, nothing);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (bad) {
        run->pid = 0;
        return proto_err_set(reterr, E_IO, "the launcher cannot be started: %s", strerror(bad));
    }
    close(run->theirs[CONTROL]);
    run->theirs[CONTROL] = -1;
    return E_OK;
}

/* Not reaped yet, so the number is still its own. */
static void kill_and_wait(pid_t pid)
{
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

/* A launcher that was told to go and waits for the trainer inside. A namespace takes the kernel milliseconds to take down, which
 * nobody who wants the update needs to wait for. */
static void *see_off(void *user)
{
    pid_t pid = (pid_t)(intptr_t)user;
    uint64_t until = now_ms() + END_MS;
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (now_ms() >= until) {
            kill_and_wait(pid);
            break;
        }
        nanosleep(&(struct timespec){0, END_LOOK_NS}, NULL);
    }
    return NULL;
}

/* A launcher that keeps the trainer in a namespace ends that first, and goes when it is gone: the trainer cannot reach it. */
static void end(struct run *run)
{
    pid_t pid = run->pid;
    pthread_t thread;
    run->pid = 0;
    if (!pid) {
        return;
    }
    if (!run->result->namespaces || kill(pid, SIGTERM) ||
        pthread_create(&thread, NULL, see_off, (void *)(intptr_t)pid)) {
        kill_and_wait(pid);
        return;
    }
    pthread_detach(thread);
}

static void run_fini(struct run *run)
{
    end(run);
    if (run->ours >= 0) {
        close(run->ours);
    }
    for (size_t i = 0; i < DESCRIPTORS; i++) {
        if (run->theirs[i] >= 0) {
            close(run->theirs[i]);
        }
    }
    buf_fini(&run->in);
    arena_fini(&run->arena);
}

/* --- talking ----------------------------------------------------------------------------------------------------------- */

static enum err wait_for_bytes(struct run *run, struct err_info *reterr)
{
    for (;;) {
        struct pollfd poll_one = {.fd = run->ours, .events = POLLIN};
        if (run->wish->cancelled && run->wish->cancelled(run->wish->user)) {
            return proto_err_set(reterr, E_CANCELLED, "the trainer was ended");
        }
        if (now_ms() >= run->deadline_ms) {
            return proto_err_set(reterr, E_TIMEOUT, "the trainer's time is over");
        }
        if (poll(&poll_one, 1, LOOK_MS) > 0) {
            return E_OK;
        }
    }
}

static enum err more_bytes(struct run *run, struct err_info *reterr)
{
    uint8_t bytes[4096];
    enum err err = wait_for_bytes(run, reterr);
    if (err) {
        return err;
    }
    ssize_t got = read(run->ours, bytes, sizeof bytes);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return E_OK;
    }
    if (got <= 0) {
        return proto_err_set(reterr, E_INVALID, "the trainer ended without an answer");
    }
    run->said += (size_t)got;
    if (run->said > TRAIN_TRAINER_TALK) {
        return proto_err_set(reterr, E_INVALID, "the trainer says too much");
    }
    return buf_put(&run->in, span_of(bytes, (size_t)got));
}

/* Spans of the frame are gone on return: no text of a trainer is looked at. */
static enum err next_frame(struct run *run, struct train_trainer_frame *ret,
                           struct err_info *reterr)
{
    size_t used = 0;
    arena_fini(&run->arena);
    run->arena = (struct arena){.max = TRAIN_TRAINER_FRAME};
    for (;;) {
        struct span bytes = buf_span(&run->in);
        enum err err = train_trainer_decode(bytes, &run->arena, ret, &used, reterr);
        if (err) {
            return err == E_NO_MEMORY ? err : E_INVALID;
        }
        if (used) {
            break;
        }
        err = more_bytes(run, reterr);
        if (err) {
            return err;
        }
    }
    if (ret->type == TRAIN_TRAINER_CONFINED) { /* the one frame whose text we look at */
        char why[257];
        (void)!span_to_cstr(ret->of.confined.error, why, sizeof why);
        if (ret->of.confined.error.len) {
            return proto_err_set(reterr, E_UNSUPPORTED, "no cell for a trainer: %s", why);
        }
    }
    memmove(run->in.ptr, run->in.ptr + used, run->in.len - used);
    run->in.len -= used;
    return E_OK;
}

static enum err expect(struct run *run, enum train_trainer_type type,
                       struct train_trainer_frame *ret, struct err_info *reterr)
{
    enum err err = next_frame(run, ret, reterr);
    return err || ret->type == type
               ? err
               : proto_err_set(reterr, E_INVALID, "the trainer says what it may not say now");
}

static enum err put_file(int fd, struct span bytes, struct err_info *reterr)
{
    for (size_t at = 0; at < bytes.len;) {
        ssize_t done = pwrite(fd, bytes.ptr + at, bytes.len - at, (off_t)at);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return proto_err_set(reterr, E_IO, "a memory file: %s", strerror(errno));
        }
        at += (size_t)done;
    }
    return E_OK;
}

static enum err send_task(struct run *run, struct err_info *reterr)
{
    struct buf out = {.max = TRAIN_TRAINER_FRAME + 4};
    struct train_trainer_frame frame = {.type = TRAIN_TRAINER_TASK};
    frame.of.task = *run->wish->task;
    enum err err = put_file(run->theirs[WEIGHTS], run->wish->weights, reterr);
    err = err ? err : put_file(run->theirs[DATA], run->wish->data, reterr);
    err = err ? err : train_trainer_encode(&frame, &out, reterr);
    if (!err) {
        run->result->saw_data = run->wish->data.len > 0;
        /* It fits into the channel's buffer, which is empty. */
        ssize_t done = send(run->ours, out.ptr, out.len, MSG_NOSIGNAL);
        err = done == (ssize_t)out.len
                  ? E_OK
                  : proto_err_set(reterr, E_INVALID, "the trainer ended without an answer");
    }
    buf_fini(&out);
    return err;
}

/* Until UPDATE; RET is its size. */
static enum err hear_out(struct run *run, uint64_t *ret, struct err_info *reterr)
{
    struct train_trainer_frame frame;
    for (;;) {
        enum err err = next_frame(run, &frame, reterr);
        if (err) {
            return err;
        }
        if (frame.type == TRAIN_TRAINER_UPDATE) {
            *ret = frame.of.update.size;
            return E_OK;
        }
        if (frame.type == TRAIN_TRAINER_FAILED) {
            return proto_err_set(reterr, E_INVALID, "the trainer says that it failed");
        }
        if (frame.type != TRAIN_TRAINER_PROGRESS) {
            return proto_err_set(reterr, E_INVALID, "the trainer says what it may not say now");
        }
        if (run->wish->progress) {
            run->wish->progress(run->wish->user, frame.of.progress.done, frame.of.progress.total);
        }
    }
}

static enum err read_output(struct run *run, uint64_t size, struct err_info *reterr)
{
    struct buf *out = &run->result->output;
    if (size == 0 || size > run->wish->output_max) {
        return proto_err_set(reterr, E_INVALID, "the trainer's answer has an impossible length");
    }
    out->max = (size_t)size;
    out->ptr = proto_alloc_raw((size_t)size, 1);
    if (!out->ptr) {
        return E_NO_MEMORY;
    }
    out->cap = (size_t)size;
    while (out->len < size) {
        ssize_t got = pread(run->theirs[OUTPUT], out->ptr + out->len, (size_t)size - out->len,
                            (off_t)out->len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return proto_err_set(reterr, E_IO, "a memory file cannot be read");
        }
        out->len += (size_t)got;
    }
    return E_OK;
}

static enum err start(struct run *run, struct train_trainer_frame *frame, struct err_info *reterr)
{
    uint64_t limit = run->wish->task->time_ms > START_MS ? run->wish->task->time_ms : START_MS;
    run->deadline_ms = now_ms() + limit;
    enum err err = open_descriptors(run, reterr);
    err = err ? err : move_up(run, reterr);
    err = err ? err : spawn(run, reterr);
    err = err ? err : expect(run, TRAIN_TRAINER_CONFINED, frame, reterr);
    if (!err) {
        run->result->namespaces = frame->of.confined.namespaces;
        run->result->landlock = frame->of.confined.landlock;
    }
    return err;
}

static struct run run_of(const struct train_trainer_wish *wish, struct train_trainer_result *ret)
{
    *ret = (struct train_trainer_result){.namespaces = false};
    return (struct run){.wish = wish,
                        .result = ret,
                        .ours = -1,
                        .theirs = {-1, -1, -1, -1},
                        .in = {.max = 2 * TRAIN_TRAINER_FRAME}};
}

enum err train_trainer_run(const struct train_trainer_wish *wish, struct train_trainer_result *ret,
                           struct err_info *reterr)
{
    struct run run = run_of(wish, ret);
    struct train_trainer_frame frame;
    uint64_t size = 0;
    enum err err = start(&run, &frame, reterr);
    if (!err) {
        err = expect(&run, TRAIN_TRAINER_HELLO, &frame, reterr);
        err = err == E_INVALID || err == E_TIMEOUT
                  ? proto_err_set(reterr, E_NOT_FOUND, "%s does not greet as a trainer",
                                  wish->trainer->program[0])
                  : err;
    }
    if (!err) {
        run.deadline_ms = now_ms() + wish->task->time_ms;
        err = send_task(&run, reterr);
    }
    err = err ? err : hear_out(&run, &size, reterr);
    end(&run);
    err = err ? err : read_output(&run, size, reterr);
    run_fini(&run);
    return err;
}

void train_trainer_result_fini(struct train_trainer_result *result)
{
    if (result->output.ptr) {
        crypto_wipe(result->output.ptr, result->output.cap);
    }
    buf_fini(&result->output);
}

enum err train_trainer_probe(struct train_trainer_result *ret, struct err_info *reterr)
{
    static const char *nothing[] = {"/nonexistent"};
    const struct config_trainer trainer = {.program = nothing, .program_count = 1};
    const struct train_trainer_task task = {.time_ms = 1000, .threads = 1};
    const struct train_trainer_wish wish = {.trainer = &trainer, .task = &task, .output_max = 4096};
    struct run run = run_of(&wish, ret);
    struct train_trainer_frame frame;
    enum err err = start(&run, &frame, reterr);
    run_fini(&run);
    return err;
}
