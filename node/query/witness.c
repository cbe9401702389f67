#include "config.h"
#include "node/query/witness.h"

#include "proto/alloc.h"
#include "store/witness.h"

#include <pthread.h>

#define WITNESSES_MAX 1024

struct waiting {
    struct waiting *next;
    struct store_audit_head head;
    uint8_t point[65];
};

struct query_witnesses {
    struct query_context *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct waiting *first;
    size_t count;
    bool stopping;
};

static void write_one(struct query_context *context, const struct waiting *waiting)
{
    struct err_info info = {0};
    enum err err = store_witness_put(context->store, &waiting->head, waiting->point, &info);
    if (err && err != E_EXISTS) {
        context->log(context->user, err == E_FORKED ? PEER_LOG_ALARM : PEER_LOG_WARN, "witness",
                     info.text);
    }
}

static void *write_main(void *arg)
{
    struct query_witnesses *w = arg;
    pthread_mutex_lock(&w->lock);
    while (w->first || !w->stopping) {
        struct waiting *taken = w->first;
        w->first = NULL;
        w->count = 0;
        if (!taken) {
            pthread_cond_wait(&w->wake, &w->lock);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        while (taken) {
            struct waiting *next = taken->next;
            write_one(w->context, taken);
            proto_free(taken);
            taken = next;
        }
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

enum err query_witnesses_new(struct query_context *context, struct query_witnesses **ret)
{
    struct query_witnesses *w = proto_alloc(1, sizeof *w);
    if (!w) {
        return E_NO_MEMORY;
    }
    w->context = context;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    if (pthread_create(&w->thread, NULL, write_main, w)) {
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->lock);
        proto_free(w);
        return E_NO_MEMORY;
    }
    *ret = w;
    return E_OK;
}

void query_witnesses_free(struct query_witnesses *w)
{
    if (!w) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    proto_free(w);
}

/* Lock held. One of the same node that waits and is lower; two of one number are both written, so that a fork is seen. */
static struct waiting *overtaken(struct query_witnesses *w, const struct store_audit_head *head)
{
    struct waiting *at = w->first;
    while (at && (memcmp(at->head.node_id, head->node_id, 16) != 0 || at->head.seq >= head->seq)) {
        at = at->next;
    }
    return at;
}

static bool put(struct query_witnesses *w, const struct waiting *new)
{
    struct waiting *at = overtaken(w, &new->head);
    if (at) {
        struct waiting *next = at->next;
        *at = *new;
        at->next = next;
        return true;
    }
    at = w->count < WITNESSES_MAX ? proto_alloc(1, sizeof *at) : NULL;
    if (at) {
        *at = *new;
        at->next = w->first;
        w->first = at;
        w->count++;
    }
    return at != NULL;
}

void query_witness_keep(struct query_context *context, const struct peer_member *member,
                        struct span head)
{
    struct query_witnesses *w = context->witnesses;
    struct waiting new = {.next = NULL};
    if (memcmp(member->id, context->node_id, 16) == 0 || store_audit_head_decode(head, &new.head)) {
        return;
    }
    memcpy(new.point, member->point, sizeof new.point);
    pthread_mutex_lock(&w->lock);
    bool taken = put(w, &new);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    if (!taken) {
        write_one(context, &new); /* too many wait: whoever brings one more waits as well */
    }
}
