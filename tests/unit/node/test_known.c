/* Records decoded once: the same bytes give the same object, others another one, and it lives as long as its holder. */
#include "config.h"

#include "node/query/known.h"

#include "tests/unit/store/home.h"

static struct home home;
static struct query_context context;

static int setup(void **state)
{
    (void)state;
    home_make(&home);
    context.store = &home.store;
    context.known = query_known_new();
    return context.known ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    query_known_free(context.known);
    home_remove(&home);
    return 0;
}

static void publish(const char *title, uint64_t seq)
{
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    struct proto_dataset_column column = {
        .name = span_str("x"), .type = PROTO_COLUMN_REAL, .has_bounds = true, .min = 0, .max = 10};
    struct proto_dataset dataset = {.v = 1,
                                    .name = span_str("d"),
                                    .version = span_str("1"),
                                    .title = span_str(title),
                                    .max_rows_per_unit = 1,
                                    .max_nodes_per_unit = 1,
                                    .size = 100,
                                    .columns = {&column, 1}};
    uint8_t hash[32] = {1};
    dataset.schema_hash = span_of(hash, 32);
    assert_int_equal(proto_dataset_encode(&dataset, &body, NULL), E_OK);
    home_record(&home, PROTO_RECORD_DATASET, "d", seq, buf_span(&body), E_OK);
    buf_fini(&body);
}

static const struct query_record *get(const char *name, uint64_t kind, struct arena *holder)
{
    const struct query_record *known = NULL;
    bool forked = true;
    assert_int_equal(
        query_record_get(&context, home.node_id, name, kind, holder, &known, &forked, NULL), E_OK);
    assert_false(forked);
    return known;
}

static void test_by_bytes(void **state)
{
    (void)state;
    struct arena first = {0}, second = {0}, third = {0};
    const struct query_record *none;
    assert_int_equal(query_record_get(&context, home.node_id, "d", PROTO_RECORD_DATASET, &first,
                                      &none, NULL, NULL),
                     E_NOT_FOUND);
    publish("one", 1);
    const struct query_record *one = get("d", PROTO_RECORD_DATASET, &first);
    assert_true(one->understood && span_is(one->dataset.title, "one"));
    assert_int_equal(one->schema.count, 1);
    assert_string_equal(one->schema.columns[0].name, "x");
    assert_ptr_equal(get("d", PROTO_RECORD_DATASET, &second), one);
    publish("two", 2);
    const struct query_record *two = get("d", PROTO_RECORD_DATASET, &third);
    assert_ptr_not_equal(two, one);
    assert_true(span_is(two->dataset.title, "two"));
    arena_fini(&first);
    assert_true(span_is(one->dataset.title, "one")); /* it has another holder */
    arena_fini(&second);
    query_known_free(context.known); /* a holder outlives the table, too */
    context.known = NULL;
    assert_true(span_is(two->dataset.title, "two"));
    const struct query_record *fresh = get("d", PROTO_RECORD_DATASET, &third);
    assert_ptr_not_equal(fresh, two);
    assert_true(span_is(fresh->dataset.title, "two"));
    arena_fini(&third);
    context.known = query_known_new();
    assert_non_null(context.known);
}

/* A body that says nothing to us is no failure: whoever asks sees the record, and that it was not understood. */
static void test_not_understood(void **state)
{
    (void)state;
    struct arena holder = {0};
    home_record(&home, PROTO_RECORD_LICENCE, "d", 1, span_str("terms"), E_OK);
    const struct query_record *known = get("d", PROTO_RECORD_LICENCE, &holder);
    assert_false(known->understood);
    assert_true(span_is(known->record.envelope.body, "terms"));
    assert_ptr_equal(get("d", PROTO_RECORD_LICENCE, &holder), known);
    arena_fini(&holder);
}

static char order[4];

static void note(void *user)
{
    strcat(order, user);
}

static void test_deferred(void **state)
{
    (void)state;
    struct arena arena = {0};
    char *inside = arena_strdup(&arena, span_str("b"));
    assert_int_equal(arena_defer(&arena, note, (void *)"a"), E_OK);
    assert_int_equal(arena_defer(&arena, note, inside), E_OK);
    arena_fini(&arena);
    assert_string_equal(order, "ba");
    arena_fini(&arena);
    assert_string_equal(order, "ba");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_by_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_understood, setup, teardown),
        cmocka_unit_test(test_deferred),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
