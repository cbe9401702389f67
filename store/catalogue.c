#include "config.h"
#include "store/catalogue.h"

#include "proto/codec.h"
#include "store/table.h"

#define ROW_MAX ((size_t)3 << 20)

/* A row as it is written. */
struct stored {
    struct span name, version, partition_uuid, root, schema_hash;
    uint64_t rows, units, bytes_raw, bytes_stored, size;
    int64_t imported_at;
    struct span manifest_yaml, schema;
};

static const struct proto_field fields[] = {
    PROTO_FIELD(struct stored, name, PROTO_STR, 1, 64),
    PROTO_FIELD(struct stored, version, PROTO_STR, 0, 32),
    PROTO_FIELD(struct stored, partition_uuid, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct stored, root, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct stored, schema_hash, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct stored, rows, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct stored, units, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct stored, bytes_raw, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct stored, bytes_stored, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct stored, size, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct stored, imported_at, PROTO_I64, INT64_MIN, INT64_MAX),
    PROTO_FIELD(struct stored, manifest_yaml, PROTO_BIN, 0, STORE_MANIFEST_MAX),
    PROTO_FIELD(struct stored, schema, PROTO_BIN, 0, STORE_MANIFEST_MAX),
};
static const struct proto_message message = PROTO_MESSAGE("dataset-row", struct stored, fields);

static struct span some(struct span bytes)
{
    return bytes.ptr ? bytes : span_of("", 0);
}

static enum err encode(const struct store_dataset *row, struct buf *ret, struct err_info *reterr)
{
    struct stored stored = {
        .name = span_str(row->name),
        .version = span_str(row->version),
        .partition_uuid = span_of(row->partition_uuid, 16),
        .root = span_of(row->root, 32),
        .schema_hash = span_of(row->schema_hash, 32),
        .rows = row->rows,
        .units = row->units,
        .bytes_raw = row->bytes_raw,
        .bytes_stored = row->bytes_stored,
        .size = row->size,
        .imported_at = row->imported_at,
        .manifest_yaml = some(row->manifest_yaml),
        .schema = some(row->schema),
    };
    return proto_codec_encode(&message, &stored, ret, reterr);
}

static enum err decode(struct span bytes, struct arena *arena, struct store_dataset *ret,
                       struct err_info *reterr)
{
    struct stored stored;
    enum err err = proto_codec_decode(&message, bytes, arena, &stored, reterr);
    if (!err && (!span_to_cstr(stored.name, ret->name, sizeof ret->name) ||
                 !span_to_cstr(stored.version, ret->version, sizeof ret->version))) {
        err = E_INVALID;
    }
    if (err) {
        return err == E_NO_MEMORY
                   ? err
                   : proto_err_set(reterr, E_CORRUPT, "table catalogue: a row is damaged");
    }
    memcpy(ret->partition_uuid, stored.partition_uuid.ptr, 16);
    memcpy(ret->root, stored.root.ptr, 32);
    memcpy(ret->schema_hash, stored.schema_hash.ptr, 32);
    ret->rows = stored.rows;
    ret->units = stored.units;
    ret->bytes_raw = stored.bytes_raw;
    ret->bytes_stored = stored.bytes_stored;
    ret->size = stored.size;
    ret->imported_at = stored.imported_at;
    ret->manifest_yaml = stored.manifest_yaml;
    ret->schema = stored.schema;
    return E_OK;
}

static void name_key(const struct store *store, const char *name, uint8_t ret[STORE_BLIND_SIZE])
{
    struct span part = span_str(name);
    store_blind(store, STORE_TABLE_CATALOGUE, &part, 1, ret);
}

struct put {
    const char *name;
    struct span plain;
    store_catalogue_also *also;
    void *ctx;
};

static enum err put_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    const struct put *put = ctx;
    uint8_t key[STORE_BLIND_SIZE];
    name_key(store, put->name, key);
    enum err err = store_sealed_put(store, txn, STORE_TABLE_CATALOGUE, span_of(key, sizeof key),
                                    put->plain, reterr);
    return err || !put->also ? err : put->also(store, txn, put->ctx, reterr);
}

enum err store_catalogue_put(struct store *store, const struct store_dataset *row,
                             struct err_info *reterr)
{
    return store_catalogue_put_with(store, row, NULL, NULL, reterr);
}

enum err store_catalogue_put_with(struct store *store, const struct store_dataset *row,
                                  store_catalogue_also *also, void *ctx, struct err_info *reterr)
{
    struct buf plain = {.max = ROW_MAX};
    if (!row->name[0] || !memchr(row->name, 0, sizeof row->name) ||
        !memchr(row->version, 0, sizeof row->version)) {
        return proto_err_set(reterr, E_INVALID, "the catalogue takes no such name");
    }
    enum err err = encode(row, &plain, reterr);
    if (!err) {
        struct put put = {row->name, buf_span(&plain), also, ctx};
        err = store_write(store, put_in, &put, reterr);
    }
    buf_fini(&plain);
    return err;
}

static enum err open_row(struct store *store, struct span key, struct span value,
                         struct arena *arena, struct store_dataset *ret, struct err_info *reterr)
{
    struct buf plain = {.max = ROW_MAX};
    uint8_t *copy = NULL;
    enum err err = store_unseal(store, STORE_TABLE_CATALOGUE, key, value, &plain, reterr);
    if (!err && !(copy = arena_alloc(arena, plain.len + 1, 1))) {
        err = proto_err_set(reterr, E_NO_MEMORY, "a row of the catalogue");
    }
    if (!err) {
        memcpy(copy, plain.ptr, plain.len);
        err = decode(span_of(copy, plain.len), arena, ret, reterr);
    }
    buf_fini(&plain);
    return err;
}

enum err store_catalogue_get(struct store *store, const char *name, struct arena *arena,
                             struct store_dataset *ret, struct err_info *reterr)
{
    uint8_t key[STORE_BLIND_SIZE];
    struct span value;
    MDB_txn *txn = NULL;
    name_key(store, name, key);
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_raw_get(store, txn, STORE_TABLE_CATALOGUE, span_of(key, sizeof key), &value,
                            NULL);
        if (err == E_NOT_FOUND) {
            (void)proto_err_set(reterr, err, "there is no dataset %.64s on this node", name);
        }
    }
    if (!err) {
        err = open_row(store, span_of(key, sizeof key), value, arena, ret, reterr);
    }
    store_read_end(txn);
    return err;
}

struct each {
    struct store *store;
    store_catalogue_fn *fn;
    void *user;
};

static enum err each_row(void *user, struct span key, struct span value, struct err_info *reterr)
{
    const struct each *each = user;
    struct arena arena = {0};
    struct store_dataset row;
    enum err err = open_row(each->store, key, value, &arena, &row, reterr);
    if (!err) {
        err = each->fn(each->user, &row);
    }
    arena_fini(&arena);
    return err;
}

enum err store_catalogue_each(struct store *store, store_catalogue_fn *each, void *user,
                              struct err_info *reterr)
{
    struct each ctx = {store, each, user};
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_raw_each(store, txn, STORE_TABLE_CATALOGUE, SPAN_NONE, each_row, &ctx, reterr);
    }
    store_read_end(txn);
    return err;
}

static enum err remove_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    uint8_t key[STORE_BLIND_SIZE];
    name_key(store, ctx, key);
    return store_raw_del(store, txn, STORE_TABLE_CATALOGUE, span_of(key, sizeof key), reterr);
}

enum err store_catalogue_remove(struct store *store, const char *name, struct err_info *reterr)
{
    return store_write(store, remove_in, (void *)(uintptr_t)name, reterr);
}
