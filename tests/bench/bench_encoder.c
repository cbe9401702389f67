/* Speed of training steps of the encoder: tokens per second of one thread's processor time, 16 sequences of 128, dropout 0.1.
 *
 *     bench_encoder [seconds per row]
 *
 * Rows: shapes of BERT tiny, mini, MiniLM-6 and base (base only with BASE=1, it needs 3 GB); full, LoRA rank 8 on query and
 * value, and LoRA with each sequence's gradient apart and clipped, as DP-SGD needs it. AdamW is part of the step. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "node/model/encoder.h"
#include "proto/alloc.h"

#define SEQUENCES 16
#define LENGTH    128

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct work {
    struct model_encoder *e;
    struct model_run *run;
    struct model_adamw adamw;
    struct model_batch batch;
    real *gradients, *sum, scale[SEQUENCES];
    bool apart;
};

static bool step(struct work *w)
{
    size_t trained = w->e->trained_count;
    memset(w->gradients, 0, w->batch.groups * trained * sizeof(real));
    w->batch.dropout_seed++;
    if (model_run_forward(w->run, &w->batch, NULL)) {
        return false;
    }
    model_run_backward(w->run, &w->batch, w->scale, w->gradients);
    const real *gradient = w->gradients;
    if (w->apart) {
        memset(w->sum, 0, trained * sizeof(real));
        for (size_t g = 0; g < w->batch.groups; g++) {
            model_clip_add(w->gradients + g * trained, trained, 1, w->sum);
        }
        gradient = w->sum;
    }
    model_adamw_step(&w->adamw, w->e, gradient, 1e-4);
    return true;
}

static double measure(const struct model_shape *shape, bool apart, double seconds)
{
    static uint32_t start[SEQUENCES + 1], ids[SEQUENCES * LENGTH];
    static int32_t labels[SEQUENCES * LENGTH];
    struct work w = {.apart = apart, .adamw = MODEL_ADAMW_DEFAULT};
    for (uint32_t i = 0; i < SEQUENCES * LENGTH; i++) {
        ids[i] = i * 7919u % shape->vocabulary;
        labels[i] = (int32_t)(i % shape->labels);
    }
    for (uint32_t i = 0; i <= SEQUENCES; i++) {
        start[i] = i * LENGTH;
    }
    static uint32_t each[SEQUENCES + 1];
    for (uint32_t i = 0; i <= SEQUENCES; i++) {
        each[i] = i;
        w.scale[i % SEQUENCES] = (real)1 / (SEQUENCES * LENGTH);
    }
    w.batch = (struct model_batch){.sequences = SEQUENCES,
                                   .start = start,
                                   .ids = ids,
                                   .labels = labels,
                                   .groups = apart ? SEQUENCES : 1,
                                   .group_at = apart ? each : NULL};
    double rate = 0, begun = 0;
    unsigned steps = 0;
    if (!model_encoder_new(shape, 1, &w.e, NULL) && (w.run = model_run_new(w.e)) &&
        !model_adamw_init(&w.adamw, w.e)) {
        w.gradients = proto_alloc(w.batch.groups * w.e->trained_count, sizeof(real));
        w.sum = proto_alloc(w.e->trained_count, sizeof(real));
    }
    if (w.gradients && w.sum && step(&w)) {
        begun = cpu_seconds();
        do {
            steps += step(&w);
        } while (cpu_seconds() - begun < seconds);
        rate = steps * SEQUENCES * LENGTH / (cpu_seconds() - begun);
    }
    proto_free(w.gradients);
    proto_free(w.sum);
    model_adamw_fini(&w.adamw);
    model_run_free(w.run);
    model_encoder_close(w.e);
    return rate;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint32_t layers, hidden, heads;
    } models[] = {{"tiny 2x128", 2, 128, 2},
                  {"mini 4x256", 4, 256, 4},
                  {"MiniLM 6x384", 6, 384, 12},
                  {"base 12x768", 12, 768, 12}};
    double seconds = argc > 1 ? atof(argv[1]) : 5;
    printf("%-14s %10s %10s %10s tokens a processor second\n", "model", "full", "LoRA", "DP-LoRA");
    for (size_t i = 0; i < (getenv("BASE") ? 4 : 3); i++) {
        struct model_shape s = {.vocabulary = 30522,
                                .hidden = models[i].hidden,
                                .layers = models[i].layers,
                                .heads = models[i].heads,
                                .inner = 4 * models[i].hidden,
                                .positions = 512,
                                .types = 2,
                                .layer_norm_eps = 1e-12,
                                .dropout = 0.1,
                                .attention_dropout = 0.1,
                                .labels = 9,
                                .targets = MODEL_TARGETS_QV,
                                .rank = 8,
                                .alpha = 16};
        s.training = MODEL_TRAIN_FULL;
        double full = measure(&s, false, seconds);
        s.training = MODEL_TRAIN_LORA;
        double lora = measure(&s, false, seconds);
        double apart = measure(&s, true, seconds);
        printf("%-14s %10.0f %10.0f %10.0f\n", models[i].name, full, lora, apart);
        fflush(stdout);
    }
    return 0;
}
