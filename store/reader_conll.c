#include "config.h"
#include "store/reader_conll.h"

#include "crypto/memory.h"
#include "proto/alloc.h"
#include "proto/codec.h"
#include "store/lines.h"
#include "store/parse.h"

#include <stdio.h>

enum {
    TOKENS,
    TAGS,
    DOCUMENT,
    FIELDS
};

struct value {
    const char *name;
    bool set;
    char text[STORE_CONLL_VALUE_MAX + 1];
};

struct reader {
    struct store_source base;
    struct store_lines lines;
    uint64_t documents;
    bool marked; /* a document's mark was read */
    char document[STORE_CONLL_DOCUMENT_MAX + 1];
    char name[STORE_CONLL_DOCUMENT_MAX + 1]; /* of the row at hand */
    char joined[DOCUMENT][STORE_CONLL_SENTENCE_MAX + 1];
    size_t joined_len[DOCUMENT];
    struct value *values; /* what lines say of their document */
    size_t value_count;
    const char *value_fault; /* NULL, or why one of them cannot be used */
    struct store_field *header;
    struct store_field *fields;
    bool *absent;
};

/* --- what a line says ----------------------------------------------------------------------- */

static bool after(struct span line, const char *prefix, struct span *ret)
{
    size_t len = strlen(prefix);
    if (line.len < len || memcmp(line.ptr, prefix, len) != 0) {
        return false;
    }
    *ret = store_parse_trim(span_of(line.ptr + len, line.len - len));
    return true;
}

static void forget_values(struct reader *reader)
{
    for (size_t i = 0; i < reader->value_count; i++) {
        reader->values[i].set = false;
    }
    reader->value_fault = NULL;
}

/* A line "# NAME = VALUE", where it was asked for. */
static void take_value(struct reader *reader, struct span line)
{
    const uint8_t *equals = memchr(line.ptr, '=', line.len);
    if (!equals) {
        return;
    }
    struct span name = store_parse_trim(span_of(line.ptr + 2, (size_t)(equals - line.ptr) - 2));
    struct span text =
        store_parse_trim(span_of(equals + 1, line.len - (size_t)(equals + 1 - line.ptr)));
    for (size_t i = 0; i < reader->value_count; i++) {
        struct value *value = &reader->values[i];
        if (!span_is(name, value->name)) {
            continue;
        }
        value->set = proto_utf8_valid(text) && span_to_cstr(text, value->text, sizeof value->text);
        reader->absent[FIELDS + i] = false;
        if (!value->set) {
            reader->value_fault = "is in a document of which a line says too much, or no text";
        }
    }
}

/* Whether the line begins a document. Columns behind -DOCSTART- that say nothing ("-X- -X- O") are no ID. */
static bool take_mark(struct reader *reader, struct span line)
{
    struct span id;
    if (!after(line, "-DOCSTART-", &id) && !after(line, "# doc_id =", &id) &&
        !after(line, "# newdoc id =", &id)) {
        return false;
    }
    reader->marked = true;
    reader->documents++;
    forget_values(reader);
    bool says = id.len && id.len <= STORE_CONLL_DOCUMENT_MAX && id.ptr[0] != '-' &&
                !span_is(id, "O") && !memchr(id.ptr, '\t', id.len) && !memchr(id.ptr, 0, id.len);
    if (says) {
        memcpy(reader->document, id.ptr, id.len);
        reader->document[id.len] = '\0';
    } else {
        snprintf(reader->document, sizeof reader->document, "%llu",
                 (unsigned long long)reader->documents);
    }
    return true;
}

static const char *join(struct reader *reader, size_t which, struct span word)
{
    size_t *len = &reader->joined_len[which];
    if (*len + word.len + 1 > STORE_CONLL_SENTENCE_MAX) {
        return "is too long";
    }
    if (*len) {
        reader->joined[which][(*len)++] = ' ';
    }
    memcpy(reader->joined[which] + *len, word.ptr, word.len);
    *len += word.len;
    reader->joined[which][*len] = '\0';
    return NULL;
}

/* First and last column of a line. */
static const char *take_word(struct reader *reader, struct span line)
{
    if (memchr(line.ptr, 0, line.len)) {
        return "holds a zero byte";
    }
    if (!proto_utf8_valid(line)) {
        return "is not valid UTF-8";
    }
    uint8_t separator = memchr(line.ptr, '\t', line.len) ? '\t' : ' ';
    size_t token = 0, tag = line.len;
    while (token < line.len && line.ptr[token] != separator) {
        token++;
    }
    while (tag && line.ptr[tag - 1] != separator) {
        tag--;
    }
    if (token == 0 || tag == 0 || tag == line.len) {
        return "has a line without token or tag";
    }
    if (memchr(line.ptr, ' ', separator == '\t' ? token : 0) ||
        memchr(line.ptr + tag, ' ', line.len - tag)) {
        return "has a token or tag with a blank in it";
    }
    const char *fault = join(reader, TOKENS, span_of(line.ptr, token));
    return fault ? fault : join(reader, TAGS, span_of(line.ptr + tag, line.len - tag));
}

/* Reads up to the end of a sentence. */
static enum err read_sentence(struct reader *reader, struct store_row *row, struct err_info *reterr)
{
    bool any = false;
    for (;;) {
        uint64_t number = reader->lines.line;
        bool too_long, end;
        struct span line;
        enum err err = store_lines_next(&reader->lines, &line, &too_long, &end, reterr);
        if (err) {
            return err;
        }
        line = store_parse_trim(line);
        bool mark = !end && !too_long && !any && take_mark(reader, line);
        bool comment = line.len >= 2 && line.ptr[0] == '#' && line.ptr[1] == ' ' &&
                       !memchr(line.ptr, '\t', line.len);
        if (comment && !mark && !end && !too_long && !any) {
            take_value(reader, line);
        }
        if (end || (line.len == 0 && !too_long)) {
            row->end = end && !any;
            if (end || any) {
                return E_OK;
            }
        } else if (!mark && (!comment || too_long)) {
            row->line = any ? row->line : number;
            const char *fault = too_long ? "is too long" : take_word(reader, line);
            row->fault = row->fault ? row->fault : fault;
            any = true;
        }
    }
}

static enum err next_row(struct store_source *source, struct store_row *ret,
                         struct err_info *reterr)
{
    struct reader *reader = (struct reader *)source;
    memset(ret, 0, sizeof *ret);
    memset(reader->joined_len, 0, sizeof reader->joined_len);
    reader->joined[TOKENS][0] = reader->joined[TAGS][0] = '\0';
    enum err err = read_sentence(reader, ret, reterr);
    store_lines_tell(&reader->lines, &reader->base);
    if (err || ret->end) {
        return err;
    }
    if (reader->marked) {
        memcpy(reader->name, reader->document, sizeof reader->name);
    } else {
        snprintf(reader->name, sizeof reader->name, "line %llu", (unsigned long long)ret->line);
    }
    for (size_t i = 0; i < DOCUMENT; i++) {
        reader->fields[i] =
            (struct store_field){.text = reader->joined[i], .len = reader->joined_len[i]};
    }
    reader->fields[DOCUMENT] =
        (struct store_field){.text = reader->name, .len = strlen(reader->name)};
    for (size_t i = 0; i < reader->value_count; i++) {
        const struct value *value = &reader->values[i];
        const char *text = value->set ? value->text : "";
        reader->fields[FIELDS + i] =
            (struct store_field){.text = text, .len = strlen(text), .null = !value->set};
    }
    if (!ret->fault && (!proto_utf8_valid(span_str(reader->name)))) {
        ret->fault = "is in a document whose name is not valid UTF-8";
    }
    ret->fault = ret->fault ? ret->fault : reader->value_fault;
    ret->fields = reader->fields;
    ret->count = reader->base.header_count;
    return E_OK;
}

/* --- opening ------------------------------------------------------------------------------- */

static void free_reader(struct store_source *source)
{
    struct reader *reader = (struct reader *)source;
    if (reader) {
        store_lines_close(&reader->lines);
        crypto_wipe(reader->values, reader->value_count * sizeof *reader->values);
        proto_free(reader->values);
        proto_free(reader->header);
        proto_free(reader->fields);
        proto_free(reader->absent);
        crypto_wipe(reader, sizeof *reader);
        proto_free(reader);
    }
}

static const char *const own_names[FIELDS] = {"tokens", "tags", "document"};

static bool is_own(const char *name)
{
    bool own = false;
    for (size_t i = 0; i < FIELDS; i++) {
        own = own || strcmp(name, own_names[i]) == 0;
    }
    return own;
}

static enum err take_names(struct reader *reader, const char *const *names, size_t count)
{
    reader->values = proto_alloc(count + 1, sizeof *reader->values);
    reader->header = proto_alloc(FIELDS + count, sizeof *reader->header);
    reader->fields = proto_alloc(FIELDS + count, sizeof *reader->fields);
    reader->absent = proto_alloc(FIELDS + count, sizeof *reader->absent);
    if (!reader->values || !reader->header || !reader->fields || !reader->absent) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_own(names[i])) {
            reader->absent[FIELDS + reader->value_count] = true;
            reader->values[reader->value_count++].name = names[i];
        }
    }
    reader->base.header_count = FIELDS + reader->value_count;
    for (size_t i = 0; i < reader->base.header_count; i++) {
        const char *name = i < FIELDS ? own_names[i] : reader->values[i - FIELDS].name;
        reader->header[i] = (struct store_field){.text = name, .len = strlen(name)};
    }
    reader->base.header = reader->header;
    reader->base.absent = reader->absent;
    return E_OK;
}

/* PATH, or BYTES where it is NULL. */
static enum err open_reader(const char *path, struct span bytes, const char *const *names,
                            size_t count, struct store_source **ret, struct err_info *reterr)
{
    struct reader *reader = proto_alloc(1, sizeof *reader);
    enum err err = reader ? take_names(reader, names, count) : E_NO_MEMORY;
    if (err) {
        free_reader((struct store_source *)reader);
        return proto_err_set(reterr, err, "opening the data");
    }
    reader->base.next = next_row;
    reader->base.free = free_reader;
    reader->lines.max = STORE_CONLL_LINE_MAX;
    return store_lines_source(&reader->lines, path, bytes, &reader->base, ret, reterr);
}

enum err store_reader_conll_bytes(struct span bytes, const char *const *names, size_t count,
                                  struct store_source **ret, struct err_info *reterr)
{
    return open_reader(NULL, bytes, names, count, ret, reterr);
}

enum err store_reader_conll_open(const char *path, const char *const *names, size_t count,
                                 struct store_source **ret, struct err_info *reterr)
{
    return open_reader(path, SPAN_NONE, names, count, ret, reterr);
}
