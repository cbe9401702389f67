/* The number type of the encoder: float in the product; double when MODEL_DOUBLE is defined, which only tests do, to check
 * the same source against known answers and central differences. */
#ifndef CONCORDAT_NODE_MODEL_REAL_H
#define CONCORDAT_NODE_MODEL_REAL_H

#include <math.h>

#ifdef MODEL_DOUBLE
typedef double real;
#define real_exp  exp
#define real_erf  erf
#define real_sqrt sqrt
#define real_tanh tanh
#else
typedef float real;
#define real_exp  expf
#define real_erf  erff
#define real_sqrt sqrtf
#define real_tanh tanhf
#endif

#endif
