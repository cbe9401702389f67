#include "config.h"
#include "home.h"
#include "store/witness.h"

#define ENTRIES 12

static struct home home;

static int setup(void **state)
{
    (void)state;
    home_make(&home);
    home_federate(&home);
    for (int i = 0; i < ENTRIES; i++) {
        char body[32];
        int n = snprintf(body, sizeof body, "{\"n\":%d}", i);
        assert_int_equal(store_audit_append(&home.store, i % 2 ? "query.test" : "admin.test",
                                            span_of(body, (size_t)n), NOW + i, NULL),
                         E_OK);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    home_remove(&home);
    return 0;
}

static struct store_audit_report verify(const char *path, const uint8_t *point, enum err expected)
{
    struct store_audit_report report;
    struct err_info info = {0};
    enum err err = store_audit_verify(path, point, &report, &info);
    if (err != expected) {
        print_error("verify: %s: %s\n", proto_err_name(err), info.text);
    }
    assert_int_equal(err, expected);
    assert_int_equal(report.ok, expected == E_OK);
    return report;
}

static enum err add_up(void *user, const struct store_audit_entry *entry)
{
    uint64_t *sum = user;
    *sum += entry->seq;
    assert_true(entry->body.len > 4 && entry->body.ptr[0] == '{');
    return E_OK;
}

static void test_append_and_read(void **state)
{
    (void)state;
    uint64_t sum = 0;
    assert_int_equal(store_audit_each(&home.store, 0, NULL, add_up, &sum, NULL), E_OK);
    assert_int_equal(sum, ENTRIES * (ENTRIES + 1) / 2);
    sum = 0;
    assert_int_equal(store_audit_each(&home.store, NOW + 6, "query.", add_up, &sum, NULL), E_OK);
    assert_int_equal(sum, 8 + 10 + 12);
    assert_int_equal(store_audit_append(&home.store, "Bad Kind", BODY, NOW, NULL), E_INVALID);
    assert_int_equal(store_audit_append(&home.store, "", BODY, NOW, NULL), E_INVALID);
    struct store_audit_report report;
    assert_int_equal(store_audit_check(&home.store, &report, NULL), E_OK);
    assert_int_equal(report.entries, ENTRIES);
}

static void test_verify_offline_and_on_a_copy(void **state)
{
    (void)state;
    char copy[128];
    struct buf file;
    /* Another process holds the store open and writes, this one verifies. */
    store_close(&home.store);
    int gate[2];
    assert_int_equal(pipe(gate), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct home child;
        if (!home_child(&home, &child) ||
            store_audit_append(&child.store, "child.test", BODY, NOW, NULL) ||
            write(gate[1], "x", 1) != 1) {
            _exit(3);
        }
        pause();
        _exit(0);
    }
    close(gate[1]);
    char go;
    assert_int_equal(read(gate[0], &go, 1), 1);
    struct store_audit_report report = verify(home.mdb, NULL, E_OK);
    assert_int_equal(report.entries, ENTRIES + 1);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(gate[0]);
    snprintf(copy, sizeof copy, "%s/copy.mdb", home.dir);
    home_file(home.mdb, &file);
    assert_int_equal(store_file_write(copy, buf_span(&file), NULL), E_OK);
    report = verify(copy, NULL, E_OK);
    assert_int_equal(report.entries, ENTRIES + 1);
    assert_string_equal(report.head + 64, "");
    verify(copy, crypto_identity_point(home.identity), E_OK);
    struct crypto_identity *other = NULL;
    assert_int_equal(crypto_identity_generate(&other), E_OK);
    verify(copy, crypto_identity_point(other), E_AUTH);
    crypto_identity_free(other);
    snprintf(copy, sizeof copy, "%s/copy.mdb-lock", home.dir);
    assert_false(store_file_exists(copy)); /* verifying wrote nothing */
    buf_fini(&file);
}

/* Where the entries of an export begin, from the layout in audit.h. */
static size_t find_entries(struct span export, size_t *ret_at)
{
    size_t at = 8 + 32 + STORE_AUDIT_HEAD_SIZE;
    uint32_t records = get_be32(export.ptr + at);
    at += 4;
    for (uint32_t i = 0; i < records; i++) {
        at += 4 + get_be32(export.ptr + at);
    }
    at += 4 + get_be32(export.ptr + at) * (size_t)(16 + 64 + STORE_AUDIT_HEAD_BODY);
    size_t count = (size_t)get_be64(export.ptr + at);
    at += 8;
    for (size_t i = 0; i < count; i++) {
        ret_at[i] = at;
        at += 4 + get_be32(export.ptr + at);
    }
    ret_at[count] = at;
    assert_int_equal(at, export.len);
    return count;
}

static void export_home(struct buf *ret)
{
    char path[128];
    snprintf(path, sizeof path, "%s/export", home.dir);
    assert_int_equal(store_audit_export(&home.store, path, NULL), E_OK);
    struct store_audit_report report = verify(path, NULL, E_OK);
    assert_int_equal(report.entries, ENTRIES);
    home_file(path, ret);
}

static void test_any_flipped_byte_is_located(void **state)
{
    (void)state;
    struct buf export;
    size_t at[ENTRIES + 1];
    struct store_audit_report report;
    export_home(&export);
    const uint8_t *point = crypto_identity_point(home.identity);
    assert_int_equal(find_entries(buf_span(&export), at), ENTRIES);
    for (size_t i = 0; i < ENTRIES; i++) {
        for (size_t byte = at[i] + 4; byte < at[i + 1]; byte++) {
            export.ptr[byte] ^= (uint8_t)(1 << (byte % 8));
            assert_int_equal(store_audit_verify_export(buf_span(&export), point, &report, NULL),
                             E_CORRUPT);
            assert_int_equal(report.first_bad, i + 1);
            export.ptr[byte] ^= (uint8_t)(1 << (byte % 8));
        }
    }
    for (size_t byte = 0; byte < at[0]; byte++) { /* elsewhere: never accepted */
        export.ptr[byte] ^= 1;
        if (store_audit_verify_export(buf_span(&export), NULL, &report, NULL) == E_OK) {
            fail_msg("byte %zu of the export can be changed", byte);
        }
        export.ptr[byte] ^= 1;
    }
    assert_int_equal(store_audit_verify_export(buf_span(&export), NULL, &report, NULL), E_OK);
    buf_fini(&export);
}

static void test_cut_and_reordered_exports(void **state)
{
    (void)state;
    struct buf export;
    size_t at[ENTRIES + 1];
    struct store_audit_report report;
    export_home(&export);
    find_entries(buf_span(&export), at);
    for (size_t len = 0; len < export.len; len++) {
        enum err err = store_audit_verify_export(span_of(export.ptr, len), NULL, &report, NULL);
        assert_true(err == E_CORRUPT || err == E_ROLLBACK);
        assert_false(report.ok);
    }
    assert_int_equal(
        store_audit_verify_export(span_of(export.ptr, at[ENTRIES - 1]), NULL, &report, NULL),
        E_ROLLBACK);
    assert_int_equal(report.first_bad, ENTRIES);
    /* Entries 4 and 6 have kinds and bodies of one length, so they can trade places. */
    size_t size = at[4] - at[3];
    assert_int_equal(size, at[6] - at[5]);
    uint8_t four[512];
    memcpy(four, export.ptr + at[3], size);
    memcpy(export.ptr + at[3], export.ptr + at[5], size);
    memcpy(export.ptr + at[5], four, size);
    assert_int_equal(store_audit_verify_export(buf_span(&export), NULL, &report, NULL), E_CORRUPT);
    assert_int_equal(report.first_bad, 4);
    buf_fini(&export);
}

static void test_flip_in_the_file(void **state)
{
    (void)state;
    struct buf file;
    struct store_audit_report report;
    store_close(&home.store);
    home_file(home.mdb, &file);
    uint8_t seq[12] = "CAE1";
    put_be64(seq + 4, 5);
    int seen = 0;
    for (size_t i = 0; i + 100 < file.len;
         i++) { /* LMDB keeps old pages: change all copies of entry 5 */
        if (memcmp(file.ptr + i, seq, 12) == 0) {
            file.ptr[i + 90] ^= 0x10;
            seen++;
        }
    }
    assert_true(seen > 0);
    home_write(home.mdb, buf_span(&file));
    report = verify(home.mdb, NULL, E_CORRUPT);
    assert_int_equal(report.first_bad, 5);
    home_try_open(&home, E_CORRUPT);
    buf_fini(&file);
}

static void test_ledger_rows_stand_under_the_head(void **state)
{
    (void)state;
    struct buf file;
    home_dataset(&home, "d", 1000);
    struct store_charge charge = home_charge(1, "d", 10);
    assert_int_equal(store_ledger_reserve(&home.store, &charge, NULL, NULL), E_OK);
    struct store_audit_head head;
    assert_int_equal(store_audit_head(&home.store, &head), E_OK);
    assert_int_equal(head.spent_nano, 10);
    assert_int_equal(store_audit_head_verify(&head, home.fed, crypto_identity_point(home.identity)),
                     E_OK);
    head.spent_nano = 0;
    assert_int_equal(store_audit_head_verify(&head, home.fed, crypto_identity_point(home.identity)),
                     E_AUTH);
    head.spent_nano = 10;
    store_close(&home.store);
    verify(home.mdb, NULL, E_OK);
    /* The stored head, changed to say that less was spent. */
    uint8_t bytes[STORE_AUDIT_HEAD_SIZE];
    store_audit_head_encode(&head, bytes);
    home_file(home.mdb, &file);
    int seen = 0;
    for (size_t i = 0; i + sizeof bytes <= file.len; i++) {
        if (memcmp(file.ptr + i, bytes, sizeof bytes) == 0) {
            file.ptr[i + 63] = 9;
            seen++;
        }
    }
    assert_true(seen > 0);
    home_write(home.mdb, buf_span(&file));
    verify(home.mdb, NULL, E_AUTH);
    home_try_open(&home, E_CORRUPT);
    for (size_t i = 0; i + sizeof bytes <= file.len; i++) {
        if (memcmp(file.ptr + i, bytes, 56) == 0) {
            file.ptr[i + 63] = 11;
        }
    }
    home_write(home.mdb, buf_span(&file));
    home_try_open(&home, E_ROLLBACK);
    buf_fini(&file);
}

static void test_witnesses(void **state)
{
    (void)state;
    struct store_audit_head head;
    struct store_audit_head got;
    uint8_t sig[64];
    const uint8_t *point = crypto_identity_point(home.identity);
    assert_int_equal(store_audit_head(&home.store, &head), E_OK);
    assert_int_equal(store_witness_put(&home.store, &head, point, NULL), E_OK);
    assert_int_equal(store_witness_put(&home.store, &head, point, NULL), E_EXISTS);
    assert_int_equal(store_witness_get(&home.store, home.node_id, &got, NULL), E_OK);
    assert_memory_equal(got.hash, head.hash, 32);
    assert_int_equal(store_witness_sign(&home.store, &head, sig), E_OK);
    sig[5] ^= 1;
    assert_int_equal(store_witness_endorse(&home.store, home.node_id, point, &head, sig, NULL),
                     E_AUTH);
    sig[5] ^= 1;
    assert_int_equal(store_witness_endorse(&home.store, home.node_id, point, &head, sig, NULL),
                     E_OK);
    assert_int_equal(store_witness_compare(&home.store, &head, NULL), E_OK);
    struct store_audit_report report;
    assert_int_equal(store_audit_check(&home.store, &report, NULL), E_OK);
    assert_int_equal(report.witness_count, 1);
    assert_string_equal(report.witnesses[0], "alpha");
    /* A head of ours that this chain does not have, rightly signed: this file is older. */
    struct buf file;
    store_close(&home.store);
    home_file(home.mdb, &file);
    home_try_open(&home, E_OK);
    assert_int_equal(store_audit_append(&home.store, "later.test", BODY, NOW, NULL), E_OK);
    assert_int_equal(store_audit_head(&home.store, &head), E_OK);
    store_close(&home.store);
    assert_int_equal(store_file_write(home.mdb, buf_span(&file), NULL), E_OK);
    home_try_open(&home, E_OK);
    assert_int_equal(store_witness_compare(&home.store, &head, NULL), E_ROLLBACK);
    /* Two heads of one number from one node. */
    assert_int_equal(store_witness_put(&home.store, &head, point, NULL), E_OK);
    assert_int_equal(store_audit_append(&home.store, "other.test", BODY, NOW, NULL), E_OK);
    assert_int_equal(store_audit_head(&home.store, &head), E_OK);
    assert_int_equal(store_witness_put(&home.store, &head, point, NULL), E_FORKED);
    head.signature[0] ^= 1;
    assert_int_equal(store_witness_compare(&home.store, &head, NULL), E_AUTH);
    buf_fini(&file);
}

static void test_foreign_identity_is_refused(void **state)
{
    (void)state;
    struct crypto_identity *other = NULL;
    struct crypto_identity *own = home.identity;
    assert_int_equal(crypto_identity_generate(&other), E_OK);
    store_close(&home.store);
    home.identity = other;
    home_try_open(&home, E_AUTH);
    /* A rotation names the key before. */
    assert_int_equal(store_open(home.dir, home.keyring, home.node_id, &home.store, NULL), E_OK);
    assert_int_equal(store_identity(&home.store, other, home.fed, crypto_identity_point(own), NULL),
                     E_OK);
    store_close(&home.store);
    home_try_open(&home, E_OK);
    crypto_identity_free(own);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_append_and_read),
        T(test_verify_offline_and_on_a_copy),
        T(test_any_flipped_byte_is_located),
        T(test_cut_and_reordered_exports),
        T(test_flip_in_the_file),
        T(test_ledger_rows_stand_under_the_head),
        T(test_witnesses),
        T(test_foreign_identity_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
