/* Inside of a partition file: keys, coordinates, writer; its end: partition_trailer.h. For partition.c, scan.c and import.c
 * alone. Bytes: doc/format.md. Threads: a writer belongs to one. */
#ifndef CONCORDAT_STORE_PARTITION_FILE_H
#define CONCORDAT_STORE_PARTITION_FILE_H

#include "crypto/chunk.h"
#include "store/env.h"
#include "store/partition.h"
#include "store/partition_trailer.h"

#include <stdatomic.h>

#define STORE_PARTITION_AAD       192  /* room for the coordinates of a value */
#define STORE_PARTITION_META_SIZE 108  /* in front of the dataset body */
#define STORE_ZONE_CHUNKS         256  /* chunks in one zone value */
#define STORE_HISTOGRAM_MAX       1024 /* codes of a column that has histograms */
#define STORE_DEK_VERSION         1
#define STORE_SEGMENT_BITS        16

enum store_partition_kind {
    STORE_PARTITION_META,
    STORE_PARTITION_CHUNK,
    STORE_PARTITION_ZONE,
    STORE_PARTITION_DICTIONARY,
    STORE_PARTITION_SEGMENT, /* texts; number: that of the chunk, then STORE_SEGMENT_BITS of its own */
};

/* What each value's AAD says about where it belongs. */
struct store_partition_place {
    uint8_t uuid[16];
    uint8_t schema_hash[32];
};

struct store_partition_column {
    enum store_form form;
    bool is_unit;
    uint32_t value_count;
    const char *const *values;
};

/* All three are private. */
struct store_partition_counts {
    uint64_t rows;
    uint64_t units;     /* one more than the largest unit number; rows when each row is one */
    uint32_t unit_rows; /* the most that one unit has, STORE_UNIT_ROWS_MAX standing for more */
};

/* What a file looked like when it was checked: any write since then shows in it. */
struct store_file_state {
    uint64_t device;
    uint64_t inode;
    uint64_t size;
    int64_t modified_ns;
    int64_t changed_ns;
};

struct store_partition_cache;

struct store_partition {
    /* Of partition_cache.c, under its lock. */
    struct store_partition_cache *cache; /* NULL: opened for one user alone */
    struct store_partition *next;
    size_t users;
    bool kept;
    /* Fixed once it is open. */
    struct store_file_state state;
    char dataset[65];
    char file[64]; /* its name, for messages */
    struct arena arena;
    struct proto_schema schema;
    struct store_partition_column *columns;
    int unit; /* column; -1: none */
    struct store_partition_counts counts;
    uint32_t chunks;
    struct store_partition_place place;
    uint8_t root[32];
    struct crypto_key *dek; /* own copy: a shredded dataset may still be scanned to its end */
    struct crypto_key *index;
    struct store_env *env;
    MDB_dbi dbi;
    struct buf table;       /* of the trailer: what each value that is read is held against */
    atomic_bool *asked_for; /* by line of the table: its pages were asked of the disk */
};

/* Closes the file and frees it, whoever uses it. */
void store_partition_end(struct store_partition *partition);

/* "partitions/UUID.mdb" under HOME, SUFFIX added; false when it does not fit. */
bool store_partition_path(const char *home, const uint8_t uuid[16], const char *suffix, char *to,
                          size_t size);
void store_partition_file_name(const uint8_t uuid[16], char to[64]);
/* The key that blinds names and authenticates the trailer. */
MUST_CHECK enum err store_partition_index_key(const struct crypto_key *dek,
                                              struct crypto_key **ret);
void store_partition_key(const struct crypto_key *index, enum store_partition_kind kind,
                         const char *name, uint32_t number, uint8_t ret[STORE_PARTITION_KEY]);
size_t store_partition_aad(const struct store_partition_place *place,
                           enum store_partition_kind kind, const char *name, uint32_t number,
                           uint32_t rows, uint8_t ret[STORE_PARTITION_AAD]);
struct span store_partition_context(void);
/* Rows of chunk NUMBER. */
size_t store_partition_chunk_rows(const struct store_partition *partition, uint32_t number);
/* The form in which a column of a published schema is stored when the DECLARED one said DEIDENTIFY. */
enum store_form store_form_of(const struct proto_schema *schema, size_t column, bool is_pseudonym);

/* Opens the value at (kind, name, number) into TO, which is enlarged. TXN reads PARTITION's file.
 * Errors: E_CORRUPT, E_AUTH with the file named; E_NO_MEMORY. */
MUST_CHECK enum err store_partition_read(const struct store_partition *partition, MDB_txn *txn,
                                         struct crypto_opener *opener,
                                         enum store_partition_kind kind, const char *name,
                                         uint32_t number, uint32_t rows, struct buf *to,
                                         struct err_info *reterr);

/* Where the values of one kind and name stand, for those who read many of them. */
struct store_value_key {
    enum store_partition_kind kind;
    const char *name; /* borrowed */
    uint8_t blind[16];
};
void store_partition_value_key(const struct store_partition *partition,
                               enum store_partition_kind kind, const char *name,
                               struct store_value_key *ret);
MUST_CHECK enum err store_partition_read_at(const struct store_partition *partition, MDB_txn *txn,
                                            struct crypto_opener *opener,
                                            const struct store_value_key *place, uint32_t number,
                                            uint32_t rows, struct buf *to, struct err_info *reterr);

/* Every value but the meta one, opened: what a check or a copy of the whole file needs. PLAIN is valid during the call. Stops
 * at the first error and returns it. Errors: those of store_partition_read; E_UNSUPPORTED the file holds values that this
 * version does not know. */
typedef enum err store_partition_fn(void *user, enum store_partition_kind kind, const char *name,
                                    uint32_t number, uint32_t rows, struct span plain,
                                    struct err_info *reterr);
MUST_CHECK enum err store_partition_each(const struct store_partition *partition,
                                         store_partition_fn *each, void *user,
                                         struct err_info *reterr);
/* How many values store_partition_each visits. */
MUST_CHECK enum err store_partition_count(const struct store_partition *partition, uint64_t *ret,
                                          struct err_info *reterr);

/* Zones of one column, all chunks; histogram: chunks * value_count counts, NULL when there is none. */
struct store_zones {
    struct store_zone *zones;
    uint32_t *histogram;
    uint32_t histogram_codes;
};
MUST_CHECK enum err store_zones_put(const struct store_zone *zone, const uint32_t *histogram,
                                    uint32_t codes, struct buf *out);
/* Appends the zones of a block's bytes behind the first *INOUT_COUNT ones. Errors: E_CORRUPT. */
MUST_CHECK enum err store_zones_take(struct span bytes, uint32_t count, uint32_t codes,
                                     struct store_zone *zones, uint32_t *histogram);

struct store_partition_writer;
/* A new file at PATH, which must not exist. DEK is borrowed until close. */
MUST_CHECK enum err store_partition_writer_open(const char *path, const struct crypto_key *dek,
                                                const struct store_partition_place *place,
                                                size_t map_bytes,
                                                struct store_partition_writer **ret,
                                                struct err_info *reterr);
MUST_CHECK enum err store_partition_writer_put(struct store_partition_writer *writer,
                                               enum store_partition_kind kind, const char *name,
                                               uint32_t number, uint32_t rows, struct span plain,
                                               struct err_info *reterr);
/* Writes the meta value and the trailer; everything is on the disk on return. DATASET is the encoded
 * DATASET body. */
MUST_CHECK enum err store_partition_writer_finish(struct store_partition_writer *writer,
                                                  const struct store_partition_counts *counts,
                                                  struct span dataset, uint8_t ret_root[32],
                                                  uint64_t *ret_bytes, struct err_info *reterr);
/* Also of an unfinished one; the file stays. */
void store_partition_writer_close(struct store_partition_writer *writer);

#endif
