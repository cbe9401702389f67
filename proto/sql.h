/* SQL text to query tree: a hand-written lexer and a lemon grammar (sql_grammar.y). What the names mean is decided by
 * proto_query_bind. Keywords and aggregates in any case; names exactly as declared; the grammar of `concordat query`:
 *
 *     SELECT item, ... FROM dataset [WHERE condition] [GROUP BY column, ...] [;]
 *
 *     item       column | COUNT(*) | COUNT(DISTINCT unit) | NAME(argument, ...)      each with [AS label]
 *     condition  operand (= <> != < <= > >=) operand
 *                operand [NOT] BETWEEN x AND y
 *                operand [NOT] IN (x, ...)
 *                operand IS [NOT] NULL
 *                column | TRUE | FALSE
 *                NOT condition | condition AND condition | condition OR condition | (condition)
 *     literal    12  -1.5e3  'text with ''quotes'''  DATE '2026-01-31'  TRUE  FALSE  NULL
 *     name       [A-Za-z_][A-Za-z0-9_]*  or  "any ""quoted"" name"
 *
 * Limits: PROTO_QUERY_*. Threads: pure. */
#ifndef CONCORDAT_PROTO_SQL_H
#define CONCORDAT_PROTO_SQL_H

#include "proto/query.h"

/* Fills the zeroed RET, which the caller frees with proto_query_fini, also on failure.
 * Errors: E_QUERY "at character N: expected ..., found ..."; E_LIMIT too long, too deep, too many
 * parts; E_NO_MEMORY. */
MUST_CHECK enum err proto_sql_parse(const char *sql, struct proto_query *ret,
                                    struct err_info *reterr);
/* The same for bytes from a peer, which may be a canonical form: up to PROTO_QUERY_BYTES_MAX. */
MUST_CHECK enum err proto_sql_parse_span(struct span sql, struct proto_query *ret,
                                         struct err_info *reterr);

#endif
