#include "node/privacy/noise.h"

#include <assert.h>
#include <string.h>

#include "crypto/memory.h"
#include "crypto/random.h"

typedef unsigned __int128 wide;

/* A geometric run this long has a probability below e^-65536 (or 1/65536!): the source is broken, not unlucky. */
#define RUN_MAX 65536u

/* --- coins ------------------------------------------------------------------------------------ */

static uint8_t random_byte(struct privacy_random *random)
{
    if (random->err != E_OK) {
        return 0;
    }
    if (random->left == 0) {
        random->err = crypto_random(random->bytes, sizeof random->bytes);
        if (random->err != E_OK) {
            return 0;
        }
        random->left = sizeof random->bytes;
    }
    random->left--;
    uint8_t byte = random->bytes[random->left];
    random->bytes[random->left] = 0;
    return byte;
}

void privacy_random_fini(struct privacy_random *random)
{
    crypto_wipe(random, sizeof *random);
}

static unsigned wide_bits(wide v)
{
    uint64_t high = (uint64_t)(v >> 64);
    uint64_t low = (uint64_t)v;
    if (high != 0) {
        return 128 - (unsigned)__builtin_clzll(high);
    }
    return low != 0 ? 64 - (unsigned)__builtin_clzll(low) : 0;
}

wide privacy_random_below(struct privacy_random *random, wide limit)
{
    assert(limit >= 1);
    unsigned bits = wide_bits(limit - 1);
    wide mask = bits == 128 ? ~(wide)0 : ((wide)1 << bits) - 1;
    while (random->err == E_OK) {
        wide v = 0;
        for (unsigned got = 0; got < bits; got += 8) {
            v = v << 8 | random_byte(random);
        }
        v &= mask;
        if (v < limit && random->err == E_OK) {
            return v;
        }
    }
    return 0;
}

bool privacy_random_bernoulli(struct privacy_random *random, wide numerator, wide denominator)
{
    return privacy_random_below(random, denominator) < numerator;
}

/* True with probability exp(-n/d), n <= d < 2^112: the length of a run of coins n/(d k) is odd. */
static bool bernoulli_exp_unit(struct privacy_random *random, wide n, wide d)
{
    unsigned k = 1;
    while (privacy_random_bernoulli(random, n, d * k) && random->err == E_OK) {
        if (++k >= RUN_MAX) {
            random->err = E_INTERNAL;
        }
    }
    return (k & 1) != 0;
}

/* True with probability exp(-n/d) for any n. */
static bool bernoulli_exp(struct privacy_random *random, wide n, wide d)
{
    while (n > d) {
        if (!bernoulli_exp_unit(random, 1, 1) || random->err != E_OK) {
            return false;
        }
        n -= d;
    }
    return bernoulli_exp_unit(random, n, d);
}

bool privacy_noise_bernoulli_exp_product(struct privacy_random *random, wide x, wide y, wide d,
                                         unsigned bits)
{
    assert(bits <= 126 && bits >= 8);
    if (x < y) {
        wide swap = x;
        x = y;
        y = swap;
    }
    if (y <= 1 || wide_bits(x) + wide_bits(y) <= bits) {
        return bernoulli_exp(random, x * y, d);
    }
    /* y has at least 2 bits, so both halves are shorter; the recursion is at most 7 deep. */
    unsigned w = wide_bits(y) / 2;
    wide high = y >> w;
    for (wide i = 0; i < (wide)1 << w; i++) {
        if (!privacy_noise_bernoulli_exp_product(random, x, high, d, bits) || random->err != E_OK) {
            return false;
        }
    }
    return privacy_noise_bernoulli_exp_product(random, x, y & (((wide)1 << w) - 1), d, bits);
}

/* --- samplers --------------------------------------------------------------------------------- */

/* Algorithm 2: P[x] proportional to exp(-|x| s / t). */
static int64_t laplace(struct privacy_random *random, uint64_t t, uint64_t s)
{
    while (random->err == E_OK) {
        wide u = privacy_random_below(random, t);
        if (!bernoulli_exp_unit(random, u, t)) {
            continue;
        }
        unsigned v = 0;
        while (bernoulli_exp_unit(random, 1, 1) && random->err == E_OK) {
            if (++v >= RUN_MAX) {
                random->err = E_INTERNAL;
            }
        }
        /* t v + u < 2^40 2^16 */
        int64_t y = (int64_t)((u + (wide)t * v) / s);
        bool negative = (random_byte(random) & 1) != 0;
        if (negative && y == 0) {
            continue; /* zero would count twice */
        }
        return negative ? -y : y;
    }
    return 0;
}

static uint64_t integer_root(uint64_t v)
{
    uint64_t lo = 0;
    uint64_t hi = (uint64_t)1 << 32;
    while (hi - lo > 1) {
        uint64_t mid = lo + (hi - lo) / 2;
        if ((wide)mid * mid <= v) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* Algorithm 3 with sigma^2 = a/b and t = floor(sigma) + 1: a candidate Y of Laplace scale t is kept with probability
 * exp(-(|Y| - sigma^2/t)^2 / (2 sigma^2)) = exp(-(|Y| t b - a)^2 / (2 a b t^2)).
 * Widths: a, b <= 2^54, so b t^2 <= 2^56 when a >= b (t <= 2 sigma) and b otherwise; 2 a b t^2 <= 2^111. */
static int64_t gaussian(struct privacy_random *random, uint64_t a, uint64_t b)
{
    uint64_t t = integer_root(a / b) + 1;
    wide d = 2 * (wide)a * ((wide)b * t * t);
    while (random->err == E_OK) {
        int64_t y = laplace(random, t, 1);
        wide m = (wide)(y < 0 ? -y : y) * t * b;
        wide z = m > a ? m - a : a - m;
        if (privacy_noise_bernoulli_exp_product(random, z, z, d, 126) && random->err == E_OK) {
            return y;
        }
    }
    return 0;
}

/* gcd, so that equal distributions have the smallest widths. */
static void reduce(uint64_t *num, uint64_t *den)
{
    uint64_t a = *num;
    uint64_t b = *den;
    while (b != 0) {
        uint64_t r = a % b;
        a = b;
        b = r;
    }
    *num /= a;
    *den /= a;
}

enum err privacy_noise_gaussian(uint64_t sigma2_num, uint64_t sigma2_den, int64_t *to, size_t count)
{
    if (sigma2_num == 0 || sigma2_den == 0 || sigma2_num > PRIVACY_NOISE_MAX ||
        sigma2_den > PRIVACY_NOISE_MAX || count > PRIVACY_NOISE_COUNT_MAX) {
        memset(to, 0, count * sizeof *to);
        return E_LIMIT;
    }
    reduce(&sigma2_num, &sigma2_den);
    struct privacy_random random = {.left = 0};
    for (size_t i = 0; i < count; i++) {
        to[i] = gaussian(&random, sigma2_num, sigma2_den);
    }
    enum err err = random.err;
    privacy_random_fini(&random);
    if (err != E_OK) {
        memset(to, 0, count * sizeof *to);
    }
    return err;
}

enum err privacy_noise_laplace(uint64_t t, uint64_t s, int64_t *to, size_t count)
{
    if (t == 0 || s == 0 || t > PRIVACY_NOISE_LAPLACE_MAX || s > PRIVACY_NOISE_LAPLACE_MAX ||
        count > PRIVACY_NOISE_COUNT_MAX) {
        memset(to, 0, count * sizeof *to);
        return E_LIMIT;
    }
    struct privacy_random random = {.left = 0};
    for (size_t i = 0; i < count; i++) {
        to[i] = laplace(&random, t, s);
    }
    enum err err = random.err;
    privacy_random_fini(&random);
    if (err != E_OK) {
        memset(to, 0, count * sizeof *to);
    }
    return err;
}
