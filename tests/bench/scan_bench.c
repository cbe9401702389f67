/* Our side of `make bench BENCH=scan` and BENCH=import: the encounter table in a real sealed partition without a unit column,
 * and the questions answered by query_execute.
 *
 *     scan_bench import HOME CSV            makes HOME, imports; "import" CPU ms, "size" bytes of the text and the partition
 *     scan_bench ask HOME [THREADS [Q]]     each question (or Q alone) warm: "time NAME best median" in CPU ms of all
 *                                           threads, "wall NAME best", "share NAME open unpack kernels cipher bytes"
 *     scan_bench cold HOME Q                one question in a fresh process, from opening the store: "time", "wall"
 *     scan_bench cells HOME                 "cell NAME group... count mean tolerance", where tolerance is half the grid
 *
 * Output is tab-separated. A time runs from the SQL text to the exact sums. Of a share: open is reading and decrypting the
 * values alone, unpack what a scan without an answer costs above that, kernels the rest; cipher is the time in which the
 * cipher alone opens as many bytes from memory, in pieces as large. THREADS 1 is the default. */
#include "config.h"
#include "tests/unit/store/dataset.h"

#include "node/query/execute.h"
#include "proto/privacy.h"
#include "proto/sql.h"
#include "store/crew.h"
#include "store/partition_file.h"
#include "tests/lib/encounters.h"

#include <inttypes.h>
#include <math.h>
#include <time.h>

#define RUNS 15

static const struct {
    const char *name;
    const char *sql;
    const char *columns[3]; /* that the question reads whole */
} questions[] = {
    {"Q1", "SELECT count(*) FROM patients", {NULL}},
    {"Q2", "SELECT avg(age) FROM patients WHERE diagnosis='E11.9'", {"diagnosis", "age"}},
    {"Q3",
     "SELECT sex, site, count(*), avg(cost) FROM patients GROUP BY sex, site",
     {"sex", "site", "cost"}},
    {"Q4",
     "SELECT count(*) FROM patients WHERE age BETWEEN 50 AND 60 AND los_days > 7",
     {"age", "los_days"}},
    {"Q5", "SELECT diagnosis, count(*) AS n FROM patients GROUP BY diagnosis", {"diagnosis"}},
};
#define QUESTIONS (sizeof questions / sizeof *questions)

static double ms_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double cpu_ms(void)
{
    return ms_of(CLOCK_PROCESS_CPUTIME_ID);
}

static void give_up(const char *what, const struct err_info *info)
{
    fprintf(stderr, "scan_bench: %s: %s\n", what, info->text);
    exit(1);
}

/* --- one answer ---------------------------------------------------------------------------- */

struct asked {
    struct proto_query query;
    struct query_layout layout;
    struct query_sums sums;
};

/* Everything between the text and the exact sums. */
static void answer(struct home *home, const struct proto_schema *schema, const char *sql,
                   struct asked *ret)
{
    struct err_info info = {0};
    memset(ret, 0, sizeof *ret);
    uint64_t rho = proto_privacy_rho_ceil_nano(1, 1e-6);
    if (proto_sql_parse(sql, &ret->query, &info) || proto_query_bind(&ret->query, schema, &info) ||
        query_layout_plan(&ret->query, &(struct query_limits){0, 0}, &ret->layout, &info) ||
        privacy_mechanism_plan_bounded(rho, &ret->layout.bounds, ret->layout.coordinates,
                                       ret->layout.count, &info) ||
        query_execute(&home->store, "patients", &ret->query, &ret->layout, NULL, NULL, &ret->sums,
                      &info)) {
        give_up(sql, &info);
    }
}

static void forget(struct asked *asked)
{
    query_sums_fini(&asked->sums);
    proto_query_fini(&asked->query);
}

/* Counts exactly; the mean from the centred sum. */
static void print_cells(const char *name, const struct asked *asked)
{
    const struct query_layout *layout = &asked->layout;
    for (size_t cell = 0; cell < asked->query.cells; cell++) {
        const __int128 *sums = asked->sums.sums + cell * layout->slots;
        double mean = 0;
        double tolerance = 0;
        for (size_t part = 0; part < layout->count; part++) {
            if (layout->parts[part].part == QUERY_PART_SUM) {
                int grid = layout->coordinates[part].grid_log2;
                mean = layout->parts[part].centre +
                       ldexp((double)sums[layout->offsets[part]], grid) / (double)sums[0];
                tolerance = ldexp(0.5, grid);
            }
        }
        printf("cell\t%s", name);
        for (size_t g = 0; g < asked->query.group_count; g++) {
            printf("\t%s", proto_query_cell_value(&asked->query, cell, g));
        }
        printf("\t%" PRId64 "\t%.10g\t%g\n", (int64_t)sums[0], mean, tolerance);
    }
}

/* --- where the time goes ------------------------------------------------------------------- */

static struct store_partition *open_table(struct home *home)
{
    struct store_partition *partition;
    struct err_info info = {0};
    if (store_partition_open(&home->store, "patients", &partition, &info)) {
        give_up("open", &info);
    }
    return partition;
}

/* Opens every value of the question's columns and looks at none; returns bytes, and pieces. */
static uint64_t open_values(const struct store_partition *partition, const char *const columns[3],
                            size_t *ret_pieces)
{
    struct err_info info = {0};
    struct crypto_opener *opener;
    struct buf plain = {.max = STORE_CHUNK_BYTES_MAX + 16384};
    MDB_txn *txn;
    uint64_t bytes = 0;
    *ret_pieces = 0;
    if (mdb_txn_begin(store_env_mdb(partition->env), NULL, MDB_RDONLY, &txn) ||
        crypto_opener_new(partition->dek, store_partition_context(), &opener)) {
        give_up("opening values", &info);
    }
    for (size_t i = 0; i < 3 && columns[i]; i++) {
        struct store_value_key key;
        store_partition_value_key(partition, STORE_PARTITION_CHUNK, columns[i], &key);
        for (uint32_t chunk = 0; chunk < partition->chunks; chunk++) {
            if (store_partition_read_at(partition, txn, opener, &key, chunk,
                                        (uint32_t)store_partition_chunk_rows(partition, chunk),
                                        &plain, &info)) {
                give_up("opening values", &info);
            }
            bytes += plain.len;
            ++*ret_pieces;
        }
    }
    crypto_opener_free(opener);
    mdb_txn_abort(txn);
    buf_fini(&plain);
    return bytes;
}

static enum err look_away(void *user, const struct store_batch *batch)
{
    *(size_t *)user += batch->selected_count;
    return E_OK;
}

/* The scan of a question whose rows nobody adds up. */
static void scan_only(struct store_partition *partition, const struct asked *asked,
                      const char *const columns[3])
{
    struct err_info info = {0};
    int numbers[3];
    size_t count = 0, rows = 0;
    const struct proto_schema *schema = store_partition_schema(partition);
    for (size_t i = 0; i < 3 && columns[i]; i++) {
        int number = proto_schema_find(schema, columns[i]);
        bool shown = strstr(asked->query.group_count ? "sex site diagnosis cost" : "age cost",
                            columns[i]) != NULL &&
                     (asked->query.group_count || asked->layout.count > 1);
        if (shown) {
            numbers[count++] = number;
        }
    }
    if (store_scan_with(partition, numbers, count, asked->query.where, false, NULL, look_away,
                        &rows, NULL, &info)) {
        give_up("scanning", &info);
    }
}

/* BYTES in PIECES, from memory that is warm. */
static double cipher_alone(uint64_t bytes, size_t pieces)
{
    static const uint8_t key[32] = {1}, nonce[12] = {2};
    size_t size = pieces ? (size_t)(bytes / pieces) : 0;
    uint8_t *cipher = calloc(1, size + 1), *plain = calloc(1, size + 1);
    uint8_t tag[16];
    double best = INFINITY;
    if (!cipher || !plain ||
        crypto_provider()->aead_seal(key, nonce, SPAN_NONE, span_of(plain, size), cipher, tag)) {
        exit(1);
    }
    for (int run = 0; run < RUNS; run++) {
        double start = cpu_ms();
        for (size_t i = 0; i < pieces; i++) {
            if (crypto_provider()->aead_open(key, nonce, SPAN_NONE, span_of(cipher, size), tag,
                                             plain)) {
                exit(1);
            }
        }
        best = fmin(best, cpu_ms() - start);
    }
    free(cipher);
    free(plain);
    return best;
}

static void print_share(struct home *home, size_t q, const struct asked *asked, double total)
{
    struct store_partition *partition = open_table(home);
    double opening = INFINITY, scanning = INFINITY;
    size_t pieces = 0;
    uint64_t bytes = 0;
    for (int run = 0; run < RUNS; run++) {
        double start = cpu_ms();
        bytes = open_values(partition, questions[q].columns, &pieces);
        double middle = cpu_ms();
        scan_only(partition, asked, questions[q].columns);
        opening = fmin(opening, middle - start);
        scanning = fmin(scanning, cpu_ms() - middle);
    }
    printf("share\t%s\t%.3f\t%.3f\t%.3f\t%.3f\t%" PRIu64 "\n", questions[q].name, opening,
           fmax(scanning - opening, 0), fmax(total - fmax(scanning, opening), 0),
           cipher_alone(bytes, pieces), bytes);
    store_partition_close(partition);
}

/* --- commands ------------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(struct home *home, const struct proto_schema *schema, size_t q, bool share)
{
    double spent[RUNS];
    double wall = INFINITY;
    struct asked asked;
    for (int i = -1; i < RUNS; i++) { /* the first one warms up */
        double start = cpu_ms();
        double began = ms_of(CLOCK_MONOTONIC);
        answer(home, schema, questions[q].sql, &asked);
        if (i >= 0) {
            spent[i] = cpu_ms() - start;
            wall = fmin(wall, ms_of(CLOCK_MONOTONIC) - began);
        }
        if (i < RUNS - 1) {
            forget(&asked);
        }
    }
    qsort(spent, RUNS, sizeof *spent, by_size);
    printf("time\t%s\t%.3f\t%.3f\nwall\t%s\t%.3f\n", questions[q].name, spent[0], spent[RUNS / 2],
           questions[q].name, wall);
    if (share) {
        print_share(home, q, &asked, spent[0]);
    }
    forget(&asked);
}

static void ask(struct home *home, size_t threads, const char *only)
{
    store_crew_limit(threads);
    struct store_partition *partition = open_table(home);
    for (size_t q = 0; q < QUESTIONS; q++) {
        if (!only || strcmp(only, questions[q].name) == 0) {
            measure(home, store_partition_schema(partition), q, threads == 1);
        }
    }
    store_partition_close(partition);
}

static void cold(struct home *home, const char *only, double start, double began)
{
    store_crew_limit(1);
    for (size_t q = 0; q < QUESTIONS; q++) {
        if (strcmp(only, questions[q].name) == 0) {
            struct asked asked;
            struct store_partition *partition = open_table(home);
            answer(home, store_partition_schema(partition), questions[q].sql, &asked);
            printf("time\t%s\t%.3f\nwall\t%s\t%.3f\n", only, cpu_ms() - start, only,
                   ms_of(CLOCK_MONOTONIC) - began);
            forget(&asked);
            store_partition_close(partition);
        }
    }
}

static void cells(struct home *home)
{
    struct store_partition *partition = open_table(home);
    for (size_t q = 0; q < QUESTIONS; q++) {
        struct asked asked;
        answer(home, store_partition_schema(partition), questions[q].sql, &asked);
        print_cells(questions[q].name, &asked);
        forget(&asked);
    }
    store_partition_close(partition);
}

static void import(struct home *home, const char *csv)
{
    static struct encounters names; /* its lists of values */
    static const char *sexes[] = {"F", "M"};
    struct err_info info = {0};
    encounters_init(&names, 0, 1, 0);
    struct proto_column columns[] = {
        {.name = "patient_id",
         .type = PROTO_COLUMN_INTEGER,
         .has_bounds = true,
         .min = 1,
         .max = 1e7},
        {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 110},
        {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 2},
        {.name = "site",
         .type = PROTO_COLUMN_CATEGORY,
         .values = names.sites,
         .value_count = ENCOUNTERS_SITES},
        {.name = "diagnosis",
         .type = PROTO_COLUMN_CATEGORY,
         .values = names.diagnoses,
         .value_count = names.diagnosis_count},
        {.name = "admit_date",
         .type = PROTO_COLUMN_DATE,
         .has_bounds = true,
         .min = 16000,
         .max = 21000},
        {.name = "los_days", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 120},
        {.name = "cost", .type = PROTO_COLUMN_REAL, .has_bounds = true, .max = 1e6},
    };
    struct proto_manifest manifest;
    manifest_init(&manifest, "patients", columns, sizeof columns / sizeof *columns, "");
    struct store_import_options options = {.data_path = csv};
    static struct store_import_report report;
    enum err err = proto_manifest_check(&manifest, &info);
    double start = cpu_ms();
    if (err || store_import_run(&home->store, &manifest, &options, &report, &info)) {
        give_up("import", &info);
    }
    printf("import\t%.0f\nsize\t%" PRIu64 "\t%" PRIu64 "\nrows\t%" PRIu64 "\n", cpu_ms() - start,
           report.bytes_raw, report.bytes_stored, report.rows);
    proto_manifest_fini(&manifest);
}

int main(int argc, char **argv)
{
    double start = cpu_ms();
    double began = ms_of(CLOCK_MONOTONIC);
    struct home home = {0};
    struct err_info info = {0};
    if (argc < 3 || strlen(argv[2]) >= sizeof home.path) {
        fprintf(stderr, "usage: scan_bench import HOME CSV | ask HOME [THREADS [QUESTION]] | "
                        "cold HOME QUESTION | cells HOME\n");
        return 2;
    }
    snprintf(home.path, sizeof home.path, "%s", argv[2]);
    if (strcmp(argv[1], "import") == 0) {
        (void)mkdir(home.path, 0700);
    }
    if (crypto_init(&info) || home_attach(&home, &info)) {
        give_up("home", &info);
    }
    if (strcmp(argv[1], "import") == 0 && argc > 3) {
        import(&home, argv[3]);
    } else if (strcmp(argv[1], "ask") == 0) {
        ask(&home, argc > 3 ? (size_t)atoi(argv[3]) : 1, argc > 4 ? argv[4] : NULL);
    } else if (strcmp(argv[1], "cold") == 0 && argc > 3) {
        cold(&home, argv[3], start, began);
    } else if (strcmp(argv[1], "cells") == 0) {
        cells(&home);
    }
    home_detach(&home);
    return 0;
}
