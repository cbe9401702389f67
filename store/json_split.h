/* A file of JSON objects as one object after the other, in memory that does not grow with the file: lines of NDJSON, objects
 * over many lines, and FHIR Bundles of any size, whose entries come one by one.
 *
 *     err = store_json_split_open("export.ndjson.gz", &split, reterr);
 *     while (!(err = store_json_split_next(split, &piece, reterr)) && !piece.end) {
 *         if (piece.fault) { reject(piece.line, piece.fault); continue; }
 *         use(piece.text, piece.entry);
 *     }
 *     store_json_split_close(split);
 *
 * An object whose member "entry" is a list is given in parts: first each object of the list, marked as an entry, then the
 * object with that list empty. So a Bundle is told by what comes last; what is no Bundle may have entries as well (a List).
 *
 * It only finds where objects begin and end; whether they are JSON is for who parses them (json_text.h). After a fault it
 * goes on with the next line that begins with a brace, so that one bad line of NDJSON costs itself and at most the line
 * behind it. Threads: one. Limits: STORE_JSON_TEXT_MAX bytes of an object without its entries, and of an entry: what is
 * longer is given with a fault and its beginning. */
#ifndef CONCORDAT_STORE_JSON_SPLIT_H
#define CONCORDAT_STORE_JSON_SPLIT_H

#include "store/source.h"

struct store_json_piece {
    bool end; /* no more; nothing else is set */
    bool entry;
    bool too_long;
    uint64_t line;     /* where it begins, from 1 */
    const char *fault; /* NULL, or why it cannot be used */
    struct span text;  /* valid until the next call */
};

struct store_json_split;

/* Errors: those of store_stream_open. */
MUST_CHECK enum err store_json_split_open(const char *path, struct store_json_split **ret,
                                          struct err_info *reterr);
/* The same over BYTES, which are borrowed until it is closed. */
MUST_CHECK enum err store_json_split_bytes(struct span bytes, struct store_json_split **ret,
                                           struct err_info *reterr);
/* Errors: those of store_stream_read, with the line; E_NO_MEMORY. */
MUST_CHECK enum err store_json_split_next(struct store_json_split *split,
                                          struct store_json_piece *ret, struct err_info *reterr);
/* As store_lines_tell. */
void store_json_split_tell(const struct store_json_split *split, struct store_source *source);
/* NULL is fine. */
void store_json_split_close(struct store_json_split *split);

#endif
