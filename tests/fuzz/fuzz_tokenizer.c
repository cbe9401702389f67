/* Any bytes as a vocabulary, as a tokenizer.json and as a text: no piece number outside the vocabulary. */
#include "config.h"

#include <stdlib.h>

#include "node/model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char vocabulary[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\nc\n##a\n##b\n##ab\n##c\n\xc3\xa9\n,\n##\xcc\x81\n";

static void use(const struct model_tokenizer *t, struct span text)
{
    uint32_t ids[256];
    size_t count = 0;
    if (model_tokenizer_text(t, text, ids, 256, &count, NULL)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= model_tokenizer_pieces(t)->count) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_tokenizer_options options =
        size & 1 ? MODEL_TOKENIZER_CASED : MODEL_TOKENIZER_UNCASED;
    struct model_tokenizer *t = NULL;
    if (!model_tokenizer_vocabulary(span_str(vocabulary), &options, &t, NULL)) {
        use(t, span_of(data, size));
        model_tokenizer_close(t);
    }
    if (!model_tokenizer_vocabulary(span_of(data, size), &options, &t, NULL)) {
        use(t, span_of(data, size));
        model_tokenizer_close(t);
    }
    if (!model_tokenizer_json(span_of(data, size), &t, NULL)) {
        use(t, span_of(data, size));
        model_tokenizer_close(t);
    }
    return 0;
}
