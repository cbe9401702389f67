/* What store_pages_check lets pass, LMDB can walk: a damaged file is refused, or read to its end without a signal. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <lmdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/pages.h"
#include "tests/lib/seed.h"

#define PAGE 4096

static struct seed seed;
static char folder[64], path[96], lock[112];

/* Two tables, values in leaves and of several pages, and pages that are free again. */
static void make_file(void)
{
    static char big[9000];
    MDB_env *env;
    MDB_dbi tables[2];
    MDB_txn *txn;
    unlink(path);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_set_mapsize(env, 4 << 20), 0);
    assert_int_equal(mdb_env_open(env, path, MDB_NOSUBDIR, 0600), 0);
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
        assert_int_equal(mdb_dbi_open(txn, "a", MDB_CREATE, &tables[0]), 0);
        assert_int_equal(mdb_dbi_open(txn, "b", MDB_CREATE, &tables[1]), 0);
        for (unsigned i = 0; i < 300; i++) {
            char name[16];
            MDB_val key = {(size_t)snprintf(name, sizeof name, "key%06u", i * 7), name};
            MDB_val value = {i % 40 == 3 ? sizeof big : 10 + i % 90, big};
            assert_int_equal(mdb_put(txn, tables[i % 2], &key, &value, 0), 0);
        }
        assert_int_equal(mdb_txn_commit(txn), 0);
    }
    mdb_env_close(env);
}

static enum err check(void)
{
    uint64_t page;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    enum err err = store_pages_check(fd, &page);
    close(fd);
    return err;
}

/* Every byte of every row, as LMDB finds them; in a child, whose end tells. */
static void walk(void)
{
    MDB_env *env;
    MDB_txn *txn;
    if (mdb_env_create(&env) || mdb_env_set_maxdbs(env, 4) ||
        mdb_env_open(env, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK, 0) ||
        mdb_txn_begin(env, NULL, MDB_RDONLY, &txn)) {
        _exit(0);
    }
    unsigned sum = 0;
    for (unsigned t = 0; t < 2; t++) {
        MDB_dbi dbi;
        MDB_cursor *cursor;
        MDB_val key, value;
        if (mdb_dbi_open(txn, t ? "b" : "a", 0, &dbi) || mdb_cursor_open(txn, dbi, &cursor)) {
            continue;
        }
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            for (size_t i = 0; i < value.mv_size; i++) {
                sum += ((const uint8_t *)value.mv_data)[i];
            }
        }
    }
    _exit(sum == 1 ? 2 : 0);
}

static bool walks(void)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        walk();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status);
}

static void put_byte(off_t at, uint8_t flip)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= flip;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void what_passes_can_be_walked(void **state)
{
    (void)state;
    make_file();
    assert_int_equal(check(), E_OK);
    assert_true(walks());
    int fd = open(path, O_RDONLY);
    off_t size = lseek(fd, 0, SEEK_END);
    close(fd);
    unsigned refused = 0;
    for (unsigned i = 0; i < 1500; i++) {
        /* Mostly where pages have their headers and pointers. */
        off_t page = (off_t)seed_below(&seed, (uint64_t)size / PAGE) * PAGE;
        off_t at = page + (off_t)seed_below(&seed, i % 4 ? 64 : PAGE);
        uint8_t flip = (uint8_t)(1 << seed_below(&seed, 8));
        put_byte(at, flip);
        enum err err = check();
        assert_true(err == E_OK || err == E_CORRUPT);
        if (err == E_OK && !walks()) {
            fail_msg("byte %ld, bit %u passes, but LMDB does not survive it", (long)at, flip);
        }
        refused += err != E_OK;
        put_byte(at, flip);
    }
    assert_int_equal(check(), E_OK);
    assert_in_range(refused, 30, 1400);
    assert_int_equal(truncate(path, size / 2), 0);
    assert_int_equal(check(), E_CORRUPT);
}

int main(void)
{
    seed = seed_of(seed_number(31));
    snprintf(folder, sizeof folder, "/tmp/concordat-XXXXXX");
    if (!mkdtemp(folder)) {
        return 1;
    }
    snprintf(path, sizeof path, "%s/x.mdb", folder);
    snprintf(lock, sizeof lock, "%s-lock", path);
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_passes_can_be_walked)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    unlink(lock);
    rmdir(folder);
    return failed;
}
