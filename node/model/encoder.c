/* Shapes, tensors and their names. */
#include "config.h"
#include "node/model/encoder.h"

#include <stdio.h>
#include <string.h>

#include "node/model/encoder_internal.h"
#include "node/model/tokenizer.h"

bool model_shape_valid(const struct model_shape *s, const char **ret_why)
{
    const char *why = NULL;
    if (s->hidden == 0 || s->hidden > MODEL_HIDDEN_MAX) {
        why = "hidden_size";
    } else if (s->layers == 0 || s->layers > MODEL_LAYERS_MAX) {
        why = "num_hidden_layers";
    } else if (s->heads == 0 || s->hidden % s->heads != 0) {
        why = "num_attention_heads does not divide hidden_size";
    } else if (s->inner == 0 || s->inner > MODEL_INNER_MAX) {
        why = "intermediate_size";
    } else if (s->vocabulary == 0 || s->vocabulary > MODEL_VOCABULARY_MAX) {
        why = "vocab_size";
    } else if (s->positions == 0 || s->positions > MODEL_POSITIONS_MAX) {
        why = "max_position_embeddings";
    } else if (s->types == 0 || s->types > 16) {
        why = "type_vocab_size";
    } else if (!(s->layer_norm_eps > 0 && s->layer_norm_eps < 1)) {
        why = "layer_norm_eps";
    } else if (!(s->dropout >= 0 && s->dropout < 1 && s->attention_dropout >= 0 &&
                 s->attention_dropout < 1)) {
        why = "a dropout probability";
    } else if (s->task == MODEL_TASK_MASKED ? s->labels != s->vocabulary
                                            : s->labels == 0 || s->labels > MODEL_LABELS_MAX) {
        why = "the number of labels";
    } else if (model_shape_adapted(s) &&
               (s->rank == 0 || s->rank > MODEL_RANK_MAX || s->targets == 0 ||
                s->targets > MODEL_TARGETS_ALL || !(s->alpha > 0 && s->alpha < 1e6))) {
        why = "rank, alpha or targets of the adapters";
    }
    *ret_why = why ? why : "";
    return !why;
}

/* One row each: name below a layer, out and in as multiples of hidden (h) or inner (i), as a letter. */
static const struct layer_row {
    const char *name;
    char rows, cols; /* h, i, or 1 */
} layer_rows[LAYER_TENSORS] = {
    [LAYER_QUERY_W] = {"attention.self.query.weight", 'h', 'h'},
    [LAYER_KEY_W] = {"attention.self.key.weight", 'h', 'h'},
    [LAYER_VALUE_W] = {"attention.self.value.weight", 'h', 'h'},
    [LAYER_QUERY_B] = {"attention.self.query.bias", '1', 'h'},
    [LAYER_KEY_B] = {"attention.self.key.bias", '1', 'h'},
    [LAYER_VALUE_B] = {"attention.self.value.bias", '1', 'h'},
    [LAYER_ATTENTION_W] = {"attention.output.dense.weight", 'h', 'h'},
    [LAYER_ATTENTION_B] = {"attention.output.dense.bias", '1', 'h'},
    [LAYER_NORM1_W] = {"attention.output.LayerNorm.weight", '1', 'h'},
    [LAYER_NORM1_B] = {"attention.output.LayerNorm.bias", '1', 'h'},
    [LAYER_INNER_W] = {"intermediate.dense.weight", 'i', 'h'},
    [LAYER_INNER_B] = {"intermediate.dense.bias", '1', 'i'},
    [LAYER_OUTPUT_W] = {"output.dense.weight", 'h', 'i'},
    [LAYER_OUTPUT_B] = {"output.dense.bias", '1', 'h'},
    [LAYER_NORM2_W] = {"output.LayerNorm.weight", '1', 'h'},
    [LAYER_NORM2_B] = {"output.LayerNorm.bias", '1', 'h'},
};

static const enum layer_tensor target_weight[MODEL_TARGET_COUNT] = {
    LAYER_QUERY_W, LAYER_KEY_W, LAYER_VALUE_W, LAYER_ATTENTION_W, LAYER_INNER_W, LAYER_OUTPUT_W};

static size_t size_of_letter(const struct model_shape *s, char letter)
{
    return letter == 'h' ? s->hidden : letter == 'i' ? s->inner : 1;
}

static struct model_tensor *add_tensor(struct model_encoder *e, size_t rows, size_t cols,
                                       bool trained, bool base)
{
    struct model_tensor *t = &e->tensors[e->tensor_count++];
    *t = (struct model_tensor){.rows = rows,
                               .cols = cols,
                               .at = e->weight_count,
                               .trained_at = MODEL_FROZEN,
                               .base = base};
    if (trained) {
        t->trained_at = e->trained_count;
        e->trained_count += rows * cols;
    }
    e->weight_count += rows * cols;
    return t;
}

static void name_tensor(struct model_tensor *t, const char *name)
{
    snprintf(t->name, sizeof t->name, "%s", name);
    size_t len = strlen(t->name);
    t->decay =
        !strstr(t->name, "LayerNorm") && !(len > 5 && strcmp(t->name + len - 5, ".bias") == 0);
}

static void add_base(struct model_encoder *e)
{
    const struct model_shape *s = &e->shape;
    bool full = s->training == MODEL_TRAIN_FULL;
    name_tensor(add_tensor(e, s->vocabulary, s->hidden, full, true),
                "bert.embeddings.word_embeddings.weight");
    name_tensor(add_tensor(e, s->positions, s->hidden, full, true),
                "bert.embeddings.position_embeddings.weight");
    name_tensor(add_tensor(e, s->types, s->hidden, full, true),
                "bert.embeddings.token_type_embeddings.weight");
    name_tensor(add_tensor(e, 1, s->hidden, full, true), "bert.embeddings.LayerNorm.weight");
    name_tensor(add_tensor(e, 1, s->hidden, full, true), "bert.embeddings.LayerNorm.bias");
    for (unsigned layer = 0; layer < s->layers; layer++) {
        for (size_t i = 0; i < LAYER_TENSORS; i++) {
            char name[128];
            snprintf(name, sizeof name, "bert.encoder.layer.%u.%s", layer, layer_rows[i].name);
            name_tensor(add_tensor(e, size_of_letter(s, layer_rows[i].rows),
                                   size_of_letter(s, layer_rows[i].cols), full, true),
                        name);
        }
    }
}

static void add_head(struct model_encoder *e)
{
    const struct model_shape *s = &e->shape;
    e->head = e->tensor_count;
    if (s->task == MODEL_TASK_MASKED) {
        static const char stem[] = "cls.predictions.transform.";
        char name[64];
        snprintf(name, sizeof name, "%sdense.weight", stem);
        name_tensor(add_tensor(e, s->hidden, s->hidden, true, false), name);
        snprintf(name, sizeof name, "%sdense.bias", stem);
        name_tensor(add_tensor(e, 1, s->hidden, true, false), name);
        snprintf(name, sizeof name, "%sLayerNorm.weight", stem);
        name_tensor(add_tensor(e, 1, s->hidden, true, false), name);
        snprintf(name, sizeof name, "%sLayerNorm.bias", stem);
        name_tensor(add_tensor(e, 1, s->hidden, true, false), name);
        name_tensor(add_tensor(e, 1, s->vocabulary, true, false), "cls.predictions.bias");
        return;
    }
    if (s->task == MODEL_TASK_SEQUENCE) {
        name_tensor(add_tensor(e, s->hidden, s->hidden, true, false), "bert.pooler.dense.weight");
        name_tensor(add_tensor(e, 1, s->hidden, true, false), "bert.pooler.dense.bias");
    }
    name_tensor(add_tensor(e, s->labels, s->hidden, true, false), "classifier.weight");
    name_tensor(add_tensor(e, 1, s->labels, true, false), "classifier.bias");
}

static void add_adapters(struct model_encoder *e)
{
    const struct model_shape *s = &e->shape;
    for (unsigned i = 0; i < s->layers * MODEL_TARGET_COUNT; i++) {
        unsigned layer = i / MODEL_TARGET_COUNT, target = i % MODEL_TARGET_COUNT;
        e->adapter[i] = MODEL_FROZEN;
        if (!model_shape_adapted(s) || !(s->targets >> target & 1)) {
            continue;
        }
        const struct layer_row *row = &layer_rows[target_weight[target]];
        int stem = (int)strlen(row->name) - (int)strlen(".weight");
        char name[128];
        e->adapter[i] = e->tensor_count;
        struct model_tensor *a = add_tensor(e, s->rank, size_of_letter(s, row->cols),
                                            s->training == MODEL_TRAIN_LORA, false);
        snprintf(name, sizeof name, "base_model.model.bert.encoder.layer.%u.%.*s.lora_A.weight",
                 layer, stem, row->name);
        name_tensor(a, name);
        struct model_tensor *b = add_tensor(e, size_of_letter(s, row->rows), s->rank, true, false);
        snprintf(name, sizeof name, "base_model.model.bert.encoder.layer.%u.%.*s.lora_B.weight",
                 layer, stem, row->name);
        name_tensor(b, name);
    }
}

/* Tensors whose gradient is kept for each group when gradients are clipped; the others are large: gradient.c. */
#define SMALL_MAX 16384u
static void place_small(struct model_encoder *e)
{
    for (size_t i = 0; i < e->tensor_count; i++) {
        struct model_tensor *t = &e->tensors[i];
        bool vector = i > EMBEDDING_TYPE && t->rows == 1;
        bool classifier = i >= e->head && i < e->adapters && t->rows * t->cols <= SMALL_MAX;
        t->small_at = MODEL_FROZEN;
        if (t->trained_at != MODEL_FROZEN && (vector || classifier || i >= e->adapters)) {
            t->small_at = e->small_count;
            e->small_count += t->rows * t->cols;
        }
    }
}

/* A number in (0, 1) from a seed and a counter. */
static double uniform(uint64_t seed, uint64_t counter)
{
    return ((double)(model_mix(seed + counter * UINT64_C(0x9e3779b97f4a7c15)) >> 11) + 0.5) *
           0x1p-53;
}

/* Starting values of heads and adapters: public numbers that every site computes alike, no secret and no noise. */
static void start_values(struct model_encoder *e, uint64_t seed)
{
    uint64_t counter = 0;
    for (size_t i = e->head; i < e->tensor_count; i++) {
        struct model_tensor *t = &e->tensors[i];
        bool a = strstr(t->name, ".lora_A.") != NULL;
        if (!t->decay || strstr(t->name, ".lora_B.")) { /* biases, LayerNorm and B */
            continue;
        }
        for (size_t j = 0; j < t->rows * t->cols; j++, counter += 2) {
            double u = uniform(seed, counter), w = uniform(seed, counter + 1);
            e->weights[t->at + j] =
                a ? (real)((2 * u - 1) / sqrt((double)t->cols))
                  : (real)(0.02 * sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * w));
        }
    }
}

enum err model_encoder_layout(const struct model_shape *shape, struct model_encoder **ret,
                              struct err_info *reterr)
{
    const char *why = NULL;
    if (!model_shape_valid(shape, &why)) {
        return proto_err_set(reterr, E_LIMIT, "model: outside the limits: %s", why);
    }
    struct model_encoder *e = proto_alloc(1, sizeof *e);
    if (!e) {
        return proto_err_set(reterr, E_NO_MEMORY, "model: no memory");
    }
    e->shape = *shape;
    e->tensors = proto_alloc(EMBEDDING_TENSORS +
                                 (size_t)shape->layers * (LAYER_TENSORS + 2 * MODEL_TARGET_COUNT) +
                                 HEAD_TENSORS_MAX,
                             sizeof *e->tensors);
    e->adapter = proto_alloc((size_t)shape->layers * MODEL_TARGET_COUNT, sizeof *e->adapter);
    if (!e->tensors || !e->adapter) {
        model_encoder_close(e);
        return proto_err_set(reterr, E_NO_MEMORY, "model: no memory");
    }
    add_base(e);
    add_head(e);
    e->adapters = e->tensor_count;
    add_adapters(e);
    place_small(e);
    *ret = e;
    return E_OK;
}

enum err model_encoder_new(const struct model_shape *shape, uint64_t seed,
                           struct model_encoder **ret, struct err_info *reterr)
{
    struct model_encoder *e = NULL;
    enum err err = model_encoder_layout(shape, &e, reterr);
    if (err) {
        return err;
    }
    e->weights = proto_alloc(e->weight_count, sizeof *e->weights);
    if (!e->weights) {
        model_encoder_close(e);
        return proto_err_set(reterr, E_NO_MEMORY, "model: no memory for the weights");
    }
    for (size_t i = 0; i < e->adapters; i++) {
        /* Scales of LayerNorm are 1 where nothing is loaded. */
        struct model_tensor *t = &e->tensors[i];
        for (size_t j = 0; strstr(t->name, "LayerNorm.weight") && j < t->cols; j++) {
            e->weights[t->at + j] = 1;
        }
    }
    start_values(e, seed);
    *ret = e;
    return E_OK;
}

void model_encoder_close(struct model_encoder *encoder)
{
    if (encoder) {
        proto_free(encoder->tensors);
        proto_free(encoder->adapter);
        proto_free(encoder->weights);
        proto_free(encoder);
    }
}

const struct model_tensor *model_encoder_tensor(const struct model_encoder *encoder,
                                                const char *name)
{
    for (size_t i = 0; i < encoder->tensor_count; i++) {
        if (strcmp(encoder->tensors[i].name, name) == 0) {
            return &encoder->tensors[i];
        }
    }
    return NULL;
}

void model_encoder_get(const struct model_encoder *encoder, real *ret)
{
    for (size_t i = 0; i < encoder->tensor_count; i++) {
        const struct model_tensor *t = &encoder->tensors[i];
        if (t->trained_at != MODEL_FROZEN) {
            memcpy(ret + t->trained_at, encoder->weights + t->at, t->rows * t->cols * sizeof *ret);
        }
    }
}

void model_encoder_set(struct model_encoder *encoder, const real *numbers)
{
    for (size_t i = 0; i < encoder->tensor_count; i++) {
        const struct model_tensor *t = &encoder->tensors[i];
        if (t->trained_at != MODEL_FROZEN) {
            memcpy(encoder->weights + t->at, numbers + t->trained_at,
                   t->rows * t->cols * sizeof *numbers);
        }
    }
}
