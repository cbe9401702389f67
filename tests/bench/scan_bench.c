/* Our side of `make bench BENCH=scan`: imports the encounter table into a real sealed partition without a unit column and
 * answers the questions by query_execute, on one thread.
 *
 *     scan_bench CSV            with the table of `encounters CSV ROWS`; only the folder's disk is used
 *
 * Output, tab-separated, for bench.py: "size" bytes of the text and of the partition; "import" and "open" CPU ms; for each
 * question "time NAME best median" in CPU ms, from the SQL text to the exact sums and with the partition opened each time,
 * as a node does; "cell NAME group... count mean tolerance", where tolerance is half the grid, which rounding may cost. */
#include "config.h"
#include "tests/unit/store/dataset.h"

#include "node/query/execute.h"
#include "proto/privacy.h"
#include "proto/sql.h"
#include "tests/lib/encounters.h"

#include <inttypes.h>
#include <math.h>
#include <time.h>

#define RUNS 9

static const struct {
    const char *name;
    const char *sql;
} questions[] = {
    {"Q1", "SELECT count(*) FROM patients"},
    {"Q2", "SELECT avg(age) FROM patients WHERE diagnosis='E11.9'"},
    {"Q3", "SELECT sex, site, count(*), avg(cost) FROM patients GROUP BY sex, site"},
    {"Q4", "SELECT count(*) FROM patients WHERE age BETWEEN 50 AND 60 AND los_days > 7"},
    {"Q5", "SELECT diagnosis, count(*) AS n FROM patients GROUP BY diagnosis"},
};

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void give_up(const char *what, const struct err_info *info)
{
    fprintf(stderr, "scan_bench: %s: %s\n", what, info->text);
    exit(1);
}

struct asked {
    struct proto_query query;
    struct query_layout layout;
    __int128 *sums;
};

/* Everything between the text and the exact sums. */
static void answer(struct home *home, const struct proto_schema *schema, const char *sql,
                   struct asked *ret)
{
    struct err_info info = {0};
    memset(ret, 0, sizeof *ret);
    uint64_t rho = proto_privacy_rho_ceil_nano(1, 1e-6);
    if (proto_sql_parse(sql, &ret->query, &info) || proto_query_bind(&ret->query, schema, &info) ||
        query_layout_plan(&ret->query, &ret->layout, &info) ||
        privacy_mechanism_plan(rho, schema->max_rows_per_unit, ret->layout.coordinates,
                               ret->layout.count, &info)) {
        give_up(sql, &info);
    }
    ret->sums = calloc(ret->query.cells * ret->layout.count, sizeof *ret->sums);
    if (!ret->sums || query_execute(&home->store, "patients", &ret->query, &ret->layout, NULL, NULL,
                                    ret->sums, &info)) {
        give_up(sql, &info);
    }
}

static void forget(struct asked *asked)
{
    free(asked->sums);
    proto_query_fini(&asked->query);
}

/* Counts exactly; the mean from the centred sum. */
static void print_cells(const char *name, const struct asked *asked)
{
    const struct query_layout *layout = &asked->layout;
    for (size_t cell = 0; cell < asked->query.cells; cell++) {
        const __int128 *sums = asked->sums + cell * layout->count;
        double mean = 0;
        double tolerance = 0;
        for (size_t part = 0; part < layout->count; part++) {
            if (layout->parts[part].part == QUERY_PART_SUM) {
                int grid = layout->coordinates[part].grid_log2;
                mean =
                    layout->parts[part].centre + ldexp((double)sums[part], grid) / (double)sums[0];
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

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(struct home *home, const struct proto_schema *schema, const char *name,
                    const char *sql)
{
    double spent[RUNS];
    struct asked asked;
    for (int i = -1; i < RUNS; i++) { /* the first one warms up */
        double start = cpu_ms();
        answer(home, schema, sql, &asked);
        if (i >= 0) {
            spent[i] = cpu_ms() - start;
        }
        if (i == RUNS - 1) {
            print_cells(name, &asked);
        }
        forget(&asked);
    }
    qsort(spent, RUNS, sizeof *spent, by_size);
    printf("time\t%s\t%.3f\t%.3f\n", name, spent[0], spent[RUNS / 2]);
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
    struct store_import_report report;
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
    if (argc < 2) {
        fprintf(stderr, "usage: scan_bench ENCOUNTERS.csv [QUESTION [RUNS]]\n");
        return 2;
    }
    struct home home;
    struct err_info info = {0};
    struct store_partition *partition;
    home_open(&home);
    import(&home, argv[1]);
    double start = cpu_ms();
    if (store_partition_open(&home.store, "patients", &partition, &info)) {
        give_up("open", &info);
    }
    printf("open\t%.3f\n", cpu_ms() - start);
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) {
        /* With a question's name, that one only and many times, for a profiler. */
        int times =
            argc < 3
                ? 1
                : (strcmp(argv[2], questions[i].name) == 0 ? (argc > 3 ? atoi(argv[3]) : 20) : 0);
        while (times-- > 0) {
            measure(&home, store_partition_schema(partition), questions[i].name, questions[i].sql);
        }
    }
    store_partition_close(partition);
    home_remove(&home);
    return 0;
}
