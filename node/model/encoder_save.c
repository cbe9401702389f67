#include "config.h"
#include "node/model/encoder_save.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "node/model/encoder_internal.h"
#include "node/model/folder.h"
#include "node/model/safetensors_write.h"

#define PEFT_PREFIX "base_model.model."
#define NAME_ROOM   160

/* Below a layer; the last is also the end of the fourth, see put_targets. */
static const char *const target_names[MODEL_TARGET_COUNT] = {
    "query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"};
static const enum layer_tensor target_weight[MODEL_TARGET_COUNT] = {
    LAYER_QUERY_W, LAYER_KEY_W, LAYER_VALUE_W, LAYER_ATTENTION_W, LAYER_INNER_W, LAYER_OUTPUT_W};

static struct model_tensor_source source_of(const struct model_tensor *t, const char *name,
                                            const real *numbers)
{
    struct model_tensor_source s = {.name = name, .dims = t->rows == 1 ? 1 : 2};
    s.shape[0] = t->rows == 1 ? t->cols : t->rows;
    s.shape[1] = t->cols;
#ifdef MODEL_DOUBLE
    s.doubles = numbers;
#else
    s.floats = numbers;
#endif
    return s;
}

/* Adapters and classifiers are matrices even with one row. */
static void as_matrix(struct model_tensor_source *s, const struct model_tensor *t)
{
    const char *name = t->name;
    size_t len = strlen(name);
    if (len > 7 && strcmp(name + len - 7, ".weight") == 0 && !strstr(name, "LayerNorm")) {
        s->dims = 2;
        s->shape[0] = t->rows;
    }
}

static enum err no_adapters(struct err_info *reterr)
{
    return proto_err_set(reterr, E_USAGE, "model: it has no adapters");
}

/* --- PEFT ---------------------------------------------------------------------------------------------- */

/* NAME of tensor T in an adapter's file. */
static void peft_name(const struct model_tensor *t, char name[NAME_ROOM])
{
    bool adapter = strncmp(t->name, PEFT_PREFIX, strlen(PEFT_PREFIX)) == 0;
    snprintf(name, NAME_ROOM, "%s%s", adapter ? "" : PEFT_PREFIX, t->name);
}

/* Adapters and head into caller's arrays of (tensor_count - head); NAMES keeps what SOURCES point at. */
static void peft_sources(const struct model_encoder *e, struct model_tensor_source *sources,
                         char (*names)[NAME_ROOM])
{
    for (size_t i = e->head; i < e->tensor_count; i++) {
        const struct model_tensor *t = &e->tensors[i];
        peft_name(t, names[i - e->head]);
        sources[i - e->head] = source_of(t, names[i - e->head], e->weights + t->at);
        as_matrix(&sources[i - e->head], t);
    }
}

enum err model_adapter_encode(const struct model_encoder *e, struct buf *ret,
                              struct err_info *reterr)
{
    if (e->shape.training == MODEL_TRAIN_FULL) {
        return no_adapters(reterr);
    }
    size_t count = e->tensor_count - e->head;
    struct model_tensor_source *sources = proto_alloc(count, sizeof *sources);
    char(*names)[NAME_ROOM] = proto_alloc(count, sizeof *names);
    enum err err = E_NO_MEMORY;
    if (sources && names) {
        peft_sources(e, sources, names);
        err = model_safetensors_encode(sources, count, ret, reterr);
    }
    proto_free(sources);
    proto_free(names);
    return err;
}

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

enum err model_adapter_config(const struct model_shape *s, const char *base, struct buf *ret,
                              struct err_info *reterr)
{
    if (s->training == MODEL_TRAIN_FULL) {
        return no_adapters(reterr);
    }
    bool tokens = s->task == MODEL_TASK_TOKENS;
    json_t *saved =
        tokens ? json_pack("[s]", "classifier") : json_pack("[ss]", "pooler", "classifier");
    json_t *root =
        json_pack("{s:s, s:s, s:i, s:f, s:f, s:o, s:s, s:b, s:o, s:b, s:b, s:s}", "peft_type",
                  "LORA", "task_type", tokens ? "TOKEN_CLS" : "SEQ_CLS", "r", (int)s->rank,
                  "lora_alpha", s->alpha, "lora_dropout", 0.0, "target_modules",
                  target_list(s->targets), "bias", "none", "fan_in_fan_out", 0, "modules_to_save",
                  saved, "inference_mode", 1, "use_rslora", 0, "base_model_name_or_path", base);
    return put_json(root, ret, reterr);
}

enum err model_adapter_save(const struct model_encoder *e, const char *base, const char *folder,
                            struct err_info *reterr)
{
    struct buf config = {.max = 1 << 16}, tensors = {.max = SIZE_MAX};
    enum err err = model_adapter_config(&e->shape, base, &config, reterr);
    err = err ? err : model_adapter_encode(e, &tensors, reterr);
    err = err ? err
              : model_folder_write(folder, "adapter_model.safetensors", buf_span(&tensors), reterr);
    err = err ? err : model_folder_write(folder, "adapter_config.json", buf_span(&config), reterr);
    buf_fini(&config);
    buf_fini(&tensors);
    return err;
}

static bool same_shape(const struct model_tensor *t, const struct model_tensor_entry *entry)
{
    struct model_tensor_source s = source_of(t, t->name, NULL);
    as_matrix(&s, t);
    return entry->dims == s.dims && entry->shape[0] == s.shape[0] &&
           (s.dims == 1 || entry->shape[1] == s.shape[1]);
}

static enum err take_numbers(const struct model_safetensors *file,
                             const struct model_tensor_entry *entry, real *to,
                             struct err_info *reterr)
{
#ifdef MODEL_DOUBLE
    return model_safetensors_doubles(file, entry, to, (size_t)entry->count, reterr);
#else
    return model_safetensors_floats(file, entry, to, (size_t)entry->count, reterr);
#endif
}

enum err model_adapter_load(struct model_encoder *e, const struct model_safetensors *file,
                            struct err_info *reterr)
{
    if (e->shape.training == MODEL_TRAIN_FULL ||
        model_safetensors_count(file) != e->tensor_count - e->head) {
        return proto_err_set(reterr, E_SCHEMA, "adapter: it has %zu tensors, this model takes %zu",
                             model_safetensors_count(file), e->tensor_count - e->head);
    }
    enum err err = E_OK;
    for (size_t i = e->head; !err && i < e->tensor_count; i++) {
        char name[NAME_ROOM];
        const struct model_tensor *t = &e->tensors[i];
        peft_name(t, name);
        const struct model_tensor_entry *entry = model_safetensors_find(file, name);
        if (!entry || !same_shape(t, entry)) {
            return proto_err_set(reterr, E_SCHEMA, "adapter: tensor \"%s\" is %s", name,
                                 entry ? "of another shape" : "missing");
        }
        err = take_numbers(file, entry, e->weights + t->at, reterr);
    }
    return err;
}

/* --- merged -------------------------------------------------------------------------------------------- */

enum err model_config_encode(const struct model_shape *s, const char *const *labels,
                             struct buf *ret, struct err_info *reterr)
{
    json_t *names = json_object(), *ids = json_object();
    for (uint32_t i = 0; i < s->labels; i++) {
        char id[16];
        snprintf(id, sizeof id, "%u", i);
        json_object_set_new(names, id, json_string(labels[i]));
        json_object_set_new(ids, labels[i], json_integer(i));
    }
    if (json_object_size(names) != s->labels || json_object_size(ids) != s->labels) {
        json_decref(names);
        json_decref(ids);
        return proto_err_set(reterr, E_INVALID, "model: a label stands twice or is no UTF-8");
    }
    json_t *root = json_pack(
        "{s:[s], s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:s, s:o, s:o, s:s}",
        "architectures",
        s->task == MODEL_TASK_TOKENS ? "BertForTokenClassification"
                                     : "BertForSequenceClassification",
        "model_type", "bert", "hidden_act", "gelu", "vocab_size", (int)s->vocabulary, "hidden_size",
        (int)s->hidden, "num_hidden_layers", (int)s->layers, "num_attention_heads", (int)s->heads,
        "intermediate_size", (int)s->inner, "max_position_embeddings", (int)s->positions,
        "type_vocab_size", (int)s->types, "layer_norm_eps", s->layer_norm_eps,
        "hidden_dropout_prob", s->dropout, "attention_probs_dropout_prob", s->attention_dropout,
        "position_embedding_type", "absolute", "id2label", names, "label2id", ids, "torch_dtype",
        "float32");
    return put_json(root, ret, reterr);
}

/* W + alpha/rank B A. The caller frees; NULL when out of memory. */
static real *merged_weights(const struct model_encoder *e, const struct model_tensor *w, size_t a)
{
    const struct model_tensor *ta = &e->tensors[a], *tb = &e->tensors[a + 1];
    const real *pa = e->weights + ta->at, *pb = e->weights + tb->at, *pw = e->weights + w->at;
    double scale = e->shape.alpha / (double)e->shape.rank;
    real *to = proto_alloc(w->rows * w->cols, sizeof *to);
    for (size_t i = 0; to && i < w->rows; i++) {
        for (size_t j = 0; j < w->cols; j++) {
            double sum = 0;
            for (size_t k = 0; k < ta->rows; k++) {
                sum += (double)pb[i * ta->rows + k] * (double)pa[k * w->cols + j];
            }
            to[i * w->cols + j] = (real)((double)pw[i * w->cols + j] + scale * sum);
        }
    }
    return to;
}

/* Replaces the numbers of adapted layers by merged ones, kept in MERGED (layers x MODEL_TARGET_COUNT). */
static enum err merge_all(const struct model_encoder *e, struct model_tensor_source *sources,
                          real **merged)
{
    for (size_t i = 0; i < (size_t)e->shape.layers * MODEL_TARGET_COUNT; i++) {
        if (e->shape.training == MODEL_TRAIN_FULL || e->adapter[i] == MODEL_FROZEN) {
            continue;
        }
        size_t w = layer_tensor(i / MODEL_TARGET_COUNT, target_weight[i % MODEL_TARGET_COUNT]);
        merged[i] = merged_weights(e, &e->tensors[w], e->adapter[i]);
        if (!merged[i]) {
            return E_NO_MEMORY;
        }
        sources[w] = source_of(&e->tensors[w], e->tensors[w].name, merged[i]);
        as_matrix(&sources[w], &e->tensors[w]);
    }
    return E_OK;
}

static enum err write_merged(const struct model_encoder *e, const char *folder,
                             struct err_info *reterr)
{
    size_t slots = (size_t)e->shape.layers * MODEL_TARGET_COUNT, count = 0;
    struct model_tensor_source *sources = proto_alloc(e->tensor_count, sizeof *sources);
    real **merged = proto_alloc(slots, sizeof *merged);
    enum err err = sources && merged ? E_OK : E_NO_MEMORY;
    /* Base and head stand first, adapters after them. */
    for (; !err && count < e->tensor_count && !strstr(e->tensors[count].name, ".lora_"); count++) {
        const struct model_tensor *t = &e->tensors[count];
        sources[count] = source_of(t, t->name, e->weights + t->at);
        as_matrix(&sources[count], t);
    }
    err = err ? err : merge_all(e, sources, merged);
    err = err ? err : model_safetensors_write(sources, count, folder, "model.safetensors", reterr);
    for (size_t i = 0; merged && i < slots; i++) {
        proto_free(merged[i]);
    }
    proto_free(merged);
    proto_free(sources);
    return err;
}

enum err model_encoder_save(const struct model_encoder *e, const char *const *labels,
                            const char *folder, struct err_info *reterr)
{
    struct buf config = {.max = 1 << 20};
    enum err err = model_config_encode(&e->shape, labels, &config, reterr);
    err = err ? err : write_merged(e, folder, reterr);
    err = err ? err : model_folder_write(folder, "config.json", buf_span(&config), reterr);
    buf_fini(&config);
    return err;
}
