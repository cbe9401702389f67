#include "config.h"
#include "node/model/quantise.h"

#include <stdlib.h>
#include <string.h>

#include "node/model/encoder_internal.h"

void model_quantise_rows(const real *w, size_t rows, size_t cols, int8_t *q, float *scale)
{
    for (size_t r = 0; r < rows; r++) {
        double largest = 0;
        for (size_t c = 0; c < cols; c++) {
            largest = fmax(largest, fabs((double)w[r * cols + c]));
        }
        scale[r] = largest > 0 ? (float)(largest / 127) : 1;
        for (size_t c = 0; c < cols; c++) {
            double v = rint((double)w[r * cols + c] / (double)scale[r]);
            q[r * cols + c] = (int8_t)fmin(fmax(v, -127), 127);
        }
    }
}

bool model_quantised(const struct model_encoder *e, size_t tensor)
{
    const struct model_tensor *t = &e->tensors[tensor];
    bool matrix = t->rows > 1 && t->cols > 1;
    return matrix && tensor != EMBEDDING_POSITION && tensor != EMBEDDING_TYPE;
}

enum err model_encoder_quantise(struct model_encoder *e, struct err_info *reterr)
{
    if (model_shape_adapted(&e->shape)) {
        return proto_err_set(reterr, E_USAGE, "model: merge the adapters first");
    }
    for (size_t i = 0; i < e->adapters; i++) {
        const struct model_tensor *t = &e->tensors[i];
        if (!model_quantised(e, i)) {
            continue;
        }
        int8_t *q = proto_alloc(t->rows * t->cols, 1);
        float *scale = proto_alloc(t->rows, sizeof *scale);
        if (q && scale) {
            model_quantise_rows(e->weights + t->at, t->rows, t->cols, q, scale);
            for (size_t j = 0; j < t->rows * t->cols; j++) {
                e->weights[t->at + j] = (real)((float)q[j] * scale[j / t->cols]);
            }
        }
        bool done = q && scale;
        proto_free(q);
        proto_free(scale);
        if (!done) {
            return proto_err_set(reterr, E_NO_MEMORY, "model: no memory for eight-bit weights");
        }
    }
    return E_OK;
}

static int by_size(const void *left, const void *right)
{
    real a = *(const real *)left, b = *(const real *)right;
    return a < b ? -1 : a > b;
}

/* The smallest COUNT of the numbers become 0; of equal ones those that stand first. */
static enum err prune_matrix(real *w, size_t n, size_t count)
{
    real *sizes = proto_alloc(n, sizeof *sizes);
    if (!sizes) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        sizes[i] = w[i] < 0 ? -w[i] : w[i];
    }
    qsort(sizes, n, sizeof *sizes, by_size);
    real limit = sizes[count - 1];
    size_t below = 0;
    while (below < count && sizes[below] < limit) {
        below++;
    }
    size_t equal = count - below; /* of those that are as large as the limit */
    for (size_t i = 0; i < n; i++) {
        real size = w[i] < 0 ? -w[i] : w[i];
        if (size < limit || (size <= limit && equal > 0)) {
            equal -= size < limit ? 0 : 1;
            w[i] = 0;
        }
    }
    proto_free(sizes);
    return E_OK;
}

static bool prunable(const struct model_encoder *e, size_t tensor)
{
    return tensor >= EMBEDDING_TENSORS && tensor < e->head && e->tensors[tensor].rows > 1;
}

void model_encoder_sparsity(const struct model_encoder *e, uint64_t *ret_zeros,
                            uint64_t *ret_numbers)
{
    *ret_zeros = *ret_numbers = 0;
    for (size_t i = 0; i < e->tensor_count; i++) {
        size_t n = prunable(e, i) ? e->tensors[i].rows * e->tensors[i].cols : 0;
        for (size_t j = 0; j < n; j++) {
            *ret_zeros += fpclassify(e->weights[e->tensors[i].at + j]) == FP_ZERO;
        }
        *ret_numbers += n;
    }
}

enum err model_encoder_prune(struct model_encoder *e, double share, struct err_info *reterr)
{
    if (!(share >= 0 && share < 1)) {
        return proto_err_set(reterr, E_USAGE, "model: a share to prune lies in 0 to 1, without 1");
    }
    for (size_t i = EMBEDDING_TENSORS; i < e->head; i++) {
        const struct model_tensor *t = &e->tensors[i];
        size_t count = (size_t)floor(share * (double)(t->rows * t->cols));
        if (prunable(e, i) && count > 0 &&
            prune_matrix(e->weights + t->at, t->rows * t->cols, count)) {
            return proto_err_set(reterr, E_NO_MEMORY, "model: no memory to prune");
        }
    }
    return E_OK;
}
