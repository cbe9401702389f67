/* A site's side of a query: decide, charge, scan, bound, noise, store, answer. In that order, always.
 *
 * The handler of PEER_MSG_QUERY; the daemon registers it. It runs on a worker thread of peer's pool. Every refusal is
 * decided before a row is read and says nothing that depends on the data; answers leave on the release tick.
 * Threads: any number of requests at a time. */
#ifndef CONCORDAT_NODE_QUERY_SITE_H
#define CONCORDAT_NODE_QUERY_SITE_H

#include "node/query/clock.h"
#include "node/query/context.h"
#include "node/query/coordinates.h"

/* user: struct query_context. */
void query_site_handle(struct peer_request *request, void *user);

/* When what is ready now may leave: the first whole number of ticks after STARTED_MS that is not over yet. */
uint64_t query_release_at(uint64_t started_ms, uint64_t tick_ms);

/* When an answer leaves after a question came, on a node with this tick: a whole number of ticks that covers the unpruned scan
 * of the *declared* size, so that what a zone map skipped or a filter selected does not show. QUERY is bound. */
uint64_t query_release_ms(const struct proto_query *query, const struct query_layout *layout,
                          uint64_t size, uint64_t tick_ms);

#endif
