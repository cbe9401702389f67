#include "config.h"
#include "store/witness.h"

#include "crypto/envelope.h"
#include "store/audit_chain.h"

/* Value of table witness: u8 forked | head. */
#define ROW_SIZE (1 + STORE_AUDIT_HEAD_SIZE)

struct put {
    const struct store_audit_head *head;
    bool forked;
};

static enum err load(struct store *store, MDB_txn *txn, const uint8_t node_id[16],
                     struct store_audit_head *ret, bool *ret_forked, struct err_info *reterr)
{
    struct buf plain = {.max = 1024};
    enum err err =
        store_sealed_get(store, txn, STORE_TABLE_WITNESS, span_of(node_id, 16), &plain, reterr);
    if (!err && (plain.len != ROW_SIZE ||
                 store_audit_head_decode(span_of(plain.ptr + 1, STORE_AUDIT_HEAD_SIZE), ret))) {
        err = proto_err_set(reterr, E_CORRUPT, "table witness: a row is damaged");
    }
    if (!err) {
        *ret_forked = plain.ptr[0] != 0;
    }
    buf_fini(&plain);
    return err;
}

static enum err put_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct put *put = ctx;
    struct store_audit_head old;
    bool was_forked = false;
    const struct store_audit_head *keep = put->head;
    put->forked = false;
    enum err err = load(store, txn, put->head->node_id, &old, &was_forked, reterr);
    if (err && err != E_NOT_FOUND) {
        return err;
    }
    if (!err && old.seq >= put->head->seq) {
        bool same = old.seq > put->head->seq || memcmp(old.hash, put->head->hash, 32) == 0;
        if (same || was_forked) {
            return proto_err_set(reterr, E_EXISTS, "a head as high is known");
        }
        put->forked = true;
        keep = &old;
    }
    uint8_t row[ROW_SIZE];
    row[0] = was_forked || put->forked;
    store_audit_head_encode(keep, row + 1);
    return store_sealed_put(store, txn, STORE_TABLE_WITNESS, span_of(keep->node_id, 16),
                            span_of(row, sizeof row), reterr);
}

/* What was checked and kept before, byte for byte, needs neither the check nor the writer again. */
static bool is_kept(struct store *store, const struct store_audit_head *head)
{
    struct store_audit_head old;
    uint8_t shown[STORE_AUDIT_HEAD_SIZE];
    uint8_t kept[STORE_AUDIT_HEAD_SIZE];
    if (store_witness_get(store, head->node_id, &old, NULL) != E_OK) {
        return false;
    }
    store_audit_head_encode(head, shown);
    store_audit_head_encode(&old, kept);
    return memcmp(shown, kept, sizeof kept) == 0;
}

enum err store_witness_put(struct store *store, const struct store_audit_head *head,
                           const uint8_t point[65], struct err_info *reterr)
{
    struct put put = {.head = head};
    if (is_kept(store, head)) {
        return proto_err_set(reterr, E_EXISTS, "a head as high is known");
    }
    enum err err = store_audit_head_verify(head, store->federation_id, point);
    if (err) {
        return proto_err_set(reterr, err, "the audit head is not signed by its node");
    }
    err = store_write(store, put_in, &put, reterr);
    if (!err && put.forked) {
        err = proto_err_set(reterr, E_FORKED,
                            "its node showed another audit head of the same number before");
    }
    return err;
}

enum err store_witness_get(struct store *store, const uint8_t node_id[16],
                           struct store_audit_head *ret, struct err_info *reterr)
{
    MDB_txn *txn = NULL;
    bool forked = false;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = load(store, txn, node_id, ret, &forked, reterr);
    }
    store_read_end(txn);
    return err;
}

struct each {
    struct store *store;
    MDB_txn *txn;
    store_witness_fn *fn;
    void *user;
};

static enum err each_row(void *user, struct span key, struct span value, struct err_info *reterr)
{
    const struct each *each = user;
    struct store_audit_head head;
    bool forked = false;
    (void)value;
    if (key.len != 16) {
        return proto_err_set(reterr, E_CORRUPT, "table witness: a row is damaged");
    }
    enum err err = load(each->store, each->txn, key.ptr, &head, &forked, reterr);
    return err ? err : each->fn(each->user, &head, forked);
}

enum err store_witness_each(struct store *store, store_witness_fn *each, void *user,
                            struct err_info *reterr)
{
    struct each ctx = {.store = store, .fn = each, .user = user};
    enum err err = store_read(store, &ctx.txn, reterr);
    if (!err) {
        err =
            store_raw_each(store, ctx.txn, STORE_TABLE_WITNESS, SPAN_NONE, each_row, &ctx, reterr);
    }
    store_read_end(ctx.txn);
    return err;
}

enum err store_witness_sign(struct store *store, const struct store_audit_head *head,
                            uint8_t ret_sig[64])
{
    uint8_t body[STORE_AUDIT_HEAD_BODY];
    store_audit_head_body(head, body);
    return store->identity
               ? crypto_envelope_sign(store->identity, STORE_WITNESS_DOMAIN, store->federation_id,
                                      span_of(body, sizeof body), ret_sig)
               : E_INTERNAL;
}

struct endorse {
    const uint8_t *by;
    const struct store_audit_head *head;
    const uint8_t *sig;
};

static enum err endorse_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    const struct endorse *endorse = ctx;
    struct span old;
    enum err err = store_audit_at(store, txn, endorse->head->seq, endorse->head->hash, reterr);
    if (err) {
        return err == E_NOT_FOUND ? E_ROLLBACK : err;
    }
    err = store_raw_get(store, txn, STORE_TABLE_ENDORSEMENTS, span_of(endorse->by, 16), &old, NULL);
    if (!err &&
        (old.len != STORE_ENDORSEMENT_SIZE || get_be64(old.ptr + 64 + 16) >= endorse->head->seq)) {
        return proto_err_set(reterr, E_EXISTS, "an endorsement as high is known");
    }
    if (err && err != E_NOT_FOUND) {
        return err;
    }
    uint8_t row[STORE_ENDORSEMENT_SIZE];
    memcpy(row, endorse->sig, 64);
    store_audit_head_body(endorse->head, row + 64);
    return store_raw_put(store, txn, STORE_TABLE_ENDORSEMENTS, span_of(endorse->by, 16),
                         span_of(row, sizeof row), reterr);
}

enum err store_witness_endorse(struct store *store, const uint8_t by[16], const uint8_t point[65],
                               const struct store_audit_head *head, const uint8_t sig[64],
                               struct err_info *reterr)
{
    struct endorse endorse = {by, head, sig};
    uint8_t body[STORE_AUDIT_HEAD_BODY];
    store_audit_head_body(head, body);
    enum err err = memcmp(head->node_id, store->node_id, 16) ? E_AUTH : E_OK;
    if (!err) {
        err = crypto_envelope_verify(point, STORE_WITNESS_DOMAIN, store->federation_id,
                                     span_of(body, sizeof body), sig);
    }
    if (err) {
        return proto_err_set(reterr, err,
                             "the endorsement is not this member's, or not of our head");
    }
    return store_write(store, endorse_in, &endorse, reterr);
}

/* Row "excused" of table meta, sealed: (u64 from | u64 to) ... */
#define EXCUSED     span_str("excused")
#define EXCUSED_MAX ((size_t)16 * 1024)

static enum err load_excused(struct store *store, MDB_txn *txn, struct buf *ret,
                             struct err_info *reterr)
{
    ret->max = EXCUSED_MAX;
    enum err err = store_sealed_get(store, txn, STORE_TABLE_META, EXCUSED, ret, reterr);
    if (!err && ret->len % 16) {
        err = proto_err_set(reterr, E_CORRUPT, "table meta: a row is damaged");
    }
    return err == E_NOT_FOUND ? E_OK : err;
}

enum err store_witness_excuse_in(struct store *store, MDB_txn *txn, uint64_t from, uint64_t to,
                                 struct err_info *reterr)
{
    struct buf ranges = {0};
    uint8_t range[16];
    put_be64(range, from);
    put_be64(range + 8, to);
    enum err err = load_excused(store, txn, &ranges, reterr);
    err = err ? err : buf_put(&ranges, span_of(range, sizeof range));
    err = err ? err
              : store_sealed_put(store, txn, STORE_TABLE_META, EXCUSED, buf_span(&ranges), reterr);
    buf_fini(&ranges);
    return err;
}

static bool is_excused(struct store *store, MDB_txn *txn, uint64_t seq)
{
    struct buf ranges = {0};
    bool excused = false;
    if (load_excused(store, txn, &ranges, NULL) == E_OK) {
        for (size_t at = 0; at < ranges.len; at += 16) {
            excused = excused ||
                      (seq > get_be64(ranges.ptr + at) && seq <= get_be64(ranges.ptr + at + 8));
        }
    }
    buf_fini(&ranges);
    return excused;
}

enum err store_witness_compare(struct store *store, const struct store_audit_head *shown,
                               struct err_info *reterr)
{
    MDB_txn *txn = NULL;
    if (!store->identity || memcmp(shown->node_id, store->node_id, 16) != 0 ||
        store_audit_head_verify(shown, store->federation_id,
                                crypto_identity_point(store->identity))) {
        return proto_err_set(reterr, E_AUTH, "the head that was shown is not signed by this node");
    }
    enum err err = store_read(store, &txn, reterr);
    if (!err && shown->seq > 0) {
        err = store_audit_at(store, txn, shown->seq, shown->hash, reterr);
        err = err == E_NOT_FOUND ? E_ROLLBACK : err;
        err = err == E_ROLLBACK && is_excused(store, txn, shown->seq) ? E_OK : err;
    }
    store_read_end(txn);
    return err;
}
