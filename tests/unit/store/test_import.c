/* Imports from outside in: formats, what bad input gets, what becomes of values. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <zlib.h>

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
    job.options.format = "fhir";
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

int main(void)
{
    seed = seed_of(seed_number(3));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_give_the_same_rows),
        cmocka_unit_test(bad_input_is_refused_and_named),
        cmocka_unit_test(numbers_out_of_bounds_are_counted),
    };
    return cmocka_run_group_tests_name("import", tests, NULL, NULL);
}
