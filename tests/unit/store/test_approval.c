/* The queue of requests that wait for a person: asking, deciding, running out. */
#include "config.h"
#include "home.h"
#include "store/approval.h"

static struct home home;
static const struct store_approval_limits limits = {
    .pending_s = 100, .pending = 4, .per_institution = 2};

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

static struct store_approval request(uint8_t id, uint8_t project, const char *institution)
{
    return (struct store_approval){.id = {id},
                                   .project_key = {project},
                                   .request = {id, 1},
                                   .kind = STORE_APPROVAL_QUERY,
                                   .dataset = span_str("flchain"),
                                   .node = span_str("beta"),
                                   .institution = span_str(institution),
                                   .person = span_str("ada-planted-person"),
                                   .project = span_str("heart"),
                                   .purpose = span_str("DUO:0000042"),
                                   .operations = span_str("count over sex"),
                                   .question = span_str("SELECT COUNT(*) FROM flchain"),
                                   .shape = span_str("1 row of count"),
                                   .why = span_str("HOLD"),
                                   .epsilon_u = 500000,
                                   .delta_e12 = 1000000,
                                   .cost_nano = 6641525};
}

static uint64_t ask(uint8_t id, uint8_t project, const char *institution, int64_t now,
                    enum err expected)
{
    struct arena arena = {0};
    struct store_approval row = request(id, project, institution);
    struct store_approval stands = {.state = 99};
    assert_int_equal(store_approval_ask(&home.store, &limits, &row, now, &stands, &arena, NULL),
                     expected);
    arena_fini(&arena);
    return stands.state;
}

static void decide(uint8_t id, bool approve, bool project, int64_t now, int64_t until,
                   enum err expected)
{
    const uint8_t full[16] = {id};
    const struct store_approval_verdict verdict = {
        .approve = approve, .for_project = project, .by = "eve", .reason = "so", .expires = until};
    assert_int_equal(store_approval_decide(&home.store, full, &verdict, now, NULL), expected);
}

static void test_waits_until_decided(void **state)
{
    (void)state;
    assert_int_equal(ask(1, 1, "a", NOW, E_OK), STORE_APPROVAL_PENDING);
    assert_int_equal(ask(1, 1, "a", NOW + 50, E_OK), STORE_APPROVAL_PENDING);
    decide(2, true, false, NOW, NOW + 10, E_NOT_FOUND);
    decide(1, true, false, NOW + 60, NOW + 200, E_OK);
    assert_int_equal(ask(1, 1, "a", NOW + 199, E_OK), STORE_APPROVAL_APPROVED);
    /* Taken back, and given again. */
    decide(1, false, false, NOW + 61, NOW + 200, E_OK);
    assert_int_equal(ask(1, 1, "a", NOW + 62, E_OK), STORE_APPROVAL_DENIED);
    decide(1, true, false, NOW + 63, NOW + 200, E_OK);
    assert_int_equal(ask(1, 1, "a", NOW + 64, E_OK), STORE_APPROVAL_APPROVED);
    /* What was decided is over: it waits anew. */
    assert_int_equal(ask(1, 1, "a", NOW + 200, E_OK), STORE_APPROVAL_PENDING);
}

static void test_time_runs_out(void **state)
{
    (void)state;
    struct arena arena = {0};
    const uint8_t id[16] = {1};
    struct store_approval row;
    assert_int_equal(ask(1, 1, "a", NOW, E_OK), STORE_APPROVAL_PENDING);
    assert_int_equal(store_approval_get(&home.store, id, NOW + 100, &row, &arena, NULL), E_OK);
    assert_int_equal(row.state, STORE_APPROVAL_EXPIRED);
    assert_true(span_is(row.question, "SELECT COUNT(*) FROM flchain"));
    decide(1, true, false, NOW + 100, NOW + 900, E_INVALID);
    assert_int_equal(ask(1, 1, "a", NOW + 101, E_OK), STORE_APPROVAL_PENDING);
    decide(1, true, false, NOW + 102, NOW + 900, E_OK);
    arena_fini(&arena);
}

static void test_project(void **state)
{
    (void)state;
    assert_int_equal(ask(1, 7, "a", NOW, E_OK), STORE_APPROVAL_PENDING);
    assert_int_equal(ask(2, 7, "a", NOW, E_OK), STORE_APPROVAL_PENDING);
    decide(1, true, true, NOW, NOW + 500, E_OK);
    assert_int_equal(ask(2, 7, "a", NOW + 1, E_OK), STORE_APPROVAL_APPROVED);
    assert_int_equal(ask(3, 7, "a", NOW + 1, E_OK), STORE_APPROVAL_APPROVED);
    assert_int_equal(ask(4, 8, "a", NOW + 1, E_OK), STORE_APPROVAL_PENDING); /* another project */
    decide(2, false, false, NOW + 2, NOW + 500, E_OK); /* its own denial outweighs the project */
    assert_int_equal(ask(2, 7, "a", NOW + 3, E_OK), STORE_APPROVAL_DENIED);
    decide(1, false, false, NOW + 4, NOW + 500, E_OK); /* and now the project's is gone */
    assert_int_equal(ask(3, 7, "a", NOW + 5, E_OK), STORE_APPROVAL_PENDING);
}

static void test_limits(void **state)
{
    (void)state;
    assert_int_equal(ask(1, 1, "a", NOW, E_OK), STORE_APPROVAL_PENDING);
    assert_int_equal(ask(2, 1, "a", NOW, E_OK), STORE_APPROVAL_PENDING);
    ask(3, 1, "a", NOW, E_LIMIT);
    assert_int_equal(ask(3, 1, "b", NOW, E_OK), STORE_APPROVAL_PENDING);
    assert_int_equal(ask(4, 1, "b", NOW, E_OK), STORE_APPROVAL_PENDING);
    ask(5, 1, "c", NOW, E_LIMIT);
    assert_int_equal(ask(1, 1, "a", NOW, E_OK),
                     STORE_APPROVAL_PENDING); /* a known one is no more */
    decide(4, false, false, NOW, NOW + 500, E_OK);
    assert_int_equal(ask(5, 1, "c", NOW, E_OK), STORE_APPROVAL_PENDING);
    /* Those that nobody decided make room. */
    assert_int_equal(ask(6, 1, "d", NOW + 100, E_OK), STORE_APPROVAL_PENDING);
}

static enum err count(void *user, const struct store_approval *row)
{
    size_t *counts = user;
    counts[row->state]++;
    return E_OK;
}

static void test_survives_and_is_sealed(void **state)
{
    (void)state;
    size_t counts[4] = {0};
    struct buf file;
    ask(1, 1, "a", NOW, E_OK);
    ask(2, 1, "a", NOW, E_OK);
    decide(2, true, false, NOW, NOW + 90, E_OK);
    store_close(&home.store);
    home_try_open(&home, E_OK);
    assert_int_equal(store_approval_each(&home.store, NOW + 95, count, counts, NULL), E_OK);
    assert_int_equal(counts[STORE_APPROVAL_PENDING], 1);
    assert_int_equal(counts[STORE_APPROVAL_EXPIRED], 1);
    /* Old rows go when a new one comes, long after they were over. */
    ask(3, 1, "a", NOW + 91 * 86400, E_OK);
    memset(counts, 0, sizeof counts);
    assert_int_equal(store_approval_each(&home.store, NOW + 91 * 86400, count, counts, NULL), E_OK);
    assert_int_equal(counts[STORE_APPROVAL_PENDING], 1);
    assert_int_equal(counts[STORE_APPROVAL_EXPIRED], 0);
    home_file(home.mdb, &file);
    assert_null(memmem(file.ptr, file.len, "ada-planted-person", 18));
    buf_fini(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_waits_until_decided, setup, teardown),
        cmocka_unit_test_setup_teardown(test_time_runs_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_project, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_survives_and_is_sealed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
