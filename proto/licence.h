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
 * Threads: pure. Limits: PROTO_LICENCE_*. Format: reference agreements, section 1.2; a new field is a new
 * PROTO_LICENCE_VERSION. */
#ifndef CONCORDAT_PROTO_LICENCE_H
#define CONCORDAT_PROTO_LICENCE_H

#include "proto/body.h"
#include "proto/geography.h"
#include "proto/visa.h"

#define PROTO_LICENCE_VERSION 3
#define PROTO_LICENCE_VERSION_PLAIN                                                                \
    2 /* without visas, so that nodes of the version before read it */
#define PROTO_LICENCE_GRANTS_MAX      8
#define PROTO_LICENCE_MODIFIERS_MAX   18 /* each of DUO's once */
#define PROTO_LICENCE_VISAS_MAX       8
#define PROTO_LICENCE_OBLIGATIONS_MAX 24
#define PROTO_LICENCE_PARENTS_MAX     64

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
const char *proto_action_nearest(const char *name); /* NULL: none is close */

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

/* A parameter of NMDS in derived licences: methods research is excluded inside the grant's own diseases too. */
#define PROTO_NMDS_ALWAYS "always"

struct proto_modifier {
    uint64_t code;            /* DUO number */
    struct proto_list params; /* struct proto_text */
};

enum proto_unit {
    PROTO_UNIT_PATIENT,
    PROTO_UNIT_ROW,
};
/* What epsilon_total bounds: all uses of the dataset, or (not in this version) each purpose's or each requester's. */
enum proto_scope {
    PROTO_SCOPE_DATASET,
    PROTO_SCOPE_PURPOSE,
    PROTO_SCOPE_REQUESTER,
};

struct proto_licence_privacy {
    uint64_t mechanism; /* enum proto_mechanism */
    uint64_t unit;      /* enum proto_unit: whom one unit of epsilon protects */
    uint64_t epsilon_total_u;
    uint64_t epsilon_per_query_u;
    uint64_t epsilon_per_job_u; /* 0: no fine-tuning budget */
    uint64_t delta_e12;
    uint64_t
        min_noise_u; /* least noise of an answer, as a multiple of its sensitivity; 0: none stated */
    uint64_t window_s; /* after which the budget is whole again; 0: never */
    uint64_t scope;    /* enum proto_scope */
};

struct proto_licence_finetune {
    uint64_t max_rounds;
    uint64_t release;      /* enum proto_release */
    uint64_t clip_u;       /* largest clip norm; 0: none stated */
    uint64_t noise_mult_u; /* least noise multiplier; 0: none stated */
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
    struct proto_list
        visas; /* struct proto_visa_wanted; the requester must hold all; from version 3 on */
};

struct proto_obligation {
    struct span id;
    struct span when; /* "use", "publish" or "release-model" */
    struct span text; /* none when absent; of embargo-until and delete-by a date */
};

/* Who may receive results. A list that is not there restricts nothing, an empty one permits nobody, and all lists that
 * are there must hold. */
struct proto_recipients {
    struct proto_list institutions; /* struct proto_text */
    struct proto_list users;
    struct proto_list projects;
    bool
        has_institutions; /* not the first member: offset 0 would read as "no such member" in the codec's table */
    bool has_users;
    bool has_projects;
};

/* A licence record that another one comes from. */
struct proto_parent {
    struct span record_id; /* 16 */
};

struct proto_licence {
    uint64_t v;
    struct span dataset; /* or a model's name: a model has a licence of its own */
    struct span version;
    struct span content_digest; /* 32: SHA-256 of schema and sealed partition; none when absent */
    struct span schema_hash;    /* 32 */
    uint64_t not_before;
    uint64_t expires; /* equal to the envelope's */
    struct span spdx;
    struct proto_recipients recipients;
    bool has_geography;
    struct proto_list geography;   /* struct proto_text: ISO 3166, macros already expanded */
    struct proto_list obligations; /* struct proto_obligation */
    bool hold;                     /* a person approves each request */
    struct span contact;           /* shown when a request is denied; none when absent */
    bool survives_revocation; /* a model made of it stays usable when this licence is withdrawn */
    struct proto_list
        derived_from;         /* struct proto_parent: of a model, its training sets' records */
    struct proto_list grants; /* struct proto_grant: alternatives, any one suffices */
    bool has_deidentified;
    struct proto_list
        deidentified; /* struct proto_text, by operation: "age90: yes" is Safe Harbor */
};

/* The lowest version that can say it. */
uint64_t proto_licence_version(const struct proto_licence *licence);
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

#endif
