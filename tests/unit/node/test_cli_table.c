/* Answers as text against the golden files of tests/vectors/cli: NAME.json gives NAME.txt. With
 * CONCORDAT_GOLDEN=write the texts are written anew, to be read by a person before they are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "node/cli/grid.h"
#include "node/cli/progress.h"
#include "node/cli/table.h"

static json_t *load(const char *name)
{
    char path[1024];
    json_error_t at;
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/tests/vectors/cli/%s.json", top ? top : ".", name);
    json_t *json = json_load_file(path, 0, &at);
    if (!json) {
        fail_msg("%s:%d: %s", path, at.line, at.text);
    }
    return json;
}

enum how {
    ANSWER,
    ERROR,
    PLOT,
    SVG,
    CSV
};

static char *render(const char *name, enum how how, enum proto_op_id id)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    json_t *json = load(name);
    if (how == ANSWER) {
        cli_table_answer(id, json, to);
    } else if (how == ERROR) {
        cli_table_error(json, to);
    } else if (how == CSV) {
        cli_csv_print(json, to);
    } else if (how == PLOT) {
        assert_true(cli_plot_terminal(json, to));
    } else {
        assert_true(cli_plot_svg(json, to));
    }
    json_decref(json);
    fclose(to);
    return text;
}

static void golden(const char *name, const char *suffix, enum how how, enum proto_op_id id)
{
    char path[1024];
    char want[16384];
    const char *top = getenv("top_srcdir");
    const char *mode = getenv("CONCORDAT_GOLDEN");
    snprintf(path, sizeof path, "%s/tests/vectors/cli/%s.%s", top ? top : ".", name, suffix);
    char *text = render(name, how, id);
    if (mode && strcmp(mode, "write") == 0) {
        FILE *to = fopen(path, "w");
        assert_non_null(to);
        fputs(text, to);
        fclose(to);
    }
    FILE *from = fopen(path, "r");
    if (!from) {
        fail_msg("%s is missing", path);
        return;
    }
    size_t got = fread(want, 1, sizeof want - 1, from);
    want[got] = 0;
    fclose(from);
    assert_string_equal(text, want);
    free(text);
}

static void test_golden_texts(void **state)
{
    (void)state;
    golden("query-replayed", "txt", ANSWER, PROTO_OP_QUERY);
    golden("query-explain", "txt", ANSWER, PROTO_OP_QUERY);
    golden("peers", "txt", ANSWER, PROTO_OP_PEERS);
    golden("train", "txt", ANSWER, PROTO_OP_TRAIN_SHOW);
    golden("import", "txt", ANSWER, PROTO_OP_DATASET_IMPORT);
    golden("budget", "txt", ANSWER, PROTO_OP_BUDGET);
    golden("verify", "txt", ANSWER, PROTO_OP_AUDIT_VERIFY);
    golden("dataset", "txt", ANSWER, PROTO_OP_DATASET_SHOW);
    golden("risk", "txt", ANSWER, PROTO_OP_DATASET_RISK);
    golden("check", "txt", ANSWER, PROTO_OP_LICENCE_CHECK);
    golden("error-budget", "txt", ERROR, PROTO_OP_HELP);
    golden("error-usage", "txt", ERROR, PROTO_OP_HELP);
    static const char *const asked[] = {"query", "query-histogram", "query-survival",
                                        "query-linreg"};
    for (size_t i = 0; i < 4; i++) {
        golden(asked[i], "txt", ANSWER, PROTO_OP_QUERY);
        golden(asked[i], "csv", CSV, PROTO_OP_QUERY);
        if (i < 3) { /* coefficients are not drawn */
            golden(asked[i], "plot", PLOT, PROTO_OP_QUERY);
            golden(asked[i], "svg", SVG, PROTO_OP_QUERY);
        }
    }
}

#define STRANGE_CURVE                                                                              \
    "{\"shape\":\"survival\",\"columns\":[\"time\",\"survival\",\"lower\",\"upper\"],"             \
    "\"rows\":[[1,-1e300,1e300,null],[2,5,-3,1e300]]}"

/* Whatever an answer lacks, rendering must neither crash nor print "(null)". */
static void test_every_operation_survives_strange_answers(void **state)
{
    (void)state;
    static const char *const strange[] = {
        "{}",
        "{\"shape\":\"survival\",\"columns\":[\"time\"],\"rows\":[[null],[1,2],[\"x\"],[1]]}",
        "{\"shape\":\"survival\",\"comparison\":{},\"fit\":3,\"row_sites\":[1,{}]}",
        STRANGE_CURVE,
        "{\"shape\":\"histogram\",\"columns\":[\"count\"],\"rows\":[[],[7]]}",
        "[]",
        "null",
        "[null, 3, \"x\", {}]",
        "{\"rows\":[[1,2],[3]],\"columns\":[\"a\"],\"margin95\":7,\"sites\":[null,{}],\"cost\":[]}",
        "{\"checks\":[{}],\"budget\":[{}],\"history\":[{}],\"datasets\":[{\"licence\":3}]}",
        "{\"licences\":[{}],\"participants\":[{}],\"files\":[[]],\"parts\":{},\"error\":4}",
    };
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        json_t *json = json_loads(strange[i], JSON_DECODE_ANY, NULL);
        assert_non_null(json);
        for (size_t id = 0; id < PROTO_OP_TOTAL; id++) {
            char *text = NULL;
            size_t size = 0;
            FILE *to = open_memstream(&text, &size);
            cli_table_answer((enum proto_op_id)id, json, to);
            cli_table_error(json, to);
            cli_plot_terminal(json, to);
            cli_plot_svg(json, to);
            cli_csv_print(json, to);
            fclose(to);
            assert_null(strstr(text, "(null)"));
            free(text);
        }
        json_decref(json);
    }
}

/* An interval that spans the column's bounds is not printed as if it said something. */
static void test_hidden_numbers_are_not_known(void **state)
{
    (void)state;
    static const char answer[] =
        "{\"columns\":[\"count\",\"avg_age\"],\"rows\":[[31,50.0],[900,61.0]],"
        "\"margin95\":[[12.3,249.0],[12.3,2.1]],\"hidden\":[[0,1],[7],3],\"sites\":[]}";
    json_t *json = json_loads(answer, 0, NULL);
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    assert_non_null(json);
    cli_table_answer(PROTO_OP_QUERY, json, to);
    fclose(to);
    assert_null(strstr(text, "249"));
    assert_non_null(strstr(text, "31 ± 12   not known\n")); /* under 900 ± 12, before 61.0 ± 2.1 */
    assert_non_null(strstr(text, "900 ± 12  61.0 ± 2.1\n"));
    assert_non_null(strstr(text, "\nnot known: too few values, or the noise hides it"));
    assert_null(strstr(text, "withheld"));
    free(text);
    json_decref(json);
}

static void test_numbers_show_what_the_margin_allows(void **state)
{
    (void)state;
    static const struct {
        double value;
        double margin;
        const char *text;
    } cases[] = {
        {4321, 12.3, "4321 ± 12"}, {1.07123, 0.0204, "1.071 ± 0.020"},  {-3, 150.2, "-3 ± 150"},
        {0.5, 3.14, "0.5 ± 3.1"},  {1234567, 99999, "1234567 ± 99999"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[96];
        cli_table_number(cases[i].value, cases[i].margin, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
    char text[96];
    cli_table_number(42, 0, text, sizeof text);
    assert_string_equal(text, "42");
}

static void test_width_counts_what_is_seen(void **state)
{
    (void)state;
    assert_int_equal(cli_grid_width("abc"), 3);
    assert_int_equal(cli_grid_width("Charité ± 3"), 11);
    assert_int_equal(cli_grid_width("e\xCC\x81"), 1); /* e and a combining accent */
    assert_int_equal(cli_grid_width(""), 0);
}

static void test_progress_line(void **state)
{
    (void)state;
    char line[256];
    struct proto_control_progress half = {span_str("reading a.csv, bytes"), 10 << 20, 20 << 20};
    cli_progress_line(&half, 2000, line, sizeof line);
    assert_string_equal(line,
                        "reading a.csv [############............]  50 %  5.0 MiB/s  2 s left");
    struct proto_control_progress unknown = {span_str("asking\033[2J"), 0, 0};
    cli_progress_line(&unknown, 2000, line, sizeof line);
    assert_string_equal(line, "asking?[2J");
    struct proto_control_progress wait = {span_str("asking, 1 of 3 sites have answered, seconds"),
                                          3, 12};
    cli_progress_line(&wait, 3000, line, sizeof line);
    assert_string_equal(
        line, "asking, 1 of 3 sites have answered [######..................]  25 %  9 s left");
    struct proto_control_progress over = {span_str("x"), 30, 20};
    cli_progress_line(&over, 100, line, sizeof line);
    assert_string_equal(line, "x [########################] 100 %");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_texts),
        cmocka_unit_test(test_every_operation_survives_strange_answers),
        cmocka_unit_test(test_hidden_numbers_are_not_known),
        cmocka_unit_test(test_numbers_show_what_the_margin_allows),
        cmocka_unit_test(test_width_counts_what_is_seen),
        cmocka_unit_test(test_progress_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
