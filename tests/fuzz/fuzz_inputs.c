/* Any bytes as a request of the inference service: refused, or lines and cells are as many as it says. */
#include "config.h"

#include "node/model/inputs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_inputs inputs;
    if (model_inputs_read(span_of(data, size), &inputs, NULL)) {
        return 0;
    }
    size_t lines = 0, bytes = 0;
    for (size_t i = 0; i < inputs.lines.len; i++) {
        lines += inputs.lines.ptr[i] == '\n';
    }
    for (size_t i = 0; inputs.table && i < inputs.count * inputs.columns; i++) {
        bytes += inputs.cells[i].len;
    }
    if (inputs.count == 0 || inputs.count > MODEL_INPUTS_MAX || bytes > 64 * size ||
        lines != (inputs.table ? 0 : inputs.count)) {
        __builtin_trap();
    }
    model_inputs_fini(&inputs);
    return 0;
}
