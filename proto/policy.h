/* The licence decision: may this request be answered under this licence, and if not, which clause
 * says no?
 *
 * Pure and total: the same values give the same verdict, reason and clauses on every node, so peers
 * and auditors can repeat it. Default deny; one failing clause refutes a grant, DENY beats HOLD
 * beats PERMIT; an absent attribute that a clause needs fails that clause; what is unknown denies.
 * The ledger (is the budget left?) is a second gate of the caller, after this one. All times and
 * identities are the caller's: org, org_type and country come from the requester's MEMBER record,
 * never from what it says of itself.
 *
 *     struct proto_decision decision;                                    // a few KB
 *     proto_policy_decide(&request, &record, licence, forked, ontology, &decision);
 *     if (decision.verdict == PROTO_DENY) { refuse(proto_reason_name(decision.reason)); }
 *
 * Threads: pure, no allocation. Limits: PROTO_POLICY_CLAUSES. Procedure: reference agreements,
 * section 3. */
#ifndef CONCORDAT_PROTO_POLICY_H
#define CONCORDAT_PROTO_POLICY_H

#include "proto/duo.h"
#include "proto/licence.h"
#include "proto/ontology.h"
#include "proto/request.h"
#include "proto/spdx_terms.h"

/* Stable reason codes: X(NAME, error code of a refusal, text for people). Never renumber meaning,
 * never rename. */
#define PROTO_REASONS(X)                                                                           \
    X(NONE, E_OK, "nothing stands against it")                                                     \
    X(BAD_REQUEST, E_REFUSED, "the request is malformed")                                          \
    X(FORKED, E_REFUSED, "the data holder signed two versions of the licence")                     \
    X(NO_LICENSE, E_REFUSED, "the dataset has no licence")                                         \
    X(REVOKED, E_REFUSED, "the licence was withdrawn")                                             \
    X(EXPIRED, E_REFUSED, "the licence has expired")                                               \
    X(NOT_YET, E_REFUSED, "the licence is not yet in force")                                       \
    X(UNSUPPORTED_VERSION, E_REFUSED, "the licence is in a version that this node does not know")  \
    X(LICENSE_INVALID, E_REFUSED, "the licence contradicts itself")                                \
    X(RECIPIENT, E_REFUSED, "the institution is not among the recipients")                         \
    X(GEOGRAPHY, E_REFUSED, "a country lies outside the licence's geography")                      \
    X(PURPOSE, E_REFUSED, "the purpose is not permitted")                                          \
    X(ACTION, E_REFUSED, "the kind of question is not permitted")                                  \
    X(COLUMNS, E_REFUSED, "a column is not permitted")                                             \
    X(SITES, E_REFUSED, "too few institutions take part")                                          \
    X(FINETUNE, E_REFUSED, "fine-tuning is not permitted as asked")                                \
    X(OBLIGATIONS, E_REFUSED, "a duty has not been accepted")                                      \
    X(NOISE, E_REFUSED, "the request asks for less noise than the licence demands")                \
    X(BUDGET, E_BUDGET_EXHAUSTED, "the privacy budget does not cover it")                          \
    X(STEPS_USED_UP, E_BUDGET_EXHAUSTED, "the steps reserved for the job are used up")             \
    X(HOLD, E_APPROVAL, "a person must approve it")                                                \
    X(UNKNOWN_TERM, E_REFUSED, "a disease is not in the ontology")                                 \
    X(UNSUPPORTED, E_UNSUPPORTED, "this version cannot honour it")                                 \
    X(SCHEMA, E_SCHEMA, "the site's schema differs")                                               \
    X(RATE, E_BUSY, "too many requests")                                                           \
    X(SUSPENDED, E_REFUSED, "the dataset is suspended by its operator")                            \
    X(MISSING_INSTITUTION, E_REFUSED, "the request does not say for which institution")            \
    X(MISSING_ORG_TYPE, E_REFUSED, "the requester's kind of organisation is not known")            \
    X(MISSING_COMMERCIAL, E_REFUSED, "the request does not say whether it is commercial")          \
    X(MISSING_COUNTRY, E_REFUSED, "a country is not known")                                        \
    X(MISSING_PERSON, E_REFUSED, "the request does not say who asks")                              \
    X(MISSING_PROJECT, E_REFUSED, "the request belongs to no project")                             \
    X(MISSING_PURPOSE, E_REFUSED, "the request states no purpose")                                 \
    X(MISSING_DISEASE, E_REFUSED, "the request names no disease")                                  \
    X(MISSING_RESEARCH, E_REFUSED, "the request does not say which kind of research it is")        \
    X(MISSING_ETHICS, E_REFUSED, "the request names no valid ethics approval")                     \
    X(MISSING_CLIP, E_REFUSED, "the request states no clip norm")                                  \
    X(MISSING_NOISE, E_REFUSED, "the request states no noise multiplier")                          \
    X(MISSING_EPSILON, E_REFUSED, "the request states no epsilon")                                 \
    X(MISSING_AGREEMENT, E_REFUSED, "a time limit counts from an agreement, and there is none")    \
    X(MODIFIER_UNKNOWN, E_REFUSED, "a modifier of the licence cannot be evaluated")                \
    X(MODIFIER_RS, E_REFUSED, "this kind of research is not permitted")                            \
    X(MODIFIER_NMDS, E_REFUSED, "methods research is not permitted")                               \
    X(MODIFIER_GSO, E_REFUSED, "only genetic studies are permitted")                               \
    X(MODIFIER_NPUNCU, E_REFUSED, "only non-commercial use by non-profit organisations")           \
    X(MODIFIER_PUB, E_REFUSED, "publication of the results has not been accepted")                 \
    X(MODIFIER_COL, E_REFUSED, "collaboration has not been accepted")                              \
    X(MODIFIER_IRB, E_REFUSED, "the ethics approval has expired")                                  \
    X(MODIFIER_GS, E_REFUSED, "a country lies outside the permitted region")                       \
    X(MODIFIER_MOR, E_REFUSED, "the moratorium has no valid date")                                 \
    X(MODIFIER_TS, E_REFUSED, "the time limit on use has passed")                                  \
    X(MODIFIER_US, E_REFUSED, "the person is not among the approved users")                        \
    X(MODIFIER_PS, E_REFUSED, "the project is not among the approved projects")                    \
    X(MODIFIER_IS, E_REFUSED, "the institution is not among the approved institutions")            \
    X(MODIFIER_RTN, E_REFUSED, "return of the results has not been accepted")                      \
    X(MODIFIER_CC, E_REFUSED, "clinical care is not covered")                                      \
    X(MODIFIER_NPOA, E_REFUSED, "ancestry research is prohibited")                                 \
    X(MODIFIER_NPU, E_REFUSED, "for-profit organisations are excluded")                            \
    X(MODIFIER_NCU, E_REFUSED, "commercial use is excluded")                                       \
    X(LICENSE_NONE, E_REFUSED, "the data carry no licence that allows training")                   \
    X(LICENSE_UNKNOWN, E_APPROVAL, "nobody has read this data licence yet")                        \
    X(LICENSE_SYNTAX, E_REFUSED, "the data licence does not parse")                                \
    X(LICENSE_NONCOMMERCIAL, E_REFUSED, "the data licence excludes commercial use")                \
    X(LICENSE_NONPRIVATE, E_REFUSED,                                                               \
      "a model trained without privacy stays with its participants")                               \
    X(LICENSE_RELEASE, E_REFUSED, "the data licences leave no licence for the model")              \
    X(DENIED, E_REFUSED, "a person of the data holder said no")                                    \
    X(CLOCK, E_CLOCK, "the site's clock cannot be trusted")                                        \
    X(LICENSE_TAINTED, E_REFUSED, "a licence that the model was trained under was withdrawn")      \
    X(AGREEMENT, E_REFUSED, "the agreement is not in force or does not cover it")                  \
    X(PROJECT, E_REFUSED, "the project is not published, has ended or does not cover it")          \
    X(MODEL, E_SCHEMA, "the plan means another base model than the one of that name here")         \
    X(LICENSE_SET, E_REFUSED, "the plan relies on other licences than this site knows")            \
    X(PAUSED, E_BUSY, "training is paused at this site, or outside its hours")                     \
    X(MISSING_VISA, E_REFUSED, "nobody whose word counts attests what the licence asks for")       \
    X(VISA, E_REFUSED, "a visa that the licence asks for has expired")

enum proto_reason {
#define X(name, err, text) PROTO_REASON_##name,
    PROTO_REASONS(X)
#undef X
    PROTO_REASON_TOTAL,
};
const char *proto_reason_name(enum proto_reason reason); /* "PURPOSE" */
const char *proto_reason_text(enum proto_reason reason);
enum err proto_reason_err(enum proto_reason reason); /* its exit code is proto_err_exit of this */
bool proto_reason_by_name(const char *name, enum proto_reason *ret);

enum proto_verdict {
    PROTO_PERMIT,
    PROTO_HOLD,
    PROTO_DENY,
};
const char *proto_verdict_name(enum proto_verdict verdict); /* "PERMIT", "HOLD", "DENY" */

enum proto_clause_result {
    PROTO_CLAUSE_PASS,
    PROTO_CLAUSE_FAIL,
    PROTO_CLAUSE_NEEDED, /* an attribute or a person's approval is wanted */
};

/* What is judged: X(NAME, text). Modifiers are judged one by one; each names its code. */
#define PROTO_CLAUSES(X)                                                                           \
    X(REQUEST, "request")                                                                          \
    X(FORK, "fork")                                                                                \
    X(RECORD, "licence")                                                                           \
    X(REVOCATION, "revocation")                                                                    \
    X(VERSION, "version")                                                                          \
    X(ENVELOPE, "envelope")                                                                        \
    X(VALIDITY, "validity")                                                                        \
    X(CONSISTENCY, "consistency")                                                                  \
    X(RECIPIENTS, "recipients")                                                                    \
    X(GEOGRAPHY, "geography")                                                                      \
    X(SECURE, "secure mode")                                                                       \
    X(OBLIGATIONS, "obligations")                                                                  \
    X(DATA_LICENCE, "data licence")                                                                \
    X(DATA_LICENCE_READ, "data licence known")                                                     \
    X(APPROVAL, "approval")                                                                        \
    X(PERMISSION, "permission")                                                                    \
    X(MODIFIER, "modifier")                                                                        \
    X(ACTION, "action")                                                                            \
    X(COLUMNS, "columns")                                                                          \
    X(SITES, "sites")                                                                              \
    X(MODE, "mode")                                                                                \
    X(VISIBILITY, "visibility")                                                                    \
    X(FINETUNE, "finetune")                                                                        \
    X(BUDGET_TERMS, "budget terms")                                                                \
    X(BUDGET, "budget")                                                                            \
    X(NOISE, "noise")                                                                              \
    X(VISA, "visa")

enum proto_clause_id {
#define X(name, text) PROTO_CLAUSE_ID_##name,
    PROTO_CLAUSES(X)
#undef X
    PROTO_CLAUSE_ID_TOTAL,
};

/* One judgement, without texts: a decision is made a million times a second and read by a person once in a while. */
struct proto_clause {
    uint8_t id;       /* enum proto_clause_id */
    uint8_t result;   /* enum proto_clause_result */
    uint8_t reason;   /* enum proto_reason */
    int8_t grant;     /* -1: dataset-wide */
    uint8_t modifier; /* of MODIFIER and VISA: which of the grant's */
    uint8_t job;      /* 1: the request was for training, so that caps are those of a job */
};

/* A duty that an answer or model carries. Spans point into the licence or at constants. */
struct proto_duty {
    struct span id;
    struct span when;
    struct span text;
};

#define PROTO_POLICY_CLAUSES                                                                       \
    (PROTO_CLAUSE_ID_TOTAL +                                                                       \
     PROTO_LICENCE_GRANTS_MAX * (10 + PROTO_LICENCE_MODIFIERS_MAX + PROTO_LICENCE_VISAS_MAX))
#define PROTO_POLICY_DUTIES 40

struct proto_decision {
    enum proto_verdict verdict;
    enum proto_reason reason; /* the first failing clause; HOLD's; or NONE */
    int grant;                /* the grant that permits, -1 none */
    struct proto_clause clauses[PROTO_POLICY_CLAUSES];
    size_t clause_count;
    struct proto_duty duties[PROTO_POLICY_DUTIES];
    size_t duty_count;
    bool
        charged; /* the grant asks for noise: the ledger must admit the charge of epsilon_u, delta_e12 */
    uint64_t epsilon_u; /* the epsilon that is granted, millionths rounded up; the default where
                             none was asked */
    uint64_t delta_e12;
    uint64_t epsilon_total_u; /* of the dataset's one budget, with its delta */
    uint64_t budget_delta_e12;
    uint64_t min_cohort;
    enum proto_release release; /* of a model: the narrower of grant and data licence */
};

/* RECORD NULL: the dataset has no licence record. LICENCE NULL: its body was not understood.
 * ONTOLOGY may be NULL. LICENCE must stay valid while DECISION's duties are used. */
void proto_policy_decide(const struct proto_request *request, const struct proto_record *record,
                         const struct proto_licence *licence, bool forked,
                         const struct proto_ontology *ontology, struct proto_decision *ret);

/* Of a decision on a request whose purpose, promises and agreement nobody has stated yet: NONE where some purpose may still be
 * permitted to this requester for this use, else why none is. What it refutes every purpose refutes; the reverse does not hold. */
enum proto_reason proto_policy_refuted(const struct proto_licence *licence,
                                       const struct proto_decision *decision);

/* "permission", "modifier GS"; and what would make it pass. LICENCE is the one that was decided on, or NULL where there
 * was none. Each writes a C string of at most its SIZE and returns it. */
#define PROTO_CLAUSE_NAME_SIZE     40
#define PROTO_CLAUSE_EXPECTED_SIZE 200
const char *proto_clause_name(const struct proto_licence *licence,
                              const struct proto_clause *clause, char ret[PROTO_CLAUSE_NAME_SIZE]);
const char *proto_clause_expected(const struct proto_licence *licence,
                                  const struct proto_clause *clause,
                                  char ret[PROTO_CLAUSE_EXPECTED_SIZE]);
const char *proto_clause_result_name(uint64_t result); /* "pass", "fail" or "needed" */

/* The grant that permits; else the first of those that came nearest to it, -1 where none was looked at. */
int proto_decision_nearest(const struct proto_decision *decision);
/* Why it is no: the reason's text and, where a number of the nearest grant stands against it, that number. Written as
 * above. */
#define PROTO_DECISION_TEXT_SIZE 320
const char *proto_decision_text(const struct proto_licence *licence,
                                const struct proto_decision *decision,
                                char ret[PROTO_DECISION_TEXT_SIZE]);

/* The decision as bytes that are the same on every node and in every version that judges alike: names in place of
 * numbers, nothing of memory. What the audit chain hashes, so that somebody else can repeat it.
 * Errors: E_LIMIT, E_NO_MEMORY. */
#define PROTO_DECISION_BYTES_MAX 65536
MUST_CHECK enum err proto_decision_encode(const struct proto_licence *licence,
                                          const struct proto_decision *decision, struct buf *out,
                                          struct err_info *reterr);

/* The terms that every question under a licence shares: the dataset's budget. false: no grant asks
 * for noise. */
bool proto_policy_budget(const struct proto_licence *licence, uint64_t *ret_epsilon_total_u,
                         uint64_t *ret_delta_e12);
/* After how many seconds that budget is whole again; 0: never. Only the lifetime cap of the dataset's domain of privacy units then
 * bounds what is lost in all. */
uint64_t proto_policy_window(const struct proto_licence *licence);

#endif
