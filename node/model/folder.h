/* Private to node/model: small files of a model's folder. Threads: any. */
#ifndef CONCORDAT_NODE_MODEL_FOLDER_H
#define CONCORDAT_NODE_MODEL_FOLDER_H

#include "proto/alloc.h"

/* Appends FOLDER/NAME to BUF, whose max is the limit.
 * Errors: E_NOT_FOUND; E_LIMIT longer than the limit; E_INVALID no regular file; E_IO; E_NO_MEMORY. */
MUST_CHECK enum err model_folder_read(const char *folder, const char *name, struct buf *buf,
                                      struct err_info *reterr);

#endif
