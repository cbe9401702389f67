#include "config.h"
#include "store/risk.h"

#include "crypto/memory.h"
#include "store/scan.h"

#include <math.h>
#include <stdlib.h>

/* One row: the hash of its quasi-identifiers, and its unit or its sensitive value (then the place of that among all values). */
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

/* In the order of values, a missing one first. */
static uint64_t value_order(const struct store_batch *batch, size_t column, size_t row)
{
    if (store_batch_missing(batch, column, row)) {
        return 0;
    }
    double number = store_batch_number(batch, column, row) + 0.0; /* -0 is 0 */
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
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
            class, table->with_unit ? batch->unit[row] : value_order(batch, table->quasi, row)};
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

/* The sensitive column in all rows. */
struct spread {
    uint64_t *values; /* distinct, ascending */
    uint64_t *counts; /* room for those of one class */
    double *shares;   /* of all rows that have the value or a lesser one; so the last is 1 */
    double *sums;     /* of the shares before a value's */
    size_t count;
    bool ordered;
};

static void close_spread(struct spread *spread)
{
    if (spread->values) {
        crypto_wipe(spread->values, spread->count * sizeof *spread->values);
    }
    proto_free(spread->values);
    proto_free(spread->counts);
    proto_free(spread->shares);
    proto_free(spread->sums);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int descending(const void *a, const void *b)
{
    return ascending(b, a);
}

static size_t place_of(const struct spread *spread, uint64_t value)
{
    const uint64_t *found = bsearch(&value, spread->values, spread->count, sizeof value, ascending);
    return (size_t)(found - spread->values);
}

/* Values of records become their places among all values; the order of records stays. */
static enum err open_spread(struct table *table, bool ordered, struct spread *ret)
{
    size_t rows = table->count;
    ret->ordered = ordered;
    ret->values = proto_alloc(rows + 1, sizeof *ret->values);
    ret->counts = proto_alloc(rows + 1, sizeof *ret->counts);
    ret->shares = proto_alloc(rows + 1, sizeof *ret->shares);
    ret->sums = proto_alloc(rows + 1, sizeof *ret->sums);
    if (!ret->values || !ret->counts || !ret->shares || !ret->sums) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < rows; i++) {
        ret->values[i] = table->records[i].other;
    }
    qsort(ret->values, rows, sizeof *ret->values, ascending);
    for (size_t i = 0; i < rows; i++) {
        uint64_t value = ret->values[i];
        if (ret->count == 0 || value != ret->values[ret->count - 1]) {
            ret->values[ret->count++] = value;
        }
        ret->shares[ret->count - 1] = (double)(i + 1) / (double)rows;
    }
    for (size_t i = 0; i < ret->count; i++) {
        ret->sums[i + 1] = ret->sums[i] + ret->shares[i];
    }
    for (size_t i = 0; i < rows; i++) {
        table->records[i].other = place_of(ret, table->records[i].other);
    }
    return E_OK;
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

static double share_below(const struct spread *spread, size_t place)
{
    return place ? spread->shares[place - 1] : 0;
}

/* Half the sum of |p - q| over all values: what is too much in the class, since as much is too little elsewhere. */
static double equal_distance(const struct spread *spread, const struct record *records, size_t rows)
{
    double distance = 0;
    for (size_t i = 0, end; i < rows; i = end) {
        size_t place = (size_t)records[i].other;
        for (end = i + 1; end < rows && records[end].other == place; end++) {
        }
        double more =
            (double)(end - i) / (double)rows - (spread->shares[place] - share_below(spread, place));
        distance += more > 0 ? more : 0;
    }
    return distance;
}

/* The sum of |P - Q| over the values from FIRST to before END, where the class has share P of lesser or equal ones all along.
 * Q ascends, so that the values where it is below P come first. */
static double gap(const struct spread *spread, size_t first, size_t end, double p)
{
    size_t low = first, high = end;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (spread->shares[middle] < p) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    double below = p * (double)(low - first) - (spread->sums[low] - spread->sums[first]);
    double above = (spread->sums[end] - spread->sums[low]) - p * (double)(end - low);
    return below + above;
}

/* Between m values in a row: the sum of the differences of cumulative shares, over m - 1. */
static double ordered_distance(const struct spread *spread, const struct record *records,
                               size_t rows)
{
    double sum = 0;
    size_t from = 0;
    for (size_t i = 0, end; i < rows; i = end) {
        size_t place = (size_t)records[i].other;
        sum += gap(spread, from, place, (double)i / (double)rows);
        for (end = i + 1; end < rows && records[end].other == place; end++) {
        }
        from = place;
    }
    sum += gap(spread, from, spread->count, 1);
    return spread->count > 1 ? sum / (double)(spread->count - 1) : 0;
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

static void judge_closeness(const struct spread *spread, const struct record *records, size_t rows,
                            double t, struct store_diversity *to)
{
    double distance = spread->ordered ? ordered_distance(spread, records, rows)
                                      : equal_distance(spread, records, rows);
    bool far = distance > t + 1e-9; /* sums of shares round */
    to->closeness = distance > to->closeness ? distance : to->closeness;
    to->far_classes += far;
    to->far_rows += far ? rows : 0;
}

enum err store_risk_diversity(struct store_partition *partition, const int *quasi, size_t count,
                              int sensitive, uint64_t l, double t, bool (*cancelled)(void *),
                              void *user, struct store_diversity *ret, struct err_info *reterr)
{
    struct table table = {.cancelled = cancelled, .user = user};
    struct store_diversity diversity = {0};
    struct spread spread = {0};
    enum err err = open_table(partition, quasi, count, sensitive, &table, reterr);
    bool ordered = !err && store_partition_form(partition, sensitive) == STORE_FORM_NUMBER;
    if (!err && open_spread(&table, ordered, &spread)) {
        err = proto_err_set(reterr, E_NO_MEMORY, "measuring the risk");
    }
    for (size_t first = 0, end; !err && first < table.count; first = end) {
        const struct record *records = table.records + first;
        end = class_end(&table, first);
        size_t values = count_values(records, end - first, spread.counts);
        judge_class(spread.counts, values, end - first, l, first == 0, &diversity);
        judge_closeness(&spread, records, end - first, t, &diversity);
    }
    close_spread(&spread);
    close_table(&table);
    if (!err) {
        *ret = diversity;
    }
    return err;
}
