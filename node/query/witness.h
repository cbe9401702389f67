/* Audit heads that come with answers and updates. Whoever got something keeps the sender's signed head, so that the sender
 * cannot go back behind what it charged for it.
 *
 *     query_witnesses_new(context, &context->witnesses);
 *     query_witness_keep(context, &member, answer.head);
 *     query_witnesses_free(context->witnesses);
 *
 * A thread of its own checks and writes them, as a person who asked need not wait for that disk sync; of several heads of one
 * node that wait, only the highest is written. What waits when the process is killed is lost, and then those that came with
 * the same node's next answer stand for it. Threads: any. Limits: WITNESSES_MAX nodes wait. */
#ifndef CONCORDAT_NODE_QUERY_WITNESS_H
#define CONCORDAT_NODE_QUERY_WITNESS_H

#include "node/query/context.h"

/* CONTEXT is borrowed until query_witnesses_free. Errors: E_NO_MEMORY. */
MUST_CHECK enum err query_witnesses_new(struct query_context *context,
                                        struct query_witnesses **ret);
/* Writes what waits. NULL is allowed. */
void query_witnesses_free(struct query_witnesses *witnesses);
/* HEAD: store_audit_head_encode's bytes as MEMBER sent them. One that cannot be read is passed over; what is wrong with it, or a
 * second history of its node, goes to the log. */
void query_witness_keep(struct query_context *context, const struct peer_member *member,
                        struct span head);

#endif
