/* The folder of blobs as a whole: what lies there, and what writers left. */
#include "config.h"
#include "store/blob.h"

#include "store/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* RET NULL: there is no folder yet. */
static enum err open_folder(const struct store *store, DIR **ret, struct err_info *reterr)
{
    char *path = store_file_path(store->home, "models", NULL);
    *ret = path ? opendir(path) : NULL;
    bool fine = *ret || (path && errno == ENOENT);
    proto_free(path);
    return fine ? E_OK
                : proto_err_set(reterr, path ? E_IO : E_NO_MEMORY,
                                "the folder of models cannot be listed");
}

enum err store_blob_each(struct store *store, store_blob_fn *each, void *user,
                         struct err_info *reterr)
{
    DIR *folder;
    const struct dirent *entry;
    enum err err = open_folder(store, &folder, reterr);
    while (!err && folder && (entry = readdir(folder))) {
        uint8_t hash[32];
        struct stat st;
        if (strlen(entry->d_name) == 64 && span_from_hex(entry->d_name, hash, 32) &&
            fstatat(dirfd(folder), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode)) {
            err = each(user, hash, (uint64_t)st.st_size);
        }
    }
    if (folder) {
        closedir(folder);
    }
    return err;
}

static bool ends(const char *name, size_t digits, const char *suffix)
{
    return strlen(name) == digits + strlen(suffix) && strspn(name, "0123456789abcdef") == digits &&
           strcmp(name + digits, suffix) == 0;
}

/* A writer holds a lock on its file for as long as it lives. */
static void remove_left(int folder, const char *name, int64_t before, struct store_blob_left *left)
{
    struct stat st;
    bool fresh = ends(name, 32, ".new");
    int fd = fresh || ends(name, 64, ".part")
                 ? openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
                 : -1;
    if (fd < 0) {
        return;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        (fresh || st.st_mtime < before) && unlinkat(folder, name, 0) == 0) {
        left->files++;
        left->bytes += (uint64_t)st.st_size;
    }
    close(fd);
}

enum err store_blob_tidy(struct store *store, int64_t before, struct store_blob_left *left,
                         struct err_info *reterr)
{
    DIR *folder;
    const struct dirent *entry;
    enum err err = open_folder(store, &folder, reterr);
    while (folder && (entry = readdir(folder))) {
        remove_left(dirfd(folder), entry->d_name, before, left);
    }
    if (folder) {
        closedir(folder);
    }
    return err;
}
