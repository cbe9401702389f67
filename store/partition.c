#include "config.h"
#include "store/partition.h"

#include "proto/body.h"
#include "proto/manifest.h"
#include "crypto/provider.h"
#include "store/catalogue.h"
#include "store/partition_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define READ_MAX (STORE_CHUNK_BYTES_MAX + 16384)
#define SETTLED_NS                                                                                 \
    INT64_C(100000000) /* file times are coarse: two writes within one tick look like one */

void store_partition_value_key(const struct store_partition *partition,
                               enum store_partition_kind kind, const char *name,
                               struct store_value_key *ret)
{
    uint8_t key[STORE_PARTITION_KEY];
    store_partition_key(partition->index, kind, name, 0, key);
    *ret = (struct store_value_key){.kind = kind, .name = name};
    memcpy(ret->blind, key, sizeof ret->blind);
}

/* What stood there before is wiped rather than copied. */
static enum err make_room(struct buf *to, size_t len)
{
    to->len = 0;
    if (to->cap < len && to->ptr) {
        crypto_wipe(to->ptr, to->cap);
        buf_fini(to);
    }
    return buf_reserve(to, len ? len : 1);
}

/* A value's pages in one read, and none around them: the kernel's own read-ahead on a map brings the other columns, too. */
static void read_ahead(const struct store_partition *partition, size_t line, const MDB_val *value)
{
    void *pages = store_partition_pages_of(value);
    if (pages &&
        !atomic_exchange_explicit(&partition->asked_for[line], true, memory_order_relaxed)) {
        (void)madvise(pages, value->mv_size + STORE_PAGE_HEADER, MADV_WILLNEED);
    }
}

enum err store_partition_read_at(const struct store_partition *partition, MDB_txn *txn,
                                 struct crypto_opener *opener, const struct store_value_key *place,
                                 uint32_t number, uint32_t rows, struct buf *to,
                                 struct err_info *reterr)
{
    uint8_t name_key[STORE_PARTITION_KEY];
    uint8_t aad[STORE_PARTITION_AAD];
    memcpy(name_key, place->blind, sizeof place->blind);
    put_be32(name_key + sizeof place->blind, number);
    size_t aad_len =
        store_partition_aad(&partition->place, place->kind, place->name, number, rows, aad);
    MDB_val key = {.mv_size = sizeof name_key, .mv_data = name_key};
    MDB_val value;
    int rc = mdb_get(txn, partition->dbi, &key, &value);
    if (rc) {
        return proto_err_set(reterr, rc == MDB_NOTFOUND ? E_CORRUPT : E_IO,
                             "dataset %s, file %s: a value is missing", partition->dataset,
                             partition->file);
    }
    struct span table = buf_span(&partition->table);
    size_t line = store_partition_table_find(table, name_key);
    if (line != STORE_TABLE_NONE) {
        read_ahead(partition, line, &value);
    }
    if (line == STORE_TABLE_NONE || !store_partition_table_has(table, line, &value)) {
        return proto_err_set(reterr, E_CORRUPT,
                             "dataset %s, file %s: a value is not the one that was written there",
                             partition->dataset, partition->file);
    }
    struct span sealed = span_of(value.mv_data, value.mv_size);
    size_t len = 0;
    enum err err = crypto_chunk_plain_len(sealed, &len);
    err = err ? err : make_room(to, len);
    err = err ? err
              : crypto_opener_open(opener, span_of(aad, aad_len), sealed, to->ptr, to->cap, &len);
    if (err) {
        return proto_err_set(reterr, err, "dataset %s, file %s: a value does not open: %s",
                             partition->dataset, partition->file, proto_err_text(err));
    }
    to->len = len;
    return E_OK;
}

enum err store_partition_read(const struct store_partition *partition, MDB_txn *txn,
                              struct crypto_opener *opener, enum store_partition_kind kind,
                              const char *name, uint32_t number, uint32_t rows, struct buf *to,
                              struct err_info *reterr)
{
    struct store_value_key place;
    store_partition_value_key(partition, kind, name, &place);
    return store_partition_read_at(partition, txn, opener, &place, number, rows, to, reterr);
}

size_t store_partition_chunk_rows(const struct store_partition *partition, uint32_t number)
{
    uint64_t left = partition->counts.rows - (uint64_t)number * STORE_CHUNK_ROWS;
    return left < STORE_CHUNK_ROWS ? (size_t)left : STORE_CHUNK_ROWS;
}

enum store_form store_form_of(const struct proto_schema *schema, size_t column, bool is_pseudonym)
{
    const struct proto_column *from = &schema->columns[column];
    if (is_pseudonym || (schema->unit[0] && strcmp(schema->unit, from->name) == 0)) {
        return STORE_FORM_CODE;
    }
    switch (from->type) {
    case PROTO_COLUMN_CATEGORY:
    case PROTO_COLUMN_BOOLEAN:
        return STORE_FORM_CODE;
    case PROTO_COLUMN_TEXT:
    case PROTO_COLUMN_TOKENS:
    case PROTO_COLUMN_TAGS:
        return STORE_FORM_TEXT;
    default:
        return STORE_FORM_NUMBER;
    }
}

/* --- opening ------------------------------------------------------------------------------- */

static enum err damaged(const struct store_partition *partition, enum err err, const char *what,
                        struct err_info *reterr)
{
    return proto_err_set(reterr, err, "dataset %s, file %s: %s", partition->dataset,
                         partition->file, what);
}

static int64_t nanoseconds(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

static void note_state(const struct stat *file, struct store_file_state *ret)
{
    *ret = (struct store_file_state){.device = file->st_dev,
                                     .inode = file->st_ino,
                                     .size = (uint64_t)file->st_size,
                                     .modified_ns = nanoseconds(&file->st_mtim),
                                     .changed_ns = nanoseconds(&file->st_ctim)};
}

/* Before LMDB may look at the file. */
static enum err check_file(struct store_partition *partition, const char *path, uint64_t *ret_bytes,
                           struct err_info *reterr)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ENOENT ? damaged(partition, E_NOT_FOUND, "the file is gone", reterr)
                               : store_env_errno(errno, path, reterr);
    }
    uint8_t uuid[16];
    struct stat file;
    enum err err = fstat(fd, &file) ? E_IO : E_OK; /* before it is read: a later write shows */
    if (!err) {
        note_state(&file, &partition->state);
        err =
            store_partition_trailer_check(fd, partition->index, uuid, ret_bytes, &partition->table);
    }
    close(fd);
    if (err) {
        return damaged(partition, err,
                       err == E_CORRUPT ? "it was changed or cut short" : proto_err_text(err),
                       reterr);
    }
    if (memcmp(uuid, partition->place.uuid, sizeof uuid) != 0) {
        return damaged(partition, E_ROLLBACK, "it is the file of another import", reterr);
    }
    return E_OK;
}

static enum err read_schema(struct store_partition *partition, struct span body,
                            struct err_info *reterr)
{
    uint8_t *copy = arena_alloc(&partition->arena, body.len, 1);
    if (!copy) {
        return damaged(partition, E_NO_MEMORY, "out of memory", reterr);
    }
    memcpy(copy, body.ptr, body.len);
    struct proto_dataset dataset;
    enum err err =
        proto_dataset_decode(span_of(copy, body.len), &partition->arena, &dataset, reterr);
    err = err ? err : proto_dataset_schema(&dataset, &partition->arena, &partition->schema, reterr);
    if (err) {
        return err == E_NO_MEMORY ? err : damaged(partition, E_CORRUPT, "its schema", reterr);
    }
    uint8_t hash[32];
    proto_schema_hash(&partition->schema, &crypto_proto_hash, hash);
    return memcmp(hash, partition->place.schema_hash, 32) == 0
               ? E_OK
               : damaged(partition, E_CORRUPT, "its schema is not the one it names", reterr);
}

static enum err read_meta(struct store_partition *partition, struct span meta,
                          struct err_info *reterr)
{
    const uint8_t *p = meta.ptr;
    if (meta.len >= 4 && memcmp(p, "CPM", 3) == 0 && p[3] != '2') {
        return damaged(partition, E_UNSUPPORTED, "it was written by another version", reterr);
    }
    if (meta.len < STORE_PARTITION_META_SIZE || memcmp(p, "CPM2", 4) != 0 ||
        get_be32(p + 104) > meta.len - STORE_PARTITION_META_SIZE || get_be64(p + 84) > UINT32_MAX ||
        get_be64(p + 92) > (uint64_t)UINT32_MAX + 1 || get_be32(p + 100) > STORE_UNIT_ROWS_MAX) {
        return damaged(partition, E_CORRUPT, "its description", reterr);
    }
    if (memcmp(p + 4, partition->place.uuid, 16) != 0 || memcmp(p + 52, partition->root, 32) != 0) {
        return damaged(partition, E_ROLLBACK, "it is not the one of the catalogue", reterr);
    }
    struct store_partition_counts *counts = &partition->counts;
    counts->rows = get_be64(p + 84);
    counts->units = get_be64(p + 92);
    counts->unit_rows = get_be32(p + 100);
    partition->chunks = (uint32_t)((counts->rows + STORE_CHUNK_ROWS - 1) / STORE_CHUNK_ROWS);
    return read_schema(partition, span_of(p + STORE_PARTITION_META_SIZE, get_be32(p + 104)),
                       reterr);
}

/* The values of a private category: u32 count, (u16 length | bytes) each. */
static enum err read_dictionary(struct store_partition *partition, size_t column, struct span bytes,
                                struct err_info *reterr)
{
    const uint8_t *p = bytes.ptr;
    size_t left = bytes.len;
    if (left < 4 || get_be32(p) > left / 2) {
        return damaged(partition, E_CORRUPT, "a list of values", reterr);
    }
    uint32_t count = get_be32(p);
    const char **values = arena_alloc(&partition->arena, count, sizeof *values);
    bool fits = values != NULL;
    p += 4;
    left -= 4;
    for (uint32_t i = 0; i < count && fits; i++) {
        size_t len = left >= 2 ? get_be16(p) : SIZE_MAX;
        if (left < 2 || len > left - 2) {
            return damaged(partition, E_CORRUPT, "a list of values", reterr);
        }
        values[i] = arena_strdup(&partition->arena, span_of(p + 2, len));
        fits = values[i] != NULL;
        p += 2 + len;
        left -= 2 + len;
    }
    partition->columns[column].values = values;
    partition->columns[column].value_count = count;
    return fits ? E_OK : damaged(partition, E_NO_MEMORY, "out of memory", reterr);
}

static enum err read_columns(struct store_partition *partition, MDB_txn *txn,
                             struct crypto_opener *opener, struct buf *plain,
                             struct err_info *reterr)
{
    const struct proto_schema *schema = &partition->schema;
    partition->columns =
        arena_alloc(&partition->arena, schema->count + 1, sizeof *partition->columns);
    if (!partition->columns) {
        return damaged(partition, E_NO_MEMORY, "out of memory", reterr);
    }
    enum err err = store_partition_read(partition, txn, opener, STORE_PARTITION_DICTIONARY, "", 0,
                                        0, plain, reterr);
    if (!err && plain->len < schema->count) {
        err = damaged(partition, E_CORRUPT, "its columns", reterr);
    }
    for (size_t i = 0; i < schema->count && !err; i++) {
        struct store_partition_column *column = &partition->columns[i];
        if (plain->ptr[i] >= STORE_FORM_COUNT) {
            return damaged(partition, E_CORRUPT, "its columns", reterr);
        }
        column->form = plain->ptr[i];
        column->values = schema->columns[i].values;
        column->value_count = (uint32_t)schema->columns[i].value_count;
        if (schema->columns[i].type == PROTO_COLUMN_BOOLEAN) {
            column->value_count = 2;
        }
    }
    for (size_t i = 0; i < schema->count && !err; i++) {
        if (schema->columns[i].values_private) {
            err = store_partition_read(partition, txn, opener, STORE_PARTITION_DICTIONARY,
                                       schema->columns[i].name, 0, 0, plain, reterr);
            err = err ? err : read_dictionary(partition, i, buf_span(plain), reterr);
        }
    }
    partition->unit = schema->unit[0] ? proto_schema_find(schema, schema->unit) : -1;
    if (!err && partition->unit >= 0 &&
        partition->columns[partition->unit].form != STORE_FORM_CODE) {
        err = damaged(partition, E_CORRUPT, "its unit column", reterr);
    }
    return err;
}

/* The table, which a file of version 1 lacks, and the catalogue's root over it. */
static enum err check_root(struct store_partition *partition, MDB_txn *txn, struct err_info *reterr)
{
    uint8_t meta[STORE_PARTITION_KEY];
    uint8_t root[32];
    enum err err = E_OK;
    if (partition->table.len == 0) {
        err = store_partition_table_read(txn, partition->dbi, &partition->table, reterr);
    }
    store_partition_key(partition->index, STORE_PARTITION_META, "", 0, meta);
    err = err ? err : store_partition_root_of(buf_span(&partition->table), meta, root);
    if (err || memcmp(root, partition->root, sizeof root) != 0) {
        return damaged(partition, err ? err : E_CORRUPT, "its values do not fit its root", reterr);
    }
    partition->asked_for = arena_alloc(&partition->arena, partition->table.len / STORE_TABLE_LINE,
                                       sizeof *partition->asked_for);
    return partition->asked_for ? E_OK : damaged(partition, E_NO_MEMORY, "out of memory", reterr);
}

static enum err read_all(struct store_partition *partition, struct err_info *reterr)
{
    MDB_txn *txn = NULL;
    struct crypto_opener *opener = NULL;
    struct buf plain = {.max = READ_MAX};
    int rc = mdb_txn_begin(store_env_mdb(partition->env), NULL, MDB_RDONLY, &txn);
    rc = rc ? rc : mdb_dbi_open(txn, NULL, 0, &partition->dbi);
    enum err err = rc ? store_env_error(rc, partition->file, reterr) : E_OK;
    err = err ? err : check_root(partition, txn, reterr);
    err = err ? err : crypto_opener_new(partition->dek, store_partition_context(), &opener);
    err = err ? err
              : store_partition_read(partition, txn, opener, STORE_PARTITION_META, "", 0, 0, &plain,
                                     reterr);
    err = err ? err : read_meta(partition, buf_span(&plain), reterr);
    err = err ? err : read_columns(partition, txn, opener, &plain, reterr);
    crypto_opener_free(opener);
    if (txn) {
        mdb_txn_abort(txn);
    }
    if (plain.ptr) {
        crypto_wipe(plain.ptr, plain.cap);
    }
    buf_fini(&plain);
    return err;
}

static enum err find_row(struct store *store, struct store_partition *partition,
                         struct err_info *reterr)
{
    struct arena arena = {0};
    struct store_dataset row;
    enum err err = store_catalogue_get(store, partition->dataset, &arena, &row, reterr);
    if (!err) {
        memcpy(partition->place.uuid, row.partition_uuid, 16);
        memcpy(partition->place.schema_hash, row.schema_hash, 32);
        memcpy(partition->root, row.root, 32);
        store_partition_file_name(row.partition_uuid, partition->file);
    }
    arena_fini(&arena);
    return err;
}

/* KEY is "dataset/NAME", or between a rotation's switch and its end "rotate/NAME". */
static enum err find_key(struct store *store, struct store_partition *partition, const char *key,
                         struct err_info *reterr)
{
    char name[CRYPTO_KEYRING_NAME];
    snprintf(name, sizeof name, "%s/%s", key, partition->dataset);
    crypto_key_free(partition->dek);
    crypto_key_free(partition->index);
    partition->dek = partition->index = NULL;
    enum err err = crypto_keyring_copy(store->keyring, name, &partition->dek);
    if (err) {
        return damaged(partition, err,
                       err == E_NOT_FOUND ? "its key was shredded" : "no room for its key", reterr);
    }
    err = store_partition_index_key(partition->dek, &partition->index);
    return err ? damaged(partition, err, "no room for its key", reterr) : E_OK;
}

static enum err open_file(struct store *store, struct store_partition *partition,
                          struct err_info *reterr)
{
    char path[PATH_MAX];
    uint64_t bytes = 0;
    if (!store_partition_path(store->home, partition->place.uuid, "", path, sizeof path)) {
        return damaged(partition, E_LIMIT, "its path is too long", reterr);
    }
    enum err err = check_file(partition, path, &bytes, reterr);
    err = err ? err
              : store_env_open(path, STORE_ENV_READONLY | STORE_ENV_IMMUTABLE, bytes,
                               &partition->env, reterr);
    return err ? err : read_all(partition, reterr);
}

/* An open one of the file that the catalogue names, if that is as it was when it was checked and its key is still there. */
static struct store_partition *find_open(struct store *store, struct store_partition *like)
{
    static const char *const keys[] = {"dataset", "rotate"};
    char path[PATH_MAX];
    struct stat file;
    if (!store_partition_path(store->home, like->place.uuid, "", path, sizeof path) ||
        stat(path, &file)) {
        return NULL;
    }
    note_state(&file, &like->state);
    struct store_partition *found = NULL;
    for (size_t i = 0; !found && i < 2; i++) {
        if (find_key(store, like, keys[i], NULL) == E_OK) {
            found = store_partition_cache_find(store->partitions, like);
        }
    }
    return found;
}

/* The trailer's MAC tells before LMDB sees the file which of two keys it is sealed under. */
static enum err open_by_key(struct store *store, struct store_partition *partition,
                            struct err_info *reterr)
{
    enum err err = find_key(store, partition, "dataset", reterr);
    err = err ? err : open_file(store, partition, reterr);
    if ((err == E_CORRUPT || err == E_AUTH) && !partition->env &&
        find_key(store, partition, "rotate", NULL) == E_OK &&
        open_file(store, partition, NULL) == E_OK) {
        err = E_OK;
    }
    return err;
}

/* Who replaces or removes a dataset tells the cache afterwards; if that was between our look into the catalogue and now, the
 * old file must not stay. */
static void keep(struct store *store, struct store_partition *partition)
{
    struct timespec clock;
    struct store_partition now = {0};
    clock_gettime(CLOCK_REALTIME, &clock);
    if (nanoseconds(&clock) - partition->state.changed_ns < SETTLED_NS) {
        return; /* a change that comes now might not show in its times */
    }
    memcpy(now.dataset, partition->dataset, sizeof now.dataset);
    store_partition_cache_add(store->partitions, partition);
    if (find_row(store, &now, NULL) || memcmp(now.root, partition->root, sizeof now.root) != 0) {
        store_partition_forget(store, partition->dataset);
    }
    /* For this caller what it was opened as stands, as for a scan that began a moment ago. */
}

static enum err open_once(struct store *store, const char *dataset, bool checked, bool *ret_again,
                          struct store_partition **ret, struct err_info *reterr)
{
    struct store_partition *partition = proto_alloc(1, sizeof *partition);
    if (!partition) {
        return proto_err_set(reterr, E_NO_MEMORY, "opening dataset %s", dataset);
    }
    partition->table.max = STORE_TABLE_MAX;
    uint64_t generation = crypto_keyring_generation(store->keyring);
    snprintf(partition->dataset, sizeof partition->dataset, "%s", dataset);
    enum err err = find_row(store, partition, reterr);
    bool known = !err;
    *ret = err || checked ? NULL : find_open(store, partition);
    if (*ret) {
        store_partition_end(partition);
        return E_OK;
    }
    err = err ? err : open_by_key(store, partition, reterr);
    if (err) {
        bool other_keys = generation != crypto_keyring_generation(store->keyring);
        store_partition_end(partition);
        *ret_again = known && (err == E_NOT_FOUND || other_keys);
        return err;
    }
    partition->users = 1;
    if (!checked) {
        keep(store, partition);
    }
    *ret = partition;
    return E_OK;
}

static enum err open_again(struct store *store, const char *dataset, bool checked,
                           struct store_partition **ret, struct err_info *reterr)
{
    bool again = true;
    enum err err = E_NOT_FOUND;
    /* An import or a rotation may replace file and key between the look into the catalogue and the opening. */
    for (unsigned tries = 0; again && tries < 5; tries++) {
        again = false;
        err = open_once(store, dataset, checked, &again, ret, reterr);
    }
    return err;
}

enum err store_partition_open(struct store *store, const char *dataset,
                              struct store_partition **ret, struct err_info *reterr)
{
    return open_again(store, dataset, false, ret, reterr);
}

enum err store_partition_open_checked(struct store *store, const char *dataset,
                                      struct store_partition **ret, struct err_info *reterr)
{
    return open_again(store, dataset, true, ret, reterr);
}

void store_partition_end(struct store_partition *partition)
{
    store_env_close(partition->env);
    crypto_key_free(partition->dek);
    crypto_key_free(partition->index);
    arena_fini(&partition->arena);
    buf_fini(&partition->table);
    proto_free(partition);
}

void store_partition_close(struct store_partition *partition)
{
    if (partition && store_partition_cache_release(partition)) {
        store_partition_end(partition);
    }
}

/* --- reading ------------------------------------------------------------------------------- */

const struct proto_schema *store_partition_schema(const struct store_partition *partition)
{
    return &partition->schema;
}

uint64_t store_partition_rows(const struct store_partition *partition)
{
    return partition->counts.rows;
}

uint64_t store_partition_units(const struct store_partition *partition)
{
    return partition->counts.units;
}

uint32_t store_partition_unit_rows(const struct store_partition *partition)
{
    return partition->counts.unit_rows;
}

static bool has_column(const struct store_partition *partition, int column)
{
    return column >= 0 && (size_t)column < partition->schema.count;
}

enum store_form store_partition_form(const struct store_partition *partition, int column)
{
    return has_column(partition, column) ? partition->columns[column].form : STORE_FORM_COUNT;
}

const char *store_partition_value(const struct store_partition *partition, int column,
                                  uint32_t code)
{
    if (!has_column(partition, column) || !partition->columns[column].values ||
        code >= partition->columns[column].value_count) {
        return NULL;
    }
    return partition->columns[column].values[code];
}

uint32_t store_partition_values(const struct store_partition *partition, int column)
{
    return has_column(partition, column) ? partition->columns[column].value_count : 0;
}

const uint8_t *store_partition_root(const struct store_partition *partition)
{
    return partition->root;
}

/* --- all of it ----------------------------------------------------------------------------- */

struct walk {
    const struct store_partition *partition;
    MDB_txn *txn;
    struct crypto_opener *opener;
    struct buf plain;
    uint64_t seen;
    store_partition_fn *each;
    void *user;
};

static enum err visit(struct walk *walk, enum store_partition_kind kind, const char *name,
                      uint32_t number, uint32_t rows, struct err_info *reterr)
{
    uint8_t bytes[STORE_PARTITION_KEY];
    store_partition_key(walk->partition->index, kind, name, number, bytes);
    MDB_val key = {.mv_size = sizeof bytes, .mv_data = bytes};
    MDB_val value;
    if (mdb_get(walk->txn, walk->partition->dbi, &key, &value)) {
        return E_OK; /* not every column has every kind; the number of all tells at the end */
    }
    walk->seen++;
    enum err err = store_partition_read(walk->partition, walk->txn, walk->opener, kind, name,
                                        number, rows, &walk->plain, reterr);
    return err ? err
               : walk->each(walk->user, kind, name, number, rows, buf_span(&walk->plain), reterr);
}

/* The texts of a chunk, whose own value was just visited. */
static enum err visit_segments(struct walk *walk, const char *name, uint32_t chunk, uint32_t rows,
                               struct err_info *reterr)
{
    struct store_chunk list = {0};
    enum err err = store_column_open(buf_span(&walk->plain), STORE_FORM_TEXT, rows, &list);
    if (err) {
        err = damaged(walk->partition, err, "a list of texts", reterr);
    }
    for (uint32_t i = 0; i < list.segment_count && !err; i++) {
        err = visit(walk, STORE_PARTITION_SEGMENT, name, chunk << STORE_SEGMENT_BITS | i,
                    list.segments[i], reterr);
    }
    store_chunk_fini(&list);
    return err;
}

static enum err visit_column(struct walk *walk, const char *name, enum store_form form,
                             struct err_info *reterr)
{
    const struct store_partition *partition = walk->partition;
    enum err err = visit(walk, STORE_PARTITION_DICTIONARY, name, 0, 0, reterr);
    for (uint32_t chunk = 0; chunk < partition->chunks && !err; chunk++) {
        uint32_t rows = (uint32_t)store_partition_chunk_rows(partition, chunk);
        uint64_t seen = walk->seen;
        err = visit(walk, STORE_PARTITION_CHUNK, name, chunk, rows, reterr);
        if (!err && form == STORE_FORM_TEXT && walk->seen > seen) {
            err = visit_segments(walk, name, chunk, rows, reterr);
        }
        if (!err && chunk % STORE_ZONE_CHUNKS == 0) {
            err = visit(walk, STORE_PARTITION_ZONE, name, chunk / STORE_ZONE_CHUNKS, 0, reterr);
        }
    }
    return err;
}

enum err store_partition_count(const struct store_partition *partition, uint64_t *ret,
                               struct err_info *reterr)
{
    MDB_stat stat;
    int rc = mdb_env_stat(store_env_mdb(partition->env), &stat);
    *ret = rc || stat.ms_entries == 0 ? 0 : stat.ms_entries - 1;
    return rc ? store_env_error(rc, partition->file, reterr) : E_OK;
}

enum err store_partition_each(const struct store_partition *partition, store_partition_fn *each,
                              void *user, struct err_info *reterr)
{
    struct walk walk = {
        .partition = partition, .plain = {.max = READ_MAX}, .each = each, .user = user};
    uint64_t total = 0;
    int rc = mdb_txn_begin(store_env_mdb(partition->env), NULL, MDB_RDONLY, &walk.txn);
    enum err err = rc ? store_env_error(rc, partition->file, reterr)
                      : store_partition_count(partition, &total, reterr);
    err = err ? err : crypto_opener_new(partition->dek, store_partition_context(), &walk.opener);
    err = err ? err : visit_column(&walk, "", STORE_FORM_COUNT, reterr); /* the list of forms */
    for (size_t i = 0; i < partition->schema.count && !err; i++) {
        err = visit_column(&walk, partition->schema.columns[i].name, partition->columns[i].form,
                           reterr);
    }
    if (!err && walk.seen != total) {
        err = damaged(partition, E_UNSUPPORTED, "it holds values that this version does not know",
                      reterr);
    }
    crypto_opener_free(walk.opener);
    if (walk.txn) {
        mdb_txn_abort(walk.txn);
    }
    if (walk.plain.ptr) {
        crypto_wipe(walk.plain.ptr, walk.plain.cap);
    }
    buf_fini(&walk.plain);
    return err;
}
