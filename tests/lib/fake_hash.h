/* A deterministic stand-in for SHA-256, for tests of pure code that is given its hash. Not cryptographic. */
#ifndef CONCORDAT_TESTS_LIB_FAKE_HASH_H
#define CONCORDAT_TESTS_LIB_FAKE_HASH_H

#include "proto/hash.h"

static inline void fake_hash_sha256(const struct span *parts, size_t count,
                                    uint8_t out[PROTO_HASH_SIZE])
{
    for (uint64_t lane = 0; lane < 4; lane++) {
        uint64_t h = UINT64_C(0xcbf29ce484222325) ^ (lane * UINT64_C(0x9e3779b97f4a7c15));
        for (size_t i = 0; i < count; i++) {
            for (size_t j = 0; j < parts[i].len; j++) {
                h = (h ^ parts[i].ptr[j]) * UINT64_C(0x100000001b3);
                h ^= h >> 29;
            }
        }
        put_be64(out + 8 * lane, h * UINT64_C(0xbf58476d1ce4e5b9));
    }
}

static const struct proto_hash fake_hash = {fake_hash_sha256};

#endif
