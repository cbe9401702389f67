#include "config.h"
#include "node/model/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err read_all(int fd, const char *path, struct buf *buf, struct err_info *reterr)
{
    struct stat stat;
    if (fstat(fd, &stat)) {
        return proto_err_set(reterr, E_IO, "%s: %s", path, strerror(errno));
    }
    if (!S_ISREG(stat.st_mode)) {
        return proto_err_set(reterr, E_INVALID, "%s is no regular file", path);
    }
    if ((uint64_t)stat.st_size > buf->max - buf->len) {
        return proto_err_set(reterr, E_LIMIT, "%s is longer than %zu bytes", path, buf->max);
    }
    size_t left = (size_t)stat.st_size;
    if (buf_reserve(buf, left)) {
        return proto_err_set(reterr, E_NO_MEMORY, "%s: no memory", path);
    }
    while (left > 0) {
        ssize_t n = read(fd, buf->ptr + buf->len, left);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return proto_err_set(reterr, E_IO, "%s: %s", path,
                                 n ? strerror(errno) : "it became shorter");
        }
        buf->len += (size_t)n;
        left -= (size_t)n;
    }
    return E_OK;
}

enum err model_folder_read(const char *folder, const char *name, struct buf *buf,
                           struct err_info *reterr)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= sizeof path) {
        return proto_err_set(reterr, E_LIMIT, "the path of %s is too long", name);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return proto_err_set(reterr, errno == ENOENT ? E_NOT_FOUND : E_IO, "%s: %s", path,
                             strerror(errno));
    }
    enum err err = read_all(fd, path, buf, reterr);
    close(fd);
    return err;
}

static enum err failed(const struct model_folder_file *file, struct err_info *reterr)
{
    enum err err = errno == ENOSPC || errno == EDQUOT ? E_DISK_FULL : E_IO;
    return proto_err_set(reterr, err, "%s: %s", file->path, strerror(errno));
}

enum err model_folder_create(struct model_folder_file *file, const char *folder, const char *name,
                             struct err_info *reterr)
{
    file->fd = -1;
    int n = snprintf(file->path, sizeof file->path, "%s/%s", folder, name);
    int m = snprintf(file->temporary, sizeof file->temporary, "%s/.%s.XXXXXX", folder, name);
    if (n < 0 || m < 0 || (size_t)m >= sizeof file->temporary) {
        return proto_err_set(reterr, E_LIMIT, "the path of %s is too long", name);
    }
    file->fd = mkostemp(file->temporary, O_CLOEXEC);
    return file->fd < 0 ? failed(file, reterr) : E_OK;
}

enum err model_folder_put(struct model_folder_file *file, struct span bytes,
                          struct err_info *reterr)
{
    while (bytes.len > 0) {
        ssize_t n = write(file->fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return failed(file, reterr);
        }
        bytes.ptr += n;
        bytes.len -= (size_t)n;
    }
    return E_OK;
}

/* The new name is on disk only when its folder is. */
static enum err sync_folder(const struct model_folder_file *file, struct err_info *reterr)
{
    char folder[PATH_MAX];
    size_t len = (size_t)(strrchr(file->path, '/') - file->path);
    memcpy(folder, file->path, len);
    folder[len] = 0;
    int fd = open(len ? folder : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = fd < 0 || fsync(fd) ? failed(file, reterr) : E_OK;
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

enum err model_folder_end(struct model_folder_file *file, enum err err, struct err_info *reterr)
{
    if (file->fd < 0) {
        return err;
    }
    if (!err && fsync(file->fd)) {
        err = failed(file, reterr);
    }
    if (close(file->fd) && !err) {
        err = failed(file, reterr);
    }
    file->fd = -1;
    if (!err && rename(file->temporary, file->path)) {
        err = failed(file, reterr);
    }
    if (err) {
        unlink(file->temporary);
        return err;
    }
    return sync_folder(file, reterr);
}

enum err model_folder_write(const char *folder, const char *name, struct span bytes,
                            struct err_info *reterr)
{
    struct model_folder_file file;
    enum err err = model_folder_create(&file, folder, name, reterr);
    err = err ? err : model_folder_put(&file, bytes, reterr);
    return model_folder_end(&file, err, reterr);
}
