/* The audit chain: every decision, charge and act of administration as one entry that names the hash of the one before
 * it, with a head that the node signs in the same transaction.
 *
 *     err = store_audit_append(store, "dataset.import", span_str("{\"dataset\":\"flchain\"}"), now, &info);
 *     err = store_audit_verify("home/node.mdb", NULL, &report, &info);     no keys, no daemon
 *
 * Entry (big-endian): "CAE1" | u64 seq | i64 time | u8 kind_len | kind | prev[32] | sealed body.
 *     Its hash = SHA-256("concordat1-audit-entry" 0 | entry): over stored bytes, so verifying needs no key.
 * Head: node_id[16] | u64 seq | hash[32] | u64 spent_nano | i64 time | ledger_root[32], signed under
 * STORE_AUDIT_DOMAIN.
 *     spent_nano is what the domain's account holds after that entry. ledger_root is the sum modulo 2^256 of
 *     SHA-256("concordat1-ledger-row" 0 | table 0 | key | stored value) over all accounts and charges: no row of the
 *     ledger can change, go or come back without the head.
 * Export, and nothing after it:
 *     "CAUDIT1\n" | node_id[16] | federation_id[16] | head
 *     u32 records | (u32 len | record)...
 *     u32 endorsements | (node_id[16] | signature[64] | head body[104])...
 *     u64 entries | (u32 len | entry)...
 *
 * Verification trusts the charter record that it finds, or the point it is given; people compare federation and
 * identity in the report with what they know.
 * Threads: any. Limits: kind 1 to STORE_AUDIT_KIND lower-case letters, digits, '.', '-', '_'; body STORE_AUDIT_BODY. */
#ifndef CONCORDAT_STORE_AUDIT_H
#define CONCORDAT_STORE_AUDIT_H

#include "store/store.h"

#define STORE_AUDIT_KIND       32
#define STORE_AUDIT_BODY       ((size_t)256 << 10)
#define STORE_AUDIT_DOMAIN     "concordat1-audit-head"
#define STORE_WITNESS_DOMAIN   "concordat1-audit-witness"
#define STORE_AUDIT_EXPORT_MAX ((size_t)2 << 30)

struct store_audit_head {
    uint8_t node_id[16];
    uint64_t seq; /* 0: no entry yet */
    uint8_t hash[32];
    uint64_t spent_nano;
    int64_t time;
    uint8_t ledger_root[32];
    uint8_t signature[64];
};

#define STORE_AUDIT_HEAD_BODY 104 /* what is signed */
#define STORE_AUDIT_HEAD_SIZE 168 /* body and signature */
void store_audit_head_encode(const struct store_audit_head *head,
                             uint8_t ret[STORE_AUDIT_HEAD_SIZE]);
/* Errors: E_TRUNCATED, E_INVALID another length. The signature is not checked. */
MUST_CHECK enum err store_audit_head_decode(struct span bytes, struct store_audit_head *ret);
/* Errors: E_AUTH. */
MUST_CHECK enum err store_audit_head_verify(const struct store_audit_head *head,
                                            const uint8_t federation_id[16],
                                            const uint8_t identity_point[65]);

/* Durable on return. Errors: E_INVALID the kind; E_LIMIT; E_INTERNAL no identity was given; E_IO,
 * E_DISK_FULL. */
MUST_CHECK enum err store_audit_append(struct store *store, const char *kind, struct span body,
                                       int64_t now, struct err_info *reterr);
/* Errors: E_NOT_FOUND nothing was written yet. */
MUST_CHECK enum err store_audit_head(struct store *store, struct store_audit_head *ret);

struct store_audit_entry {
    uint64_t seq;
    int64_t time;
    char kind[STORE_AUDIT_KIND + 1];
    uint8_t hash[32];
    struct span body; /* decrypted; valid during the callback */
};
typedef enum err store_audit_fn(void *user, const struct store_audit_entry *entry);
/* Oldest first, from time SINCE; KIND NULL: all, "query." : all that begin so. Stops at the first
 * error and returns it. */
MUST_CHECK enum err store_audit_each(struct store *store, int64_t since, const char *kind,
                                     store_audit_fn *each, void *user, struct err_info *reterr);

#define STORE_AUDIT_WITNESSES 64
struct store_audit_report {
    bool ok;
    bool newer; /* the home is of a newer program: not ok, and nothing was verified */
    uint64_t entries;
    uint64_t first_bad; /* seq of the first entry that does not fit; 0: none; entries + 1: the tail
                           is missing */
    char head[65];      /* hash of the last good entry, hexadecimal */
    uint64_t spent_nano;
    char node_id[33];
    char federation_id[33];
    char identity[65]; /* fingerprint of the key that signs the head */
    char reason[160];  /* why not ok */
    size_t witness_count;
    char witnesses[STORE_AUDIT_WITNESSES][33]; /* member names (ids where unknown) whose signature
                                                  on one of our heads fits this chain */
};

/* Reads HOME/node.mdb or an export, whichever PATH is; writes nothing. Works beside a running daemon and on a copy, but
 * not in the process that has this store open (use store_audit_check there).
 * identity_point  NULL: from the node's own MEMBER record, whose council signatures are checked by the charter record.
 * ret             filled also when it returns E_CORRUPT or E_AUTH.
 * A node.mdb beside a HOME/format above STORE_FORMAT is not judged: E_CORRUPT, report.newer.
 * Errors: E_CORRUPT, E_AUTH, E_ROLLBACK with report.ok false; E_NOT_FOUND; E_INVALID neither kind of file; E_IO. */
MUST_CHECK enum err store_audit_verify(const char *path, const uint8_t identity_point[65],
                                       struct store_audit_report *ret, struct err_info *reterr);
/* The same over the bytes of an export. */
MUST_CHECK enum err store_audit_verify_export(struct span bytes, const uint8_t identity_point[65],
                                              struct store_audit_report *ret,
                                              struct err_info *reterr);
/* The same over an open store, with the identity it was given. */
MUST_CHECK enum err store_audit_check(struct store *store, struct store_audit_report *ret,
                                      struct err_info *reterr);
/* A self-contained file (written beside, fsynced, renamed). Errors: E_NOT_FOUND nothing was written
 * yet; E_IO. */
MUST_CHECK enum err store_audit_export(struct store *store, const char *path,
                                       struct err_info *reterr);

#endif
