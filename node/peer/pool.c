#include "config.h"
#include "node/peer/internal.h"

static void *pool_main(void *arg)
{
    struct pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->head && !pool->stopping) {
            pool->idle++;
            pthread_cond_wait(&pool->wake, &pool->lock);
            pool->idle--;
        }
        struct pool_job *job = pool->head;
        if (!job) {
            break;
        }
        pool->head = job->next;
        if (!pool->head) {
            pool->tail = &pool->head;
        }
        pool->queued--;
        pthread_mutex_unlock(&pool->lock);
        job->run(job);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Lock held. A pool that cannot have one more thread goes on with those that it has. */
static void pool_grow(struct pool *pool)
{
    if (pool->count < pool->most && !pool->stopping &&
        !pthread_create(&pool->threads[pool->count], NULL, pool_main, pool)) {
        pool->count++;
    }
}

enum err pool_start(struct pool *pool, size_t most)
{
    if (pthread_mutex_init(&pool->lock, NULL)) {
        return E_NO_MEMORY;
    }
    if (pthread_cond_init(&pool->wake, NULL)) {
        pthread_mutex_destroy(&pool->lock);
        return E_NO_MEMORY;
    }
    pool->tail = &pool->head;
    pool->ready = true;
    pool->most = most < POOL_THREADS_MAX ? most : POOL_THREADS_MAX;
    pthread_mutex_lock(&pool->lock);
    pool_grow(pool);
    pthread_mutex_unlock(&pool->lock);
    return pool->count ? E_OK : E_NO_MEMORY;
}

void pool_put(struct pool *pool, struct pool_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&pool->lock);
    *pool->tail = job;
    pool->tail = &job->next;
    pool->queued++;
    if (pool->idle < pool->queued) {
        pool_grow(pool);
    }
    pthread_cond_signal(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

void pool_stop(struct pool *pool)
{
    if (!pool->ready) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->count; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    pool->ready = false;
}
