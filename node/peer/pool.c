#include "config.h"
#include "node/peer/internal.h"

static void *pool_main(void *arg)
{
    struct pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->head && !pool->stopping) {
            pthread_cond_wait(&pool->wake, &pool->lock);
        }
        struct pool_job *job = pool->head;
        if (!job) {
            break;
        }
        pool->head = job->next;
        if (!pool->head) {
            pool->tail = &pool->head;
        }
        pthread_mutex_unlock(&pool->lock);
        job->run(job);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

enum err pool_start(struct pool *pool, size_t threads)
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
    size_t most = sizeof pool->threads / sizeof *pool->threads;
    for (size_t i = 0; i < threads && i < most; i++) {
        if (pthread_create(&pool->threads[i], NULL, pool_main, pool)) {
            return E_NO_MEMORY;
        }
        pool->count++;
    }
    return E_OK;
}

void pool_put(struct pool *pool, struct pool_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&pool->lock);
    *pool->tail = job;
    pool->tail = &job->next;
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
