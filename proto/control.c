#include "proto/control.h"

/* --- messages ----------------------------------------------------------------------------------- */

static const struct proto_field argument_fields[] = {
    PROTO_FIELD(struct proto_control_argument, name, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_control_argument, value, PROTO_STR, 0, PROTO_CONTROL_VALUE_MAX),
};
static const struct proto_message argument_message =
    PROTO_MESSAGE("control argument", struct proto_control_argument, argument_fields);

static const struct proto_field request_fields[] = {
    PROTO_FIELD(struct proto_control_request, version, PROTO_U64, 1, 255),
    PROTO_FIELD(struct proto_control_request, operation, PROTO_STR, 1, 64),
    PROTO_FIELD_LIST(struct proto_control_request, arguments, &argument_message, 0,
                     PROTO_CONTROL_ARGUMENTS),
};
static const struct proto_message request_message =
    PROTO_MESSAGE("control request", struct proto_control_request, request_fields);

static const struct proto_field progress_fields[] = {
    PROTO_FIELD(struct proto_control_progress, text, PROTO_STR, 0, 1024),
    PROTO_FIELD(struct proto_control_progress, done, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct proto_control_progress, total, PROTO_U64, 0, INT64_MAX),
};
static const struct proto_message progress_message =
    PROTO_MESSAGE("control progress", struct proto_control_progress, progress_fields);

static const struct proto_field result_fields[] = {
    PROTO_FIELD(struct proto_control_result, exit_code, PROTO_U64, 0, 9),
    PROTO_FIELD(struct proto_control_result, json, PROTO_STR, 0, PROTO_CONTROL_JSON_MAX),
};
static const struct proto_message result_message =
    PROTO_MESSAGE("control result", struct proto_control_result, result_fields);

/* --- frames ------------------------------------------------------------------------------------- */

/* Appends head and body; the length is known only once the body stands behind it. */
static enum err put_frame(enum proto_control_kind kind, const struct proto_message *message,
                          const void *object, struct buf *out, struct err_info *reterr)
{
    size_t start = out->len;
    uint8_t head[PROTO_CONTROL_HEAD] = {0, 0, 0, 0, (uint8_t)kind};
    const uint8_t nothing = 0x90; /* msgpack: an array of no elements */
    enum err err = buf_put(out, span_of(head, sizeof head));
    if (!err && message) {
        err = proto_codec_encode(message, object, out, reterr);
    } else if (!err) {
        err = buf_put(out, span_of(&nothing, 1));
    }
    size_t len = out->len - start - 4;
    if (!err && len > PROTO_CONTROL_MAX) {
        err = proto_err_set(reterr, E_LIMIT, "a control message exceeds %zu bytes",
                            (size_t)PROTO_CONTROL_MAX);
    }
    if (err) {
        out->len = start;
        return err;
    }
    put_be32(out->ptr + start, (uint32_t)len);
    return E_OK;
}

enum err proto_control_encode_request(const struct proto_control_request *request, struct buf *out,
                                      struct err_info *reterr)
{
    return put_frame(PROTO_CONTROL_REQUEST, &request_message, request, out, reterr);
}

enum err proto_control_encode_progress(const struct proto_control_progress *progress,
                                       struct buf *out, struct err_info *reterr)
{
    return put_frame(PROTO_CONTROL_PROGRESS, &progress_message, progress, out, reterr);
}

enum err proto_control_encode_result(const struct proto_control_result *result, struct buf *out,
                                     struct err_info *reterr)
{
    return put_frame(PROTO_CONTROL_RESULT, &result_message, result, out, reterr);
}

enum err proto_control_encode_cancel(struct buf *out, struct err_info *reterr)
{
    return put_frame(PROTO_CONTROL_CANCEL, NULL, NULL, out, reterr);
}

enum err proto_control_next(struct span bytes, struct proto_control_frame *ret, size_t *ret_used,
                            struct err_info *reterr)
{
    /* The length is judged as soon as it is there, so that nobody makes us wait for 4 GiB. */
    if (bytes.len < 4) {
        return E_TRUNCATED;
    }
    size_t len = get_be32(bytes.ptr);
    if (len < 2 || len > PROTO_CONTROL_MAX) {
        return proto_err_set(reterr, E_LIMIT, "a control frame of %zu bytes", len);
    }
    if (bytes.len < PROTO_CONTROL_HEAD) {
        return E_TRUNCATED;
    }
    uint8_t kind = bytes.ptr[4];
    if (kind < PROTO_CONTROL_REQUEST || kind > PROTO_CONTROL_CANCEL) {
        return proto_err_set(reterr, E_INVALID, "a control frame of unknown kind %u", kind);
    }
    if (bytes.len < 4 + len) {
        return E_TRUNCATED;
    }
    ret->kind = (enum proto_control_kind)kind;
    ret->body = span_of(bytes.ptr + PROTO_CONTROL_HEAD, len - 1);
    *ret_used = 4 + len;
    return E_OK;
}

/* --- bodies ------------------------------------------------------------------------------------- */

enum err proto_control_decode_request(struct span body, struct arena *arena,
                                      struct proto_control_request *ret, struct err_info *reterr)
{
    struct proto_control_request request = {0};
    enum err err = proto_codec_decode(&request_message, body, arena, &request, reterr);
    if (err) {
        return err;
    }
    if (request.version != PROTO_CONTROL_VERSION) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "command and daemon are of different versions; restart the daemon");
    }
    *ret = request;
    return E_OK;
}

enum err proto_control_decode_progress(struct span body, struct proto_control_progress *ret,
                                       struct err_info *reterr)
{
    struct arena arena = {0};
    enum err err = proto_codec_decode(&progress_message, body, &arena, ret, reterr);
    arena_fini(&arena);
    return err;
}

enum err proto_control_decode_result(struct span body, struct proto_control_result *ret,
                                     struct err_info *reterr)
{
    struct arena arena = {0};
    enum err err = proto_codec_decode(&result_message, body, &arena, ret, reterr);
    arena_fini(&arena);
    return err;
}

struct span proto_control_value(const struct proto_control_request *request, const char *name)
{
    const struct proto_control_argument *arguments = request->arguments.items;
    for (size_t i = 0; i < request->arguments.count; i++) {
        if (span_is(arguments[i].name, name)) {
            return arguments[i].value;
        }
    }
    return SPAN_NONE;
}
