#include "config.h"
#include "store/rotate.h"

#include "crypto/random.h"
#include "store/catalogue.h"
#include "store/claim.h"
#include "store/deidentify.h"
#include "store/answer.h"
#include "store/partition_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#define PREFIX    "rotate/"
#define VALUE_MAX (STORE_CHUNK_BYTES_MAX + 16384)

struct rotate {
    struct store *store;
    const char *dataset;
    const struct store_rotate_options *options;
    struct store_partition *partition; /* the old file */
    struct crypto_key *dek;            /* the new key */
    struct store_partition_writer *writer;
    struct store_partition_place place;
    struct buf body; /* the encoded DATASET body of the meta value */
    uint64_t done;
    uint64_t total;
    uint8_t root[32];
    uint64_t bytes;
    char path[PATH_MAX];
    char new_path[PATH_MAX];
    bool made;
};

void store_rotate_name(const char *dataset, char to[CRYPTO_KEYRING_NAME])
{
    snprintf(to, CRYPTO_KEYRING_NAME, PREFIX "%.64s", dataset);
}

static void dataset_name(const char *dataset, char to[CRYPTO_KEYRING_NAME])
{
    snprintf(to, CRYPTO_KEYRING_NAME, "dataset/%.64s", dataset);
}

bool store_rotate_pending(struct store *store, size_t index, char to[65])
{
    const char *name;
    for (size_t i = 0; (name = crypto_keyring_name(store->keyring, i)); i++) {
        if (strncmp(name, PREFIX, strlen(PREFIX)) == 0 && index-- == 0) {
            snprintf(to, 65, "%.64s", name + strlen(PREFIX));
            return true;
        }
    }
    return false;
}

enum err store_rotate_begin(struct store *store, const char *dataset, struct err_info *reterr)
{
    struct arena arena = {0};
    struct store_dataset row;
    char name[CRYPTO_KEYRING_NAME];
    struct store_claim claim = {.store = store, .dataset = dataset};
    if (!store_claim_enter(&claim)) {
        return proto_err_set(reterr, E_BUSY, "dataset %s is being imported or given a new key",
                             dataset);
    }
    enum err err = store_catalogue_get(store, dataset, &arena, &row, reterr);
    arena_fini(&arena);
    store_rotate_name(dataset, name);
    err = err ? err : crypto_keyring_add(store->keyring, name, reterr);
    err = err == E_EXISTS ? E_OK : err;
    store_claim_leave(&claim);
    return err;
}

/* --- the copy ------------------------------------------------------------------------------ */

static enum err tell(struct rotate *rotate, struct err_info *reterr)
{
    const struct store_rotate_options *options = rotate->options;
    rotate->done++;
    if (options && options->progress) {
        options->progress(options->user, rotate->done, rotate->total, rotate->dataset);
    }
    if (options && options->cancelled && options->cancelled(options->user)) {
        return proto_err_set(reterr, E_CANCELLED,
                             "dataset %s keeps its old key until the rotation goes on",
                             rotate->dataset);
    }
    return E_OK;
}

static enum err copy_value(void *user, enum store_partition_kind kind, const char *name,
                           uint32_t number, uint32_t rows, struct span plain,
                           struct err_info *reterr)
{
    struct rotate *rotate = user;
    enum err err =
        store_partition_writer_put(rotate->writer, kind, name, number, rows, plain, reterr);
    return err ? err : tell(rotate, reterr);
}

static enum err read_body(struct rotate *rotate, struct err_info *reterr)
{
    const struct store_partition *partition = rotate->partition;
    struct crypto_opener *opener = NULL;
    struct buf plain = {.max = VALUE_MAX};
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store_env_mdb(partition->env), NULL, MDB_RDONLY, &txn);
    enum err err = rc ? store_env_error(rc, partition->file, reterr)
                      : crypto_opener_new(partition->dek, store_partition_context(), &opener);
    err = err ? err
              : store_partition_read(partition, txn, opener, STORE_PARTITION_META, "", 0, 0, &plain,
                                     reterr);
    if (!err && (plain.len < STORE_PARTITION_META_SIZE ||
                 get_be32(plain.ptr + 104) > plain.len - STORE_PARTITION_META_SIZE)) {
        err = proto_err_set(reterr, E_CORRUPT, "dataset %s: its description", rotate->dataset);
    }
    err = err ? err
              : buf_put(&rotate->body,
                        span_of(plain.ptr + STORE_PARTITION_META_SIZE, get_be32(plain.ptr + 104)));
    crypto_opener_free(opener);
    if (txn) {
        mdb_txn_abort(txn);
    }
    buf_fini(&plain);
    return err;
}

static enum err begin_writing(struct rotate *rotate, struct err_info *reterr)
{
    MDB_envinfo info;
    const char *home = rotate->store->home;
    int rc = mdb_env_info(store_env_mdb(rotate->partition->env), &info);
    enum err err = rc ? store_env_error(rc, rotate->partition->file, reterr)
                      : crypto_random(rotate->place.uuid, sizeof rotate->place.uuid);
    memcpy(rotate->place.schema_hash, rotate->partition->place.schema_hash, 32);
    if (!err &&
        (!store_partition_path(home, rotate->place.uuid, "", rotate->path, sizeof rotate->path) ||
         !store_partition_path(home, rotate->place.uuid, ".new", rotate->new_path,
                               sizeof rotate->new_path))) {
        err = proto_err_set(reterr, E_LIMIT, "the home's path is too long");
    }
    size_t map = (size_t)(info.me_last_pgno + 1) * 4096;
    rotate->made = !err;
    return err ? err
               : store_partition_writer_open(rotate->new_path, rotate->dek, &rotate->place,
                                             map + map / 2 + ((size_t)64 << 20), &rotate->writer,
                                             reterr);
}

static enum err copy_all(struct rotate *rotate, struct err_info *reterr)
{
    const struct store_partition *partition = rotate->partition;
    enum err err = store_partition_count(partition, &rotate->total, reterr);
    err = err ? err : begin_writing(rotate, reterr);
    err = err ? err : read_body(rotate, reterr);
    err = err ? err : store_partition_each(partition, copy_value, rotate, reterr);
    return err ? err
               : store_partition_writer_finish(rotate->writer, &partition->counts,
                                               buf_span(&rotate->body), rotate->root,
                                               &rotate->bytes, reterr);
}

/* --- the switch ---------------------------------------------------------------------------- */

static enum err sync_folder(const struct store *store, struct err_info *reterr)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/partitions", store->home);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = fd < 0 || fsync(fd) ? store_env_errno(errno, path, reterr) : E_OK;
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

#define ORIGIN "origin/"

struct origin_key {
    uint8_t bytes[7 + 16];
};

static struct origin_key origin_key(const uint8_t uuid[16])
{
    struct origin_key key;
    memcpy(key.bytes, ORIGIN, 7);
    memcpy(key.bytes + 7, uuid, 16);
    return key;
}

/* RET: uuid[16] | root[32], unchanged when the file was never sealed anew. */
static enum err load_origin(struct store *store, MDB_txn *txn, uint8_t ret[48],
                            struct err_info *reterr)
{
    struct origin_key key = origin_key(ret);
    struct buf plain = {.max = 64};
    enum err err = store_sealed_get(store, txn, STORE_TABLE_META,
                                    span_of(key.bytes, sizeof key.bytes), &plain, reterr);
    if (!err && plain.len != 48) {
        err = proto_err_set(reterr, E_CORRUPT, "table meta: a row is damaged");
    } else if (!err) {
        memcpy(ret, plain.ptr, 48);
    }
    buf_fini(&plain);
    return err == E_NOT_FOUND ? E_OK : err;
}

/* The new file stands for what the old one stood for. */
static enum err keep_origin(struct store *store, MDB_txn *txn, const struct rotate *rotate,
                            struct err_info *reterr)
{
    uint8_t origin[48];
    struct origin_key old = origin_key(rotate->partition->place.uuid);
    struct origin_key fresh = origin_key(rotate->place.uuid);
    memcpy(origin, rotate->partition->place.uuid, 16);
    memcpy(origin + 16, rotate->partition->root, 32);
    enum err err = load_origin(store, txn, origin, reterr);
    if (!err) {
        err =
            store_raw_del(store, txn, STORE_TABLE_META, span_of(old.bytes, sizeof old.bytes), NULL);
        err = err == E_NOT_FOUND ? E_OK : err;
    }
    return err ? err
               : store_sealed_put(store, txn, STORE_TABLE_META,
                                  span_of(fresh.bytes, sizeof fresh.bytes),
                                  span_of(origin, sizeof origin), reterr);
}

enum err store_rotate_origin(struct store *store, uint8_t inout_uuid[16], uint8_t inout_root[32],
                             struct err_info *reterr)
{
    uint8_t origin[48];
    MDB_txn *txn = NULL;
    memcpy(origin, inout_uuid, 16);
    memcpy(origin + 16, inout_root, 32);
    enum err err = store_read(store, &txn, reterr);
    err = err ? err : load_origin(store, txn, origin, reterr);
    store_read_end(txn);
    if (!err) {
        memcpy(inout_uuid, origin, 16);
        memcpy(inout_root, origin + 16, 32);
    }
    return err;
}

static enum err switch_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct rotate *rotate = ctx;
    const struct proto_schema *schema = &rotate->partition->schema;
    const char *columns[PROTO_SCHEMA_COLUMNS_MAX];
    for (size_t i = 0; i < schema->count; i++) {
        columns[i] = schema->columns[i].name;
    }
    enum err err = store_pseudonym_rekey(store, txn, rotate->dataset, columns, schema->count,
                                         rotate->partition->dek, rotate->dek, reterr);
    err = err ? err
              : store_answer_rekey(store, txn, rotate->dataset, rotate->partition->dek, rotate->dek,
                                   reterr);
    return err ? err : keep_origin(store, txn, rotate, reterr);
}

static enum err put_row(struct rotate *rotate, struct err_info *reterr)
{
    struct arena arena = {0};
    struct store_dataset row;
    enum err err = store_catalogue_get(rotate->store, rotate->dataset, &arena, &row, reterr);
    if (!err && memcmp(row.partition_uuid, rotate->partition->place.uuid, 16) != 0) {
        err = proto_err_set(reterr, E_BUSY, "dataset %s was changed meanwhile", rotate->dataset);
    }
    if (!err) {
        memcpy(row.partition_uuid, rotate->place.uuid, 16);
        memcpy(row.root, rotate->root, 32);
        row.bytes_stored = rotate->bytes;
        err = store_catalogue_put_with(rotate->store, &row, switch_in, rotate, reterr);
    }
    arena_fini(&arena);
    return err;
}

/* Answers that were stored between the switch and the moment when the old key's name went. */
static enum err late_answers(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct rotate *rotate = ctx;
    return store_answer_rekey(store, txn, rotate->dataset, rotate->partition->dek, rotate->dek,
                              reterr);
}

static enum err promote(struct store *store, const char *dataset, struct err_info *reterr)
{
    char from[CRYPTO_KEYRING_NAME];
    char to[CRYPTO_KEYRING_NAME];
    store_rotate_name(dataset, from);
    dataset_name(dataset, to);
    enum err err = crypto_keyring_promote(store->keyring, from, to, reterr);
    return err ? err : store_keyring_anchor(store, reterr);
}

static enum err publish(struct rotate *rotate, struct err_info *reterr)
{
    char old[PATH_MAX];
    enum err err = rename(rotate->new_path, rotate->path)
                       ? store_env_errno(errno, rotate->path, reterr)
                       : sync_folder(rotate->store, reterr);
    err = err ? err : put_row(rotate, reterr);
    if (err) {
        return err;
    }
    rotate->made = false; /* the file is the dataset's now, whatever comes */
    err = promote(rotate->store, rotate->dataset, reterr);
    err = err ? err : store_write(rotate->store, late_answers, rotate, reterr);
    store_partition_forget(rotate->store, rotate->dataset);
    if (!err && store_partition_path(rotate->store->home, rotate->partition->place.uuid, "", old,
                                     sizeof old)) {
        (void)unlink(old); /* if it stays, the next store_open removes it */
    }
    return err;
}

static void close_all(struct rotate *rotate)
{
    store_partition_writer_close(rotate->writer);
    if (rotate->made) {
        (void)unlink(rotate->new_path);
        (void)unlink(rotate->path);
    }
    store_partition_close(rotate->partition);
    crypto_key_free(rotate->dek);
    buf_fini(&rotate->body);
}

enum err store_rotate_run(struct store *store, const char *dataset,
                          const struct store_rotate_options *options, struct err_info *reterr)
{
    char name[CRYPTO_KEYRING_NAME];
    struct store_claim claim = {.store = store, .dataset = dataset};
    if (!store_claim_enter(&claim)) {
        return proto_err_set(reterr, E_BUSY, "dataset %s is being imported or given a new key",
                             dataset);
    }
    struct rotate *rotate = proto_alloc(1, sizeof *rotate);
    enum err err = rotate ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "rotating a key");
    if (!err) {
        *rotate = (struct rotate){.store = store, .dataset = dataset, .options = options};
        rotate->body.max = VALUE_MAX;
        store_rotate_name(dataset, name);
        err = crypto_keyring_copy(store->keyring, name, &rotate->dek);
        if (err) {
            proto_err_set(reterr, err, "no rotation of dataset %s is begun", dataset);
        }
        err = err ? err : store_partition_open_checked(store, dataset, &rotate->partition, reterr);
        err = err ? err : copy_all(rotate, reterr);
        err = err ? err : publish(rotate, reterr);
        close_all(rotate);
    }
    proto_free(rotate);
    store_claim_leave(&claim);
    return err;
}

/* --- after a crash ------------------------------------------------------------------------- */

/* Whether the catalogue's file is already sealed under the next key. */
static enum err is_switched(struct store *store, const struct store_dataset *row, bool *ret,
                            struct err_info *reterr)
{
    char name[CRYPTO_KEYRING_NAME];
    char path[PATH_MAX];
    struct crypto_key *dek = NULL;
    struct crypto_key *index = NULL;
    uint8_t uuid[16];
    uint64_t bytes = 0;
    struct buf table = {.max = STORE_TABLE_MAX};
    store_rotate_name(row->name, name);
    *ret = false;
    enum err err = crypto_keyring_copy(store->keyring, name, &dek);
    err = err ? err : store_partition_index_key(dek, &index);
    if (!err && store_partition_path(store->home, row->partition_uuid, "", path, sizeof path)) {
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        *ret = fd >= 0 && store_partition_trailer_check(fd, index, uuid, &bytes, &table) == E_OK;
        if (fd >= 0) {
            close(fd);
        }
    }
    buf_fini(&table);
    crypto_key_free(dek);
    crypto_key_free(index);
    return err ? proto_err_set(reterr, err, "the next key of dataset %s", row->name) : E_OK;
}

enum err store_rotate_recover(struct store *store, struct err_info *reterr)
{
    char dataset[65];
    char name[CRYPTO_KEYRING_NAME];
    enum err err = E_OK;
    for (size_t i = 0; !err && store_rotate_pending(store, i, dataset);) {
        struct arena arena = {0};
        struct store_dataset row;
        bool switched = false;
        store_rotate_name(dataset, name);
        err = store_catalogue_get(store, dataset, &arena, &row, reterr);
        if (err == E_NOT_FOUND) {
            err = crypto_keyring_shred(store->keyring, name, reterr); /* the dataset was removed */
            arena_fini(&arena);
            continue;
        }
        err = err ? err : is_switched(store, &row, &switched, reterr);
        if (!err && switched) {
            err = promote(store, dataset, reterr);
        }
        i += !switched; /* one that is not switched yet goes on when somebody runs it */
        arena_fini(&arena);
    }
    return err;
}
