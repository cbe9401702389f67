#include "config.h"
#include "node/query/execute.h"

#include "node/query/bound.h"
#include "store/scan.h"

#include <math.h>

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

#define WORDS (STORE_CHUNK_ROWS / 64)

/* One execution. Sums of a batch fit int64: 2^16 rows of at most 2^46. */
#define SENSITIVITY_MAX (UINT64_C(1) << 46)

struct run {
    const struct proto_query *query;
    const struct query_layout *layout;
    bool (*cancelled)(void *user);
    void *user;
    int columns[QUERY_COORDINATES_MAX + PROTO_QUERY_GROUPS_MAX];
    size_t column_count;
    size_t group_at[PROTO_QUERY_GROUPS_MAX];
    size_t part_at[QUERY_COORDINATES_MAX];
    bool bounded; /* the privacy unit is a column */
    struct query_bound bound;
    uint64_t keep[WORDS];
    uint32_t cell[STORE_CHUNK_ROWS];
    int64_t snapped[STORE_CHUNK_ROWS];
    int64_t *batch_sums; /* cells */
    __int128 *sums;
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

/* Row number to cell number; rows without a value in a group column leave KEEP. */
static void find_cells(struct run *run, const struct store_batch *batch)
{
    memset(run->cell, 0, batch->rows * sizeof *run->cell);
    for (size_t g = 0; g < run->query->group_count; g++) {
        const struct store_batch_column *column = &batch->columns[run->group_at[g]];
        uint32_t size = (uint32_t)run->query->group_sizes[g];
        for (size_t row = 0; row < batch->rows; row++) {
            /* Codes are below SIZE by construction; a wrong one must not become a wild index. */
            uint32_t code = column->code[row] < size ? column->code[row] : 0;
            run->cell[row] = run->cell[row] * size + code;
        }
        for (size_t word = 0; column->null && word * 64 < batch->rows; word++) {
            run->keep[word] &= ~column->null[word];
        }
    }
}

static void add_counts(struct run *run, const struct store_batch *batch, const uint64_t *null)
{
    for (size_t word = 0; word * 64 < batch->rows; word++) {
        uint64_t left = null ? run->keep[word] & ~null[word] : run->keep[word];
        if (run->query->cells == 1) {
            run->batch_sums[0] += __builtin_popcountll(left);
            continue;
        }
        for (; left; left &= left - 1) {
            run->batch_sums[run->cell[word * 64 + (size_t)__builtin_ctzll(left)]]++;
        }
    }
}

/* clamp, centre, scale, round to nearest: privacy_mechanism_quantise for a whole chunk, in a form that vectorises. */
CLONES static void snap_codes(const uint32_t *code, size_t rows, double base, double divisor, double low, double high,
                              double centre, double scale, int64_t *to)
{
    for (size_t i = 0; i < rows; i++) {
        double value = (base + (double)code[i]) / divisor;
        value = value < low ? low : value;
        value = value > high ? high : value;
        to[i] = (int64_t)__builtin_rint((value - centre) * scale);
    }
}

CLONES static void snap_numbers(const double *number, size_t rows, double low, double high, double centre, double scale,
                                int64_t *to)
{
    for (size_t i = 0; i < rows; i++) {
        double value = number[i];
        value = value < low ? low : value;
        value = value > high ? high : value;
        to[i] = (int64_t)__builtin_rint((value - centre) * scale);
    }
}

/* With few different codes a table of snapped values is cheaper than arithmetic on each row. */
static void snap(struct run *run, const struct store_batch *batch, size_t part)
{
    const struct store_batch_column *column = &batch->columns[run->part_at[part]];
    double low = run->layout->parts[part].low;
    double high = run->layout->parts[part].high;
    double centre = run->layout->parts[part].centre;
    double scale = ldexp(1, -run->layout->coordinates[part].grid_log2);
    if (column->number) {
        snap_numbers(column->number, batch->rows, low, high, centre, scale, run->snapped);
        return;
    }
    if (column->bits > 12) {
        snap_codes(column->code, batch->rows, (double)column->base, column->divisor, low, high, centre, scale, run->snapped);
        return;
    }
    int64_t table[4096];
    uint32_t codes[4096];
    size_t count = (size_t)1 << column->bits;
    for (size_t i = 0; i < count; i++) {
        codes[i] = (uint32_t)i;
    }
    snap_codes(codes, count, (double)column->base, column->divisor, low, high, centre, scale, table);
    for (size_t row = 0; row < batch->rows; row++) {
        run->snapped[row] = table[column->code[row]];
    }
}

static int64_t limit(int64_t value, int64_t most)
{
    return value > most ? most : (value < -most ? -most : value);
}

static void add_values(struct run *run, const struct store_batch *batch, size_t part)
{
    const uint64_t *null = batch->columns[run->part_at[part]].null;
    int64_t most = (int64_t)run->layout->coordinates[part].sensitivity;
    snap(run, batch, part);
    for (size_t word = 0; word * 64 < batch->rows; word++) {
        uint64_t left = null ? run->keep[word] & ~null[word] : run->keep[word];
        if (left == UINT64_MAX && run->query->cells == 1) {
            int64_t sum = 0;
            for (size_t i = 0; i < 64; i++) {
                sum += limit(run->snapped[word * 64 + i], most);
            }
            run->batch_sums[0] += sum;
            continue;
        }
        for (; left; left &= left - 1) {
            size_t row = word * 64 + (size_t)__builtin_ctzll(left);
            run->batch_sums[run->cell[row]] += limit(run->snapped[row], most);
        }
    }
}

static enum err add_units(struct run *run, const struct store_batch *batch)
{
    for (size_t word = 0; word * 64 < batch->rows; word++) {
        for (uint64_t left = run->keep[word]; left; left &= left - 1) {
            size_t row = word * 64 + (size_t)__builtin_ctzll(left);
            bool first;
            enum err err = query_bound_first(&run->bound, batch->unit[row], run->cell[row], run->query->cells, &first);
            if (err) {
                return err;
            }
            run->batch_sums[run->cell[row]] += first;
        }
    }
    return E_OK;
}

static enum err add_part(struct run *run, const struct store_batch *batch, size_t part)
{
    memset(run->batch_sums, 0, run->query->cells * sizeof *run->batch_sums);
    enum err err = E_OK;
    switch (run->layout->parts[part].part) {
    case QUERY_PART_UNITS:
        err = add_units(run, batch);
        break;
    case QUERY_PART_ROWS:
        add_counts(run, batch, NULL);
        break;
    case QUERY_PART_VALUES:
        add_counts(run, batch, batch->columns[run->part_at[part]].null);
        break;
    case QUERY_PART_SUM:
        add_values(run, batch, part);
        break;
    }
    for (size_t cell = 0; cell < run->query->cells; cell++) {
        run->sums[cell * run->layout->count + part] += run->batch_sums[cell];
    }
    return err;
}

static enum err on_rows(void *user, const struct store_batch *batch)
{
    struct run *run = user;
    size_t words = (batch->rows + 63) / 64;
    memcpy(run->keep, batch->selected, words * sizeof *run->keep);
    if (run->bounded) {
        query_bound_filter(&run->bound, batch, run->keep);
    }
    find_cells(run, batch);
    enum err err = E_OK;
    for (size_t part = 0; !err && part < run->layout->count; part++) {
        err = add_part(run, batch, part);
    }
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

static enum err bound_units(struct run *run, struct store_partition *partition, struct err_info *reterr)
{
    bool again = false;
    enum err err = query_bound_init(&run->bound, store_partition_units(partition), run->query->schema->max_rows_per_unit);
    if (!err) {
        err = store_scan(partition, NULL, 0, run->query->where, run_cancelled, on_count, run, reterr);
    }
    if (!err) {
        err = query_bound_counted(&run->bound, &again);
    }
    return !err && again ? store_scan(partition, NULL, 0, run->query->where, run_cancelled, on_rank, run, reterr) : err;
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
    }
}

/* The query is bound to the published record, the partition carries its own schema: column numbers must mean the same. */
static enum err same_columns(const struct proto_schema *bound, const struct proto_schema *stored, struct err_info *reterr)
{
    bool same = bound->count == stored->count && strcmp(bound->unit, stored->unit) == 0;
    for (size_t i = 0; same && i < bound->count; i++) {
        same = strcmp(bound->columns[i].name, stored->columns[i].name) == 0 &&
               bound->columns[i].type == stored->columns[i].type &&
               bound->columns[i].value_count == stored->columns[i].value_count;
    }
    return same ? E_OK : proto_err_set(reterr, E_SCHEMA, "the stored partition has another schema than the published record: import again");
}

enum err query_execute(struct store *store, const char *dataset, const struct proto_query *query,
                       const struct query_layout *layout, bool (*cancelled)(void *user), void *user, __int128 *ret_sums,
                       struct err_info *reterr)
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
    run->batch_sums = proto_alloc(query->cells, sizeof *run->batch_sums);
    enum err err = run->batch_sums ? E_OK : E_NO_MEMORY;
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
            err = store_scan_with(partition, run->columns, run->column_count, query->where, run->bounded, run_cancelled,
                                  on_rows, run, NULL, reterr);
        }
        store_partition_close(partition);
    }
    query_bound_fini(&run->bound);
    proto_free(run->batch_sums);
    crypto_wipe(run, sizeof *run);
    proto_free(run);
    return err;
}
