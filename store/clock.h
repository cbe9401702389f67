/* The latest time that this node has gone by, sealed in node.mdb. Threads: any. */
#ifndef CONCORDAT_STORE_CLOCK_H
#define CONCORDAT_STORE_CLOCK_H

#include "store/store.h"

/* 0 when none was kept. Errors: E_CORRUPT, E_AUTH; E_IO. */
MUST_CHECK enum err store_clock_get(struct store *store, int64_t *ret, struct err_info *reterr);
/* Durable on return. Errors: E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_clock_put(struct store *store, int64_t unix_s, struct err_info *reterr);

#endif
