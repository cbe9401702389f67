/* A data file block by block or line by line, unpacked on the way (stream.h): what the readers stand on.
 *
 *     struct store_lines lines = {.max = 4 << 20};
 *     err = store_lines_open(&lines, path, SPAN_NONE, reterr);
 *     while (!(err = store_lines_next(&lines, &line, &too_long, &end, reterr)) && !end) { use(line); }
 *     store_lines_tell(&lines, &source);
 *     store_lines_close(&lines);
 *
 * A UTF-8 byte order mark at the beginning is passed over. Threads: one. Memory: a block, and a line of at most `max` bytes. */
#ifndef CONCORDAT_STORE_LINES_H
#define CONCORDAT_STORE_LINES_H

#include "proto/alloc.h"
#include "store/source.h"

struct store_lines {
    size_t max;        /* bytes of a line without its end; set before it is opened */
    uint64_t line;     /* of the next byte, from 1 */
    const uint8_t *at; /* what is left of the block at hand */
    size_t left;
    bool last; /* nothing comes behind it */
    /* Private. */
    struct store_stream *stream; /* NULL: borrowed bytes */
    uint8_t *block;
    struct buf text; /* a line that does not lie in one block */
    uint64_t borrowed;
};

/* PATH, or where it is NULL BYTES, which are borrowed until it is closed.
 * Errors: those of store_stream_open and store_stream_read. On failure nothing is open. */
MUST_CHECK enum err store_lines_open(struct store_lines *lines, const char *path, struct span bytes,
                                     struct err_info *reterr);
/* The same for the source that reads these lines, into *RET; on failure SOURCE is freed. */
MUST_CHECK enum err store_lines_source(struct store_lines *lines, const char *path,
                                       struct span bytes, struct store_source *source,
                                       struct store_source **ret, struct err_info *reterr);
/* The next block once all of the one at hand was taken; left is 0 at the end alone. Errors: those of store_stream_read. */
MUST_CHECK enum err store_lines_fill(struct store_lines *lines, struct err_info *reterr);
/* The next line without its LF, valid until the next call. Too long a one is passed over: *RET_LONG. *RET_END: there is none.
 * Errors: those of store_lines_fill; E_NO_MEMORY. */
MUST_CHECK enum err store_lines_next(struct store_lines *lines, struct span *ret, bool *ret_long,
                                     bool *ret_end, struct err_info *reterr);
/* Bytes of the file and of what came out of it, for the progress of SOURCE. */
void store_lines_tell(const struct store_lines *lines, struct store_source *source);
/* Wipes what it held. Fine for one that is zero. */
void store_lines_close(struct store_lines *lines);

#endif
