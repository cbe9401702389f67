/* Partitions that stay open between queries, so that a file is checked once and its pages stay mapped. For partition.c and those
 * that replace or remove a dataset's file.
 *
 * One is used again only while the catalogue still names it, the keyring still holds its key, and the file has not been
 * touched: device, inode, size and both times of change are those at which it was checked. What a scan reads is opened
 * and checked by its tag each time all the same: no decrypted data are kept, only schema, lists of values and the key.
 * Threads: any. Limits: STORE_PARTITIONS_OPEN that nobody uses are kept. */
#ifndef CONCORDAT_STORE_PARTITION_CACHE_H
#define CONCORDAT_STORE_PARTITION_CACHE_H

#include "store/partition_file.h"

#define STORE_PARTITIONS_OPEN 16

struct store_partition_cache;

MUST_CHECK enum err store_partition_cache_new(struct store_partition_cache **ret);
/* No partition may be in use. NULL is fine. */
void store_partition_cache_free(struct store_partition_cache *cache);
/* An open one of that place, root, file and key, with one more user; NULL: there is none. */
struct store_partition *store_partition_cache_find(struct store_partition_cache *cache,
                                                   const struct store_partition *like);
/* Keeps PARTITION, which has one user, for others. */
void store_partition_cache_add(struct store_partition_cache *cache,
                               struct store_partition *partition);
/* One user less; true: it was the last one of a partition that is not kept, which the caller ends. */
bool store_partition_cache_release(struct store_partition *partition);
/* Partitions that somebody reads, and those of them whose dataset has another file by now, or none: their blocks are free only
 * when the last reader ends. */
void store_partition_cache_count(struct store_partition_cache *cache, size_t *ret_used,
                                 size_t *ret_replaced);
/* DATASET has another file or key now, or none: what is open of the old one ends with its last user. */
void store_partition_forget(struct store *store, const char *dataset);

#endif
