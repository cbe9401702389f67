#include "config.h"
#include "store/pack.h"

#include "store/kernel.h"

#include <stdbool.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#define LANES  32
#define GROUP  8 /* lanes that one vector holds */
#define SPARE  8 /* readable bytes behind the last code */
#define INLINE static inline __attribute__((always_inline))

typedef uint32_t group __attribute__((vector_size(GROUP * sizeof(uint32_t))));

size_t store_pack_size(size_t count, unsigned bits)
{
    return (count * bits + 7) / 8 + SPARE; /* a block has no bit to spare */
}

/* --- codes behind the last whole block ------------------------------------------------------ */

static uint64_t get_le64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static void pack_rest(const uint32_t *codes, size_t count, unsigned bits, uint8_t *to)
{
    uint64_t acc = 0;
    unsigned filled = 0;
    for (size_t i = 0; i < count; i++) {
        acc |= (uint64_t)codes[i] << filled;
        filled += bits;
        while (filled >= 8) {
            *to++ = (uint8_t)acc;
            acc >>= 8;
            filled -= 8;
        }
    }
    if (filled) {
        *to = (uint8_t)acc;
    }
}

static void unpack_rest(const uint8_t *from, size_t count, unsigned bits, uint32_t add,
                        uint32_t *to)
{
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    for (size_t i = 0; i < count; i++) {
        size_t at = i * bits;
        to[i] = add + (uint32_t)(get_le64(from + at / 8) >> at % 8 & mask);
    }
}

/* --- blocks ---------------------------------------------------------------------------------
 * BITS is a constant wherever these are inlined, so that shifts and places are, too. */

static void pack_block(const uint32_t *codes, unsigned bits, uint8_t *to)
{
    uint32_t words[STORE_PACK_BITS * LANES] = {0};
    for (unsigned row = 0; row < STORE_PACK_BLOCK / LANES; row++) {
        unsigned shift = row * bits % 32;
        uint32_t *low = words + row * bits / 32 * LANES;
        for (unsigned lane = 0; lane < LANES; lane++) {
            low[lane] |= codes[row * LANES + lane] << shift;
        }
        for (unsigned lane = 0; shift + bits > 32 && lane < LANES; lane++) {
            low[LANES + lane] = codes[row * LANES + lane] >> (32 - shift);
        }
    }
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (size_t i = 0; i < bits * LANES; i++) {
        words[i] = __builtin_bswap32(words[i]);
    }
#endif
    memcpy(to, words, bits * LANES * sizeof *words);
}

INLINE void load(const uint8_t *from, group *to)
{
    memcpy(to, from, sizeof *to);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (unsigned i = 0; i < GROUP; i++) {
        (*to)[i] = __builtin_bswap32((*to)[i]);
    }
#endif
}

/* Eight codes of ROW, from the lanes at LANE. */
INLINE void take(const uint8_t *from, unsigned bits, unsigned row, unsigned lane, group *to)
{
    const unsigned word = row * bits / 32, shift = row * bits % 32;
    group codes;
    load(from + (word * LANES + lane) * 4, &codes);
    codes >>= shift;
    if (shift + bits > 32) {
        group high;
        load(from + ((word + 1) * LANES + lane) * 4, &high);
        codes |= high << (32 - shift);
    }
    *to = shift + bits == 32 ? codes : codes & (uint32_t)(((uint64_t)1 << bits) - 1);
}

#define ROWS_4(at)  ROW((at)) ROW((at) + 1) ROW((at) + 2) ROW((at) + 3)
#define ROWS_16(at) ROWS_4((at)) ROWS_4((at) + 4) ROWS_4((at) + 8) ROWS_4((at) + 12)
#define ALL_ROWS    ROWS_16(0) ROWS_16(16)

INLINE void unpack_blocks(const uint8_t *restrict from, size_t blocks, unsigned bits, uint32_t add,
                          uint32_t *restrict to)
{
    for (; blocks; blocks--, from += bits * LANES * 4, to += STORE_PACK_BLOCK) {
        for (unsigned lane = 0; lane < LANES; lane += GROUP) {
            group codes;
#define ROW(row)                                                                                   \
    take(from, bits, row, lane, &codes);                                                           \
    codes += add;                                                                                  \
    memcpy(to + (row)*LANES + lane, &codes, sizeof codes);
            ALL_ROWS
#undef ROW
        }
    }
}

/* Runs CASE(n) for n = bits; nothing for no bits. */
#define FOUR(n) CASE(n) CASE(n + 1) CASE(n + 2) CASE(n + 3)
#define EACH_WIDTH                                                                                 \
    FOUR(1)                                                                                        \
    FOUR(5) FOUR(9) FOUR(13) FOUR(17) FOUR(21) FOUR(25) FOUR(29)

STORE_KERNEL static void unpack_whole(const uint8_t *from, size_t blocks, unsigned bits,
                                      uint32_t add, uint32_t *to)
{
    switch (bits) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        unpack_blocks(from, blocks, n, add, to);                                                   \
        break;
        EACH_WIDTH
#undef CASE
    default:
        break;
    }
}

void store_pack(const uint32_t *codes, size_t count, unsigned bits, uint8_t *to)
{
    memset(to, 0, store_pack_size(count, bits));
    for (; bits && count >= STORE_PACK_BLOCK; count -= STORE_PACK_BLOCK) {
        pack_block(codes, bits, to);
        codes += STORE_PACK_BLOCK;
        to += bits * LANES * 4;
    }
    pack_rest(codes, bits ? count : 0, bits, to);
}

void store_unpack(const uint8_t *from, size_t count, unsigned bits, uint32_t add, uint32_t *to)
{
    if (!bits) {
        for (size_t i = 0; i < count; i++) {
            to[i] = add;
        }
        return;
    }
    size_t blocks = count / STORE_PACK_BLOCK;
    unpack_whole(from, blocks, bits, add, to);
    unpack_rest(from + blocks * bits * LANES * 4, count % STORE_PACK_BLOCK, bits, add,
                to + blocks * STORE_PACK_BLOCK);
}

/* --- ranges ---------------------------------------------------------------------------------- */

STORE_KERNEL static void codes_range_any(const uint32_t *restrict codes, size_t words,
                                         uint32_t first, uint32_t width, uint64_t *restrict out)
{
    for (size_t w = 0; w < words; w++) {
        uint8_t flags[64];
        for (unsigned i = 0; i < 64; i++) {
            flags[i] = codes[w * 64 + i] - first <= width;
        }
        out[w] = store_gather_bits(flags);
    }
}

#ifdef __x86_64__
#define AVX2 __attribute__((target("avx2")))

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

/* The sign bits of eight comparisons are one instruction, which no plain loop is turned into. */
AVX2 INLINE uint32_t inside(__m256i codes, __m256i first, __m256i width)
{
    __m256i above = _mm256_sub_epi32(codes, first);
    __m256i is = _mm256_cmpeq_epi32(_mm256_min_epu32(above, width), above);
    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(is));
}

AVX2 static void codes_range_avx2(const uint32_t *codes, size_t words, uint32_t first,
                                  uint32_t width, uint64_t *out)
{
    const __m256i low = _mm256_set1_epi32((int32_t)first);
    const __m256i most = _mm256_set1_epi32((int32_t)width);
    for (size_t w = 0; w < words; w++) {
        uint64_t word = 0;
        for (unsigned i = 0; i < 64; i += GROUP) {
            __m256i at = _mm256_loadu_si256((const __m256i *)(const void *)(codes + w * 64 + i));
            word |= (uint64_t)inside(at, low, most) << i;
        }
        out[w] = word;
    }
}

AVX2 INLINE void range_blocks(const uint8_t *restrict from, size_t blocks, unsigned bits,
                              uint32_t first, uint32_t width, uint8_t *restrict out)
{
    const __m256i low = _mm256_set1_epi32((int32_t)first);
    const __m256i most = _mm256_set1_epi32((int32_t)width);
    for (; blocks; blocks--, from += bits * LANES * 4, out += STORE_PACK_BLOCK / 8) {
        for (unsigned lane = 0; lane < LANES; lane += GROUP) {
            group codes;
            __m256i at;
#define ROW(row)                                                                                   \
    take(from, bits, row, lane, &codes);                                                           \
    memcpy(&at, &codes, sizeof at);                                                                \
    out[(row)*LANES / 8 + lane / 8] = (uint8_t)inside(at, low, most);
            ALL_ROWS
#undef ROW
        }
    }
}

AVX2 static void range_whole(const uint8_t *from, size_t blocks, unsigned bits, uint32_t first,
                             uint32_t width, uint8_t *out)
{
    switch (bits) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        range_blocks(from, blocks, n, first, width, out);                                          \
        break;
        EACH_WIDTH
#undef CASE
    default:
        break;
    }
}
#endif

void store_codes_range(const uint32_t *codes, size_t count, uint32_t first, uint32_t width,
                       uint64_t *out)
{
    size_t words = (count + 63) / 64;
#ifdef __x86_64__
    if (has_avx2()) {
        codes_range_avx2(codes, words, first, width, out);
        return;
    }
#endif
    codes_range_any(codes, words, first, width, out);
}

/* Through plain codes, a block at a time. */
static void range_any(const uint8_t *from, size_t count, unsigned bits, uint32_t first,
                      uint32_t width, uint64_t *out)
{
    uint32_t codes[STORE_PACK_BLOCK];
    while (count) {
        size_t some = count < STORE_PACK_BLOCK ? count : STORE_PACK_BLOCK;
        memset(codes + some / 64 * 64, 0, (STORE_PACK_BLOCK - some / 64 * 64) * sizeof *codes);
        store_unpack(from, some, bits, 0, codes);
        store_codes_range(codes, some, first, width, out);
        if (some % 64) {
            out[some / 64] &= ((uint64_t)1 << some % 64) - 1;
        }
        from += bits * LANES * 4;
        out += STORE_PACK_BLOCK / 64;
        count -= some;
    }
}

void store_unpack_range(const uint8_t *from, size_t count, unsigned bits, uint32_t first,
                        uint32_t width, uint64_t *out)
{
    size_t blocks = 0;
#ifdef __x86_64__
    if (bits && has_avx2()) {
        blocks = count / STORE_PACK_BLOCK;
        range_whole(from, blocks, bits, first, width, (uint8_t *)out);
    }
#endif
    range_any(from + blocks * bits * LANES * 4, count - blocks * STORE_PACK_BLOCK, bits, first,
              width, out + blocks * STORE_PACK_BLOCK / 64);
}

STORE_KERNEL static size_t count_bits(const uint64_t *bits, size_t words)
{
    size_t count = 0;
    for (size_t i = 0; i < words; i++) {
        count += (size_t)__builtin_popcountll(bits[i]);
    }
    return count;
}

size_t store_count_bits(const uint64_t *bits, size_t words)
{
    return count_bits(bits, words);
}
