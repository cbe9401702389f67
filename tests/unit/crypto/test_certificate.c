/* Certificates: what we issue verifies, and what has another shape, signer, federation or time does not. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "crypto/certificate.h"
#include "crypto/compat_mbedtls.h"
#include "crypto/identity_pk.h"
#include "tests/unit/crypto/common.h"

#define FROM  INT64_C(1750000000)
#define UNTIL (FROM + 90 * 86400)
#define HEX   "00112233445566778899aabbccddeeff"

static struct crypto_identity *root_key;
static struct crypto_identity *other_root_key;
static struct crypto_identity *tls_key;
static struct buf root_der = {.max = CRYPTO_CERTIFICATE_MAX};
static struct buf other_root_der = {.max = CRYPTO_CERTIFICATE_MAX};
static struct buf csr = {.max = CRYPTO_CERTIFICATE_MAX};
static uint8_t node_id[16];

static void must(enum err err, const struct err_info *info)
{
    if (err) {
        fail_msg("%s: %s", proto_err_name(err), info->text);
    }
}

static struct buf issue(const char *org)
{
    struct buf leaf = {.max = CRYPTO_CERTIFICATE_MAX};
    struct err_info info = {0};
    must(crypto_certificate_issue(root_key, buf_span(&root_der), buf_span(&csr), "alpine", org,
                                  node_id, FROM, UNTIL, &leaf, &info),
         &info);
    return leaf;
}

static void test_issue_and_verify(void **state)
{
    (void)state;
    struct buf leaf = issue("clinic-a");
    struct crypto_certificate_info info;
    struct err_info why = {0};
    uint8_t point[65];
    char federation[33];
    must(crypto_certificate_verify(buf_span(&leaf), buf_span(&root_der), FROM + 5, &info, &why),
         &why);
    assert_memory_equal(info.node_id, node_id, 16);
    assert_string_equal(info.federation, "alpine");
    assert_string_equal(info.org, "clinic-a");
    assert_memory_equal(info.point, crypto_identity_point(tls_key), 65);
    assert_int_equal(info.serial_len, 16);
    assert_int_equal(info.not_before, FROM);
    assert_int_equal(info.not_after, UNTIL);
    uint8_t spki[CRYPTO_SPKI_SIZE];
    uint8_t hash[32];
    crypto_identity_spki(info.point, spki);
    crypto_sha256_one(span_of(spki, sizeof spki), hash);
    assert_memory_equal(info.spki_hash, hash, 32);
    assert_int_equal(crypto_certificate_point(buf_span(&leaf), point), E_OK);
    assert_memory_equal(point, info.point, 65);
    must(crypto_certificate_root_parse(buf_span(&root_der), federation, point, &why), &why);
    assert_string_equal(federation, "alpine");
    assert_memory_equal(point, crypto_identity_point(root_key), 65);
    struct buf again = issue("clinic-a");
    assert_false(span_equal(buf_span(&leaf), buf_span(&again))); /* another serial number */
    buf_fini(&again);
    buf_fini(&leaf);
}

static void test_time(void **state)
{
    (void)state;
    struct buf leaf = issue("clinic-a");
    struct crypto_certificate_info info;
    struct span der = buf_span(&leaf);
    struct span root = buf_span(&root_der);
    assert_int_equal(crypto_certificate_verify(der, root, FROM, &info, NULL), E_OK);
    assert_int_equal(crypto_certificate_verify(der, root, UNTIL, &info, NULL), E_OK);
    assert_int_equal(crypto_certificate_verify(der, root, FROM - 1, &info, NULL), E_AUTH);
    assert_int_equal(crypto_certificate_verify(der, root, UNTIL + 1, &info, NULL), E_AUTH);
    buf_fini(&leaf);
    struct buf none = {.max = CRYPTO_CERTIFICATE_MAX};
    assert_int_equal(crypto_certificate_root(root_key, "alpine", UNTIL, FROM, &none, NULL),
                     E_INVALID);
    assert_int_equal(
        crypto_certificate_root(root_key, "alpine", FROM, INT64_C(4102444801), &none, NULL),
        E_INVALID);
    assert_int_equal(none.len, 0);
    /* A leaf outlives its root: then the root's end counts. */
    struct buf short_root = {.max = CRYPTO_CERTIFICATE_MAX};
    struct buf long_leaf = {.max = CRYPTO_CERTIFICATE_MAX};
    assert_int_equal(
        crypto_certificate_root(root_key, "alpine", FROM, FROM + 10, &short_root, NULL), E_OK);
    assert_int_equal(crypto_certificate_issue(root_key, buf_span(&short_root), buf_span(&csr),
                                              "alpine", "o", node_id, FROM, UNTIL, &long_leaf,
                                              NULL),
                     E_OK);
    assert_int_equal(crypto_certificate_verify(buf_span(&long_leaf), buf_span(&short_root),
                                               FROM + 9, &info, NULL),
                     E_OK);
    assert_int_equal(crypto_certificate_verify(buf_span(&long_leaf), buf_span(&short_root),
                                               FROM + 11, &info, NULL),
                     E_AUTH);
    buf_fini(&short_root);
    buf_fini(&long_leaf);
}

static void test_wrong_authority(void **state)
{
    (void)state;
    struct buf leaf = issue("clinic-a");
    struct crypto_certificate_info info;
    struct buf stranger = {.max = CRYPTO_CERTIFICATE_MAX};
    assert_int_equal(crypto_certificate_verify(buf_span(&leaf), buf_span(&other_root_der), FROM + 1,
                                               &info, NULL),
                     E_AUTH);
    /* The same key under another federation's name. */
    assert_int_equal(crypto_certificate_root(root_key, "boreal", FROM, UNTIL, &stranger, NULL),
                     E_OK);
    assert_int_equal(
        crypto_certificate_verify(buf_span(&leaf), buf_span(&stranger), FROM + 1, &info, NULL),
        E_AUTH);
    /* A leaf is no root. */
    assert_int_equal(
        crypto_certificate_verify(buf_span(&leaf), buf_span(&leaf), FROM + 1, &info, NULL),
        E_INVALID);
    /* Issuing with a key that is not the root's, or for a federation that is not the root's. */
    struct buf out = {.max = CRYPTO_CERTIFICATE_MAX};
    assert_int_equal(crypto_certificate_issue(other_root_key, buf_span(&root_der), buf_span(&csr),
                                              "alpine", "o", node_id, FROM, UNTIL, &out, NULL),
                     E_AUTH);
    assert_int_equal(crypto_certificate_issue(root_key, buf_span(&root_der), buf_span(&csr),
                                              "boreal", "o", node_id, FROM, UNTIL, &out, NULL),
                     E_INVALID);
    assert_int_equal(out.len, 0);
    buf_fini(&stranger);
    buf_fini(&leaf);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    "a b", "a/b", "a@b", "caf\xc3\xa9", "a,CN=victim",
                                      "a\nb"};
    struct buf out = {.max = CRYPTO_CERTIFICATE_MAX};
    char long_name[66];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(crypto_certificate_root(root_key, bad[i], FROM, UNTIL, &out, NULL),
                         E_INVALID);
        assert_int_equal(crypto_certificate_issue(root_key, buf_span(&root_der), buf_span(&csr),
                                                  "alpine", bad[i], node_id, FROM, UNTIL, &out,
                                                  NULL),
                         E_INVALID);
    }
    memset(long_name, 'x', sizeof long_name);
    long_name[65] = '\0';
    assert_int_equal(crypto_certificate_issue(root_key, buf_span(&root_der), buf_span(&csr),
                                              "alpine", long_name, node_id, FROM, UNTIL, &out,
                                              NULL),
                     E_INVALID);
    long_name[33] = '\0';
    assert_int_equal(crypto_certificate_root(root_key, long_name, FROM, UNTIL, &out, NULL),
                     E_INVALID);
    assert_int_equal(out.len, 0);
    /* The longest that are allowed fit. */
    long_name[33] = 'x';
    long_name[64] = '\0';
    struct buf leaf = issue(long_name);
    struct crypto_certificate_info info;
    assert_int_equal(crypto_certificate_parse(buf_span(&leaf), &info, NULL), E_OK);
    assert_string_equal(info.org, long_name);
    buf_fini(&leaf);
}

static void test_request(void **state)
{
    (void)state;
    struct buf out = {.max = CRYPTO_CERTIFICATE_MAX};
    uint8_t *bytes = csr.ptr;
    for (size_t i = 0; i < csr.len;
         i++) { /* proof of possession: no bit of the request can be changed */
        bytes[i] ^= 1;
        enum err err = crypto_certificate_issue(root_key, buf_span(&root_der), buf_span(&csr),
                                                "alpine", "o", node_id, FROM, UNTIL, &out, NULL);
        if (err != E_AUTH && err != E_INVALID) {
            fail_msg("byte %zu: %s", i, proto_err_name(err));
        }
        bytes[i] ^= 1;
    }
    assert_int_equal(crypto_certificate_issue(root_key, buf_span(&root_der),
                                              span_of(bytes, csr.len - 1), "alpine", "o", node_id,
                                              FROM, UNTIL, &out, NULL),
                     E_INVALID);
    assert_int_equal(out.len, 0);
}

static void test_damage(void **state)
{
    (void)state;
    struct buf leaf = issue("clinic-a");
    struct crypto_certificate_info info;
    for (size_t i = 0; i < leaf.len; i++) {
        uint8_t bit = (uint8_t)(1u << common_next() % 8);
        leaf.ptr[i] ^= bit;
        assert_int_not_equal(
            crypto_certificate_verify(buf_span(&leaf), buf_span(&root_der), FROM + 1, &info, NULL),
            E_OK);
        leaf.ptr[i] ^= bit;
    }
    assert_int_equal(
        crypto_certificate_verify(buf_span(&leaf), buf_span(&root_der), FROM + 1, &info, NULL),
        E_OK);
    for (size_t cut = 0; cut < leaf.len; cut += 3) {
        assert_int_not_equal(crypto_certificate_parse(span_of(leaf.ptr, cut), &info, NULL), E_OK);
    }
    uint8_t longer[CRYPTO_CERTIFICATE_MAX];
    memcpy(longer, leaf.ptr, leaf.len);
    longer[leaf.len] = 0;
    assert_int_equal(crypto_certificate_parse(span_of(longer, leaf.len + 1), &info, NULL),
                     E_INVALID);
    buf_fini(&leaf);
}

/* --- certificates of other shapes, correctly signed by the root --------------------------------------------------------- */

struct shape {
    const char *names[4]; /* "D:..." or "U:..." or "E:..." (mail) */
    bool is_ca;
    bool no_usage;      /* no extended key usage */
    bool server_only;   /* of extended key usage */
    unsigned key_usage; /* 0: digitalSignature */
};

static size_t names_der(const struct shape *shape, uint8_t *to)
{
    size_t len = 3;
    for (int i = 0; i < 4 && shape->names[i]; i++) {
        const char *name = shape->names[i];
        size_t n = strlen(name + 2);
        to[len++] = name[0] == 'D' ? 0x82 : name[0] == 'U' ? 0x86 : 0x81;
        assert_true(n < 128);
        to[len++] = (uint8_t)n;
        memcpy(to + len, name + 2, n);
        len += n;
    }
    assert_true(len - 3 < 256);
    to[0] = 0x30;
    to[1] = 0x81;
    to[2] = (uint8_t)(len - 3);
    if (len - 3 < 128) { /* DER wants the short form */
        to[1] = to[2];
        memmove(to + 2, to + 3, len - 3);
        len--;
    }
    return len;
}

static enum err parse_shape(const struct shape *shape)
{
    static const unsigned char both[] = {0x30, 0x14, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05,
                                         0x05, 0x07, 0x03, 0x01, 0x06, 0x08, 0x2b, 0x06,
                                         0x01, 0x05, 0x05, 0x07, 0x03, 0x02};
    static const unsigned char server[] = {0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06,
                                           0x01, 0x05, 0x05, 0x07, 0x03, 0x01};
    mbedtls_pk_context issuer;
    mbedtls_pk_context subject;
    mbedtls_x509write_cert crt;
    uint8_t serial[16] = {0x41};
    uint8_t san[400];
    uint8_t der[CRYPTO_CERTIFICATE_MAX];
    mbedtls_pk_init(&issuer);
    mbedtls_pk_init(&subject);
    mbedtls_x509write_crt_init(&crt);
    assert_int_equal(crypto_identity_to_pk(root_key, &issuer), E_OK);
    assert_int_equal(crypto_identity_to_pk(tls_key, &subject), E_OK);
    mbedtls_x509write_crt_set_version(&crt, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&crt, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&crt, &subject);
    mbedtls_x509write_crt_set_issuer_key(&crt, &issuer);
    size_t san_len = names_der(shape, san);
    int ret = compat_crt_set_serial(&crt, serial, sizeof serial);
    ret |= mbedtls_x509write_crt_set_validity(&crt, "20250101000000", "20300101000000");
    ret |= mbedtls_x509write_crt_set_issuer_name(&crt, "CN=Concordat federation root");
    ret |= mbedtls_x509write_crt_set_subject_name(&crt, "CN=x");
    ret |= mbedtls_x509write_crt_set_basic_constraints(&crt, shape->is_ca, -1);
    ret |= mbedtls_x509write_crt_set_key_usage(&crt, shape->key_usage
                                                         ? (unsigned char)shape->key_usage
                                                         : MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
    ret |= mbedtls_x509write_crt_set_extension(&crt, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), 0,
                                               san, san_len);
    if (!shape->no_usage) {
        ret |= mbedtls_x509write_crt_set_extension(
            &crt, MBEDTLS_OID_EXTENDED_KEY_USAGE, MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE),
            0, shape->server_only ? server : both,
            shape->server_only ? sizeof server : sizeof both);
    }
    assert_int_equal(ret, 0);
    int len = mbedtls_x509write_crt_der(&crt, der, sizeof der, compat_rng, NULL);
    assert_true(len > 0);
    struct crypto_certificate_info info;
    enum err err = crypto_certificate_verify(span_of(der + sizeof der - (size_t)len, (size_t)len),
                                             buf_span(&root_der), FROM + 1, &info, NULL);
    mbedtls_x509write_crt_free(&crt);
    mbedtls_pk_free(&subject);
    mbedtls_pk_free(&issuer);
    return err;
}

static void test_shapes(void **state)
{
    (void)state;
    static const char dns[] = "D:" HEX;
    static const char uri[] = "U:concordat://alpine/clinic-a/" HEX;
    const struct shape good = {.names = {dns, uri}};
    const struct shape bad[] = {
        {.names = {dns, uri, "U:concordat://alpine/clinic-b/" HEX}}, /* two URIs */
        {.names = {dns, uri, uri}},
        {.names = {dns, uri, "D:other.example"}},
        {.names = {dns, uri, "E:a@example.org"}},
        {.names = {dns}},
        {.names = {uri}},
        {.names = {"D:00112233445566778899aabbccddeefe", uri}}, /* DNS is another node */
        {.names = {dns, "U:concordat://alpine/clinic-a/00112233445566778899AABBCCDDEEFF"}},
        {.names = {dns, "U:concordat://alpine/clinic-a/" HEX "/"}},
        {.names = {dns, "U:concordat://alpine/clinic-a/x/" HEX}},
        {.names = {dns, "U:concordat://alpine//" HEX}},
        {.names = {dns, "U:concordat:///clinic-a/" HEX}},
        {.names = {dns, "U:concordat://alpine/" HEX}},
        {.names = {dns, "U:https://alpine/clinic-a/" HEX}},
        {.names = {dns, "U:CONCORDAT://alpine/clinic-a/" HEX}},
        {.names = {dns, "U:concordat://al pine/clinic-a/" HEX}},
        {.names = {dns, uri}, .is_ca = true},
        {.names = {dns, uri}, .no_usage = true},
        {.names = {dns, uri}, .server_only = true},
        {.names = {dns, uri},
         .key_usage = MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_DIGITAL_SIGNATURE},
    };
    assert_int_equal(parse_shape(&good), E_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        enum err err = parse_shape(&bad[i]);
        if (err != E_INVALID) {
            fail_msg("shape %zu: %s", i, proto_err_name(err));
        }
    }
    /* The right shape in the wrong federation: the root's word counts. */
    const struct shape foreign = {.names = {dns, "U:concordat://boreal/clinic-a/" HEX}};
    assert_int_equal(parse_shape(&foreign), E_AUTH);
}

static int setup(void **state)
{
    (void)state;
    common_seed();
    if (crypto_init(NULL) != E_OK || !span_from_hex(HEX, node_id, 16)) {
        return -1;
    }
    enum err err = crypto_identity_generate(&root_key);
    err = err ? err : crypto_identity_generate(&other_root_key);
    err = err ? err : crypto_identity_generate(&tls_key);
    err = err ? err : crypto_certificate_root(root_key, "alpine", FROM, UNTIL, &root_der, NULL);
    err =
        err ? err
            : crypto_certificate_root(other_root_key, "alpine", FROM, UNTIL, &other_root_der, NULL);
    err = err ? err : crypto_certificate_request(tls_key, &csr, NULL);
    return err ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_fini(&csr);
    buf_fini(&other_root_der);
    buf_fini(&root_der);
    crypto_identity_free(tls_key);
    crypto_identity_free(other_root_key);
    crypto_identity_free(root_key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_issue_and_verify), cmocka_unit_test(test_time),
        cmocka_unit_test(test_wrong_authority),  cmocka_unit_test(test_names),
        cmocka_unit_test(test_request),          cmocka_unit_test(test_damage),
        cmocka_unit_test(test_shapes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
