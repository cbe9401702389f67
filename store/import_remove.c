/* What goes away again: leftovers of imports that were cut off, and datasets that are removed. */
#include "config.h"
#include "store/import_internal.h"

#include "store/catalogue.h"
#include "store/claim.h"
#include "store/partition_cache.h"
#include "store/rotate.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct wanted {
    struct buf uuids;
};

static enum err want(void *user, const struct store_dataset *row)
{
    return buf_put(&((struct wanted *)user)->uuids, span_of(row->partition_uuid, 16));
}

static bool is_wanted(const struct wanted *wanted, const char *name)
{
    char hex[33];
    uint8_t uuid[16];
    snprintf(hex, sizeof hex, "%.32s", name);
    if (strlen(name) != 36 || strcmp(name + 32, ".mdb") != 0 || !span_from_hex(hex, uuid, 16)) {
        return true; /* not ours to remove */
    }
    for (size_t at = 0; at < wanted->uuids.len; at += 16) {
        if (memcmp(wanted->uuids.ptr + at, uuid, 16) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_unfinished(const char *name)
{
    size_t len = strlen(name);
    return len >= 4 && strcmp(name + len - 4, ".new") == 0;
}

enum err store_import_recover(struct store *store, struct err_info *reterr)
{
    struct wanted wanted = {.uuids = {.max = (size_t)16 << 20}};
    enum err err = store_catalogue_each(store, want, &wanted, reterr);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/partitions", store->home);
    DIR *folder = err ? NULL : opendir(path);
    if (!err && !folder && errno != ENOENT) {
        err = store_env_errno(errno, path, reterr);
    }
    const struct dirent *entry;
    while (folder && (entry = readdir(folder)) != NULL) {
        if (is_unfinished(entry->d_name) || !is_wanted(&wanted, entry->d_name)) {
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
        }
    }
    if (folder) {
        closedir(folder);
    }
    buf_fini(&wanted.uuids);
    return err;
}

enum err store_import_remove(struct store *store, const char *dataset, struct err_info *reterr)
{
    struct store_claim self = {.store = store, .dataset = dataset};
    struct arena arena = {0};
    struct store_dataset row;
    char name[CRYPTO_KEYRING_NAME];
    char path[PATH_MAX];
    if (!store_claim_enter(&self)) {
        return proto_err_set(reterr, E_BUSY, "dataset %s is being imported or given a new key",
                             dataset);
    }
    enum err err = store_catalogue_get(store, dataset, &arena, &row, reterr);
    if (!err) {
        import_key_name(dataset, name);
        err = crypto_keyring_shred(store->keyring, name, reterr);
        err = err == E_NOT_FOUND ? E_OK : err; /* an earlier removal came this far */
    }
    if (!err) {
        store_rotate_name(dataset, name);
        err = crypto_keyring_shred(store->keyring, name, reterr);
        err = err == E_NOT_FOUND ? E_OK : err; /* no rotation was under way */
    }
    store_partition_forget(store, dataset); /* and with it the copy of its key in memory */
    err = err ? err : store_keyring_anchor(store, reterr);
    err = err ? err : store_pseudonym_remove(store, dataset, reterr);
    if (!err && store_partition_path(store->home, row.partition_uuid, "", path, sizeof path) &&
        unlink(path) && errno != ENOENT) {
        err = store_env_errno(errno, path, reterr);
    }
    err = err ? err : store_catalogue_remove(store, dataset, reterr);
    arena_fini(&arena);
    store_claim_leave(&self);
    return err;
}
