#include "config.h"
#include "store/json_split.h"

#include "crypto/memory.h"
#include "store/json_text.h"
#include "store/lines.h"

#define DEPTH_MAX 63 /* bits of `kinds`; json_text.h refuses sooner */
#define KEY       "entry"

/*            '{'                "entry": [               '{'
 *   BETWEEN ------> OUTER ---------------> LIST ----------------> ENTRY
 *      ^   '}'        ^       ']'            ^        '}'           |
 *      +--------------+<---------------------+<---------------------+
 *   any fault: LOST, until a line begins with '{', which is BETWEEN again */
enum place {
    BETWEEN,
    OUTER, /* in an object of the file */
    LIST,  /* in its list of entries, between them */
    ENTRY, /* in an entry */
    LOST,
};

struct store_json_split {
    struct store_lines lines;
    bool line_start; /* the next byte is the first of its line */
    enum place place;
    unsigned depth;
    uint64_t kinds; /* bit d: the container at depth d + 1 is an object */
    bool quoted;
    bool escaped;
    uint8_t before; /* the last byte that is no blank and stands in no text */
    bool key;       /* the text at hand is a key of the outer object */
    size_t key_len; /* of what was read of it, at most one more than KEY's */
    char key_text[8];
    bool key_is_entry; /* the last key was KEY */
    uint64_t outer_line;
    uint64_t entry_line;
    struct buf outer;
    struct buf entry;
    bool outer_long;
    bool entry_long;
};

/* --- bytes --------------------------------------------------------------------------------- */

/* Bytes from START up to the present place belong to the object or entry at hand. */
static enum err keep(struct store_json_split *split, const uint8_t *start, enum place place)
{
    struct buf *to = place == ENTRY ? &split->entry : &split->outer;
    bool *too_long = place == ENTRY ? &split->entry_long : &split->outer_long;
    struct span bytes = span_of(start, (size_t)(split->lines.at - start));
    if ((place != OUTER && place != ENTRY) || *too_long || bytes.len == 0) {
        return E_OK;
    }
    if (bytes.len > to->max - to->len) {
        bytes.len = to->max - to->len;
        *too_long = true;
    }
    return buf_put(to, bytes);
}

/* --- pieces --------------------------------------------------------------------------------- */

static void give(const struct store_json_split *split, bool entry, struct store_json_piece *ret)
{
    bool too_long = entry ? split->entry_long : split->outer_long;
    *ret = (struct store_json_piece){
        .entry = entry,
        .too_long = too_long,
        .line = entry ? split->entry_line : split->outer_line,
        .fault = too_long ? "is too long" : NULL,
        .text = buf_span(entry ? &split->entry : &split->outer),
    };
}

static void begin(struct store_json_split *split)
{
    split->place = OUTER;
    split->depth = 0;
    split->kinds = 0;
    split->quoted = split->escaped = split->key = split->key_is_entry = false;
    split->before = 0;
    split->outer_line = split->lines.line;
    split->outer.len = 0;
    split->outer_long = false;
}

static void lose(struct store_json_split *split, const char *fault, struct store_json_piece *ret)
{
    bool inside = split->place == ENTRY;
    *ret = (struct store_json_piece){.entry = inside, .fault = fault};
    ret->line = split->place == BETWEEN ? split->lines.line
                : inside                ? split->entry_line
                                        : split->outer_line;
    split->place = LOST;
}

static bool top_is_object(const struct store_json_split *split)
{
    return split->depth && split->kinds >> (split->depth - 1) & 1;
}

/* Whether a brace may open an object here. At the start of a line it else begins the next object of the file, and the one
 * at hand was cut off. */
static bool may_open(const struct store_json_split *split)
{
    bool in_object = top_is_object(split);
    return split->before == ':' ? in_object
                                : !in_object && (split->before == '[' || split->before == ',');
}

static const char *open_container(struct store_json_split *split, uint8_t c)
{
    if (split->depth == DEPTH_MAX) {
        return "is nested too deeply";
    }
    bool entries = c == '[' && split->depth == 1 && split->place == OUTER && split->key_is_entry &&
                   split->before == ':';
    uint64_t bit = UINT64_C(1) << split->depth;
    split->kinds = c == '{' ? split->kinds | bit : split->kinds & ~bit;
    split->depth++;
    split->place = entries ? LIST : split->place;
    return NULL;
}

/* *RET_DONE: an object or entry ends here. */
static const char *close_container(struct store_json_split *split, uint8_t c, bool *ret_done)
{
    if (split->depth == 0 || top_is_object(split) != (c == '}')) {
        return "is not valid JSON";
    }
    split->depth--;
    *ret_done = split->depth == 0 || (split->place == ENTRY && split->depth == 2);
    return NULL;
}

static void begin_text(struct store_json_split *split)
{
    split->quoted = true;
    split->key = split->place == OUTER && split->depth == 1 &&
                 (split->before == '{' || split->before == ',');
    split->key_len = 0;
}

/* One byte of a text. */
static void take_text(struct store_json_split *split, uint8_t c)
{
    if (split->escaped) {
        split->escaped = false;
    } else if (c == '\\') {
        split->escaped = true;
    } else if (c == '"') {
        split->quoted = false;
        split->before = '"';
        if (split->key) {
            split->key_is_entry =
                split->key_len == strlen(KEY) && memcmp(split->key_text, KEY, split->key_len) == 0;
        }
        return;
    }
    if (split->key && split->key_len <= strlen(KEY)) {
        split->key_text[split->key_len++] = (char)c;
    }
}

/* Most bytes stand in texts and say nothing: on to the next that does. */
static void pass_text(struct store_json_split *split)
{
    const uint8_t *at = split->lines.at;
    const uint8_t *end = at + split->lines.left;
    if (split->key || split->escaped) {
        return;
    }
    while (at < end && *at != '"' && *at != '\\' && *at > '\n') {
        at++;
    }
    split->lines.left = (size_t)(end - at);
    split->lines.at = at;
}

static void eat(struct store_json_split *split)
{
    split->line_start = *split->lines.at == '\n';
    split->lines.line += split->line_start;
    split->lines.at++;
    split->lines.left--;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Up to the first byte of an object. *RET_DONE: something else stands there. */
static void pass_between(struct store_json_split *split, struct store_json_piece *ret,
                         bool *ret_done)
{
    while (split->lines.left && is_blank(*split->lines.at)) {
        eat(split);
    }
    if (split->lines.left && *split->lines.at == '{') {
        begin(split);
    } else if (split->lines.left) {
        lose(split, "is no JSON object", ret);
        *ret_done = true;
    }
}

/* To the next line that begins with a brace. */
static void pass_lost(struct store_json_split *split)
{
    while (split->lines.left && !(split->line_start && *split->lines.at == '{')) {
        const uint8_t *end = memchr(split->lines.at, '\n', split->lines.left);
        size_t len = end ? (size_t)(end - split->lines.at) : split->lines.left - 1;
        split->lines.at += len;
        split->lines.left -= len;
        eat(split);
    }
    if (split->lines.left) {
        begin(split);
    }
}

/* One byte of structure. NULL, or why the object cannot be used; *RET_DONE as above. */
static const char *take_structure(struct store_json_split *split, uint8_t c, bool *ret_done)
{
    const char *fault = NULL;
    switch (c) {
    case '"':
        begin_text(split);
        return NULL;
    case '{':
    case '[':
        fault = open_container(split, c);
        break;
    case '}':
    case ']':
        fault = close_container(split, c, ret_done);
        break;
    case '\0':
        return "holds a zero byte";
    default:
        if (is_blank(c)) {
            return NULL;
        }
    }
    split->before = c;
    return fault;
}

/* Where the byte C of structure moves from the list into an entry or out of it: what follows is kept elsewhere. */
static enum place place_of(const struct store_json_split *split, uint8_t c)
{
    bool between = split->place == LIST && split->depth == 2;
    return between && c == '{' ? ENTRY : between && c == ']' ? OUTER : split->place;
}

static void enter(struct store_json_split *split, enum place place)
{
    if (place == ENTRY && split->place != ENTRY) {
        split->entry.len = 0;
        split->entry_long = false;
        split->entry_line = split->lines.line;
    }
    split->place = place;
}

/* Takes the byte at hand. NULL, or why the object cannot be used. */
static const char *take_byte(struct store_json_split *split, bool *ret_done)
{
    uint8_t c = *split->lines.at;
    const char *fault = NULL;
    if (!split->quoted) {
        fault = take_structure(split, c, ret_done);
    } else if (c == '\n' || c == '\0') {
        fault = c ? "has a text that does not end" : "holds a zero byte";
    } else {
        take_text(split, c);
    }
    eat(split);
    return fault;
}

static bool is_cut_off(const struct store_json_split *split)
{
    return *split->lines.at == '{' && split->line_start && !split->quoted && split->depth &&
           !may_open(split);
}

/* Runs through the block until an object, an entry or a fault is given, or the block ends. */
static enum err scan(struct store_json_split *split, struct store_json_piece *ret, bool *ret_done)
{
    const uint8_t *start = split->lines.at;
    const char *fault = NULL;
    enum err err = E_OK;
    while (split->lines.left && !*ret_done && !fault && !err) {
        if (split->quoted) {
            pass_text(split);
        }
        if (split->lines.left == 0) {
            break;
        }
        if (is_cut_off(split)) {
            lose(split, "ends in the middle", ret);
            split->place = BETWEEN; /* here the next one begins */
            *ret_done = true;
            return E_OK;
        }
        enum place place = split->quoted ? split->place : place_of(split, *split->lines.at);
        if (place != split->place) {
            err = keep(split, start, split->place);
            start = split->lines.at;
            enter(split, place);
        }
        fault = take_byte(split, ret_done);
        if (split->place != place) { /* the list begins behind its bracket */
            err = err ? err : keep(split, start, place);
            start = split->lines.at;
        }
    }
    err = err ? err : keep(split, start, split->place);
    if (fault) {
        lose(split, fault, ret);
        *ret_done = true;
    } else if (*ret_done) {
        bool entry = split->place == ENTRY;
        give(split, entry, ret);
        split->place = entry ? LIST : BETWEEN;
    }
    return err;
}

static void end(struct store_json_split *split, struct store_json_piece *ret)
{
    if (split->place == BETWEEN || split->place == LOST) {
        *ret = (struct store_json_piece){.end = true};
    } else {
        lose(split, "ends in the middle", ret);
    }
}

enum err store_json_split_next(struct store_json_split *split, struct store_json_piece *ret,
                               struct err_info *reterr)
{
    bool done = false;
    enum err err = E_OK;
    memset(ret, 0, sizeof *ret);
    while (!done && !err) {
        err = store_lines_fill(&split->lines, reterr);
        if (err || split->lines.left == 0) {
            if (!err) {
                end(split, ret);
            }
            return err;
        }
        if (split->place == BETWEEN) {
            pass_between(split, ret, &done);
        } else if (split->place == LOST) {
            pass_lost(split);
        } else {
            err = scan(split, ret, &done);
            err = err ? proto_err_set(reterr, err, "line %llu: out of memory",
                                      (unsigned long long)split->lines.line)
                      : E_OK;
        }
    }
    return err;
}

/* --- opening --------------------------------------------------------------------------------- */

/* PATH, or BYTES where it is NULL. */
static enum err open_split(const char *path, struct span bytes, struct store_json_split **ret,
                           struct err_info *reterr)
{
    struct store_json_split *split = proto_alloc(1, sizeof *split);
    if (!split) {
        return proto_err_set(reterr, E_NO_MEMORY, "opening the data");
    }
    enum err err = store_lines_open(&split->lines, path, bytes, reterr);
    if (err) {
        proto_free(split);
        return err;
    }
    split->line_start = true;
    split->outer.max = split->entry.max = STORE_JSON_TEXT_MAX;
    *ret = split;
    return E_OK;
}

enum err store_json_split_bytes(struct span bytes, struct store_json_split **ret,
                                struct err_info *reterr)
{
    return open_split(NULL, bytes, ret, reterr);
}

enum err store_json_split_open(const char *path, struct store_json_split **ret,
                               struct err_info *reterr)
{
    return open_split(path, SPAN_NONE, ret, reterr);
}

void store_json_split_tell(const struct store_json_split *split, struct store_source *source)
{
    store_lines_tell(&split->lines, source);
}

void store_json_split_close(struct store_json_split *split)
{
    if (split) {
        store_lines_close(&split->lines);
        crypto_buf_fini(&split->outer);
        crypto_buf_fini(&split->entry);
        proto_free(split);
    }
}
