#include "config.h"
#include "store/blob_memory.h"

#include "proto/alloc.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define SPARE                                                                                      \
    8 /* chunks kept for the next one who needs some: fresh memory costs more than filling it */

struct counted {
    struct store_blob_chunk chunk; /* the first member */
    _Atomic unsigned refs;
    struct counted *next; /* among the spare ones */
};

struct recent {
    uint8_t id[STORE_BLOB_ID_SIZE];
    uint64_t index, used; /* by the clock */
    struct store_blob_chunk *chunk;
};

struct store_blob_passing {
    uint8_t hash[32];
    bool whole, listed;
    unsigned refs;
    uint64_t size;
    size_t room, count; /* chunks */
    struct store_blob_passing *next;
    struct store_blob_chunk *chunks[];
};

struct store_blob_memory {
    pthread_mutex_t lock;
    uint64_t clock;
    struct recent recent[STORE_BLOB_RECENT_MOST];
    struct store_blob_passing *passing; /* those that have a name */
    size_t taken;                       /* chunks that blobs have, or will */
    struct counted *spare;
    size_t spares;
};

/* --- chunks ------------------------------------------------------------------------------------------------------------ */

/* Of the kernel's, and given back to it: a heap would keep the chunks of all threads' rounds, in pieces. */
static struct counted *chunk_map(void)
{
    struct counted *one = proto_alloc(1, sizeof *one);
    void *bytes = one ? mmap(NULL, STORE_BLOB_CHUNK, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                      : MAP_FAILED;
    if (bytes == MAP_FAILED) {
        proto_free(one);
        return NULL;
    }
    one->chunk.bytes = bytes;
    return one;
}

static void chunk_free(struct counted *one)
{
    munmap(one->chunk.bytes, STORE_BLOB_CHUNK);
    proto_free(one);
}

struct store_blob_chunk *store_blob_chunk_new(struct store_blob_memory *memory)
{
    pthread_mutex_lock(&memory->lock);
    struct counted *one = memory->spare;
    if (one) {
        memory->spare = one->next;
        memory->spares--;
    }
    pthread_mutex_unlock(&memory->lock);
    if (!one && !(one = chunk_map())) {
        return NULL;
    }
    one->chunk.len = 0;
    atomic_store(&one->refs, 1);
    return &one->chunk;
}

static void hold(struct store_blob_chunk *chunk)
{
    atomic_fetch_add(&((struct counted *)chunk)->refs, 1);
}

/* The lock is held. What is to be freed comes back. */
static struct counted *let_go(struct store_blob_memory *memory, struct store_blob_chunk *chunk)
{
    struct counted *one = (struct counted *)chunk;
    if (!one || atomic_fetch_sub(&one->refs, 1) != 1) {
        return NULL;
    }
    if (memory->spares == SPARE) {
        return one;
    }
    one->next = memory->spare;
    memory->spare = one;
    memory->spares++;
    return NULL;
}

void store_blob_chunk_release(struct store_blob_memory *memory, struct store_blob_chunk *chunk)
{
    pthread_mutex_lock(&memory->lock);
    struct counted *last = let_go(memory, chunk);
    pthread_mutex_unlock(&memory->lock);
    if (last) {
        chunk_free(last);
    }
}

/* --- chunks of files --------------------------------------------------------------------------------------------------- */

/* The lock is held. NULL: not here. */
static struct recent *find_recent(struct store_blob_memory *memory, const uint8_t *id,
                                  uint64_t index)
{
    for (size_t i = 0; i < STORE_BLOB_RECENT_MOST; i++) {
        struct recent *at = &memory->recent[i];
        if (at->chunk && at->index == index && memcmp(at->id, id, STORE_BLOB_ID_SIZE) == 0) {
            return at;
        }
    }
    return NULL;
}

static struct recent *oldest(struct store_blob_memory *memory)
{
    struct recent *best = &memory->recent[0];
    for (size_t i = 1; i < STORE_BLOB_RECENT_MOST && best->chunk; i++) {
        struct recent *at = &memory->recent[i];
        best = !at->chunk || at->used < best->used ? at : best;
    }
    return best;
}

void store_blob_recent_put(struct store_blob_memory *memory, const uint8_t id[STORE_BLOB_ID_SIZE],
                           uint64_t index, struct store_blob_chunk *chunk)
{
    hold(chunk);
    pthread_mutex_lock(&memory->lock);
    struct recent *at = find_recent(memory, id, index);
    at = at ? at : oldest(memory);
    struct counted *last = let_go(memory, at->chunk);
    memcpy(at->id, id, STORE_BLOB_ID_SIZE);
    at->index = index;
    at->chunk = chunk;
    at->used = memory->clock++;
    pthread_mutex_unlock(&memory->lock);
    if (last) {
        chunk_free(last);
    }
}

struct store_blob_chunk *store_blob_recent_get(struct store_blob_memory *memory,
                                               const uint8_t id[STORE_BLOB_ID_SIZE], uint64_t index)
{
    struct store_blob_chunk *found = NULL;
    pthread_mutex_lock(&memory->lock);
    struct recent *at = find_recent(memory, id, index);
    if (at) {
        at->used = memory->clock++;
        found = at->chunk;
        hold(found);
    }
    pthread_mutex_unlock(&memory->lock);
    return found;
}

/* --- whole blobs ------------------------------------------------------------------------------------------------------- */

/* The lock is held. */
static struct store_blob_passing *find_passing(struct store_blob_memory *memory,
                                               const uint8_t hash[32])
{
    struct store_blob_passing *at = memory->passing;
    while (at && memcmp(at->hash, hash, 32) != 0) {
        at = at->next;
    }
    return at;
}

static void list(struct store_blob_memory *memory, struct store_blob_passing *passing,
                 const uint8_t hash[32])
{
    memcpy(passing->hash, hash, 32);
    passing->listed = true;
    passing->refs++;
    passing->next = memory->passing;
    memory->passing = passing;
}

/* The lock is held; the list's hold is left to the caller. */
static void unlist(struct store_blob_memory *memory, struct store_blob_passing *passing)
{
    struct store_blob_passing **at = &memory->passing;
    while (*at != passing) {
        at = &(*at)->next;
    }
    *at = passing->next;
    passing->listed = false;
}

enum err store_blob_passing_begin(struct store_blob_memory *memory, const uint8_t *hash,
                                  uint64_t size, struct store_blob_passing **ret)
{
    uint64_t room = store_blob_chunks(size);
    if (room > STORE_BLOB_PASSING_MOST) {
        return E_LIMIT;
    }
    struct store_blob_passing *passing =
        proto_alloc(1, sizeof *passing + (size_t)room * sizeof *passing->chunks);
    if (!passing) {
        return E_NO_MEMORY;
    }
    passing->refs = 1;
    passing->size = size;
    passing->room = (size_t)room;
    pthread_mutex_lock(&memory->lock);
    const struct store_blob_passing *other = hash ? find_passing(memory, hash) : NULL;
    enum err err = other ? other->whole ? E_EXISTS : E_BUSY
                   : memory->taken + passing->room > STORE_BLOB_PASSING_MOST ? E_LIMIT
                                                                             : E_OK;
    if (!err) {
        memory->taken += passing->room;
        if (hash) {
            list(memory, passing, hash);
        }
    }
    pthread_mutex_unlock(&memory->lock);
    if (err) {
        proto_free(passing);
        return err;
    }
    *ret = passing;
    return E_OK;
}

void store_blob_passing_add(struct store_blob_passing *passing, struct store_blob_chunk *chunk)
{
    passing->chunks[passing->count++] = chunk;
}

void store_blob_passing_settle(struct store_blob_memory *memory, struct store_blob_passing *passing,
                               const uint8_t hash[32])
{
    pthread_mutex_lock(&memory->lock);
    if (!passing->listed && !find_passing(memory, hash)) {
        list(memory, passing, hash);
    }
    passing->whole = true;
    pthread_mutex_unlock(&memory->lock);
    store_blob_passing_release(memory, passing);
}

struct store_blob_passing *store_blob_passing_find(struct store_blob_memory *memory,
                                                   const uint8_t hash[32])
{
    pthread_mutex_lock(&memory->lock);
    struct store_blob_passing *found = find_passing(memory, hash);
    found = found && found->whole ? found : NULL;
    if (found) {
        found->refs++;
    }
    pthread_mutex_unlock(&memory->lock);
    return found;
}

/* The lock is held. true: nobody has it any more, and the caller frees it. */
static bool drop(struct store_blob_memory *memory, struct store_blob_passing *passing)
{
    if (--passing->refs == 1 && passing->listed && !passing->whole) {
        unlist(memory, passing); /* who filled it has left */
        passing->refs--;
    }
    if (passing->refs == 0) {
        memory->taken -= passing->room;
        return true;
    }
    return false;
}

static void passing_free(struct store_blob_memory *memory, struct store_blob_passing *passing)
{
    for (size_t i = 0; i < passing->count; i++) {
        store_blob_chunk_release(memory, passing->chunks[i]);
    }
    proto_free(passing);
}

void store_blob_passing_release(struct store_blob_memory *memory,
                                struct store_blob_passing *passing)
{
    pthread_mutex_lock(&memory->lock);
    bool last = drop(memory, passing);
    pthread_mutex_unlock(&memory->lock);
    if (last) {
        passing_free(memory, passing);
    }
}

bool store_blob_passing_remove(struct store_blob_memory *memory, const uint8_t hash[32])
{
    bool last = false;
    pthread_mutex_lock(&memory->lock);
    struct store_blob_passing *found = find_passing(memory, hash);
    found = found && found->whole ? found : NULL;
    if (found) {
        unlist(memory, found);
        last = drop(memory, found);
    }
    pthread_mutex_unlock(&memory->lock);
    if (last) {
        passing_free(memory, found);
    }
    return found != NULL;
}

uint64_t store_blob_passing_size(const struct store_blob_passing *passing)
{
    return passing->size;
}

struct store_blob_chunk *store_blob_passing_chunk(struct store_blob_passing *passing,
                                                  uint64_t index)
{
    struct store_blob_chunk *chunk = passing->chunks[index];
    hold(chunk);
    return chunk;
}

/* --- its life ----------------------------------------------------------------------------------------------------------- */

struct store_blob_memory *store_blob_memory_new(void)
{
    struct store_blob_memory *memory = proto_alloc(1, sizeof *memory);
    if (memory && pthread_mutex_init(&memory->lock, NULL) != 0) {
        proto_free(memory);
        memory = NULL;
    }
    return memory;
}

void store_blob_memory_free(struct store_blob_memory *memory)
{
    if (!memory) {
        return;
    }
    for (size_t i = 0; i < STORE_BLOB_RECENT_MOST; i++) {
        store_blob_chunk_release(memory, memory->recent[i].chunk);
    }
    while (memory->passing) {
        struct store_blob_passing *first = memory->passing;
        unlist(memory, first);
        store_blob_passing_release(memory, first);
    }
    while (memory->spare) {
        struct counted *next = memory->spare->next;
        chunk_free(memory->spare);
        memory->spare = next;
    }
    pthread_mutex_destroy(&memory->lock);
    proto_free(memory);
}
