/* Import: rows of a file become a sealed partition, in one pass and in memory that does not grow with the rows (only
 * with the number of distinct privacy units and private categories).
 *
 *     struct store_import_options options = {.data_path = "flchain.csv.gz"};
 *     struct store_import_report report;
 *     err = store_import_run(store, &manifest, &options, &report, &info);
 *
 * Order on disk:
 *     1. partitions/UUID.mdb.new is written and synced;
 *     2. pseudonyms are committed;
 *     3. the file is renamed, the folder synced;
 *     4. the catalogue row is committed: only that makes it visible.
 * A crash at any point leaves the earlier state and at most a file that no catalogue row names, which
 * store_import_recover removes at the next store_open. An earlier import's file is unlinked last; scans under way keep
 * reading it.
 *
 * Append writes a new partition, too: the stored rows are carried over, without those whose key comes again, and the
 * new ones join them. So old or new state is whole each time, and the cost is that of reading and sealing all of it (some
 * ten million values a second), not of parsing it again.
 *
 * Values: a number outside its bounds becomes the nearer bound, and is counted; what does not parse, a category value
 * that is not declared, and a row without its privacy unit are rejected by line, column and reason. No text of this
 * module holds a cell's contents.
 * Threads: any, but one import of the same dataset at a time (E_BUSY).
 * Limits: 2^32 - 1 rows; a private category has at most STORE_VALUES_MAX values (values.h). */
#ifndef CONCORDAT_STORE_IMPORT_H
#define CONCORDAT_STORE_IMPORT_H

#include "proto/manifest.h"
#include "proto/mapping.h"
#include "store/source.h"
#include "store/store.h"

#define STORE_IMPORT_REJECTS 100

struct store_import_options {
    const char *data_path;
    const char *const *more_paths; /* further files, of FHIR data */
    size_t more_count;
    struct store_source *
        take_source; /* rows from elsewhere, in place of files; freed by the import, also when it fails */
    const struct proto_mapping *mapping; /* of FHIR data; NULL: none */
    const char
        *data_name; /* what people call the file; its end may say its format. NULL: data_path */
    const char *
        format; /* "csv", "ndjson", "conll" or "fhir"; NULL: what manifest or mapping says, else the name's end, else csv */
    bool dry_run; /* reads and checks everything, writes nothing */
    bool append;  /* to what is stored; else the data replaces it */
    const char *
        key; /* of append: the column whose value, if it is stored already, is replaced with its row; or NULL */
    struct span
        exclude; /* units that have opted out, one a line: neither their new rows nor stored ones are kept */
    bool
        forget; /* no data: what is stored is written anew without the excluded units, whose pseudonyms go, too */
    uint64_t max_rejects;
    int64_t now;               /* becomes imported_at */
    struct span manifest_yaml; /* kept in the catalogue row */
    const struct span
        *tables; /* by declared column: the bytes of its `table:`; NULL: no column has one */
    bool (*cancelled)(void *user); /* may be NULL; asked at every chunk */
    void (*progress)(void *user, uint64_t bytes_done, uint64_t bytes_total,
                     uint64_t rows); /* may be NULL */
    void *user;
};

/* What became of one stored column's values. */
struct store_import_column {
    char name[PROTO_NAME_SIZE];
    uint64_t clamped; /* lay outside the declared bounds and were moved to the nearer one */
    uint64_t
        blanked; /* dates that de-identification made missing: partial ones, and those of people over 89 */
    uint64_t redacted; /* replacements in free text */
    bool absent;       /* no row had it at all (ndjson) */
};

struct store_import_report {
    uint64_t rows;     /* of the partition */
    uint64_t carried;  /* of these, from before (append) */
    uint64_t replaced; /* stored rows that gave way to new ones of the same key */
    uint64_t excluded; /* rows of the file or from before that belong to excluded units */
    uint64_t units;
    uint64_t rejected;
    uint64_t unjoined; /* rows whose mapping joins them with a resource that is not there */
    struct {
        uint64_t line;
        uint32_t file;   /* of several, from 0 */
        char column[64]; /* "": the row as a whole */
        char reason[96];
    } rejects[STORE_IMPORT_REJECTS]; /* the first ones */
    size_t reject_count;
    struct store_import_column
        columns[PROTO_SCHEMA_COLUMNS_MAX]; /* in the order of the published schema */
    size_t column_count;
    uint64_t bytes_raw; /* of the data, unpacked */
    uint64_t bytes_stored;
    uint8_t partition_uuid[16];
    uint8_t root[32];
};

/* MANIFEST is checked. RET is filled on failure as well (the rejects).
 * Errors: E_INVALID more rejects than allowed, or the file cannot be read as its format; E_SCHEMA a
 * column is not in the file, or append to a dataset with other columns; E_UNSUPPORTED a format, type or
 * de-identification; E_LIMIT; E_NOT_FOUND no such file, or append to no dataset;
 * E_CANCELLED; E_BUSY; E_IO, E_DISK_FULL, E_NO_MEMORY. On failure the earlier state stands. */
MUST_CHECK enum err store_import_run(struct store *store, const struct proto_manifest *manifest,
                                     const struct store_import_options *options,
                                     struct store_import_report *ret, struct err_info *reterr);
/* Removes what unfinished imports left: *.new, and partition files that no catalogue row names. For
 * store_open. */
MUST_CHECK enum err store_import_recover(struct store *store, struct err_info *reterr);
/* Forgets a dataset: its key is shredded first, then catalogue row, pseudonyms and file go. What
 * was spent on it stays in the ledger. Errors: E_NOT_FOUND; E_IO. */
MUST_CHECK enum err store_import_remove(struct store *store, const char *dataset,
                                        struct err_info *reterr);

#endif
