#include "config.h"
#include "node/model/deploy.h"

#include <stdio.h>
#include <string.h>

#include "node/model/encoder_config.h"
#include "node/model/encoder_save.h"
#include "node/model/folder.h"
#include "node/model/onnx.h"
#include "node/model/quantise.h"
#include "node/model/tuner.h"
#include "proto/codec.h"

#define STRIDE 32u /* of windows over long sentences */

static const char *const names[MODEL_DEPLOY_COUNT] = {"safetensors", "peft", "onnx", "int8"};

bool model_deploy_by_name(const char *name, enum model_deploy *ret)
{
    for (unsigned i = 0; i < MODEL_DEPLOY_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum model_deploy)i;
            return true;
        }
    }
    return false;
}

/* --- files --------------------------------------------------------------------------------------------- */

/* The shape that PACKAGE was made for; a base without labels is a masked LM. */
static struct model_shape own_shape(const struct model_package *package)
{
    const struct model_package_info *info = model_package_info(package);
    struct model_shape shape = info->shape;
    if (info->labels->count == 0) {
        shape.task = MODEL_TASK_MASKED;
        shape.labels = shape.vocabulary;
    }
    return shape;
}

/* All labels as a list; the caller frees. NULL for masked LM, or when out of memory. */
static const char **label_list(const struct model_words *labels)
{
    const char **list = labels->count ? proto_alloc(labels->count, sizeof *list) : NULL;
    for (uint32_t i = 0; list && i < labels->count; i++) {
        list[i] = model_words_get(labels, i);
    }
    return list;
}

/* config.json, which keeps the names of labels. */
static enum err write_config(const struct model_encoder *e, const char *const *labels,
                             const char *folder, struct err_info *reterr)
{
    struct buf config = {.max = MODEL_CONFIG_MAX};
    enum err err = model_config_encode(&e->shape, labels, &config, reterr);
    err = err ? err : model_folder_write(folder, "config.json", buf_span(&config), reterr);
    buf_fini(&config);
    return err;
}

/* E has adapters when they are what is wanted, else they are merged. BASE_NAME: of the model that adapters belong to. */
static enum err write_encoder(const struct model_package *package, const struct model_encoder *e,
                              enum model_deploy as, const char *base_name, const char *folder,
                              struct err_info *reterr)
{
    const struct model_package_info *info = model_package_info(package);
    const char **labels = label_list(info->labels);
    if (info->labels->count && !labels) {
        return proto_err_set(reterr, E_NO_MEMORY, "model: no memory for its labels");
    }
    enum err err;
    if (as == MODEL_DEPLOY_SAFETENSORS) {
        err = model_encoder_save(e, labels, folder, reterr);
    } else if (as == MODEL_DEPLOY_PEFT) {
        err = model_adapter_save(e, base_name, folder, reterr);
        err = err ? err : write_config(e, labels, folder, reterr);
    } else {
        err = model_onnx_write(e, *info->name ? info->name : "model",
                               as == MODEL_DEPLOY_INT8 ? MODEL_ONNX_INT8 : MODEL_ONNX_FLOAT, folder,
                               "model.onnx", reterr);
        err = err ? err : write_config(e, labels, folder, reterr);
    }
    proto_free(labels);
    return err;
}

enum err model_deploy_write(const struct model_package *package, const struct model_package *base,
                            enum model_deploy as, double prune, const char *folder,
                            struct model_deployed *ret, struct err_info *reterr)
{
    const struct model_package_info *info = model_package_info(package);
    struct model_shape shape = own_shape(package);
    struct model_encoder *e = NULL;
    if (as == MODEL_DEPLOY_PEFT && !info->has_base) {
        return proto_err_set(reterr, E_USAGE,
                             "model %s was trained whole: it has no adapters; export it as "
                             "safetensors",
                             info->name);
    }
    if (as == MODEL_DEPLOY_PEFT && prune > 0) {
        return proto_err_set(reterr, E_USAGE, "adapters alone are not pruned");
    }
    if (as != MODEL_DEPLOY_PEFT) {
        shape.training = MODEL_TRAIN_FULL; /* adapters are merged */
    }
    enum err err = model_package_encoder(package, base, &shape, info->labels, 0, &e, reterr);
    if (!err && (prune > 0 || prune < 0)) {
        err = model_encoder_prune(e, prune, reterr);
    }
    if (!err) {
        model_encoder_sparsity(e, &ret->zeros, &ret->numbers);
    }
    err = err ? err
              : write_encoder(package, e, as, base ? model_package_info(base)->name : "", folder,
                              reterr);
    if (!err && as != MODEL_DEPLOY_PEFT) {
        err = model_package_vocabulary(base ? base : package, folder, reterr);
    }
    model_encoder_close(e);
    return err;
}

/* --- answers ------------------------------------------------------------------------------------------- */

/* Texts as they were read, so that predictions can be shown beside their words. */
struct reading {
    char *text; /* a copy with zeros for what stands between words */
    const char **words;
    size_t word_count, word_cap;
    size_t *sentence_at; /* sentences + 1: first word */
    size_t sentences, sentence_cap;
};

static void reading_fini(struct reading *r)
{
    proto_free(r->text);
    proto_free(r->words);
    proto_free(r->sentence_at);
}

static bool grow(void **array, size_t *cap, size_t count, size_t size)
{
    if (count < *cap) {
        return true;
    }
    size_t more = *cap * 2 + 256;
    void *p = proto_realloc(*array, more, size);
    if (p) {
        *array = p;
        *cap = more;
    }
    return p != NULL;
}

static enum err end_sentence(struct reading *r)
{
    if (!grow((void **)&r->sentence_at, &r->sentence_cap, r->sentences + 1,
              sizeof *r->sentence_at)) {
        return E_NO_MEMORY;
    }
    r->sentence_at[++r->sentences] = r->word_count;
    return E_OK;
}

/* The words of a line that ends with a zero: all, or the first alone. */
static enum err take_line(struct reading *r, char *line, bool first_only)
{
    static const char white[] = " \t\r";
    for (char *at = line + strspn(line, white); *at;) {
        size_t n = strcspn(at, white);
        bool last = at[n] == 0;
        at[n] = 0;
        if (!grow((void **)&r->words, &r->word_cap, r->word_count, sizeof *r->words)) {
            return E_NO_MEMORY;
        }
        r->words[r->word_count++] = at;
        at += last || first_only ? strlen(at) : n + 1;
        at += last || first_only ? 0 : strspn(at, white);
    }
    return E_OK;
}

/* WORDS: one word a line. Otherwise one sentence a line, taken apart when TAGGED, else whole. */
static enum err read_text(struct span text, bool words, bool tagged, struct reading *r,
                          struct err_info *reterr)
{
    if (!proto_utf8_valid(text) || memchr(text.ptr, 0, text.len)) {
        return proto_err_set(reterr, E_INVALID, "the data is no UTF-8 text");
    }
    r->text = proto_alloc(text.len + 2, 1);
    bool room =
        r->text && grow((void **)&r->sentence_at, &r->sentence_cap, 0, sizeof *r->sentence_at);
    enum err err = room ? E_OK : E_NO_MEMORY;
    if (!err) {
        memcpy(r->text, text.ptr, text.len);
        r->sentence_at[0] = 0;
    }
    for (size_t at = 0; !err && at < text.len;) {
        char *line = r->text + at;
        size_t n = strcspn(line, "\n");
        line[n] = 0;
        at += n + 1;
        if (!words && !tagged) {
            err = grow((void **)&r->words, &r->word_cap, r->word_count, sizeof *r->words)
                      ? E_OK
                      : E_NO_MEMORY;
            if (!err) {
                r->words[r->word_count++] = line;
            }
        } else {
            err = take_line(r, line, words);
        }
        bool open = r->word_count > (r->sentences ? r->sentence_at[r->sentences] : 0);
        bool ends = words ? line[0] == 0 || line[0] == '\r' : true;
        if (!err && ends && (open || !words)) {
            err = end_sentence(r);
        }
    }
    if (!err && r->word_count > r->sentence_at[r->sentences]) {
        err = end_sentence(r);
    }
    return err ? proto_err_set(reterr, err, "no memory for the texts") : E_OK;
}

struct showing {
    const struct reading *reading;
    const struct model_words *labels;
    model_answer_fn *see;
    void *user;
    const char **tags;
    size_t tags_cap;
};

static enum err show_tags(void *user, uint32_t sentence, const uint16_t *labels, size_t words)
{
    struct showing *s = user;
    if (words > s->tags_cap || !s->tags) {
        proto_free(s->tags);
        s->tags_cap = words * 2 + 64;
        s->tags = proto_alloc(s->tags_cap, sizeof *s->tags);
        if (!s->tags) {
            s->tags_cap = 0;
            return E_NO_MEMORY;
        }
    }
    for (size_t i = 0; i < words; i++) {
        s->tags[i] = model_words_get(s->labels, labels[i]);
    }
    struct model_answer answer = {.words = words,
                                  .word = s->reading->words + s->reading->sentence_at[sentence],
                                  .tag = s->tags,
                                  .labels = s->labels};
    return s->see(s->user, &answer);
}

static enum err show_classes(struct showing *s, const float *p)
{
    enum err err = E_OK;
    for (size_t i = 0; !err && i < s->reading->sentences; i++, p += s->labels->count) {
        uint32_t best = 0;
        for (uint32_t j = 1; j < s->labels->count; j++) {
            best = p[j] > p[best] ? j : best;
        }
        struct model_answer answer = {
            .label = model_words_get(s->labels, best), .probabilities = p, .labels = s->labels};
        err = s->see(s->user, &answer);
    }
    return err;
}

static enum err fill(struct model_corpus *corpus, const struct reading *r, bool tagged,
                     struct err_info *reterr)
{
    enum err err = E_OK;
    for (size_t i = 0; !err && i < r->sentences; i++) {
        size_t from = r->sentence_at[i], count = r->sentence_at[i + 1] - from;
        err = tagged
                  ? model_corpus_words(corpus, 0, r->words + from, NULL, count, reterr)
                  : model_corpus_text(corpus, 0, span_str(count ? r->words[from] : ""), -1, reterr);
    }
    return err ? err : model_corpus_seal(corpus, reterr);
}

struct model_predictor {
    struct model_tuner *tuner;
    bool tagged;
    char name[65]; /* of the model */
};

enum err model_predictor_open(const struct model_package *package, const struct model_package *base,
                              unsigned threads, struct model_predictor **ret,
                              struct err_info *reterr)
{
    const struct model_package_info *info = model_package_info(package);
    if (info->labels->count == 0 || info->shape.task == MODEL_TASK_MASKED) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "model %s has no classifier: only a tuned model predicts", info->name);
    }
    struct model_predictor *p = proto_alloc(1, sizeof *p);
    const char **labels = label_list(info->labels);
    struct model_tuning tuning = {.task = info->shape.task,
                                  .training = info->shape.training,
                                  .targets = info->shape.targets,
                                  .rank = info->shape.rank,
                                  .alpha = info->shape.alpha,
                                  .labels = labels,
                                  .label_count = info->labels->count,
                                  .any_labels = true,
                                  .longest =
                                      info->shape.positions < 512 ? info->shape.positions : 512,
                                  .dropout = 0};
    tuning.stride = tuning.longest > 4 * STRIDE ? STRIDE : 0;
    enum err err = p && labels
                       ? model_tuner_open(package, base, &tuning, threads, &p->tuner, reterr)
                       : proto_err_set(reterr, E_NO_MEMORY, "model: no memory for its labels");
    proto_free(labels);
    if (err) {
        model_predictor_close(p);
        return err;
    }
    p->tagged = info->shape.task == MODEL_TASK_TOKENS;
    snprintf(p->name, sizeof p->name, "%s", info->name);
    *ret = p;
    return E_OK;
}

void model_predictor_close(struct model_predictor *p)
{
    if (p) {
        model_tuner_close(p->tuner);
        proto_free(p);
    }
}

static enum err answer(struct model_predictor *p, const struct reading *r, model_answer_fn *see,
                       void *user, struct err_info *reterr)
{
    struct showing s = {
        .reading = r, .labels = model_tuner_labels(p->tuner), .see = see, .user = user};
    struct model_corpus *corpus = NULL;
    float *classes = NULL;
    enum err err = model_tuner_corpus(p->tuner, &corpus, reterr);
    err = err ? err : fill(corpus, r, p->tagged, reterr);
    if (!err && p->tagged) {
        err = model_tuner_tags(p->tuner, corpus, show_tags, &s, reterr);
    } else if (!err) {
        err = model_tuner_classes(p->tuner, corpus, &classes, reterr);
        err = err ? err : show_classes(&s, classes);
    }
    proto_free(classes);
    proto_free(s.tags);
    model_corpus_free(corpus);
    return err;
}

enum err model_predictor_answer(struct model_predictor *p, struct span text, bool words,
                                model_answer_fn *see, void *user, struct err_info *reterr)
{
    struct reading r = {0};
    if (words && !p->tagged) {
        return proto_err_set(reterr, E_USAGE,
                             "model %s classifies whole texts: give one text a line", p->name);
    }
    enum err err = read_text(text, words, p->tagged, &r, reterr);
    err = err ? err : answer(p, &r, see, user, reterr);
    reading_fini(&r);
    return err;
}
