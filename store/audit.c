#include "config.h"
#include "store/audit.h"

#include "crypto/envelope.h"
#include "crypto/provider.h"
#include "store/audit_chain.h"

#define MAGIC      "CAE1"
#define ENTRY_HEAD 21 /* magic, seq, time, kind length */

/* --- formats -------------------------------------------------------------------------------- */

void store_audit_head_body(const struct store_audit_head *head, uint8_t ret[STORE_AUDIT_HEAD_BODY])
{
    memcpy(ret, head->node_id, 16);
    put_be64(ret + 16, head->seq);
    memcpy(ret + 24, head->hash, 32);
    put_be64(ret + 56, head->spent_nano);
    put_be64(ret + 64, (uint64_t)head->time);
    memcpy(ret + 72, head->ledger_root, 32);
}

void store_audit_head_encode(const struct store_audit_head *head,
                             uint8_t ret[STORE_AUDIT_HEAD_SIZE])
{
    store_audit_head_body(head, ret);
    memcpy(ret + STORE_AUDIT_HEAD_BODY, head->signature, 64);
}

enum err store_audit_head_decode(struct span bytes, struct store_audit_head *ret)
{
    if (bytes.len != STORE_AUDIT_HEAD_SIZE) {
        return bytes.len < STORE_AUDIT_HEAD_SIZE ? E_TRUNCATED : E_INVALID;
    }
    const uint8_t *p = bytes.ptr;
    memcpy(ret->node_id, p, 16);
    ret->seq = get_be64(p + 16);
    memcpy(ret->hash, p + 24, 32);
    ret->spent_nano = get_be64(p + 56);
    ret->time = (int64_t)get_be64(p + 64);
    memcpy(ret->ledger_root, p + 72, 32);
    memcpy(ret->signature, p + STORE_AUDIT_HEAD_BODY, 64);
    return E_OK;
}

enum err store_audit_head_verify(const struct store_audit_head *head,
                                 const uint8_t federation_id[16], const uint8_t identity_point[65])
{
    uint8_t body[STORE_AUDIT_HEAD_BODY];
    store_audit_head_body(head, body);
    return crypto_envelope_verify(identity_point, STORE_AUDIT_DOMAIN, federation_id,
                                  span_of(body, sizeof body), head->signature);
}

void store_audit_hash(struct span entry, uint8_t ret[32])
{
    static const char domain[] = "concordat1-audit-entry"; /* with its zero */
    struct span parts[] = {span_of(domain, sizeof domain), entry};
    crypto_sha256(parts, 2, ret);
}

static void row_hash(const char *table, struct span key, struct span value, uint8_t ret[32])
{
    static const char domain[] = "concordat1-ledger-row"; /* with its zero */
    struct span parts[] = {span_of(domain, sizeof domain), span_of(table, strlen(table) + 1), key,
                           value};
    crypto_sha256(parts, 4, ret);
}

void store_audit_root_add(uint8_t root[32], const char *table, struct span key, struct span value)
{
    uint8_t hash[32];
    row_hash(table, key, value, hash);
    unsigned carry = 0;
    for (int i = 31; i >= 0; i--) {
        carry += (unsigned)root[i] + hash[i];
        root[i] = (uint8_t)carry;
        carry >>= 8;
    }
}

void store_audit_root_sub(uint8_t root[32], const char *table, struct span key, struct span value)
{
    uint8_t hash[32];
    row_hash(table, key, value, hash);
    unsigned borrow = 0;
    for (int i = 31; i >= 0; i--) {
        unsigned take = hash[i] + borrow;
        borrow = root[i] < take;
        root[i] = (uint8_t)(root[i] - take);
    }
}

static bool kind_valid(struct span kind)
{
    if (kind.len < 1 || kind.len > STORE_AUDIT_KIND) {
        return false;
    }
    for (size_t i = 0; i < kind.len; i++) {
        uint8_t c = kind.ptr[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '.' && c != '-' &&
            c != '_') {
            return false;
        }
    }
    return true;
}

enum err store_audit_parse(struct span entry, struct store_audit_raw *ret)
{
    if (entry.len < ENTRY_HEAD || memcmp(entry.ptr, MAGIC, 4) != 0) {
        return E_CORRUPT;
    }
    size_t kind_len = entry.ptr[20];
    if (entry.len - ENTRY_HEAD < kind_len + 32) {
        return E_CORRUPT;
    }
    ret->seq = get_be64(entry.ptr + 4);
    ret->time = (int64_t)get_be64(entry.ptr + 12);
    ret->kind = span_of(entry.ptr + ENTRY_HEAD, kind_len);
    ret->prev = span_of(entry.ptr + ENTRY_HEAD + kind_len, 32);
    size_t at = ENTRY_HEAD + kind_len + 32;
    ret->sealed = span_of(entry.ptr + at, entry.len - at);
    return kind_valid(ret->kind) ? E_OK : E_CORRUPT;
}

/* --- inside a transaction ------------------------------------------------------------------- */

enum err store_audit_load(struct store *store, MDB_txn *txn, struct store_audit_head *ret,
                          struct err_info *reterr)
{
    struct span bytes;
    enum err err =
        store_raw_get(store, txn, STORE_TABLE_META, span_str(STORE_META_HEAD), &bytes, NULL);
    if (err == E_NOT_FOUND) {
        memset(ret, 0, sizeof *ret);
        memcpy(ret->node_id, store->node_id, 16);
        return E_OK;
    }
    if (!err && store_audit_head_decode(bytes, ret)) {
        err = E_CORRUPT;
    }
    return err ? proto_err_set(reterr, err, "the audit head cannot be read") : E_OK;
}

static enum err save_head(struct store *store, MDB_txn *txn, const struct store_audit_head *head,
                          struct err_info *reterr)
{
    uint8_t bytes[STORE_AUDIT_HEAD_SIZE];
    store_audit_head_encode(head, bytes);
    return store_raw_put(store, txn, STORE_TABLE_META, span_str(STORE_META_HEAD),
                         span_of(bytes, sizeof bytes), reterr);
}

static enum err encode_entry(struct store *store, const struct store_audit_head *head,
                             const char *kind, struct span body, int64_t now, struct buf *ret,
                             struct err_info *reterr)
{
    uint8_t fixed[ENTRY_HEAD];
    memcpy(fixed, MAGIC, 4);
    put_be64(fixed + 4, head->seq + 1);
    put_be64(fixed + 12, (uint64_t)now);
    fixed[20] = (uint8_t)strlen(kind);
    enum err err = buf_put(ret, span_of(fixed, sizeof fixed));
    if (!err) {
        err = buf_put(ret, span_str(kind));
    }
    if (!err) {
        err = buf_put(ret, span_of(head->hash, 32));
    }
    if (err) {
        return proto_err_set(reterr, err, "an audit entry");
    }
    return store_seal(store, STORE_TABLE_AUDIT, span_of(fixed + 4, 8), body, ret, reterr);
}

enum err store_audit_append_in(struct store *store, MDB_txn *txn, struct store_audit_head *head,
                               const char *kind, struct span body, int64_t now,
                               struct err_info *reterr)
{
    if (!kind_valid(span_str(kind))) {
        return proto_err_set(reterr, E_INVALID, "an audit entry of kind \"%.40s\"", kind);
    }
    if (body.len > STORE_AUDIT_BODY) {
        return proto_err_set(reterr, E_LIMIT, "an audit entry of %zu bytes", body.len);
    }
    struct buf entry = {.max = 2 * STORE_AUDIT_BODY};
    uint8_t key[8];
    put_be64(key, head->seq + 1);
    enum err err = encode_entry(store, head, kind, body, now, &entry, reterr);
    if (!err) {
        err =
            store_raw_put(store, txn, STORE_TABLE_AUDIT, span_of(key, 8), buf_span(&entry), reterr);
    }
    if (!err) {
        head->seq++;
        head->time = now;
        store_audit_hash(buf_span(&entry), head->hash);
        memset(head->signature, 0, sizeof head->signature);
        err = save_head(store, txn, head, reterr);
    }
    buf_fini(&entry);
    return err;
}

enum err store_audit_seal_head(struct store *store, MDB_txn *txn, struct err_info *reterr)
{
    static const uint8_t unsigned_head[64];
    struct store_audit_head head;
    enum err err = store_audit_load(store, txn, &head, reterr);
    if (err || head.seq == 0 || memcmp(head.signature, unsigned_head, 64) != 0) {
        return err;
    }
    if (!store->identity) {
        return proto_err_set(reterr, E_INTERNAL,
                             "the store was given no identity to sign the audit head");
    }
    uint8_t body[STORE_AUDIT_HEAD_BODY];
    store_audit_head_body(&head, body);
    err = crypto_envelope_sign(store->identity, STORE_AUDIT_DOMAIN, store->federation_id,
                               span_of(body, sizeof body), head.signature);
    if (err) {
        return proto_err_set(reterr, err, "signing the audit head");
    }
    return save_head(store, txn, &head, reterr);
}

enum err store_audit_at(struct store *store, MDB_txn *txn, uint64_t seq, const uint8_t hash[32],
                        struct err_info *reterr)
{
    uint8_t key[8];
    uint8_t own[32];
    struct span entry;
    put_be64(key, seq);
    enum err err = store_raw_get(store, txn, STORE_TABLE_AUDIT, span_of(key, 8), &entry, NULL);
    if (err) {
        return proto_err_set(reterr, err, "the audit chain has no entry %llu",
                             (unsigned long long)seq);
    }
    store_audit_hash(entry, own);
    if (memcmp(own, hash, 32) != 0) {
        return proto_err_set(reterr, E_ROLLBACK, "entry %llu of the audit chain is another one",
                             (unsigned long long)seq);
    }
    return E_OK;
}

/* --- for callers ---------------------------------------------------------------------------- */

struct append {
    const char *kind;
    struct span body;
    int64_t now;
};

static enum err append_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    const struct append *append = ctx;
    struct store_audit_head head;
    enum err err = store_audit_load(store, txn, &head, reterr);
    return err ? err
               : store_audit_append_in(store, txn, &head, append->kind, append->body, append->now,
                                       reterr);
}

enum err store_audit_append(struct store *store, const char *kind, struct span body, int64_t now,
                            struct err_info *reterr)
{
    struct append append = {kind, body, now};
    return store_write(store, append_in, &append, reterr);
}

enum err store_audit_head(struct store *store, struct store_audit_head *ret)
{
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, NULL);
    if (err) {
        return err;
    }
    err = store_audit_load(store, txn, ret, NULL);
    store_read_end(txn);
    return !err && ret->seq == 0 ? E_NOT_FOUND : err;
}

struct each {
    struct store *store;
    int64_t since;
    const char *kind;
    store_audit_fn *fn;
    void *user;
};

static enum err each_entry(void *user, struct span key, struct span value, struct err_info *reterr)
{
    const struct each *each = user;
    struct store_audit_raw raw;
    struct store_audit_entry entry = {0};
    if (store_audit_parse(value, &raw) || key.len != 8 || get_be64(key.ptr) != raw.seq) {
        return proto_err_set(reterr, E_CORRUPT, "table audit: an entry is damaged");
    }
    size_t prefix = each->kind ? strlen(each->kind) : 0;
    if (raw.time < each->since || raw.kind.len < prefix ||
        (prefix && memcmp(raw.kind.ptr, each->kind, prefix) != 0)) {
        return E_OK;
    }
    struct buf body = {.max = STORE_AUDIT_BODY};
    enum err err = store_unseal(each->store, STORE_TABLE_AUDIT, key, raw.sealed, &body, reterr);
    if (!err) {
        entry.seq = raw.seq;
        entry.time = raw.time;
        memcpy(entry.kind, raw.kind.ptr, raw.kind.len);
        store_audit_hash(value, entry.hash);
        entry.body = buf_span(&body);
        err = each->fn(each->user, &entry);
    }
    buf_fini(&body);
    return err;
}

enum err store_audit_each(struct store *store, int64_t since, const char *kind,
                          store_audit_fn *each, void *user, struct err_info *reterr)
{
    struct each ctx = {store, since, kind, each, user};
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_raw_each(store, txn, STORE_TABLE_AUDIT, SPAN_NONE, each_entry, &ctx, reterr);
    }
    store_read_end(txn);
    return err;
}
