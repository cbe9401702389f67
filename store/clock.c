#include "config.h"
#include "store/clock.h"

#include "store/table.h"

#define LATEST_TIME span_str("latest-time")

enum err store_clock_get(struct store *store, int64_t *ret, struct err_info *reterr)
{
    struct buf plain = {.max = 64};
    MDB_txn *txn = NULL;
    *ret = 0;
    enum err err = store_read(store, &txn, reterr);
    err = err ? err : store_sealed_get(store, txn, STORE_TABLE_META, LATEST_TIME, &plain, reterr);
    store_read_end(txn);
    if (!err && plain.len != 8) {
        err = proto_err_set(reterr, E_CORRUPT, "table meta: a row is damaged");
    }
    if (!err) {
        *ret = (int64_t)get_be64(plain.ptr);
    }
    buf_fini(&plain);
    return err == E_NOT_FOUND ? E_OK : err;
}

static enum err put_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    return store_sealed_put(store, txn, STORE_TABLE_META, LATEST_TIME, span_of(ctx, 8), reterr);
}

enum err store_clock_put(struct store *store, int64_t unix_s, struct err_info *reterr)
{
    uint8_t bytes[8];
    put_be64(bytes, (uint64_t)unix_s);
    return store_write(store, put_in, bytes, reterr);
}
