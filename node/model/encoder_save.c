#include "config.h"
#include "node/model/encoder_save.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/model/encoder_config.h"
#include "node/model/encoder_internal.h"
#include "node/model/folder.h"
#include "node/model/safetensors_write.h"

#define PEFT_PREFIX "base_model.model."
#define NAME_ROOM   160

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

enum err model_adapter_encode(const struct model_encoder *e,
                              const struct model_safetensors_note *notes, size_t note_count,
                              struct buf *ret, struct err_info *reterr)
{
    if (!model_shape_adapted(&e->shape)) {
        return no_adapters(reterr);
    }
    size_t count = e->tensor_count - e->head;
    struct model_tensor_source *sources = proto_alloc(count, sizeof *sources);
    char(*names)[NAME_ROOM] = proto_alloc(count, sizeof *names);
    enum err err = E_NO_MEMORY;
    if (sources && names) {
        peft_sources(e, sources, names);
        err = model_safetensors_encode_notes(sources, count, notes, note_count, ret, reterr);
    }
    proto_free(sources);
    proto_free(names);
    return err;
}

enum err model_adapter_save(const struct model_encoder *e, const char *base, const char *folder,
                            struct err_info *reterr)
{
    struct buf config = {.max = 1 << 16}, tensors = {.max = SIZE_MAX};
    enum err err = model_adapter_config(&e->shape, base, &config, reterr);
    err = err ? err : model_adapter_encode(e, NULL, 0, &tensors, reterr);
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
    if (!model_shape_adapted(&e->shape) ||
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

/* TO becomes W + alpha/rank B A; it may be W itself. */
static void merge_into(const struct model_encoder *e, const struct model_tensor *w, size_t a,
                       real *to)
{
    const struct model_tensor *ta = &e->tensors[a], *tb = &e->tensors[a + 1];
    const real *pa = e->weights + ta->at, *pb = e->weights + tb->at, *pw = e->weights + w->at;
    double scale = e->shape.alpha / (double)e->shape.rank;
    for (size_t i = 0; i < w->rows; i++) {
        for (size_t j = 0; j < w->cols; j++) {
            double sum = 0;
            for (size_t k = 0; k < ta->rows; k++) {
                sum += (double)pb[i * ta->rows + k] * (double)pa[k * w->cols + j];
            }
            to[i * w->cols + j] = (real)((double)pw[i * w->cols + j] + scale * sum);
        }
    }
}

/* The caller frees; NULL when out of memory. */
static real *merged_weights(const struct model_encoder *e, const struct model_tensor *w, size_t a)
{
    real *to = proto_alloc(w->rows * w->cols, sizeof *to);
    if (to) {
        merge_into(e, w, a, to);
    }
    return to;
}

void model_encoder_merge(struct model_encoder *e)
{
    for (size_t i = 0; i < (size_t)e->shape.layers * MODEL_TARGET_COUNT; i++) {
        if (e->adapter[i] != MODEL_FROZEN) {
            size_t w = layer_tensor(i / MODEL_TARGET_COUNT, target_weight[i % MODEL_TARGET_COUNT]);
            merge_into(e, &e->tensors[w], e->adapter[i], e->weights + e->tensors[w].at);
        }
    }
}

/* Replaces the numbers of adapted layers by merged ones, kept in MERGED (layers x MODEL_TARGET_COUNT). */
static enum err merge_all(const struct model_encoder *e, struct model_tensor_source *sources,
                          real **merged)
{
    for (size_t i = 0; i < (size_t)e->shape.layers * MODEL_TARGET_COUNT; i++) {
        if (e->adapter[i] == MODEL_FROZEN) {
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

/* Base with merged adapters, and head, to where USE puts them. */
typedef enum err use_sources(const struct model_tensor_source *sources, size_t count, void *user,
                             struct err_info *reterr);

static enum err with_merged(const struct model_encoder *e, use_sources *use, void *user,
                            struct err_info *reterr)
{
    size_t slots = (size_t)e->shape.layers * MODEL_TARGET_COUNT;
    struct model_tensor_source *sources = proto_alloc(e->adapters, sizeof *sources);
    real **merged = proto_alloc(slots, sizeof *merged);
    enum err err = sources && merged ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < e->adapters; i++) {
        const struct model_tensor *t = &e->tensors[i];
        sources[i] = source_of(t, t->name, e->weights + t->at);
        as_matrix(&sources[i], t);
    }
    err = err ? err : merge_all(e, sources, merged);
    err = err ? err : use(sources, e->adapters, user, reterr);
    for (size_t i = 0; merged && i < slots; i++) {
        proto_free(merged[i]);
    }
    proto_free(merged);
    proto_free(sources);
    return err;
}

static enum err to_folder(const struct model_tensor_source *sources, size_t count, void *user,
                          struct err_info *reterr)
{
    return model_safetensors_write(sources, count, user, "model.safetensors", reterr);
}

struct to_memory {
    const struct model_safetensors_note *notes;
    size_t note_count;
    struct buf *ret;
};

static enum err to_buf(const struct model_tensor_source *sources, size_t count, void *user,
                       struct err_info *reterr)
{
    const struct to_memory *to = user;
    return model_safetensors_encode_notes(sources, count, to->notes, to->note_count, to->ret,
                                          reterr);
}

enum err model_encoder_encode(const struct model_encoder *e,
                              const struct model_safetensors_note *notes, size_t note_count,
                              struct buf *ret, struct err_info *reterr)
{
    struct to_memory to = {notes, note_count, ret};
    return with_merged(e, to_buf, &to, reterr);
}

enum err model_encoder_save(const struct model_encoder *e, const char *const *labels,
                            const char *folder, struct err_info *reterr)
{
    struct buf config = {.max = 1 << 20};
    enum err err = model_config_encode(&e->shape, labels, &config, reterr);
    err = err ? err : with_merged(e, to_folder, (void *)(uintptr_t)folder, reterr);
    err = err ? err : model_folder_write(folder, "config.json", buf_span(&config), reterr);
    buf_fini(&config);
    return err;
}
