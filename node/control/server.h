/* The control socket HOME/control.sock: accepts commands, finds out who asks by SO_PEERCRED, and gives each one a thread for
 * itself; some stay for the next command.
 * Limits: CONTROL_CALLS_MAX at a time; a request must be complete within 10 s.
 * Threads: open, stop and close on the loop's thread. */
#ifndef CONCORDAT_NODE_CONTROL_SERVER_H
#define CONCORDAT_NODE_CONTROL_SERVER_H

#include "node/control/node.h"

#define CONTROL_CALLS_MAX 256

struct control_server;

/* Errors: E_BUSY another daemon listens there; E_IO. */
MUST_CHECK enum err control_server_open(struct node *node, struct control_server **ret,
                                        struct err_info *reterr);
/* Takes no new commands. */
void control_server_stop(struct control_server *server);
/* How many operations are under way. */
size_t control_server_calls(struct control_server *server);
/* After control_server_calls is 0 and the loop has run once more since stop. */
void control_server_free(struct control_server *server);

#endif
