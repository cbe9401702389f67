#include "config.h"
#include "store/records.h"

#include "crypto/provider.h"
#include "store/table.h"

#define KEY_SIZE 40 /* issuer, key, be64 kind */
#define FORKED   1  /* first byte of a stored value: flags; the record follows */

static void make_key(const uint8_t issuer[16], const uint8_t key[16], uint64_t kind,
                     uint8_t ret[KEY_SIZE])
{
    memcpy(ret, issuer, 16);
    memcpy(ret + 16, key, 16);
    put_be64(ret + 32, kind);
}

static enum err split(struct span value, struct span *ret_record, bool *ret_forked)
{
    if (value.len < 2 || value.ptr[0] > FORKED) {
        return E_CORRUPT;
    }
    *ret_forked = value.ptr[0] == FORKED;
    *ret_record = span_of(value.ptr + 1, value.len - 1);
    return E_OK;
}

struct put {
    struct span bytes;
    struct proto_record record;
    bool lost; /* it was kept only as proof of a fork */
};

static enum err save(struct store *store, MDB_txn *txn, struct span key, struct span record,
                     bool forked, struct err_info *reterr)
{
    uint8_t value[1 + PROTO_RECORD_MAX];
    value[0] = forked ? FORKED : 0;
    memcpy(value + 1, record.ptr, record.len);
    return store_raw_put(store, txn, STORE_TABLE_RECORDS, key, span_of(value, 1 + record.len),
                         reterr);
}

/* Keeps LOSER beside the winner, unless a fork of this key is kept already: one proof is enough. */
static enum err keep_proof(struct store *store, MDB_txn *txn, struct span key, struct span loser,
                           bool *ret_new, struct err_info *reterr)
{
    struct span known;
    enum err err = store_raw_get(store, txn, STORE_TABLE_RECORD_FORKS, key, &known, NULL);
    *ret_new = err == E_NOT_FOUND;
    return *ret_new ? store_raw_put(store, txn, STORE_TABLE_RECORD_FORKS, key, loser, reterr) : err;
}

static enum err replace(struct store *store, MDB_txn *txn, struct span key, const struct put *put,
                        const struct proto_record *old, bool forked, struct err_info *reterr)
{
    enum err err = E_OK;
    if (old) {
        uint8_t old_id[16]; /* the decoded record borrows from the page that is about to change */
        memcpy(old_id, old->id, 16);
        err = store_raw_del(store, txn, STORE_TABLE_RECORD_IDS, span_of(old_id, 16), reterr);
        err = err == E_NOT_FOUND ? E_OK : err;
    }
    if (!err) {
        err = save(store, txn, key, put->bytes, forked, reterr);
    }
    return err ? err
               : store_raw_put(store, txn, STORE_TABLE_RECORD_IDS, span_of(put->record.id, 16), key,
                               reterr);
}

static enum err merge(struct store *store, MDB_txn *txn, struct span key, struct put *put,
                      struct span value, struct err_info *reterr)
{
    struct proto_record old;
    struct span old_bytes;
    bool forked = false;
    bool fresh_proof = false;
    enum err err = split(value, &old_bytes, &forked);
    if (err || proto_record_decode(old_bytes, &crypto_proto_hash, &old, NULL)) {
        return proto_err_set(reterr, E_CORRUPT, "table records: a row is damaged");
    }
    int order = proto_record_compare(&put->record, &old);
    uint8_t copy[PROTO_RECORD_MAX];
    if (old_bytes.len > sizeof copy) {
        return proto_err_set(reterr, E_CORRUPT, "table records: a row is damaged");
    }
    memcpy(copy, old_bytes.ptr, old_bytes.len);
    if (proto_record_equivocates(&put->record, &old)) {
        struct span loser = order > 0 ? span_of(copy, old_bytes.len) : put->bytes;
        err = keep_proof(store, txn, key, loser, &fresh_proof, reterr);
        if (!err && order <= 0 && fresh_proof) {
            put->lost = true;
            return save(store, txn, key, span_of(copy, old_bytes.len), true, reterr);
        }
        forked = true;
    }
    if (!err && order <= 0) {
        err = proto_err_set(reterr, E_EXISTS,
                            "the record is known, or older than the one that is here");
    }
    return err ? err : replace(store, txn, key, put, &old, forked, reterr);
}

static enum err put_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct put *put = ctx;
    const struct proto_envelope *envelope = &put->record.envelope;
    uint8_t key[KEY_SIZE];
    struct span value;
    put->lost = false;
    make_key(envelope->issuer.ptr, envelope->key.ptr, envelope->kind, key);
    enum err err =
        store_raw_get(store, txn, STORE_TABLE_RECORDS, span_of(key, KEY_SIZE), &value, NULL);
    if (err == E_NOT_FOUND) {
        return replace(store, txn, span_of(key, KEY_SIZE), put, NULL, false, reterr);
    }
    return err ? err : merge(store, txn, span_of(key, KEY_SIZE), put, value, reterr);
}

enum err store_records_put(struct store *store, struct span record, struct err_info *reterr)
{
    struct put put = {.bytes = record};
    if (record.len > PROTO_RECORD_MAX) {
        return proto_err_set(reterr, E_LIMIT, "a record of %zu bytes", record.len);
    }
    enum err err = proto_record_decode(record, &crypto_proto_hash, &put.record, reterr);
    if (!err) {
        err = store_write(store, put_in, &put, reterr);
    }
    if (!err && put.lost) {
        err =
            proto_err_set(reterr, E_FORKED, "its issuer signed another version of the same number");
    }
    return err;
}

static enum err copy_out(struct span bytes, struct arena *arena, struct span *ret)
{
    uint8_t *copy = arena_alloc(arena, bytes.len + 1, 1);
    if (!copy) {
        return E_NO_MEMORY;
    }
    memcpy(copy, bytes.ptr, bytes.len);
    *ret = span_of(copy, bytes.len);
    return E_OK;
}

static enum err get_by_key(struct store *store, MDB_txn *txn, struct span key, struct arena *arena,
                           struct span *ret, bool *ret_forked)
{
    struct span value;
    struct span bytes;
    bool forked = false;
    enum err err = store_raw_get(store, txn, STORE_TABLE_RECORDS, key, &value, NULL);
    err = err ? err : split(value, &bytes, &forked);
    err = err ? err : copy_out(bytes, arena, ret);
    if (!err && ret_forked) {
        *ret_forked = forked;
    }
    return err;
}

enum err store_records_get(struct store *store, const uint8_t issuer[16], const uint8_t key[16],
                           uint64_t kind, struct arena *arena, struct span *ret, bool *ret_forked)
{
    uint8_t full[KEY_SIZE];
    MDB_txn *txn = NULL;
    make_key(issuer, key, kind, full);
    enum err err = store_read(store, &txn, NULL);
    if (!err) {
        err = get_by_key(store, txn, span_of(full, KEY_SIZE), arena, ret, ret_forked);
    }
    store_read_end(txn);
    return err;
}

enum err store_records_by_id(struct store *store, const uint8_t id[16], struct arena *arena,
                             struct span *ret)
{
    MDB_txn *txn = NULL;
    struct span key;
    enum err err = store_read(store, &txn, NULL);
    if (!err) {
        err = store_raw_get(store, txn, STORE_TABLE_RECORD_IDS, span_of(id, 16), &key, NULL);
    }
    if (!err) {
        err = get_by_key(store, txn, key, arena, ret, NULL);
        err = err == E_NOT_FOUND ? E_CORRUPT : err;
    }
    store_read_end(txn);
    return err;
}

enum err store_records_fork(struct store *store, const uint8_t issuer[16], const uint8_t key[16],
                            uint64_t kind, struct arena *arena, struct span *ret)
{
    uint8_t full[KEY_SIZE];
    struct span bytes;
    MDB_txn *txn = NULL;
    make_key(issuer, key, kind, full);
    enum err err = store_read(store, &txn, NULL);
    if (!err) {
        err = store_raw_get(store, txn, STORE_TABLE_RECORD_FORKS, span_of(full, KEY_SIZE), &bytes,
                            NULL);
    }
    if (!err) {
        err = copy_out(bytes, arena, ret);
    }
    store_read_end(txn);
    return err;
}

struct each {
    uint64_t kind;
    store_records_fn *fn;
    void *user;
};

static enum err each_record(void *user, struct span key, struct span value, struct err_info *reterr)
{
    const struct each *each = user;
    struct span bytes;
    bool forked = false;
    if (key.len != KEY_SIZE || split(value, &bytes, &forked)) {
        return proto_err_set(reterr, E_CORRUPT, "table records: a row is damaged");
    }
    return each->kind && get_be64(key.ptr + 32) != each->kind ? E_OK
                                                              : each->fn(each->user, bytes, forked);
}

enum err store_records_each(struct store *store, uint64_t kind, store_records_fn *each, void *user)
{
    struct each ctx = {kind, each, user};
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, NULL);
    if (!err) {
        err = store_raw_each(store, txn, STORE_TABLE_RECORDS, SPAN_NONE, each_record, &ctx, NULL);
    }
    store_read_end(txn);
    return err;
}

enum err store_records_next_seq(struct store *store, const uint8_t key[16], uint64_t kind,
                                uint64_t *ret_seq, uint8_t ret_prev[16])
{
    struct arena arena = {0};
    struct span bytes;
    struct proto_record record = {0};
    enum err err = store_records_get(store, store->node_id, key, kind, &arena, &bytes, NULL);
    if (!err) {
        err = proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) ? E_CORRUPT : E_OK;
    } else if (err == E_NOT_FOUND) {
        err = E_OK;
    }
    if (!err) {
        *ret_seq = record.envelope.seq + 1;
        if (ret_prev) {
            memcpy(ret_prev, record.id, 16);
        }
    }
    arena_fini(&arena);
    return err;
}
