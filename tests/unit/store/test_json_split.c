/* Where objects begin and end: lines, documents, Bundles, and what is none of them. The same text is read whole, and through a
 * pipe in pieces of every small size. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/provider.h"
#include "proto/alloc.h"
#include "store/json_split.h"
#include "store/json_text.h"

static char said[8192];

static void say(struct store_json_split *split)
{
    struct store_json_piece piece;
    said[0] = '\0';
    for (;;) {
        assert_int_equal(store_json_split_next(split, &piece, NULL), E_OK);
        if (piece.end) {
            break;
        }
        size_t used = strlen(said);
        snprintf(said + used, sizeof said - used, "%llu%s %.*s\n", (unsigned long long)piece.line,
                 piece.fault   ? "!"
                 : piece.entry ? "e"
                               : "",
                 piece.fault ? 40 : (int)piece.text.len,
                 piece.fault ? piece.fault : (const char *)piece.text.ptr);
    }
    store_json_split_close(split);
}

static void through_pipe(const char *text, size_t step)
{
    int fds[2];
    char path[32];
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        close(fds[0]);
        for (size_t at = 0, len = strlen(text); at < len; at += step) {
            (void)!write(fds[1], text + at, len - at < step ? len - at : step);
            usleep(200);
        }
        _exit(0);
    }
    close(fds[1]);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fds[0]);
    struct store_json_split *split;
    assert_int_equal(store_json_split_open(path, &split, NULL), E_OK);
    say(split);
    close(fds[0]);
    waitpid(child, NULL, 0);
}

static void expect(const char *text, const char *want)
{
    struct store_json_split *split;
    assert_int_equal(store_json_split_bytes(span_str(text), &split, NULL), E_OK);
    say(split);
    assert_string_equal(said, want);
    for (size_t step = 1; step <= 7; step += 3) {
        through_pipe(text, step);
        assert_string_equal(said, want);
    }
}

static void objects_come_one_by_one(void **state)
{
    (void)state;
    expect("", "");
    expect(" \r\n\n", "");
    expect("{\"a\":1}\n{\"b\":[{},[]]}\r\n\n{\"c\":\"}{\\\"\\\\\"}",
           "1 {\"a\":1}\n2 {\"b\":[{},[]]}\n4 {\"c\":\"}{\\\"\\\\\"}\n");
    expect("\xef\xbb\xbf{\"a\":1}{\"b\":2}", "1 {\"a\":1}\n1 {\"b\":2}\n");
    expect("{\n\"a\":\n[\n{\n},\n{\n}\n]\n}\n{}\n", "1 {\n\"a\":\n[\n{\n},\n{\n}\n]\n}\n10 {}\n");
}

static void entries_come_before_their_bundle(void **state)
{
    (void)state;
    expect("{\"resourceType\":\"Bundle\",\"entry\":[{\"x\":[1,{}]} , "
           "{\"y\":\"]\"}],\"z\":1}\n{\"q\":1}",
           "1e {\"x\":[1,{}]}\n1e {\"y\":\"]\"}\n"
           "1 {\"resourceType\":\"Bundle\",\"entry\":[],\"z\":1}\n2 {\"q\":1}\n");
    expect("{\"entry\" :\n[\n{\n\"a\":1\n},\n{\"b\":{\"entry\":[{\"c\":1}]}}\n]\n}",
           "3e {\n\"a\":1\n}\n6e {\"b\":{\"entry\":[{\"c\":1}]}}\n1 {\"entry\" :\n[]\n}\n");
    expect("{\"entry\":[]}{\"entry\":{\"a\":[{}]}}{\"a\":{\"entry\":[{}]}}{\"a\":\"entry\",\"b\":[{"
           "}]}",
           "1 {\"entry\":[]}\n1 {\"entry\":{\"a\":[{}]}}\n1 {\"a\":{\"entry\":[{}]}}\n"
           "1 {\"a\":\"entry\",\"b\":[{}]}\n");
    expect("{\"a\":[\"entry\",[{}]],\"entry\":[{\"k\":1}]}",
           "1e {\"k\":1}\n1 {\"a\":[\"entry\",[{}]],\"entry\":[]}\n");
}

static void faults_cost_one_object(void **state)
{
    (void)state;
    expect("x\n{\"a\":1}\n", "1! is no JSON object\n2 {\"a\":1}\n");
    expect("[{\"a\":1}]\n{\"b\":1}\n", "1! is no JSON object\n2 {\"b\":1}\n");
    expect("{\"a\":1\n{\"b\":2}\n{\"c\":3}\n", "1! ends in the middle\n2 {\"b\":2}\n3 {\"c\":3}\n");
    expect("{\"a\":\"1\n{\"b\":2}\n", "1! has a text that does not end\n2 {\"b\":2}\n");
    expect("{\"a\":[1}\n{\"b\":2}\n", "1! is not valid JSON\n2 {\"b\":2}\n");
    expect("{\"a\":1}}\n{\"b\":2}\n", "1 {\"a\":1}\n1! is no JSON object\n2 {\"b\":2}\n");
    expect("{\"a\":", "1! ends in the middle\n");
    expect("{\"entry\":[{\"a\":1},{\"b\"", "1e {\"a\":1}\n1! ends in the middle\n");
    expect("{\"entry\":[{\"a\":1}\n{\"b\":1}",
           "1e {\"a\":1}\n1! ends in the middle\n2 {\"b\":1}\n");
}

static void zero_bytes_are_refused(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":\"\0\"}\n{\"b\":2}\n{\"c\":\0}\n{\"d\":4}\n";
    struct store_json_split *split;
    assert_int_equal(store_json_split_bytes(span_of(text, sizeof text - 1), &split, NULL), E_OK);
    say(split);
    assert_string_equal(said,
                        "1! holds a zero byte\n2 {\"b\":2}\n3! holds a zero byte\n4 {\"d\":4}\n");
}

static void depth_and_length_have_limits(void **state)
{
    (void)state;
    static char deep[400];
    for (int i = 0; i < 200; i++) {
        deep[i] = i ? '[' : '{';
    }
    memcpy(deep + 200, "\n{\"b\":2}\n", 10);
    struct store_json_split *split;
    assert_int_equal(store_json_split_bytes(span_str(deep), &split, NULL), E_OK);
    say(split);
    assert_string_equal(said, "1! is nested too deeply\n2 {\"b\":2}\n");
    size_t len = STORE_JSON_TEXT_MAX + 100;
    char *text = malloc(len + 40);
    assert_non_null(text);
    memset(text, ' ', len);
    memcpy(text, "{\"entry\":[{\"k\":", 15);
    memcpy(text + len, "1}]}\n{\"b\":2}\n", 14);
    assert_int_equal(store_json_split_bytes(span_str(text), &split, NULL), E_OK);
    struct store_json_piece piece;
    assert_int_equal(store_json_split_next(split, &piece, NULL), E_OK);
    assert_true(piece.entry && piece.too_long && piece.text.len == STORE_JSON_TEXT_MAX);
    assert_string_equal(piece.fault, "is too long");
    say(split);
    assert_string_equal(said, "1 {\"entry\":[]}\n2 {\"b\":2}\n");
    free(text);
}

int main(void)
{
    struct err_info info;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_come_one_by_one),
        cmocka_unit_test(entries_come_before_their_bundle),
        cmocka_unit_test(faults_cost_one_object),
        cmocka_unit_test(zero_bytes_are_refused),
        cmocka_unit_test(depth_and_length_have_limits),
    };
    return crypto_init(&info) ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
