#include "config.h"
#include "node/model/kernels.h"

#include <stdbool.h>

extern const struct model_kernels model_kernels_plain;
#if defined(HAVE_X86_KERNELS) && !defined(MODEL_DOUBLE)
extern const struct model_kernels model_kernels_v3, model_kernels_v4;

static const struct model_kernels *known(size_t index)
{
    static const struct model_kernels *const all[] = {&model_kernels_plain, &model_kernels_v3,
                                                      &model_kernels_v4};
    /* The levels of the x86-64 psABI, as far as the kernels use them. */
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi2");
    bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl");
    return index < 1u + v3 + v4 ? all[index] : NULL;
}
#else
static const struct model_kernels *known(size_t index)
{
    return index == 0 ? &model_kernels_plain : NULL;
}
#endif

const struct model_kernels *model_kernels_at(size_t index)
{
    return known(index);
}

const struct model_kernels *model_kernels(void)
{
    const struct model_kernels *best = known(0);
    for (size_t i = 1; known(i); i++) {
        best = known(i);
    }
    return best;
}
