#include "config.h"
#include "store/backup.h"

#include "crypto/kdf.h"
#include "crypto/provider.h"
#include "store/audit.h"
#include "store/catalogue.h"
#include "store/env.h"
#include "store/file.h"
#include "store/partition_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKUP_TRIES 5
#define LIST_MAX     ((size_t)64 << 20)
#define PART         ((size_t)1 << 20)
#define FILES_MAX    100000

struct entry {
    char *path; /* relative */
    uint64_t bytes;
    uint8_t hash[32];
};

struct list {
    struct entry *items;
    size_t count;
    size_t cap;
};

static void list_fini(struct list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        proto_free(list->items[i].path);
    }
    proto_free(list->items);
    *list = (struct list){0};
}

static enum err list_add(struct list *list, const char *path)
{
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        struct entry *items =
            cap > 2 * FILES_MAX ? NULL : proto_realloc(list->items, cap, sizeof *items);
        if (!items) {
            return E_NO_MEMORY;
        }
        list->items = items;
        list->cap = cap;
    }
    struct entry entry = {.path = proto_strdup(path)};
    list->items[list->count] = entry;
    list->count += entry.path != NULL;
    return entry.path ? E_OK : E_NO_MEMORY;
}

static bool join(const char *folder, const char *name, char to[PATH_MAX])
{
    return snprintf(to, PATH_MAX, "%s/%s", folder, name) < PATH_MAX;
}

static enum err too_long(struct err_info *reterr)
{
    return proto_err_set(reterr, E_LIMIT, "the path is too long");
}

/* --- files --------------------------------------------------------------------------------- */

struct hasher {
    uint8_t state[32];
    uint64_t bytes;
};

/* SHA-256 of (state | part) for each part of 1 MiB: files of any size need no streaming hash. */
static void hash_part(struct hasher *hasher, struct span part)
{
    struct span parts[2] = {span_of(hasher->state, 32), part};
    uint8_t next[32];
    crypto_sha256(parts, 2, next);
    memcpy(hasher->state, next, 32);
    hasher->bytes += part.len;
}

/* Fills PART as far as the file reaches. */
static ssize_t read_part(int fd, uint8_t *part)
{
    size_t len = 0;
    while (len < PART) {
        ssize_t got = read(fd, part + len, PART - len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -1;
        }
        if (got == 0) {
            break;
        }
        len += (size_t)got;
    }
    return (ssize_t)len;
}

static bool write_part(int fd, const uint8_t *part, size_t len)
{
    while (len) {
        ssize_t put = write(fd, part, len);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            errno = put == 0 ? ENOSPC : errno;
            return false;
        }
        part += put;
        len -= (size_t)put;
    }
    return true;
}

static enum err hash_file(const char *path, uint8_t ret[32], uint64_t *ret_bytes,
                          struct err_info *reterr)
{
    struct hasher hasher = {0};
    uint8_t *part = proto_alloc(1, PART);
    int fd = part ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (fd < 0) {
        enum err err = part ? store_env_errno(errno, path, reterr) : E_NO_MEMORY;
        proto_free(part);
        return err;
    }
    ssize_t got;
    while ((got = read_part(fd, part)) > 0) {
        hash_part(&hasher, span_of(part, (size_t)got));
    }
    enum err err = got < 0 ? store_env_errno(errno, path, reterr) : E_OK;
    close(fd);
    proto_free(part);
    memcpy(ret, hasher.state, 32);
    *ret_bytes = hasher.bytes;
    return err;
}

/* Copies FROM to the new file TO and syncs it; the hash is that of what was read. */
static enum err copy_file(const char *from, const char *to, struct entry *entry,
                          struct err_info *reterr)
{
    struct hasher hasher = {0};
    uint8_t *part = proto_alloc(1, PART);
    if (!part) {
        return proto_err_set(reterr, E_NO_MEMORY, "copying %s", entry->path);
    }
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    enum err err = in < 0 ? store_env_errno(errno, from, reterr) : E_OK;
    int out = err ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (!err && out < 0) {
        err = store_env_errno(errno, to, reterr);
    }
    ssize_t got = 0;
    while (!err && (got = read_part(in, part)) > 0) {
        hash_part(&hasher, span_of(part, (size_t)got));
        err = write_part(out, part, (size_t)got) ? E_OK : store_env_errno(errno, to, reterr);
    }
    if (!err && (got < 0 || fsync(out))) {
        err = store_env_errno(errno, got < 0 ? from : to, reterr);
    }
    if (in >= 0) {
        close(in);
    }
    if (out >= 0 && close(out) && !err) {
        err = store_env_errno(errno, to, reterr);
    }
    proto_free(part);
    memcpy(entry->hash, hasher.state, 32);
    entry->bytes = hasher.bytes;
    return err;
}

static enum err sync_folder(const char *path, struct err_info *reterr)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = fd < 0 || fsync(fd) ? store_env_errno(errno, path, reterr) : E_OK;
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

/* The folder of a listed path, which is one level deep at most. */
static enum err make_parent(const char *dir, const char *relative, struct err_info *reterr)
{
    char path[PATH_MAX];
    const char *slash = strchr(relative, '/');
    if (!slash) {
        return E_OK;
    }
    if (snprintf(path, sizeof path, "%s/%.*s", dir, (int)(slash - relative), relative) >=
        (int)sizeof path) {
        return too_long(reterr);
    }
    return store_file_mkdir(path, reterr);
}

static enum err sync_all(const char *dir, const struct list *list, struct err_info *reterr)
{
    enum err err = E_OK;
    for (size_t i = 0; i < list->count && !err; i++) {
        char path[PATH_MAX];
        const char *slash = strchr(list->items[i].path, '/');
        if (slash && snprintf(path, sizeof path, "%s/%.*s", dir, (int)(slash - list->items[i].path),
                              list->items[i].path) < (int)sizeof path) {
            err = sync_folder(path, reterr);
        }
    }
    return err ? err : sync_folder(dir, reterr);
}

/* What this module wrote goes again; folders only when they are empty then. */
static void remove_copies(const char *dir, const struct list *list)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < list->count; i++) {
        if (join(dir, list->items[i].path, path)) {
            (void)unlink(path);
        }
    }
    for (size_t i = 0; i < list->count; i++) {
        const char *slash = strchr(list->items[i].path, '/');
        if (slash && snprintf(path, sizeof path, "%s/%.*s", dir, (int)(slash - list->items[i].path),
                              list->items[i].path) < (int)sizeof path) {
            (void)rmdir(path);
        }
    }
}

static enum err copy_list(const char *from, const char *to, struct list *list,
                          const struct store_backup_options *options, struct err_info *reterr)
{
    enum err err = E_OK;
    for (size_t i = 0; i < list->count && !err; i++) {
        char source[PATH_MAX];
        char target[PATH_MAX];
        struct entry *entry = &list->items[i];
        if (!join(from, entry->path, source) || !join(to, entry->path, target)) {
            return too_long(reterr);
        }
        if (options && options->cancelled && options->cancelled(options->user)) {
            return proto_err_set(reterr, E_CANCELLED, "cancelled");
        }
        err = make_parent(to, entry->path, reterr);
        if (!err && strcmp(entry->path, "node.mdb") != 0) {
            err = copy_file(source, target, entry, reterr);
        }
        if (!err && options && options->progress) {
            options->progress(options->user, i + 1, list->count);
        }
    }
    return err;
}

/* Whether the copies hold on disk what was read. */
static enum err read_back(const char *dir, const struct list *list, struct err_info *reterr)
{
    enum err err = E_OK;
    for (size_t i = 0; i < list->count && !err; i++) {
        char path[PATH_MAX];
        uint8_t hash[32];
        uint64_t bytes = 0;
        const struct entry *entry = &list->items[i];
        err =
            join(dir, entry->path, path) ? hash_file(path, hash, &bytes, reterr) : too_long(reterr);
        if (err == E_NOT_FOUND) {
            err = proto_err_set(reterr, E_CORRUPT, "%s is missing in the backup", entry->path);
        }
        if (!err && (bytes != entry->bytes || memcmp(hash, entry->hash, 32) != 0)) {
            err = proto_err_set(reterr, E_CORRUPT, "%s is not what the backup says of it",
                                entry->path);
        }
    }
    return err;
}

/* --- the list BACKUP ------------------------------------------------------------------------ */

static enum err list_mac(struct crypto_keyring *keyring, struct span text, uint8_t ret[32])
{
    struct crypto_key *node = NULL;
    uint8_t key[32];
    enum err err = crypto_keyring_copy(keyring, "node", &node);
    err = err ? err
              : crypto_hkdf_expand(node->bytes, span_str("concordat/backup/1"), key, sizeof key);
    if (!err) {
        crypto_hmac(span_of(key, sizeof key), &text, 1, ret);
    }
    crypto_wipe(key, sizeof key);
    crypto_key_free(node);
    return err;
}

static enum err list_write(const char *dir, const struct list *list, struct crypto_keyring *keyring,
                           const struct store_backup_report *report, struct err_info *reterr)
{
    struct buf text = {.max = LIST_MAX};
    char path[PATH_MAX];
    char hex[65];
    uint8_t mac[32];
    enum err err =
        buf_printf(&text, "concordat-backup 1\nnode %s\ntime %lld\nseq %llu\n", report->node_id,
                   (long long)report->time, (unsigned long long)report->seq);
    for (size_t i = 0; i < list->count && !err; i++) {
        span_to_hex(span_of(list->items[i].hash, 32), hex);
        err = buf_printf(&text, "file %s %llu %s\n", hex, (unsigned long long)list->items[i].bytes,
                         list->items[i].path);
    }
    err = err ? err : list_mac(keyring, buf_span(&text), mac);
    if (!err) {
        span_to_hex(span_of(mac, 32), hex);
        err = buf_printf(&text, "mac %s\n", hex);
    }
    if (err) {
        proto_err_set(reterr, err, "the backup's list");
    } else {
        err = join(dir, STORE_BACKUP_FILE, path) ? store_file_write(path, buf_span(&text), reterr)
                                                 : too_long(reterr);
    }
    buf_fini(&text);
    return err;
}

/* No way out of the folder: one folder at most, and no names with dots in front. */
static bool path_plain(const char *path)
{
    size_t slashes = 0;
    for (const char *p = path; *p; p++) {
        slashes += *p == '/';
        if (*p < ' ' || (*p == '.' && (p == path || p[-1] == '/')) || *p == '\x7f') {
            return false;
        }
    }
    size_t len = strlen(path);
    return len > 0 && slashes <= 1 && path[0] != '/' && path[len - 1] != '/';
}

static enum err parse_file(struct list *list, const char *line)
{
    char hex[65];
    unsigned long long bytes = 0;
    int used = 0;
    struct entry *entry;
    if (sscanf(line, "file %64[0-9a-f] %19llu %n", hex, &bytes, &used) != 2 || used == 0 ||
        strlen(hex) != 64 || !path_plain(line + used) || list->count >= FILES_MAX ||
        list_add(list, line + used)) {
        return E_CORRUPT;
    }
    entry = &list->items[list->count - 1];
    entry->bytes = bytes;
    return span_from_hex(hex, entry->hash, 32) ? E_OK : E_CORRUPT;
}

static enum err parse_line(const char *line, size_t number, struct list *list,
                           struct store_backup_report *ret)
{
    long long time = 0;
    unsigned long long seq = 0;
    switch (number) {
    case 0:
        return strcmp(line, "concordat-backup 1") == 0 ? E_OK : E_CORRUPT;
    case 1:
        return sscanf(line, "node %32[0-9a-f]", ret->node_id) == 1 ? E_OK : E_CORRUPT;
    case 2:
        if (sscanf(line, "time %18lld", &time) != 1) {
            return E_CORRUPT;
        }
        ret->time = time;
        return E_OK;
    case 3:
        if (sscanf(line, "seq %19llu", &seq) != 1) {
            return E_CORRUPT;
        }
        ret->seq = seq;
        return E_OK;
    default:
        return parse_file(list, line);
    }
}

static enum err list_read(const char *dir, const struct crypto_unlock *unlock, struct list *list,
                          struct store_backup_report *ret, struct err_info *reterr)
{
    struct buf text = {.max = LIST_MAX};
    struct crypto_keyring *keyring = NULL;
    char path[PATH_MAX];
    uint8_t mac[32];
    uint8_t stated[32];
    enum err err = join(dir, STORE_BACKUP_FILE, path) ? store_file_read(path, &text, reterr)
                                                      : too_long(reterr);
    if (err == E_NOT_FOUND) {
        err = proto_err_set(reterr, err, "%s is no whole backup: it has no file " STORE_BACKUP_FILE,
                            dir);
    }
    err = err ? err : (buf_put(&text, span_of("", 1)) ? E_NO_MEMORY : E_OK);
    if (err) {
        buf_fini(&text);
        return err;
    }
    char *all = (char *)text.ptr;
    char *last = strlen(all) == text.len - 1 ? strstr(all, "\nmac ") : NULL;
    size_t tail = last ? strlen(last) : 0;
    bool shaped = tail == 5 + 64 + 1 && last[tail - 1] == '\n';
    if (shaped) {
        last[tail - 1] = '\0';
        shaped = span_from_hex(last + 5, stated, 32);
    }
    if (!shaped) {
        err = proto_err_set(reterr, E_CORRUPT, "the backup's list was changed or cut");
    }
    if (!err) {
        err = join(dir, "keyring", path) ? crypto_keyring_open(path, unlock, &keyring, reterr)
                                         : too_long(reterr);
    }
    if (!err) {
        err = list_mac(keyring, span_of(all, (size_t)(last + 1 - all)), mac);
        if (err || !crypto_equal(mac, stated, 32)) {
            err = proto_err_set(reterr, E_CORRUPT, "the backup's list was changed or cut");
        }
    }
    crypto_keyring_close(keyring);
    if (!err) {
        *last = '\0';
        char *rest = NULL;
        size_t number = 0;
        for (char *line = strtok_r(all, "\n", &rest); line && !err;
             line = strtok_r(NULL, "\n", &rest)) {
            err = parse_line(line, number++, list, ret);
        }
        if (err || number < 4) {
            err = proto_err_set(reterr, E_CORRUPT, "the backup's list does not read");
        }
    }
    for (size_t i = 0; i < list->count && !err; i++) {
        ret->bytes += list->items[i].bytes;
    }
    ret->files = list->count;
    buf_fini(&text);
    return err;
}

/* --- making ---------------------------------------------------------------------------------- */

static enum err note_uuid(void *user, const struct store_dataset *row)
{
    return buf_put(user, span_of(row->partition_uuid, 16));
}

static enum err add_partitions(struct list *list, struct span uuids, struct err_info *reterr)
{
    enum err err = E_OK;
    for (size_t at = 0; at < uuids.len && !err; at += 16) {
        char name[64];
        char path[128];
        store_partition_file_name(uuids.ptr + at, name);
        snprintf(path, sizeof path, "partitions/%s", name);
        err = list_add(list, path);
    }
    return err ? proto_err_set(reterr, err, "the backup's list") : E_OK;
}

static bool left_out(const char *name)
{
    size_t len = strlen(name);
    return name[0] == '.' || (len > 4 && strcmp(name + len - 4, ".tmp") == 0) ||
           (len > 4 && strcmp(name + len - 4, ".new") == 0) ||
           (len > 5 && strcmp(name + len - 5, ".part") == 0);
}

/* NAME is a file or a folder of plain files. */
static enum err add_named(struct list *list, const char *home, const char *name,
                          struct err_info *reterr)
{
    char path[PATH_MAX];
    struct stat st;
    if (!join(home, name, path)) {
        return too_long(reterr);
    }
    if (lstat(path, &st)) {
        return errno == ENOENT ? E_OK : store_env_errno(errno, path, reterr);
    }
    if (S_ISREG(st.st_mode)) {
        return list_add(list, name);
    }
    DIR *folder = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    if (!folder) {
        return proto_err_set(reterr, E_IO, "%s cannot be listed", path);
    }
    const struct dirent *entry;
    enum err err = E_OK;
    while (!err && (entry = readdir(folder))) {
        char relative[PATH_MAX];
        if (!left_out(entry->d_name)) {
            err = join(name, entry->d_name, relative) ? list_add(list, relative) : too_long(reterr);
        }
    }
    closedir(folder);
    return err;
}

static enum err copy_mdb(struct store *store, const char *dir, struct list *list,
                         struct err_info *reterr)
{
    char path[PATH_MAX];
    if (!join(dir, "node.mdb", path)) {
        return too_long(reterr);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return store_env_errno(errno, path, reterr);
    }
    enum err err = list_add(list, "node.mdb");
    int rc = err ? 0 : mdb_env_copyfd2(store_env_mdb(store->env), fd, MDB_CP_COMPACT);
    if (rc) {
        err = store_env_error(rc, "copying node.mdb", reterr);
    }
    if (!err && fsync(fd)) {
        err = store_env_errno(errno, path, reterr);
    }
    if (close(fd) && !err) {
        err = store_env_errno(errno, path, reterr);
    }
    struct entry *entry = list->count ? &list->items[list->count - 1] : NULL;
    return err || !entry ? err : hash_file(path, entry->hash, &entry->bytes, reterr);
}

/* One try. RET_AGAIN: a dataset or key changed meanwhile, so that the copies may not fit each other. */
static enum err make_once(struct store *store, const char *dir, const char *const *files,
                          const struct store_backup_options *options, struct list *list,
                          bool *ret_again, struct err_info *reterr)
{
    struct buf before = {.max = (size_t)16 << 20};
    struct buf after = {.max = (size_t)16 << 20};
    uint64_t generation = crypto_keyring_generation(store->keyring);
    enum err err = store_catalogue_each(store, note_uuid, &before, reterr);
    err = err ? err : copy_mdb(store, dir, list, reterr);
    err = err ? err : add_named(list, store->home, "keyring", reterr);
    err = err ? err : add_named(list, store->home, "format", reterr);
    for (size_t i = 0; files[i] && !err; i++) {
        err = add_named(list, store->home, files[i], reterr);
    }
    err = err ? err : add_named(list, store->home, "models", reterr);
    err = err ? err : add_partitions(list, buf_span(&before), reterr);
    err = err ? err : copy_list(store->home, dir, list, options, reterr);
    bool gone = err == E_NOT_FOUND;
    if (!err || gone) {
        enum err listed = store_catalogue_each(store, note_uuid, &after, reterr);
        err = gone || listed ? (listed ? listed : err) : E_OK;
        *ret_again = !listed && (gone || !span_equal(buf_span(&before), buf_span(&after)) ||
                                 generation != crypto_keyring_generation(store->keyring));
    }
    buf_fini(&before);
    buf_fini(&after);
    return err;
}

static enum err make_dir(const char *dir, struct err_info *reterr)
{
    enum err err = store_file_mkdir(dir, reterr);
    DIR *folder = err ? NULL : opendir(dir);
    if (!err && !folder) {
        err = store_env_errno(errno, dir, reterr);
    }
    const struct dirent *entry;
    while (!err && (entry = readdir(folder))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            err = proto_err_set(reterr, E_EXISTS, "%s is not empty", dir);
        }
    }
    if (folder) {
        closedir(folder);
    }
    return err;
}

enum err store_backup_make(struct store *store, const char *dir, const char *const *files,
                           const struct store_backup_options *options,
                           struct store_backup_report *ret, struct err_info *reterr)
{
    struct store_backup_report report = {.time = options->now};
    struct store_audit_head head;
    struct list list = {0};
    bool again = true;
    enum err err = make_dir(dir, reterr);
    if (err) {
        return err;
    }
    span_to_hex(span_of(store->node_id, 16), report.node_id);
    for (unsigned tries = 0; again && tries < BACKUP_TRIES; tries++) {
        remove_copies(dir, &list);
        list_fini(&list);
        again = false;
        report.seq = store_audit_head(store, &head) ? 0 : head.seq;
        err = make_once(store, dir, files, options, &list, &again, reterr);
    }
    if (again) {
        err = proto_err_set(reterr, E_BUSY, "datasets or keys changed during each of %d tries",
                            BACKUP_TRIES);
    }
    err = err ? err : read_back(dir, &list, reterr);
    err = err ? err : sync_all(dir, &list, reterr);
    err = err ? err : list_write(dir, &list, store->keyring, &report, reterr);
    if (err) {
        char path[PATH_MAX];
        if (join(dir, STORE_BACKUP_FILE, path)) {
            (void)unlink(path); /* first: without it the folder is no backup */
        }
        remove_copies(dir, &list);
    } else {
        report.files = list.count;
        for (size_t i = 0; i < list.count; i++) {
            report.bytes += list.items[i].bytes;
        }
        *ret = report;
    }
    list_fini(&list);
    return err;
}

/* --- back -------------------------------------------------------------------------------------- */

enum err store_backup_verify(const char *dir, const struct crypto_unlock *unlock,
                             struct store_backup_report *ret, struct err_info *reterr)
{
    struct list list = {0};
    *ret = (struct store_backup_report){0};
    enum err err = list_read(dir, unlock, &list, ret, reterr);
    err = err ? err : read_back(dir, &list, reterr);
    list_fini(&list);
    return err;
}

static enum err refuse_node(const char *home, struct err_info *reterr)
{
    static const char *const names[] = {"node.yaml", "node.mdb", "keyring",
                                        "identity",  "format",   "partitions"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_MAX];
        struct stat st;
        if (!join(home, names[i], path) || lstat(path, &st) == 0) {
            return proto_err_set(reterr, E_EXISTS,
                                 "%s holds a node (%s): restore into a new or empty home", home,
                                 names[i]);
        }
    }
    return E_OK;
}

static enum err put_marker(const char *home, const struct store_backup_report *report,
                           struct err_info *reterr)
{
    char path[PATH_MAX];
    char text[128];
    int n = snprintf(text, sizeof text, "backup of %lld, audit entry %llu\n",
                     (long long)report->time, (unsigned long long)report->seq);
    return join(home, STORE_RESTORED, path)
               ? store_file_write(path, span_of(text, (size_t)n), reterr)
               : too_long(reterr);
}

/* A restored file is compared with the backup's list, not with what was read. */
static enum err restore_list(const char *dir, const char *home, struct list *list,
                             struct err_info *reterr)
{
    enum err err = E_OK;
    for (size_t i = 0; i < list->count && !err; i++) {
        char source[PATH_MAX];
        char target[PATH_MAX];
        struct entry copied = {.path = list->items[i].path};
        if (!join(dir, copied.path, source) || !join(home, copied.path, target)) {
            return too_long(reterr);
        }
        err = make_parent(home, copied.path, reterr);
        err = err ? err : copy_file(source, target, &copied, reterr);
    }
    err = err ? err : read_back(home, list, reterr);
    return err ? err : sync_all(home, list, reterr);
}

/* node.yaml last: a home without it is not complete. */
static void config_last(struct list *list)
{
    for (size_t i = 0; i + 1 < list->count; i++) {
        if (strcmp(list->items[i].path, "node.yaml") == 0) {
            struct entry swap = list->items[i];
            list->items[i] = list->items[list->count - 1];
            list->items[list->count - 1] = swap;
        }
    }
}

enum err store_backup_restore(const char *dir, const char *home, const struct crypto_unlock *unlock,
                              struct store_backup_report *ret, struct err_info *reterr)
{
    struct list list = {0};
    char marker[PATH_MAX];
    *ret = (struct store_backup_report){0};
    enum err err = list_read(dir, unlock, &list, ret, reterr);
    err = err ? err : read_back(dir, &list, reterr);
    err = err ? err : store_file_mkdir(home, reterr);
    err = err ? err : refuse_node(home, reterr);
    if (!err) {
        config_last(&list);
        err = put_marker(home, ret, reterr);
        err = err ? err : restore_list(dir, home, &list, reterr);
        if (err) {
            remove_copies(home, &list);
            if (join(home, STORE_RESTORED, marker)) {
                (void)unlink(marker);
            }
        }
    }
    list_fini(&list);
    return err;
}
