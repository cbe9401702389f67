/* Import and scan rates of the encounter table (generator of `make bench`). Usage: scan_bench FILE.csv */
#include "config.h"
#include "tests/unit/store/dataset.h"

#include <inttypes.h>
#include <time.h>

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

struct sums {
    uint64_t count;
    uint64_t cells[64];
    uint64_t sum[64];
};

static enum err q2(void *user, const struct store_batch *batch)
{
    struct sums *sums = user;
    const uint32_t *age = batch->columns[0].code;
    sums->count += batch->selected_count;
    uint64_t sum = 0;
    for (size_t w = 0; w < (batch->rows + 63) / 64; w++) {
        for (uint64_t bits = batch->selected[w]; bits; bits &= bits - 1) {
            sum += age[w * 64 + (size_t)__builtin_ctzll(bits)];
        }
    }
    sums->sum[0] += sum + (uint64_t)batch->columns[0].base * batch->selected_count;
    return E_OK;
}

static enum err q3(void *user, const struct store_batch *batch)
{
    struct sums *sums = user;
    const uint32_t *sex = batch->columns[0].code;
    const uint32_t *site = batch->columns[1].code;
    const uint32_t *cost = batch->columns[2].code;
    for (size_t i = 0; i < batch->rows; i++) {
        uint32_t cell = (sex[i] * 32 + site[i]) & 63;
        sums->cells[cell]++;
        sums->sum[cell] += cost[i];
    }
    sums->count += batch->rows;
    return E_OK;
}

static enum err q4(void *user, const struct store_batch *batch)
{
    ((struct sums *)user)->count += batch->selected_count;
    return E_OK;
}

static void run(struct store_partition *partition, const char *name, const int *columns,
                size_t count, const struct proto_predicate *where, store_scan_fn *fn)
{
    double best = 1e9;
    struct sums sums;
    struct store_scan_stats stats = {0};
    for (int i = 0; i < 5; i++) {
        struct err_info info = {0};
        memset(&sums, 0, sizeof sums);
        double start = cpu_ms();
        if (store_scan_with(partition, columns, count, where, false, NULL, fn, &sums, &stats,
                            &info)) {
            fprintf(stderr, "%s\n", info.text);
            exit(1);
        }
        double spent = cpu_ms() - start;
        best = spent < best ? spent : best;
    }
    printf("%s %.2f ms CPU, %" PRIu64 " rows, %" PRIu64 " values and %.2f MB opened, sum %" PRIu64
           "\n",
           name, best, sums.count, stats.values_opened, (double)stats.bytes_opened / 1e6,
           sums.sum[0]);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: scan_bench ENCOUNTERS.csv\n");
        return 2;
    }
    static char names[520][8];
    static const char *diagnoses[520];
    static char site_names[20][8];
    static const char *sites[20];
    for (int i = 0; i < 20; i++) {
        snprintf(site_names[i], sizeof site_names[i], "site%02d", i);
        sites[i] = site_names[i];
    }
    for (int i = 0; i < 500; i++) { /* as the generator names them */
        int j = (i * 7 + 11) % 2600;
        snprintf(names[i], sizeof names[i], "%c%02d.%d", 'A' + (j * 3 + i / 97) % 26, i * 37 % 100,
                 i % 10);
        diagnoses[i] = i == 4 ? "E11.9" : names[i];
    }
    size_t distinct = 0;
    for (size_t i = 0; i < 500; i++) {
        bool seen = false;
        for (size_t j = 0; j < distinct; j++) {
            seen = seen || strcmp(diagnoses[j], diagnoses[i]) == 0;
        }
        if (!seen) {
            diagnoses[distinct++] = diagnoses[i];
        }
    }
    static const char *sexes[] = {"F", "M"};
    struct proto_column columns[] = {
        {.name = "patient_id", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM},
        {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 110},
        {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 2},
        {.name = "site", .type = PROTO_COLUMN_CATEGORY, .values = sites, .value_count = 20},
        {.name = "diagnosis",
         .type = PROTO_COLUMN_CATEGORY,
         .values = diagnoses,
         .value_count = distinct},
        {.name = "admit_date", .type = PROTO_COLUMN_DATE},
        {.name = "los_days", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 120},
        {.name = "cost", .type = PROTO_COLUMN_REAL, .has_bounds = true, .max = 1e6},
    };
    struct home home;
    home_open(&home);
    struct proto_manifest manifest;
    manifest_init(&manifest, "encounters", columns, 8, "patient_id");
    struct store_import_options options = {.data_path = argv[1]};
    struct store_import_report report;
    struct err_info info = {0};
    double start = cpu_ms();
    if (store_import_run(&home.store, &manifest, &options, &report, &info)) {
        fprintf(stderr, "%s\n", info.text);
        home_remove(&home);
        return 1;
    }
    printf("import %.0f ms CPU, %" PRIu64 " rows, %" PRIu64 " units, %.2f MB -> %.2f MB\n",
           cpu_ms() - start, report.rows, report.units, (double)report.bytes_raw / 1e6,
           (double)report.bytes_stored / 1e6);
    struct store_partition *partition;
    start = cpu_ms();
    if (store_partition_open(&home.store, "encounters", &partition, &info)) {
        fprintf(stderr, "%s\n", info.text);
        home_remove(&home);
        return 1;
    }
    printf("open %.2f ms CPU\n", cpu_ms() - start);
    int32_t code = proto_column_code(&columns[4], "E11.9");
    struct proto_predicate is_e119 = {.op = PROTO_OP_IN, .column = 4, .codes = &code, .count = 1};
    double fifty = 50, sixty = 60, seven = 8;
    struct proto_predicate a = {.op = PROTO_OP_GE, .column = 1, .numbers = &fifty, .count = 1};
    struct proto_predicate b = {.op = PROTO_OP_LE, .column = 1, .numbers = &sixty, .count = 1};
    struct proto_predicate c = {.op = PROTO_OP_GE, .column = 6, .numbers = &seven, .count = 1};
    struct proto_predicate ab = {.op = PROTO_OP_AND, .left = &a, .right = &b};
    struct proto_predicate abc = {.op = PROTO_OP_AND, .left = &ab, .right = &c};
    run(partition, "Q2", (int[]){1}, 1, &is_e119, q2);
    run(partition, "Q3", (int[]){2, 3, 7}, 3, NULL, q3);
    run(partition, "Q4", NULL, 0, &abc, q4);
    store_partition_close(partition);
    home_remove(&home);
    return 0;
}
