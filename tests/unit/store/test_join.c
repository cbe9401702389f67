/* The table of an import's joins against a plain model: in memory, spilled once, spilled many times; and that nothing of it
 * can be read on disk. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/provider.h"
#include "proto/alloc.h"
#include "store/join.h"
#include "tests/lib/seed.h"

#define NAMES 4000

static char folder[] = "/tmp/concordat-join.XXXXXX";

static struct span record_of(unsigned name, unsigned version, char text[200])
{
    int len = snprintf(text, 200, "PLANTED-%u-%u", name, version);
    size_t padded = (size_t)len + (name * 7 + version) % 120;
    memset(text + len, 'x', padded - (size_t)len);
    return span_of(text, padded);
}

static struct span name_of(unsigned number, char text[32])
{
    snprintf(text, 32, "Patient/%u", number);
    return span_str(text);
}

/* Adds in random order, some names several times; the last record of each must be found. */
static uint64_t run(size_t memory, struct seed *seed, void (*look)(void))
{
    static unsigned last[NAMES];
    struct store_join *join;
    char name[32], text[200];
    memset(last, 0, sizeof last);
    assert_int_equal(store_join_open(folder, memory, &join, NULL), E_OK);
    for (unsigned i = 0; i < 3 * NAMES; i++) {
        unsigned number = (unsigned)seed_below(seed, NAMES);
        last[number]++;
        assert_int_equal(store_join_add(join, name_of(number, name),
                                        record_of(number, last[number], text), NULL),
                         E_OK);
    }
    assert_int_equal(store_join_finish(join, NULL), E_OK);
    if (look) {
        look();
    }
    for (unsigned i = 0; i < 2 * NAMES; i++) {
        unsigned number = i < NAMES ? i : (unsigned)seed_below(seed, NAMES + 500);
        struct span found = SPAN_NONE;
        enum err err = store_join_find(join, name_of(number, name), &found, NULL);
        bool there = number < NAMES && last[number];
        assert_int_equal(err, there ? E_OK : E_NOT_FOUND);
        assert_true(!there || span_equal(found, record_of(number, last[number], text)));
    }
    uint64_t spilled = store_join_spilled(join);
    store_join_close(join);
    return spilled;
}

static void the_last_record_of_a_name_is_found(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(20261129));
    assert_int_equal(run((size_t)16 << 20, &seed, NULL), 0);
    assert_true(run((size_t)1 << 20, &seed, NULL) > 0);              /* one run or two */
    assert_true(run((size_t)40 << 10, &seed, NULL) > 3 * NAMES / 2); /* some thirty runs */
}

/* Every open file of this process that lies in the folder: unlinked, of mode 0600, and without the planted word. */
static void search_files(void)
{
    DIR *fds = opendir("/proc/self/fd");
    const struct dirent *entry;
    unsigned files = 0;
    assert_non_null(fds);
    while ((entry = readdir(fds)) != NULL) {
        char path[300], target[300];
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        ssize_t len = readlink(path, target, sizeof target - 1);
        target[len > 0 ? len : 0] = '\0';
        if (strncmp(target, folder, strlen(folder)) != 0) {
            continue;
        }
        files++;
        assert_non_null(strstr(target, "(deleted)"));
        int fd = open(path, O_RDONLY);
        char block[65536];
        ssize_t got;
        size_t all = 0;
        while (fd >= 0 && (got = read(fd, block, sizeof block)) > 0) {
            assert_null(memmem(block, (size_t)got, "PLANTED", 7));
            all += (size_t)got;
        }
        assert_true(all > 100000);
        close(fd);
    }
    closedir(fds);
    assert_int_equal(files, 1);
    DIR *dir = opendir(folder);
    unsigned names = 0;
    while (dir && (entry = readdir(dir)) != NULL) {
        names += entry->d_name[0] != '.';
    }
    closedir(dir);
    assert_int_equal(names, 0);
}

static void nothing_can_be_read_on_disk(void **state)
{
    (void)state;
    struct seed seed = seed_of(7);
    assert_true(run((size_t)64 << 10, &seed, search_files) > 0);
}

static void limits_hold(void **state)
{
    (void)state;
    struct store_join *join;
    struct err_info info = {0};
    static uint8_t large[STORE_JOIN_RECORD_MAX + 1];
    assert_int_equal(store_join_open(folder, 1 << 20, &join, NULL), E_OK);
    assert_int_equal(store_join_add(join, span_str("a"), span_of(large, sizeof large), &info),
                     E_LIMIT);
    assert_int_equal(
        store_join_add(join, span_str("a"), span_of(large, STORE_JOIN_RECORD_MAX), NULL), E_OK);
    assert_int_equal(store_join_add(join, span_str("b"), SPAN_NONE, NULL), E_OK);
    assert_int_equal(store_join_finish(join, NULL), E_OK);
    struct span found;
    assert_int_equal(store_join_find(join, span_str("a"), &found, NULL), E_OK);
    assert_int_equal(found.len, STORE_JOIN_RECORD_MAX);
    assert_int_equal(store_join_find(join, span_str("b"), &found, NULL), E_OK);
    assert_int_equal(found.len, 0);
    store_join_close(join);
    assert_int_equal(store_join_open(folder, 1 << 20, &join, NULL), E_OK);
    assert_int_equal(store_join_finish(join, NULL), E_OK); /* empty */
    assert_int_equal(store_join_find(join, span_str("a"), &found, NULL), E_NOT_FOUND);
    store_join_close(join);
    store_join_close(NULL);
}

/* A folder that cannot be written to is an error, not a crash. */
static void a_missing_folder_is_named(void **state)
{
    (void)state;
    struct store_join *join;
    struct err_info info = {0};
    char text[200];
    enum err err = E_OK;
    assert_int_equal(store_join_open("/nonexistent/concordat", 4096, &join, NULL), E_OK);
    for (unsigned i = 0; i < 200 && !err; i++) {
        err = store_join_add(join, span_str("same"), record_of(i, 1, text), &info);
    }
    assert_int_not_equal(err, E_OK);
    assert_true(strlen(info.text) > 0);
    store_join_close(join);
}

/* A disk that takes no more (here a limit of the file's size) is an error that names it. */
static void a_full_disk_is_named(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        struct store_join *join;
        struct err_info info = {0};
        struct rlimit small = {100000, 100000};
        char name[32], text[200];
        enum err err = store_join_open(folder, 40000, &join, NULL);
        signal(SIGXFSZ, SIG_IGN);
        (void)!setrlimit(RLIMIT_FSIZE, &small);
        for (unsigned i = 0; i < 5000 && !err; i++) {
            err = store_join_add(join, name_of(i, name), record_of(i, 1, text), &info);
        }
        store_join_close(join);
        _exit(err && err != E_INTERNAL && info.text[0] ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    struct err_info info;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_record_of_a_name_is_found),
        cmocka_unit_test(nothing_can_be_read_on_disk),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(a_missing_folder_is_named),
        cmocka_unit_test(a_full_disk_is_named),
    };
    if (crypto_init(&info) || !mkdtemp(folder)) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
