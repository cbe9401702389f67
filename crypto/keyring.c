#include "config.h"
#include "crypto/keyring.h"

#include "crypto/file.h"
#include "crypto/kdf.h"
#include "crypto/random.h"
#include "proto/codec.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT      1
#define FORMAT_PKCS 2  /* a slot of a token is there */
#define HEADER      32 /* magic 4, version 2, slots 2, node id 16, generation 8 */
#define SLOT_PARAMS 28 /* kind 1, k 1, n 1, id 1, memory 4, passes 4, salt 16 */
#define WRAPPED     60 /* nonce 12, key 32, tag 16 */
#define SLOT_SIZE   (SLOT_PARAMS + WRAPPED)
#define TAIL_MAX    (1 + CRYPTO_PKCS11_LABEL_MAX + 1 + CRYPTO_PKCS11_LABEL_MAX + CRYPTO_PKCS11_SEALED)
#define MAC_SIZE    32
#define FILE_MAX                                                                                   \
    ((size_t)HEADER + CRYPTO_KEYRING_SLOTS * (SLOT_SIZE + 2 + TAIL_MAX) + 4 +                      \
     (size_t)CRYPTO_KEYRING_ENTRIES * (1 + CRYPTO_KEYRING_NAME + 4 + WRAPPED) + MAC_SIZE)
#define FILE_MIN        ((size_t)HEADER + SLOT_SIZE + 4 + MAC_SIZE)
#define SECRET_MAX      1024 /* a key file's length, a passphrase's length */
#define SLOT_KEYFILE    1
#define SLOT_PHRASE     2
#define SLOT_CREDENTIAL 3
#define SLOT_RECOVERY   4
#define SLOT_PKCS11     5
#define AT_K            1 /* in a slot's parameters */
#define AT_N            2
#define AT_ID           3

struct slot {
    uint8_t params[SLOT_PARAMS];
    uint8_t wrapped[WRAPPED];
    uint16_t tail_len; /* of SLOT_PKCS11: labels and what the token sealed; else 0 */
    uint8_t tail[TAIL_MAX];
};

struct entry {
    char name[CRYPTO_KEYRING_NAME + 1];
    uint32_t version;
    uint8_t wrapped[WRAPPED];
    struct crypto_key *dek; /* NULL until the file's MAC has been checked */
};

struct crypto_keyring {
    pthread_mutex_t lock;
    char *path;
    uint8_t node_id[16];
    uint64_t generation;
    struct slot slots[CRYPTO_KEYRING_SLOTS];
    size_t slot_count;
    uint8_t opened; /* id of the slot by which it was opened */
    struct entry *entries;
    size_t entry_count;
    size_t entry_cap;
    struct crypto_key *kek;
};

/* --- wrapping -------------------------------------------------------------------------------------------------------- */

/* 12 random bytes a wrap: at most a few thousand under one key, far from the bound of 2^32. */
static enum err wrap(const uint8_t key[32], struct span aad, const struct crypto_key *plain,
                     uint8_t out[WRAPPED])
{
    enum err err = crypto_random(out, 12);
    return err ? err
               : crypto_provider()->aead_seal(
                     key, out, aad, span_of(plain->bytes, sizeof plain->bytes), out + 12, out + 44);
}

static enum err unwrap(const uint8_t key[32], struct span aad, const uint8_t wrapped[WRAPPED],
                       struct crypto_key *ret)
{
    return crypto_provider()->aead_open(key, wrapped, aad, span_of(wrapped + 12, 32), wrapped + 44,
                                        ret->bytes);
}

static enum err subkey(const struct crypto_key *kek, const char *label, uint8_t out[32])
{
    return crypto_hkdf_expand(kek->bytes, span_str(label), out, 32);
}

/* label 0 node id, version, name */
struct entry_aad {
    uint8_t bytes[24 + 16 + 4 + CRYPTO_KEYRING_NAME];
    size_t len;
};

static struct entry_aad entry_aad(const struct crypto_keyring *keyring, const struct entry *entry)
{
    static const char label[24] = "concordat/keyring/dek/1";
    struct entry_aad aad;
    size_t name_len = strlen(entry->name);
    memcpy(aad.bytes, label, sizeof label);
    memcpy(aad.bytes + 24, keyring->node_id, 16);
    put_be32(aad.bytes + 40, entry->version);
    memcpy(aad.bytes + 44, entry->name, name_len);
    aad.len = 44 + name_len;
    return aad;
}

static enum err entry_wrap(const struct crypto_keyring *keyring, struct entry *entry)
{
    uint8_t key[32];
    struct entry_aad aad = entry_aad(keyring, entry);
    enum err err = subkey(keyring->kek, "concordat/keyring/wrap/1", key);
    if (!err) {
        err = wrap(key, span_of(aad.bytes, aad.len), entry->dek, entry->wrapped);
    }
    crypto_wipe(key, sizeof key);
    return err;
}

static enum err entry_unwrap(const struct crypto_keyring *keyring, struct entry *entry)
{
    uint8_t key[32];
    struct entry_aad aad = entry_aad(keyring, entry);
    entry->dek = crypto_key_new();
    if (!entry->dek) {
        return E_NO_MEMORY;
    }
    enum err err = subkey(keyring->kek, "concordat/keyring/wrap/1", key);
    if (!err) {
        err = unwrap(key, span_of(aad.bytes, aad.len), entry->wrapped, entry->dek);
    }
    crypto_wipe(key, sizeof key);
    return err;
}

/* --- slots ----------------------------------------------------------------------------------------------------------- */

/* Bits that others must not have. systemd gives a service's user its credentials by an access list, whose mask shows as the
 * group's bits. */
static mode_t forbidden_bits(enum crypto_unlock_how how)
{
    return how == CRYPTO_UNLOCK_CREDENTIAL ? 0137 : 0177;
}

/* WHAT: "key" or "PIN", for messages. */
static enum err secret_read(const char *what, enum crypto_unlock_how how, const char *path,
                            struct buf *secret, struct err_info *reterr)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        enum err err = errno == ENOENT ? E_NOT_FOUND : E_IO;
        return proto_err_set(reterr, err, "%s file %s: %s", what, path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode) || (st.st_mode & forbidden_bits(how)) != 0 ||
        (st.st_uid != geteuid() && st.st_uid != 0)) {
        return proto_err_set(reterr, E_REFUSED,
                             "%s file %s: it must be a plain file of mode 0600 and of this user",
                             what, path);
    }
    secret->max = SECRET_MAX;
    enum err err = buf_reserve(secret, SECRET_MAX); /* no growth, so that no copy is left behind */
    return err ? err : crypto_file_read(path, secret, reterr);
}

static enum err keyfile_read(enum crypto_unlock_how how, const char *path, struct buf *secret,
                             struct err_info *reterr)
{
    enum err err = secret_read("key", how, path, secret, reterr);
    if (!err && secret->len < 32) {
        err = proto_err_set(reterr, E_INVALID, "key file %s: it is shorter than 32 bytes", path);
    }
    return err;
}

static enum err keyfile_make(const char *path, struct err_info *reterr)
{
    if (access(path, F_OK) == 0) {
        return E_OK;
    }
    uint8_t secret[32];
    enum err err = crypto_random(secret, sizeof secret);
    if (!err) {
        err = crypto_file_write(path, span_of(secret, sizeof secret), true, reterr);
    }
    crypto_wipe(secret, sizeof secret);
    return err == E_EXISTS ? E_OK : err;
}

static uint8_t slot_kind(const struct crypto_unlock *unlock)
{
    static const uint8_t kinds[] = {
        [CRYPTO_UNLOCK_KEYFILE] = SLOT_KEYFILE,       [CRYPTO_UNLOCK_PASSPHRASE] = SLOT_PHRASE,
        [CRYPTO_UNLOCK_CREDENTIAL] = SLOT_CREDENTIAL, [CRYPTO_UNLOCK_RECOVERY] = SLOT_RECOVERY,
        [CRYPTO_UNLOCK_PKCS11] = SLOT_PKCS11,
    };
    return kinds[unlock->how];
}

static enum err unlock_check(const struct crypto_unlock *unlock, struct err_info *reterr)
{
    if (unlock->how == CRYPTO_UNLOCK_KEYFILE || unlock->how == CRYPTO_UNLOCK_CREDENTIAL) {
        return unlock->path ? E_OK : proto_err_set(reterr, E_USAGE, "no key file was named");
    }
    if (unlock->how == CRYPTO_UNLOCK_RECOVERY) {
        return unlock->share_count ? E_OK : proto_err_set(reterr, E_USAGE, "no shares were given");
    }
    if (unlock->how == CRYPTO_UNLOCK_PKCS11) {
        return E_OK; /* pkcs11.c looks at it */
    }
    if (unlock->how != CRYPTO_UNLOCK_PASSPHRASE || unlock->passphrase.len == 0 ||
        unlock->passphrase.len > SECRET_MAX) {
        return proto_err_set(reterr, E_USAGE, "a passphrase has 1 to %d bytes", SECRET_MAX);
    }
    return E_OK;
}

static bool params_valid(const uint8_t params[SLOT_PARAMS])
{
    uint32_t memory_kib = get_be32(params + 4);
    uint32_t passes = get_be32(params + 8);
    bool shared = params[0] == SLOT_RECOVERY;
    if (shared ? params[AT_K] < 2 || params[AT_N] < params[AT_K] || params[AT_N] > CRYPTO_SHARES_MAX
               : params[AT_K] != 0 || params[AT_N] != 0) {
        return false;
    }
    if (shared || params[0] == SLOT_KEYFILE || params[0] == SLOT_CREDENTIAL ||
        params[0] == SLOT_PKCS11) {
        return memory_kib == 0 && passes == 0;
    }
    return params[0] == SLOT_PHRASE && memory_kib >= CRYPTO_KEYRING_MEMORY_MIN &&
           memory_kib <= CRYPTO_KEYRING_MEMORY_MAX && passes >= 1 &&
           passes <= CRYPTO_KEYRING_PASSES_MAX;
}

static enum err shared_key(const uint8_t params[SLOT_PARAMS], const struct crypto_key *secret,
                           struct crypto_key *ret)
{
    return crypto_hkdf(span_of(params + 12, 16), span_of(secret->bytes, sizeof secret->bytes),
                       span_str("concordat/keyring/recovery/1"), ret->bytes, sizeof ret->bytes);
}

static enum err recovery_key(const uint8_t params[SLOT_PARAMS], const struct crypto_unlock *unlock,
                             struct crypto_key *ret, struct err_info *reterr)
{
    struct crypto_key *secret = crypto_key_new();
    enum err err = secret
                       ? crypto_shares_combine(unlock->shares, unlock->share_count, secret, reterr)
                       : E_NO_MEMORY;
    err = err ? err : shared_key(params, secret, ret);
    crypto_key_free(secret);
    return err;
}

/* --- slots of a token ------------------------------------------------------------------------------------------------ */

struct tail {
    struct span token, key, sealed;
};

static bool tail_read(struct span bytes, struct tail *ret)
{
    struct span *const labels[] = {&ret->token, &ret->key};
    for (size_t i = 0; i < 2; i++) {
        size_t len = bytes.len ? bytes.ptr[0] : 0;
        if (len == 0 || len > CRYPTO_PKCS11_LABEL_MAX || bytes.len < 1 + len ||
            memchr(bytes.ptr + 1, '\0', len) || !proto_utf8_valid(span_of(bytes.ptr + 1, len))) {
            return false;
        }
        *labels[i] = span_of(bytes.ptr + 1, len);
        bytes = span_of(bytes.ptr + 1 + len, bytes.len - 1 - len);
    }
    ret->sealed = bytes;
    return crypto_pkcs11_valid(bytes);
}

static struct tail slot_tail(const struct slot *slot)
{
    struct tail tail;
    bool good = tail_read(span_of(slot->tail, slot->tail_len), &tail);
    assert(good); /* decode and token_seal let nothing else in */
    return tail;
}

/* The PIN in hand, or the first line of its file. */
static enum err pin_read(const struct crypto_unlock *unlock, struct buf *file,
                         struct crypto_pkcs11 *ret, struct err_info *reterr)
{
    *ret = unlock->pkcs11;
    if (!unlock->pin_path) {
        return E_OK;
    }
    enum err err = secret_read(
        "PIN", unlock->pin_credential ? CRYPTO_UNLOCK_CREDENTIAL : CRYPTO_UNLOCK_KEYFILE,
        unlock->pin_path, file, reterr);
    size_t len = 0;
    while (!err && len < file->len && file->ptr[len] != '\n' && file->ptr[len] != '\r') {
        len++;
    }
    ret->pin = span_of(file->ptr, len);
    return !err && len == 0
               ? proto_err_set(reterr, E_INVALID, "PIN file %s: its first line is empty",
                               unlock->pin_path)
               : err;
}

static enum err token_shared(const uint8_t params[SLOT_PARAMS], const struct crypto_key *secret,
                             struct crypto_key *ret)
{
    return crypto_hkdf(span_of(params + 12, 16), span_of(secret->bytes, sizeof secret->bytes),
                       span_str("concordat/keyring/pkcs11/1"), ret->bytes, sizeof ret->bytes);
}

static enum err token_key(const struct slot *slot, const struct crypto_unlock *unlock,
                          struct crypto_key *ret, struct err_info *reterr)
{
    struct buf file = {0};
    struct crypto_pkcs11 pkcs11;
    struct crypto_key *secret = crypto_key_new();
    enum err err = secret ? pin_read(unlock, &file, &pkcs11, reterr) : E_NO_MEMORY;
    err = err ? err : crypto_pkcs11_open(&pkcs11, slot_tail(slot).sealed, secret, reterr);
    err = err ? err : token_shared(slot->params, secret, ret);
    crypto_buf_fini(&file);
    crypto_key_free(secret);
    return err;
}

/* A fresh secret, sealed by the token: the slot's tail and its key. */
static enum err token_seal(struct slot *slot, const struct crypto_unlock *unlock,
                           struct crypto_key *ret, struct err_info *reterr)
{
    struct buf file = {0};
    struct crypto_pkcs11 pkcs11;
    uint8_t sealed[CRYPTO_PKCS11_SEALED];
    size_t len = 0;
    struct crypto_key *secret = crypto_key_new();
    enum err err = secret ? pin_read(unlock, &file, &pkcs11, reterr) : E_NO_MEMORY;
    err = err ? err : crypto_random(secret->bytes, sizeof secret->bytes);
    err = err ? err : crypto_pkcs11_seal(&pkcs11, secret, sealed, &len, reterr);
    err = err ? err : token_shared(slot->params, secret, ret);
    crypto_buf_fini(&file);
    crypto_key_free(secret);
    if (err) {
        return err;
    }
    const struct span parts[] = {span_str(pkcs11.token), span_str(pkcs11.key)};
    uint8_t *at = slot->tail;
    for (size_t i = 0; i < 2; i++) {
        *at++ = (uint8_t)parts[i].len;
        memcpy(at, parts[i].ptr, parts[i].len);
        at += parts[i].len;
    }
    memcpy(at, sealed, len);
    slot->tail_len = (uint16_t)((size_t)(at - slot->tail) + len);
    return E_OK;
}

/* The key that wraps the KEK in this slot. Parameters come from the file before anything is authenticated, hence the
 * bounds in params_valid; the tag over them then shows whether they are the ones that were written. */
static enum err slot_key(const struct slot *slot, const struct crypto_unlock *unlock,
                         struct crypto_key *ret, struct err_info *reterr)
{
    const uint8_t *params = slot->params;
    const uint8_t *salt = params + 12;
    if (params[0] == SLOT_PHRASE) {
        return crypto_argon2id(unlock->passphrase, salt, get_be32(params + 4), get_be32(params + 8),
                               ret->bytes);
    }
    if (params[0] == SLOT_RECOVERY) {
        return recovery_key(params, unlock, ret, reterr);
    }
    if (params[0] == SLOT_PKCS11) {
        return token_key(slot, unlock, ret, reterr);
    }
    struct buf secret = {0};
    enum err err = keyfile_read(unlock->how, unlock->path, &secret, reterr);
    if (!err) {
        err = crypto_hkdf(span_of(salt, 16), buf_span(&secret),
                          span_str("concordat/keyring/keyfile/1"), ret->bytes, sizeof ret->bytes);
    }
    crypto_wipe(secret.ptr, secret.cap);
    buf_fini(&secret);
    return err;
}

struct slot_aad {
    uint8_t bytes[25 + 16 + SLOT_PARAMS];
};

static struct slot_aad slot_aad(const uint8_t node_id[16], const uint8_t params[SLOT_PARAMS])
{
    static const char label[25] = "concordat/keyring/slot/1";
    struct slot_aad aad;
    memcpy(aad.bytes, label, sizeof label);
    memcpy(aad.bytes + 25, node_id, 16);
    memcpy(aad.bytes + 41, params, SLOT_PARAMS);
    return aad;
}

static enum err slot_make(const struct crypto_unlock *unlock, uint8_t id, const uint8_t node_id[16],
                          const struct crypto_key *kek, struct slot *ret, struct err_info *reterr)
{
    struct slot slot = {.params = {slot_kind(unlock)}};
    slot.params[AT_ID] = id;
    if (unlock->how == CRYPTO_UNLOCK_RECOVERY) {
        return proto_err_set(reterr, E_USAGE, "shares open a slot, they do not make one");
    }
    if (unlock->how == CRYPTO_UNLOCK_PASSPHRASE) {
        put_be32(slot.params + 4,
                 unlock->memory_kib ? unlock->memory_kib : CRYPTO_ARGON2_MEMORY_KIB);
        put_be32(slot.params + 8, CRYPTO_ARGON2_PASSES);
    }
    if (!params_valid(slot.params)) {
        return proto_err_set(reterr, E_LIMIT, "a passphrase slot costs between %u and %u KiB",
                             CRYPTO_KEYRING_MEMORY_MIN, CRYPTO_KEYRING_MEMORY_MAX);
    }
    struct crypto_key *key = crypto_key_new();
    enum err err = key ? crypto_random(slot.params + 12, 16) : E_NO_MEMORY;
    if (!err && unlock->how == CRYPTO_UNLOCK_KEYFILE) { /* a credential is systemd's to make */
        err = keyfile_make(unlock->path, reterr);
    }
    if (!err) {
        err = unlock->how == CRYPTO_UNLOCK_PKCS11 ? token_seal(&slot, unlock, key, reterr)
                                                  : slot_key(&slot, unlock, key, reterr);
    }
    if (!err) {
        struct slot_aad aad = slot_aad(node_id, slot.params);
        err = wrap(key->bytes, span_of(aad.bytes, sizeof aad.bytes), kek, slot.wrapped);
    }
    crypto_key_free(key);
    if (!err) {
        *ret = slot;
    }
    return err;
}

/* A key file and a credential are the same kind of secret in another place, so either opens the other's slot. */
static bool slot_fits(const struct slot *slot, const struct crypto_unlock *unlock)
{
    uint8_t kind = slot->params[0];
    uint8_t given = slot_kind(unlock);
    if (kind == SLOT_PKCS11 && given == SLOT_PKCS11) {
        struct tail tail = slot_tail(slot);
        return unlock->pkcs11.token && unlock->pkcs11.key &&
               span_equal(tail.token, span_str(unlock->pkcs11.token)) &&
               span_equal(tail.key, span_str(unlock->pkcs11.key));
    }
    bool file = given == SLOT_KEYFILE || given == SLOT_CREDENTIAL;
    return kind == given || (file && (kind == SLOT_KEYFILE || kind == SLOT_CREDENTIAL));
}

/* Tries each slot of the right kind; one whose key cannot be had ends it with that reason. RET_KEK is written on success only. E_AUTH: none opens. */
static enum err slots_open(const struct crypto_keyring *keyring, const struct crypto_unlock *unlock,
                           struct crypto_key *ret_kek, uint8_t *ret_id, struct err_info *reterr)
{
    struct crypto_key *key = crypto_key_new();
    enum err err = key ? E_AUTH : E_NO_MEMORY;
    bool told = false;
    for (size_t i = 0; i < keyring->slot_count && err == E_AUTH && !told; i++) {
        const struct slot *slot = &keyring->slots[i];
        if (!slot_fits(slot, unlock)) {
            continue;
        }
        err = slot_key(slot, unlock, key, reterr);
        if (err == E_CORRUPT && slot->params[0] == SLOT_PKCS11) {
            err = E_AUTH; /* the token's key is another one now: a later slot may be its */
            continue;
        }
        told = err != E_OK;
        if (!err) {
            struct slot_aad aad = slot_aad(keyring->node_id, slot->params);
            err = unwrap(key->bytes, span_of(aad.bytes, sizeof aad.bytes), slot->wrapped, ret_kek);
        }
        if (!err) {
            *ret_id = slot->params[AT_ID];
        }
    }
    crypto_key_free(key);
    if (err == E_AUTH && !told) {
        proto_err_set(reterr, err, "keyring %s: this key or passphrase opens no slot",
                      keyring->path);
    }
    return err;
}

/* --- file ------------------------------------------------------------------------------------------------------------ */

static bool name_valid(const char *name, size_t len)
{
    if (len == 0 || len > CRYPTO_KEYRING_NAME) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (name[i] <= ' ' || name[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}

static enum err file_mac(const struct crypto_key *kek, struct span body, uint8_t mac[MAC_SIZE])
{
    uint8_t key[32];
    enum err err = subkey(kek, "concordat/keyring/mac/1", key);
    if (!err) {
        crypto_hmac(span_of(key, sizeof key), &body, 1, mac);
    }
    crypto_wipe(key, sizeof key);
    return err;
}

static enum err put_entry(struct buf *out, const struct entry *entry)
{
    uint8_t name_len = (uint8_t)strlen(entry->name);
    uint8_t version[4];
    put_be32(version, entry->version);
    enum err err = buf_put(out, span_of(&name_len, 1));
    err = err ? err : buf_put(out, span_of(entry->name, name_len));
    err = err ? err : buf_put(out, span_of(version, 4));
    return err ? err : buf_put(out, span_of(entry->wrapped, WRAPPED));
}

static enum err put_tail(struct buf *out, const struct slot *slot)
{
    uint8_t len[2];
    if (slot->params[0] != SLOT_PKCS11) {
        return E_OK;
    }
    put_be16(len, slot->tail_len);
    enum err err = buf_put(out, span_of(len, sizeof len));
    return err ? err : buf_put(out, span_of(slot->tail, slot->tail_len));
}

/* Encodes the whole file, leaving out the entry at index SKIP (SIZE_MAX: none). */
static enum err encode(const struct crypto_keyring *keyring, size_t skip, struct buf *out)
{
    uint8_t header[HEADER] = {'C', 'K', 'R', '1'};
    uint8_t count[4];
    uint8_t mac[MAC_SIZE];
    put_be16(header + 4, FORMAT);
    for (size_t i = 0; i < keyring->slot_count; i++) {
        if (keyring->slots[i].params[0] == SLOT_PKCS11) {
            put_be16(header + 4, FORMAT_PKCS);
        }
    }
    put_be16(header + 6, (uint16_t)keyring->slot_count);
    memcpy(header + 8, keyring->node_id, 16);
    put_be64(header + 24, keyring->generation + 1);
    put_be32(count, (uint32_t)(keyring->entry_count - (skip < keyring->entry_count ? 1 : 0)));
    enum err err = buf_put(out, span_of(header, sizeof header));
    for (size_t i = 0; i < keyring->slot_count && !err; i++) {
        err = buf_put(out, span_of(keyring->slots[i].params, SLOT_PARAMS));
        err = err ? err : buf_put(out, span_of(keyring->slots[i].wrapped, WRAPPED));
        err = err ? err : put_tail(out, &keyring->slots[i]);
    }
    err = err ? err : buf_put(out, span_of(count, sizeof count));
    for (size_t i = 0; i < keyring->entry_count && !err; i++) {
        if (i != skip) {
            err = put_entry(out, &keyring->entries[i]);
        }
    }
    err = err ? err : file_mac(keyring->kek, buf_span(out), mac);
    return err ? err : buf_put(out, span_of(mac, sizeof mac));
}

static enum err save(struct crypto_keyring *keyring, size_t skip, bool fresh,
                     struct err_info *reterr)
{
    struct buf file = {.max = FILE_MAX};
    enum err err = encode(keyring, skip, &file);
    if (!err) {
        err = crypto_file_write(keyring->path, buf_span(&file), fresh, reterr);
    } else {
        proto_err_set(reterr, err, "keyring %s: it cannot be encoded", keyring->path);
    }
    buf_fini(&file);
    if (!err) {
        keyring->generation++;
    }
    return err;
}

/* Walks the file. With KEYRING NULL it only checks the shape. */
struct reader {
    struct span rest;
};

static const uint8_t *take(struct reader *reader, size_t len)
{
    if (reader->rest.len < len) {
        return NULL;
    }
    const uint8_t *p = reader->rest.ptr;
    reader->rest.ptr += len;
    reader->rest.len -= len;
    return p;
}

static bool read_tail(struct reader *reader, struct span *ret)
{
    const uint8_t *len = take(reader, 2);
    const uint8_t *tail = len && get_be16(len) <= TAIL_MAX ? take(reader, get_be16(len)) : NULL;
    struct tail parts;
    *ret = tail ? span_of(tail, get_be16(len)) : SPAN_NONE;
    return tail && tail_read(*ret, &parts);
}

/* Slots of tokens stand in files of format 2 alone, and at least one does. */
static bool read_slots(struct reader *reader, uint16_t format, size_t count,
                       struct crypto_keyring *keyring)
{
    uint8_t seen[32] = {0};
    uint16_t needed = FORMAT;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *slot = take(reader, SLOT_SIZE);
        if (!slot || !params_valid(slot)) {
            return false;
        }
        if (seen[slot[AT_ID] / 8] & 1U << slot[AT_ID] % 8) {
            return false;
        }
        seen[slot[AT_ID] / 8] = (uint8_t)(seen[slot[AT_ID] / 8] | 1U << slot[AT_ID] % 8);
        struct span tail = SPAN_NONE;
        if (slot[0] == SLOT_PKCS11) {
            needed = FORMAT_PKCS;
            if (!read_tail(reader, &tail)) {
                return false;
            }
        }
        if (keyring) {
            memcpy(keyring->slots[i].params, slot, SLOT_PARAMS);
            memcpy(keyring->slots[i].wrapped, slot + SLOT_PARAMS, WRAPPED);
            keyring->slots[i].tail_len = (uint16_t)tail.len;
            if (tail.len) {
                memcpy(keyring->slots[i].tail, tail.ptr, tail.len);
            }
        }
    }
    return format == needed;
}

static bool read_entry(struct reader *reader, struct entry *ret)
{
    const uint8_t *name_len = take(reader, 1);
    const uint8_t *name = name_len ? take(reader, *name_len) : NULL;
    const uint8_t *tail = name ? take(reader, 4 + WRAPPED) : NULL;
    if (!tail || !name_valid((const char *)name, *name_len)) {
        return false;
    }
    memset(ret, 0, sizeof *ret);
    memcpy(ret->name, name, *name_len);
    ret->version = get_be32(tail);
    memcpy(ret->wrapped, tail + 4, WRAPPED);
    return true;
}

static enum err read_entries(struct reader *reader, size_t count, struct crypto_keyring *keyring)
{
    struct entry entry;
    if (keyring) {
        keyring->entries = proto_alloc(count, sizeof *keyring->entries);
        if (!keyring->entries) {
            return E_NO_MEMORY;
        }
        keyring->entry_cap = count ? count : 1;
    }
    for (size_t i = 0; i < count; i++) {
        if (!read_entry(reader, &entry)) {
            return E_CORRUPT;
        }
        if (keyring) {
            keyring->entries[keyring->entry_count++] = entry;
        }
    }
    return E_OK;
}

static enum err decode(struct span bytes, struct crypto_keyring *keyring)
{
    if (bytes.len < FILE_MIN || bytes.len > FILE_MAX) {
        return E_CORRUPT;
    }
    struct reader reader = {span_of(bytes.ptr, bytes.len - MAC_SIZE)};
    const uint8_t *header = take(&reader, HEADER);
    size_t slots = get_be16(header + 6);
    if (memcmp(header, "CKR1", 4) != 0 || slots == 0 || slots > CRYPTO_KEYRING_SLOTS ||
        !read_slots(&reader, get_be16(header + 4), slots, keyring)) {
        return E_CORRUPT;
    }
    if (keyring) {
        memcpy(keyring->node_id, header + 8, 16);
        keyring->generation = get_be64(header + 24);
        keyring->slot_count = slots;
    }
    const uint8_t *count = take(&reader, 4);
    if (!count || get_be32(count) > CRYPTO_KEYRING_ENTRIES ||
        reader.rest.len < (size_t)get_be32(count) * (1 + 1 + 4 + WRAPPED)) {
        return E_CORRUPT; /* the count must fit the bytes before anything is allocated for it */
    }
    enum err err = read_entries(&reader, get_be32(count), keyring);
    return err ? err : reader.rest.len ? E_CORRUPT : E_OK;
}

enum err crypto_keyring_check(struct span bytes)
{
    return decode(bytes, NULL);
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

static struct crypto_keyring *keyring_new(const char *path)
{
    struct crypto_keyring *keyring = proto_alloc(1, sizeof *keyring);
    if (!keyring) {
        return NULL;
    }
    pthread_mutex_init(&keyring->lock, NULL);
    keyring->path = proto_strdup(path);
    keyring->kek = crypto_key_new();
    if (!keyring->path || !keyring->kek) {
        crypto_keyring_close(keyring);
        return NULL;
    }
    return keyring;
}

void crypto_keyring_close(struct crypto_keyring *keyring)
{
    if (!keyring) {
        return;
    }
    for (size_t i = 0; i < keyring->entry_count; i++) {
        crypto_key_free(keyring->entries[i].dek);
    }
    crypto_key_free(keyring->kek);
    proto_free(keyring->entries);
    proto_free(keyring->path);
    pthread_mutex_destroy(&keyring->lock);
    proto_free(keyring);
}

enum err crypto_keyring_create(const char *path, const struct crypto_unlock *unlock,
                               const uint8_t node_id[16], struct crypto_keyring **ret,
                               struct err_info *reterr)
{
    enum err err = unlock_check(unlock, reterr);
    if (err) {
        return err;
    }
    if (access(path, F_OK) == 0) {
        return proto_err_set(reterr, E_EXISTS, "keyring %s: it exists already", path);
    }
    struct crypto_keyring *keyring = keyring_new(path);
    if (!keyring) {
        return proto_err_set(reterr, E_NO_MEMORY, "keyring %s: out of memory", path);
    }
    memcpy(keyring->node_id, node_id, 16);
    keyring->slot_count = 1;
    err = crypto_random(keyring->kek->bytes, sizeof keyring->kek->bytes);
    if (!err) {
        err = slot_make(unlock, 0, node_id, keyring->kek, &keyring->slots[0], reterr);
    }
    if (!err) {
        err = save(keyring, SIZE_MAX, true, reterr);
    }
    if (err) {
        crypto_keyring_close(keyring);
        return err;
    }
    *ret = keyring;
    return E_OK;
}

/* After a slot has opened: the MAC over the file, then every entry. */
static enum err verify(struct crypto_keyring *keyring, struct span file)
{
    uint8_t mac[MAC_SIZE];
    enum err err = file_mac(keyring->kek, span_of(file.ptr, file.len - MAC_SIZE), mac);
    if (!err && !crypto_equal(mac, file.ptr + file.len - MAC_SIZE, MAC_SIZE)) {
        err = E_CORRUPT;
    }
    for (size_t i = 0; i < keyring->entry_count && !err; i++) {
        err = entry_unwrap(keyring, &keyring->entries[i]);
        if (err == E_AUTH) {
            err = E_CORRUPT;
        }
    }
    return err;
}

enum err crypto_keyring_open(const char *path, const struct crypto_unlock *unlock,
                             struct crypto_keyring **ret, struct err_info *reterr)
{
    enum err err = unlock_check(unlock, reterr);
    if (err) {
        return err;
    }
    struct buf file = {.max = FILE_MAX};
    struct crypto_keyring *keyring = keyring_new(path);
    err = keyring ? crypto_file_read(path, &file, reterr) : E_NO_MEMORY;
    if (err == E_LIMIT) {
        err = E_CORRUPT;
    }
    if (!err) {
        err = decode(buf_span(&file), keyring);
        if (err) {
            proto_err_set(reterr, err, "keyring %s: %s", path, proto_err_text(err));
        }
    }
    if (!err) {
        err = slots_open(keyring, unlock, keyring->kek, &keyring->opened, reterr);
    }
    if (!err) {
        err = verify(keyring, buf_span(&file));
        if (err) {
            proto_err_set(reterr, err, "keyring %s: it was changed or is damaged", path);
        }
    }
    buf_fini(&file);
    if (err) {
        crypto_keyring_close(keyring);
        return err;
    }
    *ret = keyring;
    return E_OK;
}

void crypto_keyring_tidy(struct crypto_keyring *keyring)
{
    pthread_mutex_lock(&keyring->lock);
    crypto_file_tidy(keyring->path);
    pthread_mutex_unlock(&keyring->lock);
}

const uint8_t *crypto_keyring_node_id(const struct crypto_keyring *keyring)
{
    return keyring->node_id;
}

/* --- entries --------------------------------------------------------------------------------------------------------- */

/* The entry's index, or SIZE_MAX. */
static size_t find(const struct crypto_keyring *keyring, const char *name)
{
    for (size_t i = 0; i < keyring->entry_count; i++) {
        if (strcmp(keyring->entries[i].name, name) == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

static enum err reserve(struct crypto_keyring *keyring)
{
    if (keyring->entry_count < keyring->entry_cap) {
        return E_OK;
    }
    size_t cap = keyring->entry_cap ? keyring->entry_cap * 2 : 8;
    struct entry *grown = proto_realloc(keyring->entries, cap, sizeof *grown);
    if (!grown) {
        return E_NO_MEMORY;
    }
    keyring->entries = grown;
    keyring->entry_cap = cap;
    return E_OK;
}

static enum err add(struct crypto_keyring *keyring, const char *name, struct err_info *reterr)
{
    if (find(keyring, name) != SIZE_MAX) {
        return proto_err_set(reterr, E_EXISTS, "keyring: there is a key %s already", name);
    }
    if (keyring->entry_count == CRYPTO_KEYRING_ENTRIES) {
        return proto_err_set(reterr, E_LIMIT, "keyring: it holds %d keys already",
                             CRYPTO_KEYRING_ENTRIES);
    }
    enum err err = reserve(keyring);
    if (err) {
        return err;
    }
    struct entry entry = {.version = 1, .dek = crypto_key_new()};
    memcpy(entry.name, name, strlen(name));
    err = entry.dek ? crypto_random(entry.dek->bytes, sizeof entry.dek->bytes) : E_NO_MEMORY;
    if (!err) {
        err = entry_wrap(keyring, &entry);
    }
    if (!err) {
        keyring->entries[keyring->entry_count++] = entry;
        err = save(keyring, SIZE_MAX, false, reterr);
        if (err) {
            keyring->entry_count--;
        }
    }
    if (err) {
        crypto_key_free(entry.dek);
    }
    return err;
}

enum err crypto_keyring_add(struct crypto_keyring *keyring, const char *name,
                            struct err_info *reterr)
{
    if (!name_valid(name, strnlen(name, CRYPTO_KEYRING_NAME + 1))) {
        return proto_err_set(reterr, E_INVALID,
                             "keyring: a name has 1 to %d visible ASCII characters",
                             CRYPTO_KEYRING_NAME);
    }
    pthread_mutex_lock(&keyring->lock);
    enum err err = add(keyring, name, reterr);
    pthread_mutex_unlock(&keyring->lock);
    return err;
}

enum err crypto_keyring_get(struct crypto_keyring *keyring, const char *name,
                            const struct crypto_key **ret)
{
    pthread_mutex_lock(&keyring->lock);
    size_t i = find(keyring, name);
    if (i != SIZE_MAX) {
        *ret = keyring->entries[i].dek;
    }
    pthread_mutex_unlock(&keyring->lock);
    return i == SIZE_MAX ? E_NOT_FOUND : E_OK;
}

enum err crypto_keyring_copy(struct crypto_keyring *keyring, const char *name,
                             struct crypto_key **ret)
{
    struct crypto_key *copy = crypto_key_new();
    if (!copy) {
        return E_NO_MEMORY;
    }
    pthread_mutex_lock(&keyring->lock);
    size_t i = find(keyring, name);
    if (i != SIZE_MAX) {
        *copy = *keyring->entries[i].dek;
    }
    pthread_mutex_unlock(&keyring->lock);
    if (i == SIZE_MAX) {
        crypto_key_free(copy);
        return E_NOT_FOUND;
    }
    *ret = copy;
    return E_OK;
}

/* The entry at I and its key leave memory. */
static void forget(struct crypto_keyring *keyring, size_t i)
{
    crypto_key_free(keyring->entries[i].dek);
    keyring->entry_count--;
    memmove(&keyring->entries[i], &keyring->entries[i + 1],
            (keyring->entry_count - i) * sizeof *keyring->entries);
    crypto_wipe(&keyring->entries[keyring->entry_count], sizeof *keyring->entries);
}

enum err crypto_keyring_shred(struct crypto_keyring *keyring, const char *name,
                              struct err_info *reterr)
{
    pthread_mutex_lock(&keyring->lock);
    size_t i = find(keyring, name);
    enum err err = i == SIZE_MAX
                       ? proto_err_set(reterr, E_NOT_FOUND, "keyring: there is no key %s", name)
                       : save(keyring, i, false, reterr);
    if (!err) {
        forget(keyring, i);
    }
    pthread_mutex_unlock(&keyring->lock);
    return err;
}

enum err crypto_keyring_promote(struct crypto_keyring *keyring, const char *from, const char *to,
                                struct err_info *reterr)
{
    if (!name_valid(to, strnlen(to, CRYPTO_KEYRING_NAME + 1))) {
        return proto_err_set(reterr, E_INVALID, "keyring: no key can have this name");
    }
    pthread_mutex_lock(&keyring->lock);
    size_t i = find(keyring, from);
    size_t old = find(keyring, to);
    enum err err = i == SIZE_MAX || i == old
                       ? proto_err_set(reterr, E_NOT_FOUND, "keyring: there is no key %s", from)
                       : E_OK;
    struct entry before = {0};
    if (!err) {
        before = keyring->entries[i];
        struct entry *entry = &keyring->entries[i];
        memset(entry->name, 0, sizeof entry->name);
        memcpy(entry->name, to, strlen(to));
        if (old != SIZE_MAX) {
            entry->version = keyring->entries[old].version + 1;
        }
        err = entry_wrap(keyring, entry); /* name and version stand in its AAD */
        err = err ? err : save(keyring, old, false, reterr);
        if (err) {
            *entry = before;
        }
    }
    if (!err && old != SIZE_MAX) {
        forget(keyring, old);
    }
    crypto_wipe(&before, sizeof before);
    pthread_mutex_unlock(&keyring->lock);
    return err;
}

uint64_t crypto_keyring_generation(struct crypto_keyring *keyring)
{
    pthread_mutex_lock(&keyring->lock);
    uint64_t generation = keyring->generation;
    pthread_mutex_unlock(&keyring->lock);
    return generation;
}

/* --- slots, as people manage them -------------------------------------------------------------------------------------- */

/* What a failed change of slots or KEK goes back to. */
struct slots {
    struct slot slots[CRYPTO_KEYRING_SLOTS];
    size_t count;
    uint8_t opened;
};

static struct slots slots_keep(const struct crypto_keyring *keyring)
{
    struct slots kept = {.count = keyring->slot_count, .opened = keyring->opened};
    memcpy(kept.slots, keyring->slots, sizeof kept.slots);
    return kept;
}

static enum err slots_save(struct crypto_keyring *keyring, const struct slots *kept,
                           struct err_info *reterr)
{
    enum err err = save(keyring, SIZE_MAX, false, reterr);
    if (err) {
        memcpy(keyring->slots, kept->slots, sizeof kept->slots);
        keyring->slot_count = kept->count;
        keyring->opened = kept->opened;
    }
    return err;
}

static size_t slot_find(const struct crypto_keyring *keyring, uint8_t id)
{
    for (size_t i = 0; i < keyring->slot_count; i++) {
        if (keyring->slots[i].params[AT_ID] == id) {
            return i;
        }
    }
    return SIZE_MAX;
}

static uint8_t slot_free_id(const struct crypto_keyring *keyring)
{
    uint8_t id = 0;
    while (slot_find(keyring, id) != SIZE_MAX) {
        id++; /* ends: there are at most eight */
    }
    return id;
}

size_t crypto_keyring_slots(struct crypto_keyring *keyring,
                            struct crypto_slot to[CRYPTO_KEYRING_SLOTS])
{
    static const enum crypto_unlock_how hows[] = {
        [SLOT_KEYFILE] = CRYPTO_UNLOCK_KEYFILE,       [SLOT_PHRASE] = CRYPTO_UNLOCK_PASSPHRASE,
        [SLOT_CREDENTIAL] = CRYPTO_UNLOCK_CREDENTIAL, [SLOT_RECOVERY] = CRYPTO_UNLOCK_RECOVERY,
        [SLOT_PKCS11] = CRYPTO_UNLOCK_PKCS11,
    };
    pthread_mutex_lock(&keyring->lock);
    size_t count = keyring->slot_count;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *params = keyring->slots[i].params;
        to[i] = (struct crypto_slot){.id = params[AT_ID],
                                     .how = hows[params[0]],
                                     .k = params[AT_K],
                                     .n = params[AT_N],
                                     .memory_kib = get_be32(params + 4),
                                     .opened = params[AT_ID] == keyring->opened};
        if (params[0] == SLOT_PKCS11) {
            struct tail tail = slot_tail(&keyring->slots[i]);
            memcpy(to[i].token, tail.token.ptr, tail.token.len);
            memcpy(to[i].key, tail.key.ptr, tail.key.len);
        }
    }
    pthread_mutex_unlock(&keyring->lock);
    return count;
}

/* With the lock held: SLOT, which has no id yet, is added. Its id stands in the AAD, so the caller took it from
 * slot_free_id under the same lock. */
static enum err slot_append(struct crypto_keyring *keyring, const struct slot *slot,
                            struct err_info *reterr)
{
    struct slots kept = slots_keep(keyring);
    keyring->slots[keyring->slot_count++] = *slot;
    return slots_save(keyring, &kept, reterr);
}

static enum err slot_room(const struct crypto_keyring *keyring, struct err_info *reterr)
{
    return keyring->slot_count < CRYPTO_KEYRING_SLOTS
               ? E_OK
               : proto_err_set(reterr, E_LIMIT,
                               "keyring: it has %d slots already, remove one first",
                               CRYPTO_KEYRING_SLOTS);
}

enum err crypto_keyring_slot_add(struct crypto_keyring *keyring, const struct crypto_unlock *unlock,
                                 uint8_t *ret_id, struct err_info *reterr)
{
    struct slot slot;
    enum err err = unlock_check(unlock, reterr);
    if (err) {
        return err;
    }
    pthread_mutex_lock(&keyring->lock);
    uint8_t id = slot_free_id(keyring);
    err = slot_room(keyring, reterr);
    err = err ? err : slot_make(unlock, id, keyring->node_id, keyring->kek, &slot, reterr);
    err = err ? err : slot_append(keyring, &slot, reterr);
    pthread_mutex_unlock(&keyring->lock);
    if (!err) {
        *ret_id = id;
    }
    return err;
}

/* The shares are of a fresh secret; the slot's salt gives their set its name. */
static enum err recovery_make(const struct crypto_keyring *keyring, unsigned k, unsigned n,
                              uint8_t id, struct slot *ret, char (*ret_shares)[CRYPTO_SHARE_TEXT])
{
    struct slot slot = {.params = {SLOT_RECOVERY, (uint8_t)k, (uint8_t)n, id}};
    struct crypto_key *secret = crypto_key_new();
    struct crypto_key *key = crypto_key_new();
    enum err err = secret && key ? crypto_random(secret->bytes, sizeof secret->bytes) : E_NO_MEMORY;
    err = err ? err : crypto_random(slot.params + 12, 16);
    err = err ? err : crypto_shares_split(secret, slot.params + 12, k, n, ret_shares);
    err = err ? err : shared_key(slot.params, secret, key);
    if (!err) {
        struct slot_aad aad = slot_aad(keyring->node_id, slot.params);
        err = wrap(key->bytes, span_of(aad.bytes, sizeof aad.bytes), keyring->kek, slot.wrapped);
    }
    crypto_key_free(secret);
    crypto_key_free(key);
    *ret = slot;
    return err;
}

enum err crypto_keyring_slot_recovery(struct crypto_keyring *keyring, unsigned k, unsigned n,
                                      char (*ret_shares)[CRYPTO_SHARE_TEXT], uint8_t *ret_id,
                                      struct err_info *reterr)
{
    struct slot slot;
    if (k < 2 || n < k || n > CRYPTO_SHARES_MAX) {
        return proto_err_set(reterr, E_USAGE, "recovery shares: K of N with 2 <= K <= N <= %d",
                             CRYPTO_SHARES_MAX);
    }
    pthread_mutex_lock(&keyring->lock);
    uint8_t id = slot_free_id(keyring);
    enum err err = slot_room(keyring, reterr);
    err = err ? err : recovery_make(keyring, k, n, id, &slot, ret_shares);
    err = err ? err : slot_append(keyring, &slot, reterr);
    pthread_mutex_unlock(&keyring->lock);
    if (err) {
        crypto_wipe(ret_shares, (size_t)n * CRYPTO_SHARE_TEXT);
    } else {
        *ret_id = id;
    }
    return err;
}

enum err crypto_keyring_slot_remove(struct crypto_keyring *keyring, uint8_t id,
                                    struct err_info *reterr)
{
    pthread_mutex_lock(&keyring->lock);
    size_t i = slot_find(keyring, id);
    enum err err = E_OK;
    if (i == SIZE_MAX) {
        err = proto_err_set(reterr, E_NOT_FOUND, "keyring: there is no slot %u", id);
    } else if (keyring->slot_count == 1) {
        err = proto_err_set(reterr, E_REFUSED, "keyring: slot %u is the last way in", id);
    } else {
        struct slots kept = slots_keep(keyring);
        keyring->slot_count--;
        memmove(&keyring->slots[i], &keyring->slots[i + 1],
                (keyring->slot_count - i) * sizeof *keyring->slots);
        err = slots_save(keyring, &kept, reterr);
    }
    pthread_mutex_unlock(&keyring->lock);
    return err;
}

enum err crypto_keyring_slot_replace(struct crypto_keyring *keyring, uint8_t id,
                                     const struct crypto_unlock *unlock, struct err_info *reterr)
{
    struct slot slot;
    enum err err = unlock_check(unlock, reterr);
    if (err) {
        return err;
    }
    pthread_mutex_lock(&keyring->lock);
    size_t i = slot_find(keyring, id);
    err = i == SIZE_MAX ? proto_err_set(reterr, E_NOT_FOUND, "keyring: there is no slot %u", id)
                        : slot_make(unlock, id, keyring->node_id, keyring->kek, &slot, reterr);
    if (!err) {
        struct slots kept = slots_keep(keyring);
        keyring->slots[i] = slot;
        err = slots_save(keyring, &kept, reterr);
    }
    pthread_mutex_unlock(&keyring->lock);
    return err;
}

enum err crypto_keyring_rewrap(struct crypto_keyring *keyring, const struct crypto_unlock *unlock,
                               struct err_info *reterr)
{
    struct slot slot;
    enum err err = unlock_check(unlock, reterr);
    if (err) {
        return err;
    }
    pthread_mutex_lock(&keyring->lock);
    err = slot_make(unlock, 0, keyring->node_id, keyring->kek, &slot, reterr);
    if (!err) {
        struct slots kept = slots_keep(keyring);
        keyring->slots[0] = slot;
        keyring->slot_count = 1;
        keyring->opened = 0;
        err = slots_save(keyring, &kept, reterr);
    }
    pthread_mutex_unlock(&keyring->lock);
    return err;
}

static enum err rewrap_all(struct crypto_keyring *keyring)
{
    enum err err = E_OK;
    for (size_t i = 0; i < keyring->entry_count && !err; i++) {
        err = entry_wrap(keyring, &keyring->entries[i]);
    }
    return err;
}

/* With the lock held. The wrapped keys are made anew in place; going back wraps them under the old KEK again, which needs
 * no disk. */
static enum err rotate(struct crypto_keyring *keyring, const struct crypto_unlock *unlock,
                       struct crypto_key *fresh, struct err_info *reterr)
{
    struct slot slot;
    uint8_t id = 0;
    struct crypto_key *opened = crypto_key_new();
    enum err err = opened ? slots_open(keyring, unlock, opened, &id, reterr) : E_NO_MEMORY;
    crypto_key_free(opened);
    err = err ? err : crypto_random(fresh->bytes, sizeof fresh->bytes);
    err = err ? err : slot_make(unlock, id, keyring->node_id, fresh, &slot, reterr);
    if (err) {
        return err;
    }
    struct slots kept = slots_keep(keyring);
    struct crypto_key *old = keyring->kek;
    keyring->kek = fresh;
    keyring->slots[0] = slot;
    keyring->slot_count = 1;
    keyring->opened = id;
    err = rewrap_all(keyring);
    err = err ? err : slots_save(keyring, &kept, reterr);
    if (!err) {
        crypto_key_free(old);
        return E_OK;
    }
    keyring->kek = old;
    memcpy(keyring->slots, kept.slots, sizeof kept.slots);
    keyring->slot_count = kept.count;
    keyring->opened = kept.opened;
    enum err back = rewrap_all(keyring);
    return back ? proto_err_set(reterr, back, "keyring: it cannot be wrapped; restart the daemon")
                : err;
}

enum err crypto_keyring_rotate(struct crypto_keyring *keyring, const struct crypto_unlock *unlock,
                               struct err_info *reterr)
{
    enum err err = unlock_check(unlock, reterr);
    struct crypto_key *fresh = err ? NULL : crypto_key_new();
    if (err || !fresh) {
        return err ? err : E_NO_MEMORY;
    }
    pthread_mutex_lock(&keyring->lock);
    err = rotate(keyring, unlock, fresh, reterr);
    pthread_mutex_unlock(&keyring->lock);
    if (err) {
        crypto_key_free(fresh);
    }
    return err;
}

const char *crypto_keyring_name(struct crypto_keyring *keyring, size_t index)
{
    pthread_mutex_lock(&keyring->lock);
    const char *name = index < keyring->entry_count ? keyring->entries[index].name : NULL;
    pthread_mutex_unlock(&keyring->lock);
    return name;
}
