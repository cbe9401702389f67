#include "config.h"
#include "node/model/report.h"

#include <stdlib.h>

#include <jansson.h>

struct chunk {
    uint32_t type;
    size_t first, last;
};

struct chunks {
    struct chunk *list;
    size_t count;
};

/* A tag taken apart. 'O' has no type. */
struct tag {
    char prefix;
    uint32_t type;
};

static enum err read_tag(struct model_report *report, const char *text, struct tag *ret)
{
    *ret = (struct tag){'O', MODEL_WORDS_NONE};
    if (text[0] == 0) {
        return E_INVALID;
    }
    if (strcmp(text, "O") == 0) {
        return E_OK;
    }
    const char *dash = strchr(text, '-');
    ret->prefix = text[0];
    report->types.max = MODEL_REPORT_TYPES_MAX;
    enum err err =
        model_words_add(&report->types, span_str(dash && dash[1] ? dash + 1 : "_"), &ret->type);
    if (err || report->types.count <= report->counts_cap) {
        return err;
    }
    uint32_t cap = report->types.count * 2 + 6;
    struct model_report_count *counts = proto_realloc(report->counts, cap, sizeof *counts);
    if (!counts) {
        return E_NO_MEMORY;
    }
    memset(counts + report->counts_cap, 0, (cap - report->counts_cap) * sizeof *counts);
    report->counts = counts;
    report->counts_cap = cap;
    return E_OK;
}

static bool chunk_ends(struct tag before, struct tag now)
{
    if (before.prefix == 'O') {
        return false;
    }
    return before.prefix == 'E' || before.prefix == 'S' || now.prefix == 'B' || now.prefix == 'S' ||
           now.prefix == 'O' || before.type != now.type;
}

static bool chunk_starts(struct tag before, struct tag now)
{
    if (now.prefix == 'O') {
        return false;
    }
    return now.prefix == 'B' || now.prefix == 'S' || before.prefix == 'E' || before.prefix == 'S' ||
           before.prefix == 'O' || before.type != now.type;
}

/* Lists the entities of a sentence in order; LIST has room for WORDS. */
static enum err find_chunks(struct model_report *report, const char *const *tags, size_t words,
                            struct chunks *to)
{
    struct tag before = {'O', MODEL_WORDS_NONE};
    bool open = false;
    for (size_t i = 0; i <= words; i++) {
        struct tag now = {'O', MODEL_WORDS_NONE};
        enum err err = i < words ? read_tag(report, tags[i], &now) : E_OK;
        if (err) {
            return err;
        }
        if (open && (report->strict ? now.prefix != 'I' || now.type != before.type
                                    : chunk_ends(before, now))) {
            to->list[to->count++].last = i - 1;
            open = false;
        }
        if (report->strict ? now.prefix == 'B' : chunk_starts(before, now)) {
            to->list[to->count] = (struct chunk){now.type, i, i};
            open = true;
        }
        before = now;
    }
    return E_OK;
}

static void count_chunks(struct model_report *report, const struct chunks *gold,
                         const struct chunks *predicted)
{
    for (size_t i = 0; i < gold->count; i++) {
        report->counts[gold->list[i].type].gold++;
    }
    for (size_t i = 0, j = 0; i < predicted->count; i++) {
        const struct chunk *p = &predicted->list[i];
        report->counts[p->type].predicted++;
        while (j < gold->count && gold->list[j].first < p->first) {
            j++;
        }
        if (j < gold->count && gold->list[j].first == p->first && gold->list[j].last == p->last &&
            gold->list[j].type == p->type) {
            report->counts[p->type].matched++;
        }
    }
}

enum err model_report_add(struct model_report *report, const char *const *gold,
                          const char *const *predicted, size_t words)
{
    struct chunks a = {0}, b = {0};
    a.list = proto_alloc(words + 1, sizeof *a.list);
    b.list = proto_alloc(words + 1, sizeof *b.list);
    enum err err = a.list && b.list ? E_OK : E_NO_MEMORY;
    err = err ? err : find_chunks(report, gold, words, &a);
    err = err ? err : find_chunks(report, predicted, words, &b);
    if (!err) {
        count_chunks(report, &a, &b);
    }
    proto_free(a.list);
    proto_free(b.list);
    return err;
}

static struct model_score score(struct model_report_count c)
{
    struct model_score s = {.support = c.gold};
    s.precision = c.predicted ? (double)c.matched / (double)c.predicted : 0;
    s.recall = c.gold ? (double)c.matched / (double)c.gold : 0;
    s.f1 = s.precision + s.recall > 0 ? 2 * s.precision * s.recall / (s.precision + s.recall) : 0;
    return s;
}

struct model_score model_report_type(const struct model_report *report, uint32_t type)
{
    return type < report->types.count ? score(report->counts[type]) : (struct model_score){0};
}

/* A type seen only in tags that form no entity (strict rules) is no type of the report. */
static bool present(const struct model_report *report, uint32_t type)
{
    return report->counts[type].gold > 0 || report->counts[type].predicted > 0;
}

static struct model_report_count total(const struct model_report *report)
{
    struct model_report_count sum = {0};
    for (uint32_t t = 0; t < report->types.count; t++) {
        sum.matched += report->counts[t].matched;
        sum.predicted += report->counts[t].predicted;
        sum.gold += report->counts[t].gold;
    }
    return sum;
}

struct model_score model_report_micro(const struct model_report *report)
{
    return score(total(report));
}

static struct model_score mean(const struct model_report *report, bool weighted)
{
    struct model_score sum = {.support = total(report).gold};
    double weights = 0;
    for (uint32_t t = 0; t < report->types.count; t++) {
        struct model_score s = model_report_type(report, t);
        double weight = weighted ? (double)s.support : present(report, t) ? 1 : 0;
        sum.precision += weight * s.precision;
        sum.recall += weight * s.recall;
        sum.f1 += weight * s.f1;
        weights += weight;
    }
    if (weights > 0) {
        sum.precision /= weights;
        sum.recall /= weights;
        sum.f1 /= weights;
    }
    return sum;
}

struct model_score model_report_macro(const struct model_report *report)
{
    return mean(report, false);
}

struct model_score model_report_weighted(const struct model_report *report)
{
    return mean(report, true);
}

struct named {
    const char *name;
    uint32_t type;
};

static int by_name(const void *left, const void *right)
{
    return strcmp(((const struct named *)left)->name, ((const struct named *)right)->name);
}

/* The types of the report by name. The caller frees; NULL when out of memory. */
static struct named *sorted(const struct model_report *report, uint32_t *ret_count)
{
    struct named *list = proto_alloc(report->types.count + 1, sizeof *list);
    *ret_count = 0;
    for (uint32_t t = 0; list && t < report->types.count; t++) {
        if (present(report, t)) {
            list[(*ret_count)++] = (struct named){model_words_get(&report->types, t), t};
        }
    }
    if (list && *ret_count > 1) {
        qsort(list, *ret_count, sizeof *list, by_name);
    }
    return list;
}

static enum err text_row(struct buf *to, int width, const char *name, struct model_score s)
{
    return buf_printf(to, "%-*s  %9.2f  %9.2f  %9.2f  %9llu\n", width, name, s.precision, s.recall,
                      s.f1, (unsigned long long)s.support);
}

enum err model_report_text(const struct model_report *report, struct buf *to)
{
    uint32_t count = 0;
    struct named *list = sorted(report, &count);
    if (!list) {
        return E_NO_MEMORY;
    }
    int width = 12;
    for (uint32_t i = 0; i < count; i++) {
        size_t len = strlen(list[i].name);
        width = len > (size_t)width && len < 64 ? (int)len : width;
    }
    enum err err = buf_printf(to, "%-*s  %9s  %9s  %9s  %9s\n", width, "type", "precision",
                              "recall", "f1", "support");
    for (uint32_t i = 0; !err && i < count; i++) {
        err = text_row(to, width, list[i].name, model_report_type(report, list[i].type));
    }
    proto_free(list);
    err = err ? err : text_row(to, width, "micro avg", model_report_micro(report));
    err = err ? err : text_row(to, width, "macro avg", model_report_macro(report));
    return err ? err : text_row(to, width, "weighted avg", model_report_weighted(report));
}

static json_t *json_score(struct model_score s)
{
    return json_pack("{s:f,s:f,s:f,s:I}", "precision", s.precision, "recall", s.recall, "f1", s.f1,
                     "support", (json_int_t)s.support);
}

static int put_json(const char *bytes, size_t len, void *user)
{
    return buf_put(user, span_of(bytes, len)) ? -1 : 0;
}

enum err model_report_json(const struct model_report *report, struct buf *to)
{
    uint32_t count = 0;
    struct named *list = sorted(report, &count);
    json_t *types = json_object();
    int bad = !list || !types;
    for (uint32_t i = 0; !bad && i < count; i++) {
        /* A name that is no UTF-8 cannot stand in JSON; notes refuse such names already. */
        bad = json_object_set_new(types, list[i].name,
                                  json_score(model_report_type(report, list[i].type)));
    }
    json_t *root = bad ? NULL
                       : json_pack("{s:O,s:o,s:o,s:o}", "types", types, "micro",
                                   json_score(model_report_micro(report)), "macro",
                                   json_score(model_report_macro(report)), "weighted",
                                   json_score(model_report_weighted(report)));
    bad = bad || !root ||
          json_dump_callback(root, put_json, to, JSON_REAL_PRECISION(17) | JSON_COMPACT);
    json_decref(root);
    json_decref(types);
    proto_free(list);
    return bad ? E_NO_MEMORY : E_OK;
}

void model_report_fini(struct model_report *report)
{
    model_words_fini(&report->types);
    proto_free(report->counts);
    *report = (struct model_report){.strict = report->strict};
}
