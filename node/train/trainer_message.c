#include "config.h"
#include "node/train/trainer_message.h"

#define ROWS_MAX (INT64_C(1) << 31)

static const struct proto_field confined_fields[] = {
    PROTO_FIELD(struct train_trainer_confined, namespaces, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_trainer_confined, landlock, PROTO_U64, 0, 1000),
    PROTO_FIELD(struct train_trainer_confined, seccomp, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_trainer_confined, error, PROTO_STR, 0, 256),
};
static const struct proto_field hello_fields[] = {
    PROTO_FIELD(struct train_trainer_hello, version, PROTO_U64, TRAIN_TRAINER_VERSION,
                TRAIN_TRAINER_VERSION),
    PROTO_FIELD(struct train_trainer_hello, name, PROTO_STR, 1, 64),
};
static const struct proto_field task_fields[] = {
    PROTO_FIELD(struct train_trainer_task, version, PROTO_U64, TRAIN_TRAINER_VERSION,
                TRAIN_TRAINER_VERSION),
    PROTO_FIELD(struct train_trainer_task, task, PROTO_STR, 1, 64),
    PROTO_FIELD(struct train_trainer_task, start, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_trainer_task, round, PROTO_U64, 0, 10001),
    PROTO_FIELD(struct train_trainer_task, rounds, PROTO_U64, 1, 10000),
    PROTO_FIELD(struct train_trainer_task, numbers, PROTO_U64, 0, INT64_C(1) << 40),
    PROTO_FIELD(struct train_trainer_task, rows, PROTO_U64, 0, ROWS_MAX),
    PROTO_FIELD(struct train_trainer_task, width, PROTO_U64, 0, 1 << 20),
    PROTO_FIELD(struct train_trainer_task, epochs, PROTO_U64, 1, 1000),
    PROTO_FIELD(struct train_trainer_task, batch, PROTO_U64, 1, 10000000),
    PROTO_FIELD(struct train_trainer_task, learning_rate, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_trainer_task, seed, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_trainer_task, threads, PROTO_U64, 1, 4096),
    PROTO_FIELD(struct train_trainer_task, time_ms, PROTO_U64, 1, INT64_C(1) << 40),
    PROTO_FIELD_LIST(struct train_trainer_task, features, &proto_text_message, 0, 256),
};
static const struct proto_field progress_fields[] = {
    PROTO_FIELD(struct train_trainer_progress, done, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_trainer_progress, total, PROTO_U64, 0, INT64_MAX),
};
static const struct proto_field update_fields[] = {
    PROTO_FIELD(struct train_trainer_update, size, PROTO_U64, 0, INT64_MAX),
};

static const struct proto_message messages[TRAIN_TRAINER_TYPES] = {
    [TRAIN_TRAINER_CONFINED] =
        PROTO_MESSAGE("confinement", struct train_trainer_confined, confined_fields),
    [TRAIN_TRAINER_HELLO] =
        PROTO_MESSAGE("trainer's greeting", struct train_trainer_hello, hello_fields),
    [TRAIN_TRAINER_TASK] = PROTO_MESSAGE("trainer's task", struct train_trainer_task, task_fields),
    [TRAIN_TRAINER_PROGRESS] =
        PROTO_MESSAGE("trainer's progress", struct train_trainer_progress, progress_fields),
    [TRAIN_TRAINER_UPDATE] =
        PROTO_MESSAGE("trainer's update", struct train_trainer_update, update_fields),
    [TRAIN_TRAINER_FAILED] = {.name = "trainer's failure"},
};

enum err train_trainer_encode(const struct train_trainer_frame *frame, struct buf *out,
                              struct err_info *reterr)
{
    const struct proto_message *message = &messages[frame->type];
    struct buf body = {.max = TRAIN_TRAINER_FRAME - 1};
    uint8_t head[5];
    enum err err = message->fields ? proto_codec_encode(message, &frame->of, &body, reterr) : E_OK;
    uint32_t len = (uint32_t)body.len + 1;
    for (size_t i = 0; i < 4; i++) {
        head[i] = (uint8_t)(len >> (8 * i));
    }
    head[4] = (uint8_t)frame->type;
    err = err ? err : buf_put(out, span_of(head, sizeof head));
    err = err ? err : buf_put(out, buf_span(&body));
    buf_fini(&body);
    return err;
}

enum err train_trainer_decode(struct span bytes, struct arena *arena,
                              struct train_trainer_frame *ret, size_t *ret_used,
                              struct err_info *reterr)
{
    *ret_used = 0;
    if (bytes.len < 4) {
        return E_OK;
    }
    size_t len = 0;
    for (size_t i = 0; i < 4; i++) {
        len |= (size_t)bytes.ptr[i] << (8 * i);
    }
    if (len < 1 || len > TRAIN_TRAINER_FRAME) {
        return proto_err_set(reterr, E_LIMIT, "a frame has 1 to %zu bytes", TRAIN_TRAINER_FRAME);
    }
    if (bytes.len < 5) {
        return E_OK;
    }
    unsigned type = bytes.ptr[4];
    if (type == 0 || type >= TRAIN_TRAINER_TYPES) {
        return proto_err_set(reterr, E_INVALID, "no frame has the type %u", type);
    }
    if (bytes.len < 4 + len) {
        return E_OK;
    }
    struct span body = span_of(bytes.ptr + 5, len - 1);
    const struct proto_message *message = &messages[type];
    enum err err = E_OK;
    if (message->fields) {
        err = proto_codec_decode(message, body, arena, &ret->of, reterr);
    } else if (body.len) {
        err = proto_err_set(reterr, E_INVALID, "this frame has no fields");
    }
    if (!err) {
        ret->type = (enum train_trainer_type)type;
        *ret_used = 4 + len;
    }
    return err;
}
