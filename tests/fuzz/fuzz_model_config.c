/* Any bytes as config.json of a model: refused, or a shape inside the limits. */
#include "config.h"

#include <stdlib.h>

#include "node/model/encoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_shape shape = {.labels = 2};
    const char *why = NULL;
    if (!model_shape_json(data, size, &shape, NULL) && !model_shape_valid(&shape, &why)) {
        abort();
    }
    return 0;
}
