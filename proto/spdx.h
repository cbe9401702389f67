/* SPDX licence expressions, and what a data licence means for a model trained on the data.
 *
 * Parses AND, OR, WITH, '+' and parentheses; knows the licences of reference agreements 4.2 in the
 * conservative reading (a model is an adaptation). It is not a compatibility oracle: what it does
 * not know it holds or denies.
 *
 *     struct proto_spdx spdx;
 *     err = proto_spdx_eval(span_str("CC-BY-4.0 AND ODbL-1.0"), &spdx, reterr);
 *     spdx.duties == PROTO_DUTY_ATTRIBUTION | PROTO_DUTY_NOTICE | PROTO_DUTY_METHOD
 *
 * Threads: pure. Limits: PROTO_SPDX_MAX bytes, PROTO_SPDX_DEPTH parentheses. */
#ifndef CONCORDAT_PROTO_SPDX_H
#define CONCORDAT_PROTO_SPDX_H

#include "proto/licence.h"

#define PROTO_SPDX_MAX   256
#define PROTO_SPDX_DEPTH 16

/* X(NAME, obligation id as it stands in a model's record) in bit order */
#define PROTO_DUTIES(X)                                                                            \
    X(ATTRIBUTION, "attribution")                                                                  \
    X(NOTICE, "notice")                                                                            \
    X(CHANGES, "state-changes")                                                                    \
    X(METHOD, "publish-method")                                                                    \
    X(SHARE_ALIKE, "share-alike")                                                                  \
    X(NONCOMMERCIAL, "non-commercial")                                                             \
    X(NO_SHARE, "no-share")                                                                        \
    X(USE_RESTRICTIONS, "use-restrictions")                                                        \
    X(NAME_PREFIX, "name-prefix")                                                                  \
    X(DISPLAY, "display-notice")                                                                   \
    X(DP_RESULTS, "private-training")                                                              \
    X(UNKNOWN, "unknown-terms")

enum proto_duty_bit {
#define X(name, text) PROTO_DUTY_BIT_##name,
    PROTO_DUTIES(X)
#undef X
    PROTO_DUTY_TOTAL,
};
enum {
#define X(name, text) PROTO_DUTY_##name = 1 << PROTO_DUTY_BIT_##name,
    PROTO_DUTIES(X)
#undef X
};
const char *proto_duty_name(enum proto_duty_bit duty);

/* May a model be trained on it inside the federation? Ordered: the greater is the worse. */
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

struct proto_spdx {
    enum proto_spdx_verdict train;
    uint32_t duties;   /* PROTO_DUTY_* */
    uint32_t outbound; /* PROTO_OUTBOUND_*; empty: nothing can be released, release is capped at the
                          federation */
    enum proto_release release; /* the widest release that the licence allows */
    char elected[64];           /* where OR left a choice: the id that decided it; else empty */
    char clash[132];            /* "A x B" when two licences left no outbound licence; else empty */
    char first[64];             /* the first licence id, for such texts */
};

/* Errors: E_INVALID the expression does not parse (text says where); E_LIMIT too long or too deep.
 * NONE, NOASSERTION and unlisted LicenseRef- parse and evaluate to PROTO_SPDX_NO. */
MUST_CHECK enum err proto_spdx_eval(struct span expression, struct proto_spdx *ret,
                                    struct err_info *reterr);
/* Several data sets: uses meet, duties unite, outbound sets intersect. */
void proto_spdx_join(struct proto_spdx *into, const struct proto_spdx *other);
/* The neutral element of proto_spdx_join. */
struct proto_spdx proto_spdx_any(void);

#endif
