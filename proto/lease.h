/* Which of several nodes coordinates a job: at one time it is the one that holds the lease. A pure machine, one for each node
 * and job: times and messages go in, answers come out.
 *
 *     struct proto_lease lease = {.holders = 3, .self = 1, .heard_ms = now};
 *     if (proto_lease_due(&lease, now)) {
 *         term = proto_lease_ballot(&lease);
 *         answer = proto_lease_prepare(&lease, term, false, now);      made durable; then each other holder is asked the same
 *         ... with YES from a majority: take the newest state that any of them has, proto_lease_lead(&lease, term, ..)
 *     }
 *
 * The holders stand in the plan, numbered from 0; the first begins, in term 1. A term belongs to one holder (term - 1 modulo
 * their number), so no two ever share one. Whoever leads gives each state to the others (KEEP) before it counts: a majority,
 * itself among it, must have it on disk. Whoever wants to lead asks for promises (PREPARE) of a majority, and goes on from the
 * newest state that these have: two majorities share a node, so what counted is never lost. This is the usual consensus by
 * ballots (Lamport, "Paxos made simple", 2001; Oki and Liskov, PODC 1988), with the state itself as the value.
 *
 * A holder without any state promises nothing, since it would have nowhere to keep the promise: a candidate gives it its own
 * state first, as if the message of the earlier leader had come late.
 *
 * That the leader is alive (RENEW, KEEP) only keeps the others from asking in vain. What a wrong guess costs is a new term:
 * sites answer the highest term only, and sign one update for a round whoever asks (round_site.h), so two nodes that both think
 * they lead can do no harm.
 *
 * Durable: promised, term, save, before an answer YES leaves. After a restart the driver fills them in, with heard_ms of now.
 * Threads: one at a time. Limits: PROTO_LEASE_HOLDERS. No allocation. */
#ifndef CONCORDAT_PROTO_LEASE_H
#define CONCORDAT_PROTO_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROTO_LEASE_HOLDERS    9
#define PROTO_LEASE_RENEW_MS   2000
#define PROTO_LEASE_MS         7000 /* without a sign of the leader; then the next one tries */
#define PROTO_LEASE_STAGGER_MS 3000 /* between one and the next */
#define PROTO_LEASE_RETRY_MS   5000

struct proto_lease {
    uint64_t holders, self;
    uint64_t promised;   /* no lower term is listened to */
    uint64_t term, save; /* of the newest state here; 0: none */
    bool leading;        /* in the term `promised` */
    uint64_t heard_ms;   /* when the leader of `promised` last gave a sign */
    uint64_t tried_ms;   /* last try to lead; 0: none */
};

enum proto_lease_answer {
    PROTO_LEASE_YES,
    PROTO_LEASE_OLD,     /* a higher term was promised */
    PROTO_LEASE_NOTHING, /* no state here, or none of this term: send it */
    PROTO_LEASE_ALIVE,   /* the leader gave a sign a moment ago */
    PROTO_LEASE_ANSWERS
};

/* How many of HOLDERS must agree. */
uint64_t proto_lease_quorum(uint64_t holders);
/* Whose term it is. */
uint64_t proto_lease_owner(uint64_t term, uint64_t holders);
/* The lowest term of SELF above all that it knows of. */
uint64_t proto_lease_ballot(const struct proto_lease *lease);
/* Whether SELF should try to lead. */
bool proto_lease_due(const struct proto_lease *lease, uint64_t now_ms);

/* What a holder answers. YES to a higher term than its own ends its lead. */
enum proto_lease_answer proto_lease_renew(struct proto_lease *lease, uint64_t term,
                                          uint64_t now_ms);
/* YES: when (term, save) is above what was here (RET_NEWER), the state that came with it is to be stored. */
enum proto_lease_answer proto_lease_keep(struct proto_lease *lease, uint64_t term, uint64_t save,
                                         uint64_t now_ms, bool *ret_newer);
/* FORCE: a person wants it, also while the leader is alive. */
enum proto_lease_answer proto_lease_prepare(struct proto_lease *lease, uint64_t term, bool force,
                                            uint64_t now_ms);
/* A majority promised TERM to SELF. */
void proto_lease_lead(struct proto_lease *lease, uint64_t term);
/* The leader has written a state of its own. */
void proto_lease_wrote(struct proto_lease *lease, uint64_t save);
/* SELF no longer leads, or somebody told it of a higher term. */
void proto_lease_yield(struct proto_lease *lease, uint64_t term, uint64_t now_ms);

bool proto_lease_valid(const struct proto_lease *lease);

#endif
