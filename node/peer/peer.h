/* The node's transport: mutually authenticated links to every member of the federation, requests with deadlines,
 * handlers by message type, and the gossip of signed records. It is not the place for what a message means: the daemon
 * fills the table of handlers at start, and this folder never calls query or train.
 *
 *     peer_new(&options, &peer, &info);
 *     peer_handle(peer, PEER_MSG_QUERY, 0, on_query, site);
 *     peer_start(peer, &info);                       // listens, dials, gossips; the loop must run
 *     peer_publish(peer, PROTO_RECORD_LICENCE, "flchain", body, 0, expires, id, &info);
 *     peer_call_many(peer, calls, count, 5000, NULL, NULL);   // on a worker thread
 *     peer_stop(peer, 10000);  ... the loop runs on ...  peer_free(peer);
 *
 * Wire: SP REQ/REP over TLS 1.2 (sp.h), one REP socket with PEER_CONTEXTS contexts, one REQ socket per member.
 * A member whose ADDRESS says "none" dials in both directions: its REP socket dials a REQ listener that the other side
 * opens for it alone. The first request on each connection is HELLO; nothing else is answered before it.
 *
 * Threads: peer_new, _start, _handle, _stop, _free belong to the loop's thread. Everything else may be called from any
 * thread, except that peer_call_many must not be called on the loop (it would wait for itself). Signals must be blocked
 * before peer_new, since NNG's threads inherit the mask.
 * Limits: struct peer_limits; one message is at most PEER_MESSAGE_MAX plus its frame. */
#ifndef CONCORDAT_NODE_PEER_H
#define CONCORDAT_NODE_PEER_H

#include <uv.h>

#include "crypto/identity.h"
#include "proto/alloc.h"
#include "proto/err.h"
#include "proto/span.h"

struct store;
struct peer;
struct peer_request;

#define PEER_MESSAGE_MAX ((size_t)1 << 20) /* body bytes of one request or reply */
#define PEER_CONTEXTS    192 /* requests in the hands of this node at one time, all peers together */
#define PEER_MEMBERS_MAX 1024
#define PEER_CALLS_MAX   1024 /* of one peer_call_many */

/* Numbers are on the wire and never change. Below 32: this folder's own. */
enum peer_message {
    PEER_MSG_HELLO = 1,
    PEER_MSG_GOSSIP = 2, /* a batch of proto/gossip messages in each direction */
    PEER_MSG_REVERSE = 6,
    PEER_MSG_QUERY = 32,
    PEER_MSG_TRAIN_PLAN = 48,
    PEER_MSG_TRAIN_ROUND = 49,
    PEER_MSG_TRAIN_STOP = 50,
    PEER_MSG_TRAIN_LEASE = 51, /* between the nodes that may coordinate a job */
    PEER_MSG_BLOB_GET = 64,
    PEER_MSG_HEAD = 65,
    PEER_MSG_LINEAGE = 68,
    PEER_MSG_AGREEMENT = 67,
    PEER_MSG_NOTICE = 66, /* a person decided on a request of yours: ask again */
    PEER_MSG_ENROL = 96,  /* on the enrolment listener only */
    PEER_MSG_COUNT = 128,
};

enum peer_log {
    PEER_LOG_DEBUG,
    PEER_LOG_INFO,
    PEER_LOG_WARN,
    PEER_LOG_ALARM, /* a person should look: a token used twice, an equivocation, a banned peer */
};

/* Zero means the default that stands behind each field. */
struct peer_limits {
    uint32_t rate_per_s;      /* requests per second and peer: 400 */
    uint32_t burst;           /* 800 */
    uint32_t open_requests;   /* of one peer, in our hands at one time: 40 */
    uint32_t handler_threads; /* at most: 16 */
    uint32_t redial_min_ms;   /* 500 */
    uint32_t redial_max_ms;   /* 60000 */
    uint32_t gossip_ping_ms;  /* 0: 5 s while records change, 10 s, then 30 s; else always this */
    uint32_t issuer_per_min;  /* new record versions of one issuer: 60, burst ten times that */
};

struct peer_options {
    uv_loop_t *loop;
    struct store *store; /* records are kept there; borrowed */
    const struct crypto_identity *identity;
    const struct crypto_identity *tls_key;
    struct span certificate; /* DER, of tls_key */
    struct span root;        /* DER */
    const char *federation;
    uint8_t federation_id[16];
    uint8_t node_id[16];
    const char *listen; /* "tls+tcp://HOST:PORT" or "none" */
    /* Where a member may be found that does not answer at the address which we know of it: "tls+tcp://HOST:PORT". Whoever is there
     * must be that member. */
    const char *const *seeds;
    size_t seed_count;
    const char *charter_path; /* HOME/identity/charter: the record that this node trusts first */
    uint16_t reverse_port_from,
        reverse_port_to; /* for listeners that reverse links need; 0, 0: ephemeral */
    struct peer_limits limits;
    void (*log)(void *user, enum peer_log level, const char *text); /* any thread; may be NULL */
    void *log_user;
};

/* Everything but loop, store, identities and log_user is copied. Loads the charter and the stored records.
 * Errors: E_NOT_FOUND no charter file; E_AUTH, E_CORRUPT it is not a charter of this federation; E_INVALID an option;
 * E_IO NNG failed; E_NO_MEMORY. */
MUST_CHECK enum err peer_new(const struct peer_options *options, struct peer **ret,
                             struct err_info *reterr);
/* Opens the listener and starts to dial. Errors: E_IO the address cannot be bound. */
MUST_CHECK enum err peer_start(struct peer *peer, struct err_info *reterr);
/* Takes no new requests, waits up to drain_ms for handlers to finish, then cancels what is left and closes everything.
 * Returns at once; `done` is called on the loop when all threads have ended and all sockets are closed. May be called
 * on a peer that was never started. */
void peer_stop(struct peer *peer, uint64_t drain_ms, void (*done)(void *user), void *user);
/* After `done`. NULL is allowed. */
void peer_free(struct peer *peer);

/* The port that the listener got, 0 when there is none; useful after listening on port 0. */
uint16_t peer_port(const struct peer *peer);
/* Takes a renewed certificate (same TLS key or a new one) into use for new connections. */
MUST_CHECK enum err peer_renew(struct peer *peer, const struct crypto_identity *tls_key,
                               struct span certificate, struct err_info *reterr);

/* --- incoming requests ------------------------------------------------------------------------------------------ */

const uint8_t *
peer_request_from(const struct peer_request *request); /* 16 bytes: authenticated sender */
struct span peer_request_body(const struct peer_request *request); /* borrowed until peer_reply */
uint64_t peer_request_deadline_ms(
    const struct peer_request *request); /* what is left of the caller's deadline */
/* 32 bytes that both ends of this connection share and nobody else; zeros for a call to oneself. */
const uint8_t *peer_request_exporter(const struct peer_request *request);

#define PEER_ON_LOOP 1u /* run the handler on the loop; it must take well under 1 ms */

/* Must end with exactly one peer_reply, from any thread, also later. */
typedef void peer_handler(struct peer_request *request, void *user);
/* Before peer_start. TYPE is at least 32 and below PEER_MSG_COUNT. */
void peer_handle(struct peer *peer, uint32_t type, unsigned flags, peer_handler *handler,
                 void *user);
/* Consumes REQUEST; BODY is copied. A body above PEER_MESSAGE_MAX is sent as E_LIMIT without body. */
void peer_reply(struct peer_request *request, enum err status, struct span body);
/* E_OK, with HEAD, which is copied, and behind it BODY, which is lent: OVER(OWNER) says, once and on any thread, perhaps before this
 * returns, that nobody reads it any more. */
void peer_reply_lent(struct peer_request *request, struct span head, struct span body,
                     void (*over)(void *owner), void *owner);
/* As peer_reply, but it leaves at AT_MS of the monotonic clock, or at once when that has passed. No thread waits for it. */
void peer_reply_at(struct peer_request *request, uint64_t at_ms, enum err status, struct span body);

/* --- outgoing requests ------------------------------------------------------------------------------------------ */

/* Freed with peer_reply_fini. */
struct peer_reply {
    struct span bytes;
    void *memory; /* where they stand */
};
void peer_reply_fini(struct peer_reply *reply);

struct peer_call {
    uint8_t to[16];
    uint32_t type;
    struct span body; /* borrowed for the call */
    /* Set when peer_call_many returns. status is the handler's, or E_UNREACHABLE no link within the deadline,
     * E_TIMEOUT no answer, E_CANCELLED, E_NOT_FOUND no such member, E_REFUSED revoked, E_LIMIT, E_BUSY. */
    enum err status;
    struct peer_reply reply; /* the caller's, whatever the status */
    uint64_t elapsed_ms;
};

/* Sends all calls at once and waits until each has ended, at the latest at the deadline. CANCELLED is asked every 50 ms
 * and may be NULL. A call to oneself runs the handler in this process. Calls are sent again only when the other side
 * said that it had not looked at them (its limits), so a handler sees a call at most once.
 * Errors: E_LIMIT too many calls; E_NO_MEMORY; E_OK otherwise, also when calls failed. */
MUST_CHECK enum err peer_call_many(struct peer *peer, struct peer_call *calls, size_t count,
                                   uint64_t deadline_ms, bool (*cancelled)(void *user), void *user);
/* The same, and each call is told to ENDED, in the caller's thread, as soon as it has ended and while others still wait:
 * what has to be done with an answer costs no time then. AT is its index in CALLS. */
MUST_CHECK enum err peer_call_each(struct peer *peer, struct peer_call *calls, size_t count,
                                   uint64_t deadline_ms, void (*ended)(void *user, size_t at),
                                   bool (*cancelled)(void *user), void *user);

/* --- members ---------------------------------------------------------------------------------------------------- */

enum peer_state {
    PEER_SELF,
    PEER_UP,
    PEER_CONNECTING, /* being dialled, or silent for a moment */
    PEER_DOWN,
    PEER_REVOKED,
};

struct peer_member {
    uint8_t id[16];
    char name[33];
    char org[65];
    char org_type[16];
    char country[3];
    char roles[128];   /* separated by commas */
    char address[128]; /* "" when none is known yet; "none" for a site that only dials out */
    uint8_t point[65];
    uint8_t tls_spki[32];
    enum peer_state state;
    int64_t last_seen;   /* unix seconds; 0 never */
    bool root_equal;     /* its set of records equals ours, by its last ping */
    uint64_t root_known; /* records it has, by its last ping */
    int64_t not_before;
    int64_t expires;           /* of the membership */
    int64_t certificate_until; /* of the certificate it showed last; 0 not seen */
};

/* Copies up to CAP members, this node first, then by name; returns how many there are. */
size_t peer_members(struct peer *peer, struct peer_member *to, size_t cap);
/* false when there is none. A name also matches 32 hexadecimal digits of an id. */
bool peer_member_by_name(struct peer *peer, const char *name, struct peer_member *ret);
bool peer_member_by_id(struct peer *peer, const uint8_t id[16], struct peer_member *ret);
const char *peer_state_name(enum peer_state state);
/* How far the clocks of the members that are up are ahead of ours, the median in milliseconds; returns how many that is. */
size_t peer_clock(struct peer *peer, int64_t *ret_ahead_ms);
/* Records in our set and their root fingerprint. */
uint64_t peer_root(struct peer *peer, uint8_t ret_root[16]);

/* --- records ---------------------------------------------------------------------------------------------------- */

/* Signs a record of this node under the key proto_record_key(key_name), with the next sequence number; stores it
 * durably before it returns; then pushes it to all links. flags: PROTO_RECORD_FINAL revokes. expires: unix seconds, 0 none.
 * Errors: E_LIMIT the body; E_REFUSED an earlier version was final; those of the store. */
MUST_CHECK enum err peer_publish(struct peer *peer, uint64_t kind, const char *key_name,
                                 struct span body, uint64_t flags, int64_t expires,
                                 uint8_t ret_id[16], struct err_info *reterr);
/* The same with a key that is not the hash of a name (a REVOKE has the expelled node's id as its key). */
MUST_CHECK enum err peer_publish_key(struct peer *peer, uint64_t kind, const uint8_t key[16],
                                     struct span body, uint64_t flags, int64_t expires,
                                     uint8_t ret_id[16], struct err_info *reterr);
/* Proposes to the council (council.h) to expel a member: a final REVOKE record over all that it issues. Once the council has
 * signed, links to it end at once, here and wherever the record arrives. RET_ID: of the proposal. Errors: E_ROLE this node is
 * not in the council; E_NOT_FOUND. */
MUST_CHECK enum err peer_revoke(struct peer *peer, const uint8_t id[16], const char *reason,
                                uint8_t ret_id[16], struct err_info *reterr);
/* Called on the loop after a record was stored, own ones too. One subscriber. Records of expelled members still arrive,
 * since all nodes keep the same set: whoever acts on a record looks at its issuer first (peer_member_by_id). */
void peer_on_record(struct peer *peer,
                    void (*on_record)(void *user, struct span record, bool forked), void *user);

struct peer_counters {
    uint64_t requests_in, requests_out, bytes_in, bytes_out;
    uint64_t malformed, over_limit, unauthorised, hello_failed;
    uint64_t records_new, records_duplicate, records_rejected, records_forked;
};
void peer_counters(struct peer *peer, struct peer_counters *ret);

#endif
