/* Sealed chunks: round trips, and that every byte that matters is authenticated. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "crypto/chunk.h"
#include "crypto/provider.h"
#include "tests/unit/crypto/common.h"

static struct crypto_key *dek;

static void test_round_trips(void **state)
{
    (void)state;
    static uint8_t plain[70000];
    static uint8_t sealed[70000 + CRYPTO_CHUNK_OVERHEAD];
    static uint8_t got[70000];
    struct crypto_sealer *sealer = NULL;
    struct crypto_opener *opener = NULL;
    struct span context = span_str("flchain/age");
    assert_int_equal(crypto_sealer_open(dek, context, &sealer), E_OK);
    assert_int_equal(crypto_opener_new(dek, context, &opener), E_OK);
    for (int i = 0; i < 200; i++) {
        uint8_t aad[CRYPTO_CHUNK_AAD_MAX];
        size_t len = i == 0 ? 0 : common_next() % sizeof plain;
        size_t aad_len = i == 0 ? 0 : i == 1 ? sizeof aad : common_next() % sizeof aad;
        size_t sealed_len = 0;
        size_t got_len = 1;
        common_fill(plain, len);
        common_fill(aad, aad_len);
        assert_int_equal(crypto_sealer_seal(sealer, span_of(aad, aad_len), span_of(plain, len),
                                            sealed, sizeof sealed, &sealed_len),
                         E_OK);
        assert_int_equal(sealed_len, len + CRYPTO_CHUNK_OVERHEAD);
        struct span chunk = span_of(sealed, sealed_len);
        assert_int_equal(
            crypto_chunk_open(dek, context, span_of(aad, aad_len), chunk, got, len, &got_len),
            E_OK);
        assert_int_equal(got_len, len);
        assert_memory_equal(got, plain, len);
        memset(got, 0, len);
        assert_int_equal(
            crypto_opener_open(opener, span_of(aad, aad_len), chunk, got, len, &got_len), E_OK);
        assert_memory_equal(got, plain, len);
        assert_int_equal(crypto_chunk_plain_len(chunk, &got_len), E_OK);
        assert_int_equal(got_len, len);
    }
    crypto_opener_free(opener);
    crypto_sealer_close(sealer);
}

static bool opens(const struct crypto_key *key, const char *context, struct span aad,
                  struct span chunk)
{
    uint8_t got[256];
    size_t len = 0;
    memset(got, 0xa5, sizeof got);
    enum err err = crypto_chunk_open(key, span_str(context), aad, chunk, got, sizeof got, &len);
    struct crypto_opener *opener = NULL;
    assert_int_equal(crypto_opener_new(key, span_str(context), &opener), E_OK);
    uint8_t again[256];
    assert_int_equal(crypto_opener_open(opener, aad, chunk, again, sizeof again, &len), err);
    crypto_opener_free(opener);
    if (err) {
        assert_true(err == E_AUTH || err == E_CORRUPT);
        assert_false(common_contains(span_of(got, sizeof got), span_str("patient")));
    }
    return err == E_OK;
}

static void test_every_byte_counts(void **state)
{
    (void)state;
    uint8_t sealed[256];
    uint8_t aad[24];
    size_t len = 0;
    struct crypto_sealer *sealer = NULL;
    common_fill(aad, sizeof aad);
    assert_int_equal(crypto_sealer_open(dek, span_str("a/b"), &sealer), E_OK);
    assert_int_equal(crypto_sealer_seal(sealer, span_of(aad, sizeof aad),
                                        span_str("patient 17 patient 18"), sealed, sizeof sealed,
                                        &len),
                     E_OK);
    crypto_sealer_close(sealer);
    struct span all = span_of(aad, sizeof aad);
    assert_true(opens(dek, "a/b", all, span_of(sealed, len)));
    for (size_t i = 0; i < len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            sealed[i] ^= (uint8_t)(1 << bit);
            assert_false(opens(dek, "a/b", all, span_of(sealed, len)));
            sealed[i] ^= (uint8_t)(1 << bit);
        }
    }
    for (size_t i = 0; i < sizeof aad; i++) {
        aad[i] ^= 1;
        assert_false(opens(dek, "a/b", all, span_of(sealed, len)));
        aad[i] ^= 1;
    }
    for (size_t cut = 0; cut < len; cut++) {
        assert_false(opens(dek, "a/b", all, span_of(sealed, cut)));
    }
    sealed[len] = 0;
    assert_false(opens(dek, "a/b", all, span_of(sealed, len + 1)));
    assert_false(opens(dek, "a/b", span_of(aad, sizeof aad - 1), span_of(sealed, len)));
    assert_false(opens(dek, "a/c", all, span_of(sealed, len)));
    assert_false(opens(dek, "a/bb", all, span_of(sealed, len)));
    struct crypto_key *other = crypto_key_new();
    *other = *dek;
    other->bytes[31] ^= 1;
    assert_false(opens(other, "a/b", all, span_of(sealed, len)));
    crypto_key_free(other);
    assert_true(opens(dek, "a/b", all, span_of(sealed, len)));
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, 20);
}

/* (epoch, nonce) over many sealers of one key and context never repeats; within one the counter rises. */
static void test_nonces(void **state)
{
    (void)state;
    enum {
        SEALERS = 40,
        SEALS = 50
    };
    static uint8_t seen[SEALERS * SEALS][20];
    size_t count = 0;
    for (int s = 0; s < SEALERS; s++) {
        struct crypto_sealer *sealer = NULL;
        uint64_t last = 0;
        assert_int_equal(crypto_sealer_open(dek, span_str("x"), &sealer), E_OK);
        for (int i = 0; i < SEALS; i++) {
            uint8_t out[64];
            size_t len;
            assert_int_equal(
                crypto_sealer_seal(sealer, SPAN_NONE, span_str("abc"), out, sizeof out, &len),
                E_OK);
            memcpy(seen[count++], out + 8, 20);
            assert_true(i == 0 || get_be64(out + 20) > last);
            last = get_be64(out + 20);
        }
        crypto_sealer_close(sealer);
    }
    qsort(seen, count, sizeof *seen, by_bytes);
    for (size_t i = 1; i < count; i++) {
        assert_memory_not_equal(seen[i - 1], seen[i], 20);
    }
}

static void test_limits(void **state)
{
    (void)state;
    static uint8_t big[CRYPTO_CHUNK_PLAIN_MAX + 1];
    static uint8_t out[CRYPTO_CHUNK_PLAIN_MAX + 1 + CRYPTO_CHUNK_OVERHEAD];
    struct crypto_sealer *sealer = NULL;
    size_t len = 0;
    uint8_t small[8];
    assert_int_equal(crypto_sealer_open(dek, span_of(big, CRYPTO_CHUNK_CONTEXT_MAX + 1), &sealer),
                     E_LIMIT);
    assert_int_equal(crypto_sealer_open(dek, SPAN_NONE, &sealer), E_OK);
    assert_int_equal(
        crypto_sealer_seal(sealer, SPAN_NONE, span_of(big, sizeof big), out, sizeof out, &len),
        E_LIMIT);
    assert_int_equal(crypto_sealer_seal(sealer, span_of(big, CRYPTO_CHUNK_AAD_MAX + 1), SPAN_NONE,
                                        out, sizeof out, &len),
                     E_LIMIT);
    assert_int_equal(crypto_sealer_seal(sealer, SPAN_NONE, span_of(big, 100), out,
                                        99 + CRYPTO_CHUNK_OVERHEAD, &len),
                     E_LIMIT);
    assert_int_equal(crypto_sealer_seal(sealer, SPAN_NONE, span_of(big, 100), out,
                                        100 + CRYPTO_CHUNK_OVERHEAD, &len),
                     E_OK);
    assert_int_equal(
        crypto_chunk_open(dek, SPAN_NONE, SPAN_NONE, span_of(out, len), small, sizeof small, &len),
        E_LIMIT);
    crypto_sealer_close(sealer);
}

/* More epochs than the cache holds, in random order. */
static void test_opener_cache(void **state)
{
    (void)state;
    enum {
        EPOCHS = 40
    };
    static uint8_t chunks[EPOCHS][64];
    size_t len = 0;
    struct crypto_opener *opener = NULL;
    for (uint8_t i = 0; i < EPOCHS; i++) {
        struct crypto_sealer *sealer = NULL;
        assert_int_equal(crypto_sealer_open(dek, span_str("y"), &sealer), E_OK);
        assert_int_equal(crypto_sealer_seal(sealer, SPAN_NONE, span_of(&i, 1), chunks[i], 64, &len),
                         E_OK);
        crypto_sealer_close(sealer);
    }
    assert_int_equal(crypto_opener_new(dek, span_str("y"), &opener), E_OK);
    for (int i = 0; i < 500; i++) {
        uint8_t which = (uint8_t)(common_next() % EPOCHS);
        uint8_t got = 0xff;
        size_t got_len = 0;
        assert_int_equal(
            crypto_opener_open(opener, SPAN_NONE, span_of(chunks[which], len), &got, 1, &got_len),
            E_OK);
        assert_int_equal(got, which);
    }
    crypto_opener_free(opener);
}

static int setup(void **state)
{
    (void)state;
    common_seed();
    dek = crypto_key_new();
    common_fill(dek->bytes, 32);
    return crypto_init(NULL) == E_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    crypto_key_free(dek);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),  cmocka_unit_test(test_every_byte_counts),
        cmocka_unit_test(test_nonces),       cmocka_unit_test(test_limits),
        cmocka_unit_test(test_opener_cache),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
