#include "config.h"
#include "store/claim.h"

#include <pthread.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;
    struct store_claim *first;
} running = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool store_claim_enter(struct store_claim *self)
{
    bool free = true;
    pthread_mutex_lock(&running.lock);
    for (struct store_claim *claim = running.first; claim; claim = claim->next) {
        free = free && (claim->store != self->store || strcmp(claim->dataset, self->dataset) != 0);
    }
    if (free) {
        self->next = running.first;
        running.first = self;
    }
    pthread_mutex_unlock(&running.lock);
    return free;
}

void store_claim_leave(struct store_claim *self)
{
    pthread_mutex_lock(&running.lock);
    struct store_claim **at = &running.first;
    while (*at != self) {
        at = &(*at)->next;
    }
    *at = self->next;
    pthread_mutex_unlock(&running.lock);
}
