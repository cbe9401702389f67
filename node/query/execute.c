#include "config.h"
#include "node/query/execute.h"

#include "crypto/memory.h"
#include "node/query/bound.h"
#include "node/query/resolve.h"
#include "store/crew.h"
#include "store/pack.h"
#include "store/scan.h"

#include "store/kernel.h"

#include <math.h>
#include <stdlib.h>

#define WORDS (STORE_CHUNK_ROWS / 64)
/* Rows that are worked on together: their cells and values stay in the first cache. */
#define BLOCK 4096
/* Neighbouring rows add to different copies of the sums, so that an addition need not wait for the one before it. */
#define LANES     4
#define LANES_MAX 512 /* cells; more of them seldom meet, and the copies would not fit the cache */

#define LIST_OVER 8 /* what bits_list writes behind its list */

/* One execution. Sums of a batch fit int64: 2^16 rows of at most 2^46. */
#define SENSITIVITY_MAX (UINT64_C(1) << 46)

struct run {
    const struct proto_query *query;
    const struct proto_predicate *where; /* the query's, texts of private categories as codes */
    const struct query_layout *layout;
    bool (*cancelled)(void *user);
    void *user;
    int columns[PROTO_SCHEMA_COLUMNS_MAX];
    size_t column_count;
    size_t group_at[PROTO_QUERY_GROUPS_MAX];
    size_t column_at[PROTO_SCHEMA_COLUMNS_MAX]; /* where a column of the schema is in a batch */
    struct query_bound bound;
    size_t cells;
    size_t sizes[PROTO_QUERY_GROUPS_MAX]; /* values of each group column, private ones included */
    bool sparse;                          /* cells are the combinations of them that rows have: */
    uint64_t *keys;                       /* these, ascending, once they are known */
    size_t key_count, key_room;
    __int128 *sums;
    /* Of the batch at hand. */
    uint64_t keep[WORDS];
    int64_t *lanes; /* by part, the last one of which counts rows: lane_count x lane, but cells x
                       classes once */
    size_t lane_count;
    size_t lane; /* cells, and behind them one for rows that don't count */
    size_t lanes_at[QUERY_COORDINATES_MAX + 1];
    size_t lanes_size;
    size_t packed;    /* sum whose lanes count rows as well; SIZE_MAX: none */
    bool has_outside; /* rows that don't count may be worked on, in the cell behind the last */
    /* Of the block at hand: its rows that count, closed up. */
    size_t first; /* row of the batch */
    size_t count;
    bool whole;   /* not closed up: every row counts, or most do and the others are outside */
    bool outside; /* of a whole block: some are */
    uint16_t at[BLOCK + LIST_OVER]; /* else: where they were */
    uint32_t cell[BLOCK];
    uint64_t key[BLOCK];
    uint32_t class[BLOCK];
    uint32_t code[BLOCK];
    double number[BLOCK];
    double value[BLOCK];
    double factor[BLOCK];
    int64_t snapped[BLOCK];
    uint64_t missing[WORDS]; /* of a part that needs several columns */
    const uint64_t *lost_of; /* bits that LOST lists, of this block; NULL: none yet */
    size_t lost_count;
    uint16_t lost[BLOCK + LIST_OVER];
};

static size_t need_column(struct run *run, int column)
{
    for (size_t i = 0; i < run->column_count; i++) {
        if (run->columns[i] == column) {
            return i;
        }
    }
    run->column_at[column] = run->column_count;
    run->columns[run->column_count] = column;
    return run->column_count++;
}

static const struct store_batch_column *column_of(const struct run *run,
                                                  const struct store_batch *batch, int column)
{
    return &batch->columns[run->column_at[column]];
}

static int64_t *lanes_of(struct run *run, size_t part)
{
    return run->lanes + run->lanes_at[part];
}

static size_t row_of(const struct run *run, size_t i)
{
    return run->first + (run->whole ? i : run->at[i]);
}

/* --- kernels over the closed-up rows of a block --------------------------------------------- */

/* Numbers of the bits that are set. Eight are written at a time, whatever there are, as a loop over the bits of each word would end
 * where no processor foresees it; TO has room for LIST_OVER more than come out. */
STORE_KERNEL static size_t bits_list(const uint64_t *restrict from, size_t words,
                                     uint16_t *restrict to)
{
    size_t count = 0;
    for (size_t word = 0; word < words; word++) {
        uint64_t left = from[word];
        uint16_t *at = to + count;
        count += (size_t)__builtin_popcountll(left);
        do {
            for (unsigned i = 0; i < 8; i++) {
                at[i] = (uint16_t)(word * 64 + (size_t)__builtin_ctzll(left | UINT64_C(1) << 63));
                left &= left - 1;
            }
            at += 8;
        } while (left);
    }
    return count;
}

/* Codes are below SIZE by construction; a wrong one must not become a wild index. */
STORE_KERNEL static void cells_first(const uint32_t *restrict code, size_t count, uint32_t size,
                                     uint32_t *restrict cell)
{
    for (size_t i = 0; i < count; i++) {
        cell[i] = code[i] < size ? code[i] : 0;
    }
}

STORE_KERNEL static void cells_next(const uint32_t *restrict code, size_t count, uint32_t size,
                                    uint32_t *restrict cell)
{
    for (size_t i = 0; i < count; i++) {
        cell[i] = cell[i] * size + (code[i] < size ? code[i] : 0);
    }
}

/* As the two above, and rows that don't count go to cell OUTSIDE. FIRST is a constant in each of the clones. */
static inline __attribute__((always_inline)) void
cells_kept(bool first, const uint32_t *restrict code, const uint64_t *restrict keep, size_t words,
           uint32_t size, uint32_t outside, uint32_t *restrict cell)
{
    for (size_t half = 0; half < 2 * words; half++) {
        uint32_t bits = (uint32_t)(keep[half / 2] >> 32 * (half % 2));
        const uint32_t *from = code + half * 32;
        uint32_t *to = cell + half * 32;
        for (unsigned i = 0; i < 32; i++) {
            uint32_t own = from[i] < size ? from[i] : 0;
            own = first ? own : to[i] * size + own;
            to[i] = bits >> i & 1 ? own : outside;
        }
    }
}

STORE_KERNEL static void cells_first_kept(const uint32_t *restrict code,
                                          const uint64_t *restrict keep, size_t words,
                                          uint32_t size, uint32_t outside, uint32_t *restrict cell)
{
    cells_kept(true, code, keep, words, size, outside, cell);
}

STORE_KERNEL static void cells_next_kept(const uint32_t *restrict code,
                                         const uint64_t *restrict keep, size_t words, uint32_t size,
                                         uint32_t outside, uint32_t *restrict cell)
{
    cells_kept(false, code, keep, words, size, outside, cell);
}

static void cells_count(const uint32_t *cell, size_t count, int64_t *lanes, size_t stride)
{
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        lanes[cell[i]]++;
        lanes[stride + cell[i + 1]]++;
        lanes[2 * stride + cell[i + 2]]++;
        lanes[3 * stride + cell[i + 3]]++;
    }
    for (; i < count; i++) {
        lanes[cell[i]]++;
    }
}

/* Adds value + EACH. */
static void cells_sum(const uint32_t *cell, const int64_t *value, size_t count, int64_t each,
                      int64_t *lanes, size_t stride)
{
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        lanes[cell[i]] += value[i] + each;
        lanes[stride + cell[i + 1]] += value[i + 1] + each;
        lanes[2 * stride + cell[i + 2]] += value[i + 2] + each;
        lanes[3 * stride + cell[i + 3]] += value[i + 3] + each;
    }
    for (; i < count; i++) {
        lanes[cell[i]] += value[i] + each;
    }
}

STORE_KERNEL static int64_t sum(const int64_t *value, size_t count)
{
    int64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        total += value[i];
    }
    return total;
}

/* How a stored value becomes an integer of the grid: clamp(stored * factor + offset), rounded to nearest. LOW and HIGH lie
 * within the sensitivity, so no row can add more, whatever is stored. */
struct snapping {
    double factor;
    double offset;
    double low;
    double high;
};

/* rint for |x| < 2^51, in a form that vectorises: in [2^52, 2^53) doubles are the integers, so adding 1.5 * 2^52 rounds,
 * and the difference of the bits is the integer. The comparisons are such that NaN becomes LOW. */
static inline int64_t snap_one(double x, const struct snapping *by)
{
    const double magic = 0x1.8p52;
    x = x > by->low ? x : by->low;
    x = x < by->high ? x : by->high;
    x += magic;
    int64_t bits;
    int64_t zero;
    memcpy(&bits, &x, sizeof bits);
    memcpy(&zero, &magic, sizeof zero);
    return bits - zero;
}

STORE_KERNEL static void snap_codes(const uint32_t *restrict code, size_t count,
                                    const struct snapping *by, int64_t *restrict to)
{
    const struct snapping how = *by;
    for (size_t i = 0; i < count; i++) {
        /* An unsigned integer to double, as above: AVX2 has no instruction for it. */
        uint64_t bits = UINT64_C(0x4330000000000000) | code[i];
        double x;
        memcpy(&x, &bits, sizeof x);
        to[i] = snap_one((x - 0x1p52) * how.factor + how.offset, &how);
    }
}

STORE_KERNEL static void snap_numbers(const double *restrict number, size_t count,
                                      const struct snapping *by, int64_t *restrict to)
{
    const struct snapping how = *by;
    for (size_t i = 0; i < count; i++) {
        to[i] = snap_one(number[i] * how.factor + how.offset, &how);
    }
}

/* Stored numbers or codes as centred values within [LOW, HIGH]; the comparisons are such that NaN becomes LOW. */
struct centring {
    double factor;
    double base;
    double low;
    double high;
    double centre;
};

STORE_KERNEL static void centre_codes(const uint32_t *restrict code, size_t count,
                                      const struct centring *by, double *restrict to)
{
    const struct centring how = *by;
    for (size_t i = 0; i < count; i++) {
        double x = ((double)code[i] + how.base) / how.factor;
        x = x > how.low ? x : how.low;
        to[i] = (x < how.high ? x : how.high) - how.centre;
    }
}

STORE_KERNEL static void centre_numbers(const double *restrict number, size_t count,
                                        const struct centring *by, double *restrict to)
{
    const struct centring how = *by;
    for (size_t i = 0; i < count; i++) {
        double x = number[i] > how.low ? number[i] : how.low;
        to[i] = (x < how.high ? x : how.high) - how.centre;
    }
}

STORE_KERNEL static void snap_products(const double *restrict a, const double *restrict b,
                                       size_t count, const struct snapping *by,
                                       int64_t *restrict to)
{
    const struct snapping how = *by;
    for (size_t i = 0; i < count; i++) {
        to[i] = snap_one(a[i] * b[i] * how.factor + how.offset, &how);
    }
}

/* --- blocks --------------------------------------------------------------------------------- */

static void close_up(struct run *run, size_t rows)
{
    const uint64_t *keep = run->keep + run->first / 64;
    run->count = store_count_bits(keep, (rows + 63) / 64);
    run->outside = run->has_outside && run->count < rows && run->count >= rows / 2;
    run->whole = run->outside || run->count == rows;
    run->count = run->outside ? rows : run->count;
    if (!run->whole) {
        (void)bits_list(keep, (rows + 63) / 64, run->at);
    }
    run->lost_of = NULL;
}

/* Rows of a whole block that MISSING names, into LOST. */
static size_t list_lost(struct run *run, const uint64_t *missing)
{
    if (missing == run->missing || missing != run->lost_of) {
        run->lost_count = bits_list(missing + run->first / 64, (run->count + 63) / 64, run->lost);
        while (run->lost_count && run->lost[run->lost_count - 1] >= run->count) {
            run->lost_count--; /* no row of this batch */
        }
        run->lost_of = missing;
    }
    return run->lost_count;
}

static const uint32_t *codes_of(struct run *run, const struct store_batch_column *column)
{
    if (run->whole) {
        return column->code + run->first;
    }
    for (size_t i = 0; i < run->count; i++) {
        run->code[i] = column->code[run->first + run->at[i]];
    }
    return run->code;
}

static const double *numbers_of(struct run *run, const struct store_batch_column *column)
{
    if (run->whole) {
        return column->number + run->first;
    }
    for (size_t i = 0; i < run->count; i++) {
        run->number[i] = column->number[run->first + run->at[i]];
    }
    return run->number;
}

/* Rows of this batch that lack a value which PART needs: NULL when none does. Valid until the next call. */
static const uint64_t *missing_of(struct run *run, const struct store_batch *batch, size_t part)
{
    const struct query_term *term = &run->layout->parts[part];
    const uint64_t *found = NULL;
    for (size_t i = 0; i < term->need_count; i++) {
        const uint64_t *null = column_of(run, batch, term->needs[i])->null;
        if (!found || !null) {
            found = found ? found : null;
            continue;
        }
        for (size_t word = 0; word < (batch->rows + 63) / 64; word++) {
            run->missing[word] = found[word] | null[word];
        }
        found = run->missing;
    }
    return found;
}

static void centred(struct run *run, const struct store_batch_column *column, double low,
                    double high, double centre, double *to)
{
    struct centring by = {.factor = 1, .low = low, .high = high, .centre = centre};
    if (column->number) {
        centre_numbers(numbers_of(run, column), run->count, &by, to);
    } else {
        by.factor = column->divisor;
        by.base = (double)column->base;
        centre_codes(codes_of(run, column), run->count, &by, to);
    }
}

/* Whole numbers as codes from the declared least value. */
static const uint32_t *numbered(struct run *run, const struct store_batch_column *column,
                                const struct proto_column *type)
{
    centred(run, column, type->min, type->max, type->min, run->value);
    for (size_t i = 0; i < run->count; i++) {
        run->code[i] = (uint32_t)(run->value[i] + 0.5);
    }
    return run->code;
}

static const uint32_t *group_codes(struct run *run, const struct store_batch *batch, size_t g)
{
    const struct store_batch_column *column = &batch->columns[run->group_at[g]];
    const struct proto_column *type = &run->query->schema->columns[run->query->group_columns[g]];
    return type->type == PROTO_COLUMN_INTEGER ? numbered(run, column, type) : codes_of(run, column);
}

/* Which combination of values each row of the block has. */
static void find_keys(struct run *run, const struct store_batch *batch)
{
    memset(run->key, 0, run->count * sizeof *run->key);
    for (size_t g = 0; g < run->query->group_count; g++) {
        const uint32_t *codes = group_codes(run, batch, g);
        for (size_t i = 0; i < run->count; i++) {
            run->key[i] = run->key[i] * run->sizes[g] + (codes[i] < run->sizes[g] ? codes[i] : 0);
        }
    }
}

/* Its place among the keys; they were read from the same rows, so it is there. */
static size_t place_of(const struct run *run, uint64_t key)
{
    size_t low = 0;
    size_t high = run->key_count - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (run->keys[middle] < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void find_cells(struct run *run, const struct store_batch *batch)
{
    size_t groups = run->query->group_count;
    if (groups == 0) {
        memset(run->cell, 0, run->count * sizeof *run->cell);
    }
    if (run->sparse) {
        find_keys(run, batch);
        for (size_t i = 0; i < run->count; i++) {
            run->cell[i] = (uint32_t)place_of(run, run->key[i]);
        }
        return;
    }
    const uint64_t *keep = run->keep + run->first / 64;
    size_t words = (run->count + 63) / 64;
    uint32_t outside = (uint32_t)run->cells;
    for (size_t g = 0; g < groups; g++) {
        uint32_t size = (uint32_t)run->sizes[g];
        const uint32_t *codes = group_codes(run, batch, g);
        bool kept = run->outside && g + 1 == groups;
        if (kept && g == 0) {
            cells_first_kept(codes, keep, words, size, outside, run->cell);
        } else if (kept) {
            cells_next_kept(codes, keep, words, size, outside, run->cell);
        } else if (g == 0) {
            cells_first(codes, run->count, size, run->cell);
        } else {
            cells_next(codes, run->count, size, run->cell);
        }
    }
}

static void snap_product(struct run *run, const struct store_batch *batch, size_t part)
{
    const struct query_term *term = &run->layout->parts[part];
    double most = (double)run->layout->coordinates[part].sensitivity;
    double scale = ldexp(1, -run->layout->coordinates[part].grid_log2);
    const struct snapping by = {
        .factor = scale, .offset = -term->shift * scale, .low = -most, .high = most};
    centred(run, column_of(run, batch, term->column), term->low, term->high, term->centre,
            run->value);
    if (term->factor != term->column) {
        centred(run, column_of(run, batch, term->factor), term->factor_low, term->factor_high,
                term->factor_centre, run->factor);
    }
    snap_products(run->value, term->factor != term->column ? run->factor : run->value, run->count,
                  &by, run->snapped);
}

static void snap(struct run *run, const struct store_batch_column *column, size_t part)
{
    double centre = run->layout->parts[part].centre;
    double most = (double)run->layout->coordinates[part].sensitivity;
    double scale = ldexp(1, -run->layout->coordinates[part].grid_log2);
    struct snapping by = {.factor = scale,
                          .offset = -centre * scale,
                          .low = fmax((run->layout->parts[part].low - centre) * scale, -most),
                          .high = fmin((run->layout->parts[part].high - centre) * scale, most)};
    if (column->number) {
        snap_numbers(numbers_of(run, column), run->count, &by, run->snapped);
    } else {
        by.factor = scale / column->divisor;
        by.offset = ((double)column->base / column->divisor - centre) * scale;
        snap_codes(codes_of(run, column), run->count, &by, run->snapped);
    }
}

static void drop_missing(struct run *run, const uint64_t *missing)
{
    if (missing && run->whole) {
        size_t count = list_lost(run, missing);
        for (size_t i = 0; i < count; i++) {
            run->snapped[run->lost[i]] = 0; /* what is missing adds nothing */
        }
        return;
    }
    for (size_t i = 0; missing && i < run->count; i++) {
        size_t row = row_of(run, i);
        run->snapped[i] &= (int64_t)(missing[row / 64] >> (row % 64) & 1) - 1;
    }
}

/* A lane may hold a count above bit 48 and below it a sum of values made positive: of the 2^16 rows of a batch a lane gets a
 * quarter and what blocks leave over, less than 2^15, each below 2^32. One addition a row does for both. */
#define PACKED_SHIFT 48
#define PACKED_MAX   (UINT64_C(1) << 31)

static int64_t packed_one(const struct run *run, size_t part)
{
    return (INT64_C(1) << PACKED_SHIFT) + (int64_t)run->layout->coordinates[part].sensitivity;
}

static void choose_packed(struct run *run)
{
    run->packed = SIZE_MAX;
    for (size_t part = 0; run->lane_count == LANES && part < run->layout->count; part++) {
        if (run->layout->parts[part].part == QUERY_PART_SUM &&
            run->layout->coordinates[part].sensitivity < PACKED_MAX) {
            run->packed = part;
            return;
        }
    }
}

static void unpack(struct run *run)
{
    int64_t *values = lanes_of(run, run->packed);
    int64_t *rows = lanes_of(run, run->layout->count);
    int64_t most = (int64_t)run->layout->coordinates[run->packed].sensitivity;
    for (size_t i = 0; i < run->lane_count * run->lane; i++) {
        rows[i] = values[i] >> PACKED_SHIFT;
        values[i] = (values[i] & ((INT64_C(1) << PACKED_SHIFT) - 1)) - rows[i] * most;
    }
}

static void add_values(struct run *run, const struct store_batch *batch, size_t part)
{
    size_t cells = run->cells;
    const struct query_term *term = &run->layout->parts[part];
    if (term->part == QUERY_PART_PRODUCT) {
        snap_product(run, batch, part);
    } else {
        snap(run, column_of(run, batch, term->column), part);
    }
    drop_missing(run, missing_of(run, batch, part));
    if (cells == 1) {
        lanes_of(run, part)[0] += sum(run->snapped, run->count);
    } else {
        int64_t each = part == run->packed ? packed_one(run, part) : 0;
        cells_sum(run->cell, run->snapped, run->count, each, lanes_of(run, part),
                  run->lane_count == 1 ? 0 : run->lane);
    }
}

/* Classes are cut as their printed edges say, so a value on an edge is found by comparing, not by dividing. */
static void find_classes(struct run *run, const struct store_batch *batch, size_t part)
{
    const struct query_term *term = &run->layout->parts[part];
    centred(run, column_of(run, batch, term->column), term->low, term->high, 0, run->value);
    for (size_t i = 0; i < run->count; i++) {
        run->class[i] = (uint32_t)query_term_class(term, run->value[i]);
    }
    if (term->factor >= 0) { /* rows without the event come behind those with it */
        centred(run, column_of(run, batch, term->factor), 0, 1, 0, run->factor);
        for (size_t i = 0; i < run->count; i++) {
            run->class[i] += run->factor[i] >= 0.5 ? 0 : (uint32_t)term->bins;
        }
    }
}

static void add_classes(struct run *run, const struct store_batch *batch, size_t part)
{
    size_t width = run->layout->parts[part].width;
    const uint64_t *missing = missing_of(run, batch, part);
    int64_t *to = lanes_of(run, part);
    find_classes(run, batch, part);
    for (size_t i = 0; i < run->count; i++) {
        size_t row = row_of(run, i);
        bool counts = !missing || !(missing[row / 64] >> (row % 64) & 1);
        to[run->cell[i] * width + run->class[i]] += counts;
    }
}

/* Rows without a value, which are fewer as a rule; fold takes them from all rows. */
static void add_missing(struct run *run, const uint64_t *null, size_t part)
{
    int64_t *to = lanes_of(run, part);
    const uint64_t *from = null + run->first / 64;
    size_t count = run->whole ? list_lost(run, null) : 0;
    for (size_t i = 0; i < count; i++) {
        to[run->cell[run->lost[i]]]++;
    }
    for (size_t i = 0; !run->whole && i < run->count; i++) {
        to[run->cell[i]] += (int64_t)(from[run->at[i] / 64] >> (run->at[i] % 64) & 1);
    }
}

static enum err add_units(struct run *run, const struct store_batch *batch, size_t part)
{
    int64_t *to = lanes_of(run, part);
    for (size_t i = 0; i < run->count; i++) {
        bool first;
        uint32_t unit = batch->unit[row_of(run, i)];
        enum err err = query_bound_first(&run->bound, unit, run->cell[i], run->cells, &first);
        if (err) {
            return err;
        }
        to[run->cell[i]] += first;
    }
    return E_OK;
}

/* What COUNT of a column reads: missing values of this batch, NULL when it has none. */
static const uint64_t *nulls_of(struct run *run, const struct store_batch *batch, size_t part)
{
    return run->layout->parts[part].part == QUERY_PART_VALUES ? missing_of(run, batch, part) : NULL;
}

static enum err add_block(struct run *run, const struct store_batch *batch)
{
    size_t cells = run->cells;
    find_cells(run, batch);
    int64_t *rows = lanes_of(run, run->layout->count);
    if (cells == 1) {
        rows[0] += (int64_t)run->count;
    } else if (run->packed == SIZE_MAX) {
        cells_count(run->cell, run->count, rows, run->lane_count == 1 ? 0 : run->lane);
    }
    enum err err = E_OK;
    for (size_t part = 0; !err && part < run->layout->count; part++) {
        switch (run->layout->parts[part].part) {
        case QUERY_PART_UNITS:
            err = add_units(run, batch, part);
            break;
        case QUERY_PART_SUM:
        case QUERY_PART_PRODUCT:
            add_values(run, batch, part);
            break;
        case QUERY_PART_BINS:
            add_classes(run, batch, part);
            break;
        case QUERY_PART_LEVEL: /* made of its leaves at the end */
            break;
        default: /* rows are counted, and so are values where none is missing */
            if (nulls_of(run, batch, part)) {
                add_missing(run, nulls_of(run, batch, part), part);
            }
        }
    }
    return err;
}

/* The lanes of a batch into the sums. */
static void fold(struct run *run, const struct store_batch *batch)
{
    size_t slots = run->layout->slots;
    if (run->packed != SIZE_MAX) {
        unpack(run);
    }
    for (size_t part = 0; part < run->layout->count; part++) {
        const struct query_term *term = &run->layout->parts[part];
        bool counts_values = term->part == QUERY_PART_VALUES;
        bool counts_rows = term->part == QUERY_PART_ROWS || counts_values;
        const int64_t *from = lanes_of(run, counts_rows ? run->layout->count : part);
        const int64_t *less =
            counts_values && nulls_of(run, batch, part) ? lanes_of(run, part) : NULL;
        __int128 *to = run->sums + run->layout->offsets[part];
        if (term->part == QUERY_PART_LEVEL) {
            continue;
        }
        if (term->part == QUERY_PART_BINS) {
            for (size_t i = 0; i < run->cells * term->width; i++) {
                to[i / term->width * slots + i % term->width] += from[i];
            }
            continue;
        }
        for (size_t lane = 0; lane < run->lane_count; lane++) {
            for (size_t i = 0; i < run->cells; i++) {
                to[i * slots] += from[lane * run->lane + i];
                to[i * slots] -= less ? less[lane * run->lane + i] : 0;
            }
        }
    }
}

/* Each level of a tree adds up its leaves, half by half. */
static void add_levels(struct run *run)
{
    const struct query_layout *layout = run->layout;
    for (size_t part = 0; part < layout->count; part++) {
        const struct query_term *term = &layout->parts[part];
        if (term->part != QUERY_PART_LEVEL) {
            continue;
        }
        const struct query_term *leaf = &layout->parts[term->leaf];
        size_t halves = leaf->width / leaf->bins;
        for (size_t i = 0; i < run->cells * leaf->width; i++) {
            size_t at = i % leaf->width;
            __int128 *cell = run->sums + i / leaf->width * layout->slots;
            size_t node = at / leaf->bins * (term->width / halves) + at % leaf->bins / term->span;
            cell[layout->offsets[part] + node] += cell[layout->offsets[term->leaf] + at];
        }
    }
}

/* Only rows are counted, all in one cell: bits are enough. */
static bool counts_bits(const struct run *run)
{
    return run->cells == 1 && run->query->group_count == 0 && run->layout->count == 1 &&
           run->layout->parts[0].part == QUERY_PART_ROWS;
}

/* A row without its group belongs to no cell. */
static void keep_grouped(struct run *run, const struct store_batch *batch)
{
    size_t words = (batch->rows + 63) / 64;
    memcpy(run->keep, batch->selected, words * sizeof *run->keep);
    for (size_t g = 0; g < run->query->group_count; g++) {
        const uint64_t *null = batch->columns[run->group_at[g]].null;
        for (size_t word = 0; null && word < words; word++) {
            run->keep[word] &= ~null[word];
        }
    }
}

static enum err on_rows(void *user, const struct store_batch *batch)
{
    struct run *run = user;
    if (counts_bits(run) && !run->bound.heavy_count) {
        run->sums[0] += (__int128)batch->selected_count;
        return E_OK;
    }
    keep_grouped(run, batch);
    if (run->bound.heavy_count) {
        query_bound_filter(&run->bound, batch, run->keep);
    }
    choose_packed(run);
    memset(run->lanes, 0, run->lanes_size * sizeof *run->lanes);
    enum err err = E_OK;
    for (run->first = 0; !err && run->first < batch->rows; run->first += BLOCK) {
        close_up(run, batch->rows - run->first < BLOCK ? batch->rows - run->first : BLOCK);
        err = run->count ? add_block(run, batch) : E_OK;
    }
    fold(run, batch);
    return err;
}

static enum err on_count(void *user, const struct store_batch *batch)
{
    query_bound_count(&((struct run *)user)->bound, batch);
    return E_OK;
}

static enum err on_rank(void *user, const struct store_batch *batch)
{
    query_bound_rank(&((struct run *)user)->bound, batch);
    return E_OK;
}

static enum err on_gather(void *user, const struct store_batch *batch)
{
    struct run *run = user;
    keep_grouped(run, batch);
    for (run->first = 0; run->first < batch->rows; run->first += BLOCK) {
        close_up(run, batch->rows - run->first < BLOCK ? batch->rows - run->first : BLOCK);
        find_cells(run, batch);
        for (size_t i = 0; i < run->count; i++) {
            query_bound_gather(&run->bound, batch, row_of(run, i), run->cell[i], run->cells);
        }
    }
    return E_OK;
}

static bool run_cancelled(void *user)
{
    struct run *run = user;
    return run->cancelled && run->cancelled(run->user);
}

/* What the partition knows of its units may be enough: no row of any of them can be too many. */
static bool all_rows_count(const struct run *run, const struct store_partition *partition)
{
    const struct privacy_bounds *bounds = &run->layout->bounds;
    uint32_t most = store_partition_unit_rows(partition);
    bool grouped = run->cells > 1 && (most > bounds->cells || most > bounds->rows_per_cell);
    return most < STORE_UNIT_ROWS_MAX && most <= bounds->rows && !grouped;
}

static enum err bound_units(struct run *run, struct store_partition *partition,
                            struct err_info *reterr)
{
    bool again = false;
    const struct proto_predicate *where = run->where;
    if (all_rows_count(run, partition)) {
        return E_OK;
    }
    enum err err =
        query_bound_init(&run->bound, store_partition_units(partition), &run->layout->bounds,
                         run->cells, store_partition_rows(partition));
    if (!err) {
        err = store_scan(partition, NULL, 0, where, run_cancelled, on_count, run, reterr);
    }
    err = err ? err : query_bound_counted(&run->bound, &again);
    if (err || !again) {
        return err;
    }
    if (!run->bound.grouped) {
        return store_scan(partition, NULL, 0, where, run_cancelled, on_rank, run, reterr);
    }
    err = store_scan(partition, run->columns, run->query->group_count, where, run_cancelled,
                     on_gather, run, reterr);
    return err ? err : query_bound_choose(&run->bound);
}

/* Group columns come first: the second reading of contribution bounding needs only these. */
static void plan_columns(struct run *run)
{
    for (size_t g = 0; g < run->query->group_count; g++) {
        run->group_at[g] = need_column(run, run->query->group_columns[g]);
    }
    for (size_t part = 0; part < run->layout->count; part++) {
        const struct query_term *term = &run->layout->parts[part];
        for (size_t i = 0; i < term->need_count; i++) {
            (void)need_column(run, term->needs[i]);
        }
    }
}

/* How the values of the groups can be combined, private ones included. */
static enum err plan_keys(struct run *run, const struct store_partition *partition,
                          struct err_info *reterr)
{
    const struct proto_query *query = run->query;
    uint64_t keys = 1;
    for (size_t g = 0; g < query->group_count; g++) {
        int column = query->group_columns[g];
        run->sizes[g] = query->schema->columns[column].values_private
                            ? store_partition_values(partition, column)
                            : query->group_sizes[g];
        run->sizes[g] =
            run->sizes[g] ? run->sizes[g] : 1; /* a column without a value has one cell */
        if (keys > UINT64_MAX / run->sizes[g]) {
            return proto_err_set(reterr, E_LIMIT,
                                 "the private groups have too many values together");
        }
        keys *= run->sizes[g];
    }
    run->sparse = query->keyed && keys > QUERY_KEYS_DENSE;
    if (!run->sparse && keys > QUERY_KEYS_MAX) {
        return proto_err_set(reterr, E_LIMIT, "the groups have too many values together");
    }
    run->cells = run->sparse ? 0 : (size_t)keys;
    return E_OK;
}

static int compare_two(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void sort_keys(struct run *run)
{
    size_t to = 0;
    if (run->key_count) {
        qsort(run->keys, run->key_count, sizeof *run->keys, compare_two);
    }
    for (size_t i = 0; i < run->key_count; i++) {
        if (to == 0 || run->keys[to - 1] != run->keys[i]) {
            run->keys[to++] = run->keys[i];
        }
    }
    if (run->key_count > to) {
        crypto_wipe(run->keys + to, (run->key_count - to) * sizeof *run->keys);
    }
    run->key_count = to;
}

/* Room for a block's keys. */
static enum err key_room(struct run *run)
{
    if (run->key_room - run->key_count >= BLOCK) {
        return E_OK;
    }
    sort_keys(run);
    if (run->key_count > QUERY_KEYS_MAX) {
        return E_LIMIT;
    }
    if (run->key_count > run->key_room / 2 || run->key_room - run->key_count < BLOCK) {
        size_t room = run->key_room ? 2 * run->key_room : 4 * (size_t)BLOCK;
        uint64_t *keys = proto_alloc(room, sizeof *keys);
        if (!keys) {
            return E_NO_MEMORY;
        }
        if (run->keys) {
            memcpy(keys, run->keys, run->key_count * sizeof *keys);
            crypto_wipe(run->keys, run->key_room * sizeof *keys);
        }
        proto_free(run->keys);
        run->keys = keys;
        run->key_room = room;
    }
    return E_OK;
}

static enum err on_keys(void *user, const struct store_batch *batch)
{
    struct run *run = user;
    enum err err = E_OK;
    keep_grouped(run, batch);
    for (run->first = 0; run->first < batch->rows && !err; run->first += BLOCK) {
        close_up(run, batch->rows - run->first < BLOCK ? batch->rows - run->first : BLOCK);
        err = key_room(run);
        if (!err) {
            find_keys(run, batch);
            memcpy(run->keys + run->key_count, run->key, run->count * sizeof *run->key);
            run->key_count += run->count;
        }
    }
    return err;
}

/* The cells of a sparse question: combinations that rows which pass its condition have. RET owns the keys, whatever happens. */
static enum err read_keys(struct run *run, struct store_partition *partition,
                          struct query_sums *ret, struct err_info *reterr)
{
    enum err err = key_room(run);
    err = err ? err
              : store_scan(partition, run->columns, run->query->group_count, run->where,
                           run_cancelled, on_keys, run, reterr);
    sort_keys(run);
    ret->keys = run->keys;
    ret->cells = run->key_count;
    if (!err && run->key_count == 0) {
        run->keys[run->key_count++] = 0; /* nobody is in it */
    }
    if (err == E_LIMIT || run->key_count > QUERY_KEYS_MAX) {
        err = proto_err_set(reterr, E_LIMIT, "the private groups have too many values together");
    }
    run->cells = run->key_count;
    return err;
}

/* Room for the sums of all cells. */
static enum err plan_cells(struct run *run, struct query_sums *ret)
{
    const struct query_layout *layout = run->layout;
    run->lane_count = run->cells > 1 && run->cells <= LANES_MAX ? LANES : 1;
    run->lane = run->cells + 1;
    for (size_t part = 0; part <= layout->count; part++) {
        enum query_part kind = part < layout->count ? layout->parts[part].part : QUERY_PART_ROWS;
        run->lanes_at[part] = run->lanes_size;
        run->lanes_size += kind == QUERY_PART_LEVEL  ? 0
                           : kind == QUERY_PART_BINS ? run->cells * layout->parts[part].width
                                                     : run->lane * run->lane_count;
    }
    ret->cells = run->cells;
    ret->slots = layout->slots;
    run->lanes = proto_alloc(run->lanes_size, sizeof *run->lanes);
    run->sums = ret->sums = proto_alloc(run->cells * layout->slots, sizeof *ret->sums);
    return run->lanes && run->sums ? E_OK : E_NO_MEMORY;
}

/* The texts of private values outlive the partition. */
static enum err keep_values(const struct run *run, const struct store_partition *partition,
                            struct query_sums *ret)
{
    const struct proto_query *query = run->query;
    for (size_t g = 0; g < query->group_count; g++) {
        int column = query->group_columns[g];
        ret->sizes[g] = run->sizes[g];
        if (!query->schema->columns[column].values_private) {
            continue;
        }
        ret->values[g] = arena_alloc(&ret->arena, run->sizes[g], sizeof *ret->values[g]);
        for (size_t i = 0; ret->values[g] && i < run->sizes[g]; i++) {
            const char *text = store_partition_value(partition, column, (uint32_t)i);
            ret->values[g][i] = arena_strdup(&ret->arena, span_str(text ? text : ""));
            if (!ret->values[g][i]) {
                return E_NO_MEMORY;
            }
        }
        if (!ret->values[g]) {
            return E_NO_MEMORY;
        }
    }
    return E_OK;
}

void query_sums_fini(struct query_sums *sums)
{
    if (sums->sums) { /* exact sums of people's data */
        crypto_wipe(sums->sums, sums->cells * sums->slots * sizeof *sums->sums);
    }
    if (sums->keys) {
        crypto_wipe(sums->keys, sums->cells * sizeof *sums->keys);
    }
    proto_free(sums->keys);
    proto_free(sums->sums);
    arena_fini(&sums->arena);
    *sums = (struct query_sums){0};
}

/* The query is bound to the published record, the partition carries its own schema: column numbers must mean the same. */
static enum err same_columns(const struct proto_schema *bound, const struct proto_schema *stored,
                             struct err_info *reterr)
{
    bool same = bound->count == stored->count && strcmp(bound->unit, stored->unit) == 0;
    for (size_t i = 0; same && i < bound->count; i++) {
        same = strcmp(bound->columns[i].name, stored->columns[i].name) == 0 &&
               bound->columns[i].type == stored->columns[i].type &&
               bound->columns[i].value_count == stored->columns[i].value_count;
    }
    return same ? E_OK
                : proto_err_set(reterr, E_SCHEMA,
                                "the stored partition has another schema than the published "
                                "record: import again");
}

/* --- threads -------------------------------------------------------------------------------- */

#define SUMS_PER_THREAD ((size_t)1 << 18) /* more of them take longer to add up than they save */

static void run_fini(struct run *run)
{
    if (run->lanes) {
        crypto_wipe(run->lanes, run->lanes_size * sizeof *run->lanes);
    }
    proto_free(run->lanes);
    crypto_wipe(run, sizeof *run);
    proto_free(run);
}

static size_t sums_of(const struct run *run)
{
    return run->cells * run->layout->slots;
}

/* The same question with sums of its own; what units may add is read from the first one's. NULL: no memory. */
static struct run *run_beside(const struct run *first)
{
    struct run *run = proto_alloc(1, sizeof *run);
    if (!run) {
        return NULL;
    }
    *run = *first;
    run->lanes = proto_alloc(run->lanes_size, sizeof *run->lanes);
    run->sums = proto_alloc(sums_of(run), sizeof *run->sums);
    if (!run->lanes || !run->sums) {
        proto_free(run->sums);
        run_fini(run);
        return NULL;
    }
    return run;
}

static void join(struct run *first, struct run *other)
{
    for (size_t i = 0; i < sums_of(first); i++) {
        first->sums[i] += other->sums[i];
    }
    crypto_wipe(other->sums, sums_of(first) * sizeof *other->sums);
    proto_free(other->sums);
    run_fini(other);
}

static bool has_part(const struct query_layout *layout, enum query_part kind)
{
    for (size_t part = 0; part < layout->count; part++) {
        if (layout->parts[part].part == kind) {
            return true;
        }
    }
    return false;
}

/* The last reading, on as many threads as there are cores free. Sums are integers: it does not matter who adds what. Seen
 * units are kept in one set, which one thread fills. */
static enum err add_up(struct run *run, struct store_partition *partition, struct err_info *reterr)
{
    void *users[STORE_CREW_MAX] = {run};
    size_t count = 1;
    bool units = has_part(run->layout, QUERY_PART_UNITS);
    run->has_outside =
        run->cells > 1 && !run->sparse && !units && !has_part(run->layout, QUERY_PART_BINS);
    size_t wanted = units || sums_of(run) > SUMS_PER_THREAD ? 1 : store_scan_workers(partition);
    while (count < wanted && (users[count] = run_beside(run))) {
        count++;
    }
    const struct store_scan_question question = {.columns = run->columns,
                                                 .count = run->column_count,
                                                 .where = run->where,
                                                 .with_unit = units || run->bound.heavy_count,
                                                 .cancelled = run_cancelled,
                                                 .cancel_user = run,
                                                 .on_batch = on_rows,
                                                 .users = users,
                                                 .user_count = count};
    enum err err = store_scan_ask(partition, &question, NULL, reterr);
    for (size_t i = 1; i < count; i++) {
        join(run, users[i]);
    }
    return err;
}

static enum err run_on(struct run *run, struct store_partition *partition, struct query_sums *ret,
                       struct err_info *reterr)
{
    enum err err = same_columns(run->query->schema, store_partition_schema(partition), reterr);
    err = err ? err : plan_keys(run, partition, reterr);
    err = err ? err : query_resolve(run->query->where, partition, &ret->arena, &run->where);
    if (err) {
        return err;
    }
    plan_columns(run);
    if (run->sparse) {
        err = read_keys(run, partition, ret, reterr);
    }
    err = err ? err : plan_cells(run, ret);
    if (err) {
        return err;
    }
    if (run->query->schema->unit[0]) {
        err = bound_units(run, partition, reterr);
    }
    err = err ? err : add_up(run, partition, reterr);
    if (!err) {
        add_levels(run);
        err = keep_values(run, partition, ret);
    }
    return err;
}

enum err query_execute(struct store *store, const char *dataset, const struct proto_query *query,
                       const struct query_layout *layout, bool (*cancelled)(void *user), void *user,
                       struct query_sums *ret, struct err_info *reterr)
{
    struct store_partition *partition;
    struct run *run = proto_alloc(1, sizeof *run);
    *ret = (struct query_sums){0};
    if (!run) {
        return E_NO_MEMORY;
    }
    run->query = query;
    run->layout = layout;
    run->cancelled = cancelled;
    run->user = user;
    enum err err = E_OK;
    for (size_t i = 0; !err && i < layout->count; i++) {
        if (layout->coordinates[i].sensitivity > SENSITIVITY_MAX) {
            err = proto_err_set(reterr, E_LIMIT, "epsilon is too large for exact sums");
        }
    }
    if (!err) {
        err = store_partition_open(store, dataset, &partition, reterr);
    }
    if (!err) {
        err = run_on(run, partition, ret, reterr);
        store_partition_close(partition);
    }
    query_bound_fini(&run->bound);
    run_fini(run);
    if (err) {
        query_sums_fini(ret);
    }
    return err;
}
