/* Which member stands behind a pipe. Filled inside sp_on_pipe, on NNG's threads. */
#include "config.h"
#include "node/peer/internal.h"

bool pipe_add(struct peer *peer, const struct sp_identity *who, bool rep)
{
    size_t same = 0, at = PIPES_MAX;
    pthread_mutex_lock(&peer->pipes_lock);
    for (size_t i = 0; i < peer->pipes_used; i++) {
        const struct pipe_entry *entry = &peer->pipes[i];
        if (!entry->id) {
            at = i < at ? i : at;
        } else if (memcmp(entry->node, who->certificate.node_id, 16) == 0 && entry->rep == rep) {
            same++;
        }
    }
    if (at == PIPES_MAX && peer->pipes_used < PIPES_MAX) {
        at = peer->pipes_used++;
    }
    bool ok = at < PIPES_MAX && same < PIPES_PER_NODE;
    if (ok) {
        struct pipe_entry *entry = &peer->pipes[at];
        *entry = (struct pipe_entry){.id = who->pipe, .rep = rep};
        entry->outgoing = rep && who->outgoing;
        entry->number = ++peer->pipe_number;
        entry->since_ms = peer_now_ms();
        entry->certificate_until = who->certificate.not_after;
        memcpy(entry->node, who->certificate.node_id, 16);
        memcpy(entry->exporter, who->exporter, 32);
    }
    pthread_mutex_unlock(&peer->pipes_lock);
    return ok;
}

static struct pipe_entry *find(struct peer *peer, uint32_t id)
{
    for (size_t i = 0; i < peer->pipes_used && id; i++) {
        if (peer->pipes[i].id == id) {
            return &peer->pipes[i];
        }
    }
    return NULL;
}

bool pipe_get(struct peer *peer, uint32_t id, struct pipe_entry *ret)
{
    pthread_mutex_lock(&peer->pipes_lock);
    const struct pipe_entry *entry = find(peer, id);
    if (entry) {
        *ret = *entry;
    }
    pthread_mutex_unlock(&peer->pipes_lock);
    return entry != NULL;
}

bool pipe_remove(struct peer *peer, uint32_t id, struct pipe_entry *ret)
{
    pthread_mutex_lock(&peer->pipes_lock);
    struct pipe_entry *entry = find(peer, id);
    if (entry) {
        *ret = *entry;
        entry->id = 0;
    }
    pthread_mutex_unlock(&peer->pipes_lock);
    return entry != NULL;
}

void pipe_greeted(struct peer *peer, uint32_t id)
{
    pthread_mutex_lock(&peer->pipes_lock);
    struct pipe_entry *entry = find(peer, id);
    if (entry) {
        entry->greeted = true;
    }
    pthread_mutex_unlock(&peer->pipes_lock);
}

void pipe_close_all(struct peer *peer, const uint8_t node[16], uint32_t than)
{
    uint32_t ids[PIPES_PER_NODE * 2 + 2];
    size_t count = 0;
    pthread_mutex_lock(&peer->pipes_lock);
    const struct pipe_entry *limit = find(peer, than);
    for (size_t i = 0; i < peer->pipes_used && count < sizeof ids / sizeof *ids; i++) {
        const struct pipe_entry *entry = &peer->pipes[i];
        if (entry->id && memcmp(entry->node, node, 16) == 0 &&
            (than == 0 || (limit && entry->rep && entry->number < limit->number))) {
            ids[count++] = entry->id;
        }
    }
    pthread_mutex_unlock(&peer->pipes_lock);
    for (size_t i = 0; i < count; i++) {
        sp_pipe_close(ids[i]);
    }
}

void pipe_close_silent(struct peer *peer, uint64_t now_ms, uint64_t *next_ms)
{
    uint32_t ids[32]; /* the rest follows with the next tick */
    size_t count = 0;
    pthread_mutex_lock(&peer->pipes_lock);
    for (size_t i = 0; i < peer->pipes_used; i++) {
        const struct pipe_entry *entry = &peer->pipes[i];
        if (!entry->id || !entry->rep || entry->greeted) {
            continue;
        }
        uint64_t until = entry->since_ms + HELLO_LIMIT_MS;
        if (until <= now_ms && count < sizeof ids / sizeof *ids) {
            ids[count++] = entry->id;
            until = now_ms + 1000; /* looked at again, should it not be gone then */
        }
        *next_ms = until < *next_ms ? until : *next_ms;
    }
    pthread_mutex_unlock(&peer->pipes_lock);
    for (size_t i = 0; i < count; i++) {
        sp_pipe_close(ids[i]);
        peer_count(peer, &peer->counters.hello_failed, 1);
    }
}
