/* A list of different texts, numbered in the order they were added and found by a hash: vocabularies, label sets, units.
 *
 *     struct model_words words = {.max = 65536};
 *     err = model_words_add(&words, span_str("B-Disease"), &id);
 *     model_words_find(&words, span_str("B-Disease"))  ==  id
 *     model_words_fini(&words);
 *
 * Texts hold no zero byte; each is kept with a terminating zero. Threads: any number may look up, one may add alone. */
#ifndef CONCORDAT_NODE_MODEL_WORDS_H
#define CONCORDAT_NODE_MODEL_WORDS_H

#include "proto/alloc.h"

#define MODEL_WORDS_NONE     UINT32_MAX
#define MODEL_WORDS_TEXT_MAX ((size_t)256 << 20)

struct model_words {
    uint32_t max; /* how many; set by the caller */
    uint32_t count;
    char *text;
    size_t text_len, text_cap;
    uint32_t *at; /* where text ID starts */
    uint32_t at_cap;
    uint32_t *slots; /* id + 1, 0 is free; a power of two of them */
    uint32_t slot_count;
};

/* The number of TEXT, which is added when new. Errors: E_LIMIT; E_INVALID a zero byte; E_NO_MEMORY. Then nothing changed. */
MUST_CHECK enum err model_words_add(struct model_words *words, struct span text, uint32_t *ret_id);
/* MODEL_WORDS_NONE when absent. */
uint32_t model_words_find(const struct model_words *words, struct span text);
/* Borrowed until the next add. id < count. */
const char *model_words_get(const struct model_words *words, uint32_t id);
void model_words_fini(struct model_words *words);

#endif
