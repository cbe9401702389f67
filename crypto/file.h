/* Private to crypto/: whole small files, read with a limit and written so that a crash leaves the old or the new one.
 * Threads: any; one writer to a path at a time. */
#ifndef CONCORDAT_CRYPTO_FILE_H
#define CONCORDAT_CRYPTO_FILE_H

#include "proto/alloc.h"

/* Appends the file to BUF, whose max is the limit.
 * Errors: E_NOT_FOUND; E_LIMIT longer than the limit; E_IO; E_NO_MEMORY. */
MUST_CHECK enum err crypto_file_read(const char *path, struct buf *buf, struct err_info *reterr);

/* Writes PATH.new with mode 0600, fsyncs it, moves it to PATH and fsyncs the directory. With `fresh` an existing PATH is
 * E_EXISTS, otherwise it is replaced at once and its old blocks are overwritten afterwards, as far as the file system
 * writes in place.
 * Errors: E_EXISTS, E_DISK_FULL, E_IO. On failure before the move PATH is as it was. */
MUST_CHECK enum err crypto_file_write(const char *path, struct span bytes, bool fresh,
                                      struct err_info *reterr);

/* Removes what a write of PATH that was cut off left beside it, and overwrites its blocks. Nobody may be writing PATH. */
void crypto_file_tidy(const char *path);

#endif
