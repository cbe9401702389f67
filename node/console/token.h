/* A secret of this start of the daemon: who can read its file may ask.
 *
 *     err = console_token_make(home, HOME_CONSOLE_TOKEN, token, reterr);
 *     good = console_token_shown(token, lookup("Authorization"));
 *
 * Threads: pure but for the file. */
#ifndef CONCORDAT_NODE_CONSOLE_TOKEN_H
#define CONCORDAT_NODE_CONSOLE_TOKEN_H

#include "proto/err.h"

#include <stdbool.h>

#define CONSOLE_TOKEN_SIZE 64 /* hexadecimal digits */

/* Draws one, and writes it to HOME/NAME with mode 0600. */
MUST_CHECK enum err console_token_make(const char *home, const char *name,
                                       char ret[CONSOLE_TOKEN_SIZE + 1], struct err_info *reterr);
/* Whether AUTHORIZATION (may be NULL) is "Bearer TOKEN"; compared in constant time. */
bool console_token_shown(const char token[CONSOLE_TOKEN_SIZE + 1], const char *authorization);

#endif
