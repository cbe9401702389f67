/* Contribution bounding: which rows of a privacy unit count, and which cells a unit was seen in.
 *
 * Two readings of the rows that pass WHERE come first: one counts rows per unit, a second one (only when some unit has too
 * many) finds for each of those the m-th smallest keyed hash of its row numbers. Rows above that limit do not count.
 * SipHash-2-4 (Aumasson and Bernstein 2012) under a key that is fresh for each query: which rows are kept is independent
 * of other units and of the order of rows. Threads: belongs to one. Memory: 4 bytes a unit and at most 8 bytes a row. */
#ifndef CONCORDAT_NODE_QUERY_BOUND_H
#define CONCORDAT_NODE_QUERY_BOUND_H

#include "store/scan.h"

struct query_bound {
    uint8_t key[16];
    uint32_t limit; /* m */
    uint64_t units;
    uint32_t *rows;       /* by unit: rows seen; after counting: 0, or 1 + index into heavy */
    uint64_t *smallest;   /* by heavy unit: a max-heap of its m smallest hashes */
    uint32_t *filled;     /* by heavy unit */
    uint64_t heavy_count; /* 0: every row counts */
    uint64_t *seen;       /* set of (unit, cell), open addressing; 0 is free */
    uint64_t seen_cap;
    uint64_t seen_count;
};

MUST_CHECK enum err query_bound_init(struct query_bound *bound, uint64_t units, uint32_t limit);
void query_bound_fini(struct query_bound *bound);

/* First reading, for each batch; then query_bound_counted, which says whether a second one is needed. */
void query_bound_count(struct query_bound *bound, const struct store_batch *batch);
MUST_CHECK enum err query_bound_counted(struct query_bound *bound, bool *ret_again);
/* Second reading, for each batch. */
void query_bound_rank(struct query_bound *bound, const struct store_batch *batch);

/* Last reading: clears in KEEP the bits of rows that do not count. */
void query_bound_filter(const struct query_bound *bound, const struct store_batch *batch,
                        uint64_t *keep);
/* True the first time that UNIT is seen in CELL. */
MUST_CHECK enum err query_bound_first(struct query_bound *bound, uint32_t unit, uint64_t cell,
                                      uint64_t cells, bool *ret_first);

/* SipHash-2-4 of one 64-bit number. */
uint64_t query_bound_hash(const uint8_t key[16], uint64_t number);

#endif
