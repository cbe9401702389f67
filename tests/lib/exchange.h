/* A sp_done that a test can wait for.
 *
 *     struct exchange x;  exchange_init(&x);
 *     sp_ctx_request(ctx, &part, 1, exchange_done, &x);
 *     rv = exchange_wait(&x, 5000, &msg);        NNG_EAGAIN: not yet
 *
 * One operation at a time. Threads: any. */
#ifndef CONCORDAT_TESTS_LIB_EXCHANGE_H
#define CONCORDAT_TESTS_LIB_EXCHANGE_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "node/peer/sp.h"

struct exchange {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    int rv;
    struct sp_message *msg;
};

static inline void exchange_init(struct exchange *x)
{
    *x = (struct exchange){.done = false};
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->changed, NULL);
}

static inline void exchange_done(void *user, int rv, struct sp_message *msg)
{
    struct exchange *x = user;
    pthread_mutex_lock(&x->lock);
    x->done = true;
    x->rv = rv;
    x->msg = msg;
    pthread_cond_signal(&x->changed);
    pthread_mutex_unlock(&x->lock);
}

/* The result, and then X is ready for another operation. */
static inline int exchange_wait(struct exchange *x, unsigned limit_ms, struct sp_message **ret)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += limit_ms / 1000;
    until.tv_nsec += (long)(limit_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&x->lock);
    while (!x->done && !pthread_cond_timedwait(&x->changed, &x->lock, &until)) {
        continue;
    }
    int rv = x->done ? x->rv : NNG_EAGAIN;
    *ret = x->done ? x->msg : NULL;
    x->done = false;
    pthread_mutex_unlock(&x->lock);
    return rv;
}

#endif
