#include "config.h"
#include "node/model/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
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
