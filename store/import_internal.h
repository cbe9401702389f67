/* Inside of an import, for store/import*.c alone: the columns while they fill, and the state of one run. Each file has
 * a part of the way of a row:
 *
 *     import_source.c   which reader gives the rows
 *     import_column.c   the published columns, bound to fields of the file
 *     import_cell.c     a field becomes a value, de-identified
 *     import_chunk.c    values become sealed chunks
 *     import_earlier.c  stored rows and their keys, people who have opted out
 *     import_file.c     the dataset's key, the partition file, its publication
 *     import.c          all of it in order
 *
 * Threads: a run belongs to one. */
#ifndef CONCORDAT_STORE_IMPORT_INTERNAL_H
#define CONCORDAT_STORE_IMPORT_INTERNAL_H

#include "store/deidentify.h"
#include "store/import.h"
#include "store/keyset.h"
#include "store/partition_file.h"
#include "store/source.h"
#include "store/transform.h"
#include "store/values.h"

#include <limits.h>

#define IMPORT_NAME_FIELDS_MAX 32

/* One published column while its chunk fills. */
struct import_column {
    const struct proto_column *declared;
    const struct proto_column *published;
    struct store_import_column *report;
    const char *name;
    size_t field;
    enum store_form form;
    bool is_unit;
    bool decimal_comma;
    struct store_pseudonym *pseudonyms; /* of a unit or pseudonym column */
    struct store_zips *zips;
    struct store_hierarchy *hierarchy;
    struct crypto_key *key; /* of keyed pseudonyms */
    struct store_values values;
    double *numbers;
    uint32_t *codes;
    struct buf text;
    uint32_t *text_start; /* of the segment at hand, which TEXT holds */
    uint32_t *segments;   /* rows of those that are written already */
    size_t segment_count;
    size_t segment_rows; /* of the one at hand */
    uint64_t *null;
    bool any_null;
    uint32_t *histogram;
    uint32_t histogram_codes;
    struct buf zones;
    /* The row at hand. */
    bool missing;
    bool clamped;
    bool blanked;
    bool partial;      /* a date without its day */
    double day;        /* of a date, before it became a year */
    uint64_t redacted; /* replacements */
    double number;
    uint32_t code;
    struct span cell;
    char small[20];   /* what cell may point into */
    struct buf clean; /* likewise: redacted text */
};

struct import {
    struct store *store;
    const struct proto_manifest *manifest;
    const struct store_import_options *options;
    struct store_import_report *report;
    struct store_source *source;
    uint32_t file; /* of several: that of the row at hand */
    struct arena arena;
    struct proto_schema published;
    struct buf body; /* the DATASET body */
    struct import_column *columns;
    size_t count;
    size_t rows; /* in the chunk at hand */
    uint32_t chunks;
    uint64_t unit_limit; /* one more than the largest unit number */
    uint8_t *unit_rows;  /* by unit number; STORE_UNIT_ROWS_MAX: so many or more */
    size_t unit_cap;
    uint32_t unit_most;                  /* of these */
    struct import_column *tokens, *tags; /* of annotated notes; NULL: none */
    struct import_column *unit;          /* NULL: each row is one */
    struct crypto_key *shift_key;        /* of dateshift; NULL in a dry run */
    bool has_relations;                  /* a column whose value depends on others of its row */
    bool redacts;
    size_t
        name_fields[IMPORT_NAME_FIELDS_MAX]; /* dropped text of the file, whose words are names */
    size_t name_count;
    double today;                    /* days since 1970-01-01 */
    struct store_partition *earlier; /* what append carries over; NULL: a new or replaced dataset */
    struct import_column *key;       /* NULL: rows are added only */
    struct store_keyset keys;        /* of the file's rows */
    struct store_keyset excluded;    /* units that have opted out: hashes of identifiers, */
    struct store_keyset excluded_numbers; /* and the numbers of those that are stored */
    const struct crypto_key *dek;
    bool new_key;
    struct store_partition_place place;
    struct store_partition_writer *writer;
    char path[PATH_MAX];     /* of the finished file */
    char new_path[PATH_MAX]; /* while it is written */
    bool file_made;
    bool stopped; /* too many rejects: only looks for more of them */
    struct buf encoded;
};
/* --- import_source.c --- */

/* Opens the data in the format that was asked for, or one without rows where stored ones are only written anew. */
MUST_CHECK enum err import_source_open(struct import *import, struct err_info *reterr);

/* --- import_column.c --- */

MUST_CHECK enum err import_columns_open(struct import *import, struct err_info *reterr);
void import_column_close(struct import_column *column);

/* --- import_cell.c --- */

/* FIELD as the value of the row at hand. NULL, or why the row cannot be taken. */
const char *import_cell_parse(struct import_column *column, const struct store_field *field);
/* Whether a sentence has as many tags as tokens. */
bool import_cells_match(const struct import_column *tokens, const struct import_column *tags);
/* What depends on other columns of the row, after all have been parsed. Errors: E_LIMIT, E_NO_MEMORY. */
MUST_CHECK enum err import_cells_relate(struct import *import, const struct store_row *row);

/* --- import_chunk.c --- */

/* Codes of identifiers and of private categories. Errors: E_LIMIT, E_NO_MEMORY. */
MUST_CHECK enum err import_code_assign(struct import_column *column);
/* The value of the row at hand, its code assigned, goes behind the chunk's others. */
MUST_CHECK enum err import_values_put(struct import *import, struct import_column *column);
/* All values of a parsed row. */
MUST_CHECK enum err import_row_append(struct import *import, uint64_t line,
                                      struct err_info *reterr);
/* Writes the chunk when the row filled it. */
MUST_CHECK enum err import_row_end(struct import *import, struct err_info *reterr);
/* Writes the chunk at hand, which may have no rows. */
MUST_CHECK enum err import_chunk_flush(struct import *import, struct err_info *reterr);
MUST_CHECK enum err import_zones_flush(struct import *import, struct import_column *column,
                                       uint32_t block, struct err_info *reterr);

/* --- import_earlier.c --- */

/* The stored rows that append and forget carry over, when their columns are the same. */
MUST_CHECK enum err import_earlier_open(struct import *import, struct err_info *reterr);
MUST_CHECK enum err import_earlier_carry(struct import *import, struct err_info *reterr);
/* A row without a key, or with one that stands further up in the file, is rejected: *RET_TAKE. */
MUST_CHECK enum err import_key_take(struct import *import, uint64_t line, bool *ret_take,
                                    struct err_info *reterr);
MUST_CHECK enum err import_excluded_read(struct import *import, struct err_info *reterr);
/* Whether the row at hand belongs to somebody who has opted out; counts it. */
bool import_excluded(struct import *import);

/* --- import_file.c --- */

/* The name of a dataset's key in the keyring. */
void import_key_name(const char *dataset, char to[CRYPTO_KEYRING_NAME]);
/* Key, pseudonyms and place of a partition that is to be written. */
MUST_CHECK enum err import_file_prepare(struct import *import, struct err_info *reterr);
/* Finishes the file and makes it the dataset's. */
MUST_CHECK enum err import_file_publish(struct import *import, struct err_info *reterr);
/* What a failed import made goes again: its file, and a key that nothing was published under. */
void import_file_undo(struct import *import);

/* --- import.c --- */

void import_reject(struct import *import, uint64_t line, const char *column, const char *reason);
void import_tell(const struct import *import);
MUST_CHECK enum err import_check_cancelled(const struct import *import, struct err_info *reterr);

#endif
