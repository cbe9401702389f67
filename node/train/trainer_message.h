/* trainer/1: what a node and an external trainer say to each other over descriptor 3. It is said once a round, to a process that
 * is made for the round and ended after it.
 *
 *     trainer -> node   HELLO
 *     node -> trainer   TASK                  data and weights lie on descriptors 4 and 5 by then
 *     trainer -> node   PROGRESS, as it likes
 *     trainer -> node   UPDATE                the change of the weights lies on descriptor 6
 *     trainer -> node   FAILED                in place of UPDATE
 *
 * A frame is u32 little-endian length of what follows | u8 type | msgpack array of the message's fields in the order below. The
 * length is 1 to TRAIN_TRAINER_FRAME; what stands behind the type is strict msgpack (proto/codec.h).
 * Descriptors 4, 5 and 6 are safetensors files in memory: 4 has `x` (F32, rows x width), `y` (U8, rows) and `unit` (I32, rows: who
 * a row belongs to, numbers from 0); 5 has `weights` (F32, numbers); the trainer writes to 6, from byte 0, a file with `change`
 * (F32, numbers) and says in UPDATE how long it is. With `start` there are neither rows nor weights, and `change` is what the
 * job begins with: it decides how many numbers there are.
 * Threads: pure. Limits: below. doc/trainer.md is the same for people who write trainers. */
#ifndef CONCORDAT_NODE_TRAIN_TRAINER_MESSAGE_H
#define CONCORDAT_NODE_TRAIN_TRAINER_MESSAGE_H

#include "proto/codec.h"

#define TRAIN_TRAINER_VERSION 1
#define TRAIN_TRAINER_FRAME   ((size_t)64 << 10) /* bytes behind the length */

enum train_trainer_type {
    TRAIN_TRAINER_CONFINED = 1, /* of the node's own launcher, before the program begins */
    TRAIN_TRAINER_HELLO,
    TRAIN_TRAINER_TASK,
    TRAIN_TRAINER_PROGRESS,
    TRAIN_TRAINER_UPDATE,
    TRAIN_TRAINER_FAILED,
    TRAIN_TRAINER_TYPES,
};

/* What the launcher could put in force. */
struct train_trainer_confined {
    bool namespaces;   /* user, net, pid, mount and ipc of its own; else the three below alone */
    uint64_t landlock; /* version of the kernel's; files, and what it knows of the network */
    bool seccomp;
    struct span error; /* why the program does not begin; "" */
};
struct train_trainer_hello {
    uint64_t version;
    struct span name; /* for the operator */
};
struct train_trainer_task {
    uint64_t version;
    struct span task; /* "tabular-classification" */
    bool start;
    uint64_t round, rounds; /* from 1; 0 with start */
    uint64_t numbers;       /* 0 with start */
    uint64_t rows, width;
    uint64_t epochs, batch;
    double learning_rate;
    uint64_t seed; /* the job's, public */
    uint64_t threads;
    uint64_t time_ms; /* until it is ended */
    struct proto_list
        features; /* struct proto_text: the job's columns; one may be several of `x` */
};
struct train_trainer_progress {
    uint64_t done, total;
};
struct train_trainer_update {
    uint64_t size; /* bytes on descriptor 6 */
};

struct train_trainer_frame {
    enum train_trainer_type type;
    union {
        struct train_trainer_confined confined;
        struct train_trainer_hello hello;
        struct train_trainer_task task;
        struct train_trainer_progress progress;
        struct train_trainer_update update;
    } of; /* FAILED has none */
};

/* Appends FRAME with its length. Errors: E_LIMIT, E_NO_MEMORY. */
MUST_CHECK enum err train_trainer_encode(const struct train_trainer_frame *frame, struct buf *out,
                                         struct err_info *reterr);
/* The first frame of BYTES. RET_USED: its bytes; 0 while it is not complete, and then RET is not set. Spans point into BYTES,
 * lists into ARENA. Errors: E_LIMIT a length out of bounds, as soon as it is there; E_INVALID a type that is none; those of the
 * codec. */
MUST_CHECK enum err train_trainer_decode(struct span bytes, struct arena *arena,
                                         struct train_trainer_frame *ret, size_t *ret_used,
                                         struct err_info *reterr);

#endif
