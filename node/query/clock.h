/* The time that this node goes by. Licences end, approvals run out and agreements count months, so that a clock that was
 * set back must not bring back what is over.
 *
 *     query_clock_begin(store, &info);          at start: nothing earlier than the largest time that was persisted
 *     now = query_now();
 *     err = query_clock_check(peer, &info);     before work that depends on time: E_CLOCK while the clock is off
 *     query_clock_keep(store, peer, &info);     once a minute: persists the time
 *
 * Off means: more than QUERY_CLOCK_OFF_S from the median of at least two peers' clocks, or as much behind what this node
 * persisted. Where two peers can be asked, only a time that they agree with is persisted, and while the clock is off query_now stands still,
 * so that a clock that ran ahead for a while does no lasting harm; what was persisted wrongly nevertheless is put right by an operator (query_clock_accept).
 * Threads: any; the latest time is one atomic number of the process. */
#ifndef CONCORDAT_NODE_QUERY_CLOCK_H
#define CONCORDAT_NODE_QUERY_CLOCK_H

#include "node/peer/peer.h"
#include "store/store.h"

#define QUERY_CLOCK_OFF_S  300
#define QUERY_CLOCK_WARN_S 30

/* Unix seconds, never less than what was persisted. */
int64_t query_now(void);
/* Milliseconds on a clock that never goes back. */
uint64_t query_now_ms(void);

/* Errors: those of the store. */
MUST_CHECK enum err query_clock_begin(struct store *store, struct err_info *reterr);
/* Errors: E_CLOCK; the text says by how much, against whom, and the cure. PEER may be NULL. */
MUST_CHECK enum err query_clock_check(struct peer *peer, struct err_info *reterr);
MUST_CHECK enum err query_clock_keep(struct store *store, struct peer *peer,
                                     struct err_info *reterr);
/* Takes the system's clock for right although a later time was persisted.
 * Errors: E_CLOCK peers contradict it; those of the store. */
MUST_CHECK enum err query_clock_accept(struct store *store, struct peer *peer,
                                       struct err_info *reterr);

#endif
