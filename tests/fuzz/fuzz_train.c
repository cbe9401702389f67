/* What arrives from a peer of a training job: the first byte picks the message, the rest are its signed bytes. The signature is
 * not checked, so that what stands behind it is reached. Also the states that come back from the disk. */
#include "config.h"

#include <assert.h>

#include "crypto/provider.h"
#include "node/peer/transfer.h"
#include "node/train/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct proto_message *const messages[] = {&train_offer_message, &train_admit_message,
                                                       &train_round_message, &train_update_message};

static void open_one(const struct proto_message *message, struct span bytes)
{
    struct arena arena = {0};
    void *object = proto_alloc(1, message->size);
    assert(object);
    if (query_message_peek(message, bytes, &arena, object, NULL) == E_OK &&
        message == &train_update_message) {
        const struct train_update *update = object;
        double sums[TRAIN_SUMS_MAX];
        struct peer_blob blob;
        if (train_unpack_doubles(update->evaluation.sums, sums, update->evaluation.sums.len / 8) ==
            E_OK) {
            assert(update->evaluation.sums.len <= sizeof sums);
        }
        if (train_blob_open(&update->update, &blob) == E_OK) {
            assert(blob.size <= STORE_BLOB_MAX);
        }
    }
    proto_free(object);
    arena_fini(&arena);
}

/* Whatever decodes must encode to the same bytes. */
static void state_one(struct span bytes)
{
    struct train_job_state *state = proto_alloc(1, sizeof *state);
    struct buf out = {.max = 1 << 22};
    assert(state);
    if (train_job_state_decode(bytes, state, NULL) == E_OK) {
        assert(train_job_state_encode(state, &out, NULL) == E_OK);
        assert(span_equal(buf_span(&out), bytes));
    }
    buf_fini(&out);
    train_job_state_fini(state);
    proto_free(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int ready;
    struct arena arena = {0};
    struct train_part part;
    struct train_plan plan;
    struct peer_chunk_request wish;
    struct peer_chunk_reply reply;
    if (!ready++) {
        assert(crypto_init(NULL) == E_OK);
    }
    if (size == 0) {
        return 0;
    }
    struct span rest = span_of(data + 1, size - 1);
    switch (data[0] & 7) {
    case 4:
        state_one(rest);
        break;
    case 5:
        (void)!train_part_decode(rest, &arena, &part);
        break;
    case 6:
        if (proto_codec_decode(&train_plan_message, rest, &arena, &plan, NULL) == E_OK &&
            train_plan_check(&plan, NULL) == E_OK) {
            struct train_sums sums = train_sums_of(&plan, 1);
            assert(sums.count <= TRAIN_SUMS_MAX);
        }
        break;
    case 7:
        (void)!proto_codec_decode(&peer_chunk_request_message, rest, &arena, &wish, NULL);
        (void)!proto_codec_decode(&peer_chunk_reply_message, rest, &arena, &reply, NULL);
        break;
    default:
        open_one(messages[data[0] & 3], rest);
    }
    arena_fini(&arena);
    return 0;
}
