/* Write-behind: everything arrives once, in order and whole; an error comes back to who pushes, and nothing is put after it. */
#include "config.h"

#include "store/behind.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SIZE 64

struct seen {
    uint64_t count;
    uint64_t wrong;   /* puts out of order, or with other bytes */
    uint64_t fail_at; /* number of the put that fails */
    size_t last_len;
};

static enum err put(void *user, uint64_t index, struct span bytes, struct err_info *reterr)
{
    struct seen *seen = user;
    if (index == seen->fail_at) {
        return proto_err_set(reterr, E_DISK_FULL, "no room for %llu", (unsigned long long)index);
    }
    bool right = index == seen->count;
    for (size_t i = 0; i < bytes.len; i++) {
        right = right && bytes.ptr[i] == (uint8_t)(index + i);
    }
    seen->wrong += !right;
    seen->count++;
    seen->last_len = bytes.len;
    return E_OK;
}

static enum err push(struct store_behind *behind, uint64_t index, size_t len, struct err_info *info)
{
    uint8_t *to = store_behind_buffer(behind);
    for (size_t i = 0; i < len; i++) {
        to[i] = (uint8_t)(index + i);
    }
    return store_behind_push(behind, index, len, info);
}

static void test_in_order(void **state)
{
    struct seen seen = {.fail_at = UINT64_MAX};
    struct store_behind *behind;
    (void)state;
    assert_int_equal(store_behind_new(SIZE, put, &seen, &behind), E_OK);
    for (uint64_t i = 0; i < 1000; i++) {
        assert_int_equal(push(behind, i, SIZE, NULL), E_OK);
    }
    assert_int_equal(push(behind, 1000, 3, NULL), E_OK);
    assert_int_equal(store_behind_end(behind, NULL), E_OK);
    assert_int_equal(seen.count, 1001);
    assert_int_equal(seen.wrong, 0);
    assert_int_equal(seen.last_len, 3);
}

static void test_errors_come_back(void **state)
{
    struct seen seen = {.fail_at = 5};
    struct store_behind *behind;
    struct err_info info = {0};
    enum err err = E_OK;
    uint64_t pushed = 0;
    (void)state;
    assert_int_equal(store_behind_new(SIZE, put, &seen, &behind), E_OK);
    for (; !err && pushed < 100; pushed++) {
        err = push(behind, pushed, SIZE, &info);
    }
    assert_int_equal(err, E_DISK_FULL);
    assert_in_range(pushed, 7, 8); /* the one after it may have been taken already */
    assert_non_null(strstr(info.text, "no room for 5"));
    memset(&info, 0, sizeof info);
    assert_int_equal(store_behind_end(behind, &info), E_DISK_FULL);
    assert_non_null(strstr(info.text, "no room for 5"));
    assert_int_equal(seen.count, 5);
    assert_int_equal(seen.wrong, 0);

    /* The last one's error is met at the end. */
    seen = (struct seen){.fail_at = 1};
    assert_int_equal(store_behind_new(SIZE, put, &seen, &behind), E_OK);
    assert_int_equal(push(behind, 0, SIZE, NULL), E_OK);
    assert_int_equal(push(behind, 1, SIZE, NULL), E_OK);
    assert_int_equal(store_behind_end(behind, NULL), E_DISK_FULL);
    assert_int_equal(store_behind_end(NULL, NULL), E_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_errors_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
