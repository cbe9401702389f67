/* The command's side of the control socket: one request, its progress on the terminal, its answer.
 *
 *     json_t *answer;
 *     err = cli_client_ask(call->home, &question, &answer, &exit_code, &info);
 *
 * Ctrl-C sends CANCEL and waits for the orderly end; a second one does not wait. Progress goes to
 * standard error and only to a terminal. Threads: one at a time, since it owns SIGINT meanwhile. */
#ifndef CONCORDAT_NODE_CLI_CLIENT_H
#define CONCORDAT_NODE_CLI_CLIENT_H

#include <jansson.h>

#include "proto/control.h"

#define CLI_CLIENT_TIMEOUT_MS 60000u

struct cli_question {
    const char *operation; /* path in the table */
    const struct proto_control_argument *arguments;
    size_t argument_count;
    uint64_t timeout_ms; /* without any frame; 0: as long as it takes */
    bool progress;       /* draw a bar where standard error is a terminal */
    bool lines;          /* print each new progress text as a line of standard error instead */
};

/* *ret_json is the caller's; *ret_exit is the daemon's exit code, and then *ret_json may be an error
 * document. Errors: E_NO_DAEMON nobody listens in HOME (the text says how to start it); E_ROLE the
 * socket may not be opened; E_TIMEOUT, E_CANCELLED, E_IO; E_INVALID it is not our daemon. */
MUST_CHECK enum err cli_client_ask(const char *home, const struct cli_question *question,
                                   json_t **ret_json, int *ret_exit, struct err_info *reterr);

#endif
