/* licence explain, diff, compat: what people want to know of licences, without a daemon where a file is given. */
#include "config.h"
#include "node/cli/cli.h"
#include "node/cli/licence_file.h"

#include "crypto/provider.h"
#include "proto/compare.h"
#include "proto/derive.h"
#include "proto/explain.h"
#include "proto/spdx_terms.h"

/* --- explain -------------------------------------------------------------------------------------- */

static json_t *sentences_view(const struct proto_sentences *sentences)
{
    json_t *array = json_array();
    for (size_t i = 0; i < sentences->count; i++) {
        json_array_append_new(array, json_string(sentences->items[i]));
    }
    return array;
}

static json_t *explanation_view(const struct cli_licence *one, const struct proto_explanation *e)
{
    json_t *grants = json_array();
    for (size_t i = 0; i < e->grant_count; i++) {
        const struct proto_explained_grant *grant = &e->grants[i];
        json_array_append_new(grants, json_pack("{s:s, s:o, s:o, s:o}", "title", grant->title,
                                                "permits", sentences_view(&grant->permits),
                                                "forbids", sentences_view(&grant->forbids), "needs",
                                                sentences_view(&grant->needs)));
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "source", one->source, "state", one->state, "about",
                     sentences_view(&e->about), "grants", grants);
}

enum err cli_licence_explain(struct cli_call *call, json_t **ret, int *ret_exit,
                             struct err_info *reterr)
{
    (void)ret_exit;
    struct proto_ontology ontology = {0};
    struct cli_licences *list = proto_alloc(1, sizeof *list);
    struct proto_explanation *e = proto_alloc(1, sizeof *e);
    json_t *licences = json_array();
    enum err err = list && e ? crypto_init(reterr) : E_NO_MEMORY;
    err = err ? err : cli_ontology_load(call, &ontology, reterr);
    err = err ? err : cli_licences_load(call, cli_text(call, "NAME"), list, reterr);
    for (size_t i = 0; !err && i < list->count; i++) {
        err = proto_licence_explain(&list->items[i].licence, &ontology, &list->arena, e);
        json_array_append_new(licences, explanation_view(&list->items[i], e));
    }
    if (!err) {
        *ret = json_pack("{s:O}", "licences", licences);
    }
    json_decref(licences);
    if (list) {
        cli_licences_fini(list);
    }
    proto_ontology_fini(&ontology);
    proto_free(list);
    proto_free(e);
    return err;
}

/* --- diff ----------------------------------------------------------------------------------------- */

static json_t *comparison_view(const struct proto_comparison *c)
{
    json_t *changes = json_array();
    for (size_t i = 0; i < c->count; i++) {
        const struct proto_changed *one = &c->changes[i];
        json_array_append_new(changes, json_pack("{s:s, s:s, s:s, s:s}", "change",
                                                 proto_change_name(one->change), "clause",
                                                 one->clause, "from", one->from, "to", one->to));
    }
    const char *summary = c->count == 0                           ? "same"
                          : c->wider && !c->narrower && !c->other ? "wider"
                          : c->narrower && !c->wider && !c->other ? "narrower"
                                                                  : "mixed";
    return json_pack("{s:s, s:i, s:i, s:o}", "summary", summary, "wider", (int)c->wider, "narrower",
                     (int)c->narrower, "changes", changes);
}

enum err cli_licence_diff(struct cli_call *call, json_t **ret, int *ret_exit,
                          struct err_info *reterr)
{
    (void)ret_exit;
    struct proto_ontology ontology = {0};
    struct cli_licences *lists = proto_alloc(2, sizeof *lists);
    struct proto_comparison *c = proto_alloc(1, sizeof *c);
    enum err err = lists && c ? crypto_init(reterr) : E_NO_MEMORY;
    err = err ? err : cli_ontology_load(call, &ontology, reterr);
    err = err ? err : cli_licences_load(call, cli_text(call, "OLD"), &lists[0], reterr);
    err = err ? err : cli_licences_load(call, cli_text(call, "NEW"), &lists[1], reterr);
    for (size_t i = 0; !err && i < 2; i++) {
        if (lists[i].count == 0) {
            err = proto_err_set(reterr, E_NOT_FOUND, "no licence is known for %s",
                                cli_text(call, i ? "NEW" : "OLD"));
        }
    }
    if (!err) {
        err = proto_licence_compare(&lists[0].items[0].licence, &lists[1].items[0].licence,
                                    &ontology, &lists[0].arena, c);
    }
    if (!err) {
        *ret = comparison_view(c);
        json_object_set_new(*ret, "old", json_string(lists[0].items[0].source));
        json_object_set_new(*ret, "new", json_string(lists[1].items[0].source));
    }
    for (size_t i = 0; lists && i < 2; i++) {
        cli_licences_fini(&lists[i]);
    }
    proto_ontology_fini(&ontology);
    proto_free(lists);
    proto_free(c);
    return err;
}

/* --- compat --------------------------------------------------------------------------------------- */

static const char *verdict_name(enum proto_spdx_verdict verdict)
{
    return verdict == PROTO_SPDX_YES    ? "yes"
           : verdict == PROTO_SPDX_HOLD ? "a person decides"
                                        : "no";
}

static json_t *span_view(struct span text)
{
    return json_stringn((const char *)text.ptr, text.len);
}

static json_t *leaf_view(const struct proto_spdx_leaf *leaf)
{
    return leaf ? json_pack("{s:o, s:s}", "licence", span_view(leaf->id), "clause", leaf->clause)
                : json_null();
}

/* Each duty with the licences that ask for it. */
static json_t *duties_view(const struct proto_spdx_terms *terms)
{
    json_t *array = json_array();
    for (int bit = 0; bit < PROTO_DUTY_TOTAL; bit++) {
        json_t *from = json_array();
        for (size_t i = 0; i < terms->leaf_count; i++) {
            if (terms->leaves[i].duties & UINT32_C(1) << bit) {
                json_array_append_new(from, span_view(terms->leaves[i].id));
            }
        }
        if (json_array_size(from)) {
            json_array_append_new(
                array,
                json_pack("{s:s, s:s, s:O}", "id", proto_duty_name((enum proto_duty_bit)bit),
                          "meaning", proto_duty_meaning((enum proto_duty_bit)bit), "from", from));
        }
        json_decref(from);
    }
    return array;
}

static const struct proto_spdx_leaf *worst_to_train(const struct proto_spdx_terms *terms)
{
    for (size_t i = 0; i < terms->leaf_count; i++) {
        if (terms->leaves[i].train == terms->train && terms->train != PROTO_SPDX_YES) {
            return &terms->leaves[i];
        }
    }
    return NULL;
}

static json_t *reading_view(const struct proto_spdx_terms *terms, const char *release,
                            enum proto_reading reading)
{
    char clash[PROTO_SPDX_CLASH_SIZE], outbound[160];
    const struct proto_spdx_leaf *why = NULL;
    json_t *elected = json_array();
    for (size_t i = 0; i < terms->leaf_count && terms->elected; i++) {
        json_array_append_new(elected, span_view(terms->leaves[i].id));
    }
    json_t *view = json_pack(
        "{s:s, s:s, s:o, s:s, s:o, s:o, s:o}", "reading", proto_reading_name(reading), "train",
        verdict_name(terms->train), "train_decides", leaf_view(worst_to_train(terms)), "outbound",
        terms->share == PROTO_SPDX_YES ? proto_outbound_text(terms->outbound, outbound) : "none",
        "clash", *proto_spdx_clash(terms, clash) ? json_string(clash) : json_null(), "duties",
        duties_view(terms), "elected", elected);
    if (release) {
        enum proto_spdx_verdict verdict =
            proto_spdx_release_under(terms, span_str(release), reading, &why);
        json_object_set_new(view, "release", json_string(verdict_name(verdict)));
        json_object_set_new(view, "release_decides", leaf_view(why));
    }
    return view;
}

static enum err check_release(const char *release, struct err_info *reterr)
{
    struct proto_spdx_expression e;
    enum err err = proto_spdx_parse(span_str(release), &e, reterr);
    if (!err && e.count != 1) {
        err = proto_err_set(reterr, E_INVALID, "a model is released under one licence");
    }
    if (err) {
        proto_err_frame(reterr, "--release");
    }
    return err;
}

/* What may be learnt from: SPDX expressions as typed, and the licences of files and datasets. */
struct sources {
    struct span expressions[CLI_LICENCES_MAX];
    size_t count;
    struct proto_derive_parent parents[CLI_LICENCES_MAX];
    uint8_t ids[CLI_LICENCES_MAX][16];
    size_t parent_count;
    struct cli_licences *lists[CLI_VALUES_MAX]; /* what the parents point into */
    size_t list_count;
};

static bool may_be_name(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";
    return strspn(text, letters) == strlen(text) || strchr(text, '/');
}

static enum err add_expression(struct sources *sources, struct span expression,
                               struct err_info *reterr)
{
    if (sources->count == CLI_LICENCES_MAX) {
        return proto_err_set(reterr, E_LIMIT, "more than %d licences", CLI_LICENCES_MAX);
    }
    sources->expressions[sources->count++] = expression;
    return E_OK;
}

static enum err add_licences(struct sources *sources, const struct cli_licences *list,
                             struct err_info *reterr)
{
    enum err err = E_OK;
    for (size_t i = 0; !err && i < list->count; i++) {
        const struct cli_licence *one = &list->items[i];
        size_t at = sources->parent_count;
        if (strcmp(one->state, "file") != 0 && strcmp(one->state, "valid") != 0) {
            return proto_err_set(reterr, E_REFUSED, "the licence at %s is %s", one->source,
                                 one->state);
        }
        err = add_expression(sources, one->licence.spdx, reterr);
        if (!err) {
            sources->ids[at][0] = (uint8_t)(at + 1); /* only told apart here */
            sources->parents[sources->parent_count++] =
                (struct proto_derive_parent){&one->licence, sources->ids[at]};
        }
    }
    return err;
}

/* An expression, else a file or dataset; what is neither is told as a mistyped expression. */
static enum err add_source(struct cli_call *call, const char *text, struct sources *sources,
                           struct err_info *reterr)
{
    struct proto_spdx_expression parsed;
    struct err_info ignored = {0};
    enum err wrong = proto_spdx_parse(span_str(text), &parsed, reterr);
    if (wrong && !may_be_name(text)) {
        return wrong;
    }
    if (!wrong) {
        return add_expression(sources, span_str(text), reterr);
    }
    struct cli_licences *list = proto_alloc(1, sizeof *list);
    if (!list) {
        return E_NO_MEMORY;
    }
    sources->lists[sources->list_count++] = list;
    bool file = strchr(text, '/') || strchr(text, '.');
    enum err err = cli_licences_load(call, text, list, file ? reterr : &ignored);
    if (err) {
        return file ? err : wrong;
    }
    return add_licences(sources, list, reterr);
}

/* What the model could be used for, where all that it learns from are licences. */
static enum err model_view(struct cli_call *call, const struct sources *sources, json_t *ret,
                           struct err_info *reterr)
{
    static const uint8_t weights[32];
    struct err_info why = {0};
    struct proto_ontology ontology = {0};
    struct proto_derivation *derived = arena_alloc(&call->arena, 1, sizeof *derived);
    struct proto_explanation *e = arena_alloc(&call->arena, 1, sizeof *e);
    const struct proto_derive_terms terms = {.model = span_str("model"),
                                             .version = span_str("1"),
                                             .weights = span_of(weights, 32),
                                             .private = true,
                                             .now = 1};
    enum err err = derived && e ? cli_ontology_load(call, &ontology, reterr) : E_NO_MEMORY;
    if (err) {
        return err;
    }
    err = proto_derive(sources->parents, sources->parent_count, &terms, &ontology, &call->arena,
                       derived, &why);
    if (err && err != E_NO_MEMORY) {
        json_object_set_new(ret, "model_refused", json_string(why.text));
        err = E_OK;
    } else if (!err) {
        const struct cli_licence model = {.source = "the model", .state = "derived"};
        err = proto_licence_explain(&derived->licence, &ontology, &call->arena, e);
        json_object_set_new(ret, "licences", json_pack("[o]", explanation_view(&model, e)));
        json_object_set_new(ret, "model_release",
                            json_string(proto_release_name(derived->release)));
        json_object_set_new(ret, "model_capped",
                            derived->cap == PROTO_CAP_NONE
                                ? json_null()
                                : json_string(proto_cap_text(derived->cap)));
    }
    proto_ontology_fini(&ontology);
    return err;
}

static enum err readings_view(const struct sources *sources, const char *release, json_t *readings,
                              json_t *data, struct err_info *reterr)
{
    enum err err = E_OK;
    for (int reading = 0; !err && reading < 2; reading++) {
        struct proto_spdx_terms terms;
        err = proto_spdx_terms_combine(sources->expressions, sources->count,
                                       (enum proto_reading)reading, &terms, reterr);
        if (!err) {
            json_array_append_new(readings,
                                  reading_view(&terms, release, (enum proto_reading)reading));
        }
    }
    for (size_t i = 0; i < sources->count; i++) {
        json_array_append_new(data, span_view(sources->expressions[i]));
    }
    return err;
}

enum err cli_licence_compat(struct cli_call *call, json_t **ret, int *ret_exit,
                            struct err_info *reterr)
{
    (void)ret_exit;
    struct sources *sources = proto_alloc(1, sizeof *sources);
    const char *release = cli_text(call, "--release");
    json_t *readings = json_array(), *data = json_array();
    enum err err = sources ? crypto_init(reterr) : E_NO_MEMORY;
    err = err || !release ? err : check_release(release, reterr);
    for (size_t i = 0; !err && i < call->value_count; i++) {
        if (strcmp(call->values[i].argument->name, "LICENCE") == 0) {
            err = add_source(call, call->values[i].value, sources, reterr);
        }
    }
    err = err ? err : readings_view(sources, release, readings, data, reterr);
    if (!err) {
        *ret = json_pack("{s:O, s:o, s:O}", "data", data, "release",
                         release ? json_string(release) : json_null(), "readings", readings);
    }
    if (!err && sources->parent_count == sources->count) {
        err = model_view(call, sources, *ret, reterr);
    }
    for (size_t i = 0; sources && i < sources->list_count; i++) {
        cli_licences_fini(sources->lists[i]);
        proto_free(sources->lists[i]);
    }
    proto_free(sources);
    json_decref(readings);
    json_decref(data);
    return err;
}
