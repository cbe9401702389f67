#include "config.h"
#include "node/model/gemm.h"

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

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

/* oneDNN's dnnl_sgemm: row-major, sizes of 64 bits; 0 is success. */
typedef int dnnl_function(char transpose_a, char transpose_b, int64_t m, int64_t n, int64_t k,
                          float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                          float beta, float *c, int64_t ldc);
/* OpenBLAS' cblas_sgemm with the numbers of CBLAS_LAYOUT and CBLAS_TRANSPOSE. */
enum {
    CBLAS_ROW_MAJOR = 101,
    CBLAS_NO_TRANSPOSE = 111,
    CBLAS_TRANSPOSED = 112
};
typedef void cblas_function(int layout, int transpose_a, int transpose_b, int m, int n, int k,
                            float alpha, const float *a, int lda, const float *b, int ldb,
                            float beta, float *c, int ldc);

static struct {
    dnnl_function *dnnl;
    cblas_function *cblas;
    void (*omp_set_threads)(int);
    void (*blas_set_threads)(int);
    const char *name;
} library = {.name = "plain loops"};

/* A function by name; POSIX has dlsym give what ISO C will not convert. */
static void find_function(void *from, const char *name, void *ret_function)
{
    *(void **)ret_function = from ? dlsym(from, name) : NULL;
}

/* Whether memory that was written may be run: oneDNN writes its code as it goes, which a service under systemd's
 * MemoryDenyWriteExecute= must not do. OpenBLAS' code stands in its file. */
static bool may_make_code(void)
{
    size_t size = 4096;
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return false;
    }
    bool may = mprotect(page, size, PROT_READ | PROT_EXEC) == 0;
    munmap(page, size);
    return may;
}

static void load(void)
{
    /* SONAMEs of Debian 13 and 12. */
    static const char *const names[] = {"libdnnl.so.3", "libdnnl.so.2", "libopenblas.so.0"};
    bool code = may_make_code();
    for (size_t i = 0; i < sizeof names / sizeof *names && !library.dnnl && !library.cblas; i++) {
        if (!code && strstr(names[i], "dnnl")) {
            continue;
        }
        void *handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        find_function(handle, "dnnl_sgemm", &library.dnnl);
        find_function(handle, "cblas_sgemm", &library.cblas);
        find_function(handle, "omp_set_num_threads", &library.omp_set_threads);
        find_function(handle, "openblas_set_num_threads", &library.blas_set_threads);
        if (library.dnnl || library.cblas) {
            library.name = names[i];
        }
    }
    if (library.cblas && library.blas_set_threads) {
        library.blas_set_threads(1);
    }
}

static void need_library(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    /* OpenMP's number is a setting of the calling thread: each worker sets its own. */
    static _Thread_local bool single;
    if (!single) {
        pthread_once(&once, load);
        if (library.dnnl && library.omp_set_threads) {
            library.omp_set_threads(1);
        }
        single = true;
    }
}

const char *model_gemm_name(void)
{
    need_library();
    return library.name;
}

void model_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, real alpha,
                const real *a, size_t lda, const real *b, size_t ldb, real beta, real *c,
                size_t ldc)
{
    need_library();
    if (m == 0 || n == 0) {
        return;
    }
    if (k > 0 && library.dnnl &&
        library.dnnl(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', (int64_t)m, (int64_t)n,
                     (int64_t)k, alpha, a, (int64_t)lda, b, (int64_t)ldb, beta, c,
                     (int64_t)ldc) == 0) {
        return;
    }
    if (k > 0 && library.cblas) {
        library.cblas(CBLAS_ROW_MAJOR, transpose_a ? CBLAS_TRANSPOSED : CBLAS_NO_TRANSPOSE,
                      transpose_b ? CBLAS_TRANSPOSED : CBLAS_NO_TRANSPOSE, (int)m, (int)n, (int)k,
                      alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
        return;
    }
    /* No library, nothing to add up, or oneDNN without memory for its buffers. */
    model_gemm_plain(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
#endif
