#include "config.h"
#include "node/train/table.h"

#include "crypto/memory.h"
#include "node/train/learner.h"
#include "node/train/rows.h"

#include <math.h>

/* Rows in the order of the partition, growing. */
struct load {
    const struct train_table_wish *wish;
    size_t rows, cap, width;
    float *x;
    uint8_t *y;
    uint32_t *unit;
    float *more; /* the target of a regression, or the time of an event */
};

static void wipe_free(void *memory, size_t bytes)
{
    if (memory) {
        crypto_wipe(memory, bytes);
    }
    proto_free(memory);
}

/* Moves to a larger block by hand: the old one holds people's data and must not stay behind. */
static enum err grow_one(void **memory, size_t old, size_t fresh)
{
    void *to = proto_alloc(fresh, 1);
    if (!to) {
        return E_NO_MEMORY;
    }
    if (*memory) {
        memcpy(to, *memory, old);
    }
    wipe_free(*memory, old);
    *memory = to;
    return E_OK;
}

static enum err grow(struct load *load, size_t more)
{
    if (load->rows + more <= load->cap) {
        return E_OK;
    }
    size_t cap = load->cap * 2 > load->rows + more ? load->cap * 2 : load->rows + more;
    size_t row = (load->width + 1) * sizeof(float) + sizeof(uint32_t) + 1;
    if (cap > TRAIN_TABLE_BYTES / row) {
        return E_LIMIT;
    }
    void *x = load->x;
    void *y = load->y;
    void *unit = load->unit;
    void *beside = load->more;
    enum err err =
        grow_one(&x, load->cap * load->width * sizeof(float), cap * load->width * sizeof(float));
    load->x = x;
    if (!err) {
        err = grow_one(&y, load->cap, cap);
        load->y = y;
    }
    if (!err) {
        err = grow_one(&unit, load->cap * sizeof(uint32_t), cap * sizeof(uint32_t));
        load->unit = unit;
    }
    if (!err) {
        err = grow_one(&beside, load->cap * sizeof(float), cap * sizeof(float));
        load->more = beside;
    }
    if (!err) {
        load->cap = cap;
    }
    return err;
}

/* false: the row has no outcome. */
static bool take_outcome(struct load *load, const struct store_batch *batch, size_t row)
{
    const struct train_encoding *encoding = load->wish->encoding;
    if (store_batch_missing(batch, encoding->count, row)) {
        return false;
    }
    double target = store_batch_number(batch, encoding->count, row);
    load->y[load->rows] = encoding->outcome != TRAIN_OUTCOME_NUMBER && target >= 0.5;
    load->more[load->rows] = 0;
    if (encoding->outcome == TRAIN_OUTCOME_NUMBER) {
        load->more[load->rows] =
            isnan(target) ? 0 : model_standardise(target, encoding->low, encoding->high);
        return !isnan(target);
    }
    if (encoding->outcome == TRAIN_OUTCOME_CLASS) {
        return true;
    }
    if (store_batch_missing(batch, encoding->count + 1, row)) {
        return false;
    }
    /* Behind the horizon nothing is told apart: everybody still there is censored at it. */
    double time = store_batch_number(batch, encoding->count + 1, row) / encoding->horizon;
    load->y[load->rows] = load->y[load->rows] && time <= 1;
    load->more[load->rows] = (float)fmin(time, 1);
    return load->more[load->rows] > 0;
}

/* false: the row is left out. */
static bool take_row(struct load *load, const struct store_batch *batch, size_t row)
{
    const struct train_encoding *encoding = load->wish->encoding;
    if (!take_outcome(load, batch, row)) {
        return false;
    }
    float *x = load->x + load->rows * load->width;
    for (size_t i = 0; i < encoding->count; i++) {
        bool missing = store_batch_missing(batch, i, row);
        if (missing && !load->wish->midpoint) {
            return false;
        }
        train_encoding_put(&encoding->columns[i], missing ? 0 : store_batch_number(batch, i, row),
                           missing, x);
    }
    load->unit[load->rows] = train_rows_unit(batch, row);
    load->rows++;
    return true;
}

static enum err on_rows(void *user, const struct store_batch *batch, const uint64_t *keep)
{
    struct load *load = user;
    enum err err = grow(load, batch->rows);
    for (size_t word = 0; !err && word * 64 < batch->rows; word++) {
        for (uint64_t left = keep[word]; left; left &= left - 1) {
            (void)take_row(load, batch, word * 64 + (size_t)__builtin_ctzll(left));
        }
    }
    return err;
}

/* Rows sorted by unit, by counting; UNITS is one more than the largest. */
static enum err sort_rows(const struct load *load, uint64_t units, size_t **ret_order)
{
    size_t *start = proto_alloc(units + 1, sizeof *start);
    size_t *order = proto_alloc(load->rows ? load->rows : 1, sizeof *order);
    enum err err = start && order ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < load->rows; i++) {
        start[load->unit[i] + 1]++;
    }
    for (uint64_t unit = 0; !err && unit < units; unit++) {
        start[unit + 1] += start[unit];
    }
    for (size_t i = 0; !err && i < load->rows; i++) {
        order[start[load->unit[i]]++] = i;
    }
    wipe_free(start, start ? (units + 1) * sizeof *start : 0);
    if (err) {
        proto_free(order);
        return err;
    }
    *ret_order = order;
    return E_OK;
}

struct target {
    struct model_table *table;
    float *x;
    uint8_t *y;
    uint32_t *unit;
    float *more;
    uint32_t last;
};

static enum err make_target(struct train_tables *tables, size_t slot, size_t rows,
                            const struct train_encoding *encoding, struct target *to)
{
    enum {
        BLOCKS = TRAIN_TABLE_BLOCKS
    };
    size_t room = rows ? rows : 1;
    size_t width = encoding->width;
    const size_t bytes[BLOCKS] = {room * width * sizeof(float), room, room * sizeof(uint32_t),
                                  room * sizeof(float)};
    void **memory = tables->memory + slot * BLOCKS;
    for (size_t i = 0; i < BLOCKS; i++) {
        memory[i] = proto_alloc(bytes[i], 1);
        tables->bytes[slot * BLOCKS + i] = bytes[i];
        if (!memory[i]) {
            return E_NO_MEMORY;
        }
    }
    to->table = slot ? &tables->held : &tables->train;
    to->x = memory[0];
    to->y = memory[1];
    to->unit = memory[2];
    to->more = memory[3];
    *to->table = (struct model_table){
        .features = width,
        .x = to->x,
        .y = to->y,
        .unit = to->unit,
        .target = encoding->outcome == TRAIN_OUTCOME_NUMBER ? to->more : NULL,
        .time = encoding->outcome == TRAIN_OUTCOME_EVENT ? to->more : NULL,
    };
    return E_OK;
}

static void copy_row(const struct load *load, size_t from, struct target *to)
{
    struct model_table *table = to->table;
    uint32_t unit = load->unit[from];
    if (table->rows == 0 || unit != to->last) {
        table->units++;
    }
    to->last = unit;
    memcpy(to->x + table->rows * load->width, load->x + from * load->width,
           load->width * sizeof(float));
    to->y[table->rows] = load->y[from];
    to->more[table->rows] = load->more[from];
    to->unit[table->rows] = (uint32_t)(table->units - 1);
    table->rows++;
}

static enum err split(const struct load *load, struct train_tables *ret)
{
    uint64_t threshold = train_held_threshold(load->wish->eval_split);
    const uint8_t *key = load->wish->key;
    uint64_t units = 0;
    size_t held = 0;
    size_t *order;
    for (size_t i = 0; i < load->rows; i++) {
        units = load->unit[i] >= units ? (uint64_t)load->unit[i] + 1 : units;
        held += train_held_out(key, load->unit[i], threshold);
    }
    enum err err = sort_rows(load, units, &order);
    if (err) {
        return err;
    }
    struct target targets[2] = {0};
    err = make_target(ret, 0, load->rows - held, load->wish->encoding, &targets[0]);
    if (!err) {
        err = make_target(ret, 1, held, load->wish->encoding, &targets[1]);
    }
    for (size_t i = 0; !err && i < load->rows; i++) {
        copy_row(load, order[i], &targets[train_held_out(key, load->unit[order[i]], threshold)]);
    }
    wipe_free(order, load->rows * sizeof *order);
    return err;
}

static enum err read_rows(struct load *load, struct store *store, struct err_info *reterr)
{
    const struct train_table_wish *wish = load->wish;
    const struct train_encoding *encoding = wish->encoding;
    int columns[TRAIN_FEATURES_MAX + 2];
    for (size_t i = 0; i < encoding->count; i++) {
        columns[i] = encoding->columns[i].column;
    }
    columns[encoding->count] = encoding->target;
    columns[encoding->count + 1] = encoding->time;
    struct train_rows_wish rows = {
        .dataset = wish->dataset,
        .schema = wish->schema,
        .columns = columns,
        .count = encoding->count + (encoding->time < 0 ? 1 : 2),
        .key = wish->key,
        .cancelled = wish->cancelled,
        .user = wish->user,
    };
    load->width = encoding->width;
    enum err err = train_rows_each(store, &rows, on_rows, load, reterr);
    return err == E_LIMIT
               ? proto_err_set(reterr, err, "the table of this job would exceed %zu bytes",
                               TRAIN_TABLE_BYTES)
               : err;
}

enum err train_tables_load(struct store *store, const struct train_table_wish *wish,
                           struct train_tables *ret, struct err_info *reterr)
{
    memset(ret, 0, sizeof *ret);
    struct load load = {.wish = wish};
    enum err err = read_rows(&load, store, reterr);
    if (!err) {
        err = split(&load, ret);
    }
    wipe_free(load.x, load.cap * load.width * sizeof(float));
    wipe_free(load.y, load.cap);
    wipe_free(load.unit, load.cap * sizeof(uint32_t));
    wipe_free(load.more, load.cap * sizeof(float));
    if (err) {
        train_tables_fini(ret);
    }
    return err;
}

void train_tables_fini(struct train_tables *tables)
{
    for (size_t i = 0; i < sizeof tables->memory / sizeof *tables->memory; i++) {
        wipe_free(tables->memory[i], tables->bytes[i]);
    }
    memset(tables, 0, sizeof *tables);
}
