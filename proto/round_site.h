/* A training job as one of its sites sees it: may this request be computed, is it answered from what was stored, or
 * refused? A pure state machine; the coordinator's side is round.h.
 *
 *     proto_round_site_step(&site, &event, &reply);
 *     switch (reply.answer) {
 *     case PROTO_ROUND_SITE_COMPUTE:  make `site` durable, then train reply.steps, store the update, give STORED, send it
 *     case PROTO_ROUND_SITE_RESEND:   send the stored bytes of this round again
 *     case PROTO_ROUND_SITE_REFUSE:   say reply.reason
 *     case PROTO_ROUND_SITE_BUSY:     say "busy"; the coordinator asks again
 *     case PROTO_ROUND_SITE_ACCEPT:   make `site` durable, then confirm
 *     }
 *
 * The rule this guards: a site signs at most one update for a (job, round, plan). Whether a round was answered is read from
 * the durable marks by the driver and comes with the event, since the mark and the update are written as one; the machine
 * adds what the marks cannot say: rounds only go up, steps are never given twice, an older term starts no work.
 * `site` is written whenever it says COMPUTE or ACCEPT, before the driver goes on: then a crash can waste steps, never reuse
 * them. It is plain numbers; after a restart the driver fills in what it wrote, with `busy_round` 0.
 *
 * Threads: one at a time for one job. Limits: none. No allocation. */
#ifndef CONCORDAT_PROTO_ROUND_SITE_H
#define CONCORDAT_PROTO_ROUND_SITE_H

#include "proto/err.h"

#include <stdbool.h>
#include <stdint.h>

enum proto_round_site_state {
    PROTO_ROUND_SITE_NONE, /* no plan was admitted */
    PROTO_ROUND_SITE_PLANNED,
    PROTO_ROUND_SITE_ACTIVE, /* work has begun */
    PROTO_ROUND_SITE_ENDED,
    PROTO_ROUND_SITE_STATES,
};

struct proto_round_site {
    enum proto_round_site_state state;
    uint8_t plan_hash[32];
    uint64_t rounds;          /* of the plan */
    uint64_t steps_per_round; /* what a round wants */
    uint64_t steps_left;      /* of those reserved */
    uint64_t last_round;      /* highest whose work began */
    uint64_t term;            /* highest seen */
    uint64_t busy_round;      /* at work now; 0: none */
};

enum proto_round_site_event_kind {
    PROTO_ROUND_SITE_PLAN, /* plan_hash, rounds, steps_per_round, steps, term, reopened; permitted or reason */
    PROTO_ROUND_SITE_ROUND,   /* plan_hash, round, term, stored; permitted or reason */
    PROTO_ROUND_SITE_STORED,  /* round: its update and mark are on disk */
    PROTO_ROUND_SITE_GAVE_UP, /* round: the work was cancelled or failed */
    PROTO_ROUND_SITE_STOP,    /* plan_hash, term */
    PROTO_ROUND_SITE_EVENTS,
};

struct proto_round_site_event {
    enum proto_round_site_event_kind kind;
    uint8_t plan_hash[32];
    uint64_t rounds, steps_per_round;
    uint64_t steps; /* reserved for the whole job */
    uint64_t round, term;
    bool stored;    /* the durable mark of (job, round, plan) is there */
    bool reopened;  /* PLAN of an ended part: a stopped job goes on, its steps are reserved anew */
    bool permitted; /* by the licence, now */
    const char *reason; /* when not permitted */
};

enum proto_round_site_answer {
    PROTO_ROUND_SITE_COMPUTE,
    PROTO_ROUND_SITE_RESEND,
    PROTO_ROUND_SITE_REFUSE,
    PROTO_ROUND_SITE_BUSY,
    PROTO_ROUND_SITE_ACCEPT,
    PROTO_ROUND_SITE_NOTED, /* nothing to say or do */
};

struct proto_round_site_reply {
    enum proto_round_site_answer answer;
    uint64_t steps;     /* of COMPUTE: 1 to steps_per_round, taken off steps_left */
    const char *reason; /* of REFUSE: a constant, or that of the event */
};

/* Total: any event in any state; a zeroed structure is NONE. */
void proto_round_site_step(struct proto_round_site *site,
                           const struct proto_round_site_event *event,
                           struct proto_round_site_reply *ret);
bool proto_round_site_valid(const struct proto_round_site *site);

#endif
