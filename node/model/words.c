#include "config.h"
#include "node/model/words.h"

#include <assert.h>

static uint64_t hash(struct span text)
{
    /* FNV-1a, then a mix, since the low bits pick the slot. */
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < text.len; i++) {
        h = (h ^ text.ptr[i]) * UINT64_C(0x100000001b3);
    }
    return h ^ h >> 29;
}

/* The slot of TEXT or the free slot where it belongs; the table is never full. */
static uint32_t slot_of(const struct model_words *words, struct span text)
{
    uint32_t mask = words->slot_count - 1;
    uint32_t slot = (uint32_t)hash(text) & mask;
    while (words->slots[slot] != 0) {
        if (span_equal(span_str(model_words_get(words, words->slots[slot] - 1)), text)) {
            break;
        }
        slot = (slot + 1) & mask;
    }
    return slot;
}

static enum err grow_slots(struct model_words *words)
{
    if (words->slot_count / 2 > words->count) {
        return E_OK;
    }
    uint32_t count = words->slot_count ? words->slot_count * 2 : 64;
    uint32_t *old = words->slots;
    uint32_t *slots = proto_alloc(count, sizeof *slots);
    if (!slots) {
        return E_NO_MEMORY;
    }
    words->slots = slots;
    words->slot_count = count;
    for (uint32_t id = 0; id < words->count; id++) {
        slots[slot_of(words, span_str(model_words_get(words, id)))] = id + 1;
    }
    proto_free(old);
    return E_OK;
}

static enum err grow(struct model_words *words, size_t len)
{
    if (words->count >= words->max || words->count >= (UINT32_MAX >> 2) ||
        len >= MODEL_WORDS_TEXT_MAX - words->text_len) {
        return E_LIMIT;
    }
    if (words->text_cap - words->text_len < len + 1) {
        size_t cap = words->text_cap * 2 + len + 256;
        char *text = proto_realloc(words->text, cap, 1);
        if (!text) {
            return E_NO_MEMORY;
        }
        words->text = text;
        words->text_cap = cap;
    }
    if (words->count == words->at_cap) {
        uint32_t cap = words->at_cap * 2 + 32;
        uint32_t *at = proto_realloc(words->at, cap, sizeof *at);
        if (!at) {
            return E_NO_MEMORY;
        }
        words->at = at;
        words->at_cap = cap;
    }
    return grow_slots(words);
}

enum err model_words_add(struct model_words *words, struct span text, uint32_t *ret_id)
{
    uint32_t id = model_words_find(words, text);
    if (id != MODEL_WORDS_NONE) {
        *ret_id = id;
        return E_OK;
    }
    if (text.len > 0 && memchr(text.ptr, 0, text.len)) {
        return E_INVALID;
    }
    enum err err = grow(words, text.len);
    if (err) {
        return err;
    }
    id = words->count;
    uint32_t slot = slot_of(words, text);
    words->at[id] = (uint32_t)words->text_len;
    if (text.len > 0) {
        memcpy(words->text + words->text_len, text.ptr, text.len);
    }
    words->text_len += text.len;
    words->text[words->text_len++] = 0;
    words->slots[slot] = id + 1;
    words->count++;
    *ret_id = id;
    return E_OK;
}

uint32_t model_words_find(const struct model_words *words, struct span text)
{
    if (words->slot_count == 0) {
        return MODEL_WORDS_NONE;
    }
    uint32_t found = words->slots[slot_of(words, text)];
    return found ? found - 1 : MODEL_WORDS_NONE;
}

const char *model_words_get(const struct model_words *words, uint32_t id)
{
    assert(id < words->count);
    return words->text + words->at[id];
}

void model_words_fini(struct model_words *words)
{
    proto_free(words->text);
    proto_free(words->at);
    proto_free(words->slots);
    *words = (struct model_words){.max = words->max};
}
