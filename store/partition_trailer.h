/* The end of a partition file: a table of its values, and a MAC over the table and over every page that no value's own tag covers.
 * Checking it takes reads of the tree's pages and of the table alone, however large the values are; each value is held against
 * its line of the table when it is read. For partition.c, partition_file.c and rotate.c. Bytes: doc/format.md.
 * Threads: any; a table is not changed once it is there. */
#ifndef CONCORDAT_STORE_PARTITION_TRAILER_H
#define CONCORDAT_STORE_PARTITION_TRAILER_H

#include "crypto/memory.h"
#include "proto/alloc.h"
#include "proto/err.h"

#include <lmdb.h>

#define STORE_PARTITION_KEY     20 /* blinded name and big-endian number */
#define STORE_PARTITION_TRAILER 72
#define STORE_PARTITION_PAGE    ((size_t)4096)
#define STORE_PAGE_HEADER       ((size_t)16) /* of an LMDB page, in front of a large value */
#define STORE_TABLE_LINE        ((size_t)52) /* key, tag, page header of a large value or zeros */
#define STORE_TABLE_MAX         ((size_t)1 << 30)

/* Adds a line for each value, in key order. TXN reads committed pages, or the headers of large values are not to be used.
 * Errors: E_CORRUPT, E_IO, E_NO_MEMORY. */
MUST_CHECK enum err store_partition_table_read(MDB_txn *txn, MDB_dbi dbi, struct buf *to,
                                               struct err_info *reterr);
/* SHA-256 over (key, tag) of every value but the one at META. */
MUST_CHECK enum err store_partition_root_of(struct span table,
                                            const uint8_t meta[STORE_PARTITION_KEY],
                                            uint8_t ret[32]);
#define STORE_TABLE_NONE SIZE_MAX
/* The line of the value at KEY, or STORE_TABLE_NONE. */
size_t store_partition_table_find(struct span table, const uint8_t key[STORE_PARTITION_KEY]);
/* Whether VALUE, which LMDB found in a committed page, has the tag of that line, and its first page the header. */
bool store_partition_table_has(struct span table, size_t line, const MDB_val *value);
/* A large value stands alone in whole pages: this is the first. NULL for others. */
void *store_partition_pages_of(const MDB_val *value);

/* Behind the last of PAGES pages, where the file ends. RET_BYTES: of the file. Errors: E_IO, E_DISK_FULL, E_NO_MEMORY. */
MUST_CHECK enum err store_partition_trailer_put(int fd, const struct crypto_key *index,
                                                const uint8_t uuid[16], uint64_t pages,
                                                struct span table, uint64_t *ret_bytes);
/* Checks size, pages, table and MAC with plain reads. RET_BYTES: of the pages. TABLE stays empty when the file is of version 1,
 * which has none: it is to be read from the tree then. Errors: E_CORRUPT, E_UNSUPPORTED, E_IO, E_NO_MEMORY. */
MUST_CHECK enum err store_partition_trailer_check(int fd, const struct crypto_key *index,
                                                  uint8_t ret_uuid[16], uint64_t *ret_bytes,
                                                  struct buf *table);

#endif
