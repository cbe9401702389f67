/* Private to kernels.c: sixteen numbers at once, by the compilers' vector types, so that one text serves every instruction set and
 * the order of a sum is the same on all of them. */
#ifndef CONCORDAT_NODE_MODEL_VEC_H
#define CONCORDAT_NODE_MODEL_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "node/model/real.h"

#define VEC    16u
#define INLINE static inline __attribute__((always_inline))

typedef real vec __attribute__((vector_size(VEC * sizeof(real))));
typedef uint32_t vec_u32 __attribute__((vector_size(VEC * sizeof(uint32_t))));
typedef int32_t vec_i32 __attribute__((vector_size(VEC * sizeof(int32_t))));
/* Integers as wide as a number: what comparisons of numbers give. */
#ifdef MODEL_DOUBLE
typedef int64_t vec_mask __attribute__((vector_size(VEC * sizeof(int64_t))));
#else
typedef vec_i32 vec_mask;
#endif

INLINE vec vec_load(const real *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The first N of sixteen, the others 0. */
INLINE vec vec_load_part(const real *p, size_t n)
{
    vec v = {0};
    memcpy(&v, p, n * sizeof *p);
    return v;
}

INLINE void vec_store(real *p, vec v)
{
    memcpy(p, &v, sizeof v);
}

INLINE void vec_store_part(real *p, vec v, size_t n)
{
    memcpy(p, &v, n * sizeof *p);
}

INLINE vec vec_all(real x)
{
    return (vec){0} + x;
}

INLINE vec vec_choose(vec_mask mask, vec yes, vec no)
{
    return (vec)((mask & (vec_mask)yes) | (~mask & (vec_mask)no));
}

/* Pairwise, always in the same order. */
INLINE real vec_sum(vec v)
{
    real a[VEC];
    memcpy(a, &v, sizeof a);
    for (size_t half = VEC / 2; half > 0; half /= 2) {
        for (size_t i = 0; i < half; i++) {
            a[i] += a[i + half];
        }
    }
    return a[0];
}

INLINE real vec_max(vec v)
{
    real a[VEC];
    memcpy(a, &v, sizeof a);
    for (size_t half = VEC / 2; half > 0; half /= 2) {
        for (size_t i = 0; i < half; i++) {
            a[i] = a[i + half] > a[i] ? a[i + half] : a[i];
        }
    }
    return a[0];
}

/* e^x for x <= 0, as real_exp_negative. */
INLINE vec vec_exp_negative(vec x)
{
#ifdef MODEL_DOUBLE
    vec y;
    for (size_t i = 0; i < VEC; i++) {
        y[i] = exp(x[i]);
    }
    return y;
#else
    x = vec_choose(x < -87.0f, vec_all(-87.0f), x);
    vec_i32 n = __builtin_convertvector(x * 1.44269504f - 0.5f, vec_i32);
    vec m = __builtin_convertvector(n, vec);
    /* ln 2 in two parts, the first exact in few bits. */
    vec r = x - m * 0.693359375f + m * 2.12194440e-4f;
    vec p = 1 + r * (1 + r * (0.5f + r * (1 / 6.0f +
                                          r * (1 / 24.0f + r * (1 / 120.0f + r * (1 / 720.0f))))));
    return p * (vec)((n + 127) << 23);
#endif
}

#endif
