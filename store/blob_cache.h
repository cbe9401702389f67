/* Chunks of blobs in the clear, as they were written or read last: the weights of a round are served to every site, and an update
 * is read by whoever fetched it, moments after they were sealed. Found by the file's random id and the chunk's number; the
 * bytes that a file has under one id never change. Only blob.c uses it, and not where a file is to be checked.
 * Threads: any. Limits: STORE_BLOB_CACHED chunks, allocated when first needed, wiped at the end. */
#ifndef CONCORDAT_STORE_BLOB_CACHE_H
#define CONCORDAT_STORE_BLOB_CACHE_H

#include "proto/span.h"

#define STORE_BLOB_CACHED  32 /* 16 MiB */
#define STORE_BLOB_ID_SIZE 16

struct store_blob_cache;
/* NULL: out of memory. */
struct store_blob_cache *store_blob_cache_new(void);
void store_blob_cache_free(struct store_blob_cache *cache);

/* Keeps a copy of PLAIN, at most STORE_BLOB_CHUNK bytes, in place of what was used longest ago; when memory is short, nothing is
 * kept. */
void store_blob_cache_put(struct store_blob_cache *cache, const uint8_t id[STORE_BLOB_ID_SIZE],
                          uint64_t index, struct span plain);
/* TO: all LEN bytes of that chunk. false: it is not here. */
bool store_blob_cache_get(struct store_blob_cache *cache, const uint8_t id[STORE_BLOB_ID_SIZE],
                          uint64_t index, uint8_t *to, size_t len);

#endif
