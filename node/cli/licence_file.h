/* Licences as the command reads them: from a manifest, from a file that holds `licence:` alone, or from the records that
 * the daemon has of a dataset or model.
 *
 *     struct cli_licences list = {0};
 *     err = cli_licences_load(call, "flchain", &list, reterr);       a file of that name, else the dataset
 *     ... list.items[i].licence, list.items[i].source ...
 *     cli_licences_fini(&list);
 *
 * Threads: one. */
#ifndef CONCORDAT_NODE_CLI_LICENCE_FILE_H
#define CONCORDAT_NODE_CLI_LICENCE_FILE_H

#include "node/cli/cli.h"
#include "proto/manifest.h"
#include "proto/ontology.h"

#define CLI_LICENCES_MAX 64

struct cli_licence {
    struct proto_licence licence;
    const char *source; /* the file, or the node that publishes it */
    const char *state;  /* "valid", "expired", ...; of a file "file" */
};

struct cli_licences {
    struct cli_licence items[CLI_LICENCES_MAX];
    size_t count;
    struct proto_manifest manifest; /* of a file */
    struct arena arena;
};

/* --node NODE narrows to that node's record. Errors: those of the readers; E_NOT_FOUND neither a file nor a dataset. */
MUST_CHECK enum err cli_licences_load(struct cli_call *call, const char *what,
                                      struct cli_licences *ret, struct err_info *reterr);
void cli_licences_fini(struct cli_licences *licences);

/* --ontology FILE, else the hierarchy that is shipped; "none" is none. The caller ends it. */
MUST_CHECK enum err cli_ontology_load(struct cli_call *call, struct proto_ontology *ret,
                                      struct err_info *reterr);

#endif
