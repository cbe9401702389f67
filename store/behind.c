#include "config.h"
#include "store/behind.h"

#include "crypto/memory.h"
#include "proto/alloc.h"

#include <pthread.h>

struct store_behind {
    store_behind_put *put;
    void *user;
    size_t size;
    uint8_t *filling;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t turn;
    /* under the lock */
    uint8_t *putting; /* the thread's while FULL */
    uint64_t index;
    size_t len;
    bool full, over;
    enum err err;
    struct err_info info;
};

static void *put_main(void *user)
{
    struct store_behind *behind = user;
    pthread_mutex_lock(&behind->lock);
    for (;;) {
        while (!behind->full && !behind->over) {
            pthread_cond_wait(&behind->turn, &behind->lock);
        }
        if (!behind->full) {
            break;
        }
        enum err err = behind->err;
        if (!err) {
            struct err_info info = {0};
            pthread_mutex_unlock(&behind->lock);
            err = behind->put(behind->user, behind->index, span_of(behind->putting, behind->len),
                              &info);
            pthread_mutex_lock(&behind->lock);
            behind->info = info;
        }
        behind->err = err;
        behind->full = false;
        pthread_cond_signal(&behind->turn);
    }
    pthread_mutex_unlock(&behind->lock);
    return NULL;
}

static void behind_free(struct store_behind *behind)
{
    if (behind->filling) {
        crypto_wipe(behind->filling, behind->size);
    }
    if (behind->putting) {
        crypto_wipe(behind->putting, behind->size);
    }
    proto_free(behind->filling);
    proto_free(behind->putting);
    pthread_cond_destroy(&behind->turn);
    pthread_mutex_destroy(&behind->lock);
    proto_free(behind);
}

enum err store_behind_new(size_t size, store_behind_put *put, void *user, struct store_behind **ret)
{
    struct store_behind *behind = proto_alloc(1, sizeof *behind);
    if (!behind) {
        return E_NO_MEMORY;
    }
    behind->put = put;
    behind->user = user;
    behind->size = size;
    if (pthread_mutex_init(&behind->lock, NULL) != 0) {
        proto_free(behind);
        return E_NO_MEMORY;
    }
    if (pthread_cond_init(&behind->turn, NULL) != 0) {
        pthread_mutex_destroy(&behind->lock);
        proto_free(behind);
        return E_NO_MEMORY;
    }
    behind->filling = proto_alloc_raw(size, 1);
    behind->putting = proto_alloc_raw(size, 1);
    enum err err = !behind->filling || !behind->putting ? E_NO_MEMORY : E_OK;
    if (!err && pthread_create(&behind->thread, NULL, put_main, behind) != 0) {
        err = E_BUSY;
    }
    if (err) {
        behind_free(behind);
        return err;
    }
    *ret = behind;
    return E_OK;
}

uint8_t *store_behind_buffer(struct store_behind *behind)
{
    return behind->filling;
}

enum err store_behind_push(struct store_behind *behind, uint64_t index, size_t len,
                           struct err_info *reterr)
{
    pthread_mutex_lock(&behind->lock);
    while (behind->full) {
        pthread_cond_wait(&behind->turn, &behind->lock);
    }
    enum err err = behind->err;
    if (!err) {
        uint8_t *filled = behind->filling;
        behind->filling = behind->putting;
        behind->putting = filled;
        behind->index = index;
        behind->len = len;
        behind->full = true;
        pthread_cond_signal(&behind->turn);
    } else if (reterr) {
        *reterr = behind->info;
    }
    pthread_mutex_unlock(&behind->lock);
    return err;
}

enum err store_behind_end(struct store_behind *behind, struct err_info *reterr)
{
    if (!behind) {
        return E_OK;
    }
    pthread_mutex_lock(&behind->lock);
    behind->over = true;
    pthread_cond_signal(&behind->turn);
    pthread_mutex_unlock(&behind->lock);
    pthread_join(behind->thread, NULL);
    enum err err = behind->err;
    if (err && reterr) {
        *reterr = behind->info;
    }
    behind_free(behind);
    return err;
}
