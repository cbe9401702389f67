#include "config.h"
#include "store/blob_cache.h"

#include "crypto/memory.h"
#include "proto/alloc.h"
#include "store/blob.h"

#include <pthread.h>
#include <stdatomic.h>

struct slot {
    uint8_t id[STORE_BLOB_ID_SIZE];
    uint64_t index;
    size_t len; /* 0: empty */
    uint8_t *plain;
    _Atomic uint64_t used; /* by the cache's clock */
};

struct store_blob_cache {
    pthread_rwlock_t lock; /* who copies out shares it */
    _Atomic uint64_t clock;
    struct slot slots[STORE_BLOB_CACHED];
};

struct store_blob_cache *store_blob_cache_new(void)
{
    struct store_blob_cache *cache = proto_alloc(1, sizeof *cache);
    if (cache && pthread_rwlock_init(&cache->lock, NULL) != 0) {
        proto_free(cache);
        cache = NULL;
    }
    return cache;
}

void store_blob_cache_free(struct store_blob_cache *cache)
{
    if (!cache) {
        return;
    }
    for (size_t i = 0; i < STORE_BLOB_CACHED; i++) {
        if (cache->slots[i].plain) {
            crypto_wipe(cache->slots[i].plain, STORE_BLOB_CHUNK);
        }
        proto_free(cache->slots[i].plain);
    }
    pthread_rwlock_destroy(&cache->lock);
    proto_free(cache);
}

static struct slot *find(struct store_blob_cache *cache, const uint8_t *id, uint64_t index)
{
    for (size_t i = 0; i < STORE_BLOB_CACHED; i++) {
        struct slot *slot = &cache->slots[i];
        if (slot->len && slot->index == index && memcmp(slot->id, id, STORE_BLOB_ID_SIZE) == 0) {
            return slot;
        }
    }
    return NULL;
}

static struct slot *oldest(struct store_blob_cache *cache)
{
    struct slot *best = &cache->slots[0];
    for (size_t i = 1; i < STORE_BLOB_CACHED && best->len; i++) {
        struct slot *slot = &cache->slots[i];
        best = !slot->len || slot->used < best->used ? slot : best;
    }
    return best;
}

static void touch(struct store_blob_cache *cache, struct slot *slot)
{
    atomic_store(&slot->used, atomic_fetch_add(&cache->clock, 1));
}

void store_blob_cache_put(struct store_blob_cache *cache, const uint8_t id[STORE_BLOB_ID_SIZE],
                          uint64_t index, struct span plain)
{
    pthread_rwlock_wrlock(&cache->lock);
    struct slot *slot = find(cache, id, index);
    slot = slot ? slot : oldest(cache);
    if (!slot->plain) {
        slot->plain = proto_alloc_raw(STORE_BLOB_CHUNK, 1);
    }
    if (slot->plain && plain.len <= STORE_BLOB_CHUNK) {
        memcpy(slot->id, id, STORE_BLOB_ID_SIZE);
        slot->index = index;
        slot->len = plain.len;
        memcpy(slot->plain, plain.ptr, plain.len);
        touch(cache, slot);
    }
    pthread_rwlock_unlock(&cache->lock);
}

bool store_blob_cache_get(struct store_blob_cache *cache, const uint8_t id[STORE_BLOB_ID_SIZE],
                          uint64_t index, uint8_t *to, size_t len)
{
    pthread_rwlock_rdlock(&cache->lock);
    struct slot *slot = find(cache, id, index);
    bool found = slot && slot->len == len;
    if (found) {
        memcpy(to, slot->plain, len);
        touch(cache, slot);
    }
    pthread_rwlock_unlock(&cache->lock);
    return found;
}
