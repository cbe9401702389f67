/* The file that holds a node's wrapped keys. A slot (key file, passphrase, systemd credential, recovery shares or a key in a
 * PKCS #11 token) unlocks the key-encryption key (KEK); the KEK wraps one random data key (DEK) for each name: "node", "identity", "dataset/NAME". It stands outside LMDB, because
 * LMDB is copy-on-write and would keep a shredded key in its free pages. Not a store for anything but 32-byte keys.
 *
 *     struct crypto_unlock unlock = {.how = CRYPTO_UNLOCK_KEYFILE, .path = "home/unlock.key"};
 *     crypto_keyring_open("home/keyring", &unlock, &keyring, &info);
 *     crypto_keyring_add(keyring, "dataset/flchain", &info);
 *     crypto_keyring_get(keyring, "dataset/flchain", &dek);
 *     crypto_keyring_shred(keyring, "dataset/flchain", &info);
 *
 * File (big-endian; written beside, fsynced, renamed, directory fsynced; mode 0600):
 *     "CKR1" | u16 version | u16 slots | node_id[16] | u64 generation
 *     slots:    u8 kind | u8 k | u8 n | u8 id | u32 memory_kib | u32 passes | salt[16] | nonce[12] | wrapped KEK[32] | tag[16]
 *               and of kind 5: u16 len | u8 token_len | token | u8 key_len | key | secret sealed by the token (pkcs11.h)
 *     u32 entries
 *     entries:  u8 name_len | name | u32 version | nonce[12] | wrapped DEK[32] | tag[16]
 *     HMAC-SHA256[32] over all of it, under a key derived from the KEK
 * version: 1, or 2 where a slot of kind 5 is there, which programs before it did not know.
 * kind: 1 key file, 2 passphrase, 3 credential, 4 recovery, 5 PKCS #11; k and n are those of recovery shares, else 0; ids are
 * unique. A slot's tag covers its parameters and the node id; an entry's tag covers node id, name and version; the last HMAC
 * covers the set of entries, so that none can be dropped, added or swapped.
 * What it cannot see by itself: an older whole file put back; the generation, which each change raises by one, is anchored
 * in node.mdb for that (store.h). Shredding overwrites the old file's blocks before it forgets them, but
 * copies elsewhere (backups, snapshots, wear levelling) live as long as their owner keeps them.
 * Threads: calls may come from any thread; a borrowed key must not be in use when it is shredded.
 * Limits: CRYPTO_KEYRING_ENTRIES names of 1 to CRYPTO_KEYRING_NAME bytes; one process at a time. */
#ifndef CONCORDAT_CRYPTO_KEYRING_H
#define CONCORDAT_CRYPTO_KEYRING_H

#include "crypto/memory.h"
#include "crypto/pkcs11.h"
#include "crypto/shares.h"
#include "proto/err.h"
#include "proto/span.h"

#define CRYPTO_KEYRING_NAME       96
#define CRYPTO_KEYRING_ENTRIES    8192
#define CRYPTO_KEYRING_SLOTS      8
#define CRYPTO_KEYRING_MEMORY_MIN ((uint32_t)64 << 10) /* KiB: the floor of a passphrase slot */
#define CRYPTO_KEYRING_MEMORY_MAX ((uint32_t)4 << 20)  /* KiB: more is refused before it is spent */
#define CRYPTO_KEYRING_PASSES_MAX 16

struct crypto_keyring;

enum crypto_unlock_how {
    CRYPTO_UNLOCK_KEYFILE, /* path: a file of 32 to 1024 bytes, mode 0600 or narrower, ours or root's */
    CRYPTO_UNLOCK_PASSPHRASE, /* passphrase: 1 to 1024 bytes */
    CRYPTO_UNLOCK_CREDENTIAL, /* path: as a key file, but systemd owns it and may give a group of its own the right to
                                 read; others may not */
    CRYPTO_UNLOCK_RECOVERY, /* shares: k or more texts of shares.h. Not for create, slot_add and replace */
    CRYPTO_UNLOCK_PKCS11, /* pkcs11; its PIN may come from the first line of pin_path instead, whose mode is judged as a key
                             file's, or as a credential's */
};

struct crypto_unlock {
    enum crypto_unlock_how how;
    const char *path;
    struct span passphrase;
    const char *const *shares;
    size_t share_count;
    uint32_t memory_kib; /* of a passphrase slot at creation; 0 means CRYPTO_ARGON2_MEMORY_KIB */
    struct crypto_pkcs11 pkcs11;
    const char *pin_path; /* or NULL */
    bool pin_credential;
};

/* Makes the file, with one slot and no names. An absent key file is made with 32 random bytes and mode 0600.
 * Errors: E_EXISTS PATH is there; E_REFUSED the key file's mode or owner; E_LIMIT Argon2 cost outside the bounds;
 * E_USAGE, E_IO, E_DISK_FULL; those of crypto_pkcs11_seal. On failure there is no file at PATH (a key file that was made stays). */
MUST_CHECK enum err crypto_keyring_create(const char *path, const struct crypto_unlock *unlock,
                                          const uint8_t node_id[16], struct crypto_keyring **ret,
                                          struct err_info *reterr);
/* Errors: E_NOT_FOUND no such file; E_AUTH no slot opens with this key; E_CORRUPT the file is not a keyring, or some
 * byte of it was changed; E_REFUSED the key file's mode or owner; those of crypto_pkcs11_open, whose E_AUTH ends the search, so
 * that a wrong PIN costs one try. */
MUST_CHECK enum err crypto_keyring_open(const char *path, const struct crypto_unlock *unlock,
                                        struct crypto_keyring **ret, struct err_info *reterr);
void crypto_keyring_close(struct crypto_keyring *keyring);

/* Removes the remains of a write that a crash cut off. Only for whoever holds the home: another process may be writing. */
void crypto_keyring_tidy(struct crypto_keyring *keyring);

/* The id that the keyring was made for. */
const uint8_t *crypto_keyring_node_id(const struct crypto_keyring *keyring);

/* A fresh random key under NAME, durable on return.
 * Errors: E_EXISTS; E_INVALID the name; E_LIMIT; E_IO, E_DISK_FULL. On failure nothing has changed. */
MUST_CHECK enum err crypto_keyring_add(struct crypto_keyring *keyring, const char *name,
                                       struct err_info *reterr);
/* ret: borrowed until the name is shredded or the keyring closed. Errors: E_NOT_FOUND. */
MUST_CHECK enum err crypto_keyring_get(struct crypto_keyring *keyring, const char *name,
                                       const struct crypto_key **ret);
/* The same as a copy of the caller's own, which ends with crypto_key_free: for keys that may be rotated or shredded
 * meanwhile. Errors: E_NOT_FOUND, E_NO_MEMORY. */
MUST_CHECK enum err crypto_keyring_copy(struct crypto_keyring *keyring, const char *name,
                                        struct crypto_key **ret);
/* When it returns E_OK the key is gone from the file and from memory.
 * Errors: E_NOT_FOUND; E_IO, E_DISK_FULL: nothing has changed. */
MUST_CHECK enum err crypto_keyring_shred(struct crypto_keyring *keyring, const char *name,
                                         struct err_info *reterr);
/* FROM takes the name TO, whose own key is gone when it returns E_OK: how a rotated key comes into force, in one write.
 * Errors: E_NOT_FOUND there is no FROM; E_INVALID; E_IO, E_DISK_FULL: nothing has changed. */
MUST_CHECK enum err crypto_keyring_promote(struct crypto_keyring *keyring, const char *from,
                                           const char *to, struct err_info *reterr);

struct crypto_slot {
    uint8_t id;
    enum crypto_unlock_how how;
    unsigned k, n;       /* of recovery shares */
    uint32_t memory_kib; /* of a passphrase */
    char token[CRYPTO_PKCS11_LABEL_MAX + 1], key[CRYPTO_PKCS11_LABEL_MAX + 1]; /* of PKCS #11 */
    bool opened; /* the keyring was opened with it */
};
/* Fills TO with at most CRYPTO_KEYRING_SLOTS rows and returns how many there are. */
size_t crypto_keyring_slots(struct crypto_keyring *keyring,
                            struct crypto_slot to[CRYPTO_KEYRING_SLOTS]);
/* One more way in; an absent key file, and an absent key in a token, is made. Errors: E_LIMIT eight are there; else as create. On failure nothing has
 * changed. */
MUST_CHECK enum err crypto_keyring_slot_add(struct crypto_keyring *keyring,
                                            const struct crypto_unlock *unlock, uint8_t *ret_id,
                                            struct err_info *reterr);
/* A slot that K of N shares open, which are written to RET_SHARES and kept nowhere. Errors: E_USAGE k or n; E_LIMIT. */
MUST_CHECK enum err crypto_keyring_slot_recovery(struct crypto_keyring *keyring, unsigned k,
                                                 unsigned n, char (*ret_shares)[CRYPTO_SHARE_TEXT],
                                                 uint8_t *ret_id, struct err_info *reterr);
/* Errors: E_NOT_FOUND no such slot; E_REFUSED it is the last one. */
MUST_CHECK enum err crypto_keyring_slot_remove(struct crypto_keyring *keyring, uint8_t id,
                                               struct err_info *reterr);
/* The slot ID gives way to a new one of the same id, in one write. Errors: E_NOT_FOUND; else as slot_add. */
MUST_CHECK enum err crypto_keyring_slot_replace(struct crypto_keyring *keyring, uint8_t id,
                                                const struct crypto_unlock *unlock,
                                                struct err_info *reterr);
/* Replaces all slots by one new one (another passphrase or key file); data keys stay. On failure nothing has changed. */
MUST_CHECK enum err crypto_keyring_rewrap(struct crypto_keyring *keyring,
                                          const struct crypto_unlock *unlock,
                                          struct err_info *reterr);
/* A new KEK, under which every data key is wrapped anew. UNLOCK must open one of the slots, which stays with its id; the
 * others cannot be wrapped without their secrets and are dropped. Errors: E_AUTH UNLOCK opens none; E_IO, E_DISK_FULL. On
 * failure nothing has changed. */
MUST_CHECK enum err crypto_keyring_rotate(struct crypto_keyring *keyring,
                                          const struct crypto_unlock *unlock,
                                          struct err_info *reterr);
/* Raised by one with each change of the file. */
uint64_t crypto_keyring_generation(struct crypto_keyring *keyring);
/* The name at INDEX in file order, NULL past the end; borrowed until the next add or shred. */
const char *crypto_keyring_name(struct crypto_keyring *keyring, size_t index);

/* Whether BYTES have the shape of a keyring file (no key needed); what the fuzzer drives. Errors: E_CORRUPT. */
MUST_CHECK enum err crypto_keyring_check(struct span bytes);

#endif
