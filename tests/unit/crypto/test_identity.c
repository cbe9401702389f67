/* Identities, their files, and signed envelopes. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "crypto/certificate.h"
#include "crypto/envelope.h"
#include "tests/unit/crypto/common.h"

#include <pthread.h>

static struct crypto_key *dek;
static struct common_dir dir;
static const char *const files[] = {"a.key", "a.key.new", NULL};

static void test_file(void **state)
{
    (void)state;
    static uint8_t file[512];
    char path[256];
    struct crypto_identity *identity = NULL;
    struct crypto_identity *again = NULL;
    assert_true(common_dir_make(&dir));
    common_path(&dir, "a.key", path);
    assert_int_equal(crypto_identity_load(path, dek, &again, NULL), E_NOT_FOUND);
    assert_int_equal(crypto_identity_generate(&identity), E_OK);
    assert_int_equal(crypto_identity_save(identity, path, dek, NULL), E_OK);
    assert_int_equal(crypto_identity_save(identity, path, dek, NULL), E_OK); /* replaces */
    assert_int_equal(crypto_identity_load(path, dek, &again, NULL), E_OK);
    assert_memory_equal(crypto_identity_point(identity), crypto_identity_point(again), 65);
    crypto_identity_free(again);
    struct crypto_key *other = crypto_key_new();
    assert_int_equal(crypto_identity_load(path, other, &again, NULL), E_AUTH);
    crypto_key_free(other);
    size_t len = common_read(path, file, sizeof file);
    for (size_t i = 0; i < len; i++) {
        file[i] ^= 1;
        assert_true(common_write(path, file, len));
        enum err err = crypto_identity_load(path, dek, &again, NULL);
        assert_true(err == E_AUTH || err == E_CORRUPT);
        file[i] ^= 1;
    }
    for (size_t cut = 0; cut < len; cut += 7) {
        assert_true(common_write(path, file, cut));
        assert_int_equal(crypto_identity_load(path, dek, &again, NULL), E_CORRUPT);
    }
    crypto_identity_free(identity);
    common_dir_remove(&dir, files);
}

/* RFC 5280 4.1: the id is the hash of the whole SubjectPublicKeyInfo; here of the P-256 base point, by sha256sum. */
static void test_names(void **state)
{
    (void)state;
    uint8_t point[65];
    uint8_t got_point[65];
    uint8_t spki[CRYPTO_SPKI_SIZE];
    uint8_t id[16];
    char fingerprint[65];
    char id_hex[33];
    assert_true(span_from_hex("046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
                              "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
                              point, 65));
    crypto_identity_fingerprint(point, fingerprint);
    crypto_identity_node_id(point, id);
    span_to_hex(span_of(id, 16), id_hex);
    assert_string_equal(fingerprint,
                        "5cd252fb0ce8932436faf8ccd1040981b89ee4ad6b9fe9e2a2b7e71aacb27cd3");
    assert_memory_equal(id_hex, fingerprint, 32);
    crypto_identity_spki(point, spki);
    assert_int_equal(crypto_certificate_point(span_of(spki, sizeof spki), got_point), E_OK);
    assert_memory_equal(got_point, point, 65);
    assert_int_equal(crypto_identity_check_point(point), E_OK);
    point[64] ^= 1;
    assert_int_equal(crypto_identity_check_point(point), E_INVALID);
    crypto_identity_spki(point, spki);
    assert_int_equal(crypto_certificate_point(span_of(spki, sizeof spki), got_point), E_INVALID);
}

static void test_envelope(void **state)
{
    (void)state;
    struct crypto_identity *identity = NULL;
    struct crypto_identity *other = NULL;
    uint8_t fed[16];
    uint8_t bytes[100];
    uint8_t sig[64];
    uint8_t again[64];
    static const char domain[] = "concordat/record/licence/1";
    assert_int_equal(crypto_identity_generate(&identity), E_OK);
    assert_int_equal(crypto_identity_generate(&other), E_OK);
    const uint8_t *point = crypto_identity_point(identity);
    common_fill(fed, sizeof fed);
    for (int i = 0; i < 30; i++) {
        struct span all = span_of(bytes, common_next() % sizeof bytes);
        common_fill(bytes, sizeof bytes);
        assert_int_equal(crypto_envelope_sign(identity, domain, fed, all, sig), E_OK);
        assert_int_equal(crypto_envelope_sign(identity, domain, fed, all, again), E_OK);
        assert_int_equal(crypto_envelope_verify(point, domain, fed, all, sig), E_OK);
        assert_int_equal(crypto_envelope_verify(point, domain, fed, all, again), E_OK);
        assert_int_equal(
            crypto_envelope_verify(crypto_identity_point(other), domain, fed, all, sig), E_AUTH);
        assert_int_equal(crypto_envelope_verify(point, "concordat/record/licence/2", fed, all, sig),
                         E_AUTH);
        assert_int_equal(
            crypto_envelope_verify(point, domain, fed, span_of(bytes, all.len + 1), sig), E_AUTH);
        fed[i % 16] ^= 1;
        assert_int_equal(crypto_envelope_verify(point, domain, fed, all, sig), E_AUTH);
        fed[i % 16] ^= 1;
    }
    char too_long[CRYPTO_ENVELOPE_DOMAIN + 2];
    memset(too_long, 'd', sizeof too_long);
    too_long[CRYPTO_ENVELOPE_DOMAIN + 1] = '\0';
    assert_int_equal(crypto_envelope_sign(identity, too_long, fed, SPAN_NONE, sig), E_INVALID);
    assert_int_equal(crypto_envelope_sign(identity, "", fed, SPAN_NONE, sig), E_INVALID);
    crypto_identity_free(other);
    crypto_identity_free(identity);
}

/* (r, n - s) is a valid signature for the primitive and must be none for a record. */
static void test_high_s_refused(void **state)
{
    (void)state;
    static const uint8_t order[32] = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84,
                                      0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};
    struct crypto_identity *identity = NULL;
    uint8_t fed[16] = {0};
    uint8_t sig[64];
    uint8_t digest[32];
    assert_int_equal(crypto_identity_generate(&identity), E_OK);
    const uint8_t *point = crypto_identity_point(identity);
    for (int i = 0; i < 20; i++) {
        uint8_t byte = (uint8_t)i;
        assert_int_equal(crypto_envelope_sign(identity, "d", fed, span_of(&byte, 1), sig), E_OK);
        assert_int_equal(crypto_envelope_verify(point, "d", fed, span_of(&byte, 1), sig), E_OK);
        int borrow = 0;
        for (int j = 31; j >= 0; j--) {
            int d = order[j] - sig[32 + j] - borrow;
            borrow = d < 0;
            sig[32 + j] = (uint8_t)(d & 0xff);
        }
        struct span parts[3] = {span_of("d", 2), span_of(fed, 16), span_of(&byte, 1)};
        crypto_sha256(parts, 3, digest);
        assert_int_equal(crypto_provider()->p256_verify(point, digest, sig), E_OK);
        assert_int_equal(crypto_envelope_verify(point, "d", fed, span_of(&byte, 1), sig), E_AUTH);
    }
    crypto_identity_free(identity);
}

static void *sign_many(void *arg)
{
    struct crypto_identity *identity = arg;
    uint8_t fed[16] = {7};
    uint8_t sig[64];
    for (uint8_t i = 0; i < 40; i++) {
        if (crypto_envelope_sign(identity, "thread", fed, span_of(&i, 1), sig) != E_OK ||
            crypto_envelope_verify(crypto_identity_point(identity), "thread", fed, span_of(&i, 1),
                                   sig) != E_OK) {
            return arg;
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct crypto_identity *identity = NULL;
    pthread_t threads[4];
    assert_int_equal(crypto_identity_generate(&identity), E_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, sign_many, identity), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *failed = identity;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    crypto_identity_free(identity);
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
        cmocka_unit_test(test_file),     cmocka_unit_test(test_names),
        cmocka_unit_test(test_envelope), cmocka_unit_test(test_high_s_refused),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
