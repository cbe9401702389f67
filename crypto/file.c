#include "config.h"
#include "crypto/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err fail(struct err_info *reterr, const char *what, const char *path)
{
    int cause = errno;
    enum err err = cause == ENOENT                      ? E_NOT_FOUND
                   : cause == EEXIST                    ? E_EXISTS
                   : cause == ENOSPC || cause == EDQUOT ? E_DISK_FULL
                                                        : E_IO;
    return proto_err_set(reterr, err, "%s %s: %s", what, path, strerror(cause));
}

enum err crypto_file_read(const char *path, struct buf *buf, struct err_info *reterr)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return fail(reterr, "opening", path);
    }
    enum err err = E_OK;
    uint8_t part[4096];
    for (;;) {
        ssize_t n = read(fd, part, sizeof part);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            err = fail(reterr, "reading", path);
        } else if (n > 0) {
            err = buf_put(buf, span_of(part, (size_t)n));
            if (err) {
                proto_err_set(reterr, err, "reading %s: it is longer than %zu bytes", path,
                              buf->max);
            }
        }
        if (n <= 0 || err) {
            break;
        }
    }
    explicit_bzero(part, sizeof part); /* key files pass through here */
    close(fd);
    return err;
}

static bool write_all(int fd, struct span bytes)
{
    for (size_t done = 0; done < bytes.len;) {
        ssize_t n = write(fd, bytes.ptr + done, bytes.len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

static bool sync_directory(const char *path)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash) {
        snprintf(directory, sizeof directory, ".");
    } else {
        size_t len = slash == path ? 1 : (size_t)(slash - path);
        memcpy(directory, path, len);
        directory[len] = '\0';
    }
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    int cause = errno;
    if (fd >= 0) {
        close(fd);
    }
    errno = cause;
    return ok;
}

/* The replaced file has no name any more; its blocks would stay readable on the raw device. */
static void overwrite(int fd)
{
    static const uint8_t zeros[4096];
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_nlink != 0) {
        return; /* a hard link is somebody's copy and not ours to spoil */
    }
    off_t left = st.st_size;
    while (left > 0) {
        size_t n = left < (off_t)sizeof zeros ? (size_t)left : sizeof zeros;
        if (!write_all(fd, span_of(zeros, n))) {
            return;
        }
        left -= (off_t)n;
    }
    (void)fsync(fd);
}

static enum err write_new(const char *path, struct span bytes, struct err_info *reterr)
{
    if (unlink(path) != 0 && errno != ENOENT) {
        return fail(reterr, "removing the remains of", path);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return fail(reterr, "creating", path);
    }
    enum err err = E_OK;
    if (!write_all(fd, bytes) || fsync(fd) != 0) {
        err = fail(reterr, "writing", path);
    }
    if (close(fd) != 0 && !err) {
        err = fail(reterr, "writing", path);
    }
    if (err) {
        unlink(path);
    }
    return err;
}

enum err crypto_file_write(const char *path, struct span bytes, bool fresh, struct err_info *reterr)
{
    char beside[PATH_MAX];
    int n = snprintf(beside, sizeof beside, "%s.new", path);
    if (n < 0 || (size_t)n >= sizeof beside) {
        return proto_err_set(reterr, E_LIMIT, "the path is too long");
    }
    enum err err = write_new(beside, bytes, reterr);
    if (err) {
        return err;
    }
    int old = fresh ? -1 : open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    /* link() refuses an existing name, which rename() would replace. */
    if (fresh ? link(beside, path) != 0 : rename(beside, path) != 0) {
        err = fail(reterr, "moving to", path);
        unlink(beside);
    } else {
        if (fresh) {
            unlink(beside);
        }
        if (!sync_directory(path)) {
            err = fail(reterr, "syncing the directory of", path);
        }
    }
    if (old >= 0) {
        if (!err) {
            overwrite(old);
        }
        close(old);
    }
    return err;
}

void crypto_file_tidy(const char *path)
{
    char beside[PATH_MAX];
    int n = snprintf(beside, sizeof beside, "%s.new", path);
    int fd =
        n > 0 && (size_t)n < sizeof beside ? open(beside, O_WRONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (fd >= 0) {
        if (unlink(beside) == 0) {
            overwrite(fd);
        }
        close(fd);
    }
}
