/* Helpers for one call's work: the caller and as many more threads as cores are free. They live for the call alone, so that
 * a node at rest has none, and all calls of the process together never have more helpers than there are other cores.
 *
 *     static void work(void *user, size_t index) { while (take_a_piece(user)) { ... } }
 *     store_crew_run(store_crew_size(pieces), work, &job);    // returns when all have come back
 *
 * Threads: any. Signals are blocked in helpers. Limits: STORE_CREW_MAX threads a call. */
#ifndef CONCORDAT_STORE_CREW_H
#define CONCORDAT_STORE_CREW_H

#include <stddef.h>

#define STORE_CREW_MAX 16

typedef void store_crew_fn(void *user, size_t index);

/* How many may work on PIECES pieces: at most one for each and for each core, at least 1. */
size_t store_crew_size(size_t pieces);
/* WORK with index 0 on this thread, and with 1 up to COUNT - 1 on helpers, of which there may be fewer, or none. */
void store_crew_run(size_t count, store_crew_fn *work, void *user);
/* Cores that this process uses for it; 0: all that it may run on. For configuration and benchmarks. */
void store_crew_limit(size_t cores);

#endif
