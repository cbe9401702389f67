#include "config.h"
#include "node/config/bind.h"
#include "proto/nearest.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "node/config/yaml.h"
#include "proto/codec.h"
#include "proto/time.h"

struct reader {
    yaml_document_t document;
    const char *name;
    struct arena *arena;
    struct err_info *info;
};

static enum err refuse_at(struct reader *reader, const yaml_mark_t *mark, enum err err,
                          const char *format, ...) PRINTF_LIKE(4, 5);
static enum err refuse_at(struct reader *reader, const yaml_mark_t *mark, enum err err,
                          const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return proto_err_set(reader->info, err, "%.200s:%zu:%zu: %s", reader->name, mark->line + 1,
                         mark->column + 1, text);
}

#define refuse(reader, node, ...) refuse_at(reader, &(node)->start_mark, E_INVALID, __VA_ARGS__)

static yaml_node_t *at(struct reader *reader, int index)
{
    return yaml_document_get_node(&reader->document, index);
}

static const char *scalar(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : NULL;
}

/* ---- before loading: what a document may consist of ----------------------------------------
 * libyaml's loader resolves aliases itself and recurses, so a first pass over the events refuses
 * aliases, anchors, tags, depth and size before a document is built. */

static const char *event_fault(const yaml_event_t *event, int *depth, int *nodes)
{
    const yaml_char_t *anchor = NULL;
    const yaml_char_t *tag = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return "aliases are not allowed";
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        ++*nodes;
        if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length) {
            return "a zero byte is not allowed";
        }
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        ++*depth, ++*nodes;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        ++*depth, ++*nodes;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        --*depth;
        break;
    default:
        break;
    }
    if (anchor || tag) {
        return anchor ? "anchors are not allowed" : "tags are not allowed";
    }
    if (*depth > CONFIG_YAML_DEPTH_MAX) {
        return "nested too deep";
    }
    return *nodes > CONFIG_YAML_NODES_MAX ? "too many entries" : NULL;
}

static enum err parser_fault(struct reader *reader, const yaml_parser_t *parser)
{
    yaml_mark_t mark = parser->problem_mark;
    if (parser->error == YAML_MEMORY_ERROR) {
        return refuse_at(reader, &mark, E_NO_MEMORY, "no memory to read it");
    }
    if (parser->error == YAML_READER_ERROR) {
        mark =
            parser->mark; /* the reader knows offsets only: this is the line that it had reached */
    }
    return refuse_at(reader, &mark, E_INVALID, "not YAML: %s",
                     parser->problem ? parser->problem : "unreadable");
}

static enum err prescan(struct reader *reader, struct span bytes)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        return E_NO_MEMORY;
    }
    yaml_parser_set_input_string(&parser, bytes.ptr, bytes.len);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    int depth = 0, nodes = 0, documents = 0;
    enum err err = E_OK;
    bool done = false;
    while (!err && !done) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            err = parser_fault(reader, &parser);
            break;
        }
        documents += event.type == YAML_DOCUMENT_START_EVENT;
        const char *fault = documents > 1 ? "a second document is not allowed"
                                          : event_fault(&event, &depth, &nodes);
        if (fault) {
            err = refuse_at(reader, &event.start_mark, E_INVALID, "%s", fault);
        }
        done = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return err;
}

/* ---- scalars ------------------------------------------------------------------------------- */

static void *member(void *object, size_t offset)
{
    return (char *)object + offset;
}

/* Printable: texts of ours end in errors, tables and records. */
static bool printable(const char *text)
{
    for (; *text; text++) {
        if (((unsigned char)*text < 0x20 && *text != '\n' && *text != '\t') || *text == 0x7f) {
            return false;
        }
    }
    return true;
}

static enum err keep(struct reader *reader, const yaml_node_t *node, const struct config_row *row,
                     const char **ret)
{
    const char *text = scalar(node);
    if (!text) {
        return refuse(reader, node, "%s: must be a text", row->name);
    }
    if (!printable(text)) {
        return refuse(reader, node, "%s: control characters are not allowed", row->name);
    }
    size_t len = strlen(text);
    if ((double)len < row->min || (double)len > row->max) {
        return refuse(reader, node, "%s: must be %.0f to %.0f bytes long", row->name, row->min,
                      row->max);
    }
    *ret = arena_strdup(reader->arena, span_str(text));
    return *ret ? E_OK
                : proto_err_set(reader->info, E_NO_MEMORY, "no memory to read %s", reader->name);
}

static enum err read_chars(struct reader *reader, const yaml_node_t *node,
                           const struct config_row *row, char *to)
{
    const char *text = scalar(node);
    if (!text) {
        return refuse(reader, node, "%s: must be a text", row->name);
    }
    if (strlen(text) >= (size_t)row->max || !printable(text)) {
        return refuse(reader, node, "%s: must be at most %.0f bytes without control characters",
                      row->name, row->max - 1);
    }
    memcpy(to, text, strlen(text) + 1);
    return E_OK;
}

static enum err read_texts(struct reader *reader, const yaml_node_t *node,
                           const struct config_row *row, void *object)
{
    bool list = node->type == YAML_SEQUENCE_NODE;
    size_t count =
        list ? (size_t)(node->data.sequence.items.top - node->data.sequence.items.start) : 1;
    if (node->type == YAML_MAPPING_NODE) {
        return refuse(reader, node, "%s: must be a list of texts", row->name);
    }
    const char **items = arena_alloc(reader->arena, count + 1, sizeof *items);
    if (!items) {
        return proto_err_set(reader->info, E_NO_MEMORY, "no memory to read %s", reader->name);
    }
    for (size_t i = 0; i < count; i++) {
        const yaml_node_t *item = list ? at(reader, node->data.sequence.items.start[i]) : node;
        enum err err = keep(reader, item, row, &items[i]);
        if (err) {
            return err;
        }
    }
    *(const char ***)member(object, row->offset) = items;
    *(size_t *)member(object, row->count_offset) = count;
    return E_OK;
}

static enum err read_integer(struct reader *reader, const yaml_node_t *node,
                             const struct config_row *row, void *object)
{
    const char *text = scalar(node);
    char *end = NULL;
    errno = 0;
    unsigned long long value =
        text && isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (!end || *end || errno) {
        return refuse(reader, node, "%s: must be a whole number", row->name);
    }
    if ((double)value < row->min || (double)value > row->max) {
        return refuse(reader, node, "%s: must be %.0f to %.0f", row->name, row->min, row->max);
    }
    if (row->type == CONFIG_U32) {
        *(uint32_t *)member(object, row->offset) = (uint32_t)value;
    } else {
        *(uint64_t *)member(object, row->offset) = value;
    }
    return E_OK;
}

static enum err read_number(struct reader *reader, const yaml_node_t *node,
                            const struct config_row *row, double *to)
{
    const char *text = scalar(node);
    char *end = NULL;
    /* strtod also takes hexadecimal, inf and nan; a person who writes these made a slip. */
    bool plain = text && text[0] && strspn(text, "0123456789+-.eE") == strlen(text);
    double value = plain ? strtod(text, &end) : 0;
    if (!plain || end == text || *end || !isfinite(value)) {
        return refuse(reader, node, "%s: must be a number", row->name);
    }
    if (row->min < row->max && (value < row->min || value > row->max)) {
        return refuse(reader, node, "%s: must be %g to %g", row->name, row->min, row->max);
    }
    *to = value;
    return E_OK;
}

static enum err read_bool(struct reader *reader, const yaml_node_t *node,
                          const struct config_row *row, bool *to)
{
    const char *text = scalar(node);
    if (!text || (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)) {
        return refuse(reader, node, "%s: must be true or false", row->name);
    }
    *to = text[0] == 't';
    return E_OK;
}

static enum err find_name(struct reader *reader, const yaml_node_t *node,
                          const struct config_row *row, unsigned *ret)
{
    const char *text = scalar(node);
    unsigned count = 0;
    for (; row->names[count]; count++) {
        if (text && strcmp(row->names[count], text) == 0) {
            *ret = count;
            return E_OK;
        }
    }
    char list[240] = "";
    for (unsigned i = 0; i < count; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", row->names[i]);
    }
    return refuse(reader, node, "%s: must be one of %s", row->name, list);
}

static enum err read_flags(struct reader *reader, const yaml_node_t *node,
                           const struct config_row *row, unsigned *to)
{
    if (node->type != YAML_SEQUENCE_NODE) {
        return refuse(reader, node, "%s: must be a list", row->name);
    }
    for (const int *item = node->data.sequence.items.start; item < node->data.sequence.items.top;
         item++) {
        unsigned index = 0;
        enum err err = find_name(reader, at(reader, *item), row, &index);
        if (err) {
            return err;
        }
        *to |= 1u << index;
    }
    return E_OK;
}

static enum err read_time(struct reader *reader, const yaml_node_t *node,
                          const struct config_row *row, int64_t *to)
{
    const char *text = scalar(node);
    if (!text || !proto_time_parse(text, to)) {
        return refuse(reader, node, "%s: must be YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ", row->name);
    }
    int32_t day;
    if (row->type == CONFIG_TIME_FROM && proto_time_parse_date(text, &day)) {
        *to = (int64_t)day * 86400;
    }
    return E_OK;
}

static enum err read_duration(struct reader *reader, const yaml_node_t *node,
                              const struct config_row *row, uint64_t *to)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    const char *text = scalar(node);
    size_t digits = text ? strspn(text, "0123456789") : 0;
    for (size_t i = 0; i < sizeof units / sizeof *units && digits > 0 && digits < 12; i++) {
        if (strcmp(text + digits, units[i].unit) == 0) {
            uint64_t ms = strtoull(text, NULL, 10) * units[i].ms;
            if ((double)ms < row->min || (double)ms > row->max) {
                break;
            }
            *to = ms;
            return E_OK;
        }
    }
    return refuse(reader, node,
                  "%s: must be a duration such as 500ms, 30s, 10m, 2h, from %.0fms to %.0fh",
                  row->name, row->min, row->max / 3600000);
}

/* ---- maps and lists ------------------------------------------------------------------------ */

static enum err read_map(struct reader *reader, const yaml_node_t *node,
                         const struct config_row *rows, const char *what, void *object);

static enum err read_list(struct reader *reader, const yaml_node_t *node,
                          const struct config_row *row, void *object)
{
    if (node->type != YAML_SEQUENCE_NODE) {
        return refuse(reader, node, "%s: must be a list", row->name);
    }
    const int *start = node->data.sequence.items.start;
    size_t count = (size_t)(node->data.sequence.items.top - start);
    if ((double)count < row->min || (double)count > row->max) {
        return refuse(reader, node, "%s: must have %.0f to %.0f entries", row->name, row->min,
                      row->max);
    }
    char *items = arena_alloc(reader->arena, count + 1, row->element_size);
    if (!items) {
        return proto_err_set(reader->info, E_NO_MEMORY, "no memory to read %s", reader->name);
    }
    for (size_t i = 0; i < count; i++) {
        void *element = items + i * row->element_size;
        if (row->defaults) {
            row->defaults(element);
        }
        enum err err = read_map(reader, at(reader, start[i]), row->rows, row->name, element);
        if (err) {
            return err;
        }
    }
    *(void **)member(object, row->offset) = items;
    *(size_t *)member(object, row->count_offset) = count;
    return E_OK;
}

static enum err read_custom(struct reader *reader, const yaml_node_t *node,
                            const struct config_row *row, void *object)
{
    const char *text = scalar(node);
    if (!text && row->or_texts) {
        return read_texts(reader, node, row, object);
    }
    const char *why = text ? row->custom(object, text, reader->arena) : "must be a text";
    return why ? refuse(reader, node, "%s: %s", row->name, why) : E_OK;
}

static enum err read_row(struct reader *reader, const yaml_node_t *node,
                         const struct config_row *row, void *object)
{
    void *to = member(object, row->offset);
    unsigned index = 0;
    enum err err;
    switch (row->type) {
    case CONFIG_CHARS:
        return read_chars(reader, node, row, to);
    case CONFIG_TEXT:
        return keep(reader, node, row, to);
    case CONFIG_TEXTS:
        return read_texts(reader, node, row, object);
    case CONFIG_U64:
    case CONFIG_U32:
        return read_integer(reader, node, row, object);
    case CONFIG_NUMBER:
        return read_number(reader, node, row, to);
    case CONFIG_BOOL:
        return read_bool(reader, node, row, to);
    case CONFIG_ENUM:
        err = find_name(reader, node, row, &index);
        *(unsigned *)to = err ? *(unsigned *)to : index;
        return err;
    case CONFIG_FLAGS:
        return read_flags(reader, node, row, to);
    case CONFIG_TIME:
    case CONFIG_TIME_FROM:
        return read_time(reader, node, row, to);
    case CONFIG_DURATION:
        return read_duration(reader, node, row, to);
    case CONFIG_MAP:
        return read_map(reader, node, row->rows, row->name, to);
    case CONFIG_LIST:
        return read_list(reader, node, row, object);
    case CONFIG_CUSTOM:
        return read_custom(reader, node, row, object);
    }
    return E_INTERNAL;
}

#define ROWS_MAX 48

static enum err unknown_key(struct reader *reader, const yaml_node_t *key,
                            const struct config_row *rows)
{
    const char *names[ROWS_MAX];
    size_t count = 0;
    for (; rows[count].name && count < ROWS_MAX; count++) {
        names[count] = rows[count].name;
    }
    const char *near = proto_suggest(names, count, scalar(key));
    return refuse(reader, key, "unknown key '%.60s'%s%s%s", scalar(key),
                  near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static enum err read_pair(struct reader *reader, const yaml_node_pair_t *pair,
                          const struct config_row *rows, bool *seen, void *object)
{
    const yaml_node_t *key = at(reader, pair->key);
    if (!scalar(key)) {
        return refuse(reader, key, "a key must be a plain word");
    }
    for (size_t i = 0; rows[i].name; i++) {
        if (strcmp(rows[i].name, scalar(key)) != 0) {
            continue;
        }
        if (seen[i]) {
            return refuse(reader, key, "the key '%s' stands there twice", rows[i].name);
        }
        seen[i] = true;
        if (rows[i].present) {
            *(bool *)member(object, rows[i].present) = true;
        }
        return read_row(reader, at(reader, pair->value), &rows[i], object);
    }
    return unknown_key(reader, key, rows);
}

/* Recursion follows the tables, never the input: a table cannot contain itself. */
static enum err read_map(struct reader *reader, const yaml_node_t *node,
                         const struct config_row *rows, const char *what, void *object)
{
    bool seen[ROWS_MAX] = {false};
    if (node->type != YAML_MAPPING_NODE) {
        return refuse(reader, node, "%s: must be keys with values", what);
    }
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        enum err err = read_pair(reader, pair, rows, seen, object);
        if (err) {
            return err;
        }
    }
    for (size_t i = 0; rows[i].name; i++) {
        if (rows[i].required && !seen[i]) {
            return refuse(reader, node, "the key '%s' is missing", rows[i].name);
        }
    }
    return E_OK;
}

/* ---- the check's path back to a place in the file ------------------------------------------ */

static const yaml_node_t *step_key(struct reader *reader, const yaml_node_t *node, const char *key,
                                   size_t len)
{
    if (node->type != YAML_MAPPING_NODE) {
        return NULL;
    }
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        const char *name = scalar(at(reader, pair->key));
        if (name && strlen(name) == len && memcmp(name, key, len) == 0) {
            return at(reader, pair->value);
        }
    }
    return NULL;
}

/* The node that PATH names, or the nearest one above it: "columns[2].min" falls back to columns[2]
 * when min is absent. */
static const yaml_node_t *locate(struct reader *reader, const char *path)
{
    const yaml_node_t *node = yaml_document_get_root_node(&reader->document);
    while (*path && *path != ':') {
        const yaml_node_t *next = NULL;
        if (*path == '[') {
            char *end;
            unsigned long index = strtoul(path + 1, &end, 10);
            if (node->type == YAML_SEQUENCE_NODE &&
                index < (size_t)(node->data.sequence.items.top - node->data.sequence.items.start)) {
                next = at(reader, node->data.sequence.items.start[index]);
            }
            path = *end == ']' ? end + 1 : end;
        } else {
            size_t len = strcspn(path, ".[:");
            next = step_key(reader, node, path, len);
            path += len;
        }
        path += *path == '.';
        if (!next) {
            break;
        }
        node = next;
    }
    return node;
}

static enum err check_object(struct reader *reader, config_check *check, void *object)
{
    struct err_info why = {0};
    enum err err = check(object, &why);
    if (!err || err == E_NO_MEMORY) {
        return err;
    }
    const yaml_node_t *node = locate(reader, why.text);
    return refuse_at(reader, &node->start_mark, err, "%s", why.text);
}

/* Loads what passed the first pass; the caller deletes reader->document. */
static enum err load(struct reader *reader, struct span bytes)
{
    yaml_mark_t start = {0};
    if (bytes.len > CONFIG_YAML_BYTES_MAX) {
        return refuse_at(reader, &start, E_LIMIT, "the file is larger than %zu bytes",
                         CONFIG_YAML_BYTES_MAX);
    }
    enum err err = prescan(reader, bytes);
    if (err) {
        return err;
    }
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        return proto_err_set(reader->info, E_NO_MEMORY, "no memory to read %s", reader->name);
    }
    yaml_parser_set_input_string(&parser, bytes.ptr, bytes.len);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    if (!yaml_parser_load(&parser, &reader->document)) {
        err = parser_fault(reader, &parser);
    } else if (!yaml_document_get_root_node(&reader->document)) {
        err = refuse_at(reader, &start, E_INVALID, "the file is empty");
        yaml_document_delete(&reader->document);
    }
    yaml_parser_delete(&parser);
    return err;
}

enum err config_bind(struct span bytes, const char *name, const struct config_row *rows,
                     void *object, struct arena *arena, config_check *check,
                     struct err_info *reterr)
{
    struct reader reader = {.name = name, .arena = arena, .info = reterr};
    enum err err = load(&reader, bytes);
    if (!err) {
        const yaml_node_t *root = yaml_document_get_root_node(&reader.document);
        err = read_map(&reader, root, rows, "the file", object);
        err = err || !check ? err : check_object(&reader, check, object);
        yaml_document_delete(&reader.document);
    }
    return err;
}

/* ---- as JSON ------------------------------------------------------------------------------- */

static enum err put_string(struct buf *out, const yaml_node_t *node)
{
    struct span text = node->type == YAML_SCALAR_NODE
                           ? span_of(node->data.scalar.value, node->data.scalar.length)
                           : SPAN_NONE;
    enum err err = buf_put(out, span_str("\""));
    for (size_t i = 0; !err && i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c < 0x20 || c == '"' || c == '\\') {
            err = buf_printf(out, "\\u%04x", c);
        } else {
            err = buf_put(out, span_of(&c, 1));
        }
    }
    return err ? err : buf_put(out, span_str("\""));
}

/* Its depth is bounded by the first pass. */
static enum err put_json(struct reader *reader, const yaml_node_t *node, struct buf *out)
{
    enum err err = E_OK;
    if (node->type == YAML_SEQUENCE_NODE) {
        const yaml_node_item_t *items = node->data.sequence.items.start;
        size_t count = (size_t)(node->data.sequence.items.top - items);
        err = buf_put(out, span_str("["));
        for (size_t i = 0; !err && i < count; i++) {
            err = i ? buf_put(out, span_str(",")) : E_OK;
            err = err ? err : put_json(reader, at(reader, items[i]), out);
        }
        return err ? err : buf_put(out, span_str("]"));
    }
    if (node->type == YAML_MAPPING_NODE) {
        const yaml_node_pair_t *pairs = node->data.mapping.pairs.start;
        size_t count = (size_t)(node->data.mapping.pairs.top - pairs);
        err = buf_put(out, span_str("{"));
        for (size_t i = 0; !err && i < count; i++) {
            err = i ? buf_put(out, span_str(",")) : E_OK;
            err = err ? err : put_string(out, at(reader, pairs[i].key));
            err = err ? err : buf_put(out, span_str(":"));
            err = err ? err : put_json(reader, at(reader, pairs[i].value), out);
        }
        return err ? err : buf_put(out, span_str("}"));
    }
    return put_string(out, node);
}

enum err config_yaml_json(struct span bytes, const char *name, struct buf *ret,
                          struct err_info *reterr)
{
    struct reader reader = {.name = name, .info = reterr};
    enum err err = load(&reader, bytes);
    if (!err) {
        err = put_json(&reader, yaml_document_get_root_node(&reader.document), ret);
        yaml_document_delete(&reader.document);
    }
    return err;
}

/* ---- files --------------------------------------------------------------------------------- */

enum err config_read_file(const char *path, struct buf *ret, struct err_info *reterr)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return proto_err_set(reterr, errno == ENOENT ? E_NOT_FOUND : E_IO, "%.200s: %s", path,
                             strerror(errno));
    }
    struct stat status;
    enum err err = E_OK;
    ret->max = CONFIG_YAML_BYTES_MAX + 1;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        err = proto_err_set(reterr, E_IO, "%.200s: not a regular file", path);
    }
    ssize_t n = 1;
    while (!err && n > 0) {
        size_t room = ret->max - ret->len < 65536 ? ret->max - ret->len : 65536;
        err = buf_reserve(ret, room);
        n = err ? 0 : read(fd, ret->ptr + ret->len, room);
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        if (n < 0) {
            err = proto_err_set(reterr, E_IO, "%.200s: %s", path, strerror(errno));
        } else {
            ret->len += (size_t)n;
        }
        if (!err && ret->len > CONFIG_YAML_BYTES_MAX) {
            err = proto_err_set(reterr, E_LIMIT, "%.200s:1:1: the file is larger than %zu bytes",
                                path, CONFIG_YAML_BYTES_MAX);
        }
    }
    close(fd);
    return err;
}
