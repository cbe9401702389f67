/* A training job as its coordinator sees it: a pure state machine that offers a plan, asks for rounds, closes them, and
 * survives being killed anywhere. Events with their own time go in, actions come out; it has no clock, socket or disk and
 * sees no model: an update is its hash, bound to the job's plan. What a site decides is round_site.h.
 *
 *     proto_round_init(&round);
 *     event = (struct proto_round_event){.kind = PROTO_ROUND_START, .now_ms = now, .institutions = of_site, .site_count = 5,
 *                                        .rounds = 20, .min_sites = 3, .timeout_ms = 60000, .retries = 2};
 *     for (;;) {
 *         err = proto_round_step(&round, &event, &out);
 *         for (size_t i = 0; i < out.count; i++) { perform(&out.items[i]); }     in this order
 *         event = wait_for_an_answer_or_the_timer();
 *     }
 *
 * A driver that blocks in one call to many sites performs all SEND_PLAN (or SEND_ROUND) of a step together, then steps
 * through the answers one by one (those to the plan first: who joins is asked for the round before it closes) and collects
 * what comes out; when nothing is left to send it sleeps until the last SET_TIMER and gives TIMER. A driver with a loop gives each event as it comes. tests/sim/sim_round.c is the second kind.
 *
 * Persist before next: PERSIST means "write what proto_round_encode gives now, together with the model of that round, and
 * give PERSISTED with the same save number when it is on disk". Nothing is asked of a site before: so a round is asked for
 * with one model only, whatever was lost in between, and two lives of a coordinator never share a term. A driver that
 * cannot write drops the machine; what is on disk is the job, and RESUME takes it up.
 *
 * Each START and RESUME begins a new term. An answer to a request of an earlier term counts only where it says nothing
 * new: an update whose hash the site is known to have given. A site signs one update
 * for a round, so two hashes for one round, of whatever term, prove a lie: it is EQUIVOCATED, takes no further part, and
 * what it gave in a round that is still open is left out.
 *
 * In each closed round every invited site either took part (a bit in `participants`) or was named by one NAME_ABSENT before
 * CLOSE_ROUND. min_sites counts institutions, not sites. A site that did not answer the plan is offered it again with each
 * round and joins when it admits. One that refuses a round is asked again in the next; one that refuses the plan, after
 * RESUME. When everybody asked has failed or refused, the next try comes after PROTO_ROUND_PAUSE_MS, not at the deadline.
 *
 * A site that refuses a round with STEPS_USED_UP has nothing left for any later one (a crash in a round uses its steps up).
 * Where that leaves too few institutions for ever and a round is on disk, the job is DONE with the rounds it has.
 *
 * A job that was STOPPED may go on by RESUME, which offers all sites the plan again: they have given back what they had left.
 *
 * SEND_STOP of DONE may wait until the driver has asked for what it wants to know of the finished model.
 *
 * Threads: one at a time. Limits: the constants below. Allocation: only in encode and decode.
 * Term as fence: the usual epoch or ballot number of leader election, here of one coordinator's lives (Ongaro and
 * Ousterhout, USENIX ATC 2014, section 5.1). */
#ifndef CONCORDAT_PROTO_ROUND_H
#define CONCORDAT_PROTO_ROUND_H

#include "proto/alloc.h"
#include "proto/err.h"

#define PROTO_ROUND_SITES       256
#define PROTO_ROUND_ROUNDS_MAX  1000000
#define PROTO_ROUND_TIMEOUT_MAX ((uint64_t)7 * 24 * 3600 * 1000)
#define PROTO_ROUND_RETRIES_MAX 1000
#define PROTO_ROUND_PAUSE_MS    1000 /* before the next try when everybody has failed */
#define PROTO_ROUND_WEIGHT_MAX  ((uint64_t)1 << 53)
#define PROTO_ROUND_REASON      64 /* with the terminating zero */
#define PROTO_ROUND_ACTIONS     (2 * PROTO_ROUND_SITES + 8)
#define PROTO_ROUND_SNAPSHOT    ((size_t)64 << 10) /* bytes; no encoding is longer */

/* Reasons that the machine itself gives for an absence; others are what REFUSED and FAILED brought. */
#define PROTO_ROUND_REASON_TIMEOUT     "TIMEOUT"
#define PROTO_ROUND_REASON_NO_ANSWER   "NO_ANSWER" /* to the plan */
#define PROTO_ROUND_REASON_EQUIVOCATED "EQUIVOCATED"
/* A site's refusal of a round, which stands for all later ones: what it reserved is spent. */
#define PROTO_ROUND_REASON_STEPS "STEPS_USED_UP"

enum proto_round_state {
    PROTO_ROUND_IDLE,
    PROTO_ROUND_OPENING,  /* the new term is being written */
    PROTO_ROUND_PLANNING, /* the plan is offered */
    PROTO_ROUND_ASKING,   /* a round is open */
    PROTO_ROUND_CLOSING,  /* a closed round is being written */
    PROTO_ROUND_ENDING,   /* an end other than DONE is being written */
    PROTO_ROUND_WAITING,  /* too few took part for too long; RESUME goes on */
    PROTO_ROUND_FAILED,   /* too few admitted the plan */
    PROTO_ROUND_STOPPED,
    PROTO_ROUND_DONE,
    PROTO_ROUND_STATES,
};

enum proto_round_standing {
    PROTO_ROUND_INVITED, /* has not answered the plan */
    PROTO_ROUND_ADMITTED,
    PROTO_ROUND_REFUSED, /* the plan; until RESUME, which asks again */
    PROTO_ROUND_EQUIVOCATED,
    PROTO_ROUND_STANDINGS,
};

/* One invited site. What follows `hash` belongs to the present term and is in no snapshot. */
struct proto_round_party {
    uint64_t institution; /* sites of one institution have the same number */
    uint64_t weight;      /* as it admitted; 0 before */
    enum proto_round_standing standing;
    char reason[PROTO_ROUND_REASON]; /* why it is not with us, or why its last try failed; "" */
    bool known;                      /* `hash` is what it gave for round `asked_round` */
    uint8_t hash[32];
    bool answered; /* the driver has the update with this hash */
    bool asked;    /* the plan or the round was sent and nothing has come back */
    bool failed;   /* what was sent failed */
    bool declined; /* it refused the open round; the next one asks it again */
    bool used_up;  /* it has no steps left for any round */
    bool held;     /* of its refusal of the plan: a person there may still approve it */
};

struct proto_round {
    enum proto_round_state state;
    enum proto_round_state final; /* in ENDING: what comes after */
    bool live;                    /* false: from a snapshot, and only RESUME or STOP moves it */
    uint64_t term;
    uint64_t round;       /* closed so far: its number */
    uint64_t asked_round; /* the one that `known` is about: `round`, or the open one after it */
    uint64_t rounds, min_sites, timeout_ms, retries, plan_retries;
    uint64_t next_round;  /* in PLANNING: what comes after; not in a snapshot */
    uint64_t attempt;     /* of this plan or round: 0 is the first */
    uint64_t deadline_ms; /* PLANNING and ASKING */
    uint64_t save;        /* number of the last PERSIST */
    size_t site_count;
    struct proto_round_party sites[PROTO_ROUND_SITES];
};

enum proto_round_event_kind {
    PROTO_ROUND_START, /* institutions, site_count, rounds, min_sites, timeout_ms, retries, plan_retries */
    PROTO_ROUND_SITE_ADMITTED, /* site, weight, term */
    PROTO_ROUND_SITE_REFUSED,  /* site, round (0: the plan), term, reason, held */
    PROTO_ROUND_SITE_UPDATED,  /* site, round, term, hash */
    PROTO_ROUND_SITE_FAILED, /* site, round (0: the plan), term, reason: no answer came, or none that can be read */
    PROTO_ROUND_TIMER,
    PROTO_ROUND_PERSISTED, /* save, round; next */
    PROTO_ROUND_STOP,      /* ends the job until RESUME; term, as of RESUME, or 0 */
    PROTO_ROUND_RESUME,    /* term; after proto_round_decode, or in WAITING or STOPPED */
    PROTO_ROUND_EVENTS,
};

struct proto_round_event {
    enum proto_round_event_kind kind;
    uint64_t now_ms; /* monotonic in one life; it may begin anew with RESUME */
    size_t site;
    uint64_t round;
    uint64_t
        term; /* of RESUME: the new one, if it is above the last; else it is the next. Several nodes that may coordinate a job never
                    * take the same (lease.h) */
    uint64_t weight; /* 1 to PROTO_ROUND_WEIGHT_MAX */
    uint8_t hash[32];
    const char *reason; /* 1 to 63 bytes of UTF-8 */
    bool held;          /* a person at the site has not decided yet: RESUME may find it approved */
    uint64_t save;
    /* Which round comes after the one that is on disk; 0: the following. A driver that stops early names a later one, or
     * any past the last to be done. It must decide the same from the same disk. */
    uint64_t next;
    const uint64_t *institutions; /* of each site, below PROTO_ROUND_SITES */
    size_t site_count;
    uint64_t rounds, min_sites, timeout_ms;
    uint64_t retries;      /* of a round; then the job waits */
    uint64_t plan_retries; /* of the plan, the same; in the first life the job then fails */
};

enum proto_round_action_kind {
    PROTO_ROUND_SEND_PLAN,   /* site, term */
    PROTO_ROUND_SEND_ROUND,  /* site, round, term */
    PROTO_ROUND_SET_TIMER,   /* at_ms; replaces the one before */
    PROTO_ROUND_NAME_ABSENT, /* site, round, reason */
    PROTO_ROUND_CLOSE_ROUND, /* round; out->participants: aggregate exactly these */
    PROTO_ROUND_PERSIST,     /* round, save */
    PROTO_ROUND_SEND_STOP,   /* site: the job is over, give back what was not used */
    PROTO_ROUND_FINISH, /* state: WAITING, FAILED, STOPPED or DONE; nothing more will be asked for */
};

struct proto_round_action {
    enum proto_round_action_kind kind;
    size_t site;
    uint64_t round, term, at_ms, save;
    enum proto_round_state state;
    const char *reason; /* points into the machine: valid until its next step */
};

struct proto_round_actions {
    struct proto_round_action items[PROTO_ROUND_ACTIONS];
    size_t count;
    uint8_t
        participants[PROTO_ROUND_SITES / 8]; /* of CLOSE_ROUND: site s is bit s % 8 of byte s / 8 */
};

void proto_round_init(struct proto_round *round);

/* Replaces what was in OUT. A late or repeated answer is ignored (E_OK, no action); which event means what in which state
 * is the table above the code.
 * Errors: E_INVALID the state does not allow the event, or the event is malformed; E_LIMIT a number is out of bounds.
 * On failure nothing has changed and OUT is empty. */
MUST_CHECK enum err proto_round_step(struct proto_round *round,
                                     const struct proto_round_event *event,
                                     struct proto_round_actions *out);

/* Appends a snapshot. Errors: E_LIMIT out is full; E_NO_MEMORY. */
MUST_CHECK enum err proto_round_encode(const struct proto_round *round, struct buf *out,
                                       struct err_info *reterr);
/* RET is set on success only, valid, and waits for RESUME or STOP. Errors: those of the codec; E_INVALID the parts do not
 * fit each other. */
MUST_CHECK enum err proto_round_decode(struct span bytes, struct proto_round *ret,
                                       struct err_info *reterr);

bool proto_round_took_part(const struct proto_round_actions *out, size_t site);
/* "planning", "done", ... and "admitted", ... in lower case. */
const char *proto_round_state_name(enum proto_round_state state);
const char *proto_round_standing_name(enum proto_round_standing standing);
/* For assertions and tests: the parts of the machine agree. */
bool proto_round_valid(const struct proto_round *round);

#endif
