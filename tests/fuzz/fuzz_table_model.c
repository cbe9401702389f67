/* Any bytes as a tabular model's document, and then a row of texts, after a zero byte: refused, or every row has an answer. */
#include "config.h"

#include <string.h>

#include "node/model/table_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t document = end ? (size_t)(end - data) : size;
    struct model_table_model *model = NULL;
    if (model_table_model_read(span_of(data, document), &model, NULL)) {
        return 0;
    }
    struct span names[4] = {span_str("age"), span_str("sex"), span_str("a"), SPAN_NONE}, fields[4];
    for (size_t i = 0, at = document; i < 4; i++) {
        at += at < size;
        const uint8_t *next = at < size ? memchr(data + at, 0, size - at) : NULL;
        size_t len = next ? (size_t)(next - data) - at : size - at;
        fields[i] = span_of(data + at, len);
        at += len;
    }
    if (!model_table_model_header(model, names, 4, NULL)) {
        for (size_t n = 0; n <= 4; n++) {
            (void)model_table_model_answer(model, fields, n);
        }
    }
    model_table_model_free(model);
    return 0;
}
