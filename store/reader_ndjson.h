/* Newline-delimited JSON: one object a line (https://jsonlines.org), streaming, packed with gzip or zstd or not.
 *
 *     const char *const names[] = {"patient", "valueQuantity.value"};
 *     err = store_reader_ndjson_open("rows.ndjson.gz", names, 2, &source, reterr);
 *
 * Rows have the asked names as header, in their order, whatever order the file's objects have. A name that no key has as
 * it stands is a path: keys, and positions of lists from 0, joined by dots. Numbers, texts, true and false become
 * fields; null and an absent key are fields without a value, which is not the empty text; other keys are passed over.
 * A row is faulty, by its line, when it is no JSON object, has a key twice, is longer or deeper than the limits, holds a
 * zero byte or invalid UTF-8, or has a list or object where a value belongs. Blank lines are skipped.
 * Threads: one. Limits: STORE_JSON_* (json_text.h); a line that is too long is skipped in constant memory. */
#ifndef CONCORDAT_STORE_READER_NDJSON_H
#define CONCORDAT_STORE_READER_NDJSON_H

#include "store/source.h"

/* NAMES are borrowed until the source is freed. Errors: E_NOT_FOUND; E_IO, E_NO_MEMORY; those of store_stream_open. */
MUST_CHECK enum err store_reader_ndjson_open(const char *path, const char *const *names,
                                             size_t count, struct store_source **ret,
                                             struct err_info *reterr);
/* The same over BYTES, which are borrowed until the source is freed; what tests and the fuzzer use. */
MUST_CHECK enum err store_reader_ndjson_bytes(struct span bytes, const char *const *names,
                                              size_t count, struct store_source **ret,
                                              struct err_info *reterr);

#endif
