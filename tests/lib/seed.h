/* The seeded generator of tests, and only of tests: xorshift64*. Prints SEED= and takes it from the environment. */
#ifndef CONCORDAT_TESTS_LIB_SEED_H
#define CONCORDAT_TESTS_LIB_SEED_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct seed {
    uint64_t state;
};

static inline uint64_t seed_next(struct seed *seed)
{
    seed->state ^= seed->state >> 12;
    seed->state ^= seed->state << 25;
    seed->state ^= seed->state >> 27;
    return seed->state * UINT64_C(0x2545F4914F6CDD1D);
}

/* 0 to N - 1. */
static inline uint64_t seed_below(struct seed *seed, uint64_t n)
{
    return (seed_next(seed) >> 11) % n;
}

static inline struct seed seed_of(uint64_t number)
{
    struct seed seed = {(number + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1};
    seed_next(&seed);
    return seed;
}

static inline uint64_t seed_number(uint64_t otherwise)
{
    const char *text = getenv("SEED");
    uint64_t number = text ? strtoull(text, NULL, 0) : otherwise;
    printf("# SEED=%llu\n", (unsigned long long)number);
    return number;
}

#endif
