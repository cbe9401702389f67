/* A federation in one process: N cores of proto/gossip on a heap of events, with lost and late messages, partitions,
 * crashes that lose everything but the disk, and members that drop, replay, lie or sign two histories. One seed, one
 * run, bit for bit. After the faults the network heals, and all honest nodes must hold the same set within HEAL_MS.
 *
 *     sim_gossip                          100 seeds of 20 to 60 nodes at 0, 10 and 30 % loss
 *     SEEDS=n SEED=first NODES=n LOSS=percent sim_gossip
 *
 * Checked: each core is valid after each of its steps (every 64th, being slow); nothing enters a set that was not signed;
 * a final version is never undone; a crash forgets nothing that was stored; every honest record is everywhere at the end;
 * honest nodes that heard both halves of an equivocation hold both; without evil members there is silence but for pings.
 * Two versions of the licence's codec live in one federation: odd nodes read bodies with one more field. Whatever a node
 * cannot read it keeps and relays like the rest, and every decision on it denies. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/gossip.h"
#include "proto/policy.h"
#include "tests/lib/fake_hash.h"
#include "tests/lib/seed.h"

#define LINKS     8
#define HEAL_MS   15000
#define FAULT_MS  20000
#define RECORDS   40 /* published by honest nodes while faults happen */
#define MAX_BYTES 700

enum evil {
    HONEST,
    DROPPER,     /* takes everything, sends only pings on */
    REPLAYER,    /* sends old pushes again and again */
    EQUIVOCATOR, /* signs two versions and shows each to half of its links */
    LIAR,        /* sends random bytes under every message type */
};

/* All records of a run, by number; a node's disk is a set of numbers. */
struct content {
    uint8_t *bytes;
    size_t len;
    uint8_t rid[16];
    int issuer;
    uint64_t seq;
    uint8_t key[16];
    bool final;
    bool genuine; /* signed by its issuer */
};

struct job {
    bool used;
    int content;
};

struct node {
    struct proto_gossip *core;
    bool up;
    enum evil evil;
    int side;       /* of the partition */
    uint32_t epoch; /* counts crashes: older timers and messages are void */
    uint64_t timer_at;
    struct job jobs[PROTO_GOSSIP_JOBS];
    int peers[LINKS * 4]; /* by link number */
    size_t degree;
    uint8_t *disk; /* bit per content */
    uint64_t steps;
    int replay; /* content that a replayer repeats */
    bool saw_fork;
};

enum kind {
    MESSAGE,
    TIMER,
    VERIFIED,
    STORED,
    PUBLISH,
    CRASH,
    RESTART,
    SPLIT,
    HEAL,
    MISCHIEF,
    LINK_CHANGE,
};

struct event {
    uint64_t at, seq;
    enum kind kind;
    int node;
    uint32_t epoch;
    uint32_t link, job;
    bool up;
    enum proto_gossip_verdict verdict;
    uint8_t *bytes;
    size_t len;
};

struct sim {
    struct seed seed;
    uint64_t now, seq;
    struct event *heap;
    size_t heap_len, heap_cap;
    struct node *nodes;
    int count;
    unsigned loss;
    bool split, faults;
    struct content *contents;
    int content_count, content_cap;
    uint64_t trace;                   /* hash of what happened; equal for equal seeds */
    uint64_t messages, payload, talk; /* talk: messages that are not pings */
    struct proto_gossip_actions *actions;
};

static void fail(struct sim *s, const char *what, int node)
{
    printf("not ok - at %" PRIu64 " ms, node %d: %s\n", s->now, node, what);
    exit(1);
}

/* --- the heap --------------------------------------------------------------------------------------------------------- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void push(struct sim *s, struct event e)
{
    e.seq = s->seq++;
    if (s->heap_len == s->heap_cap) {
        s->heap_cap = s->heap_cap ? s->heap_cap * 2 : 1024;
        s->heap = realloc(s->heap, s->heap_cap * sizeof *s->heap);
        assert(s->heap);
    }
    size_t at = s->heap_len++;
    while (at > 0 && before(&e, &s->heap[(at - 1) / 2])) {
        s->heap[at] = s->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    s->heap[at] = e;
}

static struct event pop(struct sim *s)
{
    struct event top = s->heap[0];
    struct event last = s->heap[--s->heap_len];
    size_t at = 0;
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= s->heap_len) {
            break;
        }
        if (child + 1 < s->heap_len && before(&s->heap[child + 1], &s->heap[child])) {
            child++;
        }
        if (!before(&s->heap[child], &last)) {
            break;
        }
        s->heap[at] = s->heap[child];
        at = child;
    }
    s->heap[at] = last;
    return top;
}

/* --- records ------------------------------------------------------------------------------------------------------------ */

static void node_id(int node, uint8_t id[16])
{
    memset(id, 0, 16);
    put_be64(id, (uint64_t)node + 1);
    put_be64(id + 8, (uint64_t)(node + 1) * UINT64_C(0x9e3779b97f4a7c15));
}

/* The "signature" is a hash with the issuer's number: nobody but the simulator makes one, and it checks like one. */
static void sign(struct span envelope, int issuer, uint8_t sig[64])
{
    uint8_t secret[4];
    put_be32(secret, (uint32_t)issuer ^ 0x5eced);
    struct span parts[] = {span_of(secret, 4), envelope};
    memset(sig, 0, 64);
    fake_hash_sha256(parts, 2, sig);
}

static bool signature_good(const struct content *c)
{
    struct proto_record record;
    uint8_t sig[64];
    if (proto_record_decode(span_of(c->bytes, c->len), &fake_hash, &record, NULL)) {
        return false;
    }
    sign(record.envelope_bytes, c->issuer, sig);
    return memcmp(sig, record.signature, 64) == 0;
}

static int content_find(struct sim *s, struct span bytes)
{
    for (int i = s->content_count - 1; i >= 0; i--) {
        if (s->contents[i].len == bytes.len &&
            memcmp(s->contents[i].bytes, bytes.ptr, bytes.len) == 0) {
            return i;
        }
    }
    return -1;
}

static int content_by_rid(struct sim *s, const uint8_t rid[16])
{
    for (int i = 0; i < s->content_count; i++) {
        if (s->contents[i].genuine && memcmp(s->contents[i].rid, rid, 16) == 0) {
            return i;
        }
    }
    return -1;
}

static int content_add(struct sim *s, struct span record, int issuer)
{
    struct proto_record decoded;
    if (s->content_count == s->content_cap) {
        fail(s, "too many records", issuer);
    }
    enum err err = proto_record_decode(record, &fake_hash, &decoded, NULL);
    assert(!err);
    struct content *c = &s->contents[s->content_count];
    *c = (struct content){.bytes = malloc(record.len),
                          .len = record.len,
                          .issuer = issuer,
                          .seq = decoded.envelope.seq,
                          .final = (decoded.envelope.flags & PROTO_RECORD_FINAL) != 0};
    assert(c->bytes);
    memcpy(c->bytes, record.ptr, record.len);
    memcpy(c->rid, decoded.id, 16);
    memcpy(c->key, decoded.envelope.key.ptr, 16);
    c->genuine = signature_good(c);
    return s->content_count++;
}

/* --- licences of two versions ------------------------------------------------------------------------------------------- */

#define NEXT_VERSION (PROTO_LICENCE_VERSION + 1)

/* A body of this version; NEWER: of the next one, which has a field more, as an old codec would find it. */
static size_t licence_body(bool newer, uint8_t *to, size_t room)
{
    static const uint8_t hash[32] = {1};
    struct proto_grant grant = {.permission = PROTO_DUO_GRU,
                                .actions = PROTO_ACTION_ALL,
                                .min_cohort = 11,
                                .min_sites = 1,
                                .privacy = {.mechanism = PROTO_MECHANISM_GAUSSIAN,
                                            .epsilon_total_u = 8000000,
                                            .epsilon_per_query_u = 1000000,
                                            .epsilon_per_job_u = 1000000,
                                            .delta_e12 = 1000000},
                                .has_finetune = true,
                                .finetune = {.max_rounds = 10}};
    struct proto_licence licence = {.v = PROTO_LICENCE_VERSION,
                                    .dataset = span_str("data"),
                                    .version = span_str("1"),
                                    .schema_hash = span_of(hash, 32),
                                    .expires = 2000000000,
                                    .spdx = span_str("CC-BY-4.0"),
                                    .grants = {&grant, 1}};
    struct buf bytes = {.max = room};
    enum err err = proto_licence_encode(&licence, &bytes, NULL);
    assert(!err && bytes.ptr[0] == 0xDC && bytes.len + 1 <= room);
    size_t len = bytes.len;
    memcpy(to, bytes.ptr, len);
    buf_fini(&bytes);
    if (newer) {
        to[2]++;              /* one field more, */
        to[3] = NEXT_VERSION; /* so the next version, */
        to[len++] = 0xC3;     /* and it says true */
    }
    return len;
}

/* What a node of either codec decides on a request that the licence permits as far as the old fields go. */
static enum proto_reason decide(bool new_codec, const struct proto_record *record)
{
    static struct proto_decision decision;
    struct proto_party party = {span_str("n"), span_str("org"), span_str("nonprofit"),
                                span_str("DE")};
    struct proto_purpose purpose = {.permission = PROTO_DUO_GRU};
    struct proto_use use = {.actions = PROTO_ACTION_BIT(PROTO_ACTION_COUNT), .epsilon = 0.5};
    struct proto_request request;
    struct proto_licence licence;
    struct arena arena = {0};
    uint8_t body[MAX_BYTES];
    size_t len = record->envelope.body.len;
    assert(len <= sizeof body);
    memcpy(body, record->envelope.body.ptr, len);
    if (new_codec && len > 4 && body[0] == 0xDC && body[3] == NEXT_VERSION) {
        body[2]--; /* the new codec knows the field that came last */
        body[3] = PROTO_LICENCE_VERSION;
        len--;
    }
    bool readable = proto_licence_decode(span_of(body, len), &arena, &licence, NULL) == E_OK;
    struct proto_record seen = *record;
    seen.envelope.expires = 2000000000;
    proto_request_build(&party, &purpose, &use, &party, 1, 1000, &request);
    proto_policy_decide(&request, &seen, readable ? &licence : NULL, false, NULL, &decision);
    arena_fini(&arena);
    return decision.reason;
}

/* Nodes of both codecs hold the same set (audit saw to that), and only those that can read a record act on it. */
static void two_codecs(struct sim *s)
{
    for (int c = 0; c < s->content_count; c++) {
        struct proto_record record;
        enum err err = proto_record_decode(span_of(s->contents[c].bytes, s->contents[c].len),
                                           &fake_hash, &record, NULL);
        assert(!err);
        struct span body = record.envelope.body;
        bool ours = body.len > 4 && body.ptr[0] == 0xDC && body.ptr[1] == 0;
        bool newer = ours && body.ptr[3] == NEXT_VERSION;
        bool older = ours && body.ptr[3] == PROTO_LICENCE_VERSION;
        for (int i = 0; i < s->count; i++) {
            if (!proto_gossip_has(s->nodes[i].core, s->contents[c].rid)) {
                continue;
            }
            bool new_codec = i % 2 != 0;
            enum proto_reason wanted = s->contents[c].final ? PROTO_REASON_REVOKED
                                       : older || (newer && new_codec)
                                           ? PROTO_REASON_NONE
                                           : PROTO_REASON_UNSUPPORTED_VERSION;
            if (decide(new_codec, &record) != wanted) {
                fail(s, "decides otherwise on a licence of another version", i);
            }
        }
    }
}

static int record_make(struct sim *s, int issuer, uint64_t key, uint64_t seq, bool final,
                       bool genuine)
{
    uint8_t id[16], key_bytes[16] = {0}, body[MAX_BYTES], sig[64];
    struct buf envelope = {.max = PROTO_RECORD_MAX}, record = {.max = PROTO_RECORD_MAX};
    size_t len = 20 + seed_below(&s->seed, sizeof body - 20);
    for (size_t i = 0; i < len; i++) {
        body[i] = (uint8_t)seed_next(&s->seed);
    }
    uint64_t sort = seed_below(&s->seed, 3); /* bytes that nobody reads, or a licence */
    if (sort) {
        len = licence_body(sort == 2, body, sizeof body);
    }
    node_id(issuer, id);
    put_be64(key_bytes, key);
    struct proto_envelope fields = {.version = 1,
                                    .kind = PROTO_RECORD_LICENCE,
                                    .issuer = span_of(id, 16),
                                    .key = span_of(key_bytes, 16),
                                    .seq = seq,
                                    .hlc = s->now << 16,
                                    .flags = final ? PROTO_RECORD_FINAL : 0,
                                    .body = span_of(body, len)};
    enum err err = proto_record_encode(&fields, &envelope, NULL);
    assert(!err);
    sign(buf_span(&envelope), genuine ? issuer : issuer + 1, sig);
    err = proto_record_seal(buf_span(&envelope), sig, &record);
    assert(!err);
    int at = content_add(s, buf_span(&record), issuer);
    buf_fini(&envelope);
    buf_fini(&record);
    return at;
}

/* --- performing actions ---------------------------------------------------------------------------------------------------- */

static bool connected(const struct sim *s, int a, int b)
{
    return s->nodes[a].up && s->nodes[b].up && (!s->split || s->nodes[a].side == s->nodes[b].side);
}

static uint32_t link_to(const struct node *from, int to)
{
    for (size_t i = 0; i < from->degree; i++) {
        if (from->peers[i] == to) {
            return (uint32_t)i;
        }
    }
    return PROTO_GOSSIP_NONE;
}

static void transmit(struct sim *s, int from, uint32_t link, struct span bytes)
{
    int to = s->nodes[from].peers[link];
    s->messages++;
    s->payload += bytes.len;
    s->talk += bytes.ptr[0] > PROTO_GOSSIP_PONG;
    if (!connected(s, from, to) || seed_below(&s->seed, 100) < s->loss) {
        return;
    }
    uint8_t *copy = malloc(bytes.len ? bytes.len : 1);
    assert(copy);
    memcpy(copy, bytes.ptr, bytes.len);
    push(s, (struct event){.at = s->now + 15 + seed_below(&s->seed, 65),
                           .kind = MESSAGE,
                           .node = to,
                           .epoch = s->nodes[to].epoch,
                           .link = link_to(&s->nodes[to], from),
                           .bytes = copy,
                           .len = bytes.len});
}

static void send_records(struct sim *s, int from, uint32_t link, struct span rids)
{
    struct buf message = {.max = PROTO_GOSSIP_MESSAGE_MAX};
    for (size_t i = 0; i < rids.len; i += 16) {
        int c = content_by_rid(s, rids.ptr + i);
        if (c < 0) {
            fail(s, "sends a record that nobody signed", from);
        }
        struct span record = span_of(s->contents[c].bytes, s->contents[c].len);
        if (!proto_gossip_push_add(&message, record)) {
            transmit(s, from, link, buf_span(&message));
            message.len = 0;
            bool fits = proto_gossip_push_add(&message, record);
            assert(fits);
        }
    }
    if (message.len) {
        transmit(s, from, link, buf_span(&message));
    }
    buf_fini(&message);
}

static void act_verify(struct sim *s, int at, const struct proto_gossip_action *action)
{
    struct node *n = &s->nodes[at];
    struct job *job = &n->jobs[action->job & 0xffff];
    int content = content_find(s, action->bytes);
    if (content < 0) {
        struct proto_record record;
        if (proto_record_decode(action->bytes, &fake_hash, &record, NULL)) {
            fail(s, "verifies what does not decode", at);
        }
        push(s, (struct event){.at = s->now + 2,
                               .kind = VERIFIED,
                               .node = at,
                               .epoch = n->epoch,
                               .job = action->job,
                               .verdict = PROTO_GOSSIP_REJECT});
        return;
    }
    *job = (struct job){true, content};
    push(s, (struct event){.at = s->now + 1 + seed_below(&s->seed, 5),
                           .kind = VERIFIED,
                           .node = at,
                           .epoch = n->epoch,
                           .job = action->job,
                           .verdict = s->contents[content].genuine ? PROTO_GOSSIP_ACCEPT
                                                                   : PROTO_GOSSIP_REJECT});
}

static void act_done(struct sim *s, int at, const struct proto_gossip_action *action)
{
    struct node *n = &s->nodes[at];
    struct job *job = &n->jobs[action->job & 0xffff];
    if (action->ok) {
        const struct content *c = &s->contents[job->content];
        if (!job->used || !c->genuine || !(n->disk[job->content / 8] & 1 << job->content % 8)) {
            fail(s, "took a record that is not signed or not on disk", at);
        }
        n->saw_fork |= action->forked;
    }
    job->used = false;
}

static void step(struct sim *s, int at, struct proto_gossip_event *event)
{
    struct node *n = &s->nodes[at];
    event->now_ms = s->now;
    event->wall_ms = s->now;
    proto_gossip_step(n->core, event, s->actions);
    s->trace =
        (s->trace ^ s->now ^ (uint64_t)at << 40 ^ (uint64_t)event->kind << 56 ^ s->actions->count) *
        UINT64_C(0x100000001b3);
    for (size_t i = 0; i < s->actions->count; i++) {
        const struct proto_gossip_action *action = &s->actions->items[i];
        bool message =
            action->kind == PROTO_GOSSIP_SEND || action->kind == PROTO_GOSSIP_SEND_RECORDS;
        bool ping = action->kind == PROTO_GOSSIP_SEND && action->bytes.ptr[0] <= PROTO_GOSSIP_PONG;
        if (message && n->evil == DROPPER && !ping) {
            continue;
        }
        switch (action->kind) {
        case PROTO_GOSSIP_SEND:
            transmit(s, at, action->link, action->bytes);
            break;
        case PROTO_GOSSIP_SEND_RECORDS:
            send_records(s, at, action->link, action->bytes);
            break;
        case PROTO_GOSSIP_VERIFY:
            act_verify(s, at, action);
            break;
        case PROTO_GOSSIP_STORE:
            push(s, (struct event){.at = s->now + 1 + seed_below(&s->seed, 12),
                                   .kind = STORED,
                                   .node = at,
                                   .epoch = n->epoch,
                                   .job = action->job});
            break;
        case PROTO_GOSSIP_DONE:
            act_done(s, at, action);
            break;
        case PROTO_GOSSIP_CLOSE:
            if (s->nodes[n->peers[action->link]].evil == HONEST) {
                fail(s, "closes the link of an honest node", at);
            }
            break;
        case PROTO_GOSSIP_LIVENESS:
            break;
        }
    }
    if (++n->steps % 64 == 0 && !proto_gossip_valid(n->core)) {
        fail(s, "the core's tables disagree", at);
    }
    if (s->actions->next_ms != UINT64_MAX &&
        (n->timer_at <= s->now || s->actions->next_ms < n->timer_at)) {
        n->timer_at = s->actions->next_ms > s->now ? s->actions->next_ms : s->now + 1;
        push(s, (struct event){.at = n->timer_at, .kind = TIMER, .node = at, .epoch = n->epoch});
    }
}

static void link_event(struct sim *s, int a, int b, bool up)
{
    struct proto_gossip_event event = {.kind = up ? PROTO_GOSSIP_LINK_UP : PROTO_GOSSIP_LINK_DOWN,
                                       .link = link_to(&s->nodes[a], b)};
    if (s->nodes[a].up) {
        step(s, a, &event);
    }
}

/* --- nodes ------------------------------------------------------------------------------------------------------------------- */

static void node_boot(struct sim *s, int at)
{
    struct node *n = &s->nodes[at];
    struct proto_gossip_config config = {.hash = &fake_hash,
                                         .seed = seed_next(&s->seed),
                                         .links = LINKS * 4,
                                         .records = 4096,
                                         .issuers = (uint32_t)s->count + 8};
    n->core = proto_gossip_new(&config);
    assert(n->core);
    n->up = true;
    n->epoch++;
    n->timer_at = 0;
    for (int c = 0; c < s->content_count; c++) {
        if (n->disk[c / 8] & 1 << c % 8) {
            struct proto_gossip_event event = {
                .kind = PROTO_GOSSIP_ADD,
                .bytes = span_of(s->contents[c].bytes, s->contents[c].len)};
            step(s, at, &event);
        }
    }
    for (size_t i = 0; i < n->degree; i++) {
        if (connected(s, at, n->peers[i])) {
            push(s, (struct event){.at = s->now + 50 + seed_below(&s->seed, 200),
                                   .kind = LINK_CHANGE,
                                   .node = at,
                                   .link = (uint32_t)i,
                                   .epoch = n->epoch,
                                   .up = true});
        }
    }
}

static void node_crash(struct sim *s, int at)
{
    struct node *n = &s->nodes[at];
    for (size_t i = 0; i < n->degree; i++) {
        if (connected(s, at, n->peers[i])) {
            link_event(s, n->peers[i], at, false);
        }
    }
    n->up = false;
    n->epoch++;
    memset(n->jobs, 0, sizeof n->jobs);
    proto_gossip_free(n->core);
    n->core = NULL;
}

static void own_add(struct sim *s, int at, int content)
{
    struct node *n = &s->nodes[at];
    struct proto_gossip_event event = {
        .kind = PROTO_GOSSIP_ADD,
        .own = true,
        .bytes = span_of(s->contents[content].bytes, s->contents[content].len)};
    n->disk[content / 8] |= (uint8_t)(1 << content % 8);
    step(s, at, &event);
}

static void publish(struct sim *s, int at)
{
    struct node *n = &s->nodes[at];
    if (!n->up) {
        return;
    }
    /* a new key, or the next version of one of ours, or its end */
    uint64_t key = seed_below(&s->seed, 3), seq = 1;
    for (int c = 0; c < s->content_count; c++) {
        const struct content *old = &s->contents[c];
        if (old->issuer == at && old->genuine && get_be64(old->key) == key && old->seq >= seq) {
            seq = old->seq + 1;
        }
        if (old->issuer == at && get_be64(old->key) == key && old->final) {
            return;
        }
    }
    own_add(s, at, record_make(s, at, key, seq, seed_below(&s->seed, 8) == 0, true));
}

static void mischief(struct sim *s, int at)
{
    struct node *n = &s->nodes[at];
    uint8_t junk[200];
    struct buf message = {.max = PROTO_GOSSIP_MESSAGE_MAX};
    if (!n->up) {
        return;
    }
    uint32_t link = (uint32_t)seed_below(&s->seed, n->degree);
    if (n->evil == REPLAYER && s->content_count) {
        int c = (int)seed_below(&s->seed, (uint64_t)s->content_count);
        if (proto_gossip_push_add(&message, span_of(s->contents[c].bytes, s->contents[c].len))) {
            transmit(s, at, link, buf_span(&message));
        }
    } else if (n->evil == EQUIVOCATOR && n->replay < 2) {
        int a = record_make(s, at, 100 + (uint64_t)n->replay, 1, false, true);
        int b = record_make(s, at, 100 + (uint64_t)n->replay, 1, false, true);
        n->replay++;
        for (uint32_t i = 0; i < n->degree; i++) {
            const struct content *c = &s->contents[i % 2 ? a : b];
            message.len = 0;
            if (proto_gossip_push_add(&message, span_of(c->bytes, c->len))) {
                transmit(s, at, i, buf_span(&message));
            }
        }
    } else if (n->evil == LIAR) {
        size_t len = 2 + seed_below(&s->seed, sizeof junk - 2);
        for (size_t i = 0; i < len; i++) {
            junk[i] = (uint8_t)seed_next(&s->seed);
        }
        junk[0] = (uint8_t)(1 + seed_below(&s->seed, 8));
        junk[1] = 1;
        transmit(s, at, link, span_of(junk, len));
        if (seed_below(&s->seed, 20) == 0) {
            int forged =
                record_make(s, (int)seed_below(&s->seed, (uint64_t)s->count), 7, 1000, true, false);
            if (proto_gossip_push_add(
                    &message, span_of(s->contents[forged].bytes, s->contents[forged].len))) {
                transmit(s, at, link, buf_span(&message));
            }
        }
    }
    buf_fini(&message);
}

/* --- the run ------------------------------------------------------------------------------------------------------------------- */

static void link_add(struct sim *s, int a, int b)
{
    struct node *x = &s->nodes[a], *y = &s->nodes[b];
    if (a == b || link_to(x, b) != PROTO_GOSSIP_NONE || x->degree >= LINKS * 4 - 1 ||
        y->degree >= LINKS * 4 - 1) {
        return;
    }
    x->peers[x->degree++] = b;
    y->peers[y->degree++] = a;
}

/* A ring of honest nodes, so that evil ones cannot cut them off, and random links up to four outgoing ones each. */
static void topology(struct sim *s)
{
    int first = -1, last = -1;
    for (int i = 0; i < s->count; i++) {
        if (s->nodes[i].evil == HONEST) {
            if (last >= 0) {
                link_add(s, last, i);
            }
            first = first < 0 ? i : first;
            last = i;
        }
    }
    link_add(s, last, first);
    for (int i = 0; i < s->count; i++) {
        for (int k = 0; k < LINKS / 2; k++) {
            link_add(s, i, (int)seed_below(&s->seed, (uint64_t)s->count));
        }
    }
}

static void split_or_heal(struct sim *s, bool split)
{
    for (int i = 0; i < s->count; i++) {
        s->nodes[i].side = split ? (int)seed_below(&s->seed, 2) : 0;
    }
    s->split = split;
    for (int i = 0; i < s->count; i++) {
        for (size_t k = 0; k < s->nodes[i].degree; k++) {
            int other = s->nodes[i].peers[k];
            bool apart = split && s->nodes[i].side != s->nodes[other].side;
            if (s->nodes[i].up && s->nodes[other].up && (!split || apart)) {
                link_event(s, i, other, !split);
            }
        }
    }
}

static void plan(struct sim *s)
{
    for (int i = 0; i < RECORDS; i++) {
        push(s, (struct event){.at = 500 + seed_below(&s->seed, FAULT_MS - 1000),
                               .kind = PUBLISH,
                               .node = (int)seed_below(&s->seed, (uint64_t)s->count)});
    }
    /* Each seed turns on its own mixture of faults. */
    if (seed_below(&s->seed, 2)) {
        uint64_t at = 2000 + seed_below(&s->seed, 6000);
        push(s, (struct event){.at = at, .kind = SPLIT});
        push(s, (struct event){.at = at + 2000 + seed_below(&s->seed, 8000), .kind = HEAL});
    }
    int crashes = (int)seed_below(&s->seed, (uint64_t)s->count / 4 + 1);
    for (int i = 0; i < crashes; i++) {
        int node = (int)seed_below(&s->seed, (uint64_t)s->count);
        uint64_t at = 1000 + seed_below(&s->seed, FAULT_MS - 6000);
        push(s, (struct event){.at = at, .kind = CRASH, .node = node});
        push(s, (struct event){
                    .at = at + 200 + seed_below(&s->seed, 5000), .kind = RESTART, .node = node});
    }
    for (int i = 0; i < s->count; i++) {
        for (int k = 0; s->nodes[i].evil != HONEST && k < 40; k++) {
            push(s,
                 (struct event){.at = seed_below(&s->seed, FAULT_MS), .kind = MISCHIEF, .node = i});
        }
    }
}

static void deliver(struct sim *s, struct event *e)
{
    struct node *n = &s->nodes[e->node];
    struct proto_gossip_event event = {.link = e->link, .job = e->job, .verdict = e->verdict};
    bool of_epoch = e->kind == MESSAGE || e->kind == TIMER || e->kind == VERIFIED ||
                    e->kind == STORED || e->kind == LINK_CHANGE;
    if (of_epoch && (!n->up || n->epoch != e->epoch)) {
        return;
    }
    switch (e->kind) {
    case MESSAGE:
        event.kind = PROTO_GOSSIP_MSG;
        event.bytes = span_of(e->bytes, e->len);
        step(s, e->node, &event);
        break;
    case TIMER:
        event.kind = PROTO_GOSSIP_TIMER;
        step(s, e->node, &event);
        break;
    case VERIFIED:
        event.kind = PROTO_GOSSIP_VERIFIED;
        step(s, e->node, &event);
        break;
    case STORED: {
        int c = n->jobs[e->job & 0xffff].content;
        event.ok = seed_below(&s->seed, 50) != 0 || !s->faults; /* now and then the disk is full */
        event.kind = PROTO_GOSSIP_STORED;
        if (event.ok) {
            n->disk[c / 8] |= (uint8_t)(1 << c % 8);
        }
        step(s, e->node, &event);
        break;
    }
    case PUBLISH:
        publish(s, e->node);
        break;
    case CRASH:
        if (n->up) {
            node_crash(s, e->node);
        }
        break;
    case RESTART:
        if (!n->up) {
            node_boot(s, e->node);
        }
        break;
    case SPLIT:
        split_or_heal(s, true);
        break;
    case HEAL:
        split_or_heal(s, false);
        break;
    case MISCHIEF:
        mischief(s, e->node);
        break;
    case LINK_CHANGE:
        if (connected(s, e->node, n->peers[e->link])) {
            link_event(s, e->node, n->peers[e->link], true);
            link_event(s, n->peers[e->link], e->node, true);
        }
        break;
    }
}

static void run_to(struct sim *s, uint64_t until)
{
    while (s->heap_len && s->heap[0].at <= until) {
        struct event e = pop(s);
        s->now = e.at;
        deliver(s, &e);
        free(e.bytes);
    }
    s->now = until;
}

static bool equal(struct sim *s)
{
    uint8_t first[16], other[16];
    bool have = false;
    for (int i = 0; i < s->count; i++) {
        if (s->nodes[i].evil != HONEST) {
            continue;
        }
        proto_gossip_root(s->nodes[i].core, have ? other : first);
        if (have && memcmp(first, other, 16) != 0) {
            return false;
        }
        have = true;
    }
    return true;
}

/* What the set must be, computed another way: per key the best record that any honest node has on disk. */
static void audit(struct sim *s)
{
    for (int c = 0; c < s->content_count; c++) {
        const struct content *x = &s->contents[c];
        bool kept = false, best = true;
        for (int i = 0; i < s->count; i++) {
            kept |= s->nodes[i].evil == HONEST && (s->nodes[i].disk[c / 8] & 1 << c % 8);
        }
        struct proto_record rx, ry;
        enum err err = proto_record_decode(span_of(x->bytes, x->len), &fake_hash, &rx, NULL);
        assert(!err);
        for (int d = 0; d < s->content_count && best; d++) {
            const struct content *y = &s->contents[d];
            bool theirs = false;
            for (int i = 0; i < s->count; i++) {
                theirs |= s->nodes[i].evil == HONEST && (s->nodes[i].disk[d / 8] & 1 << d % 8);
            }
            if (d == c || !theirs || y->issuer != x->issuer || memcmp(y->key, x->key, 16) != 0) {
                continue;
            }
            err = proto_record_decode(span_of(y->bytes, y->len), &fake_hash, &ry, NULL);
            assert(!err);
            best = proto_record_compare(&rx, &ry) >= 0;
        }
        for (int i = 0; i < s->count; i++) {
            bool has = s->nodes[i].evil == HONEST && proto_gossip_has(s->nodes[i].core, x->rid);
            if (has && !x->genuine) {
                fail(s, "holds a forged record", i);
            }
            if (s->nodes[i].evil == HONEST && kept && best && !has) {
                fail(s, "lacks a record that stands", i);
            }
        }
    }
}

static void forks_seen(struct sim *s)
{
    for (int c = 0; c + 1 < s->content_count; c++) {
        const struct content *a = &s->contents[c], *b = &s->contents[c + 1];
        if (s->nodes[a->issuer].evil != EQUIVOCATOR || get_be64(a->key) < 100 ||
            a->issuer != b->issuer || memcmp(a->key, b->key, 16) != 0) {
            continue;
        }
        bool any_a = false, any_b = false;
        for (int i = 0; i < s->count; i++) {
            any_a |= s->nodes[i].evil == HONEST && proto_gossip_has(s->nodes[i].core, a->rid);
            any_b |= s->nodes[i].evil == HONEST && proto_gossip_has(s->nodes[i].core, b->rid);
        }
        for (int i = 0; i < s->count && any_a && any_b; i++) {
            if (s->nodes[i].evil == HONEST && (!proto_gossip_has(s->nodes[i].core, a->rid) ||
                                               !proto_gossip_has(s->nodes[i].core, b->rid))) {
                fail(s, "does not know both halves of an equivocation", i);
            }
        }
    }
}

struct result {
    uint64_t trace, healed_ms, messages, payload;
    int records;
};

static struct result simulate(uint64_t number, int count, unsigned loss)
{
    bool evil = number % 2 == 0; /* every other seed has only honest members */
    struct sim s = {.seed = seed_of(number), .count = count, .loss = loss, .faults = true};
    s.content_cap = 4096;
    s.contents = calloc((size_t)s.content_cap, sizeof *s.contents);
    s.nodes = calloc((size_t)count, sizeof *s.nodes);
    s.actions = proto_gossip_actions_new();
    assert(s.contents && s.nodes && s.actions);
    for (int i = 0; i < count; i++) {
        s.nodes[i].disk = calloc((size_t)s.content_cap / 8, 1);
        assert(s.nodes[i].disk);
        if (seed_below(&s.seed, 10) == 0 && evil) {
            s.nodes[i].evil = (enum evil)(1 + seed_below(&s.seed, 4));
        }
    }
    topology(&s);
    for (int i = 0; i < count; i++) {
        node_boot(&s, i);
    }
    plan(&s);
    run_to(&s, FAULT_MS);
    s.faults = false;
    s.loss = 0;
    if (s.split) {
        split_or_heal(&s, false);
    }
    for (int i = 0; i < count; i++) {
        if (!s.nodes[i].up) {
            node_boot(&s, i);
        }
    }
    while (!equal(&s) && s.now < FAULT_MS + HEAL_MS) {
        run_to(&s, s.now + 100);
    }
    struct result result = {.healed_ms = s.now - FAULT_MS, .records = s.content_count};
    if (!equal(&s)) {
        fail(&s, "the sets are not equal in time", -1);
    }
    run_to(&s, s.now + 3000);
    if (!equal(&s)) {
        fail(&s, "the sets did not stay equal", -1);
    }
    audit(&s);
    forks_seen(&s);
    two_codecs(&s);
    uint64_t talk = s.talk;
    run_to(&s, s.now + 12000);
    if (!evil && s.talk != talk) {
        fail(&s, "equal sets, and still more than pings", -1);
    }
    for (int i = 0; i < count; i++) {
        if (!proto_gossip_valid(s.nodes[i].core)) {
            fail(&s, "the core's tables disagree", i);
        }
        proto_gossip_free(s.nodes[i].core);
        free(s.nodes[i].disk);
    }
    result.trace = s.trace;
    result.messages = s.messages;
    result.payload = s.payload;
    while (s.heap_len) {
        free(pop(&s).bytes);
    }
    for (int i = 0; i < s.content_count; i++) {
        free(s.contents[i].bytes);
    }
    free(s.contents);
    free(s.nodes);
    free(s.heap);
    proto_gossip_actions_free(s.actions);
    return result;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

int main(void)
{
    static const unsigned losses[] = {0, 10, 30};
    uint64_t seeds = number_of("SEEDS", 100), first = seed_number(1), worst = 0;
    uint64_t nodes = number_of("NODES", 0), loss = number_of("LOSS", UINT64_MAX);
    for (uint64_t i = 0; i < seeds; i++) {
        uint64_t number = first + i;
        struct seed pick = seed_of(number ^ UINT64_C(0xa5a5a5a5));
        int count = nodes ? (int)nodes : 20 + (int)seed_below(&pick, 41);
        unsigned lost = loss == UINT64_MAX ? losses[number % 3] : (unsigned)loss;
        printf("# SEED=%" PRIu64 " NODES=%d LOSS=%u\n", number, count, lost);
        struct result result = simulate(number, count, lost);
        if (i == 0 && simulate(number, count, lost).trace != result.trace) {
            printf("not ok - the same seed ran differently\n");
            return 1;
        }
        worst = result.healed_ms > worst ? result.healed_ms : worst;
        printf("# %d records, equal %" PRIu64 " ms after the heal, %" PRIu64
               " messages, trace %016" PRIx64 "\n",
               result.records, result.healed_ms, result.messages, result.trace);
    }
    printf("1..1\nok 1 - %" PRIu64 " seeds, worst heal %" PRIu64 " ms\n", seeds, worst);
    return 0;
}
