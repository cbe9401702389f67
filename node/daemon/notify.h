/* Tells people through the program that node.yaml names under `notify:`, for example that a request waits for approval.
 *
 *     COMMAND [ARGUMENTS] EVENT ID           run without a shell, as approval.waiting 3f2a...
 *
 * The event's name and an id are all that it gets: nothing of data, questions or people stands in its arguments or its
 * environment (PATH, CONCORDAT_NODE, CONCORDAT_HOME). It is killed with its children when its time is over. One runs at a
 * time; more wait, up to NOTIFY_QUEUE_MAX, and what is past that is only logged.
 * Threads: daemon_notify from any; one thread of its own runs the program. */
#ifndef CONCORDAT_NODE_DAEMON_NOTIFY_H
#define CONCORDAT_NODE_DAEMON_NOTIFY_H

#include "node/control/node.h"

#define NOTIFY_QUEUE_MAX 64

struct daemon_notifier;
/* Errors: E_NO_MEMORY. */
MUST_CHECK enum err daemon_notifier_new(struct node *node, struct daemon_notifier **ret);
/* Logs the event and, when node.yaml names a program, has it run. */
void daemon_notify(struct daemon_notifier *notifier, const char *event, const char *id);
/* Ends a program that is still running. NULL is allowed. */
void daemon_notifier_free(struct daemon_notifier *notifier);

#endif
