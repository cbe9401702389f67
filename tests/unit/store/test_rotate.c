/* A dataset's key is rotated: every value comes back the same under a new key, readers go on, a crash at any step leaves one
 * whole version, and neither rotation nor removal leaves a wrapped key anywhere in the home. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store/ledger.h"
#include "store/answer.h"
#include "store/partition_file.h"
#include "store/rotate.h"
#include "tests/unit/store/dataset.h"

#include <ftw.h>
#include <pthread.h>
#include <sys/wait.h>

#define ROWS 70000 /* two chunks */

static struct proto_column columns[] = {
    {.name = "patient", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM},
    {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .min = 0, .max = 110},
    {.name = "ward", .type = PROTO_COLUMN_CATEGORY, .values_private = true},
    {.name = "note", .type = PROTO_COLUMN_TEXT},
};

static struct home home;

static enum err import_rows(struct store *store, unsigned rows, struct store_import_report *report)
{
    char path[128];
    struct proto_manifest manifest;
    struct err_info info = {0};
    snprintf(path, sizeof path, "%s/rows.csv", home.path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("patient,age,ward,note\n", file);
    for (unsigned i = 0; i < rows; i++) {
        fprintf(file, "planted-%u,%u,ward-%u,some words %u\n", i % 500, i % 90, i % 7, i);
    }
    assert_int_equal(fclose(file), 0);
    manifest_init(&manifest, "d", columns, 4, "patient");
    struct store_import_options options = {.data_path = path, .format = "csv", .now = 5};
    enum err err = store_import_run(store, &manifest, &options, report, &info);
    if (err) {
        print_error("%s\n", info.text);
    }
    unlink(path);
    return err;
}

/* SHA-256 over all plain values of the partition: the same before and after. */
static void digest(struct store *store, uint8_t ret[32])
{
    struct store_partition *partition = NULL;
    struct err_info info = {0};
    if (store_partition_open(store, "d", &partition, &info)) {
        fail_msg("%s", info.text);
    }
    struct crypto_opener *opener = NULL;
    MDB_txn *txn = NULL;
    struct buf plain = {.max = (size_t)8 << 20};
    assert_int_equal(crypto_opener_new(partition->dek, store_partition_context(), &opener), E_OK);
    assert_int_equal(mdb_txn_begin(store_env_mdb(partition->env), NULL, MDB_RDONLY, &txn), 0);
    memset(ret, 0, 32);
    for (size_t c = 0; c < partition->schema.count; c++) {
        for (uint32_t n = 0; n < partition->chunks; n++) {
            assert_int_equal(store_partition_read(
                                 partition, txn, opener, STORE_PARTITION_CHUNK,
                                 partition->schema.columns[c].name, n,
                                 (uint32_t)store_partition_chunk_rows(partition, n), &plain, &info),
                             E_OK);
            struct span parts[2] = {span_of(ret, 32), buf_span(&plain)};
            uint8_t next[32];
            crypto_sha256(parts, 2, next);
            memcpy(ret, next, 32);
        }
    }
    assert_string_equal(store_partition_value(partition, 2, 3), "ward-3");
    mdb_txn_abort(txn);
    crypto_opener_free(opener);
    buf_fini(&plain);
    store_partition_close(partition);
}

static struct crypto_key data_key(void)
{
    const struct crypto_key *key = NULL;
    assert_int_equal(crypto_keyring_get(home.keyring, "dataset/d", &key), E_OK);
    return *key;
}

static void remake(void)
{
    struct err_info info = {0};
    home_detach(&home);
    if (home_attach(&home, &info)) {
        fail_msg("%s", info.text);
    }
}

static size_t files_in_partitions(void)
{
    char command[160];
    size_t count = 0;
    snprintf(command, sizeof command, "ls -A '%s/partitions' | wc -l", home.path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%zu", &count), 1);
    pclose(pipe);
    return count;
}

/* --- searching the home's bytes ------------------------------------------------------------ */

static uint8_t needle[60];
static size_t found;
static size_t searched;

static int search_file(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    if (flag == FTW_F) {
        size_t len = 0;
        uint8_t *bytes = slurp(path, &len);
        /* The nonce, the wrapped key and the tag each count. */
        found += memmem(bytes, len, needle, 12) || memmem(bytes, len, needle + 12, 32) ||
                 memmem(bytes, len, needle + 44, 16);
        searched++;
        free(bytes);
    }
    return 0;
}

static size_t search_home(void)
{
    found = searched = 0;
    assert_int_equal(nftw(home.path, search_file, 16, FTW_PHYS), 0);
    assert_true(searched >= 4);
    return found;
}

/* The 60 bytes behind NAME and version in the keyring file. */
static void wrapped_key(const char *name)
{
    char path[128];
    size_t len = 0;
    snprintf(path, sizeof path, "%s/keyring", home.path);
    uint8_t *bytes = slurp(path, &len);
    uint8_t *at = memmem(bytes, len, name, strlen(name));
    assert_non_null(at);
    memcpy(needle, at + strlen(name) + 4, sizeof needle);
    free(bytes);
}

/* --- tests --------------------------------------------------------------------------------- */

static int start(void **state)
{
    (void)state;
    struct store_import_report report;
    home_open(&home);
    return import_rows(&home.store, ROWS, &report) == E_OK ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    home_remove(&home);
    return 0;
}

static enum err put_answer(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    static const uint8_t charge[16] = {7};
    return store_answer_put(store, txn, ctx, span_str("d"), charge, span_str("an answer"), reterr);
}

static void expect_answer(uint8_t replay_key[32])
{
    struct buf answer = {.max = 100};
    struct err_info info = {0};
    if (store_ledger_answer(&home.store, replay_key, &answer, NULL, &info)) {
        fail_msg("%s", info.text);
    }
    assert_int_equal(answer.len, 9);
    buf_fini(&answer);
}

static void test_rotation(void **state)
{
    (void)state;
    uint8_t before[32];
    uint8_t after[32];
    uint8_t replay_key[32] = {5};
    struct err_info info = {0};
    struct store_partition *reader = NULL;
    assert_int_equal(store_write(&home.store, put_answer, replay_key, &info), E_OK);
    digest(&home.store, before);
    struct crypto_key old = data_key();
    wrapped_key("dataset/d");
    assert_int_equal(search_home(), 1);
    assert_int_equal(store_partition_open(&home.store, "d", &reader, &info), E_OK);
    assert_int_equal(store_rotate_run(&home.store, "d", NULL, NULL), E_NOT_FOUND);
    assert_int_equal(store_rotate_begin(&home.store, "none", NULL), E_NOT_FOUND);
    assert_int_equal(store_rotate_begin(&home.store, "d", &info), E_OK);
    assert_int_equal(store_rotate_begin(&home.store, "d", &info), E_OK);
    if (store_rotate_run(&home.store, "d", NULL, &info)) {
        fail_msg("%s", info.text);
    }
    struct crypto_key fresh = data_key();
    assert_memory_not_equal(old.bytes, fresh.bytes, 32);
    assert_int_equal(search_home(), 0);
    digest(&home.store, after);
    assert_memory_equal(before, after, 32);
    assert_int_equal(store_partition_rows(reader), ROWS); /* whose file has no name any more */
    store_partition_close(reader);
    expect_answer(replay_key);
    assert_int_equal(files_in_partitions(), 1);
    remake();
    digest(&home.store, after);
    assert_memory_equal(before, after, 32);
    expect_answer(replay_key);
}

/* Identifiers keep their numbers over two rotations, though the key that they were mapped under is gone. */
static void test_pseudonyms_stay(void **state)
{
    (void)state;
    uint8_t before[32];
    uint8_t after[32];
    struct store_import_report report;
    struct err_info info = {0};
    digest(&home.store, before);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(store_rotate_begin(&home.store, "d", &info), E_OK);
        assert_int_equal(store_rotate_run(&home.store, "d", NULL, &info), E_OK);
        assert_int_equal(import_rows(&home.store, ROWS, &report), E_OK);
        assert_int_equal(report.units, 500);
        digest(&home.store, after);
        assert_memory_equal(before, after, 32);
    }
}

/* The keyring cannot be written at the switch: the dataset serves under either key, and the next start finishes. */
static void test_interrupted_switch(void **state)
{
    (void)state;
    char block[128];
    uint8_t before[32];
    uint8_t after[32];
    char name[65];
    struct err_info info = {0};
    digest(&home.store, before);
    snprintf(block, sizeof block, "%s/keyring.new", home.path);
    assert_int_equal(store_rotate_begin(&home.store, "d", &info), E_OK);
    assert_int_equal(mkdir(block, 0700), 0);
    assert_int_not_equal(store_rotate_run(&home.store, "d", NULL, &info), E_OK);
    assert_true(store_rotate_pending(&home.store, 0, name));
    digest(&home.store, after);
    assert_memory_equal(before, after, 32);
    assert_int_equal(rmdir(block), 0);
    remake();
    assert_false(store_rotate_pending(&home.store, 0, name));
    digest(&home.store, after);
    assert_memory_equal(before, after, 32);
    assert_int_equal(files_in_partitions(), 1);
}

static int kill_at;

static bool die(void *user)
{
    (void)user;
    if (--kill_at == 0) {
        _exit(7);
    }
    return false;
}

/* kill -9 after each of some values: the old version is whole, and the rotation goes on after the restart. */
static void test_killed(void **state)
{
    (void)state;
    uint8_t before[32];
    uint8_t after[32];
    char name[65];
    struct err_info info = {0};
    digest(&home.store, before);
    home_detach(&home);
    for (int at = 1; at < 12; at += 3) {
        pid_t child = fork();
        if (child == 0) {
            struct store_rotate_options options = {.cancelled = die};
            kill_at = at;
            bool ready = !home_attach(&home, &info) && !store_rotate_begin(&home.store, "d", &info);
            _exit(ready && !store_rotate_run(&home.store, "d", &options, &info) ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(WEXITSTATUS(status), 7);
        assert_int_equal(home_attach(&home, &info), E_OK);
        assert_int_equal(files_in_partitions(), 1);
        assert_true(store_rotate_pending(&home.store, 0, name));
        assert_string_equal(name, "d");
        digest(&home.store, after);
        assert_memory_equal(before, after, 32);
        home_detach(&home);
    }
    assert_int_equal(home_attach(&home, &info), E_OK);
    assert_int_equal(store_rotate_run(&home.store, "d", NULL, &info), E_OK);
    assert_false(store_rotate_pending(&home.store, 0, name));
    digest(&home.store, after);
    assert_memory_equal(before, after, 32);
}

static _Atomic bool reading;
static _Atomic unsigned reads;
static uint8_t expected[32];

/* Opens, reads everything and compares, as questions do. */
static void *read_on(void *arg)
{
    (void)arg;
    while (reading) {
        uint8_t now[32];
        digest(&home.store, now); /* fails the test when the dataset does not open */
        assert_memory_equal(now, expected, 32);
        reads++;
    }
    return NULL;
}

/* Questions go on: none of them ever finds a dataset that it cannot open, whatever moment of a rotation it meets. */
static void test_readers_go_on(void **state)
{
    (void)state;
    pthread_t threads[2];
    struct err_info info = {0};
    digest(&home.store, expected);
    reading = true;
    reads = 0;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, NULL), 0);
    }
    for (int i = 0; i < 12; i++) {
        assert_int_equal(store_rotate_begin(&home.store, "d", &info), E_OK);
        if (store_rotate_run(&home.store, "d", NULL, &info)) {
            print_error("%s\n", info.text);
            reading = false;
        }
    }
    bool whole = reading;
    reading = false;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_true(whole);
    assert_true(reads > 2);
}

static bool stop_now(void *user)
{
    (void)user;
    return true;
}

static void test_cancelled(void **state)
{
    (void)state;
    uint8_t after[32];
    struct err_info info = {0};
    struct store_rotate_options options = {.cancelled = stop_now};
    assert_int_equal(store_rotate_begin(&home.store, "d", &info), E_OK);
    assert_int_equal(store_rotate_run(&home.store, "d", &options, &info), E_CANCELLED);
    assert_int_equal(files_in_partitions(), 1);
    digest(&home.store, after);
}

/* Removal: neither the key in force nor one that a rotation prepared is left in any file, old pages of node.mdb included. */
static void test_shredding(void **state)
{
    (void)state;
    uint8_t current[60];
    uint8_t next[60];
    struct err_info info = {0};
    assert_int_equal(store_rotate_begin(&home.store, "d", &info), E_OK);
    wrapped_key("rotate/d");
    memcpy(next, needle, sizeof next);
    assert_int_equal(search_home(), 1);
    wrapped_key("dataset/d");
    memcpy(current, needle, sizeof current);
    assert_int_equal(search_home(), 1);
    assert_int_equal(store_import_remove(&home.store, "d", &info), E_OK);
    assert_int_equal(search_home(), 0);
    memcpy(needle, next, sizeof needle);
    assert_int_equal(search_home(), 0);
    remake();
    assert_int_equal(search_home(), 0);
    memcpy(needle, current, sizeof needle);
    assert_int_equal(search_home(), 0);
}

/* An older keyring, which would bring a shredded key back, is noticed. */
static void test_old_keyring(void **state)
{
    (void)state;
    char path[128];
    size_t len = 0;
    struct err_info info = {0};
    snprintf(path, sizeof path, "%s/keyring", home.path);
    remake(); /* anchors what the import changed */
    uint8_t *old = slurp(path, &len);
    assert_int_equal(store_import_remove(&home.store, "d", &info), E_OK);
    home_detach(&home);
    size_t new_len = 0;
    uint8_t *fresh = slurp(path, &new_len);
    write_file(path, old, len);
    assert_int_equal(home_attach(&home, &info), E_ROLLBACK);
    assert_non_null(strstr(info.text, "keyring"));
    home_detach(&home);
    write_file(path, fresh, new_len);
    assert_int_equal(home_attach(&home, &info), E_OK);
    free(old);
    free(fresh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rotation, start, stop),
        cmocka_unit_test_setup_teardown(test_pseudonyms_stay, start, stop),
        cmocka_unit_test_setup_teardown(test_interrupted_switch, start, stop),
        cmocka_unit_test_setup_teardown(test_killed, start, stop),
        cmocka_unit_test_setup_teardown(test_readers_go_on, start, stop),
        cmocka_unit_test_setup_teardown(test_cancelled, start, stop),
        cmocka_unit_test_setup_teardown(test_shredding, start, stop),
        cmocka_unit_test_setup_teardown(test_old_keyring, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
