#include "config.h"
#include "proto/explain.h"
#include "proto/duo.h"
#include "proto/spdx_terms.h"
#include "proto/time.h"

#include <stdio.h>

struct writer {
    const struct proto_licence *licence;
    const struct proto_ontology *ontology;
    struct arena *arena;
    enum err err;
};

static void PRINTF_LIKE(3, 4)
    say(struct writer *w, struct proto_sentences *to, const char *format, ...)
{
    char line[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    char *copy = arena_strdup(w->arena, span_str(line));
    if (!copy) {
        w->err = E_NO_MEMORY;
    } else if (to->count < PROTO_EXPLAIN_LINES) {
        to->items[to->count++] = copy;
    }
}

/* "a, b and c"; NAMES turns a code into a word where it knows one. */
typedef const char *namer(struct writer *w, struct span code);

static const char *list_of(struct writer *w, const struct proto_list *list, namer *names)
{
    struct buf out = {.max = 3500};
    const struct proto_text *items = list->items;
    enum err err = list->count ? E_OK : buf_put(&out, span_str("nobody"));
    for (size_t i = 0; !err && i < list->count; i++) {
        const char *name = names ? names(w, items[i].text) : NULL;
        err = buf_printf(&out, "%s%s%s%.*s%s",
                         i == 0                 ? ""
                         : i + 1 == list->count ? " and "
                                                : ", ",
                         name ? name : "", name ? " (" : "", (int)items[i].text.len,
                         (const char *)items[i].text.ptr, name ? ")" : "");
    }
    const char *copy = arena_strdup(w->arena, buf_span(&out));
    buf_fini(&out);
    w->err = copy ? w->err : E_NO_MEMORY;
    return copy ? copy : "";
}

static const char *country(struct writer *w, struct span code)
{
    (void)w;
    return proto_geography_name(code);
}

static const char *disease(struct writer *w, struct span code)
{
    struct span label = proto_ontology_label(w->ontology, code);
    return label.len ? arena_strdup(w->arena, label) : NULL;
}

static const char *day(struct writer *w, uint64_t time)
{
    char text[PROTO_TIME_SIZE];
    const char *copy = arena_strdup(w->arena, span_str(proto_time_format((int64_t)time, text)));
    return copy ? copy : "";
}

/* --- The whole dataset -------------------------------------------------------------------------------------- */

static void data_licence(struct writer *w, struct proto_sentences *to)
{
    struct proto_spdx_terms terms;
    struct span spdx = w->licence->spdx;
    char outbound[160];
    say(w, to, "The data stand under %.*s.", (int)spdx.len, (const char *)spdx.ptr);
    if (proto_spdx_terms_of(spdx, PROTO_READING_CONSERVATIVE, &terms, NULL)) {
        say(w, to, "That expression does not parse here, so nobody may train on them.");
    } else if (terms.train == PROTO_SPDX_NO) {
        say(w, to, "That gives nobody the right to train a model on them.");
    } else if (terms.train == PROTO_SPDX_HOLD) {
        say(w, to, "Nobody has read that licence yet; a person decides on training.");
    } else if (terms.release == PROTO_RELEASE_FEDERATION) {
        say(w, to, "A model may be trained on them; it does not leave the federation.");
    } else {
        say(w, to, "A model that they taught may be released under %s.",
            terms.outbound == PROTO_OUTBOUND_ANY ? "any licence"
                                                 : proto_outbound_text(terms.outbound, outbound));
    }
    for (int bit = 0; bit < PROTO_DUTY_TOTAL; bit++) {
        if (terms.duties & UINT32_C(1) << bit && terms.train != PROTO_SPDX_NO) {
            say(w, to, "Of a model: %s.", proto_duty_meaning((enum proto_duty_bit)bit));
        }
    }
}

static void people_and_places(struct writer *w, struct proto_sentences *to)
{
    const struct proto_licence *l = w->licence;
    const struct proto_recipients *r = &l->recipients;
    if (!r->has_institutions && !r->has_users && !r->has_projects) {
        say(w, to, "Any member may ask who meets one of the alternatives below.");
    }
    if (r->has_institutions) {
        say(w, to, "Results go to these institutions only: %s.",
            list_of(w, &r->institutions, NULL));
    }
    if (r->has_users) {
        say(w, to, "Results go to these people only: %s.", list_of(w, &r->users, NULL));
    }
    if (r->has_projects) {
        say(w, to, "Results go to these projects only: %s.", list_of(w, &r->projects, NULL));
    }
    if (l->has_geography) {
        say(w, to, "Requester (and for training every site) must be in: %s.",
            list_of(w, &l->geography, l->geography.count <= 6 ? country : NULL));
    }
}

static const char *duty_text(struct span id)
{
    static const char *const texts[][2] = {
        {"attribution", "name the source"},
        {"share-alike", "pass on under the same licence"},
        {"no-reidentify", "do not try to find out who somebody is"},
        {"no-relink", "do not link the results with other data about people"},
        {"delete-by", "delete what was received by"},
        {"notify-breach", "report a breach at once"},
        {"embargo-until", "publish nothing before"},
        {"collaborate", "work together with the data holder (must be promised)"},
        {"publish", "publish the results (must be promised)"},
        {"return-results", "return the results to the data holder (must be promised)"},
        {"ethics-ref", "have an ethics approval that holds"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (span_is(id, texts[i][0])) {
            return texts[i][1];
        }
    }
    for (int bit = 0; bit < PROTO_DUTY_TOTAL; bit++) {
        if (span_is(id, proto_duty_name((enum proto_duty_bit)bit))) {
            return proto_duty_meaning((enum proto_duty_bit)bit);
        }
    }
    return "as the data holder says";
}

static void about(struct writer *w, struct proto_sentences *to)
{
    const struct proto_licence *l = w->licence;
    const struct proto_obligation *duties = l->obligations.items;
    say(w, to, "It holds from %s until %s.",
        l->not_before > 1 ? day(w, l->not_before) : "its publication", day(w, l->expires));
    data_licence(w, to);
    people_and_places(w, to);
    if (l->hold) {
        say(w, to, "A person of the data holder approves each request.");
    }
    for (size_t i = 0; i < l->obligations.count; i++) {
        struct span more = duties[i].text;
        more.len -= more.len && more.ptr[more.len - 1] == '.';
        bool date = span_is(duties[i].id, "delete-by") || span_is(duties[i].id, "embargo-until");
        say(w, to, "Whoever uses an answer or a model must: %s%s%.*s.", duty_text(duties[i].id),
            !more.len ? ""
            : date    ? " "
                      : ": ",
            (int)more.len, more.len ? (const char *)more.ptr : "");
    }
    if (l->derived_from.count) {
        say(w, to, "It is the licence of a model, derived from %zu licence%s.",
            l->derived_from.count, l->derived_from.count == 1 ? "" : "s");
    }
    if (l->contact.len) {
        say(w, to, "Whom to ask: %.*s.", (int)l->contact.len, (const char *)l->contact.ptr);
    }
}

/* --- One alternative ------------------------------------------------------------------------------------------ */

static bool has(const struct proto_grant *grant, uint64_t code)
{
    const struct proto_modifier *items = grant->modifiers.items;
    bool found = false;
    for (size_t i = 0; i < grant->modifiers.count; i++) {
        found = found || items[i].code == code;
    }
    return found;
}

static void purpose(struct writer *w, const struct proto_grant *grant,
                    struct proto_explained_grant *to)
{
    bool care = has(grant, PROTO_DUO_CC);
    const char *diseases = list_of(w, &grant->diseases, disease);
    switch (grant->permission) {
    case PROTO_DUO_NRES:
        say(w, &to->permits, "Every purpose, also one that is not stated.");
        return;
    case PROTO_DUO_GRU:
        say(w, &to->permits, "Any research: general, health, on a disease, ancestry, methods.");
        break;
    case PROTO_DUO_HMB:
        say(w, &to->permits, "Research on health, medicine and biomedicine, methods among it.");
        say(w, &to->forbids, "Research outside health, and on ancestry or population origins.");
        break;
    case PROTO_DUO_DS:
        say(w, &to->permits, "Research on %s and on what lies below in the hierarchy.", diseases);
        say(w, &to->permits, "Development of methods.");
        say(w, &to->forbids, "Any other disease, a wider one too, and research in general.");
        break;
    case PROTO_DUO_POA:
        say(w, &to->permits, "Research on ancestry and population origins.");
        say(w, &to->forbids, "All other research.");
        break;
    default:
        say(w, &to->forbids, "Everything: its permission is not known here.");
        break;
    }
    say(w, care ? &to->permits : &to->forbids, "Clinical care.");
}

/* Months count from an agreement, and agreements are made on datasets. */
static const char *limit_text(const struct writer *w, struct span limit)
{
    return limit.len > 3                         ? ""
           : w->licence->derived_from.count == 0 ? " months of the agreement"
                                                 : " months of an agreement; nobody makes one on a "
                                                   "model yet, so each decision on it denies";
}

static void modifier(struct writer *w, const struct proto_modifier *m,
                     struct proto_explained_grant *to)
{
    const struct proto_text *params = m->params.items;
    struct span first = m->params.count ? params[0].text : SPAN_NONE;
    const char *all = list_of(w, &m->params, m->code == PROTO_DUO_GS ? country : NULL);
    switch (m->code) {
    case PROTO_DUO_RS:
        say(w, &to->needs, "The kinds of research, stated and among: %s.", all);
        break;
    case PROTO_DUO_NMDS:
        say(w, &to->forbids, "Development of methods%s.",
            m->params.count ? "" : ", unless for the diseases that are named");
        say(w, &to->needs, "The kind of research, stated.");
        break;
    case PROTO_DUO_GSO:
        say(w, &to->forbids, "Studies without genetics.");
        say(w, &to->needs, "The kind of research, stated; \"genetic\" among it.");
        break;
    case PROTO_DUO_NPUNCU:
        say(w, &to->forbids, "Commercial use, and use by anybody but non-profit organisations.");
        break;
    case PROTO_DUO_NPU:
        say(w, &to->forbids, "Use by for-profit organisations.");
        break;
    case PROTO_DUO_NCU:
        say(w, &to->forbids, "Commercial use.");
        break;
    case PROTO_DUO_NPOA:
        say(w, &to->forbids, "Research on ancestry and population origins.");
        say(w, &to->needs, "The kind of research, stated.");
        break;
    case PROTO_DUO_IRB:
        say(w, &to->needs, "An ethics approval that still holds.");
        break;
    case PROTO_DUO_COL:
        say(w, &to->needs, "The promise to collaborate%s%s.", m->params.count ? " with " : "",
            m->params.count ? all : "");
        break;
    case PROTO_DUO_PUB:
        say(w, &to->needs, "The promise to publish the results.");
        break;
    case PROTO_DUO_RTN:
        say(w, &to->needs, "The promise to return the results%s%s.", m->params.count ? " to " : "",
            m->params.count ? all : "");
        break;
    case PROTO_DUO_MOR:
        say(w, &to->forbids, "Publication before %.*s.", (int)first.len, (const char *)first.ptr);
        break;
    case PROTO_DUO_TS:
        for (size_t i = 0; i < m->params.count; i++) {
            struct span limit = ((const struct proto_text *)m->params.items)[i].text;
            say(w, &to->forbids, "Use after %.*s%s.", (int)limit.len, (const char *)limit.ptr,
                limit_text(w, limit));
        }
        break;
    case PROTO_DUO_GS:
        say(w, &to->needs, "Requester and all sites in: %s.", all);
        break;
    case PROTO_DUO_US:
        say(w, &to->needs, "One of these people: %s.", all);
        break;
    case PROTO_DUO_PS:
        say(w, &to->needs, "One of these projects: %s.", all);
        break;
    case PROTO_DUO_IS:
        say(w, &to->needs, "One of these institutions: %s.", all);
        break;
    default: /* CC stands with the purposes */
        break;
    }
}

static void training(struct writer *w, const struct proto_grant *grant,
                     struct proto_explained_grant *to, bool model)
{
    if (!grant->has_finetune) {
        say(w, &to->forbids, "Training a model.");
        return;
    }
    char rounds[48] = "";
    if (!model) { /* those of a model are spent */
        snprintf(rounds, sizeof rounds, ", in at most %llu rounds",
                 (unsigned long long)grant->finetune.max_rounds);
    }
    say(w, &to->permits, "%s%s; it may go to %s.",
        model ? "Training the model further" : "Training a model", rounds,
        grant->finetune.release == PROTO_RELEASE_PUBLIC       ? "anybody"
        : grant->finetune.release == PROTO_RELEASE_RECIPIENTS ? "the recipients"
                                                              : "members of the federation only");
    if (grant->finetune.clip_u) {
        say(w, &to->needs, "Of training: a clip norm of at most %.6g.",
            (double)grant->finetune.clip_u / 1e6);
    }
    if (grant->finetune.noise_mult_u) {
        say(w, &to->needs, "Of training: a noise multiplier of at least %.6g.",
            (double)grant->finetune.noise_mult_u / 1e6);
    }
}

static void questions(struct writer *w, const struct proto_grant *grant,
                      struct proto_explained_grant *to)
{
    char text[256] = "";
    size_t at = 0;
    for (int i = 0; i < PROTO_ACTION_TOTAL && at < sizeof text; i++) {
        if (grant->actions & PROTO_ACTION_BIT(i) && i != PROTO_ACTION_FINETUNE) {
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", at ? ", " : "",
                                   proto_action_name((enum proto_action)i));
        }
    }
    bool model = w->licence->derived_from.count > 0;
    if (model && at) { /* a model has neither columns nor rows: it can be evaluated */
        say(w, &to->permits, "Of the model: %s.", text);
    } else if (at) {
        say(w, &to->permits, "These kinds of question: %s, over %s%s.", text,
            grant->has_columns ? "the columns " : "all columns",
            grant->has_columns ? list_of(w, &grant->columns, NULL) : "");
    } else if (!model) {
        say(w, &to->forbids, "Any question.");
    }
    training(w, grant, to, model);
}

static void privacy(struct writer *w, const struct proto_grant *grant,
                    struct proto_explained_grant *to)
{
    const struct proto_licence_privacy *p = &grant->privacy;
    if (w->licence->derived_from.count) {
        return; /* it was paid when the model was trained */
    }
    if (p->mechanism == PROTO_MECHANISM_NONE) {
        say(w, &to->permits, "Answers without noise.");
    } else {
        say(w, &to->needs,
            "Privacy of each %s: epsilon %.6g in all, at most %.6g a question%s, delta %.3g.",
            p->unit == PROTO_UNIT_ROW ? "row" : "patient", (double)p->epsilon_total_u / 1e6,
            (double)p->epsilon_per_query_u / 1e6,
            p->epsilon_per_job_u ? " (jobs have their own)" : "", (double)p->delta_e12 / 1e12);
        if (p->epsilon_per_job_u) {
            say(w, &to->needs, "Of training: epsilon at most %.6g a job.",
                (double)p->epsilon_per_job_u / 1e6);
        }
    }
    if (p->min_noise_u) {
        say(w, &to->needs, "Noise of at least %.6g times what one %s can change.",
            (double)p->min_noise_u / 1e6, p->unit == PROTO_UNIT_ROW ? "row" : "patient");
    }
    say(w, &to->forbids, "Cells of fewer than %llu people (tested on the noisy count).",
        (unsigned long long)grant->min_cohort);
    if (grant->min_sites > 1 || grant->mode == PROTO_MODE_SECURE) {
        say(w, &to->needs, "%llu institutions at least, and answers that only show their sum.",
            (unsigned long long)grant->min_sites);
    }
}

static void explain_grant(struct writer *w, const struct proto_grant *grant,
                          struct proto_explained_grant *to)
{
    const struct proto_modifier *modifiers = grant->modifiers.items;
    struct proto_sentences title = {.count = 0};
    char code[PROTO_DUO_SIZE];
    say(w, &title, "%s (%s)%s%s", proto_duo_label(grant->permission),
        proto_duo_format(grant->permission, code), grant->diseases.count ? ": " : "",
        grant->diseases.count ? list_of(w, &grant->diseases, disease) : "");
    to->title = title.count ? title.items[0] : "";
    purpose(w, grant, to);
    questions(w, grant, to);
    for (size_t i = 0; i < grant->modifiers.count; i++) {
        modifier(w, &modifiers[i], to);
    }
    const struct proto_visa_wanted *visas = grant->visas.items;
    for (size_t i = 0; i < grant->visas.count; i++) {
        char text[512];
        say(w, &to->needs, "A visa that has not expired: %s.",
            proto_visa_wanted_text(&visas[i], text, sizeof text));
    }
    privacy(w, grant, to);
}

enum err proto_licence_explain(const struct proto_licence *licence,
                               const struct proto_ontology *ontology, struct arena *arena,
                               struct proto_explanation *ret)
{
    struct writer w = {licence, ontology, arena, E_OK};
    const struct proto_grant *grants = licence->grants.items;
    memset(ret, 0, sizeof *ret);
    about(&w, &ret->about);
    for (size_t i = 0; i < licence->grants.count && i < PROTO_LICENCE_GRANTS_MAX; i++) {
        explain_grant(&w, &grants[i], &ret->grants[ret->grant_count++]);
    }
    return w.err;
}
