/* licence new: asks a data holder what a licence needs and writes the manifest's `licence:` block. On a terminal a wrong
 * answer is asked again; with --answers FILE ("key: value" lines) it is named with its line. The block is read back by
 * the manifest's own reader before it is written, so that what comes out is accepted by `dataset import`. */
#include "config.h"
#include "node/cli/cli.h"

#include "node/config/yaml.h"
#include "proto/duo.h"
#include "proto/nearest.h"
#include "proto/ontology.h"
#include "proto/spdx_terms.h"
#include "proto/time.h"
#include "proto/visa.h"
#include "store/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ANSWER_MAX 1024

struct answers {
    struct arena *arena;
    const char *values[32]; /* by number of question; never NULL once asked */
    const char *path;       /* of --answers; NULL: a terminal */
    const char *given[32];  /* from the file */
    size_t lines[32];
    struct err_info *reterr;
};

/* --- What an answer may be ------------------------------------------------------------------------ */

typedef enum err checker(const char *text, struct err_info *reterr);

/* Calls CHECK with each part of "a, b, c". */
static enum err each(const char *text, checker *check, struct err_info *reterr)
{
    char part[ANSWER_MAX];
    enum err err = E_OK;
    while (!err && *text) {
        text += strspn(text, ", ");
        size_t len = strcspn(text, ",");
        size_t end = len;
        while (end && text[end - 1] == ' ') {
            end--;
        }
        snprintf(part, sizeof part, "%.*s", (int)end, text);
        err = end ? check(part, reterr) : E_OK;
        text += len;
    }
    return err;
}

static enum err check_spdx(const char *text, struct err_info *reterr)
{
    struct proto_spdx_terms terms;
    return proto_spdx_terms_of(span_str(text), PROTO_READING_CONSERVATIVE, &terms, reterr);
}

static enum err check_date(const char *text, struct err_info *reterr)
{
    int32_t days;
    return proto_time_parse_date(text, &days)
               ? E_OK
               : proto_err_set(reterr, E_INVALID,
                               "not a date: write YYYY-MM-DD, such as 2030-12-31");
}

static enum err check_date_or_none(const char *text, struct err_info *reterr)
{
    return *text ? check_date(text, reterr) : E_OK;
}

static enum err check_permission(const char *text, struct err_info *reterr)
{
    uint64_t code;
    enum err err = proto_duo_parse(text, &code, reterr);
    return err || proto_duo_is_permission(code)
               ? err
               : proto_err_set(reterr, E_INVALID, "%s is no permission: GRU, HMB, DS, POA or NRES",
                               text);
}

static enum err check_disease(const char *text, struct err_info *reterr)
{
    return proto_curie_check(span_str(text), reterr);
}

static enum err check_diseases(const char *text, struct err_info *reterr)
{
    return *text ? each(text, check_disease, reterr)
                 : proto_err_set(reterr, E_INVALID, "at least one disease, such as MONDO:0004992");
}

static enum err check_place(const char *text, struct err_info *reterr)
{
    return proto_geography_check(span_str(text), reterr);
}

static enum err check_places(const char *text, struct err_info *reterr)
{
    return each(text, check_place, reterr);
}

static enum err check_action(const char *text, struct err_info *reterr)
{
    enum proto_action action;
    if (proto_action_by_name(text, &action) && action != PROTO_ACTION_FINETUNE) {
        return E_OK;
    }
    const char *near = proto_action_nearest(text);
    return proto_err_set(reterr, E_INVALID, "no question is called %s%s%s", text,
                         near ? "; the nearest is " : "", near ? near : "");
}

static enum err check_actions(const char *text, struct err_info *reterr)
{
    return each(text, check_action, reterr);
}

static enum err check_yes_no(const char *text, struct err_info *reterr)
{
    return strcmp(text, "yes") == 0 || strcmp(text, "no") == 0
               ? E_OK
               : proto_err_set(reterr, E_INVALID, "yes or no");
}

static enum err check_use(const char *text, struct err_info *reterr)
{
    static const char *const uses[] = {"any", "nonprofit", "noncommercial", "both"};
    for (size_t i = 0; i < 4; i++) {
        if (strcmp(text, uses[i]) == 0) {
            return E_OK;
        }
    }
    const char *near = proto_suggest(uses, 4, text);
    return proto_err_set(reterr, E_INVALID, "any, nonprofit, noncommercial or both%s%s",
                         near ? "; the nearest is " : "", near ? near : "");
}

static enum err check_release(const char *text, struct err_info *reterr)
{
    for (uint64_t i = 0; i <= PROTO_RELEASE_PUBLIC; i++) {
        if (strcmp(text, proto_release_name(i)) == 0) {
            return E_OK;
        }
    }
    return proto_err_set(reterr, E_INVALID, "federation, recipients or public");
}

static enum err check_count(const char *text, struct err_info *reterr)
{
    size_t len = strlen(text);
    return len >= 1 && len <= 6 && strspn(text, "0123456789") == len && *text != '0'
               ? E_OK
               : proto_err_set(reterr, E_INVALID, "a whole number from 1 to 999999");
}

static enum err check_number(const char *text, struct err_info *reterr)
{
    char *end;
    double value = strtod(text, &end);
    return *text && !*end && strspn(text, "0123456789.eE+-") == strlen(text) && value > 0 &&
                   value <= 1e6
               ? E_OK
               : proto_err_set(reterr, E_INVALID, "a number above 0, such as 0.5");
}

static enum err check_text(const char *text, struct err_info *reterr)
{
    for (const char *p = text; *p; p++) {
        if (*p < 0x20 || *p == '"' || *p == '\\') {
            return proto_err_set(reterr, E_INVALID, "plain text without quotes");
        }
    }
    return strlen(text) <= 256 ? E_OK : proto_err_set(reterr, E_INVALID, "at most 256 letters");
}

static enum err check_visa_type(const char *text, struct err_info *reterr)
{
    if (proto_visa_type_known(span_str(text))) {
        return E_OK;
    }
    const char *near = proto_visa_type_nearest(text);
    return proto_err_set(reterr, E_INVALID, "no visa is called %.64s%s%s", text,
                         near ? "; the nearest is " : "", near ? near : "");
}

static enum err check_visa_value(const char *text, struct err_info *reterr)
{
    return *text ? check_text(text, reterr)
                 : proto_err_set(reterr, E_INVALID, "what the visa must say, letter for letter");
}

static enum err check_names(const char *text, struct err_info *reterr)
{
    return strspn(text, ", ") < strlen(text)
               ? check_text(text, reterr)
               : proto_err_set(reterr, E_INVALID, "at least one institution");
}

static enum err check_by(const char *text, struct err_info *reterr)
{
    if (proto_visa_by_known(span_str(text))) {
        return E_OK;
    }
    const char *near = proto_visa_by_nearest(text);
    return proto_err_set(reterr, E_INVALID, "self, peer, system, so or dac%s%s",
                         near ? "; the nearest is " : "", near ? near : "");
}

static enum err check_bys(const char *text, struct err_info *reterr)
{
    return each(text, check_by, reterr);
}

/* --- The questions -------------------------------------------------------------------------------- */

enum question {
    SPDX,
    EXPIRES,
    PERMISSION,
    DISEASE,
    USE,
    GEOGRAPHY,
    INSTITUTIONS,
    VISA,
    VISA_VALUE,
    VISA_ISSUERS,
    VISA_BY,
    ETHICS,
    PUBLISH,
    COLLABORATE,
    EMBARGO,
    ACTIONS,
    COHORT,
    EPSILON,
    PER_QUERY,
    DELTA,
    TRAINING,
    ROUNDS,
    PER_JOB,
    RELEASE,
    APPROVAL,
    CONTACT,
    QUESTIONS,
};
#define ALWAYS QUESTIONS

static const struct {
    const char *key;
    const char *text;
    const char *otherwise; /* the answer to an empty line; NULL: there must be one */
    checker *check;
    enum question when; /* asked only if that question was answered with `is` */
    const char *is;     /* NULL: answered with anything */
} questions[QUESTIONS] = {
    [SPDX] = {"spdx", "Licence of the data (an SPDX expression, such as CC-BY-4.0)", NULL,
              check_spdx, ALWAYS, NULL},
    [EXPIRES] = {"expires", "Last day on which it holds (YYYY-MM-DD)", NULL, check_date, ALWAYS,
                 NULL},
    [PERMISSION] = {"permission",
                    "For which research? GRU any, HMB health, DS named diseases, POA ancestry, "
                    "NRES no restriction",
                    "HMB", check_permission, ALWAYS, NULL},
    [DISEASE] = {"disease", "Which diseases? (MONDO, DOID, EFO or ICD10, with commas)", NULL,
                 check_diseases, PERMISSION, "DS"},
    [USE] = {"use",
             "Who may use it? any, nonprofit (no companies), noncommercial (no commercial use), "
             "both",
             "any", check_use, ALWAYS, NULL},
    [GEOGRAPHY] = {"geography", "In which countries? (DE, EU, EEA, with commas; empty: anywhere)",
                   "", check_places, ALWAYS, NULL},
    [INSTITUTIONS] = {"institutions", "Only these institutions (with commas; empty: any member)",
                      "", check_text, ALWAYS, NULL},
    [VISA] = {"visa",
              "Which visa must the requester hold? AffiliationAndRole, AcceptedTermsAndPolicies, "
              "ResearcherStatus, ControlledAccessGrants (empty: none)",
              "", check_visa_type, ALWAYS, NULL},
    [VISA_VALUE] = {"visa_value", "What must it say, letter for letter?", NULL, check_visa_value,
                    VISA, NULL},
    [VISA_ISSUERS] = {"visa_issuers", "Whose word counts? (institutions, with commas)", NULL,
                      check_names, VISA, NULL},
    [VISA_BY] = {"visa_by",
                 "On whose authority? self, peer, system, so, dac (with commas; empty: any)", "",
                 check_bys, VISA, NULL},
    [ETHICS] = {"ethics", "Must the requester have an ethics approval? yes or no", "no",
                check_yes_no, ALWAYS, NULL},
    [PUBLISH] = {"publish", "Must results be published? yes or no", "no", check_yes_no, ALWAYS,
                 NULL},
    [COLLABORATE] = {"collaborate", "Must the requester collaborate with you? yes or no", "no",
                     check_yes_no, ALWAYS, NULL},
    [EMBARGO] = {"embargo", "Nothing is published before (YYYY-MM-DD; empty: no embargo)", "",
                 check_date_or_none, ALWAYS, NULL},
    [ACTIONS] = {"actions",
                 "Which questions? count, sum, mean, variance, quantile, histogram, regression, "
                 "survival, evaluate",
                 "count, sum, mean, variance, quantile, histogram, regression, survival, evaluate",
                 check_actions, ALWAYS, NULL},
    [COHORT] = {"min_cohort", "Smallest group that is shown", "11", check_count, ALWAYS, NULL},
    [EPSILON] = {"epsilon_total", "Privacy budget of the dataset's whole life (epsilon)", "8",
                 check_number, ALWAYS, NULL},
    [PER_QUERY] = {"epsilon_per_query", "At most for one question", "1", check_number, ALWAYS,
                   NULL},
    [DELTA] = {"delta", "Delta", "1e-6", check_number, ALWAYS, NULL},
    [TRAINING] = {"training", "May models be trained on it? yes or no", "no", check_yes_no, ALWAYS,
                  NULL},
    [ROUNDS] = {"max_rounds", "In how many rounds at most", "50", check_count, TRAINING, "yes"},
    [PER_JOB] = {"epsilon_per_job", "Privacy budget of one training job (epsilon)", "4",
                 check_number, TRAINING, "yes"},
    [RELEASE] = {"release", "How far may a model go? federation, recipients or public",
                 "federation", check_release, TRAINING, "yes"},
    [APPROVAL] = {"approval", "Must a person of yours approve each request? yes or no", "no",
                  check_yes_no, ALWAYS, NULL},
    [CONTACT] = {"contact", "Whom may people ask? (empty: nobody)", "", check_text, ALWAYS, NULL},
};
_Static_assert(QUESTIONS <= 32, "answers have room");

/* --- Asking --------------------------------------------------------------------------------------- */

static const char *keep(struct answers *a, const char *text, size_t len)
{
    while (len && (text[len - 1] == ' ' || text[len - 1] == '\n' || text[len - 1] == '\r')) {
        len--;
    }
    while (len && *text == ' ') {
        text++;
        len--;
    }
    return arena_strdup(a->arena, span_of(text, len));
}

static enum err read_answers(struct answers *a)
{
    struct buf bytes = {.max = 65536};
    enum err err = store_file_read(a->path, &bytes, a->reterr);
    const char *keys[QUESTIONS];
    for (int q = 0; q < QUESTIONS; q++) {
        keys[q] = questions[q].key;
    }
    size_t line = 0;
    for (size_t at = 0; !err && at < bytes.len;) {
        const char *start = (const char *)bytes.ptr + at;
        const char *end = memchr(start, '\n', bytes.len - at);
        size_t len = end ? (size_t)(end - start) : bytes.len - at;
        at += len + 1;
        line++;
        const char *colon = memchr(start, ':', len);
        const char *key = keep(a, start, colon ? (size_t)(colon - start) : len);
        if (!key || !*key || *key == '#') {
            continue;
        }
        int found = -1;
        for (int q = 0; q < QUESTIONS; q++) {
            found = colon && strcmp(keys[q], key) == 0 ? q : found;
        }
        if (found < 0) {
            const char *near = proto_suggest(keys, QUESTIONS, key);
            err = proto_err_set(a->reterr, E_INVALID, "%s:%zu: no question is called %.64s%s%s",
                                a->path, line, key, near ? "; the nearest is " : "",
                                near ? near : "");
        } else {
            a->given[found] = keep(a, colon + 1, len - (size_t)(colon + 1 - start));
            a->lines[found] = line;
        }
    }
    buf_fini(&bytes);
    return err;
}

static enum err from_file(struct answers *a, int q)
{
    const char *text = a->given[q] && *a->given[q] ? a->given[q] : questions[q].otherwise;
    struct err_info why = {0};
    if (!text) {
        return proto_err_set(a->reterr, E_INVALID, "%s: %s is needed: %s", a->path,
                             questions[q].key, questions[q].text);
    }
    a->values[q] = text;
    return (*text || !questions[q].otherwise) && questions[q].check(text, &why)
               ? proto_err_set(a->reterr, E_INVALID, "%s:%zu: %s: %.300s", a->path, a->lines[q],
                               questions[q].key, why.text)
               : E_OK;
}

static enum err from_terminal(struct answers *a, int q)
{
    char line[ANSWER_MAX];
    for (;;) {
        const char *otherwise = questions[q].otherwise;
        fprintf(stderr, "%s%s%s%s\n> ", questions[q].text, otherwise && *otherwise ? " [" : "",
                otherwise ? otherwise : "", otherwise && *otherwise ? "]" : "");
        if (!fgets(line, sizeof line, stdin)) {
            return proto_err_set(a->reterr, E_INVALID, "the answers end before the last question");
        }
        struct err_info why = {0};
        const char *text = keep(a, line, strlen(line));
        if (!text) {
            return E_NO_MEMORY;
        }
        text = *text || !otherwise ? text : otherwise;
        bool empty = !*text && otherwise;
        if (empty || questions[q].check(text, &why) == E_OK) {
            a->values[q] = text;
            return E_OK;
        }
        fprintf(stderr, "%s\n", why.text);
    }
}

static bool is_asked(const struct answers *a, int q)
{
    enum question when = questions[q].when;
    uint64_t code;
    if (when == ALWAYS) {
        return true;
    }
    const char *answer = a->values[when] ? a->values[when] : "";
    return !questions[q].is ? *answer
           : when == PERMISSION
               ? proto_duo_parse(answer, &code, NULL) == E_OK && code == PROTO_DUO_DS
               : strcmp(answer, questions[q].is) == 0;
}

/* --- Writing -------------------------------------------------------------------------------------- */

static bool is_yes(const struct answers *a, enum question q)
{
    return a->values[q] && strcmp(a->values[q], "yes") == 0;
}

/* "a, b" as ["a", "b"] */
static enum err put_list(struct buf *out, const char *text)
{
    enum err err = buf_put(out, span_str("["));
    for (bool first = true; !err && *text; first = false) {
        text += strspn(text, ", ");
        size_t len = strcspn(text, ","), end = len;
        while (end && text[end - 1] == ' ') {
            end--;
        }
        err = end ? buf_printf(out, "%s\"%.*s\"", first ? "" : ", ", (int)end, text) : E_OK;
        text += len;
    }
    return err ? err : buf_put(out, span_str("]"));
}

static enum err put_modifiers(struct buf *out, const struct answers *a)
{
    const char *use = a->values[USE];
    const char *codes[8];
    size_t count = 0;
    if (strcmp(use, "any") != 0) {
        codes[count++] = strcmp(use, "both") == 0        ? "NPUNCU"
                         : strcmp(use, "nonprofit") == 0 ? "NPU"
                                                         : "NCU";
    }
    if (is_yes(a, ETHICS)) {
        codes[count++] = "IRB";
    }
    if (is_yes(a, PUBLISH)) {
        codes[count++] = "PUB";
    }
    if (is_yes(a, COLLABORATE)) {
        codes[count++] = "COL";
    }
    bool embargo = *a->values[EMBARGO];
    enum err err = count || embargo ? buf_put(out, span_str("      modifiers:\n")) : E_OK;
    for (size_t i = 0; !err && i < count; i++) {
        uint64_t code;
        char number[PROTO_DUO_SIZE];
        err = proto_duo_parse(codes[i], &code, NULL);
        err = err ? err
                  : buf_printf(out, "        - {code: \"%s\"}       # %s\n",
                               proto_duo_format(code, number), proto_duo_label(code));
    }
    return err || !embargo ? err
                           : buf_printf(out,
                                        "        - {code: \"DUO:0000024\", params: [\"%s\"]}       "
                                        "# publication moratorium\n",
                                        a->values[EMBARGO]);
}

static enum err put_visa(struct buf *out, const struct answers *a)
{
    if (!*a->values[VISA]) {
        return E_OK;
    }
    enum err err = buf_printf(out,
                              "      visas:\n        - type: %s\n          value: \"%s\"\n"
                              "          issuers: ",
                              a->values[VISA], a->values[VISA_VALUE]);
    err = err ? err : put_list(out, a->values[VISA_ISSUERS]);
    if (!err && *a->values[VISA_BY]) {
        err = buf_put(out, span_str("\n          by: "));
        err = err ? err : put_list(out, a->values[VISA_BY]);
    }
    return err ? err : buf_put(out, span_str("\n"));
}

static enum err put_grant(struct buf *out, const struct answers *a)
{
    uint64_t code;
    char number[PROTO_DUO_SIZE];
    enum err err = proto_duo_parse(a->values[PERMISSION], &code, NULL);
    err = err ? err
              : buf_printf(out, "  grants:\n    - permission: \"%s\"       # %s\n",
                           proto_duo_format(code, number), proto_duo_label(code));
    if (!err && code == PROTO_DUO_DS) {
        err = buf_put(out, span_str("      disease: "));
        err = err ? err : put_list(out, a->values[DISEASE]);
        err = err ? err : buf_put(out, span_str("\n"));
    }
    err = err ? err : put_modifiers(out, a);
    err = err ? err : put_visa(out, a);
    err = err ? err
              : buf_printf(out, "      actions: [%s%s]\n", a->values[ACTIONS],
                           is_yes(a, TRAINING) ? ", finetune" : "");
    err = err ? err
              : buf_printf(out,
                           "      min_cohort: %s\n      privacy: {epsilon_total: %s, "
                           "epsilon_per_query: %s, ",
                           a->values[COHORT], a->values[EPSILON], a->values[PER_QUERY]);
    if (!err && is_yes(a, TRAINING)) {
        err = buf_printf(out, "epsilon_per_job: %s, ", a->values[PER_JOB]);
    }
    err = err ? err : buf_printf(out, "delta: %s}\n", a->values[DELTA]);
    if (!err && is_yes(a, TRAINING)) {
        err = buf_printf(out, "      finetune: {max_rounds: %s, release: %s}\n", a->values[ROUNDS],
                         a->values[RELEASE]);
    }
    return err;
}

static enum err put_block(struct buf *out, const struct answers *a)
{
    enum err err = buf_printf(out, "licence:\n  spdx: %s\n  expires: %s\n", a->values[SPDX],
                              a->values[EXPIRES]);
    if (!err && *a->values[GEOGRAPHY]) {
        err = buf_put(out, span_str("  geography: "));
        err = err ? err : put_list(out, a->values[GEOGRAPHY]);
        err = err ? err : buf_put(out, span_str("\n"));
    }
    if (!err && *a->values[INSTITUTIONS]) {
        err = buf_put(out, span_str("  recipients: {institutions: "));
        err = err ? err : put_list(out, a->values[INSTITUTIONS]);
        err = err ? err : buf_put(out, span_str("}\n"));
    }
    if (!err && is_yes(a, APPROVAL)) {
        err = buf_put(out, span_str("  approval: manual\n"));
    }
    if (!err && *a->values[CONTACT]) {
        err = buf_printf(out, "  contact: \"%s\"\n", a->values[CONTACT]);
    }
    return err ? err : put_grant(out, a);
}

/* The manifest's own reader has the last word. */
static enum err check_block(struct span text, struct err_info *reterr)
{
    struct proto_manifest manifest = {0};
    enum err err = config_yaml_licence_bytes(text, "the licence", &manifest, reterr);
    proto_manifest_fini(&manifest);
    return err;
}

enum err cli_licence_new(struct cli_call *call, json_t **ret, int *ret_exit,
                         struct err_info *reterr)
{
    (void)ret_exit;
    struct answers a = {
        .arena = &call->arena, .path = cli_text(call, "--answers"), .reterr = reterr};
    struct buf text = {.max = 65536};
    enum err err = a.path ? read_answers(&a) : E_OK;
    for (int q = 0; !err && q < QUESTIONS; q++) {
        a.values[q] = "";
        if (is_asked(&a, q)) {
            err = a.path ? from_file(&a, q) : from_terminal(&a, q);
        }
    }
    err = err ? err : put_block(&text, &a);
    err = err ? err : check_block(buf_span(&text), reterr);
    if (!err && cli_text(call, "--out")) {
        err = cli_write_new(cli_text(call, "--out"), buf_span(&text), reterr);
    }
    if (!err && call->json) {
        *ret = json_pack("{s:o}", "licence", json_stringn((const char *)text.ptr, text.len));
    } else if (!err && !cli_text(call, "--out")) {
        fwrite(text.ptr, 1, text.len, stdout);
    }
    buf_fini(&text);
    return err;
}
