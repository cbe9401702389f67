/* A row of PostgreSQL's COPY in text format as fields: tabs between them, backslashes in front of what would end one, \\N for NULL
 * (https://www.postgresql.org/docs/current/sql-copy.html, "Text Format"). Pure.
 *
 *     const char *fault = source_copy_row(row, len, fields, 3, &at);        fields point into row, unescaped in place
 *
 * Threads: any. Limits: SOURCE_COPY_*. */
#ifndef CONCORDAT_NODE_SOURCE_COPY_ROW_H
#define CONCORDAT_NODE_SOURCE_COPY_ROW_H

#include "store/source.h"

#define SOURCE_COPY_ROW_MAX   ((size_t)4 << 20)
#define SOURCE_COPY_FIELD_MAX 65536

/* ROW has LEN bytes, its newline among them or not, and room for a zero behind them. NULL, or why the row cannot be used; *RET_AT
 * is the field that is at fault. COUNT is at least 1. */
const char *source_copy_row(char *row, size_t len, struct store_field *fields, size_t count,
                            size_t *ret_at);

#endif
