/* Queries over real sealed partitions against a naive evaluation, and how far one patient can move the sums. */
#include "config.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "node/query/bound.h"
#include "node/query/estimate.h"
#include "node/query/execute.h"
#include "store/crew.h"
#include "proto/privacy.h"
#include "proto/sql.h"
#include "tests/lib/encounters.h"
#include "tests/lib/seed.h"
#include "tests/unit/store/dataset.h"

/* --- asking --------------------------------------------------------------------------------- */

struct asked {
    struct proto_query query;
    struct query_layout layout;
    uint64_t rho_nano;
    struct query_sums all;
    __int128 *sums; /* of all */
};

static void ask_within(struct home *home, const struct proto_schema *schema, const char *sql,
                       double epsilon, struct query_limits limits, struct asked *ret)
{
    struct err_info info = {0};
    memset(ret, 0, sizeof *ret);
    ret->rho_nano = proto_privacy_rho_ceil_nano(epsilon, 1e-6);
    if (proto_sql_parse(sql, &ret->query, &info) || proto_query_bind(&ret->query, schema, &info) ||
        query_layout_plan(&ret->query, &limits, &ret->layout, &info) ||
        privacy_mechanism_plan_bounded(ret->rho_nano, &ret->layout.bounds, ret->layout.coordinates,
                                       ret->layout.count, &info) ||
        query_execute(&home->store, ret->query.dataset, &ret->query, &ret->layout, NULL, NULL,
                      &ret->all, &info)) {
        fail_msg("%s: %s", sql, info.text);
    }
    ret->sums = ret->all.sums;
}

static void ask(struct home *home, const struct proto_schema *schema, const char *sql,
                double epsilon, struct asked *ret)
{
    ask_within(home, schema, sql, epsilon, (struct query_limits){0, 0}, ret);
}

static void forget(struct asked *asked)
{
    query_sums_fini(&asked->all);
    proto_query_fini(&asked->query);
}

static void import(struct home *home, struct proto_manifest *manifest, const char *csv,
                   uint64_t rows)
{
    struct err_info info = {0};
    struct store_import_options options = {.data_path = csv};
    struct store_import_report report;
    if (proto_manifest_check(manifest, &info) ||
        store_import_run(&home->store, manifest, &options, &report, &info)) {
        fail_msg("import: %s", info.text);
    }
    assert_int_equal(report.rows, rows);
}

static struct proto_schema *published(struct home *home, const char *dataset,
                                      struct store_partition **ret)
{
    struct err_info info = {0};
    if (store_partition_open(&home->store, dataset, ret, &info)) {
        fail_msg("%s", info.text);
    }
    return (struct proto_schema *)(uintptr_t)store_partition_schema(*ret);
}

/* --- random tables --------------------------------------------------------------------------- */

enum {
    AGE,
    LAB,
    RAW,
    FLAG,
    SEX,
    SITE,
    COLUMNS
};
static const char *const names[COLUMNS] = {"age", "lab", "raw", "flag", "sex", "site"};
static const char *sexes[] = {"F", "M"};
static const char *sites[] = {"a", "b", "c d", "e'f", "g"};
static const double lows[COLUMNS] = {20, -5, -1, 0};
static const double highs[COLUMNS] = {80, 15, 2, 1};

#define ROWS_MAX 70000

struct table {
    size_t rows;
    uint32_t patient[ROWS_MAX];
    double value[COLUMNS][ROWS_MAX]; /* a category's is its code */
    bool missing[COLUMNS][ROWS_MAX];
    uint32_t patients;
};

static void make_table(struct table *table, size_t rows, bool nulls, struct seed *seed)
{
    table->rows = rows;
    table->patients = 1 + (uint32_t)(rows / 7);
    for (size_t i = 0; i < rows; i++) {
        table->patient[i] = (uint32_t)seed_below(seed, table->patients);
        table->value[AGE][i] = (double)seed_below(seed, 100); /* some beyond the bounds */
        table->value[LAB][i] = ((double)seed_below(seed, 3000) - 1000) / 100;
        table->value[RAW][i] = (double)(seed_next(seed) >> 11) * 0x1p-51 - 1.5;
        table->value[FLAG][i] = (double)seed_below(seed, 2);
        table->value[SEX][i] = (double)seed_below(seed, 2);
        table->value[SITE][i] = (double)seed_below(seed, 5);
        for (int c = 0; c < COLUMNS; c++) {
            table->missing[c][i] = nulls && seed_below(seed, 10) == 0;
        }
    }
}

/* What the import makes of numbers beyond the declared bounds. */
static void hold_to_bounds(struct table *table)
{
    for (int c = AGE; c <= RAW; c++) {
        for (size_t i = 0; i < table->rows; i++) {
            table->value[c][i] = fmin(fmax(table->value[c][i], lows[c]), highs[c]);
        }
    }
}

/* Writes the values as they are drawn, then holds TABLE to the bounds. */
static void write_table(struct table *table, const char *path)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "patient,age,lab,raw,flag,sex,site\n");
    for (size_t i = 0; i < table->rows; i++) {
        fprintf(file, "p%u", table->patient[i]);
        for (int c = 0; c < COLUMNS; c++) {
            double v = table->value[c][i];
            if (table->missing[c][i]) {
                fprintf(file, ",");
            } else if (c == SEX) {
                fprintf(file, ",%s", sexes[(int)v]);
            } else if (c == SITE) {
                fprintf(file, ",%s", sites[(int)v]);
            } else if (c == FLAG) {
                fprintf(file, v != 0 ? ",true" : ",false");
            } else {
                fprintf(file, c == RAW ? ",%.17g" : c == LAB ? ",%.2f" : ",%.0f", v);
            }
        }
        fprintf(file, "\n");
    }
    assert_int_equal(fclose(file), 0);
    hold_to_bounds(table);
}

/* --- random questions ------------------------------------------------------------------------ */

struct condition {
    int column;
    int op; /* 0 = 1 <> 2 < 3 <= 4 > 5 >= 6 IS NULL 7 IS NOT NULL */
    double constant;
    bool negated;
};

struct question {
    char sql[2048];
    struct condition conditions[3];
    size_t condition_count;
    int shape; /* 0: all and; 1: all or; 2: (1 or 2) and 3 */
    int groups[3];
    size_t group_count;
};

static const char *const ops[] = {"=", "<>", "<", "<=", ">", ">="};

static size_t put_condition(char *to, size_t size, const struct condition *c)
{
    char what[128];
    const char *name = names[c->column];
    if (c->op >= 6) {
        snprintf(what, sizeof what, "%s IS %sNULL", name, c->op == 7 ? "NOT " : "");
    } else if (c->column == SEX) {
        snprintf(what, sizeof what, "%s %s '%s'", name, ops[c->op], sexes[(int)c->constant]);
    } else if (c->column == SITE) {
        snprintf(what, sizeof what, "%s %s '%s'", name, ops[c->op],
                 c->constant == 3 ? "e''f" : sites[(int)c->constant]);
    } else if (c->column == FLAG) {
        snprintf(what, sizeof what, "%s %s %s", name, ops[c->op],
                 c->constant != 0 ? "true" : "false");
    } else {
        snprintf(what, sizeof what, "%s %s %.17g", name, ops[c->op], c->constant);
    }
    return (size_t)snprintf(to, size, c->negated ? "NOT (%s)" : "%s", what);
}

static void make_question(struct question *q, bool has_unit, struct seed *seed)
{
    static const char *const wheres[] = {"%s AND %s AND %s", "%s OR %s OR %s", "(%s OR %s) AND %s"};
    memset(q, 0, sizeof *q);
    size_t at = 0;
#define PUT(...) at += (size_t)snprintf(q->sql + at, sizeof q->sql - at, __VA_ARGS__)
    PUT("SELECT ");
    for (int g = FLAG; g < COLUMNS; g++) {
        if (seed_below(seed, 3) == 0) {
            q->groups[q->group_count++] = g;
            PUT("%s, ", names[g]);
        }
    }
    PUT("COUNT(*)");
    for (size_t i = seed_below(seed, 4); i > 0; i--) {
        static const char *const kinds[] = {"COUNT", "SUM", "AVG", "VAR", "STDDEV", "CORR"};
        const char *kind = kinds[seed_below(seed, 6)];
        size_t c = seed_below(seed, 4);
        bool pair = kind[0] == 'C' && kind[2] == 'R';
        PUT(", %s(%s%s%s) AS x%zu", kind, names[c], pair ? ", " : "",
            pair ? names[(c + 1 + seed_below(seed, 3)) % 4] : "", i);
    }
    if (has_unit && seed_below(seed, 3) == 0) {
        PUT(", COUNT(DISTINCT patient)");
    }
    PUT(" FROM t");
    q->condition_count = seed_below(seed, 4);
    q->shape = (int)seed_below(seed, 3);
    char texts[3][160];
    for (size_t i = 0; i < q->condition_count; i++) {
        struct condition *c = &q->conditions[i];
        c->column = (int)seed_below(seed, COLUMNS);
        bool ordered = c->column <= RAW;
        c->op = (int)seed_below(seed, 10) == 0 ? 6 + (int)seed_below(seed, 2)
                                               : (int)seed_below(seed, ordered ? 6 : 2);
        c->negated = seed_below(seed, 5) == 0;
        c->constant = c->column == AGE   ? (double)seed_below(seed, 100)
                      : c->column == LAB ? ((double)seed_below(seed, 3000) - 1000) / 100
                      : c->column == RAW ? (double)seed_below(seed, 400) / 100 - 1.5
                                         : (double)seed_below(seed, c->column == SITE ? 5 : 2);
        put_condition(texts[i], sizeof texts[i], c);
    }
    if (q->condition_count == 3) {
        PUT(" WHERE ");
        at += (size_t)snprintf(q->sql + at, sizeof q->sql - at, wheres[q->shape], texts[0],
                               texts[1], texts[2]);
    } else if (q->condition_count) {
        PUT(" WHERE %s", texts[0]);
        if (q->condition_count == 2) {
            PUT(" %s %s", q->shape == 1 ? "OR" : "AND", texts[1]);
        }
    }
    for (size_t g = 0; g < q->group_count; g++) {
        PUT("%s%s", g ? ", " : " GROUP BY ", names[q->groups[g]]);
    }
#undef PUT
}

static bool condition_true(const struct condition *c, const struct table *table, size_t row)
{
    bool missing = table->missing[c->column][row];
    double v = table->value[c->column][row];
    if (c->op >= 6) {
        return ((c->op == 6) == missing) != c->negated;
    }
    if (missing) {
        return false; /* unknown, and so is its negation */
    }
    const bool holds[] = {v == c->constant, v != c->constant,
                          v<c->constant, v <= c->constant, v> c->constant, v >= c->constant};
    return holds[c->op] != c->negated;
}

static bool row_passes(const struct question *q, const struct table *table, size_t row)
{
    bool is[3] = {true, true, true};
    for (size_t i = 0; i < q->condition_count; i++) {
        is[i] = condition_true(&q->conditions[i], table, row);
    }
    switch (q->condition_count) {
    case 0:
        return true;
    case 3:
        return q->shape == 0
                   ? is[0] && is[1] && is[2]
                   : (q->shape == 1 ? is[0] || is[1] || is[2] : (is[0] || is[1]) && is[2]);
    default:
        return q->condition_count == 1 || q->shape != 1 ? is[0] && is[1] : is[0] || is[1];
    }
}

struct naive {
    double rows;
    double units;
    double values[COLUMNS];
    long double sums[COLUMNS];
    /* Over rows in which both columns have a value. */
    double pairs[SEX][SEX];
    long double pair_sums[SEX][SEX]; /* of the first */
    long double products[SEX][SEX];
    long double pair_squares[SEX][SEX]; /* of the first */
};

static void evaluate(const struct question *q, const struct table *table, struct naive *cells)
{
    static bool seen[64][ROWS_MAX / 7 + 1];
    memset(seen, 0, sizeof seen);
    for (size_t row = 0; row < table->rows; row++) {
        size_t cell = 0;
        bool in = row_passes(q, table, row);
        for (size_t g = 0; g < q->group_count; g++) {
            in = in && !table->missing[q->groups[g]][row];
            cell = cell * (q->groups[g] == SITE ? 5 : 2) + (size_t)table->value[q->groups[g]][row];
        }
        if (!in) {
            continue;
        }
        cells[cell].rows++;
        cells[cell].units += !seen[cell][table->patient[row]];
        seen[cell][table->patient[row]] = true;
        for (int c = 0; c < SEX; c++) {
            for (int d = 0; d < SEX && !table->missing[c][row]; d++) {
                bool both = !table->missing[d][row];
                long double x = table->value[c][row];
                cells[cell].pairs[c][d] += both;
                cells[cell].pair_sums[c][d] += both ? x : 0;
                cells[cell].products[c][d] += both ? x * table->value[d][row] : 0;
                cells[cell].pair_squares[c][d] += both ? x * x : 0;
            }
            if (!table->missing[c][row]) {
                cells[cell].values[c]++;
                cells[cell].sums[c] += fmin(fmax(table->value[c][row], lows[c]), highs[c]);
            }
        }
    }
}

static int named(const char *name)
{
    for (int c = 0; c < COLUMNS; c++) {
        if (strcmp(name, names[c]) == 0) {
            return c;
        }
    }
    return -1;
}

static int column_of(const struct asked *asked, size_t item)
{
    return named(asked->query.items[item].arguments[0].name);
}

static int second_of(const struct asked *asked, size_t item)
{
    return named(asked->query.items[item].arguments[1].name);
}

static int correlations; /* compared */

/* Over n; of column C in rows where D has a value as well. */
static double naive_variance(const struct naive *want, int c, int d)
{
    long double mean = want->pair_sums[c][d] / want->pairs[c][d];
    return (double)(want->pair_squares[c][d] / want->pairs[c][d] - mean * mean);
}

static double square_of_half(int c)
{
    return (highs[c] - lows[c]) * (highs[c] - lows[c]) / 4;
}

/* Half a step of the grid a row; the first is of squares, the second of the sum whose mean is squared, below H. */
static double grid_of(const struct asked *asked, size_t part)
{
    return ldexp(1, asked->layout.coordinates[part].grid_log2);
}

static double variance_slack(const struct asked *asked, size_t square, size_t sum, int c)
{
    double g = grid_of(asked, sum);
    return 0.51 * grid_of(asked, square) + 1.02 * sqrt(square_of_half(c)) * g + g * g / 4 + 1e-9;
}

static void near_enough(const char *sql, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("%s: %.17g instead of %.17g (%g)", sql, got, want, tolerance);
    }
}

static void compare_item(const struct asked *asked, const char *sql, size_t item,
                         const double *sums, const struct naive *want, bool has_unit)
{
    static const double none[QUERY_COORDINATES_MAX];
    const struct proto_query_item *asked_item = &asked->query.items[item];
    if (asked_item->kind == PROTO_AGG_GROUP) {
        return;
    }
    const struct query_totals totals = {sums, none};
    const struct query_reads *reads = &asked->layout.reads[item];
    struct query_estimate got;
    assert_int_equal(query_estimate_item(&asked->query, &asked->layout, item, &totals, &got), E_OK);
    int c = column_of(asked, item);
    double grid = reads->sums[0] != QUERY_NO_PART && c >= 0 ? grid_of(asked, reads->sums[0]) : 0;
    switch (asked_item->kind) {
    case PROTO_AGG_COUNT_ROWS:
        near_enough(sql, got.value, want->rows, 0);
        break;
    case PROTO_AGG_COUNT_UNITS:
        near_enough(sql, got.value, has_unit ? want->units : want->rows, 0);
        break;
    case PROTO_AGG_COUNT:
        near_enough(sql, got.value, want->values[c], 0);
        break;
    case PROTO_AGG_SUM: /* half a step a row, and what doubles lose */
        near_enough(sql, got.value, (double)want->sums[c],
                    want->values[c] * (grid * 0.501 + 1e-12));
        break;
    case PROTO_AGG_VAR:
    case PROTO_AGG_STDDEV:
        assert_int_equal(got.known, want->values[c] >= 2);
        if (got.known) {
            double n = want->values[c];
            double value = asked_item->kind == PROTO_AGG_VAR ? got.value : got.value * got.value;
            double slack = variance_slack(asked, reads->products[0][0], reads->sums[0], c);
            near_enough(sql, value, naive_variance(want, c, c) * n / (n - 1), slack * n / (n - 1));
        }
        break;
    case PROTO_AGG_CORR: {
        int d = second_of(asked, item);
        double x = want->pairs[c][d] < 2 ? 0 : naive_variance(want, c, d);
        double y = want->pairs[c][d] < 2 ? 0 : naive_variance(want, d, c);
        if (want->pairs[c][d] < 2) {
            assert_false(got.known);
            break;
        }
        double slack_x = variance_slack(asked, reads->products[0][0], reads->sums[0], c);
        double slack_y = variance_slack(asked, reads->products[1][1], reads->sums[1], d);
        if (x > 20 * slack_x && y > 20 * slack_y) {
            double g_x = grid_of(asked, reads->sums[0]);
            double g_y = grid_of(asked, reads->sums[1]);
            double slack = 0.51 * grid_of(asked, reads->products[0][1]) + g_x * g_y +
                           0.51 * (sqrt(square_of_half(c)) * g_y + sqrt(square_of_half(d)) * g_x);
            slack = slack / sqrt(x * y) + slack_x / x + slack_y / y;
            long double n = want->pairs[c][d];
            double both = (double)(want->products[c][d] / n -
                                   want->pair_sums[c][d] / n * (want->pair_sums[d][c] / n));
            assert_true(got.known);
            near_enough(sql, got.value, both / sqrt(x * y), slack * 1.1);
            correlations++;
        }
        break;
    }
    default:
        assert_int_equal(got.known, want->values[c] >= 1);
        if (got.known) {
            near_enough(sql, got.value, (double)(want->sums[c] / want->values[c]),
                        grid * 0.501 + 1e-12);
        }
    }
}

static void compare(const struct asked *asked, const char *sql, const struct naive *cells,
                    bool has_unit)
{
    for (size_t cell = 0; cell < asked->query.cells; cell++) {
        double sums[QUERY_COORDINATES_MAX]; /* single numbers only */
        assert_int_equal(asked->layout.slots, asked->layout.count);
        for (size_t i = 0; i < asked->layout.count; i++) {
            sums[i] = ldexp((double)asked->sums[cell * asked->layout.count + i],
                            asked->layout.coordinates[i].grid_log2);
        }
        /* The first coordinate is what the minimum cohort is tested on. */
        near_enough(sql, sums[0], has_unit ? cells[cell].units : cells[cell].rows, 0);
        for (size_t item = 0; item < asked->query.item_count; item++) {
            compare_item(asked, sql, item, sums, &cells[cell], has_unit);
        }
    }
}

static void table_manifest(struct proto_manifest *manifest, bool has_unit)
{
    static struct proto_column columns[7];
    static const struct proto_column fresh[7] = {
        {.name = "patient", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM},
        {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .min = 20, .max = 80},
        {.name = "lab", .type = PROTO_COLUMN_REAL, .has_bounds = true, .min = -5, .max = 15},
        {.name = "raw", .type = PROTO_COLUMN_REAL, .has_bounds = true, .min = -1, .max = 2},
        {.name = "flag", .type = PROTO_COLUMN_BOOLEAN},
        {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 2},
        {.name = "site", .type = PROTO_COLUMN_CATEGORY, .values = sites, .value_count = 5},
    };
    memcpy(columns, fresh, sizeof columns);
    manifest_init(manifest, "t", columns, 7, has_unit ? "patient" : "");
}

static void random_questions(void **state)
{
    (void)state;
    static struct table table;
    static const size_t sizes[] = {1, 63, 300, 4096, 9000, 66000};
    static const double epsilons[] = {0.5, 1, 20, 1000};
    struct seed seed = seed_of(seed_number(1));
    struct home home;
    char csv[128];
    int asked_count = 0;
    int passing = 0;
    home_open(&home);
    snprintf(csv, sizeof csv, "%s/t.csv", home.path);
    for (size_t t = 0; t < 2 * sizeof sizes / sizeof *sizes; t++) {
        bool has_unit = t % 2;
        struct proto_manifest manifest;
        struct store_partition *partition;
        make_table(&table, sizes[t / 2], t % 3 != 0, &seed);
        write_table(&table, csv);
        table_manifest(&manifest, has_unit);
        import(&home, &manifest, csv, table.rows);
        const struct proto_schema *schema = published(&home, "t", &partition);
        for (int i = 0; i < 20; i++) {
            static struct naive cells[64];
            struct question question;
            struct asked asked;
            make_question(&question, has_unit, &seed);
            ask(&home, schema, question.sql, epsilons[seed_below(&seed, 4)], &asked);
            memset(cells, 0, sizeof cells);
            evaluate(&question, &table, cells);
            compare(&asked, question.sql, cells, has_unit);
            for (size_t cell = 0; cell < asked.query.cells; cell++) {
                passing += cells[cell].rows > 0;
            }
            forget(&asked);
            asked_count++;
        }
        store_partition_close(partition);
        proto_manifest_fini(&manifest);
    }
    assert_true(asked_count >= 200);
    assert_true(correlations > 50);
    assert_true(passing > 400); /* not all of it was empty */
    home_remove(&home);
}

/* --- how far one patient reaches ---------------------------------------------------------------- */

#define ENCOUNTERS 200000
#define PATIENTS   20000
#define RANDOM     30
#define HEAVIEST   10

static struct encounter *rows_of_all;
static uint32_t rows_by_patient[PATIENTS + 1];
static struct encounters made;

static int make_encounters(void **state)
{
    (void)state;
    rows_of_all = calloc(ENCOUNTERS, sizeof *rows_of_all);
    encounters_init(&made, ENCOUNTERS, PATIENTS, 42);
    for (size_t i = 0; rows_of_all && encounters_next(&made, &rows_of_all[i]); i++) {
        /* Five patients never leave the hospital, so that some have very many rows. */
        rows_of_all[i].patient = i % 50 == 0 ? 1 + (uint32_t)(i / 50 % 5) : rows_of_all[i].patient;
        rows_by_patient[rows_of_all[i].patient]++;
    }
    return rows_of_all ? 0 : 1;
}

static int free_encounters(void **state)
{
    (void)state;
    free(rows_of_all);
    return 0;
}

static void encounters_manifest(struct proto_manifest *manifest, uint32_t max_rows)
{
    static struct proto_column columns[8];
    const struct proto_column fresh[8] = {
        {.name = "patient_id", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM},
        {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 90},
        {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 2},
        {.name = "site",
         .type = PROTO_COLUMN_CATEGORY,
         .values = made.sites,
         .value_count = ENCOUNTERS_SITES},
        {.name = "diagnosis", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_DROP},
        {.name = "admit_date", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_DROP},
        {.name = "los_days", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 30},
        {.name = "cost", .type = PROTO_COLUMN_REAL, .has_bounds = true, .max = 5000},
    };
    memcpy(columns, fresh, sizeof columns);
    manifest_init(manifest, "t", columns, 8, "patient_id");
    manifest->schema.max_rows_per_unit = max_rows;
}

/* Rows of PATIENT alone; 0: all; with LEAVE_OUT all the others. */
static uint64_t write_patients(const char *path, uint32_t patient, bool leave_out)
{
    FILE *file = fopen(path, "w");
    uint64_t count = 0;
    assert_non_null(file);
    encounters_head(file);
    for (size_t i = 0; i < ENCOUNTERS; i++) {
        if (patient == 0 || (rows_of_all[i].patient == patient) != leave_out) {
            encounters_line(&rows_of_all[i], file);
            count++;
        }
    }
    assert_int_equal(fclose(file), 0);
    return count;
}

static void choose(struct seed *seed, uint32_t to[RANDOM + HEAVIEST])
{
    static bool taken[PATIENTS + 1];
    memset(taken, 0, sizeof taken);
    for (size_t i = 0; i < HEAVIEST; i++) {
        uint32_t best = 0;
        for (uint32_t p = 1; p <= PATIENTS; p++) {
            best = !taken[p] && (!best || rows_by_patient[p] > rows_by_patient[best]) ? p : best;
        }
        to[i] = best;
        taken[best] = true;
    }
    for (size_t i = HEAVIEST; i < HEAVIEST + RANDOM; i++) {
        do {
            to[i] = 1 + (uint32_t)seed_below(seed, PATIENTS);
        } while (taken[to[i]] || rows_by_patient[to[i]] == 0);
        taken[to[i]] = true;
    }
    assert_true(rows_by_patient[to[0]] > 500);
}

/* Sum over all released integers of shift^2 / sigma^2, which may not exceed 2 rho. */
static long double weighted(const struct asked *asked, const __int128 *shift)
{
    long double sum = 0;
    for (size_t i = 0; i < asked->query.cells * asked->layout.slots; i++) {
        size_t part = asked->layout.count - 1;
        while (asked->layout.offsets[part] > i % asked->layout.slots) {
            part--;
        }
        const struct privacy_coordinate *c = &asked->layout.coordinates[part];
        sum += (long double)shift[i] * (long double)shift[i] * (long double)c->sigma2_den /
               (long double)c->sigma2_num;
    }
    return sum;
}

static const char *const questions[] = {
    "SELECT COUNT(*), SUM(cost) FROM t",
    "SELECT sex, site, COUNT(*), AVG(cost), SUM(los_days) FROM t GROUP BY sex, site",
    "SELECT site, COUNT(DISTINCT patient_id), AVG(age) FROM t WHERE los_days > 2 GROUP BY site",
    "SELECT site, MEDIAN(cost), AVG(age) FROM t GROUP BY site",
    "SELECT HISTOGRAM(cost, 20) FROM t",
    "SELECT LINREG(cost, age, los_days) FROM t",
};
static const uint32_t limits[] = {1, 3, 8};
static const struct query_limits tighter[] = {{0, 0}, {1, 2}, {2, 1}, {0, 2}};

/* A table of one patient against an empty one, through store and query. */
static void a_patient_alone_stays_within_the_charge(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(2));
    struct home home;
    char csv[128];
    uint32_t chosen[RANDOM + HEAVIEST];
    long double greatest = 0;
    home_open(&home);
    snprintf(csv, sizeof csv, "%s/one.csv", home.path);
    choose(&seed, chosen);
    for (size_t i = 0; i < RANDOM + HEAVIEST; i++) {
        uint32_t limit = limits[i % 3];
        struct proto_manifest manifest;
        struct store_partition *partition;
        encounters_manifest(&manifest, limit);
        import(&home, &manifest, csv, write_patients(csv, chosen[i], false));
        const struct proto_schema *schema = published(&home, "t", &partition);
        for (size_t q = 0; q < sizeof questions / sizeof *questions; q++) {
            struct asked asked;
            ask_within(&home, schema, questions[q], 1, tighter[(i + q) % 4], &asked);
            long double ratio =
                weighted(&asked, asked.sums) / (2e-9L * (long double)asked.rho_nano);
            assert_true(ratio <= 1);
            greatest = ratio > greatest ? ratio : greatest;
            for (size_t cell = 0;
                 asked.layout.parts[0].part == QUERY_PART_UNITS && cell < asked.query.cells;
                 cell++) {
                assert_in_range((uint64_t)asked.sums[cell * asked.layout.slots], 0,
                                1); /* one patient */
            }
            forget(&asked);
        }
        store_partition_close(partition);
        proto_manifest_fini(&manifest);
    }
    assert_true(greatest > 0.2L); /* the charge is not idle: somebody comes near it */
    home_remove(&home);
}

/* The whole table with and without a patient: rows that count are the sum of min(rows, limit) over patients, so the totals
 * differ by the patient's own share exactly, whichever rows the two fresh keys chose of others. */
static void whole_tables_differ_by_one_share(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(3));
    struct home home;
    char csv[128];
    uint32_t chosen[RANDOM + HEAVIEST];
    home_open(&home);
    snprintf(csv, sizeof csv, "%s/all.csv", home.path);
    choose(&seed, chosen);
    for (size_t l = 0; l < sizeof limits / sizeof *limits; l++) {
        uint32_t left_out[] = {0, chosen[l == 1 ? HEAVIEST : l]};
        uint64_t total = 0;
        uint64_t patients = 0;
        for (uint32_t p = 1; p <= PATIENTS; p++) {
            total += rows_by_patient[p] < limits[l] ? rows_by_patient[p] : limits[l];
            patients += rows_by_patient[p] > 0;
        }
        for (size_t i = 0; i < 2; i++) {
            struct proto_manifest manifest;
            struct store_partition *partition;
            struct asked asked;
            uint64_t rows = rows_by_patient[left_out[i]];
            uint64_t share = rows < limits[l] ? rows : limits[l];
            encounters_manifest(&manifest, limits[l]);
            import(&home, &manifest, csv, write_patients(csv, left_out[i], true));
            ask(&home, published(&home, "t", &partition), questions[0], 1, &asked);
            assert_int_equal((uint64_t)asked.sums[0],
                             limits[l] == 1 ? total - share : patients - (i > 0));
            assert_int_equal((uint64_t)asked.sums[asked.layout.rows_part], total - share);
            forget(&asked);
            store_partition_close(partition);
            proto_manifest_fini(&manifest);
        }
    }
    home_remove(&home);
}

/* --- neighbours under one key --------------------------------------------------------------------- */

/* Sums of question 1 over the rows that query_bound keeps when rows of LEFT_OUT are not selected: the same key and the same
 * row numbers in both runs, so that nothing but the patient can make a difference. */
static void sums_under_key(const uint8_t key[16], uint32_t limit, uint32_t left_out,
                           const struct query_layout *layout, __int128 *sums)
{
    static uint32_t units[STORE_CHUNK_ROWS];
    static uint64_t selected[STORE_CHUNK_WORDS];
    static uint64_t keep[STORE_CHUNK_WORDS];
    struct query_bound bound;
    bool again = false;
    const struct privacy_bounds bounds = {limit, limit, limit};
    assert_int_equal(query_bound_init(&bound, PATIENTS + 1, &bounds, 40, ENCOUNTERS), E_OK);
    memcpy(bound.key, key, 16);
    for (int pass = 0; pass < 3; pass++) {
        for (size_t first = 0; first < ENCOUNTERS; first += STORE_CHUNK_ROWS) {
            size_t count =
                ENCOUNTERS - first < STORE_CHUNK_ROWS ? ENCOUNTERS - first : STORE_CHUNK_ROWS;
            memset(selected, 0, sizeof selected);
            for (size_t i = 0; i < count; i++) {
                units[i] = rows_of_all[first + i].patient;
                selected[i / 64] |= (uint64_t)(units[i] != left_out) << (i % 64);
            }
            struct store_batch batch = {
                .rows = count, .first_row = first, .selected = selected, .unit = units};
            if (pass == 0) {
                query_bound_count(&bound, &batch);
                continue;
            }
            if (pass == 1) {
                query_bound_rank(&bound, &batch);
                continue;
            }
            memcpy(keep, selected, sizeof keep);
            query_bound_filter(&bound, &batch, keep);
            for (size_t i = 0; i < count; i++) {
                if (!(keep[i / 64] >> (i % 64) & 1)) {
                    continue;
                }
                const struct encounter *row = &rows_of_all[first + i];
                size_t cell = (size_t)(row->sex == 'M') * ENCOUNTERS_SITES + (size_t)row->site;
                for (size_t part = 0; part < layout->count; part++) {
                    __int128 *to = &sums[cell * layout->count + part];
                    double value = layout->parts[part].column == 5 ? row->cost : row->los_days;
                    bool seen = false;
                    switch (layout->parts[part].part) {
                    case QUERY_PART_UNITS:
                        assert_int_equal(query_bound_first(&bound, row->patient, cell, 40, &seen),
                                         E_OK);
                        *to += seen;
                        break;
                    case QUERY_PART_SUM:
                        value =
                            fmin(fmax(value, layout->parts[part].low), layout->parts[part].high);
                        *to += privacy_mechanism_quantise(&layout->coordinates[part],
                                                          value - layout->parts[part].centre);
                        break;
                    default:
                        *to += 1;
                    }
                }
            }
        }
        if (pass == 0) {
            assert_int_equal(query_bound_counted(&bound, &again), E_OK);
            assert_true(again);
        }
    }
    query_bound_fini(&bound);
}

static void neighbours_stay_within_the_charge(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(4));
    struct home home;
    char csv[128];
    uint32_t chosen[RANDOM + HEAVIEST];
    home_open(&home);
    snprintf(csv, sizeof csv, "%s/one.csv", home.path);
    choose(&seed, chosen);
    for (size_t l = 0; l < sizeof limits / sizeof *limits; l++) {
        struct proto_manifest manifest;
        struct store_partition *partition;
        struct asked asked;
        uint8_t key[16];
        for (int i = 0; i < 16; i++) {
            key[i] = (uint8_t)seed_next(&seed);
        }
        encounters_manifest(&manifest, limits[l]);
        import(&home, &manifest, csv, write_patients(csv, chosen[0], false)); /* for its schema */
        ask(&home, published(&home, "t", &partition), questions[1], 1, &asked);
        assert_string_equal(asked.query.schema->columns[5].name, "cost");
        size_t count = asked.query.cells * asked.layout.count;
        __int128 *with = calloc(count, sizeof *with);
        __int128 *without = calloc(count, sizeof *without);
        assert_true(with && without);
        sums_under_key(key, limits[l], 0, &asked.layout, with);
        for (size_t i = 0; i < RANDOM + HEAVIEST; i++) {
            bool differ = false;
            memset(without, 0, count * sizeof *without);
            sums_under_key(key, limits[l], chosen[i], &asked.layout, without);
            for (size_t j = 0; j < count; j++) {
                without[j] = with[j] - without[j];
                differ = differ || without[j] != 0;
            }
            assert_true(differ);
            assert_true(weighted(&asked, without) <= 2e-9L * (long double)asked.rho_nano);
        }
        free(with);
        free(without);
        forget(&asked);
        store_partition_close(partition);
        proto_manifest_fini(&manifest);
    }
    home_remove(&home);
}

/* --- threads -------------------------------------------------------------------------------------- */

#define COPIES 9 /* so that there are chunks enough for two threads */

static void copy_rows(const char *csv)
{
    size_t len;
    char *text = (char *)slurp(csv, &len);
    const char *rows = strchr(text, '\n') + 1;
    FILE *file = fopen(csv, "a");
    assert_non_null(file);
    for (int i = 1; i < COPIES; i++) {
        assert_int_equal(fwrite(rows, 1, len - (size_t)(rows - text), file),
                         len - (size_t)(rows - text));
    }
    assert_int_equal(fclose(file), 0);
    free(text);
}

/* Sums are integers, so that it does not matter who adds what; which rows of a unit count is drawn anew for each question, so
 * the table is one in which all do. */
static void threads_add_up_the_same(void **state)
{
    (void)state;
    static const char *const asks[] = {
        "SELECT COUNT(*) FROM t WHERE age > 50 AND sex = 'F'",
        "SELECT sex, site, COUNT(*), SUM(lab), AVG(raw), COUNT(age) FROM t GROUP BY sex, site",
        "SELECT sex, HISTOGRAM(age, 12) FROM t GROUP BY sex",
        "SELECT CORR(lab, raw), MEDIAN(lab) FROM t",
        "SELECT sex, COUNT(DISTINCT patient) FROM t GROUP BY sex",
    };
    static struct table table;
    struct seed seed = seed_of(7);
    struct home home;
    struct proto_manifest manifest;
    struct store_partition *partition;
    char csv[128];
    home_open(&home);
    snprintf(csv, sizeof csv, "%s/t.csv", home.path);
    make_table(&table, ROWS_MAX, true, &seed);
    write_table(&table, csv);
    copy_rows(csv);
    table_manifest(&manifest, true);
    manifest.schema.max_rows_per_unit = 10000;
    import(&home, &manifest, csv, table.rows * COPIES);
    struct proto_schema *schema = published(&home, "t", &partition);
    for (size_t q = 0; q < sizeof asks / sizeof *asks; q++) {
        struct asked one, many;
        store_crew_limit(1);
        ask(&home, schema, asks[q], 1, &one);
        store_crew_limit(3);
        ask(&home, schema, asks[q], 1, &many);
        assert_int_equal(one.all.cells, many.all.cells);
        assert_memory_equal(one.sums, many.sums, one.all.cells * one.all.slots * sizeof *one.sums);
        forget(&one);
        forget(&many);
    }
    store_crew_limit(0);
    store_partition_close(partition);
    proto_manifest_fini(&manifest);
    home_remove(&home);
}

/* --- refusals -------------------------------------------------------------------------------------- */

static bool at_once(void *user)
{
    ++*(int *)user;
    return true;
}

static void stops_when_told_and_when_it_cannot(void **state)
{
    (void)state;
    static struct table table;
    struct seed seed = seed_of(6);
    struct home home;
    struct proto_manifest manifest;
    struct store_partition *partition;
    struct err_info info = {0};
    char csv[128];
    home_open(&home);
    snprintf(csv, sizeof csv, "%s/t.csv", home.path);
    make_table(&table, 500, true, &seed);
    write_table(&table, csv);
    table_manifest(&manifest, true);
    import(&home, &manifest, csv, table.rows);
    struct proto_schema *schema = published(&home, "t", &partition);
    struct asked asked;
    ask(&home, schema, "SELECT SUM(lab) FROM t", 1, &asked);
    int calls = 0;
    struct query_sums sums;
    assert_int_equal(
        query_execute(&home.store, "t", &asked.query, &asked.layout, at_once, &calls, &sums, &info),
        E_CANCELLED);
    assert_true(calls > 0);
    assert_int_equal(
        query_execute(&home.store, "u", &asked.query, &asked.layout, NULL, NULL, &sums, &info),
        E_NOT_FOUND);
    struct query_layout fine = asked.layout; /* finer than sums of a chunk can hold */
    fine.coordinates[1].sensitivity = UINT64_C(1) << 50;
    assert_int_equal(query_execute(&home.store, "t", &asked.query, &fine, NULL, NULL, &sums, &info),
                     E_LIMIT);
    struct proto_schema other = *schema; /* bound to what was published before */
    other.count--;
    asked.query.schema = &other;
    assert_int_equal(
        query_execute(&home.store, "t", &asked.query, &asked.layout, NULL, NULL, &sums, &info),
        E_SCHEMA);
    forget(&asked);
    store_partition_close(partition);
    proto_manifest_fini(&manifest);
    home_remove(&home);
}

/* --- private groups of several columns -------------------------------------------------------- */

#define KEY_ROWS 6000
#define KEY_U    2500
#define KEY_V    2400

/* Row I of those below, by the texts of its groups; they tell it, as both numbers together repeat after 60,000 only. */
static uint32_t row_of_key(const struct query_sums *sums, size_t cell)
{
    uint64_t key = sums->keys[cell];
    unsigned u, v;
    assert_int_equal(sscanf(sums->values[0][key / sums->sizes[1]], "u%u", &u), 1);
    assert_int_equal(sscanf(sums->values[1][key % sums->sizes[1]], "v%u", &v), 1);
    uint32_t row = u;
    while (row < KEY_ROWS && row % KEY_V != v) {
        row += KEY_U;
    }
    assert_true(row < KEY_ROWS);
    return row;
}

/* Two private columns whose values could be combined in six million ways, of which the rows that pass have 4,800: these are the cells, and
 * no product of how many values there are decides whether a site can answer. */
static void private_groups_are_those_that_rows_have(void **state)
{
    (void)state;
    static struct proto_column columns[] = {
        {.name = "patient", .type = PROTO_COLUMN_TEXT},
        {.name = "u", .type = PROTO_COLUMN_CATEGORY, .values_private = true},
        {.name = "v", .type = PROTO_COLUMN_CATEGORY, .values_private = true},
        {.name = "x", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 49},
    };
    struct home home;
    struct proto_manifest manifest;
    struct store_partition *partition;
    char csv[128];
    home_open(&home);
    snprintf(csv, sizeof csv, "%s/t.csv", home.path);
    FILE *file = fopen(csv, "w");
    assert_non_null(file);
    fputs("patient,u,v,x\n", file);
    for (int i = 0; i < 2 * KEY_ROWS; i++) {
        int row = i % KEY_ROWS;
        fprintf(file, "p%d,u%d,v%d,%d\n", i, row % KEY_U, row % KEY_V, row % 50);
    }
    fputs("q,,v1,3\nr,u1,,3\n", file); /* in no group */
    assert_int_equal(fclose(file), 0);
    manifest_init(&manifest, "t", columns, 4, "patient");
    manifest.schema.max_rows_per_unit = 1;
    import(&home, &manifest, csv, 2 * KEY_ROWS + 2);
    struct proto_schema *schema = published(&home, "t", &partition);
    struct asked asked;
    ask(&home, schema, "SELECT u, v, COUNT(*), SUM(x) FROM t WHERE x < 40 GROUP BY u, v", 1,
        &asked);
    assert_int_equal(asked.all.cells, KEY_ROWS * 4 / 5);
    size_t sum = 1;
    while (asked.layout.parts[sum].part != QUERY_PART_SUM) {
        sum++;
    }
    for (size_t cell = 0; cell < asked.all.cells; cell++) {
        assert_true(cell == 0 || asked.all.keys[cell - 1] < asked.all.keys[cell]);
        const __int128 *at = asked.sums + cell * asked.layout.slots;
        double total =
            ldexp((double)at[asked.layout.offsets[sum]], asked.layout.coordinates[sum].grid_log2);
        assert_true(at[0] == 2);
        assert_true(total == 2.0 * (row_of_key(&asked.all, cell) % 50));
    }
    forget(&asked);
    ask(&home, schema, "SELECT u, v, COUNT(*) FROM t WHERE x > 49 GROUP BY u, v", 1, &asked);
    assert_true(asked.all.cells == 1 && asked.sums[0] == 0); /* nobody */
    forget(&asked);
    store_partition_close(partition);
    home_remove(&home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_questions),
        cmocka_unit_test(a_patient_alone_stays_within_the_charge),
        cmocka_unit_test(whole_tables_differ_by_one_share),
        cmocka_unit_test(neighbours_stay_within_the_charge),
        cmocka_unit_test(threads_add_up_the_same),
        cmocka_unit_test(stops_when_told_and_when_it_cannot),
        cmocka_unit_test(private_groups_are_those_that_rows_have),
    };
    return cmocka_run_group_tests(tests, make_encounters, free_encounters);
}
