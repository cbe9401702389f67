#include "config.h"
#include "home.h"
#include "store/blob.h"
#include "store/catalogue.h"
#include "store/egress.h"
#include "store/job.h"

static struct home home;

static int setup(void **state)
{
    (void)state;
    home_make(&home);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    home_remove(&home);
    return 0;
}

static enum err count(void *user, struct span record, bool forked)
{
    int *counts = user;
    assert_true(record.len > 0);
    counts[forked]++;
    return E_OK;
}

static void test_merge(void **state)
{
    (void)state;
    uint8_t key[16];
    uint8_t prev[16];
    uint64_t seq = 0;
    bool forked = true;
    struct arena arena = {0};
    struct span bytes;
    struct proto_record record;
    proto_record_key(&crypto_proto_hash, "d", key);
    assert_int_equal(store_records_next_seq(&home.store, key, PROTO_RECORD_DATASET, &seq, prev),
                     E_OK);
    assert_int_equal(seq, 1);
    home_record(&home, PROTO_RECORD_DATASET, "d", 1, span_str("one"), E_OK);
    home_record(&home, PROTO_RECORD_DATASET, "d", 1, span_str("one"), E_EXISTS);
    home_record(&home, PROTO_RECORD_LICENCE, "d", 1, span_str("terms"),
                E_OK); /* same key, another kind */
    home_record(&home, PROTO_RECORD_DATASET, "d", 3, span_str("three"), E_OK);
    home_record(&home, PROTO_RECORD_DATASET, "d", 2, span_str("two"), E_EXISTS);
    assert_int_equal(store_records_next_seq(&home.store, key, PROTO_RECORD_DATASET, &seq, prev),
                     E_OK);
    assert_int_equal(seq, 4);
    assert_int_equal(store_records_get(&home.store, home.node_id, key, PROTO_RECORD_DATASET, &arena,
                                       &bytes, &forked),
                     E_OK);
    assert_false(forked);
    assert_int_equal(proto_record_decode(bytes, &crypto_proto_hash, &record, NULL), E_OK);
    assert_true(span_is(record.envelope.body, "three"));
    assert_memory_equal(prev, record.id, 16);
    struct span by_id;
    assert_int_equal(store_records_by_id(&home.store, record.id, &arena, &by_id), E_OK);
    assert_true(span_equal(by_id, bytes));
    int counts[2] = {0};
    assert_int_equal(store_records_each(&home.store, PROTO_RECORD_DATASET, count, counts), E_OK);
    assert_int_equal(store_records_each(&home.store, 0, count, counts), E_OK);
    assert_int_equal(counts[0], 1 + 2);
    struct err_info info = {0};
    assert_int_not_equal(store_records_put(&home.store, span_str("garbage"), &info), E_OK);
    arena_fini(&arena);
}

static void test_equivocation(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct span winner;
    struct span loser;
    struct proto_record a;
    struct proto_record b;
    bool forked = false;
    for (int i = 0; i < 8; i++) { /* several keys, so that both orders of arrival occur */
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        home_record(&home, PROTO_RECORD_LICENCE, name, 1, span_str("left"), E_OK);
        uint8_t name_key[16];
        uint8_t sig[64];
        struct buf envelope = {.max = PROTO_RECORD_MAX};
        struct buf record = {.max = PROTO_RECORD_MAX};
        proto_record_key(&crypto_proto_hash, name, name_key);
        struct proto_envelope fields = {.version = 1,
                                        .kind = PROTO_RECORD_LICENCE,
                                        .issuer = span_of(home.node_id, 16),
                                        .key = span_of(name_key, 16),
                                        .seq = 1,
                                        .hlc = 1,
                                        .expires = 2000000000,
                                        .body = span_str("right")};
        assert_int_equal(proto_record_encode(&fields, &envelope, NULL), E_OK);
        assert_int_equal(crypto_envelope_sign(home.identity, PROTO_RECORD_DOMAIN, home.fed,
                                              buf_span(&envelope), sig),
                         E_OK);
        assert_int_equal(proto_record_seal(buf_span(&envelope), sig, &record), E_OK);
        enum err err = store_records_put(&home.store, buf_span(&record), NULL);
        assert_true(err == E_OK || err == E_FORKED);
        assert_int_equal(store_records_put(&home.store, buf_span(&record), NULL), E_EXISTS);
        assert_int_equal(store_records_get(&home.store, home.node_id, name_key,
                                           PROTO_RECORD_LICENCE, &arena, &winner, &forked),
                         E_OK);
        assert_true(forked);
        assert_int_equal(store_records_fork(&home.store, home.node_id, name_key,
                                            PROTO_RECORD_LICENCE, &arena, &loser),
                         E_OK);
        assert_int_equal(proto_record_decode(winner, &crypto_proto_hash, &a, NULL), E_OK);
        assert_int_equal(proto_record_decode(loser, &crypto_proto_hash, &b, NULL), E_OK);
        assert_true(proto_record_equivocates(&a, &b));
        assert_true(memcmp(a.id, b.id, 16) < 0);
        home_record(&home, PROTO_RECORD_LICENCE, name, 2, span_str("later"), E_OK);
        assert_int_equal(store_records_get(&home.store, home.node_id, name_key,
                                           PROTO_RECORD_LICENCE, &arena, &winner, &forked),
                         E_OK);
        assert_true(forked); /* a later version heals nothing */
        buf_fini(&envelope);
        buf_fini(&record);
    }
    arena_fini(&arena);
}

static enum err count_rows(void *user, const struct store_dataset *row)
{
    (*(int *)user)++;
    assert_int_equal(row->rows, 7874);
    return E_OK;
}

static void test_catalogue(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct store_dataset got;
    struct store_dataset row = {.name = "planted-name",
                                .version = "2026-01",
                                .root = {1, 2, 3},
                                .rows = 7874,
                                .imported_at = NOW,
                                .manifest_yaml = span_str("dataset: planted-name\n")};
    int rows = 0;
    assert_int_equal(store_catalogue_get(&home.store, row.name, &arena, &got, NULL), E_NOT_FOUND);
    assert_int_equal(store_catalogue_put(&home.store, &row, NULL), E_OK);
    assert_int_equal(store_catalogue_get(&home.store, row.name, &arena, &got, NULL), E_OK);
    assert_string_equal(got.version, "2026-01");
    assert_memory_equal(got.root, row.root, 32);
    assert_true(span_equal(got.manifest_yaml, row.manifest_yaml));
    assert_int_equal(store_catalogue_each(&home.store, count_rows, &rows, NULL), E_OK);
    assert_int_equal(rows, 1);
    struct store_dataset nameless = {.name = ""};
    assert_int_equal(store_catalogue_put(&home.store, &nameless, NULL), E_INVALID);
    struct buf file;
    home_file(home.mdb, &file);
    assert_null(memmem(file.ptr, file.len, "planted", 7));
    buf_fini(&file);
    assert_int_equal(store_catalogue_remove(&home.store, row.name, NULL), E_OK);
    assert_int_equal(store_catalogue_remove(&home.store, row.name, NULL), E_NOT_FOUND);
    arena_fini(&arena);
}

static enum err sum_egress(void *user, const struct store_egress *row)
{
    uint64_t *sum = user;
    *sum += row->bytes;
    assert_string_equal(row->peer, "beta");
    return E_OK;
}

static void test_egress(void **state)
{
    (void)state;
    uint64_t sum = 0;
    assert_int_equal(store_egress_add(&home.store, "beta", "answer", "01", 400, NOW, NULL), E_OK);
    assert_int_equal(store_egress_add(&home.store, "beta", "answer", "02", 400, NOW, NULL), E_OK);
    store_egress_count(&home.store, "beta", "gossip", 50);
    store_egress_count(&home.store, "beta", "gossip", 51);
    assert_int_equal(store_egress_flush(&home.store, NOW, NULL), E_OK);
    store_egress_count(&home.store, "beta", "gossip", 1);
    assert_int_equal(store_egress_flush(&home.store, NOW, NULL), E_OK);
    assert_int_equal(store_egress_flush(&home.store, NOW, NULL), E_OK);
    store_close(&home.store);
    home_try_open(&home, E_OK);
    assert_int_equal(store_egress_each(&home.store, 0, sum_egress, &sum, NULL), E_OK);
    assert_int_equal(sum, 902);
    sum = 0;
    assert_int_equal(store_egress_each(&home.store, NOW + 1, sum_egress, &sum, NULL), E_OK);
    assert_int_equal(sum, 0);
}

static void test_jobs_and_blobs(void **state)
{
    (void)state;
    static const uint8_t job[16] = {1};
    static const uint8_t plan[32] = {2};
    size_t size = ((size_t)5 << 20) + 3;
    uint8_t *update = malloc(size);
    for (size_t i = 0; i < size; i++) {
        update[i] = (uint8_t)(i * 2654435761u >> 24);
    }
    struct buf got = {.max = (size_t)1 << 24};
    assert_int_equal(store_job_once(&home.store, job, 1, plan, span_of(update, size), &got, NULL),
                     E_OK);
    assert_int_equal(got.len, 0);
    assert_int_equal(store_job_once(&home.store, job, 1, plan, span_str("second"), &got, NULL),
                     E_EXISTS);
    assert_true(span_equal(buf_span(&got), span_of(update, size)));
    got.len = 0;
    assert_int_equal(store_job_once(&home.store, job, 2, plan, span_str("second"), &got, NULL),
                     E_OK);
    assert_int_equal(store_job_answered(&home.store, job, 3, plan, &got, NULL), E_NOT_FOUND);
    assert_int_equal(store_job_put(&home.store, job, span_str("state 1"), NULL), E_OK);
    assert_int_equal(store_job_put(&home.store, job, span_str("state 2"), NULL), E_OK);
    assert_int_equal(store_job_get(&home.store, job, &got, NULL), E_OK);
    assert_true(span_is(buf_span(&got), "state 2"));
    got.len = 0;
    uint8_t hash[32];
    assert_int_equal(store_blob_put(&home.store, span_of(update, size), hash, NULL), E_OK);
    assert_int_equal(store_blob_put(&home.store, span_of(update, size), hash, NULL), E_OK);
    assert_int_equal(store_blob_get(&home.store, hash, &got, NULL), E_OK);
    assert_true(span_equal(buf_span(&got), span_of(update, size)));
    char hex[65];
    char path[160];
    span_to_hex(span_of(hash, 32), hex);
    snprintf(path, sizeof path, "%s/models/%s", home.dir, hex);
    home_write(path, span_of("\0\x10\0\x30", 4));
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, 5000, SEEK_SET), 0);
    assert_int_equal(fwrite("tampered", 1, 8, file), 8);
    assert_int_equal(fclose(file), 0);
    got.len = 0;
    assert_int_equal(store_blob_get(&home.store, hash, &got, NULL), E_CORRUPT);
    assert_int_equal(got.len, 0);
    assert_int_equal(store_blob_remove(&home.store, hash, NULL), E_OK);
    assert_int_equal(store_blob_get(&home.store, hash, &got, NULL), E_NOT_FOUND);
    buf_fini(&got);
    free(update);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_merge),  T(test_equivocation),   T(test_catalogue),
        T(test_egress), T(test_jobs_and_blobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
