/* Gossip of signed records: a pure state machine that keeps the same set of records at every node. Events with their
 * own time go in, actions come out; it has no clock, socket, disk or random source, and checks no signature: that is an
 * action (VERIFY) answered by an event. The daemon's driver is node/peer/gossip.c, the simulator's tests/sim/sim_gossip.c.
 *
 *     struct proto_gossip *gossip = proto_gossip_new(&config);
 *     struct proto_gossip_actions *out = proto_gossip_actions_new();
 *     proto_gossip_step(gossip, &event, out);
 *     for (size_t i = 0; i < out->count; i++) { perform(&out->items[i]); }
 *     arm_timer(out->next_ms);
 *
 * A record's way:      MSG(PUSH) -> VERIFY(job) -> VERIFIED -> STORE(job) -> STORED -> in the set, sent on -> DONE(job)
 * An own record's way: made durable by the driver -> ADD -> in the set, sent to every link
 *
 * The set: per (issuer, key, kind) the head by the merge order of record.h, and beside it the second best version of the
 * same seq if there is one, since the two together prove that the issuer signed two histories. Each rid counts in one of
 * 256 buckets by its first byte; a bucket's fingerprint is the sum of SHA-256("concordat1-fp" 0 | rid) mod 2^256.
 *
 * Spread: a new record goes at once to the link's eager peers (own records and withdrawals: to all links), its id to
 * the other active links, which ask for what they lack. Repair: every ping carries the root over the whole set; when
 * roots differ, DIGEST (256 fingerprints) is answered by IDS (ids of the buckets that differ), and both sides then send
 * and ask for exactly what is missing. Nothing depends on a message arriving: the next ping finds what was lost.
 *
 * Liveness of a link is soft state and never removes a record or a member:
 *     DOWN --LINK_UP--> UP --ping unanswered--> SUSPECT --2 more--> DEAD --any message--> UP;  LINK_DOWN from any
 *
 * Messages (all numbers big-endian; first byte type, second version 1):
 *     PING, PONG  root 16 | count u64 | wall clock ms u64              PUSH  (len u16 | record)+
 *     IHAVE, GET  rid 16 +                                             DIGEST  256 x 8
 *     IDS  more u8 | mask 32 | rid 16 *, ascending
 * Unknown types are ignored, for newer versions to use.
 *
 * Threads: one at a time. Limits: the constants below and proto_gossip_config; what does not fit is dropped, counted and
 * found again by a later digest. Allocation: in proto_gossip_new, and inside proto_record_decode. */
#ifndef CONCORDAT_PROTO_GOSSIP_H
#define CONCORDAT_PROTO_GOSSIP_H

#include "proto/record.h"

#define PROTO_GOSSIP_MESSAGE_MAX ((size_t)64 << 10)
#define PROTO_GOSSIP_IDS_MAX     2048 /* in one IDS */
#define PROTO_GOSSIP_GET_MAX     256  /* in one GET or IHAVE, and records given in one exchange */
#define PROTO_GOSSIP_ACTIVE      8    /* links that are pinged and get what others published */
#define PROTO_GOSSIP_EAGER       3    /* of these, how many get the record itself at once */
#define PROTO_GOSSIP_JOBS        512
#define PROTO_GOSSIP_WANTS       1024
#define PROTO_GOSSIP_ACTIONS     4096
#define PROTO_GOSSIP_NONE        UINT32_MAX /* no link */

enum proto_gossip_message {
    PROTO_GOSSIP_PING = 1,
    PROTO_GOSSIP_PONG,
    PROTO_GOSSIP_PUSH,
    PROTO_GOSSIP_IHAVE,
    PROTO_GOSSIP_GET,
    PROTO_GOSSIP_DIGEST,
    PROTO_GOSSIP_IDS,
};

struct proto_gossip_config {
    const struct proto_hash *hash;
    uint64_t seed;    /* secret and different at each node; from a random source */
    uint32_t links;   /* link numbers are below this */
    uint32_t records; /* most (issuer, key, kind) slots */
    uint32_t issuers; /* most issuers */
    uint32_t ping_ms; /* 0: 5 s while records change, 10 s, 30 s when idle; else always this */
    uint32_t issuer_per_min; /* new versions of one issuer: 0 is 60; the burst is ten times that */
    uint32_t issuer_keys;    /* live slots of one issuer: 0 is 10,000 */
    uint32_t link_per_s; /* records taken from one link: 0 is 500; the burst is four times that */
};

enum proto_gossip_event_kind {
    PROTO_GOSSIP_LINK_UP,   /* link */
    PROTO_GOSSIP_LINK_DOWN, /* link */
    PROTO_GOSSIP_MSG,       /* link, bytes */
    PROTO_GOSSIP_ADD, /* bytes: a record that is verified and durable already; own: publish it to all links */
    PROTO_GOSSIP_VERIFIED, /* job, verdict */
    PROTO_GOSSIP_STORED,   /* job, ok */
    PROTO_GOSSIP_TIMER,
};

enum proto_gossip_verdict {
    PROTO_GOSSIP_ACCEPT,
    PROTO_GOSSIP_REJECT, /* a bad signature: the sender answers for it */
    PROTO_GOSSIP_LATER,  /* cannot be judged now, e.g. an issuer not known yet: nobody's fault */
};

struct proto_gossip_event {
    enum proto_gossip_event_kind kind;
    uint64_t now_ms;  /* monotonic */
    uint64_t wall_ms; /* unix */
    uint32_t link;
    struct span bytes;
    uint32_t job;
    enum proto_gossip_verdict verdict;
    bool ok;
    bool own;
};

enum proto_gossip_liveness {
    PROTO_GOSSIP_DOWN,
    PROTO_GOSSIP_UP,
    PROTO_GOSSIP_SUSPECT,
    PROTO_GOSSIP_DEAD, /* connected but silent */
};

enum proto_gossip_action_kind {
    PROTO_GOSSIP_SEND, /* link, bytes */
    PROTO_GOSSIP_SEND_RECORDS, /* link, bytes: rids; the driver sends these records in PUSH messages, in this order */
    PROTO_GOSSIP_VERIFY,   /* job, link, bytes: the record, borrowed from the event */
    PROTO_GOSSIP_STORE,    /* job */
    PROTO_GOSSIP_DONE,     /* job is over; ok: it is in the set now; forked: its key is disputed */
    PROTO_GOSSIP_LIVENESS, /* link, liveness */
    PROTO_GOSSIP_CLOSE,    /* link: too much nonsense came from it; refuse it for a while */
};

struct proto_gossip_action {
    enum proto_gossip_action_kind kind;
    uint32_t link;
    uint32_t job;
    enum proto_gossip_liveness liveness;
    bool ok;
    bool forked;
    struct span bytes; /* valid until the next step with the same actions */
};

struct proto_gossip_actions {
    struct proto_gossip_action items[PROTO_GOSSIP_ACTIONS];
    size_t count;
    uint64_t next_ms; /* when TIMER is due */
    uint64_t dropped; /* actions that did not fit, since the beginning */
    size_t used;
    uint8_t bytes[(size_t)256 << 10];
};

struct proto_gossip_counters {
    uint64_t fresh, duplicate, stale, rejected, later, limited, malformed, forked, digests, full;
};

struct proto_gossip_link_view {
    enum proto_gossip_liveness liveness;
    bool active;
    bool root_known, root_equal; /* by its last ping or pong */
    uint64_t count;
    bool clock_known;
    int64_t clock_ahead_ms; /* its wall clock less ours, by its last ping or pong */
    uint64_t heard_ms;      /* monotonic; 0 never */
    int32_t score;          /* thousandths */
};

struct proto_gossip;

/* NULL: out of memory, or a config without hash, links, records or issuers. */
struct proto_gossip *proto_gossip_new(const struct proto_gossip_config *config);
void proto_gossip_free(struct proto_gossip *gossip);
struct proto_gossip_actions *proto_gossip_actions_new(void);
void proto_gossip_actions_free(struct proto_gossip_actions *actions);

/* Total: any event with any bytes. Replaces what was in OUT. */
void proto_gossip_step(struct proto_gossip *gossip, const struct proto_gossip_event *event,
                       struct proto_gossip_actions *out);

/* Appends PUSH message bytes for one more record to MESSAGE (empty: begins one); false: it would grow too long, or it is
 * out of memory, and MESSAGE is unchanged. */
bool proto_gossip_push_add(struct buf *message, struct span record);

bool proto_gossip_has(const struct proto_gossip *gossip, const uint8_t rid[16]);
/* The key that RID is a version of; false: it is not in the set. ret_second: it is not the head but the proof of an
 * equivocation, which stores keep apart. */
bool proto_gossip_key(const struct proto_gossip *gossip, const uint8_t rid[16],
                      uint8_t ret_issuer[16], uint8_t ret_key[16], uint64_t *ret_kind,
                      bool *ret_second);
uint64_t proto_gossip_root(const struct proto_gossip *gossip,
                           uint8_t ret_root[16]); /* returns the count of rids */
void proto_gossip_link(const struct proto_gossip *gossip, uint32_t link,
                       struct proto_gossip_link_view *ret);
void proto_gossip_counters(const struct proto_gossip *gossip, struct proto_gossip_counters *ret);
/* For assertions and tests: the index, the slots, the sums and the counts agree. Slow. */
bool proto_gossip_valid(const struct proto_gossip *gossip);

#endif
