/* Content-addressed files HOME/models/<sha256 in hexadecimal>: models, weights, updates of a round. Sealed under the DEK "node"
 * in chunks of STORE_BLOB_CHUNK plain bytes, so that what is larger than memory can be written and read piece by piece. The
 * name is the hash of the plain bytes. Written beside, synced, renamed.
 *
 *     store_blob_put(store, bytes, hash, &info);             store_blob_get(store, hash, &buf, &info);
 *
 *     store_blob_begin(store, hash, size, STORE_BLOB_DURABLE, &writer, &offset, &info);
 *     while (offset < size) { store_blob_append(writer, bytes_from(offset), &info); ... }
 *     store_blob_commit(writer, NULL, &info);                            // checks the hash; now it has its name
 *
 * Bytes: head (sealed: hash, size, file id), then each chunk sealed with file id, its number and the size as AAD. A file that
 * is being written is <hash>.part, or <random>.new when its hash is not known yet; the first kind survives a restart. A blob that
 * only passes through stays in memory while there is room (blob_memory.h): for all functions but store_blob_each it is like others.
 * Threads: any; a writer or reader belongs to one thread at a time. Limits: STORE_BLOB_MAX bytes. Memory: two chunks each. */
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
/* In bytes. Errors: E_NOT_FOUND; E_CORRUPT, E_AUTH. */
MUST_CHECK enum err store_blob_size(struct store *store, const uint8_t hash[32], uint64_t *ret,
                                    struct err_info *reterr);
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

enum store_blob_keep {
    STORE_BLOB_DURABLE, /* on disk when it is committed */
    STORE_BLOB_PASSING, /* in memory where there is room, else in a file; a crash may lose it */
};
struct store_blob_writer;
/* HASH NULL: it comes out at the end. ret_offset  where to go on: not 0 when an earlier writer of this blob was left.
 * Errors: E_EXISTS the blob is there, and as durable as is asked for now; E_BUSY somebody else is writing it; E_LIMIT; E_IO,
 * E_DISK_FULL. */
MUST_CHECK enum err store_blob_begin(struct store *store, const uint8_t *hash, uint64_t size,
                                     enum store_blob_keep keep, struct store_blob_writer **ret,
                                     uint64_t *ret_offset, struct err_info *reterr);
/* In order, in pieces of any length. Errors: E_LIMIT more than SIZE; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_blob_append(struct store_blob_writer *writer, struct span bytes,
                                      struct err_info *reterr);
/* Frees WRITER in any case. ret_hash may be NULL. Errors, after which nothing is left behind: E_TRUNCATED fewer bytes than SIZE;
 * E_AUTH another hash; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_blob_commit(struct store_blob_writer *writer, uint8_t *ret_hash,
                                      struct err_info *reterr);
/* Frees WRITER; whole chunks stay, in a file, for another time when the hash was known. NULL is allowed. */
void store_blob_leave(struct store_blob_writer *writer);

struct store_blob_reader;
/* Errors: E_NOT_FOUND; E_CORRUPT, E_AUTH. */
MUST_CHECK enum err store_blob_open(struct store *store, const uint8_t hash[32],
                                    struct store_blob_reader **ret, uint64_t *ret_size,
                                    struct err_info *reterr);
/* LEN bytes from OFFSET into TO: from memory what was written or read a moment ago. Errors: E_LIMIT past the end; E_CORRUPT,
 * E_AUTH a chunk was changed; E_IO. */
MUST_CHECK enum err store_blob_read(struct store_blob_reader *reader, uint64_t offset, size_t len,
                                    uint8_t *to, struct err_info *reterr);
/* A whole chunk where it stands: until the next call for READER. Errors as store_blob_read. */
MUST_CHECK enum err store_blob_view(struct store_blob_reader *reader, uint64_t index,
                                    struct span *ret, struct err_info *reterr);
void store_blob_close(struct store_blob_reader *reader);

#endif
