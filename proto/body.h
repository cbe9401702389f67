/* Bodies of the records that are plain statements: who is a member, where it listens, the charter,
 * what a dataset looks like, where a model comes from. The licence has its own module, licence.h.
 *
 * Every body starts with v = 1; a higher v does not decode here and the record is kept, relayed and
 * not acted on. Spans of a decoded body point into the bytes, lists into the arena. Threads: pure.
 * Limits: in the tables of body.c; every body fits PROTO_RECORD_BODY_MAX or is refused by its
 * encoder (E_LIMIT). */
#ifndef CONCORDAT_PROTO_BODY_H
#define CONCORDAT_PROTO_BODY_H

#include "proto/record.h"

#define PROTO_BODY_VERSION  1
#define PROTO_MODEL_VERSION 2 /* since there is a lineage statement */

/* A council member's signature over the body without its signature list. */
struct proto_signature {
    struct span signer;    /* 16: node id */
    struct span signature; /* 64: r | s */
};

/* What the council attests about a member; key = proto_record_key(name). */
struct proto_member {
    uint64_t v;
    struct span node_id;        /* 16 */
    struct span name;           /* [a-z0-9][a-z0-9-]{0,31} */
    struct span identity_point; /* 65: uncompressed P-256, signs records */
    struct span tls_spki;       /* 32: SHA-256 of the TLS key's SPKI */
    struct span org;
    struct span org_type;    /* "nonprofit", "forprofit" or "government" */
    struct span country;     /* ISO 3166-1 alpha-2 */
    struct proto_list roles; /* struct proto_text: node, coordinator, analyst, council, registrar */
    uint64_t not_before;
    uint64_t expires;
    struct proto_list signatures; /* struct proto_signature */
};

struct proto_address {
    uint64_t v;
    struct span url; /* "tls+tcp://host:port" or "none" */
    bool reverse;    /* it dials out; others do not dial it */
};

struct proto_council_seat {
    struct span node_id; /* 16 */
    struct span point;   /* 65 */
};

struct proto_charter {
    uint64_t v;
    struct span federation;    /* name */
    struct span federation_id; /* 16 */
    struct span root_der;      /* the federation's root certificate */
    struct proto_list council; /* struct proto_council_seat */
    uint64_t threshold;        /* k of the council */
    uint64_t epoch;
    struct span prev;             /* 16: record id of epoch - 1; none for the genesis */
    struct proto_list signatures; /* struct proto_signature, by the council of epoch - 1 */
};

/* One published column: the schema after de-identification, never a value of a row. */
struct proto_dataset_column {
    struct span name;
    uint64_t type; /* enum proto_column_type of schema.h */
    bool has_bounds;
    double min;
    double max;
    struct proto_list values; /* struct proto_text: the public categories */
    struct span ucum;         /* none when absent */
    struct span code;         /* none when absent */
    bool public_values;       /* false: keys are private and thresholded when grouped */
};

struct proto_dataset {
    uint64_t v;
    struct span name;
    struct span version;
    struct span title;
    struct span unit; /* name of the privacy-unit column; none: each row is a unit */
    uint64_t max_rows_per_unit;
    uint64_t max_nodes_per_unit;
    uint64_t size;             /* declared by a person, never counted */
    struct span schema_hash;   /* 32 */
    struct proto_list columns; /* struct proto_dataset_column */
};

struct proto_model_participant {
    struct span node; /* 16 */
    struct span org;
    uint64_t epsilon_u; /* millionths, rounded up */
    uint64_t rounds;    /* in how many rounds its update was accepted */
};

struct proto_model_licence {
    struct span record_id; /* 16: the licence record that allowed the training */
};

struct proto_model {
    uint64_t v;
    struct span name; /* the model's id, text */
    struct span job;
    struct span dataset;
    struct span task;
    uint64_t round;
    struct span weights; /* 32: SHA-256 */
    uint64_t size;
    struct proto_list licences;     /* struct proto_model_licence */
    struct proto_list participants; /* struct proto_model_participant */
    uint64_t epsilon_u; /* millionths, rounded up; 0 with delta 0: trained without a guarantee */
    uint64_t delta_e12;
    struct span unit;              /* "patient column" or "row" */
    struct proto_list obligations; /* struct proto_text: united over all parents */
    struct span spdx;
    uint64_t release;    /* enum proto_release of licence.h */
    struct span metrics; /* JSON of released metrics only */
    uint64_t created;
    struct span lineage; /* 32: SHA-256 of the signed statement (lineage.h); none when absent */
    uint64_t lineage_size;
};

/* Withdrawal of somebody else's key by k of the council. The issuer itself withdraws by a FINAL
 * version of its own. */
struct proto_revoke {
    uint64_t v;
    struct span issuer; /* 16 */
    struct span key;    /* 16 */
    struct span reason;
    uint64_t effective_at;
    struct proto_list signatures; /* struct proto_signature */
};

/* One council seat's signature over what the council decides, so that a decision collects its signatures by gossip. The
 * subject is the body that proto_member_signed, proto_charter_signed or proto_revoke_signed gives; the record's key is the
 * first 16 bytes of SHA-256 of it. */
struct proto_endorse {
    uint64_t v;
    uint64_t kind; /* PROTO_RECORD_MEMBER, _CHARTER or _REVOKE */
    struct span subject;
    struct span signature; /* 64, of the record's issuer, in the kind's domain */
};

/* A signed head of a node's own log: "audit", "ledger" or a partition's name. */
struct proto_head {
    uint64_t v;
    struct span stream;
    uint64_t seq;
    struct span hash; /* 32 */
};

/* What a requester's people may do, for which purpose. Org type and country come from MEMBER, never
 * from here. */
struct proto_project {
    uint64_t v;
    struct span name;
    uint64_t permission;        /* DUO number */
    struct proto_list diseases; /* struct proto_text */
    bool has_research;          /* false: not said */
    uint64_t research;          /* bits of enum proto_research */
    bool has_commercial;
    bool commercial;
    struct span ethics_ref; /* none when absent */
    uint64_t ethics_expires;
    struct proto_list recipients;  /* struct proto_text */
    struct proto_list obligations; /* struct proto_text: accepted */
    struct proto_list people;      /* struct proto_text */
    uint64_t ends;
};

/* What its issuer attests about a person or a project of a member, until the envelope's end; visa.h says when it
 * counts. The record's key is proto_record_key of the id in hexadecimal, so that each is taken back by itself. */
struct proto_visa {
    uint64_t v;
    struct span id;      /* 16, random */
    struct span node;    /* 16: the member that speaks for the person or project */
    struct span person;  /* none when it is about a project */
    struct span project; /* none when it is about a person */
    struct span type;    /* one of PROTO_VISA_TYPES */
    struct span value;   /* compared byte for byte */
    struct span source;  /* the organisation that made the assertion */
    struct span by;      /* one of PROTO_VISA_BYS; none when not said */
    uint64_t asserted;   /* unix seconds */
    struct proto_list
        conditions; /* struct proto_visa_alternative; not empty: it counts only beside other visas that meet one of them;
                                     version 2, which nodes of the version before do not count at all */
};
#define PROTO_VISA_VERSION          2
#define PROTO_VISA_ALTERNATIVES_MAX 8
#define PROTO_VISA_CONDITIONS_MAX   8
/* As in a GA4GH passport: all of an inner list, any of the outer one. */
struct proto_visa_alternative {
    struct proto_list conditions; /* struct proto_visa_condition, at least one */
};
struct proto_visa_condition {
    struct span type;
    struct span
        value; /* "const:..." or "pattern:..."; none where it may be anything, as the next two */
    struct span source;
    struct span by;
};

#define PROTO_PLAIN_BODIES(X)                                                                      \
    X(member)                                                                                      \
    X(address)                                                                                     \
    X(charter)                                                                                     \
    X(dataset)                                                                                     \
    X(revoke)                                                                                      \
    X(endorse)                                                                                     \
    X(head)                                                                                        \
    X(project)
#define PROTO_BODIES(X)                                                                            \
    PROTO_PLAIN_BODIES(X)                                                                          \
    X(model)                                                                                       \
    X(visa)

/* proto_member_encode, proto_member_decode, ...: encode appends to OUT (E_LIMIT, E_NO_MEMORY);
 * decode refuses all that codec.h refuses, another v (E_UNSUPPORTED), and values that contradict
 * each other (E_INVALID). */
#define X(name)                                                                                    \
    MUST_CHECK enum err proto_##name##_encode(const struct proto_##name *body, struct buf *out,    \
                                              struct err_info *reterr);                            \
    MUST_CHECK enum err proto_##name##_decode(struct span bytes, struct arena *arena,              \
                                              struct proto_##name *ret, struct err_info *reterr);
PROTO_BODIES(X)
#undef X

/* The bytes that a council member signs: the body with an empty signature list.
 * Domains for crypto_envelope_sign: */
#define PROTO_MEMBER_DOMAIN  "concordat1-member"
#define PROTO_CHARTER_DOMAIN "concordat1-charter"
#define PROTO_REVOKE_DOMAIN  "concordat1-revoke"
MUST_CHECK enum err proto_member_signed(const struct proto_member *body, struct buf *out,
                                        struct err_info *reterr);
MUST_CHECK enum err proto_charter_signed(const struct proto_charter *body, struct buf *out,
                                         struct err_info *reterr);
MUST_CHECK enum err proto_revoke_signed(const struct proto_revoke *body, struct buf *out,
                                        struct err_info *reterr);

/* NULL: the council signs nothing of this kind. */
const char *proto_endorse_domain(uint64_t kind);

/* What every body's reader begins with: proto_codec_decode, but E_UNSUPPORTED for a body whose first field, v, is not
 * VERSION; such a record is kept and relayed, and nothing is decided by it. */
MUST_CHECK enum err proto_body_decode(const struct proto_message *message, uint64_t version,
                                      struct span bytes, struct arena *arena, void *ret,
                                      struct err_info *reterr);

/* Threshold k for a council of n: 1, 2, 2, then floor(2n/3) + 1. */
uint64_t proto_charter_threshold(size_t council);
bool proto_name_valid(struct span name);         /* [a-z0-9][a-z0-9-]{0,31}: a member */
bool proto_dataset_name_valid(struct span name); /* [a-z0-9][a-z0-9._-]{0,63} */

#endif
