#include "config.h"
#include "store/table.h"

#include "crypto/chunk.h"
#include "crypto/kdf.h"
#include "store/audit_chain.h"
#include "store/env.h"

#include <pthread.h>
#include <time.h>

#define CONTEXT   "concordat/store/1"
#define PART_MAX  ((size_t)1 << 20) /* plain bytes of one sealed part */
#define BATCH_MAX 64                /* callers that share one sync */
#define AREA_MAX  128

const char *store_table_name(enum store_table table)
{
    static const char *const names[STORE_TABLE_COUNT] = {
#define X(name, text) [STORE_TABLE_##name] = text,
        STORE_TABLES(X)
#undef X
    };
    return (unsigned)table < STORE_TABLE_COUNT ? names[table] : "unknown";
}

/* --- the writer ---------------------------------------------------------------------------------
 * LMDB has one writer and each commit waits for the disk. Whoever finds no leader becomes it, takes all that queued
 * meanwhile, runs each in a nested transaction of its own (so that one failure undoes one caller), and commits once. */

struct write_job {
    store_write_fn *fn;
    void *ctx;
    struct err_info *reterr;
    enum err result;
    bool done;
    struct write_job *next;
};

/* When many write at once, a commit waits a little for more of them: one sync then serves a dozen, and nobody is later than
 * by GATHER_MS. A lone writer, or a few, never wait. */
#define GATHER_FROM   4  /* writers that wait, or that the last commit served */
#define GATHER_ENOUGH 24 /* and then no longer */
#define GATHER_GAP_MS 12 /* nobody came for so long: there is no rush */
#define GATHER_MS     40

struct store_writer {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_cond_t more; /* a write was queued while the leader gathers */
    struct write_job *first;
    struct write_job *last;
    size_t queued;
    bool led;
    bool gathering;
    size_t served; /* by the last commit */
    struct store_traffic traffic;
};

enum err store_writer_new(struct store_writer **ret)
{
    struct store_writer *writer = proto_alloc(1, sizeof *writer);
    if (!writer) {
        return E_NO_MEMORY;
    }
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->wake, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&writer->more, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *ret = writer;
    return E_OK;
}

void store_writer_free(struct store_writer *writer)
{
    if (writer) {
        pthread_cond_destroy(&writer->more);
        pthread_cond_destroy(&writer->wake);
        pthread_mutex_destroy(&writer->lock);
        proto_free(writer);
    }
}

static enum err run_nested(struct store *store, MDB_txn *parent, struct write_job *job)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store_env_mdb(store->env), parent, 0, &txn);
    if (rc) {
        return store_env_error(rc, "beginning a write", job->reterr);
    }
    enum err err = job->fn(store, txn, job->ctx, job->reterr);
    if (err) {
        mdb_txn_abort(txn);
        return err;
    }
    rc = mdb_txn_commit(txn);
    return rc ? store_env_error(rc, "ending a write", job->reterr) : E_OK;
}

/* All that was not refused on its own fails together when the commit does. */
static void fail_all(struct write_job *jobs, enum err err, const struct err_info *info)
{
    for (struct write_job *job = jobs; job; job = job->next) {
        if (!job->result) {
            job->result = err;
            if (job->reterr) {
                *job->reterr = *info;
            }
        }
    }
}

/* One commit for all of them; the writes that it made durable. */
static uint64_t run_batch(struct store *store, struct write_job *jobs)
{
    struct err_info info = {0};
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store_env_mdb(store->env), NULL, 0, &txn);
    if (rc) {
        fail_all(jobs, store_env_error(rc, "beginning a write", &info), &info);
        return 0;
    }
    uint64_t good = 0;
    for (struct write_job *job = jobs; job; job = job->next) {
        bool alone = !jobs->next;
        job->result =
            alone ? job->fn(store, txn, job->ctx, job->reterr) : run_nested(store, txn, job);
        good += !job->result;
    }
    if (!good) {
        mdb_txn_abort(txn);
        return 0;
    }
    enum err err = store_audit_seal_head(store, txn, &info);
    if (err) {
        mdb_txn_abort(txn);
        fail_all(jobs, err, &info);
        return 0;
    }
    rc = mdb_txn_commit(txn);
    if (rc) {
        fail_all(jobs, store_env_error(rc, "committing", &info), &info);
    }
    return rc ? 0 : good;
}

static struct write_job *take_batch(struct store_writer *writer)
{
    struct write_job *batch = writer->first;
    struct write_job *end = batch;
    writer->queued--;
    for (int n = 1; n < BATCH_MAX && end->next; n++) {
        end = end->next;
        writer->queued--;
    }
    writer->first = end->next;
    if (!writer->first) {
        writer->last = NULL;
    }
    end->next = NULL;
    return batch;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Lock held. */
static void gather(struct store_writer *writer)
{
    if (writer->queued < GATHER_FROM && writer->served < GATHER_FROM) {
        return;
    }
    uint64_t end = now_ms() + GATHER_MS;
    size_t before = 0;
    writer->gathering = true;
    while (writer->queued < GATHER_ENOUGH && writer->queued > before) {
        before = writer->queued;
        uint64_t now = now_ms();
        uint64_t until = now + GATHER_GAP_MS < end ? now + GATHER_GAP_MS : end;
        struct timespec at = {(time_t)(until / 1000), (long)(until % 1000) * 1000000};
        if (now >= end) {
            break;
        }
        pthread_cond_timedwait(&writer->more, &writer->lock, &at);
    }
    writer->gathering = false;
}

enum err store_write(struct store *store, store_write_fn *fn, void *ctx, struct err_info *reterr)
{
    struct store_writer *writer = store->writer;
    struct write_job mine = {.fn = fn, .ctx = ctx, .reterr = reterr};
    pthread_mutex_lock(&writer->lock);
    if (writer->last) {
        writer->last->next = &mine;
    } else {
        writer->first = &mine;
    }
    writer->last = &mine;
    writer->queued++;
    if (writer->gathering) {
        pthread_cond_signal(&writer->more);
    }
    while (!mine.done) {
        if (writer->led) {
            pthread_cond_wait(&writer->wake, &writer->lock);
            continue;
        }
        writer->led = true;
        gather(writer);
        writer->served = writer->queued;
        struct write_job *batch = take_batch(writer);
        pthread_mutex_unlock(&writer->lock);
        uint64_t good = run_batch(store, batch);
        pthread_mutex_lock(&writer->lock);
        writer->traffic.commits += good > 0;
        writer->traffic.writes += good;
        for (struct write_job *job = batch; job;) {
            struct write_job *next =
                job->next; /* the job is its caller's stack: gone once done is seen */
            job->done = true;
            job = next;
        }
        writer->led = false;
        pthread_cond_broadcast(&writer->wake);
    }
    pthread_mutex_unlock(&writer->lock);
    return mine.result;
}

struct store_traffic store_traffic(const struct store *store)
{
    pthread_mutex_lock(&store->writer->lock);
    struct store_traffic traffic = store->writer->traffic;
    pthread_mutex_unlock(&store->writer->lock);
    return traffic;
}

enum err store_read(struct store *store, MDB_txn **ret, struct err_info *reterr)
{
    int rc = mdb_txn_begin(store_env_mdb(store->env), NULL, MDB_RDONLY, ret);
    return rc ? store_env_error(rc, "beginning a read", reterr) : E_OK;
}

void store_read_end(MDB_txn *txn)
{
    if (txn) {
        mdb_txn_abort(txn);
    }
}

/* --- plain values --------------------------------------------------------------------------- */

static MDB_val val_of(struct span span)
{
    return (MDB_val){.mv_size = span.len, .mv_data = (void *)(uintptr_t)span.ptr};
}

static struct span of_val(MDB_val val)
{
    return span_of(val.mv_data, val.mv_size);
}

enum err store_raw_put(struct store *store, MDB_txn *txn, enum store_table table, struct span key,
                       struct span value, struct err_info *reterr)
{
    MDB_val k = val_of(key);
    MDB_val v = val_of(value);
    int rc = mdb_put(txn, store->tables[table], &k, &v, 0);
    return rc ? store_env_error(rc, store_table_name(table), reterr) : E_OK;
}

enum err store_raw_get(struct store *store, MDB_txn *txn, enum store_table table, struct span key,
                       struct span *ret, struct err_info *reterr)
{
    MDB_val k = val_of(key);
    MDB_val v;
    int rc = mdb_get(txn, store->tables[table], &k, &v);
    if (rc == MDB_NOTFOUND) {
        return proto_err_set(reterr, E_NOT_FOUND, "no such row in table %s",
                             store_table_name(table));
    }
    if (rc) {
        return store_env_error(rc, store_table_name(table), reterr);
    }
    *ret = of_val(v);
    return E_OK;
}

enum err store_raw_del(struct store *store, MDB_txn *txn, enum store_table table, struct span key,
                       struct err_info *reterr)
{
    MDB_val k = val_of(key);
    int rc = mdb_del(txn, store->tables[table], &k, NULL);
    if (rc == MDB_NOTFOUND) {
        return proto_err_set(reterr, E_NOT_FOUND, "no such row in table %s",
                             store_table_name(table));
    }
    return rc ? store_env_error(rc, store_table_name(table), reterr) : E_OK;
}

enum err store_raw_last(struct store *store, MDB_txn *txn, enum store_table table, uint64_t *ret,
                        struct err_info *reterr)
{
    MDB_cursor *cursor = NULL;
    MDB_val k;
    MDB_val v;
    int rc = mdb_cursor_open(txn, store->tables[table], &cursor);
    if (rc) {
        return store_env_error(rc, store_table_name(table), reterr);
    }
    rc = mdb_cursor_get(cursor, &k, &v, MDB_LAST);
    enum err err = E_OK;
    if (rc == MDB_NOTFOUND) {
        *ret = 0;
    } else if (rc) {
        err = store_env_error(rc, store_table_name(table), reterr);
    } else if (k.mv_size != 8) {
        err = proto_err_set(reterr, E_CORRUPT, "table %s: a key has %zu bytes",
                            store_table_name(table), k.mv_size);
    } else {
        *ret = get_be64(k.mv_data);
    }
    mdb_cursor_close(cursor);
    return err;
}

enum err store_raw_each(struct store *store, MDB_txn *txn, enum store_table table, struct span from,
                        store_raw_fn *each, void *user, struct err_info *reterr)
{
    MDB_cursor *cursor = NULL;
    MDB_val k = val_of(from);
    MDB_val v;
    int rc = mdb_cursor_open(txn, store->tables[table], &cursor);
    if (rc) {
        return store_env_error(rc, store_table_name(table), reterr);
    }
    enum err err = E_OK;
    rc = mdb_cursor_get(cursor, &k, &v, from.len ? MDB_SET_RANGE : MDB_FIRST);
    while (!rc && !err) {
        err = each(user, of_val(k), of_val(v), reterr);
        if (!err) {
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
        }
    }
    mdb_cursor_close(cursor);
    if (!err && rc != MDB_NOTFOUND) {
        err = store_env_error(rc, store_table_name(table), reterr);
    }
    return err;
}

/* --- sealed values --------------------------------------------------------------------------
 * A sealed value is (u32 length | chunk) for each part of at most PART_MAX plain bytes. Each part's AAD holds the place of
 * the value, the number of the part and how many there are: nothing can be moved, cut or joined. */

static enum err make_aad(const char *area, struct span key, uint32_t part, uint32_t parts,
                         uint8_t aad[CRYPTO_CHUNK_AAD_MAX], size_t *ret_len)
{
    size_t n = strlen(area) + 1;
    if (n > AREA_MAX || key.len > 511) {
        return E_LIMIT;
    }
    memcpy(aad, area, n);
    if (key.len) {
        memcpy(aad + n, key.ptr, key.len);
    }
    n += key.len;
    put_be32(aad + n, part);
    put_be32(aad + n + 4, parts);
    *ret_len = n + 8;
    return E_OK;
}

static enum err seal_with(struct crypto_sealer *sealer, const char *area, struct span key,
                          struct span plain, struct buf *ret)
{
    if (plain.len > STORE_VALUE_MAX) {
        return E_LIMIT;
    }
    uint32_t parts = plain.len ? (uint32_t)((plain.len + PART_MAX - 1) / PART_MAX) : 1;
    for (uint32_t part = 0; part < parts; part++) {
        size_t at = part * PART_MAX;
        size_t len = plain.len - at < PART_MAX ? plain.len - at : PART_MAX;
        uint8_t aad[CRYPTO_CHUNK_AAD_MAX];
        size_t aad_len = 0;
        enum err err = make_aad(area, key, part, parts, aad, &aad_len);
        if (!err) {
            err = buf_reserve(ret, 4 + len + CRYPTO_CHUNK_OVERHEAD);
        }
        size_t wrote = 0;
        if (!err) {
            err = crypto_sealer_seal(sealer, span_of(aad, aad_len), span_of(plain.ptr + at, len),
                                     ret->ptr + ret->len + 4, len + CRYPTO_CHUNK_OVERHEAD, &wrote);
        }
        if (err) {
            return err;
        }
        put_be32(ret->ptr + ret->len, (uint32_t)wrote);
        ret->len += 4 + wrote;
    }
    return E_OK;
}

static enum err count_parts(struct span sealed, uint32_t *ret)
{
    uint32_t parts = 0;
    for (size_t at = 0; at < sealed.len; parts++) {
        if (sealed.len - at < 4 || get_be32(sealed.ptr + at) > sealed.len - at - 4) {
            return E_CORRUPT;
        }
        at += 4 + get_be32(sealed.ptr + at);
    }
    *ret = parts;
    return parts ? E_OK : E_CORRUPT;
}

static enum err open_part(const struct crypto_key *dek, const char *area, struct span key,
                          uint32_t part, uint32_t parts, struct span chunk, struct buf *ret)
{
    uint8_t aad[CRYPTO_CHUNK_AAD_MAX];
    size_t aad_len = 0;
    size_t plain_len = 0;
    enum err err = make_aad(area, key, part, parts, aad, &aad_len);
    if (!err) {
        err = crypto_chunk_plain_len(chunk, &plain_len);
    }
    if (!err && plain_len > PART_MAX) {
        err = E_CORRUPT;
    }
    if (!err) {
        err = buf_reserve(ret, plain_len ? plain_len : 1);
    }
    if (!err) {
        err = crypto_chunk_open(dek, span_str(CONTEXT), span_of(aad, aad_len), chunk,
                                ret->ptr + ret->len, plain_len, &plain_len);
    }
    if (!err) {
        ret->len += plain_len;
    }
    return err;
}

enum err store_unseal_under(const struct crypto_key *dek, const char *area, struct span key,
                            struct span sealed, struct buf *ret, struct err_info *reterr)
{
    size_t before = ret->len;
    uint32_t parts = 0;
    enum err err = count_parts(sealed, &parts);
    size_t at = 0;
    for (uint32_t part = 0; !err && part < parts; part++) {
        uint32_t len = get_be32(sealed.ptr + at);
        err = open_part(dek, area, key, part, parts, span_of(sealed.ptr + at + 4, len), ret);
        at += 4 + len;
    }
    if (err) {
        ret->len = before;
        return proto_err_set(reterr, err, "a value of table %s does not open: %s", area,
                             proto_err_text(err));
    }
    return E_OK;
}

enum err store_seal_under(const struct crypto_key *dek, const char *area, struct span key,
                          struct span plain, struct buf *ret, struct err_info *reterr)
{
    struct crypto_sealer *sealer = NULL;
    enum err err = crypto_sealer_open(dek, span_str(CONTEXT), &sealer);
    if (!err) {
        err = seal_with(sealer, area, key, plain, ret);
    }
    crypto_sealer_close(sealer);
    return err ? proto_err_set(reterr, err, "sealing for %s: %s", area, proto_err_text(err)) : E_OK;
}

enum err store_seal(struct store *store, enum store_table table, struct span key, struct span plain,
                    struct buf *ret, struct err_info *reterr)
{
    enum err err = seal_with(store->sealer, store_table_name(table), key, plain, ret);
    return err ? proto_err_set(reterr, err, "sealing for table %s: %s", store_table_name(table),
                               proto_err_text(err))
               : E_OK;
}

enum err store_unseal(const struct store *store, enum store_table table, struct span key,
                      struct span sealed, struct buf *ret, struct err_info *reterr)
{
    return store_unseal_under(store->dek, store_table_name(table), key, sealed, ret, reterr);
}

enum err store_sealed_put(struct store *store, MDB_txn *txn, enum store_table table,
                          struct span key, struct span plain, struct err_info *reterr)
{
    struct buf sealed = {.max = SIZE_MAX / 2};
    enum err err = store_seal(store, table, key, plain, &sealed, reterr);
    if (!err) {
        err = store_raw_put(store, txn, table, key, buf_span(&sealed), reterr);
    }
    buf_fini(&sealed);
    return err;
}

enum err store_sealed_get(struct store *store, MDB_txn *txn, enum store_table table,
                          struct span key, struct buf *ret, struct err_info *reterr)
{
    struct span sealed;
    enum err err = store_raw_get(store, txn, table, key, &sealed, reterr);
    return err ? err : store_unseal(store, table, key, sealed, ret, reterr);
}

void store_blind(const struct store *store, enum store_table table, const struct span *parts,
                 size_t count, uint8_t ret[STORE_BLIND_SIZE])
{
    enum {
        PARTS = 4
    };
    struct span all[2 * PARTS + 1];
    size_t n = 0;
    all[n++] = span_str(store_table_name(table));
    for (size_t i = 0; i < count && i < PARTS; i++) {
        all[n++] = span_of("", 1);
        all[n++] = parts[i];
    }
    uint8_t mac[32];
    crypto_hmac(span_of(store->blind_key->bytes, sizeof store->blind_key->bytes), all, n, mac);
    memcpy(ret, mac, STORE_BLIND_SIZE);
}
