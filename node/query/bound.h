/* Contribution bounding: which rows of a privacy unit count, and which cells a unit was seen in.
 *
 * Two readings of the rows that pass WHERE come first: one counts rows per unit, a second one (only when some unit has more
 * than a bound lets count) looks at those units again. Where rows in all are bounded, it finds for each of them the m-th
 * smallest keyed hash of its row numbers, and rows above that limit do not count. Where groups or rows in a group are
 * bounded, it collects the unit's rows: the groups with the smallest hashes count, in that order, and of each the rows with
 * the smallest hashes, until any bound is met. Hashes are SipHash-2-4 (Aumasson and Bernstein 2012) under keys that are fresh
 * for each query: what is kept of a unit depends on its own rows alone, and not on their order.
 * Threads: belongs to one. Memory: 4 bytes a unit, and at most 8 bytes a row, or 32 and a bit where groups are bounded. */
#ifndef CONCORDAT_NODE_QUERY_BOUND_H
#define CONCORDAT_NODE_QUERY_BOUND_H

#include "node/privacy/mechanism.h"
#include "store/scan.h"

struct query_bound_entry; /* a row of a unit that has too many */

struct query_bound {
    uint8_t key[16];
    uint8_t group_key[16];
    struct privacy_bounds limits;
    bool grouped; /* groups, or rows in a group, are bounded */
    uint64_t units;
    uint32_t *rows;       /* by unit: rows seen; after counting: 0, or 1 + index into heavy */
    uint64_t *smallest;   /* by heavy unit: a max-heap of its m smallest hashes */
    uint32_t *filled;     /* by heavy unit */
    uint64_t heavy_count; /* 0: every row counts */
    struct query_bound_entry *entries; /* grouped */
    uint64_t entry_count;
    uint64_t entry_cap;
    uint64_t *dropped; /* grouped: a bit for each row of the table */
    uint64_t rows_in_all;
    uint64_t *seen; /* set of (unit, cell), open addressing; 0 is free */
    uint64_t seen_cap;
    uint64_t seen_count;
};

/* CELLS: how many groups there are in all; with one, groups need no bound. ROWS: of the table. */
MUST_CHECK enum err query_bound_init(struct query_bound *bound, uint64_t units,
                                     const struct privacy_bounds *limits, uint64_t cells,
                                     uint64_t rows);
void query_bound_fini(struct query_bound *bound);

/* First reading, for each batch; then query_bound_counted, which says whether a second one is needed. */
void query_bound_count(struct query_bound *bound, const struct store_batch *batch);
MUST_CHECK enum err query_bound_counted(struct query_bound *bound, bool *ret_again);
/* Second reading: for each batch; or, grouped, for each selected row that is in a group, and then query_bound_choose. */
void query_bound_rank(struct query_bound *bound, const struct store_batch *batch);
void query_bound_gather(struct query_bound *bound, const struct store_batch *batch, size_t row,
                        uint32_t cell, uint64_t cells);
MUST_CHECK enum err query_bound_choose(struct query_bound *bound);

/* Last reading: clears in KEEP the bits of rows that do not count. */
void query_bound_filter(const struct query_bound *bound, const struct store_batch *batch,
                        uint64_t *keep);
/* True the first time that UNIT is seen in CELL. */
MUST_CHECK enum err query_bound_first(struct query_bound *bound, uint32_t unit, uint64_t cell,
                                      uint64_t cells, bool *ret_first);

/* SipHash-2-4 of one 64-bit number. */
uint64_t query_bound_hash(const uint8_t key[16], uint64_t number);

#endif
