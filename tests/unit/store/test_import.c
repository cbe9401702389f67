/* Imports from outside in: formats, what bad input gets, what becomes of values. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <zlib.h>

#include "store/risk.h"
#include "tests/lib/seed.h"
#include "tests/unit/store/dataset.h"

static struct seed seed;

static const char *sexes[] = {"F", "M"};

static struct proto_column columns[] = {
    {.name = "patient", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM},
    {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 110},
    {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 2},
    {.name = "score", .type = PROTO_COLUMN_REAL, .has_bounds = true, .min = -1, .max = 10},
};

struct job {
    struct home home;
    struct store_import_report report;
    struct store_import_options options;
    struct err_info info;
    char path[96];
};

static void job_open(struct job *job)
{
    memset(job, 0, sizeof *job);
    home_open(&job->home);
}

static void job_name(struct job *job, const char *name)
{
    snprintf(job->path, sizeof job->path, "%s/%s", job->home.path, name);
    job->options.data_path = job->path;
}

static enum err job_run(struct job *job, struct proto_column *declared, size_t count)
{
    struct proto_manifest manifest;
    manifest_init(&manifest, "d", declared, count, "patient");
    job->info = (struct err_info){0};
    return store_import_run(&job->home.store, &manifest, &job->options, &job->report, &job->info);
}

static enum err job_import(struct job *job, const char *name, const void *bytes, size_t len)
{
    job_name(job, name);
    write_file(job->path, bytes, len);
    return job_run(job, columns, sizeof columns / sizeof *columns);
}

static enum err job_text(struct job *job, const char *name, const char *text)
{
    return job_import(job, name, text, strlen(text));
}

static void write_gzip(const char *path, const char *text, size_t len)
{
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, text, (unsigned)len), (int)len);
    assert_int_equal(gzclose(file), Z_OK);
}

/* --- what is stored ------------------------------------------------------------------------ */

/* Rows as text, one line each: numbers, codes, "-" for missing, units as letters. */
struct printed {
    struct store_partition *partition;
    size_t count;
    char *to;
    size_t len;
    size_t cap;
};

static enum err print_batch(void *user, const struct store_batch *batch)
{
    struct printed *printed = user;
    for (size_t r = 0; r < batch->rows; r++) {
        for (size_t i = 0; i < printed->count; i++) {
            const struct store_batch_column *column = &batch->columns[i];
            char *to = printed->to + printed->len;
            size_t room = printed->cap - printed->len;
            assert_true(room > 200);
            const char *value =
                column->code ? store_partition_value(printed->partition, (int)i, column->code[r])
                             : NULL;
            if (store_batch_missing(batch, i, r)) {
                printed->len += (size_t)snprintf(to, room, "- ");
            } else if (column->text_start) {
                printed->len += (size_t)snprintf(
                    to, room, "%.*s ", (int)(column->text_start[r + 1] - column->text_start[r]),
                    column->text + column->text_start[r]);
            } else if (value) {
                printed->len += (size_t)snprintf(to, room, "%s ", value);
            } else {
                printed->len +=
                    (size_t)snprintf(to, room, "%.10g ", store_batch_number(batch, i, r));
            }
        }
        printed->to[printed->len - 1] = '\n';
    }
    return E_OK;
}

/* Valid until the next call. */
static const char *stored(struct job *job)
{
    static char text[200000];
    struct printed printed = {.to = text, .cap = sizeof text};
    assert_int_equal(store_partition_open(&job->home.store, "d", &printed.partition, &job->info),
                     E_OK);
    int all[64];
    printed.count = store_partition_schema(printed.partition)->count;
    for (size_t i = 0; i < printed.count; i++) {
        all[i] = (int)i;
    }
    text[0] = 0;
    assert_int_equal(store_scan(printed.partition, all, printed.count, NULL, NULL, print_batch,
                                &printed, &job->info),
                     E_OK);
    store_partition_close(printed.partition);
    return text;
}

static void formats_give_the_same_rows(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    static const char csv[] =
        "score,patient,extra,age,sex\n1.5,p1,x,40,F\n,p2,x,,M\n2.25,p1,x,41,\n";
    static const char json[] =
        "{\"patient\":\"p1\",\"age\":40,\"sex\":\"F\",\"score\":1.5,\"extra\":{\"a\":1}}\n"
        "{\"patient\":\"p2\",\"sex\":\"M\",\"score\":null}\n"
        "{\"age\":\"41\",\"patient\":\"p1\",\"score\":2.25}\n";
    static const char want[] = "0 40 F 1.5\n1 - M -\n0 41 - 2.25\n";
    assert_int_equal(job_text(&job, "a.csv", csv), E_OK);
    assert_string_equal(stored(&job), want);
    assert_int_equal(job.report.bytes_raw, strlen(csv));
    assert_int_equal(job_text(&job, "a.ndjson", json), E_OK);
    assert_string_equal(stored(&job), want);
    job_name(&job, "a.jsonl.gz");
    write_gzip(job.path, json, sizeof json - 1);
    assert_int_equal(job_run(&job, columns, 4), E_OK);
    assert_string_equal(stored(&job), want);
    assert_int_equal(job.report.bytes_raw, strlen(json)); /* unpacked */
    job_name(&job, "a.csv.gz");
    write_gzip(job.path, csv, sizeof csv - 1);
    assert_int_equal(job_run(&job, columns, 4), E_OK);
    assert_string_equal(stored(&job), want);
    job.options.format = "ndjson"; /* an option wins over a name */
    assert_int_equal(job_text(&job, "b.csv", json), E_OK);
    assert_string_equal(stored(&job), want);
    job.options.format = "parquet";
    assert_int_equal(job_text(&job, "b.csv", json), E_UNSUPPORTED);
    job.options.format = NULL;
    assert_int_equal(job_text(&job, "c.ndjson", "{\"patient\":\"p\",\"age\":1}\n"), E_OK);
    assert_false(job.report.columns[1].absent);
    assert_true(job.report.columns[3].absent); /* said, as nothing else shows a misspelt key */
    home_remove(&job.home);
}

static void bad_input_is_refused_and_named(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    assert_int_equal(job_text(&job, "good.csv", "patient,age,sex,score\np1,1,F,1\n"), E_OK);
    static const char header[] = "patient,age,sex,score\n";
    static const struct {
        const char *name;
        const char *text;
        enum err err;
        const char *said;
    } cases[] = {
        {"twice.csv", "patient,age,sex,score,age\np1,1,F,1,2\n", E_SCHEMA,
         "more than one column is headed 'age'"},
        {"none.csv", "patient,sex,score\np1,F,1\n", E_SCHEMA, "no column is headed 'age'"},
        {"utf8.csv", "patient,age,sex,score\np\xff,1,F,1\n", E_INVALID, "UTF-8"},
        {"utf8.ndjson", "{\"patient\":\"p\xff\"}\n", E_INVALID, "UTF-8"},
        {"twice.ndjson", "{\"patient\":\"p\",\"patient\":\"q\"}\n", E_INVALID,
         "line 1: has a key twice"},
        {"nest.ndjson", "{\"patient\":\"p\",\"age\":[1]}\n", E_INVALID, "line 1, column age"},
        {"zip.csv", "PK\x03\x04 and more", E_UNSUPPORTED, "zip archive"},
        {"empty.csv", "", E_INVALID, "header line is missing"},
        {"empty.ndjson", "\n", E_INVALID, "no rows"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(job_text(&job, cases[i].name, cases[i].text), cases[i].err);
        assert_non_null(strstr(job.info.text, cases[i].said));
    }
    static const char zero[] = "patient,age,sex,score\np\0x,1,F,1\n";
    assert_int_equal(job_import(&job, "zero.csv", zero, sizeof zero - 1), E_INVALID);
    assert_non_null(strstr(job.info.text, "zero byte"));

    size_t size = (size_t)80 << 20;
    char *big = malloc(size);
    assert_non_null(big);
    memset(big, ',', 100000);
    big[100000] = '\n';
    assert_int_equal(job_import(&job, "wide.csv", big, 100001), E_LIMIT);
    assert_non_null(strstr(job.info.text, "more than 4096 columns"));
    memset(big, 'x', size);
    memcpy(big, header, strlen(header));
    assert_int_equal(job_import(&job, "field.csv", big, size), E_LIMIT);
    assert_non_null(strstr(job.info.text, "line 2: a field or row is too long"));
    memset(big, '\n', size);
    memcpy(big, header, strlen(header));
    job_name(&job, "bomb.csv.gz");
    write_gzip(job.path, big, size);
    assert_int_equal(job_run(&job, columns, 4), E_LIMIT);
    assert_non_null(strstr(job.info.text, "bomb"));
    job_name(&job, "cut.csv.gz");
    write_gzip(job.path, "patient,age,sex,score\np1,1,F,1\n", 31);
    size_t len;
    uint8_t *packed = slurp(job.path, &len);
    write_file(job.path, packed, len - 5);
    assert_int_equal(job_run(&job, columns, 4), E_TRUNCATED);
    assert_non_null(strstr(job.info.text, "cut off"));
    free(packed);
    free(big);
    assert_string_equal(stored(&job), "0 1 F 1\n"); /* nothing of all this changed what was there */
    home_remove(&job.home);
}

static void numbers_out_of_bounds_are_counted(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    job.options.max_rejects = 1;
    assert_int_equal(
        job_text(&job, "o.csv",
                 "patient,age,sex,score\np1,-3,F,11\np2,200,F,10\np3,50,M,-1.5\np4,300,X,99\n"),
        E_OK);
    assert_string_equal(stored(&job), "0 0 F 10\n1 110 F 10\n2 50 M -1\n");
    assert_int_equal(job.report.rejected, 1);
    assert_string_equal(job.report.columns[1].name, "age");
    assert_int_equal(job.report.columns[1].clamped, 2); /* not of the row that was rejected */
    assert_int_equal(job.report.columns[3].clamped, 2);
    assert_int_equal(job.report.columns[0].clamped, 0);
    home_remove(&job.home);
}

/* --- de-identification --------------------------------------------------------------------- */

#define BOUNDS(low, high) .has_bounds = true, .min = low, .max = high

static double test_cuts[] = {18, 65};

enum {
    D_PATIENT,
    D_MRN,
    D_AGE,
    D_BORN,
    D_SEEN,
    D_ZIP,
    D_CLASS,
    D_LOW,
    D_HIGH,
    D_GROUP,
    D_NOTE,
    D_NAME,
    D_COUNT
};

static struct proto_column clinic[D_COUNT] = {
    {.name = "patient", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM_HMAC},
    {.name = "mrn", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM_HMAC},
    {.name = "age", .type = PROTO_COLUMN_INTEGER, BOUNDS(0, 110), .deidentify = PROTO_DEID_AGE90},
    {.name = "born", .type = PROTO_COLUMN_DATE, .deidentify = PROTO_DEID_YEAR, .birth = true},
    {.name = "seen", .type = PROTO_COLUMN_DATE, .deidentify = PROTO_DEID_DATESHIFT},
    {.name = "zip", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_ZIP3},
    {.name = "class",
     .type = PROTO_COLUMN_INTEGER,
     BOUNDS(0, 120),
     .deidentify = PROTO_DEID_BIN,
     .by = {.cuts = test_cuts, .cut_count = 2}},
    {.name = "low",
     .type = PROTO_COLUMN_REAL,
     BOUNDS(0, 100),
     .deidentify = PROTO_DEID_BOTTOM,
     .by = {.has_at = true, .at = 10}},
    {.name = "high",
     .type = PROTO_COLUMN_REAL,
     BOUNDS(0, 100),
     .deidentify = PROTO_DEID_TOP,
     .by = {.has_at = true, .at = 50}},
    {.name = "code",
     .type = PROTO_COLUMN_TEXT,
     .deidentify = PROTO_DEID_GENERALISE,
     .by = {.table = "icd", .level = 1}},
    {.name = "note", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_REDACT},
    {.name = "name", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_DROP},
};

static void every_operation_in_an_import(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    struct span tables[D_COUNT] = {SPAN_NONE};
    tables[D_GROUP] = span_str("A00.1;A00\nB01.2;B01\n");
    job.options.tables = tables;
    job.options.now = (int64_t)20000 * 86400; /* 2024-10-04 */
    job_name(&job, "c.csv");
    static const char text[] =
        "patient,mrn,age,born,seen,zip,class,low,high,code,note,name\n"
        "P1,M7,50,1974-05-01,2024-01-10,10001,17,5,5,A00.1,Mr Bond called,James Bond\n"
        "P1,M7,50,1974-05-01,2024-01-20T08:00:00Z,2743,18,50,50,B01.2,tel 555-1234,Bond\n"
        "P2,M8,95,1929-05-01,2024-01-10,03601,70,130,130,A00.1,quiet,X\n"
        "P3,,60,1934-10-04,2024-01,,3,1,1,A00.1,,\n"
        "P4,M9,60,1934-10-05,,89301,-1,20,20,B01.2,-,\n";
    write_file(job.path, text, strlen(text));
    assert_int_equal(job_run(&job, clinic, D_COUNT), E_OK);
    char line[5][200], mrn[5][32];
    double age[5], born[5];
    const char *at = stored(&job);
    long seen[5] = {0};
    char rest[5][150];
    for (size_t i = 0; i < 5; i++) {
        size_t len = strcspn(at, "\n");
        snprintf(line[i], sizeof line[i], "%.*s", (int)len, at);
        at += len + 1;
        unsigned unit;
        char born_text[8], seen_text[16];
        assert_int_equal(sscanf(line[i], "%u %31s %lf %7s %15s %149[^\n]", &unit, mrn[i], &age[i],
                                born_text, seen_text, rest[i]),
                         6);
        born[i] = born_text[0] == '-' ? 0 : atof(born_text);
        seen[i] = seen_text[0] == '-' ? 0 : atol(seen_text);
        assert_int_equal(unit, i ? i - 1 : 0);
    }
    assert_string_equal(mrn[0], mrn[1]);
    assert_string_not_equal(mrn[0], mrn[2]);
    assert_int_equal(strlen(mrn[0]), 16);
    assert_string_equal(mrn[3], "-");
    assert_true(age[2] == 90 && age[0] == 50);
    assert_true(born[0] == 1974 && born[2] == 0);  /* of somebody over 89 the year goes, too */
    assert_true(born[3] == 0 && born[4] == 1934);  /* 90 today; 90 tomorrow */
    assert_int_equal(seen[1] - seen[0], 10);       /* one patient, one shift */
    assert_in_range(seen[0] - 19732 + 50, 0, 100); /* 2024-01-10 */
    assert_int_equal(seen[2], 0);                  /* over 89: no date at all */
    assert_int_equal(seen[3], 0);                  /* and not a month */
    assert_string_equal(rest[0], "100 0 10 5 A00 Mr [NAME] called");
    assert_string_equal(rest[1], "027 18 50 50 B01 tel [PHONE]");
    assert_string_equal(rest[2], "000 65 100 50 A00 quiet"); /* 130 was out of bounds */
    assert_string_equal(rest[3], "- 0 10 1 A00 -");
    assert_string_equal(rest[4], "000 0 20 20 B01 -");
    assert_int_equal(job.report.columns[D_BORN].blanked, 2);
    assert_int_equal(job.report.columns[D_SEEN].blanked, 2);
    assert_int_equal(job.report.columns[D_NOTE].redacted, 2);
    assert_int_equal(job.report.columns[D_CLASS].clamped, 1);

    /* The same patient gets the same shift and the same pseudonym in a later import. */
    char first[32];
    snprintf(first, sizeof first, "%s", mrn[0]);
    long first_seen = seen[0];
    static const char later[] = "patient,mrn,age,born,seen,zip,class,low,high,code,note,name\n"
                                "P9,M7,50,1974-05-01,2024-01-10,10001,17,5,5,A00.1,,\n"
                                "P1,M7,50,1974-05-01,2024-01-10,10001,17,5,5,A00.1,,\n";
    write_file(job.path, later, strlen(later));
    assert_int_equal(job_run(&job, clinic, D_COUNT), E_OK);
    at = strchr(stored(&job), '\n') + 1;
    assert_int_equal(sscanf(at, "0 %31s 50 1974 %ld", mrn[0], &seen[0]), 2);
    assert_string_equal(mrn[0], first);
    assert_int_equal(seen[0], first_seen);

    static const char unknown[] = "patient,mrn,age,born,seen,zip,class,low,high,code,note,name\n"
                                  "P9,M7,50,1974-05-01,2024-01-10,10001,17,5,5,Z99,,\n";
    write_file(job.path, unknown, strlen(unknown));
    assert_int_equal(job_run(&job, clinic, D_COUNT), E_INVALID);
    assert_non_null(strstr(job.info.text, "column code: is not in the column's hierarchy"));
    job.options.tables = NULL;
    assert_int_equal(job_run(&job, clinic, D_COUNT), E_INVALID);
    assert_non_null(strstr(job.info.text, "its table icd"));
    home_remove(&job.home);
}

static void the_published_schema_tells_no_more_than_is_stored(void **state)
{
    (void)state;
    struct proto_schema declared = {
        .columns = clinic, .count = D_COUNT, .unit = "patient", .max_rows_per_unit = 9};
    struct proto_schema published;
    struct arena arena = {0};
    assert_int_equal(proto_schema_publish(&declared, &arena, &published), E_OK);
    assert_int_equal(published.count, D_COUNT - 1);
    assert_int_equal(proto_schema_check(&published, NULL), E_OK);
    assert_true(published.columns[D_AGE].max == 90);
    assert_true(published.columns[D_CLASS].min == 0 && published.columns[D_CLASS].max == 65);
    assert_true(published.columns[D_LOW].min == 10 && published.columns[D_HIGH].max == 50);
    assert_int_equal(published.columns[D_ZIP].type, PROTO_COLUMN_CATEGORY);
    assert_true(published.columns[D_ZIP].values_private);
    assert_null(published.columns[D_GROUP].by.table);
    assert_int_equal(published.columns[D_BORN].type, PROTO_COLUMN_INTEGER);
    const char *why;
    static const char *const verdicts[] = {"no",      "no",      "yes",     "yes",     "no", "yes",
                                           "depends", "depends", "depends", "depends", "no", "yes"};
    for (size_t i = 0; i < D_COUNT; i++) {
        assert_string_equal(proto_column_safe_harbor(&clinic[i], i == D_PATIENT, &why),
                            verdicts[i]);
        assert_non_null(why);
    }
    arena_fini(&arena);
}

/* --- append and replace -------------------------------------------------------------------- */

static void append_adds_and_replaces_by_key(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    static struct proto_column stock[] = {
        {.name = "patient", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM},
        {.name = "visit", .type = PROTO_COLUMN_INTEGER},
        {.name = "ward", .type = PROTO_COLUMN_CATEGORY, .values_private = true},
        {.name = "note", .type = PROTO_COLUMN_TEXT},
    };
    job.options.append = true;
    job_name(&job, "a.csv");
    static const char first[] = "patient,visit,ward,note\np1,1,north,a\np2,2,south,b\np1,3,,\n";
    write_file(job.path, first, strlen(first));
    assert_int_equal(job_run(&job, stock, 4), E_NOT_FOUND); /* nothing to append to */
    job.options.append = false;
    assert_int_equal(job_run(&job, stock, 4), E_OK);
    static const char more[] = "note,patient,visit,ward\nc,p3,4,west\nd,p2,2,north\n";
    job.options.append = true;
    write_file(job.path, more, strlen(more));
    assert_int_equal(job_run(&job, stock, 4), E_OK);
    assert_string_equal(stored(&job),
                        "0 1 north a\n1 2 south b\n0 3 - -\n2 4 west c\n1 2 north d\n");
    assert_int_equal(job.report.rows, 5);
    assert_int_equal(job.report.carried, 3);
    assert_int_equal(job.report.units, 3);
    job.options.key = "visit";
    static const char changed[] =
        "patient,visit,ward,note\np4,2,east,new\np1,9,north,e\np1,9,north,again\np1,,north,none\n";
    write_file(job.path, changed, strlen(changed));
    job.options.max_rejects = 1;
    assert_int_equal(job_run(&job, stock, 4), E_INVALID);
    assert_non_null(strstr(job.info.text, "line 4, column visit: has the key of a row further up"));
    job.options.max_rejects = 2;
    job.options.dry_run = true;
    assert_int_equal(job_run(&job, stock, 4), E_OK);
    assert_int_equal(job.report.replaced, 2);
    job.options.dry_run = false;
    assert_int_equal(job_run(&job, stock, 4), E_OK);
    assert_string_equal(stored(&job),
                        "3 2 east new\n0 9 north e\n0 1 north a\n0 3 - -\n2 4 west c\n");
    assert_int_equal(job.report.replaced, 2);
    assert_int_equal(job.report.carried, 3);
    assert_int_equal(job.report.units, 3); /* p2 has no row left */
    job.options.key = "patient";
    static const char by_unit[] = "patient,visit,ward,note\np1,10,south,f\n";
    write_file(job.path, by_unit, strlen(by_unit));
    assert_int_equal(job_run(&job, stock, 4), E_OK);
    assert_string_equal(stored(&job), "0 10 south f\n3 2 east new\n2 4 west c\n");
    job.options.key = "note";
    assert_int_equal(job_run(&job, stock, 4), E_INVALID);
    job.options.key = NULL;
    assert_int_equal(job_run(&job, stock, 3), E_SCHEMA);
    struct proto_column other[4];
    memcpy(other, stock, sizeof stock);
    other[1].type = PROTO_COLUMN_REAL;
    assert_int_equal(job_run(&job, other, 4), E_SCHEMA);
    job.options.append = false;
    job.options.key = "visit";
    assert_int_equal(job_run(&job, stock, 4), E_USAGE);
    assert_string_equal(stored(&job), "0 10 south f\n3 2 east new\n2 4 west c\n");
    home_remove(&job.home);
}

struct tally {
    uint64_t rows;
    double sum;
};

static enum err add_up(void *user, const struct store_batch *batch)
{
    struct tally *tally = user;
    for (size_t row = 0; row < batch->rows; row++) {
        tally->rows++;
        tally->sum += store_batch_missing(batch, 0, row) ? 0 : store_batch_number(batch, 0, row);
    }
    return E_OK;
}

static struct tally add_all(struct job *job, struct store_partition *partition)
{
    struct tally tally = {0};
    assert_int_equal(store_scan(partition, (int[]){3}, 1, NULL, NULL, add_up, &tally, &job->info),
                     E_OK);
    return tally;
}

/* Appends in random parts, over chunk borders, against a sum; an earlier version stays readable for who opened it. */
static void many_appends_lose_nothing(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    size_t cap = (size_t)8 << 20, total = 0;
    char *text = malloc(cap);
    assert_non_null(text);
    double sum = 0, held_sum = 0;
    size_t held_rows = 0;
    struct store_partition *held = NULL;
    for (unsigned part = 0; part < 5; part++) {
        size_t rows = 1 + seed_below(&seed, 60000);
        size_t len = (size_t)snprintf(text, cap, "patient,age,sex,score\n");
        for (size_t i = 0; i < rows; i++) {
            unsigned score = (unsigned)seed_below(&seed, 1000);
            bool missing = seed_below(&seed, 10) == 0;
            len += (size_t)snprintf(text + len, cap - len,
                                    missing ? "p%u,50,F,\n" : "p%u,50,F,%u.%02u\n",
                                    (unsigned)seed_below(&seed, 9999), score / 100, score % 100);
            sum += missing ? 0 : score / 100.0;
        }
        total += rows;
        job.options.append = part > 0;
        assert_int_equal(job_import(&job, "m.csv", text, len), E_OK);
        struct store_partition *partition;
        assert_int_equal(store_partition_open(&job.home.store, "d", &partition, &job.info), E_OK);
        struct tally tally = add_all(&job, partition);
        assert_int_equal(tally.rows, total);
        assert_true(fabs(tally.sum - sum) < 1e-6 * (1 + sum));
        if (held) {
            tally = add_all(&job, held); /* its file has no name any more */
            assert_int_equal(tally.rows, held_rows);
            assert_true(fabs(tally.sum - held_sum) < 1e-6 * (1 + held_sum));
            store_partition_close(held);
        }
        held = partition;
        held_rows = total;
        held_sum = sum;
    }
    store_partition_close(held);
    free(text);
    home_remove(&job.home);
}

/* A rehearsal holds no more of the text than a chunk of it. */
static void long_texts_can_be_rehearsed(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    static struct proto_column notes[] = {
        {.name = "patient", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM},
        {.name = "note", .type = PROTO_COLUMN_TEXT},
    };
    job_name(&job, "n.csv");
    FILE *file = fopen(job.path, "w");
    assert_non_null(file);
    fputs("patient,note\n", file);
    for (unsigned i = 0; i < 140000; i++) {
        fprintf(file, "p%u,%0120u\n", i, i);
    }
    assert_int_equal(fclose(file), 0);
    job.options.dry_run = true;
    assert_int_equal(job_run(&job, notes, 2), E_OK);
    assert_int_equal(job.report.rows, 140000);
    home_remove(&job.home);
}

/* --- notes --------------------------------------------------------------------------------- */

static const char *labels[] = {"Disease"};

static struct proto_column notes[] = {
    {.name = "tokens", .type = PROTO_COLUMN_TOKENS},
    {.name = "tags", .type = PROTO_COLUMN_TAGS, .values = labels, .value_count = 1},
    {.name = "patient", .type = PROTO_COLUMN_TEXT, .source = "document"},
};

static enum err import_notes(struct job *job, const char *name, const char *text)
{
    job_name(job, name);
    write_file(job->path, text, strlen(text));
    return job_run(job, notes, 3);
}

static void annotated_notes(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    static const char text[] =
        "-DOCSTART- d7\n\nBreast\tB-Disease\ncancer\tI-Disease\n.\tO\n\n\nNone\tO\n\n"
        "-DOCSTART- -X- O O\r\n\r\nIn NN x O\r\nasthma NN x B-Disease\r\n\r\n# doc_id = d7\n# said "
        "later\nYes\tO";
    static const char want[] =
        "Breast cancer . B-Disease I-Disease O 0\nNone O 0\nIn asthma O B-Disease 1\nYes O 0\n";
    assert_int_equal(import_notes(&job, "n.conll", text), E_OK);
    assert_string_equal(stored(&job), want);
    assert_int_equal(job.report.units, 2);
    assert_int_equal(import_notes(&job, "n.iob", "a\tO\n\nb\tO\n"),
                     E_OK); /* without marks each sentence is a document */
    assert_int_equal(job.report.units, 2);
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"a\tO\nb\n\n", "line 1: has a line without token or tag"},
        {"a\tO\n\nb\tB-Drug\n", "line 3, column tags: has a tag"},
        {"a\tB\n", "line 1, column tags: has a tag"},
        {"a b\tO\n", "with a blank in it"},
        {"a\xff\tO\n", "not valid UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(import_notes(&job, "bad.conll", cases[i].text), E_INVALID);
        assert_non_null(strstr(job.info.text, cases[i].said));
    }
    assert_int_equal(import_notes(&job, "n.csv", "tokens,tags,document\na b,O,d\n"), E_INVALID);
    assert_non_null(strstr(job.info.text, "another number of tags"));
    assert_int_equal(import_notes(&job, "n.csv", "tokens,tags,document\na b,O B-Disease,d\n"),
                     E_OK);
    home_remove(&job.home);
}

/* Lines in front of a sentence say something of their document. */
static void notes_say_more(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    static struct proto_column said[] = {
        {.name = "tokens", .type = PROTO_COLUMN_TOKENS},
        {.name = "patient", .type = PROTO_COLUMN_TEXT, .source = "document"},
        {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 2},
        {.name = "age", .type = PROTO_COLUMN_INTEGER},
    };
    static const char text[] =
        "# newdoc id = a\n# sex = F\n# age = 7\nOne\tO\n\nTwo\tO\n# age = 9\n\n"
        "# age = 8\nThree\tO\n\n# newdoc id = b\n# author = M = x\nFour\tO\n";
    job_name(&job, "n.conll");
    write_file(job.path, text, strlen(text));
    assert_int_equal(job_run(&job, said, 4), E_OK);
    assert_string_equal(stored(&job), "One 0 F 7\nTwo 0 F 7\nThree 0 F 8\nFour 1 - -\n");
    assert_false(job.report.columns[2].absent);
    char longer[400] = "# sex = ";
    memset(longer + 8, 'F', 300);
    memcpy(longer + 308, "\nx\tO\n", 6);
    write_file(job.path, longer, strlen(longer));
    assert_int_equal(job_run(&job, said, 4), E_INVALID);
    assert_non_null(strstr(job.info.text, "a line says too much"));
    home_remove(&job.home);
}

/* What FHIR data become by a mapping is tested in tests/unit/node/test_fhir.c; without one there are no rows. */
static void fhir_needs_a_mapping(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    job.options.format = "fhir";
    assert_int_equal(job_text(&job, "o.ndjson", "{\"resourceType\":\"Patient\"}\n"), E_INVALID);
    assert_non_null(strstr(job.info.text, "mapping:"));
    home_remove(&job.home);
}

/* --- who is left out ----------------------------------------------------------------------- */

static void units_are_excluded_and_forgotten(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    job.options.exclude = span_str("p2\r\n\n nobody \n");
    assert_int_equal(
        job_text(&job, "e.csv", "patient,age,sex,score\np1,1,F,1\np2,2,F,2\np3,3,M,3\np2,4,F,4\n"),
        E_OK);
    assert_string_equal(stored(&job), "0 1 F 1\n1 3 M 3\n");
    assert_int_equal(job.report.excluded, 2);
    assert_int_equal(job.report.rejected, 0);
    /* Who opts out later goes with the next append. */
    job.options.exclude = span_str("p1");
    job.options.append = true;
    assert_int_equal(job_text(&job, "e.csv", "patient,age,sex,score\np1,5,F,5\np4,6,M,6\n"), E_OK);
    assert_string_equal(stored(&job), "1 3 M 3\n2 6 M 6\n");
    assert_int_equal(job.report.excluded, 2);
    job.options.exclude = SPAN_NONE;
    assert_int_equal(job_text(&job, "e.csv", "patient,age,sex,score\np1,7,F,7\n"), E_OK);
    assert_string_equal(stored(&job),
                        "1 3 M 3\n2 6 M 6\n0 7 F 7\n"); /* an excluded unit keeps its number */

    job.options.append = false;
    job.options.forget = true;
    job.options.exclude = span_str("p3\np4");
    job.options.data_path = NULL;
    assert_int_equal(job_run(&job, columns, 4), E_OK);
    assert_string_equal(stored(&job), "0 7 F 7\n");
    assert_int_equal(job.report.excluded, 2);
    assert_int_equal(job.report.units, 1);
    job.options.exclude = span_str("p1");
    assert_int_equal(job_run(&job, columns, 4), E_INVALID); /* nothing would be left */
    assert_non_null(strstr(job.info.text, "remove the dataset"));
    assert_string_equal(stored(&job), "0 7 F 7\n");
    job.options = (struct store_import_options){.append = true};
    assert_int_equal(job_text(&job, "e.csv", "patient,age,sex,score\np3,8,M,8\np1,9,F,9\n"), E_OK);
    assert_string_equal(stored(&job), "0 7 F 7\n3 8 M 8\n0 9 F 9\n"); /* a forgotten one is new */
    job.options.exclude = span_str("p1");
    struct proto_manifest manifest;
    manifest_init(&manifest, "n", columns + 1, 3, "");
    job.options.append = false;
    assert_int_equal(
        store_import_run(&job.home.store, &manifest, &job.options, &job.report, &job.info),
        E_INVALID);
    home_remove(&job.home);
}

/* --- risk ---------------------------------------------------------------------------------- */

/* Classes by (age, sex): (40, F) holds p1 p2 p3 with scores 1 1 2; (40, M) p4 twice with 1 1; (-, F) p5, p6 with 3 -. */
static void risk_is_counted_by_people(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    assert_int_equal(job_text(&job, "r.csv",
                              "patient,age,sex,score\np1,40,F,1\np2,40,F,1\np3,40,F,2\np4,40,M,"
                              "1\np4,40,M,1\np5,,F,3\np6,,F,\n"),
                     E_OK);
    struct store_partition *partition;
    assert_int_equal(store_partition_open(&job.home.store, "d", &partition, &job.info), E_OK);
    struct store_risk risk;
    int quasi[] = {1, 2};
    assert_int_equal(store_risk_measure(partition, quasi, 2, 3, NULL, NULL, &risk, &job.info),
                     E_OK);
    assert_int_equal(risk.classes, 3);
    assert_int_equal(risk.rows, 7);
    assert_int_equal(risk.smallest, 1); /* two rows, but of one person */
    assert_int_equal(risk.unique, 1);
    assert_int_equal(risk.below_classes, 2);
    assert_int_equal(risk.below_rows, 4);
    struct store_diversity diversity;
    assert_int_equal(
        store_risk_diversity(partition, quasi, 2, 3, 2, 0.2, NULL, NULL, &diversity, &job.info),
        E_OK);
    assert_int_equal(diversity.distinct, 1);
    assert_true(fabs(diversity.entropy - 1) < 1e-12);
    assert_true(isinf(diversity.recursive));
    assert_int_equal(diversity.below_classes, 1);
    assert_int_equal(diversity.below_rows, 2);
    /* By sex alone: F has 1 1 2 3 -, M has 1 1. */
    assert_int_equal(
        store_risk_diversity(partition, quasi + 1, 1, 1, 2, 0.2, NULL, NULL, &diversity, &job.info),
        E_OK);
    assert_int_equal(diversity.distinct, 1);
    assert_int_equal(store_risk_diversity(partition, (int[]){1}, 1, 3, 2, 0.2, NULL, NULL,
                                          &diversity, &job.info),
                     E_OK);
    /* 40: 1 1 2 1 1, missing: 3 -; so H = 0.8 ln(5/4) + 0.2 ln 5 and c = 4 / 1 in the first, 1 in the other. */
    assert_int_equal(diversity.distinct, 2);
    assert_true(fabs(diversity.entropy - exp(0.8 * log(1.25) + 0.2 * log(5))) < 1e-12);
    assert_true(fabs(diversity.recursive - 4) < 1e-12);
    assert_int_equal(store_risk_measure(partition, quasi, 0, 3, NULL, NULL, &risk, &job.info),
                     E_INVALID);
    store_partition_close(partition);
    home_remove(&job.home);
}

/* The salaries of Li, Li and Venkatasubramanian (2007), table 3: 3 to 11 thousand in three classes of three; the distances of
 * {3, 4, 5} and {6, 8, 11} from all nine are 0.375 and 0.167. */
static void closeness_is_that_of_the_paper(void **state)
{
    (void)state;
    struct job job;
    job_open(&job);
    static const char *groups[] = {"A", "B", "C"};
    static struct proto_column table[] = {
        {.name = "patient", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM},
        {.name = "group", .type = PROTO_COLUMN_CATEGORY, .values = groups, .value_count = 3},
        {.name = "salary", .type = PROTO_COLUMN_INTEGER},
        {.name = "disease", .type = PROTO_COLUMN_CATEGORY, .values = groups, .value_count = 3},
    };
    static const char text[] =
        "patient,group,salary,disease\n1,A,3,A\n2,A,4,A\n3,A,5,B\n4,B,6,A\n5,B,11,B\n"
        "6,B,8,C\n7,C,7,A\n8,C,9,B\n9,C,10,C\n";
    struct store_diversity diversity;
    struct store_partition *partition;
    job_name(&job, "t.csv");
    write_file(job.path, text, strlen(text));
    assert_int_equal(job_run(&job, table, 4), E_OK);
    assert_int_equal(store_partition_open(&job.home.store, "d", &partition, &job.info), E_OK);
    int quasi[] = {1};
    assert_int_equal(
        store_risk_diversity(partition, quasi, 1, 2, 2, 0.167, NULL, NULL, &diversity, &job.info),
        E_OK);
    assert_true(fabs(diversity.closeness - 0.375) < 1e-9);
    assert_int_equal(diversity.far_classes, 2); /* {7, 9, 10} is 0.236 away */
    assert_int_equal(diversity.far_rows, 6);
    /* Diseases: all 4 3 2 of 9; A has 2/3 1/3 0, which is 2/9 too much of the first. */
    assert_int_equal(
        store_risk_diversity(partition, quasi, 1, 3, 2, 0.2, NULL, NULL, &diversity, &job.info),
        E_OK);
    assert_true(fabs(diversity.closeness - 2.0 / 9) < 1e-9);
    assert_int_equal(diversity.far_classes, 1);
    store_partition_close(partition);
    home_remove(&job.home);
}

int main(void)
{
    seed = seed_of(seed_number(3));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_give_the_same_rows),
        cmocka_unit_test(bad_input_is_refused_and_named),
        cmocka_unit_test(numbers_out_of_bounds_are_counted),
        cmocka_unit_test(every_operation_in_an_import),
        cmocka_unit_test(the_published_schema_tells_no_more_than_is_stored),
        cmocka_unit_test(append_adds_and_replaces_by_key),
        cmocka_unit_test(many_appends_lose_nothing),
        cmocka_unit_test(long_texts_can_be_rehearsed),
        cmocka_unit_test(annotated_notes),
        cmocka_unit_test(notes_say_more),
        cmocka_unit_test(fhir_needs_a_mapping),
        cmocka_unit_test(units_are_excluded_and_forgotten),
        cmocka_unit_test(risk_is_counted_by_people),
        cmocka_unit_test(closeness_is_that_of_the_paper),
    };
    return cmocka_run_group_tests_name("import", tests, NULL, NULL);
}
