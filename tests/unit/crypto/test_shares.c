/* Recovery shares: any k of n give the secret back, k - 1 leave every secret as likely as before, and a mistyped character is
 * found. The arithmetic is checked against tables of logarithms, built here from the generator 3. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "crypto/provider.h"
#include "crypto/shares.h"
#include "tests/unit/crypto/common.h"

#include <ctype.h>

static const uint8_t set[4] = {1, 2, 3, 4};

static struct crypto_key secret_of(uint8_t seed)
{
    struct crypto_key key;
    for (size_t i = 0; i < sizeof key.bytes; i++) {
        key.bytes[i] = (uint8_t)(seed + 37 * i);
    }
    return key;
}

/* Every subset of size K of N gives SECRET; the subsets are the bit masks below 2^N. */
static void all_subsets(unsigned k, unsigned n)
{
    struct crypto_key secret = secret_of((uint8_t)(k * 16 + n));
    char texts[CRYPTO_SHARES_MAX][CRYPTO_SHARE_TEXT];
    assert_int_equal(crypto_shares_split(&secret, set, k, n, texts), E_OK);
    for (unsigned mask = 0; mask < 1U << n; mask++) {
        const char *given[CRYPTO_SHARES_MAX];
        struct crypto_key got = {{0}};
        size_t count = 0;
        for (unsigned i = n; i-- > 0;) { /* backwards: order must not matter */
            if (mask >> i & 1) {
                given[count++] = texts[i];
            }
        }
        enum err err = crypto_shares_combine(given, count, &got, NULL);
        if (count < k) {
            assert_int_equal(err, E_USAGE);
        } else {
            assert_int_equal(err, E_OK);
            assert_memory_equal(got.bytes, secret.bytes, 32);
        }
    }
}

static void test_subsets(void **state)
{
    (void)state;
    all_subsets(2, 2);
    all_subsets(2, 3);
    all_subsets(3, 5);
    all_subsets(5, 5);
    all_subsets(4, 7);
}

static void test_largest(void **state)
{
    (void)state;
    struct crypto_key secret = secret_of(9);
    struct crypto_key got;
    char texts[CRYPTO_SHARES_MAX][CRYPTO_SHARE_TEXT];
    const char *given[CRYPTO_SHARES_MAX];
    assert_int_equal(crypto_shares_split(&secret, set, CRYPTO_SHARES_MAX, CRYPTO_SHARES_MAX, texts),
                     E_OK);
    for (size_t i = 0; i < CRYPTO_SHARES_MAX; i++) {
        given[i] = texts[i];
    }
    assert_int_equal(crypto_shares_combine(given, CRYPTO_SHARES_MAX, &got, NULL), E_OK);
    assert_memory_equal(got.bytes, secret.bytes, 32);
    assert_int_equal(crypto_shares_split(&secret, set, 1, 3, texts), E_USAGE);
    assert_int_equal(crypto_shares_split(&secret, set, 4, 3, texts), E_USAGE);
    assert_int_equal(crypto_shares_split(&secret, set, 2, CRYPTO_SHARES_MAX + 1, texts), E_USAGE);
}

/* The bytes of a share, by a reader of its own. */
static void raw(const char *text, uint8_t ret[43])
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    unsigned long bits = 0;
    unsigned have = 0;
    size_t at = 0;
    for (const char *p = text + 4; *p && at < 43; p++) {
        const char *digit = strchr(digits, *p);
        if (*p == '-') {
            continue;
        }
        assert_non_null(digit);
        bits = bits << 5 | (unsigned long)(digit - digits);
        have += 5;
        if (have >= 8) {
            have -= 8;
            ret[at++] = (uint8_t)(bits >> have);
            bits &= (1UL << have) - 1;
        }
    }
    assert_int_equal(at, 43);
}

static uint8_t power[255];
static uint8_t logarithm[256];

static void make_tables(void)
{
    unsigned x = 1;
    for (unsigned i = 0; i < 255; i++) {
        power[i] = (uint8_t)x;
        logarithm[x] = (uint8_t)i;
        x ^= x << 1;
        x ^= x & 0x100 ? 0x11b : 0;
    }
    assert_int_equal(x, 1);
}

static uint8_t times(uint8_t a, uint8_t b)
{
    return a && b ? power[(logarithm[a] + logarithm[b]) % 255] : 0;
}

/* With two shares of a line, the value at 0 is (x2 y1 + x1 y2) / (x1 + x2). */
static void test_by_tables(void **state)
{
    (void)state;
    make_tables();
    assert_int_equal(times(0x57, 0x83), 0xc1); /* FIPS 197, 4.2 */
    for (unsigned round = 0; round < 50; round++) {
        struct crypto_key secret = secret_of((uint8_t)(round * 5));
        char texts[9][CRYPTO_SHARE_TEXT];
        uint8_t a[43];
        uint8_t b[43];
        assert_int_equal(crypto_shares_split(&secret, set, 2, 9, texts), E_OK);
        raw(texts[round % 8], a);
        raw(texts[8], b);
        assert_int_equal(a[5], 2);
        assert_memory_equal(a + 1, set, 4);
        uint8_t below = (uint8_t)(255 - logarithm[a[6] ^ b[6]]);
        for (size_t i = 0; i < 32; i++) {
            uint8_t above = times(b[6], a[7 + i]) ^ times(a[6], b[7 + i]);
            assert_int_equal(times(above, power[below % 255]), secret.bytes[i]);
        }
    }
}

/* One share of two, with its x and its bytes, goes with every possible secret: the other share's coefficient is uniform. Here:
 * the same byte of a share takes many values over many splits of one secret. */
static void test_share_is_random(void **state)
{
    (void)state;
    struct crypto_key secret = secret_of(1);
    bool seen[256] = {false};
    size_t different = 0;
    for (int i = 0; i < 600; i++) {
        char texts[2][CRYPTO_SHARE_TEXT];
        uint8_t share[43];
        assert_int_equal(crypto_shares_split(&secret, set, 2, 2, texts), E_OK);
        raw(texts[0], share);
        different += !seen[share[7]];
        seen[share[7]] = true;
    }
    /* 600 uniform draws miss 24 of 256 values on average; fewer than 200 seen has a chance below 2^-60. */
    assert_true(different > 200);
}

static void test_typing(void **state)
{
    (void)state;
    struct crypto_key secret = secret_of(77);
    struct crypto_key got;
    struct err_info info = {0};
    char texts[3][CRYPTO_SHARE_TEXT];
    char other[2][CRYPTO_SHARE_TEXT];
    static const uint8_t second[4] = {9, 9, 9, 9};
    assert_int_equal(crypto_shares_split(&secret, set, 2, 3, texts), E_OK);
    assert_int_equal(crypto_shares_split(&secret, second, 2, 2, other), E_OK);
    const char *mixed[] = {texts[0], other[1]};
    assert_int_equal(crypto_shares_combine(mixed, 2, &got, &info), E_INVALID);
    assert_non_null(strstr(info.text, "share 2"));
    const char *twice[] = {texts[0], texts[0]};
    assert_int_equal(crypto_shares_combine(twice, 2, &got, NULL), E_USAGE);
    /* Any one character replaced by any other digit. */
    size_t len = strlen(texts[0]);
    for (size_t i = 4; i < len; i++) {
        char typed[CRYPTO_SHARE_TEXT];
        memcpy(typed, texts[0], sizeof typed);
        if (typed[i] == '-') {
            continue;
        }
        typed[i] = typed[i] == '7' ? '8' : '7';
        assert_int_equal(crypto_share_check(span_str(typed)), E_INVALID);
        typed[i] = 'u';
        assert_int_equal(crypto_share_check(span_str(typed)), E_INVALID);
    }
    assert_int_equal(crypto_share_check(span_of(texts[0], len - 1)), E_INVALID);
    assert_int_equal(crypto_share_check(span_of("", 0)), E_INVALID);
    /* As people type: capitals, blanks in place of dashes, o for 0 and l for 1. */
    char typed[2 * CRYPTO_SHARE_TEXT];
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        char c = texts[1][i];
        c = c == '-' ? ' ' : (char)toupper((unsigned char)c);
        typed[at++] = i < 5 ? c : c == '0' ? 'O' : c == '1' ? 'l' : c;
    }
    typed[at++] = '\n';
    typed[at] = '\0';
    const char *given[] = {texts[2], typed};
    assert_int_equal(crypto_shares_combine(given, 2, &got, &info), E_OK);
    assert_memory_equal(got.bytes, secret.bytes, 32);
}

static int setup(void **state)
{
    (void)state;
    common_seed();
    return crypto_init(NULL) == E_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subsets),   cmocka_unit_test(test_largest),
        cmocka_unit_test(test_by_tables), cmocka_unit_test(test_share_is_random),
        cmocka_unit_test(test_typing),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
