#include "config.h"
#include "store/answer.h"

#include "crypto/kdf.h"
#include "proto/codec.h"
#include "store/ledger.h"

#include <stdio.h>

struct note {
    struct span charge_id;
    struct span dataset;
    struct span key_check;
};

static const struct proto_field note_fields[] = {
    PROTO_FIELD(struct note, charge_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct note, dataset, PROTO_STR, 1, 64),
    PROTO_FIELD(struct note, key_check, PROTO_BIN, 16, 16),
};
static const struct proto_message note_message =
    PROTO_MESSAGE("answer-note", struct note, note_fields);

static enum err note_decode(struct span plain, struct arena *arena, struct note *ret,
                            struct err_info *reterr)
{
    enum err err = proto_codec_decode(&note_message, plain, arena, ret, reterr);
    return err && err != E_NO_MEMORY
               ? proto_err_set(reterr, E_CORRUPT, "table answers: a row is damaged")
               : err;
}

#define AREA "answer"

/* 16 bytes that tell a key from another one without revealing it. */
static enum err key_check(const struct crypto_key *dek, uint8_t ret[16])
{
    return crypto_hkdf_expand(dek->bytes, span_str("concordat/store/key-check/1"), ret, 16);
}

/* A copy of the dataset's key, since a rotation may end the original at any time; the caller frees it, also on failure. */
static enum err dataset_key(const struct store *store, struct span dataset, struct crypto_key **ret,
                            uint8_t ret_check[16])
{
    char name[96];
    snprintf(name, sizeof name, "dataset/%.*s", (int)dataset.len, (const char *)dataset.ptr);
    enum err err = crypto_keyring_copy(store->keyring, name, ret);
    return err ? err : key_check(*ret, ret_check);
}

enum err store_answer_split(struct span value, struct span *ret_note, struct span *ret_answer)
{
    if (value.len < 4 || get_be32(value.ptr) > value.len - 4) {
        return E_CORRUPT;
    }
    size_t note_len = get_be32(value.ptr);
    *ret_note = span_of(value.ptr + 4, note_len);
    *ret_answer = span_of(value.ptr + 4 + note_len, value.len - 4 - note_len);
    return E_OK;
}

/* RET_KEY is NULL before and is the caller's to free, also on failure.
 * Errors: E_NOT_FOUND none, or its key is another one now. Spans borrow from the transaction and from PLAIN. */
static enum err find_answer(struct store *store, MDB_txn *txn, const uint8_t replay_key[32],
                            struct buf *plain, struct note *ret_note, struct crypto_key **ret_key,
                            struct span *ret_answer, struct err_info *reterr)
{
    struct arena arena = {0};
    struct span key = span_of(replay_key, 32);
    struct span value;
    struct span sealed_note;
    uint8_t check[16];
    enum err err = store_raw_get(store, txn, STORE_TABLE_ANSWERS, key, &value, reterr);
    if (err) {
        return err;
    }
    err = store_answer_split(value, &sealed_note, ret_answer);
    if (!err) {
        err = store_unseal(store, STORE_TABLE_ANSWERS, key, sealed_note, plain, reterr);
    } else {
        (void)proto_err_set(reterr, err, "table answers: a row is damaged");
    }
    if (!err) {
        err = note_decode(buf_span(plain), &arena, ret_note, reterr);
    }
    arena_fini(&arena);
    if (!err) {
        err = dataset_key(store, ret_note->dataset, ret_key, check);
        if (!err && !span_equal(ret_note->key_check, span_of(check, 16))) {
            err = E_NOT_FOUND;
        }
        if (err) {
            (void)proto_err_set(reterr, err, "the key of the stored answer's dataset is gone");
        }
    }
    return err;
}

static enum err encode_answer(struct store *store, struct span key, const struct note *note,
                              const struct crypto_key *dek, struct span answer, struct buf *ret,
                              struct err_info *reterr)
{
    struct buf plain = {.max = 512};
    uint8_t len[4] = {0};
    enum err err = proto_codec_encode(&note_message, note, &plain, reterr);
    if (!err) {
        err = buf_put(ret, span_of(len, 4));
    }
    if (!err) {
        err = store_seal(store, STORE_TABLE_ANSWERS, key, buf_span(&plain), ret, reterr);
    }
    if (!err) {
        put_be32(ret->ptr, (uint32_t)(ret->len - 4));
        err = store_seal_under(dek, AREA, key, answer, ret, reterr);
    }
    buf_fini(&plain);
    return err;
}

enum err store_answer_put(struct store *store, MDB_txn *txn, const uint8_t replay_key[32],
                          struct span dataset, const uint8_t charge_id[16], struct span answer,
                          struct err_info *reterr)
{
    struct buf plain = {.max = 512};
    struct buf value = {.max = 2 * STORE_ANSWER_MAX};
    struct note note;
    struct crypto_key *dek = NULL;
    struct span old;
    struct span key = span_of(replay_key, 32);
    uint8_t check[16];
    enum err err = find_answer(store, txn, replay_key, &plain, &note, &dek, &old, reterr);
    if (!err) {
        err = E_EXISTS;
    } else if (err == E_NOT_FOUND) {
        crypto_key_free(dek);
        dek = NULL;
        err = dataset_key(store, dataset, &dek, check);
        if (err) {
            (void)proto_err_set(reterr, err,
                                "the dataset's key is gone, so its answer cannot be kept");
        }
        note = (struct note){span_of(charge_id, 16), dataset, span_of(check, 16)};
        if (!err) {
            err = encode_answer(store, key, &note, dek, answer, &value, reterr);
        }
        if (!err) {
            err = store_raw_put(store, txn, STORE_TABLE_ANSWERS, key, buf_span(&value), reterr);
        }
    }
    crypto_key_free(dek);
    buf_fini(&plain);
    buf_fini(&value);
    return err;
}

/* --- another key for the answers of a dataset ------------------------------------------------------------------------- */

struct rekey {
    struct store *store;
    struct span dataset;
    const struct crypto_key *from;
    const struct crypto_key *to;
    uint8_t from_check[16];
    uint8_t to_check[16];
    struct buf keys;
};

/* Whether the answer at KEY is the dataset's, under the key that goes. */
static enum err select_answer(void *user, struct span key, struct span value,
                              struct err_info *reterr)
{
    struct rekey *rekey = user;
    struct buf plain = {.max = 512};
    struct arena arena = {0};
    struct note note;
    struct span sealed_note;
    struct span answer;
    enum err err = key.len == 32 ? store_answer_split(value, &sealed_note, &answer) : E_CORRUPT;
    if (err) {
        return proto_err_set(reterr, err, "table answers: a row is damaged");
    }
    err = store_unseal(rekey->store, STORE_TABLE_ANSWERS, key, sealed_note, &plain, reterr);
    err = err ? err : note_decode(buf_span(&plain), &arena, &note, reterr);
    if (!err && span_equal(note.dataset, rekey->dataset) &&
        span_equal(note.key_check, span_of(rekey->from_check, 16))) {
        err = buf_put(&rekey->keys, key);
    }
    arena_fini(&arena);
    buf_fini(&plain);
    return err;
}

static enum err rekey_answer(struct rekey *rekey, MDB_txn *txn, struct span key,
                             struct err_info *reterr)
{
    struct buf plain = {.max = 512};
    struct buf answer = {.max = STORE_ANSWER_MAX};
    struct buf value = {.max = 2 * STORE_ANSWER_MAX};
    struct arena arena = {0};
    struct note note;
    struct span stored;
    struct span sealed_note;
    struct span sealed;
    enum err err = store_raw_get(rekey->store, txn, STORE_TABLE_ANSWERS, key, &stored, reterr);
    err = err ? err : store_answer_split(stored, &sealed_note, &sealed);
    err = err ? err
              : store_unseal(rekey->store, STORE_TABLE_ANSWERS, key, sealed_note, &plain, reterr);
    err = err ? err : note_decode(buf_span(&plain), &arena, &note, reterr);
    err = err ? err : store_unseal_under(rekey->from, AREA, key, sealed, &answer, reterr);
    if (!err) {
        note.key_check = span_of(rekey->to_check, 16);
        err = encode_answer(rekey->store, key, &note, rekey->to, buf_span(&answer), &value, reterr);
    }
    err =
        err ? err
            : store_raw_put(rekey->store, txn, STORE_TABLE_ANSWERS, key, buf_span(&value), reterr);
    if (answer.ptr) {
        crypto_wipe(answer.ptr, answer.cap);
    }
    arena_fini(&arena);
    buf_fini(&plain);
    buf_fini(&answer);
    buf_fini(&value);
    return err;
}

enum err store_answer_rekey(struct store *store, MDB_txn *txn, const char *dataset,
                            const struct crypto_key *from, const struct crypto_key *to,
                            struct err_info *reterr)
{
    struct rekey rekey = {.store = store,
                          .dataset = span_str(dataset),
                          .from = from,
                          .to = to,
                          .keys = {.max = (size_t)1 << 28}};
    enum err err = key_check(from, rekey.from_check);
    err = err ? err : key_check(to, rekey.to_check);
    err = err ? err
              : store_raw_each(store, txn, STORE_TABLE_ANSWERS, SPAN_NONE, select_answer, &rekey,
                               reterr);
    for (size_t at = 0; at < rekey.keys.len && !err; at += 32) {
        err = rekey_answer(&rekey, txn, span_of(rekey.keys.ptr + at, 32), reterr);
    }
    buf_fini(&rekey.keys);
    return err;
}

enum err store_ledger_answer(struct store *store, const uint8_t replay_key[32],
                             struct buf *ret_answer, uint8_t ret_id[16], struct err_info *reterr)
{
    struct buf plain = {.max = 512};
    struct note note;
    struct crypto_key *dek = NULL;
    struct span sealed;
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = find_answer(store, txn, replay_key, &plain, &note, &dek, &sealed, reterr);
    }
    if (!err) {
        err = store_unseal_under(dek, AREA, span_of(replay_key, 32), sealed, ret_answer, reterr);
    }
    if (!err && ret_id) {
        memcpy(ret_id, note.charge_id.ptr, 16);
    }
    store_read_end(txn);
    crypto_key_free(dek);
    buf_fini(&plain);
    return err;
}
