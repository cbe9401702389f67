/* Any bytes as a model's package: refused, or it has a shape, a vocabulary or a base, and an encoder that takes a sentence. */
#include "config.h"

#include <stdlib.h>

#include "node/model/package.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Small enough to be made for every input. */
static bool small(const struct model_shape *s)
{
    return s->vocabulary <= 4096 && s->hidden <= 64 && s->layers <= 4 && s->inner <= 128 &&
           s->positions <= 128;
}

static void try_encoder(const struct model_package *package)
{
    const struct model_package_info *info = model_package_info(package);
    struct model_shape shape = info->shape;
    struct model_encoder *e = NULL;
    shape.task = MODEL_TASK_TOKENS;
    shape.labels = info->labels->count ? info->labels->count : 2;
    shape.training = MODEL_TRAIN_HEAD;
    if (!small(&shape) || model_package_encoder(package, NULL, &shape, info->labels, 1, &e, NULL)) {
        return;
    }
    uint32_t start[2] = {0, 1}, ids[1] = {0};
    struct model_batch batch = {.sequences = 1, .start = start, .ids = ids, .groups = 1};
    struct model_run *run = model_run_new(e);
    if (run && model_run_forward(run, &batch, NULL) == E_INVALID) {
        abort();
    }
    model_run_free(run);
    model_encoder_close(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_package *package = NULL;
    struct model_tokenizer *tokenizer = NULL;
    if (model_package_open(span_of(data, size), &package, NULL)) {
        return 0;
    }
    const struct model_package_info *info = model_package_info(package);
    if (info->shape.hidden == 0 || !info->name || !info->licence) {
        abort();
    }
    if (!model_package_tokenizer(package, &tokenizer, NULL)) {
        uint32_t ids[64];
        size_t count = 0;
        (void)!model_tokenizer_text(tokenizer, span_str("a text, [MASK] \xc3\xa9"), ids, 64, &count,
                                    NULL);
        model_tokenizer_close(tokenizer);
    }
    try_encoder(package);
    model_package_close(package);
    return 0;
}
