/* The number type of the encoder: float in the product; double when MODEL_DOUBLE is defined, which only tests do, to check
 * the same source against known answers and central differences. */
#ifndef CONCORDAT_NODE_MODEL_REAL_H
#define CONCORDAT_NODE_MODEL_REAL_H

#include <float.h>
#include <math.h>

#ifdef MODEL_DOUBLE
typedef double real;
#define real_exp     exp
#define real_erf     erf
#define real_sqrt    sqrt
#define real_tanh    tanh
#define REAL_EPSILON DBL_EPSILON
#else
typedef float real;
#define real_exp     expf
#define real_erf     erff
#define real_sqrt    sqrtf
#define real_tanh    tanhf
#define REAL_EPSILON FLT_EPSILON
#endif

/* e^x for x <= 0, plain enough to become vector code: error below 5e-7 of the value; below -87 the value at -87, 1e-38.
 * Tested in test_encoder.c. */
static inline real real_exp_negative(real x)
{
#ifdef MODEL_DOUBLE
    return exp(x);
#else
    x = x < -87.0f ? -87.0f : x;
    int n = (int)(x * 1.44269504f - 0.5f);
    /* ln 2 in two parts, the first exact in few bits. */
    float r = x - (float)n * 0.693359375f + (float)n * 2.12194440e-4f;
    float p =
        1 + r * (1 + r * (0.5f +
                          r * (1 / 6.0f + r * (1 / 24.0f + r * (1 / 120.0f + r * (1 / 720.0f))))));
    union {
        int bits;
        float value;
    } scale = {.bits = (n + 127) * (1 << 23)};
    return p * scale.value;
#endif
}

#endif
