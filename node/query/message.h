/* What the asking node and a site say to each other about one query: tables of the two messages, and the signing of messages.
 *
 * A request is signed by the asking node's identity key, so that it can be shown later who asked for what. On the wire: msgpack
 * [body, signature]; body is the message's own encoding. An answer is its own encoding alone: whose it is says the connection that
 * it came by (node/peer/hello.c), and what it cost the signed audit head in it (doc/decisions/0027).
 * Limits: QUERY_CELLS_MAX cells, QUERY_COORDINATES_MAX coordinates, QUERY_NUMBERS_MAX numbers. Threads: pure but for signing. */
#ifndef CONCORDAT_NODE_QUERY_MESSAGE_H
#define CONCORDAT_NODE_QUERY_MESSAGE_H

#include "crypto/identity.h"
#include "proto/query.h"
#include "proto/request.h"

#define QUERY_VERSION         4
#define QUERY_SQL_MAX         PROTO_QUERY_SENT_MAX
#define QUERY_COORDINATES_MAX 64
#define QUERY_CELLS_MAX       4096
#define QUERY_NUMBERS_MAX     65536
#define QUERY_SITES_MAX       256
#define QUERY_CLAUSES_MAX     256
#define QUERY_PURPOSE_MAX     20480

#define QUERY_REQUEST_DOMAIN "concordat1-query"

struct query_node_ref {
    struct span node; /* 16 bytes */
};

struct query_request {
    uint64_t version;
    struct span query_id; /* 16 bytes, random */
    struct span dataset;
    struct span schema_hash; /* 32 bytes: what the asking node typed the query against */
    struct span sql;
    uint64_t epsilon_u; /* millionths */
    uint64_t delta_e12;
    bool secure;
    bool explain;
    struct proto_purpose purpose;
    struct proto_list
        sites;           /* struct query_node_ref: everybody who is asked, with these same bytes */
    uint64_t rows_limit; /* of a unit in a group that count, 0: as the dataset declares */
    uint64_t groups_limit; /* groups of a unit that count, 0: all */
    int64_t time;
};
extern const struct proto_message query_request_message;
extern const struct proto_message query_node_ref_message;

/* One coordinate's public noise parameters. Value = integer * 2^grid_log2. */
struct query_coordinate {
    int64_t grid_log2;
    uint64_t sigma2_num;
    uint64_t sigma2_den;
};

struct query_clause {
    struct span clause;
    struct span expected;
    uint64_t result; /* enum proto_clause_result */
    struct span reason;
    int64_t grant; /* -1: of the whole dataset */
};
extern const struct proto_message query_clause_message;

enum query_status {
    QUERY_ANSWERED,
    QUERY_REFUSED,
    QUERY_UNAVAILABLE,
    QUERY_WAITING, /* for a person at the site, under the number `approval` */
};

struct query_answer {
    uint64_t version;
    struct span query_id;
    uint64_t status;    /* enum query_status */
    struct span error;  /* error code name that decides the exit code, "OK" when answered */
    struct span reason; /* stable reason code, empty when answered */
    struct span detail;
    struct proto_list clauses; /* struct query_clause */
    struct span dataset_version;
    uint64_t cells;                /* with private groups: those that stand out of the noise */
    struct proto_list coordinates; /* struct query_coordinate */
    struct proto_list
        keys; /* struct proto_text: with private groups, the texts of every group column, cell
                                      by cell, in ascending order of their bytes; else none */
    struct span values;   /* by cell, coordinate by coordinate its numbers, as big-endian int64 */
    struct span withheld; /* one byte a cell: 1 when below the minimum cohort */
    bool replayed;
    uint64_t cost_nano;
    uint64_t cap_nano;
    uint64_t spent_nano;
    uint64_t
        left_nano; /* what the asker may still take: the least that dataset, domain and its shares leave */
    uint64_t account_delta_e12;
    uint64_t epsilon_total_u;
    uint64_t epsilon_per_query_u;
    struct span approval; /* 16 bytes, while it waits for a person; else none */
    struct span
        head; /* the site's signed audit head (store/audit.h): its receiver keeps it as a witness */
};
extern const struct proto_message query_answer_message;

/* Appends ANSWER to OUT. */
MUST_CHECK enum err query_answer_put(const struct query_answer *answer, struct buf *out,
                                     struct err_info *reterr);
/* Spans of RET point into BYTES. Errors: E_INVALID, E_TRUNCATED, E_LIMIT, E_NO_MEMORY. */
MUST_CHECK enum err query_answer_take(struct span bytes, struct arena *arena,
                                      struct query_answer *ret, struct err_info *reterr);

/* Encodes OBJECT by MESSAGE, signs it and appends [body, signature] to OUT. */
MUST_CHECK enum err query_message_seal(const struct proto_message *message, const void *object,
                                       const char *domain, const struct crypto_identity *identity,
                                       const uint8_t federation_id[16], struct buf *out,
                                       struct err_info *reterr);
/* The reverse: checks the signature by POINT over the exact bytes, then decodes. Spans of OBJECT point into BYTES. */
MUST_CHECK enum err query_message_open(const struct proto_message *message, struct span bytes,
                                       const char *domain, const uint8_t point[65],
                                       const uint8_t federation_id[16], struct arena *arena,
                                       void *object, struct err_info *reterr);
/* Decodes without checking the signature: of what is one's own, or was checked before. */
MUST_CHECK enum err query_message_peek(const struct proto_message *message, struct span bytes,
                                       struct arena *arena, void *object, struct err_info *reterr);

#endif
