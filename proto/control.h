/* What the command and the daemon say to each other over HOME/control.sock.
 *
 * A frame is u32 big-endian length | u8 kind | msgpack, where the length counts kind and msgpack.
 * The command sends one REQUEST; the daemon sends any number of PROGRESS frames and exactly one
 * RESULT, then either side may close. CANCEL (from the command) asks to stop early; the RESULT
 * still comes. Closing the connection means CANCEL too. This module does no I/O.
 *
 *     err = proto_control_encode_request(&request, &out, reterr);
 *     ...
 *     err = proto_control_next(buf_span(&in), &frame, &used, reterr);
 *     if (err == E_TRUNCATED) { read more; }
 *     else if (!err && frame.kind == PROTO_CONTROL_RESULT) {
 *         err = proto_control_decode_result(frame.body, &result, reterr);
 *     }
 *
 * Who asks is told by the socket (SO_PEERCRED), never by the frame.
 * Limits: PROTO_CONTROL_MAX bytes a frame, PROTO_CONTROL_ARGUMENTS, PROTO_CONTROL_VALUE_MAX.
 * Threads: pure. */
#ifndef CONCORDAT_PROTO_CONTROL_H
#define CONCORDAT_PROTO_CONTROL_H

#include "proto/alloc.h"
#include "proto/codec.h"

#define PROTO_CONTROL_VERSION   1
#define PROTO_CONTROL_HEAD      5               /* length and kind */
#define PROTO_CONTROL_MAX       PROTO_CODEC_MAX /* of kind and msgpack */
#define PROTO_CONTROL_JSON_MAX  (PROTO_CODEC_MAX - 64)
#define PROTO_CONTROL_ARGUMENTS 128
#define PROTO_CONTROL_VALUE_MAX 65536

enum proto_control_kind {
    PROTO_CONTROL_REQUEST = 1,
    PROTO_CONTROL_PROGRESS = 2,
    PROTO_CONTROL_RESULT = 3,
    PROTO_CONTROL_CANCEL = 4, /* msgpack: an empty array */
};

struct proto_control_argument {
    struct span name;  /* as in the table: "SQL", "--epsilon" */
    struct span value; /* "" for a flag */
};

struct proto_control_request {
    uint64_t version;
    struct span operation;       /* the path: "dataset import" */
    struct proto_list arguments; /* struct proto_control_argument, in the order typed */
};

/* done of total in the unit that the text names ("reading flchain.csv, bytes"); total 0: unknown. */
struct proto_control_progress {
    struct span text;
    uint64_t done;
    uint64_t total;
};

struct proto_control_result {
    uint64_t exit_code; /* 0 to 9 */
    struct span json;   /* the answer as contract says, or {"error": ...} */
};

struct proto_control_frame {
    enum proto_control_kind kind;
    struct span body; /* borrowed */
};

/* Appends a whole frame to OUT. Errors: E_LIMIT, E_NO_MEMORY; then OUT is unchanged. */
MUST_CHECK enum err proto_control_encode_request(const struct proto_control_request *request,
                                                 struct buf *out, struct err_info *reterr);
MUST_CHECK enum err proto_control_encode_progress(const struct proto_control_progress *progress,
                                                  struct buf *out, struct err_info *reterr);
MUST_CHECK enum err proto_control_encode_result(const struct proto_control_result *result,
                                                struct buf *out, struct err_info *reterr);
MUST_CHECK enum err proto_control_encode_cancel(struct buf *out, struct err_info *reterr);

/* The first frame of what was received so far. *ret_used: bytes to drop once it has been handled.
 * Errors: E_TRUNCATED more bytes are needed; E_LIMIT, E_INVALID the stream is not ours, close it. */
MUST_CHECK enum err proto_control_next(struct span bytes, struct proto_control_frame *ret,
                                       size_t *ret_used, struct err_info *reterr);

/* Spans borrow from BODY, the argument list from ARENA.
 * Errors: those of codec.h; E_UNSUPPORTED another version. */
MUST_CHECK enum err proto_control_decode_request(struct span body, struct arena *arena,
                                                 struct proto_control_request *ret,
                                                 struct err_info *reterr);
MUST_CHECK enum err proto_control_decode_progress(struct span body,
                                                  struct proto_control_progress *ret,
                                                  struct err_info *reterr);
MUST_CHECK enum err proto_control_decode_result(struct span body, struct proto_control_result *ret,
                                                struct err_info *reterr);

/* The value of the first argument of that name, ptr NULL when it is absent. */
struct span proto_control_value(const struct proto_control_request *request, const char *name);

#endif
