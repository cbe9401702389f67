/* The one matrix product of the encoder. Row-major.
 *
 *     model_gemm(false, true, n, out, in, 1, x, in, w, in, 0, y, out);     // y[n][out] = x[n][in] . w[out][in]^T
 *
 * C[m][n] = alpha op(A) op(B) + beta C; op(A) is m x k, op(B) is k x n; lda, ldb, ldc are the lengths of the stored rows.
 * beta 0 overwrites C whatever it holds. m, n or k of 0 is allowed.
 * oneDNN's dnnl_sgemm or OpenBLAS' cblas_sgemm, one thread of theirs: the encoder is parallel over sequences. Both are loaded
 * when the first product is asked for, so that a daemon that trains nothing does not carry them. oneDNN only where a process
 * may make code (not under MemoryDenyWriteExecute=); without either the plain loops serve, slowly. The double build uses the plain loops. Threads: any number, each with its own C. */
#ifndef CONCORDAT_NODE_MODEL_GEMM_H
#define CONCORDAT_NODE_MODEL_GEMM_H

#include <stdbool.h>
#include <stddef.h>

#include "node/model/real.h"

void model_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, real alpha,
                const real *a, size_t lda, const real *b, size_t ldb, real beta, real *c,
                size_t ldc);
#ifndef MODEL_DOUBLE
/* The library in use. */
const char *model_gemm_name(void);
#endif
/* The same by three loops, kept to check the fast one. */
void model_gemm_plain(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, real alpha,
                      const real *a, size_t lda, const real *b, size_t ldb, real beta, real *c,
                      size_t ldc);

#endif
