/* Moves a blob (store/blob.h) from one member's store to another's: in chunks of at most STORE_BLOB_CHUNK, each asked for by its
 * number, several under way at a time. What was cut off goes on where it stopped, also after a restart of the one who fetches
 * (after a crash: of what was to last): a link that was away costs the chunks that were under way. There is one deadline, for
 * progress: the fetch gives up when no chunk has come for stall_ms.
 *
 *     peer_handle(peer, PEER_MSG_BLOB_GET, 0, on_blob, &transfer);            on_blob calls peer_transfer_serve
 *     struct peer_blob blob = {.size = size};  memcpy(blob.hash, hash, 32);
 *     struct peer_fetch how = {.from = node_id, .stall_ms = 60000};
 *     err = peer_blob_fetch(peer, store, &blob, &how, reterr);                 then store_blob_get(store, hash, ..)
 *
 * TLS vouches for each chunk on its way from the one member that is asked, and the hash of the whole is checked at the end: a
 * liar costs one fetch. Who may have what is the caller's decision, asked before each chunk leaves.
 * Threads: any but the loop's. Limits: STORE_BLOB_MAX. Memory: PEER_FETCH_WINDOW chunks. */
#ifndef CONCORDAT_NODE_PEER_TRANSFER_H
#define CONCORDAT_NODE_PEER_TRANSFER_H

#include "node/peer/peer.h"
#include "store/blob.h"

#define PEER_FETCH_WINDOW     4
#define PEER_TRANSFER_VERSION 2

/* A blob as one side names it to the other. */
struct peer_blob {
    uint8_t hash[32];
    uint64_t size;
};

/* Names the blob that is in our store. Errors: those of reading. */
MUST_CHECK enum err peer_blob_describe(struct store *store, const uint8_t hash[32],
                                       struct peer_blob *ret, struct err_info *reterr);

struct peer_fetch {
    const uint8_t *from; /* 16 */
    uint64_t stall_ms;
    enum store_blob_keep keep;
    bool (*cancelled)(void *); /* may be NULL; asked often */
    void *user;
    void (*progress)(void *user, uint64_t bytes); /* may be NULL: so many more have come */
    bool *was_here; /* may be NULL: set on success; whoever had it here may still need it */
};
/* E_OK also when it is there already. Errors: E_NOT_FOUND, E_REFUSED the other side has none for us; E_TIMEOUT no progress;
 * E_AUTH what came is not what was named; E_CANCELLED; those of store_blob_begin. What came stays for the next time, except
 * after E_AUTH. */
MUST_CHECK enum err peer_blob_fetch(struct peer *peer, struct store *store,
                                    const struct peer_blob *blob, const struct peer_fetch *how,
                                    struct err_info *reterr);

/* E_OK: BYTES of the blob may leave for MEMBER, and are accounted for; from OFFSET 0 a transfer begins. */
typedef enum err peer_blob_may(void *user, const struct peer_member *member, const uint8_t hash[32],
                               uint64_t offset, size_t bytes);
/* Answers REQUEST, of type PEER_MSG_BLOB_GET. */
void peer_transfer_serve(struct peer *peer, struct store *store, struct peer_request *request,
                         peer_blob_may *may, void *user);

/* --- messages, for tests ---------------------------------------------------------------------------------------------- */

struct peer_chunk_request {
    uint64_t version;
    struct span hash; /* 32 */
    uint64_t index;
};
extern const struct proto_message peer_chunk_request_message;
struct peer_chunk_reply {
    uint64_t size; /* of the whole blob */
    struct span bytes;
};
extern const struct proto_message peer_chunk_reply_message;

#endif
