/* Files that questions found damaged: noted, forgotten, the newest kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "node/query/damage.h"

static const uint8_t *name(unsigned number)
{
    static uint8_t uuid[16];
    memset(uuid, 0x5a, sizeof uuid);
    uuid[0] = (uint8_t)number;
    uuid[15] = (uint8_t)(number >> 8);
    return uuid;
}

static void test_noted_and_forgotten(void **state)
{
    (void)state;
    struct query_damage *damage = query_damage_new();
    assert_non_null(damage);
    assert_false(query_damage_met(damage, name(1)));
    query_damage_note(damage, name(1));
    query_damage_note(damage, name(2));
    query_damage_note(damage, name(1));
    assert_true(query_damage_met(damage, name(1)));
    assert_true(query_damage_met(damage, name(2)));
    query_damage_forget_all(damage);
    assert_false(query_damage_met(damage, name(1)));
    assert_false(query_damage_met(damage, name(2)));
    query_damage_free(damage);
}

static void test_the_newest_are_kept(void **state)
{
    (void)state;
    struct query_damage *damage = query_damage_new();
    assert_non_null(damage);
    for (unsigned i = 0; i < QUERY_DAMAGE_MAX; i++) {
        query_damage_note(damage, name(i));
    }
    query_damage_note(damage, name(0));   /* again: the newest now */
    query_damage_note(damage, name(300)); /* takes the place of the oldest, which is 1 */
    assert_true(query_damage_met(damage, name(0)));
    assert_false(query_damage_met(damage, name(1)));
    assert_true(query_damage_met(damage, name(2)));
    assert_true(query_damage_met(damage, name(QUERY_DAMAGE_MAX - 1)));
    assert_true(query_damage_met(damage, name(300)));
    query_damage_free(damage);
}

static void test_nothing_is_kept_without_memory(void **state)
{
    (void)state;
    query_damage_note(NULL, name(1));
    query_damage_forget_all(NULL);
    assert_false(query_damage_met(NULL, name(1)));
    query_damage_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_noted_and_forgotten),
        cmocka_unit_test(test_the_newest_are_kept),
        cmocka_unit_test(test_nothing_is_kept_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
