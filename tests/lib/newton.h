/* Logistic regression on pooled rows by Newton's method (iteratively reweighted least squares), without privacy: the
 * reference that federated training is judged by. For tests only.
 * Shapes: x is rows x features, row-major; weights are features + 1 with the intercept last.
 * Threads: free of state. Limits: NEWTON_MAX features. */
#ifndef CONCORDAT_TESTS_LIB_NEWTON_H
#define CONCORDAT_TESTS_LIB_NEWTON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NEWTON_MAX 31

/* Starts from zero; a ridge of 1e-9 a row keeps it defined. False when it does not converge in 50 iterations. */
bool newton_fit(const float *x, const uint8_t *y, size_t rows, size_t features, double *weights);
/* Mean of -ln p(y). */
double newton_loss(const float *x, const uint8_t *y, size_t rows, size_t features,
                   const double *weights);
/* Exact area under the ROC curve by sorting, ties counted half; -1 when a class is empty or without memory. */
double newton_auc(const float *x, const uint8_t *y, size_t rows, size_t features,
                  const double *weights);

#endif
