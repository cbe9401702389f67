/* Bringing a node up from its home and down again, in the order that reference and tests demand.
 * Threads: the main thread. */
#ifndef CONCORDAT_NODE_DAEMON_START_H
#define CONCORDAT_NODE_DAEMON_START_H

#include "node/control/node.h"

/* Reads node.yaml, unlocks the keys, opens the store. NODE->home and NODE->loop are set by the caller. On failure
 * daemon_close may be called. */
MUST_CHECK enum err daemon_open(struct node *node, struct err_info *reterr);
/* Links, gossip, services: node->peer is started afterwards and the handlers are set. */
MUST_CHECK enum err daemon_connect(struct node *node, struct err_info *reterr);
/* Reads node.yaml again and takes over what may change while running: people, budgets, log level, release tick, time-outs. */
MUST_CHECK enum err daemon_reload(struct node *node, struct err_info *reterr);
/* What node.yaml says of domains of privacy units into the ledger; only once our state is known to be the newest, since it
 * writes. Errors: E_INVALID training was charged to a domain at another order; E_IO, E_DISK_FULL. */
MUST_CHECK enum err daemon_budgets(struct node *node, struct err_info *reterr);
/* Keys, store, identities; after the peer has ended. */
void daemon_close(struct node *node);

/* Compares our own audit chain with what other institutions witnessed; sets node->ready when two of them (one in a
 * federation of two, none alone or when no audit entry existed before) showed nothing newer. Returns E_ROLLBACK when our state is older. */
MUST_CHECK enum err daemon_confirm(struct node *node, struct err_info *reterr);
/* Tells what falls due soon, each step once. On one thread at a time. */
void daemon_remind(struct node *node);
/* Handler of PEER_MSG_HEAD; user: struct node. */
void daemon_head_handle(struct peer_request *request, void *user);

#endif
