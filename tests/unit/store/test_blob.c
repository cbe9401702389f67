/* Blobs piece by piece: any lengths in, any piece out, cut off and gone on with, changed bytes and swapped files refused. */
#include "config.h"

#include "store/blob.h"
#include "store/blob_memory.h"

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
        assert_int_equal(store_blob_begin(&home.store, NULL, SIZE,
                                          i % 2 ? STORE_BLOB_DURABLE : STORE_BLOB_PASSING, &writer,
                                          &at, NULL),
                         E_OK);
        for (at = 0; at < SIZE; at += steps[i]) {
            size_t n = SIZE - at < steps[i] ? (size_t)(SIZE - at) : steps[i];
            assert_int_equal(store_blob_append(writer, span_of(bytes + at, n), NULL), E_OK);
        }
        assert_int_equal(store_blob_append(writer, span_of(bytes, 1), NULL), E_LIMIT);
        assert_int_equal(store_blob_commit(writer, hash, NULL), E_OK);
        assert_memory_equal(hash, want, 32);
        assert_int_equal(store_blob_verify(&home.store, hash, NULL), E_OK);
        check_pieces(hash, bytes, SIZE);
    }
    struct store_blob_writer *writer;
    uint64_t at;
    assert_int_equal(
        store_blob_begin(&home.store, hash, SIZE, STORE_BLOB_DURABLE, &writer, &at, NULL),
        E_EXISTS);
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
    assert_int_equal(
        store_blob_begin(&home.store, hash, SIZE, STORE_BLOB_DURABLE, &writer, &at, NULL), E_OK);
    if (at < upto) {
        assert_int_equal(store_blob_append(writer, span_of(bytes + at, upto - (size_t)at), NULL),
                         E_OK);
    }
    struct store_blob_writer *second;
    uint64_t other;
    assert_int_equal(
        store_blob_begin(&home.store, hash, SIZE, STORE_BLOB_DURABLE, &second, &other, NULL),
        E_BUSY);
    store_blob_leave(writer);
    assert_int_equal(
        store_blob_begin(&home.store, hash, SIZE, STORE_BLOB_DURABLE, &writer, &at, NULL), E_OK);
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
    assert_int_equal(
        store_blob_begin(&home.store, hash, SIZE, STORE_BLOB_DURABLE, &writer, &at, NULL), E_OK);
    assert_int_equal(at, 3 * STORE_BLOB_CHUNK); /* also after a restart */
    assert_int_equal(store_blob_append(writer, span_of(bytes + at, SIZE - (size_t)at), NULL), E_OK);
    assert_int_equal(store_blob_commit(writer, NULL, NULL), E_OK);
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
    assert_int_equal(
        store_blob_begin(&home.store, hash, SIZE, STORE_BLOB_DURABLE, &writer, &at, NULL), E_OK);
    assert_int_equal(at, STORE_BLOB_CHUNK); /* the chunk before the damage */
    bytes[SIZE - 1] ^= 1;
    assert_int_equal(store_blob_append(writer, span_of(bytes + at, SIZE - (size_t)at), NULL), E_OK);
    assert_int_equal(store_blob_commit(writer, NULL, NULL), E_AUTH);
    assert_false(store_blob_has(&home.store, hash));
    assert_int_equal(access(path_of(hash, ".part"), F_OK), -1);
    assert_int_equal(
        store_blob_begin(&home.store, hash, SIZE, STORE_BLOB_DURABLE, &writer, &at, NULL), E_OK);
    assert_int_equal(at, 0);
    assert_int_equal(store_blob_commit(writer, NULL, NULL), E_TRUNCATED);
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

static struct store_blob_chunk *chunk_of(struct store_blob_memory *memory, const uint8_t *bytes,
                                         size_t len)
{
    struct store_blob_chunk *chunk = store_blob_chunk_new(memory);
    assert_non_null(chunk);
    memcpy(chunk->bytes, bytes, len);
    chunk->len = len;
    return chunk;
}

static void put_recent(struct store_blob_memory *memory, const uint8_t *id, uint64_t index,
                       struct span bytes)
{
    struct store_blob_chunk *chunk = chunk_of(memory, bytes.ptr, bytes.len);
    store_blob_recent_put(memory, id, index, chunk);
    store_blob_chunk_release(memory, chunk);
}

static bool is_recent(struct store_blob_memory *memory, const uint8_t *id, uint64_t index,
                      struct span bytes)
{
    struct store_blob_chunk *chunk = store_blob_recent_get(memory, id, index);
    bool is = chunk && span_equal(span_of(chunk->bytes, chunk->len), bytes);
    store_blob_chunk_release(memory, chunk);
    return is;
}

/* What was used longest ago goes first; a chunk of another number or file is not what was asked for. */
static void chunks_stay_for_a_while(void **state)
{
    struct store_blob_memory *memory = store_blob_memory_new();
    uint8_t *bytes = sample(STORE_BLOB_CHUNK);
    uint8_t id[STORE_BLOB_ID_SIZE] = {1};
    (void)state;
    assert_non_null(memory);
    assert_null(store_blob_recent_get(memory, id, 0));
    for (uint64_t i = 0; i < STORE_BLOB_RECENT_MOST; i++) {
        bytes[0] = (uint8_t)i;
        put_recent(memory, id, i, span_of(bytes, STORE_BLOB_CHUNK - (size_t)i));
    }
    for (uint64_t i = 0; i < STORE_BLOB_RECENT_MOST; i++) {
        bytes[0] = (uint8_t)i;
        assert_true(is_recent(memory, id, i, span_of(bytes, STORE_BLOB_CHUNK - (size_t)i)));
    }
    struct store_blob_chunk *first = store_blob_recent_get(memory, id, 0); /* 1 is the oldest now */
    bytes[0] = 99;
    put_recent(memory, id, STORE_BLOB_RECENT_MOST, span_of(bytes, 7));
    assert_null(store_blob_recent_get(memory, id, 1));
    put_recent(memory, id, 0,
               span_of(bytes, 9)); /* written anew: whoever has the old one keeps it */
    assert_true(is_recent(memory, id, 0, span_of(bytes, 9)));
    bytes[0] = 0;
    assert_true(span_equal(span_of(first->bytes, first->len), span_of(bytes, STORE_BLOB_CHUNK)));
    store_blob_chunk_release(memory, first);
    id[0]++;
    assert_null(store_blob_recent_get(memory, id, 0));
    store_blob_memory_free(memory);
    free(bytes);
}

static struct store_blob_writer *begin_passing(const uint8_t *hash, uint64_t size, uint64_t want)
{
    struct store_blob_writer *writer;
    uint64_t at;
    assert_int_equal(
        store_blob_begin(&home.store, hash, size, STORE_BLOB_PASSING, &writer, &at, NULL), E_OK);
    assert_int_equal(at, want);
    return writer;
}

static void pass(const uint8_t hash[32], const uint8_t *bytes)
{
    struct store_blob_writer *writer = begin_passing(hash, SIZE, 0);
    assert_int_equal(store_blob_append(writer, span_of(bytes, SIZE), NULL), E_OK);
    assert_int_equal(store_blob_commit(writer, NULL, NULL), E_OK);
}

/* No file, until it is to last. */
static void what_passes_through_stays_in_memory(void **state)
{
    uint8_t *bytes = sample(SIZE);
    uint8_t hash[32];
    struct buf got = {.max = SIZE};
    struct store_blob_writer *writer;
    uint64_t at, size;
    (void)state;
    crypto_sha256_one(span_of(bytes, SIZE), hash);
    pass(hash, bytes);
    assert_int_equal(access(path_of(hash, ""), F_OK), -1);
    assert_int_equal(access(path_of(hash, ".part"), F_OK), -1);
    assert_true(store_blob_has(&home.store, hash));
    assert_int_equal(store_blob_size(&home.store, hash, &size, NULL), E_OK);
    assert_int_equal(size, SIZE);
    assert_int_equal(store_blob_verify(&home.store, hash, NULL), E_OK);
    check_pieces(hash, bytes, SIZE);
    assert_int_equal(
        store_blob_begin(&home.store, hash, SIZE, STORE_BLOB_PASSING, &writer, &at, NULL),
        E_EXISTS);
    assert_int_equal(access(path_of(hash, ""), F_OK), -1);
    assert_int_equal(
        store_blob_begin(&home.store, hash, SIZE, STORE_BLOB_DURABLE, &writer, &at, NULL),
        E_EXISTS);
    assert_int_equal(access(path_of(hash, ""), F_OK), 0);
    store_close(&home.store);
    home_try_open(&home, E_OK);
    assert_int_equal(store_blob_get(&home.store, hash, &got, NULL), E_OK);
    assert_true(span_equal(buf_span(&got), span_of(bytes, SIZE)));
    assert_int_equal(store_blob_remove(&home.store, hash, NULL), E_OK);
    assert_false(store_blob_has(&home.store, hash));
    assert_int_equal(store_blob_remove(&home.store, hash, NULL), E_NOT_FOUND);
    pass(hash, bytes);
    store_close(&home.store);
    home_try_open(&home, E_OK);
    assert_false(store_blob_has(&home.store, hash)); /* a restart loses it */
    buf_fini(&got);
    free(bytes);
}

/* Who reads it goes on when it is removed, and its name is free. */
static void what_passes_through_is_removed(void **state)
{
    uint8_t *bytes = sample(SIZE), *got = malloc(SIZE);
    uint8_t hash[32];
    struct store_blob_reader *reader;
    uint64_t size;
    (void)state;
    crypto_sha256_one(span_of(bytes, SIZE), hash);
    pass(hash, bytes);
    assert_int_equal(store_blob_open(&home.store, hash, &reader, &size, NULL), E_OK);
    assert_int_equal(store_blob_remove(&home.store, hash, NULL), E_OK);
    assert_false(store_blob_has(&home.store, hash));
    pass(hash, bytes);
    assert_int_equal(store_blob_remove(&home.store, hash, NULL), E_OK);
    assert_int_equal(store_blob_read(reader, 0, SIZE, got, NULL), E_OK);
    assert_memory_equal(got, bytes, SIZE);
    store_blob_close(reader);
    free(got);
    free(bytes);
}

/* One writer at a time; what a cut leaves of it is on disk, and gone on with there. */
static void what_passes_through_is_cut_off(void **state)
{
    uint8_t *bytes = sample(SIZE);
    uint8_t hash[32];
    (void)state;
    crypto_sha256_one(span_of(bytes, SIZE), hash);
    struct store_blob_writer *writer = begin_passing(hash, SIZE, 0);
    struct store_blob_writer *second;
    uint64_t at;
    assert_int_equal(store_blob_append(writer, span_of(bytes, STORE_BLOB_CHUNK + 5), NULL), E_OK);
    assert_int_equal(
        store_blob_begin(&home.store, hash, SIZE, STORE_BLOB_PASSING, &second, &at, NULL), E_BUSY);
    assert_false(store_blob_has(&home.store, hash));
    store_blob_leave(writer);
    assert_int_equal(access(path_of(hash, ".part"), F_OK), 0);
    store_close(&home.store);
    home_try_open(&home, E_OK);
    writer = begin_passing(hash, SIZE, STORE_BLOB_CHUNK);
    assert_int_equal(
        store_blob_append(writer, span_of(bytes + STORE_BLOB_CHUNK, SIZE - STORE_BLOB_CHUNK), NULL),
        E_OK);
    assert_int_equal(store_blob_commit(writer, NULL, NULL), E_OK);
    check_pieces(hash, bytes, SIZE);
    assert_int_equal(store_blob_remove(&home.store, hash, NULL), E_OK);
    writer = begin_passing(hash, SIZE, 0);
    bytes[7]++;
    assert_int_equal(store_blob_append(writer, span_of(bytes, SIZE), NULL), E_OK);
    assert_int_equal(store_blob_commit(writer, NULL, NULL), E_AUTH);
    assert_false(store_blob_has(&home.store, hash));
    writer = begin_passing(hash, SIZE, 0); /* nothing is left of it */
    store_blob_leave(writer);
    free(bytes);
}

/* What there is no room for in memory gets a file; what goes makes room. */
static void memory_is_bounded(void **state)
{
    enum {
        MOST = STORE_BLOB_PASSING_MOST
    };
    uint8_t *bytes = sample(SIZE);
    uint8_t hash[32], other[32];
    struct store_blob_writer *big, *writer;
    (void)state;
    big = begin_passing(NULL, (MOST - 3) * (uint64_t)STORE_BLOB_CHUNK, 0);
    writer = begin_passing(NULL, SIZE, 0);
    assert_int_equal(store_blob_append(writer, span_of(bytes, SIZE), NULL), E_OK);
    assert_int_equal(store_blob_commit(writer, hash, NULL), E_OK);
    assert_int_equal(access(path_of(hash, ""), F_OK), 0);
    store_blob_leave(big);
    bytes[0]++;
    writer = begin_passing(NULL, SIZE, 0);
    assert_int_equal(store_blob_append(writer, span_of(bytes, SIZE), NULL), E_OK);
    assert_int_equal(store_blob_commit(writer, other, NULL), E_OK);
    assert_int_equal(access(path_of(other, ""), F_OK), -1);
    check_pieces(other, bytes, SIZE);
    writer = begin_passing(NULL, (MOST + 1) * (uint64_t)STORE_BLOB_CHUNK, 0);
    store_blob_leave(writer);
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
        T(any_lengths_in_any_piece_out),
        T(what_was_cut_off_goes_on),
        T(a_damaged_part_is_fetched_again),
        T(a_swapped_file_is_refused),
        T(chunks_stay_for_a_while),
        T(a_check_reads_the_file),
        T(what_passes_through_stays_in_memory),
        T(what_passes_through_is_removed),
        T(what_passes_through_is_cut_off),
        T(memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
