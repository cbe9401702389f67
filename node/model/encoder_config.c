#include "config.h"
#include "node/model/encoder_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "node/model/folder.h"
#include "proto/alloc.h"

/* --- reading ------------------------------------------------------------------------------------------- */

/* A whole number of a family: its key (NULL: FIXED), and what is taken off it. */
struct count_key {
    const char *key;
    uint32_t fixed;
};

static const struct family {
    const char *type;
    const char *activation; /* key */
    struct count_key vocabulary, hidden, layers, heads, inner, positions, types;
    uint32_t offset; /* of positions */
    const char *dropout, *attention_dropout;
    double eps; /* when the file tells none */
} families[MODEL_FAMILY_COUNT] = {
    [MODEL_FAMILY_BERT] = {"bert",
                           "hidden_act",
                           {"vocab_size", 0},
                           {"hidden_size", 0},
                           {"num_hidden_layers", 0},
                           {"num_attention_heads", 0},
                           {"intermediate_size", 0},
                           {"max_position_embeddings", 0},
                           {"type_vocab_size", 0},
                           0,
                           "hidden_dropout_prob",
                           "attention_probs_dropout_prob",
                           1e-12},
    [MODEL_FAMILY_DISTILBERT] = {"distilbert",
                                 "activation",
                                 {"vocab_size", 0},
                                 {"dim", 0},
                                 {"n_layers", 0},
                                 {"n_heads", 0},
                                 {"hidden_dim", 0},
                                 {"max_position_embeddings", 0},
                                 {NULL, 1},
                                 0,
                                 "dropout",
                                 "attention_dropout",
                                 1e-12},
    [MODEL_FAMILY_ROBERTA] = {"roberta",
                              "hidden_act",
                              {"vocab_size", 0},
                              {"hidden_size", 0},
                              {"num_hidden_layers", 0},
                              {"num_attention_heads", 0},
                              {"intermediate_size", 0},
                              {"max_position_embeddings", 0},
                              {"type_vocab_size", 0},
                              2,
                              "hidden_dropout_prob",
                              "attention_probs_dropout_prob",
                              1e-5},
};

static enum err read_count(const json_t *root, struct count_key from, uint32_t *ret,
                           struct err_info *reterr)
{
    if (!from.key) {
        *ret = from.fixed;
        return E_OK;
    }
    const json_t *value = json_object_get(root, from.key);
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;
    if (n < 1 || n > INT32_MAX) {
        return proto_err_set(reterr, E_INVALID,
                             "config.json: %s is missing or no positive whole number", from.key);
    }
    *ret = (uint32_t)n;
    return E_OK;
}

static enum err read_number(const json_t *root, const char *key, double otherwise, double *ret,
                            struct err_info *reterr)
{
    const json_t *value = json_object_get(root, key);
    if (value && !json_is_number(value)) {
        return proto_err_set(reterr, E_INVALID, "config.json: %s is no number", key);
    }
    *ret = value ? json_number_value(value) : otherwise;
    return E_OK;
}

/* KEY is TEXT or absent. */
static enum err may_be(const json_t *root, const char *key, const char *text,
                       struct err_info *reterr)
{
    const json_t *value = json_object_get(root, key);
    const char *got = json_string_value(value);
    if (!value || (got && strcmp(got, text) == 0)) {
        return E_OK;
    }
    return proto_err_set(reterr, E_UNSUPPORTED, "config.json: %s is not \"%s\"", key, text);
}

static enum err read_family(const json_t *root, enum model_family *ret, struct err_info *reterr)
{
    const char *type = json_string_value(json_object_get(root, "model_type"));
    for (unsigned i = 0; type && i < MODEL_FAMILY_COUNT; i++) {
        if (strcmp(type, families[i].type) == 0) {
            *ret = (enum model_family)i;
            return E_OK;
        }
    }
    return proto_err_set(reterr, E_UNSUPPORTED,
                         "config.json: model_type is not \"bert\", \"distilbert\" or \"roberta\"");
}

static enum err read_shape(const json_t *root, enum model_family family, struct model_shape *s,
                           struct err_info *reterr)
{
    const struct family *f = &families[family];
    const struct {
        struct count_key from;
        uint32_t *to;
    } counts[] = {{f->vocabulary, &s->vocabulary},
                  {f->hidden, &s->hidden},
                  {f->layers, &s->layers},
                  {f->heads, &s->heads},
                  {f->inner, &s->inner},
                  {f->positions, &s->positions},
                  {f->types, &s->types}};
    enum err err = may_be(root, f->activation, "gelu", reterr);
    err = err ? err : may_be(root, "position_embedding_type", "absolute", reterr);
    for (size_t i = 0; !err && i < sizeof counts / sizeof *counts; i++) {
        err = read_count(root, counts[i].from, counts[i].to, reterr);
    }
    if (!err && s->positions <= f->offset) {
        err = proto_err_set(reterr, E_LIMIT, "config.json: too few positions");
    }
    s->positions -= err ? 0 : f->offset;
    err = err ? err : read_number(root, "layer_norm_eps", f->eps, &s->layer_norm_eps, reterr);
    err = err ? err : read_number(root, f->dropout, 0.1, &s->dropout, reterr);
    return err ? err : read_number(root, f->attention_dropout, 0.1, &s->attention_dropout, reterr);
}

/* id2label maps "0", "1", .. to the labels. */
static enum err read_labels(const json_t *root, struct model_words *labels, struct err_info *reterr)
{
    const json_t *map = json_object_get(root, "id2label");
    if (!map) {
        return E_OK;
    }
    size_t count = json_is_object(map) ? json_object_size(map) : 0;
    if (count == 0 || count > MODEL_LABELS_MAX) {
        return proto_err_set(reterr, E_INVALID, "config.json: id2label is no map of 1 to %u labels",
                             MODEL_LABELS_MAX);
    }
    labels->max = MODEL_LABELS_MAX;
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        uint32_t id = 0;
        snprintf(key, sizeof key, "%u", i);
        const char *label = json_string_value(json_object_get(map, key));
        enum err err = label ? model_words_add(labels, span_str(label), &id) : E_INVALID;
        if (err || id != i) {
            return proto_err_set(reterr, err ? err : E_INVALID,
                                 "config.json: id2label has no label %u, or has it twice", i);
        }
    }
    return E_OK;
}

static void read_task(const json_t *root, struct model_config *config)
{
    static const struct {
        const char *end;
        enum model_task task;
    } ends[] = {{"ForTokenClassification", MODEL_TASK_TOKENS},
                {"ForSequenceClassification", MODEL_TASK_SEQUENCE},
                {"ForMaskedLM", MODEL_TASK_MASKED},
                {"ForPreTraining", MODEL_TASK_MASKED}};
    const char *name = json_string_value(json_array_get(json_object_get(root, "architectures"), 0));
    size_t len = name ? strlen(name) : 0;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t n = strlen(ends[i].end);
        if (len > n && strcmp(name + len - n, ends[i].end) == 0) {
            config->has_task = true;
            config->shape.task = ends[i].task;
        }
    }
}

static enum err judge(struct model_config *config, struct err_info *reterr)
{
    const char *why = NULL;
    struct model_shape judged = config->shape;
    judged.task = MODEL_TASK_TOKENS;
    judged.labels = judged.labels ? judged.labels : 1;
    return model_shape_valid(&judged, &why)
               ? E_OK
               : proto_err_set(reterr, E_LIMIT, "config.json: outside the limits: %s", why);
}

/* The caller releases. NULL: refused. */
static json_t *parse(struct span bytes, const char *name, struct err_info *reterr)
{
    json_error_t why = {.line = 0};
    json_t *root = bytes.len <= MODEL_CONFIG_MAX ? json_loadb((const char *)bytes.ptr, bytes.len,
                                                              JSON_REJECT_DUPLICATES, &why)
                                                 : NULL;
    if (json_is_object(root)) {
        return root;
    }
    proto_err_set(reterr, E_INVALID, "%s:%d: %.100s", name, why.line,
                  root ? "no object" : why.text);
    json_decref(root);
    return NULL;
}

enum err model_config_read(struct span bytes, struct model_config *config, struct err_info *reterr)
{
    *config = (struct model_config){0};
    json_t *root = parse(bytes, "config.json", reterr);
    if (!root) {
        return E_INVALID;
    }
    enum err err = read_family(root, &config->family, reterr);
    err = err ? err : read_shape(root, config->family, &config->shape, reterr);
    err = err ? err : read_labels(root, &config->labels, reterr);
    config->shape.labels = config->labels.count;
    read_task(root, config);
    json_decref(root);
    err = err ? err : judge(config, reterr);
    if (err) {
        model_config_fini(config);
    }
    return err;
}

void model_config_fini(struct model_config *config)
{
    model_words_fini(&config->labels);
    *config = (struct model_config){0};
}

/* --- writing ------------------------------------------------------------------------------------------- */

/* Appends ROOT as text and releases it. */
static enum err put_json(json_t *root, struct buf *ret, struct err_info *reterr)
{
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    enum err err = text ? buf_put(ret, span_str(text)) : E_INVALID;
    err = err ? err : buf_put(ret, span_str("\n"));
    free(text);
    json_decref(root);
    return err ? proto_err_set(reterr, err, "model: a name is no UTF-8, or there is no memory")
               : E_OK;
}

static enum err put_labels(json_t *root, const char *const *labels, uint32_t count,
                           struct err_info *reterr)
{
    json_t *names = json_object(), *ids = json_object();
    for (uint32_t i = 0; i < count; i++) {
        char id[16];
        snprintf(id, sizeof id, "%u", i);
        json_object_set_new(names, id, json_string(labels[i]));
        json_object_set_new(ids, labels[i], json_integer(i));
    }
    bool all = json_object_size(names) == count && json_object_size(ids) == count;
    json_object_set_new(root, "id2label", names);
    json_object_set_new(root, "label2id", ids);
    return all ? E_OK
               : proto_err_set(reterr, E_INVALID, "model: a label stands twice or is no UTF-8");
}

enum err model_config_encode(const struct model_shape *s, const char *const *labels,
                             struct buf *ret, struct err_info *reterr)
{
    static const char *const architectures[] = {[MODEL_TASK_TOKENS] = "BertForTokenClassification",
                                                [MODEL_TASK_SEQUENCE] =
                                                    "BertForSequenceClassification",
                                                [MODEL_TASK_MASKED] = "BertForMaskedLM"};
    bool headless = !labels && s->task != MODEL_TASK_MASKED;
    json_t *root = json_pack(
        "{s:[s], s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:s, s:s}",
        "architectures", headless ? "BertModel" : architectures[s->task], "model_type", "bert",
        "hidden_act", "gelu", "vocab_size", (int)s->vocabulary, "hidden_size", (int)s->hidden,
        "num_hidden_layers", (int)s->layers, "num_attention_heads", (int)s->heads,
        "intermediate_size", (int)s->inner, "max_position_embeddings", (int)s->positions,
        "type_vocab_size", (int)s->types, "layer_norm_eps", s->layer_norm_eps,
        "hidden_dropout_prob", s->dropout, "attention_probs_dropout_prob", s->attention_dropout,
        "position_embedding_type", "absolute", "torch_dtype", "float32");
    enum err err = labels ? put_labels(root, labels, s->labels, reterr) : E_OK;
    if (err) {
        json_decref(root);
        return err;
    }
    return put_json(root, ret, reterr);
}

/* --- adapters ------------------------------------------------------------------------------------------ */

/* Below a layer; the last is also the end of the fourth, see target_list. */
static const char *const target_names[MODEL_TARGET_COUNT] = {
    "query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"};

/* PEFT takes a module whose name ends with a listed one, so "output.dense" would take attention.output.dense too: where only
 * the former is meant, a pattern over whole names says so. */
static json_t *target_list(uint32_t targets)
{
    bool ambiguous =
        (targets >> MODEL_TARGET_OUTPUT & 1) && !(targets >> MODEL_TARGET_ATTENTION_OUTPUT & 1);
    char pattern[256] = ".*\\.layer\\.[0-9]+\\.(?:";
    json_t *list = json_array();
    for (unsigned i = 0, n = 0; i < MODEL_TARGET_COUNT; i++) {
        if (targets >> i & 1) {
            size_t len = strlen(pattern);
            snprintf(pattern + len, sizeof pattern - len, "%s%s%s", n++ ? "|" : "",
                     i <= MODEL_TARGET_VALUE ? "attention.self." : "", target_names[i]);
            json_array_append_new(list, json_string(target_names[i]));
        }
    }
    if (!ambiguous) {
        return list;
    }
    json_decref(list);
    strncat(pattern, ")", sizeof pattern - strlen(pattern) - 1);
    return json_string(pattern);
}

enum err model_adapter_config(const struct model_shape *s, const char *base, struct buf *ret,
                              struct err_info *reterr)
{
    static const char *const tasks[] = {[MODEL_TASK_TOKENS] = "TOKEN_CLS",
                                        [MODEL_TASK_SEQUENCE] = "SEQ_CLS",
                                        [MODEL_TASK_MASKED] = "FEATURE_EXTRACTION"};
    if (!model_shape_adapted(s)) {
        return proto_err_set(reterr, E_USAGE, "model: it has no adapters");
    }
    json_t *saved = s->task == MODEL_TASK_TOKENS     ? json_pack("[s]", "classifier")
                    : s->task == MODEL_TASK_SEQUENCE ? json_pack("[ss]", "pooler", "classifier")
                                                     : json_pack("[s]", "predictions");
    json_t *root =
        json_pack("{s:s, s:s, s:i, s:f, s:f, s:o, s:s, s:b, s:o, s:b, s:b, s:s}", "peft_type",
                  "LORA", "task_type", tasks[s->task], "r", (int)s->rank, "lora_alpha", s->alpha,
                  "lora_dropout", 0.0, "target_modules", target_list(s->targets), "bias", "none",
                  "fan_in_fan_out", 0, "modules_to_save", saved, "inference_mode", 1, "use_rslora",
                  0, "base_model_name_or_path", base);
    return put_json(root, ret, reterr);
}

/* Adds the targets that a listed NAME takes by PEFT's rule: the module's name is NAME or ends with .NAME. */
static uint32_t targets_of(const char *name)
{
    static const char *const modules[MODEL_TARGET_COUNT] = {
        "attention.self.query",   "attention.self.key", "attention.self.value",
        "attention.output.dense", "intermediate.dense", "output.dense"};
    size_t n = strlen(name);
    uint32_t targets = 0;
    for (unsigned i = 0; n > 0 && i < MODEL_TARGET_COUNT; i++) {
        char whole[64];
        /* The layer's number stands before the module: ".N." ends what a longer name could hold. */
        size_t len = (size_t)snprintf(whole, sizeof whole, ".%s", modules[i]);
        if (len > n && strcmp(whole + len - n, name) == 0 && whole[len - n - 1] == '.') {
            targets |= 1u << i;
        }
    }
    return targets;
}

static enum err read_targets(const json_t *root, uint32_t *ret, struct err_info *reterr)
{
    const json_t *value = json_object_get(root, "target_modules");
    *ret = 0;
    for (size_t i = 0; i < json_array_size(value); i++) {
        const char *name = json_string_value(json_array_get(value, i));
        uint32_t more = name ? targets_of(name) : 0;
        if (more == 0) {
            return proto_err_set(reterr, E_UNSUPPORTED,
                                 "adapter_config.json: target_modules names a layer that adapters "
                                 "cannot join here");
        }
        *ret |= more;
    }
    /* Of patterns only the project's own is known: the one without attention.output.dense. */
    for (uint32_t targets = 1; json_is_string(value) && targets <= MODEL_TARGETS_ALL; targets++) {
        json_t *list = target_list(targets);
        if (json_equal(list, value)) {
            *ret = targets;
        }
        json_decref(list);
    }
    return *ret ? E_OK
                : proto_err_set(reterr, E_UNSUPPORTED,
                                "adapter_config.json: target_modules is no list of layers");
}

static bool absent_or_false(const json_t *root, const char *key)
{
    const json_t *value = json_object_get(root, key);
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static enum err read_adapter(const json_t *root, struct model_shape *s, struct err_info *reterr)
{
    const char *kind = json_string_value(json_object_get(root, "peft_type"));
    const char *bias = json_string_value(json_object_get(root, "bias"));
    const char *task = json_string_value(json_object_get(root, "task_type"));
    const json_t *rank = json_object_get(root, "r"), *alpha = json_object_get(root, "lora_alpha");
    static const char *const off[] = {"use_rslora",   "use_dora",      "fan_in_fan_out",
                                      "rank_pattern", "alpha_pattern", "layers_to_transform"};
    if (!kind || strcmp(kind, "LORA") != 0 || (bias && strcmp(bias, "none") != 0)) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "adapter_config.json: peft_type is not LORA, or bias is not none");
    }
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        if (!absent_or_false(root, off[i])) {
            return proto_err_set(reterr, E_UNSUPPORTED, "adapter_config.json: %s is set", off[i]);
        }
    }
    if (!json_is_integer(rank) || json_integer_value(rank) < 1 ||
        json_integer_value(rank) > MODEL_RANK_MAX || !json_is_number(alpha) ||
        !(json_number_value(alpha) > 0 && json_number_value(alpha) < 1e6)) {
        return proto_err_set(reterr, E_INVALID,
                             "adapter_config.json: r or lora_alpha is missing or out of range");
    }
    s->training = MODEL_TRAIN_LORA;
    s->rank = (uint32_t)json_integer_value(rank);
    s->alpha = json_number_value(alpha);
    s->task = task && strcmp(task, "SEQ_CLS") == 0              ? MODEL_TASK_SEQUENCE
              : task && strcmp(task, "FEATURE_EXTRACTION") == 0 ? MODEL_TASK_MASKED
                                                                : MODEL_TASK_TOKENS;
    return read_targets(root, &s->targets, reterr);
}

enum err model_adapter_config_read(struct span bytes, struct model_shape *shape,
                                   struct err_info *reterr)
{
    json_t *root = parse(bytes, "adapter_config.json", reterr);
    if (!root) {
        return E_INVALID;
    }
    struct model_shape read = *shape;
    enum err err = read_adapter(root, &read, reterr);
    json_decref(root);
    if (!err) {
        *shape = read;
    }
    return err;
}

void model_adapter_base(struct span bytes, char *ret, size_t size)
{
    json_t *root = parse(bytes, "adapter_config.json", NULL);
    const char *path = json_string_value(json_object_get(root, "base_model_name_or_path"));
    const char *slash = path ? strrchr(path, '/') : NULL, *name = slash ? slash + 1 : path;
    ret[0] = 0;
    if (name && strlen(name) < size) {
        memcpy(ret, name, strlen(name) + 1);
    }
    json_decref(root);
}
