/* A check of everything that a home keeps: the audit chain and its signed head, the ledger against its charges, every sealed row, every value
 * of every partition, every model file. What an fsck is to a file system, but that it repairs nothing.
 *
 *     err = store_check_run(store, &options, &bad, &info);
 *
 * It may run beside queries and imports; a dataset that is replaced meanwhile is checked in one of its versions.
 * Threads: any. */
#ifndef CONCORDAT_STORE_CHECK_H
#define CONCORDAT_STORE_CHECK_H

#include "store/store.h"

struct store_check_options {
    /* For each thing checked: "audit chain", "keyring", "ledger", "table NAME", "dataset NAME", "model HASH"; ERR is E_OK or what is wrong. */
    void (*found)(void *user, const char *what, enum err err, const char *text);
    bool (*cancelled)(void *user); /* may be NULL */
    void *user;
};

/* RET_BAD: how many things were not good; that alone is no error. Errors: E_CANCELLED; E_IO the folders cannot be listed. */
MUST_CHECK enum err store_check_run(struct store *store, const struct store_check_options *options,
                                    size_t *ret_bad, struct err_info *reterr);

#endif
