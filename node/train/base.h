/* Base models by the names that people gave them at this node: which blob (node/model/package.h) a name means. The blobs are in
 * store/blob; a name is a sealed row of the jobs' table.
 *
 *     err = train_base_put(store, &(struct train_base){.name = "bert-tiny-biomed", ...}, reterr);    `model import`
 *     err = train_base_find(store, "bert-tiny-biomed", &base, reterr);                                a job's `model.base`
 *
 * Threads: any. */
#ifndef CONCORDAT_NODE_TRAIN_BASE_H
#define CONCORDAT_NODE_TRAIN_BASE_H

#include "store/store.h"

struct train_base {
    char name[65];
    uint8_t hash[32]; /* of the blob */
    uint64_t size;
    char spdx[129];
    uint8_t under[32]; /* of a model of adapters: the blob that they belong to; else zeros */
    uint64_t under_size;
    int64_t time;
};

/* The same name again means the new one from now on. Errors: E_INVALID the name; those of the store. */
MUST_CHECK enum err train_base_put(struct store *store, const struct train_base *base,
                                   struct err_info *reterr);
/* Errors: E_NOT_FOUND. */
MUST_CHECK enum err train_base_find(struct store *store, const char *name, struct train_base *ret,
                                    struct err_info *reterr);
typedef enum err train_base_fn(void *user, const struct train_base *base);
/* In no order; stops at the first error. */
MUST_CHECK enum err train_base_each(struct store *store, train_base_fn *each, void *user,
                                    struct err_info *reterr);

#endif
