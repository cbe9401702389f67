/* What a node asks to do with data: who asks, what for, which use of which columns, together with whom.
 *
 * One builder makes a decision request, for questions, for training, for `licence check` and for the tool, so that all
 * of them are judged on the same values. The purpose is what the asker states and signs; the party is what the council
 * attests about it (its MEMBER record) and never what it says of itself.
 *
 *     struct proto_request request;
 *     proto_request_build(&requester, &message.purpose, &use, parties, party_count, now, &request);
 *     proto_policy_decide(&request, ...);
 *
 * Absent is not the same as empty or false: what was not said is absent, and a clause that needs it fails.
 * Threads: pure. Memory: everything is borrowed, a request lives as long as what it was built from. */
#ifndef CONCORDAT_PROTO_REQUEST_H
#define CONCORDAT_PROTO_REQUEST_H

#include "proto/visa.h"

#define PROTO_REQUEST_DISEASES_MAX 32
#define PROTO_REQUEST_ACCEPTED_MAX 32
#define PROTO_REQUEST_AGREEMENTS   16

/* Kinds of research that a request declares: X(NAME, text) in bit order */
#define PROTO_RESEARCH_TYPES(X)                                                                    \
    X(METHODS, "methods")                                                                          \
    X(ANCESTRY, "ancestry")                                                                        \
    X(GENETIC, "genetic")                                                                          \
    X(DRUGDEV, "drugdev")                                                                          \
    X(CONTROL_SET, "control-set")                                                                  \
    X(AGE_CATEGORY, "ageCat")                                                                      \
    X(SEX_CATEGORY, "sexCat")                                                                      \
    X(POPULATION_GROUP, "popGroup")                                                                \
    X(SENSITIVE,                                                                                   \
      "sensitive") /* vulnerable groups, stigmatised conditions: always a person's decision */

enum proto_research {
#define X(name, text) PROTO_RESEARCH_##name,
    PROTO_RESEARCH_TYPES(X)
#undef X
    PROTO_RESEARCH_TOTAL,
};
#define PROTO_RESEARCH_BIT(type) (UINT64_C(1) << (type))
#define PROTO_RESEARCH_ALL       (PROTO_RESEARCH_BIT(PROTO_RESEARCH_TOTAL) - 1)
const char *proto_research_name(enum proto_research type);
bool proto_research_by_name(struct span name, enum proto_research *ret);
/* A list of struct proto_text into bits. Errors: E_INVALID, the text names the odd one and the nearest. */
MUST_CHECK enum err proto_research_parse(const struct proto_list *names, uint64_t *ret,
                                         struct err_info *reterr);

/* Spans without bytes: not known. */
struct proto_party {
    struct span node;
    struct span org;
    struct span org_type; /* "nonprofit", "forprofit" or "government" */
    struct span country;
};

/* What the asker states; part of every signed question and plan. */
struct proto_purpose {
    struct span person;
    struct span project;
    uint64_t permission;        /* DUO number, the most specific purpose; 0 none stated; 31: methods
                                   development alone */
    struct proto_list diseases; /* struct proto_text */
    bool has_research;          /* false: nobody said what kind of research it is */
    uint64_t research;          /* PROTO_RESEARCH_BITs */
    bool has_commercial;
    bool commercial;
    struct span ethics_ref;     /* none when absent */
    uint64_t ethics_expires;    /* unix seconds */
    struct proto_list accepted; /* struct proto_text: obligations that the asker promises */
    struct proto_list
        agreements; /* struct proto_purpose_agreement: made with the sites that are asked */
};
struct proto_purpose_agreement {
    struct span id; /* 16 */
};
extern const struct proto_message proto_purpose_message;

/* What is to be done. */
struct proto_use {
    uint64_t actions;          /* PROTO_ACTION_BITs of licence.h; all must be granted */
    struct proto_list columns; /* struct proto_text */
    double epsilon;            /* 0: none stated; a question then takes min(0.5, cap) */
    double delta;              /* 0: none stated; the licence's */
    uint64_t rounds;           /* of a job */
    double clip;               /* of a job: the clip norm; 0 none stated */
    double noise_multiplier;   /* of a job, where it is known before the decision; 0 none stated */
    bool secure;               /* asks for secure aggregation */
    bool nonprivate;           /* a job without noise */
};

struct proto_request {
    struct proto_party requester;
    struct proto_purpose purpose;
    uint64_t actions;
    struct proto_list columns;
    uint64_t epsilon_u; /* millionths, rounded up */
    uint64_t delta_e12; /* rounded up */
    uint64_t rounds;
    uint64_t clip_u;
    uint64_t noise_multiplier_u; /* rounded down: less noise than stated must never pass */
    bool secure;
    bool nonprivate;
    bool malformed;        /* a number was not finite, negative or too large */
    uint64_t institutions; /* distinct, in the signed list of sites of the question or plan */
    const struct proto_party *sites;
    size_t site_count;
    int64_t now;
    int64_t
        agreement_start; /* unix seconds when the requester's agreement began; 0: there is none */
    const struct proto_visa_held
        *visas; /* what is known about the requester, set after the builder */
    size_t visa_count;
};

/* Total: what cannot be right makes the request malformed, and a malformed one is refused. */
void proto_request_build(const struct proto_party *requester, const struct proto_purpose *purpose,
                         const struct proto_use *use, const struct proto_party *sites,
                         size_t site_count, int64_t now, struct proto_request *ret);

#endif
