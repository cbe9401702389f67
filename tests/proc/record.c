/* For tests only: preloaded, it writes down every call that changes files below CONCORDAT_RECORD_BELOW, in order and with its bytes, to
 * the file CONCORDAT_RECORD. crashes.py plays them back as a disk might after the power failed.
 *
 * A record: u8 operation | i32 descriptor | i64 number | u32 length, u32 length | bytes, bytes (the machine's own byte order).
 *     O open    descriptor that came out; number: flags; path          W write     number: place in the file; bytes
 *     T truncate  number: length                                       S sync      of data
 *     N rename  from, to     L link  from, to     U unlink  path       M mkdir     path
 * Calls that failed are left out. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the call and its record are one */
static int log_fd = -1;

static void put(const void *bytes, size_t len)
{
    if (REAL(ssize_t, write, int, const void *, size_t)(log_fd, bytes, len) != (ssize_t)len) {
        abort();
    }
}

static void record(char op, int fd, int64_t number, const void *a, size_t a_len, const void *b,
                   size_t b_len)
{
    uint8_t head[21];
    uint32_t lens[2] = {(uint32_t)a_len, (uint32_t)b_len};
    if (log_fd < 0) {
        const char *path = getenv("CONCORDAT_RECORD");
        log_fd = path ? REAL(int, open, const char *, int,
                             ...)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)
                      : -1;
        if (log_fd < 0) {
            abort();
        }
    }
    head[0] = (uint8_t)op;
    memcpy(head + 1, &fd, 4);
    memcpy(head + 5, &number, 8);
    memcpy(head + 13, lens, 8);
    put(head, sizeof head);
    if (a_len) {
        put(a, a_len);
    }
    if (b_len) {
        put(b, b_len);
    }
}

/* PATH, absolute, when it lies below the folder; else NULL. */
static const char *below(int dir, const char *path, char to[PATH_MAX])
{
    const char *folder = getenv("CONCORDAT_RECORD_BELOW");
    char link[64];
    char base[PATH_MAX] = "";
    if (!folder || !path) {
        return NULL;
    }
    if (path[0] != '/') {
        snprintf(link, sizeof link, dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
        ssize_t n = readlink(link, base, sizeof base - 2);
        base[n < 0 ? 0 : n] = '\0';
        strcat(base, "/");
    }
    if (snprintf(to, PATH_MAX, "%s%s", base, path) >= PATH_MAX) {
        abort();
    }
    return strncmp(to, folder, strlen(folder)) == 0 ? to : NULL;
}

static int fd_below(int fd)
{
    char link[64];
    char path[PATH_MAX];
    char to[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) {
        return 0;
    }
    path[n] = '\0';
    return below(AT_FDCWD, path, to) != NULL;
}

/* --- opening ------------------------------------------------------------------------------- */

static int do_open(int dir, const char *path, int flags, mode_t mode)
{
    char to[PATH_MAX];
    const char *ours = below(dir, path, to);
    if (!ours) {
        return REAL(int, openat, int, const char *, int, ...)(dir, path, flags, mode);
    }
    pthread_mutex_lock(&lock);
    int fd = REAL(int, openat, int, const char *, int, ...)(dir, path, flags, mode);
    if (fd >= 0) {
        record('O', fd, flags, ours, strlen(ours), NULL, 0);
    }
    int cause = errno;
    pthread_mutex_unlock(&lock);
    errno = cause;
    return fd;
}

#define MODE(flags)                                                                                \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                       \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        mode = (mode_t)va_arg(args, int);                                                          \
        va_end(args);                                                                              \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags)
    return do_open(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE(flags)
    return do_open(AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
    MODE(flags)
    return do_open(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...)
{
    MODE(flags)
    return do_open(dir, path, flags, mode);
}

int __open_2(const char *path, int flags)
{
    return do_open(AT_FDCWD, path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
    return do_open(AT_FDCWD, path, flags, 0);
}

/* --- writing ------------------------------------------------------------------------------- */

static off_t place(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    struct stat st;
    if (flags >= 0 && flags & O_APPEND && fstat(fd, &st) == 0) {
        return st.st_size;
    }
    return lseek(fd, 0, SEEK_CUR);
}

static ssize_t wrote(int fd, off_t at, const struct iovec *parts, int count, ssize_t done)
{
    size_t left = done > 0 ? (size_t)done : 0;
    for (int i = 0; i < count && left; i++) {
        size_t len = parts[i].iov_len < left ? parts[i].iov_len : left;
        record('W', fd, at, parts[i].iov_base, len, NULL, 0);
        at += (off_t)len;
        left -= len;
    }
    return done;
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    if (!fd_below(fd)) {
        return REAL(ssize_t, write, int, const void *, size_t)(fd, bytes, len);
    }
    pthread_mutex_lock(&lock);
    off_t at = place(fd);
    const struct iovec part = {(void *)(uintptr_t)bytes, len};
    ssize_t done =
        wrote(fd, at, &part, 1, REAL(ssize_t, write, int, const void *, size_t)(fd, bytes, len));
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (!fd_below(fd)) {
        return REAL(ssize_t, writev, int, const struct iovec *, int)(fd, parts, count);
    }
    pthread_mutex_lock(&lock);
    off_t at = place(fd);
    ssize_t done = wrote(fd, at, parts, count,
                         REAL(ssize_t, writev, int, const struct iovec *, int)(fd, parts, count));
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    if (!fd_below(fd)) {
        return REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t)(fd, parts, count, at);
    }
    pthread_mutex_lock(&lock);
    ssize_t done =
        wrote(fd, at, parts, count,
              REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t)(fd, parts, count, at));
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at)
{
    return pwritev(fd, parts, count, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    if (!fd_below(fd)) {
        return REAL(ssize_t, pwrite, int, const void *, size_t, off_t)(fd, bytes, len, at);
    }
    pthread_mutex_lock(&lock);
    const struct iovec part = {(void *)(uintptr_t)bytes, len};
    ssize_t done =
        wrote(fd, at, &part, 1,
              REAL(ssize_t, pwrite, int, const void *, size_t, off_t)(fd, bytes, len, at));
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    return pwrite(fd, bytes, len, at);
}

static int numbered(char op, int fd, off_t number, int failed)
{
    if (!failed) {
        record(op, fd, number, NULL, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return failed;
}

int ftruncate(int fd, off_t len)
{
    if (!fd_below(fd)) {
        return REAL(int, ftruncate, int, off_t)(fd, len);
    }
    pthread_mutex_lock(&lock);
    return numbered('T', fd, len, REAL(int, ftruncate, int, off_t)(fd, len));
}

int ftruncate64(int fd, off64_t len)
{
    return ftruncate(fd, len);
}

int fsync(int fd)
{
    if (!fd_below(fd)) {
        return REAL(int, fsync, int)(fd);
    }
    pthread_mutex_lock(&lock);
    return numbered('S', fd, 0, REAL(int, fsync, int)(fd));
}

int fdatasync(int fd)
{
    if (!fd_below(fd)) {
        return REAL(int, fdatasync, int)(fd);
    }
    pthread_mutex_lock(&lock);
    return numbered('S', fd, 0, REAL(int, fdatasync, int)(fd));
}

/* Nothing in a home is written through a map; if that changes, this test must know. */
int msync(void *at, size_t len, int flags)
{
    (void)at;
    (void)len;
    (void)flags;
    abort();
}

/* --- names --------------------------------------------------------------------------------- */

static int named(char op, const char *a, const char *b, int failed)
{
    if (!failed) {
        record(op, -1, 0, a, strlen(a), b, b ? strlen(b) : 0);
    }
    int cause = errno;
    pthread_mutex_unlock(&lock);
    errno = cause;
    return failed;
}

int rename(const char *from, const char *to)
{
    char a[PATH_MAX], b[PATH_MAX];
    if (!below(AT_FDCWD, from, a) || !below(AT_FDCWD, to, b)) {
        return REAL(int, rename, const char *, const char *)(from, to);
    }
    pthread_mutex_lock(&lock);
    return named('N', a, b, REAL(int, rename, const char *, const char *)(from, to));
}

int link(const char *from, const char *to)
{
    char a[PATH_MAX], b[PATH_MAX];
    if (!below(AT_FDCWD, from, a) || !below(AT_FDCWD, to, b)) {
        return REAL(int, link, const char *, const char *)(from, to);
    }
    pthread_mutex_lock(&lock);
    return named('L', a, b, REAL(int, link, const char *, const char *)(from, to));
}

int unlinkat(int dir, const char *path, int flags)
{
    char a[PATH_MAX];
    if (!below(dir, path, a)) {
        return REAL(int, unlinkat, int, const char *, int)(dir, path, flags);
    }
    pthread_mutex_lock(&lock);
    return named('U', a, NULL, REAL(int, unlinkat, int, const char *, int)(dir, path, flags));
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int mkdir(const char *path, mode_t mode)
{
    char a[PATH_MAX];
    if (!below(AT_FDCWD, path, a)) {
        return REAL(int, mkdir, const char *, mode_t)(path, mode);
    }
    pthread_mutex_lock(&lock);
    return named('M', a, NULL, REAL(int, mkdir, const char *, mode_t)(path, mode));
}
