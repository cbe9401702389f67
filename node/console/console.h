/* The optional HTTP server of a node: /metrics, /healthz, /readyz, /api/v1/... and the operator's page.
 *
 *     console: {listen: "127.0.0.1:7480"}      in node.yaml; loopback addresses only
 *
 *     err = console_open(node, &console, reterr);      NULL when node.yaml has no console
 *     ...
 *     console_close(console);
 *
 * Who may ask: anybody on this machine for /healthz, /readyz and /metrics, which carry nothing that depends on rows; who has
 * HOME/console.token (made at start, mode 0600) for everything else, as `Authorization: Bearer TOKEN`. A request whose Host
 * is not ours, or whose Origin is another, is refused, so that a page from elsewhere in the operator's browser gets nowhere.
 * It changes nothing: the operations behind /api are those that only read (api.h), but for the inference service (predict.h), which is off
 * unless node.yaml asks for it and has a token of its own.
 * Threads: open and close on the main thread; requests run on the library's pool and may block.
 * Limits: CONSOLE_CONNECTIONS at a time, a request is complete within CONSOLE_TIMEOUT_S. */
#ifndef CONCORDAT_NODE_CONSOLE_CONSOLE_H
#define CONCORDAT_NODE_CONSOLE_CONSOLE_H

#include "node/control/node.h"

#define CONSOLE_CONNECTIONS 32
#define CONSOLE_TIMEOUT_S   15

struct console;

/* NODE is borrowed until console_close. Errors: E_INVALID an address that is not of this machine; E_UNSUPPORTED the library is not
 * installed; E_IO the port is taken, or the token cannot be written. */
MUST_CHECK enum err console_open(struct node *node, struct console **ret, struct err_info *reterr);
/* Waits for requests under way. NULL is allowed. */
void console_close(struct console *console);

#endif
