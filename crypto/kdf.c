#include "config.h"
#include "crypto/kdf.h"

#include "crypto/memory.h"

#include <argon2.h>
#include <assert.h>

#define BLOCK 64

void crypto_hmac_by(const struct crypto_provider *provider, struct span key,
                    const struct span *parts, size_t count, uint8_t out[32])
{
    uint8_t block[BLOCK] = {0};
    uint8_t inner[32];
    struct span all[1 + CRYPTO_HMAC_PARTS];
    assert(count <= CRYPTO_HMAC_PARTS);
    if (key.len > BLOCK) {
        provider->sha256(&key, 1, block);
    } else if (key.len) {
        memcpy(block, key.ptr, key.len);
    }
    for (size_t i = 0; i < BLOCK; i++) {
        block[i] ^= 0x36;
    }
    all[0] = span_of(block, BLOCK);
    for (size_t i = 0; i < count; i++) {
        all[1 + i] = parts[i];
    }
    provider->sha256(all, 1 + count, inner);
    for (size_t i = 0; i < BLOCK; i++) {
        block[i] ^= 0x36 ^ 0x5c;
    }
    all[1] = span_of(inner, sizeof inner);
    provider->sha256(all, 2, out);
    crypto_wipe(block, sizeof block);
    crypto_wipe(inner, sizeof inner);
}

void crypto_hmac(struct span key, const struct span *parts, size_t count, uint8_t out[32])
{
    crypto_hmac_by(crypto_provider(), key, parts, count, out);
}

static enum err expand(const struct crypto_provider *provider, const uint8_t prk[32],
                       struct span info, uint8_t *out, size_t len)
{
    if (len > CRYPTO_HKDF_MAX) {
        return E_LIMIT;
    }
    uint8_t t[32];
    size_t t_len = 0;
    uint8_t round = 0;
    for (size_t done = 0; done < len;) {
        round++;
        struct span parts[3] = {span_of(t, t_len), info, span_of(&round, 1)};
        crypto_hmac_by(provider, span_of(prk, 32), parts, 3, t);
        t_len = sizeof t;
        size_t n = len - done < sizeof t ? len - done : sizeof t;
        memcpy(out + done, t, n);
        done += n;
    }
    crypto_wipe(t, sizeof t);
    return E_OK;
}

enum err crypto_hkdf_by(const struct crypto_provider *provider, struct span salt, struct span ikm,
                        struct span info, uint8_t *out, size_t len)
{
    uint8_t prk[32];
    crypto_hmac_by(provider, salt, &ikm, 1, prk);
    enum err err = expand(provider, prk, info, out, len);
    crypto_wipe(prk, sizeof prk);
    return err;
}

enum err crypto_hkdf(struct span salt, struct span ikm, struct span info, uint8_t *out, size_t len)
{
    return crypto_hkdf_by(crypto_provider(), salt, ikm, info, out, len);
}

enum err crypto_hkdf_expand(const uint8_t prk[32], struct span info, uint8_t *out, size_t len)
{
    return expand(crypto_provider(), prk, info, out, len);
}

enum err crypto_argon2id(struct span passphrase, const uint8_t salt[16], uint32_t memory_kib,
                         uint32_t passes, uint8_t out[32])
{
    int ret =
        argon2id_hash_raw(passes, memory_kib, 1, passphrase.ptr, passphrase.len, salt, 16, out, 32);
    if (ret == ARGON2_OK) {
        return E_OK;
    }
    crypto_wipe(out, 32);
    return ret == ARGON2_MEMORY_ALLOCATION_ERROR ? E_NO_MEMORY : E_LIMIT;
}
