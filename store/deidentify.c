#include "config.h"
#include "store/deidentify.h"

#include "crypto/kdf.h"
#include "crypto/random.h"
#include "proto/time.h"
#include "store/table.h"

#define ID_SIZE     16
#define BLOCK_IDS   4090 /* 65,440 bytes: with what sealing adds, 16 pages of LMDB */
#define BLOCK_BYTES ((size_t)BLOCK_IDS * ID_SIZE)
#define KEY_SIZE    (2 * STORE_BLIND_SIZE + 4)
#define SLOTS_MIN   1024
#define AREA        "pseudonym"
#define KEY_BLOCK   UINT32_MAX /* where the HMAC's key stands once the dataset's key was rotated */

double store_deidentify_age90(double age)
{
    return age >= 90 ? 90 : age;
}

double store_deidentify_year(double days)
{
    int32_t year, month, day;
    proto_time_civil((int32_t)days, &year, &month, &day);
    return year;
}

/* Identifiers as HMACs in order of their numbers, and an open-addressed index over them. */
struct store_pseudonym {
    const struct crypto_key *dek;
    struct crypto_key *mac_key;
    uint8_t prefix[2 * STORE_BLIND_SIZE]; /* of the LMDB keys: dataset, then column */
    uint8_t *ids;
    uint32_t count;
    uint32_t cap;
    uint32_t saved;  /* how many stand in node.mdb */
    uint32_t *slots; /* number + 1; 0: free */
    uint32_t slot_mask;
};

static void make_key(const struct store_pseudonym *table, uint32_t block, uint8_t ret[KEY_SIZE])
{
    memcpy(ret, table->prefix, sizeof table->prefix);
    put_be32(ret + sizeof table->prefix, block);
}

/* The HMACs are uniform already, so four of their bytes are a good hash. */
static uint32_t home_slot(const struct store_pseudonym *table, const uint8_t *id)
{
    return get_be32(id) & table->slot_mask;
}

static uint32_t find_slot(const struct store_pseudonym *table, const uint8_t *id)
{
    uint32_t slot = home_slot(table, id);
    while (table->slots[slot] &&
           memcmp(table->ids + (size_t)(table->slots[slot] - 1) * ID_SIZE, id, ID_SIZE) != 0) {
        slot = (slot + 1) & table->slot_mask;
    }
    return slot;
}

static enum err grow_slots(struct store_pseudonym *table)
{
    size_t size = table->slots ? ((size_t)table->slot_mask + 1) * 2 : SLOTS_MIN;
    uint32_t *slots = proto_alloc(size, sizeof *slots);
    if (!slots) {
        return E_NO_MEMORY;
    }
    proto_free(table->slots);
    table->slots = slots;
    table->slot_mask = (uint32_t)(size - 1);
    for (uint32_t i = 0; i < table->count; i++) {
        table->slots[find_slot(table, table->ids + (size_t)i * ID_SIZE)] = i + 1;
    }
    return E_OK;
}

static enum err add_id(struct store_pseudonym *table, const uint8_t *id)
{
    if (table->count >= STORE_PSEUDONYM_MAX) {
        return E_LIMIT;
    }
    if (table->count == table->cap) {
        uint32_t cap = table->cap ? table->cap * 2 : 1024;
        uint8_t *ids = proto_realloc(table->ids, cap, ID_SIZE);
        if (!ids) {
            return E_NO_MEMORY;
        }
        table->ids = ids;
        table->cap = cap;
    }
    if (!table->slots || table->count >= table->slot_mask / 2) {
        enum err err = grow_slots(table);
        if (err) {
            return err;
        }
    }
    memcpy(table->ids + (size_t)table->count * ID_SIZE, id, ID_SIZE);
    table->slots[find_slot(table, id)] = table->count + 1;
    table->count++;
    return E_OK;
}

enum err store_pseudonym_get(struct store_pseudonym *table, struct span identifier, uint32_t *ret)
{
    uint8_t id[32];
    crypto_hmac(span_of(table->mac_key->bytes, CRYPTO_KEY_SIZE), &identifier, 1, id);
    if (table->slots) {
        uint32_t slot = find_slot(table, id);
        if (table->slots[slot]) {
            *ret = table->slots[slot] - 1;
            return E_OK;
        }
    }
    enum err err = add_id(table, id);
    if (!err) {
        *ret = table->count - 1;
    }
    return err;
}

bool store_pseudonym_find(const struct store_pseudonym *table, struct span identifier,
                          uint32_t *ret)
{
    uint8_t id[32];
    crypto_hmac(span_of(table->mac_key->bytes, CRYPTO_KEY_SIZE), &identifier, 1, id);
    uint32_t slot = table->slots ? find_slot(table, id) : 0;
    bool found = table->slots && table->slots[slot];
    *ret = found ? table->slots[slot] - 1 : 0;
    return found;
}

enum err store_pseudonym_forget(struct store_pseudonym *table, uint32_t number)
{
    enum err err = crypto_random(table->ids + (size_t)number * ID_SIZE, ID_SIZE);
    if (err) {
        return err;
    }
    /* The index keeps its slot: what was placed behind it is still found, and these bytes fit nobody. */
    table->saved = number < table->saved ? number : table->saved;
    return E_OK;
}

uint32_t store_pseudonym_count(const struct store_pseudonym *table)
{
    return table->count;
}

const struct crypto_key *store_pseudonym_key(const struct store_pseudonym *table)
{
    return table->mac_key;
}

/* --- on disk ------------------------------------------------------------------------------- */

static enum err load_block(struct store_pseudonym *table, struct span key, struct span value,
                           struct buf *plain, bool *ret_full, struct err_info *reterr)
{
    plain->len = 0;
    enum err err = store_unseal_under(table->dek, AREA, key, value, plain, reterr);
    if (err) {
        return err;
    }
    if (plain->len == 0 || plain->len % ID_SIZE || plain->len > BLOCK_BYTES) {
        return proto_err_set(reterr, E_CORRUPT, "a block of table %s has the wrong size", AREA);
    }
    for (size_t at = 0; at < plain->len && !err; at += ID_SIZE) {
        err = add_id(table, plain->ptr + at);
    }
    *ret_full = plain->len == BLOCK_BYTES;
    return err ? proto_err_set(reterr, err, "loading table %s", AREA) : E_OK;
}

/* The HMAC's key: derived from the dataset's, unless a rotation kept the one that identifiers were mapped by. */
static enum err make_mac_key(struct store_pseudonym *table, const char *column)
{
    struct buf info = {.max = 256};
    enum err err = buf_printf(&info, "concordat/pseudonym/1/%s", column);
    err = err ? err
              : crypto_hkdf_expand(table->dek->bytes, buf_span(&info), table->mac_key->bytes,
                                   CRYPTO_KEY_SIZE);
    buf_fini(&info);
    return err;
}

static enum err load_mac_key(struct store *store, MDB_txn *txn, struct store_pseudonym *table,
                             struct err_info *reterr)
{
    uint8_t key[KEY_SIZE];
    struct span value;
    struct buf plain = {.max = 2 * CRYPTO_KEY_SIZE};
    make_key(table, KEY_BLOCK, key);
    enum err err =
        store_raw_get(store, txn, STORE_TABLE_PSEUDONYM, span_of(key, sizeof key), &value, NULL);
    if (err) {
        return err == E_NOT_FOUND ? E_OK : err;
    }
    err = store_unseal_under(table->dek, AREA, span_of(key, sizeof key), value, &plain, reterr);
    if (!err && plain.len != CRYPTO_KEY_SIZE) {
        err = proto_err_set(reterr, E_CORRUPT, "a key of table %s has the wrong size", AREA);
    }
    if (!err) {
        memcpy(table->mac_key->bytes, plain.ptr, CRYPTO_KEY_SIZE);
    }
    if (plain.ptr) {
        crypto_wipe(plain.ptr, plain.cap);
    }
    buf_fini(&plain);
    return err;
}

static enum err load_blocks(struct store *store, struct store_pseudonym *table,
                            struct err_info *reterr)
{
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (err) {
        return err;
    }
    struct buf plain = {.max = BLOCK_BYTES + ID_SIZE};
    bool more = true;
    err = load_mac_key(store, txn, table, reterr);
    for (uint32_t block = 0; more && !err; block++) {
        uint8_t key[KEY_SIZE];
        struct span value;
        make_key(table, block, key);
        err = store_raw_get(store, txn, STORE_TABLE_PSEUDONYM, span_of(key, sizeof key), &value,
                            NULL);
        if (err == E_NOT_FOUND) {
            err = E_OK;
            break;
        }
        if (!err) {
            err = load_block(table, span_of(key, sizeof key), value, &plain, &more, reterr);
        }
    }
    store_read_end(txn);
    if (plain.ptr) {
        crypto_wipe(plain.ptr, plain.cap);
    }
    buf_fini(&plain);
    table->saved = table->count;
    return err;
}

enum err store_pseudonym_load(struct store *store, const char *dataset, const char *column,
                              const struct crypto_key *dek, struct store_pseudonym **ret,
                              struct err_info *reterr)
{
    struct store_pseudonym *table = proto_alloc(1, sizeof *table);
    if (!table) {
        return proto_err_set(reterr, E_NO_MEMORY, "loading table %s", AREA);
    }
    table->dek = dek;
    table->mac_key = crypto_key_new();
    struct span parts[2] = {span_str(dataset), span_str(column)};
    store_blind(store, STORE_TABLE_PSEUDONYM, parts, 1, table->prefix);
    store_blind(store, STORE_TABLE_PSEUDONYM, parts, 2, table->prefix + STORE_BLIND_SIZE);
    enum err err = table->mac_key ? E_OK : E_NO_MEMORY;
    err = err ? err : make_mac_key(table, column);
    if (err) {
        proto_err_set(reterr, err, "loading table %s", AREA);
    } else {
        err = load_blocks(store, table, reterr);
    }
    if (err) {
        store_pseudonym_free(table);
        return err;
    }
    *ret = table;
    return E_OK;
}

static enum err write_blocks(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct store_pseudonym *table = ctx;
    struct buf sealed = {.max = BLOCK_BYTES + 4096};
    enum err err = E_OK;
    for (uint32_t block = table->saved / BLOCK_IDS; !err; block++) {
        uint32_t first = block * BLOCK_IDS;
        if (first >= table->count) {
            break;
        }
        uint32_t count = table->count - first < BLOCK_IDS ? table->count - first : BLOCK_IDS;
        uint8_t key[KEY_SIZE];
        make_key(table, block, key);
        sealed.len = 0;
        err =
            store_seal_under(table->dek, AREA, span_of(key, sizeof key),
                             span_of(table->ids + (size_t)first * ID_SIZE, (size_t)count * ID_SIZE),
                             &sealed, reterr);
        if (!err) {
            err = store_raw_put(store, txn, STORE_TABLE_PSEUDONYM, span_of(key, sizeof key),
                                buf_span(&sealed), reterr);
        }
    }
    buf_fini(&sealed);
    return err;
}

enum err store_pseudonym_save(struct store *store, struct store_pseudonym *table,
                              struct err_info *reterr)
{
    if (table->saved == table->count) {
        return E_OK;
    }
    enum err err = store_write(store, write_blocks, table, reterr);
    if (!err) {
        table->saved = table->count;
    }
    return err;
}

void store_pseudonym_free(struct store_pseudonym *table)
{
    if (table) {
        crypto_key_free(table->mac_key);
        if (table->ids) {
            crypto_wipe(table->ids, (size_t)table->cap * ID_SIZE);
        }
        proto_free(table->ids);
        proto_free(table->slots);
        proto_free(table);
    }
}

struct removal {
    uint8_t prefix[STORE_BLIND_SIZE];
    struct buf keys;
};

/* Ends the walk behind the dataset's keys with E_CANCELLED. */
static enum err collect(void *user, struct span key, struct span value, struct err_info *reterr)
{
    (void)value;
    (void)reterr;
    struct removal *removal = user;
    if (key.len != KEY_SIZE || memcmp(key.ptr, removal->prefix, STORE_BLIND_SIZE) != 0) {
        return E_CANCELLED;
    }
    return buf_put(&removal->keys, key);
}

static enum err remove_blocks(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct removal *removal = ctx;
    removal->keys.len = 0;
    enum err err =
        store_raw_each(store, txn, STORE_TABLE_PSEUDONYM,
                       span_of(removal->prefix, STORE_BLIND_SIZE), collect, removal, reterr);
    err = err == E_CANCELLED ? E_OK : err;
    for (size_t at = 0; at < removal->keys.len && !err; at += KEY_SIZE) {
        err = store_raw_del(store, txn, STORE_TABLE_PSEUDONYM,
                            span_of(removal->keys.ptr + at, KEY_SIZE), reterr);
    }
    return err;
}

enum err store_pseudonym_remove(struct store *store, const char *dataset, struct err_info *reterr)
{
    struct removal removal = {.keys = {.max = (size_t)16 << 20}};
    struct span part = span_str(dataset);
    store_blind(store, STORE_TABLE_PSEUDONYM, &part, 1, removal.prefix);
    enum err err = store_write(store, remove_blocks, &removal, reterr);
    buf_fini(&removal.keys);
    return err;
}

/* --- another key for a dataset ------------------------------------------------------------- */

static enum err reseal(struct store *store, MDB_txn *txn, struct span key,
                       const struct crypto_key *from, const struct crypto_key *to,
                       struct err_info *reterr)
{
    struct span value;
    struct buf plain = {.max = BLOCK_BYTES + ID_SIZE};
    struct buf sealed = {.max = BLOCK_BYTES + 4096};
    enum err err = store_raw_get(store, txn, STORE_TABLE_PSEUDONYM, key, &value, reterr);
    err = err ? err : store_unseal_under(from, AREA, key, value, &plain, reterr);
    err = err ? err : store_seal_under(to, AREA, key, buf_span(&plain), &sealed, reterr);
    err = err ? err
              : store_raw_put(store, txn, STORE_TABLE_PSEUDONYM, key, buf_span(&sealed), reterr);
    if (plain.ptr) {
        crypto_wipe(plain.ptr, plain.cap);
    }
    buf_fini(&plain);
    buf_fini(&sealed);
    return err;
}

/* A column whose HMAC key was derived from FROM keeps it, sealed under TO. */
static enum err keep_mac_key(struct store *store, MDB_txn *txn, const uint8_t dataset_blind[16],
                             const char *dataset, const char *column, const struct crypto_key *from,
                             const struct crypto_key *to, struct err_info *reterr)
{
    struct store_pseudonym table = {.dek = from, .mac_key = crypto_key_new()};
    struct span parts[2] = {span_str(dataset), span_str(column)};
    struct buf sealed = {.max = 4096};
    uint8_t first[KEY_SIZE];
    uint8_t key[KEY_SIZE];
    struct span value;
    if (!table.mac_key) {
        return proto_err_set(reterr, E_NO_MEMORY, "the keys of table %s", AREA);
    }
    memcpy(table.prefix, dataset_blind, STORE_BLIND_SIZE);
    store_blind(store, STORE_TABLE_PSEUDONYM, parts, 2, table.prefix + STORE_BLIND_SIZE);
    make_key(&table, 0, first);
    make_key(&table, KEY_BLOCK, key);
    bool used = store_raw_get(store, txn, STORE_TABLE_PSEUDONYM, span_of(first, sizeof first),
                              &value, NULL) == E_OK;
    bool kept = store_raw_get(store, txn, STORE_TABLE_PSEUDONYM, span_of(key, sizeof key), &value,
                              NULL) == E_OK;
    enum err err = E_OK;
    if (used && !kept) {
        err = make_mac_key(&table, column);
        err =
            err ? err
                : store_seal_under(to, AREA, span_of(key, sizeof key),
                                   span_of(table.mac_key->bytes, CRYPTO_KEY_SIZE), &sealed, reterr);
        err = err ? err
                  : store_raw_put(store, txn, STORE_TABLE_PSEUDONYM, span_of(key, sizeof key),
                                  buf_span(&sealed), reterr);
    }
    crypto_key_free(table.mac_key);
    buf_fini(&sealed);
    return err;
}

enum err store_pseudonym_rekey(struct store *store, MDB_txn *txn, const char *dataset,
                               const char *const *columns, size_t count,
                               const struct crypto_key *from, const struct crypto_key *to,
                               struct err_info *reterr)
{
    struct removal all = {.keys = {.max = (size_t)16 << 20}};
    struct span part = span_str(dataset);
    store_blind(store, STORE_TABLE_PSEUDONYM, &part, 1, all.prefix);
    enum err err = store_raw_each(store, txn, STORE_TABLE_PSEUDONYM,
                                  span_of(all.prefix, STORE_BLIND_SIZE), collect, &all, reterr);
    err = err == E_CANCELLED ? E_OK : err;
    for (size_t at = 0; at < all.keys.len && !err; at += KEY_SIZE) {
        err = reseal(store, txn, span_of(all.keys.ptr + at, KEY_SIZE), from, to, reterr);
    }
    for (size_t i = 0; i < count && !err; i++) {
        err = keep_mac_key(store, txn, all.prefix, dataset, columns[i], from, to, reterr);
    }
    buf_fini(&all.keys);
    return err;
}
