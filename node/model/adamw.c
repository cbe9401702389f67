#include "config.h"
#include "node/model/encoder.h"

#include "node/model/kernels.h"
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
    return sqrt(model_kernels()->square(v, count));
}

double model_clip_add(const real *gradient, size_t count, double clip, real *sum)
{
    double norm = model_norm(gradient, count);
    if (!isfinite(norm)) {
        return norm;
    }
    model_kernels()->add_scaled(sum, gradient, norm > clip ? (real)(clip / norm) : 1, count);
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
    struct model_adamw_rows rows = {
        .scale = adamw->clip > 0 && norm > adamw->clip ? (real)(adamw->clip / norm) : 1,
        .beta1 = (real)adamw->beta1,
        .beta2 = (real)adamw->beta2,
        .eps = (real)adamw->eps,
        .rate = (real)(rate / (1 - pow(adamw->beta1, (double)adamw->step))),
        .root_inverse = (real)(1 / sqrt(1 - pow(adamw->beta2, (double)adamw->step)))};
    for (size_t t = 0; t < encoder->tensor_count; t++) {
        const struct model_tensor *tensor = &encoder->tensors[t];
        if (tensor->trained_at == MODEL_FROZEN) {
            continue;
        }
        rows.count = tensor->rows * tensor->cols;
        rows.p = encoder->weights + tensor->at;
        rows.g = gradient + tensor->trained_at;
        rows.m = adamw->m + tensor->trained_at;
        rows.v = adamw->v + tensor->trained_at;
        rows.keep = tensor->decay ? (real)(1 - rate * adamw->decay) : 1;
        model_kernels()->adamw(&rows);
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
