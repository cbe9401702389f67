/* The home's durable handles: node.mdb with all its tables, the keys that seal it, and the one writer. What stands in a
 * table is the business of catalogue, records, ledger, audit, witness, egress and job; big columns live in partitions,
 * weights in blobs. Not a cache, and nothing here decides whether something may be done.
 *
 *     struct store store;
 *     err = store_open(home, keyring, node_id, &store, &info);
 *     err = store_identity(&store, identity, federation_id, &info);    // before the first write to ledger or audit
 *     ...
 *     store_close(&store);
 *
 * Opening checks the home's format number, walks the audit chain up to its signed head, adds the ledger's rows up
 * against its accounts and against the head, and removes imports that never finished. A store that was tampered with or
 * is older than its own head is refused, with the table named.
 * Threads: all store_ functions may be called from any thread after store_identity, except store_open and store_close.
 * Writers queue: whoever comes first commits for all that wait (one sync for many). One process: env.h keeps a second
 * daemon out. Do not use a store after fork. */
#ifndef CONCORDAT_STORE_STORE_H
#define CONCORDAT_STORE_STORE_H

#include "crypto/identity.h"
#include "crypto/keyring.h"
#include "proto/alloc.h"
#include "proto/err.h"
#include "proto/span.h"

#define STORE_FORMAT 2 /* the number in HOME/format; 2: domains, windows and delta0 in the ledger */
#ifndef STORE_MAP_BYTES /* smaller where a tool, such as valgrind, cannot map so much */
#define STORE_MAP_BYTES ((size_t)64 << 30) /* sparse: room to grow, not disk used */
#endif

/* One row per table of node.mdb: handle, name. Sealed values carry the name and the key in their
 * AAD. */
#define STORE_TABLES(X)                                                                            \
    X(META, "meta")                 /* plain: ids, signed audit head */                            \
    X(CATALOGUE, "catalogue")       /* blinded name -> sealed dataset row */                       \
    X(RECORDS, "records")           /* issuer | key | kind -> plain signed record */               \
    X(RECORD_IDS, "record-ids")     /* record id -> key in RECORDS */                              \
    X(RECORD_FORKS, "record-forks") /* issuer | key | kind -> the other signed version */          \
    X(ACCOUNTS, "accounts")         /* blinded scope -> sealed account */                          \
    X(CHARGES, "charges")           /* number -> sealed charge */                                  \
    X(CHARGE_IDS, "charge-ids")     /* charge id -> number */                                      \
    X(ANSWERS, "answers")           /* replay key -> sealed answer */                              \
    X(AUDIT, "audit")               /* number -> entry: plain chain, sealed body */                \
    X(WITNESS, "witness")           /* node id -> that node's highest signed head, sealed */       \
    X(ENDORSEMENTS, "endorsements") /* node id -> that node's plain signature on a head of ours */ \
    X(EGRESS, "egress")             /* number or blinded counter -> sealed row */                  \
    X(JOBS, "jobs")                 /* job id, or blinded (job, round) -> sealed state */          \
    X(PSEUDONYM, "pseudonym")       /* the import's own; sealed under the dataset's key */         \
    X(APPROVALS, "approvals")       /* request id -> sealed row; project -> sealed id */           \
    X(AGREEMENTS, "agreements")     /* id -> sealed row */

enum store_table {
#define X(name, text) STORE_TABLE_##name,
    STORE_TABLES(X)
#undef X
    STORE_TABLE_COUNT
};

struct store_env;
struct store_writer;
struct crypto_sealer;
struct store_egress_counters;
struct store_partition_cache;
struct store_blob_memory;

struct store {
    const char *home; /* own copy */
    struct store_env *env;
    struct crypto_keyring *keyring; /* borrowed */
    const struct crypto_key *dek;   /* "node"; borrowed from the keyring */
    struct crypto_key *blind_key;   /* makes table keys of names */
    struct crypto_sealer *sealer;   /* used inside write transactions only */
    struct store_writer *writer;
    struct store_egress_counters *counters;
    struct store_partition_cache *partitions; /* that stay open between queries */
    struct store_blob_memory *blobs;          /* what of them is in memory */
    unsigned tables[STORE_TABLE_COUNT];
    uint8_t node_id[16];
    uint8_t federation_id[16];              /* by store_identity */
    const struct crypto_identity *identity; /* borrowed; by store_identity */
};

/* Errors: E_CORRUPT HOME/format is above STORE_FORMAT, or no number; E_IO. A home without one is good. */
MUST_CHECK enum err store_check_newer(const char *home, struct err_info *reterr);
/* Opens HOME/node.mdb, making it, HOME/format, HOME/partitions and HOME/models on first use. The
 * DEK "node" is added to the keyring when the home is new. Errors: E_CORRUPT, E_AUTH a table was
 * tampered with, or the format is newer than STORE_FORMAT; E_ROLLBACK the ledger holds less than
 * the audit head says, or the keyring is older than node.mdb; E_BUSY another daemon has it; E_NOT_FOUND no such home; E_IO, E_DISK_FULL.
 * On failure RET needs no close. */
MUST_CHECK enum err store_open(const char *home, struct crypto_keyring *keyring,
                               const uint8_t node_id[16], struct store *ret,
                               struct err_info *reterr);
/* The same for a check alone, without a daemon: nothing in HOME is changed, left over or moved on, and damage that store_open
 * would refuse is left for store_check_run to name. What only opening for good can do is not done: no row may be written.
 * Errors: E_BUSY a daemon has the home; E_UNSUPPORTED an older format, which the daemon brings up at its start; E_NOT_FOUND,
 * E_CORRUPT also a newer format; E_AUTH, E_IO. */
MUST_CHECK enum err store_open_to_check(const char *home, struct crypto_keyring *keyring,
                                        const uint8_t node_id[16], struct store *ret,
                                        struct err_info *reterr);
/* Whether the keyring is as new as node.mdb says. Errors: E_ROLLBACK it is older; E_CORRUPT. */
MUST_CHECK enum err store_keyring_check(struct store *store, struct err_info *reterr);
/* Who reads at the moment. A reader of node.mdb keeps the pages of its time from being used again, so the file grows by what is
 * written meanwhile; a reader of a partition that was replaced keeps the blocks of a file without a name. Reads of node.mdb
 * last for milliseconds, or as long as a backup copies it; scans end with the node's limit for questions or their training job. */
struct store_readers {
    size_t readers;         /* of node.mdb */
    uint64_t oldest_behind; /* commits since the oldest of them began */
    size_t partitions;      /* that are read, but for those opened as soon as they were made */
    size_t replaced;        /* of these: the dataset has another file by now, or none */
};
struct store_readers store_readers(struct store *store);
/* Gives the key that signs audit heads; stays borrowed until store_close. The head that is there
 * must be signed by it, or (after a rotation) it is signed again only when PREVIOUS_POINT, which
 * may be NULL, verifies it. Errors: E_AUTH the head is signed by neither; E_CORRUPT another
 * federation's store; E_IO, E_DISK_FULL. */
MUST_CHECK enum err store_identity(struct store *store, const struct crypto_identity *identity,
                                   const uint8_t federation_id[16], const uint8_t *previous_point,
                                   struct err_info *reterr);
/* Remembers in node.mdb how often the keyring was changed, so that an older keyring file put back is noticed at the next
 * store_open (E_ROLLBACK). To be called after a key was shredded, rotated or a slot removed; store_open does it too. */
MUST_CHECK enum err store_keyring_anchor(struct store *store, struct err_info *reterr);
/* Since store_open: COMMITS, each with a disk sync of its own, and the WRITES that they made durable together. */
struct store_traffic {
    uint64_t commits;
    uint64_t writes;
};
struct store_traffic store_traffic(const struct store *store);
/* No call may be under way. A zeroed or already closed store is fine. */
void store_close(struct store *store);

#endif
