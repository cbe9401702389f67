/* The pool of ready samples (see noise.h): one thread fills shelves, one shelf a distribution. */
#include "node/privacy/noise.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "crypto/memory.h"
#include "proto/alloc.h"

/* The samples of one shelf, in memory that no core file holds and that a forked child finds empty: with `ready` in it, a child
 * has no samples rather than samples of zero, and never those of its parent. */
struct stock {
    size_t ready;
    int64_t samples[PRIVACY_POOL_DEEP];
};

struct shelf {
    uint64_t num, den; /* num 0: free */
    uint64_t used;     /* when it was last asked for, in requests */
    size_t wanted;
    struct stock *stock;
};

struct privacy_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool stop;
    uint64_t requests;
    struct shelf shelves[PRIVACY_POOL_KEYS];
};

static struct stock *stock_new(void)
{
    struct stock *stock =
        mmap(NULL, sizeof *stock, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stock == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(stock, sizeof *stock, MADV_DONTDUMP);
    if (madvise(stock, sizeof *stock, MADV_WIPEONFORK)) {
        (void)munmap(stock, sizeof *stock);
        return NULL;
    }
    return stock;
}

static void stock_free(struct stock *stock)
{
    if (stock) {
        crypto_wipe(stock, sizeof *stock);
        (void)munmap(stock, sizeof *stock);
    }
}

static struct shelf *shelf_find(struct privacy_pool *pool, uint64_t num, uint64_t den)
{
    for (size_t i = 0; i < PRIVACY_POOL_KEYS; i++) {
        if (pool->shelves[i].num == num && pool->shelves[i].den == den) {
            return &pool->shelves[i];
        }
    }
    return NULL;
}

static void shelf_clear(struct shelf *shelf)
{
    stock_free(shelf->stock);
    memset(shelf, 0, sizeof *shelf);
}

/* The shelf of a distribution, made at need in the place of the one unused for longest; NULL without memory. */
static struct shelf *shelf_want(struct privacy_pool *pool, uint64_t num, uint64_t den,
                                size_t wanted)
{
    struct shelf *shelf = shelf_find(pool, num, den);
    if (!shelf) {
        shelf = &pool->shelves[0];
        for (size_t i = 1; i < PRIVACY_POOL_KEYS; i++) {
            if (pool->shelves[i].used < shelf->used) {
                shelf = &pool->shelves[i];
            }
        }
        shelf_clear(shelf);
        shelf->stock = stock_new();
        if (!shelf->stock) {
            return NULL;
        }
        shelf->num = num;
        shelf->den = den;
    }
    shelf->used = ++pool->requests;
    if (wanted > shelf->wanted) {
        shelf->wanted = wanted < PRIVACY_POOL_DEEP ? wanted : PRIVACY_POOL_DEEP;
    }
    (void)pthread_cond_signal(&pool->wake);
    return shelf;
}

static struct shelf *shelf_short(struct privacy_pool *pool)
{
    struct shelf *last = NULL;
    for (size_t i = 0; i < PRIVACY_POOL_KEYS; i++) {
        struct shelf *shelf = &pool->shelves[i];
        if (shelf->num != 0 && shelf->stock->ready < shelf->wanted &&
            shelf->stock->ready + PRIVACY_POOL_FILL <= PRIVACY_POOL_DEEP &&
            (!last || shelf->used > last->used)) {
            last = shelf;
        }
    }
    return last;
}

/* Samples outside the lock, always a whole batch: how often it runs depends on public counts only, and how long it takes, which a
 * neighbour on the machine may see as load, is a sum over the batch and tells little of any one of its samples. */
static void *pool_run(void *user)
{
    struct privacy_pool *pool = user;
    int64_t batch[PRIVACY_POOL_FILL];
    (void)pthread_mutex_lock(&pool->lock);
    while (!pool->stop) {
        struct shelf *shelf = shelf_short(pool);
        if (!shelf) {
            (void)pthread_cond_wait(&pool->wake, &pool->lock);
            continue;
        }
        uint64_t num = shelf->num;
        uint64_t den = shelf->den;
        (void)pthread_mutex_unlock(&pool->lock);
        enum err err = privacy_noise_gaussian(num, den, batch, PRIVACY_POOL_FILL);
        (void)pthread_mutex_lock(&pool->lock);
        shelf = shelf_find(pool, num, den);
        if (shelf && err != E_OK) {
            shelf->wanted = 0; /* whoever draws will meet the error and tell it */
        }
        if (shelf && err == E_OK && shelf->stock->ready + PRIVACY_POOL_FILL <= PRIVACY_POOL_DEEP) {
            memcpy(shelf->stock->samples + shelf->stock->ready, batch, sizeof batch);
            shelf->stock->ready += PRIVACY_POOL_FILL;
        }
    }
    (void)pthread_mutex_unlock(&pool->lock);
    crypto_wipe(batch, sizeof batch);
    return NULL;
}

enum err privacy_pool_new(struct privacy_pool **ret)
{
    struct privacy_pool *pool = proto_alloc(1, sizeof *pool);
    if (!pool) {
        return E_NO_MEMORY;
    }
    (void)pthread_mutex_init(&pool->lock, NULL);
    (void)pthread_cond_init(&pool->wake, NULL);
    if (pthread_create(&pool->thread, NULL, pool_run, pool) != 0) {
        (void)pthread_cond_destroy(&pool->wake);
        (void)pthread_mutex_destroy(&pool->lock);
        proto_free(pool);
        return E_INTERNAL;
    }
    *ret = pool;
    return E_OK;
}

void privacy_pool_free(struct privacy_pool *pool)
{
    if (!pool) {
        return;
    }
    (void)pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    (void)pthread_cond_signal(&pool->wake);
    (void)pthread_mutex_unlock(&pool->lock);
    (void)pthread_join(pool->thread, NULL);
    for (size_t i = 0; i < PRIVACY_POOL_KEYS; i++) {
        shelf_clear(&pool->shelves[i]);
    }
    (void)pthread_cond_destroy(&pool->wake);
    (void)pthread_mutex_destroy(&pool->lock);
    proto_free(pool);
}

static bool widths_valid(uint64_t num, uint64_t den)
{
    return num != 0 && den != 0 && num <= PRIVACY_NOISE_MAX && den <= PRIVACY_NOISE_MAX;
}

enum err privacy_pool_prepare(struct privacy_pool *pool, uint64_t sigma2_num, uint64_t sigma2_den,
                              size_t count)
{
    if (!widths_valid(sigma2_num, sigma2_den)) {
        return E_LIMIT;
    }
    if (pool) {
        (void)pthread_mutex_lock(&pool->lock);
        (void)shelf_want(pool, sigma2_num, sigma2_den, count);
        (void)pthread_mutex_unlock(&pool->lock);
    }
    return E_OK;
}

static enum err draw_directly(uint64_t num, uint64_t den, int64_t *to, size_t count)
{
    int64_t batch[PRIVACY_POOL_BATCH];
    enum err err = E_OK;
    for (size_t at = 0; at < count && err == E_OK; at += PRIVACY_POOL_BATCH) {
        err = privacy_noise_gaussian(num, den, batch, PRIVACY_POOL_BATCH);
        size_t n = count - at < PRIVACY_POOL_BATCH ? count - at : PRIVACY_POOL_BATCH;
        memcpy(to + at, batch, n * sizeof *batch);
    }
    crypto_wipe(batch, sizeof batch);
    return err;
}

enum err privacy_pool_draw(struct privacy_pool *pool, uint64_t sigma2_num, uint64_t sigma2_den,
                           int64_t *to, size_t count)
{
    size_t got = 0;
    if (!widths_valid(sigma2_num, sigma2_den)) {
        memset(to, 0, count * sizeof *to);
        return E_LIMIT;
    }
    if (pool) {
        (void)pthread_mutex_lock(&pool->lock);
        struct shelf *shelf = shelf_want(pool, sigma2_num, sigma2_den, count);
        if (shelf) {
            struct stock *stock = shelf->stock;
            got = count < stock->ready ? count : stock->ready;
            stock->ready -= got;
            memcpy(to, stock->samples + stock->ready, got * sizeof *to);
            crypto_wipe(stock->samples + stock->ready, got * sizeof *to);
        }
        (void)pthread_mutex_unlock(&pool->lock);
    }
    enum err err = draw_directly(sigma2_num, sigma2_den, to + got, count - got);
    if (err != E_OK) {
        memset(to, 0, count * sizeof *to);
    }
    return err;
}

size_t privacy_pool_ready(struct privacy_pool *pool, uint64_t sigma2_num, uint64_t sigma2_den)
{
    (void)pthread_mutex_lock(&pool->lock);
    struct shelf *shelf = shelf_find(pool, sigma2_num, sigma2_den);
    size_t ready = shelf ? shelf->stock->ready : 0;
    (void)pthread_mutex_unlock(&pool->lock);
    return ready;
}
