/* One running node: what the daemon wires together at start and every operation may use.
 * Threads: pointers are set before the control socket opens and stay until all operations have ended; what they point at
 * says itself how it may be shared. `config` is replaced on SIGHUP under `config_lock`. */
#ifndef CONCORDAT_NODE_CONTROL_NODE_H
#define CONCORDAT_NODE_CONTROL_NODE_H

#include "node/config/node.h"
#include "node/peer/enrol.h"
#include "node/query/context.h"
#include "node/train/service.h"
#include "store/audit.h"

#include <pthread.h>
#include <stdatomic.h>

struct node {
    const char *home;
    struct config_node config;
    struct config_node
        at_start; /* what is read at start only, for those who hold pointers into it */
    pthread_mutex_t config_lock;
    uv_loop_t *loop;
    struct crypto_keyring *keyring;
    struct crypto_identity *identity;
    struct crypto_identity *tls_key;
    struct crypto_identity *root; /* only on the node that founded the federation, else NULL */
    char federation[33];
    struct store store;
    struct peer *peer;
    struct peer_enrol *enrol; /* NULL where this node may not invite */
    struct query_context query;
    struct proto_ontology ontology; /* behind query.ontology, when node.yaml names one */
    struct train_service *train;
    struct daemon_notifier *notifier; /* the daemon's; operations reach it through query.notify */
    int64_t started;
    _Atomic bool stopping;
    _Atomic bool council_news; /* somebody endorsed something */
    _Atomic bool ready;        /* the node's own state was compared with its witnesses' */
    _Atomic bool restored; /* it came out of a backup and nobody has confirmed it or decided yet */
    _Atomic bool
        rolled_back; /* somebody holds a newer head of ours: it does not serve until an operator decides */
    _Atomic bool rotating; /* a thread is at work on datasets' new keys */
    struct store_audit_head
        witnessed; /* the highest head of ours that anybody showed; under config_lock */
    bool has_witnessed;
};

#endif
