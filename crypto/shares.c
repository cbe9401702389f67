#include "config.h"
#include "crypto/shares.h"

#include "crypto/provider.h"
#include "crypto/random.h"

#include <string.h>

#define VALUE  7            /* where the 32 bytes stand in a share */
#define SUM    (VALUE + 32) /* where the checksum stands */
#define SIZE   (SUM + 4)
#define DIGITS ((SIZE * 8 + 4) / 5)

static const char alphabet[33] = "0123456789abcdefghjkmnpqrstvwxyz";

/* --- the field ----------------------------------------------------------------------------- */

/* Without tables and branches on the values: both factors may be secret. */
static uint8_t multiply(uint8_t a, uint8_t b)
{
    uint8_t product = 0;
    for (int bit = 0; bit < 8; bit++) {
        product = (uint8_t)(product ^ (a & -(b >> bit & 1)));
        a = (uint8_t)((a << 1) ^ (0x1b & -(a >> 7)));
    }
    return product;
}

/* a^254, which is 1 / a. */
static uint8_t inverse(uint8_t a)
{
    uint8_t ret = 1;
    for (int i = 0; i < 254; i++) {
        ret = multiply(ret, a);
    }
    return ret;
}

/* --- text ---------------------------------------------------------------------------------- */

static void checksum(const uint8_t share[SIZE], uint8_t ret[4])
{
    struct span parts[2] = {span_str("concordat/share/1"), span_of(share, SUM)};
    uint8_t digest[32];
    crypto_sha256(parts, 2, digest);
    memcpy(ret, digest, 4);
    crypto_wipe(digest, sizeof digest);
}

static void print(const uint8_t share[SIZE], char ret[CRYPTO_SHARE_TEXT])
{
    size_t at = 4;
    memcpy(ret, "ccr1", 4);
    for (size_t digit = 0; digit < DIGITS; digit++) {
        unsigned value = 0;
        for (size_t bit = digit * 5; bit < digit * 5 + 5; bit++) {
            unsigned one = bit < (size_t)SIZE * 8 ? share[bit / 8] >> (7 - bit % 8) & 1U : 0;
            value = value << 1 | one;
        }
        if (digit % 5 == 0) {
            ret[at++] = '-';
        }
        ret[at++] = alphabet[value];
    }
    ret[at] = '\0';
}

/* -1: not a digit. The letters that people mistake are read as the digits that they look like. */
static int digit_of(uint8_t c)
{
    c = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
    c = c == 'o' ? '0' : c == 'i' || c == 'l' ? '1' : c;
    const char *found = c ? strchr(alphabet, c) : NULL;
    return found ? (int)(found - alphabet) : -1;
}

static bool is_filler(uint8_t c)
{
    return c == '-' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool has_prefix(struct span *text)
{
    const char *const prefix = "ccr1";
    size_t got = 0;
    while (got < 4 && text->len) {
        uint8_t c = text->ptr[0];
        uint8_t low = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
        text->ptr++;
        text->len--;
        if (is_filler(c)) {
            continue;
        }
        if (low != (uint8_t)prefix[got++]) {
            return false;
        }
    }
    return got == 4;
}

static enum err parse(struct span text, uint8_t ret[SIZE])
{
    uint8_t share[SIZE + 1] = {0}; /* the last digit hangs over by a few bits, which are zero */
    uint8_t sum[4];
    size_t digits = 0;
    bool good = has_prefix(&text);
    for (size_t i = 0; i < text.len && good; i++) {
        int value = is_filler(text.ptr[i]) ? 0 : digit_of(text.ptr[i]);
        if (is_filler(text.ptr[i])) {
            continue;
        }
        good = value >= 0 && digits < DIGITS;
        for (size_t bit = 0; bit < 5 && good; bit++) {
            size_t at = digits * 5 + bit;
            share[at / 8] = (uint8_t)(share[at / 8] | (value >> (4 - bit) & 1) << (7 - at % 8));
        }
        digits++;
    }
    good = good && digits == DIGITS && share[SIZE] == 0;
    if (good) {
        checksum(share, sum);
        good = crypto_equal(sum, share + SUM, 4) && share[0] == 1 && share[5] >= 2 &&
               share[5] <= CRYPTO_SHARES_MAX && share[6] >= 1 && share[6] <= CRYPTO_SHARES_MAX;
    }
    if (good) {
        memcpy(ret, share, SIZE);
    }
    crypto_wipe(share, sizeof share);
    return good ? E_OK : E_INVALID;
}

enum err crypto_share_check(struct span text)
{
    uint8_t share[SIZE];
    enum err err = parse(text, share);
    crypto_wipe(share, sizeof share);
    return err;
}

/* --- splitting and combining --------------------------------------------------------------- */

enum err crypto_shares_split(const struct crypto_key *secret, const uint8_t set[4], unsigned k,
                             unsigned n, char (*ret)[CRYPTO_SHARE_TEXT])
{
    uint8_t coefficients[CRYPTO_SHARES_MAX][32];
    uint8_t share[SIZE] = {1};
    if (k < 2 || n < k || n > CRYPTO_SHARES_MAX) {
        return E_USAGE;
    }
    memcpy(coefficients[0], secret->bytes, 32);
    enum err err = crypto_random(coefficients[1], (size_t)(k - 1) * 32);
    for (unsigned x = 1; x <= n && !err; x++) {
        memcpy(share + 1, set, 4);
        share[5] = (uint8_t)k;
        share[6] = (uint8_t)x;
        for (size_t byte = 0; byte < 32; byte++) {
            uint8_t value = 0;
            for (unsigned power = k; power-- > 0;) {
                value = (uint8_t)(multiply(value, (uint8_t)x) ^ coefficients[power][byte]);
            }
            share[VALUE + byte] = value;
        }
        checksum(share, share + SUM);
        print(share, ret[x - 1]);
    }
    crypto_wipe(coefficients, sizeof coefficients);
    crypto_wipe(share, sizeof share);
    return err;
}

/* Lagrange at 0: the weight of x_i is the product of x_j / (x_j - x_i) over the others, and minus is xor. */
static void interpolate(uint8_t (*shares)[SIZE], size_t k, struct crypto_key *ret)
{
    memset(ret->bytes, 0, sizeof ret->bytes);
    for (size_t i = 0; i < k; i++) {
        uint8_t weight = 1;
        for (size_t j = 0; j < k; j++) {
            if (j != i) {
                weight = multiply(weight, shares[j][6]);
                weight = multiply(weight, inverse((uint8_t)(shares[j][6] ^ shares[i][6])));
            }
        }
        for (size_t byte = 0; byte < 32; byte++) {
            ret->bytes[byte] =
                (uint8_t)(ret->bytes[byte] ^ multiply(weight, shares[i][VALUE + byte]));
        }
    }
}

static enum err collect(const char *const *texts, size_t count, uint8_t (*shares)[SIZE],
                        size_t *ret_distinct, struct err_info *reterr)
{
    size_t distinct = 0;
    for (size_t i = 0; i < count; i++) {
        bool seen = false;
        if (distinct == CRYPTO_SHARES_MAX) {
            break;
        }
        if (parse(span_str(texts[i]), shares[distinct])) {
            return proto_err_set(reterr, E_INVALID, "share %zu of those given is mistyped or cut",
                                 i + 1);
        }
        if (memcmp(shares[distinct], shares[0], 6) != 0) {
            return proto_err_set(reterr, E_INVALID, "share %zu of those given is of another set",
                                 i + 1);
        }
        for (size_t j = 0; j < distinct; j++) {
            seen = seen || shares[j][6] == shares[distinct][6];
        }
        distinct += !seen;
    }
    *ret_distinct = distinct;
    return E_OK;
}

enum err crypto_shares_combine(const char *const *texts, size_t count, struct crypto_key *ret,
                               struct err_info *reterr)
{
    uint8_t shares[CRYPTO_SHARES_MAX][SIZE];
    size_t distinct = 0;
    enum err err = collect(texts, count, shares, &distinct, reterr);
    if (!err && (distinct == 0 || distinct < shares[0][5])) {
        err = proto_err_set(reterr, E_USAGE, "%zu different shares were given, %u are needed",
                            distinct, distinct ? shares[0][5] : 2U);
    }
    if (!err) {
        interpolate(shares, shares[0][5], ret);
    }
    crypto_wipe(shares, sizeof shares);
    return err;
}
