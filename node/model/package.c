#include "config.h"
#include "node/model/package.h"

#include <stdio.h>
#include <string.h>

#include "node/model/encoder_config.h"
#include "node/model/encoder_internal.h"
#include "node/model/encoder_save.h"
#include "node/model/folder.h"
#include "node/model/safetensors_write.h"

#define FORMAT    "1"
#define KEY(name) "concordat." name
#define HEADS     7u
#define PERSONAL  "personal" /* of KEY("head") */

/* Tensors of any head, taken along when a folder has them. */
static const char *const head_names[HEADS] = {"bert.pooler.dense.weight",
                                              "bert.pooler.dense.bias",
                                              "classifier.weight",
                                              "classifier.bias",
                                              "cls.predictions.transform.dense.weight",
                                              "cls.predictions.transform.dense.bias",
                                              "cls.predictions.bias"};
static const char *const head_norms[2] = {"cls.predictions.transform.LayerNorm.weight",
                                          "cls.predictions.transform.LayerNorm.bias"};

struct model_package {
    struct model_safetensors *file;
    struct model_config config;
    struct model_package_info info;
};

/* --- import -------------------------------------------------------------------------------------------- */

/* What is read of a folder before it is written as one. */
struct import {
    const char *folder;
    struct model_config config;
    struct model_safetensors *file;
    struct model_encoder *layout;
    struct model_tensor_source *sources;
    size_t count;
    float *zeros; /* token types of a family that has none */
    struct buf vocabulary, options, written_config;
    bool json; /* the vocabulary is tokenizer.json */
};

static void import_fini(struct import *m)
{
    model_config_fini(&m->config);
    model_safetensors_close(m->file);
    model_encoder_close(m->layout);
    proto_free(m->sources);
    proto_free(m->zeros);
    buf_fini(&m->vocabulary);
    buf_fini(&m->options);
    buf_fini(&m->written_config);
}

/* Every number is read once, so that what is not finite is refused here and not in a round. */
static enum err check_numbers(const struct model_safetensors *file,
                              const struct model_tensor_entry *entry, struct err_info *reterr)
{
    float *numbers = proto_alloc((size_t)entry->count + 1, sizeof *numbers);
    if (!numbers) {
        return proto_err_set(reterr, E_NO_MEMORY, "model: no memory for \"%.80s\"", entry->name);
    }
    enum err err = model_safetensors_floats(file, entry, numbers, (size_t)entry->count, reterr);
    proto_free(numbers);
    return err;
}

static enum err add_source(struct import *m, const char *name,
                           const struct model_tensor_entry *entry, uint64_t first_row,
                           struct err_info *reterr)
{
    if (entry->dims < 1 || entry->dims > 2) {
        return proto_err_set(reterr, E_SCHEMA, "model: tensor \"%.80s\" is no matrix", name);
    }
    struct model_tensor_source *s = &m->sources[m->count++];
    *s = (struct model_tensor_source){
        .name = name, .dims = entry->dims, .file = m->file, .entry = entry, .first_row = first_row};
    s->shape[0] = entry->shape[0] - first_row;
    s->shape[1] = entry->dims == 2 ? entry->shape[1] : 0;
    return check_numbers(m->file, entry, reterr);
}

/* One tensor of the base: as it is, or as the family keeps it. */
static enum err add_base(struct import *m, const struct model_tensor *tensor,
                         struct err_info *reterr)
{
    const struct model_tensor_entry *entry =
        model_entry_find(m->file, m->config.family, tensor->name);
    if (entry && model_entry_fits(tensor, entry)) {
        return add_source(m, tensor->name, entry, 0, reterr);
    }
    struct model_tensor shifted = *tensor;
    shifted.rows += 2;
    if (entry && m->config.family == MODEL_FAMILY_ROBERTA &&
        strstr(tensor->name, "position_embeddings") && model_entry_fits(&shifted, entry)) {
        return add_source(m, tensor->name, entry, 2, reterr);
    }
    if (!entry && m->config.family == MODEL_FAMILY_DISTILBERT &&
        strstr(tensor->name, "token_type_embeddings")) {
        m->zeros = proto_alloc(tensor->cols, sizeof *m->zeros);
        m->sources[m->count++] = (struct model_tensor_source){
            .name = tensor->name, .dims = 2, .shape = {1, tensor->cols}, .floats = m->zeros};
        return m->zeros ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "model: no memory");
    }
    return proto_err_set(reterr, E_SCHEMA, "model: tensor \"%s\" is %s, expected %zu x %zu",
                         tensor->name, entry ? "of another shape" : "missing", tensor->rows,
                         tensor->cols);
}

static enum err add_heads(struct import *m, struct err_info *reterr)
{
    enum err err = E_OK;
    for (unsigned i = 0; !err && i < HEADS + 2; i++) {
        const char *name = i < HEADS ? head_names[i] : head_norms[i - HEADS];
        /* DistilBERT classifies sequences by another formula (ReLU): its classifier fits tokens only. */
        bool other = m->config.family == MODEL_FAMILY_DISTILBERT &&
                     m->config.shape.task == MODEL_TASK_SEQUENCE &&
                     strncmp(name, "classifier", 10) == 0;
        const struct model_tensor_entry *entry =
            other ? NULL : model_entry_find(m->file, m->config.family, name);
        if (entry) {
            err = add_source(m, name, entry, 0, reterr);
        }
    }
    return err;
}

static enum err read_vocabulary(struct import *m, struct err_info *reterr)
{
    struct model_tokenizer *tokenizer = NULL;
    struct err_info missing = {0};
    enum err err = model_tokenizer_open(m->folder, &tokenizer, reterr);
    if (err) {
        return err;
    }
    uint32_t pieces = model_tokenizer_pieces(tokenizer)->count;
    model_tokenizer_close(tokenizer);
    if (pieces > m->config.shape.vocabulary) {
        return proto_err_set(reterr, E_SCHEMA,
                             "model: the vocabulary has %u pieces, the model has %u", pieces,
                             m->config.shape.vocabulary);
    }
    m->vocabulary.max = m->options.max = MODEL_VOCABULARY_BYTES_MAX;
    err = model_folder_read(m->folder, "vocab.txt", &m->vocabulary, &missing);
    if (err == E_NOT_FOUND) {
        m->json = true;
        return model_folder_read(m->folder, "tokenizer.json", &m->vocabulary, reterr);
    }
    err = err ? proto_err_set(reterr, err, "%s", missing.text) : E_OK;
    if (!err) {
        err = model_folder_read(m->folder, "tokenizer_config.json", &m->options, &missing);
        err = err == E_NOT_FOUND ? E_OK : err;
    }
    return err;
}

static enum err read_folder(struct import *m, struct err_info *reterr)
{
    char path[PATH_MAX];
    struct buf config = {.max = MODEL_CONFIG_MAX};
    int n = snprintf(path, sizeof path, "%s/model.safetensors", m->folder);
    if (n < 0 || (size_t)n >= sizeof path) {
        return proto_err_set(reterr, E_LIMIT, "the path of the model is too long");
    }
    enum err err = model_folder_read(m->folder, "config.json", &config, reterr);
    err = err ? err : model_config_read(buf_span(&config), &m->config, reterr);
    buf_fini(&config);
    err = err ? err : read_vocabulary(m, reterr);
    err = err ? err : model_safetensors_open(path, &m->file, reterr);
    if (err) {
        return err;
    }
    struct model_shape shape = m->config.shape;
    shape.task = MODEL_TASK_TOKENS;
    shape.labels = 1;
    err = model_encoder_layout(&shape, &m->layout, reterr);
    m->sources = err ? NULL : proto_alloc(m->layout->head + HEADS + 2, sizeof *m->sources);
    if (!err && !m->sources) {
        err = proto_err_set(reterr, E_NO_MEMORY, "model: no memory");
    }
    for (size_t i = 0; !err && i < m->layout->head; i++) {
        err = add_base(m, &m->layout->tensors[i], reterr);
    }
    return err ? err : add_heads(m, reterr);
}

/* A text of the notes: no zero byte may stand in it. */
static enum err as_text(struct buf *buf, const char *what, struct err_info *reterr)
{
    enum err err = buf_put(buf, span_of((const uint8_t *)"", 1));
    if (!err && strlen((const char *)buf->ptr) + 1 != buf->len) {
        return proto_err_set(reterr, E_INVALID, "%s: it holds a zero byte", what);
    }
    return err ? proto_err_set(reterr, err, "%s: no memory", what) : E_OK;
}

static enum err label_list(const struct model_words *labels, const char ***ret)
{
    const char **list = proto_alloc((size_t)labels->count + 1, sizeof *list);
    for (uint32_t i = 0; list && i < labels->count; i++) {
        list[i] = model_words_get(labels, i);
    }
    *ret = list;
    return list ? E_OK : E_NO_MEMORY;
}

static enum err encode_import(struct import *m, const char *name, const char *licence,
                              struct buf *ret, struct err_info *reterr)
{
    const char **labels = NULL;
    enum err err = label_list(&m->config.labels, &labels);
    m->written_config.max = MODEL_CONFIG_MAX;
    err = err ? err
              : model_config_encode(&m->config.shape, m->config.labels.count ? labels : NULL,
                                    &m->written_config, reterr);
    proto_free(labels);
    err = err ? err : as_text(&m->written_config, "config.json", reterr);
    err = err ? err : as_text(&m->vocabulary, "the vocabulary", reterr);
    err = err ? err : as_text(&m->options, "tokenizer_config.json", reterr);
    if (err) {
        return err;
    }
    struct model_safetensors_note notes[6] = {
        {KEY("package"), FORMAT},
        {KEY("name"), name},
        {KEY("licence"), licence},
        {KEY("config"), (const char *)m->written_config.ptr},
        {m->json ? KEY("tokenizer") : KEY("vocabulary"), (const char *)m->vocabulary.ptr},
        {KEY("tokenizer_config"), (const char *)m->options.ptr}};
    return model_safetensors_encode_notes(m->sources, m->count, notes, m->options.len > 1 ? 6 : 5,
                                          ret, reterr);
}

static enum err check_names(const char *name, const char *licence, struct err_info *reterr)
{
    bool fits = strlen(name) > 0 && strlen(name) <= MODEL_PACKAGE_NAME_MAX &&
                strlen(licence) <= MODEL_PACKAGE_SPDX_MAX;
    return fits ? E_OK
                : proto_err_set(reterr, E_USAGE,
                                "model: a name has 1 to %u bytes, a licence at most %u",
                                MODEL_PACKAGE_NAME_MAX, MODEL_PACKAGE_SPDX_MAX);
}

enum err model_package_import(const char *folder, const char *name, const char *licence,
                              struct buf *ret, struct err_info *reterr)
{
    struct import m = {.folder = folder};
    enum err err = check_names(name, licence, reterr);
    err = err ? err : read_folder(&m, reterr);
    err = err ? err : encode_import(&m, name, licence, ret, reterr);
    import_fini(&m);
    return err;
}

/* --- opening ------------------------------------------------------------------------------------------- */

static const char *note(const struct model_package *p, const char *key)
{
    return model_safetensors_text(p->file, key);
}

static enum err read_adapter(struct model_package *p, struct err_info *reterr)
{
    const char *base = note(p, KEY("base")), *adapter = note(p, KEY("adapter"));
    if (!base) {
        return E_OK;
    }
    if (!span_from_hex(base, p->info.base, 32) || !adapter) {
        return proto_err_set(reterr, E_INVALID,
                             "model: the base of its adapters is no hash, or the adapters are not "
                             "described");
    }
    p->info.has_base = true;
    enum model_task task = p->info.shape.task;
    enum err err = model_adapter_config_read(span_str(adapter), &p->info.shape, reterr);
    p->info.shape.task = task;
    return err;
}

/* What the blob tells about itself. */
static enum err read_info(struct model_package *p, struct err_info *reterr)
{
    const char *version = note(p, KEY("package")), *config = note(p, KEY("config"));
    if (!version || !config) {
        return proto_err_set(reterr, E_INVALID, "model: it is no package of this kind");
    }
    if (strcmp(version, FORMAT) != 0) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "model: a package of version %.20s; this is version " FORMAT, version);
    }
    enum err err = model_config_read(span_str(config), &p->config, reterr);
    if (err) {
        return err;
    }
    p->info.shape = p->config.shape;
    p->info.labels = &p->config.labels;
    p->info.name = note(p, KEY("name")) ? note(p, KEY("name")) : "";
    p->info.personal_head = note(p, KEY("head")) && strcmp(note(p, KEY("head")), PERSONAL) == 0;
    p->info.licence = note(p, KEY("licence")) ? note(p, KEY("licence")) : "";
    for (size_t i = 0; i < model_safetensors_count(p->file); i++) {
        p->info.parameters += model_safetensors_entry(p->file, i)->count;
    }
    return read_adapter(p, reterr);
}

enum err model_package_open(struct span blob, struct model_package **ret, struct err_info *reterr)
{
    struct model_package *p = proto_alloc(1, sizeof *p);
    if (!p) {
        return proto_err_set(reterr, E_NO_MEMORY, "model: no memory");
    }
    enum err err = model_safetensors_bytes(blob, &p->file, reterr);
    err = err ? err : read_info(p, reterr);
    if (err) {
        model_package_close(p);
        return err;
    }
    *ret = p;
    return E_OK;
}

void model_package_close(struct model_package *p)
{
    if (p) {
        model_safetensors_close(p->file);
        model_config_fini(&p->config);
        proto_free(p);
    }
}

const struct model_package_info *model_package_info(const struct model_package *p)
{
    return &p->info;
}

enum err model_package_tokenizer(const struct model_package *p, struct model_tokenizer **ret,
                                 struct err_info *reterr)
{
    const char *json = note(p, KEY("tokenizer")), *vocabulary = note(p, KEY("vocabulary"));
    const char *config = note(p, KEY("tokenizer_config"));
    if (json) {
        return model_tokenizer_json(span_str(json), ret, reterr);
    }
    struct model_tokenizer_options options = MODEL_TOKENIZER_UNCASED;
    enum err err = vocabulary ? E_OK
                              : proto_err_set(reterr, E_SCHEMA,
                                              "model: the vocabulary is that of its base model");
    err = err || !config ? err : model_tokenizer_options_json(span_str(config), &options, reterr);
    return err ? err : model_tokenizer_vocabulary(span_str(vocabulary), &options, ret, reterr);
}

enum err model_package_vocabulary(const struct model_package *p, const char *folder,
                                  struct err_info *reterr)
{
    static const struct {
        const char *key, *file;
    } texts[] = {{KEY("vocabulary"), "vocab.txt"},
                 {KEY("tokenizer"), "tokenizer.json"},
                 {KEY("tokenizer_config"), "tokenizer_config.json"}};
    size_t written = 0;
    enum err err = E_OK;
    for (size_t i = 0; !err && i < sizeof texts / sizeof *texts; i++) {
        const char *text = note(p, texts[i].key);
        if (text) {
            err = model_folder_write(folder, texts[i].file, span_str(text), reterr);
            written++;
        }
    }
    return err || written
               ? err
               : proto_err_set(reterr, E_SCHEMA, "model: the vocabulary is that of its base model");
}

/* --- encoders ------------------------------------------------------------------------------------------ */

static bool same_adapters(const struct model_shape *a, const struct model_shape *b)
{
    return model_shape_adapted(a) && model_shape_adapted(b) && a->targets == b->targets &&
           a->rank == b->rank && a->alpha == b->alpha;
}

/* Copies what FROM has under the names and shapes of TO. */
static void copy_weights(const struct model_encoder *from, struct model_encoder *to)
{
    for (size_t i = 0; i < to->tensor_count; i++) {
        struct model_tensor *t = &to->tensors[i];
        const struct model_tensor *f = model_encoder_tensor(from, t->name);
        if (f && f->rows == t->rows && f->cols == t->cols) {
            memcpy(to->weights + t->at, from->weights + f->at,
                   t->rows * t->cols * sizeof *to->weights);
        }
    }
}

/* PACKAGE's adapters, and its head when it is wanted. */
static enum err take_adapters(const struct model_package *package, struct model_encoder *e,
                              bool head, struct err_info *reterr)
{
    if (head) {
        return model_adapter_load(e, package->file, reterr);
    }
    struct model_shape shape = package->info.shape;
    struct model_encoder *own = NULL;
    enum err err = model_encoder_new(&shape, 0, &own, reterr);
    err = err ? err : model_adapter_load(own, package->file, reterr);
    for (size_t i = 0; !err && i < e->tensor_count - e->adapters; i++) {
        struct model_tensor *to = &e->tensors[e->adapters + i];
        const struct model_tensor *from = &own->tensors[own->adapters + i];
        memcpy(e->weights + to->at, own->weights + from->at,
               to->rows * to->cols * sizeof *e->weights);
    }
    model_encoder_close(own);
    return err;
}

/* Adapters of another kind than SHAPE asks for: merged, then copied. */
static enum err merged_encoder(const struct model_package *package,
                               const struct model_package *base, bool head, uint64_t seed,
                               struct model_encoder *to, struct err_info *reterr)
{
    struct model_shape shape = package->info.shape;
    struct model_encoder *own = NULL;
    enum err err = model_encoder_new(&shape, seed, &own, reterr);
    err = err ? err : model_encoder_load(own, base->file, reterr);
    err = err ? err : model_adapter_load(own, package->file, reterr);
    if (!err) {
        model_encoder_merge(own);
        own->tensor_count = head ? own->adapters : own->head;
        copy_weights(own, to);
    }
    model_encoder_close(own);
    return err;
}

static bool same_labels(const struct model_words *a, const struct model_words *b)
{
    bool same = b && a->count == b->count;
    for (uint32_t i = 0; same && i < a->count; i++) {
        same = strcmp(model_words_get(a, i), model_words_get(b, i)) == 0;
    }
    return same;
}

enum err model_package_encoder(const struct model_package *package,
                               const struct model_package *base, const struct model_shape *shape,
                               const struct model_words *labels, uint64_t seed,
                               struct model_encoder **ret, struct err_info *reterr)
{
    const struct model_package_info *info = &package->info;
    if (info->has_base != (base != NULL)) {
        return proto_err_set(reterr, E_USAGE, "model: %s",
                             base ? "it needs no base model" : "its base model is missing");
    }
    bool head = shape->task == MODEL_TASK_MASKED ||
                (info->shape.task == shape->task && same_labels(info->labels, labels));
    struct model_encoder *e = NULL;
    enum err err = model_encoder_new(shape, seed, &e, reterr);
    if (!err && base && !same_adapters(&info->shape, shape)) {
        err = merged_encoder(package, base, head, seed, e, reterr);
    } else if (!err) {
        err = model_encoder_load_part(e, base ? base->file : package->file, head && !base, reterr);
        err = err || !base ? err : take_adapters(package, e, head, reterr);
    }
    if (err) {
        model_encoder_close(e);
        return err;
    }
    *ret = e;
    return E_OK;
}

/* --- encoding ------------------------------------------------------------------------------------------ */

static enum err encode_adapter(const struct model_encoder *e, const char *const *labels,
                               const uint8_t base_hash[32], const char *base_name,
                               bool personal_head, const char *name, const char *licence,
                               struct buf *ret, struct err_info *reterr)
{
    struct buf config = {.max = MODEL_CONFIG_MAX}, adapter = {.max = MODEL_CONFIG_MAX};
    char hex[65];
    span_to_hex(span_of(base_hash, 32), hex);
    enum err err = model_config_encode(&e->shape, labels, &config, reterr);
    err = err ? err : as_text(&config, "config.json", reterr);
    err = err ? err : model_adapter_config(&e->shape, base_name, &adapter, reterr);
    err = err ? err : as_text(&adapter, "adapter_config.json", reterr);
    if (!err) {
        const struct model_safetensors_note notes[] = {
            {KEY("package"), FORMAT},  {KEY("name"), name},
            {KEY("licence"), licence}, {KEY("config"), (const char *)config.ptr},
            {KEY("base"), hex},        {KEY("adapter"), (const char *)adapter.ptr},
            {KEY("head"), PERSONAL}};
        size_t count = sizeof notes / sizeof *notes;
        err = model_adapter_encode(e, notes, personal_head ? count : count - 1, ret, reterr);
    }
    buf_fini(&config);
    buf_fini(&adapter);
    return err;
}

static enum err encode_whole(const struct model_encoder *e, const char *const *labels,
                             const struct model_package *base, bool personal_head, const char *name,
                             const char *licence, struct buf *ret, struct err_info *reterr)
{
    static const char *const copied[] = {KEY("tokenizer"), KEY("vocabulary"),
                                         KEY("tokenizer_config")};
    struct buf config = {.max = MODEL_CONFIG_MAX};
    enum err err = model_config_encode(&e->shape, labels, &config, reterr);
    err = err ? err : as_text(&config, "config.json", reterr);
    if (!err) {
        struct model_safetensors_note notes[8] = {{KEY("package"), FORMAT},
                                                  {KEY("name"), name},
                                                  {KEY("licence"), licence},
                                                  {KEY("config"), (const char *)config.ptr}};
        size_t count = 4;
        for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
            const char *text = note(base, copied[i]);
            if (text) {
                notes[count++] = (struct model_safetensors_note){copied[i], text};
            }
        }
        if (personal_head) {
            notes[count++] = (struct model_safetensors_note){KEY("head"), PERSONAL};
        }
        err = model_encoder_encode(e, notes, count, ret, reterr);
    }
    buf_fini(&config);
    return err;
}

enum err model_package_encode(const struct model_encoder *e, const struct model_words *labels,
                              const struct model_package *base, const uint8_t *base_hash,
                              bool personal_head, const char *name, const char *licence,
                              struct buf *ret, struct err_info *reterr)
{
    const char **list = NULL;
    enum err err = check_names(name, licence, reterr);
    err = err ? err : label_list(labels, &list);
    const char **given = labels->count ? list : NULL;
    if (!err) {
        err = base_hash ? encode_adapter(e, given, base_hash, base->info.name, personal_head, name,
                                         licence, ret, reterr)
                        : encode_whole(e, given, base, personal_head, name, licence, ret, reterr);
    }
    proto_free(list);
    return err;
}

/* --- adapters from PEFT ------------------------------------------------------------------------------------ */

bool model_package_is_adapter(const char *folder, char ret_base[MODEL_PACKAGE_NAME_MAX + 1])
{
    struct buf buf = {.max = MODEL_CONFIG_MAX};
    ret_base[0] = 0;
    bool is = model_folder_read(folder, "adapter_config.json", &buf, NULL) == E_OK;
    if (is) {
        model_adapter_base(buf_span(&buf), ret_base, MODEL_PACKAGE_NAME_MAX + 1);
    }
    buf_fini(&buf);
    return is;
}

/* Of config.json beside the adapters, or LABEL_0, .. for COUNT rows of the classifier. */
static enum err adapter_labels(const char *folder, uint32_t count, struct model_words *labels,
                               struct err_info *reterr)
{
    struct buf buf = {.max = MODEL_CONFIG_MAX};
    struct model_config config;
    enum err err = model_folder_read(folder, "config.json", &buf, NULL);
    if (!err) {
        err = model_config_read(buf_span(&buf), &config, reterr);
        if (!err && config.labels.count == count) {
            *labels = config.labels;
            config.labels = (struct model_words){0};
        }
        if (!err) {
            model_config_fini(&config);
        }
    } else {
        err = err == E_NOT_FOUND ? E_OK : proto_err_set(reterr, err, "config.json cannot be read");
    }
    buf_fini(&buf);
    labels->max = MODEL_LABELS_MAX;
    for (uint32_t i = labels->count; !err && i < count; i++) {
        char label[24];
        uint32_t id = 0;
        snprintf(label, sizeof label, "LABEL_%u", i);
        err = model_words_add(labels, span_str(label), &id);
    }
    return err;
}

/* Adapters and head of FILE in an encoder of their own over BASE. */
static enum err adapter_encoder(const struct model_safetensors *file,
                                const struct model_package *base, struct model_shape *shape,
                                struct model_encoder **ret, struct err_info *reterr)
{
    const struct model_tensor_entry *classifier =
        model_safetensors_find(file, "base_model.model.classifier.weight");
    if (shape->task == MODEL_TASK_MASKED) {
        shape->labels = shape->vocabulary;
    } else if (!classifier || classifier->dims != 2 || classifier->shape[0] > MODEL_LABELS_MAX) {
        return proto_err_set(
            reterr, E_SCHEMA,
            "adapter: it has no classifier (modules_to_save), so that nothing says "
            "what it labels");
    } else {
        shape->labels = (uint32_t)classifier->shape[0];
    }
    struct model_encoder *e = NULL;
    enum err err = model_package_encoder(base, NULL, shape, NULL, 0, &e, reterr);
    err = err ? err : model_adapter_load(e, file, reterr);
    if (err) {
        model_encoder_close(e);
        return err;
    }
    *ret = e;
    return E_OK;
}

enum err model_package_import_adapter(const char *folder, const struct model_package *base,
                                      const uint8_t base_hash[32], const char *name,
                                      const char *licence, struct buf *ret, struct err_info *reterr)
{
    char path[PATH_MAX];
    struct buf config = {.max = MODEL_CONFIG_MAX};
    struct model_shape shape = base->info.shape;
    struct model_safetensors *file = NULL;
    struct model_encoder *e = NULL;
    struct model_words labels = {0};
    int n = snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    enum err err = n > 0 && (size_t)n < sizeof path
                       ? check_names(name, licence, reterr)
                       : proto_err_set(reterr, E_LIMIT, "the path of the adapters is too long");
    if (!err && base->info.has_base) {
        err = proto_err_set(reterr, E_USAGE, "model: a base of adapters is a whole model");
    }
    err = err ? err : model_folder_read(folder, "adapter_config.json", &config, reterr);
    err = err ? err : model_adapter_config_read(buf_span(&config), &shape, reterr);
    err = err ? err : model_safetensors_open(path, &file, reterr);
    err = err ? err : adapter_encoder(file, base, &shape, &e, reterr);
    if (!err && shape.task != MODEL_TASK_MASKED) {
        err = adapter_labels(folder, shape.labels, &labels, reterr);
    }
    err =
        err ? err
            : model_package_encode(e, &labels, base, base_hash, false, name, licence, ret, reterr);
    model_words_fini(&labels);
    model_encoder_close(e);
    model_safetensors_close(file);
    buf_fini(&config);
    return err;
}
