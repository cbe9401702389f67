/* Copies of a home that can be proved whole, made while the node serves, and their way back.
 *
 *     err = store_backup_make(store, "/backup/monday", files, &options, &report, &info);
 *     err = store_backup_restore("/backup/monday", "/var/lib/concordat", unlock, &report, &info);
 *
 * A backup is a folder with the home's files at their own paths and, written last, the file BACKUP: lines of text
 *     concordat-backup 1 / node HEX / time UNIX / seq N / file SHA256 BYTES PATH ... / mac HEX
 * mac = HMAC-SHA256(HKDF-Expand(key "node", "concordat/backup/1"), all lines before). A folder without it is not a backup.
 * node.mdb is a consistent copy; partitions, keyring and node.mdb fit each other, or the backup is made again (E_BUSY after
 * BACKUP_TRIES). Each file is read back and hashed after it was synced. The key file that opens the keyring is not in it.
 * What was shredded after the backup stays in the backup: it follows the rules for data, and its life ends with the backup's.
 * A restored home holds the file "restored": the node must not serve before witnesses were asked or the operator decided.
 * Threads: any; one backup of a home at a time. */
#ifndef CONCORDAT_STORE_BACKUP_H
#define CONCORDAT_STORE_BACKUP_H

#include "store/store.h"

#define STORE_BACKUP_FILE "BACKUP"
#define STORE_RESTORED    "restored"

struct store_backup_options {
    int64_t now;
    bool (*cancelled)(void *user);                                           /* may be NULL */
    void (*progress)(void *user, uint64_t files_done, uint64_t files_total); /* may be NULL */
    void *user;
};

struct store_backup_report {
    uint64_t files;
    uint64_t bytes;
    uint64_t seq; /* of the audit chain: what the copy holds at least */
    int64_t time;
    char node_id[33];
};

/* FILES: further files and folders of the home (relative; folders one level deep), ended by NULL; absent ones are left out.
 * Errors: E_EXISTS DIR is not empty; E_BUSY datasets or keys changed all the time; E_CANCELLED; E_IO, E_DISK_FULL. On failure
 * what was written is removed. */
MUST_CHECK enum err store_backup_make(struct store *store, const char *dir,
                                      const char *const *files,
                                      const struct store_backup_options *options,
                                      struct store_backup_report *ret, struct err_info *reterr);
/* Every file against BACKUP, and BACKUP against the keyring in the folder, which UNLOCK opens.
 * Errors: E_NOT_FOUND DIR is no backup; E_CORRUPT a file is missing or was changed, or one stands there that is not listed;
 * E_AUTH UNLOCK opens nothing; E_IO. */
MUST_CHECK enum err store_backup_verify(const char *dir, const struct crypto_unlock *unlock,
                                        struct store_backup_report *ret, struct err_info *reterr);
/* Verifies DIR, then copies it into HOME, verifying again what was written; node.yaml comes last.
 * Errors: E_EXISTS HOME holds a node; else as verify. On failure what was written is removed. */
MUST_CHECK enum err store_backup_restore(const char *dir, const char *home,
                                         const struct crypto_unlock *unlock,
                                         struct store_backup_report *ret, struct err_info *reterr);

#endif
