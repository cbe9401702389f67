#include "config.h"
#include "node/query/damage.h"

#include "proto/alloc.h"

#include <pthread.h>
#include <string.h>

struct query_damage {
    pthread_mutex_t lock;
    uint8_t uuids[QUERY_DAMAGE_MAX][16]; /* from the oldest to the newest */
    size_t count;
};

struct query_damage *query_damage_new(void)
{
    struct query_damage *damage = proto_alloc(1, sizeof *damage);
    if (damage && pthread_mutex_init(&damage->lock, NULL)) {
        proto_free(damage);
        damage = NULL;
    }
    return damage;
}

void query_damage_free(struct query_damage *damage)
{
    if (damage) {
        pthread_mutex_destroy(&damage->lock);
        proto_free(damage);
    }
}

/* Under the lock. COUNT: it is not there. */
static size_t place_of(const struct query_damage *damage, const uint8_t uuid[16])
{
    size_t at = 0;
    while (at < damage->count && memcmp(damage->uuids[at], uuid, 16) != 0) {
        at++;
    }
    return at;
}

static void remove_at(struct query_damage *damage, size_t at)
{
    damage->count--;
    memmove(damage->uuids[at], damage->uuids[at + 1], (damage->count - at) * 16);
}

void query_damage_note(struct query_damage *damage, const uint8_t uuid[16])
{
    if (!damage) {
        return;
    }
    pthread_mutex_lock(&damage->lock);
    size_t at = place_of(damage, uuid);
    if (at < damage->count) {
        remove_at(damage, at);
    } else if (damage->count == QUERY_DAMAGE_MAX) {
        remove_at(damage, 0);
    }
    memcpy(damage->uuids[damage->count++], uuid, 16);
    pthread_mutex_unlock(&damage->lock);
}

void query_damage_forget_all(struct query_damage *damage)
{
    if (damage) {
        pthread_mutex_lock(&damage->lock);
        damage->count = 0;
        pthread_mutex_unlock(&damage->lock);
    }
}

bool query_damage_met(struct query_damage *damage, const uint8_t uuid[16])
{
    if (!damage) {
        return false;
    }
    pthread_mutex_lock(&damage->lock);
    bool met = place_of(damage, uuid) < damage->count;
    pthread_mutex_unlock(&damage->lock);
    return met;
}
