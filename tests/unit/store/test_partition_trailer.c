/* The end of a partition file: what opening covers, what reading covers, and files of version 1. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "crypto/kdf.h"
#include "store/partition_file.h"
#include "tests/unit/store/dataset.h"

#define ROWS   70000 /* two chunks */
#define LINE   52    /* of the table: key, tag, page header (doc/format.md) */
#define HEADER 36    /* where in a line */

static struct home home;
static struct err_info info;
static char path[160];
static uint8_t *file; /* as it was written */
static size_t len;

static void import_table(void)
{
    static struct proto_column columns[] = {
        {.name = "id", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = ROWS},
        {.name = "level", .type = PROTO_COLUMN_REAL, .has_bounds = true, .max = ROWS},
    };
    char csv[96];
    struct proto_manifest manifest;
    struct store_import_report report;
    struct store_import_options options = {.data_path = csv};
    snprintf(csv, sizeof csv, "%s/t.csv", home.path);
    FILE *out = fopen(csv, "w");
    assert_non_null(out);
    fputs("id,level\n", out);
    for (unsigned i = 0; i < ROWS; i++) {
        fprintf(out, "%u,%u.%02u\n", i, i * 7919 % ROWS, i % 100);
    }
    assert_int_equal(fclose(out), 0);
    manifest_init(&manifest, "t", columns, 2, "");
    assert_int_equal(store_import_run(&home.store, &manifest, &options, &report, &info), E_OK);
    partition_path(&home, report.partition_uuid, path);
}

static int start(void **state)
{
    (void)state;
    home_open(&home);
    import_table();
    file = slurp(path, &len);
    assert_non_null(file);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    free(file);
    home_remove(&home);
    return 0;
}

static enum err look_away(void *user, enum store_partition_kind kind, const char *name,
                          uint32_t number, uint32_t rows, struct span plain, struct err_info *err)
{
    (void)kind, (void)name, (void)number, (void)rows, (void)plain, (void)err;
    ++*(size_t *)user;
    return E_OK;
}

/* Opens BYTES in the partition's place, and reads every value when it opened. */
static enum err open_and_read(const uint8_t *bytes, size_t size, bool *ret_opened)
{
    struct store_partition *partition;
    size_t seen = 0;
    write_file(path, bytes, size);
    enum err err = store_partition_open_checked(&home.store, "t", &partition, &info);
    *ret_opened = err == E_OK;
    if (!err) {
        err = store_partition_each(partition, look_away, &seen, &info);
        store_partition_close(partition);
        assert_true(err || seen > 6);
    }
    assert_true(!err || strstr(info.text, "dataset t, file "));
    return err;
}

static uint32_t lines(void)
{
    return get_be32(file + len - 72 + 28);
}

static const uint8_t *line(uint32_t number)
{
    return file + len - 72 - (size_t)(lines() - number) * LINE;
}

/* Where in the file the pages of line NUMBER's value begin; 0: it has none of its own. */
static size_t place(uint32_t number, size_t *ret_size)
{
    uint64_t page;
    uint32_t pages;
    memcpy(&page, line(number) + HEADER, sizeof page);
    memcpy(&pages, line(number) + HEADER + 12, sizeof pages);
    *ret_size = (size_t)pages * 4096;
    return (size_t)page * 4096;
}

static void as_written_it_reads(void **state)
{
    (void)state;
    bool opened;
    assert_int_equal(open_and_read(file, len, &opened), E_OK);
    assert_memory_equal(file + len - 72, "CCPT\0\0\0\2", 8);
    uint32_t large = 0;
    for (uint32_t i = 0; i < lines(); i++) {
        size_t size;
        size_t at = place(i, &size);
        if (at) {
            large++;
            assert_true(at + size <= len);
            assert_memory_equal(file + at, line(i) + HEADER, 16);
            assert_memory_equal(file + at + size - 16, line(i) + 20, 16); /* padded to the end */
        }
        assert_true(i == 0 || memcmp(line(i - 1), line(i), 20) < 0);
    }
    assert_true(large >= 4); /* two chunks of two columns */
}

static void table_and_trailer_are_covered(void **state)
{
    (void)state;
    bool opened;
    for (size_t back = 1; back <= 72 + (size_t)lines() * LINE; back += back < 72 ? 1 : 5) {
        file[len - back] ^= 0x10;
        assert_int_equal(open_and_read(file, len, &opened), E_CORRUPT);
        assert_false(opened);
        file[len - back] ^= 0x10;
    }
    assert_int_equal(open_and_read(file, len - 72, &opened), E_CORRUPT);
    assert_int_equal(open_and_read(file, 71, &opened), E_CORRUPT);
}

/* Opening looks at no large value, so a file of any size opens at once; whoever reads one finds what was changed. */
static void large_values_are_checked_when_they_are_read(void **state)
{
    (void)state;
    bool opened;
    unsigned tried = 0;
    for (uint32_t i = 0; i < lines(); i++) {
        size_t size;
        size_t at = place(i, &size);
        for (size_t k = 0; at && k < 33; k++) {
            size_t byte = k < 16 ? at + k : k < 32 ? at + size - 32 + k : at + size / 2;
            file[byte] ^= 1;
            enum err err = open_and_read(file, len, &opened);
            assert_true(opened);
            assert_true(err == E_CORRUPT || err == E_AUTH);
            file[byte] ^= 1;
            tried++;
        }
    }
    assert_true(tried >= 4 * 33);
    assert_int_equal(open_and_read(file, len, &opened), E_OK);
}

/* --- version 1 ----------------------------------------------------------------------------- */

static void chain(uint8_t state[32], uint64_t number, const uint8_t *bytes, size_t size)
{
    uint8_t place[8];
    uint8_t next[32];
    put_be64(place, number);
    struct span parts[3] = {span_of(state, 32), span_of(place, 8), span_of(bytes, size)};
    crypto_sha256(parts, 3, next);
    memcpy(state, next, 32);
}

/* The same pages with the end that version 1 wrote: no table, and a digest over the first bytes of large values, too. */
static uint8_t *version_1(size_t *ret_len)
{
    uint64_t pages = get_be64(file + len - 72 + 32);
    size_t body = (size_t)pages * 4096;
    uint8_t *old = malloc(body + 72);
    uint8_t state[32] = {0};
    struct crypto_key *dek, *index;
    assert_non_null(old);
    memcpy(old, file, body);
    uint8_t *trailer = old + body;
    memset(trailer, 0, 72);
    memcpy(trailer, "CCPT\0\0\0\1", 8);
    memcpy(trailer + 8, file + len - 72 + 8, 16);
    put_be32(trailer + 24, 4096);
    put_be64(trailer + 32, pages);
    for (uint64_t at = 0; at < pages;) {
        const uint8_t *page = old + at * 4096;
        uint16_t flags;
        uint32_t run;
        memcpy(&flags, page + 10, sizeof flags);
        memcpy(&run, page + 12, sizeof run);
        chain(state, at, page, flags == 4 ? 16 : 4096);
        at += flags == 4 ? run : 1;
    }
    assert_int_equal(crypto_keyring_copy(home.keyring, "dataset/t", &dek), E_OK);
    assert_int_equal(store_partition_index_key(dek, &index), E_OK);
    struct span parts[3] = {span_str("concordat/partition-trailer/1"), span_of(trailer, 40),
                            span_of(state, 32)};
    crypto_hmac(span_of(index->bytes, CRYPTO_KEY_SIZE), parts, 3, trailer + 40);
    crypto_key_free(dek);
    crypto_key_free(index);
    *ret_len = body + 72;
    return old;
}

static void files_of_version_1_are_read(void **state)
{
    (void)state;
    bool opened;
    size_t old_len;
    size_t size;
    uint8_t *old = version_1(&old_len);
    assert_int_equal(open_and_read(old, old_len, &opened), E_OK);
    for (uint32_t i = 0; i < lines(); i++) {
        size_t at = place(i, &size);
        if (at) {
            size_t bytes[] = {at, at + 12, at + size - 1}; /* its header, and its tag */
            for (size_t k = 0; k < 3; k++) {
                old[bytes[k]] ^= 1;
                assert_int_equal(open_and_read(old, old_len, &opened), E_CORRUPT);
                assert_false(opened);
                old[bytes[k]] ^= 1;
            }
        }
    }
    free(old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_written_it_reads),
        cmocka_unit_test(table_and_trailer_are_covered),
        cmocka_unit_test(large_values_are_checked_when_they_are_read),
        cmocka_unit_test(files_of_version_1_are_read),
    };
    return cmocka_run_group_tests_name("partition_trailer", tests, start, stop);
}
