/* A dataset's partition: one immutable LMDB file of sealed column chunks, opened for reading and checked as a whole.
 *
 *     err = store_partition_open(store, "flchain", &partition, reterr);
 *     schema = store_partition_schema(partition);
 *     ...
 *     store_partition_close(partition);
 *
 * Opening checks, in this order: the file's trailer (an HMAC over its size and every page that is not inside a value,
 * so that LMDB never walks a page that was tampered with), the sealed meta value, the root over every (key, tag), and
 * that uuid and root are those of the catalogue. Values are checked by their tags when they are read.
 *     E_CORRUPT   bytes were changed or cut
 *     E_AUTH      a value does not open
 *     E_ROLLBACK  a whole and genuine file, but another than the catalogue names
 * The text names the dataset's file.
 * Threads: an open partition may be scanned by many threads. Bytes: doc/format.md. */
#ifndef CONCORDAT_STORE_PARTITION_H
#define CONCORDAT_STORE_PARTITION_H

#include "proto/schema.h"
#include "store/column.h"
#include "store/store.h"

struct store_partition;

/* One that was checked before and whose file was not touched since is not checked again (partition_cache.h).
 * Errors: E_NOT_FOUND no such dataset, or its file is gone; see above. */
MUST_CHECK enum err store_partition_open(struct store *store, const char *dataset,
                                         struct store_partition **ret, struct err_info *reterr);
/* The same, checked anew whatever is open already: for fsck, backup and whoever copies a whole file. */
MUST_CHECK enum err store_partition_open_checked(struct store *store, const char *dataset,
                                                 struct store_partition **ret,
                                                 struct err_info *reterr);
void store_partition_close(struct store_partition *partition);

/* The published schema; lives as long as the partition. Column numbers everywhere are its indexes. */
const struct proto_schema *store_partition_schema(const struct store_partition *partition);
uint64_t store_partition_rows(const struct store_partition *partition);
/* One more than the largest unit number; rows when each row is a unit. Private: it never leaves the
 * node. */
uint64_t store_partition_units(const struct store_partition *partition);
/* The most rows that any unit has, 1 when each row is one; STORE_UNIT_ROWS_MAX: so many or more. Private, too. */
#define STORE_UNIT_ROWS_MAX 255
uint32_t store_partition_unit_rows(const struct store_partition *partition);
/* How the column is stored: a unit or pseudonym column is CODE whatever its type. */
enum store_form store_partition_form(const struct store_partition *partition, int column);
/* The text of a category's code: declared values, or the sealed list of a private category; NULL
 * when there is none. */
const char *store_partition_value(const struct store_partition *partition, int column,
                                  uint32_t code);
/* Number of codes of a category column. */
uint32_t store_partition_values(const struct store_partition *partition, int column);
const uint8_t *store_partition_root(const struct store_partition *partition);

#endif
