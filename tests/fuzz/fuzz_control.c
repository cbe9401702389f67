/* The control socket's frames and bodies: whatever decodes must encode to the same bytes. */
#include <stdlib.h>

#include "proto/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const struct buf *out, struct span frame)
{
    if (!span_equal(buf_span(out), frame)) {
        abort();
    }
}

static void body(const struct proto_control_frame *frame, struct span whole)
{
    struct buf out = {.max = PROTO_CONTROL_MAX + 16};
    struct arena arena = {0};
    struct proto_control_request request;
    struct proto_control_progress progress;
    struct proto_control_result result;
    if (frame->kind == PROTO_CONTROL_REQUEST &&
        !proto_control_decode_request(frame->body, &arena, &request, NULL)) {
        (void)proto_control_value(&request, "--epsilon");
        if (!proto_control_encode_request(&request, &out, NULL)) {
            same(&out, whole);
        }
    } else if (frame->kind == PROTO_CONTROL_PROGRESS &&
               !proto_control_decode_progress(frame->body, &progress, NULL)) {
        if (!proto_control_encode_progress(&progress, &out, NULL)) {
            same(&out, whole);
        }
    } else if (frame->kind == PROTO_CONTROL_RESULT &&
               !proto_control_decode_result(frame->body, &result, NULL)) {
        if (!proto_control_encode_result(&result, &out, NULL)) {
            same(&out, whole);
        }
    }
    arena_fini(&arena);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span left = span_of(data, size);
    struct proto_control_frame frame;
    size_t used = 0;
    while (!proto_control_next(left, &frame, &used, NULL)) {
        body(&frame, span_of(left.ptr, used));
        left = span_of(left.ptr + used, left.len - used);
    }
    return 0;
}
