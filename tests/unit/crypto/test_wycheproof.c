/* Every Wycheproof case that the provider table has a primitive for, through every provider. The files and how their
 * results are to be read: tests/vectors/crypto/README.md. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "crypto/certificate.h"
#include "crypto/kdf.h"
#include "crypto/memory.h"
#include "crypto/provider.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
    uint8_t *ptr;
    size_t len;
};

static struct bytes hex_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    assert_non_null(text);
    struct bytes b = {.len = strlen(text) / 2};
    b.ptr = malloc(b.len ? b.len : 1);
    assert_non_null(b.ptr);
    assert_true(span_from_hex(text, b.ptr, b.len));
    return b;
}

static struct span span_b(struct bytes b)
{
    return span_of(b.ptr, b.len);
}

static json_t *load(const char *name)
{
    char path[4096];
    const char *vectors = getenv("VECTORS");
    const char *top = getenv("top_srcdir");
    if (vectors) {
        snprintf(path, sizeof path, "%s/crypto/%s", vectors, name);
    } else {
        snprintf(path, sizeof path, "%s/tests/vectors/crypto/%s", top ? top : ".", name);
    }
    json_error_t error;
    json_t *file = json_load_file(path, 0, &error);
    if (!file) {
        fail_msg("%s: %s", path, error.text);
    }
    return file;
}

static bool has_flag(json_t *test, const char *flag)
{
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(test, "flags"), i, value)
    {
        if (strcmp(json_string_value(value), flag) == 0) {
            return true;
        }
    }
    return false;
}

static bool result_is(json_t *test, const char *result)
{
    return strcmp(json_string_value(json_object_get(test, "result")), result) == 0;
}

static int64_t number(json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* Runs ONE for each case and provider; returns how many cases there were. */
typedef bool run_one(const struct crypto_provider *provider, json_t *group, json_t *test);

static size_t run(const char *name, run_one *one)
{
    const struct crypto_provider *providers[2] = {crypto_provider_mbedtls(),
                                                  crypto_provider_libcrypto()};
    json_t *file = load(name);
    json_t *group;
    json_t *test;
    size_t g;
    size_t t;
    size_t count = 0;
    json_array_foreach(json_object_get(file, "testGroups"), g, group)
    {
        json_array_foreach(json_object_get(group, "tests"), t, test)
        {
            bool ran = false;
            for (size_t p = 0; p < 2; p++) {
                if (providers[p]) {
                    ran = one(providers[p], group, test);
                }
            }
            count += ran ? 1 : 0;
        }
    }
    json_decref(file);
    return count;
}

static void check(bool ok, const struct crypto_provider *provider, json_t *test)
{
    if (!ok) {
        fail_msg("%s: case %d (%s)", provider->name, (int)number(test, "tcId"),
                 json_string_value(json_object_get(test, "comment")));
    }
}

typedef enum err seal_op(const uint8_t *, const uint8_t *, struct span, struct span, uint8_t *,
                         uint8_t *);
typedef enum err open_op(const uint8_t *, const uint8_t *, struct span, struct span,
                         const uint8_t *, uint8_t *);

static bool aead_case(const struct crypto_provider *provider, seal_op *seal, open_op *open,
                      json_t *group, json_t *test)
{
    if (number(group, "keySize") != 256 || number(group, "ivSize") != 96 ||
        number(group, "tagSize") != 128) {
        return false;
    }
    struct bytes key = hex_of(test, "key");
    struct bytes iv = hex_of(test, "iv");
    struct bytes aad = hex_of(test, "aad");
    struct bytes msg = hex_of(test, "msg");
    struct bytes ct = hex_of(test, "ct");
    struct bytes tag = hex_of(test, "tag");
    uint8_t *out = malloc(ct.len + 1);
    uint8_t got_tag[16];
    memset(out, 0xa5, ct.len + 1);
    enum err err = open(key.ptr, iv.ptr, span_b(aad), span_b(ct), tag.ptr, out);
    if (result_is(test, "valid")) {
        check(err == E_OK && memcmp(out, msg.ptr, msg.len) == 0, provider, test);
        check(seal(key.ptr, iv.ptr, span_b(aad), span_b(msg), out, got_tag) == E_OK &&
                  memcmp(out, ct.ptr, ct.len) == 0 && memcmp(got_tag, tag.ptr, 16) == 0,
              provider, test);
    } else {
        check(err == E_AUTH, provider, test);
        for (size_t i = 0; i < ct.len; i++) {
            check(out[i] == 0, provider, test); /* not one byte of plaintext is released */
        }
    }
    check(out[ct.len] == 0xa5, provider, test);
    free(out);
    free(key.ptr);
    free(iv.ptr);
    free(aad.ptr);
    free(msg.ptr);
    free(ct.ptr);
    free(tag.ptr);
    return true;
}

static bool gcm_case(const struct crypto_provider *provider, json_t *group, json_t *test)
{
    return aead_case(provider, provider->aead_seal, provider->aead_open, group, test);
}

static bool chacha_case(const struct crypto_provider *provider, json_t *group, json_t *test)
{
    return aead_case(provider, provider->chacha_seal, provider->chacha_open, group, test);
}

static void test_gcm(void **state)
{
    (void)state;
    assert_int_equal(run("aes_gcm_test.json", gcm_case), 66);
}

static void test_chacha(void **state)
{
    (void)state;
    assert_int_equal(run("chacha20_poly1305_test.json", chacha_case), 316);
}

static bool hkdf_case(const struct crypto_provider *provider, json_t *group, json_t *test)
{
    (void)group;
    struct bytes ikm = hex_of(test, "ikm");
    struct bytes salt = hex_of(test, "salt");
    struct bytes info = hex_of(test, "info");
    struct bytes okm = hex_of(test, "okm");
    size_t size = (size_t)number(test, "size");
    uint8_t *out = malloc(size + 1);
    enum err err = crypto_hkdf_by(provider, span_b(salt), span_b(ikm), span_b(info), out, size);
    if (result_is(test, "valid")) {
        check(err == E_OK && okm.len == size && memcmp(out, okm.ptr, size) == 0, provider, test);
    } else {
        check(err == E_LIMIT, provider, test);
    }
    free(out);
    free(ikm.ptr);
    free(salt.ptr);
    free(info.ptr);
    free(okm.ptr);
    return true;
}

static void test_hkdf(void **state)
{
    (void)state;
    assert_int_equal(run("hkdf_sha256_test.json", hkdf_case), 86);
}

static bool hmac_case(const struct crypto_provider *provider, json_t *group, json_t *test)
{
    struct bytes key = hex_of(test, "key");
    struct bytes msg = hex_of(test, "msg");
    struct bytes tag = hex_of(test, "tag");
    uint8_t out[32];
    struct span parts[2] = {span_of(msg.ptr, msg.len / 2),
                            span_of(msg.ptr + msg.len / 2, msg.len - msg.len / 2)};
    crypto_hmac_by(provider, span_b(key), parts, 2, out);
    assert_int_equal(tag.len * 8, number(group, "tagSize"));
    check((memcmp(out, tag.ptr, tag.len) == 0) == result_is(test, "valid"), provider, test);
    free(key.ptr);
    free(msg.ptr);
    free(tag.ptr);
    return true;
}

static void test_hmac(void **state)
{
    (void)state;
    assert_int_equal(run("hmac_sha256_test.json", hmac_case), 174);
}

/* PBKDF2 is no part of the product; RFC 8018 5.2 is written here, to drive its HMAC many times in a row. */
static bool pbkdf2_case(const struct crypto_provider *provider, json_t *group, json_t *test)
{
    (void)group;
    int64_t iterations = number(test, "iterationCount");
    size_t len = (size_t)number(test, "dkLen");
    if (iterations > 5000) {
        return false; /* minutes under sanitizers, and nothing new */
    }
    struct bytes password = hex_of(test, "password");
    struct bytes salt = hex_of(test, "salt");
    struct bytes dk = hex_of(test, "dk");
    for (uint32_t block = 1; (block - 1) * 32 < len; block++) {
        uint8_t number_be[4];
        uint8_t u[32];
        uint8_t sum[32];
        put_be32(number_be, block);
        struct span first[2] = {span_b(salt), span_of(number_be, 4)};
        crypto_hmac_by(provider, span_b(password), first, 2, u);
        memcpy(sum, u, 32);
        for (int64_t i = 1; i < iterations; i++) {
            struct span again = span_of(u, 32);
            crypto_hmac_by(provider, span_b(password), &again, 1, u);
            for (size_t j = 0; j < 32; j++) {
                sum[j] ^= u[j];
            }
        }
        size_t at = (block - 1) * 32;
        check(memcmp(sum, dk.ptr + at, len - at < 32 ? len - at : 32) == 0, provider, test);
    }
    free(password.ptr);
    free(salt.ptr);
    free(dk.ptr);
    return true;
}

static void test_pbkdf2(void **state)
{
    (void)state;
    assert_true(run("pbkdf2_hmacsha256_test.json", pbkdf2_case) >= 50);
}

static bool x25519_case(const struct crypto_provider *provider, json_t *group, json_t *test)
{
    (void)group;
    struct bytes public = hex_of(test, "public");
    struct bytes private = hex_of(test, "private");
    struct bytes shared = hex_of(test, "shared");
    uint8_t out[32] = {0};
    assert_int_equal(public.len, 32);
    enum err err = provider->x25519(private.ptr, public.ptr, out);
    bool same = err == E_OK && memcmp(out, shared.ptr, 32) == 0;
    if (has_flag(test, "ZeroSharedSecret")) {
        check(err == E_AUTH, provider, test);
    } else {
        check(same || (err == E_AUTH && result_is(test, "acceptable")), provider, test);
    }
    if (crypto_provider_libcrypto()) { /* what one accepts, the other accepts */
        uint8_t other[32];
        check(crypto_provider_libcrypto()->x25519(private.ptr, public.ptr, other) == err, provider,
              test);
    }
    free(public.ptr);
    free(private.ptr);
    free(shared.ptr);
    return true;
}

static void test_x25519(void **state)
{
    (void)state;
    assert_int_equal(run("x25519_test.json", x25519_case), 518);
}

/* The private value as 32 bytes; Wycheproof writes it as a signed or a short number. */
static bool scalar_of(json_t *test, uint8_t out[32])
{
    struct bytes b = hex_of(test, "private");
    size_t skip = b.len == 33 && b.ptr[0] == 0 ? 1 : 0;
    bool fits = b.len - skip <= 32;
    if (fits) {
        memset(out, 0, 32);
        memcpy(out + 32 - (b.len - skip), b.ptr + skip, b.len - skip);
    }
    free(b.ptr);
    return fits;
}

static bool ecdh_check(const struct crypto_provider *provider, json_t *test, const uint8_t *point)
{
    uint8_t secret[32];
    uint8_t out[32];
    assert_true(scalar_of(test, secret));
    struct bytes shared = hex_of(test, "shared");
    enum err err = point ? provider->p256_ecdh(secret, point, out) : E_INVALID;
    bool same = !err && shared.len == 32 && memcmp(out, shared.ptr, 32) == 0;
    bool refused = err == E_AUTH || err == E_INVALID;
    check(result_is(test, "valid")     ? same
          : result_is(test, "invalid") ? refused
                                       : same || refused,
          provider, test);
    free(shared.ptr);
    return true;
}

static bool ecdh_spki_case(const struct crypto_provider *provider, json_t *group, json_t *test)
{
    (void)group;
    struct bytes public = hex_of(test, "public");
    uint8_t point[65];
    bool ok = crypto_certificate_point(span_b(public), point) == E_OK;
    free(public.ptr);
    return ecdh_check(provider, test, ok ? point : NULL);
}

static bool ecdh_point_case(const struct crypto_provider *provider, json_t *group, json_t *test)
{
    (void)group;
    struct bytes public = hex_of(test, "public");
    bool ran = ecdh_check(provider, test, public.len == 65 ? public.ptr : NULL);
    free(public.ptr);
    return ran;
}

static void test_ecdh(void **state)
{
    (void)state;
    assert_int_equal(run("ecdh_secp256r1_test.json", ecdh_spki_case), 612);
    assert_int_equal(run("ecdh_secp256r1_ecpoint_test.json", ecdh_point_case), 355);
}

static void ecdsa_check(const struct crypto_provider *provider, json_t *group, json_t *test,
                        const uint8_t *sig)
{
    struct bytes point = hex_of(json_object_get(group, "publicKey"), "uncompressed");
    struct bytes msg = hex_of(test, "msg");
    struct span part = span_b(msg);
    uint8_t digest[32];
    provider->sha256(&part, 1, digest);
    assert_int_equal(point.len, 65);
    bool good = sig && provider->p256_verify(point.ptr, digest, sig) == E_OK;
    check(good == result_is(test, "valid"), provider, test);
    free(point.ptr);
    free(msg.ptr);
}

static bool p1363_case(const struct crypto_provider *provider, json_t *group, json_t *test)
{
    struct bytes sig = hex_of(test, "sig");
    ecdsa_check(provider, group, test, sig.len == 64 ? sig.ptr : NULL);
    free(sig.ptr);
    return true;
}

static bool der_case(const struct crypto_provider *provider, json_t *group, json_t *test)
{
    struct bytes der = hex_of(test, "sig");
    uint8_t sig[64];
    uint8_t again[CRYPTO_SIGNATURE_DER_MAX];
    bool ok = crypto_signature_from_der(span_b(der), sig) == E_OK;
    if (ok) { /* one value, one encoding */
        check(crypto_signature_to_der(sig, again) == der.len &&
                  memcmp(again, der.ptr, der.len) == 0,
              provider, test);
    }
    ecdsa_check(provider, group, test, ok ? sig : NULL);
    free(der.ptr);
    return true;
}

static void test_ecdsa(void **state)
{
    (void)state;
    assert_int_equal(run("ecdsa_secp256r1_sha256_p1363_test.json", p1363_case), 262);
    assert_int_equal(run("ecdsa_secp256r1_sha256_test.json", der_case), 484);
}

static int setup(void **state)
{
    (void)state;
    return crypto_init(NULL) == E_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gcm),  cmocka_unit_test(test_chacha), cmocka_unit_test(test_hkdf),
        cmocka_unit_test(test_hmac), cmocka_unit_test(test_pbkdf2), cmocka_unit_test(test_x25519),
        cmocka_unit_test(test_ecdh), cmocka_unit_test(test_ecdsa),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
