#include "config.h"
#include "node/model/events.h"

#include <string.h>

uint32_t model_crc32c(struct span bytes)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < bytes.len; i++) {
        crc ^= bytes.ptr[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
        }
    }
    return ~crc;
}

/* Rotated and shifted, so that a sum of what holds sums is not trivial. */
static uint32_t masked(struct span bytes)
{
    uint32_t crc = model_crc32c(bytes);
    return (crc >> 15 | crc << 17) + UINT32_C(0xa282ead8);
}

static size_t put_le(uint8_t *to, uint64_t v, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        to[i] = (uint8_t)(v >> 8 * i);
    }
    return size;
}

static size_t put_varint(uint8_t *to, uint64_t v)
{
    size_t n = 0;
    for (; v > 127; v >>= 7) {
        to[n++] = (uint8_t)(v | 128);
    }
    to[n++] = (uint8_t)v;
    return n;
}

static enum err put_record(struct buf *to, struct span event)
{
    uint8_t head[12], tail[4];
    put_le(head, event.len, 8);
    put_le(head + 8, masked(span_of(head, 8)), 4);
    put_le(tail, masked(event), 4);
    enum err err = buf_put(to, span_of(head, sizeof head));
    err = err ? err : buf_put(to, event);
    return err ? err : buf_put(to, span_of(tail, sizeof tail));
}

/* Field 1 of an Event: wall_time, a double. */
static size_t put_time(uint8_t *to, double seconds)
{
    uint64_t bits;
    memcpy(&bits, &seconds, sizeof bits);
    to[0] = 1 << 3 | 1;
    return 1 + put_le(to + 1, bits, 8);
}

enum err model_events_begin(struct buf *to, double seconds)
{
    static const char version[] = "brain.Event:2";
    uint8_t event[64];
    size_t n = put_time(event, seconds);
    event[n++] = 3 << 3 | 2;
    event[n++] = (uint8_t)(sizeof version - 1);
    memcpy(event + n, version, sizeof version - 1);
    return put_record(to, span_of(event, n + sizeof version - 1));
}

enum err model_events_scalar(struct buf *to, double seconds, uint64_t step, const char *tag,
                             double value)
{
    uint8_t inner[MODEL_EVENTS_TAG_MAX + 16], event[MODEL_EVENTS_TAG_MAX + 64];
    size_t len = strlen(tag), n = 0, m = put_time(event, seconds);
    float single = (float)value;
    uint32_t bits;
    if (len == 0 || len > MODEL_EVENTS_TAG_MAX) {
        return E_INVALID;
    }
    memcpy(&bits, &single, sizeof bits);
    /* Summary.Value: tag 1, simple_value 2. */
    inner[n++] = 1 << 3 | 2;
    n += put_varint(inner + n, len);
    memcpy(inner + n, tag, len);
    n += len;
    inner[n++] = 2 << 3 | 5;
    n += put_le(inner + n, bits, 4);
    /* Event: step 2, summary 5, whose only field 1 is the value. */
    event[m++] = 2 << 3;
    m += put_varint(event + m, step);
    uint8_t size[10];
    size_t sizes = put_varint(size, n);
    event[m++] = 5 << 3 | 2;
    m += put_varint(event + m, 1 + sizes + n);
    event[m++] = 1 << 3 | 2;
    memcpy(event + m, size, sizes);
    m += sizes;
    memcpy(event + m, inner, n);
    return put_record(to, span_of(event, m + n));
}
