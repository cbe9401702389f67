/* Content-addressed files HOME/models/<sha256 in hexadecimal>: weights and checkpoints, sealed
 * under the DEK "node". The name is the hash of the plain bytes. Written beside, synced, renamed;
 * verified on each read.
 *
 *     store_blob_put(store, bytes, hash, &info);
 *     store_blob_get(store, hash, &buf, &info);
 *
 * Threads: any. Limits: STORE_BLOB_MAX bytes; the whole blob is held in memory. */
#ifndef CONCORDAT_STORE_BLOB_H
#define CONCORDAT_STORE_BLOB_H

#include "store/store.h"

#define STORE_BLOB_MAX ((size_t)1 << 30)

/* Durable on return; one that is there stays. Errors: E_LIMIT; E_IO, E_DISK_FULL: nothing is left
 * behind. */
MUST_CHECK enum err store_blob_put(struct store *store, struct span bytes, uint8_t ret_hash[32],
                                   struct err_info *reterr);
/* Appends to RET. Errors: E_NOT_FOUND; E_CORRUPT, E_AUTH the file is not what its name says;
 * E_LIMIT it exceeds ret->max. */
MUST_CHECK enum err store_blob_get(struct store *store, const uint8_t hash[32], struct buf *ret,
                                   struct err_info *reterr);
bool store_blob_has(struct store *store, const uint8_t hash[32]);
/* Errors: E_NOT_FOUND. */
MUST_CHECK enum err store_blob_remove(struct store *store, const uint8_t hash[32],
                                      struct err_info *reterr);

#endif
