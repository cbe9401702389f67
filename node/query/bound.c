#include "config.h"
#include "node/query/bound.h"

#include "crypto/memory.h"
#include "crypto/random.h"

static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static uint64_t get_le64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) {
        v = v << 8 | p[i];
    }
    return v;
}

uint64_t query_bound_hash(const uint8_t key[16], uint64_t number)
{
    uint64_t k0 = get_le64(key);
    uint64_t k1 = get_le64(key + 8);
    uint64_t v[4] = {k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d),
                     k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573)};
    const uint64_t words[2] = {number, (uint64_t)8 << 56}; /* the message and its length */
    for (int i = 0; i < 2; i++) {
        v[3] ^= words[i];
        sip_round(v);
        sip_round(v);
        v[0] ^= words[i];
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++) {
        sip_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

enum err query_bound_init(struct query_bound *bound, uint64_t units, uint32_t limit)
{
    *bound = (struct query_bound){.limit = limit, .units = units};
    bound->rows = proto_alloc(units, sizeof *bound->rows);
    return bound->rows ? crypto_random(bound->key, sizeof bound->key) : E_NO_MEMORY;
}

void query_bound_fini(struct query_bound *bound)
{
    if (bound->rows) { /* how many rows each person has is their business */
        crypto_wipe(bound->rows, bound->units * sizeof *bound->rows);
    }
    proto_free(bound->rows);
    proto_free(bound->smallest);
    proto_free(bound->filled);
    if (bound->seen) { /* who is in which group */
        crypto_wipe(bound->seen, bound->seen_cap * sizeof *bound->seen);
    }
    proto_free(bound->seen);
    *bound = (struct query_bound){0};
}

void query_bound_count(struct query_bound *bound, const struct store_batch *batch)
{
    for (size_t word = 0; word * 64 < batch->rows; word++) {
        for (uint64_t left = batch->selected[word]; left; left &= left - 1) {
            uint32_t unit = batch->unit[word * 64 + (size_t)__builtin_ctzll(left)];
            bound->rows[unit] += bound->rows[unit] < UINT32_MAX;
        }
    }
}

enum err query_bound_counted(struct query_bound *bound, bool *ret_again)
{
    for (uint64_t unit = 0; unit < bound->units; unit++) {
        bool heavy = bound->rows[unit] > bound->limit;
        bound->rows[unit] = heavy ? (uint32_t)++bound->heavy_count : 0;
    }
    *ret_again = bound->heavy_count > 0;
    if (bound->heavy_count) {
        bound->smallest = proto_alloc(bound->heavy_count * bound->limit, sizeof *bound->smallest);
        bound->filled = proto_alloc(bound->heavy_count, sizeof *bound->filled);
        return bound->smallest && bound->filled ? E_OK : E_NO_MEMORY;
    }
    return E_OK;
}

/* heap[0] is the greatest of the kept ones. */
static void sift_down(uint64_t *heap, uint32_t count)
{
    for (uint32_t i = 0;;) {
        uint32_t child = 2 * i + 1;
        if (child >= count) {
            return;
        }
        child += child + 1 < count && heap[child + 1] > heap[child];
        if (heap[i] >= heap[child]) {
            return;
        }
        uint64_t swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
        i = child;
    }
}

static void sift_up(uint64_t *heap, uint32_t i)
{
    while (i > 0 && heap[(i - 1) / 2] < heap[i]) {
        uint64_t swap = heap[i];
        heap[i] = heap[(i - 1) / 2];
        heap[(i - 1) / 2] = swap;
        i = (i - 1) / 2;
    }
}

void query_bound_rank(struct query_bound *bound, const struct store_batch *batch)
{
    for (size_t word = 0; word * 64 < batch->rows; word++) {
        for (uint64_t left = batch->selected[word]; left; left &= left - 1) {
            size_t row = word * 64 + (size_t)__builtin_ctzll(left);
            uint32_t heavy = bound->rows[batch->unit[row]];
            if (!heavy) {
                continue;
            }
            uint64_t *heap = bound->smallest + (uint64_t)(heavy - 1) * bound->limit;
            uint32_t *filled = &bound->filled[heavy - 1];
            uint64_t hash = query_bound_hash(bound->key, batch->first_row + row);
            if (*filled < bound->limit) {
                heap[*filled] = hash;
                sift_up(heap, (*filled)++);
            } else if (hash < heap[0]) {
                heap[0] = hash;
                sift_down(heap, *filled);
            }
        }
    }
}

void query_bound_filter(const struct query_bound *bound, const struct store_batch *batch,
                        uint64_t *keep)
{
    if (!bound->heavy_count) {
        return;
    }
    for (size_t word = 0; word * 64 < batch->rows; word++) {
        for (uint64_t left = keep[word]; left; left &= left - 1) {
            size_t row = word * 64 + (size_t)__builtin_ctzll(left);
            uint32_t heavy = bound->rows[batch->unit[row]];
            if (heavy && query_bound_hash(bound->key, batch->first_row + row) >
                             bound->smallest[(uint64_t)(heavy - 1) * bound->limit]) {
                keep[word] &= ~(UINT64_C(1) << (row % 64));
            }
        }
    }
}

static uint64_t *slot(uint64_t *table, uint64_t cap, uint64_t key)
{
    uint64_t at = (key * UINT64_C(0x9e3779b97f4a7c15)) & (cap - 1);
    while (table[at] && table[at] != key) {
        at = (at + 1) & (cap - 1);
    }
    return &table[at];
}

static enum err grow(struct query_bound *bound)
{
    uint64_t cap = bound->seen_cap ? bound->seen_cap * 2 : 4096;
    uint64_t *table = proto_alloc(cap, sizeof *table);
    if (!table) {
        return E_NO_MEMORY;
    }
    for (uint64_t i = 0; i < bound->seen_cap; i++) {
        if (bound->seen[i]) {
            *slot(table, cap, bound->seen[i]) = bound->seen[i];
        }
    }
    if (bound->seen) {
        crypto_wipe(bound->seen, bound->seen_cap * sizeof *bound->seen);
    }
    proto_free(bound->seen);
    bound->seen = table;
    bound->seen_cap = cap;
    return E_OK;
}

enum err query_bound_first(struct query_bound *bound, uint32_t unit, uint64_t cell, uint64_t cells,
                           bool *ret_first)
{
    if (bound->seen_count * 2 >= bound->seen_cap) {
        enum err err = grow(bound);
        if (err) {
            return err;
        }
    }
    uint64_t key = (uint64_t)unit * cells + cell + 1;
    uint64_t *place = slot(bound->seen, bound->seen_cap, key);
    *ret_first = *place == 0;
    bound->seen_count += *ret_first;
    *place = key;
    return E_OK;
}
