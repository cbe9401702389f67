/* The two messages of a transfer, apart from the sockets so that they can be fuzzed alone. */
#include "config.h"
#include "node/peer/transfer.h"

#include "proto/codec.h"

static const struct proto_field request_fields[] = {
    PROTO_FIELD(struct peer_chunk_request, version, PROTO_U64, PEER_TRANSFER_VERSION,
                PEER_TRANSFER_VERSION),
    PROTO_FIELD(struct peer_chunk_request, hash, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct peer_chunk_request, index, PROTO_U64, 0, STORE_BLOB_MAX / STORE_BLOB_CHUNK),
};
const struct proto_message peer_chunk_request_message =
    PROTO_MESSAGE("chunk request", struct peer_chunk_request, request_fields);

static const struct proto_field reply_fields[] = {
    PROTO_FIELD(struct peer_chunk_reply, size, PROTO_U64, 0, STORE_BLOB_MAX),
    PROTO_FIELD(struct peer_chunk_reply, bytes, PROTO_BIN, 0, STORE_BLOB_CHUNK),
};
const struct proto_message peer_chunk_reply_message =
    PROTO_MESSAGE("chunk", struct peer_chunk_reply, reply_fields);
