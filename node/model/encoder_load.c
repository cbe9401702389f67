/* Hugging Face folders: config.json and model.safetensors. */
#include "config.h"
#include "node/model/encoder.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "node/model/folder.h"
#include "node/model/safetensors.h"
#include "proto/alloc.h"

#define CONFIG_MAX ((size_t)1 << 20)

static enum err read_count(const json_t *root, const char *key, uint32_t *ret,
                           struct err_info *reterr)
{
    const json_t *value = json_object_get(root, key);
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;
    if (n < 1 || n > INT32_MAX) {
        return proto_err_set(reterr, E_INVALID,
                             "config.json: %s is missing or no positive whole number", key);
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

/* KEY must be TEXT; absent is fine unless NEEDED. */
static enum err must_be(const json_t *root, const char *key, const char *text, bool needed,
                        struct err_info *reterr)
{
    const json_t *value = json_object_get(root, key);
    const char *got = json_string_value(value);
    if ((!value && !needed) || (got && strcmp(got, text) == 0)) {
        return E_OK;
    }
    return proto_err_set(reterr, E_UNSUPPORTED, "config.json: %s is not \"%s\"", key, text);
}

static enum err read_shape(const json_t *root, struct model_shape *s, struct err_info *reterr)
{
    const struct {
        const char *key;
        uint32_t *to;
    } counts[] = {{"vocab_size", &s->vocabulary},    {"hidden_size", &s->hidden},
                  {"num_hidden_layers", &s->layers}, {"num_attention_heads", &s->heads},
                  {"intermediate_size", &s->inner},  {"max_position_embeddings", &s->positions},
                  {"type_vocab_size", &s->types}};
    enum err err = must_be(root, "model_type", "bert", true, reterr);
    err = err ? err : must_be(root, "hidden_act", "gelu", false, reterr);
    err = err ? err : must_be(root, "position_embedding_type", "absolute", false, reterr);
    for (size_t i = 0; !err && i < sizeof counts / sizeof *counts; i++) {
        err = read_count(root, counts[i].key, counts[i].to, reterr);
    }
    err = err ? err : read_number(root, "layer_norm_eps", 1e-12, &s->layer_norm_eps, reterr);
    err = err ? err : read_number(root, "hidden_dropout_prob", 0.1, &s->dropout, reterr);
    err =
        err ? err
            : read_number(root, "attention_probs_dropout_prob", 0.1, &s->attention_dropout, reterr);
    const json_t *labels = json_object_get(root, "id2label");
    if (!err && labels) {
        if (!json_is_object(labels) || json_object_size(labels) == 0 ||
            json_object_size(labels) > MODEL_LABELS_MAX) {
            return proto_err_set(reterr, E_INVALID,
                                 "config.json: id2label is no map of 1 to %u labels",
                                 MODEL_LABELS_MAX);
        }
        s->labels = (uint32_t)json_object_size(labels);
    }
    return err;
}

enum err model_shape_json(const void *bytes, size_t len, struct model_shape *shape,
                          struct err_info *reterr)
{
    json_error_t json_why;
    const char *why = NULL;
    json_t *root = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &json_why);
    if (!json_is_object(root)) {
        json_decref(root);
        return proto_err_set(reterr, E_INVALID, "config.json:%d: %.100s", json_why.line,
                             root ? "no object" : json_why.text);
    }
    struct model_shape read = *shape;
    enum err err = read_shape(root, &read, reterr);
    json_decref(root);
    if (err) {
        return err;
    }
    /* Labels and adapters are the caller's to set later: judged alone here. */
    struct model_shape judged = read;
    judged.training = MODEL_TRAIN_FULL;
    judged.labels = judged.labels ? judged.labels : 1;
    if (!model_shape_valid(&judged, &why)) {
        return proto_err_set(reterr, E_LIMIT, "config.json: outside the limits: %s", why);
    }
    *shape = read;
    return E_OK;
}

enum err model_shape_read(const char *folder, struct model_shape *shape, struct err_info *reterr)
{
    struct buf buf = {.max = CONFIG_MAX};
    enum err err = model_folder_read(folder, "config.json", &buf, reterr);
    err = err ? err : model_shape_json(buf.ptr, buf.len, shape, reterr);
    buf_fini(&buf);
    return err;
}

/* NAME as the file may spell it: without "bert.", or LayerNorm's old gamma and beta. NULL when it has none. */
static const struct model_tensor_entry *find_entry(const struct model_safetensors *file,
                                                   const char *name)
{
    for (unsigned variant = 0; variant < 4; variant++) {
        char spelt[160];
        const char *start = variant & 1 && strncmp(name, "bert.", 5) == 0 ? name + 5 : name;
        snprintf(spelt, sizeof spelt, "%s", start);
        char *tail = strstr(spelt, "LayerNorm.");
        if (variant & 2 && tail) {
            tail += strlen("LayerNorm.");
            snprintf(tail, 8, "%s", strcmp(tail, "weight") == 0 ? "gamma" : "beta");
        }
        const struct model_tensor_entry *entry = model_safetensors_find(file, spelt);
        if (entry) {
            return entry;
        }
    }
    return NULL;
}

static bool fits(const struct model_tensor *tensor, const struct model_tensor_entry *entry)
{
    if (tensor->rows == 1 && entry->dims == 1) {
        return entry->shape[0] == tensor->cols;
    }
    return entry->dims == 2 && entry->shape[0] == tensor->rows && entry->shape[1] == tensor->cols;
}

enum err model_encoder_load(struct model_encoder *encoder, const struct model_safetensors *file,
                            struct err_info *reterr)
{
    enum err err = E_OK;
    for (size_t i = 0; !err && i < encoder->tensor_count; i++) {
        const struct model_tensor *tensor = &encoder->tensors[i];
        const struct model_tensor_entry *entry = find_entry(file, tensor->name);
        real *to = encoder->weights + tensor->at;
        bool adapter = strncmp(tensor->name, "base_model.", 11) == 0;
        if (!tensor->base && (!entry || (!adapter && !fits(tensor, entry)))) {
            continue;
        }
        if (!entry || !fits(tensor, entry)) {
            return proto_err_set(reterr, E_SCHEMA, "model: tensor \"%s\" is %s, expected %zu x %zu",
                                 tensor->name, entry ? "of another shape" : "missing", tensor->rows,
                                 tensor->cols);
        }
#ifdef MODEL_DOUBLE
        err = model_safetensors_doubles(file, entry, to, tensor->rows * tensor->cols, reterr);
#else
        err = model_safetensors_floats(file, entry, to, tensor->rows * tensor->cols, reterr);
#endif
    }
    return err;
}

enum err model_encoder_open(const char *folder, const struct model_shape *shape, uint64_t seed,
                            struct model_encoder **ret, struct err_info *reterr)
{
    char path[PATH_MAX];
    struct model_encoder *encoder = NULL;
    struct model_safetensors *file = NULL;
    int n = snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (n < 0 || (size_t)n >= sizeof path) {
        return proto_err_set(reterr, E_LIMIT, "the path of the model is too long");
    }
    enum err err = model_safetensors_open(path, &file, reterr);
    err = err ? err : model_encoder_new(shape, seed, &encoder, reterr);
    err = err ? err : model_encoder_load(encoder, file, reterr);
    model_safetensors_close(file);
    if (err) {
        model_encoder_close(encoder);
        return err;
    }
    *ret = encoder;
    return E_OK;
}
