/* Comma-separated values (RFC 4180), or with another delimiter, through libcsv, streaming: memory does not grow with the file, which may be packed
 * with gzip or zstd (stream.h).
 *
 *     err = store_reader_csv_open("flchain.csv", ',', &source, reterr);      header is read
 *
 * Taken: quotes, doubled quotes and newlines inside them, CRLF, LF or CR line ends, a UTF-8 byte order mark, blank
 * lines (skipped). Blanks around a field are kept: the importer trims where the type allows. A row is faulty, by its
 * line, when it has another number of fields than the header, a stray quote, a zero byte, invalid UTF-8, or an
 * unterminated quote at the end of the file. Reading stops with E_LIMIT at a field or row that is longer than the
 * limits (mostly an unterminated quote earlier).
 * Threads: one. Limits: STORE_CSV_*. */
#ifndef CONCORDAT_STORE_READER_CSV_H
#define CONCORDAT_STORE_READER_CSV_H

#include "store/source.h"

#define STORE_CSV_FIELD_MAX   65536
#define STORE_CSV_ROW_MAX     ((size_t)1 << 20)
#define STORE_CSV_COLUMNS_MAX 4096

/* Errors: E_NOT_FOUND; E_INVALID no header line; E_LIMIT; E_IO, E_NO_MEMORY; those of store_stream_open. */
MUST_CHECK enum err store_reader_csv_open(const char *path, char delimiter,
                                          struct store_source **ret, struct err_info *reterr);
/* The same over BYTES, which are borrowed until the source is freed; what tests and the fuzzer use. */
MUST_CHECK enum err store_reader_csv_bytes(struct span bytes, char delimiter,
                                           struct store_source **ret, struct err_info *reterr);

#endif
