/* What an external trainer says, and what it gives back: the first byte picks the channel or the file. */
#include "config.h"

#include <assert.h>

#include "node/model/safetensors.h"
#include "node/train/trainer_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void frames(struct span bytes)
{
    struct train_trainer_frame frame;
    struct arena arena = {.max = TRAIN_TRAINER_FRAME};
    struct buf again = {.max = TRAIN_TRAINER_FRAME + 4};
    for (size_t used = 1; used;) {
        if (train_trainer_decode(bytes, &arena, &frame, &used, NULL) || !used) {
            break;
        }
        assert(used <= bytes.len && used <= TRAIN_TRAINER_FRAME + 4);
        again.len = 0;
        assert(train_trainer_encode(&frame, &again, NULL) == E_OK);
        assert(span_equal(buf_span(&again), span_of(bytes.ptr, used)));
        bytes = span_of(bytes.ptr + used, bytes.len - used);
    }
    buf_fini(&again);
    arena_fini(&arena);
}

static void change(struct span bytes)
{
    struct model_safetensors *file = NULL;
    float numbers[64];
    if (model_safetensors_bytes(bytes, &file, NULL) == E_OK) {
        const struct model_tensor_entry *entry = model_safetensors_find(file, "change");
        if (entry && entry->count <= 64) {
            (void)!model_safetensors_floats(file, entry, numbers, (size_t)entry->count, NULL);
        }
    }
    model_safetensors_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size) {
        struct span rest = span_of(data + 1, size - 1);
        if (data[0] & 1) {
            change(rest);
        } else {
            frames(rest);
        }
    }
    return 0;
}
