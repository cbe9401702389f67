#include "config.h"
#include "store/risk.h"

#include "crypto/memory.h"
#include "store/scan.h"

#include <math.h>
#include <stdlib.h>

/* One row: the hash of its quasi-identifiers, and its unit or its sensitive value's hash. */
struct record {
    uint64_t class;
    uint64_t other;
};

struct table {
    struct record *records;
    size_t count;
    size_t cap;
    size_t quasi;
    bool with_unit; /* other is the unit, else the column behind the quasi-identifiers */
    bool (*cancelled)(void *);
    void *user;
};

/* The finalizer of splitmix64 (Steele, Lea and Flood 2014). */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t value_hash(const struct store_batch *batch, size_t column, size_t row)
{
    if (store_batch_missing(batch, column, row)) {
        return 1;
    }
    double number = store_batch_number(batch, column, row) + 0.0; /* -0 is 0 */
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return mix(bits) | 2;
}

static enum err take_batch(void *user, const struct store_batch *batch)
{
    struct table *table = user;
    for (size_t row = 0; row < batch->rows; row++) {
        uint64_t class = 0;
        for (size_t i = 0; i < table->quasi; i++) {
            class = mix(class ^ value_hash(batch, i, row));
        }
        if (table->count == table->cap) {
            return E_INTERNAL; /* more rows than the partition has */
        }
        table->records[table->count++] = (struct record){
            class, table->with_unit ? batch->unit[row] : value_hash(batch, table->quasi, row)};
    }
    return E_OK;
}

static bool scan_cancelled(void *user)
{
    const struct table *table = user;
    return table->cancelled && table->cancelled(table->user);
}

static int by_class(const void *a, const void *b)
{
    const struct record *x = a, *y = b;
    if (x->class != y->class) {
        return x->class < y->class ? -1 : 1;
    }
    return (x->other > y->other) - (x->other < y->other);
}

static void close_table(struct table *table)
{
    if (table->records) {
        crypto_wipe(table->records, table->cap * sizeof *table->records);
    }
    proto_free(table->records);
}

/* All rows, sorted by class and then by the other. */
static enum err open_table(struct store_partition *partition, const int *quasi, size_t count,
                           int sensitive, struct table *table, struct err_info *reterr)
{
    int columns[STORE_RISK_COLUMNS + 1];
    uint64_t rows = store_partition_rows(partition);
    if (count == 0 || count > STORE_RISK_COLUMNS) {
        return proto_err_set(reterr, E_INVALID, "1 to %d quasi-identifiers are needed",
                             STORE_RISK_COLUMNS);
    }
    if (rows > STORE_RISK_ROWS) {
        return proto_err_set(reterr, E_LIMIT, "more than %llu rows",
                             (unsigned long long)STORE_RISK_ROWS);
    }
    memcpy(columns, quasi, count * sizeof *columns);
    size_t all = count;
    if (sensitive >= 0) {
        columns[all++] = sensitive;
    }
    for (size_t i = 0; i < all; i++) {
        if (store_partition_form(partition, columns[i]) == STORE_FORM_TEXT) {
            return proto_err_set(
                reterr, E_INVALID,
                "column %s is text: only numbers, dates and categories can be counted",
                store_partition_schema(partition)->columns[columns[i]].name);
        }
    }
    table->quasi = count;
    table->with_unit = sensitive < 0;
    table->cap = (size_t)rows;
    table->records = proto_alloc(table->cap + 1, sizeof *table->records);
    if (!table->records) {
        return proto_err_set(reterr, E_NO_MEMORY, "measuring the risk");
    }
    enum err err = store_scan_with(partition, columns, all, NULL, table->with_unit, scan_cancelled,
                                   take_batch, table, NULL, reterr);
    if (!err) {
        qsort(table->records, table->count, sizeof *table->records, by_class);
    }
    return err;
}

/* The end of the class that begins at FIRST. */
static size_t class_end(const struct table *table, size_t first)
{
    size_t end = first;
    while (end < table->count && table->records[end].class == table->records[first].class) {
        end++;
    }
    return end;
}

enum err store_risk_measure(struct store_partition *partition, const int *quasi, size_t count,
                            uint64_t k, bool (*cancelled)(void *), void *user,
                            struct store_risk *ret, struct err_info *reterr)
{
    struct table table = {.cancelled = cancelled, .user = user};
    struct store_risk risk = {0};
    enum err err = open_table(partition, quasi, count, -1, &table, reterr);
    for (size_t first = 0, end; !err && first < table.count; first = end) {
        end = class_end(&table, first);
        uint64_t units = 1;
        for (size_t i = first + 1; i < end; i++) {
            units += table.records[i].other != table.records[i - 1].other;
        }
        risk.smallest = risk.classes == 0 || units < risk.smallest ? units : risk.smallest;
        risk.classes++;
        risk.unique += units == 1;
        risk.below_classes += units < k;
        risk.below_rows += units < k ? end - first : 0;
    }
    risk.rows = table.count;
    close_table(&table);
    if (!err) {
        *ret = risk;
    }
    return err;
}

/* --- diversity ----------------------------------------------------------------------------- */

static int descending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* How often each sensitive value stands in the class's records, most frequent first; returns how many values. */
static size_t count_values(const struct record *records, size_t rows, uint64_t *counts)
{
    size_t values = 0;
    for (size_t i = 0; i < rows; i++) {
        bool fresh = i == 0 || records[i].other != records[i - 1].other;
        values += fresh;
        counts[values - 1] = fresh ? 1 : counts[values - 1] + 1;
    }
    qsort(counts, values, sizeof *counts, descending);
    return values;
}

static void judge_class(const uint64_t *counts, size_t values, size_t rows, uint64_t l, bool first,
                        struct store_diversity *to)
{
    double entropy = 0, tail = 0;
    for (size_t i = 0; i < values; i++) {
        double share = (double)counts[i] / (double)rows;
        entropy -= share * log(share);
        tail += i + 1 >= l ? (double)counts[i] : 0;
    }
    double effective = exp(entropy);
    double ratio = tail > 0 ? (double)counts[0] / tail : INFINITY;
    to->distinct = first || values < to->distinct ? values : to->distinct;
    to->entropy = first || effective < to->entropy ? effective : to->entropy;
    to->recursive = ratio > to->recursive ? ratio : to->recursive;
    to->below_classes += values < l;
    to->below_rows += values < l ? rows : 0;
}

enum err store_risk_diversity(struct store_partition *partition, const int *quasi, size_t count,
                              int sensitive, uint64_t l, bool (*cancelled)(void *), void *user,
                              struct store_diversity *ret, struct err_info *reterr)
{
    struct table table = {.cancelled = cancelled, .user = user};
    struct store_diversity diversity = {0};
    enum err err = open_table(partition, quasi, count, sensitive, &table, reterr);
    uint64_t *counts = err ? NULL : proto_alloc(table.count + 1, sizeof *counts);
    if (!err && !counts) {
        err = proto_err_set(reterr, E_NO_MEMORY, "measuring the risk");
    }
    for (size_t first = 0, end; !err && first < table.count; first = end) {
        end = class_end(&table, first);
        size_t values = count_values(table.records + first, end - first, counts);
        judge_class(counts, values, end - first, l, first == 0, &diversity);
    }
    proto_free(counts);
    close_table(&table);
    if (!err) {
        *ret = diversity;
    }
    return err;
}
