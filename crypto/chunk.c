#include "config.h"
#include "crypto/chunk.h"

#include "crypto/kdf.h"
#include "crypto/random.h"
#include "proto/alloc.h"

#define FORMAT        1
#define AES_256_GCM   1
#define KEY_VERSION   1
#define EPOCH_OFFSET  8
#define NONCE_OFFSET  16
#define LENGTH_OFFSET 28
#define EPOCH_SIZE    8
#define CACHE         16

static const uint8_t head[EPOCH_OFFSET] = {'C', 'C', 'K', '1', FORMAT, AES_256_GCM, 0, KEY_VERSION};

/* The label ends in a zero and the epoch has a fixed length, so that no two (context, epoch) share an info string. */
static enum err derive(const struct crypto_key *dek, struct span context,
                       const uint8_t epoch[EPOCH_SIZE], struct crypto_key *ret)
{
    static const char label[] = "concordat/chunk/1";
    uint8_t info[sizeof label + CRYPTO_CHUNK_CONTEXT_MAX + EPOCH_SIZE];
    if (context.len > CRYPTO_CHUNK_CONTEXT_MAX) {
        return E_LIMIT;
    }
    memcpy(info, label, sizeof label);
    if (context.len) {
        memcpy(info + sizeof label, context.ptr, context.len);
    }
    memcpy(info + sizeof label + context.len, epoch, EPOCH_SIZE);
    return crypto_hkdf_expand(dek->bytes, span_of(info, sizeof label + context.len + EPOCH_SIZE),
                              ret->bytes, sizeof ret->bytes);
}

/* What the tag covers besides the cipher: header, then the caller's AAD. */
struct covered {
    size_t len;
    uint8_t bytes[CRYPTO_CHUNK_HEADER + CRYPTO_CHUNK_AAD_MAX];
};

static enum err cover(struct covered *covered, const uint8_t header[CRYPTO_CHUNK_HEADER],
                      struct span aad)
{
    if (aad.len > CRYPTO_CHUNK_AAD_MAX) {
        return E_LIMIT;
    }
    memcpy(covered->bytes, header, CRYPTO_CHUNK_HEADER);
    if (aad.len) {
        memcpy(covered->bytes + CRYPTO_CHUNK_HEADER, aad.ptr, aad.len);
    }
    covered->len = CRYPTO_CHUNK_HEADER + aad.len;
    return E_OK;
}

/* --- sealing --------------------------------------------------------------------------------------------------------- */

struct crypto_sealer {
    struct crypto_key *key; /* of this epoch */
    uint8_t epoch[EPOCH_SIZE];
    uint64_t next; /* nonce counter */
};

enum err crypto_sealer_open(const struct crypto_key *dek, struct span context,
                            struct crypto_sealer **ret)
{
    struct crypto_sealer *sealer = proto_alloc(1, sizeof *sealer);
    if (!sealer) {
        return E_NO_MEMORY;
    }
    sealer->key = crypto_key_new();
    enum err err = sealer->key ? crypto_random(sealer->epoch, sizeof sealer->epoch) : E_NO_MEMORY;
    if (!err) {
        err = derive(dek, context, sealer->epoch, sealer->key);
    }
    if (err) {
        crypto_sealer_close(sealer);
        return err;
    }
    *ret = sealer;
    return E_OK;
}

void crypto_sealer_close(struct crypto_sealer *sealer)
{
    if (sealer) {
        crypto_key_free(sealer->key);
        proto_free(sealer);
    }
}

enum err crypto_sealer_seal(struct crypto_sealer *sealer, struct span aad, struct span plain,
                            uint8_t *out, size_t out_cap, size_t *ret_len)
{
    if (plain.len > CRYPTO_CHUNK_PLAIN_MAX || out_cap < CRYPTO_CHUNK_OVERHEAD ||
        out_cap - CRYPTO_CHUNK_OVERHEAD < plain.len || sealer->next == UINT64_MAX) {
        return E_LIMIT;
    }
    memcpy(out, head, sizeof head);
    memcpy(out + EPOCH_OFFSET, sealer->epoch, EPOCH_SIZE);
    put_be32(out + NONCE_OFFSET, 0);
    put_be64(out + NONCE_OFFSET + 4, sealer->next);
    put_be32(out + LENGTH_OFFSET, (uint32_t)plain.len);
    struct covered covered;
    enum err err = cover(&covered, out, aad);
    if (err) {
        return err;
    }
    sealer->next++; /* before the cipher runs: a number is spent even when the call fails */
    uint8_t *cipher = out + CRYPTO_CHUNK_HEADER;
    err = crypto_provider()->aead_seal(sealer->key->bytes, out + NONCE_OFFSET,
                                       span_of(covered.bytes, covered.len), plain, cipher,
                                       cipher + plain.len);
    if (!err) {
        *ret_len = plain.len + CRYPTO_CHUNK_OVERHEAD;
    }
    return err;
}

/* --- opening --------------------------------------------------------------------------------------------------------- */

enum err crypto_chunk_plain_len(struct span chunk, size_t *ret_len)
{
    if (chunk.len < CRYPTO_CHUNK_OVERHEAD || memcmp(chunk.ptr, head, sizeof head) != 0 ||
        get_be32(chunk.ptr + NONCE_OFFSET) != 0) {
        return E_CORRUPT;
    }
    size_t len = get_be32(chunk.ptr + LENGTH_OFFSET);
    if (len > CRYPTO_CHUNK_PLAIN_MAX || len != chunk.len - CRYPTO_CHUNK_OVERHEAD) {
        return E_CORRUPT;
    }
    *ret_len = len;
    return E_OK;
}

static enum err open_with(const struct crypto_key *epoch_key, struct span aad, struct span chunk,
                          size_t len, uint8_t *out, size_t *ret_len)
{
    struct covered covered;
    enum err err = cover(&covered, chunk.ptr, aad);
    if (err) {
        return err;
    }
    const uint8_t *cipher = chunk.ptr + CRYPTO_CHUNK_HEADER;
    err = crypto_provider()->aead_open(epoch_key->bytes, chunk.ptr + NONCE_OFFSET,
                                       span_of(covered.bytes, covered.len), span_of(cipher, len),
                                       cipher + len, out);
    if (!err) {
        *ret_len = len;
    }
    return err;
}

enum err crypto_chunk_open(const struct crypto_key *dek, struct span context, struct span aad,
                           struct span chunk, uint8_t *out, size_t out_cap, size_t *ret_len)
{
    size_t len;
    enum err err = crypto_chunk_plain_len(chunk, &len);
    if (err) {
        return err;
    }
    if (len > out_cap) {
        return E_LIMIT;
    }
    struct crypto_key *key = crypto_key_new();
    if (!key) {
        return E_NO_MEMORY;
    }
    err = derive(dek, context, chunk.ptr + EPOCH_OFFSET, key);
    if (!err) {
        err = open_with(key, aad, chunk, len, out, ret_len);
    }
    crypto_key_free(key);
    return err;
}

struct crypto_opener {
    struct crypto_key *dek;
    struct crypto_key *keys[CACHE];
    uint8_t epochs[CACHE][EPOCH_SIZE];
    size_t count;
    size_t next; /* the slot that is replaced when all are taken */
    size_t context_len;
    uint8_t context[CRYPTO_CHUNK_CONTEXT_MAX];
};

enum err crypto_opener_new(const struct crypto_key *dek, struct span context,
                           struct crypto_opener **ret)
{
    if (context.len > CRYPTO_CHUNK_CONTEXT_MAX) {
        return E_LIMIT;
    }
    struct crypto_opener *opener = proto_alloc(1, sizeof *opener);
    if (!opener) {
        return E_NO_MEMORY;
    }
    opener->dek = crypto_key_new();
    if (!opener->dek) {
        crypto_opener_free(opener);
        return E_NO_MEMORY;
    }
    *opener->dek = *dek;
    opener->context_len = context.len;
    if (context.len) {
        memcpy(opener->context, context.ptr, context.len);
    }
    *ret = opener;
    return E_OK;
}

void crypto_opener_free(struct crypto_opener *opener)
{
    if (opener) {
        for (size_t i = 0; i < CACHE; i++) {
            crypto_key_free(opener->keys[i]);
        }
        crypto_key_free(opener->dek);
        proto_free(opener);
    }
}

static enum err epoch_key(struct crypto_opener *opener, const uint8_t epoch[EPOCH_SIZE],
                          const struct crypto_key **ret)
{
    for (size_t i = 0; i < opener->count; i++) {
        if (memcmp(opener->epochs[i], epoch, EPOCH_SIZE) == 0) {
            *ret = opener->keys[i];
            return E_OK;
        }
    }
    size_t slot = opener->next;
    if (!opener->keys[slot]) {
        opener->keys[slot] = crypto_key_new();
        if (!opener->keys[slot]) {
            return E_NO_MEMORY;
        }
    }
    enum err err = derive(opener->dek, span_of(opener->context, opener->context_len), epoch,
                          opener->keys[slot]);
    if (err) {
        return err;
    }
    memcpy(opener->epochs[slot], epoch, EPOCH_SIZE);
    opener->next = (slot + 1) % CACHE;
    if (opener->count < CACHE) {
        opener->count++;
    }
    *ret = opener->keys[slot];
    return E_OK;
}

enum err crypto_opener_open(struct crypto_opener *opener, struct span aad, struct span chunk,
                            uint8_t *out, size_t out_cap, size_t *ret_len)
{
    size_t len;
    const struct crypto_key *key = NULL;
    enum err err = crypto_chunk_plain_len(chunk, &len);
    if (!err && len > out_cap) {
        err = E_LIMIT;
    }
    if (!err) {
        err = epoch_key(opener, chunk.ptr + EPOCH_OFFSET, &key);
    }
    return err ? err : open_with(key, aad, chunk, len, out, ret_len);
}
