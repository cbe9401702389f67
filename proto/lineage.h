/* Where a model comes from, as a statement that its coordinator signs and its participants countersign: an in-toto statement
 * (in-toto.io/Statement/v1) about the weights' SHA-256, in a DSSE envelope. Anybody can verify it with common tools.
 *
 *     err = proto_lineage_statement(&lineage, &text, reterr);            the same text at every node
 *     err = proto_lineage_signed(buf_span(&text), &to_sign);              DSSE's pre-authentication encoding: sign SHA-256 of it
 *     err = proto_lineage_envelope(buf_span(&text), signatures, count, &document);
 *
 * Participants get the values, make the text themselves and sign that, so that nobody signs what it cannot read.
 * Threads: pure. Limits: 64 participants. */
#ifndef CONCORDAT_PROTO_LINEAGE_H
#define CONCORDAT_PROTO_LINEAGE_H

#include "proto/body.h"

#define PROTO_LINEAGE_VERSION 1
#define PROTO_LINEAGE_NODES   64
#define PROTO_LINEAGE_TYPE    "application/vnd.in-toto+json"
#define PROTO_LINEAGE_MAX     ((size_t)128 << 10)

struct proto_lineage_node {
    struct span node; /* 16 */
    struct span name;
    struct span org;
    struct span licence; /* 16: the record that allowed the training */
    uint64_t rounds;     /* in how many its update was accepted */
    uint64_t epsilon_u;  /* spent, millionths rounded up; 0 without noise */
};

struct proto_lineage {
    uint64_t v;
    struct span federation; /* 16 */
    struct span model;      /* id */
    struct span job;        /* 16 */
    struct span job_name;
    struct span plan; /* 32: its hash */
    struct span dataset;
    struct span task;
    struct span weights; /* 32: SHA-256 */
    uint64_t size;
    uint64_t rounds;
    uint64_t delta_e12;
    struct span unit;
    struct span coordinator; /* name */
    struct proto_list nodes; /* struct proto_lineage_node */
    int64_t created;
};
extern const struct proto_message proto_lineage_message;

/* A signature as DSSE has it: the key's id is the node's, the signature DER. */
struct proto_lineage_signature {
    uint8_t node[16];
    struct span der;
};

MUST_CHECK enum err proto_lineage_statement(const struct proto_lineage *lineage, struct buf *out);
MUST_CHECK enum err proto_lineage_signed(struct span statement, struct buf *out);
MUST_CHECK enum err proto_lineage_envelope(struct span statement,
                                           const struct proto_lineage_signature *signatures,
                                           size_t count, struct buf *out);
/* Whether the bytes have the shape of such an envelope, as weights of a model in no format have it. Signatures are not checked. */
bool proto_lineage_is_envelope(struct span document);

#endif
