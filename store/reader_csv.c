#include "config.h"
#include "store/reader_csv.h"

#include "crypto/memory.h"
#include "proto/alloc.h"
#include "proto/codec.h"
#include "store/lines.h"

#include <csv.h>

#define GROW_STEP 1024

struct reader {
    struct store_source base;
    struct csv_parser parser;
    bool parser_open;
    char delimiter;
    struct store_lines lines;
    bool finished;
    uint64_t row_line; /* where the current row started */
    bool after_cr;     /* the last byte was CR: an LF that follows belongs to it */
    /* The current row. Text moves while it grows, so fields hold offsets until the row ends. */
    char *text;
    size_t text_len;
    size_t text_cap;
    struct store_field *fields;
    size_t *starts;
    size_t count;
    size_t cap;
    bool row_done;
    bool too_many; /* columns */
    const char *fault;
    enum err broken; /* set by callbacks, which cannot return */
    struct store_field *header;
    char *header_text;
};

/* libcsv grows its field buffer through this; a longer field than the limit fails there. */
static void *grow_field(void *old, size_t size)
{
    return size > STORE_CSV_FIELD_MAX + 2 * GROW_STEP ? NULL : proto_realloc(old, size, 1);
}

static int no_space(unsigned char c)
{
    (void)c;
    return 0;
}

static enum err open_parser(struct reader *reader)
{
    if (csv_init(&reader->parser, CSV_STRICT | CSV_STRICT_FINI) != 0) {
        return E_NO_MEMORY;
    }
    csv_set_realloc_func(&reader->parser, grow_field);
    csv_set_free_func(&reader->parser, proto_free);
    csv_set_space_func(&reader->parser, no_space);
    csv_set_delim(&reader->parser, (unsigned char)reader->delimiter);
    csv_set_blk_size(&reader->parser, GROW_STEP);
    reader->parser_open = true;
    return E_OK;
}

static enum err grow_row(struct reader *reader, size_t more)
{
    size_t need = reader->text_len + more + 1;
    if (need > STORE_CSV_ROW_MAX || reader->count >= STORE_CSV_COLUMNS_MAX) {
        reader->too_many = reader->count >= STORE_CSV_COLUMNS_MAX;
        return E_LIMIT;
    }
    if (need > reader->text_cap) {
        size_t cap = need * 2 < 4096 ? 4096 : need * 2;
        char *text = proto_realloc(reader->text, cap, 1);
        if (!text) {
            return E_NO_MEMORY;
        }
        reader->text = text;
        reader->text_cap = cap;
    }
    if (reader->count == reader->cap) {
        size_t cap = reader->cap ? reader->cap * 2 : 32;
        size_t *starts = proto_realloc(reader->starts, cap + 1, sizeof *starts);
        if (!starts) {
            return E_NO_MEMORY;
        }
        reader->starts = starts;
        struct store_field *fields = proto_realloc(reader->fields, cap, sizeof *fields);
        if (!fields) {
            return E_NO_MEMORY;
        }
        reader->fields = fields;
        reader->cap = cap;
    }
    return E_OK;
}

static void on_field(void *text, size_t len, void *user)
{
    struct reader *reader = user;
    if (reader->broken) {
        return;
    }
    if (len > STORE_CSV_FIELD_MAX) {
        reader->broken = E_LIMIT;
        return;
    }
    reader->broken = grow_row(reader, len);
    if (reader->broken) {
        return;
    }
    if (len && memchr(text, 0, len)) {
        reader->fault = "holds a zero byte";
    } else if (!proto_utf8_valid(span_of(text, len))) {
        reader->fault = "is not valid UTF-8";
    }
    reader->starts[reader->count++] = reader->text_len;
    if (len) {
        memcpy(reader->text + reader->text_len, text, len);
    }
    reader->text_len += len;
    reader->text[reader->text_len++] = '\0';
}

static void on_row(int terminator, void *user)
{
    (void)terminator;
    ((struct reader *)user)->row_done = true;
}

/* --- bytes --------------------------------------------------------------------------------- */

static enum err fill(struct reader *reader, struct err_info *reterr)
{
    if (reader->lines.left) {
        return E_OK; /* asked for each row */
    }
    enum err err = store_lines_fill(&reader->lines, reterr);
    store_lines_tell(&reader->lines, &reader->base);
    return err;
}

/* The next piece, which ends behind a line end at the latest: so at most one row ends in it, and
 * lines can be counted beside libcsv, which does not. */
static size_t piece(const struct reader *reader)
{
    const uint8_t *lf = memchr(reader->lines.at, '\n', reader->lines.left);
    size_t len = lf ? (size_t)(lf - reader->lines.at) + 1 : reader->lines.left;
    const uint8_t *cr = memchr(reader->lines.at, '\r', len);
    return cr ? (size_t)(cr - reader->lines.at) + 1 : len;
}

static void consume(struct reader *reader, size_t len)
{
    uint8_t end = reader->lines.at[len - 1];
    if (end == '\r' || (end == '\n' && !(reader->after_cr && len == 1))) {
        reader->lines.line++;
    }
    reader->after_cr = end == '\r';
    reader->lines.at += len;
    reader->lines.left -= len;
}

static void begin_row(struct reader *reader)
{
    reader->text_len = 0;
    reader->count = 0;
    reader->row_done = false;
    reader->fault = NULL;
}

static enum err line_error(struct reader *reader, enum err err, struct err_info *reterr)
{
    if (err == E_LIMIT && reader->too_many) {
        return proto_err_set(reterr, err, "line %llu: more than %d columns",
                             (unsigned long long)reader->row_line, STORE_CSV_COLUMNS_MAX);
    }
    if (err == E_LIMIT) {
        return proto_err_set(reterr, err,
                             "line %llu: a field or row is too long (an unterminated quote?)",
                             (unsigned long long)reader->row_line);
    }
    return proto_err_set(reterr, err, "line %llu: out of memory",
                         (unsigned long long)reader->row_line);
}

/* After a stray quote: the parser starts afresh on the next line. */
static enum err skip_line(struct reader *reader, struct err_info *reterr)
{
    csv_free(&reader->parser);
    reader->parser_open = false;
    enum err err = open_parser(reader);
    for (bool ended = false; !err && !ended;) {
        err = fill(reader, reterr);
        if (err || reader->lines.left == 0) {
            break;
        }
        size_t len = piece(reader);
        ended = reader->lines.at[len - 1] == '\n' || reader->lines.at[len - 1] == '\r';
        consume(reader, len);
    }
    begin_row(reader);
    reader->fault = "has a quote in the wrong place";
    reader->row_done = true;
    return err;
}

static enum err finish(struct reader *reader, struct err_info *reterr)
{
    reader->finished = true;
    if (csv_fini(&reader->parser, on_field, on_row, reader) != 0) {
        if (csv_error(&reader->parser) != CSV_EPARSE) {
            return line_error(reader, E_NO_MEMORY, reterr);
        }
        reader->fault = "has an unterminated quote";
        reader->row_done = true;
    }
    return reader->broken ? line_error(reader, reader->broken, reterr) : E_OK;
}

static enum err feed(struct reader *reader, struct err_info *reterr)
{
    size_t len = piece(reader);
    if (csv_parse(&reader->parser, reader->lines.at, len, on_field, on_row, reader) == len) {
        consume(reader, len);
        return reader->broken ? line_error(reader, reader->broken, reterr) : E_OK;
    }
    if (csv_error(&reader->parser) == CSV_EPARSE) {
        return skip_line(reader, reterr);
    }
    bool full = csv_get_buffer_size(&reader->parser) > STORE_CSV_FIELD_MAX;
    return line_error(reader, full ? E_LIMIT : E_NO_MEMORY, reterr);
}

/* --- plain rows ------------------------------------------------------------------------------
 * Most rows of most files have no quote. Such a row that lies whole in the block is cut at its commas here, five times faster
 * than libcsv, which gets every other row, and judges each that has anything unusual in it: a quote, a lone CR, a zero byte,
 * bytes that are not UTF-8, a long row, more fields than the header. Both give the same rows (tests/unit/store/test_reader_csv). */

/* Cuts LEN bytes of text in place; false: it is not plain. */
static bool cut_fields(struct reader *reader, size_t len)
{
    char *text = reader->text;
    char *start = text;
    unsigned char all = 0;
    size_t count = 0;
    for (char *at = text;; at++) {
        unsigned char c = at == text + len ? ',' : (unsigned char)*at;
        all |= c;
        if (c > ',' || (c < ',' && c != '"' && c != '\r' && c != 0)) {
            continue;
        }
        if (c != ',' || count == reader->base.header_count) {
            return false;
        }
        reader->fields[count++] = (struct store_field){.text = start, .len = (size_t)(at - start)};
        if (at == text + len) {
            break;
        }
        start = at + 1;
    }
    if (all & 0x80 && !proto_utf8_valid(span_of(text, len))) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        text[reader->fields[i].text - text + (ptrdiff_t)reader->fields[i].len] = '\0';
    }
    reader->count = count;
    return true;
}

/* True: the next row was a plain one, and is done. Rows with another delimiter go through libcsv. */
static bool plain_row(struct reader *reader)
{
    size_t header = reader->base.header_count;
    const uint8_t *end =
        reader->lines.left ? memchr(reader->lines.at, '\n', reader->lines.left) : NULL;
    if (!end || header == 0 || reader->delimiter != ',' || reader->parser.pstate != 0 ||
        reader->cap < header) {
        return false;
    }
    size_t line = (size_t)(end - reader->lines.at);
    size_t len = line && end[-1] == '\r' ? line - 1 : line;
    if (len == 0 || len > STORE_CSV_FIELD_MAX || grow_row(reader, len) != E_OK) {
        return false; /* a blank line is none; a long one may have too long a field */
    }
    memcpy(reader->text, reader->lines.at, len);
    if (!cut_fields(reader, len)) {
        begin_row(reader);
        return false;
    }
    reader->row_line = reader->lines.line++;
    reader->after_cr = false;
    reader->lines.at += line + 1;
    reader->lines.left -= line + 1;
    reader->row_done = true;
    return true;
}

/* Reads until a row is done or the file ends. */
static enum err read_row(struct reader *reader, struct err_info *reterr)
{
    begin_row(reader);
    if (plain_row(reader)) {
        return E_OK;
    }
    reader->row_line = reader->lines.line;
    while (!reader->row_done && !reader->finished) {
        enum err err = fill(reader, reterr);
        if (!err) {
            err = reader->lines.left ? feed(reader, reterr) : finish(reader, reterr);
        }
        if (err) {
            return err;
        }
        bool blank = !reader->row_done && reader->count == 0 &&
                     reader->lines.line != reader->row_line &&
                     reader->parser.pstate == 0; /* between rows */
        if (blank) {
            reader->row_line = reader->lines.line; /* blank lines before the first field */
        }
    }
    for (size_t i = 0; i < reader->count; i++) {
        size_t end = i + 1 < reader->count ? reader->starts[i + 1] : reader->text_len;
        reader->fields[i] = (struct store_field){.text = reader->text + reader->starts[i],
                                                 .len = end - reader->starts[i] - 1};
    }
    return E_OK;
}

static enum err next_row(struct store_source *source, struct store_row *ret,
                         struct err_info *reterr)
{
    struct reader *reader = (struct reader *)source;
    memset(ret, 0, sizeof *ret);
    if (!reader->finished) {
        enum err err = read_row(reader, reterr);
        if (err) {
            return err;
        }
    } else {
        reader->row_done = false;
    }
    if (!reader->row_done) {
        ret->end = true;
        return E_OK;
    }
    if (!reader->fault && reader->count != reader->base.header_count) {
        reader->fault = reader->count < reader->base.header_count
                            ? "has fewer fields than the header"
                            : "has more fields than the header";
    }
    ret->line = reader->row_line;
    ret->fault = reader->fault;
    ret->fields = reader->fields;
    ret->count = reader->count;
    return E_OK;
}

/* --- opening ------------------------------------------------------------------------------- */

static void free_reader(struct store_source *source)
{
    struct reader *reader = (struct reader *)source;
    if (!reader) {
        return;
    }
    if (reader->parser_open) {
        csv_free(&reader->parser);
    }
    store_lines_close(&reader->lines);
    if (reader->text) {
        crypto_wipe(reader->text, reader->text_cap);
    }
    proto_free(reader->text);
    proto_free(reader->fields);
    proto_free(reader->starts);
    proto_free(reader->header);
    proto_free(reader->header_text);
    proto_free(reader);
}

/* Keeps the first row apart, since the row buffers are used again. */
static enum err keep_header(struct reader *reader, struct err_info *reterr)
{
    if (!reader->row_done || reader->fault) {
        return proto_err_set(reterr, E_INVALID, "line %llu: the header line %s",
                             (unsigned long long)(reader->row_done ? reader->row_line : 1),
                             reader->fault ? reader->fault : "is missing");
    }
    reader->header = proto_alloc(reader->count, sizeof *reader->header);
    reader->header_text = proto_alloc(reader->text_len, 1);
    if (!reader->header || !reader->header_text) {
        return proto_err_set(reterr, E_NO_MEMORY, "reading the header");
    }
    memcpy(reader->header_text, reader->text, reader->text_len);
    for (size_t i = 0; i < reader->count; i++) {
        reader->header[i] = (struct store_field){.text = reader->header_text + reader->starts[i],
                                                 .len = reader->fields[i].len};
    }
    reader->base.header = reader->header;
    reader->base.header_count = reader->count;
    return E_OK;
}

/* PATH, or BYTES where it is NULL. */
static enum err open_reader(const char *path, struct span bytes, char delimiter,
                            struct store_source **ret, struct err_info *reterr)
{
    struct reader *reader = proto_alloc(1, sizeof *reader);
    if (!reader) {
        return proto_err_set(reterr, E_NO_MEMORY, "opening the data");
    }
    reader->delimiter = delimiter;
    reader->base.next = next_row;
    reader->base.free = free_reader;
    enum err err = store_lines_open(&reader->lines, path, bytes, reterr);
    store_lines_tell(&reader->lines, &reader->base);
    err = err ? err : open_parser(reader);
    err = err ? err : read_row(reader, reterr);
    err = err ? err : keep_header(reader, reterr);
    if (err) {
        free_reader(&reader->base);
        return err;
    }
    *ret = &reader->base;
    return E_OK;
}

enum err store_reader_csv_bytes(struct span bytes, char delimiter, struct store_source **ret,
                                struct err_info *reterr)
{
    return open_reader(NULL, bytes, delimiter, ret, reterr);
}

enum err store_reader_csv_open(const char *path, char delimiter, struct store_source **ret,
                               struct err_info *reterr)
{
    return open_reader(path, SPAN_NONE, delimiter, ret, reterr);
}
