/* Any bytes as SQL: parse, bind to a small schema, normalise; what was accepted must survive its
 * own canonical form. */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>

#include "proto/sql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *sexes[] = {"F", "M", "it's"};
static struct proto_column columns[] = {
    {.name = "patient", .type = PROTO_COLUMN_TEXT},
    {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 90},
    {.name = "sex", .type = PROTO_COLUMN_CATEGORY, .values = sexes, .value_count = 3},
    {.name = "creatinine", .type = PROTO_COLUMN_REAL, .has_bounds = true, .max = 15},
    {.name = "mgus", .type = PROTO_COLUMN_BOOLEAN},
    {.name = "seen", .type = PROTO_COLUMN_DATE},
    {.name = "chapter", .type = PROTO_COLUMN_CATEGORY, .values_private = true},
};

static bool canonical(struct span sql, struct buf *ret)
{
    const struct proto_schema schema = {columns, 7, "patient", 4, 1};
    struct proto_query query = {0};
    struct err_info info;
    enum err err = proto_sql_parse_span(sql, &query, &info);
    err = err ? err : proto_query_bind(&query, &schema, &info);
    err = err ? err : proto_query_canonical(&query, ret);
    proto_query_fini(&query);
    return !err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf first = {.max = 2 * PROTO_QUERY_BYTES_MAX};
    struct buf second = {.max = 2 * PROTO_QUERY_BYTES_MAX};
    if (size <= PROTO_QUERY_TEXT_MAX && canonical(span_of(data, size), &first)) {
        if (!canonical(buf_span(&first), &second) ||
            !span_equal(buf_span(&first), buf_span(&second))) {
            abort();
        }
    }
    buf_fini(&first);
    buf_fini(&second);
    return 0;
}
