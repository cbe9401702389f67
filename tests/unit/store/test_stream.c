/* Packed data: what unpacks, and what is cut, damaged or a bomb. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "store/stream.h"
#include "tests/lib/seed.h"

static struct seed seed;

static uint8_t *gzip(const uint8_t *bytes, size_t len, size_t *ret_len)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t cap = deflateBound(&z, len);
    uint8_t *to = malloc(cap);
    assert_non_null(to);
    z.next_in = (Bytef *)(uintptr_t)bytes;
    z.avail_in = (uInt)len;
    z.next_out = to;
    z.avail_out = (uInt)cap;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    *ret_len = cap - z.avail_out;
    deflateEnd(&z);
    return to;
}

static uint8_t *zstd(const uint8_t *bytes, size_t len, size_t *ret_len)
{
    size_t cap = ZSTD_compressBound(len);
    uint8_t *to = malloc(cap);
    assert_non_null(to);
    *ret_len = ZSTD_compress(to, cap, bytes, len, 3);
    assert_false(ZSTD_isError(*ret_len));
    return to;
}

typedef uint8_t *packer(const uint8_t *, size_t, size_t *);

static uint8_t *some_text(size_t len)
{
    uint8_t *text = malloc(len);
    assert_non_null(text);
    for (size_t i = 0; i < len; i++) {
        text[i] = (uint8_t)("0123456789,\n"[seed_below(&seed, 12)]);
    }
    return text;
}

/* Reads all in steps of random size; compares with WANT as far as it goes. */
static enum err drain(struct span packed, const uint8_t *want, size_t want_len, size_t *ret_len,
                      struct err_info *info)
{
    struct store_stream *stream = NULL;
    enum err err = store_stream_bytes(packed, &stream, info);
    *ret_len = 0;
    static uint8_t block[300000];
    for (size_t got = 1; !err && got;) {
        err = store_stream_read(stream, block, 1 + seed_below(&seed, sizeof block - 1), &got, info);
        if (!err && want) {
            assert_true(*ret_len + got <= want_len);
            assert_memory_equal(block, want + *ret_len, got);
        }
        *ret_len += err ? 0 : got;
    }
    store_stream_close(stream);
    return err;
}

static void what_was_packed_comes_out(void **state)
{
    (void)state;
    size_t sizes[] = {1, 100, 131072, 900001};
    packer *packers[] = {gzip, zstd};
    for (size_t p = 0; p < 2; p++) {
        for (size_t i = 0; i < 4; i++) {
            size_t len, got;
            struct err_info info = {0};
            uint8_t *text = some_text(sizes[i]);
            uint8_t *packed = packers[p](text, sizes[i], &len);
            assert_int_equal(drain(span_of(packed, len), text, sizes[i], &got, &info), E_OK);
            assert_int_equal(got, sizes[i]);
            free(text);
            free(packed);
        }
    }
    size_t got;
    assert_int_equal(drain(span_str("plain"), (const uint8_t *)"plain", 5, &got, NULL), E_OK);
    assert_int_equal(got, 5);
    assert_int_equal(drain(SPAN_NONE, NULL, 0, &got, NULL), E_OK);
    assert_int_equal(got, 0);
}

static void members_in_a_row_are_one_text(void **state)
{
    (void)state;
    packer *packers[] = {gzip, zstd};
    for (size_t p = 0; p < 2; p++) {
        size_t len, got;
        uint8_t *text = some_text(5000);
        uint8_t *packed = packers[p](text, 2500, &len);
        size_t more_len;
        uint8_t *more = packers[p](text + 2500, 2500, &more_len);
        uint8_t *both = calloc(1, len + more_len + 512);
        assert_non_null(both);
        memcpy(both, packed, len);
        memcpy(both + len, more, more_len);
        assert_int_equal(drain(span_of(both, len + more_len), text, 5000, &got, NULL), E_OK);
        assert_int_equal(got, 5000);
        if (p == 0) { /* zeros behind the last member, as tapes leave them */
            assert_int_equal(drain(span_of(both, len + more_len + 512), text, 5000, &got, NULL),
                             E_OK);
            assert_int_equal(got, 5000);
            both[len + more_len + 100] = 'x';
            assert_int_equal(drain(span_of(both, len + more_len + 512), text, 5000, &got, NULL),
                             E_INVALID);
        }
        free(both);
        free(more);
        free(packed);
        free(text);
    }
}

static void every_cut_is_named(void **state)
{
    (void)state;
    packer *packers[] = {gzip, zstd};
    for (size_t p = 0; p < 2; p++) {
        size_t len, got;
        uint8_t *text = some_text(3000);
        uint8_t *packed = packers[p](text, 3000, &len);
        for (size_t cut = 6; cut < len; cut++) {
            struct err_info info = {0};
            assert_int_equal(drain(span_of(packed, cut), text, 3000, &got, &info), E_TRUNCATED);
            assert_non_null(strstr(info.text, "cut off"));
        }
        free(packed);
        free(text);
    }
}

static void damage_is_found(void **state)
{
    (void)state;
    size_t len, got;
    uint8_t *text = some_text(20000);
    uint8_t *packed = gzip(text, 20000, &len);
    unsigned found = 0;
    for (unsigned i = 0; i < 200; i++) {
        size_t at =
            10 +
            seed_below(&seed, len - 14); /* behind the header, whose times and names are free */
        packed[at] ^= 4;
        enum err err = drain(span_of(packed, len), NULL, 0, &got, NULL);
        packed[at] ^= 4;
        assert_true(err == E_OK || err == E_INVALID || err == E_TRUNCATED);
        found += err != E_OK;
    }
    assert_int_equal(found, 200); /* the checksum covers every byte */
    free(packed);
    free(text);
}

static void bombs_are_refused(void **state)
{
    (void)state;
    size_t size = (size_t)100 << 20;
    uint8_t *zeros = calloc(1, size);
    assert_non_null(zeros);
    packer *packers[] = {gzip, zstd};
    for (size_t p = 0; p < 2; p++) {
        size_t len, got;
        struct err_info info = {0};
        uint8_t *packed = packers[p](zeros, size, &len);
        assert_true(len < size / STORE_STREAM_RATIO);
        assert_int_equal(drain(span_of(packed, len), NULL, 0, &got, &info), E_LIMIT);
        assert_true(got <= STORE_STREAM_FREE + 300000);
        assert_non_null(strstr(info.text, "bomb"));
        free(packed);
    }
    free(zeros);
}

static void other_packings_are_named(void **state)
{
    (void)state;
    struct err_info info = {0};
    struct store_stream *stream = NULL;
    assert_int_equal(store_stream_bytes(span_str("PK\x03\x04rest"), &stream, &info), E_UNSUPPORTED);
    assert_non_null(strstr(info.text, "zip archive"));
    assert_int_equal(store_stream_open("/nonexistent/x.csv", &stream, &info), E_NOT_FOUND);
    assert_int_equal(store_stream_open("/tmp", &stream, &info), E_INVALID);
}

int main(void)
{
    seed = seed_of(seed_number(5));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_packed_comes_out),
        cmocka_unit_test(members_in_a_row_are_one_text),
        cmocka_unit_test(every_cut_is_named),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(other_packings_are_named),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
