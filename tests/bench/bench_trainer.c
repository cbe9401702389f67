/* A trainer (trainer/1) that learns nothing: what is left of a round is what it costs to move and average updates.
 * usage, as a program of node.yaml: bench_trainer NUMBERS. The change is a made-up vector without zeros. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "node/model/safetensors_write.h"
#include "node/train/trainer_message.h"

enum {
    CONTROL = 3,
    OUTPUT = 6,
};

static int say(const struct train_trainer_frame *frame)
{
    struct buf out = {.max = 1 << 17};
    int good = train_trainer_encode(frame, &out, NULL) == E_OK &&
               write(CONTROL, out.ptr, out.len) == (ssize_t)out.len;
    buf_fini(&out);
    return good;
}

static int hear(struct train_trainer_frame *ret, struct buf *in, struct arena *arena)
{
    size_t used = 0;
    while (!used) {
        uint8_t bytes[4096];
        ssize_t got = read(CONTROL, bytes, sizeof bytes);
        if (got <= 0 || buf_put(in, span_of(bytes, (size_t)got)) ||
            train_trainer_decode(buf_span(in), arena, ret, &used, NULL)) {
            return 0;
        }
    }
    return ret->type == TRAIN_TRAINER_TASK;
}

int main(int argc, char **argv)
{
    size_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    struct train_trainer_frame frame = {.type = TRAIN_TRAINER_HELLO};
    struct buf in = {.max = 1 << 17};
    struct buf file = {.max = count * 4 + 4096};
    struct arena arena = {0};
    frame.of.hello = (struct train_trainer_hello){TRAIN_TRAINER_VERSION, span_str("bench")};
    float *change = proto_alloc(count, sizeof *change);
    if (!change || !say(&frame) || !hear(&frame, &in, &arena)) {
        return 1;
    }
    uint32_t x = 1;
    for (size_t i = 0; i < count; i++) {
        x = x * 1664525u + 1013904223u;
        change[i] = (float)(x >> 8) * 0x1p-32f - 0x1p-9f;
    }
    struct model_tensor_source source = {
        .name = "change", .dims = 1, .shape = {count}, .floats = change};
    if (model_safetensors_encode(&source, 1, &file, NULL)) {
        return 1;
    }
    for (size_t at = 0; at < file.len;) {
        ssize_t done = pwrite(OUTPUT, file.ptr + at, file.len - at, (off_t)at);
        if (done <= 0) {
            return 1;
        }
        at += (size_t)done;
    }
    frame = (struct train_trainer_frame){.type = TRAIN_TRAINER_UPDATE};
    frame.of.update.size = file.len;
    return say(&frame) ? 0 : 1;
}
