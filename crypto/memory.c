#include "config.h"
#include "crypto/memory.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define ARENA_BYTES ((size_t)CRYPTO_KEY_MAX * sizeof(struct crypto_key))
#define WORDS       (CRYPTO_KEY_MAX / 64)

/* One mapping for the life of the process: it is never unmapped, so that a key can never be reached after a free of
 * the arena, and its place in the address space says nothing about a key's age. */
static struct {
    pthread_mutex_t lock;
    struct crypto_key *keys; /* NULL before the first use */
    bool locked;
    size_t hint; /* word where the last free slot was found */
    uint64_t used[WORDS];
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER};

void crypto_wipe(void *p, size_t len)
{
    if (p && len) {
        explicit_bzero(p, len);
    }
}

void crypto_buf_fini(struct buf *buf)
{
    crypto_wipe(buf->ptr, buf->cap);
    buf_fini(buf);
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
    const volatile uint8_t *x = a;
    const volatile uint8_t *y = b;
    uint8_t difference = 0;
    for (size_t i = 0; i < len; i++) {
        difference = (uint8_t)(difference | (x[i] ^ y[i]));
    }
    return difference == 0;
}

static bool lock_pages(void *pages)
{
#ifdef MLOCK_ONFAULT
    if (mlock2(pages, ARENA_BYTES, MLOCK_ONFAULT) == 0) {
        return true;
    }
#endif
    return mlock(pages, ARENA_BYTES) == 0;
}

/* Maps the arena between two pages that nobody may touch. Dumps and children must not see it: these two are demanded,
 * while locking is tried, because a container's limit may forbid it (crypto_key_locked tells). */
static bool arena_map(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *base =
        mmap(NULL, ARENA_BYTES + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        return false;
    }
    uint8_t *pages = base + page;
    if (mprotect(pages, ARENA_BYTES, PROT_READ | PROT_WRITE) != 0 ||
        madvise(pages, ARENA_BYTES, MADV_DONTDUMP) != 0 ||
        madvise(pages, ARENA_BYTES, MADV_WIPEONFORK) != 0) {
        munmap(base, ARENA_BYTES + 2 * page);
        return false;
    }
    arena.locked = lock_pages(pages);
    arena.keys = (struct crypto_key *)(void *)pages;
    return true;
}

static struct crypto_key *take_slot(void)
{
    for (size_t i = 0; i < WORDS; i++) {
        size_t word = (arena.hint + i) % WORDS;
        if (arena.used[word] != UINT64_MAX) {
            size_t bit = (size_t)__builtin_ctzll(~arena.used[word]);
            arena.used[word] |= (uint64_t)1 << bit;
            arena.hint = word;
            return arena.keys + word * 64 + bit;
        }
    }
    return NULL;
}

struct crypto_key *crypto_key_new(void)
{
    pthread_mutex_lock(&arena.lock);
    struct crypto_key *key = arena.keys || arena_map() ? take_slot() : NULL;
    pthread_mutex_unlock(&arena.lock);
    if (key) {
        crypto_wipe(key, sizeof *key);
    }
    return key;
}

void crypto_key_free(struct crypto_key *key)
{
    if (!key) {
        return;
    }
    crypto_wipe(key, sizeof *key);
    pthread_mutex_lock(&arena.lock);
    size_t index = (size_t)(key - arena.keys);
    arena.used[index / 64] &= ~((uint64_t)1 << index % 64);
    pthread_mutex_unlock(&arena.lock);
}

bool crypto_key_locked(void)
{
    pthread_mutex_lock(&arena.lock);
    bool locked = (arena.keys || arena_map()) && arena.locked;
    pthread_mutex_unlock(&arena.lock);
    return locked;
}

enum err crypto_process_harden(void)
{
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0) {
        return E_IO;
    }
#if !defined(__SANITIZE_ADDRESS__)
    /* The leak checker of a sanitizer build must trace its own process. */
    if (prctl(PR_SET_DUMPABLE, 0) != 0) {
        return E_IO;
    }
#endif
    return E_OK;
}
