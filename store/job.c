#include "config.h"
#include "store/job.h"

#include "store/table.h"

/* Keys: 'j' and the job's id; 'o' and a blinded (job, round, plan). */
#define JOB_KEY  17
#define ONCE_KEY (1 + STORE_BLIND_SIZE)

struct put {
    struct span key;
    struct span plain;
    bool once;
    struct buf *stored;
    bool known;
};

static enum err put_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct put *put = ctx;
    put->known = false;
    if (put->once) {
        enum err err =
            store_sealed_get(store, txn, STORE_TABLE_JOBS, put->key, put->stored, reterr);
        put->known = !err;
        if (err != E_NOT_FOUND) {
            return err;
        }
    }
    return store_sealed_put(store, txn, STORE_TABLE_JOBS, put->key, put->plain, reterr);
}

static void job_key(const uint8_t id[16], uint8_t ret[JOB_KEY])
{
    ret[0] = 'j';
    memcpy(ret + 1, id, 16);
}

static void once_key(const struct store *store, const uint8_t id[16], uint64_t round,
                     const uint8_t plan_hash[32], uint8_t ret[ONCE_KEY])
{
    uint8_t number[8];
    put_be64(number, round);
    struct span parts[] = {span_of(id, 16), span_of(number, 8), span_of(plan_hash, 32)};
    ret[0] = 'o';
    store_blind(store, STORE_TABLE_JOBS, parts, 3, ret + 1);
}

enum err store_job_put(struct store *store, const uint8_t id[16], struct span state,
                       struct err_info *reterr)
{
    uint8_t key[JOB_KEY];
    job_key(id, key);
    struct put put = {.key = span_of(key, sizeof key), .plain = state};
    if (state.len > STORE_JOB_MAX) {
        return proto_err_set(reterr, E_LIMIT, "a job's state of %zu bytes", state.len);
    }
    return store_write(store, put_in, &put, reterr);
}

static enum err get(struct store *store, struct span key, struct buf *ret, struct err_info *reterr)
{
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_sealed_get(store, txn, STORE_TABLE_JOBS, key, ret, reterr);
    }
    store_read_end(txn);
    return err;
}

enum err store_job_get(struct store *store, const uint8_t id[16], struct buf *ret,
                       struct err_info *reterr)
{
    uint8_t key[JOB_KEY];
    job_key(id, key);
    return get(store, span_of(key, sizeof key), ret, reterr);
}

struct each {
    struct store *store;
    store_job_fn *fn;
    void *user;
};

static enum err each_job(void *user, struct span key, struct span value, struct err_info *reterr)
{
    const struct each *each = user;
    if (key.len != JOB_KEY || key.ptr[0] != 'j') {
        return E_OK;
    }
    struct buf plain = {.max = STORE_JOB_MAX};
    enum err err = store_unseal(each->store, STORE_TABLE_JOBS, key, value, &plain, reterr);
    if (!err) {
        err = each->fn(each->user, key.ptr + 1, buf_span(&plain));
    }
    buf_fini(&plain);
    return err;
}

enum err store_job_each(struct store *store, store_job_fn *each, void *user,
                        struct err_info *reterr)
{
    struct each ctx = {store, each, user};
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_raw_each(store, txn, STORE_TABLE_JOBS, SPAN_NONE, each_job, &ctx, reterr);
    }
    store_read_end(txn);
    return err;
}

enum err store_job_once(struct store *store, const uint8_t id[16], uint64_t round,
                        const uint8_t plan_hash[32], struct span update, struct buf *ret_stored,
                        struct err_info *reterr)
{
    uint8_t key[ONCE_KEY];
    once_key(store, id, round, plan_hash, key);
    struct put put = {
        .key = span_of(key, sizeof key), .plain = update, .once = true, .stored = ret_stored};
    if (update.len > STORE_JOB_MAX) {
        return proto_err_set(reterr, E_LIMIT, "an update of %zu bytes", update.len);
    }
    enum err err = store_write(store, put_in, &put, reterr);
    if (!err && put.known) {
        err = proto_err_set(reterr, E_EXISTS, "this round was answered before");
    }
    return err;
}

enum err store_job_answered(struct store *store, const uint8_t id[16], uint64_t round,
                            const uint8_t plan_hash[32], struct buf *ret_stored,
                            struct err_info *reterr)
{
    uint8_t key[ONCE_KEY];
    once_key(store, id, round, plan_hash, key);
    return get(store, span_of(key, sizeof key), ret_stored, reterr);
}
