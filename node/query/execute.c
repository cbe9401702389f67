#include "config.h"
#include "node/query/execute.h"

#include "node/query/bound.h"
#include "store/scan.h"

#include "store/kernel.h"

#include <math.h>

#define WORDS (STORE_CHUNK_ROWS / 64)
/* Rows that are worked on together: their cells and values stay in the first cache. */
#define BLOCK 4096
/* Neighbouring rows add to different copies of the sums, so that an addition need not wait for the one before it. */
#define LANES     4
#define LANES_MAX 512 /* cells; more of them seldom meet, and the copies would not fit the cache */

/* One execution. Sums of a batch fit int64: 2^16 rows of at most 2^46. */
#define SENSITIVITY_MAX (UINT64_C(1) << 46)

struct run {
    const struct proto_query *query;
    const struct query_layout *layout;
    bool (*cancelled)(void *user);
    void *user;
    int columns[3 * QUERY_COORDINATES_MAX + PROTO_QUERY_GROUPS_MAX];
    size_t column_count;
    size_t group_at[PROTO_QUERY_GROUPS_MAX];
    size_t part_at[QUERY_COORDINATES_MAX];
    size_t factor_at[QUERY_COORDINATES_MAX]; /* of a product */
    size_t also_at[QUERY_COORDINATES_MAX];   /* where another column must have a value */
    bool bounded;                            /* the privacy unit is a column */
    struct query_bound bound;
    __int128 *sums;
    /* Of the batch at hand. */
    uint64_t keep[WORDS];
    int64_t *lanes; /* (parts + 1) x lane_count x cells; the last part counts rows */
    size_t lane_count;
    size_t lanes_size;
    size_t packed; /* sum whose lanes count rows as well; SIZE_MAX: none */
    /* Of the block at hand: its rows that count, closed up. */
    size_t first; /* row of the batch */
    size_t count;
    bool whole;         /* every row counts, so that closing up would change nothing */
    uint16_t at[BLOCK]; /* else: where they were */
    uint32_t cell[BLOCK];
    uint32_t code[BLOCK];
    double number[BLOCK];
    double value[BLOCK];
    double factor[BLOCK];
    int64_t snapped[BLOCK];
    uint64_t missing[WORDS]; /* of a part that needs several columns */
};

static size_t need_column(struct run *run, int column)
{
    for (size_t i = 0; i < run->column_count; i++) {
        if (run->columns[i] == column) {
            return i;
        }
    }
    run->columns[run->column_count] = column;
    return run->column_count++;
}

static int64_t *lanes_of(struct run *run, size_t part)
{
    return run->lanes + part * run->lane_count * run->query->cells;
}

static size_t row_of(const struct run *run, size_t i)
{
    return run->first + (run->whole ? i : run->at[i]);
}

/* --- kernels over the closed-up rows of a block --------------------------------------------- */

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
    run->count = 0;
    for (size_t word = 0; word * 64 < rows; word++) {
        run->count += (size_t)__builtin_popcountll(keep[word]);
    }
    run->whole = run->count == rows;
    size_t to = 0;
    for (size_t word = 0; !run->whole && word * 64 < rows; word++) {
        for (uint64_t left = keep[word]; left; left &= left - 1) {
            run->at[to++] = (uint16_t)(word * 64 + (size_t)__builtin_ctzll(left));
        }
    }
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

static void find_cells(struct run *run, const struct store_batch *batch)
{
    if (run->query->group_count == 0) {
        memset(run->cell, 0, run->count * sizeof *run->cell);
    }
    for (size_t g = 0; g < run->query->group_count; g++) {
        const struct store_batch_column *column = &batch->columns[run->group_at[g]];
        uint32_t size = (uint32_t)run->query->group_sizes[g];
        if (g == 0) {
            cells_first(codes_of(run, column), run->count, size, run->cell);
        } else {
            cells_next(codes_of(run, column), run->count, size, run->cell);
        }
    }
}

/* Rows of this batch that lack a value which PART needs: NULL when none does. Valid until the next call. */
static const uint64_t *missing_of(struct run *run, const struct store_batch *batch, size_t part)
{
    const struct query_term *term = &run->layout->parts[part];
    const uint64_t *found = batch->columns[run->part_at[part]].null;
    const uint64_t *others[2] = {
        term->factor >= 0 ? batch->columns[run->factor_at[part]].null : NULL,
        term->also >= 0 ? batch->columns[run->also_at[part]].null : NULL,
    };
    for (size_t i = 0; i < 2; i++) {
        if (!found || !others[i] || others[i] == found) {
            found = found ? found : others[i];
            continue;
        }
        for (size_t word = 0; word < (batch->rows + 63) / 64; word++) {
            run->missing[word] = found[word] | others[i][word];
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

static void snap_product(struct run *run, const struct store_batch *batch, size_t part)
{
    const struct query_term *term = &run->layout->parts[part];
    double most = (double)run->layout->coordinates[part].sensitivity;
    double scale = ldexp(1, -run->layout->coordinates[part].grid_log2);
    const struct snapping by = {
        .factor = scale, .offset = -term->shift * scale, .low = -most, .high = most};
    centred(run, &batch->columns[run->part_at[part]], term->low, term->high, term->centre,
            run->value);
    if (term->factor != term->column) {
        centred(run, &batch->columns[run->factor_at[part]], term->factor_low, term->factor_high,
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
    for (size_t i = 0; missing && i < run->count; i++) {
        size_t row = row_of(run, i);
        run->snapped[i] &=
            (int64_t)(missing[row / 64] >> (row % 64) & 1) - 1; /* missing adds nothing */
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

static void choose_packed(struct run *run, const struct store_batch *batch)
{
    run->packed = SIZE_MAX;
    for (size_t part = 0; run->lane_count == LANES && part < run->layout->count; part++) {
        if (run->layout->parts[part].part == QUERY_PART_SUM && !missing_of(run, batch, part) &&
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
    for (size_t i = 0; i < run->lane_count * run->query->cells; i++) {
        rows[i] = values[i] >> PACKED_SHIFT;
        values[i] = (values[i] & ((INT64_C(1) << PACKED_SHIFT) - 1)) - rows[i] * most;
    }
}

static void add_values(struct run *run, const struct store_batch *batch, size_t part)
{
    size_t cells = run->query->cells;
    if (run->layout->parts[part].part == QUERY_PART_PRODUCT) {
        snap_product(run, batch, part);
    } else {
        snap(run, &batch->columns[run->part_at[part]], part);
    }
    drop_missing(run, missing_of(run, batch, part));
    if (cells == 1) {
        lanes_of(run, part)[0] += sum(run->snapped, run->count);
    } else {
        int64_t each = part == run->packed ? packed_one(run, part) : 0;
        cells_sum(run->cell, run->snapped, run->count, each, lanes_of(run, part),
                  run->lane_count == 1 ? 0 : cells);
    }
}

static void add_present(struct run *run, const uint64_t *null, size_t part)
{
    int64_t *to = lanes_of(run, part);
    for (size_t i = 0; i < run->count; i++) {
        size_t row = row_of(run, i);
        to[run->cell[i]] += !(null[row / 64] >> (row % 64) & 1);
    }
}

static enum err add_units(struct run *run, const struct store_batch *batch, size_t part)
{
    int64_t *to = lanes_of(run, part);
    for (size_t i = 0; i < run->count; i++) {
        bool first;
        uint32_t unit = batch->unit[row_of(run, i)];
        enum err err =
            query_bound_first(&run->bound, unit, run->cell[i], run->query->cells, &first);
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
    size_t cells = run->query->cells;
    find_cells(run, batch);
    int64_t *rows = lanes_of(run, run->layout->count);
    if (cells == 1) {
        rows[0] += (int64_t)run->count;
    } else if (run->packed == SIZE_MAX) {
        cells_count(run->cell, run->count, rows, run->lane_count == 1 ? 0 : cells);
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
        default: /* rows are counted, and so are values where none is missing */
            if (nulls_of(run, batch, part)) {
                add_present(run, nulls_of(run, batch, part), part);
            }
        }
    }
    return err;
}

/* The lanes of a batch into the sums. */
static void fold(struct run *run, const struct store_batch *batch)
{
    size_t cells = run->query->cells;
    if (run->packed != SIZE_MAX) {
        unpack(run);
    }
    for (size_t part = 0; part < run->layout->count; part++) {
        enum query_part kind = run->layout->parts[part].part;
        bool counts_rows =
            kind == QUERY_PART_ROWS || (kind == QUERY_PART_VALUES && !nulls_of(run, batch, part));
        const int64_t *from = lanes_of(run, counts_rows ? run->layout->count : part);
        for (size_t i = 0; i < run->lane_count * cells; i++) {
            run->sums[i % cells * run->layout->count + part] += from[i];
        }
    }
}

/* Only rows are counted, all in one cell: bits are enough. */
static bool counts_bits(const struct run *run)
{
    return run->query->cells == 1 && run->query->group_count == 0 && run->layout->count == 1 &&
           run->layout->parts[0].part == QUERY_PART_ROWS;
}

static enum err on_rows(void *user, const struct store_batch *batch)
{
    struct run *run = user;
    size_t words = (batch->rows + 63) / 64;
    if (counts_bits(run) && !run->bounded) {
        run->sums[0] += (__int128)batch->selected_count;
        return E_OK;
    }
    memcpy(run->keep, batch->selected, words * sizeof *run->keep);
    if (run->bounded) {
        query_bound_filter(&run->bound, batch, run->keep);
    }
    for (size_t g = 0; g < run->query->group_count;
         g++) { /* a row without its group belongs to no cell */
        const uint64_t *null = batch->columns[run->group_at[g]].null;
        for (size_t word = 0; null && word < words; word++) {
            run->keep[word] &= ~null[word];
        }
    }
    choose_packed(run, batch);
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

static bool run_cancelled(void *user)
{
    struct run *run = user;
    return run->cancelled && run->cancelled(run->user);
}

static enum err bound_units(struct run *run, struct store_partition *partition,
                            struct err_info *reterr)
{
    bool again = false;
    enum err err = query_bound_init(&run->bound, store_partition_units(partition),
                                    run->query->schema->max_rows_per_unit);
    if (!err) {
        err =
            store_scan(partition, NULL, 0, run->query->where, run_cancelled, on_count, run, reterr);
    }
    if (!err) {
        err = query_bound_counted(&run->bound, &again);
    }
    return !err && again ? store_scan(partition, NULL, 0, run->query->where, run_cancelled, on_rank,
                                      run, reterr)
                         : err;
}

static void plan_columns(struct run *run)
{
    for (size_t g = 0; g < run->query->group_count; g++) {
        run->group_at[g] = need_column(run, run->query->group_columns[g]);
    }
    for (size_t part = 0; part < run->layout->count; part++) {
        if (run->layout->parts[part].column >= 0) {
            run->part_at[part] = need_column(run, run->layout->parts[part].column);
        }
        if (run->layout->parts[part].factor >= 0) {
            run->factor_at[part] = need_column(run, run->layout->parts[part].factor);
        }
        if (run->layout->parts[part].also >= 0) {
            run->also_at[part] = need_column(run, run->layout->parts[part].also);
        }
    }
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

enum err query_execute(struct store *store, const char *dataset, const struct proto_query *query,
                       const struct query_layout *layout, bool (*cancelled)(void *user), void *user,
                       __int128 *ret_sums, struct err_info *reterr)
{
    struct store_partition *partition;
    struct run *run = proto_alloc(1, sizeof *run);
    if (!run) {
        return E_NO_MEMORY;
    }
    run->query = query;
    run->layout = layout;
    run->cancelled = cancelled;
    run->user = user;
    run->sums = ret_sums;
    run->lane_count = query->cells > 1 && query->cells <= LANES_MAX ? LANES : 1;
    run->lanes_size = (layout->count + 1) * run->lane_count * query->cells;
    run->lanes = proto_alloc(run->lanes_size, sizeof *run->lanes);
    enum err err = run->lanes ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < layout->count; i++) {
        if (layout->coordinates[i].sensitivity > SENSITIVITY_MAX) {
            err = proto_err_set(reterr, E_LIMIT, "epsilon is too large for exact sums");
        }
    }
    if (!err) {
        err = store_partition_open(store, dataset, &partition, reterr);
    }
    if (!err) {
        plan_columns(run);
        run->bounded = query->schema->unit[0] != '\0';
        err = same_columns(query->schema, store_partition_schema(partition), reterr);
        if (!err && run->bounded) {
            err = bound_units(run, partition, reterr);
        }
        if (!err) {
            err = store_scan_with(partition, run->columns, run->column_count, query->where,
                                  run->bounded, run_cancelled, on_rows, run, NULL, reterr);
        }
        store_partition_close(partition);
    }
    query_bound_fini(&run->bound);
    if (run->lanes) {
        crypto_wipe(run->lanes, run->lanes_size * sizeof *run->lanes);
    }
    proto_free(run->lanes);
    crypto_wipe(run, sizeof *run);
    proto_free(run);
    return err;
}
