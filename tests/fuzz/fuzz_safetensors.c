/* Any bytes as a safetensors file: refused, or every tensor can be read. */
#include "config.h"

#include <math.h>
#include <stdlib.h>

#include "node/model/safetensors.h"
#include "proto/alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_safetensors *file = NULL;
    if (model_safetensors_bytes(span_of(data, size), &file, NULL)) {
        return 0;
    }
    for (size_t i = 0; i < model_safetensors_count(file); i++) {
        const struct model_tensor_entry *entry = model_safetensors_entry(file, i);
        /* An accepted tensor lies inside the file, so its numbers are no more than the bytes. */
        if (model_safetensors_find(file, entry->name) != entry ||
            (entry->end > entry->begin && entry->count > size)) {
            abort();
        }
        size_t count = (size_t)entry->count;
        double *to = proto_alloc(count + 1, sizeof *to);
        if (to && !model_safetensors_doubles(file, entry, to, count, NULL)) {
            for (size_t j = 0; j < count; j++) {
                if (!isfinite(to[j])) {
                    abort();
                }
            }
        }
        proto_free(to);
    }
    model_safetensors_close(file);
    return 0;
}
