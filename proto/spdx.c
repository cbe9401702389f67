#include "config.h"
#include "proto/spdx.h"

#include <stdio.h>

/* --- The clause table (reference agreements 4.2, conservative reading) --------------------------------- */

#define ANY    PROTO_OUTBOUND_ANY
#define BY     PROTO_DUTY_ATTRIBUTION
#define NOTICE PROTO_DUTY_NOTICE
#define SA     PROTO_DUTY_SHARE_ALIKE
#define NC     PROTO_DUTY_NONCOMMERCIAL
/* "Non-commercial" classes that a non-commercial model may still join. */
#define NC_OUT (PROTO_OUTBOUND_NC | PROTO_OUTBOUND_NC_SA)

static const struct row {
    const char *id;
    enum proto_spdx_verdict train;
    uint32_t duties;
    uint32_t outbound;
    enum proto_release release;
} rows[] = {
    {"CC0-1.0", PROTO_SPDX_YES, 0, ANY, PROTO_RELEASE_PUBLIC},
    {"PDDL-1.0", PROTO_SPDX_YES, 0, ANY, PROTO_RELEASE_PUBLIC},
    {"Unlicense", PROTO_SPDX_YES, 0, ANY, PROTO_RELEASE_PUBLIC},
    {"MIT-0", PROTO_SPDX_YES, 0, ANY, PROTO_RELEASE_PUBLIC},
    {"DL-DE-ZERO-2.0", PROTO_SPDX_YES, 0, ANY, PROTO_RELEASE_PUBLIC},
    {"CC-BY-4.0", PROTO_SPDX_YES, BY, ANY, PROTO_RELEASE_PUBLIC},
    {"CC-BY-3.0", PROTO_SPDX_YES, BY, ANY, PROTO_RELEASE_PUBLIC},
    {"OGL-UK-3.0", PROTO_SPDX_YES, BY, ANY, PROTO_RELEASE_PUBLIC},
    {"NLOD-2.0", PROTO_SPDX_YES, BY, ANY, PROTO_RELEASE_PUBLIC},
    {"etalab-2.0", PROTO_SPDX_YES, BY, ANY, PROTO_RELEASE_PUBLIC},
    {"DL-DE-BY-2.0", PROTO_SPDX_YES, BY, ANY, PROTO_RELEASE_PUBLIC},
    {"ODC-By-1.0", PROTO_SPDX_YES, NOTICE, ANY, PROTO_RELEASE_PUBLIC},
    {"ODbL-1.0", PROTO_SPDX_YES, NOTICE | PROTO_DUTY_METHOD, ANY, PROTO_RELEASE_PUBLIC},
    {"CC-BY-SA-4.0", PROTO_SPDX_YES, BY | SA, PROTO_OUTBOUND_BY_SA | PROTO_OUTBOUND_GPL3,
     PROTO_RELEASE_PUBLIC},
    {"CC-BY-NC-4.0", PROTO_SPDX_YES, BY | NC, NC_OUT, PROTO_RELEASE_PUBLIC},
    {"CC-BY-NC-SA-4.0", PROTO_SPDX_YES, BY | NC | SA, PROTO_OUTBOUND_NC_SA, PROTO_RELEASE_PUBLIC},
    {"CC-BY-ND-4.0", PROTO_SPDX_YES, BY | PROTO_DUTY_NO_SHARE, 0, PROTO_RELEASE_FEDERATION},
    {"CC-BY-NC-ND-4.0", PROTO_SPDX_YES, BY | NC | PROTO_DUTY_NO_SHARE, 0, PROTO_RELEASE_FEDERATION},
    {"CDLA-Permissive-2.0", PROTO_SPDX_YES, 0, ANY, PROTO_RELEASE_PUBLIC},
    {"CDLA-Permissive-1.0", PROTO_SPDX_YES, PROTO_DUTY_DP_RESULTS, ANY, PROTO_RELEASE_PUBLIC},
    {"CDLA-Sharing-1.0", PROTO_SPDX_YES, PROTO_DUTY_DP_RESULTS, ANY, PROTO_RELEASE_PUBLIC},
    {"C-UDA-1.0", PROTO_SPDX_YES, 0, ANY, PROTO_RELEASE_PUBLIC},
    {"O-UDA-1.0", PROTO_SPDX_YES, 0, ANY, PROTO_RELEASE_PUBLIC},
    {"MIT", PROTO_SPDX_YES, NOTICE, ANY, PROTO_RELEASE_PUBLIC},
    {"BSD-2-Clause", PROTO_SPDX_YES, NOTICE, ANY, PROTO_RELEASE_PUBLIC},
    {"BSD-3-Clause", PROTO_SPDX_YES, NOTICE, ANY, PROTO_RELEASE_PUBLIC},
    {"ISC", PROTO_SPDX_YES, NOTICE, ANY, PROTO_RELEASE_PUBLIC},
    {"Apache-2.0", PROTO_SPDX_YES, NOTICE | PROTO_DUTY_CHANGES, ANY & ~PROTO_OUTBOUND_GPL2,
     PROTO_RELEASE_PUBLIC},
    {"MPL-2.0", PROTO_SPDX_YES, NOTICE, ANY, PROTO_RELEASE_PUBLIC},
    {"LGPL-2.1-only", PROTO_SPDX_YES, NOTICE, ANY, PROTO_RELEASE_PUBLIC},
    {"LGPL-3.0-only", PROTO_SPDX_YES, NOTICE, ANY, PROTO_RELEASE_PUBLIC},
    {"GPL-2.0-only", PROTO_SPDX_YES, NOTICE | SA, PROTO_OUTBOUND_GPL2, PROTO_RELEASE_PUBLIC},
    {"GPL-2.0-or-later", PROTO_SPDX_YES, NOTICE | SA,
     PROTO_OUTBOUND_GPL2 | PROTO_OUTBOUND_GPL3 | PROTO_OUTBOUND_AGPL3, PROTO_RELEASE_PUBLIC},
    {"GPL-3.0-only", PROTO_SPDX_YES, NOTICE | SA, PROTO_OUTBOUND_GPL3, PROTO_RELEASE_PUBLIC},
    {"GPL-3.0-or-later", PROTO_SPDX_YES, NOTICE | SA, PROTO_OUTBOUND_GPL3 | PROTO_OUTBOUND_AGPL3,
     PROTO_RELEASE_PUBLIC},
    {"AGPL-3.0-only", PROTO_SPDX_YES, NOTICE | SA, PROTO_OUTBOUND_AGPL3, PROTO_RELEASE_PUBLIC},
    {"AGPL-3.0-or-later", PROTO_SPDX_YES, NOTICE | SA, PROTO_OUTBOUND_AGPL3, PROTO_RELEASE_PUBLIC},
    {"LicenseRef-OpenRAIL-M", PROTO_SPDX_YES, NOTICE | PROTO_DUTY_USE_RESTRICTIONS,
     PROTO_OUTBOUND_OPENRAIL, PROTO_RELEASE_PUBLIC},
    {"LicenseRef-llama3.1", PROTO_SPDX_YES,
     NOTICE | PROTO_DUTY_USE_RESTRICTIONS | PROTO_DUTY_NAME_PREFIX | PROTO_DUTY_DISPLAY,
     PROTO_OUTBOUND_LLAMA, PROTO_RELEASE_PUBLIC},
    {"LicenseRef-gemma", PROTO_SPDX_HOLD, PROTO_DUTY_UNKNOWN, 0, PROTO_RELEASE_FEDERATION},
    {"NONE", PROTO_SPDX_NO, PROTO_DUTY_UNKNOWN, 0, PROTO_RELEASE_FEDERATION},
    {"NOASSERTION", PROTO_SPDX_NO, PROTO_DUTY_UNKNOWN, 0, PROTO_RELEASE_FEDERATION},
};
#undef BY
#undef SA
#undef NC

static const char *const duty_names[PROTO_DUTY_TOTAL] = {
#define X(name, text) text,
    PROTO_DUTIES(X)
#undef X
};

const char *proto_duty_name(enum proto_duty_bit duty)
{
    return (unsigned)duty < PROTO_DUTY_TOTAL ? duty_names[duty] : "unknown";
}

static struct proto_spdx look_up(struct span id)
{
    struct proto_spdx value = {.train = PROTO_SPDX_HOLD, .duties = PROTO_DUTY_UNKNOWN};
    span_to_cstr(id, value.first, sizeof value.first);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (span_is(id, rows[i].id)) {
            value.train = rows[i].train;
            value.duties = rows[i].duties;
            value.outbound = rows[i].outbound;
            value.release = rows[i].release;
            return value;
        }
    }
    static const char reference[] = "LicenseRef-";
    if (id.len >= sizeof reference - 1 && memcmp(id.ptr, reference, sizeof reference - 1) == 0) {
        value.train = PROTO_SPDX_NO; /* terms that nobody but its author knows */
    }
    return value;
}

/* --- Algebra ------------------------------------------------------------------------------------------- */

struct proto_spdx proto_spdx_any(void)
{
    return (struct proto_spdx){.outbound = PROTO_OUTBOUND_ANY, .release = PROTO_RELEASE_PUBLIC};
}

void proto_spdx_join(struct proto_spdx *into, const struct proto_spdx *other)
{
    bool clash = into->outbound && other->outbound && !(into->outbound & other->outbound);
    into->train = into->train > other->train ? into->train : other->train;
    into->duties |= other->duties;
    into->outbound &= other->outbound;
    into->release = into->release < other->release ? into->release : other->release;
    if (!into->outbound) {
        into->release = PROTO_RELEASE_FEDERATION;
    }
    if (clash && !into->clash[0]) {
        snprintf(into->clash, sizeof into->clash, "%s x %s", into->first, other->first);
    } else if (!into->clash[0]) {
        memcpy(into->clash, other->clash, sizeof into->clash);
    }
    if (!into->first[0]) {
        memcpy(into->first, other->first, sizeof into->first);
    }
    if (!into->elected[0]) {
        memcpy(into->elected, other->elected, sizeof into->elected);
    }
}

/* OR leaves us the choice: the milder verdict, then the wider release, then the fewer duties, then the left one. */
static void elect(struct proto_spdx *left, const struct proto_spdx *right)
{
    int by_duties = __builtin_popcount(left->duties) - __builtin_popcount(right->duties);
    bool take_right = left->train != right->train       ? right->train < left->train
                      : left->release != right->release ? right->release > left->release
                                                        : by_duties > 0;
    if (take_right) {
        *left = *right;
    }
    memcpy(left->elected, left->first, sizeof left->elected);
}

/* --- Parser: precedence '+', WITH, AND, OR; own stacks, so depth is bounded ------------------------------ */

enum token {
    END,
    ID,
    AND,
    OR,
    WITH,
    OPEN,
    CLOSE,
    BAD
};

struct parser {
    struct span text;
    size_t at;
    enum token token;
    struct span id; /* of an ID, without '+' */
    bool or_later;
    struct proto_spdx values[2 * PROTO_SPDX_DEPTH + 2];
    size_t value_count;
    enum token operators[3 * PROTO_SPDX_DEPTH + 2];
    size_t operator_count;
};

static bool is_id_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == ':';
}

static enum token keyword(struct span word)
{
    return span_is(word, "AND") || span_is(word, "and")     ? AND
           : span_is(word, "OR") || span_is(word, "or")     ? OR
           : span_is(word, "WITH") || span_is(word, "with") ? WITH
                                                            : ID;
}

static void advance(struct parser *p)
{
    while (p->at < p->text.len && p->text.ptr[p->at] == ' ') {
        p->at++;
    }
    if (p->at == p->text.len) {
        p->token = END;
        return;
    }
    uint8_t c = p->text.ptr[p->at];
    if (c == '(' || c == ')') {
        p->token = c == '(' ? OPEN : CLOSE;
        p->at++;
        return;
    }
    size_t start = p->at;
    while (p->at < p->text.len && is_id_char(p->text.ptr[p->at])) {
        p->at++;
    }
    p->id = span_of(p->text.ptr + start, p->at - start);
    p->token = p->id.len && p->id.len < 64 ? keyword(p->id) : BAD;
    p->or_later = p->token == ID && p->at < p->text.len && p->text.ptr[p->at] == '+';
    p->at += p->or_later;
}

static void reduce(struct parser *p)
{
    enum token op = p->operators[--p->operator_count];
    struct proto_spdx *right = &p->values[--p->value_count];
    struct proto_spdx *left = &p->values[p->value_count - 1];
    if (op == AND) {
        proto_spdx_join(left, right);
    } else {
        elect(left, right);
    }
}

/* AND binds tighter than OR; both group to the left. */
static void reduce_above(struct parser *p, enum token op)
{
    while (p->operator_count) {
        enum token top = p->operators[p->operator_count - 1];
        if (top == OPEN || (op == AND && top == OR)) {
            return;
        }
        reduce(p);
    }
}

/* "GPL-2.0+" and "GPL-2.0-or-later" say the same; other ids may choose a later version of themselves only. */
static struct proto_spdx value_of(const struct parser *p)
{
    char name[80];
    struct proto_spdx value = look_up(p->id);
    if (p->or_later) {
        int n =
            snprintf(name, sizeof name, "%.*s-or-later", (int)p->id.len, (const char *)p->id.ptr);
        struct proto_spdx later = look_up(span_of(name, (size_t)n));
        value = value.train == PROTO_SPDX_HOLD && later.train == PROTO_SPDX_YES ? later : value;
    }
    return value;
}

static const char *take_operand(struct parser *p)
{
    while (p->token == OPEN) {
        if (p->operator_count >= PROTO_SPDX_DEPTH) {
            return "nested too deep";
        }
        p->operators[p->operator_count++] = OPEN;
        advance(p);
    }
    if (p->token != ID) {
        return "a licence id is needed";
    }
    p->values[p->value_count++] = value_of(p);
    advance(p);
    if (p->token == WITH) { /* an exception only widens; ignoring it is the stricter reading */
        advance(p);
        if (p->token != ID || p->or_later) {
            return "an exception id is needed after WITH";
        }
        advance(p);
    }
    return NULL;
}

static const char *close_parentheses(struct parser *p)
{
    while (p->token == CLOSE) {
        reduce_above(p, OR);
        if (p->operator_count == 0) {
            return "')' without '('";
        }
        p->operator_count--;
        advance(p);
    }
    return NULL;
}

static const char *parse(struct parser *p)
{
    for (;;) {
        const char *fault = take_operand(p);
        fault = fault ? fault : close_parentheses(p);
        if (fault) {
            return fault;
        }
        if (p->token == END) {
            reduce_above(p, OR);
            return p->operator_count ? "'(' is not closed" : NULL;
        }
        if (p->token != AND && p->token != OR) {
            return "AND or OR is needed";
        }
        reduce_above(p, p->token);
        if (p->operator_count >= 2 * PROTO_SPDX_DEPTH) {
            return "nested too deep";
        }
        p->operators[p->operator_count++] = p->token;
        advance(p);
    }
}

enum err proto_spdx_eval(struct span expression, struct proto_spdx *ret, struct err_info *reterr)
{
    if (expression.len > PROTO_SPDX_MAX) {
        return proto_err_set(reterr, E_LIMIT, "SPDX expression: longer than %d bytes",
                             PROTO_SPDX_MAX);
    }
    struct parser parser = {.text = expression};
    advance(&parser);
    const char *fault = parse(&parser);
    if (fault) {
        return proto_err_set(reterr, E_INVALID, "SPDX expression, near column %zu: %s", parser.at,
                             fault);
    }
    *ret = parser.values[0];
    return E_OK;
}
