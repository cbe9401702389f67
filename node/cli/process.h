/* A node's daemon as a process: is it there, start it, stop it. HOME/pid names it, and /proc says
 * whether that process is this home's concordatd, so that a reused number never hits a stranger.
 * Threads: one. */
#ifndef CONCORDAT_NODE_CLI_PROCESS_H
#define CONCORDAT_NODE_CLI_PROCESS_H

#include "proto/err.h"

#include <stdbool.h>
#include <sys/types.h>

/* The daemon's process, 0 when none runs for HOME. */
pid_t cli_process_find(const char *home);
/* Starts concordatd for HOME in a session of its own, standard error appended to its log.
 * Errors: E_NOT_FOUND there is no concordatd; E_IO. */
MUST_CHECK enum err cli_process_start(const char *home, pid_t *ret, struct err_info *reterr);
/* Sends SIGNAL and waits until the process has gone. Errors: E_TIMEOUT; E_ROLE not ours. */
MUST_CHECK enum err cli_process_end(const char *home, int number, unsigned wait_ms,
                                    struct err_info *reterr);
/* Whether PID, a child of ours, has ended by itself. */
bool cli_process_ended(pid_t pid);
void cli_process_sleep_ms(unsigned ms);
/* The last line of the log that is not empty, "" when there is none. */
void cli_process_last_words(const char *home, char *to, size_t size);

#endif
