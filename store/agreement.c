#include "config.h"
#include "store/agreement.h"

#include "proto/codec.h"
#include "store/table.h"

#define ROW_MAX ((size_t)256 << 10)

#define OPTIONAL(member, max)                                                                      \
    PROTO_FIELD_OPTIONAL(struct store_agreement, member, PROTO_BIN, 0, max)
static const struct proto_field fields[] = {
    PROTO_FIELD(struct store_agreement, id, PROTO_FIXED, 16, 16),
    PROTO_FIELD(struct store_agreement, peer, PROTO_FIXED, 16, 16),
    PROTO_FIELD(struct store_agreement, side, PROTO_U64, 0, 1),
    PROTO_FIELD(struct store_agreement, state, PROTO_U64, 0, 15),
    PROTO_FIELD(struct store_agreement, dataset, PROTO_STR, 1, 64),
    OPTIONAL(request, 65536),
    OPTIONAL(request_signature, 64),
    OPTIONAL(offer, 65536),
    OPTIONAL(offer_signature, 64),
    OPTIONAL(document, 65536),
    OPTIONAL(consumer_signature, 64),
    OPTIONAL(provider_signature, 64),
    OPTIONAL(end, 4096),
    OPTIONAL(end_signature, 64),
    PROTO_FIELD_OPTIONAL(struct store_agreement, reason, PROTO_STR, 0, 512),
    PROTO_FIELD(struct store_agreement, changed, PROTO_I64, 0, INT64_MAX),
};
static const struct proto_message message =
    PROTO_MESSAGE("agreement row", struct store_agreement, fields);

struct put {
    const uint8_t *id;
    struct span plain;
};

static enum err put_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    const struct put *put = ctx;
    return store_sealed_put(store, txn, STORE_TABLE_AGREEMENTS, span_of(put->id, 16), put->plain,
                            reterr);
}

enum err store_agreement_put(struct store *store, const struct store_agreement *row,
                             struct err_info *reterr)
{
    struct buf plain = {.max = ROW_MAX};
    enum err err = proto_codec_encode(&message, row, &plain, reterr);
    struct put put = {row->id, buf_span(&plain)};
    err = err ? err : store_write(store, put_in, &put, reterr);
    buf_fini(&plain);
    return err;
}

static enum err unpack(struct span plain, struct arena *arena, struct store_agreement *ret,
                       struct err_info *reterr)
{
    uint8_t *copy = arena_alloc(arena, plain.len + 1, 1);
    if (!copy) {
        return E_NO_MEMORY;
    }
    memcpy(copy, plain.ptr, plain.len);
    enum err err = proto_codec_decode(&message, span_of(copy, plain.len), arena, ret, NULL);
    return err && err != E_NO_MEMORY
               ? proto_err_set(reterr, E_CORRUPT, "table agreements: a row is damaged")
               : err;
}

enum err store_agreement_get(struct store *store, const uint8_t id[16], struct arena *arena,
                             struct store_agreement *ret, struct err_info *reterr)
{
    struct buf plain = {.max = ROW_MAX};
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_sealed_get(store, txn, STORE_TABLE_AGREEMENTS, span_of(id, 16), &plain, reterr);
    }
    store_read_end(txn);
    err = err ? err : unpack(buf_span(&plain), arena, ret, reterr);
    buf_fini(&plain);
    return err;
}

struct each {
    struct store *store;
    store_agreement_fn *fn;
    void *user;
};

static enum err each_row(void *user, struct span key, struct span value, struct err_info *reterr)
{
    const struct each *each = user;
    struct store_agreement row;
    struct arena arena = {0};
    struct buf plain = {.max = ROW_MAX};
    enum err err = store_unseal(each->store, STORE_TABLE_AGREEMENTS, key, value, &plain, reterr);
    err = err ? err : unpack(buf_span(&plain), &arena, &row, reterr);
    err = err ? err : each->fn(each->user, &row);
    buf_fini(&plain);
    arena_fini(&arena);
    return err;
}

enum err store_agreement_each(struct store *store, store_agreement_fn *each, void *user,
                              struct err_info *reterr)
{
    struct each ctx = {store, each, user};
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_raw_each(store, txn, STORE_TABLE_AGREEMENTS, SPAN_NONE, each_row, &ctx, reterr);
    }
    store_read_end(txn);
    return err;
}
