/* Inside of a scan: the columns that one thread reads, and WHERE over a chunk of them. For scan.c and scan_filter.c alone.
 * Threads: zones are shared and read only; everything else belongs to one. */
#ifndef CONCORDAT_STORE_SCAN_FILE_H
#define CONCORDAT_STORE_SCAN_FILE_H

#include "store/partition_file.h"
#include "store/scan.h"

/* A column that the scan may read. */
struct store_slot {
    int column;
    const struct store_zones *zones;
    struct store_value_key key; /* of its chunks */
    struct store_chunk chunk;
    struct buf plain; /* what CHUNK stands in while it is packed */
    bool loaded;      /* for the chunk at hand */
    /* Of text: the segment at hand. */
    struct store_value_key segment_key;
    struct store_segment segment;
    struct buf segment_plain;
    size_t segment_at;    /* its number in the chunk */
    size_t segment_first; /* its first row in the chunk */
    bool segment_open;
};

typedef enum err store_slot_load_fn(void *user, struct store_slot *slot);

struct store_filter_node;

struct store_filter {
    const struct store_partition *partition;
    struct store_slot *slots;
    size_t slot_count;
    store_slot_load_fn *load; /* opens a slot's chunk, when it is not yet */
    void *user;
    struct arena arena;
    struct store_filter_node *root; /* NULL: every row passes */
    uint64_t *bitmaps;              /* one for the result and two for each level */
    size_t levels;
    uint32_t chunk; /* at hand */
    size_t rows;
};

/* Calls SEE for each column that WHERE looks at, some more than once. Errors: what SEE returned; E_INVALID. */
MUST_CHECK enum err store_filter_columns(const struct store_partition *partition,
                                         const struct proto_predicate *where,
                                         enum err (*see)(void *user, int column), void *user,
                                         struct err_info *reterr);
/* FILTER has partition, slots (among them all columns of WHERE), load and user. WHERE may be NULL and is borrowed.
 * Errors: E_INVALID a condition that does not fit its column; E_NO_MEMORY. */
MUST_CHECK enum err store_filter_init(struct store_filter *filter,
                                      const struct proto_predicate *where, struct err_info *reterr);
void store_filter_fini(struct store_filter *filter);
/* False: the zone maps say that no row of CHUNK passes. */
bool store_filter_begin(struct store_filter *filter, uint32_t chunk, size_t rows);
/* The rows that pass, and their number. The bits are valid until the next call. Errors: those of the load function. */
MUST_CHECK enum err store_filter_rows(struct store_filter *filter, const uint64_t **ret_bits,
                                      size_t *ret_count);

#endif
