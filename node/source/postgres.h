/* The rows of a PostgreSQL query as a source of an import: streamed by COPY in a transaction that can only read, so that memory
 * grows with no table.
 *
 *     struct source_postgres_options options = {.connection = "service=omop", .schema = "cdm", .query = mapping.query};
 *     err = source_postgres_open(&options, &source, reterr);         header: the names of the query's columns
 *
 * The connection is libpq's (keywords or a URI) without a password: passwords come from a service file, a password file
 * (passfile=, ~/.pgpass of the daemon's user) or the server's trust in that user (peer). NULL is a field without a value.
 * What the server says is told while connecting and preparing; once rows flow only its SQLSTATE is, as its texts may hold
 * values.
 * Threads: one. Limits: those of copy_row.h; the library holds a whole row. */
#ifndef CONCORDAT_NODE_SOURCE_POSTGRES_H
#define CONCORDAT_NODE_SOURCE_POSTGRES_H

#include "store/source.h"

struct source_postgres_options {
    const char *connection;
    const char *schema;            /* NULL: the role's own search path */
    const char *query;             /* one SELECT */
    bool (*cancelled)(void *user); /* may be NULL; asked while the server is waited for */
    void *user;
};

/* Errors: E_UNSUPPORTED this build or machine has no libpq; E_INVALID the connection, or the query, and why; E_UNREACHABLE
 * no connection; E_CANCELLED; E_NO_MEMORY. */
MUST_CHECK enum err source_postgres_open(const struct source_postgres_options *options,
                                         struct store_source **ret, struct err_info *reterr);

#endif
