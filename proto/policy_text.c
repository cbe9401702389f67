/* Names and texts of decisions, for people. Nothing here is part of a verdict. */
#include "config.h"
#include "proto/policy.h"

#include <stdio.h>

static const struct {
    const char *name;
    enum err err;
    const char *text;
} reasons[PROTO_REASON_TOTAL] = {
#define X(name, err, text) {#name, err, text},
    PROTO_REASONS(X)
#undef X
};

static enum proto_reason known_reason(enum proto_reason reason)
{
    return (unsigned)reason < PROTO_REASON_TOTAL ? reason : PROTO_REASON_BAD_REQUEST;
}

const char *proto_reason_name(enum proto_reason reason)
{
    return reasons[known_reason(reason)].name;
}

const char *proto_reason_text(enum proto_reason reason)
{
    return reasons[known_reason(reason)].text;
}

enum err proto_reason_err(enum proto_reason reason)
{
    return reasons[known_reason(reason)].err;
}

bool proto_reason_by_name(const char *name, enum proto_reason *ret)
{
    for (int i = 0; i < PROTO_REASON_TOTAL; i++) {
        if (strcmp(reasons[i].name, name) == 0) {
            *ret = (enum proto_reason)i;
            return true;
        }
    }
    return false;
}

const char *proto_verdict_name(enum proto_verdict verdict)
{
    return verdict == PROTO_PERMIT ? "PERMIT" : verdict == PROTO_HOLD ? "HOLD" : "DENY";
}

const char *proto_clause_result_name(uint64_t result)
{
    return result == PROTO_CLAUSE_PASS ? "pass" : result == PROTO_CLAUSE_FAIL ? "fail" : "needed";
}

/* --- Clauses -------------------------------------------------------------------------------------------- */

static const char *const clause_names[PROTO_CLAUSE_ID_TOTAL] = {
#define X(name, text) text,
    PROTO_CLAUSES(X)
#undef X
};

/* What would make a clause pass, where that is the same for every licence. */
static const char *const fixed_texts[PROTO_CLAUSE_ID_TOTAL] = {
    [PROTO_CLAUSE_ID_REQUEST] = "an action, an epsilon in range, a time",
    [PROTO_CLAUSE_ID_FORK] = "one history of the licence",
    [PROTO_CLAUSE_ID_RECORD] = "a licence record",
    [PROTO_CLAUSE_ID_REVOCATION] = "a licence that was not withdrawn",
    [PROTO_CLAUSE_ID_VERSION] = "a licence that this version understands",
    [PROTO_CLAUSE_ID_ENVELOPE] = "one end of validity in record and licence",
    [PROTO_CLAUSE_ID_VALIDITY] = "inside the licence's time window",
    [PROTO_CLAUSE_ID_CONSISTENCY] = "a licence whose parts agree",
    [PROTO_CLAUSE_ID_RECIPIENTS] = "a recipient that the licence names",
    [PROTO_CLAUSE_ID_GEOGRAPHY] = "a country that the licence names",
    [PROTO_CLAUSE_ID_SECURE] = "mode per-node in this version",
    [PROTO_CLAUSE_ID_OBLIGATIONS] = "the duties that need a promise, accepted",
    [PROTO_CLAUSE_ID_DATA_LICENCE] = "a data licence that allows training",
    [PROTO_CLAUSE_ID_DATA_LICENCE_READ] = "a person who read the data licence",
    [PROTO_CLAUSE_ID_APPROVAL] = "approval by a person of the data holder",
    [PROTO_CLAUSE_ID_ACTION] = "an action that the grant names",
    [PROTO_CLAUSE_ID_COLUMNS] = "columns that the grant names",
    [PROTO_CLAUSE_ID_MODE] = "mode any and min_sites 1 in this version",
    [PROTO_CLAUSE_ID_BUDGET_TERMS] = "one budget for the dataset's life, in this version",
    [PROTO_CLAUSE_ID_VISIBILITY] = "noise, or visible: site on unrestricted data",
};

static const struct proto_grant *grant_of(const struct proto_licence *licence,
                                          const struct proto_clause *clause)
{
    bool there = licence && clause->grant >= 0 && (size_t)clause->grant < licence->grants.count;
    return there ? (const struct proto_grant *)licence->grants.items + clause->grant : NULL;
}

static const struct proto_modifier *modifier_of(const struct proto_licence *licence,
                                                const struct proto_clause *clause)
{
    const struct proto_grant *grant = grant_of(licence, clause);
    bool there = grant && clause->modifier < grant->modifiers.count;
    return there ? (const struct proto_modifier *)grant->modifiers.items + clause->modifier : NULL;
}

static const struct proto_visa_wanted *visa_of(const struct proto_licence *licence,
                                               const struct proto_clause *clause)
{
    const struct proto_grant *grant = grant_of(licence, clause);
    bool there = grant && clause->modifier < grant->visas.count;
    return there ? (const struct proto_visa_wanted *)grant->visas.items + clause->modifier : NULL;
}

const char *proto_clause_name(const struct proto_licence *licence,
                              const struct proto_clause *clause, char ret[PROTO_CLAUSE_NAME_SIZE])
{
    const struct proto_visa_wanted *visa =
        clause->id == PROTO_CLAUSE_ID_VISA ? visa_of(licence, clause) : NULL;
    if (visa) {
        snprintf(ret, PROTO_CLAUSE_NAME_SIZE, "visa %.*s", (int)visa->type.len,
                 (const char *)visa->type.ptr);
        return ret;
    }
    const struct proto_modifier *modifier =
        clause->id == PROTO_CLAUSE_ID_MODIFIER ? modifier_of(licence, clause) : NULL;
    snprintf(ret, PROTO_CLAUSE_NAME_SIZE, "%s%s%s",
             clause->id < PROTO_CLAUSE_ID_TOTAL ? clause_names[clause->id] : "unknown",
             modifier ? " " : "", modifier ? proto_duo_name(modifier->code) : "");
    return ret;
}

/* "label: first, second, ..." */
static void list_after(char *ret, size_t size, const char *label, const struct proto_list *list)
{
    const struct proto_text *items = list->items;
    size_t at = (size_t)snprintf(ret, size, "%s", label);
    for (size_t i = 0; i < list->count && at < size; i++) {
        size_t room = size - at;
        int n = snprintf(ret + at, room, "%s%.*s", i ? ", " : ": ", (int)items[i].text.len,
                         (const char *)items[i].text.ptr);
        if ((size_t)n >= room) {
            memcpy(ret + size - 4, "...", 4);
        }
        at += (size_t)n;
    }
}

/* Bounds are told to their last digit: who asks for what is printed gets it. */
static void noise_text(char *ret, size_t size, const struct proto_grant *grant, bool job)
{
    const struct proto_licence_privacy *privacy = &grant->privacy;
    bool noisy = privacy->mechanism != PROTO_MECHANISM_NONE;
    uint64_t cap = job ? privacy->epsilon_per_job_u : privacy->epsilon_per_query_u;
    uint64_t least = privacy->min_noise_u;
    if (job && grant->has_finetune && grant->finetune.noise_mult_u > least) {
        least = grant->finetune.noise_mult_u;
    }
    int n = snprintf(ret, size, "epsilon at most %.12g and delta at most %.12g a %s",
                     (double)(noisy ? cap : 0) / 1e6, (double)privacy->delta_e12 / 1e12,
                     job ? "job" : "question");
    if (least && n > 0 && (size_t)n < size) {
        snprintf(ret + n, size - (size_t)n, ", noise of at least %.6g times the sensitivity",
                 (double)least / 1e6);
    }
}

static void finetune_text(char *ret, size_t size, const struct proto_grant *grant)
{
    if (!grant->has_finetune) {
        snprintf(ret, size, "a grant with fine-tuning");
        return;
    }
    int n = snprintf(ret, size, "between 1 and %llu rounds",
                     (unsigned long long)grant->finetune.max_rounds);
    if (grant->finetune.clip_u && n > 0 && (size_t)n < size) {
        snprintf(ret + n, size - (size_t)n, ", a clip norm of at most %.6g",
                 (double)grant->finetune.clip_u / 1e6);
    }
}

static void grant_text(char *ret, size_t size, const struct proto_grant *grant,
                       const struct proto_modifier *modifier, const struct proto_clause *clause)
{
    switch (clause->id) {
    case PROTO_CLAUSE_ID_PERMISSION:
        list_after(ret, size, proto_duo_label(grant->permission), &grant->diseases);
        break;
    case PROTO_CLAUSE_ID_MODIFIER:
        if (modifier) {
            list_after(ret, size, proto_duo_label(modifier->code), &modifier->params);
        }
        break;
    case PROTO_CLAUSE_ID_SITES:
        snprintf(ret, size, "at least %llu institutions", (unsigned long long)grant->min_sites);
        break;
    case PROTO_CLAUSE_ID_FINETUNE:
        finetune_text(ret, size, grant);
        break;
    case PROTO_CLAUSE_ID_BUDGET:
        snprintf(ret, size, "at most the dataset's whole epsilon, %.12g",
                 (double)grant->privacy.epsilon_total_u / 1e6);
        break;
    case PROTO_CLAUSE_ID_NOISE:
        noise_text(ret, size, grant, clause->job);
        break;
    default:
        break;
    }
}

const char *proto_clause_expected(const struct proto_licence *licence,
                                  const struct proto_clause *clause,
                                  char ret[PROTO_CLAUSE_EXPECTED_SIZE])
{
    const struct proto_grant *grant = grant_of(licence, clause);
    const char *fixed = clause->id < PROTO_CLAUSE_ID_TOTAL ? fixed_texts[clause->id] : NULL;
    ret[0] = 0;
    const struct proto_visa_wanted *visa =
        clause->id == PROTO_CLAUSE_ID_VISA ? visa_of(licence, clause) : NULL;
    if (fixed) {
        snprintf(ret, PROTO_CLAUSE_EXPECTED_SIZE, "%s", fixed);
    } else if (visa) {
        proto_visa_wanted_text(visa, ret, PROTO_CLAUSE_EXPECTED_SIZE);
    } else if (grant) {
        grant_text(ret, PROTO_CLAUSE_EXPECTED_SIZE, grant, modifier_of(licence, clause), clause);
    }
    return ret;
}

int proto_decision_nearest(const struct proto_decision *decision)
{
    size_t faults[PROTO_LICENCE_GRANTS_MAX] = {0};
    int nearest = -1;
    int seen = -1;
    for (size_t i = 0; i < decision->clause_count; i++) {
        const struct proto_clause *clause = &decision->clauses[i];
        if (clause->grant >= 0 && clause->grant < PROTO_LICENCE_GRANTS_MAX) {
            faults[clause->grant] += clause->result != PROTO_CLAUSE_PASS;
            seen = clause->grant > seen ? (int)clause->grant : seen;
        }
    }
    for (int grant = 0; grant <= seen; grant++) {
        nearest = nearest < 0 || faults[grant] < faults[nearest] ? grant : nearest;
    }
    return decision->grant >= 0 ? decision->grant : nearest;
}

/* What fails in the nearest grant and has a number; of epsilon the cap for one use, which is the tighter. */
static const struct proto_clause *numbered(const struct proto_decision *decision)
{
    static const uint8_t ids[] = {PROTO_CLAUSE_ID_NOISE, PROTO_CLAUSE_ID_BUDGET,
                                  PROTO_CLAUSE_ID_SITES, PROTO_CLAUSE_ID_FINETUNE};
    int nearest = proto_decision_nearest(decision);
    for (size_t k = 0; k < sizeof ids; k++) {
        bool epsilon = ids[k] == PROTO_CLAUSE_ID_NOISE && decision->reason == PROTO_REASON_BUDGET;
        for (size_t i = 0; i < decision->clause_count; i++) {
            const struct proto_clause *clause = &decision->clauses[i];
            if (clause->grant == nearest && clause->id == ids[k] &&
                clause->result != PROTO_CLAUSE_PASS &&
                (epsilon || clause->reason == (uint64_t)decision->reason)) {
                return clause;
            }
        }
    }
    return NULL;
}

const char *proto_decision_text(const struct proto_licence *licence,
                                const struct proto_decision *decision,
                                char ret[PROTO_DECISION_TEXT_SIZE])
{
    char expected[PROTO_CLAUSE_EXPECTED_SIZE] = "";
    const struct proto_clause *clause = numbered(decision);
    if (clause) {
        proto_clause_expected(licence, clause, expected);
    }
    snprintf(ret, PROTO_DECISION_TEXT_SIZE, "%s%s%s", proto_reason_text(decision->reason),
             expected[0] ? ": " : "", expected);
    return ret;
}

/* --- Decisions as bytes ----------------------------------------------------------------------------------- */

struct clause_out {
    struct span clause;
    struct span result;
    struct span reason;
    int64_t grant;
};
static const struct proto_field clause_fields[] = {
    PROTO_FIELD(struct clause_out, clause, PROTO_STR, 1, PROTO_CLAUSE_NAME_SIZE),
    PROTO_FIELD(struct clause_out, result, PROTO_STR, 1, 8),
    PROTO_FIELD(struct clause_out, reason, PROTO_STR, 1, 64),
    PROTO_FIELD(struct clause_out, grant, PROTO_I64, -1, PROTO_LICENCE_GRANTS_MAX),
};
static const struct proto_message clause_message =
    PROTO_MESSAGE("clause", struct clause_out, clause_fields);

static const struct proto_field duty_fields[] = {
    PROTO_FIELD(struct proto_duty, id, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_duty, when, PROTO_STR, 1, 16),
    PROTO_FIELD_OPTIONAL(struct proto_duty, text, PROTO_STR, 1, 512),
};
static const struct proto_message duty_message =
    PROTO_MESSAGE("duty", struct proto_duty, duty_fields);

struct decision_out {
    struct span verdict;
    struct span reason;
    int64_t grant;
    struct proto_list clauses;
    struct proto_list duties;
    bool charged;
    uint64_t epsilon_u;
    uint64_t delta_e12;
    uint64_t min_cohort;
    struct span release;
};
static const struct proto_field decision_fields[] = {
    PROTO_FIELD(struct decision_out, verdict, PROTO_STR, 1, 8),
    PROTO_FIELD(struct decision_out, reason, PROTO_STR, 1, 64),
    PROTO_FIELD(struct decision_out, grant, PROTO_I64, -1, PROTO_LICENCE_GRANTS_MAX),
    PROTO_FIELD_LIST(struct decision_out, clauses, &clause_message, 0, PROTO_POLICY_CLAUSES),
    PROTO_FIELD_LIST(struct decision_out, duties, &duty_message, 0, PROTO_POLICY_DUTIES),
    PROTO_FIELD(struct decision_out, charged, PROTO_BOOL, 0, 0),
    PROTO_FIELD(struct decision_out, epsilon_u, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct decision_out, delta_e12, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct decision_out, min_cohort, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct decision_out, release, PROTO_STR, 1, 16),
};
static const struct proto_message decision_message =
    PROTO_MESSAGE("decision", struct decision_out, decision_fields);

enum err proto_decision_encode(const struct proto_licence *licence,
                               const struct proto_decision *decision, struct buf *out,
                               struct err_info *reterr)
{
    struct arena arena = {0};
    struct clause_out *clauses = arena_alloc(&arena, decision->clause_count + 1, sizeof *clauses);
    char(*names)[PROTO_CLAUSE_NAME_SIZE] =
        arena_alloc(&arena, decision->clause_count + 1, sizeof *names);
    enum err err = clauses && names ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < decision->clause_count; i++) {
        const struct proto_clause *clause = &decision->clauses[i];
        clauses[i] = (struct clause_out){
            .clause = span_str(proto_clause_name(licence, clause, names[i])),
            .result = span_str(proto_clause_result_name(clause->result)),
            .reason = span_str(proto_reason_name((enum proto_reason)clause->reason)),
            .grant = clause->grant,
        };
    }
    struct decision_out body = {
        .verdict = span_str(proto_verdict_name(decision->verdict)),
        .reason = span_str(proto_reason_name(decision->reason)),
        .grant = decision->grant,
        .clauses = {clauses, decision->clause_count},
        .duties = {(void *)(uintptr_t)decision->duties, decision->duty_count},
        .charged = decision->charged,
        .epsilon_u = decision->epsilon_u,
        .delta_e12 = decision->delta_e12,
        .min_cohort = decision->min_cohort,
        .release = span_str(proto_release_name(decision->release)),
    };
    err = err ? err : proto_codec_encode(&decision_message, &body, out, reterr);
    arena_fini(&arena);
    return err;
}
