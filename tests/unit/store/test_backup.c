/* A backup of a home at work comes back whole; whatever is changed, missing or added by somebody is found; the check finds what
 * is damaged in a home and names it. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store/backup.h"
#include "store/blob.h"
#include "store/check.h"
#include "store/partition_file.h"
#include "store/rotate.h"
#include "tests/unit/store/dataset.h"

#include <ftw.h>
#include <pthread.h>

static struct proto_column columns[] = {
    {.name = "patient", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM},
    {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .min = 0, .max = 110},
};

static struct home home;
static char folder[96];
static char key_path[96];
static const char *const extra[] = {"node.yaml", "identity", NULL};

static enum err import_rows(const char *dataset, unsigned rows)
{
    char path[160];
    struct proto_manifest manifest;
    struct store_import_report *report = calloc(1, sizeof *report);
    assert_non_null(report);
    snprintf(path, sizeof path, "%s-%s.csv", home.path, dataset);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("patient,age\n", file);
    for (unsigned i = 0; i < rows; i++) {
        fprintf(file, "p%u,%u\n", i, i % 90);
    }
    assert_int_equal(fclose(file), 0);
    manifest_init(&manifest, dataset, columns, 2, "patient");
    struct store_import_options options = {.data_path = path, .format = "csv", .now = 5};
    enum err err = store_import_run(&home.store, &manifest, &options, report, NULL);
    free(report);
    unlink(path);
    return err;
}

static void home_file(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", home.path, name);
    write_file(path, text, strlen(text));
}

static int start(void **state)
{
    (void)state;
    char path[96];
    uint8_t hash[32];
    home_open(&home);
    snprintf(folder, sizeof folder, "%s-backup", home.path);
    snprintf(key_path, sizeof key_path, "%s/unlock.key", home.path);
    snprintf(path, sizeof path, "%s/identity", home.path);
    assert_int_equal(mkdir(path, 0700), 0);
    home_file("identity/identity.key", "sealed");
    home_file("node.yaml", "node: alpha\n");
    assert_int_equal(store_blob_put(&home.store, span_str("weights"), hash, NULL), E_OK);
    return import_rows("d", 1000) == E_OK && import_rows("e", 10) == E_OK ? 0 : -1;
}

static void clear(const char *path)
{
    char command[160];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

static int stop(void **state)
{
    (void)state;
    clear(folder);
    home_remove(&home);
    return 0;
}

static struct crypto_unlock by_file(void)
{
    return (struct crypto_unlock){.how = CRYPTO_UNLOCK_KEYFILE, .path = key_path};
}

static void make(struct store_backup_report *report)
{
    struct err_info info = {0};
    struct store_backup_options options = {.now = 1790000000};
    if (store_backup_make(&home.store, folder, extra, &options, report, &info)) {
        fail_msg("%s", info.text);
    }
}

static void count_found(void *user, const char *what, enum err err, const char *text)
{
    (void)text;
    if (err) {
        snprintf(user, 96, "%s", what);
    }
}

static size_t bad_things(struct store *store, char first[96])
{
    size_t bad = 0;
    struct store_check_options options = {.found = count_found, .user = first};
    first[0] = '\0';
    assert_int_equal(store_check_run(store, &options, &bad, NULL), E_OK);
    return bad;
}

static void test_there_and_back(void **state)
{
    (void)state;
    struct store_backup_report made;
    struct store_backup_report report;
    struct crypto_unlock unlock = by_file();
    struct err_info info = {0};
    struct home back = {0};
    char path[160];
    char what[96];
    make(&made);
    assert_int_equal(
        made.files,
        8); /* node.mdb, keyring, format, node.yaml, identity, a model, two partitions */
    assert_int_equal(store_backup_verify(folder, &unlock, &report, &info), E_OK);
    assert_int_equal(report.files, made.files);
    assert_int_equal(report.bytes, made.bytes);
    snprintf(path, sizeof path, "%s/unlock.key", folder);
    assert_int_not_equal(access(path, F_OK), 0); /* what opens the keyring is kept elsewhere */
    struct store_backup_options options = {.now = 1};
    assert_int_equal(store_backup_make(&home.store, folder, extra, &options, &report, NULL),
                     E_EXISTS);
    assert_int_equal(store_backup_restore(folder, home.path, &unlock, &report, NULL), E_EXISTS);
    snprintf(back.path, sizeof back.path, "%.50s-back", home.path);
    if (store_backup_restore(folder, back.path, &unlock, &report, &info)) {
        fail_msg("%s", info.text);
    }
    snprintf(path, sizeof path, "%s/" STORE_RESTORED, back.path);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(store_backup_restore(folder, back.path, &unlock, &report, NULL), E_EXISTS);
    size_t len = 0;
    uint8_t *key = slurp(key_path, &len);
    snprintf(path, sizeof path, "%s/unlock.key", back.path);
    write_file(path, key, len);
    free(key);
    assert_int_equal(chmod(path, 0600), 0);
    if (home_attach(&back, &info)) {
        fail_msg("%s", info.text);
    }
    assert_int_equal(bad_things(&back.store, what), 0);
    struct store_partition *partition = NULL;
    assert_int_equal(store_partition_open(&back.store, "d", &partition, &info), E_OK);
    assert_int_equal(store_partition_rows(partition), 1000);
    store_partition_close(partition);
    home_remove(&back);
}

/* Every file of the backup in turn: one byte changed, the last one cut, the file gone. */
static char spoiled[32][160];
static size_t spoiled_count;

static int list_file(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    if (flag == FTW_F && spoiled_count < 32) {
        snprintf(spoiled[spoiled_count++], 160, "%s", path);
    }
    return 0;
}

static void test_every_file_counts(void **state)
{
    (void)state;
    struct store_backup_report report;
    struct crypto_unlock unlock = by_file();
    make(&report);
    spoiled_count = 0;
    assert_int_equal(nftw(folder, list_file, 8, FTW_PHYS), 0);
    assert_int_equal(spoiled_count, 9);
    for (size_t i = 0; i < spoiled_count; i++) {
        size_t len = 0;
        uint8_t *bytes = slurp(spoiled[i], &len);
        bytes[len / 2] ^= 1;
        write_file(spoiled[i], bytes, len);
        enum err changed = store_backup_verify(folder, &unlock, &report, NULL);
        assert_true(changed == E_CORRUPT || changed == E_AUTH);
        bytes[len / 2] ^= 1;
        write_file(spoiled[i], bytes, len - 1);
        enum err cut = store_backup_verify(folder, &unlock, &report, NULL);
        assert_true(cut == E_CORRUPT || cut == E_AUTH);
        unlink(spoiled[i]);
        enum err gone = store_backup_verify(folder, &unlock, &report, NULL);
        assert_true(gone == E_CORRUPT || gone == E_NOT_FOUND);
        write_file(spoiled[i], bytes, len);
        free(bytes);
    }
    assert_int_equal(store_backup_verify(folder, &unlock, &report, NULL), E_OK);
    struct crypto_unlock stranger = {.how = CRYPTO_UNLOCK_PASSPHRASE, .passphrase = span_str("x")};
    assert_int_equal(store_backup_verify(folder, &stranger, &report, NULL), E_AUTH);
}

static _Atomic bool stop_changing;

static void *change(void *arg)
{
    (void)arg;
    for (unsigned i = 0; !stop_changing && i < 40; i++) {
        if (i % 3 == 0) {
            (void)!store_rotate_begin(&home.store, "d", NULL);
            (void)!store_rotate_run(&home.store, "d", NULL, NULL);
        }
        assert_int_equal(import_rows("e", 20 + i), E_OK);
        usleep(20000);
    }
    return NULL;
}

/* Imports and rotations go on; what is copied fits together each time, or the backup says that it does not and leaves nothing. */
static void test_while_changing(void **state)
{
    (void)state;
    pthread_t thread;
    struct crypto_unlock unlock = by_file();
    size_t made = 0;
    stop_changing = false;
    assert_int_equal(pthread_create(&thread, NULL, change, NULL), 0);
    for (int i = 0; i < 8; i++) {
        struct store_backup_report report;
        struct store_backup_options options = {.now = 3};
        struct home back = {0};
        struct err_info info = {0};
        char path[160];
        char what[96];
        enum err err = store_backup_make(&home.store, folder, extra, &options, &report, &info);
        if (err == E_BUSY) {
            snprintf(path, sizeof path, "%s/" STORE_BACKUP_FILE, folder);
            assert_int_not_equal(access(path, F_OK), 0);
            continue;
        }
        assert_int_equal(err, E_OK);
        made++;
        snprintf(back.path, sizeof back.path, "%.50s-back", home.path);
        assert_int_equal(store_backup_restore(folder, back.path, &unlock, &report, &info), E_OK);
        size_t len = 0;
        uint8_t *key = slurp(key_path, &len);
        snprintf(path, sizeof path, "%s/unlock.key", back.path);
        write_file(path, key, len);
        free(key);
        assert_int_equal(chmod(path, 0600), 0);
        if (home_attach(&back, &info)) {
            fail_msg("%s", info.text);
        }
        size_t bad = bad_things(&back.store, what);
        if (bad) {
            fail_msg("%s", what);
        }
        home_remove(&back);
        clear(folder);
    }
    stop_changing = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(made > 0);
}

static void test_check_names_the_damage(void **state)
{
    (void)state;
    char what[96];
    char path[160];
    struct arena arena = {0};
    struct store_dataset row;
    assert_int_equal(bad_things(&home.store, what), 0);
    assert_int_equal(store_catalogue_get(&home.store, "d", &arena, &row, NULL), E_OK);
    partition_path(&home, row.partition_uuid, path);
    arena_fini(&arena);
    size_t len = 0;
    uint8_t *bytes = slurp(path, &len);
    for (size_t at = 0; at + 200 < len; at++) { /* inside a sealed value */
        if (memcmp(bytes + at, "CCK1", 4) == 0) {
            bytes[at + 100] ^= 1;
            break;
        }
    }
    write_file(path, bytes, len);
    free(bytes);
    assert_int_equal(bad_things(&home.store, what), 1);
    assert_string_equal(what, "dataset d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_there_and_back, start, stop),
        cmocka_unit_test_setup_teardown(test_every_file_counts, start, stop),
        cmocka_unit_test_setup_teardown(test_while_changing, start, stop),
        cmocka_unit_test_setup_teardown(test_check_names_the_damage, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
