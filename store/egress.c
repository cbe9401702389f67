#include "config.h"
#include "store/egress.h"

#include "proto/codec.h"
#include "store/table.h"

#include <pthread.h>

/* Keys of the table: 'c' and a blinded (peer, kind) for counters; 'r' and a number for rows, so that rows come last in order. */
#define ROW_KEY     9
#define COUNTER_KEY (1 + STORE_BLIND_SIZE)
#define ROW_MAX     1024

struct stored {
    int64_t time;
    struct span peer, kind, id;
    uint64_t bytes;
};

static const struct proto_field fields[] = {
    PROTO_FIELD(struct stored, time, PROTO_I64, INT64_MIN, INT64_MAX),
    PROTO_FIELD(struct stored, peer, PROTO_STR, 0, STORE_EGRESS_TEXT),
    PROTO_FIELD(struct stored, kind, PROTO_STR, 0, STORE_EGRESS_TEXT),
    PROTO_FIELD(struct stored, id, PROTO_STR, 0, STORE_EGRESS_TEXT),
    PROTO_FIELD(struct stored, bytes, PROTO_U64, 0, INT64_MAX),
};
static const struct proto_message message = PROTO_MESSAGE("egress", struct stored, fields);

static enum err put_row(struct store *store, MDB_txn *txn, struct span key,
                        const struct stored *row, struct err_info *reterr)
{
    struct buf plain = {.max = ROW_MAX};
    enum err err = proto_codec_encode(&message, row, &plain, reterr);
    if (!err) {
        err = store_sealed_put(store, txn, STORE_TABLE_EGRESS, key, buf_span(&plain), reterr);
    }
    buf_fini(&plain);
    return err;
}

/* Spans in RET borrow from PLAIN. */
static enum err open_row(struct store *store, struct span key, struct span value, struct buf *plain,
                         struct stored *ret, struct err_info *reterr)
{
    struct arena arena = {0};
    enum err err = store_unseal(store, STORE_TABLE_EGRESS, key, value, plain, reterr);
    if (!err && proto_codec_decode(&message, buf_span(plain), &arena, ret, reterr)) {
        err = proto_err_set(reterr, E_CORRUPT, "table egress: a row is damaged");
    }
    arena_fini(&arena);
    return err;
}

/* The number of the last row: 'r' sorts after 'c', so it is the last key of the table. */
static enum err last_number(struct store *store, MDB_txn *txn, uint64_t *ret,
                            struct err_info *reterr)
{
    MDB_cursor *cursor = NULL;
    MDB_val k;
    MDB_val v;
    int rc = mdb_cursor_open(txn, store->tables[STORE_TABLE_EGRESS], &cursor);
    if (rc) {
        return proto_err_set(reterr, E_IO, "table egress: %s", mdb_strerror(rc));
    }
    rc = mdb_cursor_get(cursor, &k, &v, MDB_LAST);
    *ret = !rc && k.mv_size == ROW_KEY && *(const char *)k.mv_data == 'r'
               ? get_be64((const uint8_t *)k.mv_data + 1)
               : 0;
    mdb_cursor_close(cursor);
    return rc && rc != MDB_NOTFOUND
               ? proto_err_set(reterr, E_IO, "table egress: %s", mdb_strerror(rc))
               : E_OK;
}

static enum err add_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    uint64_t number = 0;
    uint8_t key[ROW_KEY] = {'r'};
    enum err err = last_number(store, txn, &number, reterr);
    put_be64(key + 1, number + 1);
    return err ? err : put_row(store, txn, span_of(key, sizeof key), ctx, reterr);
}

enum err store_egress_add_in(struct store *store, MDB_txn *txn, const struct store_egress *row,
                             struct err_info *reterr)
{
    struct stored stored = {row->time, span_str(row->peer), span_str(row->kind), span_str(row->id),
                            row->bytes};
    return add_in(store, txn, &stored, reterr);
}

enum err store_egress_add(struct store *store, const char *peer, const char *kind, const char *id,
                          uint64_t bytes, int64_t now, struct err_info *reterr)
{
    struct stored row = {now, span_str(peer), span_str(kind), span_str(id), bytes};
    return store_write(store, add_in, &row, reterr);
}

/* --- counters -------------------------------------------------------------------------------- */

struct counter {
    char peer[STORE_EGRESS_TEXT + 1];
    char kind[STORE_EGRESS_TEXT + 1];
    uint64_t bytes;
};

struct store_egress_counters {
    pthread_mutex_t lock;
    size_t count;
    struct counter all[STORE_EGRESS_COUNTERS];
};

struct store_egress_counters *store_egress_counters_new(void)
{
    struct store_egress_counters *counters = proto_alloc(1, sizeof *counters);
    if (counters) {
        pthread_mutex_init(&counters->lock, NULL);
    }
    return counters;
}

void store_egress_counters_free(struct store_egress_counters *counters)
{
    if (counters) {
        pthread_mutex_destroy(&counters->lock);
        proto_free(counters);
    }
}

static void copy_text(char to[STORE_EGRESS_TEXT + 1], const char *from)
{
    size_t n = strnlen(from, STORE_EGRESS_TEXT);
    memcpy(to, from, n);
    to[n] = '\0';
}

static void count_locked(struct store_egress_counters *counters, const char *peer, const char *kind,
                         uint64_t bytes)
{
    for (size_t i = 0; i < counters->count; i++) {
        struct counter *counter = &counters->all[i];
        if (strcmp(counter->peer, peer) == 0 && strcmp(counter->kind, kind) == 0) {
            counter->bytes = bytes > (uint64_t)INT64_MAX - counter->bytes ? (uint64_t)INT64_MAX
                                                                          : counter->bytes + bytes;
            return;
        }
    }
    if (counters->count == STORE_EGRESS_COUNTERS - 1) {
        peer = "other"; /* the last place, so that nothing goes uncounted */
        kind = "other";
    } else if (counters->count == STORE_EGRESS_COUNTERS) {
        count_locked(counters, "other", "other", bytes);
        return;
    }
    struct counter *counter = &counters->all[counters->count++];
    copy_text(counter->peer, peer);
    copy_text(counter->kind, kind);
    counter->bytes = bytes;
}

void store_egress_count(struct store *store, const char *peer, const char *kind, uint64_t bytes)
{
    char short_peer[STORE_EGRESS_TEXT + 1];
    char short_kind[STORE_EGRESS_TEXT + 1];
    copy_text(short_peer, peer);
    copy_text(short_kind, kind);
    pthread_mutex_lock(&store->counters->lock);
    count_locked(store->counters, short_peer, short_kind, bytes);
    pthread_mutex_unlock(&store->counters->lock);
}

struct flush {
    const struct counter *counters;
    size_t count;
    int64_t now;
};

static enum err flush_one(struct store *store, MDB_txn *txn, const struct counter *counter,
                          int64_t now, struct err_info *reterr)
{
    struct span parts[] = {span_str(counter->peer), span_str(counter->kind)};
    uint8_t key[COUNTER_KEY] = {'c'};
    struct buf plain = {.max = ROW_MAX};
    struct stored row = {.bytes = 0};
    struct span value;
    store_blind(store, STORE_TABLE_EGRESS, parts, 2, key + 1);
    enum err err =
        store_raw_get(store, txn, STORE_TABLE_EGRESS, span_of(key, sizeof key), &value, NULL);
    if (!err) {
        err = open_row(store, span_of(key, sizeof key), value, &plain, &row, reterr);
    }
    if (err && err != E_NOT_FOUND) {
        buf_fini(&plain);
        return err;
    }
    uint64_t sum = counter->bytes > (uint64_t)INT64_MAX - row.bytes ? (uint64_t)INT64_MAX
                                                                    : row.bytes + counter->bytes;
    row = (struct stored){now, parts[0], parts[1], span_of("", 0), sum};
    err = put_row(store, txn, span_of(key, sizeof key), &row, reterr);
    buf_fini(&plain);
    return err;
}

static enum err flush_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    const struct flush *flush = ctx;
    enum err err = E_OK;
    for (size_t i = 0; !err && i < flush->count; i++) {
        err = flush_one(store, txn, &flush->counters[i], flush->now, reterr);
    }
    return err;
}

enum err store_egress_flush(struct store *store, int64_t now, struct err_info *reterr)
{
    struct store_egress_counters *counters = store->counters;
    pthread_mutex_lock(&counters->lock);
    size_t count = counters->count;
    struct counter *taken = count ? proto_alloc(count, sizeof *taken) : NULL;
    if (taken) {
        memcpy(taken, counters->all, count * sizeof *taken);
        counters->count = 0;
    }
    pthread_mutex_unlock(&counters->lock);
    if (!taken) {
        return count ? proto_err_set(reterr, E_NO_MEMORY, "what left this node") : E_OK;
    }
    struct flush flush = {taken, count, now};
    enum err err = store_write(store, flush_in, &flush, reterr);
    for (size_t i = 0; err && i < count; i++) {
        store_egress_count(store, taken[i].peer, taken[i].kind, taken[i].bytes);
    }
    proto_free(taken);
    return err;
}

struct each {
    struct store *store;
    int64_t since;
    store_egress_fn *fn;
    void *user;
};

static enum err each_row(void *user, struct span key, struct span value, struct err_info *reterr)
{
    const struct each *each = user;
    struct buf plain = {.max = ROW_MAX};
    struct stored row;
    char peer[STORE_EGRESS_TEXT + 1];
    char kind[STORE_EGRESS_TEXT + 1];
    char id[STORE_EGRESS_TEXT + 1];
    enum err err = open_row(each->store, key, value, &plain, &row, reterr);
    if (!err && row.time >= each->since) {
        struct store_egress out = {peer, kind, id, row.bytes, row.time};
        err = span_to_cstr(row.peer, peer, sizeof peer) &&
                      span_to_cstr(row.kind, kind, sizeof kind) &&
                      span_to_cstr(row.id, id, sizeof id)
                  ? each->fn(each->user, &out)
                  : E_CORRUPT;
    }
    buf_fini(&plain);
    return err;
}

enum err store_egress_each(struct store *store, int64_t since, store_egress_fn *each, void *user,
                           struct err_info *reterr)
{
    struct each ctx = {store, since, each, user};
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_raw_each(store, txn, STORE_TABLE_EGRESS, SPAN_NONE, each_row, &ctx, reterr);
    }
    store_read_end(txn);
    return err;
}
