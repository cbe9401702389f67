#include "config.h"
#include "store/partition_cache.h"

#include <pthread.h>

struct store_partition_cache {
    pthread_mutex_t lock;
    struct store_partition *first; /* the one used last comes first */
    size_t replaced;               /* in use, and no longer in the list */
};

enum err store_partition_cache_new(struct store_partition_cache **ret)
{
    struct store_partition_cache *cache = proto_alloc(1, sizeof *cache);
    if (!cache) {
        return E_NO_MEMORY;
    }
    pthread_mutex_init(&cache->lock, NULL);
    *ret = cache;
    return E_OK;
}

/* With the lock held, as all below. */
static void take_out(struct store_partition_cache *cache, struct store_partition *partition)
{
    struct store_partition **at = &cache->first;
    while (*at && *at != partition) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = partition->next;
    }
    partition->next = NULL;
    partition->kept = false;
}

static void put_first(struct store_partition_cache *cache, struct store_partition *partition)
{
    partition->next = cache->first;
    partition->kept = true;
    cache->first = partition;
}

static bool same_file(const struct store_file_state *a, const struct store_file_state *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

static bool same(const struct store_partition *a, const struct store_partition *b)
{
    return strcmp(a->dataset, b->dataset) == 0 &&
           memcmp(&a->place, &b->place, sizeof a->place) == 0 &&
           memcmp(a->root, b->root, sizeof a->root) == 0 && same_file(&a->state, &b->state) &&
           crypto_equal(a->dek->bytes, b->dek->bytes, CRYPTO_KEY_SIZE);
}

struct store_partition *store_partition_cache_find(struct store_partition_cache *cache,
                                                   const struct store_partition *like)
{
    pthread_mutex_lock(&cache->lock);
    struct store_partition *found = cache->first;
    while (found && !same(found, like)) {
        found = found->next;
    }
    if (found) {
        found->users++;
        take_out(cache, found);
        put_first(cache, found);
    }
    pthread_mutex_unlock(&cache->lock);
    return found;
}

/* Those that nobody uses and that are of DATASET, or (NULL) too many, leave the list and are returned in one of their own. */
static struct store_partition *take_idle(struct store_partition_cache *cache, const char *dataset)
{
    struct store_partition *ended = NULL;
    size_t idle = 0;
    for (struct store_partition *at = cache->first, *next; at; at = next) {
        next = at->next;
        bool old = dataset && strcmp(at->dataset, dataset) == 0;
        idle += at->users == 0;
        bool many = at->users == 0 && idle > STORE_PARTITIONS_OPEN;
        if (old || many) {
            take_out(cache, at);
        }
        if ((old || many) && at->users == 0) {
            at->next = ended;
            ended = at;
        }
        cache->replaced += old && at->users;
    }
    return ended;
}

static void end_all(struct store_partition *first)
{
    while (first) {
        struct store_partition *next = first->next;
        store_partition_end(first);
        first = next;
    }
}

void store_partition_cache_add(struct store_partition_cache *cache,
                               struct store_partition *partition)
{
    pthread_mutex_lock(&cache->lock);
    partition->cache = cache;
    put_first(cache, partition);
    pthread_mutex_unlock(&cache->lock);
}

bool store_partition_cache_release(struct store_partition *partition)
{
    struct store_partition_cache *cache = partition->cache;
    if (!cache) {
        return true;
    }
    pthread_mutex_lock(&cache->lock);
    bool last = --partition->users == 0 && !partition->kept;
    cache->replaced -= last;
    struct store_partition *ended = take_idle(cache, NULL);
    pthread_mutex_unlock(&cache->lock);
    end_all(ended);
    return last;
}

void store_partition_cache_count(struct store_partition_cache *cache, size_t *ret_used,
                                 size_t *ret_replaced)
{
    pthread_mutex_lock(&cache->lock);
    *ret_used = *ret_replaced = cache->replaced;
    for (const struct store_partition *at = cache->first; at; at = at->next) {
        *ret_used += at->users > 0;
    }
    pthread_mutex_unlock(&cache->lock);
}

void store_partition_forget(struct store *store, const char *dataset)
{
    struct store_partition_cache *cache = store->partitions;
    pthread_mutex_lock(&cache->lock);
    struct store_partition *ended = take_idle(cache, dataset);
    pthread_mutex_unlock(&cache->lock);
    end_all(ended);
}

void store_partition_cache_free(struct store_partition_cache *cache)
{
    if (cache) {
        end_all(cache->first);
        pthread_mutex_destroy(&cache->lock);
        proto_free(cache);
    }
}
