/* Content-addressed files HOME/models/<sha256 in hexadecimal>: models, weights, updates of a round. Sealed under the DEK "node"
 * in chunks of STORE_BLOB_CHUNK plain bytes, so that what is larger than memory can be written and read piece by piece. The
 * name is the hash of the plain bytes. Written beside, synced, renamed.
 *
 *     store_blob_put(store, bytes, hash, &info);             store_blob_get(store, hash, &buf, &info);
 *
 *     store_blob_begin(store, hash, size, &writer, &offset, &info);      // goes on where an earlier writer was cut off
 *     while (offset < size) { store_blob_append(writer, bytes_from(offset), &info); ... }
 *     store_blob_commit(writer, true, NULL, &info);                      // checks the hash; now it has its name
 *
 * Bytes: head (sealed: hash, size, file id), then each chunk sealed with file id, its number and the size as AAD. A file that
 * is being written is <hash>.part, or <random>.new when its hash is not known yet; the first kind survives a restart.
 * Threads: any; a writer or reader belongs to one thread at a time. Limits: STORE_BLOB_MAX bytes. Memory: two chunks. */
#ifndef CONCORDAT_STORE_BLOB_H
#define CONCORDAT_STORE_BLOB_H

#include "proto/alloc.h"
#include "store/store.h"

#define STORE_BLOB_MAX   ((uint64_t)4 << 30)
#define STORE_BLOB_CHUNK ((size_t)512 << 10)

/* How many chunks a blob of SIZE bytes has. */
static inline uint64_t store_blob_chunks(uint64_t size)
{
    return (size + STORE_BLOB_CHUNK - 1) / STORE_BLOB_CHUNK;
}

/* How many hashes of chunks go with a blob of SIZE bytes: none when it is so small that fetching it once more costs less than
 * hashing everything twice. */
#define STORE_BLOB_UNDIVIDED 4
static inline size_t store_blob_hashes(uint64_t size)
{
    uint64_t chunks = store_blob_chunks(size);
    return chunks > STORE_BLOB_UNDIVIDED ? (size_t)chunks : 0;
}

/* Durable on return; one that is there stays. Errors: E_LIMIT; E_IO, E_DISK_FULL: nothing is left
 * behind. */
MUST_CHECK enum err store_blob_put(struct store *store, struct span bytes, uint8_t ret_hash[32],
                                   struct err_info *reterr);
/* Appends to RET; the hash is checked again. Errors: E_NOT_FOUND; E_CORRUPT, E_AUTH the file is not what its name says;
 * E_LIMIT it exceeds ret->max. */
MUST_CHECK enum err store_blob_get(struct store *store, const uint8_t hash[32], struct buf *ret,
                                   struct err_info *reterr);
/* Reads the whole of it and checks the hash. Errors as get. */
MUST_CHECK enum err store_blob_verify(struct store *store, const uint8_t hash[32],
                                      struct err_info *reterr);
/* SHA-256 of each chunk, one after the other, from ARENA, or SPAN_NONE (store_blob_hashes), and the size in bytes. The last few
 * blobs that were written here are remembered; another one is read for it. Errors: as get, E_NO_MEMORY. */
MUST_CHECK enum err store_blob_digest(struct store *store, const uint8_t hash[32],
                                      struct arena *arena, uint64_t *ret_size,
                                      struct span *ret_chunks, struct err_info *reterr);
bool store_blob_has(struct store *store, const uint8_t hash[32]);
/* Errors: E_NOT_FOUND. */
MUST_CHECK enum err store_blob_remove(struct store *store, const uint8_t hash[32],
                                      struct err_info *reterr);
/* Removes what is left of a blob that was never completed. */
void store_blob_forget(struct store *store, const uint8_t hash[32]);

/* --- the folder as a whole: blob_list.c -------------------------------------------------------------------------------- */

/* DISK: bytes of the file. Each complete blob once, in no order; stops at the first error. EACH removes none. */
typedef enum err store_blob_fn(void *user, const uint8_t hash[32], uint64_t disk);
MUST_CHECK enum err store_blob_each(struct store *store, store_blob_fn *each, void *user,
                                    struct err_info *reterr);
struct store_blob_left {
    uint64_t files, bytes; /* of files on disk */
};
/* Removes what writers left that nobody can go on with (.new), and what nobody went on with since BEFORE, in seconds of the
 * system's clock (.part); a file that is being written stays. LEFT: what went is added. Errors: E_IO. */
MUST_CHECK enum err store_blob_tidy(struct store *store, int64_t before,
                                    struct store_blob_left *left, struct err_info *reterr);

/* --- piece by piece ---------------------------------------------------------------------------------------------------- */

struct store_blob_writer;
/* HASH NULL: it comes out at the end. ret_offset  where to go on: not 0 when an earlier writer of this blob was left.
 * Errors: E_EXISTS the blob is there; E_BUSY somebody else is writing it; E_LIMIT; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_blob_begin(struct store *store, const uint8_t *hash, uint64_t size,
                                     struct store_blob_writer **ret, uint64_t *ret_offset,
                                     struct err_info *reterr);
/* In order, in pieces of any length. Errors: E_LIMIT more than SIZE; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_blob_append(struct store_blob_writer *writer, struct span bytes,
                                      struct err_info *reterr);
/* Frees WRITER in any case. DURABLE: on disk on return; else a crash may lose it. ret_hash may be NULL.
 * Errors, after which nothing is left behind: E_TRUNCATED fewer bytes than SIZE; E_AUTH another hash; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_blob_commit(struct store_blob_writer *writer, bool durable,
                                      uint8_t *ret_hash, struct err_info *reterr);
/* Frees WRITER; whole chunks stay for another time when the hash was known. NULL is allowed. */
void store_blob_leave(struct store_blob_writer *writer);

struct store_blob_reader;
/* Errors: E_NOT_FOUND; E_CORRUPT, E_AUTH. */
MUST_CHECK enum err store_blob_open(struct store *store, const uint8_t hash[32],
                                    struct store_blob_reader **ret, uint64_t *ret_size,
                                    struct err_info *reterr);
/* LEN bytes from OFFSET into TO: from memory what was written or read a moment ago (blob_cache.h). Errors: E_LIMIT past the end;
 * E_CORRUPT, E_AUTH a chunk was changed; E_IO. */
MUST_CHECK enum err store_blob_read(struct store_blob_reader *reader, uint64_t offset, size_t len,
                                    uint8_t *to, struct err_info *reterr);
void store_blob_close(struct store_blob_reader *reader);

/* For store_open and store_close. NULL: out of memory. */
struct store_blob_digests *store_blob_digests_new(void);
void store_blob_digests_free(struct store_blob_digests *digests);

#endif
