/* Writing: the exact bytes of a safetensors file, what is refused, adapters and merged models read back with the same answers,
 * and PEFT's names and keys. */
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

#include "node/model/encoder_config.h"
#include "node/model/encoder_save.h"
#include "node/model/folder.h"
#include "node/model/safetensors_write.h"
#include "tests/lib/vectors.h"

static char folder[] = "/tmp/test_encoder_save.XXXXXX";
static const char *const labels[] = {"O", "B-Disease", "I-Disease"};

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static void remove_file(const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"a.safetensors", "adapter_model.safetensors",
                                        "adapter_config.json", "model.safetensors", "config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        remove_file(names[i]);
    }
    return rmdir(folder); /* fails when a temporary file was left behind */
}

static void known_bytes(void **state)
{
    (void)state;
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                 "\"b\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
                                 "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}";
    static const uint8_t data[12] = {0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0x3e};
    const float b[] = {1, -2};
    const double a[] = {0.125};
    const struct model_tensor_source tensors[] = {
        {.name = "b", .dims = 2, .shape = {1, 2}, .floats = b},
        {.name = "a", .dims = 1, .shape = {1}, .doubles = a}};
    struct buf buf = {.max = 4096};
    assert_int_equal(model_safetensors_encode(tensors, 2, &buf, NULL), E_OK);
    size_t padded = (sizeof header - 1 + 7) / 8 * 8;
    assert_int_equal(buf.len, 8 + padded + sizeof data);
    assert_int_equal(buf.ptr[0], padded);
    assert_memory_equal(buf.ptr + 1, "\0\0\0\0\0\0\0", 7);
    assert_memory_equal(buf.ptr + 8, header, sizeof header - 1);
    for (size_t i = sizeof header - 1; i < padded; i++) {
        assert_int_equal(buf.ptr[8 + i], ' ');
    }
    assert_memory_equal(buf.ptr + 8 + padded, data, sizeof data);
    /* The same into a file, seen only by its owner. */
    struct buf file = {.max = 4096};
    struct stat stat_;
    char path[PATH_MAX];
    assert_int_equal(model_safetensors_write(tensors, 2, folder, "a.safetensors", NULL), E_OK);
    assert_int_equal(model_folder_read(folder, "a.safetensors", &file, NULL), E_OK);
    assert_int_equal(file.len, buf.len);
    assert_memory_equal(file.ptr, buf.ptr, buf.len);
    snprintf(path, sizeof path, "%s/a.safetensors", folder);
    assert_int_equal(stat(path, &stat_), 0);
    assert_int_equal(stat_.st_mode & 0777, 0600);
    buf_fini(&file);
    buf_fini(&buf);
}

static void refuses(void **state)
{
    (void)state;
    static char long_name[300];
    memset(long_name, 'x', sizeof long_name - 1);
    const float one[] = {1}, infinite[] = {INFINITY};
    const double big[] = {1e300};
    const struct {
        struct model_tensor_source tensors[2];
        size_t count;
        enum err err;
    } cases[] = {
        {{{.name = "", .dims = 1, .shape = {1}, .floats = one}}, 1, E_LIMIT},
        {{{.name = long_name, .dims = 1, .shape = {1}, .floats = one}}, 1, E_LIMIT},
        {{{.name = "\xff", .dims = 1, .shape = {1}, .floats = one}}, 1, E_INVALID},
        {{{.name = "__metadata__", .dims = 1, .shape = {1}, .floats = one}}, 1, E_INVALID},
        {{{.name = "a", .dims = 1, .shape = {1}, .floats = one},
          {.name = "a", .dims = 1, .shape = {1}, .floats = one}},
         2,
         E_INVALID},
        {{{.name = "a", .dims = 1, .shape = {1}, .floats = infinite}}, 1, E_INVALID},
        {{{.name = "a", .dims = 1, .shape = {1}, .doubles = big}}, 1, E_INVALID},
        {{{.name = "a", .dims = 1, .shape = {1}}}, 1, E_INVALID},
        {{{.name = "a", .dims = 3, .shape = {1, 1}, .floats = one}}, 1, E_INVALID},
        {{{.name = "a", .dims = 2, .shape = {UINT64_MAX, 2}, .floats = one}}, 1, E_INVALID},
        {{{.name = "a", .dims = 1, .shape = {UINT64_MAX / 4}, .floats = one}}, 1, E_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf buf = {.max = 4096};
        assert_int_equal(model_safetensors_encode(cases[i].tensors, cases[i].count, &buf, NULL),
                         cases[i].err);
        buf_fini(&buf);
    }
    struct buf small = {.max = 20};
    assert_int_equal(model_safetensors_encode(cases[0].tensors, 0, &small, NULL), E_LIMIT);
    buf_fini(&small);
    /* A failure leaves the older file as it was: known_bytes wrote it. */
    struct buf file = {.max = 4096};
    assert_int_equal(model_safetensors_write(cases[5].tensors, 1, folder, "a.safetensors", NULL),
                     E_INVALID);
    assert_int_equal(model_folder_read(folder, "a.safetensors", &file, NULL), E_OK);
    assert_non_null(memmem(file.ptr, file.len, "\"b\"", 3));
    buf_fini(&file);
    assert_int_equal(
        model_safetensors_write(cases[0].tensors, 0, "/nonexistent", "a.safetensors", NULL), E_IO);
}

/* The small model of the vectors with adapters whose B is not zero. */
static struct model_encoder *open_small(enum model_training training, uint32_t targets,
                                        enum model_task task, uint64_t seed)
{
    struct model_shape shape = {0};
    struct model_encoder *e = NULL;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", vectors_path("bert/small"));
    assert_int_equal(model_shape_read(path, &shape, NULL), E_OK);
    shape.task = task;
    shape.labels = 3;
    shape.training = training;
    shape.targets = targets;
    shape.rank = 2;
    shape.alpha = 3;
    assert_int_equal(model_encoder_open(path, &shape, seed, &e, NULL), E_OK);
    for (size_t i = e->head; i < e->tensor_count; i++) {
        struct model_tensor *t = &e->tensors[i];
        for (size_t j = 0; strstr(t->name, "lora_B") && j < t->rows * t->cols; j++) {
            e->weights[t->at + j] = (real)(0.25 * sin((double)(seed + i * 31 + j)));
        }
    }
    return e;
}

/* Logits of eight rows; returns how many. */
static size_t answer(const struct model_encoder *e, real to[32])
{
    static const uint32_t start[] = {0, 5, 8}, ids[] = {2, 17, 40, 99, 3, 2, 150, 3};
    struct model_batch batch = {.sequences = 2, .start = start, .ids = ids, .groups = 1};
    struct model_run *run = model_run_new(e);
    size_t n = (e->shape.task == MODEL_TASK_TOKENS ? 8 : 2) * e->shape.labels;
    assert_non_null(run);
    assert_int_equal(model_run_forward(run, &batch, NULL), E_OK);
    memcpy(to, model_run_logits(run), n * sizeof *to);
    model_run_free(run);
    return n;
}

static void same_answers(const struct model_encoder *a, const struct model_encoder *b,
                         double tolerance)
{
    real left[32], right[32];
    double size = 0;
    size_t n = answer(a, left);
    assert_int_equal(answer(b, right), n);
    for (size_t i = 0; i < n; i++) {
        size += fabs((double)left[i]);
        if (!(fabs((double)left[i] - (double)right[i]) <= tolerance)) {
            fail_msg("logit %zu: %g and %g", i, (double)left[i], (double)right[i]);
        }
    }
    assert_true(size > 1e-3);
}

static void adapters_return(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        enum model_training training = i & 1 ? MODEL_TRAIN_FFA : MODEL_TRAIN_LORA;
        enum model_task task = i & 2 ? MODEL_TASK_SEQUENCE : MODEL_TASK_TOKENS;
        struct model_encoder *a = open_small(training, MODEL_TARGETS_ALL, task, 7);
        struct model_encoder *b = open_small(training, MODEL_TARGETS_ALL, task, 8);
        struct model_safetensors *file = NULL;
        char path[PATH_MAX];
        assert_int_equal(model_adapter_save(a, "small", folder, NULL), E_OK);
        snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
        assert_int_equal(model_safetensors_open(path, &file, NULL), E_OK);
        assert_int_equal(model_adapter_load(b, file, NULL), E_OK);
        same_answers(a, b, 1e-6);
        /* An adapter for fewer layers, another rank or a full model does not fit. */
        struct model_encoder *c = open_small(training, MODEL_TARGETS_QV, task, 8);
        struct model_encoder *d = open_small(MODEL_TRAIN_FULL, 0, task, 8);
        assert_int_equal(model_adapter_load(c, file, NULL), E_SCHEMA);
        assert_int_equal(model_adapter_load(d, file, NULL), E_SCHEMA);
        model_safetensors_close(file);
        model_encoder_close(a);
        model_encoder_close(b);
        model_encoder_close(c);
        model_encoder_close(d);
    }
}

static void other_shapes_do_not_fit(void **state)
{
    (void)state;
    struct model_encoder *a = open_small(MODEL_TRAIN_FFA, MODEL_TARGETS_QV, MODEL_TASK_TOKENS, 7);
    struct model_encoder *b = NULL;
    struct model_shape shape = a->shape;
    struct model_safetensors *file = NULL;
    struct buf bytes = {.max = 1 << 20};
    struct err_info info = {0};
    assert_int_equal(model_adapter_encode(a, NULL, 0, &bytes, NULL), E_OK);
    assert_int_equal(model_safetensors_bytes(buf_span(&bytes), &file, NULL), E_OK);
    shape.rank = 3;
    assert_int_equal(model_encoder_new(&shape, 1, &b, NULL), E_OK);
    assert_int_equal(model_adapter_load(b, file, &info), E_SCHEMA);
    assert_non_null(strstr(info.text, "of another shape"));
    model_encoder_close(b);
    /* As many tensors, of other layers. */
    shape = a->shape;
    shape.targets = 1u << MODEL_TARGET_KEY | 1u << MODEL_TARGET_VALUE;
    assert_int_equal(model_encoder_new(&shape, 1, &b, NULL), E_OK);
    assert_int_equal(model_adapter_load(b, file, &info), E_SCHEMA);
    assert_non_null(strstr(info.text, "missing"));
    model_encoder_close(b);
    model_safetensors_close(file);
    buf_fini(&bytes);
    model_encoder_close(a);
}

static void merged_models_answer_alike(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        enum model_training training = (enum model_training)(MODEL_TRAIN_FULL + i);
        enum model_task task = i == 1 ? MODEL_TASK_SEQUENCE : MODEL_TASK_TOKENS;
        struct model_encoder *a = open_small(training, MODEL_TARGETS_ALL, task, 7), *b = NULL;
        struct model_shape shape = {0};
        assert_int_equal(model_encoder_save(a, labels, folder, NULL), E_OK);
        assert_int_equal(model_shape_read(folder, &shape, NULL), E_OK);
        assert_int_equal(shape.labels, 3);
        shape.task = task;
        shape.training = MODEL_TRAIN_FULL;
        assert_int_equal(model_encoder_open(folder, &shape, 99, &b, NULL), E_OK);
        same_answers(a, b, 1e-4);
        model_encoder_close(a);
        model_encoder_close(b);
    }
}

static void labels_are_names(void **state)
{
    (void)state;
    struct model_encoder *e = open_small(MODEL_TRAIN_FFA, MODEL_TARGETS_QV, MODEL_TASK_TOKENS, 7);
    struct buf bytes = {.max = 1 << 20};
    assert_int_equal(model_config_encode(&e->shape, labels, &bytes, NULL), E_OK);
    json_t *root = json_loadb((const char *)bytes.ptr, bytes.len, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(json_object_get(root, "id2label"), "1")),
                        "B-Disease");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(root, "label2id"), "I-Disease")), 2);
    json_decref(root);
    const char *const twice[] = {"O", "B", "B"}, *const broken[] = {"O", "\xff", "B"};
    assert_int_equal(model_config_encode(&e->shape, twice, &bytes, NULL), E_INVALID);
    assert_int_equal(model_config_encode(&e->shape, broken, &bytes, NULL), E_INVALID);
    buf_fini(&bytes);
    model_encoder_close(e);
}

static json_t *adapter_config(const struct model_shape *shape)
{
    struct buf bytes = {.max = 1 << 16};
    assert_int_equal(model_adapter_config(shape, "bert-tiny-biomed", &bytes, NULL), E_OK);
    json_t *root = json_loadb((const char *)bytes.ptr, bytes.len, 0, NULL);
    assert_non_null(root);
    buf_fini(&bytes);
    return root;
}

static void peft_keys(void **state)
{
    (void)state;
    struct model_encoder *e = open_small(MODEL_TRAIN_LORA, MODEL_TARGETS_QV, MODEL_TASK_TOKENS, 7);
    struct model_safetensors *file = NULL;
    struct buf bytes = {.max = 1 << 20};
    json_t *root = adapter_config(&e->shape);
    assert_string_equal(json_string_value(json_object_get(root, "peft_type")), "LORA");
    assert_string_equal(json_string_value(json_object_get(root, "task_type")), "TOKEN_CLS");
    assert_int_equal(json_integer_value(json_object_get(root, "r")), 2);
    assert_true(json_number_value(json_object_get(root, "lora_alpha")) == 3);
    json_t *targets = json_object_get(root, "target_modules");
    assert_int_equal(json_array_size(targets), 2);
    assert_string_equal(json_string_value(json_array_get(targets, 1)), "value");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(root, "modules_to_save"), 0)),
        "classifier");
    json_decref(root);
    /* Only the output of the inner part: as a list it would take that of attention too. */
    e->shape.targets = 1u << MODEL_TARGET_QUERY | 1u << MODEL_TARGET_OUTPUT;
    root = adapter_config(&e->shape);
    assert_string_equal(json_string_value(json_object_get(root, "target_modules")),
                        ".*\\.layer\\.[0-9]+\\.(?:attention.self.query|output.dense)");
    json_decref(root);
    e->shape.targets = MODEL_TARGETS_QV;
    assert_int_equal(model_adapter_encode(e, NULL, 0, &bytes, NULL), E_OK);
    assert_int_equal(model_safetensors_bytes(buf_span(&bytes), &file, NULL), E_OK);
    assert_int_equal(model_safetensors_count(file), 2 + 2 * 2 * 2);
    const struct model_tensor_entry *a = model_safetensors_find(
        file, "base_model.model.bert.encoder.layer.1.attention.self.value.lora_A.weight");
    assert_non_null(a);
    assert_int_equal(a->shape[0], 2);
    assert_int_equal(a->shape[1], 32);
    assert_non_null(model_safetensors_find(file, "base_model.model.classifier.weight"));
    assert_int_equal(model_safetensors_find(file, "base_model.model.classifier.bias")->dims, 1);
    model_safetensors_close(file);
    buf_fini(&bytes);
    model_encoder_close(e);
}

static void full_models_have_no_adapter(void **state)
{
    (void)state;
    struct model_encoder *e = open_small(MODEL_TRAIN_FULL, 0, MODEL_TASK_TOKENS, 7);
    struct buf bytes = {.max = 1 << 20};
    assert_int_equal(model_adapter_encode(e, NULL, 0, &bytes, NULL), E_USAGE);
    assert_int_equal(model_adapter_config(&e->shape, "small", &bytes, NULL), E_USAGE);
    buf_fini(&bytes);
    model_encoder_close(e);
}

static void memory_runs_out(void **state)
{
    (void)state;
    struct model_encoder *e = open_small(MODEL_TRAIN_LORA, MODEL_TARGETS_ALL, MODEL_TASK_TOKENS, 7);
    uint64_t nth = 1;
    enum err err = E_NO_MEMORY;
    for (; err && nth < 100; nth++) {
        proto_alloc_fail_at(nth);
        err = model_encoder_save(e, labels, folder, NULL);
        assert_true(err == E_OK || err == E_NO_MEMORY);
    }
    proto_alloc_fail_at(0);
    assert_int_equal(err, E_OK);
    assert_true(nth > 10);
    model_encoder_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_bytes),
        cmocka_unit_test(refuses),
        cmocka_unit_test(adapters_return),
        cmocka_unit_test(other_shapes_do_not_fit),
        cmocka_unit_test(merged_models_answer_alike),
        cmocka_unit_test(labels_are_names),
        cmocka_unit_test(peft_keys),
        cmocka_unit_test(full_models_have_no_adapter),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
