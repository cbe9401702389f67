/* sandbox split: one CSV file per node, by a hash of the row number or skewed by a column's values.
 * Rows are copied byte for byte; line ends within quotes belong to their row. */
#include "config.h"
#include "node/cli/sandbox.h"

#include "crypto/provider.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define ROW_MAX    ((size_t)64 << 20)
#define LABELS_MAX 1000

/* Proportions of one label over the nodes, as a running sum that ends at 1. */
struct label {
    char *text;
    double upto[SANDBOX_NODES_MAX];
};

struct split {
    const struct sandbox *box;
    FILE *from;
    FILE *to[SANDBOX_NODES_MAX];
    uint64_t rows[SANDBOX_NODES_MAX];
    uint64_t row; /* number of the row in hand, from 1 */
    struct buf line;
    int column; /* -1: by hash alone */
    double alpha;
    struct label labels[LABELS_MAX];
    size_t label_count;
};

/* --- rows and fields ------------------------------------------------------------------------------ */

/* The next row with its line end, E_NOT_FOUND at the end of the file. */
static enum err next_row(struct split *s, struct err_info *reterr)
{
    bool quoted = false;
    s->line.len = 0;
    for (;;) {
        int c = getc_unlocked(s->from);
        if (c == EOF) {
            break;
        }
        if (s->line.len == s->line.cap) {
            enum err err = buf_reserve(&s->line, s->line.cap ? s->line.cap : 4096);
            if (err) {
                return proto_err_set(reterr, err,
                                     "row %llu is longer than %zu MiB; is a quote open?",
                                     (unsigned long long)s->row, ROW_MAX >> 20);
            }
        }
        s->line.ptr[s->line.len++] = (uint8_t)c;
        quoted ^= c == '"';
        if (c == '\n' && !quoted) {
            return E_OK;
        }
    }
    if (ferror(s->from)) {
        return proto_err_set(reterr, E_IO, "reading: %s", strerror(errno));
    }
    if (quoted) {
        return proto_err_set(reterr, E_TRUNCATED, "the file ends within quotes");
    }
    return s->line.len ? buf_put(&s->line, span_str("\n")) : E_NOT_FOUND;
}

static bool is_blank(struct span row)
{
    for (size_t i = 0; i < row.len; i++) {
        if (row.ptr[i] != '\n' && row.ptr[i] != '\r') {
            return false;
        }
    }
    return true;
}

/* The raw field NUMBER of a row, without the quotes around it and blanks at its ends. */
static struct span field(struct span row, int number)
{
    size_t start = 0;
    bool quoted = false;
    int at = 0;
    for (size_t i = 0; i <= row.len; i++) {
        uint8_t c = i < row.len ? row.ptr[i] : '\n';
        quoted ^= c == '"';
        if (quoted || (c != ',' && c != '\n')) {
            continue;
        }
        if (at++ == number) {
            size_t end = i;
            while (start < end && strchr(" \t\"\xEF\xBB\xBF", row.ptr[start])) {
                start++;
            }
            while (end > start && strchr(" \t\"\r", row.ptr[end - 1])) {
                end--;
            }
            return span_of(row.ptr + start, end - start);
        }
        start = i + 1;
        if (c == '\n') {
            break;
        }
    }
    return SPAN_NONE;
}

static enum err find_column(struct split *s, const char *name, struct err_info *reterr)
{
    for (int i = 0; i < 4096; i++) {
        struct span head = field(buf_span(&s->line), i);
        if (!head.ptr) {
            break;
        }
        if (span_is(head, name)) {
            s->column = i;
            return E_OK;
        }
    }
    return proto_err_set(reterr, E_NOT_FOUND, "the file has no column '%s'", name);
}

/* --- where a row goes ----------------------------------------------------------------------------- */

/* Uniform in (0, 1), fixed by what is hashed: the same file gives the same split. */
static double uniform(const char *purpose, struct span text, uint64_t number)
{
    uint8_t counter[8];
    uint8_t hash[32];
    put_be64(counter, number);
    struct span parts[] = {span_of(purpose, strlen(purpose) + 1), text, span_of(counter, 8)};
    crypto_sha256(parts, 3, hash);
    return ((double)(get_be64(hash) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(struct span text, uint64_t *draw)
{
    double u = uniform("split-normal", text, (*draw)++);
    double v = uniform("split-normal", text, (*draw)++);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* Marsaglia and Tsang 2000; below 1 by the boost Gamma(a) = Gamma(a + 1) U^(1/a). */
static double gamma_draw(double alpha, struct span text, uint64_t *draw)
{
    double boost = 1;
    if (alpha < 1) {
        boost = pow(uniform("split-gamma", text, (*draw)++), 1 / alpha);
        alpha += 1;
    }
    double d = alpha - 1.0 / 3;
    double c = 1 / sqrt(9 * d);
    for (int tries = 0; tries < 1000; tries++) {
        double x = normal(text, draw);
        double v = (1 + c * x) * (1 + c * x) * (1 + c * x);
        double u = uniform("split-gamma", text, (*draw)++);
        if (v > 0 && log(u) < x * x / 2 + d - d * v + d * log(v)) {
            return d * v * boost;
        }
    }
    return d * boost; /* 1,000 refusals do not happen; its mean then */
}

static enum err label_of(struct split *s, struct span text, const struct label **ret,
                         struct err_info *reterr)
{
    for (size_t i = 0; i < s->label_count; i++) {
        if (span_is(text, s->labels[i].text)) {
            *ret = &s->labels[i];
            return E_OK;
        }
    }
    if (s->label_count == LABELS_MAX) {
        return proto_err_set(reterr, E_LIMIT, "the column has more than %d values", LABELS_MAX);
    }
    struct label *label = &s->labels[s->label_count];
    label->text = proto_alloc(text.len + 1, 1);
    if (!label->text) {
        return E_NO_MEMORY;
    }
    memcpy(label->text, text.ptr, text.len);
    s->label_count++;
    uint64_t draw = 0;
    double sum = 0;
    for (size_t i = 0; i < s->box->count; i++) {
        sum += gamma_draw(s->alpha, text, &draw);
        label->upto[i] = sum;
    }
    for (size_t i = 0; i < s->box->count; i++) {
        label->upto[i] = sum > 0 ? label->upto[i] / sum : (double)(i + 1) / (double)s->box->count;
    }
    *ret = label;
    return E_OK;
}

static enum err choose(struct split *s, size_t *ret, struct err_info *reterr)
{
    double at = uniform("split-row", SPAN_NONE, s->row);
    if (s->column < 0) {
        *ret = (size_t)(at * (double)s->box->count);
        return E_OK;
    }
    const struct label *label = NULL;
    struct span text = field(buf_span(&s->line), s->column);
    enum err err = label_of(s, text.ptr ? text : span_str(""), &label, reterr);
    size_t i = 0;
    while (!err && i + 1 < s->box->count && at > label->upto[i]) {
        i++;
    }
    *ret = i;
    return err;
}

/* --- files ---------------------------------------------------------------------------------------- */

static enum err write_row(struct split *s, size_t i, struct err_info *reterr)
{
    if (fwrite(s->line.ptr, 1, s->line.len, s->to[i]) != s->line.len) {
        return proto_err_set(reterr, errno == ENOSPC ? E_DISK_FULL : E_IO, "%s.csv: %s",
                             s->box->names[i], strerror(errno));
    }
    return E_OK;
}

/* Nothing is written over the file that is read. */
static enum err check_source(const struct split *s, struct err_info *reterr)
{
    struct stat from, to;
    for (size_t i = 0; i < s->box->count; i++) {
        char path[HOME_PATH_MAX];
        enum err err = sandbox_part(s->box, i, path, reterr);
        if (err) {
            return err;
        }
        if (fstat(fileno(s->from), &from) == 0 && stat(path, &to) == 0 &&
            from.st_dev == to.st_dev && from.st_ino == to.st_ino) {
            return proto_err_set(reterr, E_USAGE, "%s would be written over while it is read",
                                 path);
        }
    }
    return E_OK;
}

static enum err open_parts(struct split *s, struct err_info *reterr)
{
    for (size_t i = 0; i < s->box->count; i++) {
        char path[HOME_PATH_MAX];
        enum err err = sandbox_part(s->box, i, path, reterr);
        if (!err) {
            s->to[i] = fopen(path, "we");
            err = s->to[i] ? write_row(s, i, reterr)
                           : proto_err_set(reterr, E_IO, "%s: %s", path, strerror(errno));
        }
        if (err) {
            return err;
        }
    }
    return E_OK;
}

static enum err copy_rows(struct split *s, struct err_info *reterr)
{
    for (;;) {
        enum err err = next_row(s, reterr);
        if (err) {
            return err == E_NOT_FOUND ? E_OK : err;
        }
        if (is_blank(buf_span(&s->line))) {
            continue;
        }
        size_t i = 0;
        s->row++;
        err = choose(s, &i, reterr);
        if (!err) {
            err = write_row(s, i, reterr);
        }
        if (err) {
            return err;
        }
        s->rows[i]++;
    }
}

static enum err close_parts(struct split *s, enum err err, struct err_info *reterr)
{
    for (size_t i = 0; i < s->box->count; i++) {
        if (s->to[i] && fclose(s->to[i]) != 0 && !err) {
            err = proto_err_set(reterr, E_IO, "%s.csv: %s", s->box->names[i], strerror(errno));
        }
    }
    return err;
}

static json_t *view(const struct split *s, const char *file)
{
    json_t *parts = json_array();
    for (size_t i = 0; i < s->box->count; i++) {
        char path[HOME_PATH_MAX];
        if (!sandbox_part(s->box, i, path, NULL)) {
            json_array_append_new(parts, json_pack("{s:s, s:s, s:I}", "node", s->box->names[i],
                                                   "file", path, "rows", (json_int_t)s->rows[i]));
        }
    }
    return json_pack("{s:s, s:I, s:o}", "file", file, "rows", (json_int_t)s->row, "parts", parts);
}

static enum err run(struct split *s, const char *file, const char *by, struct err_info *reterr)
{
    s->from = fopen(file, "re");
    if (!s->from) {
        return proto_err_set(reterr, errno == ENOENT ? E_NOT_FOUND : E_IO, "%s: %s", file,
                             strerror(errno));
    }
    enum err err = next_row(s, reterr);
    if (err == E_NOT_FOUND) {
        err =
            proto_err_set(reterr, E_INVALID, "%s is empty; its first line names the columns", file);
    }
    if (!err && by && strncmp(by, "label:", 6) == 0) {
        err = find_column(s, by + 6, reterr);
    }
    err = err ? err : check_source(s, reterr);
    err = err ? err : sandbox_parts_free(s->box, reterr);
    if (!err) {
        err = open_parts(s, reterr);
    }
    if (!err) {
        err = copy_rows(s, reterr);
    }
    fclose(s->from);
    size_t begun = 0;
    while (begun < s->box->count && s->to[begun]) {
        begun++;
    }
    err = close_parts(s, err, reterr);
    enum err noted = begun ? sandbox_parts_note(s->box, begun, err ? NULL : reterr) : E_OK;
    return err ? err : noted;
}

enum err cli_sandbox_split(struct cli_call *call, json_t **ret, int *ret_exit,
                           struct err_info *reterr)
{
    (void)ret_exit;
    struct sandbox box;
    const char *by = cli_text(call, "--by");
    struct split *s = proto_alloc(1, sizeof *s);
    if (!s) {
        return E_NO_MEMORY;
    }
    *s = (struct split){.box = &box,
                        .column = -1,
                        .alpha = cli_number(call, "--alpha", 0.5),
                        .line = {.max = ROW_MAX}};
    enum err err = crypto_init(reterr);
    if (!err && by && strcmp(by, "hash") != 0 && strncmp(by, "label:", 6) != 0) {
        err = proto_err_set(reterr, E_USAGE, "--by takes hash or label:COLUMN");
    }
    if (!err && (s->alpha < 0.001 || s->alpha > 1e6)) {
        err = proto_err_set(reterr, E_USAGE, "--alpha takes a number from 0.001 to 1000000");
    }
    if (!err) {
        err = sandbox_open(cli_text(call, "--into"), &box, reterr);
    }
    if (!err) {
        err = run(s, cli_text(call, "FILE"), by, reterr);
    }
    if (!err) {
        *ret = view(s, cli_text(call, "FILE"));
    }
    for (size_t i = 0; i < s->label_count; i++) {
        proto_free(s->labels[i].text);
    }
    buf_fini(&s->line);
    proto_free(s);
    return err;
}
