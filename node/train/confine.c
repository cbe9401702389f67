#include "config.h"
#include "node/train/confine.h"

#include "node/train/trainer_message.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONTROL     3
#define DESCRIPTORS 7
#define SCRATCH     "size=64m,mode=0700,nr_inodes=4096"

struct cell {
    uint64_t memory, cpu_s, file_bytes;
    const char *threads;
    bool jit;
    char **read;
    size_t read_count;
    char **program;
    struct train_trainer_confined in_force;
    bool scratch;
    char why[200];
};

#if HAVE_SECCOMP

#include <linux/landlock.h>
#include <seccomp.h>

/* Newer than the headers of some systems that the kernel may be newer than. */
#define FS_REFER      (1ULL << 13) /* Landlock 2 */
#define FS_TRUNCATE   (1ULL << 14) /* 3 */
#define FS_IOCTL_DEV  (1ULL << 15) /* 5 */
#define NET_ALL       3ULL         /* 4: bind and connect TCP */
#define SCOPE_ALL     3ULL         /* 6: abstract sockets, signals */
#define FS_FIRST      ((1ULL << 13) - 1)
#define FS_READ       (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_RUN        (FS_READ | LANDLOCK_ACCESS_FS_EXECUTE)
#define FS_OF_FILES   (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE)
#define FS_DEVICE     (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE)
#define FS_OF_SCRATCH (FS_FIRST & ~LANDLOCK_ACCESS_FS_EXECUTE & ~LANDLOCK_ACCESS_FS_MAKE_SOCK)

static bool fail(struct cell *cell, const char *what)
{
    snprintf(cell->why, sizeof cell->why, "%s: %s", what, strerror(errno));
    return false;
}

/* --- namespaces -------------------------------------------------------------------------------------------------------- */

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        close(fd);
    }
    return good;
}

static int status_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static bool below_tmp(const char *path)
{
    return strncmp(path, "/tmp/", 5) == 0;
}

/* Its own /tmp would hide what it is to read there. */
static bool scratch_hides(const struct cell *cell)
{
    bool hides = below_tmp(cell->program[0]);
    for (size_t i = 0; i < cell->read_count; i++) {
        hides = hides || below_tmp(cell->read[i]);
    }
    return hides;
}

/* Afterwards the caller is the first process of its namespaces. Where they cannot be had nothing has changed. */
static volatile pid_t inside; /* the only process of its namespace; 0: not yet */

/* Both are gone when the launcher is: nobody else would wait for the one inside. */
static void end_inside(int signal)
{
    (void)signal;
    if (inside > 0) {
        kill(inside, SIGKILL);
    }
}

static void enter_namespaces(struct cell *cell)
{
    char map[64];
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC |
                CLONE_NEWUTS)) {
        return;
    }
    (void)!write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "%u %u 1", (unsigned)uid, (unsigned)uid);
    bool mapped = write_file("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "%u %u 1", (unsigned)gid, (unsigned)gid);
    mapped = write_file("/proc/self/gid_map", map) && mapped;
    sigset_t term, before;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    pid_t child = fork();
    if (child > 0) {
        const struct sigaction action = {.sa_handler = end_inside};
        int status;
        inside = child;
        sigaction(SIGTERM, &action, NULL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        _exit(status_of(status));
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    cell->in_force.namespaces = child == 0 && mapped;
    cell->scratch = cell->in_force.namespaces && !scratch_hides(cell) &&
                    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, SCRATCH) == 0;
}

/* --- Landlock ---------------------------------------------------------------------------------------------------------- */

struct ruleset {
    uint64_t fs, net, scoped;
};

/* A path that is not there needs no rule. */
static bool allow_path(struct cell *cell, int ruleset, const char *path, uint64_t access)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT || fail(cell, path);
    }
    struct landlock_path_beneath_attr beneath = {.allowed_access = access, .parent_fd = fd};
    long result = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
    if (result && errno == EINVAL) { /* a file, not a folder */
        beneath.allowed_access &= FS_OF_FILES | FS_DEVICE;
        result = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
    }
    close(fd);
    return result == 0 || fail(cell, path);
}

static bool allow_paths(struct cell *cell, int ruleset)
{
    static const char *const run[] = {"/usr", "/lib", "/lib32", "/lib64", "/bin"};
    static const char *const files[] = {"/etc/ld.so.cache", "/etc/localtime", "/dev/urandom",
                                        "/dev/random",      "/dev/zero",      "/proc/cpuinfo"};
    bool good = allow_path(cell, ruleset, "/dev/null", FS_DEVICE) &&
                allow_path(cell, ruleset, cell->program[0], FS_RUN);
    for (size_t i = 0; good && i < sizeof run / sizeof *run; i++) {
        good = allow_path(cell, ruleset, run[i], FS_RUN);
    }
    for (size_t i = 0; good && i < sizeof files / sizeof *files; i++) {
        good = allow_path(cell, ruleset, files[i], LANDLOCK_ACCESS_FS_READ_FILE);
    }
    /* What kind of processor this is: mathematical libraries do not begin without. */
    good = good && allow_path(cell, ruleset, "/sys/devices/system/cpu", FS_READ);
    for (size_t i = 0; good && i < cell->read_count; i++) {
        good = allow_path(cell, ruleset, cell->read[i], FS_RUN);
    }
    return good && (!cell->scratch || allow_path(cell, ruleset, "/tmp", FS_OF_SCRATCH));
}

static bool restrict_files(struct cell *cell)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1) {
        return fail(cell, "Landlock is not there");
    }
    struct ruleset rules = {
        .fs = FS_FIRST | (version >= 2 ? FS_REFER : 0) | (version >= 3 ? FS_TRUNCATE : 0) |
              (version >= 5 ? FS_IOCTL_DEV : 0),
        .net = version >= 4 ? NET_ALL : 0,
        .scoped = version >= 6 ? SCOPE_ALL : 0,
    };
    size_t size = version >= 6 ? sizeof rules : version >= 4 ? 16 : 8;
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    bool good = ruleset >= 0 || fail(cell, "Landlock");
    good = good && allow_paths(cell, ruleset);
    good = good && (syscall(SYS_landlock_restrict_self, ruleset, 0) == 0 || fail(cell, "Landlock"));
    if (ruleset >= 0) {
        close(ruleset);
    }
    cell->in_force.landlock = good ? (uint64_t)version : 0;
    return good;
}

/* --- system calls ------------------------------------------------------------------------------------------------------ */

static const char *const allowed[] = {"access",
                                      "alarm",
                                      "arch_prctl",
                                      "brk",
                                      "chdir",
                                      "clock_getres",
                                      "clock_gettime",
                                      "clock_nanosleep",
                                      "close",
                                      "close_range",
                                      "copy_file_range",
                                      "dup",
                                      "dup2",
                                      "dup3",
                                      "epoll_create",
                                      "epoll_create1",
                                      "epoll_ctl",
                                      "epoll_pwait",
                                      "epoll_wait",
                                      "eventfd",
                                      "eventfd2",
                                      "execve",
                                      "exit",
                                      "exit_group",
                                      "faccessat",
                                      "faccessat2",
                                      "fadvise64",
                                      "fallocate",
                                      "fchdir",
                                      "fcntl",
                                      "fdatasync",
                                      "flock",
                                      "fstat",
                                      "fstatfs",
                                      "fsync",
                                      "ftruncate",
                                      "futex",
                                      "futex_waitv",
                                      "get_mempolicy",
                                      "get_robust_list",
                                      "getcpu",
                                      "getcwd",
                                      "getdents64",
                                      "getegid",
                                      "geteuid",
                                      "getgid",
                                      "getgroups",
                                      "getpgid",
                                      "getpgrp",
                                      "getpid",
                                      "getppid",
                                      "getrandom",
                                      "getresgid",
                                      "getresuid",
                                      "getrlimit",
                                      "getrusage",
                                      "getsid",
                                      "gettid",
                                      "gettimeofday",
                                      "getuid",
                                      "lseek",
                                      "lstat",
                                      "madvise",
                                      "membarrier",
                                      "memfd_create",
                                      "mincore",
                                      "mkdir",
                                      "mkdirat",
                                      "mremap",
                                      "msync",
                                      "munmap",
                                      "nanosleep",
                                      "newfstatat",
                                      "open",
                                      "openat",
                                      "pause",
                                      "pipe",
                                      "pipe2",
                                      "poll",
                                      "ppoll",
                                      "pread64",
                                      "preadv",
                                      "pselect6",
                                      "pwrite64",
                                      "pwritev",
                                      "read",
                                      "readlink",
                                      "readlinkat",
                                      "readv",
                                      "rename",
                                      "renameat",
                                      "renameat2",
                                      "restart_syscall",
                                      "rmdir",
                                      "rseq",
                                      "rt_sigaction",
                                      "rt_sigpending",
                                      "rt_sigprocmask",
                                      "rt_sigreturn",
                                      "rt_sigsuspend",
                                      "rt_sigtimedwait",
                                      "sched_get_priority_max",
                                      "sched_get_priority_min",
                                      "sched_getaffinity",
                                      "sched_getparam",
                                      "sched_getscheduler",
                                      "sched_yield",
                                      "select",
                                      "sendfile",
                                      "set_robust_list",
                                      "set_tid_address",
                                      "setitimer",
                                      "sigaltstack",
                                      "stat",
                                      "statfs",
                                      "statx",
                                      "sysinfo",
                                      "time",
                                      "times",
                                      "umask",
                                      "uname",
                                      "unlink",
                                      "unlinkat",
                                      "wait4",
                                      "waitid",
                                      "write",
                                      "writev"};

/* A call that is not allowed fails as if it were forbidden; programs that only try go on. */
static int allow_some(scmp_filter_ctx filter, bool jit)
{
    static const scmp_datum_t names[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE};
    static const scmp_datum_t ioctls[] = {0x5401 /* TCGETS */,  0x5450 /* FIONCLEX */,
                                          0x5451 /* FIOCLEX */, 0x541b /* FIONREAD */,
                                          0x5421 /* FIONBIO */, 0x5413 /* TIOCGWINSZ */};
    const scmp_datum_t code = PROT_EXEC;
    const scmp_datum_t both = PROT_EXEC | PROT_WRITE;
    int bad = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                                SCMP_A0(SCMP_CMP_EQ, names[i], 0));
    }
    for (size_t i = 0; i < sizeof ioctls / sizeof *ioctls; i++) {
        bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                                SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, ioctls[i]));
    }
    /* Threads, no processes. clone3 hides its flags behind a pointer: glibc falls back to clone. */
    bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                            SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    /* Its own threads alone: abort() and pthread_kill(). */
    bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                            SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
                            SCMP_A0(SCMP_CMP_EQ, 0, 0), SCMP_A2(SCMP_CMP_EQ, 0, 0));
    if (jit) {
        bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 0);
        return bad | seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 0);
    }
    /* Libraries are mapped to be executed, never to be written as well; what was written never becomes code. */
    bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, both, 0));
    bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, both, PROT_WRITE));
    bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, both, code));
    return bad | seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                  SCMP_A2(SCMP_CMP_MASKED_EQ, code, 0));
}

static bool restrict_calls(struct cell *cell)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int bad = filter ? seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 1) : 1;
    for (size_t i = 0; !bad && i < sizeof allowed / sizeof *allowed; i++) {
        int number = seccomp_syscall_resolve_name(allowed[i]);
        /* Not every processor has each of them. */
        bad = number == __NR_SCMP_ERROR || number < 0
                  ? 0
                  : seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
    }
    bad = bad ? bad : allow_some(filter, cell->jit);
    bad = bad ? bad : seccomp_load(filter);
    if (filter) {
        seccomp_release(filter);
    }
    cell->in_force.seccomp = !bad;
    if (bad) {
        snprintf(cell->why, sizeof cell->why, "seccomp could not be set up");
    }
    return !bad;
}

/* --- limits ------------------------------------------------------------------------------------------------------------ */

static bool limit(struct cell *cell, __rlimit_resource_t what, uint64_t value)
{
    struct rlimit to = {value, value};
    return setrlimit(what, &to) == 0 || fail(cell, "a resource limit");
}

static bool restrict_resources(struct cell *cell)
{
    return limit(cell, RLIMIT_AS, cell->memory) && limit(cell, RLIMIT_CPU, cell->cpu_s) &&
           limit(cell, RLIMIT_FSIZE, cell->file_bytes) && limit(cell, RLIMIT_NOFILE, 256) &&
           limit(cell, RLIMIT_CORE, 0) && limit(cell, RLIMIT_MEMLOCK, 0) &&
           limit(cell, RLIMIT_MSGQUEUE, 0);
}

static bool confine(struct cell *cell)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
        return fail(cell, "no_new_privs");
    }
    if (syscall(SYS_close_range, DESCRIPTORS, ~0U, 0)) {
        return fail(cell, "close_range");
    }
    return restrict_resources(cell) && restrict_files(cell) && restrict_calls(cell);
}

#else

static void enter_namespaces(struct cell *cell)
{
    (void)cell;
}

static bool confine(struct cell *cell)
{
    snprintf(cell->why, sizeof cell->why, "this build has no libseccomp");
    return false;
}

#endif

static bool say(struct cell *cell)
{
    struct buf out = {.max = 1024};
    struct train_trainer_frame frame = {.type = TRAIN_TRAINER_CONFINED};
    cell->in_force.error = span_str(cell->why);
    frame.of.confined = cell->in_force;
    bool good = train_trainer_encode(&frame, &out, NULL) == E_OK &&
                write(CONTROL, out.ptr, out.len) == (ssize_t)out.len;
    buf_fini(&out);
    return good;
}

static bool read_arguments(int argc, char **argv, struct cell *cell)
{
    if (argc < 7) {
        return false;
    }
    cell->memory = strtoull(argv[0], NULL, 10);
    cell->cpu_s = strtoull(argv[1], NULL, 10);
    cell->file_bytes = strtoull(argv[2], NULL, 10);
    cell->threads = argv[3];
    cell->jit = strcmp(argv[4], "1") == 0;
    cell->read = argv + 5;
    for (int i = 5; i < argc - 1; i++) {
        if (strcmp(argv[i], "--") == 0) {
            cell->read_count = (size_t)(i - 5);
            cell->program = argv + i + 1;
            return cell->memory && cell->cpu_s && cell->file_bytes;
        }
    }
    return false;
}

int train_confine_main(int argc, char **argv)
{
    struct cell cell = {.memory = 0};
    char threads[32];
    if (!read_arguments(argc, argv, &cell)) {
        fprintf(stderr, "concordatd: --confine is for concordatd itself\n");
        return 2;
    }
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    enter_namespaces(&cell);
    snprintf(threads, sizeof threads, "OMP_NUM_THREADS=%.10s", cell.threads);
    char *const environment[] = {"PATH=/usr/bin:/bin",
                                 "LANG=C.UTF-8",
                                 "HOME=/tmp",
                                 "TMPDIR=/tmp",
                                 "CONCORDAT_TRAINER=1",
                                 "OMP_WAIT_POLICY=passive",
                                 "PYTHONNOUSERSITE=1",
                                 "PYTHONDONTWRITEBYTECODE=1",
                                 threads,
                                 NULL};
    bool good = confine(&cell);
    if (!say(&cell) || !good) {
        return 1;
    }
    execve(cell.program[0], cell.program, environment);
    return 127;
}
