/* Signed records: what members of a federation say about themselves, their data and their terms.
 *
 * A record is [envelope_bytes, signature]; the envelope is a fixed-order array whose exact bytes are signed, hashed,
 * stored and forwarded verbatim. Only the issuer writes its (issuer, key); versions of one key merge by a total order
 * that every node computes alike. This module neither signs nor verifies (crypto/envelope does, under
 * PROTO_RECORD_DOMAIN), nor does it look into bodies (body.h, licence.h).
 *
 *     struct proto_record record;
 *     err = proto_record_decode(bytes, &crypto_proto_hash, &record, reterr);
 *     if (!err) {
 *         err = crypto_envelope_verify(point, PROTO_RECORD_DOMAIN, fed_id, record.envelope_bytes, record.signature);
 *     }
 *
 * Limits: body PROTO_RECORD_BODY_MAX, record PROTO_RECORD_MAX. Threads: pure. Format: reference gossip, section 2.6. */
#ifndef CONCORDAT_PROTO_RECORD_H
#define CONCORDAT_PROTO_RECORD_H

#include "proto/alloc.h"
#include "proto/codec.h"
#include "proto/hash.h"

#define PROTO_RECORD_DOMAIN   "concordat1-rec"
#define PROTO_RECORD_ID_SIZE  16
#define PROTO_RECORD_BODY_MAX 4096
#define PROTO_RECORD_MAX      4400

/* number on the wire, name for people */
#define PROTO_RECORD_KINDS(X)                                                                      \
    X(LICENCE, 1, "licence")                                                                       \
    X(REVOKE, 2, "revoke")                                                                         \
    X(MODEL, 3, "model")                                                                           \
    X(MEMBER, 4, "member")                                                                         \
    X(ADDRESS, 5, "address")                                                                       \
    X(CHARTER, 6, "charter")                                                                       \
    X(ENDORSE, 7, "endorse")                                                                       \
    X(CHECKPOINT, 8, "checkpoint")                                                                 \
    X(EQUIVOCATION, 9, "equivocation")                                                             \
    X(DATASET, 10, "dataset")                                                                      \
    X(HEAD, 11, "head")                                                                            \
    X(JOB, 12, "job")                                                                              \
    X(PROJECT, 13, "project")                                                                      \
    X(VISA, 14, "visa")

enum proto_record_kind {
#define X(name, number, text) PROTO_RECORD_##name = number,
    PROTO_RECORD_KINDS(X)
#undef X
    PROTO_RECORD_KIND_MAX = 31, /* others up to here are relayed when they carry RELAY_UNKNOWN */
};

enum {
    PROTO_RECORD_TOMBSTONE = 1,
    PROTO_RECORD_FINAL = 2, /* withdrawn for good: no later version can undo it */
    PROTO_RECORD_RELAY_UNKNOWN = 4,
    PROTO_RECORD_MUST_UNDERSTAND = 8,
    PROTO_RECORD_FLAGS = 15,
};

struct proto_envelope {
    uint64_t version; /* 1: this layout, P-256 and SHA-256 */
    uint64_t kind;
    struct span issuer; /* 16: node id */
    struct span key;    /* 16: proto_record_key of what it speaks about */
    uint64_t seq;       /* from 1, strictly increasing per (issuer, key) */
    uint64_t hlc;       /* 48 bits of unix milliseconds, 16 of counter; display and limits only */
    uint64_t expires;   /* unix seconds */
    struct span prev;   /* 16: id of the version this one replaces; none for the first */
    uint64_t flags;
    struct span body;
};

/* Spans borrow from the bytes given to proto_record_decode. */
struct proto_record {
    struct span envelope_bytes;
    uint8_t signature[64];
    struct proto_envelope envelope;
    uint8_t id[PROTO_RECORD_ID_SIZE];
};

const char *proto_record_kind_name(uint64_t kind); /* "unknown" for others */

/* The bytes that get signed. Errors: E_LIMIT a field is out of bounds, E_NO_MEMORY. */
MUST_CHECK enum err proto_record_encode(const struct proto_envelope *envelope,
                                        struct buf *ret_envelope_bytes, struct err_info *reterr);
/* [envelope_bytes, signature]. Errors: E_LIMIT, E_NO_MEMORY. */
MUST_CHECK enum err proto_record_seal(struct span envelope_bytes, const uint8_t signature[64],
                                      struct buf *ret_record);
/* Errors: E_TRUNCATED, E_INVALID, E_LIMIT. A body of an unknown kind or version is not an error
 * here. */
MUST_CHECK enum err proto_record_decode(struct span record, const struct proto_hash *hash,
                                        struct proto_record *ret, struct err_info *reterr);
/* SHA-256("concordat1-rid" 0 | envelope)[0:16]; the signature is not part of it, since ECDSA is
 * randomised. */
void proto_record_id(const struct proto_hash *hash, struct span envelope_bytes,
                     uint8_t ret_id[PROTO_RECORD_ID_SIZE]);

/* Merge order of two versions of one (issuer, key): final first, then seq, then the smaller id.
 * > 0: A replaces B; 0: the same record. Total, so the state of a key does not depend on the order
 * of arrival. */
int proto_record_compare(const struct proto_record *a, const struct proto_record *b);
/* The same issuer, key and seq under two ids: its issuer signed two histories. */
bool proto_record_equivocates(const struct proto_record *a, const struct proto_record *b);
/* The key of a dataset, model or member name: SHA-256("concordat1-key" 0 | name)[0:16]. */
void proto_record_key(const struct proto_hash *hash, const char *name, uint8_t ret_key[16]);

#endif
