#include "config.h"
#include "node/train/rows.h"

#include "node/query/bound.h"

#define WORDS (STORE_CHUNK_ROWS / 64)

struct reading {
    const struct train_rows_wish *wish;
    struct store_partition *partition;
    struct query_bound bound;
    bool bounded; /* the unit is a column */
    int columns[STORE_SCAN_COLUMNS];
    uint64_t keep[WORDS];
    train_rows_fn *on_rows;
    void *user;
};

static bool reading_cancelled(void *user)
{
    const struct reading *reading = user;
    return reading->wish->cancelled && reading->wish->cancelled(reading->wish->user);
}

static enum err on_batch(void *user, const struct store_batch *batch)
{
    struct reading *reading = user;
    memcpy(reading->keep, batch->selected, (batch->rows + 63) / 64 * sizeof *reading->keep);
    if (reading->bounded) {
        query_bound_filter(&reading->bound, batch, reading->keep);
    }
    return reading->on_rows(reading->user, batch, reading->keep);
}

static enum err on_count(void *user, const struct store_batch *batch)
{
    query_bound_count(&((struct reading *)user)->bound, batch);
    return E_OK;
}

static enum err on_rank(void *user, const struct store_batch *batch)
{
    query_bound_rank(&((struct reading *)user)->bound, batch);
    return E_OK;
}

static enum err bound_units(struct reading *reading, struct err_info *reterr)
{
    bool again = false;
    uint32_t most = reading->wish->schema->max_rows_per_unit;
    const struct privacy_bounds bounds = {most, most, 1};
    enum err err = query_bound_init(&reading->bound, store_partition_units(reading->partition),
                                    &bounds, 1, store_partition_rows(reading->partition));
    memcpy(reading->bound.key, reading->wish->key, sizeof reading->bound.key);
    if (!err) {
        err = store_scan(reading->partition, NULL, 0, NULL, reading_cancelled, on_count, reading,
                         reterr);
    }
    if (!err) {
        err = query_bound_counted(&reading->bound, &again);
    }
    return !err && again ? store_scan(reading->partition, NULL, 0, NULL, reading_cancelled, on_rank,
                                      reading, reterr)
                         : err;
}

/* Column numbers of the published schema must mean the same in the partition. */
static enum err plan_columns(struct reading *reading, struct err_info *reterr)
{
    const struct train_rows_wish *wish = reading->wish;
    const struct proto_schema *stored = store_partition_schema(reading->partition);
    bool same = strcmp(wish->schema->unit, stored->unit) == 0;
    for (size_t i = 0; same && i < wish->count; i++) {
        const struct proto_column *column = &wish->schema->columns[wish->columns[i]];
        reading->columns[i] = proto_schema_find(stored, column->name);
        const struct proto_column *other =
            reading->columns[i] >= 0 ? &stored->columns[reading->columns[i]] : NULL;
        same = other && other->type == column->type && other->value_count == column->value_count;
    }
    reading->bounded = stored->unit[0] != '\0';
    return same ? E_OK
                : proto_err_set(reterr, E_SCHEMA,
                                "the stored partition has another schema than the published "
                                "record: import again");
}

static enum err read_rows(struct reading *reading, struct err_info *reterr)
{
    enum err err = plan_columns(reading, reterr);
    if (!err && reading->bounded) {
        err = bound_units(reading, reterr);
    }
    if (!err && !reading->bounded && store_partition_rows(reading->partition) > UINT32_MAX) {
        err = E_LIMIT;
    }
    if (!err) {
        err = store_scan_with(reading->partition, reading->columns, reading->wish->count, NULL,
                              reading->bounded, reading_cancelled, on_batch, reading, NULL, reterr);
    }
    return err;
}

enum err train_rows_each(struct store *store, const struct train_rows_wish *wish,
                         train_rows_fn *on_rows, void *user, struct err_info *reterr)
{
    struct reading *reading = proto_alloc(1, sizeof *reading);
    if (!reading || wish->count > STORE_SCAN_COLUMNS) {
        proto_free(reading);
        return wish->count > STORE_SCAN_COLUMNS ? E_LIMIT : E_NO_MEMORY;
    }
    reading->wish = wish;
    reading->on_rows = on_rows;
    reading->user = user;
    enum err err = store_partition_open(store, wish->dataset, &reading->partition, reterr);
    if (!err) {
        err = read_rows(reading, reterr);
        store_partition_close(reading->partition);
    }
    query_bound_fini(&reading->bound);
    proto_free(reading);
    return err;
}
