/* The bytes of a data file, unpacked on the way when it is gzip (RFC 1952) or zstd (RFC 8878). What it is shows in its
 * first bytes, not in its name; several gzip members or zstd frames in a row are one text.
 *
 *     err = store_stream_open("rows.csv.gz", &stream, reterr);
 *     while (!(err = store_stream_read(stream, block, sizeof block, &got, reterr)) && got) { use(block, got); }
 *     store_stream_close(stream);
 *
 * It is not an archive reader: zip, tar, xz and bzip2 are named and refused.
 * Threads: one. Limits: a packed file may grow STORE_STREAM_RATIO times once STORE_STREAM_FREE bytes have come out of it
 * (a table with long runs of the same row stays far below); zstd windows up to 128 MiB. Memory: two blocks and what the
 * unpacker needs, at most 130 MiB (a zstd window), mostly below 9 MiB. */
#ifndef CONCORDAT_STORE_STREAM_H
#define CONCORDAT_STORE_STREAM_H

#include "proto/alloc.h"
#include "proto/err.h"
#include "proto/span.h"

#define STORE_STREAM_RATIO 250
#define STORE_STREAM_FREE  ((uint64_t)64 << 20)

struct store_stream;

/* Errors: E_NOT_FOUND; E_INVALID a folder; E_UNSUPPORTED an archive or packing of another kind; E_IO, E_NO_MEMORY. */
MUST_CHECK enum err store_stream_open(const char *path, struct store_stream **ret,
                                      struct err_info *reterr);
/* The same over BYTES, which are borrowed until it is closed. */
MUST_CHECK enum err store_stream_bytes(struct span bytes, struct store_stream **ret,
                                       struct err_info *reterr);
/* Up to SIZE bytes; *RET_GOT is 0 at the end of the data alone.
 * Errors: E_TRUNCATED packed data end in the middle; E_INVALID they are damaged; E_LIMIT they grow beyond measure (a
 * bomb) or need too large a window; E_IO, E_NO_MEMORY. */
MUST_CHECK enum err store_stream_read(struct store_stream *stream, uint8_t *to, size_t size,
                                      size_t *ret_got, struct err_info *reterr);
/* Of the file itself, for progress; total is 0 where it is not known. */
uint64_t store_stream_done(const struct store_stream *stream);
uint64_t store_stream_total(const struct store_stream *stream);
/* Bytes that came out so far. */
uint64_t store_stream_unpacked(const struct store_stream *stream);
bool store_stream_is_packed(const struct store_stream *stream);
/* NULL is fine. */
void store_stream_close(struct store_stream *stream);

#endif
