/* Private to node/model: files of a model's folder, read whole, or written beside and renamed. Threads: any. */
#ifndef CONCORDAT_NODE_MODEL_FOLDER_H
#define CONCORDAT_NODE_MODEL_FOLDER_H

#include <limits.h>

#include "proto/alloc.h"

/* Appends FOLDER/NAME to BUF, whose max is the limit.
 * Errors: E_NOT_FOUND; E_LIMIT longer than the limit; E_INVALID no regular file; E_IO; E_NO_MEMORY. */
MUST_CHECK enum err model_folder_read(const char *folder, const char *name, struct buf *buf,
                                      struct err_info *reterr);

/* A file that is being written: mode 0600, seen under its name only when complete and on disk.
 *     err = model_folder_create(&file, folder, "model.safetensors", reterr);
 *     err = err ? err : model_folder_put(&file, bytes, reterr);
 *     err = model_folder_end(&file, err, reterr);      // always; ERR: nothing is left behind, an older file stays */
struct model_folder_file {
    int fd; /* -1: none */
    char path[PATH_MAX], temporary[PATH_MAX];
};
/* Errors of all: E_LIMIT the path is too long; E_IO; E_DISK_FULL. The folder must be there. */
MUST_CHECK enum err model_folder_create(struct model_folder_file *file, const char *folder,
                                        const char *name, struct err_info *reterr);
MUST_CHECK enum err model_folder_put(struct model_folder_file *file, struct span bytes,
                                     struct err_info *reterr);
/* Returns ERR when it is one. */
MUST_CHECK enum err model_folder_end(struct model_folder_file *file, enum err err,
                                     struct err_info *reterr);
/* The three for BYTES. */
MUST_CHECK enum err model_folder_write(const char *folder, const char *name, struct span bytes,
                                       struct err_info *reterr);

#endif
