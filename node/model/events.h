/* TensorBoard event files: scalars by step, for who watches training with the field's tools.
 *
 *     err = model_events_begin(&buf, now);
 *     err = model_events_scalar(&buf, now, round, "eval/f1", 0.62);
 *     write BUF to "events.out.tfevents.<seconds>.<host>"
 *
 * Format: TFRecord (u64 length, masked CRC-32C of it, bytes, masked CRC-32C of them) of Event messages (tensorflow/core/util/event.proto),
 * "brain.Event:2". Appending records to an existing file is allowed. Threads: free of state. */
#ifndef CONCORDAT_NODE_MODEL_EVENTS_H
#define CONCORDAT_NODE_MODEL_EVENTS_H

#include "proto/alloc.h"

#define MODEL_EVENTS_TAG_MAX 200u

/* SECONDS since 1970. Errors of both: E_LIMIT; E_NO_MEMORY; E_INVALID a tag that is empty or too long. */
MUST_CHECK enum err model_events_begin(struct buf *to, double seconds);
MUST_CHECK enum err model_events_scalar(struct buf *to, double seconds, uint64_t step,
                                        const char *tag, double value);
/* The polynomial of Castagnoli, as in RFC 3720. */
uint32_t model_crc32c(struct span bytes);

#endif
