/* From a folder to a tuned model and back: packages, windows of long texts, training with and without noise, evaluation. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/provider.h"
#include "node/model/deploy.h"
#include "node/model/folder.h"
#include "node/model/safetensors_write.h"
#include "node/model/tuner.h"
#include "proto/privacy.h"
#include "tests/lib/seed.h"
#include "tests/lib/vectors.h"

static char folder[] = "/tmp/test_tuner.XXXXXX";
static const char *const tags[] = {"O", "B-Drug", "I-Drug", "B-Sign"};
static struct buf base; /* the package of the small model */

static void copy(const char *from, const char *name)
{
    struct buf buf = {.max = 1 << 24};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", vectors_path("bert/small"));
    assert_int_equal(model_folder_read(path, from, &buf, NULL), E_OK);
    assert_int_equal(model_folder_write(folder, name, buf_span(&buf), NULL), E_OK);
    buf_fini(&buf);
}

static void remove_one(const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

/* 200 pieces: the special ones, letters, and letters that go on. */
static void write_vocabulary(const char *name)
{
    static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    struct buf buf = {.max = 1 << 16};
    for (int i = 0; i < 200; i++) {
        enum err err = i < 5    ? buf_printf(&buf, "%s\n", special[i])
                       : i < 31 ? buf_printf(&buf, "%c\n", 'a' + i - 5)
                       : i < 57 ? buf_printf(&buf, "##%c\n", 'a' + i - 31)
                                : buf_printf(&buf, "[unused%d]\n", i);
        assert_int_equal(err, E_OK);
    }
    assert_int_equal(model_folder_write(folder, name, buf_span(&buf), NULL), E_OK);
    buf_fini(&buf);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder) || crypto_init(NULL)) {
        return -1;
    }
    copy("config.json", "config.json");
    copy("model.safetensors", "model.safetensors");
    write_vocabulary("vocab.txt");
    base.max = 1 << 24;
    return model_package_import(folder, "small", "CC0-1.0", &base, NULL) ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"config.json", "model.safetensors", "vocab.txt",
                                        "merges.txt"};
    buf_fini(&base);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

static struct model_package *open_package(struct span blob)
{
    struct model_package *package = NULL;
    struct err_info info = {0};
    if (model_package_open(blob, &package, &info)) {
        fail_msg("%s", info.text);
    }
    return package;
}

static struct model_tuning tuning_of(enum model_task task, enum model_training training)
{
    return (struct model_tuning){.task = task,
                                 .training = training,
                                 .targets = MODEL_TARGETS_QV,
                                 .rank = 4,
                                 .alpha = 8,
                                 .labels = tags,
                                 .label_count = 4,
                                 .longest = 16,
                                 .stride = 4,
                                 .dropout = 0.1,
                                 .seed = 3};
}

static struct model_tuner *open_tuner(const struct model_tuning *tuning)
{
    struct model_package *package = open_package(buf_span(&base));
    struct model_tuner *tuner = NULL;
    struct err_info info = {0};
    if (model_tuner_open(package, NULL, tuning, 2, &tuner, &info)) {
        fail_msg("%s", info.text);
    }
    model_package_close(package);
    return tuner;
}

/* Words of one or two letters: those with an x are drugs, a y continues one, z is a sign. */
static void fill(struct model_corpus *corpus, unsigned units, struct seed *random)
{
    static const char *const words[] = {"ab", "c", "de", "xa", "ya", "z", "f", "xb"};
    static const uint16_t word_tags[] = {0, 0, 0, 1, 2, 3, 0, 1};
    for (unsigned u = 0; u < units; u++) {
        for (unsigned s = 0; s < 1 + u % 3; s++) {
            const char *sentence[9];
            uint16_t labels[9];
            size_t count = 3 + seed_below(random, 6);
            for (size_t w = 0; w < count; w++) {
                size_t i = seed_below(random, 8);
                i = i == 4 && (w == 0 || labels[w - 1] != 1) ? 3 : i;
                sentence[w] = words[i];
                labels[w] = word_tags[i];
            }
            assert_int_equal(model_corpus_words(corpus, 100 - u, sentence, labels, count, NULL),
                             E_OK);
        }
    }
    assert_int_equal(model_corpus_seal(corpus, NULL), E_OK);
}

static struct model_corpus *corpus_of(struct model_tuner *tuner, unsigned units, uint64_t number)
{
    struct model_corpus *corpus = NULL;
    struct seed random = seed_of(number);
    assert_int_equal(model_tuner_corpus(tuner, &corpus, NULL), E_OK);
    fill(corpus, units, &random);
    return corpus;
}

static float *weights_of(const struct model_tuner *tuner)
{
    float *w = proto_alloc(model_tuner_count(tuner), sizeof *w);
    assert_non_null(w);
    model_tuner_get(tuner, w);
    return w;
}

/* --- packages ------------------------------------------------------------------------------------------ */

static void packages_hold_all(void **state)
{
    (void)state;
    struct model_package *package = open_package(buf_span(&base));
    const struct model_package_info *info = model_package_info(package);
    assert_string_equal(info->name, "small");
    assert_string_equal(info->licence, "CC0-1.0");
    assert_int_equal(info->shape.layers, 2);
    assert_int_equal(info->shape.vocabulary, 200);
    assert_false(info->has_base);
    model_package_close(package);
    struct model_package *none = NULL;
    assert_int_equal(model_package_open(span_of(base.ptr, base.len - 1), &none, NULL), E_TRUNCATED);
    assert_null(none);
    struct buf again = {.max = 1 << 24};
    assert_int_equal(model_package_import(folder, "", "CC0-1.0", &again, NULL), E_USAGE);
    assert_int_equal(model_package_import("/nonexistent", "a", "CC0-1.0", &again, NULL),
                     E_NOT_FOUND);
    assert_int_equal(model_package_import(folder, "small", "CC0-1.0", &again, NULL), E_OK);
    assert_int_equal(again.len, base.len);
    assert_memory_equal(again.ptr, base.ptr, base.len);
    buf_fini(&again);
}

static void byte_level_bpe_is_refused(void **state)
{
    (void)state;
    char path[PATH_MAX];
    struct buf blob = {.max = 1 << 24};
    struct err_info info = {0};
    snprintf(path, sizeof path, "%s/vocab.txt", folder);
    unlink(path);
    assert_int_equal(model_package_import(folder, "small", "", &blob, &info), E_NOT_FOUND);
    write_vocabulary("merges.txt");
    assert_int_equal(model_package_import(folder, "small", "", &blob, &info), E_UNSUPPORTED);
    assert_non_null(strstr(info.text, "BPE"));
    write_vocabulary("vocab.txt");
    buf_fini(&blob);
}

/* The small model's tensors under another family's names, with a config of that family. */
struct spelt {
    const char *from, *to;
};

static void write_family(const char *config, const struct spelt *names, size_t name_count,
                         bool shifted, bool typeless)
{
    struct model_safetensors *file = NULL;
    char path[PATH_MAX], spelt[64][200];
    struct model_tensor_source sources[64];
    static float moved[66 * 32];
    size_t count = 0;
    snprintf(path, sizeof path, "%s", vectors_path("bert/small/model.safetensors"));
    assert_int_equal(model_safetensors_open(path, &file, NULL), E_OK);
    for (size_t i = 0; i < model_safetensors_count(file); i++) {
        const struct model_tensor_entry *entry = model_safetensors_entry(file, i);
        if (typeless && strstr(entry->name, "token_type")) {
            continue;
        }
        char *to = spelt[count];
        snprintf(to, sizeof spelt[count], "%.199s", entry->name);
        for (size_t n = 0; n < name_count; n++) {
            char *at = strstr(to, names[n].from), rest[200];
            if (at) {
                snprintf(rest, sizeof rest, "%s", at + strlen(names[n].from));
                snprintf(at, (size_t)(200 - (at - to)), "%s%s", names[n].to, rest);
            }
        }
        struct model_tensor_source *source = &sources[count++];
        *source = (struct model_tensor_source){
            .name = to, .dims = entry->dims, .file = file, .entry = entry};
        source->shape[0] = entry->shape[0];
        source->shape[1] = entry->dims == 2 ? entry->shape[1] : 0;
        if (shifted && strstr(entry->name, "position_embeddings")) {
            assert_int_equal(model_safetensors_floats(file, entry, moved + 2 * 32, 64 * 32, NULL),
                             E_OK);
            *source = (struct model_tensor_source){
                .name = to, .dims = 2, .shape = {66, 32}, .floats = moved};
        }
    }
    assert_int_equal(model_safetensors_write(sources, count, folder, "model.safetensors", NULL),
                     E_OK);
    assert_int_equal(model_folder_write(folder, "config.json", span_str(config), NULL), E_OK);
    model_safetensors_close(file);
}

/* The numbers of BLOB's tensors that are no head. */
static struct model_encoder *base_weights(const struct buf *blob)
{
    struct model_package *package = open_package(buf_span(blob));
    struct model_shape shape = model_package_info(package)->shape;
    struct model_encoder *e = NULL;
    struct err_info info = {0};
    shape.task = MODEL_TASK_MASKED;
    shape.labels = shape.vocabulary;
    if (model_package_encoder(package, NULL, &shape, NULL, 1, &e, &info)) {
        fail_msg("%s", info.text);
    }
    model_package_close(package);
    return e;
}

static void families(void **state)
{
    (void)state;
    static const struct spelt distil[] = {{"bert.encoder.", "distilbert.transformer."},
                                          {"bert.embeddings", "distilbert.embeddings"},
                                          {"attention.self.query", "attention.q_lin"},
                                          {"attention.self.key", "attention.k_lin"},
                                          {"attention.self.value", "attention.v_lin"},
                                          {"attention.output.dense", "attention.out_lin"},
                                          {"attention.output.LayerNorm", "sa_layer_norm"},
                                          {"intermediate.dense", "ffn.lin1"},
                                          {"output.dense", "ffn.lin2"},
                                          {".output.LayerNorm", ".output_layer_norm"},
                                          {"cls.predictions.transform.dense", "vocab_transform"},
                                          {"cls.predictions.transform.LayerNorm",
                                           "vocab_layer_norm"},
                                          {"cls.predictions.bias", "vocab_projector.bias"}},
                              roberta[] = {
                                  {"bert.", "roberta."},
                                  {"cls.predictions.transform.dense", "lm_head.dense"},
                                  {"cls.predictions.transform.LayerNorm", "lm_head.layer_norm"},
                                  {"cls.predictions.bias", "lm_head.bias"}};
    static const char distil_config[] =
        "{\"model_type\":\"distilbert\",\"vocab_size\":200,\"dim\":32,\"n_layers\":2,\"n_heads\":2,"
        "\"hidden_dim\":64,\"max_position_embeddings\":64,\"activation\":\"gelu\"}",
                      roberta_config[] = "{\"model_type\":\"roberta\",\"vocab_size\":200,\"hidden_"
                                         "size\":32,\"num_hidden_layers\":2,"
                                         "\"num_attention_heads\":2,\"intermediate_size\":64,\"max_"
                                         "position_embeddings\":66,"
                                         "\"type_vocab_size\":2,\"layer_norm_eps\":1e-12}";
    struct model_encoder *want = base_weights(&base);
    for (unsigned i = 0; i < 2; i++) {
        struct buf blob = {.max = 1 << 24};
        struct err_info info = {0};
        write_family(i ? roberta_config : distil_config, i ? roberta : distil, i ? 4 : 13, i == 1,
                     i == 0);
        if (model_package_import(folder, "other", "", &blob, &info)) {
            fail_msg("%s", info.text);
        }
        struct model_encoder *got = base_weights(&blob);
        for (size_t t = 0; t < want->tensor_count; t++) {
            const struct model_tensor *a = &want->tensors[t],
                                      *b = model_encoder_tensor(got, a->name);
            assert_non_null(b);
            if (i == 0 && strstr(a->name, "token_type")) {
                assert_int_equal(b->rows, 1);
                assert_true(model_norm(got->weights + b->at, b->cols) == 0);
            } else {
                assert_memory_equal(want->weights + a->at, got->weights + b->at,
                                    a->rows * a->cols * sizeof(real));
            }
        }
        model_encoder_close(got);
        buf_fini(&blob);
    }
    model_encoder_close(want);
    copy("config.json", "config.json");
    copy("model.safetensors", "model.safetensors");
}

/* A PEFT folder that this project wrote is read over its base, and says the same; not over another, nor without its head. */
static void adapters_come_in(void **state)
{
    (void)state;
    static const uint8_t hash[32] = {7};
    struct model_tuning tuning = tuning_of(MODEL_TASK_TOKENS, MODEL_TRAIN_LORA);
    struct model_tuner *tuner = open_tuner(&tuning);
    struct model_corpus *corpus = corpus_of(tuner, 12, 5);
    struct model_local local = {.schedule = {.peak = 1e-2}, .epochs = 2, .batch = 4};
    struct model_trained done;
    struct buf blob = {.max = 1 << 24}, back = {.max = 1 << 24};
    char name[MODEL_PACKAGE_NAME_MAX + 1];
    assert_int_equal(model_tuner_train(tuner, corpus, NULL, 0, &local, NULL, NULL, &done, NULL),
                     E_OK);
    struct model_package *whole = open_package(buf_span(&base));
    assert_int_equal(model_package_encode(model_tuner_encoder(tuner), model_tuner_labels(tuner),
                                          whole, hash, false, "tuned", "MIT", &blob, NULL),
                     E_OK);
    struct model_package *package = open_package(buf_span(&blob));
    struct model_deployed deployed;
    assert_int_equal(
        model_deploy_write(package, whole, MODEL_DEPLOY_PEFT, 0, folder, &deployed, NULL), E_OK);
    assert_true(model_package_is_adapter(folder, name));
    assert_string_equal(name, "small");
    /* config.json beside them keeps the labels; without it they are numbered. */
    assert_int_equal(model_package_import_adapter(folder, whole, hash, "again", "MIT", &back, NULL),
                     E_OK);
    struct model_package *again = open_package(buf_span(&back));
    assert_string_equal(model_words_get(model_package_info(again)->labels, 3), "B-Sign");
    assert_int_equal(model_package_info(again)->shape.rank, 4);
    assert_memory_equal(model_package_info(again)->base, hash, 32);
    struct model_shape shape = model_package_info(again)->shape;
    struct model_encoder *e = NULL;
    assert_int_equal(
        model_package_encoder(again, whole, &shape, model_package_info(again)->labels, 0, &e, NULL),
        E_OK);
    const struct model_encoder *trained = model_tuner_encoder(tuner);
    assert_memory_equal(e->weights, trained->weights, e->weight_count * sizeof(real));
    model_encoder_close(e);
    assert_int_equal(model_package_import_adapter(folder, again, hash, "x", "MIT", &back, NULL),
                     E_USAGE);
    remove_one("adapter_config.json");
    remove_one("adapter_model.safetensors");
    copy("config.json", "config.json");
    assert_false(model_package_is_adapter(folder, name));
    model_package_close(again);
    model_package_close(package);
    model_package_close(whole);
    buf_fini(&blob);
    buf_fini(&back);
    model_corpus_free(corpus);
    model_tuner_close(tuner);
}

static struct model_tuner *reopen(const struct buf *blob, const struct model_tuning *tuning)
{
    struct model_package *package = open_package(buf_span(blob));
    struct model_package *whole = NULL;
    struct model_tuner *tuner = NULL;
    struct err_info info = {0};
    if (model_package_info(package)->has_base) {
        assert_int_equal(model_tuner_open(package, NULL, tuning, 1, &tuner, &info), E_USAGE);
        whole = open_package(buf_span(&base));
    }
    if (model_tuner_open(package, whole, tuning, 1, &tuner, &info)) {
        fail_msg("%s", info.text);
    }
    model_package_close(whole);
    model_package_close(package);
    return tuner;
}

static double loss_of(struct model_tuner *tuner, const struct model_corpus *corpus)
{
    struct model_evaluation e = {0};
    double loss = 0;
    uint64_t labelled = 0;
    assert_int_equal(model_tuner_evaluate(tuner, corpus, NULL, 0, &e, NULL), E_OK);
    for (uint32_t u = 0; u < e.units; u++) {
        loss += e.loss[u];
        labelled += e.labelled[u];
    }
    model_evaluation_fini(&e);
    return loss / (double)labelled;
}

/* Trained, written and read again, a model says the same; whole, as adapters, and as adapters merged into another tuning. */
static void trained_models_come_back(void **state)
{
    (void)state;
    for (enum model_training training = MODEL_TRAIN_FULL; training <= MODEL_TRAIN_HEAD;
         training++) {
        struct model_tuning tuning = tuning_of(MODEL_TASK_TOKENS, training);
        struct model_tuner *tuner = open_tuner(&tuning);
        struct model_corpus *corpus = corpus_of(tuner, 12, 5);
        struct model_local local = {.schedule = {.peak = 5e-3}, .epochs = 2, .batch = 4, .seed = 1};
        struct model_trained done;
        assert_int_equal(model_tuner_train(tuner, corpus, NULL, 0, &local, NULL, NULL, &done, NULL),
                         E_OK);
        double loss = loss_of(tuner, corpus);
        bool adapted = training == MODEL_TRAIN_LORA || training == MODEL_TRAIN_FFA;
        struct model_package *package = open_package(buf_span(&base));
        struct buf blob = {.max = 1 << 24};
        static const uint8_t hash[32] = {1, 2, 3};
        assert_int_equal(model_package_encode(model_tuner_encoder(tuner), model_tuner_labels(tuner),
                                              package, adapted ? hash : NULL, false, "tuned",
                                              "CC0-1.0", &blob, NULL),
                         E_OK);
        model_package_close(package);
        assert_true(!adapted || blob.len < base.len / 2);
        struct model_tuner *same = reopen(&blob, &tuning);
        assert_true(fabs(loss_of(same, corpus) - loss) < 1e-6);
        model_tuner_close(same);
        struct model_tuning other = tuning_of(MODEL_TASK_TOKENS, MODEL_TRAIN_FULL);
        struct model_tuner *merged = reopen(&blob, &other);
        assert_true(fabs(loss_of(merged, corpus) - loss) < 1e-4);
        model_tuner_close(merged);
        buf_fini(&blob);
        model_corpus_free(corpus);
        model_tuner_close(tuner);
    }
}

/* --- windows ------------------------------------------------------------------------------------------- */

static void long_texts_are_cut(void **state)
{
    (void)state;
    struct model_tuning tuning = tuning_of(MODEL_TASK_TOKENS, MODEL_TRAIN_HEAD);
    struct model_tuner *tuner = open_tuner(&tuning);
    struct seed random = seed_of(seed_number(8));
    for (unsigned n = 0; n < 50; n++) {
        struct model_corpus *corpus = NULL;
        const char *words[200];
        uint16_t labels[200];
        char texts[200][24];
        size_t count = 1 + seed_below(&random, 200);
        for (size_t w = 0; w < count; w++) {
            size_t len = seed_below(&random, n % 5 ? 6 : 20); /* some are empty, some never fit */
            memset(texts[w], 'a', len);
            texts[w][len] = 0;
            words[w] = texts[w];
            labels[w] = (uint16_t)(w % 4);
        }
        assert_int_equal(model_tuner_corpus(tuner, &corpus, NULL), E_OK);
        assert_int_equal(model_corpus_words(corpus, 7, words, labels, count, NULL), E_OK);
        assert_int_equal(model_corpus_seal(corpus, NULL), E_OK);
        const struct model_corpus_view *v = model_corpus_view(corpus);
        assert_int_equal(v->units, 1);
        assert_int_equal(model_corpus_unit_number(corpus, 0), 7);
        size_t labelled = 0;
        for (uint32_t w = 0; w < v->windows; w++) {
            uint32_t from = v->row_at[w], to = v->row_at[w + 1];
            assert_in_range(to - from, 2, 16);
            assert_int_equal(v->ids[from], 2);
            assert_int_equal(v->ids[to - 1], 3);
            assert_true(v->labels[from] < 0 && v->labels[to - 1] < 0);
            for (uint32_t r = from; r < to; r++) {
                labelled += v->labels[r] >= 0;
            }
        }
        size_t seen = 0;
        for (uint32_t w = 0, last = 0; w < count; w++) {
            uint32_t row = v->word_row[w];
            assert_int_equal(row == MODEL_WORDS_NONE, texts[w][0] == 0);
            if (row != MODEL_WORDS_NONE) {
                assert_true(row >= last); /* each word once, in order */
                last = row + 1;
                assert_int_equal(v->labels[row], w % 4);
                assert_int_equal(v->ids[row], 5);
                seen++;
            }
        }
        assert_int_equal(labelled, seen);
        model_corpus_free(corpus);
    }
    model_tuner_close(tuner);
}

/* --- training ------------------------------------------------------------------------------------------ */

static void training_learns_and_repeats(void **state)
{
    (void)state;
    struct model_tuning tuning = tuning_of(MODEL_TASK_TOKENS, MODEL_TRAIN_FULL);
    float *first = NULL;
    for (unsigned again = 0; again < 2; again++) {
        struct model_tuner *tuner = open_tuner(&tuning);
        struct model_corpus *corpus = corpus_of(tuner, 40, 6);
        struct model_local local = {
            .schedule = {.peak = 5e-3}, .epochs = 12, .batch = 8, .clip = 1, .decay = 0.01};
        struct model_trained done;
        double before = loss_of(tuner, corpus);
        assert_int_equal(model_tuner_train(tuner, corpus, NULL, 0, &local, NULL, NULL, &done, NULL),
                         E_OK);
        assert_int_equal(done.steps, model_tuner_steps(corpus, NULL, 0, &local));
        assert_true(before > 1 && loss_of(tuner, corpus) < 0.1);
        float *w = weights_of(tuner);
        if (again) {
            assert_memory_equal(w, first, model_tuner_count(tuner) * sizeof *w);
            proto_free(first);
            proto_free(w);
        } else {
            first = w;
        }
        model_corpus_free(corpus);
        model_tuner_close(tuner);
    }
}

/* FedProx with a huge pull stays where it started; SCAFFOLD's correction moves a plain step by rate times itself. */
static void federated_terms(void **state)
{
    (void)state;
    struct model_tuning tuning = tuning_of(MODEL_TASK_TOKENS, MODEL_TRAIN_HEAD);
    struct model_tuner *tuner = open_tuner(&tuning);
    struct model_corpus *corpus = corpus_of(tuner, 10, 7);
    size_t count = model_tuner_count(tuner);
    float *start = weights_of(tuner), *correction = proto_alloc(count, sizeof *correction);
    for (size_t i = 0; i < count; i++) {
        correction[i] = (float)(i % 7) - 3;
    }
    struct model_local local = {
        .schedule = {.peak = 1e-3}, .epochs = 1, .batch = 100, .plain = true, .seed = 4};
    struct model_trained done;
    assert_int_equal(model_tuner_train(tuner, corpus, NULL, 0, &local, NULL, NULL, &done, NULL),
                     E_OK);
    float *without = weights_of(tuner);
    assert_int_equal(model_tuner_set(tuner, start, NULL), E_OK);
    local.correction = correction;
    assert_int_equal(model_tuner_train(tuner, corpus, NULL, 0, &local, NULL, NULL, &done, NULL),
                     E_OK);
    float *with = weights_of(tuner);
    for (size_t i = 0; i < count; i++) {
        assert_true(fabsf(with[i] - (without[i] - 1e-3f * correction[i])) < 1e-6f);
    }
    local.correction = NULL;
    local.proximal = 900;
    local.epochs = 40;
    assert_int_equal(model_tuner_set(tuner, start, NULL), E_OK);
    assert_int_equal(model_tuner_train(tuner, corpus, NULL, 0, &local, NULL, NULL, &done, NULL),
                     E_OK);
    float *near = weights_of(tuner);
    double far = 0, moved = 0;
    for (size_t i = 0; i < count; i++) {
        far = fmax(far, fabs((double)(near[i] - start[i])));
        moved = fmax(moved, fabs((double)(without[i] - start[i])));
    }
    /* One step of 40, about: w - w0 converges to gradient / 900. */
    assert_true(moved > 1e-5 && far < 1.5 * moved);
    start[3] = NAN;
    assert_int_equal(model_tuner_set(tuner, start, NULL), E_INVALID);
    proto_free(start);
    proto_free(correction);
    proto_free(without);
    proto_free(with);
    proto_free(near);
    model_corpus_free(corpus);
    model_tuner_close(tuner);
}

/* Alternating adapters: what is frozen keeps every bit, the rest moves; parts cover the vector. */
static void frozen_parts(void **state)
{
    (void)state;
    struct model_tuning tuning = tuning_of(MODEL_TASK_TOKENS, MODEL_TRAIN_LORA);
    struct model_tuner *tuner = open_tuner(&tuning);
    struct model_corpus *corpus = corpus_of(tuner, 10, 7);
    float *start = weights_of(tuner);
    struct model_local local = {.schedule = {.peak = 1e-2},
                                .epochs = 2,
                                .batch = 4,
                                .decay = 0.1,
                                .frozen = 1u << MODEL_PART_A | 1u << MODEL_PART_HEAD};
    struct model_trained done;
    assert_int_equal(model_tuner_train(tuner, corpus, NULL, 0, &local, NULL, NULL, &done, NULL),
                     E_OK);
    float *end = weights_of(tuner);
    size_t count = 0, at = 0, kinds = 0;
    const struct model_part *parts = model_tuner_parts(tuner, &count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(parts[i].at, at);
        at += parts[i].count;
        kinds |= (size_t)1 << parts[i].kind;
        bool same =
            memcmp(start + parts[i].at, end + parts[i].at, parts[i].count * sizeof *end) == 0;
        assert_int_equal(same, parts[i].kind != MODEL_PART_B);
        assert_int_equal(parts[i].kind == MODEL_PART_A, strstr(parts[i].name, "lora_A") != NULL);
    }
    assert_int_equal(at, model_tuner_count(tuner));
    assert_int_equal(kinds, 1u << MODEL_PART_A | 1u << MODEL_PART_B | 1u << MODEL_PART_HEAD);
    proto_free(start);
    proto_free(end);
    model_corpus_free(corpus);
    model_tuner_close(tuner);
}

/* Masked LM on texts in which every b follows an a: it learns what stands between. */
static void masked_lm(void **state)
{
    (void)state;
    struct model_tuning tuning = tuning_of(MODEL_TASK_MASKED, MODEL_TRAIN_FULL);
    tuning.label_count = 0;
    tuning.dropout = 0;
    struct model_tuner *tuner = open_tuner(&tuning);
    struct model_corpus *corpus = NULL;
    struct seed random = seed_of(2);
    assert_int_equal(model_tuner_corpus(tuner, &corpus, NULL), E_OK);
    for (uint32_t u = 0; u < 40; u++) {
        char text[64] = "";
        for (unsigned i = 0; i < 9; i++) {
            strcat(text, seed_below(&random, 2) ? "a b " : "c d ");
        }
        assert_int_equal(model_corpus_text(corpus, u, span_str(text), -1, NULL), E_OK);
    }
    assert_int_equal(model_corpus_seal(corpus, NULL), E_OK);
    assert_int_equal(model_corpus_view(corpus)->windows, 80); /* 18 pieces in windows of 14 */
    struct model_local local = {.schedule = {.peak = 3e-3}, .epochs = 60, .batch = 8};
    struct model_trained done;
    double before = loss_of(tuner, corpus);
    assert_int_equal(model_tuner_train(tuner, corpus, NULL, 0, &local, NULL, NULL, &done, NULL),
                     E_OK);
    struct model_evaluation e = {0};
    assert_int_equal(model_tuner_evaluate(tuner, corpus, NULL, 0, &e, NULL), E_OK);
    assert_int_equal(e.types, 1);
    uint64_t hits = 0, all = 0;
    for (uint32_t u = 0; u < e.units; u++) {
        hits += e.counts[u].matched;
        all += e.counts[u].gold;
        assert_int_equal(e.counts[u].gold, e.labelled[u]);
    }
    /* 15 % of 720 pieces, within 6 deviations. By chance a piece of four is found. */
    assert_in_range(all, 50, 166);
    assert_true(before > 3 && (double)hits > 0.6 * (double)all);
    model_evaluation_fini(&e);
    struct model_private sgd = {.rate = 0.3,
                                .clip = 1,
                                .sigma = 1,
                                .expected_batch = 12,
                                .steps = 2,
                                .schedule = {.peak = 1e-3}};
    uint32_t steps;
    assert_int_equal(
        model_tuner_train_private(tuner, corpus, NULL, 0, &sgd, NULL, NULL, &steps, NULL), E_OK);
    assert_int_equal(steps, 2);
    model_corpus_free(corpus);
    model_tuner_close(tuner);
}

static bool stop_at_two(void *user, uint32_t step, uint32_t steps, double loss)
{
    (void)steps;
    *(bool *)user = *(bool *)user && (step == 0 || isnan(loss));
    return step < 2;
}

static void private_training(void **state)
{
    (void)state;
    for (enum model_training training = MODEL_TRAIN_FULL; training <= MODEL_TRAIN_HEAD;
         training++) {
        struct model_tuning tuning = tuning_of(MODEL_TASK_TOKENS, training);
        tuning.dropout = 0;
        struct model_tuner *tuner = open_tuner(&tuning);
        struct model_corpus *corpus = corpus_of(tuner, 60, 9);
        struct model_private sgd = {.rate = 0.5,
                                    .clip = 1,
                                    .sigma = PROTO_PRIVACY_SIGMA_MIN,
                                    .expected_batch = 30,
                                    .steps = 5,
                                    .schedule = {.peak = 1e-2}};
        uint32_t steps = 9;
        double before = loss_of(tuner, corpus);
        float *start = weights_of(tuner);
        assert_int_equal(
            model_tuner_train_private(tuner, corpus, NULL, 0, &sgd, NULL, NULL, &steps, NULL),
            E_OK);
        assert_int_equal(steps, 5);
        double after = loss_of(tuner, corpus);
        assert_true(isfinite(after) && after != before);
        /* Stopped: the weights are as before, and what drew noise is told. */
        bool silent = true;
        assert_int_equal(model_tuner_set(tuner, start, NULL), E_OK);
        assert_int_equal(model_tuner_train_private(tuner, corpus, NULL, 0, &sgd, stop_at_two,
                                                   &silent, &steps, NULL),
                         E_CANCELLED);
        assert_true(silent);
        assert_int_equal(steps, 2);
        float *now = weights_of(tuner);
        assert_memory_equal(now, start, model_tuner_count(tuner) * sizeof *now);
        sgd.sigma = 0;
        assert_int_equal(
            model_tuner_train_private(tuner, corpus, NULL, 0, &sgd, NULL, NULL, &steps, NULL),
            E_LIMIT);
        assert_int_equal(steps, 0);
        sgd.sigma = 1;
        sgd.expected_batch = 1e6;
        assert_int_equal(
            model_tuner_train_private(tuner, corpus, NULL, 0, &sgd, NULL, NULL, &steps, NULL),
            E_INVALID);
        proto_free(now);
        proto_free(start);
        model_corpus_free(corpus);
        model_tuner_close(tuner);
    }
}

/* Nobody there: what is left is the noise, of the deviation that was asked for. The mean square of n normal numbers lies
 * within 6 sqrt(2/n) of the variance but for 2e-9 of runs. */
static void noise_has_its_size(void **state)
{
    (void)state;
    struct model_tuning tuning = tuning_of(MODEL_TASK_TOKENS, MODEL_TRAIN_FULL);
    struct model_tuner *tuner = open_tuner(&tuning);
    struct model_corpus *corpus = NULL;
    assert_int_equal(model_tuner_corpus(tuner, &corpus, NULL), E_OK);
    assert_int_equal(model_corpus_seal(corpus, NULL), E_OK);
    struct model_private sgd = {.rate = 0.01,
                                .clip = 0.5,
                                .sigma = 2,
                                .expected_batch = 10,
                                .steps = 1,
                                .plain = true,
                                .schedule = {.peak = 0.1}};
    uint32_t steps;
    size_t count = model_tuner_count(tuner);
    float *start = weights_of(tuner);
    assert_int_equal(
        model_tuner_train_private(tuner, corpus, NULL, 0, &sgd, NULL, NULL, &steps, NULL), E_OK);
    float *end = weights_of(tuner);
    double square = 0;
    for (size_t i = 0; i < count; i++) {
        square += ((double)end[i] - (double)start[i]) * ((double)end[i] - (double)start[i]);
    }
    double want = 0.1 * 0.5 * 2 / 10, got = sqrt(square / (double)count);
    assert_true(fabs(got * got / (want * want) - 1) < 6 * sqrt(2 / (double)count) + 1e-3);
    proto_free(start);
    proto_free(end);
    model_corpus_free(corpus);
    model_tuner_close(tuner);
}

/* --- evaluation ---------------------------------------------------------------------------------------- */

struct seen {
    struct model_tuner *tuner;
    struct model_report report;
    uint32_t next;
    const struct model_corpus_view *v;
};

static enum err see(void *user, uint32_t sentence, const uint16_t *labels, size_t words)
{
    struct seen *s = user;
    const char *gold[16], *predicted[16];
    assert_int_equal(sentence, s->next++);
    assert_in_range(words, 1, 16);
    for (uint32_t i = 0; i < s->v->sentences; i++) {
        for (size_t w = 0; s->v->order[i] == sentence && w < words; w++) {
            gold[w] = tags[s->v->word_tag[s->v->word_at[i] + w]];
            predicted[w] = tags[labels[w]];
        }
    }
    return model_report_add(&s->report, gold, predicted, words);
}

/* Counts by unit add up to the report of all predictions, which come in the order of the sentences. */
static void counts_are_those_of_a_report(void **state)
{
    (void)state;
    struct model_tuning tuning = tuning_of(MODEL_TASK_TOKENS, MODEL_TRAIN_FULL);
    struct model_tuner *tuner = open_tuner(&tuning);
    struct model_corpus *corpus = corpus_of(tuner, 30, 11);
    struct model_local local = {.schedule = {.peak = 3e-3}, .epochs = 5, .batch = 8};
    struct model_trained done;
    assert_int_equal(model_tuner_train(tuner, corpus, NULL, 0, &local, NULL, NULL, &done, NULL),
                     E_OK);
    struct model_evaluation e = {0};
    double sums[2][3] = {{0}};
    assert_int_equal(model_tuner_evaluate(tuner, corpus, NULL, 0, &e, NULL), E_OK);
    assert_int_equal(e.types, 2);
    assert_string_equal(e.names[0], "Drug");
    assert_string_equal(e.names[1], "Sign");
    for (uint32_t u = 0; u < e.units; u++) {
        for (uint32_t t = 0; t < 2; t++) {
            const struct model_report_count *c = &e.counts[u * 2 + t];
            sums[t][0] += (double)c->matched;
            sums[t][1] += (double)c->predicted;
            sums[t][2] += (double)c->gold;
        }
    }
    struct model_report report = {0};
    assert_int_equal(model_evaluation_report(e.names, sums, 2, &report), E_OK);
    struct seen s = {.tuner = tuner, .v = model_corpus_view(corpus)};
    assert_int_equal(model_tuner_tags(tuner, corpus, see, &s, NULL), E_OK);
    assert_int_equal(s.next, s.v->sentences);
    struct model_score a = model_report_micro(&report), b = model_report_micro(&s.report);
    assert_true(a.f1 == b.f1 && a.precision == b.precision && a.support == b.support);
    assert_true(a.f1 > 0.2 && a.f1 < 1);
    /* Some units alone: the same counts as among all. */
    static const uint32_t some[] = {2, 5, 29};
    struct model_evaluation part = {0};
    assert_int_equal(model_tuner_evaluate(tuner, corpus, some, 3, &part, NULL), E_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_memory_equal(&part.counts[2 * i], &e.counts[2 * some[i]], 2 * sizeof *part.counts);
    }
    model_evaluation_fini(&part);
    model_evaluation_fini(&e);
    model_report_fini(&report);
    model_report_fini(&s.report);
    model_corpus_free(corpus);
    model_tuner_close(tuner);
}

static void classes(void **state)
{
    (void)state;
    static const char *const names[] = {"yes", "no"};
    struct model_tuning tuning = tuning_of(MODEL_TASK_SEQUENCE, MODEL_TRAIN_FULL);
    tuning.labels = names;
    tuning.label_count = 2;
    tuning.dropout = 0;
    struct model_tuner *tuner = open_tuner(&tuning);
    struct model_corpus *corpus = NULL;
    struct seed random = seed_of(3);
    assert_int_equal(model_tuner_corpus(tuner, &corpus, NULL), E_OK);
    for (uint32_t u = 0; u < 40; u++) {
        char text[12] = "a b c d e";
        bool has = u % 2 == 0;
        text[2 * seed_below(&random, 5)] = has ? 'x' : 'g';
        assert_int_equal(model_corpus_text(corpus, 40 - u, span_str(text), has ? 0 : 1, NULL),
                         E_OK);
    }
    assert_int_equal(model_corpus_seal(corpus, NULL), E_OK);
    struct model_local local = {.schedule = {.peak = 3e-3}, .epochs = 15, .batch = 8};
    struct model_trained done;
    assert_int_equal(model_tuner_train(tuner, corpus, NULL, 0, &local, NULL, NULL, &done, NULL),
                     E_OK);
    struct model_evaluation e = {0};
    float *p = NULL;
    assert_int_equal(model_tuner_evaluate(tuner, corpus, NULL, 0, &e, NULL), E_OK);
    assert_int_equal(model_tuner_classes(tuner, corpus, &p, NULL), E_OK);
    uint64_t matched = 0;
    for (uint32_t u = 0; u < 40; u++) {
        matched += e.counts[2 * u].matched + e.counts[2 * u + 1].matched;
        assert_true(fabsf(p[2 * u] + p[2 * u + 1] - 1) < 1e-5f);
        assert_true((p[2 * u] > 0.5f) == (u % 2 == 0));
    }
    assert_int_equal(matched, 40);
    proto_free(p);
    model_evaluation_fini(&e);
    model_corpus_free(corpus);
    model_tuner_close(tuner);
}

static void refuses(void **state)
{
    (void)state;
    struct model_package *package = open_package(buf_span(&base));
    struct model_tuner *tuner = NULL;
    struct model_tuning tuning = tuning_of(MODEL_TASK_TOKENS, MODEL_TRAIN_FULL);
    static const char *const twice[] = {"O", "O"}, *const no_tags[] = {"O", "Drug"};
    tuning.labels = twice;
    tuning.label_count = 2;
    assert_int_equal(model_tuner_open(package, NULL, &tuning, 1, &tuner, NULL), E_USAGE);
    tuning.labels = no_tags;
    assert_int_equal(model_tuner_open(package, NULL, &tuning, 1, &tuner, NULL), E_USAGE);
    tuning = tuning_of(MODEL_TASK_TOKENS, MODEL_TRAIN_FULL);
    tuning.longest = 65;
    assert_int_equal(model_tuner_open(package, NULL, &tuning, 1, &tuner, NULL), E_LIMIT);
    assert_null(tuner);
    tuning.longest = 16;
    assert_int_equal(model_tuner_open(package, NULL, &tuning, 1, &tuner, NULL), E_OK);
    struct model_corpus *corpus = corpus_of(tuner, 4, 1);
    struct model_local local = {.schedule = {.peak = 1e-3}, .batch = 4};
    struct model_trained done;
    assert_int_equal(model_tuner_train(tuner, corpus, NULL, 0, &local, NULL, NULL, &done, NULL),
                     E_INVALID);
    local.epochs = 1;
    static const uint32_t outside[] = {1, 4}, unordered[] = {2, 1};
    assert_int_equal(model_tuner_train(tuner, corpus, outside, 2, &local, NULL, NULL, &done, NULL),
                     E_INVALID);
    assert_int_equal(
        model_tuner_train(tuner, corpus, unordered, 2, &local, NULL, NULL, &done, NULL), E_INVALID);
    local.schedule.peak = 900;
    local.plain = true;
    local.epochs = 200;
    float *start = weights_of(tuner);
    struct err_info info = {0};
    if (model_tuner_train(tuner, corpus, NULL, 0, &local, NULL, NULL, &done, &info) != E_OK) {
        float *now = weights_of(tuner);
        assert_memory_equal(now, start, model_tuner_count(tuner) * sizeof *now);
        proto_free(now);
    }
    proto_free(start);
    model_corpus_free(corpus);
    model_tuner_close(tuner);
    model_package_close(package);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packages_hold_all),
        cmocka_unit_test(byte_level_bpe_is_refused),
        cmocka_unit_test(families),
        cmocka_unit_test(adapters_come_in),
        cmocka_unit_test(trained_models_come_back),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(training_learns_and_repeats),
        cmocka_unit_test(federated_terms),
        cmocka_unit_test(frozen_parts),
        cmocka_unit_test(masked_lm),
        cmocka_unit_test(private_training),
        cmocka_unit_test(noise_has_its_size),
        cmocka_unit_test(counts_are_those_of_a_report),
        cmocka_unit_test(classes),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
