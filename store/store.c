#include "config.h"
#include "store/store.h"

#include "crypto/chunk.h"
#include "crypto/kdf.h"
#include "store/audit_chain.h"
#include "store/blob.h"
#include "store/blob_memory.h"
#include "store/egress.h"
#include "store/env.h"
#include "store/file.h"
#include "store/import.h"
#include "store/ledger.h"
#include "store/partition_cache.h"
#include "store/rotate.h"
#include "store/table.h"

#include <fcntl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define NODE_KEY "node"

/* The number in HOME/format; 0 when there is none. */
static enum err read_format(const char *path, unsigned long *ret, struct err_info *reterr)
{
    struct buf text = {.max = 32};
    enum err err = store_file_read(path, &text, reterr);
    *ret = 0;
    if (err == E_NOT_FOUND) {
        err = E_OK;
    } else if (!err) {
        char digits[32] = "";
        char *end = digits;
        if (text.len && text.ptr[text.len - 1] == '\n') {
            text.len--;
        }
        if (span_to_cstr(buf_span(&text), digits, sizeof digits)) {
            *ret = strtoul(digits, &end, 10);
        }
        if (*ret == 0 || *end) {
            err = proto_err_set(reterr, E_CORRUPT, "%s does not hold a format number", path);
        }
    }
    buf_fini(&text);
    return err;
}

/* A home that has datasets' keys had a node.mdb: opening a fresh one would forget what was spent. */
static enum err refuse_lost(struct crypto_keyring *keyring, const char *path,
                            struct err_info *reterr)
{
    const char *name;
    for (size_t i = 0; (name = crypto_keyring_name(keyring, i)); i++) {
        if (strncmp(name, "dataset/", 8) == 0) {
            return proto_err_set(reterr, E_ROLLBACK,
                                 "%s is missing, though this home holds datasets: restore it",
                                 path);
        }
    }
    return E_OK;
}

static enum err refuse_newer(const char *home, unsigned long format, struct err_info *reterr)
{
    return format <= STORE_FORMAT
               ? E_OK
               : proto_err_set(
                     reterr, E_CORRUPT,
                     "%s has format %lu, this program reads up to %d: use the newer program", home,
                     format, STORE_FORMAT);
}

enum err store_check_newer(const char *home, struct err_info *reterr)
{
    char *path = store_file_path(home, "format", NULL);
    unsigned long number = 0;
    enum err err = path ? read_format(path, &number, reterr)
                        : proto_err_set(reterr, E_NO_MEMORY, "reading the home's format");
    proto_free(path);
    return err ? err : refuse_newer(home, number, reterr);
}

static enum err write_format(const char *path, struct err_info *reterr)
{
    char text[16];
    int n = snprintf(text, sizeof text, "%d\n", STORE_FORMAT);
    return store_file_write(path, span_of(text, (size_t)n), reterr);
}

static enum err check_home(const char *home, bool *ret_fresh, unsigned long *ret_format,
                           struct crypto_keyring *keyring, struct err_info *reterr)
{
    char *format = store_file_path(home, "format", NULL);
    char *mdb = store_file_path(home, "node.mdb", NULL);
    unsigned long number = 0;
    enum err err = format && mdb ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "opening the home");
    if (!err && !store_file_exists(home)) {
        err = proto_err_set(reterr, E_NOT_FOUND, "there is no home %s: concordat init makes one",
                            home);
    }
    if (!err) {
        err = read_format(format, &number, reterr);
    }
    err = err ? err : refuse_newer(home, number, reterr);
    if (!err) {
        *ret_fresh = !store_file_exists(mdb);
        if (*ret_fresh) {
            err = refuse_lost(keyring, mdb, reterr);
        } else if (number == 0) {
            err = proto_err_set(reterr, E_CORRUPT, "%s is missing, though there is a node.mdb",
                                format);
        }
    }
    if (!err && number == 0) {
        number = STORE_FORMAT;
        err = write_format(format, reterr);
    }
    *ret_format = number;
    proto_free(format);
    proto_free(mdb);
    return err;
}

/* An older home becomes one of this format: its node.mdb is copied first, and rows are written anew as they change. From here
 * on the older program refuses it. */
static enum err upgrade(const struct store *store, unsigned long format, struct err_info *reterr)
{
    char name[32];
    snprintf(name, sizeof name, "node.mdb.format%lu", format);
    char *number = store_file_path(store->home, "format", NULL);
    char *copy = store_file_path(store->home, name, NULL);
    enum err err =
        number && copy ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "a newer format of the home");
    int fd = err ? -1 : open(copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (!err &&
        (fd < 0 || mdb_env_copyfd2(store_env_mdb(store->env), fd, MDB_CP_COMPACT) || fsync(fd))) {
        err = proto_err_set(reterr, E_IO, "%s cannot be written, so the home stays as it is", copy);
    }
    if (fd >= 0) {
        close(fd);
    }
    err = err ? err : write_format(number, reterr);
    proto_free(number);
    proto_free(copy);
    return err;
}

/* Imports and blobs that a crash left half written were never published. */
static enum err sweep_home(const char *home, struct err_info *reterr)
{
    static const char *const dirs[] = {"partitions", "models"};
    static const char *const suffixes[] = {".new", ".new-lock", ".tmp"};
    enum err err = E_OK;
    for (size_t d = 0; !err && d < 2; d++) {
        char *path = store_file_path(home, dirs[d], NULL);
        err = path ? store_file_mkdir(path, reterr)
                   : proto_err_set(reterr, E_NO_MEMORY, "opening the home");
        for (size_t s = 0; !err && s < 3; s++) {
            err = store_file_sweep(path, suffixes[s], reterr);
        }
        proto_free(path);
    }
    return err;
}

static enum err open_keys(struct store *store, bool fresh, struct err_info *reterr)
{
    enum err err = crypto_keyring_get(store->keyring, NODE_KEY, &store->dek);
    if (err == E_NOT_FOUND && fresh) {
        err = crypto_keyring_add(store->keyring, NODE_KEY, reterr);
        if (!err) {
            err = crypto_keyring_get(store->keyring, NODE_KEY, &store->dek);
        }
    } else if (err == E_NOT_FOUND) {
        err = proto_err_set(reterr, E_AUTH, "the keyring lacks the key of node.mdb");
    }
    if (err) {
        return err;
    }
    store->blind_key = crypto_key_new();
    if (!store->blind_key) {
        return proto_err_set(reterr, E_NO_MEMORY, "the store's keys");
    }
    err = crypto_hkdf_expand(store->dek->bytes, span_str("concordat/store/blind/1"),
                             store->blind_key->bytes, sizeof store->blind_key->bytes);
    if (!err) {
        err = crypto_sealer_open(store->dek, span_str("concordat/store/1"), &store->sealer);
    }
    return err ? proto_err_set(reterr, err, "the store's keys") : E_OK;
}

/* Whether node.mdb has a table of a name that is none of ours. */
static bool has_stranger(MDB_txn *txn)
{
    MDB_dbi names;
    MDB_cursor *cursor;
    MDB_val name;
    bool found = false;
    if (mdb_dbi_open(txn, NULL, 0, &names) || mdb_cursor_open(txn, names, &cursor)) {
        return false;
    }
    while (!found && mdb_cursor_get(cursor, &name, NULL, MDB_NEXT) == 0) {
        struct span is = span_of(name.mv_data, name.mv_size);
        found = true;
        for (int t = 0; t < STORE_TABLE_COUNT && found; t++) {
            found = !span_equal(is, span_str(store_table_name((enum store_table)t)));
        }
    }
    mdb_cursor_close(cursor);
    return found;
}

/* A table that an older program did not have is made; one is not made anew beside another that lost its name. */
static enum err open_tables(struct store *store, bool to_check, struct err_info *reterr)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store_env_mdb(store->env), NULL, to_check ? MDB_RDONLY : 0, &txn);
    if (rc) {
        return store_env_error(rc, "opening node.mdb", reterr);
    }
    for (int t = 0; t < STORE_TABLE_COUNT && !rc; t++) {
        const char *name = store_table_name((enum store_table)t);
        MDB_dbi dbi = 0;
        rc = mdb_dbi_open(txn, name, 0, &dbi);
        if (rc == MDB_NOTFOUND && (to_check || has_stranger(txn))) {
            mdb_txn_abort(txn);
            return proto_err_set(reterr, E_CORRUPT,
                                 "node.mdb lacks its table '%s': it was changed%s", name,
                                 to_check ? ", or the daemon of this program never opened it" : "");
        }
        rc = rc == MDB_NOTFOUND ? mdb_dbi_open(txn, name, MDB_CREATE, &dbi) : rc;
        store->tables[t] = dbi;
    }
    if (rc) {
        mdb_txn_abort(txn);
        return store_env_error(rc, "opening the tables of node.mdb", reterr);
    }
    rc = mdb_txn_commit(txn);
    return rc ? store_env_error(rc, "opening the tables of node.mdb", reterr) : E_OK;
}

static enum err check_ids(struct store *store, struct err_info *reterr)
{
    MDB_txn *txn = NULL;
    struct span ids;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_raw_get(store, txn, STORE_TABLE_META, span_str(STORE_META_IDS), &ids, NULL);
        if (!err && (ids.len != 32 || memcmp(ids.ptr, store->node_id, 16) != 0)) {
            err = proto_err_set(reterr, E_CORRUPT, "this node.mdb belongs to another node");
        }
        err = err == E_NOT_FOUND ? E_OK : err;
    }
    store_read_end(txn);
    return err;
}

#define KEYRING_GENERATION span_str("keyring-generation")

static enum err read_generation(struct store *store, MDB_txn *txn, uint64_t *ret,
                                struct err_info *reterr)
{
    struct buf plain = {.max = 64};
    enum err err =
        store_sealed_get(store, txn, STORE_TABLE_META, KEYRING_GENERATION, &plain, reterr);
    *ret = 0;
    if (!err && plain.len != 8) {
        err = proto_err_set(reterr, E_CORRUPT, "table meta: a row is damaged");
    } else if (!err) {
        *ret = get_be64(plain.ptr);
    }
    buf_fini(&plain);
    if (err == E_AUTH) {
        err = proto_err_set(reterr, E_CORRUPT, "table meta: a row was changed");
    }
    return err == E_NOT_FOUND ? E_OK : err;
}

static enum err anchor_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    uint8_t bytes[8];
    uint64_t now = *(const uint64_t *)ctx;
    uint64_t known = 0;
    enum err err = read_generation(store, txn, &known, reterr);
    if (err || known >= now) {
        return err;
    }
    put_be64(bytes, now);
    return store_sealed_put(store, txn, STORE_TABLE_META, KEYRING_GENERATION,
                            span_of(bytes, sizeof bytes), reterr);
}

enum err store_keyring_anchor(struct store *store, struct err_info *reterr)
{
    uint64_t generation = crypto_keyring_generation(store->keyring);
    return store_write(store, anchor_in, &generation, reterr);
}

static enum err compare_keyring(struct store *store, uint64_t *ret_known, struct err_info *reterr)
{
    uint64_t generation = crypto_keyring_generation(store->keyring);
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    err = err ? err : read_generation(store, txn, ret_known, reterr);
    store_read_end(txn);
    if (!err && generation < *ret_known) {
        err = proto_err_set(reterr, E_ROLLBACK,
                            "the keyring is older than node.mdb (change %llu, not %llu): shredded "
                            "or replaced keys would "
                            "come back",
                            (unsigned long long)generation, (unsigned long long)*ret_known);
    }
    return err;
}

enum err store_keyring_check(struct store *store, struct err_info *reterr)
{
    uint64_t known = 0;
    return compare_keyring(store, &known, reterr);
}

static enum err check_keyring(struct store *store, struct err_info *reterr)
{
    uint64_t known = 0;
    enum err err = compare_keyring(store, &known, reterr);
    return err || crypto_keyring_generation(store->keyring) == known
               ? err
               : store_keyring_anchor(store, reterr);
}

enum err store_open(const char *home, struct crypto_keyring *keyring, const uint8_t node_id[16],
                    struct store *ret, struct err_info *reterr)
{
    struct store store = {.keyring = keyring};
    memcpy(store.node_id, node_id, 16);
    bool fresh = false;
    char *path = NULL;
    unsigned long format = STORE_FORMAT;
    enum err err = check_home(home, &fresh, &format, keyring, reterr);
    if (!err) {
        err = open_keys(&store, fresh, reterr);
    }
    if (!err &&
        (!(store.home = proto_strdup(home)) || !(path = store_file_path(home, "node.mdb", NULL)) ||
         store_writer_new(&store.writer) || store_partition_cache_new(&store.partitions) ||
         !(store.counters = store_egress_counters_new()) ||
         !(store.blobs = store_blob_memory_new()))) {
        err = proto_err_set(reterr, E_NO_MEMORY, "opening the store");
    }
    if (!err) {
        err = store_env_open(path, STORE_ENV_CREATE, STORE_MAP_BYTES, &store.env, reterr);
    }
    /* Only now that no other daemon can be at work here: it might be writing what is swept. */
    err = err ? err : sweep_home(home, reterr);
    if (!err) {
        crypto_keyring_tidy(keyring);
    }
    err = err ? err : open_tables(&store, false, reterr);
    err = err ? err : check_ids(&store, reterr);
    err = err ? err : check_keyring(&store, reterr);
    err = err ? err : store_audit_check_chain(&store, reterr);
    err = err ? err : store_ledger_check(&store, reterr);
    err = !err && format < STORE_FORMAT ? upgrade(&store, format, reterr) : err;
    err = err ? err : store_import_recover(&store, reterr);
    err = err ? err : store_rotate_recover(&store, reterr);
    proto_free(path);
    if (err) {
        proto_err_frame(reterr, "opening the store of %s", home);
        store_close(&store);
        return err;
    }
    *ret = store;
    return E_OK;
}

/* A daemon holds this lock as long as it has the home. */
static enum err check_nobody(const char *home, struct err_info *reterr)
{
    char *path = store_file_path(home, "node.mdb-owner", NULL);
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    bool held = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
    if (fd >= 0) {
        close(fd);
    }
    proto_free(path);
    return held ? proto_err_set(reterr, E_BUSY, "the daemon of %s runs: ask it", home) : E_OK;
}

static enum err check_format(const char *home, struct err_info *reterr)
{
    char *path = store_file_path(home, "format", NULL);
    unsigned long number = 0;
    enum err err = path ? read_format(path, &number, reterr)
                        : proto_err_set(reterr, E_NO_MEMORY, "opening the home");
    if (!err && number != STORE_FORMAT) {
        err = proto_err_set(reterr, number < STORE_FORMAT ? E_UNSUPPORTED : E_CORRUPT,
                            "%s has format %lu, this program checks format %d: %s", home, number,
                            STORE_FORMAT,
                            number < STORE_FORMAT ? "start its daemon once, which brings it up"
                                                  : "use the newer program");
    }
    proto_free(path);
    return err;
}

enum err store_open_to_check(const char *home, struct crypto_keyring *keyring,
                             const uint8_t node_id[16], struct store *ret, struct err_info *reterr)
{
    struct store store = {.keyring = keyring};
    memcpy(store.node_id, node_id, 16);
    char *path = store_file_path(home, "node.mdb", NULL);
    enum err err = check_nobody(home, reterr);
    err = err ? err : check_format(home, reterr);
    err = err ? err : open_keys(&store, false, reterr);
    if (!err && (!path || !(store.home = proto_strdup(home)) ||
                 store_partition_cache_new(&store.partitions) ||
                 !(store.blobs = store_blob_memory_new()))) {
        err = proto_err_set(reterr, E_NO_MEMORY, "opening the store");
    }
    if (!err) {
        err = store_env_open(path, STORE_ENV_READONLY | STORE_ENV_IMMUTABLE | STORE_ENV_CHECKED, 0,
                             &store.env, reterr);
    }
    err = err ? err : open_tables(&store, true, reterr);
    err = err ? err : check_ids(&store, reterr);
    proto_free(path);
    if (err) {
        proto_err_frame(reterr, "checking %s", home);
        store_close(&store);
        return err;
    }
    *ret = store;
    return E_OK;
}

struct bind {
    bool sign_again;
};

static enum err bind_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    const struct bind *bind = ctx;
    uint8_t ids[32];
    memcpy(ids, store->node_id, 16);
    memcpy(ids + 16, store->federation_id, 16);
    enum err err = store_raw_put(store, txn, STORE_TABLE_META, span_str(STORE_META_IDS),
                                 span_of(ids, sizeof ids), reterr);
    if (!err && bind->sign_again) {
        static const char body[] = "{\"identity\":\"rotated\"}";
        struct store_audit_head head;
        err = store_audit_load(store, txn, &head, reterr);
        err = err ? err
                  : store_audit_append_in(store, txn, &head, "identity.rotate", span_str(body),
                                          head.time, reterr);
    }
    return err;
}

/* Whose key signed the head that is there: ours (or none is there), the previous one's, or a stranger's. */
static enum err check_head(struct store *store, const uint8_t *previous_point, bool *ret_sign_again,
                           struct err_info *reterr)
{
    struct store_audit_head head;
    enum err err = store_audit_head(store, &head);
    if (err) {
        return err == E_NOT_FOUND ? E_OK : proto_err_set(reterr, err, "the audit head");
    }
    if (memcmp(head.node_id, store->node_id, 16) != 0) {
        return proto_err_set(reterr, E_AUTH, "the audit head is another node's");
    }
    if (!store_audit_head_verify(&head, store->federation_id,
                                 crypto_identity_point(store->identity))) {
        return E_OK;
    }
    if (previous_point && !store_audit_head_verify(&head, store->federation_id, previous_point)) {
        *ret_sign_again = true;
        return E_OK;
    }
    return proto_err_set(reterr, E_AUTH, "the audit head is not signed by this node's identity");
}

static enum err check_federation(struct store *store, bool *ret_known, struct err_info *reterr)
{
    MDB_txn *txn = NULL;
    struct span ids;
    enum err err = store_read(store, &txn, reterr);
    if (err) {
        return err;
    }
    err = store_raw_get(store, txn, STORE_TABLE_META, span_str(STORE_META_IDS), &ids, NULL);
    *ret_known = !err;
    if (!err && (ids.len != 32 || memcmp(ids.ptr + 16, store->federation_id, 16) != 0)) {
        err = proto_err_set(reterr, E_CORRUPT, "this node.mdb belongs to another federation");
    }
    store_read_end(txn);
    return err == E_NOT_FOUND ? E_OK : err;
}

enum err store_identity(struct store *store, const struct crypto_identity *identity,
                        const uint8_t federation_id[16], const uint8_t *previous_point,
                        struct err_info *reterr)
{
    bool known = false;
    struct bind bind = {false};
    store->identity = identity;
    memcpy(store->federation_id, federation_id, 16);
    enum err err = check_federation(store, &known, reterr);
    if (!err) {
        err = check_head(store, previous_point, &bind.sign_again, reterr);
    }
    if (!err && (!known || bind.sign_again)) {
        err = store_write(store, bind_in, &bind, reterr);
    }
    if (err) {
        store->identity = NULL;
    }
    return err;
}

void store_close(struct store *store)
{
    store_partition_cache_free(store->partitions);
    store_blob_memory_free(store->blobs);
    if (store->env) {
        store_env_close(store->env);
    }
    store_writer_free(store->writer);
    crypto_sealer_close(store->sealer);
    crypto_key_free(store->blind_key);
    store_egress_counters_free(store->counters);
    proto_free((void *)(uintptr_t)store->home);
    memset(store, 0, sizeof *store);
}

struct oldest {
    size_t readers;
    uint64_t txn;
};

/* A line of LMDB's: process, thread, and the transaction that it reads, "-" when none. */
static int note_reader(const char *line, void *user)
{
    struct oldest *oldest = user;
    char txn[32];
    if (sscanf(line, "%*d %*s %31s", txn) == 1 && txn[0] >= '0' && txn[0] <= '9') {
        uint64_t number = strtoull(txn, NULL, 10);
        oldest->txn = oldest->readers == 0 || number < oldest->txn ? number : oldest->txn;
        oldest->readers++;
    }
    return 0;
}

struct store_readers store_readers(struct store *store)
{
    struct store_readers ret = {0};
    struct oldest oldest = {0};
    MDB_envinfo info;
    (void)mdb_reader_list(store_env_mdb(store->env), note_reader, &oldest);
    if (oldest.readers && mdb_env_info(store_env_mdb(store->env), &info) == 0) {
        ret.readers = oldest.readers;
        ret.oldest_behind = info.me_last_txnid > oldest.txn ? info.me_last_txnid - oldest.txn : 0;
    }
    store_partition_cache_count(store->partitions, &ret.partitions, &ret.replaced);
    return ret;
}
