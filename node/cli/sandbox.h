/* The nodes of a sandbox directory. Threads: one. */
#ifndef CONCORDAT_NODE_CLI_SANDBOX_H
#define CONCORDAT_NODE_CLI_SANDBOX_H

#include "node/cli/cli.h"
#include "node/config/home.h"

#define SANDBOX_NODES_MAX 64

struct sandbox {
    const char *dir; /* borrowed */
    char names[SANDBOX_NODES_MAX][33];
    size_t count;
};

/* Errors: E_NOT_FOUND DIR is not a sandbox. */
MUST_CHECK enum err sandbox_open(const char *dir, struct sandbox *ret, struct err_info *reterr);
MUST_CHECK enum err sandbox_home(const struct sandbox *box, size_t i, char to[HOME_PATH_MAX],
                                 struct err_info *reterr);

/* DIR/<name>.csv, which `sandbox split` writes for node I. */
MUST_CHECK enum err sandbox_part(const struct sandbox *box, size_t i, char to[HOME_PATH_MAX],
                                 struct err_info *reterr);
/* Notes in DIR/split.json what the first COUNT of those files are now, when `sandbox split` has written them: `sandbox remove` deletes them
 * as long as they are these very files, unchanged, and no others of their names. */
MUST_CHECK enum err sandbox_parts_note(const struct sandbox *box, size_t count,
                                       struct err_info *reterr);
/* Whether none of them would write over a file that is not one of those. Errors: E_EXISTS. */
MUST_CHECK enum err sandbox_parts_free(const struct sandbox *box, struct err_info *reterr);

#endif
