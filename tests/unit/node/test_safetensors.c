/* The safetensors reader: conversions, what is refused and why, files as well as bytes. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "node/model/safetensors.h"
#include "proto/alloc.h"
#include "tests/lib/vectors.h"

/* A file of HEADER and LEN bytes of data; returns its length. */
static size_t build(uint8_t *to, const char *header, const void *data, size_t len)
{
    size_t n = strlen(header);
    for (size_t i = 0; i < 8; i++) {
        to[i] = (uint8_t)(n >> 8 * i);
    }
    memcpy(to + 8, header, n);
    memcpy(to + 8 + n, data, len);
    return 8 + n + len;
}

static void half_floats(void **state)
{
    (void)state;
    assert_true(model_float_of_half(0x3c00) == 1.0f);
    assert_true(model_float_of_half(0xc000) == -2.0f);
    assert_true(model_float_of_half(0x0001) == 0x1p-24f);
    assert_true(model_float_of_half(0x83ff) == -1023 * 0x1p-24f);
    assert_true(model_float_of_half(0x0400) == 0x1p-14f);
    assert_true(model_float_of_half(0x7bff) == 65504.0f);
    assert_true(isinf(model_float_of_half(0xfc00)) && model_float_of_half(0xfc00) < 0);
    assert_true(isnan(model_float_of_half(0x7e00)));
    assert_true(signbit(model_float_of_half(0x8000)) && model_float_of_half(0x8000) == 0);
    assert_true(model_float_of_bfloat(0x3f80) == 1.0f);
    assert_true(model_float_of_bfloat(0xc040) == -3.0f);
}

static const char good[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_"
    "offsets\":[4,8]},"
    "\"a\":{\"dtype\":\"F16\",\"shape\":[2,1],\"data_offsets\":[0,4]},\"none\":{\"dtype\":\"F32\","
    "\"shape\":[0,3],"
    "\"data_offsets\":[4,4]},\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[8,12]}}   ";
static const uint8_t good_data[12] = {0, 0x3c, 0, 0xc0, 0x80, 0x3f, 0x40, 0xc0, 0, 0, 0x20, 0x41};

static void reads_bytes(void **state)
{
    (void)state;
    uint8_t bytes[1024];
    float v[2];
    struct model_safetensors *file = NULL;
    size_t len = build(bytes, good, good_data, sizeof good_data);
    assert_int_equal(model_safetensors_bytes(span_of(bytes, len), &file, NULL), E_OK);
    assert_int_equal(model_safetensors_count(file), 4);
    assert_string_equal(model_safetensors_entry(file, 0)->name, "a");
    assert_null(model_safetensors_entry(file, 4));
    assert_null(model_safetensors_find(file, "c"));
    assert_int_equal(model_safetensors_floats(file, model_safetensors_find(file, "a"), v, 2, NULL),
                     E_OK);
    assert_true(v[0] == 1 && v[1] == -2);
    assert_int_equal(model_safetensors_floats(file, model_safetensors_find(file, "b"), v, 2, NULL),
                     E_OK);
    assert_true(v[0] == 1 && v[1] == -3);
    assert_int_equal(model_safetensors_floats(file, model_safetensors_find(file, "s"), v, 1, NULL),
                     E_OK);
    assert_true(v[0] == 10);
    assert_int_equal(model_safetensors_floats(file, model_safetensors_find(file, "s"), v, 2, NULL),
                     E_SCHEMA);
    int64_t integer;
    assert_int_equal(
        model_safetensors_integers(file, model_safetensors_find(file, "s"), &integer, 1, NULL),
        E_SCHEMA);
    model_safetensors_close(file);
}

static void reads_files(void **state)
{
    (void)state;
    struct model_safetensors *file = NULL;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", vectors_path("bert/small/model.safetensors"));
    assert_int_equal(model_safetensors_open(path, &file, NULL), E_OK);
    const struct model_tensor_entry *entry =
        model_safetensors_find(file, "bert.embeddings.word_embeddings.weight");
    assert_non_null(entry);
    assert_int_equal(entry->shape[0], 200);
    assert_int_equal(entry->shape[1], 32);
    double *a = proto_alloc(6400, sizeof *a);
    float *b = proto_alloc(6400, sizeof *b);
    assert_int_equal(model_safetensors_doubles(file, entry, a, 6400, NULL), E_OK);
    assert_int_equal(model_safetensors_floats(file, entry, b, 6400, NULL), E_OK);
    double sum = 0;
    for (size_t i = 0; i < 6400; i++) {
        sum += fabs(a[i]);
        assert_true((float)a[i] == b[i]);
    }
    assert_true(sum > 1);
    model_safetensors_close(file);
    /* The same file, cut while it is open. */
    char copy[] = "/tmp/test_safetensors.XXXXXX";
    int fd = mkstemp(copy);
    assert_true(fd >= 0);
    uint8_t bytes[1024];
    size_t len = build(bytes, good, good_data, sizeof good_data);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    assert_int_equal(model_safetensors_open(copy, &file, NULL), E_OK);
    assert_int_equal(ftruncate(fd, (off_t)len - 1), 0);
    assert_int_equal(model_safetensors_floats(file, model_safetensors_find(file, "s"), b, 1, NULL),
                     E_TRUNCATED);
    model_safetensors_close(file);
    assert_int_equal(model_safetensors_open(copy, &file, NULL), E_TRUNCATED);
    close(fd);
    unlink(copy);
    assert_int_equal(model_safetensors_open(copy, &file, NULL), E_NOT_FOUND);
    assert_int_equal(model_safetensors_open("/tmp", &file, NULL), E_INVALID);
    proto_free(a);
    proto_free(b);
}

static void refuses(void **state)
{
    (void)state;
#define T(dtype, shape, at) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" at "}"
    static const struct {
        const char *header;
        size_t data;
        enum err err;
        const char *why;
    } cases[] = {
        {"", 0, E_INVALID, "does not start"},
        {" {}", 0, E_INVALID, "does not start"},
        {"{", 0, E_INVALID, "no JSON"},
        {"{} x", 0, E_INVALID, "no JSON"},
        {"{}", 1, E_INVALID, "after the last"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[0,4]") "}", 4, E_INVALID,
         "duplicate"},
        {"{\"a\":1}", 0, E_INVALID, "needs dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, E_INVALID,
         "nothing else"},
        {"{\"a\":" T("F31", "[1]", "[0,4]") "}", 4, E_INVALID, "dtype is unknown"},
        {"{\"a\":" T("F32", "1", "[0,4]") "}", 4, E_INVALID, "no list"},
        {"{\"a\":" T("F32", "[-1]", "[0,4]") "}", 4, E_INVALID, "whole number"},
        {"{\"a\":" T("F32", "[1.0]", "[0,4]") "}", 4, E_INVALID, "whole number"},
        {"{\"a\":" T("F32", "[4294967296,4294967296]", "[0,4]") "}", 4, E_INVALID, "overflows"},
        {"{\"a\":" T("F64", "[4611686018427387904]", "[0,0]") "}", 0, E_INVALID, "do not fit"},
        {"{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, E_LIMIT, "dimensions"},
        {"{\"a\":" T("F32", "[1]", "[0]") "}", 4, E_INVALID, "data_offsets"},
        {"{\"a\":" T("F32", "[1]", "[0,99999999999999999999]") "}", 4, E_INVALID, "too big"},
        {"{\"a\":" T("F32", "[1]", "[-4,0]") "}", 4, E_INVALID, "data_offsets"},
        {"{\"a\":" T("F32", "[1]", "[4,0]") "}", 4, E_INVALID, "do not fit"},
        {"{\"a\":" T("F32", "[2]", "[0,4]") "}", 4, E_INVALID, "do not fit"},
        {"{\"a\":" T("F32", "[2]", "[0,8]") "}", 4, E_TRUNCATED, "after the file"},
        {"{\"a\":" T("F32", "[1]", "[4,8]") "}", 8, E_INVALID, "hole"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[2,6]") "}", 6, E_INVALID,
         "overlap"},
        {"{\"\":" T("F32", "[1]", "[0,4]") "}", 4, E_LIMIT, "name"},
        {"{\"__metadata__\":{\"a\":1}}", 0, E_INVALID, "__metadata__"},
        {"{\"__metadata__\":[]}", 0, E_INVALID, "__metadata__"},
    };
    static const uint8_t zeros[16];
    uint8_t bytes[1024];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_safetensors *file = NULL;
        struct err_info info = {0};
        size_t len = build(bytes, cases[i].header, zeros, cases[i].data);
        enum err err = model_safetensors_bytes(span_of(bytes, len), &file, &info);
        if (err != cases[i].err || !strstr(info.text, cases[i].why)) {
            fail_msg("%s: %s, %s", cases[i].header, proto_err_name(err), info.text);
        }
        assert_null(file);
    }
}

static void refuses_lengths_and_numbers(void **state)
{
    (void)state;
    uint8_t bytes[1024] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct model_safetensors *file = NULL;
    float v[2];
    assert_int_equal(model_safetensors_bytes(span_of(bytes, 7), &file, NULL), E_TRUNCATED);
    assert_int_equal(model_safetensors_bytes(span_of(bytes, 100), &file, NULL), E_LIMIT);
    memset(bytes, 0, 8);
    bytes[0] = 93;
    assert_int_equal(model_safetensors_bytes(span_of(bytes, 100), &file, NULL), E_TRUNCATED);
    /* 1e300 is finite as a double and not as a float. */
    double big = 1e300, back = 0;
    size_t len = build(bytes, "{\"a\":" T("F64", "[1]", "[0,8]") "}", &big, 8);
    assert_int_equal(model_safetensors_bytes(span_of(bytes, len), &file, NULL), E_OK);
    assert_int_equal(model_safetensors_floats(file, model_safetensors_entry(file, 0), v, 1, NULL),
                     E_INVALID);
    assert_int_equal(
        model_safetensors_doubles(file, model_safetensors_entry(file, 0), &back, 1, NULL), E_OK);
    assert_true(back == big);
    model_safetensors_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_floats),
        cmocka_unit_test(reads_bytes),
        cmocka_unit_test(reads_files),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_lengths_and_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
