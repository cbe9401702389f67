/* A new data key for a dataset: its partition is sealed anew under it, in the background, while scans go on.
 *
 *     err = store_rotate_begin(store, "flchain", &info);         // durable: a restart goes on with it
 *     err = store_rotate_run(store, "flchain", &options, &info);
 *
 * Order on disk:
 *     1. the new key stands in the keyring as "rotate/NAME";
 *     2. partitions/UUID'.mdb.new is written under it, value by value, synced and renamed;
 *     3. one transaction of node.mdb makes the catalogue name the new file and seals pseudonyms and stored answers anew:
 *        the switch;
 *     4. the keyring gives the new key the name "dataset/NAME"; the old one is gone;
 *     5. the old file is unlinked.
 * A crash before 3 leaves the old file and a rotation that begins its file anew; after 3, store_rotate_recover does what is
 * left. Scans that opened the old file end on it. Size, rows and schema stay the same.
 * What an old key opened stays open to who kept both the key and a copy of the old file: rotation limits what one key
 * protects, it takes nothing back.
 * Threads: any; one change of a dataset at a time (E_BUSY). */
#ifndef CONCORDAT_STORE_ROTATE_H
#define CONCORDAT_STORE_ROTATE_H

#include "store/store.h"

struct store_rotate_options {
    bool (*cancelled)(void *user); /* may be NULL; asked at every value */
    void (*progress)(void *user, uint64_t done, uint64_t total,
                     const char *dataset); /* values; may be NULL */
    void *user;
};

/* The name of a dataset's next key in the keyring. */
void store_rotate_name(const char *dataset, char to[CRYPTO_KEYRING_NAME]);
/* Errors: E_NOT_FOUND no such dataset; E_IO, E_DISK_FULL. One that is begun stays begun. */
MUST_CHECK enum err store_rotate_begin(struct store *store, const char *dataset,
                                       struct err_info *reterr);
/* Errors: E_NOT_FOUND not begun, or no such dataset; E_BUSY; E_CANCELLED; E_UNSUPPORTED the file holds values that this version
 * does not know; those of reading a partition; E_IO, E_DISK_FULL. On failure the old file serves on and the rotation stays
 * begun. */
MUST_CHECK enum err store_rotate_run(struct store *store, const char *dataset,
                                     const struct store_rotate_options *options,
                                     struct err_info *reterr);
/* The INDEX-th dataset whose rotation is begun, copied into TO; false past the end. */
bool store_rotate_pending(struct store *store, size_t index, char to[65]);
/* In place of a partition's uuid and root: those of the file that was imported, of which this one is a copy under another key.
 * What must stay the same for the same data, such as replay keys, is made of them. Errors: E_IO, E_CORRUPT. */
MUST_CHECK enum err store_rotate_origin(struct store *store, uint8_t inout_uuid[16],
                                        uint8_t inout_root[32], struct err_info *reterr);
/* For store_open: finishes those whose switch had happened. */
MUST_CHECK enum err store_rotate_recover(struct store *store, struct err_info *reterr);

#endif
