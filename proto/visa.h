/* Visas: what one member attests about a person or project of another, in the shape of GA4GH passport visas; and which
 * of them a grant asks for.
 *
 *     enum proto_visa_standing standing = proto_visa_standing(&wanted, held, count, &whose, now);
 *
 * A visa is a signed record of its issuer (PROTO_RECORD_VISA), so that whoever sees it can tell who said it; its end of
 * validity is the envelope's. It counts where a grant names its type, its very value and its issuer's institution: nobody is
 * trusted by default, and what a node attests about its own people counts only where it is named. Values are compared
 * byte for byte. A visa with `conditions` counts only beside others that meet them: all of one of its alternatives, each by a
 * visa about the same person or project that stands, has no conditions itself, and is of an institution that the grant names.
 * Of GA4GH's ways to write a condition const: and pattern: (with * and ?) are understood; anything else is never met.
 * Threads: pure. Shape: GA4GH Passport v1 (ga4gh-duri, researcher_ids); LinkedIdentities has no use here. */
#ifndef CONCORDAT_PROTO_VISA_H
#define CONCORDAT_PROTO_VISA_H

#include "proto/body.h"

#define PROTO_VISA_VALUE_MAX  256
#define PROTO_VISA_SOURCE_MAX 128
#define PROTO_VISA_AHEAD_S    300 /* how far ahead its issuer's clock may be, as in node/query/clock */

/* X(NAME, text): of what a visa is */
#define PROTO_VISA_TYPES(X)                                                                        \
    X(AFFILIATION, "AffiliationAndRole")                                                           \
    X(TERMS, "AcceptedTermsAndPolicies")                                                           \
    X(RESEARCHER, "ResearcherStatus")                                                              \
    X(ACCESS, "ControlledAccessGrants")
/* X(NAME, text): on whose word, in the order of GA4GH */
#define PROTO_VISA_BYS(X)                                                                          \
    X(SELF, "self")                                                                                \
    X(PEER, "peer")                                                                                \
    X(SYSTEM, "system")                                                                            \
    X(SO, "so")                                                                                    \
    X(DAC, "dac")

bool proto_visa_type_known(struct span type);
bool proto_visa_by_known(struct span by);
/* The known one that is spelled most alike; NULL: none is close. */
const char *proto_visa_type_nearest(const char *type);
const char *proto_visa_by_nearest(const char *by);
/* Whether the body says something that can be true. Errors: E_INVALID, the text names the member. */
MUST_CHECK enum err proto_visa_valid(const struct proto_visa *visa, struct err_info *reterr);

/* What a grant asks for. */
struct proto_visa_wanted {
    struct span type;
    struct span value;
    struct proto_list by;      /* struct proto_text: on whose word; empty: on anybody's */
    struct proto_list issuers; /* struct proto_text: institutions whose visas count; never empty */
};
extern const struct proto_message proto_visa_wanted_message;
/* NULL where it can be met, else what is wrong with it. */
const char *proto_visa_wanted_fault(const struct proto_visa_wanted *wanted);
/* Whoever meets A meets B. */
bool proto_visa_wanted_implies(const struct proto_visa_wanted *a,
                               const struct proto_visa_wanted *b);
bool proto_visa_wanted_equal(const struct proto_visa_wanted *a, const struct proto_visa_wanted *b);

/* One that is known about a requester. Its issuer is a member and has not taken it back. */
struct proto_visa_held {
    struct proto_visa visa;
    struct span institution; /* the issuer's, as the council attests it */
    uint64_t expires;        /* the record's, unix seconds */
};

/* Of whom it must speak. */
struct proto_visa_subject {
    struct span node; /* 16 */
    struct span person;
    struct span project;
};

/* Whether VISA is such a one, whoever issued it and whenever. */
bool proto_visa_meets(const struct proto_visa_condition *condition, const struct proto_visa *visa);

enum proto_visa_standing {
    PROTO_VISA_MISSING,
    PROTO_VISA_EXPIRED, /* there was one */
    PROTO_VISA_STANDS,
};
enum proto_visa_standing proto_visa_standing(const struct proto_visa_wanted *wanted,
                                             const struct proto_visa_held *held, size_t count,
                                             const struct proto_visa_subject *of, int64_t now);

/* `ControlledAccessGrants "https://..." by org-a or org-b`, for people; writes a C string and returns it. */
const char *proto_visa_wanted_text(const struct proto_visa_wanted *wanted, char *ret, size_t size);

#endif
