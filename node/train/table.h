/* From a partition to the two tables of a site's training: rows to learn from, and rows held out for evaluation.
 *
 * Of each unit at most max_rows_per_unit rows are kept (node/query/bound, under the job's own random key, so that the same
 * rows are taken in each round), then rows without a target (of events without a time above 0) and, unless midpoints fill in, without some feature are left
 * out. A unit is held out as a whole when its keyed hash falls below the split. None of this depends on other units.
 * Everything in a table is private. Threads: belongs to one. Memory: 4 bytes a value, twice while loading. */
#ifndef CONCORDAT_NODE_TRAIN_TABLE_H
#define CONCORDAT_NODE_TRAIN_TABLE_H

#include "node/model/logistic.h"
#include "node/train/encoding.h"
#include "node/train/plan.h"
#include "store/store.h"

#define TRAIN_TABLE_BYTES  ((size_t)2 << 30)
#define TRAIN_TABLE_BLOCKS 4 /* of memory, of one table */

struct train_tables {
    struct model_table train;
    struct model_table held;
    void *memory[2 * TRAIN_TABLE_BLOCKS]; /* what the tables point into */
    size_t bytes[2 * TRAIN_TABLE_BLOCKS];
};

struct train_table_wish {
    const char *dataset;
    const struct proto_schema *schema; /* as published; the stored one must have the same columns */
    const struct train_encoding *encoding;
    bool midpoint;
    double eval_split;
    const uint8_t *key; /* 16 */
    bool (*cancelled)(void *user);
    void *user;
};

/* Errors: those of the store; E_SCHEMA the partition has other columns; E_LIMIT TRAIN_TABLE_BYTES; E_CANCELLED. */
MUST_CHECK enum err train_tables_load(struct store *store, const struct train_table_wish *wish,
                                      struct train_tables *ret, struct err_info *reterr);
/* Wipes and frees. */
void train_tables_fini(struct train_tables *tables);

#endif
