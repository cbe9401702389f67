/* The node's own datasets: one sealed row each. What is published about them stands in records;
 * columns in partitions.
 *
 *     struct arena arena = {0};
 *     struct store_dataset row;
 *     err = store_catalogue_get(store, "flchain", &arena, &row, &info);
 *
 * Threads: any. Limits: manifest STORE_MANIFEST_MAX bytes. */
#ifndef CONCORDAT_STORE_CATALOGUE_H
#define CONCORDAT_STORE_CATALOGUE_H

#include "store/store.h"

#define STORE_MANIFEST_MAX ((size_t)1 << 20)

struct store_dataset {
    char name[65];
    char version[33];
    uint8_t partition_uuid[16];
    uint8_t root[32]; /* of the partition file: an older or other file does not fit */
    uint8_t schema_hash[32];
    uint64_t rows;
    uint64_t units; /* private: exact number of privacy units; never leaves the node */
    uint64_t bytes_raw;
    uint64_t bytes_stored;
    uint64_t size; /* as declared for the public */
    int64_t imported_at;
    struct span manifest_yaml; /* the manifest's text as imported; may be empty */
    struct span schema;        /* the importer's own encoding of the schema; may be empty */
};

/* Adds or replaces. Errors: E_INVALID an empty or overlong name; E_LIMIT; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_catalogue_put(struct store *store, const struct store_dataset *row,
                                        struct err_info *reterr);
/* The same and ALSO, which may be NULL, in one transaction. */
struct MDB_txn;
typedef enum err store_catalogue_also(struct store *store, struct MDB_txn *txn, void *ctx,
                                      struct err_info *reterr);
MUST_CHECK enum err store_catalogue_put_with(struct store *store, const struct store_dataset *row,
                                             store_catalogue_also *also, void *ctx,
                                             struct err_info *reterr);
/* Spans in RET live in ARENA. Errors: E_NOT_FOUND; E_AUTH, E_CORRUPT. */
MUST_CHECK enum err store_catalogue_get(struct store *store, const char *name, struct arena *arena,
                                        struct store_dataset *ret, struct err_info *reterr);
/* Each row once, in no particular order; ROW is valid during the call. Stops at the first error and
 * returns it. */
typedef enum err store_catalogue_fn(void *user, const struct store_dataset *row);
MUST_CHECK enum err store_catalogue_each(struct store *store, store_catalogue_fn *each, void *user,
                                         struct err_info *reterr);
/* The ledger keeps what was spent on it. Errors: E_NOT_FOUND. */
MUST_CHECK enum err store_catalogue_remove(struct store *store, const char *name,
                                           struct err_info *reterr);

#endif
