/* Any bytes as annotated notes: refused with a line, or arrays that fit together. */
#include "config.h"

#include <stdlib.h>

#include "node/model/notes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct model_notes *n, const struct model_words *labels)
{
    if (n->sentence_at[0] != 0 || n->sentence_at[n->sentences] != n->words ||
        n->units > n->sentences) {
        abort();
    }
    for (uint32_t s = 0; s < n->sentences; s++) {
        if (n->sentence_at[s + 1] <= n->sentence_at[s] || n->unit[s] >= n->units) {
            abort();
        }
    }
    for (uint32_t w = 0; w < n->words; w++) {
        size_t end = n->word_at[w] + strlen(n->text + n->word_at[w]);
        if (end >= n->text_len || n->tag[w] >= labels->count) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_words labels = {.max = MODEL_NOTES_LABELS_MAX};
    struct err_info info = {0};
    struct model_notes notes;
    if (model_notes_read(span_of(data, size), "f", &labels, true, &notes, &info)) {
        if (info.text[0] != 'f') {
            abort();
        }
    } else {
        check(&notes, &labels);
        model_notes_fini(&notes);
        /* What was read with a growing label set is read again with the set fixed. */
        if (model_notes_read(span_of(data, size), "f", &labels, false, &notes, NULL)) {
            abort();
        }
        model_notes_fini(&notes);
    }
    model_words_fini(&labels);
    return 0;
}
