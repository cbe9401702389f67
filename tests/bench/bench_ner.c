/* Trains a model folder on annotated notes and reports entities on a test file: quality and speed on real sentences.
 *
 *     bench_ner MODEL TRAIN TEST [epochs [threads [rate [seed [clip]]]]]
 *
 * Afterwards the same model with eight-bit weights, and with a third and half of its layers' numbers pruned: what they cost.
 * Full fine-tuning, batches of 16 sentences in an order drawn from the seed, AdamW, 10 % warm-up, linear decay, gradient norm 1.
 * With a clip norm each unit's gradient is clipped (without noise: this measures time, it protects nobody). */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "node/model/folder.h"
#include "node/model/notes.h"
#include "node/model/quantise.h"
#include "node/model/report.h"
#include "node/model/team.h"
#include "node/model/tokenizer.h"
#include "proto/alloc.h"
#include "tests/lib/seed.h"

#define BATCH 16
#define MAX   512

struct text {
    struct model_notes notes;
    struct model_pieces *sentences;
};

static void must(enum err err, const struct err_info *info)
{
    if (err) {
        fprintf(stderr, "bench_ner: %s %s\n", proto_err_name(err), info->text);
        exit(1);
    }
}

static void read_text(const char *path, const struct model_tokenizer *t, struct model_words *labels,
                      bool add, struct text *text)
{
    struct buf buf = {.max = (size_t)1 << 30};
    struct err_info info = {0};
    must(model_folder_read(path[0] == '/' ? "/" : ".", path, &buf, &info), &info);
    must(model_notes_read(buf_span(&buf), path, labels, add, &text->notes, &info), &info);
    text->sentences = proto_alloc(text->notes.sentences, sizeof *text->sentences);
    for (uint32_t s = 0; s < text->notes.sentences; s++) {
        const char *words[4096];
        uint32_t from = text->notes.sentence_at[s], count = text->notes.sentence_at[s + 1] - from;
        count = count > 4096 ? 4096 : count;
        for (uint32_t w = 0; w < count; w++) {
            words[w] = text->notes.text + text->notes.word_at[from + w];
        }
        must(model_tokenizer_sentence(t, words, text->notes.tag + from, count, MAX,
                                      &text->sentences[s], &info),
             &info);
    }
    buf_fini(&buf);
}

/* Packs sentences order[0..count) into static arrays. */
static struct model_batch pack(const struct text *text, const uint32_t *order, size_t count)
{
    static uint32_t start[BATCH + 1], ids[BATCH * MAX], group_at[BATCH + 1];
    static int32_t labels[BATCH * MAX];
    for (size_t i = 0; i < count; i++) {
        const struct model_pieces *p = &text->sentences[order[i]];
        memcpy(ids + start[i], p->ids, p->count * sizeof *ids);
        memcpy(labels + start[i], p->labels, p->count * sizeof *labels);
        start[i + 1] = start[i] + (uint32_t)p->count;
        group_at[i + 1] = (uint32_t)i + 1;
    }
    return (struct model_batch){.sequences = count,
                                .start = start,
                                .ids = ids,
                                .labels = labels,
                                .groups = count,
                                .group_at = group_at};
}

static void test(const struct model_encoder *e, const struct text *text,
                 const struct model_words *labels)
{
    struct model_run *run = model_run_new(e);
    struct model_report report = {0};
    struct buf out = {.max = 1 << 20};
    struct err_info info = {0};
    for (uint32_t s = 0; s < text->notes.sentences; s++) {
        const char *gold[4096], *predicted[4096];
        struct model_batch b = pack(text, &s, 1);
        b.groups = 1;
        b.group_at = NULL;
        must(model_run_forward(run, &b, &info), &info);
        uint32_t from = text->notes.sentence_at[s], count = text->notes.sentence_at[s + 1] - from;
        for (uint32_t w = 0; w < count && w < 4096; w++) {
            uint32_t piece = text->sentences[s].first_piece[w], best = 0;
            for (uint32_t j = 1; piece != MODEL_WORDS_NONE && j < labels->count; j++) {
                const real *row = model_run_logits(run) + (size_t)piece * labels->count;
                best = row[j] > row[best] ? j : best;
            }
            gold[w] = model_words_get(labels, text->notes.tag[from + w]);
            predicted[w] = model_words_get(labels, best);
        }
        must(model_report_add(&report, gold, predicted, count > 4096 ? 4096 : count), &info);
    }
    must(model_report_text(&report, &out), &info);
    fwrite(out.ptr, 1, out.len, stdout);
    buf_fini(&out);
    model_report_fini(&report);
    model_run_free(run);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct plan {
    unsigned epochs, threads;
    double rate, clip;
    uint64_t seed;
};

static void train(struct model_encoder *e, const struct text *text, const struct plan *plan)
{
    struct model_team *team = NULL;
    struct model_adamw adamw = MODEL_ADAMW_DEFAULT;
    struct err_info info = {0};
    struct seed random = seed_of(plan->seed);
    uint32_t count = text->notes.sentences, *order = proto_alloc(count, sizeof *order);
    real *gradient = proto_alloc(e->trained_count, sizeof *gradient);
    must(model_team_new(e, plan->threads, &team), &info);
    must(model_adamw_init(&adamw, e), &info);
    adamw.clip = 1;
    uint64_t total = (uint64_t)plan->epochs * ((count + BATCH - 1) / BATCH), tokens = 0;
    double begun = seconds();
    for (unsigned epoch = 0; epoch < plan->epochs; epoch++) {
        double sum = 0;
        uint64_t all = 0;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t j = (uint32_t)seed_below(&random, i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        for (uint32_t at = 0; at < count; at += BATCH) {
            double loss = 0;
            uint64_t labelled = 0;
            struct model_batch b = pack(text, order + at, count - at < BATCH ? count - at : BATCH);
            b.dropout_seed = seed_next(&random) | 1;
            must(model_team_gradient(team, &b, plan->clip, gradient, NULL, &loss, &labelled, &info),
                 &info);
            model_adamw_step(&adamw, e, gradient,
                             model_rate_at(plan->rate, adamw.step, total / 10, total));
            sum += loss;
            all += labelled;
            tokens += b.start[b.sequences];
        }
        printf("epoch %u: loss %.4f, %.1f processor s\n", epoch + 1, sum / (double)all,
               seconds() - begun);
        fflush(stdout);
    }
    printf("%.0f tokens a processor second\n", (double)tokens / (seconds() - begun));
    proto_free(order);
    proto_free(gradient);
    model_adamw_fini(&adamw);
    model_team_free(team);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr,
                "usage: bench_ner MODEL TRAIN TEST [epochs [threads [rate [seed [clip]]]]]\n");
        return 2;
    }
    struct plan plan = {.epochs = argc > 4 ? (unsigned)atoi(argv[4]) : 4,
                        .threads = argc > 5 ? (unsigned)atoi(argv[5]) : 1,
                        .rate = argc > 6 ? atof(argv[6]) : 5e-4,
                        .seed = argc > 7 ? strtoull(argv[7], NULL, 0) : 1,
                        .clip = argc > 8 ? atof(argv[8]) : 0};
    struct model_tokenizer *t = NULL;
    struct model_words labels = {.max = MODEL_NOTES_LABELS_MAX};
    struct text train_text = {0}, test_text = {0};
    struct model_shape shape = {.task = MODEL_TASK_TOKENS};
    struct model_encoder *e = NULL;
    struct err_info info = {0};
    must(model_tokenizer_open(argv[1], &t, &info), &info);
    read_text(argv[2], t, &labels, true, &train_text);
    read_text(argv[3], t, &labels, false, &test_text);
    must(model_shape_read(argv[1], &shape, &info), &info);
    shape.labels = labels.count;
    must(model_encoder_open(argv[1], &shape, plan.seed, &e, &info), &info);
    train(e, &train_text, &plan);
    test(e, &test_text, &labels);
    real *kept = proto_alloc(e->weight_count, sizeof *kept);
    if (kept) {
        memcpy(kept, e->weights, e->weight_count * sizeof *kept);
        must(model_encoder_quantise(e, &info), &info);
        puts("eight-bit weights:");
        test(e, &test_text, &labels);
        for (int third = 0; third < 2; third++) {
            memcpy(e->weights, kept, e->weight_count * sizeof *kept);
            must(model_encoder_prune(e, third ? 0.5 : 1.0 / 3, &info), &info);
            printf("pruned by %s:\n", third ? "half" : "a third");
            test(e, &test_text, &labels);
        }
    }
    proto_free(kept);
    return 0;
}
