#include "config.h"
#include "store/keyset.h"

#include "crypto/memory.h"
#include "proto/alloc.h"

#define SLOTS_MIN 1024

/* Keys are often small numbers in a row; the finalizer of splitmix64 (Steele, Lea and Flood 2014) spreads them. */
static size_t home(const struct store_keyset *set, uint64_t key)
{
    key = (key ^ key >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    key = (key ^ key >> 27) * UINT64_C(0x94d049bb133111eb);
    return (size_t)(key ^ key >> 31) & set->mask;
}

static size_t find(const struct store_keyset *set, uint64_t key)
{
    size_t at = home(set, key);
    while (set->slots[at] && set->slots[at] != key) {
        at = (at + 1) & set->mask;
    }
    return at;
}

static void wipe(uint64_t *slots, size_t count)
{
    if (slots) {
        crypto_wipe(slots, count * sizeof *slots);
        proto_free(slots);
    }
}

static enum err grow(struct store_keyset *set)
{
    struct store_keyset old = *set;
    size_t size = old.slots ? (old.mask + 1) * 2 : SLOTS_MIN;
    uint64_t *slots = proto_alloc(size, sizeof *slots);
    if (!slots) {
        return E_NO_MEMORY;
    }
    set->slots = slots;
    set->mask = size - 1;
    for (size_t i = 0; old.slots && i <= old.mask; i++) {
        if (old.slots[i]) {
            set->slots[find(set, old.slots[i])] = old.slots[i];
        }
    }
    wipe(old.slots, old.mask + 1);
    return E_OK;
}

bool store_keyset_has(const struct store_keyset *set, uint64_t key)
{
    return key ? set->slots && set->slots[find(set, key)] == key : set->has_zero;
}

enum err store_keyset_add(struct store_keyset *set, uint64_t key, bool *ret_fresh)
{
    *ret_fresh = !store_keyset_has(set, key);
    if (!*ret_fresh) {
        return E_OK;
    }
    if (key == 0) {
        set->has_zero = true;
        return E_OK;
    }
    if (set->count >= STORE_KEYSET_MAX) {
        return E_LIMIT;
    }
    enum err err = !set->slots || set->count >= set->mask / 2 ? grow(set) : E_OK;
    if (!err) {
        set->slots[find(set, key)] = key;
        set->count++;
    }
    return err;
}

void store_keyset_fini(struct store_keyset *set)
{
    wipe(set->slots, set->slots ? set->mask + 1 : 0);
    *set = (struct store_keyset){0};
}
