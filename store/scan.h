/* Reading a partition chunk by chunk with a filter.
 *
 *     static enum err add(void *user, const struct store_batch *batch) {
 *         for each row r with bit r of batch->selected: sum += store_batch_number(batch, 0, r);
 *     }
 *     int columns[] = {proto_schema_find(schema, "cost")};
 *     err = store_scan(partition, columns, 1, query.where, cancelled, add, &sum, reterr);
 *
 * WHERE is a bound tree (proto/query.h: no NOT, so a comparison with a missing value is just not true). A chunk whose
 * zone map says that no row can pass is not read; of the others the cheapest column is read first, and the rest only
 * while rows remain. Constants are translated into the chunk's codes, so that filters compare integers. Batches without
 * a selected row are not reported. Values are as stored: not clamped to the declared bounds.
 * Threads: any, one call each. store_scan_ask lets several threads share one scan: each has a user pointer of its own, so that
 * what they add up needs no lock, and chunks come to them in no order. With one user all is done on the caller's thread
 * and in order.
 * Limits: STORE_SCAN_COLUMNS columns out; predicates of depth STORE_SCAN_DEPTH.
 * Memory: about 0.5 MB a column and thread; everything decoded is wiped at the end. */
#ifndef CONCORDAT_STORE_SCAN_H
#define CONCORDAT_STORE_SCAN_H

#include "proto/query.h"
#include "store/partition.h"

#define STORE_SCAN_COLUMNS 512
#define STORE_SCAN_DEPTH   128

/* A batch is a chunk of rows, or, where text is shown, as many of them as lie in the same segment of each text column; then
 * code and number are neither aligned nor padded.
 * One column of a batch. Exactly one of code, number, text_start is set.
 * code: value = (base + code) / divisor; of a category, boolean or pseudonym base is 0 and divisor
 * 1, so it is the code itself.
 * code and number are aligned to 64 bytes and padded with zeros to a multiple of 64 rows. At a
 * missing value they are 0. */
struct store_batch_column {
    const uint32_t *code;
    int64_t base;
    double divisor;
    unsigned bits;        /* every code is below 2^bits */
    const double *number; /* raw doubles, where no decimal scale fits */
    const uint64_t *null; /* bit set: missing; NULL: none is */
    const char *text;
    const uint32_t *text_start; /* rows + 1 offsets into text */
};

struct store_batch {
    size_t rows; /* at most STORE_CHUNK_ROWS */
    uint64_t first_row;
    const uint64_t *selected; /* bit r: row r passes WHERE; zeros behind the last row; never NULL */
    size_t selected_count;    /* at least 1; == rows: all */
    const struct store_batch_column *columns; /* in the order of the COLUMNS argument */
    const uint32_t *
        unit; /* privacy unit of each row, below store_partition_units; the row number when there is no unit column */
};

/* What a scan did, for tests and metrics. */
struct store_scan_stats {
    uint64_t chunks;         /* of rows */
    uint64_t chunks_skipped; /* by zone maps alone */
    uint64_t values_opened;  /* column chunks decrypted */
    uint64_t bytes_opened;
};

typedef enum err store_scan_fn(void *user, const struct store_batch *batch);

struct store_scan_question {
    const int *columns; /* numbers of the published schema */
    size_t count;
    const struct proto_predicate *where; /* NULL: every row */
    bool with_unit;                      /* false: batch->unit is NULL and its column is not read */
    bool (*cancelled)(void *user); /* NULL, or asked at each of its chunks by the caller's thread */
    void *cancel_user;
    store_scan_fn *on_batch;
    void *const *users; /* what on_batch gets; of these each belongs to one thread */
    size_t user_count;  /* at least 1; more than store_scan_workers are of no use */
};

/* Threads that a scan of PARTITION can use on this machine. */
size_t store_scan_workers(const struct store_partition *partition);
/* STATS may be NULL. Errors: E_CANCELLED; the first that ON_BATCH returned; E_INVALID a column or predicate is not bound to
 * this schema; E_AUTH, E_CORRUPT, E_UNSUPPORTED (the text names the dataset's file); E_NO_MEMORY, E_IO. */
MUST_CHECK enum err store_scan_ask(struct store_partition *partition,
                                   const struct store_scan_question *question,
                                   struct store_scan_stats *stats, struct err_info *reterr);

/* The same on this thread alone and in the order of rows; USER is for both callbacks. */
MUST_CHECK enum err store_scan_with(struct store_partition *partition, const int *columns,
                                    size_t count, const struct proto_predicate *where,
                                    bool with_unit, bool (*cancelled)(void *user),
                                    store_scan_fn *on_batch, void *user,
                                    struct store_scan_stats *stats, struct err_info *reterr);
/* The same with the unit of each row and without statistics. */
MUST_CHECK enum err store_scan(struct store_partition *partition, const int *columns, size_t count,
                               const struct proto_predicate *where, bool (*cancelled)(void *user),
                               store_scan_fn *on_batch, void *user, struct err_info *reterr);

/* The value of ROW in the batch's column INDEX; a code's number of a category. Meaningless where it
 * is missing or text. */
static inline double store_batch_number(const struct store_batch *batch, size_t index, size_t row)
{
    const struct store_batch_column *column = &batch->columns[index];
    return column->number ? column->number[row]
                          : (double)(column->base + column->code[row]) / column->divisor;
}

static inline bool store_batch_missing(const struct store_batch *batch, size_t index, size_t row)
{
    const uint64_t *null = batch->columns[index].null;
    return null && (null[row / 64] >> (row % 64) & 1);
}

static inline bool store_batch_selected(const struct store_batch *batch, size_t row)
{
    return batch->selected[row / 64] >> (row % 64) & 1;
}

#endif
