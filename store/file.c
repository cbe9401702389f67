#include "config.h"
#include "store/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err file_error(const char *doing, const char *path, struct err_info *reterr)
{
    int saved = errno;
    enum err err = saved == ENOENT                                        ? E_NOT_FOUND
                   : saved == ENOSPC || saved == EDQUOT || saved == EFBIG ? E_DISK_FULL
                                                                          : E_IO;
    return proto_err_set(reterr, err, "%s %s: %s", doing, path, strerror(saved));
}

enum err store_file_read(const char *path, struct buf *buf, struct err_info *reterr)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return file_error("opening", path, reterr);
    }
    struct stat st;
    enum err err = fstat(fd, &st) ? file_error("opening", path, reterr) : E_OK;
    if (!err && st.st_size > 0) {
        err = buf_reserve(buf, (size_t)st.st_size);
    }
    while (!err) {
        if (buf_reserve(buf, 1) && (err = buf->len >= buf->max ? E_LIMIT : E_NO_MEMORY)) {
            uint8_t more;
            err = read(fd, &more, 1) == 0 ? E_OK : err;
            break;
        }
        ssize_t n = read(fd, buf->ptr + buf->len, buf->cap - buf->len);
        if (n < 0 && errno != EINTR) {
            err = file_error("reading", path, reterr);
        } else if (n == 0) {
            break;
        } else if (n > 0) {
            buf->len += (size_t)n;
        }
    }
    close(fd);
    if (err == E_LIMIT || err == E_NO_MEMORY) {
        (void)proto_err_set(reterr, err, "reading %s: %s", path, proto_err_text(err));
    }
    return err;
}

enum err store_file_sync_parent(const char *path, struct err_info *reterr)
{
    char dir[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 1;
    if (n >= sizeof dir) {
        return proto_err_set(reterr, E_LIMIT, "the path is too long");
    }
    memcpy(dir, slash ? path : ".", n);
    dir[n] = '\0';
    int fd = open(n ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = fd < 0 || fsync(fd) ? file_error("syncing", dir, reterr) : E_OK;
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

static enum err write_all(int fd, const char *path, struct span bytes, struct err_info *reterr)
{
    while (bytes.len) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);
        if (n < 0 && errno != EINTR) {
            return file_error("writing", path, reterr);
        }
        if (n > 0) {
            bytes.ptr += n;
            bytes.len -= (size_t)n;
        }
    }
    return fsync(fd) ? file_error("syncing", path, reterr) : E_OK;
}

enum err store_file_write(const char *path, struct span bytes, struct err_info *reterr)
{
    char temp[4096];
    int n = snprintf(temp, sizeof temp, "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof temp) {
        return proto_err_set(reterr, E_LIMIT, "the path is too long");
    }
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return file_error("creating", temp, reterr);
    }
    enum err err = write_all(fd, temp, bytes, reterr);
    close(fd);
    if (!err && rename(temp, path)) {
        err = file_error("renaming", temp, reterr);
    }
    if (err) {
        unlink(temp);
        return err;
    }
    return store_file_sync_parent(path, reterr);
}

enum err store_file_mkdir(const char *path, struct err_info *reterr)
{
    return mkdir(path, 0700) && errno != EEXIST ? file_error("making", path, reterr) : E_OK;
}

enum err store_file_sweep(const char *dir, const char *suffix, struct err_info *reterr)
{
    DIR *open_dir = opendir(dir);
    if (!open_dir) {
        return file_error("listing", dir, reterr);
    }
    enum err err = E_OK;
    struct dirent *entry;
    while (!err && (entry = readdir(open_dir))) {
        size_t len = strlen(entry->d_name);
        size_t tail = strlen(suffix);
        if (len > tail && strcmp(entry->d_name + len - tail, suffix) == 0 &&
            unlinkat(dirfd(open_dir), entry->d_name, 0)) {
            err = file_error("removing", entry->d_name, reterr);
        }
    }
    closedir(open_dir);
    return err;
}

bool store_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

char *store_file_path(const char *home, const char *a, const char *b)
{
    size_t n = strlen(home) + strlen(a) + (b ? strlen(b) : 0) + 3;
    char *path = proto_alloc(n, 1);
    if (path) {
        snprintf(path, n, "%s/%s%s%s", home, a, b ? "/" : "", b ? b : "");
    }
    return path;
}
