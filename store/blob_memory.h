/* Blobs in memory, in the clear: whole ones that only pass through (the weights of a round at a site, the updates at its
 * coordinator), and the chunks of files that were written or read last, as the weights of a round are served to every site moments
 * after they were sealed. Only blob.c uses it, and not where a file is to be checked.
 *
 * A chunk is counted: whoever has one from a function below lets go of it with store_blob_chunk_release. Chunks that are in no
 * writer's hands never change.
 * Threads: any. Limits: STORE_BLOB_PASSING_MOST chunks of whole blobs, STORE_BLOB_RECENT_MOST of files, and those that are being read. */
#ifndef CONCORDAT_STORE_BLOB_MEMORY_H
#define CONCORDAT_STORE_BLOB_MEMORY_H

#include "store/blob.h"

#define STORE_BLOB_PASSING_MOST 64 /* 32 MiB */
#define STORE_BLOB_RECENT_MOST  16 /* 8 MiB */
#define STORE_BLOB_ID_SIZE      16

struct store_blob_memory;
/* NULL: out of memory. */
struct store_blob_memory *store_blob_memory_new(void);
/* Nobody may hold a chunk any more. NULL is allowed. */
void store_blob_memory_free(struct store_blob_memory *memory);

struct store_blob_chunk {
    size_t len;
    uint8_t *bytes; /* room for STORE_BLOB_CHUNK */
};
/* NULL: out of memory. */
struct store_blob_chunk *store_blob_chunk_new(struct store_blob_memory *memory);
void store_blob_chunk_release(struct store_blob_memory *memory, struct store_blob_chunk *chunk);

/* --- chunks of files, by the file's random id: its bytes under one id never change ------------------------------------- */

/* In place of what was used longest ago. */
void store_blob_recent_put(struct store_blob_memory *memory, const uint8_t id[STORE_BLOB_ID_SIZE],
                           uint64_t index, struct store_blob_chunk *chunk);
/* NULL: it is not here. */
struct store_blob_chunk *store_blob_recent_get(struct store_blob_memory *memory,
                                               const uint8_t id[STORE_BLOB_ID_SIZE],
                                               uint64_t index);

/* --- whole blobs --------------------------------------------------------------------------------------------------------- */

struct store_blob_passing;
/* A place for a blob of SIZE bytes that one caller fills; HASH may be NULL until it settles. Errors: E_EXISTS it is here;
 * E_BUSY somebody else is filling it; E_LIMIT there is no room now; E_NO_MEMORY. */
MUST_CHECK enum err store_blob_passing_begin(struct store_blob_memory *memory, const uint8_t *hash,
                                             uint64_t size, struct store_blob_passing **ret);
/* The next chunk, which is the blob's from now on. */
void store_blob_passing_add(struct store_blob_passing *passing, struct store_blob_chunk *chunk);
/* It is whole: found by HASH from now on, unless another of that name is. The caller's hold ends. */
void store_blob_passing_settle(struct store_blob_memory *memory, struct store_blob_passing *passing,
                               const uint8_t hash[32]);
/* NULL: it is not here, or not whole. Else held for the caller, and readable after its removal. */
struct store_blob_passing *store_blob_passing_find(struct store_blob_memory *memory,
                                                   const uint8_t hash[32]);
void store_blob_passing_release(struct store_blob_memory *memory,
                                struct store_blob_passing *passing);
/* false: there was none. */
bool store_blob_passing_remove(struct store_blob_memory *memory, const uint8_t hash[32]);

uint64_t store_blob_passing_size(const struct store_blob_passing *passing);
/* Held for the caller; INDEX of one that was added. */
struct store_blob_chunk *store_blob_passing_chunk(struct store_blob_passing *passing,
                                                  uint64_t index);

#endif
