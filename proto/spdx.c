#include "config.h"
#include "proto/spdx.h"
#include "proto/nearest.h"
#include "proto/spdx_ids.h"

#include <stdio.h>
#include <stdlib.h>

/* --- The lists ---------------------------------------------------------------------------------------------- */

struct entry {
    const char *id;
    bool deprecated;
};
static const struct entry ids[] = {
#define X(id, deprecated) {id, deprecated},
    PROTO_SPDX_IDS(X)
#undef X
};
static const struct entry exceptions[] = {
#define X(id, deprecated) {id, deprecated},
    PROTO_SPDX_EXCEPTIONS(X)
#undef X
};
#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static int compare_entry(const void *key, const void *entry)
{
    const struct span *wanted = key;
    const char *id = ((const struct entry *)entry)->id;
    int order = strncmp((const char *)wanted->ptr, id, wanted->len);
    return order ? order : id[wanted->len] ? -1 : 0;
}

static bool known(const struct entry *table, size_t count, struct span id, bool *ret_deprecated)
{
    const struct entry *hit = id.len && !memchr(id.ptr, 0, id.len)
                                  ? bsearch(&id, table, count, sizeof *table, compare_entry)
                                  : NULL;
    *ret_deprecated = hit && hit->deprecated;
    return hit != NULL;
}

bool proto_spdx_id_known(struct span id, bool *ret_deprecated)
{
    return known(ids, COUNT_OF(ids), id, ret_deprecated);
}

bool proto_spdx_exception_known(struct span id, bool *ret_deprecated)
{
    return known(exceptions, COUNT_OF(exceptions), id, ret_deprecated);
}

const char *proto_spdx_id_at(size_t index)
{
    return index < COUNT_OF(ids) ? ids[index].id : NULL;
}

const char *proto_spdx_exception_at(size_t index)
{
    return index < COUNT_OF(exceptions) ? exceptions[index].id : NULL;
}

const char *proto_spdx_source(void)
{
    return PROTO_SPDX_LIST_SOURCE;
}

/* --- Nearest ------------------------------------------------------------------------------------------------ */

/* What people write for licences whose id is spelled otherwise altogether. */
static const struct {
    const char *written;
    const char *meant;
} habits[] = {
    {"Apache2", "Apache-2.0"},
    {"Apache", "Apache-2.0"},
    {"ASL-2.0", "Apache-2.0"},
    {"BSD", "BSD-3-Clause"},
    {"CC0", "CC0-1.0"},
    {"CC-0", "CC0-1.0"},
    {"CC-BY", "CC-BY-4.0"},
    {"CC-BY-SA", "CC-BY-SA-4.0"},
    {"CC-BY-NC", "CC-BY-NC-4.0"},
    {"CC-BY-ND", "CC-BY-ND-4.0"},
    {"CC-BY-NC-SA", "CC-BY-NC-SA-4.0"},
    {"CC-BY-NC-ND", "CC-BY-NC-ND-4.0"},
    {"GPL", "GPL-3.0-or-later"},
    {"GPLv2", "GPL-2.0-only"},
    {"GPLv2+", "GPL-2.0-or-later"},
    {"GPLv3", "GPL-3.0-only"},
    {"GPLv3+", "GPL-3.0-or-later"},
    {"LGPLv3", "LGPL-3.0-only"},
    {"LGPL", "LGPL-3.0-or-later"},
    {"AGPL", "AGPL-3.0-or-later"},
    {"AGPLv3", "AGPL-3.0-only"},
    {"MPL", "MPL-2.0"},
    {"ODbL", "ODbL-1.0"},
    {"ODC-BY", "ODC-By-1.0"},
    {"PDDL", "PDDL-1.0"},
    {"CDLA-Permissive", "CDLA-Permissive-2.0"},
    {"OGL", "OGL-UK-3.0"},
    {"public-domain", "CC0-1.0"},
    {"Expat", "MIT"},
};

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static size_t shared_prefix(struct span a, const char *b)
{
    size_t n = 0;
    while (n < a.len && b[n] && lower(a.ptr[n]) == lower((uint8_t)b[n])) {
        n++;
    }
    return n;
}

/* By edits, else by the longest common beginning of four letters or more: "CC-BY-4" is no edit away from its id, but
 * "Apache-License-2.0" is too many. */
static struct span nearest_in(const struct entry *table, size_t count, struct span id)
{
    struct proto_nearest nearest = proto_nearest_to(id);
    struct span best = SPAN_NONE;
    size_t longest = 3;
    for (size_t i = 0; i < count; i++) {
        size_t shared = shared_prefix(id, table[i].id);
        if (!table[i].deprecated) {
            proto_nearest_try(&nearest, span_str(table[i].id));
        }
        if (shared > longest && !table[i].deprecated) {
            longest = shared;
            best = span_str(table[i].id);
        }
    }
    return nearest.best.ptr ? nearest.best : best;
}

struct span proto_spdx_id_nearest(struct span id)
{
    for (size_t i = 0; i < COUNT_OF(habits); i++) {
        if (strlen(habits[i].written) == id.len && shared_prefix(id, habits[i].written) == id.len) {
            return span_str(habits[i].meant);
        }
    }
    return nearest_in(ids, COUNT_OF(ids), id);
}

struct span proto_spdx_exception_nearest(struct span id)
{
    return nearest_in(exceptions, COUNT_OF(exceptions), id);
}

/* --- Tokens ------------------------------------------------------------------------------------------------- */

enum token {
    END,
    WORD,
    AND,
    OR,
    WITH,
    OPEN,
    CLOSE,
    PLUS,
    BAD,
};

struct parser {
    struct span text;
    size_t at;    /* after the token */
    size_t start; /* of the token */
    enum token token;
    struct span word;
    bool spaced; /* white space stood before the token */
    struct proto_spdx_expression *out;
    enum token operators[PROTO_SPDX_NODES];
    size_t operator_count;
    size_t depth;
    struct err_info *reterr;
};

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The colon joins DocumentRef and LicenseRef. */
static bool is_word(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == ':';
}

static enum token keyword(struct parser *p)
{
    static const struct {
        const char *capitals;
        const char *letters;
        enum token token;
    } words[] = {{"AND", "and", AND}, {"OR", "or", OR}, {"WITH", "with", WITH}};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        bool low = span_is(p->word, words[i].letters);
        if (low || span_is(p->word, words[i].capitals)) {
            p->out->lower_case |= low;
            return words[i].token;
        }
    }
    return WORD;
}

static void advance(struct parser *p)
{
    p->start = p->at;
    while (p->at < p->text.len && is_space(p->text.ptr[p->at])) {
        p->at++;
    }
    p->spaced = p->at > p->start;
    p->start = p->at;
    if (p->at == p->text.len) {
        p->token = END;
        return;
    }
    uint8_t c = p->text.ptr[p->at];
    if (c == '(' || c == ')' || c == '+') {
        p->token = c == '(' ? OPEN : c == ')' ? CLOSE : PLUS;
        p->at++;
        return;
    }
    while (p->at < p->text.len && is_word(p->text.ptr[p->at])) {
        p->at++;
    }
    p->word = span_of(p->text.ptr + p->start, p->at - p->start);
    p->token = p->word.len ? keyword(p) : BAD;
}

/* --- Faults ------------------------------------------------------------------------------------------------- */

static enum err fault(struct parser *p, const char *what)
{
    return proto_err_set(p->reterr, E_INVALID, "SPDX expression, column %zu: %s", p->start + 1,
                         what);
}

static enum err unknown(struct parser *p, struct span near, const char *list)
{
    size_t shown = p->word.len < 64 ? p->word.len : 64;
    return proto_err_set(
        p->reterr, E_INVALID, "SPDX expression, column %zu: '%.*s' is not on the list of %s%s%.*s",
        p->start + 1, (int)shown, (const char *)p->word.ptr, list,
        near.len ? "; the nearest is " : "", (int)near.len, near.len ? (const char *)near.ptr : "");
}

/* --- Grammar ------------------------------------------------------------------------------------------------ */

static bool starts_with(struct span text, const char *prefix)
{
    size_t n = strlen(prefix);
    return text.len >= n && memcmp(text.ptr, prefix, n) == 0;
}

static bool is_idstring(struct span text)
{
    return text.len > 0 && !memchr(text.ptr, ':', text.len);
}

/* ["DocumentRef-"idstring":"]"LicenseRef-"idstring */
static bool is_reference(struct span word)
{
    if (starts_with(word, "DocumentRef-")) {
        const uint8_t *colon = memchr(word.ptr, ':', word.len);
        size_t n = colon ? (size_t)(colon - word.ptr) : 0;
        if (n <= 12) {
            return false;
        }
        word = span_of(colon + 1, word.len - n - 1);
    }
    return starts_with(word, "LicenseRef-") && is_idstring(span_of(word.ptr + 11, word.len - 11));
}

static enum err push(struct parser *p, struct proto_spdx_node node)
{
    if (p->out->count == PROTO_SPDX_NODES) {
        return proto_err_set(p->reterr, E_LIMIT, "SPDX expression: more than %d parts",
                             PROTO_SPDX_NODES);
    }
    p->out->nodes[p->out->count++] = node;
    return E_OK;
}

static enum err take_exception(struct parser *p, struct proto_spdx_node *node)
{
    bool deprecated;
    advance(p);
    if (p->token != WORD) {
        return fault(p, "an exception id is needed after WITH");
    }
    if (!proto_spdx_exception_known(p->word, &deprecated)) {
        return unknown(p, p->reterr ? proto_spdx_exception_nearest(p->word) : SPAN_NONE,
                       "SPDX exceptions");
    }
    node->exception = p->word;
    node->deprecated |= deprecated;
    advance(p);
    return p->token == PLUS ? fault(p, "'+' belongs to a licence id, before WITH") : E_OK;
}

/* A licence id or reference with what belongs to it alone: '+' and WITH. */
static enum err take_simple(struct parser *p)
{
    struct proto_spdx_node node = {.kind = PROTO_SPDX_ID, .id = p->word};
    if (is_reference(p->word)) {
        node.kind = PROTO_SPDX_REFERENCE;
    } else if (span_is(p->word, "NONE") || span_is(p->word, "NOASSERTION")) {
        return fault(p, "NONE and NOASSERTION stand alone");
    } else if (starts_with(p->word, "LicenseRef-") || starts_with(p->word, "DocumentRef-")) {
        return fault(p, "a reference is [DocumentRef-NAME:]LicenseRef-NAME");
    } else if (!proto_spdx_id_known(p->word, &node.deprecated)) {
        return unknown(p, p->reterr ? proto_spdx_id_nearest(p->word) : SPAN_NONE, "SPDX licences");
    }
    advance(p);
    if (p->token == PLUS) {
        if (p->spaced) {
            return fault(p, "no space may stand before '+'");
        }
        if (node.kind == PROTO_SPDX_REFERENCE) {
            return fault(p, "a reference takes no '+'");
        }
        node.or_later = true;
        advance(p);
    }
    enum err err = p->token == WITH ? take_exception(p, &node) : E_OK;
    return err ? err : push(p, node);
}

static enum err take_operand(struct parser *p)
{
    while (p->token == OPEN) {
        if (p->depth == PROTO_SPDX_DEPTH) {
            return proto_err_set(p->reterr, E_LIMIT,
                                 "SPDX expression, column %zu: more than %d parentheses are open",
                                 p->start + 1, PROTO_SPDX_DEPTH);
        }
        p->depth++;
        p->operators[p->operator_count++] = OPEN;
        advance(p);
    }
    return p->token == WORD   ? take_simple(p)
           : p->token == BAD  ? fault(p, "this character cannot stand here")
           : p->token == PLUS ? fault(p, "'+' follows a licence id")
                              : fault(p, "a licence id is needed");
}

/* AND binds tighter than OR; both group to the left. */
static enum err reduce_above(struct parser *p, enum token op)
{
    enum err err = E_OK;
    while (!err && p->operator_count) {
        enum token top = p->operators[p->operator_count - 1];
        if (top == OPEN || (op == AND && top == OR)) {
            return E_OK;
        }
        p->operator_count--;
        err =
            push(p, (struct proto_spdx_node){.kind = top == AND ? PROTO_SPDX_AND : PROTO_SPDX_OR});
    }
    return err;
}

static enum err close_parentheses(struct parser *p)
{
    enum err err = E_OK;
    while (!err && p->token == CLOSE) {
        if (p->depth == 0) {
            return fault(p, "')' without '('");
        }
        err = reduce_above(p, OR);
        p->operator_count--;
        p->depth--;
        advance(p);
    }
    return err;
}

static enum err take_operator(struct parser *p)
{
    if (p->token == WITH) {
        return fault(p, "WITH follows a single licence id");
    }
    if (p->token != AND && p->token != OR) {
        return fault(p, p->token == PLUS ? "'+' follows a licence id" : "AND or OR is needed");
    }
    enum err err = reduce_above(p, p->token);
    if (!err && p->operator_count == PROTO_SPDX_NODES - PROTO_SPDX_DEPTH) {
        err = proto_err_set(p->reterr, E_LIMIT, "SPDX expression: more than %d parts",
                            PROTO_SPDX_NODES);
    }
    if (!err) {
        p->operators[p->operator_count++] = p->token;
        advance(p);
    }
    return err;
}

static enum err parse(struct parser *p)
{
    for (;;) {
        enum err err = take_operand(p);
        err = err ? err : close_parentheses(p);
        if (err) {
            return err;
        }
        if (p->token == END) {
            return p->depth ? fault(p, "'(' is not closed") : reduce_above(p, OR);
        }
        err = take_operator(p);
        if (err) {
            return err;
        }
    }
}

enum err proto_spdx_parse(struct span text, struct proto_spdx_expression *ret,
                          struct err_info *reterr)
{
    struct parser p;
    p.text = text;
    p.at = p.depth = p.operator_count = 0;
    p.out = ret;
    p.reterr = reterr;
    ret->count = 0;
    ret->lower_case = false;
    if (text.len > PROTO_SPDX_MAX) {
        return proto_err_set(reterr, E_LIMIT, "SPDX expression: longer than %d bytes",
                             PROTO_SPDX_MAX);
    }
    advance(&p);
    if (p.token == WORD && (span_is(p.word, "NONE") || span_is(p.word, "NOASSERTION"))) {
        struct proto_spdx_node node = {.kind = PROTO_SPDX_NONE, .id = p.word};
        advance(&p);
        return p.token == END ? push(&p, node) : fault(&p, "NONE and NOASSERTION stand alone");
    }
    return parse(&p);
}

/* --- Printing ----------------------------------------------------------------------------------------------- */

static enum err print_operand(const struct proto_spdx_node *node, struct buf *out)
{
    enum err err = buf_put(out, node->id);
    err = err || !node->or_later ? err : buf_put(out, span_str("+"));
    if (!err && node->exception.len) {
        err = buf_put(out, span_str(" WITH "));
        err = err ? err : buf_put(out, node->exception);
    }
    return err;
}

/* Walks the postfix form from its end: what is still to be printed lies on a stack of (node, parenthesis) marks. */
struct mark {
    size_t node;
    enum {
        PRINT_NODE,
        PRINT_AND,
        PRINT_OR,
        PRINT_CLOSE
    } what;
    bool parentheses;
};

/* Where the part that ends at node AT begins. */
static size_t part_start(const struct proto_spdx_expression *e, size_t at)
{
    size_t wanted = 1;
    for (;; at--) {
        bool is_operator =
            e->nodes[at].kind == PROTO_SPDX_AND || e->nodes[at].kind == PROTO_SPDX_OR;
        wanted = is_operator ? wanted + 1 : wanted - 1;
        if (wanted == 0) {
            return at;
        }
    }
}

static enum err print_operator(const struct proto_spdx_expression *e, struct mark mark,
                               struct mark *stack, size_t *top, struct buf *out)
{
    enum proto_spdx_kind kind = e->nodes[mark.node].kind;
    size_t right = mark.node - 1, left = part_start(e, right) - 1;
    enum proto_spdx_kind left_kind = e->nodes[left].kind, right_kind = e->nodes[right].kind;
    bool inner = kind == PROTO_SPDX_AND;
    if (mark.parentheses) {
        stack[(*top)++] = (struct mark){.what = PRINT_CLOSE};
    }
    /* The same operator on the right was grouped by hand: it keeps its parentheses. */
    stack[(*top)++] = (struct mark){
        .node = right, .parentheses = right_kind == kind || (inner && right_kind == PROTO_SPDX_OR)};
    stack[(*top)++] = (struct mark){.what = inner ? PRINT_AND : PRINT_OR};
    stack[(*top)++] =
        (struct mark){.node = left, .parentheses = inner && left_kind == PROTO_SPDX_OR};
    return mark.parentheses ? buf_put(out, span_str("(")) : E_OK;
}

enum err proto_spdx_print(const struct proto_spdx_expression *expression, struct buf *out)
{
    struct mark stack[3 * PROTO_SPDX_NODES + 1];
    size_t top = 0;
    enum err err = expression->count ? E_OK : E_INVALID;
    stack[top++] = (struct mark){.node = expression->count - 1};
    while (!err && top) {
        struct mark mark = stack[--top];
        const struct proto_spdx_node *node = &expression->nodes[mark.node];
        if (mark.what != PRINT_NODE) {
            err = buf_put(out, span_str(mark.what == PRINT_AND  ? " AND "
                                        : mark.what == PRINT_OR ? " OR "
                                                                : ")"));
        } else if (node->kind == PROTO_SPDX_AND || node->kind == PROTO_SPDX_OR) {
            err = print_operator(expression, mark, stack, &top, out);
        } else {
            err = print_operand(node, out);
        }
    }
    return err;
}
