/* Any bytes as adapter_config.json: refused and nothing changed, or a shape with adapters inside the limits, which is written and
 * read again as itself. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "node/model/encoder_config.h"
#include "proto/alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_shape before = {.vocabulary = 10,
                                 .hidden = 8,
                                 .layers = 1,
                                 .heads = 2,
                                 .inner = 8,
                                 .positions = 8,
                                 .types = 1,
                                 .layer_norm_eps = 1e-12,
                                 .labels = 2};
    struct model_shape shape = before, again = before;
    struct buf buf = {.max = MODEL_CONFIG_MAX};
    const char *why = NULL;
    if (model_adapter_config_read(span_of(data, size), &shape, NULL)) {
        if (memcmp(&shape, &before, sizeof shape) != 0) {
            abort();
        }
        return 0;
    }
    if (shape.task == MODEL_TASK_MASKED) {
        shape.labels = shape.vocabulary;
    }
    if (!model_shape_valid(&shape, &why) || !model_shape_adapted(&shape) ||
        model_adapter_config(&shape, "base", &buf, NULL) ||
        model_adapter_config_read(buf_span(&buf), &again, NULL) || again.targets != shape.targets ||
        again.rank != shape.rank || again.task != shape.task) {
        abort();
    }
    buf_fini(&buf);
    return 0;
}
