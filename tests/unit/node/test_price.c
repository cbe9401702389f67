/* Remembered prices are the prices. */
#include "config.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "node/query/price.h"
#include "proto/privacy.h"

#include <pthread.h>

/* More prices than there are places, twice: each is asked for when it is new, remembered or pushed out. */
static void prices_are_the_conversion(void **state)
{
    (void)state;
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 1; i <= 150; i++) {
            uint64_t epsilon_u = 10000 * (uint64_t)i;
            uint64_t delta_e12 = i % 2 ? 1000000 : 1000;
            double delta = (double)delta_e12 / 1e12;
            uint64_t expected = proto_privacy_rho_ceil_nano((double)epsilon_u / 1e6, delta);
            double left = proto_privacy_epsilon((double)(i * 1000000) / 1e9, delta);
            for (int again = 0; again < 2; again++) {
                assert_int_equal(query_price(epsilon_u, delta_e12, false).nano, expected);
                assert_int_equal(query_price(epsilon_u, delta_e12, true).delta0_e18,
                                 delta_e12 * 100);
                assert_true(query_price_epsilon((uint64_t)i * 1000000, delta) == left);
            }
        }
    }
    /* The same epsilon at another delta is another price. */
    assert_true(query_price(1000000, 1000000, false).nano > query_price(1000000, 1000, false).nano);
    /* With thresholds a part of delta goes to them, so that rho is smaller, and the question's delta is the same. */
    assert_true(query_price(1000000, 1000000, true).nano <
                query_price(1000000, 1000000, false).nano);
    assert_int_equal(query_price(1000000, 1000000, false).delta0_e18, 0);
    /* Nonsense stays unaffordable. */
    assert_true(query_price(UINT64_MAX, 1000000, false).nano == UINT64_MAX);
    assert_true(query_price(1000000, UINT64_C(2000000000000), false).nano == UINT64_MAX);
}

static void *ask_many(void *user)
{
    size_t *wrong = user;
    for (int i = 0; i < 400; i++) {
        uint64_t epsilon_u = 50000 * (1 + (uint64_t)i % 90);
        *wrong += query_price(epsilon_u, 1000000, false).nano !=
                  proto_privacy_rho_ceil_nano((double)epsilon_u / 1e6, 1e-6);
    }
    return NULL;
}

static void threads_share_them(void **state)
{
    (void)state;
    pthread_t threads[4];
    size_t wrong[4] = {0};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ask_many, &wrong[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(wrong[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prices_are_the_conversion),
        cmocka_unit_test(threads_share_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
