/* The rows of a partition that count in a job: of each unit at most max_rows_per_unit, picked by the job's own random key
 * (node/query/bound), so that the same rows are taken in each round and no unit's rows depend on another's.
 *
 *     err = train_rows_each(store, &wish, on_rows, user, reterr);
 *
 * Threads: any. */
#ifndef CONCORDAT_NODE_TRAIN_ROWS_H
#define CONCORDAT_NODE_TRAIN_ROWS_H

#include "store/scan.h"

struct train_rows_wish {
    const char *dataset;
    const struct proto_schema *schema; /* as published; the stored one must have the same columns */
    const int *columns;                /* numbers of that schema */
    size_t count;
    const uint8_t *key; /* 16 */
    bool (*cancelled)(void *user);
    void *user;
};

/* KEEP: bit r of row r, those that count. Units are numbers below 2^32; without a unit column each row is one. */
typedef enum err train_rows_fn(void *user, const struct store_batch *batch, const uint64_t *keep);
static inline uint32_t train_rows_unit(const struct store_batch *batch, size_t row)
{
    return batch->unit ? batch->unit[row] : (uint32_t)(batch->first_row + row);
}

/* Errors: those of the store and of ON_ROWS; E_SCHEMA the partition has other columns; E_LIMIT too many rows; E_CANCELLED. */
MUST_CHECK enum err train_rows_each(struct store *store, const struct train_rows_wish *wish,
                                    train_rows_fn *on_rows, void *user, struct err_info *reterr);

#endif
