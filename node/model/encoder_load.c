/* Hugging Face folders: config.json and model.safetensors. */
#include "config.h"
#include "node/model/encoder.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "node/model/encoder_config.h"
#include "node/model/encoder_internal.h"
#include "node/model/folder.h"
#include "node/model/safetensors.h"
#include "proto/alloc.h"

enum err model_shape_json(const void *bytes, size_t len, struct model_shape *shape,
                          struct err_info *reterr)
{
    struct model_config config;
    enum err err = model_config_read(span_of(bytes, len), &config, reterr);
    if (err) {
        return err;
    }
    /* What the caller is to set stays. */
    config.shape.task = shape->task;
    config.shape.training = shape->training;
    config.shape.targets = shape->targets;
    config.shape.rank = shape->rank;
    config.shape.alpha = shape->alpha;
    config.shape.labels = config.shape.labels ? config.shape.labels : shape->labels;
    *shape = config.shape;
    model_config_fini(&config);
    return E_OK;
}

enum err model_shape_read(const char *folder, struct model_shape *shape, struct err_info *reterr)
{
    struct buf buf = {.max = MODEL_CONFIG_MAX};
    enum err err = model_folder_read(folder, "config.json", &buf, reterr);
    err = err ? err : model_shape_json(buf.ptr, buf.len, shape, reterr);
    buf_fini(&buf);
    return err;
}

/* --- names ------------------------------------------------------------------------------------------------ */

/* Canonical (BERT's) spelling of what stands below a layer or in a head, and how a family spells it. A name is replaced where it
 * starts with FROM. */
struct spelling {
    const char *from, *to;
};
static const struct spelling distilbert_layer[] = {
    {"attention.self.query.", "attention.q_lin."},
    {"attention.self.key.", "attention.k_lin."},
    {"attention.self.value.", "attention.v_lin."},
    {"attention.output.dense.", "attention.out_lin."},
    {"attention.output.LayerNorm.", "sa_layer_norm."},
    {"intermediate.dense.", "ffn.lin1."},
    {"output.dense.", "ffn.lin2."},
    {"output.LayerNorm.", "output_layer_norm."},
    {NULL, NULL}};
static const struct spelling distilbert_head[] = {
    {"cls.predictions.transform.dense.", "vocab_transform."},
    {"cls.predictions.transform.LayerNorm.", "vocab_layer_norm."},
    {"cls.predictions.bias", "vocab_projector.bias"},
    {NULL, NULL}};
static const struct spelling roberta_head[] = {
    {"cls.predictions.transform.dense.", "lm_head.dense."},
    {"cls.predictions.transform.LayerNorm.", "lm_head.layer_norm."},
    {"cls.predictions.bias", "lm_head.bias"},
    /* For sequences: dense and tanh of the first token, then the classifier. */
    {"bert.pooler.dense.", "classifier.dense."},
    {NULL, NULL}};

static const char *respell(const struct spelling *table, const char *name, char *to, size_t size)
{
    for (; table->from; table++) {
        size_t n = strlen(table->from);
        if (strncmp(name, table->from, n) == 0) {
            snprintf(to, size, "%s%s", table->to, name + n);
            return to;
        }
    }
    return name;
}

/* BERT: without "bert.", or with LayerNorm's old gamma and beta. */
static const struct model_tensor_entry *find_bert(const struct model_safetensors *file,
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

/* NAME with PREFIX for "bert.", or with nothing instead. */
static const struct model_tensor_entry *find_prefixed(const struct model_safetensors *file,
                                                      const char *prefix, const char *name)
{
    char spelt[200];
    if (strncmp(name, "bert.", 5) != 0) {
        return model_safetensors_find(file, name);
    }
    snprintf(spelt, sizeof spelt, "%s%s", prefix, name + 5);
    const struct model_tensor_entry *entry = model_safetensors_find(file, spelt);
    return entry ? entry : model_safetensors_find(file, name + 5);
}

static const struct model_tensor_entry *find_distilbert(const struct model_safetensors *file,
                                                        const char *name)
{
    static const char layers[] = "bert.encoder.layer.";
    char spelt[200], below[160];
    if (strncmp(name, layers, sizeof layers - 1) == 0) {
        const char *number = name + sizeof layers - 1, *rest = strchr(number, '.');
        snprintf(spelt, sizeof spelt, "bert.transformer.layer.%.*s%s",
                 (int)(rest ? rest + 1 - number : 0), number,
                 respell(distilbert_layer, rest ? rest + 1 : "", below, sizeof below));
        return find_prefixed(file, "distilbert.", spelt);
    }
    return find_prefixed(file, "distilbert.", respell(distilbert_head, name, below, sizeof below));
}

static const struct model_tensor_entry *find_roberta(const struct model_safetensors *file,
                                                     const char *name)
{
    char below[160];
    bool sequence = model_safetensors_find(file, "classifier.out_proj.weight") != NULL;
    if (sequence && strncmp(name, "classifier.", 11) == 0) {
        snprintf(below, sizeof below, "classifier.out_proj.%s", name + 11);
        return model_safetensors_find(file, below);
    }
    const struct model_tensor_entry *entry =
        model_safetensors_find(file, respell(roberta_head, name, below, sizeof below));
    return entry ? entry : find_prefixed(file, "roberta.", name);
}

const struct model_tensor_entry *model_entry_find(const struct model_safetensors *file,
                                                  enum model_family family, const char *name)
{
    return family == MODEL_FAMILY_DISTILBERT ? find_distilbert(file, name)
           : family == MODEL_FAMILY_ROBERTA  ? find_roberta(file, name)
                                             : find_bert(file, name);
}

/* --- loading -------------------------------------------------------------------------------------------- */

bool model_entry_fits(const struct model_tensor *tensor, const struct model_tensor_entry *entry)
{
    if (tensor->rows == 1 && entry->dims == 1) {
        return entry->shape[0] == tensor->cols;
    }
    return entry->dims == 2 && entry->shape[0] == tensor->rows && entry->shape[1] == tensor->cols;
}

enum err model_encoder_load_part(struct model_encoder *encoder,
                                 const struct model_safetensors *file, bool head,
                                 struct err_info *reterr)
{
    enum err err = E_OK;
    for (size_t i = 0; !err && i < encoder->tensor_count; i++) {
        const struct model_tensor *tensor = &encoder->tensors[i];
        const struct model_tensor_entry *entry = find_bert(file, tensor->name);
        real *to = encoder->weights + tensor->at;
        bool in_head = i >= encoder->head && i < encoder->adapters;
        if (in_head && (!head || !entry || !model_entry_fits(tensor, entry))) {
            continue;
        }
        if (!tensor->base && !entry) {
            continue;
        }
        if (!entry || !model_entry_fits(tensor, entry)) {
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

enum err model_encoder_load(struct model_encoder *encoder, const struct model_safetensors *file,
                            struct err_info *reterr)
{
    return model_encoder_load_part(encoder, file, true, reterr);
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
