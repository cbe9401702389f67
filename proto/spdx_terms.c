#include "config.h"
#include "proto/spdx_terms.h"

#include <stdio.h>

/* --- The clause table --------------------------------------------------------------------------------------- */

#define ANY    PROTO_OUTBOUND_ANY
#define BY     PROTO_DUTY_ATTRIBUTION
#define NOTICE PROTO_DUTY_NOTICE
#define SA     PROTO_DUTY_SHARE_ALIKE
#define NC     PROTO_DUTY_NONCOMMERCIAL
#define OPEN   PROTO_OUTBOUND_PERMISSIVE
/* "Non-commercial" classes that a non-commercial model may still join. */
#define NC_OUT (PROTO_OUTBOUND_NC | PROTO_OUTBOUND_NC_SA)
#define GNU2   (PROTO_OUTBOUND_GPL2 | PROTO_OUTBOUND_GPL3 | PROTO_OUTBOUND_AGPL3)
#define GNU3   (PROTO_OUTBOUND_GPL3 | PROTO_OUTBOUND_AGPL3)
#define YES    PROTO_SPDX_YES
#define HOLD   PROTO_SPDX_HOLD
#define NO     PROTO_SPDX_NO

/* What the licence's own text leaves where it differs from the conservative reading. */
struct text_reading {
    bool differs;
    enum proto_spdx_verdict share;
    uint32_t duties;
    uint32_t outbound;
};
#define SAME                                                                                       \
    {                                                                                              \
        false, YES, 0, 0                                                                           \
    }

static const struct row {
    const char *id;
    enum proto_spdx_verdict train;
    enum proto_spdx_verdict share;
    uint32_t duties;
    uint32_t outbound;
    uint32_t as;
    struct text_reading text;
    const char *clause;
} rows[] = {
    {"CC0-1.0", YES, YES, 0, ANY, OPEN, SAME, "section 2: all rights are waived"},
    {"PDDL-1.0", YES, YES, 0, ANY, OPEN, SAME, "section 3: all rights are waived"},
    {"Unlicense", YES, YES, 0, ANY, OPEN, SAME, "released into the public domain"},
    {"MIT-0", YES, YES, 0, ANY, OPEN, SAME, "no condition"},
    {"DL-DE-ZERO-2.0", YES, YES, 0, ANY, OPEN, SAME, "any use without restrictions or conditions"},
    {"CC-BY-4.0", YES, YES, BY, ANY, OPEN, SAME, "section 3(a): attribution"},
    {"CC-BY-3.0", YES, YES, BY, ANY, OPEN, SAME, "section 4(b): attribution"},
    {"OGL-UK-3.0", YES, YES, BY, ANY, OPEN, SAME, "acknowledge the source"},
    {"NLOD-2.0", YES, YES, BY, ANY, OPEN, SAME, "section 5: name the licensor"},
    {"etalab-2.0", YES, YES, BY, ANY, OPEN, SAME, "mention the paternity"},
    {"DL-DE-BY-2.0", YES, YES, BY, ANY, OPEN, SAME, "section 2: source note"},
    {"ODC-By-1.0", YES, YES, NOTICE, ANY, OPEN, SAME, "section 4.3: notice on produced works"},
    {"ODbL-1.0", YES, YES, NOTICE | PROTO_DUTY_METHOD, ANY, 0, SAME,
     "sections 4.3, 4.4(c), 4.6(b): a notice, and the alterations or their method are offered"},
    {"CC-BY-SA-4.0",
     YES,
     YES,
     BY | SA,
     PROTO_OUTBOUND_BY_SA | PROTO_OUTBOUND_GPL3,
     PROTO_OUTBOUND_BY_SA,
     {true, YES, BY, ANY},
     "sections 1(a), 3(b), 4(b): adapted material under the same licence (GPL-3.0 one way)"},
    {"CC-BY-NC-4.0", YES, YES, BY | NC, NC_OUT, PROTO_OUTBOUND_NC, SAME,
     "section 1(i): not primarily for commercial advantage"},
    {"CC-BY-NC-SA-4.0",
     YES,
     YES,
     BY | NC | SA,
     PROTO_OUTBOUND_NC_SA,
     PROTO_OUTBOUND_NC_SA,
     {true, YES, BY | NC, NC_OUT},
     "sections 1(i), 3(b): non-commercial, under the same licence"},
    {"CC-BY-ND-4.0",
     YES,
     NO,
     BY | PROTO_DUTY_NO_SHARE,
     0,
     0,
     {true, HOLD, BY, ANY},
     "section 2(a)(1)(B): adapted material may be produced but not shared"},
    {"CC-BY-NC-ND-4.0",
     YES,
     NO,
     BY | NC | PROTO_DUTY_NO_SHARE,
     0,
     0,
     {true, HOLD, BY | NC, NC_OUT},
     "section 2(a)(1)(B): adapted material may be produced, non-commercially, but not shared"},
    {"CDLA-Permissive-2.0", YES, YES, 0, ANY, OPEN, SAME,
     "sections 3.1, 5.4: no conditions on results, machine learning models among them"},
    {"CDLA-Permissive-1.0", YES, YES, PROTO_DUTY_DP_RESULTS, ANY, OPEN, SAME,
     "section 3.4: no restrictions on results, which hold no more than a de minimis part of the "
     "data"},
    {"CDLA-Sharing-1.0", YES, YES, PROTO_DUTY_DP_RESULTS, ANY, 0, SAME,
     "section 3.5: no restrictions on results, which hold no more than a de minimis part of the "
     "data"},
    {"C-UDA-1.0", YES, YES, 0, ANY, 0, SAME,
     "section 5.5: computational use; models trained on the data are results"},
    {"O-UDA-1.0", YES, YES, 0, ANY, OPEN, SAME, "no restrictions on results"},
    {"MIT", YES, YES, NOTICE, ANY, OPEN, SAME, "the notice is included in all copies"},
    {"BSD-2-Clause", YES, YES, NOTICE, ANY, OPEN, SAME, "the notice is retained"},
    {"BSD-3-Clause", YES, YES, NOTICE, ANY, OPEN, SAME, "the notice is retained"},
    {"ISC", YES, YES, NOTICE, ANY, OPEN, SAME, "the notice appears in all copies"},
    {"Apache-2.0", YES, YES, NOTICE | PROTO_DUTY_CHANGES, ANY & ~PROTO_OUTBOUND_GPL2, OPEN, SAME,
     "section 4: notice, statement of changes; its patent terms are further restrictions to "
     "GPL-2.0"},
    {"MPL-2.0", YES, YES, NOTICE, ANY, 0, SAME,
     "section 3: copyleft of files, which are not shipped"},
    {"LGPL-2.1-only", YES, YES, NOTICE, ANY, 0, SAME,
     "copyleft of the library, which is not shipped"},
    {"LGPL-2.1-or-later", YES, YES, NOTICE, ANY, 0, SAME,
     "copyleft of the library, which is not shipped"},
    {"LGPL-3.0-only", YES, YES, NOTICE, ANY, 0, SAME,
     "copyleft of the library, which is not shipped"},
    {"LGPL-3.0-or-later", YES, YES, NOTICE, ANY, 0, SAME,
     "copyleft of the library, which is not shipped"},
    {"GPL-2.0-only",
     YES,
     YES,
     NOTICE | SA,
     PROTO_OUTBOUND_GPL2,
     PROTO_OUTBOUND_GPL2,
     {true, HOLD, NOTICE, ANY},
     "section 2(b): works based on it under the same licence"},
    {"GPL-2.0-or-later",
     YES,
     YES,
     NOTICE | SA,
     GNU2,
     GNU2,
     {true, HOLD, NOTICE, ANY},
     "section 2(b): works based on it under the same licence or a later version"},
    {"GPL-3.0-only",
     YES,
     YES,
     NOTICE | SA,
     PROTO_OUTBOUND_GPL3,
     PROTO_OUTBOUND_GPL3,
     {true, HOLD, NOTICE, ANY},
     "section 5(c): works based on it under the same licence"},
    {"GPL-3.0-or-later",
     YES,
     YES,
     NOTICE | SA,
     GNU3,
     GNU3,
     {true, HOLD, NOTICE, ANY},
     "section 5(c): works based on it under the same licence or a later version"},
    {"AGPL-3.0-only",
     YES,
     YES,
     NOTICE | SA,
     PROTO_OUTBOUND_AGPL3,
     PROTO_OUTBOUND_AGPL3,
     {true, HOLD, NOTICE, ANY},
     "sections 5(c), 13: under the same licence, over networks too"},
    {"AGPL-3.0-or-later",
     YES,
     YES,
     NOTICE | SA,
     PROTO_OUTBOUND_AGPL3,
     PROTO_OUTBOUND_AGPL3,
     {true, HOLD, NOTICE, ANY},
     "sections 5(c), 13: under the same licence, over networks too"},
    {"LicenseRef-OpenRAIL-M", YES, YES, NOTICE | PROTO_DUTY_USE_RESTRICTIONS,
     PROTO_OUTBOUND_OPENRAIL, PROTO_OUTBOUND_OPENRAIL, SAME,
     "attachment A: at minimum the same use restrictions are passed on"},
    {"LicenseRef-llama3.1", YES, YES,
     NOTICE | PROTO_DUTY_USE_RESTRICTIONS | PROTO_DUTY_NAME_PREFIX | PROTO_DUTY_DISPLAY,
     PROTO_OUTBOUND_LLAMA, PROTO_OUTBOUND_LLAMA, SAME,
     "section 1.b: the agreement stays, \"Built with Llama\", a name that starts with \"Llama\""},
    {"LicenseRef-gemma", HOLD, NO, PROTO_DUTY_UNKNOWN, 0, 0, SAME, "nobody has read it yet"},
    {"NONE", NO, NO, PROTO_DUTY_UNKNOWN, 0, 0, SAME, "no licence was given"},
    {"NOASSERTION", NO, NO, PROTO_DUTY_UNKNOWN, 0, 0, SAME, "nobody says which licence holds"},
};
#undef BY
#undef SA
#undef NC
#undef NOTICE
#undef OPEN
#define ROWS (sizeof rows / sizeof *rows)

/* The list's deprecated names of the GNU licences. */
static const struct {
    const char *old;
    const char *only;
    const char *later;
} gnu[] = {
    {"GPL-2.0", "GPL-2.0-only", "GPL-2.0-or-later"},
    {"GPL-3.0", "GPL-3.0-only", "GPL-3.0-or-later"},
    {"AGPL-3.0", "AGPL-3.0-only", "AGPL-3.0-or-later"},
    {"LGPL-2.1", "LGPL-2.1-only", "LGPL-2.1-or-later"},
    {"LGPL-3.0", "LGPL-3.0-only", "LGPL-3.0-or-later"},
};

static const char *const duty_names[PROTO_DUTY_TOTAL] = {
#define X(name, text, meaning) text,
    PROTO_DUTIES(X)
#undef X
};
static const char *const duty_meanings[PROTO_DUTY_TOTAL] = {
#define X(name, text, meaning) meaning,
    PROTO_DUTIES(X)
#undef X
};

const char *proto_duty_name(enum proto_duty_bit duty)
{
    return (unsigned)duty < PROTO_DUTY_TOTAL ? duty_names[duty] : "unknown";
}

const char *proto_duty_meaning(enum proto_duty_bit duty)
{
    return (unsigned)duty < PROTO_DUTY_TOTAL ? duty_meanings[duty] : "unknown";
}

const char *proto_reading_name(enum proto_reading reading)
{
    return reading == PROTO_READING_TEXT ? "text" : "conservative";
}

static struct proto_spdx_leaf leaf_of(const struct row *row, enum proto_reading reading)
{
    bool text = reading == PROTO_READING_TEXT && row->text.differs;
    return (struct proto_spdx_leaf){
        .id = span_str(row->id),
        .clause = row->clause,
        .train = row->train,
        .share = text ? row->text.share : row->share,
        .duties = text ? row->text.duties : row->duties,
        .outbound = text ? row->text.outbound : row->outbound,
        .as = row->as,
    };
}

static const struct row *find(struct span id)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (span_is(id, rows[i].id)) {
            return &rows[i];
        }
    }
    return NULL;
}

/* "GPL-2.0" and "GPL-2.0+" are names of "-only" and "-or-later"; '+' on another id may choose a later version of that
 * licence only, and none is in the table, so it changes nothing. */
static struct span modern(struct span id, bool or_later)
{
    for (size_t i = 0; i < sizeof gnu / sizeof *gnu; i++) {
        if (span_is(id, gnu[i].old) || (or_later && span_is(id, gnu[i].only))) {
            return span_str(or_later ? gnu[i].later : gnu[i].only);
        }
    }
    return id;
}

struct proto_spdx_leaf proto_spdx_leaf_of(struct span id, bool or_later, enum proto_reading reading)
{
    static const char reference[] = "LicenseRef-";
    const struct row *row = find(modern(id, or_later));
    if (row) {
        return leaf_of(row, reading);
    }
    bool own =
        (id.len >= sizeof reference - 1 && memcmp(id.ptr, reference, sizeof reference - 1) == 0) ||
        memchr(id.ptr, ':', id.len) != NULL;
    return (struct proto_spdx_leaf){
        .id = id,
        .clause = own ? "terms that nobody but their author knows" : "nobody has read it yet",
        .train = own ? NO : HOLD,
        .share = NO,
        .duties = PROTO_DUTY_UNKNOWN,
    };
}

bool proto_spdx_table_at(size_t index, enum proto_reading reading, struct proto_spdx_leaf *ret)
{
    if (index < ROWS) {
        *ret = leaf_of(&rows[index], reading);
    }
    return index < ROWS;
}

/* --- Algebra -------------------------------------------------------------------------------------------------- */

void proto_spdx_terms_any(struct proto_spdx_terms *ret)
{
    *ret = (struct proto_spdx_terms){.outbound = ANY, .release = PROTO_RELEASE_PUBLIC};
}

static void settle(struct proto_spdx_terms *terms)
{
    bool open = terms->outbound && terms->share == YES && !terms->overflow;
    terms->release = open ? PROTO_RELEASE_PUBLIC : PROTO_RELEASE_FEDERATION;
}

static void add_leaf(struct proto_spdx_terms *terms, const struct proto_spdx_leaf *leaf)
{
    terms->train = terms->train > leaf->train ? terms->train : leaf->train;
    terms->share = terms->share > leaf->share ? terms->share : leaf->share;
    terms->duties |= leaf->duties;
    terms->outbound &= leaf->outbound;
    for (size_t i = 0; i < terms->leaf_count; i++) {
        if (span_equal(terms->leaves[i].id, leaf->id)) {
            return;
        }
    }
    if (terms->leaf_count == PROTO_SPDX_LEAVES) {
        terms->overflow = true;
    } else {
        terms->leaves[terms->leaf_count++] = *leaf;
    }
}

void proto_spdx_terms_join(struct proto_spdx_terms *into, const struct proto_spdx_terms *other)
{
    for (size_t i = 0; i < other->leaf_count; i++) {
        add_leaf(into, &other->leaves[i]);
    }
    into->elected |= other->elected;
    into->overflow |= other->overflow;
    settle(into);
}

/* Whether A is the better election. */
static bool is_better(const struct proto_spdx_terms *a, const struct proto_spdx_terms *b)
{
    int outbound = __builtin_popcount(a->outbound) - __builtin_popcount(b->outbound);
    int duties = __builtin_popcount(a->duties) - __builtin_popcount(b->duties);
    return a->train != b->train       ? a->train < b->train
           : a->release != b->release ? a->release > b->release
           : outbound != 0            ? outbound > 0
                                      : duties < 0;
}

/* --- Alternatives --------------------------------------------------------------------------------------------- */

/* An expression as its alternatives: each a set of operands (bits by their number in postfix order). */
struct alternatives {
    uint64_t sets[PROTO_SPDX_ALTERNATIVES];
    size_t count;
};

/* (A OR B) AND C is A AND C, or B AND C. */
static bool both(const struct alternatives *a, const struct alternatives *b,
                 struct alternatives *ret)
{
    ret->count = 0;
    for (size_t i = 0; i < a->count; i++) {
        for (size_t j = 0; j < b->count; j++) {
            if (ret->count == PROTO_SPDX_ALTERNATIVES) {
                return false;
            }
            ret->sets[ret->count++] = a->sets[i] | b->sets[j];
        }
    }
    return true;
}

static bool either(const struct alternatives *a, const struct alternatives *b,
                   struct alternatives *ret)
{
    *ret = *a;
    for (size_t i = 0; i < b->count; i++) {
        if (ret->count == PROTO_SPDX_ALTERNATIVES) {
            return false;
        }
        ret->sets[ret->count++] = b->sets[i];
    }
    return true;
}

/* Operands get numbers in the order in which they stand; there are at most 64 of them. */
static bool expand(const struct proto_spdx_expression *e, size_t operands[64],
                   struct alternatives *ret)
{
    struct alternatives stack[PROTO_SPDX_NODES / 2 + 1];
    size_t top = 0, count = 0;
    for (size_t i = 0; i < e->count; i++) {
        enum proto_spdx_kind kind = e->nodes[i].kind;
        if (kind == PROTO_SPDX_AND || kind == PROTO_SPDX_OR) {
            struct alternatives joined;
            bool fits =
                (kind == PROTO_SPDX_AND ? both : either)(&stack[top - 2], &stack[top - 1], &joined);
            if (!fits) {
                return false;
            }
            stack[--top - 1] = joined;
        } else if (count == 64 || top == sizeof stack / sizeof *stack) {
            return false;
        } else {
            operands[count] = i;
            stack[top].count = 1;
            stack[top++].sets[0] = UINT64_C(1) << count++;
        }
    }
    *ret = stack[0];
    return true;
}

static void terms_of_set(const struct proto_spdx_expression *e, const size_t operands[64],
                         uint64_t set, enum proto_reading reading, struct proto_spdx_terms *ret)
{
    proto_spdx_terms_any(ret);
    for (size_t bit = 0; set; bit++, set >>= 1) {
        if (set & 1) {
            const struct proto_spdx_node *node = &e->nodes[operands[bit]];
            struct proto_spdx_leaf leaf = proto_spdx_leaf_of(node->id, node->or_later, reading);
            add_leaf(ret, &leaf);
        }
    }
    settle(ret);
}

static enum err too_many(struct err_info *reterr)
{
    return proto_err_set(reterr, E_LIMIT, "SPDX expression: more than %d alternatives",
                         PROTO_SPDX_ALTERNATIVES);
}

enum err proto_spdx_terms_of(struct span expression, enum proto_reading reading,
                             struct proto_spdx_terms *ret, struct err_info *reterr)
{
    struct proto_spdx_expression e;
    struct alternatives alternatives;
    struct proto_spdx_terms one;
    size_t operands[64];
    enum err err = proto_spdx_parse(expression, &e, reterr);
    if (err) {
        return err;
    }
    if (e.count == 1) { /* what nearly all are */
        operands[0] = 0;
        terms_of_set(&e, operands, 1, reading, ret);
        return E_OK;
    }
    if (!expand(&e, operands, &alternatives)) {
        return too_many(reterr);
    }
    for (size_t i = 0; i < alternatives.count; i++) {
        terms_of_set(&e, operands, alternatives.sets[i], reading, &one);
        if (i == 0 || is_better(&one, ret)) {
            *ret = one;
        }
    }
    ret->elected = alternatives.count > 1;
    return E_OK;
}

/* --- Several data sets ---------------------------------------------------------------------------------------- */

#define COMBINATIONS_MAX 4096

struct part {
    struct proto_spdx_expression expression;
    struct alternatives alternatives;
    size_t operands[64];
};

static void join_choice(const struct part *parts, size_t count, size_t choice,
                        enum proto_reading reading, struct proto_spdx_terms *ret)
{
    struct proto_spdx_terms one;
    proto_spdx_terms_any(ret);
    for (size_t i = 0; i < count; i++) {
        const struct part *part = &parts[i];
        terms_of_set(&part->expression, part->operands,
                     part->alternatives.sets[choice % part->alternatives.count], reading, &one);
        one.elected = part->alternatives.count > 1;
        proto_spdx_terms_join(ret, &one);
        choice /= part->alternatives.count;
    }
    settle(ret);
}

enum err proto_spdx_terms_combine(const struct span *expressions, size_t count,
                                  enum proto_reading reading, struct proto_spdx_terms *ret,
                                  struct err_info *reterr)
{
    struct part *parts = proto_alloc(count + 1, sizeof *parts);
    struct proto_spdx_terms one;
    size_t combinations = 1;
    enum err err = parts ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < count; i++) {
        err = proto_spdx_parse(expressions[i], &parts[i].expression, reterr);
        if (!err && !expand(&parts[i].expression, parts[i].operands, &parts[i].alternatives)) {
            err = too_many(reterr);
        }
        combinations *= err ? 1 : parts[i].alternatives.count;
        if (!err && combinations > COMBINATIONS_MAX) {
            err = too_many(reterr);
        }
        if (err) {
            proto_err_frame(reterr, "data licence %zu", i + 1);
        }
    }
    proto_spdx_terms_any(ret);
    for (size_t choice = 0; !err && choice < combinations; choice++) {
        join_choice(parts, count, choice, reading, &one);
        if (choice == 0 || is_better(&one, ret)) {
            *ret = one;
        }
    }
    proto_free(parts);
    return err;
}

const char *proto_spdx_clash(const struct proto_spdx_terms *terms, char ret[PROTO_SPDX_CLASH_SIZE])
{
    ret[0] = 0;
    for (size_t i = 0; i < terms->leaf_count && terms->outbound == 0; i++) {
        const struct proto_spdx_leaf *a = &terms->leaves[i];
        if (a->outbound == 0) { /* it leaves none by itself */
            snprintf(ret, PROTO_SPDX_CLASH_SIZE, "%.*s", (int)a->id.len, (const char *)a->id.ptr);
            return ret;
        }
        for (size_t j = i + 1; j < terms->leaf_count; j++) {
            const struct proto_spdx_leaf *b = &terms->leaves[j];
            if (b->outbound && (a->outbound & b->outbound) == 0) {
                snprintf(ret, PROTO_SPDX_CLASH_SIZE, "%.*s x %.*s", (int)a->id.len,
                         (const char *)a->id.ptr, (int)b->id.len, (const char *)b->id.ptr);
                return ret;
            }
        }
    }
    for (size_t i = 0, at = 0; i < terms->leaf_count && terms->outbound == 0; i++) {
        int n = snprintf(ret + at, PROTO_SPDX_CLASH_SIZE - at, "%s%.*s", i ? " x " : "",
                         (int)terms->leaves[i].id.len, (const char *)terms->leaves[i].id.ptr);
        at += (size_t)n;
        if (at >= PROTO_SPDX_CLASH_SIZE) {
            break;
        }
    }
    return ret;
}

enum proto_spdx_verdict proto_spdx_release_under(const struct proto_spdx_terms *terms,
                                                 struct span licence, enum proto_reading reading,
                                                 const struct proto_spdx_leaf **ret_why)
{
    enum proto_spdx_verdict worst = terms->overflow ? NO : YES;
    struct proto_spdx_leaf out = proto_spdx_leaf_of(licence, false, reading);
    *ret_why = NULL;
    for (size_t i = 0; i < terms->leaf_count; i++) {
        const struct proto_spdx_leaf *leaf = &terms->leaves[i];
        bool same = span_equal(leaf->id, out.id);
        /* A licence of no class can take what a permissive one can; "-or-later" hands on every version that it names. */
        uint32_t as = out.as ? out.as : PROTO_OUTBOUND_PERMISSIVE;
        bool fits = same || (leaf->outbound & as) == as;
        enum proto_spdx_verdict verdict = leaf->share != YES ? leaf->share : fits ? YES : NO;
        if (verdict > worst) {
            worst = verdict;
            *ret_why = leaf;
        }
    }
    return worst;
}

const char *proto_outbound_text(uint32_t outbound, char ret[160])
{
    static const char *const classes[] = {"permissive",      "CC-BY-SA-4.0", "GPL-2.0",
                                          "GPL-3.0",         "AGPL-3.0",     "CC-BY-NC-4.0",
                                          "CC-BY-NC-SA-4.0", "OpenRAIL-M",   "Llama 3.1"};
    size_t at = 0;
    snprintf(ret, 160, "%s", outbound == ANY ? "any" : "none");
    for (int bit = 0; bit < 9 && outbound != ANY; bit++) {
        if (outbound & 1U << bit) {
            at += (size_t)snprintf(ret + at, 160 - at, "%s%s", at ? ", " : "", classes[bit]);
        }
    }
    return ret;
}
