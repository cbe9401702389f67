#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proto/operation.h"
#include "proto/time.h"

static bool is_path(const char *path)
{
    size_t len = strlen(path);
    return len > 0 && strspn(path, "abcdefghijklmnopqrstuvwxyz- ") == len && path[0] != ' ' &&
           path[len - 1] != ' ' && strstr(path, "  ") == NULL;
}

static void test_every_row_is_well_formed(void **state)
{
    (void)state;
    assert_int_equal(proto_operation_count, PROTO_OP_TOTAL);
    for (size_t i = 0; i < proto_operation_count; i++) {
        const struct proto_operation *op = &proto_operations[i];
        assert_int_equal(op->id, i);
        assert_true(is_path(op->path));
        assert_non_null(op->arguments);
        assert_non_null(op->help);
        size_t summary = strlen(op->summary);
        assert_true(summary > 5 && summary < 80);
        assert_int_not_equal(op->summary[summary - 1], '.');
        assert_int_equal(op->roles & ~15u, 0);
        /* What the daemon answers has a stated shape. */
        assert_true(op->where == PROTO_WHERE_LOCAL || op->answer != NULL);
        for (const char *line = op->help; *line;) {
            size_t len = strcspn(line, "\n");
            assert_true(len <= 90);
            line += len + (line[len] == '\n');
        }
    }
}

static void test_arguments_are_well_formed(void **state)
{
    (void)state;
    for (size_t i = 0; i < proto_operation_count; i++) {
        bool optional_seen = false;
        bool repeated_seen = false;
        const struct proto_argument *all = proto_operations[i].arguments;
        for (const struct proto_argument *a = all; a->name; a++) {
            assert_ptr_equal(proto_operation_argument(&proto_operations[i], span_str(a->name)), a);
            assert_true(strlen(a->name) <= 64);
            assert_non_null(a->help);
            assert_true((a->type == PROTO_ARG_FLAG) == (a->value_name == NULL));
            bool option = strncmp(a->name, "--", 2) == 0;
            assert_false(a->type == PROTO_ARG_FLAG && !option);
            if (!option) {
                /* A required positional after an optional one could not be told apart. */
                assert_false(repeated_seen);
                assert_false(a->required && optional_seen);
                optional_seen |= !a->required;
                repeated_seen |= a->repeated;
            }
        }
        /* Global options may not be taken. */
        assert_null(proto_operation_argument(&proto_operations[i], span_str("--home")));
        assert_null(proto_operation_argument(&proto_operations[i], span_str("--json")));
        assert_null(proto_operation_argument(&proto_operations[i], span_str("--help")));
    }
}

static void test_paths_are_unique_and_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < proto_operation_count; i++) {
        const char *path = proto_operations[i].path;
        assert_ptr_equal(proto_operation_by_path(span_str(path)), &proto_operations[i]);
        char words[4][32];
        char *argv[5];
        int argc = 0;
        for (const char *at = path; *at; argc++) {
            size_t len = strcspn(at, " ");
            memcpy(words[argc], at, len);
            words[argc][len] = 0;
            argv[argc] = words[argc];
            at += len;
            at += *at == ' ';
        }
        char extra[] = "extra";
        argv[argc] = extra;
        int used = 0;
        assert_ptr_equal(proto_operation_find(argc + 1, argv, &used), &proto_operations[i]);
        assert_int_equal(used, argc);
    }
    char wrong[] = "datasets";
    char *argv[] = {wrong};
    int used = 0;
    assert_null(proto_operation_find(1, argv, &used));
    assert_null(proto_operation_find(0, NULL, &used));
    assert_null(proto_operation_by_path(span_str("dataset")));
}

/* The commands of the contract that this version promises, typed here once more on purpose. */
static void test_contract_is_covered(void **state)
{
    (void)state;
    static const char *const promised[] = {
        "sandbox create",
        "sandbox start",
        "sandbox status",
        "sandbox stop",
        "sandbox remove",
        "sandbox split",
        "init",
        "doctor",
        "status",
        "peers",
        "federation invite",
        "federation admit",
        "federation council",
        "revoke",
        "dataset import",
        "dataset list",
        "dataset show",
        "dataset update",
        "dataset remove",
        "catalog",
        "licence show",
        "licence check",
        "licence withdraw",
        "query",
        "queries",
        "queries show",
        "budget",
        "train start",
        "train watch",
        "train list",
        "train show",
        "train stop",
        "train resume",
        "train run",
        "train compare",
        "train history",
        "approvals",
        "approve",
        "deny",
        "model list",
        "model show",
        "model report",
        "model card",
        "model export",
        "model import",
        "model publish",
        "model predict",
        "audit egress",
        "audit list",
        "audit verify",
        "audit export",
        "tool accountant",
        "tool licence-decide",
        "help",
        "completion",
        "man",
    };
    for (size_t i = 0; i < sizeof promised / sizeof *promised; i++) {
        if (!proto_operation_by_path(span_str(promised[i]))) {
            fail_msg("no row for '%s'", promised[i]);
        }
    }
    static const char *const of_query[] = {"--project", "--purpose", "--disease",   "--epsilon",
                                           "--delta",   "--sites",   "--min-sites", "--mode",
                                           "--explain", "--timeout", "--plot",      "--svg"};
    for (size_t i = 0; i < sizeof of_query / sizeof *of_query; i++) {
        assert_non_null(
            proto_operation_argument(&proto_operations[PROTO_OP_QUERY], span_str(of_query[i])));
    }
}

static enum err check(enum proto_op_id id, const char *name, const char *value)
{
    struct err_info info;
    const struct proto_argument *a =
        proto_operation_argument(&proto_operations[id], span_str(name));
    assert_non_null(a);
    return proto_operation_check(a, span_str(value), &info);
}

static void test_values_are_checked(void **state)
{
    (void)state;
    assert_int_equal(check(PROTO_OP_QUERY, "--epsilon", "0.5"), E_OK);
    assert_int_equal(check(PROTO_OP_QUERY, "--delta", "1e-6"), E_OK);
    static const char *const no_numbers[] = {"",   "nan",   "inf", "0x10", "-1",
                                             "1 ", "1e999", "1,5", "e",    "--"};
    for (size_t i = 0; i < sizeof no_numbers / sizeof *no_numbers; i++) {
        assert_int_equal(check(PROTO_OP_QUERY, "--epsilon", no_numbers[i]), E_USAGE);
    }
    assert_int_equal(check(PROTO_OP_QUERY, "--mode", "per-node"), E_OK);
    assert_int_equal(check(PROTO_OP_QUERY, "--mode", "per-nod"), E_USAGE);
    assert_int_equal(check(PROTO_OP_QUERY, "--mode", "|"), E_USAGE);
    assert_int_equal(check(PROTO_OP_QUERY, "SQL", ""), E_USAGE);
    assert_int_equal(check(PROTO_OP_QUERY, "--explain", ""), E_OK);
    assert_int_equal(check(PROTO_OP_QUERY, "--explain", "yes"), E_USAGE);
    assert_int_equal(check(PROTO_OP_SANDBOX_SPLIT, "--by", "label:sex"), E_OK);
    assert_int_equal(check(PROTO_OP_QUERY, "--timeout", "30s"), E_OK);
    assert_int_equal(check(PROTO_OP_QUERY, "--timeout", "30"), E_USAGE);
    static const char *const nothing[] = {"0s", "0ms", "000d", "0"};
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
        assert_int_equal(check(PROTO_OP_QUERY, "--timeout", nothing[i]), E_USAGE);
        assert_int_equal(check(PROTO_OP_FEDERATION_INVITE, "--valid", nothing[i]), E_USAGE);
    }
    static const char *const whole[] = {"0", "3", "1e6", "1e15"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        assert_int_equal(check(PROTO_OP_QUERY, "--min-sites", whole[i]), E_OK);
    }
    static const char *const not_whole[] = {"1.5", "1.7e0", "3x", "", "-1", "1e16", "1e300"};
    for (size_t i = 0; i < sizeof not_whole / sizeof *not_whole; i++) {
        assert_int_equal(check(PROTO_OP_QUERY, "--min-sites", not_whole[i]), E_USAGE);
        assert_int_equal(check(PROTO_OP_KEY_REMOVE, "SLOT", not_whole[i]), E_USAGE);
        assert_int_equal(check(PROTO_OP_DATASET_IMPORT, "--max-rejects", not_whole[i]), E_USAGE);
    }
    assert_int_equal(check(PROTO_OP_QUERY, "--sites", "alpha,beta"), E_OK);
    assert_int_equal(check(PROTO_OP_QUERY, "--research", "methods, genetic"), E_OK);
    static const char *const gaps[] = {"", ",", "a,", ",a", "a,,b", "a, ,b", " "};
    for (size_t i = 0; i < sizeof gaps / sizeof *gaps; i++) {
        assert_int_equal(check(PROTO_OP_QUERY, "--sites", gaps[i]), E_USAGE);
        assert_int_equal(check(PROTO_OP_SANDBOX_CREATE, "--names", gaps[i]), E_USAGE);
        assert_int_equal(check(PROTO_OP_LICENCE_CHECK, "--action", gaps[i]), E_USAGE);
    }
}

static void test_durations(void **state)
{
    (void)state;
    uint64_t ms = 0;
    assert_true(proto_duration_parse(span_str("500ms"), &ms) && ms == 500);
    assert_true(proto_duration_parse(span_str("30s"), &ms) && ms == 30000);
    assert_true(proto_duration_parse(span_str("10m"), &ms) && ms == 600000);
    assert_true(proto_duration_parse(span_str("24h"), &ms) && ms == 86400000);
    assert_true(proto_duration_parse(span_str("3650d"), &ms) && ms == UINT64_C(315360000000));
    static const char *const bad[] = {"",     "s",   "5",   "3651d", "99999999999999999999s",
                                      "1.5s", "-1s", "5 s", "5sec"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(proto_duration_parse(span_str(bad[i]), &ms));
    }
}

static void test_times(void **state)
{
    (void)state;
    int64_t at = 0;
    assert_true(proto_time_parse_since("2026-11-30", &at) && at == 1795996800);
    static const char *const same[] = {"2026-11-30T08:09:10Z", "2026-11-30T08:09:10+00:00",
                                       "2026-11-30T08:09:10.123456+00:00"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        assert_true(proto_time_parse_since(same[i], &at) && at == 1796026150);
        assert_int_equal(check(PROTO_OP_AUDIT_LIST, "--since", same[i]), E_OK);
    }
    static const char *const bad[] = {"",
                                      "soon",
                                      "1h",
                                      "2026-02-30",
                                      "2026-11-30T24:00:00Z",
                                      "2026-11-30T08:09:10",
                                      "2026-11-30T08:09:10+01:00",
                                      "2026-11-30T08:09:10.Z",
                                      "2026-11-30T08:09:10Z "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(check(PROTO_OP_AUDIT_LIST, "--since", bad[i]), E_USAGE);
    }
}

static void test_suggestions(void **state)
{
    (void)state;
    assert_string_equal(proto_operation_suggest("qurey"), "query");
    assert_string_equal(proto_operation_suggest("dataset imort"), "dataset import");
    assert_string_equal(proto_operation_suggest("peer"), "peers");
    assert_string_equal(proto_operation_suggest("sandbox strat"), "sandbox start");
    assert_null(proto_operation_suggest("xyzzy"));
    assert_null(proto_operation_suggest(""));
    char long_text[200];
    memset(long_text, 'a', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    assert_null(proto_operation_suggest(long_text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_is_well_formed),
        cmocka_unit_test(test_arguments_are_well_formed),
        cmocka_unit_test(test_paths_are_unique_and_found),
        cmocka_unit_test(test_contract_is_covered),
        cmocka_unit_test(test_values_are_checked),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_suggestions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
