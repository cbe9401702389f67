/* LMDB files, each opened once in a process: LMDB loses its reader protection when one file is opened twice. A second
 * store_env_open of a path gives the same handle and counts it. Not a database API: callers use lmdb.h through
 * store_env_mdb and turn its codes into ours with store_env_error.
 *
 *     err = store_env_open("home/node.mdb", STORE_ENV_CREATE, (size_t)1 << 36, &env, reterr);
 *     rc = mdb_txn_begin(store_env_mdb(env), NULL, 0, &txn);
 *     if (rc) { return store_env_error(rc, "beginning a write", reterr); }
 *     ...
 *     store_env_close(env);
 *
 * All are MDB_NOSUBDIR|MDB_NOTLS with STORE_ENV_READERS readers; the map is sparse, so its size costs no disk. Whoever
 * opens for writing without STORE_ENV_BULK holds an flock on PATH-owner: two daemons cannot share a home.
 * Threads: any. Not across fork: open after becoming a daemon. Source: lmdb.h, "Caveats". */
#ifndef CONCORDAT_STORE_ENV_H
#define CONCORDAT_STORE_ENV_H

#include "proto/err.h"

#include <lmdb.h>

#define STORE_ENV_READERS 1024

enum {
    STORE_ENV_CREATE = 1,   /* for writing; made when absent; every commit is durable */
    STORE_ENV_READONLY = 2, /* beside a daemon that may be writing */
    STORE_ENV_BULK = 4, /* with CREATE: a new private file, no lock, no sync until store_env_sync */
    STORE_ENV_IMMUTABLE = 8, /* with READONLY: a file that nobody writes; no lock file */
    STORE_ENV_CHECKED =
        16, /* with IMMUTABLE: its pages are followed first, as with CREATE (pages.h) */
};

struct store_env;

/* map_bytes: the most that the file may ever hold; 0 with READONLY means the file's own.
 * Errors: E_BUSY another process has it for writing, or it is open here with other flags; E_NOT_FOUND;
 * E_CORRUPT not an LMDB file, or shorter than its own pages; E_IO, E_DISK_FULL, E_NO_MEMORY. */
MUST_CHECK enum err store_env_open(const char *path, unsigned flags, size_t map_bytes,
                                   struct store_env **ret, struct err_info *reterr);
/* Counts down; the last one closes. No transaction may be open then. NULL is fine. */
void store_env_close(struct store_env *env);
MDB_env *store_env_mdb(struct store_env *env);
/* The error of an LMDB return code that is not 0. LMDB reports a full disk as EIO, so free space is
 * looked at. */
MUST_CHECK enum err store_env_error(int mdb_rc, const char *doing, struct err_info *reterr);
/* The same for errno of our own file calls on PATH. */
MUST_CHECK enum err store_env_errno(int code, const char *path, struct err_info *reterr);
/* Everything committed is on the disk on return. */
MUST_CHECK enum err store_env_sync(struct store_env *env, struct err_info *reterr);

#endif
