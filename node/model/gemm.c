#include "config.h"
#include "node/model/gemm.h"

#ifndef MODEL_DOUBLE
#if defined(HAVE_ONEDNN)
#include <oneapi/dnnl/dnnl.h>
#ifdef HAVE_OMP_THREADS
/* From omp.h, which clang does not find beside gcc's runtime. */
extern void omp_set_num_threads(int count);
#endif
#else
#include <cblas.h>
#endif
#endif

void model_gemm_plain(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, real alpha,
                      const real *a, size_t lda, const real *b, size_t ldb, real beta, real *c,
                      size_t ldc)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            real sum = 0;
            for (size_t l = 0; l < k; l++) {
                sum += (transpose_a ? a[l * lda + i] : a[i * lda + l]) *
                       (transpose_b ? b[j * ldb + l] : b[l * ldb + j]);
            }
            c[i * ldc + j] = alpha * sum + (beta == 0 ? 0 : beta * c[i * ldc + j]);
        }
    }
}

#ifdef MODEL_DOUBLE
void model_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, real alpha,
                const real *a, size_t lda, const real *b, size_t ldb, real beta, real *c,
                size_t ldc)
{
    model_gemm_plain(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
#else
static void library_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k,
                         real alpha, const real *a, size_t lda, const real *b, size_t ldb,
                         real beta, real *c, size_t ldc)
{
#ifdef HAVE_ONEDNN
#ifdef HAVE_OMP_THREADS
    /* A setting of the calling thread: each worker sets its own. */
    static _Thread_local bool single;
    if (!single) {
        omp_set_num_threads(1);
        single = true;
    }
#endif
    dnnl_status_t status = dnnl_sgemm(
        transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', (dnnl_dim_t)m, (dnnl_dim_t)n,
        (dnnl_dim_t)k, alpha, a, (dnnl_dim_t)lda, b, (dnnl_dim_t)ldb, beta, c, (dnnl_dim_t)ldc);
    if (status != dnnl_success) {
        /* Out of memory for its buffers, at most: the plain loops need none. */
        model_gemm_plain(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    }
#else
    openblas_set_num_threads(1);
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha, a, (int)lda,
                b, (int)ldb, beta, c, (int)ldc);
#endif
}

void model_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, real alpha,
                const real *a, size_t lda, const real *b, size_t ldb, real beta, real *c,
                size_t ldc)
{
    if (m == 0 || n == 0) {
        return;
    }
    if (k == 0) {
        model_gemm_plain(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    library_gemm(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
#endif
