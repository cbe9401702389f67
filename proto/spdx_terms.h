/* What a data licence means for a model that the data taught: may it be trained, may it be released and under which
 * licences, and what it owes. The table is ours, read from the licences' texts; it is not legal advice.
 *
 *     struct proto_spdx_terms terms;
 *     err = proto_spdx_terms_of(span_str("CC-BY-4.0 AND ODbL-1.0"), PROTO_READING_CONSERVATIVE, &terms, reterr);
 *     terms.duties == (PROTO_DUTY_ATTRIBUTION | PROTO_DUTY_NOTICE | PROTO_DUTY_METHOD)
 *
 * Two readings. Conservative: a model is an adaptation of what it learnt from; Creative Commons says of it that it is
 * likely to lead to overcompliance. Text: only what the licence itself says about results and models; where it says
 * nothing a person must read it. Decisions and derived licences use the conservative one.
 * AND unites conditions; of OR the holder of the model elects one, and the election is told.
 * Threads: pure. Source: reference agreements, 4.2 and 4.3. */
#ifndef CONCORDAT_PROTO_SPDX_TERMS_H
#define CONCORDAT_PROTO_SPDX_TERMS_H

#include "proto/licence.h"
#include "proto/spdx.h"

/* X(NAME, obligation id as it stands in a model's record, what it means) in bit order */
#define PROTO_DUTIES(X)                                                                            \
    X(ATTRIBUTION, "attribution", "name the source, its licence and that it was changed")          \
    X(NOTICE, "notice", "keep the licence text or notice with the model")                          \
    X(CHANGES, "state-changes", "say what was changed")                                            \
    X(METHOD, "publish-method",                                                                    \
      "offer the recipe by which the database was altered (the de-identification), never rows")    \
    X(SHARE_ALIKE, "share-alike", "release the model under the same licence only")                 \
    X(NONCOMMERCIAL, "non-commercial", "no commercial use of the model")                           \
    X(NO_SHARE, "no-share", "the model is not shared outside the federation")                      \
    X(USE_RESTRICTIONS, "use-restrictions", "pass on the restrictions of use")                     \
    X(NAME_PREFIX, "name-prefix", "the model's name starts with the base model's")                 \
    X(DISPLAY, "display-notice", "display where the model comes from")                             \
    X(DP_RESULTS, "private-training", "train with privacy, so that no data lie in the weights")    \
    X(UNKNOWN, "unknown-terms", "nobody has read the terms yet")

enum proto_duty_bit {
#define X(name, text, meaning) PROTO_DUTY_BIT_##name,
    PROTO_DUTIES(X)
#undef X
    PROTO_DUTY_TOTAL,
};
enum {
#define X(name, text, meaning) PROTO_DUTY_##name = 1 << PROTO_DUTY_BIT_##name,
    PROTO_DUTIES(X)
#undef X
};
const char *proto_duty_name(enum proto_duty_bit duty);
const char *proto_duty_meaning(enum proto_duty_bit duty);

enum proto_reading {
    PROTO_READING_CONSERVATIVE,
    PROTO_READING_TEXT,
};
const char *proto_reading_name(enum proto_reading reading);

/* Ordered: the greater is the worse. */
enum proto_spdx_verdict {
    PROTO_SPDX_YES,
    PROTO_SPDX_HOLD, /* a person must read the licence */
    PROTO_SPDX_NO,
};

/* Classes of licence that the model itself may carry; a set of bits. All bits: any licence. */
enum {
    PROTO_OUTBOUND_PERMISSIVE = 1,
    PROTO_OUTBOUND_BY_SA = 2,
    PROTO_OUTBOUND_GPL2 = 4,
    PROTO_OUTBOUND_GPL3 = 8,
    PROTO_OUTBOUND_AGPL3 = 16,
    PROTO_OUTBOUND_NC = 32,
    PROTO_OUTBOUND_NC_SA = 64,
    PROTO_OUTBOUND_OPENRAIL = 128,
    PROTO_OUTBOUND_LLAMA = 256,
    PROTO_OUTBOUND_ANY = 511,
};

/* One licence of the table, or one that is not there. Points at constants and at the expression's text. */
struct proto_spdx_leaf {
    struct span id;
    const char *clause; /* where the licence says so, or why nobody knows */
    enum proto_spdx_verdict train;
    enum proto_spdx_verdict share; /* may the weights leave the federation? */
    uint32_t duties;
    uint32_t outbound;
    uint32_t as; /* the class that this licence itself belongs to; 0: none */
};

#define PROTO_SPDX_LEAVES 16

/* Of an expression, or of several data sets joined: the worst verdicts, all duties, the licences that all leave. */
struct proto_spdx_terms {
    enum proto_spdx_verdict train;
    enum proto_spdx_verdict share;
    uint32_t duties;
    uint32_t outbound;
    enum proto_release release;                       /* the widest that is left */
    struct proto_spdx_leaf leaves[PROTO_SPDX_LEAVES]; /* the licences that apply, each once */
    size_t leaf_count;
    bool elected; /* an OR left a choice, and leaves are what was chosen */
    bool
        overflow; /* more licences than leaves has room for: nothing can be said, release is capped */
};

/* The terms of one licence id, NONE or reference. */
struct proto_spdx_leaf proto_spdx_leaf_of(struct span id, bool or_later,
                                          enum proto_reading reading);
/* Errors: those of proto_spdx_parse; E_LIMIT more alternatives than PROTO_SPDX_ALTERNATIVES. */
#define PROTO_SPDX_ALTERNATIVES 32
MUST_CHECK enum err proto_spdx_terms_of(struct span expression, enum proto_reading reading,
                                        struct proto_spdx_terms *ret, struct err_info *reterr);
/* The neutral element of proto_spdx_terms_join. */
void proto_spdx_terms_any(struct proto_spdx_terms *ret);
/* Several data sets: uses meet, duties unite, outbound sets intersect. */
void proto_spdx_terms_join(struct proto_spdx_terms *into, const struct proto_spdx_terms *other);
/* Terms of several expressions together, each OR elected so that the whole is widest: fewer refusals, then wider
 * release, then more outbound licences, then fewer duties, then the left one. Errors: as proto_spdx_terms_of; the text
 * says which expression. */
MUST_CHECK enum err proto_spdx_terms_combine(const struct span *expressions, size_t count,
                                             enum proto_reading reading,
                                             struct proto_spdx_terms *ret, struct err_info *reterr);
/* Where no outbound licence is left: "A x B", the first two licences that leave none together (or all of them, where
 * only three or more do). "" where something is left. Returns RET. */
#define PROTO_SPDX_CLASH_SIZE 256
const char *proto_spdx_clash(const struct proto_spdx_terms *terms, char ret[PROTO_SPDX_CLASH_SIZE]);
/* May the model be released under LICENCE (one id)? HOLD: a person must read it. RET_WHY is the leaf that decides. */
enum proto_spdx_verdict proto_spdx_release_under(const struct proto_spdx_terms *terms,
                                                 struct span licence, enum proto_reading reading,
                                                 const struct proto_spdx_leaf **ret_why);

/* The table, for the manual and for tests; false past its end. */
bool proto_spdx_table_at(size_t index, enum proto_reading reading, struct proto_spdx_leaf *ret);
/* "any", or the ids that stand for the classes of a set: "CC-BY-SA-4.0, GPL-3.0-only". */
const char *proto_outbound_text(uint32_t outbound, char ret[160]);

#endif
