/* The licence of a dataset: its terms as one signed body, validated as one object.
 *
 * It states who may ask, for what purpose, which actions, with what noise and budget, and what a model trained on the
 * data owes. It holds no JSON, ODRL or YAML: those are views made above. A licence is not monotonic, so anything that
 * is not understood refuses (E_UNSUPPORTED), it is never skipped.
 *
 *     struct proto_licence licence;
 *     // by the table, then proto_licence_valid
 *     err = proto_licence_decode(record.envelope.body, &arena, &licence, reterr);
 *
 * Units: epsilon in millionths, delta in 1e-12, times in unix seconds. The dataset is the bare name; its node is the
 * envelope's issuer.
 * Threads: pure. Limits: PROTO_LICENCE_*. Format: reference agreements, section 1.2. */
#ifndef CONCORDAT_PROTO_LICENCE_H
#define CONCORDAT_PROTO_LICENCE_H

#include "proto/body.h"

#define PROTO_LICENCE_GRANTS_MAX      8
#define PROTO_LICENCE_MODIFIERS_MAX   8
#define PROTO_LICENCE_OBLIGATIONS_MAX 16

/* X(NAME, text) in bit order */
#define PROTO_ACTIONS(X)                                                                           \
    X(COUNT, "count")                                                                              \
    X(SUM, "sum")                                                                                  \
    X(MEAN, "mean")                                                                                \
    X(VARIANCE, "variance")                                                                        \
    X(QUANTILE, "quantile")                                                                        \
    X(HISTOGRAM, "histogram")                                                                      \
    X(REGRESSION, "regression")                                                                    \
    X(SURVIVAL, "survival")                                                                        \
    X(FINETUNE, "finetune")                                                                        \
    X(EVALUATE, "evaluate")

enum proto_action {
#define X(name, text) PROTO_ACTION_##name,
    PROTO_ACTIONS(X)
#undef X
    PROTO_ACTION_TOTAL,
};
#define PROTO_ACTION_BIT(action) (UINT64_C(1) << (action))
#define PROTO_ACTION_ALL         (PROTO_ACTION_BIT(PROTO_ACTION_TOTAL) - 1)

const char *proto_action_name(enum proto_action action);
bool proto_action_by_name(const char *name, enum proto_action *ret);

enum proto_mechanism {
    PROTO_MECHANISM_NONE, /* legal only under NRES with visible: site */
    PROTO_MECHANISM_GAUSSIAN,
    PROTO_MECHANISM_LAPLACE,
};
enum proto_mode {
    PROTO_MODE_ANY,
    PROTO_MODE_SECURE,
};
enum proto_release {
    PROTO_RELEASE_FEDERATION,
    PROTO_RELEASE_RECIPIENTS,
    PROTO_RELEASE_PUBLIC,
};
const char *proto_release_name(uint64_t release); /* "federation", ... */

struct proto_modifier {
    uint64_t code;            /* DUO number */
    struct proto_list params; /* struct proto_text */
};

struct proto_licence_privacy {
    uint64_t mechanism; /* enum proto_mechanism */
    uint64_t epsilon_total_u;
    uint64_t epsilon_per_query_u;
    uint64_t epsilon_per_job_u; /* 0: no fine-tuning budget */
    uint64_t delta_e12;
};

struct proto_licence_finetune {
    uint64_t max_rounds;
    uint64_t release; /* enum proto_release */
};

struct proto_grant {
    uint64_t permission;         /* DUO number: 4, 42, 6, 7 or 11 */
    struct proto_list diseases;  /* struct proto_text; only and always with DS */
    struct proto_list modifiers; /* struct proto_modifier; all must hold */
    uint64_t actions;            /* PROTO_ACTION_BITs */
    bool has_columns;            /* false: every column */
    struct proto_list columns;   /* struct proto_text */
    uint64_t min_cohort;
    uint64_t min_sites; /* institutions */
    uint64_t mode;      /* enum proto_mode */
    bool visible_site;  /* the coordinator may see this site's own update */
    struct proto_licence_privacy privacy;
    bool has_finetune;
    struct proto_licence_finetune finetune;
};

struct proto_obligation {
    struct span id;
    struct span when; /* "use", "publish" or "release-model" */
    struct span text; /* none when absent */
};

struct proto_licence {
    uint64_t v;
    struct span dataset;
    struct span version;
    struct span schema_hash; /* 32 */
    uint64_t not_before;
    uint64_t expires; /* equal to the envelope's */
    struct span spdx;
    bool has_recipients; /* false: whoever satisfies the rest; true with an empty list: nobody */
    struct proto_list recipients; /* struct proto_text: institutions */
    bool has_geography;
    struct proto_list geography;   /* struct proto_text: ISO 3166, macros already expanded */
    struct proto_list obligations; /* struct proto_obligation */
    bool hold;                     /* a person approves each request */
    struct proto_list grants;      /* struct proto_grant: alternatives, any one suffices */
    bool has_deidentified;
    struct proto_list
        deidentified; /* struct proto_text, by operation: "age90: yes" is Safe Harbor */
};

MUST_CHECK enum err proto_licence_encode(const struct proto_licence *licence, struct buf *out,
                                         struct err_info *reterr);
/* Errors: those of codec.h; E_UNSUPPORTED another v; E_INVALID parts contradict each other. */
MUST_CHECK enum err proto_licence_decode(struct span bytes, struct arena *arena,
                                         struct proto_licence *ret, struct err_info *reterr);
/* The rules that no single field can state. Errors: E_INVALID, the text names the grant and the
 * rule. */
MUST_CHECK enum err proto_licence_valid(const struct proto_licence *licence,
                                        struct err_info *reterr);

/* The known obligation ids. A commitment (collaborate, publish, return-results, ethics-ref) must
 * have been accepted by the requester; the others bind whoever uses an answer and travel with it. */
bool proto_obligation_known(struct span id, bool *ret_commitment);
/* The known id that is spelled most alike, none when none is close. */
struct span proto_obligation_nearest(struct span id);
/* "EU" and "EEA" become their members (alpha-2); a plain code becomes itself. false: not a code. */
bool proto_geography_expand(const char *code, const char *const **ret_codes, size_t *ret_count);
/* ISO 3166-1 alpha-2 or -2 in form. */
bool proto_geography_valid(struct span code);

#endif
