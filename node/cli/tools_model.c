/* tool tokenize, tool report: what needs neither daemon nor home. */
#include "config.h"
#include "node/cli/cli.h"

#include "node/model/report.h"
#include "node/model/tokenizer.h"
#include "proto/codec.h"

#include <stdio.h>
#include <stdlib.h>

#define INPUT_LINE_MAX MODEL_TEXT_MAX
#define PIECES_MAX     (INPUT_LINE_MAX + 16)
#define SENTENCE_MAX   65536u

/* --- tool tokenize -------------------------------------------------------------------------------- */

/* Without its end of line. */
static struct span line_of(const char *line, ssize_t len)
{
    size_t n = (size_t)len;
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) {
        n--;
    }
    return span_of(line, n);
}

/* As a line of text, or as a list at the end of ROWS. */
static void show_pieces(const uint32_t *ids, size_t count, json_t *rows)
{
    json_t *row = rows ? json_array() : NULL;
    for (size_t i = 0; i < count; i++) {
        if (row) {
            json_array_append_new(row, json_integer(ids[i]));
        } else {
            printf("%s%u", i ? " " : "", ids[i]);
        }
    }
    if (row) {
        json_array_append_new(rows, row);
    } else {
        putchar('\n');
    }
}

static enum err tokenize_lines(const struct model_tokenizer *tokenizer, uint32_t *ids, json_t *rows,
                               struct err_info *reterr)
{
    char *line = NULL;
    size_t cap = 0, number = 0;
    ssize_t len;
    enum err err = E_OK;
    while (!err && (len = getline(&line, &cap, stdin)) >= 0) {
        size_t count = 0;
        number++;
        err = model_tokenizer_text(tokenizer, line_of(line, len), ids, PIECES_MAX, &count, reterr);
        if (err) {
            proto_err_frame(reterr, "in line %zu of standard input", number);
        } else {
            show_pieces(ids, count, rows);
        }
    }
    free(line);
    return err;
}

enum err cli_tool_tokenize(struct cli_call *call, json_t **ret, int *ret_exit,
                           struct err_info *reterr)
{
    struct model_tokenizer *tokenizer = NULL;
    uint32_t *ids = proto_alloc(PIECES_MAX, sizeof *ids);
    json_t *rows = call->json ? json_array() : NULL;
    (void)ret_exit;
    enum err err =
        ids ? model_tokenizer_open(cli_text(call, "--model"), &tokenizer, reterr) : E_NO_MEMORY;
    err = err ? err : tokenize_lines(tokenizer, ids, rows, reterr);
    if (err) {
        json_decref(rows);
    } else {
        *ret = rows;
    }
    model_tokenizer_close(tokenizer);
    proto_free(ids);
    return err;
}

/* --- tool report ---------------------------------------------------------------------------------- */

struct pairs {
    struct model_report report;
    char *gold[SENTENCE_MAX], *predicted[SENTENCE_MAX];
    size_t count;
};

static enum err end_sentence(struct pairs *p)
{
    enum err err = model_report_add(&p->report, (const char *const *)p->gold,
                                    (const char *const *)p->predicted, p->count);
    for (size_t i = 0; i < p->count; i++) {
        proto_free(p->gold[i]);
        proto_free(p->predicted[i]);
    }
    p->count = 0;
    return err;
}

/* The last two columns. */
static enum err take_pair(struct pairs *p, char *line, struct err_info *reterr)
{
    static const char white[] = " \t\r\n";
    char *place = NULL, *before = NULL, *last = NULL;
    for (char *word = strtok_r(line, white, &place); word; word = strtok_r(NULL, white, &place)) {
        before = last;
        last = word;
    }
    if (!last) {
        return end_sentence(p);
    }
    if (!before) {
        return proto_err_set(reterr, E_INVALID,
                             "a line needs two columns: right and predicted tag");
    }
    if (p->count == SENTENCE_MAX) {
        return proto_err_set(reterr, E_LIMIT, "a sentence of more than %u words", SENTENCE_MAX);
    }
    p->gold[p->count] = proto_strdup(before);
    p->predicted[p->count] = proto_strdup(last);
    bool both = p->gold[p->count] && p->predicted[p->count];
    p->count++;
    return both ? E_OK : E_NO_MEMORY;
}

static enum err read_pairs(struct pairs *p, struct err_info *reterr)
{
    char *line = NULL;
    size_t cap = 0, number = 0;
    enum err err = E_OK;
    while (!err && getline(&line, &cap, stdin) >= 0) {
        number++;
        err = proto_utf8_valid(span_str(line)) ? take_pair(p, line, reterr)
                                               : proto_err_set(reterr, E_INVALID, "no UTF-8 text");
        if (err) {
            proto_err_frame(reterr, "in line %zu of standard input", number);
        }
    }
    free(line);
    enum err ended = end_sentence(p);
    return err ? err : ended;
}

enum err cli_tool_report(struct cli_call *call, json_t **ret, int *ret_exit,
                         struct err_info *reterr)
{
    const char *mode = cli_text(call, "--mode");
    struct buf out = {.max = 16 << 20};
    (void)ret_exit;
    if (mode && strcmp(mode, "conlleval") != 0 && strcmp(mode, "strict") != 0) {
        return proto_err_set(reterr, E_USAGE, "--mode is conlleval or strict");
    }
    struct pairs *p = proto_alloc(1, sizeof *p);
    if (!p) {
        return E_NO_MEMORY;
    }
    p->report.strict = mode && strcmp(mode, "strict") == 0;
    enum err err = read_pairs(p, reterr);
    if (!err) {
        err =
            call->json ? model_report_json(&p->report, &out) : model_report_text(&p->report, &out);
    }
    if (!err && call->json) {
        *ret = json_loadb((const char *)out.ptr, out.len, 0, NULL);
        err = *ret ? E_OK : E_NO_MEMORY;
    } else if (!err) {
        fwrite(out.ptr, 1, out.len, stdout);
    }
    model_report_fini(&p->report);
    proto_free(p);
    buf_fini(&out);
    return err;
}
