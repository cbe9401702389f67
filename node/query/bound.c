#include "config.h"
#include "node/query/bound.h"

#include "crypto/memory.h"
#include "crypto/random.h"

#include <stdlib.h>

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

/* A row of a unit that has more rows than some bound lets count. */
struct query_bound_entry {
    uint32_t unit;
    uint32_t cell;
    uint64_t cell_hash;
    uint64_t row_hash;
    uint64_t row;
};

enum err query_bound_init(struct query_bound *bound, uint64_t units,
                          const struct privacy_bounds *limits, uint64_t cells, uint64_t rows)
{
    *bound = (struct query_bound){.limits = *limits, .units = units, .rows_in_all = rows};
    uint64_t groups = cells < limits->rows ? cells : limits->rows;
    bound->grouped = cells > 1 && (limits->cells < groups || limits->rows_per_cell < limits->rows);
    bound->rows = proto_alloc(units, sizeof *bound->rows);
    enum err err = bound->rows ? crypto_random(bound->key, sizeof bound->key) : E_NO_MEMORY;
    return err ? err : crypto_random(bound->group_key, sizeof bound->group_key);
}

static void wipe_free(void *ptr, size_t size)
{
    if (ptr) {
        crypto_wipe(ptr, size);
    }
    proto_free(ptr);
}

void query_bound_fini(struct query_bound *bound)
{
    /* How many rows each person has, which of them, and who is in which group, is their business. */
    wipe_free(bound->rows, bound->units * sizeof *bound->rows);
    wipe_free(bound->entries, bound->entry_cap * sizeof *bound->entries);
    wipe_free(bound->dropped, (bound->rows_in_all + 63) / 64 * sizeof *bound->dropped);
    wipe_free(bound->seen, bound->seen_cap * sizeof *bound->seen);
    proto_free(bound->smallest);
    proto_free(bound->filled);
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

/* With this many rows a unit meets no bound, whichever groups they are in. */
static uint32_t harmless(const struct query_bound *bound)
{
    uint32_t least = bound->limits.rows;
    if (bound->grouped) {
        least = bound->limits.rows_per_cell < least ? bound->limits.rows_per_cell : least;
        least = bound->limits.cells < least ? bound->limits.cells : least;
    }
    return least;
}

enum err query_bound_counted(struct query_bound *bound, bool *ret_again)
{
    uint32_t limit = harmless(bound);
    for (uint64_t unit = 0; unit < bound->units; unit++) {
        bool heavy = bound->rows[unit] > limit;
        bound->entry_cap += heavy ? bound->rows[unit] : 0;
        bound->rows[unit] = heavy ? (uint32_t)++bound->heavy_count : 0;
    }
    *ret_again = bound->heavy_count > 0;
    if (!bound->heavy_count) {
        bound->entry_cap = 0;
        return E_OK;
    }
    if (bound->grouped) {
        bound->entries = proto_alloc(bound->entry_cap, sizeof *bound->entries);
        bound->dropped = proto_alloc((bound->rows_in_all + 63) / 64, sizeof *bound->dropped);
        return bound->entries && bound->dropped ? E_OK : E_NO_MEMORY;
    }
    bound->smallest = proto_alloc(bound->heavy_count * limit, sizeof *bound->smallest);
    bound->filled = proto_alloc(bound->heavy_count, sizeof *bound->filled);
    return bound->smallest && bound->filled ? E_OK : E_NO_MEMORY;
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
            uint64_t *heap = bound->smallest + (uint64_t)(heavy - 1) * bound->limits.rows;
            uint32_t *filled = &bound->filled[heavy - 1];
            uint64_t hash = query_bound_hash(bound->key, batch->first_row + row);
            if (*filled < bound->limits.rows) {
                heap[*filled] = hash;
                sift_up(heap, (*filled)++);
            } else if (hash < heap[0]) {
                heap[0] = hash;
                sift_down(heap, *filled);
            }
        }
    }
}

void query_bound_gather(struct query_bound *bound, const struct store_batch *batch, size_t row,
                        uint32_t cell, uint64_t cells)
{
    uint32_t unit = batch->unit[row];
    if (!bound->rows[unit] || bound->entry_count == bound->entry_cap) {
        return;
    }
    uint64_t number = batch->first_row + row;
    bound->entries[bound->entry_count++] = (struct query_bound_entry){
        .unit = unit,
        .cell = cell,
        .cell_hash = query_bound_hash(bound->group_key, (uint64_t)unit * cells + cell),
        .row_hash = query_bound_hash(bound->key, number),
        .row = number};
}

static int compare_entries(const void *a, const void *b)
{
    const struct query_bound_entry *x = a;
    const struct query_bound_entry *y = b;
    if (x->unit != y->unit) {
        return x->unit < y->unit ? -1 : 1;
    }
    if (x->cell_hash != y->cell_hash) {
        return x->cell_hash < y->cell_hash ? -1 : 1;
    }
    if (x->cell != y->cell) {
        return x->cell < y->cell ? -1 : 1;
    }
    return x->row_hash < y->row_hash ? -1 : x->row_hash > y->row_hash;
}

enum err query_bound_choose(struct query_bound *bound)
{
    if (!bound->entry_count) {
        return E_OK;
    }
    qsort(bound->entries, bound->entry_count, sizeof *bound->entries, compare_entries);
    uint32_t rows = 0;    /* of the unit at hand */
    uint32_t groups = 0;  /* of the unit, this one included */
    uint32_t in_cell = 0; /* rows in this group */
    for (uint64_t i = 0; i < bound->entry_count; i++) {
        const struct query_bound_entry *at = &bound->entries[i];
        bool new_unit = i == 0 || at->unit != at[-1].unit;
        bool new_cell = new_unit || at->cell != at[-1].cell;
        rows = new_unit ? 0 : rows;
        groups = new_unit ? 1 : groups + new_cell;
        in_cell = new_cell ? 0 : in_cell;
        if (groups <= bound->limits.cells && in_cell < bound->limits.rows_per_cell &&
            rows < bound->limits.rows) {
            rows++;
            in_cell++;
        } else {
            bound->dropped[at->row / 64] |= UINT64_C(1) << (at->row % 64);
        }
    }
    return E_OK;
}

void query_bound_filter(const struct query_bound *bound, const struct store_batch *batch,
                        uint64_t *keep)
{
    if (!bound->heavy_count) {
        return;
    }
    for (size_t word = 0; word * 64 < batch->rows && bound->grouped; word++) {
        keep[word] &= ~bound->dropped[batch->first_row / 64 + word];
    }
    for (size_t word = 0; word * 64 < batch->rows && !bound->grouped; word++) {
        for (uint64_t left = keep[word]; left; left &= left - 1) {
            size_t row = word * 64 + (size_t)__builtin_ctzll(left);
            uint32_t heavy = bound->rows[batch->unit[row]];
            if (heavy && query_bound_hash(bound->key, batch->first_row + row) >
                             bound->smallest[(uint64_t)(heavy - 1) * bound->limits.rows]) {
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
