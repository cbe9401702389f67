/* Which loops are compiled twice, for x86-64 with AVX2 and for any, and chosen when the program starts (ifunc). Such a
 * function is static: clang gives the choice another name than a declaration elsewhere would look for. Off under
 * sanitizers, which start before ifuncs can be resolved, and where the compiler or C library does not know the attribute. */
#ifndef CONCORDAT_STORE_KERNEL_H
#define CONCORDAT_STORE_KERNEL_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer) || __has_feature(undefined_behavior_sanitizer)
#define STORE_KERNEL
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STORE_KERNEL
#endif
#if !defined(STORE_KERNEL) && defined(__x86_64__) && defined(__GLIBC__)
#if defined(__clang__) && __clang_major__ >= 14
#define STORE_KERNEL __attribute__((target_clones("arch=x86-64-v3", "default")))
#elif !defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 12
#define STORE_KERNEL __attribute__((target_clones("arch=x86-64-v3", "default"), optimize("O3")))
#endif
#endif
#ifndef STORE_KERNEL
#define STORE_KERNEL
#endif

/* 64 bytes that are 0 or 1 become bits, eight at a time by one multiplication: comparisons into bytes vectorise, into bits they do not. */
static inline uint64_t store_gather_bits(const uint8_t flags[64])
{
    uint64_t word = 0;
    for (unsigned i = 0; i < 8; i++) {
        uint64_t eight;
        memcpy(&eight, flags + i * 8, sizeof eight);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        eight = __builtin_bswap64(eight);
#endif
        word |= (eight * 0x0102040810204080u >> 56) << (i * 8);
    }
    return word;
}

#endif
