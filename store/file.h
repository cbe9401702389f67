/* Whole files and directories of the home. Nothing above store/ includes this.
 * Threads: any; one writer to a path at a time. */
#ifndef CONCORDAT_STORE_FILE_H
#define CONCORDAT_STORE_FILE_H

#include "proto/alloc.h"
#include "proto/err.h"

/* Appends the file to BUF, whose max is the limit. Errors: E_NOT_FOUND; E_LIMIT; E_IO; E_NO_MEMORY. */
MUST_CHECK enum err store_file_read(const char *path, struct buf *buf, struct err_info *reterr);
/* Writes PATH.tmp, fsyncs, moves it to PATH and fsyncs the directory; mode 0600.
 * Errors: E_DISK_FULL, E_IO: PATH is as it was and nothing is left behind. */
MUST_CHECK enum err store_file_write(const char *path, struct span bytes, struct err_info *reterr);
/* Makes renames in the folder of PATH durable. */
MUST_CHECK enum err store_file_sync_parent(const char *path, struct err_info *reterr);
/* Makes a directory of mode 0700 unless it is there. */
MUST_CHECK enum err store_file_mkdir(const char *path, struct err_info *reterr);
/* Removes the files of DIR whose names end in SUFFIX. */
MUST_CHECK enum err store_file_sweep(const char *dir, const char *suffix, struct err_info *reterr);
bool store_file_exists(const char *path);
/* HOME/a[/b] in a fresh string; NULL when out of memory. */
char *store_file_path(const char *home, const char *a, const char *b);

#endif
