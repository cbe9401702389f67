#include "config.h"
#include "node/model/encoder.h"

#include "proto/alloc.h"

enum err model_adamw_init(struct model_adamw *adamw, const struct model_encoder *encoder)
{
    adamw->step = 0;
    adamw->m = proto_alloc(encoder->trained_count + 1, sizeof(real));
    adamw->v = proto_alloc(encoder->trained_count + 1, sizeof(real));
    if (!adamw->m || !adamw->v) {
        model_adamw_fini(adamw);
        return E_NO_MEMORY;
    }
    return E_OK;
}

void model_adamw_fini(struct model_adamw *adamw)
{
    proto_free(adamw->m);
    proto_free(adamw->v);
    adamw->m = NULL;
    adamw->v = NULL;
}

double model_norm(const real *v, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)v[i] * (double)v[i];
    }
    return sqrt(sum);
}

double model_clip_add(const real *gradient, size_t count, double clip, real *sum)
{
    double norm = model_norm(gradient, count);
    if (!isfinite(norm)) {
        return norm;
    }
    real scale = norm > clip ? (real)(clip / norm) : 1;
    for (size_t i = 0; i < count; i++) {
        sum[i] += scale * gradient[i];
    }
    return norm;
}

double model_adamw_step(struct model_adamw *adamw, struct model_encoder *encoder,
                        const real *gradient, double rate)
{
    double norm = model_norm(gradient, encoder->trained_count);
    if (!isfinite(norm)) {
        return norm;
    }
    adamw->step++;
    real scale = adamw->clip > 0 && norm > adamw->clip ? (real)(adamw->clip / norm) : 1;
    real b1 = (real)adamw->beta1, b2 = (real)adamw->beta2, eps = (real)adamw->eps;
    double root = sqrt(1 - pow(adamw->beta2, (double)adamw->step));
    real rate1 = (real)(rate / (1 - pow(adamw->beta1, (double)adamw->step)));
    real root_inverse = (real)(1 / root);
    for (size_t t = 0; t < encoder->tensor_count; t++) {
        const struct model_tensor *tensor = &encoder->tensors[t];
        if (tensor->trained_at == MODEL_FROZEN) {
            continue;
        }
        real *restrict p = encoder->weights + tensor->at;
        const real *restrict g = gradient + tensor->trained_at;
        real *restrict m = adamw->m + tensor->trained_at, *restrict v =
                                                              adamw->v + tensor->trained_at;
        real keep = tensor->decay ? (real)(1 - rate * adamw->decay) : 1;
        for (size_t i = 0; i < tensor->rows * tensor->cols; i++) {
            real gi = scale * g[i];
            m[i] = b1 * m[i] + (1 - b1) * gi;
            v[i] = b2 * v[i] + (1 - b2) * gi * gi;
            p[i] = keep * p[i] - rate1 * m[i] / (real_sqrt(v[i]) * root_inverse + eps);
        }
    }
    return norm;
}

double model_rate_at(double peak, uint64_t step, uint64_t warm_up, uint64_t total)
{
    if (step < warm_up) {
        return peak * (double)step / (double)warm_up;
    }
    if (step >= total) {
        return 0;
    }
    return peak * (double)(total - step) / (double)(total - warm_up);
}
