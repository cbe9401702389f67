/* FHIR R4 resources as rows: NDJSON of bulk exports, and Bundles (transaction, batch, collection, searchset, document) as one
 * document of any size, packed or not, in one file or several, flattened by a mapping (proto/mapping.h).
 *
 *     const char *paths[] = {"Patient.ndjson", "Condition.ndjson.gz"};
 *     struct store_reader_fhir_options options = {.paths = paths, .count = 2, .folder = "HOME/partitions"};
 *     err = store_reader_fhir_open(&mapping, &options, &source, reterr);             header: the mapping's fields
 *
 * Where the mapping joins, the data are read twice: first what rows refer to is kept, as far as fields ask for it (join.h:
 * beyond STORE_FHIR_MEMORY sealed on disk), then rows come. A resource is found by its type and id, and by the fullUrl that
 * it has in a Bundle; references may be relative, absolute, with a version, or urn:uuid. A patient's id is that of the
 * resource, whatever references call it, so that all of a person's rows bear the same one.
 *
 * Resources of other types (which are not even parsed), entries without a resource, and rows that do not meet the mapping's
 * conditions are passed over.
 * A row is faulty, by the line where it begins, when it is no JSON, has no resourceType, is longer or deeper than the limits,
 * or for what its fields say (another unit, a comparator, a list where a value belongs). Rows whose reference leads to nothing
 * lack the joined fields, and are counted. Bundles of other types (history, message) end the reading: their entries are no state.
 * Threads: one. Limits: those of json_text.h; STORE_FHIR_FILES files. */
#ifndef CONCORDAT_STORE_READER_FHIR_H
#define CONCORDAT_STORE_READER_FHIR_H

#include "proto/mapping.h"
#include "store/source.h"

#define STORE_FHIR_FILES  64
#define STORE_FHIR_MEMORY ((size_t)48 << 20) /* of all joins together */

struct store_reader_fhir_options {
    const char *const *paths; /* borrowed until the source is freed */
    size_t count;
    const char *folder;  /* for what does not fit into memory */
    size_t memory_bytes; /* of joins; 0: STORE_FHIR_MEMORY */
    /* While what is joined is read, in open; each may be NULL. The two readings count as one way of twice the bytes. */
    bool (*cancelled)(void *user);
    void (*progress)(void *user, uint64_t bytes_done, uint64_t bytes_total);
    void *user;
};

/* MAPPING is checked, of format fhir, and borrowed until the source is freed.
 * Errors: E_LIMIT too many files; those of store_stream_open, store_join_add; E_CANCELLED. */
MUST_CHECK enum err store_reader_fhir_open(const struct proto_mapping *mapping,
                                           const struct store_reader_fhir_options *options,
                                           struct store_source **ret, struct err_info *reterr);
/* The same over BYTES in place of files, which are borrowed until the source is freed; what tests and the fuzzer use. */
MUST_CHECK enum err store_reader_fhir_bytes(const struct proto_mapping *mapping,
                                            const struct store_reader_fhir_options *options,
                                            struct span bytes, struct store_source **ret,
                                            struct err_info *reterr);

#endif
