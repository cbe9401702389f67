/* Where rows come from: a pull interface over a file format (reader_*.h) or something outside (node/source). A source gives
 * text fields and where they stood; types, missing markers and de-identification are the importer's.
 *
 *     while (!(err = source->next(source, &row, reterr)) && !row.end) {
 *         if (row.fault) { reject(row.line, row.fault); continue; }
 *         use(row.fields[2].text);
 *     }
 *     source->free(source);
 *
 * Threads: a source belongs to one thread. */
#ifndef CONCORDAT_STORE_SOURCE_H
#define CONCORDAT_STORE_SOURCE_H

#include "proto/err.h"
#include "proto/span.h"

#include <stdbool.h>

struct store_field {
    const char *text; /* ends with a zero that is not counted; no zero inside */
    size_t len;
    bool
        null; /* the format says that there is no value, whatever texts may stand for it elsewhere */
};

struct store_row {
    bool end;                 /* no more rows; nothing else is set */
    uint64_t line;            /* in the file, from 1, where the row starts */
    uint32_t file;            /* of several, from 0 */
    const char *fault;        /* NULL, or why this row cannot be used (never its contents) */
    const char *fault_column; /* NULL, or the header of the field that is at fault */
    const struct store_field *fields; /* in the order of the header; valid until the next call */
    size_t count;
};

struct store_source {
    /* Errors: the file as a whole cannot be read on: E_INVALID, E_LIMIT (text with the line), E_IO, E_NO_MEMORY. */
    enum err (*next)(struct store_source *, struct store_row *ret, struct err_info *);
    void (*free)(struct store_source *);
    const struct store_field *header; /* names as they stand in the file */
    size_t header_count;
    uint64_t bytes_done;
    uint64_t bytes_total; /* 0: not known */
    uint64_t bytes_plain; /* like bytes_done, but after unpacking */
    uint64_t unjoined;    /* rows for which a join found nothing (reader_fhir.h) */
    bool packed;          /* gzip or zstd: bytes_total says little about the rows */
    const bool
        *absent; /* NULL, or for each header: no row so far had it (at the end of the data) */
};

#endif
