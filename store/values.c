#include "config.h"
#include "store/values.h"

static bool is_text(const struct store_values *values, uint32_t code, struct span text)
{
    return values->lengths[code] == text.len &&
           (text.len == 0 || memcmp(values->texts[code], text.ptr, text.len) == 0);
}

uint32_t store_values_find(const struct store_values *values, struct span text)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < text.len; i++) {
        hash = (hash ^ text.ptr[i]) * 1099511628211u;
    }
    uint32_t slot = (uint32_t)(hash ^ hash >> 32) & values->mask;
    while (values->slots[slot] && !is_text(values, values->slots[slot] - 1, text)) {
        slot = (slot + 1) & values->mask;
    }
    return slot;
}

static enum err index_values(struct store_values *values, uint32_t slots)
{
    uint32_t *fresh = proto_alloc(slots, sizeof *fresh);
    if (!fresh) {
        return E_NO_MEMORY;
    }
    proto_free(values->slots);
    values->slots = fresh;
    values->mask = slots - 1;
    for (uint32_t i = 0; i < values->count; i++) {
        values->slots[store_values_find(values, span_str(values->texts[i]))] = i + 1;
    }
    return E_OK;
}

enum err store_values_open(struct store_values *values, const struct proto_column *column)
{
    values->grows = column->values_private;
    values->cap = values->grows ? 256 : (uint32_t)column->value_count + 1;
    values->texts = proto_alloc(values->cap, sizeof *values->texts);
    values->lengths = proto_alloc(values->cap, sizeof *values->lengths);
    if (!values->texts || !values->lengths) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < column->value_count; i++) {
        values->lengths[values->count] = (uint32_t)strlen(column->values[i]);
        values->texts[values->count++] = column->values[i];
    }
    return index_values(values, 4096);
}

enum err store_values_add(struct store_values *values, struct span text, uint32_t slot)
{
    if (values->count >= STORE_VALUES_MAX || values->bytes + text.len > STORE_VALUES_BYTES) {
        return E_LIMIT;
    }
    if (values->count == values->cap) {
        const char **grown = proto_realloc(values->texts, values->cap * 2, sizeof *grown);
        if (!grown) {
            return E_NO_MEMORY;
        }
        values->texts = grown;
        uint32_t *lengths = proto_realloc(values->lengths, values->cap * 2, sizeof *lengths);
        if (!lengths) {
            return E_NO_MEMORY;
        }
        values->lengths = lengths;
        values->cap *= 2;
    }
    const char *copy = arena_strdup(&values->arena, text);
    if (!copy) {
        return E_NO_MEMORY;
    }
    values->lengths[values->count] = (uint32_t)text.len;
    values->texts[values->count++] = copy;
    values->slots[slot] = values->count;
    values->bytes += text.len + 2;
    return values->count > values->mask / 2 ? index_values(values, (values->mask + 1) * 2) : E_OK;
}

void store_values_close(struct store_values *values)
{
    proto_free(values->texts);
    proto_free(values->lengths);
    proto_free(values->slots);
    arena_fini(&values->arena);
}
