/* What the parts of proto_query_bind share: conditions (query.c), the select list with its groups
 * (query_select.c), and what conditions say of its columns (query_bounds.c). Internal to them. */
#ifndef CONCORDAT_PROTO_QUERY_BINDER_H
#define CONCORDAT_PROTO_QUERY_BINDER_H

#include "proto/query.h"

struct proto_binder {
    struct proto_query *query;
    const struct proto_schema *schema;
    struct arena *arena;
    struct err_info *info;
    enum err err;
};

/* Keeps the first error, "at character AT: ...". Returns NULL. */
void *proto_binder_fail(struct proto_binder *binder, enum err err, size_t at, const char *format,
                        ...) PRINTF_LIKE(4, 5);
/* Keeps the first warning; AT 0: of no place. */
void proto_binder_warn(struct proto_binder *binder, size_t at, const char *format, ...)
    PRINTF_LIKE(3, 4);
bool proto_binder_is_unit(const struct proto_binder *binder, int column);
/* Both give -1 after an error. A usable column is one that may be counted, grouped or filtered. */
int proto_binder_column(struct proto_binder *binder, const char *name, size_t at);
int proto_binder_usable(struct proto_binder *binder, const char *name, size_t at);
/* The shortest form that reads back as the same double. */
void proto_binder_number(double value, char to[32]);
MUST_CHECK enum err proto_binder_quoted(struct buf *to, const char *text, char quote);

void proto_binder_groups(struct proto_binder *binder);
void proto_binder_items(struct proto_binder *binder);
/* After both: bounds of arguments that the condition makes narrower. */
void proto_binder_bounds(struct proto_binder *binder);
MUST_CHECK enum err proto_binder_item_text(const struct proto_query_item *item, struct buf *to);

#endif
