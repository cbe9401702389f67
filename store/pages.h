/* The pages of an LMDB 0.9 file, followed from its newest meta page with plain reads: LMDB has no checksums and follows a damaged
 * pointer wherever it leads, mostly to a SIGBUS. A file that passes has trees whose pages, nodes and values all lie inside
 * of it; whether the values are the right ones is for their tags to say. Not needed where a trailer covers the pages
 * (partition_file.h).
 *
 *     err = store_pages_check(fd, &what);    // before mdb_env_open, by whoever holds the file
 *
 * Threads: any; nobody may be writing the file. Format: mdb.c of LMDB 0.9 (MDB_meta, MDB_page, MDB_node), 64-bit, pages of
 * 4096 bytes, the machine's own byte order. */
#ifndef CONCORDAT_STORE_PAGES_H
#define CONCORDAT_STORE_PAGES_H

#include "proto/err.h"

#include <stdint.h>

/* Errors: E_CORRUPT, and *RET_PAGE is where; E_IO; E_NO_MEMORY. A file of other pages or another word size passes unread. */
MUST_CHECK enum err store_pages_check(int fd, uint64_t *ret_page);

#endif
