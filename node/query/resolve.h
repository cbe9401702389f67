/* A bound condition in the terms of one site's partition: texts of private categories become the codes that they have here.
 * A text that no row has is no error: nothing equals it. Threads: pure. */
#ifndef CONCORDAT_NODE_QUERY_RESOLVE_H
#define CONCORDAT_NODE_QUERY_RESOLVE_H

#include "proto/query.h"
#include "store/partition.h"

/* RET is WHERE itself when it names no private value, else a copy in ARENA. WHERE may be NULL. Errors: E_NO_MEMORY. */
MUST_CHECK enum err query_resolve(const struct proto_predicate *where,
                                  const struct store_partition *partition, struct arena *arena,
                                  const struct proto_predicate **ret);

#endif
