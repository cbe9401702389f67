/* Blobs piece by piece: any lengths in, any piece out, cut off and gone on with, changed bytes and swapped files refused. */
#include "config.h"

#include "store/blob.h"
#include "store/blob_cache.h"

#include "tests/unit/store/home.h"

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

#define SIZE (3 * STORE_BLOB_CHUNK + 777)

static uint8_t *sample(size_t size)
{
    uint8_t *bytes = malloc(size);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)((i * 2654435761u) >> 23);
    }
    return bytes;
}

static char *path_of(const uint8_t hash[32], const char *suffix)
{
    static char path[200];
    char hex[65];
    span_to_hex(span_of(hash, 32), hex);
    snprintf(path, sizeof path, "%s/models/%s%s", home.dir, hex, suffix);
    return path;
}

static void check_pieces(const uint8_t hash[32], const uint8_t *bytes, size_t size)
{
    static const size_t places[] = {0, 1, STORE_BLOB_CHUNK - 1, STORE_BLOB_CHUNK, SIZE - 1};
    struct store_blob_reader *reader;
    uint64_t found;
    uint8_t *got = malloc(size);
    assert_int_equal(store_blob_open(&home.store, hash, &reader, &found, NULL), E_OK);
    assert_int_equal(found, size);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        size_t len = size - places[i];
        assert_int_equal(store_blob_read(reader, places[i], len, got, NULL), E_OK);
        assert_memory_equal(got, bytes + places[i], len);
    }
    assert_int_equal(store_blob_read(reader, size, 1, got, NULL), E_LIMIT);
    assert_int_equal(store_blob_read(reader, UINT64_MAX, 1, got, NULL), E_LIMIT);
    store_blob_close(reader);
    free(got);
}

static void any_lengths_in_any_piece_out(void **state)
{
    static const size_t steps[] = {1000, STORE_BLOB_CHUNK, STORE_BLOB_CHUNK + 1, SIZE};
    uint8_t *bytes = sample(SIZE);
    uint8_t hash[32];
    uint8_t want[32];
    (void)state;
    crypto_sha256_one(span_of(bytes, SIZE), want);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct store_blob_writer *writer;
        uint64_t at;
        assert_int_equal(store_blob_begin(&home.store, NULL, SIZE, &writer, &at, NULL), E_OK);
        for (at = 0; at < SIZE; at += steps[i]) {
            size_t n = SIZE - at < steps[i] ? (size_t)(SIZE - at) : steps[i];
            assert_int_equal(store_blob_append(writer, span_of(bytes + at, n), NULL), E_OK);
        }
        assert_int_equal(store_blob_append(writer, span_of(bytes, 1), NULL), E_LIMIT);
        assert_int_equal(store_blob_commit(writer, i % 2, hash, NULL), E_OK);
        assert_memory_equal(hash, want, 32);
        assert_int_equal(store_blob_verify(&home.store, hash, NULL), E_OK);
        check_pieces(hash, bytes, SIZE);
    }
    struct store_blob_writer *writer;
    uint64_t at;
    assert_int_equal(store_blob_begin(&home.store, hash, SIZE, &writer, &at, NULL), E_EXISTS);
    assert_int_equal(store_blob_put(&home.store, SPAN_NONE, hash, NULL), E_OK);
    struct buf none = {.max = 10};
    assert_int_equal(store_blob_get(&home.store, hash, &none, NULL), E_OK);
    assert_int_equal(none.len, 0);
    buf_fini(&none);
    free(bytes);
}

/* Cut off after BYTES, taken up again; returns where it goes on. */
static uint64_t cut_off(const uint8_t hash[32], const uint8_t *bytes, size_t upto)
{
    struct store_blob_writer *writer;
    uint64_t at;
    assert_int_equal(store_blob_begin(&home.store, hash, SIZE, &writer, &at, NULL), E_OK);
    if (at < upto) {
        assert_int_equal(store_blob_append(writer, span_of(bytes + at, upto - (size_t)at), NULL),
                         E_OK);
    }
    struct store_blob_writer *second;
    uint64_t other;
    assert_int_equal(store_blob_begin(&home.store, hash, SIZE, &second, &other, NULL), E_BUSY);
    store_blob_leave(writer);
    assert_int_equal(store_blob_begin(&home.store, hash, SIZE, &writer, &at, NULL), E_OK);
    store_blob_leave(writer);
    return at;
}

static void what_was_cut_off_goes_on(void **state)
{
    uint8_t *bytes = sample(SIZE);
    uint8_t hash[32];
    struct store_blob_writer *writer;
    uint64_t at;
    (void)state;
    crypto_sha256_one(span_of(bytes, SIZE), hash);
    assert_int_equal(cut_off(hash, bytes, 100), 0);
    assert_int_equal(cut_off(hash, bytes, STORE_BLOB_CHUNK + 100), STORE_BLOB_CHUNK);
    assert_int_equal(cut_off(hash, bytes, 3 * STORE_BLOB_CHUNK), 3 * STORE_BLOB_CHUNK);
    store_close(&home.store);
    home_try_open(&home, E_OK);
    assert_false(store_blob_has(&home.store, hash));
    assert_int_equal(store_blob_begin(&home.store, hash, SIZE, &writer, &at, NULL), E_OK);
    assert_int_equal(at, 3 * STORE_BLOB_CHUNK); /* also after a restart */
    assert_int_equal(store_blob_append(writer, span_of(bytes + at, SIZE - (size_t)at), NULL), E_OK);
    assert_int_equal(store_blob_commit(writer, true, NULL, NULL), E_OK);
    check_pieces(hash, bytes, SIZE);
    assert_int_equal(access(path_of(hash, ".part"), F_OK), -1);
    free(bytes);
}

/* One bit of the second chunk. */
static void damage(const char *path)
{
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)STORE_BLOB_CHUNK + 5000, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_CUR), 0);
    assert_int_not_equal(fputc(byte ^ 1, file), EOF);
    fclose(file);
}

static void a_damaged_part_is_fetched_again(void **state)
{
    uint8_t *bytes = sample(SIZE);
    uint8_t hash[32];
    struct store_blob_writer *writer;
    uint64_t at;
    (void)state;
    crypto_sha256_one(span_of(bytes, SIZE), hash);
    assert_int_equal(cut_off(hash, bytes, 3 * STORE_BLOB_CHUNK), 3 * STORE_BLOB_CHUNK);
    damage(path_of(hash, ".part"));
    assert_int_equal(store_blob_begin(&home.store, hash, SIZE, &writer, &at, NULL), E_OK);
    assert_int_equal(at, STORE_BLOB_CHUNK); /* the chunk before the damage */
    bytes[SIZE - 1] ^= 1;
    assert_int_equal(store_blob_append(writer, span_of(bytes + at, SIZE - (size_t)at), NULL), E_OK);
    assert_int_equal(store_blob_commit(writer, true, NULL, NULL), E_AUTH);
    assert_false(store_blob_has(&home.store, hash));
    assert_int_equal(access(path_of(hash, ".part"), F_OK), -1);
    assert_int_equal(store_blob_begin(&home.store, hash, SIZE, &writer, &at, NULL), E_OK);
    assert_int_equal(at, 0);
    assert_int_equal(store_blob_commit(writer, true, NULL, NULL), E_TRUNCATED);
    free(bytes);
}

static void a_swapped_file_is_refused(void **state)
{
    uint8_t one[32];
    uint8_t two[32];
    char from[200];
    struct buf got = {.max = 100};
    (void)state;
    assert_int_equal(store_blob_put(&home.store, span_str("one"), one, NULL), E_OK);
    assert_int_equal(store_blob_put(&home.store, span_str("two"), two, NULL), E_OK);
    snprintf(from, sizeof from, "%s", path_of(one, ""));
    assert_int_equal(rename(from, path_of(two, "")), 0);
    assert_int_equal(store_blob_get(&home.store, two, &got, NULL), E_CORRUPT);
    assert_int_equal(store_blob_get(&home.store, one, &got, NULL), E_NOT_FOUND);
    assert_int_equal(got.len, 0);
    buf_fini(&got);
}

#define LONG (SIZE + STORE_BLOB_CHUNK) /* more than STORE_BLOB_UNDIVIDED chunks */

static void check_digest(const uint8_t hash[32], const uint8_t *bytes)
{
    struct arena arena = {0};
    struct span chunks;
    uint64_t size;
    assert_int_equal(store_blob_digest(&home.store, hash, &arena, &size, &chunks, NULL), E_OK);
    assert_int_equal(size, LONG);
    assert_int_equal(chunks.len, 5 * 32);
    for (size_t i = 0; i < 5; i++) {
        uint8_t want[32];
        size_t at = i * STORE_BLOB_CHUNK;
        crypto_sha256_one(span_of(bytes + at, i < 4 ? STORE_BLOB_CHUNK : LONG - at), want);
        assert_memory_equal(chunks.ptr + 32 * i, want, 32);
    }
    arena_fini(&arena);
}

/* Remembered from the writing, read anew after others, and gone with the blob; a small one has none. */
static void chunks_are_named(void **state)
{
    uint8_t *bytes = sample(LONG);
    uint8_t hash[32], other[32];
    struct arena arena = {0};
    struct span chunks;
    uint64_t size;
    (void)state;
    assert_int_equal(store_blob_put(&home.store, span_of(bytes, LONG), hash, NULL), E_OK);
    check_digest(hash, bytes);
    for (size_t i = 0; i < 8; i++) {
        bytes[0]++;
        assert_int_equal(store_blob_put(&home.store, span_of(bytes, LONG), other, NULL), E_OK);
    }
    bytes[0] = (uint8_t)(bytes[0] - 8);
    check_digest(hash, bytes);
    for (size_t i = 0; i < 2; i++) {
        size_t len = i * STORE_BLOB_UNDIVIDED * STORE_BLOB_CHUNK;
        assert_int_equal(store_blob_put(&home.store, span_of(bytes, len), other, NULL), E_OK);
        assert_int_equal(store_blob_digest(&home.store, other, &arena, &size, &chunks, NULL), E_OK);
        assert_int_equal(size, len);
        assert_int_equal(chunks.len, 0);
    }
    assert_int_equal(store_blob_remove(&home.store, other, NULL), E_OK);
    assert_int_equal(store_blob_digest(&home.store, other, &arena, &size, &chunks, NULL),
                     E_NOT_FOUND);
    arena_fini(&arena);
    free(bytes);
}

/* What was used longest ago goes first; a chunk of another length, number or file is not what was asked for. */
static void chunks_stay_for_a_while(void **state)
{
    struct store_blob_cache *cache = store_blob_cache_new();
    uint8_t *bytes = sample(STORE_BLOB_CHUNK);
    uint8_t *got = malloc(STORE_BLOB_CHUNK);
    uint8_t id[STORE_BLOB_ID_SIZE] = {1};
    (void)state;
    assert_non_null(cache);
    assert_non_null(got);
    assert_false(store_blob_cache_get(cache, id, 0, got, STORE_BLOB_CHUNK));
    for (uint64_t i = 0; i < STORE_BLOB_CACHED; i++) {
        bytes[0] = (uint8_t)i;
        store_blob_cache_put(cache, id, i, span_of(bytes, STORE_BLOB_CHUNK - (size_t)i));
    }
    for (uint64_t i = 0; i < STORE_BLOB_CACHED; i++) {
        bytes[0] = (uint8_t)i;
        assert_true(store_blob_cache_get(cache, id, i, got, STORE_BLOB_CHUNK - (size_t)i));
        assert_memory_equal(got, bytes, STORE_BLOB_CHUNK - (size_t)i);
    }
    assert_false(store_blob_cache_get(cache, id, 5, got, STORE_BLOB_CHUNK));
    assert_true(
        store_blob_cache_get(cache, id, 0, got, STORE_BLOB_CHUNK)); /* 1 is the oldest now */
    bytes[0] = 99;
    store_blob_cache_put(cache, id, STORE_BLOB_CACHED, span_of(bytes, 7));
    assert_false(store_blob_cache_get(cache, id, 1, got, STORE_BLOB_CHUNK - 1));
    assert_true(store_blob_cache_get(cache, id, 0, got, STORE_BLOB_CHUNK));
    store_blob_cache_put(cache, id, 0, span_of(bytes, 9)); /* written anew */
    assert_true(store_blob_cache_get(cache, id, 0, got, 9));
    assert_memory_equal(got, bytes, 9);
    id[0]++;
    assert_false(store_blob_cache_get(cache, id, 0, got, 9));
    store_blob_cache_free(cache);
    free(got);
    free(bytes);
}

/* What a reader has from memory does not hide from a check that the file was changed. */
static void a_check_reads_the_file(void **state)
{
    uint8_t *bytes = sample(SIZE);
    uint8_t hash[32];
    struct buf got = {.max = SIZE};
    (void)state;
    assert_int_equal(store_blob_put(&home.store, span_of(bytes, SIZE), hash, NULL), E_OK);
    damage(path_of(hash, ""));
    check_pieces(hash, bytes, SIZE);
    assert_int_equal(store_blob_verify(&home.store, hash, NULL), E_AUTH);
    assert_int_equal(store_blob_get(&home.store, hash, &got, NULL), E_AUTH);
    buf_fini(&got);
    free(bytes);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(any_lengths_in_any_piece_out), T(chunks_are_named),
        T(what_was_cut_off_goes_on),     T(a_damaged_part_is_fetched_again),
        T(a_swapped_file_is_refused),    T(chunks_stay_for_a_while),
        T(a_check_reads_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
