/* For tests only: preloaded, it fails the n-th call that writes to a file (CONCORDAT_FAULT_AT=n, from 1) and all later ones when
 * CONCORDAT_FAULT_KIND is "full" (ENOSPC) or "io" (EIO); with "once" only the n-th fails; with "short" the n-th write takes only half of its bytes; with "kill" the process dies instead. What counts: write,
 * writev, pwrite, pwritev, fsync, fdatasync, ftruncate, rename, link, msync and creating opens, on paths and descriptors below
 * CONCORDAT_FAULT_BELOW. The number of calls is written to the descriptor CONCORDAT_FAULT_COUNT at exit. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic long calls;

static long setting(const char *name)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

static int below(const char *path)
{
    const char *folder = getenv("CONCORDAT_FAULT_BELOW");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int fd_below(int fd)
{
    char link[64];
    char path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) {
        return 0;
    }
    path[n] = '\0';
    return below(path);
}

static const char *kind(void)
{
    const char *text = getenv("CONCORDAT_FAULT_KIND");
    return text ? text : "";
}

/* 1: this call fails, with errno set; 2: it is cut short. */
static int fault(int writes)
{
    long at = setting("CONCORDAT_FAULT_AT");
    long now = ++calls;
    if (at == 0 || now < at) {
        return 0;
    }
    if (strcmp(kind(), "short") == 0) {
        return now == at && writes ? 2 : 0;
    }
    if (strcmp(kind(), "kill") == 0) {
        kill(getpid(), SIGKILL); /* before the call has any effect */
    }
    if (strcmp(kind(), "once") == 0 && now > at) {
        return 0;
    }
    errno = strcmp(kind(), "full") == 0 ? ENOSPC : EIO;
    return 1;
}

__attribute__((destructor)) static void report(void)
{
    int fd = (int)setting("CONCORDAT_FAULT_COUNT");
    if (fd > 2) {
        dprintf(fd, "%ld\n", (long)calls);
    }
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t len)
{
    int hit = fd_below(fd) ? fault(1) : 0;
    if (hit == 1) {
        return -1;
    }
    return REAL(ssize_t, write, int, const void *, size_t)(fd, bytes,
                                                           hit == 2 && len > 1 ? len / 2 : len);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    int hit = fd_below(fd) ? fault(1) : 0;
    if (hit == 1) {
        return -1;
    }
    return REAL(ssize_t, pwrite, int, const void *, size_t,
                off_t)(fd, bytes, hit == 2 && len > 1 ? len / 2 : len, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    return pwrite(fd, bytes, len, at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    int hit = fd_below(fd) ? fault(1) : 0;
    if (hit == 1) {
        return -1;
    }
    return REAL(ssize_t, pwritev, int, const struct iovec *, int,
                off_t)(fd, parts, hit == 2 && count > 1 ? count / 2 : count, at);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at)
{
    return pwritev(fd, parts, count, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return fd_below(fd) && fault(0) == 1
               ? -1
               : REAL(ssize_t, writev, int, const struct iovec *, int)(fd, parts, count);
}

int fsync(int fd)
{
    return fd_below(fd) && fault(0) == 1 ? -1 : REAL(int, fsync, int)(fd);
}

int fdatasync(int fd)
{
    return fd_below(fd) && fault(0) == 1 ? -1 : REAL(int, fdatasync, int)(fd);
}

int msync(void *at, size_t len, int flags)
{
    return fault(0) == 1 ? -1 : REAL(int, msync, void *, size_t, int)(at, len, flags);
}

int ftruncate(int fd, off_t len)
{
    return fd_below(fd) && fault(0) == 1 ? -1 : REAL(int, ftruncate, int, off_t)(fd, len);
}

int ftruncate64(int fd, off64_t len)
{
    return ftruncate(fd, len);
}

int rename(const char *from, const char *to)
{
    return below(to) && fault(0) == 1 ? -1
                                      : REAL(int, rename, const char *, const char *)(from, to);
}

int link(const char *from, const char *to)
{
    return below(to) && fault(0) == 1 ? -1 : REAL(int, link, const char *, const char *)(from, to);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    if ((flags & O_CREAT) && below(path) && fault(0) == 1) {
        return -1;
    }
    return REAL(int, open, const char *, int, ...)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open(path, flags | O_LARGEFILE, mode);
}
