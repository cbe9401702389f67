/* What an import reads, each file as far as the person behind the command may read it: the manifest and what it names beside
 * itself (mapping, tables, opt-out list), and the data.
 *
 *     struct import import = {.call = call};
 *     err = import_load_manifest(&import, control_text(call, "MANIFEST"), reterr);
 *     err = err ? err : import_load_beside(&import, reterr);
 *     err = err ? err : import_open_data(&import, reterr);
 *     import_free(&import);
 *
 * Threads: that of the call. */
#ifndef CONCORDAT_NODE_CONTROL_IMPORT_H
#define CONCORDAT_NODE_CONTROL_IMPORT_H

#include "node/control/call.h"
#include "proto/manifest.h"
#include "proto/mapping.h"
#include "store/reader_fhir.h"

#define IMPORT_TABLE_BYTES_MAX ((size_t)16 << 20)

/* A data file: what was checked stays open, and is what the importer opens. */
struct import_data {
    int fd;
    const char *name; /* as it was given */
    char path[32];    /* /proc/self/fd/N */
};

struct import {
    struct control_call *call;
    struct buf yaml;
    struct buf *tables;       /* by declared column: what its `table:` holds */
    struct span *table_spans; /* the same, for the importer */
    struct buf exclude;       /* the opt-out list */
    char tables_hash[65];     /* of all tables; "": there is none */
    struct proto_manifest manifest;
    bool has_mapping;
    struct proto_mapping mapping;
    char mapping_hash[65]; /* ""; there is none */
    struct import_data data[STORE_FHIR_FILES];
    size_t data_count;
    struct arena arena;
    struct proto_schema published;
    uint8_t schema_hash[32];
    struct store_import_report *report;
};

MUST_CHECK enum err import_load_manifest(struct import *import, const char *path,
                                         struct err_info *reterr);
/* Mapping, tables and opt-out list; whether the mapping's fields may reach the columns. */
MUST_CHECK enum err import_load_beside(struct import *import, struct err_info *reterr);
/* The files of --data, unless the rows come from a database. Errors: E_USAGE none, or too many. */
MUST_CHECK enum err import_open_data(struct import *import, struct err_info *reterr);
bool import_is_postgres(const struct import *import);
void import_free(struct import *import);

#endif
