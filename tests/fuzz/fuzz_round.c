/* A coordinator's snapshot, then events from bytes: what decodes is valid, re-encodes to the same bytes, and stays valid
 * whatever happens; after each step it can be written and read again. A zero length starts from START instead.
 * Input: u16 length of the snapshot | snapshot | events of 8 bytes. */
#include "config.h"

#include <stdlib.h>

#include "proto/round.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct proto_round fuzzed, again;
static struct proto_round_actions out;

static void must(bool good)
{
    if (!good) {
        abort();
    }
}

static void round_trip(struct span from)
{
    struct buf first = {.max = PROTO_ROUND_SNAPSHOT};
    struct buf second = {.max = PROTO_ROUND_SNAPSHOT};
    must(proto_round_encode(&fuzzed, &first, NULL) == E_OK);
    must(proto_round_decode(buf_span(&first), &again, NULL) == E_OK);
    must(proto_round_encode(&again, &second, NULL) == E_OK);
    must(span_equal(buf_span(&first), buf_span(&second)));
    must(!from.ptr || span_equal(buf_span(&first), from));
    buf_fini(&first);
    buf_fini(&second);
}

static void start(void)
{
    static const uint64_t institutions[] = {0, 1, 2, 2, 3, 4};
    struct proto_round_event event = {.kind = PROTO_ROUND_START,
                                      .institutions = institutions,
                                      .site_count = 6,
                                      .rounds = 3,
                                      .min_sites = 2,
                                      .timeout_ms = 100,
                                      .retries = 1,
                                      .plan_retries = 1};
    proto_round_init(&fuzzed);
    must(proto_round_step(&fuzzed, &event, &out) == E_OK);
}

/* Small numbers, so that they often fit the machine's own. */
static void step(const uint8_t *from)
{
    static uint64_t now;
    struct proto_round_event event = {
        .kind = (enum proto_round_event_kind)(from[0] % (PROTO_ROUND_EVENTS + 1)),
        .site = from[1],
        .round = from[2] & 1 ? fuzzed.asked_round : from[2] >> 1,
        .term = from[3] & 1 ? fuzzed.term : from[3] >> 1,
        .weight = from[4],
        .reason = from[5] & 1 ? "WHY" : NULL,
        .save = from[6] & 1 ? fuzzed.save : from[6],
        .next = from[7] > 200 ? from[7] : 0,
    };
    now = from[6] & 2 && fuzzed.deadline_ms > now ? fuzzed.deadline_ms : now + from[4];
    event.now_ms = now;
    event.round = event.kind == PROTO_ROUND_PERSISTED && from[2] & 1 ? fuzzed.round : event.round;
    memset(event.hash, from[7] & 3, sizeof event.hash);
    bool moved = proto_round_step(&fuzzed, &event, &out) == E_OK;
    must(moved || out.count == 0);
    must(proto_round_valid(&fuzzed));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t len = size < 2 ? 0 : get_be16(data);
    if (size < 2 || len > size - 2) {
        return 0;
    }
    if (len == 0) {
        start();
    } else if (proto_round_decode(span_of(data + 2, len), &fuzzed, NULL)) {
        return 0;
    } else {
        must(proto_round_valid(&fuzzed));
        round_trip(span_of(data + 2, len));
    }
    for (size_t at = 2 + len; at + 8 <= size && at < 4096; at += 8) {
        step(data + at);
        round_trip(SPAN_NONE);
    }
    return 0;
}
