#include "config.h"
#include "store/env.h"

#include "proto/alloc.h"
#include "store/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FULL_BYTES ((uint64_t)256 << 10) /* less than this free counts as full after an EIO */
#define MAP_MIN    ((size_t)1 << 20)

struct store_env {
    struct store_env *next;
    char *path; /* resolved */
    unsigned flags;
    size_t users;
    MDB_env *mdb;
    int owner; /* the locked file; -1: none */
};

/* All open files of the process. */
static struct {
    pthread_mutex_t lock;
    struct store_env *first;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* --- errors -------------------------------------------------------------------------------- */

/* LMDB reports a write that was cut short, which is how a full disk or a file size limit shows, as
 * EIO. So look whether one of our files has room to grow. */
static bool no_room(const char *path)
{
    struct statvfs disk;
    if (statvfs(path, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize < FULL_BYTES) {
        return true;
    }
    struct rlimit limit;
    struct stat file;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           stat(path, &file) == 0 && (uint64_t)file.st_size + FULL_BYTES >= limit.rlim_cur;
}

static bool any_full(void)
{
    bool full = false;
    pthread_mutex_lock(&registry.lock);
    for (struct store_env *env = registry.first; env && !full; env = env->next) {
        full = !(env->flags & STORE_ENV_READONLY) && no_room(env->path);
    }
    pthread_mutex_unlock(&registry.lock);
    return full;
}

static enum err code_of(int rc, bool full)
{
    switch (rc) {
    case 0:
        return E_OK;
    case ENOMEM:
        return E_NO_MEMORY;
    case ENOENT:
    case MDB_NOTFOUND:
        return E_NOT_FOUND;
    case MDB_KEYEXIST:
        return E_EXISTS;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return E_DISK_FULL;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_BAD_VALSIZE:
        return E_CORRUPT;
    case MDB_READERS_FULL:
    case MDB_TXN_FULL:
    case EAGAIN:
        return E_BUSY;
    default:
        return full ? E_DISK_FULL : E_IO;
    }
}

enum err store_env_error(int mdb_rc, const char *doing, struct err_info *reterr)
{
    enum err code = code_of(mdb_rc, mdb_rc == EIO && any_full());
    return proto_err_set(reterr, code ? code : E_INTERNAL, "%s: %s", doing,
                         code == E_DISK_FULL ? "no space left" : mdb_strerror(mdb_rc));
}

enum err store_env_errno(int code, const char *path, struct err_info *reterr)
{
    enum err err = code_of(code, code == EIO && no_room(path));
    const char *name = strrchr(path, '/');
    return proto_err_set(reterr, err ? err : E_INTERNAL, "%s: %s", name ? name + 1 : path,
                         err == E_DISK_FULL ? "no space left" : strerror(code));
}

/* --- opening ------------------------------------------------------------------------------- */

/* The file may not exist yet, so its folder is resolved and the name appended. */
static char *resolve(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    char *real = folder ? realpath(folder, NULL) : NULL;
    char *ret = NULL;
    if (real && asprintf(&ret, "%s/%s", real, slash ? slash + 1 : path) < 0) {
        ret = NULL;
    }
    free(folder);
    free(real);
    return ret;
}

static enum err take_owner(struct store_env *env, struct err_info *reterr)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s-owner", env->path) >= (int)sizeof path) {
        return proto_err_set(reterr, E_LIMIT, "the path is too long");
    }
    env->owner = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (env->owner < 0) {
        return store_env_errno(errno, path, reterr);
    }
    if (flock(env->owner, LOCK_EX | LOCK_NB)) {
        return proto_err_set(reterr, E_BUSY, "another process holds %s", env->path);
    }
    return E_OK;
}

/* Reading past the end of a cut file through the map would be a SIGBUS. */
static enum err check_length(struct store_env *env, struct err_info *reterr)
{
    MDB_envinfo info;
    MDB_stat pages;
    struct stat file;
    int fd;
    int rc = mdb_env_info(env->mdb, &info);
    rc = rc ? rc : mdb_env_stat(env->mdb, &pages);
    rc = rc ? rc : mdb_env_get_fd(env->mdb, &fd);
    if (rc) {
        return store_env_error(rc, env->path, reterr);
    }
    if (fstat(fd, &file)) {
        return store_env_errno(errno, env->path, reterr);
    }
    if (((uint64_t)info.me_last_pgno + 1) * pages.ms_psize > (uint64_t)file.st_size) {
        return proto_err_set(reterr, E_CORRUPT, "%s is shorter than its pages", env->path);
    }
    return E_OK;
}

/* A finished partition is covered by its trailer, a new file has nothing to follow; else nobody else writes it now. */
static enum err check_pages(struct store_env *env, struct err_info *reterr)
{
    int fd = open(env->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat file;
    uint64_t page = 0;
    enum err err = E_OK;
    if (fd >= 0 && fstat(fd, &file) == 0 && file.st_size > 0) {
        err = store_pages_check(fd, &page);
    }
    if (fd >= 0) {
        close(fd);
    }
    return err ? proto_err_set(
                     reterr, err, "%s: page %llu: %s", env->path, (unsigned long long)page,
                     err == E_CORRUPT ? "it was changed or is damaged" : proto_err_text(err))
               : E_OK;
}

static unsigned mdb_flags(unsigned flags)
{
    unsigned ret = MDB_NOSUBDIR | MDB_NOTLS;
    ret |= flags & STORE_ENV_READONLY ? MDB_RDONLY : 0;
    ret |= flags & STORE_ENV_BULK ? MDB_NOSYNC | MDB_NOLOCK : 0;
    ret |= flags & STORE_ENV_IMMUTABLE ? MDB_NOLOCK : 0;
    return ret;
}

static enum err open_mdb(struct store_env *env, size_t map_bytes, struct err_info *reterr)
{
    bool shared = !(env->flags & (STORE_ENV_BULK | STORE_ENV_IMMUTABLE | STORE_ENV_READONLY));
    enum err err = shared ? take_owner(env, reterr) : E_OK;
    if (!err && (shared || env->flags & STORE_ENV_CHECKED)) {
        err = check_pages(env, reterr);
    }
    if (err) {
        return err;
    }
    int rc = mdb_env_create(&env->mdb);
    rc = rc ? rc : mdb_env_set_maxreaders(env->mdb, STORE_ENV_READERS);
    rc = rc ? rc : mdb_env_set_maxdbs(env->mdb, 64);
    if (!rc && map_bytes) {
        rc = mdb_env_set_mapsize(env->mdb, map_bytes < MAP_MIN ? MAP_MIN : map_bytes);
    }
    rc = rc ? rc : mdb_env_open(env->mdb, env->path, mdb_flags(env->flags), 0600);
    if (rc) {
        bool full = rc == EIO && no_room(env->path);
        return full ? proto_err_set(reterr, E_DISK_FULL, "%s: no space left", env->path)
                    : proto_err_set(reterr, code_of(rc, false), "%s: %s", env->path,
                                    mdb_strerror(rc));
    }
    int dead;
    if (shared) {
        (void)mdb_reader_check(env->mdb, &dead); /* slots of a daemon that was killed */
    }
    return check_length(env, reterr);
}

static void dispose(struct store_env *env)
{
    if (env->mdb) {
        mdb_env_close(env->mdb);
    }
    if (env->owner >= 0) {
        close(env->owner);
    }
    free(env->path);
    proto_free(env);
}

/* With the registry locked. */
static enum err open_locked(char *path, unsigned flags, size_t map_bytes, struct store_env **ret,
                            struct err_info *reterr)
{
    for (struct store_env *env = registry.first; env; env = env->next) {
        if (strcmp(env->path, path) == 0) {
            free(path);
            if (env->flags != flags) {
                return proto_err_set(reterr, E_BUSY, "%s is open in another way", env->path);
            }
            env->users++;
            *ret = env;
            return E_OK;
        }
    }
    struct store_env *env = proto_alloc(1, sizeof *env);
    if (!env) {
        free(path);
        return proto_err_set(reterr, E_NO_MEMORY, "opening a file");
    }
    *env = (struct store_env){.path = path, .flags = flags, .users = 1, .owner = -1};
    enum err err = open_mdb(env, map_bytes, reterr);
    if (err) {
        dispose(env);
        return err;
    }
    env->next = registry.first;
    registry.first = env;
    *ret = env;
    return E_OK;
}

enum err store_env_open(const char *path, unsigned flags, size_t map_bytes, struct store_env **ret,
                        struct err_info *reterr)
{
    char *resolved = resolve(path);
    if (!resolved) {
        return proto_err_set(reterr, errno == ENOENT ? E_NOT_FOUND : E_IO, "%s: %s", path,
                             strerror(errno));
    }
    pthread_mutex_lock(&registry.lock);
    enum err err = open_locked(resolved, flags, map_bytes, ret, reterr);
    pthread_mutex_unlock(&registry.lock);
    return err;
}

void store_env_close(struct store_env *env)
{
    if (!env) {
        return;
    }
    pthread_mutex_lock(&registry.lock);
    if (--env->users == 0) {
        struct store_env **at = &registry.first;
        while (*at != env) {
            at = &(*at)->next;
        }
        *at = env->next;
        dispose(env);
    }
    pthread_mutex_unlock(&registry.lock);
}

MDB_env *store_env_mdb(struct store_env *env)
{
    return env->mdb;
}

enum err store_env_sync(struct store_env *env, struct err_info *reterr)
{
    int rc = mdb_env_sync(env->mdb, 1);
    return rc ? store_env_error(rc, "syncing", reterr) : E_OK;
}
