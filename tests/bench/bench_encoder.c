/* Speed of training steps of the encoder on 16 sequences of 128, dropout 0.1, AdamW; the rival is torch_encoder.py.
 *
 *     bench_encoder LAYERS HIDDEN HEADS full|lora|dp-lora|dp-full SECONDS THREADS
 *
 * Prints tokens a processor second, tokens a second, peak resident KiB. LoRA: rank 8 on query and value. dp-: each sequence's gradient
 * apart and clipped (without noise: this measures time, it protects nobody). */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "node/model/encoder.h"
#include "node/model/team.h"
#include "proto/alloc.h"

#define SEQUENCES 16u
#define LENGTH    128u

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct work {
    struct model_encoder *e;
    struct model_team *team;
    struct model_adamw adamw;
    struct model_batch batch;
    real *gradient;
    double clip;
};

static void step(struct work *w)
{
    double loss = 0;
    uint64_t labelled = 0;
    w->batch.dropout_seed++;
    if (model_team_gradient(w->team, &w->batch, w->clip, w->gradient, NULL, &loss, &labelled,
                            NULL)) {
        fputs("bench_encoder: a step failed\n", stderr);
        exit(1);
    }
    model_adamw_step(&w->adamw, w->e, w->gradient, 1e-4);
}

static void measure(const struct model_shape *shape, double clip, double wanted, unsigned threads)
{
    static uint32_t start[SEQUENCES + 1], each[SEQUENCES + 1], ids[SEQUENCES * LENGTH];
    static int32_t labels[SEQUENCES * LENGTH];
    struct work w = {.clip = clip, .adamw = MODEL_ADAMW_DEFAULT};
    struct rusage usage;
    for (uint32_t i = 0; i < SEQUENCES * LENGTH; i++) {
        ids[i] = i * 7919u % shape->vocabulary;
        labels[i] = (int32_t)(i % shape->labels);
    }
    for (uint32_t i = 0; i <= SEQUENCES; i++) {
        start[i] = i * LENGTH;
        each[i] = i;
    }
    w.batch = (struct model_batch){.sequences = SEQUENCES,
                                   .start = start,
                                   .ids = ids,
                                   .labels = labels,
                                   .groups = SEQUENCES,
                                   .group_at = each};
    if (model_encoder_new(shape, 1, &w.e, NULL) || model_team_new(w.e, threads, &w.team) ||
        model_adamw_init(&w.adamw, w.e) ||
        !(w.gradient = proto_alloc(w.e->trained_count, sizeof *w.gradient))) {
        fputs("bench_encoder: no memory\n", stderr);
        exit(1);
    }
    /* Numbers of their own in every page, as a model that was read has them. */
    for (size_t i = 0; i < w.e->tensor_count; i++) {
        struct model_tensor *t = &w.e->tensors[i];
        for (size_t j = 0; t->decay && j < t->rows * t->cols; j++) {
            w.e->weights[t->at + j] = (real)((double)(j * 2654435761u % 65536) / 65536 - 0.5) / 16;
        }
    }
    step(&w);
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);
    unsigned steps = 0;
    do {
        step(&w);
        steps++;
    } while (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu < wanted);
    double tokens = (double)steps * SEQUENCES * LENGTH;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = seconds(CLOCK_MONOTONIC) - wall;
    getrusage(RUSAGE_SELF, &usage);
    printf("%.1f %.1f %ld\n", tokens / cpu, tokens / wall, usage.ru_maxrss);
    proto_free(w.gradient);
    model_adamw_fini(&w.adamw);
    model_team_free(w.team);
    model_encoder_close(w.e);
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fputs(
            "usage: bench_encoder LAYERS HIDDEN HEADS full|lora|dp-lora|dp-full SECONDS THREADS\n",
            stderr);
        return 2;
    }
    uint32_t hidden = (uint32_t)atoi(argv[2]);
    struct model_shape s = {.vocabulary = 30522,
                            .hidden = hidden,
                            .layers = (uint32_t)atoi(argv[1]),
                            .heads = (uint32_t)atoi(argv[3]),
                            .inner = 4 * hidden,
                            .positions = 512,
                            .types = 2,
                            .layer_norm_eps = 1e-12,
                            .dropout = 0.1,
                            .attention_dropout = 0.1,
                            .labels = 9,
                            .targets = MODEL_TARGETS_QV,
                            .rank = 8,
                            .alpha = 16};
    s.training = strstr(argv[4], "lora") ? MODEL_TRAIN_LORA : MODEL_TRAIN_FULL;
    measure(&s, strncmp(argv[4], "dp-", 3) == 0 ? 1.0 : 0, atof(argv[5]), (unsigned)atoi(argv[6]));
    return 0;
}
