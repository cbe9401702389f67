/* /api/v1/WORDS[/VALUE...][?ARGUMENT=VALUE...]: the operations that only read, by their names on the command line.
 *
 *     /api/v1/status   /api/v1/dataset/show/flchain   /api/v1/audit/list?since=2026-11-01   /api/v1/licence/check/flchain?purpose=DUO:0000042
 *
 * Values behind the words are the positional arguments in their order; `since` stands for --since. A flag has an empty value. The answer is the
 * JSON of `concordat --json`. Threads: any. */
#ifndef CONCORDAT_NODE_CONSOLE_API_H
#define CONCORDAT_NODE_CONSOLE_API_H

#include "node/control/call.h"

#define CONSOLE_ARGUMENTS_MAX 16

struct console_argument {
    const char *name, *value;
};

/* PATH is what stands behind "/api/v1/", decoded. Returns the HTTP status and a text for free() in *ret_json, NULL when memory is
 * short. */
unsigned console_api(struct node *node, const char *path, const struct console_argument *arguments,
                     size_t count, char **ret_json);

/* What one exit code of the command line is over HTTP. */
unsigned console_status(int exit_code);

#endif
