/* Import, scan and the ways in which a partition may be damaged. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/lib/seed.h"
#include "tests/unit/store/dataset.h"

#define ROWS 70000 /* two chunks */

static struct seed seed;

/* --- a table of every type ----------------------------------------------------------------- */

static const char *colours[] = {"red", "green", "blue", "black", "white"};

enum {
    PATIENT,
    AGE,
    COLOUR,
    SMOKER,
    SEEN,
    LEVEL,
    RAW,
    NOTE,
    CHAPTER,
    SECRET,
    COLUMNS
};

static struct proto_column columns[COLUMNS] = {
    {.name = "patient", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM},
    {.name = "age",
     .type = PROTO_COLUMN_INTEGER,
     .has_bounds = true,
     .max = 110,
     .deidentify = PROTO_DEID_AGE90},
    {.name = "colour", .type = PROTO_COLUMN_CATEGORY, .values = colours, .value_count = 5},
    {.name = "smoker", .type = PROTO_COLUMN_BOOLEAN},
    {.name = "seen", .type = PROTO_COLUMN_DATE, .deidentify = PROTO_DEID_YEAR},
    {.name = "level",
     .type = PROTO_COLUMN_REAL,
     .has_bounds = true,
     .max = 100,
     .source = "level "},
    {.name = "raw", .type = PROTO_COLUMN_REAL, .has_bounds = true, .max = 100},
    {.name = "note", .type = PROTO_COLUMN_TEXT},
    {.name = "chapter", .type = PROTO_COLUMN_CATEGORY, .values_private = true},
    {.name = "secret", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_DROP},
};

/* What must be stored; NaN: missing. Codes as numbers. */
static double truth[ROWS][COLUMNS];

static void make_table(const char *path, size_t rows, unsigned sorted)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("secret,chapter,note,raw,level,seen,smoker,colour,age,patient\n", file);
    for (size_t i = 0; i < rows; i++) {
        double *t = truth[i];
        unsigned patient = (unsigned)seed_below(&seed, 5000);
        int age = sorted ? (int)(i * 100 / rows) : (int)seed_below(&seed, 105);
        unsigned colour = (unsigned)seed_below(&seed, 5);
        unsigned year = 1990 + (unsigned)seed_below(&seed, 30);
        unsigned level = (unsigned)seed_below(&seed, 10000);
        double raw = (double)seed_next(&seed) / 3e17;
        char age_text[16], colour_text[16], level_text[16];
        t[AGE] = age > 90 ? 90 : age;
        t[COLOUR] = colour;
        t[SMOKER] = (double)seed_below(&seed, 2);
        t[SEEN] = year;
        t[LEVEL] = level / 100.0;
        t[RAW] = raw;
        t[CHAPTER] = (double)(colour % 3);
        snprintf(age_text, sizeof age_text, "%d", age);
        snprintf(colour_text, sizeof colour_text, "%s", colours[colour]);
        snprintf(level_text, sizeof level_text, "%u.%02u", level / 100, level % 100);
        if (seed_below(&seed, 10) == 0) {
            t[AGE] = NAN;
            age_text[0] = 0;
        }
        if (seed_below(&seed, 20) == 0) {
            t[COLOUR] = NAN;
            colour_text[0] = 0;
        }
        if (i < STORE_CHUNK_ROWS && seed_below(&seed, 20) == 0) {
            t[LEVEL] = NAN;
            level_text[0] = 0;
        }
        fprintf(file,
                "PLANTED-SECRET-%zu,PLANTED-CHAPTER-%u,PLANTED-NOTE-%zu,%.17g,%s,%u-03-04,%s,%s,%s,"
                "PLANTED-PATIENT-%u\n",
                i, colour % 3, i, raw, level_text, year, t[SMOKER] > 0 ? "yes" : "no", colour_text,
                age_text, patient);
    }
    assert_int_equal(fclose(file), 0);
}

static enum err import(struct home *home, const char *dataset, const char *path, size_t count,
                       struct store_import_options options, struct store_import_report *report,
                       struct err_info *info)
{
    struct proto_manifest manifest;
    manifest_init(&manifest, dataset, columns, count, "patient");
    options.data_path = path;
    return store_import_run(&home->store, &manifest, &options, report, info);
}

/* --- naive evaluation ---------------------------------------------------------------------- */

static const int kinds[] = {AGE, COLOUR, SMOKER, SEEN, LEVEL, RAW};

static bool naive(const struct proto_predicate *p, const double *row)
{
    switch (p->op) {
    case PROTO_OP_TRUE:
        return true;
    case PROTO_OP_FALSE:
        return false;
    case PROTO_OP_AND:
        return naive(p->left, row) && naive(p->right, row);
    case PROTO_OP_OR:
        return naive(p->left, row) || naive(p->right, row);
    default:
        break;
    }
    double x = row[p->column];
    if (p->op == PROTO_OP_IS_NULL || isnan(x)) {
        return p->op == PROTO_OP_IS_NULL && isnan(x);
    }
    bool in = false;
    for (size_t i = 0; i < p->count; i++) {
        in = in || (p->codes ? x == p->codes[i] : x == p->numbers[i]);
    }
    switch (p->op) {
    case PROTO_OP_IS_NOT_NULL:
        return true;
    case PROTO_OP_EQ:
    case PROTO_OP_IN:
        return in;
    case PROTO_OP_NE:
    case PROTO_OP_NOT_IN:
        return !in;
    case PROTO_OP_LT:
        return x < p->numbers[0];
    case PROTO_OP_LE:
        return x <= p->numbers[0];
    case PROTO_OP_GT:
        return x > p->numbers[0];
    default:
        return x >= p->numbers[0];
    }
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct proto_predicate *random_predicate(struct arena *arena, unsigned depth)
{
    struct proto_predicate *p = arena_alloc(arena, 1, sizeof *p);
    assert_non_null(p);
    if (depth && seed_below(&seed, 10) < 7) {
        p->op = seed_below(&seed, 2) ? PROTO_OP_AND : PROTO_OP_OR;
        p->left = random_predicate(arena, depth - 1);
        p->right = random_predicate(arena, depth - 1);
        return p;
    }
    p->column = kinds[seed_below(&seed, 6)];
    unsigned roll = (unsigned)seed_below(&seed, 12);
    if (roll < 2) {
        p->op = roll ? PROTO_OP_IS_NULL : PROTO_OP_IS_NOT_NULL;
        return p;
    }
    if (p->column == COLOUR || p->column == SMOKER) {
        p->op = PROTO_OP_IN;
        p->codes = arena_alloc(arena, 5, sizeof *p->codes);
        for (int32_t code = 0; code < (p->column == COLOUR ? 5 : 2); code++) {
            if (seed_below(&seed, 2) || (p->count == 0 && code)) {
                p->codes[p->count++] = code;
            }
        }
        return p;
    }
    static const enum proto_op ops[] = {PROTO_OP_EQ, PROTO_OP_NE, PROTO_OP_LT, PROTO_OP_LE,
                                        PROTO_OP_GT, PROTO_OP_GE, PROTO_OP_IN, PROTO_OP_NOT_IN};
    p->op = ops[seed_below(&seed, 8)];
    bool list = p->op == PROTO_OP_IN || p->op == PROTO_OP_NOT_IN;
    size_t count = list ? 2 + seed_below(&seed, 30) : 1;
    p->numbers = arena_alloc(arena, count, sizeof *p->numbers);
    while (p->count < count) {
        double x = truth[seed_below(&seed, ROWS)][p->column]; /* often a value that is there */
        x = isnan(x) ? -1 : x;
        p->numbers[p->count++] = seed_below(&seed, 4) ? x : x + 0.005;
    }
    qsort(p->numbers, p->count, sizeof *p->numbers, by_number);
    return p;
}

struct check {
    const struct proto_predicate *where;
    uint64_t rows;
    uint32_t *unit; /* by row, once seen */
};

static const int all[] = {AGE, COLOUR, SMOKER, SEEN, LEVEL, RAW};

static enum err check_batch(void *user, const struct store_batch *batch)
{
    struct check *check = user;
    for (size_t r = 0; r < batch->rows; r++) {
        const double *row = truth[batch->first_row + r];
        bool want = !check->where || naive(check->where, row);
        assert_int_equal(store_batch_selected(batch, r), want);
        check->rows += want;
        for (size_t i = 0; i < 6; i++) {
            bool missing = isnan(row[all[i]]);
            assert_int_equal(store_batch_missing(batch, i, r), missing);
            assert_true(missing || store_batch_number(batch, i, r) == row[all[i]]);
        }
        assert_true(batch->unit[r] < 5000);
        if (check->unit) {
            check->unit[batch->first_row + r] = batch->unit[r];
        }
    }
    return E_OK;
}

static uint64_t naive_count(const struct proto_predicate *where)
{
    uint64_t count = 0;
    for (size_t i = 0; i < ROWS; i++) {
        count += naive(where, truth[i]);
    }
    return count;
}

static void random_predicates_agree(void **state)
{
    (void)state;
    struct home home;
    home_open(&home);
    char csv[96];
    snprintf(csv, sizeof csv, "%s/t.csv", home.path);
    for (unsigned sorted = 0; sorted < 2; sorted++) {
        make_table(csv, ROWS, sorted);
        struct store_import_report report;
        struct err_info info = {0};
        assert_int_equal(
            import(&home, "t", csv, COLUMNS, (struct store_import_options){0}, &report, &info),
            E_OK);
        assert_int_equal(report.rows, ROWS);
        struct store_partition *partition;
        assert_int_equal(store_partition_open(&home.store, "t", &partition, &info), E_OK);
        assert_int_equal(store_partition_rows(partition), ROWS);
        assert_int_equal(report.units <= store_partition_units(partition), 1);
        uint64_t skipped = 0;
        for (unsigned i = 0; i < 110; i++) {
            struct arena arena = {0};
            struct check check = {.where = i ? random_predicate(&arena, i % 5) : NULL};
            struct store_scan_stats stats;
            assert_int_equal(store_scan_with(partition, all, 6, check.where, true, NULL,
                                             check_batch, &check, &stats, &info),
                             E_OK);
            assert_int_equal(check.rows, i ? naive_count(check.where) : ROWS);
            skipped += stats.chunks_skipped;
            arena_fini(&arena);
        }
        assert_true(skipped > 0);
        store_partition_close(partition);
    }
    home_remove(&home);
}

/* --- flchain against another parser -------------------------------------------------------- */

struct flchain {
    double age[8000], kappa[8000], creatinine[8000];
    char sex[8000];
    size_t rows;
    size_t checked;
};

static void read_flchain(const char *path, struct flchain *to)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char line[512];
    assert_non_null(fgets(line, sizeof line, file));
    while (fgets(line, sizeof line, file)) {
        char *cells[16] = {NULL};
        char *rest = line;
        for (size_t i = 0; i < 11; i++) {
            cells[i] = strsep(&rest, ",\r\n");
        }
        size_t i = to->rows++;
        to->age[i] = atoi(cells[0]) > 90 ? 90 : atoi(cells[0]);
        to->sex[i] = cells[1][0];
        to->kappa[i] = atof(cells[3]);
        bool missing = !cells[6][0] || strcmp(cells[6], "NA") == 0;
        to->creatinine[i] = missing ? NAN : atof(cells[6]);
    }
    fclose(file);
}

static enum err check_flchain(void *user, const struct store_batch *batch)
{
    struct flchain *want = user;
    for (size_t r = 0; r < batch->rows; r++) {
        size_t i = batch->first_row + r;
        assert_true(store_batch_number(batch, 0, r) == want->age[i]);
        assert_int_equal(batch->columns[1].code[r], want->sex[i] == 'M');
        assert_true(store_batch_number(batch, 2, r) == want->kappa[i]);
        assert_int_equal(store_batch_missing(batch, 3, r), isnan(want->creatinine[i]));
        assert_true(isnan(want->creatinine[i]) ||
                    store_batch_number(batch, 3, r) == want->creatinine[i]);
        assert_int_equal(batch->unit[r], i);
        want->checked++;
    }
    return E_OK;
}

static void flchain_is_stored_value_by_value(void **state)
{
    (void)state;
    const char *top = getenv("top_srcdir");
    char path[512];
    snprintf(path, sizeof path, "%s/deploy/demo/data/flchain.csv", top ? top : ".");
    if (access(path, R_OK) != 0) {
        snprintf(path, sizeof path, "%s/tests/vectors/data/flchain.csv", top ? top : ".");
    }
    static struct flchain want;
    read_flchain(path, &want);
    assert_int_equal(want.rows, 7874);
    static const char *sexes[] = {"F", "M"};
    static const char *missing[] = {"", "NA"};
    struct proto_column declared[] = {
        {.name = "age",
         .type = PROTO_COLUMN_INTEGER,
         .has_bounds = true,
         .max = 110,
         .deidentify = PROTO_DEID_AGE90},
        {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 2},
        {.name = "kappa", .type = PROTO_COLUMN_REAL, .has_bounds = true, .max = 25},
        {.name = "creatinine",
         .type = PROTO_COLUMN_REAL,
         .has_bounds = true,
         .max = 15,
         .missing = missing,
         .missing_count = 2},
    };
    struct home home;
    home_open(&home);
    struct proto_manifest manifest;
    manifest_init(&manifest, "flchain", declared, 4, "");
    struct store_import_options options = {.data_path = path};
    struct store_import_report report;
    struct err_info info = {0};
    assert_int_equal(store_import_run(&home.store, &manifest, &options, &report, &info), E_OK);
    struct store_partition *partition;
    assert_int_equal(store_partition_open(&home.store, "flchain", &partition, &info), E_OK);
    assert_int_equal(
        store_scan(partition, (int[]){0, 1, 2, 3}, 4, NULL, NULL, check_flchain, &want, &info),
        E_OK);
    assert_int_equal(want.checked, 7874);
    store_partition_close(partition);
    home_remove(&home);
}

/* --- rejects ------------------------------------------------------------------------------- */

static void rejects_say_where_and_why_but_not_what(void **state)
{
    (void)state;
    struct home home;
    home_open(&home);
    char csv[96];
    snprintf(csv, sizeof csv, "%s/r.csv", home.path);
    static const char text[] = "patient,age,colour,smoker\n"
                               "p1,17,red,true\n"
                               "p2,PLANTED,red,true\n"
                               ",17,red,true\n"
                               "p3,17,PLANTED,true\n"
                               "p4,17\n"
                               "p5,500,blue,no\n";
    write_file(csv, text, sizeof text - 1);
    struct store_import_report report;
    struct err_info info = {0};
    assert_int_equal(
        import(&home, "r", csv, 4, (struct store_import_options){.max_rejects = 3}, &report, &info),
        E_INVALID);
    assert_null(strstr(info.text, "PLANTED"));
    assert_non_null(strstr(info.text, "line 3, column age"));
    assert_int_equal(report.rejected, 4);
    struct store_partition *partition;
    assert_int_equal(store_partition_open(&home.store, "r", &partition, &info), E_NOT_FOUND);
    assert_int_equal(import(&home, "r", csv, 4,
                            (struct store_import_options){.max_rejects = 4, .dry_run = true},
                            &report, &info),
                     E_OK);
    assert_int_equal(store_partition_open(&home.store, "r", &partition, &info), E_NOT_FOUND);
    assert_int_equal(
        import(&home, "r", csv, 4, (struct store_import_options){.max_rejects = 4}, &report, &info),
        E_OK);
    assert_int_equal(report.rows, 2); /* 500 is out of bounds, which queries clamp */
    static const struct {
        uint64_t line;
        const char *column;
    } want[] = {{3, "age"}, {4, "patient"}, {5, "colour"}, {6, ""}};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(report.rejects[i].line, want[i].line);
        assert_string_equal(report.rejects[i].column, want[i].column);
        assert_null(strstr(report.rejects[i].reason, "PLANTED"));
    }
    write_file(csv, "patient,colour,smoker\np,red,no\n", 31);
    assert_int_equal(import(&home, "r", csv, 4, (struct store_import_options){0}, &report, &info),
                     E_SCHEMA);
    home_remove(&home);
}

/* --- pseudonyms ---------------------------------------------------------------------------- */

static void later_imports_keep_pseudonyms(void **state)
{
    (void)state;
    struct home home;
    home_open(&home);
    char csv[96];
    snprintf(csv, sizeof csv, "%s/t.csv", home.path);
    static uint32_t first[ROWS], second[ROWS];
    struct store_import_report report;
    struct err_info info = {0};
    make_table(csv, ROWS, 0);
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(
            import(&home, "t", csv, COLUMNS, (struct store_import_options){0}, &report, &info),
            E_OK);
        struct store_partition *partition;
        assert_int_equal(store_partition_open(&home.store, "t", &partition, &info), E_OK);
        struct check check = {.unit = round ? second : first};
        assert_int_equal(store_scan(partition, all, 6, NULL, NULL, check_batch, &check, &info),
                         E_OK);
        assert_string_equal(store_partition_value(partition, 8, (uint32_t)0) ? "yes" : "no", "yes");
        store_partition_close(partition);
        home_detach(&home); /* the table must come back from the disk */
        assert_int_equal(home_attach(&home, &info), E_OK);
    }
    assert_memory_equal(first, second, sizeof first);
    assert_int_equal(store_import_remove(&home.store, "t", &info), E_OK);
    assert_int_equal(store_import_remove(&home.store, "t", &info), E_NOT_FOUND);
    assert_int_equal(
        import(&home, "t", csv, COLUMNS, (struct store_import_options){0}, &report, &info), E_OK);
    home_remove(&home);
}

/* --- damage -------------------------------------------------------------------------------- */

/* Opens and scans everything; what comes out, if anything, was checked against the truth. */
static enum err read_everything(struct home *home, struct err_info *info)
{
    struct store_partition *partition;
    enum err err = store_partition_open(&home->store, "t", &partition, info);
    if (!err) {
        struct check check = {0};
        err = store_scan(partition, all, 6, NULL, NULL, check_batch, &check, info);
        store_partition_close(partition);
    }
    return err;
}

static bool refused(enum err err)
{
    return err == E_CORRUPT || err == E_AUTH || err == E_ROLLBACK;
}

static void damage_is_refused_and_named(void **state)
{
    (void)state;
    struct home home;
    home_open(&home);
    char csv[96], path[160], older[160];
    snprintf(csv, sizeof csv, "%s/t.csv", home.path);
    make_table(csv, ROWS, 0);
    struct store_import_report report;
    struct err_info info = {0};
    struct store_import_options none = {0};
    assert_int_equal(import(&home, "t", csv, COLUMNS, none, &report, &info), E_OK);
    partition_path(&home, report.partition_uuid, older);
    size_t old_len, len;
    uint8_t *old = slurp(older, &old_len);
    assert_int_equal(import(&home, "t", csv, COLUMNS, none, &report, &info), E_OK);
    assert_int_equal(access(older, F_OK), -1);
    partition_path(&home, report.partition_uuid, path);
    uint8_t *good = slurp(path, &len);
    assert_int_equal(read_everything(&home, &info), E_OK);

    write_file(path, old, old_len); /* an older, genuine file under the newer name */
    assert_int_equal(read_everything(&home, &info), E_ROLLBACK);
    assert_non_null(strstr(info.text, "dataset t, file "));

    unsigned caught = 0;
    for (unsigned i = 0; i < 150; i++) {
        size_t at = seed_below(&seed, i % 3 ? len : 40960); /* a third near the tree's root */
        uint8_t flip = (uint8_t)(1 << seed_below(&seed, 8));
        good[at] ^= flip;
        write_file(path, good, len);
        good[at] ^= flip;
        enum err err = read_everything(&home, &info);
        assert_true(!err || (refused(err) && strstr(info.text, "dataset t, file ")));
        caught += err != E_OK;
    }
    /* Text and dictionary columns are not read here, nor is the end of small pages; most flips hit. */
    assert_true(caught > 100);

    for (unsigned i = 0; i < 20; i++) {
        write_file(path, good, i ? seed_below(&seed, len) : 0);
        assert_true(refused(read_everything(&home, &info)));
    }
    /* Two pages that begin values of the same length change places, tags and all. */
    for (size_t page = 4096 * 4; page + 8 * 4096 < len; page += 4096 * 8) {
        uint8_t *swapped = malloc(len);
        assert_non_null(swapped);
        memcpy(swapped, good, len);
        memcpy(swapped + page, good + page + 4 * 4096, 4096);
        memcpy(swapped + page + 4 * 4096, good + page, 4096);
        write_file(path, swapped, len);
        free(swapped);
        enum err err = read_everything(&home, &info);
        assert_true(!err || refused(err));
    }
    write_file(path, good, len);
    assert_int_equal(read_everything(&home, &info), E_OK);
    free(good);
    free(old);
    home_remove(&home);
}

static void no_planted_value_is_on_disk(void **state)
{
    (void)state;
    struct home home;
    home_open(&home);
    char csv[96], path[160], node[96];
    snprintf(csv, sizeof csv, "%s/t.csv", home.path);
    make_table(csv, 3000, 0);
    struct store_import_report report;
    struct err_info info = {0};
    assert_int_equal(
        import(&home, "t", csv, COLUMNS, (struct store_import_options){0}, &report, &info), E_OK);
    partition_path(&home, report.partition_uuid, path);
    snprintf(node, sizeof node, "%s/node.mdb", home.path);
    const char *files[] = {path, node};
    for (size_t f = 0; f < 2; f++) {
        size_t len;
        uint8_t *bytes = slurp(files[f], &len);
        assert_non_null(bytes);
        assert_null(memmem(bytes, len, "PLANTED", 7));
        assert_null(memmem(bytes, len, "patient", 7));
        for (size_t i = 0; i < 100; i++) {
            assert_null(memmem(bytes, len, &truth[i][RAW], 8));
        }
        free(bytes);
    }
    home_remove(&home);
}

/* --- crashes and full disks ---------------------------------------------------------------- */

static int crash_after;

static void maybe_crash(void *user, uint64_t done, uint64_t total, uint64_t rows)
{
    (void)user, (void)done, (void)total, (void)rows;
    if (crash_after-- == 0) {
        _exit(9); /* no cleanup: as if killed */
    }
}

static size_t count_files(const struct home *home)
{
    char command[160];
    snprintf(command, sizeof command, "ls %s/partitions | wc -l", home->path);
    FILE *pipe = popen(command, "r");
    unsigned count = 0;
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%u", &count), 1);
    pclose(pipe);
    return count;
}

static void child_import(struct home *home, const char *csv, bool small_files)
{
    struct store_import_report report;
    struct err_info info = {0};
    if (home_attach(home, &info)) {
        _exit(3);
    }
    if (small_files) {
        struct rlimit limit = {600000, 600000};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit)) {
            _exit(4);
        }
    }
    struct store_import_options options = {.progress = maybe_crash};
    enum err err = import(home, "t", csv, COLUMNS, options, &report, &info);
    _exit(err == E_DISK_FULL ? 7 : err ? 5 : 0);
}

static int run_child(struct home *home, const char *csv, bool small_files)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        child_import(home, csv, small_files);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void crashes_leave_the_earlier_or_the_new_state(void **state)
{
    (void)state;
    struct home home;
    home_open(&home);
    char csv[96];
    snprintf(csv, sizeof csv, "%s/t.csv", home.path);
    make_table(csv, ROWS, 0);
    struct store_import_report report;
    struct err_info info = {0};
    assert_int_equal(
        import(&home, "t", csv, COLUMNS, (struct store_import_options){0}, &report, &info), E_OK);
    home_detach(&home);
    unsigned crashed = 0;
    for (int point = 0; point < 20; point++) {
        crash_after = point;
        int code = run_child(&home, csv, false);
        assert_true(code == 9 || code == 0);
        crashed += code == 9;
        assert_int_equal(home_attach(&home, &info), E_OK);
        assert_int_equal(count_files(&home), 1);
        assert_int_equal(read_everything(&home, &info), E_OK);
        home_detach(&home);
        if (code == 0) {
            break;
        }
    }
    assert_true(crashed >= 5);
    crash_after = -1;
    assert_int_equal(run_child(&home, csv, true), 7);
    assert_int_equal(home_attach(&home, &info), E_OK);
    assert_int_equal(count_files(&home), 1);
    assert_int_equal(read_everything(&home, &info), E_OK);
    home_remove(&home);
}

int main(void)
{
    seed = seed_of(seed_number(12));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flchain_is_stored_value_by_value),
        cmocka_unit_test(random_predicates_agree),
        cmocka_unit_test(rejects_say_where_and_why_but_not_what),
        cmocka_unit_test(later_imports_keep_pseudonyms),
        cmocka_unit_test(damage_is_refused_and_named),
        cmocka_unit_test(no_planted_value_is_on_disk),
        cmocka_unit_test(crashes_leave_the_earlier_or_the_new_state),
    };
    return cmocka_run_group_tests_name("partition", tests, NULL, NULL);
}
