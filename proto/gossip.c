#include "config.h"
#include "proto/gossip.h"

#include <assert.h>
#include <stdlib.h>

#define BUCKETS        256
#define PING_BYTES     34
#define DIGEST_BYTES   (2 + BUCKETS * 8)
#define IDS_HEAD       (2 + 1 + 32)
#define WANT_MS        2000
#define SYNC_MS        5000
#define PONG_MS        3000
#define SETTLE_MS      500 /* no digest right after a change: the difference is likely on its way */
#define MISSES_DEAD    3
#define HLC_AHEAD_MS   ((uint64_t)600 * 1000)
#define SCORE_FRESH    200
#define SCORE_CAP      20000
#define SCORE_BAD      (-20000)
#define SCORE_NONSENSE (-10000)
#define SCORE_EMPTY    (-5000) /* claimed an id and did not deliver it */
#define SCORE_CLOSE    (-50000)
#define NEVER          UINT64_MAX

/* Refills continuously, in parts of a token: at N a minute, each millisecond brings exactly N parts. */
#define PARTS 60000u
struct bucket {
    uint64_t parts;
    uint64_t at_ms;
};

struct slot {
    uint8_t issuer[16];
    uint8_t key[16];
    uint64_t seq;
    uint8_t head[16];
    uint8_t other[16]; /* second best of the same seq */
    uint8_t kind;
    bool final;
    bool has_other;
    bool other_final;
    bool forked;
};

struct issuer {
    uint8_t id[16];
    uint32_t slots;
    struct bucket versions;
};

enum job_state {
    JOB_FREE,
    JOB_VERIFYING,
    JOB_STORING,
};

struct job {
    enum job_state state;
    uint16_t generation;
    uint32_t from;
    uint8_t rid[16];
    uint8_t issuer[16];
    uint8_t key[16];
    uint64_t seq;
    uint8_t kind;
    bool final;
};

struct want {
    bool used;
    uint8_t rid[16];
    uint32_t link;
    uint32_t spare; /* also announced it */
    uint64_t until_ms;
};

struct link {
    enum proto_gossip_liveness state;
    bool active;
    bool fresh; /* came up and has not been compared yet */
    bool root_known;
    bool sync; /* a DIGEST of ours is unanswered */
    bool pinged;
    uint8_t misses;
    uint8_t root[16];
    uint64_t count;
    bool clock_known;
    int64_t clock_ahead_ms;
    uint64_t heard_ms;
    uint64_t ping_at_ms;
    uint64_t pong_until_ms;
    uint64_t sync_until_ms;
    uint64_t digest_at_ms; /* NEVER: none is planned */
    uint64_t decay_at_ms;
    int32_t score;
    struct bucket records;
};

struct proto_gossip {
    struct proto_gossip_config config;
    uint64_t random;
    struct slot *slots;
    uint32_t slot_count;
    uint32_t *slot_index; /* by (kind, issuer, key); value + 1 */
    uint32_t slot_mask;
    struct issuer *issuers;
    uint32_t issuer_count;
    uint32_t *issuer_index;
    uint32_t issuer_mask;
    uint32_t *rid_index; /* by rid; slot * 2 + (1 for the other version) + 1 */
    uint32_t rid_mask;
    uint64_t sums[BUCKETS][4];
    uint32_t counts[BUCKETS];
    uint64_t rids;
    struct link *links;
    uint32_t active;
    struct job jobs[PROTO_GOSSIP_JOBS];
    struct want wants[PROTO_GOSSIP_WANTS];
    uint64_t changed_ms;
    uint64_t next_ms;
    uint64_t follow_ms; /* when one active link is pinged because something new was sent */
    struct proto_gossip_counters counters;
};

/* --- small things ----------------------------------------------------------------------------------------------- */

/* splitmix64: only spreads load; nothing secret depends on it but the order of hash tables. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t next_random(struct proto_gossip *g)
{
    g->random += UINT64_C(0x9e3779b97f4a7c15);
    return mix(g->random);
}

static uint64_t random_below(struct proto_gossip *g, uint64_t n)
{
    return n ? next_random(g) % n : 0;
}

static void due(struct proto_gossip *g, uint64_t at_ms)
{
    if (at_ms < g->next_ms) {
        g->next_ms = at_ms;
    }
}

static void refill(struct bucket *b, uint64_t now_ms, uint64_t per_min, uint64_t burst)
{
    uint64_t passed = now_ms > b->at_ms ? now_ms - b->at_ms : 0;
    if (b->at_ms == 0 || passed > 3600000) {
        b->parts = burst * PARTS; /* the first use, or long enough for any burst */
    } else {
        b->parts += passed * per_min;
        if (b->parts > burst * PARTS) {
            b->parts = burst * PARTS;
        }
    }
    b->at_ms = now_ms ? now_ms : 1;
}

static uint32_t table_size(uint32_t entries)
{
    uint32_t size = 16;
    while (size < entries * 2u) {
        size *= 2;
    }
    return size;
}

/* --- actions ---------------------------------------------------------------------------------------------------- */

static struct proto_gossip_action *emit(struct proto_gossip_actions *out,
                                        enum proto_gossip_action_kind kind, uint32_t link)
{
    if (out->count == PROTO_GOSSIP_ACTIONS) {
        out->dropped++;
        return NULL;
    }
    struct proto_gossip_action *action = &out->items[out->count++];
    *action = (struct proto_gossip_action){.kind = kind, .link = link};
    return action;
}

static uint8_t *out_bytes(struct proto_gossip_actions *out, size_t len)
{
    if (sizeof out->bytes - out->used < len) {
        out->dropped++;
        return NULL;
    }
    uint8_t *at = out->bytes + out->used;
    out->used += len;
    return at;
}

static void send_bytes(struct proto_gossip_actions *out, uint32_t link, const uint8_t *at,
                       size_t len)
{
    struct proto_gossip_action *action = emit(out, PROTO_GOSSIP_SEND, link);
    if (action) {
        action->bytes = span_of(at, len);
    }
}

static void send_ids(struct proto_gossip_actions *out, uint32_t link,
                     enum proto_gossip_message type, const uint8_t *ids, size_t count)
{
    uint8_t *at = count ? out_bytes(out, 2 + count * 16) : NULL;
    if (!at) {
        return;
    }
    at[0] = (uint8_t)type;
    at[1] = 1;
    memcpy(at + 2, ids, count * 16);
    send_bytes(out, link, at, 2 + count * 16);
}

static void send_record(struct proto_gossip_actions *out, uint32_t link, const uint8_t rid[16])
{
    uint8_t *at = out_bytes(out, 16);
    struct proto_gossip_action *action = at ? emit(out, PROTO_GOSSIP_SEND_RECORDS, link) : NULL;
    if (action) {
        memcpy(at, rid, 16);
        action->bytes = span_of(at, 16);
    }
}

/* --- the set ---------------------------------------------------------------------------------------------------- */

static uint64_t hash16(const struct proto_gossip *g, const uint8_t id[16])
{
    return mix(get_be64(id) ^ mix(get_be64(id + 8) ^ g->config.seed));
}

static const uint8_t *rid_of(const struct proto_gossip *g, uint32_t value)
{
    const struct slot *slot = &g->slots[(value - 1) / 2];
    return (value - 1) % 2 ? slot->other : slot->head;
}

/* The place of RID in the index, or the empty place where it belongs. */
static uint32_t rid_place(const struct proto_gossip *g, const uint8_t rid[16])
{
    uint32_t at = (uint32_t)hash16(g, rid) & g->rid_mask;
    while (g->rid_index[at] && memcmp(rid_of(g, g->rid_index[at]), rid, 16) != 0) {
        at = (at + 1) & g->rid_mask;
    }
    return at;
}

bool proto_gossip_has(const struct proto_gossip *g, const uint8_t rid[16])
{
    return g->rid_index[rid_place(g, rid)] != 0;
}

bool proto_gossip_key(const struct proto_gossip *g, const uint8_t rid[16], uint8_t ret_issuer[16],
                      uint8_t ret_key[16], uint64_t *ret_kind, bool *ret_second)
{
    uint32_t value = g->rid_index[rid_place(g, rid)];
    if (!value) {
        return false;
    }
    const struct slot *slot = &g->slots[(value - 1) / 2];
    memcpy(ret_issuer, slot->issuer, 16);
    memcpy(ret_key, slot->key, 16);
    *ret_kind = slot->kind;
    *ret_second = (value - 1) % 2 == 1;
    return true;
}

/* Adds (or takes away, which is adding the complement) the rid's element to the sum of its bucket. */
static void sum_change(struct proto_gossip *g, const uint8_t rid[16], bool add)
{
    uint8_t element[PROTO_HASH_SIZE];
    struct span parts[] = {span_of("concordat1-fp", 14), span_of(rid, 16)};
    g->config.hash->sha256(parts, 2, element);
    uint64_t *sum = g->sums[rid[0]];
    uint64_t carry = add ? 0 : 1;
    for (size_t i = 4; i-- > 0;) {
        uint64_t word = get_be64(element + i * 8);
        unsigned __int128 total = (unsigned __int128)sum[i] + (add ? word : ~word) + carry;
        sum[i] = (uint64_t)total;
        carry = (uint64_t)(total >> 64);
    }
    if (add) {
        g->counts[rid[0]]++;
        g->rids++;
    } else {
        g->counts[rid[0]]--;
        g->rids--;
    }
}

static void rid_insert(struct proto_gossip *g, uint32_t slot, bool other)
{
    const uint8_t *rid = other ? g->slots[slot].other : g->slots[slot].head;
    g->rid_index[rid_place(g, rid)] = slot * 2 + (other ? 1 : 0) + 1;
    sum_change(g, rid, true);
}

/* Linear probing without tombstones: entries behind the hole move up while that brings them nearer to their place. */
static void rid_remove(struct proto_gossip *g, const uint8_t rid[16])
{
    uint32_t hole = rid_place(g, rid);
    assert(g->rid_index[hole]);
    uint32_t at = hole;
    for (;;) {
        at = (at + 1) & g->rid_mask;
        uint32_t value = g->rid_index[at];
        if (!value) {
            break;
        }
        uint32_t home = (uint32_t)hash16(g, rid_of(g, value)) & g->rid_mask;
        if (((at - home) & g->rid_mask) >= ((at - hole) & g->rid_mask)) {
            g->rid_index[hole] = value;
            hole = at;
        }
    }
    g->rid_index[hole] = 0;
    sum_change(g, rid, false);
}

static uint32_t slot_place(const struct proto_gossip *g, uint8_t kind, const uint8_t issuer[16],
                           const uint8_t key[16])
{
    uint32_t at = (uint32_t)mix(hash16(g, issuer) ^ hash16(g, key) * 3 ^ kind) & g->slot_mask;
    while (g->slot_index[at]) {
        const struct slot *slot = &g->slots[g->slot_index[at] - 1];
        if (slot->kind == kind && memcmp(slot->issuer, issuer, 16) == 0 &&
            memcmp(slot->key, key, 16) == 0) {
            break;
        }
        at = (at + 1) & g->slot_mask;
    }
    return at;
}

static struct issuer *issuer_find(struct proto_gossip *g, const uint8_t id[16], bool add)
{
    uint32_t at = (uint32_t)hash16(g, id) & g->issuer_mask;
    while (g->issuer_index[at] && memcmp(g->issuers[g->issuer_index[at] - 1].id, id, 16) != 0) {
        at = (at + 1) & g->issuer_mask;
    }
    if (g->issuer_index[at]) {
        return &g->issuers[g->issuer_index[at] - 1];
    }
    if (!add || g->issuer_count == g->config.issuers) {
        return NULL;
    }
    g->issuer_index[at] = ++g->issuer_count;
    struct issuer *issuer = &g->issuers[g->issuer_count - 1];
    memcpy(issuer->id, id, 16);
    return issuer;
}

/* The merge order of record.h, on what a job and a slot keep of a record. */
static int compare(bool final_a, uint64_t seq_a, const uint8_t rid_a[16], bool final_b,
                   uint64_t seq_b, const uint8_t rid_b[16])
{
    if (final_a != final_b) {
        return final_a ? 1 : -1;
    }
    if (seq_a != seq_b) {
        return seq_a > seq_b ? 1 : -1;
    }
    return -memcmp(rid_a, rid_b, 16);
}

enum merge {
    MERGE_OLD,
    MERGE_NEW_SLOT,
    MERGE_HEAD,      /* replaces the head */
    MERGE_HEAD_FORK, /* replaces the head, which stays as the other version */
    MERGE_OTHER,     /* loses against the head and stays as proof */
};

static enum merge merge_judge(const struct proto_gossip *g, const struct job *job,
                              uint32_t *ret_slot)
{
    uint32_t value = g->slot_index[slot_place(g, job->kind, job->issuer, job->key)];
    if (!value) {
        return MERGE_NEW_SLOT;
    }
    *ret_slot = value - 1;
    const struct slot *slot = &g->slots[value - 1];
    int order = compare(job->final, job->seq, job->rid, slot->final, slot->seq, slot->head);
    if (order > 0) {
        return job->seq == slot->seq ? MERGE_HEAD_FORK : MERGE_HEAD;
    }
    if (order == 0 || job->seq != slot->seq) {
        return MERGE_OLD;
    }
    if (slot->has_other &&
        compare(job->final, job->seq, job->rid, slot->other_final, slot->seq, slot->other) <= 0) {
        return MERGE_OLD;
    }
    return MERGE_OTHER;
}

static uint32_t slot_new(struct proto_gossip *g, const struct job *job)
{
    struct issuer *issuer = issuer_find(g, job->issuer, true);
    if (!issuer || g->slot_count == g->config.records) {
        g->counters.full++;
        return UINT32_MAX;
    }
    uint32_t at = slot_place(g, job->kind, job->issuer, job->key);
    uint32_t number = g->slot_count++;
    g->slot_index[at] = number + 1;
    issuer->slots++;
    struct slot *slot = &g->slots[number];
    *slot = (struct slot){.kind = job->kind};
    memcpy(slot->issuer, job->issuer, 16);
    memcpy(slot->key, job->key, 16);
    return number;
}

static void slot_drop_other(struct proto_gossip *g, struct slot *slot)
{
    if (slot->has_other) {
        rid_remove(g, slot->other);
        slot->has_other = false;
    }
}

static void slot_set_head(struct proto_gossip *g, uint32_t number, const struct job *job)
{
    struct slot *slot = &g->slots[number];
    memcpy(slot->head, job->rid, 16);
    slot->seq = job->seq;
    slot->final = job->final;
    rid_insert(g, number, false);
}

/* Puts the job's record into the set; false: it is not newer, or there is no room. */
static bool merge_apply(struct proto_gossip *g, const struct job *job, bool *ret_forked)
{
    uint32_t number = UINT32_MAX;
    enum merge merge = merge_judge(g, job, &number);
    if (merge == MERGE_NEW_SLOT) {
        number = slot_new(g, job);
        if (number == UINT32_MAX) {
            return false;
        }
        slot_set_head(g, number, job);
        *ret_forked = false;
        return true;
    }
    struct slot *slot = &g->slots[number];
    switch (merge) {
    case MERGE_HEAD:
        slot_drop_other(g, slot);
        rid_remove(g, slot->head);
        slot_set_head(g, number, job);
        break;
    case MERGE_HEAD_FORK:
        slot_drop_other(g, slot);
        rid_remove(g, slot->head);
        memcpy(slot->other, slot->head, 16);
        slot->other_final = slot->final;
        slot->has_other = true;
        rid_insert(g, number, true);
        slot_set_head(g, number, job);
        break;
    case MERGE_OTHER:
        slot_drop_other(g, slot);
        memcpy(slot->other, job->rid, 16);
        slot->other_final = job->final;
        slot->has_other = true;
        rid_insert(g, number, true);
        break;
    default:
        return false;
    }
    if (merge != MERGE_HEAD && !slot->forked) {
        slot->forked = true;
        g->counters.forked++;
    }
    *ret_forked = slot->forked;
    return true;
}

static void fingerprint(const struct proto_gossip *g, const uint64_t sum[4], uint64_t count,
                        uint8_t ret[16])
{
    uint8_t bytes[40];
    for (size_t i = 0; i < 4; i++) {
        put_be64(bytes + i * 8, sum[i]);
    }
    put_be64(bytes + 32, count);
    uint8_t digest[PROTO_HASH_SIZE];
    struct span parts[] = {span_of(bytes, sizeof bytes)};
    g->config.hash->sha256(parts, 1, digest);
    memcpy(ret, digest, 16);
}

uint64_t proto_gossip_root(const struct proto_gossip *g, uint8_t ret_root[16])
{
    uint64_t total[4] = {0};
    for (size_t b = 0; b < BUCKETS; b++) {
        uint64_t carry = 0;
        for (size_t i = 4; i-- > 0;) {
            unsigned __int128 word = (unsigned __int128)total[i] + g->sums[b][i] + carry;
            total[i] = (uint64_t)word;
            carry = (uint64_t)(word >> 64);
        }
    }
    fingerprint(g, total, g->rids, ret_root);
    return g->rids;
}

/* --- links ------------------------------------------------------------------------------------------------------ */

static void set_liveness(struct proto_gossip_actions *out, struct link *link, uint32_t number,
                         enum proto_gossip_liveness to)
{
    if (link->state != to) {
        link->state = to;
        struct proto_gossip_action *action = emit(out, PROTO_GOSSIP_LIVENESS, number);
        if (action) {
            action->liveness = to;
        }
    }
}

static void score(struct proto_gossip *g, struct proto_gossip_actions *out, uint32_t number,
                  int32_t points)
{
    if (number >= g->config.links) {
        return;
    }
    struct link *link = &g->links[number];
    int32_t before = link->score;
    link->score += points;
    if (link->score > SCORE_CAP) {
        link->score = SCORE_CAP;
    }
    if (link->score < 2 * SCORE_CLOSE) {
        link->score = 2 * SCORE_CLOSE;
    }
    if (before >= SCORE_CLOSE && link->score < SCORE_CLOSE) {
        emit(out, PROTO_GOSSIP_CLOSE, number);
    }
}

/* Half-life ten minutes: 933/1000 a minute. */
static void score_decay(struct link *link, uint64_t now_ms)
{
    if (now_ms - link->decay_at_ms > UINT64_C(3600000)) {
        link->score = link->decay_at_ms ? link->score / 64 : link->score;
        link->decay_at_ms = now_ms;
    }
    while (now_ms - link->decay_at_ms >= 60000) {
        link->score = (int32_t)((int64_t)link->score * 933 / 1000);
        link->decay_at_ms += 60000;
    }
}

static uint64_t ping_interval(struct proto_gossip *g, uint64_t now_ms)
{
    uint64_t base = g->config.ping_ms;
    if (!base) {
        uint64_t quiet = now_ms - g->changed_ms;
        base = quiet < 60000 ? 5000 : quiet < 180000 ? 10000 : 30000;
    }
    return base * 4 / 5 + random_below(g, base * 2 / 5 + 1);
}

static void plan_ping(struct proto_gossip *g, struct link *link, uint64_t at_ms)
{
    if (at_ms < link->ping_at_ms) {
        link->ping_at_ms = at_ms;
    }
    due(g, at_ms);
}

static void send_ping(struct proto_gossip *g, struct proto_gossip_actions *out, uint32_t number,
                      enum proto_gossip_message type, uint64_t wall_ms)
{
    uint8_t *at = out_bytes(out, PING_BYTES);
    if (!at) {
        return;
    }
    at[0] = (uint8_t)type;
    at[1] = 1;
    uint64_t count = proto_gossip_root(g, at + 2);
    put_be64(at + 18, count);
    put_be64(at + 26, wall_ms);
    send_bytes(out, number, at, PING_BYTES);
}

static void activate(struct proto_gossip *g, struct link *link, const struct proto_gossip_event *e)
{
    link->active = true;
    link->ping_at_ms = e->now_ms;
    g->active++;
    due(g, e->now_ms);
}

/* A random link that is up and not active takes the place of one that went. */
static void activate_another(struct proto_gossip *g, const struct proto_gossip_event *e)
{
    uint32_t start = (uint32_t)random_below(g, g->config.links);
    for (uint32_t i = 0; i < g->config.links && g->active < PROTO_GOSSIP_ACTIVE; i++) {
        struct link *link = &g->links[(start + i) % g->config.links];
        if (link->state != PROTO_GOSSIP_DOWN && !link->active) {
            activate(g, link, e);
        }
    }
}

static void on_link_up(struct proto_gossip *g, const struct proto_gossip_event *e,
                       struct proto_gossip_actions *out)
{
    struct link *link = &g->links[e->link];
    if (link->state != PROTO_GOSSIP_DOWN) {
        return;
    }
    link->fresh = true;
    link->misses = 0;
    link->pinged = false;
    link->sync = false;
    link->digest_at_ms = NEVER;
    link->ping_at_ms = NEVER;
    link->heard_ms = e->now_ms;
    set_liveness(out, link, e->link, PROTO_GOSSIP_UP);
    if (g->active < PROTO_GOSSIP_ACTIVE) {
        activate(g, link, e);
    } else {
        plan_ping(g, link, e->now_ms); /* once: it may have missed much */
    }
}

static void on_link_down(struct proto_gossip *g, const struct proto_gossip_event *e,
                         struct proto_gossip_actions *out)
{
    struct link *link = &g->links[e->link];
    if (link->state == PROTO_GOSSIP_DOWN) {
        return;
    }
    set_liveness(out, link, e->link, PROTO_GOSSIP_DOWN);
    link->sync = link->pinged = link->root_known = false;
    link->digest_at_ms = link->ping_at_ms = NEVER;
    if (link->active) {
        link->active = false;
        g->active--;
        activate_another(g, e);
    }
}

static void send_digest(struct proto_gossip *g, const struct proto_gossip_event *e,
                        struct proto_gossip_actions *out, uint32_t number)
{
    struct link *link = &g->links[number];
    link->digest_at_ms = NEVER;
    uint8_t *at = link->sync ? NULL : out_bytes(out, DIGEST_BYTES);
    if (!at) {
        return;
    }
    at[0] = PROTO_GOSSIP_DIGEST;
    at[1] = 1;
    for (size_t b = 0; b < BUCKETS; b++) {
        uint8_t print[16];
        fingerprint(g, g->sums[b], g->counts[b], print);
        memcpy(at + 2 + b * 8, print, 8);
    }
    send_bytes(out, number, at, DIGEST_BYTES);
    link->sync = true;
    link->sync_until_ms = e->now_ms + SYNC_MS;
    due(g, link->sync_until_ms);
    g->counters.digests++;
}

static void plan_digest(struct proto_gossip *g, struct link *link, uint64_t at_ms)
{
    if (at_ms < link->digest_at_ms) {
        link->digest_at_ms = at_ms;
    }
    due(g, at_ms);
}

/* --- wants: ids asked for and not yet delivered ------------------------------------------------------------------ */

static struct want *want_find(struct proto_gossip *g, const uint8_t rid[16])
{
    for (size_t i = 0; i < PROTO_GOSSIP_WANTS; i++) {
        if (g->wants[i].used && memcmp(g->wants[i].rid, rid, 16) == 0) {
            return &g->wants[i];
        }
    }
    return NULL;
}

static bool job_pending(const struct proto_gossip *g, const uint8_t rid[16])
{
    for (size_t i = 0; i < PROTO_GOSSIP_JOBS; i++) {
        if (g->jobs[i].state != JOB_FREE && memcmp(g->jobs[i].rid, rid, 16) == 0) {
            return true;
        }
    }
    return false;
}

/* True: RID is to be asked for now. */
static bool want_add(struct proto_gossip *g, uint32_t link, const uint8_t rid[16], uint64_t now_ms,
                     size_t *scan)
{
    if (proto_gossip_has(g, rid) || job_pending(g, rid)) {
        return false;
    }
    struct want *want = want_find(g, rid);
    if (want) {
        if (want->link != link) {
            want->spare = link;
        }
        return false;
    }
    while (*scan < PROTO_GOSSIP_WANTS && g->wants[*scan].used) {
        (*scan)++;
    }
    if (*scan == PROTO_GOSSIP_WANTS) {
        return false;
    }
    want = &g->wants[*scan];
    *want = (struct want){
        .used = true, .link = link, .spare = PROTO_GOSSIP_NONE, .until_ms = now_ms + WANT_MS};
    memcpy(want->rid, rid, 16);
    due(g, want->until_ms);
    return true;
}

static void want_done(struct proto_gossip *g, const uint8_t rid[16])
{
    struct want *want = want_find(g, rid);
    if (want) {
        want->used = false;
    }
}

/* Asks LINK for those of IDS that are neither here nor on their way; true: all of them are. */
static bool ask(struct proto_gossip *g, const struct proto_gossip_event *e,
                struct proto_gossip_actions *out, const uint8_t *ids, size_t count)
{
    uint8_t wanted[PROTO_GOSSIP_GET_MAX * 16];
    size_t n = 0, scan = 0;
    for (size_t i = 0; i < count; i++) {
        if (want_add(g, e->link, ids + i * 16, e->now_ms, &scan)) {
            memcpy(wanted + n++ * 16, ids + i * 16, 16);
        }
        if (n == PROTO_GOSSIP_GET_MAX) {
            send_ids(out, e->link, PROTO_GOSSIP_GET, wanted, n);
            n = 0;
        }
    }
    send_ids(out, e->link, PROTO_GOSSIP_GET, wanted, n);
    return scan < PROTO_GOSSIP_WANTS;
}

static void wants_expire(struct proto_gossip *g, const struct proto_gossip_event *e,
                         struct proto_gossip_actions *out)
{
    for (size_t i = 0; i < PROTO_GOSSIP_WANTS; i++) {
        struct want *want = &g->wants[i];
        if (!want->used) {
            continue;
        }
        if (e->now_ms < want->until_ms) {
            due(g, want->until_ms);
            continue;
        }
        /* A lost message looks the same as a liar, hence a small price that decay forgives. */
        if (g->links[want->link].state == PROTO_GOSSIP_UP) {
            score(g, out, want->link, SCORE_EMPTY / 100);
        }
        if (want->spare != PROTO_GOSSIP_NONE && g->links[want->spare].state != PROTO_GOSSIP_DOWN) {
            want->link = want->spare;
            want->spare = PROTO_GOSSIP_NONE;
            want->until_ms = e->now_ms + WANT_MS;
            due(g, want->until_ms);
            send_ids(out, want->link, PROTO_GOSSIP_GET, want->rid, 1);
        } else {
            want->used = false;
        }
    }
}

/* --- records ---------------------------------------------------------------------------------------------------- */

static void forward(struct proto_gossip *g, const struct proto_gossip_event *e,
                    struct proto_gossip_actions *out, const uint8_t rid[16], uint32_t from,
                    bool to_all)
{
    uint32_t n = g->config.links;
    uint32_t start = (uint32_t)random_below(g, n);
    uint32_t eager = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t number = (start + i) % n;
        const struct link *link = &g->links[number];
        if (link->state == PROTO_GOSSIP_DOWN || number == from || (!to_all && !link->active)) {
            continue;
        }
        if (to_all || (eager < PROTO_GOSSIP_EAGER && link->score > SCORE_BAD)) {
            send_record(out, number, rid);
            eager++;
        } else {
            send_ids(out, number, PROTO_GOSSIP_IHAVE, rid, 1);
        }
    }
    if (g->active && g->follow_ms == NEVER) {
        g->follow_ms = e->now_ms + 1000 + random_below(g, 500);
        due(g, g->follow_ms);
    }
}

static void describe(const struct proto_record *record, uint32_t from, struct job *ret)
{
    const struct proto_envelope *envelope = &record->envelope;
    ret->from = from;
    ret->kind = (uint8_t)envelope->kind;
    ret->final = (envelope->flags & PROTO_RECORD_FINAL) != 0;
    ret->seq = envelope->seq;
    memcpy(ret->issuer, envelope->issuer.ptr, 16);
    memcpy(ret->key, envelope->key.ptr, 16);
    memcpy(ret->rid, record->id, 16);
}

static bool kind_known(const struct proto_envelope *envelope)
{
    return envelope->kind <= PROTO_RECORD_VISA || (envelope->flags & PROTO_RECORD_RELAY_UNKNOWN);
}

static struct job *job_new(struct proto_gossip *g, uint32_t *ret_number)
{
    for (uint32_t i = 0; i < PROTO_GOSSIP_JOBS; i++) {
        if (g->jobs[i].state == JOB_FREE) {
            uint16_t generation = (uint16_t)(g->jobs[i].generation + 1);
            g->jobs[i] = (struct job){.generation = generation};
            *ret_number = i | (uint32_t)generation << 16;
            return &g->jobs[i];
        }
    }
    return NULL;
}

static struct job *job_find(struct proto_gossip *g, uint32_t number)
{
    uint32_t at = number & 0xffff;
    if (at >= PROTO_GOSSIP_JOBS || g->jobs[at].generation != number >> 16) {
        return NULL;
    }
    return &g->jobs[at];
}

/* Room for one more version of this issuer? Charged only when the signature was good, so that nobody can use up
 * another's quota. */
static bool issuer_room(struct proto_gossip *g, const struct job *job, uint64_t now_ms, bool charge)
{
    uint64_t per_min = g->config.issuer_per_min;
    struct issuer *issuer = issuer_find(g, job->issuer, charge);
    if (!issuer) {
        return !charge;
    }
    refill(&issuer->versions, now_ms, per_min, per_min * 10);
    uint32_t slot;
    if (issuer->versions.parts < PARTS ||
        (issuer->slots >= g->config.issuer_keys && merge_judge(g, job, &slot) == MERGE_NEW_SLOT)) {
        return false;
    }
    if (charge) {
        issuer->versions.parts -= PARTS;
    }
    return true;
}

/* One record out of a PUSH. The order of the checks is that of cost. */
static void take_record(struct proto_gossip *g, const struct proto_gossip_event *e,
                        struct proto_gossip_actions *out, struct span bytes)
{
    struct link *link = &g->links[e->link];
    refill(&link->records, e->now_ms, (uint64_t)g->config.link_per_s * 60,
           (uint64_t)g->config.link_per_s * 4);
    if (link->records.parts < PARTS) {
        g->counters.limited++;
        return;
    }
    link->records.parts -= PARTS;
    struct proto_record record;
    if (proto_record_decode(bytes, g->config.hash, &record, NULL)) {
        g->counters.malformed++;
        score(g, out, e->link, SCORE_BAD);
        return;
    }
    struct job found = {0};
    describe(&record, e->link, &found);
    if (!kind_known(&record.envelope) || record.envelope.hlc >> 16 > e->wall_ms + HLC_AHEAD_MS) {
        g->counters.later++;
        return;
    }
    uint32_t slot;
    if (proto_gossip_has(g, found.rid) || job_pending(g, found.rid)) {
        g->counters.duplicate++;
        return;
    }
    if (merge_judge(g, &found, &slot) == MERGE_OLD) {
        want_done(g, found.rid);
        g->counters.stale++;
        return;
    }
    uint32_t number;
    struct job *job = NULL;
    if (issuer_room(g, &found, e->now_ms, false) && out->count < PROTO_GOSSIP_ACTIONS) {
        job = job_new(g, &number);
    }
    if (!job) {
        g->counters.limited++;
        return;
    }
    want_done(g, found.rid);
    found.generation = job->generation;
    found.state = JOB_VERIFYING;
    *job = found;
    struct proto_gossip_action *action = emit(out, PROTO_GOSSIP_VERIFY, e->link);
    action->job = number;
    action->bytes = bytes;
}

static void job_done(struct proto_gossip_actions *out, struct job *job, uint32_t number, bool ok,
                     bool forked)
{
    job->state = JOB_FREE;
    struct proto_gossip_action *action = emit(out, PROTO_GOSSIP_DONE, job->from);
    if (action) {
        action->job = number;
        action->ok = ok;
        action->forked = forked;
    }
}

static void on_verified(struct proto_gossip *g, const struct proto_gossip_event *e,
                        struct proto_gossip_actions *out)
{
    struct job *job = job_find(g, e->job);
    if (!job || job->state != JOB_VERIFYING) {
        return;
    }
    uint32_t slot;
    bool go = false;
    if (e->verdict == PROTO_GOSSIP_REJECT) {
        g->counters.rejected++;
        score(g, out, job->from, SCORE_BAD);
    } else if (e->verdict == PROTO_GOSSIP_LATER) {
        g->counters.later++;
    } else if (merge_judge(g, job, &slot) == MERGE_OLD) {
        g->counters.stale++;
    } else if (!issuer_room(g, job, e->now_ms, true)) {
        g->counters.limited++;
    } else {
        go = true;
    }
    struct proto_gossip_action *action = go ? emit(out, PROTO_GOSSIP_STORE, job->from) : NULL;
    if (action) {
        action->job = e->job;
        job->state = JOB_STORING;
    } else {
        job_done(out, job, e->job, false, false);
    }
}

static void changed(struct proto_gossip *g, uint64_t now_ms)
{
    g->changed_ms = now_ms;
    g->counters.fresh++;
}

static void on_stored(struct proto_gossip *g, const struct proto_gossip_event *e,
                      struct proto_gossip_actions *out)
{
    struct job *job = job_find(g, e->job);
    if (!job || job->state != JOB_STORING) {
        return;
    }
    bool forked = false;
    bool ok = e->ok && merge_apply(g, job, &forked);
    if (ok) {
        changed(g, e->now_ms);
        score(g, out, job->from, SCORE_FRESH);
        forward(g, e, out, job->rid, job->from, job->final);
    }
    job_done(out, job, e->job, ok, forked);
}

static void on_add(struct proto_gossip *g, const struct proto_gossip_event *e,
                   struct proto_gossip_actions *out)
{
    struct proto_record record;
    if (proto_record_decode(e->bytes, g->config.hash, &record, NULL)) {
        g->counters.malformed++;
        return;
    }
    struct job found = {0};
    bool forked;
    describe(&record, PROTO_GOSSIP_NONE, &found);
    if (proto_gossip_has(g, found.rid) || !merge_apply(g, &found, &forked)) {
        return;
    }
    changed(g, e->now_ms);
    if (e->own) {
        forward(g, e, out, found.rid, PROTO_GOSSIP_NONE, true);
    }
}

/* --- messages --------------------------------------------------------------------------------------------------- */

static void nonsense(struct proto_gossip *g, const struct proto_gossip_event *e,
                     struct proto_gossip_actions *out)
{
    g->counters.malformed++;
    score(g, out, e->link, SCORE_NONSENSE);
}

/* Only the side that pinged starts an exchange, since one exchange serves both directions. */
/* The way here took a moment, which is nothing beside the minutes that this is compared with. */
static void note_clock(struct link *link, uint64_t theirs_ms, uint64_t ours_ms)
{
    const uint64_t most = UINT64_C(1)
                          << 52; /* a liar's year 100,000 must not overflow a difference */
    link->clock_known = theirs_ms < most && ours_ms < most;
    link->clock_ahead_ms = link->clock_known ? (int64_t)theirs_ms - (int64_t)ours_ms : 0;
}

static void on_ping(struct proto_gossip *g, const struct proto_gossip_event *e,
                    struct proto_gossip_actions *out)
{
    if (e->bytes.len != PING_BYTES) {
        nonsense(g, e, out);
        return;
    }
    struct link *link = &g->links[e->link];
    memcpy(link->root, e->bytes.ptr + 2, 16);
    link->count = get_be64(e->bytes.ptr + 18);
    link->root_known = true;
    note_clock(link, get_be64(e->bytes.ptr + 26), e->wall_ms);
    if (e->bytes.ptr[0] == PROTO_GOSSIP_PING) {
        send_ping(g, out, e->link, PROTO_GOSSIP_PONG, e->wall_ms);
        return;
    }
    link->pinged = false;
    uint8_t root[16];
    proto_gossip_root(g, root);
    if (memcmp(root, link->root, 16) == 0) {
        link->fresh = false;
    } else if (link->fresh || e->now_ms - g->changed_ms >= SETTLE_MS) {
        link->fresh = false;
        send_digest(g, e, out, e->link);
    } else {
        plan_ping(g, link, e->now_ms + SETTLE_MS + random_below(g, SETTLE_MS));
    }
}

static void on_push(struct proto_gossip *g, const struct proto_gossip_event *e,
                    struct proto_gossip_actions *out)
{
    struct span rest = {e->bytes.ptr + 2, e->bytes.len - 2};
    if (rest.len == 0) {
        nonsense(g, e, out);
    }
    while (rest.len > 0) {
        size_t len = rest.len >= 2 ? get_be16(rest.ptr) : SIZE_MAX;
        if (len > PROTO_RECORD_MAX || len > rest.len - 2) {
            nonsense(g, e, out);
            return;
        }
        take_record(g, e, out, span_of(rest.ptr + 2, len));
        rest = span_of(rest.ptr + 2 + len, rest.len - 2 - len);
    }
}

static bool ids_valid(struct span ids, size_t most)
{
    return ids.len > 0 && ids.len % 16 == 0 && ids.len / 16 <= most;
}

static void on_ihave(struct proto_gossip *g, const struct proto_gossip_event *e,
                     struct proto_gossip_actions *out)
{
    struct span ids = {e->bytes.ptr + 2, e->bytes.len - 2};
    if (!ids_valid(ids, PROTO_GOSSIP_GET_MAX)) {
        nonsense(g, e, out);
        return;
    }
    ask(g, e, out, ids.ptr, ids.len / 16);
}

/* Charter and members first, so that the other side can verify what follows. */
static unsigned rank(const struct proto_gossip *g, uint32_t value)
{
    uint8_t kind = g->slots[(value - 1) / 2].kind;
    return kind == PROTO_RECORD_CHARTER ? 0 : kind == PROTO_RECORD_MEMBER ? 1 : 2;
}

static void give(struct proto_gossip *g, struct proto_gossip_actions *out, uint32_t link,
                 const uint32_t *values, size_t count)
{
    uint8_t *at = count ? out_bytes(out, count * 16) : NULL;
    struct proto_gossip_action *action = at ? emit(out, PROTO_GOSSIP_SEND_RECORDS, link) : NULL;
    if (!action) {
        return;
    }
    size_t n = 0;
    for (unsigned r = 0; r < 3; r++) {
        for (size_t i = 0; i < count; i++) {
            if (rank(g, values[i]) == r) {
                memcpy(at + n++ * 16, rid_of(g, values[i]), 16);
            }
        }
    }
    action->bytes = span_of(at, n * 16);
}

static void on_get(struct proto_gossip *g, const struct proto_gossip_event *e,
                   struct proto_gossip_actions *out)
{
    struct span ids = {e->bytes.ptr + 2, e->bytes.len - 2};
    if (!ids_valid(ids, PROTO_GOSSIP_GET_MAX)) {
        nonsense(g, e, out);
        return;
    }
    uint32_t values[PROTO_GOSSIP_GET_MAX];
    size_t n = 0;
    for (size_t i = 0; i < ids.len / 16; i++) {
        uint32_t value = g->rid_index[rid_place(g, ids.ptr + i * 16)];
        if (value) {
            values[n++] = value;
        }
    }
    give(g, out, e->link, values, n);
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

/* Appends the rids of bucket B to AT; false when they do not fit into ROOM. */
static bool bucket_ids(const struct proto_gossip *g, size_t b, uint8_t *at, size_t room,
                       size_t *inout_count)
{
    if (g->counts[b] > room) {
        return false;
    }
    size_t n = 0;
    for (uint32_t i = 0; i < g->slot_count; i++) {
        const struct slot *slot = &g->slots[i];
        if (slot->head[0] == b) {
            memcpy(at + n++ * 16, slot->head, 16);
        }
        if (slot->has_other && slot->other[0] == b) {
            memcpy(at + n++ * 16, slot->other, 16);
        }
    }
    assert(n == g->counts[b]);
    qsort(at, n, 16, compare_ids);
    *inout_count += n;
    return true;
}

static void on_digest(struct proto_gossip *g, const struct proto_gossip_event *e,
                      struct proto_gossip_actions *out)
{
    if (e->bytes.len != DIGEST_BYTES) {
        nonsense(g, e, out);
        return;
    }
    uint8_t *at = out_bytes(out, IDS_HEAD + PROTO_GOSSIP_IDS_MAX * 16);
    if (!at) {
        return;
    }
    memset(at, 0, IDS_HEAD);
    at[0] = PROTO_GOSSIP_IDS;
    at[1] = 1;
    size_t count = 0;
    /* A random first bucket: should one bucket never fit, the others still get their turn. */
    size_t start = (size_t)random_below(g, BUCKETS);
    bool taken[BUCKETS] = {false};
    for (size_t i = 0; i < BUCKETS; i++) {
        size_t b = (start + i) % BUCKETS;
        uint8_t print[16];
        fingerprint(g, g->sums[b], g->counts[b], print);
        if (memcmp(print, e->bytes.ptr + 2 + b * 8, 8) == 0) {
            continue;
        }
        if (g->counts[b] > PROTO_GOSSIP_IDS_MAX - count) {
            at[2] = 1;
            continue;
        }
        taken[b] = true;
        count += g->counts[b];
        at[3 + b / 8] |= (uint8_t)(1 << b % 8);
    }
    size_t n = 0;
    for (size_t b = 0; b < BUCKETS; b++) {
        if (taken[b] && !bucket_ids(g, b, at + IDS_HEAD + n * 16, count - n, &n)) {
            return;
        }
    }
    send_bytes(out, e->link, at, IDS_HEAD + n * 16);
}

static bool ids_ascend(struct span ids, const uint8_t mask[32])
{
    for (size_t i = 0; i < ids.len / 16; i++) {
        const uint8_t *id = ids.ptr + i * 16;
        if (!(mask[id[0] / 8] & 1 << id[0] % 8) || (i > 0 && memcmp(id - 16, id, 16) >= 0)) {
            return false;
        }
    }
    return true;
}

static bool ids_contain(struct span ids, const uint8_t rid[16])
{
    return ids.len > 0 && bsearch(rid, ids.ptr, ids.len / 16, 16, compare_ids) != NULL;
}

/* What we have in the named buckets and the other side did not list goes to it; true: there was more than one turn's worth. */
static bool give_missing(struct proto_gossip *g, const struct proto_gossip_event *e,
                         struct proto_gossip_actions *out, struct span ids, const uint8_t mask[32])
{
    uint32_t values[PROTO_GOSSIP_GET_MAX];
    size_t n = 0;
    bool more = false;
    /* Two turns over the slots, so that members come first when not all fit. */
    for (unsigned turn = 0; turn < 2; turn++) {
        for (uint32_t i = 0; i < g->slot_count * 2; i++) {
            const struct slot *slot = &g->slots[i / 2];
            bool other = i % 2 == 1;
            bool member = slot->kind == PROTO_RECORD_MEMBER || slot->kind == PROTO_RECORD_CHARTER;
            const uint8_t *rid = other ? slot->other : slot->head;
            if ((other && !slot->has_other) || member != (turn == 0) ||
                !(mask[rid[0] / 8] & 1 << rid[0] % 8) || ids_contain(ids, rid)) {
                continue;
            }
            if (n < PROTO_GOSSIP_GET_MAX) {
                values[n++] = i + 1;
            } else {
                more = true;
            }
        }
    }
    give(g, out, e->link, values, n);
    return more;
}

static void on_ids(struct proto_gossip *g, const struct proto_gossip_event *e,
                   struct proto_gossip_actions *out)
{
    struct link *link = &g->links[e->link];
    struct span ids = {e->bytes.ptr + IDS_HEAD, e->bytes.len - IDS_HEAD};
    if (e->bytes.len < IDS_HEAD || ids.len % 16 != 0 || ids.len / 16 > PROTO_GOSSIP_IDS_MAX ||
        !ids_ascend(ids, e->bytes.ptr + 3)) {
        nonsense(g, e, out);
        return;
    }
    if (!link->sync) {
        return; /* a late answer */
    }
    link->sync = false;
    bool all_asked = ask(g, e, out, ids.ptr, ids.len / 16);
    bool more = give_missing(g, e, out, ids, e->bytes.ptr + 3);
    if (more || !all_asked || e->bytes.ptr[2]) {
        plan_digest(g, link, e->now_ms + SETTLE_MS);
    } else {
        plan_ping(g, link, e->now_ms + 2 * SETTLE_MS + random_below(g, SETTLE_MS));
    }
}

static void on_message(struct proto_gossip *g, const struct proto_gossip_event *e,
                       struct proto_gossip_actions *out)
{
    struct link *link = &g->links[e->link];
    if (e->bytes.len < 2 || e->bytes.len > PROTO_GOSSIP_MESSAGE_MAX) {
        nonsense(g, e, out);
        return;
    }
    link->heard_ms = e->now_ms;
    link->misses = 0;
    if (link->state != PROTO_GOSSIP_DOWN) {
        set_liveness(out, link, e->link, PROTO_GOSSIP_UP);
    }
    if (e->bytes.ptr[1] != 1) {
        return;
    }
    switch (e->bytes.ptr[0]) {
    case PROTO_GOSSIP_PING:
    case PROTO_GOSSIP_PONG:
        on_ping(g, e, out);
        break;
    case PROTO_GOSSIP_PUSH:
        on_push(g, e, out);
        break;
    case PROTO_GOSSIP_IHAVE:
        on_ihave(g, e, out);
        break;
    case PROTO_GOSSIP_GET:
        on_get(g, e, out);
        break;
    case PROTO_GOSSIP_DIGEST:
        on_digest(g, e, out);
        break;
    case PROTO_GOSSIP_IDS:
        on_ids(g, e, out);
        break;
    default:
        break;
    }
}

/* --- time ------------------------------------------------------------------------------------------------------- */

static void ping_missed(struct proto_gossip *g, const struct proto_gossip_event *e,
                        struct proto_gossip_actions *out, uint32_t number)
{
    struct link *link = &g->links[number];
    link->pinged = false;
    link->misses++;
    set_liveness(out, link, number,
                 link->misses < MISSES_DEAD ? PROTO_GOSSIP_SUSPECT : PROTO_GOSSIP_DEAD);
    if (link->misses < MISSES_DEAD) {
        link->ping_at_ms = e->now_ms;
    } else {
        link->misses = MISSES_DEAD;
    }
}

static void link_timer(struct proto_gossip *g, const struct proto_gossip_event *e,
                       struct proto_gossip_actions *out, uint32_t number)
{
    struct link *link = &g->links[number];
    if (link->state == PROTO_GOSSIP_DOWN) {
        return;
    }
    score_decay(link, e->now_ms);
    if (link->pinged && e->now_ms >= link->pong_until_ms) {
        ping_missed(g, e, out, number);
    }
    if (link->sync && e->now_ms >= link->sync_until_ms) {
        link->sync = false;
        plan_ping(g, link, e->now_ms);
    }
    if (e->now_ms >= link->digest_at_ms) {
        send_digest(g, e, out, number);
    }
    if (e->now_ms >= link->ping_at_ms) {
        send_ping(g, out, number, PROTO_GOSSIP_PING, e->wall_ms);
        if (!link->pinged) {
            link->pinged = true;
            link->pong_until_ms = e->now_ms + PONG_MS;
        }
        link->ping_at_ms = link->active ? e->now_ms + ping_interval(g, e->now_ms) : NEVER;
    }
    due(g, link->ping_at_ms);
    due(g, link->digest_at_ms);
    due(g, link->sync ? link->sync_until_ms : NEVER);
    due(g, link->pinged ? link->pong_until_ms : NEVER);
}

/* Something new went out a second ago: one active link is asked whether the sets are equal, which finds losses early. */
static void follow_up(struct proto_gossip *g, const struct proto_gossip_event *e)
{
    g->follow_ms = NEVER;
    uint64_t skip = random_below(g, g->active);
    for (uint32_t i = 0; i < g->config.links; i++) {
        if (g->links[i].active && skip-- == 0) {
            plan_ping(g, &g->links[i], e->now_ms);
            return;
        }
    }
}

static void on_timer(struct proto_gossip *g, const struct proto_gossip_event *e,
                     struct proto_gossip_actions *out)
{
    g->next_ms = NEVER;
    if (e->now_ms >= g->follow_ms) {
        follow_up(g, e);
    }
    due(g, g->follow_ms);
    for (uint32_t i = 0; i < g->config.links; i++) {
        link_timer(g, e, out, i);
    }
    wants_expire(g, e, out);
}

void proto_gossip_step(struct proto_gossip *g, const struct proto_gossip_event *e,
                       struct proto_gossip_actions *out)
{
    out->count = 0;
    out->used = 0;
    bool of_link = e->kind == PROTO_GOSSIP_LINK_UP || e->kind == PROTO_GOSSIP_LINK_DOWN ||
                   e->kind == PROTO_GOSSIP_MSG;
    if (!of_link || e->link < g->config.links) {
        switch (e->kind) {
        case PROTO_GOSSIP_LINK_UP:
            on_link_up(g, e, out);
            break;
        case PROTO_GOSSIP_LINK_DOWN:
            on_link_down(g, e, out);
            break;
        case PROTO_GOSSIP_MSG:
            on_message(g, e, out);
            break;
        case PROTO_GOSSIP_ADD:
            on_add(g, e, out);
            break;
        case PROTO_GOSSIP_VERIFIED:
            on_verified(g, e, out);
            break;
        case PROTO_GOSSIP_STORED:
            on_stored(g, e, out);
            break;
        case PROTO_GOSSIP_TIMER:
            on_timer(g, e, out);
            break;
        }
    }
    out->next_ms = g->next_ms;
}

/* --- life ------------------------------------------------------------------------------------------------------- */

struct proto_gossip *proto_gossip_new(const struct proto_gossip_config *config)
{
    if (!config->hash || !config->links || !config->records || !config->issuers ||
        config->records > UINT32_C(1) << 28 || config->issuers > UINT32_C(1) << 28) {
        return NULL;
    }
    struct proto_gossip *g = proto_alloc(1, sizeof *g);
    if (!g) {
        return NULL;
    }
    g->config = *config;
    g->config.issuer_per_min = config->issuer_per_min ? config->issuer_per_min : 60;
    g->config.issuer_keys = config->issuer_keys ? config->issuer_keys : 10000;
    g->config.link_per_s = config->link_per_s ? config->link_per_s : 500;
    g->random = mix(config->seed + 1);
    uint32_t slots = table_size(config->records), issuers = table_size(config->issuers);
    g->slots = proto_alloc(config->records, sizeof *g->slots);
    g->slot_index = proto_alloc(slots, sizeof *g->slot_index);
    g->slot_mask = slots - 1;
    g->rid_index = proto_alloc((size_t)slots * 2, sizeof *g->rid_index);
    g->rid_mask = slots * 2 - 1;
    g->issuers = proto_alloc(config->issuers, sizeof *g->issuers);
    g->issuer_index = proto_alloc(issuers, sizeof *g->issuer_index);
    g->issuer_mask = issuers - 1;
    g->links = proto_alloc(config->links, sizeof *g->links);
    if (!g->slots || !g->slot_index || !g->rid_index || !g->issuers || !g->issuer_index ||
        !g->links) {
        proto_gossip_free(g);
        return NULL;
    }
    for (uint32_t i = 0; i < config->links; i++) {
        g->links[i].ping_at_ms = g->links[i].digest_at_ms = NEVER;
    }
    g->next_ms = g->follow_ms = NEVER;
    return g;
}

void proto_gossip_free(struct proto_gossip *g)
{
    if (g) {
        proto_free(g->slots);
        proto_free(g->slot_index);
        proto_free(g->rid_index);
        proto_free(g->issuers);
        proto_free(g->issuer_index);
        proto_free(g->links);
        proto_free(g);
    }
}

struct proto_gossip_actions *proto_gossip_actions_new(void)
{
    struct proto_gossip_actions *actions = proto_alloc(1, sizeof *actions);
    if (actions) {
        actions->next_ms = NEVER;
    }
    return actions;
}

void proto_gossip_actions_free(struct proto_gossip_actions *actions)
{
    proto_free(actions);
}

bool proto_gossip_push_add(struct buf *message, struct span record)
{
    size_t head = message->len ? 0 : 2;
    size_t need = head + 2 + record.len;
    if (record.len > PROTO_RECORD_MAX || message->len + need > PROTO_GOSSIP_MESSAGE_MAX ||
        buf_reserve(message, need)) {
        return false;
    }
    uint8_t *at = message->ptr + message->len;
    if (head) {
        at[0] = PROTO_GOSSIP_PUSH;
        at[1] = 1;
        at += 2;
    }
    put_be16(at, (uint16_t)record.len);
    memcpy(at + 2, record.ptr, record.len);
    message->len += need;
    return true;
}

void proto_gossip_link(const struct proto_gossip *g, uint32_t number,
                       struct proto_gossip_link_view *ret)
{
    *ret = (struct proto_gossip_link_view){0};
    if (number < g->config.links) {
        const struct link *link = &g->links[number];
        uint8_t root[16];
        proto_gossip_root(g, root);
        ret->liveness = link->state;
        ret->active = link->active;
        ret->root_known = link->root_known;
        ret->root_equal = link->root_known && memcmp(root, link->root, 16) == 0;
        ret->count = link->count;
        ret->clock_known = link->clock_known;
        ret->clock_ahead_ms = link->clock_ahead_ms;
        ret->heard_ms = link->heard_ms;
        ret->score = link->score;
    }
}

void proto_gossip_counters(const struct proto_gossip *g, struct proto_gossip_counters *ret)
{
    *ret = g->counters;
}

bool proto_gossip_valid(const struct proto_gossip *g)
{
    uint32_t counts[BUCKETS] = {0}, active = 0, index = 0;
    uint64_t rids = 0;
    for (uint32_t i = 0; i < g->slot_count; i++) {
        const struct slot *slot = &g->slots[i];
        counts[slot->head[0]]++;
        rids++;
        if (g->rid_index[rid_place(g, slot->head)] != i * 2 + 1 ||
            g->slot_index[slot_place(g, slot->kind, slot->issuer, slot->key)] != i + 1) {
            return false;
        }
        if (slot->has_other) {
            counts[slot->other[0]]++;
            rids++;
            if (!slot->forked || g->rid_index[rid_place(g, slot->other)] != i * 2 + 2 ||
                compare(slot->other_final, slot->seq, slot->other, slot->final, slot->seq,
                        slot->head) >= 0) {
                return false;
            }
        }
    }
    for (uint32_t i = 0; i <= g->rid_mask; i++) {
        index += g->rid_index[i] != 0;
    }
    for (uint32_t i = 0; i < g->config.links; i++) {
        active += g->links[i].active;
        if (g->links[i].active && g->links[i].state == PROTO_GOSSIP_DOWN) {
            return false;
        }
    }
    return memcmp(counts, g->counts, sizeof counts) == 0 && rids == g->rids && index == rids &&
           active == g->active && active <= PROTO_GOSSIP_ACTIVE;
}
