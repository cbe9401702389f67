/* What the query and training services of one node share: handles made by the daemon, borrowed until it stops.
 * Threads: the pointed-to objects are thread-safe or say otherwise; the structure is read-only after start, but for the counter. */
#ifndef CONCORDAT_NODE_QUERY_CONTEXT_H
#define CONCORDAT_NODE_QUERY_CONTEXT_H

#include "crypto/identity.h"
#include "node/config/node.h"
#include "node/peer/peer.h"
#include "node/privacy/noise.h"
#include "proto/ontology.h"
#include "store/store.h"

#include <stdatomic.h>

/* How much of a dataset's budget one of them may take, in millionths; all of it: no cap. */
struct query_shares {
    uint64_t institution_u;
    uint64_t person_u;
    uint64_t project_u;
};
#define QUERY_SHARE_ALL 1000000u

struct query_witnesses;

struct query_agreements;
struct query_known;
struct query_damage;

struct query_context {
    struct store *store;
    struct peer *peer;
    const struct crypto_identity *identity;
    struct privacy_pool *noise;
    struct query_witnesses *witnesses;
    uint8_t node_id[16];
    uint8_t federation_id[16];
    char name[65];
    const struct proto_ontology
        *ontology; /* of diseases; NULL: none. Constant while the node runs */
    bool
        methods_on_ds_denied; /* this site refuses development of methods alone on data for one disease */
    bool commercial_known;
    bool commercial;
    struct query_shares shares;
    uint64_t release_tick_ms;
    uint64_t timeout_ms;
    uint64_t scan_limit_ms;                /* 0: none */
    unsigned training_cores;               /* 0: all */
    uint32_t training_from, training_to;   /* minutes of the local day; equal: always */
    const struct config_trainer *trainers; /* that jobs may name; constant while the node runs */
    size_t trainer_count;
    int64_t approval_pending_s; /* how long a held request waits for a person at most */
    int64_t approval_valid_s;   /* how long a person's decision stands */
    /* Set by the daemon: true while it is stopping or not yet ready to serve. */
    bool (*refusing)(void *user);
    /* An event for the operator's log; no record, key or query constant may stand in it. */
    void (*log)(void *user, int level, const char *event, const char *detail);
    /* Tells a person through the operator's hook; ID names the thing, nothing of data or requests stands in it. May be
     * NULL. */
    void (*notify)(void *user, const char *event, const char *id);
    void *user;
    /* Counts versions of our own licences; running work looks at it and decides anew when it moved. */
    _Atomic uint64_t licence_changes;
    /* Questions that met damaged data since the start; the log names each file. */
    _Atomic uint64_t damage_met;
    struct query_damage *damage;         /* damage.h's own: which files; NULL: none is noted */
    struct query_agreements *agreements; /* agreement.h's own */
    struct query_known *known;           /* known.h's own; NULL: each record is decoded anew */
};

#endif
