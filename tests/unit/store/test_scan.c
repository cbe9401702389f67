/* Scans by several threads, and partitions that stay open between them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "proto/query.h"
#include "store/crew.h"
#include "store/check.h"
#include "store/partition_file.h"
#include "store/rotate.h"
#include "tests/unit/store/dataset.h"

#include <time.h>

#define CHUNKS  17
#define ROWS    ((uint64_t)(CHUNKS - 1) * STORE_CHUNK_ROWS + 1234)
#define THREADS 3

static struct home home;
static struct err_info info;

static void settle(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 150000000}, NULL);
}

static void import_numbers(const char *dataset, uint64_t rows, struct store_import_report *report)
{
    char csv[96];
    snprintf(csv, sizeof csv, "%s/n.csv", home.path);
    FILE *file = fopen(csv, "w");
    assert_non_null(file);
    fprintf(file, "n\n");
    for (uint64_t i = 0; i < rows; i++) {
        fprintf(file, "%d\n", (int)(i * 7919 % 1000));
    }
    assert_int_equal(fclose(file), 0);
    struct proto_column columns[] = {
        {.name = "n", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 1000}};
    struct proto_manifest manifest;
    manifest_init(&manifest, dataset, columns, 1, "");
    assert_int_equal(proto_manifest_check(&manifest, &info), E_OK);
    struct store_import_options options = {.data_path = csv};
    assert_int_equal(store_import_run(&home.store, &manifest, &options, report, &info), E_OK);
    proto_manifest_fini(&manifest);
}

struct tally {
    uint64_t sum;
    uint64_t rows;
    uint64_t batches;
    uint64_t units; /* sum of unit numbers */
    enum err answer;
};

static enum err add_up(void *user, const struct store_batch *batch)
{
    struct tally *tally = user;
    for (size_t row = 0; row < batch->rows; row++) {
        if (store_batch_selected(batch, row)) {
            tally->sum += (uint64_t)store_batch_number(batch, 0, row);
            tally->units += batch->unit[row];
            tally->rows++;
        }
    }
    tally->batches++;
    return tally->answer;
}

static bool yes(void *user)
{
    (void)user;
    return true;
}

static void threads_find_what_one_finds(void **state)
{
    (void)state;
    struct store_import_report report;
    struct store_partition *partition;
    import_numbers("t", ROWS, &report);
    assert_int_equal(store_partition_open(&home.store, "t", &partition, &info), E_OK);
    double limits[2] = {100, 899};
    struct proto_predicate low = {.op = PROTO_OP_GE, .numbers = &limits[0], .count = 1};
    struct proto_predicate high = {.op = PROTO_OP_LE, .numbers = &limits[1], .count = 1};
    struct proto_predicate both = {.op = PROTO_OP_AND, .left = &low, .right = &high};
    for (size_t round = 0; round < 6; round++) {
        store_crew_limit(1 + round % THREADS);
        struct tally tallies[THREADS] = {{0}};
        void *users[THREADS] = {&tallies[0], &tallies[1], &tallies[2]};
        struct store_scan_question question = {.columns = (int[]){0},
                                               .count = 1,
                                               .where = round < 3 ? NULL : &both,
                                               .with_unit = true,
                                               .on_batch = add_up,
                                               .users = users,
                                               .user_count = THREADS};
        struct store_scan_stats stats;
        assert_int_equal(store_scan_ask(partition, &question, &stats, &info), E_OK);
        struct tally all = {0}, want = {0};
        for (size_t i = 0; i < THREADS; i++) {
            all.sum += tallies[i].sum;
            all.rows += tallies[i].rows;
            all.units += tallies[i].units;
            all.batches += tallies[i].batches;
            assert_true(i <= round % THREADS || tallies[i].batches == 0);
        }
        for (uint64_t i = 0; i < ROWS; i++) {
            uint64_t value = i * 7919 % 1000;
            if (round < 3 || (value >= 100 && value <= 899)) {
                want.sum += value;
                want.units += i;
                want.rows++;
            }
        }
        assert_int_equal(all.sum, want.sum);
        assert_int_equal(all.rows, want.rows);
        assert_int_equal(all.units, want.units);
        assert_int_equal(all.batches, CHUNKS);
        assert_int_equal(stats.chunks, CHUNKS);
        assert_int_equal(stats.values_opened, CHUNKS);

        question.cancelled = yes;
        assert_int_equal(store_scan_ask(partition, &question, NULL, &info), E_CANCELLED);
        question.cancelled = NULL;
        tallies[0].answer = tallies[1].answer = tallies[2].answer = E_LIMIT;
        assert_int_equal(store_scan_ask(partition, &question, NULL, &info), E_LIMIT);
    }
    store_crew_limit(0);
    store_partition_close(partition);
}

static void flip(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    assert_int_equal(close(fd), 0);
}

static void open_partitions_are_used_again_while_untouched(void **state)
{
    (void)state;
    struct store_import_report report;
    struct store_partition *first, *second;
    char path[160];
    import_numbers("t", 5000, &report);
    partition_path(&home, report.partition_uuid, path);
    settle();
    assert_int_equal(store_partition_open(&home.store, "t", &first, &info), E_OK);
    assert_int_equal(store_partition_open(&home.store, "t", &second, &info), E_OK);
    assert_ptr_equal(first, second);
    store_partition_close(first);
    store_partition_close(second);
    assert_int_equal(store_partition_open(&home.store, "t", &second, &info), E_OK);
    assert_ptr_equal(first, second);
    store_partition_close(second);
    assert_int_equal(store_partition_open_checked(&home.store, "t", &first, &info), E_OK);
    assert_ptr_not_equal(first, second);
    store_partition_close(first);

    /* A byte of LMDB's own pages, which no tag covers: only the check at opening sees it. */
    flip(path, 4096 + 30);
    assert_int_equal(store_partition_open(&home.store, "t", &first, &info), E_CORRUPT);
    assert_non_null(strstr(info.text, "dataset t, file "));
    flip(path, 4096 + 30);
    settle();
    assert_int_equal(store_partition_open(&home.store, "t", &first, &info), E_OK);

    assert_int_equal(store_readers(&home.store).partitions, 1);
    assert_int_equal(store_readers(&home.store).replaced, 0);

    /* A new import: who reads goes on with the old rows, who comes finds the new ones. */
    import_numbers("t", 3000, &report);
    assert_int_equal(store_partition_open(&home.store, "t", &second, &info), E_OK);
    assert_int_equal(store_partition_rows(first), 5000);
    assert_int_equal(store_partition_rows(second), 3000);
    assert_in_range(store_readers(&home.store).partitions, 1,
                    2); /* the new one may be too young to be kept */
    assert_int_equal(store_readers(&home.store).replaced, 1);
    struct tally tally = {0};
    assert_int_equal(store_scan(first, (int[]){0}, 1, NULL, NULL, add_up, &tally, &info), E_OK);
    assert_int_equal(tally.rows, 5000);
    store_partition_close(first);
    store_partition_close(second);
    assert_int_equal(store_readers(&home.store).partitions, 0);
    assert_int_equal(store_readers(&home.store).replaced, 0);
    assert_int_equal(store_import_remove(&home.store, "t", &info), E_OK);
    assert_int_equal(store_partition_open(&home.store, "t", &first, &info), E_NOT_FOUND);
}

/* --- long texts ------------------------------------------------------------------------------ */

#define NOTES 60000 /* in one chunk, and together more text than one segment may hold */

static bool note_missing(uint64_t i)
{
    return i % 97 == 0;
}

/* Words that differ from row to row, so that they do not all pack to nothing. */
static size_t note_text(uint64_t i, char to[4096])
{
    size_t len = 0;
    size_t words = i % 1000 == 7 ? 300 : 40 + i % 50;
    for (size_t w = 0; w < words; w++) {
        len += (size_t)snprintf(to + len, 4096 - len, "%s%x", w ? " " : "",
                                (unsigned)((i * 2654435761u + w * 40503u) & 0xfffff));
    }
    return note_missing(i) ? 0 : len;
}

static void import_notes(bool append, struct store_import_report *report)
{
    static char text[4096];
    char csv[96];
    snprintf(csv, sizeof csv, "%s/n.csv", home.path);
    FILE *file = fopen(csv, "w");
    assert_non_null(file);
    fprintf(file, "note,n,short\n");
    for (uint64_t i = append ? NOTES : 0; i < (append ? NOTES + 10 : NOTES); i++) {
        size_t len = note_text(i, text);
        fprintf(file, "%.*s,%u,%u\n", (int)len, text, (unsigned)(i % 65000), (unsigned)(i % 7));
    }
    assert_int_equal(fclose(file), 0);
    struct proto_column columns[] = {
        {.name = "note", .type = PROTO_COLUMN_TEXT},
        {.name = "n", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 65000},
        {.name = "short", .type = PROTO_COLUMN_TEXT}};
    struct proto_manifest manifest;
    manifest_init(&manifest, "notes", columns, 3, "");
    assert_int_equal(proto_manifest_check(&manifest, &info), E_OK);
    struct store_import_options options = {.data_path = csv, .append = append};
    if (store_import_run(&home.store, &manifest, &options, report, &info)) {
        fail_msg("%s", info.text);
    }
    proto_manifest_fini(&manifest);
}

static enum err check_notes(void *user, const struct store_batch *batch)
{
    static char want[4096];
    struct tally *tally = user;
    size_t selected = 0;
    for (size_t row = 0; row < batch->rows; row++) {
        const struct store_batch_column *note = &batch->columns[0];
        uint64_t i = batch->first_row + row;
        size_t len = note_text(i, want);
        assert_int_equal(store_batch_missing(batch, 0, row), note_missing(i));
        assert_int_equal(note->text_start[row + 1] - note->text_start[row], len);
        assert_memory_equal(note->text + note->text_start[row], want, len);
        assert_int_equal((uint64_t)store_batch_number(batch, 1, row), i % 65000);
        const struct store_batch_column *brief = &batch->columns[2];
        assert_int_equal(brief->text_start[row + 1] - brief->text_start[row], 1);
        assert_int_equal(brief->text[brief->text_start[row]], '0' + (int)(i % 7));
        assert_int_equal(batch->unit[row], i);
        selected += store_batch_selected(batch, row);
    }
    assert_int_equal(selected, batch->selected_count);
    tally->rows += selected;
    tally->batches++;
    return E_OK;
}

static void read_notes(uint64_t rows, size_t segments)
{
    struct store_partition *partition;
    struct tally all = {0}, few = {0};
    struct store_scan_stats stats;
    int columns[] = {0, 1, 2};
    assert_int_equal(store_partition_open(&home.store, "notes", &partition, &info), E_OK);
    assert_int_equal(
        store_scan_with(partition, columns, 3, NULL, true, NULL, check_notes, &all, &stats, &info),
        E_OK);
    assert_int_equal(all.rows, rows);
    assert_in_range(all.batches, segments, 3 * segments);
    /* Only segments with a row that passes are opened, and only their rows are shown. */
    double one = 20001;
    struct proto_predicate where = {.op = PROTO_OP_EQ, .column = 1, .numbers = &one, .count = 1};
    assert_int_equal(store_scan_with(partition, columns, 3, &where, true, NULL, check_notes, &few,
                                     &stats, &info),
                     E_OK);
    assert_int_equal(few.rows, 1);
    assert_int_equal(few.batches, 1);
    assert_int_equal(stats.values_opened, 3 + 2); /* three columns, and a segment of each text */
    store_partition_close(partition);
}

static void found(void *user, const char *what, enum err err, const char *text)
{
    if (err) {
        print_message("%s: %s\n", what, text);
    }
    *(size_t *)user += err != E_OK;
}

static void long_texts_are_kept_in_segments(void **state)
{
    (void)state;
    static struct store_import_report report;
    import_notes(false, &report);
    assert_int_equal(report.rows, NOTES);
    read_notes(NOTES, 80);
    import_notes(true, &report); /* stored ones are carried over */
    assert_int_equal(report.rows, NOTES + 10);
    read_notes(NOTES + 10, 80);
    assert_int_equal(store_rotate_begin(&home.store, "notes", &info), E_OK);
    assert_int_equal(store_rotate_run(&home.store, "notes", NULL, &info), E_OK);
    read_notes(NOTES + 10, 80);
    size_t bad = 0, faults = 0;
    struct store_check_options options = {.found = found, .user = &faults};
    assert_int_equal(store_check_run(&home.store, &options, &bad, &info), E_OK);
    assert_int_equal(bad + faults, 0);
}

static void only_some_stay_open(void **state)
{
    (void)state;
    struct store_import_report report;
    struct store_partition *partition;
    for (unsigned i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "many-%u", i);
        import_numbers(name, 10, &report);
    }
    settle();
    for (unsigned i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "many-%u", i);
        assert_int_equal(store_partition_open(&home.store, name, &partition, &info), E_OK);
        store_partition_close(partition);
    }
    char command[160], line[32] = "";
    snprintf(command, sizeof command, "ls -l /proc/%d/fd | grep -c '%s/partitions/.*mdb'",
             (int)getpid(), home.path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(line, sizeof line, pipe));
    pclose(pipe);
    assert_in_range(strtol(line, NULL, 10), 1, 20);
}

int main(void)
{
    home_open(&home);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_find_what_one_finds),
        cmocka_unit_test(open_partitions_are_used_again_while_untouched),
        cmocka_unit_test(long_texts_are_kept_in_segments),
        cmocka_unit_test(only_some_stay_open),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    home_remove(&home);
    return failed;
}
